"""What changes around a running flow: owners of a field, rights, columns, and the mapping itself."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.end_to_end.accounts import FLOW, NEVER, House, open_house
from tests.end_to_end.scenarios import (
    CONTACTS,
    SCALE,
    USER,
    WATCHES,
    change_mapping,
    conflicts_of,
    copied_mappings,
    in_step,
    new_accounts,
    until_polled,
    walked,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

_OWNERS = {"UsrEmail": {"owner": "creatio"}, "Web": {"owner": "dynamics"}, "Zip": {"owner": "ask"}}
_ADDED = {"creatio": "AlternativeName", "way": "=", "dynamics": "tickersymbol"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mappings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the mappings, with a field of each owner."""
    folder = copied_mappings(tmp_path_factory.mktemp("mapped"))
    change_mapping(folder, FLOW, _OWNERS)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, mappings: Path) -> AsyncIterator[House]:
    """Run one sandbox for this file, under the copied mappings."""
    settings = WATCHES | {"MAPPINGS_DIR": str(mappings)}
    async with open_house(tmp_path_factory.mktemp("changes"), poll_schedule=NEVER, time_scale=SCALE, settings=settings) as running:
        yield running


async def test_one_field_is_edited_on_both_sides_within_one_poll(house: House) -> None:
    """Creatio's field keeps Creatio's edit, Dynamics' field that of Dynamics; the third is a question, which a person answers."""
    first, second = await new_accounts(house, ["O-1", "O-2"])
    for pair in (first, second):
        await house.creatio.edit("Account", pair.creatio, {"UsrEmail": "l@x.example", "Web": "https://l.example", "Zip": "11111"}, USER)
        edits = {"emailaddress1": "r@x.example", "websiteurl": "https://r.example", "address1_postalcode": "22222"}
        await house.dynamics.edit("account", pair.dynamics, edits)
    await in_step(house)
    for pair in (first, second):
        await house.gets(house.creatio, pair.creatio, {"UsrEmail": "l@x.example", "Web": "https://r.example", "Zip": "11111"})
        decided = {"emailaddress1": "l@x.example", "websiteurl": "https://r.example", "address1_postalcode": "22222"}
        await house.gets(house.dynamics, pair.dynamics, decided)
    asked = {(one.creatio_id, one.field, one.reason) for one in await conflicts_of(house)}
    assert asked == {(pair.creatio, "Zip=address1_postalcode", "merge.both_changed") for pair in (first, second)}

    field = "Zip=address1_postalcode"
    await house.ask("POST", "conflicts/decide", flow=FLOW, record=first.creatio, field=field, choice="dynamics")
    await house.creatio.edit("Account", second.creatio, {"Zip": "22222"}, USER)
    await in_step(house)
    await house.gets(house.creatio, first.creatio, {"Zip": "22222"})
    assert await conflicts_of(house) == [], "one was decided, the other closed itself when the sides became equal"


async def test_rights_are_removed_for_one_object(house: House) -> None:
    """The flow of that object stops and says why, the other goes on; with the right given back and the flow started nothing is lost."""
    (account,) = await new_accounts(house, ["T-1"])
    await house.creatio.rights("Contact", read=False)
    await house.creatio.create("Contact", {"Name": "Rita Rights", "Email": "rita@x.example", "UsrActive": True}, USER)
    await house.creatio.edit("Account", account.creatio, {"Notes": "goes on"}, USER)
    await in_step(house)
    stopped = await house.flow(CONTACTS)
    assert (stopped["started"], "creatio.denied" in stopped["stopped_because"]) == (False, True), stopped
    await house.gets(house.dynamics, account.dynamics, {"description": "goes on"})
    assert (await house.flow())["started"]
    await house.dynamics.create("contact", {"firstname": "Rolf", "lastname": "Rights", "emailaddress1": "rolf@x.example"})
    await in_step(house, 1)
    await house.creatio.rights("Contact")
    await house.ask("POST", "flows/start", flow=CONTACTS)
    await in_step(house)
    assert [row["lastname"] for row in await house.dynamics.rows("contact") if row["emailaddress1"] == "rita@x.example"] == ["Rights"]
    assert [row["Name"] for row in await house.creatio.rows("Contact") if row["Email"] == "rolf@x.example"] == ["Rolf Rights"]
    started = await house.flow(CONTACTS)
    assert (started["started"], started["failures"]) == (True, [])


