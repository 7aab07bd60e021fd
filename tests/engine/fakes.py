"""Fakes with behaviour: queues with visibility, two systems with feeds, stamps and users, a clock. The ledger is in fake_ledger.py.

Every step of every fake first calls `world.step(name)`, which a test may use to crash, to let time pass or to act as a user.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.core.records import (
    Change,
    ChangePage,
    Column,
    ColumnType,
    Entity,
    KeyRange,
    LinesOf,
    RangeBy,
    RangePage,
    Row,
    Side,
    Stamp,
    Value,
    Write,
    WriteKind,
    WriteResult,
)
from shared.core.work import Message, PollMessage
from tests.engine.fake_ledger import Step

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
    created: datetime = START


class FakeSystem:
    """A system in memory. `etags` tells Dataverse's way (If-Match) from Creatio's (pre-image and post-image)."""

    requests = writes = 0
    page_size = 1000
    denied = False
    line_entity = ""
    sums_by_sql = False
    """True where a line that is saved or deleted leaves its document's own time as it is."""

    def __init__(self, name: str, side: Side, columns: Collection[Column], clock: FakeClock, step: Step, *, etags: bool) -> None:
        self.name, self.side, self.etags, self.without_null = name, side, etags, not etags
        self.columns = {column.name: column for column in columns}
        self._clock, self._step = clock, step
        self.records: dict[str, Record] = {}
        self.deleted: dict[str, int] = {}
        self.sequence = 0
        self.mail: dict[str, str] = {}
        self.normalise: Callable[[str, Value], Value] = lambda _column, value: value
        self.refuse: Callable[[Write], TandemError | None] = lambda _write: None
        self.forbid: Callable[[Write], TandemError | None] = lambda _write: None
        """The server's own rules, which hold whatever else goes wrong."""
        self.wrote: Callable[[str], None] = lambda _record_id: None
        """Told of each record that we have written."""
        self.lose_reply: Callable[[], bool] = lambda: False
        self.lose_request: Callable[[], bool] = lambda: False
        self.after_plan: Callable[[str], None] = lambda _record_id: None
        self.between: Callable[[str], None] = lambda _record_id: None
        self.env = f"{name}/one"
        self.sees_all = True
        self.tells_deletes = etags
        self.hidden: set[str] = set()
        """Records that record rights hide: nothing shows them, but they exist."""
        self.stale_for: dict[str, Record] = {}
        """Older states that a lagging replica answers with."""
        self.merged: dict[str, str] = {}
        """Records that were merged into another one."""
        self.expired = False
        """True when positions are worth nothing any more."""
        self.fails: Callable[[str], TandemError | None] = lambda _verb: None
        """The error with which a whole request is answered: throttled, unreachable."""
        self.unreadable: Callable[[str], TandemError | None] = lambda _record_id: None
        self.delays: Callable[[], bool] = lambda: False
        """Tells whether a write is answered with an error now and done later, by `land`."""
        self.under_way: list[tuple[str, Write]] = []
        self.landed: Callable[[str, Record], None] = lambda _record_id, _before: None
        self.offset = timedelta(0)
        """How far the server's own clock is from the app's."""
        self._latest = START - timedelta(days=1)
        self.further: set[str] = set()
        """Entities beside the main one."""
        self.line_columns: dict[str, Column] = {}
        self.lines: dict[str, dict[str, dict[str, Value]]] = {}
        """The lines of documents by document and line id."""
        self.totals: Callable[[dict[str, dict[str, Value]]], dict[str, Value]] = lambda _lines: {}
        """What the server works out for the header whenever a line is saved."""
        self.line_saves: dict[str, int] = {}
        """By document, when one of its lines was saved last: the feed of the lines. None tells of deleted ones."""
        self.elsewhere: dict[str, str] = {}
        """The entity of each record that is not in the main one."""

    # what users do

    def create_as_user(self, record_id: str, **values: Value) -> None:
        self.deleted.pop(record_id, None)
        self._store(record_id, {**dict.fromkeys(self.columns), **values}, by_us=False)

    def edit_as_user(self, record_id: str, **values: Value) -> None:
        self._store(record_id, {**self.records[record_id].values, **values}, by_us=False)

    def delete_as_user(self, record_id: str) -> None:
        self._delete(record_id, by_us=False)

    def _delete(self, record_id: str, *, by_us: bool) -> None:
        """Remove a record; what was linked to it is linked to nothing then."""
        del self.records[record_id]
        self.stale_for.pop(record_id, None)
        self.sequence += 1
        self.deleted[record_id] = self.sequence
        links = [column.name for column in self.columns.values() if column.type is ColumnType.LOOKUP]
        for child, record in list(self.records.items()):
            cut = {name: None for name in links if record.values.get(name) == record_id}
            if cut:
                self._store(child, {**record.values, **cut}, by_us=by_us)

    def edit_lines_as_user(self, record_id: str, lines: Mapping[str, Mapping[str, Value] | None]) -> None:
        """Save or delete lines of a document, as a user does; the document changes with them, unless the server sums up by SQL."""
        self._store_lines(record_id, lines)
        record = self.records[record_id]
        values = {**record.values, **self.totals(self.lines[record_id])}
        if not self.sums_by_sql:
            self._store(record_id, values, by_us=False)
        else:
            self.records[record_id] = replace(record, values=values)
        if any(line is not None for line in lines.values()):
            self.sequence += 1
            self.line_saves[record_id] = self.sequence

    def _store_lines(self, record_id: str, lines: Mapping[str, Mapping[str, Value] | None]) -> None:
        there = self.lines.setdefault(record_id, {})
        for key, values in lines.items():
            if values is None:
                del there[key]
            else:
                there[key] = {**dict.fromkeys(self.line_columns), **there.get(key, {}), **values}

    def merge_as_user(self, loser: str, winner: str) -> None:
        self.merged[loser] = winner
        self.edit_as_user(loser)

    def land(self) -> None:
        """Do the writes that were answered with an error before they were done."""
        landing, self.under_way = self.under_way, []
        for entity, write in landing:
            before = self.records.get(write.id)
            self._write_one(write, entity)
            if before is not None:
                self.landed(write.id, before)

    def now(self) -> datetime:
        """Return the time by the server's own clock, which never runs backwards."""
        self._latest = max(self._latest, self._clock() + self.offset)
        return self._latest

    def value(self, record_id: str, column: str) -> Value:
        return self.records[record_id].values[column]

    def _store(self, record_id: str, values: dict[str, Value], *, by_us: bool) -> None:
        self.sequence += 1
        self._clock.tick(0.001)
        version = f'W/"{self.sequence}"' if self.etags else ""
        stored = {name: self.normalise(name, value) if by_us else value for name, value in values.items()}
        old, now = self.records.get(record_id), self.now()
        self.records[record_id] = Record(stored, Stamp(now, version), by_us, self.sequence, old.created if old else now)

    def _of(self, entity: str) -> dict[str, Record]:
        """Return the records of an entity."""
        return {i: r for i, r in self.records.items() if self._is_in(entity, i)}

    def _is_in(self, entity: str, record_id: str) -> bool:
        return self.elsewhere.get(record_id) == (entity if entity in self.further else None)

    # the port

    async def describe(self, entity: str, columns: Collection[str], options: Collection[str]) -> Entity:
        self._gate("describe")
        if self.line_entity and entity == self.line_entity:
            return Entity(entity, {name: self.line_columns[name] for name in columns})
        found = {name: self.columns[name] for name in columns if name in self.columns}
        return Entity(entity, found, tuple(name for name in columns if name not in self.columns))

    async def environment(self) -> str:
        return self.env

    async def exist(self, entity: str, ids: Collection[str]) -> Mapping[str, bool | None]:
        self._gate("exist")
        self.requests += 1
        there = self._of(entity)
        return {record_id: record_id in there for record_id in ids}

    async def changes(self, entity: str, columns: Collection[str], position: str | None, since: datetime | None, *, lines=None):
        self._gate("changes")
        self.requests += 1
        if position is not None and self.expired:
            self.expired = False
            raise Stale(f"{self.name}.delta_expired")
        after = -1 if position is None else int(position)
        changed = [(r.sequence, Change(i, r.stamp)) for i, r in self._of(entity).items() if r.sequence > after and i not in self.hidden]
        lost = {i: at for i, at in self.deleted.items() if self._is_in(entity, i)}
        gone = [(at, Change(i, None, deleted=True)) for i, at in lost.items() if at > after and self.tells_deletes and position]
        told = self.line_saves if lines and not self.etags else {}
        saved = [(at, Change(i, None)) for i, at in told.items() if at > after and i in self.records]
        entries, end = sorted([*changed, *gone, *saved], key=lambda entry: entry[0]), self.sequence
        while len(entries) > self.page_size:
            page, entries = entries[: self.page_size], entries[self.page_size :]
            yield ChangePage([change for _, change in page], str(page[-1][0]), complete=False, server_time=self.now())
        yield ChangePage([change for _, change in entries], str(end), complete=True, server_time=self.now())

    async def all_lines(self, lines: LinesOf):
        self._gate("all_lines")
        self.requests += 1
        yield [(document, line) for document, some in self.lines.items() if document in self.records for line in some]

    async def ranges(self, entity: str, by: RangeBy, since, until, size: int, after=None):
        self._gate("ranges")
        self.requests += 1
        times = [at for at, _ in self._by_time(entity, by) if (since is None or at >= since) and (until is None or at < until)]
        times = [at for at in times if after is None or at > after]
        while times:
            last = times[min(size, len(times)) - 1]
            inside = [at for at in times if at <= last]
            times = times[len(inside) :]
            yield KeyRange(by, inside[0], last, len(inside))

    async def read_range(self, entity: str, part: KeyRange, columns: Collection[str], position: str | None, size: int) -> RangePage:
        self._gate("read_range")
        self.requests += 1
        if position is not None and self.expired:
            self.expired = False
            raise Stale(f"{self.name}.changed_meanwhile")
        rows = [(at, i) for at, i in self._by_time(entity, part.by) if part.first <= at <= part.last]
        rows = [(at, i) for at, i in rows if position is None or f"{at.isoformat()} {i}" > position]
        page = rows[:size]
        following = f"{page[-1][0].isoformat()} {page[-1][1]}" if len(rows) > size else None
        return RangePage({i: self.unreadable(i) or self.row(i) for _, i in page}, following)

    def _by_time(self, entity: str, by: RangeBy) -> list[tuple[datetime, str]]:
        shown = {i: r for i, r in self._of(entity).items() if i not in self.hidden}
        return sorted((r.created if by is RangeBy.CREATED else r.stamp.time, i) for i, r in shown.items())

    async def read(
        self, entity: str, ids: Collection[str], columns: Collection[str], *, lines: LinesOf | None = None
    ) -> Mapping[str, Row | TandemError]:
        self._gate("read")
        self.requests += 1
        await asyncio.sleep(0)  # another worker's turn
        there = self._of(entity)
        shown = [i for i in ids if (i in there and i not in self.hidden) or i in self.stale_for]
        return {i: self.unreadable(i) or self.row(i) for i in shown}

    async def find(self, entity: str, keys: Sequence[Mapping[str, Value]], columns: Collection[str]) -> Sequence[Sequence[Row]]:
        self._gate("find")
        self.requests += 1
        shown = {i: r for i, r in self._of(entity).items() if i not in self.hidden}
        headers = {i: replace(self.row(i), lines={}) for i in shown}
        return [[headers[i] for i, r in shown.items() if all(r.values.get(c) == v for c, v in key.items())] for key in keys]

    async def write(
        self, entity: str, writes: Sequence[Write], *, bulk: bool = False, lines: LinesOf | None = None
    ) -> Sequence[WriteResult]:
        self._gate("write")
        self.requests += 1
        unanswered = [WriteResult(w.id, error=Transient(f"{self.name}.unreachable", record_id=w.id)) for w in writes]
        if self.delays():
            self.under_way += [(entity, write) for write in writes]
            return unanswered
        if self.lose_request():
            return unanswered
        await asyncio.sleep(0)
        results = []
        for write in writes:
            self._step(f"{self.name}.write_one")
            results.append(self._write_one(write, entity))
        return unanswered if self.lose_reply() else results

    async def users(self) -> Mapping[str, str]:
        return self.mail

    async def close(self) -> None:
        """Nothing to close."""

    def row(self, record_id: str) -> Row:
        record = self.stale_for.get(record_id) or self.records[record_id]
        merged = self.merged.get(record_id, "")
        return Row(record_id, record.stamp, self._shown(record), record.by_us, merged, lines=deepcopy(self.lines.get(record_id, {})))

    def _true_row(self, record_id: str) -> Row:
        """Return a record as it is, whatever a replica says."""
        record = self.records[record_id]
        merged = self.merged.get(record_id, "")
        return Row(record_id, record.stamp, self._shown(record), record.by_us, merged, lines=deepcopy(self.lines.get(record_id, {})))

    def _shown(self, record: Record) -> dict[str, Value]:
        """Return a value for each column that there is, and for no other."""
        return {name: record.values.get(name) for name in self.columns}

    def _gate(self, verb: str) -> None:
        self._step(f"{self.name}.{verb}")
        if self.denied:
            raise Denied(f"{self.name}.denied", system=self.name)
        if (error := self.fails(verb)) is not None:
            raise error

    def _write_one(self, write: Write, entity: str = "") -> WriteResult:
        self.after_plan(write.id)
        refusal = self.refuse(write) or self.forbid(write) or self._dangling(write)
        if refusal is not None:
            return WriteResult(write.id, error=refusal)
        if write.kind is WriteKind.CREATE:
            return self._create_one(write, entity)
        if write.id not in self.records:
            missing = Rejected(f"{self.name}.not_found", record_id=write.id)
            return WriteResult(write.id, error=None if write.kind is WriteKind.DELETE else missing)
        met = self._true_row(write.id)
        if self.etags and write.seen is not None and met.stamp != write.seen.stamp:
            return WriteResult(write.id, error=Stale(f"{self.name}.changed_meanwhile", record_id=write.id))
        self.writes += 1
        if write.kind is WriteKind.DELETE:
            self._delete(write.id, by_us=True)
            return WriteResult(write.id)
        self._store_lines(write.id, write.lines)
        summed = self.totals(self.lines[write.id]) if write.lines else {}
        self._store(write.id, {**self.records[write.id].values, **write.values, **summed}, by_us=True)
        self.wrote(write.id)
        self.between(write.id)
        before = met if not self.etags and write.seen is not None and met.values != write.seen.values else None
        return WriteResult(write.id, self._true_row(write.id), before)

    def _dangling(self, write: Write) -> TandemError | None:
        """Return the refusal of a link to a record that is not there."""
        links = [column.name for column in self.columns.values() if column.type is ColumnType.LOOKUP]
        dead = [name for name in links if write.values.get(name) and write.values[name] not in self.records]
        return Rejected(f"{self.name}.refused", system=self.name, record_id=write.id, field=dead[0]) if dead else None

    def _create_one(self, write: Write, entity: str = "") -> WriteResult:
        if write.id in self.records:
            return WriteResult(write.id, error=Rejected(f"{self.name}.duplicate", record_id=write.id))
        self.writes += 1
        self.deleted.pop(write.id, None)
        if entity in self.further:
            self.elsewhere[write.id] = entity
        key = {"Id": write.id} if "Id" in self.columns else {}
        self._store_lines(write.id, write.lines)
        summed = self.totals(self.lines[write.id]) if write.lines else {}
        self._store(write.id, {**dict.fromkeys(self.columns), **write.values, **key, **summed}, by_us=True)
        self.wrote(write.id)
        self.between(write.id)
        made = self._true_row(write.id)
        told = {*write.values, *write.told}  # of a new record servers tell what was written, and what they were asked for
        return WriteResult(write.id, replace(made, values={name: value for name, value in made.values.items() if name in told}))
