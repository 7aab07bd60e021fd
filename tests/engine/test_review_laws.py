"""Laws 9 to 12 between the steps: what becomes of held deletes, of runs whose worker dies, of records that came while a flow asks."""

from collections.abc import Awaitable

import pytest

from shared.core.binding import BindingState
from shared.core.errors import Rejected
from shared.core.records import Side
from shared.core.work import RunKind
from tests.engine.fakes import Crash
from tests.engine.test_laws_deletes import active_pair, pairs, policy_world
from tests.engine.test_laws_whole import filled
from tests.engine.world import FLOW, World, guid


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


async def dying_at(world: World, step: int, call: Awaitable[object]) -> None:
    """Let a call and what follows be cut off at a step of its worker, then work on until nothing is left to do."""
    left = [step]

    def die(_name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            world.on_step = lambda _name: None
            raise Crash

    world.on_step = die
    try:
        await call
        await world.drain()
    except Crash:
        world.start()
    await world.drain()
    world.on_step = lambda _name: None
    for _ in range(3):
        await world.cycle(2)
        world.clock.tick(3600)
        await world.watcher.run()
        await world.drain()


@pytest.mark.parametrize("policy", ["unlink", "deactivate", "delete"])
@pytest.mark.parametrize("step", range(1, 40))
async def test_a_worker_that_dies_at_any_step_of_a_delete_loses_nothing(policy, step):
    """Whenever the worker dies, the delete is carried over in the end, without a conflict or a failure."""
    world = policy_world(policy)
    record, twin = await active_pair(world)
    world.dynamics.delete_as_user(twin)
    world.clock.tick(60)
    await dying_at(world, step, world.poller.run())
    assert (world.ledger.disputed, world.failure_codes()) == ({}, set())
    assert world.binding(Side.CREATIO, record).state is BindingState.ENDED
    if policy == "delete":
        assert record not in world.creatio.records
    else:
        assert world.creatio.value(record, "Active") is (policy != "deactivate")


@pytest.mark.parametrize("step", range(1, 60))
async def test_a_worker_that_dies_while_it_holds_deletes_lets_none_through(step):
    """Six deletes at once are all held, also when the worker dies half way: those left are not few enough by themselves."""
    world = policy_world("delete")
    made = await pairs(world, 6)
    for _, twin in made:
        world.dynamics.delete_as_user(twin)
    world.clock.tick(60)
    await dying_at(world, step, world.poller.run())
    assert (len(world.ledger.held), len(world.creatio.records)) == (6, 6)


async def test_what_follows_held_deletes_is_held_too(world):
    """An accident that comes in two reads is one decision: the second part is held although it is small."""
    made = await pairs(world, 9)
    for part in (made[:7], made[7:]):
        for _, twin in part:
            world.dynamics.delete_as_user(twin)
        await world.cycle(2)
    assert len(world.ledger.held) == 9
    assert all(world.creatio.value(record, "Active") for record, _ in made)


@pytest.mark.parametrize("step", range(1, 40))
async def test_a_worker_that_dies_while_a_record_is_reopened_leaves_no_conflict(world, step):
    """A record that reappeared is reopened; whenever the worker dies, it is in step in the end and the question is gone."""
    record, twin = await active_pair(world, Zip="old")
    world.dynamics.delete_as_user(twin)
    await world.cycle(2)
    world.dynamics.create_as_user(twin, name="Acme", zip="restored", active=True)
    await world.cycle(2)
    await dying_at(world, step, world.decide.reopen(FLOW, twin))
    if world.binding(Side.CREATIO, record).state is not BindingState.BOUND:  # it died before the wish was kept: asked again
        await world.decide.reopen(FLOW, twin)
        await world.drain()
        await world.cycle(2)
    assert (world.ledger.disputed, world.failure_codes()) == ({}, set())
    assert world.binding(Side.CREATIO, record).state is BindingState.BOUND
    assert world.creatio.value(record, "Zip") == world.dynamics.value(twin, "zip")


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


async def asking_world() -> tuple[World, list[tuple[str, str]]]:
    """Return a world whose flow asks about 120 changed records of 150; a new record came in the same read."""
    world = World()
    made = await filled(world, 150)
    for record, _ in made[:120]:
        world.creatio.edit_as_user(record, Zip="2")
    world.creatio.create_as_user(guid(7), Id=guid(7), Name="New", Zip="9")
    await world.cycle(2)
    assert world.ledger.flows[FLOW].asking is not None
    return world, made


async def test_a_new_record_that_came_with_a_mass_change_outlives_a_rebase():
    """A rebase answers the question; the record that was new in the same read is created afterwards."""
    world, _ = await asking_world()
    await world.walk.start(FLOW, RunKind.REBASE, Side.CREATIO, dry=False)
    await world.drain()
    await world.watcher.run()
    await world.drain()
    assert world.ledger.flows[FLOW].asking is None
    assert world.dynamics.value(world.twin(Side.CREATIO, guid(7)), "zip") == "9"


async def test_an_answer_that_was_cut_off_is_carried_out_or_asked_again():
    """The worker dies while it lets a mass change go: nothing of it is lost, and all of it arrives in the end."""
    world, made = await asking_world()

    def die(name: str) -> None:
        if name == "queues.send":
            raise Crash

    world.on_step = die
    with pytest.raises(Crash):
        await world.decide.accept(FLOW)
    world.on_step = lambda _name: None
    world.start()
    for _ in range(3):
        world.clock.tick(3600)
        await world.watcher.run()
        await world.drain()
        if world.ledger.flows[FLOW].asking is not None:
            await world.decide.accept(FLOW)
    assert [world.dynamics.value(twin, "zip") for _, twin in made] == ["2"] * 120 + ["1"] * 30


async def test_a_rebase_brings_back_what_was_deleted_and_held(world):
    """With Creatio right, the eight records come back to Dynamics, no delete is left to approve, and approving all harms none."""
    made = await held_world(world)
    await world.walk.start(FLOW, RunKind.REBASE, Side.CREATIO, dry=False)
    await world.drain()
    await world.watcher.run()
    await world.cycle(2)
    assert (world.ledger.held, len(world.dynamics.records)) == ({}, 8)
    await world.decide.approve_deletes(FLOW)
    await world.drain()
    assert all(world.creatio.value(record, "Active") for record, _ in made)


@pytest.mark.parametrize("policy", ["deactivate", "delete"])
async def test_an_approved_delete_that_meets_a_later_edit_is_a_conflict(policy):
    """Somebody edits a record whose delete is held, then all are approved: that one is asked about by itself, and then deleted."""
    world = policy_world(policy)
    made = await held_world(world)
    edited, twin = made[0]
    world.creatio.edit_as_user(edited, Zip="edited")
    await world.cycle(1)
    await world.decide.approve_deletes(FLOW)
    await world.drain()
    assert world.creatio.value(edited, "Active") is True
    assert [c.reason for c in world.ledger.disputed.values()] == ["delete.meets_edits"]
    assert world.ledger.held == {}
    assert all(world.binding(Side.CREATIO, record).state is BindingState.ENDED for record, _ in made[1:])
    await world.decide.conflict(FLOW, twin, "", "delete")
    await world.drain()
    assert edited not in world.creatio.records if policy == "delete" else not world.creatio.value(edited, "Active")
    assert world.ledger.disputed == {}


async def test_a_record_that_does_not_wait_any_more_is_not_reported():
    """A record named a parent that never came, then another one that is there: days later nobody hears that it waits."""
    world = World()
    parent, twin = await world.pair(Name="P")
    record, _ = await world.pair(Name="C", ParentId=guid(4242))
    world.creatio.edit_as_user(record, ParentId=parent)
    await world.cycle(2)
    assert world.dynamics.value(world.twin(Side.CREATIO, record), "parentaccountid") == twin
    world.clock.tick(4 * 86400)
    await world.watcher.run()
    assert world.failure_codes() == set()
    assert await world.ledger.all_waiting() == []


async def test_an_edit_made_while_a_delete_is_held_arrives_when_the_record_comes_back(world):
    """A held delete is undone by its users; what was edited on the other side meanwhile is carried over."""
    made = await pairs(world, 8)
    kept = {twin: dict(world.dynamics.records[twin].values) for _, twin in made}
    for _, twin in made:
        world.dynamics.delete_as_user(twin)
    await world.cycle(2)
    world.creatio.edit_as_user(made[0][0], Zip="edited")
    await world.cycle(1)
    for twin, values in kept.items():
        world.dynamics.create_as_user(twin, **values)
    await world.cycle(3)
    assert world.dynamics.value(made[0][1], "zip") == "edited"
    assert (world.ledger.disputed, world.ledger.held) == ({}, {})


async def test_a_kept_record_does_not_meet_a_new_one_of_its_key_unasked():
    """With `keep` the survivor stays; a new record with its number is neither bound to it nor doubled: a person is asked."""
    world = policy_world("keep")
    _, twin = await active_pair(world, Code="K1")
    world.dynamics.delete_as_user(twin)
    await world.cycle(2)
    world.dynamics.create_as_user(guid(77), name="Acme", accountnumber="K1", active=True)
    await world.cycle(3)
    assert len(world.creatio.records) == 1
    assert [c.reason for c in world.ledger.disputed.values()] == ["match.ambiguous"]


async def test_a_delete_whose_message_comes_again_does_nothing():
    """The messages of a delete are delivered once more after it was carried over: no conflict, no failure."""
    world = policy_world("delete")
    _, twin = await active_pair(world)
    world.dynamics.delete_as_user(twin)
    await world.poll()
    copies = list(world.queues.messages)
    await world.drain()
    written = world.creatio.writes
    world.queues.messages += copies
    await world.drain()
    await world.cycle(2)
    assert (world.creatio.writes, world.failure_codes(), world.ledger.disputed) == (written, set(), {})
