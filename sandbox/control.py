"""The control API of every stand-in: seed, act as a user, read back, count requests, switch chaos and settings.

Mounted under `/_control` on the stand-in's own port, loopback only, no authentication. A stand-in brings a `Store`,
its `Switches` (a frozen pydantic model), a `Clock`, a `Counts`, a `Chaos`; `controlled` puts all of it around its app.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from sandbox.chaos import Chaos, ChaosMiddleware, Render
from sandbox.serve import AsgiApp, Message, Receive, Scope, Send

PREFIX = "/_control"
Row: TypeAlias = Mapping[str, Any]
Label: TypeAlias = Callable[[str, str], tuple[str, bool]]
Work: TypeAlias = Callable[[Request], Awaitable[Any]]
"""What a control request does; its answer is written as JSON."""
Model = TypeVar("Model", bound=BaseModel)


class Refused(Exception):  # noqa: N818 - what it says, not that it is an error
    """Say why a control request can't be carried out; `status` is the answer's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Store(Protocol):
    """Hold a stand-in's rows; each verb raises `Refused` for an unknown entity, column or row."""

    def seed(self, entity: str, rows: Sequence[Row]) -> list[str]:
        """Insert rows as they stand, in one transaction, and return their ids."""
        ...

    def edit(self, entity: str, row_id: str, values: Row, user: str | None) -> Row:
        """Change a row as a user does and return it."""
        ...

    def create(self, entity: str, values: Row, user: str | None) -> Row:
        """Create a row as a user does and return it."""
        ...

    def delete(self, entity: str, row_id: str, user: str | None) -> None:
        """Delete a row as a user does."""
        ...

    def rows(self, entity: str, limit: int | None, offset: int) -> tuple[list[Row], int]:
        """Return stored rows ordered by id, and how many there are in all."""
        ...

    def row(self, entity: str, row_id: str) -> Row | None:
        """Return one stored row."""
        ...


class Switches(Generic[Model]):
    """Hold the settings in force; a change is validated as a whole before any of it takes effect."""

    def __init__(self, initial: Model) -> None:
        self._current = initial

    @property
    def current(self) -> Model:
        """Return the settings in force."""
        return self._current

    def update(self, values: Mapping[str, Any]) -> Model:
        """Put new values in force; Refused names an unknown setting or a value that is not allowed."""
        fields = type(self._current).model_fields
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise Refused(f"unknown settings {', '.join(unknown)}; allowed {', '.join(sorted(fields))}")
        try:
            merged = type(self._current).model_validate({**self._current.model_dump(), **values})
        except ValidationError as error:
            raise Refused(f"the settings can't be used: {error}") from error
        self._current = merged
        return merged


@dataclass
class Clock:
    """Tell the server's time: that of this machine, moved by a skew."""

    skew_seconds: float = 0.0

    def now(self) -> datetime:
        """Return the server's time, aware, in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.skew_seconds)

    def http_date(self) -> str:
        """Return the server's time as a Date header."""
        return format_datetime(self.now(), usegmt=True)


@dataclass
class Counts:
    """Count what was asked of a stand-in (control requests never count)."""

    total: int = 0
    operations: int = 0
    writes: int = 0
    by: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    """How many requests of a name were in work at one time at most: whether clients together keep within a limit."""
    _in_work: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def working(self, label: str) -> Iterator[None]:
        """Count one request as in work for the length of the block."""
        self._in_work[label] += 1
        self.most[label] = max(self.most[label], self._in_work[label])
        try:
            yield
        finally:
            self._in_work[label] -= 1

    def request(self, label: str, *, counted: bool) -> None:
        """Count one HTTP request; one that is not `counted` (log-ins, tokens) shows in `by` only."""
        self.by[label] += 1
        if counted:
            self.total += 1
            self.operations += 1

    def part(self, number: int = 1) -> None:
        """Count operations inside a batch, beside the request that carries them."""
        self.operations += number

    def wrote(self, number: int = 1) -> None:
        """Count successful creates, updates and deletes."""
        self.writes += number

    def reset(self) -> None:
        """Start again at nothing."""
        self.total = self.operations = self.writes = 0
        self.by.clear()
        self.most.clear()

    def describe(self) -> dict[str, Any]:
        """Return all counts."""
        by, most = (dict(sorted(counted.items())) for counted in (self.by, self.most))
        return {"total": self.total, "operations": self.operations, "writes": self.writes, "by": by, "most": most}


@dataclass(frozen=True)
class Panel(Generic[Model]):
    """Gather what the control API of one stand-in works on. `dumps` writes rows as JSON (decimals and all)."""

    name: str
    store: Store
    switches: Switches[Model]
    chaos: Chaos
    clock: Clock = field(default_factory=Clock)
    counts: Counts = field(default_factory=Counts)
    dumps: Callable[[Any], str] = lambda value: json.dumps(value, ensure_ascii=False)
    extra_routes: tuple[BaseRoute, ...] = ()


