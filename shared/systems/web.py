"""The one transport: every request to a business system goes through `Web.send`, and only TandemError comes out of it.

What it does with an answer, in this order:

    session over          renew once for all tasks, repeat once if it has surely not run; 401 to three new ones: Denied
    429, 503 + Retry-After  pause everybody; repeat when the wait is short, else Transient with `retry_after`
    408, 502, 503, 504, no answer   repeat with growing, jittered waits when repeating is harmless, else Transient
    below 300, or expected        hand it to the caller
    a way elsewhere       never followed: Denied, for the address is wrong
    anything else         the adapter's own error table decides

A write that may have run is never repeated here: the plan above knows how to find out (design.md 4, laws 4 and 6).
Bodies, tokens and query strings never reach an exception, a log or a span.
"""

import asyncio
import random as _random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, runtime_checkable

import httpx
from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode

from shared.core.errors import ConfigError, Denied, Rejected, TandemError, Transient
from shared.systems.odata import parse_json
from shared.systems.pace import Pace

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_REQUEST_ID_HEADERS = ("x-ms-service-request-id", "REQ_ID", "x-correlation-id", "x-request-id")
_WORN_OUT = frozenset({408, 502, 503, 504})
_OK_BELOW = 300
_THROTTLED = 429
_BUSY = 503
_UNAUTHORISED = 401
_FORBIDDEN = 403
_REFUSALS = 3
_MOVED = frozenset({301, 302, 303, 307, 308})

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_NEVER_SENDABLE = (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.CookieConflict)


@dataclass(frozen=True)
class Request:
    """One HTTP request as data. `url` is relative to the system's base or an absolute link, sent as it stands.

    `repeatable` marks a request that may run twice without harm (a GET always may); `operations` counts the parts of a batch;
    `expected` lists statuses of 300 and above that the caller wants to see itself.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    repeatable: bool = False
    operations: int = 1
    expected: frozenset[int] = frozenset()

    @property
    def harmless(self) -> bool:
        """Tell whether running it twice changes nothing."""
        return self.repeatable or self.method in ("GET", "HEAD")


@dataclass(frozen=True)
class Response:
    """One HTTP answer. Header names are looked up in any case."""

    system: str
    status: int
    headers: httpx.Headers
    content: bytes
    request_id: str = ""
    asked: str = field(default="", repr=False)
    """The address that was asked: its literals are what a person typed, to be masked in the server's text."""

    def json(self) -> Any:
        """Return the body as JSON with exact decimals; raises Transient `<system>.not_json` whatever the content type claims."""
        try:
            return parse_json(self.content)
        except ValueError as problem:
            kind = self.headers.get("content-type", "none").split(";")[0][:60]
            said = f"status {self.status}, content type {kind}, {len(self.content)} bytes: {problem}"
            raise Transient(f"{self.system}.not_json", said, system=self.system, request_id=self.request_id) from None

    @property
    def server_time(self) -> datetime | None:
        """Return the server's own clock (`Date` header), None when it sends none."""
        return _http_date(self.headers.get("date", ""))


class Login(Protocol):
    """The credentials of one account. `Web` calls `renew` once for each session that ended, however many tasks saw the end."""

    async def headers(self) -> Mapping[str, str]:
        """Return the headers of the present session, logging in first when there is none."""

    async def renew(self) -> None:
        """Give the present session up and make a new one."""

    def ended(self, response: Response) -> bool:
        """Tell whether an answer means that the session is over."""


@runtime_checkable
class _Closing(Protocol):
    """A login with connections of its own."""

    async def close(self) -> None:
        """Close them."""


