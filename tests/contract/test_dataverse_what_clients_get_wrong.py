"""Line by line of dataverse.md 13, "What clients get wrong": the adapter makes none of these mistakes, shown over HTTP on the stand-in.

The number in a name is that of the line; lines 8 to 11 stand in the file beside this one. What concerns quotes, orders and products (price
lists, write-in lines, closing by action) comes with those documents.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from shared.core.errors import Rejected, Stale, Transient
from shared.core.records import Write, WriteKind
from tests.contract.dataverse_site import Site, everything_read, new_id, one, over_the_wire, pages, sent, site

CREATE, UPDATE, DELETE = WriteKind.CREATE, WriteKind.UPDATE, WriteKind.DELETE
ACCOUNT = "EntityDefinitions(LogicalName='account')"
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


# --- 1: posts, ids, resurrection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bulk", [False, True])
async def test_wrong_01_a_post_is_not_sent_again_after_a_timeout(org, bulk):
    """The answer comes too late: the records are Transient, each row was made once, and no second request followed."""
    adapter = org.dataverse(timeout=0.8)
    await adapter.write("account", [Write(CREATE, new_id(), {"name": "warm"}) for _ in range(30)], bulk=bulk)
    await org.control.reset_requests()
    await org.misbehave(kind="late", seconds=1.5, method="POST")
    results = await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"}) for _ in range(30)], bulk=bulk)
    assert {(type(result.error), result.error.code) for result in results} == {(Transient, "dataverse.unreachable")}
    counts = await org.control.requests()
    assert (counts["writes"], counts["total"]) == (30, 1)
    await org.control.calm()
    found = await adapter.read("account", [result.id for result in results], ["name"])
    assert len(found) == 30


async def test_wrong_01_ids_come_from_us_and_never_from_a_header(org):
    """Rows are addressed by guid only, never by alternate key, whose upsert would answer with the key instead of the id."""
    adapter, key = org.dataverse(), new_id()
    made = await one(adapter, CREATE, key, {"name": "A", "tandem_creatioid": "42"})
    await one(adapter, UPDATE, key, {"name": "B"}, made.row)
    await one(adapter, DELETE, key, {})
    assert made.row.id == key
    lines = [line.removesuffix(" HTTP/1.1").partition("?")[0].replace("/api/data/v9.2/", "") for line, _, _ in sent(org)]
    assert lines == ["POST accounts", f"PATCH accounts({key})", f"DELETE accounts({key})"]


async def test_wrong_01_a_deleted_row_is_not_resurrected(org):
    """Every PATCH carries `If-Match`, the version or `*`: an update of a row that somebody deleted finds nothing, in any kind of run."""
    adapter, key = org.dataverse(), new_id()
    made = await one(adapter, CREATE, key, {"name": "A"})
    await org.control.delete("account", key)
    for seen in (made.row, None):
        for bulk in (False, True):
            (result,) = await adapter.write("account", [Write(UPDATE, key, {"name": "B"}, seen)], bulk=bulk)
            assert isinstance(result.error, (Rejected, Stale))
    matches = [headers["if-match"] for line, headers, _ in sent(org) if line.startswith("PATCH")]
    assert matches == [made.row.stamp.version] * 2 + ["*"] * 2
    assert await org.control.row("account", key) is None


# --- 2: lookups and columns ---------------------------------------------------------------------------------------------------


async def test_wrong_02_navigation_names_keep_their_case(org):
    """A custom lookup is bound by the name that the metadata tells, capital letters and all, in single writes and in bulk."""
    body = {
        "@odata.type": "Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata",
        "SchemaName": "tandem_contact_account_partner",
        "ReferencedEntity": "contact",
        "ReferencingEntity": "account",
        "Lookup": {"@odata.type": "Microsoft.Dynamics.CRM.LookupAttributeMetadata", "SchemaName": "tandem_PartnerId"},
    }
    await org.control.switch(customization_delay_seconds=0)
    assert (await over_the_wire(org, "POST", "RelationshipDefinitions", body)).status_code == 204
    (contact,) = await org.control.seed("contact", [{"lastname": "Meier"}])
    adapter = org.dataverse()
    result = await one(adapter, CREATE, new_id(), {"name": "A", "tandem_partnerid": contact})
    assert result.row.values["tandem_partnerid"] == contact
    assert "tandem_PartnerId@odata.bind" in sent(org)[0][2]
    writes = [Write(CREATE, new_id(), {"name": "B", "tandem_partnerid": contact}) for _ in range(30)]
    assert {result.row.values["tandem_partnerid"] for result in await adapter.write("account", writes, bulk=True)} == {contact}


async def test_wrong_02_a_lookup_to_several_tables_is_bound_by_its_target(org):
    """The company of a contact is an account or a person: the navigation property says which, the lookup's own name is never bound."""
    adapter = org.dataverse()
    (account,) = await org.control.seed("account", [{"name": "A"}])
    (person,) = await org.control.seed("contact", [{"lastname": "Meier"}])
    writes = [Write(CREATE, new_id(), {"lastname": "X", "parentcustomerid": target}) for target in (account, person)]
    results = await adapter.write("contact", writes)
    assert [result.row.values["parentcustomerid"] for result in results] == [account, person]
    assert [name for _, _, body in sent(org) for name in body if "parentcustomerid" in name] == [
        "parentcustomerid_account@odata.bind",
        "parentcustomerid_contact@odata.bind",
    ]


