"""The live metadata that mapping tests stand on: both sides as the stand-ins' metadata files describe them, and a few people."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sandbox.creatio.content import fill, made_id
from sandbox.creatio.database import Database
from sandbox.creatio.schema import load_schema
from sandbox.dataverse.definitions import Table, custom_table, load_tables
from shared.core.mapping import Mapping, MappingSet
from shared.core.mapping_load import load
from shared.core.records import Column, ColumnType, Entity, Side, path_of
from shared.core.rules import ENDED, Context
from shared.systems import dataverse_resolutions

MAPPINGS = Path(__file__).resolve().parents[2] / "mappings"
CREATIO_TYPES = {
    "text": ColumnType.TEXT,
    "int": ColumnType.INTEGER,
    "bool": ColumnType.BOOLEAN,
    "decimal": ColumnType.DECIMAL,
    "datetime": ColumnType.DATETIME,
    "date": ColumnType.DATETIME,  # on the wire a day can't be told from a time (creatio.md 2.2)
    "guid": ColumnType.ID,
}
DATAVERSE_TYPES = {
    "String": ColumnType.TEXT,
    "Memo": ColumnType.TEXT,
    "Integer": ColumnType.INTEGER,
    "Money": ColumnType.DECIMAL,
    "Decimal": ColumnType.DECIMAL,
    "Double": ColumnType.DECIMAL,
    "Boolean": ColumnType.BOOLEAN,
    "DateTime": ColumnType.DATETIME,
    "DateOnly": ColumnType.DATE,
    "Uniqueidentifier": ColumnType.ID,
    "Lookup": ColumnType.LOOKUP,
    "Owner": ColumnType.LOOKUP,
    "Customer": ColumnType.LOOKUP,
    "Picklist": ColumnType.CHOICE,
    "State": ColumnType.CHOICE,
    "Status": ColumnType.CHOICE,
}
USERS = {
    Side.CREATIO: {made_id("Contact", name): f"{name}@tandem.example" for name in ("ada", "grace", "integration")},
    Side.DYNAMICS: {
        "d0000000-0000-4000-8000-000000000001": "ada@tandem.example",
        "d0000000-0000-4000-8000-000000000002": "grace@tandem.example",
        "d0000000-0000-4000-8000-000000000003": "alicia@contoso.example",
    },
}
LISTS = {
    "uom": ("Primary Unit",),
    "uomschedule": ("Default Unit",),
    "transactioncurrency": ("US Dollar", "Euro", "Pound Sterling"),
    "pricelevel": ("Default Price List", "Price List EUR", "Price List GBP"),
}
"""Rows of the short tables in Dynamics whose names the value lists use."""
LICENSED: dict[str, dict[str, dict[str, Any]]] = {
    "msdyn_opportunitykpiitem": {
        "msdyn_name": {"type": "String", "max_length": 100},
        "msdyn_relationshiphealthscorestate": {"type": "Picklist", "options": {"1": "Good", "2": "Fair", "3": "Poor"}},
    }
}
"""Tables that come with a licence, as far as their columns are known from memory; optional rows lead there."""
PARENTS = {
    Side.CREATIO: {
        "bound": "c0000000-0000-4000-8000-000000000011",
        "unbound": "c0000000-0000-4000-8000-000000000012",
        "ended": "c0000000-0000-4000-8000-000000000013",
    },
    Side.DYNAMICS: {
        "bound": "d0000000-0000-4000-8000-000000000011",
        "unbound": "d0000000-0000-4000-8000-000000000012",
        "ended": "d0000000-0000-4000-8000-000000000013",
    },
}


def flow_files() -> dict[str, str]:
    """Return the mapping files by name, without cases and schema."""
    paths = [path for path in sorted(MAPPINGS.glob("*.json")) if not path.name.endswith((".cases.json", ".schema.json"))]
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def value_files() -> dict[str, str]:
    """Return the value lists by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((MAPPINGS / "values").glob("*.json"))}


@cache
def mappings() -> MappingSet:
    """Return the mappings of the product."""
    return load(flow_files(), value_files())


@cache
def lookup_labels(entity: str) -> dict[str, str]:
    """Return id to name of a Creatio lookup's values."""
    database = Database(":memory:", load_schema())
    fill(database)
    return {row["Id"]: row["Name"] for row in database.query(f'SELECT "Id", "Name" FROM "{entity}"')}


