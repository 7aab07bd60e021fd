"""Creates, updates and deletes rows, by the Web API's rules or as a user of the model-driven app (dataverse.md 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sandbox.dataverse import faults, rules
from sandbox.dataverse.bodies import BodyReader, Mode
from sandbox.dataverse.database import Row, quoted
from sandbox.dataverse.definitions import Table, collections
from sandbox.dataverse.document_rules import DocumentRules, rules_for
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.values import new_id


@dataclass(frozen=True)
class Normalisation:
    """A change the server makes to a text of its own accord (chaos kind ``normalise``)."""

    entity: str
    column: str
    how: str

    def apply(self, text: str) -> str:
        """Return the text as the server stores it."""
        match self.how:
            case "trim":
                return text.strip()
            case "collapse":
                return " ".join(text.split())
            case _:
                return text.upper()


class Caller(Protocol):
    """What a write has to know of the operation it belongs to."""

    @property
    def user_id(self) -> str:
        """Return the user in whose name it is done."""

    @property
    def normalisation(self) -> Normalisation | None:
        """Return what the server changes of its own accord."""

    def header(self, name: str) -> str | None:
        """Return a header's value."""


def writer_for(organization: Organization, operation: Caller) -> "Writer":
    """Make the writer of an operation; duplicate rules are felt only by those who ask for them (dataverse.md 2)."""
    detects = (operation.header("mscrm.suppressduplicatedetection") or "").lower() == "false"
    return Writer(organization, operation.user_id, operation.normalisation, detects_duplicates=detects)


