"""Currencies, rates and payments of the Creatio stand-in's documents (creatio.md 5, 5.1)."""

from typing import Any

import pytest

from tests.contract.creatio_stand_in import EMPTY, Tenant

WAITING = "36319d13-98e6-df11-971b-001d60e938c6"
PLANNED, PARTLY, PAID = (
    "bfe38d3d-bd57-48d7-a2d7-82435cd274ca",
    "a2f17c7b-956b-47c8-9ea5-b545b74a26f6",
    "4721338e-a5f1-4529-96be-d3f311518812",
)
PAYMENT = "d868f4b7-4946-4bb1-94bb-6fb93a513ce4"
PLAN = "2026-05-01T00:00:00Z"
NO_DATE = "0001-01-01T00:00:00Z"
MONEY = ("Price", "Amount", "DiscountAmount", "TaxAmount", "TotalAmount")
LINE = {"Name": "Pen", "Price": 46.0, "Amount": 92.0, "DiscountAmount": 9.2, "TaxAmount": 4.6, "TotalAmount": 87.4}
WORTH = {"PrimaryPrice": 50.0, "PrimaryAmount": 100.0, "PrimaryDiscountAmount": 10.0, "PrimaryTaxAmount": 5.0, "PrimaryTotalAmount": 95.0}


async def row(tenant: Tenant, entity: str, record: str, *columns: str) -> Any:
    """Return a row, or those of its columns that are named."""
    found = await tenant.get(f"{entity}({record})")
    return tuple(found[name] for name in columns) if columns else found


async def saved(tenant: Tenant, entity: str, **values: object) -> str:
    """Create a row and return its id."""
    return str((await tenant.post(entity, values))["Id"])


async def currency(tenant: Tenant, name: str) -> str:
    """Return the id of a currency."""
    return str((await tenant.rows("Currency", f"Name eq '{name}'"))[0]["Id"])


async def step(tenant: Tenant, **values: object) -> str:
    """Create an installment and return its id."""
    return await saved(tenant, "SupplyPaymentElement", **{"Name": "Half", "TypeId": PAYMENT, "DatePlan": PLAN, **values})


async def test_an_orders_primary_amount_follows_its_rate(tenant: Tenant) -> None:
    """Amount x Division / Rate at each save, whatever was sent: half a cent is rounded up, away from zero."""
    euro = await currency(tenant, "EUR")
    order = await saved(tenant, "Order", CurrencyId=euro, CurrencyRate=0.8, Amount=10.0, PrimaryAmount=77.0)
    assert await row(tenant, "Order", order, "PrimaryAmount") == (12.5,)
    for amount, worth in ((0.02, 0.03), (-0.02, -0.03)):
        await tenant.patch("Order", order, {"Amount": amount})
        assert await row(tenant, "Order", order, "PrimaryAmount") == (worth,)
    await tenant.patch("Currency", euro, {"Division": 100})
    await tenant.patch("Order", order, {"Amount": 1.0})
    assert await row(tenant, "Order", order, "PrimaryAmount") == (125.0,)
    await tenant.patch("Order", order, {"CurrencyRate": 0.0, "Notes": "no rate"})
    assert await row(tenant, "Order", order, "PrimaryAmount") == (125.0,)


async def test_without_side_effects_amounts_stay_as_sent(tenant: Tenant) -> None:
    """The switch `side_effects` off: neither rate nor primary amount is filled in, nothing is summed up."""
    await tenant.settings(side_effects=False)
    invoice = await saved(tenant, "Invoice", CurrencyId=await currency(tenant, "EUR"), Amount=92.0)
    await saved(tenant, "InvoiceProduct", InvoiceId=invoice, Name="Pen", TotalAmount=5.0)
    await tenant.patch("Invoice", invoice, {"Notes": "a"})
    assert await row(tenant, "Invoice", invoice, "CurrencyRate", "Amount", "PrimaryAmount") == (1.0, 92.0, 0.0)


