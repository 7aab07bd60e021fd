"""Compares every mapped field of every record of a flow on both sides, under its mapping: what the demo ends with.

The rows come from the stand-ins' control APIs, so that an adapter that reads wrongly can't hide it; only the metadata, the users and the
pairs of ids come from the app's own parts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from sandbox.control_client import Control
from sandbox.control_client import Row as StoredRow
from shared.core.binding import Binding, BindingState
from shared.core.document import desk_of, differences, referred_by_lines, with_lines
from shared.core.mapping import AnyRow, LineRow
from shared.core.plan import Desk, Lane, referred, value_on
from shared.core.records import Column, ColumnType, Entity, Row, Side, Stamp, normalise, path_of
from shared.core.rules import State, convert, same
from shared.core.scope import in_scope
from shared.core.work import FlowSettings
from shared.engine.desk import open_desk, with_references
from shared.engine.services import Services

_NO_STAMP: Final = Stamp(datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Difference:
    """A field that is not the same on both sides, or (without `field`) a record that has no partner."""

    record: str
    field: str
    creatio: Any = None
    dynamics: Any = None

    def __str__(self) -> str:
        """Return one line for people."""
        if not self.field:
            return f"{self.record}: is in one system only"
        return f"{self.record}: {self.field}: Creatio has {self.creatio!r}, Dynamics has {self.dynamics!r}"


@dataclass(frozen=True)
class Comparison:
    """The result: how many records and fields were compared, how many were left as each side has them by the mapping's own word.

    A line of a document is one field of it.
    """

    records: int
    fields: int
    kept: int
    differences: tuple[Difference, ...]


async def compare(services: Services, flow: str, creatio: Control, dynamics: Control) -> Comparison:
    """Read both sides of a flow whole and compare them; every record must have its partner."""
    mapping = services.mapping(flow)
    desk, unknown = await open_desk(services, mapping, FlowSettings(flow))
    if unknown:
        raise LookupError(f"the mapping names columns that are not there: {', '.join(sorted(unknown))}")
    rows = {
        Side.CREATIO: await _rows(creatio, desk.context.entities[Side.CREATIO], "Id", without_null=True),
        Side.DYNAMICS: await _rows(dynamics, desk.context.entities[Side.DYNAMICS], f"{mapping.dynamics.entity}id", without_null=False),
    }
    if mapping.lines is not None and desk.line_context is not None:
        for side, control in ((Side.CREATIO, creatio), (Side.DYNAMICS, dynamics)):
            rows[side] = await _with_lines(desk, side, control, rows[side])
    by_side = [await services.ledger.bindings(flow, side, list(rows[side])) for side in Side]
    bindings = list({(one.creatio_id, one.dynamics_id): one for found in by_side for one in found.values()}.values())
    known = [{side: row} for side in Side for row in rows[side].values()]
    asked = [(*referred(desk, None, one, {}), *referred_by_lines(mapping, one)) for one in known]
    desk = await with_references(services, desk, asked)
    pairs = [pair for binding in bindings if (pair := _pair(binding, rows)) is not None]
    left_out = _left_out(desk, rows, bindings)
    lonely = _without_partner(rows, pairs, left_out)
    compared = [found for pair in pairs for found in _compare_pair(desk, pair)]
    different = [found for found in compared if isinstance(found, Difference)]
    return Comparison(len(pairs), len(compared), compared.count(None), (*lonely, *different))


async def _with_lines(desk: Desk, side: Side, control: Control, documents: dict[str, Row]) -> dict[str, Row]:
    """Return documents with their lines, as the engine holds them."""
    lines, context = desk.mapping.lines, desk.line_context
    assert lines is not None  # noqa: S101 - the caller looked
    assert context is not None  # noqa: S101 - the caller looked
    end, entity = lines.end(side), context.entities[side]
    key = "Id" if side is Side.CREATIO else f"{end.entity}id"
    parents = {str(raw[key]).lower(): str(raw[end.parent]).lower() for raw in await control.rows(end.entity)}
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for line in (await _rows(control, entity, key, without_null=side is Side.CREATIO)).values():
        found.setdefault(parents[line.id], {})[line.id] = line.values
    return {row_id: with_lines(desk.mapping, side, replace(row, lines=found.get(row_id, {}))) for row_id, row in documents.items()}


async def _rows(control: Control, entity: Entity, id_column: str, *, without_null: bool) -> dict[str, Row]:
    """Return the stored rows of a side by id, in normal form; columns behind lookups are looked up there."""
    found = {}
    behind = {path[0]: await _behind(control, entity, path[0], without_null) for path in filter(None, map(path_of, entity.columns))}
    for raw in await control.rows(entity.name):
        values = {
            name: normalise(_shown(_found(raw, name, behind, without_null), column, without_null), column, without_null)
            for name, column in entity.columns.items()
        }
        row_id = str(raw[id_column]).lower()
        found[row_id] = Row(row_id, _NO_STAMP, values)
    return found


async def _behind(control: Control, entity: Entity, navigation: str, without_null: bool) -> dict[str, StoredRow]:
    """Return the stored rows by id that a navigation leads to."""
    lookup = entity.columns.get(_lookup(navigation, without_null))
    table = lookup.targets[0] if lookup is not None and lookup.targets else navigation
    return {str(raw["Id" if without_null else f"{table}id"]).lower(): raw for raw in await control.rows(table)}


def _found(raw: Mapping[str, Any], name: str, behind: Mapping[str, Mapping[str, StoredRow]], without_null: bool) -> Any:
    """Return what a row holds in a column or, where its name is a path, what the row behind its lookup holds."""
    path = path_of(name)
    if path is None:
        return _stored(raw, name)
    there = behind[path[0]].get(str(_stored(raw, _lookup(path[0], without_null)) or "").lower())
    return None if there is None else _stored(there, path[1])


def _lookup(navigation: str, without_null: bool) -> str:
    """Return the column of a navigation: Creatio's has `Id` at its end."""
    return f"{navigation}Id" if without_null else navigation


