"""The change feed of Creatio against the stand-in: nothing lost, quiet polls free, the server's clock decides (design law 11)."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from shared.core.errors import Rejected
from shared.core.records import Change, ChangePage, LinesOf, Write, WriteKind
from shared.systems.creatio import Creatio
from tests.contract.creatio_site import Doors, Site, ids_of, walk

LINES = LinesOf("InvoiceProduct", "InvoiceId", ("Name", "Quantity"))
LONG_AGO = "2024-07-05T04:33:37.315174Z"


def at(moment: datetime) -> str:
    """Return a time as the control API takes it."""
    return moment.isoformat().replace("+00:00", "Z")


async def test_a_quiet_poll_is_one_request_and_changes_nothing(site: Site) -> None:
    """Design 10: with rows inside the overlap a poll without news is one request, an empty page and the same position."""
    adapter = site.creatio(page_size=10)
    ids = await site.seed([{"Name": f"n{number}"} for number in range(60)])
    first = await walk(adapter)
    assert sorted(ids_of(first)) == sorted(ids)
    position = first[-1].position
    await site.reset_counts()
    for minute in range(3):
        await site.skew(60 * minute)
        quiet = await walk(adapter, position)
        assert [(page.changes, page.position, page.complete) for page in quiet] == [((), position, True)]
    assert (await site.counts())["total"] == 3


async def test_the_first_position_of_an_empty_set_is_server_time(site: Site) -> None:
    """An empty set gives a position by the server's clock, from which the first row is found."""
    await site.skew(86_400)
    adapter = site.creatio()
    page = (await walk(adapter))[-1]
    assert page.server_time is not None
    assert page.server_time - datetime.now(UTC) > timedelta(hours=23)
    (record_id,) = ids = await site.seed([{"Name": "a"}])
    await site.edit(record_id, {"Name": "b"})
    assert ids_of(await walk(adapter, page.position)) == ids


async def test_only_what_changed_is_announced(site: Site) -> None:
    """Law 5: after a first walk only rows with another stamp come, each with the stamp it has."""
    ids = await site.seed([{"Name": f"n{number}"} for number in range(20)])
    adapter = site.creatio()
    position = (await walk(adapter))[-1].position
    await site.edit(ids[3], {"Name": "edited"})
    pages = await walk(adapter, position)
    assert ids_of(pages) == [ids[3]]
    stored = await site.row(ids[3])
    assert stored is not None
    assert pages[0].changes[0].stamp is not None
    assert pages[0].changes[0].stamp.time == datetime.fromisoformat(stored["ModifiedOn"])


@pytest.mark.parametrize("page_size", [500, 100])
async def test_many_rows_of_one_time(site: Site, page_size: int) -> None:
    """Creatio.md 9.8: 1,200 rows share one ModifiedOn among others before and after: each comes exactly once."""
    rows = [{"Name": "same", "ModifiedOn": LONG_AGO} for _ in range(1200)]
    rows += [{"Name": "before", "ModifiedOn": "2024-07-05T04:33:37.315173Z"} for _ in range(30)]
    rows += [{"Name": "after", "ModifiedOn": "2024-07-05T04:33:37.315175Z"} for _ in range(30)]
    ids = await site.seed(rows)
    announced = ids_of(await walk(site.creatio(page_size=page_size)))
    assert len(announced) == 1260
    assert set(announced) == set(ids)


@pytest.mark.parametrize("next_link", [False, True])
async def test_unbounded_reads_hitting_the_cap(doors: Doors, next_link: bool) -> None:
    """Creatio.md 9.12: a server cap below the page size loses no row, whether or not the server says where to go on."""
    async with doors.creatio(max_entity_row_count=37, next_link=next_link) as site:
        ids = await site.seed([{"Name": "x"} | ({"ModifiedOn": LONG_AGO} if number % 2 else {}) for number in range(200)])
        announced = ids_of(await walk(site.creatio(page_size=500)))
        assert len(announced) == len(set(announced)) == 200
        assert set(announced) == set(ids)


