"""Bulk runs over HTTP: all accounts and contacts, either way, while both systems misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sandbox.compare import compare
from sandbox.processes import Sandbox
from sandbox.seed import Seeded, seed
from tests.end_to_end.accounts import FLOW, NEVER, House, open_house
from tests.end_to_end.scenarios import CONTACTS

pytestmark = pytest.mark.asyncio(loop_scope="module")

_BOTH = f"{FLOW},{CONTACTS}"
_RULES = [
    {"kind": "status", "status": 503, "share": 0.05},
    {"kind": "status", "status": 429, "retry_after": 1, "share": 0.03},
    {"kind": "drop_after", "share": 0.05},
    {"kind": "expire", "share": 0.03},
]
_SEEDED: dict[Path, Seeded] = {}


@asynccontextmanager
async def _open(directory: Path) -> AsyncIterator[House]:
    """Run a sandbox whose timer never polls: what arrives came by a bulk run."""

    async def fill(sandbox: Sandbox) -> None:
        _SEEDED[sandbox.directory] = await seed(sandbox.creatio, sandbox.dataverse, accounts=120, contacts=60)

    settings = {"CREATIO_SLOTS": "16", "DATAVERSE_SLOTS": "16", "WATCH_SCHEDULE": "0 */2 * * * *"}
    async with open_house(directory, poll_schedule=NEVER, time_scale=30, settings=settings, before_host=fill) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Run one sandbox for this file."""
    async with _open(tmp_path_factory.mktemp("bulk")) as running:
        yield running


async def _all_there_once(house: House) -> None:
    """Fail unless every account and contact is on both sides once, and equal."""
    await house.calm(seconds=60, still=3)
    await house.assert_same()
    contacts = await compare(house.observer.app.services, CONTACTS, house.creatio, house.dynamics)
    assert [str(difference) for difference in contacts.differences] == []
    sides = (len(await house.creatio.rows("Account")), len(await house.dynamics.rows("account")))
    accounts = _SEEDED[house.sandbox.directory].accounts
    assert sides == (accounts, accounts)


async def _ended(house: House) -> None:
    """Wait until no bulk run is under way, none follows, and nothing is left to do."""

    async def over() -> bool:
        flows = (await house.status())["flows"]
        return all(flow["walking"] is None for flow in flows.values())

    await house.until(over, "the bulk runs come to their end", 90)
    await house.calm(seconds=60, still=3, orphans=True)


async def _shown(house: House, run: str, flow: str = FLOW) -> dict[str, Any]:
    return dict((await house.ask("GET", "runs/show", flow=flow, run=run))["result"])


async def test_a_dry_run_tells_what_a_bulk_run_would_do(house: House) -> None:
    """It counts every account of the side, by pages, and writes nothing."""
    written, rows = await house.writes(), len(await house.creatio.rows("Account"))
    run = (await house.ask("POST", "runs/bulk", flow=FLOW, **{"from": "creatio"}, size="25", dry="true"))["result"]
    await _ended(house)
    shown = await _shown(house, run)
    assert (shown["records"], shown["all_known"], shown["counts"].get("would_bind_or_create")) == (rows, True, rows)
    assert await house.writes() == written


async def test_both_sides_are_loaded_through_trouble(house: House) -> None:
    """Creatio's accounts and contacts to Dynamics, then the other way, with refusals and lost replies: all there once, and equal.

    What a killed process leaves is shown step by step in tests/engine/test_bulk.py, and over HTTP in the slow test below.
    """
    for control in (house.creatio, house.dynamics):
        await control.chaos({"seed": 11, "rules": _RULES})
    before = await house.writes()
    await house.ask("POST", "runs/bulk", flow=_BOTH, **{"from": "creatio"}, size="20", by="created")

    async def begun() -> bool:
        return await house.writes() > before

    await house.until(begun, "the load has begun")
    await asyncio.sleep(3)
    for control in (house.creatio, house.dynamics):
        await control.calm()
    await _ended(house)
    await house.ask("POST", "runs/bulk", flow=_BOTH, **{"from": "dynamics"}, size="20", by="modified")
    await _ended(house)
    await _all_there_once(house)


async def test_a_bulk_run_over_what_is_in_step_writes_nothing(house: House) -> None:
    """Every record is an echo, read page by page; the run tells so."""
    written = await house.writes()
    run = (await house.ask("POST", "runs/bulk", flow=FLOW, **{"from": "creatio"}))["result"]
    await _ended(house)
    shown = await _shown(house, run)
    assert set(shown["counts"]) <= {"unchanged"}, shown
    assert await house.writes() == written


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "from: got '', allowed creatio, dynamics"),
        ({"from": "creatio", "by": "name"}, "by: got 'name', allowed created, modified"),
        ({"from": "creatio", "size": "many"}, "size: got 'many', allowed a whole number"),
        ({"from": "creatio", "since": "yesterday"}, "since: got 'yesterday', allowed a time with its zone"),
        ({"from": "creatio", "since": "2026-01-01T00:00:00"}, "allowed a time with its zone"),
        ({"from": "creatio", "flow": "sales.nothing"}, "sales.nothing"),
    ],
)
async def test_a_bulk_run_that_can_not_be_is_refused_in_words(house: House, parameters: dict[str, str], told: str) -> None:
    """What was got, and what is allowed."""
    asked = {"flow": FLOW, **parameters}
    headers = {"x-functions-key": house.sandbox.master_key}
    answer = await house.client.post(f"{house.sandbox.host}/api/runs/bulk", params=asked, headers=headers)
    assert answer.status_code == 400, answer.text
    assert told in "\n".join(answer.json()["problems"])


async def test_a_bulk_run_can_be_stopped(house: House) -> None:
    """A person ends a run before its time; asked once more, the app says that none is under way."""
    run = (await house.ask("POST", "runs/bulk", flow=FLOW, **{"from": "creatio"}, size="1"))["result"]
    await house.ask("POST", "runs/stop", flow=FLOW, run=run)
    await _ended(house)
    headers = {"x-functions-key": house.sandbox.master_key}
    again = await house.client.post(f"{house.sandbox.host}/api/runs/stop", params={"flow": FLOW, "run": run}, headers=headers)
    assert (again.status_code, "no run is under way" in again.text) == (400, True)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_host_killed_in_a_bulk_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle of a bulk run, with refusals and lost replies: the next host ends it, and everything is there once."""
    async with _open(tmp_path) as house:
        before = await house.writes()
        for control in (house.creatio, house.dynamics):
            await control.chaos({"seed": 12, "rules": _RULES})
        await house.ask("POST", "runs/bulk", flow=_BOTH, **{"from": "creatio"}, size="20")

        async def begun() -> bool:
            return await house.writes() > before

        await house.until(begun, "the load has begun")
        await house.sandbox.kill("host")
        await house.sandbox.restart("host")
        await asyncio.sleep(5)
        for control in (house.creatio, house.dynamics):
            await control.calm()
        await _ended(house)
        await house.ask("POST", "runs/bulk", flow=_BOTH, **{"from": "dynamics"}, size="20")
        await _ended(house)
        await _all_there_once(house)
