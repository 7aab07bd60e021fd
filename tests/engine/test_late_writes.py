"""Law 4 where an answer says nothing: a write that nobody answered may still be done, after the next one was planned."""

from shared.core.records import Side
from tests.engine.fakes import Crash
from tests.engine.world import World


async def in_doubt(world: World, **values: str) -> tuple[str, str]:
    """Return a pair whose Creatio edit was sent to Dynamics, not answered, and is done when `world.dynamics.land()` is called."""
    record, twin = await world.pair(Zip="0", Phone="0")
    world.creatio.edit_as_user(record, **values)
    await world.poll()
    world.dynamics.delays = lambda: True
    message = world.queues.messages.pop(0)
    await world.syncer.run(message[2])
    world.dynamics.delays = lambda: False
    return record, twin


async def test_an_edit_over_a_write_that_was_done_late_is_an_edit(world):
    """The write is done just before its second try, which meets another version; a user corrects what it brought: the correction stays."""
    record, twin = await in_doubt(world, Zip="1")

    def land(_record_id: str) -> None:
        world.dynamics.after_plan = lambda _again: None
        world.dynamics.land()

    world.dynamics.after_plan = land
    reads = []

    def step(name: str) -> None:
        if name == "dataverse.read" and world.dynamics.value(twin, "zip") == "1" and not reads:
            reads.append(name)
            world.dynamics.edit_as_user(twin, zip="2")

    world.on_step = step
    await world.drain()
    await world.cycle(2)

    assert reads
    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("2", "2")


async def test_a_write_that_is_done_late_is_not_taken_for_an_edit(world):
    """The field belongs to Dynamics; Creatio's edit is changed again before the late write is done: the last word is Creatio's user's."""
    record, twin = await in_doubt(world, Phone="1")
    world.creatio.edit_as_user(record, Phone="2")

    def land(_record_id: str) -> None:
        world.dynamics.after_plan = lambda _again: None
        world.dynamics.land()

    world.dynamics.after_plan = land
    await world.drain()
    await world.cycle(2)

    assert (world.creatio.value(record, "Phone"), world.dynamics.value(twin, "telephone1")) == ("2", "2")


async def test_a_write_that_is_done_late_is_not_taken_for_a_normalisation_of_the_next(world):
    """The worker dies after it noted the second write and before it sent it; then the first is done: the second value still arrives."""
    record, twin = await in_doubt(world, Zip="1")
    world.creatio.edit_as_user(record, Zip="2")

    def die(name: str) -> None:
        if name == "dataverse.write":
            world.on_step = lambda _name: None
            world.dynamics.land()
            raise Crash

    world.on_step = die
    await world.drain()
    await world.cycle(3)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("2", "2")
    assert world.binding(Side.CREATIO, record).fields["Zip=zip"].sent is None
