"""Holds the model of scale against the real app, on the local host with stand-ins and Azurite; ends with 1 beyond 20 %.

Nothing is fitted to these runs: requests follow from batch sizes, times from them and from the processor time of a record, which
`--processor` measures. A request to a stand-in takes a fixed time more, so that waiting outweighs what else this machine has to do.

python -m bench.model_check              everything, in about a quarter of an hour
python -m bench.model_check --once       each run once
python -m bench.model_check --processor  processor time and ledger operations a record, in this process
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from bench.model_run import Result, simulate
from bench.model_terms import CREATIO, DATAVERSE, SYSTEMS, Assumptions, Kind, Load
from bench.model_work import Rows, chunks, closing, feed, opening, page, steps, taking
from bench.sandbox_cost import NEVER, Driver, _edit_creatio, _edit_dynamics, driven
from sandbox.control_client import Control
from sandbox.processes import Sandbox
from sandbox.seed import _company, _creatio_row, _world
from shared.ledger.storage import open_storage
from shared.ledger.store import TableLedger
from shared.settings import Settings

FLOW: Final = "sales.account"
TOLERANCE: Final = 0.2
REPEATS: Final = 3
SEEDS: Final = range(15)
_DELAY: Final = 1.5
_PATIENCE: Final = 400.0


@dataclass(frozen=True)
class Setting:
    """One run: records that only Creatio has, slots of both systems, seconds that each request takes more."""

    records: int
    slots: int
    delay: float = _DELAY

    @property
    def name(self) -> str:
        """Return it in words."""
        return f"{self.records:,} records, slots {self.slots}, {self.delay:g} s a request"


PREDICTED: Final = (Setting(500, 1), Setting(500, 2), Setting(500, 4), Setting(2_000, 4))


@dataclass(frozen=True)
class Measured:
    """What one run took."""

    seconds: float
    creatio: int
    dataverse: int


async def measure(setting: Setting) -> Measured:
    """Run a first load through the real triggers; the time is that from the poll to the last closed batch."""

    async def fill(sandbox: Sandbox) -> None:
        await _only_in_creatio(sandbox, setting.records)
        for name in SYSTEMS:
            await sandbox.control(name).chaos({"seed": 1, "rules": [{"kind": "delay", "seconds": setting.delay}]})
            await sandbox.control(name).reset_requests()

    slots = {"CREATIO_SLOTS": str(setting.slots), "DATAVERSE_SLOTS": str(setting.slots)}
    settings = {"WATCH_SCHEDULE": NEVER, "DEFAULT_INTERVAL_MS": "1000", "FLOWS": FLOW, **slots}
    with tempfile.TemporaryDirectory(prefix="tandem-model-", ignore_cleanup_errors=True) as folder:
        async with Sandbox.start(Path(folder), poll_schedule=NEVER, settings=settings, before_host=fill) as sandbox:
            seconds = await _timed(sandbox, setting.records)
            counts = {name: int((await sandbox.control(name).requests())["total"]) for name in SYSTEMS}
            return Measured(seconds, counts[CREATIO], counts[DATAVERSE])


async def _only_in_creatio(sandbox: Sandbox, records: int) -> None:
    creatio, dataverse = sandbox.control(CREATIO), sandbox.control(DATAVERSE)
    world, rng = await _world(creatio, dataverse), random.Random(7)  # noqa: S311 - the same data in every run
    companies = [replace(_company(world, rng, number), code=f"C-{100_000 + number}") for number in range(records)]
    await creatio.seed("Account", [_creatio_row(world, company, {}) for company in companies])


async def _timed(sandbox: Sandbox, records: int) -> float:
    """Poll once, by hand, and wait until every record is there and no batch is open."""
    storage = open_storage(sandbox.settings)
    ledger, dataverse = TableLedger(storage, Settings.from_environ(sandbox.settings).ledger_prefix), sandbox.control(DATAVERSE)
    try:
        async with httpx.AsyncClient(trust_env=False) as host:
            begun = time.monotonic()
            url, key = f"{sandbox.host}/admin/functions/poll_flows", {"x-functions-key": sandbox.master_key}
            (await host.post(url, headers=key, json={"input": ""})).raise_for_status()
        while not await _is_done(dataverse, ledger, records):
            if time.monotonic() - begun > _PATIENCE:
                raise TimeoutError(f"not all of {records:,} records were there after {_PATIENCE:g} s")
            await asyncio.sleep(0.2)
        return time.monotonic() - begun
    finally:
        await storage.close()


async def _is_done(dataverse: Control, ledger: TableLedger, records: int) -> bool:
    if int((await dataverse.requests())["writes"]) < records:
        return False
    return not await ledger.open_batches(FLOW)


def local_terms(setting: Setting) -> Assumptions:
    """Return the model's terms for this machine: one instance that is there already, systems that only take the given time."""
    return replace(
        Assumptions(),
        most_instances=1,
        instance_start=0.0,
        scale_every=1.0,
        creatio_slots=setting.slots,
        dataverse_slots=setting.slots,
        creatio_latency=setting.delay,
        dataverse_latency=setting.delay,
        creatio_row=0.0,
        dataverse_row=0.0,
        creatio_save=0.0,
        dataverse_create=0.0,
        dataverse_update=0.0,
        ledger_latency=0.001,
        partition_rate=1e6,
        account_rate=1e6,
    )


