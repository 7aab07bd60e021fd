"""Prove that the Dataverse adapter writes a document whole or not at all, its lines by their own ids (dataverse.md 5, 9; laws 4, 6, 8)."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest

from shared.core.errors import Rejected, Stale, Transient
from shared.core.records import LINE_VERSION, LinesOf, Row, Value, Write, WriteKind, WriteResult
from shared.systems.dataverse import Dataverse
from tests.contract.dataverse_site import Site, site

COLUMNS = ("name", "customerid", "statuscode", "totalamount")
LINES = LinesOf("salesorderdetail", "salesorderid", ("productdescription", "quantity", "priceperunit", "isproductoverridden"))


def new_id() -> str:
    """Return a fresh guid."""
    return str(uuid.uuid4())


def line(text: str, quantity: str, price: str) -> dict[str, Value]:
    """Return a write-in line."""
    return {"productdescription": text, "quantity": Decimal(quantity), "priceperunit": Decimal(price), "isproductoverridden": True}


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


async def order(org: Site, adapter: Dataverse, lines: dict[str, dict[str, Value]]) -> Row:
    """Create an order with lines."""
    account = (await org.control.seed("account", [{"name": "Acme"}]))[0]
    values = {"name": "Order", "customerid": account}
    write = Write(WriteKind.CREATE, new_id(), values, lines=lines)
    (result,) = await adapter.write("salesorder", [write], lines=LINES)
    assert result.error is None, result.error
    (row,) = (await adapter.read("salesorder", [write.id], COLUMNS, lines=LINES)).values()
    assert isinstance(row, Row)
    return row


async def change(adapter: Dataverse, seen: Row, values: dict[str, Value], lines: dict[str, dict[str, Value] | None]) -> WriteResult:
    """Write to an order."""
    (result,) = await adapter.write("salesorder", [Write(WriteKind.UPDATE, seen.id, values, seen, lines)], lines=LINES)
    return result


def bare(row: Row | None) -> dict[str, dict[str, Value]]:
    """Return the lines of a row without their versions."""
    assert row is not None
    return {key: {name: value for name, value in values.items() if name != LINE_VERSION} for key, values in row.lines.items()}


async def test_a_document_is_created_with_its_lines_in_one_change_set(org):
    """Header and lines are one request; both carry our ids, and the row that comes back holds what the server made of them."""
    adapter, pen, ink = org.dataverse(), new_id(), new_id()
    made = await order(org, adapter, {pen: line("Pen", "3", "1.5"), ink: line("Ink", "1", "7")})
    assert bare(made) == {pen: line("Pen", "3", "1.5"), ink: line("Ink", "1", "7")}
    assert (await org.control.requests())["by"]["POST $batch"] == 1
    assert len(await org.control.rows("salesorderdetail")) == 2


async def test_lines_are_changed_added_and_removed_with_their_header(org):
    """One write says all of it, and only what differs is sent."""
    adapter, pen, ink, new = org.dataverse(), new_id(), new_id(), new_id()
    made = await order(org, adapter, {pen: line("Pen", "3", "1.5"), ink: line("Ink", "1", "7")})
    changed: dict[str, dict[str, Value] | None] = {pen: line("Pen", "4", "1.5"), ink: None, new: line("Paper", "2", "4")}
    result = await change(adapter, made, {"name": "Renamed"}, changed)
    assert result.error is None
    assert result.row is not None
    assert result.row.values["name"] == "Renamed"
    assert bare(result.row) == {pen: line("Pen", "4", "1.5"), new: line("Paper", "2", "4")}


async def test_a_failing_line_takes_the_whole_document_back(org):
    """A line that the server refuses leaves header and lines as they were, and a new document is not there at all."""
    adapter, pen = org.dataverse(), new_id()
    made = await order(org, adapter, {pen: line("Pen", "3", "1.5")})
    bad = line("x" * 600, "1", "1")
    result = await change(adapter, made, {"name": "Renamed"}, {pen: line("Pen", "9", "1.5"), new_id(): bad})
    assert isinstance(result.error, Rejected)
    (row,) = (await adapter.read("salesorder", [made.id], COLUMNS, lines=LINES)).values()
    assert isinstance(row, Row)
    assert (row.values["name"], bare(row)) == ("Order", bare(made))
    orders = len(await org.control.rows("salesorder"))
    create = Write(WriteKind.CREATE, new_id(), {"name": "B", "customerid": made.values["customerid"]}, lines={new_id(): bad})
    (result,) = await adapter.write("salesorder", [create], lines=LINES)
    assert isinstance(result.error, Rejected)
    assert len(await org.control.rows("salesorder")) == orders


async def test_somebodys_edit_of_a_line_is_not_written_over(org):
    """Lines carry the versions that the plan saw: an edit in between is Stale, and it stands."""
    adapter, pen = org.dataverse(), new_id()
    made = await order(org, adapter, {pen: line("Pen", "3", "1.5")})
    await org.control.edit("salesorderdetail", pen, {"quantity": 8})
    result = await change(adapter, made, {}, {pen: line("Pen", "4", "1.5")})
    assert isinstance(result.error, Stale)
    (row,) = (await adapter.read("salesorder", [made.id], COLUMNS, lines=LINES)).values()
    assert isinstance(row, Row)
    assert row.lines[pen]["quantity"] == 8


async def test_a_lost_reply_leaves_the_document_to_the_next_look(org):
    """The change set was done and nobody said so: Transient, and a read finds all of it once."""
    adapter, pen = org.dataverse(), new_id()
    made = await order(org, adapter, {pen: line("Pen", "3", "1.5")})
    await org.misbehave(kind="drop_after", times=1, method="POST", path="batch")
    result = await change(adapter, made, {}, {new_id(): line("Ink", "1", "7")})
    assert isinstance(result.error, Transient)
    (row,) = (await adapter.read("salesorder", [made.id], COLUMNS, lines=LINES)).values()
    assert isinstance(row, Row)
    assert len(row.lines) == 2


async def test_lines_of_many_documents_are_few_requests(org):
    """120 orders are one query for headers and two for their lines."""
    adapter = org.dataverse()
    account = (await org.control.seed("account", [{"name": "Acme"}]))[0]
    writes = [
        Write(WriteKind.CREATE, new_id(), {"name": f"Order {n}", "customerid": account}, lines={new_id(): line("Pen", "1", "1")})
        for n in range(120)
    ]
    results = await adapter.write("salesorder", writes, lines=LINES)
    assert [one.error for one in results] == [None] * 120
    await adapter.read("salesorder", [writes[0].id], COLUMNS, lines=LINES)  # the metadata of what is read are asked for once
    await org.control.reset_requests()
    rows = await adapter.read("salesorder", [write.id for write in writes], COLUMNS, lines=LINES)
    assert all(isinstance(row, Row) and len(row.lines) == 1 for row in rows.values())
    assert (await org.control.requests())["total"] == 3


async def test_a_lookup_to_a_short_list_has_its_rows_as_options(org):
    """Units, price lists and currencies are found by their names, asked for once; a customer's table is no list."""
    adapter = org.dataverse()
    schedule = (await org.control.seed("uomschedule", [{"name": "Lengths", "baseuomname": "Metre"}]))[0]
    described = await adapter.describe("product", ("name", "defaultuomscheduleid"), ("defaultuomscheduleid",))
    assert described.columns["defaultuomscheduleid"].options[schedule] == "Lengths"
    await org.control.reset_requests()
    await adapter.describe("product", ("name", "defaultuomscheduleid"), ("defaultuomscheduleid",))
    assert (await org.control.requests())["total"] == 0
    order = await adapter.describe("salesorder", ("customerid",), ("customerid",))
    assert order.columns["customerid"].options == {}


