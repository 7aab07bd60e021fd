"""What the server does when an order, invoice or opportunity, or a line of one, is saved or deleted (creatio.md 5.1).

An order is saved with the new sums of its lines, so that its ModifiedOn moves; an invoice's sums are plain SQL, and so is what a
change of currency or rate makes of the lines. The line's own arithmetic is the client's, unless the switch `line_amounts` says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sandbox.control import Clock, Switches
from sandbox.creatio.database import Database, StoredRow
from sandbox.creatio.effects_payments import PaymentEffects, Update
from sandbox.creatio.rates import Rate, current_rate, rate_of, rounded
from sandbox.creatio.schema import Entity
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import Stored, stamp

if TYPE_CHECKING:
    from sandbox.creatio.saving import Actor


@dataclass(frozen=True)
class _Lines:
    """Lines of one kind, their lookup to the header, and which of the header's columns is the sum of which of theirs."""

    entity: str
    header: str
    parent: str
    sums: Mapping[str, str]
    stamped: bool


_TOTALS: Final = {"Amount": "TotalAmount", "PrimaryAmount": "PrimaryTotalAmount"}
_LINES: Final = (
    _Lines("OrderProduct", "Order", "OrderId", _TOTALS, stamped=True),
    _Lines("InvoiceProduct", "Invoice", "InvoiceId", _TOTALS, stamped=False),
    _Lines("OpportunityProductInterest", "Opportunity", "OpportunityId", {"Amount": "Amount"}, stamped=True),
)
_CURRENCY: Final = ("CurrencyId", "CurrencyRate")
_AMOUNTS: Final = ("Price", "Amount", "DiscountAmount", "TaxAmount", "TotalAmount")
_THOUSANDTHS, _HUNDREDTHS_OF_PERCENT = 1_000, 10_000


