"""The story of cases (requirements O10): resolved with a text, canceled and reopened on either side, for companies and for people."""

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.accounts import House, open_house
from tests.end_to_end.scenarios import in_step

FLOW = "service.case"
RICH = "<p>Toner <b>replaced</b> &amp; fuser&nbsp;cleaned.</p><p>Ask for the old one.</p>"
PLAIN = "Toner replaced & fuser cleaned.\nAsk for the old one."

FLOWS = {"FLOWS": "sales.account,sales.contact,service.case"}


async def statuses(house: House) -> dict[str, str]:
    """Return the ids of Creatio's case statuses by name."""
    return {str(row["Name"]): str(row["Id"]) for row in await house.creatio.rows("CaseStatus")}


async def customer(house: House) -> str:
    """Let a user create an account in Creatio."""
    return str((await house.creatio.create("Account", {"Name": "Buyer", "Code": "B-1", "UsrActive": True}))["Id"])


async def twins(house: House, number: int) -> dict[str, str]:
    """Wait until Dynamics has so many cases; return their ids by title."""

    async def there() -> bool:
        await house.poll()
        return len(await house.dynamics.rows("incident")) == number

    await house.until(there, f"{number} cases are there", 60)
    await in_step(house, 1)
    return {str(row["title"]): str(row["incidentid"]) for row in await house.dynamics.rows("incident")}


async def opened(house: House, *subjects: str, **values: Any) -> dict[str, tuple[str, str]]:
    """Let users create cases in Creatio; return both ids by subject once Dynamics has them."""
    new = (await statuses(house))["New"]
    made = {one: str((await house.creatio.create("Case", {"Subject": one, "StatusId": new, **values}))["Id"]) for one in subjects}
    there = await twins(house, len(subjects))
    return {one: (made[one], there[one]) for one in subjects}


async def resolved_in_dynamics(house: House, case: str, subject: str, remarks: str | None = None) -> None:
    """Resolve a case as a user of Dynamics does in the dialog."""
    said = {"incidentid": case, "subject": subject, "description": remarks, "actualend": "2026-03-02T16:00:00Z", "statecode": 1}
    await house.dynamics.create("incidentresolution", said)
    await house.dynamics.switch(closing_by_update="accept")
    await house.dynamics.edit("incident", case, {"statecode": 1, "statuscode": 5})
    await house.dynamics.switch(closing_by_update="refuse")


async def state(house: House, case: str) -> tuple[int, int]:
    """Return state and status reason of a case in Dynamics."""
    row = await house.dynamics.row("incident", case) or {}
    return row["statecode"], row["statuscode"]


async def test_a_case_is_resolved_with_its_text_on_either_side(tmp_path: Path) -> None:
    """What Creatio wrote goes as plain text with the action, what Dynamics wrote is seen in Creatio; later edits rewrite nothing."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, dynamics, status = house.creatio, house.dynamics, await statuses(house)
        term = {"SolutionDate": "2026-03-02T17:00:00Z", "Solution": "<p>Perhaps the toner</p>"}
        cases = await opened(house, "Smoke", "Noise", AccountId=await customer(house), **term)
        smoke, noise = cases["Smoke"], cases["Noise"]
        assert (await dynamics.row("incident", smoke[1]) or {})["resolveby"] == "2026-03-02T17:00:00Z"
        assert await dynamics.rows("incidentresolution") == []

        await creatio.edit("Case", smoke[0], {"Solution": RICH, "StatusId": status["Resolved"], "Symptoms": "Since Monday."})
        await resolved_in_dynamics(house, noise[1], "Fan cleaned", "Dust everywhere.")
        await in_step(house, 3)
        assert (await state(house, smoke[1]), (await dynamics.row("incident", smoke[1]) or {})["description"]) == ((1, 5), "Since Monday.")
        (said,) = [row for row in await dynamics.rows("incidentresolution") if row["incidentid"] == smoke[1]]
        assert said["description"] == PLAIN
        ours, theirs = await creatio.row("Case", smoke[0]) or {}, await creatio.row("Case", noise[0]) or {}
        assert (ours["UsrResolution"], theirs["UsrResolution"]) == (PLAIN, "Fan cleaned\nDust everywhere.")
        assert (theirs["StatusId"], str(theirs["UsrResolvedOn"])[:16]) == (status["Resolved"], "2026-03-02T16:00")
        assert ours["UsrResolvedOn"]
        assert ours["Solution"] == RICH

        for case in (smoke, noise):
            await creatio.edit("Case", case[0], {"Solution": "<p>Too late</p>"})
        await in_step(house)
        assert sorted(row["subject"][:3] for row in await dynamics.rows("incidentresolution")) == ["Fan", "Ton"]
        assert [await house.failures(case[0], FLOW) for case in (smoke, noise)] == [{}, {}]

        await creatio.edit("Case", smoke[0], {"StatusId": status["In progress"], "Symptoms": "Again."})
        await dynamics.edit("incident", noise[1], {"statecode": 0, "statuscode": 2})
        await in_step(house, 3)
        assert await state(house, smoke[1]) == (0, 4)
        assert (await dynamics.row("incident", smoke[1]) or {})["description"] == "Again."
        assert (await creatio.row("Case", noise[0]) or {})["StatusId"] == status["On hold"]
        assert [(await creatio.row("Case", case[0]) or {})["UsrResolution"] or "" for case in (smoke, noise)] == ["", ""]
        assert [await house.failures(case[0], FLOW) for case in (smoke, noise)] == [{}, {}]


async def test_a_case_is_canceled_and_reopened_on_either_side(tmp_path: Path) -> None:
    """Canceling is a change of the state both ways, and so is going back; no resolution is made of it."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, dynamics, status = house.creatio, house.dynamics, await statuses(house)
        cases = await opened(house, "Smoke", "Noise", AccountId=await customer(house), Solution="<p>Perhaps the toner</p>")
        smoke, noise = cases["Smoke"], cases["Noise"]
        await creatio.edit("Case", smoke[0], {"StatusId": status["Canceled"], "Symptoms": "Never mind."})
        await dynamics.edit("incident", noise[1], {"statecode": 2, "statuscode": 6})
        await in_step(house)
        assert await state(house, smoke[1]) == (2, 6)
        assert (await dynamics.row("incident", smoke[1]) or {})["description"] == "Never mind."
        assert (await creatio.row("Case", noise[0]) or {})["StatusId"] == status["Canceled"]
        await creatio.edit("Case", noise[0], {"StatusId": status["Waiting for response"], "Subject": "Noise again"})
        await dynamics.edit("incident", smoke[1], {"statecode": 0, "statuscode": 1})
        await in_step(house)
        assert await state(house, noise[1]) == (0, 3)
        assert (await dynamics.row("incident", noise[1]) or {})["title"] == "Noise again"
        assert (await creatio.row("Case", smoke[0]) or {})["StatusId"] == status["New"]
        assert await dynamics.rows("incidentresolution") == []
        assert [await house.failures(case[0], FLOW) for case in (smoke, noise)] == [{}, {}]


