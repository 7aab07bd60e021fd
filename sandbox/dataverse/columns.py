"""Adds, changes and removes columns of a table while the organisation runs (dataverse.md 10)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.dataverse import faults
from sandbox.dataverse.definition_shapes import column_shape
from sandbox.dataverse.definitions import Column, Table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization

_SYSTEM = frozenset({"versionnumber", "createdon", "createdby", "modifiedon", "modifiedby", "statecode", "statuscode", "ownerid"})


def add_column(organization: Organization, table: Table, column: Column) -> None:
    """Add an empty column."""
    organization.database.add_column(table, column)
    organization.redefine(table.with_column(column))


def bound(value: Any) -> float | None:
    """Return a bound of a number as it can be kept: bodies are read with Decimals, which JSON has no form for."""
    return value if value is None or isinstance(value, int) else float(value)


def change_column(organization: Organization, table: Table, name: str, body: Mapping[str, Any]) -> None:
    """Put a whole definition in place of a column's: its length and bounds change, its name and type can't.

    Raises the 400 for a body that is not the definition as it was read.
    """
    column = table.columns[name]
    if body.get("LogicalName") != name or body.get("AttributeType") != column_shape(table, column)["AttributeType"]:
        raise faults.invalid_argument(f"PUT needs the whole definition of the column '{name}', as it was read.")
    changed = replace(
        column,
        max_length=body.get("MaxLength", column.max_length),
        minimum=bound(body.get("MinValue", column.minimum)),
        maximum=bound(body.get("MaxValue", column.maximum)),
        precision=body.get("Precision", column.precision),
    )
    organization.redefine(table.with_column(changed))


def remove_column(organization: Organization, table: Table, name: str, *, custom_only: bool) -> Column:
    """Take a column and its values away and return it; delta links that name it are worth nothing from now on.

    Raises the 400 for a column of the system, for any but a custom one if `custom_only`, and for one that a key needs ([memory]).
    """
    column = table.columns[name]
    if name in _SYSTEM or name in {table.primary_id, table.primary_name} or (custom_only and not column.custom):
        raise faults.invalid_argument(f"The attribute '{name}' of '{table.name}' can't be deleted: it is part of the system.")
    if any(name in key.columns for key in table.keys):
        raise Fault(400, "0x8004f01f", f"The attribute '{name}' can't be deleted: a key of '{table.name}' needs it.")
    organization.database.empty_column(table, column)
    organization.redefine(replace(table, columns={other: facts for other, facts in table.columns.items() if other != name}))
    return column
