"""Tables of sales and service in the Dataverse stand-in: what a new organisation has, required and create-only columns, the catalog."""

import json

import pytest

from tests.contract.dataverse_documents import LINES, SETS, bind, shop_in
from tests.contract.dataverse_stand_in import change_set, multipart, opened, part

MISSING = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
async def shop():
    """Open an organisation with a small shop for one test."""
    async with opened() as org:
        yield await shop_in(org)


async def test_a_new_organisation_can_sell() -> None:
    """It has three currencies, a unit group with its base unit, and a price list in the base currency."""
    async with opened() as org:
        codes = {row["isocurrencycode"] for row in (await org.get("transactioncurrencies"))["value"]}
        assert codes == {"USD", "EUR", "GBP"}
        group = (await org.get("uomschedules"))["value"][0]
        unit = (await org.get("uoms"))["value"][0]
        assert (group["name"], unit["name"], unit["isschedulebaseuom"]) == ("Default Unit", "Primary Unit", True)
        assert unit["_uomscheduleid_value"] == group["uomscheduleid"]
        prices = (await org.get("pricelevels", expand="transactioncurrencyid"))["value"][0]
        assert (prices["name"], prices["transactioncurrencyid"]["isocurrencycode"]) == ("Default Price List", "USD")


async def test_a_unit_group_brings_its_base_unit(shop) -> None:
    """Creating a unit group creates its base unit, by the name that was given; the base unit can't be deleted nor get a base."""
    group = await shop.org.create("uomschedules", name="Boxes", baseuomname="Box")
    unit = (await shop.org.get("uoms", filter=f"_uomscheduleid_value eq {group}"))["value"][0]
    assert (unit["name"], unit["isschedulebaseuom"], unit["quantity"]) == ("Box", True, 1)
    assert (await shop.org.refused("DELETE", f"uoms({unit['uomid']})"))[1] == "0x80043B03"
    other = bind("uom", shop.unit, "baseuom")
    assert (await shop.org.refused("PATCH", f"uoms({unit['uomid']})", other))[1] == "0x80043B17"
    pallet = await shop.org.create("uoms", name="Pallet", quantity=40, **bind("uomschedule", group))
    assert (await shop.org.get(f"uoms({pallet})"))["_baseuom_value"] == unit["uomid"]
    assert (await shop.org.send("DELETE", f"uomschedules({group})")).status_code == 204
    assert (await shop.org.send("GET", f"uoms({pallet})")).status_code == 404


@pytest.mark.parametrize(
    ("entity_set", "body"),
    [
        ("salesorderdetails", {"isproductoverridden": True, "productdescription": "x", "priceperunit": 1, "quantity": 1}),
        ("quotedetails", {"quantity": 1}),
        ("invoicedetails", {"quantity": 1}),
        ("opportunityproducts", {"quantity": 1}),
        ("productpricelevels", {"amount": 1}),
        ("uoms", {"name": "A", "quantity": 1}),
        ("incidents", {"title": "No customer"}),
        ("products", {"name": "No number"}),
        ("pricelevels", {}),
        ("uomschedules", {}),
    ],
)
async def test_what_the_system_requires_must_be_given(shop, entity_set, body) -> None:
    """Rows without a parent, or another column the system requires, are refused with RequiredFieldMissing."""
    status, code, _ = await shop.org.refused("POST", entity_set, body)
    assert (status, code) == (400, "0x80040200")


async def test_a_required_parent_cannot_be_emptied(shop) -> None:
    """A line never loses its header, nor a case its customer."""
    line = await shop.line(await shop.header())
    status, code, _ = await shop.org.refused("PATCH", f"salesorderdetails({line})", {"salesorderid@odata.bind": None})
    assert (status, code) == (400, "0x80040203")
    case = await shop.org.create("incidents", title="A", **bind("account", shop.account, "customerid_account"))
    assert (await shop.org.refused("PATCH", f"incidents({case})", {"customerid_account@odata.bind": None}))[0] == 400


