"""The rest of the ledger on a real Azurite: settings, watermarks, slots, batches, runs, reservations, failures, conflicts, waiting rows."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from shared.core.errors import Stale, TandemError
from shared.core.records import Side
from shared.core.work import (
    AccountThrottle,
    BatchState,
    Conflict,
    Failure,
    FlowSettings,
    Outcome,
    Run,
    RunKind,
    SleepWindow,
    Waiting,
    Watermark,
)
from shared.ledger.storage import Storage
from shared.ledger.store import TableLedger
from tests.integration.ledger_samples import FLOW, NOON, SECOND, FakeClock, batch, binding, lost_replies

HOUR = timedelta(hours=1)


def failure(record: str, field: str = "", *, flow: str = FLOW, side: Side | None = Side.CREATIO, at: datetime = NOON) -> Failure:
    """Return a failure of one record or field."""
    return Failure(flow, side, record, field, "mapping.required", "", "creatio", "Account", "r-1", at)


def waiting(target: str, record: str, field: str = "") -> Waiting:
    """Return a contact of Creatio that waits for an account."""
    return Waiting(FLOW, Side.CREATIO, target, "sales.contact", Side.CREATIO, record, field, NOON)


async def test_a_quiet_poll_reads_everything_with_one_request(ledger: TableLedger) -> None:
    """Settings, watermarks and pauses of all flows come back, with their ETags, from a single request (design 10)."""
    flow = FlowSettings(FLOW, interval_ms=1, query_start=NOON, sleep=(SleepWindow("22:00:00", "06:00:00", "Europe/Berlin"),))
    saved_flow = await ledger.save_flow(flow)
    marks = [Watermark(FLOW, side, "p" * 9, "hash", complete=True, saved_at=NOON) for side in Side]
    saved_marks = [await ledger.save_watermark(mark) for mark in marks]
    await ledger.pause_account(AccountThrottle("creatio", NOON))
    await ledger.take_slot("creatio", "w1", 2, NOON + HOUR)
    before = ledger.requests
    state = await ledger.poll_state()
    assert ledger.requests - before == 1
    assert state.flows == {FLOW: saved_flow}
    assert replace(saved_flow, etag=None) == flow
    assert state.watermarks == {(FLOW, mark.side): mark for mark in saved_marks}
    assert [(name, pause.pause_until) for name, pause in state.throttles.items()] == [("creatio", NOON)]
    assert (await ledger.save_flow(replace(state.flows[FLOW], started=False))).started is False


async def test_a_watermark_advances_by_its_etag_only(ledger: TableLedger) -> None:
    """The first save is create-only, a later one needs the ETag; of two pollers one is told Stale (law 11)."""
    first = await ledger.save_watermark(Watermark(FLOW, Side.CREATIO, "1", "hash", complete=False, saved_at=NOON))
    with pytest.raises(Stale):
        await ledger.save_watermark(replace(first, etag=None))
    second = await ledger.save_watermark(replace(first, position="2"))
    with pytest.raises(Stale):
        await ledger.save_watermark(replace(first, position="3"))
    assert (await ledger.poll_state()).watermarks == {(FLOW, Side.CREATIO): second}


async def test_a_long_position_survives(ledger: TableLedger) -> None:
    """A position far beyond the 64 KiB of one property comes back whole, and no piece of it stays when a short one follows."""
    long = Watermark(FLOW, Side.DYNAMICS, "漢😀x" * 40_000, "hash", complete=True, saved_at=NOON)
    saved = await ledger.save_watermark(long)
    assert (await ledger.poll_state()).watermarks[FLOW, Side.DYNAMICS].position == long.position
    await ledger.save_watermark(replace(saved, position="short"))
    assert (await ledger.poll_state()).watermarks[FLOW, Side.DYNAMICS].position == "short"


async def test_lost_replies_to_single_rows_are_not_lost_races(ledger: TableLedger, storage: Storage) -> None:
    """An insert and an update whose replies are lost count as saved, with an ETag that the next update can use."""
    await ledger.save_flow(FlowSettings("other"))
    with lost_replies(storage, "POST") as lost:
        saved = await ledger.save_flow(FlowSettings(FLOW))
    assert len(lost) == 1
    with lost_replies(storage, "PUT") as lost:
        saved = await ledger.save_flow(replace(saved, interval_ms=5))
    assert len(lost) == 1
    await ledger.save_flow(replace(saved, interval_ms=6))
    assert (await ledger.poll_state()).flows[FLOW].interval_ms == 6


async def test_the_later_pause_stays(ledger: TableLedger) -> None:
    """Whatever the order, also from many instances at once, the account's longest pause is kept."""
    moments = [NOON + minutes * timedelta(minutes=1) for minutes in (3, 9, 1, 7)]
    await asyncio.gather(*(ledger.pause_account(AccountThrottle("dataverse", moment)) for moment in moments))
    await ledger.pause_account(AccountThrottle("dataverse", NOON))
    assert (await ledger.poll_state()).throttles["dataverse"].pause_until == max(moments)


