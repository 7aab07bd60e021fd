"""Rows with `same`: a value counts only where two columns of the Creatio record are equal, as a price in its list's currency."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from shared.core.binding import Binding, BindingState
from shared.core.fingerprint import Keyring
from shared.core.mapping_load import load
from shared.core.merge import Action
from shared.core.plan import Desk, intent, plan_record, recorded
from shared.core.plan_create import plan_create
from shared.core.records import Column, ColumnType, Entity, Row, Side, Stamp
from shared.core.rules import Context
from tests.unit.test_mapping_paths import LISTS, flow, line, refusal_of

PRICE = {
    "creatio": "Price",
    "way": "=",
    "dynamics": "amount",
    "rule": "money",
    "required": True,
    "same": ["CurrencyId", "List/CurrencyId"],
}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HERE, THERE = "c0000000-0000-4000-8000-000000000001", "d0000000-0000-4000-8000-000000000001"
LIST_TABLE = {"system": "dataverse", "entity": "list"}
EURO, POUND = "e0000000-0000-4000-8000-000000000001", "e0000000-0000-4000-8000-000000000002"


def desk() -> Desk:
    """Return the desk of a flow with one tested row."""
    mappings = load(flow(PRICE), LISTS)
    kinds = {"Name": ColumnType.TEXT, "Price": ColumnType.DECIMAL, "name": ColumnType.TEXT, "amount": ColumnType.DECIMAL}
    columns = {name: Column(name, kind, scale=2) for name, kind in kinds.items()}
    entities = {side: Entity(side.value, columns) for side in Side}
    return Desk(mappings, mappings.flows["sales.account"], Context(entities), Keyring({"k": b"0" * 32}, "k"))


def price(amount: str, currency: str = EURO, of_list: str | None = EURO) -> Row:
    """Return a price of Creatio."""
    return Row(HERE, Stamp(NOW), {"Name": "Pen", "Price": Decimal(amount), "CurrencyId": currency, "List/CurrencyId": of_list})


def twin(amount: str) -> Row:
    """Return a price of Dynamics."""
    return Row(THERE, Stamp(NOW), {"name": "Pen", "amount": Decimal(amount)})


def in_step(made: Desk) -> Binding:
    """Return the binding of two prices that are in step."""
    rows = {Side.CREATIO: price("5"), Side.DYNAMICS: twin("5")}
    plan = plan_record(made, Binding("sales.account", BindingState.BOUND, HERE, THERE), rows)
    return recorded(plan, {}, "run", NOW)[0]


@pytest.mark.parametrize("of_list", [POUND, None])
def test_a_new_price_in_another_currency_is_blocked(of_list) -> None:
    """A required row whose columns differ, or of which only one is filled, keeps the record from being created; both are named."""
    plan = plan_create(desk(), Side.CREATIO, price("5", of_list=of_list), THERE, "run", NOW)
    assert plan.blocked
    assert [(problem.code, problem.detail) for problem in plan.problems] == [("mapping.not_same", "CurrencyId and List/CurrencyId")]
    assert "amount" not in plan.columns


def test_a_new_price_that_waits_is_not_blocked_by_what_may_come() -> None:
    """The currency of a list that is not on both sides yet may come with it: the record waits, and is judged when it is woken."""
    waits = {"creatio": "List", "way": ">", "dynamics": "list", "rule": "reference", "flow": "sales.list", "if_missing": "wait"}
    other = {**json.loads(flow()["sales.account.json"]), "flow": "sales.list", "creatio": {"entity": "List"}, "dynamics": LIST_TABLE}
    mappings = load({**flow(PRICE, waits), "sales.list.json": json.dumps(other)}, LISTS)
    made = replace(desk(), mappings=mappings, mapping=mappings.flows["sales.account"])
    row = replace(price("5", of_list=None), values={**price("5", of_list=None).values, "List": HERE})
    plan = plan_create(made, Side.CREATIO, row, THERE, "run", NOW)
    assert (plan.must_wait, plan.blocked, plan.told) == (True, False, ())


def test_a_new_price_in_its_lists_currency_goes() -> None:
    """Two equal columns are no obstacle, and neither are two empty ones."""
    assert plan_create(desk(), Side.CREATIO, price("5"), THERE, "run", NOW).columns["amount"] == 5
    bare = replace(price("5"), values={"Name": "Pen", "Price": Decimal(5)})
    assert plan_create(desk(), Side.CREATIO, bare, THERE, "run", NOW).columns["amount"] == 5


def test_a_new_record_of_dynamics_has_nothing_to_compare() -> None:
    """There is no Creatio record yet, so nothing differs."""
    assert plan_create(desk(), Side.DYNAMICS, twin("5"), HERE, "run", NOW).columns["Price"] == 5


@pytest.mark.parametrize(("here", "there"), [("5", "5"), ("6", "5"), ("5", "6"), ("6", "7")])
def test_nothing_is_written_either_way_while_they_differ(here, there) -> None:
    """Whoever edited what, and also where only the currency changed: a problem of this row, and what was known of it stays."""
    made = desk()
    binding = in_step(made)
    plan = plan_record(made, binding, {Side.CREATIO: price(here, POUND), Side.DYNAMICS: twin(there)})
    decision = plan.decisions["Price=amount"]
    assert (decision.action, decision.code, decision.state) == (Action.PROBLEM, "mapping.not_same", None)
    assert not plan.writes
    assert intent(plan, "run", NOW).fields["Price=amount"] == binding.fields["Price=amount"]


def test_the_other_rows_of_the_record_go_on() -> None:
    """One row's problem holds no other row (law 13)."""
    made = desk()
    named = replace(price("6", POUND), values={**price("6", POUND).values, "Name": "Ink"})
    plan = plan_record(made, in_step(made), {Side.CREATIO: named, Side.DYNAMICS: twin("5")})
    assert plan.fields_to(Side.DYNAMICS) == {"Name=name": "Ink"}


