"""Measures everything that design section 10 names, prints the tables and writes them to bench/RESULTS.md.

    python -m sandbox bench                  everything; some minutes
    python -m sandbox bench --quick          few records; nothing is written
    python -m sandbox bench --only core      one part; nothing is written (core, costs, documents, loads, race, scale, start-up, profile)
    python -m sandbox bench --large          the bulk loads of many records alone, most of an hour; written to bench/LOADS.md

BENCH_RECORDS and BENCH_RUNS, or --records and --runs, say how many records each tool loads and how often; BENCH_MANY is the larger
number for memory. BENCH_LOADS names the bulk loads between the stand-ins, as `records:ledger:side` with commas.
"""

import argparse
import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import budgets, bulk_load, core_speed, documents, model, model_check, report, sandbox_cost, start_up
from bench.budgets import Budget
from bench.competitors import ALL, PEERS, SERIAL_ONE, TANDEM_WEIGHED, Competitor
from bench.profiles import load_profile, plain
from bench.race import Entry, Server, prepare, race, say, static_server

RESULTS: Final = Path(__file__).resolve().parent / "RESULTS.md"
LOADS: Final = RESULTS.parent / "LOADS.md"
LEAST_RUNS: Final = 3
LATENCY: Final = 0.2
_WARM_UP: Final = 200
_LOADS: Final = "5000:azurite:creatio,5000:azurite:dynamics,20000:file:creatio"
_LARGE: Final = "200000:azurite:creatio,1000000:file:creatio"
_SERIAL_RECORDS: Final = 50
"""One record a request and 200 ms for each: few records tell as much as many."""


@dataclass(frozen=True)
class Options:
    """What to measure: records for the comparison, with latency, and for memory; runs of each; one part or ("") all of them."""

    records: int
    late: int
    many: int
    runs: int
    loads: tuple[str, ...] = ()
    quick: bool = False
    only: str = ""
    large: bool = False


