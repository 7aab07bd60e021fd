"""The real engine on the real ledger (Azurite), the systems and queues faked: what the fake ledger keeps, the tables must keep too."""

import pytest

from shared.core.errors import Rejected
from shared.core.records import Side
from shared.ledger.store import TableLedger
from tests.engine.fakes import Crash
from tests.engine.world import FLOW, World, guid


@pytest.fixture
def stored(ledger: TableLedger) -> World:
    """Return a world whose ledger is Table Storage."""
    world = World()
    world.ledger = ledger
    world.start()
    return world


async def pair(world: World, **values) -> tuple[str, str]:
    """Return the ids of a record that is bound and in step on both sides."""
    world.creatio.create_as_user(guid(1), **{"Id": guid(1), "Name": "Acme", **values})
    await world.cycle(2)
    return guid(1), next(iter(world.dynamics.records))


async def test_a_quiet_cycle_costs_one_ledger_request(stored, ledger):
    """With everything in step a poll is one query and no write."""
    await pair(stored)
    await stored.cycle(2)
    before, writes = ledger.requests, (stored.creatio.writes, stored.dynamics.writes)

    await stored.cycle()

    assert ledger.requests == before + 1
    assert (stored.creatio.writes, stored.dynamics.writes) == writes


@pytest.mark.parametrize(("later", "expected"), [(None, "2"), ("3", "3")])
async def test_an_unanswered_write_is_settled_from_the_tables_by_a_new_process(stored, later, expected):
    """The worker dies after its write; a new process confirms it, or takes a user's later edit for what it is (law 4)."""
    record, twin = await pair(stored, Zip="1")
    died = iter([True])

    def die_after_the_write(_record_id: str) -> None:
        if next(died, False):
            if later is not None:
                stored.dynamics.edit_as_user(twin, zip=later)
            raise Crash

    stored.dynamics.between = die_after_the_write
    writes = stored.dynamics.writes
    stored.creatio.edit_as_user(record, Zip="2")

    await stored.cycle(2)

    assert (stored.creatio.value(record, "Zip"), stored.dynamics.value(twin, "zip")) == (expected, expected)
    assert stored.dynamics.writes == writes + 1


async def test_a_restore_whose_request_was_lost_is_done_by_a_new_process(stored):
    """A one-way field edited on the wrong side is put back even when the first attempt never reached the server."""
    record, twin = await pair(stored)
    stored.dynamics.edit_as_user(twin, creditlimit=None)
    lost = iter([True])
    stored.creatio.lose_request = lambda: next(lost, False)
    stored.creatio.edit_as_user(record, Limit=7)

    await stored.cycle(2)

    assert stored.creatio.value(record, "Limit") is None


async def test_a_refused_field_is_told_held_reprocessed_and_cleared(stored, ledger):
    """A refusal is in the table of failures, is not sent again, and goes away when the value is accepted."""
    record, twin = await pair(stored)
    stored.dynamics.refuse = lambda w: Rejected("dataverse.out_of_range", field="zip") if w.values.get("zip") == "bad" else None
    stored.creatio.edit_as_user(record, Zip="bad", Phone="5")
    await stored.cycle(2)
    assert [(failure.field, failure.code) for failure in await ledger.failures(FLOW)] == [("Zip=zip", "dataverse.out_of_range")]
    assert stored.dynamics.value(twin, "telephone1") == "5"
    stored.dynamics.refuse = lambda _write: None

    await stored.operate.reprocess(FLOW)
    await stored.drain()

    assert stored.dynamics.value(twin, "zip") == "bad"
    assert await ledger.failures(FLOW) == []


async def test_a_child_wakes_when_its_parent_is_bound_and_nothing_is_left(stored, ledger):
    """Reference, waiting row, wake-up and reservations on the real tables."""
    stored.creatio.create_as_user(guid(1), Id=guid(1), Name="Child", Code="C", ParentId=guid(2))
    await stored.cycle(2)
    stored.creatio.create_as_user(guid(2), Id=guid(2), Name="Parent", Code="P")
    await stored.cycle(2)

    bindings = await ledger.bindings(FLOW, Side.CREATIO, [guid(1), guid(2)])
    child, parent = (bindings[guid(number)].dynamics_id for number in (1, 2))
    assert stored.dynamics.value(child, "parentaccountid") == parent
    assert await ledger.all_waiting() == []
    assert await ledger.failures(FLOW) == []
