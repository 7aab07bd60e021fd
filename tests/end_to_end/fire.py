"""The whole app under fire: servers misbehave, users work on both sides, the host is killed again and again; then everybody rests."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from sandbox.compare import compare
from sandbox.processes import Sandbox
from tests.end_to_end.accounts import NEVER, House, open_house
from tests.end_to_end.fire_journal import CREATIO, DYNAMICS, Column, Court, CreatioPast, Edit, Verdict
from tests.end_to_end.fire_users import ACCOUNTS, CONTACTS, KINDS, USER, Users

INJECTED = {"before_write": Column("Fax", "fax"), "after_write": Column("Web", "websiteurl")}
"""Where a user of Creatio saves in the middle of our batch, and the field that he writes."""
_ROUNDS = 3


@dataclass(frozen=True)
class Plan:
    """How hot it gets. `seconds` is the longest life of a host, `patience` the longest wait for the rest.

    What died in a host's hands returns after ten minutes of the host's clock, the slots that it leased after ten minutes of true time.
    """

    seed: int
    kills: int
    time_scale: float
    accounts: int = 30
    contacts: int = 18
    seconds: float = 3.0
    settings: Mapping[str, str] = field(default_factory=dict)
    patience: float = 75.0


@dataclass
class Fire:
    """One run: the house, the users' journal, and the moments of the kills."""

    house: House
    plan: Plan
    dice: random.Random
    numbers: "count[int]"
    journal: list[Edit]
    created: set[str]
    past: CreatioPast
    kills: list[float] = field(default_factory=list)

    def users(self, side: str) -> Users:
        """Return the people of a side."""
        control = self.house.sandbox.control(side)
        seed = self.dice.randrange(1_000_000)
        file = self.house.sandbox.directory / "dataverse.db"
        return Users(side, control, random.Random(seed), self.numbers, self.journal, self.created, file)

    async def burn(self) -> None:
        """Let everybody work and kill the host so often; at the end the host runs, the servers behave and the users rest."""
        everybody = [self.users(CREATIO), self.users(DYNAMICS)]
        over = asyncio.Event()
        for users in everybody:
            await users.control.chaos({"seed": self.plan.seed, "rules": self._rules(users.side)})
        work = [asyncio.create_task(users.work(over)) for users in everybody]
        pulse = asyncio.create_task(self._pulse())
        try:
            for _ in range(self.plan.kills):
                await asyncio.sleep(self.dice.uniform(0.5, self.plan.seconds))
                await self.house.sandbox.kill("host")
                self.kills.append(time.time())
                await self.house.sandbox.restart("host")
        finally:
            over.set()
            await asyncio.gather(*work)
            pulse.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pulse
            for users in everybody:
                await users.control.calm()
        self.past.remember()

    async def _pulse(self) -> None:
        """Fire the timers as a clock does: the poll each second, the watch each third."""
        for beat in count():
            with contextlib.suppress(httpx.TransportError):
                await self._fire("poll_flows" if beat % 3 else "watch_house")
            await asyncio.sleep(1.0)

    async def _fire(self, function: str) -> None:
        headers = {"x-functions-key": self.house.sandbox.master_key}
        answer = await self.house.client.post(f"{self.house.sandbox.host}/admin/functions/{function}", headers=headers, json={})
        assert answer.status_code == 202, answer.text

    def _rules(self, side: str) -> list[dict[str, Any]]:
        """Return all kinds of trouble, each at a share of the requests."""
        rules: list[dict[str, Any]] = [
            {"kind": "status", "status": 503, "body": "html", "share": 0.03},
            {"kind": "status", "status": 500, "share": 0.02},
            {"kind": "status", "status": 429, "retry_after": 1, "share": 0.02},
            {"kind": "status", "status": 429, "body": "html", "share": 0.01},
            {"kind": "drop_before", "share": 0.02},
            {"kind": "drop_after", "share": 0.03},
            {"kind": "short_body", "share": 0.01},
            {"kind": "late", "seconds": 0.5, "share": 0.05},
            {"kind": "delay", "seconds": 0.3, "share": 0.05},
            {"kind": "expire", "share": 0.02},
            {"kind": "stale_read", "seconds": 1, "method": "GET", "share": 0.02},
            {"kind": "insert_then_fail", "method": "POST", "share": 0.02},
        ]
        if side != CREATIO:
            return rules
        notes = {"kind": "normalise", "entity": "Account", "column": "Notes", "how": "trim", "share": 0.3}
        edits = [
            {"kind": "user_edit_in_batch", "entity": "Account", "user": USER[CREATIO], "method": "POST", "path": "batch", "times": 1}
            | {"position": position, "after": 4 * number, "values": {column.creatio: f"+49 40 {number}{next(self.numbers)}"}}
            for number in range(5)
            for position, column in INJECTED.items()
        ]
        return [*rules, notes, *edits]

    async def rest(self) -> Verdict:
        """Wait until all work is done, have failures reprocessed, and judge every edit."""
        await self._settle()
        for _ in range(_ROUNDS):
            if not await self._reprocess():
                break
            await self._settle()
        self.past.remember()
        return await self._judge()

    async def _settle(self) -> None:
        await self._fire("watch_house")
        await self.house.poll()
        await self.house.calm(seconds=self.plan.patience, still=3.0, orphans=True)

    async def _reprocess(self) -> int:
        """Ask, as a person would, that what failed is tried again; return how many records that were."""
        number = 0
        for kind in KINDS:
            url = f"{self.house.sandbox.host}/api/failures/reprocess?flow={kind.flow}"
            answer = await self.house.client.post(url, headers={"x-functions-key": self.house.sandbox.master_key})
            assert answer.status_code == 202, answer.text
            number += answer.json()["records"]
        return number

    async def rows(self, side: str) -> dict[str, dict[str, Any]]:
        """Return all accounts and contacts of a side by id."""
        found = {}
        for kind in KINDS:
            for row in await self.house.sandbox.control(side).rows(kind.entities[side]):
                found[str(row[kind.ids[side]])] = row
        return found

    async def _judge(self) -> Verdict:
        rows = {side: await self.rows(side) for side in (CREATIO, DYNAMICS)}
        keys: dict[str, str] = {}
        for side, found in rows.items():
            for row_id, row in found.items():
                kind = ACCOUNTS if ACCOUNTS.ids[side] in row and ACCOUNTS.keys[side] in row else CONTACTS
                keys[row_id] = str(row[kind.keys[side]])
        steps = self.past.steps(rows[CREATIO])
        tandem = self.house.sandbox.settings["CREATIO_INTEGRATION_CONTACT_ID"]
        injected = [
            Edit(step.at, CREATIO, ACCOUNTS.flow, keys[step.row_id], step.row_id, column, step.after[column.creatio], None)
            for step in steps
            for column in INJECTED.values()
            if str(step.after.get(column.creatio)).startswith("+49 40 ")
            and step.before.get(column.creatio) != step.after[column.creatio]
            and step.after["ModifiedById"] != tandem
        ]
        listed = frozenset((keys.get(row_id, ""), name) for row_id, name in await self.conflicts())
        return Court(rows, keys, steps, tandem, listed).judge([*self.journal, *injected])

    async def conflicts(self) -> list[tuple[str, str]]:
        """Return what the app lists for a person to decide: Creatio ids with fields."""
        status = await self.house.status()
        return [(conflict[0], conflict[2]) for kind in KINDS for conflict in status["flows"][kind.flow]["conflicts"]]

    async def failures(self) -> list[Any]:
        """Return what the app lists as failed, and flows that stopped."""
        flows = (await self.house.status())["flows"]
        stopped = [(name, flow["stopped_because"]) for name, flow in flows.items() if not flow["started"] or flow["asking"]]
        return [failure for flow in flows.values() for failure in flow["failures"]] + stopped

    async def differences(self) -> list[str]:
        """Return the fields that differ against the rules, without those that wait for a person or that a server trimmed."""
        listed, found = await self.conflicts(), []
        for kind in KINDS:
            controls = (self.house.creatio, self.house.dynamics)
            for one in (await compare(self.house.observer.app.services, kind.flow, *controls)).differences:
                asked = any(row_id in one.record and one.field in {name, ""} for row_id, name in listed)
                trimmed = isinstance(one.creatio, str) and isinstance(one.dynamics, str) and one.creatio == one.dynamics.strip()
                if not asked and not trimmed:
                    found.append(str(one))
        return found

    async def doubles(self) -> list[str]:
        """Return natural keys of what users created that a side does not have exactly once."""
        counts = {side: Counter[str]() for side in (CREATIO, DYNAMICS)}
        for side, counted in counts.items():
            for kind in KINDS:
                counted.update(str(row[kind.keys[side]]) for row in await self.house.sandbox.control(side).rows(kind.entities[side]))
        ours, theirs = counts[CREATIO], counts[DYNAMICS]
        return [
            f"{key}: {ours[key]} in Creatio, {theirs[key]} in Dynamics"
            for key in sorted(self.created)
            if (ours[key], theirs[key]) != (1, 1)
        ]

    async def writes_of_quiet_polls(self) -> int:
        """Return how much the app writes when it polls twice more and nobody works."""
        before = await self.house.writes()
        for _ in range(2):
            await self.house.poll()
            await self.house.calm(still=1.0, orphans=True)
        return await self.house.writes() - before


