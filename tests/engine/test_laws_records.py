"""Design section 4, laws 6 to 13: creates, matches, concurrency, references, watermarks, refusals; the real engine over fake ports."""

import pytest

from shared.core.binding import BindingState
from shared.core.errors import Rejected
from shared.core.records import Side
from shared.core.work import Batch, BatchItem, RunKind
from shared.engine.create import target_id
from shared.engine.poll import send_batches
from tests.engine.fakes import Crash
from tests.engine.world import FLOW, guid


async def test_law_6_a_crash_after_the_create_makes_no_second_record(world):
    """The worker dies between the create and its recording; whoever takes over finds the record by its id and binds it."""
    died = iter([True])

    def die(name: str) -> None:
        if name == "ledger.save_bindings" and len(world.dynamics.records) == 1 and next(died, False):
            raise Crash

    world.on_step = die
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")

    await world.cycle(3)

    assert len(world.dynamics.records) == 1
    assert world.binding(Side.CREATIO, guid(1)).state is BindingState.BOUND


async def test_law_6_a_create_that_answered_with_an_error_but_happened_is_found(world):
    """An error after the insert is no reason to create again or to give up: the row is looked for by its id."""

    def insert_then_fail(write):
        world.dynamics.refuse = lambda _write: None
        world.dynamics._create_one(write)
        return Rejected("dataverse.refused", "a plug-in failed after the insert", record_id=write.id)

    world.dynamics.refuse = insert_then_fail
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme")

    await world.cycle(2)

    assert len(world.dynamics.records) == 1
    assert world.binding(Side.CREATIO, guid(1)).state is BindingState.BOUND
    assert world.failure_codes() == set()


async def test_law_6_a_refused_create_waits_for_an_edit_and_then_succeeds(world):
    """A refused record is not tried again as it is; an edit of its source brings it back and clears the failure."""
    world.dynamics.refuse = lambda write: Rejected("dataverse.refused", record_id=write.id) if write.values.get("zip") == "bad" else None
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Zip="bad")
    await world.cycle(3)
    assert world.failure_codes() == {("", "dataverse.refused")}
    assert world.binding(Side.CREATIO, guid(1)).state is BindingState.REFUSED
    calls: list[str] = []
    world.on_step = calls.append
    again = Batch("again", FLOW, Side.CREATIO, "run", RunKind.SCHEDULED, [BatchItem(guid(1))], world.clock())
    await send_batches(world.services, [again])
    await world.drain()
    assert "dataverse.write" not in calls

    world.creatio.edit_as_user(guid(1), Zip="good")
    await world.cycle(2)

    assert world.binding(Side.CREATIO, guid(1)).state is BindingState.BOUND
    assert world.failure_codes() == set()


async def test_law_6_another_worker_leaves_an_open_create_alone_until_its_deadline(world):
    """A record that another batch is creating is not created by this one; after the deadline it is taken over."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme")
    died = iter([True])

    def die(name: str) -> None:
        if name == "dataverse.write" and next(died, False):
            raise Crash

    world.on_step = die
    await world.poll()
    due, queue, message = world.queues.messages.pop(0)
    await world._deliver(queue, message)
    world.queues.messages.clear()
    world.creatio.edit_as_user(guid(1), Zip="1")
    await world.poll()
    _, _, second = world.queues.messages.pop(0)

    await world.syncer.run(second)
    assert len(world.dynamics.records) == 0
    world.clock.tick(11 * 60)
    await world.drain()

    assert len(world.dynamics.records) == 1
    assert due


async def test_law_7_duplicates_in_one_batch_match_each_other(world):
    """Two Creatio accounts with one code in one batch make one Dynamics account; the second asks a person."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Acme two", Code="A1")

    await world.cycle(3)

    assert len(world.dynamics.records) == 1
    assert [conflict.reason for conflict in world.ledger.disputed.values()] == ["match.ambiguous"]


async def test_law_7_an_ambiguous_match_asks_and_creates_nothing(world):
    """Two records on the other side match: nothing is bound or created, the candidates are named."""
    world.dynamics.create_as_user(guid(8), name="Acme", accountnumber="A1")
    world.dynamics.create_as_user(guid(9), name="Acme b", accountnumber="A1")
    world.mapping["create"] = "to_dynamics"
    world.start()
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")

    await world.cycle(2)

    assert len(world.dynamics.records) == 2
    conflict = next(iter(world.ledger.disputed.values()))
    assert set(conflict.candidates) == {guid(8), guid(9)}


