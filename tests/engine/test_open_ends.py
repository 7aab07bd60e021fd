"""What is left open stays visible until it is mended, and what is mended goes away: refusals, reprocessing, second looks, crashes."""

import pytest

from shared.core.binding import BindingState
from shared.core.errors import Rejected, Transient
from shared.core.records import Column, ColumnType, Side
from shared.core.work import FlowSettings
from tests.engine.fakes import Crash
from tests.engine.world import FLOW, guid

REFUSED = {("Zip=zip", "dataverse.out_of_range")}


def refuse_bad_zip(write):
    """Refuse the postal code `bad`, by its name."""
    return Rejected("dataverse.out_of_range", record_id=write.id, field="zip") if write.values.get("zip") == "bad" else None


async def test_reprocessing_sends_a_refused_field_again(world):
    """The rule of the server was mended: a person reprocesses, and the value that was held arrives."""
    record, twin = await world.pair(Zip="1")
    world.dynamics.refuse = refuse_bad_zip
    world.creatio.edit_as_user(record, Zip="bad")
    await world.cycle(2)
    world.dynamics.refuse = lambda _write: None

    await world.operate.reprocess(FLOW)
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "bad"
    assert world.failure_codes() == set()


async def test_reprocessing_keeps_what_still_fails(world):
    """A value that is refused again after reprocessing is still in the list of failures."""
    record, _ = await world.pair(Zip="1")
    world.dynamics.refuse = refuse_bad_zip
    world.creatio.edit_as_user(record, Zip="bad")
    await world.cycle(2)

    await world.operate.reprocess(FLOW)
    await world.drain()

    assert world.failure_codes() == REFUSED


async def test_a_refusal_that_names_no_field_outlasts_an_edit_of_another_field(world):
    """The held field still differs, so its failure stays while another field of the record is synced."""
    record, twin = await world.pair(Zip="1")
    world.dynamics.refuse = lambda w: Rejected("dataverse.refused", record_id=w.id) if w.values.get("zip") == "bad" else None
    world.creatio.edit_as_user(record, Zip="bad")
    await world.cycle(2)

    world.creatio.edit_as_user(record, Phone="5")
    await world.cycle(2)

    assert world.dynamics.value(twin, "telephone1") == "5"
    assert world.failure_codes() == {("", "dataverse.refused")}


async def test_a_value_refused_taken_back_and_set_again_is_a_failure_again(world):
    """Going back to the old value forgets the refusal: the same bad value later is sent, refused and told again."""
    record, _ = await world.pair(Zip="1")
    world.dynamics.refuse = refuse_bad_zip

    for value in ("bad", "1", "bad"):
        world.creatio.edit_as_user(record, Zip=value)
        await world.cycle(2)

    assert world.failure_codes() == REFUSED


async def test_a_failure_mended_in_an_attempt_with_a_second_look_is_cleared(world):
    """The record moved while it was written and was looked at twice: what the first look mended is cleared all the same."""
    record, twin = await world.pair(Zip="1")
    world.creatio.edit_as_user(record, Notes="x" * 41)
    await world.cycle(2)
    edits = iter([1])
    world.dynamics.between = lambda _id: next(edits, None) and world.dynamics.edit_as_user(twin, telephone1="7")

    world.creatio.edit_as_user(record, Notes="short", Zip="2")
    await world.cycle(2)

    assert world.failure_codes() == set()


async def test_a_refused_record_that_is_bound_from_the_other_side_loses_its_failure(world):
    """A record that could not be created finds its twin when a user makes one: nothing is open any more."""
    world.dynamics.refuse = lambda w: Rejected("dataverse.refused", record_id=w.id) if w.kind == "create" else None
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")
    await world.cycle(2)

    world.dynamics.create_as_user(guid(2), name="Acme", accountnumber="A1")
    await world.cycle(3)

    assert world.twin(Side.CREATIO, guid(1)) == guid(2)
    assert world.failure_codes() == set()


@pytest.mark.parametrize("how", ["lost", "raised"])
async def test_law_8_a_covered_edit_survives_a_failing_write_on_the_other_side(world, how):
    """Our Creatio write covered a user's edit while the Dynamics write of the same record failed: the edit is judged in this attempt."""
    record, twin = await world.pair(Zip="1", Phone="1")
    world.creatio.edit_as_user(record, Notes="n")
    world.dynamics.edit_as_user(twin, zip="dynamics")
    edits, fails = iter([1]), iter([1])
    world.creatio.after_plan = lambda _id: next(edits, None) and world.creatio.edit_as_user(record, Zip="user")
    if how == "lost":
        world.dynamics.lose_reply = lambda: bool(next(fails, 0))
    else:

        def fail(name: str) -> None:
            if name == "dataverse.write" and next(fails, 0):
                raise Transient("dataverse.unavailable", system="dataverse")

        world.on_step = fail

    await world.cycle(3)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("user", "user")


