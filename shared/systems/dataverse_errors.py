"""What each Dataverse error means: one table from its hex codes, then its texts, then the HTTP status (dataverse.md 8)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.systems.odata import literals, masked, parse_json
from shared.systems.web import Response

SYSTEM = "dataverse"

DOES_NOT_EXIST = "0x80040217"
EXPIRED_VERSION_STAMP = "0x80044352"

_Meaning = tuple[type[TandemError], str]
_BY_CODE: dict[str, _Meaning] = {
    # the row moved
    "0x80060882": (Stale, "changed_meanwhile"),
    # keys and duplicates
    "0x80040237": (Rejected, "duplicate"),
    "0x80060892": (Rejected, "duplicate"),
    "0x80040333": (Rejected, "duplicate"),
    "0x8006089d": (Rejected, "duplicate"),
    DOES_NOT_EXIST: (Rejected, "not_found"),
    "0x80060891": (Rejected, "refused"),
    # values
    "0x80044331": (Rejected, "too_long"),
    "0x8004432f": (Rejected, "out_of_range"),
    "0x80044330": (Rejected, "out_of_range"),
    "0x8004431a": (Rejected, "out_of_range"),
    # what is open still: child cases of a case to resolve, activities of one to cancel
    "0x8004f456": (Rejected, "still_open"),
    "0x8004440e": (Rejected, "still_open"),
    # names and shapes: a fault of a mapping, or of the adapter
    "0x8006088a": (Rejected, "unknown_entity"),
    "0x80060888": (Rejected, "bad_request"),
    "0x80048d19": (Rejected, "bad_request"),
    "0x80060890": (Rejected, "bad_request"),
    "0x8006088d": (Rejected, "bad_request"),
    "0x80060883": (Rejected, "bad_request"),
    "0x8004430c": (Rejected, "bad_request"),
    "0x8004430e": (Rejected, "bad_request"),
    # rights, and who we are
    "0x80040220": (Denied, "denied"),
    "0x80040231": (Denied, "denied"),
    "0x80048306": (Denied, "denied"),
    "0x80042f09": (Denied, "denied"),
    "0x80040299": (Denied, "denied"),
    "0x80095ffc": (Denied, "denied"),
    "0x8004a104": (Denied, "denied"),
    "0x80072560": (Denied, "not_a_member"),
    "0x80072491": (Denied, "tracking_off"),
    # change tracking
    EXPIRED_VERSION_STAMP: (Stale, "delta_expired"),
    # too much at once
    "0x80072322": (Transient, "throttled"),
    "0x80072321": (Transient, "throttled"),
    "0x80072326": (Transient, "throttled"),
    "0x80072324": (Transient, "throttled"),
    "0x8005f103": (Transient, "throttled"),
    # deadlock 1205 and other SQL trouble, SQL timeout, crashed plug-in, unexpected, another customisation running
    "0x80044150": (Transient, "unavailable"),
    "0x80044151": (Transient, "unavailable"),
    "0x80040224": (Transient, "unavailable"),
    "0x80040216": (Transient, "unavailable"),
    "0x80071154": (Transient, "unavailable"),
}
_PRIVILEGE = re.compile(r"\bmissing prv[A-Z]\w+ privilege")
_ABOUT_THE_ACCOUNT = frozenset({"0x80095ffc", "0x8004a104"})

_UNKNOWN_COLUMN = re.compile(
    r"(?:property named|Invalid property|undeclared property) '(@?\w+)'|doesn't contain attribute with Name = '(\w+)'", re.IGNORECASE
)
_UNKNOWN_SEGMENT = re.compile(r"Resource not found for the segment", re.IGNORECASE)
_NAMED_FIELDS = (
    re.compile(r"'(\w+)' attribute", re.IGNORECASE),
    re.compile(r"of '(\w+)' on record", re.IGNORECASE),
    re.compile(r"(?:attribute|property|column|field):? '?(\w+)'?", re.IGNORECASE),
)
_BAD_CHARACTER = re.compile(r"hexadecimal value 0x[01][0-9a-f],", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""What XML 1.0, in which the platform passes values on, has no place for."""
_BAD_LITERAL = re.compile(r"Cannot convert the literal '([^']*)'", re.IGNORECASE)
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_BY_STATUS: dict[int, _Meaning] = {
    400: (Rejected, "refused"),
    401: (Transient, "session_expired"),
    403: (Denied, "denied"),
    404: (Rejected, "not_found"),
    405: (Rejected, "refused"),
    408: (Transient, "unavailable"),
    409: (Rejected, "refused"),
    410: (Rejected, "not_found"),
    412: (Stale, "changed_meanwhile"),
    413: (Rejected, "bad_request"),
    429: (Transient, "throttled"),
    500: (Transient, "unavailable"),
    501: (Rejected, "bad_request"),
    502: (Transient, "unavailable"),
    503: (Transient, "unavailable"),
    504: (Transient, "unavailable"),
}
_NO_CODE = frozenset({"", "0x0"})


