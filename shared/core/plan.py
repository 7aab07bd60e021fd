"""The plan of one record: what each field needs, and what the binding says before and after the writes.

A plan is data. `plan_record` merges a bound record (`plan_create` prepares a new one); `intent` is the binding to keep before writing,
`recorded` the binding after it, `refused` the binding after the target said no.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import NamedTuple

from shared.core.binding import Binding, BindingState, FieldState
from shared.core.fingerprint import Keyring, RecordPrinter, framed_name
from shared.core.mapping import AnyRow, LineRow, Mapping, MappingSet, ReferenceRow
from shared.core.merge import Action, Face, FieldDecision, Question, cleared, decide, intended, joined_hash, tally
from shared.core.records import SIDES, Row, Side, Stamp, Value, is_empty
from shared.core.rules import Context, Converted, conversion, line_conversion, same
from shared.core.scope import unmet

NOT_SAME = "mapping.not_same"


@dataclass(frozen=True)
class Desk:
    """What every plan of a flow is made with."""

    mappings: MappingSet
    mapping: Mapping
    context: Context
    keyring: Keyring
    dropped: frozenset[str] = frozenset()
    """Keys of rows that name a column the live system does not have; they are left out (law 13)."""
    closed: frozenset[Side] = frozenset()
    """Sides that nothing is written to: an operator switched the direction off."""
    at: datetime | None = None
    """The present moment, by which the writes of the last hour are counted (law 14)."""
    away: MappingOf[str, str] = field(default_factory=dict)
    """By row key, since when a row is new because one of its columns was away for a while: it may have come back empty."""
    line_context: Context | None = None
    """The live entities of a document's lines."""
    line_keys: tuple[str, ...] = ()
    """The lines of the one document that this desk is for, as names of rows (`core.document`)."""

    @cached_property
    def rows(self) -> list[AnyRow]:
        """Return the rows that can be synced; those of a document's lines come last."""
        lines = [LineRow(creatio=key, way=">", dynamics=key) for key in self.line_keys]
        return [*(_named(row, self.context) for row in self.mapping.fields if row.key not in self.dropped), *lines]

    def columns(self, side: Side) -> list[str]:
        """Return the columns to read on a side: those of the mapping that the live system has."""
        missing = self.context.entities[side].missing
        return [column for column in self.mapping.columns(side) if column not in missing]

    @cached_property
    def lanes(self) -> tuple["Lane", ...]:
        """Return the rows with what the plan of every record asks of them, worked out once."""
        lanes = (Lane.of(row, self.hashes[row.key], self.mapping.owner_of(row), self.context) for row in self._plain)
        return (*lanes, *self._line_lanes())

    @property
    def _plain(self) -> list[AnyRow]:
        return [row for row in self.rows if not isinstance(row, LineRow)]

    def _line_lanes(self) -> Iterator["Lane"]:
        lines = self.mapping.lines
        if not self.line_keys or lines is None or self.line_context is None:
            return
        turn = line_conversion(lines, replace(self.line_context, references=self.context.references))
        line_hash = self.mappings.line_hash(self.mapping.flow)
        for row in self.rows:
            if isinstance(row, LineRow):
                yield Lane(row, row.key, line_hash, Side.CREATIO.value, turn, None)

    @cached_property
    def tested(self) -> list[AnyRow]:
        """Return the rows whose value counts only where two columns of the Creatio record are equal."""
        return [row for row in self.rows if row.same is not None]

    @cached_property
    def links(self) -> "Desk":
        """Return a desk that knows only the rows that refer to records of flows."""
        others = (row.key for row in self.rows if not (isinstance(row, ReferenceRow) and row.flow is not None))
        return replace(self, dropped=self.dropped.union(others))

    @cached_property
    def edges(self) -> dict[Side, "Edge"]:
        """Return both sides of the lanes, worked out once."""
        return {side: Edge.of(self.rows, side) for side in SIDES}

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Return the row hashes by row key; a column that was away makes another one, so that what was known of it is verified."""
        hashes = self.mappings.row_hashes[self.mapping.flow]
        return {key: joined_hash(row_hash, self.away.get(key, "")) for key, row_hash in hashes.items()}


def _named(row: AnyRow, context: Context) -> AnyRow:
    """Return a row whose condition names stored values beside their labels: records hold the values."""
    if row.only_while is None:
        return row
    labels = context.column(Side.CREATIO, row.only_while.column).options
    stored = tuple(value for value, label in labels.items() if label in row.only_while.any_of)
    return row.model_copy(update={"only_while": row.only_while.model_copy(update={"any_of": (*row.only_while.any_of, *stored)})})


@dataclass(frozen=True)
class Lane:
    """One row of a desk, with its name in bindings, its hash, its owner and what turns its values into the other side's."""

    row: AnyRow
    key: str
    row_hash: str
    owner: str
    to_dynamics: Callable[[Value, str], Converted] | None
    to_creatio: Callable[[Value, str], Converted] | None
    """None where the row's way does not lead to the side."""

    def to(self, side: Side) -> Callable[[Value, str], Converted] | None:
        """Return what turns the other side's values into those of a side."""
        return self.to_dynamics if side is Side.DYNAMICS else self.to_creatio

    @classmethod
    def of(cls, row: AnyRow, row_hash: str, owner: str, context: Context) -> "Lane":
        """Return the lane of a row."""
        to = {side: conversion(row, side.other, context) if row.writes(side) else None for side in SIDES}
        return cls(row, row.key, row_hash, owner, to[Side.DYNAMICS], to[Side.CREATIO])


