"""Laws 9, 11, 12 and 14 where they concern more than one record: references, compares, pins, mass changes, walks, fights."""

from dataclasses import replace

import pytest

from shared.core.binding import BindingState
from shared.core.errors import ConfigError, Transient
from shared.core.records import Column, ColumnType, Side
from shared.core.work import Failure, FlowSettings, RunKind, SleepWindow
from shared.engine import scan
from tests.engine.fakes import Record
from tests.engine.world import FLOW, World, guid

EXTRA = {"creatio": "Extra", "way": "=", "dynamics": "extra"}


async def filled(world: World, number: int) -> list[tuple[str, str]]:
    """Return so many pairs in step."""
    ids = [guid(6000 + n) for n in range(number)]
    for record_id in ids:
        world.creatio.create_as_user(record_id, Id=record_id, Name=f"N{record_id[:8]}", Zip="1")
    await world.cycle(3)
    return [(record_id, world.twin(Side.CREATIO, record_id)) for record_id in ids]


def restore_backup(world: World, records: dict[str, Record]) -> None:
    """Put Creatio back to an earlier state: its rows are older than what was seen of them."""
    world.creatio.records = {record_id: Record(dict(r.values), r.stamp, r.by_us, 0) for record_id, r in records.items()}


def backup(world: World) -> dict[str, Record]:
    """Return Creatio's rows as they are now."""
    return {record_id: Record(dict(r.values), r.stamp, r.by_us, r.sequence) for record_id, r in world.creatio.records.items()}


# --- law 9 ------------------------------------------------------------------------------------------------------------------


