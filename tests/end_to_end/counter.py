"""What the stories of quotes and invoices share: a buyer, products, lines as the client makes them, and looks at documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

from shared.core.records import Side
from shared.core.work import Batch, BatchItem, RunKind
from shared.engine.poll import send_batches
from tests.end_to_end.accounts import House

CENT = Decimal("0.01")


def money(value: Any) -> Decimal:
    """Return an amount to the cent, 0 for none."""
    return Decimal(str(value or 0)).quantize(CENT)


@dataclass
class Counter:
    """Where a buyer is served: what is in the catalogue, and what the documents of both sides hold."""

    house: House
    buyer: str
    unit: str
    products: dict[str, str] = field(default_factory=dict)
    DOCUMENTS: ClassVar[Mapping[str, str]] = {"quote": "quotedetail", "salesorder": "salesorderdetail", "invoice": "invoicedetail"}

    @classmethod
    async def open(cls, house: House, **products: str) -> "Counter":
        """Make a buyer and products with their prices."""
        buyer = (await house.creatio.create("Account", {"Name": "Buyer", "Code": "B-1", "UsrActive": True}))["Id"]
        counter = cls(house, str(buyer), await lookup(house, "Unit", "Piece"))
        for name, price in products.items():
            values = {"Name": name, "Code": f"P-{name}", "Price": float(price), "UnitId": counter.unit, "Active": True}
            counter.products[name] = str((await house.creatio.create("Product", values))["Id"])
        return counter

    async def line(self, entity: str, parent: Mapping[str, str], name: str, quantity: str, price: str) -> str:
        """Add a line to a document as the client does, which works out every amount."""
        listed = {"ProductId": self.products[name], "UnitId": self.unit} if name in self.products else {}
        values = {**parent, **listed, "Name": name, **amounts(quantity, price)}
        return str((await self.house.creatio.create(entity, values))["Id"])

    async def documents(self, table: str) -> list[dict[str, Any]]:
        """Return the documents of a table in Dynamics."""
        return [dict(row) for row in await self.house.dynamics.rows(table)]

    async def lines(self, table: str) -> list[tuple[str, Decimal, Decimal]]:
        """Return the lines of the one document there is: what, how many, how much."""
        names = {row["productid"]: row["name"] for row in await self.house.dynamics.rows("product")}
        rows = await self.house.dynamics.rows(self.DOCUMENTS[table])
        shown = ((names.get(row["productid"]) or row["productdescription"], row["quantity"], row["extendedamount"]) for row in rows)
        return sorted((name, Decimal(str(quantity)), money(amount)) for name, quantity, amount in shown)

    async def arrives(self, table: str) -> dict[str, Any]:
        """Poll until the first document of a table is there and return it."""

        async def there() -> bool:
            await self.house.poll()
            return bool(await self.documents(table))

        await self.house.until(there, f"a {table} is there", 60)
        (row,) = await self.documents(table)
        return row

    async def again(self, flow: str, record: str, side: Side = Side.CREATIO, times: int = 2) -> None:
        """Let the flow look at a record again, in so many messages at once, whatever it has seen of it."""
        services = self.house.observer.app.services
        now, items = services.clock(), [BatchItem(record)]
        batches = [Batch(services.new_id(), flow, side, services.new_id(), RunKind.REPLAY, items, now, touched=now) for _ in range(times)]
        await send_batches(services, batches)
        await self.house.calm(still=0.8)


async def lookup(house: House, entity: str, name: str) -> str:
    """Return the id of a lookup's value in Creatio."""
    return next(str(row["Id"]) for row in await house.creatio.rows(entity) if row["Name"] == name)


def amounts(quantity: str, price: str) -> dict[str, float]:
    """Return the amounts of a line: discount 10 %, tax 20 % on the rest."""
    amount = (Decimal(price) * Decimal(quantity)).quantize(CENT)
    discount = (amount / 10).quantize(CENT)
    tax = ((amount - discount) / 5).quantize(CENT)
    found = {"Amount": amount, "DiscountAmount": discount, "TaxAmount": tax, "TotalAmount": amount - discount + tax}
    return {"Quantity": float(quantity), "Price": float(price), **{name: float(value) for name, value in found.items()}}
