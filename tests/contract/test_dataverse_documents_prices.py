"""The price engine of the Dataverse stand-in: prices of lines, totals of headers, write-ins, currencies (checklist item 17)."""

import pytest

from tests.contract.dataverse_documents import LINES, SETS, bind, shop_in
from tests.contract.dataverse_stand_in import opened

TOTALS = (
    "totallineitemamount",
    "totallineitemdiscountamount",
    "totaldiscountamount",
    "totalamountlessfreight",
    "totaltax",
    "totalamount",
)
WRITE_IN = {"isproductoverridden": True, "productdescription": "Advice", "priceperunit": 100, "quantity": 1}


@pytest.fixture
async def shop():
    """Open an organisation with a small shop for one test."""
    async with opened() as org:
        yield await shop_in(org)


async def euro_of(shop, code="EUR"):
    """Return the id of a currency."""
    return (await shop.org.get("transactioncurrencies", filter=f"isocurrencycode eq '{code}'"))["value"][0]["transactioncurrencyid"]


async def priced(shop, table="salesorder", header=None, **values):
    """Add a line to a new or given header and return it as it is read."""
    header_id = header or await shop.header(table)
    return await shop.row_of_line(await shop.line(header_id, table, **values), table)


@pytest.mark.parametrize("table", LINES)
async def test_a_line_takes_its_price_from_the_list(shop, table) -> None:
    """Price and amounts of an existing product come from the header's list, whatever the client says; discounts and tax are its own."""
    line = await priced(shop, table, quantity=3, priceperunit=1, baseamount=7, manualdiscountamount=5, tax=2.5)
    assert (line["priceperunit"], line["baseamount"], line["extendedamount"]) == (19.99, 59.97, 57.47)
    assert (line["pricingerrorcode"], line["productname"], line["lineitemnumber"]) == (0, "Mouse", 1)
    assert line[f"{table}statecode"] == 0


@pytest.mark.parametrize("table", LINES)
async def test_totals_of_a_header_follow_its_lines_and_discounts(shop, table) -> None:
    """Every change of a line or of the header's discounts and freight gives new totals; clients can't write them."""
    header = await shop.header(table, discountpercentage=10, discountamount=3, freightamount=4, totalamount=1)
    line = await shop.line(header, table, quantity=2, manualdiscountamount=1.98, tax=6)
    await shop.line(header, table, WRITE_IN)
    row = await shop.row(table, header)
    assert [row[name] for name in TOTALS] == [138.0, 1.98, 16.8, 121.2, 6.0, 131.2]
    await shop.patched(f"{LINES[table]}({line})", quantity=4)
    assert (await shop.row(table, header))["totallineitemamount"] == 177.98
    await shop.patched(f"{SETS[table]}({header})", discountpercentage=0, totalamount=5)
    assert (await shop.row(table, header))["totalamount"] == 184.98
    assert (await shop.org.send("DELETE", f"{LINES[table]}({line})")).status_code == 204
    row = await shop.row(table, header)
    assert [row[name] for name in TOTALS] == [100.0, 0.0, 3.0, 97.0, 0.0, 101.0]


async def test_an_overridden_price_is_the_clients(shop) -> None:
    """With ispriceoverridden the price that is given counts; without one the line says so; taken back, the list counts again."""
    line = await priced(shop, ispriceoverridden=True, priceperunit=15)
    assert (line["priceperunit"], line["baseamount"]) == (15.0, 30.0)
    await shop.patched(f"salesorderdetails({line['salesorderdetailid']})", ispriceoverridden=False)
    assert (await shop.row_of_line(line["salesorderdetailid"]))["baseamount"] == 39.98
    assert (await priced(shop, ispriceoverridden=True))["pricingerrorcode"] == 5


async def test_write_ins(shop) -> None:
    """A write-in has a description and a price, and neither product nor unit."""
    order = await shop.header()
    line = await shop.row_of_line(await shop.line(order, body=WRITE_IN))
    assert (line["extendedamount"], line["productname"], line["_productid_value"]) == (100.0, "Advice", None)
    both = {**WRITE_IN, **bind("salesorder", order)}
    assert (await shop.org.refused("POST", "salesorderdetails", {**both, **bind("product", shop.product)}))[1] == "0x80043AFB"
    assert (await shop.org.refused("POST", "salesorderdetails", {**both, **bind("uom", shop.unit)}))[1] == "0x80043AFA"
    described = {**shop.item(), **bind("salesorder", order), "productdescription": "x"}
    assert (await shop.org.refused("POST", "salesorderdetails", described))[1] == "0x80043AFB"


