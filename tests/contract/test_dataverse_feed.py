"""Prove that the adapter makes none of the mistakes of dataverse.md 13 when it follows changes; each test is named after one."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from shared.core.errors import Denied, Stale, Transient
from shared.core.records import Row, Stamp, Write, WriteKind
from tests.contract.dataverse_fake import API, ID1, ID2, ID3, ORG, Fake, Token, adapter_on, batch_lines, error, reply, row

HOSTILE = "O'Brian & \"Söhne\" <x>/#?%+=;\nline \u202eabc 😀 ') or name ne ('"
SEEN = Row(ID1, Stamp(datetime(2026, 1, 1, tzinfo=UTC), 'W/"7"'), {"name": "Old"})
CREATED = (201, row(ID1, name="A"))


def update(values, key=ID1, seen=SEEN):
    """Return an update of one record."""
    return Write(WriteKind.UPDATE, key, values, seen)


def create(values, key=ID1):
    """Return a create with our own id."""
    return Write(WriteKind.CREATE, key, values)


def bodies(request):
    """Return the JSON bodies of a batch, in order."""
    return [json.loads(line) for line in batch_lines(request) if line.startswith("{")]


async def pages(adapter, position=None, since=None, columns=("name",)):
    """Return all pages of a change feed."""
    return [page async for page in adapter.changes("account", columns, position, since)]


DELTA = f"{API}/accounts?$select=name&$deltatoken=919042%2108%2f22%2f2017%2008%3a10%3a44"
NEXT = f"{API}/accounts?$select=name&$skiptoken=%3Ccookie%20pagenumber=%222%22%20pagingcookie=%22%253ccookie%2520x%22%20/%3E"


async def test_a_first_chain_reads_all_pages_and_then_keeps_the_delta_link():
    """track-changes with a page size first, links byte for byte, the deltaLink as the last position, `since` filtered on this side."""
    fake = Fake(
        [
            reply({"value": [row(ID1, modified_on="2025-01-01T00:00:00Z"), row(ID2)], "@odata.nextLink": NEXT}),
            reply({"value": [row(ID3)], "@odata.deltaLink": DELTA}, Date="Thu, 01 Jan 2026 10:00:00 GMT"),
        ]
    )
    first, last = await pages(adapter_on(fake), since=datetime(2025, 6, 1, tzinfo=UTC))
    assert fake.seen[0].headers["prefer"] == "odata.track-changes,odata.maxpagesize=1000"
    assert "$filter" not in str(fake.seen[0].url)
    assert "$orderby" not in str(fake.seen[0].url)
    assert fake.seen[1].url.raw_path.decode() == NEXT.removeprefix(ORG)
    assert [change.id for change in first.changes] == [ID2]
    assert (first.position, first.complete) == (NEXT, False)
    assert (last.position, last.complete) == (DELTA, True)
    assert last.server_time == datetime(2026, 1, 1, 10, tzinfo=UTC)


async def test_a_quiet_poll_is_one_request():
    """With metadata known, following a delta link costs one request and yields one complete, empty page."""
    fake = Fake(lambda _: reply({"value": [], "@odata.deltaLink": DELTA}))
    adapter = adapter_on(fake)
    await pages(adapter, DELTA)
    fake.seen.clear()
    fake.metadata.clear()
    (page,) = await pages(adapter, DELTA)
    assert (list(page.changes), page.complete, len(fake.seen), fake.metadata) == ([], True, 1, [])
    assert fake.seen[0].url.raw_path.decode() == DELTA.removeprefix(ORG)


async def test_deletions_need_positive_evidence():
    """A deleted entry is a tombstone without a stamp; another reason is only a hint to look."""
    entry = {"@odata.context": f"{API}/$metadata#accounts/$deletedEntity", "id": ID1.upper(), "reason": "deleted"}
    fake = Fake([reply({"value": [row(ID2), entry, {**entry, "id": ID3, "reason": "changed"}], "@odata.deltaLink": DELTA})])
    (page,) = await pages(adapter_on(fake), DELTA)
    assert [(c.id, c.deleted, c.stamp is None) for c in page.changes] == [(ID2, False, False), (ID1, True, True), (ID3, False, True)]


async def test_rows_of_a_feed_that_cannot_be_understood_are_problems_of_the_page():
    """A row without id, version or time neither stops the page nor vanishes."""
    broken = [{"accountid": ID1}, {"@odata.etag": 'W/"1"', "modifiedon": "2026-01-01T00:00:00Z"}, row(ID2, modified_on="x")]
    fake = Fake([reply({"value": [*broken, row(ID3)], "@odata.deltaLink": DELTA})])
    (page,) = await pages(adapter_on(fake), DELTA)
    assert [change.id for change in page.changes] == [ID3]
    assert [(problem.code, problem.record_id) for problem in page.problems] == [
        ("dataverse.bad_row", ID1),
        ("dataverse.bad_row", ""),
        ("dataverse.bad_row", ID2),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        error("0x80044352", "Version stamp associated with the client has expired. Please perform a full sync."),
        error("0x80044352", "x", 410),
        httpx.Response(410),
        error("0x80040203", "The delta token is malformed"),
        error("0x0", "Could not find a property named 'name' on type 'Microsoft.Dynamics.CRM.account'."),
    ],
)
async def test_no_plan_for_a_7_day_expiry(answer):
    """An expired or worthless token, or one for a column that is gone, is Stale `delta_expired`, whatever the status."""
    with pytest.raises(Stale) as caught:
        await pages(adapter_on(Fake([answer])), DELTA)
    assert caught.value.code == "dataverse.delta_expired"


async def test_a_table_without_change_tracking_stops_the_flow_and_is_asked_again():
    """Tracking that is off is Denied with its own advice, and is noticed when it was switched on."""
    fake = Fake(lambda _: reply({"value": [], "@odata.deltaLink": DELTA}), tracked=False)
    adapter = adapter_on(fake)
    with pytest.raises(Denied) as caught:
        await pages(adapter)
    assert caught.value.code == "dataverse.tracking_off"
    fake.tracked = True
    assert len(await pages(adapter)) == 1


async def test_a_page_link_seen_twice_is_an_error_and_no_endless_loop():
    """A server that pages in a circle is noticed."""
    with pytest.raises(Transient) as caught:
        await pages(adapter_on(Fake(lambda _: reply({"value": [], "@odata.nextLink": NEXT}))))
    assert caught.value.code == "dataverse.bad_answer"


async def test_a_page_without_any_link_is_an_error():
    """Without a link the chain has no position to go on from."""
    with pytest.raises(Transient):
        await pages(adapter_on(Fake([reply({"value": []})])))


async def test_a_link_to_another_host_never_gets_the_token_but_the_api_host_does():
    """The environment's `.api.` address is the same environment; anything else is refused."""
    other = DELTA.replace("org.crm4", "org.api.crm4")
    assert len(await pages(adapter_on(Fake([reply({"value": [], "@odata.deltaLink": DELTA})])), other)) == 1
    for host in ("evil.example", "org.crm4.dynamics.com.evil.example", "evil.api.crm4.dynamics.com", "org.crm5.dynamics.com"):
        fake = Fake([])
        with pytest.raises(Denied):
            await pages(adapter_on(fake), DELTA.replace("org.crm4.dynamics.com", host))
        assert fake.seen == []


async def test_a_token_that_ends_in_the_middle_of_a_chain_is_renewed():
    """A 401 on the second page costs one renewal and no row."""
    login = Token()
    fake = Fake(
        [
            reply({"value": [row(ID1)], "@odata.nextLink": NEXT}),
            httpx.Response(401),
            reply({"value": [row(ID2)], "@odata.deltaLink": DELTA}),
        ]
    )
    found = await pages(adapter_on(fake, login))
    assert [change.id for page in found for change in page.changes] == [ID1, ID2]
    assert login.renewals == 1
    assert fake.seen[2].headers["authorization"] == "Bearer t1"
