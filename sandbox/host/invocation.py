"""Run functions as the Python worker does: async ones on the loop, plain ones in a thread pool (azure.md 1.3, 1.4)."""

import asyncio
import contextvars
import functools
import inspect
import logging
import random
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.host.bindings import HttpBinding, QueueBinding
from sandbox.host.clock import HostClock
from sandbox.host.context import InvocationContext, OutputParameter, RetryContext, TraceContext, new_trace_parent, queue_items
from sandbox.host.indexing import HostedFunction

# How long a cancelled function may still clean up before the host goes on without it.
_CANCEL_GRACE: Final = 5.0

_log = logging.getLogger(__name__)

SendToQueue = Callable[[QueueBinding, bytes], Awaitable[None]]


class WorkerRestartedError(Exception):
    """The invocation ended because the worker did: one of its functions ran longer than ``functionTimeout``."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one invocation ended; ``value`` is what an HTTP function answered."""

    value: Any = None
    error: BaseException | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the function ended without an error."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation that is asked for."""

    function: HostedFunction
    value: Any
    reason: str
    trace_parent: str = ""
    trace_state: str = ""


class Invoker:
    """The worker: it runs calls, knows which are running, and can end them all."""

    def __init__(
        self,
        *,
        app_root: Path,
        timeout: float | None,
        thread_count: int | None,
        send: SendToQueue,
        clock: HostClock,
        jitter: random.Random,
    ) -> None:
        self._app_root = app_root
        self._timeout = timeout
        self._thread_count = thread_count
        self._send = send
        self._clock = clock
        self._jitter = jitter
        self._pool = ThreadPoolExecutor(thread_count, "function")
        self._running: dict[asyncio.Task[Any], HostedFunction] = {}
        self.threads_abandoned = False

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the functions that run now, one for each invocation."""
        return tuple(function.name for function in self._running.values())

    async def invoke(self, call: Call) -> Outcome:
        """Run a call, with the retries of its policy, and return how it ended; the function's errors do not escape."""
        policy = call.function.retry
        retries = 0
        delays = policy.delays(self._jitter) if policy else None
        while True:
            outcome = await self._invoke_once(call, RetryContext(retries, policy.maximum_count if policy else 0))
            if outcome.succeeded or policy is None or delays is None or not policy.allows(retries):
                return outcome
            if isinstance(call.function.trigger, HttpBinding):
                return outcome
            await asyncio.sleep(self._clock.real_seconds(delays.next_delay(succeeded=False)))
            retries += 1

    def cancel_all(self) -> None:
        """End every running invocation, as the death of the worker process would."""
        for task, function in self._running.items():
            task.cancel()
            if not inspect.iscoroutinefunction(function.handler):
                self.threads_abandoned = True  # a thread can't be ended from outside

    def close(self) -> None:
        """Give up the thread pool without waiting for it."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _invoke_once(self, call: Call, retry: RetryContext) -> Outcome:
        invocation_id = str(uuid.uuid4())
        name = call.function.name
        _log.info("Executing 'Functions.%s' (Reason='%s', Id=%s)", name, call.reason, invocation_id)
        started = time.perf_counter()
        task = asyncio.create_task(self._run(call, invocation_id, retry), name=f"{name} {invocation_id}")
        self._running[task] = call.function
        try:
            outcome = await self._outcome(task, name)
        finally:
            self._running.pop(task, None)
        milliseconds = (time.perf_counter() - started) * 1000
        if outcome.error is None:
            _log.info("Executed 'Functions.%s' (Succeeded, Id=%s, Duration=%.0fms)", name, invocation_id, milliseconds)
        else:
            described = self._describe(outcome.error)
            _log.error("Executed 'Functions.%s' (Failed, Id=%s, Duration=%.0fms) %s", name, invocation_id, milliseconds, described)
            _log.debug("Traceback of %s", invocation_id, exc_info=outcome.error)
        return outcome

    async def _outcome(self, task: "asyncio.Task[Any]", name: str) -> Outcome:
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_GRACE)
            raise
        if not done:
            _log.error("Timeout value of %g s exceeded by function 'Functions.%s': the worker is restarted", self._timeout, name)
            self._restart_worker()
            done, _ = await asyncio.wait({task}, timeout=_CANCEL_GRACE)
        if not done or task.cancelled():
            return Outcome(error=WorkerRestartedError(f"{name} was ended together with its worker"))
        error = task.exception()
        return Outcome(error=error) if error is not None else Outcome(value=task.result())

    def _restart_worker(self) -> None:
        self.cancel_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = ThreadPoolExecutor(self._thread_count, "function")

    async def _run(self, call: Call, invocation_id: str, retry: RetryContext) -> Any:
        function = call.function
        outputs = {binding.name: OutputParameter() for binding in function.outputs if binding.name != "$return"}
        arguments: dict[str, Any] = {function.trigger.name: call.value, **outputs}
        trace = TraceContext(call.trace_parent or new_trace_parent(), call.trace_state)
        context = InvocationContext(invocation_id, function.name, str(self._app_root), trace, retry)
        context.thread_local_storage.invocation_id = invocation_id
        if function.takes_context:
            arguments["context"] = context
        if inspect.iscoroutinefunction(function.handler):
            returned = await function.handler(**arguments)
        else:
            run = functools.partial(contextvars.copy_context().run, function.handler, **arguments)
            returned = await asyncio.get_running_loop().run_in_executor(self._pool, run)
        if returned is not None and not function.has_return:
            raise RuntimeError(f"function {function.name} without a $return binding returned a non-None value ({type(returned).__name__})")
        return await self._deliver(function, returned, outputs)

    async def _deliver(self, function: HostedFunction, returned: Any, outputs: dict[str, OutputParameter]) -> Any:
        """Send the queue outputs, only now that the function has succeeded, and return the value of the HTTP output."""
        answer = None
        for binding in function.outputs:
            value = returned if binding.name == "$return" else outputs[binding.name].get()
            if not isinstance(binding, QueueBinding):
                answer = value
            elif value is not None:
                for body in queue_items(value):
                    await self._send(binding, body)
        return answer

    def _describe(self, error: BaseException) -> str:
        """Return an error in one line, with the place in the app where it arose."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(self._app_root)]
        place = f" at {Path(own[-1].filename).relative_to(self._app_root)}:{own[-1].lineno} in {own[-1].name}" if own else ""
        return " ".join(f"{type(error).__name__}: {error}{place}".split())
