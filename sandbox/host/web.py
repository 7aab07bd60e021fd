"""HTTP: triggers, their keys, and the admin interface of the host (azure.md 2.5)."""

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import azure.functions as func
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.host.bindings import HttpBinding
from sandbox.host.indexing import HostedFunction
from sandbox.host.invocation import Call, Invoker
from sandbox.host.keys import AccessKeys
from sandbox.host.routes import RouteTemplate, compile_route

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY")

_log = logging.getLogger(__name__)


class BadInputError(Exception):
    """A call of the admin interface that can't be carried out; the text says why."""


@dataclass(frozen=True, slots=True)
class AdminPort:
    """What the admin interface asks of the host."""

    status: Callable[[], dict[str, Any]]
    start: Callable[[str, str], Awaitable[bool]]  # function name and input; False when there is no such function


@dataclass(frozen=True, slots=True)
class _Endpoint:
    function: HostedFunction
    trigger: HttpBinding
    route: RouteTemplate


class WebFront:
    """Answers every request: admin calls, then the best matching function, else 404."""

    def __init__(
        self, functions: Sequence[HostedFunction], *, route_prefix: str, keys: AccessKeys, invoker: Invoker, admin: AdminPort
    ) -> None:
        self._keys = keys
        self._invoker = invoker
        self._admin = admin
        endpoints = [
            _Endpoint(function, function.trigger, compile_route(f"Function {function.name!r}", _full_route(route_prefix, function.trigger)))
            for function in functions
            if isinstance(function.trigger, HttpBinding)
        ]
        self._endpoints = sorted(endpoints, key=lambda endpoint: endpoint.route.rank)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/admin/host/status", self._status),
                Route("/admin/host/ping", self._ping, methods=["GET", "POST"]),
                Route("/admin/functions/{name}", self._start, methods=["POST"]),
                Route("/{path:path}", self._dispatch, methods=list(_METHODS)),
            ]
        )

    def describe(self) -> list[str]:
        """Return one line for each HTTP function: methods, path, level."""
        return [
            f"{endpoint.function.name}: [{','.join(sorted(endpoint.trigger.methods)) or 'ALL'}] /{endpoint.route.template} "
            f"({endpoint.trigger.auth_level})"
            for endpoint in self._endpoints
        ]

    async def _status(self, request: Request) -> Response:
        return JSONResponse(self._admin.status()) if self._is_admin(request) else Response(status_code=401)

    async def _ping(self, request: Request) -> Response:
        return Response(status_code=200 if self._is_admin(request) else 401)

    async def _start(self, request: Request) -> Response:
        if not self._is_admin(request):
            return Response(status_code=401)
        try:
            document = json.loads(await request.body() or b"{}")
            text = document.get("input") if isinstance(document, dict) else None
            known = await self._admin.start(request.path_params["name"], text if isinstance(text, str) else "")
        except ValueError:
            return JSONResponse({"error": 'The body is not JSON; allowed is {"input": "text"}.'}, 400)
        except BadInputError as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(status_code=202 if known else 404)

    def _is_admin(self, request: Request) -> bool:
        return self._keys.allow("admin", _presented_key(request))

    async def _dispatch(self, request: Request) -> Response:
        path = request.path_params["path"]
        for endpoint in self._endpoints:
            parameters = endpoint.route.match(path)
            if parameters is None or (endpoint.trigger.methods and request.method not in endpoint.trigger.methods):
                continue
            if not self._keys.allow(endpoint.trigger.auth_level, _presented_key(request)):
                return Response(status_code=401)
            return await self._invoke(endpoint, request, parameters)
        return Response(status_code=404)

    async def _invoke(self, endpoint: _Endpoint, request: Request, parameters: dict[str, str]) -> Response:
        value = func.HttpRequest(
            method=request.method,
            url=_raw_url(request),
            headers=dict(request.headers),
            params=dict(request.query_params),
            route_params=parameters,
            body=await request.body(),
        )
        trace_parent = request.headers.get("traceparent", "")
        reason = "This function was programmatically called via the host APIs."
        call = Call(endpoint.function, value, reason, trace_parent, request.headers.get("tracestate", ""))
        outcome = await self._invoker.invoke(call)
        if not outcome.succeeded:
            return Response(status_code=500)
        try:
            return to_response(outcome.value)
        except TypeError as error:
            _log.error("Function '%s': %s", endpoint.function.name, error)
            return Response(status_code=500)


def to_response(value: Any) -> Response:
    """Return the response for what a function returned: HttpResponse, text, or None (204).

    Raises:
        TypeError: It is something else.
    """
    if value is None:
        return Response(status_code=204)
    if isinstance(value, str):
        return Response(value, media_type="text/plain")
    if not isinstance(value, func.HttpResponse):
        raise TypeError(f"it returned {type(value).__name__}; allowed are azure.functions.HttpResponse, str and None")
    response = Response(value.get_body(), status_code=value.status_code)
    names = {name.lower() for name, _ in value.headers.items()}
    if "content-type" not in names:
        charset = f"; charset={value.charset}" if value.mimetype.startswith("text/") else ""
        response.headers["content-type"] = f"{value.mimetype}{charset}"
    for name, text in value.headers.items():
        response.headers.append(name, text)  # appended: Set-Cookie may come several times
    return response


def _full_route(prefix: str, trigger: HttpBinding) -> str:
    return "/".join(part for part in (prefix, trigger.route) if part)


def _raw_url(request: Request) -> str:
    """Return the address as it was sent: Starlette's own one has its escapes resolved."""
    query = request.url.query
    path = request.scope.get("raw_path", b"").decode("ascii")
    return f"{request.url.scheme}://{request.url.netloc}{path}{'?' if query else ''}{query}"


def _presented_key(request: Request) -> str | None:
    return request.headers.get("x-functions-key") or request.query_params.get("code")
