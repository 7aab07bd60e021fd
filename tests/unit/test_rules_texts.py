"""The rules that carry texts, each both ways: copy, join, split_name and phone."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.mapping import CopyRow, JoinRow, PhoneRow, SplitNameRow
from shared.core.rules import Context, State, same, utf16_length
from tests.unit.rule_world import DYNAMICS, ROCKET, C, both_sides, column, goes, plain, problem_of, row, texts, value, world

# --- copy ------------------------------------------------------------------------------------------------------------------


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


# --- join, split_name ------------------------------------------------------------------------------------------------------


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


# --- phone -----------------------------------------------------------------------------------------------------------------


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
