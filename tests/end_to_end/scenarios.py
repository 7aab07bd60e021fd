"""What the named scenarios share: people of the contact flow, pairs of records, and how a poll is seen through to its end."""

import json
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox.child import ROOT
from sandbox.control_client import Row
from shared.core.binding import Binding
from shared.core.records import Side
from shared.core.work import Conflict
from tests.end_to_end.accounts import FLOW, House, Pair

CONTACTS = "sales.contact"
USER = "grace"
WATCHES = {"WATCH_SCHEDULE": "*/30 * * * * *"}
"""Settings under which the watch sweeps every few seconds, at the time scale of the scenarios."""
COMPARES = WATCHES | {"COMPARE_INTERVAL_MS": "1000"}
"""The same, and every poll compares Creatio with the ledger, once a second at most."""
SCALE = 15


async def in_step(house: House, polls: int = 2) -> None:
    """Poll and see the work through to its end, again for the echoes of what was written."""
    for _ in range(polls):
        await house.poll()
        await house.calm(still=0.8)


async def until_polled(house: House, condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Poll and see it through until something is true: a delete in Creatio takes two complete reads, which take their time."""

    async def polled() -> bool:
        await in_step(house, 1)
        return await condition()

    await house.until(polled, what, 60)


async def new_accounts(house: House, codes: list[str], **values: Any) -> list[Pair]:
    """Let Creatio users create accounts and wait until Dynamics has them."""
    for code in codes:
        await house.creatio.create("Account", {"Name": f"Company {code}", "Code": code, "UsrActive": True, **values}, USER)
    await house.poll()
    await house.are_paired(codes)
    await in_step(house, 1)
    return [await house.pair(code) for code in codes]


async def binding_of(house: House, record: str, flow: str = FLOW) -> Binding | None:
    """Return what the ledger keeps of a record, named by its id on either side."""
    for side in Side:
        found = (await house.observer.app.ledger.bindings(flow, side, [record])).get(record)
        if found is not None:
            return found
    return None


async def conflicts_of(house: House, flow: str = FLOW) -> list[Conflict]:
    """Return the conflicts of a flow with the records that each of them names."""
    return list(await house.observer.app.ledger.conflicts(flow))


async def people(house: House, email: str) -> tuple[list[Row], list[Row]]:
    """Return the contacts with this e-mail address, Creatio's and Dynamics'."""
    left = [row for row in await house.creatio.rows("Contact") if row["Email"] == email]
    right = [row for row in await house.dynamics.rows("contact") if row["emailaddress1"] == email]
    return left, right


def copied_mappings(directory: Path) -> Path:
    """Return a copy of the mappings that a test may change."""
    return Path(shutil.copytree(ROOT / "mappings", directory / "mappings"))


def change_mapping(folder: Path, flow: str, change: Mapping[str, Mapping[str, Any]], *added: Mapping[str, Any]) -> None:
    """Change rows of a mapping, named by their Creatio column, and add others."""
    file = folder / f"{flow}.json"
    mapping = json.loads(file.read_text(encoding="utf-8"))
    for row in mapping["fields"]:
        row.update(change.get(row["creatio"], {}))
    mapping["fields"] += added
    file.write_text(json.dumps(mapping), encoding="utf-8")


async def walked(house: House, path: str, **parameters: str) -> dict[str, int]:
    """Start a run over all records of the accounts, see it through to its end and return its counts."""
    run = str((await house.ask("POST", path, flow=FLOW, **parameters))["result"])

    async def over() -> bool:
        return (await house.flow())["walking"] is None

    await house.until(over, f"{path} {parameters} comes to its end")
    return dict((await house.ask("GET", "runs/show", flow=FLOW, run=run))["result"]["counts"])
