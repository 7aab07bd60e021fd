"""Bulk runs (F8): every row of a side once, by key ranges and pages, resumable wherever they break off, half of the slots at most."""

from datetime import timedelta

import pytest

from shared.core.binding import BindingState
from shared.core.errors import ConfigError, Rejected, Transient
from shared.core.records import RangeBy, Side
from shared.core.work import Asking, BatchState, FlowSettings, Load, RunKind, SleepWindow
from tests.engine.fakes import START, Crash
from tests.engine.house import contacts
from tests.engine.world import FLOW, World, guid


@pytest.fixture
def world() -> World:
    """Return a world without records."""
    return World()


def fill(world: World, number: int, *, at_once: bool = False) -> list[str]:
    """Let users create accounts in Creatio; `at_once` gives all of them one time of creation, as an import does."""
    ids = [guid(1000 + place) for place in range(number)]
    for place, record_id in enumerate(ids):
        world.creatio.create_as_user(record_id, Id=record_id, Name=f"Company {place}", Code=f"C{place}")
        if at_once:
            world.creatio.records[record_id].created = START
    return ids


async def finish(world: World) -> None:
    """Work off the queues, with the watch timer between, until no run is under way."""
    for _ in range(12):
        await world.drain()
        world.clock.tick(1200)
        await world.as_worker(world.watcher.run())
        if not world.queues.messages and all(flow.walking is None for flow in world.ledger.flows.values()):
            return
    raise AssertionError("a run did not end")


def names_on(world: World, side: Side) -> list[object]:
    """Return the names of all accounts of a side, sorted."""
    column = "Name" if side is Side.CREATIO else "name"
    return sorted(str(record.values[column]) for record in world.system(side).records.values())


@pytest.mark.parametrize("by", list(RangeBy))
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_bulk_run_brings_every_row_over_once(world, by, at_once):
    """However the times of rows lie, each row is created once on the other side; messages and batch rows name no record."""
    fill(world, 23, at_once=at_once)
    run = await world.bulk.start([FLOW], Side.CREATIO, Load(by, size=4), dry=False)
    await finish(world)

    assert names_on(world, Side.DYNAMICS) == names_on(world, Side.CREATIO)
    assert world.dynamics.writes == 23
    batches = await world.ledger.run_batches(FLOW, run)
    assert all(batch.part is not None and not batch.items and batch.state is BatchState.CLOSED for batch in batches)
    assert len(batches) == (1 if at_once and by is RangeBy.CREATED else 6)
    shown = await world.walk.progress(FLOW, run)
    assert (shown["counts"], shown["records"], shown["records_done"], shown["all_known"]) == ({"created": 23}, 23, 23, True)


async def test_a_bulk_run_from_dynamics_fills_creatio(world):
    """The other way works alike."""
    for place in range(9):
        world.dynamics.create_as_user(guid(place + 1), name=f"Company {place}")
    await world.bulk.start([FLOW], Side.DYNAMICS, Load(size=4), dry=False)
    await finish(world)
    assert names_on(world, Side.CREATIO) == names_on(world, Side.DYNAMICS)


async def test_a_bulk_run_over_what_is_in_step_reads_one_side_and_writes_nothing(world):
    """Rows that the bindings have seen are echoes: no look at their twins, nothing written."""
    fill(world, 10)
    await world.cycle(3)
    reads: list[str] = []
    world.on_step = lambda name: reads.append(name) if name.endswith((".read", ".write", ".find")) else None
    run = await world.bulk.start([FLOW], Side.CREATIO, Load(size=4), dry=False)
    await finish(world)
    assert reads == []
    assert (await world.walk.progress(FLOW, run))["counts"] == {"unchanged": 10}


async def test_a_bulk_run_carries_an_edit_that_no_feed_told(world):
    """An edit that the feed missed reaches the other side, merged by field with an edit there."""
    (record, *_) = fill(world, 3)
    await world.cycle(3)
    twin = world.twin(Side.CREATIO, record)
    world.creatio.edit_as_user(record, Zip="77")
    world.dynamics.edit_as_user(twin, description="theirs")
    world.creatio.records[record].sequence = 0
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=2), dry=False)
    await finish(world)
    assert (world.dynamics.value(twin, "zip"), world.creatio.value(record, "Notes")) == ("77", "theirs")


