"""The keys of a record and of its twin: whichever side is looked at first, both must look for the same thing (law 7)."""

from datetime import UTC, datetime

import pytest

from shared.core.match import MatchKey, Verdict, hits, judge, keys_of, partings
from shared.core.records import Row, Side, Stamp
from tests.unit.mapped_world import PARENTS, flow_context, mappings

FLOW = "sales.contact"
NAMES = [
    ("Zoé Lèvre", ("Zoé", None, "Lèvre")),
    ("Juan Carlos de la Fuente", ("Juan Carlos", None, "de la Fuente")),
    ("Grace M. Fairbanks", ("Grace", "M.", "Fairbanks")),
    ("Cher", (None, None, "Cher")),
]


def person(side, name):
    """Return one person as a side knows it: the name whole or in parts, e-mail, mobile phone and a bound account."""
    stamp, account = Stamp(datetime(2026, 1, 1, tzinfo=UTC)), PARENTS[side]["bound"]
    whole, parts = name
    if side is Side.CREATIO:
        values = {"Name": whole, "Email": "P@x.example", "MobilePhone": "1", "AccountId": account}
    else:
        values = dict(zip(("firstname", "middlename", "lastname"), parts, strict=True))
        values |= {"emailaddress1": "p@x.example", "mobilephone": "1", "parentcustomerid_account": account}
    return Row("c0000000-0000-4000-8000-000000000001", stamp, values)


@pytest.mark.parametrize("name", NAMES, ids=[whole for whole, _ in NAMES])
@pytest.mark.parametrize("side", list(Side))
def test_a_record_finds_its_twin_from_either_side(side, name) -> None:
    """Every key of a person, its whole name in it, is that of the twin, however Dynamics parts the name."""
    mapping, context = mappings().flows[FLOW], flow_context(FLOW)
    keys = keys_of(mapping, side, person(side, name), context)
    assert [key.number for key in keys] == [0, 1, 2]
    assert [hits(key, [person(side.other, name)]) == [person(side.other, name)] for key in keys] == [True] * 3


@pytest.mark.parametrize("side", list(Side))
def test_a_namesake_of_a_part_is_not_the_twin(side) -> None:
    """Two people who share a mailbox and a first name are two people, whichever side is looked at."""
    mapping, context = mappings().flows[FLOW], flow_context(FLOW)
    other = person(side.other, ("Zoé", (None, None, "Zoé")))
    for key in keys_of(mapping, side, person(side, NAMES[0]), context):
        assert hits(key, [other]) == []


def test_a_name_is_parted_in_every_way_that_keeps_its_order() -> None:
    """Two words over three columns: six ways, none with an empty part, each with the other columns of the key."""
    key = MatchKey(0, {"parent": "p"}, (), (), ((("first", "middle", "last"), "Ann Lee"),))
    assert sorted(tuple(sorted(way.items())) for way in partings(key)) == sorted(
        tuple(sorted({"parent": "p", **way}.items()))
        for way in (
            {"first": "Ann", "middle": "Lee"},
            {"first": "Ann", "last": "Lee"},
            {"first": "Ann Lee"},
            {"middle": "Ann", "last": "Lee"},
            {"middle": "Ann Lee"},
            {"last": "Ann Lee"},
        )
    )


def test_nothing_is_bound_to_a_record_that_the_flow_leaves_out() -> None:
    """A Dynamics contact with the name and e-mail of an employee: a person is asked, the employee's own contact is not touched."""
    row = person(Side.CREATIO, NAMES[0])
    found = [[row]]
    assert judge(mappings().flows[FLOW], Side.DYNAMICS, found, {}, "d").verdict is Verdict.BIND
    assert judge(mappings().flows[FLOW], Side.DYNAMICS, found, {}, "d", {row.id}).verdict is Verdict.ASK
