"""Values between JSON, SQLite and people: validation on the way in, the wire's forms on the way out.

Stored forms: guid and text as text, money as integer ten-thousandths, decimal as text, times as UTC text to the second.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from sandbox.dataverse import faults
from sandbox.dataverse.definitions import CHOICES, MULTI, TEXTS, Column, Table
from sandbox.dataverse.faults import Fault

Stored = str | int | float | None

EDM_TYPES: Mapping[str, str] = {
    "String": "Edm.String",
    "Memo": "Edm.String",
    "Integer": "Edm.Int32",
    "BigInt": "Edm.Int64",
    "Picklist": "Edm.Int32",
    MULTI: "Edm.String",
    "State": "Edm.Int32",
    "Status": "Edm.Int32",
    "Boolean": "Edm.Boolean",
    "Money": "Edm.Decimal",
    "Decimal": "Edm.Decimal",
    "Double": "Edm.Double",
    "DateTime": "Edm.DateTimeOffset",
    "DateOnly": "Edm.Date",
    "Uniqueidentifier": "Edm.Guid",
    "Lookup": "Edm.Guid",
    "Customer": "Edm.Guid",
    "Owner": "Edm.Guid",
}

_MONEY = 10_000
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?")
_MOST_CHOICES = 150
_INT32 = 2_147_483_647


def guid(text: object) -> str | None:
    """Read a bare GUID in lower case; None when it is none."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        return None
    return str(uuid.UUID(text))


def new_id() -> str:
    """Make the id of a new row."""
    return str(uuid.uuid4())


def stamp(moment: float, *, fractions: bool = False) -> str:
    """Write a time (seconds since the epoch) as stored: UTC, sent without fractions (dataverse.md 9).

    Fractions that are kept stand behind the Z, where they sort as they should and are easily left out.
    """
    whole = datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{whole}.{int(moment * 1000) % 1000:03}" if fractions else whole


def _shown_time(stored: Stored) -> str:
    return str(stored).partition("Z")[0] + "Z"


def read_time(text: str) -> str | None:
    """Normalise an Edm.DateTimeOffset to UTC seconds; None when unreadable or before 1753; no offset means UTC."""
    if not _TIME.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(re.sub(r"\.\d+", "", text))
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment.year >= 1753 else None


def read_date(text: str) -> str | None:
    """Read an Edm.Date; None when it is none."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None


def to_money(amount: Decimal) -> int:
    """Scale an amount to the stored ten-thousandths."""
    return int((amount * _MONEY).to_integral_value(ROUND_HALF_EVEN))


def from_money(stored: int) -> Decimal:
    """Turn stored ten-thousandths into an amount with four places."""
    return Decimal(stored).scaleb(-4).quantize(Decimal("0.0001"))


def encode(table: Table, column: Column, value: object) -> Stored:
    """Validate a JSON value for a plain column and return its stored form; raise the fault the server answers with."""
    if value is None:
        if column.required == "system":
            raise faults.invalid_argument(f"Attribute: {column.name} cannot be set to NULL")
        return None
    edm = EDM_TYPES[column.type]
    stored = _READERS[edm](value)
    if stored is None:
        shown = json.dumps(value) if isinstance(value, dict | list) else value
        raise faults.bad_literal(table.entity_set, shown, edm)
    if column.type in TEXTS:
        return _checked_text(table, column, str(stored))
    if column.type == MULTI:
        return _checked_choices(table, column, str(stored))
    if column.type in CHOICES:
        return _checked_choice(table, column, int(str(stored)))
    if isinstance(stored, Decimal):
        return _checked_decimal(table, column, stored)
    if isinstance(stored, int | float):
        _check_range(table, column, stored, "0x8004432F" if column.type == "Integer" else "0x80044330")
    return stored


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _INT32 else None


def _decimal(value: object) -> Decimal | None:
    return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def _double(value: object) -> float | None:
    number = _decimal(value)
    return None if number is None else float(number)


_READERS: Mapping[str, Callable[[object], Stored | Decimal]] = {
    "Edm.String": lambda value: value if isinstance(value, str) else None,
    "Edm.Int32": _whole,
    "Edm.Int64": lambda value: value if isinstance(value, int) and not isinstance(value, bool) else None,
    "Edm.Boolean": lambda value: int(value) if isinstance(value, bool) else None,
    "Edm.Decimal": _decimal,
    "Edm.Double": _double,
    "Edm.DateTimeOffset": lambda value: read_time(value) if isinstance(value, str) else None,
    "Edm.Date": lambda value: read_date(value) if isinstance(value, str) else None,
    "Edm.Guid": guid,
}


def _checked_text(table: Table, column: Column, text: str) -> str | None:
    length = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if column.max_length is not None and length > column.max_length:
        raise Fault(
            400,
            "0x80044331",
            f"A validation error occurred. The length of the '{column.name}' attribute of the '{table.name}' entity "
            f"exceeded the maximum allowed length of '{column.max_length}'.",
        )
    return text or None


def _checked_choice(table: Table, column: Column, value: int) -> int:
    if column.options and value not in column.options:
        accepted = ",".join(str(option) for option in sorted(column.options))
        raise Fault(
            400,
            "0x8004431A",
            f"A validation error occurred. The value {value} of '{column.name}' on record of type '{table.name}' "
            f"is outside the valid range. Accepted Values: {accepted}",
        )
    return value


def _checked_choices(table: Table, column: Column, text: str) -> str | None:
    """Read several choices as one text, ``1,9``; blanks are tolerated, 150 is the most (dataverse.md 9)."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(re.fullmatch(r"\d+", word) for word in words) or len(words) > _MOST_CHOICES:
        raise faults.bad_literal(table.entity_set, text, "Edm.String")
    return ",".join(str(_checked_choice(table, column, int(word))) for word in dict.fromkeys(words)) or None