async def test_slots_are_never_shared(ledger: TableLedger, clock: FakeClock) -> None:
    """Of six workers that ask at once exactly as many as there are slots get one; a slot is free again when given back or run out."""
    until = NOON + HOUR
    got = await asyncio.gather(*(ledger.take_slot("creatio", f"w{number}", 3, until) for number in range(6)))
    held = [slot for slot in got if slot is not None]
    assert len(held) == len(set(held)) <= 3
    rest = [await ledger.take_slot("creatio", f"x{number}", 3, until) for number in range(4)]
    assert sorted(held + [slot for slot in rest if slot is not None]) == ["000", "001", "002"]
    winner = next(number for number, slot in enumerate(got) if slot is not None)
    await ledger.free_slot("creatio", str(got[winner]), "somebody else")
    assert await ledger.take_slot("creatio", "late", 3, until) is None
    await ledger.free_slot("creatio", str(got[winner]), f"w{winner}")
    assert await ledger.take_slot("creatio", "late", 3, until) == got[winner]
    assert await ledger.take_slot("creatio", "late", 3, until) == got[winner]
    assert await ledger.take_slot("creatio", "later", 3, until) is None
    clock.now = until
    assert await ledger.take_slot("creatio", "later", 3, until + HOUR) is not None


async def test_a_slot_is_given_back_with_one_request(ledger: TableLedger, storage: Storage, prefix: str, clock: FakeClock) -> None:
    """Who took a slot frees it without reading it, renewed or not; a restarted process, or one that lost it meanwhile, reads first."""
    other = TableLedger(storage, prefix, clock)
    await ledger.take_slot("creatio", "w1", 1, NOON + HOUR)
    assert await ledger.take_slot("creatio", "w1", 1, NOON + 2 * HOUR) == "000"
    before = ledger.requests
    await ledger.free_slot("creatio", "000", "w1")
    assert ledger.requests - before == 1
    assert await ledger.take_slot("creatio", "w2", 1, NOON + HOUR) == "000"
    await other.free_slot("creatio", "000", "w2")
    assert await ledger.take_slot("creatio", "w3", 1, NOON + HOUR) == "000"
    clock.now = NOON + HOUR
    assert await other.take_slot("creatio", "w4", 1, NOON + 2 * HOUR) == "000"
    await ledger.free_slot("creatio", "000", "w3")
    assert await ledger.take_slot("creatio", "w5", 1, NOON + 2 * HOUR) is None
    with lost_replies(storage, "DELETE") as lost:
        await other.free_slot("creatio", "000", "w4")
    assert len(lost) == 1
    assert await ledger.take_slot("creatio", "w5", 1, NOON + 2 * HOUR) == "000"


