"""What the Creatio stand-in does by itself with orders, invoices and opportunities (creatio.md 5.1)."""

from typing import Any

from tests.contract.creatio_stand_in import Tenant

PAID, PARTLY = "4721338e-a5f1-4529-96be-d3f311518812", "a2f17c7b-956b-47c8-9ea5-b545b74a26f6"
WAITING = "36319d13-98e6-df11-971b-001d60e938c6"


async def row(tenant: Tenant, entity: str, record: str) -> dict[str, Any]:
    """Return a row."""
    return dict(await tenant.get(f"{entity}({record})"))


async def saved(tenant: Tenant, entity: str, **values: object) -> str:
    """Create a row as a user does and return its id."""
    return str((await tenant.post(entity, values))["Id"])


async def test_an_order_is_the_sum_of_its_lines_and_changes_with_them(tenant: Tenant) -> None:
    """Each save and delete of a line saves the order with new sums: its ModifiedOn moves, amounts sent by a client go."""
    order = await saved(tenant, "Order", Number="O-1", Amount=999.0)
    pen = await saved(tenant, "OrderProduct", OrderId=order, Name="Pen", TotalAmount=4.5, PrimaryTotalAmount=9.0)
    before = await row(tenant, "Order", order)
    assert (before["Amount"], before["PrimaryAmount"]) == (4.5, 9.0)
    ink = await saved(tenant, "OrderProduct", OrderId=order, Name="Ink", TotalAmount=7.0, PrimaryTotalAmount=14.0)
    assert (await row(tenant, "Order", order))["ModifiedOn"] != before["ModifiedOn"]
    await tenant.patch("OrderProduct", pen, {"TotalAmount": 6.0})
    assert (await row(tenant, "Order", order))["Amount"] == 13.0
    await tenant.delete("OrderProduct", ink)
    assert (await row(tenant, "Order", order))["Amount"] == 6.0


async def test_a_line_saves_its_order_even_where_no_sum_changes(tenant: Tenant) -> None:
    """The order's ModifiedOn moves with every save of a line, unless saves without change move nothing (`empty_patch_stamps`)."""
    order = await saved(tenant, "Order", Number="O-1")
    line = await saved(tenant, "OrderProduct", OrderId=order, Name="Pen")
    stamps = [(await row(tenant, "Order", order))["ModifiedOn"]]
    for on in (True, False):
        await tenant.settings(empty_patch_stamps=on)
        await tenant.patch("OrderProduct", line, {"Notes": f"blue {on}"})
        stamps.append((await row(tenant, "Order", order))["ModifiedOn"])
    assert stamps[0] != stamps[1] == stamps[2]


async def test_a_line_takes_the_currency_of_its_order(tenant: Tenant) -> None:
    """A line without currency gets that of the order with its rate; one that has a currency keeps it."""
    euro = next(row["Id"] for row in await tenant.rows("Currency") if row["Name"] == "EUR")
    pound = next(row["Id"] for row in await tenant.rows("Currency") if row["Name"] == "GBP")
    order = await saved(tenant, "Order", Number="O-1", CurrencyId=euro, CurrencyRate=0.92)
    line = await saved(tenant, "OrderProduct", OrderId=order, Name="Pen", CurrencyId=None)
    shown = await row(tenant, "OrderProduct", line)
    assert (shown["CurrencyId"], shown["CurrencyRate"]) == (euro, 0.92)
    own = await saved(tenant, "OrderProduct", OrderId=order, Name="Pen", CurrencyId=pound, CurrencyRate=0.79)
    assert (await row(tenant, "OrderProduct", own))["CurrencyId"] == pound