@dataclass(frozen=True)
class Edge:
    """One side of a desk's lanes, in their order: where their values stand and the names that their fingerprints go by."""

    side: Side
    rows: Sequence[AnyRow]
    columns: tuple[str | None, ...]
    """The one column of each row, None where it has none or joins several."""
    names: tuple[bytes, ...]

    @classmethod
    def of(cls, rows: Sequence[AnyRow], side: Side) -> "Edge":
        """Return the edge of rows."""
        columns = tuple(row.columns(side)[0] if _is_plain(row, side) else None for row in rows)
        return cls(side, rows, columns, tuple(framed_name(_printed_name(row, side)) for row in rows))

    def values(self, record: Row) -> list[Value]:
        """Return the values of a record, a row each."""
        get = record.values.get
        pairs = zip(self.columns, self.rows, strict=True)
        return [get(column) if column is not None else value_on(row, self.side, record) for column, row in pairs]


@dataclass(frozen=True)
class RecordPlan:
    """The decisions for one bound record. Fields without a decision are unchanged."""

    desk: Desk
    binding: Binding
    rows: MappingOf[Side, Row]
    decisions: MappingOf[str, FieldDecision]
    questions: MappingOf[str, Question]
    withheld: bool = False
    """True when a write was left out because the direction is switched off or the record is out of its scope."""
    repairs: MappingOf[str, Value] = field(default_factory=dict)
    """Creatio values that our own write covered and that win after all: written back (law 8)."""

    @cached_property
    def printers(self) -> "Printers":
        """Return what makes the record's fingerprints."""
        return _printers(self.desk, self.binding)

    def fields_to(self, side: Side) -> dict[str, Value]:
        """Return the fields to write on a side: row key to value."""
        written = {k: d.value for k, d in self.decisions.items() if d.action is Action.WRITE and d.to is side}
        return {**written, **self.repairs} if side is Side.CREATIO else written

    @property
    def remarks(self) -> dict[str, str]:
        """Return what is to be said of the values that are written, by row key."""
        return {decision.row.key: decision.code for decision in self.of(Action.WRITE) if decision.code}

    def of(self, action: Action) -> list[FieldDecision]:
        """Return the decisions of one kind."""
        return [decision for decision in self.decisions.values() if decision.action is action]

    @property
    def writes(self) -> bool:
        """Tell whether anything is to be written."""
        return bool(self.repairs) or any(d.action is Action.WRITE for d in self.decisions.values())

    @property
    def restores(self) -> bool:
        """Tell whether every write puts something back on a receiving side."""
        written = self.of(Action.WRITE)
        return bool(written) and all(decision.restores for decision in written)


def columns_of(rows: Collection[AnyRow], fields: MappingOf[str, Value], side: Side) -> dict[str, Value]:
    """Spread row values over the columns of a side."""
    by_key = {row.key: row for row in rows}
    columns: dict[str, Value] = {}
    for key, value in fields.items():
        if isinstance(by_key[key], LineRow):  # its column holds the whole line
            columns[key] = value
            continue
        parts = value if isinstance(value, tuple) else (value,)
        columns.update(zip(by_key[key].columns(side), parts, strict=True))
    return columns


def _is_plain(row: AnyRow, side: Side) -> bool:
    """Tell whether a row's value on a side is that of one column, whatever the others hold."""
    return bool(row.columns(side)) and not row.is_joined(side) and not row.asks_of(side)


