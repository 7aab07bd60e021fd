"""States and actions of documents in the Dataverse stand-in: closing, converting, qualifying, reopening (checklist items 8, 16)."""

import pytest

from tests.contract.dataverse_documents import LINES, SETS, bind, shop_in
from tests.contract.dataverse_stand_in import API, opened

OPEN = {"statecode": 0, "statuscode": 1}


@pytest.fixture
async def shop():
    """Open an organisation with a small shop for one test."""
    async with opened() as org:
        yield await shop_in(org)


def closing(activity, table, row_id, status, **values):
    """Write the body of a closing action."""
    return {activity: {"subject": "Done", **bind(table, row_id), **values}, "Status": status}


async def active_quote(shop, **values):
    """Create a quote with a line and activate it."""
    quote = await shop.header("quote", **values)
    await shop.line(quote, "quote")
    await shop.patched(f"quotes({quote})", statecode=1, statuscode=2)
    return quote


async def only(shop, entity_set, **values):
    """Return the only row of a table."""
    [row] = (await shop.org.get(entity_set, **values))["value"]
    return row


@pytest.mark.parametrize(
    ("action", "status", "state", "revenue"),
    [("WinOpportunity", 3, 1, 39.98), ("LoseOpportunity", 4, 2, 0.0), ("LoseOpportunity", 5, 2, 0.0), ("WinOpportunity", -1, 1, 39.98)],
)
async def test_opportunities_are_won_and_lost(shop, action, status, state, revenue) -> None:
    """The action sets state, close date and actual value, and keeps a close activity; its lines are told."""
    opportunity = await shop.header("opportunity", isrevenuesystemcalculated=True)
    line = await shop.line(opportunity, "opportunity")
    await shop.acted(action, closing("OpportunityClose", "opportunity", opportunity, status))
    row = await shop.row("opportunity", opportunity)
    assert (row["statecode"], row["actualvalue"]) == (state, revenue)
    assert row["statuscode"] == (3 if status == -1 else status)
    assert row["actualclosedate"] is not None
    activity = await only(shop, "opportunitycloses")
    assert (activity["subject"], activity["_opportunityid_value"], activity["statecode"]) == ("Done", opportunity, 1)
    assert (await shop.row_of_line(line, "opportunity"))["opportunitystatecode"] == state
    again = closing("OpportunityClose", "opportunity", opportunity, status)
    assert (await shop.org.refused("POST", action, again))[1] == "0x80040515"


async def test_what_the_close_of_an_opportunity_says(shop) -> None:
    """Revenue and date of the close activity become the opportunity's, also by an absolute bind."""
    opportunity = await shop.header("opportunity")
    values = {"actualrevenue": 12.5, "actualend": "2026-02-03T10:00:00Z", "description": "why"}
    body = {
        "OpportunityClose": {"subject": "Won", "opportunityid@odata.bind": f"{API}/opportunities({opportunity})", **values},
        "Status": 3,
    }
    await shop.acted("WinOpportunity", body)
    row = await shop.row("opportunity", opportunity)
    assert (row["actualvalue"], row["actualclosedate"]) == (12.5, "2026-02-03")
    assert (await only(shop, "opportunitycloses"))["description"] == "why"


async def test_wrong_closes(shop) -> None:
    """A status of another state, no activity, a missing row, and GET are refused, and nothing is kept."""
    opportunity = await shop.header("opportunity")
    wrong = closing("OpportunityClose", "opportunity", opportunity, 4)
    assert (await shop.org.refused("POST", "WinOpportunity", wrong))[1] == "0x80048408"
    assert (await shop.org.refused("POST", "WinOpportunity", {"Status": 3}))[1] == "0x80048d19"
    missing = closing("OpportunityClose", "opportunity", "00000000-0000-0000-0000-000000000001", 3)
    assert (await shop.org.refused("POST", "WinOpportunity", missing))[:2] == (404, "0x80040217")
    assert (await shop.org.refused("GET", "WinOpportunity"))[:2] == (404, "")
    assert (await shop.org.get("opportunitycloses"))["value"] == []


