"""What the laws of deletes, pins and walks remember, on a real Azurite."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.core.binding import BindingState
from shared.core.errors import Stale
from shared.core.records import Side
from shared.core.work import BatchState, Census, DeleteCount, HeldDelete, Pin, RunKind, Waiting
from shared.ledger.store import TableLedger
from tests.integration.ledger_samples import FLOW, NOON, SECOND, batch, binding


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


async def test_a_scan_meets_every_binding_once_whatever_its_ids(ledger: TableLedger) -> None:
    """Pages go on where the one before ended; pointers are passed by; a record known on one side only is met too."""
    ended = binding("c2", "d2", state=BindingState.ENDED, gone=(Side.CREATIO,), merged_into="d9")
    refused = binding(None, "d3", state=BindingState.REFUSED, creatio_stamp=None)
    saved = await ledger.save_bindings([*[binding(f"b{n}", f"e{n}") for n in range(5)], ended, refused])
    assert not any(isinstance(one, Stale) for one in saved)
    await ledger.save_bindings([binding("b0", "e0", flow="sales.contact")])

    met, after = [], None
    while True:
        page = await ledger.scan_bindings(FLOW, after, limit=3)
        met += page.bound
        if page.following is None:
            break
        after = page.following

    assert sorted((one.creatio_id or "", one.dynamics_id or "") for one in met) == sorted(
        [*[(f"b{n}", f"e{n}") for n in range(5)], ("c2", "d2"), ("", "d3")]
    )
    one = next(one for one in met if one.dynamics_id == "d2")
    assert (one.state, one.gone, one.stamp_on(Side.DYNAMICS)) == (BindingState.ENDED, (Side.CREATIO,), ended.dynamics_stamp)
    found = (await ledger.bindings(FLOW, Side.DYNAMICS, ["d2"]))["d2"]
    assert (found.gone, found.merged_into) == ((Side.CREATIO,), "d9")


async def test_the_batches_of_a_run_are_found_open_and_closed(ledger: TableLedger) -> None:
    """A run's batches are listed whatever their state; those of another run are not; held ones count as open."""
    await ledger.create_batches(
        [batch("1"), batch("2", state=BatchState.HELD), batch("3", run="other"), batch("4", dry=True, kind=RunKind.ALIGN)]
    )
    first = await ledger.get_batch(FLOW, "1")
    assert first is not None
    await ledger.save_batch(replace(first, state=BatchState.CLOSED, items=(), counts={"updated": 2}))

    found = {one.id: one for one in await ledger.run_batches(FLOW, "run-1")}

    assert set(found) == {"1", "2", "4"}
    assert (found["1"].state, found["1"].counts, found["4"].dry) == (BatchState.CLOSED, {"updated": 2}, True)
    assert {one.id for one in await ledger.open_batches(FLOW)} == {"2", "3", "4"}


async def test_deletes_are_counted_by_etag(ledger: TableLedger) -> None:
    """The count of a flow's deletes is empty at first; of two workers that count at once one is told Stale."""
    empty = await ledger.delete_count(FLOW)
    assert empty == DeleteCount(FLOW)
    saved = await ledger.save_delete_count(replace(empty, sent={"creatio:a": NOON}, approved=("creatio:b",)))
    assert await ledger.delete_count(FLOW) == saved
    with pytest.raises(Stale):
        await ledger.save_delete_count(empty)


async def test_held_deletes_stay_until_they_are_cleared(ledger: TableLedger) -> None:
    """A delete that is held twice is listed once, with its first time; clearing names side and record."""
    held = [HeldDelete(FLOW, Side.DYNAMICS, f"d{n}", f"c{n}", NOON) for n in range(3)]
    await ledger.hold_deletes(held)
    await ledger.hold_deletes([replace(held[0], at=NOON + SECOND)])
    assert sorted(await ledger.held_deletes(FLOW), key=lambda one: one.record_id) == held
    await ledger.clear_held(FLOW, [(Side.DYNAMICS, "d0"), (Side.CREATIO, "d1"), (Side.DYNAMICS, "never")])
    assert [one.record_id for one in await ledger.held_deletes(FLOW)] == ["d1", "d2"]
    assert await ledger.held_deletes("sales.contact") == []


async def test_own_deletes_are_known_by_system_and_table(ledger: TableLedger) -> None:
    """What Tandem deleted in one table is not taken for a delete in another, and purging does not forget it."""
    await ledger.keep_own_deletes("dataverse", "account", ["a", "b"])
    await ledger.purge(NOON + timedelta(days=4000))
    assert await ledger.own_deletes("dataverse", "account", ["a", "c"]) == {"a"}
    assert await ledger.own_deletes("dataverse", "contact", ["a"]) == set()
    assert await ledger.own_deletes("creatio", "account", ["b"]) == set()


async def test_waiting_rows_tell_which_are_new_and_remember_what_was_told(ledger: TableLedger) -> None:
    """Only a row that was not there asks for the record it waits for; a told row stays told when it is saved again."""
    rows = [Waiting(FLOW, Side.CREATIO, "target", "sales.contact", Side.CREATIO, f"r{n}", "f", NOON) for n in range(2)]
    assert await ledger.save_waiting(rows[:1]) == rows[:1]
    assert await ledger.save_waiting(rows) == rows[1:]
    await ledger.tell_waiting([rows[0]])
    await ledger.clear_waiting([rows[1]])
    await ledger.tell_waiting([rows[1]])
    assert await ledger.save_waiting([rows[0]]) == []
    assert await ledger.all_waiting() == [replace(rows[0], told=True)]
