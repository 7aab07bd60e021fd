"""Pack the core's frozen dataclasses into row properties and back; rows of a newer schema are refused."""

import json
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from shared.core.binding import FieldState
from shared.core.errors import TandemError
from shared.core.records import Side
from shared.core.work import LEDGER_VERSION
from shared.ledger.encoding import decode_time, encode_time, join_text, split_text

VERSION = "v"
_BODY = "j"

T = TypeVar("T")


class Packer(Generic[T]):
    """Pack one kind of dataclass as JSON, cut over properties `j0`, `j1` ...; `etag` is never stored: it is the row's own."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind.__name__
        self._adapter = TypeAdapter(kind)

    def pack(self, item: T) -> dict[str, Any]:
        """Return the properties of an item; raises TandemError when a text can't be written as UTF-8."""
        try:
            body = self._adapter.dump_json(item, exclude={"etag"}).decode()
        except ValueError as problem:
            raise TandemError("sync.internal", f"{self._kind} can't be written as JSON: {type(problem).__name__}") from None
        return {VERSION: LEDGER_VERSION, **split_text(_BODY, body)}

    def unpack(self, properties: Mapping[str, Any]) -> T:
        """Read what `pack` wrote; raises TandemError `message.future_version`, or `sync.internal` for a row that is no such thing."""
        check_version(properties, self._kind)
        try:
            return self._adapter.validate_json(join_text(properties, _BODY))
        except ValidationError as problem:
            where = ", ".join(".".join(str(part) for part in error["loc"]) or error["type"] for error in problem.errors())
            raise broken_row(properties, self._kind, where) from None


def check_version(properties: Mapping[str, Any], kind: str) -> None:
    """Raise TandemError when a row was written by a newer version of the product, or names no version at all."""
    version = properties.get(VERSION)
    if not isinstance(version, int):
        raise broken_row(properties, kind, "no schema version")
    if version > LEDGER_VERSION:
        raise TandemError("message.future_version", f"ledger row ({kind}) has version {version}, allowed up to {LEDGER_VERSION}")


def broken_row(properties: Mapping[str, Any], kind: str, where: str) -> TandemError:
    """Return the error for a row that is not as expected, naming the row."""
    return TandemError("sync.internal", f"ledger row ({kind}) is not as expected: {where}", record_id=str(properties.get("RowKey", "")))


def pack_fields(fields: Mapping[str, FieldState]) -> str:
    """Write field states compactly: name to a list in the order of `_states`, unset ends cut off."""
    return json.dumps({name: _pack_state(state) for name, state in fields.items()}, separators=(",", ":"))


def unpack_fields(text: str) -> dict[str, FieldState]:
    """Read what `pack_fields` wrote; raises ValueError, TypeError or LookupError when it did not."""
    return {name: _unpack_state(parts) for name, parts in json.loads(text or "{}").items()}


def _pack_state(state: FieldState) -> list[Any]:
    parts: list[Any] = [
        state.row_hash,
        state.key_id,
        state.creatio,
        state.dynamics,
        state.set_from,
        state.set_at and encode_time(state.set_at),
        state.set_by_run or None,
        state.sent,
        state.sent_to,
        state.refused,
        state.pending or None,
        state.sent_source,
        state.sent_over,
        state.writes or None,
        state.writes_since and encode_time(state.writes_since),
        state.earlier or None,
    ]
    while parts[-1] is None:  # ends at row_hash and key_id, which are texts
        parts.pop()
    return parts


_STATE_PARTS: Final = 16


def _unpack_state(parts: list[Any]) -> FieldState:
    texts: list[Any] = [*parts, *([None] * (_STATE_PARTS - len(parts)))]
    row_hash, key_id, creatio, dynamics, set_from, set_at, run, sent, sent_to, refused, pending, sent_source, sent_over, *rest = texts
    writes, since, earlier = rest[:3]
    return FieldState(
        row_hash=row_hash,
        key_id=key_id,
        creatio=creatio,
        dynamics=dynamics,
        sent=sent,
        sent_to=Side(sent_to) if sent_to else None,
        refused=refused,
        set_from=Side(set_from) if set_from else None,
        set_at=decode_time(set_at) if set_at else None,
        set_by_run=run or "",
        pending=bool(pending),
        sent_source=sent_source,
        sent_over=sent_over,
        writes=writes or 0,
        writes_since=decode_time(since) if since else None,
        earlier=tuple((Side(side), sent, source) for side, sent, source in earlier or ()),
    )