def options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Read flags and settings; flags win."""
    parser = argparse.ArgumentParser(prog="python -m sandbox bench", description="Measure speed and cost.")
    parser.add_argument("--quick", action="store_true", help="few records, nothing is written")
    parser.add_argument("--only", choices=sorted(PARTS), default="", help="one part only, nothing is written")
    parser.add_argument("--records", type=int, help="records that each tool loads (BENCH_RECORDS)")
    parser.add_argument("--runs", type=int, help=f"runs of each tool, at least {LEAST_RUNS} (BENCH_RUNS)")
    parser.add_argument("--large", action="store_true", help="the bulk loads of many records alone, written to bench/LOADS.md")
    given = parser.parse_args(arguments)
    records = given.records or int(environ.get("BENCH_RECORDS") or (1_000 if given.quick else 10_000))
    runs = max(given.runs or int(environ.get("BENCH_RUNS") or LEAST_RUNS), LEAST_RUNS)
    many = int(environ.get("BENCH_MANY") or 5 * records)
    loads = environ.get("BENCH_LOADS") or ("500:file:creatio" if given.quick else _LARGE if given.large else _LOADS)
    late = min(records, 500 if given.quick else 2_000)
    return Options(records, late, many, runs, tuple(loads.split(",")), given.quick, given.only, given.large)


@dataclass(frozen=True)
class Part:
    """What one part found: its lines among the budgets, and its sections."""

    budgets: list[Budget]
    lines: list[str]


def main(arguments: Sequence[str]) -> int:
    """Measure what the arguments say and show it."""
    wanted = options(arguments, os.environ)
    if wanted.large:
        return _large(wanted)
    heading = report.heading(wanted.runs)
    parts = [PARTS[name](wanted) for name in ([wanted.only] if wanted.only else PARTS)]
    found = [budget for part in parts for budget in part.budgets]
    text = "\n".join([*heading, *(report.budgets_table(found) if found else []), *(line for part in parts for line in part.lines)])
    print(text.rstrip())
    if not wanted.quick and not wanted.only:
        RESULTS.write_text(text.rstrip() + "\n", encoding="utf-8")
    return 0


def _large(wanted: Options) -> int:
    """Measure each load of many records once, and write the page anew after each: the next one takes long."""
    heading, loads = report.heading(1, "python -m sandbox bench --large"), []
    for asked in wanted.loads:
        say(f"A bulk load: {asked} ...")
        loads.append(bulk_load.in_own_process(*asked.split(":")))
        text = "\n".join([*heading, *bulk_load.section(loads)]).rstrip() + "\n"
        LOADS.write_text(text, encoding="utf-8")
        print(text, flush=True)
    return 0


def _core(_wanted: Options) -> Part:
    say("The core alone ...")
    speeds = core_speed.measure()
    return Part(budgets.of_core(speeds), report.core_table(speeds))


def _costs(wanted: Options) -> Part:
    say("What changed records cost ...")
    costs = asyncio.run(sandbox_cost.measure(min(wanted.records, sandbox_cost.RECORDS)))
    return Part(budgets.of_costs(costs), report.cost_table(costs))


def _documents(wanted: Options) -> Part:
    say("What documents cost ...")
    return Part([], documents.section(asyncio.run(documents.measure(min(wanted.records, documents.ORDERS)))))


def _loads(wanted: Options) -> Part:
    say("Bulk loads between the stand-ins ...")
    loads = [bulk_load.in_own_process(*asked.split(":")) for asked in wanted.loads]
    return Part([], [*bulk_load.section(loads), "Loads of 200,000 and 1,000,000 records: bench/LOADS.md.", ""])


def _race(wanted: Options) -> Part:
    say("The comparison ...")
    with static_server() as server:
        missing = prepare(server, PEERS)
        competitors = [one for one in ALL if one.name not in missing]
        absent = [Entry(one, wanted.records, problem=missing[one.name]) for one in ALL if one.name in missing]
        race(server, competitors, _WARM_UP, 1)  # metadata is asked of the stand-ins once; modules are compiled
        entries = [*race(server, competitors, wanted.records, wanted.runs), *absent]
        late = [*_late(server, competitors, wanted), *absent]
        weighed = race(server, [TANDEM_WEIGHED], wanted.records, 1)
        many = race(server, [TANDEM_WEIGHED, *(one for one in competitors if not one.serial)], wanted.many, 1)
    found = [*budgets.of_race(entries), *budgets.of_latency(late), *budgets.of_memory(weighed, many)]
    server_words = (
        "One static server in its own process on this machine, no latency. Creatio accounts in, Dataverse accounts out, 23 columns each."
    )
    late_words = f"As above, but every answer comes {LATENCY * 1000:.0f} ms late."
    return Part(
        found,
        [
            *report.race_table(entries, "Read-map-write beside other tools", server_words),
            *report.notes(entries),
            *report.race_table(late, "The same with 200 ms a request", late_words),
            *report.memory_table([*weighed, *entries], many),
        ],
    )


def _late(server: Server, competitors: Sequence[Competitor], wanted: Options) -> list[Entry]:
    """Measure with latency; the client that sends one record a request loads few."""
    quick = race(server, [one for one in competitors if not one.serial], wanted.late, wanted.runs, LATENCY)
    return [*quick, *race(server, [SERIAL_ONE], _SERIAL_RECORDS, wanted.runs, LATENCY)]


def _scale(wanted: Options) -> Part:
    say("The model of scale, held against the app ...")
    checked = [] if wanted.quick else model_check.check_section(wanted.runs)
    return Part([], [*model.model_section(), *checked])


def _start_up(_wanted: Options) -> Part:
    say("Start-up ...")
    return Part([], report.start_up_section([start_up.measure(stage) for stage in start_up.STAGES]))


def _profile(wanted: Options) -> Part:
    say("Profiles ...")
    lines = report.profile_section("Where the core's time goes", plain(core_speed.profile()))
    for way in ("bare", "bulk"):
        lines += report.profile_section(f"Where a load's time goes: {way}", load_profile(way, min(wanted.records, 2_000)))
    return Part([], lines)


PARTS: Final[dict[str, Callable[[Options], Part]]] = {
    "costs": _costs,
    "core": _core,
    "documents": _documents,
    "loads": _loads,
    "race": _race,
    "scale": _scale,
    "start-up": _start_up,
    "profile": _profile,
}
