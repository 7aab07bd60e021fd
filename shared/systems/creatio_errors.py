"""What Creatio's failures mean: one table from status and text to an error of the catalogue.

Creatio has no error codes and answers nearly everything with 500 (creatio.md 3), so the text decides. It stands in one of six
members, the real cause innermost; an answer may also be HTML from IIS, a proxy or the login page.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.core.errors import Denied, NotReady, Rejected, Stale, TandemError, Transient
from shared.core.records import Value
from shared.systems.odata import masked, parse_json

SYSTEM = "creatio"
_UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _THROTTLED, _SERVER_ERROR = 401, 403, 404, 429, 500
_OK_BELOW, _REDIRECT_BELOW = 300, 400
_OUT_OF_ORDER = frozenset({408, 502, 503, 504})
_DEEPEST = 8
_WRONG_PREFIX = "status 404 with an HTML page: check CREATIO_BASE_URL and CREATIO_APP_PREFIX (/0 for .NET Framework, / for .NET)"


@dataclass(frozen=True)
class Answer:
    """The answer to a request or to one part of a batch. `body` is parsed JSON, None when there is none or it is no JSON."""

    status: int
    body: Any = None
    text: str = ""
    html: bool = False
    request_id: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class Asked:
    """What a request was about, as far as its error must name it.

    `part` tells a part of a batch from a whole request. `values` are masked in texts. `optional` marks a set that many sites close:
    a 500 in JSON is their refusal, which lasts.
    """

    entity: str = ""
    record_id: str = ""
    writes: bool = False
    part: bool = False
    values: Sequence[Value] = ()
    optional: bool = False

    @property
    def own(self) -> bool:
        """Tell whether a refusal is one record's own: a write among others. A refused read lacks a right for the whole object."""
        return self.part and self.writes


@dataclass(frozen=True)
class _Rule:
    """A pattern of a server text and what it means; a group `field` names the column."""

    pattern: re.Pattern[str]
    group: type[TandemError]
    code: str


def _rule(pattern: str, group: type[TandemError], code: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE | re.DOTALL), group, code)


# The first match decides. Texts of OData and of the platform first, then those of the three databases Creatio runs on.
_RULES: tuple[_Rule, ...] = (
    _rule(r"Could not find a property named '(?P<field>\w+)'", Rejected, "unknown_column"),
    _rule(r"The property '(?P<field>\w+)' does not exist on type", Rejected, "unknown_column"),
    _rule(r"Column by path (?P<field>[\w./]+) not found", Rejected, "unknown_column"),
    _rule(r"No HTTP resource was found that matches|No type was found that matches the controller", Rejected, "unknown_entity"),
    _rule(r"(?:Column|Field) [\"']?(?P<field>\w+)[\"']? is required", Rejected, "required"),
    _rule(r"null value in column \"?(?P<field>\w+)\"?", Rejected, "required"),
    _rule(r"Cannot insert the value NULL into column '(?P<field>\w+)'", Rejected, "required"),
    _rule(r"duplicate key|Violation of (?:PRIMARY|UNIQUE) KEY|unique constraint|ORA-00001", Rejected, "duplicate"),
    _rule(r"truncated in table .{0,200}?, column '(?P<field>\w+)'", Rejected, "too_long"),
    _rule(r"value too large for column (?:\"?\w+\"?\.)*\"?(?P<field>\w+)\"?", Rejected, "too_long"),
    _rule(r"value too long for type|would be truncated", Rejected, "too_long"),
    _rule(r"numeric field overflow|Arithmetic overflow|out of range", Rejected, "out_of_range"),
    _rule(r"deadlock|Timeout expired|statement timeout|lock request time", Transient, "unavailable"),
)
_NO_RIGHT = re.compile(r"sufficient (?:permission|right)|insufficient (?:permission|right)|access (?:is )?denied|licen[cs]e", re.IGNORECASE)
_AUTHENTICATION = re.compile(r"Authentication failed", re.IGNORECASE)


def answer_of(status: int, content_type: str, content: bytes, request_id: str = "", retry_after: float | None = None) -> Answer:
    """Read an answer that may be JSON, HTML or nothing, whatever its content type claims."""
    try:
        body = parse_json(content)
    except ValueError:
        text = content[:4000].decode("utf-8", "replace")
        html = "html" in content_type.lower() or text.lstrip()[:1] == "<"
        return Answer(status, None, text, html, request_id, retry_after)
    return Answer(status, body, "", html=False, request_id=request_id, retry_after=retry_after)


def messages(body: Any) -> tuple[str, ...]:
    """Return the texts of an error body, the real cause first (creatio.md 10: the innermost exception)."""
    if not isinstance(body, Mapping):
        return ()
    found: list[str] = []
    node: Any = body.get("error", {})
    for _ in range(_DEEPEST):
        if not isinstance(node, Mapping):
            break
        found.insert(0, _text(node.get("message")))
        node = node.get("innererror") or node.get("internalexception")
    found += [_text(body.get(name)) for name in ("ExceptionMessage", "MessageDetail", "Message")]
    return tuple(text for text in found if text)