async def test_a_line_whose_create_only_column_changes_is_made_anew(org):
    """What the server set by itself is left alone; a real change deletes the line and creates it again under the same id."""
    adapter, pen = org.dataverse(), new_id()
    schedule = (await org.control.rows("uomschedule"))[0]["uomscheduleid"]
    unit = (await org.control.rows("uom"))[0]["uomid"]
    product = {"name": "Pen", "productnumber": "P-1", "quantitydecimal": 2, "defaultuomscheduleid": schedule, "defaultuomid": unit}
    pens = (await org.control.create("product", product))["productid"]
    await org.control.edit("product", pens, {"statecode": 0, "statuscode": 1})
    made = await order(org, adapter, {pen: line("Pen", "3", "1.5")})
    untouched = {**line("Pen", "4", "1.5"), "isproductoverridden": None}
    result = await change(adapter, made, {}, {pen: untouched})
    assert result.error is None, result.error
    assert bare(result.row)[pen] == line("Pen", "4", "1.5")
    wider = replace(LINES, columns=(*LINES.columns, "productid", "ispriceoverridden", "uomid"))
    seen = (await adapter.read("salesorder", [made.id], COLUMNS, lines=wider))[made.id]
    assert isinstance(seen, Row)
    listed = {
        **line("Pen", "5", "1.5"),
        "isproductoverridden": False,
        "productdescription": None,
        "productid": pens,
        "ispriceoverridden": True,
    }
    (result,) = await adapter.write("salesorder", [Write(WriteKind.UPDATE, seen.id, {}, seen, {pen: listed})], lines=wider)
    assert result.error is None, result.error
    assert bare(result.row)[pen]["productid"] == pens
    assert len(await org.control.rows("salesorderdetail")) == 1