async def test_a_stale_read_shows_an_order_as_before_its_save(tenant: Tenant) -> None:
    """What the server works out is part of the save: no version in between is there to be read."""
    order = await saved(tenant, "Order", Amount=10.0)
    await tenant.patch("Order", order, {"Amount": 20.0})
    await tenant.chaos({"kind": "stale_read", "times": 1})
    assert await row(tenant, "Order", order, "Amount", "PrimaryAmount") == (10.0, 10.0)


async def test_an_order_has_rate_1_unless_one_is_sent(tenant: Tenant) -> None:
    """The rate of an order is not looked up: it is 1, or what the client sends."""
    order = await saved(tenant, "Order", CurrencyId=await currency(tenant, "EUR"), Amount=92.0)
    assert await row(tenant, "Order", order, "CurrencyRate", "PrimaryAmount") == (1.0, 92.0)


async def test_an_invoice_takes_the_rate_of_today_while_it_has_no_primary_amount(tenant: Tenant) -> None:
    """Rate and primary amount are filled in when this was 0, and only then; a rate sent with 0 is lost."""
    euro = await currency(tenant, "EUR")
    invoice = await saved(tenant, "Invoice", CurrencyId=euro, CurrencyRate=0.5, Amount=92.0)
    assert await row(tenant, "Invoice", invoice, "CurrencyRate", "PrimaryAmount") == (0.92, 100.0)
    await tenant.patch("Invoice", invoice, {"Amount": 184.0, "CurrencyRate": 0.5})
    assert await row(tenant, "Invoice", invoice, "CurrencyRate", "PrimaryAmount") == (0.5, 100.0)
    own = await saved(tenant, "Invoice", CurrencyId=euro, CurrencyRate=0.5, Amount=92.0, PrimaryAmount=184.0)
    assert await row(tenant, "Invoice", own, "CurrencyRate", "PrimaryAmount") == (0.5, 184.0)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([], 0.25),
        ([{"StartDate": "2020-01-01T00:00:00Z", "Rate": 0.5}], 0.5),
        ([{"StartDate": "2020-01-01T00:00:00Z", "EndDate": "2020-12-31T00:00:00Z", "Rate": 0.5}], 0.25),
        ([{"StartDate": "2999-01-01T00:00:00Z", "Rate": 0.5}, {"Rate": 2.0}], 2.0),
        ([{"StartDate": "2020-01-01T00:00:00Z", "Rate": 0.5}, {"StartDate": "2021-01-01T00:00:00Z", "Rate": 4.0}], 4.0),
    ],
)
async def test_the_rate_of_today_is_the_last_that_began(tenant: Tenant, rates: list[dict[str, object]], expected: float) -> None:
    """Of the rates of a currency the last that began and has not ended counts; without one that of the currency itself."""
    krone = await saved(tenant, "Currency", Name="NOK", Code="578", Symbol="kr", Rate=0.25)
    for rate in rates:
        await saved(tenant, "CurrencyRate", CurrencyId=krone, **rate)
    invoice = await tenant.post("Invoice", {"CurrencyId": krone})
    assert invoice["CurrencyRate"] == expected


