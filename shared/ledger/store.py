"""The ledger as the engine sees it: every verb in one place, each passed on to the rows that know it."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from shared.core.binding import Binding, BoundPage, Seen
from shared.core.errors import ConfigError, TandemError
from shared.core.records import Side
from shared.core.work import (
    AccountThrottle,
    Batch,
    Census,
    Conflict,
    DeleteCount,
    Failure,
    FlowSettings,
    HeldDelete,
    Pin,
    PollState,
    Run,
    Waiting,
    Watermark,
)
from shared.ledger.attention import ConflictRows, FailureRows, WaitingRows
from shared.ledger.batches import BatchRows, RunRows
from shared.ledger.bindings import BindingRows
from shared.ledger.deletes import DeleteRows
from shared.ledger.keys import KeyRows
from shared.ledger.reservations import ReservationRows
from shared.ledger.state import StateRows
from shared.ledger.storage import Storage
from shared.ledger.tables import Table

_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,39}")


def utc_now() -> datetime:
    """Return the present moment as an aware UTC time."""
    return datetime.now(UTC)


class TableLedger:
    """Implements the engine's port `Ledger` on three tables: `<prefix>State`, `<prefix>Bindings`, `<prefix>Work`.

    `prefix` (letters and digits, a letter first) lets several apps share an account. `clock` decides which leases have run out.
    `table` opens a table by its name; the benchmark keeps tables in a file.
    """

    def __init__(
        self,
        storage: Storage,
        prefix: str = "tandem",
        clock: Callable[[], datetime] = utc_now,
        table: Callable[[Storage, str], Table] = Table,
    ) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ConfigError([f"table prefix: got {prefix!r}, allowed 1 to 40 letters and digits, a letter first"])
        self._storage = storage
        state, bindings, work = (table(storage, prefix + name) for name in ("State", "Bindings", "Work"))
        self._state = StateRows(state, clock)
        self._keys = KeyRows(state)
        self._bindings = BindingRows(bindings, clock)
        self._batches = BatchRows(work)
        self._runs = RunRows(work)
        self._failures = FailureRows(work)
        self._conflicts = ConflictRows(work)
        self._waiting = WaitingRows(work)
        self._deletes = DeleteRows(work)
        self._reservations = ReservationRows(work, clock)

    @property
    def requests(self) -> int:
        """Return how many HTTP requests the account got from this process so far, queues and retries included."""
        return self._storage.meter.requests

    @property
    def operations(self) -> int:
        """Return how many entities were read or written so far."""
        return self._storage.meter.operations

    async def poll_state(self) -> PollState:
        """Read settings, watermarks and throttles of all flows in one query."""
        return await self._state.poll_state()

    async def save_flow(self, settings: FlowSettings) -> FlowSettings:
        """Save settings by their ETag (create-only when they have none)."""
        return await self._state.save_flow(settings)

    async def save_watermark(self, watermark: Watermark) -> Watermark:
        """Advance a watermark by its ETag (create-only when it has none)."""
        return await self._state.save_watermark(watermark)

    async def save_pin(self, pin: Pin) -> Pin:
        """Save a pin by its ETag (create-only when it has none)."""
        return await self._state.save_pin(pin)

    async def save_census(self, census: Census) -> Census:
        """Save a census by its ETag (create-only when it has none)."""
        return await self._state.save_census(census)

    async def pause_account(self, throttle: AccountThrottle) -> None:
        """Keep the later one of the stored pause and this one."""
        await self._state.pause_account(throttle)

    async def take_slot(self, system: str, holder: str, slots: int, until: datetime) -> str | None:
        """Lease one of the account's slots until a moment; None when all are taken."""
        return await self._state.take_slot(system, holder, slots, until)

    async def free_slot(self, system: str, slot: str, holder: str) -> None:
        """Give a slot back; harmless when it was lost."""
        await self._state.free_slot(system, slot, holder)

    async def keep_data_key(self, key_id: str, wrapped: str) -> str:
        """Insert a wrapped data key unless one with this id is there; return the one that counts."""
        return await self._keys.keep(key_id, wrapped)

    async def data_keys(self) -> Mapping[str, str]:
        """Read all wrapped data keys by key id."""
        return await self._keys.all()

    async def create_batches(self, batches: Sequence[Batch]) -> None:
        """Insert batch rows."""
        await self._batches.create(batches)

    async def get_batch(self, flow: str, batch_id: str) -> Batch | None:
        """Read one batch row."""
        return await self._batches.get(flow, batch_id)

    async def save_batch(self, batch: Batch) -> Batch:
        """Save a batch row by its ETag."""
        return await self._batches.save(batch)

    async def open_batches(self, flow: str, untouched_since: datetime | None = None) -> Sequence[Batch]:
        """List open, parked and held batch rows of a flow, those not touched since a moment when given."""
        return await self._batches.open(flow, untouched_since)

    async def run_batches(self, flow: str, run: str) -> Sequence[Batch]:
        """List all batch rows of a run, closed ones too."""
        return await self._batches.of_run(flow, run)

    async def bindings(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Binding]:
        """Read bindings by the ids of one side, in bulk; absent ids are absent."""
        return await self._bindings.read(flow, side, ids)

    async def stamps(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Seen]:
        """Read the stamp last seen on a side and the state of bindings, one request an id; absent ids are absent."""
        return await self._bindings.stamps(flow, side, ids)

    async def scan_bindings(self, flow: str, after: str | None = None, limit: int = 1000) -> BoundPage:
        """Read a page of all bindings of a flow, each once, in the order of their keys; `after` is what the page before gave."""
        return await self._bindings.scan(flow, after, limit)

    async def save_bindings(self, bindings: Sequence[Binding]) -> Sequence[Binding | TandemError]:
        """Save bindings, each by its own ETag, both rows of one binding in one transaction; one result for each, in order."""
        return await self._bindings.save(bindings)

    async def forget_binding(self, binding: Binding) -> None:
        """Remove a refused binding by its ETag, so that its record can be bound by another's; raises Stale when it moved."""
        await self._bindings.forget(binding)

    async def reserve(self, wanted: Mapping[str, Sequence[str]], until: datetime) -> Mapping[str, str | None]:
        """Reserve match keys (already hashed) for records, by holder, all or none for each; of two that want one key the first gets it.

        Return by holder None when the keys are its own, else the holder that is in the way.
        """
        return await self._reservations.reserve(wanted, until)

    async def retake(self, keys: Sequence[str], holder: str, from_holder: str, until: datetime) -> bool:
        """Take over keys that another holder, known to have no binding, reserved and that ran out; tell whether any changed hands."""
        return await self._reservations.retake(keys, holder, from_holder, until)

    async def release(self, held: Mapping[str, Collection[str]]) -> None:
        """Give reservations back, the keys by holder; those of others stay."""
        await self._reservations.release(held)

    async def save_failures(self, failures: Sequence[Failure]) -> None:
        """Keep failures, one row for each flow, side, record and field; an older row's count goes up."""
        await self._failures.save(failures)

    async def clear_failures(self, flow: str, side: Side | None, fields_by_record: Mapping[str, Collection[str] | None]) -> None:
        """Remove the named fields' failures of records (None: all of the record's)."""
        await self._failures.clear(flow, side, fields_by_record)

    async def failures(self, flow: str) -> Sequence[Failure]:
        """List the failures of a flow."""
        return await self._failures.all(flow)

    async def save_conflicts(self, conflicts: Sequence[Conflict]) -> None:
        """Keep conflicts, one row for each record and field."""
        await self._conflicts.save(conflicts)

    async def clear_conflicts(self, flow: str, records: Collection[tuple[str, str, str]]) -> None:
        """Remove conflicts by (creatio id, dynamics id, field)."""
        await self._conflicts.clear(flow, records)

    async def conflicts(self, flow: str) -> Sequence[Conflict]:
        """List the conflicts of a flow."""
        return await self._conflicts.all(flow)

    async def save_waiting(self, waiting: Sequence[Waiting]) -> Sequence[Waiting]:
        """Insert waiting rows; one that is there stays. Return those that were not there before."""
        return await self._waiting.save(waiting)

    async def tell_waiting(self, waiting: Sequence[Waiting]) -> None:
        """Mark waiting rows as told: a failure says that they wait too long. One that is gone stays gone."""
        await self._waiting.tell(waiting)

    async def waiting_for(self, target_flow: str, target_side: Side, target_ids: Collection[str]) -> Sequence[Waiting]:
        """List who waits for the named records."""
        return await self._waiting.waiting_for(target_flow, target_side, target_ids)

    async def all_waiting(self) -> Sequence[Waiting]:
        """List every waiting row (for the sweep)."""
        return await self._waiting.all()

    async def clear_waiting(self, waiting: Sequence[Waiting]) -> None:
        """Remove waiting rows."""
        await self._waiting.clear(waiting)

    async def delete_count(self, flow: str) -> DeleteCount:
        """Read the count of a flow's deletes; an empty one without ETag when there is none."""
        return await self._deletes.count(flow)

    async def save_delete_count(self, count: DeleteCount) -> DeleteCount:
        """Save a count of deletes by its ETag (create-only when it has none)."""
        return await self._deletes.save_count(count)

    async def hold_deletes(self, held: Sequence[HeldDelete]) -> None:
        """Keep deletes that wait for a person; one that is there stays."""
        await self._deletes.hold(held)

    async def held_deletes(self, flow: str) -> Sequence[HeldDelete]:
        """List the deletes of a flow that wait for a person."""
        return await self._deletes.held(flow)

    async def clear_held(self, flow: str, records: Collection[tuple[Side, str]]) -> None:
        """Remove held deletes by (side, record id)."""
        await self._deletes.clear_held(flow, records)

    async def keep_own_deletes(self, system: str, entity: str, ids: Collection[str]) -> None:
        """Remember that Tandem itself deletes these records, before it does (law 10)."""
        await self._deletes.keep_own(system, entity, ids)

    async def own_deletes(self, system: str, entity: str, ids: Collection[str]) -> Collection[str]:
        """Return those of the ids that Tandem itself deleted."""
        return await self._deletes.own(system, entity, ids)

    async def forget_own_deletes(self, system: str, entity: str, ids: Collection[str]) -> None:
        """Forget that Tandem meant to delete these records: they go on."""
        await self._deletes.forget_own(system, entity, ids)

    async def save_run(self, run: Run) -> None:
        """Keep a run row (replace)."""
        await self._runs.save(run)

    async def fold_quiet_run(self, flow: str, at: datetime) -> None:
        """Count a run without changes in the hour's one row."""
        await self._runs.fold(flow, at)

    async def runs(self, flow: str, limit: int = 100) -> Sequence[Run]:
        """List the latest runs of a flow, newest first."""
        return await self._runs.latest(flow, limit)

    async def purge(self, before: datetime) -> int:
        """Remove closed batches and runs older than a moment; return how many. Bindings and tombstones stay."""
        return await self._batches.purge(before) + await self._runs.purge(before)

    async def close(self) -> None:
        """Close the connections of the storage account."""
        await self._storage.close()
