"""The mapping names a column that the live Dataverse does not have (any more)."""

import json
import shutil
from pathlib import Path

from sandbox.child import ROOT
from sandbox.processes import Sandbox
from tests.end_to_end.accounts import FLOW, open_house

_GONE = '{"creatio": "AlternativeName", "way": "=", "dynamics": "tandem_gone"}'


async def test_a_column_that_is_not_there_is_a_failure_and_the_rest_goes_on(tmp_path: Path) -> None:
    """The mapping row is a failure of the flow with its code; every other field of every account is synced, both ways."""
    mappings = tmp_path / "mappings"
    shutil.copytree(ROOT / "mappings", mappings)
    file = mappings / f"{FLOW}.json"
    mapping = json.loads(file.read_text(encoding="utf-8"))
    mapping["fields"].append(json.loads(_GONE))
    file.write_text(json.dumps(mapping), encoding="utf-8")

    async def fill(sandbox: Sandbox) -> None:
        row = {"Name": "Left", "AlternativeName": "Linker", "Code": "L", "UsrActive": True}
        await sandbox.control("creatio").seed("Account", [row])
        await sandbox.control("dataverse").seed("account", [{"name": "Right", "accountnumber": "R"}])

    async with open_house(tmp_path, time_scale=5, settings={"MAPPINGS_DIR": str(mappings)}, before_host=fill) as house:
        await house.are_paired(["L", "R"])
        pair = await house.pair("L")
        await house.creatio.edit("Account", pair.creatio, {"Notes": "edited", "AlternativeName": "Links"}, "grace")
        await house.dynamics.edit("account", pair.dynamics, {"fax": "+49 1"})
        await house.gets(house.dynamics, pair.dynamics, {"description": "edited"})
        await house.gets(house.creatio, pair.creatio, {"Fax": "+49 1", "AlternativeName": "Links"})
        await house.calm(still=1.0)
        flow = await house.flow()
        assert flow["started"]
        assert {(failure["field"], failure["code"]) for failure in flow["failures"]} == {
            ("AlternativeName=tandem_gone", "dataverse.unknown_column")
        }
