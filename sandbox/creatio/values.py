"""Values between the wire, SQLite and the wire again (creatio.md 2.2).

Stored: guids as lower-case text, decimals as integers of their last digit, times as UTC text with seven digits that sorts by
time, null as null. Emitted: never null, but the empty guid, year 1, `""`, 0, false; decimals with their column's scale.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from sandbox.creatio.errors import CreatioError, database_error
from sandbox.creatio.schema import NAMESPACE, Column

EMPTY_GUID = "00000000-0000-0000-0000-000000000000"
EMPTY_DATE = "0001-01-01T00:00:00Z"
Stored: TypeAlias = str | int | bytes | None

_INT32 = 2**31
_MOST_DIGITS = 18
_EMPTY = {"guid": EMPTY_GUID, "text": "", "int": 0, "bool": False, "datetime": EMPTY_DATE, "date": EMPTY_DATE}


class Raw(str):
    """A piece of JSON text that stands for itself."""

    __slots__ = ()


def to_json(value: Any) -> str:
    """Write JSON with decimals as numbers of all their digits and `Raw` pieces as they are."""
    if isinstance(value, str):
        return str(value) if isinstance(value, Raw) else _text(value)
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_text(key)}:{to_json(member)}" for key, member in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ",".join(map(to_json, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no JSON form here")


_text = json.JSONEncoder(ensure_ascii=False).encode


def stamp(moment: datetime) -> str:
    """Return the stored form of a time: UTC, seven digits, always of one width."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "0Z"


def read_moment(text: str) -> datetime | None:
    """Read an ISO time with an offset; None stands for year 1. ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time has no offset")
    try:
        return None if moment.year == 1 else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time lies outside the years 1 to 9999") from error


def emit(column: Column, stored: Stored, *, text_decimals: bool = False) -> Any:
    """Return the wire value of a stored one, for `to_json`."""
    if column.kind == "decimal":
        number = Decimal(int(stored or 0)).scaleb(-column.scale)
        return f"{number:f}" if text_decimals else Raw(f"{number:f}")
    if stored is None:
        return _EMPTY[column.kind]
    if column.kind == "bool":
        return bool(stored)
    return shown_moment(str(stored)) if column.kind in {"datetime", "date"} else stored


def shown_moment(stored: str) -> str:
    """Return a stored time without the trailing zeros of its fraction."""
    return stored[:19] + stored[19:-1].rstrip("0").rstrip(".") + "Z"


def fragment(column: Column, *, text_decimals: bool = False) -> Callable[[Any], str]:
    """Return a function from a stored value to its JSON text; made once for a column, it is fast for many rows."""
    match column.kind:
        case "guid":
            empty = f'"{EMPTY_GUID}"'
            return lambda stored: empty if stored is None else f'"{stored}"'
        case "text":
            return lambda stored: _text(stored) if stored else '""'
        case "int":
            return lambda stored: str(stored or 0)
        case "bool":
            return lambda stored: "true" if stored else "false"
        case "decimal":
            return lambda stored: to_json(emit(column, stored, text_decimals=text_decimals))
        case _:
            return lambda stored: f'"{EMPTY_DATE if stored is None else shown_moment(stored)}"'


def reveal(column: Column, stored: Stored) -> Any:
    """Return a stored value for the control API: true nulls."""
    return None if stored is None else emit(column, stored)


@dataclass(frozen=True)
class Reading:
    """Say how the values of a body are read.

    `text_decimals` is the IEEE754Compatible parameter of its content type, None for a server that takes numbers and texts alike.
    `offset` moves a time to where the day of a Date column is taken from it.
    """

    text_decimals: bool | None = False
    offset: timedelta = timedelta()


def take(column: Column, value: Any, reading: Reading = Reading()) -> Stored:
    """Return the stored form of a JSON value of a client's body; CreatioError 400 when the type does not fit."""
    if value is None:
        return None
    if column.kind == "guid":
        return _guid(column, value)
    if column.kind == "decimal":
        return _decimal(column, value, reading.text_decimals)
    if column.kind in {"datetime", "date"}:
        return _moment(column, value, reading.offset)
    if column.kind == "stream":
        raise CreatioError(400, f"The stream property '{column.name}' can't be written in a JSON body.")
    return _plain(column, value)


def _plain(column: Column, value: Any) -> Stored:
    if column.kind == "text" and isinstance(value, str):
        return value
    if column.kind == "bool" and isinstance(value, bool):
        return int(value)
    if column.kind == "int" and type(value) is int and -_INT32 <= value < _INT32:
        return value
    raise _mismatch(column, value)


def take_control(column: Column, value: Any) -> Stored:
    """Return the stored form of a control API's value: as of a client, but decimals may be text or number."""
    return take(column, value, Reading(text_decimals=None))


def _guid(column: Column, value: Any) -> str | None:
    try:
        text = str(uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise _mismatch(column, value) from None
    return None if text == EMPTY_GUID else text


def _decimal(column: Column, value: Any, text_decimals: bool | None) -> int:
    if isinstance(value, bool) or (text_decimals is not None and isinstance(value, str) != text_decimals):
        raise CreatioError(
            400,
            "The value has a conflict between input format string/number and parameter 'IEEE754Compatible' "
            f"false/true (property '{column.name}').",
        )
    try:
        number = Decimal(value)
        if number.adjusted() >= _MOST_DIGITS - column.scale:
            raise database_error("22003: numeric field overflow")
        return int(number.scaleb(column.scale).to_integral_value())
    except (ArithmeticError, ValueError, TypeError):
        raise _mismatch(column, value) from None


def _moment(column: Column, value: Any, offset: timedelta) -> str | None:
    try:
        moment = read_moment(value)
    except (ValueError, TypeError):
        raise _mismatch(column, value) from None
    if moment is None:
        return None
    if column.kind == "date":
        moment = (moment + offset).replace(hour=0, minute=0, second=0, microsecond=0)
    return stamp(moment)


def _mismatch(column: Column, value: Any) -> CreatioError:
    shown = json.dumps(value, default=str, ensure_ascii=False)[:80]
    return CreatioError(
        400,
        f"Cannot convert the value {shown} of property '{column.name}' to the expected type '{column.edm}'.",
        inner=f"{NAMESPACE}: {column.name}",
    )
