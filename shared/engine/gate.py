"""Gate: look through held batches before any record of them is synced (law 12).

A read that brought more changes than usual is planned first. If that many records really changed, by fingerprint, the flow rests and
asks a person: a backup may have been restored, or an import gone wrong. Otherwise the batches go on their way.
"""

from collections.abc import Sequence
from dataclasses import replace

from shared.core.binding import Seen
from shared.core.errors import Denied, Rejected, Stale, Transient
from shared.core.mapping import Mapping
from shared.core.records import Side, Stamp
from shared.core.schedule import rests
from shared.core.work import Asking, Batch, BatchState, FlowSettings, Outcome, PollMessage, PollState, RunKind
from shared.engine.desk import open_desk
from shared.engine.jobs import BatchWork
from shared.engine.poll import message_of, queue_of
from shared.engine.rehearse import Rehearse, has_changed
from shared.engine.scan import Counted, most_changes
from shared.engine.services import Services
from shared.engine.stop import pause_account, stop_flow

_SOON = 30.0


class Gate:
    """The gate step."""

    def __init__(self, services: Services, counted: Counted) -> None:
        self._services = services
        self._counted = counted
        self._rehearse = Rehearse(services)

    async def run(self, message: PollMessage) -> None:
        """Count what really changed in the held batches of a side; release them, or let the flow ask."""
        services = self._services
        state = await services.ledger.poll_state()
        settings = services.settings(message.flow, state.flows)
        if rests(settings, RunKind.SCHEDULED, services.clock()):
            return  # `watch` asks for it again when the flow runs
        mapping = services.mapping(message.flow)
        held = await held_batches(services, message.flow, message.side)
        bound = await self._counted.too_few_for(message.flow, len(_records(held)))
        if bound is not None:
            held = [await self._without_echoes(batch) for batch in held]
            try:
                asking = await self._mass_change(message, mapping, settings, state, held, bound)
            except (Denied, Rejected) as error:
                await stop_flow(services, settings, error)
                return
            except (Transient, Stale) as error:  # a passing fault: the batches stay held, and are looked through a little later
                await pause_account(services, error)
                await services.queues.send("polls", message, getattr(error, "retry_after", None) or _SOON)
                return
            if asking is not None:
                await services.ledger.save_flow(replace(settings, asking=asking))
                facts = {"flow": message.flow, "side": message.side.value, "changed": float(asking.changed), "bound": float(asking.of)}
                services.events("flow_asks", code="sync.mass_change", **facts)
                return
        for batch in held:
            await release(services, batch, batch.kind)

    async def _mass_change(
        self, message: PollMessage, mapping: Mapping, settings: FlowSettings, state: PollState, held: Sequence[Batch], bound: int
    ) -> Asking | None:
        """Return what a person is to be asked when more records really changed than may at once."""
        most = most_changes(bound, self._services.limits)
        changed, earlier = await self._changed(mapping, settings, state, held, most)
        return Asking(message.side, changed, bound, self._services.clock(), earlier=earlier) if changed > most else None

    async def _without_echoes(self, batch: Batch) -> Batch:
        """Take out the records whose stamp the binding has seen: most of a large read are echoes of our own writes (law 5)."""
        stamped = [item.id for item in batch.items if item.stamp is not None and not item.deleted]
        if not stamped:
            return batch
        seen = await self._services.ledger.stamps(batch.flow, batch.side, stamped)
        items = [item for item in batch.items if not _is_echo(seen.get(item.id), item.stamp)]
        unchanged = batch.counts.get(Outcome.UNCHANGED.value, 0) + len(batch.items) - len(items)
        return replace(batch, items=items, counts={**batch.counts, Outcome.UNCHANGED.value: unchanged} if unchanged else batch.counts)

    async def _changed(
        self, mapping: Mapping, settings: FlowSettings, state: PollState, held: Sequence[Batch], most: int
    ) -> tuple[int, bool]:
        """Return how many bound records really changed, counted until it is clear that there are too many, and whether any went back."""
        if len(_records(held)) <= most:
            return 0, False
        desk, _ = await open_desk(self._services, mapping, settings, state.pins)
        changed, back = set[str](), 0
        for batch in held:
            work = BatchWork.start(batch, mapping)
            jobs = [job for job in await self._rehearse.plan(work, desk) if has_changed(job)]
            changed.update(job.id for job in jobs)
            for job in jobs:
                row, seen = job.rows.get(batch.side), job.binding.stamp_on(batch.side) if job.binding else None
                back += row is not None and seen is not None and row.stamp.time < seen.time
            if len(changed) > most:
                break
        return len(changed), back > 0


def _records(batches: Sequence[Batch]) -> set[str]:
    """Return the records of batches, each once: a document is told of by its own change and by those of its lines."""
    return {item.id for batch in batches for item in batch.items}


def _is_echo(seen: Seen | None, stamp: Stamp | None) -> bool:
    return stamp is not None and seen is not None and seen.is_echo(stamp)


async def held_batches(services: Services, flow: str, side: Side) -> list[Batch]:
    """List the batches of a side that are held."""
    return [batch for batch in await services.ledger.open_batches(flow) if batch.state is BatchState.HELD and batch.side is side]


async def release(services: Services, batch: Batch, kind: RunKind) -> None:
    """Let a held batch go: its row first, then its message; a message that is lost in between is sent by `watch`."""
    open_batch = replace(batch, state=BatchState.OPEN if batch.items else BatchState.CLOSED, kind=kind, touched=services.clock())
    try:
        await services.ledger.save_batch(open_batch)
    except Stale:
        return  # another worker released it
    if open_batch.items:
        await services.queues.send(queue_of(kind), message_of(open_batch))
