"""Histories that the state machine found, made small. Each was a fault of the engine once."""

from unittest.mock import patch

from shared.core.errors import Rejected
from shared.core.records import Side
from shared.core.work import Batch, BatchItem, RunKind, Waiting
from shared.engine import scan
from shared.engine.poll import send_batches
from tests.engine.world import FLOW, guid


async def test_a_walk_whose_message_is_lost_is_walked_all_the_same(world):
    """The worker dies between the flow's row and the message, or the host gives up on it: the run still ends, and another may begin."""
    await world.pair()
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    world.queues.messages.clear()

    world.clock.tick(1200)
    await world.watcher.run()
    await world.drain()
    await world.watcher.run()

    assert world.ledger.flows[FLOW].walking is None
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=True)


async def test_what_was_edited_while_a_column_was_missing_arrives_with_an_align_run(world):
    """A column is taken away and given back: the flow asks for an align run, which carries over what was edited on the other side."""
    record, twin = await world.pair(Phone="1")
    column = {"Phone": world.creatio.columns.pop("Phone")}
    world.dynamics.edit_as_user(twin, telephone1="2")
    await world.cycle(2)
    assert world.failure_codes() == {("Phone=telephone1", "creatio.unknown_column")}

    world.creatio.columns |= column
    world.dynamics.edit_as_user(twin, zip="5")
    await world.cycle(1)

    assert world.failure_codes() == set()
    assert (await world.operate.status())["flows"][FLOW]["needs_alignment"]
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    await world.drain()
    await world.watcher.run()
    assert world.creatio.value(record, "Phone") == "2"
    assert not (await world.operate.status())["flows"][FLOW]["needs_alignment"]


async def test_a_link_that_had_waited_and_is_refused_stays_a_failure_until_it_is_written(world):
    """The record waited for arrives, but the target refuses the link: the failure stays, and reprocessing writes the link once it can."""
    world.dynamics.create_as_user(guid(2), name="Child", parentaccountid=guid(1))
    await world.cycle(2)
    record = world.twin(Side.DYNAMICS, guid(2))
    world.creatio.refuse = lambda write: (
        Rejected("creatio.refused", record_id=write.id, field="ParentId") if write.values.get("ParentId") else None
    )
    world.dynamics.create_as_user(guid(1), name="Parent")
    await world.cycle(3)
    assert world.failure_codes() == {("ParentId=parentaccountid", "creatio.refused")}

    world.dynamics.edit_as_user(guid(2), zip="5")
    await world.cycle(2)
    assert world.failure_codes() == {("ParentId=parentaccountid", "creatio.refused")}
    assert world.creatio.value(record, "ParentId") is None

    world.creatio.refuse = lambda _write: None
    await world.operate.reprocess(FLOW)
    await world.drain()
    assert world.creatio.value(record, "ParentId") == world.twin(Side.DYNAMICS, guid(1))
    assert world.failure_codes() == set()


async def test_a_column_that_is_there_again_during_a_walk_is_looked_at_after_it(world):
    """An align run began without the column: when it ends the flow is not called aligned, and the next run brings the edit."""
    record, twin = await world.pair(Phone="1")
    column = {"Phone": world.creatio.columns.pop("Phone")}
    world.dynamics.edit_as_user(twin, telephone1="2")
    await world.cycle(2)
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    await world.drain()
    world.creatio.columns |= column
    world.dynamics.edit_as_user(twin, zip="5")
    await world.cycle(1)
    await world.watcher.run()
    assert world.ledger.flows[FLOW].walking is None

    world.dynamics.edit_as_user(twin, zip="6")
    await world.cycle(1)
    assert (await world.operate.status())["flows"][FLOW]["needs_alignment"]
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    await world.drain()
    assert world.creatio.value(record, "Phone") == "2"


