"""Answers ``EntityDefinitions``: reads of tables, columns, keys and relationships, and the writes of set-up (dataverse.md 10)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sandbox import filters
from sandbox.dataverse import faults
from sandbox.dataverse.addresses import Segment
from sandbox.dataverse.columns import add_column, bound, change_column, remove_column
from sandbox.dataverse.database import quoted
from sandbox.dataverse.definition_shapes import (
    BASE_PROPERTIES,
    Shape,
    class_name,
    column_shape,
    key_shape,
    option_set,
    relationship_shapes,
    table_shape,
)
from sandbox.dataverse.definitions import CHOICES, MULTI, Column, Key, Table, fixed_id
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Operation, Reply, json_reply
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.queries import Query, read_query, split_top_level
from sandbox.filters import And, Compare, Literal, Node, Not, Or, Path

_NAMESPACE = "Microsoft.Dynamics.CRM."
_SCHEMA_NAME = re.compile(r"[a-z][a-z0-9]{1,7}_\w+")
_ENUM = re.compile(r"Microsoft\.Dynamics\.CRM\.\w+'(\w+)'")
_CREATABLE = {"String", "Memo", "Integer", "Decimal", "Money", "Boolean", "DateTime", "Picklist", MULTI}


def answer_definitions(organization: Organization, operation: Operation, segments: Sequence[Segment]) -> Reply:
    """Answer an operation below ``EntityDefinitions``; single properties can't be patched (dataverse.md 10)."""
    if operation.method not in {"GET", "POST", "PUT", "DELETE"}:
        raise Fault(405, "0x0", f"Operation not supported on EntityMetadata: '{operation.method}'; PUT the whole definition.")
    if operation.method != "GET":
        return _change(organization, operation, segments)
    query = read_query(operation.query)
    context = f"{operation.root}/$metadata#EntityDefinitions"
    fresh = (operation.header("consistency") or "").lower() == "strong"
    if segments[0].key is None:
        shapes = [_table_shape(organization, table, fresh=fresh) for table in organization.tables.values()]
        return _collection(operation, query, context, shapes)
    table, _ = organization.shown(_table(organization, segments[0].key), fresh=fresh)
    rest = segments[1:]
    if not rest:
        shape = _expanded(organization, table, query, fresh=fresh)
        shown = {"@odata.context": f"{context}/$entity", **_selected(shape, query, "EntityMetadata")}
        return json_reply(shown, operation.preferences())
    context = f"{context}('{table.name}')/{rest[0].name}"
    if rest[0].name == "Attributes":
        return _attributes(operation, table, rest, context)
    if rest[0].name == "Keys":
        shapes = [key_shape(table, key, organization.now()) for key in table.keys]
        return _items(operation, query, context, rest, shapes)
    if rest[0].name == "ManyToOneRelationships":
        return _items(operation, query, context, rest, _relationships(organization, table))
    raise faults.unknown_segment(rest[0].name)


def _relationships(organization: Organization, table: Table) -> list[Shape]:
    return relationship_shapes(table, {name: other.primary_id for name, other in organization.tables.items()})


def _table_shape(organization: Organization, table: Table, *, fresh: bool) -> Shape:
    shown, tracked = organization.shown(table, fresh=fresh)
    settings = organization.switches.current
    versioned = "versionnumber" in table.columns and table.name not in settings.unversioned_tables
    return table_shape(shown, tracked=tracked, versioned=versioned)


def _table(organization: Organization, key: str) -> Table:
    match = re.fullmatch(r"LogicalName='(\w+)'", key)
    for table in organization.tables.values():
        if (match and table.name == match[1]) or fixed_id("table", table.name) == key.lower():
            return table
    raise Fault(404, "0x80060888", f"Could not find an entity with the key '{key}'.")


def _expanded(organization: Organization, table: Table, query: Query, *, fresh: bool) -> Shape:
    shape = _table_shape(organization, table, fresh=fresh)
    parts: Mapping[str, Callable[[], list[Shape]]] = {
        "Attributes": lambda: [column_shape(table, column) for column in table.columns.values()],
        "Keys": lambda: [key_shape(table, key, organization.now()) for key in table.keys],
        "ManyToOneRelationships": lambda: _relationships(organization, table),
    }
    for text in split_top_level(query.get("$expand") or ""):
        name, _, options = text.partition("(")
        if name not in parts:
            raise faults.unknown_property("EntityMetadata", name)
        found = dict(option.partition("=")[::2] for option in split_top_level(options.removesuffix(")"), ";"))
        inner = Query("", found, {})
        shape[name] = [_selected(item, inner, "AttributeMetadata") for item in _filtered(parts[name](), inner)]
    return shape


