"""What was paid: an installment, its invoice and the order of both follow each other (creatio.md 5.1).

`SupplyPaymentElement` is the installment when its type is Payment; a step of delivery pays nothing. What follows is saved and stamped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from sandbox.control import Switches
from sandbox.creatio.database import Database, StoredRow
from sandbox.creatio.schema import Entity
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import Stored

if TYPE_CHECKING:
    from sandbox.creatio.saving import Actor

Update: TypeAlias = Callable[[str, str, Mapping[str, Stored], "Actor"], None]

_PAID, _PARTLY = "4721338e-a5f1-4529-96be-d3f311518812", "a2f17c7b-956b-47c8-9ea5-b545b74a26f6"
_PAYMENT: Final = "d868f4b7-4946-4bb1-94bb-6fb93a513ce4"
_STEP: Final = "SupplyPaymentElement"
_OF_STEP: Final = ("AmountFact", "PrimaryAmountFact")
_OF_DOCUMENT: Final = ("PaymentAmount", "PrimaryPaymentAmount")
_SOURCES: Final = {"installments": (_STEP, _OF_STEP), "invoices": ("Invoice", _OF_DOCUMENT)}


@dataclass(frozen=True)
class PaymentEffects:
    """Carry out the consequences of payments."""

    database: Database
    update: Update
    switches: Switches[CreatioSettings]

    def after_save(self, entity: Entity, row: StoredRow, before: StoredRow | None, changed: set[str], actor: "Actor") -> None:
        """Follow a save of an installment or an invoice; `before` is None when it was created."""
        if entity.name == _STEP and row["TypeId"] == _PAYMENT:
            self._installment_saved(row, changed, actor)
        elif entity.name == "Invoice" and changed & set(_OF_DOCUMENT):
            self._invoice_paid(row, actor)
        self._orders(entity.name, before, self.database.get(entity.name, row["Id"]), actor)

    def before_delete(self, entity: Entity, row: StoredRow, actor: "Actor") -> None:
        """Detach the installments of an invoice that goes: not paid, not finished."""
        if entity.name != "Invoice":
            return
        emptied: dict[str, Stored] = dict.fromkeys(("InvoiceId", *_OF_STEP, "DateFact"))
        emptied["StateId"] = self.database.named("SupplyPaymentState", "Not finished")
        for step in self.database.query(f'SELECT * FROM "{_STEP}" WHERE "InvoiceId" = ?', (row["Id"],)):
            self._save(_STEP, step, emptied, actor)
            self._orders(_STEP, step, self.database.get(_STEP, step["Id"]), actor)

    def after_delete(self, entity: Entity, row: StoredRow, actor: "Actor") -> None:
        """Sum an order's payments up again without what is gone."""
        self._orders(entity.name, row, None, actor)

    def status(self, order_id: str) -> None:
        """Set the payment status of an order by what was paid of it."""
        order = self.database.get("Order", order_id)
        paid = (order["PaymentAmount"] or 0) if order else 0
        if order is not None and paid > 0:
            self.database.update("Order", order_id, {"PaymentStatusId": _PAID if paid == order["Amount"] else _PARTLY})

    def _installment_saved(self, step: StoredRow, changed: set[str], actor: "Actor") -> None:
        """Tell an invoice what its installments were paid; one that is attached to a paid invoice takes the amount from there."""
        invoice = self.database.get("Invoice", step["InvoiceId"]) if step["InvoiceId"] else None
        if invoice is None or not changed & {"InvoiceId", *_OF_STEP}:
            return
        if not changed & set(_OF_STEP) and invoice["PaymentAmount"] and len(self._steps(invoice)) == 1:
            self._hand_on(invoice, step, actor)
        else:
            self._save("Invoice", invoice, self._sums(_STEP, _OF_STEP, "InvoiceId", invoice["Id"]), actor)
            self._orders("Invoice", invoice, self.database.get("Invoice", invoice["Id"]), actor)

    def _invoice_paid(self, invoice: StoredRow, actor: "Actor") -> None:
        """Tell an invoice's installment what was paid; among several nobody could say how much is whose."""
        steps = self._steps(invoice)
        if len(steps) == 1:
            self._hand_on(invoice, steps[0], actor)
            self._orders(_STEP, steps[0], self.database.get(_STEP, steps[0]["Id"]), actor)

    def _hand_on(self, invoice: StoredRow, step: StoredRow, actor: "Actor") -> None:
        self._save(_STEP, step, {name: invoice[paid] for name, paid in zip(_OF_STEP, _OF_DOCUMENT, strict=True)}, actor)

    def _steps(self, invoice: StoredRow) -> list[StoredRow]:
        return self.database.query(f'SELECT * FROM "{_STEP}" WHERE "InvoiceId" = ? AND "TypeId" = ?', (invoice["Id"], _PAYMENT))

    def _orders(self, entity: str, before: StoredRow | None, after: StoredRow | None, actor: "Actor") -> None:
        """Sum up the orders to which a row gave another amount before than it does now."""
        source, columns = _SOURCES[self.switches.current.order_payments]
        if entity != source:
            return
        shares = [_share(row, columns) for row in (before, after)]
        for order_id in {share[0] for share in shares if share} if shares[0] != shares[1] else ():
            order = self.database.get("Order", order_id)
            if order is not None and self._save("Order", order, self._sums(source, columns, "OrderId", order_id), actor):
                self.status(order_id)

    def _sums(self, entity: str, columns: tuple[str, str], parent: str, parent_id: str) -> dict[str, Stored]:
        only = f" AND \"TypeId\" = '{_PAYMENT}'" if entity == _STEP else ""
        sums = ", ".join(f'COALESCE(SUM("{name}"), 0) AS "{name}"' for name in columns)
        (found,) = self.database.query(f'SELECT {sums} FROM "{entity}" WHERE "{parent}" = ?{only}', (parent_id,))
        return dict(zip(_OF_DOCUMENT, found.values(), strict=True))

    def _save(self, entity: str, row: StoredRow, values: Mapping[str, Stored], actor: "Actor") -> bool:
        """Save what differs, and tell whether anything did."""
        differs = any((row[name] or 0) != (value or 0) for name, value in values.items())
        if differs:
            self.update(entity, row["Id"], values, actor)
        return differs


def _share(row: StoredRow | None, columns: tuple[str, str]) -> tuple[str, int, int] | None:
    """Return what a row adds to which order; None when it adds nothing."""
    if row is None or not row["OrderId"] or row.get("TypeId", _PAYMENT) != _PAYMENT:
        return None
    first, second = (int(row[name] or 0) for name in columns)
    return (str(row["OrderId"]), first, second) if first or second else None
