"""Records as both sides agree to see them: columns, normal values, rows, writes and their results.

A *value* is None, text, int, Decimal, bool, an aware UTC datetime, a date, or (for a row that joins several columns)
a tuple of those. An id is lower-case text. Each system has its own notion of "nothing there"; `normalise` turns it into None:
Creatio cannot say null and sends the empty guid, year 1, "" and 0 (creatio.md 2.2), Dataverse sends null and may hold "".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, TypeAlias

from shared.core.errors import TandemError

Scalar: TypeAlias = str | int | Decimal | bool | datetime | date | None
Value: TypeAlias = Scalar | tuple[Scalar, ...]

EMPTY_GUID = "00000000-0000-0000-0000-000000000000"
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EMPTY_TEXTS = ("", EMPTY_GUID)
_FINER = re.compile(r"(\.\d{6})\d+")


class Side(StrEnum):
    """The two sides of every flow."""

    CREATIO = "creatio"
    DYNAMICS = "dynamics"

    @property
    def other(self) -> "Side":
        """Return the opposite side."""
        return _OTHER[self]


SIDES = (Side.CREATIO, Side.DYNAMICS)
"""Both sides, for the inner loops: to go through an enum, or to look up its members, takes longer than what is done with them there."""
_OTHER = {Side.CREATIO: Side.DYNAMICS, Side.DYNAMICS: Side.CREATIO}


class ColumnType(StrEnum):
    """What a column holds, in terms that all systems share."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    DATE = "date"
    ID = "id"
    LOOKUP = "lookup"
    CHOICE = "choice"


@dataclass(frozen=True)
class Column:
    """One column of a live entity. `max_length` in characters, `scale` in decimal places; None means not known."""

    name: str
    type: ColumnType
    max_length: int | None = None
    scale: int | None = None
    required: bool = False
    creatable: bool = True
    updatable: bool = True
    targets: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    """Stored value (lookup id, or option number as text) to its label; filled for columns that a choice row names."""


@dataclass(frozen=True)
class Entity:
    """A live entity with the columns that were asked for; `missing` names those that the system does not have."""

    name: str
    columns: Mapping[str, Column]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stamp:
    """A row's state as its system marks it: the time of the last change and an opaque version ("" where there is none)."""

    time: datetime
    version: str = ""

    def encode(self) -> str:
        """Return the text form that messages and the ledger keep."""
        return f"{self.time.astimezone(UTC).isoformat()}|{self.version}"

    @classmethod
    def decode(cls, text: str) -> "Stamp":
        """Read what `encode` wrote."""
        time, _, version = text.partition("|")
        return cls(datetime.fromisoformat(time), version)


@dataclass(frozen=True)
class Row:
    """One record as read: normalised values by column name, and who changed it last."""

    id: str
    stamp: Stamp
    values: Mapping[str, Value]
    changed_by_us: bool = False
    """True when the integration identity made the last change (never enough, alone, to call it an echo: law 5)."""
    merged_into: str = ""
    """The id of the record into which this one was merged, "" when it was not (law 10)."""
    elsewhere: frozenset[str] = frozenset()
    """Columns that mean lookups to one table and lead to another here: they read as empty, and no write may fill them."""
    lines: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """The lines of a document by their ids, values by column; of an entity without lines always empty."""


LINE_VERSION = "@version"
"""Stands among a line's values for the version that its system gave it, where it gives one: no column has such a name."""


@dataclass(frozen=True)
class LinesOf:
    """Where the lines of a document stand: their entity, the lookup to the document, and the columns to read."""

    entity: str
    parent: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """An entry of a change feed: this record may have changed."""

    id: str
    stamp: Stamp | None
    deleted: bool = False


@dataclass(frozen=True)
class ChangePage:
    """One page of a change feed. `position` is where to go on from; `complete` marks the last page of the chain."""

    changes: Sequence[Change]
    position: str
    complete: bool
    server_time: datetime | None = None
    problems: tuple[TandemError, ...] = ()
    """Rows that could not be understood; the others of the page stand in `changes`."""
    worth_keeping: bool = False
    """True when the position must be kept though nothing changed: it tells when something was looked at last."""


