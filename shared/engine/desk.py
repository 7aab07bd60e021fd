"""The desk of a flow: live metadata of both sides, users, and the bindings of the records that its rows refer to."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

from shared.core.binding import Binding, BindingState
from shared.core.errors import Rejected, Stale, TandemError
from shared.core.mapping import Lines, ReferenceRow
from shared.core.mapping import Mapping as FlowMapping
from shared.core.plan import Desk
from shared.core.records import Entity, Row, Side
from shared.core.rules import ENDED, Context
from shared.core.work import FlowSettings, Pin
from shared.engine.ports import System
from shared.engine.services import Services

_MERGES = 5
"""Merges of merged records that are followed."""


def away_pin(flow: str, key: str) -> str:
    """Return the name under which it is kept since when a column of a row was away."""
    return f"away:{flow}:{key}"


@contextmanager
def no_column_gone(system: System, entity: str) -> Iterator[None]:
    """Turn a refusal of a column that was there when the desk was opened into Stale: it is no empty value."""
    try:
        yield
    except Rejected as error:
        raise _column_gone(system, entity) if error.code.endswith(".unknown_column") else error from None


def check_complete(system: System, entity: str, columns: Collection[str], rows: Iterable[Row | TandemError]) -> None:
    """Raise Stale when a row lacks one of the columns that were asked for."""
    wanted = set(columns)
    if any(isinstance(row, Row) and not row.values.keys() >= wanted for row in rows):
        raise _column_gone(system, entity)


def _column_gone(system: System, entity: str) -> Stale:
    return Stale(f"{system.name}.changed_meanwhile", "a column was removed", system=system.name, entity=entity)


async def open_desk(
    services: Services, mapping: FlowMapping, settings: FlowSettings, pins: Mapping[str, Pin] | None = None
) -> tuple[Desk, dict[str, TandemError]]:
    """Describe both sides and read the users; rows that name an unknown column are dropped, each with its error (law 13).

    An optional row is dropped without one: its column comes with a licence that not everybody has.
    """
    creatio, dynamics = await asyncio.gather(*(_describe(services, mapping, side) for side in Side))
    entities = {Side.CREATIO: creatio, Side.DYNAMICS: dynamics}
    users: dict[Side, Mapping[str, str]] = {}
    if any(isinstance(row, ReferenceRow) and row.users for row in mapping.fields):
        found = await asyncio.gather(*(services.system(mapping, side).users() for side in Side))
        users = dict(zip(Side, found, strict=True))
    errors: dict[str, TandemError] = {}
    absent: dict[str, TandemError] = {}
    for row in mapping.fields:
        for side in Side:
            missing = [column for column in (*row.columns(side), *row.asks_of(side)) if column in entities[side].missing]
            if missing:
                system = mapping.system(side)
                error = Rejected(f"{system}.unknown_column", missing[0], system=system, entity=mapping.entity(side), field=row.key)
                (absent if row.optional else errors)[row.key] = error
    context = Context(entities, services.mappings.values, {}, users, services.limits.default_owner)
    line_context = replace(context, entities=await _describe_lines(services, mapping, mapping.lines)) if mapping.lines else None
    closed = {Side.DYNAMICS: not settings.to_dynamics, Side.CREATIO: not settings.to_creatio}
    shut = frozenset(side for side in Side if closed[side])
    away = {row.key: pin.value for row in mapping.fields if (pin := (pins or {}).get(away_pin(mapping.flow, row.key)))}
    desk = Desk(
        services.mappings, mapping, context, services.keyring, frozenset({*errors, *absent}), shut, services.clock(), away, line_context
    )
    return desk, errors


async def with_references(services: Services, desk: Desk, records: Iterable[Iterable[tuple[str, Side, str]]]) -> Desk:
    """Return the desk with the bindings of every record that records refer to (`core.plan.referred`)."""
    wanted: dict[tuple[str, Side], set[str]] = {}
    for flow, side, record_id in chain.from_iterable(records):
        wanted.setdefault((flow, side), set()).add(record_id)
    if not wanted:
        return desk
    found = await asyncio.gather(*(services.ledger.bindings(flow, side, ids) for (flow, side), ids in wanted.items()))
    references = dict(desk.context.references)
    for (flow, side), bindings in zip(wanted, found, strict=True):
        for record_id, binding in bindings.items():
            other = binding.id_on(side.other)
            if binding.state is BindingState.ENDED:
                references[flow, side, record_id] = await _heir(services, flow, side, binding) or ENDED
            elif binding.state is BindingState.BOUND and other:
                references[flow, side, record_id] = other
    return replace(desk, context=replace(desk.context, references=references))


async def _heir(services: Services, flow: str, side: Side, binding: Binding) -> str | None:
    """Return the other side's id of the record into which an ended one was merged, as far as that is bound."""
    for _ in range(_MERGES):
        if not binding.merged_into:
            return None
        heirs = await services.ledger.bindings(flow, Side.DYNAMICS, [binding.merged_into])
        heir = heirs.get(binding.merged_into)
        if heir is None or heir.state is BindingState.BOUND:
            return heir.id_on(side.other) if heir else None
        binding = heir
    return None


async def _describe_lines(services: Services, mapping: FlowMapping, lines: Lines) -> dict[Side, Entity]:
    """Describe the lines of both sides; raises Rejected `unknown_column`, for half a line is never written."""
    asked = (
        services.system(mapping, side).describe(lines.end(side).entity, lines.columns(side), lines.option_columns(side)) for side in Side
    )
    entities = dict(zip(Side, await asyncio.gather(*asked), strict=True))
    for side, entity in entities.items():
        if entity.missing:
            system = mapping.system(side)
            raise Rejected(f"{system}.unknown_column", entity.missing[0], system=system, entity=entity.name, field=entity.missing[0])
    return entities


async def _describe(services: Services, mapping: FlowMapping, side: Side) -> Entity:
    system = services.system(mapping, side)
    return await system.describe(mapping.entity(side), mapping.columns(side), mapping.option_columns(side))
