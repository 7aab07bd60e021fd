"""What a feed says about the rows behind lookups, and a poll's way with it (law 11, design 10)."""

from dataclasses import replace

from shared.core.records import Change, Side
from tests.engine.world import FLOW


def looking(world, *records, keep=True):
    """Let the last page of Dynamics' feed tell that it looked behind lookups, and what it found there."""
    plain = world.dynamics.changes

    async def changes(*given, **named):
        async for page in plain(*given, **named):
            found = [*page.changes, *(Change(one, None) for one in records)]
            yield replace(page, changes=found, position=f"{page.position}0", worth_keeping=keep)

    world.dynamics.changes = changes


async def test_law_11_when_was_looked_is_kept_though_nothing_changed(world):
    """The position after a look is saved: one that is forgotten would look again with every poll."""
    await world.pair(Code="A1")
    await world.cycle(2)
    before = (await world.ledger.poll_state()).watermarks[FLOW, Side.DYNAMICS]
    looking(world, keep=False)
    await world.cycle()
    assert (await world.ledger.poll_state()).watermarks[FLOW, Side.DYNAMICS] == before
    looking(world)
    await world.cycle()
    assert (await world.ledger.poll_state()).watermarks[FLOW, Side.DYNAMICS].position != before.position


async def test_law_5_a_record_that_is_told_without_a_stamp_is_read(world):
    """Its own stamp did not move, so that an echo check by stamps would drop what changed behind its lookup."""
    record, twin = await world.pair(Code="A1", Phone="1")
    await world.cycle(2)
    stored = world.dynamics.records[twin]
    stored.values["telephone1"] = "2"  # its own stamp stays, as with what stands behind a lookup
    await world.cycle()
    assert world.creatio.value(record, "Phone") == "1"
    looking(world, twin)
    await world.cycle(2)
    assert world.creatio.value(record, "Phone") == "2"


async def test_law_13_a_compared_column_that_is_not_there_leaves_its_row_out(world):
    """Two columns of which the system has one are not compared: the row is told of as one with a missing column, the others go on."""
    fields = world.mapping["fields"]
    world.mapping["fields"] = [{**row, "same": ["Code", "UsrNowhere"]} if row["creatio"] == "Phone" else row for row in fields]
    world.start()
    _, twin = await world.pair(Code="A1", Phone="5")
    assert (world.dynamics.value(twin, "name"), world.dynamics.value(twin, "telephone1")) == ("Acme", None)
    assert world.failure_codes() == {("Phone=telephone1", "creatio.unknown_column")}
