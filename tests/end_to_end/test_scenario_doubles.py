"""Three people of one e-mail address: whoever is somebody else stays so, and nobody is doubled or bound to the wrong twin."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.end_to_end.accounts import NEVER, House, open_house
from tests.end_to_end.scenarios import CONTACTS, SCALE, USER, binding_of, in_step, people

pytestmark = pytest.mark.asyncio(loop_scope="module")

_FAMILY = "family@x.example"
_TWINS = "twins@x.example"
_NAMES = ("Anna Berg", "Bert Berg", "Cleo Berg")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Run one sandbox for this file."""
    async with open_house(tmp_path_factory.mktemp("doubles"), poll_schedule=NEVER, time_scale=SCALE) as running:
        yield running


async def test_three_people_share_an_e_mail_address(house: House) -> None:
    """Three contacts of one address and three names are three on the other side too, each bound to the one of its own name."""
    for name in _NAMES:
        await house.creatio.create("Contact", {"Name": name, "Email": _FAMILY, "UsrActive": True}, USER)
    first, last = _NAMES[0].split()
    await house.dynamics.create("contact", {"firstname": first, "lastname": last, "emailaddress1": _FAMILY})
    await in_step(house)
    left, right = await people(house, _FAMILY)
    assert sorted(row["Name"] for row in left) == sorted(f"{row['firstname']} {row['lastname']}" for row in right) == list(_NAMES)
    names = {row["contactid"]: f"{row['firstname']} {row['lastname']}" for row in right}
    for row in left:
        binding = await binding_of(house, row["Id"], CONTACTS)
        assert binding is not None
        assert names[binding.dynamics_id or ""] == row["Name"]
    await house.creatio.edit("Contact", left[0]["Id"], {"JobTitle": "Buyer"}, USER)
    await in_step(house, 1)
    jobs = {f"{row['firstname']} {row['lastname']}": row["jobtitle"] for row in (await people(house, _FAMILY))[1]}
    assert jobs == dict.fromkeys(_NAMES) | {left[0]["Name"]: "Buyer"}
    assert (await house.flow(CONTACTS))["conflicts"] == []


async def test_three_doubles_meet_one(house: House) -> None:
    """Three equal contacts in Dynamics, one in Creatio: nobody is created, each is a question with its candidates, and a person ends it."""
    await house.dynamics.chaos({"rules": [{"kind": "delay", "seconds": 3, "path": "contacts.*deltatoken", "times": 1}]})  # Creatio first
    single = await house.creatio.create("Contact", {"Name": "Dora Twin", "Email": _TWINS, "UsrActive": True}, USER)
    doubles = [
        await house.dynamics.create("contact", {"firstname": "Dora", "lastname": "Twin", "emailaddress1": _TWINS, "jobtitle": job})
        for job in ("one", "two", "three")
    ]
    await in_step(house)
    left, right = await people(house, _TWINS)
    assert (len(left), len(right)) == (1, 3)
    person, ids = single["Id"], sorted(row["contactid"] for row in doubles)
    asked = {tuple(found) for found in (await house.flow(CONTACTS))["conflicts"]}
    assert asked == {(person, "", "", "match.ambiguous", *ids)} | {("", one, "", "match.ambiguous", person) for one in ids}

    kept, *others = ids
    for contact in others:
        await house.dynamics.delete("contact", contact)
    await in_step(house, 1)
    await house.creatio.edit("Contact", person, {"JobTitle": "the only one"}, USER)
    await in_step(house)
    assert (await people(house, _TWINS))[1][0]["jobtitle"] != "the only one", (
        "what a person was asked is not decided over that person's head"
    )
    await house.ask("POST", "conflicts/decide", flow=CONTACTS, record=person, choice="reopen")
    await in_step(house)
    assert (await house.flow(CONTACTS))["conflicts"] == []
    left, right = await people(house, _TWINS)
    assert [(row["Id"], row["JobTitle"]) for row in left] == [(person, "the only one")]
    assert [(row["contactid"], row["jobtitle"], row["tandem_creatioid"]) for row in right] == [(kept, "the only one", person)]
