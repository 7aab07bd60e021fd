"""The identity service: `POST /connect/token` by client credentials, on a listener of its own (creatio.md 1.4).

`python -m sandbox.creatio.identity` runs it by itself; `python -m sandbox.creatio` runs it beside the stand-in.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.chaos import Chaos, ChaosMiddleware
from sandbox.control import Counts, Switches
from sandbox.creatio.errors import render
from sandbox.creatio.sessions import make_token
from sandbox.creatio.settings import CreatioSettings, command_parser
from sandbox.serve import AsgiApp, Receive, Scope, Send, serve_command

_SCOPE = "ApplicationAccess_4f1d6b0c3a5e47d1a2b9c8d7e6f50413"


def create_identity_app(
    switches: Switches[CreatioSettings],
    chaos: Chaos | None = None,
    counts: Counts | None = None,
    expire: Callable[[], None] = lambda: None,
) -> AsgiApp:
    """Build the identity app; with the stand-in's `chaos` and `counts` its requests meet and show in those.

    Only chaos rules that name a path are met, e.g. `"path": "/connect/token"`.
    """

    async def token(request: Request) -> Response:
        return _token(switches.current, request.headers.get("content-type", ""), await request.body())

    async def discovery(request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        document: dict[str, Any] = {
            "issuer": base,
            "token_endpoint": f"{base}/connect/token",
            "grant_types_supported": ["client_credentials", "authorization_code"],
        }
        return JSONResponse(document)

    routes = [
        Route("/connect/token", token, methods=["POST"]),
        Route("/.well-known/openid-configuration", discovery),
    ]
    troubled = ChaosMiddleware(Starlette(routes=routes), chaos or Chaos(), render, expire, named_only=True)
    counted = counts or Counts()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            counted.request(f"{scope['method']} {scope['path'].strip('/')}", counted=False)
        await troubled(scope, receive, send)

    return app


def _token(settings: CreatioSettings, content_type: str, body: bytes) -> Response:
    if not content_type.lower().startswith("application/x-www-form-urlencoded"):
        return _refused("invalid_request")
    form = {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
    if (form.get("client_id"), form.get("client_secret")) != (settings.client_id, settings.client_secret):
        return _refused("invalid_client")
    if form.get("grant_type") != "client_credentials":
        return _refused("unsupported_grant_type")
    answer = {
        "access_token": make_token(settings, _SCOPE),
        "expires_in": settings.token_seconds,
        "token_type": "Bearer",
        "scope": _SCOPE,
    }
    return JSONResponse(answer, headers={"cache-control": "no-store"})


def _refused(error: str) -> Response:
    return JSONResponse({"error": error}, 400)


def main() -> None:
    """Run the identity service until it is stopped."""
    given = command_parser("python -m sandbox.creatio.identity", str(main.__doc__)).parse_args()
    switches = Switches(CreatioSettings())
    switches.update(given.settings)
    serve_command("creatio identity", create_identity_app(switches), given.port)


if __name__ == "__main__":
    main()