async def test_wrong_02_what_was_read_is_not_patched_back(org):
    """Lookups are read as `_x_value` and never written so; a write holds the columns it was asked for and nothing else."""
    adapter, key = org.dataverse(), new_id()
    (contact,) = await org.control.seed("contact", [{"lastname": "Meier"}])
    made = await one(adapter, CREATE, key, {"name": "A", "fax": "1", "primarycontactid": contact})
    await one(adapter, UPDATE, key, {"fax": "2"}, made.row)
    before = len(org.watch.seen)
    assert (await one(adapter, UPDATE, key, {}, made.row)).error is None
    assert len(org.watch.seen) == before
    assert [sorted(body) for _, _, body in sent(org)] == [["accountid", "fax", "name", "primarycontactid@odata.bind"], ["fax"]]


# --- 3: throttling -------------------------------------------------------------------------------------------------------------


async def test_wrong_03_the_affinity_cookie_is_not_kept():
    """Three web servers allow ten requests each: thirty reads pass without one refusal, since no request names a server."""
    async with site(web_servers=3, request_limit=10, limit_window_seconds=600) as org:
        adapter = org.dataverse()
        ids = await org.control.seed("account", [{"name": "A"}])
        for _ in range(20):
            assert len(await adapter.read("account", ids, ["name"])) == 1
        assert not [asked for asked in org.watch.seen if "cookie" in asked.headers]
        assert 20 < len(org.watch.seen) <= 30


async def test_wrong_03_one_refusal_pauses_the_whole_account():
    """While the server asks to wait nobody sends: after the first 429 nothing but what was under way arrives before its time is over."""
    async with site(request_limit=12, limit_window_seconds=1.5, latency_seconds=0.02) as org:
        adapter = org.dataverse(sleep=asyncio.sleep, concurrency=4, most_concurrency=4)
        ids = await org.control.seed("account", [{"name": "A"}])
        await adapter.read("account", ids, ["name"])
        found = await asyncio.gather(*(adapter.read("account", ids, ["name"]) for _ in range(20)))
        assert [len(rows) for rows in found] == [1] * 20
        counts = await org.control.requests()
        refused_or_done = counts["by"]["GET accounts"]
        assert refused_or_done <= 21 + 4 * 3  # at most those under way are refused, once a pause
        arrivals = sorted(asked.at for asked in org.watch.of("GET", "accounts?"))
        longest = max(after - before for before, after in pairwise(arrivals))
        assert longest > 0.9


async def test_wrong_03_no_limit_is_taken_for_granted():
    """A server that allows 5 requests at a time and 40 in a second is as good as one that allows 52 and 6,000: all work gets done."""
    limits = {"request_limit": 40, "limit_window_seconds": 1, "concurrency_limit": 5, "time_limit_seconds": 10, "dop_hint": 4}
    async with site(**limits, latency_seconds=0.01) as org:
        adapter = org.dataverse(sleep=asyncio.sleep)
        ids = await org.control.seed("account", [{"name": f"A{at}"} for at in range(60)])
        found = await asyncio.gather(*(adapter.read("account", [key], ["name"]) for key in ids))
        assert [len(rows) for rows in found] == [1] * 60


@pytest.mark.parametrize("hint", [1, 2, 8])
async def test_wrong_03_the_hint_of_parallelism_is_followed(hint):
    """No more requests are in work at one time than `x-ms-dop-hint` recommends, and no fewer once there is enough to do."""
    async with site(dop_hint=hint, latency_seconds=0.03) as org:
        adapter = org.dataverse(concurrency=8)
        await adapter.identity()
        ids = await org.control.seed("account", [{"name": "A"}])
        await adapter.read("account", ids, ["name"])
        await asyncio.gather(*(adapter.read("account", ids, ["name"]) for _ in range(40)))
        assert (await org.control.requests())["most"]["GET accounts"] == hint


