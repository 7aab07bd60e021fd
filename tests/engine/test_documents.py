"""Documents (requirements O5, D8): header and lines are one unit, whatever is changed, refused, awaited or killed."""

from dataclasses import replace
from decimal import Decimal
from unittest.mock import patch

import pytest

from shared.core.document import LINE, line_id
from shared.core.errors import Rejected
from shared.core.records import Column, ColumnType, Side, Value
from shared.core.work import RunKind
from shared.engine import scan
from tests.engine.fakes import Crash
from tests.engine.world import World, guid

ORDERS, PRODUCTS = "test.order", "test.product"
ORDER, PRODUCT, PEN, INK = guid(900), guid(800), guid(901), guid(902)


def _flow(name: str, title: str, creatio: str, dynamics: str, *, overlong: str = "reject") -> dict[str, object]:
    """Return a flow to Dynamics with a name and a number."""
    return {
        "flow": name,
        "title": title,
        "about": "Orders with lines, and the products that these refer to.",
        "creatio": {"entity": creatio},
        "dynamics": {"system": "dataverse", "entity": dynamics},
        "create": "to_dynamics",
        "owner": "creatio",
        "on_delete": "keep",
        "on_duplicate": "ask",
        "match": [["Code"]],
        "fields": [
            {"creatio": "Name", "way": ">", "dynamics": "name", "required": True, "overlong": overlong},
            {"creatio": "Code", "way": ">", "dynamics": "accountnumber"},
        ],
    }


def _orders() -> dict[str, object]:
    lines = {
        "creatio": {"entity": "OrderProduct", "parent": "OrderId"},
        "dynamics": {"entity": "salesorderdetail", "parent": "salesorderid"},
        "fields": [
            {"creatio": "Name", "way": ">", "dynamics": "productdescription", "required": True},
            {"creatio": "Quantity", "way": ">", "dynamics": "quantity", "rule": "money"},
            {"creatio": "Price", "way": ">", "dynamics": "priceperunit", "rule": "money"},
            {"creatio": "ProductId", "way": ">", "dynamics": "productid", "rule": "reference", "flow": PRODUCTS, "if_missing": "wait"},
        ],
    }
    totals = [{"creatio": ["Limit"], "dynamics": "creditlimit", "tolerance": "0.01"}]
    return {**_flow(ORDERS, "Orders", "Order", "salesorder"), "lines": lines, "totals": totals}


def _products() -> dict[str, object]:
    return _flow(PRODUCTS, "Products", "Product", "product", overlong="truncate")


def make_line(name: str | None, quantity: int, price: str, product: str | None = None) -> dict[str, Value]:
    """Return a line in Creatio."""
    return {"Name": name, "Quantity": Decimal(quantity), "Price": Decimal(price), "ProductId": product}


def _sum(quantity: str, price: str):
    def totals(lines: dict[str, dict[str, Value]]) -> dict[str, Value]:
        amounts = [Decimal(str(line[quantity])) * Decimal(str(line[price])) for line in lines.values()]
        return {"Limit" if quantity == "Quantity" else "creditlimit": sum(amounts, Decimal(0)) or None}

    return totals


@pytest.fixture
def shop() -> World:
    """Return a world of orders with lines."""
    return make_shop()


def make_shop() -> World:
    """Return a world of orders with lines, and of the products that they refer to."""
    world = World(mapping=_orders(), further=[_products()])
    creatio, dynamics = world.creatio, world.dynamics
    creatio.further, dynamics.further = {"Product"}, {"product"}
    creatio.line_entity, dynamics.line_entity = "OrderProduct", "salesorderdetail"
    money, text = ColumnType.DECIMAL, ColumnType.TEXT
    names = (("Name", text), ("Quantity", money), ("Price", money), ("ProductId", ColumnType.LOOKUP))
    creatio.line_columns = {name: Column(name, type_) for name, type_ in names}
    there = (("productdescription", text), ("quantity", money), ("priceperunit", money), ("productid", ColumnType.LOOKUP))
    dynamics.line_columns = {name: Column(name, type_, scale=2) for name, type_ in there}
    creatio.totals, dynamics.totals = _sum("Quantity", "Price"), _sum("quantity", "priceperunit")
    return world


def _order(world: World, lines: dict[str, dict[str, Value]]) -> None:
    world.creatio.create_as_user(ORDER, Id=ORDER, Name="Order", Code="O-1")
    world.creatio.edit_lines_as_user(ORDER, lines)


def _lines(world: World) -> dict[str, tuple[Value, Value, Value]]:
    """Return the lines in Dynamics by the id of the Creatio line that they stand for, if any."""
    names = {line_id(ORDERS, key): key for key in (PEN, INK)}
    order = world.twin(Side.CREATIO, ORDER)
    found = world.dynamics.lines.get(order, {})
    return {names.get(key, key): (line["productdescription"], line["quantity"], line["priceperunit"]) for key, line in found.items()}


