"""What the Creatio stand-in does by itself when an account, a contact or one of their details is saved (creatio.md 5.1, checklist 17)."""

from dataclasses import dataclass
from datetime import datetime

import pytest

from sandbox.creatio.content import made_id
from tests.contract.creatio_stand_in import MAIN_PHONE, Tenant, part

MOBILE = "d4a2dc80-30ca-df11-9b2a-001d60e938c6"
EMAIL = "ee1c85c3-cfcb-df11-9b2a-001d60e938c6"
NUMBERS = [
    ("Account", "Phone", MAIN_PHONE),
    ("Account", "AdditionalPhone", "2b387201-67cc-df11-9b2a-001d60e938c6"),
    ("Account", "Fax", "9a7ab41b-67cc-df11-9b2a-001d60e938c6"),
    ("Account", "Web", "6a8ba927-67cc-df11-9b2a-001d60e938c6"),
    ("Contact", "Phone", MAIN_PHONE),
    ("Contact", "MobilePhone", MOBILE),
    ("Contact", "HomePhone", made_id("CommunicationType", "Home phone")),
    ("Contact", "Skype", made_id("CommunicationType", "Skype")),
    ("Contact", "Email", EMAIL),
]


@dataclass(frozen=True)
class Owner:
    """An account or contact with its details, each known by its set."""

    tenant: Tenant
    entity: str
    id: str

    async def shown(self) -> dict:
        """Return the owner as it is."""
        return await self.tenant.get(f"{self.entity}({self.id})")

    async def add(self, detail: str, **values) -> dict:
        """Create a detail by OData."""
        return await self.tenant.post(f"{self.entity}{detail}", {f"{self.entity}Id": self.id, **values})

    async def details(self, detail: str) -> list[dict]:
        """Return the details in the order of their making."""
        return await self.tenant.rows(f"{self.entity}{detail}", f"{self.entity}/Id eq {self.id}", orderby="CreatedOn")

    async def primary(self, detail: str) -> list[str]:
        """Return the ids of primary details."""
        return [row["Id"] for row in await self.details(detail) if row["Primary"]]


async def owner(tenant: Tenant, entity: str, **values) -> Owner:
    """Create an account or contact."""
    return Owner(tenant, entity, (await tenant.post(entity, {"Name": "Ada Byron", **values}))["Id"])


def at(row: dict) -> datetime:
    """Return when a row was changed."""
    return datetime.fromisoformat(row["ModifiedOn"])


@pytest.mark.parametrize(("entity", "column", "kind"), NUMBERS)
async def test_a_number_and_its_primary_communication_are_one(tenant, entity, column, kind):
    """Each number makes, changes and removes its communication; a communication makes, changes and blanks the number."""
    one = await owner(tenant, entity, **{column: "1"})
    (made,) = await one.details("Communication")
    assert (made["Number"], made["CommunicationTypeId"], made["Primary"]) == ("1", kind, True)
    await tenant.patch(entity, one.id, {column: "2"})
    (changed,) = await one.details("Communication")
    assert (changed["Id"], changed["Number"], at(changed) > at(made)) == (made["Id"], "2", True)
    await tenant.patch(entity, one.id, {column: ""})
    assert await one.details("Communication") == []
    added = await one.add("Communication", CommunicationTypeId=kind, Number="3")
    before = await one.shown()
    assert before[column] == "3"
    await tenant.patch(f"{entity}Communication", added["Id"], {"Number": "4"})
    after = await one.shown()
    assert (after[column], at(after) > at(before)) == ("4", True)
    await tenant.delete(f"{entity}Communication", added["Id"])
    blank = await one.shown()
    assert (blank[column], blank["ModifiedOn"]) == ("", after["ModifiedOn"])  # by SQL: no time moves


@pytest.mark.parametrize("entity", ["Account", "Contact"])
async def test_the_newest_communication_of_a_type_is_primary(tenant, entity):
    """A new one takes over though it says that it is none; its siblings lose the flag by SQL; other types and owners are left alone."""
    one, other = await owner(tenant, entity, Phone="1"), await owner(tenant, entity, Phone="9")
    (first,) = await one.details("Communication")
    unlike = await one.add("Communication", CommunicationTypeId=EMAIL, Number="a@b.example")
    second = await one.add("Communication", CommunicationTypeId=MAIN_PHONE, Number="2", Primary=False)
    assert await one.primary("Communication") == [unlike["Id"], second["Id"]]
    assert len(await other.primary("Communication")) == 1
    sibling = (await one.details("Communication"))[0]
    assert (sibling["Id"], sibling["Primary"], sibling["ModifiedOn"]) == (first["Id"], False, first["ModifiedOn"])
    assert (await one.shown())["Phone"] == "2"
    await tenant.patch(f"{entity}Communication", first["Id"], {"Number": "1b"})
    assert (await one.shown())["Phone"] == "2"  # it is not the primary one
    await tenant.patch(f"{entity}Communication", first["Id"], {"Primary": True})
    assert await one.primary("Communication") == [first["Id"], unlike["Id"]]
    assert (await one.shown())["Phone"] == "1b"
    await tenant.delete(f"{entity}Communication", second["Id"])
    assert (await one.shown())["Phone"] == "1b"  # nor is this one
    await tenant.delete(f"{entity}Communication", first["Id"])
    assert (await one.shown())["Phone"] == ""


