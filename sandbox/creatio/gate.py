"""Let callers in: forms login and logout, cookies with ForceUseSession and BPMCSRF, bearer tokens (creatio.md 1).

A dead session answers as the setting `session_answer` says; `auto` is 401 with ForceUseSession, else a redirect to the
login page of the flavour. A service (`.svc`) answers its own JSON. A dead token is 401, or what the setting says.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from sandbox.control import Clock, Counts, Switches
from sandbox.creatio.errors import HTML, JSON, odata_error
from sandbox.creatio.sessions import Session, Sessions
from sandbox.creatio.settings import CreatioSettings

LOGIN_PAGES = {"NF": "/Login/NuiLogin.aspx", "NC": "/Login/Login.html"}
_SUPERVISOR = ("Supervisor", "Supervisor")
_SERVICE_REFUSAL = {
    "Message": "Authentication failed.",
    "StackTrace": None,
    "ExceptionType": "System.InvalidOperationException",
}


@dataclass(frozen=True)
class Entry:
    """Say who came in, and which cookies to set on the answer."""

    user: str
    cookies: Mapping[str, str] = field(default_factory=dict)
    session: Session | None = None


class Gate:
    """Decide who may call, and when."""

    def __init__(self, switches: Switches[CreatioSettings], sessions: Sessions, clock: Clock, counts: Counts) -> None:
        self._switches = switches
        self._sessions = sessions
        self._clock = clock
        self._counts = counts
        self._calls: Counter[tuple[str, str]] = Counter()

    def enter(self, request: Request) -> Entry | Response:
        """Return who calls, or the answer that turns him away."""
        entry = self._entry(request)
        return entry if isinstance(entry, Response) else self._within_quota(entry)

    def _entry(self, request: Request) -> Entry | Response:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            user = self._sessions.bearer_user(token.strip())
            return self._dead_token(request) if user is None else self._enter_by_token(request, user)
        forced = request.headers.get("forceusesession", "").lower() == "true"
        settings = self._switches.current
        session: Session | None = None
        if forced or not settings.require_force_use_session:
            session = self._sessions.find(read_cookies(request.headers.get("cookie", "")))
        if session is None or settings.password_expired:
            return self._dead_session(request, forced=forced and not settings.password_expired)
        sent = request.headers.get("bpmcsrf")
        if sent is None or sent not in {session.csrf, session.csrf_before} or not self._newer_token_fits(request, session):
            return self.csrf_refusal()
        return Entry(session.user, self._sessions.fresh_cookies(session), session)

    def _newer_token_fits(self, request: Request, session: Session) -> bool:
        if not self._switches.current.crt_csrf_header or "CRT_CSRF" not in session.cookies:
            return True
        return request.headers.get("crt_csrf") == session.cookies["CRT_CSRF"]

    def csrf_refusal(self) -> Response:
        """Answer a call that lacks the token against forgery, or has a wrong one."""
        if self._switches.current.csrf_body == "html":
            return Response("<html><body>Forbidden</body></html>", 403, {"content-type": HTML})
        return Response(status_code=403)

    def _within_quota(self, entry: Entry) -> Entry | Response:
        settings = self._switches.current
        day = (entry.user, self._clock.now().date().isoformat())
        self._calls[day] += 1
        if 0 < settings.daily_calls < self._calls[day]:
            body = odata_error("The daily limit of API calls has been reached.", kind="System.InvalidOperationException")
            return Response(body, settings.quota_status, {"content-type": JSON})
        return entry

    @contextlib.asynccontextmanager
    async def turn(self, entry: Entry) -> AsyncIterator[None]:
        """Let a call work when it is its turn: calls of one session may have to wait for each other (creatio.md 3)."""
        settings = self._switches.current
        lock = entry.session.lock if entry.session is not None and settings.session_lock else contextlib.nullcontext()
        async with lock:
            with self._counts.working("calls of a session" if entry.session is not None else "calls by token"):
                if settings.work_seconds:
                    await asyncio.sleep(settings.work_seconds)
                yield

    def _enter_by_token(self, request: Request, user: str) -> Entry | Response:
        """Let a bearer in; with cookies on it, it is judged as a cookie call too and needs the token against forgery."""
        if not self._switches.current.bearer_cookies:
            return Entry(user)
        if request.headers.get("cookie"):
            return Entry(user) if "bpmcsrf" in request.headers else Response(status_code=403)
        return Entry(user, self._sessions.bearer_cookies())

    async def log_in(self, request: Request) -> Response:
        """Answer a login: always 200, the verdict is `Code` in the body."""
        try:
            body = json.loads(await request.body())
            given = (str(body["UserName"]), str(body["UserPassword"]))
        except (ValueError, KeyError, TypeError):
            given = ("", "")
        settings = self._switches.current
        if settings.login_refused == "403":
            return Response("<html><body>Access denied</body></html>", 403, {"content-type": HTML})
        if settings.login_refused == "code":
            return _verdict(1, "Access from this IP address is not allowed.")
        if given not in {(settings.username, settings.password), _SUPERVISOR}:
            return _verdict(1, "Invalid username or password specified, or your account is blocked.")
        session = self._sessions.log_in(given[0])
        bounce = f"/0{LOGIN_PAGES['NF']}?changePassword" if settings.password_expired else None
        home = "/0/Shell" if settings.flavour == "NF" else None
        response = _verdict(0, "", password_url=bounce, home=home, modern=settings.modern_cookies)
        set_cookies(response, session.cookies)
        return response

    def log_out(self, request: Request) -> Response:
        """End the caller's session."""
        self._sessions.log_out(read_cookies(request.headers.get("cookie", "")))
        return Response(status_code=200)

    def _dead_token(self, request: Request) -> Response:
        if self._switches.current.session_answer == "auto":
            return Response(status_code=401, headers={"www-authenticate": 'Bearer error="invalid_token"'})
        return self._dead_session(request, forced=True)

    def _dead_session(self, request: Request, *, forced: bool) -> Response:
        settings = self._switches.current
        if request.url.path.lower().partition(".svc")[1]:
            return Response(json.dumps(_SERVICE_REFUSAL), 401, {"content-type": JSON})
        answer = settings.session_answer
        if answer == "auto":
            answer = "401" if forced else "302"
        if answer in {"401", "403"}:
            return Response(status_code=int(answer))
        if answer == "svc":
            return Response(json.dumps(_SERVICE_REFUSAL), 401, {"content-type": JSON})
        if answer == "200":
            return login_page(settings.flavour)
        location = f"{LOGIN_PAGES[settings.flavour]}?ReturnUrl={request.url.path}"
        moved = f'<html><head><title>Object moved</title></head><body><h2>Object moved to <a href="{location}">here</a>'
        return Response(f"{moved}.</h2></body></html>", int(answer), {"location": location, "content-type": HTML})


