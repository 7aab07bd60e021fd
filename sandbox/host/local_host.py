"""The host: the functions of one app, their listeners, and the web front, from start to drain.

It follows azure.md, section 2. Where it differs from the host in Azure:

- Host and functions share one process and one loop. After ``functionTimeout`` everything that runs is ended, as when the worker
  is restarted, but the app's modules are not imported again, and the thread of a plain function can't be ended.
- ``functionTimeout`` and the drain time are real seconds, whatever the time scale. A lease lasts at least 15 real seconds.
- Storage that gives no answer is waited for; in Azure the host would be started again. Storage that refuses stops this host too.
- Keys come from settings or are made at each start; they are not stored. A route called with another method answers 404.
- Connections are connection strings; identity-based ones work in Azure only. Triggers: queue, timer, HTTP; outputs: queue, HTTP.
"""

import asyncio
import hashlib
import logging
import os
import platform
import random
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from azure.storage.queue import QueueMessage

from sandbox.host.bindings import QueueBinding, TimerBinding, poison_queue_name
from sandbox.host.clock import HostClock
from sandbox.host.host_config import HostConfig
from sandbox.host.indexing import HostedFunction
from sandbox.host.invocation import Call, Invoker
from sandbox.host.keys import AccessKeys
from sandbox.host.locks import SingletonLock
from sandbox.host.problems import StartupError
from sandbox.host.queue_listener import QueueListener
from sandbox.host.queue_processor import QueueProcessor, encode_body, trigger_value
from sandbox.host.schedule import ScheduleMonitor
from sandbox.host.storage import Connections, send_creating_queue
from sandbox.host.timer_listener import TimerListener, timer_request
from sandbox.host.web import AdminPort, BadInputError, WebFront