async def test_law_7_a_record_that_a_person_was_asked_about_is_not_bound_behind_their_back(world):
    """Creatio's account matches two of Dynamics and asks; neither of the two binds it from its own side meanwhile."""
    world.dynamics.create_as_user(guid(8), name="Acme", accountnumber="A1")
    world.dynamics.create_as_user(guid(9), name="Acme b", accountnumber="A1")
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")

    await world.cycle(3)

    assert {binding.state for binding in world.ledger.bound} == {BindingState.REFUSED}
    assert (len(world.creatio.records), len(world.dynamics.records)) == (1, 2)


async def test_law_7_reservations_are_given_back(world):
    """After a create, a match, a refusal and a conflict no reservation is left."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Twin", Code="T1")
    world.dynamics.create_as_user(guid(3), name="Twin", accountnumber="T1")

    await world.cycle(3)

    assert world.ledger.reservations == {}


async def test_law_8_a_mismatched_etag_plans_again_and_loses_no_edit(world):
    """A user edits the Dynamics record between our read and our write: the write is refused and planned anew."""
    record, twin = await world.pair(Zip="1", Phone="1")
    edits = iter(["7"])

    def edit(_record_id: str) -> None:
        value = next(edits, None)
        if value:
            world.dynamics.edit_as_user(twin, telephone1=value)

    world.dynamics.after_plan = edit
    world.creatio.edit_as_user(record, Zip="2")

    await world.cycle()

    assert (world.dynamics.value(twin, "zip"), world.creatio.value(record, "Phone")) == ("2", "7")


@pytest.mark.parametrize(("field", "column", "expected"), [("zip", "Zip", "user"), ("telephone1", "Phone", "dynamics")])
async def test_law_8_a_creatio_edit_met_just_before_our_write_is_judged_by_the_owner(world, field, column, expected):
    """Creatio has no ETags: an edit that our batch covered counts as the user's; its owner brings it back on both sides."""
    record, twin = await world.pair(Zip="1", Phone="1")
    edits = iter(["user"])

    def edit(_record_id: str) -> None:
        value = next(edits, None)
        if value:
            world.creatio.edit_as_user(record, **{column: value})

    world.creatio.after_plan = edit
    world.dynamics.edit_as_user(twin, **{field: "dynamics"})

    await world.cycle(2)

    assert (world.creatio.value(record, column), world.dynamics.value(twin, field)) == (expected, expected)


async def test_law_8_a_creatio_edit_of_another_field_inside_our_batch_survives(world):
    """A user edits another field between the plan and our write: it is found in the post-image and travels."""
    record, twin = await world.pair(Zip="1", Phone="1")
    edits = iter(["5"])

    def edit(_record_id: str) -> None:
        value = next(edits, None)
        if value:
            world.creatio.edit_as_user(record, Phone=value)

    world.creatio.after_plan = edit
    world.dynamics.edit_as_user(twin, zip="2")

    await world.cycle(2)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "telephone1")) == ("2", "5")


async def test_law_8_an_edit_between_our_write_and_the_closing_read_is_an_edit(world):
    """The post-image shows another value, written last by a user: it travels to the other side."""
    record, twin = await world.pair(Zip="1")
    edits = iter(["later"])

    def edit(_record_id: str) -> None:
        value = next(edits, None)
        if value:
            world.creatio.edit_as_user(record, Zip=value)

    world.creatio.between = edit
    world.dynamics.edit_as_user(twin, zip="2")

    await world.cycle(2)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("later", "later")