def _attributes(
    operation: Operation,
    table: Table,
    rest: Sequence[Segment],
    context: str,
) -> Reply:
    query = read_query(operation.query)
    cast = rest[-1].name.removeprefix(_NAMESPACE) if len(rest) == 2 else None
    if len(rest) > 2 or (cast is not None and not rest[-1].name.startswith(_NAMESPACE)):
        raise faults.unknown_segment(rest[-1].name)
    columns = list(table.columns.values())
    if cast is not None:
        columns = [column for column in columns if class_name(column) == cast]
    expands = {name.partition("(")[0] for name in split_top_level(query.get("$expand") or "")}
    unknown = expands - ({"OptionSet", "GlobalOptionSet"} if cast else set())
    if unknown:
        raise faults.unknown_property(cast or "AttributeMetadata", min(unknown))
    _check_selection(query, cast, columns, table)
    shapes = [_attribute(table, column, expands) for column in columns]
    return _items(operation, query, context, rest[:1], shapes)


def _attribute(table: Table, column: Column, expands: set[str]) -> Shape:
    shape = column_shape(table, column)
    if "OptionSet" in expands and column.type in {*CHOICES, MULTI, "Boolean"}:
        shape["OptionSet"] = option_set(table, column)
    if "GlobalOptionSet" in expands:
        shape["GlobalOptionSet"] = None
    return shape


def _check_selection(query: Query, cast: str | None, columns: Sequence[Column], table: Table) -> None:
    """Only properties of the base type can be selected without a cast."""
    known = set(BASE_PROPERTIES)
    if cast and columns:
        known |= set(column_shape(table, columns[0]))
    for name in split_top_level(query.get("$select") or ""):
        if name not in known:
            raise faults.unknown_property(cast or "AttributeMetadata", name)


def _items(operation: Operation, query: Query, context: str, rest: Sequence[Segment], shapes: list[Shape]) -> Reply:
    if rest[0].key is None:
        return _collection(operation, query, context, shapes)
    match = re.fullmatch(r"LogicalName='(\w+)'", rest[0].key)
    for shape in shapes:
        if (match and shape.get("LogicalName") == match[1]) or shape["MetadataId"] == rest[0].key.lower():
            shown = {"@odata.context": f"{context}/$entity", **_selected(shape, query, rest[0].name)}
            return json_reply(shown, operation.preferences())
    raise Fault(404, "0x80060888", f"Could not find an item of {rest[0].name} with the key '{rest[0].key}'.")


def _collection(operation: Operation, query: Query, context: str, shapes: Sequence[Shape]) -> Reply:
    value = [_selected(shape, query, "EntityMetadata") for shape in _filtered(shapes, query)]
    return json_reply({"@odata.context": context, "value": value}, operation.preferences())


def _selected(shape: Shape, query: Query, type_name: str) -> Shape:
    names = split_top_level(query.get("$select") or "")
    if not names:
        return shape
    kept = {"MetadataId", "@odata.type", "OptionSet", "GlobalOptionSet"} | set(names)
    kept |= {text.partition("(")[0] for text in split_top_level(query.get("$expand") or "")}
    for name in names:
        if name not in shape and name not in BASE_PROPERTIES:
            raise faults.unknown_property(type_name, name)
    return {name: value for name, value in shape.items() if name in kept}


def _filtered(shapes: Sequence[Shape], query: Query) -> list[Shape]:
    text = query.get("$filter")
    if text is None:
        return list(shapes)
    try:
        node = filters.parse(_ENUM.sub(r"'\1'", text))
    except filters.FilterError as error:
        raise faults.odata(str(error)) from error
    return [shape for shape in shapes if _holds(node, shape)]


def _holds(node: Node, shape: Shape) -> bool:
    match node:
        case And(parts=parts):
            return all(_holds(part, shape) for part in parts)
        case Or(parts=parts):
            return any(_holds(part, shape) for part in parts)
        case Not(part=part):
            return not _holds(part, shape)
        case Compare(op=("eq" | "ne") as operator, left=Path(parts=parts), right=Literal(value=value)):
            found: Any = shape
            for name in parts:
                if not isinstance(found, dict) or name not in found:
                    raise faults.unknown_property("EntityMetadata", name)
                found = found[name]
            return bool((found == value) == (operator == "eq"))
        case _:
            raise faults.odata("Metadata can be filtered by eq and ne only.")


