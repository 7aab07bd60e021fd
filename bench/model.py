"""Scale on paper: predicts time, requests and bottleneck of very large loads; prints it and writes bench/SCALE.md.

python -m bench.model            everything (some minutes)
python -m bench.model_check      holds the model against the real app
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final

from bench.model_scenarios import DAY, HUNDRED, MILLION, Prediction, Scenario, ceilings, predict, variations, walls
from bench.model_terms import CREATIO, DATAVERSE, Assumptions, Kind, sources

SCALE: Final = Path(__file__).resolve().parent / "SCALE.md"
_MARK: Final = "Made from "


def made_from() -> str:
    """Return what tells the page's makers: a hash of the model's modules and of every number it takes for given."""
    modules = sorted(path for path in SCALE.parent.glob("model*.py") if path.name != "model_check.py")
    texts = [path.read_text(encoding="utf-8") for path in modules]
    return hashlib.blake2b("\n".join([*texts, repr(Assumptions())]).encode(), digest_size=8).hexdigest()


def is_current(page: str) -> bool:
    """Tell whether a page was made from the model as it is now."""
    return f"{_MARK}{made_from()}" in page


def model_section() -> list[str]:
    """Return the lines for bench/RESULTS.md: what was predicted, in short, and where the rest is."""
    text = SCALE.read_text(encoding="utf-8")
    predicted = text.partition("## Predicted\n")[2].partition("\n## ")[0].strip().splitlines()
    stale = [] if is_current(text) else ["", "bench/SCALE.md is older than the model: run `python -m bench.model`."]
    return [
        "## Scale, on paper",
        "",
        *predicted,
        "",
        "More in bench/SCALE.md.",
        *stale,
        "",
    ]


def page_of(terms: Assumptions) -> list[str]:
    """Simulate everything and return the page."""
    loads = {name: predict(tried, MILLION) for name, tried in variations(terms).items()}
    days = {name: predict(tried, DAY) for name, tried in variations(terms).items() if not name.startswith("creates at")}
    first, day = next(iter(loads.values())), next(iter(days.values()))
    hundred = predict(terms, HUNDRED)
    return [
        "# Scale, on paper",
        "",
        (
            "Written by `python -m bench.model`; nothing on this page was measured. A simulation of instances, slots, limits and queue "
            "follows the code step by step. Its counts follow from batch sizes; its times rest on the numbers at the end, of which those "
            "marked as assumed are guesses about systems that were never met. `python -m bench.model_check` holds the model against the "
            "real app, as far as that can be run on one machine (bench/RESULTS.md). Loads are those of the schedule, in batches of ids; a "
            "bulk run, which reads whole pages and creates by CreateMultiple, asks less of both systems."
        ),
        "",
        f"{_MARK}{made_from()}.",
        "",
        "## Predicted",
        "",
        *_predicted([(MILLION, first), (HUNDRED, hundred), (DAY, day)]),
        "",
        _in_vain(first, loads["at most 1 instance"]),
        "",
        _entitlement(terms, first, hundred, day),
        "",
        "## What changes it",
        "",
        *_changes(loads, days),
        "",
        "## Is one partition a flow the bottleneck?",
        "",
        *_partitions(terms, first, day),
        "",
        "## What breaks by size",
        "",
        *_walls(terms),
        "",
        "## What is taken for given",
        "",
        *_given(terms),
    ]


def _predicted(found: Sequence[tuple[Scenario, Prediction]]) -> list[str]:
    lines = [
        (
            "Simulated is a part under full load, the whole follows at its pace. The bound is the bottleneck law: no app is faster. "
            "`Counts for 24 h` is what Dataverse's entitlement counts, each operation of a batch by itself."
        ),
        "",
        (
            "| | hours | bound, hours | records a second | requests to Creatio | to Dataverse | counts for 24 h | ledger operations "
            "| ledger requests | queue messages | of them in vain | instances | bottleneck (bound) | busiest (simulated) |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|---|",
    ]
    for scenario, one in found:
        counts = [
            one.requests[CREATIO],
            one.requests[DATAVERSE],
            one.entitled,
            one.operations,
            one.ledger_requests,
            one.messages,
            one.futile,
        ]
        shown = " | ".join(_short(number) for number in counts)
        lines.append(
            f"| {scenario.name} | {one.hours:,.1f} | {one.least_hours:,.1f} | {one.pace:.0f} | {shown} | {one.instances} "
            f"| {one.bottleneck} | {one.busiest}, {one.share:.0%} |"
        )
    return lines


def _in_vain(first: Prediction, alone: Prediction) -> str:
    """Say what the messages cost that find no slot free."""
    return (
        f"Messages that find no slot free come again after some seconds. With {first.instances} instances that happens "
        f"{first.futile / MILLION.total:.1f} times a record, and the first load of a million takes {_short(first.operations)} ledger "
        f"operations; with one instance it is {alone.futile / MILLION.total:.2f} times and {_short(alone.operations)} operations, in "
        f"{alone.hours:.1f} hours instead of {first.hours:.1f}. More instances than the slots need make nothing faster."
    )


def _entitlement(terms: Assumptions, first: Prediction, hundred: Prediction, day: Prediction) -> str:
    """Say how the loads stand to what Dataverse's licences cover."""
    days = [one.entitled / terms.entitlement for one in (first, hundred, day)]
    return (
        f"Against the least pool of {terms.entitlement:,} requests in 24 hours (not enforced yet) the three count for {days[0]:.1f}, "
        f"{days[1]:,.0f} and {days[2]:.0f} days."
    )


