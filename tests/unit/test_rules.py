"""The thirteen rules, each both ways: a normal value, an empty one, a wrong type, one that is too long, one that is unknown."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.mapping import (
    RULES,
    BooleanRow,
    ChoiceRow,
    ConstantRow,
    CopyRow,
    DateRow,
    DatetimeRow,
    IntegerRow,
    JoinRow,
    MoneyRow,
    Pair,
    PhoneRow,
    ReferenceRow,
    SourceIdRow,
    SplitNameRow,
)
from shared.core.records import Column, ColumnType, Entity, Side
from shared.core.rules import _RULES, ENDED, Context, Converted, State, convert, match_text, same, utf16_length

CREATIO, DYNAMICS = Side.CREATIO, Side.DYNAMICS
RECORD = "c0000000-0000-4000-8000-000000000001"
HERE = {"Ada": "c1", "Grace": "c2", "Linus": "c3"}
ROCKET = "\N{ROCKET}"
C, D = "Here", "there"


def column(name, kind, **facts):
    """Return a column by its kind's name."""
    return Column(name, ColumnType(kind), **facts)


def world(here, there, **more) -> Context:
    """Return a context whose Creatio has one column `Here` and whose Dynamics has `there` (or several, by name)."""
    theirs = there if isinstance(there, list) else [there]
    entities = {
        CREATIO: Entity("Object", {here.name: here}),
        DYNAMICS: Entity("table", {each.name: each for each in theirs}),
    }
    return Context(entities, **more)


def texts(length=None) -> Context:
    """Return a context of two text columns, the Dynamics one with a length."""
    return world(column(C, "text"), column(D, "text", max_length=length))


def plain(kind_here, kind_there, **facts) -> Context:
    """Return a context of two columns of these kinds."""
    return world(column(C, kind_here), column(D, kind_there, **facts))


def value(given) -> Converted:
    """Return the conversion that gives a value."""
    return Converted(State.VALUE, given)


def row(kind, **more):
    """Return a two-way row between `Here` and `there`, unless said otherwise."""
    return kind.model_validate({"rule": kind.model_fields["rule"].annotation.__args__[0], "creatio": C, "way": "=", "dynamics": D, **more})


def goes(given, context, rule, source=CREATIO) -> Converted:
    """Convert a value from one side to the other."""
    return convert(rule, source, given, RECORD, context)


def problem_of(converted) -> str:
    """Return the code of a problem."""
    assert converted.state is State.PROBLEM
    assert converted.detail
    return converted.code


both_sides = pytest.mark.parametrize("source", list(Side))


def test_every_rule_of_the_list_is_tested_and_implemented() -> None:
    """The closed list of rules, the table of implementations and the tests of this file name the same thirteen rules."""
    tested = {name.split("_", 2)[1] for name in globals() if name.startswith("test_")}
    assert {kind.model_fields["rule"].annotation.__args__[0] for kind in _RULES} == set(RULES)
    assert {rule.split("_", maxsplit=1)[0] for rule in RULES} <= tested
    assert len(RULES) == 13


# --- copy -------------------------------------------------------------------------------------------------------------------


@both_sides
@given(text=st.text(min_size=1, max_size=50))
def test_copy_carries_every_text_both_ways(source, text) -> None:
    """Any text, of any script, arrives as it is and comes back as it is."""
    there = goes(text, texts(), row(CopyRow), source)
    assert there == value(text)
    assert goes(there.value, texts(), row(CopyRow), source.other) == value(text)


@both_sides
def test_copy_carries_emptiness(source) -> None:
    """An empty text empties the other side."""
    assert goes(None, texts(5), row(CopyRow), source) == value(None)


@both_sides
@pytest.mark.parametrize("given", [7, True, Decimal("1.5"), date(2026, 1, 1), ("a", "b")])
def test_copy_refuses_what_is_no_text(source, given) -> None:
    """Only texts are copied; anything else needs a rule that knows what it is."""
    assert problem_of(goes(given, texts(), row(CopyRow), source)) == "mapping.value_type"


def test_copy_refuses_a_text_that_is_too_long() -> None:
    """A text beyond the column's length is a problem that names both lengths, counted in UTF-16 units as the server counts."""
    converted = goes("ab" + ROCKET, texts(3), row(CopyRow))
    assert problem_of(converted) == "mapping.too_long"
    assert converted.detail == "there: got 4 characters, allowed 3"


def test_copy_takes_a_text_that_just_fits() -> None:
    """The length itself is allowed; an emoji counts two."""
    assert goes("ab" + ROCKET, texts(4), row(CopyRow)) == value("ab" + ROCKET)


