"""Documents: a header with lines, which are one unit.

A line is a field of its document: its name is `line/` and the id that it has on the Dynamics side, its value the tuple of all its mapped
columns. So a line is merged, remembered by one fingerprint a side, refused, restored and explained as any other field is. The id is a
uuid5 of flow and Creatio line: whoever writes the line again writes the same one.
"""

import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

from shared.core.binding import Binding
from shared.core.census import mark_of
from shared.core.mapping import LineRow, Lines, ReferenceRow, Total
from shared.core.mapping import Mapping as FlowMapping
from shared.core.merge import Action, FieldDecision
from shared.core.plan import Desk, RecordPlan, plan_record
from shared.core.records import LinesOf, Row, Side, Value, is_empty

LINE = "line/"
"""Before the id of a line: the name under which its state stands among the fields of a binding."""
TOTALS = "totals"
"""The name under which a difference of totals is told."""
_NAMESPACE = uuid.UUID("f0c9c1b2-6f43-5d3a-9a53-5a3e0f2f5b77")
_GOING = (Action.WRITE, Action.NOTHING)
_CENT = Decimal("0.01")
_BLOCKING = (Action.PROBLEM, Action.PENDING, Action.CONFLICT)


def line_id(flow: str, creatio_line: str) -> str:
    """Return the id of the Dynamics line that stands for a line in Creatio."""
    return str(uuid.uuid5(_NAMESPACE, f"{flow}|{creatio_line}"))


def lines_of(mapping: FlowMapping, side: Side) -> LinesOf | None:
    """Return where the lines of a flow's documents stand on a side, None for a flow without lines."""
    if mapping.lines is None:
        return None
    end = mapping.lines.end(side)
    return LinesOf(end.entity, end.parent, mapping.lines.columns(side))


def lacks_lines(mapping: FlowMapping, side: Side, row: Row) -> bool:
    """Tell whether a record is no document yet: it has no line, and its flow wants one."""
    return side is Side.CREATIO and mapping.lines is not None and mapping.lines.needed and not row.lines


def with_lines(mapping: FlowMapping, side: Side, row: Row) -> Row:
    """Return a row with its lines among its values, each under its name."""
    lines = mapping.lines
    if lines is None:
        return row
    columns = lines.columns(side)
    found = {line_name(mapping, side, key): _tuple(line, columns) for key, line in row.lines.items()}
    return replace(row, values={**row.values, **found})


def line_name(mapping: FlowMapping, side: Side, key: str) -> str:
    """Return the name of a line by its id on a side."""
    return LINE + (line_id(mapping.flow, key) if side is Side.CREATIO else key)


def _tuple(line: Mapping[str, Value], columns: tuple[str, ...]) -> Value:
    """Return a line as one value; True stands first, so that a line of which nothing is filled is still there."""
    return (True, *(part for part in map(line.get, columns) if not isinstance(part, tuple)))


def desk_of(desk: Desk, binding: Binding | None, rows: Mapping[Side, Row]) -> Desk:
    """Return the desk of one document: its lines, those of both sides and those that were there once, are rows of the mapping."""
    if desk.mapping.lines is None:
        return desk
    known = list(binding.fields) if binding else []
    names = {name for name in [*known, *(name for row in rows.values() for name in row.values)] if name.startswith(LINE)}
    return replace(desk, line_keys=tuple(sorted(names)))


def referred_by_lines(mapping: FlowMapping, rows: Mapping[Side, Row]) -> Iterator[tuple[str, Side, str]]:
    """Yield the records, by flow, side and id, that the lines of a document in Creatio refer to."""
    row = rows.get(Side.CREATIO)
    if mapping.lines is None or row is None:
        return
    links = [one for one in mapping.lines.fields if isinstance(one, ReferenceRow) and one.flow is not None]
    for line in row.lines.values():
        for link in links:
            value = line.get(link.columns(Side.CREATIO)[0])
            if isinstance(value, str):
                yield str(link.flow), Side.CREATIO, value


def parted(columns: Mapping[str, Value], lines: Lines | None) -> tuple[dict[str, Value], dict[str, Mapping[str, Value] | None]]:
    """Part what is to be written into the header's columns and the lines', by their ids; a line to delete is None."""
    header = {name: value for name, value in columns.items() if not name.startswith(LINE)}
    if lines is None:
        return header, {}
    names = lines.columns(Side.DYNAMICS)
    written: dict[str, Mapping[str, Value] | None] = {}
    for name, value in columns.items():
        if name.startswith(LINE):
            written[name.removeprefix(LINE)] = dict(zip(names, value[1:], strict=True)) if isinstance(value, tuple) else None
    return header, written


def plan_document(
    desk: Desk,
    binding: Binding,
    rows: Mapping[Side, Row],
    overwritten: Mapping[str, Value] | None = None,
    leading: Mapping[str, Side] | None = None,
    named: Collection[str] = (),
) -> RecordPlan:
    """Plan a record; of a document all or nothing is written.

    What a server refused is not sent again by itself (law 13), but it goes along when the document is sent anyway: it was refused as a
    whole, and the rest of it is half. Only the fields that the server has just `named` stay out.
    """
    plan = plan_record(desk, binding, rows, overwritten, leading)
    if desk.line_keys:
        sides = {one.to for one in plan.of(Action.WRITE)}
        held = {one.row.key for one in plan.of(Action.HELD) if one.to in sides} - set(named)
        if held:
            fields = {key: state._replace(refused=None) if key in held else state for key, state in binding.fields.items()}
            plan = plan_record(desk, replace(binding, fields=fields), rows, overwritten, leading)
    return as_one(plan)


