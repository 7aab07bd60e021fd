"""All flows at once, as a checkout runs them where nobody chose any: nothing fails, nothing is in another's way, quiet is quiet."""

from pathlib import Path
from typing import Any

from tests.end_to_end.accounts import House, open_house
from tests.end_to_end.counter import Counter, lookup
from tests.end_to_end.scenarios import in_step

DEFAULT = {"FLOWS": ""}


async def _order(house: House, counter: Counter, status: str) -> dict[str, Any]:
    values = {"Number": "ORD-9", "AccountId": counter.buyer, "StatusId": await lookup(house, "OrderStatus", status)}
    return await house.creatio.create("Order", values)


async def test_the_flows_of_a_fresh_checkout_run_side_by_side(tmp_path: Path) -> None:
    """A draft order is a quote, confirmed it is a sales order as well; no flow stops, no record fails, and nobody writes in the end."""
    async with open_house(tmp_path, time_scale=5, settings=DEFAULT) as house:
        counter = await Counter.open(house, Pen="1.50")
        order = str((await _order(house, counter, "Draft"))["Id"])
        await counter.line("OrderProduct", {"OrderId": order}, "Pen", "3", "1.50")
        await counter.arrives("quote")
        await house.creatio.edit("Order", order, {"StatusId": await lookup(house, "OrderStatus", "Confirmation")})
        await counter.arrives("salesorder")
        await in_step(house, 3)
        status = await house.status()
        assert {"sales.account", "sales.price", "sales.lead", "sales.quote", "sales.order", "service.case"} <= set(status["flows"])
        assert not {"sales.opportunity_quote", "sales.invoice"} & set(status["flows"]), "these two are asked for by name"
        assert [name for name, flow in status["flows"].items() if not flow["started"]] == []
        assert [failure for flow in status["flows"].values() for failure in flow["failures"]] == []
        written = await house.writes()
        await in_step(house, 2)
        assert await house.writes() == written
