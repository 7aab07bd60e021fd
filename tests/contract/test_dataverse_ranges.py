"""Prove that key ranges hold every row, whatever its time, and can be read page by page while others write (dataverse.md 3 and 9)."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.parse import quote

import pytest

from shared.core.errors import Rejected, TandemError, Transient
from shared.core.records import KeyRange, RangeBy
from shared.systems.dataverse import Dataverse
from tests.contract.dataverse_fake import ID1, Fake, adapter_on, reply, row
from tests.contract.dataverse_site import Site, site

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREATED, MODIFIED = RangeBy.CREATED, RangeBy.MODIFIED


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


async def seed(org: Site, *seconds: float, column: str = "createdon") -> list[str]:
    """Seed one account for each second after noon and return their ids in that order."""
    times = [(NOON + timedelta(seconds=one)).strftime("%Y-%m-%dT%H:%M:%SZ") for one in seconds]
    return await org.control.seed("account", [{"name": f"A{at}", column: time} for at, time in enumerate(times)])


async def cut(adapter: Dataverse, size: int, by: RangeBy = CREATED, **bounds: datetime | None) -> list[KeyRange]:
    """Return all ranges."""
    given = [bounds.get(name) for name in ("since", "until")]
    return [one async for one in adapter.ranges("account", by, *given, size, bounds.get("after"))]


async def read(adapter: Dataverse, part: KeyRange, size: int = 1000) -> list[str]:
    """Return the ids of a range in the order in which its pages give them."""
    ids: list[str] = []
    position = None
    while True:
        page = await adapter.read_range("account", part, ["name"], position, size)
        assert len(page.rows) <= size
        ids += page.rows
        position = page.following
        if position is None:
            return ids


async def test_ranges_hold_every_row_once(org):
    """2,500 rows in unequal seconds: ranges of about 400, in order, never overlapping, whose pages hold each row exactly once."""
    ids = await seed(org, *(at // 7 for at in range(2500)))
    adapter = org.dataverse()
    parts = await cut(adapter, 400)
    assert sum(part.rows for part in parts) == 2500
    assert all(400 <= part.rows < 410 for part in parts[:-1])
    assert all(one.last < two.first for one, two in pairwise(parts))
    found = [key for part in parts for key in await read(adapter, part, 150)]
    assert sorted(found) == sorted(ids)


async def test_a_range_never_ends_within_a_second(org):
    """700 rows of one second make one longer range, which is read through its pages; the seconds around it stay whole too."""
    ids = await seed(org, *[0] * 90, *[1] * 700, *[2] * 90)
    adapter = org.dataverse()
    parts = await cut(adapter, 50)
    assert [(part.first, part.last, part.rows) for part in parts] == [
        (NOON + timedelta(seconds=at), NOON + timedelta(seconds=at), rows) for at, rows in ((0, 90), (1, 700), (2, 90))
    ]
    pages = await read(adapter, parts[1], 100)
    assert sorted(pages) == sorted(ids[90:790])


async def test_only_ids_and_times_are_read_in_the_largest_pages(org):
    """12,000 rows take three requests of three columns."""
    await seed(org, *range(12_000))
    adapter = org.dataverse()
    await adapter.describe("account", [], [])
    await org.control.reset_requests()
    parts = await cut(adapter, 1000)
    assert [part.rows for part in parts] == [1000] * 12
    assert (await org.control.requests())["by"]["GET accounts"] == 3


async def test_since_and_until(org):
    """`since` is within, `until` without; a bound between two seconds widens to whole ones, so that no row falls out."""
    ids = await seed(org, *range(10))
    adapter = org.dataverse()
    parts = await cut(adapter, 3, since=NOON + timedelta(seconds=2), until=NOON + timedelta(seconds=8))
    assert [key for part in parts for key in await read(adapter, part)] == ids[2:8]
    parts = await cut(adapter, 100, since=NOON + timedelta(seconds=2.5), until=NOON + timedelta(seconds=7.5))
    assert [key for part in parts for key in await read(adapter, part)] == ids[2:8]
    assert await cut(adapter, 3, since=NOON + timedelta(days=1)) == []


async def test_resuming_behind_a_range(org):
    """`after` the last of a range the rest follows, each row once; behind the end there is nothing."""
    ids = await seed(org, *(at // 3 for at in range(100)))
    adapter = org.dataverse()
    parts = await cut(adapter, 10)
    again = await cut(adapter, 10, after=parts[3].last)
    assert again == parts[4:]
    begin = parts[3].last - timedelta(seconds=5)
    assert await cut(adapter, 10, since=begin, after=parts[3].last) == parts[4:]
    found = [key for part in [*parts[:4], *again] for key in await read(adapter, part)]
    assert sorted(found) == sorted(ids)
    assert await cut(adapter, 10, after=parts[-1].last) == []


async def test_rows_deleted_and_edited_between_pages(org):
    """By time of creation an edit moves nothing and a deletion takes nothing else away: who stays is found, and found once."""
    ids = await seed(org, *[0] * 30)
    adapter = org.dataverse()
    (part,) = await cut(adapter, 100)
    first = await adapter.read_range("account", part, ["name"], None, 10)
    shown = list(first.rows)
    await org.control.delete("account", shown[-1])
    unseen = sorted(set(ids) - set(shown))
    await org.control.delete("account", unseen[0])
    await org.control.edit("account", shown[0], {"name": "edited"})
    await org.control.edit("account", unseen[1], {"name": "edited"})
    second = await adapter.read_range("account", part, ["name"], first.following, 100)
    assert sorted(second.rows) == unseen[1:]
    assert second.rows[unseen[1]].values == {"name": "edited"}
    assert second.following is None


async def test_by_time_of_change_an_edited_row_is_found_later(org):
    """A row that changes after its range was cut leaves it; a later range has it, so nothing falls between."""
    ids = await seed(org, *range(20), column="modifiedon")
    adapter = org.dataverse()
    parts = await cut(adapter, 5, MODIFIED)
    assert [part.by for part in parts] == [MODIFIED] * 4
    await org.control.edit("account", ids[7], {"name": "edited"})
    found = [key for part in parts for key in await read(adapter, part)]
    assert sorted(found) == sorted(set(ids) - {ids[7]})
    later = await cut(adapter, 5, MODIFIED, after=parts[-1].last)
    assert [key for part in later for key in await read(adapter, part)] == [ids[7]]


async def test_a_token_that_expires_in_the_middle(org):
    """Between two pages of the walk, and between two pages of a range, a new token is fetched and nothing is lost."""
    ids = await seed(org, *(at // 10 for at in range(6000)))
    adapter = org.dataverse()
    await adapter.describe("account", [], [])
    asked = len(org.credential.asked)
    rules = [{"kind": "expire", "times": 1, "after": 1, "path": "accounts"}, {"kind": "expire", "times": 1, "after": 5, "path": "accounts"}]
    await org.control.chaos({"seed": 1, "rules": rules})
    parts = await cut(adapter, 2000)
    found = [key for part in parts for key in await read(adapter, part, 700)]
    assert sorted(found) == sorted(ids)
    assert len(org.credential.asked) == asked + 2


async def test_rows_carry_what_a_read_shows(org):
    """A page's rows are those of `read`, split lookups included; a row that can't be understood is an error of its own."""
    (contact,) = await org.control.seed("contact", [{"lastname": "Meier"}])
    await org.control.seed("account", [{"name": "A", "primarycontactid": contact, "createdon": "2026-03-01T12:00:00Z"}])
    adapter = org.dataverse()
    (part,) = await cut(adapter, 10)
    page = await adapter.read_range("account", part, ["name", "primarycontactid"], None, 10)
    assert page.rows == await adapter.read("account", list(page.rows), ["name", "primarycontactid"])
    broken = row(ID1, name=5)
    page = await adapter_on(Fake([reply({"value": [broken]})])).read_range("account", part, ["name"], None, 10)
    assert isinstance(page.rows[ID1], Rejected)
    assert page.rows[ID1].code == "dataverse.bad_row"


@pytest.mark.parametrize(
    "position",
    [
        "",
        "accounts?$skiptoken=x",
        "https://evil.example/api/data/v9.2/accounts?$skiptoken=x",
        "{url}/api/data/v9.2/contacts?$skiptoken=x",
        "{url}/api/data/v9.2/accounts?$select=name",
        "{url}/_control/rows?$skiptoken=x",
        "http://[",
    ],
)
async def test_a_position_that_no_page_gave(org, position):
    """What is no link to a further page of this table is refused before anything is sent, wherever it leads."""
    await seed(org, 0)
    adapter = org.dataverse()
    (part,) = await cut(adapter, 10)
    await org.control.reset_requests()
    with pytest.raises(Rejected) as caught:
        await adapter.read_range("account", part, ["name"], position.format(url=org.url), 10)
    assert (caught.value.code, caught.value.entity) == ("dataverse.bad_request", "account")
    assert "GET accounts" not in (await org.control.requests())["by"]


async def test_a_position_that_the_server_cannot_read(org):
    """A paging cookie that was spoiled on the way is an error, never an empty page."""
    await seed(org, *[0] * 5)
    adapter = org.dataverse()
    (part,) = await cut(adapter, 10)
    page = await adapter.read_range("account", part, ["name"], None, 2)
    with pytest.raises(TandemError):
        await adapter.read_range("account", part, ["name"], page.following[:-30], 2)


async def test_a_walk_that_cannot_be_understood_loses_no_row():
    """A row without its time, a row of a page without its id, and a link that comes again: each is an error, not a shorter walk."""
    part = KeyRange(CREATED, NOON, NOON, 1)
    nameless = row(ID1, name="A")
    del nameless["accountid"]
    link = "https://org.crm4.dynamics.com/api/data/v9.2/accounts?$skiptoken=1"
    fake = Fake(lambda _: reply({"value": [], "@odata.nextLink": link}))
    with pytest.raises(Transient, match="came twice"):
        await cut(adapter_on(fake), 10)
    for answer in (row(ID1), row(ID1, createdon=None), row(ID1, createdon="gestern")):
        with pytest.raises(Transient, match="without createdon"):
            await cut(adapter_on(Fake([reply({"value": [answer]})])), 10)
    with pytest.raises(Transient, match="no id"):
        await adapter_on(Fake([reply({"value": [nameless]})])).read_range("account", part, ["name"], None, 10)


async def test_bounds_are_whole_seconds_on_the_wire():
    """The server may keep fractions that it does not show: a range asks for its last second to the end, the next begins behind it."""
    fake = Fake(lambda _: reply({"value": []}))
    adapter = adapter_on(fake)
    last = NOON + timedelta(seconds=5)
    await adapter.read_range("account", KeyRange(CREATED, NOON, last, 3), ["name"], None, 10)
    await cut(adapter, 10, since=NOON + timedelta(seconds=0.4), after=last, until=NOON + timedelta(seconds=9.1))
    pages, walk = (str(request.url) for request in fake.seen[-2:])
    assert quote("createdon ge 2026-03-01T12:00:00Z and createdon lt 2026-03-01T12:00:06Z", safe=":") in pages
    assert quote("createdon ge 2026-03-01T12:00:06Z and createdon lt 2026-03-01T12:00:10Z", safe=":") in walk
    assert pages.endswith("&$orderby=createdon,accountid")
    assert walk.endswith("&$orderby=createdon,accountid")
    assert fake.seen[-1].headers["Prefer"] == "odata.maxpagesize=5000"


async def test_ids_are_unique_across_pages_with_the_same_time(org):
    """The order has the key as its last term: pages over equal times neither repeat nor skip a row."""
    ids = [str(uuid.UUID(int=at)) for at in range(1, 41)]
    await org.control.seed("account", [{"accountid": key, "name": "A", "createdon": "2026-03-01T12:00:00Z"} for key in reversed(ids)])
    adapter = org.dataverse()
    (part,) = await cut(adapter, 10)
    assert await read(adapter, part, 7) == ids
