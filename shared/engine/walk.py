"""Walk: a run over all bindings of a flow, batch by batch: `align` after a mapping changed, `rebase` from the side that is right (law 12).

The walk itself writes nothing. With `dry` its batches are only planned, and their counts tell what the run would write.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
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

    async def start(self, flow: str, kind: RunKind, side: Side, *, dry: bool) -> str:
        """Start a run over all bindings of a flow and return its id; raises ConfigError while another one is under way.

        `side` is the one that counts in a `rebase`. The batches that a flow holds while it asks go on their way after a rebase: what was
        bound is in step by then.
        """
        services, now = self._services, self._services.clock()
        services.mapping(flow)
        state = await services.ledger.poll_state()
        settings = services.settings(flow, state.flows)
        if settings.walking is not None:
            raise ConfigError([f"{flow}: the run {settings.walking.run} ({settings.walking.kind.value}) is under way; wait for its end"])
        run = services.new_id()
        walking = Walking(run, kind, side, dry, now, services.mappings.flow_hash(flow))
        await services.ledger.save_flow(replace(settings, walking=walking))
        await services.ledger.save_run(Run(run, flow, kind, now))
        message = PollMessage(v=MESSAGE_VERSION, flow=flow, side=side, run=run, task=Task.WALK, kind=kind, dry=dry)
        await services.queues.send("polls", message)
        services.events("walk_started", flow=flow, run=run, kind=kind.value, side=side.value, dry=str(dry))
        return run

    async def progress(self, flow: str, run: str) -> dict[str, Any]:
        """Return how far a run is: batches open and done, and its counts by outcome; those of a dry run start with `would`."""
        self._services.mapping(flow)
        batches = await self._services.ledger.run_batches(flow, run)
        done = [batch for batch in batches if batch.state is BatchState.CLOSED]
        return {"batches": len(batches), "done": len(done), "counts": total(batches)}

    async def run(self, message: PollMessage) -> None:
        """Put the batches of a walk on the queue, for a slice; then go on through the queue, or mark the walk as walked."""
        services = self._services
        deadline = services.clock() + services.limits.poll_slice
        position: str | None = message.position or None
        while True:
            page = await services.ledger.scan_bindings(message.flow, position)
            await self._enqueue(message, page)
            position = page.following
            if position is None:
                await self._walked(message)
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

    async def _walked(self, message: PollMessage) -> None:
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
        await self._conclude(flow, settings, walking, state)
        changed = sum(number for name, number in total(batches).items() if name not in ("unchanged", "out_of_scope"))
        await services.ledger.save_run(Run(walking.run, flow, walking.kind, walking.started, services.clock(), changed))
        services.events("walk_done", flow=flow, run=walking.run, kind=walking.kind.value, dry=str(walking.dry), changed=float(changed))

    async def _conclude(self, flow: str, settings: FlowSettings, walking: Walking, state: PollState) -> None:
        asking = settings.asking
        if walking.kind is RunKind.REBASE and not walking.dry and asking is not None:
            for batch in await held_batches(self._services, flow, asking.side):
                await release(self._services, batch, batch.kind)  # new and deleted records are in them, which no walk meets
            asking = None
        if not walking.dry:  # both kinds look at every field of every record under the mapping they began with
            pin = state.pins.get(mapping_pin(flow)) or Pin(mapping_pin(flow), "", self._services.clock())
            await self._services.ledger.save_pin(replace(pin, value=walking.mapping, at=self._services.clock()))
        await self._services.ledger.save_flow(replace(settings, walking=None, asking=asking))


def total(batches: Sequence[Batch]) -> Mapping[str, int]:
    """Sum the counts of batches."""
    counts: Counter[str] = Counter()
    for batch in batches:
        counts.update(batch.counts)
    return dict(counts)
