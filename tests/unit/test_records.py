"""Wire values become normal ones, column type by column type, for systems with and without null (creatio.md 2.2, 4; dataverse.md)."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.records import EMPTY_GUID, Column, ColumnType, Side, Stamp, is_empty, is_guid, normalise, read_time

GUID = "C0000000-0000-4000-8000-00000000000A"
NOON = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
LIKE_CREATIO, LIKE_DATAVERSE = True, False
both_kinds = pytest.mark.parametrize("without_null", [LIKE_CREATIO, LIKE_DATAVERSE], ids=["without null", "with null"])
every_type = pytest.mark.parametrize("kind", list(ColumnType))


def read(kind, raw, without_null):
    """Read a wire value of a column of that kind."""
    return normalise(raw, Column("Any", ColumnType(kind)), without_null)


@both_kinds
@every_type
def test_null_is_none(kind, without_null) -> None:
    """Null means nothing there, in every column and on every side."""
    assert read(kind, None, without_null) is None


FILLED = [
    ("text", "Acme", "Acme"),
    ("text", " \t", " \t"),
    ("text", "a\r\nb\rc\nd", "a\nb\nc\nd"),
    ("integer", 5, 5),
    ("integer", -5, -5),
    ("integer", Decimal("5.0"), 5),
    ("choice", 3, 3),
    ("decimal", 12, Decimal(12)),
    ("decimal", Decimal("12.50"), Decimal("12.5")),
    ("decimal", "12.50", Decimal("12.5")),
    ("boolean", True, True),
    ("boolean", False, False),
    ("datetime", "2026-03-01T12:30:15Z", NOON),
    ("date", "2026-03-01", date(2026, 3, 1)),
    ("date", "2026-03-01T00:00:00Z", date(2026, 3, 1)),
    ("id", GUID, GUID.lower()),
    ("lookup", GUID, GUID.lower()),
]


@both_kinds
@pytest.mark.parametrize(("kind", "raw", "wanted"), FILLED)
def test_a_filled_value_is_the_same_on_every_side(kind, raw, wanted, without_null) -> None:
    """Line ends are LF, ids are lower case, amounts are exact and without trailing zeros; the type is the column's."""
    value = read(kind, raw, without_null)
    assert value == wanted
    assert type(value) is type(wanted)
    assert str(value) == str(wanted)


@both_kinds
@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("text", ""),
        ("id", EMPTY_GUID),
        ("lookup", EMPTY_GUID),
        ("datetime", "0001-01-01T00:00:00Z"),
        ("datetime", "0001-01-01T00:00:00+03:00"),
        ("date", "0001-01-01"),
    ],
)
def test_what_is_empty_on_every_side(kind, raw, without_null) -> None:
    """An empty text, the empty guid and year 1 stand for nothing there, whoever sends them; year 1 does not overflow by its offset."""
    assert read(kind, raw, without_null) is None


@pytest.mark.parametrize(
    ("kind", "raw", "elsewhere"),
    [("integer", 0, 0), ("integer", Decimal("0.0"), 0), ("decimal", 0, Decimal(0)), ("decimal", Decimal("0.00"), Decimal(0))],
)
def test_zero_is_empty_only_where_there_is_no_null(kind, raw, elsewhere) -> None:
    """Creatio cannot say null, so that its 0 means nothing there; elsewhere 0 is a number."""
    assert read(kind, raw, LIKE_CREATIO) is None
    assert read(kind, raw, LIKE_DATAVERSE) == elsewhere
    assert str(read(kind, raw, LIKE_DATAVERSE)) == "0"


@both_kinds
def test_option_zero_and_no_are_values(without_null) -> None:
    """Option 0 is a choice (an active record), and no is an answer: neither is taken for nothing."""
    assert read("choice", 0, without_null) == 0
    assert read("boolean", False, without_null) is False  # noqa: FBT003 - a value


WRONG = [
    *[(kind, raw) for kind in ("text", "id", "lookup", "date", "datetime") for raw in (5, True, Decimal("1.5"), [], {})],
    *[(kind, raw) for kind in ("integer", "choice") for raw in ("5", True, False, Decimal("5.5"), 5.0, [], "")],
    *[("decimal", raw) for raw in ("", "twelve", "NaN", "Infinity", True, False, 1.5, [], Decimal("Infinity"), Decimal("NaN"))],
    *[("boolean", raw) for raw in (0, 1, "true", "", Decimal(1), [])],
    *[("id", raw) for raw in ("", "abc", GUID + "0", "{" + GUID + "}", GUID.replace("-", ""), GUID + "\n")],
    *[("datetime", raw) for raw in ("", "yesterday", "2026-13-01T00:00:00Z", "2026-03-01T12:30:15", "12:30:15Z")],
    *[("date", raw) for raw in ("", "2026-13-01", "2026-02-30", "01.03.2026")],
]


