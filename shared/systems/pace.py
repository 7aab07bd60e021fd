"""How many requests a system gets at once: it grows by one a round, halves when the system complains, and can be paused as a whole.

Limits are per account, not per task (dataverse.md 7): one task's 429 stops the sending of all, and the number of parallel requests
then climbs again by small steps, never above the server's own hint.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Pace:
    """A gate for the requests of one account in this process."""

    def __init__(self, *, start: int = 4, most: int = 16, monotonic: Callable[[], float]) -> None:
        """Start with `start` requests at once and never go above `most`."""
        self._most = max(1, most)
        self._ceiling = self._most
        self._limit = float(min(max(1, start), self._most))
        self._busy = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._monotonic = monotonic
        self._pause_until = 0.0

    @property
    def limit(self) -> int:
        """Return how many requests may run at once now."""
        return max(1, min(int(self._limit), self._ceiling))

    @property
    def paused_for(self) -> float:
        """Return the seconds until sending may go on; 0 when it may."""
        return max(0.0, self._pause_until - self._monotonic())

    def pause(self, seconds: float) -> None:
        """Stop all sending for a while; a shorter pause than the present one changes nothing."""
        self._pause_until = max(self._pause_until, self._monotonic() + seconds)

    def slower(self) -> None:
        """Halve the number of parallel requests: the system complained or did not answer."""
        self._limit = max(1.0, self._limit / 2)

    def faster(self) -> None:
        """Add one to the number of parallel requests for each round of answers without a complaint."""
        self._limit = min(float(self._ceiling), self._limit + 1 / self._limit)
        self._wake()

    def hint(self, most: int) -> None:
        """Respect the server's own recommended parallelism (`x-ms-dop-hint`: dataverse.md 7)."""
        self._ceiling = max(1, min(self._most, most))
        self._limit = min(self._limit, float(self._ceiling))
        self._wake()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a free place, hold it, and give it back whatever happens."""
        await self._enter()
        try:
            yield
        finally:
            self._busy -= 1
            self._wake()

    async def _enter(self) -> None:
        if self._busy < self.limit and not self._waiters:
            self._busy += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place was given at the same moment: hand it on
                self._busy -= 1
                self._wake()
            elif turn in self._waiters:
                self._waiters.remove(turn)
            raise

    def _wake(self) -> None:
        while self._waiters and self._busy < self.limit:
            turn = self._waiters.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(None)
