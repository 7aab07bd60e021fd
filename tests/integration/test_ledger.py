"""Bindings on a real Azurite: laws 5, 6 and 8 of the design as far as the ledger keeps them, and what they cost."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from shared.core.binding import Binding, BindingState, Seen
from shared.core.errors import Stale, TandemError, Transient
from shared.core.records import Side, Stamp
from shared.ledger import tables
from shared.ledger.storage import Account, Storage
from shared.ledger.store import TableLedger
from tests.integration.ledger_samples import FLOW, NOON, SECOND, binding, field_state, lost_replies

HOSTILE_IDS = [
    "a/b",
    "a\\b",
    "#?%+",
    "tab\tline\n\x00\x7f\x9f",
    "O'Neil",
    "Ü漢😀",
    " ",
    "x" * 3000,
    "x" * 3001,
    "a:b",
    "=2F",
    "~",
    "A",
    "a",
]


async def save(ledger: TableLedger, *bindings: Binding) -> list[Binding]:
    """Save bindings and insist that each was saved."""
    return [insist(result) for result in await ledger.save_bindings(bindings)]


def insist(result: Binding | TandemError) -> Binding:
    """Return a saved binding, or raise the error that stands in its place."""
    if isinstance(result, TandemError):
        raise result
    return result


def verdicts(results: Sequence[Binding | TandemError]) -> list[str]:
    """Name each result: saved, or the error's kind."""
    return ["saved" if isinstance(result, Binding) else type(result).__name__ for result in results]


async def test_a_binding_comes_back_whole_from_either_side(ledger: TableLedger) -> None:
    """Every property of a binding survives the ledger, and both ids lead to the same binding with the same ETag."""
    whole = binding(
        "c1",
        "d1",
        state=BindingState.CREATING,
        generation=3,
        source=Side.CREATIO,
        owner_batch="b7",
        deadline=NOON,
        reserved=("k1", "k2"),
        note="first",
        fields={
            "Name": field_state(1)._replace(sent="s", sent_to=Side.DYNAMICS, sent_source="f", sent_over="o", refused="r", pending=True),
            "Zip": field_state(2),
        },
    )
    [saved] = await save(ledger, whole)
    assert replace(saved, etag=None) == whole
    assert await ledger.bindings(FLOW, Side.CREATIO, ["c1", "missing"]) == {"c1": saved}
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1", "missing"]) == {"d1": saved}
    assert await ledger.bindings("other.flow", Side.CREATIO, ["c1"]) == {}


async def test_a_forgotten_binding_sets_both_ids_free(ledger: TableLedger) -> None:
    """After a binding was forgotten its ids can be bound anew; one that moved meanwhile is not forgotten."""
    [first] = await save(ledger, binding("c1", "d1"))
    [moved] = await save(ledger, replace(first, note="moved"))
    with pytest.raises(Stale):
        await ledger.forget_binding(first)
    await ledger.forget_binding(moved)
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1"]) == {}
    [again] = await save(ledger, binding("c2", "d1"))
    assert (await ledger.bindings(FLOW, Side.DYNAMICS, ["d1"]))["d1"] == again


async def test_of_two_writers_one_wins(ledger: TableLedger) -> None:
    """Two workers that save the same binding from the same state: exactly one is saved, the other is told Stale, nothing is mixed."""
    [start] = await save(ledger, binding("c1", "d1"))
    both = await asyncio.gather(*(ledger.save_bindings([replace(start, note=name)]) for name in ("one", "two")))
    results = [result for results in both for result in results]
    assert sorted(verdicts(results)) == ["Stale", "saved"]
    [winner] = [result for result in results if isinstance(result, Binding)]
    assert (await ledger.bindings(FLOW, Side.DYNAMICS, ["d1"]))["d1"] == winner


