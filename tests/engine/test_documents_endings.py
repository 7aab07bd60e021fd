"""How a document leaves its flow: it stops, is written once more, or goes on (`then` of a condition); and when it begins (`needed`)."""

import pytest

from shared.core.errors import Rejected
from shared.core.records import Side, Write
from tests.engine.fakes import Crash
from tests.engine.test_documents import INK, ORDER, ORDERS, PEN, make_line, make_shop
from tests.engine.world import World, guid

DRAFT = {"way": ">", "column": "Zip", "any_of": ["draft"]}
STATE = {"creatio": "Zip", "way": ">", "dynamics": "zip"}
OFFER = guid(950)


def _shop(then: str, *, needed: bool = False) -> World:
    """Return a world of orders that begin as drafts; their state stands in Zip."""
    shop = make_shop()
    shop.mapping["when"] = [{**DRAFT, "then": then}]
    shop.mapping["fields"] = [*shop.mapping["fields"], STATE]
    shop.mapping["lines"] = {**shop.mapping["lines"], "needed": needed}
    shop.start()
    return shop


def _draft(shop: World, state: str = "draft") -> None:
    shop.creatio.create_as_user(ORDER, Id=ORDER, Name="Order", Code="O-1", Zip=state)
    shop.creatio.edit_lines_as_user(ORDER, {PEN: make_line("Pen", 3, "1.50")})


def _there(shop: World) -> tuple[object, object, list[object]]:
    """Return name, state and quantities of the document in Dynamics."""
    twin = shop.twin(Side.CREATIO, ORDER)
    quantities = [line["quantity"] for line in shop.dynamics.lines[twin].values()]
    return shop.dynamics.value(twin, "name"), shop.dynamics.value(twin, "zip"), sorted(quantities)


def _leave(shop: World, state: str = "won") -> None:
    """Let a user change state, header and lines together."""
    shop.creatio.edit_as_user(ORDER, Name="As agreed", Zip=state)
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": 4}, INK: make_line("Ink", 1, "7")})


@pytest.mark.parametrize(
    ("then", "after"),
    [("stop", ("Order", "draft", [3])), ("finish", ("As agreed", "won", [1, 4])), ("go_on", ("As agreed", "won", [1, 4]))],
)
async def test_what_becomes_of_a_document_that_leaves_its_condition(then, after):
    """`stop` writes nothing more; `finish` writes all of it once more; so does `go_on`."""
    shop = _shop(then)
    _draft(shop)
    await shop.cycle(2)
    _leave(shop)
    await shop.cycle(2)
    assert _there(shop) == after
    assert shop.failure_codes() == set()


@pytest.mark.parametrize(("then", "name"), [("finish", "As agreed"), ("go_on", "Later")])
async def test_what_becomes_of_it_after_that(then, name):
    """A finished document is left alone, whatever is edited and though its state goes on to one that means the same; `go_on` goes on."""
    shop = _shop(then)
    shop.mapping["fields"] = [row if row is not STATE else {**STATE, "overlong": "truncate"} for row in shop.mapping["fields"]]
    shop.start()
    _draft(shop)
    await shop.cycle(2)
    _leave(shop, "finished, and far too long a word: one")
    await shop.cycle(2)
    before = shop.dynamics.writes
    shop.creatio.edit_as_user(ORDER, Name="Later", Zip="finished, and far too long a word: two")
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": 9}, INK: make_line(None, 1, "7")})
    await shop.cycle(2)
    if then == "finish":
        assert shop.dynamics.writes == before
        assert _there(shop)[0] == name
        assert shop.failure_codes() == set()
    else:
        shop.creatio.edit_lines_as_user(ORDER, {INK: {"Name": "Ink"}})
        await shop.cycle(2)
        assert _there(shop)[0] == name


@pytest.mark.parametrize("then", ["stop", "finish", "go_on"])
async def test_a_document_that_never_was_in_scope_is_not_created(then):
    """Whatever becomes of pairs, a new record has to meet the condition; once it does, it arrives."""
    shop = _shop(then)
    _draft(shop, "won")
    await shop.cycle(2)
    assert not shop.dynamics.records
    shop.creatio.edit_as_user(ORDER, Zip="draft")
    await shop.cycle(2)
    assert _there(shop) == ("Order", "draft", [3])


async def test_a_document_that_comes_back_is_written_again():
    """From a finished state to the draft: it takes part again, with all that was edited meanwhile."""
    shop = _shop("finish")
    _draft(shop)
    await shop.cycle(2)
    _leave(shop)
    await shop.cycle(2)
    shop.creatio.edit_lines_as_user(ORDER, {PEN: {"Quantity": 9}})
    await shop.cycle(2)
    assert _there(shop) == ("As agreed", "won", [1, 4])
    shop.creatio.edit_as_user(ORDER, Zip="draft")
    await shop.cycle(2)
    assert _there(shop) == ("As agreed", "draft", [1, 9])