def test_it_goes_on_where_it_stood_once_they_are_equal() -> None:
    """The edit that was held is written then, and one that was taken back meanwhile leaves nothing to do."""
    made = desk()
    binding = in_step(made)
    held = plan_record(made, binding, {Side.CREATIO: price("6", POUND), Side.DYNAMICS: twin("5")})
    after = recorded(held, {}, "run", NOW)[0]
    mended = plan_record(made, after, {Side.CREATIO: price("6"), Side.DYNAMICS: twin("5")})
    assert mended.fields_to(Side.DYNAMICS) == {"Price=amount": Decimal(6)}
    taken_back = plan_record(made, after, {Side.CREATIO: price("5"), Side.DYNAMICS: twin("5")})
    assert not taken_back.writes
    assert not taken_back.of(Action.PROBLEM)


def test_the_tested_columns_are_read() -> None:
    """Both are columns of the flow in Creatio, the path too."""
    mapping = desk().mapping
    assert mapping.columns(Side.CREATIO) == ("Name", "Price", "CurrencyId", "List/CurrencyId")
    assert mapping.columns(Side.DYNAMICS) == ("name", "amount")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"way": "<"}, "same: got way '<', allowed '>' or '='"),
        ({"same": ["CurrencyId", "CurrencyId"]}, "same: got 'CurrencyId' twice, allowed two columns"),
        ({"same": ["CurrencyId", "A/B/C"]}, "same: got the path 'A/B/C', allowed one lookup and one column"),
        ({"same": ["CurrencyId"]}, "same"),
    ],
)
def test_what_can_not_be_compared_is_refused(change, problem) -> None:
    """The loader says which two columns are wanted, and where."""
    assert [text for text in refusal_of(flow({**PRICE, **change})) if problem in text]


def test_lines_compare_nothing() -> None:
    """A line is a part of its document."""
    assert "sales.account: lines: row 1 (Name=name): same: allowed in the rows of `fields` only" in refusal_of(
        flow(lines=line(same=["A", "B"]))
    )
