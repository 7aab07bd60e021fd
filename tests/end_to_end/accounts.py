"""What the end-to-end tests of accounts share: a running sandbox, people on both sides, and looks at what became of their work."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sandbox.compare import Comparison, compare
from sandbox.control_client import Control, Row
from sandbox.observe import SYSTEMS, Observer
from sandbox.processes import Sandbox

FLOW = "sales.account"
NEVER = "0 0 0 1 1 *"
"""A schedule that does not come up while a test runs: the test fires the timer by hand."""
EACH_SECOND = "* * * * * *"


@dataclass(frozen=True)
class Pair:
    """An account that both sides have."""

    creatio: str
    dynamics: str


@dataclass
class House:
    """The running app between its two systems."""

    sandbox: Sandbox
    observer: Observer
    client: httpx.AsyncClient
    polled_at: float = field(default=0.0)

    @property
    def creatio(self) -> Control:
        """Return Creatio, as its users and its administrator see it."""
        return self.sandbox.control("creatio")

    @property
    def dynamics(self) -> Control:
        """Return Dynamics, likewise."""
        return self.sandbox.control("dataverse")

    async def poll(self) -> None:
        """Fire the poll timer once; the flow's interval of a second has passed by then."""
        await asyncio.sleep(max(0.0, self.polled_at + 1.2 - time.monotonic()))
        headers = {"x-functions-key": self.sandbox.master_key}
        answer = await self.client.post(f"{self.sandbox.host}/admin/functions/poll_flows", headers=headers, json={})
        assert answer.status_code == 202, answer.text
        self.polled_at = time.monotonic()

    async def status(self) -> dict[str, Any]:
        """Return what GET /api/status says."""
        answer = await self.client.get(f"{self.sandbox.host}/api/status", headers={"x-functions-key": self.sandbox.master_key})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def ask(self, method: str, path: str, **parameters: str) -> Any:
        """Ask the app's own API something, as an operator does, and return its answer."""
        headers = {"x-functions-key": self.sandbox.master_key}
        answer = await self.client.request(method, f"{self.sandbox.host}/api/{path}", params=parameters, headers=headers)
        assert answer.is_success, f"{method} {path} {parameters}: {answer.status_code} {answer.text}"
        return answer.json()

    async def flow(self, name: str = FLOW) -> dict[str, Any]:
        """Return the part of the status that is about a flow, accounts unless told."""
        return dict((await self.status())["flows"][name])

    async def failures(self, record: str, flow: str = FLOW) -> dict[str, str]:
        """Return the codes of a record's failures, by field."""
        return {failure["field"]: failure["code"] for failure in (await self.flow(flow))["failures"] if failure["record"] == record}

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
        """Wait until something is true; the test fails, with what the app says about itself, when it does not come true in time."""
        if await self.observer.until(condition, seconds) is None:
            raise AssertionError(f"not within {seconds:g} s: {what}; status: {await self.status()}")

    async def gets(self, control: Control, row_id: str, values: Mapping[str, Any], seconds: float = 30.0, *, of: str = "account") -> None:
        """Wait until a row, of an account unless told, holds these values."""
        entity = of.title() if control is self.creatio else of

        async def arrived() -> bool:
            row = await control.row(entity, row_id) or {}
            return all(row.get(name) == value for name, value in values.items())

        await self.until(arrived, f"{control.name} {row_id} has {dict(values)}; it has {await control.row(entity, row_id)}", seconds)

    async def calm(self, seconds: float = 30.0, still: float = 1.5, *, orphans: bool = False) -> None:
        """Wait until no message is left, no batch is open and nothing was written for a while.

        What a flow holds while it asks a person does not count. With `orphans` open batches do not count at all: rows whose message a
        dying host did not send any more wait for the watch.
        """
        since, before = time.monotonic(), -1

        async def quiet() -> bool:
            nonlocal since, before
            status = await self.status()
            writes = await self.writes()
            opened = any(flow["open_batches"] for flow in status["flows"].values() if flow["asking"] is None)
            idle = not any(status["queues"].values()) and (orphans or not opened)
            if not idle or writes != before:
                since, before = time.monotonic(), writes
            return time.monotonic() - since >= still

        await self.until(quiet, "there is nothing left to do", seconds)

    async def writes(self) -> int:
        """Return how many records the app wrote so far, on both sides."""
        return sum([await self.observer.writes(name) for name in SYSTEMS])

    async def in_creatio(self, **values: Any) -> list[Row]:
        """Return the accounts of Creatio that have these values."""
        return [row for row in await self.creatio.rows("Account") if all(row[name] == value for name, value in values.items())]

    async def in_dynamics(self, **values: Any) -> list[Row]:
        """Return the accounts of Dynamics that have these values."""
        return [row for row in await self.dynamics.rows("account") if all(row[name] == value for name, value in values.items())]

    async def pair(self, code: str) -> Pair:
        """Return the one account with this number on each side; the test fails when there is not exactly one each."""
        left, right = await self.in_creatio(Code=code), await self.in_dynamics(accountnumber=code)
        assert (len(left), len(right)) == (1, 1), f"{code}: {len(left)} in Creatio, {len(right)} in Dynamics"
        return Pair(left[0]["Id"], right[0]["accountid"])

    async def are_paired(self, codes: list[str], seconds: float = 45.0) -> None:
        """Wait until each number is on both sides and the Creatio id stands in Dynamics."""

        async def arrived() -> bool:
            left = {row["Code"]: row["Id"] for row in await self.creatio.rows("Account")}
            right = {row["accountnumber"]: row["tandem_creatioid"] for row in await self.dynamics.rows("account")}
            return all(code in left and left[code] == right.get(code) for code in codes)

        await self.until(arrived, f"{codes} are on both sides", seconds)

    async def troubles(self, control: Control) -> list[dict[str, Any]]:
        """Return the rules of misbehaviour in force at a stand-in, each with how often it fired."""
        address = self.sandbox.creatio if control is self.creatio else self.sandbox.dataverse
        return list((await self.client.get(f"{address}/_control/chaos")).json()["rules"])

    async def compared(self) -> Comparison:
        """Compare every mapped field of every account."""
        return await compare(self.observer.app.services, FLOW, self.creatio, self.dynamics)

    async def assert_same(self) -> None:
        """Fail when a field differs, a record has no partner, or something is left for a person."""
        assert [str(difference) for difference in (await self.compared()).differences] == []
        flow = await self.flow()
        assert (flow["started"], flow["failures"], flow["conflicts"]) == (True, [], [])


@asynccontextmanager
async def open_house(
    directory: Path,
    *,
    poll_schedule: str = EACH_SECOND,
    time_scale: float = 1.0,
    settings: Mapping[str, str] | None = None,
    before_host: Callable[[Sandbox], Awaitable[None]] | None = None,
    chaos: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[House]:
    """Run everything for the length of a block; accounts and contacts alone, unless the settings name other flows."""
    chosen = {"FLOWS": "sales.account,sales.contact", **(settings or {})}
    async with Sandbox.start(directory, chaos, poll_schedule, time_scale, settings=chosen, before_host=before_host) as sandbox:
        observer = Observer.of(sandbox)
        async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
            try:
                yield House(sandbox, observer, client)
            finally:
                await observer.close()
