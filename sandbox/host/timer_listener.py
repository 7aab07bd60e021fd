"""The timer trigger: a singleton that runs on schedule and catches up once (azure.md 2.4)."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final

from azure.core.exceptions import AzureError
from azure.functions.timer import TimerRequest

from sandbox.host.bindings import TimerBinding
from sandbox.host.clock import HostClock
from sandbox.host.indexing import HostedFunction
from sandbox.host.invocation import Call, Invoker
from sandbox.host.locks import SingletonLock
from sandbox.host.schedule import NEVER, ScheduleMonitor, ScheduleStatus, check_past_due, runs_within_a_minute

_LOCK_RETRY: Final = 60.0  # seconds
_ONE_TICK: Final = timedelta(microseconds=1)

_log = logging.getLogger(__name__)


class TimerListener:
    """Runs one timer while this host holds its lock; it never overlaps itself."""

    def __init__(
        self,
        *,
        function: HostedFunction,
        trigger: TimerBinding,
        lock: SingletonLock,
        monitor: ScheduleMonitor,
        clock: HostClock,
        invoker: Invoker,
    ) -> None:
        self._function = function
        self._trigger = trigger
        self._lock = lock
        self._clock = clock
        self._invoker = invoker
        self._stopping = asyncio.Event()
        self._stored_monitor = monitor
        self._status = ScheduleStatus(NEVER, NEVER, NEVER)
        self._monitor: ScheduleMonitor | None = None

    def stop(self) -> None:
        """Start no more runs; the one that runs goes on."""
        self._stopping.set()

    async def run(self) -> None:
        """Wait for the lock, keep it and the schedule, until ``stop``."""
        while not self._stopping.is_set():
            if await self._lock.try_acquire():
                try:
                    await self._hold()
                finally:
                    await self._lock.release()
            else:
                _log.debug("Function '%s' is run by another host", self._function.name)
                await self._clock.wait(self._stopping, _LOCK_RETRY)

    async def _hold(self) -> None:
        """Listen until the lock is lost or the host stops; a run is always taken to its end first."""
        over = asyncio.Event()
        listening = asyncio.create_task(self._listen(over), name=f"timer {self._function.name}")
        renewing = asyncio.create_task(self._renew(), name=f"renew lock {self._function.name}")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({listening, renewing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            over.set()
            await listening
        finally:
            for task in (listening, renewing, stopping):
                task.cancel()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._clock.real_seconds(self._lock.renewal_seconds))
            if not await self._lock.renew():
                return

    async def _listen(self, over: asyncio.Event) -> None:
        now = self._clock.now()
        past_due = await self._start(now)
        if past_due:
            _log.info("Function '%s' is past due on startup. Executing now.", self._function.name)
            await self._run_once("Timer fired (past due)", past_due=True)
        elif self._trigger.run_on_startup:
            await self._run_once("Timer fired (RunOnStartup)", unscheduled=True)
        while not over.is_set():
            wait = max(self._status.next - self._clock.now(), _ONE_TICK)
            if not await self._clock.wait(over, wait.total_seconds()):
                await self._run_once("Timer fired")

    async def _start(self, now: datetime) -> bool:
        """Take up the schedule and return whether a run was missed."""
        schedule = self._trigger.schedule
        monitored = self._trigger.use_monitor and not runs_within_a_minute(schedule, now)
        self._monitor = self._stored_monitor if monitored else None
        stored = await self._read()
        self._status, past_due = check_past_due(schedule, stored, now)
        if self._monitor is not None and self._status != stored:
            await self._monitor.write(self._status)
        _log.info("Function '%s' (%s) is next due at %s", self._function.name, schedule.expression, self._status.next.isoformat())
        return past_due

    async def _read(self) -> ScheduleStatus | None:
        if self._monitor is None:
            return None
        try:
            return await self._monitor.read()
        except AzureError as error:
            _log.warning("The status of timer '%s' could not be read: %s", self._function.name, type(error).__name__)
            return None

    async def _run_once(self, reason: str, *, past_due: bool = False, unscheduled: bool = False) -> None:
        started = self._clock.now()
        status = self._status.to_json() if self._monitor is not None else {}
        await self._invoker.invoke(Call(self._function, timer_request(past_due=past_due, status=status), reason))
        if not (past_due or unscheduled):
            # Fired early by clock skew: reckon from the scheduled time, or the same occurrence would come twice.
            started = max(started, self._status.next)
        self._status = ScheduleStatus(last=started, next=self._trigger.schedule.next_after(started), last_updated=started)
        if self._monitor is not None:
            await self._monitor.write(self._status)


def timer_request(*, past_due: bool = False, status: dict[str, str] | None = None) -> TimerRequest:
    """Return what a timer function receives."""
    return TimerRequest(past_due=past_due, schedule_status=status or {}, schedule={"AdjustForDST": True})