async def test_law_9_the_record_referred_to_is_asked_for_once(world):
    """A child refers to a parent that no poll has announced: the parent is fetched in its own flow, once, and the link follows."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Parent")
    await world.poll()
    world.queues.messages.clear()  # the parent's batch is lost for good, and so is its row
    world.ledger.batches.clear()
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Child", ParentId=guid(1))

    await world.cycle(1)

    assert world.dynamics.value(world.twin(Side.CREATIO, guid(2)), "parentaccountid") == world.twin(Side.CREATIO, guid(1))
    assert world.ledger.waiting == {}
    asked = [batch for batch in world.ledger.batches.values() if [guid(1)] == [item.id for item in batch.items]]
    assert len(asked) <= 1


async def test_law_9_a_filled_target_of_a_waiting_reference_is_an_edit(world):
    """While a link waits for its record, a Dynamics user chooses another one: that is an edit, and it wins over the one that waits."""
    other, other_twin = await world.pair(Name="Other")
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Child", ParentId=guid(99))
    await world.cycle(2)
    twin = world.twin(Side.CREATIO, guid(2))
    assert world.dynamics.value(twin, "parentaccountid") is None

    world.dynamics.edit_as_user(twin, parentaccountid=other_twin)
    await world.cycle(2)

    assert world.creatio.value(guid(2), "ParentId") == other
    assert world.dynamics.value(twin, "parentaccountid") == other_twin


async def test_law_9_an_empty_target_of_a_waiting_reference_is_no_change(world):
    """A link that waits stays in the source, whatever else is edited on the other side, and arrives when its record does."""
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Child", ParentId=guid(1))
    await world.cycle(2)
    twin = world.twin(Side.CREATIO, guid(2))
    world.dynamics.edit_as_user(twin, zip="5")
    await world.cycle(2)
    assert world.creatio.value(guid(2), "ParentId") == guid(1)

    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Parent")
    await world.cycle(2)
    assert world.dynamics.value(twin, "parentaccountid") == world.twin(Side.CREATIO, guid(1))


async def test_law_9_a_record_that_waits_too_long_is_told_once_and_woken_all_the_same(world):
    """After days a person is told, once; the record comes, the link follows and the failure goes."""
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Child", ParentId=guid(1))
    await world.cycle(1)
    world.clock.tick(4 * 24 * 3600)
    await world.watcher.run()
    await world.watcher.run()
    assert [(f.code, f.record_id, f.count) for f in world.ledger.failed.values()] == [("match.waits_too_long", guid(2), 1)]

    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Parent")
    await world.cycle(3)
    assert world.ledger.failed == {}
    assert world.dynamics.value(world.twin(Side.CREATIO, guid(2)), "parentaccountid") == world.twin(Side.CREATIO, guid(1))


# --- law 11 -----------------------------------------------------------------------------------------------------------------


async def test_law_11_a_compare_finds_what_the_feed_has_missed(world):
    """A row that was committed late, behind the watermark, and a change without a new place in the feed are found by the compare."""
    record, twin = await world.pair()
    world.creatio.create_as_user(guid(5), Id=guid(5), Name="Late")
    world.creatio.edit_as_user(record, Zip="9")
    for missed in (record, guid(5)):
        world.creatio.records[missed].sequence = 0
    await world.cycle(1)
    assert world.dynamics.value(twin, "zip") != "9"

    world.clock.tick(7 * 3600)
    await world.cycle(2)

    assert world.dynamics.value(twin, "zip") == "9"
    assert world.dynamics.value(world.twin(Side.CREATIO, guid(5)), "name") == "Late"


async def test_law_11_after_an_expired_token_deletes_are_found_by_comparing(world):
    """The delta chain starts anew and tells no old deletes: the record deleted meanwhile is found by two complete reads."""
    record, twin = await world.pair()
    other, _ = await world.pair(Name="Stays")
    world.dynamics.delete_as_user(twin)
    world.dynamics.deleted.clear()
    world.dynamics.expired = True
    await world.cycle(2)
    world.clock.tick(600)
    await world.cycle(2)

    assert world.binding(Side.CREATIO, record).state is BindingState.ENDED
    assert world.binding(Side.CREATIO, other).state is BindingState.BOUND
    assert any(name == "watermark_restarted" for name, _ in world.events)


async def test_law_11_other_columns_start_a_new_chain_and_a_compare(world):
    """A mapping that reads another column starts the chain anew; what was deleted before it is found too."""
    record, twin = await world.pair()
    world.dynamics.delete_as_user(twin)
    world.dynamics.deleted.clear()
    add_row(world)
    await world.cycle(2)
    world.clock.tick(600)
    await world.cycle(2)

    assert world.binding(Side.CREATIO, record).state is BindingState.ENDED


async def test_law_11_a_quiet_compare_finds_and_writes_nothing(world):
    """When both sides rest, a compare enqueues nothing and nothing is written to either system."""
    await filled(world, 5)
    before = (world.creatio.writes, world.dynamics.writes, len(world.ledger.batches))
    world.clock.tick(7 * 3600)
    await world.cycle(2)
    assert (world.creatio.writes, world.dynamics.writes, len(world.ledger.batches)) == before
    assert any(name == "side_compared" for name, _ in world.events)


# --- law 12 -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
async def test_law_12_another_environment_is_refused_until_a_person_accepts_it(world, side):
    """Behind the address stands another environment: nothing is written, the flow stops; accepted and started it goes on."""
    record, twin = await world.pair()
    world.system(side).env = "other/one"
    world.start()
    world.creatio.edit_as_user(record, Zip="8")
    world.dynamics.edit_as_user(twin, description="d")
    before = (world.creatio.writes, world.dynamics.writes)
    await world.cycle(1)
    assert (world.creatio.writes, world.dynamics.writes) == before
    assert world.ledger.flows[FLOW].stopped_because == f"{world.system(side).name}.other_environment"

    await world.decide.accept_environment(world.system(side).name)
    await world.operate.start(FLOW)
    await world.cycle(1)
    assert (world.dynamics.value(twin, "zip"), world.creatio.value(record, "Notes")) == ("8", "d")


async def test_law_12_a_batch_on_its_way_meets_no_other_environment(world):
    """A batch that was enqueued before the environment changed is not worked on in the other one; it waits for the start."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="8")
    await world.poll()
    world.dynamics.env = "other/one"
    await world.drain()
    assert world.dynamics.value(twin, "zip") != "8"

    world.dynamics.env = "dataverse/one"
    await world.operate.start(FLOW)
    await world.watcher.run()
    await world.drain()
    assert world.dynamics.value(twin, "zip") == "8"


