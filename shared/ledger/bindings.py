"""Bindings in Table Storage: one partition a flow, a full row and a pointer for each binding, saved in one transaction.

    c:<creatio id>    full row: states, stamps, fingerprints of the fields
    d:<dynamics id>   pointer: creatio id, state and Dynamics stamp, so that an echo from Dynamics costs one small read
    d:<dynamics id>   full row, when there is no creatio id yet

A new row is always inserted create-only, so that no id of either side is ever in two bindings of a flow (law 6). The full row's ETag
guards both rows: whoever changes the pointer changes the full row in the same transaction. A pointer that stays equal is not written.
The `etag` of a Binding holds the row's ETag and what the rows looked like when read, so that a save knows which rows to move.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from shared.core.binding import Binding, BindingState, Bound, BoundPage
from shared.core.errors import Stale, TandemError
from shared.core.records import Side, Stamp
from shared.core.work import LEDGER_VERSION
from shared.ledger.encoding import decode_time, encode_part, encode_time, join_text, make_key, split_text
from shared.ledger.packing import VERSION, broken_row, check_version, pack_fields, unpack_fields
from shared.ledger.recent import Recent
from shared.ledger.tables import ANY_ETAG, ChangeKind, RowChange, RowConflict, StoredRow, Table, chunk_changes, new_token, side_by_side

_KIND: Final = "binding"
_POINTER: Final = "p"
_KEY_OF_SIDE: Final = {Side.CREATIO: "c", Side.DYNAMICS: "d"}
_STAMP_OF_SIDE: Final = {Side.CREATIO: "cs", Side.DYNAMICS: "ds"}
_MAX_GUILTY: Final = 3
"""After so many bindings of one transaction were found guilty, the rest is saved one by one."""

Result: TypeAlias = Binding | TandemError


@dataclass(frozen=True)
class Layout:
    """How a binding lies in the table: the full row's ETag, both ids, and what the pointer says beside them."""

    etag: str
    creatio_id: str | None
    dynamics_id: str | None
    pointed: str

    @classmethod
    def of(cls, binding: Binding, etag: str) -> "Layout":
        """Return the layout that saving a binding leaves behind."""
        return cls(etag, binding.creatio_id, binding.dynamics_id, _pointed(binding))

    @property
    def full_key(self) -> str:
        """Return the key of the full row."""
        return make_key("c", self.creatio_id) if self.creatio_id else make_key("d", self.dynamics_id or "")

    @property
    def pointer_key(self) -> str | None:
        """Return the key of the pointer, if there is one."""
        return make_key("d", self.dynamics_id) if self.creatio_id and self.dynamics_id else None

    def encode(self) -> str:
        """Write the layout as the opaque `etag` of a binding."""
        return json.dumps([self.etag, self.creatio_id, self.dynamics_id, self.pointed], separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> "Layout":
        """Read what `encode` wrote."""
        etag, creatio_id, dynamics_id, pointed = json.loads(text)
        return cls(etag, creatio_id, dynamics_id, pointed)


@dataclass(frozen=True)
class _Save:
    """One binding on its way into a transaction."""

    number: int
    binding: Binding
    changes: Sequence[RowChange]


class BindingRows:
    """Read and save bindings."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._pointers: Recent[tuple[str, str], str] = Recent()

    async def read(self, flow: str, side: Side, ids: Collection[str]) -> dict[str, Binding]:
        """Read bindings by ids of one side: one request an id, two where a Dynamics id leads through a pointer not met lately."""
        wanted = list(dict.fromkeys(ids))
        if side is Side.CREATIO:
            return await self._read_full(flow, side, {record_id: make_key("c", record_id) for record_id in wanted})
        known = {record_id: target for record_id in wanted if (target := self._pointers.get((flow, record_id))) is not None}
        # A remembered pointer may be outdated: the full row decides, and the pointer is read where it does not name the id.
        found = await self._read_full(flow, side, known)
        partition = encode_part(flow)
        unknown = [record_id for record_id in wanted if record_id not in found]
        rows = await self._table.get_many(partition, [make_key("d", record_id) for record_id in unknown])
        pointed: dict[str, str] = {}
        for record_id, row in zip(unknown, rows, strict=True):
            if row is not None and row.properties.get(_POINTER):
                pointed[record_id] = self._follow(flow, record_id, row)
            elif row is not None:
                found[record_id] = unpack_binding(flow, row)
        # Between the two reads a binding may have let go of the id; it is then absent, and a create of it fails on its row.
        found.update(await self._read_full(flow, side, pointed))
        return found

    async def _read_full(self, flow: str, side: Side, keys: Mapping[str, str]) -> dict[str, Binding]:
        """Read full rows by their keys; those that hold the id asked for."""
        rows = await self._table.get_many(encode_part(flow), list(keys.values()))
        bindings = {record_id: unpack_binding(flow, row) for record_id, row in zip(keys, rows, strict=True) if row is not None}
        return {record_id: binding for record_id, binding in bindings.items() if binding.id_on(side) == record_id}

    def _follow(self, flow: str, record_id: str, pointer: StoredRow) -> str:
        """Return the key that a pointer leads to, and remember it."""
        check_version(pointer.properties, _KIND)
        if "c" not in pointer.properties:
            raise broken_row(pointer.properties, _KIND, "a pointer without the id it points to")
        key = make_key("c", pointer.properties["c"])
        self._pointers.put((flow, record_id), key)
        return key

    async def stamps(self, flow: str, side: Side, ids: Collection[str]) -> dict[str, tuple[Stamp | None, BindingState]]:
        """Read only the row stamp last seen on a side and the state: one small request an id, whatever the side."""
        wanted = list(dict.fromkeys(ids))
        column = _STAMP_OF_SIDE[side]
        keys = [make_key(_KEY_OF_SIDE[side], record_id) for record_id in wanted]
        rows = await self._table.get_many(encode_part(flow), keys, [VERSION, _POINTER, "c", "st", column])
        found = {record_id: row for record_id, row in zip(wanted, rows, strict=True) if row is not None}
        for record_id, row in found.items():
            if row.properties.get(_POINTER):
                self._follow(flow, record_id, row)
        return {record_id: _stamp_and_state(row, column) for record_id, row in found.items()}

    async def scan(self, flow: str, after: str | None, limit: int) -> BoundPage:
        """Read a page of all bindings in the order of their rows' keys, only what a scan needs: one request.

        A binding whose full row moves during the scan, because it got its first Creatio id, may be passed by.
        """
        select = [VERSION, _POINTER, "c", "d", "st", "cs", "ds", "gn"]
        if after is None:
            rows = await self._table.query_prefix(encode_part(flow), "", select, limit)
        else:
            text = "PartitionKey eq @pk and RowKey gt @key"
            rows = await self._table.query(text, {"pk": encode_part(flow), "key": after}, select, limit)
        found = [_bound(row) for row in rows if not row.properties.get(_POINTER)]
        return BoundPage(found, rows[-1].key if len(rows) >= limit else None)

    async def save(self, bindings: Sequence[Binding]) -> list[Result]:
        """Save bindings, each by its own ETag, up to a hundred rows a transaction; one result for each, in order.

        A result is the binding with its new ETag, Stale when another writer was first or one of its ids is in another binding,
        Transient when the store was busy, or TandemError when the binding itself can't be stored.
        """
        results: dict[int, Result] = {}
        saves = []
        for number, binding in enumerate(bindings):
            try:
                saves.append(_Save(number, binding, plan_changes(binding)))
            except TandemError as problem:
                results[number] = problem
        for wave in _waves(saves):
            # A wave meets each row once, so that its token in a row tells whether this save reached it.
            await self._save_wave(wave, new_token(), results)
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


def plan_changes(binding: Binding) -> list[RowChange]:
    """Return the changes of rows that save a binding, those that write first; raises TandemError when it has no id."""
    if not binding.creatio_id and not binding.dynamics_id:
        raise TandemError("sync.internal", "a binding needs the id of at least one side", entity=binding.flow)
    new = Layout.of(binding, "")
    old = Layout.decode(binding.etag) if binding.etag else None
    rows = {new.full_key: pack_binding(binding)}
    if new.pointer_key:
        rows[new.pointer_key] = _pack_pointer(binding)
    before = {old.full_key: old.etag} if old else {}
    if old and old.pointer_key:
        before[old.pointer_key] = ANY_ETAG
    changes = []
    for key, properties in rows.items():
        if key not in before:
            changes.append(RowChange(ChangeKind.CREATE, key, properties))
        elif old is None or key != new.pointer_key or key != old.pointer_key or new.pointed != old.pointed:
            changes.append(RowChange(ChangeKind.REPLACE, key, properties, before[key]))
    return changes + [RowChange(ChangeKind.DELETE, key, etag=etag) for key, etag in before.items() if key not in rows]


def pack_binding(binding: Binding) -> dict[str, Any]:
    """Return the properties of a full row; unset ones are left out."""
    properties = {
        VERSION: LEDGER_VERSION,
        "st": binding.state.value,
        "c": binding.creatio_id,
        "d": binding.dynamics_id,
        "g": binding.generation,
        "cs": binding.creatio_stamp and binding.creatio_stamp.encode(),
        "ds": binding.dynamics_stamp and binding.dynamics_stamp.encode(),
        "src": binding.source and binding.source.value,
        "ob": binding.owner_batch or None,
        "dl": binding.deadline and encode_time(binding.deadline),
        "rs": json.dumps(binding.reserved) if binding.reserved else None,
        "nt": binding.note or None,
        "gn": ",".join(binding.gone) or None,
        "mi": binding.merged_into or None,
        **split_text("f", pack_fields(binding.fields)),
    }
    return {name: value for name, value in properties.items() if value is not None}


def unpack_binding(flow: str, row: StoredRow) -> Binding:
    """Read a full row; raises TandemError `message.future_version`, or `sync.internal` for a row that is no binding."""
    properties = row.properties
    check_version(properties, _KIND)
    try:
        binding = Binding(
            flow=flow,
            state=BindingState(properties["st"]),
            creatio_id=properties.get("c"),
            dynamics_id=properties.get("d"),
            generation=int(properties["g"]),
            creatio_stamp=_stamp(properties.get("cs")),
            dynamics_stamp=_stamp(properties.get("ds")),
            fields=unpack_fields(join_text(properties, "f")),
            source=Side(properties["src"]) if "src" in properties else None,
            owner_batch=properties.get("ob", ""),
            deadline=decode_time(properties["dl"]) if "dl" in properties else None,
            reserved=tuple(json.loads(properties.get("rs", "[]"))),
            note=properties.get("nt", ""),
            gone=_sides(properties),
            merged_into=properties.get("mi", ""),
        )
    except (ValueError, TypeError, LookupError, AttributeError) as problem:
        raise broken_row(properties, _KIND, f"{type(problem).__name__} {problem}") from None
    return replace(binding, etag=Layout.of(binding, row.etag).encode())


def _pack_pointer(binding: Binding) -> dict[str, Any]:
    stamp = {"ds": binding.dynamics_stamp.encode()} if binding.dynamics_stamp else {}
    return {VERSION: LEDGER_VERSION, _POINTER: True, "c": binding.creatio_id, "st": binding.state.value, **stamp}


def _pointed(binding: Binding) -> str:
    stamp = binding.dynamics_stamp.encode() if binding.dynamics_stamp else ""
    return f"{binding.creatio_id or ''} {binding.state.value} {stamp}"


def _stamp_and_state(row: StoredRow, column: str) -> tuple[Stamp | None, BindingState]:
    check_version(row.properties, _KIND)
    try:
        return _stamp(row.properties.get(column)), BindingState(row.properties["st"])
    except (ValueError, LookupError) as problem:
        raise broken_row(row.properties, _KIND, f"{type(problem).__name__} {problem}") from None


def _bound(row: StoredRow) -> Bound:
    properties = row.properties
    check_version(properties, _KIND)
    try:
        state = BindingState(properties["st"])
        stamps = (_stamp(properties.get("cs")), _stamp(properties.get("ds")))
        return Bound(properties.get("c"), properties.get("d"), state, *stamps, gone=_sides(properties))
    except (ValueError, LookupError) as problem:
        raise broken_row(properties, _KIND, f"{type(problem).__name__} {problem}") from None


def _sides(properties: Mapping[str, Any]) -> tuple[Side, ...]:
    return tuple(Side(name) for name in str(properties.get("gn", "")).split(",") if name)


def _stamp(text: str | None) -> Stamp | None:
    return Stamp.decode(text) if text else None


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
        # None: the save was committed, its reply was lost, and another writer has been there since.
        results[save.number] = _stale(save.binding) if etag is None else replace(save.binding, etag=Layout.of(save.binding, etag).encode())


def _stale(binding: Binding) -> Stale:
    return Stale("ledger.changed_meanwhile", entity=binding.flow, record_id=binding.creatio_id or binding.dynamics_id or "")
