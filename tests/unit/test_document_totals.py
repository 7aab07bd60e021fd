"""Totals of documents: what both sides work out by themselves, compared to the cent."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from shared.core.document import differences
from shared.core.records import Row, Side, Stamp
from tests.unit.mapped_world import mappings

STAMP = Stamp(datetime(2026, 1, 1, tzinfo=UTC))
LINES = {"a": {"TaxAmount": Decimal("7.20")}, "b": {"TaxAmount": Decimal("2.07")}, "c": {"TaxAmount": None}}


def told(flow: str, creatio, total: str, lines=LINES) -> list[str]:
    """Return the differences between a document in Creatio and its total in Dynamics."""
    here = Row("c", STAMP, {name: Decimal(value) for name, value in creatio.items()}, lines=lines)
    there = Row("d", STAMP, {"totalamount": Decimal(total)})
    return [str(one) for one in differences(mappings().flows[flow], {Side.CREATIO: here, Side.DYNAMICS: there})]


@pytest.mark.parametrize("flow", ["sales.order", "sales.quote"])
def test_a_percentage_is_taken_off_without_the_tax(flow) -> None:
    """2.5 % of 55.60 less 9.27 of tax is 1.16, beside an amount that is taken off and freight; six cents more are told."""
    amounts = {"Amount": "55.60", "UsrDiscountAmount": "2", "UsrDiscountPercent": "2.5", "UsrFreight": "4.90"}
    assert told(flow, amounts, "57.34") == []
    assert told(flow, amounts, "57.39") == []
    assert told(flow, amounts, "57.40") == [
        "Amount -UsrDiscountAmount UsrFreight -UsrDiscountPercent% is 57.34 in Creatio, totalamount is 57.40 in Dynamics"
    ]


def test_without_a_percentage_nothing_is_taken_off() -> None:
    """An absent percentage, amount or freight is nothing."""
    assert told("sales.order", {"Amount": "55.60"}, "55.60") == []


def test_an_amount_that_is_typed_in_is_no_sum_of_lines() -> None:
    """An opportunity without products has an amount all the same; with products it is their sum."""
    assert told("sales.opportunity", {"Amount": "100"}, "0", lines={}) == []
    assert len(told("sales.opportunity", {"Amount": "100"}, "0")) == 1
