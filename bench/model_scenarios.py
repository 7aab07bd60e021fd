"""Scenarios too large to be simulated from end to end: a part is simulated under full load, the whole follows at its pace."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from bench.model_bound import bound, bounds
from bench.model_run import Result, simulate
from bench.model_terms import CREATIO, DATAVERSE, SYSTEMS, Assumptions, Kind, Load
from bench.model_work import demand

_PART: Final = 24_000
_WINDOWS: Final = 5
"""Windows of the service protection limits that a throttled simulation covers at least; the first of them is free."""
_HOUR: Final = 3_600.0
_REFRESH: Final = {CREATIO: 21, DATAVERSE: 18}
"""Requests an hour and process that keep metadata (an hour) and users (five minutes) fresh."""


@dataclass(frozen=True)
class Scenario:
    """A load and what it is called."""

    name: str
    load: Load

    @property
    def total(self) -> int:
        """Return the number of records."""
        return self.load.total


MILLION: Final = Scenario("first load of 1,000,000 records", Load({Kind.LOAD: 1_000_000}))
HUNDRED: Final = Scenario("first load of 100,000,000 records", Load({Kind.LOAD: 100_000_000}))
DAY: Final = Scenario("a day of 10,000,000 changes, half each way", Load({Kind.TO_DYNAMICS: 5_000_000, Kind.TO_CREATIO: 5_000_000}))


@dataclass(frozen=True)
class Prediction:
    """What a scenario comes to."""

    hours: float
    pace: float
    """Records a second."""
    requests: Mapping[str, float]
    entitled: float
    """What counts for the 24 hours of Dataverse: each operation of a batch (dataverse.md 7)."""
    operations: float
    ledger_requests: float
    messages: float
    futile: float
    instances: int
    busiest: str
    share: float
    bottleneck: str
    least_hours: float
    partitions: Mapping[str, float]
    """Entities a second of each partition."""


def predict(terms: Assumptions, scenario: Scenario, part: int = _PART) -> Prediction:
    """Simulate a part of a scenario with every instance there, and scale it up."""
    there = replace(terms, scale_step=terms.most_instances)
    result = _simulated(there, scenario, part)
    least = _WINDOWS * terms.dataverse_window
    if result.throttled and result.seconds < least:
        result = _simulated(there, scenario, round(part * least / result.seconds))
    done, pace = result.curve[-1][1], result.rate()
    hours = scenario.total / pace / _HOUR
    times = scenario.total / done
    requests = {name: result.requests[name] * times + hours * result.peak_instances * _REFRESH[name] for name in SYSTEMS}
    busiest = max(result.busy, key=result.busy.__getitem__)
    bottleneck, least_hours = _least(terms, scenario)
    return Prediction(
        hours,
        pace,
        requests,
        _entitled(terms, scenario),
        sum(result.operations.values()) * times,
        result.ledger_requests * times,
        result.messages * times,
        result.futile * times,
        result.peak_instances,
        busiest,
        result.busy[busiest],
        bottleneck,
        least_hours,
        {name: number / result.seconds for name, number in result.operations.items()},
    )


def _simulated(terms: Assumptions, scenario: Scenario, part: int) -> Result:
    kinds = scenario.load.records
    if len(kinds) == 1:
        return simulate(terms, scenario.load, stop_after=part)
    # A day: what the polls of one moment find, to the end, so that the quicker kind does not stand for both.
    found = max(part, round(scenario.total * terms.poll_interval / 86_400))
    records = {kind: round(found * number / scenario.total) for kind, number in kinds.items()}
    return simulate(terms, replace(scenario.load, records=records))


def _least(terms: Assumptions, scenario: Scenario) -> tuple[str, float]:
    """Return the bottleneck and the hours of its bound, which is that of a part, times as often as there are such parts."""
    part = 1_000_000
    records = {kind: round(part * number / scenario.total) for kind, number in scenario.load.records.items()}
    name, seconds = bound(terms, replace(scenario.load, records=records))
    return name, seconds * scenario.total / part / _HOUR


def _entitled(terms: Assumptions, scenario: Scenario) -> float:
    """Count what Dataverse counts: its requests, and of a batch each operation instead."""
    part = 10_000
    counted = 0.0
    for kind, number in scenario.load.records.items():
        asked = demand(Load({kind: part}), terms).requests[DATAVERSE]
        counted += (asked + (part * (1 + terms.late_share) if kind.target == DATAVERSE else 0)) * number / part
    return counted


def ceilings(terms: Assumptions, kind: Kind) -> Mapping[str, float]:
    """Return the records a second at which each resource is used up, when nothing but records is asked for."""
    part = 200_000
    least = bounds(terms, Load({kind: part}))
    return {name: part / seconds for name, seconds in least.items() if seconds}


VARIATIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "as configured: 4 slots, one app user, up to 100 instances": {},
    "at most 1 instance": {"most_instances": 1},
    "at most 4 instances": {"most_instances": 4},
    "1 slot": {"creatio_slots": 1, "dataverse_slots": 1},
    "2 slots, which is also what a bulk run may take of 4": {"creatio_slots": 2, "dataverse_slots": 2},
    "8 slots": {"creatio_slots": 8, "dataverse_slots": 8},
    "16 slots": {"creatio_slots": 16, "dataverse_slots": 16},
    "two app users, 4 slots each, 8 of Creatio": {"creatio_slots": 8, "accounts": 2},
    "two app users, 8 slots each, 16 of Creatio": {"creatio_slots": 16, "dataverse_slots": 8, "accounts": 2},
    "16 slots, limits of four web servers": {"creatio_slots": 16, "dataverse_slots": 16, "dataverse_servers": 4},
    "16 slots, at most 4 instances": {"creatio_slots": 16, "dataverse_slots": 16, "most_instances": 4},
    "creates at 10 ms, as CreateMultiple's sample": {"dataverse_create": 0.01},
    "creates at 10 ms, 16 slots": {"dataverse_create": 0.01, "creatio_slots": 16, "dataverse_slots": 16},
    "the ledger four times as slow": {"ledger_latency": 0.02},
}


def slowed(terms: Assumptions, times: float) -> Assumptions:
    """Return terms under which both systems take so many times as long for everything."""
    names = ("creatio_latency", "dataverse_latency", "creatio_row", "dataverse_row", "creatio_save", "dataverse_create", "dataverse_update")
    return replace(terms, **{name: getattr(terms, name) * times for name in names})


def variations(terms: Assumptions) -> Mapping[str, Assumptions]:
    """Return what is tried beside what is configured."""
    tried = {name: replace(terms, **changes) for name, changes in VARIATIONS.items()}
    return {**tried, "both systems twice as slow": slowed(terms, 2.0), "both systems twice as fast": slowed(terms, 0.5)}


@dataclass(frozen=True)
class Wall:
    """What grows with the number of records and is done in one piece."""

    what: str
    amount: str
    at_million: str
    at_hundred: str
    most: float
    """Records beyond which it does not fit any more."""


def walls(terms: Assumptions) -> list[Wall]:
    """Return what breaks by size, whatever the speed."""
    fits = terms.function_timeout * terms.partition_rate
    memory = terms.instance_memory * 1_000_000

    def minutes(records: float, rows: float) -> str:
        return f"{records * rows / terms.partition_rate / 60:,.0f} min"

    def megabytes(records: float) -> str:
        return f"{records / terms.batch_size * terms.batch_row / 1e6:,.0f} MB"

    counted, compared = "each row of the bindings once, two a record, in one call", "each row of the bindings twice, in one call"
    return [
        Wall("counting the bindings, at a poll with more than one page of changes", counted, minutes(1e6, 2), minutes(1e8, 2), fits / 2),
        Wall("comparing a side with the ledger, every six hours", compared, minutes(1e6, 4), minutes(1e8, 4), fits / 4),
        Wall(
            "reading the open batches, every five minutes",
            f"{terms.batch_row:,} bytes a hundred records, all held in memory",
            megabytes(1e6),
            megabytes(1e8),
            memory / terms.batch_row * terms.batch_size,
        ),
    ]