@pytest.mark.parametrize("body", [{"statecode": 1, "statuscode": 3}, {"statecode": 2, "statuscode": 4}])
async def test_an_opportunity_is_not_closed_by_patch(shop, body) -> None:
    """A direct change of the state names the message to use instead."""
    opportunity = await shop.header("opportunity")
    status, code, message = await shop.org.refused("PATCH", f"opportunities({opportunity})", body)
    assert (status, code) == (400, "0x80100005")
    assert "message instead" in message
    await shop.patched(f"opportunities({opportunity})", statuscode=2)


async def test_closing_by_update_can_be_allowed() -> None:
    """Quotes, orders and cases are closed by their actions only, or by PATCH too when the switch says so."""
    for setting, status in (("refuse", 400), ("accept", 204)):
        async with opened(closing_by_update=setting) as org:
            shop = await shop_in(org)
            quote = await active_quote(shop)
            order = await shop.header()
            case = await org.create("incidents", title="A", **bind("account", shop.account, "customerid_account"))
            for path, body in (
                (f"quotes({quote})", {"statecode": 2, "statuscode": 4}),
                (f"salesorders({order})", {"statecode": 2, "statuscode": 4}),
                (f"incidents({case})", {"statecode": 1, "statuscode": 5}),
            ):
                assert (await org.send("PATCH", path, body)).status_code == status, path


async def closed(shop, table):
    """Return a closed document of a table, its line, and the body that reopens it."""
    header = await shop.header(table)
    line = await shop.line(header, table)
    if table == "opportunity":
        await shop.acted("WinOpportunity", closing("OpportunityClose", table, header, 3))
    elif table == "quote":
        await shop.patched(f"quotes({header})", statecode=1, statuscode=2)
    elif table == "salesorder":
        await shop.acted("FulfillSalesOrder", closing("OrderClose", table, header, 100001))
    else:
        await shop.patched(f"invoices({header})", statecode=2, statuscode=100001)
    return header, line


@pytest.mark.parametrize("table", LINES)
async def test_closed_documents_and_their_lines_are_read_only(shop, table) -> None:
    """Header and lines can't be changed, added or taken away until the document is reopened; then they can."""
    header, line = await closed(shop, table)
    before = await shop.row(table, header)
    added = {**bind(table, header), **shop.item()}
    for method, path, body in (
        ("PATCH", f"{SETS[table]}({header})", {"name": "Late"}),
        ("PATCH", f"{LINES[table]}({line})", {"quantity": 9}),
        ("POST", LINES[table], added),
        ("DELETE", f"{LINES[table]}({line})", None),
    ):
        assert (await shop.org.refused(method, path, body))[0] == 400, method
    assert await shop.row(table, header) == before
    await shop.patched(f"{SETS[table]}({header})", **OPEN)
    assert (await shop.row_of_line(line, table))[f"{table}statecode"] == 0
    await shop.patched(f"{LINES[table]}({line})", quantity=9)
    await shop.patched(f"{SETS[table]}({header})", name="Reopened")


async def test_closing_keeps_the_prices(shop) -> None:
    """A list's new price is not felt by a document that is being closed."""
    quote = await shop.header("quote")
    line = await shop.line(quote, "quote", quantity=1)
    item = (await only(shop, "productpricelevels"))["productpricelevelid"]
    await shop.patched(f"productpricelevels({item})", amount=30)
    await shop.patched(f"quotes({quote})", statecode=1, statuscode=2)
    assert (await shop.row_of_line(line, "quote"))["priceperunit"] == 19.99
    assert (await shop.row("quote", quote))["totalamount"] == 19.99


@pytest.mark.parametrize(
    ("action", "status", "state"), [("WinQuote", 4, 2), ("CloseQuote", 5, 3), ("CloseQuote", 6, 3), ("CloseQuote", 7, 3)]
)
async def test_quotes_are_won_and_closed(shop, action, status, state) -> None:
    """Only an active quote can be; its close activity names it and its number."""
    draft = await shop.header("quote")
    assert (await shop.org.refused("POST", action, closing("QuoteClose", "quote", draft, status)))[0] == 400
    quote = await active_quote(shop)
    await shop.acted(action, closing("QuoteClose", "quote", quote, status))
    row = await shop.row("quote", quote)
    assert (row["statecode"], row["statuscode"], row["closedon"] is None) == (state, status, False)
    assert (await only(shop, "quotecloses"))["quotenumber"] == row["quotenumber"]


