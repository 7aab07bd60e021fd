"""A bulk run over many accounts, through the real adapters, engine and ledger, over HTTP: seconds, requests and memory.

python -m bench.bulk_load RECORDS [--ledger azurite|file] [--from creatio|dynamics]

The stand-ins (and Azurite) run in processes of their own; the app runs in this one, driven as the host drives it, so that its memory is
measured alone. With `--ledger file` the tables lie in a file and the queue in memory: the way to a storage account does not count then.
Azurite is started with bench/azurite_index.cjs: it would walk a whole partition for each entity that it looks up.
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench.file_tables import FileTables
from bench.memory import MemoryQueues
from bench.sandbox_cost import FLOW, NEVER
from sandbox.control_client import Control
from sandbox.processes import Sandbox
from shared.core.records import Side
from shared.core.work import BULK_SIZE, BatchState, Load, Message, PollMessage
from shared.engine.bulk import Bulk
from shared.engine.poll import Poll
from shared.engine.sync import Sync
from shared.engine.tasks import Tasks
from shared.engine.walk import Walk
from shared.engine.watch import Watch
from shared.ledger.store import TableLedger
from shared.settings import Settings
from shared.systems.odata import time_text
from shared.wiring import App, build

_SEEDED_AT_ONCE: Final = 2_000
_AT_ONCE: Final = 4
_INDEX: Final = Path(__file__).resolve().parent / "azurite_index.cjs"
_BEGAN: Final = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Loaded:
    """What a bulk run took; memory in MiB of this process at a tenth, at half and at the end of the records, and at its peak."""

    records: int
    ledger: str
    side: Side
    seconds: float
    counts: Mapping[str, int]
    requests: Mapping[str, int]
    ledger_operations: int
    ledger_requests: int
    memory: tuple[float, float, float]
    peak: float

    @property
    def rate(self) -> float:
        """Return records a second."""
        return self.records / self.seconds


async def measure(records: int, ledger: str, side: Side, *, size: int, say: bool = False) -> Loaded:
    """Fill one side, load it to the other, and tell what it took."""

    async def fill(sandbox: Sandbox) -> None:
        await seed(sandbox, side, records)

    os.environ["NODE_OPTIONS"] = f'--require="{_INDEX}"'
    settings = {"WATCH_SCHEDULE": NEVER, "FLOWS": FLOW, "CREATIO_SLOTS": "8", "DATAVERSE_SLOTS": "8"}
    with tempfile.TemporaryDirectory(prefix="tandem-bulk-", ignore_cleanup_errors=True) as folder:
        async with Sandbox.start(Path(folder), poll_schedule=NEVER, settings=settings, before_host=fill) as sandbox:
            await sandbox.stop("host")
            for name in ("creatio", "dataverse"):
                await sandbox.control(name).reset_requests()
            async with _app(Settings.from_environ(sandbox.settings), ledger, Path(folder)) as (app, queues):
                return await _load(sandbox, app, queues, (records, ledger, side, size), say=say)


async def seed(sandbox: Sandbox, side: Side, records: int) -> None:
    """Put accounts into one side, created some seconds apart."""
    name, entity, row = ("creatio", "Account", _creatio) if side is Side.CREATIO else ("dataverse", "account", _dynamics)
    control = Control(name, sandbox.creatio if side is Side.CREATIO else sandbox.dataverse, timeout_seconds=600)
    try:
        for start in range(0, records, _SEEDED_AT_ONCE):
            await control.seed(entity, [row(number) for number in range(start, min(start + _SEEDED_AT_ONCE, records))])
    finally:
        await control.close()


def _created(number: int) -> str:
    """Return when an account was made: three at a time, as users and imports do."""
    return time_text(_BEGAN + timedelta(seconds=7 * (number // 3)))


def _creatio(number: int) -> dict[str, Any]:
    moment = _created(number)
    return {
        "Id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"account {number}")),
        "CreatedOn": moment,
        "ModifiedOn": moment,
        "Name": f"Company {number:07} and Sons",
        "Code": f"C-{number:07}",
        "Phone": f"+44 20 7946 {number % 10_000:04}",
        "AdditionalPhone": f"+44 20 7947 {number % 10_000:04}",
        "Web": f"https://www.company{number}.example/",
        "UsrEmail": f"info@company{number}.example",
        "Address": f"{number % 300} High Street\nFloor {number % 9}",
        "Zip": f"{10_000 + number % 80_000}",
        "Notes": "Asked for an offer in spring.",
        "UsrEmployees": number % 5_000,
        "UsrActive": True,
    }


def _dynamics(number: int) -> dict[str, Any]:
    moment = _created(number)
    return {
        "accountid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"account {number}")),
        "createdon": moment,
        "modifiedon": moment,
        "name": f"Company {number:07} and Sons",
        "accountnumber": f"C-{number:07}",
        "telephone1": f"+44 20 7946 {number % 10_000:04}",
        "websiteurl": f"https://www.company{number}.example/",
        "emailaddress1": f"info@company{number}.example",
        "address1_line1": f"{number % 300} High Street",
        "address1_postalcode": f"{10_000 + number % 80_000}",
        "description": "Asked for an offer in spring.",
        "numberofemployees": number % 5_000,
    }


@asynccontextmanager
async def _app(settings: Settings, ledger: str, folder: Path) -> AsyncIterator[tuple[App, MemoryQueues]]:
    """Build the app with a queue in memory, and its tables in a file where that is wanted."""
    app, queues = build(settings), MemoryQueues()
    services = replace(app.services, queues=queues)
    tables = FileTables(folder / "ledger.sqlite") if ledger == "file" else None
    if tables is not None:
        services = replace(services, ledger=TableLedger(app.storages[1], "bench", table=tables.open))
    poll = Poll(services)
    parts = {"poll": poll, "sync": Sync(services), "watch": Watch(services), "walk": Walk(services), "bulk": Bulk(services)}
    try:
        yield replace(app, services=services, tasks=Tasks(services, poll), **parts), queues  # type: ignore[arg-type] # each is of its field's type
    finally:
        await app.close()
        if tables is not None:
            tables.close()


async def _load(sandbox: Sandbox, app: App, queues: MemoryQueues, asked: tuple[int, str, Side, int], *, say: bool) -> Loaded:
    records, ledger, side, size = asked
    memory, begun = _Memory(records), time.monotonic()
    started = asyncio.create_task(app.bulk.start([FLOW], side, Load(size=size), dry=False))
    await queues.hand_out(lambda message: _deliver(app, memory, message, say=say), _AT_ONCE, started)
    run = started.result()
    seconds = time.monotonic() - begun
    shown = await app.walk.progress(FLOW, run)
    counts = {name: await sandbox.control(name).requests() for name in ("creatio", "dataverse")}
    meter = app.storages[1].meter
    requests = {name: int(told["total"]) for name, told in counts.items()}
    return Loaded(
        records, ledger, side, seconds, shown["counts"], requests, meter.operations, meter.requests, memory.taken(), memory.peak()
    )


@dataclass
class _Memory:
    """This process's memory by the share of records done."""

    records: int
    done: int = 0
    seen: dict[int, float] = field(default_factory=dict)

    def note(self, done: int) -> None:
        """Take note of records done."""
        self.done += done
        tenth = 10 * self.done // max(1, self.records)
        if tenth not in self.seen:
            self.seen[tenth] = _resident()

    def taken(self) -> tuple[float, float, float]:
        """Return the memory at a tenth, at half and at the end."""
        gc.collect()
        last = _resident()
        at = [next((mib for tenth, mib in sorted(self.seen.items()) if tenth >= wanted), last) for wanted in (1, 5)]
        return at[0], at[1], last

    def peak(self) -> float:
        """Return the most memory that this process ever had."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _resident() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def _deliver(app: App, memory: _Memory, message: Message | PollMessage, *, say: bool) -> None:
    """Work on one message, and take note of the records of a batch that is done."""
    if isinstance(message, PollMessage):
        await app.tasks.run(message)
        return
    await app.sync.run(message)
    batch = await app.services.ledger.get_batch(message.flow, message.batch)
    if batch is not None and batch.state is BatchState.CLOSED:
        memory.note(sum(batch.counts.values()))
    if say:
        print(f"{memory.done:>9,} of {memory.records:,} records, {_resident():.0f} MiB", flush=True)


def table(loads: Sequence[Loaded]) -> list[str]:
    """Show bulk runs."""
    lines = [
        (
            "| records | from | ledger | seconds | records a second | Creatio requests | Dynamics requests | ledger operations a record "
            "| ledger requests a record | memory at 10 %, 50 %, end (MiB) | peak |"
        ),
        "|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in loads:
        memory = ", ".join(f"{mib:.0f}" for mib in one.memory)
        lines.append(
            f"| {one.records:,} | {one.side.value} | {one.ledger} | {one.seconds:,.0f} | {one.rate:,.0f} | {one.requests['creatio']:,} "
            f"| {one.requests['dataverse']:,} | {one.ledger_operations / one.records:.1f} "
            f"| {one.ledger_requests / one.records:.2f} | {memory} | {one.peak:.0f} |"
        )
    return lines


def section(loads: Sequence[Loaded]) -> list[str]:
    """Return the lines for bench/RESULTS.md."""
    words = (
        "The real app between the stand-ins, over HTTP; stand-ins and storage emulator share this machine's cores, so the pace is theirs "
        "as well. `azurite`: it finds entities by an index (bench/azurite_index.cjs), as a storage account does; by itself it walks the "
        "whole partition for each. `file`: the ledger's tables lie in a file. The queue is in memory. Memory is that of the app's process "
        "alone."
    )
    return ["## Bulk loads", "", words, "", *table(loads), ""]


def in_own_process(records: str, ledger: str, side: str) -> Loaded:
    """Measure one bulk run in a fresh process, whose memory is its own; raises CalledProcessError when it failed."""
    command = [sys.executable, "-m", "bench.bulk_load", records, "--ledger", ledger, "--from", side, "--json"]
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    return Loaded(**{**told, "side": Side(told["side"]), "memory": tuple(told["memory"])})


def main() -> None:
    """Measure one bulk run and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=int)
    parser.add_argument("--ledger", choices=("azurite", "file"), default="azurite")
    parser.add_argument("--from", dest="side", choices=[side.value for side in Side], default=Side.CREATIO.value)
    parser.add_argument("--size", type=int, default=BULK_SIZE)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, for programs")
    asked = parser.parse_args()
    loaded = asyncio.run(measure(asked.records, asked.ledger, Side(asked.side), size=asked.size, say=not asked.json))
    if asked.json:
        print(json.dumps(asdict(loaded)))
        return
    print("\n".join(table([loaded])))
    print(dict(loaded.counts))


if __name__ == "__main__":
    main()