class DocumentEffects:
    """Carry out the consequences of saves and deletes of documents and their lines."""

    def __init__(self, database: Database, update: Update, switches: Switches[CreatioSettings], clock: Clock) -> None:
        self._database = database
        self._update = update
        self._switches = switches
        self._clock = clock
        self._payments = PaymentEffects(database, update, switches)

    def worth(self, entity: Entity, row: Mapping[str, Stored]) -> dict[str, Stored]:
        """Return what a save of an order or invoice works out before it: the amount in the primary currency, an invoice's rate of today."""
        rate = rate_of(self._database, row) if entity.name == "Order" else None
        if rate is not None:
            return {"PrimaryAmount": rate.primary(_number(row["Amount"]))}
        if entity.name != "Invoice" or row["PrimaryAmount"]:
            return {}
        today = f"{stamp(self._clock.now())[:10]}T00:00:00.0000000Z"
        current = current_rate(self._database, row["CurrencyId"], today)
        return {"CurrencyRate": current.rate, "PrimaryAmount": current.primary(_number(row["Amount"]))}

    def after_save(self, entity: Entity, row: StoredRow, before: StoredRow | None, changed: set[str], actor: "Actor") -> None:
        """Follow a save; `before` is None when the row was created, `changed` names what a client set or what differs."""
        for lines in _LINES:
            if entity.name == lines.entity:
                self._line_saved(lines, row, before, actor)
            elif entity.name == lines.header and before is not None and any(before[n] != row[n] for n in _CURRENCY if n in row):
                self._convert(lines, row)
        if entity.name == "Order" and before is not None and changed & {"Amount", "PaymentAmount"}:
            self._payments.status(row["Id"])
        self._payments.after_save(entity, row, before, changed, actor)

    def before_delete(self, entity: Entity, row: StoredRow, actor: "Actor") -> None:
        """Precede a delete: what is paid by installments lets go of them."""
        self._payments.before_delete(entity, row, actor)

    def after_delete(self, entity: Entity, row: StoredRow, actor: "Actor") -> None:
        """Follow a delete: the header of a line is summed up again."""
        for lines in _LINES:
            if entity.name == lines.entity:
                self._sum_up(lines, row[lines.parent], actor)
        self._payments.after_delete(entity, row, actor)

    def _line_saved(self, lines: _Lines, line: StoredRow, before: StoredRow | None, actor: "Actor") -> None:
        """Complete a line from its header, and sum up that header and the one that it was moved away from."""
        header = self._database.get(lines.header, str(line[lines.parent]))
        if header is not None and "CurrencyRate" in header:
            self._complete(line, header)
        for parent in dict.fromkeys((before[lines.parent] if before else None, line[lines.parent])):
            self._sum_up(lines, parent, actor)

    def _complete(self, line: StoredRow, header: StoredRow) -> None:
        whole = dict(line)
        if "CurrencyId" in line and not line["CurrencyId"]:
            whole |= {name: header[name] for name in _CURRENCY}
        rate, who = rate_of(self._database, header), self._switches.current.line_amounts
        if who == "server":
            whole |= _worked_out(line)
        if who != "client" and rate is not None:
            whole |= _in_primary(whole, rate)
        entity = "OrderProduct" if "OrderId" in line else "InvoiceProduct"
        self._database.update(entity, line["Id"], {name: value for name, value in whole.items() if value != line[name]})

    def _sum_up(self, lines: _Lines, header_id: Stored, actor: "Actor") -> None:
        header = self._database.get(lines.header, str(header_id)) if header_id else None
        sums = self._sums(lines, header["Id"]) if header else {}
        same = header is not None and all((header[name] or 0) == value for name, value in sums.items())
        if header is None or (same and not (lines.header == "Order" and self._switches.current.empty_patch_stamps)):
            return
        if lines.stamped:
            self._update(lines.header, header["Id"], sums, actor)
        else:
            self._database.update(lines.header, header["Id"], sums)
        if lines.header == "Order" and (header["Amount"] or 0) != sums["Amount"]:
            self._payments.status(header["Id"])

    def _sums(self, lines: _Lines, header_id: str) -> dict[str, Stored]:
        sums = ", ".join(f'COALESCE(SUM("{column}"), 0) AS "{name}"' for name, column in lines.sums.items())
        return self._database.query(f'SELECT {sums} FROM "{lines.entity}" WHERE "{lines.parent}" = ?', (header_id,))[0]

    def _convert(self, lines: _Lines, header: StoredRow) -> None:
        """Rewrite the lines' amounts in one of the two currencies from those in the other, by SQL, and the header's sums with them."""
        rate = rate_of(self._database, header)
        rows = self._database.query(f'SELECT * FROM "{lines.entity}" WHERE "{lines.parent}" = ?', (header["Id"],))
        if rate is None or not rows:
            return
        in_primary = self._switches.current.rate_change == "primary"
        for row in rows:
            amounts = _in_primary(row, rate) if in_primary else {name: rate.amount(row[f"Primary{name}"]) for name in _AMOUNTS}
            money: dict[str, Stored] = {name: header[name] for name in _CURRENCY if name in row}
            self._database.update(lines.entity, row["Id"], {**money, **amounts})
        self._database.update(lines.header, header["Id"], self._sums(lines, header["Id"]))
        if lines.header == "Order":
            self._payments.status(header["Id"])


def _in_primary(line: Mapping[str, Stored], rate: Rate) -> dict[str, Stored]:
    return {f"Primary{name}": rate.primary(_number(line[name])) for name in _AMOUNTS}


def _worked_out(line: StoredRow) -> dict[str, Stored]:
    """Return a line's amounts by its price, quantity and percentages; without a percentage the amount sent stands."""
    amount = rounded(_number(line["Price"]) * _number(line["Quantity"]), _THOUSANDTHS)
    discount, tax = _number(line["DiscountAmount"]), _number(line["TaxAmount"])
    if line["DiscountPercent"]:
        discount = rounded(amount * _number(line["DiscountPercent"]), _HUNDREDTHS_OF_PERCENT)
    if line["DiscountTax"]:
        tax = rounded((amount - discount) * _number(line["DiscountTax"]), _HUNDREDTHS_OF_PERCENT)
    return {"Amount": amount, "DiscountAmount": discount, "TaxAmount": tax, "TotalAmount": amount - discount + tax}


def _number(stored: Stored) -> int:
    return int(stored or 0)
