"""The rules of the catalog: products, units, price lists, currencies (dataverse.md 9)."""

from collections.abc import Callable, Mapping
from decimal import Decimal

from sandbox.dataverse import faults
from sandbox.dataverse.database import Row, quoted
from sandbox.dataverse.documents import BY_LINES, Writing, business, fetch, found
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import BASE_CURRENCY_ID, Organization

_RETIRED, _DRAFT, _UNDER_REVISION = 1, 2, 3
_DRAFT_STATUS = 0
_PRODUCT, _FAMILY = 1, 2
_MEANINGLESS = frozenset({"statecode", "statuscode", "pricelevelid"})


def prepare(organization: Organization, table: str, before: Row | None, changes: Row) -> None:
    """Check a change of the catalog and add what follows from it; `before` is None on create."""
    rule = _RULES.get(table)
    if rule is not None:
        rule(organization, before, changes)


def _product(organization: Organization, before: Row | None, changes: Row) -> None:
    if before is None:
        changes.setdefault("productstructure", _PRODUCT)
        if organization.switches.current.products_created == "draft":
            changes |= {"statecode": _DRAFT, "statuscode": changes.get("statuscode", _DRAFT_STATUS)}
    row: Row = {**(before or {}), **changes}
    if before is not None:
        _check_product_state(organization, before, changes)
    if row["productstructure"] != _FAMILY and {"defaultuomid", "defaultuomscheduleid", "productstructure"} & set(changes):
        _check_units(organization, row)
    number = row.get("productnumber")
    if "productnumber" in changes and any(other["productid"] != row["productid"] for other in _numbered(organization, number)):
        raise Fault(412, "0x80040237", "Cannot insert duplicate key. A product with this product number exists.")


def _numbered(organization: Organization, number: object) -> list[Row]:
    return organization.database.find_by_values(organization.tables["product"], {"productnumber": number})


def _check_units(organization: Organization, row: Row) -> None:
    if row.get("defaultuomscheduleid") is None:
        raise business("0x80043B0A", "The unit schedule id is missing.")
    if row.get("defaultuomid") is None:
        raise business("0x80043B13", "The default unit is missing.")
    unit = fetch(organization, "uom", row["defaultuomid"])
    if unit is None or unit["uomscheduleid"] != row["defaultuomscheduleid"]:
        raise business("0x80043B14", "The default unit is not a member of the specified unit group.")


def _check_product_state(organization: Organization, before: Row, changes: Row) -> None:
    old, new = before["statecode"], changes.get("statecode", before["statecode"])
    if old != new:
        if new == _DRAFT:
            raise business("0x8004F912", "You can't set a product that was published back to the draft state.")
        if old == _DRAFT and new == _RETIRED:
            raise business("0x8004F978", "You can't retire a product that is in the draft state.")
        if new == _RETIRED and any(found(organization, "productpricelevel", productid=before["productid"])):
            raise business("0x8004F915", "You can't retire this product because it belongs to a price list.")
        return
    edited = {name for name in changes if changes[name] != before.get(name)} - _MEANINGLESS
    if before.get("productstructure") != _PRODUCT and old not in {_DRAFT, _UNDER_REVISION} and edited:
        family = before.get("productstructure") == _FAMILY
        raise business("0x8004F975" if family else "0x8004F995", "You can only edit a product family or bundle in the draft state.")


def _unit(organization: Organization, before: Row | None, changes: Row) -> None:
    row: Row = {**(before or {}), **changes}
    if row.get("isschedulebaseuom"):
        if row.get("baseuom") is not None:
            raise business("0x80043B17", "The base unit of a unit group can't have a base unit.")
        return
    if before is not None and "baseuom" not in changes:
        return
    base = fetch(organization, "uom", row.get("baseuom"))
    if base is None:
        bases = found(organization, "uom", uomscheduleid=row.get("uomscheduleid"), isschedulebaseuom=1)
        changes["baseuom"] = next((unit["uomid"] for unit in bases), None)
    elif base["uomscheduleid"] != row["uomscheduleid"]:
        raise faults.invalid_argument("The base unit is not a member of the unit's unit group.")


def _price_list(organization: Organization, before: Row | None, changes: Row) -> None:
    if before is None:
        changes.setdefault("transactioncurrencyid", BASE_CURRENCY_ID)
    name, own = changes.get("name"), (before or changes)["pricelevelid"]
    named = organization.database.find_by_values(organization.tables["pricelevel"], {"name": name}) if name else []
    if any(other["pricelevelid"] != own for other in named):
        raise business("0x80043B0F", "A price list with this name already exists.")