def _change(organization: Organization, operation: Operation, segments: Sequence[Segment]) -> Reply:
    if segments[0].key is None:
        raise Fault(501, "0x80040203", "This organisation creates no tables.")
    table = _table(organization, segments[0].key)
    match [segment.name for segment in segments[1:]], operation.method:
        case [], "PUT":
            return _put_table(organization, operation, table)
        case ["Attributes"], "POST":
            return _add_column(organization, operation, table)
        case ["Attributes"], "PUT":
            name = _column_of(table, segments[1].key)
            change_column(organization, table, name, operation.json("EntityDefinitions"))
            return Reply(204)
        case ["Attributes"], "DELETE":
            remove_column(organization, table, _column_of(table, segments[1].key), custom_only=True)
            return Reply(204)
        case ["Keys"], "POST":
            return _add_key(organization, operation, table)
        case ["Keys"], "DELETE":
            kept = tuple(key for key in table.keys if fixed_id("key", table.name, key.name) != segments[1].key)
            organization.redefine(table.with_keys(kept))
            return Reply(204)
        case _:
            raise Fault(405, "0x0", f"The requested resource does not support http method '{operation.method}'.")


def _column_of(table: Table, key: str | None) -> str:
    match = re.fullmatch(r"LogicalName='(\w+)'", key or "")
    for column in table.columns.values():
        if (match and column.name == match[1]) or fixed_id("column", table.name, column.name) == (key or "").lower():
            return column.name
    raise Fault(404, "0x80060888", f"Could not find an item of Attributes with the key '{key}'.")


def _put_table(organization: Organization, operation: Operation, table: Table) -> Reply:
    body = operation.json("EntityDefinitions")
    if body.get("LogicalName") != table.name:
        raise faults.invalid_argument("PUT needs the whole definition of the table, as it was read.")
    tracked = set(organization.switches.current.tracked_tables)
    if body.get("ChangeTrackingEnabled") is False and table.name in tracked:
        raise faults.invalid_argument(f"Change tracking of '{table.name}' can't be disabled once it is enabled.")
    if body.get("ChangeTrackingEnabled") is True:
        if table.name not in tracked:
            organization.outdate(table)
        organization.switches.update({"tracked_tables": tracked | {table.name}})
    return Reply(204)


def _add_column(organization: Organization, operation: Operation, table: Table) -> Reply:
    body = operation.json("EntityDefinitions")
    schema_name = str(body.get("SchemaName", ""))
    kind = str(body.get("@odata.type", "")).removeprefix("#").removeprefix(_NAMESPACE).removesuffix("AttributeMetadata")
    name = schema_name.lower()
    if not _SCHEMA_NAME.fullmatch(schema_name):
        raise faults.invalid_argument(
            f"The schema name {schema_name} for type Attribute is invalid or missing; it must start with a valid "
            "customization prefix of its solution's publisher.",
        )
    if kind not in _CREATABLE:
        raise faults.invalid_argument(f"'@odata.type' got '{kind}', allowed {', '.join(sorted(_CREATABLE))}.")
    if name in table.columns:
        raise Fault(400, "0x80047013", f"An attribute with the specified name {name} already exists for entity {table.name}.")
    behavior = body.get("DateTimeBehavior", {}).get("Value")
    options = _options(body.get("OptionSet") or {})
    if kind in {"Picklist", MULTI} and not options:
        raise faults.invalid_argument(f"A new column of type {kind} needs an OptionSet with Options.")
    column = Column(
        name,
        schema_name,
        "DateOnly" if behavior == "DateOnly" else kind,
        max_length=body.get("MaxLength", 100 if kind == "String" else None),
        minimum=bound(body.get("MinValue")),
        maximum=bound(body.get("MaxValue")),
        precision=body.get("Precision"),
        format=body.get("Format"),
        options=options if kind in {"Picklist", MULTI} else {},
        custom=True,
    )
    add_column(organization, table, column)
    delay = organization.switches.current.customization_delay_seconds
    organization.visible_at[table.name, name] = organization.now() + delay
    return _created(operation, table, "Attributes", fixed_id("column", table.name, name))