@dataclass(frozen=True)
class About:
    """The record that an answer is about: its wire values by column, and the column behind each wire name."""

    entity: str = ""
    record_id: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    creates: bool = False


def error_facts(content: bytes) -> tuple[str, str]:
    """Return (code in lower case, message) of an error body; ("", "") when it holds none (HTML, empty, another shape)."""
    try:
        body = parse_json(content)
    except ValueError:
        return "", ""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("code") or "").lower(), str(error.get("message") or "")


def request_error(response: Response) -> TandemError:
    """Turn the answer to a whole request into its error (`Web`'s error table for Dataverse)."""
    code, message = error_facts(response.content)
    kind, name = _meaning(response.status, code, message)
    if response.status == 410:  # noqa: PLR2004 - Gone: a token that is no longer kept
        kind, name = Stale, "delta_expired"
    found = _UNKNOWN_COLUMN.search(message) if name == "unknown_column" else None
    column = next((group for group in found.groups() if group), "") if found else ""
    said = _said(response.status, code, message, literals(response.asked))
    return _made(kind, name, said, About(), response.request_id, column)


def part_error(status: int, headers: Mapping[str, str], content: bytes, about: About) -> TandemError:
    """Turn the answer to one operation into the error of its record.

    A missing right on one row never stops a flow; a missing privilege (its name begins with `prv`) is missing for every row of the table.
    """
    code, message = error_facts(content)
    kind, name = _meaning(status, code, message)
    if name == "denied" and code not in _ABOUT_THE_ACCOUNT and not _PRIVILEGE.search(message):
        kind, name = Rejected, "refused"
    if name == "changed_meanwhile" and about.creates:
        kind, name = Rejected, "duplicate"
    if name == "not_found" and _is_about_another(message, about):
        kind, name = Rejected, "refused"
    said = _said(status, code, message, list(about.values.values()))
    request_id = headers.get("x-ms-service-request-id", headers.get("req_id", ""))[:80]
    error = _made(kind, name, said, about, request_id, _field(message, about) if kind is Rejected else "")
    if isinstance(error, Transient) and re.fullmatch(r"\d{1,6}", headers.get("retry-after", "")):
        error.retry_after = float(headers["retry-after"])
    return error


def _meaning(status: int, code: str, message: str) -> _Meaning:
    if _UNKNOWN_COLUMN.search(message) and status < 500:  # noqa: PLR2004 - a server error is no answer about names
        return Rejected, "unknown_column"
    if code in _BY_CODE:
        return _BY_CODE[code]
    if _UNKNOWN_SEGMENT.search(message):
        return Rejected, "unknown_entity"
    if status == 400 and code in _NO_CODE:  # noqa: PLR2004 - a 400 without a code comes from the parser, not from a rule
        return Rejected, "bad_request"
    return _BY_STATUS.get(status, (Rejected, "unexpected"))


def _said(status: int, code: str, message: str, values: Any) -> str:
    text = masked(message, values) if message else "no readable error text"
    return f"status {status} {code} {text}".replace("  ", " ")


def _made(kind: type[TandemError], name: str, said: str, about: About, request_id: str, column: str) -> TandemError:
    facts = {"entity": about.entity, "record_id": about.record_id, "request_id": request_id, "field": column}
    return kind(f"{SYSTEM}.{name}", said, system=SYSTEM, **facts)


def _is_about_another(message: str, about: About) -> bool:
    """Tell whether "does not exist" speaks of a record that this one refers to."""
    named = {guid.lower() for guid in _GUID.findall(message)}
    return about.creates or (bool(named) and about.record_id.lower() not in named)


def _field(message: str, about: About) -> str:
    """Return the column that the server blames, "" when it names none of those sent."""
    found = _UNKNOWN_COLUMN.search(message)
    names = [group for group in found.groups() if group] if found else []
    for pattern in _NAMED_FIELDS:
        names += pattern.findall(message)
    for name in names:
        if (column := about.columns.get(name) or about.columns.get(name.lower())) is not None:
            return column
    if _BAD_CHARACTER.search(message):
        bad = [column for column, value in about.values.items() if isinstance(value, str) and _CONTROL.search(value)]
        return bad[0] if len(bad) == 1 else ""
    told = {literal.lower() for literal in _BAD_LITERAL.findall(message)} | {guid.lower() for guid in _GUID.findall(message)}
    blamed = [column for column, value in about.values.items() if value is not None and str(value).lower() in told]
    return blamed[0] if len(blamed) == 1 else ""
