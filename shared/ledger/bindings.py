"""Bindings in Table Storage: one partition a flow, a full row and a pointer for each binding, saved in one transaction.

    c:<creatio id>    full row: states, stamps, fingerprints of the fields
    d:<dynamics id>   pointer: creatio id, state and Dynamics stamp, so that an echo from Dynamics costs one small read
    d:<dynamics id>   full row, when there is no creatio id yet

A new row is always inserted create-only, so that no id of either side is ever in two bindings of a flow (law 6). The full row's ETag
guards both rows: whoever changes the pointer changes the full row in the same transaction. A pointer that stays equal is not written.
The `etag` of a Binding holds the row's ETag and what the rows looked like when read, so that a save knows which rows to move.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from shared.core.binding import Binding, BoundPage, Seen
from shared.core.errors import Stale, TandemError
from shared.core.records import Side
from shared.ledger.binding_layout import (
    KIND,
    POINTER,
    SCANNED,
    STAMP_OF_SIDE,
    Layout,
    as_bound,
    bound_of,
    is_met_here,
    moved_at,
    moved_away,
    plan_changes,
    stamp_and_state,
    unpack_binding,
)
from shared.ledger.encoding import encode_part, encode_time, make_key
from shared.ledger.packing import VERSION, broken_row, check_version
from shared.ledger.recent import Recent
from shared.ledger.tables import ChangeKind, RowChange, RowConflict, StoredRow, Table, chunk_changes, new_token, side_by_side

_CLOCKS_APART: Final = timedelta(minutes=5)
"""How far the clocks of two instances may differ before a scan could take a binding's move for older than itself."""
_MAX_GUILTY: Final = 3
"""After so many bindings of one transaction were found guilty, the rest is saved one by one."""

Result: TypeAlias = Binding | TandemError


@dataclass(frozen=True)
class _Save:
    """One binding on its way into a transaction."""

    number: int
    binding: Binding
    moved: str
    changes: Sequence[RowChange]


