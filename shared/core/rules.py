"""The rules of mapping rows: how a value of one side looks on the other.

A rule turns the source side's value into the target side's, or says why it can't: the record referred to is not bound yet
(`pending`), the value has no partner and the row says so (`kept`), or a person must act (`problem`, with an error code).
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from shared.core.mapping import (
    AnyRow,
    BooleanRow,
    ChoiceRow,
    ConstantRow,
    CopyRow,
    DateRow,
    DatetimeRow,
    IntegerRow,
    JoinRow,
    LineRow,
    Lines,
    MoneyRow,
    Pair,
    PhoneRow,
    Plain,
    PlainTextRow,
    ReferenceRow,
    SourceIdRow,
    SplitNameRow,
)
from shared.core.plain_text import plain_text
from shared.core.records import Column, ColumnType, Entity, Scalar, Side, Value, is_empty

_NO_DIGIT = re.compile(r"[^\w+]")

ENDED = "ended"
"""Marks, in `Context.references`, a record whose binding has ended."""


class State(StrEnum):
    """How a conversion went."""

    VALUE = "value"
    PENDING = "pending"
    KEPT = "kept"
    PROBLEM = "problem"


DEFAULT_OWNER = "owner.default"
"""The remark on an owner that stands in for a user whom the target does not know."""


class Converted(NamedTuple):
    """A value in the target's terms, or why there is none. `waits_for` is (flow, side, id) of a record that is not bound yet.

    With a value, `code` is a remark on it ("" for none): it is told beside the outcome.
    """

    state: State
    value: Value = None
    code: str = ""
    detail: str = ""
    waits_for: tuple[str, Side, str] | None = None


@dataclass(frozen=True)
class Context:
    """What rules need beside the value: live metadata of both sides, value lists, bindings of referred records, users."""

    entities: MappingOf[Side, Entity]
    values: MappingOf[str, tuple[Pair, ...]] = field(default_factory=dict)
    references: MappingOf[tuple[str, Side, str], str] = field(default_factory=dict)
    users: MappingOf[Side, MappingOf[str, str]] = field(default_factory=dict)
    """Owner id to e-mail, by side."""
    default_owner: str = ""
    """E-mail, in lower case, of the user who stands in for one whom the target does not know; "" for nobody."""

    def column(self, side: Side, name: str) -> Column:
        """Return the live column; a text column of unknown length when metadata does not have it."""
        return self.entities[side].columns.get(name) or Column(name, ColumnType.TEXT)


def convert(row: AnyRow, source: Side, value: Value, record_id: str, context: Context) -> Converted:
    """Turn a row's value on `source` into its value on the other side; `record_id` is the source record's id."""
    return conversion(row, source, context)(value, record_id)


def conversion(row: AnyRow, source: Side, context: Context) -> Callable[[Value, str], Converted]:
    """Return `convert` for the values of many records: what it asks of row, metadata and value lists is worked out once."""
    target = source.other
    columns = [context.column(target, name) for name in row.columns(target)]
    given: _Given = partial(_RULES[type(row)], row, source)
    if isinstance(row, ChoiceRow):
        given = _remembered(given)
    if row.is_joined(target):
        return partial(_convert_joined, row, given, target, columns, context)
    return partial(_convert_single, row, given, target, columns[0], context)


def line_conversion(lines: Lines, context: Context) -> Callable[[Value, str], Converted]:
    """Return what turns one line of Creatio into one of Dynamics; `context` is that of the lines' entities.

    A line is a tuple: True, then its values in the order of `lines.columns`; an absent line is None. The first row that has no value for
    the other side says what the whole line says: half a line is never written.
    """
    source, target = lines.columns(Side.CREATIO), lines.columns(Side.DYNAMICS)
    turns = [(row, conversion(row, Side.CREATIO, context)) for row in lines.fields]

    def turn(value: Value, _record_id: str) -> Converted:
        if value is None:
            return _value(None)
        assert isinstance(value, tuple)  # noqa: S101 - `core.document` makes lines tuples
        given: dict[str, Scalar] = dict(zip(source, value[1:], strict=True))
        made: dict[str, Scalar] = {}
        for row, one in turns:
            column = row.columns(Side.CREATIO)
            if row.conditions and not row.counts(given.get):
                continue
            converted = one(given[column[0]] if column else None, "")
            if converted.state is State.KEPT:
                continue
            if converted.state is not State.VALUE:
                return converted
            if row.required and is_empty(converted.value):
                return _problem("mapping.required", row.key)
            assert not isinstance(converted.value, tuple)  # noqa: S101 - a line's row has one column a side
            made[row.columns(Side.DYNAMICS)[0]] = converted.value
        return _value((True, *(made.get(name) for name in target)))

    return turn


_Given: TypeAlias = Callable[[Value, str, Context], Converted]


def _remembered(given: _Given) -> _Given:
    """Return a rule that looks a value up once: a list has few values, and finding one compares it with all of them."""
    seen: dict[tuple[type, Value], Converted] = {}

    def look_up(value: Value, record_id: str, context: Context) -> Converted:
        found = seen.get((type(value), value))  # the type, for yes equals 1
        if found is None:
            found = seen[type(value), value] = given(value, record_id, context)
        return found

    return look_up


def _convert_single(row: AnyRow, given: _Given, target: Side, column: Column, context: Context, value: Value, record_id: str) -> Converted:
    converted = given(value, record_id, context)
    return _fit(row, target, column, converted) if converted.state is State.VALUE else converted


def _convert_joined(
    row: AnyRow, given: _Given, target: Side, columns: Sequence[Column], context: Context, value: Value, record_id: str
) -> Converted:
    converted = given(value, record_id, context)
    if converted.state is not State.VALUE:
        return converted
    parts = converted.value if isinstance(converted.value, tuple) else (converted.value,)
    fitted: list[Scalar] = []
    for column, part in zip(columns, parts, strict=True):
        outcome = _fit(row, target, column, _value(part))
        if outcome.state is not State.VALUE:
            return outcome
        assert not isinstance(outcome.value, tuple)  # noqa: S101 - a column holds one value
        fitted.append(outcome.value)
    return _value(tuple(fitted))


def same(row: AnyRow, left: Value, right: Value) -> bool:
    """Tell whether two values of one side are equal for a row; phone numbers compare by their digits."""
    if isinstance(row, PhoneRow) and isinstance(left, str) and isinstance(right, str):
        return _digits(left) == _digits(right)
    if isinstance(row, LineRow) and isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(_told(part) == _told(other) for part, other in zip(left, right, strict=True))
    return left == right


def _told(part: Scalar) -> Scalar:
    """Return what a part of a line says: a column that its row leaves out is stored as no where it holds yes or no."""
    return None if part is False else part


def match_text(value: Value) -> str:
    """Return the form of a key part in which two spellings of one thing are equal; "" for an empty part (law 7)."""
    if is_empty(value):
        return ""
    text = value.isoformat() if isinstance(value, (date, datetime)) else str(value)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 units, as SQL Server's nvarchar counts it: an emoji is two."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _value(value: Value) -> Converted:
    return Converted(State.VALUE, value)


def _problem(code: str, detail: str) -> Converted:
    return Converted(State.PROBLEM, code=code, detail=detail)


def _fit(row: AnyRow, target: Side, column: Column, converted: Converted) -> Converted:
    """Make a value fit its target column: Creatio's missing null, text length and, for texts, the type."""
    value = converted.value
    assert not isinstance(value, tuple)  # noqa: S101 - a column holds one value
    if target is Side.CREATIO and (stored := _without_null(column, value)) is not value:
        value, converted = stored, _value(stored)
    if value is None or column.type is not ColumnType.TEXT:
        return converted
    if not isinstance(value, str):
        return _problem("mapping.value_type", f"{column.name} holds text, the rule {row.rule} gives a {type(value).__name__}")
    if column.max_length is None or utf16_length(value) <= column.max_length:
        return converted
    if row.overlong == "reject":
        return _problem("mapping.too_long", f"{column.name}: got {utf16_length(value)} characters, allowed {column.max_length}")
    return _value(_cut(value, column.max_length))


