"""The mapping files of the product, held against the metadata of both systems and their own golden cases."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from sandbox.commands.mapping_pages import mapping_page
from shared.core.binding import Binding, BindingState
from shared.core.fingerprint import Keyring
from shared.core.mapping import AnyRow, ChoiceRow, ReferenceRow, SourceIdRow, schema
from shared.core.merge import Action
from shared.core.plan import Desk, plan_record, value_on
from shared.core.plan_create import plan_create
from shared.core.records import ColumnType, Row, Scalar, Side, Stamp, Value, is_empty
from shared.core.rules import Context, State, convert, line_conversion, utf16_length
from tests.unit.mapped_world import (
    MAPPINGS,
    PARENTS,
    USERS,
    columns_of,
    flow_context,
    flow_files,
    line_context,
    mappings,
    value_files,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = "c0000000-0000-4000-8000-000000000001"
KEYRING = Keyring({"k": b"0" * 32}, "k")
TEXT, LOOKUP, CHOICE = ColumnType.TEXT, ColumnType.LOOKUP, ColumnType.CHOICE
_SHORTEST_TEXT = 50
"""Characters that every text of Creatio takes, which does not tell its length."""
FITTING = {
    "copy": {TEXT},
    "phone": {TEXT},
    "plain_text": {TEXT},
    "join": {TEXT},
    "split_name": {TEXT},
    "choice": {TEXT, LOOKUP, CHOICE, ColumnType.BOOLEAN},
    "reference": {LOOKUP},
    "source_id": {TEXT, ColumnType.ID},
    "money": {ColumnType.DECIMAL},
    "integer": {ColumnType.INTEGER},
    "boolean": {ColumnType.BOOLEAN},
    "datetime": {ColumnType.DATETIME},
    "date": {ColumnType.DATE, ColumnType.DATETIME},
    "constant": set(ColumnType),
}
ROWS = [(flow, row) for flow in mappings().flows.values() for row in flow.fields]
NAMES = [f"{flow.flow}:{row.key}" for flow, row in ROWS]
each_row = pytest.mark.parametrize(("flow", "row"), ROWS, ids=NAMES)
ALL_CASES: list[dict[str, Any]] = [
    {**case, "flow": flow}
    for flow in mappings().flows
    for case in json.loads((MAPPINGS / f"{flow}.cases.json").read_text(encoding="utf-8"))
]
CASES = [case for case in ALL_CASES if case.get("of") != "lines"]
LINE_CASES = [case for case in ALL_CASES if case.get("of") == "lines"]
"""One line each, from Creatio; what is expected is the whole line in Dynamics, or why there is none."""
each_case = pytest.mark.parametrize("case", CASES, ids=[f"{case['flow']} {case['from']}: {case['name']}" for case in CASES])
LINKS = (
    *("parentid", "parentaccountid", "primarycontactid", "accountid", "parentcustomerid_account"),
    *("contactid", "customerid_account", "customerid_contact", "pricelistid", "pricelevelid"),
    *("opportunityid", "orderid", "salesorderid", "productid", "id"),
    *("qualifiedaccountid", "qualifiedcontactid", "parentcontactid", "opportunityid", "qualifyingopportunityid"),
)


@each_row
def test_every_column_exists_with_a_type_that_the_rule_reads(flow, row) -> None:
    """A row names columns that both systems have, of types that its rule can carry."""
    for side in Side:
        for name in row.columns(side):
            assert name in columns_of(flow, side), f"{side.value} has no {name}"
            own_id = isinstance(row, ReferenceRow) and name == "Id"  # a record refers to itself, as another flow knows it
            assert own_id or columns_of(flow, side)[name].type in FITTING[row.rule], f"{side.value} {name}"


@each_row
def test_every_written_column_can_be_written(flow, row) -> None:
    """A row never points at a Dynamics column that nobody may update, or says that it is written once only."""
    if row.writes(Side.DYNAMICS):
        columns = [columns_of(flow, Side.DYNAMICS)[name] for name in row.columns(Side.DYNAMICS)]
        assert all(one.updatable or (one.creatable and "never changes it" in row.note) for one in columns)


@each_row
def test_what_may_be_cut_can_be_too_long(flow, row) -> None:
    """`truncate` stands only where the Dynamics column is in fact shorter, and never without a note that says what it costs."""
    if row.overlong == "truncate":
        assert all(columns_of(flow, Side.DYNAMICS)[name].max_length for name in row.columns(Side.DYNAMICS))
        assert row.note


@each_row
def test_an_id_fits_into_its_column(flow, row) -> None:
    """The column for the Creatio id holds a whole guid."""
    if isinstance(row, SourceIdRow):
        assert (columns_of(flow, Side.DYNAMICS)[row.columns(Side.DYNAMICS)[0]].max_length or 0) >= 36


@each_row
def test_every_label_that_travels_as_text_fits(flow, row) -> None:
    """Where a list becomes a text of the other side, the longest label of the list fits into that column."""
    if isinstance(row, ChoiceRow) and row.values == "labels":
        side = Side.DYNAMICS if row.way == "<" else Side.CREATIO
        labels = columns_of(flow, side)[row.columns(side)[0]].options.values()
        column = columns_of(flow, side.other)[row.columns(side.other)[0]]
        assert labels
        assert column.type is TEXT
        assert max(utf16_length(label) for label in labels) <= (column.max_length or _SHORTEST_TEXT)


@each_row
def test_every_value_list_names_values_that_exist(flow, row) -> None:
    """Each pair names a label (or yes/no) of the Creatio column and an option of the Dynamics column; the note begins with its label."""
    if not isinstance(row, ChoiceRow) or row.values == "labels":
        return
    here = columns_of(flow, Side.CREATIO)[row.columns(Side.CREATIO)[0]]
    there = columns_of(flow, Side.DYNAMICS)[row.columns(Side.DYNAMICS)[0]]
    for pair in mappings().values[row.values]:
        if here.type is ColumnType.BOOLEAN:
            assert isinstance(pair.creatio, bool)
        else:
            assert pair.creatio in here.options.values()
        if there.type is LOOKUP:
            assert pair.dynamics in there.options.values()
        else:
            assert pair.note.split("; ")[0] == there.options[str(pair.dynamics)]


@each_row
def test_every_reference_points_to_what_its_flow_binds(flow, row) -> None:
    """A reference leads on both sides to the entities of the flow it names, or to users."""
    if not isinstance(row, ReferenceRow):
        return
    targets = {side: columns_of(flow, side)[row.columns(side)[0]].targets for side in Side}
    if row.users:
        assert "Contact" in targets[Side.CREATIO]
        assert "systemuser" in targets[Side.DYNAMICS]
    else:
        other = mappings().flows[row.flow or ""]
        targets[Side.CREATIO] = (flow.entity(Side.CREATIO),) if row.creatio == "Id" else targets[Side.CREATIO]
        assert all(other.entity(side) in targets[side] for side in Side)


@each_row
def test_both_sides_count_money_alike(flow, row) -> None:
    """Amounts have as many decimal places in Creatio as in Dynamics, so that neither side rounds the other's."""
    if row.rule == "money":
        scales = {columns_of(flow, side)[row.columns(side)[0]].scale for side in Side}
        assert len(scales) == 1


