"""The host's clock: every wait of the host runs ``scale`` times faster than real time."""

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

# A fixed point, not the start of the process: two hosts, or a host and its successor, must agree on the time.
_ANCHOR: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class HostClock:
    """Time as the triggers see it.

    With ``scale`` F, each second of real time is F seconds here: polling back-off, visibility timeouts, lease periods
    and timer schedules pass F times faster. What functions do themselves, and ``functionTimeout``, stays in real time.
    Hosts that share a storage account and an app must use the same scale. With a scale other than 1 the dates that a
    timer sees run away from the calendar.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and 0.01 <= self.scale <= 10_000):
            raise ValueError(f"The time scale is {self.scale!r}; allowed is a number from 0.01 to 10000 (1 is real time).")

    def now(self) -> datetime:
        """Return the time on this clock, in UTC."""
        return _ANCHOR + (datetime.now(UTC) - _ANCHOR) * self.scale

    def real_seconds(self, seconds: float) -> float:
        """Return how many real seconds pass while ``seconds`` pass on this clock."""
        return seconds / self.scale

    def whole_seconds(self, seconds: float) -> int:
        """Return the same as whole real seconds, as the storage services count: at least 1, but 0 stays 0."""
        return math.ceil(seconds / self.scale)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Wait ``seconds`` of this clock or until the event is set, and return whether it is set."""
        try:
            async with asyncio.timeout(max(0.0, self.real_seconds(seconds))):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True
