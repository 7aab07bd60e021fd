"""How the ledger writes keys and packs rows: laws that hold for every text, shown by Hypothesis."""

import dataclasses
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.core.binding import Binding, BindingState, FieldState
from shared.core.errors import TandemError
from shared.core.records import Side, Stamp
from shared.core.work import (
    Asking,
    Batch,
    BatchItem,
    Census,
    Conflict,
    DeleteCount,
    Failure,
    FlowSettings,
    HeldDelete,
    Pin,
    Run,
    RunKind,
    Waiting,
    Walking,
    Watermark,
)
from shared.ledger.binding_layout import Layout, moved_at, pack_binding, plan_changes, unpack_binding
from shared.ledger.encoding import (
    after_prefix,
    check_entity,
    decode_time,
    encode_part,
    encode_time,
    entity_bytes,
    join_text,
    make_key,
    split_text,
)
from shared.ledger.packing import Packer, pack_fields, unpack_fields
from shared.ledger.recent import Recent
from shared.ledger.storage import Account, Storage
from shared.ledger.tables import ANY_ETAG, ChangeKind, RowChange, StoredRow, Table, chunk_changes

ANY_TEXT = st.text(max_size=400) | st.text(alphabet="a=~:/\\#?%+'\x00\x7f\x9fÄ😀", max_size=400) | st.integers(0, 3000).map("x".__mul__)
PARTS = st.lists(ANY_TEXT, min_size=4, max_size=4)
TIMES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5, minutes=-30))]))
SIDES = st.sampled_from(Side)
FIELD_STATES = st.builds(
    FieldState,
    row_hash=st.text(max_size=8),
    key_id=st.text(max_size=4),
    creatio=st.none() | st.text(max_size=8),
    dynamics=st.none() | st.text(max_size=8),
    sent=st.none() | st.text(max_size=8),
    sent_to=st.none() | SIDES,
    sent_source=st.none() | st.text(max_size=8),
    sent_over=st.none() | st.text(max_size=8),
    refused=st.none() | st.text(max_size=8),
    set_from=st.none() | SIDES,
    set_at=st.none() | TIMES,
    set_by_run=st.text(max_size=8),
    pending=st.booleans(),
    writes=st.integers(0, 99),
    writes_since=st.none() | TIMES,
    earlier=st.lists(st.tuples(SIDES, st.text(max_size=8), st.text(max_size=8)), max_size=3).map(tuple),
)
STAMPS = st.builds(Stamp, TIMES, st.text(max_size=12))
BINDINGS = st.builds(
    Binding,
    flow=st.just("sales.account"),
    state=st.sampled_from(BindingState),
    creatio_id=st.text(min_size=1, max_size=40),
    dynamics_id=st.none() | st.text(min_size=1, max_size=40),
    generation=st.integers(1, 1000),
    creatio_stamp=st.none() | STAMPS,
    dynamics_stamp=st.none() | STAMPS,
    fields=st.dictionaries(st.text(max_size=10), FIELD_STATES, max_size=4),
    source=st.none() | SIDES,
    owner_batch=st.text(max_size=10),
    deadline=st.none() | TIMES,
    reserved=st.lists(st.text(max_size=10), max_size=3).map(tuple),
    note=st.text(max_size=20),
    gone=st.lists(SIDES, max_size=2, unique=True).map(tuple),
    merged_into=st.text(max_size=40),
)
DECISIONS = st.dictionaries(st.text(max_size=8), st.sampled_from(["creatio", "dynamics", "delete", "reopen"]), max_size=2)
ITEMS = st.builds(BatchItem, st.text(max_size=8), st.none() | STAMPS, st.booleans(), st.integers(0, 9), DECISIONS)
LEGAL_KEY = re.compile(r"[^/\\#?%+\x00-\x1f\x7f-\x9f]*")


@given(PARTS, PARTS)
def test_different_parts_give_different_keys(one: list[str], other: list[str]) -> None:
    """No two lists of parts share a key, so no record is ever taken for another."""
    assert (make_key(*one) == make_key(*other)) == (one == other)


@given(ANY_TEXT, ANY_TEXT)
def test_look_alikes_stay_apart(one: str, other: str) -> None:
    """A text that looks like the encoded or hashed form of another one gets a key of its own."""
    for twin in (encode_part(one), one + other):
        assert (encode_part(twin) == encode_part(one)) == (twin == one)


