"""Documents with lines: what a line costs, what a header sums up to, and that closed ones are not changed (dataverse.md 5, 9)."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from sandbox.dataverse import faults, rules
from sandbox.dataverse.database import Row, quoted
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.values import from_money, to_money

_CENT: Final = Decimal("0.01")
_NO_PRICE_LIST, _NOT_IN_LIST = 2, 11
"""Values of `pricingerrorcode`: a line without a price is saved with one (dataverse.md 9)."""
_STATE: Final = frozenset({"statecode", "statuscode"})
_BY_ACTION: Final = {"opportunity": frozenset({1, 2})}
"""States that a plain update can't set (dataverse.md 5)."""
_REOPENED: Final = frozenset({"opportunity", "incident", "lead"})
"""Tables whose closed rows a plain update of the state reopens [memory]."""
_NUMBERS: Final = {"salesorder": ("ordernumber", "ORD"), "quote": ("quotenumber", "QUO"), "invoice": ("invoicenumber", "INV")}
_TICKETS: Final = {"incident": ("ticketnumber", "CAS")}


@dataclass(frozen=True)
class Document:
    """A header's table, that of its lines, and their lookup to it."""

    header: str
    lines: str
    parent: str


_DOCUMENTS: Final = tuple(
    Document(*names)
    for names in (
        ("opportunity", "opportunityproduct", "opportunityid"),
        ("quote", "quotedetail", "quoteid"),
        ("salesorder", "salesorderdetail", "salesorderid"),
        ("invoice", "invoicedetail", "invoiceid"),
    )
)
BY_HEADER: Final[Mapping[str, Document]] = {one.header: one for one in _DOCUMENTS}
_BY_LINES: Final[Mapping[str, Document]] = {one.lines: one for one in _DOCUMENTS}
_CLOSABLE: Final = frozenset({*BY_HEADER, "incident", "lead"})


def amount(row: Mapping[str, object], name: str) -> Decimal:
    """Return a stored amount or number, 0 for none."""
    value = row.get(name)
    if value is None:
        return Decimal(0)
    return from_money(value) if isinstance(value, int) else Decimal(str(value))


def before_insert(organization: Organization, table: Table, changes: Row) -> None:
    """Complete a new document or line, or refuse it."""
    numbered = (_NUMBERS | _TICKETS).get(table.name)
    if numbered is not None and changes.get(numbered[0]) is None:
        changes[numbered[0]] = f"{numbered[1]}-{organization.database.version():05}"
    if table.name in BY_HEADER:
        _check_currency(organization, changes)
    if (document := _BY_LINES.get(table.name)) is not None:
        header = _header(organization, document, changes)
        _check_open(document.header, header, changes)
        changes["transactioncurrencyid"] = header.get("transactioncurrencyid")
        _price(organization, header, changes, changes)


def before_change(organization: Organization, table: Table, before: Row, changes: Row) -> None:
    """Complete a change of a document or line, or refuse it."""
    if table.name in _CLOSABLE:
        _check_state(table, before, changes)
    if table.name in BY_HEADER and {"pricelevelid", "transactioncurrencyid"} & set(changes):
        _check_currency(organization, {**before, **changes})
    if (document := _BY_LINES.get(table.name)) is not None:
        header = _header(organization, document, {**before, **changes})
        _check_open(document.header, header, changes)
        _price(organization, header, {**before, **changes}, changes)


def before_delete(organization: Organization, table: Table, before: Row) -> None:
    """Refuse to delete a line of a closed document."""
    if (document := _BY_LINES.get(table.name)) is not None:
        _check_open(document.header, _header(organization, document, before), {"": None})


def after_write(organization: Organization, table: Table, row: Row, user_id: str) -> None:
    """Sum a document up again after its header or one of its lines was saved or deleted."""
    document = BY_HEADER.get(table.name) or _BY_LINES.get(table.name)
    if document is None:
        return
    headers = organization.tables[document.header]
    header_id = row.get(headers.primary_id if table is headers else document.parent)
    before = organization.database.get(headers, str(header_id))
    if before is None:
        return
    totals = _totals(organization, document, before)
    changes: Row = {name: to_money(value) for name, value in totals.items() if amount(before, name) != value or before.get(name) is None}
    if changes:
        rules.complete(organization, headers, before, changes)
        rules.stamp_row(organization, headers, user_id, changes, created=False)
        organization.database.update(headers, before, changes)


def lines_of(organization: Organization, table: Table, row_id: str) -> list[tuple[Table, str]]:
    """Return the lines that go with a document that is deleted."""
    document = BY_HEADER.get(table.name)
    if document is None:
        return []
    lines = organization.tables[document.lines]
    sql = f"SELECT {quoted(lines.primary_id)} FROM {quoted(lines.name)} WHERE {quoted(document.parent)} = ?"
    return [(lines, str(found[0])) for found in organization.database.query(sql, [row_id])]


def _header(organization: Organization, document: Document, line: Row) -> Row:
    parent = line.get(document.parent)
    header = organization.database.get(organization.tables[document.header], str(parent)) if parent is not None else None
    if header is None:
        raise faults.invalid_argument(f"The parent {document.parent} of a {document.lines} is missing.")
    return header