@both_kinds
@pytest.mark.parametrize(("kind", "raw"), WRONG, ids=repr)
def test_a_wire_value_of_another_type_is_refused(kind, raw, without_null) -> None:
    """A changed wire format is an error of the row, never a guess."""
    with pytest.raises(ValueError, match=r"\S"):
        read(kind, raw, without_null)


@pytest.mark.parametrize("secret", ["Geheim-4711", "4711-Geheim"])
@pytest.mark.parametrize("kind", ["id", "lookup", "decimal", "integer", "boolean"])
def test_a_refusal_does_not_show_the_value(kind, secret) -> None:
    """Texts of errors end up in logs and pages, values must not."""
    with pytest.raises(ValueError, match="got ") as caught:
        read(kind, secret, LIKE_CREATIO)
    assert "Geheim" not in str(caught.value)


@both_kinds
@given(number=st.integers(-(2**70), 2**70).filter(bool))
def test_whole_numbers_of_any_size_stay_exact(without_null, number) -> None:
    """Nothing goes through a float on its way."""
    assert read("integer", number, without_null) == number
    assert read("decimal", number, without_null) == number


# --- times ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("2026-03-01T12:30:15.1234567Z", 123456),
        ("2026-03-01T12:30:15.9999999Z", 999999),
        ("2026-03-01T12:30:15.1234567891Z", 123456),
        ("2026-03-01T12:30:15.123456Z", 123456),
        ("2026-03-01T12:30:15.123Z", 123000),
        ("2026-03-01T12:30:15Z", 0),
    ],
)
def test_digits_beyond_microseconds_are_cut(text, micro) -> None:
    """Creatio sends seven digits (creatio.md 4); they are cut, never rounded up into the next second."""
    assert read_time(text) == NOON.replace(microsecond=micro)


@pytest.mark.parametrize(
    "text", ["2026-03-01T12:30:15+00:00", "2026-03-01T15:30:15+03:00", "2026-03-01T07:00:15.0000000-05:30", "2026-03-02T02:30:15+14:00"]
)
def test_every_offset_names_the_same_moment(text) -> None:
    """A time is kept in UTC, whatever zone it was written in."""
    assert read_time(text) == NOON
    assert read_time(text).utcoffset() == timedelta(0)


@given(moment=st.datetimes(datetime(2, 1, 2), datetime(9998, 12, 30)), hours=st.integers(-14, 14))  # noqa: DTZ001 - the zone comes below
def test_any_moment_is_read_as_it_was_written(moment, hours) -> None:
    """Writing and reading a moment gives the moment, in any zone, with any part of a second."""
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert read_time(aware.isoformat()) == aware


@pytest.mark.parametrize("text", ["2026-03-01T12:30:15", "2026-03-01", "2026-03-01T12:30:15.1234567"])
def test_a_time_without_zone_is_refused(text) -> None:
    """Whose noon it is can't be guessed."""
    with pytest.raises(ValueError, match="zone"):
        read_time(text)


@given(moment=st.datetimes(datetime(1900, 1, 1), timezones=st.just(UTC)), version=st.text(max_size=20))  # noqa: DTZ001 - the zone is given
def test_a_stamp_survives_its_text_form(moment, version) -> None:
    """What a message or the ledger keeps of a row's state is that state, also with a bar or a quote in its version."""
    assert Stamp.decode(Stamp(moment, version).encode()) == Stamp(moment, version)


def test_a_stamp_is_the_same_text_in_every_zone() -> None:
    """Equal stamps are equal texts, so that an echo is seen by comparing them (law 5)."""
    other = NOON.astimezone(timezone(timedelta(hours=9)))
    assert Stamp(other, "W/1").encode() == Stamp(NOON, "W/1").encode()


# --- the small words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "empty"),
    [(None, True), ((None, None), True), ((), True), (False, False), (0, False), (Decimal(0), False), ("", False), ((None, "x"), False)],
)
def test_what_is_empty(value, empty) -> None:
    """No and 0 are values; several columns are empty only when all of them are."""
    assert is_empty(value) is empty


@pytest.mark.parametrize(("text", "guid"), [(GUID, True), (GUID.lower(), True), (EMPTY_GUID, True), ("", False), (GUID[:-1], False)])
def test_what_is_a_guid(text, guid) -> None:
    """The plain form of 36 characters, in any case."""
    assert is_guid(text) is guid


def test_each_side_is_opposite_the_other() -> None:
    """Going over twice comes back."""
    assert [side.other for side in Side] == list(reversed(Side))
    assert all(side.other.other is side for side in Side)


def test_values_beyond_all_bounds_are_value_errors() -> None:
    """A time that leaves the calendar when it becomes UTC, and an infinite whole number, are told as any wrong value is."""
    with pytest.raises(ValueError, match="years 1 to 9999"):
        read_time("9999-12-31T23:59:59-05:00")
    with pytest.raises(ValueError, match="whole number"):
        normalise(Decimal("Infinity"), Column("Employees", ColumnType.INTEGER), side_without_null=False)
