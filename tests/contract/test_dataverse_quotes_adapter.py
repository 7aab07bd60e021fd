"""Prove how the Dataverse adapter wins, closes, leaves and reopens quotes, and pays nothing by itself (dataverse.md 5, 9; laws 6, 8)."""

from collections.abc import AsyncIterator
from decimal import Decimal
from uuid import uuid4

import pytest

from shared.core.errors import Rejected, Stale
from shared.core.records import LinesOf, Row, Value, Write, WriteKind, WriteResult
from shared.systems.dataverse import Dataverse
from tests.contract.dataverse_site import Site, site

COLUMNS = ("name", "statuscode", "statecode", "totalamount")
LINES = LinesOf("quotedetail", "quoteid", ("productdescription", "quantity", "priceperunit", "isproductoverridden"))


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


def line(text: str, quantity: str) -> dict[str, Value]:
    """Return a write-in line."""
    return {"productdescription": text, "quantity": Decimal(quantity), "priceperunit": Decimal("1.5"), "isproductoverridden": True}


async def seen(adapter: Dataverse, key: str) -> Row:
    """Read a quote."""
    (row,) = (await adapter.read("quote", [key], COLUMNS, lines=LINES)).values()
    assert isinstance(row, Row)
    return row


async def quote(org: Site, adapter: Dataverse, **values: Value) -> Row:
    """Create a quote with a line."""
    account = (await org.control.seed("account", [{"name": "Acme"}]))[0]
    create = Write(
        WriteKind.CREATE, str(uuid4()), {"name": "Offer", "customerid": account, **values}, lines={str(uuid4()): line("Pen", "3")}
    )
    (result,) = await adapter.write("quote", [create], lines=LINES)
    assert result.error is None, result.error
    return await seen(adapter, create.id)


async def change(adapter: Dataverse, row: Row, values: dict[str, Value], *lines: dict[str, Value]) -> WriteResult:
    """Write to a quote, with further lines."""
    write = Write(WriteKind.UPDATE, row.id, values, row, {str(uuid4()): one for one in lines})
    (result,) = await adapter.write("quote", [write], lines=LINES)
    return result


@pytest.mark.parametrize(("status", "state"), [(4, 2), (5, 3), (6, 3)])
@pytest.mark.parametrize("active", [False, True])
async def test_a_quote_is_won_or_closed_from_either_state(org, status, state, active):
    """A draft is activated first, an active one goes straight to the action; both are one change set with one close activity."""
    adapter = org.dataverse()
    made = await quote(org, adapter)
    if active:
        await org.control.edit("quote", made.id, {"statecode": 1, "statuscode": 3})
        made = await seen(adapter, made.id)
    await org.control.reset_requests()
    result = await change(adapter, made, {"statuscode": status})
    assert result.error is None, result.error
    assert result.row is not None
    assert (result.row.values["statecode"], result.row.values["statuscode"]) == (state, status)
    counts = await org.control.requests()
    assert (counts["by"]["POST $batch"], counts["writes"]) == (1, 2 if active else 3)  # the activity, the quote, and its activation
    assert len(await org.control.rows("quoteclose")) == 1


async def test_the_last_changes_of_a_draft_go_before_its_state(org):
    """Header and lines are written while they may be; then the quote is activated and won."""
    adapter = org.dataverse()
    result = await change(adapter, await quote(org, adapter), {"name": "As agreed", "statuscode": 4}, line("Ink", "2"))
    assert result.error is None, result.error
    assert result.row is not None
    assert (result.row.values["name"], result.row.values["statecode"], len(result.row.lines)) == ("As agreed", 2, 2)
    assert result.row.values["totalamount"] == Decimal("7.5")


async def test_a_quote_is_not_won_past_somebodys_edit(org):
    """The set begins with the state, so it carries the version that the plan saw: nothing is activated, nothing is won."""
    adapter = org.dataverse()
    made = await quote(org, adapter)
    await org.control.edit("quote", made.id, {"name": "Somebody's"})
    assert isinstance((await change(adapter, made, {"statuscode": 4})).error, Stale)
    row = await seen(adapter, made.id)
    assert (row.values["name"], row.values["statecode"]) == ("Somebody's", 0)


async def test_an_active_quote_is_left_as_the_customer_has_it(org):
    """Neither header nor lines are written, also not together with a state: the server refuses, and takes all of it back."""
    adapter = org.dataverse()
    made = await quote(org, adapter)
    await org.control.edit("quote", made.id, {"statecode": 1, "statuscode": 3})
    active = await seen(adapter, made.id)
    for values, lines in (({"name": "Other"}, ()), ({}, (line("Ink", "2"),)), ({"name": "Other", "statuscode": 4}, ())):
        assert isinstance((await change(adapter, active, values, *lines)).error, Rejected)
    row = await seen(adapter, made.id)
    assert (row.values["name"], row.values["statuscode"], len(row.lines)) == ("Offer", 3, 1)


@pytest.mark.parametrize("setting", ["refuse", "accept"])
async def test_a_won_quote_is_a_draft_again_or_stays_as_it_was(org, setting):
    """Where the server reopens it, what is written with the state arrives; where not, nothing of it does."""
    await org.control.switch(quotes_reopened=setting)
    adapter = org.dataverse()
    won = await quote(org, adapter, statuscode=4)
    assert won.values["statecode"] == 2
    result = await change(adapter, won, {"name": "Again", "statuscode": 1}, line("Ink", "2"))
    row = await seen(adapter, won.id)
    found = (row.values["name"], row.values["statecode"], len(row.lines), type(result.error))
    assert found == (("Again", 0, 2, type(None)) if setting == "accept" else ("Offer", 2, 1, Rejected))
