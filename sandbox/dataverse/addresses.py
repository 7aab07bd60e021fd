"""Addresses of rows: path segments with keys, primary and alternate keys, values of ``@odata.bind``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from sandbox.dataverse import faults, values
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.values import Stored

API_ROOT = re.compile(r"^(?:https?://[^/]+)?/api/data/v9\.[0-2](?:/|$)")
_UNUSABLE = re.compile(r"[/<>*%&:\\?+]")
_SEGMENT = re.compile(r"(?P<name>[^(]+)(?:\((?P<key>.*)\))?", re.DOTALL)
_PAIR = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>'(?:[^']|'')*'|[^,']+)\s*(?:,|$)")


@dataclass(frozen=True)
class Segment:
    """One part of a path: ``accounts(<key>)`` has a key, ``accounts`` and ``accounts()`` have none."""

    name: str
    key: str | None = None


@dataclass(frozen=True)
class RowKey:
    """How a row is addressed: by its id, or by the values of an alternate key (``row_id`` is None then)."""

    row_id: str | None
    alternate: Mapping[str, Stored]


def split_path(path: str) -> list[Segment]:
    """Split a decoded path below the API root into segments; a slash between quotes separates nothing."""
    parts = re.findall(r"(?:[^/']|'(?:[^']|'')*')+", path)
    segments = []
    for part in parts:
        match = _SEGMENT.fullmatch(part)
        if match is None:
            raise faults.unknown_segment(part)
        segments.append(Segment(match["name"], match["key"] or None))
    return segments


def read_key(organization: Organization, table: Table, text: str) -> RowKey:
    """Read what stands between the parentheses of a key (dataverse.md 3); raise for keys that are not defined."""
    bare = values.guid(text)
    if bare is not None:
        return RowKey(bare, {})
    pairs: dict[str, Stored] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            raise faults.odata(f"Bad Request - Error in query syntax: the key '({text})' can't be read.")
        name, value = _key_value(table, match["name"], match["value"].strip())
        pairs[name] = value
        at = match.end()
    if set(pairs) == {table.primary_id}:
        return RowKey(str(pairs[table.primary_id]), {})
    now = organization.now()
    for key in table.keys:
        if set(key.columns) == set(pairs) and key.status == "Active" and now >= key.active_at:
            return RowKey(None, pairs)
    raise faults.key_not_defined(table.name)


def _key_value(table: Table, name: str, text: str) -> tuple[str, Stored]:
    column = table.by_wire_name.get(name)
    if column is None:
        raise faults.unknown_property(table.name, name)
    if text.startswith("'"):
        value: Stored = text[1:-1].replace("''", "'")
        if column.type not in {"String", "Memo"}:
            value = None
        elif _UNUSABLE.search(str(value)):
            raise faults.odata("A potentially dangerous Request.Path value was detected from the client.")
    elif column.lookup or column.type == "Uniqueidentifier":
        value = values.guid(text)
    elif column.type in {"DateTime", "DateOnly"}:
        value = values.read_time(text) or values.read_date(text)
    else:
        value = int(text) if re.fullmatch(r"-?\d+", text) and column.type != "String" else None
    if value is None:
        raise faults.odata(f"Error in query syntax: {text} is no value of the key property '{name}'.")
    return column.name, value


def find(organization: Organization, table: Table, key: RowKey) -> str | None:
    """Return the id of the row a key addresses, or None when there is none."""
    if key.row_id is not None:
        return key.row_id if organization.database.get(table, key.row_id) else None
    found = organization.database.find_by_values(table, key.alternate)
    return str(found[0][table.primary_id]) if found else None


def missing(table: Table, key: RowKey) -> faults.Fault:
    """Build the 404 for a key that no row has."""
    return faults.missing_by_key(table.name) if key.row_id is None else faults.missing_row(table.name, key.row_id)


def bound_row(organization: Organization, entity_set: str, nav: str, targets: Mapping[str, str], value: object) -> tuple[str, str]:
    """Resolve the value of ``<nav>@odata.bind`` to (table, row id): relative, absolute, by id or alternate key.

    `targets` maps the entity sets that the navigation property takes to table names.
    """
    if not isinstance(value, str):
        raise faults.payload(entity_set, f"The value of '{nav}@odata.bind' must be the address of a row.")
    relative = API_ROOT.sub("", value).lstrip("/")
    segments = split_path(unquote(relative))
    if len(segments) != 1 or segments[0].key is None:
        raise faults.payload(entity_set, f"Microsoft.OData.ODataException: Invalid URI: '{value}' addresses no row.")
    table_name = targets.get(segments[0].name)
    if table_name is None:
        organization.table_of_set(segments[0].name)
        allowed = ", ".join(sorted(targets)) or "none that this organisation has"
        raise faults.payload(entity_set, f"'{value}' can't be bound to '{nav}', which takes rows of {allowed}.")
    table = organization.tables[table_name]
    key = read_key(organization, table, segments[0].key)
    row_id = find(organization, table, key)
    if row_id is None:
        raise missing(table, key)
    return table_name, row_id
