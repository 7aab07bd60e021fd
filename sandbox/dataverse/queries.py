"""Reads query options and preferences, and writes the opaque, double-encoded paging cookies (dataverse.md 2, 3)."""

import base64
import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from sandbox.dataverse import faults
from sandbox.dataverse.faults import Fault

MAX_PAGE = 5_000
_KNOWN = frozenset(
    {"$select", "$filter", "$orderby", "$expand", "$top", "$count", "$skiptoken", "$deltatoken", "$id", "tag", "$apply"},
)
_UNSERVED = frozenset({"fetchXml", "sql", "savedQuery", "userQuery"})
"""Other ways to ask, which a real server knows: left out silently they would be answered with every row."""
_COOKIE = re.compile(
    r'<cookie pagenumber="(?P<page>\d+)" pagingcookie="(?P<cookie>[^"]*)" istracking="(?P<tracking>True|False)" />',
)
_STATE = re.compile(r'<cookie page="\d+"><state value="([\w=-]+)" /></cookie>')


@dataclass(frozen=True)
class Preferences:
    """What ``Prefer`` headers ask for; several may come in one header or in many."""

    representation: bool = False
    page_size: int | None = None
    annotations: tuple[str, ...] = ()
    track_changes: bool = False
    continue_on_error: bool = False

    def annotated(self, name: str) -> bool:
        """Tell whether an annotation was asked for, by name or wildcard."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.annotations)

    def applied(self, *, reading: bool) -> tuple[str, ...]:
        """List what ``Preference-Applied`` echoes."""
        echoes: list[str] = []
        if self.representation and not reading:
            echoes.append("return=representation")
        if reading and self.page_size is not None:
            echoes.append(f"odata.maxpagesize={self.page_size}")
        if reading and self.track_changes:
            echoes.append("odata.track-changes")
        if self.annotations:
            echoes.append(f'odata.include-annotations="{",".join(self.annotations)}"')
        return tuple(echoes)


def read_preferences(headers: tuple[str, ...]) -> Preferences:
    """Read the values of all ``Prefer`` headers."""
    found: dict[str, str] = {}
    for part in re.findall(r'[^,"]+(?:"[^"]*")?[^,"]*', ",".join(headers)):
        name, _, value = part.strip().partition("=")
        found[name.strip().lower()] = value.strip().strip('"')
    size = found.get("odata.maxpagesize")
    if size is not None and (not size.isdigit() or int(size) < 1):
        raise faults.odata(f"The value '{size}' of odata.maxpagesize must be a number from 1 to {MAX_PAGE}.")
    annotations = found.get("odata.include-annotations", "")
    return Preferences(
        representation=found.get("return", "").lower() == "representation",
        page_size=None if size is None else min(int(size), MAX_PAGE),
        annotations=tuple(name.strip() for name in annotations.split(",") if name.strip()),
        track_changes="odata.track-changes" in found,
        continue_on_error="odata.continue-on-error" in found,
    )


@dataclass(frozen=True)
class Query:
    """The decoded options of a query string; ``raw`` is kept for links, ``aliases`` are the ``@name`` parameters."""

    raw: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """Return a decoded option, None when absent or empty."""
        return self.options.get(name) or None

    def raw_without(self, *names: str) -> str:
        """Return the query string as it came, without some options."""
        pairs = [pair for pair in self.raw.split("&") if pair]
        return "&".join(pair for pair in pairs if unquote(pair.partition("=")[0]) not in names)


def read_query(raw: str) -> Query:
    """Decode a query string; refuse unknown, repeated and unsupported options."""
    options: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for pair in raw.split("&"):
        name, _, value = pair.partition("=")
        name = unquote(name)
        if not name:
            continue
        if name.startswith("@"):
            aliases[name] = unquote_plus(value)
            continue
        if name in _UNSERVED:
            raise Fault(501, "0x80040203", f"The query parameter '{name}' is not served by this organisation.")
        if name == "$skip":
            raise faults.odata("Skip Clause is not supported in CRM")
        if name.startswith("$") and name not in _KNOWN:
            raise faults.odata(f"The query parameter '{name}' is not supported.")
        if name in options:
            raise faults.odata(f"Query option '{name}' was specified more than once, but it must be specified at most once.")
        options[name] = unquote_plus(value)
    return Query(raw, options, aliases)


def split_top_level(text: str, separator: str = ",") -> list[str]:
    """Split at separators that stand outside parentheses and quotes."""
    parts, depth, quoted_text, start = [], 0, False, 0
    for at, sign in enumerate(text):
        if sign == "'":
            quoted_text = not quoted_text
        elif not quoted_text and sign in "()":
            depth += 1 if sign == "(" else -1
        elif not quoted_text and depth == 0 and sign == separator:
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


@dataclass(frozen=True)
class Cookie:
    """Where a page begins: its number, whether the chain tracks changes, and the server's own state."""

    page: int
    tracking: bool
    state: Mapping[str, Any]

    def option(self) -> str:
        """Write the ``$skiptoken`` option of a link, encoded once more inside, as the platform does."""
        state = base64.urlsafe_b64encode(json.dumps(self.state).encode()).decode()
        inner = quote(f'<cookie page="{self.page - 1}"><state value="{state}" /></cookie>', safe="")
        text = f'<cookie pagenumber="{self.page}" pagingcookie="{inner}" istracking="{self.tracking}" />'
        return "$skiptoken=" + quote(text, safe="=/")


def read_cookie(text: str) -> Cookie:
    """Read a decoded ``$skiptoken``; raise when it was decoded or encoded once too often on the way."""
    outer = _COOKIE.fullmatch(text)
    inner = _STATE.fullmatch(unquote(outer["cookie"])) if outer is not None else None
    if outer is None or inner is None:
        raise Fault(400, "0x80040203", "Malformed XML in the Paging Cookie: send the nextLink as it was received.")
    state = json.loads(base64.urlsafe_b64decode(inner[1]))
    return Cookie(int(outer["page"]), outer["tracking"] == "True", state)
