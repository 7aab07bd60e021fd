"""How Tandem proves to Creatio who it is: OAuth client credentials (recommended) or the forms login with cookies.

Facts: creatio.md 1. Both logins fail with HTTP 200 or 400 and say why in the body; both are asked once however many tasks wait,
and a refusal is remembered for a minute, for a user is locked after a few wrong passwords.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import httpx

from shared.core.errors import ConfigError, Denied, TandemError, Transient
from shared.systems.creatio_errors import SYSTEM, messages
from shared.systems.odata import masked, parse_json
from shared.systems.web import Response

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LOGIN_PATH = "/ServiceModel/AuthService.svc/Login"  # at the site's root on both flavours (creatio.md 1.1)
_PAGE_BEGINS = (b"<!doctype", b"<html")
_EARLY = 60.0
_REMEMBER_REFUSAL = 60.0
_DEFAULT_LIFETIME = 3600.0
_UNAUTHORISED, _FORBIDDEN, _THROTTLED, _SERVER_ERROR = 401, 403, 429, 500
_OK_BELOW, _REDIRECT_BELOW = 300, 400


def identity_url_of(base_url: str) -> str:
    """Return the identity service of a cloud site: `-is` behind the first label of its host (creatio.md 1.4)."""
    url = httpx.URL(base_url)
    first, dot, rest = url.host.partition(".")
    return str(url.copy_with(host=f"{first}-is{dot}{rest}", path="/", query=None)).rstrip("/")


def session_over(response: Response) -> bool:
    """Tell whether an answer is one of the faces of a dead session (creatio.md 1.3): 401, a way to the login page, or that page."""
    if response.status == _UNAUTHORISED:
        return True
    if _OK_BELOW <= response.status < _REDIRECT_BELOW:
        return "/login/" in response.headers.get("location", "").lower()
    if response.status >= _OK_BELOW:
        return False
    # Any page on a data URL counts: the login page is a tenant's own, so no text in it is sure to be there.
    return "html" in response.headers.get("content-type", "").lower() or response.content.lstrip()[:9].lower().startswith(_PAGE_BEGINS)


class _Once:
    """Runs one login at a time for all that wait, and repeats a refusal for a while without asking again."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._running: asyncio.Task[None] | None = None
        self._refused: Denied | None = None
        self._refused_until = 0.0

    async def run(self, make: Callable[[], Awaitable[None]]) -> None:
        if self._refused is not None and self._monotonic() < self._refused_until:
            raise Denied(self._refused.code, self._refused.said, system=SYSTEM)
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._guarded(make))
        await asyncio.shield(self._running)

    async def _guarded(self, make: Callable[[], Awaitable[None]]) -> None:
        try:
            await make()
        except Denied as refused:
            self._refused, self._refused_until = refused, self._monotonic() + _REMEMBER_REFUSAL
            raise
        self._refused = None