async def test_an_order_arrives_with_its_lines_in_one_write(shop):
    """Header and lines are one write; the next cycles find nothing to do."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50"), INK: make_line("Ink", 1, "7")})
    await shop.cycle()
    assert _lines(shop) == {PEN: ("Pen", 3, Decimal("1.5")), INK: ("Ink", 1, 7)}
    assert shop.dynamics.value(shop.twin(Side.CREATIO, ORDER), "creditlimit") == Decimal("11.5")
    assert (shop.dynamics.writes, shop.failure_codes()) == (1, set())
    await shop.cycle(2)
    assert (shop.dynamics.writes, shop.creatio.writes) == (1, 0)


async def test_lines_are_changed_added_and_removed(shop):
    """What changed among the lines is one write more; a line that is gone on both sides is forgotten."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": Decimal(4)}, INK: make_line("Ink", 1, "7")})
    await shop.cycle(2)
    assert _lines(shop) == {PEN: ("Pen", 4, Decimal("1.5")), INK: ("Ink", 1, 7)}
    shop.creatio.edit_lines_as_user(ORDER, {PEN: None})
    await shop.cycle(2)
    assert _lines(shop) == {INK: ("Ink", 1, 7)}
    assert shop.dynamics.writes == 3
    known = {key for key in shop.binding(Side.CREATIO, ORDER).fields if key.startswith(LINE)}
    assert known == {LINE + line_id(ORDERS, INK)}


async def test_a_line_edited_or_removed_in_dynamics_is_put_back(shop):
    """Lines go one way: what somebody does to one of ours on the other side is restored (law 3)."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50"), INK: make_line("Ink", 1, "7")})
    await shop.cycle(2)
    order = shop.twin(Side.CREATIO, ORDER)
    shop.dynamics.edit_lines_as_user(order, {line_id(ORDERS, PEN): {"quantity": Decimal(9)}, line_id(ORDERS, INK): None})
    await shop.cycle(2)
    assert _lines(shop) == {PEN: ("Pen", 3, Decimal("1.5")), INK: ("Ink", 1, 7)}
    assert shop.counts()["restored"] == 1


async def test_a_line_that_was_deleted_before_a_rebase_goes_with_it(shop):
    """The side that leads has deleted a line and changed another: both go over, for its base tells that the line was there."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50"), INK: make_line("Ink", 1, "7")})
    await shop.cycle(2)
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": Decimal(5)}, INK: None})
    await shop.walk.start(ORDERS, RunKind.REBASE, Side.CREATIO, dry=False)
    await shop.drain()
    assert _lines(shop) == {PEN: ("Pen", 5, Decimal("1.5"))}


async def test_an_order_waits_for_the_products_of_its_lines(shop):
    """No half document: while a line's product is unbound, header and lines wait, and go when it is bound (law 9)."""
    shop.creatio.elsewhere[PRODUCT] = "Product"
    shop.dynamics.fails = lambda verb: None
    shop.creatio.create_as_user(PRODUCT, Id=PRODUCT, Name="Pen", Code="P-1")
    shop.creatio.hidden.add(PRODUCT)
    _order(shop, {PEN: make_line("Pen", 3, "1.50", PRODUCT), INK: make_line("Ink", 1, "7")})
    await shop.poll()
    for _ in range(3):
        await shop.deliver_together()
    assert not shop.dynamics.records
    assert len(shop.ledger.waiting) == 1
    shop.creatio.hidden.clear()
    shop.creatio.edit_as_user(PRODUCT, Name="Pen!")
    await shop.cycle(3)
    assert set(_lines(shop)) == {PEN, INK}
    assert not shop.ledger.waiting


async def test_a_bad_line_holds_the_whole_order_until_it_is_mended(shop):
    """A line without what it needs is a failure of its own, and nothing of the change is written meanwhile."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    before = dict(_lines(shop))
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": Decimal(5)}, INK: make_line(None, 1, "7")})
    shop.creatio.edit_as_user(ORDER, Name="Renamed")
    await shop.cycle(2)
    assert _lines(shop) == before
    assert shop.dynamics.value(shop.twin(Side.CREATIO, ORDER), "name") == "Order"
    assert (LINE + line_id(ORDERS, INK), "mapping.required") in shop.failure_codes()
    shop.creatio.edit_lines_as_user(ORDER, {INK: {"Name": "Ink"}})
    await shop.cycle(2)
    assert _lines(shop) == {PEN: ("Pen", 5, Decimal("1.5")), INK: ("Ink", 1, 7)}
    assert shop.dynamics.value(shop.twin(Side.CREATIO, ORDER), "name") == "Renamed"
    assert shop.failure_codes() == set()


async def test_a_new_order_with_a_bad_line_is_not_created(shop):
    """A create is held as a whole, too, and told."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50"), INK: make_line(None, 1, "7")})
    await shop.cycle(2)
    assert not shop.dynamics.records
    assert shop.counts() == {"rejected": 1}


