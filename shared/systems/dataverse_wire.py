"""Dataverse requests as data and rows as records; no I/O. The facts are those of dataverse.md 2 to 6."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from shared.core.errors import Rejected, TandemError
from shared.core.records import (
    Change,
    Column,
    ColumnType,
    Row,
    Scalar,
    Stamp,
    Value,
    Write,
    WriteKind,
    is_guid,
    normalise,
    path_of,
    read_time,
)
from shared.systems.dataverse_errors import SYSTEM, About
from shared.systems.dataverse_tables import LOOKUP_ANNOTATION, Attribute, Behind, Table
from shared.systems.odata import Part, identifier, in_list, literal, to_json

HEADERS = {
    "Accept": "application/json",
    "OData-MaxVersion": "4.0",
    "OData-Version": "4.0",
    "If-None-Match": "null",  # the word: it keeps intermediate caches out (dataverse.md 2)
}
MODIFIED_ON = "modifiedon"
MODIFIED_BY = "modifiedby"
MERGE_COLUMNS = ("merged", "masterid")
"""What tells that a row was merged into another; few tables have them."""
STATE = "statecode"
STATUS = "statuscode"
_BORN_OTHERWISE = frozenset({"product"})
"""Tables whose new rows may not be active: a product may be a draft, by a setting of the organisation (dataverse.md 9)."""
_INCLUDE_TARGETS = f'odata.include-annotations="{LOOKUP_ANNOTATION}"'
_BY_IN = frozenset({ColumnType.TEXT, ColumnType.ID, ColumnType.INTEGER, ColumnType.CHOICE})


@dataclass(frozen=True)
class Targets:
    """Where lookups lead: the set name of each table, and the table of each id that could be in several."""

    sets: Mapping[str, str]
    tables: Mapping[str, str]


# --- reading ----------------------------------------------------------------------------------------------------------------


def select(table: Table, names: Collection[str]) -> str:
    """Return the `$select` of the named columns, the key, and who changed the row when; paths are expanded (dataverse.md 3)."""
    known = [table.attributes[name] for name in names]
    wire = {table.definition.id_column, MODIFIED_ON, *(one.read_name for one in known if one.behind is None)}
    wire.update(one.behind.lookup.read_name for one in known if one.behind is not None)
    if names and _can_be_merged(table):
        wire.update(table.attributes[name].read_name for name in MERGE_COLUMNS)
    if MODIFIED_BY in table.attributes:
        wire.add(table.attributes[MODIFIED_BY].read_name)
    return "$select=" + ",".join(sorted(wire)) + _expand([one.behind for one in known if one.behind is not None])


def _expand(paths: Sequence[Behind]) -> str:
    ends: dict[str, list[str]] = {}
    for path in paths:
        ends.setdefault(identifier(path.navigation), []).append(path.end.read_name)
    expanded = ",".join(f"{navigation}($select={','.join(names)})" for navigation, names in ends.items())
    return f"&$expand={expanded}" if expanded else ""


def preferences(table: Table, names: Collection[str], *others: str) -> str:
    """Return the `Prefer` header; the target of a split lookup is known from its annotation only (dataverse.md 3)."""
    known = [table.attributes[name] for name in names]
    splits = any((one.behind.lookup if one.behind else one).only for one in known)
    return ",".join([*others, _INCLUDE_TARGETS] if splits else others)


def exists_part(table: Table, record_id: str, path: str) -> Part:
    """Return the request for one row by its id, with nothing but its key."""
    headers = {"Accept": "application/json"}
    return Part("GET", f"{path}/{table.definition.set_name}({record_id})?$select={table.definition.id_column}", headers)


def by_ids(table: Table, names: Collection[str], ids: Iterable[str]) -> str:
    """Return the query of rows by id."""
    return f"{table.definition.set_name}?{select(table, names)}&$filter={_in(table.definition.id_column, ids)}"


def by_values(table: Table, names: Collection[str], column: str, values: Iterable[str]) -> str:
    """Return the query of rows whose lookup or text is one of some values."""
    return f"{table.definition.set_name}?{select(table, names)}&$filter={_in(column, values)}"


def by_keys(table: Table, names: Collection[str], keys: Sequence[Mapping[str, Value]]) -> str:
    """Return the query of rows whose columns equal any of the keys: `In` for one column of text or number, else or-of-ands."""
    columns = {column for key in keys for column in key}
    start = f"{table.definition.set_name}?{select(table, names)}&$filter="
    if len(columns) == 1:
        attribute = table.attributes[next(iter(columns))]
        values = [_scalar(value, attribute) for key in keys for value in key.values()]
        plain = attribute.behind is None and all(value is not None and str(value).isprintable() for value in values)
        if attribute.column.type in _BY_IN and plain:  # line breaks are safer as a percent-encoded literal than as a JSON escape
            return start + _in(attribute.read_name, dict.fromkeys(str(value) for value in values))
    return start + "%20or%20".join("(" + "%20and%20".join(_equals(table.attributes[n], v) for n, v in key.items()) + ")" for key in keys)


def fits(key: Mapping[str, Value], table: Table) -> bool:
    """Tell whether a key's columns exist and its values have their types; one that hasn't equals nothing there.

    Raises Rejected `bad_request` naming the column whose text no URL can hold (half a surrogate pair).
    """
    if not all(name in table.attributes for name in key):
        return False
    for name, value in key.items():
        try:
            _scalar(value, table.attributes[name])
            str(value).encode()
        except UnicodeEncodeError:
            said = "a text with half a surrogate pair can't be looked for"
            raise Rejected(f"{SYSTEM}.bad_request", said, system=SYSTEM, entity=table.definition.name, field=name) from None
        except ValueError:
            return False
    return True


def _in(wire_name: str, texts: Iterable[str]) -> str:
    return f"Microsoft.Dynamics.CRM.In(PropertyName='{wire_name}',PropertyValues={in_list(texts)})"


def _equals(attribute: Attribute, value: Value) -> str:
    wire = _scalar(value, attribute)
    as_text = attribute.column.type is ColumnType.TEXT
    return f"{attribute.read_name}%20eq%20{literal(wire, as_text=as_text)}"


def row_of(raw: Mapping[str, Any], table: Table, names: Collection[str], our_user: str) -> Row:
    """Read one row; raises Rejected `bad_row` naming the column that is missing or of another type."""
    change = change_of(raw, table)
    if change.stamp is None:
        raise _bad_row(table, change.id, MODIFIED_ON, "it has no time of change")
    values = {name: _read(raw, table, change.id, name) for name in names}
    elsewhere = frozenset(name for name in names if table.attributes[name].only and values[name] is None and _id_in(raw, table, name))
    by = raw.get(f"_{MODIFIED_BY}_value")
    ours = isinstance(by, str) and by.lower() == our_user
    return Row(change.id, change.stamp, values, changed_by_us=ours, merged_into=_merged_into(raw, table), elsewhere=elsewhere)


def _can_be_merged(table: Table) -> bool:
    return all(name in table.attributes for name in MERGE_COLUMNS)


def _merged_into(raw: Mapping[str, Any], table: Table) -> str:
    if not _can_be_merged(table) or raw.get("merged") is not True:
        return ""
    master = raw.get(table.attributes["masterid"].read_name)
    return master.lower() if isinstance(master, str) else ""


def change_of(raw: Mapping[str, Any], table: Table) -> Change:
    """Read a row of a change feed; a deletion counts only when its reason says so. Raises Rejected `bad_row`."""
    if str(raw.get("@odata.context", "")).endswith("/$deletedEntity"):
        found = str(raw.get("id", "")).rpartition("(")[2].rstrip(")").lower()
        if not is_guid(found):
            raise _bad_row(table, "", "id", "a deletion without an id")
        return Change(found, None, deleted=raw.get("reason") == "deleted")
    key = raw.get(table.definition.id_column)
    if not isinstance(key, str) or not is_guid(key):
        raise _bad_row(table, "", table.definition.id_column, "a row without an id")
    etag = raw.get("@odata.etag")
    if not isinstance(etag, str) or not etag:
        raise _bad_row(table, key.lower(), "@odata.etag", "a row without a version")
    try:
        moment = read_time(raw.get(MODIFIED_ON))
    except ValueError as problem:
        raise _bad_row(table, key.lower(), MODIFIED_ON, str(problem)) from None
    return Change(key.lower(), Stamp(moment, etag))


def _read(raw: Mapping[str, Any], table: Table, record_id: str, name: str) -> Value:
    attribute = table.attributes[name]
    if attribute.behind is not None:
        return _read_behind(raw, table, record_id, name, attribute.behind)
    wire_name = attribute.read_name
    if wire_name not in raw:
        raise _bad_row(table, record_id, name, "the column is missing from the row")
    value = _normal(raw[wire_name], table, record_id, attribute.column)
    if attribute.only and value is not None:
        target = raw.get(f"{wire_name}@{LOOKUP_ANNOTATION}")
        if not isinstance(target, str):
            raise _bad_row(table, record_id, name, "the lookup does not tell its table")
        return value if target == attribute.only else None
    return value


def _read_behind(raw: Mapping[str, Any], table: Table, record_id: str, name: str, path: Behind) -> Value:
    """Read the end of a path: empty only where its lookup is, for a row that is not shown says nothing about its columns."""
    if _read(raw, table, record_id, path.lookup.column.name) is None:
        return None
    there = raw.get(path.navigation)
    if not isinstance(there, Mapping) or path.end.read_name not in there:
        raise _bad_row(table, record_id, name, "the row that it stands in is not shown")
    return _normal(there[path.end.read_name], table, record_id, table.attributes[name].column)


def _normal(raw: Any, table: Table, record_id: str, column: Column) -> Scalar:
    try:
        return normalise(raw, column, side_without_null=False)
    except ValueError as problem:
        text = str(problem) if "got" in str(problem)[:4] else "the value does not fit its type"
        raise _bad_row(table, record_id, column.name, text) from None


def _id_in(raw: Mapping[str, Any], table: Table, name: str) -> bool:
    return raw[table.attributes[name].read_name] is not None


def _bad_row(table: Table, record_id: str, column: str, said: str) -> TandemError:
    return Rejected(f"{SYSTEM}.bad_row", said, system=SYSTEM, entity=table.definition.name, record_id=record_id, field=column)


def folded(value: Value) -> Value:
    """Return a value as the server compares it, or looser: case, accents, trailing blanks and kinds of line end don't count."""
    if not isinstance(value, str):
        return value
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", value) if not unicodedata.combining(letter))
    return bare.casefold().replace("\r\n", "\n").replace("\r", "\n").rstrip()


