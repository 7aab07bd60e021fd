"""The story of a price: lists and prices are set up in Creatio, quoted from in Dynamics, and meet each other in one currency."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.accounts import House, open_house
from tests.end_to_end.scenarios import in_step

FLOWS = {"FLOWS": "sales.account,sales.contact,sales.product,sales.price_list,sales.price"}


async def _named(house: House, entity: str, name: str) -> str:
    """Return the id of a row of Creatio by its name."""
    return next(str(row["Id"]) for row in await house.creatio.rows(entity) if row["Name"] == name)


async def _product(house: House, name: str, code: str | None, currency: str = "EUR") -> str:
    values = {"Name": name, "Code": code, "UnitId": await _named(house, "Unit", "Piece"), "Active": True, "Price": 9.0}
    return str((await house.creatio.create("Product", values | {"CurrencyId": await _named(house, "Currency", currency)}))["Id"])


async def _list(house: House, name: str, currency: str | None) -> str:
    chosen = await _named(house, "Currency", currency) if currency else None
    return str((await house.creatio.create("Pricelist", {"Name": name, "UsrCurrencyId": chosen}))["Id"])


async def _price(house: House, prices: str, product: str, amount: str, currency: str = "EUR") -> str:
    values = {"PriceListId": prices, "ProductId": product, "Price": float(amount), "CurrencyId": await _named(house, "Currency", currency)}
    return str((await house.creatio.create("ProductPrice", values))["Id"])


async def _in_dynamics(house: House) -> dict[tuple[str, str], Decimal]:
    """Return the prices of Dynamics, by list and product number."""
    lists = {row["pricelevelid"]: row["name"] for row in await house.dynamics.rows("pricelevel")}
    numbers = {row["productid"]: row["productnumber"] for row in await house.dynamics.rows("product")}
    rows = await house.dynamics.rows("productpricelevel")
    found = {(lists[row["pricelevelid"]], numbers[row["productid"]]): _money(row["amount"]) for row in rows}
    assert len(found) == len(rows), "no price stands twice"
    return found


def _money(value: Any) -> Decimal:
    return Decimal(str(value)).quantize(Decimal("0.01"))


async def _comes(house: House, expected: dict[tuple[str, str], str]) -> None:
    """Poll until Dynamics has exactly these prices."""
    wanted = {key: Decimal(amount) for key, amount in expected.items()}

    async def there() -> bool:
        await in_step(house, 1)
        return await _in_dynamics(house) == wanted

    await house.until(there, f"the prices are {expected}, they are {await _in_dynamics(house)}", 90)


async def test_prices_of_a_new_list_are_seen_in_dynamics_and_follow_edits_of_either_side(tmp_path: Path) -> None:
    """Lists with their currency go both ways; prices are created once, change on either side, and end on both."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, dynamics = house.creatio, house.dynamics
        pen, ink = await _product(house, "Pen", "P-1"), await _product(house, "Ink", "P-2")
        retail = await _list(house, "Retail", "EUR")
        of_pen = await _price(house, retail, pen, "1.50")
        await _price(house, retail, ink, "7")
        await _comes(house, {("Retail", "P-1"): "1.50", ("Retail", "P-2"): "7.00"})
        made = {row["name"]: row for row in await dynamics.rows("pricelevel")}["Retail"]
        currencies = {row["transactioncurrencyid"]: row["isocurrencycode"] for row in await dynamics.rows("transactioncurrency")}
        assert currencies[made["transactioncurrencyid"]] == "EUR"
        rows = {_money(row["amount"]): row for row in await dynamics.rows("productpricelevel")}
        assert (rows[Decimal("1.50")]["pricingmethodcode"], rows[Decimal("1.50")]["transactioncurrencyid"]) == (
            1,
            made["transactioncurrencyid"],
        )
        # The product's own standard list goes by a second write, for Dynamics does not take it with the create.
        await _product(house, "Cap", "P-3", "USD")
        await in_step(house)
        standard = {row["name"]: row["pricelevelid"] for row in await dynamics.rows("pricelevel")}["Default Price List"]
        given_lists = {row["productnumber"]: row["pricelevelid"] for row in await dynamics.rows("product")}
        assert given_lists == {"P-1": None, "P-2": None, "P-3": standard}
        # What Dynamics had before stands in Creatio too, with its currency.
        given = next(row for row in await creatio.rows("Pricelist") if row["Name"] == "Default Price List")
        assert given["UsrCurrencyId"] == await _named(house, "Currency", "USD")

        await creatio.edit("ProductPrice", of_pen, {"Price": 1.75})
        await _comes(house, {("Retail", "P-1"): "1.75", ("Retail", "P-2"): "7.00"})
        twin = next(
            row["productpricelevelid"] for row in await dynamics.rows("productpricelevel") if _money(row["amount"]) == Decimal("1.75")
        )
        await dynamics.edit("productpricelevel", twin, {"amount": 1.8})
        await in_step(house)
        assert _money((await creatio.row("ProductPrice", of_pen) or {})["Price"]) == Decimal("1.80")

        await dynamics.delete("productpricelevel", twin)
        await in_step(house)
        assert await creatio.row("ProductPrice", of_pen) is None
        assert await _in_dynamics(house) == {("Retail", "P-2"): Decimal("7.00")}
        assert (await house.flow("sales.price"))["failures"] == []