async def test_batches_live_from_open_to_closed(ledger: TableLedger) -> None:
    """A batch comes back whole, is saved by ETag, is listed while open or parked, and can still be read when closed."""
    await ledger.create_batches([batch("b1"), batch("b2"), batch("b3", flow="sales.contact")])
    first = await ledger.get_batch(FLOW, "b1")
    assert first is not None
    assert replace(first, etag=None) == batch("b1")
    parked = await ledger.save_batch(replace(first, state=BatchState.PARKED, attempt=1, touched=NOON + SECOND, counts={Outcome.WAITING: 2}))
    for outdated in (first, replace(first, state=BatchState.CLOSED)):
        with pytest.raises(Stale):
            await ledger.save_batch(outdated)
    assert [one.id for one in await ledger.open_batches(FLOW)] == ["b1", "b2"]
    closed = await ledger.save_batch(replace(parked, state=BatchState.CLOSED))
    assert [one.id for one in await ledger.open_batches(FLOW)] == ["b2"]
    assert await ledger.get_batch(FLOW, "b1") == closed
    for late in (parked, replace(parked, state=BatchState.CLOSED)):
        with pytest.raises(Stale):
            await ledger.save_batch(late)
    reopened = await ledger.save_batch(replace(closed, state=BatchState.OPEN))
    assert await ledger.get_batch(FLOW, "b1") == reopened
    assert await ledger.get_batch(FLOW, "none") is None


async def test_batches_are_create_only_and_all_or_none(ledger: TableLedger) -> None:
    """A batch id that is taken is Stale and nothing of that transaction is inserted; 250 batches take three requests."""
    await ledger.create_batches([batch("b000")])
    before = ledger.requests
    await ledger.create_batches([batch(f"n{number:03d}") for number in range(250)])
    assert ledger.requests - before == 3
    with pytest.raises(Stale):
        await ledger.create_batches([batch("m1"), batch("b000")])
    assert await ledger.get_batch(FLOW, "m1") is None


async def test_a_lost_reply_to_a_close_is_not_a_lost_race(ledger: TableLedger, storage: Storage) -> None:
    """Closing a batch moves its row in one transaction; when the reply is lost the batch counts as closed, once."""
    await ledger.create_batches([batch("b1")])
    opened = await ledger.get_batch(FLOW, "b1")
    assert opened is not None
    with lost_replies(storage, "POST") as lost:
        closed = await ledger.save_batch(replace(opened, state=BatchState.CLOSED))
    assert len(lost) == 1
    assert await ledger.get_batch(FLOW, "b1") == closed


async def test_only_untouched_batches_are_listed_for_the_sweep(ledger: TableLedger) -> None:
    """With a moment, open batches last touched before it are listed; one never touched counts from its making."""
    made = [batch("b1"), batch("b2", touched=NOON + HOUR), batch("b3", created=NOON + HOUR), batch("b4", touched=NOON + SECOND)]
    made.append(batch("b5", touched=NOON + 2 * SECOND))
    await ledger.create_batches(made)
    assert [one.id for one in await ledger.open_batches(FLOW, NOON + 2 * SECOND)] == ["b1", "b4"]


async def test_runs_are_listed_newest_first(ledger: TableLedger) -> None:
    """The latest runs come first, as many as asked for; saving a run again replaces it."""
    runs = [Run(f"r{number}", FLOW, RunKind.SCHEDULED, NOON + number * HOUR) for number in range(5)]
    for run in runs:
        await ledger.save_run(run)
    ended = replace(runs[4], ended=NOON + 5 * HOUR, changes=7, error="ledger.busy")
    await ledger.save_run(ended)
    assert await ledger.runs(FLOW, 3) == [ended, runs[3], runs[2]]
    assert len(await ledger.runs(FLOW)) == 5


async def test_quiet_runs_fold_into_one_row_an_hour(ledger: TableLedger, storage: Storage, prefix: str) -> None:
    """Two instances count an hour's quiet runs in one row and lose none; the next hour has its own; a count is one request as a rule."""
    other = TableLedger(storage, prefix)
    for number in range(3):
        await asyncio.gather(*(one.fold_quiet_run(FLOW, NOON + (2 * number) * SECOND) for one in (ledger, other)))
    await ledger.fold_quiet_run(FLOW, NOON + HOUR)
    before = ledger.requests
    await ledger.fold_quiet_run(FLOW, NOON + HOUR + SECOND)
    assert ledger.requests - before == 1
    assert [(run.started, run.folded, run.ended) for run in await ledger.runs(FLOW)] == [
        (NOON + HOUR, 2, NOON + HOUR + SECOND),
        (NOON, 6, NOON + 4 * SECOND),
    ]


