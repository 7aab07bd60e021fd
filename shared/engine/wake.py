"""Waking records that waited for the binding of another, and asking for the records that others wait for (law 9)."""

from collections.abc import Iterable, Sequence

from shared.core.binding import Binding, BindingState
from shared.core.records import Side
from shared.core.work import BATCH_SIZE, Batch, BatchItem, RunKind, Waiting
from shared.engine.poll import send_batches
from shared.engine.services import Services


async def look_up(services: Services, rows: Sequence[Waiting]) -> tuple[list[Waiting], list[Waiting]]:
    """Return the waiting rows whose target is bound by now, and those whose target has no binding of any kind."""
    bound: list[Waiting] = []
    unmet: list[Waiting] = []
    for flow, side in sorted({(row.target_flow, row.target_side) for row in rows}):
        of_target = [row for row in rows if (row.target_flow, row.target_side) == (flow, side)]
        bindings = await services.ledger.bindings(flow, side, {row.target_id for row in of_target})
        bound += [row for row in of_target if row.target_id in bindings and bindings[row.target_id].state is BindingState.BOUND]
        unmet += [row for row in of_target if row.target_id not in bindings]
    return bound, unmet


async def no_longer_waiting(services: Services, rows: Sequence[Waiting]) -> list[Waiting]:
    """Return the waiting rows whose record is bound and has got its link, or names another record by now; or whose binding has ended."""
    done: list[Waiting] = []
    for flow, side in sorted({(row.flow, row.side) for row in rows}):
        of_flow = [row for row in rows if (row.flow, row.side) == (flow, side)]
        bindings = await services.ledger.bindings(flow, side, {row.record_id for row in of_flow})
        done += [row for row in of_flow if (one := bindings.get(row.record_id)) and not _waits(one, row.field)]
    return done


def _waits(binding: Binding, field: str) -> bool:
    """Tell whether a record still waits to be created, or its field to be filled."""
    if binding.state is not BindingState.BOUND:
        return binding.state is not BindingState.ENDED
    state = binding.fields.get(field)
    return state is not None and state.pending


async def wake(services: Services, rows: Sequence[Waiting], run: str) -> None:
    """Enqueue the waiting records, each once, then remove their rows: a crash in between wakes them twice, never not at all."""
    if not rows:
        return
    await _enqueue(services, [(row.flow, row.side, row.record_id) for row in rows], run)
    for row in rows:
        if row.told:
            await services.ledger.clear_failures(row.flow, row.side, {row.record_id: {row.field}})
    await services.ledger.clear_waiting(rows)


async def fetch(services: Services, rows: Sequence[Waiting], run: str) -> None:
    """Enqueue the records that are waited for, each once, in their own flow: they may be older than what its polls have read."""
    known = services.mappings.flows
    await _enqueue(services, [(row.target_flow, row.target_side, row.target_id) for row in rows if row.target_flow in known], run)


async def _enqueue(services: Services, records: Iterable[tuple[str, Side, str]], run: str) -> None:
    now = services.clock()
    wanted = sorted(set(records))
    batches: list[Batch] = []
    for flow, side in sorted({(flow, side) for flow, side, _ in wanted}):
        ids = [record_id for at, on, record_id in wanted if (at, on) == (flow, side)]
        for start in range(0, len(ids), BATCH_SIZE):
            items = [BatchItem(record_id) for record_id in ids[start : start + BATCH_SIZE]]
            batches.append(Batch(services.new_id(), flow, side, run, RunKind.SCHEDULED, items, now, touched=now))
    await send_batches(services, batches)