def failed(answer: Answer) -> bool:
    """Tell whether an answer is a failure; some failures come as 200 with an error body (creatio.md 10)."""
    if answer.status >= _OK_BELOW:
        return True
    body = answer.body
    return isinstance(body, Mapping) and "@odata.context" not in body and ("error" in body or "ExceptionType" in body)


def error_of(answer: Answer, asked: Asked) -> TandemError:
    """Turn a failed answer into the error that says what happens next."""
    texts = messages(answer.body)
    said = masked(texts[0], asked.values) if texts else _outline(answer)
    facts = _Facts(said, SYSTEM, asked.entity, asked.record_id, answer.request_id)
    whole_text = "\n".join(texts)
    return _by_status(answer, asked, facts, whole_text) or _by_text(whole_text, facts) or _by_rest(answer, asked, facts, whole_text)


@dataclass(frozen=True)
class _Facts:
    said: str
    system: str
    entity: str
    record_id: str
    request_id: str

    def make(self, group: type[TandemError], code: str, field: str = "", retry_after: float | None = None) -> TandemError:
        where = {"system": self.system, "entity": self.entity, "record_id": self.record_id, "request_id": self.request_id, "field": field}
        if group is Transient:
            return Transient(f"{SYSTEM}.{code}", self.said, retry_after=retry_after, **where)
        return group(f"{SYSTEM}.{code}", self.said, **where)


def _by_status(answer: Answer, asked: Asked, facts: _Facts, text: str) -> TandemError | None:
    """Judge what the status alone, or the lack of JSON, decides; None when the text must."""
    status = answer.status
    found: TandemError | None = None
    if status == _UNAUTHORISED or _OK_BELOW <= status < _REDIRECT_BELOW or _AUTHENTICATION.search(text):
        found = facts.make(Transient, "session_expired")
    elif status == _THROTTLED:
        found = facts.make(Transient, "throttled", retry_after=answer.retry_after)
    elif status in _OUT_OF_ORDER:
        found = facts.make(Transient, "unavailable", retry_after=answer.retry_after)
    elif status == _FORBIDDEN:
        found = facts.make(Rejected, "refused") if asked.own else facts.make(Denied, "denied")
    elif answer.html and status == _NOT_FOUND and not asked.part:
        found = replace(facts, said=_WRONG_PREFIX).make(Denied, "not_json")
    elif answer.html and status < _OK_BELOW:
        found = facts.make(Transient, "not_json")
    return found


def _by_text(text: str, facts: _Facts) -> TandemError | None:
    for rule in _RULES:
        match = rule.pattern.search(text)
        if match is not None:
            return facts.make(rule.group, rule.code, str(match.groupdict().get("field") or ""))
    return None


def _by_rest(answer: Answer, asked: Asked, facts: _Facts, text: str) -> TandemError:
    if _NO_RIGHT.search(text):
        return facts.make(Rejected, "refused") if asked.own else facts.make(Denied, "denied")
    if answer.status == _NOT_FOUND:
        return facts.make(Rejected, "not_found" if asked.part else "unknown_entity")
    if _OK_BELOW <= answer.status < _SERVER_ERROR:
        return facts.make(Rejected, "bad_request")
    return facts.make(Rejected, "refused") if asked.own or asked.optional else facts.make(Transient, "unavailable")


def about(error: TandemError, entity: str, record_id: str) -> TandemError:
    """Return a whole request's error as one of an entity, or of one of its records."""
    facts = {"system": SYSTEM, "entity": entity, "record_id": record_id, "request_id": error.request_id, "field": error.field}
    if isinstance(error, Transient):
        return Transient(error.code, error.said, retry_after=error.retry_after, **facts)
    group = next((one for one in (NotReady, Rejected, Stale, Denied) if isinstance(error, one)), Rejected)
    return group(error.code, error.said, **facts)


def bad_answer(said: str, entity: str = "", record_id: str = "", request_id: str = "") -> Transient:
    """Return the error for an answer that lacks what it must have; asked again, it may be whole."""
    return Transient("creatio.bad_answer", said, system=SYSTEM, entity=entity, record_id=record_id, request_id=request_id)


def not_visible(entity: str, record_id: str, said: str = "") -> Rejected:
    """Return the error for a record that the server does not show."""
    return Rejected("creatio.not_found", said, system=SYSTEM, entity=entity, record_id=record_id)


def changed_schema(error: TandemError) -> bool:
    """Tell whether an error says that the cached metadata is out of date."""
    return error.code in ("creatio.unknown_column", "creatio.unknown_entity")


def unknown_entity(entity: str) -> Rejected:
    """Return the error for an object that the metadata does not hold."""
    return Rejected("creatio.unknown_entity", "", system=SYSTEM, entity=entity)


def kept_moving(entity: str) -> Transient:
    """Return the error for rows that changed places again and again while they were paged."""
    return Transient("creatio.changed_meanwhile", "the rows kept changing while they were listed", system=SYSTEM, entity=entity)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _outline(answer: Answer) -> str:
    kind = "HTML" if answer.html else "text" if answer.text else "no text"
    return f"status {answer.status} with {kind}" if answer.body is None else f"status {answer.status} without a message"