async def test_an_invoice_is_summed_up_by_sql(tenant: Tenant) -> None:
    """The sums of an invoice follow its lines, and its ModifiedOn does not move: a feed of invoices alone sees nothing."""
    invoice = await saved(tenant, "Invoice", Number="I-1", PaymentStatusId=WAITING)
    before = await row(tenant, "Invoice", invoice)
    await saved(tenant, "InvoiceProduct", InvoiceId=invoice, Name="Pen", TotalAmount=4.5, PrimaryTotalAmount=4.5)
    assert (await row(tenant, "Invoice", invoice))["Amount"] == 4.5
    assert (await row(tenant, "Invoice", invoice))["ModifiedOn"] == before["ModifiedOn"]


async def test_a_line_that_moves_leaves_the_sums_of_its_old_document(tenant: Tenant) -> None:
    """Both documents are summed up anew when a line is moved; without a document it is in nobody's sum."""
    for lines, header, lookup, values in (
        ("OrderProduct", "Order", "OrderId", {}),
        ("InvoiceProduct", "Invoice", "InvoiceId", {"PaymentStatusId": WAITING}),
    ):
        first, second = [await saved(tenant, header, **values) for _ in "ab"]
        await saved(tenant, lines, Name="Ink", TotalAmount=2.0, **{lookup: first})
        pen = await saved(tenant, lines, Name="Pen", TotalAmount=5.0, **{lookup: first})
        await tenant.patch(lines, pen, {lookup: second})
        assert [(await row(tenant, header, one))["Amount"] for one in (first, second)] == [2.0, 5.0]
    await tenant.patch("OrderProduct", (await tenant.rows("OrderProduct", "Name eq 'Pen'"))[0]["Id"], {"OrderId": None})
    assert [one["Amount"] for one in await tenant.rows("Order", orderby="Amount")] == [0.0, 2.0]


async def test_an_opportunity_is_the_sum_of_its_products(tenant: Tenant) -> None:
    """The amount of an opportunity is that of its product lines, and they go with it."""
    product = await saved(tenant, "Product", Name="Pen", Code="P-1")
    deal = await saved(tenant, "Opportunity", Title="Deal")
    line = await saved(tenant, "OpportunityProductInterest", OpportunityId=deal, ProductId=product, Amount=12.5)
    assert (await row(tenant, "Opportunity", deal))["Amount"] == 12.5
    await tenant.delete("Opportunity", deal)
    assert await tenant.rows("OpportunityProductInterest", f"Id eq {line}") == []


async def test_what_was_paid_of_an_order_tells_its_payment_status(tenant: Tenant) -> None:
    """Something paid is partly paid, all of it is paid; what is added later is not paid yet, and what is taken back neither."""
    order = await saved(tenant, "Order", Number="O-1")
    pen = await saved(tenant, "OrderProduct", OrderId=order, Name="Pen", TotalAmount=10.0, PrimaryTotalAmount=10.0)
    for paid, status in ((4.0, PARTLY), (10.0, PAID)):
        await tenant.patch("Order", order, {"PaymentAmount": paid})
        assert (await row(tenant, "Order", order))["PaymentStatusId"] == status
    ink = await saved(tenant, "OrderProduct", OrderId=order, Name="Ink", TotalAmount=1.0)
    assert (await row(tenant, "Order", order))["PaymentStatusId"] == PARTLY
    await tenant.delete("OrderProduct", ink)
    assert (await row(tenant, "Order", order))["PaymentStatusId"] == PAID
    planned = next(one["Id"] for one in await tenant.rows("OrderPaymentStatus") if one["Name"] == "Planned")
    await tenant.patch("Order", order, {"PaymentStatusId": planned})
    await tenant.patch("OrderProduct", pen, {"Notes": "blue"})
    assert (await row(tenant, "Order", order))["PaymentStatusId"] == planned
    await tenant.patch("Order", order, {"PaymentAmount": 10.5})
    await tenant.patch("Order", order, {"PaymentAmount": 10.0})
    await tenant.patch("Order", order, {"PaymentAmount": -1.0})
    assert (await row(tenant, "Order", order))["PaymentStatusId"] == PAID
