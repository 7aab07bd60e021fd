"""Pure OData pieces that several systems share: literals, names, JSON with exact numbers, multipart batches, masked server texts.

Nothing here does I/O. Text that comes from records enters a URL only through `text_literal`, `in_list` and `quoted`, and a name
only through `identifier`, so that no value can change the meaning of a request.
"""

import html
import json
import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from json.encoder import encode_basestring_ascii
from typing import Any
from urllib.parse import quote, unquote

from shared.core.records import Scalar, is_guid

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_QUOTED_TEXT = re.compile(r"(?<!\w)(['\"])(.*?)(?:\1(?!\w)|$)|\u201c[^\u201d]*(?:\u201d|$)", re.DOTALL)
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_MASK = "\u2026"
_LONGEST_SAID = 300
_SHORTEST_MASKED = 3
_LARGEST_EXPONENT = 400
_STATUS_LINE = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})(?: |$)")


# --- names and literals -----------------------------------------------------------------------------------------------------


def identifier(name: str) -> str:
    """Return a column, entity or navigation name that is safe in a URL; raises ValueError for anything else."""
    if _IDENTIFIER.fullmatch(name) is None:
        raise ValueError(f"got the name {name[:40]!r}, allowed letters, digits and underscores, not beginning with a digit")
    return name


def quoted(text: str) -> str:
    """Percent-encode text for a query; only characters that no server or proxy touches stay as they are."""
    return quote(text, safe="")


def text_literal(text: str) -> str:
    """Return a string literal for a URL: quotes doubled, then percent-encoded (dataverse.md 3, creatio.md 2)."""
    return "'" + quote(text.replace("'", "''"), safe="") + "'"


def literal(value: Scalar, *, as_text: bool = False) -> str:
    """Return a filter literal for a URL: null, true, 12, 1.50, 2026-01-31, 2026-01-31T10:00:00Z, a bare guid, or a quoted string.

    A text is a bare guid only when it is one and `as_text` is not set.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    if isinstance(value, datetime):
        return quote(time_text(value), safe=":")
    if isinstance(value, date):
        return value.isoformat()
    return value.lower() if not as_text and is_guid(value) else text_literal(value)


def in_list(texts: Iterable[str]) -> str:
    """Return a JSON array of strings, percent-encoded: the form of `In` that bears apostrophes (dataverse.md 3)."""
    return quote(json.dumps(list(texts), ensure_ascii=False, separators=(",", ":")), safe="[],-")


def time_text(moment: datetime) -> str:
    """Return a UTC time as `2026-01-31T10:00:00Z`, with fractions only when there are some."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


# --- JSON -------------------------------------------------------------------------------------------------------------------


def parse_json(content: bytes) -> Any:
    """Read JSON with decimals kept exact. Raises ValueError with a text that quotes nothing of the content."""
    if not content.strip():
        raise ValueError("the body is empty")
    try:
        return _DECODER.decode(content.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None
    except RecursionError:
        raise ValueError("the body is nested too deep") from None
    except json.JSONDecodeError as problem:
        looks = "HTML" if content.lstrip()[:1] == b"<" else "broken JSON"
        raise ValueError(f"the body is {looks} at position {problem.pos}") from None
    except ValueError:
        raise ValueError("the body holds a number outside JSON or beyond reason") from None


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("no number") from None
    if abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError("number beyond reason")
    return number


def _no_number(_: str) -> Decimal:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_no_number)


