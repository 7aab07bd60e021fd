"""The simulation: a poll finds records, a queue hands batches to instances, and what they work with is limited.

It follows the code step by step and keeps to what design and reference say about the surroundings. What it simplifies, always to the
slow side or without effect on what it predicts:

- A throttled batch begins anew after its pause; the app keeps what it wrote.
- Bindings and rows of a batch are read one after the other; the app reads them side by side.
- Instances are started, never ended.
- A repeated poll is not simulated: all work is there when its pages were read. The counts of all bindings that many changes cause
  are not in the times (bench/model_page.py shows what they come to).
"""

import math
import random
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from bench.model_clock import Clock, Gate, Process, Rate, Signal, Window
from bench.model_terms import CREATIO, DATAVERSE, SYSTEMS, Assumptions, Kind, Load
from bench.model_work import (
    Request,
    Rows,
    Step,
    Think,
    chunks,
    closing,
    cold,
    cold_poll,
    echo,
    feed,
    opening,
    page,
    postponing,
    steps,
    taking,
)

_FIRST_WAIT = 0.1
_DAY = 86_400.0
_MOST_DELAY = 300.0
_MOST_RETRY_AFTER = 5.0
"""A shorter Retry-After is waited out in place (shared/systems/web.py)."""


@dataclass
class _Message:
    number: int
    kind: Kind
    records: int
    dequeues: int = 0


@dataclass
class _Instance:
    cpu: Rate
    gates: dict[str, Gate]
    ended: Signal
    running: int = 0
    cold: bool = True
    begun: int = 0


@dataclass
class Result:
    """What a simulation came to. `busy` is each resource's share of the time until the last record was done."""

    seconds: float = 0.0
    done: Counter[Kind] = field(default_factory=Counter)
    times_done: Counter[int] = field(default_factory=Counter)
    """How often each batch was done: once, each of them."""
    poisoned: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    ledger_requests: int = 0
    messages: int = 0
    futile: int = 0
    throttled: int = 0
    peak_instances: int = 0
    peak_messages: int = 0
    """Most messages that one instance worked on at a time."""
    peak_batches: int = 0
    """Most batches that held slots at a time."""
    curve: list[tuple[float, int]] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    partitions: dict[str, Rate] = field(default_factory=dict)

    def rate(self) -> float:
        """Return records a second between the first third and the last twentieth: without start and end."""
        total = self.curve[-1][1]
        low = next(point for point in self.curve if point[1] >= total / 3)
        high = next(point for point in self.curve if point[1] >= total * 0.95)
        if high[0] <= low[0]:
            return total / self.seconds
        return (high[1] - low[1]) / (high[0] - low[0])