class BindingRows:
    """Read and save bindings."""

    def __init__(self, table: Table, clock: Callable[[], datetime]) -> None:
        self._table = table
        self._clock = clock
        self._pointers: Recent[tuple[str, str], str] = Recent()

    async def read(self, flow: str, side: Side, ids: Collection[str]) -> dict[str, Binding]:
        """Read bindings by ids of one side: one request an id, two where a Dynamics id leads through a pointer not met lately."""
        wanted = list(dict.fromkeys(ids))
        if side is Side.CREATIO:
            return await self._read_full(flow, side, {record_id: make_key("c", record_id) for record_id in wanted})
        found = await self._read_full(flow, side, self._known(flow, wanted))
        partition = encode_part(flow)
        unknown = [record_id for record_id in wanted if record_id not in found]
        rows = await self._table.get_many(partition, [make_key("d", record_id) for record_id in unknown])
        pointed: dict[str, str] = {}
        for record_id, row in zip(unknown, rows, strict=True):
            if row is not None and row.properties.get(POINTER):
                pointed[record_id] = self._follow(flow, record_id, row)
            elif row is not None:
                found[record_id] = unpack_binding(flow, row)
        # Between the two reads a binding may have let go of the id; it is then absent, and a create of it fails on its row.
        found.update(await self._read_full(flow, side, pointed))
        return found

    def _known(self, flow: str, ids: Sequence[str]) -> dict[str, str]:
        """Return the keys of full rows by Dynamics ids, as far as they are remembered.

        One may be outdated: the full row decides, and the pointer is read where that does not name the id.
        """
        return {record_id: key for record_id in ids if (key := self._pointers.get((flow, record_id))) is not None}

    async def _read_full(self, flow: str, side: Side, keys: Mapping[str, str]) -> dict[str, Binding]:
        """Read full rows by their keys; those that hold the id asked for."""
        rows = await self._table.get_many(encode_part(flow), list(keys.values()))
        bindings = {record_id: unpack_binding(flow, row) for record_id, row in zip(keys, rows, strict=True) if row is not None}
        self._remember(bindings.values())
        return {record_id: binding for record_id, binding in bindings.items() if binding.id_on(side) == record_id}

    def _remember(self, bindings: Iterable[Binding]) -> None:
        """Remember which full row each Dynamics id leads to, so that it is read without its pointer the next time."""
        for binding in bindings:
            if binding.creatio_id and binding.dynamics_id:
                self._pointers.put((binding.flow, binding.dynamics_id), make_key("c", binding.creatio_id))

    def _follow(self, flow: str, record_id: str, pointer: StoredRow) -> str:
        """Return the key that a pointer leads to, and remember it."""
        check_version(pointer.properties, KIND)
        if "c" not in pointer.properties:
            raise broken_row(pointer.properties, KIND, "a pointer without the id it points to")
        key = make_key("c", pointer.properties["c"])
        self._pointers.put((flow, record_id), key)
        return key

    async def stamps(self, flow: str, side: Side, ids: Collection[str]) -> dict[str, Seen]:
        """Read the row stamp last seen on a side and the state, one request an id.

        Where that leads to a full row anyway the whole binding is read: for a record that is no echo it would be asked for next.
        """
        wanted = list(dict.fromkeys(ids))
        keys = {record_id: make_key("c", record_id) for record_id in wanted} if side is Side.CREATIO else self._known(flow, wanted)
        full = await self._read_full(flow, side, keys)
        found = {record_id: Seen(binding.stamp_on(side), binding.state, binding) for record_id, binding in full.items()}
        if side is Side.CREATIO:
            return found
        unknown = [record_id for record_id in wanted if record_id not in found]
        column = STAMP_OF_SIDE[side]
        rows = await self._table.get_many(encode_part(flow), [make_key("d", i) for i in unknown], [VERSION, POINTER, "c", "st", column])
        for record_id, row in zip(unknown, rows, strict=True):
            if row is not None:
                if row.properties.get(POINTER):
                    self._follow(flow, record_id, row)
                found[record_id] = Seen(*stamp_and_state(row, column))
        return found

    async def scan(self, flow: str, after: str | None, limit: int) -> BoundPage:
        """Read a page of all bindings in the order of their rows' keys, only what a scan needs: one request a page.

        One or two more go to each binding whose full row moved since the scan began. A binding that is there from the first page to the
        last is met, once; one that loses its Creatio id meanwhile may be met twice. `after` holds the scan's beginning and the last key.
        """
        began, _, key = (after or encode_time(self._clock() - _CLOCKS_APART)).partition(" ")
        text = "PartitionKey eq @pk and RowKey gt @key"
        rows = await self._table.query(text, {"pk": encode_part(flow), "key": key}, SCANNED, limit)
        found = [bound_of(row) for row in rows if is_met_here(row, began)]
        moved = [record_id for row in rows if (record_id := moved_away(row, began))]
        found += [as_bound(binding) for binding in (await self.read(flow, Side.DYNAMICS, moved)).values()]
        return BoundPage(found, f"{began} {rows[-1].key}" if len(rows) >= limit else None)

    async def save(self, bindings: Sequence[Binding]) -> list[Result]:
        """Save bindings, each by its own ETag, up to a hundred rows a transaction; one result for each, in order.

        A result is the binding with its new ETag, Stale when another writer was first or one of its ids is in another binding,
        Transient when the store was busy, or TandemError when the binding itself can't be stored.
        """
        results: dict[int, Result] = {}
        saves = []
        for number, binding in enumerate(bindings):
            try:
                moved = moved_at(binding, self._clock())
                saves.append(_Save(number, binding, moved, plan_changes(binding, moved)))
            except TandemError as problem:
                results[number] = problem
        for wave in _waves(saves):
            # A wave meets each row once, so that its token in a row tells whether this save reached it.
            await self._save_wave(wave, new_token(), results)
        self._remember(result for result in results.values() if isinstance(result, Binding))
        return [results[number] for number in range(len(bindings))]

    async def _save_wave(self, wave: Sequence[Sequence[_Save]], token: str, results: dict[int, Result]) -> None:
        await side_by_side(lambda chunk: self._save_chunk(chunk, token, results), wave)

    async def forget(self, binding: Binding) -> None:
        """Remove the rows of a binding that is stored; raises Stale `ledger.changed_meanwhile` when it moved."""
        layout = Layout.decode(binding.etag or "")
        changes = [RowChange(ChangeKind.DELETE, layout.full_key, etag=layout.etag)]
        if layout.pointer_key:
            changes.append(RowChange(ChangeKind.DELETE, layout.pointer_key))
        await self._table.transact(encode_part(binding.flow), changes, new_token())

    async def _save_chunk(self, chunk: Sequence[_Save], token: str, results: dict[int, Result]) -> None:
        """Save what can be saved of a transaction: take the guilty ones out, one after the other."""
        guilty = 0
        rest = list(chunk)
        while rest:
            try:
                etags = await self._table.transact(encode_part(rest[0].binding.flow), [c for save in rest for c in save.changes], token)
            except RowConflict as conflict:
                guilty += 1
                position = 0 if len(rest) == 1 else _position(rest, conflict.index)
                if position is not None:
                    save = rest.pop(position)
                    results[save.number] = _stale(save.binding)
                if position is None or guilty >= _MAX_GUILTY:
                    await self._save_alone(rest, token, results)
                    return
            except TandemError as problem:
                if len(rest) > 1 and type(problem) is TandemError:  # refused as it is, perhaps because of one
                    await self._save_alone(rest, token, results)
                else:
                    results.update({save.number: problem for save in rest})
                return
            else:
                _keep(rest, etags, results)
                return

    async def _save_alone(self, saves: Sequence[_Save], token: str, results: dict[int, Result]) -> None:
        await side_by_side(lambda save: self._save_chunk([save], token, results), saves)


