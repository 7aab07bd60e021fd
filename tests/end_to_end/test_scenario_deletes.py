"""Records that go: merged into others, deleted while somebody works on what belongs to them, deleted by the dozen, and brought back."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.control_client import Row
from shared.core.binding import BindingState
from tests.end_to_end.accounts import FLOW, NEVER, House, open_house
from tests.end_to_end.scenarios import COMPARES, CONTACTS, SCALE, USER, binding_of, conflicts_of, in_step, new_accounts, until_polled

pytestmark = pytest.mark.asyncio(loop_scope="module")

_TOO_MANY = 6


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Run one sandbox for this file; every poll compares Creatio with the ledger, and Creatio empties links to what is deleted."""
    async with open_house(tmp_path_factory.mktemp("deletes"), poll_schedule=NEVER, time_scale=SCALE, settings=COMPARES) as running:
        await running.creatio.switch(delete_referenced="empty")
        yield running


async def _contact_of(house: House, account: str, name: str) -> Row:
    """Let a Creatio user create a contact of an account and return it as Dynamics has it."""
    row = await house.creatio.create("Contact", {"Name": name, "AccountId": account, "UsrActive": True}, USER)
    await in_step(house)
    return next(there for there in await house.dynamics.rows("contact") if there["tandem_creatioid"] == row["Id"])


async def test_an_account_merged_in_dynamics(house: House) -> None:
    """The loser's binding ends as merged, its people are the master's from both sides, and whoever merges in Creatio too is done."""
    master, loser = await new_accounts(house, ["M-1", "M-2"])
    contact = await _contact_of(house, loser.creatio, "Mia Merged")
    assert contact["parentcustomerid"] == loser.dynamics
    await house.dynamics.merge("account", master.dynamics, loser.dynamics)
    await in_step(house)
    ended = await binding_of(house, loser.dynamics)
    assert ended is not None
    assert (ended.state, ended.merged_into) == (BindingState.ENDED, master.dynamics)
    open_ends = [(one.creatio_id, one.reason, one.candidates) for one in await conflicts_of(house)]
    assert open_ends == [(loser.creatio, "match.merged", (master.dynamics,))]

    await house.creatio.edit("Account", loser.creatio, {"Notes": "not for the master"}, USER)
    await house.creatio.edit("Contact", contact["tandem_creatioid"], {"JobTitle": "Buyer"}, USER)
    late = await _contact_of(house, loser.creatio, "Max Merged")
    await house.gets(house.dynamics, contact["contactid"], {"jobtitle": "Buyer", "parentcustomerid": master.dynamics}, of="contact")
    assert late["parentcustomerid"] == master.dynamics
    assert [row["description"] for row in await house.in_dynamics(accountnumber="M-1")] == [None]

    for person in (contact, late):
        await house.creatio.edit("Contact", person["tandem_creatioid"], {"AccountId": master.creatio}, USER)
    await house.creatio.delete("Account", loser.creatio, USER)

    async def closed() -> bool:
        return not await conflicts_of(house)

    await until_polled(house, closed, "the question about the merged account is closed")
    assert await house.pair("M-1") == master
    rows = [await house.dynamics.row("contact", person["contactid"]) or {} for person in (contact, late)]
    assert {row["parentcustomerid"] for row in rows} == {master.dynamics}
    assert (await house.dynamics.row("account", master.dynamics) or {})["statecode"] == 0


async def test_an_account_deleted_in_creatio_while_its_contact_is_edited_in_dynamics(house: House) -> None:
    """The account is deactivated in Dynamics, and the edit of its contact, made at the same time, arrives in Creatio."""
    (account,) = await new_accounts(house, ["D-1"])
    contact = await _contact_of(house, account.creatio, "Dan Deleted")
    await house.creatio.delete("Account", account.creatio, USER)
    await house.dynamics.edit("contact", contact["contactid"], {"jobtitle": "Liquidator"})

    async def deactivated() -> bool:
        return bool((await house.dynamics.row("account", account.dynamics) or {})["statecode"] == 1)

    await until_polled(house, deactivated, "the account is deactivated in Dynamics")
    await house.gets(house.creatio, contact["tandem_creatioid"], {"JobTitle": "Liquidator", "AccountId": None}, of="contact")
    row = await house.dynamics.row("contact", contact["contactid"])
    assert row is not None
    assert (row["statecode"], row["parentcustomerid"]) == (0, None)
    for flow in (FLOW, CONTACTS):
        status = await house.flow(flow)
        assert (status["failures"], status["conflicts"]) == ([], []), status


async def test_too_many_deletes_are_held_until_a_person_approves_them(house: House) -> None:
    """Six deletes in one poll touch nothing and are one question in the status; the flow goes on; each approval carries over its own."""
    codes = [f"H-{number}" for number in range(_TOO_MANY + 1)]
    *going, staying = await new_accounts(house, codes)
    for pair in going:
        await house.dynamics.delete("account", pair.dynamics)
    await house.creatio.edit("Account", staying.creatio, {"Notes": "business as usual"}, USER)
    await in_step(house)
    await house.gets(house.dynamics, staying.dynamics, {"description": "business as usual"})
    held = {pair.dynamics for pair in going}
    assert {record for side, record in (await house.flow())["deletes_held"] if side == "dynamics"} == held
    active = {row["Code"] for row in await house.in_creatio(UsrActive=True)}
    assert set(codes) <= active

    first = going[0]
    assert await house.ask("POST", "deletes/approve", flow=FLOW, record=first.dynamics) == {"result": 1}
    await in_step(house, 1)
    assert {row["Code"] for row in await house.in_creatio(UsrActive=True)} == active - {codes[0]}
    assert {record for _, record in (await house.flow())["deletes_held"]} == held - {first.dynamics}
    assert await house.ask("POST", "deletes/approve", flow=FLOW) == {"result": _TOO_MANY - 1}
    await in_step(house)
    assert {row["Code"] for row in await house.in_creatio(UsrActive=True)} == active - set(codes[:-1])
    assert (await house.flow())["deletes_held"] == []


async def test_an_ended_record_is_reopened(house: House) -> None:
    """A record whose twin was deleted stays alone, edits and all, until a person reopens it: then it has a new twin and flows again."""
    (pair,) = await new_accounts(house, ["R-1"])
    await house.dynamics.delete("account", pair.dynamics)
    await in_step(house)
    await house.gets(house.creatio, pair.creatio, {"UsrActive": False})
    await house.creatio.edit("Account", pair.creatio, {"UsrActive": True, "Notes": "a customer again"}, USER)
    await in_step(house)
    assert await house.in_dynamics(accountnumber="R-1") == []
    await house.ask("POST", "records/reopen", flow=FLOW, record=pair.creatio)
    await in_step(house)
    fresh = await house.pair("R-1")
    assert fresh.creatio == pair.creatio
    assert fresh.dynamics != pair.dynamics
    await house.gets(house.dynamics, fresh.dynamics, {"description": "a customer again", "statecode": 0})
    await house.dynamics.edit("account", fresh.dynamics, {"fax": "+49 30 7"})
    await in_step(house, 1)
    await house.gets(house.creatio, fresh.creatio, {"Fax": "+49 30 7"})
