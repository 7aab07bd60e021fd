"""Measures the core alone and what 1,000 changed records cost, prints the tables and writes them to bench/RESULTS.md.

python -m sandbox bench             everything
python -m bench.core --core         the core only, without servers; nothing is written
python -m bench.core --profile      where the core's time goes
"""

import asyncio
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import core_speed
from bench.core_speed import Speed
from bench.sandbox_cost import Cost, measure

RESULTS: Final = Path(__file__).resolve().parent / "RESULTS.md"
_CORE_BUDGET: Final = 8_000


def main(arguments: Sequence[str]) -> int:
    """Measure what the arguments say and show it."""
    if "--profile" in arguments:
        print(core_speed.profile())
        return 0
    speeds = core_speed.measure()
    if "--core" in arguments:
        print("\n".join(core_table(speeds)))
        return 0
    text = "\n".join([*heading(), *core_table(speeds), "", *cost_tables(asyncio.run(measure()))]) + "\n"
    print(text)
    RESULTS.write_text(text, encoding="utf-8")
    return 0


def heading() -> list[str]:
    """Say when and on what it was measured."""
    facts = {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Commit": _commit(),
        "Machine": f"{_processor()}, {os.cpu_count()} cores, load {_load()} at the beginning",
        "System": f"{platform.system()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    intro = "Written by `make bench`. Every figure was measured in that run; budgets are the design's."
    return ["# Measured speed and cost", "", intro, "", *(f"- {name}: {value}" for name, value in facts.items()), ""]


def core_table(speeds: Sequence[Speed]) -> list[str]:
    """Show the core's speed; the budget is for decode, merge, plan and encode."""
    size = core_speed.record_sizes(core_speed.workload())
    lines = [
        "## The core alone",
        "",
        (
            f"One record of `sales.account`: {size['rows']} mapping rows, {size['filled']} filled columns on the two sides together, "
            f"{size['bytes']:,} bytes of JSON. Records a second of one core's time, median of {core_speed.RUNS} runs."
        ),
        "",
        "| what | median | slowest run | fastest run | budget | |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for speed in speeds:
        median, low, high = (f"{number:,.0f}" for number in (speed.median, min(speed.runs), max(speed.runs)))
        lines.append(f"| {speed.what} | {median} | {low} | {high} | {_CORE_BUDGET:,} | {_verdict(speed.median >= _CORE_BUDGET)} |")
    return lines


def cost_tables(costs: Sequence[Cost]) -> list[str]:
    """Show what each phase took, and the design's budgets beside it."""
    lines = [
        "## What changed records cost",
        "",
        (
            "App, stand-ins and storage emulator on one machine; requests count as they were sent, repeats included. "
            "The ledger's operations are entities read or written."
        ),
        "",
        (
            "| phase | records | seconds | Creatio requests (writes) | Dynamics requests (writes) | ledger requests | ledger operations "
            "| queue requests |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {c.what} | {c.records:,} | {c.seconds:.1f} | {c.creatio} ({c.creatio_writes:,}) | {c.dataverse} ({c.dataverse_writes:,}) "
        f"| {c.ledger_requests:,} | {c.ledger_operations:,} | {c.queue_requests} |"
        for c in costs
    ]
    lines += ["", "## Against the budgets", "", "| what | measured | budget | |", "|---|--:|--:|---|"]
    _, to_dynamics, echoes_there, to_creatio, echoes_here, quiet = costs
    lines += _round_trip("updates to Dynamics", to_dynamics, echoes_there, 40)
    lines += _round_trip("updates to Creatio", to_creatio, echoes_here, 50)
    lines.append(_line("quiet cycle: requests to Dynamics, to Creatio", max(quiet.dataverse, quiet.creatio), 1))
    lines.append(_line("quiet cycle: ledger requests", quiet.ledger_requests, 1))
    return lines


def _round_trip(what: str, edits: Cost, echoes: Cost, budget: int) -> list[str]:
    both = [
        _line(f"{what}: requests to both systems, echoes included", _requests(edits) + _requests(echoes), budget),
        _line(f"{what}: requests for the echoes alone", _requests(echoes), 3),
    ]
    for name, cost, operations, requests in (("record", edits, 5.0, 2.5), ("echo", echoes, 2.0, 2.2)):
        both.append(_line(f"{what}: ledger operations for each {name}", cost.ledger_operations / cost.records, operations))
        both.append(
            _line(
                f"{what}: table and queue requests for each {name}", (cost.ledger_requests + cost.queue_requests) / cost.records, requests
            )
        )
    return both


def _requests(cost: Cost) -> int:
    return cost.creatio + cost.dataverse


def _line(what: str, measured: float, budget: float) -> str:
    shown = f"{measured:,}" if isinstance(measured, int) else f"{measured:.2f}"
    return f"| {what} | {shown} | {budget:g} | {_verdict(measured <= budget)} |"


def _verdict(kept: bool) -> str:
    return "kept" if kept else "MISSED"


def _commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "outside git"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor")


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if code:
        sys.exit(code)
