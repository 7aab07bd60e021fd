"""The story of an offer (requirement O6): it becomes a quote to the cent, is changed, and is won or closed with what it stands for."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.end_to_end.accounts import open_house
from tests.end_to_end.counter import Counter, amounts, lookup, money
from tests.end_to_end.scenarios import in_step

QUOTE, PROPOSAL = "sales.quote", "sales.opportunity_quote"
OFFERS = {"FLOWS": f"sales.account,sales.contact,sales.product,sales.opportunity,{QUOTE},{PROPOSAL}"}
"""Quotes of opportunities run only where they are named."""

FLOWS = {"FLOWS": "sales.account,sales.contact,sales.product,sales.opportunity,sales.order,sales.quote"}


async def test_a_draft_order_becomes_a_quote_and_is_won_when_it_is_confirmed(tmp_path: Path) -> None:
    """Without a line there is no quote; lines are changed, added and removed; won through the action; then only the order goes on."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, counter = house.creatio, await Counter.open(house, Pen="1.50", Ink="7")
        status = {name: await lookup(house, "OrderStatus", name) for name in ("Draft", "Confirmation", "Running")}
        values = {"Number": "ORD-1", "AccountId": counter.buyer, "StatusId": status["Draft"], "UsrValidUntil": "2027-01-31T00:00:00Z"}
        order = str((await creatio.create("Order", {**values, "UsrDiscountAmount": 2.0, "UsrFreight": 4.9}))["Id"])
        await in_step(house)
        assert await counter.documents("quote") == []
        parent = {"OrderId": order}
        pens = await counter.line("OrderProduct", parent, "Pen", "3", "1.50")
        inks = await counter.line("OrderProduct", parent, "Ink", "1", "7")
        await counter.line("OrderProduct", parent, "Engraving", "2", "19.99")
        made = await counter.arrives("quote")
        await in_step(house, 1)
        (made,) = await counter.documents("quote")
        ours = await creatio.row("Order", order) or {}
        assert (made["quotenumber"], made["statecode"], made["expireson"]) == ("ORD-1", 0, "2027-01-31")
        assert money(made["totalamount"]) == money(ours["Amount"]) + Decimal("2.90")
        assert [name for name, _, _ in await counter.lines("quote")] == ["Engraving", "Ink", "Pen"]
        assert await counter.documents("salesorder") == []

        await creatio.edit("OrderProduct", pens, amounts("10", "1.50"))
        await creatio.delete("OrderProduct", inks)
        await in_step(house)
        assert [(name, number) for name, number, _ in await counter.lines("quote")] == [("Engraving", 2), ("Pen", 10)]
        await counter.again(QUOTE, order)
        assert len(await counter.lines("quote")) == 2
        assert await house.failures(order, QUOTE) == {}

        await creatio.edit("Order", order, {"StatusId": status["Confirmation"], "Comment": "as agreed"})
        await in_step(house)
        (won,) = await counter.documents("quote")
        assert (won["statecode"], won["statuscode"], won["description"]) == (2, 4, "as agreed")
        assert len(await house.dynamics.rows("quoteclose")) == 1
        assert len(await counter.documents("salesorder")) == 1

        await creatio.edit("OrderProduct", pens, amounts("12", "1.50"))
        await creatio.edit("Order", order, {"StatusId": status["Running"], "Comment": "in two boxes"})
        await in_step(house)
        (sold,) = await counter.documents("salesorder")
        (kept,) = await counter.documents("quote")
        assert (sold["description"], kept["description"], kept["statecode"]) == ("in two boxes", "as agreed", 2)
        assert money(kept["totalamount"]) == money(won["totalamount"]) != money(sold["totalamount"])
        assert [await house.failures(order, flow) for flow in (QUOTE, "sales.order")] == [{}, {}]