@pytest.mark.parametrize(
    ("lines", "header", "lookup", "values"),
    [("OrderProduct", "Order", "OrderId", {}), ("InvoiceProduct", "Invoice", "InvoiceId", {"PrimaryAmount": 1.0})],
)
async def test_a_changed_rate_rewrites_the_lines_by_sql(
    tenant: Tenant, lines: str, header: str, lookup: str, values: dict[str, object]
) -> None:
    """What the lines are worth follows the document's new rate, their ModifiedOn stays, and the document has the new sum."""
    euro = await currency(tenant, "EUR")
    document = await saved(tenant, header, **values)
    line = await saved(tenant, lines, **{lookup: document, **LINE, "PrimaryTotalAmount": 87.4})
    other = await saved(
        tenant, lines, Name="other", TotalAmount=1.0, PrimaryTotalAmount=1.0, **{lookup: await saved(tenant, header, **values)}
    )
    before = await row(tenant, lines, line)
    await tenant.patch(header, document, {"CurrencyId": euro, "CurrencyRate": 0.92})
    after = await row(tenant, lines, line)
    assert {name: after[name] for name in WORTH} == WORTH
    assert [after[name] for name in (*MONEY, "ModifiedOn")] == [before[name] for name in (*MONEY, "ModifiedOn")]
    assert await row(tenant, header, document, "Amount", "PrimaryAmount") == (87.4, 95.0)
    assert await row(tenant, lines, other, "PrimaryTotalAmount") == (1.0,)
    if lines == "OrderProduct":
        assert (after["CurrencyId"], after["CurrencyRate"]) == (euro, 0.92)


async def test_a_changed_rate_may_rewrite_the_prices(tenant: Tenant) -> None:
    """Where the server keeps what a line is worth, its amounts follow the new rate, and the document's sum and payment with them."""
    await tenant.settings(rate_change="amounts")
    order = await saved(tenant, "Order", PaymentAmount=87.4)
    line = await saved(tenant, "OrderProduct", OrderId=order, Name="Pen", TotalAmount=95.0, **WORTH)
    await tenant.patch("Order", order, {"CurrencyId": await currency(tenant, "EUR"), "CurrencyRate": 0.92})
    assert await row(tenant, "OrderProduct", line, *MONEY) == tuple(LINE[name] for name in MONEY)
    assert await row(tenant, "OrderProduct", line, *WORTH) == tuple(WORTH.values())
    assert await row(tenant, "Order", order, "Amount", "PrimaryAmount", "PaymentStatusId") == (87.4, 95.0, PAID)


async def test_an_order_without_lines_keeps_its_amount_at_another_rate(tenant: Tenant) -> None:
    """A changed rate sums up lines only where there are any."""
    order = await saved(tenant, "Order", Amount=92.0)
    await tenant.patch("Order", order, {"CurrencyRate": 0.92})
    assert await row(tenant, "Order", order, "Amount", "PrimaryAmount") == (92.0, 100.0)


@pytest.mark.parametrize(("lines", "header", "lookup"), [("OrderProduct", "Order", "OrderId"), ("InvoiceProduct", "Invoice", "InvoiceId")])
async def test_who_works_out_the_amounts_of_a_line(tenant: Tenant, lines: str, header: str, lookup: str) -> None:
    """The client does, all of it; by the switch `line_amounts` the server does for the primary amounts, or for all of them."""
    euro = await currency(tenant, "EUR")
    document = await saved(tenant, header, CurrencyId=euro, CurrencyRate=0.92, PrimaryAmount=1.0)
    line = await saved(tenant, lines, **{lookup: document, **LINE, "Quantity": 3.0, "DiscountPercent": 50.0, "DiscountTax": 10.0})
    assert await row(tenant, lines, line, *MONEY) == tuple(LINE[name] for name in MONEY)
    assert await row(tenant, lines, line, *WORTH) == (0.0,) * 5
    await tenant.settings(line_amounts="primary")
    await tenant.patch(lines, line, {"Notes": "a"})
    assert await row(tenant, lines, line, *MONEY) == tuple(LINE[name] for name in MONEY)
    assert await row(tenant, lines, line, *WORTH) == tuple(WORTH.values())
    await tenant.settings(line_amounts="server")
    await tenant.patch(lines, line, {"Notes": "b"})
    assert await row(tenant, lines, line, *MONEY) == (46.0, 138.0, 69.0, 6.9, 75.9)
    assert await row(tenant, lines, line, *WORTH) == (50.0, 150.0, 75.0, 7.5, 82.5)
    assert await row(tenant, header, document, "Amount", "PrimaryAmount") == (75.9, 82.5)
    await tenant.patch(lines, line, {"DiscountPercent": 0.0, "DiscountAmount": 8.0, "DiscountTax": 0.0, "TaxAmount": 2.0})
    assert await row(tenant, lines, line, *MONEY) == (46.0, 138.0, 8.0, 2.0, 132.0)


