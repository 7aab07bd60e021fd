"""What the server sums up when the line of an order, invoice or opportunity is saved or deleted (creatio.md 5.1).

An order is saved with its new sums, so that its ModifiedOn moves; an invoice's sums are plain SQL, and nothing moves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from sandbox.creatio.database import Database, StoredRow
from sandbox.creatio.schema import Entity
from sandbox.creatio.values import Stored

if TYPE_CHECKING:
    from sandbox.creatio.saving import Actor

_Update: TypeAlias = Callable[[str, str, Mapping[str, Stored], "Actor"], None]
_PAID, _PARTLY = "4721338e-a5f1-4529-96be-d3f311518812", "a2f17c7b-956b-47c8-9ea5-b545b74a26f6"


@dataclass(frozen=True)
class _Sum:
    """Lines of one kind, their lookup to the header, and which of the header's columns is the sum of which of theirs."""

    lines: str
    header: str
    parent: str
    sums: Mapping[str, str]
    stamped: bool


_TOTALS: Final = {"Amount": "TotalAmount", "PrimaryAmount": "PrimaryTotalAmount"}
_SUMS: Final = (
    _Sum("OrderProduct", "Order", "OrderId", _TOTALS, stamped=True),
    _Sum("InvoiceProduct", "Invoice", "InvoiceId", _TOTALS, stamped=False),
    _Sum("OpportunityProductInterest", "Opportunity", "OpportunityId", {"Amount": "Amount"}, stamped=True),
)


class DocumentEffects:
    """Carry out the consequences of saves and deletes of documents and their lines."""

    def __init__(self, database: Database, update: _Update) -> None:
        self._database = database
        self._update = update

    def after_save(self, entity: Entity, row: StoredRow, changed: set[str], actor: "Actor", *, created: bool) -> None:
        """Follow a save: a line gets its order's currency and its header new sums; what was paid of an order tells its status."""
        if entity.name == "OrderProduct" and not row["CurrencyId"]:
            self._database.update("OrderProduct", row["Id"], {"CurrencyId": self._currency(row)})
        self._sum_up(entity, row, actor)
        if entity.name == "Order" and not created and {"Amount", "PaymentAmount"} & changed:
            self._payment_status(row)

    def after_delete(self, entity: Entity, row: StoredRow, actor: "Actor") -> None:
        """Follow a delete: the header of a line is summed up again."""
        self._sum_up(entity, row, actor)

    def _currency(self, line: StoredRow) -> Stored:
        order = self._database.get("Order", str(line["OrderId"])) if line["OrderId"] else None
        return order["CurrencyId"] if order else None

    def _sum_up(self, entity: Entity, line: StoredRow, actor: "Actor") -> None:
        for one in _SUMS:
            header_id = line.get(one.parent) if entity.name == one.lines else None
            header = self._database.get(one.header, str(header_id)) if header_id else None
            if header is None:
                continue
            sums: dict[str, Stored] = {name: self._sum(one, column, str(header_id)) for name, column in one.sums.items()}
            if all((header[name] or 0) == value for name, value in sums.items()):
                continue
            if one.stamped:
                self._update(one.header, header["Id"], sums, actor)
            else:
                self._database.update(one.header, header["Id"], sums)
            if one.header == "Order":
                self._payment_status({**header, **sums})

    def _sum(self, one: _Sum, column: str, header_id: str) -> int:
        return int(self._database.scalar(f'SELECT COALESCE(SUM("{column}"), 0) FROM "{one.lines}" WHERE "{one.parent}" = ?', (header_id,)))

    def _payment_status(self, order: StoredRow) -> None:
        paid = order["PaymentAmount"] or 0
        if paid:
            self._database.update("Order", order["Id"], {"PaymentStatusId": _PAID if paid == order["Amount"] else _PARTLY})
