"""Make a stand-in misbehave by rule, reproducibly.

A rule names a kind of trouble, the requests it meets (method, regex on the path) and how often it fires (`share`,
at most `times`, not before `after` matching requests have passed). Kinds that every stand-in has:

- `status`: answers `status` (default 503) with `retry_after` seconds or without, `body` `json` (the system's own error
  shape), `html`, `empty`, `malformed` or another one the stand-in offers; nothing is done.
- `drop_before`: the connection closes, nothing done. `drop_after`: done and committed, the connection closes unanswered.
- `short_body`: done and committed, but of the answer's body only half arrives before the connection closes.
- `delay`: waits `seconds`, then works. `late`: works, then waits `seconds` before it answers.
- `expire`: all sessions and tokens are dropped, then the request goes on. `stale_read`, `admin_mode` and a stand-in's
  own kinds are carried out by the stand-in, which asks `fired(scope, kind)`.
"""

import asyncio
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sandbox.serve import AsgiApp, Message, Receive, Scope, Send, abort_connection

COMMON_KINDS = frozenset(
    {"status", "drop_before", "drop_after", "short_body", "delay", "late", "stale_read", "expire", "admin_mode"},
)
_SCOPE_KEY = "sandbox.chaos"

Render: TypeAlias = Callable[[int, str], tuple[str, bytes]]


class Rule(BaseModel):
    """Say which trouble meets which requests, and how often; other members are the kind's own options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    share: float = Field(default=1.0, ge=0, le=1)
    times: int | None = Field(default=None, ge=0)
    method: str | None = None
    path: str | None = None
    after: int = Field(default=0, ge=0)
    status: int = 503
    retry_after: float | None = None
    body: str = "json"
    seconds: float = Field(default=0.0, ge=0)

    @field_validator("path")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            re.compile(value)
        return value

    @property
    def options(self) -> Mapping[str, Any]:
        """Return the options that only this kind knows."""
        return self.model_extra or {}

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is one of those this rule may meet (`path` is searched with its query string)."""
        return (self.method is None or self.method.upper() == method) and (self.path is None or re.search(self.path, path) is not None)


@dataclass
class _Counted:
    rule: Rule
    seen: int = 0
    fired: int = 0


@dataclass
class Chaos:
    """Hold the rules in force and decide for each request which of them fire."""

    own_kinds: frozenset[str] = frozenset()
    _rules: list[_Counted] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - repeatable on purpose
    _seed: int = 0

    def replace(self, rules: Sequence[Mapping[str, Any]], seed: int = 0) -> None:
        """Put new rules in force in place of all others; ValueError names a rule that can't be understood."""
        allowed = COMMON_KINDS | self.own_kinds
        parsed = []
        for raw in rules:
            try:
                rule = Rule.model_validate(raw)
            except (ValidationError, re.error) as error:
                raise ValueError(f"the chaos rule {dict(raw)} can't be used: {error}") from error
            if rule.kind not in allowed:
                raise ValueError(f"a chaos rule got kind {rule.kind!r}, allowed {', '.join(sorted(allowed))}")
            parsed.append(_Counted(rule))
        self._rules = parsed
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def clear(self) -> None:
        """Behave well again."""
        self._rules = []

    def describe(self) -> dict[str, Any]:
        """Return the rules with how often each matched (`seen`) and fired."""
        rules = [{**c.rule.model_dump(exclude_unset=True), "seen": c.seen, "fired": c.fired} for c in self._rules]
        return {"seed": self._seed, "rules": rules}

    def choose(self, method: str, path: str, *, named_only: bool = False) -> tuple[Rule, ...]:
        """Return the rules that fire on this request, in their order; `named_only`: those that name a path."""
        chosen = []
        for counted in self._rules:
            rule = counted.rule
            if not rule.matches(method, path) or (named_only and rule.path is None):
                continue
            counted.seen += 1
            spent = rule.times is not None and counted.fired >= rule.times
            if counted.seen <= rule.after or spent or (rule.share < 1 and self._random.random() >= rule.share):
                continue
            counted.fired += 1
            chosen.append(rule)
        return tuple(chosen)


