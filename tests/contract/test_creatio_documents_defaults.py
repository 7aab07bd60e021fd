"""What the Creatio stand-in fills in when a sales or service document is created, and what a fresh one holds for it (creatio.md 2.4, 5)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.creatio_stand_in import EMPTY, Tenant

CASE = {"Subject": "Smoke"}
OUR_COMPANY = "e308b781-3c5b-4ecb-89ef-5c1ed4da488e"


async def by_name(tenant: Tenant, entity: str, name: str) -> str:
    """Return the id of a lookup's value."""
    (row,) = await tenant.rows(entity, f"Name eq '{name}'")
    return str(row["Id"])


async def refusal(tenant: Tenant, entity: str, values: dict[str, Any]) -> str:
    """Create what can't be created and return the body of the refusal."""
    answer = await tenant.http.post(f"/0/odata/{entity}", json=values)
    assert answer.status_code == 500
    return answer.text


@pytest.mark.parametrize(
    ("entity", "column", "lookup", "name", "values"),
    [
        ("Case", "StatusId", "CaseStatus", "New", CASE),
        ("Invoice", "PaymentStatusId", "InvoicePaymentStatus", "Not invoiced", {}),
        ("Order", "StatusId", "OrderStatus", "Draft", {}),
        ("Order", "PaymentStatusId", "OrderPaymentStatus", "Planned", {}),
    ],
)
async def test_documents_begin_in_their_first_state(
    tenant: Tenant, entity: str, column: str, lookup: str, name: str, values: dict[str, Any]
) -> None:
    """A document without a state is given its first one, in the answer too; a given one is kept."""
    made = await tenant.post(entity, values)
    assert made[column] == (await tenant.get(f"{entity}({made['Id']})"))[column] == await by_name(tenant, lookup, name)
    other = next(row["Id"] for row in await tenant.rows(lookup) if row["Name"] != name)
    assert (await tenant.post(entity, {**values, column: other}))[column] == other


async def test_first_states_are_a_switch(tenant: Tenant) -> None:
    """Another state may be the first one; without any, one that is required must be sent and another is empty."""
    await tenant.settings(default_statuses={"Case.StatusId": "In progress"})
    assert (await tenant.post("Case", CASE))["StatusId"] == await by_name(tenant, "CaseStatus", "In progress")
    assert "Column PaymentStatusId is required" in await refusal(tenant, "Invoice", {})
    assert (await tenant.post("Order", {}))["StatusId"] == EMPTY


async def test_a_case_is_registered_when_it_is_created(tenant: Tenant) -> None:
    """The time of registration is that of the create, unless it is sent, or the switch says that it must be."""
    made = await tenant.post("Case", CASE)
    assert abs(datetime.fromisoformat(made["RegisteredOn"]) - datetime.now(UTC)) < timedelta(minutes=1)
    given = {**CASE, "RegisteredOn": "2024-07-05T04:33:37Z"}
    assert (await tenant.post("Case", given))["RegisteredOn"] == "2024-07-05T04:33:37Z"
    await tenant.settings(registered_on="refuse")
    assert "Column RegisteredOn is required" in await refusal(tenant, "Case", CASE)
    assert (await tenant.post("Case", given))["RegisteredOn"] == "2024-07-05T04:33:37Z"


async def test_a_required_date_must_be_sent(tenant: Tenant) -> None:
    """An installment without its planned date is refused."""
    step = {"Name": "Step", "TypeId": await by_name(tenant, "SupplyPaymentType", "Payment")}
    assert "Column DatePlan is required" in await refusal(tenant, "SupplyPaymentElement", step)
    made = await tenant.post("SupplyPaymentElement", {**step, "DatePlan": "2026-05-01T00:00:00Z"})
    assert made["StateId"] == await by_name(tenant, "SupplyPaymentState", "Not finished")


async def test_system_settings_name_currency_unit_tax_and_price_list(tenant: Tenant) -> None:
    """Currency, unit, tax and price list of a create are those of the settings; one that names nothing leaves them empty."""
    product = await tenant.post("Product", {"Name": "Pen"})
    price = await tenant.post("ProductPrice", {"ProductId": product["Id"]})
    assert product["CurrencyId"] == await by_name(tenant, "Currency", "USD")
    assert product["UnitId"] == await by_name(tenant, "Unit", "Piece")
    assert product["TaxId"] == await by_name(tenant, "Tax", "No tax")
    assert price["PriceListId"] == await by_name(tenant, "Pricelist", "Base price list")
    await tenant.settings(system_settings={"PrimaryCurrency": "EUR", "DefaultUnit": "Hour", "DefaultTax": "VAT 20%"})
    other = await tenant.post("Product", {"Name": "Ink"})
    assert other["CurrencyId"] == (await tenant.post("Order", {}))["CurrencyId"] == await by_name(tenant, "Currency", "EUR")
    assert other["UnitId"] == await by_name(tenant, "Unit", "Hour")
    assert other["TaxId"] == await by_name(tenant, "Tax", "VAT 20%")
    assert "Column PriceListId is required" in await refusal(tenant, "ProductPrice", {"ProductId": other["Id"]})