# --- writing ----------------------------------------------------------------------------------------------------------------


def read_columns(write: Write, table: Table) -> tuple[str, ...]:
    """Return the columns that the row after a write holds: those written, seen by the plan or asked for, if the table has them."""
    return tuple(name for name in named_columns(write) if name in table.attributes and table.attributes[name].behind is None)


def with_paths(row: Row, write: Write) -> Row:
    """Return a row with what the plan saw behind its lookups: the answer to a write does not show it, and the write is no part of it."""
    paths = {name: value for name, value in write.seen.values.items() if path_of(name)} if write.seen else {}
    return replace(row, values={**row.values, **paths}) if paths else row


def moves_paths(write: Write) -> bool:
    """Tell whether a write may set the lookup of a path that the plan saw: what is behind it then only another read tells."""
    begins = {path[0] for name in (write.seen.values if write.seen else ()) if (path := path_of(name))}
    return not begins.isdisjoint(write.values)


def with_columns(row: Row, names: Collection[str]) -> Row:
    """Return a row with the named columns only, those that it holds."""
    return replace(row, values={name: row.values[name] for name in names if name in row.values}, elsewhere=row.elsewhere & set(names))


def named_columns(write: Write) -> tuple[str, ...]:
    """Return the columns that a write names."""
    return tuple(dict.fromkeys([*write.values, *(write.seen.values if write.seen else ()), *write.told]))


