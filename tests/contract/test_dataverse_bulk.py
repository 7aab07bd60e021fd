"""Prove that creates of a bulk run go by CreateMultiple, that each row gets its own verdict, and what it costs (dataverse.md 6.2)."""

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.core.errors import Denied, Rejected, Stale, Transient
from shared.core.records import Write, WriteKind
from shared.systems.dataverse import Dataverse
from tests.contract.dataverse_site import Site, site

CREATE, UPDATE, DELETE = WriteKind.CREATE, WriteKind.UPDATE, WriteKind.DELETE
MESSAGE = "CreateMultiple"
CALL = r"accounts/Microsoft\.Dynamics\.CRM\.CreateMultiple"


def creates(number: int, **more: Any) -> list[Write]:
    """Return that many new accounts."""
    return [Write(CREATE, str(uuid.uuid4()), {"name": f" Account {at} ", "revenue": at, **more}) for at in range(number)]


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


async def warm(org: Site, **options: Any) -> Dataverse:
    """Make an adapter that knows the table already, so that a test counts its own requests only."""
    adapter = org.dataverse(**options)
    assert [result.error for result in await adapter.write("account", creates(1))] == [None]
    await org.control.reset_requests()
    return adapter


async def counted(org: Site) -> dict[str, int]:
    """Return the requests by kind: probe, bulk calls, batches and reads of accounts."""
    by = (await org.control.requests())["by"]
    names = {"probe": "GET sdkmessagefilters", "bulk": f"POST accounts/{MESSAGE}", "batch": "POST $batch", "read": "GET accounts"}
    return {name: by.get(label, 0) for name, label in names.items()}


async def test_a_thousand_creates_are_two_calls_read_back_in_bulk(org):
    """Each result carries the row as the server holds it now, normalised, with the stamp that a read shows; the probe is asked once."""
    adapter = await warm(org)
    await org.misbehave(kind="normalise", column="name", how="trim")
    writes = creates(1000)
    results = await adapter.write("account", writes, bulk=True)
    assert await counted(org) == {"probe": 1, "bulk": 2, "batch": 0, "read": 6}
    assert [(result.id, result.error) for result in results] == [(write.id, None) for write in writes]
    assert results[7].row.values == {"name": "Account 7", "revenue": 7}
    assert results[7].row.changed_by_us
    assert await adapter.read("account", [writes[7].id], ["name", "revenue"]) == {writes[7].id: results[7].row}
    await org.control.reset_requests()
    await adapter.write("account", creates(30), bulk=True)
    assert await counted(org) == {"probe": 0, "bulk": 1, "batch": 0, "read": 1}


async def test_a_chunk_is_as_long_as_its_setting(org):
    """`bulk_size` cuts the calls; what is left over at the end and too small for a call goes by batch."""
    adapter = await warm(org, bulk_size=40)
    results = await adapter.write("account", creates(90), bulk=True)
    assert [result.error for result in results] == [None] * 90
    assert await counted(org) == {"probe": 1, "bulk": 2, "batch": 1, "read": 2}


async def test_a_run_that_is_not_bulk_keeps_to_batches(org):
    """Without the word nothing is probed and nothing goes by bulk messages."""
    adapter = await warm(org)
    await adapter.write("account", creates(100))
    assert await counted(org) == {"probe": 0, "bulk": 0, "batch": 1, "read": 0}


async def test_a_table_that_does_not_take_the_message():
    """Where the probe finds nothing every row goes by batch, and nobody asks again."""
    async with site(bulk_tables=[]) as org:
        adapter = await warm(org)
        for asked in (1, 0):
            await org.control.reset_requests()
            results = await adapter.write("account", creates(150), bulk=True)
            assert [result.error for result in results] == [None] * 150
            assert await counted(org) == {"probe": asked, "bulk": 0, "batch": 2, "read": 0}


