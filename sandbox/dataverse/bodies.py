"""Reads the JSON body of a write into column changes: plain values, ``@odata.bind``, nulls, nested rows (dataverse.md 5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.dataverse import addresses, faults, values
from sandbox.dataverse.database import Row
from sandbox.dataverse.definitions import Column, Table
from sandbox.dataverse.documents import SALES_AND_SERVICE
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization

Mode = Literal["create", "update"]
Nest = Callable[[Table, Mapping[str, Any]], str]
"""Creates the row of a nested object (deep insert) and returns its id."""


@dataclass(frozen=True)
class BodyReader:
    """Reads bodies for one table; `nest` makes the rows of nested objects."""

    organization: Organization
    table: Table
    mode: Mode
    nest: Nest

    def read(self, body: Mapping[str, Any]) -> Row:
        """Return the changes a body asks for, in stored form; columns that can't be written are left out or refused."""
        changes: Row = {}
        for name, value in body.items():
            if name.endswith("@odata.bind"):
                self._bind(name.removesuffix("@odata.bind"), value, changes)
            elif "@" not in name:
                self._property(name, value, changes)
        return changes

    def _property(self, name: str, value: object, changes: Row) -> None:
        table = self.table
        if name in table.by_navigation and (value is None or isinstance(value, dict)):
            self._navigate(name, value, changes)
            return
        column = table.columns.get(name)
        if (name.startswith("_") and name in table.by_wire_name) or (column is not None and column.lookup):
            raise Fault(
                400,
                "0x80060888",
                "CRM do not support direct update of Entity Reference properties, Use Navigation properties instead.",
            )
        if column is None or not self._visible(column):
            raise faults.invalid_property(table.entity_set, table.name, name)
        if isinstance(value, str) and "\x00" in value and self.organization.switches.current.nul_in_text == "refuse":
            raise faults.payload(table.entity_set, "System.ArgumentException: '\\0', hexadecimal value 0x00, is an invalid character.")
        if self._writable(column):
            changes[name] = values.encode(table, column, value)

    def _visible(self, column: Column) -> bool:
        key = (self.table.name, column.name)
        return self.organization.now() >= self.organization.visible_at.get(key, 0.0)

    def _writable(self, column: Column) -> bool:
        if column.creatable if self.mode == "create" else column.updatable:
            return True
        if column.type == "State":
            raise Fault(
                400,
                "0x80048408",
                f"State code is invalid: '{column.name}' of '{self.table.name}' can't be set on {self.mode}.",
            )
        if self.mode == "update" and self._create_only(column):
            raise faults.invalid_argument(f"'{column.name}' of '{self.table.name}' can be set on create only.")
        if self.organization.switches.current.read_only_columns == "refuse" and column.name != self.table.primary_id:
            raise faults.invalid_argument(f"'{column.name}' of '{self.table.name}' is not valid for {self.mode}.")
        return False

    def _create_only(self, column: Column) -> bool:
        refused = self.organization.switches.current.create_only_columns == "refuse" and self.table.name in SALES_AND_SERVICE
        return refused and column.creatable and column.name != self.table.primary_id

    def _navigate(self, name: str, value: Mapping[str, Any] | None, changes: Row) -> None:
        if value is None:
            self._bind(name, None, changes)
            return
        (column, target), *others = self.table.by_navigation[name]
        if others or target not in self.organization.tables:
            raise faults.invalid_property(self.table.entity_set, self.table.name, name)
        self._set(column, target, self.nest(self.organization.tables[target], value), changes)

    def _bind(self, navigation: str, value: object, changes: Row) -> None:
        table = self.table
        choices = table.by_navigation.get(navigation)
        if choices is None:
            raise faults.undeclared(table.entity_set, navigation)
        column = choices[0][0]
        if not self._writable(column):
            return
        if value is None:
            changes.update(dict.fromkeys(column.stored))
            return
        tables = self.organization.tables
        targets = {tables[name].entity_set: name for _, name in choices if name in tables}
        target, row_id = addresses.bound_row(self.organization, table.entity_set, navigation, targets, value)
        self._set(column, target, row_id, changes)

    @staticmethod
    def _set(column: Column, target: str, row_id: str, changes: Row) -> None:
        changes[column.name] = row_id
        if column.polymorphic:
            changes[f"{column.name}__type"] = target
