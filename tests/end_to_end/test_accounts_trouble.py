"""Servers that misbehave under the running app: it recovers by itself, loses nothing and doubles nothing."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.end_to_end.accounts import House, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _both(**trouble: Any) -> list[dict[str, Any]]:
    """Return rules that meet a read and a write."""
    return [{"method": method, "times": 1, **trouble} for method in ("GET", "POST")]


_TROUBLE: dict[str, list[dict[str, Any]]] = {
    "malformed JSON, HTML and nothing where JSON is due": [
        rule for body in ("malformed", "html", "empty") for rule in _both(kind="status", status=200, body=body)
    ],
    "429 with and without Retry-After": [*_both(kind="status", status=429, retry_after=1), *_both(kind="status", status=429, body="html")],
    "500, 502 and 503": [rule for status in (500, 502, 503) for rule in _both(kind="status", status=status, body="html")],
    "connections closed before the work and after the commit": [*_both(kind="drop_before"), *_both(kind="drop_after", times=2)],
    "creates that happened and were answered 500": [{"kind": "insert_then_fail", "method": "POST", "times": 2}],
    "expired sessions and tokens": _both(kind="expire", times=3),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Run one sandbox for this file, with one account that both sides have."""
    async with open_house(tmp_path_factory.mktemp("trouble"), time_scale=5) as running:
        await running.creatio.create("Account", {"Name": "Old", "Code": "OLD", "UsrActive": True}, "grace")
        await running.are_paired(["OLD"])
        yield running


@pytest.mark.parametrize("trouble", _TROUBLE)
async def test_the_app_recovers_by_itself(house: House, trouble: str) -> None:
    """Both systems answer so in the middle of the work; in the end every account is on both sides, once, and nobody is asked."""
    await house.calm(still=0.5)
    mark, old = uuid4().hex[:8], await house.pair("OLD")
    for control in (house.creatio, house.dynamics):
        await control.chaos({"seed": 1, "rules": _TROUBLE[trouble]})
    await house.creatio.create("Account", {"Name": f"Left {mark}", "Code": f"L-{mark}", "UsrActive": True}, "grace")
    await house.dynamics.create("account", {"name": f"Right {mark}", "accountnumber": f"R-{mark}"})
    await house.creatio.edit("Account", old.creatio, {"Notes": mark}, "grace")
    await house.dynamics.edit("account", old.dynamics, {"fax": mark})
    await house.are_paired([f"L-{mark}", f"R-{mark}"])
    await house.gets(house.dynamics, old.dynamics, {"description": mark, "fax": mark})
    await house.gets(house.creatio, old.creatio, {"Notes": mark, "Fax": mark})
    for control in (house.creatio, house.dynamics):
        assert sum(rule["fired"] for rule in (await house.troubles(control))) > 0, f"{control.name} did not misbehave"
        await control.calm()
    await house.calm(still=1.0)
    for code in (f"L-{mark}", f"R-{mark}"):
        await house.pair(code)
    await house.assert_same()
