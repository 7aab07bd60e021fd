"""What the control API works on: rows seeded, edited, read back and merged as a user of the organisation does."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sandbox.control import Refused
from sandbox.control import Row as ControlRow
from sandbox.dataverse import rules, values
from sandbox.dataverse.database import Row, quoted
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.merging import merge
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.writes import Writer


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        raise Refused(f"{fault.code} {fault.message}", fault.status) from fault


@dataclass(frozen=True)
class Desk:
    """The `sandbox.control.Store` of this stand-in; columns have their logical names, lookups hold ids."""

    organization: Organization

    def _table(self, entity: str) -> Table:
        table = self.organization.tables.get(entity)
        if table is None:
            raise Refused(f"unknown table '{entity}'; allowed {', '.join(sorted(self.organization.tables))}", 404)
        return table

    def _writer(self, user: str | None) -> Writer:
        user_id = self.organization.person(user)
        if user_id is None:
            raise Refused(f"unknown user '{user}'; name one of systemusers by id, full name or e-mail address", 404)
        return Writer(self.organization, user_id)

    def _stored(self, table: Table, given: ControlRow) -> Row:
        row: Row = {}
        for name, value in given.items():
            column = table.columns.get(name) or table.by_wire_name.get(name)
            if column is None and name.endswith("__type"):
                row[name] = value
            elif column is None:
                raise Refused(f"unknown column '{name}' of table '{table.name}'")
            else:
                exact = Decimal(str(value)) if isinstance(value, float) else value
                row[column.name] = values.encode(table, column, exact)
                if column.polymorphic and value is not None:
                    row.setdefault(f"{column.name}__type", column.targets[0])
        return row

    def seed(self, entity: str, rows: Sequence[ControlRow]) -> list[str]:
        """Insert rows as they stand, stamps included; what is missing is filled in as on create."""
        table = self._table(entity)
        writer = self._writer(None)
        prepared = []
        with _refusing(), self.organization.database.transaction():
            for given in rows:
                row = self._stored(table, given)
                kept = dict(row)
                row.setdefault(table.primary_id, values.new_id())
                rules.complete(self.organization, table, None, row)
                rules.stamp_row(self.organization, table, writer.user_id, row, created=True)
                prepared.append({**row, **kept})
            self.organization.database.insert_many(table, prepared)
        return [str(row[table.primary_id]) for row in prepared]

    def edit(self, entity: str, row_id: str, values: ControlRow, user: str | None) -> ControlRow:
        """Change a row as a user does; its version moves and the user is stamped."""
        table = self._table(entity)
        writer = self._writer(user)
        with _refusing(), self.organization.database.transaction():
            before = self.organization.database.get(table, row_id.lower())
            if before is None:
                raise Refused(f"no row '{row_id}' in '{entity}'", 404)
            writer.change(table, before, self._stored(table, values))
        return self._shown(table, row_id)

    def create(self, entity: str, values: ControlRow, user: str | None) -> ControlRow:
        """Create a row as a user does."""
        table = self._table(entity)
        writer = self._writer(user)
        with _refusing(), self.organization.database.transaction():
            row_id = writer.insert(table, self._stored(table, values))
        return self._shown(table, row_id)

    def delete(self, entity: str, row_id: str, user: str | None) -> None:
        """Delete a row as a user does."""
        with _refusing():
            self._writer(user).delete(self._table(entity), row_id.lower())

    def merge(self, entity: str, winner: str, loser: str, user: str | None) -> ControlRow:
        """Merge two rows as a user does and return the loser."""
        table = self._table(entity)
        with _refusing():
            merge(self._writer(user), table, winner.lower(), loser.lower(), {})
        return self._shown(table, loser)

    def rows(self, entity: str, limit: int | None, offset: int) -> tuple[list[ControlRow], int]:
        """Return stored rows ordered by id, and how many there are in all."""
        table = self._table(entity)
        database = self.organization.database
        sql = f"SELECT * FROM {quoted(entity)} ORDER BY {quoted(table.primary_id)} LIMIT ? OFFSET ?"
        found = database.query(sql, [-1 if limit is None else limit, offset])
        total = database.query(f"SELECT COUNT(*) FROM {quoted(entity)}")[0][0]
        return [self._decoded(table, dict(row)) for row in found], int(total)

    def row(self, entity: str, row_id: str) -> ControlRow | None:
        """Return one stored row."""
        table = self._table(entity)
        found = self.organization.database.get(table, row_id.lower())
        return None if found is None else self._decoded(table, found)

    def _shown(self, table: Table, row_id: str) -> ControlRow:
        return self.row(table.name, row_id) or {}

    def _decoded(self, table: Table, row: Mapping[str, Any]) -> ControlRow:
        return {name: values.decode(table.columns[name], value) if name in table.columns else value for name, value in row.items()}
