"""The budgets of design section 10, each as one line: what was measured, what is allowed, and why where it is missed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.competitors import PEERS, SERIAL, SERIAL_100, SERIAL_ONE, TANDEM, TANDEM_BARE, TANDEM_BULK, TANDEM_WEIGHED
from bench.core_speed import Speed
from bench.race import Entry
from bench.sandbox_cost import Cost

CORE: Final = 8_000
LATENCY: Final = 4.0
MEMORY: Final = 300.0
_FLAT: Final = 1.10
"""Memory counts as flat when five times the records need a tenth more at most."""
_LOOKS_FOR_DOUBLES = "each record that is new on its side is looked for by each of its match keys first (law 7)"
_LEDGER_WHY = (
    "a binding is saved before and after each write (laws 4 and 6), also when a new record's id is written back; rows of Creatio's overlap "
    "beyond the 2,000 that are remembered come once more (law 11)"
)
_CORE_WHY = "see the profile: normalising, fingerprints and reading JSON in Python take nearly all of it"
_RACE_WHY = {
    TANDEM_BULK.name: (
        "it looks for doubles and keeps a binding with fingerprints for each record, which no other tool does (see the profile)"
    ),
    TANDEM_BARE.name: "ids first and rows after them, `$batch` of 100 with each written row sent back, a core in Python (see the profile)",
}


@dataclass(frozen=True)
class Budget:
    """One line. `kept` None: not measured in this run."""

    what: str
    measured: str
    allowed: str
    kept: bool | None
    why: str = ""

    def line(self) -> str:
        """Return it as a row of a Markdown table."""
        verdict = "not measured" if self.kept is None else "kept" if self.kept else f"MISSED: {self.why}" if self.why else "MISSED"
        return f"| {self.what} | {self.measured} | {self.allowed} | {verdict} |"


def of_costs(costs: Sequence[Cost]) -> list[Budget]:
    """Return what is counted in requests and ledger operations; the costs are those of `sandbox_cost.measure`, in its order."""
    _, to_dynamics, echoes_there, to_creatio, echoes_here, quiet, new_there, new_echoes_there, new_here, new_echoes_here = costs
    lines = [
        _most("quiet cycle: requests to Dynamics, to Creatio", max(quiet.dataverse, quiet.creatio), 1),
        _most("quiet cycle: ledger requests", quiet.ledger_requests, 1),
    ]
    lines += _round_trip("updates to Dynamics", to_dynamics, echoes_there, 40, (5.0, 2.5))
    lines += _round_trip("updates to Creatio", to_creatio, echoes_here, 50, (5.0, 2.5))
    lines += _round_trip("creates in Dynamics", new_there, new_echoes_there, 50, (10.0, 5.0), _LOOKS_FOR_DOUBLES)
    lines += _round_trip("creates in Creatio", new_here, new_echoes_here, 50, (10.0, 5.0), _LOOKS_FOR_DOUBLES)
    return lines


def of_core(speeds: Sequence[Speed]) -> list[Budget]:
    """Return the core's speed on a record with changed fields, the second of `core_speed.measure`."""
    _, changed, *_ = speeds
    return [_least("core only (decode, merge, plan, encode): records a second and core", changed.median, CORE, why=_CORE_WHY)]


def of_race(entries: Sequence[Entry]) -> list[Budget]:
    """Return whether Tandem is ahead of every other tool in read-map-write: its bulk load with ledger, and the same work without one."""
    by_name = {entry.competitor.name: entry for entry in entries}
    lines = []
    for way, short in ((TANDEM_BULK, "bulk load, ledger in memory"), (TANDEM_BARE, "read-map-write without ledger")):
        own = by_name[way.name]
        for peer in PEERS:
            there = by_name[peer.name]
            what = f"{short}: times the speed of {peer.title}"
            if not own.laps or not there.laps:
                lines.append(Budget(what, "none", "at least 1", None))
                continue
            lines.append(_least(what, own.rate / there.rate, 1.0, why=_RACE_WHY[way.name]))
    return lines


def of_latency(entries: Sequence[Entry]) -> list[Budget]:
    """Return how many times faster than serial clients Tandem is when each request takes 200 ms."""
    by_name = {entry.competitor.name: entry for entry in entries}
    lines = []
    for way in (TANDEM_BARE, TANDEM_BULK, TANDEM):
        for serial in (SERIAL_ONE, SERIAL_100, SERIAL):
            own, there = by_name[way.name], by_name[serial.name]
            what = f"200 ms a request, {way.title}: times the speed of the {serial.title}"
            if not own.laps or not there.laps:
                lines.append(Budget(what, "none", f"{LATENCY:g}", None))
                continue
            why = f"{own.middle('requests'):,.0f} requests against {there.middle('requests'):,.0f}"
            lines.append(_least(what, own.rate / there.rate, LATENCY, why=why))
    return lines


def of_memory(few: Sequence[Entry], many: Sequence[Entry]) -> list[Budget]:
    """Return whether the memory of a bulk load, weighed without its ledger, stays flat from few records to many."""
    small, large = (next(entry for entry in entries if entry.competitor.name == TANDEM_WEIGHED.name) for entries in (few, many))
    what = f"memory of a bulk load, ledger outside the process: {small.records:,} records, then {large.records:,}"
    if not small.laps or not large.laps:
        return [Budget(what, "none", f"flat, below {MEMORY:g} MB", None)]
    before, after = small.middle("megabytes"), large.middle("megabytes")
    kept = after <= MEMORY and after <= before * _FLAT
    return [Budget(what, f"{before:.0f} MB, {after:.0f} MB", f"flat, below {MEMORY:g} MB", kept, "it grows with the records")]


def _round_trip(what: str, edits: Cost, echoes: Cost, most: int, ledger: tuple[float, float], why: str = "") -> list[Budget]:
    there = edits.creatio + edits.dataverse
    back = echoes.creatio + echoes.dataverse
    lines = [
        _most(f"{what}: requests to both systems, echoes included", there + back, most, why),
        _most(f"{what}: requests for the echoes alone", back, 3),
    ]
    for name, cost, (operations, requests) in (("record", edits, ledger), ("echo", echoes, (2.0, 2.2))):
        lines.append(_most(f"{what}: ledger operations for each {name}", cost.ledger_operations / cost.records, operations, _LEDGER_WHY))
        sent = (cost.ledger_requests + cost.queue_requests) / cost.records
        lines.append(_most(f"{what}: table and queue requests for each {name}", sent, requests, _LEDGER_WHY))
    return lines


def _most(what: str, measured: float, allowed: float, why: str = "") -> Budget:
    shown = f"{measured:,}" if isinstance(measured, int) else f"{measured:.2f}"
    return Budget(what, shown, f"at most {allowed:g}", measured <= allowed, why)


def _least(what: str, measured: float, allowed: float, why: str = "") -> Budget:
    shown = f"{measured:,.0f}" if measured > 100 else f"{measured:.2f}"
    return Budget(what, shown, f"at least {allowed:,g}", measured >= allowed, why)
