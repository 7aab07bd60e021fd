"""Values that one side can't take as they are, hostile texts on their whole way, and edits at awkward moments."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from sandbox.processes import Sandbox
from tests.end_to_end.accounts import FLOW, NEVER, House, open_house
from tests.end_to_end.scenarios import (
    CONTACTS,
    SCALE,
    USER,
    WATCHES,
    binding_of,
    change_mapping,
    conflicts_of,
    copied_mappings,
    in_step,
    new_accounts,
    people,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MARK = "zq7"
"""Stands in every hostile text, so that the logs can be searched for it."""
_HOSTILE = {
    "quotes": f"{_MARK}O'B\"r'ie\"n'",
    "markup": f"{_MARK}<b>&amp;</b>",
    "address": f"{_MARK}%20a/b#c?d=e&f",
    "newline": f"{_MARK} a\nb",
    "right to left": f"{_MARK}שבת \u200fשמש",
    "four bytes": f"{_MARK}\N{ROCKET}\N{MATHEMATICAL FRAKTUR CAPITAL A}",
    "filter": f"{_MARK}' or 1 eq 1 or '",
}
_REFUSED = {"creatio": "GPSN", "way": "<", "dynamics": "address1_name", "overlong": "reject"}
_CUT = {"creatio": "GPSE", "way": "<", "dynamics": "address2_name", "overlong": "truncate"}


async def _fill(sandbox: Sandbox) -> None:
    """Put the same companies and people, with hostile keys, on both sides, each with something that the other lacks."""
    left, right = sandbox.control("creatio"), sandbox.control("dataverse")
    companies = [{"Name": f"{text} Ltd", "Code": text, "UsrActive": True, "Web": "https://l.example"} for text in _HOSTILE.values()]
    await left.seed("Account", companies)
    await right.seed("account", [{"name": f"{text} Inc", "accountnumber": text, "fax": "+49 30 1"} for text in _HOSTILE.values()])
    staff = [{"Name": f"Kim {text}", "Email": f"{text}@x.example", "UsrActive": True, "JobTitle": "L"} for text in _HOSTILE.values()]
    await left.seed("Contact", staff)
    rows = [{"firstname": "Kim", "lastname": text, "emailaddress1": f"{text}@x.example", "telephone1": "+1"} for text in _HOSTILE.values()]
    await right.seed("contact", rows)
    await left.switch(csdl_max_length=True)
    await left.seed("AccountType", [{"Name": "Zeppelin"}])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Run one sandbox for this file, under mappings that also bring long names of addresses to short columns of Creatio."""
    directory = tmp_path_factory.mktemp("values")
    folder = copied_mappings(directory)
    change_mapping(folder, FLOW, {}, _REFUSED, _CUT)
    settings = WATCHES | {"MAPPINGS_DIR": str(folder)}
    async with open_house(directory, poll_schedule=NEVER, time_scale=SCALE, settings=settings, before_host=_fill) as running:
        await in_step(running)
        yield running


@pytest.mark.parametrize("kind", _HOSTILE)
async def test_a_hostile_text_is_a_key(house: House, kind: str) -> None:
    """Companies and people whose number, name and address are hostile find their one twin by them, and are completed by it."""
    text = _HOSTILE[kind]
    pair = await house.pair(text)
    await house.gets(house.creatio, pair.creatio, {"Fax": "+49 30 1", "Code": text})
    await house.gets(house.dynamics, pair.dynamics, {"websiteurl": "https://l.example", "accountnumber": text})
    left, right = await people(house, f"{text}@x.example")
    assert [(row["JobTitle"], row["Phone"]) for row in left] == [("L", "+1")]
    assert [(row["jobtitle"], row["telephone1"]) for row in right] == [("L", "+1")]
    binding = await binding_of(house, left[0]["Id"], CONTACTS)
    assert binding is not None
    assert binding.dynamics_id == right[0]["contactid"]


async def test_hostile_texts_are_edited_and_never_logged(house: House) -> None:
    """All kinds at once, both ways in one batch, arrive unharmed; neither the app's log nor its status shows a word of them."""
    text = " ".join(_HOSTILE.values())
    for kind in _HOSTILE.values():
        pair = await house.pair(kind)
        await house.creatio.edit("Account", pair.creatio, {"Notes": text + kind, "Name": f"{kind} new"}, USER)
        await house.dynamics.edit("account", pair.dynamics, {"emailaddress1": f"{kind}@r.example"})
    await in_step(house)
    for kind in _HOSTILE.values():
        pair = await house.pair(kind)
        await house.gets(house.dynamics, pair.dynamics, {"description": text + kind, "name": f"{kind} new"})
        await house.gets(house.creatio, pair.creatio, {"UsrEmail": f"{kind}@r.example"})
    log = (house.sandbox.directory / "host.log").read_text(encoding="utf-8")
    assert "event=batch_done" in log
    assert _MARK not in log
    assert _MARK not in str(await house.status())


