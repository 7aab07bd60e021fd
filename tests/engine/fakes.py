"""Fakes with behaviour, one for each port: a ledger with ETags, queues with visibility, two systems with feeds, stamps and users.

Every step of every fake first calls `world.step(name)`, which a test may use to crash, to let time pass or to act as a user.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from shared.core.binding import Binding, BindingState
from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.core.records import Change, ChangePage, Column, Entity, Row, Side, Stamp, Value, Write, WriteKind, WriteResult
from shared.core.work import (
    AccountThrottle,
    Batch,
    BatchState,
    Conflict,
    Failure,
    FlowSettings,
    Message,
    PollMessage,
    PollState,
    Run,
    Waiting,
    Watermark,
)

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


class Crash(Exception):  # noqa: N818 - it plays a process that dies, not an error
    """The process died here."""


class FakeClock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float = 1) -> None:
        self.now += timedelta(seconds=seconds)


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
        self.bound: list[Binding] = []
        self.reservations: dict[str, tuple[str, datetime]] = {}
        self.failed: dict[tuple[str, str, str, str], Failure] = {}
        self.disputed: dict[tuple[str, str, str, str], Conflict] = {}
        self.waiting: dict[Waiting, Waiting] = {}
        self.run_rows: dict[str, Run] = {}
        self.folded = 0
        self.writes = 0

    def _fresh(self) -> str:
        self._etag += 1
        self.writes += 1
        return str(self._etag)

    async def poll_state(self) -> PollState:
        self._step("ledger.poll_state")
        return PollState(dict(self.flows), dict(self.watermarks), dict(self.throttles))

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

    def _check(self, there: FlowSettings | Watermark | Batch | None, etag: str | None) -> None:
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
        return [batch for (name, _), batch in self.batches.items() if name == flow and batch.state is not BatchState.CLOSED]

    async def bindings(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Binding]:
        self._step("ledger.bindings")
        return {str(b.id_on(side)): b for b in self.bound if b.flow == flow and b.id_on(side) in ids}

    async def stamps(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, tuple[Stamp | None, BindingState]]:
        self._step("ledger.stamps")
        return {str(b.id_on(side)): (b.stamp_on(side), b.state) for b in self.bound if b.flow == flow and b.id_on(side) in ids}

    async def save_bindings(self, bindings: Sequence[Binding]) -> Sequence[Binding | TandemError]:
        results: list[Binding | TandemError] = []
        for binding in bindings:
            self._step("ledger.save_bindings")
            results.append(self._save(binding))
        return results

    def _save(self, binding: Binding) -> Binding | TandemError:
        old = next((b for b in self.bound if b.etag == binding.etag and binding.etag is not None), None)
        others = [b for b in self.bound if b is not old and b.flow == binding.flow]
        taken = any(binding.id_on(side) and b.id_on(side) == binding.id_on(side) for side in Side for b in others)
        if taken or (binding.etag is not None and old is None):
            return Stale("ledger.changed_meanwhile", record_id=binding.creatio_id or binding.dynamics_id or "")
        if old is not None:
            self.bound.remove(old)
        saved = replace(binding, etag=self._fresh())
        self.bound.append(saved)
        return saved

    async def forget_binding(self, binding: Binding) -> None:
        self._step("ledger.forget_binding")
        there = next((b for b in self.bound if b.etag == binding.etag), None)
        if there is None:
            raise Stale("ledger.changed_meanwhile")
        self.bound.remove(there)

    async def reserve(self, keys: Sequence[str], holder: str, until: datetime) -> str | None:
        self._step("ledger.reserve")
        for key in keys:
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

    async def release(self, keys: Sequence[str], holder: str) -> None:
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

    async def save_waiting(self, waiting: Sequence[Waiting]) -> None:
        for row in waiting:
            self._step("ledger.save_waiting")
            self._fresh()
            self.waiting[replace(row, since=START)] = row

    async def waiting_for(self, target_flow: str, target_side: Side, target_ids: Collection[str]) -> Sequence[Waiting]:
        self._step("ledger.waiting_for")
        wanted = (target_flow, target_side)
        return [row for row in self.waiting.values() if (row.target_flow, row.target_side) == wanted and row.target_id in target_ids]

    async def all_waiting(self) -> Sequence[Waiting]:
        return list(self.waiting.values())

    async def clear_waiting(self, waiting: Sequence[Waiting]) -> None:
        self._step("ledger.clear_waiting")
        for row in waiting:
            self.waiting.pop(replace(row, since=START), None)

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


@dataclass
class FakeQueues:
    """Queues in memory: messages with the moment from which they can be seen."""

    clock: FakeClock
    step: Step
    messages: list[tuple[datetime, str, Message | PollMessage]] = field(default_factory=list)

    async def send(self, queue: str, message: Message | PollMessage, delay_seconds: float = 0) -> None:
        self.step("queues.send")
        self.messages.append((self.clock() + timedelta(seconds=delay_seconds), queue, message))

    async def depths(self) -> Mapping[str, int]:
        return {name: sum(1 for _, queue, _ in self.messages if queue == name) for name in ("polls", "changes", "bulk")}


@dataclass
class Record:
    """A stored record: values, stamp, who wrote it last, and the place of its last change in the feed."""

    values: dict[str, Value]
    stamp: Stamp
    by_us: bool
    sequence: int


class FakeSystem:
    """A system in memory. `etags` tells Dataverse's way (If-Match) from Creatio's (pre-image and post-image)."""

    def __init__(self, name: str, side: Side, columns: Collection[Column], clock: FakeClock, step: Step, *, etags: bool) -> None:
        self.name, self.side, self.etags, self.without_null = name, side, etags, not etags
        self.columns = {column.name: column for column in columns}
        self._clock, self._step = clock, step
        self.records: dict[str, Record] = {}
        self.deleted: dict[str, int] = {}
        self.sequence = 0
        self.requests = 0
        self.writes = 0
        self.mail: dict[str, str] = {}
        self.normalise: Callable[[str, Value], Value] = lambda _column, value: value
        self.refuse: Callable[[Write], TandemError | None] = lambda _write: None
        self.lose_reply: Callable[[], bool] = lambda: False
        self.lose_request: Callable[[], bool] = lambda: False
        self.after_plan: Callable[[str], None] = lambda _record_id: None
        self.between: Callable[[str], None] = lambda _record_id: None
        self.denied = False
        self.page_size = 1000

    # what users do

    def create_as_user(self, record_id: str, **values: Value) -> None:
        self._store(record_id, {**dict.fromkeys(self.columns), **values}, by_us=False)

    def edit_as_user(self, record_id: str, **values: Value) -> None:
        self._store(record_id, {**self.records[record_id].values, **values}, by_us=False)

    def delete_as_user(self, record_id: str) -> None:
        del self.records[record_id]
        self.sequence += 1
        self.deleted[record_id] = self.sequence

    def value(self, record_id: str, column: str) -> Value:
        return self.records[record_id].values[column]

    def _store(self, record_id: str, values: dict[str, Value], *, by_us: bool) -> None:
        self.sequence += 1
        self._clock.tick(0.001)
        version = f'W/"{self.sequence}"' if self.etags else ""
        stored = {name: self.normalise(name, value) if by_us else value for name, value in values.items()}
        self.records[record_id] = Record(stored, Stamp(self._clock(), version), by_us, self.sequence)

    # the port

    async def describe(self, entity: str, columns: Collection[str], options: Collection[str]) -> Entity:
        self._gate("describe")
        found = {name: self.columns[name] for name in columns if name in self.columns}
        return Entity(entity, found, tuple(name for name in columns if name not in self.columns))

    async def changes(self, entity: str, columns: Collection[str], position: str | None, since: datetime | None):
        self._gate("changes")
        self.requests += 1
        after = int(position or 0)
        changed = sorted((r.sequence, Change(i, r.stamp)) for i, r in self.records.items() if r.sequence > after)
        gone = sorted((at, Change(i, None, deleted=True)) for i, at in self.deleted.items() if at > after and self.etags)
        entries, end = sorted([*changed, *gone], key=lambda entry: entry[0]), self.sequence
        while len(entries) > self.page_size:
            page, entries = entries[: self.page_size], entries[self.page_size :]
            yield ChangePage([change for _, change in page], str(page[-1][0]), complete=False, server_time=self._clock())
        yield ChangePage([change for _, change in entries], str(end), complete=True, server_time=self._clock())

    async def read(self, entity: str, ids: Collection[str], columns: Collection[str]) -> Mapping[str, Row | TandemError]:
        self._gate("read")
        self.requests += 1
        return {i: self.row(i) for i in ids if i in self.records}

    async def find(self, entity: str, keys: Sequence[Mapping[str, Value]], columns: Collection[str]) -> Sequence[Sequence[Row]]:
        self._gate("find")
        self.requests += 1
        return [[self.row(i) for i, r in self.records.items() if all(r.values.get(c) == v for c, v in key.items())] for key in keys]

    async def write(self, entity: str, writes: Sequence[Write]) -> Sequence[WriteResult]:
        self._gate("write")
        self.requests += 1
        if self.lose_request():
            return [WriteResult(w.id, error=Transient(f"{self.name}.unreachable", record_id=w.id)) for w in writes]
        results = []
        for write in writes:
            self._step(f"{self.name}.write_one")
            results.append(self._write_one(write))
        if self.lose_reply():
            return [WriteResult(w.id, error=Transient(f"{self.name}.unreachable", record_id=w.id)) for w in writes]
        return results

    async def users(self) -> Mapping[str, str]:
        return self.mail

    async def close(self) -> None:
        """Nothing to close."""

    def row(self, record_id: str) -> Row:
        record = self.records[record_id]
        return Row(record_id, record.stamp, dict(record.values), record.by_us)

    def _gate(self, verb: str) -> None:
        self._step(f"{self.name}.{verb}")
        if self.denied:
            raise Denied(f"{self.name}.denied", system=self.name)

    def _write_one(self, write: Write) -> WriteResult:
        self.after_plan(write.id)
        refusal = self.refuse(write)
        if refusal is not None:
            return WriteResult(write.id, error=refusal)
        if write.kind is WriteKind.CREATE:
            return self._create_one(write)
        if write.id not in self.records:
            return WriteResult(write.id, error=Rejected(f"{self.name}.not_found", record_id=write.id))
        met = self.row(write.id)
        if self.etags and write.seen is not None and met.stamp != write.seen.stamp:
            return WriteResult(write.id, error=Stale(f"{self.name}.changed_meanwhile", record_id=write.id))
        self.writes += 1
        self._store(write.id, {**met.values, **write.values}, by_us=True)
        self.between(write.id)
        before = met if not self.etags and write.seen is not None and met.values != write.seen.values else None
        return WriteResult(write.id, self.row(write.id), before)

    def _create_one(self, write: Write) -> WriteResult:
        if write.id in self.records:
            return WriteResult(write.id, error=Rejected(f"{self.name}.duplicate", record_id=write.id))
        self.writes += 1
        self._store(write.id, {**dict.fromkeys(self.columns), **write.values}, by_us=True)
        self.between(write.id)
        return WriteResult(write.id, copy(self.row(write.id)))
