"""What one batch asks of systems, ledger and processor, in the order of the sync step. Counts follow from batch sizes alone."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bench.model_terms import CREATIO, DATAVERSE, SYSTEMS, Assumptions, Kind, Load

BINDINGS, RESERVATIONS, BATCHES, STATE, SLOTS = "bindings", "reservations", "batches", "state", "slots"
"""The ledger's partitions: bindings and batches one a flow, the others one for all."""


@dataclass(frozen=True)
class Request:
    """Requests to a system, so many in so many rounds of some side by side; `seconds` are the server's own for a round.

    Without a number a batch waits for what another one asked; without rounds nobody waits for what is asked beside other things.
    """

    system: str
    seconds: float
    number: int = 1
    rounds: int = 1


@dataclass(frozen=True)
class Rows:
    """Rows of one partition read or written, by so many requests side by side."""

    partition: str
    operations: int
    requests: int = 1


@dataclass(frozen=True)
class Think:
    """Processor time on the instance."""

    seconds: float


Step = Request | Rows | Think


def chunks(number: int, size: int) -> list[int]:
    """Cut a number into pieces of at most a size."""
    return [min(size, number - start) for start in range(0, number, size)]


def opening(terms: Assumptions) -> list[Step]:
    """Return what a message does before it asks for slots."""
    return [Rows(BATCHES, 1), Rows(STATE, terms.state_rows)]


def taking(terms: Assumptions) -> list[Step]:
    """Return what asking for a slot of both accounts costs: a query of the leases and a lease of one."""
    rows = terms.most_batches(bulk=False)
    return [Rows(SLOTS, rows + 1, 2), Rows(SLOTS, rows + 1, 2)]


def closing() -> list[Step]:
    """Return what ends a batch: its row moves; the two slots are removed."""
    return [Rows(BATCHES, 2), Rows(SLOTS, 2, 2)]


def postponing() -> list[Step]:
    """Return what sending a batch again later costs, besides the message."""
    return [Rows(BATCHES, 1)]


def cold(terms: Assumptions, *, first: bool) -> list[Step]:
    """Return what a process asks before its first batches: the first of them asks, the others wait with it.

    Dataverse answers beside Creatio, whose rounds are more; only the users' definition is asked for later, before the first write.
    """
    creatio, dataverse = (terms.cold_creatio, terms.cold_dataverse) if first else (0, 0)
    return [Request(CREATIO, 0.0, creatio, terms.cold_rounds), Request(DATAVERSE, 0.0, dataverse)]


def cold_poll(terms: Assumptions) -> tuple[list[Step], list[Step]]:
    """Return what a first poll asks before the first page, and what it asks meanwhile: the feed of the side that has nothing to tell."""
    return [Request(DATAVERSE, 0.0)], [Request(DATAVERSE, 0.0)] * terms.cold_poll


def steps(kind: Kind, number: int, terms: Assumptions) -> list[Step]:
    """Return what a batch of one kind does while it holds its slots."""
    cpu = (terms.load_cpu if kind is Kind.LOAD else terms.edit_cpu) * number / 2
    looked_up: list[Step] = [Rows(BINDINGS, number, number), *_reads(kind.source, number, terms)]
    if kind is Kind.TO_CREATIO:  # a process that has not met a Dynamics id lately meets its pointer first
        looked_up.insert(1, Rows(BINDINGS, number, number))
    if kind is Kind.LOAD:
        return [*looked_up, Think(cpu), *_create(number, terms), Think(cpu)]
    return [*looked_up, *_reads(kind.target, number, terms), Think(cpu), *_update(kind, number, terms), Think(cpu)]


def _reads(system: str, number: int, terms: Assumptions) -> Iterator[Step]:
    size = terms.creatio_read if system == CREATIO else terms.dataverse_read
    return (Request(system, some * terms.row(system)) for some in chunks(number, size))