async def test_law_9_a_reference_to_an_unbound_record_is_written_when_that_one_is_bound(world):
    """A child that arrives before its parent is created without it; the parent's binding wakes it."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Child", ParentId=guid(2))
    await world.cycle(2)
    child = world.twin(Side.CREATIO, guid(1))
    assert world.dynamics.value(child, "parentaccountid") is None

    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Parent")
    await world.cycle(2)

    assert world.dynamics.value(child, "parentaccountid") == world.twin(Side.CREATIO, guid(2))
    assert world.ledger.waiting == {}


async def test_law_10_a_tombstone_ends_the_binding_and_the_survivor_is_left_alone(world):
    """A record deleted in Dynamics is not deleted or created again in Creatio; edits of the survivor are out of scope."""
    record, twin = await world.pair()
    world.dynamics.delete_as_user(twin)
    await world.cycle()
    world.creatio.edit_as_user(record, Zip="9")

    await world.cycle(2)

    assert world.binding(Side.CREATIO, record).state is BindingState.ENDED
    assert twin not in world.dynamics.records
    assert world.counts()["out_of_scope"] == 1


async def test_law_11_the_watermark_is_saved_after_its_changes_are_enqueued(world):
    """A crash between enqueuing and saving the watermark finds the changes again: duplicates, never losses."""

    def die(name: str) -> None:
        if name == "ledger.save_watermark":
            raise Crash

    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme")
    world.on_step = die
    with pytest.raises(Crash):
        await world.poll()
    assert world.queues.messages != []
    world.queues.messages.clear()
    world.on_step = lambda _name: None
    world.start()

    await world.cycle(2)

    assert len(world.dynamics.records) == 1


async def test_law_13_one_bad_record_does_not_stop_its_batch(world):
    """One record of three can't be created; the others are, and the bad one is a failure with its code."""
    for number, name in enumerate(["One", None, "Three"], 1):
        world.creatio.create_as_user(guid(number), Id=guid(number), Name=name)

    await world.cycle(2)

    assert len(world.dynamics.records) == 2
    assert world.failure_codes() == {("Name=name", "mapping.required")}


@pytest.mark.parametrize("creating", [True, False])
async def test_law_13_one_refused_optional_field_does_not_stop_its_record(world, creating):
    """The server names the field it refuses: the rest is written, the field is a failure of its own and not sent again."""

    def refuse(write):
        bad = write.values.get("zip") == "bad"
        return Rejected("dataverse.out_of_range", record_id=write.id, field="zip") if bad else None

    if creating:
        world.dynamics.refuse = refuse
        world.creatio.create_as_user(guid(50), Id=guid(50), Name="Acme", Zip="bad", Phone="2")
        await world.cycle(2)
        record, twin = guid(50), world.twin(Side.CREATIO, guid(50))
    else:
        record, twin = await world.pair(Zip="1")
        world.dynamics.refuse = refuse
        world.creatio.edit_as_user(record, Zip="bad", Phone="2")
        await world.cycle(2)
    assert world.dynamics.value(twin, "telephone1") == "2"
    assert world.failure_codes() == {("Zip=zip", "dataverse.out_of_range")}
    writes = world.dynamics.writes
    await world.cycle(2)
    assert world.dynamics.writes == writes

    world.creatio.edit_as_user(record, Zip="good")
    await world.cycle(2)

    assert world.dynamics.value(twin, "zip") == "good"
    assert world.failure_codes() == set()


async def test_law_8_a_covered_edit_is_not_taken_for_a_normalisation_after_a_crash(world):
    """The worker died after its intent, a user edits Creatio before the repeated write covers it: the owner's side wins on both."""
    record, twin = await world.pair(Zip="1")
    died = iter([True])

    def die(name: str) -> None:
        if name == "creatio.write" and next(died, False):
            raise Crash

    edits = iter(["user"])

    def edit(_record_id: str) -> None:
        value = next(edits, None)
        if value:
            world.creatio.edit_as_user(record, Zip=value)

    world.on_step, world.creatio.after_plan = die, edit
    world.dynamics.edit_as_user(twin, zip="dynamics")

    await world.cycle(2)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("user", "user")


def test_law_6_every_worker_arrives_at_the_same_id():
    """The id of a record to create depends on flow, source id and generation alone, and on each of them."""
    assert target_id("sales.account", guid(1), 1) == "b52ec175-c7d4-5770-b42c-97bc2bf04d4f"
    ids = {target_id(*key) for key in [("a.b", guid(1), 1), ("a.c", guid(1), 1), ("a.b", guid(2), 1), ("a.b", guid(1), 2)]}
    assert len(ids) == 4
