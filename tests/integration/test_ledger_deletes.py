"""What the laws of deletes, pins and walks remember, on a real Azurite.

What the engine's tests lean on is asked of the fake ledger too, so that it promises no more and no less than the tables.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.binding import Binding, BindingState, Bound, BoundPage
from shared.core.census import mark_of
from shared.core.document import LINE
from shared.core.errors import Stale
from shared.core.records import Side, Stamp
from shared.core.work import BatchState, Census, DeleteCount, HeldDelete, Pin, RunKind, Waiting
from shared.ledger.store import TableLedger
from tests.engine.fake_ledger import FakeLedger
from tests.integration.ledger_samples import FLOW, NOON, SECOND, FakeClock, batch, binding, field_state


@pytest.fixture(params=["tables", "memory"])
def either(request: pytest.FixtureRequest, clock: FakeClock) -> TableLedger | FakeLedger:
    """Return an empty ledger, on the emulator or in memory."""
    if request.param == "memory":
        return FakeLedger(lambda _step: None, clock)
    tables: TableLedger = request.getfixturevalue("ledger")
    return tables


async def test_pins_and_censuses_come_with_the_poll_state_and_move_by_their_etag(ledger: TableLedger) -> None:
    """Both are read by the one query of a poll; a second writer with an old ETag is told Stale."""
    pin = await ledger.save_pin(Pin("environment:creatio", "site/crm.example", NOON))
    census = await ledger.save_census(Census(FLOW, Side.CREATIO, NOON, ("a", "b"), asked=NOON, due=True))
    before = ledger.requests
    state = await ledger.poll_state()
    assert ledger.requests - before == 1
    assert state.pins == {"environment:creatio": pin}
    assert state.censuses == {(FLOW, Side.CREATIO): census}
    await ledger.save_pin(replace(pin, value="site/other.example"))
    for stale in (ledger.save_pin(pin), ledger.save_pin(replace(pin, etag=None)), ledger.save_census(replace(census, etag=None))):
        with pytest.raises(Stale):
            await stale


async def test_a_scan_meets_every_binding_once_whatever_its_ids(either: TableLedger | FakeLedger) -> None:
    """Pages go on where the one before ended; pointers are passed by; a record known on one side only is met too."""
    ended = binding("c2", "d2", state=BindingState.ENDED, gone=(Side.CREATIO,), merged_into="d9")
    refused = binding(None, "d3", state=BindingState.REFUSED, creatio_stamp=None)
    saved = await either.save_bindings([*[binding(f"b{n}", f"e{n}") for n in range(5)], ended, refused])
    assert not any(isinstance(one, Stale) for one in saved)
    await either.save_bindings([binding("b0", "e0", flow="sales.contact")])

    met, after = [], None
    while True:
        page = await either.scan_bindings(FLOW, after, limit=3)
        met += page.bound
        if page.following is None:
            break
        after = page.following

    assert sorted((one.creatio_id or "", one.dynamics_id or "") for one in met) == sorted(
        [*[(f"b{n}", f"e{n}") for n in range(5)], ("c2", "d2"), ("", "d3")]
    )
    one = next(one for one in met if one.dynamics_id == "d2")
    assert (one.state, one.gone, one.stamp_on(Side.DYNAMICS)) == (BindingState.ENDED, (Side.CREATIO,), ended.dynamics_stamp)
    found = (await either.bindings(FLOW, Side.DYNAMICS, ["d2"]))["d2"]
    assert (found.gone, found.merged_into) == ((Side.CREATIO,), "d9")


async def rest_of_scan(ledger: TableLedger | FakeLedger, page: BoundPage) -> list[tuple[str | None, str | None]]:
    """Return the ids that a page and those after it hold."""
    met = [(one.creatio_id, one.dynamics_id) for one in page.bound]
    while page.following is not None:
        page = await ledger.scan_bindings(FLOW, page.following, limit=3)
        met += [(one.creatio_id, one.dynamics_id) for one in page.bound]
    return met


@pytest.mark.parametrize("creatio_id", ["a0", "b9"])
async def test_a_scan_meets_a_binding_once_that_gets_its_creatio_id_meanwhile(either: TableLedger | FakeLedger, creatio_id: str) -> None:
    """Its row moves to where the scan has been (a0) or is still to come (b9), and is written again before the scan ends."""
    samples = [binding(None, "f1", state=BindingState.REFUSED), *[binding(f"b{n}", f"e{n}") for n in range(4)]]
    saved = await either.save_bindings(samples)
    first = await either.scan_bindings(FLOW, None, limit=3)

    refused = saved[0]
    assert isinstance(refused, Binding)
    [bound] = await either.save_bindings([replace(refused, creatio_id=creatio_id, state=BindingState.CREATING)])
    assert isinstance(bound, Binding)
    later = Stamp(NOON + SECOND, "9")
    await either.save_bindings([replace(bound, state=BindingState.BOUND, dynamics_stamp=later, gone=(Side.CREATIO,))])

    expected = [*[(f"b{n}", f"e{n}") for n in range(4)], (creatio_id, "f1")]
    assert sorted(str(dynamics_id) for _, dynamics_id in await rest_of_scan(either, first)) == [dynamics_id for _, dynamics_id in expected]
    assert sorted(await rest_of_scan(either, await either.scan_bindings(FLOW, None, limit=3)), key=str) == sorted(expected, key=str)


async def test_a_scan_that_begins_later_meets_a_moved_binding_at_its_full_row(ledger: TableLedger, clock: FakeClock) -> None:
    """The mark of a move counts for scans under way only: later ones cost a request a page, with all that they need."""
    [refused] = await ledger.save_bindings([binding(None, "f1", state=BindingState.REFUSED)])
    assert isinstance(refused, Binding)
    await ledger.save_bindings([replace(refused, creatio_id="a0", state=BindingState.ENDED, gone=(Side.CREATIO,))])
    clock.now += timedelta(hours=1)
    before = ledger.requests
    page = await ledger.scan_bindings(FLOW)
    assert ledger.requests - before == 1
    assert page.bound == [Bound("a0", "f1", BindingState.ENDED, refused.creatio_stamp, refused.dynamics_stamp, (Side.CREATIO,))]


async def test_a_scan_tells_which_lines_a_document_has(either: TableLedger | FakeLedger) -> None:
    """It reads one mark for them all; a binding without lines has none, and other lines have another mark."""
    names = [f"{LINE}{number}" for number in range(3)]
    for place, lines in enumerate([names, names[:2], []]):
        fields = {"Name=name": field_state(0), **{name: field_state(1) for name in lines}}
        await either.save_bindings([binding(f"a{place}", f"b{place}", fields=fields)])
    page = await either.scan_bindings(FLOW)
    assert {one.creatio_id: one.lines for one in page.bound} == {"a0": mark_of(names), "a1": mark_of(reversed(names[:2])), "a2": 0}
    assert len({one.lines for one in page.bound}) == len(page.bound)


async def test_a_scan_goes_on_when_bindings_come_and_go(either: TableLedger | FakeLedger) -> None:
    """The row that a page ended with may be gone, and new ones may lie on either side of it: the others are met all the same, once."""
    saved = await either.save_bindings([binding(f"b{n}", None, state=BindingState.REFUSED) for n in range(6)])
    first = await either.scan_bindings(FLOW, None, limit=3)
    last = next(one for one in saved if isinstance(one, Binding) and one.creatio_id == first.bound[-1].creatio_id)
    await either.forget_binding(last)
    await either.save_bindings([binding("a0", "e8"), binding("c0", "e9")])
    met = [creatio_id for creatio_id, _ in await rest_of_scan(either, first)]
    assert [creatio_id for creatio_id in sorted(map(str, met)) if creatio_id.startswith("b")] == [f"b{n}" for n in range(6)]


async def test_the_batches_of_a_run_are_found_open_and_closed(either: TableLedger | FakeLedger) -> None:
    """A run's batches are listed whatever their state; those of another run are not; held ones count as open."""
    await either.create_batches(
        [batch("1"), batch("2", state=BatchState.HELD), batch("3", run="other"), batch("4", dry=True, kind=RunKind.ALIGN)]
    )
    first = await either.get_batch(FLOW, "1")
    assert first is not None
    await either.save_batch(replace(first, state=BatchState.CLOSED, items=(), counts={"updated": 2}))

    found = {one.id: one for one in await either.run_batches(FLOW, "run-1")}

    assert set(found) == {"1", "2", "4"}
    assert (found["1"].state, found["1"].counts, found["4"].dry) == (BatchState.CLOSED, {"updated": 2}, True)
    assert {one.id for one in await either.open_batches(FLOW)} == {"2", "3", "4"}
    assert await either.open_batches(FLOW, NOON) == []
    assert {one.id for one in await either.open_batches(FLOW, NOON + SECOND)} == {"2", "3", "4"}


