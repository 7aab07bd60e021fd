"""The plan of a record that has no twin yet: what to create on the other side, and what the binding says before it is there."""

from collections.abc import Collection
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from datetime import datetime

from shared.core.binding import FieldState
from shared.core.mapping import AnyRow, LineRow, ReferenceRow
from shared.core.merge import Action, FieldDecision
from shared.core.plan import NOT_SAME, Desk, Printers, columns_of, disagreement
from shared.core.records import Row, Side, Value, is_empty
from shared.core.rules import Converted, State


@dataclass(frozen=True)
class CreatePlan:
    """A record to create on the other side: values by column, the field states of the intent, and the fields that can't go."""

    source: Side
    row: Row
    columns: MappingOf[str, Value]
    fields: MappingOf[str, FieldState]
    problems: tuple[FieldDecision, ...] = ()
    waits: tuple[FieldDecision, ...] = ()
    remarks: MappingOf[str, str] = field(default_factory=dict)
    """What is to be said of the values that are written, by row key."""

    @property
    def blocked(self) -> bool:
        """Tell whether the record can't be created: a required field, or a line, has a problem."""
        return any(problem.row.required or isinstance(problem.row, LineRow) for problem in self.told)

    @property
    def told(self) -> tuple[FieldDecision, ...]:
        """Return the problems that a person hears of: what differs behind a lookup counts once the record waits for nobody."""
        return tuple(problem for problem in self.problems if not (self.must_wait and problem.code == NOT_SAME))

    @property
    def must_wait(self) -> bool:
        """Tell whether a reference says that the record waits for another; one of a line always does."""
        return any(isinstance(row, LineRow) or (isinstance(row, ReferenceRow) and row.if_missing == "wait") for row in self._waiting)

    @property
    def _waiting(self) -> list[AnyRow]:
        return [wait.row for wait in self.waits]


def plan_create(desk: Desk, source: Side, row: Row, target_id: str, run: str, at: datetime, left_out: Collection[str] = ()) -> CreatePlan:
    """Prepare the creation of a record on the side opposite to its source; `left_out` names fields that the target refused."""
    target = source.other
    printers = Printers(desk, {source: row.id, target: target_id})
    fields: dict[str, FieldState] = {}
    values: dict[str, Value] = {}
    problems: list[FieldDecision] = []
    waits: list[FieldDecision] = []
    key_id = desk.keyring.current
    source_edge, target_edge = desk.edges[source], desk.edges[target]
    source_values = source_edge.values(row)
    source_prints = printers.of(source, key_id).print_all(source_edge.names, source_values)
    carried: list[tuple[int, Value]] = []
    remarks: dict[str, str] = {}
    for number, lane in enumerate(desk.lanes):
        rule, turn = lane.row, lane.to(target)
        if turn is None:
            continue
        if source is Side.CREATIO and (apart := disagreement(rule, row)) is not None:
            problems.append(apart)
            continue
        converted = turn(source_values[number], row.id)
        problem = _problem(rule, target, converted)
        if rule.key in left_out:
            fields[rule.key] = FieldState(lane.row_hash, key_id, refused=source_prints[number])
        elif problem is not None:
            problems.append(problem)
        elif converted.state is State.PENDING:
            bases = {source: source_prints[number], target: printers.print(target, key_id, rule, None)}
            fields[rule.key] = FieldState(
                lane.row_hash, key_id, creatio=bases[Side.CREATIO], dynamics=bases[Side.DYNAMICS], sent_to=target, pending=True
            )
            waits.append(FieldDecision(rule, Action.PENDING, to=target, waits_for=converted.waits_for))
        elif converted.state is State.VALUE and not is_empty(converted.value):
            carried.append((number, converted.value))
            remarks |= {rule.key: converted.code} if converted.code else {}
    if waits and target is Side.DYNAMICS:  # what closes a record follows with the links that it waits for
        carried = [(number, value) for number, value in carried if not desk.lanes[number].row.last]
    names = [target_edge.names[number] for number, _ in carried]
    target_prints = printers.of(target, key_id).print_all(names, [value for _, value in carried])
    for (number, value), sent in zip(carried, target_prints, strict=True):
        lane = desk.lanes[number]
        values[lane.key] = value
        fields[lane.key] = FieldState(
            lane.row_hash,
            key_id,
            sent=sent,
            sent_to=target,
            sent_source=source_prints[number],
            set_from=source,
            set_at=at,
            set_by_run=run,
        )
    columns = columns_of(desk.rows, values, target)
    columns = {name: part for name, part in columns.items() if part is not None}
    return CreatePlan(source, row, columns, fields, tuple(problems), tuple(waits), remarks)


def _problem(rule: AnyRow, target: Side, converted: Converted) -> FieldDecision | None:
    """Return what a person must mend before a field can go; a required one may not be empty."""
    if converted.state is State.PROBLEM:
        return FieldDecision(rule, Action.PROBLEM, to=target, code=converted.code, detail=converted.detail)
    if converted.state is State.VALUE and rule.required and is_empty(converted.value):
        return FieldDecision(rule, Action.PROBLEM, to=target, code="mapping.required", detail=rule.key)
    return None
