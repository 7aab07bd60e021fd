"""Parents before children across flows (D2): documents that come before what they refer to all end bound, whatever flow runs first."""

from decimal import Decimal

import pytest

from shared.core.binding import BindingState
from shared.core.work import FlowSettings
from tests.engine.house import contacts
from tests.engine.paperwork import ORDERS, Paperwork
from tests.engine.people import People
from tests.engine.world import FLOW, World, guid

ACCOUNTS, EACH = 500, 20
ALL = ACCOUNTS * EACH


def _office() -> World:
    """Return a world of accounts, contacts and documents that wait for both."""
    world = World(further=[contacts()])
    for system, entity in ((world.creatio, "Contact"), (world.dynamics, "contact")):
        system.further.add(entity)
    Paperwork(world, People(world))
    world.dynamics.forbid, world.dynamics.wrote = lambda _write: None, lambda _record_id: None
    world.start()
    return world


def _orders(world: World, number: int) -> list[str]:
    """Let orders of one line each come into Creatio, some for each account, none of which is there yet."""
    made = [guid(100_000 + n) for n in range(number)]
    for place, order in enumerate(made):
        world.creatio.elsewhere[order] = "Order"
        line = guid(500_000 + place)
        world.creatio.lines[order] = {line: {"Text": "line", "Number": Decimal(1), "PersonId": None}}
        world.creatio.create_as_user(
            order, Id=order, Name=f"Order {place}", ParentId=guid(place % ACCOUNTS + 1), State="open", Sum=Decimal(1)
        )
    return made


def _accounts(world: World, number: int) -> None:
    for n in range(1, number + 1):
        world.creatio.create_as_user(guid(n), Id=guid(n), Name=f"Account {n}", Code=f"A-{n}")


def _are_bound_once(world: World, orders: list[str]) -> None:
    """Every order is bound to one document with its line and its account, and nothing waits or failed."""
    bound = {b.creatio_id: b for b in world.ledger.bound if b.flow == ORDERS and b.state is BindingState.BOUND}
    assert sorted(bound) == sorted(orders)
    twins = [b.dynamics_id for b in bound.values()]
    assert len(set(twins)) == len(orders)
    assert sum(1 for entity in world.dynamics.elsewhere.values() if entity == "salesorder") == len(orders)
    accounts = {b.creatio_id: b.dynamics_id for b in world.ledger.bound if b.flow == FLOW}
    links = [(world.dynamics.value(str(twin), "parentaccountid"), len(world.dynamics.lines[str(twin)])) for twin in twins]
    assert links == [(accounts[world.creatio.value(order, "ParentId")], 1) for order in bound]
    assert (dict(world.ledger.waiting), dict(world.ledger.failed)) == ({}, {})


async def test_ten_thousand_orders_that_come_before_their_accounts_all_end_bound() -> None:
    """The orders wait, each with one row; the accounts come later, wake them once, and everything is written once."""
    world = _office()
    orders = _orders(world, ALL)
    sent = await _messages_of_a_cycle(world)
    assert len(world.ledger.waiting) == ALL
    assert sent <= ALL / 100 + ACCOUNTS, "each account that is not there was asked for by every batch that needs it"
    assert not world.dynamics.records
    _accounts(world, ACCOUNTS)
    read = world.creatio.requests
    assert await _messages_of_a_cycle(world) <= 2 * ALL / 100
    await world.cycle()
    _are_bound_once(world, orders)
    assert world.dynamics.writes <= 2 * (ALL + ACCOUNTS), "a document was written again and again"
    assert world.creatio.requests - read <= 6 * ALL / 100, "the orders were read again and again"
    before = (world.creatio.writes, world.dynamics.writes)
    await world.cycle()
    assert (world.creatio.writes, world.dynamics.writes) == before


async def _messages_of_a_cycle(world: World) -> int:
    """Poll and work everything off; return how many messages that took."""
    send, sent = world.queues.send, []

    async def counted(queue, message, delay_seconds=0):
        sent.append(message)
        await send(queue, message, delay_seconds)

    world.queues.send = counted
    await world.poll()
    await world.drain(10_000)
    world.queues.send = send
    return len(sent)


@pytest.mark.parametrize("first", [FLOW, ORDERS])
async def test_the_order_of_flows_does_not_matter(first: str) -> None:
    """One flow rests while the other one runs, then the other way round: the same comes of it."""
    world = _office()
    orders = _orders(world, 300)
    _accounts(world, ACCOUNTS)
    second = ORDERS if first == FLOW else FLOW
    await world.ledger.save_flow(FlowSettings(second, interval_ms=1000, started=False))
    await world.cycle(2)
    await world.operate.start(second)
    await world.cycle(3)
    _are_bound_once(world, orders)


async def test_an_account_older_than_the_watermark_is_fetched_for_its_order() -> None:
    """The accounts' feed passed an account by, for its watermark is later: the order that waits for it has it fetched, once."""
    world = _office()
    _accounts(world, 2)
    await world.ledger.save_flow(FlowSettings(FLOW, interval_ms=1000, started=False))
    state = await world.ledger.poll_state()
    world.clock.tick(60)
    await world.ledger.save_flow(FlowSettings(FLOW, interval_ms=1000, etag=state.flows[FLOW].etag))
    await _skip_what_is_there(world)
    orders = _orders(world, 2)
    await world.cycle(3)
    _are_bound_once(world, orders)


async def _skip_what_is_there(world: World) -> None:
    """Let the accounts' feed begin behind what is there now, as after a query start in the future of old records."""
    everything = world.creatio.changes

    async def later(entity, columns, position, since, *, lines=None):
        if entity == "Account" and position is None:
            position = str(world.creatio.sequence)
        async for page in everything(entity, columns, position, since, lines=lines):
            yield page

    world.creatio.changes = later
