"""Turns stored rows into the JSON of the wire: properties, annotations on request, expanded lookups (dataverse.md 3)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.dataverse import faults
from sandbox.dataverse.conditions import visible_column
from sandbox.dataverse.database import Row
from sandbox.dataverse.definitions import Column, Table
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.queries import Preferences, split_top_level
from sandbox.dataverse.values import decode, formatted

FORMATTED = "OData.Community.Display.V1.FormattedValue"
LOGICAL_NAME = "Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"
_MAX_EXPANDS = 15
_EXPAND = re.compile(r"(?P<name>\w+)(?P<ref>/\$ref)?(?:\((?P<options>.*)\))?", re.DOTALL)


@dataclass(frozen=True)
class Expand:
    """One expanded lookup: the column, the navigation name and the shape of the row behind it."""

    navigation: str
    column: Column
    table: Table
    shape: "Shape"
    reference_only: bool = False


@dataclass(frozen=True)
class Shape:
    """Which columns and expansions a reply shows; ``label`` is what stands in the context URL."""

    columns: tuple[Column, ...]
    expands: tuple[Expand, ...] = ()
    label: str = ""


def read_shape(organization: Organization, table: Table, select: str | None, expand: str | None) -> Shape:
    """Read ``$select`` and ``$expand``; all columns without a select, the primary key always (dataverse.md 3)."""
    expands = tuple(_read_expand(organization, table, text) for text in split_top_level(expand or ""))
    if len(expands) > _MAX_EXPANDS:
        raise faults.odata(f"The $expand has {len(expands)} expansions, allowed are {_MAX_EXPANDS}.")
    inner = [f"{item.navigation}({item.shape.label})" for item in expands]
    if not select or select.strip() == "*":
        visible = (column for column in table.columns.values() if _seen(organization, table, column))
        return Shape(tuple(visible), expands, ",".join(inner))
    names = split_top_level(select)
    chosen = [visible_column(organization, table, name) for name in names]
    if any(column.type == "Money" for column in chosen) and table.has_money:
        chosen.append(table.columns["transactioncurrencyid"])
    chosen.append(table.columns[table.primary_id])
    unique = {column.name: column for column in chosen}
    return Shape(tuple(unique.values()), expands, ",".join([*names, *inner]))


def _seen(organization: Organization, table: Table, column: Column) -> bool:
    return organization.now() >= organization.visible_at.get((table.name, column.name), 0.0)


def _read_expand(organization: Organization, table: Table, text: str) -> Expand:
    match = _EXPAND.fullmatch(text)
    choices = table.by_navigation.get(match["name"], ()) if match else ()
    targets = [(column, organization.tables[name]) for column, name in choices if name in organization.tables]
    if match is None or not targets:
        raise faults.unknown_property(table.name, text.partition("(")[0])
    options: dict[str, str] = {}
    for option in split_top_level(match["options"] or "", ";"):
        name, _, value = option.partition("=")
        if name not in {"$select", "$expand"}:
            raise faults.odata(f"The query option '{name}' is not supported in $expand of '{match['name']}'.")
        options[name] = value
    column, target = targets[0]
    shape = read_shape(organization, target, options.get("$select"), options.get("$expand"))
    return Expand(match["name"], column, target, shape, reference_only=match["ref"] is not None)


@dataclass
class Renderer:
    """Renders the rows of one reply; names of looked-up rows are read once."""

    organization: Organization
    root: str
    preferences: Preferences
    _names: dict[tuple[str, str], str | None] = field(default_factory=dict)
    _symbols: dict[str, str] = field(default_factory=dict)

    def rows(self, shape: Shape, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """Render rows of one shape."""
        return [self.row(shape, row) for row in rows]

    def row(self, shape: Shape, row: Row) -> dict[str, Any]:
        """Render one row; ``row`` holds the stored values of all columns of the shape and the row version."""
        shown: dict[str, Any] = {}
        if row.get("versionnumber") is not None:
            shown["@odata.etag"] = etag(row)
        annotate = bool(self.preferences.annotations)
        for column in shape.columns:
            stored = row.get(column.name)
            if annotate and stored is not None:
                shown |= self._annotations(column, row)
            shown[column.wire_name] = decode(column, stored)
        for expand in shape.expands:
            shown[expand.navigation] = self._expanded(expand, row)
        return shown

    def _annotations(self, column: Column, row: Row) -> Mapping[str, Any]:
        wanted = self.preferences.annotated
        stored = row[column.name]
        found: dict[str, Any] = {}
        if column.lookup:
            target = str(row.get(f"{column.name}__type") or next(iter(column.targets), ""))
            if wanted(NAVIGATION) and target in column.navigation:
                found[NAVIGATION] = column.navigation[target]
            if wanted(LOGICAL_NAME):
                found[LOGICAL_NAME] = target
            text = self._name(target, str(stored)) if wanted(FORMATTED) else None
        else:
            text = formatted(column, stored, self._symbol(row)) if wanted(FORMATTED) else None
        if text is not None:
            found[FORMATTED] = text
        return {f"{column.wire_name}@{name}": value for name, value in found.items()}

    def _name(self, target: str, row_id: str) -> str | None:
        if (target, row_id) not in self._names:
            table = self.organization.tables.get(target)
            row = self.organization.database.get(table, row_id) if table else None
            name = row[table.primary_name] if table and row else None
            self._names[target, row_id] = None if name is None else str(name)
        return self._names[target, row_id]

    def _symbol(self, row: Row) -> str:
        currency_id = str(row.get("transactioncurrencyid") or "")
        if currency_id not in self._symbols:
            currency = self.organization.currency(currency_id)
            self._symbols[currency_id] = str(currency["currencysymbol"]) if currency else "$"
        return self._symbols[currency_id]

    def _expanded(self, expand: Expand, row: Row) -> Any:
        stored = row.get(expand.column.name)
        target = row.get(f"{expand.column.name}__type")
        if stored is None or (target is not None and target != expand.table.name):
            return None
        found = self.organization.database.get(expand.table, str(stored))
        if found is None:
            return None
        if expand.reference_only:
            return {"@odata.id": f"{self.root}/{expand.table.entity_set}({stored})"}
        return self.row(expand.shape, found)


def etag(row: Row) -> str:
    """Write a row's ETag: its version, weak (dataverse.md 3)."""
    return f'W/"{row["versionnumber"]}"'
