"""Histories that the state machine found, made small. Each was a fault of the engine once."""

from shared.core.records import Side
from shared.core.work import RunKind
from tests.engine.world import FLOW


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
