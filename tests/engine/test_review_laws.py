"""Laws 9 to 12 between the steps: what becomes of held deletes, of runs whose worker dies, of records that came while a flow asks."""

import pytest

from shared.core.binding import BindingState
from shared.core.errors import Rejected
from shared.core.records import Side
from shared.core.work import RunKind
from tests.engine.fakes import Crash
from tests.engine.test_laws_deletes import active_pair, pairs, policy_world
from tests.engine.world import FLOW, World


@pytest.fixture
def world() -> World:
    """Return a world whose flow deactivates what was deleted on the other side, and that compares Creatio at every poll."""
    return policy_world("deactivate")


async def held_world(world: World) -> list[tuple[str, str]]:
    """Return eight pairs whose Dynamics records were deleted at once, so that a person is asked."""
    made = await pairs(world, 8)
    for _, twin in made:
        world.dynamics.delete_as_user(twin)
    await world.cycle(2)
    assert len(world.ledger.held) == 8
    return made


async def test_a_held_delete_is_over_when_the_twin_is_deleted_too(world):
    """While eight deletes wait for a person, the Creatio users delete the records as well: nothing is left to decide."""
    made = await held_world(world)
    for record, _ in made:
        world.creatio.delete_as_user(record)
    await world.cycle(4)
    assert all(world.binding(Side.CREATIO, record).state is BindingState.ENDED for record, _ in made)
    assert world.ledger.held == {}


async def test_a_held_delete_is_over_when_a_person_reopens_the_record(world):
    """A person lets one of the held records be created again: its delete is not shown any more."""
    made = await held_world(world)
    await world.decide.reopen(FLOW, made[0][0])
    await world.drain()
    await world.cycle(2)
    assert world.binding(Side.CREATIO, made[0][0]).state is BindingState.BOUND
    assert len(world.ledger.held) == 7


@pytest.mark.parametrize("policy", ["unlink", "deactivate", "delete"])
@pytest.mark.parametrize("step", range(1, 40))
async def test_a_worker_that_dies_at_any_step_of_a_delete_loses_nothing(policy, step):
    """Whenever the worker dies, the delete is carried over in the end, without a conflict or a failure."""
    world = policy_world(policy)
    record, twin = await active_pair(world)
    left = [step]

    def die(name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            world.on_step = lambda _name: None
            raise Crash

    world.dynamics.delete_as_user(twin)
    world.clock.tick(60)
    world.on_step = die
    try:
        await world.poller.run()
    except Crash:
        world.start()
    await world.drain()
    world.on_step = lambda _name: None
    for _ in range(3):
        await world.cycle(2)
        world.clock.tick(3600)
        await world.watcher.run()
    assert (world.ledger.disputed, world.failure_codes()) == ({}, set())
    assert world.binding(Side.CREATIO, record).state is BindingState.ENDED
    if policy == "delete":
        assert record not in world.creatio.records
    else:
        assert world.creatio.value(record, "Active") is (policy != "deactivate")


async def test_a_walk_whose_start_was_cut_off_does_not_block_the_flow(world):
    """The worker dies between noting a walk and its first message: the walk goes on later, or another one can be started."""
    await active_pair(world)

    def die(name: str) -> None:
        if name == "queues.send":
            raise Crash

    world.on_step = die
    with pytest.raises(Crash):
        await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    world.on_step = lambda _name: None
    world.start()
    for _ in range(3):
        world.clock.tick(3600)
        await world.watcher.run()
        await world.drain()
        await world.cycle(1)
    await world.watcher.run()
    assert world.ledger.flows[FLOW].walking is None


async def test_a_delete_by_a_user_counts_although_tandem_tried_to_delete_the_record_before():
    """Tandem's delete was refused, a person put the record in step again; when a user deletes it later, that is a user's delete."""
    world = policy_world("delete")
    record, twin = await active_pair(world)
    world.creatio.refuse = lambda _write: Rejected("creatio.refused")
    world.dynamics.delete_as_user(twin)
    await world.cycle(2)
    world.creatio.refuse = lambda _write: None
    await world.decide.reopen(FLOW, record)
    await world.drain()
    await world.cycle(3)
    again = world.twin(Side.CREATIO, record)
    assert again in world.dynamics.records
    world.creatio.delete_as_user(record)
    await world.cycle(4)
    assert again not in world.dynamics.records
