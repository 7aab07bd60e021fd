"""What goes wrong in production and what the engine makes of it: bad data, lost rights, throttling, outages, dead messages, long polls."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.binding import BindingState
from shared.core.errors import Rejected, TandemError, Transient
from shared.core.records import Side
from shared.core.work import AccountThrottle, BatchState, FlowSettings, Message, PollMessage, SleepWindow
from tests.engine.fakes import Crash
from tests.engine.world import FLOW, World, guid


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


async def test_a_poll_that_outlives_its_slice_goes_on_through_the_queue(world):
    """Every page ends the slice here: the rest goes through `polls`, and every record arrives once."""
    world.poll_slice = timedelta(0)
    world.start()
    world.creatio.page_size = 2
    for number in range(1, 8):
        world.creatio.create_as_user(guid(number), Id=guid(number), Name=f"Acme {number}")

    await world.cycle(2)

    assert len(world.dynamics.records) == 7
    assert world.ledger.watermarks[FLOW, Side.CREATIO].complete
    assert world.counts() == {"created": 7}


async def test_a_chain_that_goes_on_through_the_queue_is_not_polled_a_second_time(world):
    """While a poll goes on through the queue the timer leaves its side alone; when its message is lost, it takes it up again."""
    world.poll_slice = timedelta(0)
    world.start()
    world.creatio.page_size = 1
    for number in range(1, 4):
        world.creatio.create_as_user(guid(number), Id=guid(number), Name=f"Acme {number}")
    await world.poll()
    world.queues.messages = [entry for entry in world.queues.messages if entry[1] != "polls"]
    requests = world.creatio.requests
    await world.poll()
    assert world.creatio.requests == requests

    world.clock.tick(11 * 60)
    await world.cycle(3)

    assert len(world.dynamics.records) == 3


async def test_a_lost_message_is_sent_again_by_watch(world):
    """A batch whose message got lost is still in the ledger: watch sends it again after its time, not before."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    world.queues.messages.clear()
    await world.watcher.run()
    assert world.queues.messages == []

    world.clock.tick(16 * 60)
    await world.watcher.run()
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "5"


async def test_a_sleeping_flow_polls_nothing_and_parks_its_batches(world):
    """In a sleep window nothing moves; after it everything goes on by itself."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    asleep = FlowSettings(FLOW, interval_ms=1000, sleep=(SleepWindow("00:00:00", "23:59:59"),))
    saved = await world.ledger.save_flow(asleep)
    await world.drain()
    assert world.dynamics.value(twin, "zip") is None
    assert next(iter(world.ledger.batches.values())).state is not BatchState.OPEN

    await world.ledger.save_flow(replace(saved, sleep=()))
    await world.watcher.run()
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "5"


async def test_a_dead_poll_message_is_a_failure_of_its_flow(world):
    """A poll that the host gave up on is told of under its flow and side; the timer goes on from the watermark."""
    await world.poison.run("polls", PollMessage(v=1, flow=FLOW, side=Side.CREATIO, run="r1").model_dump_json().encode())

    failure = next(iter(world.ledger.failed.values()))
    assert (failure.flow, failure.side, failure.code) == (FLOW, Side.CREATIO, "message.poisoned")


async def test_two_workers_with_one_message_do_the_work_once(world):
    """A message delivered to two workers at the same time makes one write; the second finds the ledger ahead of it."""
    record, twin = await world.pair()
    writes = world.dynamics.writes
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    _, _, message = world.queues.messages.pop()

    await asyncio.gather(world.syncer.run(message), world.syncer.run(message))
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "5"
    assert world.dynamics.writes == writes + 1


async def test_a_key_left_reserved_by_a_dead_worker_is_freed(world):
    """A worker died between reserving and its intent, and its record is gone: after the lease another record gets the key."""
    died = iter([True])

    def die(name: str) -> None:
        if name == "dataverse.find" and next(died, False):
            raise Crash

    world.on_step = die
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")
    await world.poll()
    _, queue, message = world.queues.messages.pop()
    await world._deliver(queue, message)
    world.queues.messages.clear()
    world.creatio.delete_as_user(guid(1))
    assert world.ledger.reservations != {}
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Acme", Code="A1")

    await world.cycle(2)

    assert world.binding(Side.CREATIO, guid(2)).state is BindingState.BOUND


@pytest.mark.parametrize("step", range(1, 45))
async def test_a_conflict_a_failure_and_a_waiting_record_outlast_a_crash_at_any_step(step):
    """Whatever step the worker dies at, what a person must see is in the ledger in the end, and the waiting record wakes."""
    world = World()
    left = [step]

    def die(_name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Crash

    world.dynamics.create_as_user(guid(8), name="Twin", accountnumber="T1")
    world.dynamics.create_as_user(guid(9), name="Twin b", accountnumber="T1")
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Twin", Code="T1")
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Long", Notes="x" * 41)
    world.creatio.create_as_user(guid(3), Id=guid(3), Name="Child", ParentId=guid(4))
    world.mapping["create"] = "to_dynamics"
    world.start()
    await world.poll()
    world.on_step = die
    await world.drain()
    world.on_step = lambda _name: None
    world.creatio.create_as_user(guid(4), Id=guid(4), Name="Parent")

    await world.cycle(3)

    assert {conflict.reason for conflict in world.ledger.disputed.values()} == {"match.ambiguous"}
    assert world.failure_codes() == {("Notes=description", "mapping.too_long")}
    assert world.dynamics.value(world.twin(Side.CREATIO, guid(3)), "parentaccountid") == world.twin(Side.CREATIO, guid(4))


async def test_a_passing_fault_in_one_part_of_a_read_only_delays_its_records(world):
    """A read answers with a transient error for one record: it is tried again, not kept as a failure; the other goes on."""
    first, twin = await world.pair(Code="A1")
    second, other = await world.pair(Code="B1")
    original, faults = world.creatio.row, iter([True])

    def deadlocked(record_id: str):
        if record_id == first and next(faults, False):
            return Transient("creatio.unavailable", "deadlock", record_id=record_id)
        return original(record_id)

    world.creatio.row = deadlocked
    world.creatio.edit_as_user(first, Zip="1")
    world.creatio.edit_as_user(second, Zip="2")

    await world.cycle()

    assert (world.dynamics.value(twin, "zip"), world.dynamics.value(other, "zip")) == ("1", "2")
    assert world.failure_codes() == set()


async def test_a_hit_that_can_not_be_read_fails_its_own_record_only(world):
    """The search for twins meets an odd row: keys are asked one by one, and only the record that leads to it is a failure."""
    original = world.dynamics.find

    async def find(entity, keys, columns):
        if any(key.get("accountnumber") == "odd" for key in keys):
            raise Rejected("dataverse.bad_row", record_id=guid(7))
        return await original(entity, keys, columns)

    world.dynamics.find = find
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1")
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Beta", Code="odd")

    await world.cycle(2)

    assert len(world.dynamics.records) == 1
    assert world.failure_codes() == {("", "dataverse.bad_row")}
    assert world.ledger.reservations == {}


async def test_a_record_whose_write_fails_for_ever_becomes_a_failure(world):
    """A plug-in that crashes each time is not run for ever: after its attempts the record is a failure, and its batch closes."""
    record, _ = await world.pair()
    world.dynamics.refuse = lambda write: Transient("dataverse.unavailable", "a plug-in crashed", record_id=write.id)
    world.creatio.edit_as_user(record, Zip="1")

    await world.cycle()

    assert ("", "dataverse.unavailable") in world.failure_codes()
    assert await world.ledger.open_batches(FLOW) == []


async def test_a_crash_while_a_batch_is_put_off_loses_no_message(world):
    """The worker dies before the batch's next message is sent: the old message still counts, nothing waits for watch."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="5")
    await world.poll()
    down, died = iter([True]), iter([True])

    def step(name: str) -> None:
        if name == "dataverse.read" and next(down, False):
            raise Transient("dataverse.unavailable", system="dataverse")
        if name == "queues.send" and next(died, False):
            raise Crash

    world.on_step = step
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "5"