async def test_a_mapping_row_is_added_to_a_running_flow(house: House, mappings: Path) -> None:
    """The status says that records need alignment, a dry run counts and writes nothing, the run writes, and the status is content."""
    pairs = await new_accounts(house, ["A-1", "A-2", "A-3"])
    for number, pair in enumerate(pairs[:2]):
        await house.creatio.edit("Account", pair.creatio, {"AlternativeName": f"ALT{number}"}, USER)
    await house.dynamics.edit("account", pairs[2].dynamics, {"tickersymbol": "TICK"})
    await in_step(house)
    assert not (await house.flow())["needs_alignment"]
    change_mapping(mappings, FLOW, {}, _ADDED)
    await house.sandbox.restart("host")
    await in_step(house)
    written = await house.writes()
    assert (await house.flow())["needs_alignment"]
    planned = await walked(house, "runs/align", dry="true")
    assert {name: number for name, number in planned.items() if "write" in name} == {
        "would_write_dynamics": 2,
        "would_write_dynamics_fields": 2,
        "would_write_creatio": 1,
        "would_write_creatio_fields": 1,
    }
    assert await house.writes() == written
    assert (await house.flow())["needs_alignment"]
    assert (await walked(house, "runs/align"))["updated"] == len(pairs)
    assert not (await house.flow())["needs_alignment"]
    for number, pair in enumerate(pairs[:2]):
        await house.gets(house.dynamics, pair.dynamics, {"tickersymbol": f"ALT{number}"})
    await house.gets(house.creatio, pairs[2].creatio, {"AlternativeName": "TICK"})
    assert await house.writes() == written + len(pairs)


@pytest.mark.parametrize("side", ["creatio", "dataverse"])
async def test_a_column_is_removed_from_the_live_system(house: House, side: str) -> None:
    """Without the column its field is a failure and every other field goes on; with the column there again the field flows again."""
    entity, column = {"creatio": ("Account", "Fax"), "dataverse": ("account", "telephone2")}[side]
    field = {"creatio": "Fax=fax", "dataverse": "AdditionalPhone=telephone2"}[side]
    (pair,) = await new_accounts(house, [f"C-{side}"], Fax="+49 1", AdditionalPhone="+49 2")
    control = house.sandbox.control(side)
    await control.remove_column(entity, column)
    await house.creatio.edit("Account", pair.creatio, {"Notes": "still here"}, USER)
    await house.dynamics.edit("account", pair.dynamics, {"websiteurl": "https://still.example"})
    await in_step(house)
    await house.gets(house.dynamics, pair.dynamics, {"description": "still here"})
    await house.gets(house.creatio, pair.creatio, {"Web": "https://still.example"})
    left, right = await house.creatio.row("Account", pair.creatio) or {}, await house.dynamics.row("account", pair.dynamics) or {}
    kept = (right["fax"], right["telephone2"]) if side == "creatio" else (left["Fax"], left["AdditionalPhone"])
    assert kept == ("+49 1", "+49 2"), "a column that is gone is no empty value"
    flow = await house.flow()
    assert flow["started"]
    assert {(one["field"], one["code"]) for one in flow["failures"]} == {(field, f"{side}.unknown_column")}

    await control.add_column(entity, column)
    await house.sandbox.restart("host")  # metadata is kept for a while, and nothing tells that a column came
    await house.creatio.edit("Account", pair.creatio, {"Fax": "+49 3", "AdditionalPhone": "+49 4"}, USER)

    async def flows_again() -> bool:
        row = await house.dynamics.row("account", pair.dynamics) or {}
        return (row["fax"], row["telephone2"]) == ("+49 3", "+49 4") and not (await house.flow())["failures"]

    await until_polled(house, flows_again, f"{field} flows again and its failure is gone")