def login_page(flavour: str) -> Response:
    """Return the login page, where redirects of dead sessions lead."""
    script = '<script>require(["bootstrap.login"]);</script>' if flavour == "NC" else "<form id='loginForm'></form>"
    page = f"<!DOCTYPE html><html><head><title>Creatio</title></head><body>{script}</body></html>"
    return Response(page, 200, {"content-type": HTML})


def read_cookies(header: str) -> dict[str, str]:
    """Read a Cookie header without any idea of what a value may hold: Creatio's hold `|`, `/` and `=`."""
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return {name: value for name, _, value in pairs if name}


def set_cookies(response: Response, cookies: Mapping[str, str]) -> None:
    """Set cookies as Creatio does: raw values, scripts may read BPMCSRF only."""
    for name, value in cookies.items():
        attributes = "; path=/; SameSite=Lax"
        if name not in {"BPMCSRF", "CRT_CSRF"}:
            attributes += "; HttpOnly"
        if name == "UserName":
            attributes += "; expires=Fri, 31 Dec 2100 23:59:59 GMT"
        response.raw_headers.append((b"set-cookie", f"{name}={value}{attributes}".encode("latin-1")))


def _verdict(
    code: int,
    message: str,
    *,
    password_url: str | None = None,
    home: str | None = None,
    modern: bool = False,
) -> Response:
    exception = None
    if code:
        exception = {
            "HelpLink": None,
            "InnerException": None,
            "Message": message,
            "StackTrace": None,
            "Type": "System.Security.SecurityException",
        }
    body = {"Code": code, "Message": message, "Exception": exception}
    body |= {"PasswordChangeUrl": password_url, "RedirectUrl": home}
    if modern and not code:
        body["UserType"] = "General"
    return Response(json.dumps(body), 200, {"content-type": JSON})
