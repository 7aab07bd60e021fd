"""Each way to log in to Creatio and each flavour of it: one small run through the whole house. OAuth under /0 is what all others use."""

from pathlib import Path

import pytest

from sandbox.processes import Sandbox
from tests.end_to_end.accounts import open_house


@pytest.mark.parametrize(("auth", "flavour", "prefix"), [("forms", "NF", "/0"), ("oauth", "NC", "/")])
async def test_accounts_cross_both_ways(tmp_path: Path, auth: str, flavour: str, prefix: str) -> None:
    """An account of each side is on both sides after the first load, and an edit follows it, whatever the login and the flavour."""

    async def fill(sandbox: Sandbox) -> None:
        await sandbox.control("creatio").switch(flavour=flavour, password="a password & more")
        await sandbox.control("creatio").seed("Account", [{"Name": "Left", "Code": "L", "UsrActive": True}])
        await sandbox.control("dataverse").seed("account", [{"name": "Right", "accountnumber": "R"}])

    login = {"CREATIO_AUTH": auth, "CREATIO_USERNAME": "integration", "CREATIO_PASSWORD": "a password & more"}
    async with open_house(tmp_path, time_scale=5, settings={**login, "CREATIO_APP_PREFIX": prefix}, before_host=fill) as house:
        await house.are_paired(["L", "R"])
        pair = await house.pair("R")
        await house.creatio.edit("Account", pair.creatio, {"Notes": "edited"}, "grace")
        await house.gets(house.dynamics, pair.dynamics, {"description": "edited"})
        await house.calm(still=1.0)
        await house.assert_same()
        asked = (await house.creatio.requests())["by"]
        assert any("Login" in name for name in asked) is (auth == "forms"), asked
