"""How a binding lies in the table: the rows that hold it, what they say, and the changes that save it.

The full row's key names the Creatio id as soon as there is one. A binding that gets its first one moves to another place in the order of
keys, where a scan under way may have been already. So both its rows are marked with the moment of the move (`mv`), and a scan that began
before it meets the binding at its pointer, which stays where the full row was, instead of at its full row.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from shared.core.binding import Binding, BindingState, Bound
from shared.core.document import mark_of_lines
from shared.core.errors import TandemError
from shared.core.records import Side, Stamp
from shared.core.work import LEDGER_VERSION
from shared.ledger.encoding import decode_time, encode_time, join_text, make_key, split_text
from shared.ledger.packing import VERSION, broken_row, check_version, pack_fields, unpack_fields
from shared.ledger.tables import ANY_ETAG, ChangeKind, RowChange, StoredRow

KIND: Final = "binding"
POINTER: Final = "p"
STAMP_OF_SIDE: Final = {Side.CREATIO: "cs", Side.DYNAMICS: "ds"}
SCANNED: Final = (VERSION, POINTER, "c", "d", "st", "cs", "ds", "gn", "mv", "ln")
"""The properties that a scan reads."""


@dataclass(frozen=True)
class Layout:
    """How a binding lies in the table: the full row's ETag, both ids, what the pointer says beside them, and when the full row moved."""

    etag: str
    creatio_id: str | None
    dynamics_id: str | None
    pointed: str
    moved: str = ""

    @classmethod
    def of(cls, binding: Binding, etag: str, moved: str = "") -> "Layout":
        """Return the layout that saving a binding leaves behind."""
        return cls(etag, binding.creatio_id, binding.dynamics_id, _pointed(binding), moved)

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
        return json.dumps([self.etag, self.creatio_id, self.dynamics_id, self.pointed, self.moved], separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> "Layout":
        """Read what `encode` wrote."""
        return cls(*json.loads(text))


def moved_at(binding: Binding, now: datetime) -> str:
    """Return when the full row of a binding last moved, if it has a pointer: now, when saving it moves it; "" for never."""
    if binding.etag is None:
        return ""
    old, new = Layout.decode(binding.etag), Layout.of(binding, "")
    return encode_time(now) if new.pointer_key and new.full_key != old.full_key else old.moved


def plan_changes(binding: Binding, moved: str = "") -> list[RowChange]:
    """Return the changes of rows that save a binding, those that write first; raises TandemError when it has no id."""
    if not binding.creatio_id and not binding.dynamics_id:
        raise TandemError("sync.internal", "a binding needs the id of at least one side", entity=binding.flow)
    new = Layout.of(binding, "")
    old = Layout.decode(binding.etag) if binding.etag else None
    rows = {new.full_key: pack_binding(binding, moved)}
    if new.pointer_key:
        rows[new.pointer_key] = _pack_pointer(binding, moved)
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


def pack_binding(binding: Binding, moved: str = "") -> dict[str, Any]:
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
        "mv": moved or None,
        "ln": f"{mark:x}" if (mark := mark_of_lines(binding)) else None,
        **split_text("f", pack_fields(binding.fields)),
    }
    return {name: value for name, value in properties.items() if value is not None}


def unpack_binding(flow: str, row: StoredRow) -> Binding:
    """Read a full row; raises TandemError `message.future_version`, or `sync.internal` for a row that is no binding."""
    properties = row.properties
    check_version(properties, KIND)
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
        raise broken_row(properties, KIND, f"{type(problem).__name__} {problem}") from None
    return replace(binding, etag=Layout.of(binding, row.etag, properties.get("mv", "")).encode())


def _pack_pointer(binding: Binding, moved: str) -> dict[str, Any]:
    stamp = {"ds": binding.dynamics_stamp.encode()} if binding.dynamics_stamp else {}
    move = {"mv": moved, "d": binding.dynamics_id} if moved else {}
    return {VERSION: LEDGER_VERSION, POINTER: True, "c": binding.creatio_id, "st": binding.state.value, **stamp, **move}


def _pointed(binding: Binding) -> str:
    stamp = binding.dynamics_stamp.encode() if binding.dynamics_stamp else ""
    return f"{binding.creatio_id or ''} {binding.state.value} {stamp}"


def stamp_and_state(row: StoredRow, column: str) -> tuple[Stamp | None, BindingState]:
    """Return the stamp in a column and the state, of a full row or a pointer; raises as `unpack_binding` does."""
    check_version(row.properties, KIND)
    try:
        return _stamp(row.properties.get(column)), BindingState(row.properties["st"])
    except (ValueError, LookupError) as problem:
        raise broken_row(row.properties, KIND, f"{type(problem).__name__} {problem}") from None


def is_met_here(row: StoredRow, began: str) -> bool:
    """Tell whether a scan meets a binding at this row: at its full row, unless that moved since the scan began."""
    full = not row.properties.get(POINTER)
    return full and not (_has_moved(row, began) and "c" in row.properties and "d" in row.properties)


def moved_away(row: StoredRow, began: str) -> str | None:
    """Return the Dynamics id of a binding that a scan meets at this pointer, because its full row moved since the scan began."""
    pointer = bool(row.properties.get(POINTER))
    return row.properties.get("d") if pointer and _has_moved(row, began) else None


def as_bound(binding: Binding) -> Bound:
    """Return what a scan needs of a binding."""
    stamps = (binding.creatio_stamp, binding.dynamics_stamp)
    return Bound(binding.creatio_id, binding.dynamics_id, binding.state, *stamps, gone=binding.gone, lines=mark_of_lines(binding))


def bound_of(row: StoredRow) -> Bound:
    """Return what a scan needs of a full row; raises as `unpack_binding` does."""
    properties = row.properties
    check_version(properties, KIND)
    try:
        state = BindingState(properties["st"])
        stamps = (_stamp(properties.get("cs")), _stamp(properties.get("ds")))
        mark = int(properties.get("ln", "0"), 16)
        return Bound(properties.get("c"), properties.get("d"), state, *stamps, gone=_sides(properties), lines=mark)
    except (ValueError, LookupError) as problem:
        raise broken_row(properties, KIND, f"{type(problem).__name__} {problem}") from None


def _has_moved(row: StoredRow, began: str) -> bool:
    return str(row.properties.get("mv", "")) >= began


def _sides(properties: Mapping[str, Any]) -> tuple[Side, ...]:
    return tuple(Side(name) for name in str(properties.get("gn", "")).split(",") if name)


def _stamp(text: str | None) -> Stamp | None:
    return Stamp.decode(text) if text else None