async def test_law_12_a_mass_change_is_planned_before_any_of_it_is_applied_and_asks(world):
    """More than a hundred, and more than the share, changed in one read: nothing is written, the flow asks; accepted, all arrives."""
    pairs = await filled(world, 150)
    before = world.dynamics.writes
    for record, _ in pairs[:120]:
        world.creatio.edit_as_user(record, Zip="2")
    await world.cycle(2)

    assert world.dynamics.writes == before
    asking = (await world.operate.status())["flows"][FLOW]["asking"]
    assert (asking["side"], asking["of"], asking["earlier"]) == ("creatio", 150, False)
    assert asking["changed"] > 100

    assert await world.decide.accept(FLOW) == 120
    await world.drain()
    assert [world.dynamics.value(twin, "zip") for _, twin in pairs] == ["2"] * 120 + ["1"] * 30


async def test_law_12_many_touched_but_unchanged_records_go_through_the_gate(world):
    """A mass update that changes no mapped value does not ask, and its batches are worked off."""
    pairs = await filled(world, 150)
    for record, _ in pairs:
        world.creatio.edit_as_user(record)
    await world.cycle(2)

    assert world.ledger.flows.get(FLOW) is None or world.ledger.flows[FLOW].asking is None
    assert all(batch.state.value == "closed" for batch in world.ledger.batches.values())


async def test_law_12_the_echo_of_a_large_load_does_not_ask(world):
    """The first load writes hundreds of records; their echo is one large read and is passed."""
    await filled(world, 250)
    await world.cycle(3)
    assert not any(name == "flow_asks" for name, _ in world.events)


async def test_law_12_large_reads_that_are_no_mass_change_are_counted_once_an_hour(world, monkeypatch):
    """Forty are bound and ten change, again and again: the bindings are counted once an hour, and twenty at once ask all the same."""
    monkeypatch.setattr(scan, "_FEW", 5)
    pairs = await filled(world, 40)
    scans, scan_bindings = [], world.ledger.scan_bindings

    async def counted(flow, after=None, limit=1000):
        scans.append(flow)
        return await scan_bindings(flow, after, limit)

    monkeypatch.setattr(world.ledger, "scan_bindings", counted)

    async def edit(number, value):
        for record, _ in pairs[:number]:
            world.creatio.edit_as_user(record, Zip=value)
        await world.cycle(3)
        return [world.dynamics.value(twin, "zip") for _, twin in pairs].count(value)

    world.clock.tick(3700)
    assert [await edit(10, value) for value in ("2", "3", "4")] == [10, 10, 10]
    assert len(scans) == 1
    world.clock.tick(3700)
    assert (await edit(10, "5"), len(scans)) == (10, 2)
    assert await edit(20, "6") == 0
    assert world.ledger.flows[FLOW].asking is not None


async def test_law_12_a_read_of_many_pages_that_is_no_mass_change_goes_on_at_once(world, monkeypatch):
    """While its pages come in nobody knows how many there are, so all is held; then it is let go without a look at any record."""
    monkeypatch.setattr(scan, "_FEW", 5)
    pairs = await filled(world, 40)
    world.creatio.page_size = 4
    steps: list[str] = []
    world.on_step = steps.append
    for record, _ in pairs[:10]:
        world.creatio.edit_as_user(record, Zip="2")
    await world.poll()
    assert {batch.state.value for batch in world.ledger.batches.values() if batch.items} == {"held"}
    read = steps.count("creatio.read")
    await world.tasks.run(world.queues.messages.pop(0)[2])

    assert (steps.count("creatio.read"), steps.count("ledger.stamps")) == (read, 0)
    await world.drain()
    assert [world.dynamics.value(twin, "zip") for _, twin in pairs].count("2") == 10


async def test_law_12_while_a_flow_asks_nothing_else_of_it_is_written(world):
    """An edit on the other side of a record waits until the person has answered: it would carry the mass change along."""
    pairs = await filled(world, 150)
    for record, _ in pairs:
        world.creatio.edit_as_user(record, Zip="2")
    await world.cycle(1)
    world.dynamics.edit_as_user(pairs[0][1], description="mine")
    before = (world.creatio.writes, world.dynamics.writes)
    await world.cycle(2)
    await world.watcher.run()
    await world.drain()
    assert (world.creatio.writes, world.dynamics.writes) == before

    await world.decide.accept(FLOW)
    await world.drain()
    await world.cycle(2)
    assert world.creatio.value(pairs[0][0], "Notes") == "mine"