@pytest.mark.parametrize(
    ("table", "column"),
    [("salesorder", "ordernumber"), ("quote", "quotenumber"), ("invoice", "invoicenumber"), ("incident", "ticketnumber")],
)
async def test_numbers_are_given_unless_the_client_chose_one(shop, table, column) -> None:
    """Each new row gets a number of its own; one that a client chose is kept."""
    customer = bind("account", shop.account, "customerid_account")
    first, second, own = [
        (await shop.row(table, await shop.org.create(SETS[table], **customer, **more)))[column] for more in ({}, {}, {column: "MY-7"})
    ]
    assert own == "MY-7"
    assert first != second
    assert first[:4] == second[:4]
    assert first.count("-") == 2


async def test_create_only_columns_are_refused_or_ignored() -> None:
    """A change of a number is 400, or nothing when the switch says so."""
    for setting, status in (("refuse", 400), ("ignore", 204)):
        async with opened(create_only_columns=setting) as org:
            shop = await shop_in(org)
            order = await shop.header(ordernumber="MINE")
            assert (await org.send("PATCH", f"salesorders({order})", {"ordernumber": "OTHER"})).status_code == status
            assert (await shop.row("salesorder", order))["ordernumber"] == "MINE"


@pytest.mark.parametrize("table", ["opportunity", "quote", "salesorder", "invoice", "incident"])
async def test_a_state_cannot_be_set_on_create(shop, table) -> None:
    """The state of a new document or case is the first one; a status of another state doesn't fit it."""
    body = {"name": "A"} if table in LINES else {"title": "A"}
    body |= bind("account", shop.account, "customerid_account")
    assert (await shop.org.refused("POST", SETS[table], {**body, "statecode": 1}))[1] == "0x80048408"
    closed = {"opportunity": 3, "quote": 4, "salesorder": 4, "invoice": 100001, "incident": 5}[table]
    assert (await shop.org.refused("POST", SETS[table], {**body, "statuscode": closed}))[1] == "0x80048408"
    row = await shop.row(table, await shop.org.create(SETS[table], **body))
    assert (row["statecode"], row["statuscode"]) == (0, 1)
    assert row["_accountid_value"] == shop.account


async def test_deltas_tell_of_documents() -> None:
    """A tracked table of documents tells of new, changed and deleted rows, also of headers whose lines changed."""
    async with opened(tracked_tables=["salesorder", "salesorderdetail"]) as org:
        shop = await shop_in(org)
        link = (await org.get("salesorders?$select=name", prefer="odata.track-changes"))["@odata.deltaLink"]
        order = await shop.header()
        link = (await org.get(link))["@odata.deltaLink"]
        line = await shop.line(order)
        changed = await org.get(link)
        assert [row["salesorderid"] for row in changed["value"]] == [order]
        lines = (await org.get("salesorderdetails?$select=quantity", prefer="odata.track-changes"))["@odata.deltaLink"]
        assert (await org.send("DELETE", f"salesorders({order})")).status_code == 204
        gone = await org.get(changed["@odata.deltaLink"])
        assert [row["id"] for row in gone["value"]] == [order]
        assert [row["id"] for row in (await org.get(lines))["value"]] == [line]


async def test_a_header_and_its_lines_in_one_change_set(shop) -> None:
    """Lines of a change set refer to its header by Content-ID; one bad line undoes all of it."""
    header = json.dumps({"name": "Batched", **bind("account", shop.account, "customerid_account"), **bind("pricelevel", shop.prices)})
    line = {"salesorderid@odata.bind": "$1", **shop.item(3)}
    good = [part("POST", "salesorders", header, "1"), part("POST", "salesorderdetails", json.dumps(line), "2")]
    bad = part("POST", "salesorderdetails", json.dumps({**line, "productdescription": "both"}), "3")
    assert (await shop.org.batch(multipart(change_set(*good, bad)))).status_code == 400
    assert (await shop.org.get("salesorders"))["value"] == []
    assert (await shop.org.batch(multipart(change_set(*good)))).status_code == 200
    order = (await shop.org.get("salesorders"))["value"][0]
    assert order["totalamount"] == 59.97
    assert len((await shop.org.get(f"salesorders({order['salesorderid']})/order_details"))["value"]) == 1


