"""The HTTP server: authentication, limits, batches, headers, chaos and the control API around the operations."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandbox.chaos import Chaos, fired, html_page
from sandbox.control import Clock, Counts, Panel, control_route, controlled
from sandbox.control_estate import estate_routes
from sandbox.dataverse.addresses import API_ROOT
from sandbox.dataverse.batch import Batch
from sandbox.dataverse.desk import Desk
from sandbox.dataverse.estate import DataverseEstate
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.jobs import run_due
from sandbox.dataverse.limits import Limits
from sandbox.dataverse.messages import JSON_TYPE, Operation, Reply, error_body, error_reply, service_headers
from sandbox.dataverse.operations import MAX_URL, perform
from sandbox.dataverse.organization import DEFAULT_CLIENT_ID, Organization, open_organization
from sandbox.dataverse.reads import Staleness
from sandbox.dataverse.switches import Settings
from sandbox.dataverse.tokens import authenticate, impersonated, plain_host, revoke_all
from sandbox.dataverse.values import to_json
from sandbox.dataverse.writes import Normalisation
from sandbox.serve import AsgiApp, Receive, Scope, Send

OWN_KINDS = frozenset({"normalise", "user_edit_in_batch", "part_status", "insert_then_fail", "repeat_delta"})
_UNEXPECTED = Fault(500, "0x80040216", "An unexpected error occurred.")
_DEADLOCK = "Generic SQL error. Sql Number: 1205. Transaction was deadlocked on lock resources with another process."
_TROUBLES: Mapping[str, tuple[str, str]] = {
    "deadlock": ("0x80044150", _DEADLOCK),
    "sql_timeout": ("0x80044151", "SQL timeout expired."),
    "concurrency": ("0x80072326", "Number of concurrent requests exceeded the limit of 52."),
    "workers": ("0x80072324", "Too many concurrent requests detected."),
    "too_many": ("0x8005F103", "Too many requests."),
    "customization": ("0x80071154", "Cannot start another operation because another one is running at this moment."),
    "crash": ("0x80040224", "An unexpected error occurred from ISV code."),
    "time": ("0x80072321", "Combined execution time of incoming requests exceeded limit of 1,200,000 milliseconds."),
}
_ADMIN_MODE = {
    "privilege": Fault(403, "0x80040220", "The organization is in administration mode; only administrators can access it."),
    "disabled": Fault(403, "0x8004A104", "The CRM organization you are attempting to access is currently disabled."),
}
_BY_STATUS: Mapping[int, tuple[str, str]] = {
    401: ("0x80072560", "The token is not valid."),
    403: ("0x80040220", "Principal user is missing a privilege."),
    429: ("0x80072322", "Number of requests exceeded the limit of 6000 over time window of 300 seconds."),
    503: ("0x8004A104", "The organization you are attempting to access is currently disabled."),
}


@dataclass
class Front:
    """The web server in front of one organisation."""

    organization: Organization
    token_key: str
    counts: Counts
    limits: Limits = field(default_factory=Limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        body = await request.body()
        headers: dict[str, str] = {}
        try:
            reply = await self._answer(request, body, headers)
        except Fault as fault:
            reply = error_reply(fault)
        if reply.status == 401 and self.organization.switches.current.unauthorized_body == "empty":
            reply = Reply(401, reply.headers)
        self.counts.wrote(reply.writes)
        if fired(scope, "insert_then_fail") and reply.status < 400:
            reply = error_reply(_UNEXPECTED)
        response = Response(reply.body, reply.status, {**service_headers(), **headers, **reply.headers})
        await response(scope, receive, send)

    async def _answer(self, request: Request, body: bytes, headers: dict[str, str]) -> Reply:
        origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
        raw_path = request.scope.get("raw_path", b"").decode("ascii", "replace")
        api = API_ROOT.match(raw_path)
        if api is None:
            raise Fault(404, "", f"No HTTP resource was found that matches the request URI '{origin}{raw_path}'.")
        if len(body) > self.organization.switches.current.largest_body:
            raise Fault(413, "0x0", f"The request body has {len(body)} bytes, more than this server takes.")
        user_id = authenticate(self.organization, request.headers.get("authorization"), origin, self.token_key)
        settings = self.organization.switches.current
        if fired(request.scope, "admin_mode"):
            if settings.admin_mode_answer == "bare":
                return Reply(403, {"Content-Type": "text/html"}, html_page(403))
            raise _ADMIN_MODE[settings.admin_mode_answer]
        user_id = impersonated(self.organization, user_id, request.headers)
        server = self.limits.server(request.cookies.get("ARRAffinity"), settings)
        if "ARRAffinity" not in request.cookies:
            headers["Set-Cookie"] = f"ARRAffinity={server};Path=/;HttpOnly"
        shown = plain_host(origin) if settings.link_host == "plain" else origin
        operation = self._operation(request, raw_path[api.end() :], f"{shown}{api[0].rstrip('/')}", user_id, body)
        try:
            return await self._limited(request, operation, server)
        finally:
            headers.update(self.limits.headers(user_id, server, settings))

    async def _limited(self, request: Request, operation: Operation, server: int) -> Reply:
        settings = self.organization.switches.current
        self.limits.enter(operation.user_id, server, settings)
        began, operations = time.monotonic(), 1
        try:
            if settings.latency_seconds:
                await asyncio.sleep(settings.latency_seconds)
            run_due(self.organization)
            if operation.path.strip("/") != "$batch":
                return perform(self.organization, operation, MAX_URL)
            if operation.method != "POST":
                raise Fault(405, "0x0", f"The requested resource does not support http method '{operation.method}'.")
            batch = Batch(self.organization, operation, lambda done: self._disturb(request.scope, done))
            reply = batch.run()
            operations = batch.operations
            self.counts.part(operations)
            return reply
        finally:
            seconds = max(time.monotonic() - began, operations * settings.execution_seconds)
            self.limits.leave(operation.user_id, server, seconds)

    def _operation(self, request: Request, path: str, root: str, user_id: str, body: bytes) -> Operation:
        stale = fired(request.scope, "stale_read")
        changed = fired(request.scope, "normalise")
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in request.headers.items():
            headers[name] = (*headers.get(name, ()), value)
        return Operation(
            method=request.method,
            path=path,
            query=request.scope["query_string"].decode("ascii", "replace"),
            headers=headers,
            body=body,
            root=root,
            user_id=user_id,
            staleness=None if stale is None else Staleness(stale.seconds),
            normalisation=None if changed is None else _normalisation(changed.options),
            repeated_delta=fired(request.scope, "repeat_delta") is not None,
        )

    def _disturb(self, scope: Scope, done: int) -> Reply | None:
        """Let a user edit a row between two operations of a batch, or answer one of them with trouble."""
        edit, trouble = fired(scope, "user_edit_in_batch"), fired(scope, "part_status")
        if edit is not None and done == int(edit.options.get("position", 1)):
            Desk(self.organization).edit(edit.options["entity"], edit.options["id"], edit.options["values"], None)
        if trouble is not None and done == int(trouble.options.get("position", 0)):
            waits = {} if trouble.retry_after is None else {"Retry-After": f"{trouble.retry_after:g}"}
            return error_reply(_trouble(trouble.status, trouble.body, waits))
        return None


def _normalisation(options: Mapping[str, Any]) -> Normalisation:
    return Normalisation(options.get("entity", "account"), options.get("column", "name"), options.get("how", "trim"))


def _trouble(status: int, kind: str, headers: Mapping[str, str] | None = None) -> Fault:
    code, message = _TROUBLES.get(kind) or _BY_STATUS.get(status) or (_UNEXPECTED.code, _UNEXPECTED.message)
    return Fault(status, code, message, headers)


def _render(status: int, kind: str) -> tuple[str, bytes]:
    return JSON_TYPE, error_body(_trouble(status, kind))


def _label(method: str, path: str) -> tuple[str, bool]:
    below = API_ROOT.sub("", path)
    first, _, rest = below.partition("/")
    name = re.sub(r"\(.*", "", first)
    message = re.search(r"\.(\w+Multiple)$", rest)
    return f"{method} {name}{'/' + message[1] if message else ''}", True


def create_app(
    *,
    token_key: str,
    database: str = ":memory:",
    settings: Settings | None = None,
    client_id: str = DEFAULT_CLIENT_ID,
) -> AsgiApp:
    """Build the stand-in's app; `token_key` is the one Entra's stand-in signs with, `client_id` has the app user."""
    clock = Clock()
    organization = open_organization(database, settings or Settings(), client_id, clock)
    desk = Desk(organization)

    async def merge(request: Request) -> Any:
        body = await request.json()
        return {"row": desk.merge(body["entity"], body["winner"], body["loser"], body.get("user"))}

    panel = Panel(
        name="dataverse",
        store=desk,
        switches=organization.switches,
        chaos=Chaos(own_kinds=OWN_KINDS),
        clock=clock,
        dumps=to_json,
        extra_routes=(control_route("/merge", "POST", merge, to_json), *estate_routes(DataverseEstate(organization), to_json)),
    )
    front = Front(organization, token_key, panel.counts)
    return controlled(front, panel, _label, _render, lambda: revoke_all(organization))