def _check_open(name: str, header: Row, changes: Row) -> None:
    if changes and header.get("statecode") != 0:
        raise _read_only(name)


def _read_only(name: str) -> Fault:
    """Return the refusal of a change to a closed row; its code is a guess: that of a business rule of the platform [memory]."""
    return Fault(400, "0x80040265", f"This {name} is closed and read-only. Reopen it before you change it.")


def _check_state(table: Table, before: Row, changes: Row) -> None:
    state = changes.get("statecode", before.get("statecode"))
    if state != before.get("statecode") and state in _BY_ACTION.get(table.name, ()):
        label = table.columns["statecode"].options.get(int(str(state)), str(state))
        message = f"This message can not be used to set the state of {table.name} to {label}. "
        raise Fault(400, "0x80100005", f"{message}In order to set state of {table.name} to {label}, use the {label} message instead.")
    if before.get("statecode") == 0:
        return
    reopens = table.name in _REOPENED and set(changes) <= _STATE and state == 0
    paid = table.name == "invoice" and set(changes) <= _STATE
    if not reopens and not paid:
        raise _read_only(table.name)


def _check_currency(organization: Organization, header: Row) -> None:
    prices = organization.tables["pricelevel"]
    chosen = organization.database.get(prices, str(header["pricelevelid"])) if header.get("pricelevelid") else None
    currency = header.get("transactioncurrencyid")
    if chosen is not None and currency is not None and chosen.get("transactioncurrencyid") not in (None, currency):
        raise Fault(400, "0x80048CEE", "The currency of the record does not match the currency of the price list.")


def _price(organization: Organization, header: Row, line: Row, changes: Row) -> None:
    """Work out what a line costs: by its own price, or by the header's price list (dataverse.md 9)."""
    written_in, product = bool(line.get("isproductoverridden")), line.get("productid")
    if written_in and product is not None:
        raise Fault(400, "0x80043AFB", "A line has either a product or a written-in product.")
    if not written_in and product is None:
        raise Fault(400, "0x80043AFA", "The product is missing.")
    if product is not None:
        _check_product(organization, str(product), line)
    error = 0
    if not written_in and not line.get("ispriceoverridden"):
        listed, error = _listed(organization, header, line)
        changes["priceperunit"] = None if listed is None else to_money(listed)
        line = {**line, "priceperunit": changes["priceperunit"]}
    base = (amount(line, "priceperunit") * amount(line, "quantity")).quantize(_CENT, ROUND_HALF_UP)
    extended = base - amount(line, "manualdiscountamount") - amount(line, "volumediscountamount") + amount(line, "tax")
    changes |= {"baseamount": to_money(base), "extendedamount": to_money(extended), "pricingerrorcode": error}


def _check_product(organization: Organization, product_id: str, line: Row) -> None:
    product = organization.database.get(organization.tables["product"], product_id)
    if product is None or product.get("statecode") != 0:
        raise Fault(400, "0x8004F908", "You can only add Active products.")
    unit = organization.database.get(organization.tables["uom"], str(line["uomid"])) if line.get("uomid") else None
    if unit is not None and unit.get("uomscheduleid") != product.get("defaultuomscheduleid"):
        raise Fault(400, "0x80043B14", "The unit is not in the product's unit group.")


def _listed(organization: Organization, header: Row, line: Row) -> tuple[Decimal | None, int]:
    if header.get("pricelevelid") is None:
        return None, _NO_PRICE_LIST
    wanted = {"pricelevelid": header["pricelevelid"], "productid": line.get("productid"), "uomid": line.get("uomid")}
    found = organization.database.find_by_values(organization.tables["productpricelevel"], wanted)
    return (amount(found[0], "amount"), 0) if found else (None, _NOT_IN_LIST)


def _totals(organization: Organization, document: Document, header: Row) -> dict[str, Decimal]:
    sql = f"SELECT * FROM {quoted(document.lines)} WHERE {quoted(document.parent)} = ?"
    header_id = header[organization.tables[document.header].primary_id]
    lines = [dict(found) for found in organization.database.query(sql, [header_id])]
    discounts = sum((amount(line, "manualdiscountamount") + amount(line, "volumediscountamount") for line in lines), Decimal(0))
    items = sum((amount(line, "baseamount") for line in lines), Decimal(0)) - discounts
    tax = sum((amount(line, "tax") for line in lines), Decimal(0))
    share = (items * amount(header, "discountpercentage") / 100).quantize(_CENT, ROUND_HALF_UP)
    discount = amount(header, "discountamount") + share
    less_freight = items - discount
    totals = {
        "totallineitemamount": items,
        "totallineitemdiscountamount": discounts,
        "totaldiscountamount": discount,
        "totalamountlessfreight": less_freight,
        "totaltax": tax,
        "totalamount": less_freight + amount(header, "freightamount") + tax,
    }
    if document.header == "opportunity" and header.get("isrevenuesystemcalculated"):
        totals["estimatedvalue"] = totals["totalamount"]
    return totals