def as_one(plan: RecordPlan) -> RecordPlan:
    """Return a plan that writes nothing while one of the lines can't be written: no half document; what closes a record comes last."""
    plan = _closed_last(plan)
    if not plan.desk.line_keys:
        return plan
    stuck = any(isinstance(one.row, LineRow) and one.action in _BLOCKING for one in plan.decisions.values())
    if not stuck:
        return plan
    decisions = {key: FieldDecision(one.row, Action.NOTHING) if one.action is Action.WRITE else one for key, one in plan.decisions.items()}
    return replace(plan, decisions=decisions, repairs={})


def _closed_last(plan: RecordPlan) -> RecordPlan:
    """Return a plan that leaves a row for later which closes the record, and what goes with it, while something has to go before."""
    waits = any(one.action is Action.PENDING and one.to is Side.DYNAMICS for one in plan.decisions.values())
    stuck = {column for one in plan.decisions.values() if one.action not in _GOING for column in one.row.columns(Side.CREATIO)}
    later = [
        key
        for key, one in plan.decisions.items()
        if one.action is Action.WRITE
        and one.to is Side.DYNAMICS
        and ((waits and one.row.last) or (one.row.only_while is not None and one.row.only_while.column in stuck))
    ]
    if not later:
        return plan
    return replace(plan, decisions={**plan.decisions, **{key: FieldDecision(plan.decisions[key].row, Action.NOTHING) for key in later}})


def strangers(mapping: FlowMapping, binding: Binding, rows: Mapping[Side, Row]) -> int:
    """Count the lines on the Dynamics side that no line in Creatio stands for and that no write of ours has made."""
    dynamics, creatio = rows.get(Side.DYNAMICS), rows.get(Side.CREATIO)
    if mapping.lines is None or dynamics is None or creatio is None:
        return 0
    return sum(1 for name in dynamics.values if name.startswith(LINE) and name not in creatio.values and name not in binding.fields)


def mark_of_lines(binding: Binding) -> int:
    """Return the mark of the lines that a binding knows."""
    return mark_of(name for name in binding.fields if name.startswith(LINE))


def pruned(binding: Binding, rows: Mapping[Side, Row]) -> Binding:
    """Return a binding without the states of lines that are gone on both sides and of which nothing is open."""
    gone = [
        key
        for key, state in binding.fields.items()
        if key.startswith(LINE) and state.sent is None and not state.pending and all(is_empty(row.values.get(key)) for row in rows.values())
    ]
    return replace(binding, fields={key: state for key, state in binding.fields.items() if key not in gone}) if gone else binding


@dataclass(frozen=True)
class Difference:
    """Two totals that should be the same and are not."""

    creatio_columns: tuple[str, ...]
    creatio: Decimal
    dynamics_column: str
    dynamics: Decimal

    def __str__(self) -> str:
        """Tell both figures."""
        summed = " ".join(self.creatio_columns)
        return f"{summed} is {self.creatio:f} in Creatio, {self.dynamics_column} is {self.dynamics:f} in Dynamics"


def differences(mapping: FlowMapping, rows: Mapping[Side, Row]) -> list[Difference]:
    """Compare the totals of a document whose two rows were just read; an absent amount is 0."""
    found = []
    for total in mapping.totals:
        if total.of_lines and not rows[Side.CREATIO].lines:
            continue
        creatio = sum((_amount(rows[Side.CREATIO], name) for name in total.creatio), Decimal(0)) - _taken_off(total, rows[Side.CREATIO])
        dynamics = _amount(rows[Side.DYNAMICS], total.dynamics)
        if abs(creatio - dynamics) > total.tolerance:
            percent = (f"-{total.percent.column}%",) if total.percent else ()
            found.append(Difference((*total.creatio, *percent), creatio, total.dynamics, dynamics))
    return found


def _taken_off(total: Total, row: Row) -> Decimal:
    """Return what a percentage takes off a document in Creatio: of its first amount without the tax of its lines, to the cent."""
    if total.percent is None:
        return Decimal(0)
    without = sum((_number(line.get(total.percent.without)) for line in row.lines.values()), Decimal(0))
    part = (_amount(row, total.creatio[0]) - without) * _amount(row, total.percent.column) / 100
    return part.quantize(_CENT, ROUND_HALF_UP)


def _number(value: Value) -> Decimal:
    return Decimal(value) if isinstance(value, (int, Decimal)) else Decimal(0)


def _amount(row: Row, column: str) -> Decimal:
    """Return a column's amount, 0 for an empty one; with `-` before its name the opposite."""
    amount = _number(row.values.get(column.removeprefix("-")))
    return -amount if column.startswith("-") else amount
