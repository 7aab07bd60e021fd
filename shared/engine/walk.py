"""Walk: a run over all bindings of a flow, batch by batch: `align` after a mapping changed, `rebase` from the side that is right (law 12).

The walk itself writes nothing. With `dry` its batches are only planned, and their counts tell what the run would write.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from shared.core.binding import BindingState, BoundPage
from shared.core.errors import ConfigError, Stale
from shared.core.records import Side
from shared.core.work import (
    BATCH_SIZE,
    MESSAGE_VERSION,
    Batch,
    BatchItem,
    BatchState,
    FlowSettings,
    Load,
    Outcome,
    Pin,
    PollMessage,
    PollState,
    Run,
    RunKind,
    Task,
    Walking,
)
from shared.engine.gate import held_batches, release
from shared.engine.poll import mapping_pin, send_batches
from shared.engine.services import Services


class Walk:
    """The walk step."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def start(self, flow: str, kind: RunKind, side: Side, *, dry: bool, load: Load | None = None) -> str:
        """Start a run over all records of a flow and return its id; raises ConfigError while another one is under way.

        `side` is the one that counts in a `rebase`. The batches that a flow holds while it asks go on their way after a rebase: what was
        bound is in step by then.
        """
        services, now = self._services, self._services.clock()
        services.mapping(flow)
        state = await services.ledger.poll_state()
        settings = services.settings(flow, state.flows)
        if settings.walking is not None:
            raise ConfigError([f"{flow}: the run {settings.walking.run} ({settings.walking.kind.value}) is under way; wait for its end"])
        if kind is RunKind.BULK and settings.asking is not None:
            raise ConfigError([f"{flow}: it asks about {settings.asking.changed} changed records; accept them or start a rebase run first"])
        run = services.new_id()
        walking = Walking(run, kind, side, dry, now, services.mappings.flow_hash(flow), load=load)
        await services.ledger.save_flow(replace(settings, walking=walking))
        await services.ledger.save_run(Run(run, flow, kind, now))
        await services.queues.send("polls", message_for(flow, walking))
        services.events("walk_started", flow=flow, run=run, kind=kind.value, side=side.value, dry=str(dry))
        return run

    async def progress(self, flow: str, run: str) -> dict[str, Any]:
        """Return how far a run is: batches open and done, records, their rate, and the counts by outcome; a dry run's start with `would`.

        `records` grows until all batches are on the queue (`all_known`); from then on `seconds_left` is told. `rate` is records a second.
        """
        self._services.mapping(flow)
        state = await self._services.ledger.poll_state()
        walking = self._services.settings(flow, state.flows).walking
        batches = await self._services.ledger.run_batches(flow, run)
        return _progress(batches, all_known=walking is None or walking.run != run or walking.walked)

    async def stop(self, flow: str, run: str) -> int:
        """End a run over all records before its time; return how many of its batches are not synced any more.

        What was synced stays. Raises ConfigError when no such run is under way.
        """
        services, now = self._services, self._services.clock()
        services.mapping(flow)
        state = await services.ledger.poll_state()
        settings = services.settings(flow, state.flows)
        walking = settings.walking
        if walking is None or walking.run != run:
            raise ConfigError([f"run: got {run!r}, allowed {walking.run if walking else 'none: no run is under way'}"])
        await services.ledger.save_flow(replace(settings, walking=None))
        await services.ledger.save_run(Run(run, flow, walking.kind, walking.started, now, error="stopped"))
        left = [batch for batch in await services.ledger.open_batches(flow) if batch.run == run]
        for batch in left:
            with suppress(Stale):  # a worker has it in hand: what it began it ends
                await services.ledger.save_batch(replace(batch, items=[], state=BatchState.CLOSED, touched=now))
        services.events("walk_stopped", flow=flow, run=run, batches=float(len(left)))
        return len(left)

    async def run(self, message: PollMessage) -> None:
        """Put the batches of a walk on the queue, for a slice; then go on through the queue, or mark the walk as walked."""
        services = self._services
        state = await services.ledger.poll_state()
        walking = services.settings(message.flow, state.flows).walking
        if walking is None or walking.run != message.run:
            return  # it was stopped, or its message came late
        deadline = services.clock() + services.limits.poll_slice
        position: str | None = message.position or None
        while True:
            page = await services.ledger.scan_bindings(message.flow, position)
            await self._enqueue(message, page)
            position = page.following
            if position is None:
                await self.walked(message)
                return
            if services.clock() >= deadline:
                await services.queues.send("polls", message.model_copy(update={"position": position}))
                return

    async def _enqueue(self, message: PollMessage, page: BoundPage) -> None:
        """Send the bound records of a page.

        A batch is named after its first record, so that a repeated message makes the same batches again; where a binding came or went
        meanwhile some records are in two of them, and none is left out.
        """
        now = self._services.clock()
        ids = [record_id for one in page.bound if one.state is BindingState.BOUND and (record_id := one.id_on(message.side))]
        for start in range(0, len(ids), BATCH_SIZE):
            items = [BatchItem(record_id) for record_id in ids[start : start + BATCH_SIZE]]
            batch_id = f"{message.run}-{items[0].id}"
            batch = Batch(batch_id, message.flow, message.side, message.run, message.kind, items, now, touched=now, dry=message.dry)
            try:
                await send_batches(self._services, [batch])
            except Stale:
                continue  # an earlier delivery of the message made it; `watch` sends it again if it got no further

    async def walked(self, message: PollMessage) -> None:
        """Note that all batches of a run are on the queue."""
        state = await self._services.ledger.poll_state()
        settings = self._services.settings(message.flow, state.flows)
        if settings.walking is not None and settings.walking.run == message.run:
            await self._services.ledger.save_flow(replace(settings, walking=replace(settings.walking, walked=True)))

    async def finish(self, flow: str, state: PollState) -> None:
        """Close a walk whose batches are all done: what it was for holds from now on."""
        services, settings = self._services, self._services.settings(flow, state.flows)
        walking = settings.walking
        if walking is None or not walking.walked:
            return
        batches = await services.ledger.run_batches(flow, walking.run)
        if any(batch.state is not BatchState.CLOSED for batch in batches):
            return
        if walking.load is not None:
            await self._go_on(walking, walking.load)
        await self._conclude(flow, settings, walking, state)
        changed = sum(number for name, number in total(batches).items() if name not in ("unchanged", "out_of_scope"))
        await services.ledger.save_run(Run(walking.run, flow, walking.kind, walking.started, services.clock(), changed))
        services.events("walk_done", flow=flow, run=walking.run, kind=walking.kind.value, dry=str(walking.dry), changed=float(changed))

    async def _go_on(self, walking: Walking, load: Load) -> None:
        """Start the bulk run of the next flow; it is there already when the end of this one was noticed before."""
        if load.then:
            with suppress(ConfigError):
                await self.start(load.then[0], walking.kind, walking.side, dry=walking.dry, load=replace(load, then=load.then[1:]))

    async def _conclude(self, flow: str, settings: FlowSettings, walking: Walking, state: PollState) -> None:
        asking = settings.asking
        if walking.kind is RunKind.REBASE and not walking.dry and asking is not None:
            for batch in await held_batches(self._services, flow, asking.side):
                await release(self._services, batch, batch.kind)  # new and deleted records are in them, which no walk meets
            asking = None
        if not walking.dry and walking.load is None:  # both kinds look at every field of every record under the mapping they began with
            pin = state.pins.get(mapping_pin(flow)) or Pin(mapping_pin(flow), "", self._services.clock())
            await self._services.ledger.save_pin(replace(pin, value=walking.mapping, at=self._services.clock()))
        await self._services.ledger.save_flow(replace(settings, walking=None, asking=asking))


