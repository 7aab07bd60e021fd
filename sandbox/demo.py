"""The demo: two CRMs full of accounts and contacts, the app between them, people at work on both sides, a sale, a count of differences.

Its very last line is one JSON object, for machines; everything above is for people.
"""

import asyncio
import json
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sandbox.child import SandboxError
from sandbox.compare import Comparison, compare, shown
from sandbox.demo_edits import Edits, Step
from sandbox.demo_sale import Sale
from sandbox.observe import COLUMNS, SYSTEMS, Observer
from sandbox.processes import Sandbox
from sandbox.seed import Seeded, seed
from shared.core.errors import ConfigError, TandemError

_FIRST_SECONDS: Final = 120.0
_LATER_SECONDS: Final = 45.0
_QUIET_SECONDS: Final = 8.0
_THINGS: Final = {
    "sales.account": "Accounts",
    "sales.contact": "Contacts",
    "sales.product": "Products",
    "sales.opportunity": "Opportunities",
    "sales.order": "Orders",
    "service.case": "Cases",
}
_TITLES: Final = {"creatio": "Creatio", "dataverse": "Dynamics 365"}


@dataclass
class Result:
    """What the demo found out so far; it ends well when nothing differs, every step arrived and quiet means quiet."""

    flows: dict[str, dict[str, int]] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SYSTEMS, 0))
    steps: list[Step] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    quiet_writes: int | None = None
    open_ends: int = 0
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Tell whether everything is as it should be."""
        compared = bool(self.comparisons) and all(c.records > 0 and not c.differences for c in self.comparisons.values())
        arrived = bool(self.steps) and all(step.seconds is not None for step in self.steps)
        return compared and arrived and self.quiet_writes == 0 and not self.open_ends and not self.problem

    def line(self) -> str:
        """Return the one JSON object for machines."""
        differences = sum(len(comparison.differences) for comparison in self.comparisons.values())
        return json.dumps({"ok": self.ok, "flows": self.flows, "requests": self.requests, "differences": differences})


def main() -> int:
    """Run the demo; return 0 when it ended well."""
    begun = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="tandem-demo-"))
    result = Result()
    try:
        asyncio.run(_run(directory, result))
    except (SandboxError, ConfigError, TandemError, OSError) as problem:
        result.problem = str(problem) or type(problem).__name__
    _say("")
    if result.problem:
        _say(f"The demo could not go on: {result.problem}")
    if result.ok:
        shutil.rmtree(directory, ignore_errors=True)
        _say(f"OK: both systems tell the same story, {time.monotonic() - begun:.0f} seconds in all.")
    else:
        _say(f"NOT OK after {time.monotonic() - begun:.0f} seconds. The logs of every program lie in {directory}")
    print(result.line(), flush=True)
    return 0 if result.ok else 1


async def _run(directory: Path, result: Result) -> None:
    _say(
        "Tandem keeps Creatio and Dynamics 365 in step. Here all of it runs on this machine: the app in a local host, real queues and\n"
        "tables (Azurite), and a stand-in for each of the two systems, filled with accounts and contacts that people might have.\n"
    )
    seeded: list[Seeded] = []

    async def fill(sandbox: Sandbox) -> None:
        seeded.append(await seed(sandbox.creatio, sandbox.dataverse))

    async with Sandbox.start(directory, settings={"FLOWS": ",".join(_THINGS)}, before_host=fill) as sandbox:
        observer = Observer.of(sandbox)
        try:
            await _first_sync(observer, seeded[0])
            await _edits(observer, result)
            await _sale(observer, result)
            await _quiet(observer, result)
            await _finish(observer, result)
        finally:
            await _count(observer, result)
            await observer.close()


async def _first_sync(observer: Observer, seeded: Seeded) -> None:
    _say(
        f"1. Two systems that never met: {seeded.creatio_only} accounts are in Creatio only, {seeded.dynamics_only} in Dynamics only, "
        f"{seeded.both} in both;\n   and {seeded.contacts} people who work for them. The app has started; it polls every 2 seconds ..."
    )
    seconds = await observer.settle(_FIRST_SECONDS)
    _say(f"   After {seconds:.0f} s:")
    for flow in ("sales.account", "sales.contact"):
        created = (await observer.outcomes(flow))["created"]
        found = await _compared(observer, flow)
        _say(
            f"   {_THINGS[flow]}: {found.records - created} pairs found and merged, not doubled; {created} created on the other side. "
            f"{found.records} are on both sides now; {len(found.differences)} fields differ."
        )
        for line in shown(found.differences):
            _say(f"   {line}")


async def _edits(observer: Observer, result: Result) -> None:
    _say("\n2. People work on both sides. Each edit should be on the other side within one poll:")
    edits = Edits(observer)
    story = edits.story()
    pairs = await edits.pairs(len(story))
    if len(pairs) < len(story):
        raise SandboxError(f"the story needs {len(story)} accounts that both sides have, and found {len(pairs)}")
    for (step, _), pair in zip(story, pairs, strict=True):
        done = await step(pair)
        _tell(result, done)


async def _sale(observer: Observer, result: Result) -> None:
    _say("\n3. A sale, from the first call to the broken tile. Amounts are checked to the cent on both sides:")
    for step in Sale(observer).steps:
        _tell(result, await step())


def _tell(result: Result, done: Step) -> None:
    result.steps.append(done)
    outcome = f"{done.came_of_it}, {done.seconds:.1f} s" if done.seconds is not None else f"NOT YET: {done.came_of_it}"
    _say(f"   - {done.what}\n     -> {outcome}")


async def _quiet(observer: Observer, result: Result) -> None:
    await observer.settle(_LATER_SECONDS)
    before = {name: await observer.writes(name) for name in SYSTEMS}
    requests = await observer.requests()
    await asyncio.sleep(_QUIET_SECONDS)
    written = {name: await observer.writes(name) - before[name] for name in SYSTEMS}
    asked = {name: number - requests[name] for name, number in (await observer.requests()).items()}
    result.quiet_writes = sum(written.values())
    _say(f"\n4. Nobody edits for {_QUIET_SECONDS:.0f} seconds. The app goes on polling:")
    for name in SYSTEMS:
        _say(f"   {_TITLES[name]:<13} {asked[name]} requests, {written[name]} records written")


async def _finish(observer: Observer, result: Result) -> None:
    _say("\n5. Every mapped field of every record, every line and every total, compared on both sides:")
    for flow in observer.flows:
        result.comparisons[flow] = found = await _compared(observer, flow)
        left = f", {found.kept} left as each side has them, as the mapping says" if found.kept else ""
        _say(f"   {_THINGS[flow]}: {found.fields} fields of {found.records} records{left}; {len(found.differences)} differences.")
        for line in shown(found.differences):
            _say(f"   {line}")
        ledger = observer.app.ledger
        failures, conflicts = await ledger.failures(flow), await ledger.conflicts(flow)
        result.open_ends += len(failures) + len(conflicts)
        for failure in failures[:20]:
            _say(f"   failure: {failure.record_id} {failure.field}: {failure.code}: {failure.said}")
        for conflict in conflicts[:20]:
            _say(f"   conflict: {conflict.creatio_id} {conflict.dynamics_id} {conflict.field}: {conflict.reason}")


async def _compared(observer: Observer, flow: str) -> Comparison:
    look = compare(observer.app.services, flow, observer.control("creatio"), observer.control("dataverse"))
    found: Comparison = await observer.unobserved(look)
    return found


async def _count(observer: Observer, result: Result) -> None:
    """Count, whatever happened before, and show the table."""
    result.flows = {flow: await observer.outcomes(flow) for flow in observer.flows}
    result.requests = await observer.requests()
    _say("")
    _say("   flow                " + "".join(f"{name:>10}" for name in COLUMNS))
    for flow, counts in result.flows.items():
        _say(f"   {flow:<20}" + "".join(f"{counts[name]:>10}" for name in COLUMNS))
    asked = ", ".join(f"{_TITLES[name]} {number}" for name, number in result.requests.items())
    _say(f"   Requests: {asked}. Looks at records that had not changed count as unchanged.")


def _say(text: Any) -> None:
    print(text, flush=True)
