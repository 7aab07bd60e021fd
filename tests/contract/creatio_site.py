"""A Creatio stand-in with its identity service for one test, and the adapter that talks to it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import httpx

from sandbox.creatio.app import create_creatio
from sandbox.serve import AsgiApp, Receive, Scope, Send, serving
from shared.core.records import ChangePage, KeyRange
from shared.systems.creatio import Creatio, creatio_error
from shared.systems.creatio_connection import Forms, OAuth, open_client
from shared.systems.creatio_login import FormsLogin, OAuthLogin
from shared.systems.web import Web

INTEGRATION = "4d21891b-93f2-5608-b104-93714d3be012"
"""Contact of the stand-in's integration user, as its control API shows it."""


async def no_wait(_: float) -> None:
    """Wait for nothing: back-off is tested elsewhere."""


@dataclass(frozen=True)
class Operation:
    """One OData operation as it was sent: its address below the service root, headers, and body; `inside` a batch or alone."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Any = None
    inside: bool = False

    @property
    def text(self) -> str:
        """Return the address as people read it."""
        return unquote(self.url)


@dataclass
class Site:
    """One running stand-in: its control API in words, and adapters for it.

    `sent` is what the adapters sent, logins included; `before` is called with each request, ready to go, before it goes.
    """

    url: str
    identity: str
    control: httpx.AsyncClient
    sent: list[httpx.Request] = field(default_factory=list)
    before: Callable[[httpx.Request], Awaitable[None]] | None = None
    _adapters: list[Creatio] = field(default_factory=list)

    def creatio(self, *, auth: str = "oauth", timeout: float = 30, **options: Any) -> Creatio:
        """Make an adapter with a client and a login of its own."""
        client = open_client(Forms("", "") if auth == "forms" else OAuth(self.identity, "", ""), timeout=timeout)
        client.event_hooks = {"request": [self._note]}
        login = (
            FormsLogin(client, self.url, "integration", "integration-password")
            if auth == "forms"
            else OAuthLogin(client, self.identity, "tandem-client", "tandem-secret")
        )
        web = Web("creatio", self.url, client, login, error=creatio_error, sleep=no_wait)
        made = Creatio(web, **options)
        self._adapters.append(made)
        return made

    async def _note(self, request: httpx.Request) -> None:
        self.sent.append(request)
        if self.before is not None:
            await self.before(request)

    def operations(self) -> list[Operation]:
        """Return every OData operation that adapters sent, those inside batches one by one."""
        found: list[Operation] = []
        for request in self.sent:
            _, _, below = request.url.path.partition("/odata/")
            if not below:
                continue
            if below != "$batch":
                query = request.url.query.decode()
                found.append(Operation(request.method, below + (f"?{query}" if query else ""), dict(request.headers)))
                continue
            parts = json.loads(request.content, parse_float=Decimal)["requests"]
            found += [Operation(one["method"], one["url"], one["headers"], one.get("body"), inside=True) for one in parts]
        return found

    async def seed(self, rows: Sequence[Mapping[str, Any]], entity: str = "Account") -> list[str]:
        """Insert rows as they stand; return their ids."""
        return (await self._call("POST", "seed", {"entity": entity, "rows": list(rows)}))["ids"]

    async def edit(self, record_id: str, values: Mapping[str, Any], entity: str = "Account") -> None:
        """Save a record as a user."""
        await self._call("POST", "edit", {"entity": entity, "id": record_id, "values": dict(values)})

    async def delete(self, record_id: str, entity: str = "Account") -> None:
        """Delete a record as a user."""
        await self._call("POST", "delete", {"entity": entity, "id": record_id})

    async def row(self, record_id: str, entity: str = "Account") -> dict[str, Any] | None:
        """Return a stored row."""
        response = await self.control.get("/_control/row", params={"entity": entity, "id": record_id})
        return response.raise_for_status().json()["row"]

    async def administer(self, what: str, **body: str) -> None:
        """Change the schema as an administrator does: `columns/add`, `columns/remove`."""
        await self._call("POST", what, body)

    async def chaos(self, *rules: Mapping[str, Any]) -> None:
        """Put chaos rules in force."""
        await self._call("PUT", "chaos", {"seed": 1, "rules": list(rules)})

    async def settings(self, **switches: Any) -> None:
        """Set switches."""
        await self._call("PUT", "settings", switches)

    async def skew(self, seconds: float) -> None:
        """Move the server's clock."""
        await self._call("POST", "clock", {"skew_seconds": seconds})

    async def counts(self) -> dict[str, Any]:
        """Return the request counts."""
        return (await self.control.get("/_control/requests")).raise_for_status().json()

    async def reset_counts(self) -> None:
        """Count from zero."""
        await self._call("POST", "requests/reset", {})

    async def close(self) -> None:
        """Close the adapters."""
        for adapter in self._adapters:
            await adapter.close()

    async def _call(self, method: str, path: str, body: Any) -> Any:
        response = await self.control.request(method, f"/_control/{path}", json=body)
        assert response.is_success, response.text
        return response.json() if response.content else None


@dataclass
class Door:
    """An address that leads to the app of the test in hand: a server starts once a module, a fresh stand-in for each test."""

    app: AsgiApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the present app."""
        assert self.app is not None
        await self.app(scope, receive, send)


@dataclass(frozen=True)
class Doors:
    """The addresses of a stand-in and of its identity service."""

    site: Door
    site_url: str
    identity: Door
    identity_url: str

    @asynccontextmanager
    async def creatio(self, **settings: Any) -> AsyncIterator[Site]:
        """Put a fresh stand-in behind the doors, with some switches set."""
        made = create_creatio(settings)
        self.site.app, self.identity.app = made.app, made.identity
        async with httpx.AsyncClient(base_url=self.site_url, timeout=30) as control:
            site = Site(self.site_url, self.identity_url, control)
            try:
                yield site
            finally:
                await site.close()


@contextmanager
def open_doors() -> Iterator[Doors]:
    """Serve both doors."""
    site, identity = Door(), Door()
    with serving(site) as site_url, serving(identity) as identity_url:
        yield Doors(site, site_url, identity, identity_url)


async def walk(adapter: Creatio, position: str | None = None, *, since: Any = None, entity: str = "Account") -> list[ChangePage]:
    """Read a chain of changes to its end, as a poll does."""
    return [page async for page in adapter.changes(entity, ("Name",), position, since)]


async def ids_in(adapter: Creatio, part: KeyRange, *, columns: Sequence[str] = ("Name",), size: int = 100) -> list[str]:
    """Read a range of accounts to its end; return the ids, in the order in which they came."""
    ids, position, more = list[str](), None, True
    while more:
        page = await adapter.read_range("Account", part, columns, position, size)
        ids += page.rows
        position, more = page.following, page.following is not None
    return ids


def ids_of(pages: Sequence[ChangePage]) -> list[str]:
    """Return the ids announced by some pages, in order."""
    return [change.id for page in pages for change in page.changes]