def _stored(raw: Mapping[str, Any], name: str) -> Any:
    """Return a stored value; a lookup named by its navigation property (`parentcustomerid_account`) is empty when it leads elsewhere."""
    lookup, _, target = name.rpartition("_")
    if name not in raw and f"{lookup}__type" in raw:
        return raw[lookup] if raw[f"{lookup}__type"] == target else None
    return raw.get(name)


def _shown(stored: Any, column: Column, without_null: bool) -> Any:
    """Return a stored value as the server shows it: no yes/no is no in Creatio (creatio.md 2.2); a number as its shortest decimal."""
    if stored is None and without_null and column.type is ColumnType.BOOLEAN:
        return False
    return Decimal(repr(stored)) if isinstance(stored, float) else stored


def _pair(binding: Binding, rows: dict[Side, dict[str, Row]]) -> dict[Side, Row] | None:
    pair = {side: rows[side].get(binding.id_on(side) or "") for side in Side}
    whole = {side: row for side, row in pair.items() if row is not None}
    return whole if binding.state is BindingState.BOUND and len(whole) == len(Side) else None


def _left_out(desk: Desk, rows: dict[Side, dict[str, Row]], bindings: Iterable[Binding]) -> dict[Side, set[str]]:
    """Return the records that are alone by the flow's own rules: out of its scope, or left by a binding that has ended."""
    left_out = {side: {one.id for one in rows[side].values() if not in_scope(desk.mapping, side, one, desk.context)} for side in Side}
    for binding in bindings:
        if binding.state is BindingState.ENDED:
            for side in Side:
                left_out[side].add(binding.id_on(side) or "")
    return left_out


def _without_partner(
    rows: dict[Side, dict[str, Row]], pairs: Sequence[dict[Side, Row]], left_out: dict[Side, set[str]]
) -> list[Difference]:
    paired = {side: {pair[side].id for pair in pairs} | left_out[side] for side in Side}
    return [Difference(f"{side.value} {row_id}", "") for side in Side for row_id in rows[side] if row_id not in paired[side]]


def _compare_pair(desk: Desk, pair: dict[Side, Row]) -> list[Difference | bool | None]:
    """Compare every field, line and total of a pair; totals that part are a difference like any other."""
    own = desk_of(desk, None, pair)
    fields = [_compare_field(own, row, pair) for row in desk.rows]
    lines = [_compare_line(own, lane, pair) for lane in own.lanes if isinstance(lane.row, LineRow)]
    totals = [Difference(_name(desk, pair), one.dynamics_column, one.creatio, one.dynamics) for one in differences(desk.mapping, pair)]
    return [*fields, *lines, *totals]


def _compare_line(desk: Desk, lane: Lane, pair: dict[Side, Row]) -> Difference | bool:
    """Return True for a line that is the same on both sides; those that one side lacks differ."""
    assert lane.to_dynamics is not None  # noqa: S101 - lines go to Dynamics
    values = {side: pair[side].values.get(lane.key) for side in Side}
    converted = lane.to_dynamics(values[Side.CREATIO], "")
    if converted.state is State.VALUE and same(lane.row, converted.value, values[Side.DYNAMICS]):
        return True
    return Difference(_name(desk, pair), lane.key, values[Side.CREATIO], values[Side.DYNAMICS])


def _name(desk: Desk, pair: dict[Side, Row]) -> str:
    return f"{value_on(desk.rows[0], Side.CREATIO, pair[Side.CREATIO])} ({pair[Side.CREATIO].id})"


def _compare_field(desk: Desk, row: AnyRow, pair: dict[Side, Row]) -> Difference | bool | None:
    """Return True for an equal field, None for one that the mapping says to leave, else the difference."""
    values = {side: value_on(row, side, pair[side]) for side in Side}
    outcomes = []
    for side in Side:
        if not row.writes(side.other):
            continue
        converted = convert(row, side, values[side], pair[side].id, desk.context)
        if converted.state is State.VALUE and same(row, converted.value, values[side.other]):
            return True
        outcomes.append(converted.state)
    if State.KEPT in outcomes:
        return None
    return Difference(_name(desk, pair), row.key, values[Side.CREATIO], values[Side.DYNAMICS])


def shown(differences: Iterable[Difference], most: int = 20) -> list[str]:
    """Return the first differences as lines for people."""
    lines = [str(difference) for difference in differences]
    return lines[:most] + ([f"... and {len(lines) - most} more"] if len(lines) > most else [])
