"""The rule that makes a plain text of a rich one, which leads one way only."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.mapping import PlainTextRow
from shared.core.plain_text import plain_text
from shared.core.records import Side
from tests.unit.rule_world import both_sides, goes, problem_of, row, texts, value

RICH = {
    "a paragraph": ("<p>Toner <b>replaced</b>.</p>", "Toner replaced."),
    "entities": ("<p>3 &lt; 5 &amp;&nbsp;7 &#128512;</p>", "3 < 5 & 7 \N{GRINNING FACE}"),
    "a tag that is text": ("<p>Use &lt;b&gt;</p>", "Use <b>"),
    "two paragraphs": ("<p>First.</p>\n<p>Second.</p>", "First.\nSecond."),
    "an empty line": ("<p>First.</p><p><br></p><p>Second.</p>", "First.\n\nSecond."),
    "a break": ("<div>First.<br/>Second.<br></div>", "First.\nSecond."),
    "a list": ("<ul><li>One</li><li><p>Two</p></li><li></li></ul>", "- One\n- Two"),
    "a table": ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
    "what nobody sees": ("<style>p {}</style><!-- no --><p>Seen.</p><script>alert(1)</script>", "Seen."),
    "line ends of the source": ("<p>one\r\n   sentence</p>", "one sentence"),
    "attributes": ("<P class='a>b' style=\"x\">Big</P>", "Big"),
    "an end that is missing": ("<p>open <b>bold", "open bold"),
    "no tags": ("First.\r\nif a < b & c > d", "First.\nif a < b & c > d"),
    "nothing to see": ("<p>&nbsp;</p>", None),
    "no text": (None, None),
}


@both_sides
@pytest.mark.parametrize(("rich", "plain"), RICH.values(), ids=RICH.keys())
def test_plain_text_is_what_a_reader_sees(source, rich, plain) -> None:
    """Tags go, entities become their characters, blocks and breaks become lines; a text without tags keeps its lines."""
    assert goes(rich, texts(), row(PlainTextRow, way=">" if source is Side.CREATIO else "<"), source) == value(plain)


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_plain_text_of_anything_holds_no_control_characters(text) -> None:
    """Whatever stands in the column becomes a text that Dataverse takes, and one without markup only loses blanks around it."""
    seen = plain_text(f"<p>{text}</p>")
    assert not [letter for letter in seen if letter < " " and letter not in "\n\t"]
    assert "</p>" not in seen


@both_sides
@pytest.mark.parametrize("given_value", [7, True, date(2026, 1, 1), ("a", "b")])
def test_plain_text_refuses_what_is_no_text(source, given_value) -> None:
    """Only texts are read."""
    assert problem_of(goes(given_value, texts(), row(PlainTextRow, way=">"), source)) == "mapping.value_type"


def test_plain_text_is_cut_where_the_row_says_so() -> None:
    """The length that counts is that of the plain text."""
    rule = row(PlainTextRow, way=">", overlong="truncate")
    assert goes("<p><b>Toner</b> replaced</p>", texts(5), rule) == value("Toner")
