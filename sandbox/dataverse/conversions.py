"""The actions that make one row from another: quote to order, order to invoice, revisions, qualified leads (dataverse.md 5)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sandbox.dataverse import faults, values
from sandbox.dataverse.closing import CLOSINGS, close
from sandbox.dataverse.database import Row
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.documents import INVOICE, ORDER, QUOTE, Document, business, fetch, found, lines_of
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Operation, Reply, json_reply
from sandbox.dataverse.organization import BASE_CURRENCY_ID, Organization
from sandbox.dataverse.privileges import check_privilege
from sandbox.dataverse.queries import read_query
from sandbox.dataverse.reads import Reader
from sandbox.dataverse.values import new_id
from sandbox.dataverse.writes import Writer, writer_for

_OWN = frozenset(
    {
        "statecode",
        "statuscode",
        "versionnumber",
        "createdon",
        "modifiedon",
        "createdby",
        "modifiedby",
        "overriddencreatedon",
        "exchangerate",
    }
)


def _writer(organization: Organization, operation: Operation) -> Writer:
    return replace(writer_for(organization, operation), trusted=True)


def _source(organization: Organization, operation: Operation, document: Document, parameter: str) -> Row:
    """Return the row that an action names by id in a parameter; raise for a wrong method, id or privilege."""
    row_id = values.guid(operation.json(document.name).get(parameter))
    if row_id is None:
        raise faults.invalid_argument(f"The parameter '{parameter}' must be the id of a {document.name}.")
    table = organization.tables[document.name]
    check_privilege(organization, table, "Write", operation.user_id)
    return writer_for(organization, operation).existing(table, row_id)


def _copied(source: Row, target: Table) -> Row:
    """Return what a new row takes over from another: columns of the same name that a client could set or that name the owner."""
    leave = {*_OWN, target.primary_id}
    copied: Row = {}
    for column in target.columns.values():
        if column.creatable and column.name not in leave:
            copied |= {name: source[name] for name in column.stored if source.get(name) is not None}
    return copied


def _copy_document(writer: Writer, source: Row, kinds: tuple[Document, Document], more: Row, *, locked: bool) -> str:
    """Copy a document with its lines into another table, at the prices it has if `locked`, and return the new id."""
    organization, (from_kind, to_kind) = writer.organization, kinds
    table = organization.tables[to_kind.name]
    header = {**_copied(source, table), **more}
    header["transactioncurrencyid"] = source["transactioncurrencyid"]
    if locked and "ispricelocked" in table.columns:
        header["ispricelocked"] = 1
    row_id = writer.insert(table, header)
    line_table = organization.tables[to_kind.lines]
    from_key = organization.tables[from_kind.lines].primary_id
    for line in lines_of(organization, from_kind, source):
        copied = {**_copied(line, line_table), to_kind.parent: row_id}
        if from_key in line_table.columns and from_key != line_table.primary_id:
            copied[from_key] = line[from_key]
        writer.insert(line_table, copied)
    return row_id


def _made(organization: Organization, operation: Operation, name: str, row_id: str, writes: int) -> Reply:
    reader = Reader(organization, operation.root, operation.preferences())
    shown = reader.one(organization.tables[name], row_id, read_query(""))
    if shown is None:
        raise faults.missing_row(name, row_id)
    reply = json_reply(shown[0], operation.preferences(), reading=False)
    return Reply(200, reply.headers, reply.body, writes=writes)


def _quote_to_order(organization: Organization, operation: Operation) -> Reply:
    quote = _source(organization, operation, QUOTE, "QuoteId")
    if quote["statecode"] not in {1, 2}:
        raise business("0x80040203", "The quote can't be converted: only active and won quotes become orders.")
    writer = _writer(organization, operation)
    order_id = _copy_document(writer, quote, (QUOTE, ORDER), {"quoteid": quote["quoteid"]}, locked=True)
    if quote["statecode"] == 1:
        today = organization.stamp()[:10]
        writer.change(organization.tables["quote"], quote, {"statecode": 2, "statuscode": 4, "closedon": today})
        writer.insert(
            organization.tables["quoteclose"],
            {"subject": "Quote Won", "quoteid": quote["quoteid"], "quotenumber": quote["quotenumber"], "statecode": 1, "statuscode": 2},
        )
    return _made(organization, operation, "salesorder", order_id, 2)


def _order_to_invoice(organization: Organization, operation: Operation) -> Reply:
    order = _source(organization, operation, ORDER, "SalesOrderId")
    if order["statecode"] in {2, 4}:
        raise business("0x80040203", "The order can't be converted: it is canceled or invoiced.")
    writer = _writer(organization, operation)
    invoice_id = _copy_document(writer, order, (ORDER, INVOICE), {"salesorderid": order["salesorderid"]}, locked=True)
    writer.change(organization.tables["salesorder"], order, {"statecode": 4, "statuscode": 100003})
    return _made(organization, operation, "invoice", invoice_id, 2)


def _revise_quote(organization: Organization, operation: Operation) -> Reply:
    """Close a quote as revised, and make a draft with the same number and the next revision [memory]."""
    quote = _source(organization, operation, QUOTE, "QuoteId")
    if quote["statecode"] == 0:
        raise business("0x80040203", "A draft quote can't be revised: edit it.")
    writer = _writer(organization, operation)
    if quote["statecode"] == 1:
        writer.change(organization.tables["quote"], quote, {"statecode": 3, "statuscode": 7})
    more: Row = {"quotenumber": quote["quotenumber"], "revisionnumber": 1 + int(quote.get("revisionnumber") or 0)}
    revised = _copy_document(writer, quote, (QUOTE, QUOTE), more, locked=False)
    return _made(organization, operation, "quote", revised, 2)


def _lock(document: Document, parameter: str, locked: int) -> Callable[[Organization, Operation], Reply]:
    def lock(organization: Organization, operation: Operation) -> Reply:
        row = _source(organization, operation, document, parameter)
        _writer(organization, operation).change(organization.tables[document.name], row, {"ispricelocked": locked})
        return Reply(204, writes=1)

    return lock


def _closing(name: str) -> Callable[[Organization, Operation], Reply]:
    return lambda organization, operation: close(organization, operation, name)


ACTIONS: Mapping[str, Callable[[Organization, Operation], Reply]] = {
    **{name: _closing(name) for name in CLOSINGS},
    "ConvertQuoteToSalesOrder": _quote_to_order,
    "ConvertSalesOrderToInvoice": _order_to_invoice,
    "ReviseQuote": _revise_quote,
    "LockSalesOrderPricing": _lock(ORDER, "SalesOrderId", 1),
    "UnlockSalesOrderPricing": _lock(ORDER, "SalesOrderId", 0),
    "LockInvoicePricing": _lock(INVOICE, "InvoiceId", 1),
    "UnlockInvoicePricing": _lock(INVOICE, "InvoiceId", 0),
}


def qualify_lead(organization: Organization, operation: Operation, lead_id: str) -> Reply:
    """Qualify a lead: make what is asked for, join it to the lead, and answer with the references (dataverse.md 5)."""
    table, body = organization.tables["lead"], operation.json("leads")
    lead = writer_for(organization, operation).existing(table, lead_id)
    if lead["statecode"] != 0:
        raise business("0x80040203", "The lead is closed already.")
    status = body.get("Status", 3)
    if table.columns["statuscode"].states.get(3 if status == -1 else status) != 1:
        raise Fault(400, "0x80048408", f"{status} is not a valid status code for state code LeadState.Qualified on lead.")
    writer = _writer(organization, operation)
    made = _people_of(writer, lead, body)
    if body.get("CreateOpportunity"):
        made["opportunity"] = writer.insert(organization.tables["opportunity"], _opportunity_of(organization, lead, body, made))
    joins = {"account": "parentaccountid", "contact": "parentcontactid", "opportunity": "qualifyingopportunityid"}
    changes: Row = {joins[name]: row_id for name, row_id in made.items()}
    writer.change(table, lead, {**changes, "statecode": 1, "statuscode": 3})
    value = [_reference(organization, operation, name, row_id) for name, row_id in made.items()]
    context = f"{operation.root}/$metadata#Collection(Microsoft.Dynamics.CRM.crmbaseentity)"
    reply = json_reply({"@odata.context": context, "value": value}, operation.preferences())
    return Reply(200, reply.headers, reply.body, writes=1 + len(made))


def _reference(organization: Organization, operation: Operation, name: str, row_id: str) -> Mapping[str, Any]:
    shown = Reader(organization, operation.root, operation.preferences()).one(organization.tables[name], row_id, read_query(""))
    row = {} if shown is None else {key: value for key, value in shown[0].items() if key != "@odata.context"}
    return {"@odata.type": f"#Microsoft.Dynamics.CRM.{name}", **row}


def _people_of(writer: Writer, lead: Row, body: Mapping[str, Any]) -> dict[str, str]:
    """Make the account and the contact that are asked for, and return their ids by table."""
    tables, made = writer.organization.tables, dict[str, str]()
    given = ("leadid", "fullname", "accountid", "contactid", "customerid", "customerid__type", "parentaccountid", "transactioncurrencyid")
    common = {name: value for name, value in lead.items() if name not in given}
    if body.get("CreateAccount"):
        name = lead.get("companyname") or lead.get("fullname")
        made["account"] = writer.insert(tables["account"], {**_copied(common, tables["account"]), "name": name, **_origin(lead)})
    if body.get("CreateContact"):
        contact = {**_copied(common, tables["contact"]), **_origin(lead)}
        if "account" in made:
            contact |= {"parentcustomerid": made["account"], "parentcustomerid__type": "account"}
        made["contact"] = writer.insert(tables["contact"], contact)
    return made


def _origin(lead: Row) -> Row:
    return {"originatingleadid": lead["leadid"]}


def _opportunity_of(organization: Organization, lead: Row, body: Mapping[str, Any], made: Mapping[str, str]) -> Row:
    """Return the opportunity of a lead: its customer is the new account, else the new contact, else the lead's own."""
    currency = _given(body, "OpportunityCurrencyId", "transactioncurrencyid") or lead.get("transactioncurrencyid") or BASE_CURRENCY_ID
    if fetch(organization, "transactioncurrency", currency) is None:
        raise faults.missing_row("transactioncurrency", str(currency))
    opportunity: Row = {
        "opportunityid": new_id(),
        "name": lead.get("subject") or lead.get("fullname"),
        "transactioncurrencyid": currency,
        "originatingleadid": lead["leadid"],
        "estimatedvalue": lead.get("estimatedamount"),
        "estimatedclosedate": lead.get("estimatedclosedate"),
        "budgetamount": lead.get("budgetamount"),
        "description": lead.get("description"),
        "parentaccountid": made.get("account") or lead.get("parentaccountid"),
        "parentcontactid": made.get("contact") or lead.get("parentcontactid"),
    }
    customer = next(((name, made[name]) for name in ("account", "contact") if name in made), None)
    asked = {name: _given(body, "OpportunityCustomerId", f"{name}id") for name in ("account", "contact")}
    customer = next(((name, row_id) for name, row_id in asked.items() if row_id), customer)
    if customer is None and lead.get("customerid"):
        customer = str(lead.get("customerid__type") or "account"), str(lead["customerid"])
    if customer is not None:
        opportunity |= {"customerid": customer[1], "customerid__type": customer[0]}
    return {name: value for name, value in opportunity.items() if value is not None}


def _given(body: Mapping[str, Any], parameter: str, key: str) -> str | None:
    given = body.get(parameter)
    return values.guid(given.get(key)) if isinstance(given, dict) else None


def publish_hierarchy(organization: Organization, operation: Operation, product_id: str) -> Reply:
    """Publish a product with everything below it."""
    table, writer = organization.tables["product"], _writer(organization, operation)
    product = writer.existing(table, product_id)
    if product["statecode"] not in {2, 3}:
        raise business("0x80040203", "Only products that are in the draft state or under revision can be published.")
    waiting, written = [product], 0
    while waiting:
        current = waiting.pop()
        waiting += found(organization, "product", parentproductid=current["productid"])
        if current["statecode"] in {2, 3}:
            database_row = writer.existing(table, str(current["productid"]))
            writer.change(table, database_row, {"statecode": 0, "statuscode": 1})
            written += 1
    return Reply(204, writes=written)


BOUND: Mapping[tuple[str, str], Callable[[Organization, Operation, str], Reply]] = {
    ("lead", "QualifyLead"): qualify_lead,
    ("product", "PublishProductHierarchy"): publish_hierarchy,
}