class Simulation:
    """One load under one set of assumptions; the same seed gives the same result."""

    def __init__(self, terms: Assumptions, load: Load, seed: int = 1, *, log: bool = False, stop_after: int | None = None) -> None:
        """Take the load; with `stop_after` only so many records of it are done, to see the pace of a load too large to be simulated."""
        self._terms, self._load = terms, load
        self._stop_after = stop_after
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._clock = Clock()
        self._result = Result()
        self._log = log
        self._visible: deque[_Message] = deque()
        self._open = 0
        self._found = 0
        self._feeds = len(load.records)
        self._free = dict.fromkeys(SYSTEMS, 0)
        self._working = 0
        self._paused = 0.0
        self._instances: list[_Instance] = []
        self._wanted = 0
        self._account = Rate(self._clock, terms.account_rate)
        self._windows = [self._window() for _ in range(terms.accounts * terms.dataverse_servers)]
        self._turn = 0
        self._creatio = Gate(self._clock, terms.creatio_parallel)
        self._spent = dict.fromkeys(("slots", "creatio", "dataverse", "processor"), 0.0)
        self._echoes: deque[tuple[Kind, int]] = deque()

    def run(self) -> Result:
        """Simulate until every record is done or given up."""
        before, meanwhile = cold_poll(self._terms)
        self._clock.start(self._ask(meanwhile))
        for kind, number in self._load.records.items():
            self._clock.start(self._poll(kind, number, before))
            before = []
        self._clock.start(self._scale())
        if self._load.echoes:
            self._clock.start(self._drop_echoes())
        self._clock.run(self._is_over)
        result = self._result
        result.seconds = result.curve[-1][0] if result.curve else self._clock.now
        result.windows, result.peak_instances = self._windows, len(self._instances)
        self._shares()
        return result

    def _window(self) -> Window:
        terms = self._terms
        limits = (terms.dataverse_window, terms.dataverse_requests, terms.dataverse_seconds, terms.dataverse_concurrent)
        return Window(self._clock, *limits, log=[] if self._log else None)

    def _is_over(self) -> bool:
        if self._stop_after is not None and self._result.curve and self._result.curve[-1][1] >= self._stop_after:
            return True
        return self._feeds == 0 and self._open == 0 and not self._echoes

    def _shares(self) -> None:
        terms, spent, result = self._terms, self._spent, self._result
        span = max(result.seconds, 1e-9)
        windows = len(self._windows) * terms.dataverse_seconds / terms.dataverse_window
        most = terms.most_batches(bulk=self._load.bulk)
        result.busy = {
            "slots": spent["slots"] / (span * most),
            "execution time of Dataverse": spent["dataverse"] / (span * windows),
            "requests of Dataverse": result.requests[DATAVERSE]
            / (span * len(self._windows) * terms.dataverse_requests / terms.dataverse_window),
            "processor": spent["processor"] / (span * max(1, len(self._instances))),
            **{f"partition {name}": rate.work / (span * rate.rate) for name, rate in result.partitions.items()},
        }

    # --- what finds work ----------------------------------------------------------------------------------------------------

    def _ask(self, asked: Sequence[Step]) -> Process:
        for step in asked:
            yield from self._do(step, None)

    def _poll(self, kind: Kind, number: int, before: Sequence[Step]) -> Process:
        """Read the pages of a feed one after the other, and put batches on the queue."""
        yield from self._ask(before)
        for rows in feed(kind.source, number, self._terms):
            yield from self._ask(page(kind.source, rows, self._terms))
            for records in chunks(rows, self._terms.batch_size):
                self._send(_Message(self._found, kind, records))
                self._found += 1
                self._open += 1
        self._feeds -= 1

    def _send(self, message: _Message, delay: float = 0.0) -> None:
        self._result.messages += 1
        self._clock.after(delay, lambda: self._visible.append(message))

    def _drop_echoes(self) -> Process:
        """Meet our own writes in the target's feed with the next polls."""
        while not self._is_over():
            yield self._terms.poll_interval if self._open or self._feeds else 0.0
            kinds, self._echoes = list(self._echoes), deque()
            for kind in self._load.records:
                number = sum(records for one, records in kinds if one is kind)
                for rows in feed(kind.target, number, self._terms) if number else ():
                    yield from self._ask(page(kind.target, rows, self._terms))
                    for some in chunks(rows, self._terms.batch_size):
                        yield from self._ask(echo(some, self._terms))

    # --- who does it --------------------------------------------------------------------------------------------------------

    def _scale(self) -> Process:
        """Start instances by the target-based rule (azure.md 2.2)."""
        terms = self._terms
        while self._open or self._feeds:
            target = min(terms.most_instances, math.ceil(self._open / terms.messages_an_instance()))
            for _ in range(min(max(0, target - self._wanted), terms.scale_step)):
                self._wanted += 1
                self._clock.after(terms.instance_start, self._begin_instance)
            yield terms.scale_every

    def _begin_instance(self) -> None:
        at_once = {CREATIO: self._terms.creatio_at_once, DATAVERSE: self._terms.dataverse_at_once}
        gates = {system: Gate(self._clock, most) for system, most in at_once.items()}
        instance = _Instance(Rate(self._clock, 1.0), gates, Signal(self._clock))
        self._instances.append(instance)
        self._clock.start(self._listen(instance))

    def _listen(self, instance: _Instance) -> Process:
        """Fetch messages as the host does (azure.md 2.3)."""
        terms, empty = self._terms, 0
        while self._open or self._feeds:
            fetched = [self._visible.popleft() for _ in range(min(terms.message_fetch, len(self._visible)))]
            if not fetched:
                yield self._idle_wait(empty)
                empty += 1
                continue
            empty = 0
            instance.running += len(fetched)
            self._result.peak_messages = max(self._result.peak_messages, instance.running)
            yield terms.ledger_latency
            for message in fetched:
                self._clock.start(self._invoke(instance, message))
            while instance.running > terms.message_threshold:
                yield instance.ended

    def _idle_wait(self, empty: int) -> float:
        """Return the wait after an empty fetch, by how many there were before it."""
        if not empty:
            return _FIRST_WAIT
        jitter = 0.8 + 0.4 * self._random.random()
        return min(_FIRST_WAIT * (1 + jitter * 2.0 ** min(empty - 1, 20)), self._terms.most_idle_wait)

    def _invoke(self, instance: _Instance, message: _Message) -> Process:
        message.dequeues += 1
        yield from self._sync(instance, message)
        instance.running -= 1
        instance.ended.wake()

    def _sync(self, instance: _Instance, message: _Message) -> Process:
        """Work on one batch: take slots, do its steps, give the slots back."""
        for step in opening(self._terms):
            yield from self._do(step, instance)
        if self._paused > self._clock.now:
            yield from self._postpone(instance, message, self._paused - self._clock.now)
            return
        for step in taking(self._terms):
            yield from self._do(step, instance)
        if self._working >= self._terms.most_batches(bulk=self._load.bulk):
            self._result.futile += 1
            yield from self._do(Think(self._terms.attempt_cpu), instance)
            yield from self._postpone(instance, message, self._terms.slot_retry)
            return
        self._working += 1
        self._result.peak_batches = max(self._result.peak_batches, self._working)
        begun = self._clock.now
        crashes = self._random.random() < self._terms.crash_share
        wait = yield from self._work(instance, message, crashes=crashes)
        self._working -= 1
        self._spent["slots"] += self._clock.now - begun
        if crashes:
            self._crash(message)
        elif wait:
            yield from self._postpone(instance, message, wait)
        else:
            self._finish(message)

    def _work(self, instance: _Instance, message: _Message, *, crashes: bool) -> Generator[float | Gate, None, float]:
        """Do the steps of a batch; return the seconds to wait when an account is throttled, else 0."""
        for step in self._cold(instance):
            if wait := (yield from self._do(step, instance)):
                return wait
        todo = [*steps(message.kind, message.records, self._terms), *closing()]
        if crashes:
            todo = todo[: self._random.randrange(len(todo))]
        for step in todo:
            if wait := (yield from self._do(step, instance)):
                self._result.throttled += 1
                self._paused = max(self._paused, self._clock.now + wait)
                return wait
        instance.cold = False
        return 0.0

    def _cold(self, instance: _Instance) -> list[Step]:
        if not instance.cold:
            return []
        instance.begun += 1
        return cold(self._terms, first=instance.begun == 1)

    def _postpone(self, instance: _Instance, message: _Message, seconds: float) -> Process:
        for step in postponing():
            yield from self._do(step, instance)
        delay = min(seconds * (1 + self._random.random() / 4), _MOST_DELAY)
        message.dequeues = 0  # a new message takes its place
        self._send(message, math.ceil(delay))

    def _crash(self, message: _Message) -> None:
        """Let the host hand the message out again, or give it up."""
        if message.dequeues < self._terms.most_dequeues:
            self._clock.after(self._terms.crash_delay, lambda: self._visible.append(message))
            return
        self._result.poisoned += message.records
        self._open -= 1

    def _finish(self, message: _Message) -> None:
        result = self._result
        result.done[message.kind] += message.records
        result.times_done[message.number] += 1
        result.curve.append((self._clock.now, sum(result.done.values())))
        self._open -= 1
        if self._load.echoes:
            self._echoes.append((message.kind, message.records))

    # --- what it takes ------------------------------------------------------------------------------------------------------

    def _do(self, step: Step, instance: _Instance | None) -> Generator[float | Gate, None, float]:
        """Do one step; return the seconds of a Retry-After that is too long to wait for here, else 0."""
        match step:
            case Think():
                self._spent["processor"] += step.seconds if instance else 0.0
                yield instance.cpu.take(step.seconds) if instance else step.seconds
            case Rows():
                yield self._rows(step)
            case Request():
                return (yield from self._request(step, instance))
        return 0.0

    def _rows(self, step: Rows) -> float:
        """Return the seconds until rows are read or written: the partition's turn, the account's, and the way there and back."""
        result = self._result
        if step.partition not in result.partitions:
            log: list[tuple[float, float]] | None = [] if self._log else None
            result.partitions[step.partition] = Rate(self._clock, self._terms.partition_rate, log=log)
        result.operations[step.partition] += step.operations
        result.ledger_requests += step.requests
        way = math.ceil(step.requests / self._terms.ledger_side_by_side) * self._terms.ledger_latency
        return max(result.partitions[step.partition].take(step.operations), self._account.take(step.operations), way)

    def _request(self, step: Request, instance: _Instance | None) -> Generator[float | Gate, None, float]:
        gates = [instance.gates[step.system]] if instance else []
        gates += [self._creatio] if step.system == CREATIO else []
        for gate in gates:
            if not gate.enter():
                yield gate
        try:
            while True:
                wait = yield from self._served(step)
                if not wait or wait > _MOST_RETRY_AFTER:
                    return wait if instance else 0.0
                yield wait
        finally:
            for gate in gates:
                gate.leave()

    def _served(self, step: Request) -> Generator[float | Gate, None, float]:
        """Have one request served; return its Retry-After when it was refused."""
        terms = self._terms
        self._result.requests[step.system] += step.number
        seconds = step.seconds * (1 + terms.spread * (2 * self._random.random() - 1))
        if step.system == CREATIO:
            if terms.creatio_daily and self._result.requests[CREATIO] > terms.creatio_daily * (1 + self._clock.now // _DAY):
                return _DAY - self._clock.now % _DAY
            self._spent["creatio"] += seconds
            yield step.rounds * terms.creatio_latency + seconds
            return 0.0
        window = self._windows[self._turn % len(self._windows)]
        self._turn += 1
        if wait := window.enter(seconds):
            return wait
        self._spent["dataverse"] += seconds
        yield step.rounds * terms.dataverse_latency + seconds
        window.leave()
        return 0.0


def simulate(terms: Assumptions, load: Load, seed: int = 1, *, log: bool = False, stop_after: int | None = None) -> Result:
    """Simulate one load, or the beginning of it."""
    return Simulation(terms, load, seed, log=log, stop_after=stop_after).run()