@given(text=st.text(max_size=40), length=st.integers(1, 20))
def test_copy_cuts_where_the_row_says_so(text, length) -> None:
    """A cut text fits, is a beginning of the original but for spaces at its end, and wastes at most one unit before them."""
    converted = goes(text or "x", texts(length), row(CopyRow, overlong="truncate"))
    assert converted.state is State.VALUE
    cut = str(converted.value)
    assert utf16_length(cut) <= length
    assert (text or "x").startswith(cut)
    if utf16_length(text) > length:
        rest = (text or "x")[len(cut) :]
        room = length - utf16_length(cut)
        lost = rest[: len(rest) - len(rest.lstrip())]
        assert room <= utf16_length(lost) + 1
    else:
        assert cut == (text or "x")


def test_copy_leaves_no_space_at_a_cut() -> None:
    """Servers trim the ends of texts, and a trimmed text would come back as a change."""
    assert goes("ab cd", texts(3), row(CopyRow, overlong="truncate")) == value("ab")


def test_copy_into_a_column_of_another_type_goes_through() -> None:
    """Whether a column that is no text takes a text is its own system's question."""
    assert goes("x", plain("text", "lookup"), row(CopyRow)) == value("x")


# --- choice -----------------------------------------------------------------------------------------------------------------

LISTED = {
    "types": (Pair(creatio="Ada", dynamics=3), Pair(creatio="Grace", dynamics="Fourth"), Pair(creatio="c3", dynamics=9)),
    "state": (Pair(creatio=True, dynamics=0), Pair(creatio=False, dynamics=1)),
}
OPTIONS = {"0": "Active", "1": "Inactive", "3": "Third", "4": "Fourth", "9": "Ninth"}


def choices(kind_here="lookup", kind_there="choice") -> Context:
    """Return a context of a lookup with three values and an option column."""
    return world(
        column(C, kind_here, options={key: label for label, key in HERE.items()} if kind_here == "lookup" else {}),
        column(D, kind_there, options=OPTIONS if kind_there == "choice" else {}),
        values=LISTED,
    )


@pytest.mark.parametrize(("here", "there"), [("c1", 3), ("c2", 4), ("c3", 9)])
def test_choice_by_a_list_goes_both_ways(here, there) -> None:
    """A pair may name a label, an id or an option number on either side; all of them are found, both ways."""
    assert goes(here, choices(), row(ChoiceRow, values="types")) == value(there)
    assert goes(there, choices(), row(ChoiceRow, values="types"), DYNAMICS) == value(here)


@pytest.mark.parametrize(("here", "there"), [(True, 0), (False, 1)])
def test_choice_between_yes_no_and_options(here, there) -> None:
    """A yes/no column and an option column are joined by a list; yes is not the number 1."""
    context = choices("boolean")
    assert goes(here, context, row(ChoiceRow, values="state")) == value(there)
    assert goes(there, context, row(ChoiceRow, values="state"), DYNAMICS) == value(here)


def test_choice_by_labels_between_a_list_and_a_text() -> None:
    """A lookup's label is written as text; a text finds the lookup value of that label whatever case and spaces it has."""
    context = choices(kind_there="text")
    assert goes("c2", context, row(ChoiceRow, values="labels")) == value("Grace")
    for spelling in ("Grace", "GRACE", "  gr\N{LATIN SMALL LETTER A}ce ", "\N{FULLWIDTH LATIN CAPITAL LETTER G}race"):
        assert goes(spelling, context, row(ChoiceRow, values="labels"), DYNAMICS) == value("c2")


def test_choice_by_labels_between_two_lists() -> None:
    """Two lists with equal labels need no value list."""
    context = world(column(C, "lookup", options={"x1": "third"}), column(D, "choice", options=OPTIONS))
    assert goes("x1", context, row(ChoiceRow, values="labels")) == value(3)
    assert goes(3, context, row(ChoiceRow, values="labels"), DYNAMICS) == value("x1")


@both_sides
def test_choice_carries_emptiness(source) -> None:
    """No choice here is no choice there."""
    assert goes(None, choices(), row(ChoiceRow, values="types"), source) == value(None)


@pytest.mark.parametrize(("source", "given"), [(CREATIO, "c9"), (DYNAMICS, 1)])
def test_choice_without_partner_is_refused_or_kept(source, given) -> None:
    """A value that the list does not know needs a person, or leaves the other side alone: as the row says."""
    assert problem_of(goes(given, choices(), row(ChoiceRow, values="types"), source)) == "mapping.value_unknown"
    assert goes(given, choices(), row(ChoiceRow, values="types", otherwise="keep"), source) == Converted(State.KEPT)


