"""An analyst adds an object of their own, with lines, by a mapping file alone (requirements D4): no code knows any of these names."""

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import Sandbox
from tests.end_to_end.accounts import House, open_house
from tests.end_to_end.scenarios import COMPARES, SCALE, copied_mappings, in_step, until_polled

FLOW = "custom.rental"
MAPPING = {
    "flow": FLOW,
    "title": "Rentals",
    "about": "What the customer rents from us, with its items.",
    "creatio": {"entity": "UsrRental"},
    "dynamics": {"system": "dataverse", "entity": "new_rental"},
    "create": "to_dynamics",
    "owner": "creatio",
    "on_delete": "keep",
    "on_duplicate": "ask",
    "match": [["UsrName"]],
    "fields": [
        {"creatio": "UsrName", "way": ">", "dynamics": "new_name", "required": True},
        {"creatio": "UsrNotes", "way": "=", "dynamics": "new_notes"},
        {
            "creatio": "UsrAccountId",
            "way": ">",
            "dynamics": "new_accountid",
            "rule": "reference",
            "flow": "sales.account",
            "if_missing": "wait",
        },
    ],
    "lines": {
        "creatio": {"entity": "UsrRentalItem", "parent": "UsrRentalId"},
        "dynamics": {"entity": "new_rentalitem", "parent": "new_rentalid"},
        "fields": [
            {"creatio": "UsrName", "way": ">", "dynamics": "new_name", "required": True},
            {"creatio": "UsrQuantity", "way": ">", "dynamics": "new_quantity", "rule": "money"},
        ],
    },
}
TEXT = {"type": "Text250"}
CREATIO: dict[str, dict[str, Any]] = {
    "UsrRental": {
        "UsrName": TEXT,
        "UsrNotes": TEXT,
        "UsrAccountId": {"type": "Guid", "lookup": "Account", "navigation": "UsrAccount"},
    },
    "UsrRentalItem": {
        "UsrName": TEXT,
        "UsrQuantity": {"type": "Decimal", "scale": 2},
        "UsrRentalId": {"type": "Guid", "lookup": "UsrRental", "navigation": "UsrRental"},
    },
}
DYNAMICS: dict[str, dict[str, Any]] = {
    "new_rental": {
        "new_name": {"type": "String", "max_length": 200},
        "new_notes": {"type": "String", "max_length": 200},
        "new_accountid": {"type": "Lookup", "targets": ["account"], "navigation": {"account": "new_AccountId"}},
    },
    "new_rentalitem": {
        "new_name": {"type": "String", "max_length": 50},
        "new_quantity": {"type": "Decimal", "precision": 2, "min": 0, "max": 1000},
        "new_rentalid": {"type": "Lookup", "targets": ["new_rental"], "navigation": {"new_rental": "new_RentalId"}},
    },
}


async def _design(sandbox: Sandbox) -> None:
    """Add the objects on both sides, as people do who design them."""
    for name, columns in CREATIO.items():
        await sandbox.control("creatio").add_entity(name, columns)
    for name, columns in DYNAMICS.items():
        await sandbox.control("dataverse").add_entity(name, columns)


async def _items(house: House) -> dict[str, float]:
    """Return the items in Dynamics, quantity by name."""
    return {row["new_name"]: float(row["new_quantity"]) for row in await house.dynamics.rows("new_rentalitem")}


