"""What an administrator does to the whole organisation: backups and their restore, columns, privileges of the application user."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.control import Refused
from sandbox.dataverse.columns import add_column, remove_column
from sandbox.dataverse.definitions import Column, Table, custom_table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization

_NEW_LENGTH = 100


@dataclass
class DataverseEstate:
    """The `sandbox.control_estate.Estate` of this stand-in."""

    organization: Organization
    _kept: dict[str, tuple[sqlite3.Connection, Mapping[str, Table]]] = field(default_factory=dict)
    _removed: dict[tuple[str, str], Column] = field(default_factory=dict)

    def snapshot(self, name: str) -> None:
        """Keep rows, versions, deletions and definitions under a name."""
        self._kept[name] = self.organization.database.snapshot(), dict(self.organization.tables)

    def restore(self, name: str) -> None:
        """Bring a snapshot back; delta tokens that were handed out after it are expired."""
        if name not in self._kept:
            raise Refused(f"no snapshot '{name}'; allowed {', '.join(self._kept) or 'none yet'}", 404)
        organization, (copy, tables) = self.organization, self._kept[name]
        organization.database.restore(copy)
        organization.tables = dict(tables)
        organization.restores.append((organization.now(), organization.database.version()))

    def set_rights(self, entity: str, *, read: bool, write: bool) -> None:
        """Set which privileges on one table the application user has."""
        name, switches = self._table(entity).name, self.organization.switches
        unreadable, unwritable = switches.current.unreadable_tables - {name}, switches.current.unwritable_tables - {name}
        switches.update(
            {
                "unreadable_tables": unreadable if read else unreadable | {name},
                "unwritable_tables": unwritable if write else unwritable | {name},
            }
        )

    def remove_column(self, entity: str, column: str) -> None:
        """Take a column away with its values."""
        table = self._table(entity)
        if column not in table.columns:
            raise Refused(f"unknown column '{column}' of table '{entity}'; allowed {', '.join(sorted(table.columns))}")
        with self.organization.database.transaction():
            try:
                self._removed[entity, column] = remove_column(self.organization, table, column, custom_only=False)
            except Fault as fault:
                raise Refused(f"{fault.code} {fault.message}", fault.status) from fault

    def add_column(self, entity: str, column: str) -> None:
        """Add a column: one that was taken away as it was, else a custom one of text; it is empty and can be used at once."""
        table = self._table(entity)
        if column in table.columns:
            raise Refused(f"'{entity}' has the column '{column}' already")
        new = Column(column.lower(), column, "String", max_length=_NEW_LENGTH, custom=True)
        with self.organization.database.transaction():
            add_column(self.organization, table, self._removed.pop((entity, column), new))

    def add_entity(self, entity: str, columns: Mapping[str, Mapping[str, Any]]) -> None:
        """Add a custom table, tracked for changes; its lookups lead to tables that are there."""
        if entity in self.organization.tables or "_" not in entity:
            raise Refused(f"got table '{entity}', allowed a new name with a publisher's prefix")
        for facts in columns.values():
            for target in facts.get("targets", ()):
                self._table(target)
        table = custom_table(entity, columns)
        with self.organization.database.transaction():
            self.organization.database.define(table)
        self.organization.tables = {**self.organization.tables, entity: table}
        tracked = self.organization.switches.current.tracked_tables
        self.organization.switches.update({"tracked_tables": set(tracked) | {entity}})

    def _table(self, entity: str) -> Table:
        table = self.organization.tables.get(entity)
        if table is None:
            raise Refused(f"unknown table '{entity}'; allowed {', '.join(sorted(self.organization.tables))}", 404)
        return table
