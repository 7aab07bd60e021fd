"""What insights say about an opportunity comes back to Creatio, where Dynamics has them (requirements O16)."""

from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import Sandbox
from tests.end_to_end.accounts import House, open_house
from tests.end_to_end.scenarios import in_step

KPI = "msdyn_opportunitykpiitem"
STATE = "msdyn_relationshiphealthscorestate"
COLUMNS = {
    "msdyn_name": {"type": "String", "max_length": 100},
    STATE: {"type": "Picklist", "options": {"1": "Good", "2": "Fair", "3": "Poor"}},
}

FLOWS = {"FLOWS": "sales.account,sales.contact,sales.product,sales.opportunity"}


async def _licensed(sandbox: Sandbox) -> None:
    """Give Dynamics the table that comes with the insights licence."""
    await sandbox.control("dataverse").add_entity(KPI, COLUMNS)


async def _opportunity(house: House) -> tuple[str, str]:
    """Let Creatio make an opportunity and wait until Dynamics has it; return both ids."""
    account = (await house.creatio.create("Account", {"Name": "Buyer", "Code": "B-1", "UsrActive": True}))["Id"]
    stage = next(row["Id"] for row in await house.creatio.rows("OpportunityStage") if row["Name"] == "Proposal")
    deal = (await house.creatio.create("Opportunity", {"Title": "Roof", "AccountId": account, "StageId": stage}))["Id"]

    async def there() -> bool:
        await in_step(house, 1)
        return bool(await house.dynamics.rows("opportunity"))

    await house.until(there, "the opportunity is there", 60)
    (twin,) = await house.dynamics.rows("opportunity")
    return str(deal), str(twin["opportunityid"])


async def _told(house: House, deal: str) -> tuple[Any, Any]:
    row = await house.creatio.row("Opportunity", deal) or {}
    return row["UsrPredictiveGrade"], row["UsrRelationshipHealth"]


async def test_grade_and_health_come_back_and_follow_within_the_hour(tmp_path: Path) -> None:
    """The KPI record changes without its opportunity: an hour later, by the clock of Dynamics, Creatio knows."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS, before_host=_licensed) as house:
        deal, twin = await _opportunity(house)
        (item,) = await house.dynamics.seed(KPI, [{"msdyn_name": "Roof", STATE: 3}])
        await house.dynamics.edit("opportunity", twin, {"msdyn_opportunitykpiid": item, "msdyn_opportunitygrade": 1})
        await in_step(house)
        assert await _told(house, deal) == ("Grade B", "Poor")

        await house.dynamics.edit(KPI, item, {STATE: 1})
        await in_step(house)
        assert await _told(house, deal) == ("Grade B", "Poor"), "nobody looks before the hour is over"
        await house.dynamics.skew_clock(3700)
        await in_step(house)
        assert await _told(house, deal) == ("Grade B", "Good")
        assert (await house.flow("sales.opportunity"))["failures"] == []


@pytest.mark.slow
async def test_without_the_licence_nobody_is_told(tmp_path: Path) -> None:
    """The lookup is there, the table behind it is not: the row is left out, silently, and the others go on."""
    async with open_house(tmp_path, time_scale=5, settings=FLOWS) as house:
        deal, twin = await _opportunity(house)
        await house.dynamics.edit("opportunity", twin, {"msdyn_opportunitygrade": 0})
        await in_step(house)
        assert await _told(house, deal) == ("Grade A", None)
        assert (await house.flow("sales.opportunity"))["failures"] == []