@pytest.mark.slow
async def test_a_quote_that_dynamics_has_sent_is_never_rewritten_silently(tmp_path: Path) -> None:
    """Activated in Dynamics it stands as the customer has it; the edit in Creatio is told; a cancelled order closes it all the same."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, counter = house.creatio, await Counter.open(house, Pen="1.50")
        status = {name: await lookup(house, "OrderStatus", name) for name in ("Draft", "Cancelled")}
        values = {"Number": "ORD-2", "AccountId": counter.buyer, "StatusId": status["Draft"]}
        order = str((await creatio.create("Order", values))["Id"])
        pens = await counter.line("OrderProduct", {"OrderId": order}, "Pen", "3", "1.50")
        made = await counter.arrives("quote")
        await in_step(house, 1)
        await house.dynamics.edit("quote", made["quoteid"], {"statecode": 1, "statuscode": 3})
        await in_step(house)
        assert await house.failures(order, QUOTE) == {}
        await creatio.edit("OrderProduct", pens, amounts("4", "1.50"))
        await in_step(house)
        (kept,) = await counter.documents("quote")
        assert (kept["statuscode"], [number for _, number, _ in await counter.lines("quote")]) == (3, [3])
        assert await house.failures(order, QUOTE)

        await creatio.edit("OrderProduct", pens, amounts("3", "1.50"))
        await creatio.edit("Order", order, {"StatusId": status["Cancelled"]})
        await in_step(house)
        (closed,) = await counter.documents("quote")
        assert (closed["statecode"], closed["statuscode"]) == (3, 6)
        assert await counter.documents("salesorder") == []
        assert await house.failures(order, QUOTE) == {}


@pytest.mark.slow
async def test_an_order_that_was_never_a_draft_has_no_quote(tmp_path: Path) -> None:
    """A confirmed order is a sales order and nothing else: no quote is made only to be won."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        counter = await Counter.open(house, Pen="1.50")
        values = {"Number": "ORD-3", "AccountId": counter.buyer, "StatusId": await lookup(house, "OrderStatus", "Confirmation")}
        order = str((await house.creatio.create("Order", values))["Id"])
        await counter.line("OrderProduct", {"OrderId": order}, "Pen", "3", "1.50")
        await counter.arrives("salesorder")
        await in_step(house)
        assert await counter.documents("quote") == []


async def test_an_opportunity_with_a_proposal_becomes_a_quote_and_is_lost_with_it(tmp_path: Path) -> None:
    """Its products are the lines; it names opportunity and customer, belongs to one flow only, follows the deal, and is closed as lost."""
    async with open_house(tmp_path, time_scale=5, settings=OFFERS) as house:
        creatio, counter = house.creatio, await Counter.open(house, Pen="1.50", Ink="7")
        stage = {name: await lookup(house, "OpportunityStage", name) for name in ("Presentation", "Proposal", "Lost")}
        values = {"Title": "Roof", "AccountId": counter.buyer, "StageId": stage["Presentation"]}
        deal = str((await creatio.create("Opportunity", values))["Id"])
        for name, quantity, price in (("Pen", 3, 1.5), ("Ink", 2, 7.0)):
            row = {"OpportunityId": deal, "ProductId": counter.products[name], "Quantity": quantity, "Price": price}
            await creatio.create("OpportunityProductInterest", {**row, "Amount": quantity * price})
        await in_step(house)
        assert await counter.documents("quote") == []
        await creatio.edit("Opportunity", deal, {"StageId": stage["Proposal"]})
        made = await counter.arrives("quote")
        await in_step(house, 1)
        (made,) = await counter.documents("quote")
        (roof,) = await counter.documents("opportunity")
        assert (made["opportunityid"], made["name"], made["statecode"]) == (roof["opportunityid"], "Roof", 0)
        assert made["customerid"] == roof["customerid"]
        assert await counter.lines("quote") == [("Ink", 2, Decimal("14.00")), ("Pen", 3, Decimal("4.50"))]
        assert money(made["totalamount"]) == Decimal("18.50")
        assert (await house.flow(QUOTE))["failures"] == (await house.flow(QUOTE))["conflicts"] == []

        await counter.again(PROPOSAL, deal)
        await creatio.edit("Opportunity", deal, {"StageId": stage["Lost"]})
        await in_step(house)
        (lost,) = await counter.documents("quote")
        assert (lost["statecode"], lost["statuscode"], len(await counter.lines("quote"))) == (3, 5, 2)
        assert await house.failures(deal, PROPOSAL) == {}
