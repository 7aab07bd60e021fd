"""Answer one OData operation, alone or as a part of a batch (creatio.md 2.3, 2.4)."""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sandbox.chaos import Rule
from sandbox.control import Counts, Switches
from sandbox.creatio.csdl import csdl, service_document
from sandbox.creatio.database import Database, StoredRow
from sandbox.creatio.errors import CreatioError, database_error, no_right
from sandbox.creatio.query import Query, parse_query
from sandbox.creatio.reads import Reads, View
from sandbox.creatio.saving import Actor, Saving
from sandbox.creatio.schema import NAMESPACE, Column, Entity
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import Raw, Stored, emit, take, to_json

_SEGMENT = re.compile(r"(?P<set>[A-Za-z_]\w*)(?:\((?P<key>[^()]*)\))?(?:/(?P<rest>.+))?")
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_IEEE = "ieee754compatible=true"
_VERSION = {"odata-version": "4.0"}


@dataclass
class Troubles:
    """Hold the chaos rules that fired on a request; `take` gives one only once, to the first operation it suits."""

    rules: list[Rule] = field(default_factory=list)

    def find(self, kind: str) -> Rule | None:
        """Return the rule of a kind."""
        return next((rule for rule in self.rules if rule.kind == kind), None)

    def take(self, kind: str) -> Rule | None:
        """Return the rule of a kind and forget it."""
        rule = self.find(kind)
        if rule is not None:
            self.rules.remove(rule)
        return rule


@dataclass(frozen=True)
class Call:
    """Carry one operation: `path` relative to the service root, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    actor: Actor
    root: str
    troubles: Troubles

    @property
    def view(self) -> View:
        """Say how rows are to be shown."""
        return View(self.root, text_decimals=_IEEE in self.headers.get("accept", "").lower().replace(" ", ""))


@dataclass(frozen=True)
class Answer:
    """Carry the outcome of an operation."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | bytes = ""

    @property
    def is_json(self) -> bool:
        """Tell whether the body is JSON text."""
        return self.headers.get("content-type", "").startswith("application/json")


def refusal(error: CreatioError) -> Answer:
    """Return the answer of a refused operation."""
    kind, text = error.body()
    return Answer(error.status, {"content-type": kind}, text)


