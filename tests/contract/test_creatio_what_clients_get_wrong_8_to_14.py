"""Creatio.md 9, "What clients get wrong", lines 8 to 14, against the adapter over HTTP; a test carries the number of its line."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from shared.core.errors import Rejected, TandemError, Transient
from shared.core.records import RangeBy, Row, Value, Write, WriteKind
from tests.contract.creatio_site import INTEGRATION, Doors, Site, ids_in, ids_of, walk
from tests.contract.creatio_stand_in import CUSTOMER, MAIN_PHONE
from tests.contract.test_creatio_what_clients_get_wrong import COLUMNS, LOGIN, NF_AND_NC, create, every_verb, one

# --- 8: times of change -----------------------------------------------------------------------------------------------------


async def test_wrong_08_what_sql_changes_is_seen_whenever_it_is_read(site: Site) -> None:
    """A phone that the server blanks by SQL moves no ModifiedOn: the feed is silent, but reads show it, a write's `before` too."""
    adapter = site.creatio()
    (made,) = await adapter.write("Account", [create({"Name": "a", "Phone": "1"})])
    position = (await walk(adapter))[-1].position
    seen = await one(adapter, made.id, "Phone")
    numbers = (await site.control.get("/_control/rows", params={"entity": "AccountCommunication"})).json()["rows"]
    await site.delete(numbers[0]["Id"], "AccountCommunication")
    assert ids_of(await walk(adapter, position)) == []
    after = await one(adapter, made.id, "Phone")
    assert (after.stamp, seen.values["Phone"], after.values["Phone"]) == (seen.stamp, "1", None)
    (result,) = await adapter.write("Account", [Write(WriteKind.UPDATE, made.id, {"Code": "2"}, seen)])
    assert result.before is not None
    assert result.before.values["Phone"] is None


async def test_wrong_08_children_can_be_polled_for_what_their_parents_do_not_tell(site: Site) -> None:
    """A sibling that loses its flag by SQL has the old time; the child that caused it is announced by its own feed."""
    adapter = site.creatio()
    (account,) = await site.seed([{"Name": "a"}])
    await adapter.write("Account", [Write(WriteKind.UPDATE, account, {"Phone": "1"})])
    position = (await walk(adapter, entity="AccountCommunication"))[-1].position
    values: dict[str, Value] = {"AccountId": account, "CommunicationTypeId": MAIN_PHONE, "Number": "2"}
    (made,) = await adapter.write("AccountCommunication", [create(values)])
    assert ids_of(await walk(adapter, position, entity="AccountCommunication")) == [made.id]
    assert (await one(adapter, account, "Phone")).values == {"Phone": "2"}


async def test_wrong_08_rows_of_the_last_time_seen_are_not_passed_over(site: Site) -> None:
    """A row that is committed with the very time that was read last is found (`ge`), and one committed minutes late (overlap)."""
    now = datetime.now(UTC) - timedelta(seconds=30)
    stamp, late = (moment.isoformat().replace("+00:00", "Z") for moment in (now, now - timedelta(seconds=200)))
    adapter = site.creatio(overlap_seconds=300)
    await site.seed([{"Name": "a", "ModifiedOn": stamp}])
    position = (await walk(adapter))[-1].position
    expected = await site.seed([{"Name": "same", "ModifiedOn": stamp}, {"Name": "late", "ModifiedOn": late}])
    assert sorted(ids_of(await walk(adapter, position))) == sorted(expected)
    assert all(" gt " not in operation.text for operation in site.operations())