async def test_deletes_are_counted_by_etag(either: TableLedger | FakeLedger) -> None:
    """The count of a flow's deletes is empty at first; of two workers that count at once one is told Stale."""
    empty = await either.delete_count(FLOW)
    assert empty == DeleteCount(FLOW)
    saved = await either.save_delete_count(replace(empty, sent={"creatio:a": NOON}))
    assert await either.delete_count(FLOW) == saved
    with pytest.raises(Stale):
        await either.save_delete_count(empty)


async def test_held_deletes_stay_until_they_are_cleared(either: TableLedger | FakeLedger) -> None:
    """A delete that is held twice is listed once, with its first time; clearing names side and record."""
    held = [HeldDelete(FLOW, Side.DYNAMICS, f"d{n}", f"c{n}", NOON) for n in range(3)]
    await either.hold_deletes(held)
    await either.hold_deletes([replace(held[0], at=NOON + SECOND)])
    assert sorted(await either.held_deletes(FLOW), key=lambda one: one.record_id) == held
    await either.clear_held(FLOW, [(Side.DYNAMICS, "d0"), (Side.CREATIO, "d1"), (Side.DYNAMICS, "never")])
    assert [one.record_id for one in await either.held_deletes(FLOW)] == ["d1", "d2"]
    assert await either.held_deletes("sales.contact") == []


