"""Joins transport, error table and limits to a Dataverse adapter."""

import re
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from shared.systems.dataverse import Dataverse
from shared.systems.dataverse_errors import SYSTEM, request_error
from shared.systems.web import Login, Response, Web, is_loopback


def same_environment(base_url: str) -> Callable[[httpx.URL], bool]:
    """Return a predicate: a link leads to the environment itself, with or without `.api.` in the host (dataverse.md 1)."""
    base = httpx.URL(base_url)

    def plain(host: str) -> str:
        return re.sub(r"^([^.]+)\.api\.(crm\d*\.)", r"\1.\2", host)

    return lambda url: (url.scheme, plain(url.host), url.port) == (base.scheme, plain(base.host), base.port)


def recommended_parallelism(response: Response) -> int | None:
    """Read `x-ms-dop-hint` (dataverse.md 7)."""
    text = response.headers.get("x-ms-dop-hint", "")
    return int(text) if re.fullmatch(r"[1-9]\d{0,3}", text) else None


def connect(
    base_url: str,
    login: Login,
    *,
    verify: Any = True,
    timeout: float = 120.0,
    page_size: int = 1000,
    bulk_size: int = 500,
    **web: Any,
) -> Dataverse:
    """Make the adapter for `https://<env>.crmN.dynamics.com/api/data/v9.2`.

    `verify` is True or an ssl.SSLContext, `timeout` in seconds, sizes in rows, `web` goes to `Web` (callbacks, clock, limits).
    Cookies are dropped, so that requests spread over the environment's servers, whose limits add up (dataverse.md 7). Reads may take as
    long as writes: heavy queries do.
    """
    client = httpx.AsyncClient(
        verify=verify,
        timeout=httpx.Timeout(timeout, connect=10.0),
        limits=httpx.Limits(max_connections=32, max_keepalive_connections=16),
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        trust_env=not is_loopback(httpx.URL(base_url)),  # a proxy can't reach a stand-in on this machine
    )
    transport = Web(
        SYSTEM,
        base_url,
        client,
        login,
        error=request_error,
        allowed=same_environment(base_url),
        hint=recommended_parallelism,
        **web,
    )
    return Dataverse(transport, page_size=page_size, bulk_size=bulk_size)
