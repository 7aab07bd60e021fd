"""The rules for dates, moments, numbers and yes/no, each both ways."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.mapping import BooleanRow, DateRow, DatetimeRow, IntegerRow, MoneyRow
from shared.core.rules import Context
from tests.unit.rule_world import DYNAMICS, C, D, both_sides, column, goes, plain, problem_of, row, value, world

# --- date, datetime --------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


@both_sides
@given(day=st.dates())
def test_date_stays_the_same_day(source, day) -> None:
    """A calendar date arrives as the same date, both ways."""
    assert goes(day, plain("date", "date"), row(DateRow), source) == value(day)


def test_date_becomes_midnight_where_the_column_wants_a_time() -> None:
    """Between a date and a time column the day is kept: midnight in UTC there, the day in UTC back."""
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    assert goes(date(2026, 3, 1), plain("date", "datetime"), row(DateRow)) == value(midnight)
    assert goes(NOON, plain("date", "datetime"), row(DateRow), DYNAMICS) == value(date(2026, 3, 1))


@both_sides
def test_date_carries_emptiness_and_refuses_other_types(source) -> None:
    """No date is no date; a text that looks like one is not guessed at."""
    assert goes(None, plain("date", "date"), row(DateRow), source) == value(None)
    assert problem_of(goes("2026-03-01", plain("date", "date"), row(DateRow), source)) == "mapping.value_type"


@both_sides
@given(moment=st.datetimes(timezones=st.just(UTC), min_value=datetime(1800, 1, 1)))  # noqa: DTZ001 - the strategy adds the zone
def test_datetime_keeps_the_moment_to_the_second(source, moment) -> None:
    """A moment arrives in UTC without parts of a second, and comes back as the same second."""
    there = goes(moment, plain("datetime", "datetime"), row(DatetimeRow), source)
    assert there == value(moment.replace(microsecond=0))
    assert goes(there.value, plain("datetime", "datetime"), row(DatetimeRow), source.other) == there


def test_datetime_of_another_zone_is_the_same_moment() -> None:
    """An offset changes how a moment is written, not the moment."""
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    converted = goes(local, plain("datetime", "datetime"), row(DatetimeRow))
    assert converted == value(NOON)
    assert str(converted.value).endswith("+00:00")


@both_sides
@pytest.mark.parametrize("given", ["2026-03-01T12:00:00Z", date(2026, 3, 1), 5])
def test_datetime_carries_emptiness_and_refuses_other_types(source, given) -> None:
    """No moment is no moment; a day without a time is not one."""
    assert goes(None, plain("datetime", "datetime"), row(DatetimeRow), source) == value(None)
    assert problem_of(goes(given, plain("datetime", "datetime"), row(DatetimeRow), source)) == "mapping.value_type"


# --- money, integer, boolean -----------------------------------------------------------------------------------------------


def amounts(scale=None) -> Context:
    """Return a context of two amount columns with as many decimal places."""
    return world(column(C, "decimal", scale=scale), column(D, "decimal", scale=scale))


CENTS = st.decimals(min_value=Decimal("0.01"), max_value=Decimal("99999999999.99"), places=2)


@both_sides
@given(amount=CENTS)
def test_money_is_exact_both_ways(source, amount) -> None:
    """Cents survive the way there and back, whatever the amount."""
    there = goes(amount, amounts(2), row(MoneyRow), source)
    assert there.value == amount
    assert goes(there.value, amounts(2), row(MoneyRow), source.other).value == amount


@pytest.mark.parametrize(("given", "wanted"), [("0.125", "0.13"), ("-0.125", "-0.13"), ("2.5000", "2.5"), ("1E+3", "1000")])
def test_money_rounds_half_away_from_zero(given, wanted) -> None:
    """Half a cent is rounded as an accountant does, and trailing zeros make no difference."""
    assert goes(Decimal(given), amounts(2), row(MoneyRow)) == value(Decimal(wanted))


def test_money_uses_the_places_of_the_column_before_those_of_the_row() -> None:
    """Live metadata knows how many decimal places a column has; the row's number is for metadata that does not say."""
    assert goes(Decimal("1.23456"), amounts(4), row(MoneyRow, scale=1)) == value(Decimal("1.2346"))
    assert goes(Decimal("1.23456"), amounts(), row(MoneyRow, scale=1)) == value(Decimal("1.2"))
    assert goes(Decimal("1.23456"), amounts(), row(MoneyRow)) == value(Decimal("1.23"))


def test_money_of_nothing() -> None:
    """No amount stays none; 0 is an amount in Dynamics and empty in Creatio, which can't tell the two apart (creatio.md 2.2)."""
    assert goes(None, amounts(2), row(MoneyRow)) == value(None)
    assert goes(Decimal(0), amounts(2), row(MoneyRow)) == value(Decimal(0))
    assert goes(Decimal(0), amounts(2), row(MoneyRow), DYNAMICS) == value(None)
    assert goes(Decimal("0.001"), amounts(2), row(MoneyRow), DYNAMICS) == value(None)


@both_sides
@pytest.mark.parametrize("given", ["12.50", True, date(2026, 1, 1), Decimal("1E+40")])
def test_money_refuses_what_is_no_amount(source, given) -> None:
    """A text, a yes and a number beyond all amounts are problems, not guesses."""
    assert problem_of(goes(given, amounts(2), row(MoneyRow), source)) == "mapping.value_type"


@both_sides
@given(number=st.integers(-(2**40), 2**40).filter(bool))
def test_integer_is_exact_both_ways(source, number) -> None:
    """A whole number arrives as it is, also when a server sent it as 5.0."""
    context = plain("integer", "integer")
    assert goes(number, context, row(IntegerRow), source) == value(number)
    assert goes(Decimal(number).quantize(Decimal("0.0")), context, row(IntegerRow), source) == value(number)


def test_integer_of_nothing() -> None:
    """No number stays none; 0 is empty in Creatio (creatio.md 2.2)."""
    context = plain("integer", "integer")
    assert goes(None, context, row(IntegerRow)) == value(None)
    assert goes(0, context, row(IntegerRow)) == value(0)
    assert goes(0, context, row(IntegerRow), DYNAMICS) == value(None)


@both_sides
@pytest.mark.parametrize("given", ["7", True, Decimal("1.5"), date(2026, 1, 1)])
def test_integer_refuses_what_is_no_whole_number(source, given) -> None:
    """A half, a yes and a text are problems, never rounded or guessed."""
    assert problem_of(goes(given, plain("integer", "integer"), row(IntegerRow), source)) == "mapping.value_type"


@both_sides
@pytest.mark.parametrize("given", [True, False])
def test_boolean_goes_both_ways(source, given) -> None:
    """Yes is yes and no is no: false is a value, not an empty one."""
    assert goes(given, plain("boolean", "boolean"), row(BooleanRow), source) == value(given)


def test_boolean_of_nothing() -> None:
    """An absent yes/no stays absent in Dynamics and is no in Creatio, which can't say that it is absent (creatio.md 2.2)."""
    assert goes(None, plain("boolean", "boolean"), row(BooleanRow)) == value(None)
    assert goes(None, plain("boolean", "boolean"), row(BooleanRow), DYNAMICS) == value(False)  # noqa: FBT003 - a value


@both_sides
@pytest.mark.parametrize("given", [0, 1, "true", Decimal(1)])
def test_boolean_refuses_numbers_and_texts(source, given) -> None:
    """1 is not yes: what stands for yes is a matter of a value list."""
    assert problem_of(goes(given, plain("boolean", "boolean"), row(BooleanRow), source)) == "mapping.value_type"
