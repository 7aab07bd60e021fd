"""Which tables are sales documents, what belongs to them, and small ways to read and write their rows (dataverse.md 9)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from sandbox.dataverse.database import Row, quoted
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization


class Writing(Protocol):
    """What the rules of documents need of a writer: one that saves what follows from a change, without asking the rules again."""

    @property
    def organization(self) -> Organization:
        """Return the organisation."""

    def insert(self, table: Table, changes: Row) -> str:
        """Insert a row from stored values."""

    def change(self, table: Table, before: Row, changes: Row) -> None:
        """Save changes in stored form."""

    def delete(self, table: Table, row_id: str) -> None:
        """Delete a row."""


@dataclass(frozen=True)
class Document:
    """A header table: its table of lines, its column for the number, and the states in which it can be edited."""

    name: str
    lines: str
    number: str | None
    prefix: str
    editable: frozenset[int]

    @property
    def parent(self) -> str:
        """Name the column of a line, and the primary key of the header, that joins the two."""
        return f"{self.name}id"

    @property
    def line_state(self) -> str:
        """Name the column of a line that tells the header's state."""
        return f"{self.name}statecode"


OPPORTUNITY = Document("opportunity", "opportunityproduct", None, "", frozenset({0}))
QUOTE = Document("quote", "quotedetail", "quotenumber", "QUO", frozenset({0}))
ORDER = Document("salesorder", "salesorderdetail", "ordernumber", "ORD", frozenset({0}))
INVOICE = Document("invoice", "invoicedetail", "invoicenumber", "INV", frozenset({0}))
DOCUMENTS: Mapping[str, Document] = {document.name: document for document in (OPPORTUNITY, QUOTE, ORDER, INVOICE)}
BY_LINES: Mapping[str, Document] = {document.lines: document for document in DOCUMENTS.values()}
SALES_AND_SERVICE = frozenset(
    {"lead", "incident", "product", "uomschedule", "uom", "pricelevel", "productpricelevel", "transactioncurrency", *DOCUMENTS, *BY_LINES}
)
"""Tables that the rules of sales and service know; other tables are left to the platform's."""


def fetch(organization: Organization, name: str, row_id: object) -> Row | None:
    """Return a row of a table by name; None for an empty lookup too."""
    return None if row_id is None else organization.database.get(organization.tables[name], str(row_id))


def found(organization: Organization, name: str, **values: object) -> Iterator[Row]:
    """Yield the rows of a table whose columns have certain stored values."""
    tests = " AND ".join(f"{quoted(column)} = ?" for column in values)
    sql = f"SELECT * FROM {quoted(name)} WHERE {tests}"
    yield from map(dict, organization.database.query(sql, [str(value) for value in values.values()]))


def lines_of(organization: Organization, document: Document, row: Row) -> list[Row]:
    """Return the lines of a header in their order."""
    rows = found(organization, document.lines, **{document.parent: row[document.parent]})
    return sorted(rows, key=lambda line: (int(line.get("lineitemnumber") or 0), str(line["createdon"])))


def amount(row: Mapping[str, object], name: str) -> int:
    """Return a stored amount in ten-thousandths, 0 where there is none."""
    return int(str(row.get(name) or 0))


def business(code: str, message: str) -> Fault:
    """Build the 400 of a rule of sales or service."""
    return Fault(400, code, message)