def answer_relationships(organization: Organization, operation: Operation) -> Reply:
    """Create a lookup: a one-to-many relationship with the lookup inside; its navigation property has the schema name's case."""
    if operation.method != "POST":
        raise Fault(405, "0x0", f"The requested resource does not support http method '{operation.method}'.")
    body = operation.json("RelationshipDefinitions")
    schema_name = str((body.get("Lookup") or {}).get("SchemaName", ""))
    table = organization.tables.get(str(body.get("ReferencingEntity")))
    target = organization.tables.get(str(body.get("ReferencedEntity")))
    if table is None or target is None or not _SCHEMA_NAME.fullmatch(schema_name) or schema_name.lower() in table.columns:
        raise faults.invalid_argument(
            "A relationship needs ReferencedEntity, ReferencingEntity and a Lookup with a new, prefixed SchemaName."
        )
    name = schema_name.lower()
    column = Column(name, schema_name, "Lookup", targets=(target.name,), navigation={target.name: schema_name}, custom=True)
    add_column(organization, table, column)
    organization.visible_at[table.name, name] = organization.now() + organization.switches.current.customization_delay_seconds
    item_id = fixed_id("relationship", str(body.get("SchemaName")))
    return Reply(204, {"OData-EntityId": f"{operation.root}/RelationshipDefinitions({item_id})"})


def _options(option_set: Mapping[str, Any]) -> dict[int, str]:
    labels = {int(option["Value"]): option["Label"]["LocalizedLabels"] for option in option_set.get("Options", ())}
    return {value: str(texts[0]["Label"]) for value, texts in labels.items()}


def _created(operation: Operation, table: Table, part: str, item_id: str) -> Reply:
    address = f"{operation.root}/EntityDefinitions(LogicalName='{table.name}')/{part}({item_id})"
    return Reply(204, {"OData-EntityId": address})


def _add_key(organization: Organization, operation: Operation, table: Table) -> Reply:
    body = operation.json("EntityDefinitions")
    schema_name, columns = str(body.get("SchemaName", "")), tuple(body.get("KeyAttributes", ()))
    name = schema_name.lower()
    if not columns or not set(columns) <= set(table.columns):
        raise faults.invalid_argument(f"KeyAttributes got {list(columns)}, allowed are columns of '{table.name}'.")
    if any(key.name == name for key in table.keys):
        raise Fault(400, "0x80060893", f"An entity key with the name {name} already exists on entity {table.name}.")
    if any(set(key.columns) == set(columns) for key in table.keys):
        raise Fault(400, "0x80060894", "An entity key with the same attributes already exists.")
    active_at = organization.now() + organization.switches.current.customization_delay_seconds
    key = Key(name, schema_name, columns, _index_status(organization, table, columns), active_at)
    organization.redefine(table.with_keys((*table.keys, key)))
    organization.database.index_key(table, name, columns)
    return _created(operation, table, "Keys", fixed_id("key", table.name, name))


def _index_status(organization: Organization, table: Table, columns: Sequence[str]) -> str:
    """An index over rows that are not unique fails; rows with an empty key column do not count."""
    parts = ", ".join(f"fold({quoted(column)})" for column in columns)
    filled = " AND ".join(f"{quoted(column)} IS NOT NULL" for column in columns)
    sql = f"SELECT 1 FROM {quoted(table.name)} WHERE {filled} GROUP BY {parts} HAVING COUNT(*) > 1 LIMIT 1"
    return "Failed" if organization.database.query(sql) else "Active"


def publish(organization: Organization) -> None:
    """Publish customizations: new columns can be used at once."""
    organization.visible_at.clear()


def reactivate_key(organization: Organization, table_name: str, key_name: str) -> None:
    """Build the index of a failed key again; refused for keys in another state (dataverse.md 10)."""
    table = organization.tables.get(table_name)
    key = next((key for key in table.keys if key.name == key_name), None) if table else None
    if table is None or key is None:
        raise faults.invalid_argument(f"The table '{table_name}' has no key '{key_name}'.")
    if key.status != "Failed":
        raise Fault(400, "0x80060897", "Only a failed entity key index can be reactivated.")
    renewed = replace(key, status=_index_status(organization, table, key.columns))
    others = tuple(renewed if other is key else other for other in table.keys)
    organization.redefine(table.with_keys(others))