async def test_a_client_that_writes_both_sides_makes_doubles(tenant):
    """Creatio.md 9.10: the number on the account and a communication with it are two communications; the later one is primary."""
    one = await owner(tenant, "Account", Phone="1")
    await one.add("Communication", CommunicationTypeId=MAIN_PHONE, Number="1")
    assert [(row["Number"], row["Primary"]) for row in await one.details("Communication")] == [("1", False), ("1", True)]
    await tenant.patch("Account", one.id, {"Zip": "1"})
    await one.add("Address", Zip="1")
    assert [(row["Zip"], row["Primary"]) for row in await one.details("Address")] == [("1", True), ("1", False)]


@pytest.mark.parametrize("entity", ["Account", "Contact"])
async def test_the_address_block_and_the_primary_address_are_one_for_both(tenant, entity):
    """Both ways; a primary address clears its siblings by SQL; when it goes the oldest other is promoted and shown."""
    one = await owner(tenant, entity, Zip="1", Address="Main St")
    (first,) = await one.details("Address")
    assert (first["Zip"], first["Address"], first["Primary"]) == ("1", "Main St", True)
    await tenant.patch(entity, one.id, {"Zip": "2"})
    (changed,) = await one.details("Address")
    assert (changed["Zip"], changed["Address"], at(changed) > at(first)) == ("2", "Main St", True)
    before = await one.shown()
    await tenant.patch(f"{entity}Address", first["Id"], {"Zip": "3"})
    after = await one.shown()
    assert (after["Zip"], at(after) > at(before)) == ("3", True)
    second = await one.add("Address", Zip="8")
    third = await one.add("Address", Zip="9", Primary=True)
    assert (second["Primary"], await one.primary("Address")) == (False, [third["Id"]])
    sibling = (await one.details("Address"))[0]
    assert at(sibling) < at(third)  # by SQL: the time of its own last change stays
    assert ((await one.shown())["Zip"], (await one.shown())["Address"]) == ("9", "")
    await tenant.patch(f"{entity}Address", second["Id"], {"Zip": "8b"})
    assert (await one.shown())["Zip"] == "9"
    await tenant.delete(f"{entity}Address", third["Id"])
    assert await one.primary("Address") == [first["Id"]]
    assert (await one.shown())["Zip"] == "3"
    await tenant.delete(f"{entity}Address", second["Id"])
    assert await one.primary("Address") == [first["Id"]]


@pytest.mark.parametrize("entity", ["Account", "Contact"])
async def test_details_go_with_their_owner(tenant, entity):
    """A delete of the owner leaves no communication and no address behind."""
    one = await owner(tenant, entity, Phone="1", Zip="2")
    await tenant.delete(entity, one.id)
    assert await tenant.rows(f"{entity}Communication") == []
    assert await tenant.rows(f"{entity}Address") == []


@pytest.mark.parametrize("on", [True, False])
async def test_side_effects_are_a_switch(tenant, on):
    """`side_effects`: as shipped details, numbers and names follow each other; without them a save is that of its own row."""
    await tenant.settings(side_effects=on)
    one = await owner(tenant, "Contact", Phone="1", Zip="2")
    assert [len(await one.details(detail)) for detail in ("Communication", "Address")] == [int(on)] * 2
    assert (await one.shown())["Surname"] == ("Byron" if on else "")
    added = await one.add("Communication", CommunicationTypeId=EMAIL, Number="a@b.example")
    assert ((await one.shown())["Email"], added["Primary"]) == (("a@b.example", True) if on else ("", False))
    await tenant.delete("ContactCommunication", added["Id"])
    assert (await one.shown())["Email"] == ""


async def test_side_effects_happen_inside_a_batch_and_by_a_user(tenant):
    """A batch and a person in the UI cause the same; the consequences bear the stamp of who caused them."""
    (created,) = await tenant.batch(part(1, "POST", "Account", {"Name": "A", "Phone": "1"}))
    account = created["body"]["Id"]
    await tenant.edit("Account", account, user="grace", Phone="2")
    (number,) = await tenant.rows("AccountCommunication")
    grace = (await tenant.rows("SysAdminUnit", "Name eq 'grace'"))[0]["ContactId"]
    assert (number["Number"], number["ModifiedById"]) == ("2", grace)
