"""Watch: what keeps the house in order between polls: lost messages, parked batches, waiting records, depths, retention."""

from dataclasses import replace

from shared.core.errors import Stale
from shared.core.schedule import is_asleep
from shared.core.work import MESSAGE_VERSION, Batch, BatchState, Message, PollState
from shared.engine.poll import queue_of, reopened
from shared.engine.services import Services
from shared.engine.wake import ready, wake


class Watch:
    """The watch step."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def run(self) -> None:
        """Send open batches without progress and parked ones of running flows again, sweep, purge, and report."""
        services = self._services
        state = await services.ledger.poll_state()
        for flow in services.mappings.flows:
            await self._resend(flow, state)
        await wake(services, await ready(services, await services.ledger.all_waiting()), services.new_id())
        purged = await services.ledger.purge(services.clock() - services.limits.retention)
        depths = await services.queues.depths()
        services.events("heartbeat", purged=float(purged), **{f"depth_{name}": float(depth) for name, depth in depths.items()})
        for (flow, side), mark in state.watermarks.items():
            age = (services.clock() - mark.saved_at).total_seconds()
            services.events("watermark_age", flow=flow, side=side.value, seconds=age)

    async def _resend(self, flow: str, state: PollState) -> None:
        services, now = self._services, self._services.clock()
        settings = services.settings(flow, state.flows)
        runs = settings.started and not is_asleep(settings.sleep, now)
        for batch in await services.ledger.open_batches(flow):
            if batch.state is BatchState.PARKED:
                if runs:
                    await self._send(reopened(batch, batch.items, now))
            elif (batch.touched or batch.created) < now - services.limits.resend_after:
                await self._send(replace(batch, touched=now))

    async def _send(self, batch: Batch) -> None:
        """Send a batch's message first, then save its row: a crash in between sends it twice, which is harmless."""
        await self._services.queues.send(
            queue_of(batch.kind), Message(v=MESSAGE_VERSION, flow=batch.flow, batch=batch.id, attempt=batch.attempt)
        )
        try:
            await self._services.ledger.save_batch(replace(batch, state=BatchState.OPEN))
        except Stale:
            return  # a worker has it in hand after all
        self._services.events("batch_sent_again", flow=batch.flow, batch=batch.id, attempt=float(batch.attempt))
