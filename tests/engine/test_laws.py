"""Design section 4, law by law, over the real engine with fake ports. The names of the tests say which law would be broken."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from shared.core.binding import BindingState
from shared.core.errors import Rejected, TandemError, Transient
from shared.core.records import Side
from shared.core.work import AccountThrottle, Message
from tests.engine.fakes import Crash
from tests.engine.world import FLOW, World, guid


@pytest.fixture
def world() -> World:
    """Return a world with nothing in it."""
    return World()


async def test_a_new_record_is_created_once_on_the_other_side_from_either_side(world):
    """A record of either side arrives on the other with its values, its id column, and one binding."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1", Phone="+49 1")
    world.dynamics.create_as_user(guid(2), name="Beta", accountnumber="B1")

    await world.cycle(3)

    twin = world.twin(Side.CREATIO, guid(1))
    assert world.dynamics.value(twin, "name") == "Acme"
    assert world.dynamics.value(twin, "creatioid") == guid(1)
    assert world.creatio.value(world.twin(Side.DYNAMICS, guid(2)), "Name") == "Beta"
    assert (len(world.creatio.records), len(world.dynamics.records)) == (2, 2)
    assert world.counts() == {"created": 2}


async def test_law_1_a_quiet_cycle_writes_nothing_anywhere(world):
    """After everything is in step, a poll makes no write to a system, a queue or the ledger."""
    await world.pair(Code="A1", Phone="1")
    await world.cycle(2)
    before = (world.creatio.writes, world.dynamics.writes, world.ledger.writes)

    await world.cycle(3)

    assert (world.creatio.writes, world.dynamics.writes, world.ledger.writes) == before


async def test_law_1_lossy_fields_do_not_play_ping_pong(world):
    """A name cut on the way to Dynamics never comes back cut, however often the record is edited there."""
    record, twin = await world.pair(Name="A very long name indeed")
    world.dynamics.edit_as_user(twin, telephone1="5")

    await world.cycle(3)

    assert world.dynamics.value(twin, "name") == "A very long"
    assert world.creatio.value(record, "Name") == "A very long name indeed"
    assert world.creatio.value(record, "Phone") == "5"


async def test_law_1_a_new_key_renews_fingerprints_without_a_write(world):
    """After a key rotation unchanged fields are verified with the old key, renewed, and nothing is written."""
    record, twin = await world.pair(Code="A1")
    world.keys = "k2:" + "B" * 43 + "=," + world.keys
    world.start()
    world.creatio.edit_as_user(record, Phone="7")

    await world.cycle(2)

    assert world.dynamics.value(twin, "telephone1") == "7"
    assert {state.key_id for state in world.binding(Side.CREATIO, record).fields.values()} == {"k2"}
    assert world.dynamics.writes == 2


async def test_law_1_an_unknown_key_stops_the_flow(world):
    """A ledger whose key is lost is not written over: the flow stops and says so."""
    record, _ = await world.pair()
    world.keys = "other:" + "C" * 43 + "="
    world.start()
    world.creatio.edit_as_user(record, Phone="7")

    await world.cycle()

    assert not world.ledger.flows[FLOW].started
    assert ("", "ledger.unknown_key") in world.failure_codes()


async def test_law_2_first_bind_fills_empty_fields_and_asks_the_owner_where_both_are_filled(world):
    """Two records that match are bound, not doubled: empty sides are filled, differing values follow the row's owner, `ask` asks."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1", Phone="1", Notes="ours")
    world.dynamics.create_as_user(guid(2), name="ACME Inc", accountnumber="A1", telephone1="2", description="theirs", zip="10")

    await world.cycle(3)

    assert world.twin(Side.CREATIO, guid(1)) == guid(2)
    assert world.dynamics.value(guid(2), "name") == "Acme"
    assert world.creatio.value(guid(1), "Phone") == "2"
    assert world.creatio.value(guid(1), "Zip") == "10"
    assert (world.creatio.value(guid(1), "Notes"), world.dynamics.value(guid(2), "description")) == ("ours", "theirs")
    assert [(c.field, c.reason) for c in world.ledger.disputed.values()] == [("Notes=description", "both_changed")]


async def test_law_2_an_empty_source_of_a_one_way_row_does_not_blank_a_filled_receiver(world):
    """On the first bind a credit limit that only Creatio has stays there."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1", Limit=Decimal(5))
    world.dynamics.create_as_user(guid(2), name="Acme", accountnumber="A1")

    await world.cycle(3)

    assert world.creatio.value(guid(1), "Limit") == Decimal(5)


async def test_law_3_edits_of_different_fields_on_both_sides_both_survive(world):
    """One poll finds a record changed on both sides in different fields; each edit reaches the other side."""
    record, twin = await world.pair(Code="A1", Phone="1", Zip="1")
    world.creatio.edit_as_user(record, Zip="2")
    world.dynamics.edit_as_user(twin, telephone1="9")

    await world.cycle()

    assert (world.creatio.value(record, "Phone"), world.dynamics.value(twin, "zip")) == ("9", "2")