async def test_a_closed_document_is_never_rewritten_silently():
    """Closed on the other side while it is still a draft here: the edit is told, and once more where the state leaves the condition."""
    shop = _shop("finish")
    _draft(shop)
    await shop.cycle(2)
    shop.dynamics.edit_as_user(shop.twin(Side.CREATIO, ORDER), Zip="closed")

    def refuse(write: Write) -> Rejected | None:
        return Rejected("dataverse.refused", system="dataverse", record_id=write.id)

    shop.dynamics.refuse = refuse
    shop.creatio.edit_as_user(ORDER, Name="Other")
    await shop.cycle(2)
    assert {code for _, code in shop.failure_codes()} == {"dataverse.refused"}
    _leave(shop)
    await shop.cycle(2)
    assert _there(shop) == ("Order", "draft", [3])
    assert {code for _, code in shop.failure_codes()} == {"dataverse.refused"}


@pytest.mark.parametrize("step", range(1, 25))
async def test_a_crash_at_any_step_of_the_last_write_loses_nothing_of_it(step):
    """The worker dies at each step of the write that finishes a document: it is whole on the other side, with its state, in the end."""
    shop, left = _shop("finish"), [step]
    _draft(shop)
    await shop.cycle(2)
    _leave(shop)

    def dies(_name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    shop.on_step = dies
    try:
        await shop.cycle()
    except Crash:
        shop.start()
    shop.on_step = lambda _name: None
    shop.clock.tick(3600)
    await shop.cycle(3)
    assert _there(shop) == ("As agreed", "won", [1, 4])
    assert shop.failure_codes() == set()


@pytest.mark.parametrize("needed", [True, False])
async def test_a_document_without_lines_may_have_to_wait_for_its_first(needed):
    """With `needed` a header alone is nothing yet; the last line that is taken away takes nothing back."""
    shop = _shop("stop", needed=needed)
    shop.creatio.create_as_user(ORDER, Id=ORDER, Name="Order", Code="O-1", Zip="draft")
    await shop.cycle(2)
    assert len(shop.dynamics.records) == (0 if needed else 1)
    shop.creatio.edit_lines_as_user(ORDER, {PEN: make_line("Pen", 3, "1.50")})
    await shop.cycle(2)
    assert _there(shop) == ("Order", "draft", [3])
    shop.creatio.edit_lines_as_user(ORDER, {PEN: None})
    shop.creatio.edit_as_user(ORDER, Name="Empty")
    await shop.cycle(2)
    assert _there(shop) == ("Empty", "draft", [])


def _two_flows() -> World:
    """Return a world in which orders and offers become rows of one table."""
    world = World(mapping={**_plain(ORDERS, "Order"), "title": "Orders"}, further=[_plain("test.offer", "Product")])
    world.creatio.further = {"Product"}
    return world


def _plain(flow: str, entity: str) -> dict[str, object]:
    mapping = make_shop().mapping
    kept = {name: value for name, value in mapping.items() if name not in ("lines", "totals")}
    return {**kept, "flow": flow, "creatio": {"entity": entity}}


async def test_a_record_of_a_shared_table_belongs_to_one_flow():
    """What an offer became is not bound to an order with its number as well, from whichever side it is met: a person is asked."""
    world = _two_flows()
    world.creatio.elsewhere[OFFER] = "Product"
    world.creatio.create_as_user(OFFER, Id=OFFER, Name="Offer", Code="X-1")
    await world.cycle(2)
    (twin,) = world.dynamics.records
    world.creatio.create_as_user(ORDER, Id=ORDER, Name="Order", Code="X-1")
    await world.cycle(2)
    world.dynamics.edit_as_user(twin, name="Edited")
    await world.cycle(2)
    assert [binding.flow for binding in world.ledger.bound if binding.id_on(Side.DYNAMICS) == twin] == ["test.offer"]
    assert list(world.dynamics.records) == [twin]
    assert world.dynamics.value(twin, "name") == "Offer"
    conflicts = await world.ledger.conflicts(ORDERS)
    assert [conflict.reason for conflict in conflicts] == ["match.ambiguous"]


async def test_two_flows_of_one_table_keep_out_of_each_others_way():
    """Each has its own rows, nothing waits, and an edit on either side is its own flow's."""
    world = _two_flows()
    world.creatio.elsewhere[OFFER] = "Product"
    world.creatio.create_as_user(OFFER, Id=OFFER, Name="Offer", Code="X-1")
    world.creatio.create_as_user(ORDER, Id=ORDER, Name="Order", Code="O-1")
    await world.cycle(2)
    world.creatio.edit_as_user(ORDER, Name="Order 2")
    for twin in list(world.dynamics.records):
        world.dynamics.edit_as_user(twin, zip="1000")
    await world.cycle(2)
    assert sorted(str(record.values["name"]) for record in world.dynamics.records.values()) == ["Offer", "Order 2"]
    assert world.failure_codes() == set()
    assert await world.ledger.conflicts(ORDERS) == await world.ledger.conflicts("test.offer") == []
