"""Routes an operation to what it addresses: functions, collections, rows, properties, references (dataverse.md 2-5)."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from sandbox.dataverse import addresses, faults, functions
from sandbox.dataverse.addresses import RowKey, Segment
from sandbox.dataverse.bulk import BULK_MESSAGES, run_bulk
from sandbox.dataverse.conversions import ACTIONS, BOUND
from sandbox.dataverse.database import quoted
from sandbox.dataverse.definitions import Column, Table, collections
from sandbox.dataverse.delta import ChangeReader
from sandbox.dataverse.entity_definitions import answer_definitions, answer_relationships
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Operation, Reply, error_reply, json_reply
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.privileges import check_privilege
from sandbox.dataverse.queries import read_cookie, read_query
from sandbox.dataverse.reads import Reader
from sandbox.dataverse.rendering import etag
from sandbox.dataverse.values import decode
from sandbox.dataverse.writes import Writer, writer_for

MAX_URL = 32_768
_VERBS = {"GET": "Read", "POST": "Create", "PATCH": "Write", "PUT": "Write", "DELETE": "Delete"}
_MESSAGE_PREFIX = "Microsoft.Dynamics.CRM."


def _posted(action: Callable[[Organization, Operation], Reply]) -> Callable[[Organization, Operation, Segment], Reply]:
    def run(organization: Organization, operation: Operation, _segment: Segment) -> Reply:
        functions.only(operation, "POST")
        return action(organization, operation)

    return run


_UNBOUND = {**functions.UNBOUND, **{name: _posted(action) for name, action in ACTIONS.items()}}


def perform(organization: Organization, operation: Operation, max_url: int = MAX_URL) -> Reply:
    """Perform one operation; a fault becomes its error reply, and nothing of a failed operation stays."""
    if operation.method == "GET" and len(operation.root) + len(operation.path) + len(operation.query) > max_url:
        return error_reply(Fault(414, "0x0", f"The request URL is longer than {max_url} characters."))
    try:
        with organization.database.transaction():
            return _route(organization, operation)
    except Fault as fault:
        return error_reply(fault, operation)


def _route(organization: Organization, operation: Operation) -> Reply:
    segments = addresses.split_path(unquote(operation.path))
    if not segments:
        return functions.service_document(organization, operation)
    first = segments[0]
    if first.name == "EntityDefinitions":
        return answer_definitions(organization, operation, segments)
    if first.name == "RelationshipDefinitions":
        return answer_relationships(organization, operation)
    unbound = _UNBOUND.get(first.name)
    if unbound is not None and len(segments) == 1:
        return unbound(organization, operation, first)
    table = organization.table_of_set(first.name)
    check_privilege(organization, table, _VERBS.get(operation.method, "Read"), operation.user_id)
    target = _Target(organization, operation, table)
    if first.key is None:
        return target.collection(segments[1:])
    key = addresses.read_key(organization, table, first.key)
    return target.row(key, segments[1:])


def _not_allowed(operation: Operation) -> Fault:
    message = f"The requested resource does not support http method '{operation.method}'."
    return Fault(405, "0x0", message)


@dataclass(frozen=True)
class _Target:
    """One operation on one table."""

    organization: Organization
    operation: Operation
    table: Table

    @property
    def writer(self) -> Writer:
        return writer_for(self.organization, self.operation)

    @property
    def reader(self) -> Reader:
        operation = self.operation
        return Reader(self.organization, operation.root, operation.preferences(), operation.staleness)

    def address(self, row_id: str) -> str:
        return f"{self.operation.root}/{self.table.entity_set}({row_id})"

    def collection(self, rest: Sequence[Segment]) -> Reply:
        match [segment.name for segment in rest], self.operation.method:
            case [], "GET":
                return self._page()
            case [], "POST":
                return self._create()
            case ["$count"], "GET":
                return self._count()
            case [str(name)], "POST" if name.removeprefix(_MESSAGE_PREFIX) in BULK_MESSAGES:
                return run_bulk(self.organization, self.operation, self.table, name.removeprefix(_MESSAGE_PREFIX))
            case [str(name), *_], _:
                raise faults.unknown_segment(name)
            case _:
                raise _not_allowed(self.operation)

    def _page(self) -> Reply:
        query, reader = read_query(self.operation.query), self.reader
        token = query.get("$skiptoken") or ""
        if query.get("$deltatoken"):
            body = ChangeReader(reader, self.operation.repeated_delta).follow(self.table, query)
        elif 'istracking="True"' in token and self._still_tracked(token):
            body = ChangeReader(reader, self.operation.repeated_delta).continue_changes(self.table, query)
        elif reader.preferences.track_changes:
            body = ChangeReader(reader).start(self.table, query)
        else:
            body = reader.page(self.table, query)
        return json_reply(body, reader.preferences)

    def _still_tracked(self, token: str) -> bool:
        """Tell whether a nextLink goes on with tracking: without `Prefer` a first read may lose it (dataverse.md 14)."""
        carried = self.organization.switches.current.tracked_next_links == "carry"
        return carried or self.operation.preferences().track_changes or "since" in read_cookie(token).state

    def _count(self) -> Reply:
        query = read_query(self.operation.query)
        if query.get("$deltatoken"):
            number = ChangeReader(self.reader).count(self.table, query)
        else:
            number = self.reader.filtered_count(self.table, query)
        return Reply(200, {"Content-Type": "text/plain"}, str(number).encode())

    def _create(self) -> Reply:
        row_id = self.writer.create(self.table, self.operation.json(self.table.entity_set))
        return self._written(row_id, self.address(row_id), created=True, location=True)

    def _written(self, row_id: str, address: str, *, created: bool, location: bool = False) -> Reply:
        """Answer a write: 204 with the address, or the row when a representation was preferred (dataverse.md 5)."""
        preferences = self.operation.preferences()
        if not preferences.representation:
            headers = {"OData-EntityId": address} | ({"Location": address} if location else {})
            return Reply(204, headers, writes=1)
        reader = Reader(self.organization, self.operation.root, preferences)
        found = reader.one(self.table, row_id, read_query(self.operation.query))
        if found is None:
            raise faults.missing_row(self.table.name, row_id)
        reply = json_reply(found[0], preferences, status=201 if created else 200, reading=False)
        return Reply(reply.status, {**reply.headers, "ETag": etag(found[1])}, reply.body, writes=1)

    def row(self, key: RowKey, rest: Sequence[Segment]) -> Reply:
        row_id = addresses.find(self.organization, self.table, key)
        method = self.operation.method
        if not rest and method == "PATCH":
            return self._upsert(key, row_id)
        if row_id is None and not (method == "GET" and self.operation.staleness and key.row_id):
            raise addresses.missing(self.table, key)
        row_id = row_id or str(key.row_id)
        if rest:
            return self._part(row_id, rest)
        if method == "GET":
            return self.one(row_id)
        if method == "DELETE":
            self._check_version(row_id)
            self.writer.delete(self.table, row_id)
            return Reply(204, writes=1)
        raise _not_allowed(self.operation)

    def one(self, row_id: str) -> Reply:
        query, reader = read_query(self.operation.query), self.reader
        found = reader.one(self.table, row_id, query)
        if found is None:
            raise faults.missing_row(self.table.name, row_id)
        plain = not reader.preferences.annotations and not query.get("$expand")
        versioned = self.table.name not in self.organization.switches.current.unversioned_tables
        if plain and versioned and self.operation.header("if-none-match") == etag(found[1]):
            return Reply(304, {"ETag": etag(found[1])})
        reply = json_reply(found[0], reader.preferences)
        return Reply(200, {**reply.headers, "ETag": etag(found[1])}, reply.body)

    def _upsert(self, key: RowKey, row_id: str | None) -> Reply:
        body = self.operation.json(self.table.entity_set)
        if row_id is None:
            if self.operation.header("if-match") is not None:
                raise addresses.missing(self.table, key)
            own: dict[str, Any] = {self.table.primary_id: key.row_id} if key.row_id else dict(key.alternate)
            created_id = self.writer.create(self.table, body, own)
            return self._written(created_id, self._key_address(key, created_id), created=True)
        if self.operation.header("if-none-match") == "*":
            raise Fault(412, "0x80040237", "A record with matching key values already exists.")
        self._check_version(row_id)
        self.writer.update(self.table, row_id, body, frozenset(key.alternate))
        return self._written(row_id, self._key_address(key, row_id), created=False)

    def _key_address(self, key: RowKey, row_id: str) -> str:
        """An upsert by alternate key echoes the key, not the id (dataverse.md 5)."""
        if key.row_id is not None:
            return self.address(row_id)
        return f"{self.operation.root}/{self.operation.path.lstrip('/')}"

    def _check_version(self, row_id: str) -> None:
        wanted = self.operation.header("if-match")
        if wanted is None or wanted == "*":
            return
        if self.table.name in self.organization.switches.current.unversioned_tables:
            raise Fault(400, "0x8006088D", f"Optimistic concurrency isn't enabled for entity type {self.table.name}.")
        if not re.fullmatch(r'(W/)?"\d+"', wanted):
            raise Fault(400, "0x80060883", "The RowVersion property must be provided when the version has to match.")
        row = self.organization.database.get(self.table, row_id)
        if row is None or wanted.removeprefix("W/") != etag(row).removeprefix("W/"):
            raise faults.stale_version()

    def _part(self, row_id: str, rest: Sequence[Segment]) -> Reply:
        name = rest[0].name
        collected = collections(self.organization.tables, self.table).get(name)
        if collected is not None:
            return self._collected(row_id, rest, *collected)
        bound = BOUND.get((self.table.name, name.removeprefix(_MESSAGE_PREFIX)))
        if bound is not None and len(rest) == 1 and name.startswith(_MESSAGE_PREFIX):
            functions.only(self.operation, "POST")
            return bound(self.organization, self.operation, row_id)
        navigates = name in self.table.by_navigation
        match [segment.name for segment in rest[1:]], self.operation.method:
            case ["$ref"], ("PUT" | "DELETE") if navigates:
                return self._refer(row_id, name)
            case (([] | ["$ref"]), "GET") if navigates:
                return self._related(row_id, name, reference=len(rest) == 2)
            case [], ("GET" | "PUT" | "DELETE") if name in self.table.by_wire_name:
                return self._property(row_id, name)
        if navigates or name in self.table.by_wire_name:
            raise _not_allowed(self.operation)
        raise faults.unknown_segment(name)

    def _collected(self, row_id: str, rest: Sequence[Segment], other: Table, column: Column) -> Reply:
        """Read, add to or take from the rows that refer to a row (dataverse.md 5)."""
        target = _Target(self.organization, self.operation, other)
        match [segment.name for segment in rest[1:]], self.operation.method:
            case [], "GET" if rest[0].key is None:
                reader = self.reader
                body = reader.page(other, read_query(self.operation.query), f"{quoted(column.name)} = ?", (row_id,))
                return json_reply(body, reader.preferences)
            case ["$ref"], "POST" if rest[0].key is None:
                return target.refer_to(self._given_key(other), column, self.table.name, row_id)
            case ["$ref"], "DELETE":
                key = self._given_key(other) if rest[0].key is None else addresses.read_key(self.organization, other, rest[0].key)
                return target.refer_to(key, column, self.table.name, row_id, take_away=True)
            case _:
                raise _not_allowed(self.operation)

    def _given_key(self, other: Table) -> RowKey:
        """Read which row a reference names: in the body, or in ``$id`` when one is taken away."""
        given = read_query(self.operation.query).get("$id")
        text = given or str(self.operation.json(self.table.entity_set).get("@odata.id"))
        segments = addresses.split_path(unquote(addresses.API_ROOT.sub("", text).lstrip("/")))
        if len(segments) != 1 or segments[0].name != other.entity_set or segments[0].key is None:
            raise faults.payload(self.table.entity_set, f"Microsoft.OData.ODataException: Invalid URI: '{text}' addresses no row.")
        return addresses.read_key(self.organization, other, segments[0].key)

    def refer_to(self, key: RowKey, column: Column, table: str, row_id: str, *, take_away: bool = False) -> Reply:
        """Let a row of this table refer to another one, or to nothing if it refers to that one."""
        own_id = addresses.find(self.organization, self.table, key)
        if own_id is None:
            raise addresses.missing(self.table, key)
        row = self.writer.existing(self.table, own_id)
        if take_away and row.get(column.name) != row_id:
            raise faults.missing_row(self.table.name, own_id)
        self.writer.change(self.table, row, dict.fromkeys(column.stored) if take_away else column.reference(table, row_id))
        return Reply(204, writes=1)

    def _update(self, row_id: str, body: Mapping[str, Any]) -> Reply:
        self._check_version(row_id)
        self.writer.update(self.table, row_id, body)
        return Reply(204, {"OData-EntityId": self.address(row_id)}, writes=1)

    def _refer(self, row_id: str, navigation: str) -> Reply:
        if self.operation.method == "DELETE":
            return self._update(row_id, {f"{navigation}@odata.bind": None})
        target = self.operation.json(self.table.entity_set).get("@odata.id")
        return self._update(row_id, {f"{navigation}@odata.bind": target})

    def _property(self, row_id: str, name: str) -> Reply:
        if self.operation.method == "PUT":
            return self._update(row_id, {name: self.operation.json(self.table.entity_set).get("value")})
        if self.operation.method == "DELETE":
            return self._update(row_id, {name: None})
        column = self.table.by_wire_name[name]
        row = self.organization.database.get(self.table, row_id) or {}
        if row.get(column.name) is None:
            return Reply(204)
        context = f"{self.operation.root}/$metadata#{self.table.entity_set}({row_id})/{name}"
        shown = {"@odata.context": context, "value": decode(column, row[column.name])}
        return json_reply(shown, self.operation.preferences())

    def _related(self, row_id: str, navigation: str, *, reference: bool) -> Reply:
        row = self.organization.database.get(self.table, row_id) or {}
        column, target = self.table.by_navigation[navigation][0]
        related_id = row.get(column.name)
        related = self.organization.tables.get(str(row.get(f"{column.name}__type") or target))
        if related_id is None or related is None:
            return Reply(204)
        if reference:
            address = f"{self.operation.root}/{related.entity_set}({related_id})"
            shown = {"@odata.context": f"{self.operation.root}/$metadata#$ref", "@odata.id": address}
            return json_reply(shown, self.operation.preferences())
        return _Target(self.organization, self.operation, related).one(str(related_id))