async def test_only_the_range_that_was_asked_for_is_loaded(world):
    """`since` counts, `until` does not any more."""
    ids = fill(world, 6)
    times = [world.creatio.records[record_id].created for record_id in ids]
    await world.bulk.start([FLOW], Side.CREATIO, Load(RangeBy.CREATED, times[2], times[4], 1), dry=False)
    await finish(world)
    assert names_on(world, Side.DYNAMICS) == ["Company 2", "Company 3"]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_bulk_run_survives_a_crash_at_any_step(at_once):
    """A process that dies at whatever step makes no row be left out, and none be made twice."""
    steps = await _steps_of_a_run(at_once)
    assert len(steps) > 60
    for fatal in range(len(steps)):
        world = World()
        fill(world, 7, at_once=at_once)
        seen = 0

        def step(_name: str, fatal: int = fatal) -> None:
            nonlocal seen
            seen += 1
            if seen == fatal + 1:
                raise Crash

        world.on_step = step
        try:
            await world.as_worker(world.bulk.start([FLOW], Side.CREATIO, Load(size=3), dry=False))
        except Crash:
            world.start()
        world.clock.tick(3600)
        await _finish_in_spite(world)
        done = names_on(world, Side.DYNAMICS)
        assert done in ([], names_on(world, Side.CREATIO)), (fatal, steps[fatal])
        assert done or fatal < 4, (fatal, steps[fatal])  # it died before the run was noted: the person saw an error
        assert world.dynamics.writes == len(done)


async def _steps_of_a_run(at_once: bool) -> list[str]:
    world = World()
    fill(world, 7, at_once=at_once)
    steps: list[str] = []
    world.on_step = steps.append
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=3), dry=False)
    await world.drain()
    return steps


async def _finish_in_spite(world: World) -> None:
    try:
        await finish(world)
    except Crash:  # the watch timer's worker died
        world.start()
        await finish(world)


async def test_a_slice_that_runs_out_goes_on_behind_its_last_range():
    """A walker whose time is up after each range still reaches the end, through one message after the other."""
    world = World(poll_slice=timedelta(0))
    fill(world, 12)
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=2), dry=False)
    await finish(world)
    assert world.dynamics.writes == 12


async def test_a_repeated_message_leaves_no_row_out_when_the_ranges_fall_otherwise(world):
    """The walker's message comes twice, and rows were deleted in between: the second cut differs, yet every row is in a range."""
    ids = fill(world, 8)
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=3), dry=False)
    message = world.queues.messages[0][2]

    def die(name: str) -> None:
        if name == "ledger.create_batches" and len(world.ledger.batches) == 1:
            raise Crash

    world.on_step = die
    with pytest.raises(Crash):
        await world.as_worker(world.tasks.run(message))
    world.on_step = lambda _name: None
    world.creatio.delete_as_user(ids[1])
    world.start()
    await finish(world)
    assert names_on(world, Side.DYNAMICS) == names_on(world, Side.CREATIO)


async def test_records_that_need_another_look_do_not_hold_the_page(world):
    """A record whose reply was lost is settled by a batch of its own; the range goes on and the run ends with all of them."""
    fill(world, 9, at_once=True)
    answers = iter([True])
    world.dynamics.lose_reply = lambda: next(answers, False)
    run = await world.bulk.start([FLOW], Side.CREATIO, Load(size=4), dry=False)
    await world.drain()
    assert all(binding.state is BindingState.BOUND for binding in world.ledger.bound)
    assert world.clock() - START < timedelta(minutes=2), "they waited for the deadline of a create that was their own"
    await finish(world)
    assert names_on(world, Side.DYNAMICS) == names_on(world, Side.CREATIO)
    shown = await world.walk.progress(FLOW, run)
    assert shown["records"] == 9
    assert shown["records_done"] == 9
    assert any(batch.part is None for batch in await world.ledger.run_batches(FLOW, run))


