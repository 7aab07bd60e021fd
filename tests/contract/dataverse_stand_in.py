"""Short ways for the tests of the Dataverse stand-in: it is called in-process, without a socket."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from sandbox.dataverse.organization import DEFAULT_CLIENT_ID
from sandbox.dataverse.server import create_app
from sandbox.dataverse.switches import Settings
from sandbox.tokens import sign_token

ORIGIN = "http://contoso.test"
API = f"{ORIGIN}/api/data/v9.2"
KEY = "a key for tests"
JSON = "application/json"


def token(audience: str = ORIGIN, client_id: str = DEFAULT_CLIENT_ID, expires_in: float = 600, key: str = KEY) -> str:
    """Sign a token as Entra's stand-in does."""
    now = time.time()
    return sign_token({"aud": audience, "iat": now, "exp": int(now + expires_in), "appid": client_id}, key)


@dataclass(frozen=True)
class Organization:
    """One organisation with a client that carries a bearer token; ``app`` is the whole stand-in."""

    http: httpx.AsyncClient
    app: Any

    async def send(self, method: str, path: str, body: Any = None, prefer: str = "", **headers: str) -> httpx.Response:
        """Send a request below the API root; header names have underscores for hyphens."""
        given = {name.replace("_", "-"): value for name, value in headers.items()} | ({"Prefer": prefer} if prefer else {})
        url = path if path.startswith("http") else f"{API}/{path}"
        return await self.http.request(method, url, json=body, headers=given)

    async def get(self, path: str, prefer: str = "", **params: str) -> dict[str, Any]:
        """Read and expect 200; query options without their ``$``."""
        url = path if path.startswith("http") else f"{API}/{path}"
        options = {f"${name}": value for name, value in params.items()} or None
        answer = await self.http.get(url, params=options, headers={"Prefer": prefer} if prefer else {})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def create(self, entity_set: str = "accounts", **values: Any) -> str:
        """Create a row and return its id."""
        answer = await self.send("POST", entity_set, values)
        assert answer.status_code == 204, answer.text
        return answer.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")

    async def refused(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, str]:
        """Send and return status, code and message of the error."""
        answer = await self.send(method, path, body, **headers)
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["message"]

    async def names(self, condition: str, **params: str) -> list[str]:
        """Return the names of the accounts a filter finds, sorted."""
        found = await self.get("accounts", filter=condition, select="name", **params)
        return sorted(row["name"] for row in found["value"])

    async def control(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Call the control API and expect success."""
        verb = "PUT" if path in {"settings", "chaos"} and body is not None else method
        answer = await self.http.request(verb, f"{ORIGIN}/_control/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def chaos(self, **rule: Any) -> None:
        """Put one rule in force."""
        await self.control("chaos", {"rules": [rule]})

    async def seed(self, *rows: Mapping[str, Any], entity: str = "account") -> list[str]:
        """Seed rows and return their ids."""
        return (await self.control("seed", {"entity": entity, "rows": rows}))["ids"]

    async def edit(self, row_id: str, entity: str = "account", **values: Any) -> dict[str, Any]:
        """Edit a row as a user does."""
        return (await self.control("edit", {"entity": entity, "id": row_id, "values": values}))["row"]

    async def stored(self, row_id: str, entity: str = "account") -> dict[str, Any] | None:
        """Return a stored row."""
        return (await self.control(f"row?entity={entity}&id={row_id}", method="GET"))["row"]

    async def batch(self, body: bytes, boundary: str = "b", **headers: str) -> httpx.Response:
        """Post a batch."""
        given = {"Content-Type": f'multipart/mixed; boundary="{boundary}"', **{n.replace("_", "-"): v for n, v in headers.items()}}
        return await self.http.post(f"{API}/$batch", content=body, headers=given)


@asynccontextmanager
async def opened(database: object = ":memory:", **settings: Any) -> AsyncIterator[Organization]:
    """Open an organisation, a new one in memory unless a file is named, with some switches set."""
    app = create_app(token_key=KEY, database=str(database), settings=Settings(**settings))
    headers = {"Authorization": f"Bearer {token()}", "Accept": JSON}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), headers=headers) as http:
        yield Organization(http, app)


def part(method: str, target: str, body: str = "", content_id: str = "", **headers: str) -> bytes:
    """Write one operation of a batch, without boundary."""
    outer = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
    outer += f"Content-ID: {content_id}\r\n" if content_id else ""
    given = ({"Content-Type": JSON} if body else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    path = target if target.startswith(("/", "http", "$")) else f"/api/data/v9.2/{target}"
    return f"{outer}\r\n{method} {path} HTTP/1.1\r\n{lines}\r\n{body}".encode()


def multipart(*parts: bytes, boundary: str = "b") -> bytes:
    """Join parts as one body."""
    return b"".join(b"--" + boundary.encode() + b"\r\n" + one + b"\r\n" for one in parts) + f"--{boundary}--\r\n".encode()


def change_set(*parts: bytes, boundary: str = "c") -> bytes:
    """Write a change set as one part of a batch."""
    return f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'.encode() + multipart(*parts, boundary=boundary)[:-2]