async def test_a_custom_object_with_lines_needs_a_mapping_file_only(tmp_path: Path) -> None:
    """It is created after its account; lines come, change and go; notes go both ways; a bad line is told and nothing written."""
    mappings = copied_mappings(tmp_path)
    (mappings / f"{FLOW}.json").write_text(json.dumps(MAPPING), encoding="utf-8")
    settings = {"MAPPINGS_DIR": str(mappings), "FLOWS": f"sales.account,sales.contact,{FLOW}"}
    async with open_house(tmp_path, time_scale=5, settings=settings, before_host=_design) as house:
        creatio = house.creatio
        account = (await creatio.create("Account", {"Name": "Renter", "Code": "R-1", "UsrActive": True}))["Id"]
        rental = (await creatio.create("UsrRental", {"UsrName": "Summer", "UsrAccountId": account}))["Id"]
        crane = await _item(house, rental, "Crane", 2)
        barge = await _item(house, rental, "Barge", 1)

        async def arrived() -> bool:
            return len(await _items(house)) == 2

        await house.poll()
        await house.until(arrived, "the rental is there with both items")
        (made,) = await house.dynamics.rows("new_rental")
        (twin,) = await house.in_dynamics(accountnumber="R-1")
        assert (made["new_name"], made["new_accountid"]) == ("Summer", twin["accountid"])
        assert await _items(house) == {"Crane": 2, "Barge": 1}

        await creatio.edit("UsrRentalItem", crane, {"UsrQuantity": 3})
        await creatio.delete("UsrRentalItem", barge)
        await _item(house, rental, "Winch", 5)
        await in_step(house, 1)  # nobody touched the rental itself: its lines have a feed of their own
        assert (await _items(house))["Winch"] == 5
        await creatio.edit("UsrRental", rental, {"UsrNotes": "by ship"})
        await in_step(house)
        assert await _items(house) == {"Crane": 3, "Winch": 5}
        await house.gets(house.dynamics, made["new_rentalid"], {"new_notes": "by ship"}, of="new_rental")

        await house.dynamics.edit("new_rental", made["new_rentalid"], {"new_notes": "by road"})
        await in_step(house)
        assert (await creatio.row("UsrRental", rental) or {})["UsrNotes"] == "by road"

        await creatio.edit("UsrRentalItem", crane, {"UsrQuantity": 4})
        bad = await _item(house, rental, "x" * 60, 1)
        await creatio.edit("UsrRental", rental, {"UsrNotes": "by air"})
        await in_step(house)
        assert await _items(house) == {"Crane": 3, "Winch": 5}
        assert "mapping.too_long" in (await house.failures(rental, FLOW)).values()
        await creatio.edit("UsrRentalItem", bad, {"UsrName": "Rope"})
        await in_step(house)
        assert await _items(house) == {"Crane": 4, "Winch": 5, "Rope": 1}
        assert await house.failures(rental, FLOW) == {}


async def _item(house: House, rental: str, name: str, quantity: int) -> str:
    """Add an item in Creatio and return its id."""
    row = await house.creatio.create("UsrRentalItem", {"UsrName": name, "UsrQuantity": quantity, "UsrRentalId": rental})
    return str(row["Id"])


@pytest.mark.slow
async def test_an_item_deleted_behind_its_rentals_back_goes_with_the_next_compare(tmp_path: Path) -> None:
    """Creatio lists no deletes and nobody touches the rental: the compare of all lines finds that one is gone, and only its rental."""
    mappings = copied_mappings(tmp_path)
    (mappings / f"{FLOW}.json").write_text(json.dumps(MAPPING), encoding="utf-8")
    settings = COMPARES | {"MAPPINGS_DIR": str(mappings), "FLOWS": f"sales.account,sales.contact,{FLOW}"}
    async with open_house(tmp_path, time_scale=SCALE, settings=settings, before_host=_design) as house:
        account = (await house.creatio.create("Account", {"Name": "Renter", "Code": "R-1", "UsrActive": True}))["Id"]
        rental = (await house.creatio.create("UsrRental", {"UsrName": "Summer", "UsrAccountId": account}))["Id"]
        barge = await _item(house, rental, "Barge", 1)
        await _item(house, rental, "Crane", 2)

        async def arrived() -> bool:
            return len(await _items(house)) == 2

        await until_polled(house, arrived, "the rental is there with both items")
        before = await house.creatio.row("UsrRental", rental)
        await house.creatio.delete("UsrRentalItem", barge)

        async def gone() -> bool:
            return await _items(house) == {"Crane": 2}

        await until_polled(house, gone, "the item is gone in Dynamics")
        assert await house.creatio.row("UsrRental", rental) == before
        assert await house.failures(rental, FLOW) == {}