async def test_law_12_after_the_restore_of_a_backup_one_side_can_be_named_right(world):
    """Creatio went back to an earlier state: the flow asks; a dry run counts; a rebase from Dynamics brings everything back."""
    pairs = await filled(world, 150)
    earlier = backup(world)
    for _, twin in pairs:
        world.dynamics.edit_as_user(twin, description="new")
    await world.cycle(1)
    if world.ledger.flows.get(FLOW) and world.ledger.flows[FLOW].asking:
        await world.decide.accept(FLOW)
        await world.drain()
    restore_backup(world, earlier)
    world.clock.tick(7 * 3600)
    await world.cycle(2)
    asking = world.ledger.flows[FLOW].asking
    assert asking is not None
    assert (asking.side, asking.earlier) == (Side.CREATIO, True)
    before = (world.creatio.writes, world.dynamics.writes)

    dry = await world.walk.start(FLOW, RunKind.REBASE, Side.DYNAMICS, dry=True)
    await world.drain()
    await world.watcher.run()
    counts = (await world.walk.progress(FLOW, dry))["counts"]
    assert counts["would_write_creatio"] == 150
    assert (world.creatio.writes, world.dynamics.writes) == before
    assert world.ledger.flows[FLOW].asking is not None

    await world.walk.start(FLOW, RunKind.REBASE, Side.DYNAMICS, dry=False)
    await world.drain()
    await world.watcher.run()
    assert {world.creatio.value(record, "Notes") for record, _ in pairs} == {"new"}
    assert {world.dynamics.value(twin, "description") for _, twin in pairs} == {"new"}
    assert world.ledger.flows[FLOW].asking is None
    await world.cycle(2)
    assert all(batch.state.value == "closed" for batch in world.ledger.batches.values())


async def test_law_12_a_rebase_creates_again_what_only_the_right_side_has(world):
    """A record made after the backup is gone from the restored side: the rebase creates it there again, as a new generation."""
    (kept, _), (lost, twin) = await filled(world, 2)
    del world.creatio.records[lost]

    await world.walk.start(FLOW, RunKind.REBASE, Side.DYNAMICS, dry=False)
    await world.drain()
    await world.watcher.run()

    again = world.twin(Side.DYNAMICS, twin)
    assert again != lost
    assert world.creatio.value(again, "Zip") == "1"
    assert world.binding(Side.CREATIO, kept).generation == 1


async def test_law_12_only_one_walk_at_a_time(world):
    """A second run over all bindings is refused in words while the first one is under way."""
    await filled(world, 2)
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=True)
    with pytest.raises(ConfigError, match="is under way"):
        await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    await world.drain()
    await world.watcher.run()
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)


# --- a changed mapping (law 2) ----------------------------------------------------------------------------------------------


def add_row(world: World) -> None:
    """Deploy a mapping with one more row, whose columns hold values already."""
    world.creatio.columns["Extra"] = Column("Extra", ColumnType.TEXT)
    world.dynamics.columns["extra"] = Column("extra", ColumnType.TEXT)
    for system, name in ((world.creatio, "Extra"), (world.dynamics, "extra")):
        for record in system.records.values():
            record.values.setdefault(name, None)
    if EXTRA not in world.mapping["fields"]:
        world.mapping["fields"].append(EXTRA)
    world.start()


async def test_law_2_a_changed_mapping_asks_for_alignment_and_a_dry_run_counts(world):
    """With a row added the flow says so; the dry run counts the writes, the align run makes them, and then the flow is aligned."""
    pairs = await filled(world, 3)
    assert not (await world.operate.status())["flows"][FLOW]["needs_alignment"]
    add_row(world)
    for record, _ in pairs:
        world.creatio.records[record].values["Extra"] = "x"
    await world.cycle(1)
    assert (await world.operate.status())["flows"][FLOW]["needs_alignment"]
    assert {world.dynamics.value(twin, "extra") for _, twin in pairs} == {None}

    dry = await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=True)
    await world.drain()
    await world.watcher.run()
    assert (await world.walk.progress(FLOW, dry))["counts"] == {"would_write_dynamics": 3, "would_write_dynamics_fields": 3}
    assert {world.dynamics.value(twin, "extra") for _, twin in pairs} == {None}

    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    await world.drain()
    await world.watcher.run()
    assert {world.dynamics.value(twin, "extra") for _, twin in pairs} == {"x"}
    assert not (await world.operate.status())["flows"][FLOW]["needs_alignment"]


