"""Paths of one lookup on Creatio: `Product/UnitId` is read by `$expand`, in every way rows are read (creatio.md 2.3)."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from shared.core.errors import Rejected
from shared.core.records import ColumnType, KeyRange, RangeBy, Row, Write, WriteKind
from tests.contract.creatio_site import Site

DOLLAR = "915e8a55-98d6-df11-9b2a-001d60e938c6"
UNIT = "Product/UnitId"
COLUMNS = ("Price", "ProductId", UNIT, "Product/Name", "Product/Price")
ALL = KeyRange(RangeBy.CREATED, datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC), 10)


async def price_of(site: Site, **values: object) -> tuple[str, str, str]:
    """Insert a product with a price; return both ids and that of the unit."""
    (unit,) = await site.seed([{"Name": "Box"}], "Unit")
    (prices,) = await site.seed([{"Name": "Base"}], "Pricelist")
    (product,) = await site.seed([{"Name": "Pen", "Code": "P-1", "UnitId": unit, "Price": 2.5, "CurrencyId": DOLLAR, **values}], "Product")
    (price,) = await site.seed([{"ProductId": product, "Price": 1.5, "CurrencyId": DOLLAR, "PriceListId": prices}], "ProductPrice")
    return price, product, unit


async def test_a_path_is_read_with_its_record(site: Site) -> None:
    """The values behind a lookup are normal values of their own types, in one request for the record and all of them."""
    price, product, unit = await price_of(site)
    (row,) = (await site.creatio().read("ProductPrice", [price], COLUMNS)).values()
    assert isinstance(row, Row)
    assert row.values == {
        "Price": Decimal("1.50"),
        "ProductId": product,
        UNIT: unit,
        "Product/Name": "Pen",
        "Product/Price": Decimal("2.50"),
    }
    (asked,) = [one for one in site.operations() if one.url.startswith("ProductPrice") and "$filter" in one.url]
    assert asked.text.count("$expand=Product($select=UnitId,Name,Price)") == 1


async def test_ranges_and_searches_read_paths_as_well(site: Site) -> None:
    """A path is never empty because of the way in which a row was read, and a key may lead through it."""
    price, _, unit = await price_of(site)
    adapter = site.creatio()
    page = await adapter.read_range("ProductPrice", ALL, COLUMNS, None, 10)
    row = page.rows[price]
    assert isinstance(row, Row)
    assert row.values[UNIT] == unit
    keys = [{UNIT: unit}, {UNIT: "c0000000-0000-4000-8000-000000000001"}, {"Product/Name": "Pen", "Price": Decimal("1.5")}]
    found = await adapter.find("ProductPrice", keys, COLUMNS)
    assert [[(hit.id, hit.values[UNIT]) for hit in hits] for hits in found] == [[(price, unit)], [], [(price, unit)]]


async def test_an_empty_lookup_makes_its_paths_empty(site: Site) -> None:
    """There is nothing behind an empty lookup."""
    (price,) = await site.seed([{"Price": 1.5}], "ProductPrice")
    (row,) = (await site.creatio().read("ProductPrice", [price], COLUMNS)).values()
    assert isinstance(row, Row)
    assert (row.values[UNIT], row.values["Product/Name"]) == (None, None)


async def test_a_hidden_record_does_not_look_empty(site: Site) -> None:
    """Record rights hide the product: the price's unit is not known then, which is an error of that price."""
    price, product, _ = await price_of(site)
    await site.settings(hidden_ids={"Product": [product]})
    (found,) = (await site.creatio().read("ProductPrice", [price], COLUMNS)).values()
    assert isinstance(found, Rejected)
    assert (found.code, found.field) == ("creatio.bad_row", UNIT)


async def test_a_write_reads_the_paths_that_the_plan_saw(site: Site) -> None:
    """Both reads of a batch show them, so that the row after a write is whole; they are never written."""
    price, product, unit = await price_of(site)
    adapter = site.creatio()
    (row,) = (await adapter.read("ProductPrice", [price], COLUMNS)).values()
    assert isinstance(row, Row)
    (result,) = await adapter.write("ProductPrice", [Write(WriteKind.UPDATE, price, {"Price": Decimal("1.75")}, row)])
    assert result.error is None
    assert result.row is not None
    assert (result.row.values, result.before) == ({**row.values, "Price": Decimal("1.75")}, None)
    (refused,) = await adapter.write("ProductPrice", [Write(WriteKind.UPDATE, price, {UNIT: unit}, row)])
    assert isinstance(refused.error, Rejected)
    stored = await site.row(product, "Product")
    assert stored is not None
    assert stored["UnitId"] == unit


async def test_metadata_of_a_path_is_that_of_its_end(site: Site) -> None:
    """Type and options are those of the table behind the lookup; what is missing on either end is missing."""
    await price_of(site)
    missing = ("Product/UsrNothing", "Nothing/Name", "ProductId/Name")
    entity = await site.creatio().describe("ProductPrice", (*COLUMNS, *missing), (UNIT,))
    unit = entity.columns[UNIT]
    assert (unit.type, unit.targets, unit.creatable, unit.updatable) == (ColumnType.LOOKUP, ("Unit",), False, False)
    assert "Box" in unit.options.values()
    assert entity.columns["Product/Price"].type is ColumnType.DECIMAL
    assert entity.missing == missing


@pytest.mark.parametrize("path", ["Product/UsrNothing", "Nothing/Name"])
async def test_reading_a_path_that_is_not_there_is_refused(site: Site, path: str) -> None:
    """As with any column: nobody takes it for empty."""
    price, _, _ = await price_of(site)
    with pytest.raises(Rejected, match=r"creatio\.unknown_column"):
        await site.creatio().read("ProductPrice", [price], [path])


async def test_a_column_that_goes_away_at_the_end_of_a_path_is_noticed(site: Site) -> None:
    """The kept metadata is dropped when the server knows better, and a column that comes is found."""
    price, product, _ = await price_of(site)
    adapter = site.creatio()
    await site.administer("columns/add", entity="Product", column="UsrShelf")
    await site.edit(product, {"UsrShelf": "A 12"}, "Product")
    (row,) = (await adapter.read("ProductPrice", [price], ["Product/UsrShelf"])).values()
    assert isinstance(row, Row)
    assert row.values == {"Product/UsrShelf": "A 12"}
    await site.administer("columns/remove", entity="Product", column="UsrShelf")
    with pytest.raises(Rejected, match=r"creatio\.unknown_column"):
        await adapter.read("ProductPrice", [price], ["Product/UsrShelf"])
    assert (await adapter.describe("ProductPrice", ["Product/UsrShelf"], ())).missing == ("Product/UsrShelf",)