async def test_a_page_link_that_expired_begins_the_range_anew(world):
    """Between two pages of a range their link dies: the range is read again from its beginning, and what is done is an echo."""
    fill(world, 9, at_once=True)
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=4), dry=False)

    expiries = iter([True])

    def expire(name: str) -> None:
        if name == "creatio.read_range" and world.dynamics.writes == 4:
            world.creatio.expired = next(expiries, False)

    world.on_step = expire
    await finish(world)
    assert world.dynamics.writes == 9
    assert world.counts() == {"created": 9}
    assert next(expiries, None) is None


async def test_a_throttled_page_is_read_again_later(world):
    """The system asks to slow down while a page is read: its batch comes back, none of it is lost."""
    fill(world, 5)
    answers = iter([Transient("creatio.throttled", retry_after=60, system="creatio")])
    world.creatio.fails = lambda verb: next(answers, None) if verb == "read_range" else None
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=2), dry=False)
    await finish(world)
    assert world.dynamics.writes == 5


async def test_a_bad_row_of_a_page_fails_alone(world):
    """A row that can't be understood is a failure of its own; its page goes on (law 13)."""
    ids = fill(world, 5)
    world.creatio.unreadable = lambda i: Rejected("creatio.bad_row", system="creatio", record_id=i) if i == ids[2] else None
    run = await world.bulk.start([FLOW], Side.CREATIO, Load(size=5), dry=False)
    await finish(world)
    assert names_on(world, Side.DYNAMICS) == ["Company 0", "Company 1", "Company 3", "Company 4"]
    assert {(failure.record_id, failure.code) for failure in world.ledger.failed.values()} == {(ids[2], "creatio.bad_row")}
    assert (await world.walk.progress(FLOW, run))["counts"] == {"created": 4, "failed": 1}


async def test_a_row_of_a_page_with_a_passing_fault_is_looked_at_again(world):
    """A row that could not be read for a moment is put aside and done; its page goes on."""
    ids = fill(world, 5)
    world.creatio.unreadable = lambda i: (
        Transient("creatio.not_json", system="creatio") if i == ids[2] and world.creatio.requests < 4 else None
    )
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=5), dry=False)
    await finish(world)
    assert world.dynamics.writes == 5


async def test_a_dry_run_counts_and_writes_nothing(world):
    """`dry` tells how many records would be bound or created, how many written, page by page."""
    ids = fill(world, 4)
    await world.cycle(2)
    fill(world, 9, at_once=True)
    for record_id in ids[:2]:
        world.creatio.edit_as_user(record_id, Zip="9")
    before = world.dynamics.writes
    run = await world.bulk.start([FLOW], Side.CREATIO, Load(size=2), dry=True)
    await finish(world)
    counts = (await world.walk.progress(FLOW, run))["counts"]
    assert (counts["would_bind_or_create"], counts["would_write_dynamics"]) == (5, 2)
    assert world.dynamics.writes == before


async def test_a_bulk_run_takes_half_of_the_slots_at_most(world):
    """Beside a bulk run scheduled batches always find free slots."""
    fill(world, 8)
    most = 0

    def look(name: str) -> None:
        nonlocal most
        if name.endswith(".write"):
            most = max(most, len(world.ledger.slots))

    world.on_step = look
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=1), dry=False)
    await world.deliver_together()
    for _ in range(40):
        await world.deliver_together()
        world.clock.tick(30)
    assert most == 4  # two messages, a slot of each of the two systems


async def test_a_flow_that_asks_is_not_loaded(world):
    """The changes in question would slip through with a bulk run: it is refused, and one under way rests (law 12)."""
    fill(world, 4)
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=2), dry=False)
    asking = Asking(Side.CREATIO, 150, 200, world.clock())
    settings = world.ledger.flows[FLOW]
    world.ledger.flows[FLOW] = FlowSettings(FLOW, asking=asking, walking=settings.walking, etag=settings.etag)
    await world.drain()
    assert world.dynamics.writes == 0
    world.ledger.flows[FLOW] = FlowSettings(FLOW, asking=asking, etag=settings.etag)
    with pytest.raises(ConfigError, match="accept them or start a rebase"):
        await world.bulk.start([FLOW], Side.CREATIO, Load(), dry=False)


