"""Looks at a running sandbox from outside: is anything still to be done, what became of the records, how many requests did it take?"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sandbox.child import SandboxError
from sandbox.control_client import Control
from sandbox.processes import Sandbox
from shared.core.work import Batch, Outcome
from shared.ledger.encoding import make_key
from shared.ledger.packing import Packer
from shared.ledger.tables import Table
from shared.settings import Settings
from shared.wiring import App, build

SYSTEMS: Final = ("creatio", "dataverse")
COLUMNS: Final[Mapping[str, tuple[Outcome, ...]]] = {
    "created": (Outcome.CREATED,),
    "updated": (Outcome.UPDATED, Outcome.RESTORED),
    "unchanged": (Outcome.UNCHANGED, Outcome.OUT_OF_SCOPE),
    "bound": (Outcome.BOUND,),
    "deleted": (Outcome.DELETED, Outcome.DEACTIVATED),
    "waiting": (Outcome.WAITING,),
    "conflicts": (Outcome.CONFLICT,),
    "failed": (Outcome.FAILED, Outcome.REJECTED),
}
"""What a table for people counts, and the outcomes of the ledger that it sums."""

_LOOK_SECONDS: Final = 1.0
_GLANCE_SECONDS: Final = 0.25
_CALM_SECONDS: Final = 5.0


@dataclass
class Observer:
    """An app of its own beside the running one, on the same ledger; it only reads."""

    sandbox: Sandbox
    app: App
    aside: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SYSTEMS, 0))
    """Requests that the observer itself caused, which count for nobody."""

    @classmethod
    def of(cls, sandbox: Sandbox) -> "Observer":
        """Return an observer of a sandbox; close it when done."""
        return cls(sandbox, build(Settings.from_environ(sandbox.settings)))

    async def close(self) -> None:
        """Close the connections."""
        await self.app.close()

    @property
    def flows(self) -> tuple[str, ...]:
        """Return the names of the flows."""
        return tuple(sorted(self.app.services.mappings.flows))

    def control(self, name: str) -> Control:
        """Return the control API of a system's stand-in."""
        return self.sandbox.control(name)

    async def settle(self, limit_seconds: float) -> float:
        """Wait until nothing is left to do for a few polls; return the seconds until the work was done.

        Raises:
            SandboxError: a flow stopped by itself, a message was given up, or there was work left when the time was over.
        """
        begun = time.monotonic()
        calm_since: float | None = None
        writes = -1
        while True:
            status, now_written = await self.app.operate.status(), sum([await self.writes(name) for name in SYSTEMS])
            _refuse_trouble(status)
            now = time.monotonic()
            if not _is_idle(status) or now_written != writes:
                calm_since, writes = None, now_written
            elif calm_since is None:
                calm_since = now
            elif now - calm_since >= _CALM_SECONDS:
                return calm_since - begun
            if now - begun > limit_seconds:
                raise SandboxError(f"there was still work to do after {limit_seconds:.0f} s: {_left(status)}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def until(self, condition: Callable[[], Awaitable[bool]], limit_seconds: float) -> float | None:
        """Wait until something is true; return the seconds it took, None when it did not come true in time."""
        begun = time.monotonic()
        while time.monotonic() - begun < limit_seconds:
            if await condition():
                return time.monotonic() - begun
            await asyncio.sleep(_GLANCE_SECONDS)
        return None

    async def writes(self, name: str) -> int:
        """Return how many records were written to a stand-in by its clients."""
        return int((await self.control(name).requests())["writes"])

    async def requests(self) -> dict[str, int]:
        """Return the requests that the app made so far, by system."""
        return {name: int((await self.control(name).requests())["total"]) - self.aside[name] for name in SYSTEMS}

    async def unobserved(self, look: Awaitable[Any]) -> Any:
        """Await something that asks the systems through the observer's own app, and leave its requests out of the counts."""
        before = await self.requests()
        result = await look
        after = await self.requests()
        for name in SYSTEMS:
            self.aside[name] += after[name] - before[name]
        return result

    async def outcomes(self, flow: str) -> dict[str, int]:
        """Return what became of the records of a flow since the beginning, summed over all its batches."""
        table = Table(self.app.storages[-1], f"{self.app.settings.ledger_prefix}Work")
        rows = await table.query_prefix(make_key("batch", flow), "")
        counts = [Packer(Batch).unpack(row.properties).counts for row in rows]
        return {name: sum(count.get(outcome.value, 0) for count in counts for outcome in outcomes) for name, outcomes in COLUMNS.items()}


def _is_idle(status: Mapping[str, Any]) -> bool:
    watched = all(len(flow["watermarks"]) == len(SYSTEMS) for flow in status["flows"].values())
    return watched and not any(flow["open_batches"] for flow in status["flows"].values()) and not any(status["queues"].values())


def _refuse_trouble(status: Mapping[str, Any]) -> None:
    for name, flow in status["flows"].items():
        if not flow["started"]:
            raise SandboxError(f"the flow {name} stopped by itself: {flow['stopped_because']}")
    dead = {name: depth for name, depth in status["queues"].items() if name.endswith("-poison") and depth}
    if dead:
        raise SandboxError(f"messages were given up: {', '.join(f'{depth} in {name}' for name, depth in dead.items())}")


def _left(status: Mapping[str, Any]) -> str:
    open_records = {name: flow["open_records"] for name, flow in status["flows"].items() if flow["open_records"]}
    queues = {name: depth for name, depth in status["queues"].items() if depth}
    return f"open records {open_records or 'none'}, messages {queues or 'none'}, or somebody went on writing"
