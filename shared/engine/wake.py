"""Waking records that waited for the binding of another (law 9)."""

from collections.abc import Sequence

from shared.core.binding import BindingState
from shared.core.work import BATCH_SIZE, Batch, BatchItem, RunKind, Waiting
from shared.engine.poll import send_batches
from shared.engine.services import Services


async def ready(services: Services, rows: Sequence[Waiting]) -> list[Waiting]:
    """Return the waiting rows whose target is bound by now."""
    found: list[Waiting] = []
    for flow, side in sorted({(row.target_flow, row.target_side) for row in rows}):
        of_target = [row for row in rows if (row.target_flow, row.target_side) == (flow, side)]
        bindings = await services.ledger.bindings(flow, side, {row.target_id for row in of_target})
        bound = {record_id for record_id, binding in bindings.items() if binding.state is BindingState.BOUND}
        found += [row for row in of_target if row.target_id in bound]
    return found


async def wake(services: Services, rows: Sequence[Waiting], run: str) -> None:
    """Enqueue the waiting records, each once, then remove their rows: a crash in between wakes them twice, never not at all."""
    if not rows:
        return
    now = services.clock()
    batches: list[Batch] = []
    for flow, side in sorted({(row.flow, row.side) for row in rows}):
        ids = sorted({row.record_id for row in rows if (row.flow, row.side) == (flow, side)})
        for start in range(0, len(ids), BATCH_SIZE):
            items = [BatchItem(record_id) for record_id in ids[start : start + BATCH_SIZE]]
            batches.append(Batch(services.new_id(), flow, side, run, RunKind.SCHEDULED, items, now, touched=now))
    await send_batches(services, batches)
    await services.ledger.clear_waiting(rows)