def test_every_value_list_is_used() -> None:
    """No value list lies about that no mapping reads."""
    lines = [row for flow in mappings().flows.values() if flow.lines for row in flow.lines.fields]
    used = {row.values for row in (*(row for _, row in ROWS), *lines) if isinstance(row, ChoiceRow)} - {"labels"}
    assert used == set(value_files())


def test_every_file_is_named_after_its_flow() -> None:
    """A flow's file can be found by the name of the flow, and the FLOWS setting relies on it."""
    assert sorted(flow_files()) == sorted(f"{flow}.json" for flow in mappings().flows)


def test_accounts_carry_what_was_promised() -> None:
    """The account mapping has at least 25 rows and touches each kind of field that people asked for."""
    account = mappings().flows["sales.account"]
    assert len(account.fields) >= 25
    assert {row.rule for row in account.fields} >= {
        "copy", "phone", "join", "choice", "reference", "money", "integer", "boolean", "datetime", "source_id",
    }  # fmt: skip
    assert {row.way for row in account.fields} == {"=", ">", "<"}


def test_contacts_carry_what_was_promised() -> None:
    """The contact mapping has at least 20 rows and touches names, dates, phones, opt-outs, the owner and the account."""
    contact = mappings().flows["sales.contact"]
    assert len(contact.fields) >= 20
    assert {row.rule for row in contact.fields} >= {"split_name", "date", "phone", "boolean", "choice", "join", "reference", "source_id"}


def test_accounts_and_contacts_point_at_each_other() -> None:
    """The circle of primary contact and account is closed, and only one of the two waits: otherwise neither would ever begin."""
    links = {
        (name, row.flow): row.if_missing
        for name, mapping in mappings().flows.items()
        for row in mapping.fields
        if isinstance(row, ReferenceRow) and row.flow and row.flow != name
    }
    assert {pair: way for pair, way in links.items() if pair[0] in ("sales.account", "sales.contact")} == {
        ("sales.account", "sales.contact"): "skip",
        ("sales.contact", "sales.account"): "wait",
    }