async def test_wrong_03_execution_time_is_a_limit_of_its_own():
    """Each operation of a batch is charged: the server refuses for time (0x80072321) long before its number of requests is spent."""
    async with site(time_limit_seconds=0.9, execution_seconds=0.005, limit_window_seconds=600) as org:
        adapter = org.dataverse()
        results = await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"}) for _ in range(400)])
        done = sum(result.error is None for result in results)
        assert 100 <= done <= 200
        assert {result.error.code for result in results[done:]} == {"dataverse.throttled"}
        assert len(await org.control.rows("account")) == done


@pytest.mark.parametrize("servers", [1, 2])
async def test_wrong_03_too_many_at_a_time_are_fewer_afterwards(servers):
    """Servers that take two at a time refuse most of a first wave of eight (0x80072326); after the pause no more go out than they take."""
    async with site(concurrency_limit=2, web_servers=servers, latency_seconds=0.25, dop_hint=16) as org:
        adapter = org.dataverse(sleep=asyncio.sleep, concurrency=8)
        ids = await org.control.seed("account", [{"name": "A"}])
        await adapter.describe("account", ["name", "merged", "masterid"], [])
        await adapter.identity()
        found = await asyncio.gather(*(adapter.read("account", ids, ["name"]) for _ in range(16)))
        assert [len(rows) for rows in found] == [1] * 16
        arrivals = sorted(asked.at for asked in org.watch.of("GET", "accounts?"))
        assert len([at for at in arrivals if at - arrivals[0] < 0.2]) == 8
        again = next(after for before, after in pairwise(arrivals) if after - before > 0.5)
        assert len([at for at in arrivals if 0 <= at - again < 0.2]) <= 2 * servers  # an answer takes longer than that


@pytest.mark.parametrize("kind", ["concurrency", "time", "workers", "too_many"])
async def test_wrong_03_codes_are_hex_text(org, kind):
    """Every code of throttling is known by its hexadecimal text, whatever its letters' case and whatever the status."""
    adapter = org.dataverse()
    await adapter.describe("account", ["name"], [])
    await adapter.identity()
    for status in (429, 503):
        await org.misbehave(kind="status", status=status, body=kind, retry_after=0)
        with pytest.raises(Transient) as caught:
            await adapter.read("account", [new_id()], ["name"])
        assert caught.value.code == "dataverse.throttled"


# --- 4: batches ----------------------------------------------------------------------------------------------------------------


async def test_wrong_04_batches_end_their_lines_in_cr_lf(org):
    """Line breaks inside values stay JSON escapes; the batch itself has CRLF only, the last boundary's line too."""
    adapter, key = org.dataverse(), new_id()
    result = await one(adapter, CREATE, key, {"name": "A", "description": "one\ntwo\r\nthree"})
    assert result.error is None
    (asked,) = org.watch.of("POST", "$batch")
    assert asked.body.count(b"\n") == asked.body.count(b"\r\n") == asked.body.count(b"\r")
    assert asked.body.endswith(b"--\r\n")


async def test_wrong_04_the_outer_status_is_not_the_verdict(org):
    """The batch is 200, and three of its five records failed, each in its own way."""
    adapter = org.dataverse()
    keys = [new_id() for _ in range(5)]
    made = await adapter.write("account", [Write(CREATE, key, {"name": "A"}) for key in keys])
    await org.control.edit("account", keys[1], {"name": "user"})
    await org.control.delete("account", keys[3])
    values = [{"name": "B"}, {"name": "B"}, {"name": "x" * 161}, {"name": "B"}, {"name": "B"}]
    writes = [Write(UPDATE, key, value, result.row) for key, value, result in zip(keys, values, made, strict=True)]
    results = await adapter.write("account", writes)
    codes = [result.error and result.error.code for result in results]
    assert codes[:3] == [None, "dataverse.changed_meanwhile", "dataverse.too_long"]
    assert codes[3] in ("dataverse.not_found", "dataverse.changed_meanwhile")
    assert codes[4] is None