async def test_what_an_invoice_was_paid_reaches_installment_and_order(tenant: Tenant) -> None:
    """A payment of an invoice is that of its installment, and all installments are what was paid of the order, which changes with it."""
    order = await saved(tenant, "Order")
    await saved(tenant, "OrderProduct", OrderId=order, Name="Pen", TotalAmount=10.0)
    invoice = await saved(tenant, "Invoice", OrderId=order)
    first = await step(tenant, OrderId=order, InvoiceId=invoice)
    second = await step(tenant, OrderId=order)
    before = await row(tenant, "Order", order, "ModifiedOn")
    await tenant.patch("Invoice", invoice, {"PaymentAmount": 4.0, "PrimaryPaymentAmount": 5.0})
    assert await row(tenant, "SupplyPaymentElement", first, "AmountFact", "PrimaryAmountFact") == (4.0, 5.0)
    assert await row(tenant, "Order", order, "PaymentAmount", "PrimaryPaymentAmount", "PaymentStatusId") == (4.0, 5.0, PARTLY)
    assert await row(tenant, "Order", order, "ModifiedOn") > before
    await tenant.patch("SupplyPaymentElement", second, {"AmountFact": 6.0})
    assert await row(tenant, "Order", order, "PaymentAmount", "PrimaryPaymentAmount", "PaymentStatusId") == (10.0, 5.0, PAID)
    await tenant.delete("SupplyPaymentElement", second)
    assert await row(tenant, "Order", order, "PaymentAmount", "PaymentStatusId") == (4.0, PARTLY)


async def test_what_installments_were_paid_reaches_their_invoice(tenant: Tenant) -> None:
    """An invoice was paid what its installments were; one that is attached to a paid invoice takes the amount from it."""
    invoice = await saved(tenant, "Invoice", PaymentAmount=7.0, PrimaryPaymentAmount=8.0)
    first = await step(tenant)
    await tenant.patch("SupplyPaymentElement", first, {"InvoiceId": invoice})
    assert await row(tenant, "SupplyPaymentElement", first, "AmountFact", "PrimaryAmountFact") == (7.0, 8.0)
    await tenant.patch("SupplyPaymentElement", first, {"AmountFact": 3.0, "PrimaryAmountFact": 4.0})
    assert await row(tenant, "Invoice", invoice, "PaymentAmount", "PrimaryPaymentAmount") == (3.0, 4.0)
    second = await step(tenant, InvoiceId=invoice, AmountFact=1.5)
    assert await row(tenant, "Invoice", invoice, "PaymentAmount") == (4.5,)
    third = await step(tenant, InvoiceId=invoice)
    assert await row(tenant, "SupplyPaymentElement", third, "AmountFact") == (0.0,)
    await tenant.patch("Invoice", invoice, {"PaymentAmount": 9.0})
    assert [await row(tenant, "SupplyPaymentElement", one, "AmountFact") for one in (first, second)] == [(3.0,), (1.5,)]


async def test_a_step_of_delivery_pays_nothing(tenant: Tenant) -> None:
    """Only installments of type Payment count, for an order and for an invoice; without one the payment that was sent stays."""
    delivery = (await tenant.rows("SupplyPaymentType", "Name eq 'Delivery'"))[0]["Id"]
    order = await saved(tenant, "Order", Amount=10.0, PaymentAmount=2.0)
    await step(tenant, OrderId=order)
    invoice = await saved(tenant, "Invoice", PaymentAmount=3.0)
    await step(tenant, OrderId=order, TypeId=delivery, AmountFact=5.0, InvoiceId=invoice)
    assert await row(tenant, "Order", order, "PaymentAmount") == (2.0,)
    assert await row(tenant, "Invoice", invoice, "PaymentAmount") == (3.0,)
    await step(tenant, OrderId=order, AmountFact=1.0, InvoiceId=invoice)
    assert await row(tenant, "Order", order, "PaymentAmount") == await row(tenant, "Invoice", invoice, "PaymentAmount") == (1.0,)