def value_on(row: AnyRow, side: Side, record: Row | None) -> Value:
    """Return a row's value on one side of a record; a tuple where the side joins several columns."""
    if record is None or (row.conditions and side is Side.CREATIO and not row.counts(record.values.get)):
        return None
    columns = row.columns(side)
    if row.instead and side is Side.DYNAMICS and not is_empty(found := record.values.get(row.instead)):
        return found
    if row.is_joined(side):
        return tuple(part for part in map(record.values.get, columns) if not isinstance(part, tuple))
    return record.values.get(columns[0]) if columns else None


class Printers:
    """Makes fingerprints of one record, by side and key, each printer once."""

    def __init__(self, desk: Desk, ids: MappingOf[Side, str]) -> None:
        self._desk = desk
        self._ids = ids
        self._made: dict[tuple[Side, str], RecordPrinter] = {}

    def of(self, side: Side, key_id: str) -> RecordPrinter:
        """Return the printer of a side under a key."""
        printer = self._made.get((side, key_id))
        if printer is None:
            printer = RecordPrinter(self._desk.keyring.key(key_id), self._desk.mapping.flow, side, self._ids[side])
            self._made[side, key_id] = printer
        return printer

    def print(self, side: Side, key_id: str, row: AnyRow, value: Value) -> str:
        """Return the fingerprint of a row's value on a side, under a key."""
        return self.of(side, key_id).print(_printed_name(row, side), value)


def _printed_name(row: AnyRow, side: Side) -> str:
    return ",".join(row.columns(side))


def _printers(desk: Desk, binding: Binding) -> Printers:
    return Printers(desk, {side: binding.id_on(side) or "" for side in Side})


def plan_record(
    desk: Desk,
    binding: Binding,
    rows: MappingOf[Side, Row],
    overwritten: MappingOf[str, Value] | None = None,
    leading: MappingOf[str, Side] | None = None,
) -> RecordPlan:
    """Merge a record whose both rows were just read.

    `overwritten`: Creatio values that our last write covered (law 8). `leading`: by row key, or under "" for every row, the side
    whose value counts whatever the bases say.
    """
    printers = _printers(desk, binding)
    decisions: dict[str, FieldDecision] = {}
    questions: dict[str, Question] = {}
    repairs: dict[str, Value] = {}
    covered = overwritten or {}
    for pair in _out_of_step(desk, printers, binding, rows, covered):
        key = pair.lane.key
        leader = (leading.get(key) or leading.get("")) if leading else None
        questions[key] = question = _question(desk, printers, binding.fields.get(key), rows, pair, leader)
        decisions[key] = decide(question)
    decisions |= {row.key: problem for row in desk.tested if (problem := disagreement(row, rows[Side.CREATIO]))}
    left = {side for side in SIDES if _has_left(desk, side.other, rows[side.other], decisions.values())}
    withheld = [key for key, one in decisions.items() if _is_withheld(one, left, desk.closed)]
    decisions |= {key: FieldDecision(decisions[key].row, Action.NOTHING) for key in withheld}
    for key in covered.keys() & decisions.keys():
        if not (decisions[key].action is Action.WRITE and decisions[key].to is Side.CREATIO):
            repairs[key] = covered[key]
    return RecordPlan(desk, binding, rows, decisions, questions, bool(withheld), repairs)


def _is_withheld(decision: FieldDecision, left: Collection[Side], closed: Collection[Side]) -> bool:
    """Tell whether a decision is not followed; what will not be written has no problem either, and waits for nothing."""
    action, to = decision.action, decision.to
    return (action is Action.WRITE and to in closed) or (action in (Action.WRITE, Action.PROBLEM, Action.PENDING) and to in left)


def _has_left(desk: Desk, source: Side, row: Row, decisions: Collection[FieldDecision]) -> bool:
    """Tell whether a bound record takes no part in the direction away from `source`; one that finishes does so once more."""
    left = [condition for condition in unmet(desk.mapping, source, row, desk.context) if condition.then != "go_on"]
    told = {column for one in decisions if one.action is Action.WRITE and one.to is source.other for column in one.row.columns(source)}
    return any(condition.then == "stop" or condition.column not in told for condition in left)