@given(PARTS)
def test_every_key_is_legal(parts: list[str]) -> None:
    """A key of four parts fits into 1,024 characters and has none of the characters that Azure refuses, whatever the parts hold."""
    key = make_key(*parts)
    assert len(key) <= 1024
    assert LEGAL_KEY.fullmatch(key)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_a_prefix_range_holds_its_keys_only(part: str, rest: str, other: str) -> None:
    """The range of a prefix contains every key under it and no key of another record."""
    prefix = make_key(part) + ":"
    assert prefix <= make_key(part, rest) < after_prefix(prefix)
    assume(other != part)
    assert not prefix <= make_key(other, rest) < after_prefix(prefix)


@given(TIMES, TIMES)
def test_times_sort_as_text(one: datetime, other: datetime) -> None:
    """A time survives its text form, and texts compare as the times do."""
    assert decode_time(encode_time(one)) == one
    assert (encode_time(one) < encode_time(other)) == (one < other)


@given(
    st.text(alphabet=st.sampled_from("aÄ😀"), max_size=5)
    | st.integers(0, 90_000).map("😀".__mul__)
    | st.integers(0, 90_000).map("x".__mul__)
)
def test_long_texts_are_cut_and_joined(text: str) -> None:
    """A text of any length comes back whole from pieces that each fit into a property of 32,768 UTF-16 units."""
    pieces = split_text("j", text)
    assert all(0 < len(piece.encode("utf-16-le")) <= 2 * 32_768 for piece in pieces.values())
    assert join_text(pieces, "j") == text


@given(st.dictionaries(st.text(max_size=10), FIELD_STATES, max_size=5))
def test_field_states_survive_packing(fields: dict[str, FieldState]) -> None:
    """Every combination of set and unset facts of a field comes back as it was."""
    assert unpack_fields(pack_fields(fields)) == fields


@given(BINDINGS)
def test_bindings_survive_packing(binding: Binding) -> None:
    """A binding comes back as it was, apart from the ETag, which is the row's own."""
    row = StoredRow("sales.account", "c:1", pack_binding(binding), "etag-1")
    found = unpack_binding("sales.account", row)
    assert replace(found, etag=None) == binding
    assert found.etag is not None
    assert Layout.decode(found.etag).etag == "etag-1"


@given(
    st.builds(
        Batch,
        items=st.lists(ITEMS, max_size=4).map(tuple),
        flow=st.text(),
        created=TIMES,
        touched=st.none() | TIMES,
        dry=st.booleans(),
    )
)
def test_batches_survive_packing(batch: Batch) -> None:
    """A batch comes back as it was."""
    assert_survives(Batch, batch)


@given(
    st.builds(
        FlowSettings,
        flow=st.text(),
        query_start=st.none() | TIMES,
        last_poll=st.none() | TIMES,
        asking=st.none() | st.builds(Asking, at=TIMES, earlier=st.booleans()),
        walking=st.none() | st.builds(Walking, started=TIMES, walked=st.booleans()),
    )
    | st.builds(Watermark, flow=st.text(), position=st.text(), columns=st.text(), saved_at=TIMES, held=st.booleans())
    | st.builds(Pin, at=TIMES)
    | st.builds(Census, at=TIMES, absent=st.lists(st.text()).map(tuple), asked=st.none() | TIMES, due=st.booleans())
    | st.builds(DeleteCount, sent=st.dictionaries(st.text(), TIMES))
    | st.builds(HeldDelete, at=TIMES)
    | st.builds(Run, id=st.text(), flow=st.text(), started=TIMES, error=st.text())
    | st.builds(Failure, said=st.text(), record_id=st.text(), at=TIMES)
    | st.builds(Conflict, candidates=st.lists(st.text()).map(tuple), field=st.text(), at=TIMES)
    | st.builds(Waiting, target_id=st.text(), record_id=st.text(), since=TIMES, told=st.booleans())
)
def test_other_rows_survive_packing(item: Any) -> None:
    """Settings, pins, counts, runs and whatever waits for a person or a record come back as they were, without their ETag."""
    assert_survives(type(item), item)


