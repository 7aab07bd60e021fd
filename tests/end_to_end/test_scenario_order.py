"""A thousand contacts before their accounts: records come in the wrong order, and the accounts by themselves not at all."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest

from sandbox.processes import Sandbox
from tests.end_to_end.accounts import FLOW, NEVER, House, open_house
from tests.end_to_end.scenarios import CONTACTS

_OLD = "2024-03-04T05:06:07Z"
_STAFF = 10
"""Contacts of one account."""
_LOOK_SECONDS = 2.0
_SECONDS = {1_000: 240, 10_000: 1_800}


async def _fill(sandbox: Sandbox, number: int) -> None:
    """Put half of the people into each system, every account with its staff, all of it years old."""
    left, right = sandbox.control("creatio"), sandbox.control("dataverse")
    companies = range(number // 2 // _STAFF)
    account = {side: [str(uuid5(NAMESPACE_URL, f"{side}/{n}")) for n in companies] for side in "LR"}
    await left.seed(
        "Account",
        [{"Id": account["L"][n], "Name": f"Left {n}", "Code": f"L-{n}", "UsrActive": True, "ModifiedOn": _OLD} for n in companies],
    )
    await right.seed("account", [{"accountid": account["R"][n], "name": f"Right {n}", "accountnumber": f"R-{n}"} for n in companies])
    staff = range(number // 2)
    people = [
        {"Name": f"Lea Left{n}", "Email": f"l{n}@x.example", "AccountId": account["L"][n // _STAFF], "UsrActive": True} for n in staff
    ]
    await left.seed("Contact", people)
    people = [
        {"firstname": "Rex", "lastname": f"Right{n}", "emailaddress1": f"r{n}@x.example", "parentcustomerid": account["R"][n // _STAFF]}
        for n in staff
    ]
    await right.seed("contact", people)


async def _leave_accounts_alone(house: House) -> None:
    """Let the flow of accounts begin now: its polls never see what is older."""
    services = house.observer.app.services
    settings = services.settings(FLOW, (await services.ledger.poll_state()).flows)
    await services.ledger.save_flow(replace(settings, query_start=datetime.now(UTC)))


async def _links(house: House) -> tuple[dict[str, str], dict[str, str]]:
    """Return the account number of each person by e-mail address, as each side has it."""
    codes = {row["Id"]: row["Code"] for row in await house.creatio.rows("Account")}
    numbers = {row["accountid"]: row["accountnumber"] for row in await house.dynamics.rows("account")}
    left = {row["Email"]: codes.get(row["AccountId"], "") for row in await house.creatio.rows("Contact")}
    right = {row["emailaddress1"]: numbers.get(row["parentcustomerid"], "") for row in await house.dynamics.rows("contact")}
    return left, right


async def _worked_off(house: House, expected: dict[str, str], seconds: float) -> None:
    """Wait until every person is on both sides with the own account; looks rarely, so that looking is not what takes the time."""
    deadline, before = time.monotonic() + seconds, -1
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if (writes := await house.writes()) == before and all(expected.items() <= side.items() for side in await _links(house)):
            return
        assert time.monotonic() < deadline, f"not everybody is on both sides with the own account: {await house.status()}"
        before = writes


@pytest.mark.timeout(2_400)
@pytest.mark.parametrize("number", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_contacts_before_their_accounts(tmp_path: Path, number: int) -> None:
    """People whose accounts no poll sees are all bound and linked in the end, each account is created once, in few requests."""
    expected = {f"{side}{n}@x.example": f"{side.upper()}-{n // _STAFF}" for side in "lr" for n in range(number // 2)}
    async with open_house(tmp_path, poll_schedule=NEVER, time_scale=20, before_host=lambda sandbox: _fill(sandbox, number)) as house:
        await _leave_accounts_alone(house)
        await house.poll()

        await _worked_off(house, expected, _SECONDS[number])
        requests = await house.observer.requests()
        accounts, contacts = number // _STAFF, number
        assert len(await house.creatio.rows("Account")) == len(await house.dynamics.rows("account")) == accounts
        assert await house.writes() <= 2 * (accounts + contacts), "each record is created once and its own side told once at most"
        assert sum(requests.values()) <= 0.3 * (accounts + contacts), requests
        status = await house.status()
        assert [(status["flows"][flow]["failures"], status["flows"][flow]["conflicts"]) for flow in (FLOW, CONTACTS)] == [([], [])] * 2
        print(f"{number} contacts, {accounts} accounts: requests {requests}")  # noqa: T201 - the count is what a person wants to see