def disagreement(row: AnyRow, creatio: Row) -> FieldDecision | None:
    """Return the problem of a row whose two columns differ in a Creatio record: nothing is written either way, and what is known stays."""
    if row.same is None or row.agrees(creatio.values.get):
        return None
    return FieldDecision(row, Action.PROBLEM, to=Side.DYNAMICS, code=NOT_SAME, detail=" and ".join(row.same))


def referred(
    desk: Desk, binding: Binding | None, rows: MappingOf[Side, Row], covered: MappingOf[str, Value]
) -> Iterator[tuple[str, Side, str]]:
    """Yield the records, by flow, side and id, that the plan of a record may ask the twins of: in a bound one only where a link moved."""
    links = desk.links
    if binding is not None and binding.state is not BindingState.REFUSED and len(rows) == len(SIDES):
        pairs = _out_of_step(links, _printers(desk, binding), binding, rows, covered)
        found = [(pair.lane.row, side, value) for pair in pairs for side, value in zip(SIDES, (pair.creatio, pair.dynamics), strict=True)]
    else:
        found = [
            (rule, side, value) for side, row in rows.items() for rule, value in zip(links.rows, links.edges[side].values(row), strict=True)
        ]
    for rule, side, value in found:
        if isinstance(rule, ReferenceRow) and rule.flow is not None and isinstance(value, str):
            yield rule.flow, side, value


class _Pair(NamedTuple):
    """A field's values on both sides, and their fingerprints under the current key."""

    lane: Lane
    creatio: Value
    dynamics: Value
    creatio_print: str
    dynamics_print: str


def _out_of_step(
    desk: Desk, printers: Printers, binding: Binding, rows: MappingOf[Side, Row], covered: MappingOf[str, Value]
) -> Iterator[_Pair]:
    """Yield the fields that raise a question.

    Nearly every field of every record read is in step, so this loop is most of what the core does: it makes nothing it can do without.
    """
    key_id, states = desk.keyring.current, binding.fields
    here, there = (desk.edges[side].values(rows[side]) for side in SIDES)
    if covered:
        here = [covered.get(lane.key, value) for lane, value in zip(desk.lanes, here, strict=True)]
    printed_here = printers.of(Side.CREATIO, key_id).print_all(desk.edges[Side.CREATIO].names, here)
    printed_there = printers.of(Side.DYNAMICS, key_id).print_all(desk.edges[Side.DYNAMICS].names, there)
    for number, lane in enumerate(desk.lanes):
        state, creatio_print, dynamics_print = states.get(lane.key), printed_here[number], printed_there[number]
        if (
            state is not None
            and state.creatio == creatio_print
            and state.dynamics == dynamics_print
            and state.row_hash == lane.row_hash
            and state.key_id == key_id
            and state.sent is None
            and state.refused is None
            and not state.pending
            and lane.key not in covered
        ):
            continue
        yield _Pair(lane, here[number], there[number], creatio_print, dynamics_print)


def _question(
    desk: Desk, printers: Printers, state: FieldState | None, rows: MappingOf[Side, Row], pair: _Pair, leading: Side | None
) -> Question:
    lane, row, key_id = pair.lane, pair.lane.row, desk.keyring.current
    creatio_print, dynamics_print = pair.creatio_print, pair.dynamics_print
    if state is not None and state.key_id != key_id:
        creatio_print = printers.print(Side.CREATIO, state.key_id, row, pair.creatio)
        dynamics_print = printers.print(Side.DYNAMICS, state.key_id, row, pair.dynamics)
    here, there = rows[Side.CREATIO], rows[Side.DYNAMICS]
    to_dynamics = partial(lane.to_dynamics, pair.creatio, here.id) if lane.to_dynamics else None
    to_creatio = partial(lane.to_creatio, pair.dynamics, there.id) if lane.to_creatio else None
    creatio = Face(pair.creatio, pair.creatio_print, creatio_print, to_dynamics, here.changed_by_us)
    dynamics = Face(pair.dynamics, pair.dynamics_print, dynamics_print, to_creatio, there.changed_by_us)
    return Question(row, lane.owner, lane.row_hash, key_id, state, creatio, dynamics, leading, desk.at)


def intent(plan: RecordPlan, run: str, at: datetime) -> Binding:
    """Return the binding to save before the plan's writes: what is settled, and what is about to be sent (law 4)."""
    fields = dict(plan.binding.fields)
    for key, decision in plan.decisions.items():
        if decision.action is Action.WRITE and decision.to is not None:
            question = plan.questions[key]
            key_id = decision.state.key_id if decision.state else question.key_id
            sent = plan.printers.print(decision.to, key_id, decision.row, decision.value)
            state = intended(question, decision.state, decision.to, sent)
            fields[key] = state._replace(set_from=decision.to.other, set_at=at, set_by_run=run)
        elif decision.state is not None:
            fields[key] = decision.state
    return replace(plan.binding, fields=fields)