async def test_a_binding_without_etag_is_insert_only(ledger: TableLedger) -> None:
    """An intent to create never overwrites a binding that is there, whichever id is taken (law 6)."""
    [first] = await save(ledger, binding("c1", "d1"))
    others = [binding("c1", "d2"), binding("c2", "d1"), binding("c1", None), binding(None, "d1")]
    for other in others:
        assert verdicts(await ledger.save_bindings([other])) == ["Stale"]
    assert await ledger.bindings(FLOW, Side.CREATIO, ["c1", "c2"]) == {"c1": first}
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1", "d2"]) == {"d1": first}


async def test_a_dynamics_id_is_in_one_binding_only(ledger: TableLedger) -> None:
    """A binding that gains a Dynamics id which another one holds is Stale and stays as it was: within one call too, and for tombstones."""
    [held, waiting] = await save(ledger, binding("c1", "d1", state=BindingState.ENDED), binding("c2", None))
    results = await ledger.save_bindings([replace(waiting, dynamics_id="d1")])
    assert verdicts(results) == ["Stale"]
    assert await ledger.bindings(FLOW, Side.CREATIO, ["c2"]) == {"c2": waiting}
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1"]) == {"d1": held}
    results = await ledger.save_bindings([binding("c3", "d3"), binding("c4", "d3")])
    assert verdicts(results) == ["saved", "Stale"]
    assert set(await ledger.bindings(FLOW, Side.CREATIO, ["c3", "c4"])) == {"c3"}


async def test_one_flow_does_not_block_another(ledger: TableLedger) -> None:
    """The same ids may be bound in two flows, saved in one call."""
    pair = [binding("c1", "d1"), binding("c1", "d1", flow="sales.contact")]
    assert verdicts(await ledger.save_bindings(pair)) == ["saved", "saved"]


async def test_ids_come_and_go(ledger: TableLedger) -> None:
    """Rows follow the ids: a side that is learned later, replaced, or lost leaves no row behind and stays readable from both sides."""
    [current] = await save(ledger, binding(None, "d1"))
    steps: list[tuple[str | None, str | None]] = [
        ("c1", "d1"),
        ("c1", "d2"),
        ("c2", "d2"),
        ("c2", None),
        ("c3", "d3"),
        (None, "d3"),
        ("c4", None),
    ]
    for creatio_id, dynamics_id in steps:
        gone = current
        [current] = await save(ledger, replace(current, creatio_id=creatio_id, dynamics_id=dynamics_id))
        by_creatio = await ledger.bindings(FLOW, Side.CREATIO, ["c1", "c2", "c3", "c4"])
        by_dynamics = await ledger.bindings(FLOW, Side.DYNAMICS, ["d1", "d2", "d3"])
        assert by_creatio == ({creatio_id: current} if creatio_id else {})
        assert by_dynamics == ({dynamics_id: current} if dynamics_id else {})
        assert verdicts(await ledger.save_bindings([replace(gone, note="late")])) == ["Stale"]


async def test_one_stale_binding_does_not_hold_up_the_others(ledger: TableLedger) -> None:
    """Of a hundred bindings in shared transactions the stale ones fail alone (law 13): one, and so many that each is tried by itself."""
    saved = await save(ledger, *(binding(f"c{number}", f"d{number}") for number in range(100)))
    for stale in ({17}, {3, 4, 20, 49, 50, 99}):
        await save(ledger, *(replace(saved[number], note="other") for number in sorted(stale)))
        results = await ledger.save_bindings([replace(one, note="mine", state=BindingState.ENDED) for one in saved])
        assert verdicts(results) == ["Stale" if number in stale else "saved" for number in range(100)]
        found = await ledger.bindings(FLOW, Side.DYNAMICS, [f"d{number}" for number in range(100)])
        assert [found[f"d{number}"].note for number in range(100)] == ["other" if number in stale else "mine" for number in range(100)]
        saved = [found[f"d{number}"] for number in range(100)]