async def test_a_header_with_nested_lines(shop) -> None:
    """Lines can be nested in the header that is created, and are priced."""
    body = {"name": "Deep", **bind("account", shop.account, "customerid_account"), **bind("pricelevel", shop.prices)}
    quote = await shop.org.create("quotes", **body, quote_details=[shop.item(1), shop.item(2)])
    assert (await shop.row("quote", quote))["totalamount"] == 59.97


async def test_the_states_of_products() -> None:
    """New products are drafts or active by the organisation's setting; drafts are published, never made drafts again."""
    async with opened(products_created="active") as org:
        group, unit = (await org.get("uomschedules"))["value"][0]["uomscheduleid"], (await org.get("uoms"))["value"][0]["uomid"]
        units = bind("uom", unit, "defaultuomid") | bind("uomschedule", group, "defaultuomscheduleid")
        made = await org.create("products", name="A", productnumber="A", quantitydecimal=0, **units)
        assert (await org.get(f"products({made})"))["statecode"] == 0
        await org.control("settings", {"products_created": "draft"})
        draft = await org.create("products", name="B", productnumber="B", quantitydecimal=0, **units)
        assert (await org.get(f"products({draft})"))["statuscode"] == 0
        assert (await org.refused("PATCH", f"products({draft})", {"statecode": 1, "statuscode": 2}))[1] == "0x8004F978"
        answer = await org.send("POST", f"products({draft})/Microsoft.Dynamics.CRM.PublishProductHierarchy", {})
        assert answer.status_code == 204
        assert (await org.get(f"products({draft})"))["statecode"] == 0
        assert (await org.refused("PATCH", f"products({draft})", {"statecode": 2, "statuscode": 0}))[1] == "0x8004F912"
        item = bind("pricelevel", (await org.get("pricelevels"))["value"][0]["pricelevelid"]) | bind("product", draft) | bind("uom", unit)
        price = await org.create("productpricelevels", amount=1, **item)
        assert (await org.refused("PATCH", f"products({draft})", {"statecode": 1, "statuscode": 2}))[1] == "0x8004F915"
        assert (await org.send("DELETE", f"productpricelevels({price})")).status_code == 204
        assert (await org.send("PATCH", f"products({draft})", {"statecode": 1, "statuscode": 2})).status_code == 204


async def test_families_are_edited_as_drafts_only(shop) -> None:
    """A published family can't be edited, and no family gets a price."""
    family = await shop.org.create("products", name="Family", productnumber="F", productstructure=2)
    prices = bind("pricelevel", shop.prices) | bind("product", family) | bind("uom", shop.unit)
    assert (await shop.org.refused("POST", "productpricelevels", {"amount": 1, **prices}))[1] == "0x8004F902"
    await shop.patched(f"products({family})", description="draft")
    await shop.acted(f"products({family})/Microsoft.Dynamics.CRM.PublishProductHierarchy", {})
    assert (await shop.org.refused("PATCH", f"products({family})", {"description": "late"}))[1] == "0x8004F975"
    assert (await shop.org.send("POST", f"products({family})/Microsoft.Dynamics.CRM.PublishProductHierarchy", {})).status_code == 400


