"""The stand-in of Creatio as an app: addresses, who may call, and what is behind them (creatio.md 1, 2.1).

Chaos kinds of its own: `insert_then_fail` (a POST inserts the row and answers 500; the first create of the request),
`normalise` (`entity`, `column`, `how`: trim, collapse, upper, title: a written text is stored changed),
`user_edit_in_batch`, `part_status` and `drop_in_batch` (see batch.py), `csrf` (403 as for a wrong BPMCSRF).
Error bodies beside the common ones: `webapi`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandbox.chaos import Chaos, fired, html_page
from sandbox.control import Clock, Counts, Panel, Switches, controlled
from sandbox.control_estate import estate_routes
from sandbox.creatio.batch import Batch, BatchCut
from sandbox.creatio.content import fill
from sandbox.creatio.control_store import ControlStore
from sandbox.creatio.database import Database
from sandbox.creatio.errors import HTML, JSON, render
from sandbox.creatio.estate import CreatioEstate
from sandbox.creatio.gate import LOGIN_PAGES, Gate, login_page, set_cookies
from sandbox.creatio.identity import create_identity_app
from sandbox.creatio.saving import Saving
from sandbox.creatio.schema import load_schema
from sandbox.creatio.service import Answer, Call, Service, Troubles
from sandbox.creatio.sessions import Sessions
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import to_json
from sandbox.serve import AsgiApp, Receive, Scope, Send, abort_connection

OWN_KINDS = frozenset({"insert_then_fail", "normalise", "user_edit_in_batch", "part_status", "drop_in_batch", "csrf"})
_PASSED_ON = ("insert_then_fail", "normalise", "user_edit_in_batch", "part_status", "drop_in_batch", "stale_read")
_LOGIN = "/ServiceModel/AuthService.svc"
_EVENT_LOG = "/api/v1/entities/eventLogConfigs/"
_EVENT_LOG_SINCE = (8, 3, 2)
_REQUEST_LINE = 8192


@dataclass(frozen=True)
class Creatio:
    """Hold both listeners of one installation; they share settings, chaos and counts."""

    app: AsgiApp
    identity: AsgiApp
    database: Database


def create_creatio(settings: Mapping[str, Any] | None = None, database: str = ":memory:") -> Creatio:
    """Build a stand-in over a new or existing SQLite file, with its identity service; `settings` as in settings.py."""
    switches = Switches(CreatioSettings())
    switches.update(settings or {})
    tables = Database(database, load_schema())
    fill(tables)
    clock, counts, chaos = Clock(), Counts(), Chaos(OWN_KINDS)
    saving = Saving(tables, switches, clock)
    store = ControlStore(tables, saving, clock)
    service = Service(tables, saving, switches, counts)
    sessions = Sessions(switches)
    batch = Batch(service, tables, switches, counts, store.edit)
    site = _Site(switches, Gate(switches, sessions, clock, counts), service, batch, store)
    routes = estate_routes(CreatioEstate(tables, switches), to_json)
    panel = Panel("creatio", store, switches, chaos, clock, counts, dumps=to_json, extra_routes=routes)
    app = controlled(site, panel, _label, render, sessions.expire)
    return Creatio(app, create_identity_app(switches, chaos, counts, sessions.expire), tables)


def create_app(settings: Mapping[str, Any] | None = None, database: str = ":memory:") -> AsgiApp:
    """Build the stand-in alone, for callers that log in by forms or make tokens elsewhere."""
    return create_creatio(settings, database).app


@dataclass(frozen=True)
class _Site:
    """Answer every request that is not the control API's."""

    switches: Switches[CreatioSettings]
    gate: Gate
    service: Service
    batch: Batch
    store: ControlStore

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = await self._answer(Request(scope, receive))
        except BatchCut:
            await abort_connection()
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        refused = self._in_front(request)
        if refused is not None:
            return refused
        path = request.url.path
        prefix = self._prefix
        if path == f"{_LOGIN}/Login" and request.method == "POST":
            return await self.gate.log_in(request)
        if path == f"{_LOGIN}/Logout":
            return self.gate.log_out(request)
        if path == f"/0{_LOGIN}/Login":
            return Response(status_code=401)
        closed = (f"{prefix}/odata/", f"{prefix}/ServiceModel/", _EVENT_LOG)
        if path.startswith(closed) or path in {f"{prefix}/{name}" for name in ("odata", "ping", "api/OAuthHealthCheck")}:
            return await self._behind_the_gate(request, prefix)
        return self._open_to_all(path, prefix)

    @property
    def _prefix(self) -> str:
        return "/0" if self.switches.current.flavour == "NF" else ""

    def _in_front(self, request: Request) -> Response | None:
        """Answer what never reaches the application: maintenance, and addresses that are too long."""
        settings = self.switches.current
        if fired(request.scope, "admin_mode"):
            return _html(503)
        if len(request.url.query) > settings.max_query_length and settings.flavour == "NF":
            return _html(404)
        return Response(status_code=414) if len(str(request.url)) > _REQUEST_LINE else None

    def _open_to_all(self, path: str, prefix: str) -> Response:
        if path in LOGIN_PAGES.values():
            return login_page(self.switches.current.flavour)
        if path == f"{prefix}/api/HealthCheck/Ping":
            return Response("Healthy", 200, {"content-type": "text/plain"})
        return _html(404)

    async def _behind_the_gate(self, request: Request, prefix: str) -> Response:
        body = await request.body()
        if fired(request.scope, "csrf"):
            return self.gate.csrf_refusal()
        entry = self.gate.enter(request)
        if isinstance(entry, Response):
            return entry
        async with self.gate.turn(entry):
            response = self._entered(request, prefix, body, entry.user)
        set_cookies(response, entry.cookies)
        return response

    def _entered(self, request: Request, prefix: str, body: bytes, user: str) -> Response:
        path = request.url.path
        if path.startswith(_EVENT_LOG):
            return self._event_log_config()
        if path.startswith(f"{prefix}/odata"):
            return _response(self._odata(request, prefix, body, user))
        if path == f"{prefix}/ping" and request.method == "POST":
            return Response("true", 200, {"content-type": JSON})
        if path == f"{prefix}/api/OAuthHealthCheck":
            return Response("Healthy", 200, {"content-type": "text/plain"})
        return _html(404)

    def _odata(self, request: Request, prefix: str, body: bytes, user: str) -> Answer:
        rules = [rule for kind in _PASSED_ON if (rule := fired(request.scope, kind)) is not None]
        call = Call(
            request.method,
            request.url.path[len(f"{prefix}/odata") :].strip("/"),
            request.url.query,
            {key.lower(): value for key, value in request.headers.items()},
            body,
            self.store.actor(user),
            f"{request.url.scheme}://{request.headers.get('host', '127.0.0.1')}{prefix}/odata",
            Troubles(rules),
        )
        if call.path == "$batch" and call.method == "POST":
            return self.batch.answer(call)
        return self.service.answer(call)

    def _event_log_config(self) -> Response:
        settings = self.switches.current
        version = tuple(int(part) for part in settings.version.split(".") if part.isdigit())
        if version < _EVENT_LOG_SINCE:
            return _html(404)
        if not settings.can_view_delete_log:
            return Response(status_code=403)
        return Response(json.dumps(settings.delete_log), 200, {"content-type": JSON})


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers))


def _html(status: int) -> Response:
    return Response(html_page(status), status, {"content-type": HTML})


def _label(method: str, path: str) -> tuple[str, bool]:
    """Name a request by its entity set or service; log-ins do not count in the total."""
    name = path.strip("/").removeprefix("0/")
    if name.startswith("ServiceModel/AuthService.svc"):
        return f"{method} {name.rpartition('/')[2]}", False
    if name.startswith("odata"):
        name = name.removeprefix("odata").strip("/").partition("(")[0].partition("/")[0] or "service document"
    return f"{method} {name}", True