@dataclass(frozen=True)
class Writer:
    """Writes for one user; every method runs in a transaction of its own or a savepoint of the caller's."""

    organization: Organization
    user_id: str
    normalisation: Normalisation | None = None
    detects_duplicates: bool = False
    trusted: bool = False
    """Writes what an action or the price engine decided: closed rows too, in any state."""

    def read(self, table: Table, body: Mapping[str, Any]) -> Row:
        """Read the body of a row that an action makes, in stored form."""
        return self._read(table, "create", body)

    def _rules(self, table: Table) -> DocumentRules | None:
        return rules_for(table, replace(self, trusted=True), trusted=self.trusted)

    def _read(self, table: Table, mode: Mode, body: Mapping[str, Any]) -> Row:
        changes = BodyReader(self.organization, table, mode, self.create).read(body)
        normalisation = self.normalisation
        if normalisation is not None and normalisation.entity == table.name:
            text = changes.get(normalisation.column)
            if isinstance(text, str):
                changes[normalisation.column] = normalisation.apply(text)
        return changes

    def create(self, table: Table, body: Mapping[str, Any], key_values: Row | None = None) -> str:
        """Create a row and return its id; `key_values` come from the URL of an upsert, the body's win over them."""
        with self.organization.database.transaction():
            children = {name: rows for name, rows in body.items() if isinstance(rows, list)}
            own = {name: value for name, value in body.items() if name not in children}
            row_id = self.insert(table, {**(key_values or {}), **self._read(table, "create", own)})
            for name, rows in children.items():
                self._create_children(table, row_id, name, rows)
            return row_id

    def _create_children(self, table: Table, row_id: str, name: str, rows: Sequence[Any]) -> None:
        """Create the rows nested in a collection-valued navigation property, each referring to the new row (dataverse.md 5)."""
        found = collections(self.organization.tables, table).get(name)
        if found is None or not all(isinstance(row, dict) for row in rows):
            raise faults.invalid_property(table.entity_set, table.name, name)
        other, column = found
        reference = column.reference(table.name, row_id)
        for row in rows:
            self.create(other, row, reference)

    def insert(self, table: Table, changes: Row) -> str:
        """Insert a row from stored values, with all that follows from them."""
        database = self.organization.database
        row_id = str(changes.get(table.primary_id) or new_id())
        changes[table.primary_id] = row_id
        if row_id in self.organization.switches.current.crashing_ids:
            raise Fault(500, "0x80040224", "An unexpected error occurred from ISV code.")
        if database.get(table, row_id) is not None:
            raise Fault(412, "0x80040237", "Cannot insert duplicate key.")
        documents = self._rules(table)
        if documents is not None:
            documents.before_insert(table, changes)
        rules.complete(self.organization, table, None, changes)
        rules.stamp_row(self.organization, table, self.user_id, changes, created=True)
        self._check_rules(table, row_id, changes)
        self._check_keys(table, row_id, changes)
        database.insert(table, changes)
        if documents is not None:
            documents.after_insert(table, self.existing(table, row_id))
        return row_id

    def update(self, table: Table, row_id: str, body: Mapping[str, Any], ignored: frozenset[str] = frozenset()) -> None:
        """Update a row that exists; `ignored` are key columns of the URL, which the body can't change."""
        with self.organization.database.transaction():
            before = self.existing(table, row_id)
            changes = {name: value for name, value in self._read(table, "update", body).items() if name not in ignored}
            self.change(table, before, changes)

    def change(self, table: Table, before: Row, changes: Row) -> None:
        """Save changes in stored form, with all that follows from them; equal values make a new version as well."""
        documents = self._rules(table)
        if documents is not None:
            documents.before_change(table, before, changes)
        rules.complete(self.organization, table, before, changes)
        rules.stamp_row(self.organization, table, self.user_id, changes, created=False)
        self._check_rules(table, str(before[table.primary_id]), {**before, **changes})
        self._check_keys(table, str(before[table.primary_id]), {**before, **changes}, changed=frozenset(changes))
        self.organization.database.update(table, before, changes)
        if documents is not None:
            documents.after_change(table, before, {**before, **changes})

    def delete(self, table: Table, row_id: str) -> None:
        """Delete a row; lookups to it are emptied, contacts of an account go with it or are unlinked too."""
        with self.organization.database.transaction():
            before = self.existing(table, row_id)
            if table.name == "account" and self.organization.switches.current.account_contacts == "delete":
                self._delete_contacts(row_id)
            documents = self._rules(table)
            if documents is not None:
                documents.before_delete(table, before)
            for other in self.organization.tables.values():
                self._unlink(other, table, row_id)
            self.organization.database.delete(table, before)
            if documents is not None:
                documents.after_delete(table, before)

    def existing(self, table: Table, row_id: str) -> Row:
        """Return a row that must be there; raise the 404 of one that is not."""
        found = self.organization.database.get(table, row_id)
        if found is None:
            raise faults.missing_row(table.name, row_id)
        return found

    def _delete_contacts(self, account_id: str) -> None:
        sql = "SELECT contactid FROM contact WHERE parentcustomerid = ? AND parentcustomerid__type = 'account'"
        for (contact_id,) in self.organization.database.query(sql, [account_id]):
            self.delete(self.organization.tables["contact"], contact_id)

    def _unlink(self, other: Table, table: Table, row_id: str) -> None:
        database = self.organization.database
        for column in other.columns.values():
            if table.name not in column.targets or not column.updatable:
                continue
            sql = f"SELECT * FROM {quoted(other.name)} WHERE {quoted(column.name)} = ?"
            for child in database.query(sql, [row_id]):
                database.update(other, dict(child), dict.fromkeys(column.stored))

    def _check_rules(self, table: Table, row_id: str, row: Row) -> None:
        names = self.organization.switches.current.duplicate_rules.get(table.name, ())
        compared = {name: row.get(name) for name in names}
        if not self.detects_duplicates or not compared or None in compared.values():
            return
        if any(other[table.primary_id] != row_id for other in self.organization.database.find_by_values(table, compared)):
            raise Fault(412, "0x80040333", "A record was not created or updated because a duplicate of the current record already exists.")

    def _check_keys(self, table: Table, row_id: str, row: Row, changed: frozenset[str] | None = None) -> None:
        for key in table.keys:
            values = {name: row.get(name) for name in key.columns}
            if None in values.values() or (changed is not None and not changed & set(key.columns)):
                continue
            found = self.organization.database.find_by_values(table, values)
            if any(other[table.primary_id] != row_id for other in found):
                titles = ", ".join(f"{name} = {value}" for name, value in values.items())
                raise Fault(
                    412,
                    "0x80060892",
                    f"A record that has the attribute values {titles} already exists. The entity key "
                    f"{key.schema_name} requires that this set of attributes contains unique values. "
                    "Select unique values and try again.",
                )
