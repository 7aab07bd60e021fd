"""The objects of this Creatio: stock columns from the metadata file, custom columns, and all lookups' targets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

METADATA = Path(__file__).resolve().parent.parent / "metadata"
NAMESPACE = "Terrasoft.Configuration.OData"

Kind: TypeAlias = Literal["guid", "text", "int", "bool", "decimal", "datetime", "date", "stream"]

_EDM: dict[Kind, str] = {
    "guid": "Edm.Guid",
    "text": "Edm.String",
    "int": "Edm.Int32",
    "bool": "Edm.Boolean",
    "decimal": "Edm.Decimal",
    "datetime": "Edm.DateTimeOffset",
    "date": "Edm.DateTimeOffset",
    "stream": "Edm.Stream",
}
_KINDS: dict[str, Kind] = {
    "Guid": "guid",
    "Int": "int",
    "Bool": "bool",
    "Money": "decimal",
    "Decimal": "decimal",
    "DateTime": "datetime",
    "Date": "date",
    "Stream": "stream",
}
_AUDIT: dict[str, dict[str, Any]] = {
    "Id": {"type": "Guid"},
    "CreatedOn": {"type": "DateTime"},
    "CreatedById": {"type": "Guid", "lookup": "Contact", "navigation": "CreatedBy"},
    "ModifiedOn": {"type": "DateTime"},
    "ModifiedById": {"type": "Guid", "lookup": "Contact", "navigation": "ModifiedBy"},
    "ProcessListeners": {"type": "Int"},
}
_LOOKUP = {"Name": {"type": "Text250", "required": True}, "Description": {"type": "Text250"}}


@dataclass(frozen=True)
class Column:
    """Describe one column by its OData name; `navigation` is set when it is a lookup, `target` when its object is known."""

    name: str
    kind: Kind
    length: int | None = None
    scale: int = 0
    required: bool = False
    default: Any = None
    navigation: str | None = None
    target: str | None = None

    @property
    def edm(self) -> str:
        """Return the EDM type (creatio.md 2.2)."""
        return _EDM[self.kind]


@dataclass(frozen=True)
class Entity:
    """Describe one object; `collections` maps `<Child>CollectionBy<Column>` to the child object and its column."""

    name: str
    columns: Mapping[str, Column]
    collections: Mapping[str, tuple[str, str]]

    @cached_property
    def navigations(self) -> Mapping[str, Column]:
        """Return the lookup columns by the names of their navigations."""
        return {column.navigation: column for column in self.columns.values() if column.navigation}

    @cached_property
    def stored(self) -> tuple[Column, ...]:
        """Return the columns with an inline value, `Id` first."""
        inline = [column for column in self.columns.values() if column.kind != "stream"]
        return tuple(sorted(inline, key=lambda column: column.name != "Id"))

    @cached_property
    def streams(self) -> tuple[Column, ...]:
        """Return the stream columns."""
        return tuple(column for column in self.columns.values() if column.kind == "stream")


@dataclass(frozen=True)
class Schema:
    """Hold all objects by name, the values of their lookups, and translations of those by culture.

    An object is replaced by another one of its name when a column comes or goes.
    """

    entities: dict[str, Entity]
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    translations: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)

    def referring(self, target: str) -> list[tuple[Entity, Column]]:
        """Return the lookup columns of all objects that point to an object."""
        return [(e, c) for e in self.entities.values() for c in e.columns.values() if c.target == target]


def load_schema() -> Schema:
    """Read the metadata files beside the sandbox."""
    stock: dict[str, Any] = json.loads((METADATA / "creatio.json").read_text("utf-8"))
    custom: dict[str, Any] = json.loads((METADATA / "creatio_custom.json").read_text("utf-8"))
    values = stock.pop("lookups")
    raw = {name: dict(entity["columns"]) for name, entity in stock.items()}
    for name, columns in custom["columns"].items():
        raw[name].update(columns)
    targets = {column["lookup"] for columns in raw.values() for column in columns.values() if column.get("lookup")}
    for name in sorted(targets - set(raw)):
        raw[name] = {**_AUDIT, **_LOOKUP}
    for name in ("SysImage", "SysLanguage", "Activity", "Cashflow", "Project"):
        raw[name].setdefault("Name", {"type": "Text250"})
    raw["SysImage"].setdefault("Data", {"type": "Stream"})
    columns_by_entity = {
        name: {column: _column(column, facts) for column, facts in {**_AUDIT, **columns}.items()} for name, columns in raw.items()
    }
    collections = _collections(stock, columns_by_entity, custom["columns"])
    entities = {name: Entity(name, columns, collections.get(name, {})) for name, columns in sorted(columns_by_entity.items())}
    return Schema(entities, values, custom["translations"])


def custom_entity(name: str, columns: Mapping[str, Mapping[str, Any]]) -> Entity:
    """Return an object that somebody designed: its own columns, described as in the metadata files, and those of every object."""
    return Entity(name, {column: _column(column, facts) for column, facts in {**_AUDIT, **columns}.items()}, {})


def _column(name: str, facts: Mapping[str, Any]) -> Column:
    kind_name: str = facts["type"]
    is_text = kind_name.startswith("Text")
    length = int(kind_name[4:]) if is_text and kind_name[4:].isdigit() else None
    kind: Kind = "text" if is_text else _KINDS[kind_name]
    return Column(
        name,
        kind,
        length=length,
        scale=int(facts.get("scale", 2)) if kind == "decimal" else 0,
        required=bool(facts.get("required")),
        default=facts.get("default"),
        navigation=facts.get("navigation"),
        target=facts.get("lookup"),
    )


def _collections(
    stock: Mapping[str, Any],
    columns: Mapping[str, Mapping[str, Column]],
    custom: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, tuple[str, str]]]:
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name, entity in stock.items():
        for collection, child in entity["collections"].items():
            column = collection.rpartition("CollectionBy")[2] + "Id"
            if column in columns[child]:
                found.setdefault(name, {})[collection] = (child, column)
    for child, added in custom.items():
        for column, facts in added.items():
            if "navigation" in facts:
                collection = f"{child}CollectionBy{facts['navigation']}"
                found.setdefault(facts["lookup"], {})[collection] = (child, column)
    return found
