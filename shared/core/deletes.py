"""Deletes, as pure decisions: how many are carried over in a day, what one does on the other side, what it would destroy (law 10)."""

from collections.abc import Collection
from collections.abc import Mapping as MappingOf
from dataclasses import replace
from datetime import datetime, timedelta

from shared.core.binding import Binding, BindingState
from shared.core.mapping import Mapping, SourceIdRow
from shared.core.plan import Desk, Printers, value_on
from shared.core.records import Row, Side, Value
from shared.core.work import DeleteCount, HeldDelete

_DAY = timedelta(hours=24)
FEW = 5
"""So many deletes a day are carried over whatever the size of the flow."""
_SHARE = 20
_MOST = 200


def most_deletes(bound: int) -> int:
    """Return how many deletes of a flow with so many bound records are carried over in a day without asking."""
    return max(FEW, min(bound // _SHARE, _MOST))


def admit(count: DeleteCount, keys: Collection[str], now: datetime, most: int) -> tuple[DeleteCount, frozenset[str]]:
    """Count deletes before they are sent; return the new count and the keys that may be sent.

    A delete that was counted within the day is sent again without being counted twice. When the others together would be too many, none
    of them is admitted: an accident is not half carried over.
    """
    sent = {key: at for key, at in count.sent.items() if now - at < _DAY}
    known = {key for key in keys if key in sent}
    fresh = {key for key in keys if key not in known}
    if fresh and len(sent) + len(fresh) <= most:
        sent |= dict.fromkeys(fresh, now)
        known |= fresh
    return replace(count, sent=sent), frozenset(known)


def held_lately(held: Collection[HeldDelete], now: datetime) -> set[str]:
    """Return the names of deletes held within the last day: those that come after them belong to the same accident."""
    return {f"{one.side.other.value}:{one.twin_id}" for one in held if now - one.at < _DAY}


def recent(count: DeleteCount, now: datetime) -> int:
    """Return how many deletes were counted within the last day."""
    return sum(1 for at in count.sent.values() if now - at < _DAY)


def consequence(mapping: Mapping, survivor: Side, row: Row) -> dict[str, Value]:
    """Return the columns to write to the surviving record, by the flow's policy; those that hold their value already are left out."""
    columns: dict[str, Value] = {}
    if mapping.on_delete == "unlink":
        rows = [rule for rule in mapping.fields if isinstance(rule, SourceIdRow) and rule.writes(survivor)]
        columns = {column: None for rule in rows for column in rule.columns(survivor)}
    elif mapping.on_delete == "deactivate":
        columns = dict(mapping.inactive_on(survivor))
    return {name: value for name, value in columns.items() if name in row.values and row.values[name] != value}


def unsynced(desk: Desk, binding: Binding, survivor: Side, row: Row) -> list[str]:
    """Return the keys of the fields that were edited on the surviving side and would have gone to the record that is gone."""
    policy = desk.mapping.inactive_on(survivor) if desk.mapping.on_delete == "deactivate" else {}
    printers = Printers(desk, {side: binding.id_on(side) or "" for side in Side})
    edited = []
    for rule in desk.rows:
        state = binding.fields.get(rule.key)
        base = state.base(survivor) if state else None
        if state is None or base is None or not rule.writes(survivor.other):
            continue
        if all(name in policy and row.values.get(name) == policy[name] for name in rule.columns(survivor)):
            continue  # as the delete makes it: written by a worker that died before it could say so
        printed = printers.print(survivor, state.key_id, rule, value_on(rule, survivor, row))
        arrived = state.sent if state.sent_to is survivor else None
        if printed not in (base, arrived):
            edited.append(rule.key)
    return edited


def reopened(binding: Binding, side: Side, *, both: bool) -> Binding:
    """Return the binding of a record that is put in step again, its bases dropped.

    With both records there it is bound. With only the one on `side` it is unbound, and what may be created is of the next generation,
    so that it can't be taken for the record that is gone.
    """
    if both:
        return replace(binding, state=BindingState.BOUND, fields={}, gone=(), merged_into="", note="")
    ids = {side: binding.id_on(side), side.other: None}
    return Binding(
        binding.flow,
        BindingState.REFUSED,
        ids[Side.CREATIO],
        ids[Side.DYNAMICS],
        generation=binding.generation + 1,
        source=side,
        etag=binding.etag,
    )


def keys_of_deletes(survivor: Side, ids: Collection[str]) -> MappingOf[str, str]:
    """Return, by record id, the names under which deletes are counted."""
    return {record_id: f"{survivor.value}:{record_id}" for record_id in ids}
