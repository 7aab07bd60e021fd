"""What an attempt leaves undone is done by the next one: it is never taken for an echo of ours (design 4, law 5)."""

from shared.core.errors import Denied, Transient
from shared.core.records import Side
from tests.engine.world import FLOW, raised


async def test_an_unanswered_write_is_sent_by_the_next_attempt(world):
    """A write that failed after its record was read is sent again, though the record did not change since."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="7")
    await world.poll()
    answers = iter([Transient("dataverse.not_json")])
    world.dynamics.refuse = lambda _write: next(answers, None)

    await world.drain()

    assert world.dynamics.value(twin, "zip") == "7"


async def test_the_id_that_follows_a_create_is_written_by_the_next_attempt(world):
    """A record was created, the write of its id to the source failed: the next attempt writes it."""
    world.dynamics.create_as_user("00000000-0000-4000-8000-00000000d001", name="Acme")
    answers = iter([Transient("dataverse.not_json")])
    world.dynamics.refuse = lambda _write: next(answers, None)

    await world.cycle()

    twin = world.twin(Side.DYNAMICS, "00000000-0000-4000-8000-00000000d001")
    assert world.dynamics.value("00000000-0000-4000-8000-00000000d001", "creatioid") == twin


async def test_a_write_that_stopped_the_flow_is_sent_after_the_start(world):
    """An edit whose write was denied, so that the flow stopped, arrives once a person has started the flow again."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="8")
    await world.poll()
    world.dynamics.refuse = raised(Denied("dataverse.denied", system="dataverse"))
    await world.drain()
    assert not world.ledger.flows[FLOW].started
    world.dynamics.refuse = lambda _write: None

    await world.operate.start(FLOW)
    await world.watcher.run()
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "8"