async def test_wrong_04_a_failed_change_set_is_one_part(org):
    """A row that takes two operations fails as one: the records behind it keep their own answers."""
    adapter = org.dataverse()
    values = [{"statecode": 1, "statuscode": 2}, {"statecode": 1, "statuscode": 1}, {}, {"statecode": 1, "statuscode": 2}]
    writes = [Write(CREATE, new_id(), {"name": f"A{at}", **more}) for at, more in enumerate(values)]
    results = await adapter.write("account", writes)
    assert [result.error and result.error.code for result in results] == [None, "dataverse.refused", None, None]
    assert [result.row and result.row.values["name"] for result in results] == ["A0", None, "A2", "A3"]


async def test_wrong_04_headers_stand_in_every_part(org):
    """What an operation needs it carries itself: its version and its preferences; the batch carries continue-on-error only."""
    adapter, key = org.dataverse(), new_id()
    made = await one(adapter, CREATE, key, {"name": "A"})
    result = await one(adapter, UPDATE, key, {"name": "B"}, made.row)
    await one(adapter, DELETE, key, {}, result.row)
    create, update, delete = sent(org)
    assert "return=representation" in create[1]["prefer"]
    assert ("return=representation" in update[1]["prefer"], update[1]["if-match"]) == (True, made.row.stamp.version)
    assert delete[1]["if-match"] == result.row.stamp.version
    assert {asked.headers["prefer"] for asked in org.watch.of("POST", "$batch")} == {"odata.continue-on-error"}


# --- 5: bulk messages ------------------------------------------------------------------------------------------------------------


async def test_wrong_05_no_row_stands_twice_in_a_bulk_call(org):
    """Rows whose id comes twice never enter one; each has a verdict of its own, the second one too."""
    adapter = org.dataverse()
    writes = [Write(CREATE, new_id(), {"name": f"A{at}"}) for at in range(40)]
    writes += [Write(CREATE, writes[3].id, {"name": "again"})]
    results = await adapter.write("account", writes, bulk=True)
    (call,) = org.watch.of("POST", "CreateMultiple")
    ids = [target["accountid"] for target in json.loads(call.body)["Targets"]]
    assert len(ids) == len(set(ids)) == 39
    assert [at for at, result in enumerate(results) if result.error] == [40]


async def test_wrong_05_no_message_without_ids_is_used(org):
    """UpsertMultiple tells neither ids nor what it did, UpdateMultiple knows no versions: only CreateMultiple is ever sent."""
    adapter = org.dataverse()
    made = await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"}) for _ in range(30)], bulk=True)
    await adapter.write("account", [Write(UPDATE, result.id, {"name": "B"}, result.row) for result in made], bulk=True)
    await adapter.write("account", [Write(DELETE, result.id, {}) for result in made], bulk=True)
    assert {found for asked in org.watch.seen for found in re.findall(r"CRM\.(\w+Multiple)", asked.target)} == {"CreateMultiple"}
    assert await org.control.rows("account") == []


async def test_wrong_05_a_call_is_all_or_nothing_and_its_rows_get_their_own_verdicts(org):
    """One row of forty is bad: the call left nothing behind, so the rows are sent again one by one, and thirty-nine succeed."""
    adapter = org.dataverse()
    writes = [Write(CREATE, new_id(), {"name": f"A{at}", "industrycode": 99 if at == 20 else 1}) for at in range(40)]
    results = await adapter.write("account", writes, bulk=True)
    assert [(at, result.error.code) for at, result in enumerate(results) if result.error] == [(20, "dataverse.out_of_range")]
    assert len(org.watch.of("POST", "$batch")) == 1
    assert len(await org.control.rows("account")) == 39


# --- 6: pages --------------------------------------------------------------------------------------------------------------------


async def test_wrong_06_top_and_count_are_never_asked_for(org):
    """`$top` is ignored beside a page size, `@odata.count` stops at 5,000, `$skip` is refused: no request has any of them."""
    await everything_read(org)
    assert not [asked.target for asked in org.watch.seen if re.search(r"\$(top|count|skip)\b", asked.target)]
    assert all("odata.maxpagesize=" in asked.headers["prefer"] for asked in org.watch.of("GET", "accounts?"))


async def test_wrong_06_next_links_are_sent_as_they_came(org):
    """The paging cookie is encoded twice, and comes back to the server byte by byte as it was given."""
    await org.control.seed("account", [{"name": f"A{at}"} for at in range(5)])
    adapter = org.dataverse(page_size=2)
    first = await anext(adapter.changes("account", ["name"], None, None))
    assert "%253C" in first.position
    found = await pages(adapter, ["name"], first.position)
    followed = [f"{org.url}{asked.target}" for asked in org.watch.of("GET", "skiptoken")]
    assert followed == [first.position, found[0].position]
    assert len(found) == 2