@pytest.mark.parametrize(("column", "other", "winner"), [("Zip", "zip", "creatio"), ("Phone", "telephone1", "dynamics")])
async def test_law_3_the_owner_decides_when_both_sides_changed_one_field(world, column, other, winner):
    """The same field edited on both sides within one poll ends with the owner's value on both."""
    record, twin = await world.pair(Zip="1", Phone="1")
    world.creatio.edit_as_user(record, **{column: "creatio"})
    world.dynamics.edit_as_user(twin, **{other: "dynamics"})

    await world.cycle(2)

    assert (world.creatio.value(record, column), world.dynamics.value(twin, other)) == (winner, winner)


async def test_law_3_ask_writes_neither_and_closes_itself_when_the_sides_become_equal(world):
    """A conflict leaves both values alone, and goes away when a person makes them equal."""
    record, twin = await world.pair(Notes="a")
    world.creatio.edit_as_user(record, Notes="b")
    world.dynamics.edit_as_user(twin, description="c")
    await world.cycle(2)
    assert (world.creatio.value(record, "Notes"), world.dynamics.value(twin, "description")) == ("b", "c")
    assert len(world.ledger.disputed) == 1

    world.creatio.edit_as_user(record, Notes="c")
    await world.cycle(2)

    assert world.ledger.disputed == {}
    assert world.dynamics.value(twin, "description") == "c"


async def test_law_3_an_edit_on_the_receiving_side_of_a_one_way_row_is_put_back(world):
    """Dynamics decides on credit: what Creatio's user typed is restored, with that outcome."""
    record, twin = await world.pair()
    world.dynamics.edit_as_user(twin, creditlimit=Decimal(100))
    await world.cycle()
    world.creatio.edit_as_user(record, Limit=Decimal(999))

    await world.cycle()

    assert world.creatio.value(record, "Limit") == Decimal(100)
    assert world.counts()["restored"] == 1


async def test_law_3_kept_drift_is_left_alone(world):
    """With `drift: keep` an edit on the receiving side stays, until the source changes."""
    row = next(row for row in world.mapping["fields"] if row["creatio"] == "Limit")
    row["drift"] = "keep"
    world.start()
    record, twin = await world.pair()
    world.dynamics.edit_as_user(twin, creditlimit=Decimal(100))
    await world.cycle()
    world.creatio.edit_as_user(record, Limit=Decimal(999))
    await world.cycle(2)
    assert world.creatio.value(record, "Limit") == Decimal(999)

    world.dynamics.edit_as_user(twin, creditlimit=Decimal(50))
    await world.cycle()

    assert world.creatio.value(record, "Limit") == Decimal(50)


async def test_law_4_a_lost_reply_is_neither_written_twice_nor_taken_for_a_users_edit(world):
    """The write arrived, its answer did not: the next look confirms it and writes nothing."""
    record, twin = await world.pair(Zip="1")
    lost = iter([True])
    world.dynamics.lose_reply = lambda: next(lost, False)
    writes = world.dynamics.writes
    world.creatio.edit_as_user(record, Zip="2")

    await world.cycle(2)

    assert world.dynamics.value(twin, "zip") == "2"
    assert world.dynamics.writes == writes + 1
    assert world.creatio.value(record, "Zip") == "2"


async def test_law_4_a_users_edit_after_a_write_with_a_lost_reply_wins_over_the_unchanged_source(world):
    """While the reply is missing a user edits the field again: that edit goes to the source, not the owner's older value."""
    record, twin = await world.pair(Zip="1")

    def lose_and_edit() -> bool:
        world.dynamics.lose_reply = lambda: False
        world.dynamics.edit_as_user(twin, zip="3")
        return True

    world.dynamics.lose_reply = lose_and_edit
    world.creatio.edit_as_user(record, Zip="2")

    await world.cycle(2)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("3", "3")


async def test_law_4_a_normalisation_by_the_server_is_not_written_back(world):
    """A server that stores another spelling than was sent does not change the source, with or without a reply."""
    world.dynamics.normalise = lambda column, value: value.strip().upper() if column == "zip" and isinstance(value, str) else value
    record, twin = await world.pair(Zip="ab")
    lost = iter([True])
    world.dynamics.lose_reply = lambda: next(lost, False)
    world.creatio.edit_as_user(record, Zip="cd")

    await world.cycle(3)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("cd", "CD")


async def test_law_5_an_edit_between_our_write_and_the_next_poll_survives(world):
    """The row was last written by us and then by a user before anyone polled: the user's value travels."""
    record, twin = await world.pair(Zip="1", Phone="1")
    world.creatio.edit_as_user(record, Zip="2")
    await world.cycle()
    world.dynamics.edit_as_user(twin, telephone1="7", zip="8")

    await world.cycle()

    assert (world.creatio.value(record, "Phone"), world.creatio.value(record, "Zip")) == ("7", "8")


async def test_law_5_an_echo_costs_one_ledger_read_and_no_request(world):
    """Our own write comes back in the feed and is dropped by its stamp, before either system is read."""
    record, _ = await world.pair(Zip="1")
    world.creatio.edit_as_user(record, Zip="2")
    await world.poll()
    await world.drain()
    reads = []
    world.on_step = lambda name: reads.append(name) if name.endswith((".read", ".write")) else None

    await world.cycle()

    assert reads == []