async def test_purge_removes_old_work_and_keeps_the_rest(ledger: TableLedger) -> None:
    """Closed batches and runs before the moment go, of every flow, more than a transaction holds; open batches and bindings stay."""
    old = [batch(f"b{number:03d}", state=BatchState.CLOSED, touched=NOON) for number in range(120)]
    await ledger.create_batches([*old, batch("other", flow="sales.contact", state=BatchState.CLOSED), batch("open")])
    await ledger.create_batches([batch("young", state=BatchState.CLOSED, touched=NOON + 2 * HOUR)])
    for name, started in (("old", NOON), ("edge", NOON + HOUR), ("new", NOON + 2 * HOUR)):
        await ledger.save_run(Run(name, FLOW, RunKind.BULK, started))
    await ledger.save_bindings([binding("c1", "d1")])
    assert await ledger.purge(NOON + HOUR) == 122
    assert [run.id for run in await ledger.runs(FLOW)] == ["new", "edge"]
    assert await ledger.get_batch(FLOW, "b007") is None
    assert await ledger.get_batch(FLOW, "open") is not None
    assert await ledger.get_batch(FLOW, "young") is not None
    assert len(await ledger.bindings(FLOW, Side.CREATIO, ["c1"])) == 1
    assert await ledger.purge(NOON + HOUR) == 0


async def take(ledger: TableLedger, keys: Sequence[str], holder: str, until: datetime) -> str | None:
    """Reserve the keys of one record; return who is in the way."""
    return (await ledger.reserve({holder: keys}, until))[holder]


async def test_reservations_are_all_or_none(ledger: TableLedger) -> None:
    """A record that misses one key gets none of its keys, and learns who is in the way; asking again for own keys succeeds (law 7)."""
    until = NOON + HOUR
    assert await take(ledger, ["m", "z"], "flow a", until) is None
    assert await take(ledger, ["z", "b", "a"], "flow b", until) == "flow a"
    assert await take(ledger, ["a", "b"], "flow c", until) is None
    assert await take(ledger, ["z", "m"], "flow a", until) is None
    await ledger.release({"flow a": ["z", "m", "a"]})
    assert await take(ledger, ["z"], "flow b", until) is None
    assert await take(ledger, ["a"], "flow b", until) == "flow c"


async def test_reserving_and_giving_back_cost_a_request_each(ledger: TableLedger, storage: Storage) -> None:
    """The keys of a record travel together, and a lost reply on either way is resolved without losing or leaving a reservation."""
    await take(ledger, ["other"], "other", NOON)
    before = (ledger.requests, ledger.operations)
    assert await take(ledger, ["a", "b", "c"], "me", NOON) is None
    await ledger.release({"me": ["a", "b", "c"]})
    assert (ledger.requests - before[0], ledger.operations - before[1]) == (2, 6)
    with lost_replies(storage, "POST") as lost:
        assert await take(ledger, ["a", "b"], "me", NOON) is None
    assert len(lost) == 1
    assert await take(ledger, ["b"], "you", NOON) == "me"
    with lost_replies(storage, "POST") as lost:
        await ledger.release({"me": ["a", "b"]})
    assert len(lost) == 1
    assert await take(ledger, ["a", "b"], "you", NOON) is None


async def test_renewed_reservations_are_given_back_too(ledger: TableLedger, storage: Storage, prefix: str) -> None:
    """What another process renewed for the same record, or reserved with other keys, is given back; what moved to others stays."""
    other = TableLedger(storage, prefix)
    await take(ledger, ["a", "b"], "me", NOON)
    assert await take(other, ["b", "c"], "me", NOON + HOUR) is None
    await ledger.release({"me": ["a", "b", "c"]})
    await take(ledger, ["a", "b"], "me", NOON)
    assert await take(other, ["a"], "me", NOON + HOUR) is None
    await ledger.release({"me": ["a", "b"]})
    assert await take(other, ["a", "b", "c"], "you", NOON) is None
    await ledger.release({"me": ["a", "b", "c"]})
    assert await take(ledger, ["c"], "me", NOON) == "you"


