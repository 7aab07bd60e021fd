"""What the static server knows beside accounts: metadata, lookups and users, asked of the stand-ins once and kept as they answered."""

import json
import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from bench.static_dataverse import ROOT as DATAVERSE_ROOT
from bench.static_dataverse import SOURCE_SET
from bench.static_wire import Answer, Asked
from sandbox.creatio.app import create_creatio
from sandbox.dataverse.organization import DEFAULT_CLIENT_ID
from sandbox.dataverse.server import create_app
from sandbox.tokens import sign_token
from shared.core.records import Side
from tests.unit.mapped_world import USERS

_KEY: Final = "a key for the benchmark"
_CREATIO, _IDENTITY, _DATAVERSE = "http://creatio.bench", "http://identity.bench", "http://dataverse.bench"
_KEPT_HEADERS: Final = ("content-type", "odata-version")
_TOKEN: Final = json.dumps({"access_token": "bench", "token_type": "Bearer", "expires_in": 86_400}).encode()


class StandInMetadata:
    """The stand-ins, in this process, and what they answered."""

    def __init__(self) -> None:
        """Start both, empty of accounts."""
        creatio = create_creatio()
        transports = {
            _CREATIO: httpx.ASGITransport(creatio.app),
            _IDENTITY: httpx.ASGITransport(creatio.identity),
            _DATAVERSE: httpx.ASGITransport(create_app(token_key=_KEY)),
        }
        no_cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))  # a call with a cookie would need more than its token
        self._client = httpx.AsyncClient(cookies=no_cookies, mounts={f"{address}/": transport for address, transport in transports.items()})
        self._creatio_token = ""
        self._kept: dict[str, Answer] = {}

    async def answer(self, asked: Asked) -> Answer:
        """Answer a request that is not about accounts."""
        if asked.path.endswith("/connect/token"):
            return Answer(body=_TOKEN)
        key = f"{asked.method} {asked.path}?{asked.query}"
        if key not in self._kept:
            self._kept[key] = self._own(asked) or await self._ask(asked)
        return self._kept[key]

    def _own(self, asked: Asked) -> Answer | None:
        """Return users, who need a partner on the other side, and the names of tables that are looked for by filter."""
        if asked.path == f"{DATAVERSE_ROOT}/systemusers":
            users = [{"systemuserid": one, "internalemailaddress": mail} for one, mail in USERS[Side.DYNAMICS].items()]
            return Answer(body=json.dumps({"value": users}).encode())
        if asked.path == f"{DATAVERSE_ROOT}/EntityDefinitions":
            name = "account" if "eq%20%27account%27" in asked.query.replace("+", "%20") else SOURCE_SET.removesuffix("s")
            table = {"LogicalName": name, "EntitySetName": f"{name}s", "PrimaryIdAttribute": "accountid"}
            return Answer(body=json.dumps({"value": [table]}).encode())
        return None

    async def _ask(self, asked: Asked) -> Answer:
        address, token = (_DATAVERSE, self._dataverse_token()) if asked.path.startswith("/api/data") else (_CREATIO, await self._login())
        headers = {"Authorization": f"Bearer {token}", "Accept": asked.headers.get("accept", "application/json")}
        url = f"{address}{asked.path}" + (f"?{asked.query}" if asked.query else "")
        found = await self._client.request(asked.method, url, headers=headers, content=asked.body or None)
        kept = {name: found.headers[name] for name in _KEPT_HEADERS if name in found.headers}
        return Answer(found.status_code, found.content, kept)

    def _dataverse_token(self) -> str:
        now = int(time.time())
        return sign_token({"aud": _DATAVERSE, "iat": now, "exp": now + 3600, "appid": DEFAULT_CLIENT_ID}, _KEY)

    async def _login(self) -> str:
        if not self._creatio_token:
            form = {"client_id": "tandem-client", "client_secret": "tandem-secret", "grant_type": "client_credentials"}
            found = await self._client.post(f"{_IDENTITY}/connect/token", data=form)
            self._creatio_token = found.raise_for_status().json()["access_token"]
        return self._creatio_token
