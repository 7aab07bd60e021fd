"""A Creatio object cut into ranges of time and read page by page, as a bulk run does it: nothing is passed over (design law 11)."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import httpx
import pytest

from shared.core.errors import Rejected, TandemError, Transient
from shared.core.records import KeyRange, RangeBy, RangePage, Row
from shared.systems.creatio import Creatio
from tests.contract.creatio_site import Doors, Site, ids_of, walk
from tests.contract.test_creatio_adapter_faults import ONE, TWO, adapter_for, row

CROWDED = datetime(2024, 7, 5, 4, 33, 37, 315174, UTC)
STEP = timedelta(microseconds=1)
NF_AND_NC = pytest.mark.parametrize(("flavour", "prefix"), [("NF", "/0"), ("NC", "")])


def at(moment: datetime) -> str:
    """Return a time as the control API takes it."""
    return moment.isoformat().replace("+00:00", "Z")


async def seeded(site: Site, crowd: int = 700, alone: int = 200) -> list[str]:
    """Insert many rows of one instant, and some before and behind it with a time of their own; return their ids in order."""
    before = [{"Name": f"b{n}", "ModifiedOn": at(CROWDED - timedelta(minutes=alone - n))} for n in range(alone)]
    behind = [{"Name": f"c{n}", "ModifiedOn": at(CROWDED + timedelta(minutes=n + 1))} for n in range(alone)]
    rows = [*before, *({"Name": f"a{n}", "ModifiedOn": at(CROWDED)} for n in range(crowd)), *behind]
    return await site.seed([{"Id": str(uuid.uuid4()), **row} for row in rows])


async def cut(adapter: Creatio, by: RangeBy, size: int, **bounds: datetime | None) -> list[KeyRange]:
    """Return all ranges of accounts."""
    since, until, after = (bounds.get(name) for name in ("since", "until", "after"))
    return [part async for part in adapter.ranges("Account", by, since, until, size, after)]


async def read(
    adapter: Creatio, part: KeyRange, size: int, between: Callable[[int, RangePage], Awaitable[None]] | None = None
) -> list[RangePage]:
    """Read a range to its end; `between` is called with the number of each page that was read."""
    pages: list[RangePage] = []
    position: str | None = None
    while not pages or position is not None:
        pages.append(await adapter.read_range("Account", part, ("Name", "Code"), position, size))
        position = pages[-1].following
        if between is not None:
            await between(len(pages), pages[-1])
    return pages


def read_ids(pages: list[RangePage]) -> list[str]:
    """Return the ids of the rows on some pages."""
    return [one for page in pages for one in page.rows]


@NF_AND_NC
@pytest.mark.parametrize("by", list(RangeBy))
async def test_every_row_is_read_once_though_700_share_an_instant(doors: Doors, flavour: str, prefix: str, by: RangeBy) -> None:
    """The instant is one range, longer than asked for; its pages and those of all others bring each row once, with its columns."""
    async with doors.creatio(flavour=flavour) as site:
        ids = await seeded(site)
        adapter = site.creatio(app_prefix=prefix)
        ranges = await cut(adapter, by, 100)
        assert [part.rows for part in ranges] == [100, 100, 700, 100, 100]
        assert all(after.first == before.last + STEP for before, after in pairwise(ranges))
        assert (ranges[2].first <= CROWDED, ranges[2].last) == (True, CROWDED)
        pages = [await read(adapter, part, 100) for part in ranges]
        assert [len(some) for some in pages] == [1, 1, 7, 1, 1]
        everything = [page for some in pages for page in some]
        assert all(len(page.rows) <= 100 for page in everything)
        assert sorted(read_ids(everything)) == sorted(ids)
        names = {one: row.values["Name"] for page in everything for one, row in page.rows.items() if isinstance(row, Row)}
        assert names[ids[0]] == "b0"
        assert set(read_ids(pages[0])) == set(ids[:100])


async def test_ranges_ask_for_ids_and_times_only_in_the_largest_pages(site: Site) -> None:
    """45,000 rows are cut with three requests, and the first range is there after the first of them."""
    await site.seed([{"Name": "n", "ModifiedOn": at(CROWDED + timedelta(seconds=n))} for n in range(45_000)])
    adapter = site.creatio()
    await site.reset_counts()
    number = 0
    async for part in adapter.ranges("Account", RangeBy.MODIFIED, None, None, 5000):
        number += part.rows
        if number == part.rows:
            assert (await site.counts())["total"] == 1
    assert number == 45_000
    assert (await site.counts())["by"]["GET Account"] == 3


@pytest.mark.parametrize("by", list(RangeBy))
async def test_rows_deleted_between_pages_hide_no_other(site: Site, by: RangeBy) -> None:
    """After each page of the crowded instant some of its rows go away, read and unread ones: all that stay are read."""
    ids = await seeded(site, alone=0)
    gone = set[str]()
    order = sorted(ids)

    async def delete(number: int, page: RangePage) -> None:
        some = [*list(page.rows)[-3:], order[-number], order[number * 7]]
        for one in set(some) - gone:
            await site.delete(one)
            gone.add(one)

    adapter = site.creatio()
    (part,) = await cut(adapter, by, 100)
    read_here = read_ids(await read(adapter, part, 50, delete))
    assert set(ids) - gone <= set(read_here)
    assert len(read_here) < 750


async def test_rows_edited_between_pages_move_out_and_the_feed_tells_them(site: Site) -> None:
    """By time of change, an edit takes a row out of its range; every other is read, and the scheduled feed announces those."""
    ids = await seeded(site)
    adapter = site.creatio()
    position = (await walk(adapter))[-1].position
    ranges = await cut(adapter, RangeBy.MODIFIED, 300, until=datetime.now(UTC))
    edited = set[str]()

    async def edit(number: int, page: RangePage) -> None:
        for one in {ids[-number], ids[200 + number * 41], next(iter(page.rows))}:
            await site.edit(one, {"Name": "edited"})
            edited.add(one)

    seen = [one for part in ranges for one in read_ids(await read(adapter, part, 60, edit))]
    assert set(ids) - edited <= set(seen)
    assert edited <= set(ids_of(await walk(adapter, position)))


async def test_rows_edited_between_pages_stay_in_ranges_by_creation(site: Site) -> None:
    """By time of creation an edit moves nothing: each row is read once, with the value it has then."""
    ids = await seeded(site, crowd=150, alone=20)
    adapter = site.creatio()

    async def edit(number: int, _: RangePage) -> None:
        await site.edit(ids[-1], {"Code": str(number)})

    ranges = await cut(adapter, RangeBy.CREATED, 1000)
    pages = [page for part in ranges for page in await read(adapter, part, 50, edit)]
    assert sorted(read_ids(pages)) == sorted(ids)
    last = pages[-1].rows[ids[-1]]
    assert isinstance(last, Row)
    assert last.values["Code"] == "3"


@pytest.mark.parametrize("next_link", [False, True])
@pytest.mark.parametrize("cap", [2, 37])
async def test_a_cap_smaller_than_the_page_loses_no_row(doors: Doors, next_link: bool, cap: int) -> None:
    """A server that shows fewer rows at once than were asked for, with or without a link to the rest: ranges and pages are whole."""
    async with doors.creatio(max_entity_row_count=cap, next_link=next_link) as site:
        ids = await seeded(site, crowd=40, alone=20)
        adapter = site.creatio()
        ranges = await cut(adapter, RangeBy.MODIFIED, 25)
        assert [part.rows for part in ranges] == [60, 20]
        pages = [page for part in ranges for page in await read(adapter, part, 500)]
        assert sorted(read_ids(pages)) == sorted(ids)


async def test_since_is_inside_and_until_is_not(site: Site) -> None:
    """Only rows with since <= time < until are in a range; the ranges begin at `since` and end just before `until`."""
    await seeded(site, crowd=1, alone=30)
    adapter = site.creatio()
    since, until = CROWDED - timedelta(minutes=10), CROWDED + timedelta(minutes=5)
    ranges = await cut(adapter, RangeBy.MODIFIED, 4, since=since, until=until)
    assert sum(part.rows for part in ranges) == 15
    assert (ranges[0].first, ranges[-1].last) == (since, until - STEP)
    names = [row.values["Name"] for part in ranges for page in await read(adapter, part, 3) for row in page.rows.values()]
    assert names == [f"b{n}" for n in range(20, 30)] + ["a0"] + [f"c{n}" for n in range(4)]
    assert await cut(adapter, RangeBy.MODIFIED, 4, since=until, until=since) == []


async def test_a_row_that_is_committed_late_between_two_ranges_is_in_one(site: Site) -> None:
    """Creatio.md 4: a long transaction shows its row later than its time; ranges leave no gap, so that it is read all the same."""
    await seeded(site, crowd=1, alone=5)
    adapter = site.creatio()
    ranges = await cut(adapter, RangeBy.CREATED, 2)
    between = at(ranges[0].last + timedelta(seconds=1))
    (late,) = await site.seed([{"Name": "late", "ModifiedOn": between}])
    assert late in [one for part in ranges for one in read_ids(await read(adapter, part, 10))]


async def test_a_run_goes_on_in_another_process(site: Site) -> None:
    """`after` the end of a range brings those behind it, and a position the rest of its range, to an adapter that knows nothing."""
    ids = await seeded(site)
    first, second, *rest = await cut(site.creatio(), RangeBy.MODIFIED, 150)
    assert await cut(site.creatio(), RangeBy.MODIFIED, 150, after=second.last) == rest
    assert await cut(site.creatio(), RangeBy.MODIFIED, 150, after=rest[-1].last) == []
    seen = read_ids(await read(site.creatio(), first, 1000))
    for part in (second, *rest):
        position, more = None, True
        while more:
            page = await site.creatio().read_range("Account", part, ("Name",), position, 120)
            seen += page.rows
            position, more = page.following, page.following is not None
    assert sorted(seen) == sorted(ids)


async def test_a_page_of_many_columns_is_no_address_that_iis_cuts(doors: Doors) -> None:
    """Creatio.md 2.3: where the query of every column of the object is longer than IIS takes, the page is read all the same."""
    async with doors.creatio(max_query_length=300) as site:
        (one,) = await seeded(site, crowd=1, alone=0)
        adapter = site.creatio()
        columns = [name for name in await site.row(one) or {} if name != "Id"]
        described = await adapter.describe("Account", columns, ())
        assert len(",".join(described.columns)) > 300
        (part,) = await cut(adapter, RangeBy.CREATED, 10)
        row = (await adapter.read_range("Account", part, tuple(described.columns), None, 10)).rows[one]
        assert isinstance(row, Row)
        assert set(row.values) == set(described.columns)


async def test_a_row_that_can_not_be_understood_stops_only_itself() -> None:
    """Law 13: it is an error by its id that names the column; the row beside it is read."""
    part = KeyRange(RangeBy.MODIFIED, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), 2)
    body = {"value": [row(), row(TWO, Name=5)], "@odata.count": 2}
    adapter = adapter_for(lambda _: httpx.Response(200, json={"responses": [{"id": "1", "status": 200, "body": body}]}))
    page = await adapter.read_range("Account", part, ("Name",), None, 10)
    bad = page.rows[TWO]
    assert isinstance(page.rows[ONE], Row)
    assert isinstance(bad, Rejected)
    assert (bad.code, bad.field, page.following) == ("creatio.bad_row", "Name", None)


async def test_what_can_not_be_read_is_told_by_code(site: Site) -> None:
    """A position of another range, an unknown column and an unknown object are refused; a server in trouble is Transient."""
    await seeded(site, crowd=3, alone=3)
    adapter = site.creatio()
    first, *_, last = await cut(adapter, RangeBy.MODIFIED, 2)
    position = (await adapter.read_range("Account", first, ("Name",), None, 1)).following
    for entity, part, columns, given, code in (
        ("Account", last, ("Name",), position, "message.future_version"),
        ("Account", first, ("Name",), "nonsense", "message.future_version"),
        ("Account", first, ("UsrNope",), None, "creatio.unknown_column"),
        ("UsrNope", first, ("Name",), None, "creatio.unknown_entity"),
    ):
        with pytest.raises(TandemError) as caught:
            await adapter.read_range(entity, part, columns, given, 2)
        assert (type(caught.value), caught.value.code) == (Rejected, code)
    with pytest.raises(Rejected, match="unknown_entity"):
        _ = [part async for part in adapter.ranges("UsrNope", RangeBy.CREATED, None, None, 5)]
    await site.chaos({"kind": "status", "status": 503, "body": "html"})
    with pytest.raises(Transient):
        await adapter.read_range("Account", first, ("Name",), None, 2)
    with pytest.raises(Transient):
        await cut(adapter, RangeBy.CREATED, 5)


async def test_an_empty_object_has_no_range(site: Site) -> None:
    """No rows, no ranges; rows without a time are in none (the scheduled feed names them)."""
    adapter = site.creatio()
    assert await cut(adapter, RangeBy.CREATED, 5) == []
    await site.seed([{"Name": "odd", "ModifiedOn": None, "CreatedOn": None}])
    assert await cut(adapter, RangeBy.MODIFIED, 5, until=datetime.now(UTC)) == []