async def test_two_records_with_the_same_keys_never_both_reserve(ledger: TableLedger) -> None:
    """Many that want the same keys at once, in any order: exactly one gets them, so nobody waits for nothing."""
    orders = [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]] * 3
    got = await asyncio.gather(*(take(ledger, keys, f"r{number}", NOON) for number, keys in enumerate(orders)))
    winners = [f"r{number}" for number, other in enumerate(got) if other is None]
    assert len(winners) == 1
    assert {other for other in got if other is not None} == set(winners)


async def test_the_keys_of_many_records_travel_together(ledger: TableLedger, storage: Storage, prefix: str) -> None:
    """A batch of a hundred records with two keys each is reserved in two transactions and given back in two, by any process."""
    await take(ledger, ["x"], "other", NOON)
    wanted = {f"r{number:03}": [f"a{number:03}", f"b{number:03}"] for number in range(100)}
    before = (ledger.requests, ledger.operations)
    assert await ledger.reserve(wanted, NOON) == dict.fromkeys(wanted)
    assert (ledger.requests - before[0], ledger.operations - before[1]) == (2, 200)
    await ledger.release(wanted)
    assert (ledger.requests - before[0], ledger.operations - before[1]) == (4, 400)
    with lost_replies(storage, "POST") as lost:
        assert await ledger.reserve(wanted, NOON) == dict.fromkeys(wanted)
    assert lost
    await TableLedger(storage, prefix).release(wanted)
    assert await take(ledger, ["a000", "b099", "a050"], "you", NOON) is None


async def test_a_key_that_is_held_keeps_only_its_own_record_out(ledger: TableLedger) -> None:
    """Of many records those whose keys others hold are told whom they wait for, and hold nothing; the rest have theirs (law 7)."""
    await ledger.reserve({"old 1": ["k3"], "old 2": ["k7", "k8"], "r5": ["k5"]}, NOON)
    wanted = {f"r{number}": [f"k{number}", f"m{number}"] for number in range(10)}
    expected = dict.fromkeys(wanted) | {"r3": "old 1", "r7": "old 2", "r8": "old 2"}
    assert await ledger.reserve(wanted, NOON) == expected
    assert await take(ledger, ["m3", "m7", "m8"], "free", NOON) is None
    assert await take(ledger, ["m2"], "free", NOON) == "r2"
    await ledger.release(wanted)
    assert await take(ledger, ["k3"], "free", NOON) == "old 1"


async def test_of_two_records_of_one_batch_the_first_gets_the_key(ledger: TableLedger) -> None:
    """Doubles in one batch: the first is served, the others wait for it, and what they want besides is not held for them."""
    wanted = {"first": ["a", "b"], "second": ["b", "c"], "third": ["c", "d"], "none": []}
    assert await ledger.reserve(wanted, NOON) == {"first": None, "second": "first", "third": None, "none": None}
    await ledger.release({"first": ["a", "b"], "second": ["b", "c"], "third": ["c", "d"]})
    assert await take(ledger, ["a", "b", "c", "d"], "free", NOON) is None


async def test_batches_that_want_the_same_keys_share_them_without_loss(ledger: TableLedger, storage: Storage, prefix: str) -> None:
    """Two workers reserve the same forty keys for records of their own, at once: each key ends up with one of them, none is half held."""
    other = TableLedger(storage, prefix)
    mine = {f"m{number}": [f"k{number}", f"k{number + 1}"] for number in range(0, 40, 2)}
    yours = {f"y{number}": [f"k{number + 1}", f"k{number + 2}"] for number in range(0, 38, 2)}
    got = await asyncio.gather(ledger.reserve(mine, NOON), other.reserve(yours, NOON))
    holders: dict[str, str] = {}
    for answers, wanted in zip(got, (mine, yours), strict=True):
        for holder, in_the_way in answers.items():
            if in_the_way is None:
                assert not set(wanted[holder]) & set(holders)
                holders |= dict.fromkeys(wanted[holder], holder)
    for key in sorted({key for keys in (mine | yours).values() for key in keys}):
        assert await take(ledger, [key], "visitor", NOON) == holders.get(key)