def _price_list_item(organization: Organization, before: Row | None, changes: Row) -> None:
    row: Row = {**(before or {}), **changes}
    product = fetch(organization, "product", row["productid"]) or {}
    if product.get("productstructure") == _FAMILY:
        raise business("0x8004F902", "You can't add a product family to a price list.")
    unit = fetch(organization, "uom", row.get("uomid"))
    if unit is None:
        raise business("0x80040200", "Required field missing: a price list item needs a unit (uomid).")
    check_unit(product, unit)
    keys = {name: row[name] for name in ("pricelevelid", "productid", "uomid")}
    if any(other["productpricelevelid"] != row["productpricelevelid"] for other in found(organization, "productpricelevel", **keys)):
        raise business("0x80043B08", "This product and unit combination has a price for this price list.")
    for name in ("pricingmethodcode", "quantitysellingcode", "roundingpolicycode"):
        if before is None and changes.get(name) is None:
            changes[name] = 1
    price_list = fetch(organization, "pricelevel", row["pricelevelid"]) or {}
    changes |= {
        "transactioncurrencyid": price_list.get("transactioncurrencyid"),
        "productidname": product.get("name"),
        "productnumber": product.get("productnumber"),
        "uomscheduleid": unit["uomscheduleid"],
    }


def check_unit(product: Row, unit: Row) -> None:
    """Raise the fault of a unit that is not in the product's unit group [memory: the code is that of the product's default unit]."""
    if unit["uomscheduleid"] != product.get("defaultuomscheduleid"):
        raise business("0x80043B14", "The unit is not a member of the unit group of the product.")


def _currency(organization: Organization, before: Row | None, changes: Row) -> None:
    base = before is not None and before["transactioncurrencyid"] == BASE_CURRENCY_ID
    if base and "exchangerate" in changes and Decimal(str(changes["exchangerate"])) != 1:
        raise business("0x80048CF5", "The exchange rate of the base currency can't be modified.")
    code = changes.get("isocurrencycode")
    if before is None and any(found(organization, "transactioncurrency", isocurrencycode=code)):
        raise Fault(412, "0x80040237", f"Cannot insert duplicate key. The currency '{code}' exists.")


def after_insert(writing: Writing, table: str, row: Row) -> None:
    """Do what follows from a new row of the catalog: a unit group gets its base unit."""
    if table == "uomschedule":
        base: Row = {"name": row.get("baseuomname") or "Primary Unit", "quantity": "1.00000"}
        unit: Row = {**base, "uomscheduleid": row["uomscheduleid"], "isschedulebaseuom": 1}
        writing.insert(writing.organization.tables["uom"], unit)


def check_delete(organization: Organization, table: str, row: Row) -> None:
    """Raise where a row of the catalog can't be deleted: a base unit, and what lines, products or documents use."""
    if table == "uom" and row.get("isschedulebaseuom"):
        raise business("0x80043B03", "The base unit of a schedule cannot be deleted.")
    users = [(lines, f"{table}id") for lines in BY_LINES] if table in {"product", "uom"} else []
    users += {
        "uom": [("product", "defaultuomid"), ("productpricelevel", "uomid")],
        "uomschedule": [("product", "defaultuomscheduleid")],
        "pricelevel": [(name, "pricelevelid") for name in ("opportunity", "quote", "salesorder", "invoice")],
    }.get(table, [])
    if any(_used(organization, name, column, row[f"{table}id"]) for name, column in users):
        raise in_use()


def _used(organization: Organization, table: str, column: str, row_id: object) -> bool:
    sql = f"SELECT 1 FROM {quoted(table)} WHERE {quoted(column)} = ? LIMIT 1"
    return bool(organization.database.query(sql, [str(row_id)]))


def in_use() -> Fault:
    """Build the 405 for a row that others need (dataverse.md 5)."""
    return Fault(405, "0x80040227", "The object you tried to delete is associated with another object and cannot be deleted.")


_RULES: Mapping[str, Callable[[Organization, Row | None, Row], None]] = {
    "product": _product,
    "uom": _unit,
    "pricelevel": _price_list,
    "productpricelevel": _price_list_item,
    "transactioncurrency": _currency,
}