@pytest.mark.parametrize("setting", ["refuse", "accept"])
async def test_a_won_quote_is_reopened_or_not(setting) -> None:
    """By the switch a won quote becomes a draft again, with its lines to be edited, or stays won; an active one always goes back."""
    async with opened(quotes_reopened=setting) as org:
        shop = await shop_in(org)
        quote = await active_quote(shop)
        await shop.patched(f"quotes({quote})", statecode=0, statuscode=1)
        await shop.patched(f"quotes({quote})", statecode=1, statuscode=2)
        await shop.acted("WinQuote", closing("QuoteClose", "quote", quote, 4))
        answer = await shop.org.send("PATCH", f"quotes({quote})", {"statecode": 0, "statuscode": 1})
        assert (answer.status_code, (await shop.row("quote", quote))["statecode"]) == ((204, 0) if setting == "accept" else (400, 2))


async def test_a_quote_becomes_an_order_and_an_invoice(shop) -> None:
    """Each is made with the lines and the prices of the one before, which goes into its next state."""
    quote = await active_quote(shop, freightamount=5, description="kept", billto_city="Oslo")
    order = await shop.acted("ConvertQuoteToSalesOrder", {"QuoteId": quote, "ColumnSet": {"AllColumns": True}})
    assert order["@odata.context"].endswith("#salesorders/$entity")
    assert (order["totalamount"], order["_quoteid_value"], order["ispricelocked"], order["statecode"]) == (44.98, quote, True, 0)
    assert (order["description"], order["billto_city"], order["_customerid_value"]) == ("kept", "Oslo", shop.account)
    assert (await shop.row("quote", quote))["statecode"] == 2
    assert (await only(shop, "quotecloses"))["_quoteid_value"] == quote
    line = await only(shop, "salesorderdetails")
    assert (line["quantity"], line["_quotedetailid_value"] is None) == (2, False)
    invoice = await shop.acted("ConvertSalesOrderToInvoice", {"SalesOrderId": order["salesorderid"], "ColumnSet": {"AllColumns": True}})
    assert (invoice["totalamount"], invoice["_salesorderid_value"]) == (44.98, order["salesorderid"])
    assert (await shop.row("salesorder", order["salesorderid"]))["statuscode"] == 100003
    again = {"SalesOrderId": order["salesorderid"]}
    assert (await shop.org.refused("POST", "ConvertSalesOrderToInvoice", again))[0] == 400


async def test_converted_documents_keep_their_prices(shop) -> None:
    """An order made from a quote has the quote's price though the list has another one now; a draft can't be converted."""
    quote = await active_quote(shop)
    item = (await only(shop, "productpricelevels"))["productpricelevelid"]
    await shop.patched(f"productpricelevels({item})", amount=30)
    order = await shop.acted("ConvertQuoteToSalesOrder", {"QuoteId": quote})
    assert order["totalamount"] == 39.98
    draft = await shop.header("quote")
    assert (await shop.org.refused("POST", "ConvertQuoteToSalesOrder", {"QuoteId": draft}))[0] == 400
    assert (await shop.org.refused("POST", "ConvertQuoteToSalesOrder", {"QuoteId": "x"}))[1] == "0x80040203"


async def test_a_revised_quote(shop) -> None:
    """The quote is closed as revised, and a draft with its number, its lines and the next revision takes its place."""
    quote = await active_quote(shop)
    revised = await shop.acted("ReviseQuote", {"QuoteId": quote, "ColumnSet": {"AllColumns": True}})
    old = await shop.row("quote", quote)
    assert (old["statecode"], old["statuscode"]) == (3, 7)
    assert (revised["quotenumber"], revised["revisionnumber"], revised["statecode"]) == (old["quotenumber"], 1, 0)
    assert revised["totalamount"] == 39.98
    assert (await shop.org.refused("POST", "ReviseQuote", {"QuoteId": revised["quoteid"]}))[0] == 400


