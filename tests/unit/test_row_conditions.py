"""Rows whose value depends on other columns: what the plan reads, writes and leaves (`only_while`, `instead`)."""

import json
from datetime import UTC, datetime

import pytest

from shared.core.binding import Binding, BindingState
from shared.core.fingerprint import Keyring
from shared.core.mapping_load import load
from shared.core.merge import Action
from shared.core.plan import Desk, plan_record, recorded
from shared.core.plan_create import plan_create
from shared.core.records import Column, ColumnType, Entity, Row, Side, Stamp, Value
from shared.core.rules import Context

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HERE, THERE = "c0000000-0000-4000-8000-000000000001", "d0000000-0000-4000-8000-000000000001"
OPEN, RESOLVED = "a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000002"
WHILE = {"column": "StatusId", "any_of": ["Resolved"]}
SOLUTION = {"creatio": "Solution", "way": ">", "dynamics": "solution", "drift": "keep", "only_while": WHILE}
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
        "fields": [SOLUTION, WHO],
    }
    text = ColumnType.TEXT
    status = Column("StatusId", ColumnType.LOOKUP, options={OPEN: "New", RESOLVED: "Resolved"})
    here = {"Solution": Column("Solution", text), "Who": Column("Who", text), "StatusId": status}
    there = {name: Column(name, text) for name in ("solution", "contact", "customer")}
    entities = {Side.CREATIO: Entity("Case", here), Side.DYNAMICS: Entity("incident", there)}
    mappings = load({"test.case.json": json.dumps(mapping)}, {})
    return Desk(mappings, mappings.flows["test.case"], Context(entities), Keyring({"k": b"0" * 32}, "k"))


def rows(creatio: dict[str, Value], dynamics: dict[str, Value]) -> dict[Side, Row]:
    """Return a record on both sides."""
    return {Side.CREATIO: Row(HERE, Stamp(NOW), creatio), Side.DYNAMICS: Row(THERE, Stamp(NOW), dynamics)}


def writes(desk: Desk, binding: Binding, both: dict[Side, Row]) -> dict[str, tuple[Side | None, Value]]:
    """Return what a plan writes, by row."""
    plan = plan_record(desk, binding, both)
    return {key: (one.to, one.value) for key, one in plan.decisions.items() if one.action is Action.WRITE}


def bound(desk: Desk, both: dict[Side, Row]) -> Binding:
    """Return the binding of a record whose sides were just put in step."""
    return recorded(plan_record(desk, Binding("test.case", BindingState.BOUND, HERE, THERE), both), {}, "run", NOW)[0]


def test_only_while_keeps_a_text_back_until_its_time(desk) -> None:
    """While the record is open the text reads as empty, on a create and later; when the status is right it is written."""
    draft = {"Solution": "Toner replaced", "StatusId": OPEN, "Who": None}
    nothing: dict[str, Value] = {"solution": None, "contact": None, "customer": None}
    assert plan_create(desk, Side.CREATIO, Row(HERE, Stamp(NOW), draft), THERE, "run", NOW).columns == {}
    binding = bound(desk, rows(draft, nothing))
    assert writes(desk, binding, rows({**draft, "Solution": "Other toner"}, nothing)) == {}
    resolved = rows({**draft, "StatusId": RESOLVED}, nothing)
    assert writes(desk, binding, resolved) == {"Solution=solution": (Side.DYNAMICS, "Toner replaced")}


@pytest.mark.parametrize(("contact", "customer", "read"), [("c1", None, "c1"), (None, "c2", "c2"), ("c1", "c2", "c2"), (None, None, None)])
def test_instead_is_read_where_it_is_filled(desk, contact, customer, read) -> None:
    """The other column's value counts where there is one; without it the row's own."""
    there: dict[str, Value] = {"solution": None, "contact": contact, "customer": customer}
    both = rows({"Solution": None, "StatusId": OPEN, "Who": None}, there)
    expected = {"Who=contact": (Side.CREATIO, read)} if read else {}
    assert writes(desk, Binding("test.case", BindingState.BOUND, HERE, THERE), both) == expected


def test_instead_is_never_written(desk) -> None:
    """An edit in Creatio goes to the row's own column, and a change of the other column comes back."""
    there: dict[str, Value] = {"solution": None, "contact": None, "customer": "c2"}
    here: dict[str, Value] = {"Solution": None, "StatusId": OPEN, "Who": "c2"}
    binding = bound(desk, rows(here, there))
    plan = plan_record(desk, binding, rows({**here, "Who": "c3"}, there))
    assert plan.fields_to(Side.DYNAMICS) == {"Who=contact": "c3"}
    assert writes(desk, binding, rows(here, {**there, "customer": "c4"})) == {"Who=contact": (Side.CREATIO, "c4")}