@pytest.mark.parametrize("digits", [6, 7])
async def test_wrong_08_six_and_seven_digits_are_one_time(doors: Doors, digits: int) -> None:
    """Whether the server keeps six digits or seven: a write's stamp is that of feed, read and range, a quiet poll stays quiet."""
    async with doors.creatio(stored_digits=digits) as site:
        adapter = site.creatio()
        position = (await walk(adapter))[-1].position
        written = [result for _ in range(5) for result in await adapter.write("Account", [create({"Name": "a"})])]
        stamps = {result.id: result.row.stamp for result in written if result.row}
        pages = await walk(adapter, position)
        assert {change.id: change.stamp for page in pages for change in page.changes} == stamps
        found = await adapter.read("Account", list(stamps), ["Name"])
        assert {record_id: row.stamp for record_id, row in found.items() if isinstance(row, Row)} == stamps
        assert ids_of(await walk(adapter, pages[-1].position)) == []
        for by in RangeBy:
            read: list[str] = []
            async for part in adapter.ranges("Account", by, None, None, 1):
                read += await ids_in(adapter, part)
            assert sorted(read) == sorted(stamps)


@pytest.mark.parametrize("kept", [False, True])
async def test_wrong_08_our_own_writes_are_known_as_ours(doors: Doors, kept: bool) -> None:
    """An echo is known by its stamp and by who made it; no time of ours is sent, so that a site that would keep it gets none."""
    async with doors.creatio(keep_client_stamps=kept) as site:
        adapter = site.creatio(integration_contact_id=INTEGRATION)
        position = (await walk(adapter))[-1].position
        (made,) = await adapter.write("Account", [create({"Name": "a"})])
        assert made.row is not None
        assert made.row.changed_by_us
        changes = [change for page in await walk(adapter, position) for change in page.changes]
        assert [(change.id, change.stamp) for change in changes] == [(made.id, made.row.stamp)]
        await site.edit(made.id, {"Code": "by a user"})
        assert not (await one(adapter, made.id, "Code")).changed_by_us
        sent = {name for operation in site.operations() if operation.body for name in operation.body}
        assert sent & {"ModifiedOn", "ModifiedById", "CreatedOn", "CreatedById"} == set()


# --- 9: deletes -------------------------------------------------------------------------------------------------------------


async def test_wrong_09_a_delete_is_visible_nowhere_in_the_feed(site: Site) -> None:
    """The feed does not tell deletes and says so; only the question for the record itself does."""
    adapter = site.creatio()
    gone, kept = await site.seed([{"Name": "a"}, {"Name": "b"}])
    position = (await walk(adapter))[-1].position
    await site.delete(gone)
    pages = await walk(adapter, position)
    assert [change for page in pages for change in page.changes] == []
    assert not adapter.tells_deletes
    assert await adapter.exist("Account", [gone, kept]) == {gone: False, kept: True}


async def test_wrong_09_what_is_hidden_is_not_called_deleted(site: Site) -> None:
    """A row without a right looks as one that is gone: absence counts only when the operator vouches that the user sees all."""
    (hidden,) = await site.seed([{"Name": "a"}])
    await site.settings(hidden_ids={"Account": [hidden]})
    adapter = site.creatio()
    assert await adapter.read("Account", [hidden], ["Name"]) == {}
    assert [change.id for page in await walk(adapter) for change in page.changes if change.deleted] == []
    assert (adapter.sees_all, site.creatio(sees_all=True).sees_all) == (False, True)


# --- 10: both sides of one fact ---------------------------------------------------------------------------------------------


async def test_wrong_10_a_number_is_written_on_one_side_only(site: Site) -> None:
    """Phone, fax and address go to the account alone: each has one detail, however often it is written."""
    adapter = site.creatio()
    (made,) = await adapter.write("Account", [create({"Name": "a", "Phone": "1", "Fax": "2", "Zip": "3"})])
    row = made.row
    for number in range(3):
        assert row is not None
        (result,) = await adapter.write("Account", [Write(WriteKind.UPDATE, made.id, {"Phone": f"1{number}", "Zip": f"3{number}"}, row)])
        row = result.row
    for entity, expected in (("AccountCommunication", 2), ("AccountAddress", 1)):
        assert (await site.control.get("/_control/rows", params={"entity": entity})).json()["total"] == expected
    assert {operation.url for operation in site.operations() if operation.method == "POST"} == {"Account"}


# --- 11: lookups and people -------------------------------------------------------------------------------------------------


