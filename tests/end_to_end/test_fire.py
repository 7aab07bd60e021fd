"""The laws over HTTP: the host dies again and again while servers misbehave and users work; in the end nothing is lost or doubled."""

import secrets
from pathlib import Path

import pytest

from tests.end_to_end.accounts import NEVER
from tests.end_to_end.fire import Plan, fire

SEED: int | None = None
"""Put the number of a failed run here to have the same users, the same trouble and the same moments again."""

_MANY_SLOTS = {
    # More slots than messages that die in a host's hands: what it leased comes back by time only, after ten minutes.
    "CREATIO_SLOTS": "32",
    "DATAVERSE_SLOTS": "52",
    "AzureFunctionsJobHost__extensions__queues__newBatchThreshold": "0",
    "WATCH_SCHEDULE": NEVER,
}


async def _converges(directory: Path, plan: Plan) -> None:
    async with fire(directory, plan) as run:
        await run.burn()
        verdict = await run.rest()
        print(f"seed {plan.seed}: {len(run.journal)} edits, {len(run.kills)} kills: {verdict}")  # noqa: T201 - counted and shown
        for story in verdict.overrun:
            print(f"within the window: {story}")  # noqa: T201 - as above
        assert not verdict.lost, f"seed {plan.seed}: lost edits:\n" + "\n".join(verdict.lost)
        assert await run.failures() == [], f"seed {plan.seed}"
        assert await run.doubles() == [], f"seed {plan.seed}"
        assert await run.differences() == [], f"seed {plan.seed}"
        assert await run.writes_of_quiet_polls() == 0, f"seed {plan.seed}"


async def test_five_kills_under_fire_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """After five SIGKILLs both sides are equal, no key is double, each user's edit stands or was lawfully outvoted, and it is quiet."""
    await _converges(tmp_path, Plan(SEED or secrets.randbelow(1_000_000), kills=5, time_scale=40, settings=_MANY_SLOTS))


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_twenty_two_kills_under_fire_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """The same with twenty-two kills and more records: a message may die in several hosts' hands and become a failure to reprocess."""
    plan = Plan(SEED or secrets.randbelow(1_000_000), kills=22, time_scale=40, accounts=60, contacts=40, settings=_MANY_SLOTS, patience=900)
    await _converges(tmp_path, plan)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_three_kills_at_true_time_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """The same at true time, with the slots of every installation: what died with a host comes back after ten minutes, all of it."""
    await _converges(tmp_path, Plan(SEED or secrets.randbelow(1_000_000), kills=3, time_scale=1, seconds=6.0, patience=900))
