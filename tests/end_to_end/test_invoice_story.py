"""The story of an invoice (requirement O7, without an ERP): issued in Creatio, booked in Dynamics, paid there, seen in Creatio."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shared.core.records import Side
from tests.end_to_end.accounts import House, open_house
from tests.end_to_end.counter import Counter, amounts, lookup, money
from tests.end_to_end.scenarios import in_step

FLOW = "sales.invoice"
STATUSES = ("Not invoiced", "Waiting for payment", "Partially paid", "Paid", "Cancelled")

BILLING = {"FLOWS": "sales.account,sales.contact,sales.product,sales.opportunity,sales.order,sales.invoice"}
"""Invoices run only where they are named."""


async def _statuses(house: House) -> dict[str, str]:
    return {name: await lookup(house, "InvoicePaymentStatus", name) for name in STATUSES}


async def _invoice(house: House, counter: Counter, status: str, **values: Any) -> str:
    row = {"Number": "INV-1", "AccountId": counter.buyer, "StartDate": "2026-11-01T00:00:00Z", "PaymentStatusId": status, **values}
    return str((await house.creatio.create("Invoice", row))["Id"])


async def test_an_invoice_is_issued_changed_and_paid(tmp_path: Path) -> None:
    """A draft stays in Creatio; issued it arrives to the cent; a line that moves no header follows; paid comes back, once."""
    async with open_house(tmp_path, time_scale=5, settings=BILLING) as house:
        creatio, counter = house.creatio, await Counter.open(house, Pen="1.50")
        status = await _statuses(house)
        confirmed = await lookup(house, "OrderStatus", "Confirmation")
        order = (await creatio.create("Order", {"Number": "ORD-1", "AccountId": counter.buyer, "StatusId": confirmed}))["Id"]
        invoice = await _invoice(house, counter, status["Not invoiced"], DueDate="2026-11-30T00:00:00Z", OrderId=order)
        parent = {"InvoiceId": invoice}
        pens = await counter.line("InvoiceProduct", parent, "Pen", "3", "1.50")
        await counter.line("InvoiceProduct", parent, "Delivery", "1", "4.90")
        await in_step(house)
        assert await counter.documents("invoice") == []
        await creatio.edit("Invoice", invoice, {"PaymentStatusId": status["Waiting for payment"]})
        made = await counter.arrives("invoice")
        await in_step(house, 1)
        (made,) = await counter.documents("invoice")
        (sold,) = await counter.documents("salesorder")
        days = (made["tandem_invoicedate"], made["duedate"])
        assert (made["invoicenumber"], days, made["salesorderid"]) == ("INV-1", ("2026-11-01", "2026-11-30"), sold["salesorderid"])
        ours = await creatio.row("Invoice", invoice) or {}
        assert money(made["totalamount"]) == money(ours["Amount"]) != Decimal(0)

        await creatio.edit("InvoiceProduct", pens, amounts("10", "1.50"))
        moved = await creatio.row("Invoice", invoice) or {}
        assert (moved["ModifiedOn"], moved["Amount"] == ours["Amount"]) == (ours["ModifiedOn"], False)
        await in_step(house)
        (changed,) = await counter.documents("invoice")
        assert money(changed["totalamount"]) == money(moved["Amount"])
        assert [(name, number) for name, number, _ in await counter.lines("invoice")] == [("Delivery", 1), ("Pen", 10)]

        await house.dynamics.edit("invoice", made["invoiceid"], {"statecode": 2, "statuscode": 100002})
        await in_step(house)
        assert (await creatio.row("Invoice", invoice) or {})["PaymentStatusId"] == status["Partially paid"]
        await house.dynamics.edit("invoice", made["invoiceid"], {"statecode": 2, "statuscode": 100001})
        await in_step(house)
        assert (await creatio.row("Invoice", invoice) or {})["PaymentStatusId"] == status["Paid"]
        before = await house.writes()
        await counter.again(FLOW, invoice)
        await counter.again(FLOW, made["invoiceid"], Side.DYNAMICS)
        await in_step(house)
        assert (await house.writes(), len(await counter.documents("invoice")), len(await counter.lines("invoice"))) == (before, 1, 2)
        assert await house.failures(invoice, FLOW) == {}


async def test_a_paid_invoice_is_never_rewritten_silently(tmp_path: Path) -> None:
    """Edits of header and lines in Creatio are told, and Dynamics stays as it was paid; opened again there, they arrive."""
    async with open_house(tmp_path, time_scale=5, settings=BILLING) as house:
        creatio, counter = house.creatio, await Counter.open(house, Pen="1.50")
        status = await _statuses(house)
        invoice = await _invoice(house, counter, status["Waiting for payment"])
        pens = await counter.line("InvoiceProduct", {"InvoiceId": invoice}, "Pen", "3", "1.50")
        made = await counter.arrives("invoice")
        await in_step(house, 1)
        await house.dynamics.edit("invoice", made["invoiceid"], {"statecode": 2, "statuscode": 100001})
        await in_step(house)
        (paid,) = await counter.documents("invoice")
        await creatio.edit("InvoiceProduct", pens, amounts("4", "1.50"))
        await in_step(house)
        (kept,) = await counter.documents("invoice")
        assert (kept["totalamount"], kept["statuscode"]) == (paid["totalamount"], 100001)
        assert await house.failures(invoice, FLOW)
        assert (await creatio.row("Invoice", invoice) or {})["PaymentStatusId"] == status["Paid"]

        await house.dynamics.edit("invoice", made["invoiceid"], {"statecode": 0, "statuscode": 4})
        await creatio.edit("InvoiceProduct", pens, amounts("5", "1.50"))
        await in_step(house, 3)
        assert [number for _, number, _ in await counter.lines("invoice")] == [5]
        assert (await creatio.row("Invoice", invoice) or {})["PaymentStatusId"] == status["Waiting for payment"]
        assert await house.failures(invoice, FLOW) == {}


@pytest.mark.slow
@pytest.mark.parametrize("claimed", ["Paid", "Cancelled"])
async def test_a_payment_status_that_somebody_sets_in_creatio_is_put_back(tmp_path: Path, claimed: str) -> None:
    """Money is booked in Dynamics: what a user of Creatio claims moves nothing there, and the invoice waits for its payment again."""
    async with open_house(tmp_path, time_scale=5, settings=BILLING) as house:
        counter, status = await Counter.open(house, Pen="1.50"), await _statuses(house)
        invoice = await _invoice(house, counter, status["Waiting for payment"])
        await counter.line("InvoiceProduct", {"InvoiceId": invoice}, "Pen", "3", "1.50")
        made = await counter.arrives("invoice")
        await in_step(house, 1)
        await house.creatio.edit("Invoice", invoice, {"PaymentStatusId": status[claimed]}, "grace")
        await in_step(house)
        assert (await house.creatio.row("Invoice", invoice) or {})["PaymentStatusId"] == status["Waiting for payment"]
        (kept,) = await counter.documents("invoice")
        assert (kept["statecode"], kept["statuscode"]) == (0, made["statuscode"])
        assert await house.failures(invoice, FLOW) == {}