def assert_survives(kind: type, item: Any) -> None:
    """Pack and unpack an item, and compare all but its ETag."""
    packer: Packer[Any] = Packer(kind)
    found = packer.unpack(packer.pack(item))
    if hasattr(item, "items"):
        found = replace(found, items=tuple(found.items))
    assert found == (replace(item, etag=None) if hasattr(item, "etag") else item)


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"v": 2, "j0": "{}"}, "message.future_version"),
        ({"v": 1, "j0": "{"}, "sync.internal"),
        ({"v": 1, "j0": "{}"}, "sync.internal"),
        ({"j0": "{}"}, "sync.internal"),
    ],
)
def test_a_row_that_cannot_be_read_is_a_coded_error(properties: dict[str, Any], code: str) -> None:
    """A newer version, broken JSON, missing members and a missing version each raise an error that names the row."""
    with pytest.raises(TandemError) as caught:
        Packer(Run).unpack({"RowKey": "row-7", **properties})
    assert caught.value.code == code
    with pytest.raises(TandemError) as caught:
        unpack_binding("sales.account", StoredRow("sales.account", "c:1", {"st": "bound", **properties, "f0": "["}, ""))
    assert caught.value.code == code


def test_a_lone_surrogate_is_a_coded_error() -> None:
    """A text that is no Unicode can't be written; the error says so instead of a crash in the client."""
    run = Run("\ud800", "sales.account", RunKind.SCHEDULED, datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(TandemError, match="can't be written"):
        Packer(Run).pack(run)


@pytest.mark.parametrize(
    ("entity", "words"),
    [
        ({"RowKey": "a/b"}, "character that Azure refuses"),
        ({"PartitionKey": "a\nb"}, "character that Azure refuses"),
        ({"RowKey": "x" * 1025}, "allowed 1024"),
        ({f"p{number}": 1 for number in range(253)}, "253 properties, allowed 252"),
        ({"p": "x" * 32_769}, "allowed 32768"),
        ({"p": "😀" * 16_385}, "allowed 32768"),
        ({f"p{number}": "x" * 30_000 for number in range(18)}, "allowed 1048576"),
    ],
)
def test_what_azure_refuses_is_refused_here(entity: dict[str, Any], words: str) -> None:
    """The limits that the emulator does not keep (azure.md 7) are kept before a row is sent."""
    with pytest.raises(TandemError, match=words):
        check_entity({"PartitionKey": "p", "RowKey": "r", **entity})


def test_the_largest_row_is_accepted() -> None:
    """A row just inside every limit passes, so that the limits are not drawn too narrow."""
    check_entity({"PartitionKey": "p" * 1024, "RowKey": "r" * 1024, **{f"p{number}": "x" * 32_768 for number in range(15)}})
    check_entity({"PartitionKey": "p", "RowKey": "r", **{f"p{number}": 1 for number in range(252)}})


@given(st.lists(st.lists(st.integers(0, 400_000), min_size=1, max_size=4), max_size=150))
def test_transactions_stay_small_and_whole(weights: list[list[int]]) -> None:
    """Every group lands in one transaction, in order, none has more than 100 rows, and none exceeds 4 MiB of payload."""
    groups = [
        (number, [RowChange(ChangeKind.PUT, str(row), {"p": "x" * (size // 2)}) for row, size in enumerate(sizes)])
        for number, sizes in enumerate(weights)
    ]
    chunks = chunk_changes(groups)
    assert [owner for chunk in chunks for owner, _ in chunk] == list(range(len(weights)))
    for chunk in chunks:
        assert 0 < sum(len(changes) for _, changes in chunk) <= 100
        assert sum(entity_bytes(change.properties) for _, changes in chunk for change in changes) < 4 * 1024 * 1024


SOME_IDS = st.tuples(st.sampled_from([None, "1", "2"]), st.sampled_from([None, "1", "2"])).filter(any)


def rows_of(binding: Binding) -> set[str]:
    """Return the keys of the rows that a binding should have."""
    both = (("c", binding.creatio_id), ("d", binding.dynamics_id))
    return {f"{letter}:{record_id}" for letter, record_id in both if record_id}


@given(BINDINGS, SOME_IDS, SOME_IDS, st.sampled_from(BindingState))
def test_a_saved_binding_moves_exactly_its_rows(
    sample: Binding, old: tuple[str | None, str | None], new: tuple[str | None, str | None], state: BindingState
) -> None:
    """Whatever ids come and go: new rows are inserted create-only, old ones go, and one change always carries the ETag that was read.

    Only a pointer that says the same as before is left alone.
    """
    before = replace(sample, creatio_id=old[0], dynamics_id=old[1])
    before = replace(before, etag=Layout.of(before, "etag-1").encode())
    after = replace(before, creatio_id=new[0], dynamics_id=new[1], state=state)
    changes = plan_changes(after)
    keys = {kind: {change.key for change in changes if change.kind is kind} for kind in ChangeKind}
    assert keys[ChangeKind.CREATE] == rows_of(after) - rows_of(before)
    assert keys[ChangeKind.DELETE] == rows_of(before) - rows_of(after)
    assert [change.etag for change in changes if change.etag != ANY_ETAG] == ["etag-1"]
    same_pointer = old == new and None not in old and state is before.state
    left_alone = {f"d:{old[1]}"} if same_pointer else set()
    assert keys[ChangeKind.REPLACE] == (rows_of(before) & rows_of(after)) - left_alone


@given(BINDINGS, SOME_IDS, SOME_IDS, TIMES, TIMES)
def test_a_move_marks_both_rows_and_stays_marked(
    sample: Binding, old: tuple[str | None, str | None], new: tuple[str | None, str | None], moment: datetime, later: datetime
) -> None:
    """Both rows say when the full row moved away from under its pointer, or neither; the mark comes back and outlives further saves."""
    before = replace(sample, creatio_id=old[0], dynamics_id=old[1])
    after = replace(before, creatio_id=new[0], dynamics_id=new[1], etag=Layout.of(before, "etag-1").encode())
    moved = moved_at(after, moment)
    old_key = f"c:{old[0]}" if old[0] else f"d:{old[1]}"
    assert moved == (encode_time(moment) if None not in new and old_key != f"c:{new[0]}" else "")
    rows = {change.key: change.properties for change in plan_changes(after, moved) if change.kind is not ChangeKind.DELETE}
    assert {properties.get("mv", "") for properties in rows.values()} == {moved}
    full_key = f"c:{new[0]}" if new[0] else f"d:{new[1]}"
    found = unpack_binding("sales.account", StoredRow("sales.account", full_key, rows[full_key], "etag-2"))
    assert moved_at(replace(found, note="again"), later) == moved


def test_memory_is_bounded() -> None:
    """What a process remembers is dropped, the oldest first, beyond its size; an entry put again counts as new."""
    recent: Recent[str, int] = Recent(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        recent.put(key, value)
    assert [recent.get(key) for key in "abc"] == [3, None, 4]
    assert recent.pop("a") == 3
    assert recent.pop("a") is None


async def test_more_than_a_hundred_rows_are_refused_before_they_are_sent() -> None:
    """A transaction beyond Azure's limit never leaves, because the emulator answers it with something unreadable (azure.md 7)."""
    table = Table(Storage(Account("AccountName=a;AccountKey=a2V5")), "t")
    with pytest.raises(TandemError, match="transaction of 101 rows, allowed 100"):
        await table.transact("p", [RowChange(ChangeKind.PUT, str(number)) for number in range(101)])


@given(FIELD_STATES)
def test_no_part_of_a_field_state_is_left_out(state: FieldState) -> None:
    """Each part, set alone, comes back: a part that packing forgets would be lost between two runs only, where no fake sees it."""
    blank = FieldState("hash", "key")
    for part in FieldState._fields:
        alone = blank._replace(**{part: getattr(state, part)})
        assert unpack_fields(pack_fields({"a": alone})) == {"a": alone}
    full = FieldState(
        "h",
        "k",
        "c",
        "d",
        "s",
        Side.CREATIO,
        "ss",
        "so",
        "r",
        Side.DYNAMICS,
        datetime(2026, 1, 1, tzinfo=UTC),
        "run",
        pending=True,
        writes=3,
        writes_since=datetime(2026, 1, 2, tzinfo=UTC),
        earlier=((Side.DYNAMICS, "e", "es"),),
    )
    assert unpack_fields(pack_fields({"a": full})) == {"a": full}
    assert all(full), "a new part: set it in this test"


def test_no_part_of_a_binding_is_left_out() -> None:
    """A binding with every part set comes back whole, and a new part must be set here: a lost one would only show between two runs."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    full = Binding(
        "sales.account",
        BindingState.ENDED,
        "c1",
        "d1",
        2,
        Stamp(moment, "1"),
        Stamp(moment, "2"),
        {"Name=name": FieldState("h", "k")},
        Side.CREATIO,
        "batch",
        moment,
        ("key",),
        "note",
        (Side.CREATIO, Side.DYNAMICS),
        "d2",
    )
    found = unpack_binding("sales.account", StoredRow("sales.account", "c:c1", pack_binding(full), "etag-1"))
    assert replace(found, etag=None) == full
    assert all(getattr(full, part.name) for part in dataclasses.fields(Binding) if part.name != "etag"), "a new part: set it in this test"