@pytest.mark.parametrize(
    ("action", "status", "state"), [("CancelSalesOrder", 4, 2), ("FulfillSalesOrder", 100001, 3), ("FulfillSalesOrder", 100002, 3)]
)
async def test_orders_are_canceled_and_fulfilled(shop, action, status, state) -> None:
    """A submitted order too; the close activity names it, and a fulfilled one tells when."""
    order = await shop.header()
    await shop.patched(f"salesorders({order})", statecode=1, statuscode=3)
    body = closing("OrderClose", "salesorder", order, status) | {}
    body["OrderClose"]["@odata.type"] = "Microsoft.Dynamics.CRM.orderclose"
    await shop.acted(action, body)
    row = await shop.row("salesorder", order)
    assert (row["statecode"], row["statuscode"], row["datefulfilled"] is None) == (state, status, state == 2)
    assert (await only(shop, "ordercloses"))["ordernumber"] == row["ordernumber"]


async def test_the_states_of_invoices(shop) -> None:
    """Paid comes from active only, canceled from active or paid."""
    invoice = await shop.header("invoice")
    await shop.patched(f"invoices({invoice})", statecode=3, statuscode=100003)
    assert (await shop.org.refused("PATCH", f"invoices({invoice})", {"statecode": 2, "statuscode": 100001}))[1] == "0x80100000"
    await shop.patched(f"invoices({invoice})", **OPEN)
    await shop.patched(f"invoices({invoice})", statecode=2, statuscode=100001)
    await shop.patched(f"invoices({invoice})", statecode=3, statuscode=100003)
    odd = await shop.header("invoice")
    await shop.patched(f"invoices({odd})", statecode=1, statuscode=3)
    assert (await shop.org.refused("PATCH", f"invoices({odd})", {"statecode": 3, "statuscode": 100003}))[1] == "0x80100001"


@pytest.mark.parametrize(("status", "kept"), [(5, 5), (1000, 1000), (-1, 5)])
async def test_cases_are_resolved(shop, status, kept) -> None:
    """The action keeps a resolution with the time spent; resolved cases are read-only, reopened ones are not."""
    case = await shop.org.create("incidents", title="Broken", **bind("account", shop.account, "customerid_account"))
    await shop.acted("CloseIncident", closing("IncidentResolution", "incident", case, status, timespent=60, description="fixed"))
    row = await shop.row("incident", case)
    assert (row["statecode"], row["statuscode"]) == (1, kept)
    resolution = await only(shop, "incidentresolutions")
    assert (resolution["timespent"], resolution["_incidentid_value"]) == (60, case)
    assert (await shop.org.refused("POST", "CloseIncident", closing("IncidentResolution", "incident", case, 5)))[1] == "0x80044411"
    assert (await shop.org.refused("PATCH", f"incidents({case})", {"title": "Late"}))[0] == 400
    await shop.patched(f"incidents({case})", **OPEN)
    await shop.patched(f"incidents({case})", title="Again", statecode=2, statuscode=6)


async def test_a_case_with_active_child_cases_is_not_resolved(shop) -> None:
    """The parent waits for its children."""
    customer = bind("account", shop.account, "customerid_account")
    parent = await shop.org.create("incidents", title="Parent", **customer)
    child = await shop.org.create("incidents", title="Child", **customer, **bind("incident", parent, "parentcaseid"))
    body = closing("IncidentResolution", "incident", parent, 5)
    assert (await shop.org.refused("POST", "CloseIncident", body))[1] == "0x8004F456"
    await shop.acted("CloseIncident", closing("IncidentResolution", "incident", child, 5))
    await shop.acted("CloseIncident", body)


LEAD = {"subject": "Big deal", "firstname": "Ada", "lastname": "Lovelace", "companyname": "Engines", "emailaddress1": "ada@engines.example"}
ALL = {"CreateAccount": True, "CreateContact": True, "CreateOpportunity": True, "Status": 3}


async def test_a_lead_is_qualified(shop) -> None:
    """Account, contact and opportunity are made from it, joined to each other and to the lead, and answered."""
    lead = await shop.org.create("leads", **LEAD, estimatedamount=1000)
    euro = (await only(shop, "transactioncurrencies", filter="isocurrencycode eq 'EUR'"))["transactioncurrencyid"]
    currency = {"@odata.type": "Microsoft.Dynamics.CRM.transactioncurrency", "transactioncurrencyid": euro}
    path = f"leads({lead})/Microsoft.Dynamics.CRM.QualifyLead"
    made = {
        row["@odata.type"].rpartition(".")[2]: row for row in (await shop.acted(path, {**ALL, "OpportunityCurrencyId": currency}))["value"]
    }
    assert set(made) == {"account", "contact", "opportunity"}
    account, contact, opportunity = made["account"], made["contact"], made["opportunity"]
    assert (account["name"], contact["fullname"]) == ("Engines", "Ada Lovelace")
    assert contact["_parentcustomerid_value"] == account["accountid"]
    assert (opportunity["name"], opportunity["estimatedvalue"], opportunity["_transactioncurrencyid_value"]) == ("Big deal", 1000, euro)
    assert (opportunity["_customerid_value"], opportunity["_originatingleadid_value"]) == (account["accountid"], lead)
    row = await shop.row("lead", lead)
    assert (row["statecode"], row["statuscode"], row["_qualifyingopportunityid_value"]) == (1, 3, opportunity["opportunityid"])
    assert (await shop.org.refused("POST", path, ALL))[0] == 400
    assert (await shop.org.refused("PATCH", f"leads({lead})", {"subject": "late"}))[0] == 400


