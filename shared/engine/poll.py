"""Poll: find what may have changed and put it on the queue. Enqueue first, then advance the watermark (design 1)."""

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from shared.core.document import lines_of
from shared.core.errors import Denied, Stale, TandemError
from shared.core.mapping import Mapping
from shared.core.records import Change, ChangePage, Side
from shared.core.schedule import is_compare_due, is_due, rests
from shared.core.work import (
    BATCH_SIZE,
    MESSAGE_VERSION,
    Batch,
    BatchItem,
    BatchState,
    Census,
    Failure,
    FlowSettings,
    Message,
    Pin,
    PollMessage,
    PollState,
    Run,
    RunKind,
    Task,
    Watermark,
)
from shared.engine.environment import check_environments
from shared.engine.scan import Counted, has_bound
from shared.engine.services import Services
from shared.engine.stop import pause_account, stop_flow

_REFRESH_AFTER = timedelta(hours=20)
"""A position that only moved by itself is saved so often: delta links must be refreshed daily (law 11)."""
_CONTINUED = timedelta(minutes=10)
"""A chain that goes on through the queue is left alone so long; after that the timer takes it up again."""


class Poll:
    """The poll step. Remembers, in its process only, when each flow was polled last."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._polled: dict[str, datetime] = {}
        self._quiet: dict[str, datetime] = {}
        self.counted = Counted(services)

    async def run(self) -> None:
        """Poll every due flow, side by side, each for a bounded slice."""
        now = self._services.clock()
        state = await self._services.ledger.poll_state()
        due = []
        for flow in self._services.mappings.flows:
            settings = self._services.settings(flow, state.flows)
            if is_due(settings, now, self._polled.get(flow)):
                self._polled[flow] = now
                due.append(self._poll_flow(flow, settings, state))
        for outcome in await asyncio.gather(*due, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def run_message(self, message: PollMessage) -> None:
        """Go on polling one side of a flow whose slice ran out."""
        state = await self._services.ledger.poll_state()
        settings = self._services.settings(message.flow, state.flows)
        if rests(settings, RunKind.SCHEDULED, self._services.clock()):
            return
        mapping = self._services.mapping(message.flow)
        await self._guarded(mapping, settings, [self._poll_side(mapping, settings, state, message.side, message.run)])

    async def _poll_flow(self, flow: str, settings: FlowSettings, state: PollState) -> None:
        mapping, run, started = self._services.mapping(flow), self._services.new_id(), self._services.clock()
        await self._pin_mapping(flow, state)
        sides = [side for side in Side if (settings.to_dynamics if side is Side.CREATIO else settings.to_creatio)]
        ready = [side for side in sides if self._may_start(state, mapping, side, started)]
        polls = [self._poll_side(mapping, settings, state, side, run) for side in ready]
        polls += [self._ask_for_compare(mapping, state, side, run) for side in ready]
        changes, error = await self._guarded(mapping, settings, polls)
        if changes or error:
            await self._services.ledger.save_run(Run(run, flow, RunKind.SCHEDULED, started, self._services.clock(), changes, error=error))
        elif self._quiet.get(flow, started - timedelta(hours=2)) <= started - timedelta(hours=1):
            self._quiet[flow] = started
            await self._services.ledger.fold_quiet_run(flow, started)
        self._services.events("flow_polled", flow=flow, run=run, changes=changes, error=error)

    async def _pin_mapping(self, flow: str, state: PollState) -> None:
        """Keep, once, under which mapping the records of a flow are in step; under another one they may need alignment (law 2)."""
        if mapping_pin(flow) not in state.pins:
            pin = Pin(mapping_pin(flow), self._services.mappings.flow_hash(flow), self._services.clock())
            with suppress(Stale):  # another instance was first
                await self._services.ledger.save_pin(pin)

    def _may_start(self, state: PollState, mapping: Mapping, side: Side, now: datetime) -> bool:
        throttle = state.throttles.get(mapping.system(side))
        if throttle and throttle.pause_until and throttle.pause_until > now:
            return False
        watermark = state.watermarks.get((mapping.flow, side))
        return watermark is None or watermark.complete or watermark.saved_at < now - _CONTINUED

    async def _guarded(self, mapping: Mapping, settings: FlowSettings, polls: Sequence[Awaitable[int]]) -> tuple[int, str]:
        """Run polls side by side; return the number of changes and the code of the first error."""
        changes, error = 0, ""
        for outcome in await asyncio.gather(*polls, return_exceptions=True):
            if isinstance(outcome, int):
                changes += outcome
            elif isinstance(outcome, TandemError):
                error = error or outcome.code
                await self._note(mapping, settings, outcome)
            else:
                raise outcome
        return changes, error

    async def _note(self, mapping: Mapping, settings: FlowSettings, error: TandemError) -> None:
        self._services.events("poll_failed", flow=mapping.flow, code=error.code, request_id=error.request_id)
        if isinstance(error, Denied):
            await stop_flow(self._services, settings, error)
        else:
            await pause_account(self._services, error)

    async def _poll_side(self, mapping: Mapping, settings: FlowSettings, state: PollState, side: Side, run: str) -> int:
        await check_environments(self._services, mapping, state)
        columns = mapping.columns(side)
        mark = state.watermarks.get((mapping.flow, side))
        read = hashlib.blake2b("\n".join(columns).encode(), digest_size=8).hexdigest()
        position = mark.position if mark and mark.columns == read else None
        try:
            if mark is not None and position is None:
                await self._restart(mapping, state, side, "columns")
            return await self._follow(mapping, settings, side, run, mark, read, position)
        except Stale as expired:
            if position is None or expired.code == "ledger.changed_meanwhile":
                raise
            await self._restart(mapping, state, side, expired.code)
            return await self._follow(mapping, settings, side, run, mark, read, None)

    async def _restart(self, mapping: Mapping, state: PollState, side: Side, code: str) -> None:
        """Have the side compared with the ledger: a chain that starts anew does not tell what was deleted before it (law 11)."""
        self._services.events("watermark_restarted", flow=mapping.flow, side=side.value, code=code)
        census = state.censuses.get((mapping.flow, side)) or Census(mapping.flow, side, self._services.clock())
        await self._services.ledger.save_census(replace(census, due=True, asked=None))

    async def _ask_for_compare(self, mapping: Mapping, state: PollState, side: Side, run: str) -> int:
        """Put a compare of a side on the queue when it is due; the first poll of a side is its first complete read."""
        services, now = self._services, self._services.clock()
        census = state.censuses.get((mapping.flow, side))
        if census is None:
            if (mapping.flow, side) in state.watermarks and not services.system(mapping, side).tells_deletes:
                with suppress(Stale):  # another instance was first
                    await services.ledger.save_census(Census(mapping.flow, side, now))
            return 0
        if not is_compare_due(census, now, services.limits.compare_interval, services.system(mapping, side).tells_deletes):
            return 0
        try:
            await services.ledger.save_census(replace(census, asked=now))
        except Stale:
            return 0  # another instance asks
        await services.queues.send("polls", PollMessage(v=MESSAGE_VERSION, flow=mapping.flow, side=side, run=run, task=Task.COMPARE))
        return 0

    async def _follow(
        self, mapping: Mapping, settings: FlowSettings, side: Side, run: str, mark: Watermark | None, read: str, position: str | None
    ) -> int:
        services, found = self._services, 0
        deadline = services.clock() + services.limits.poll_slice
        system = services.system(mapping, side)
        held = _held_so_far(mark, position)
        lines = lines_of(mapping, side)
        pages = system.changes(mapping.entity(side), mapping.columns(side), position, settings.query_start, lines=lines)
        async for page in pages:
            found += len(page.changes)
            held = await self._must_hold(mapping, page) if held is None else held
            await self._enqueue(mapping, side, run, page, held=held)
            if page.complete and held:
                await services.queues.send("polls", PollMessage(v=MESSAGE_VERSION, flow=mapping.flow, side=side, run=run, task=Task.GATE))
            if self._worth_saving(page, mark, read):
                etag = mark.etag if mark else None
                fresh = Watermark(mapping.flow, side, page.position, read, page.complete, services.clock(), held, etag)
                mark = await services.ledger.save_watermark(fresh)
            if not page.complete and services.clock() >= deadline:
                await services.queues.send("polls", PollMessage(v=MESSAGE_VERSION, flow=mapping.flow, side=side, run=run))
                break
        return found

    def _worth_saving(self, page: ChangePage, mark: Watermark | None, read: str) -> bool:
        """Tell whether the position must be saved: a quiet poll writes nothing (design 10)."""
        if mark is None or page.changes or page.worth_keeping or mark.columns != read or page.complete != mark.complete:
            return True
        worn = mark.saved_at < self._services.clock() - _REFRESH_AFTER
        return page.position != mark.position and (worn or bool(page.problems))

    async def _must_hold(self, mapping: Mapping, page: ChangePage) -> bool:
        """Tell whether the batches of a chain are held: there are, or may be, too many changes to sync any before all are counted."""
        if page.complete:
            return await self.counted.too_few_for(mapping.flow, len({change.id for change in page.changes})) is not None
        return await has_bound(self._services, mapping.flow)

    async def _enqueue(self, mapping: Mapping, side: Side, run: str, page: ChangePage, *, held: bool) -> None:
        now, state = self._services.clock(), BatchState.HELD if held else BatchState.OPEN
        batches = [
            Batch(self._services.new_id(), mapping.flow, side, run, RunKind.SCHEDULED, items, now, state=state, touched=now)
            for items in chunks_of(page.changes)
        ]
        await send_batches(self._services, batches)
        if page.problems:
            failures = [Failure.of(problem, mapping.flow, side, now) for problem in page.problems]
            await self._services.ledger.save_failures(failures)


def _held_so_far(mark: Watermark | None, position: str | None) -> bool | None:
    """Tell whether the batches of a chain are held; None when that shows with its first page (law 12)."""
    if mark is None:
        return False  # a side's first chain is nobody's mass change
    return mark.held if position is not None and not mark.complete else None


def mapping_pin(flow: str) -> str:
    """Return the name under which the mapping is pinned that a flow's records are aligned with."""
    return f"mapping:{flow}"