async def test_own_deletes_are_known_by_system_and_table(either: TableLedger | FakeLedger) -> None:
    """What Tandem deleted in one table is not taken for a delete in another, and purging does not forget it."""
    await either.keep_own_deletes("dataverse", "account", ["a", "b"])
    await either.purge(NOON + timedelta(days=4000))
    assert await either.own_deletes("dataverse", "account", ["a", "c"]) == {"a"}
    assert await either.own_deletes("dataverse", "contact", ["a"]) == set()
    assert await either.own_deletes("creatio", "account", ["b"]) == set()
    await either.forget_own_deletes("dataverse", "account", ["b", "never kept"])
    assert await either.own_deletes("dataverse", "account", ["a", "b"]) == {"a"}


async def test_waiting_rows_tell_which_are_new_and_remember_what_was_told(either: TableLedger | FakeLedger) -> None:
    """Only a row that was not there asks for the record it waits for; a told row stays told when it is saved again."""
    rows = [Waiting(FLOW, Side.CREATIO, "target", "sales.contact", Side.CREATIO, f"r{n}", "f", NOON) for n in range(2)]
    assert await either.save_waiting(rows[:1]) == rows[:1]
    assert await either.save_waiting(rows) == rows[1:]
    await either.tell_waiting([replace(rows[0], since=NOON + SECOND)])
    await either.clear_waiting([rows[1]])
    await either.tell_waiting([rows[1]])
    assert await either.save_waiting([rows[0]]) == []
    assert await either.all_waiting() == [replace(rows[0], told=True)]