_HOST_ID_LENGTH: Final = 32
_LOOP_CHECK: Final = 0.5  # real seconds
_LOOP_TOO_LATE: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What a host is started with; ``thread_count`` None lets Python choose, ``drain_seconds`` are real ones."""

    script: Path
    environment: Mapping[str, str]
    config: HostConfig
    clock: HostClock
    keys: AccessKeys
    instance: str
    port: int = 0
    drain_seconds: float = 10.0
    thread_count: int | None = None

    @property
    def host_id(self) -> str:
        """What hosts of the same app share: the setting, or machine and app folder (azure.md 2.4, host id).

        A scaled clock has an id of its own, because its dates mean nothing to a host with another one.
        """
        given = self.environment.get("AzureFunctionsWebHost__hostId")
        folder = hashlib.sha256(str(self.script.resolve().parent).encode()).hexdigest()[:8]
        name = given or f"{platform.node().lower()[:14]}-{folder}"
        return name[:_HOST_ID_LENGTH] if self.clock.scale == 1 else f"{name[:_HOST_ID_LENGTH]}-x{self.clock.scale:g}"


class _Server(uvicorn.Server):
    """A server that says when it listens and leaves the signals to the host."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class LocalHost:
    """Runs the functions of one app until it is told to stop."""

    def __init__(self, options: HostOptions, functions: Sequence[HostedFunction]) -> None:
        self._options = options
        self._functions = {function.name: function for function in functions if not function.disabled}
        self._jitter = random.Random()  # noqa: S311 - it spreads waits, it protects nothing
        self._connections = Connections(options.environment)
        self._started = time.monotonic()
        self._invoker = Invoker(
            app_root=options.script.resolve().parent,
            timeout=options.config.function_timeout,
            thread_count=options.thread_count,
            send=self._send,
            clock=options.clock,
            jitter=self._jitter,
        )
        self._queues: list[QueueListener] = []
        self._timers: list[TimerListener] = []
        for function in self._functions.values():
            if isinstance(function.trigger, QueueBinding):
                self._queues.append(self._queue_listener(function, function.trigger))
            elif isinstance(function.trigger, TimerBinding):
                self._timers.append(self._timer_listener(function, function.trigger))
        self._web = WebFront(
            list(self._functions.values()),
            route_prefix=options.config.route_prefix,
            keys=options.keys,
            invoker=self._invoker,
            admin=AdminPort(self._status, self._start_by_hand),
        )
        self._by_hand: set[asyncio.Task[Any]] = set()

    @property
    def threads_abandoned(self) -> bool:
        """Whether threads of plain functions still run that nobody can end."""
        return self._invoker.threads_abandoned

    async def run(self, stop: asyncio.Event, announce: Callable[[str], None]) -> None:
        """Run until ``stop`` is set, then let running functions end for ``drain_seconds``; ``announce`` gets the address.

        Raises:
            Exception: What ended a listener, such as a refused storage key; the host has stopped then.
        """
        with _listening_socket(self._options.port) as listening:
            server = self._server()
            tasks = [asyncio.create_task(server.serve([listening]), name="web")]
            tasks += [asyncio.create_task(listener.run(), name=f"queue {listener.queue_name}") for listener in self._queues]
            tasks += [asyncio.create_task(listener.run(), name="timer") for listener in self._timers]
            watching = asyncio.create_task(_watch_loop(), name="watch")
            stopping = asyncio.create_task(stop.wait(), name="stop")
            try:
                await server.listening.wait()
                self._log_functions()
                announce(f"http://127.0.0.1:{listening.getsockname()[1]}")
                await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                watching.cancel()
                stopping.cancel()
                server.should_exit = True
                await self._drain(tasks)
                await self._connections.close()
                self._invoker.close()
            for task in tasks:
                if not task.cancelled() and (error := task.exception()):
                    raise error

    def _server(self) -> _Server:
        config = uvicorn.Config(
            self._web.application(),
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(self._options.drain_seconds)),
        )
        return _Server(config)

    async def _drain(self, tasks: Sequence["asyncio.Task[Any]"]) -> None:
        for queue_listener in self._queues:
            queue_listener.stop()
        for timer_listener in self._timers:
            timer_listener.stop()
        everything = [*tasks, *self._by_hand]
        if self._invoker.running:
            _log.info("Draining: waiting up to %g s for %s", self._options.drain_seconds, ", ".join(self._invoker.running))
        _, late = await asyncio.wait(everything, timeout=self._options.drain_seconds)
        if late:
            _log.warning("Not drained in time, ended: %s", ", ".join(self._invoker.running) or "idle listeners")
            # As if the process had died: messages come again after the rest of their visibility timeout.
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=1.0)
            self._invoker.cancel_all()
            await asyncio.sleep(0)
        _log.info("Host stopped")

    def _queue_listener(self, function: HostedFunction, trigger: QueueBinding) -> QueueListener:
        poison = poison_queue_name(trigger.queue)
        queue = self._connections.queue(trigger.connection, trigger.queue)
        processor = QueueProcessor(
            function=function,
            queue=queue,
            poison=self._connections.queue(trigger.connection, poison) if poison else None,
            options=self._options.config.queues,
            clock=self._options.clock,
            invoker=self._invoker,
            notify=self._notify,
        )
        return QueueListener(
            queue=queue, processor=processor, options=self._options.config.queues, clock=self._options.clock, jitter=self._jitter
        )

    def _timer_listener(self, function: HostedFunction, trigger: TimerBinding) -> TimerListener:
        container = self._connections.hosts_container()
        host_id = self._options.host_id
        status = container.get_blob_client(f"timers/{host_id}/Host.Functions.{function.name}/status")
        return TimerListener(
            function=function,
            trigger=trigger,
            lock=SingletonLock(container, host_id, function.name, self._options.clock),
            monitor=ScheduleMonitor(status),
            clock=self._options.clock,
            invoker=self._invoker,
        )

    async def _send(self, binding: QueueBinding, body: bytes) -> None:
        text = encode_body(body, base64_encoded=self._options.config.queues.base64)
        await send_creating_queue(self._connections.queue(binding.connection, binding.queue), text)
        self._notify(binding.queue)

    def _notify(self, queue: str) -> None:
        for listener in self._queues:
            if listener.queue_name == queue:
                listener.notify()

    def _status(self) -> dict[str, Any]:
        """Return the host's status; ``running`` is an addition of this host, by which a test sees the end of a run."""
        return {
            "id": self._options.host_id,
            "state": "Running",
            "version": "local",
            "instanceId": self._options.instance,
            "computerName": platform.node(),
            "processUptime": int((time.monotonic() - self._started) * 1000),
            "running": sorted(self._invoker.running),
        }

    async def _start_by_hand(self, name: str, text: str) -> bool:
        function = self._functions.get(name)
        if function is None:
            return False
        if isinstance(function.trigger, QueueBinding):
            value = trigger_value(function.trigger_type, QueueMessage(text, id=str(uuid.uuid4()), dequeue_count=1), text.encode())
        elif isinstance(function.trigger, TimerBinding):
            value = timer_request()
        else:
            raise BadInputError(
                f"{name} is an HTTP function: call its own address /{self._options.config.route_prefix}/{function.trigger.route}."
            )
        call = Call(function, value, "This function was programmatically called via the host APIs.")
        task = asyncio.create_task(self._invoker.invoke(call), name=f"by hand {name}")
        self._by_hand.add(task)
        task.add_done_callback(self._by_hand.discard)
        return True

    def _log_functions(self) -> None:
        for line in self._web.describe():
            _log.info("HTTP function %s", line)
        for listener in self._queues:
            _log.info("Listening on queue '%s'", listener.queue_name)


def _listening_socket(port: int) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it answers wait 40 ms for an ACK.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere the option would let two hosts share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise StartupError(
            f"The port {port} on 127.0.0.1 can't be used: {error.strerror}; choose another with --port (0: any free one)."
        ) from error
    return listening


async def _watch_loop() -> None:
    """Warn when the loop stood still: an async function that blocks also stops heartbeat and renewals in Azure."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(_LOOP_CHECK)
        late = time.monotonic() - before - _LOOP_CHECK
        if late > _LOOP_TOO_LATE:
            _log.warning("The event loop stood still for %.1f s: an async function blocks it", late)