def recorded(plan: RecordPlan, written: MappingOf[Side, Row], run: str, at: datetime) -> tuple[Binding, bool]:
    """Return the binding after the plan's writes, and whether a side moved meanwhile so that it must be looked at again.

    `written` holds the rows that the writes returned. Bases are what the rows hold; a field that differs from the value sent is a
    normalisation when we changed the row last, else a user's edit that came after (laws 4 and 8).
    """
    fields = dict(plan.binding.fields)
    moved = dict.fromkeys(SIDES, False)
    edges = plan.desk.edges
    seen = [(side, edges[side].values(record), _planned(plan, side)) for side, record in written.items()]
    for number, lane in enumerate(plan.desk.lanes):
        decision = plan.decisions.get(lane.key)
        to = decision.to if decision is not None and decision.action is Action.WRITE else None
        for side, found, planned in seen:
            if side is not to and found[number] != planned[number] and not same(lane.row, found[number], planned[number]):
                moved[side] = True
        if decision is None:
            continue
        if to is not None and to in written:
            state, edited = _after_write(plan, decision, written[to], run, at)
            fields[lane.key] = state
            moved[to] = moved[to] or edited
        elif to is None and decision.state is not None:
            fields[lane.key] = decision.state
    creatio_stamp, dynamics_stamp = (_stamp(plan, written, side, moved=moved[side]) for side in SIDES)
    binding = replace(
        plan.binding,
        state=BindingState.BOUND,
        fields=fields,
        creatio_stamp=creatio_stamp,
        dynamics_stamp=dynamics_stamp,
        source=None,
        owner_batch="",
        deadline=None,
        reserved=(),
    )
    return binding, any(moved.values())


def _planned(plan: RecordPlan, side: Side) -> list[Value]:
    """Return what a plan leaves in the fields of a side that it does not write; a value that our own write covered is put back."""
    values = plan.desk.edges[side].values(plan.rows[side])
    if side is Side.CREATIO and plan.repairs:
        return [plan.repairs.get(lane.key, value) for lane, value in zip(plan.desk.lanes, values, strict=True)]
    return values


def _after_write(plan: RecordPlan, decision: FieldDecision, record: Row, run: str, at: datetime) -> tuple[FieldState, bool]:
    assert decision.to is not None  # noqa: S101 - only called for a write
    question, to, row = plan.questions[decision.row.key], decision.to, decision.row
    found = value_on(row, to, record)
    edited = not record.changed_by_us and not same(row, found, decision.value)
    prints = {
        to: plan.printers.print(to, question.key_id, row, decision.value if edited else found),
        to.other: question.face(to.other).print,
    }
    writes, since = tally(decision, question.state, at)
    state = FieldState(
        row_hash=question.row_hash,
        key_id=question.key_id,
        creatio=prints[Side.CREATIO],
        dynamics=prints[Side.DYNAMICS],
        set_from=to.other,
        set_at=at,
        set_by_run=run,
        writes=writes,
        writes_since=since,
        earlier=question.state.earlier if question.state and question.state.key_id == question.key_id else (),
    )
    return state, edited


def _stamp(plan: RecordPlan, written: MappingOf[Side, Row], side: Side, *, moved: bool) -> Stamp | None:
    """Return the stamp to keep: that of the row seen last, unless it holds an edit that was not looked at yet."""
    if moved:
        return plan.binding.stamp_on(side)
    return written[side].stamp if side in written else plan.rows[side].stamp


def refused(plan: RecordPlan, binding: Binding, side: Side, keys: Collection[str]) -> Binding:
    """Return the binding after a side refused fields: nothing is open, and these source values are not sent again (law 13).

    A reference that had waited still waits: by its bases nothing changed, so nothing else would say that it was never written.
    """
    fields = dict(binding.fields)
    for key in keys:
        question = plan.questions.get(key)
        state = fields.get(key)
        if question is None or state is None:
            continue
        waits_on = side if state.pending else None
        fields[key] = cleared(state)._replace(refused=question.face(side.other).stored_print, sent_to=waits_on)
    return replace(binding, fields=fields)
