"""The text of a rich text: what a reader sees of it, without tags and entities (Creatio keeps rich text as HTML)."""

import html
import re
from html.parser import HTMLParser
from typing import Final

_BLOCKS: Final = re.compile(
    "address|article|blockquote|body|dd|div|dl|dt|footer|h[1-6]|header|hr|li|main|ol|p|pre|section|table|tr|ul", re.IGNORECASE
)
_UNSEEN: Final = re.compile("head|script|style|template|title", re.IGNORECASE)
_OTHERS: Final = "a|b|br|code|em|font|html|i|img|s|span|strong|sub|sup|tbody|td|tfoot|th|thead|u"
_MARKUP: Final = re.compile(rf"<!--|</?(?:{_BLOCKS.pattern}|{_UNSEEN.pattern}|{_OTHERS})\b[^<>]*>", re.IGNORECASE)
_ITEM: Final = "- "
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SPACES: Final = re.compile(r"\s+")
_EMPTY_LINES: Final = re.compile(r"\n{3,}")


class _Reader(HTMLParser):
    """Collects the lines that are seen."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self._line = ""
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's own signature
        self._unseen += _UNSEEN.fullmatch(tag) is not None
        if tag == "br":
            self._end_line()
        elif _BLOCKS.fullmatch(tag) and self._line != _ITEM:  # a block that begins an item stands on its line
            self.end_block()
        self._line += {"li": _ITEM, "td": " ", "th": " "}.get(tag, "")

    def handle_endtag(self, tag: str) -> None:
        self._unseen = max(0, self._unseen - (_UNSEEN.fullmatch(tag) is not None))
        if _BLOCKS.fullmatch(tag):
            self.end_block()

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._line += data

    def end_block(self) -> None:
        """Begin a new line unless this one is empty still."""
        if self._line.strip() and self._line != _ITEM:
            self._end_line()
        self._line = ""

    def _end_line(self) -> None:
        self.lines.append(_SPACES.sub(" ", self._line).strip())
        self._line = ""


def plain_text(text: str) -> str:
    """Return the text of an HTML text: blocks and `<br>` become line ends, items get a dash, entities their characters.

    A text without any tag keeps its own line ends. No control characters are left, and no blanks around it.
    """
    if _MARKUP.search(text):
        reader = _Reader()
        reader.feed(text)
        reader.close()
        reader.end_block()
        seen = "\n".join(reader.lines)
    else:
        seen = html.unescape(text).replace("\r\n", "\n").replace("\r", "\n")
    return _EMPTY_LINES.sub("\n\n", _CONTROL.sub("", seen)).strip()