class Web:
    """Sends the requests of one account of one system."""

    def __init__(
        self,
        system: str,
        base_url: str,
        client: httpx.AsyncClient,
        login: Login,
        *,
        error: Callable[[Response], TandemError],
        allowed: Callable[[httpx.URL], bool] | None = None,
        hint: Callable[[Response], int | None] | None = None,
        on_request: Callable[[str, int], None] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = _random.random,
        concurrency: int = 4,
        most_concurrency: int = 16,
        repeats: int = 3,
        most_wait: float = 20.0,
        most_retry_after: float = 5.0,
        answer_within: float = 150.0,
    ) -> None:
        """Take everything from outside; times in seconds.

        `allowed` widens the origins that links may point to (Dataverse's `.api.` host); `hint` reads the server's recommended
        parallelism; `on_request` gets the system and the number of operations of each request sent.
        """
        self.system = system
        self.requests = 0
        self.operations = 0
        self._base = base_url.rstrip("/")
        self._origin = _checked_origin(system, self._base)
        self._client = client
        self._login = login
        self._error = error
        self._allowed = allowed
        self._hint = hint
        self._on_request = on_request
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._repeats = repeats
        self._most_wait = most_wait
        self._most_retry_after = most_retry_after
        self._answer_within = answer_within
        self._session = 0
        self._refused: set[int] = set()
        self._renewing = asyncio.Lock()
        self.pace = Pace(start=concurrency, most=most_concurrency, monotonic=monotonic)
        self._tracer = trace.get_tracer("tandem.systems")

    @property
    def site(self) -> str:
        """Return host, port and path of the configured address, in lower case."""
        return self._base.partition("://")[2].lower()

    @property
    def path(self) -> str:
        """Return the path of the base address, as the parts of a batch need it."""
        return httpx.URL(self._base).path.rstrip("/")

    def leads_here(self, url: str) -> bool:
        """Tell whether a link leads to the system itself, so that it may be followed with our credentials."""
        try:
            self._target(url)
        except TandemError:
            return False
        return True

    async def send(self, request: Request) -> Response:
        """Send one request and return its answer; raises TandemError only."""
        url = self._target(request.url)
        name = f"{self.system} {request.method} {_resource(url)}"
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            span.set_attribute("http.request.method", request.method)
            span.set_attribute("server.address", url.host)
            span.set_attribute("tandem.operations", request.operations)
            try:
                return await self._send(request, url, span)
            except TandemError as error:
                span.set_attribute("error.type", error.code)
                span.set_status(StatusCode.ERROR, error.code)
                raise

    async def close(self) -> None:
        """Close the connections, those of the login too when it has some."""
        await self._client.aclose()
        if isinstance(self._login, _Closing):
            await self._login.close()

    async def _send(self, request: Request, url: httpx.URL, span: Span) -> Response:
        attempt, waited, renewed = 0, 0.0, False
        while True:
            waited += await self._wait_out_pause(waited)
            session, answer = await self._attempt(request, url)
            if answer is None:  # a pause began while this request stood in the queue
                continue
            attempt += 1
            span.set_attribute("tandem.attempts", attempt)
            if isinstance(answer, Response):
                span.set_attribute("http.response.status_code", answer.status)
                if self._login.ended(answer) or (answer.status == _FORBIDDEN and session != self._session):  # no verdict on the new one
                    await self._begin_again(session, answer, request, renewed=renewed)
                    renewed = True
                    continue
                if answer.status < _OK_BELOW:
                    self._refused.clear()
                if not self._is_trouble(answer, request):
                    return self._judged(answer, request)
            wait = self._wait_before_repeat(answer, request, attempt)
            if attempt > self._repeats or wait is None or waited + wait > self._most_wait:
                raise self._given_up(answer)
            if not self._is_throttle(answer):  # a throttle is waited out with everybody else
                waited += wait
                await self._sleep(wait)

    async def _begin_again(self, session: int, answer: Response, request: Request, *, renewed: bool) -> None:
        """Renew a session that ended; raise when the request must not be sent again.

        New sessions that are refused with 401 one after the other do not mend: wrong tenant, disabled user, no access at all. A single
        one may have been ended by another login of the same user.
        """
        if renewed and answer.status == _UNAUTHORISED:
            self._refused.add(session)
        if len(self._refused) >= _REFUSALS:
            said = "status 401 to a login that had just succeeded: is the account known there, enabled, and of the right tenant?"
            raise Denied(self._code("login_failed"), said, system=self.system, request_id=answer.request_id)
        await self._renew(session)
        if renewed or not (answer.status >= _OK_BELOW or request.harmless):
            raise Transient(self._code("session_expired"), system=self.system, request_id=answer.request_id)

    async def _wait_out_pause(self, waited: float) -> float:
        total = 0.0
        while (pause := self.pace.paused_for) > 0:
            if pause > self._most_retry_after or waited + total + pause > self._most_wait:
                raise Transient(self._code("throttled"), system=self.system, retry_after=pause)
            wait = pause * (1 + 0.1 * self._random())  # not all at the same instant
            await self._sleep(wait)
            total += wait
        return total

    async def _attempt(self, request: Request, url: httpx.URL) -> "tuple[int, Response | _Unanswered | None]":
        async with self.pace.turn():
            session = self._session
            if self.pace.paused_for > 0:
                return session, None
            headers = {**request.headers, **await self._login.headers()}
            self.requests += 1
            self.operations += request.operations
            if self._on_request is not None:
                self._on_request(self.system, request.operations)
            try:
                async with asyncio.timeout(self._answer_within):
                    sent = self._client.build_request(request.method, url, headers=headers, content=request.content or None)
                    raw = await self._client.send(sent, follow_redirects=False, auth=None)
            except _NEVER_SENDABLE as problem:
                raise Rejected(self._code("bad_request"), type(problem).__name__, system=self.system) from problem
            except (httpx.HTTPError, httpx.StreamError, TimeoutError, OSError) as problem:
                self.pace.slower()
                return session, _Unanswered(self._code("unreachable"), problem, system=self.system)
        answer = Response(self.system, raw.status_code, raw.headers, raw.content, _request_id(raw.headers), str(url))
        self._learn(answer)
        return session, answer

    def _learn(self, answer: Response) -> None:
        if self._hint is not None and (most := self._hint(answer)) is not None:
            self.pace.hint(most)
        if answer.status in _WORN_OUT:
            self.pace.slower()
        elif answer.status != _THROTTLED:
            self.pace.faster()

    def _is_throttle(self, answer: Response | TandemError) -> bool:
        if not isinstance(answer, Response):
            return False
        return answer.status == _THROTTLED or (answer.status == _BUSY and "retry-after" in answer.headers)

    def _is_trouble(self, answer: Response, request: Request) -> bool:
        return answer.status not in request.expected and (self._is_throttle(answer) or answer.status in _WORN_OUT)

    def _judged(self, answer: Response, request: Request) -> Response:
        if answer.status < _OK_BELOW or answer.status in request.expected:
            return answer
        if answer.status in _MOVED:
            raise Denied(self._code("moved"), _way_elsewhere(answer), system=self.system, request_id=answer.request_id)
        raise self._error(answer)

    def _wait_before_repeat(self, answer: Response | TandemError, request: Request, attempt: int) -> float | None:
        """Return the seconds to wait before a repeat, None when it must not be repeated (here)."""
        backoff = min(0.5 * 2 ** (attempt - 1), 8.0) * (0.5 + self._random() / 2)
        if isinstance(answer, Response) and self._is_throttle(answer):
            named = self._retry_after(answer)
            wait = backoff if named is None else named
            self.pace.slower()
            self.pace.pause(wait)
            refused_unseen = answer.status == _THROTTLED  # a 503 may come from behind the door
            return wait if wait <= self._most_retry_after and (refused_unseen or request.harmless) else None
        not_sent = isinstance(answer, _Unanswered) and isinstance(answer.problem, _NOT_SENT)
        return backoff if request.harmless or not_sent else None

    def _given_up(self, answer: Response | TandemError) -> TandemError:
        if not isinstance(answer, Response):
            return answer
        throttled = self._is_throttle(answer)
        code = self._code("throttled" if throttled else "unavailable")
        retry_after = (self.pace.paused_for or self._retry_after(answer)) if throttled else None
        said = f"status {answer.status}"
        return Transient(code, said, system=self.system, request_id=answer.request_id, retry_after=retry_after)

    def _retry_after(self, answer: Response) -> float | None:
        """Read `Retry-After` in seconds or as a date; a date is compared with the server's own clock."""
        text = answer.headers.get("retry-after", "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
            return float(text)
        moment = _http_date(text)
        if moment is None:
            return None
        return max(0.0, (moment - (answer.server_time or self._clock())).total_seconds())

    async def _renew(self, session: int) -> None:
        async with self._renewing:
            if self._session == session:  # else another task has done it while this one waited
                await self._login.renew()
                self._session += 1

    def _target(self, url: str) -> httpx.URL:
        """Return the full address; links of a server count only on the configured origin."""
        if not _ABSOLUTE.match(url):
            return self._parsed(f"{self._base}/{url.lstrip('/')}")
        target = self._parsed(url)
        same = _origin(target) == self._origin or (self._allowed is not None and self._allowed(target))
        if not same or target.userinfo or (target.scheme != "https" and self._origin[0] == "https"):
            said = f"a link led to {target.scheme}://{target.host[:80]}, allowed is {self._origin[0]}://{self._origin[1]}"
            raise Denied(self._code("bad_answer"), said, system=self.system)
        return target

    def _parsed(self, url: str) -> httpx.URL:
        try:
            return httpx.URL(url)
        except httpx.InvalidURL as problem:
            raise Rejected(self._code("bad_request"), "InvalidURL", system=self.system) from problem

    def _code(self, name: str) -> str:
        return f"{self.system}.{name}"


class _Unanswered(Transient):
    """No answer came; `problem` is what the HTTP library said."""

    def __init__(self, code: str, problem: Exception, *, system: str) -> None:
        super().__init__(code, type(problem).__name__, system=system)
        self.problem = problem
        self.__cause__ = problem


def _checked_origin(system: str, base_url: str) -> tuple[str, str, int | None]:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ConfigError([f"address of {system}: got a text that is no URL, allowed https://host/path"]) from None
    if not url.host or url.userinfo or url.query or not (url.scheme == "https" or (url.scheme == "http" and is_loopback(url))):
        got = f"{url.scheme}://{url.host}"
        raise ConfigError([f"address of {system}: got {got}, allowed https:// without user and query (http:// on this machine only)"])
    return _origin(url)


def is_loopback(url: httpx.URL) -> bool:
    """Tell whether an address is on this machine."""
    return url.host in _LOOPBACK


def _way_elsewhere(answer: Response) -> str:
    """Say where a redirect leads, without path and query."""
    url = httpx.URL(answer.headers.get("location", ""))  # one that is no URL was refused by the HTTP library
    where = f"{url.scheme}://{url.host[:80]}" if url.host else "another path"
    return f"status {answer.status} leads to {where}"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    port = url.port if url.port is not None else {"https": 443, "http": 80}.get(url.scheme)
    return (url.scheme, url.host, port)


def _resource(url: httpx.URL) -> str:
    """Return what the request is about without keys and values: the last segment of the path up to a parenthesis."""
    return url.path.rstrip("/").rsplit("/", 1)[-1].split("(", 1)[0] or "/"


def _request_id(headers: httpx.Headers) -> str:
    return next((headers[name][:80] for name in _REQUEST_ID_HEADERS if name in headers), "")


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
