"""Dataverse metadata as the adapter needs it: set names, types, lengths, and the exact navigation names (dataverse.md 5, 10).

A lookup is named by its logical name (`primarycontactid`), read as `_primarycontactid_value` and written through its navigation
property, whose letters' case only the metadata knows. A lookup with several targets can also be named by one of its navigation
properties (`parentcustomerid_account`): then it is a lookup to that one table and reads as empty when it points elsewhere.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shared.core.records import Column, ColumnType
from shared.systems.odata import identifier

LOOKUP_ANNOTATION = "Microsoft.Dynamics.CRM.lookuplogicalname"
_TYPES: dict[str, ColumnType] = {
    "string": ColumnType.TEXT,
    "memo": ColumnType.TEXT,
    "entityname": ColumnType.TEXT,
    "multiselectpicklist": ColumnType.TEXT,  # travels as "1,9" (dataverse.md 9)
    "integer": ColumnType.INTEGER,
    "bigint": ColumnType.INTEGER,
    "decimal": ColumnType.DECIMAL,
    "double": ColumnType.DECIMAL,
    "money": ColumnType.DECIMAL,
    "boolean": ColumnType.BOOLEAN,
    "datetime": ColumnType.DATETIME,
    "uniqueidentifier": ColumnType.ID,
    "lookup": ColumnType.LOOKUP,
    "customer": ColumnType.LOOKUP,
    "owner": ColumnType.LOOKUP,
    "picklist": ColumnType.CHOICE,
    "state": ColumnType.CHOICE,
    "status": ColumnType.CHOICE,
}
_CHOICE_CASTS = {
    "picklist": "PicklistAttributeMetadata",
    "state": "StateAttributeMetadata",
    "status": "StatusAttributeMetadata",
    "multiselectpicklist": "MultiSelectPicklistAttributeMetadata",
}
_MOST_LISTED = 5000
_DEFINITION_COLUMNS = "LogicalName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,ChangeTrackingEnabled"


@dataclass(frozen=True)
class Definition:
    """What a table is called on the wire."""

    name: str
    set_name: str
    id_column: str
    tracked: bool
    name_column: str = ""


@dataclass(frozen=True)
class Behind:
    """How a path is read: the lookup that it begins at, the navigation property and table behind it, and the column at its end."""

    lookup: "Attribute"
    navigation: str
    target: Definition
    end: "Attribute"


@dataclass(frozen=True)
class Attribute:
    """A column with its wire names. `navigation` is navigation property by target table; `only` the one target of a split lookup.

    `behind` is set for a path (`msdyn_opportunitykpiid/msdyn_health`), which is read by `$expand` and never written.
    """

    column: Column
    logical: str
    kind: str
    navigation: Mapping[str, str] = field(default_factory=dict)
    only: str = ""
    behind: Behind | None = None

    @property
    def read_name(self) -> str:
        """Return the name in `$select`, filters and rows; of a path the name in filters."""
        if self.behind is not None:
            return f"{self.behind.navigation}/{self.behind.end.read_name}"
        return f"_{self.logical}_value" if self.column.type is ColumnType.LOOKUP else self.logical

    def navigation_to(self, target: str) -> str | None:
        """Return the navigation property that leads to a table; an owner has one for users and teams alike."""
        return self.navigation.get(target) or self.navigation.get("owner")


@dataclass(frozen=True)
class Table:
    """A table with the attributes known so far; `absent` are names that it surely does not have."""

    definition: Definition
    relations: Mapping[str, Mapping[str, str]]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()

    def lacking(self, names: Collection[str]) -> set[str]:
        """Return the names that nothing is known about yet."""
        return {name for name in names if name not in self.attributes and name not in self.absent}

    def logical(self, name: str) -> str:
        """Return the logical name behind a name that may be a navigation property of a lookup with several targets."""
        return next((lookup for lookup, by_target in self.relations.items() if name in by_target.values() and name != lookup), name)

    def with_attributes(self, asked: Collection[str], found: Mapping[str, Attribute]) -> "Table":
        """Return the table knowing the asked names too."""
        named: dict[str, Attribute] = {}
        for name in asked:
            attribute = found.get(self.logical(name))
            if attribute is not None:
                named[name] = attribute if attribute.logical == name else _split(attribute, name)
        absent = self.absent | (frozenset(asked) - frozenset(named))
        return replace(self, attributes={**self.attributes, **named}, absent=absent)


def path_attribute(path: str, lookup: Attribute, target: Definition, end: Attribute) -> Attribute:
    """Return what a path is; raises KeyError when the metadata names no navigation property for its lookup."""
    column = replace(end.column, name=path, required=False, creatable=False, updatable=False)
    return Attribute(column, path, end.kind, behind=Behind(lookup, lookup.navigation[target.name], target, end))


def _split(attribute: Attribute, name: str) -> Attribute:
    target = next(table for table, navigation in attribute.navigation.items() if navigation == name)
    column = replace(attribute.column, name=name, targets=(target,))
    return replace(attribute, column=column, navigation={target: name}, only=target)


def definition_url(entity: str) -> str:
    """Return the request for a table's names."""
    return f"EntityDefinitions(LogicalName='{identifier(entity)}')?$select={_DEFINITION_COLUMNS}"