def _without_null(column: Column, value: Scalar) -> Scalar:
    """Return what Creatio makes of a value: an absent yes/no is no, a zero reads as empty (creatio.md 2.2)."""
    if column.type is ColumnType.BOOLEAN:
        return bool(value)
    if column.type in (ColumnType.INTEGER, ColumnType.DECIMAL) and value == 0:
        return None
    return value


def _cut(text: str, length: int) -> str:
    while utf16_length(text) > length:
        text = text[: len(text) - max(1, (utf16_length(text) - length) // 2)]
    return text.rstrip()


def _copy(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    if value is None or isinstance(value, str):
        return _value(value)
    return _wrong_type(row, source, value, context)


def _wrong_type(row: AnyRow, source: Side, value: Value, context: Context) -> Converted:
    column = context.column(source, row.columns(source)[0])
    return _problem("mapping.value_type", f"{column.name}: got a {type(value).__name__}, allowed what the rule {row.rule} reads")


def _choice(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    assert isinstance(row, ChoiceRow)  # noqa: S101 - the table below pairs row and rule
    here, there = context.column(source, row.columns(source)[0]), context.column(source.other, row.columns(source.other)[0])
    if value is None:
        return _if_empty(row, there)
    names = _names_of(here, value)
    if row.values == "labels":
        wanted: list[Plain] = [name for name in names if isinstance(name, str)]
    else:
        pairs = context.values[row.values]
        wanted = [_end(pair, source.other) for pair in pairs if any(_equal_names(_end(pair, source), name) for name in names)]
    for name in wanted:
        found = _stored(there, name)
        if found is not None:
            return _value(found)
    if row.default is not None and (found := _stored(there, row.default)) is not None:
        return _value(found)
    if row.otherwise == "keep":
        return Converted(State.KEPT)
    return _problem("mapping.value_unknown", f"{here.name} has a value without partner for {there.name} in the list {row.values!r}")


def _if_empty(row: ChoiceRow, there: Column) -> Converted:
    if row.empty is None:
        return _value(None)
    found = _stored(there, row.empty)
    return _value(found) if found is not None else _problem("mapping.value_unknown", f"{there.name} has no {row.empty!r} to choose from")


def _end(pair: Pair, side: Side) -> Plain:
    return pair.creatio if side is Side.CREATIO else pair.dynamics


def _equal_names(left: Plain, right: Plain) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return match_text(left) == match_text(right)
    return type(left) is type(right) and left == right


def _names_of(column: Column, value: Value) -> list[Plain]:
    """Return the names under which a value list may know a stored value: the value itself, then its label."""
    assert not isinstance(value, tuple)  # noqa: S101 - a choice reads one column
    names: list[Plain] = [value] if isinstance(value, (bool, int, str)) else []
    label = column.options.get(str(value))
    if label is not None:
        names.insert(0, label)
    return names


def _stored(column: Column, name: Plain) -> Scalar:
    """Return the stored value that a name stands for in a column, None when the live column has no such value."""
    if column.type in (ColumnType.TEXT, ColumnType.BOOLEAN):
        return name if isinstance(name, str) == (column.type is ColumnType.TEXT) else None
    as_text = str(name)
    if as_text in column.options:
        return _typed(column, as_text)
    wanted = match_text(as_text)
    for stored, label in column.options.items():
        if match_text(label) == wanted:
            return _typed(column, stored)
    return None


def _typed(column: Column, stored: str) -> Scalar:
    return int(stored) if column.type in (ColumnType.CHOICE, ColumnType.INTEGER) else stored


def _reference(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    assert isinstance(row, ReferenceRow)  # noqa: S101 - the table below pairs row and rule
    if value is None:
        # A record of Dataverse always has an owner; who has none here leaves the other side's as well.
        return Converted(State.KEPT) if row.users and row.otherwise == "keep" else _value(None)
    if row.users:
        return _user(row, source, str(value), context)
    key = (str(row.flow), source, str(value))
    found = context.references.get(key)
    if found == ENDED:
        return _problem("mapping.reference_ended", f"{row.columns(source)[0]} names a record whose binding has ended")
    if found is None:
        return Converted(State.PENDING, waits_for=key)
    return _value(found)


def _user(row: ReferenceRow, source: Side, user: str, context: Context) -> Converted:
    there = context.users.get(source.other, {})
    found = _by_email(there, context.users.get(source, {}).get(user, ""))
    if found is not None:
        return _value(found)
    stands_in = _by_email(there, context.default_owner)
    if stands_in is not None:
        return Converted(State.VALUE, stands_in, DEFAULT_OWNER)
    if row.otherwise == "keep":
        return Converted(State.KEPT)
    return _problem("mapping.value_unknown", f"{row.columns(source)[0]} names a user whose e-mail no user of the other side has")


def _by_email(users: MappingOf[str, str], email: str) -> str | None:
    return next((user for user, mail in users.items() if mail == email), None) if email else None


def _constant(row: AnyRow, source: Side, _given: Value, _record_id: str, context: Context) -> Converted:
    assert isinstance(row, ConstantRow)  # noqa: S101 - the table below pairs row and rule
    target = context.column(source.other, row.columns(source.other)[0])
    if target.type is not ColumnType.LOOKUP:
        return _value(row.value)
    found = _stored(target, row.value)
    return _value(found) if found is not None else _problem("mapping.value_unknown", f"{target.name} has no {row.value!r} to choose from")


def _source_id(_row: AnyRow, _source: Side, _given: Value, record_id: str, _context: Context) -> Converted:
    return _value(record_id)


def _join(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    assert isinstance(row, JoinRow)  # noqa: S101 - the table below pairs row and rule
    if isinstance(value, tuple):
        return _value(row.separator.join(str(part) for part in value if part is not None) or None)
    count = len(row.columns(source.other))
    if value is None:
        return _value((None,) * count)
    if not isinstance(value, str):
        return _wrong_type(row, source, value, context)
    parts = [part.strip() for part in value.split(row.separator)]
    parts = [part for part in parts if part]
    kept, rest = parts[: count - 1], parts[count - 1 :]
    filled: list[Scalar] = [*kept, *([", ".join(rest)] if rest else [])]
    return _value(tuple(filled + [None] * (count - len(filled))))


def _split_name(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    if isinstance(value, tuple):
        return _value(" ".join(str(part) for part in value if part is not None) or None)
    count = len(row.columns(source.other))
    if value is None:
        return _value((None,) * count)
    if not isinstance(value, str):
        return _wrong_type(row, source, value, context)
    first, *between_and_last = value.split()[:1], *[value.split()[1:]]
    rest = between_and_last[0]
    if not rest:
        return _value((None,) * (count - 1) + (first[0] if first else None,))
    if count == 2:  # noqa: PLR2004 - first and last
        return _value((" ".join([*first, *rest[:-1]]), rest[-1]))
    return _value((first[0], " ".join(rest[:-1]) or None, rest[-1]))


def _date(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    if value is None:
        return _value(None)
    if not isinstance(value, date):
        return _wrong_type(row, source, value, context)
    day = value.date() if isinstance(value, datetime) else value
    wants_time = context.column(source.other, row.columns(source.other)[0]).type is ColumnType.DATETIME
    return _value(datetime.combine(day, time.min, UTC) if wants_time else day)


def _datetime(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    if value is None:
        return _value(None)
    if not isinstance(value, datetime):
        return _wrong_type(row, source, value, context)
    # Dataverse keeps whole seconds (dataverse.md 9), so finer parts would come back as a change.
    return _value(value.astimezone(UTC).replace(microsecond=0))


def _money(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    assert isinstance(row, MoneyRow)  # noqa: S101 - the table below pairs row and rule
    if value is None:
        return _value(None)
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return _wrong_type(row, source, value, context)
    scale = context.column(source.other, row.columns(source.other)[0]).scale
    step = Decimal(1).scaleb(-(row.scale if scale is None else scale))
    try:
        amount = Decimal(value).quantize(step, ROUND_HALF_UP)
    except InvalidOperation:
        return _problem("mapping.value_type", f"{row.columns(source)[0]} holds more digits than an amount can have")
    return _value(amount.normalize() if amount else Decimal(0))


def _integer(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    if value is None:
        return _value(None)
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or value != int(value):
        return _wrong_type(row, source, value, context)
    return _value(int(value))


def _boolean(row: AnyRow, source: Side, value: Value, _record_id: str, context: Context) -> Converted:
    if value is None or isinstance(value, bool):
        return _value(value)
    return _wrong_type(row, source, value, context)


def _phone(row: AnyRow, source: Side, value: Value, record_id: str, context: Context) -> Converted:
    if isinstance(value, str):
        return _value(value.strip() or None)
    return _copy(row, source, value, record_id, context)


def _plain_text(row: AnyRow, source: Side, value: Value, record_id: str, context: Context) -> Converted:
    if isinstance(value, str):
        return _value(plain_text(value) or None)
    return _copy(row, source, value, record_id, context)


def _digits(text: str) -> str:
    return _NO_DIGIT.sub("", text)


_Rule: TypeAlias = Callable[[AnyRow, Side, Value, str, Context], Converted]
_RULES: MappingOf[type[Any], _Rule] = {
    CopyRow: _copy,
    ChoiceRow: _choice,
    ReferenceRow: _reference,
    ConstantRow: _constant,
    SourceIdRow: _source_id,
    JoinRow: _join,
    SplitNameRow: _split_name,
    DateRow: _date,
    DatetimeRow: _datetime,
    MoneyRow: _money,
    IntegerRow: _integer,
    BooleanRow: _boolean,
    PhoneRow: _phone,
    PlainTextRow: _plain_text,
}