async def test_a_lead_is_qualified_without_more(shop) -> None:
    """Only what is asked for is made; a wrong status is refused; a disqualified lead can be reopened."""
    lead = await shop.org.create("leads", **LEAD)
    path = f"leads({lead})/Microsoft.Dynamics.CRM.QualifyLead"
    assert (await shop.org.refused("POST", path, {**ALL, "Status": 4}))[1] == "0x80048408"
    await shop.patched(f"leads({lead})", statecode=2, statuscode=5)
    await shop.patched(f"leads({lead})", **OPEN)
    nothing = {"CreateAccount": False, "CreateContact": False, "CreateOpportunity": False, "Status": 3}
    assert (await shop.acted(path, nothing))["value"] == []
    assert (await shop.org.get("opportunities"))["value"] == []
    assert (await shop.row("lead", lead))["statecode"] == 1


async def test_actions_need_the_right_to_write(shop) -> None:
    """Whoever can't write a table can't close its rows either."""
    opportunity = await shop.header("opportunity")
    await shop.org.control("settings", {"unwritable_tables": ["opportunity"]})
    body = closing("OpportunityClose", "opportunity", opportunity, 3)
    assert (await shop.org.refused("POST", "WinOpportunity", body))[:2] == (403, "0x80040220")


async def test_merging_customers_moves_closed_documents_too(shop) -> None:
    """Documents of a merged account refer to its master, in whatever state they are, and keep their totals."""
    order, _ = await closed(shop, "salesorder")
    master = await shop.org.create(name="Master")
    kind = "Microsoft.Dynamics.CRM.account"
    target, subordinate = ({"@odata.type": kind, "accountid": row_id} for row_id in (master, shop.account))
    await shop.acted("Merge", {"Target": target, "Subordinate": subordinate, "PerformParentingChecks": False})
    row = await shop.row("salesorder", order)
    assert (row["_customerid_value"], row["statecode"], row["totalamount"]) == (master, 3, 39.98)
    assert (row["_accountid_value"], row["_contactid_value"]) == (master, None)


async def test_merging_contacts_moves_their_cases(shop) -> None:
    """A case of a merged contact is one of its master, and not of an account."""
    ids = [await shop.org.create("contacts", lastname=name) for name in ("Master", "Double")]
    case = await shop.org.create("incidents", title="A", **bind("contact", ids[1], "customerid_contact"))
    target, subordinate = ({"@odata.type": "Microsoft.Dynamics.CRM.contact", "contactid": row_id} for row_id in ids)
    await shop.acted("Merge", {"Target": target, "Subordinate": subordinate, "PerformParentingChecks": False})
    row = await shop.row("incident", case)
    assert (row["_customerid_value"], row["_contactid_value"], row["_accountid_value"]) == (ids[0], ids[0], None)


async def test_merged_cases_are_cancelled(shop) -> None:
    """A case that is merged into another has the status for that."""
    customer = bind("account", shop.account, "customerid_account")
    ids = [await shop.org.create("incidents", title=title, **customer) for title in ("A", "B")]
    target, subordinate = ({"@odata.type": "Microsoft.Dynamics.CRM.incident", "incidentid": row_id} for row_id in ids)
    await shop.acted("Merge", {"Target": target, "Subordinate": subordinate, "PerformParentingChecks": False})
    row = await shop.row("incident", ids[1])
    assert (row["statecode"], row["statuscode"], row["_masterid_value"]) == (2, 2000, ids[0])
