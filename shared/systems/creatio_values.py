"""Turns normal values into what Creatio takes in a write (creatio.md 2.2, 2.4, 10)."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from shared.core.errors import Rejected
from shared.core.records import Column, ColumnType, Scalar, Value, is_guid
from shared.systems.creatio_csdl import Model
from shared.systems.creatio_errors import SYSTEM
from shared.systems.odata import time_text

_INT32 = 2**31


def write_body(entity: str, record_id: str, values: Mapping[str, Value], model: Model) -> dict[str, Any]:
    """Return the JSON members of a write. Raises Rejected naming the column that is unknown or whose value does not fit."""
    body: dict[str, Any] = {}
    facts = {"system": SYSTEM, "entity": entity, "record_id": record_id}
    for name, value in values.items():
        column = model.columns.get(name)
        if column is None:
            raise Rejected("creatio.unknown_column", "", field=name, **facts)
        try:
            body[name] = denormalise(value, column)
        except OverflowError as problem:
            raise Rejected("creatio.out_of_range", str(problem), field=name, **facts) from None
        except ValueError as problem:
            raise Rejected("mapping.value_type", str(problem), field=name, **facts) from None
    return body


def denormalise(value: Value, column: Column) -> Any:
    """Turn a normal value into its wire form (creatio.md 2.4, 10).

    Empty is null for lookups and times, "" for texts, 0 for numbers, false for booleans. Decimals stay Decimal, written as plain
    numbers without `IEEE754Compatible` (creatio.md 2.2). Raises ValueError for another type, OverflowError beyond 32 bits.
    """
    if value is None:
        return _EMPTY.get(column.type)
    if isinstance(value, tuple):
        raise ValueError("got a joined value, allowed a single one")
    return _WRITERS[column.type](value)


def _text(value: Scalar) -> str:
    if not isinstance(value, str):
        raise ValueError(f"got {type(value).__name__}, allowed text")
    return value


def _guid(value: Scalar) -> str:
    if not isinstance(value, str) or not is_guid(value):
        raise ValueError("got something that is no guid, allowed a guid")
    return value.lower()


def _boolean(value: Scalar) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"got {type(value).__name__}, allowed true or false")
    return value


def _whole(value: Scalar) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"got {type(value).__name__}, allowed a whole number")
    if not -_INT32 <= value < _INT32:
        raise OverflowError("got a whole number beyond 32 bits, allowed -2147483648 to 2147483647")
    return value


def _decimal(value: Scalar) -> int | Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or (isinstance(value, Decimal) and not value.is_finite()):
        raise ValueError(f"got {type(value).__name__}, allowed a finite decimal number")
    return value


def _moment(value: Scalar) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("got a time without zone, allowed a time in UTC")
        return time_text(value)
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    raise ValueError(f"got {type(value).__name__}, allowed a time or a date")


def _day(value: Scalar) -> str:
    return _moment(value)[:10]


_EMPTY: Mapping[ColumnType, Any] = {
    ColumnType.TEXT: "",
    ColumnType.INTEGER: 0,
    ColumnType.CHOICE: 0,
    ColumnType.DECIMAL: 0,
    ColumnType.BOOLEAN: False,
}
_WRITERS: Mapping[ColumnType, Callable[[Scalar], Any]] = {
    ColumnType.TEXT: _text,
    ColumnType.INTEGER: _whole,
    ColumnType.CHOICE: _whole,
    ColumnType.DECIMAL: _decimal,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.DATETIME: _moment,
    ColumnType.DATE: _day,
    ColumnType.ID: _guid,
    ColumnType.LOOKUP: _guid,
}