@pytest.mark.parametrize(("status", "asked_again"), [(400, 0), (403, 1)])
async def test_a_probe_that_is_refused(org, status, asked_again):
    """Who may not ask still writes, row by row; a missing right may be given meanwhile, so that one is asked for again."""
    adapter = await warm(org)
    await org.misbehave(kind="status", status=status, body="empty", path="sdkmessagefilters")
    for asked in (1, asked_again):
        await org.control.reset_requests()
        results = await adapter.write("account", creates(30), bulk=True)
        assert [result.error for result in results] == [None] * 30
        assert await counted(org) == {"probe": asked, "bulk": 0, "batch": 1, "read": 0}


async def test_a_table_that_turns_the_message_down_after_all(org):
    """405 and 501 to the call itself: the rows go by batch, and the table is not tried again."""
    adapter = await warm(org)
    await org.misbehave(kind="status", status=501, path=CALL)
    for tried in (1, 0):
        await org.control.reset_requests()
        results = await adapter.write("account", creates(60), bulk=True)
        assert [result.error for result in results] == [None] * 60
        assert (await counted(org))["bulk"] == tried


async def test_one_bad_row_in_500(org):
    """The call is cut in two until the bad row stands in a small batch: it alone is refused, with its field, and 499 are there."""
    adapter = await warm(org)
    writes = creates(500)
    bad = 333
    writes[bad] = Write(CREATE, writes[bad].id, {"name": "x" * 161})
    results = await adapter.write("account", writes, bulk=True)
    assert [place for place, result in enumerate(results) if result.error] == [bad]
    assert isinstance(results[bad].error, Rejected)
    assert (results[bad].error.code, results[bad].error.field) == ("dataverse.too_long", "name")
    assert len(await org.control.rows("account")) == 500
    counts = await counted(org)
    # refused: 500, 250, 125, 63, 32; done: 250, 125, 62, 31; then the last 32 or less in one batch
    assert (counts["bulk"], counts["batch"]) == (9, 1)


async def test_many_bad_rows_are_not_cut_out_one_by_one(org):
    """Every third row is bad: after ten refusals the rest goes by batch, so that the cost stays bounded."""
    adapter = await warm(org)
    writes = [Write(CREATE, str(uuid.uuid4()), {"name": "x" * (161 if at % 3 == 0 else 5)}) for at in range(500)]
    results = await adapter.write("account", writes, bulk=True)
    assert [bool(result.error) for result in results] == [at % 3 == 0 for at in range(500)]
    counts = await counted(org)
    assert counts["bulk"] == 10
    assert counts["batch"] <= 5


async def test_a_duplicate_key_that_is_there_already(org):
    """A row whose id exists is refused as a duplicate and stays as it was; the others are created."""
    adapter = await warm(org)
    writes = creates(60)
    await org.control.seed("account", [{"accountid": writes[11].id, "name": "was here"}])
    results = await adapter.write("account", writes, bulk=True)
    assert [(at, r.error.code) for at, r in enumerate(results) if r.error] == [(11, "dataverse.duplicate")]
    assert (await org.control.row("account", writes[11].id))["name"] == "was here"
    assert (await org.control.requests())["writes"] == 59


async def test_the_same_id_twice_in_one_run(org):
    """Both go by batch in their order: the second is the duplicate."""
    adapter = await warm(org)
    writes = creates(40)
    writes.append(Write(CREATE, writes[0].id, {"name": "again"}))
    results = await adapter.write("account", writes, bulk=True)
    assert [at for at, result in enumerate(results) if result.error] == [40]
    assert results[40].error.code == "dataverse.duplicate"
    assert await counted(org) == {"probe": 1, "bulk": 1, "batch": 1, "read": 1}


async def test_a_reply_lost_after_the_commit(org):
    """All rows of the call are Transient, none is sent a second time, the other call is untouched, and a read finds every row."""
    adapter = await warm(org, bulk_size=100)
    await org.misbehave(kind="drop_after", times=1, path=CALL)
    writes = creates(200)
    results = await adapter.write("account", writes, bulk=True)
    assert {(type(r.error), r.error.code, r.error.record_id == r.id) for r in results[:100]} == {(Transient, "dataverse.unreachable", True)}
    assert [result.error for result in results[100:]] == [None] * 100
    assert (await org.control.requests())["writes"] == 200
    counts = await counted(org)
    assert (counts["bulk"], counts["batch"]) == (3, 0)  # the second hundred in two calls: the first may have been too big
    assert len(await adapter.read("account", [write.id for write in writes], ["name"])) == 200


