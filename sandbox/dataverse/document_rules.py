"""What happens around a write of sales and service rows: checks before it, prices with it, totals after it (dataverse.md 9)."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

from sandbox.dataverse import catalog, document_states
from sandbox.dataverse.database import Row
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.documents import BY_LINES, DOCUMENTS, SALES_AND_SERVICE, Document, Writing, business, fetch, found, lines_of
from sandbox.dataverse.organization import BASE_CURRENCY_ID, Organization
from sandbox.dataverse.pricing import COMPUTED_OF_HEADERS, COMPUTED_OF_LINES, NONE, PriceEngine, places_of, round_amount
from sandbox.dataverse.values import from_money

_REPRICING = frozenset({"pricelevelid", "transactioncurrencyid", "ispricelocked"})
_NUMBERS = {"incident": ("ticketnumber", "CAS")} | {
    document.name: (document.number, document.prefix) for document in DOCUMENTS.values() if document.number
}
_LINE_DEFAULTS: Row = {"producttypecode": 1, "propertyconfigurationstatus": 2}
_CURRENCY_FIXED = {"opportunity": "0x80048479", "quote": "0x8004480E"}
_ACTIVE_PRODUCT = 0


def rules_for(table: Table, writing: Writing, *, trusted: bool) -> "DocumentRules | None":
    """Return the rules around a write of a table; None for tables that are none of sales and service."""
    return DocumentRules(writing, writing.organization, trusted) if table.name in SALES_AND_SERVICE else None


@dataclass(frozen=True)
class DocumentRules:
    """The rules for one writer; a `trusted` one writes what actions and the price engine decided, so nothing is refused."""

    writing: Writing
    organization: Organization
    trusted: bool

    def before_insert(self, table: Table, changes: Row) -> None:
        """Check a new row and add numbers, prices and what else follows."""
        self._follow_customer(table, changes, changes)
        if table.name in _NUMBERS:
            self._number(table, changes)
        if table.name in BY_LINES:
            for name, value in _LINE_DEFAULTS.items():
                changes.setdefault(name, value)
        if table.name == "product":
            changes.setdefault("productstructure", 1)
        self._check_required(table, changes)
        self._prepare(table, None, changes)

    def before_change(self, table: Table, before: Row, changes: Row) -> None:
        """Check a change and add what follows from it."""
        for name, value in changes.items():
            column = table.columns.get(name)
            if value is None and column is not None and column.required == "system":
                raise business("0x80040203", f"Attribute: {name} cannot be set to NULL")
        if not self.trusted:
            document_states.check_change(self.organization, table.name, before, changes)
            self._check_currency(table, before, changes)
        self._follow_customer(table, {**before, **changes}, changes)
        self._prepare(table, before, changes)

    def _prepare(self, table: Table, before: Row | None, changes: Row) -> None:
        if table.name in BY_LINES:
            self._price_line(BY_LINES[table.name], before, changes)
        elif table.name in DOCUMENTS:
            self._price_header(DOCUMENTS[table.name], before, changes)
        else:
            catalog.prepare(self.organization, table.name, before, changes)

    def _check_required(self, table: Table, changes: Row) -> None:
        for column in table.columns.values():
            needed = column.required == "system" and column.creatable and column.type != "State"
            if needed and changes.get(column.name) is None and column.name != "revisionnumber":
                raise business("0x80040200", f"Required field missing: '{column.name}' of '{table.name}'.")

    def _follow_customer(self, table: Table, row: Row, changes: Row) -> None:
        if "customerid" in changes and {"accountid", "contactid"} <= set(table.columns):
            kind = row.get("customerid__type") or "account"
            changes |= {name: changes["customerid"] if name == f"{kind}id" else None for name in ("accountid", "contactid")}

    def _number(self, table: Table, changes: Row) -> None:
        """Give a number unless the client chose one; numbers count what was ever made, and end in six signs as the platform's do."""
        column, prefix = _NUMBERS[table.name]
        if changes.get(str(column)) is None:
            database = self.organization.database
            there = database.query(f"SELECT COUNT(*) FROM {table.name}")[0][0]
            gone = database.query("SELECT COUNT(*) FROM _deletion WHERE entity = ?", [table.name])[0][0]
            changes[str(column)] = f"{prefix}-{1000 + there + gone:05}-{uuid4().hex[:6].upper()}"

    def _check_currency(self, table: Table, before: Row, changes: Row) -> None:
        document = DOCUMENTS.get(table.name)
        if document is None or changes.get("transactioncurrencyid", before["transactioncurrencyid"]) == before["transactioncurrencyid"]:
            return
        if lines_of(self.organization, document, before):
            code = _CURRENCY_FIXED.get(table.name, "0x80040203")
            raise business(code, f"The currency of the {table.name} can't be changed because it has lines.")

    def _round(self, table: Table, document_row: Row, changes: Row) -> None:
        places = places_of(self.organization, document_row)
        for name, value in changes.items():
            column = table.columns.get(name)
            if column is not None and column.type == "Money" and column.base_of is None and value is not None:
                changes[name] = round_amount(from_money(int(value)), places)

    def _price_header(self, document: Document, before: Row | None, changes: Row) -> None:
        for name in COMPUTED_OF_HEADERS:
            changes.pop(name, None)
        if before is None and changes.get("transactioncurrencyid") is None:
            changes["transactioncurrencyid"] = BASE_CURRENCY_ID
        row: Row = {**(before or {}), **changes}
        price_list = fetch(self.organization, "pricelevel", row.get("pricelevelid"))
        if price_list is not None and price_list["transactioncurrencyid"] != row["transactioncurrencyid"]:
            raise business("0x80048CEE", f"The currency of the {document.name} does not match the currency of the price list.")
        self._round(self.organization.tables[document.name], row, changes)
        changes |= PriceEngine(self.organization, document).totals({**(before or {}), **changes})

    def _price_line(self, document: Document, before: Row | None, changes: Row) -> None:
        if self.trusted and set(changes) == {document.line_state}:
            return
        for name in COMPUTED_OF_LINES:
            changes.pop(name, None)
        row: Row = {**(before or {}), **changes}
        header = fetch(self.organization, document.name, row.get(document.parent)) or {}
        if not self.trusted:
            document_states.check_lines(self.organization, document.lines, row)
            self._check_product(before, row)
        changes["transactioncurrencyid"] = header.get("transactioncurrencyid")
        self._round(self.organization.tables[document.lines], header, changes)
        changes |= self._named(document, before, row, header)
        changes |= PriceEngine(self.organization, document).price_line(header, {**row, **changes})
        refused = self.organization.switches.current.pricing_errors == "refuse" and not self.trusted
        if refused and changes["pricingerrorcode"] != NONE:
            raise business("0x80040203", f"The line can't be priced: pricing error {changes['pricingerrorcode']}.")

    def _named(self, document: Document, before: Row | None, row: Row, header: Row) -> Row:
        product = fetch(self.organization, "product", row.get("productid"))
        name = product["name"] if product else row.get("productdescription")
        facts: Row = {"productname": name, f"{document.lines}name": name, document.line_state: header.get("statecode")}
        if product is not None:
            facts["productnumber"] = product.get("productnumber")
        if "ispricelocked" in header:
            facts[f"{document.name}ispricelocked"] = header["ispricelocked"]
        if before is None and row.get("lineitemnumber") is None:
            others = lines_of(self.organization, document, header)
            facts["lineitemnumber"] = 1 + max((int(line.get("lineitemnumber") or 0) for line in others), default=0)
        columns = self.organization.tables[document.lines].columns
        return {name: value for name, value in facts.items() if name in columns}

    def _check_product(self, before: Row | None, row: Row) -> None:
        """Refuse a line that is both write-in and product, a product that can't be sold, a unit that is not the product's."""
        written = row.get("isproductoverridden") or row.get("productdescription")
        if written and row.get("productid") is not None:
            raise business("0x80043AFB", "You cannot set both 'productid' and 'productdescription' for the same record.")
        if written and row.get("uomid") is not None:
            raise business("0x80043AFA", "You cannot set both 'uomid' and 'productdescription' for the same record.")
        product = fetch(self.organization, "product", row.get("productid"))
        if product is None:
            return
        if product["statecode"] != _ACTIVE_PRODUCT and (before is None or before.get("productid") != row["productid"]):
            raise business("0x8004F908", "You can only add Active products.")
        unit = fetch(self.organization, "uom", row.get("uomid"))
        if unit is not None:
            catalog.check_unit(product, unit)
        quantity, decimals = row.get("quantity"), product.get("quantitydecimal")
        if quantity is not None and decimals is not None and self.organization.switches.current.quantity_decimals == "refuse":
            exact = Decimal(str(quantity)).normalize().as_tuple().exponent
            if isinstance(exact, int) and -exact > int(decimals):
                raise business("0x80043B07", f"The quantity has more than {decimals} decimals.")

    def after_insert(self, table: Table, row: Row) -> None:
        """Do what follows from a new row."""
        catalog.after_insert(self.writing, table.name, row)
        if table.name in BY_LINES:
            self._total(BY_LINES[table.name], row)

    def after_change(self, table: Table, before: Row, row: Row) -> None:
        """Do what follows from a change: lines are priced again and told of the header's state, headers are totaled."""
        changed = {name for name in row if row[name] != before.get(name)}
        if table.name in DOCUMENTS:
            document = DOCUMENTS[table.name]
            if _REPRICING & changed:
                self._touch_lines(document, row, {})
            if "statecode" in changed:
                self._touch_lines(document, row, {document.line_state: row["statecode"]})
        elif table.name in BY_LINES:
            document = BY_LINES[table.name]
            self._total(document, row)
            if document.parent in changed:
                self._total(document, before)

    def _touch_lines(self, document: Document, header: Row, changes: Row) -> None:
        """Price the lines of a header again, or only tell them its state: a closed document keeps its prices."""
        table = self.organization.tables[document.lines]
        for line in lines_of(self.organization, document, header):
            self.writing.change(table, line, dict(changes))

    def _total(self, document: Document, line: Row) -> None:
        """Total the header of a line; it is written only when a total is another one."""
        header = fetch(self.organization, document.name, line.get(document.parent))
        if header is None:
            return
        totals = PriceEngine(self.organization, document).totals(header)
        if any(header.get(name) != value for name, value in totals.items()):
            self.writing.change(self.organization.tables[document.name], header, {})

    def before_delete(self, table: Table, row: Row) -> None:
        """Refuse a delete that the reference restricts, and delete what goes with the row."""
        if not self.trusted:
            if table.name in BY_LINES:
                document_states.check_lines(self.organization, table.name, row)
            catalog.check_delete(self.organization, table.name, row)
        if table.name == "opportunity" and any(
            any(found(self.organization, name, opportunityid=row["opportunityid"])) for name in ("salesorder", "invoice")
        ):
            raise catalog.in_use()
        for child, column in self._going_along(table):
            for other in list(found(self.organization, child, **{column: row[table.primary_id]})):
                other_table = self.organization.tables[child]
                self.writing.delete(other_table, str(other[other_table.primary_id]))

    def _going_along(self, table: Table) -> list[tuple[str, str]]:
        if table.name in DOCUMENTS:
            document = DOCUMENTS[table.name]
            quotes = [("quote", "opportunityid")] if table.name == "opportunity" else []
            return [*quotes, (document.lines, document.parent)]
        return {
            "product": [("productpricelevel", "productid")],
            "pricelevel": [("productpricelevel", "pricelevelid")],
            "uomschedule": [("uom", "uomscheduleid")],
        }.get(table.name, [])

    def after_delete(self, table: Table, row: Row) -> None:
        """Total the header of a line that is gone."""
        if table.name in BY_LINES:
            self._total(BY_LINES[table.name], row)