def _changes(loads: dict[str, Prediction], days: dict[str, Prediction]) -> list[str]:
    lines = [
        "Hours for each; a day's changes that take more than 24 hours are never caught up with.",
        "",
        "| | 1 M load | 100 M load, days | busiest | messages in vain a record | 10 M changes | busiest |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    for name, load in loads.items():
        day = days.get(name)
        changes = f"{day.hours:,.1f} | {day.busiest}, {day.share:.0%}" if day else " | "
        vain = load.futile / MILLION.total
        lines.append(
            f"| {name} | {load.hours:,.1f} | {load.hours * 100 / 24:,.1f} | {load.busiest}, {load.share:.0%} | {vain:.1f} | {changes} |"
        )
    return lines


def _partitions(terms: Assumptions, load: Prediction, day: Prediction) -> list[str]:
    names = sorted({*load.partitions, *day.partitions})
    tops = {kind: ceilings(terms, kind) for kind in Kind}
    lines = [
        (
            f"A partition serves {terms.partition_rate:,.0f} entities a second. Entities a second at the predicted pace, waiting messages "
            "included, and the records a second at which each partition is full when nothing is asked in vain:"
        ),
        "",
        "| partition | 1 M or 100 M load | 10 M changes | full at: creates | updates to Dynamics | updates to Creatio |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name in names:
        full = " | ".join(f"{tops[kind][top]:,.0f}" if (top := f"partition {name}") in tops[kind] else "-" for kind in Kind)
        lines.append(f"| {name} | {load.partitions.get(name, 0):,.0f} | {day.partitions.get(name, 0):,.0f} | {full} |")
    return [*lines, "", _answer(tops[Kind.LOAD], load)]


def _answer(tops: Mapping[str, float], load: Prediction) -> str:
    at = tops["partition bindings"]
    days = HUNDRED.total / at / 86_400
    word = "not the bottleneck" if load.pace < at else "the bottleneck"
    return (
        f"For the records themselves one partition a flow is {word} at this pace: {load.pace:.0f} records a second against {at:,.0f}. "
        "It is the next wall behind slots and Dataverse's execution time: 100,000,000 records can't be loaded through it in less than "
        f"{days:.1f} days. Reservations have one partition for all flows together."
    )


def _walls(terms: Assumptions) -> list[str]:
    lines = [
        (
            f"The times above leave these out. A function ends after {terms.function_timeout / 60:.0f} minutes, an instance has "
            f"{terms.instance_memory:,} MB; scans are counted at the partition's target."
        ),
        "",
        "| what is done in one piece | what it takes | at 1 M | at 100 M | fits up to, records |",
        "|---|---|--:|--:|--:|",
    ]
    return lines + [f"| {w.what} | {w.amount} | {w.at_million} | {w.at_hundred} | {_short(w.most)} |" for w in walls(terms)]


def _given(terms: Assumptions) -> list[str]:
    known = sources()
    lines = ["| number | value | source |", "|---|--:|---|"]
    return lines + [f"| {one.name.replace('_', ' ')} | {getattr(terms, one.name):g} | {known[one.name]} |" for one in fields(terms)]


def _short(number: float) -> str:
    """Write a number with three digits that count."""
    for size, unit in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}" if number < 999.5 * size else f"{number / size:,.0f}{unit}"
    return f"{number:.0f}"


def main(_arguments: Sequence[str]) -> int:
    """Write the page and show it."""
    text = "\n".join(page_of(Assumptions())) + "\n"
    SCALE.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