async def test_a_call_refused_for_its_size(org):
    """413 comes unread, so the rows are sent again in smaller calls, and later calls are smaller from the beginning."""
    adapter = await warm(org)
    await org.control.switch(largest_body=30_000)
    results = await adapter.write("account", creates(400), bulk=True)
    assert [result.error for result in results] == [None] * 400
    assert (await counted(org))["bulk"] == 3
    await org.control.reset_requests()
    results = await adapter.write("account", creates(400), bulk=True)
    assert [result.error for result in results] == [None] * 400
    assert (await counted(org))["bulk"] == 2
    assert (await org.control.requests())["writes"] == 400


@pytest.mark.parametrize("body", ["sql_timeout", "deadlock"])
async def test_a_timeout_of_the_database_makes_later_calls_smaller(org, body):
    """An answered 500 is Transient for its rows and is not tried again from here; what follows is half as long."""
    adapter = await warm(org, bulk_size=200)
    await org.misbehave(kind="status", status=500, body=body, times=1, path=CALL)
    results = await adapter.write("account", creates(400), bulk=True)
    assert {(type(r.error), r.error.code) for r in results[:200]} == {(Transient, "dataverse.unavailable")}
    assert [result.error for result in results[200:]] == [None] * 200
    assert await counted(org) == {"probe": 1, "bulk": 3, "batch": 0, "read": 2}


async def test_a_row_that_makes_the_server_fail_stands_alone_in_the_end(org):
    """A plug-in crashes on one row: as the plan asks again, calls get smaller until only that row is left without success."""
    adapter = await warm(org)
    writes = creates(200)
    poison = writes[120].id
    await org.control.switch(crashing_ids=[poison])
    left = writes
    for _ in range(8):
        results = await adapter.write("account", left, bulk=True)
        left = [write for write, result in zip(left, results, strict=True) if result.error]
        if len(left) == 1:
            break
    assert [write.id for write in left] == [poison]
    assert len(await org.control.rows("account")) == 200
    await org.control.switch(crashing_ids=[])
    await org.control.reset_requests()
    assert [r.error for r in await adapter.write("account", creates(60), bulk=True)] == [None] * 60
    assert (await counted(org))["bulk"] > 0


async def test_what_stops_the_account_stops_the_run(org):
    """A door that leads elsewhere is Denied: raised when nothing was done, else the error of its call and of all that was not sent."""
    adapter = await warm(org, bulk_size=100)
    await org.misbehave(kind="status", status=302, path=CALL)
    with pytest.raises(Denied):
        await adapter.write("account", creates(300), bulk=True)
    assert (await counted(org))["bulk"] == 1
    await org.control.chaos({"seed": 1, "rules": [{"kind": "status", "status": 302, "path": CALL, "after": 1}]})
    await org.control.reset_requests()
    results = await adapter.write("account", [*creates(300), Write(DELETE, str(uuid.uuid4()), {})], bulk=True)
    assert [result.error for result in results[:100]] == [None] * 100
    assert {(type(r.error), r.error.code) for r in results[100:]} == {(Denied, "dataverse.moved")}
    assert await counted(org) == {"probe": 0, "bulk": 2, "batch": 0, "read": 1}


async def test_throttled_in_the_middle(org):
    """The first call stands; the throttled one and all that follow, batches too, carry the wait and are not sent."""
    adapter = await warm(org, bulk_size=100)
    await org.control.chaos({"seed": 1, "rules": [{"kind": "status", "status": 429, "retry_after": 77, "path": CALL, "after": 1}]})
    seen = (await adapter.write("account", creates(1)))[0]
    await org.control.reset_requests()
    results = await adapter.write("account", [*creates(300), Write(UPDATE, seen.id, {"name": "B"}, seen.row)], bulk=True)
    assert [result.error for result in results[:100]] == [None] * 100
    assert {r.error.code for r in results[100:]} == {"dataverse.throttled"}
    assert all(isinstance(r.error, Transient) and 70 < r.error.retry_after <= 77 for r in results[100:])
    assert await counted(org) == {"probe": 1, "bulk": 2, "batch": 0, "read": 1}