@pytest.mark.slow
async def test_a_case_with_open_child_cases_says_what_to_do(tmp_path: Path) -> None:
    """It stays open in Dynamics and is a failure that names the child cases; once they are closed it goes through, text and all."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        status = await statuses(house)
        cases = await opened(house, "Smoke", "Noise", AccountId=await customer(house))
        smoke, noise = cases["Smoke"], cases["Noise"]
        await house.dynamics.edit("incident", noise[1], {"parentcaseid": smoke[1]})
        await in_step(house)
        await house.creatio.edit("Case", smoke[0], {"StatusId": status["Resolved"], "Solution": RICH})
        await in_step(house)
        assert await state(house, smoke[1]) == (0, 1)
        assert set((await house.failures(smoke[0], FLOW)).values()) == {"dataverse.still_open"}
        await house.creatio.edit("Case", noise[0], {"StatusId": status["Resolved"]})
        await in_step(house)
        await house.ask("POST", "failures/reprocess", flow=FLOW, record=smoke[0])
        await in_step(house)
        assert await state(house, smoke[1]) == (1, 5)
        assert (await house.creatio.row("Case", smoke[0]) or {})["UsrResolution"] == PLAIN
        assert await house.failures(smoke[0], FLOW) == {}


@pytest.mark.slow
async def test_people_without_a_company_have_cases_both_ways(tmp_path: Path) -> None:
    """A person is the customer in Dynamics and the contact in Creatio, wherever the case comes from; another person put there follows."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, dynamics = house.creatio, house.dynamics
        people = {
            name: str(
                (await creatio.create("Contact", {"Name": f"{name} Person", "Email": f"{name}@people.example", "UsrActive": True}))["Id"]
            )
            for name in ("Ada", "Grace")
        }
        cases = await opened(house, "Smoke", ContactId=people["Ada"])
        known = {str(row["emailaddress1"])[:3]: str(row["contactid"]) for row in await dynamics.rows("contact")}
        ada, grace = known["Ada"], known["Gra"]
        smoke = await dynamics.row("incident", cases["Smoke"][1]) or {}
        assert (smoke["customerid"], smoke["primarycontactid"]) == (ada, ada)

        noise = str(
            (await dynamics.create("incident", {"title": "Noise", "customerid": grace, "customerid__type": "contact"}))["incidentid"]
        )

        async def back() -> bool:
            await in_step(house, 1)
            return len(await creatio.rows("Case")) == 2

        await house.until(back, "the case of Dynamics is in Creatio", 60)
        (made,) = [row for row in await creatio.rows("Case") if row["Subject"] == "Noise"]
        assert (made["ContactId"], made["AccountId"] or "") == (people["Grace"], "")

        await dynamics.edit("incident", noise, {"customerid": ada, "customerid__type": "contact"})
        await creatio.edit("Case", cases["Smoke"][0], {"ContactId": people["Grace"]})
        await in_step(house, 3)
        assert (await creatio.row("Case", str(made["Id"])) or {})["ContactId"] == people["Ada"]
        row = await dynamics.row("incident", noise) or {}
        assert (row["customerid"], row["primarycontactid"]) == (ada, None)
        smoke = await dynamics.row("incident", cases["Smoke"][1]) or {}
        assert (smoke["customerid"], smoke["primarycontactid"]) == (grace, grace)
        assert [await house.failures(record, FLOW) for record in (cases["Smoke"][0], str(made["Id"]))] == [{}, {}]
