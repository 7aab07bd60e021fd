"""The restore of a backup on either side: what went back in time is not taken for an edit before a person has said which side is right."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from sandbox.control_client import Control
from tests.end_to_end.accounts import FLOW, NEVER, House, open_house
from tests.end_to_end.scenarios import COMPARES, SCALE, USER, in_step, until_polled, walked

pytestmark = pytest.mark.asyncio(loop_scope="module")

_ACCOUNTS = 110
"""A flow asks for more than a hundred changes only."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Run one sandbox for this file, with accounts in step; every poll compares Creatio with the ledger."""
    async with open_house(tmp_path_factory.mktemp("backup"), poll_schedule=NEVER, time_scale=SCALE, settings=COMPARES) as running:
        rows = [{"Name": f"Company {n}", "Code": f"B-{n}", "UsrActive": True, "Notes": "first"} for n in range(_ACCOUNTS)]
        await running.creatio.seed("Account", rows)
        await in_step(running)
        await running.are_paired([f"B-{n}" for n in range(_ACCOUNTS)])
        yield running


async def _edit_all(house: House, notes: str) -> None:
    """Let a Creatio user edit every account, in two halves that nobody needs to be asked about, and see it through."""
    rows = await house.creatio.rows("Account")
    for half in (rows[: _ACCOUNTS // 2], rows[_ACCOUNTS // 2 :]):
        for row in half:
            await house.creatio.edit("Account", row["Id"], {"Notes": notes}, USER)
        await in_step(house, 1)
    assert await _notes(house, house.dynamics) == {notes}


async def _notes(house: House, control: Control) -> set[Any]:
    """Return what the notes of the accounts are on a side."""
    if control is house.creatio:
        return {row["Notes"] for row in await control.rows("Account")}
    return {row["description"] for row in await control.rows("account")}


async def _restored(house: House, control: Control, before: str, after: str) -> None:
    """Back a side up, go on working, and restore the backup; in the end the flow asks, and neither side was written to."""
    await _edit_all(house, before)
    await control.snapshot("backup")
    await _edit_all(house, after)
    written = await house.writes()
    await control.restore("backup")
    assert await _notes(house, control) == {before}

    async def asks() -> bool:
        return (await house.flow())["asking"] is not None

    await until_polled(house, asks, "the flow asks")
    asking = (await house.flow())["asking"]
    assert asking["side"] == ("creatio" if control is house.creatio else "dynamics")
    assert asking["changed"] > 100
    assert asking["of"] == _ACCOUNTS
    await in_step(house)
    assert await house.writes() == written


async def test_a_backup_of_creatio_is_restored_and_meant(house: House) -> None:
    """The flow asks and writes nothing; when a person accepts, the restored state goes to Dynamics."""
    await _restored(house, house.creatio, "monday", "tuesday")
    await house.ask("POST", "flows/accept", flow=FLOW)
    await house.calm()
    assert (await _notes(house, house.creatio), await _notes(house, house.dynamics)) == ({"monday"}, {"monday"})
    await in_step(house)
    assert (await house.flow())["asking"] is None
    await house.assert_same()


async def test_a_backup_of_dynamics_is_restored_and_was_lost_work(house: House) -> None:
    """The flow asks; a dry rebase from Creatio counts the accounts and writes nothing; the real one brings the lost work back."""
    await _restored(house, house.dynamics, "wednesday", "thursday")
    written = await house.writes()
    planned = await walked(house, "runs/rebase", **{"from": "creatio"}, dry="true")
    assert planned == {"would_write_dynamics": _ACCOUNTS, "would_write_dynamics_fields": _ACCOUNTS}
    assert await house.writes() == written
    assert (await house.flow())["asking"] is not None
    assert await walked(house, "runs/rebase", **{"from": "creatio"}) == {"updated": _ACCOUNTS}
    assert (await _notes(house, house.creatio), await _notes(house, house.dynamics)) == ({"thursday"}, {"thursday"})
    await in_step(house)
    assert (await house.flow())["asking"] is None
    await house.assert_same()