async def test_updates_and_deletes_of_a_bulk_run_keep_their_versions(org):
    """Law 8: they go by batch with If-Match, so an edit in between is seen; the creates beside them go in bulk."""
    adapter = await warm(org)
    made = await adapter.write("account", creates(3))
    await org.control.edit("account", made[0].id, {"name": "user"})
    await org.control.reset_requests()
    changes = [Write(UPDATE, made[0].id, {"name": "B"}, made[0].row), Write(UPDATE, made[1].id, {"name": "B"}, made[1].row)]
    writes = [changes[0], *creates(30), changes[1], Write(DELETE, made[2].id, {}, made[2].row)]
    results = await adapter.write("account", writes, bulk=True)
    assert [result.id for result in results] == [write.id for write in writes]
    assert Counter(type(result.error) for result in results) == {type(None): 32, Stale: 1}
    assert isinstance(results[0].error, Stale)
    assert await counted(org) == {"probe": 1, "bulk": 1, "batch": 1, "read": 1}


async def test_a_create_that_needs_two_steps_goes_by_batch(org):
    """A new inactive row takes a POST and a PATCH in one change set, which no bulk message knows."""
    adapter = await warm(org)
    writes = [*creates(30), *creates(2, statecode=1, statuscode=2)]
    results = await adapter.write("account", writes, bulk=True)
    assert [result.error for result in results] == [None] * 32
    assert results[31].row.values["statecode"] == 1
    assert await counted(org) == {"probe": 1, "bulk": 1, "batch": 1, "read": 1}


async def test_a_value_that_does_not_fit_is_refused_before_anything_is_sent(org):
    """A column that is not there fails its record here; the call holds the others."""
    adapter = await warm(org)
    writes = [*creates(30), Write(CREATE, str(uuid.uuid4()), {"nonsense": "x"})]
    results = await adapter.write("account", writes, bulk=True)
    assert [(r.error.code, r.error.field) for r in results if r.error] == [("dataverse.unknown_column", "nonsense")]
    assert await counted(org) == {"probe": 1, "bulk": 1, "batch": 0, "read": 1}


async def test_lookups_are_bound_in_bulk_too(org):
    """A target carries the navigation property's bind, and the row comes back with the lookup."""
    adapter = await warm(org)
    (contact,) = await org.control.seed("contact", [{"lastname": "Meier"}])
    results = await adapter.write("account", creates(30, primarycontactid=contact), bulk=True)
    assert {result.row.values["primarycontactid"] for result in results} == {contact}
    assert (await counted(org))["bulk"] == 1


async def test_a_missing_right_stops_the_run(org):
    """Without the right to create nothing is done: the run is Denied after one bulk call and one batch."""
    adapter = await warm(org)
    await org.misbehave(kind="admin_mode", method="POST")
    with pytest.raises(Denied):
        await adapter.write("account", creates(600), bulk=True)
    counts = await counted(org)
    assert (counts["bulk"], counts["batch"]) == (1, 1)


async def test_rows_that_cannot_be_read_back_are_read_again_by_the_plan(org):
    """They are written, but with which values nobody knows yet: Transient, and never sent a second time."""
    adapter = await warm(org)
    await org.misbehave(kind="status", status=500, path="accounts\\?", method="GET")
    results = await adapter.write("account", creates(30), bulk=True)
    assert {(type(r.error), r.error.code) for r in results} == {(Transient, "dataverse.bad_answer")}
    counts = await org.control.requests()
    assert counts["writes"] == 30
    assert counts["by"][f"POST accounts/{MESSAGE}"] == 1


async def test_a_server_that_gives_other_ids_is_not_trusted_again(org):
    """The answer names ids that nobody sent: Transient, and this table goes by batch from then on."""
    adapter = await warm(org)
    await org.control.switch(bulk_ids="own")
    results = await adapter.write("account", creates(200), bulk=True)
    assert {r.error.code for r in results} == {"dataverse.bad_answer"}
    await org.control.reset_requests()
    assert [r.error for r in await adapter.write("account", creates(30), bulk=True)] == [None] * 30
    assert (await counted(org))["bulk"] == 0