def test_choice_that_the_live_column_lacks_is_refused() -> None:
    """A pair whose partner was deleted in the live system does not write a value that isn't there."""
    context = world(column(C, "lookup", options={"c1": "Ada"}), column(D, "choice", options={"4": "Fourth"}), values=LISTED)
    assert problem_of(goes("c1", context, row(ChoiceRow, values="types"))) == "mapping.value_unknown"


def test_choice_of_a_long_label_is_refused() -> None:
    """A label that is longer than the text column is a problem like any other long text."""
    context = world(column(C, "lookup", options={"c1": "Longish"}), column(D, "text", max_length=3))
    assert problem_of(goes("c1", context, row(ChoiceRow, values="labels"))) == "mapping.too_long"


def test_choice_of_yes_into_a_number_column_is_refused() -> None:
    """A list that pairs a number with a yes/no column never writes the number there."""
    context = world(column(C, "boolean"), column(D, "choice", options=OPTIONS), values={"odd": (Pair(creatio="yes", dynamics=3),)})
    assert goes(3, context, row(ChoiceRow, values="odd"), DYNAMICS).state is State.PROBLEM


def test_choice_tells_yes_from_one() -> None:
    """A list that names the number 1 does not mean yes, although the two are equal in Python."""
    context = world(column(C, "boolean"), column(D, "choice", options=OPTIONS), values={"numbers": (Pair(creatio=1, dynamics=3),)})
    assert problem_of(goes(True, context, row(ChoiceRow, values="numbers"))) == "mapping.value_unknown"  # noqa: FBT003 - a value


# --- reference --------------------------------------------------------------------------------------------------------------


def linked() -> Context:
    """Return a context with one bound and one ended record a side, and users of whom one works on both."""
    return world(
        column(C, "lookup"),
        column(D, "lookup"),
        references={
            ("sales.contact", CREATIO, "c1"): "d1",
            ("sales.contact", DYNAMICS, "d1"): "c1",
            ("sales.contact", CREATIO, "c8"): ENDED,
            ("sales.contact", DYNAMICS, "d8"): ENDED,
        },
        users={CREATIO: {"u1": "ada@x.example", "u2": "only@here.example", "u3": ""}, DYNAMICS: {"s1": "ada@x.example", "s3": ""}},
    )


@pytest.mark.parametrize(("source", "given", "found"), [(CREATIO, "c1", "d1"), (DYNAMICS, "d1", "c1")])
def test_reference_follows_the_binding(source, given, found) -> None:
    """A reference becomes the id of the bound record on the other side, both ways."""
    assert goes(given, linked(), row(ReferenceRow, flow="sales.contact"), source) == value(found)


@both_sides
def test_reference_to_nothing_is_nothing(source) -> None:
    """An empty reference empties the other side."""
    assert goes(None, linked(), row(ReferenceRow, flow="sales.contact"), source) == value(None)
    assert goes(None, linked(), row(ReferenceRow, users="email"), source) == value(None)


@pytest.mark.parametrize(("source", "given"), [(CREATIO, "c7"), (DYNAMICS, "d7")])
def test_reference_to_a_record_that_is_not_bound_waits(source, given) -> None:
    """The conversion names the record it waits for, so that its binding can wake this one (law 9)."""
    converted = goes(given, linked(), row(ReferenceRow, flow="sales.contact"), source)
    assert converted == Converted(State.PENDING, waits_for=("sales.contact", source, given))


@pytest.mark.parametrize(("source", "given"), [(CREATIO, "c8"), (DYNAMICS, "d8")])
def test_reference_to_an_ended_binding_needs_a_person(source, given) -> None:
    """A record that was unlinked or deleted will not be bound by waiting."""
    assert problem_of(goes(given, linked(), row(ReferenceRow, flow="sales.contact"), source)) == "mapping.reference_ended"


@pytest.mark.parametrize(("source", "given", "found"), [(CREATIO, "u1", "s1"), (DYNAMICS, "s1", "u1")])
def test_reference_to_a_user_goes_by_mail(source, given, found) -> None:
    """A user is the one with the same e-mail."""
    assert goes(given, linked(), row(ReferenceRow, users="email"), source) == value(found)