def _checked_decimal(table: Table, column: Column, value: Decimal) -> Stored:
    _check_range(table, column, value, "0x80044330")
    rounded = round(value, column.precision if column.precision is not None else 2)
    return to_money(rounded) if column.type == "Money" else str(rounded)


def _check_range(table: Table, column: Column, value: Decimal | float, code: str) -> None:
    low, high = column.minimum, column.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise Fault(
            400,
            code,
            f"A validation error occurred. The value of '{column.name}' on record of type '{table.name}' is outside the valid range.",
        )


def decode(column: Column, stored: Stored) -> Any:
    """Turn a stored value into its JSON form (Decimal for money and decimals, see `to_json`)."""
    if stored is None:
        return None
    match column.type:
        case "Boolean":
            return bool(stored)
        case "Money":
            return from_money(int(stored))
        case "Decimal":
            return Decimal(str(stored))
        case "DateTime":
            return _shown_time(stored)
        case _:
            return stored


def formatted(column: Column, stored: Stored, symbol: str) -> str | None:
    """Write a value as people see it; None where there is no formatted form (texts, ids, lookups)."""
    writer = _WRITERS.get(column.type)
    return None if stored is None or writer is None else writer(column, stored, symbol)


def _format_time(_column: Column, stored: str | float, _symbol: str) -> str:
    moment = datetime.fromisoformat(_shown_time(stored))
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour % 12 or 12}:{moment:%M} {moment:%p}"


def _format_date(_column: Column, stored: str | float, _symbol: str) -> str:
    day = date.fromisoformat(str(stored))
    return f"{day.month}/{day.day}/{day.year}"


def _format_number(column: Column, stored: str | float, _symbol: str) -> str:
    return f"{Decimal(str(stored)):,.{column.precision or 2}f}"


_WRITERS: Mapping[str, Callable[[Column, str | float, str], str]] = {
    **dict.fromkeys(CHOICES, lambda column, stored, _: column.options.get(int(stored), str(stored))),
    MULTI: lambda column, stored, _: "; ".join(column.options.get(int(word), word) for word in str(stored).split(",")),
    "Boolean": lambda _column, stored, _symbol: "Yes" if stored else "No",
    "Money": lambda _column, stored, symbol: f"{symbol}{from_money(int(stored)):,.2f}",
    "Integer": lambda _column, stored, _symbol: f"{int(stored):,}",
    "BigInt": lambda _column, stored, _symbol: f"{int(stored):,}",
    "Decimal": _format_number,
    "Double": _format_number,
    "DateTime": _format_time,
    "DateOnly": _format_date,
}


def to_json(value: Any) -> str:
    """Write JSON with Decimals as plain numbers that keep their places (``5000000.0000``, dataverse.md 3)."""
    match value:
        case Decimal():
            return format(value, "f")
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{to_json(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(to_json, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