def _create(number: int, terms: Assumptions) -> list[Step]:
    """Reserve, look (a query for each key's columns), keep the intents, create, keep, give the reservations back."""
    keys = Rows(RESERVATIONS, number * terms.match_keys, math.ceil(number * terms.match_keys / terms.transaction))
    found = [
        Request(DATAVERSE, some * terms.row(DATAVERSE)) for _ in range(terms.match_keys) for some in chunks(number, terms.dataverse_find)
    ]
    both_rows = Rows(BINDINGS, 2 * number, math.ceil(2 * number / terms.transaction))
    operations = number + math.ceil(number * terms.late_share)
    share = number * terms.dataverse_create / operations
    written = [Request(DATAVERSE, some * share) for some in chunks(operations, terms.dataverse_write)]
    return [keys, *found, both_rows, *written, both_rows, keys]


def _update(kind: Kind, number: int, terms: Assumptions) -> list[Step]:
    """Keep the intents, write, keep; a batch to Creatio also reads before and after, and what it left out is in another one."""
    size = terms.creatio_write if kind is Kind.TO_CREATIO else terms.dataverse_write
    written = [Request(kind.target, some * terms.write_time(kind)) for some in chunks(number, size)]
    intents = Rows(BINDINGS, number, math.ceil(number / terms.transaction))
    return [intents, *written, Rows(BINDINGS, 2 * number, math.ceil(2 * number / terms.transaction))]


def page(system: str, number: int, terms: Assumptions) -> list[Step]:
    """Return what one page of a feed costs: the request, the batch rows, the watermark."""
    rows = len(chunks(number, terms.batch_size))
    return [Request(system, number * terms.row(system)), Rows(BATCHES, rows), Rows(STATE, 1)]


def echo(number: int, terms: Assumptions) -> list[Step]:
    """Return what a batch of echoes costs where a poll brings many: the gate compares the stamps and closes the row."""
    return [Rows(BINDINGS, number, number), Think(number * terms.echo_cpu), Rows(BATCHES, 2)]


@dataclass(frozen=True)
class Demand:
    """What a load asks for when every batch succeeds at once: by system, by partition, and the processor."""

    requests: Counter[str]
    seconds: dict[str, float]
    operations: Counter[str]
    ledger_requests: int
    processor: float
    messages: int


def feed(system: str, number: int, terms: Assumptions) -> list[int]:
    """Return how many new records each page of a feed brings.

    A page of Creatio begins with the last row of the one before, which is known by then (shared/systems/creatio_feed.py).
    """
    size = terms.page(system)
    first = min(number, size)
    return [first, *chunks(number - first, max(1, size - 1) if system == CREATIO else size)]


def pages(load: Load, terms: Assumptions) -> Iterator[tuple[Kind, int]]:
    """Yield the pages of the feeds that bring a load."""
    for kind, number in load.records.items():
        for rows in feed(kind.source, number, terms):
            yield kind, rows


def demand(load: Load, terms: Assumptions) -> Demand:
    """Add up what a load asks for; new processes, futile attempts and repeats come on top."""
    asked: list[Step] = []
    messages = 0
    for kind, rows in pages(load, terms):
        asked += page(kind.source, rows, terms)
        for number in chunks(rows, terms.batch_size):
            messages += 1
            asked += [*opening(terms), *taking(terms), *steps(kind, number, terms), *closing()]
    if load.echoes:
        for kind, number in load.records.items():
            for rows in feed(kind.target, number, terms):
                asked += page(kind.target, rows, terms)
                asked += [step for some in chunks(rows, terms.batch_size) for step in echo(some, terms)]
    return _sum(asked, messages)


def _sum(asked: list[Step], messages: int) -> Demand:
    requests: Counter[str] = Counter()
    seconds = dict.fromkeys(SYSTEMS, 0.0)
    operations: Counter[str] = Counter()
    ledger, processor = 0, 0.0
    for step in asked:
        match step:
            case Request():
                requests[step.system] += step.number
                seconds[step.system] += step.seconds
            case Rows():
                operations[step.partition] += step.operations
                ledger += step.requests
            case Think():
                processor += step.seconds
    return Demand(requests, seconds, operations, ledger, processor, messages)
