"""A client of the stand-ins' control API: fill, act as a user, read back, count, misbehave (see sandbox/control.py)."""

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from sandbox.child import SandboxError

Row = dict[str, Any]


class Control:
    """The control API of one stand-in; close it when done."""

    def __init__(self, name: str, address: str, ca_file: Path | None = None, timeout_seconds: float = 60.0) -> None:
        self.name = name
        trust = ssl.create_default_context(cafile=ca_file) if address.startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # No proxy of this machine's environment may come between a test and its own loopback servers.
        self._client = httpx.AsyncClient(base_url=f"{address}/_control", verify=trust, timeout=timeout_seconds, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def health(self) -> bool:
        """Tell whether the stand-in answers."""
        try:
            return bool((await self._ask("GET", "/health"))["ok"])
        except (SandboxError, httpx.TransportError):
            return False

    async def seed(self, entity: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Insert rows as they stand and return their ids."""
        return [str(row_id) for row_id in (await self._ask("POST", "/seed", {"entity": entity, "rows": list(rows)}))["ids"]]

    async def edit(self, entity: str, row_id: str, values: Mapping[str, Any], user: str | None = None) -> Row:
        """Change a row as a user does and return it."""
        return _row(await self._ask("POST", "/edit", _as_user({"entity": entity, "id": row_id, "values": dict(values)}, user)))

    async def create(self, entity: str, values: Mapping[str, Any], user: str | None = None) -> Row:
        """Create a row as a user does and return it."""
        return _row(await self._ask("POST", "/create", _as_user({"entity": entity, "values": dict(values)}, user)))

    async def delete(self, entity: str, row_id: str, user: str | None = None) -> None:
        """Delete a row as a user does."""
        await self._ask("POST", "/delete", _as_user({"entity": entity, "id": row_id}, user))

    async def merge(self, entity: str, winner: str, loser: str) -> Row:
        """Merge two rows as a user does and return the loser (Dataverse only)."""
        return _row(await self._ask("POST", "/merge", {"entity": entity, "winner": winner, "loser": loser}))

    async def rows(self, entity: str, limit: int | None = None, offset: int = 0) -> list[Row]:
        """Return stored rows, ordered by id; all of them without a limit."""
        query = f"/rows?entity={entity}&offset={offset}" + (f"&limit={limit}" if limit is not None else "")
        return list((await self._ask("GET", query))["rows"])

    async def row(self, entity: str, row_id: str) -> Row | None:
        """Return one stored row."""
        found = (await self._ask("GET", f"/row?entity={entity}&id={row_id}"))["row"]
        return None if found is None else dict(found)

    async def snapshot(self, name: str) -> None:
        """Keep the whole installation as it is under a name: rows, columns, versions, change log."""
        await self._ask("POST", "/snapshot", {"name": name})

    async def restore(self, name: str) -> None:
        """Bring a kept installation back, as a backup that an administrator restores; what happened since then never was."""
        await self._ask("POST", "/restore", {"name": name})

    async def rights(self, entity: str, *, read: bool = True, write: bool = True) -> None:
        """Set which rights on one object the integration user has."""
        await self._ask("POST", "/rights", {"entity": entity, "read": read, "write": write})

    async def remove_column(self, entity: str, column: str) -> None:
        """Take a column away, with its values."""
        await self._ask("POST", "/columns/remove", {"entity": entity, "column": column})

    async def add_column(self, entity: str, column: str) -> None:
        """Add an empty column: one that was taken away as it was, any other one as text."""
        await self._ask("POST", "/columns/add", {"entity": entity, "column": column})

    async def add_entity(self, entity: str, columns: Mapping[str, Mapping[str, Any]]) -> None:
        """Add a custom object with these columns, described as in the stand-in's metadata file."""
        await self._ask("POST", "/entities/add", {"entity": entity, "columns": columns})

    async def requests(self) -> dict[str, Any]:
        """Return the counts: total, operations, writes, by, most (in work at one time)."""
        return dict(await self._ask("GET", "/requests"))

    async def reset_requests(self) -> None:
        """Set the counts back to nothing."""
        await self._ask("POST", "/requests/reset", {})

    async def chaos(self, rules: Mapping[str, Any]) -> None:
        """Put rules of misbehaviour in force, in place of all earlier ones: `{"seed": n, "rules": [...]}`."""
        await self._ask("PUT", "/chaos", dict(rules))

    async def calm(self) -> None:
        """Take all rules of misbehaviour away."""
        await self._ask("DELETE", "/chaos")

    async def switch(self, **settings: Any) -> None:
        """Change settings of the stand-in while it runs."""
        await self._ask("PUT", "/settings", settings)

    async def skew_clock(self, seconds: float) -> None:
        """Move the server's clock."""
        await self._ask("POST", "/clock", {"skew_seconds": seconds})

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self._client.request(method, path, json=body)
        if answer.is_error:
            raise SandboxError(f"{self.name}: control request {method} {path} was answered with {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None


def _row(answer: Any) -> Row:
    return dict(answer["row"])


def _as_user(body: dict[str, Any], user: str | None) -> dict[str, Any]:
    return body if user is None else body | {"user": user}