def message_for(flow: str, walking: Walking) -> PollMessage:
    """Return the message that begins a run over all records."""
    task = Task.WALK if walking.load is None else Task.BULK
    return PollMessage(v=MESSAGE_VERSION, flow=flow, side=walking.side, run=walking.run, task=task, kind=walking.kind, dry=walking.dry)


def _progress(batches: Sequence[Batch], *, all_known: bool) -> dict[str, Any]:
    closed = [batch for batch in batches if batch.state is BatchState.CLOSED]
    counts = total(batches)
    ranges = [batch.part.rows for batch in batches if batch.part is not None]
    done = sum(batch.counts.get(outcome.value, 0) for batch in batches if not batch.dry for outcome in Outcome)
    records = sum(ranges) if ranges else done + sum(len(batch.items) for batch in batches)
    seconds = max(
        (((batch.touched or batch.created) - min(one.created for one in batches)).total_seconds() for batch in closed), default=0.0
    )
    rate = done / seconds if seconds else 0.0
    left = round(max(0, records - done) / rate) if rate and all_known else None
    facts = {"records": records, "records_done": done, "all_known": all_known, "rate": round(rate, 1), "seconds_left": left}
    return {"batches": len(batches), "done": len(closed), **facts, "counts": counts}


def total(batches: Sequence[Batch]) -> Mapping[str, int]:
    """Sum the counts of batches."""
    counts: Counter[str] = Counter()
    for batch in batches:
        counts.update(batch.counts)
    return dict(counts)