def relations_url(entity: str) -> str:
    """Return the request for the navigation names of all lookups of a table."""
    columns = "ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"
    return f"EntityDefinitions(LogicalName='{identifier(entity)}')/ManyToOneRelationships?$select={columns}"


def attributes_url(entity: str, names: Collection[str]) -> str:
    """Return the request for columns, without $select: lengths and precisions stand on the derived types only."""
    wanted = " or ".join(f"LogicalName eq '{identifier(name)}'" for name in sorted(names))
    return f"EntityDefinitions(LogicalName='{identifier(entity)}')/Attributes?$filter={wanted.replace(' ', '%20')}"


def options_url(entity: str, kind: str) -> str:
    """Return the request for the choices of all columns of one kind (dataverse.md 10)."""
    expand = "OptionSet,GlobalOptionSet" if kind in ("picklist", "multiselectpicklist") else "OptionSet"
    cast = f"Microsoft.Dynamics.CRM.{_CHOICE_CASTS[kind]}"
    return f"EntityDefinitions(LogicalName='{identifier(entity)}')/Attributes/{cast}?$select=LogicalName&$expand={expand}"


def names_url(definition: Definition) -> str:
    """Return the request for ids and names of a table's rows: what a lookup to a short list may hold (units, price lists, currencies)."""
    columns = f"{definition.id_column},{identifier(definition.name_column)}"
    return (
        f"{definition.set_name}?$select={columns}&$orderby={identifier(definition.name_column)},{definition.id_column}&$top={_MOST_LISTED}"
    )


def read_names(body: Any, definition: Definition) -> dict[str, str]:
    """Read id -> name; a row without a name can't be meant."""
    named = ((row[definition.id_column], row.get(definition.name_column)) for row in body["value"])
    return {key.lower(): str(name) for key, name in named if name}


def has_options(attribute: Attribute) -> bool:
    """Tell whether a column has choices that `options_url` can fetch."""
    return attribute.kind in _CHOICE_CASTS


def read_definition(body: Any) -> Definition:
    """Read a table's names; raises KeyError or TypeError when one is missing."""
    tracked, named = body["ChangeTrackingEnabled"] is True, body.get("PrimaryNameAttribute")
    return Definition(body["LogicalName"], body["EntitySetName"], body["PrimaryIdAttribute"], tracked, named or "")


def read_relations(body: Any) -> dict[str, dict[str, str]]:
    """Read lookup name -> target table -> navigation property, letters as they stand."""
    relations: dict[str, dict[str, str]] = {}
    for row in body["value"]:
        navigation = row["ReferencingEntityNavigationPropertyName"]
        if navigation:
            relations.setdefault(row["ReferencingAttribute"], {})[row["ReferencedEntity"]] = navigation
    return relations


def read_attributes(body: Any, relations: Mapping[str, Mapping[str, str]]) -> dict[str, Attribute]:
    """Read columns by logical name; kinds that can't be synced (images, virtual names) are left out."""
    found = {}
    for raw in body["value"]:
        kind = _kind(raw)
        if kind in _TYPES and raw.get("IsValidForRead") is not False:
            found[raw["LogicalName"]] = Attribute(_column(raw, kind), raw["LogicalName"], kind, relations.get(raw["LogicalName"], {}))
    return found


def _kind(raw: Any) -> str:
    named = raw.get("AttributeTypeName")
    text = named.get("Value") if isinstance(named, dict) else None
    return str(text or raw.get("AttributeType") or "").removesuffix("Type").lower()


def _column(raw: Any, kind: str) -> Column:
    type_ = _TYPES[kind]
    behaviour = raw.get("DateTimeBehavior")
    if kind == "datetime" and isinstance(behaviour, dict) and behaviour.get("Value") == "DateOnly":
        type_ = ColumnType.DATE  # the Format says nothing about the wire (dataverse.md 9)
    level = raw.get("RequiredLevel")
    targets = raw.get("Targets")
    return Column(
        name=raw["LogicalName"],
        type=type_,
        max_length=_whole(raw.get("MaxLength")) if type_ is ColumnType.TEXT else None,
        scale=_whole(raw.get("Precision")) if type_ is ColumnType.DECIMAL else None,
        required=isinstance(level, dict) and level.get("Value") == "SystemRequired",
        creatable=raw.get("IsValidForCreate") is not False,
        updatable=raw.get("IsValidForUpdate") is not False,
        targets=tuple(targets) if isinstance(targets, list) else (),
    )


def _whole(raw: Any) -> int | None:
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else None


def read_options(body: Any) -> dict[str, dict[str, str]]:
    """Read column -> stored value as text -> label."""
    return {raw["LogicalName"]: _labels(raw.get("OptionSet") or raw.get("GlobalOptionSet") or {}) for raw in body["value"]}


def _labels(option_set: Any) -> dict[str, str]:
    labels = {}
    for option in option_set.get("Options") or ():
        label: Any = option.get("Label") or {}
        shown: Any = label.get("UserLocalizedLabel") or next(iter(label.get("LocalizedLabels") or ()), {})
        labels[str(option["Value"])] = str(shown.get("Label") or option["Value"])
    return labels