@pytest.mark.parametrize(("source", "given"), [(CREATIO, "u2"), (CREATIO, "u3"), (CREATIO, "u9"), (DYNAMICS, "s3"), (DYNAMICS, "s9")])
def test_reference_to_a_user_without_partner_is_kept_or_refused(source, given) -> None:
    """A user whose e-mail nobody has on the other side, and one without an e-mail, never become somebody else."""
    assert goes(given, linked(), row(ReferenceRow, users="email"), source) == Converted(State.KEPT)
    assert problem_of(goes(given, linked(), row(ReferenceRow, users="email", otherwise="reject"), source)) == "mapping.value_unknown"


# --- constant, source_id ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "source"), [(">", CREATIO), ("<", DYNAMICS)])
@pytest.mark.parametrize("given", [None, "old", 5])
def test_constant_is_written_whatever_the_source_holds(way, source, given) -> None:
    """The receiving side gets the constant, for an empty source too."""
    assert goes(given, plain("integer", "integer"), row(ConstantRow, way=way, value=7), source) == value(7)


def test_constant_text_must_fit() -> None:
    """A constant is held to the length of its column and to its type, like every value."""
    assert problem_of(goes(None, texts(3), row(ConstantRow, way=">", value="Creatio"))) == "mapping.too_long"
    assert problem_of(goes(None, texts(), row(ConstantRow, way=">", value=7))) == "mapping.value_type"


@pytest.mark.parametrize(("way", "source"), [(">", CREATIO), ("<", DYNAMICS)])
@pytest.mark.parametrize("given", [None, "something"])
def test_source_id_is_the_id_of_the_record(way, source, given) -> None:
    """The receiving side gets the source record's id, whatever its column held."""
    assert goes(given, texts(), row(SourceIdRow, way=way), source) == value(RECORD)


def test_source_id_must_fit() -> None:
    """An id is never cut: a column of fewer than 36 characters is a problem."""
    assert goes(None, texts(36), row(SourceIdRow, way=">")) == value(RECORD)
    assert problem_of(goes(None, texts(35), row(SourceIdRow, way=">"))) == "mapping.too_long"


# --- join, split_name -------------------------------------------------------------------------------------------------------


def lines(count, length=None) -> Context:
    """Return a context of one text here and several there."""
    return world(column(C, "text"), [column(f"line{number}", "text", max_length=length) for number in range(1, count + 1)])


def joined(count=3, **more) -> JoinRow:
    """Return a join over that many columns."""
    return row(JoinRow, dynamics=[f"line{number}" for number in range(1, count + 1)], **more)


LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("C", "Z")), min_size=1, max_size=20)


@given(parts=st.lists(LINE, min_size=1, max_size=3))
def test_join_comes_back_as_it_was(parts) -> None:
    """As many lines as there are columns, or fewer, survive the way there and back."""
    text = "\n".join(parts)
    there = goes(text, lines(3), joined())
    assert there == value((*parts, *[None] * (3 - len(parts))))
    assert goes(there.value, lines(3), joined(), DYNAMICS) == value(text)


def test_join_keeps_what_has_no_column_of_its_own() -> None:
    """Lines beyond the last column are put together in it, so that nothing is lost; empty lines and spaces go."""
    assert goes("a\n\n b \nc\nd", lines(3), joined()) == value(("a", "b", "c, d"))
    assert goes("a\nb\nc", lines(2), joined(2)) == value(("a", "b, c"))


def test_join_closes_gaps() -> None:
    """Empty columns leave no empty lines."""
    assert goes(("a", None, "c"), lines(3), joined(), DYNAMICS) == value("a\nc")


def test_join_of_nothing_is_nothing() -> None:
    """An empty text empties every column, empty columns empty the text, and so does a text of line ends."""
    assert goes(None, lines(3), joined()) == value((None, None, None))
    assert goes((None, None, None), lines(3), joined(), DYNAMICS) == value(None)
    assert goes("\n \n", lines(3), joined()) == value((None, None, None))


def test_join_refuses_what_is_no_text_or_too_long() -> None:
    """A number is no text; one part that does not fit stops the whole field, for half an address is a wrong one."""
    assert problem_of(goes(7, lines(3), joined())) == "mapping.value_type"
    assert problem_of(goes("ok\nfar too long", lines(3, 5), joined())) == "mapping.too_long"


def test_join_with_another_separator_goes_one_way() -> None:
    """Columns can be joined by a comma towards the single text."""
    context = lines(2)
    assert goes(("a", "b"), context, joined(2, way="<", separator=", "), DYNAMICS) == value("a, b")


def names(count=2) -> Context:
    """Return a context of one full name here and its parts there."""
    return lines(count)


def split(count=2) -> SplitNameRow:
    """Return a row that splits a name in two or three."""
    return row(SplitNameRow, dynamics=[f"line{number}" for number in range(1, count + 1)])