async def test_both_rows_of_a_binding_are_saved_or_none(ledger: TableLedger) -> None:
    """When the row of one side fails, the row of the other side is not left changed: the old pointer still leads to the old state."""
    [one, other] = await save(ledger, binding("c1", "d1"), binding("c2", "d2"))
    assert verdicts(await ledger.save_bindings([replace(one, dynamics_id="d2", note="moved")])) == ["Stale"]
    assert await ledger.bindings(FLOW, Side.CREATIO, ["c1"]) == {"c1": one}
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1", "d2"]) == {"d1": one, "d2": other}


async def test_a_lost_reply_to_an_insert_is_not_a_lost_race(ledger: TableLedger, storage: Storage) -> None:
    """The account inserts, the reply is lost, a second try meets our own rows: the bindings count as saved, with good ETags."""
    await save(ledger, binding("c0", "d0"))  # makes the table
    with lost_replies(storage, "POST") as lost:
        saved = await save(ledger, *(binding(f"c{number}", f"d{number}") for number in range(1, 6)))
    assert len(lost) == 1
    assert "$batch" in lost[0]
    again = await save(ledger, *(replace(one, note="second") for one in saved))
    assert [one.note for one in again] == ["second"] * 5


async def test_a_lost_reply_to_an_update_is_not_a_lost_race(ledger: TableLedger, storage: Storage) -> None:
    """As above for updates by ETag, deletes in the same transaction included; a foreign row in the way is still Stale."""
    saved = await save(ledger, *(binding(f"c{number}", f"d{number}") for number in range(3)))
    with lost_replies(storage, "POST") as lost:
        saved = await save(ledger, *(replace(one, dynamics_id=f"new-{one.dynamics_id}") for one in saved))
    assert len(lost) == 1
    assert set(await ledger.bindings(FLOW, Side.DYNAMICS, ["d0", "d1", "d2", "new-d0", "new-d1", "new-d2"])) == {
        "new-d0",
        "new-d1",
        "new-d2",
    }
    await save(ledger, replace(saved[0], note="foreign"))
    with lost_replies(storage, "POST") as lost:
        results = await ledger.save_bindings([replace(one, note="mine") for one in saved])
    assert len(lost) == 1
    assert verdicts(results) == ["Stale", "saved", "saved"]


async def test_a_save_that_was_overtaken_before_its_reply_is_stale(ledger: TableLedger, storage: Storage) -> None:
    """The reply is lost, another worker saves one of the bindings before the second try: that one is Stale, the others are saved."""
    saved = await save(ledger, *(binding(f"c{number}", f"d{number}") for number in range(3)))
    for overtaken in range(3):

        async def overtake(number: int = overtaken) -> None:
            now = await ledger.bindings(FLOW, Side.CREATIO, [f"c{number}"])
            await save(ledger, replace(now[f"c{number}"], note="theirs"))

        with lost_replies(storage, "POST", overtake) as lost:
            results = await ledger.save_bindings([replace(one, note="mine", generation=one.generation + 1) for one in saved])
        assert len(lost) == 1
        assert verdicts(results) == ["Stale" if number == overtaken else "saved" for number in range(3)]
        found = await ledger.bindings(FLOW, Side.CREATIO, ["c0", "c1", "c2"])
        assert [found[f"c{number}"].note for number in range(3)] == ["theirs" if number == overtaken else "mine" for number in range(3)]
        saved = [found[f"c{number}"] for number in range(3)]