async def test_wrong_11_owners_are_contacts(site: Site) -> None:
    """Each user that is told can be written as an owner; the ids of users themselves are no owners."""
    adapter = site.creatio()
    users = await adapter.users()
    results = await adapter.write("Account", [create({"Name": email, "OwnerId": contact}) for contact, email in users.items()])
    assert len(results) > 3
    assert all(result.error is None for result in results)
    accounts = (await site.control.get("/_control/rows", params={"entity": "SysAdminUnit"})).json()["rows"]
    assert not set(users) & {row["Id"] for row in accounts}


async def test_wrong_11_lookups_are_known_by_id_in_every_language(site: Site) -> None:
    """In another culture the labels are other words and the ids the same: what is read, written and found is the id."""
    (record_id,) = await site.seed([{"Name": "a", "TypeId": CUSTOMER}])
    labels = []
    for culture in ("en-US", "de-DE"):
        await site.settings(culture=culture)
        adapter = site.creatio()
        labels.append((await adapter.describe("Account", ["TypeId"], ["TypeId"])).columns["TypeId"].options[CUSTOMER])
        assert (await one(adapter, record_id, "TypeId")).values == {"TypeId": CUSTOMER}
        assert [row.id for row in (await adapter.find("Account", [{"TypeId": CUSTOMER}], ["Name"]))[0]] == [record_id]
    assert labels == ["Customer", "Kunde"]


async def test_wrong_11_a_text_that_ends_in_id_is_a_text(site: Site) -> None:
    """`FacebookId` takes any text, one that looks like a guid or a number too, and is found by it; `AdCampaignId` is a lookup."""
    adapter = site.creatio()
    texts = ["4711", str(uuid.uuid4()).upper(), "ada.byron"]
    writes = [create({"Name": f"Ada {place}", "FacebookId": text}) for place, text in enumerate(texts)]
    results = await adapter.write("Contact", writes)
    assert [result.row.values["FacebookId"] for result in results if result.row] == texts
    found = await adapter.find("Contact", [{"FacebookId": text} for text in texts], ["Name"])
    assert [[row.id for row in rows] for rows in found] == [[write.id] for write in writes]


# --- 12: size ---------------------------------------------------------------------------------------------------------------


async def test_wrong_12_every_read_names_its_columns_and_its_size(site: Site) -> None:
    """No address is longer than IIS takes, no filter has more nodes than OData, no read is without $select and $top."""
    adapter = site.creatio()
    await every_verb(site, adapter)
    ids = [str(uuid.uuid4()) for _ in range(300)]
    assert await adapter.read("Account", ids, COLUMNS) == {}
    assert await adapter.find("Account", [{"Name": "n" * 200, "Code": str(n)} for n in range(100)], COLUMNS) == [[]] * 100
    reads = [one for one in site.operations() if one.method == "GET" and not one.url.startswith("$metadata")]
    assert len(reads) > 30
    assert max(len(one.url) for one in site.operations()) <= 2048
    assert [one.url for one in reads if "$select=" not in one.url] == []
    by_key = re.compile(r"\w+\([0-9a-f-]{36}\)")
    assert [one.url for one in reads if "$top=" not in one.url and not by_key.match(one.url)] == []


@pytest.mark.parametrize("next_link", [False, True])
async def test_wrong_12_a_cap_loses_no_row_in_any_verb(doors: Doors, next_link: bool) -> None:
    """Where the server shows four rows at once: records, lookup values, users, hits, feed and ranges are whole all the same."""
    async with doors.creatio(max_entity_row_count=4, next_link=next_link) as site:
        ids = await site.seed([{"Name": f"n{n}", "Code": "c" if n < 3 else "d", "TypeId": CUSTOMER} for n in range(33)])
        adapter = site.creatio()
        assert set(await adapter.read("Account", ids, ["Name"])) == set(ids)
        assert sorted(ids_of(await walk(adapter))) == sorted(ids)
        assert len((await adapter.describe("Account", ["TypeId"], ["TypeId"])).columns["TypeId"].options) == 9
        assert len(await adapter.users()) == 6
        found = await adapter.find("Account", [{"Name": "n1"}, {"Name": "n2"}, {"Name": "n30"}, {"Code": "c"}], ["Name"])
        assert [len(rows) for rows in found] == [1, 1, 1, 3]
        seen: list[str] = []
        async for part in adapter.ranges("Account", RangeBy.CREATED, None, None, 10):
            seen += await ids_in(adapter, part)
        assert sorted(seen) == sorted(ids)


