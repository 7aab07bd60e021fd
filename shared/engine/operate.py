"""What an operator asks of the engine: how things stand, start a flow again, reprocess failures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from shared.core.records import Side, is_guid
from shared.core.work import BATCH_SIZE, Batch, BatchItem, Failure, FlowSettings, PollState, RunKind
from shared.engine.poll import mapping_pin, send_batches
from shared.engine.services import Services


class Operate:
    """The operator's use cases behind the page and the API."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def status(self) -> dict[str, Any]:
        """Return, for each flow, its settings and what is open, as plain JSON without business values."""
        ledger = self._services.ledger
        state = await ledger.poll_state()
        flows: dict[str, Any] = {}
        for flow in self._services.mappings.flows:
            settings = self._services.settings(flow, state.flows)
            failures, conflicts = await ledger.failures(flow), await ledger.conflicts(flow)
            open_batches = await ledger.open_batches(flow)
            flows[flow] = {
                "started": settings.started,
                "stopped_because": settings.stopped_because,
                "asking": _asking(settings),
                "walking": settings.walking.run if settings.walking else None,
                "needs_alignment": self._needs_alignment(flow, state),
                "deletes_held": [[held.side.value, held.record_id] for held in await ledger.held_deletes(flow)],
                "not_shown": {side.value: len(c.absent) for (name, side), c in state.censuses.items() if name == flow and c.absent},
                "interval_ms": settings.interval_ms,
                "watermarks": {side.value: mark.saved_at.isoformat() for (name, side), mark in state.watermarks.items() if name == flow},
                "open_batches": len(open_batches),
                "open_records": sum(batch.part.rows if batch.part else len(batch.items) for batch in open_batches),
                "failures": [_shown(failure) for failure in failures],
                "conflicts": [[c.creatio_id, c.dynamics_id, c.field, c.reason, *c.candidates] for c in conflicts],
            }
        return {"flows": flows, "queues": dict(await self._services.queues.depths())}

    def _needs_alignment(self, flow: str, state: PollState) -> bool:
        """Tell whether the mapping changed since the records of a flow were last looked at under it as a whole (law 2)."""
        pin = state.pins.get(mapping_pin(flow))
        return pin is not None and pin.value != self._services.mappings.flow_hash(flow)

    async def start(self, flow: str) -> None:
        """Start a flow again; raises ConfigError for a flow that there is not."""
        self._services.mapping(flow)
        state = await self._services.ledger.poll_state()
        settings = self._services.settings(flow, state.flows)
        await self._services.ledger.save_flow(replace(settings, started=True, stopped_because=""))
        await self._services.ledger.clear_failures(flow, None, {"": None})
        self._services.events("flow_started", flow=flow)

    async def reprocess(self, flow: str, record: str | None = None) -> int:
        """Enqueue the failed records of a flow, or one of them; return how many. What still fails comes back as a failure."""
        self._services.mapping(flow)
        failures = [f for f in await self._services.ledger.failures(flow) if is_guid(f.record_id) and record in (None, f.record_id)]
        now, run = self._services.clock(), self._services.new_id()
        ids = sorted({(failure.side, failure.record_id) for failure in failures if failure.side})
        batches = [
            Batch(self._services.new_id(), flow, side, run, RunKind.REPLAY, items, now, touched=now)
            for side in Side
            for items in _chunks([record_id for at, record_id in ids if at is side])
        ]
        await send_batches(self._services, batches)
        self._services.events("failures_reprocessed", flow=flow, run=run, records=float(len(ids)))
        return len(ids)


def _chunks(ids: Sequence[str]) -> list[list[BatchItem]]:
    return [[BatchItem(i) for i in ids[start : start + BATCH_SIZE]] for start in range(0, len(ids), BATCH_SIZE)]


def _asking(settings: FlowSettings) -> dict[str, Any] | None:
    asking = settings.asking
    if asking is None:
        return None
    return {"side": asking.side.value, "changed": asking.changed, "of": asking.of, "earlier": asking.earlier, "at": asking.at.isoformat()}


def _shown(failure: Failure) -> dict[str, Any]:
    return {
        "side": failure.side.value if failure.side else None,
        "record": failure.record_id,
        "field": failure.field,
        "code": failure.code,
        "said": failure.said,
        "at": failure.at.isoformat(),
        "count": failure.count,
    }