async def test_a_sleeping_flow_is_loaded_when_it_wakes(world):
    """Neither walker nor batches work in a sleep window; afterwards the run goes on by itself."""
    fill(world, 4)
    world.ledger.flows[FLOW] = FlowSettings(FLOW, sleep=(SleepWindow("00:00:00", "23:59:59"),), etag="e")
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=2), dry=False)
    await world.drain()
    assert world.creatio.requests == 0
    walking = world.ledger.flows[FLOW].walking
    world.ledger.flows[FLOW] = FlowSettings(FLOW, walking=walking, etag=world.ledger.flows[FLOW].etag)
    world.clock.tick(1200)
    await world.as_worker(world.watcher.run())
    await finish(world)
    assert world.dynamics.writes == 4


async def test_several_flows_are_loaded_one_after_the_other(world):
    """Contacts follow accounts: no contact waits for an account of the same load."""
    world.further.append(contacts())
    world.creatio.further, world.dynamics.further = {"Contact"}, {"contact"}
    world.start()
    parents = fill(world, 4)
    for place, parent in enumerate(parents):
        child = guid(5000 + place)
        world.creatio.elsewhere[child] = "Contact"
        world.creatio.create_as_user(child, Id=child, Name=f"Person {place}", Code=f"P{place}", ParentId=parent)
    await world.bulk.start([FLOW, "test.contact"], Side.CREATIO, Load(size=2), dry=False)
    await finish(world)
    assert len(world.dynamics.records) == 8
    assert "waiting" not in world.counts()
    assert [run.kind for run in world.ledger.run_rows.values()] == [RunKind.BULK, RunKind.BULK]


@pytest.mark.parametrize(
    ("flows", "load", "told"),
    [
        ([], Load(), "got none"),
        (["nobody"], Load(), "nobody"),
        ([FLOW], Load(size=0), "allowed 1 to 2000"),
        ([FLOW], Load(size=2001), "allowed 1 to 2000"),
        ([FLOW], Load(since=START, until=START), "allowed a moment after"),
    ],
)
async def test_an_impossible_bulk_run_is_refused_in_words(world, flows, load, told):
    """What was got and what is allowed; nothing is started."""
    with pytest.raises(ConfigError, match=told):
        await world.bulk.start(flows, Side.CREATIO, load, dry=False)
    assert not world.queues.messages


async def test_only_one_run_over_all_records_at_a_time(world):
    """A second one is refused, naming the first."""
    run = await world.bulk.start([FLOW], Side.CREATIO, Load(), dry=False)
    with pytest.raises(ConfigError, match=run):
        await world.bulk.start([FLOW], Side.DYNAMICS, Load(), dry=False)


async def test_an_old_message_of_a_run_that_has_ended_does_nothing(world):
    """A walker's message that comes late, or twice, cuts nothing any more."""
    fill(world, 3)
    await world.bulk.start([FLOW], Side.CREATIO, Load(size=2), dry=False)
    message = world.queues.messages[0][2]
    await finish(world)
    before = (world.creatio.requests, len(world.ledger.batches))
    await world.tasks.run(message)
    assert (world.creatio.requests, len(world.ledger.batches)) == before


@pytest.mark.parametrize(("rows", "messages"), [(6, 1), (7, 2)])
async def test_a_range_a_little_longer_than_a_page_is_one_message(world, rows, messages):
    """Ranges end between two times; half a page more is read at once, more than that in pages."""
    fill(world, rows, at_once=True)
    run = await world.bulk.start([FLOW], Side.CREATIO, Load(size=4), dry=False)
    await finish(world)
    assert [batch.attempt for batch in await world.ledger.run_batches(FLOW, run)] == [messages]
    assert world.dynamics.writes == rows