async def test_wrong_12_several_hits_are_several_though_the_server_shows_few(doors: Doors) -> None:
    """Of a key with more hits than the server shows at once more than one is found, asked alone or beside other keys (law 7)."""
    async with doors.creatio(max_entity_row_count=4) as site:
        await site.seed([{"Name": "same"} for _ in range(9)] + [{"Name": "other"}])
        for keys in ([{"Name": "same"}], [{"Name": "other"}, {"Name": "same"}]):
            hits = await site.creatio().find("Account", keys, ["Name"])
            assert [len(rows) for rows in hits] == [*[1] * (len(keys) - 1), 4]


async def test_wrong_12_a_page_too_wide_for_the_servers_memory_is_read_in_smaller_ones(doors: Doors) -> None:
    """A page of a range that the memory guard ends is asked for with fewer rows, and the whole range is read."""
    for status in (500, 503):
        async with doors.creatio(max_answer_bytes=20_000, memory_status=status) as site:
            ids = await site.seed([{"Name": f"n{n}", "Notes": "n" * 1000} for n in range(60)])
            adapter = site.creatio()
            (part,) = [one async for one in adapter.ranges("Account", RangeBy.CREATED, None, None, 100)]
            assert sorted(await ids_in(adapter, part, columns=("Name", "Notes"), size=60)) == sorted(ids)


# --- 13: what errors say ----------------------------------------------------------------------------------------------------


async def test_wrong_13_the_innermost_cause_is_told(site: Site) -> None:
    """That an error has occurred says nothing: code, column and text come from the innermost exception."""
    cases: list[tuple[dict[str, Value], str, str, str]] = [
        ({"Name": "n" * 300}, "creatio.too_long", "Name", "22001"),
        ({"Name": "a", "TypeId": str(uuid.uuid4())}, "creatio.refused", "", "23503"),
        ({"Code": "1"}, "creatio.required", "Name", "required"),
    ]
    results = await site.creatio().write("Account", [create(values) for values, *_ in cases])
    for result, (_, code, field, text) in zip(results, cases, strict=True):
        assert result.error is not None
        assert (result.error.code, result.error.field, text in result.error.said) == (code, field, True)
        assert "An error has occurred" not in result.error.said


@pytest.mark.parametrize("body", ["html", "webapi", "empty", "malformed", "json"])
@pytest.mark.parametrize("status", [400, 403, 404, 500, 502])
async def test_wrong_13_no_error_body_is_taken_for_json_or_for_data(site: Site, status: int, body: str) -> None:
    """A page, a Web API crash, nothing or half a JSON text: reads raise a coded error, a write tells it by its record."""
    adapter = site.creatio()
    ids = await site.seed([{"Name": "a"}])
    await adapter.describe("Account", ["Name"], ())
    await site.chaos({"kind": "status", "status": status, "body": body})
    for ask in (walk(adapter), adapter.read("Account", ids, ["Name"]), adapter.find("Account", [{"Name": "a"}], ["Name"])):
        with pytest.raises(TandemError) as caught:
            await ask
        assert caught.value.code.startswith("creatio.")
    (result,) = await adapter.write("Account", [create({"Name": "b"})])
    assert result.error is not None
    assert result.error.code.startswith("creatio.")


# --- 14: what is not the same everywhere ------------------------------------------------------------------------------------


@NF_AND_NC
async def test_wrong_14_the_prefix_is_a_setting_of_every_verb(doors: Doors, flavour: str, prefix: str) -> None:
    """All verbs work on both flavours; no request goes to the other one's addresses."""
    async with doors.creatio(flavour=flavour) as site:
        await every_verb(site, site.creatio(auth="forms", app_prefix=prefix))
        paths = {request.url.path for request in site.sent} - {LOGIN}
        assert all(path.startswith(f"{prefix}/odata/") for path in paths)


