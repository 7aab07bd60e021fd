"""A small world to try the engine in: one flow between two fake systems, a fake ledger and queues, and a clock that obeys."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

from shared.core.binding import Binding
from shared.core.errors import TandemError, Transient
from shared.core.fingerprint import Keyring
from shared.core.mapping_load import load
from shared.core.records import Column, ColumnType, Side, Value
from shared.core.work import Message, Outcome, PollMessage
from shared.engine.bulk import Bulk
from shared.engine.decide import Decide
from shared.engine.operate import Operate
from shared.engine.poison import Poison
from shared.engine.poll import Poll
from shared.engine.services import Limits, Services
from shared.engine.sync import Sync
from shared.engine.tasks import Tasks
from shared.engine.walk import Walk
from shared.engine.watch import Watch
from tests.engine.fake_ledger import FakeLedger
from tests.engine.fakes import Crash, FakeClock, FakeQueues, FakeSystem

_WORKER: ContextVar[int] = ContextVar("worker", default=0)
FLOW = "test.account"
MAPPING = {
    "flow": FLOW,
    "title": "Accounts",
    "about": "A small mapping with every kind of row that the engine treats in its own way.",
    "creatio": {"entity": "Account"},
    "dynamics": {"system": "dataverse", "entity": "account"},
    "create": "both",
    "owner": "creatio",
    "on_delete": "keep",
    "on_duplicate": "ask",
    "match": [["Code"], ["Name", "Zip"]],
    "fields": [
        {"creatio": "Name", "way": "=", "dynamics": "name", "required": True, "overlong": "truncate"},
        {"creatio": "Code", "way": "=", "dynamics": "accountnumber"},
        {"creatio": "Zip", "way": "=", "dynamics": "zip"},
        {"creatio": "Phone", "way": "=", "dynamics": "telephone1", "rule": "phone", "owner": "dynamics"},
        {"creatio": "Notes", "way": "=", "dynamics": "description", "owner": "ask"},
        {"creatio": "Limit", "way": "<", "dynamics": "creditlimit", "rule": "money"},
        {"creatio": "Id", "way": ">", "dynamics": "creatioid", "rule": "source_id"},
        {"creatio": "ParentId", "way": "=", "dynamics": "parentaccountid", "rule": "reference", "flow": FLOW},
    ],
}


def _text(name: str, length: int | None = None) -> Column:
    return Column(name, ColumnType.TEXT, max_length=length)


CREATIO_COLUMNS = [
    _text("Name", 250),
    _text("Code", 50),
    _text("Zip", 50),
    _text("Phone", 50),
    _text("Notes"),
    Column("Limit", ColumnType.DECIMAL, scale=2),
    Column("Id", ColumnType.ID),
    Column("ParentId", ColumnType.LOOKUP),
]
DYNAMICS_COLUMNS = [
    _text("name", 12),
    _text("accountnumber", 20),
    _text("zip", 20),
    _text("telephone1", 50),
    _text("description", 40),
    Column("creditlimit", ColumnType.DECIMAL, scale=2),
    _text("creatioid", 36),
    Column("parentaccountid", ColumnType.LOOKUP),
]


def guid(number: int) -> str:
    """Return a readable id."""
    return f"{number:08d}-0000-4000-8000-000000000000"


@dataclass
class World:
    """Everything of one test. `on_step` is called with the name of each step of each fake; raising Crash there kills the worker."""

    mapping: dict[str, object] = field(default_factory=lambda: json.loads(json.dumps(MAPPING)))
    clock: FakeClock = field(default_factory=FakeClock)
    on_step: Callable[[str], None] = lambda _name: None
    keys: str = "k1:" + "A" * 43 + "="
    poll_slice: timedelta = timedelta(seconds=45)
    compare_seconds: float = 6 * 3600
    default_owner: str = ""
    further: list[dict[str, object]] = field(default_factory=list)
    """Mappings of further flows."""
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        def step(name: str) -> None:
            if _WORKER.get() in self._dead:
                raise Crash
            self.on_step(name)

        self.ledger = FakeLedger(step, self.clock)
        self.queues = FakeQueues(self.clock, step)
        self.creatio = FakeSystem("creatio", Side.CREATIO, CREATIO_COLUMNS, self.clock, step, etags=False)
        self.dynamics = FakeSystem("dataverse", Side.DYNAMICS, DYNAMICS_COLUMNS, self.clock, step, etags=True)
        self._ids, self._workers = count(1), count(1)
        self._dead: set[int] = set()
        self.start()

    def start(self) -> None:
        """Start the app's process anew: what is only in memory is gone, ledger, queues and systems stay."""
        services = Services(
            ledger=self.ledger,
            queues=self.queues,
            systems={"creatio": self.creatio, "dataverse": self.dynamics},
            mappings=load({f"{mapping['flow']}.json": json.dumps(mapping) for mapping in (self.mapping, *self.further)}, {}),
            keyring=Keyring.parse(self.keys),
            clock=self.clock,
            new_id=lambda: f"id{next(self._ids):06d}",
            random=lambda: 0.0,
            events=lambda name, **facts: self.events.append((name, dict(facts))),
            limits=Limits(
                default_interval_ms=1000,
                slots={"creatio": 4, "dataverse": 4},
                poll_slice=self.poll_slice,
                compare_interval=timedelta(seconds=self.compare_seconds),
                default_owner=self.default_owner,
            ),
        )
        self.services = services
        self.poller, self.syncer, self.watcher = Poll(services), Sync(services), Watch(services)
        self.poison, self.operate = Poison(services), Operate(services)
        self.decide, self.walk, self.tasks = Decide(services), Walk(services), Tasks(services, self.poller)
        self.bulk = Bulk(services)

    def system(self, side: Side) -> FakeSystem:
        """Return the system of a side."""
        return self.creatio if side is Side.CREATIO else self.dynamics

    async def poll(self) -> None:
        """Let the timer fire once."""
        self.clock.tick(60)
        await self.as_worker(self.poller.run())

    async def as_worker(self, work: Awaitable[object]) -> None:
        """Do work as a process of its own: once it dies, nothing that it still had under way goes on."""
        worker = next(self._workers)
        _WORKER.set(worker)
        try:
            await work
        except Crash:
            self._dead.add(worker)
            raise

    async def drain(self, limit: int = 400) -> None:
        """Work off the queues as the host does: a message whose worker dies comes back, time passes for delayed ones."""
        for _ in range(limit):
            if not self.queues.messages:
                return
            self.queues.messages.sort(key=lambda entry: entry[0])
            due, queue, message = self.queues.messages.pop(0)
            self.clock.now = max(self.clock.now, due)
            await self._deliver(queue, message)
        raise AssertionError(f"the queues did not run empty: {self.queues.messages[:3]}")

    async def deliver_together(self) -> None:
        """Deliver every message that is due to a worker of its own, all at the same time."""
        due = [entry for entry in self.queues.messages if entry[0] <= self.clock()]
        self.queues.messages = [entry for entry in self.queues.messages if entry[0] > self.clock()]
        await asyncio.gather(*(self._deliver(queue, message) for _, queue, message in due))

    async def _deliver(self, queue: str, message: object) -> None:
        try:
            if isinstance(message, Message):
                await self.as_worker(self.syncer.run(message))
            else:
                assert isinstance(message, PollMessage)
                await self.as_worker(self.tasks.run(message))
        except Crash:
            self.queues.messages.append((self.clock() + timedelta(minutes=10), queue, message))
            self.start()
        except Transient:  # as the host does: the message is seen again
            self.queues.messages.append((self.clock() + timedelta(minutes=1), queue, message))

    async def cycle(self, times: int = 1) -> None:
        """Poll and work off, so many times."""
        for _ in range(times):
            await self.poll()
            await self.drain()

    def binding(self, side: Side, record_id: str) -> Binding:
        """Return the binding of a record."""
        return next(b for b in self.ledger.bound if b.id_on(side) == record_id)

    def twin(self, side: Side, record_id: str) -> str:
        """Return the id of a record on the other side."""
        twin = self.binding(side, record_id).id_on(side.other)
        assert twin is not None
        return twin

    def counts(self) -> dict[str, int]:
        """Return the outcomes of all batches."""
        total: dict[str, int] = {}
        for batch in self.ledger.batches.values():
            for name, number in batch.counts.items():
                total[name] = total.get(name, 0) + number
        return {name: number for name, number in total.items() if name != Outcome.UNCHANGED}

    def failure_codes(self) -> set[tuple[str, str]]:
        """Return (field, code) of every failure."""
        return {(failure.field, failure.code) for failure in self.ledger.failed.values()}

    async def pair(self, **values: Value) -> tuple[str, str]:
        """Return the ids of a record that is bound and in step on both sides."""
        record_id = guid(next(self._ids))
        self.creatio.create_as_user(record_id, **{"Id": record_id, "Name": "Acme", **values})
        await self.cycle(2)
        return record_id, self.twin(Side.CREATIO, record_id)


def raised(error: TandemError) -> Callable[[object], TandemError]:
    """Return a refusal that always answers with an error."""
    return lambda _write: error