async def test_a_line_mended_behind_the_back_of_its_document_lets_it_be_created(shop):
    """The order that could not be created has the stamp it had then: the feed of lines alone brings it back."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50"), INK: make_line(None, 1, "7")})
    await shop.cycle(2)
    assert not shop.dynamics.records
    shop.creatio.sums_by_sql = True
    shop.creatio.edit_lines_as_user(ORDER, {INK: {"Name": "Ink"}})
    await shop.cycle(2)
    assert _lines(shop) == {PEN: ("Pen", 3, Decimal("1.5")), INK: ("Ink", 1, 7)}
    assert shop.failure_codes() == set()


async def test_a_refused_change_leaves_the_old_document(shop):
    """The server takes all or nothing; the failure is told, and the same values are not sent again (law 13)."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    shop.dynamics.refuse = lambda write: Rejected("dataverse.refused", system="dataverse", record_id=write.id)
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": Decimal(5)}})
    await shop.cycle(3)
    assert _lines(shop) == {PEN: ("Pen", 3, Decimal("1.5"))}
    assert {code for _, code in shop.failure_codes()} >= {"dataverse.refused"}
    shop.dynamics.refuse = lambda _write: None
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": Decimal(6)}})
    await shop.cycle(2)
    assert _lines(shop) == {PEN: ("Pen", 6, Decimal("1.5"))}
    assert shop.failure_codes() == set()


async def test_different_totals_are_told_with_both_figures(shop):
    """A server that sums up otherwise is not believed and not corrected: a person sees both amounts."""
    shop.dynamics.totals = lambda lines: {"creditlimit": _sum("quantity", "priceperunit")(lines)["creditlimit"] + Decimal("0.50")}
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    (failure,) = shop.ledger.failed.values()
    assert (failure.field, failure.code) == ("totals", "document.totals_differ")
    assert "4.5" in failure.said
    assert "5" in failure.said
    shop.dynamics.totals = _sum("quantity", "priceperunit")
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": Decimal(4)}})
    await shop.cycle(2)
    assert shop.failure_codes() == set()


@pytest.mark.parametrize("by_sql", [False, True])
async def test_a_line_saved_between_two_reads_is_no_difference(by_sql, shop):
    """The header was read before somebody saved another line, the lines after it: nothing is told, and the next look has both.

    A server that sums up by SQL shows another amount under the old stamp.
    """
    shop.creatio.sums_by_sql = by_sql
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    whole, torn = shop.creatio.read, [True]

    async def read(entity, ids, columns, *, lines=None):
        rows = await whole(entity, ids, columns, lines=lines)
        if lines is None or ORDER not in rows or not torn:
            return rows
        torn.clear()
        shop.creatio.edit_lines_as_user(ORDER, {INK: make_line("Ink", 1, "7")})
        return {**rows, ORDER: replace(rows[ORDER], lines=dict(shop.creatio.lines[ORDER]))}

    shop.creatio.read = read
    told = []
    shop.on_step = lambda _name: told.extend(code for _, code in shop.failure_codes())
    shop.creatio.edit_as_user(ORDER, Name="Renamed")
    await shop.cycle(3)
    assert not torn
    assert told == []
    assert set(_lines(shop)) == {PEN, INK}


async def test_rounding_within_the_tolerance_is_no_difference(shop):
    """A cent is the mapping's tolerance."""
    shop.dynamics.totals = lambda lines: {"creditlimit": _sum("quantity", "priceperunit")(lines)["creditlimit"] + Decimal("0.01")}
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    assert shop.failure_codes() == set()


async def test_lines_that_nobody_in_creatio_knows_stop_the_document(shop):
    """An order found by its number that has lines of its own is not given ours as well: they would be there twice."""
    there = guid(700)
    shop.dynamics.create_as_user(there, name="Order", accountnumber="O-1")
    shop.dynamics.edit_lines_as_user(there, {guid(701): {"productdescription": "Pen", "quantity": 3, "priceperunit": Decimal("1.5")}})
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    assert list(shop.dynamics.lines[there]) == [guid(701)]
    assert {code for _, code in shop.failure_codes()} == {"document.foreign_lines"}


