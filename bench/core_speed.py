"""How fast the core is alone: JSON of both rows in, the JSON of the write out, with nothing else of the app between.

The mapping is the product's own `sales.account`, the columns are those of the stand-ins' metadata.
"""

import cProfile
import json
import pstats
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from io import StringIO
from typing import Final

from bench.accounts import CREATIO_ID, full_account
from shared.core.binding import Binding, BindingState, FieldState
from shared.core.fingerprint import Keyring
from shared.core.plan import Desk, RecordPlan, columns_of, intent, plan_record, recorded
from shared.core.records import Column, Row, Side, Stamp, normalise
from shared.systems.odata import parse_json, to_json
from tests.unit.mapped_world import flow_context, mappings

RUNS: Final = 5
_ROUND: Final = 2_000
_AT: Final = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
_DYNAMICS_ID: Final = "d0000000-0000-4000-8000-000000000001"
_CHANGED: Final = {"Phone": "+44 20 7946 0958", "UsrEmployees": 77, "Web": "https://www.acme.example/new"}


@dataclass(frozen=True)
class Speed:
    """Records a second on one core: the median of all runs, and every run."""

    what: str
    median: float
    runs: tuple[float, ...]


@dataclass(frozen=True)
class Workload:
    """A record as both systems send it, unchanged and with three changed fields, and the binding that knows it."""

    desk: Desk
    binding: Binding
    texts: Mapping[Side, bytes]
    changed: Mapping[Side, bytes]


def measure() -> list[Speed]:
    """Measure the core on an unchanged record, on one with three changed fields, and with the ledger's two bindings beside it."""
    work = workload()
    rows = len(work.desk.rows)
    return [
        _speed("unchanged: decode both rows, normalise, plan", lambda: _step(work, work.texts)),
        _speed(f"3 of {rows} fields changed: decode both rows, normalise, plan, encode the write", lambda: _step(work, work.changed)),
        _speed("the same with the bindings to keep before and after the write", lambda: _with_bindings(work)),
    ]


def profile(lines: int = 15) -> str:
    """Return where the time of changed records goes, as cProfile saw it."""
    work = workload()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(_ROUND):
        _step(work, work.changed)
    profiler.disable()
    text = StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(lines)
    return text.getvalue()


def workload() -> Workload:
    """Build the record: every one of the mapping's fields is filled, and both sides are in step."""
    everything = mappings()
    keyring = Keyring.parse("bench:" + "A" * 43 + "=")
    desk = Desk(everything, everything.flows["sales.account"], flow_context("sales.account"), keyring)
    creatio = full_account(desk)
    fresh = Binding(desk.mapping.flow, BindingState.BOUND, CREATIO_ID, _DYNAMICS_ID)
    empty = Row(_DYNAMICS_ID, Stamp(_AT), dict.fromkeys(desk.columns(Side.DYNAMICS)))
    first = plan_record(desk, fresh, {Side.CREATIO: _read(desk, Side.CREATIO, to_json(creatio).encode()), Side.DYNAMICS: empty})
    dynamics = {**dict.fromkeys(desk.columns(Side.DYNAMICS)), **columns_of(desk.rows, first.fields_to(Side.DYNAMICS), Side.DYNAMICS)}
    dynamics |= {"creditlimit": 12_500, "creditonhold": True, "lastusedincampaign": "2026-03-01T12:30:00Z"}
    texts = {Side.CREATIO: to_json(creatio).encode(), Side.DYNAMICS: to_json(dynamics).encode()}
    rows = {side: _read(desk, side, text) for side, text in texts.items()}
    plan = plan_record(desk, fresh, rows)
    binding = replace(fresh, fields=_in_step(plan))
    changed = {**texts, Side.CREATIO: to_json({**creatio, **_CHANGED}).encode()}
    work = Workload(desk, binding, texts, changed)
    _check(work)
    return work


def _check(work: Workload) -> None:
    """Refuse to measure something else than what the table says."""
    still, moved = _step(work, work.texts), _step(work, work.changed)
    if still.decisions or len(moved.fields_to(Side.DYNAMICS)) != len(_CHANGED) or moved.fields_to(Side.CREATIO):
        found = f"{sorted(still.decisions)} and {sorted(moved.decisions)}"
        raise ValueError(f"got decisions on {found}, allowed none, and the three changed fields")


def _in_step(plan: RecordPlan) -> dict[str, FieldState]:
    questions = plan.questions
    return {key: FieldState(q.row_hash, q.key_id, q.creatio.print, q.dynamics.print) for key, q in questions.items()}


@cache
def _columns(flow: str, side: Side) -> tuple[Column, ...]:
    """Return the columns of a side that the flow reads; an adapter works them out once a batch."""
    columns = flow_context("sales.account").entities[side].columns
    return tuple(columns[name] for name in mappings().flows[flow].columns(side))


def _read(desk: Desk, side: Side, text: bytes) -> Row:
    raw = parse_json(text)
    without_null = side is Side.CREATIO
    values = {column.name: normalise(raw[column.name], column, without_null) for column in _columns(desk.mapping.flow, side)}
    return Row(CREATIO_ID if side is Side.CREATIO else _DYNAMICS_ID, Stamp(_AT), values)


def _step(work: Workload, texts: Mapping[Side, bytes]) -> RecordPlan:
    rows = {side: _read(work.desk, side, text) for side, text in texts.items()}
    plan = plan_record(work.desk, work.binding, rows)
    if plan.writes:
        to_json(columns_of(work.desk.rows, plan.fields_to(Side.DYNAMICS), Side.DYNAMICS))
    return plan


def _with_bindings(work: Workload) -> None:
    plan = _step(work, work.changed)
    intent(plan, "bench", _AT)
    written = columns_of(work.desk.rows, plan.fields_to(Side.DYNAMICS), Side.DYNAMICS)
    old = plan.rows[Side.DYNAMICS]
    recorded(plan, {Side.DYNAMICS: replace(old, values={**old.values, **written}, changed_by_us=True)}, "bench", _AT)


def _speed(what: str, step: Callable[[], object]) -> Speed:
    step()
    runs = []
    for _ in range(RUNS):
        begun = time.process_time()
        for _ in range(_ROUND):
            step()
        runs.append(_ROUND / (time.process_time() - begun))
    return Speed(what, statistics.median(runs), tuple(runs))


def record_sizes(work: Workload) -> dict[str, int]:
    """Return how large the record is: rows of the mapping, filled columns and bytes of JSON on both sides."""
    filled = [value for text in work.texts.values() for value in json.loads(text).values() if value is not None]
    return {"rows": len(work.desk.rows), "filled": len(filled), "bytes": sum(len(text) for text in work.texts.values())}
