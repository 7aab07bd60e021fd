"""A Dataverse stand-in over real HTTP for one test, and adapters that talk to it."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from sandbox.control_client import Control
from sandbox.dataverse.organization import DEFAULT_CLIENT_ID
from sandbox.dataverse.server import create_app
from sandbox.dataverse.switches import Settings
from sandbox.serve import running
from sandbox.tokens import sign_token
from shared.core.records import ChangePage, KeyRange, RangeBy, Row, Write, WriteKind, WriteResult
from shared.systems.dataverse import Dataverse
from shared.systems.dataverse_connection import connect
from shared.systems.entra import EntraLogin

KEY = "a key for tests"


async def no_wait(_: float) -> None:
    """Wait for nothing: back-off is tested elsewhere."""


@dataclass(frozen=True)
class SignedToken:
    """A token as azure-identity hands it out."""

    token: str
    expires_on: int


@dataclass
class SignedCredential:
    """A credential that signs tokens itself, as Entra's stand-in would; `asked` counts them."""

    audience: str
    asked: list[str] = field(default_factory=list)
    client_id: str = DEFAULT_CLIENT_ID

    async def get_token(self, *scopes: str) -> SignedToken:
        """Sign a token."""
        self.asked.append(scopes[0])
        now = time.time()
        claims = {"aud": self.audience, "iat": now, "exp": int(now) + 3600, "appid": self.client_id}
        return SignedToken(sign_token(claims, KEY), int(now) + 3600)

    async def close(self) -> None:
        """Close nothing."""


@dataclass(frozen=True)
class Asked:
    """One request as it came over the wire, its raw target with the query, and the moment of its arrival."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Watch:
    """Writes down what reaches a stand-in, control requests aside."""

    app: Any
    seen: list[Asked] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Note a request and let it pass."""
        if scope["type"] == "http" and not scope["path"].startswith("/_control"):
            receive = await self._noted(scope, receive)
        await self.app(scope, receive, send)

    async def _noted(self, scope: Any, receive: Any) -> Any:
        parts = []
        more = True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        query = scope["query_string"].decode()
        target = scope["raw_path"].decode() + (f"?{query}" if query else "")
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        self.seen.append(Asked(scope["method"], target, headers, b"".join(parts), time.monotonic()))
        messages = iter([{"type": "http.request", "body": b"".join(parts), "more_body": False}])

        async def again() -> Any:
            return next(messages, None) or await receive()

        return again

    def of(self, method: str, text: str = "") -> list[Asked]:
        """Return the requests of a method whose target holds a text."""
        return [asked for asked in self.seen if asked.method == method and text in asked.target]


@dataclass
class Site:
    """One running stand-in."""

    url: str
    control: Control
    credential: SignedCredential
    watch: Watch
    _adapters: list[Dataverse] = field(default_factory=list)

    def dataverse(self, *, login: Any = None, **options: Any) -> Dataverse:
        """Make an adapter with a client of its own."""
        login = login or EntraLogin(lambda: self.credential, f"{self.url}/.default")
        made = connect(f"{self.url}/api/data/v9.2", login, **{"sleep": no_wait, **options})
        self._adapters.append(made)
        return made

    async def misbehave(self, **rule: Any) -> None:
        """Put one rule of misbehaviour in force."""
        await self.control.chaos({"seed": 1, "rules": [rule]})

    async def close(self) -> None:
        """Close what the test opened."""
        for adapter in self._adapters:
            await adapter.close()
        await self.control.close()


@asynccontextmanager
async def site(**settings: Any) -> AsyncIterator[Site]:
    """Run a stand-in."""
    watch = Watch(create_app(token_key=KEY, settings=Settings(**settings)))
    async with running(watch) as url:
        made = Site(url, Control("dataverse", url), SignedCredential(url), watch)
        try:
            yield made
        finally:
            await made.close()


async def pages(adapter: Dataverse, columns: Sequence[str], position: str | None = None, **more: Any) -> list[ChangePage]:
    """Return all pages of the accounts' change feed."""
    return [page async for page in adapter.changes("account", columns, position, more.get("since"))]


async def one(adapter: Dataverse, kind: WriteKind, key: str, values: Mapping[str, Any], seen: Row | None = None) -> WriteResult:
    """Write one account."""
    (result,) = await adapter.write("account", [Write(kind, key, values, seen)])
    return result


def new_id() -> str:
    """Return a fresh guid."""
    return str(uuid.uuid4())


def parts(asked: Asked) -> list[tuple[str, dict[str, str], Any]]:
    """Return the operations of a batch: request line, headers in lower case, JSON body (None: none)."""
    found = []
    for piece in asked.body.decode().split("Content-Transfer-Encoding: binary\r\n")[1:]:
        message = piece.removeprefix("\r\n") if piece.startswith("\r\n") else piece.partition("\r\n\r\n")[2]
        head, _, body = message.partition("\r\n\r\n")
        line, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        text = body.partition("\r\n--")[0].strip()
        found.append((line, headers, json.loads(text) if text else None))
    return found


def sent(org: Site) -> list[tuple[str, dict[str, str], Any]]:
    """Return all operations of all batches."""
    return [part for asked in org.watch.of("POST", "$batch") for part in parts(asked)]


async def over_the_wire(org: Site, method: str, path: str, body: Any = None) -> httpx.Response:
    """Send one request as another client does."""
    url = path if path.startswith("http") else f"{org.url}/api/data/v9.2/{path}"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {(await org.credential.get_token('')).token}"}) as http:
        return await http.request(method, url, json=body)


async def everything_read(org: Site) -> None:
    """Read in every way that the adapter knows."""
    adapter = org.dataverse(page_size=10)
    ids = await org.control.seed("account", [{"name": f"A{at}", "createdon": "2026-03-01T12:00:00Z"} for at in range(35)])
    position = (await pages(adapter, ["name"]))[-1].position
    await pages(adapter, ["name"], position)
    await adapter.read("account", ids, ["name"])
    await adapter.find("account", [{"name": "A1"}, {"name": "A2"}], ["name"])
    await adapter.users()
    part = KeyRange(RangeBy.CREATED, datetime(2000, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC), 35)
    assert [found async for found in adapter.ranges("account", RangeBy.CREATED, None, None, 100)]
    following = None
    while True:
        page = await adapter.read_range("account", part, ["name"], following, 10)
        following = page.following
        if following is None:
            return
