"""The story of a lead (requirements O16): it comes to Dynamics, is scored there, qualified in Creatio, and disqualified and reopened."""

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.accounts import House, open_house
from tests.end_to_end.scenarios import in_step
from tests.end_to_end.test_sales_story import lookup

FLOW = "sales.lead"
LEAD = {"LeadName": "Roof", "Contact": "Ada King Lovelace", "Account": "Engines Ltd", "Email": "ada@engines.example", "Budget": 1200.5}

FLOWS = {"FLOWS": "sales.account,sales.contact,sales.product,sales.opportunity,sales.lead"}


async def stages(house: House) -> dict[str, str]:
    """Return the ids of the qualification stages by name."""
    return {str(row["Name"]): str(row["Id"]) for row in await house.creatio.rows("QualifyStatus")}


async def arrived(house: House, **values: Any) -> tuple[str, str]:
    """Let a user create a lead in Creatio and wait until Dynamics has it; return both ids."""
    lead = str((await house.creatio.create("Lead", {**LEAD, **values}))["Id"])

    async def there() -> bool:
        await house.poll()
        return bool(await house.dynamics.rows("lead"))

    await house.until(there, "the lead is there", 60)
    await in_step(house, 1)
    (twin,) = await house.dynamics.rows("lead")
    return lead, str(twin["leadid"])


async def test_a_lead_is_scored_in_dynamics_and_qualified_in_creatio(tmp_path: Path) -> None:
    """Insights come back; qualifying makes nothing a second time, links what the lead became, and later edits are told, not written."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, dynamics, stage = house.creatio, house.dynamics, await stages(house)
        lead, twin = await arrived(house, QualifyStatusId=stage["Qualification"])
        made = await dynamics.row("lead", twin) or {}
        assert (made["subject"], made["firstname"], made["lastname"], made["companyname"]) == ("Roof", "Ada", "Lovelace", "Engines Ltd")
        assert (made["statecode"], made["emailaddress1"]) == (0, "ada@engines.example")

        scored = {"msdyn_leadscore": 73, "msdyn_leadgrade": 1, "msdyn_leadscoretrend": 0, "msdyn_scorereasons": "Opened three letters."}
        await dynamics.edit("lead", twin, scored)
        await in_step(house)
        seen = await creatio.row("Lead", lead) or {}
        insights = {"PredictiveScore": 73, "UsrPredictiveGrade": "Grade B", "UsrScoreTrend": "Improving"}
        assert {name: seen[name] for name in insights} == insights
        assert seen["UsrScoreReasons"] == "Opened three letters."

        account = (await creatio.create("Account", {"Name": "Engines Ltd", "Code": "E-1", "UsrActive": True}))["Id"]
        person = {"Name": "Ada King Lovelace", "Email": "ada@engines.example", "AccountId": account, "UsrActive": True}
        contact = (await creatio.create("Contact", person))["Id"]
        proposal = await lookup(house, "OpportunityStage", "Proposal")
        deal = (await creatio.create("Opportunity", {"Title": "Roof", "AccountId": account, "StageId": proposal}))["Id"]
        links = {"QualifiedAccountId": account, "QualifiedContactId": contact, "OpportunityId": deal}
        await creatio.edit("Lead", lead, {**links, "QualifyStatusId": stage["Awaiting sale"], "Budget": 1300.0})

        async def qualified() -> bool:
            await in_step(house, 1)
            return (await dynamics.row("lead", twin) or {})["statecode"] == 1

        await house.until(qualified, "the lead is qualified", 90)
        row = await dynamics.row("lead", twin) or {}
        sides = [("accountid", "account"), ("contactid", "contact"), ("opportunityid", "opportunity")]
        (one_account,), (one_contact,), (one_deal,) = [[line[key] for line in await dynamics.rows(table)] for key, table in sides]
        assert (row["parentaccountid"], row["parentcontactid"], row["qualifyingopportunityid"]) == (one_account, one_contact, one_deal)
        assert (row["statuscode"], float(row["budgetamount"])) == (3, 1300.0)
        assert await house.failures(lead, FLOW) == {}

        await creatio.edit("Lead", lead, {"Commentary": "too late"})
        await in_step(house)
        assert (await dynamics.row("lead", twin) or {})["description"] is None
        assert await house.failures(lead, FLOW)


@pytest.mark.slow
async def test_a_lead_is_disqualified_and_reopened(tmp_path: Path) -> None:
    """Not interested is a state in Dynamics, going back reopens the lead with what was edited meanwhile; Dynamics is not overruled."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        creatio, dynamics, stage = house.creatio, house.dynamics, await stages(house)
        lead, twin = await arrived(house)
        await creatio.edit("Lead", lead, {"QualifyStatusId": stage["Not interested"], "Budget": 900.0})
        await in_step(house)
        closed = await dynamics.row("lead", twin) or {}
        assert (closed["statecode"], closed["statuscode"], float(closed["budgetamount"])) == (2, 6, 900.0)
        await creatio.edit("Lead", lead, {"QualifyStatusId": stage["Distribution"], "Budget": 950.0})
        await in_step(house)
        again = await dynamics.row("lead", twin) or {}
        assert (again["statecode"], again["statuscode"], float(again["budgetamount"])) == (0, 2, 950.0)
        assert await house.failures(lead, FLOW) == {}
        await dynamics.edit("lead", twin, {"statecode": 2, "statuscode": 5})
        await in_step(house)
        assert (await dynamics.row("lead", twin) or {})["statuscode"] == 5
        assert await house.failures(lead, FLOW) == {}


@pytest.mark.slow
async def test_leads_flow_without_the_insights_licence_too(tmp_path: Path) -> None:
    """Where the columns of the score are absent nobody is told, and the rest of the lead flows."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        await house.dynamics.switch(insights="off")
        lead, twin = await arrived(house)
        assert (await house.dynamics.row("lead", twin) or {})["subject"] == "Roof"
        flow = await house.flow(FLOW)
        assert (flow["started"], flow["failures"], flow["conflicts"]) == (True, [], [])
        assert await house.failures(lead, FLOW) == {}