def fired(scope: Mapping[str, Any], kind: str) -> Rule | None:
    """Return the rule of a kind that fired on the request of this ASGI scope, if one did."""
    rules: tuple[Rule, ...] = scope.get(_SCOPE_KEY, ())
    return next((rule for rule in rules if rule.kind == kind), None)


def html_page(status: int) -> bytes:
    """Return what a proxy or balancer in front of a system answers when the system does not."""
    reasons = {429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}
    title = f"{status} {reasons.get(status, 'Error')}"
    return f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>".encode()


class ChaosMiddleware:
    """Wrap a stand-in's app so that its rules are felt; control requests never are.

    `named_only` is for a second listener that shares the rules: it meets those that name a path of its own.
    """

    def __init__(
        self,
        app: AsgiApp,
        chaos: Chaos,
        render: Render,
        expire: Callable[[], None],
        *,
        exempt: str = "/_control",
        named_only: bool = False,
    ) -> None:
        self._app = app
        self._chaos = chaos
        self._render = render
        self._expire = expire
        self._exempt = exempt
        self._named_only = named_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with whatever trouble its rules ask for."""
        if scope["type"] != "http" or scope["path"].startswith(self._exempt):
            await self._app(scope, receive, send)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        target = scope["path"] + (f"?{query}" if query else "")
        rules = self._chaos.choose(scope["method"], target, named_only=self._named_only)
        scope[_SCOPE_KEY] = rules
        by_kind = {rule.kind: rule for rule in reversed(rules)}
        if "expire" in by_kind:
            self._expire()
        if "delay" in by_kind:
            await asyncio.sleep(by_kind["delay"].seconds)
        if "drop_before" in by_kind:
            await abort_connection()
        elif "status" in by_kind:
            await _drain(receive)
            await self._refuse(by_kind["status"], send)
        elif "drop_after" in by_kind:
            await self._app(scope, receive, _swallow)
            await abort_connection()
        elif "short_body" in by_kind:
            await self._answer_half(scope, receive, send)
        elif "late" in by_kind:
            await self._answer_late(by_kind["late"].seconds, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _kept(self, scope: Scope, receive: Receive) -> list[Message]:
        """Let the stand-in work and keep its answer."""
        kept: list[Message] = []

        async def keep(message: Message) -> None:
            kept.append(message)

        await self._app(scope, receive, keep)
        return kept

    async def _answer_late(self, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
        kept = await self._kept(scope, receive)
        await asyncio.sleep(seconds)
        for message in kept:
            await send(message)

    async def _answer_half(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, *parts = await self._kept(scope, receive)
        body = b"".join(part.get("body", b"") for part in parts)
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        promised = max(len(body), 1)  # an empty body can't be cut, but its promise can be broken too
        await send({**start, "headers": [*headers, (b"content-length", str(promised).encode())]})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        await abort_connection(after_sent=True)

    async def _refuse(self, rule: Rule, send: Send) -> None:
        kind, body = self._body(rule.status, rule.body)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        if rule.retry_after is not None:
            headers.append((b"retry-after", f"{rule.retry_after:g}".encode()))
        await send({"type": "http.response.start", "status": rule.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _body(self, status: int, kind: str) -> tuple[str, bytes]:
        if kind == "html":
            return "text/html; charset=utf-8", html_page(status)
        if kind == "empty":
            return "text/plain", b""
        if kind == "malformed":
            return "application/json; charset=utf-8", self._render(status, "json")[1][:-7] or b'{"error":'
        return self._render(status, kind)


async def _drain(receive: Receive) -> None:
    """Read the body that is being sent, so that the client is not cut off while it still writes."""
    while (await receive()).get("more_body", False):
        pass


async def _swallow(_message: Message) -> None:
    """Take an answer that nobody is to see."""
