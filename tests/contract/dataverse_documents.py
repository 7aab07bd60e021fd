"""Short ways for the tests of sales and service documents: a small shop in an organisation, and binds to its rows."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.contract.dataverse_stand_in import Organization

SETS = {
    "account": "accounts",
    "contact": "contacts",
    "incident": "incidents",
    "opportunity": "opportunities",
    "quote": "quotes",
    "salesorder": "salesorders",
    "invoice": "invoices",
    "product": "products",
    "pricelevel": "pricelevels",
    "uom": "uoms",
    "uomschedule": "uomschedules",
    "transactioncurrency": "transactioncurrencies",
    "lead": "leads",
}
LINES = {"opportunity": "opportunityproducts", "quote": "quotedetails", "salesorder": "salesorderdetails", "invoice": "invoicedetails"}
MOUSE_PRICE = Decimal("19.99")


def bind(table: str, row_id: str, navigation: str = "") -> dict[str, str]:
    """Write a bind to a row; the navigation property is that of the table's primary key unless named."""
    return {f"{navigation or f'{table}id'}@odata.bind": f"/{SETS[table]}({row_id})"}


@dataclass(frozen=True)
class Shop:
    """An organisation with a customer, an active product and its price in the default list."""

    org: Organization
    account: str
    product: str
    unit: str
    group: str
    prices: str

    async def header(self, table: str = "salesorder", **values: Any) -> str:
        """Create a header of the shop's customer and price list."""
        binds = bind("account", self.account, "customerid_account") | bind("pricelevel", self.prices)
        return await self.org.create(SETS[table], **{"name": "Document", **binds, **values})

    def item(self, quantity: float = 2, **values: Any) -> dict[str, Any]:
        """Write the body of a line with the shop's product, without its header."""
        return {"quantity": quantity, **bind("product", self.product), **bind("uom", self.unit), **values}

    async def line(self, header_id: str, table: str = "salesorder", body: Any = None, **values: Any) -> str:
        """Add a line to a header: the shop's product unless a body is given."""
        chosen = self.item(**values) if body is None else body
        return await self.org.create(LINES[table], **bind(table, header_id), **chosen)

    async def row(self, table: str, row_id: str, entity_set: str = "") -> dict[str, Any]:
        """Read a row of a table."""
        return await self.org.get(f"{entity_set or SETS[table]}({row_id})")

    async def row_of_line(self, line_id: str, table: str = "salesorder") -> dict[str, Any]:
        """Read a line."""
        return await self.org.get(f"{LINES[table]}({line_id})")

    async def patched(self, path: str, **values: Any) -> None:
        """Change a row and expect success."""
        answer = await self.org.send("PATCH", path, values, If_Match="*")
        assert answer.status_code == 204, answer.text

    async def acted(self, action: str, body: Any) -> Any:
        """Run an action and expect success."""
        answer = await self.org.send("POST", action, body)
        assert answer.status_code in {200, 204}, answer.text
        return answer.json() if answer.content else None


async def shop_in(org: Organization) -> Shop:
    """Open a shop: its product is published and costs `MOUSE_PRICE` a unit."""
    group = (await org.get("uomschedules", filter="name eq 'Default Unit'"))["value"][0]["uomscheduleid"]
    unit = (await org.get("uoms", filter=f"_uomscheduleid_value eq {group}"))["value"][0]["uomid"]
    prices = (await org.get("pricelevels"))["value"][0]["pricelevelid"]
    units = bind("uom", unit, "defaultuomid") | bind("uomschedule", group, "defaultuomscheduleid")
    product = await org.create("products", name="Mouse", productnumber="M-1", quantitydecimal=2, **units)
    await org.create("productpricelevels", amount=19.99, **bind("pricelevel", prices), **bind("product", product), **bind("uom", unit))
    answer = await org.send("PATCH", f"products({product})", {"statecode": 0, "statuscode": 1})
    assert answer.status_code == 204, answer.text
    return Shop(org, await org.create(name="Customer"), product, unit, group, prices)
