"""Fingerprints: two different values never look the same, one value never looks like two, and keys are read strictly (law 1)."""

import base64
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import ConfigError, Denied
from shared.core.fingerprint import _FRAMES, Keyring, RecordPrinter, _frame_any, _framed, _tagged, framed_name, key_hash
from shared.core.records import Side

NEW, OLD = bytes(range(32)), bytes(32)
TEXTS = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(["", "0:", "1:a", "12:", ":"])


def encoded(key=NEW) -> str:
    """Return a key as the setting holds it."""
    return base64.b64encode(key).decode()


def printer(key=NEW, flow="sales.account", side=Side.CREATIO, record="r1") -> RecordPrinter:
    """Return the printer of a record."""
    return RecordPrinter(key, flow, side, record)


# --- framing and tags -------------------------------------------------------------------------------------------------------


@given(left=st.lists(TEXTS, max_size=4), right=st.lists(TEXTS, max_size=4))
def test_two_lists_of_texts_never_give_the_same_bytes(left, right) -> None:
    """Where one text ends and the next begins is part of what is hashed, whatever the texts hold."""
    assert (_framed(*left) == _framed(*right)) == (left == right)


@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_moving_a_border_changes_the_bytes(texts) -> None:
    """The same characters cut at another place are another list; one more empty text is too."""
    assert _framed("".join(texts)) != _framed("".join(texts), "")
    assert len(texts) == 1 or _framed(*texts) != _framed("".join(texts))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-50, 50)
    | st.text(max_size=4)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-50, max_value=50, places=1)
    | st.dates(date(2026, 1, 1), date(2026, 1, 9))
    | st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 2), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone
)
FIELD_VALUES = SCALARS | st.lists(SCALARS, max_size=3).map(tuple)


def typed(value):
    """Return a value with its type, so that True and 1, 1 and Decimal(1) are told apart."""
    return tuple(typed(part) for part in value) if isinstance(value, tuple) else (type(value), value)


@given(left=FIELD_VALUES, right=FIELD_VALUES)
def test_values_look_the_same_only_when_they_are(left, right) -> None:
    """Type and value both count; for tuples those of each part, and their number."""
    looks_same = printer().print("Name", left) == printer().print("Name", right)
    assert looks_same == (isinstance(left, tuple) == isinstance(right, tuple) and typed(left) == typed(right))