async def test_an_echo_among_accepted_changes_keeps_the_failure_of_its_record(world):
    """A record with a failure is among the changes that a person accepts, but did not change since: its failure stays listed."""
    record, _ = await world.pair()
    world.dynamics.refuse = lambda write: Rejected("dataverse.refused", record_id=write.id, field="zip") if "zip" in write.values else None
    world.creatio.edit_as_user(record, Zip="5")
    await world.cycle(2)
    assert world.failure_codes() == {("Zip=zip", "dataverse.refused")}

    echo = BatchItem(record, world.creatio.records[record].stamp)
    accepted = Batch("accepted", FLOW, Side.CREATIO, "run", RunKind.REPLAY, [echo], world.clock())
    await send_batches(world.services, [accepted])
    await world.drain()

    assert world.failure_codes() == {("Zip=zip", "dataverse.refused")}


async def test_a_rebase_ends_though_it_wakes_a_record_while_the_flow_asks(world):
    """The rebase creates a record that another one waits for: what is woken rests as the flow does, and the run ends all the same."""
    with patch.object(scan, "_FEW", 2):
        pairs = [await world.pair(Name=f"N{number}") for number in range(4)]
        parent, child = pairs[0], pairs[1]
        waits = Waiting(FLOW, Side.DYNAMICS, parent[1], FLOW, Side.DYNAMICS, child[1], "ParentId=parentaccountid", world.clock())
        await world.ledger.save_waiting([waits])
        del world.creatio.records[parent[0]]
        for record, _ in pairs[1:]:
            world.creatio.edit_as_user(record, Zip="9")
        await world.cycle(1)
        assert world.ledger.flows[FLOW].asking is not None

        await world.walk.start(FLOW, RunKind.REBASE, Side.DYNAMICS, dry=False)
        await world.drain()
        world.clock.tick(1200)
        await world.watcher.run()
        await world.cycle(2)

    assert world.ledger.flows[FLOW].walking is None
    assert world.ledger.flows[FLOW].asking is None


async def test_a_rebase_leaves_no_new_record_behind(world):
    """Among the changes that made a flow ask is a new record: a rebase drops what was held, and the new record arrives all the same."""
    ids = [guid(n) for n in range(1, 6)]
    with patch.object(scan, "_FEW", 2):
        for record_id in ids:
            world.creatio.create_as_user(record_id, Id=record_id, Name=f"N{record_id[:8]}")
        await world.cycle(2)
        for record_id in ids:
            world.dynamics.edit_as_user(world.twin(Side.CREATIO, record_id), zip="9")
        world.dynamics.create_as_user(guid(77), name="New")
        await world.cycle(1)
        assert world.ledger.flows[FLOW].asking is not None

        await world.walk.start(FLOW, RunKind.REBASE, Side.DYNAMICS, dry=False)
        await world.drain()
        await world.watcher.run()
        await world.cycle(3)

    assert world.ledger.flows[FLOW].asking is None
    assert world.creatio.value(world.twin(Side.DYNAMICS, guid(77)), "Name") == "New"


async def test_a_link_that_had_waited_is_written_though_its_first_write_got_lost(world):
    """The record waited for arrives, and the request that writes the link is lost: the next attempt writes it."""
    world.dynamics.create_as_user(guid(2), name="Child", parentaccountid=guid(1))
    await world.cycle(2)
    record = world.twin(Side.DYNAMICS, guid(2))
    lost = []

    def lose() -> bool:
        if world.ledger.waiting or len(world.ledger.bound) < 2 or lost:
            return False
        lost.append(True)
        return True

    world.creatio.lose_request = lose
    world.dynamics.create_as_user(guid(1), name="Parent")
    await world.cycle(3)

    assert lost
    assert world.creatio.value(record, "ParentId") == world.twin(Side.DYNAMICS, guid(1))


async def test_an_edit_between_a_create_and_its_read_back_is_no_echo(world):
    """Somebody fills a column of a new record that the create left empty, before we read the record back: the edit reaches the source."""

    def fill(record_id: str) -> None:
        world.dynamics.between = lambda _record_id: None
        world.dynamics.edit_as_user(record_id, telephone1="5")

    world.dynamics.between = fill
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="New")
    await world.cycle(3)

    assert world.creatio.value(guid(1), "Phone") == "5"