def to_json(value: Any) -> str:
    """Write JSON with decimals as exact numbers, times as UTC text and dates as text; raises ValueError for anything else.

    The standard encoder can't print a Decimal without going through a float, which would change money.
    """
    if isinstance(value, str):  # first, as it is nearly always
        return encode_basestring_ascii(value)
    if isinstance(value, Mapping):
        return "{" + ",".join([f"{encode_basestring_ascii(str(key))}:{to_json(member)}" for key, member in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([to_json(member) for member in value]) + "]"
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("got an infinite number, allowed a finite one")
        return format(value, "f")
    if isinstance(value, date):
        return json.dumps(time_text(value) if isinstance(value, datetime) else value.isoformat())
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    raise ValueError(f"got {type(value).__name__}, allowed text, numbers, true, false, null, dates, lists and objects")


# --- server texts -----------------------------------------------------------------------------------------------------------


def masked(text: str, values: Collection[Any] = ()) -> str:
    """Return a server text without what a customer typed: quoted literals and the given values become an ellipsis, 300 characters stay.

    Values of one or two characters are left: they would tear every word apart and tell nothing.
    """
    own = {str(part) for value in values for part in (value if isinstance(value, tuple) else (value,)) if part is not None}
    own |= {unicodedata.normalize(form, part) for form in ("NFC", "NFD") for part in own}
    own |= {json.dumps(part)[1:-1] for part in own} | {part.replace("\n", "\r\n") for part in own}
    own |= {html.escape(part) for part in own} | {quote(part, errors="replace") for part in own}
    for value in sorted(own, key=len, reverse=True):
        if len(value) >= _SHORTEST_MASKED:
            text = re.sub(re.escape(value), _MASK, text, flags=re.IGNORECASE)
    text = " ".join(_QUOTED_TEXT.sub(_MASK, text).split())
    return text if len(text) <= _LONGEST_SAID else text[: _LONGEST_SAID - 1] + _MASK


def literals(url: str) -> list[str]:
    """Return the texts that an address asks for: in single quotes as OData writes them, in double ones within JSON lists."""
    decoded = unquote(url)
    texts = [one.replace("''", "'") for one in _LITERAL.findall(decoded)]
    for quoted in _JSON_TEXT.findall(decoded):
        try:
            texts.append(str(json.loads(quoted)))
        except ValueError:
            texts.append(quoted[1:-1])
    return texts


# --- multipart batches ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One operation of a batch. `url` is root-relative or absolute; `body` is JSON text, "" for none."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True)
class PartAnswer:
    """What the server answered to one operation of a batch; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def batch_body(groups: Sequence[Sequence[Part]], boundary: str) -> bytes:
    """Build a multipart batch: a group of one part stands by itself, a group of several is a change set (all or nothing).

    Every line ends in CRLF, the last boundary's too: with LF the server answers "Stream was not readable" (dataverse.md 6.1).
    Content-IDs are unique over the whole batch.
    """
    lines: list[str] = []
    number = 0
    for place, group in enumerate(groups):
        lines.append(f"--{boundary}")
        if len(group) == 1:
            lines += _part_lines(group[0], None)
            continue
        inner = f"changeset_{place}_{boundary}"  # must not begin with the outer one
        lines += [f'Content-Type: multipart/mixed; boundary="{inner}"', ""]
        for part in group:
            number += 1
            lines += [f"--{inner}", *_part_lines(part, number)]
        lines += [f"--{inner}--", ""]
    lines += [f"--{boundary}--", ""]
    return "\r\n".join(lines).encode()


def _part_lines(part: Part, content_id: int | None) -> list[str]:
    for text in (part.url, *part.headers, *part.headers.values()):
        if "\r" in text or "\n" in text:
            raise ValueError("got a line break in a URL or header of a batch part, allowed one line")
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"{part.method} {part.url} HTTP/1.1", *(f"{name}: {value}" for name, value in part.headers.items())]
    return [*lines, "", part.body]


def parse_batch(content: bytes, content_type: str) -> list[list[PartAnswer]]:
    """Read a multipart reply: one list for each group asked, in order; a change set that failed is a list of one (dataverse.md 6.1).

    Raises ValueError when it is no multipart text. A reply that was cut off gives the groups that arrived whole.
    """
    boundary = _boundary(content_type)
    if boundary is None:
        raise ValueError("the reply is no multipart text")
    groups = []
    for piece in _pieces(content, boundary):
        headers, body = _split_head(piece)
        inner = _boundary(headers.get("content-type", ""))
        if inner is None:
            groups.append([_part_answer(body)])
        else:
            groups.append([_part_answer(_split_head(part)[1]) for part in _pieces(body, inner)])
    return groups


def _boundary(content_type: str) -> str | None:
    if not content_type.lower().lstrip().startswith("multipart/mixed"):
        return None
    found = re.search(r'boundary="?([^";,\s]+)"?', content_type, re.IGNORECASE)
    return found.group(1) if found else None


def _pieces(content: bytes, boundary: str) -> list[bytes]:
    """Return what stands between boundary lines; what follows the last boundary seen is incomplete or an epilogue."""
    marks = list(re.finditer(rb"(?:\A|\r?\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?=\r?\n|\Z)", content))
    pieces = []
    for here, after in pairwise(marks):
        if here.group(1):
            break
        pieces.append(content[here.end() :][: after.start() - here.end()].lstrip(b"\r\n"))
    return pieces


def _split_head(piece: bytes) -> tuple[dict[str, str], bytes]:
    found = re.search(rb"\r?\n\r?\n", piece)
    head, body = (piece[: found.start()], piece[found.end() :]) if found else (piece, b"")
    headers = {}
    for line in head.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers, body


def _part_answer(message: bytes) -> PartAnswer:
    found = _STATUS_LINE.match(message)
    if found is None:
        raise ValueError("a part of the reply has no status line")
    _, _, rest = message.partition(b"\n")
    if rest.startswith((b"\r\n", b"\n")):  # no headers at all
        return PartAnswer(int(found.group(1)), {}, rest.lstrip(b"\r\n"))
    headers, body = _split_head(rest)
    return PartAnswer(int(found.group(1)), headers, body)