@cache
def creatio_columns(entity: str, options: tuple[str, ...]) -> dict[str, Column]:
    """Return an object's columns; text lengths are left out, as a stock Creatio does not tell them (creatio.md 2.1)."""
    found = {}
    for column in load_schema().entities[entity].columns.values():
        if column.kind == "stream":
            continue
        kind = ColumnType.LOOKUP if column.navigation else CREATIO_TYPES[column.kind]
        labels = lookup_labels(column.target) if column.target and column.name in options else {}
        found[column.name] = Column(
            column.name, kind, scale=column.scale if column.kind == "decimal" else None, targets=(column.target or "",), options=labels
        )
    return found


def _table(entity: str) -> Table:
    return load_tables().get(entity) or custom_table(entity, LICENSED[entity])


@cache
def dynamics_columns(entity: str) -> dict[str, Column]:
    """Return a table's columns as the adapter names them: lookups with several targets also by navigation, a case with its resolution."""
    found = _plain_columns(entity)
    for column in _table(entity).columns.values():
        for target, navigation in column.navigation.items() if column.polymorphic else ():
            if navigation == column.name:
                continue
            found[navigation] = Column(navigation, ColumnType.LOOKUP, targets=(target,))
    return {**found, **(dataverse_resolutions.COLUMNS if entity == dataverse_resolutions.CASE else {})}


def _plain_columns(entity: str) -> dict[str, Column]:
    return {
        column.name: Column(
            column.name,
            DATAVERSE_TYPES[column.type],
            max_length=column.max_length,
            scale=(2 if column.precision is None else column.precision) if column.type in ("Money", "Decimal", "Double") else None,
            creatable=column.creatable,
            updatable=column.updatable,
            targets=column.targets,
            options={str(value): label for value, label in column.options.items()} | _listed(column.targets),
        )
        for column in _table(entity).columns.values()
        if column.type in DATAVERSE_TYPES
    }


def _listed(targets: tuple[str, ...]) -> dict[str, str]:
    """Return the rows of a short table by id, when a lookup leads to one."""
    return {str(uuid5(NAMESPACE_OID, name)): name for target in targets if len(targets) == 1 for name in LISTS.get(target, ())}


def columns_of(flow: Mapping, side: Side) -> dict[str, Column]:
    """Return the metadata of a flow's entity on a side, with the paths that its rows read."""
    compared = (name for row in flow.fields for name in row.same or ())
    entity, options = flow.entity(side), (*flow.option_columns(side), *compared)
    plain = creatio_columns(entity, options) if side is Side.CREATIO else dynamics_columns(entity)
    behind = {name: _behind(entity, side, *path, listed=name in options) for name in flow.columns(side) if (path := path_of(name))}
    return {**plain, **{name: replace(column, name=name, creatable=False, updatable=False) for name, column in behind.items()}}


def _behind(entity: str, side: Side, lookup: str, column: str, *, listed: bool) -> Column:
    if side is Side.CREATIO:
        target = load_schema().entities[entity].navigations[lookup].target or ""
        return creatio_columns(target, (column,) if listed else ())[column]
    return dynamics_columns(dynamics_columns(entity)[lookup].targets[0])[column]


@cache
def flow_context(flow: str) -> Context:
    """Return what the rules of a flow see: metadata, value lists, three users a side, one record of each flow in each state."""
    mapping = mappings().flows[flow]
    entities = {side: Entity(mapping.entity(side), columns_of(mapping, side)) for side in Side}
    references = {}
    for name in mappings().flows:
        for side in Side:
            references[name, side, PARENTS[side]["bound"]] = PARENTS[side.other]["bound"]
            references[name, side, PARENTS[side]["ended"]] = ENDED
    return Context(entities, mappings().values, references, USERS)


@cache
def line_context(flow: str) -> Context:
    """Return what the rules of a flow's lines see."""
    lines = mappings().flows[flow].lines
    assert lines is not None
    here, there = lines.creatio.entity, lines.dynamics.entity
    entities = {
        Side.CREATIO: Entity(here, creatio_columns(here, lines.option_columns(Side.CREATIO))),
        Side.DYNAMICS: Entity(there, dynamics_columns(there)),
    }
    return Context(entities, mappings().values, flow_context(flow).references, USERS)