LOOKALIKES = [None, "", "None", "n", False, 0, "0", Decimal(0), True, 1, "1", Decimal(1), "True", (), (None,), ("",), ("1",), (None, None)]
MOMENTS = [date(2026, 1, 1), "2026-01-01", datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"]


def test_every_type_has_a_tag_of_its_own() -> None:
    """Values that print alike in Python are different fingerprints."""
    prints = [printer().print("Name", value) for value in (*LOOKALIKES, *MOMENTS)]
    assert len(set(prints)) == len(prints)


def test_parts_of_a_tuple_do_not_run_into_each_other() -> None:
    """Three address lines filled in another way are another address."""
    tuples = [("a", "b", None), ("a", None, "b"), (None, "a", "b"), ("ab", None, None), ("a", "b"), (("a\nb"),), ("s", "a")]
    assert len({printer().print("Address", value) for value in tuples}) == len(tuples)


@pytest.mark.parametrize(
    ("left", "right"), [("1.50", "1.5"), ("100", "1E+2"), ("0", "0.00"), ("0", "-0.0"), ("1234567.10", "1234567.1"), ("1E-7", "0.0000001")]
)
def test_the_scale_of_a_decimal_makes_no_difference(left, right) -> None:
    """Servers pad amounts with zeros as they like; the amount is the same."""
    assert _tagged(Decimal(left)) == _tagged(Decimal(right))


def test_what_a_fingerprint_depends_on() -> None:
    """Key, flow, side, record, column and value: changing any one changes the fingerprint; nothing else does."""
    prints = [
        printer().print("Name", "Acme"),
        printer(key=OLD).print("Name", "Acme"),
        printer(flow="sales.contact").print("Name", "Acme"),
        printer(side=Side.DYNAMICS).print("Name", "Acme"),
        printer(record="r2").print("Name", "Acme"),
        printer().print("Code", "Acme"),
        printer().print("Name", "Acme "),
    ]
    assert len(set(prints)) == len(prints)
    assert prints[0] == printer().print("Name", "Acme")


def test_a_fingerprint_stays_as_it_is() -> None:
    """The ledger outlives every version: a fingerprint that came out otherwise would make all records look changed at once."""
    assert printer().print("Name", "Acme") == "Dq0SDpyGCDRCbv20"
    assert printer().print("Address", ("Main Street 1", None)) == "2_NZZK8cLQfsbcjQ"
    assert printer().print("Revenue", Decimal("1250000.50")) == "T33PvXUeAJmj_8Qu"


KNOWN = [
    (None, "VMkd4rikGEdSiEDl", "-0zO3XbqUNhuxaCk"),
    ("", "WBOFr5pwlKUiJ3-M", "32AjVgXIGCKQh_iF"),
    ("Acme", "Dq0SDpyGCDRCbv20", "Chon8gWVDo7vY09r"),
    ("Grenzüberschreitende Zusammenarbeit GmbH", "88YzMa-binmeeu6K", "lnhUI0yC5JapVWRi"),
    ("株式会社 🏢", "fSF4wDdxYNI3Tf1W", "ADS-N17ete2F3sgj"),
    ("\ud83d", "lMJqFO249_6bQuV-", "_JJWWdtO4cM8ey2_"),
    ("x" * 300, "7pj6xrApvcbLyxql", "NINnj5lKxnxtgdss"),
    (0, "U4PQkIyNsAUIWhgv", "_CrP745CJWNcGXhK"),
    (-77, "nLewr3qw2fERE2hI", "HSBbdASPKxoxUTeh"),
    (10**20, "I1_bukzMpPgu3mkC", "vAmzYTIAbDr7-y0F"),
    (True, "u04Jyvyo0VxbTP4j", "lP4D6_URN3rXGsN4"),
    (False, "Bo1yWUjpBD_L3vUM", "BBCyVELQtlZ3oNvd"),
    (Decimal(0), "fOpSjpI5J05Nekr7", "58CGlmGnkNk4dH-Z"),
    (Decimal("-12.50"), "z8meENgL2EYSMYeH", "kEzlHHPGD1ElgvXz"),
    (Decimal("1E+3"), "5XrMb62vPcIsJODp", "lHWR9Dq2M-kqjpR9"),
    (Decimal("0.000001"), "Aml2Zouzmr7bwGZ2", "EQxAja1e015Ut9RM"),
    (datetime(2026, 3, 1, 12, 30, tzinfo=UTC), "ntRilCZ4aNDCnJdu", "y-LVsIXwLmEXx-Ms"),
    (datetime(2026, 3, 1, 12, 30, 0, 250000, tzinfo=UTC), "9Qhp8dmGdCNhBGOP", "3Vi4yXljMDvwlxBn"),
    (date(2026, 3, 1), "fYZLktlWa6izBr--", "CqFvQfDbS3eBHMYo"),
    ((), "2XD53DqarkY2t9-A", "Zg4S8INp1Hf37txl"),
    ((None, None), "e1AuUNKfru323HbC", "gHDXGeBdc1nJqh23"),
    (("Main Street 1", None, "c/o Reception"), "fRMwiRvy_s15Fkul", "9FrF_ata19g7dACu"),
    (("ü", 7, True, Decimal("1.5"), date(2026, 3, 1), datetime(2026, 3, 1, tzinfo=UTC)), "QmusGzSqMcr1y3dr", "sZDFjTbMKM_l3PBf"),
]


@pytest.mark.parametrize(("value", "here", "there"), KNOWN, ids=lambda value: type(value).__name__)
def test_a_fingerprint_of_every_type_stays_as_it_is(value, here, there) -> None:
    """One value of each type, and texts of every kind, on both sides: as the first version printed them, one by one and all at once."""
    assert printer().print("Name", value) == here
    assert printer(side=Side.DYNAMICS).print("name", value) == there
    assert printer().print_all((framed_name("Code"), framed_name("Name")), ("C-1", value)) == [printer().print("Code", "C-1"), here]


def test_one_printer_makes_many_fingerprints() -> None:
    """What was printed before leaves no trace in what is printed next."""
    used = printer()
    used.print("Name", "something")
    assert used.print("Code", "C-1") == printer().print("Code", "C-1")


def test_a_fingerprint_is_short_and_fits_anywhere() -> None:
    """Sixteen letters that need no escaping in a table, also for a text with half a surrogate pair."""
    made = printer().print("Name", "\ud83d")
    assert len(made) == 16
    assert set(made) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_reservations_are_framed_and_keyed_too() -> None:
    """The name of a reservation does not show its key's parts, nor mix them up (law 7)."""
    assert key_hash(NEW, "a", "bc") != key_hash(NEW, "ab", "c")
    assert key_hash(NEW, "a") != key_hash(OLD, "a")
    assert "acme" not in key_hash(NEW, "acme")


# --- the key ring -----------------------------------------------------------------------------------------------------------


def test_the_first_key_is_the_current_one() -> None:
    """Newest first: the first makes fingerprints, the others only verify; spaces around entries do not matter."""
    ring = Keyring.parse(f"new:{encoded()} , old:{encoded(OLD)}")
    assert ring.current == "new"
    assert (ring.key("new"), ring.key("old")) == (NEW, OLD)


def test_an_unknown_key_stops_the_flow() -> None:
    """A ledger written with a key that the app lost is never judged by another key."""
    with pytest.raises(Denied) as caught:
        Keyring.parse(f"new:{encoded()}").key("gone")
    assert caught.value.code == "ledger.unknown_key"
    assert "gone" in str(caught.value)


@pytest.mark.parametrize(
    "bad", ["", "id", "id:", ":" + encoded(), "id:AAAA", f"id:{encoded()[:-2]}", "id:" + "!" * 44, f"id:!{encoded()}", encoded()]
)
def test_a_key_that_is_none_is_refused(bad) -> None:
    """No id, no base64, or not 32 bytes: the entry is named by its number, and never shown, for it may be a secret."""
    with pytest.raises(ConfigError) as caught:
        Keyring.parse(f"good:{encoded()},{bad}")
    assert "entry 2" in str(caught.value)
    assert encoded() not in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_bad_entries_are_told_at_once() -> None:
    """A person corrects the setting once."""
    with pytest.raises(ConfigError) as caught:
        Keyring.parse(f"x,good:{encoded()},y:1")
    assert [problem.split(":")[1].strip() for problem in caught.value.problems] == ["entry 1", "entry 3"]


def test_keys_do_not_show_in_a_repr() -> None:
    """A key ring that ends up in a log or a traceback tells ids only."""
    assert repr(NEW) not in repr(Keyring.parse(f"new:{encoded()}"))
    assert "new" in repr(Keyring.parse(f"new:{encoded()}"))


@given(value=FIELD_VALUES | TEXTS | st.integers() | st.decimals(allow_nan=False, allow_infinity=False))
def test_the_short_way_gives_the_same_bytes(value) -> None:
    """Each type is framed by a short way that no fingerprint can tell from the long one."""
    assert _FRAMES.get(type(value), _frame_any)(value) == _framed(*_tagged(value))


@given(values=st.lists(FIELD_VALUES | TEXTS, max_size=6))
def test_many_fields_are_printed_as_each_by_itself(values) -> None:
    """Printing a record's fields in one go mixes nothing up, whatever and how many they are."""
    names = [f"Column{number}" for number in range(len(values))]
    one_by_one = [printer().print(name, value) for name, value in zip(names, values, strict=True)]
    assert printer().print_all([framed_name(name) for name in names], values) == one_by_one