def write_parts(write: Write, table: Table, targets: Targets, path: str) -> tuple[Part, ...]:
    """Return the operations of one write; two of them are one change set. None are needed for an update without values.

    An update always carries `If-Match`: without it a PATCH would re-create a deleted row (dataverse.md 5).
    Raises Rejected for a value that does not fit its column, and for a column that is unknown or can't be written.
    """
    _check(write, table)
    row = f"{path}/{table.definition.set_name}({write.id})"
    match = {"If-Match": (write.seen.stamp.version if write.seen else "") or "*"}
    if write.kind is WriteKind.DELETE:
        return (Part("DELETE", row, {"Accept": "application/json", **match}),)
    query = "?" + select(table, read_columns(write, table))
    headers = {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "OData-Version": "4.0",
        "Prefer": preferences(table, read_columns(write, table), "return=representation"),
    }
    if write.kind is WriteKind.UPDATE:
        if not write.values:
            return ()
        return (Part("PATCH", row + query, {**headers, **match}, to_json(_body(write, write.values, table, targets))),)
    at_once, later = _split_create(write, table)
    body = {table.definition.id_column: write.id, **_body(write, at_once, table, targets)}
    parts = [Part("POST", f"{path}/{table.definition.set_name}{query}", headers, to_json(body))]
    if later:
        update = to_json(_body(write, later, table, targets))
        parts.append(Part("PATCH", row + query, {**headers, "If-Match": "*"}, update))
    return tuple(parts)


