"""Law 9: a record that must wait for another is not created before it, and the twins of links are looked up where a link moved."""

from dataclasses import replace

import pytest

from shared.core.binding import BindingState
from shared.core.plan import referred
from shared.core.records import Side
from shared.core.work import FlowSettings
from shared.engine.desk import open_desk
from tests.engine.agreement import CONTACTS
from tests.engine.house import contacts
from tests.engine.world import FLOW, World, guid


async def test_law_9_a_record_that_must_wait_is_created_with_its_link_or_not_at_all():
    """A contact's account can't be created yet: there is no contact on the other side; when the account goes through, both are there."""
    world = World(further=[contacts()])
    world.creatio.further, world.dynamics.further = {"Contact"}, {"contact"}
    world.creatio.elsewhere[guid(2)] = "Contact"
    world.creatio.create_as_user(guid(1), Id=guid(1))  # without its name, which is required
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Ann", ParentId=guid(1))

    await world.cycle(3)

    assert world.dynamics.records == {}
    assert [(row.flow, row.record_id) for row in world.ledger.waiting.values()] == [(CONTACTS, guid(2))]

    world.creatio.edit_as_user(guid(1), Name="Acme")
    await world.cycle(2)

    twins = {b.creatio_id: b.dynamics_id for b in world.ledger.bound}
    assert world.dynamics.value(twins[guid(2)], "parentaccountid") == twins[guid(1)]
    assert world.ledger.waiting == {}


async def test_a_link_that_did_not_move_asks_the_ledger_nothing():
    """An edit of another field looks no account up; a link that moves to another account, or away from one, is looked up and followed."""
    world = World()
    (parent, there), (other, other_there) = await world.pair(Name="Acme"), await world.pair(Name="Beta")
    child, twin = await world.pair(Name="Child", ParentId=parent)
    assert world.dynamics.value(twin, "parentaccountid") == there
    asked: list[str] = []
    bindings = world.ledger.bindings

    async def noted(flow, side, ids):
        asked.extend(ids)
        return await bindings(flow, side, ids)

    world.ledger.bindings = noted
    world.creatio.edit_as_user(child, Zip="7")
    await world.cycle(1)
    assert (world.dynamics.value(twin, "zip"), {parent, there} & set(asked)) == ("7", set())

    world.creatio.edit_as_user(child, ParentId=other)
    await world.cycle(1)
    assert (world.dynamics.value(twin, "parentaccountid"), {other, there} & set(asked)) == (other_there, {other, there})

    world.dynamics.edit_as_user(twin, parentaccountid=None)
    await world.cycle(1)
    assert world.creatio.value(child, "ParentId") is None


async def test_law_8_an_edit_of_a_link_that_our_write_covered_is_followed():
    """Creatio's user chooses another account between our read and our write: the covered link is looked up, wins and goes over."""
    world = World()
    (first, _), (_, second_there), (third, third_there) = [await world.pair(Name=name) for name in ("A", "B", "C")]
    child, twin = await world.pair(Name="Child", ParentId=first)
    edits = iter([third])

    def edit_before_our_write(record_id: str) -> None:
        if record_id == child and (chosen := next(edits, None)):
            world.creatio.edit_as_user(child, ParentId=chosen)

    world.creatio.after_plan = edit_before_our_write
    world.dynamics.edit_as_user(twin, parentaccountid=second_there)
    await world.cycle(3)

    assert next(edits, None) is None
    assert world.creatio.value(child, "ParentId") == third
    assert world.dynamics.value(twin, "parentaccountid") == third_there


@pytest.mark.parametrize("keys", ["k1:" + "A" * 43 + "=", "k2:" + "B" * 43 + "=,k1:" + "A" * 43 + "="])
async def test_only_links_that_may_be_carried_over_are_named(keys):
    """A bound record in step names none, one with a moved or covered link both its ends; an unbound one names all; a new key verifies."""
    world = World()
    parent, there = await world.pair(Name="Acme")
    child, twin = await world.pair(Name="Child", ParentId=parent)
    world.keys = keys
    world.start()
    desk, _ = await open_desk(world.services, world.services.mapping(FLOW), FlowSettings(FLOW))
    binding = world.binding(Side.CREATIO, child)
    rows = {Side.CREATIO: world.creatio.row(child), Side.DYNAMICS: world.dynamics.row(twin)}
    ends = [(FLOW, Side.CREATIO, parent), (FLOW, Side.DYNAMICS, there)]
    moved = {**rows, Side.CREATIO: replace(rows[Side.CREATIO], values={**rows[Side.CREATIO].values, "ParentId": guid(77)})}
    new_key = keys.startswith("k2")

    assert list(referred(desk, binding, rows, {})) == (ends if new_key else [])
    assert list(referred(desk, binding, moved, {})) == [(FLOW, Side.CREATIO, guid(77)), ends[1]]
    assert list(referred(desk, binding, rows, {"ParentId=parentaccountid": guid(78)})) == [(FLOW, Side.CREATIO, guid(78)), ends[1]]
    assert list(referred(desk, None, {Side.CREATIO: rows[Side.CREATIO]}, {})) == ends[:1]
    assert list(referred(desk, replace(binding, state=BindingState.REFUSED), rows, {})) == ends
