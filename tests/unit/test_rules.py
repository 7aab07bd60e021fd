"""What all fourteen rules share: none is left out, and when two values count as equal."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from shared.core.mapping import RULES, CopyRow, LineRow
from shared.core.rules import _RULES, match_text, same
from tests.unit.rule_world import row


def test_every_rule_of_the_list_is_tested_and_implemented() -> None:
    """The closed list of rules, the table of implementations and the tests of the rules name the same fourteen rules."""
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_rules_*.py")]
    tested = {name for text in texts for name in re.findall(r"^def test_([a-z]+)_", text, re.MULTILINE)}
    assert {kind.model_fields["rule"].annotation.__args__[0] for kind in _RULES} == set(RULES)
    assert {rule.split("_", maxsplit=1)[0] for rule in RULES} <= tested
    assert len(RULES) == 14


def test_equal_means_equal_for_all_other_rules() -> None:
    """Only phones are compared by their digits; a copied text differs when a space does."""
    assert same(row(CopyRow), "a b", "a b")
    assert not same(row(CopyRow), "a b", "a-b")


def test_a_column_that_a_line_leaves_out_is_the_no_that_is_stored_for_it() -> None:
    """Part by part: an absent yes/no is no, an absent number is not 0, and a line with other columns is another line."""
    line = LineRow(creatio="line/1", way=">", dynamics="line/1")
    assert same(line, (True, None, Decimal(2)), (True, False, Decimal(2)))
    assert not same(line, (True, None, Decimal(2)), (True, True, Decimal(2)))
    assert not same(line, (True, None), (True, Decimal(0)))
    assert not same(line, (True,), (True, None))
    assert not same(line, None, (True, None))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("  Müller   GmbH ", "müller gmbh"),
        ("STRASSE", "straße"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}\N{FULLWIDTH DIGIT ONE}", "a1"),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
        (5, "5"),
    ],
)
def test_match_text_sees_through_spelling(left, right) -> None:
    """Matching is blind to case, spaces, widths and ways to write an accent (law 7)."""
    assert match_text(left) == match_text(right)


@pytest.mark.parametrize("empty", [None, "   ", (None, None)])
def test_match_text_of_nothing_is_nothing(empty) -> None:
    """An empty part of a key matches nothing, so that a key with one is left out (law 7)."""
    assert match_text(empty) == ""