async def test_an_opportunity_is_won_by_its_action_and_reopened_by_its_state(org):
    """A status that closes goes through the action, after what else is written; an open one reopens first."""
    adapter = org.dataverse()
    account = (await org.control.seed("account", [{"name": "Acme"}]))[0]
    columns = ("name", "statuscode", "statecode")
    key = new_id()
    create = Write(WriteKind.CREATE, key, {"name": "Deal", "customerid": account, "statuscode": 1})
    (made,) = await adapter.write("opportunity", [create])
    assert made.error is None
    for status, state, name in ((3, 1, "Won"), (1, 0, "Back"), (5, 2, "Lost")):
        (seen,) = (await adapter.read("opportunity", [key], columns)).values()
        assert isinstance(seen, Row)
        (result,) = await adapter.write("opportunity", [Write(WriteKind.UPDATE, key, {"name": name, "statuscode": status}, seen)])
        assert result.error is None, result.error
        assert result.row is not None
        assert (result.row.values["statecode"], result.row.values["statuscode"], result.row.values["name"]) == (state, status, name)
    assert len(await org.control.rows("opportunityclose")) == 2


async def test_a_case_is_resolved_by_its_action(org):
    """Nothing but the status: one action, and the row as it is afterwards."""
    adapter = org.dataverse()
    account = (await org.control.seed("account", [{"name": "Acme"}]))[0]
    key = (await org.control.create("incident", {"title": "Smoke", "customerid": account}))["incidentid"]
    (seen,) = (await adapter.read("incident", [key], ("title", "statuscode"))).values()
    assert isinstance(seen, Row)
    (result,) = await adapter.write("incident", [Write(WriteKind.UPDATE, key, {"statuscode": 5}, seen)])
    assert result.error is None, result.error
    assert result.row is not None
    assert result.row.values["statuscode"] == 5


async def test_two_workers_with_the_same_plan_write_it_once(org):
    """Who comes second is Stale, whether its line is there already or gone already: nothing is refused, and the next look finds it done."""
    adapter, pen, ink = org.dataverse(), new_id(), new_id()
    made = await order(org, adapter, {pen: line("Pen", "3", "1.5")})
    plan: dict[str, dict[str, Value] | None] = {ink: line("Ink", "1", "7")}
    assert (await change(adapter, made, {}, plan)).error is None
    assert isinstance((await change(adapter, made, {}, plan)).error, Stale)
    (seen,) = (await adapter.read("salesorder", [made.id], COLUMNS, lines=LINES)).values()
    assert isinstance(seen, Row)
    assert (await change(adapter, seen, {}, {pen: None})).error is None
    assert isinstance((await change(adapter, seen, {}, {pen: None})).error, Stale)
    assert len(await org.control.rows("salesorderdetail")) == 1


@pytest.mark.parametrize("lines", [False, True])
async def test_a_state_does_not_open_the_way_past_somebodys_edit(org, lines):
    """A set that begins with a state carries the version that the plan saw (law 8): an edit of the header in between is Stale."""
    adapter, pen = org.dataverse(), new_id()
    made = await order(org, adapter, {pen: line("Pen", "3", "1.5")})
    await org.control.edit("salesorder", made.id, {"name": "Somebody's"})
    plan: dict[str, dict[str, Value] | None] = {new_id(): line("Ink", "1", "7")} if lines else {}
    result = await change(adapter, made, {"name": "Ours", "statuscode": 2}, plan)
    assert isinstance(result.error, Stale)
    (row,) = (await adapter.read("salesorder", [made.id], COLUMNS, lines=LINES)).values()
    assert isinstance(row, Row)
    assert (row.values["name"], len(row.lines)) == ("Somebody's", 1)


async def test_all_lines_are_told_with_their_documents(org):
    """Only ids are read, of all documents; a compare asks which lines there are."""
    adapter = org.dataverse()
    made = [await order(org, adapter, {new_id(): line("Pen", "1", "2"), new_id(): line("Ink", "2", "3")}) for _ in range(3)]
    found = [one async for page in adapter.all_lines(LINES) for one in page]
    assert sorted(found) == sorted((row.id, key) for row in made for key in row.lines)
