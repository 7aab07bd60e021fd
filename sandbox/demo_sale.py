"""The sale that the demo tells (requirements P3): a new customer, an opportunity won, its order to the cent, a case, one record that fails.

Each step acts as a user would and watches the other side. Creatio's client works out the amounts of a line, so the story does as well.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

from sandbox.control_client import Row
from sandbox.demo_edits import Step
from sandbox.observe import Observer
from shared.core.errors import CATALOGUE

_LIMIT_SECONDS: Final = 40.0
_USER: Final = "grace"
_CENT: Final = Decimal("0.01")
_PRODUCTS: Final = (("Clay tile", "HR-100", "2.35"), ("Copper gutter", "HR-200", "41.90"), ("Roofer's day", "HR-900", "690.00"))
_OFFERED: Final = ("1250", "18", "6.5")
"""Quantities of the three products, as the opportunity has them."""


@dataclass(frozen=True)
class _Line:
    """A line of the order as Creatio's client works it out: 8 % off, 25 % tax on the rest."""

    name: str
    quantity: Decimal
    price: Decimal

    @property
    def amounts(self) -> dict[str, Decimal]:
        """Return the amounts that stand on the line."""
        amount = _rounded(self.quantity * self.price)
        discount = _rounded(amount * Decimal("0.08"))
        tax = _rounded((amount - discount) * Decimal("0.25"))
        return {"Amount": amount, "DiscountAmount": discount, "TaxAmount": tax, "TotalAmount": amount - discount + tax}