class WriteKind(StrEnum):
    """What a write does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True)
class Write:
    """One write to one record: normalised values by column; `seen` is the row that the plan was made from.

    `lines` holds lines to write with it by their ids, values by column, None for one to delete. Record and lines are one unit: all of it
    is written, or nothing. `told` are columns that the result tells beside those written and seen: what a server makes of a new record.
    """

    kind: WriteKind
    id: str
    values: Mapping[str, Value]
    seen: Row | None = None
    lines: Mapping[str, Mapping[str, Value] | None] = field(default_factory=dict)
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class WriteResult:
    """What became of one write.

    `row` is the record after it, `before` the state met just before it where the system has no ETag (law 8).
    `error` None means written; with `error` set, `row` may still hold what a closing read found.
    """

    id: str
    row: Row | None = None
    before: Row | None = None
    error: TandemError | None = None


def path_of(name: str) -> tuple[str, str] | None:
    """Return the lookup and the column behind it that a path such as `Product/UnitId` names, None for a column of the record itself."""
    lookup, slash, column = name.partition("/")
    return (lookup, column) if slash else None


def is_guid(text: str) -> bool:
    """Tell whether a text is a guid in its plain form."""
    return _GUID.fullmatch(text) is not None


def normalise(raw: Any, column: Column, side_without_null: bool) -> Scalar:
    """Turn a wire value into its normal form.

    `side_without_null` is True for Creatio, whose server cannot express null (creatio.md 2.2): there 0, 0.00, the empty guid and
    year 1 read as None. Line ends become LF on every side; otherwise texts stay as they are.
    Raises ValueError when the wire type does not fit the column.
    """
    return None if raw is None else _READERS[side_without_null][column.type](raw)


def _read_text(raw: Any) -> str | None:
    if not isinstance(raw, str):
        raise ValueError(f"got {type(raw).__name__}, allowed text")
    text = raw.replace("\r\n", "\n").replace("\r", "\n") if "\r" in raw else raw
    return None if text in _EMPTY_TEXTS else text


def _read_id(raw: Any) -> str | None:
    if not isinstance(raw, str) or _GUID.fullmatch(raw) is None:
        raise ValueError("got something that is no guid, allowed a guid")
    return None if raw == EMPTY_GUID else raw.lower()


def _read_integer(raw: Any) -> int:
    if type(raw) is int:  # nearly always
        return raw
    if (
        isinstance(raw, bool)
        or not isinstance(raw, (int, Decimal))
        or (isinstance(raw, Decimal) and not raw.is_finite())
        or raw != int(raw)
    ):
        raise ValueError(f"got {type(raw).__name__}, allowed a whole number")
    return int(raw)


def _read_decimal(raw: Any) -> Decimal:
    if isinstance(raw, bool) or not isinstance(raw, (int, Decimal, str)):
        raise ValueError(f"got {type(raw).__name__}, allowed a decimal number")
    try:
        number = Decimal(raw)
    except InvalidOperation:
        raise ValueError("got a text that is no number, allowed a decimal number") from None
    if not number.is_finite():
        raise ValueError("got an infinite number, allowed a decimal number")
    return number.normalize() if number else Decimal(0)


def _read_boolean(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"got {type(raw).__name__}, allowed true or false")
    return raw


def _read_datetime(raw: Any) -> datetime | None:
    moment = read_time(raw)
    return None if moment.year == 1 else moment


def _read_date(raw: Any) -> date | None:
    if not isinstance(raw, str):
        raise ValueError(f"got {type(raw).__name__}, allowed a date")
    day = date.fromisoformat(raw[:10])
    return None if day.year == 1 else day


def read_time(raw: Any) -> datetime:
    """Read an ISO time with zone into UTC; more than six digits of a second are cut (Creatio sends seven: creatio.md 4)."""
    if not isinstance(raw, str):
        raise ValueError(f"got {type(raw).__name__}, allowed a time with zone")
    time = datetime.fromisoformat(_FINER.sub(r"\1", raw) if "." in raw else raw)
    if time.tzinfo is None:
        raise ValueError("got a time without zone, allowed a time with Z or an offset")
    if time.tzinfo is UTC:
        return time
    try:
        return time.astimezone(UTC) if time.year > 1 else time.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("got a time outside the years 1 to 9999") from None


_WITH_NULL: dict[ColumnType, Callable[[Any], Scalar]] = {
    ColumnType.TEXT: _read_text,
    ColumnType.INTEGER: _read_integer,
    ColumnType.CHOICE: _read_integer,
    ColumnType.DECIMAL: _read_decimal,
    ColumnType.BOOLEAN: _read_boolean,
    ColumnType.DATETIME: _read_datetime,
    ColumnType.DATE: _read_date,
    ColumnType.ID: _read_id,
    ColumnType.LOOKUP: _read_id,
}
_WITHOUT_NULL: dict[ColumnType, Callable[[Any], Scalar]] = {
    **_WITH_NULL,
    ColumnType.INTEGER: lambda raw: _read_integer(raw) or None,
    ColumnType.DECIMAL: lambda raw: _read_decimal(raw) or None,
}
_READERS = {False: _WITH_NULL, True: _WITHOUT_NULL}
"""Each type's way from the wire to a normal value, by whether the side is without null."""


def is_empty(value: Value) -> bool:
    """Tell whether a normal value is empty; `false` is a value, a tuple is empty when all its parts are."""
    if isinstance(value, tuple):
        return all(part is None for part in value)
    return value is None


class RangeBy(StrEnum):
    """What a bulk run's range is cut by."""

    CREATED = "created"
    MODIFIED = "modified"


@dataclass(frozen=True)
class KeyRange:
    """A part of a table, by time of creation or of change: rows with `first` <= time <= `last`, `rows` of them when it was made."""

    by: RangeBy
    first: datetime
    last: datetime
    rows: int


@dataclass(frozen=True)
class RangePage:
    """One page of a key range: its rows, those that can't be understood by id, and the position of the next page (None: no more)."""

    rows: Mapping[str, Row | TandemError]
    following: str | None
