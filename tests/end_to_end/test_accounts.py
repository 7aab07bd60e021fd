"""Accounts through the whole house, poll by poll: each test fires the poll timer itself, so that "within one poll" means just that."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from azure.storage.queue import TextBase64EncodePolicy

from sandbox.processes import Sandbox
from shared.core.work import MESSAGE_VERSION
from tests.end_to_end.accounts import FLOW, NEVER, House, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PAIRS = 6
_HOSTILE = {
    "quotes": 'O\'Brien "& Söhne" <b>%20</b> {0} \\ ; --',
    "address": "a/b?c=d&e=f#g (1) 100% +1 $filter eq null",
    "breaks": "two\nlines\tand a tab",
    "right to left": "شركة المستقبل \u200f(שלום)",
    "emoji": "\N{ROCKET} 👩‍👩‍👧‍👦 e\u0301 \N{MATHEMATICAL FRAKTUR CAPITAL A} ﷽",
}


async def _fill(sandbox: Sandbox) -> None:
    """Put the same companies on both sides, each with something that only one side knows."""
    left = [{"Name": f"Pair {n}", "Code": f"P-{n}", "Zip": "10115", "Web": f"https://p{n}.example"} for n in range(_PAIRS)]
    right = [{"name": f"Pair {n}", "accountnumber": f"P-{n}", "address1_postalcode": "10115", "fax": f"+49 30 {n}"} for n in range(_PAIRS)]
    await sandbox.control("creatio").seed("Account", [{**row, "UsrActive": True} for row in left])
    await sandbox.control("dataverse").seed("account", right)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Run one sandbox for this file; its timers do not fire by themselves, but for the watch."""
    settings = {"WATCH_SCHEDULE": "0 */2 * * * *"}
    directory = tmp_path_factory.mktemp("accounts")
    async with open_house(directory, poll_schedule=NEVER, time_scale=15, settings=settings, before_host=_fill) as running:
        await running.poll()
        await running.are_paired([f"P-{number}" for number in range(_PAIRS)])
        await running.calm()
        await running.poll()  # what the first poll wrote comes back once, and is recognised
        await running.calm()
        yield running


async def test_companies_on_both_sides_are_matched_and_completed(house: House) -> None:
    """Accounts that exist on both sides become pairs, none is doubled, and what one side alone knew is on both."""
    for number in range(_PAIRS):
        pair = await house.pair(f"P-{number}")
        left, right = await house.creatio.row("Account", pair.creatio), await house.dynamics.row("account", pair.dynamics)
        assert left is not None
        assert right is not None
        assert (left["Fax"], right["websiteurl"]) == (f"+49 30 {number}", f"https://p{number}.example")
    assert len(await house.in_creatio(Zip="10115")) == _PAIRS
    assert len(await house.in_dynamics(address1_postalcode="10115")) == _PAIRS


async def test_an_edit_in_creatio_arrives_within_one_poll(house: House) -> None:
    """One poll after a Creatio user's edit Dynamics has it."""
    pair = await house.pair("P-0")
    await house.creatio.edit("Account", pair.creatio, {"Phone": "+44 20 1111", "UsrEmployees": 41}, "grace")
    await house.poll()
    await house.gets(house.dynamics, pair.dynamics, {"telephone1": "+44 20 1111", "numberofemployees": 41})


async def test_an_edit_in_dynamics_arrives_within_one_poll(house: House) -> None:
    """One poll after a Dynamics user's edit Creatio has it, a field that Dynamics alone may set included."""
    pair = await house.pair("P-1")
    await house.dynamics.edit("account", pair.dynamics, {"websiteurl": "https://new.example", "creditlimit": 5000})
    await house.poll()
    await house.gets(house.creatio, pair.creatio, {"Web": "https://new.example", "UsrCreditLimit": 5000})


async def test_edits_of_different_fields_on_both_sides_survive(house: House) -> None:
    """Two people who edit one account on two sides before the same poll both find their work on both sides."""
    pair = await house.pair("P-2")
    await house.creatio.edit("Account", pair.creatio, {"Notes": "from Creatio"}, "grace")
    await house.dynamics.edit("account", pair.dynamics, {"emailaddress1": "from@dynamics.example"})
    await house.poll()
    await house.gets(house.dynamics, pair.dynamics, {"description": "from Creatio", "emailaddress1": "from@dynamics.example"})
    await house.gets(house.creatio, pair.creatio, {"Notes": "from Creatio", "UsrEmail": "from@dynamics.example"})


async def test_a_field_of_dynamics_is_put_back_in_creatio(house: House) -> None:
    """A Creatio user's edit of the credit stop, which Dynamics decides, is undone, and Dynamics never sees it."""
    pair = await house.pair("P-3")
    await house.creatio.edit("Account", pair.creatio, {"UsrCreditHold": True, "Phone": "+49 40 2222"}, "grace")
    await house.poll()
    await house.gets(house.dynamics, pair.dynamics, {"telephone1": "+49 40 2222"})
    await house.gets(house.creatio, pair.creatio, {"UsrCreditHold": False})
    row = await house.dynamics.row("account", pair.dynamics)
    assert row is not None
    assert not row["creditonhold"]


