"""Amounts in the currency of a document and in the primary one: primary = amount x Division / Rate (creatio.md 5, 5.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sandbox.creatio.database import Database
from sandbox.creatio.values import Stored

ONE: Final = 10**8
"""A rate of 1 as it is stored: rates have eight decimal places."""


@dataclass(frozen=True)
class Rate:
    """Say how many units of a currency `division` units of the primary one are worth, as it is stored."""

    rate: int
    division: int

    def primary(self, amount: int | None) -> int:
        """Return an amount of this currency in the primary one; both are stored amounts."""
        return rounded((amount or 0) * self.division * ONE, self.rate)

    def amount(self, primary: int | None) -> int:
        """Return an amount of the primary currency in this one."""
        return rounded((primary or 0) * self.rate, self.division * ONE)


def rate_of(database: Database, document: Mapping[str, Any]) -> Rate | None:
    """Return the rate that stands in a document; None when there is none to divide by."""
    rate = document["CurrencyRate"]
    return Rate(rate, _division(database, document["CurrencyId"])) if rate else None


def current_rate(database: Database, currency: Stored, today: str) -> Rate:
    """Return the rate of a currency on a day: the last that began and didn't end, else the one at the currency itself, else 1."""
    sql = (
        'SELECT "Rate" FROM "CurrencyRate" WHERE "CurrencyId" = ? AND ("StartDate" IS NULL OR "StartDate" <= ?) '
        'AND ("EndDate" IS NULL OR "EndDate" >= ?) AND "Rate" > 0 ORDER BY "StartDate" DESC, "Id" LIMIT 1'
    )
    rate = database.scalar(sql, (currency, today, today)) or database.scalar('SELECT "Rate" FROM "Currency" WHERE "Id" = ?', (currency,))
    return Rate(rate or ONE, _division(database, currency))


def rounded(numerator: int, denominator: int) -> int:
    """Divide as databases do: half away from zero; the denominator is positive."""
    whole = (2 * abs(numerator) + denominator) // (2 * denominator)
    return whole if numerator >= 0 else -whole


def _division(database: Database, currency: Stored) -> int:
    return database.scalar('SELECT "Division" FROM "Currency" WHERE "Id" = ?', (currency,)) or 1