def queue_of(kind: RunKind) -> str:
    """Return the queue of a run's batches: utility runs yield to scheduled ones and to what a person asked for now."""
    return "changes" if kind in (RunKind.SCHEDULED, RunKind.REPLAY, RunKind.SINGLE) else "bulk"


async def send_batches(services: Services, batches: Sequence[Batch]) -> None:
    """Insert batch rows, then send a message for each that is open: the row is there before the message names it."""
    if not batches:
        return
    await services.ledger.create_batches(batches)
    await asyncio.gather(*(services.queues.send(queue_of(b.kind), message_of(b)) for b in batches if b.state is BatchState.OPEN))


def message_of(batch: Batch) -> Message:
    """Return the message that names a batch as it stands."""
    return Message(v=MESSAGE_VERSION, flow=batch.flow, batch=batch.id, attempt=batch.attempt)


def chunks_of(changes: Sequence[Change]) -> list[list[BatchItem]]:
    """Cut changes into batches, each record once; a record that came twice keeps its latest entry."""
    latest = {change.id: BatchItem(change.id, change.stamp, change.deleted) for change in changes}
    items = list(latest.values())
    return [items[start : start + BATCH_SIZE] for start in range(0, len(items), BATCH_SIZE)]


def reopened(batch: Batch, items: Sequence[BatchItem], now: datetime) -> Batch:
    """Return a batch with what is left of it, for its next attempt."""
    return replace(batch, items=items, attempt=batch.attempt + 1, touched=now)
