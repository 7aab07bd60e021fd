"""The price engine: the price of a line, its amounts, and the totals of a header (dataverse.md 9, checklist item 17).

Amounts are computed exactly and rounded half up to the precision of the document's currency. What a line lacks is told by its
pricing error, not refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from sandbox.dataverse.database import Row
from sandbox.dataverse.documents import Document, amount, fetch, found, lines_of
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.values import from_money

NONE, DETAIL, NO_LIST, INACTIVE_LIST, NO_QUANTITY, NO_PRICE, NO_PRODUCT = 0, 1, 2, 3, 4, 5, 6
NO_UNIT, NOT_IN_LIST, NO_AMOUNT, NO_PERCENTAGE, NO_LIST_PRICE, NO_CURRENT_COST, NO_STANDARD_COST, WRONG_QUANTITY = (
    10,
    11,
    12,
    13,
    14,
    15,
    16,
    29,
)
COMPUTED_OF_LINES = ("baseamount", "extendedamount", "volumediscountamount", "pricingerrorcode")
COMPUTED_OF_HEADERS = (
    "totallineitemamount",
    "totallineitemdiscountamount",
    "totaldiscountamount",
    "totalamountlessfreight",
    "totaltax",
    "totalamount",
    "pricingerrorcode",
)
_SOURCES = {
    2: ("price", NO_LIST_PRICE),
    3: ("currentcost", NO_CURRENT_COST),
    4: ("currentcost", NO_CURRENT_COST),
    5: ("standardcost", NO_STANDARD_COST),
    6: ("standardcost", NO_STANDARD_COST),
}
"""What each pricing method by percentage starts from, and the error when the product has none."""
_ROUNDINGS = {2: ROUND_CEILING, 3: ROUND_FLOOR, 4: ROUND_HALF_UP}


class PricingError(Exception):
    """Carries the pricing error code of a line whose price can't be found."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def round_amount(value: Decimal, places: int) -> int:
    """Round an amount half up to some places and return it in stored ten-thousandths."""
    return int(value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP).scaleb(4))


def places_of(organization: Organization, row: Row) -> int:
    """Return the precision of a document's currency."""
    currency = organization.currency(str(row.get("transactioncurrencyid")))
    precision = None if currency is None else currency["currencyprecision"]
    return 2 if precision is None else int(precision)


@dataclass(frozen=True)
class PriceEngine:
    """Prices the lines and totals of one document."""

    organization: Organization
    document: Document

    def price_line(self, header: Row, line: Row) -> Row:
        """Return what follows for a line (merged with its change): price, amounts, error code."""
        places = places_of(self.organization, header)
        try:
            price = self._unit_price(header, line)
        except PricingError as error:
            kept = {"priceperunit": line.get("priceperunit")} if line.get("ispriceoverridden") else {"priceperunit": None}
            return {**kept, "baseamount": 0, "extendedamount": 0, "volumediscountamount": None, "pricingerrorcode": error.code}
        base = round_amount(price * Decimal(str(line["quantity"])), places)
        extended = base - amount(line, "manualdiscountamount") + amount(line, "tax")
        return {
            "priceperunit": int(price.scaleb(4)),
            "baseamount": base,
            "extendedamount": extended,
            "volumediscountamount": None,
            "pricingerrorcode": NONE,
        }

    def _unit_price(self, header: Row, line: Row) -> Decimal:
        if line.get("quantity") is None:
            raise PricingError(NO_QUANTITY)
        given = line.get("priceperunit")
        if line.get("isproductoverridden"):
            if given is None:
                raise PricingError(NO_PRICE)
            return from_money(int(given))
        product = fetch(self.organization, "product", line.get("productid"))
        if product is None:
            raise PricingError(NO_PRODUCT)
        if line.get("uomid") is None:
            raise PricingError(NO_UNIT)
        locked = header.get("ispricelocked") and given is not None
        if line.get("ispriceoverridden") or locked:
            if given is None:
                raise PricingError(NO_PRICE)
            return from_money(int(given))
        return self._listed(header, line, product)

    def _listed(self, header: Row, line: Row, product: Row) -> Decimal:
        listed = fetch(self.organization, "pricelevel", header.get("pricelevelid"))
        if listed is None:
            raise PricingError(NO_LIST)
        if listed["statecode"] != 0:
            raise PricingError(INACTIVE_LIST)
        keys = {"pricelevelid": listed["pricelevelid"], "productid": product["productid"], "uomid": line["uomid"]}
        item = next(found(self.organization, "productpricelevel", **keys), None)
        if item is None:
            raise PricingError(NOT_IN_LIST)
        quantity = Decimal(str(line["quantity"]))
        if item.get("quantitysellingcode") == 2 and quantity != quantity.to_integral_value():
            raise PricingError(WRONG_QUANTITY)
        exact = item_price(item, product)
        return from_money(round_amount(exact, places_of(self.organization, header)))

    def totals(self, header: Row) -> Row:
        """Return the totals of a header (merged with its change) over its stored lines; `totalamount` includes freight and tax."""
        lines = lines_of(self.organization, self.document, header)
        clean = [line for line in lines if not line.get("pricingerrorcode")]
        tax = sum(amount(line, "tax") for line in clean)
        details = sum(amount(line, "extendedamount") for line in clean) - tax
        percentage = Decimal(str(header.get("discountpercentage") or 0))
        part = round_amount(from_money(details) * percentage / 100, places_of(self.organization, header))
        discount = part + amount(header, "discountamount")
        total = details - discount + amount(header, "freightamount") + tax
        totals: Row = {
            "totallineitemamount": details,
            "totallineitemdiscountamount": sum(amount(line, "manualdiscountamount") for line in clean),
            "totaldiscountamount": discount,
            "totalamountlessfreight": details - discount,
            "totaltax": tax,
            "totalamount": total,
            "pricingerrorcode": header_error(lines),
        }
        if header.get("isrevenuesystemcalculated"):
            totals["estimatedvalue"] = total
        columns = self.organization.tables[self.document.name].columns
        return {name: value for name, value in totals.items() if name in columns}


def header_error(lines: Sequence[Row]) -> int:
    """Tell on the header that one of its lines has a pricing error."""
    return DETAIL if any(line.get("pricingerrorcode") for line in lines) else NONE


def item_price(item: Row, product: Row) -> Decimal:
    """Return the price that a price list item gives a product, rounded as the item says; raise what it lacks."""
    method = int(item.get("pricingmethodcode") or 1)
    if method == 1:
        if item.get("amount") is None:
            raise PricingError(NO_AMOUNT)
        return from_money(amount(item, "amount"))
    source, error = _SOURCES[method]
    if item.get("percentage") is None:
        raise PricingError(NO_PERCENTAGE)
    if product.get(source) is None:
        raise PricingError(error)
    start, share = from_money(amount(product, source)), Decimal(str(item["percentage"])) / 100
    if method in {4, 6}:
        if share >= 1:
            raise PricingError(19)
        return rounded(item, start / (1 - share))
    return rounded(item, start * share if method == 2 else start * (1 + share))


def rounded(item: Row, price: Decimal) -> Decimal:
    """Round a computed price by an item's policy: to a multiple of an amount, or so that it ends in one [memory]."""
    direction = _ROUNDINGS.get(int(item.get("roundingpolicycode") or 1))
    step = from_money(amount(item, "roundingoptionamount"))
    if direction is None or step <= 0:
        return price
    if item.get("roundingoptioncode") == 2:
        return (price / step).to_integral_value(direction) * step
    whole = Decimal(1)
    while whole <= step:
        whole *= 10
    return ((price - step) / whole).to_integral_value(direction) * whole + step