class OAuthLogin:
    """Client credentials at the identity service; the token is asked for again a minute before it ends. No cookies, no CSRF header."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        identity_url: str,
        client_id: str,
        client_secret: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._url = f"{_checked(identity_url)}/connect/token"
        self._client_id = client_id
        self._client_secret = client_secret
        self._monotonic = monotonic
        self._once = _Once(monotonic)
        self._token = ""
        self._until = 0.0

    async def headers(self) -> Mapping[str, str]:
        """Return the bearer header, asking for a token when there is none or it ends soon."""
        if not self._token or self._monotonic() >= self._until:
            await self._once.run(self._ask)
        return {"Authorization": f"Bearer {self._token}"}

    async def renew(self) -> None:
        """Give the token up and ask for another."""
        self._token = ""
        await self._once.run(self._ask)

    def ended(self, response: Response) -> bool:
        """Tell whether the token is not accepted any more."""
        return session_over(response)

    async def _ask(self) -> None:
        form = {"client_id": self._client_id, "client_secret": self._client_secret, "grant_type": "client_credentials"}
        raw = await _post(self._client, self._url, {"Accept": "application/json"}, data=form)
        secrets = (self._client_id, self._client_secret)
        body = _json_body(raw)
        if raw.status_code >= _OK_BELOW:
            named = body.get("error") if isinstance(body, Mapping) else None
            raise _refusal(raw.status_code, f"{named or 'no reason given'} (identity service)", secrets)
        token = body.get("access_token") if isinstance(body, Mapping) else None
        if not isinstance(token, str) or not token:
            said = "the identity service sent no access_token: check CREATIO_IDENTITY_URL, it must not be the site itself"
            raise Denied("creatio.login_failed", said, system=SYSTEM)
        lifetime = body.get("expires_in")
        seconds = float(lifetime) if isinstance(lifetime, int) and lifetime > 0 else _DEFAULT_LIFETIME
        self._until = self._monotonic() + max(seconds - _EARLY, seconds / 2)
        self._token = token


class FormsLogin:
    """User and password for cookies. The client given is the one that `Web` sends with: its jar is the session.

    Every cookie goes back (creatio.md 1.1), BPMCSRF is read from the jar at each request because the server may change it,
    and `ForceUseSession` makes the server answer 401 rather than with its login page.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        base_url: str,
        username: str,
        password: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._url = f"{_checked(base_url)}{_LOGIN_PATH}"
        self._username = username
        self._password = password
        self._once = _Once(monotonic)
        self._open = False
        self._proven = False

    async def headers(self) -> Mapping[str, str]:
        """Return the session's headers, logging in first when there is none; the cookies travel in the client's jar."""
        if not self._open:
            await self._once.run(self._log_in)
        token = next((cookie.value or "" for cookie in self._client.cookies.jar if cookie.name == "BPMCSRF"), "")
        return {"ForceUseSession": "true", **({"BPMCSRF": unquote(token)} if token else {})}

    async def renew(self) -> None:
        """Give the session up and log in again; requests that begin meanwhile wait for it."""
        self._open = False
        await self._once.run(self._log_in)
        self._proven = False  # only now: until here each 403 is one of the session that ended

    def ended(self, response: Response) -> bool:
        """Tell whether the session is over. So does a 403, whatever its body, if the session has worked before (creatio.md 1.2, 1.3).

        It is a bad CSRF token or a session that idled out; after one new login a 403 is what it says, a lack of rights.
        """
        if response.status == _FORBIDDEN:
            return self._proven
        over = session_over(response)
        self._proven = self._proven or (not over and response.status < _OK_BELOW)
        return over

    async def _log_in(self) -> None:
        self._client.cookies.clear()
        headers = {"Accept": "application/json", "ForceUseSession": "true"}
        raw = await _post(self._client, self._url, headers, json={"UserName": self._username, "UserPassword": self._password})
        secrets = (self._username, self._password)
        body = _json_body(raw)
        if raw.status_code >= _OK_BELOW:
            said = next(iter(messages(body)), "no reason given")
            raise _refusal(raw.status_code, said, secrets)
        if not isinstance(body, Mapping) or "Code" not in body:
            raise Denied("creatio.login_failed", "the login did not answer with JSON: check CREATIO_BASE_URL", system=SYSTEM)
        if body.get("PasswordChangeUrl"):
            raise Denied("creatio.password_expired", "", system=SYSTEM)
        if body["Code"] != 0:  # HTTP says 200 for wrong passwords too
            inner = body.get("Exception")
            reason = (inner.get("Message") if isinstance(inner, Mapping) else None) or body.get("Message") or "no reason given"
            raise Denied("creatio.login_failed", masked(str(reason), secrets), system=SYSTEM)
        self._open = True


async def _post(client: httpx.AsyncClient, url: str, headers: Mapping[str, str], **content: Any) -> httpx.Response:
    try:
        return await client.post(url, headers=dict(headers), follow_redirects=False, **content)
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, TimeoutError, OSError) as problem:
        raise Transient("creatio.unreachable", f"at the login: {type(problem).__name__}", system=SYSTEM) from problem


def _json_body(raw: httpx.Response) -> Any:
    try:
        return parse_json(raw.content)
    except ValueError:
        return None


def _refusal(status: int, said: str, secrets: tuple[str, ...]) -> TandemError:
    text = masked(f"status {status} at the login: {said}", secrets)
    if status == _THROTTLED:
        return Transient("creatio.throttled", text, system=SYSTEM)
    if status >= _SERVER_ERROR:
        return Transient("creatio.unavailable", text, system=SYSTEM)
    return Denied("creatio.login_failed", text, system=SYSTEM)


def _checked(address: str) -> str:
    url = httpx.URL(address)
    if not url.host or not (url.scheme == "https" or (url.scheme == "http" and url.host in _LOOPBACK)):
        raise ConfigError([f"address of creatio: got {url.scheme}://{url.host}, allowed https:// (http:// on this machine only)"])
    return address.rstrip("/")