async def test_a_guilty_row_that_is_not_named_is_found(ledger: TableLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the service does not say which row made a transaction fail, each binding is tried by itself and only the stale one fails."""
    saved = await save(ledger, *(binding(f"c{number}", f"d{number}") for number in range(5)))
    await save(ledger, replace(saved[2], note="other"))
    monkeypatch.setattr(tables, "_failed_index", lambda *_: None)
    results = await ledger.save_bindings([replace(one, note="mine") for one in saved])
    assert verdicts(results) == ["saved", "saved", "Stale", "saved", "saved"]


async def test_an_account_out_of_reach_is_busy(prefix: str) -> None:
    """With nobody listening, reads raise Transient and saves return it for each binding; no error of azure comes through."""
    nowhere = "http://127.0.0.1:9/devstoreaccount1"
    text = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=a2V5;TableEndpoint={nowhere};QueueEndpoint={nowhere};"
    storage = Storage(Account(connection_string=text))
    try:
        ledger = TableLedger(storage, prefix)
        with pytest.raises(Transient, match=r"ledger\.busy"):
            await ledger.poll_state()
        results = await ledger.save_bindings([binding("c1", "d1"), binding("c2", "d2")])
        assert verdicts(results) == ["Transient", "Transient"]
    finally:
        await storage.close()


async def test_a_thousand_bindings_stay_within_the_budget(ledger: TableLedger, storage: Storage, prefix: str) -> None:
    """1,000 bindings: 20 requests insert them, 10 save intents without writing their pointers, one each reads stamp and binding.

    A process that has not met a Dynamics id lately reads its pointer first; the echo check does with that alone (design 10).
    """
    ids = [str(number) for number in range(1000)]
    await save(ledger, binding("first", None))

    def cost(before: tuple[int, int]) -> tuple[int, int]:
        return ledger.requests - before[0], ledger.operations - before[1]

    start = (ledger.requests, ledger.operations)
    saved = await save(ledger, *(binding(f"c{one}", f"d{one}") for one in ids))
    assert cost(start) == (20, 2000)
    start = (ledger.requests, ledger.operations)
    saved = await save(ledger, *(replace(one, note="intent") for one in saved))
    assert cost(start) == (10, 1000)
    start = (ledger.requests, ledger.operations)
    seen = await ledger.stamps(FLOW, Side.DYNAMICS, [f"d{one}" for one in ids])
    assert cost(start) == (1000, 1000)
    assert [seen[f"d{one}"].binding for one in ids] == saved
    start = (ledger.requests, ledger.operations)
    assert [one.binding for one in (await ledger.stamps(FLOW, Side.CREATIO, [f"c{one}" for one in ids])).values()] == saved
    assert cost(start) == (1000, 1000)

    fresh = TableLedger(storage, prefix)
    start = (ledger.requests, ledger.operations)
    found = await fresh.bindings(FLOW, Side.DYNAMICS, [f"d{one}" for one in ids[:100]])
    assert cost(start) == (200, 200)
    assert [found[f"d{one}"] for one in ids[:100]] == saved[:100]
    start = (ledger.requests, ledger.operations)
    seen = await fresh.stamps(FLOW, Side.DYNAMICS, [f"d{one}" for one in ids[100:200]])
    assert cost(start) == (100, 100)
    assert {one.binding for one in seen.values()} == {None}
    start = (ledger.requests, ledger.operations)
    found = await fresh.bindings(FLOW, Side.DYNAMICS, [f"d{one}" for one in ids[:200]])
    assert cost(start) == (200, 200)
    assert [found[f"d{one}"] for one in ids[:200]] == saved[:200]


async def test_a_pointer_remembered_too_long_does_no_harm(ledger: TableLedger, storage: Storage, prefix: str) -> None:
    """A process that remembers where a Dynamics id led finds the right binding after another process moved it, or none when it is gone."""
    other = TableLedger(storage, prefix)
    [one, two] = await save(ledger, binding("c1", "d1"), binding("c2", "d2"))
    assert set(await ledger.bindings(FLOW, Side.DYNAMICS, ["d1", "d2"])) == {"d1", "d2"}
    [freed] = await save(other, replace(one, dynamics_id=None))
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1"]) == {}
    [moved] = await save(other, replace(two, dynamics_id="d1"))
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1", "d2"]) == {"d1": moved}
    [turned] = await save(other, replace(moved, creatio_id=None))
    assert await ledger.bindings(FLOW, Side.DYNAMICS, ["d1"]) == {"d1": turned}
    assert await ledger.bindings(FLOW, Side.CREATIO, ["c1", "c2"]) == {"c1": freed}


async def test_stamps_tell_an_echo_from_either_side(ledger: TableLedger, storage: Storage, prefix: str) -> None:
    """The echo check sees each side's own stamp and the state, after a change too, and nothing for an unknown id (law 5)."""
    [saved] = await save(ledger, binding("c1", "d1"))
    later = Stamp(NOON + 9 * SECOND, 'W/"4712"')
    [ended] = await save(ledger, replace(saved, dynamics_stamp=later, state=BindingState.ENDED))
    for process, binding_by_pointer in ((ledger, ended), (TableLedger(storage, prefix), None)):
        expected = {"d1": Seen(later, BindingState.ENDED, binding_by_pointer)}
        assert await process.stamps(FLOW, Side.DYNAMICS, ["d1", "dx"]) == expected
        assert await process.stamps(FLOW, Side.CREATIO, ["c1", "cx"]) == {"c1": Seen(Stamp(NOON, ""), BindingState.ENDED, ended)}
    [one_sided] = await save(ledger, binding(None, "d3"))
    assert await ledger.stamps(FLOW, Side.DYNAMICS, ["d3"]) == {"d3": Seen(one_sided.dynamics_stamp, one_sided.state)}


async def test_hostile_ids_keep_apart(ledger: TableLedger) -> None:
    """Ids with every character that Azure forbids, very long ones and look-alikes are stored and found, each as itself."""
    saved = await save(ledger, *(binding(one, one) for one in HOSTILE_IDS))
    expected = dict(zip(HOSTILE_IDS, saved, strict=True))
    assert await ledger.bindings(FLOW, Side.CREATIO, HOSTILE_IDS) == expected
    assert await ledger.bindings(FLOW, Side.DYNAMICS, HOSTILE_IDS) == expected


async def test_a_binding_that_azure_would_refuse_fails_alone(ledger: TableLedger) -> None:
    """A binding of more than 1 MiB, which Azurite would take, is refused by itself before it is sent; the one beside it is saved."""
    wide = {f"column{number}": field_state(number)._replace(creatio="f" * 6000) for number in range(100)}
    results = await ledger.save_bindings([binding("c1", "d1", fields=wide), binding("c2", "d2"), binding(None, None)])
    assert verdicts(results) == ["TandemError", "saved", "TandemError"]
    assert "1048576" in str(results[0])


async def test_many_fields_are_cut_over_properties(ledger: TableLedger) -> None:
    """A binding of 400 fields, beyond 64 KiB of text, comes back whole, and whole again after it shrank."""
    wide = {f"column{number}": field_state(number) for number in range(400)}
    [saved] = await save(ledger, binding("c1", "d1", fields=wide))
    assert (await ledger.bindings(FLOW, Side.CREATIO, ["c1"]))["c1"] == saved
    [saved] = await save(ledger, replace(saved, fields={"Name": field_state(1)}))
    assert (await ledger.bindings(FLOW, Side.CREATIO, ["c1"]))["c1"] == saved


async def test_a_row_of_a_newer_version_is_refused(ledger: TableLedger, storage: Storage, prefix: str) -> None:
    """A full row or pointer that a newer version wrote raises a coded error from every read, instead of being half understood."""
    await save(ledger, binding("c1", "d1"))
    table = storage.tables().get_table_client(f"{prefix}Bindings")
    for key, reads in (("c:c1", (Side.CREATIO, Side.DYNAMICS)), ("d:d1", (Side.DYNAMICS,))):
        await table.update_entity({"PartitionKey": FLOW, "RowKey": key, "v": 2})
        for side in reads:
            with pytest.raises(TandemError, match=r"message\.future_version") as caught:
                await ledger.bindings(FLOW, side, ["c1" if side is Side.CREATIO else "d1"])
            assert caught.value.said == "ledger row (binding) has version 2, allowed up to 1"
