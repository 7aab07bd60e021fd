"""The rules that translate or name something, each both ways: choice, reference, constant and source_id."""

from dataclasses import replace

import pytest

from shared.core.mapping import ChoiceRow, ConstantRow, Pair, ReferenceRow, SourceIdRow
from shared.core.rules import ENDED, Context, Converted, State
from tests.unit.rule_world import (
    CREATIO,
    DYNAMICS,
    HERE,
    RECORD,
    C,
    D,
    both_sides,
    column,
    goes,
    plain,
    problem_of,
    row,
    texts,
    value,
    world,
)

# --- choice ----------------------------------------------------------------------------------------------------------------

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


# --- reference -------------------------------------------------------------------------------------------------------------


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
    assert goes(None, linked(), row(ReferenceRow, users="email", otherwise="reject"), source) == value(None)


@both_sides
def test_nobody_as_a_user_leaves_the_other_side_its_own(source) -> None:
    """With `keep` a record without owner leaves the owner of the other side: Dataverse takes no record without one."""
    assert goes(None, linked(), row(ReferenceRow, users="email", otherwise="keep"), source).state is State.KEPT


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


@pytest.mark.parametrize("otherwise", ["keep", "reject"])
def test_a_default_owner_stands_in_for_a_user_without_partner(otherwise) -> None:
    """It is a value with a remark; a default owner whom the target does not know stands in for nobody."""
    asked = row(ReferenceRow, users="email", otherwise=otherwise)
    assert goes("u2", replace(linked(), default_owner="ada@x.example"), asked) == Converted(State.VALUE, "s1", "owner.default")
    assert goes("u1", replace(linked(), default_owner="only@here.example"), asked) == value("s1")
    assert goes("u2", replace(linked(), default_owner="only@here.example"), asked).state is not State.VALUE


# --- constant, source_id ---------------------------------------------------------------------------------------------------


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
