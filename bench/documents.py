"""What 1,000 orders of 5 lines cost: requests, ledger operations and seconds, from Creatio to Dynamics.

python -m bench.documents [ORDERS]
"""

import asyncio
import sys
import uuid
from collections.abc import Sequence
from typing import Any, Final

from bench.report import cost_table
from bench.sandbox_cost import Cost, driven
from sandbox.processes import Sandbox

ORDERS: Final = 1_000
LINES: Final = 5
_FLOWS: Final = "sales.account,sales.contact,sales.product,sales.order"
_AT_ONCE: Final = 500
_DOLLARS: Final = "915e8a55-98d6-df11-9b2a-001d60e938c6"


def _id(kind: str, *numbers: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join([kind, *map(str, numbers)])))


async def _value(sandbox: Sandbox, entity: str, name: str) -> str:
    return next(str(row["Id"]) for row in await sandbox.control("creatio").rows(entity) if row["Name"] == name)


async def _fill(sandbox: Sandbox) -> None:
    """Put an account and the products into Creatio: what the orders refer to."""
    creatio, piece = sandbox.control("creatio"), await _value(sandbox, "Unit", "Piece")
    await creatio.seed("Account", [{"Id": _id("account"), "Name": "Buyer", "Code": "B-1", "UsrActive": True}])
    plain = {"Price": 1.5, "UnitId": piece, "CurrencyId": _DOLLARS, "Active": True}
    products = [{"Id": _id("product", n), "Name": f"Part {n}", "Code": f"P-{n}", **plain} for n in range(LINES)]
    await creatio.seed("Product", products)


async def _orders(sandbox: Sandbox, number: int) -> None:
    creatio = sandbox.control("creatio")
    confirmed, piece = await _value(sandbox, "OrderStatus", "Confirmation"), await _value(sandbox, "Unit", "Piece")
    for start in range(0, number, _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, number))
        lines = [_line(order, line, piece) for order in some for line in range(LINES)]
        amount = sum(line["TotalAmount"] for line in lines[:LINES])
        plain = {"AccountId": _id("account"), "StatusId": confirmed, "CurrencyId": _DOLLARS, "Amount": amount}
        orders = [{"Id": _id("order", n), "Number": f"ORD-{n}", **plain} for n in some]
        await creatio.seed("Order", orders)
        await creatio.seed("OrderProduct", lines)


def _line(order: int, line: int, unit: str) -> dict[str, Any]:
    quantity = line + 1
    amount = 1.5 * quantity
    ids = {"Id": _id("line", order, line), "OrderId": _id("order", order), "ProductId": _id("product", line), "UnitId": unit}
    return {**ids, "Name": f"Part {line}", "Quantity": quantity, "Price": 1.5, "Amount": amount, "TotalAmount": amount}


async def measure(orders: int = ORDERS) -> list[Cost]:
    """Measure the orders' first way to Dynamics, their echoes, and a changed line in each of them."""
    async with driven(_fill, _FLOWS) as driver:
        await driver.phase("what they refer to", LINES + 1, 2)
        await _orders(driver.sandbox, orders)
        costs = [await driver.phase(f"{orders:,} new orders of {LINES} lines", orders)]
        costs.append(await driver.phase("their echoes", orders))
        creatio = driver.sandbox.control("creatio")
        for number in range(orders):
            await creatio.edit("OrderProduct", _id("line", number, 0), {"Quantity": 2, "Amount": 3.0, "TotalAmount": 3.0}, "grace")
        costs.append(await driver.phase("a changed line in each", orders))
        costs.append(await driver.phase("their echoes", orders))
        made = len(await driver.sandbox.control("dataverse").rows("salesorderdetail"))
        if made != orders * LINES:
            raise RuntimeError(f"got {made:,} lines in Dynamics, allowed {orders * LINES:,}: measure again")
        return costs


def section(costs: Sequence[Cost]) -> list[str]:
    """Return the lines for bench/RESULTS.md."""
    return ["## What documents cost", *cost_table(costs)[1:]]


if __name__ == "__main__":
    print("\n".join(section(asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else ORDERS)))))