async def test_a_chain_goes_on_in_another_process(site: Site) -> None:
    """A poll may stop after any page: its position, given to a new adapter, brings the rest and nothing twice."""
    rows = [{"Name": "x", "ModifiedOn": LONG_AGO} for _ in range(130)]
    rows += [{"Name": "x", "ModifiedOn": at(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=n // 3))} for n in range(100)]
    ids = await site.seed([*rows, *({"Name": "now"} for _ in range(40))])
    announced: list[str] = []
    position: str | None = None
    for _ in range(100):
        adapter = site.creatio(page_size=25)
        page = await anext(adapter.changes("Account", ("Name",), position, None))
        announced += ids_of([page])
        position = page.position
        if page.complete:
            break
    assert len(announced) == len(ids)
    assert set(announced) == set(ids)
    assert ids_of(await walk(site.creatio(), position)) == []


async def test_rows_that_move_away_while_a_time_is_paged(site: Site) -> None:
    """Offset paging inside one time notices that rows moved and reads that time again: no row is passed over."""
    ids = await site.seed([{"Name": "x", "ModifiedOn": LONG_AGO} for _ in range(60)])
    announced: list[str] = []
    pages = 0
    async for page in site.creatio(page_size=20).changes("Account", ("Name",), None, None):
        announced += ids_of([page])
        pages += 1
        if pages == 2:  # from here on the rows of this time are paged by offset
            for record_id in sorted(ids)[:5]:
                await site.edit(record_id, {"Name": "moved"})
    assert set(announced) == set(ids)


async def test_since_limits_the_first_walk_only(site: Site) -> None:
    """A first walk with `since` leaves older rows out; they come when they change."""
    old, new = await site.seed([{"Name": "old", "ModifiedOn": LONG_AGO}, {"Name": "new", "ModifiedOn": "2025-01-01T00:00:00Z"}])
    adapter = site.creatio()
    pages = await walk(adapter, since=datetime(2024, 12, 31, tzinfo=UTC))
    assert ids_of(pages) == [new]
    await site.edit(old, {"Name": "edited"})
    assert ids_of(await walk(adapter, pages[-1].position)) == [old]


async def test_a_row_from_the_future_does_not_push_the_watermark(site: Site) -> None:
    """Law 11: a ModifiedOn ahead of the server's clock is announced once, and later changes are still found."""
    (future, other) = await site.seed([{"Name": "future", "ModifiedOn": "2099-01-01T00:00:00Z"}, {"Name": "other"}])
    adapter = site.creatio()
    pages = await walk(adapter)
    assert set(ids_of(pages)) == {future, other}
    position = pages[-1].position
    assert ids_of(await walk(adapter, position)) == []
    await site.edit(other, {"Name": "edited"})
    assert ids_of(await walk(adapter, position)) == [other]


async def test_a_row_committed_late_is_found(site: Site) -> None:
    """Creatio.md 4: a long transaction shows its row minutes after its ModifiedOn: the overlap finds it, beyond it does not."""
    adapter = site.creatio(overlap_seconds=300)
    await site.seed([{"Name": "now"}])
    position = (await walk(adapter))[-1].position
    now = datetime.now(UTC)
    late, _too_late = await site.seed(
        [{"Name": "late", "ModifiedOn": at(now - timedelta(seconds=200))}, {"Name": "too", "ModifiedOn": at(now - timedelta(seconds=400))}]
    )
    assert ids_of(await walk(adapter, position)) == [late]


async def test_our_own_writes_come_back_with_the_stamp_of_their_result(site: Site) -> None:
    """Law 5: an echo is known by its stamp: what the write returned is what the feed announces."""
    adapter = site.creatio()
    position = (await walk(adapter))[-1].position
    written = (await adapter.write("Account", [Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": "mine"})]))[0]
    changes = [change for page in await walk(adapter, position) for change in page.changes]
    assert written.row is not None
    assert [(change.id, change.stamp) for change in changes] == [(written.id, written.row.stamp)]


async def test_more_rows_in_the_overlap_than_a_position_holds(site: Site) -> None:
    """Beyond 2,000 rows the position stays small, the rest may come again, and it ends once the overlap is past them."""
    ids = await site.seed([{"Name": "x"} for _ in range(2500)])
    adapter = site.creatio(page_size=2000)
    first = await walk(adapter)
    assert set(ids_of(first)) == set(ids)
    assert len(first[-1].position) < 30_000
    again = await walk(adapter, first[-1].position)
    assert 0 < len(ids_of(again)) <= 500
    await site.skew(600)
    later = await walk(adapter, again[-1].position)
    assert ids_of(await walk(adapter, later[-1].position)) == []


async def test_rows_without_a_time_are_told_once(site: Site) -> None:
    """Law 13: a row without ModifiedOn is a problem of its own, told once with its id; it neither stops nor moves the feed."""
    (fine, odd) = await site.seed([{"Name": "fine"}, {"Name": "odd", "ModifiedOn": None}])
    adapter = site.creatio()
    pages = await walk(adapter)
    assert ids_of(pages) == [fine]
    problems = [problem for page in pages for problem in page.problems]
    assert [(problem.code, problem.record_id, problem.field) for problem in problems] == [("creatio.bad_row", odd, "ModifiedOn")]
    again = await walk(adapter, pages[-1].position)
    assert [(page.changes, page.problems) for page in again] == [((), ())]


async def test_an_unreadable_position_is_refused_by_code(site: Site) -> None:
    """A position of a newer version, or a broken one, is told as such and not taken for a fresh start."""
    for text in ("", "{", "[]", '{"v":2}', '{"v":1,"seen":"?"}', '{"v":1,"t":"yesterday"}', "7", "null"):
        with pytest.raises(Rejected) as caught:
            await walk(site.creatio(), text)
        assert caught.value.code == "message.future_version"


async def test_an_unknown_object_is_named(site: Site) -> None:
    """A feed of an object that is not there is refused with its name."""
    with pytest.raises(Rejected) as caught:
        await walk(site.creatio(), entity="UsrNope")
    assert (caught.value.code, caught.value.entity) == ("creatio.unknown_entity", "UsrNope")


async def documents(adapter: Creatio, position: str | None = None) -> list[ChangePage]:
    """Return all pages of the feed of invoices with their lines."""
    return [page async for page in adapter.changes("Invoice", ("Number",), position, None, lines=LINES)]


async def test_a_changed_line_announces_its_document(site: Site) -> None:
    """Creatio.md 5.1: an invoice's own time does not move with its lines, so these have a feed of their own; quiet is two requests."""
    invoices = await site.seed([{"Number": f"I-{number}"} for number in range(30)], "Invoice")
    lines = await site.seed([{"Name": "Pen", "Quantity": 1, "InvoiceId": one} for one in invoices], "InvoiceProduct")
    adapter = site.creatio(page_size=10)
    first = await documents(adapter)
    assert {change.id for page in first for change in page.changes} == set(invoices)
    assert [page.complete for page in first] == [False] * (len(first) - 1) + [True]
    position = first[-1].position
    await site.reset_counts()
    assert [(page.changes, page.position, page.complete) for page in await documents(adapter, position)] == [((), position, True)]
    assert (await site.counts())["total"] == 2
    await site.edit(lines[7], {"Quantity": 4}, "InvoiceProduct")
    pages = await documents(adapter, position)
    assert invoices[7] in ids_of(pages)
    assert Change(invoices[7], None) in [change for page in pages for change in page.changes]


async def test_a_broken_walk_of_documents_goes_on_where_it_was(site: Site) -> None:
    """A position from the middle, of documents or of lines, brings what is left of both."""
    invoices = await site.seed([{"Number": f"I-{number}"} for number in range(25)], "Invoice")
    await site.seed([{"Name": "Pen", "Quantity": some, "InvoiceId": one} for some in range(10) for one in invoices], "InvoiceProduct")
    adapter = site.creatio(page_size=10)
    pages = await documents(adapter)
    assert len(pages) > 4, "three pages of documents, and several of their lines"
    for number, page in enumerate(pages[:-1]):
        rest = await documents(adapter, page.position)
        told = {change.id for one in (*pages[: number + 1], *rest) for change in one.changes}
        assert told == set(invoices), number
        assert rest[-1].complete
