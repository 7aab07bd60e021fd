"""The tables that `make bench` prints and writes: pure, from figures to Markdown."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import core_speed
from bench.budgets import CORE, Budget
from bench.competitors import TANDEM_BARE
from bench.core_speed import Speed
from bench.race import Entry
from bench.sandbox_cost import Cost
from bench.start_up import StartUp

_FURTHER_CELLS: Final = 10
"""Those of a line of the comparison behind the first figure."""
_BUSY: Final = 1.0
_BUSY_WORDS: Final = (
    "other work ran on this machine at the same time, so seconds are too long and rates too low, most of all for long runs and for tools "
    "of one process; counts, memory and processor time hold"
)
_ROOT: Final = Path(__file__).resolve().parents[1]


def heading(runs: int, command: str = "make bench") -> list[str]:
    """Say by which command, when and on what it was measured."""
    facts = {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Commit": _commit(),
        "Machine": f"{_processor()}, {os.cpu_count()} cores, {_memory()}, load {_load()} at the beginning",
        "System": f"{platform.system()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Runs": f"medians of {runs} where nothing else is said; the runs of all tools take turns",
    }
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > _BUSY:
        facts["Mind"] = _BUSY_WORDS
    intro = f"Written by `{command}`. Every figure was measured in that run; budgets are those of the design, section 10."
    return ["# Measured speed and cost", "", intro, "", "## Machine", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]


def budgets_table(budgets: Sequence[Budget]) -> list[str]:
    """Show every budget with its verdict."""
    return ["## Against the budgets", "", "| what | measured | budget | |", "|---|--:|--:|---|", *(budget.line() for budget in budgets), ""]


def race_table(entries: Sequence[Entry], title: str, intro: str) -> list[str]:
    """Show a comparison: records a second, ratio to Tandem without ledger, time of the work and the process, memory, requests."""
    lines = [
        f"## {title}",
        "",
        intro,
        "",
        (
            "| tool | records | records a second | slowest run | fastest run | times Tandem without ledger | work, s | whole process, s "
            "| its processor time, s | the server's, s | peak memory, MB | requests |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    own = next((entry for entry in entries if entry.competitor.name == TANDEM_BARE.name and entry.laps), None)
    return [*lines, *(_race_line(entry, own) for entry in entries), ""]


def _race_line(entry: Entry, own: Entry | None) -> str:
    name = f"{entry.competitor.title} {entry.version}".strip()
    if not entry.laps:
        return f"| {name} | {entry.records:,} | {entry.problem or 'not run'}" + " |" * _FURTHER_CELLS
    ratio = "" if own is None else f"{entry.rate / own.rate:.2f}"
    work, process, processor, server, megabytes = (entry.middle(one) for one in ("seconds", "process", "processor", "server", "megabytes"))
    return (
        f"| {name} | {entry.records:,} | {entry.rate:,.0f} | {min(entry.rates):,.0f} | {max(entry.rates):,.0f} | {ratio} | {work:.2f} "
        f"| {process:.2f} | {processor:.2f} | {server:.2f} | {megabytes:.0f} | {entry.middle('requests'):,.0f} |"
    )


def notes(entries: Sequence[Entry]) -> list[str]:
    """Say of each tool what is fair and what is unfair."""
    lines = ["### What is fair, and what is not", ""]
    for entry in entries:
        one = entry.competitor
        lines += [f"- **{one.title}**", f"  - Fair: {one.fair}", f"  - Unfair: {one.unfair}"]
    common = (
        "All: the same accounts in pages of 1,000 and the same result, compared value by value at the server after each run. The server's "
        "work is not the same for all: a row that is written by `$batch` and sent back costs it several times what a row of CreateMultiple "
        "does; its time stands in the table. Real systems take far longer than this server, most of all for writes, so the distances are "
        "those of the tools' own work. None of them sends telemetry, by its documented setting."
    )
    return [*lines, "", common, ""]


def memory_table(few: Sequence[Entry], many: Sequence[Entry]) -> list[str]:
    """Show the peak memory by number of records."""
    lines = ["## Memory", "", "Peak of the process (of both, where a tool is two), in MB.", ""]
    small, large = (f"{entries[0].records:,} records" for entries in (few, many))
    lines += [f"| tool | {small} | {large} |", "|---|--:|--:|"]
    before = {entry.competitor.name: entry for entry in few}
    for entry in many:
        figures = [f"{one.middle('megabytes'):.0f}" if one.laps else "failed" for one in (before[entry.competitor.name], entry)]
        lines.append(f"| {entry.competitor.title} | {figures[0]} | {figures[1]} |")
    return [*lines, ""]


def core_table(speeds: Sequence[Speed]) -> list[str]:
    """Show the core's speed."""
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
        verdict = "kept" if speed.median >= CORE else "MISSED"
        lines.append(f"| {speed.what} | {median} | {low} | {high} | {CORE:,} | {verdict} |")
    return [*lines, ""]


def cost_table(costs: Sequence[Cost]) -> list[str]:
    """Show what each phase took."""
    lines = [
        "## What changed records cost",
        "",
        (
            "App, stand-ins and storage emulator on one machine, one run; requests count as they were sent, repeats included. "
            "The ledger's operations are entities read or written. A write may be one of several that a record needs."
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
    return [*lines, ""]


def start_up_section(stages: Sequence[StartUp]) -> list[str]:
    """Show how long the imports of each stage take and where the time goes."""
    lines = ["## Start-up", "", "| stage | median, ms | fastest | slowest | modules |", "|---|--:|--:|--:|--:|"]
    for one in stages:
        low, high = (figure(one.runs) - one.python for figure in (min, max))
        lines.append(f"| {one.stage} | {one.seconds * 1000:,.0f} | {low * 1000:,.0f} | {high * 1000:,.0f} | {one.modules:,} |")
    runs = len(stages[0].runs)
    intro = (
        f"Median of {runs} runs, Python's own start taken off. The packages below are of one run with `-X importtime`, which is slower; "
        "what another package imports counts for both, and what only development needs is imported where it is installed."
    )
    lines += ["", intro, ""]
    for one in stages:
        lines += [f"The costliest packages, {one.stage}:", "", "| package | with what it imports, ms | own modules, ms |", "|---|--:|--:|"]
        lines += [*(f"| {package.name} | {package.cumulative:.0f} | {package.own:.0f} |" for package in one.packages), ""]
    return lines


def profile_section(title: str, text: str) -> list[str]:
    """Show a profile as it is."""
    return [f"## {title}", "", "```text", *(line.rstrip() for line in text.strip().splitlines()), "```", ""]


def _commit() -> str:
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "outside git"


def _processor() -> str:
    return _first_line("/proc/cpuinfo", "model name") or platform.processor() or "unknown processor"


def _memory() -> str:
    text = _first_line("/proc/meminfo", "MemTotal")
    return f"{int(text.split()[0]) / 1024**2:.0f} GB" if text else "unknown memory"


def _first_line(file: str, name: str) -> str:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