@pytest.mark.slow
async def test_a_price_in_another_currency_than_its_list_is_refused_by_name(tmp_path: Path) -> None:
    """Nothing is written, both columns are named; in the right currency it goes by itself. A bound price that turns wrong is held."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio = house.creatio
        pen = await _product(house, "Pen", "P-1")
        retail = await _list(house, "Retail", "EUR")
        price = await _price(house, retail, pen, "1.50", "USD")
        await in_step(house, 3)
        assert await _in_dynamics(house) == {}
        (failure,) = (await house.flow("sales.price"))["failures"]
        assert (failure["record"], failure["field"], failure["code"]) == (price, "Price=amount", "mapping.not_same")
        assert failure["said"] == "CurrencyId and PriceList/UsrCurrencyId"

        await creatio.edit("ProductPrice", price, {"CurrencyId": await _named(house, "Currency", "EUR")})
        await _comes(house, {("Retail", "P-1"): "1.50"})
        assert await house.failures(price, "sales.price") == {}
        await creatio.edit("ProductPrice", price, {"CurrencyId": await _named(house, "Currency", "GBP"), "Price": 1.2})
        await in_step(house)
        assert await house.failures(price, "sales.price") == {"Price=amount": "mapping.not_same"}
        assert await _in_dynamics(house) == {("Retail", "P-1"): Decimal("1.50")}


@pytest.mark.slow
async def test_prices_wait_for_their_product_and_list_and_meet_those_that_are_there(tmp_path: Path) -> None:
    """A price that comes first waits; one that Dynamics has already for list, product and unit is the same price, never a second one."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, dynamics = house.creatio, house.dynamics
        pen, ink = await _product(house, "Pen", None), await _product(house, "Ink", "P-2")
        retail = await _list(house, "Retail", None)
        await _price(house, retail, pen, "1.50")
        await in_step(house, 2)
        assert await _in_dynamics(house) == {}
        assert (await house.flow("sales.price"))["failures"] == [], "it waits, whatever else is still missing"
        await creatio.edit("Pricelist", retail, {"UsrCurrencyId": await _named(house, "Currency", "EUR")})
        await creatio.edit("Product", pen, {"Code": "P-1"})
        await _comes(house, {("Retail", "P-1"): "1.50"})

        (prices,) = [row["pricelevelid"] for row in await dynamics.rows("pricelevel") if row["name"] == "Retail"]
        (product,) = [row for row in await dynamics.rows("product") if row["productnumber"] == "P-2"]
        values = {"pricelevelid": prices, "productid": product["productid"], "uomid": product["defaultuomid"], "amount": 5}
        there = (await dynamics.create("productpricelevel", values))["productpricelevelid"]
        await in_step(house, 2)
        assert len(await creatio.rows("ProductPrice")) == 1, "Dynamics' own prices stay its own"
        await _price(house, retail, ink, "7")
        await _comes(house, {("Retail", "P-1"): "1.50", ("Retail", "P-2"): "7.00"})
        assert _money((await dynamics.row("productpricelevel", there) or {})["amount"]) == Decimal("7.00")
        assert (await house.flow("sales.price"))["failures"] == []