def create_target(write: Write, table: Table, targets: Targets) -> dict[str, Any] | None:
    """Return a new row as `CreateMultiple` takes it, None when it takes more than one operation (dataverse.md 6.2).

    Raises Rejected as `write_parts` does.
    """
    _check(write, table)
    at_once, later = _split_create(write, table)
    if later:
        return None
    kind = {"@odata.type": f"Microsoft.Dynamics.CRM.{table.definition.name}"}
    return {**kind, table.definition.id_column: write.id, **_body(write, at_once, table, targets)}


def body_of(write: Write, table: Table, targets: Targets) -> dict[str, Any]:
    """Return the body that says a write's values; raises Rejected as `write_parts` does."""
    _check(write, table)
    return _body(write, write.values, table, targets)


def _check(write: Write, table: Table) -> None:
    """Raise Rejected for an id that is none, a column that is unknown, and a lookup that leads elsewhere."""
    if not is_guid(write.id):
        raise _refused(write, table, "", "dataverse.bad_request", "the id is no guid")
    for name, value in write.values.items():
        if name not in table.attributes:
            raise _refused(write, table, name, "dataverse.unknown_column", "the column is not in the metadata")
        if value is not None and write.seen is not None and name in write.seen.elsewhere:
            raise _refused(write, table, name, "dataverse.refused", "the lookup leads to a record of another table; clear it there first")


def _split_create(write: Write, table: Table) -> tuple[dict[str, Value], dict[str, Value]]:
    """Return what the POST may say and what a PATCH must say after it; a state goes with its status (dataverse.md 5)."""
    filled = {name: value for name, value in write.values.items() if value is not None}
    late = {name for name in filled if not table.attributes[name].column.creatable}
    if filled.get(STATE) == 0 and table.definition.name not in _BORN_OTHERWISE:
        late.discard(STATE)
        del filled[STATE]  # a new row is active anyway
    elif STATE in late and STATUS in filled:
        late.add(STATUS)
    return {n: v for n, v in filled.items() if n not in late}, {n: v for n, v in filled.items() if n in late}