async def test_an_installment_that_moves_leaves_its_old_order(tenant: Tenant) -> None:
    """Both orders are summed up anew when a paid installment is moved."""
    orders = [await saved(tenant, "Order", Amount=10.0) for _ in "ab"]
    paid = await step(tenant, OrderId=orders[0], AmountFact=4.0)
    await tenant.patch("SupplyPaymentElement", paid, {"OrderId": orders[1]})
    assert [await row(tenant, "Order", one, "PaymentAmount") for one in orders] == [(0.0,), (4.0,)]


async def test_an_order_may_sum_up_its_invoices(tenant: Tenant) -> None:
    """Whether installments or invoices are what was paid of an order is a switch: here `invoices`, with and without an installment."""
    await tenant.settings(order_payments="invoices")
    order = await saved(tenant, "Order", Amount=10.0)
    invoice = await saved(tenant, "Invoice", OrderId=order)
    await saved(tenant, "Invoice", OrderId=order, PaymentAmount=1.0, PrimaryPaymentAmount=2.0)
    await step(tenant, OrderId=order, AmountFact=5.0)
    assert await row(tenant, "Order", order, "PaymentAmount", "PrimaryPaymentAmount") == (1.0, 2.0)
    await step(tenant, InvoiceId=invoice, AmountFact=9.0)
    assert await row(tenant, "Order", order, "PaymentAmount", "PaymentStatusId") == (10.0, PAID)
    await tenant.delete("Invoice", invoice)
    assert await row(tenant, "Order", order, "PaymentAmount", "PaymentStatusId") == (1.0, PARTLY)


async def test_an_invoice_without_installments_is_not_paid_of_its_order(tenant: Tenant) -> None:
    """By default (`order_payments` is `installments`) an invoice that belongs to no installment leaves the order as it is."""
    order = await saved(tenant, "Order", Amount=10.0)
    await saved(tenant, "Invoice", OrderId=order, PaymentAmount=1.0)
    assert await row(tenant, "Order", order, "PaymentAmount", "PaymentStatusId") == (0.0, PLANNED)


async def test_a_deleted_invoice_detaches_its_installment(tenant: Tenant) -> None:
    """The installment stays, unpaid and not finished; without side effects it holds the invoice back."""
    states = {one["Name"]: one["Id"] for one in await tenant.rows("SupplyPaymentState")}
    order = await saved(tenant, "Order", Amount=10.0)
    invoice = await saved(tenant, "Invoice", OrderId=order)
    paid = {"AmountFact": 4.0, "PrimaryAmountFact": 4.0, "DateFact": PLAN, "StateId": states["Finished"]}
    one = await step(tenant, OrderId=order, InvoiceId=invoice, AmountPlan=5.0, **paid)
    await tenant.settings(side_effects=False)
    assert (await tenant.http.delete(f"/0/odata/Invoice({invoice})")).status_code == 500
    await tenant.settings(side_effects=True)
    await tenant.delete("Invoice", invoice)
    emptied = await row(tenant, "SupplyPaymentElement", one, "InvoiceId", "AmountFact", "PrimaryAmountFact", "DateFact", "StateId")
    assert emptied == (EMPTY, 0.0, 0.0, NO_DATE, states["Not finished"])
    assert await row(tenant, "SupplyPaymentElement", one, "AmountPlan") == (5.0,)
    assert await row(tenant, "Order", order, "PaymentAmount") == (0.0,)
