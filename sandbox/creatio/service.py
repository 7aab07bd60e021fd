"""Answer one OData operation, alone or as a part of a batch (creatio.md 2.3, 2.4)."""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sandbox.chaos import Rule
from sandbox.control import Counts, Switches
from sandbox.creatio.csdl import csdl, service_document
from sandbox.creatio.database import Database, StoredRow
from sandbox.creatio.errors import CreatioError, database_error, no_licence, no_right
from sandbox.creatio.query import Query, parse_query
from sandbox.creatio.reads import Reads, View
from sandbox.creatio.saving import Actor, Saving
from sandbox.creatio.schema import NAMESPACE, Column, Entity
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import EMPTY_GUID, Raw, Reading, Stored, emit, take, to_json

_SEGMENT = re.compile(r"(?P<set>[A-Za-z_]\w*)(?:\((?P<key>[^()]*)\))?(?:/(?P<rest>.+))?")
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_IEEE = "ieee754compatible=true"
_PAGE = re.compile(r"odata\.maxpagesize\s*=\s*(\d{1,9})", re.IGNORECASE)
_BIND = "@odata.bind"
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
            return self.refusal(error)

    def refusal(self, error: CreatioError) -> Answer:
        """Return the answer of a refused operation."""
        kind, text = error.body(details=self._switches.current.flavour == "NC")
        return Answer(error.status, {"content-type": kind}, text)

    def _routed(self, call: Call) -> Answer:
        path = call.path.strip("/")
        settings = self._switches.current
        if path == "":
            return self._json(call, service_document(self._database.schema, call.root, settings.unpublished_sets))
        if path == "$metadata":
            text = csdl(self._database.schema, max_length=settings.csdl_max_length, unpublished=settings.unpublished_sets)
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
        entity, settings = self._database.schema.entities.get(name), self._switches.current
        if entity is None or name in settings.unpublished_sets:
            message = f"No HTTP resource was found that matches the request URI '{call.root}/{call.path}'."
            raise CreatioError(404, message, shape="webapi_missing", inner=name if settings.message_detail else None)
        if name in settings.unlicensed_sets:
            raise no_licence(settings.right_status, name)
        if name in settings.blocked_sets:
            raise no_right(settings.right_status, "read", name)
        if call.method != "GET" and name in settings.unwritable_sets:
            raise no_right(settings.right_status, "change", name)
        return entity

    def _on_collection(self, call: Call, entity: Entity, rest: str) -> Answer:
        if rest == "$count" and call.method == "GET":
            count = self._stale(call, entity, lambda: self._reads.count(entity, parse_query(call.query)))
            return Answer(200, {"content-type": "text/plain", **_VERSION}, str(count))
        if rest:
            raise CreatioError(404, f"The request URI '{call.path}' is not valid.", shape="webapi_missing", inner=rest)
        if call.method == "GET":
            return self._collection(call, entity)
        if call.method == "POST":
            return self._create(call, entity)
        raise _method_not_allowed(call.method)

    def _collection(self, call: Call, entity: Entity) -> Answer:
        query, preferred = parse_query(call.query), _PAGE.search(call.headers.get("prefer", ""))
        page = int(preferred[1]) if preferred is not None and self._switches.current.honour_maxpagesize else None
        answer = self._json(call, self._stale(call, entity, lambda: self._reads.collection(entity, query, call.view, page)))
        if page is None:
            return answer
        return replace(answer, headers={**answer.headers, "preference-applied": f"odata.maxpagesize={page}"})

    def _on_row(self, call: Call, entity: Entity, row_id: str) -> Answer:
        if call.method == "GET":
            query = parse_query(call.query)
            return self._json(call, self._stale(call, entity, lambda: self._reads.single(entity, row_id, query, call.view)))
        if call.method in {"PATCH", "DELETE"} and self._switches.current.missing_id == 204 and not self._reads.shows(entity, row_id):
            return Answer(204, _VERSION)
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
        body = self._body(call)
        children = self._children(call, entity, body)
        values = self._taken(call, entity, body)
        with self._database.transaction():
            saved = self._saving.create(entity, values, call.actor, call.troubles.find("normalise"))
            for child, column, given in children:
                self._saving.create(child, {**given, column: saved.row["Id"]}, call.actor)
        self._counts.wrote(1 + len(children))
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

    def _children(self, call: Call, entity: Entity, body: dict[str, Any]) -> list[tuple[Entity, str, dict[str, Stored]]]:
        """Take the rows of details out of the body of a create, when this server creates them with it."""
        if self._switches.current.deep_insert == "refuse":
            return []
        found = []
        for name in [name for name in body if name in entity.collections and isinstance(body[name], list)]:
            child, column = entity.collections[name]
            target = self._database.schema.entities[child]
            found += [(target, column, self._taken(call, target, row)) for row in body.pop(name)]
        return found

    def _values(self, call: Call, entity: Entity) -> dict[str, Stored]:
        """Read the JSON body of a write; CreatioError 400 names the property that is unknown or of a wrong type."""
        return self._taken(call, entity, self._body(call))

    def _body(self, call: Call) -> dict[str, Any]:
        content_type = call.headers.get("content-type", "").lower().replace(" ", "")
        if not content_type.startswith("application/json"):
            raise CreatioError(415, f"The media type '{content_type}' is not supported; send application/json.")
        try:
            body = json.loads(call.body or b"null", parse_float=Decimal)
        except ValueError as error:
            raise CreatioError(400, f"The body is not valid JSON: {error}") from error
        if not isinstance(body, dict):
            raise CreatioError(400, "The body must be a JSON object with the properties of one entity.")
        return body

    def _taken(self, call: Call, entity: Entity, body: Mapping[str, Any]) -> dict[str, Stored]:
        settings = self._switches.current
        is_text = None if settings.lenient_decimals else _IEEE in call.headers.get("content-type", "").lower().replace(" ", "")
        reading = Reading(is_text, timedelta(hours=settings.date_offset_hours))
        values: dict[str, Stored] = {}
        for given, sent in body.items():
            if given.startswith("@odata."):
                continue
            name, value = self._bound(entity, given, sent)
            column = entity.columns.get(name)
            if column is None:
                raise CreatioError(
                    400,
                    f"The property '{name}' does not exist on type '{NAMESPACE}.{entity.name}'. Make sure to only use "
                    "property names that are defined by the type.",
                )
            self._check_empty(entity, column, value)
            values[name] = take(column, value, reading)
        return values

    def _bound(self, entity: Entity, name: str, value: Any) -> tuple[str, Any]:
        """Return the column and the id that `X@odata.bind` stands for, when this server understands it."""
        lookup = entity.navigations.get(name.removesuffix(_BIND)) if name.endswith(_BIND) else None
        if lookup is None or self._switches.current.odata_bind == "refuse":
            return name, value
        match = _SEGMENT.fullmatch(str(value).strip("/").rpartition("/")[2])
        if match is None or match["key"] is None:
            raise CreatioError(400, f"The value of '{name}' is no address of an entity.")
        return lookup.name, match["key"]

    def _check_empty(self, entity: Entity, column: Column, value: Any) -> None:
        """Refuse null, or the empty guid, where this server takes it for no value (creatio.md 2.4: nobody knows)."""
        settings = self._switches.current
        if value is None and column.kind != "text" and settings.null_values == "refuse":
            message = f"A null value was found for the property named '{column.name}', which has the expected type "
            raise CreatioError(400, f"{message}'{column.edm}[Nullable=False]'. The expected type does not allow null values.")
        if value == EMPTY_GUID and column.navigation is not None and settings.empty_guids == "refuse":
            constraint = f"FK{entity.name}{column.name}"
            raise database_error(f'23503: insert or update on table "{entity.name}" violates foreign key constraint "{constraint}"')

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