async def test_wrong_06_pages_have_a_stable_order(org):
    """Where a query names an order its last term is the key; where it names none the server pages by the key itself."""
    await everything_read(org)
    orders = {found for asked in org.watch.seen for found in re.findall(r"orderby=([^&]*)", asked.target)}
    assert orders == {"createdon,accountid"}


# --- 7: change tracking ------------------------------------------------------------------------------------------------------------


async def test_wrong_07_the_delta_link_of_a_chain_not_read_to_its_end_is_no_position(org):
    """Only the last page is complete and carries the delta link; a chain that breaks before raises, and goes on from its page."""
    ids = await org.control.seed("account", [{"name": f"A{at}"} for at in range(25)])
    adapter = org.dataverse(page_size=10)
    await adapter.describe("account", ["name"], [])
    await org.control.chaos({"seed": 1, "rules": [{"kind": "status", "status": 500, "path": "skiptoken", "after": 1, "times": 1}]})
    chain = adapter.changes("account", ["name"], None, None)
    seen = [await anext(chain), await anext(chain)]
    with pytest.raises(Transient):
        await anext(chain)
    assert [(page.complete, "deltatoken" in page.position) for page in seen] == [(False, False)] * 2
    rest = await pages(adapter, ["name"], seen[-1].position)
    assert [(page.complete, "deltatoken" in page.position) for page in rest] == [(True, True)]
    assert sorted(change.id for page in [*seen, *rest] for change in page.changes) == sorted(ids)


async def test_wrong_07_the_position_of_a_page_may_be_read_again(org):
    """Whoever did not commit a page's rows reads from the position before it: the same rows come, so nothing hangs on storing early."""
    await org.control.seed("account", [{"name": f"A{at}"} for at in range(5)])
    adapter = org.dataverse(page_size=2)
    position = (await pages(adapter, ["name"]))[-1].position
    (row_id,) = await org.control.seed("account", [{"name": "new"}])
    for _ in range(2):
        assert [change.id for page in await pages(adapter, ["name"], position) for change in page.changes] == [row_id]


async def test_wrong_07_an_expired_link_has_a_plan(org):
    """After more days than the organisation keeps, the link is Stale: a new chain tells everything, deletions by their absence."""
    ids = await org.control.seed("account", [{"name": "A"}, {"name": "B"}])
    adapter = org.dataverse()
    position = (await pages(adapter, ["name"]))[-1].position
    await org.control.delete("account", ids[0])
    await org.control.skew_clock(8 * 86_400)
    with pytest.raises(Stale) as caught:
        await pages(adapter, ["name"], position)
    assert caught.value.code == "dataverse.delta_expired"
    assert [change.id for page in await pages(adapter, ["name"]) for change in page.changes] == [ids[1]]


async def test_wrong_07_our_own_writes_come_back_with_the_stamp_that_we_know(org):
    """The feed echoes a create, an update and a bulk create; each carries the very stamp that the write returned."""
    adapter, key = org.dataverse(), new_id()
    position = (await pages(adapter, ["name"]))[-1].position
    made = await one(adapter, CREATE, key, {"name": "A"})
    updated = await one(adapter, UPDATE, key, {"name": "B"}, made.row)
    bulk = await adapter.write("account", [Write(CREATE, new_id(), {"name": "C"}) for _ in range(30)], bulk=True)
    told = {change.id: change.stamp for page in await pages(adapter, ["name"], position) for change in page.changes}
    assert told == {result.id: result.row.stamp for result in [updated, *bulk]}


async def test_wrong_07_tracked_queries_have_no_filter_and_no_order(org):
    """Rows older than the wished beginning are left out on this side: the server takes only `$select` beside tracking."""
    await org.control.seed("account", [{"name": "old", "modifiedon": "2020-01-01T00:00:00Z"}, {"name": "new"}])
    adapter = org.dataverse()
    found = await pages(adapter, ["name"], since=datetime(2025, 1, 1, tzinfo=UTC))
    assert [len(page.changes) for page in found] == [1]
    await pages(adapter, ["name"], found[-1].position)
    asked = [asked.target.partition("?")[2] for asked in org.watch.of("GET", "/accounts?")]
    assert all(re.fullmatch(r"(\$|%24)select=[^&]*(&\$deltatoken=[^&]*)?", query) for query in asked)