async def _fill(sandbox: Sandbox, plan: Plan, everybody: Sequence[Users]) -> None:
    """Give both sides records before the host starts: some of their own, some that the other side has too."""
    for number in range(plan.accounts):
        for users in everybody:
            if number % 3 in {0, 1 if users.side == CREATIO else 2}:
                await users.create(ACCOUNTS, f"a{number}")
    for number in range(plan.contacts):
        for users in everybody:
            if number % 3 in {0, 1 if users.side == CREATIO else 2}:
                await users.create(CONTACTS, f"c{number}")


@contextlib.asynccontextmanager
async def fire(directory: Path, plan: Plan):
    """Run the app with both sides filled; the host has begun its first load."""
    journal: list[Edit] = []
    created: set[str] = set()
    numbers, dice = count(1000), random.Random(plan.seed)

    async def fill(sandbox: Sandbox) -> None:
        file = sandbox.directory / "dataverse.db"
        everybody = [Users(side, sandbox.control(side), dice, numbers, journal, created, file) for side in (CREATIO, DYNAMICS)]
        await _fill(sandbox, plan, everybody)

    async with open_house(directory, poll_schedule=NEVER, time_scale=plan.time_scale, settings=plan.settings, before_host=fill) as house:
        yield Fire(house, plan, dice, numbers, journal, created, CreatioPast(house.sandbox.directory / "creatio.db"))