async def test_an_open_create_whose_source_is_gone_ends_and_frees_its_key(world):
    """The worker died at the create and the source was deleted: another record with the same key is created after the deadline."""
    died = iter([True])

    def die(name: str) -> None:
        if name == "dataverse.write" and next(died, False):
            raise Crash

    world.on_step = die
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")
    await world.poll()
    _, queue, message = world.queues.messages.pop()
    await world._deliver(queue, message)
    world.creatio.delete_as_user(guid(1))
    world.clock.tick(1200)
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Acme", Code="A1")

    await world.cycle(4)

    assert world.binding(Side.CREATIO, guid(2)).state is BindingState.BOUND
    assert len(world.dynamics.records) == 1


async def test_a_blank_name_does_not_take_its_batch_along(world):
    """A full name of spaces splits into nothing; the other records of its batch are created."""
    world.mapping["fields"].append({"creatio": "Full", "way": "=", "dynamics": ["first", "last"], "rule": "split_name"})
    world.creatio.columns["Full"] = Column("Full", ColumnType.TEXT)
    for name in ("first", "last"):
        world.dynamics.columns[name] = Column(name, ColumnType.TEXT)
    world.start()
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Good", Full="A B")
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Blank", Full="  ")

    await world.cycle(2)

    assert len(world.dynamics.records) == 2


async def test_a_match_column_that_was_removed_does_not_stop_the_flow(world):
    """A key with a column that Creatio has not any more is skipped; the record is matched by the others or created."""
    del world.creatio.columns["Code"]
    find = world.creatio.find

    async def strict_find(entity, keys, columns):
        if any(column not in world.creatio.columns for key in keys for column in key):
            raise Rejected("creatio.unknown_column", system="creatio")
        return await find(entity, keys, columns)

    world.creatio.find = strict_find
    world.dynamics.create_as_user(guid(1), name="Acme", accountnumber="A1")

    await world.cycle(2)

    assert len(world.creatio.records) == 1


async def test_starting_a_flow_clears_the_failure_that_stopped_it(world):
    """The reason for which a flow stopped goes away when a person starts it again."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    world.dynamics.denied = True
    await world.drain()
    world.dynamics.denied = False

    await world.operate.start(FLOW)
    await world.watcher.run()
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "5"
    assert world.failure_codes() == set()


async def test_a_direction_that_is_switched_off_is_not_written_from_the_other_feed(world):
    """Nothing goes to Dynamics while that direction is off, whatever brings the record up; what Dynamics changes still arrives."""
    record, twin = await world.pair(Zip="1", Phone="1")
    await world.ledger.save_flow(FlowSettings(FLOW, interval_ms=1000, to_dynamics=False))
    world.creatio.edit_as_user(record, Zip="2")
    await world.cycle()

    world.dynamics.edit_as_user(twin, telephone1="9")
    await world.cycle(2)

    assert (world.dynamics.value(twin, "zip"), world.creatio.value(record, "Phone")) == ("1", "9")


async def test_a_record_that_leaves_the_scope_of_its_flow_is_not_written_any_more(world):
    """The condition turned false: writing in that direction stops, the binding stays, the outcome says so."""
    world.mapping["when"] = [{"way": ">", "column": "Code", "any_of": ["A"]}]
    world.start()
    record, twin = await world.pair(Code="A", Zip="1")

    world.creatio.edit_as_user(record, Code="B", Zip="2")
    await world.cycle(2)

    assert world.dynamics.value(twin, "zip") == "1"
    assert world.counts()["out_of_scope"] == 1
    assert world.binding(Side.CREATIO, record).state is BindingState.BOUND


async def test_a_missing_column_is_told_once_and_cleared_when_it_is_there(world):
    """Batch after batch the same missing column makes one failure; it goes away when the column has come."""
    record, twin = await world.pair()
    column = world.dynamics.columns.pop("zip")
    for phone in ("1", "2"):
        world.creatio.edit_as_user(record, Phone=phone)
        await world.cycle()
    assert world.failure_codes() == {("Zip=zip", "dataverse.unknown_column")}

    world.dynamics.columns["zip"] = column
    world.start()
    world.creatio.edit_as_user(record, Zip="3")
    await world.cycle(2)

    assert world.dynamics.value(twin, "zip") == "3"
    assert world.failure_codes() == set()


async def test_two_records_that_were_each_refused_can_be_bound_to_each_other(world):
    """Both sides refused to create; an edit makes the two match: they are bound, and nothing is open any more."""

    def refuse(write):
        return Rejected("dataverse.refused", record_id=write.id) if write.kind == "create" else None

    world.dynamics.refuse = world.creatio.refuse = refuse
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")
    world.dynamics.create_as_user(guid(2), name="Acme", accountnumber="A2")
    await world.cycle(2)

    world.creatio.edit_as_user(guid(1), Code="A2")
    await world.cycle(3)

    assert world.twin(Side.CREATIO, guid(1)) == guid(2)
    assert world.failure_codes() == set()


async def test_a_fault_of_our_own_on_one_record_fails_that_record_only(world):
    """A rule that raises on one record's value is a failure of that record, told by its type alone; the others go on."""

    class Odd(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError("a value that must not be told")

    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Good", Code="A1")
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Odd", Code=Odd("A2"))

    await world.cycle(2)

    assert len(world.dynamics.records) == 1
    assert [(failure.code, failure.said) for failure in world.ledger.failed.values()] == [("sync.internal", "RuntimeError")]