# --- runs beside each other (F8, F12) ---------------------------------------------------------------------------------------


async def test_a_sleeping_flow_rests_but_for_what_a_person_asks_now(world):
    """During a sleep window neither batches nor gate, compare or walk touch the systems; a replay does; afterwards all goes on."""
    (record, twin), (failed, failed_twin) = await filled(world, 2)
    world.creatio.edit_as_user(record, Zip="5")
    world.creatio.edit_as_user(failed, Zip="6")
    await world.poll()
    always = SleepWindow("00:00:00", "23:59:59")
    world.ledger.flows[FLOW] = FlowSettings(FLOW, interval_ms=1000, sleep=(always,), etag="e")
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    before = (world.creatio.requests, world.dynamics.requests)
    await world.drain()
    await world.watcher.run()
    await world.drain()
    assert (world.creatio.requests, world.dynamics.requests) == before

    failure = Failure(FLOW, Side.CREATIO, failed, "", "creatio.refused", "", "creatio", "Account", "", world.clock())
    await world.ledger.save_failures([failure])
    await world.operate.reprocess(FLOW)
    await world.drain()
    assert (world.dynamics.value(failed_twin, "zip"), world.dynamics.value(twin, "zip")) == ("6", "1")

    world.ledger.flows[FLOW] = replace(world.ledger.flows[FLOW], sleep=())
    await world.watcher.run()
    await world.drain()
    assert world.dynamics.value(twin, "zip") == "5"


async def test_f12_a_walk_beside_scheduled_work_corrupts_nothing(world):
    """Users edit both sides while an align run walks over the same records: every edit arrives, nothing is written twice."""
    pairs = await filled(world, 12)
    add_row(world)
    await world.walk.start(FLOW, RunKind.ALIGN, Side.CREATIO, dry=False)
    for number, (record, twin) in enumerate(pairs):
        world.creatio.edit_as_user(record, Zip=str(number), Extra=f"x{number}")
        world.dynamics.edit_as_user(twin, description=f"d{number}")
    await world.cycle(3)
    await world.watcher.run()

    for number, (record, twin) in enumerate(pairs):
        assert (world.dynamics.value(twin, "zip"), world.dynamics.value(twin, "extra")) == (str(number), f"x{number}")
        assert world.creatio.value(record, "Notes") == f"d{number}"
    assert (world.creatio.writes, world.dynamics.writes) == (12, 12 * 2)


async def test_law_12_a_gate_that_meets_a_passing_fault_tries_again(world):
    """While held batches are looked through the system asks to slow down: the account pauses, nothing is lost, and the gate opens later."""
    pairs = await filled(world, 150)
    for record, _ in pairs:
        world.creatio.edit_as_user(record)
    answers = iter([Transient("creatio.throttled", retry_after=60, system="creatio")])
    world.creatio.fails = lambda verb: next(answers, None) if verb == "read" else None
    await world.cycle(2)

    assert world.ledger.throttles["creatio"].pause_until is not None
    assert all(batch.state.value == "closed" for batch in world.ledger.batches.values())


async def test_law_11_a_compare_that_fails_is_asked_for_again_with_the_next_poll(world):
    """The read of a whole side breaks off: the next poll asks for it again, and it finds what the feed has missed."""
    record, twin = await world.pair()
    world.creatio.edit_as_user(record, Zip="9")
    world.creatio.records[record].sequence = 0
    await world.cycle(1)
    world.clock.tick(7 * 3600)
    answers = iter([Transient("creatio.unavailable", system="creatio")])
    walks = []

    def broken(name: str) -> None:
        if name == "creatio.changes":
            walks.append(name)
            if len(walks) == 2 and (error := next(answers, None)):
                raise error

    world.on_step = broken
    await world.cycle(3)

    assert any(name == "compare_failed" for name, _ in world.events)
    assert world.dynamics.value(twin, "zip") == "9"