async def test_wrong_products(shop) -> None:
    """A number that is taken, missing or foreign units and wrong decimals are refused with their codes."""
    units = bind("uom", shop.unit, "defaultuomid") | bind("uomschedule", shop.group, "defaultuomscheduleid")
    other = await shop.org.create("uomschedules", name="Boxes")
    body = {"name": "A", "productnumber": "A", "quantitydecimal": 0}
    for wrong, code in (
        ({**units, "productnumber": "M-1"}, "0x80040237"),
        ({}, "0x80043B0A"),
        (bind("uomschedule", shop.group, "defaultuomscheduleid"), "0x80043B13"),
        ({**units, **bind("uomschedule", other, "defaultuomscheduleid")}, "0x80043B14"),
    ):
        assert (await shop.org.refused("POST", "products", {**body, **wrong}))[1] == code, code


async def test_price_lists(shop) -> None:
    """A list's name is unique; an item is unique by list, product and unit, and follows its list's currency and its product."""
    assert (await shop.org.refused("POST", "pricelevels", {"name": "default price list"}))[1] == "0x80043B0F"
    item = bind("pricelevel", shop.prices) | bind("product", shop.product) | bind("uom", shop.unit)
    assert (await shop.org.refused("POST", "productpricelevels", {"amount": 5, **item}))[1] == "0x80043B08"
    boxes = await shop.org.create("uomschedules", name="Boxes")
    box = (await shop.org.get("uoms", filter=f"_uomscheduleid_value eq {boxes}"))["value"][0]["uomid"]
    assert (await shop.org.refused("POST", "productpricelevels", {"amount": 5, **item, **bind("uom", box)}))[1] == "0x80043B14"
    row = (await shop.org.get("productpricelevels"))["value"][0]
    assert (row["productidname"], row["pricingmethodcode"]) == ("Mouse", 1)
    assert row["_transactioncurrencyid_value"] is not None


async def test_the_base_currency_keeps_its_rate(shop) -> None:
    """Its exchange rate is 1 for ever; those of others can be changed."""
    rows = {row["isocurrencycode"]: row["transactioncurrencyid"] for row in (await shop.org.get("transactioncurrencies"))["value"]}
    assert (await shop.org.refused("PATCH", f"transactioncurrencies({rows['USD']})", {"exchangerate": 2}))[1] == "0x80048CF5"
    await shop.patched(f"transactioncurrencies({rows['EUR']})", exchangerate=0.5)
    more = {"isocurrencycode": "EUR", "currencyname": "Again", "currencysymbol": "E", "currencyprecision": 2, "exchangerate": 1}
    assert (await shop.org.refused("POST", "transactioncurrencies", more))[0] == 412


async def test_what_is_used_cannot_be_deleted(shop) -> None:
    """Products and lists of documents, and units of products, are restricted; a header takes its lines with it."""
    order = await shop.header()
    line = await shop.line(order)
    for path in (f"products({shop.product})", f"pricelevels({shop.prices})", f"uomschedules({shop.group})"):
        assert (await shop.org.refused("DELETE", path))[:2] == (405, "0x80040227"), path
    assert (await shop.org.send("DELETE", f"salesorders({order})")).status_code == 204
    assert (await shop.org.send("GET", f"salesorderdetails({line})")).status_code == 404
    assert (await shop.org.send("DELETE", f"products({shop.product})")).status_code == 204
    assert (await shop.org.get("productpricelevels"))["value"] == []


async def test_deleting_an_opportunity(shop) -> None:
    """Its quotes and lines go with it; an order or invoice forbids it."""
    opportunity = await shop.header("opportunity")
    line = await shop.line(opportunity, "opportunity")
    quote = await shop.header("quote", **bind("opportunity", opportunity))
    order = await shop.header("salesorder", **bind("opportunity", opportunity))
    assert (await shop.org.refused("DELETE", f"opportunities({opportunity})"))[:2] == (405, "0x80040227")
    assert (await shop.org.send("DELETE", f"salesorders({order})")).status_code == 204
    assert (await shop.org.send("DELETE", f"opportunities({opportunity})")).status_code == 204
    for path in (f"opportunityproducts({line})", f"quotes({quote})"):
        assert (await shop.org.send("GET", path)).status_code == 404
