"""Run the stand-ins' Starlette apps: in a background thread for tests, as a blocking command for people.

Ports are chosen free when 0 is asked for. The servers write no Date header of their own: a stand-in stamps
answers with its own clock (sandbox/control.py). `abort_connection` closes a socket without an answer.
"""

import asyncio
import contextlib
import contextvars
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_START_SECONDS = 15.0
_transport: contextvars.ContextVar[asyncio.Transport] = contextvars.ContextVar("transport")


@dataclass(frozen=True)
class TlsFiles:
    """Name the PEM files of a server that speaks HTTPS."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Listener:
    """Describe one server of a command: the name in its ready line, its app and where it listens (port 0: any)."""

    name: str
    app: AsgiApp
    port: int = 0
    tls: TlsFiles | None = None


class _AbortableProtocol(H11Protocol):
    """Remember the connection in the context of the task that answers, so that a handler can close it."""

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        _transport.set(self.transport)
        super().data_received(data)


async def abort_connection(*, after_sent: bool = False) -> None:
    """Close the connection of the request in hand, at once or when what was sent has left; the caller sends nothing afterwards."""
    transport = _transport.get()
    if after_sent:
        transport.close()
    else:
        transport.abort()
    for _ in range(3):  # lets the loop tell uvicorn that the connection is lost, so that it logs no missing answer
        await asyncio.sleep(0)


@contextlib.contextmanager
def serving(app: AsgiApp, tls: TlsFiles | None = None, port: int = 0) -> Iterator[str]:
    """Serve an app from a background thread and yield its address (`http://127.0.0.1:PORT`); stop it afterwards."""
    bound = _bind(port)
    server = _server(app, tls)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield _address(bound, tls)
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
        bound.close()


@contextlib.asynccontextmanager
async def running(app: AsgiApp, tls: TlsFiles | None = None, port: int = 0) -> AsyncIterator[str]:
    """Serve an app beside the running test and yield its address; the server has a loop and a thread of its own."""
    server = serving(app, tls, port)
    url = await asyncio.to_thread(server.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def serve_command(name: str, app: AsgiApp, port: int = 0, tls: TlsFiles | None = None) -> None:
    """Serve one app until SIGINT or SIGTERM, after printing `<name> ready on <address>`."""
    serve_together([Listener(name, app, port, tls)])


def serve_together(listeners: Sequence[Listener]) -> None:
    """Serve several apps in one process until SIGINT or SIGTERM; a ready line is printed for each, in order."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_all(listeners))


async def _serve_all(listeners: Sequence[Listener]) -> None:
    bound = [_bind(listener.port) for listener in listeners]
    servers = [_server(listener.app, listener.tls) for listener in listeners]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows loops take no signal handlers
            loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(_quiet_serve(server, sock)) for server, sock in zip(servers, bound, strict=True)]
    while not all(server.started for server in servers):
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(0.005)
    for listener, sock in zip(listeners, bound, strict=True):
        print(f"{listener.name} ready on {_address(sock, listener.tls)}", flush=True)
    ended = asyncio.create_task(stop.wait())
    await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
    ended.cancel()


async def _quiet_serve(server: uvicorn.Server, sock: socket.socket) -> None:
    """Run a server without its own signal handlers: two servers in one process would undo each other's."""
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    await server.serve(sockets=[sock])


def _server(app: AsgiApp, tls: TlsFiles | None) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_AbortableProtocol,
            ws="none",
            loop="asyncio",
            log_level="warning",
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            ssl_certfile=None if tls is None else tls.certificate,
            ssl_keyfile=None if tls is None else str(tls.key),
        ),
    )


def _bind(port: int) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer waits 40 ms for an ACK.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError as error:
        bound.close()
        raise SystemExit(f"port {port} of 127.0.0.1 is taken ({error}); choose another one, or 0 for any free") from None
    return bound


def _address(bound: socket.socket, tls: TlsFiles | None) -> str:
    return f"{'http' if tls is None else 'https'}://127.0.0.1:{bound.getsockname()[1]}"


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the server did not start; its own log lines above say why")
        time.sleep(0.002)