async def test_documents_have_owner_date_and_supplier(tenant: Tenant) -> None:
    """Owner is who saves, dates are today's, and the supplier of an invoice is our company where that is an account."""
    order, invoice = await tenant.post("Order", {}), await tenant.post("Invoice", {})
    assert order["OwnerId"] == order["CreatedById"] == invoice["OwnerId"]
    assert invoice["StartDate"] == f"{order['Date'][:10]}T00:00:00Z"
    assert invoice["SupplierId"] == EMPTY
    await tenant.post("Account", {"Id": OUR_COMPANY, "Name": "Our company"})
    assert (await tenant.post("Invoice", {}))["SupplierId"] == OUR_COMPANY


@pytest.mark.parametrize(
    ("entity", "prefix", "width", "values"), [("Order", "ORD-", 1, {}), ("Invoice", "INV-", 1, {}), ("Case", "SR", 8, CASE)]
)
async def test_documents_number_themselves(tenant: Tenant, entity: str, prefix: str, width: int, values: dict[str, Any]) -> None:
    """A document without a number gets the one after the highest by its mask; given numbers are kept, deleted ones not used again."""

    async def number(**more: object) -> str:
        return str((await tenant.post(entity, {**values, **more}))["Number"])

    assert [await number(), await number()] == [f"{prefix}{one:0{width}d}" for one in (1, 2)]
    assert await number(Number="own-77") == "own-77"
    assert await number(Number=f"{prefix}9x") == f"{prefix}9x"
    last = await tenant.post(entity, values)
    await tenant.delete(entity, last["Id"])
    assert await number() == f"{prefix}{4:0{width}d}"
    await tenant.seed(entity, {"Number": f"{prefix}{41:0{width}d}"})
    assert await number() == f"{prefix}{42:0{width}d}"


async def test_currencies_are_whole(tenant: Tenant) -> None:
    """Each currency has its codes, symbol and rate, and the rates of the time before."""
    rows = {row["Name"]: row for row in await tenant.rows("Currency")}
    facts = {name: (row["Code"], row["ShortName"], row["Symbol"], row["Division"], row["Rate"]) for name, row in rows.items()}
    assert facts == {
        "USD": ("840", "USD", "$", 1, 1.0),
        "EUR": ("978", "EUR", "€", 1, 0.92),
        "GBP": ("826", "GBP", "£", 1, 0.79),
    }
    rates = await tenant.rows("CurrencyRate", "Currency/Name eq 'EUR'", orderby="StartDate")
    assert [(row["StartDate"][:4], row["EndDate"][:4], row["Rate"]) for row in rates] == [("2021", "2023", 0.95), ("2024", "0001", 0.92)]
    assert rates[-1]["CurrencyId"] == rows["EUR"]["Id"]


async def test_the_lists_of_documents_are_filled(tenant: Tenant) -> None:
    """Units have short names, taxes a percentage, and states and stages tell which of them are final."""
    assert {row["Name"]: row["ShortName"] for row in await tenant.rows("Unit")} == {"Piece": "pcs", "Hour": "h", "Kilogram": "kg"}
    assert {row["Name"]: row["Percent"] for row in await tenant.rows("Tax")} == {"No tax": 0, "VAT 20%": 20}
    assert [row["Name"] for row in await tenant.rows("OrderStatus", "FinalStatus eq true", orderby="Position")] == [
        "Completed",
        "Cancelled",
    ]
    assert await tenant.names("FinalStatus eq true", "InvoicePaymentStatus") == ["Cancelled", "Paid"]
    assert await tenant.names("IsFinal eq true", "CaseStatus") == ["Canceled", "Closed"]
    assert await tenant.names("IsResolved eq true and IsFinal eq false", "CaseStatus") == ["Resolved"]
    assert {"Payment", "Delivery"} == set(await tenant.names("", "SupplyPaymentType"))
    assert {row["Name"] for row in await tenant.rows("CasePriority", "Priority ge 1")} == {"High", "Medium", "Low"}


async def test_the_stages_of_a_sale_have_names_and_an_order(tenant: Tenant) -> None:
    """An opportunity begins in the first of the stages, which are named and numbered; the last ones end it."""
    stages = await tenant.rows("OpportunityStage", orderby="Number")
    names = ["Qualification", "Presentation", "Proposal", "Contract negotiation", "Won", "Lost", "Rejected"]
    assert [row["Name"] for row in stages] == names
    assert [row["Name"] for row in stages if row["End"]] == names[4:]
    assert [row["Name"] for row in stages if row["Successful"]] == ["Won"]
    made = await tenant.post("Opportunity", {"Title": "Roof"})
    assert made["StageId"] == stages[0]["Id"] == "c2067b11-0ee0-df11-971b-001d60e938c6"
