"""The app dies in the middle of its first load, both systems misbehaving: in the end they tell the same story."""

import asyncio
import random
import secrets
from pathlib import Path

from sandbox.processes import Sandbox
from sandbox.seed import Seeded, seed
from tests.end_to_end.accounts import House, open_house

_RULES = [
    {"kind": "status", "status": 503, "share": 0.06},
    {"kind": "status", "status": 429, "retry_after": 1, "share": 0.03},
    {"kind": "drop_after", "share": 0.06},
    {"kind": "expire", "share": 0.03},
]


async def test_a_host_killed_in_its_first_load_goes_on_where_it_was(tmp_path: Path) -> None:
    """After SIGKILL at a random moment, with lost replies and refusals on both sides, every account is on both sides once and equal."""
    number = secrets.randbelow(1_000_000)
    dice = random.Random(number)
    seeded: list[Seeded] = []

    async def fill(sandbox: Sandbox) -> None:
        seeded.append(await seed(sandbox.creatio, sandbox.dataverse, accounts=60, seed=number))

    chaos = {name: {"seed": number, "rules": _RULES} for name in ("creatio", "dataverse")}
    # More slots than messages: what the dead host leased comes back by time only.
    settings = {"CREATIO_SLOTS": "16", "DATAVERSE_SLOTS": "16", "WATCH_SCHEDULE": "0 */2 * * * *"}
    # The messages in the dead host's hands come back after ten minutes of the host's clock: 20 seconds here.
    async with open_house(
        tmp_path, poll_schedule="*/30 * * * * *", time_scale=30, settings=settings, before_host=fill, chaos=chaos
    ) as house:
        before = await house.writes()
        await house.until(lambda: _has_begun(house, before), "the load has begun")
        await asyncio.sleep(dice.uniform(0.0, 1.5))
        await house.sandbox.kill("host")
        written = await house.writes()
        await house.sandbox.restart("host")
        await asyncio.sleep(4)
        for control in (house.creatio, house.dynamics):
            await control.calm()
        await house.calm(seconds=60, still=3, orphans=True)
        story = f"seed {number}, killed after {written} writes, {await house.writes()} in the end"
        await house.assert_same()
        sides = (len(await house.creatio.rows("Account")), len(await house.dynamics.rows("account")))
        assert sides == (seeded[0].accounts, seeded[0].accounts), story


async def _has_begun(house: House, before: int) -> bool:
    """Tell whether the app has written anything yet."""
    return await house.writes() > before
