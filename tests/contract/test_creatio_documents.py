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


async def test_a_line_takes_the_currency_of_its_order(tenant: Tenant) -> None:
    """A line without currency gets that of the order."""
    euro = next(row["Id"] for row in await tenant.rows("Currency") if row["Name"] == "EUR")
    order = await saved(tenant, "Order", Number="O-1", CurrencyId=euro)
    line = await saved(tenant, "OrderProduct", OrderId=order, Name="Pen", CurrencyId=None)
    assert (await row(tenant, "OrderProduct", line))["CurrencyId"] == euro


async def test_an_invoice_is_summed_up_by_sql(tenant: Tenant) -> None:
    """The sums of an invoice follow its lines, and its ModifiedOn does not move: a feed of invoices alone sees nothing."""
    invoice = await saved(tenant, "Invoice", Number="I-1", PaymentStatusId=WAITING)
    before = await row(tenant, "Invoice", invoice)
    await saved(tenant, "InvoiceProduct", InvoiceId=invoice, Name="Pen", TotalAmount=4.5, PrimaryTotalAmount=4.5)
    assert (await row(tenant, "Invoice", invoice))["Amount"] == 4.5
    assert (await row(tenant, "Invoice", invoice))["ModifiedOn"] == before["ModifiedOn"]


async def test_an_opportunity_is_the_sum_of_its_products(tenant: Tenant) -> None:
    """The amount of an opportunity is that of its product lines, and they go with it."""
    product = await saved(tenant, "Product", Name="Pen", Code="P-1")
    deal = await saved(tenant, "Opportunity", Title="Deal")
    line = await saved(tenant, "OpportunityProductInterest", OpportunityId=deal, ProductId=product, Amount=12.5)
    assert (await row(tenant, "Opportunity", deal))["Amount"] == 12.5
    await tenant.delete("Opportunity", deal)
    assert await tenant.rows("OpportunityProductInterest", f"Id eq {line}") == []


async def test_what_was_paid_of_an_order_tells_its_payment_status(tenant: Tenant) -> None:
    """Something paid is partly paid, all of it is paid."""
    order = await saved(tenant, "Order", Number="O-1")
    await saved(tenant, "OrderProduct", OrderId=order, Name="Pen", TotalAmount=10.0, PrimaryTotalAmount=10.0)
    for paid, status in ((4.0, PARTLY), (10.0, PAID)):
        await tenant.patch("Order", order, {"PaymentAmount": paid})
        assert (await row(tenant, "Order", order))["PaymentStatusId"] == status
