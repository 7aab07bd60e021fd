"""Who calls: cookie sessions with their CSRF token, and bearer tokens (creatio.md 1)."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt

from sandbox.control import Switches
from sandbox.creatio.settings import CreatioSettings

# The stand-in and its identity service may run as two processes; a fixed key is all that joins them.
SIGNING_KEY = "sandbox-key-of-the-creatio-identity-service"
_ALGORITHM = "HS256"


@dataclass
class Session:
    """Hold one login: the values of its cookies, and the CSRF tokens that are still taken."""

    user: str
    cookies: dict[str, str]
    ends_at: float
    csrf_before: str | None = None
    calls: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def csrf(self) -> str:
        """Return the token in force."""
        return self.cookies["BPMCSRF"]


@dataclass
class Sessions:
    """Keep the sessions, by the value of `.ASPXAUTH`."""

    switches: Switches[CreatioSettings]
    monotonic: Callable[[], float] = time.monotonic
    _open: dict[str, Session] = field(default_factory=dict)
    _tokens_from: float = 0.0

    def log_in(self, user: str) -> Session:
        """Open a session and return it with the cookies to set."""
        settings = self.switches.current
        if settings.one_session_per_user:
            self._open = {key: session for key, session in self._open.items() if session.user != user}
        cookies = {
            "BPMLOADER": _secret(),
            ".ASPXAUTH": _secret() + _secret(),
            "BPMCSRF": _csrf(),
            "UserName": "|".join(str(ord(char)) for char in user),
        }
        if settings.modern_cookies:
            cookies |= {"UserType": "General", "CsrfToken": _secret(), "CRT_CSRF": _secret()}
        session = Session(user, cookies, self.monotonic() + settings.session_seconds)
        self._open[cookies[".ASPXAUTH"]] = session
        return session

    def find(self, cookies: Mapping[str, str]) -> Session | None:
        """Return the session that these cookies belong to; every cookie that was set must come back."""
        session = self._open.get(cookies.get(".ASPXAUTH", ""))
        now = self.monotonic()
        if session is None or session.ends_at <= now:
            return None
        for name, value in session.cookies.items():
            sent = cookies.get(name)
            if sent != value and not (name == "BPMCSRF" and sent == session.csrf_before and sent is not None):
                return None
        session.ends_at = now + self.switches.current.session_seconds
        session.calls += 1
        return session

    def log_out(self, cookies: Mapping[str, str]) -> None:
        """End the session of these cookies."""
        self._open.pop(cookies.get(".ASPXAUTH", ""), None)

    def fresh_cookies(self, session: Session) -> dict[str, str]:
        """Return cookies to set on an answer: BPMSESSIONID on the first call, a new BPMCSRF when its time has come."""
        fresh = {}
        if session.calls == 1:
            fresh["BPMSESSIONID"] = _secret()[:24]
        every = self.switches.current.rotate_csrf_every
        if every and session.calls % every == 0:
            session.csrf_before = session.csrf
            fresh["BPMCSRF"] = session.cookies["BPMCSRF"] = _csrf()
        return fresh

    def bearer_cookies(self) -> dict[str, str]:
        """Return the cookie that the platform sets on any first answer."""
        return {"BPMSESSIONID": _secret()[:24]}

    def expire(self) -> None:
        """End all sessions and refuse all bearer tokens made so far."""
        self._open.clear()
        self._tokens_from = time.time()

    def bearer_user(self, token: str) -> str | None:
        """Return the user of a bearer token that is good, else None."""
        try:
            claims: dict[str, Any] = jwt.decode(token, SIGNING_KEY, algorithms=[_ALGORITHM])
        except jwt.InvalidTokenError:
            return None
        return str(claims["sub"]) if float(claims["made"]) > self._tokens_from else None


def make_token(settings: CreatioSettings, scope: str) -> str:
    """Return a bearer token for the API user, good for `token_seconds`."""
    now = time.time()
    claims = {
        "iss": "sandbox",
        "client_id": settings.client_id,
        "sub": settings.username,
        "scope": [scope],
        "jti": uuid.uuid4().hex,
        "made": now,
        "exp": now + settings.token_seconds,
    }
    return jwt.encode(claims, SIGNING_KEY, algorithm=_ALGORITHM)


def _secret() -> str:
    return uuid.uuid4().hex.upper()


def _csrf() -> str:
    """Return a token with the characters that trouble cookie parsers."""
    return f"{uuid.uuid4().hex[:11]}/{uuid.uuid4().hex[:6]}.{uuid.uuid4().hex[:6]}=="