async def test_a_reservation_that_ran_out_is_held_until_it_is_retaken(ledger: TableLedger, clock: FakeClock) -> None:
    """Time alone frees no key (law 7): `reserve` names the old holder; `retake` moves that holder's keys only, after the deadline only."""
    await take(ledger, ["k1", "k2"], "old", NOON + SECOND)
    assert not await ledger.retake(["k1"], "new", "old", NOON + HOUR)
    clock.now = NOON + SECOND
    assert await take(ledger, ["k1"], "new", NOON + HOUR) == "old"
    assert not await ledger.retake(["k1"], "new", "third", NOON + HOUR)
    both = await asyncio.gather(*(ledger.retake(["k1", "k2"], name, "old", NOON + HOUR) for name in ("new", "rival")))
    assert sorted(both) == [False, True]
    await ledger.release({"old": ["k1", "k2"]})
    holder = await take(ledger, ["k1"], "visitor", NOON)
    assert holder in {"new", "rival"}
    assert await ledger.retake(["k1"], "visitor", str(holder), NOON) is False


async def test_failures_count_and_clear(ledger: TableLedger) -> None:
    """A failure that comes again takes the new facts and counts; clearing by record or field leaves the others, few or many at a time."""
    await ledger.save_failures([failure("a"), failure("a", "Name"), failure("a", "Zip"), failure("b"), failure("a", side=Side.DYNAMICS)])
    await ledger.save_failures([failure("a", "Name", at=NOON + HOUR), failure("", side=None), failure("a", flow="sales.contact")])
    found = {(one.side, one.record_id, one.field): one for one in await ledger.failures(FLOW)}
    assert len(found) == 6
    assert found[Side.CREATIO, "a", "Name"] == replace(failure("a", "Name", at=NOON + HOUR), count=2)
    await ledger.clear_failures(FLOW, Side.CREATIO, {"a": ["Name"]})
    assert {(one.record_id, one.field) for one in await ledger.failures(FLOW) if one.side is Side.CREATIO} == {
        ("a", ""),
        ("a", "Zip"),
        ("b", ""),
    }
    await ledger.clear_failures(FLOW, Side.CREATIO, {"a": None, "c": None, "d": ["x"], "e": None})
    assert {(one.side, one.record_id) for one in await ledger.failures(FLOW)} == {(Side.CREATIO, "b"), (Side.DYNAMICS, "a"), (None, "")}
    assert len(await ledger.failures("sales.contact")) == 1


async def test_clearing_nothing_costs_one_request(ledger: TableLedger) -> None:
    """A batch of a hundred good records asks once whether there is an old failure or conflict of theirs."""
    await ledger.save_failures([failure("other")])
    before = ledger.requests
    await ledger.clear_failures(FLOW, Side.CREATIO, {f"r{number}": None for number in range(100)})
    await ledger.clear_conflicts(FLOW, [(f"c{number}", "d", "") for number in range(100)])
    assert ledger.requests - before == 2


async def test_conflicts_are_kept_once_and_cleared(ledger: TableLedger) -> None:
    """One row for each record and field, the latest facts in it; cleared by key, few or many at a time."""
    conflicts = [Conflict(FLOW, f"c{number}", f"d{number}", "Name", "both changed", NOON) for number in range(6)]
    whole = Conflict(FLOW, "c0", "", "", "ambiguous", NOON, ("x", "y"))
    await ledger.save_conflicts([*conflicts, whole, replace(whole, reason="again")])
    assert replace(whole, reason="again") in await ledger.conflicts(FLOW)
    assert len(await ledger.conflicts(FLOW)) == 7
    await ledger.clear_conflicts(FLOW, [("c0", "d0", "Name"), ("c0", "d0", "Zip")])
    await ledger.clear_conflicts(FLOW, [(f"c{number}", f"d{number}", "Name") for number in range(1, 5)])
    assert set(await ledger.conflicts(FLOW)) == {conflicts[5], replace(whole, reason="again")}


