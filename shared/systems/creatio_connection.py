"""Joins transport, login and error table to a Creatio adapter."""

import ssl
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from shared.core.errors import ConfigError
from shared.systems.creatio import Creatio, creatio_error
from shared.systems.creatio_login import FormsLogin, OAuthLogin
from shared.systems.web import Login, Web


@dataclass(frozen=True)
class OAuth:
    """Client credentials for Creatio's identity service."""

    identity_url: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Forms:
    """User and password of the integration user."""

    username: str
    password: str = field(repr=False)


def connect(
    base_url: str,
    login: OAuth | Forms,
    *,
    verify: ssl.SSLContext | bool = True,
    timeout: float = 120.0,
    web: dict[str, Any] | None = None,
    **creatio: Any,
) -> Creatio:
    """Make the adapter for a site; `web` goes to `Web` (callbacks, clock, limits), the rest to `Creatio` (prefix, page size ...)."""
    client = open_client(login, verify=verify, timeout=timeout)
    transport = Web("creatio", base_url, client, _login(client, base_url, login), error=creatio_error, **(web or {}))
    name = login.username if isinstance(login, Forms) else ""
    return Creatio(transport, login_name=name, **creatio)


def open_client(login: OAuth | Forms, *, verify: ssl.SSLContext | bool = True, timeout: float = 120.0) -> httpx.AsyncClient:
    """Make the HTTP client of one account; `timeout` in seconds.

    Few connections: requests of one session may wait for each other on the server (creatio.md 3). With forms all cookies are kept,
    they are the session. With a token none is: a call that carries a session cookie may be taken for a cookie call (creatio.md 1.4).
    """
    limits = httpx.Limits(max_connections=8, max_keepalive_connections=8, keepalive_expiry=60)
    jar = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])) if isinstance(login, OAuth) else CookieJar()
    return httpx.AsyncClient(verify=verify, timeout=httpx.Timeout(timeout, connect=10.0), limits=limits, cookies=jar)


def _login(client: httpx.AsyncClient, base_url: str, login: OAuth | Forms) -> Login:
    match login:
        case OAuth():
            return OAuthLogin(client, login.identity_url, login.client_id, login.client_secret)
        case Forms():
            return FormsLogin(client, base_url, login.username, login.password)
        case _:
            raise ConfigError(["CREATIO_AUTH: got something else, allowed oauth, forms"])