async def test_what_a_line_lacks_is_told_by_its_pricing_error(shop) -> None:
    """Lines without price, list, unit, product or quantity are saved with a code; the header says that a detail has one."""
    order = await shop.header()
    other = await shop.org.create("pricelevels", name="Empty")
    empty = await shop.header(**bind("pricelevel", other))
    unpriced = {"customerid_account@odata.bind": f"/accounts({shop.account})"}
    listless = await shop.org.create("salesorders", name="No list", **unpriced)
    for header, body, code in (
        (order, {name: value for name, value in WRITE_IN.items() if name != "priceperunit"}, 5),
        (order, {"quantity": 1}, 6),
        (order, {"quantity": 1, **bind("product", shop.product)}, 10),
        (order, {**bind("product", shop.product), **bind("uom", shop.unit)}, 4),
        (listless, shop.item(), 2),
        (empty, shop.item(), 11),
    ):
        line = await shop.row_of_line(await shop.line(header, body=body))
        assert (line["pricingerrorcode"], line["extendedamount"]) == (code, 0.0)
        assert (await shop.row("salesorder", header))["pricingerrorcode"] == 1
    await shop.patched(f"pricelevels({other})", statecode=1, statuscode=100002)
    assert (await priced(shop, header=empty))["pricingerrorcode"] == 3


async def test_lines_with_pricing_errors_can_be_refused() -> None:
    """A line without a unit is saved with a code, or refused when the switch says so; one without an error never is."""
    for setting, status in (("save", 204), ("refuse", 400)):
        async with opened(pricing_errors=setting) as org:
            shop = await shop_in(org)
            body = {**bind("salesorder", await shop.header()), "quantity": 1, **bind("product", shop.product)}
            assert (await org.send("POST", "salesorderdetails", body)).status_code == status
            await shop.line(await shop.header())


async def test_a_repaired_line_clears_the_headers_error(shop) -> None:
    """Once the header has a list with the price its lines are priced again, and its error is gone."""
    order = await shop.org.create("salesorders", name="A", **bind("account", shop.account, "customerid_account"))
    line = await shop.line(order, quantity=1)
    await shop.patched(f"salesorders({order})", **bind("pricelevel", shop.prices))
    assert (await shop.row_of_line(line))["priceperunit"] == 19.99
    row = await shop.row("salesorder", order)
    assert (row["pricingerrorcode"], row["totalamount"]) == (0, 19.99)


@pytest.mark.parametrize(
    ("method", "values", "price"),
    [
        (2, {"percentage": 50}, 50.0),
        (3, {"percentage": 10}, 66.0),
        (4, {"percentage": 25}, 80.0),
        (5, {"percentage": 10}, 55.0),
        (6, {"percentage": 50}, 100.0),
        (3, {"percentage": 12.35, "roundingpolicycode": 2, "roundingoptioncode": 2, "roundingoptionamount": 5}, 70.0),
        (3, {"percentage": 12.35, "roundingpolicycode": 3, "roundingoptioncode": 1, "roundingoptionamount": 0.99}, 66.99),
        (3, {"percentage": 12.35, "roundingpolicycode": 4, "roundingoptioncode": 2, "roundingoptionamount": 5}, 65.0),
    ],
)
async def test_prices_by_percentage(shop, method, values, price) -> None:
    """Percentages of the list price, markups and margins on costs, rounded by the item's policy."""
    await shop.patched(f"products({shop.product})", price=100, currentcost=60, standardcost=50)
    item = (await shop.org.get("productpricelevels"))["value"][0]["productpricelevelid"]
    await shop.patched(f"productpricelevels({item})", pricingmethodcode=method, **values)
    assert (await priced(shop, quantity=1))["priceperunit"] == price


async def test_what_a_percentage_lacks_is_a_pricing_error(shop) -> None:
    """Without amount, percentage, list price or cost the line has the code of what is missing; whole items want whole quantities."""
    item = (await shop.org.get("productpricelevels"))["value"][0]["productpricelevelid"]
    for values, code in (
        ({"amount": None}, 12),
        ({"pricingmethodcode": 2}, 13),
        ({"percentage": 10}, 14),
        ({"pricingmethodcode": 3}, 15),
        ({"pricingmethodcode": 5}, 16),
        ({"pricingmethodcode": 1, "amount": 1, "quantitysellingcode": 2}, 29),
    ):
        await shop.patched(f"productpricelevels({item})", **values)
        assert (await priced(shop, quantity=1.5))["pricingerrorcode"] == code


async def test_only_active_products_in_their_own_units(shop) -> None:
    """A draft is refused, and a unit of another group too."""
    order = bind("salesorder", await shop.header())
    units = bind("uom", shop.unit, "defaultuomid") | bind("uomschedule", shop.group, "defaultuomscheduleid")
    draft = await shop.org.create("products", name="Draft", productnumber="D", quantitydecimal=0, **units)
    wrong = {**order, **shop.item(), **bind("product", draft)}
    assert (await shop.org.refused("POST", "salesorderdetails", wrong))[1:] == ("0x8004F908", "You can only add Active products.")
    boxes = await shop.org.create("uomschedules", name="Boxes")
    box = (await shop.org.get("uoms", filter=f"_uomscheduleid_value eq {boxes}"))["value"][0]["uomid"]
    assert (await shop.org.refused("POST", "salesorderdetails", {**order, **shop.item(), **bind("uom", box)}))[1] == "0x80043B14"