async def test_wrong_14_lookup_values_are_those_of_the_site(site: Site) -> None:
    """A value that an administrator added can be read and written by its id, and stands among the labels that are asked for."""
    (mine,) = await site.seed([{"Name": "Franchise"}], "AccountType")
    adapter = site.creatio()
    (made,) = await adapter.write("Account", [create({"Name": "a", "TypeId": mine})])
    assert made.row is not None
    assert made.row.values["TypeId"] == mine
    assert (await adapter.describe("Account", ["TypeId"], ["TypeId"])).columns["TypeId"].options[mine] == "Franchise"


async def test_wrong_14_metadata_is_not_kept_across_a_change_of_the_schema(site: Site) -> None:
    """With metadata in the cache a column comes and goes: what is new is found at once, what is gone is named, reads and writes alike."""
    (record_id,) = await site.seed([{"Name": "a", "Code": "7"}])
    adapter = site.creatio(csdl_seconds=3600)
    await one(adapter, record_id, "Name")
    await site.administer("columns/add", entity="Account", column="UsrNew")
    assert (await one(adapter, record_id, "Name", "UsrNew")).values == {"Name": "a", "UsrNew": None}
    (result,) = await adapter.write("Account", [Write(WriteKind.UPDATE, record_id, {"UsrNew": "x"})])
    assert result.error is None
    await site.administer("columns/remove", entity="Account", column="Code")
    with pytest.raises(Rejected) as caught:
        await adapter.read("Account", [record_id], ["Name", "Code"])
    assert (caught.value.code, caught.value.field) == ("creatio.unknown_column", "Code")
    (result,) = await adapter.write("Account", [create({"Name": "b", "Code": "1"})])
    assert isinstance(result.error, Rejected)
    assert (result.error.code, result.error.field) == ("creatio.unknown_column", "Code")
    assert (await adapter.describe("Account", ["Code", "UsrNew"], ())).missing == ("Code",)
    await site.administer("columns/add", entity="Account", column="Code")
    assert (await one(adapter, record_id, "Code")).values == {"Code": None}


async def test_wrong_14_a_write_finds_a_column_that_was_published_after_the_metadata(site: Site) -> None:
    """A write that names a column which the cached metadata lacks looks at fresh metadata before it refuses the record."""
    (record_id,) = await site.seed([{"Name": "a"}])
    adapter = site.creatio(csdl_seconds=3600)
    await one(adapter, record_id, "Name")
    await site.administer("columns/add", entity="Account", column="UsrNew")
    (result,) = await adapter.write("Account", [Write(WriteKind.UPDATE, record_id, {"UsrNew": "x"})])
    assert result.error is None
    assert result.row is not None
    assert result.row.values == {"UsrNew": "x"}


async def test_wrong_14_an_object_that_is_being_published_is_waited_for(site: Site) -> None:
    """While somebody publishes, a known object is unknown for a minute: Transient in each verb, and no record is called gone."""
    (record_id,) = await site.seed([{"Name": "a"}])
    adapter = site.creatio(csdl_seconds=0)
    await one(adapter, record_id, "Name")
    await site.settings(unpublished_sets=["Account"])
    for ask in (
        lambda: walk(adapter),
        lambda: adapter.read("Account", [record_id], ["Name"]),
        lambda: adapter.find("Account", [{"Name": "a"}], ["Name"]),
        lambda: adapter.describe("Account", ["Name"], ()),
    ):
        with pytest.raises(Transient) as caught:
            await ask()
        assert caught.value.code == "creatio.unavailable"
    assert await adapter.exist("Account", [record_id]) == {record_id: None}
    for kind in WriteKind:
        (result,) = await adapter.write("Account", [Write(kind, record_id, {"Name": "b"})])
        assert isinstance(result.error, Transient), kind
    await site.settings(unpublished_sets=[])
    assert (await one(adapter, record_id, "Name")).values == {"Name": "a"}