async def test_a_nul_is_a_coded_failure_of_its_field(house: House) -> None:
    """A text with a NUL, which Creatio's database can't hold, is a coded failure; the other fields arrive, and mending clears it."""
    (pair,) = await new_accounts(house, ["NUL-1"])
    await house.dynamics.edit("account", pair.dynamics, {"websiteurl": "https://nul.example/\0", "fax": "+49 30 2"})
    await in_step(house)
    await house.gets(house.creatio, pair.creatio, {"Fax": "+49 30 2"})
    found = await house.failures(pair.dynamics)
    assert list(found) == ["Web=websiteurl"], found
    assert found["Web=websiteurl"].startswith("creatio."), found
    await house.dynamics.edit("account", pair.dynamics, {"websiteurl": "https://nul.example/"})
    await in_step(house)
    await house.gets(house.creatio, pair.creatio, {"Web": "https://nul.example/"})
    assert await house.failures(pair.dynamics) == {}


async def test_an_option_is_unknown_on_the_other_side(house: House) -> None:
    """A type without partner, on either side, is a failure of its field; the rest arrives; a known type clears it."""
    left, right = await new_accounts(house, ["U-1", "U-2"])
    types = {row["Name"]: row["Id"] for row in await house.creatio.rows("AccountType")}
    await house.creatio.edit("Account", left.creatio, {"TypeId": types["Zeppelin"], "Notes": "left"}, USER)
    await house.dynamics.edit("account", right.dynamics, {"customertypecode": 12, "description": "right"})
    await in_step(house)
    await house.gets(house.dynamics, left.dynamics, {"description": "left", "customertypecode": None})
    await house.gets(house.creatio, right.creatio, {"Notes": "right", "TypeId": None})
    unknown = {"TypeId=customertypecode": "mapping.value_unknown"}
    assert (await house.failures(left.creatio), await house.failures(right.dynamics)) == (unknown, unknown)
    await house.creatio.edit("Account", left.creatio, {"TypeId": types["Customer"]}, USER)
    await house.dynamics.edit("account", right.dynamics, {"customertypecode": 3})
    await in_step(house)
    await house.gets(house.dynamics, left.dynamics, {"customertypecode": 3})
    await house.gets(house.creatio, right.creatio, {"TypeId": types["Customer"]})
    assert (await house.failures(left.creatio), await house.failures(right.dynamics)) == ({}, {})


async def test_a_text_is_too_long(house: House) -> None:
    """By each side's limits: refused texts are failures of their field, others are cut; the long text itself stays where it was typed."""
    left, right = await new_accounts(house, ["L-1", "L-2"], GPSN="before")
    long, number, address = "x" * 249 + "y", "N" * 21, "a" * 150 + "z"
    await house.creatio.edit("Account", left.creatio, {"Name": long, "Code": number, "Fax": "+1"}, USER)
    await house.dynamics.edit("account", right.dynamics, {"address1_name": address, "address2_name": address, "fax": "+2"})
    await in_step(house)
    await house.gets(house.dynamics, left.dynamics, {"name": long[:160], "accountnumber": "L-1", "fax": "+1"})
    await house.gets(house.creatio, left.creatio, {"Name": long, "Code": number})
    await house.gets(house.creatio, right.creatio, {"GPSE": address[:50], "GPSN": "before", "Fax": "+2"})
    await house.gets(house.dynamics, right.dynamics, {"address1_name": address, "address2_name": address})
    assert await house.failures(left.creatio) == {"Code=accountnumber": "mapping.too_long"}
    assert await house.failures(right.dynamics) == {"GPSN=address1_name": "mapping.too_long"}
    await house.creatio.edit("Account", left.creatio, {"Code": "L-1"}, USER)
    await house.dynamics.edit("account", right.dynamics, {"address1_name": "short"})
    await in_step(house)
    await house.gets(house.creatio, right.creatio, {"GPSN": "short"})
    assert (await house.failures(left.creatio), await house.failures(right.dynamics)) == ({}, {})


async def test_a_record_is_edited_between_our_write_and_the_next_poll(house: House) -> None:
    """Whoever edits what Tandem has just written, the same field included, finds it on both sides after the next poll."""
    (pair,) = await new_accounts(house, ["E-1"])
    await house.creatio.edit("Account", pair.creatio, {"Notes": "from Creatio", "Web": "https://one.example"}, USER)
    await house.poll()
    await house.gets(house.dynamics, pair.dynamics, {"description": "from Creatio"})
    await house.dynamics.edit("account", pair.dynamics, {"description": "edited at once", "fax": "+49 30 3"})
    await in_step(house)
    await house.gets(house.creatio, pair.creatio, {"Notes": "edited at once", "Fax": "+49 30 3", "Web": "https://one.example"})
    await house.dynamics.edit("account", pair.dynamics, {"telephone1": "+49 30 4"})
    await house.poll()
    await house.gets(house.creatio, pair.creatio, {"Phone": "+49 30 4"})
    await house.creatio.edit("Account", pair.creatio, {"Phone": "+49 30 5"}, USER)
    await in_step(house)
    await house.gets(house.dynamics, pair.dynamics, {"telephone1": "+49 30 5", "description": "edited at once"})
    assert await conflicts_of(house) == []