def test_one_row_stands_on_one_line() -> None:
    """A change of one field is a change of one line."""
    for text in flow_files().values():
        lines = [line for line in text.splitlines() if line.lstrip().startswith('{"creatio"') and '"way"' in line]
        mapping = json.loads(text)
        rows = [*mapping["fields"], *mapping.get("lines", {}).get("fields", ())]
        assert len(lines) == sum(1 for row in rows if "creatio" in row)


def test_the_schema_file_is_that_of_the_code() -> None:
    """Editors complete and check mapping files by a schema that is made from the model; `make docs` writes it."""
    assert (MAPPINGS / "mapping.schema.json").read_text(encoding="utf-8") == schema(), "run: make docs"


@pytest.mark.parametrize("name", sorted(mappings().flows))
def test_the_page_of_a_mapping_is_that_of_the_file(name) -> None:
    """docs/mappings shows every row as people read it; `make docs` writes it."""
    page = MAPPINGS.parent / "docs" / "mappings" / f"{name}.md"
    assert page.read_text(encoding="utf-8") == mapping_page(mappings(), name), "run: make docs"


# --- golden cases -----------------------------------------------------------------------------------------------------------


def decoded(flow: str, side: Side, name: str, given: Any) -> Scalar:
    """Read a value of a case: lookups by label, users by e-mail, links by their state, amounts as text, times and days as ISO text."""
    return decoded_by(flow_context(flow), side, name, given)


def decoded_by(context: Context, side: Side, name: str, given: Any) -> Scalar:  # noqa: PLR0911 - one line a kind of value reads best
    """Read a value by the metadata of a header or of its lines."""
    column = context.column(side, name)
    if not isinstance(given, str):
        return given
    if name.lower() == "ownerid":
        return next(user for user, email in USERS[side].items() if email == given)
    if name.lower() in LINKS and given in PARENTS[side]:
        return PARENTS[side][given]
    if column.type is LOOKUP:
        return next(key for key, label in column.options.items() if label == given)
    if column.type is ColumnType.DECIMAL:
        return Decimal(given)
    if column.type is ColumnType.DATE:
        return date.fromisoformat(given)
    return datetime.fromisoformat(given) if column.type is ColumnType.DATETIME else given


@cache
def desk_of(flow: str) -> Desk:
    """Return the desk of a flow over the stand-ins' metadata."""
    return Desk(mappings(), mappings().flows[flow], flow_context(flow), KEYRING)


def outcome_of(flow: str, row: AnyRow, side: Side, record: Row) -> tuple[State, Value, str]:
    """Return what a row makes of a record: one that would be emptied, or means nothing, is a problem as in the plan."""
    if side is Side.CREATIO and not row.agrees(record.values.get):
        return State.PROBLEM, None, "mapping.not_same"
    converted = convert(row, side, value_on(row, side, record), record.id, flow_context(flow))
    if converted.state is State.VALUE and row.required and is_empty(converted.value):
        return State.PROBLEM, None, "mapping.required"
    return converted.state, converted.value, converted.code


def expected_of(case: Mapping[str, Any], target: Side) -> dict[str, Any]:
    """Return what a case expects, by column: the value, or the state with its code."""
    states = {"kept": (State.KEPT, ""), "pending": (State.PENDING, "")}
    expected: dict[str, Any] = {}
    for name, value in case["expected"].items():
        if isinstance(value, dict):
            key = next(iter(value))
            expected[name] = states.get(key) or (State.PROBLEM, value[key])
        else:
            expected[name] = decoded(case["flow"], target, name, value)
    return expected


def produced_by(case: Mapping[str, Any], side: Side, record: Row) -> dict[str, Any]:
    """Return what the rows that read one of the case's columns make of it, by column of the other side."""
    produced: dict[str, Any] = {}
    for row in desk_of(case["flow"]).rows:
        if not row.writes(side.other) or isinstance(row, SourceIdRow) or not set(row.columns(side)) & set(case["input"]):
            continue
        state, value, code = outcome_of(case["flow"], row, side, record)
        parts = value if isinstance(value, tuple) else (value,) * len(row.columns(side.other))
        for name, part in zip(row.columns(side.other), parts, strict=True):
            produced[name] = part if state is State.VALUE else (state, code)
    return produced


def record_of(case: Mapping[str, Any]) -> tuple[Side, Row]:
    """Return a case's side and its input as a record."""
    side = Side(case["from"])
    return side, Row(RECORD, Stamp(NOW), {name: decoded(case["flow"], side, name, value) for name, value in case["input"].items()})


@each_case
def test_golden_case(case) -> None:
    """A row of one side becomes exactly the row of the other side that people wrote down, field by field."""
    side, record = record_of(case)
    assert produced_by(case, side, record) == expected_of(case, side.other)


