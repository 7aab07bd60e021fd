"""The ledger and the queues in memory, quick enough for many records: what storage costs is measured elsewhere.

The ledger keeps every promise of the tests' ledger, which is its base; only what that one searches from end to end is looked up here.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeAlias

from shared.core.binding import Binding, BindingState, Bound, BoundPage, Seen
from shared.core.errors import Stale, TandemError
from shared.core.records import Side
from shared.core.work import Message, PollMessage
from tests.engine.fake_ledger import FakeLedger

Deliver: TypeAlias = Callable[[Message | PollMessage], Awaitable[None]]


class MemoryLedger(FakeLedger):
    """Bindings by the ids of both sides and by ETag."""

    def __init__(self, *, forgets: bool = False) -> None:
        """Begin empty. One that `forgets` drops a binding once it is bound, so that a load can be weighed without its ledger."""
        super().__init__(lambda _step: None, lambda: datetime.now(UTC))
        self._forgets = forgets
        self._by_id: dict[tuple[str, Side, str], Binding] = {}
        self._by_etag: dict[str | None, Binding] = {}

    async def bindings(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Binding]:
        """Read bindings by the ids of one side."""
        return {one: self._by_id[flow, side, one] for one in ids if (flow, side, one) in self._by_id}

    async def stamps(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Seen]:
        """Read the stamps of bindings by the ids of one side; as from tables, a binding comes along on Creatio's side."""
        found = await self.bindings(flow, side, ids)
        return {one: Seen(b.stamp_on(side), b.state, b if side is Side.CREATIO else None) for one, b in found.items()}

    async def save_bindings(self, bindings: Sequence[Binding]) -> Sequence[Binding | TandemError]:
        """Save bindings, each by its own ETag."""
        return [self._save_one(binding) for binding in bindings]

    async def forget_binding(self, binding: Binding) -> None:
        """Remove a binding by its ETag."""
        there = self._by_etag.pop(binding.etag, None)
        if there is None:
            raise Stale("ledger.changed_meanwhile")
        self._take_out(there)

    async def scan_bindings(self, flow: str, after: str | None = None, limit: int = 1000) -> BoundPage:
        """Read a page of all bindings of a flow, in the order in which they were made."""
        rows = [(self.born[etag], one) for etag, one in self._by_etag.items() if one.flow == flow and self.born[etag] > int(after or 0)]
        rows.sort(key=lambda row: row[0])
        page = [Bound(b.creatio_id, b.dynamics_id, b.state, b.creatio_stamp, b.dynamics_stamp, b.gone) for _, b in rows[:limit]]
        return BoundPage(page, str(rows[limit - 1][0]) if len(rows) > limit else None)

    def _save_one(self, binding: Binding) -> Binding | TandemError:
        old = self._by_etag.get(binding.etag) if binding.etag is not None else None
        there = [self._by_id.get(key) for key in _keys(binding)]
        if any(one is not None and one is not old for one in there) or (binding.etag is not None and old is None):
            return Stale("ledger.changed_meanwhile", record_id=binding.creatio_id or binding.dynamics_id or "")
        if old is not None:
            self._take_out(old)
            del self._by_etag[old.etag]
        saved = replace(binding, etag=self._fresh())
        born = self.born.pop(old.etag) if old is not None else self._etag
        if self._forgets and saved.state is BindingState.BOUND:
            return saved
        self.born[saved.etag] = born
        self._by_etag[saved.etag] = saved
        self._by_id.update(dict.fromkeys(_keys(saved), saved))
        return saved

    def _take_out(self, binding: Binding) -> None:
        for key in _keys(binding):
            del self._by_id[key]


def _keys(binding: Binding) -> list[tuple[str, Side, str]]:
    return [(binding.flow, side, str(binding.id_on(side))) for side in Side if binding.id_on(side)]


class MemoryQueues:
    """Queues in memory, and the host that hands their messages out: so many at a time, each when it is due."""

    def __init__(self) -> None:
        """Begin empty."""
        self._waiting: list[tuple[float, int, str, Message | PollMessage]] = []
        self._numbers = count()
        self.delayed = 0

    async def send(self, queue: str, message: Message | PollMessage, delay_seconds: float = 0) -> None:
        """Put a message on a queue, visible after a delay."""
        self.delayed += 1 if delay_seconds else 0
        due = asyncio.get_running_loop().time() + delay_seconds
        heapq.heappush(self._waiting, (due, next(self._numbers), queue, message))

    async def depths(self) -> Mapping[str, int]:
        """Return the number of messages of each queue."""
        return {name: sum(1 for _, _, queue, _ in self._waiting if queue == name) for name in ("polls", "changes", "bulk")}

    async def hand_out(self, deliver: Deliver, at_once: int, sending: asyncio.Task[object]) -> None:
        """Deliver messages until none is left and `sending` is over; raise what a delivery or `sending` raises."""
        running: set[asyncio.Task[Any]] = {sending}
        while running or self._waiting:
            now = asyncio.get_running_loop().time()
            while self._waiting and self._waiting[0][0] <= now and len(running - {sending}) < at_once:
                message = heapq.heappop(self._waiting)[3]
                running.add(asyncio.ensure_future(_delivered(deliver, message)))
            wait = max(self._waiting[0][0] - now, 0.001) if self._waiting and len(running - {sending}) < at_once else None
            if not running:
                await asyncio.sleep(wait or 0)
                continue
            done, running = await asyncio.wait(running, timeout=wait or 0.05, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()


async def _delivered(deliver: Deliver, message: Message | PollMessage) -> None:
    await deliver(message)
