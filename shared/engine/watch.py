"""Watch: what keeps the house in order between polls: lost messages, parked batches, waiting records, depths, retention."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from shared.core.errors import NotReady, Stale
from shared.core.schedule import rests
from shared.core.work import MESSAGE_VERSION, Batch, BatchState, Failure, PollMessage, PollState, Task, Waiting
from shared.engine.poll import message_of, queue_of, reopened
from shared.engine.services import Services
from shared.engine.wake import fetch, look_up, no_longer_waiting, wake
from shared.engine.walk import Walk, message_for

_FETCH_UNTIL = timedelta(hours=1)
"""A record that others wait for and that nobody has met is asked for again so long; then its own edits must bring it."""


class Watch:
    """The watch step."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._walk = Walk(services)

    async def run(self) -> None:
        """Send open batches without progress and parked ones of running flows again, sweep, purge, and report."""
        services = self._services
        state = await services.ledger.poll_state()
        depths = await services.queues.depths()
        for flow in services.mappings.flows:
            await self._resend(flow, state)
            if not depths.get("polls"):
                await self._walk_on(flow, state)
            await self._walk.finish(flow, state)
        known = services.mappings.flows
        waiting = await services.ledger.all_waiting()
        await self._sweep([row for row in waiting if row.flow in known and row.target_flow in known])
        purged = await services.ledger.purge(services.clock() - services.limits.retention)
        services.events("heartbeat", purged=float(purged), **{f"depth_{name}": float(depth) for name, depth in depths.items()})
        for (flow, side), mark in state.watermarks.items():
            age = (services.clock() - mark.saved_at).total_seconds()
            services.events("watermark_age", flow=flow, side=side.value, seconds=age)

    async def _sweep(self, waiting: Sequence[Waiting]) -> None:
        """Wake who waits for a record that is bound by now, ask for those that were never met, and tell of those that wait too long."""
        services, now, run = self._services, self._services.clock(), self._services.new_id()
        found, unmet = await look_up(services, waiting)
        await wake(services, found, run)
        aged = [row for row in unmet if services.limits.resend_after <= now - row.since < _FETCH_UNTIL]
        await fetch(services, aged, run)
        late = [row for row in waiting if row not in found and not row.told and now - row.since >= services.limits.waiting_limit]
        done = await no_longer_waiting(services, late)
        await services.ledger.clear_waiting(done)
        late = [row for row in late if row not in done]
        failures = [self._too_late(row) for row in late]
        if failures:
            await services.ledger.save_failures(failures)
            await services.ledger.tell_waiting(late)

    def _too_late(self, row: Waiting) -> Failure:
        mapping = self._services.mapping(row.flow)
        error = NotReady(
            "match.waits_too_long",
            f"waits for {row.target_id} of {row.target_flow}",
            system=mapping.system(row.side),
            entity=mapping.entity(row.side),
            record_id=row.record_id,
            field=row.field,
        )
        return Failure.of(error, row.flow, row.side, self._services.clock())

    async def _resend(self, flow: str, state: PollState) -> None:
        services, now = self._services, self._services.clock()
        settings = services.settings(flow, state.flows)
        held = set()
        for batch in await services.ledger.open_batches(flow):
            if batch.state is BatchState.HELD:
                # The end of a chain asks for the gate; this is for a worker that died before it could.
                if not rests(settings, batch.kind, now) and (batch.touched or batch.created) < now - services.limits.resend_after:
                    held.add(batch.side)
            elif batch.state is BatchState.PARKED:
                if not rests(settings, batch.kind, now):
                    await self._send(reopened(batch, batch.items, now))
            elif (batch.touched or batch.created) < now - services.limits.resend_after:
                await self._send(replace(batch, touched=now))
        for side in held:
            message = PollMessage(v=MESSAGE_VERSION, flow=flow, side=side, run=services.new_id(), task=Task.GATE)
            await services.queues.send("polls", message)

    async def _walk_on(self, flow: str, state: PollState) -> None:
        """Begin a walk once more whose message is nowhere: its batches are named, so those that are there already are left as they are."""
        services, walking = self._services, self._services.settings(flow, state.flows).walking
        if walking is None or walking.walked or services.clock() - walking.started < services.limits.resend_after:
            return
        await services.queues.send("polls", message_for(flow, walking))
        services.events("walk_sent_again", flow=flow, run=walking.run)

    async def _send(self, batch: Batch) -> None:
        """Send a batch's message first, then save its row: a crash in between sends it twice, which is harmless."""
        await self._services.queues.send(queue_of(batch.kind), message_of(batch))
        try:
            await self._services.ledger.save_batch(replace(batch, state=BatchState.OPEN))
        except Stale:
            return  # a worker has it in hand after all
        self._services.events("batch_sent_again", flow=batch.flow, batch=batch.id, attempt=float(batch.attempt))
