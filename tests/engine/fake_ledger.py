"""The ledger in memory, for tests of the engine: it keeps the promises of the port, ETags included."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from shared.core.binding import Binding, Bound, BoundPage, Seen
from shared.core.document import mark_of_lines
from shared.core.errors import Stale, TandemError
from shared.core.records import Side
from shared.core.work import (
    AccountThrottle,
    Batch,
    BatchState,
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

Step = Callable[[str], None]


class FakeLedger:
    """The ledger in memory, with ETags, create-only inserts and unique ids on both sides."""

    def __init__(self, step: Step, now: Callable[[], datetime]) -> None:
        self._step, self._now = step, now
        self._etag = 0
        self.flows: dict[str, FlowSettings] = {}
        self.watermarks: dict[tuple[str, Side], Watermark] = {}
        self.throttles: dict[str, AccountThrottle] = {}
        self.slots: dict[tuple[str, int], tuple[str, datetime]] = {}
        self.batches: dict[tuple[str, str], Batch] = {}
        self._by_etag: dict[str | None, Binding] = {}
        self._at: dict[tuple[str, Side, str], str | None] = {}
        self.born: dict[str | None, int] = {}
        """By the ETag of a binding the place that it keeps in a scan, whatever ids it gets."""
        self.reservations: dict[str, tuple[str, datetime]] = {}
        self.failed: dict[tuple[str, str, str, str], Failure] = {}
        self.disputed: dict[tuple[str, str, str, str], Conflict] = {}
        self.waiting: dict[Waiting, Waiting] = {}
        self.run_rows: dict[str, Run] = {}
        self.folded = 0
        self.pins: dict[str, Pin] = {}
        self.censuses: dict[tuple[str, Side], Census] = {}
        self.delete_counts: dict[str, DeleteCount] = {}
        self.held: dict[tuple[str, Side, str], HeldDelete] = {}
        self.own: set[tuple[str, str, str]] = set()
        self.writes = 0

    def _fresh(self) -> str:
        self._etag += 1
        self.writes += 1
        return str(self._etag)

    async def poll_state(self) -> PollState:
        self._step("ledger.poll_state")
        return PollState(dict(self.flows), dict(self.watermarks), dict(self.throttles), dict(self.pins), dict(self.censuses))

    async def save_flow(self, settings: FlowSettings) -> FlowSettings:
        self._step("ledger.save_flow")
        self._check(self.flows.get(settings.flow), settings.etag)
        self.flows[settings.flow] = saved = replace(settings, etag=self._fresh())
        return saved

    async def save_watermark(self, watermark: Watermark) -> Watermark:
        self._step("ledger.save_watermark")
        key = (watermark.flow, watermark.side)
        self._check(self.watermarks.get(key), watermark.etag)
        self.watermarks[key] = saved = replace(watermark, etag=self._fresh())
        return saved

    async def save_pin(self, pin: Pin) -> Pin:
        self._step("ledger.save_pin")
        self._check(self.pins.get(pin.name), pin.etag)
        self.pins[pin.name] = saved = replace(pin, etag=self._fresh())
        return saved

    async def save_census(self, census: Census) -> Census:
        self._step("ledger.save_census")
        key = (census.flow, census.side)
        self._check(self.censuses.get(key), census.etag)
        self.censuses[key] = saved = replace(census, etag=self._fresh())
        return saved

    def _check(self, there: FlowSettings | Watermark | Batch | Pin | Census | DeleteCount | None, etag: str | None) -> None:
        if (there.etag if there else None) != etag:
            raise Stale("ledger.changed_meanwhile")

    async def pause_account(self, throttle: AccountThrottle) -> None:
        self._step("ledger.pause_account")
        self._fresh()
        self.throttles[throttle.system] = throttle

    async def take_slot(self, system: str, holder: str, slots: int, until: datetime) -> str | None:
        self._step("ledger.take_slot")
        for number in range(slots):
            if self.slots.get((system, number), ("", self._now()))[1] <= self._now():
                self.slots[system, number] = (holder, until)
                return str(number)
        return None

    async def free_slot(self, system: str, slot: str, holder: str) -> None:
        self.slots.pop((system, int(slot)), None)

    async def create_batches(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self._step("ledger.create_batches")
            if (batch.flow, batch.id) in self.batches:
                raise Stale("ledger.changed_meanwhile")
            self.batches[batch.flow, batch.id] = replace(batch, etag=self._fresh())

    async def get_batch(self, flow: str, batch_id: str) -> Batch | None:
        self._step("ledger.get_batch")
        return self.batches.get((flow, batch_id))

    async def save_batch(self, batch: Batch) -> Batch:
        self._step("ledger.save_batch")
        self._check(self.batches.get((batch.flow, batch.id)), batch.etag)
        self.batches[batch.flow, batch.id] = saved = replace(batch, etag=self._fresh())
        return saved

    async def open_batches(self, flow: str, untouched_since: datetime | None = None) -> Sequence[Batch]:
        self._step("ledger.open_batches")
        found = [batch for (name, _), batch in self.batches.items() if name == flow and batch.state is not BatchState.CLOSED]
        return [batch for batch in found if untouched_since is None or (batch.touched or batch.created) < untouched_since]

    async def run_batches(self, flow: str, run: str) -> Sequence[Batch]:
        self._step("ledger.run_batches")
        return [batch for (name, _), batch in self.batches.items() if (name, batch.run) == (flow, run)]

    async def scan_bindings(self, flow: str, after: str | None = None, limit: int = 1000) -> BoundPage:
        self._step("ledger.scan_bindings")
        rows = [(self.born[b.etag], b) for b in self.bound if b.flow == flow]
        rows = sorted((row for row in rows if row[0] > int(after or 0)), key=lambda row: row[0])
        found = [b for _, b in rows[:limit]]
        page = [Bound(b.creatio_id, b.dynamics_id, b.state, b.creatio_stamp, b.dynamics_stamp, b.gone, mark_of_lines(b)) for b in found]
        return BoundPage(page, str(rows[limit - 1][0]) if len(rows) > limit else None)

    async def bindings(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Binding]:
        self._step("ledger.bindings")
        return self._found(flow, side, ids)

    async def stamps(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Seen]:
        self._step("ledger.stamps")
        found = self._found(flow, side, ids)
        # The tables bring the binding along on Creatio's side; on the other one they may know a pointer only.
        return {i: Seen(b.stamp_on(side), b.state, b if side is Side.CREATIO else None) for i, b in found.items()}

    async def save_bindings(self, bindings: Sequence[Binding]) -> Sequence[Binding | TandemError]:
        results: list[Binding | TandemError] = []
        for binding in bindings:
            self._step("ledger.save_bindings")
            results.append(self._save(binding))
        return results

    def _save(self, binding: Binding) -> Binding | TandemError:
        old = self._by_etag.get(binding.etag) if binding.etag is not None else None
        there = {self._at[place] for place in _places(binding) if place in self._at}
        taken = there - {old.etag if old is not None else None}
        if taken or (binding.etag is not None and old is None):
            return Stale("ledger.changed_meanwhile", record_id=binding.creatio_id or binding.dynamics_id or "")
        if old is not None:
            self._remove(old)
        saved = replace(binding, etag=self._fresh())
        self.born[saved.etag] = self.born.pop(old.etag) if old is not None else self._etag
        self._by_etag[saved.etag] = saved
        self._at |= dict.fromkeys(_places(saved), saved.etag)
        return saved

    def _remove(self, binding: Binding) -> None:
        del self._by_etag[binding.etag]
        for place in _places(binding):
            del self._at[place]

    @property
    def bound(self) -> list[Binding]:
        """Return all bindings, those saved last at the end."""
        return list(self._by_etag.values())

    def _found(self, flow: str, side: Side, ids: Collection[str]) -> dict[str, Binding]:
        places = {record_id: self._at.get((flow, side, record_id)) for record_id in ids}
        return {record_id: self._by_etag[etag] for record_id, etag in places.items() if etag is not None}

    async def forget_binding(self, binding: Binding) -> None:
        self._step("ledger.forget_binding")
        there = self._by_etag.get(binding.etag)
        if there is None:
            raise Stale("ledger.changed_meanwhile")
        self._remove(there)

    async def reserve(self, wanted: Mapping[str, Sequence[str]], until: datetime) -> Mapping[str, str | None]:
        return {holder: self._reserve(keys, holder, until) for holder, keys in wanted.items()}

    def _reserve(self, keys: Sequence[str], holder: str, until: datetime) -> str | None:
        self._step("ledger.reserve")
        for key in sorted(keys):
            if key in self.reservations and self.reservations[key][0] != holder:
                return self.reservations[key][0]
        for key in keys:
            self.reservations[key] = (holder, until)
            self._fresh()
        return None

    async def retake(self, keys: Sequence[str], holder: str, from_holder: str, until: datetime) -> bool:
        self._step("ledger.retake")
        mine = [key for key in keys if self.reservations.get(key, ("",))[0] == from_holder and self.reservations[key][1] <= self._now()]
        for key in mine:
            self.reservations[key] = (holder, until)
        return bool(mine)

    async def release(self, held: Mapping[str, Collection[str]]) -> None:
        for holder, keys in held.items():
            self._step("ledger.release")
            for key in keys:
                if self.reservations.get(key, ("",))[0] == holder:
                    del self.reservations[key]

    async def save_failures(self, failures: Sequence[Failure]) -> None:
        for failure in failures:
            self._step("ledger.save_failures")
            self._fresh()
            self.failed[failure.flow, failure.side or "", failure.record_id, failure.field] = failure

    async def clear_failures(self, flow: str, side: Side | None, fields_by_record: Mapping[str, Collection[str] | None]) -> None:
        self._step("ledger.clear_failures")
        for key in list(self.failed):
            fields = fields_by_record.get(key[2], ())
            if key[:2] == (flow, side or "") and key[2] in fields_by_record and (fields is None or key[3] in fields):
                del self.failed[key]

    async def failures(self, flow: str) -> Sequence[Failure]:
        return [failure for key, failure in self.failed.items() if key[0] == flow]

    async def save_conflicts(self, conflicts: Sequence[Conflict]) -> None:
        for conflict in conflicts:
            self._step("ledger.save_conflicts")
            self._fresh()
            self.disputed[conflict.flow, conflict.creatio_id, conflict.dynamics_id, conflict.field] = conflict

    async def clear_conflicts(self, flow: str, records: Collection[tuple[str, str, str]]) -> None:
        self._step("ledger.clear_conflicts")
        for record in records:
            self.disputed.pop((flow, *record), None)

    async def conflicts(self, flow: str) -> Sequence[Conflict]:
        return [conflict for key, conflict in self.disputed.items() if key[0] == flow]

    async def save_waiting(self, waiting: Sequence[Waiting]) -> Sequence[Waiting]:
        fresh = []
        for row in waiting:
            self._step("ledger.save_waiting")
            if _plain(row) not in self.waiting:
                self._fresh()
                self.waiting[_plain(row)] = row
                fresh.append(row)
        return fresh

    async def tell_waiting(self, waiting: Sequence[Waiting]) -> None:
        self._step("ledger.tell_waiting")
        for row in waiting:
            if _plain(row) in self.waiting:
                self.waiting[_plain(row)] = replace(self.waiting[_plain(row)], told=True)

    async def waiting_for(self, target_flow: str, target_side: Side, target_ids: Collection[str]) -> Sequence[Waiting]:
        self._step("ledger.waiting_for")
        wanted = (target_flow, target_side)
        return [row for row in self.waiting.values() if (row.target_flow, row.target_side) == wanted and row.target_id in target_ids]

    async def all_waiting(self) -> Sequence[Waiting]:
        return list(self.waiting.values())

    async def clear_waiting(self, waiting: Sequence[Waiting]) -> None:
        self._step("ledger.clear_waiting")
        for row in waiting:
            self.waiting.pop(_plain(row), None)

    async def delete_count(self, flow: str) -> DeleteCount:
        self._step("ledger.delete_count")
        return self.delete_counts.get(flow) or DeleteCount(flow)

    async def save_delete_count(self, count: DeleteCount) -> DeleteCount:
        self._step("ledger.save_delete_count")
        self._check(self.delete_counts.get(count.flow), count.etag)
        self.delete_counts[count.flow] = saved = replace(count, etag=self._fresh())
        return saved

    async def hold_deletes(self, held: Sequence[HeldDelete]) -> None:
        for one in held:
            self._step("ledger.hold_deletes")
            self.held.setdefault((one.flow, one.side, one.record_id), one)

    async def held_deletes(self, flow: str) -> Sequence[HeldDelete]:
        return [one for one in self.held.values() if one.flow == flow]

    async def clear_held(self, flow: str, records: Collection[tuple[Side, str]]) -> None:
        self._step("ledger.clear_held")
        for side, record_id in records:
            self.held.pop((flow, side, record_id), None)

    async def keep_own_deletes(self, system: str, entity: str, ids: Collection[str]) -> None:
        self._step("ledger.keep_own_deletes")
        self.own |= {(system, entity, record_id) for record_id in ids}

    async def own_deletes(self, system: str, entity: str, ids: Collection[str]) -> Collection[str]:
        self._step("ledger.own_deletes")
        return {record_id for record_id in ids if (system, entity, record_id) in self.own}

    async def forget_own_deletes(self, system: str, entity: str, ids: Collection[str]) -> None:
        self._step("ledger.forget_own_deletes")
        self.own -= {(system, entity, record_id) for record_id in ids}

    async def save_run(self, run: Run) -> None:
        self._fresh()
        self.run_rows[run.id] = run

    async def fold_quiet_run(self, flow: str, at: datetime) -> None:
        self.folded += 1

    async def runs(self, flow: str, limit: int = 100) -> Sequence[Run]:
        return [run for run in self.run_rows.values() if run.flow == flow][-limit:]

    async def purge(self, before: datetime) -> int:
        gone = [key for key, batch in self.batches.items() if batch.state is BatchState.CLOSED and batch.created < before]
        for key in gone:
            del self.batches[key]
        return len(gone)


def _plain(row: Waiting) -> Waiting:
    """Return what identifies a waiting row, without when it was made and whether it was told."""
    return replace(row, since=datetime.min.replace(tzinfo=UTC), told=False)


def _places(binding: Binding) -> list[tuple[str, Side, str]]:
    """Return where a binding is found: by its ids, each side's in its flow."""
    return [(binding.flow, side, record_id) for side in Side if (record_id := binding.id_on(side))]