async def test_more_decimals_than_the_product_allows() -> None:
    """A quantity with three decimals of a product with two is kept, or refused when the switch says so."""
    for setting, status in (("accept", 204), ("refuse", 400)):
        async with opened(quantity_decimals=setting) as org:
            shop = await shop_in(org)
            body = {**bind("salesorder", await shop.header()), **shop.item(1.125)}
            assert (await org.send("POST", "salesorderdetails", body)).status_code == status
            await shop.line(await shop.header(), quantity=1.12)


@pytest.mark.parametrize("table", LINES)
async def test_header_and_list_have_one_currency(shop, table) -> None:
    """A header in another currency than its list is refused on create; one without a currency gets the base currency."""
    euro = bind("transactioncurrency", await euro_of(shop))
    body = {"name": "A", **bind("account", shop.account, "customerid_account"), **bind("pricelevel", shop.prices)}
    assert (await shop.org.refused("POST", SETS[table], {**body, **euro}))[1] == "0x80048CEE"
    row = await shop.row(table, await shop.org.create(SETS[table], **body))
    assert row["_transactioncurrencyid_value"] == await euro_of(shop, "USD")


async def test_amounts_in_the_base_currency(shop) -> None:
    """A header in euro and its lines carry the rate, and each amount divided by it; its currency is fixed once it has lines."""
    euro = await euro_of(shop)
    prices = await shop.org.create("pricelevels", name="Euro", **bind("transactioncurrency", euro))
    item = bind("pricelevel", prices) | bind("product", shop.product) | bind("uom", shop.unit)
    await shop.org.create("productpricelevels", amount=9.2, **item)
    for table, code in (("quote", "0x8004480E"), ("opportunity", "0x80048479")):
        header = await shop.header(table, **bind("pricelevel", prices), **bind("transactioncurrency", euro))
        line = await shop.row_of_line(await shop.line(header, table, quantity=10), table)
        assert (line["_transactioncurrencyid_value"], line["extendedamount"], line["extendedamount_base"]) == (euro, 92.0, 100.0)
        row = await shop.row(table, header)
        assert (row["totalamount"], row["totalamount_base"], row["exchangerate"]) == (92.0, 100.0, 0.92)
        dollar = bind("transactioncurrency", await euro_of(shop, "USD")) | {"pricelevelid@odata.bind": None}
        assert (await shop.org.refused("PATCH", f"{SETS[table]}({header})", dollar))[1] == code


async def test_money_is_rounded_half_up_to_the_currencys_precision(shop) -> None:
    """Half a cent goes up, less goes down; a currency without decimals has whole amounts."""
    line = await priced(shop, ispriceoverridden=True, priceperunit=0.25, quantity=0.5)
    assert line["baseamount"] == 0.13
    assert (await priced(shop, ispriceoverridden=True, priceperunit=0.25, quantity=0.49))["baseamount"] == 0.12
    yen = {"isocurrencycode": "JPY", "currencyname": "Yen", "currencysymbol": "Y", "currencyprecision": 0, "exchangerate": 150}
    currency = await shop.org.create("transactioncurrencies", **yen)
    body = {"name": "A", **bind("account", shop.account, "customerid_account"), **bind("transactioncurrency", currency)}
    order = await shop.org.create("salesorders", **body, freightamount=2.5)
    line = await priced(shop, header=order, ispriceoverridden=True, priceperunit=10.5, quantity=1.5)
    assert (line["priceperunit"], line["baseamount"]) == (11.0, 17.0)
    assert (await shop.row("salesorder", order))["totalamount"] == 20.0


async def test_estimated_revenue_by_the_system_or_the_user(shop) -> None:
    """With isrevenuesystemcalculated the estimate is the total; without it the client's value stays."""
    own = await shop.header("opportunity", estimatedvalue=500)
    system = await shop.header("opportunity", estimatedvalue=500, isrevenuesystemcalculated=True)
    for opportunity, value in ((own, 500.0), (system, 39.98)):
        await shop.line(opportunity, "opportunity")
        assert (await shop.row("opportunity", opportunity))["estimatedvalue"] == value
    await shop.patched(f"opportunities({system})", estimatedvalue=7)
    assert (await shop.row("opportunity", system))["estimatedvalue"] == 39.98


@pytest.mark.parametrize(("table", "name"), [("salesorder", "SalesOrder"), ("invoice", "Invoice")])
async def test_locked_prices_stay(shop, table, name) -> None:
    """While prices are locked a new price in the list is not felt; unlocked, the lines are priced again."""
    header = await shop.header(table)
    line = await shop.line(header, table, quantity=1)
    await shop.acted(f"Lock{name}Pricing", {f"{name}Id": header})
    item = (await shop.org.get("productpricelevels"))["value"][0]["productpricelevelid"]
    await shop.patched(f"productpricelevels({item})", amount=30)
    await shop.patched(f"{LINES[table]}({line})", quantity=2)
    assert (await shop.row_of_line(line, table))["baseamount"] == 39.98
    await shop.acted(f"Unlock{name}Pricing", {f"{name}Id": header})
    assert (await shop.row_of_line(line, table))["baseamount"] == 60.0
