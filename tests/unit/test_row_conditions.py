"""Rows whose value depends on other columns: what the plan reads, writes and leaves (`only_while`, `instead`)."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared.core.binding import Binding, BindingState
from shared.core.document import as_one
from shared.core.fingerprint import Keyring
from shared.core.mapping_load import load
from shared.core.plan import Desk, intent, plan_record, recorded, refused
from shared.core.plan_create import plan_create
from shared.core.records import Column, ColumnType, Entity, Row, Side, Stamp, Value
from shared.core.rules import Context

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HERE, THERE = "c0000000-0000-4000-8000-000000000001", "d0000000-0000-4000-8000-000000000001"
FRESH = Binding("test.case", BindingState.BOUND, HERE, THERE)
OPEN, RESOLVED = "a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"
PARENT_ID = "c0000000-0000-4000-8000-000000000002"
WHILE = {"column": "StatusId", "any_of": ["Resolved"]}
SOLUTION = {"creatio": "Solution", "way": ">", "dynamics": "solution", "drift": "keep", "last": True, "only_while": WHILE}
STATUS = {"creatio": "StatusId", "way": ">", "dynamics": "status", "rule": "choice", "values": "labels", "last": True}
PARENT = {"creatio": "ParentId", "way": ">", "dynamics": "parent", "rule": "reference", "flow": "test.case"}
WHO = {"creatio": "Who", "way": "=", "dynamics": "contact", "instead": "customer"}


@pytest.fixture
def desk() -> Desk:
    """Return the desk of a flow with one row of each kind."""
    mapping = {
        "flow": "test.case",
        "title": "Cases",
        "about": "Cases.",
        "creatio": {"entity": "Case"},
        "dynamics": {"system": "dataverse", "entity": "incident"},
        "create": "both",
        "owner": "dynamics",
        "on_delete": "keep",
        "on_duplicate": "create",
        "match": [],
        "fields": [SOLUTION, STATUS, PARENT, WHO],
    }
    text = ColumnType.TEXT
    status = Column("StatusId", ColumnType.LOOKUP, options={OPEN: "New", RESOLVED: "Resolved"})
    here = {"Solution": Column("Solution", text), "Who": Column("Who", text), "StatusId": status}
    here["ParentId"] = Column("ParentId", ColumnType.LOOKUP)
    there = {name: Column(name, text) for name in ("solution", "contact", "customer", "status")}
    there["parent"] = Column("parent", ColumnType.LOOKUP)
    entities = {Side.CREATIO: Entity("Case", here), Side.DYNAMICS: Entity("incident", there)}
    mappings = load({"test.case.json": json.dumps(mapping)}, {})
    return Desk(mappings, mappings.flows["test.case"], Context(entities), Keyring({"k": b"0" * 32}, "k"))


def rows(creatio: dict[str, Value], dynamics: dict[str, Value]) -> dict[Side, Row]:
    """Return a record on both sides; what is not named is empty."""
    here = {**dict.fromkeys(("Solution", "Who", "ParentId")), "StatusId": OPEN, **creatio}
    there = {**dict.fromkeys(("solution", "contact", "customer", "parent")), "status": "New", **dynamics}
    return {Side.CREATIO: Row(HERE, Stamp(NOW), here), Side.DYNAMICS: Row(THERE, Stamp(NOW), there)}


def planned(desk: Desk, binding: Binding, both: dict[Side, Row]) -> dict[str, Value]:
    """Return what a plan writes to Dynamics, by row."""
    return as_one(plan_record(desk, binding, both)).fields_to(Side.DYNAMICS)


def bound(desk: Desk, both: dict[Side, Row]) -> Binding:
    """Return the binding of a record whose sides were just put in step."""
    return recorded(plan_record(desk, FRESH, both), {}, "run", NOW)[0]


def test_only_while_keeps_a_text_back_until_its_time(desk) -> None:
    """While the record is open the text reads as empty, on a create and later; when the status is right it is written."""
    both = rows({"Solution": "Toner replaced"}, {})
    assert plan_create(desk, Side.CREATIO, both[Side.CREATIO], THERE, "run", NOW).columns == {"status": "New"}
    binding = bound(desk, both)
    assert planned(desk, binding, rows({"Solution": "Other toner"}, {})) == {}
    resolved = rows({"Solution": "Toner replaced", "StatusId": RESOLVED}, {})
    assert planned(desk, binding, resolved) == {"Solution=solution": "Toner replaced", "StatusId=status": "Resolved"}
    created = plan_create(desk, Side.CREATIO, resolved[Side.CREATIO], THERE, "run", NOW).columns
    assert created == {"solution": "Toner replaced", "status": "Resolved"}


def test_only_while_goes_with_what_it_hangs_on(desk) -> None:
    """While the status is refused its text is not written alone: it goes with the next try."""
    binding = bound(desk, rows({}, {}))
    resolved = rows({"Solution": "Toner replaced", "StatusId": RESOLVED}, {})
    plan = as_one(plan_record(desk, binding, resolved))
    binding = refused(plan, intent(plan, "run", NOW), Side.DYNAMICS, ["StatusId=status"])
    binding = replace(binding, fields={**binding.fields, "Solution=solution": bound(desk, rows({}, {})).fields["Solution=solution"]})
    assert planned(desk, binding, rows({"Solution": "Fuser cleaned", "StatusId": RESOLVED}, {})) == {}


def test_what_closes_a_record_comes_last(desk) -> None:
    """While a link waits the status and its text stay; without it, or once it is there, they go. Other fields are not held."""
    binding = bound(desk, rows({}, {}))
    waiting = rows({"Solution": "Toner replaced", "StatusId": RESOLVED, "ParentId": PARENT_ID, "Who": "c1"}, {})
    assert planned(desk, binding, waiting) == {"Who=contact": "c1"}
    there = replace(desk, context=replace(desk.context, references={("test.case", Side.CREATIO, PARENT_ID): THERE}))
    assert planned(there, binding, waiting).keys() == {"Solution=solution", "StatusId=status", "ParentId=parent", "Who=contact"}
    created = plan_create(desk, Side.CREATIO, waiting[Side.CREATIO], THERE, "run", NOW)
    assert (created.columns, len(created.waits)) == ({"contact": "c1"}, 1)
    assert "StatusId=status" not in created.fields


@pytest.mark.parametrize(("contact", "customer", "read"), [("c1", None, "c1"), (None, "c2", "c2"), ("c1", "c2", "c2"), (None, None, None)])
def test_instead_is_read_where_it_is_filled(desk, contact, customer, read) -> None:
    """The other column's value counts where there is one; without it the row's own."""
    plan = plan_record(desk, FRESH, rows({}, {"contact": contact, "customer": customer}))
    assert plan.fields_to(Side.CREATIO) == ({"Who=contact": read} if read else {})


def test_instead_is_never_written(desk) -> None:
    """An edit in Creatio goes to the row's own column, and a change of the other column comes back."""
    binding = bound(desk, rows({"Who": "c2"}, {"customer": "c2"}))
    assert planned(desk, binding, rows({"Who": "c3"}, {"customer": "c2"})) == {"Who=contact": "c3"}
    back = plan_record(desk, binding, rows({"Who": "c2"}, {"customer": "c4"}))
    assert back.fields_to(Side.CREATIO) == {"Who=contact": "c4"}