class Service:
    """Answer operations on the entity sets."""

    def __init__(self, database: Database, saving: Saving, switches: Switches[CreatioSettings], counts: Counts) -> None:
        self._database = database
        self._saving = saving
        self._switches = switches
        self._counts = counts
        self._reads = Reads(database, switches)

    def answer(self, call: Call) -> Answer:
        """Answer one operation, a refusal as the error it is on the wire."""
        try:
            return self._routed(call)
        except CreatioError as error:
            return refusal(error)

    def _routed(self, call: Call) -> Answer:
        path = call.path.strip("/")
        if path == "":
            return self._json(call, service_document(self._database.schema, call.root))
        if path == "$metadata":
            text = csdl(self._database.schema, max_length=self._switches.current.csdl_max_length)
            return Answer(200, {"content-type": "application/xml", **_VERSION}, text)
        match = _SEGMENT.fullmatch(path)
        if match is None:
            raise CreatioError(400, f"The request URI is not valid: '{path}'.")
        entity = self._entity(match["set"], call)
        key, rest = match["key"], match["rest"] or ""
        if key is None and rest and _GUID.fullmatch(rest.partition("/")[0]):
            key, _, rest = rest.partition("/")
        if key is None:
            return self._on_collection(call, entity, rest)
        row_id = _row_id(key)
        return self._on_property(call, entity, row_id, rest) if rest else self._on_row(call, entity, row_id)

    def _entity(self, name: str, call: Call) -> Entity:
        entity = self._database.schema.entities.get(name)
        if entity is None:
            message = f"No HTTP resource was found that matches the request URI '{call.root}/{call.path}'."
            raise CreatioError(404, message, shape="webapi_missing", inner=name)
        if name in self._switches.current.blocked_sets:
            raise no_right(self._switches.current.right_status, "read", name)
        if call.method != "GET" and name in self._switches.current.unwritable_sets:
            raise no_right(self._switches.current.right_status, "change", name)
        return entity

    def _on_collection(self, call: Call, entity: Entity, rest: str) -> Answer:
        if rest == "$count" and call.method == "GET":
            count = self._stale(call, entity, lambda: self._reads.count(entity, parse_query(call.query)))
            return Answer(200, {"content-type": "text/plain", **_VERSION}, str(count))
        if rest:
            raise CreatioError(404, f"The request URI '{call.path}' is not valid.", shape="webapi_missing", inner=rest)
        if call.method == "GET":
            query = parse_query(call.query)
            return self._json(call, self._stale(call, entity, lambda: self._reads.collection(entity, query, call.view)))
        if call.method == "POST":
            return self._create(call, entity)
        raise _method_not_allowed(call.method)

    def _on_row(self, call: Call, entity: Entity, row_id: str) -> Answer:
        if call.method == "GET":
            query = parse_query(call.query)
            return self._json(call, self._stale(call, entity, lambda: self._reads.single(entity, row_id, query, call.view)))
        if call.method == "PATCH":
            self._check_changeable(entity, row_id)
            values = self._values(call, entity)
            row = self._saving.update(entity, row_id, values, call.actor, call.troubles.find("normalise"))
            self._counts.wrote()
            wanted = "return=representation" in call.headers.get("prefer", "")
            if wanted and self._switches.current.patch_returns_representation:
                return self._json(call, self._whole(call, entity, row))
            return Answer(204, _VERSION)
        if call.method == "DELETE":
            self._check_changeable(entity, row_id)
            self._saving.delete(entity, row_id, call.actor)
            self._counts.wrote()
            return Answer(204)
        raise _method_not_allowed(call.method)

    def _check_changeable(self, entity: Entity, row_id: str) -> None:
        self._reads.visible(entity, row_id)
        if row_id in self._switches.current.locked_ids.get(entity.name, ()):
            raise no_right(403, "edit the record of", entity.name)

    def _on_property(self, call: Call, entity: Entity, row_id: str, rest: str) -> Answer:
        name, _, tail = rest.partition("/")
        column = entity.columns.get(name)
        if column is None or tail not in {"", "$value"}:
            raise CreatioError(404, f"Resource not found for the segment '{name}'.")
        row = self._reads.visible(entity, row_id)
        if column.kind == "stream":
            return self._on_stream(call, entity, row_id, column, row[column.name])
        if call.method != "GET":
            raise _method_not_allowed(call.method)
        value = emit(column, row[name], text_decimals=call.view.text_decimals)
        if tail:
            text = value if isinstance(value, str) else to_json(value)
            return Answer(200, {"content-type": "text/plain", **_VERSION}, str(text))
        context = f"{call.root}/$metadata#{entity.name}({row_id})/{name}"
        return self._json(call, {"@odata.context": context, "value": value})

    def _on_stream(self, call: Call, entity: Entity, row_id: str, column: Column, stored: bytes | None) -> Answer:
        if call.method == "GET":
            headers = {"content-type": "application/octet-stream", **_VERSION}
            return Answer(204) if stored is None else Answer(200, headers, stored)
        if call.method not in {"PUT", "DELETE"}:
            raise _method_not_allowed(call.method)
        value = call.body if call.method == "PUT" else None
        with self._database.transaction():
            self._database.update(entity.name, row_id, {column.name: value})
            self._saving.update(entity, row_id, {}, call.actor)
        self._counts.wrote()
        return Answer(204)

    def _create(self, call: Call, entity: Entity) -> Answer:
        values = self._values(call, entity)
        saved = self._saving.create(entity, values, call.actor, call.troubles.find("normalise"))
        self._counts.wrote()
        if call.troubles.take("insert_then_fail"):
            raise database_error(f"Error while executing the event handler of {entity.name}: inserted")
        row_id = saved.row["Id"]
        for name in ("CreatedOn", "ModifiedOn"):
            if not (self._switches.current.keep_client_stamps and name in values):
                saved.row[name] = saved.shown
        answer = self._json(call, self._whole(call, entity, saved.row))
        headers = {**answer.headers, "location": f"{call.root}/{entity.name}({row_id})"}
        return Answer(201, headers, answer.body)

    def _whole(self, call: Call, entity: Entity, row: StoredRow) -> Raw:
        context = f"{call.root}/$metadata#{entity.name}/$entity"
        return self._reads.shown(entity, row, Query(), call.view, context)

    def _values(self, call: Call, entity: Entity) -> dict[str, Stored]:
        """Read the JSON body of a write; CreatioError 400 names the property that is unknown or of a wrong type."""
        content_type = call.headers.get("content-type", "").lower().replace(" ", "")
        if not content_type.startswith("application/json"):
            raise CreatioError(415, f"The media type '{content_type}' is not supported; send application/json.")
        try:
            body = json.loads(call.body or b"null", parse_float=Decimal)
        except ValueError as error:
            raise CreatioError(400, f"The body is not valid JSON: {error}") from error
        if not isinstance(body, dict):
            raise CreatioError(400, "The body must be a JSON object with the properties of one entity.")
        values: dict[str, Stored] = {}
        for name, value in body.items():
            if name.startswith("@odata."):
                continue
            column = entity.columns.get(name)
            if column is None:
                raise CreatioError(
                    400,
                    f"The property '{name}' does not exist on type '{NAMESPACE}.{entity.name}'. Make sure to only use "
                    "property names that are defined by the type.",
                )
            values[name] = take(column, value, text_decimals=_IEEE in content_type)
        return values

    def _stale(self, call: Call, entity: Entity, read: Any) -> Any:
        rule = call.troubles.find("stale_read")
        if rule is None:
            return read()
        with self._database.as_of(entity.name, rule.seconds):
            return read()

    def _json(self, call: Call, value: Mapping[str, Any] | Raw) -> Answer:
        content_type = "application/json; odata.metadata=minimal; odata.streaming=true"
        if call.view.text_decimals:
            content_type += "; IEEE754Compatible=true"
        return Answer(200, {"content-type": content_type, **_VERSION}, to_json(value))


def _row_id(key: str) -> str:
    if not _GUID.fullmatch(key):
        raise CreatioError(400, f"The key value '{key}' is not of type Edm.Guid: it is written bare.")
    return str(uuid.UUID(key))


def _method_not_allowed(method: str) -> CreatioError:
    return CreatioError(405, f"The requested resource does not support http method '{method}'.")