@pytest.mark.parametrize(
    ("full", "parts"),
    [
        ("Ada Lovelace", ("Ada", "Lovelace")),
        ("Ada King Lovelace", ("Ada King", "Lovelace")),
        ("Plato", (None, "Plato")),
        (None, (None, None)),
    ],
)
def test_split_name_goes_both_ways(full, parts) -> None:
    """First names and last name become the full name and come from it; a single word is a last name."""
    assert goes(full, names(), split()) == value(parts)
    assert goes(parts, names(), split(), DYNAMICS) == value(full)


@pytest.mark.parametrize(
    ("full", "parts"),
    [
        ("Ada Lovelace", ("Ada", None, "Lovelace")),
        ("Ada King Noel Lovelace", ("Ada", "King Noel", "Lovelace")),
        ("Plato", (None, None, "Plato")),
        (None, (None, None, None)),
    ],
)
def test_split_name_with_a_middle_name(full, parts) -> None:
    """With three columns the words between the first and the last are the middle name."""
    assert goes(full, names(3), split(3)) == value(parts)
    assert goes(parts, names(3), split(3), DYNAMICS) == value(full)


WORD = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=10)


@given(words=st.lists(WORD, min_size=1, max_size=5), count=st.sampled_from([2, 3]))
def test_split_name_comes_back_as_it_was(words, count) -> None:
    """Any name of words with single spaces survives the way there and back."""
    full = " ".join(words)
    there = goes(full, names(count), split(count))
    assert goes(there.value, names(count), split(count), DYNAMICS) == value(full)


def test_split_name_refuses_what_is_no_text_or_too_long() -> None:
    """A number is no name; a part that does not fit stops the field."""
    assert problem_of(goes(7, names(), split())) == "mapping.value_type"
    assert problem_of(goes("Ada Lovelace", lines(2, 4), split())) == "mapping.too_long"


# --- date, datetime ---------------------------------------------------------------------------------------------------------

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


# --- money, integer, boolean ------------------------------------------------------------------------------------------------


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


# --- phone ------------------------------------------------------------------------------------------------------------------


@both_sides
def test_phone_is_carried_as_it_is_written(source) -> None:
    """The spelling is the user's; only spaces around it go, and spaces alone are no number."""
    assert goes(" +49 (30) 123-45 ", texts(50), row(PhoneRow), source) == value("+49 (30) 123-45")
    assert goes("   ", texts(50), row(PhoneRow), source) == value(None)
    assert goes(None, texts(50), row(PhoneRow), source) == value(None)


def test_phone_refuses_numbers_and_long_texts() -> None:
    """A number type would lose leading zeros; a phone that is cut calls somebody else."""
    assert problem_of(goes(493012345, texts(50), row(PhoneRow))) == "mapping.value_type"
    assert problem_of(goes("+49 30 12345678", texts(10), row(PhoneRow))) == "mapping.too_long"


@pytest.mark.parametrize("other", ["+49 30 12345", "+49-30-12345", "(+49) 30/12345", "+493012345"])
def test_phone_is_the_same_in_every_spelling(other) -> None:
    """Two spellings of the same digits are one number, so that neither side rewrites the other's."""
    assert same(row(PhoneRow), "+49 30 12345", other)


@pytest.mark.parametrize("other", ["+49 30 12346", "49 30 12345", "+49 30 12345 ext 7", "", None])
def test_phone_of_other_digits_is_another_number(other) -> None:
    """Another digit, a missing plus or an extension make another number; nothing at all is none."""
    assert not same(row(PhoneRow), "+49 30 12345", other)


# --- what all rules share ---------------------------------------------------------------------------------------------------


def test_equal_means_equal_for_all_other_rules() -> None:
    """Only phones are compared by their digits; a copied text differs when a space does."""
    assert same(row(CopyRow), "a b", "a b")
    assert not same(row(CopyRow), "a b", "a-b")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("  Müller   GmbH ", "müller gmbh"),
        ("STRASSE", "straße"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}\N{FULLWIDTH DIGIT ONE}", "a1"),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
        (5, "5"),
    ],
)
def test_match_text_sees_through_spelling(left, right) -> None:
    """Matching is blind to case, spaces, widths and ways to write an accent (law 7)."""
    assert match_text(left) == match_text(right)


@pytest.mark.parametrize("empty", [None, "   ", (None, None)])
def test_match_text_of_nothing_is_nothing(empty) -> None:
    """An empty part of a key matches nothing, so that a key with one is left out (law 7)."""
    assert match_text(empty) == ""
