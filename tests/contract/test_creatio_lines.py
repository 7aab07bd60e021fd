"""The lines of Creatio's documents, read with them over HTTP (creatio.md 2.3, 5): many documents a request, none half."""

from typing import Any

import pytest

from shared.core.errors import Rejected
from shared.core.records import LinesOf, Row
from shared.systems.creatio import Creatio
from tests.contract.creatio_site import Site

LINES = LinesOf("OrderProduct", "OrderId", ("Name", "Quantity"))


async def orders(site: Site, number: int, lines: int) -> list[str]:
    """Put so many orders of so many lines into the site and return their ids."""
    made = await site.seed([{"Number": f"O-{place}"} for place in range(number)], "Order")
    await site.seed([line(order, place) for order in made for place in range(lines)], "OrderProduct")
    return made


def line(order: str, place: int) -> dict[str, Any]:
    """Return a line of an order."""
    return {"Name": f"{order[:8]} {place}", "Quantity": place + 1, "OrderId": order}


async def read(adapter: Creatio, ids: list[str], lines: LinesOf = LINES) -> dict[str, Any]:
    """Read orders with their lines."""
    return dict(await adapter.read("Order", ids, ("Number",), lines=lines))


def whole(rows: dict[str, Any], lines: int) -> bool:
    """Tell whether each order has its own lines, all of them."""
    wanted = {key: {f"{key[:8]} {place}" for place in range(lines)} for key in rows}
    return all(isinstance(row, Row) and {one["Name"] for one in row.lines.values()} == wanted[key] for key, row in rows.items())


async def test_a_hundred_documents_are_two_requests(site: Site) -> None:
    """Headers are one batch of reads, their lines another, however many filters that takes."""
    ids = await orders(site, 100, 5)
    adapter = site.creatio()
    assert whole(await read(adapter, ids), 5)
    await site.reset_counts()
    rows = await read(adapter, ids)
    assert (len(rows), whole(rows, 5)) == (100, True)
    assert (await site.counts())["total"] == 2


@pytest.mark.parametrize(("rows", "link"), [(20_000, False), (7, False), (7, True)])
async def test_more_lines_than_a_page_are_read_to_their_end(site: Site, rows: int, link: bool) -> None:
    """Our own page size and the server's cap cut the answer; with or without a link to the next page nothing is missing."""
    ids = await orders(site, 20, 6)
    await site.settings(max_entity_row_count=rows, next_link=link)
    assert whole(await read(site.creatio(page_size=10), ids), 6)


async def test_a_column_that_lines_lack_is_named(site: Site) -> None:
    """It concerns every document: half a line is never read."""
    ids = await orders(site, 3, 2)
    lines = LinesOf("OrderProduct", "OrderId", ("Name", "UsrNope"))
    with pytest.raises(Rejected) as caught:
        await read(site.creatio(), ids, lines)
    assert (caught.value.code, caught.value.entity, caught.value.field) == ("creatio.unknown_column", "OrderProduct", "UsrNope")


async def test_a_column_that_is_taken_away_is_noticed(site: Site) -> None:
    """The cached metadata still knows it, and the refusal of one part of the batch names it."""
    ids = await orders(site, 3, 2)
    lines, adapter = LinesOf("OrderProduct", "OrderId", ("Name", "CustomProduct")), site.creatio()
    assert whole(await read(adapter, ids, lines), 2)
    await site.administer("columns/remove", entity="OrderProduct", column="CustomProduct")
    with pytest.raises(Rejected) as caught:
        await read(adapter, ids, lines)
    assert (caught.value.code, caught.value.field) == ("creatio.unknown_column", "CustomProduct")


@pytest.mark.parametrize(("rows", "link"), [(20_000, False), (7, False), (7, True)])
async def test_all_lines_are_told_each_once(site: Site, rows: int, link: bool) -> None:
    """Whatever cuts the pages, every line comes with its document, none twice, and those without a document not at all."""
    ids = await orders(site, 5, 6)
    made = await site.seed([{"Name": "Loose", "Quantity": 1}], "OrderProduct")
    await site.settings(max_entity_row_count=rows, next_link=link)
    found = [one async for page in site.creatio().all_lines(LINES) for one in page]
    documents = await read(site.creatio(), ids)
    assert sorted(found) == sorted((order, line) for order, row in documents.items() for line in row.lines)
    assert made[0] not in {line for _, line in found}
