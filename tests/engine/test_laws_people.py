"""Laws 5, 13 and 14 where people come in: fights, decisions, what only a person may do, and what nobody did."""

from dataclasses import replace

import pytest

from shared.core.errors import ConfigError
from shared.core.records import Side, Stamp
from tests.engine.fakes import Record
from tests.engine.world import FLOW, guid


async def test_law_14_a_field_that_is_fought_over_stops_as_a_conflict(world):
    """Something puts a one-way field back each time: after five restores in an hour Tandem stops, and a person is told."""
    record, twin = await world.pair(Limit=None)
    world.dynamics.edit_as_user(twin, creditlimit=1)
    await world.cycle(1)
    written = []
    world.on_step = lambda name: written.append(name) if name == "creatio.write_one" else None
    for _ in range(9):
        world.creatio.edit_as_user(record, Limit=99)
        await world.cycle(1)

    assert len(written) == 5
    assert [(c.field, c.reason) for c in world.ledger.disputed.values()] == [("Limit=creditlimit", "merge.fights")]

    world.clock.tick(3700)
    world.creatio.edit_as_user(record, Limit=98)
    await world.cycle(1)
    assert world.creatio.value(record, "Limit") == 1
    assert world.ledger.disputed == {}


async def test_law_14_people_may_edit_a_field_as_often_as_they_like(world):
    """Ten edits of one field within an hour, by people, all arrive."""
    record, twin = await world.pair()
    for number in range(10):
        world.creatio.edit_as_user(record, Zip=str(number))
        await world.cycle(1)
        assert world.dynamics.value(twin, "zip") == str(number)
    assert world.ledger.disputed == {}


async def test_law_14_a_person_ends_a_fight(world):
    """A decision writes the field once more, whatever was counted, and closes the conflict."""
    record, twin = await world.pair()
    world.dynamics.edit_as_user(twin, creditlimit=1)
    await world.cycle(1)
    for _ in range(7):
        world.creatio.edit_as_user(record, Limit=99)
        await world.cycle(1)
    assert world.creatio.value(record, "Limit") == 99

    await world.decide.conflict(FLOW, record, "Limit=creditlimit", "dynamics")
    await world.drain()

    assert world.creatio.value(record, "Limit") == 1
    assert world.ledger.disputed == {}


async def test_law_14_a_person_ends_a_fight_over_a_value_that_we_wrote_last(world):
    """The value that counts was written by Tandem itself, which is counted: a decision writes it all the same."""
    record, twin = await world.pair(Zip="1")
    bound = world.binding(Side.CREATIO, record)
    often = bound.fields["Zip=zip"]._replace(writes=5, writes_since=world.clock())
    await world.ledger.save_bindings([replace(bound, fields={**bound.fields, "Zip=zip": often})])
    world.creatio._store(record, {**world.creatio.records[record].values, "Zip": "2"}, by_us=True)
    await world.cycle(1)
    assert [conflict.reason for conflict in world.ledger.disputed.values()] == ["merge.fights"]

    await world.decide.conflict(FLOW, record, "Zip=zip", "creatio")
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "2"
    assert world.ledger.disputed == {}


@pytest.mark.parametrize("choice", list(Side))
async def test_a_person_decides_a_field_that_both_sides_edited(world, choice):
    """A conflict of a row that asks is settled by naming the side whose value counts; other fields are not touched by it."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Notes="ours")
    world.dynamics.edit_as_user(twin, description="theirs")
    await world.cycle(1)
    assert [c.reason for c in world.ledger.disputed.values()] == ["merge.both_changed"]

    await world.decide.conflict(FLOW, twin, "Notes=description", choice.value)
    await world.drain()

    expected = "ours" if choice is Side.CREATIO else "theirs"
    assert (world.creatio.value(record, "Notes"), world.dynamics.value(twin, "description")) == (expected, expected)
    assert world.ledger.disputed == {}


async def test_a_decision_that_makes_no_sense_is_refused_in_words(world):
    """Unknown records, fields and choices are told with what is allowed; nothing is enqueued."""
    record, _ = await world.pair()
    for arguments in ((guid(404), "", "reopen"), (record, "Nope=nope", "creatio"), (record, "Zip=zip", "delete"), (record, "", "creatio")):
        with pytest.raises(ConfigError, match="allowed"):
            await world.decide.conflict(FLOW, *arguments)
    with pytest.raises(ConfigError, match="no record of this binding is gone"):
        await world.decide.conflict(FLOW, record, "", "delete")
    assert world.queues.messages == []


async def test_law_5_a_stale_read_is_never_merged_until_a_person_says_so(world):
    """A row that stays older than what was seen becomes a failure; reprocessing it takes the row for what it is."""
    record, twin = await world.pair(Zip="1")
    world.creatio.edit_as_user(record, Zip="2")
    await world.cycle(1)
    now = world.creatio.records[record]
    world.creatio.stale_for[record] = Record(
        {**now.values, "Zip": "1"}, Stamp(now.stamp.time.replace(year=2025)), by_us=False, sequence=now.sequence
    )
    world.dynamics.edit_as_user(twin, name="Renamed")
    await world.cycle(1)
    assert world.dynamics.value(twin, "zip") == "2"
    assert world.failure_codes() == {("", "sync.stale_read")}
    world.creatio.records[record] = world.creatio.stale_for.pop(record)

    await world.operate.reprocess(FLOW)
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "1"
    assert world.failure_codes() == set()


@pytest.mark.parametrize("side", list(Side))
async def test_law_13_a_column_that_was_away_and_came_back_empty_is_filled_again(world, side):
    """A column is removed and made again: nobody emptied it, so the other side's value is written into it; a later emptying counts."""
    record, twin = await world.pair(Zip="8")
    system, row_id, name = (world.creatio, record, "Zip") if side is Side.CREATIO else (world.dynamics, twin, "zip")
    column = system.columns.pop(name)
    other = world.system(side.other)
    other.edit_as_user(record if side is Side.DYNAMICS else twin, **({"Notes": "n"} if side is Side.DYNAMICS else {"description": "n"}))
    await world.cycle(2)
    system.columns[name] = column
    system.records[row_id].values[name] = None
    world.start()
    system.edit_as_user(row_id, **({"Phone": "5"} if side is Side.CREATIO else {"telephone1": "5"}))
    await world.cycle(3)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("8", "8")
    assert world.failure_codes() == set()
    system.edit_as_user(row_id, **{name: None})
    await world.cycle(2)
    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == (None, None)
