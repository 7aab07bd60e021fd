"""Fixtures and short ways for the tests of the Creatio stand-in: it is called in-process, without a socket."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from sandbox.creatio.app import Creatio, create_creatio

SUPERVISOR = "410006e1-ca4e-4502-a9ec-e54d922d2c00"
CUSTOMER = "03a75490-53e6-df11-971b-001d60e938c6"
MAIN_PHONE = "6a3fb10c-67cc-df11-9b2a-001d60e938c6"
EMPTY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Tenant:
    """One installation with a client that carries a bearer token."""

    creatio: Creatio
    http: httpx.AsyncClient

    async def get(self, path: str, **params: str) -> Any:
        answer = await self.http.get(f"/0/odata/{path}", params=params or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def rows(self, entity: str, condition: str = "", **params: str) -> list[dict[str, Any]]:
        given = {f"${key}": value for key, value in params.items()}
        if condition:
            given["$filter"] = condition
        return (await self.get(entity, **given))["value"]

    async def names(self, condition: str, entity: str = "Account", **params: str) -> list[str]:
        return [row["Name"] for row in await self.rows(entity, condition, orderby="Name", select="Name", **params)]

    async def refused(self, path: str, **params: str) -> tuple[int, str]:
        answer = await self.http.get(f"/0/odata/{path}", params=params or None)
        return answer.status_code, answer.json()["error"]["message"]

    async def post(self, entity: str, values: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self.http.post(f"/0/odata/{entity}", json=values)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def patch(self, entity: str, row_id: str, values: Mapping[str, Any]) -> httpx.Response:
        answer = await self.http.patch(f"/0/odata/{entity}({row_id})", json=values)
        assert answer.status_code == 204, answer.text
        return answer

    async def delete(self, entity: str, row_id: str) -> None:
        answer = await self.http.delete(f"/0/odata/{entity}({row_id})")
        assert answer.status_code == 204, answer.text

    async def control(self, path: str, body: Any) -> Any:
        verb = "PUT" if path in {"settings", "chaos"} else "POST"
        answer = await self.http.request(verb, f"/_control/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def settings(self, **values: Any) -> None:
        await self.control("settings", values)

    async def chaos(self, *rules: Mapping[str, Any]) -> None:
        await self.control("chaos", {"rules": rules})

    async def seed(self, entity: str, *rows: Mapping[str, Any]) -> list[str]:
        return (await self.control("seed", {"entity": entity, "rows": rows}))["ids"]

    async def edit(self, entity: str, row_id: str, user: str = "ada", **values: Any) -> dict[str, Any]:
        body = {"entity": entity, "id": row_id, "values": values, "user": user}
        return (await self.control("edit", body))["row"]

    async def stored(self, entity: str, row_id: str) -> dict[str, Any]:
        answer = await self.http.get("/_control/row", params={"entity": entity, "id": row_id})
        return answer.json()["row"]

    async def batch(self, *requests: Mapping[str, Any], **headers: str) -> list[dict[str, Any]]:
        answer = await self.http.post("/0/odata/$batch", json={"requests": requests}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["responses"]


def site(creatio: Creatio) -> httpx.AsyncClient:
    """Return a client of the application without any credentials, which follows no redirects."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(creatio.app), base_url="http://creatio.test")


async def bearer_site(creatio: Creatio) -> httpx.AsyncClient:
    """Return a client with a fresh bearer token that keeps no cookies."""
    http = site(creatio)
    http.cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    http.headers["Authorization"] = f"Bearer {await bearer(creatio)}"
    return http


def identity(creatio: Creatio) -> httpx.AsyncClient:
    """Return a client of the identity service."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(creatio.identity), base_url="http://creatio-is.test")


async def bearer(creatio: Creatio) -> str:
    """Return a fresh bearer token."""
    form = {"client_id": "tandem-client", "client_secret": "tandem-secret", "grant_type": "client_credentials"}
    async with identity(creatio) as client:
        return (await client.post("/connect/token", data=form)).json()["access_token"]


async def open_tenant() -> AsyncIterator[Tenant]:
    """Yield an empty installation (the body of each test file's `tenant` fixture)."""
    creatio = create_creatio()
    async with await bearer_site(creatio) as http:
        yield Tenant(creatio, http)
    creatio.database.close()


def part(number: int, method: str, url: str, body: Any = None, group: str | None = None) -> dict[str, Any]:
    """Return one request of a JSON batch."""
    request: dict[str, Any] = {"id": str(number), "method": method, "url": url}
    if body is not None:
        request |= {"body": body, "headers": {"Content-Type": "application/json"}}
    return request if group is None else {**request, "atomicityGroup": group}