@pytest.mark.parametrize("kind", _HOSTILE)
async def test_hostile_texts_arrive_unharmed_both_ways(house: House, kind: str) -> None:
    """Names and notes full of markup, quotes, line ends, right-to-left marks and emoji are the same texts on the other side."""
    text, code = _HOSTILE[kind], uuid4().hex[:8]
    values = {"Name": text, "Notes": text * 3, "Code": f"L-{code}", "UsrActive": True}
    await house.creatio.create("Account", values, "grace")
    await house.dynamics.create(
        "account", {"name": text, "description": text * 3, "accountnumber": f"R-{code}", "address1_postalcode": code}
    )
    await house.poll()
    await house.are_paired([f"L-{code}", f"R-{code}"])
    assert [(row["name"], row["description"]) for row in await house.in_dynamics(accountnumber=f"L-{code}")] == [(text, text * 3)]
    assert [(row["Name"], row["Notes"]) for row in await house.in_creatio(Code=f"R-{code}")] == [(text, text * 3)]


async def test_a_refused_value_is_a_failure_until_it_is_corrected(house: House) -> None:
    """A number too long for Dynamics and a city that Creatio lacks are coded failures in the status; the rest goes on; mending clears."""
    long, city = await house.pair("P-4"), await house.pair("P-5")
    await house.creatio.edit("Account", long.creatio, {"Code": "P-4" + "x" * 30, "Notes": "goes on"}, "grace")
    await house.dynamics.edit("account", city.dynamics, {"address1_city": "Atlantis", "fax": "+1 555"})
    await house.poll()
    await house.gets(house.dynamics, long.dynamics, {"description": "goes on", "accountnumber": "P-4"})
    await house.gets(house.creatio, city.creatio, {"Fax": "+1 555"})
    await house.calm()
    assert await house.failures(long.creatio) == {"Code=accountnumber": "mapping.too_long"}
    assert await house.failures(city.dynamics) == {"CityId=address1_city": "mapping.value_unknown"}
    await house.creatio.edit("Account", long.creatio, {"Code": "P-4"}, "grace")
    await house.dynamics.edit("account", city.dynamics, {"address1_city": ""})
    await house.poll()

    async def cleared() -> bool:
        return not await house.failures(long.creatio) and not await house.failures(city.dynamics)

    await house.until(cleared, "both failures are gone")


async def test_a_row_that_the_server_refuses_is_a_failure_until_it_may_be_written(house: House) -> None:
    """An account that the integration may not change is a coded failure in the status, its neighbour arrives, and the right clears it."""
    locked, other = await house.pair("P-0"), await house.pair("P-1")
    await house.creatio.switch(locked_ids={"Account": [locked.creatio]})
    for pair in (locked, other):
        await house.dynamics.edit("account", pair.dynamics, {"fax": "+49 99"})
    await house.poll()
    await house.gets(house.creatio, other.creatio, {"Fax": "+49 99"})
    await house.calm()
    assert list((await house.failures(locked.dynamics)).values()) == ["creatio.refused"]
    assert (await house.flow())["started"]
    await house.creatio.switch(locked_ids={})
    headers = {"x-functions-key": house.sandbox.master_key}
    answer = await house.client.post(f"{house.sandbox.host}/api/failures/reprocess?flow={FLOW}", headers=headers)
    assert answer.json()["records"] >= 1
    await house.gets(house.creatio, locked.creatio, {"Fax": "+49 99"})

    async def cleared() -> bool:
        return not await house.failures(locked.dynamics)

    await house.until(cleared, "the failure is gone")


async def test_a_quiet_stretch_writes_nothing(house: House) -> None:
    """When nobody edits, a poll asks each system once a flow, Creatio once more for lines, and nothing is written."""
    await house.poll()
    await house.calm()
    asked = await house.observer.requests()
    written = await house.writes()
    for _ in range(3):
        await house.poll()
    await asyncio.sleep(1.5)
    assert await house.writes() == written
    flows = house.observer.flows
    documents = sum(1 for flow in flows if house.observer.app.services.mapping(flow).lines is not None)
    expected = {"creatio": 3 * (len(flows) + documents), "dataverse": 3 * len(flows)}
    assert {name: number - asked[name] for name, number in (await house.observer.requests()).items()} == expected


async def test_dead_messages_become_coded_failures(house: House) -> None:
    """A truncated message, one of a future version and one that names no batch are each a failure with its code, and the queue is empty."""
    storage = house.observer.app.storages[0]
    queue = storage.queues().get_queue_client("changes", message_encode_policy=TextBase64EncodePolicy())
    whole = f'{{"v": {MESSAGE_VERSION}, "flow": "{FLOW}", "batch": "{uuid4().hex}", "attempt": 0}}'
    for text in (whole[:-20], whole.replace(f'"v": {MESSAGE_VERSION}', '"v": 99'), whole):
        await queue.send_message(text)
    wanted = {"message.malformed", "message.future_version", "message.unknown_batch"}
    table = house.observer.app.ledger

    async def kept() -> bool:
        found = [*await table.failures("tandem"), *await table.failures(FLOW)]
        return wanted <= {failure.code for failure in found}

    await house.until(kept, f"the failures {wanted}", 60)
    await house.calm()
    shown = {failure["code"] for failure in (await house.flow())["failures"]}
    assert "message.unknown_batch" in shown