@pytest.mark.parametrize("step", range(40))
async def test_a_crash_at_any_step_doubles_and_loses_no_line(step, shop):
    """The worker dies at each step of a create and of a change with a new, a changed and a removed line; both end in step."""
    left = [step]

    def dies(_name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    shop.on_step = dies
    for _ in range(2):
        try:
            await shop.cycle()
        except Crash:
            shop.start()
    left[0] = step
    shop.creatio.edit_lines_as_user(ORDER, {PEN: None, INK: make_line("Ink", 2, "7")})
    for _ in range(2):
        try:
            await shop.cycle()
        except Crash:
            shop.start()
    shop.on_step = lambda _name: None
    shop.clock.tick(3600)
    await shop.cycle(3)
    assert _lines(shop) == {INK: ("Ink", 2, 7)}
    assert len([key for key in shop.dynamics.records if key not in shop.dynamics.elsewhere]) == 1
    assert shop.failure_codes() == set()


@pytest.mark.parametrize("step", range(3))
async def test_a_line_deleted_behind_its_documents_back_is_found_by_the_compare(step, shop):
    """A server that deletes a line by SQL tells no feed: the compare knows the lines, finds the document, and only that."""
    other = guid(990)
    shop.creatio.create_as_user(other, Id=other, Name="Other", Code="O-2")
    shop.creatio.edit_lines_as_user(other, {guid(991): make_line("Cap", 1, "2")})
    _order(shop, {PEN: make_line("Pen", 3, "1.50"), INK: make_line("Ink", 1, "7")})
    await shop.cycle(2)
    shop.creatio.sums_by_sql = True
    shop.creatio.edit_lines_as_user(ORDER, [{PEN: None}, {PEN: None, INK: None}, {INK: {"Quantity": Decimal(2)}, PEN: None}][step])
    if step == 2:
        shop.creatio.line_saves.clear()  # the feed of the lines has missed it too
    shop.dynamics.writes = 0
    await shop.cycle()
    assert set(_lines(shop)) == {PEN, INK}
    shop.clock.tick(7 * 3600)
    await shop.cycle()
    assert _lines(shop) == [{INK: ("Ink", 1, 7)}, {}, {INK: ("Ink", 2, 7)}][step]
    assert (shop.dynamics.writes, shop.failure_codes()) == (1, set())
    shop.clock.tick(7 * 3600)
    await shop.cycle()
    compared = [facts for name, facts in shop.events if name == "side_compared" and facts["flow"] == ORDERS]
    assert [facts["lines_apart"] for facts in compared][-2:] == [1, 0]


async def test_a_line_saved_behind_its_documents_back_comes_by_the_feed_of_lines(shop):
    """Its document's own time stays as it is, and it arrives with the next poll all the same."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    shop.creatio.sums_by_sql = True
    shop.creatio.edit_lines_as_user(ORDER, {INK: make_line("Ink", 1, "7")})
    await shop.cycle()
    assert set(_lines(shop)) == {PEN, INK}


async def test_documents_told_of_by_themselves_and_by_their_lines_count_once(shop):
    """Of 60 orders 40 changed, and each is told of twice: that is no mass change of 80 records, and the flow does not ask (law 12)."""
    orders = [guid(2000 + number) for number in range(60)]
    for number, order in enumerate(orders):
        shop.creatio.create_as_user(order, Id=order, Name="Order", Code=f"O-{number}")
        shop.creatio.edit_lines_as_user(order, {guid(3000 + number): make_line("Pen", 1, "2")})
    await shop.cycle(2)
    for number, order in enumerate(orders):
        shop.creatio.edit_as_user(order, Name="Renamed" if number < 40 else "Order")
    shop.creatio.line_saves = {order: shop.creatio.sequence + place for place, order in enumerate(orders, 1)}
    shop.creatio.sequence += len(orders)
    shop.creatio.page_size = 70  # the two announcements of an order come in different pages
    with patch.object(scan, "_FEW", 59):
        await shop.cycle(2)
    assert not any(flow.asking for flow in shop.ledger.flows.values())
    assert sum(record.values["name"] == "Renamed" for record in shop.dynamics.records.values()) == 40


async def test_what_was_refused_with_a_document_goes_with_its_next_change(shop):
    """The server refused two lines together: when one of them is mended the other is sent with it, for half a document is none (law 13)."""
    _order(shop, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    shop.dynamics.refuse = lambda write: Rejected("dataverse.refused", record_id=write.id) if write.lines[line_id(ORDERS, PEN)] else None
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": Decimal(5)}, INK: make_line("Ink", 1, "7")})
    await shop.cycle(2)
    assert _lines(shop) == {PEN: ("Pen", 3, Decimal("1.5"))}
    shop.dynamics.refuse = lambda _write: None
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": Decimal(6)}})
    await shop.cycle(2)
    assert _lines(shop) == {PEN: ("Pen", 6, Decimal("1.5")), INK: ("Ink", 1, 7)}
    assert shop.failure_codes() == set()