def _body(write: Write, values: Mapping[str, Value], table: Table, targets: Targets) -> dict[str, Any]:
    body: dict[str, Any] = {}
    filled_lookups = {table.attributes[name].logical for name, value in values.items() if value is not None}
    for name, value in values.items():
        attribute = table.attributes[name]
        column = attribute.column
        if not column.updatable and not (write.kind is WriteKind.CREATE and column.creatable):
            raise _refused(write, table, name, "dataverse.bad_request", "the column can't be written")
        try:
            scalar = _scalar(value, attribute)
        except ValueError as problem:
            raise _refused(write, table, name, "mapping.value_type", str(problem)) from None
        if column.type is not ColumnType.LOOKUP:
            body[attribute.logical] = scalar
        elif scalar is not None:
            body.update(_bind(write, table, name, str(scalar), targets))
        elif not (attribute.only and attribute.logical in filled_lookups):  # its twin sets the same lookup
            body.update(dict.fromkeys((f"{navigation}@odata.bind" for navigation in attribute.navigation.values()), None))
    return body


def _bind(write: Write, table: Table, name: str, target_id: str, targets: Targets) -> dict[str, str]:
    attribute = table.attributes[name]
    target = attribute.only or targets.tables.get(target_id) or next(iter(possible_targets(attribute)), "")
    navigation = attribute.navigation_to(target)
    set_name = targets.sets.get(target)
    if navigation is None or set_name is None:
        raise _refused(write, table, name, "dataverse.unknown_column", "the metadata names no navigation property for it")
    return {f"{navigation}@odata.bind": f"/{set_name}({target_id})"}


def possible_targets(attribute: Attribute) -> tuple[str, ...]:
    """Return the tables that a lookup may lead to; an owner is taken for a user (Tandem never assigns to teams)."""
    if attribute.only:
        return (attribute.only,)
    if attribute.kind == "owner":
        return ("systemuser",)
    return attribute.column.targets or tuple(attribute.navigation)


def _scalar(value: Value, attribute: Attribute) -> Scalar:  # noqa: PLR0911 - one line a type reads best
    """Return a normal value as the column's wire type wants it; raises ValueError when it does not fit (nothing is guessed)."""
    if value is None:
        return None
    type_ = attribute.column.type
    match value:
        case bool() if type_ is ColumnType.BOOLEAN:
            return value
        case int() if type_ in (ColumnType.INTEGER, ColumnType.CHOICE, ColumnType.DECIMAL) and not isinstance(value, bool):
            return value
        case Decimal() if type_ is ColumnType.DECIMAL:
            return value
        case Decimal() if type_ is ColumnType.INTEGER and value == int(value):
            return int(value)
        case datetime() if type_ in (ColumnType.DATETIME, ColumnType.DATE):
            return value if type_ is ColumnType.DATETIME else value.astimezone(UTC).date()
        case date() if type_ in (ColumnType.DATETIME, ColumnType.DATE):
            return value if type_ is ColumnType.DATE else datetime.combine(value, time(), UTC)
        case str() if type_ is ColumnType.TEXT or (type_ in (ColumnType.ID, ColumnType.LOOKUP) and is_guid(value)):
            return value
        case _:
            raise ValueError(f"got {type(value).__name__}, allowed {type_.value}")


def _refused(write: Write, table: Table, name: str, code: str, said: str) -> TandemError:
    return Rejected(code, said, system=SYSTEM, entity=table.definition.name, record_id=write.id, field=name)


def about(write: Write, table: Table) -> About:
    """Return what an error text of this write may speak of."""
    columns: dict[str, str] = {}
    for name in write.values:
        attribute = table.attributes[name]
        for wire in (name, attribute.logical, attribute.read_name, *attribute.navigation.values()):
            columns.setdefault(wire, name)
    values = {name: _wire_text(value) for name, value in write.values.items()}
    return About(table.definition.name, write.id, values, columns, creates=write.kind is WriteKind.CREATE)


def _wire_text(value: Value) -> Any:
    return literal(value) if isinstance(value, (date, datetime, Decimal)) else value