def predict(setting: Setting) -> tuple[float, Result]:
    """Return the median time over some seeds, and one of the results for its counts."""
    load = Load({Kind.LOAD: setting.records}, echoes=False)
    results = [simulate(local_terms(setting), load, seed) for seed in SEEDS]
    return statistics.median(result.seconds for result in results), results[0]


def check(repeats: int = REPEATS) -> tuple[list[str], bool]:
    """Measure everything; return a table and whether every prediction was within the tolerance."""
    runs: dict[Setting, list[Measured]] = {setting: [] for setting in PREDICTED}
    for _ in range(repeats):
        for setting, measured in runs.items():  # in turn, so that a busy spell of the machine meets all of them
            measured.append(asyncio.run(measure(setting)))
            print(f"measured {setting.name}: {measured[-1]}", file=sys.stderr, flush=True)
    lines = [
        f"First loads by the schedule, by an app just started. Medians of {repeats} runs (all runs); nothing was fitted to them.",
        "",
        "| run | seconds measured | predicted | ratio | requests to Creatio | predicted | to Dynamics | predicted | |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    rows = [_row(setting, measured) for setting, measured in runs.items()]
    return [*lines, *(line for line, _ in rows)], all(kept for _, kept in rows)


def check_section(repeats: int = REPEATS) -> list[str]:
    """Measure everything and return the lines for bench/RESULTS.md."""
    lines, sound = check(repeats)
    verdict = f"Every prediction was within {TOLERANCE:.0%}." if sound else f"Not every prediction was within {TOLERANCE:.0%}."
    return ["## The model of scale against the app", "", *lines, "", verdict, ""]


def _row(setting: Setting, measured: Sequence[Measured]) -> tuple[str, bool]:
    seconds, result = predict(setting)
    took = statistics.median(one.seconds for one in measured)
    creatio = statistics.median(one.creatio for one in measured)
    dataverse = statistics.median(one.dataverse for one in measured)
    ratios = (seconds / took, result.requests[CREATIO] / creatio, result.requests[DATAVERSE] / dataverse)
    kept = all(abs(ratio - 1) <= TOLERANCE for ratio in ratios)
    every = ", ".join(f"{one.seconds:.0f}" for one in measured)
    figures = f"{took:.1f} ({every}) | {seconds:.1f} | {ratios[0]:.2f} | {creatio:g} | {result.requests[CREATIO]}"
    return f"| {setting.name} | {figures} | {dataverse:g} | {result.requests[DATAVERSE]} | {'kept' if kept else 'MISSED'} |", kept


@dataclass(frozen=True)
class Cost:
    """What a record of one kind cost in this process."""

    what: str
    processor: float
    operations: float
    predicted: float


async def processor_costs(records: int = 500) -> list[Cost]:
    """Drive the app in this process, as `sandbox_cost` does, and read its processor time and its ledger operations."""

    async def fill(sandbox: Sandbox) -> None:
        await _only_in_creatio(sandbox, records)

    async with driven(fill) as driver:
        return await _phases(driver, records)


async def _phases(driver: Driver, records: int) -> list[Cost]:
    costs = [await _phase(driver, records, Kind.LOAD)]
    costs.append(await _phase(driver, records, None))
    await driver.phase("settling", 0)
    await _edit_creatio(driver.sandbox, records)
    costs.append(await _phase(driver, records, Kind.TO_DYNAMICS))
    await driver.phase("settling", 0, 2)
    await _edit_dynamics(driver.sandbox, records)
    costs.append(await _phase(driver, records, Kind.TO_CREATIO))
    return costs


async def _phase(driver: Driver, records: int, kind: Kind | None) -> Cost:
    begun = time.process_time()
    cost = await driver.phase("", records)
    processor = time.process_time() - begun
    name = kind.value if kind else "echo"
    return Cost(name, processor / records, cost.ledger_operations / records, ledger_operations(kind, records) / records)


def ledger_operations(kind: Kind | None, records: int, terms: Assumptions | None = None) -> int:
    """Return the ledger operations of one poll of so many records; None is their echoes from Dynamics, met as messages.

    Where records are bound already a poll of more than a hundred changes counts all bindings, each with its two rows (law 12).
    """
    known = terms or Assumptions()
    source = kind.source if kind else DATAVERSE
    asked = [step for rows in feed(source, records, known) for step in page(source, rows, known)]
    for number in chunks(records, known.batch_size):
        held = steps(kind, number, known) if kind else [Rows("bindings", number, number)]
        asked += [*opening(known), *taking(known), *held, *closing()]
    counted = 0 if kind is Kind.LOAD else 2 * records
    return counted + sum(step.operations for step in asked if isinstance(step, Rows))


def processor_table(costs: Sequence[Cost]) -> list[str]:
    """Show what a record cost."""
    lines = ["| record | processor ms | ledger operations | predicted |", "|---|--:|--:|--:|"]
    return lines + [f"| {c.what} | {c.processor * 1000:.1f} | {c.operations:.2f} | {c.predicted:.2f} |" for c in costs]


def main(arguments: Sequence[str]) -> int:
    """Measure what the arguments say; 1 when a prediction missed."""
    if "--processor" in arguments:
        print("\n".join(processor_table(asyncio.run(processor_costs()))))
        return 0
    lines, sound = check(1 if "--once" in arguments else REPEATS)
    print("\n".join(lines))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