def _waves(saves: Sequence[_Save]) -> list[list[Sequence[_Save]]]:
    """Share bindings out over transactions, and these over waves: a wave touches every row once, its transactions run side by side."""
    waves: list[list[Sequence[_Save]]] = []
    left = list(saves)
    while left:
        taken: set[tuple[str, str]] = set()
        wave: list[_Save] = []
        later: list[_Save] = []
        for save in left:
            rows = {(save.binding.flow, change.key) for change in save.changes}
            if rows & taken:
                later.append(save)
            else:
                taken |= rows
                wave.append(save)
        flows = dict.fromkeys(save.binding.flow for save in wave)
        chunks = [chunk for flow in flows for chunk in chunk_changes([(s, s.changes) for s in wave if s.binding.flow == flow])]
        waves.append([[save for save, _ in chunk] for chunk in chunks])
        left = later
    return waves


def _position(saves: Sequence[_Save], index: int | None) -> int | None:
    """Return which binding of a transaction the change at an index belongs to."""
    if index is None:
        return None
    for position, save in enumerate(saves):
        if index < len(save.changes):
            return position
        index -= len(save.changes)
    return None


def _keep(saves: Sequence[_Save], etags: Sequence[str | None], results: dict[int, Result]) -> None:
    first = 0
    for save in saves:
        etag = etags[first]  # the full row is the first change of its binding
        first += len(save.changes)
        if etag is None:  # the save was committed, its reply was lost, and another writer has been there since
            results[save.number] = _stale(save.binding)
        else:
            results[save.number] = replace(save.binding, etag=Layout.of(save.binding, etag, save.moved).encode())


def _stale(binding: Binding) -> Stale:
    return Stale("ledger.changed_meanwhile", entity=binding.flow, record_id=binding.creatio_id or binding.dynamics_id or "")