def controlled(
    app: AsgiApp,
    panel: Panel[Any],
    label: Label,
    render: Render,
    expire: Callable[[], None],
) -> AsgiApp:
    """Put the control API, request counts, the Date header and chaos around a stand-in's app.

    `label(method, path)` gives the name under which a request is counted and whether it counts in the total;
    `render(status, kind)` gives content type and body of an error in the system's own shape.
    """
    troubled = ChaosMiddleware(app, panel.chaos, render, expire)
    control = Starlette(routes=[Mount(PREFIX, routes=_routes(panel))])

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        path: str = scope["path"]
        if path == PREFIX or path.startswith(PREFIX + "/"):
            await control(scope, receive, _dated(send, panel.clock))
            return
        name, counted = label(scope["method"], path)
        panel.counts.request(name, counted=counted)
        with panel.counts.working(name):
            await troubled(scope, receive, _dated(send, panel.clock))

    return outermost


def _dated(send: Send, clock: Clock) -> Send:
    """Add the Date header that the server's clock shows when the answer leaves."""

    async def stamped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(key, value) for key, value in message.get("headers", ()) if key.lower() != b"date"]
            message = {**message, "headers": [*headers, (b"date", clock.http_date().encode())]}
        await send(message)

    return stamped


def control_route(path: str, method: str, work: Work, dumps: Callable[[Any], str] = json.dumps) -> Route:
    """Make a route of the control API from what it answers; a refusal becomes its sentence and its status."""

    async def endpoint(request: Request) -> Response:
        try:
            status, answer = 200, await work(request)
        except Refused as refused:
            status, answer = refused.status, {"error": str(refused)}
        except (ValueError, KeyError, TypeError) as error:
            status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
        return Response(dumps(answer), status, media_type="application/json")

    return Route(path, endpoint, methods=[method])


def _routes(panel: Panel[Any]) -> list[BaseRoute]:
    def route(path: str, method: str, work: Work) -> Route:
        return control_route(path, method, work, panel.dumps)

    return [
        route("/health", "GET", _constant({"ok": True, "name": panel.name})),
        *_row_routes(panel.store, route),
        *_switch_routes(panel, route),
        *panel.extra_routes,
    ]


_Route: TypeAlias = Callable[[str, str, Work], Route]


def _row_routes(store: Store, route: _Route) -> list[BaseRoute]:
    async def seed(request: Request) -> Any:
        body = await request.json()
        return {"ids": store.seed(body["entity"], body["rows"])}

    async def edit(request: Request) -> Any:
        body = await request.json()
        return {"row": store.edit(body["entity"], body["id"], body["values"], body.get("user"))}

    async def create(request: Request) -> Any:
        body = await request.json()
        return {"row": store.create(body["entity"], body["values"], body.get("user"))}

    async def delete(request: Request) -> Any:
        body = await request.json()
        store.delete(body["entity"], body["id"], body.get("user"))
        return {"ok": True}

    async def rows(request: Request) -> Any:
        query = request.query_params
        limit = int(query["limit"]) if query.get("limit") else None
        found, total = store.rows(query["entity"], limit, int(query.get("offset") or 0))
        return {"rows": found, "total": total}

    async def row(request: Request) -> Any:
        return {"row": store.row(request.query_params["entity"], request.query_params["id"])}

    return [
        route("/seed", "POST", seed),
        route("/edit", "POST", edit),
        route("/create", "POST", create),
        route("/delete", "POST", delete),
        route("/rows", "GET", rows),
        route("/row", "GET", row),
    ]


def _switch_routes(panel: Panel[Any], route: _Route) -> list[BaseRoute]:
    async def requests(_request: Request) -> Any:
        return panel.counts.describe()

    async def reset(_request: Request) -> Any:
        panel.counts.reset()
        return panel.counts.describe()

    async def put_chaos(request: Request) -> Any:
        body = await request.json()
        panel.chaos.replace(body.get("rules", []), body.get("seed", 0))
        return panel.chaos.describe()

    async def get_chaos(_request: Request) -> Any:
        return panel.chaos.describe()

    async def delete_chaos(_request: Request) -> Any:
        panel.chaos.clear()
        return panel.chaos.describe()

    async def put_settings(request: Request) -> Any:
        return panel.switches.update(await request.json()).model_dump(mode="json")

    async def get_settings(_request: Request) -> Any:
        return panel.switches.current.model_dump(mode="json")

    async def clock(request: Request) -> Any:
        panel.clock.skew_seconds = float((await request.json())["skew_seconds"])
        return {"skew_seconds": panel.clock.skew_seconds, "now": panel.clock.now().isoformat()}

    return [
        route("/requests", "GET", requests),
        route("/requests/reset", "POST", reset),
        route("/chaos", "PUT", put_chaos),
        route("/chaos", "GET", get_chaos),
        route("/chaos", "DELETE", delete_chaos),
        route("/settings", "PUT", put_settings),
        route("/settings", "GET", get_settings),
        route("/clock", "POST", clock),
    ]


def _constant(answer: Any) -> Callable[[Request], Awaitable[Any]]:
    async def work(_request: Request) -> Any:
        return answer

    return work
