"""Paths in mappings: where a row may begin with a column behind a lookup, and what reads it."""

import json

import pytest

from shared.core.errors import ConfigError
from shared.core.mapping_load import load
from shared.core.records import Side, path_of

LISTS = {"kinds": '{"values": [{"creatio": "Customer", "dynamics": 3}]}'}
ALLOWED = "allowed a column of the record itself"


def flow(*rows, **changes) -> dict[str, str]:
    """Return the files of one flow with these rows beside the name."""
    body = {
        "flow": "sales.account",
        "title": "Accounts",
        "about": "Accounts.",
        "creatio": {"entity": "Account"},
        "dynamics": {"system": "dataverse", "entity": "account"},
        "create": "to_dynamics",
        "owner": "creatio",
        "on_delete": "keep",
        "on_duplicate": "ask",
        "match": [["Name"]],
        "fields": [{"creatio": "Name", "way": "=", "dynamics": "name"}, *rows],
        **changes,
    }
    return {"sales.account.json": json.dumps(body)}


def refusal_of(files) -> list[str]:
    """Return the problems for which files are refused."""
    with pytest.raises(ConfigError) as caught:
        load(files, LISTS)
    return list(caught.value.problems)


def line(way=">", **more) -> dict[str, object]:
    """Return the lines of a document with one row."""
    ends = {"creatio": {"entity": "Line", "parent": "AccountId"}, "dynamics": {"entity": "line", "parent": "accountid"}}
    return {**ends, "fields": [{"creatio": "Name", "way": way, "dynamics": "name", **more}]}


def test_a_path_is_a_lookup_and_a_column() -> None:
    """One slash parts the two; a name without it is a column of the record."""
    assert path_of("Product/UnitId") == ("Product", "UnitId")
    assert path_of("UnitId") is None


def test_a_one_way_row_may_begin_with_a_path() -> None:
    """Each side's paths are columns of the flow like any other, so that they are read, hashed and described."""
    rows = [
        {"creatio": "Type/Name", "way": ">", "dynamics": "description"},
        {"creatio": "UsrGrade", "way": "<", "dynamics": "msdyn_segmentid/msdyn_name"},
    ]
    mapping = load(flow(*rows), LISTS).flows["sales.account"]
    assert mapping.columns(Side.CREATIO) == ("Name", "Type/Name", "UsrGrade")
    assert mapping.columns(Side.DYNAMICS) == ("name", "description", "msdyn_segmentid/msdyn_name")


def test_a_choice_behind_a_lookup_needs_the_options_of_that_column() -> None:
    """The labels of the column at the end of a path are asked for under the path's name."""
    row = {"creatio": "Owner/TypeId", "way": ">", "dynamics": "customertypecode", "rule": "choice", "values": "kinds"}
    assert load(flow(row), LISTS).flows["sales.account"].option_columns(Side.CREATIO) == ("Owner/TypeId",)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"creatio": "Type/Name", "way": "=", "dynamics": "x"}, f"creatio: got the path 'Type/Name', {ALLOWED}: only one-way"),
        ({"creatio": "Type/Name", "way": "<", "dynamics": "x"}, f"creatio: got the path 'Type/Name', {ALLOWED}: only one-way"),
        ({"creatio": "X", "way": ">", "dynamics": "a/b"}, f"dynamics: got the path 'a/b', {ALLOWED}: only one-way"),
        ({"creatio": "A/B/C", "way": ">", "dynamics": "x"}, "creatio: got the path 'A/B/C', allowed one lookup and one column"),
        ({"creatio": "A/", "way": ">", "dynamics": "x"}, "creatio: got the path 'A/', allowed one lookup and one column"),
        ({"creatio": "A/B$c", "way": ">", "dynamics": "x"}, "creatio: got the path 'A/B$c', allowed one lookup and one column"),
        ({"creatio": "X", "way": ">", "dynamics": "x", "needs": "A/B"}, f"needs, unless: got the path 'A/B', {ALLOWED}"),
        ({"creatio": "X", "way": ">", "dynamics": "x", "unless": "A/B"}, f"needs, unless: got the path 'A/B', {ALLOWED}"),
    ],
)
def test_a_path_where_none_can_stand_is_refused(row, problem) -> None:
    """What would be written, or read for another purpose, is a column of the record itself; the sentence says so."""
    assert [text for text in refusal_of(flow(row)) if problem in text]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"when": [{"way": ">", "column": "A/B", "any_of": [1]}]}, f"when: got the path 'A/B', {ALLOWED}"),
        ({"totals": [{"creatio": ["A/B"], "dynamics": "total"}]}, f"totals: got the path 'A/B', {ALLOWED}"),
        (
            {"lines": line(dynamics="a/b")},
            f"lines: row 1 (Name=a/b): dynamics: got the path 'a/b', {ALLOWED}: only one-way rows begin with a path",
        ),
        ({"lines": line(needs="A/B")}, f"needs, unless: got the path 'A/B', {ALLOWED}"),
    ],
)
def test_other_places_take_no_path(changes, problem) -> None:
    """Conditions, totals and lines read the record itself."""
    assert [text for text in refusal_of(flow(**changes)) if problem in text]


def test_a_key_may_begin_with_a_path_of_creatio_only() -> None:
    """Creatio filters through a lookup; in Dynamics a key is searched by columns of the table."""
    here = {"creatio": "Type/Name", "way": ">", "dynamics": "description"}
    assert load(flow(here, match=[["Name", "Type/Name"]]), LISTS)
    there = {"creatio": "UsrGrade", "way": "<", "dynamics": "a/b"}
    assert "sales.account: match: UsrGrade: got the path 'a/b', allowed a column of the Dynamics table itself" in refusal_of(
        flow(there, match=[["UsrGrade"]])
    )


def test_a_line_may_begin_with_a_path_in_creatio() -> None:
    """What a line has not itself, its product may: the unit of a product that is offered."""
    mapping = load(flow(lines=line(creatio="Product/Name")), LISTS).flows["sales.account"]
    assert mapping.lines is not None
    assert mapping.lines.columns(Side.CREATIO) == ("Product/Name",)