async def test_waiting_rows_are_found_by_what_they_wait_for(ledger: TableLedger) -> None:
    """Who waits for a record is found by its id, few or many at a time; a row that is there keeps its time; cleared rows are gone."""
    rows = [waiting("a1", "x"), waiting("a1", "y", "AccountId"), waiting("a2", "x"), waiting("a10", "z")]
    await ledger.save_waiting(rows)
    await ledger.save_waiting([replace(rows[0], since=NOON + HOUR)])
    assert set(await ledger.waiting_for(FLOW, Side.CREATIO, ["a1"])) == set(rows[:2])
    assert set(await ledger.waiting_for(FLOW, Side.CREATIO, ["a1", "a2", "a3", "a4"])) == set(rows[:3])
    assert await ledger.waiting_for(FLOW, Side.DYNAMICS, ["a1"]) == []
    other = replace(rows[0], target_flow="sales.contact")
    await ledger.save_waiting([other])
    assert set(await ledger.all_waiting()) == {*rows, other}
    await ledger.clear_waiting([*rows[:3], rows[0], waiting("never", "there")])
    assert set(await ledger.all_waiting()) == {rows[3], other}


async def test_waiting_rows_are_inserted_together(ledger: TableLedger, storage: Storage) -> None:
    """A request a hundred rows; where some are there already, exactly those that were not are told, each once, lost replies or not."""
    rows = [waiting("a1", f"x{number}") for number in range(120)]
    await ledger.save_waiting([waiting("b", "b")])
    before = (ledger.requests, ledger.operations)
    assert await ledger.save_waiting([*rows, rows[0]]) == rows
    assert (ledger.requests - before[0], ledger.operations - before[1]) == (2, 120)
    more = [waiting("a2", "new"), replace(rows[3], since=NOON + HOUR), waiting("a2", "newer", "AccountId")]
    assert await ledger.save_waiting(more) == [more[0], more[2]]
    assert await ledger.save_waiting(more) == []
    with lost_replies(storage, "POST") as lost:
        assert await ledger.save_waiting([waiting("a3", "z")]) == [waiting("a3", "z")]
    assert lost
    assert set(await ledger.all_waiting()) == {*rows, more[0], more[2], waiting("a3", "z"), waiting("b", "b")}


async def test_all_instances_agree_on_one_data_key(ledger: TableLedger) -> None:
    """Of several instances that offer a data key on first start, all get the same one back, and it is there later."""
    got = await asyncio.gather(*(ledger.keep_data_key("2026/1", f"wrapped-{number}") for number in range(5)))
    assert len(set(got)) == 1
    assert await ledger.data_keys() == {"2026/1": got[0]}


async def test_a_missing_table_is_empty_and_made_by_the_first_write(ledger: TableLedger) -> None:
    """Before anything was written every read finds nothing, without an error, and removing is harmless."""
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1"]) == {}
    assert await ledger.open_batches(FLOW) == []
    assert await ledger.purge(NOON) == 0
    await ledger.release({"nobody": ["k"]})
    await ledger.clear_waiting([waiting("a", "b")])
    await ledger.save_conflicts([Conflict(FLOW, "c", "d", "", "both changed", NOON)])
    assert len(await ledger.conflicts(FLOW)) == 1


async def test_rows_of_a_newer_version_are_refused_everywhere(ledger: TableLedger, storage: Storage, prefix: str, clock: FakeClock) -> None:
    """Settings, batches and reservations that a newer version wrote raise its code, instead of being half understood."""
    await ledger.save_flow(FlowSettings(FLOW))
    await ledger.create_batches([batch("b1")])
    await ledger.reserve({"old": ["k1"]}, NOON)
    clock.now = NOON + HOUR
    for table in ("State", "Work"):
        client = storage.tables().get_table_client(prefix + table)
        async for row in client.list_entities():
            await client.update_entity({**row, "v": 2})
    for read in (ledger.poll_state(), ledger.open_batches(FLOW), ledger.get_batch(FLOW, "b1"), ledger.retake(["k1"], "new", "old", NOON)):
        with pytest.raises(TandemError, match=r"message\.future_version"):
            await read