async def test_law_5_a_stale_read_is_never_merged(world):
    """A replica answers with an older row than the feed announced: the record is read again later, and nothing is undone."""
    record, twin = await world.pair(Zip="1")
    old = replace(world.creatio.records[record])
    world.creatio.edit_as_user(record, Zip="2")
    fresh = world.creatio.records[record]
    looks = iter([old])
    original = world.creatio.row

    def replica(record_id: str):
        world.creatio.records[record_id] = next(looks, fresh)
        return original(record_id)

    world.creatio.row = replica
    await world.poll()
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "2"
    assert world.counts().get("updated") == 1


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
    attempts = world.dynamics.requests
    await world.operate.status()
    await world.cycle(2)
    assert world.dynamics.requests <= attempts + 2

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

    await world.cycle(2)

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


async def test_a_text_that_is_too_long_for_a_rejecting_row_fails_alone(world):
    """`overlong: reject` keeps the field back with its own code; the rest of the record goes on."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Notes="x" * 41, Zip="3")

    await world.cycle(2)

    assert world.dynamics.value(twin, "zip") == "3"
    assert world.dynamics.value(twin, "description") is None
    assert world.failure_codes() == {("Notes=description", "mapping.too_long")}


async def test_a_column_that_the_live_system_lacks_fails_alone(world):
    """A mapping row whose column was removed is a failure of the flow; the other rows go on."""
    record, twin = await world.pair()
    del world.dynamics.columns["zip"]
    world.creatio.edit_as_user(record, Zip="3", Phone="4")

    await world.cycle(2)

    assert world.dynamics.value(twin, "telephone1") == "4"
    assert ("Zip=zip", "dataverse.unknown_column") in world.failure_codes()


async def test_a_missing_right_stops_the_flow_and_parks_its_batches(world):
    """Denied stops the flow with its reason; after a start the parked batch is worked off."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    world.dynamics.denied = True
    await world.drain()
    assert world.ledger.flows[FLOW].stopped_because == "dataverse.denied"
    world.dynamics.denied = False

    await world.operate.start(FLOW)
    await world.watcher.run()
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "5"


async def test_a_throttled_account_pauses_every_message_of_its_flow(world):
    """While the account must pause no request is made; afterwards the work goes on."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    until = world.clock() + timedelta(seconds=90)
    await world.ledger.pause_account(AccountThrottle("dataverse", until))
    seen = []
    world.on_step = lambda name: seen.append(world.clock()) if name.startswith(("creatio.", "dataverse.")) else None

    await world.drain()

    assert world.dynamics.value(twin, "zip") == "5"
    assert min(seen) >= until


async def test_an_outage_of_a_system_loses_nothing(world):
    """A system that can't be reached for a while only delays: the batch comes back until it works."""
    record, twin = await world.pair()
    down = iter(range(6))

    def fail(name: str) -> None:
        if name == "dataverse.read" and next(down, None) is not None:
            raise Transient("dataverse.unavailable", system="dataverse")

    world.on_step = fail
    world.creatio.edit_as_user(record, Zip="5")

    await world.cycle()

    assert world.dynamics.value(twin, "zip") == "5"


async def test_a_repeated_message_changes_nothing(world):
    """The same message delivered again after its batch closed is dropped, and one with a lower attempt too."""
    record, _ = await world.pair()
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    _, _, message = world.queues.messages[0]
    await world.drain()
    writes = world.dynamics.writes

    await world.syncer.run(message)

    assert world.dynamics.writes == writes
    assert world.events[-1][0] == "message_dropped"


async def test_a_message_without_a_batch_is_a_coded_error(world):
    """A message whose batch is not in the ledger raises the code that the poison step shows."""
    with pytest.raises(TandemError) as caught:
        await world.syncer.run(Message(v=1, flow=FLOW, batch="nowhere", attempt=0))

    assert caught.value.code == "message.unknown_batch"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"v":1,"flow":"test.acc', "message.malformed"),
        (b"\xff\xfe", "message.malformed"),
        (b'{"v":9,"flow":"f","batch":"b","attempt":0}', "message.future_version"),
    ],
)
async def test_a_dead_message_that_can_not_be_read_is_kept_for_a_person(world, body, code):
    """Truncated, binary and future messages end as failures with their code, and their body is not stored."""
    await world.poison.run("changes", body)

    failure = next(iter(world.ledger.failed.values()))
    assert failure.code == code
    assert body.decode(errors="replace") not in repr(failure)


async def test_a_dead_batch_becomes_one_failure_a_record_and_can_be_reprocessed(world):
    """A poisoned batch is closed with a failure for each record; reprocessing syncs them and clears the failures."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    _, _, message = world.queues.messages.pop()
    await world.poison.run("changes", message.model_dump_json().encode())
    assert world.failure_codes() == {("", "message.poisoned")}

    number = await world.operate.reprocess(FLOW)
    await world.drain()

    assert number == 1
    assert world.dynamics.value(twin, "zip") == "5"
    assert world.failure_codes() == set()