@each_case
def test_golden_case_as_a_new_record(case) -> None:
    """The plan of a new record sends the values of the case, nothing empty, and reports its problems and its waiting fields."""
    side, record = record_of(case)
    flow = case["flow"]
    plan = plan_create(desk_of(flow), side, record, "d0000000-0000-4000-8000-000000000099", "run", NOW)
    expected = expected_of(case, side.other)
    values = {name: value for name, value in expected.items() if not isinstance(value, tuple) and value is not None}
    assert {name: plan.columns[name] for name in plan.columns if name in expected} == values
    codes = {problem.code for problem in plan.problems if set(problem.row.columns(side.other)) & set(expected)}
    assert codes == {value[1] for value in expected.values() if isinstance(value, tuple) and value[0] is State.PROBLEM}
    waits = {wait.row.columns(side.other)[0] for wait in plan.waits}
    assert waits == {name for name, value in expected.items() if isinstance(value, tuple) and value[0] is State.PENDING}


@pytest.mark.parametrize("case", LINE_CASES, ids=[f"{case['flow']}: {case['name']}" for case in LINE_CASES])
def test_golden_line(case) -> None:
    """A line of Creatio becomes exactly the line that people wrote down, or says why it holds its document."""
    lines, context = mappings().flows[case["flow"]].lines, line_context(case["flow"])
    assert lines is not None
    given = {name: decoded_by(context, Side.CREATIO, name, value) for name, value in case["input"].items()}
    assert given.keys() <= set(lines.columns(Side.CREATIO))
    converted = line_conversion(lines, context)((True, *(given.get(name) for name in lines.columns(Side.CREATIO))), "")
    if not isinstance(converted.value, tuple):
        assert {"pending": True} if converted.state is State.PENDING else {"problem": converted.code} == case["expected"]
        return
    there = dict(zip(lines.columns(Side.DYNAMICS), converted.value[1:], strict=True))
    expected = {name: decoded_by(context, Side.DYNAMICS, name, value) for name, value in case["expected"].items()}
    assert {name: value for name, value in there.items() if value is not None} == expected


@pytest.mark.parametrize("flow", [name for name, flow in mappings().flows.items() if flow.lines])
def test_every_row_of_lines_stands_in_a_case(flow) -> None:
    """Lines have golden cases as headers have: each row is read, or written, in one at least."""
    own = [case for case in LINE_CASES if case["flow"] == flow]
    seen = {name for case in own for side in ("input", "expected") for name in case[side]}
    lines = mappings().flows[flow].lines
    assert lines is not None
    assert [row.key for row in lines.fields if not {*row.columns(Side.CREATIO), *row.columns(Side.DYNAMICS)} <= seen] == []


@pytest.mark.parametrize(("active", "statecode", "written"), [(False, 0, True), (True, 1, False), (True, 0, None), (False, 1, None)])
def test_the_first_bind_takes_the_state_of_dynamics(active: bool, statecode: int, written: bool | None) -> None:
    """Accounts older than the custom column read "no": when they are bound, Creatio gets the state, and Dynamics is left alone."""
    desk = Desk(mappings(), mappings().flows["sales.account"], flow_context("sales.account"), KEYRING)
    twin = "d0000000-0000-4000-8000-000000000099"
    rows = {
        Side.CREATIO: Row(RECORD, Stamp(NOW), {"Name": "Old", "UsrActive": active}),
        Side.DYNAMICS: Row(twin, Stamp(NOW), {"name": "Old", "statecode": statecode}),
    }
    decision = plan_record(desk, Binding("sales.account", BindingState.BOUND, RECORD, twin), rows).decisions["UsrActive=statecode"]
    if written is None:
        assert (decision.action, decision.to) == (Action.NOTHING, None)
    else:
        assert (decision.action, decision.to, decision.value) == (Action.WRITE, Side.CREATIO, written)


@pytest.mark.parametrize("flow", sorted(mappings().flows))
def test_there_are_enough_cases_each_way(flow) -> None:
    """Where a flow creates there are a dozen cases or more, and every row of the mapping stands in at least one case each way it goes."""
    for side in Side:
        own = [case for case in CASES if (case["flow"], case["from"]) == (flow, side.value)]
        assert len(own) >= (12 if mappings().flows[flow].creates(side.other) else 0)
        seen = {name for case in own for name in case["input"]}
        rows = [row for row in mappings().flows[flow].fields if row.writes(side.other) and row.columns(side)]
        rows = [row for row in rows if not isinstance(row, SourceIdRow)]
        assert [row.key for row in rows if not set(row.columns(side)) & seen] == []


def test_the_names_of_cases_are_unique() -> None:
    """A failing case can be found by its name."""
    names = [(case["flow"], case["from"], case["name"]) for case in ALL_CASES]
    assert len(set(names)) == len(names)