async def test_a_broken_ledger_row_fails_its_own_record_only(world):
    """One binding of a batch can't be read: that record is a failure, nothing is written over its row, the others go on."""
    (broken, broken_twin), (fine, twin) = await world.pair(), await world.pair(Name="Fine")
    row = world.binding(Side.CREATIO, broken)
    read, stamps = world.ledger.bindings, world.ledger.stamps

    async def bindings(flow, side, ids):
        if broken in ids or broken_twin in ids:
            raise TandemError("message.future_version", "ledger row (binding) has version 2")
        return await read(flow, side, ids)

    async def checked_stamps(flow, side, ids):
        if broken in ids:
            raise TandemError("message.future_version", "ledger row (binding) has version 2")
        return await stamps(flow, side, ids)

    world.ledger.bindings, world.ledger.stamps = bindings, checked_stamps
    for record in (broken, fine):
        world.creatio.edit_as_user(record, Zip="7")
    await world.cycle(1)

    assert world.dynamics.value(twin, "zip") == "7"
    assert [(f.record_id, f.code) for f in world.ledger.failed.values()] == [(broken, "message.future_version")]
    assert world.binding(Side.CREATIO, broken) == row


async def test_a_new_record_that_a_lagging_replica_lacks_is_not_taken_for_a_deleted_one(world):
    """A record is announced, and the read right after it does not show it yet: it is looked for again, and created on the other side."""
    world.dynamics.create_as_user(guid(4), name="New")
    await world.poll()
    world.dynamics.hidden.add(guid(4))
    looks = []

    def step(name: str) -> None:
        if name == "dataverse.read":
            looks.append(name)
            if len(looks) == 2:
                world.dynamics.hidden.clear()

    world.on_step = step
    await world.drain()

    assert [r.values["Name"] for r in world.creatio.records.values()] == ["New"]


async def test_an_open_create_whose_source_a_lagging_replica_lacks_does_not_end(world):
    """The worker died while it created a record; the next read does not show the source yet: the create goes on, nothing is blocked."""
    world.dynamics.create_as_user(guid(4), name="New")
    await world.poll()
    looks = []

    def lag(name: str) -> None:
        if name == "dataverse.read":
            looks.append(name)
            world.dynamics.hidden = {guid(4)} if len(looks) == 2 else set()
        if name == "creatio.write_one" and len(looks) == 1:
            raise Crash

    world.on_step = lag
    await world.drain()
    await world.cycle(2)

    assert len(looks) > 2
    assert [r.values["Name"] for r in world.creatio.records.values()] == ["New"]
    assert world.binding(Side.DYNAMICS, guid(4)).state is BindingState.BOUND