@dataclass
class Sale:
    """The steps of the sale in their order; what one of them made is what the next one works with."""

    observer: Observer
    made: dict[str, str] = field(default_factory=dict)
    """Ids in Creatio, by a name of the story."""

    @property
    def steps(self) -> Sequence[Callable[[], Awaitable[Step]]]:
        """Return the steps."""
        first = (self.customer, self.products, self.opportunity, self.won, self.order)
        return (*first, self.changed, self.case, self.failing, self.corrected)

    async def customer(self) -> Step:
        """Create an account with two contacts."""
        values = {"Name": "Halvorsen Roofing AS", "Code": "HR-1", "Zip": "5003", "UsrActive": True}
        self.made["account"] = await self._create("Account", values)
        for name, mail in (("Ingrid Halvorsen", "ingrid@halvorsen.example"), ("Per Dahl", "per@halvorsen.example")):
            person = {"Name": name, "Email": mail, "AccountId": self.made["account"], "UsrActive": True}
            self.made[name] = await self._create("Contact", person)

        async def arrived() -> bool:
            accounts = [row["accountid"] for row in await self._there("account") if row["accountnumber"] == "HR-1"]
            people = [row for row in await self._there("contact") if str(row["emailaddress1"]).endswith("@halvorsen.example")]
            return len(accounts) == 1 and [row["parentcustomerid"] for row in people] == accounts * 2

        return await self._step("A new customer with two contacts in Creatio", "Dynamics has all three, linked", arrived)

    async def products(self) -> Step:
        """Create three products."""
        unit = await self._lookup("Unit", "Piece")
        for name, code, price in _PRODUCTS:
            values = {"Name": name, "Code": code, "Price": float(price), "UnitId": unit, "Active": True}
            self.made[name] = await self._create("Product", values)

        async def arrived() -> bool:
            found = [row for row in await self._there("product") if str(row["productnumber"]).startswith("HR-")]
            return len(found) == len(_PRODUCTS) and all(row["statecode"] == 0 for row in found)

        return await self._step("Three products in Creatio", "Dynamics has them, active and ready to be sold", arrived)

    async def opportunity(self) -> Step:
        """Offer the three products in an opportunity."""
        stage = await self._lookup("OpportunityStage", "Proposal")
        values = {"Title": "Town hall roof", "AccountId": self.made["account"], "StageId": stage, "Probability": 60}
        self.made["opportunity"] = await self._create("Opportunity", values)
        for (name, _, price), quantity in zip(_PRODUCTS, _OFFERED, strict=True):
            amount = _rounded(Decimal(quantity) * Decimal(price))
            line = {"ProductId": self.made[name], "Quantity": float(quantity), "Price": float(price), "Amount": float(amount)}
            await self._create("OpportunityProductInterest", {"OpportunityId": self.made["opportunity"], **line})
        wanted = sum((_rounded(Decimal(q) * Decimal(p)) for (_, _, p), q in zip(_PRODUCTS, _OFFERED, strict=True)), Decimal(0))

        async def arrived() -> bool:
            found = await self._there("opportunity")
            return [_money(row["totalamount"]) for row in found] == [wanted] and len(await self._there("opportunityproduct")) == len(
                _PRODUCTS
            )

        return await self._step("An opportunity with the three products", f"Dynamics sums them up to the same {wanted:,}", arrived)

    async def won(self) -> Step:
        """Win it."""
        await self._edit("Opportunity", "opportunity", {"StageId": await self._lookup("OpportunityStage", "Won")})

        async def arrived() -> bool:
            closes = await self._there("opportunityclose")
            return [row["statecode"] for row in await self._there("opportunity")] == [1] and len(closes) == 1

        return await self._step("The opportunity is won in Creatio", "won in Dynamics, through its own action", arrived)

    async def order(self) -> Step:
        """Make its order: two products and something written in, discounts, tax, freight."""
        values = {"Number": "ORD-2026-1", "AccountId": self.made["account"], "OpportunityId": self.made["opportunity"]}
        status = await self._lookup("OrderStatus", "Confirmation")
        header = {"StatusId": status, "UsrDiscountAmount": 150.0, "UsrFreight": 89.9}
        self.made["order"] = await self._create("Order", {**values, **header})
        unit = await self._lookup("Unit", "Piece")
        for name, quantity, price in (
            ("Clay tile", "1250", "2.35"),
            ("Copper gutter", "18", "41.90"),
            ("Scaffold, two weeks", "1", "1199.99"),
        ):
            product = {"ProductId": self.made[name], "UnitId": unit} if name in self.made else {}
            line = _Line(name, Decimal(quantity), Decimal(price))
            self.made[f"line {name}"] = await self._create("OrderProduct", self._line(line, "order", product))
        return await self._summed("Its order with discount, tax, freight and a line that is in no catalogue", "ORD-2026-1", "order")

    async def changed(self) -> Step:
        """Change a line and delete another one."""
        line = _Line("Clay tile", Decimal(1310), Decimal("2.35"))
        await self._edit("OrderProduct", "line Clay tile", self._line(line, "order", {}))
        await self.observer.control("creatio").delete("OrderProduct", self.made["line Copper gutter"], _USER)
        return await self._summed("60 tiles more, and no gutter", "ORD-2026-1", "order")

    async def case(self) -> Step:
        """Open a case in Creatio, resolve it in Dynamics."""
        values = {"Subject": "Two tiles are broken", "AccountId": self.made["account"], "ContactId": self.made["Per Dahl"]}
        self.made["case"] = await self._create("Case", {**values, "StatusId": await self._lookup("CaseStatus", "New")})

        async def there() -> bool:
            return [row["title"] for row in await self._there("incident")] == ["Two tiles are broken"]

        what = "A case in Creatio, which somebody resolves in Dynamics"
        begun = await self.observer.until(there, _LIMIT_SECONDS)
        if begun is None:
            return Step(what, "Dynamics never had it", None)
        await self._resolve((await self._there("incident"))[0]["incidentid"])
        resolved = await self._lookup("CaseStatus", "Resolved")

        async def seen() -> bool:
            return bool((await self._row("Case", "case"))["StatusId"] == resolved)

        done = await self._step(what, "Creatio shows it as resolved", seen)
        return Step(what, done.came_of_it, None if done.seconds is None else begun + done.seconds)

    async def failing(self) -> Step:
        """Order something in a unit that Dynamics does not have."""
        status, hour = await self._lookup("OrderStatus", "Confirmation"), await self._lookup("Unit", "Hour")
        self.made["failing"] = await self._create(
            "Order", {"Number": "ORD-2026-2", "AccountId": self.made["account"], "StatusId": status, "UsrFreight": 12.0}
        )
        line = _Line("Roofer's day", Decimal(4), Decimal("86.25"))
        self.made["hours"] = await self._create(
            "OrderProduct", self._line(line, "failing", {"ProductId": self.made[line.name], "UnitId": hour})
        )
        texts: list[str] = []

        async def told() -> bool:
            found = await self.observer.app.ledger.failures("sales.order")
            texts[:] = [f"{CATALOGUE[one.code].title} {one.said}." for one in found if one.record_id == self.made["failing"]]
            return bool(texts)

        what = "An order in hours, a unit that Dynamics does not have (this one fails on purpose)"
        seconds = await self.observer.until(told, _LIMIT_SECONDS)
        whole = not [row for row in await self._there("salesorder") if row["ordernumber"] == "ORD-2026-2"]
        if seconds is None or not whole:
            return Step(what, "it was to fail, and as a whole", None)
        return Step(what, f"no half of it is written, all else goes on; the operator reads:\n        {texts[0]}", seconds)

    async def corrected(self) -> Step:
        """Correct the unit in Creatio: the order goes through by itself."""
        await self._edit("OrderProduct", "hours", {"UnitId": await self._lookup("Unit", "Piece")})
        step = await self._summed("The unit is corrected in Creatio", "ORD-2026-2", "failing")
        left = [one for one in await self.observer.app.ledger.failures("sales.order") if one.record_id == self.made["failing"]]
        return Step(step.what, f"{step.came_of_it}; the failure is gone", None) if left else step

    async def _summed(self, what: str, number: str, order: str) -> Step:
        """Wait until both systems sum an order up to the same cent; the header's discount and freight are Dynamics' to add."""
        ours = await self._row("Order", order)
        amount, discount, freight = (_money(ours[name]) for name in ("Amount", "UsrDiscountAmount", "UsrFreight"))
        wanted = amount - discount + freight

        async def arrived() -> bool:
            return [_money(row["totalamount"]) for row in await self._there("salesorder") if row["ordernumber"] == number] == [wanted]

        told = f"lines of {amount:,} in Creatio, less {discount:,} off, plus {freight:,} freight: Dynamics has {wanted:,}"
        return await self._step(what, told, arrived)

    def _line(self, line: _Line, order: str, values: Mapping[str, Any]) -> Row:
        amounts = {name: float(amount) for name, amount in line.amounts.items()}
        return {
            "OrderId": self.made[order],
            "Name": line.name,
            "Quantity": float(line.quantity),
            "Price": float(line.price),
            **amounts,
            **values,
        }

    async def _resolve(self, incident: str) -> None:
        """Resolve a case as a user of Dynamics does, whose client needs no action of the API."""
        dynamics = self.observer.control("dataverse")
        await dynamics.switch(closing_by_update="accept")
        await dynamics.edit("incident", incident, {"statecode": 1, "statuscode": 5})
        await dynamics.switch(closing_by_update="refuse")

    async def _step(self, what: str, came_of_it: str, arrived: Callable[[], Awaitable[bool]]) -> Step:
        return Step(what, came_of_it, await self.observer.until(arrived, _LIMIT_SECONDS))

    async def _create(self, entity: str, values: Row) -> str:
        return str((await self.observer.control("creatio").create(entity, values, _USER))["Id"])

    async def _edit(self, entity: str, name: str, values: Row) -> None:
        await self.observer.control("creatio").edit(entity, self.made[name], values, _USER)

    async def _row(self, entity: str, name: str) -> Row:
        return await self.observer.control("creatio").row(entity, self.made[name]) or {}

    async def _there(self, table: str) -> list[Row]:
        return await self.observer.control("dataverse").rows(table)

    async def _lookup(self, entity: str, name: str) -> str:
        """Return the id of a lookup's value in Creatio."""
        return next(str(row["Id"]) for row in await self.observer.control("creatio").rows(entity) if row["Name"] == name)


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP)


def _money(value: Any) -> Decimal:
    return _rounded(Decimal(str(value or 0)))
