"""The Creatio adapter against the stand-in: reading, finding, writing, describing (design laws 5, 8, 13; creatio.md 9)."""

import asyncio
import time
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from shared.core.errors import Denied, Rejected, TandemError, Transient
from shared.core.records import ColumnType, Row, Value, Write, WriteKind
from tests.contract.creatio_site import INTEGRATION, Doors, Site

HOSTILE = (
    "O'Neil & Söhne",
    '\'; drop table "Account"; --',
    "<b>%00</b> %27 100% #1 /?&=+;,",
    'quotes " and \\ backslash',
    "two\nlines\tand a tab",
    "emoji 😀🏳️‍🌈 and שלום עולם and مرحبا",
    "') or (1 eq 1",
    "null",
    "{0} $filter=Id ne null",
)
CUSTOMER = "03a75490-53e6-df11-971b-001d60e938c6"
ADA = "ab9eb13b-bdcf-5d1c-9538-ec487fc0c0ac"


def create(values: dict[str, Value], record_id: str = "") -> Write:
    """Return a create with a fresh id."""
    return Write(WriteKind.CREATE, record_id or str(uuid.uuid4()), values)


def update(row: Row, values: dict[str, Value]) -> Write:
    """Return an update of a row that was read."""
    return Write(WriteKind.UPDATE, row.id, values, row)


async def one(adapter: object, record_id: str, *columns: str) -> Row:
    """Read one record that must be there."""
    found = (await adapter.read("Account", [record_id], columns))[record_id]  # type: ignore[attr-defined]
    assert isinstance(found, Row)
    return found


@pytest.mark.parametrize("auth", ["oauth", "forms"])
@pytest.mark.parametrize(("flavour", "prefix"), [("NF", "/0"), ("NC", "")])
async def test_hard_coding_the_prefix(doors: Doors, auth: str, flavour: str, prefix: str) -> None:
    """Creatio.md 9.14: both flavours and both logins write and read a record; the prefix is a setting."""
    async with doors.creatio(flavour=flavour) as site:
        adapter = site.creatio(auth=auth, app_prefix=prefix)
        written = (await adapter.write("Account", [create({"Name": "Acme"})]))[0]
        assert written.error is None
        assert (await one(adapter, written.id, "Name")).values == {"Name": "Acme"}


async def test_wrong_prefix_is_named_as_the_cause(site: Site) -> None:
    """An address of the other flavour answers 404 HTML: the flow stops and the text names the setting."""
    with pytest.raises(Denied, match="CREATIO_APP_PREFIX"):
        await site.creatio(app_prefix="").describe("Account", ["Name"], ())


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_survives_write_find_and_read(site: Site, text: str) -> None:
    """No text can change the meaning of a filter or a batch, and each comes back as it was."""
    adapter = site.creatio()
    await site.seed([{"Name": f"decoy {number}"} for number in range(5)])
    written = (await adapter.write("Account", [create({"Name": text, "Notes": text})]))[0]
    assert written.error is None
    assert written.row is not None
    assert written.row.values == {"Name": text, "Notes": text}
    alone = await adapter.find("Account", [{"Name": text}], ["Name"])
    beside = await adapter.find("Account", [{"Name": "nobody"}, {"Name": text}, {"Notes": text}], ["Name"])
    assert [[row.id for row in rows] for rows in (*alone, *beside)] == [[written.id], [], [written.id], [written.id]]


async def test_every_type_comes_back_as_it_was_written(site: Site) -> None:
    """Creatio.md 9.7: money keeps all its digits, times their microseconds, days their day; no float stands between."""
    values: dict[str, Value] = {
        "Name": "Acme",
        "TypeId": CUSTOMER,
        "UsrAnnualRevenue": Decimal("12345678901.25"),
        "UsrEmployees": 2147483647,
        "UsrActive": False,
        "UsrLastCampaignOn": datetime(2026, 3, 29, 1, 30, 0, 250000, UTC),
    }
    adapter = site.creatio()
    written = (await adapter.write("Account", [create(values)]))[0]
    assert written.row is not None
    assert written.row.values == values
    cleared: dict[str, Value] = dict.fromkeys(values)
    cleared["Name"] = "Acme"
    emptied = (await adapter.write("Account", [update(written.row, cleared)]))[0]
    assert emptied.error is None
    assert emptied.row is not None
    assert emptied.row.values == {**cleared, "UsrActive": False}
    day = (await adapter.write("Account", [update(emptied.row, {"UsrLastCampaignOn": date(2026, 1, 31)})]))[0]
    assert day.row is not None
    assert day.row.values["UsrLastCampaignOn"] == datetime(2026, 1, 31, tzinfo=UTC)


async def test_empty_guid_and_year_one_are_no_data(site: Site) -> None:
    """Creatio.md 9.6: what the server sends for null reads as nothing, not as a value to carry over."""
    (record_id,) = await site.seed([{"Name": "Acme"}])
    row = await one(site.creatio(), record_id, "TypeId", "UsrLastCampaignOn", "UsrAnnualRevenue", "Notes", "UsrEmployees")
    assert set(row.values.values()) == {None}


async def test_lookup_filters_use_the_navigation(site: Site) -> None:
    """Creatio.md 9.5: a lookup is found by `X/Id`; its flat column would be answered with 500."""
    adapter = site.creatio()
    ids = await site.seed([{"Name": "A", "TypeId": CUSTOMER, "Code": "7"}, {"Name": "B", "Code": "7"}])
    found = await adapter.find("Account", [{"Code": "7", "TypeId": CUSTOMER}, {"Name": "B"}, {"Code": "7"}, {"Name": None}], ["Name"])
    assert [sorted(row.id for row in rows) for rows in found] == [[ids[0]], [ids[1]], sorted(ids), []]


async def test_find_knows_texts_as_the_server_compares_them(doors: Doors) -> None:
    """A server that ignores case finds `acme` for `ACME`, whether the key is asked alone or among others."""
    async with doors.creatio(ignore_case=True) as site:
        (record_id,) = await site.seed([{"Name": "Acme"}])
        adapter = site.creatio()
        for keys in ([{"Name": "ACME"}], [{"Name": "ACME"}, {"Name": "other"}]):
            assert [row.id for row in (await adapter.find("Account", keys, ["Name"]))[0]] == [record_id]


async def test_find_many_keys_in_few_requests(site: Site) -> None:
    """A thousand keys are one request once the metadata is there, and each key gets its own rows."""
    await site.seed([{"Name": f"n{number}"} for number in range(300)])
    adapter = site.creatio()
    await adapter.find("Account", [{"Name": "n1"}], ["Name"])
    await site.reset_counts()
    found = await adapter.find("Account", [{"Name": f"n{number}"} for number in range(1000)], ["Name"])
    assert [len(rows) for rows in found] == [1] * 300 + [0] * 700
    assert all(rows[0].values == {"Name": f"n{place}"} for place, rows in enumerate(found[:300]))
    assert (await site.counts())["total"] == 1


async def test_shared_filters_of_lookups_stay_below_the_node_limit(site: Site) -> None:
    """Sixty keys of two comparisons, one through a lookup, are asked in shared filters that the server's node limit of 100 lets pass."""
    await site.seed([{"Name": f"Acme {number}", "TypeId": CUSTOMER} for number in range(60)])
    keys = [{"Name": f"Acme {number}", "TypeId": CUSTOMER} for number in range(60)]
    found = await site.creatio().find("Account", keys, ["Name"])
    assert [[row.values["Name"] for row in hits] for hits in found] == [[key["Name"]] for key in keys]


async def test_one_giant_id_list_is_cut(site: Site) -> None:
    """Creatio.md 9.12: a thousand ids are read in one request of filters that IIS takes; unknown ids are absent."""
    ids = await site.seed([{"Name": f"n{number}"} for number in range(999)])
    adapter = site.creatio()
    await adapter.read("Account", ids[:1], ["Name"])
    await site.reset_counts()
    found = await adapter.read("Account", [*ids, str(uuid.uuid4())], ["Name"])
    assert set(found) == set(ids)
    assert (await site.counts())["total"] == 1


async def test_a_small_row_cap_loses_no_record(doors: Doors) -> None:
    """A server that answers with fewer rows than ids asked for is asked again for the rest."""
    async with doors.creatio(max_entity_row_count=7) as site:
        ids = await site.seed([{"Name": f"n{number}"} for number in range(60)])
        assert set(await site.creatio().read("Account", ids, ["Name"])) == set(ids)


async def test_an_unknown_column_stops_the_read_and_is_named(site: Site) -> None:
    """A mapping that names a column which is not there is told so, with the name."""
    with pytest.raises(Rejected) as caught:
        await site.creatio().read("Account", [str(uuid.uuid4())], ["Name", "UsrNope"])
    assert (caught.value.code, caught.value.field) == ("creatio.unknown_column", "UsrNope")


async def test_guessing_lookups_by_their_suffix(site: Site) -> None:
    """Creatio.md 9.11: a lookup is what has a navigation; `FacebookId` is a text, and owners are contacts."""
    entity = await site.creatio().describe("Contact", ["AccountId", "OwnerId", "FacebookId", "Name", "UsrNope"], ())
    assert entity.columns["AccountId"].type is ColumnType.LOOKUP
    assert entity.columns["OwnerId"].targets == ("Contact",)
    assert entity.columns["Name"].required
    assert entity.columns["FacebookId"].type is ColumnType.TEXT
    assert entity.missing == ("UsrNope",)


async def test_hard_coding_lookup_values(site: Site) -> None:
    """Creatio.md 9.14: labels come from the site at run time, all pages of them, and are asked for once."""
    adapter = site.creatio(page_size=4)
    described = await adapter.describe("Account", ["TypeId", "IndustryId"], ["TypeId"])
    assert described.columns["TypeId"].options[CUSTOMER] == "Customer"
    assert len(described.columns["TypeId"].options) > 4
    assert described.columns["IndustryId"].options == {}
    await site.reset_counts()
    await adapter.describe("Account", ["TypeId"], ["TypeId"])
    assert (await site.counts())["total"] == 0


async def test_value_lists_are_read_side_by_side(site: Site) -> None:
    """A new process waits for one list's time, not for all of them; batches that start together ask for each list once."""
    lists = ["TypeId", "IndustryId", "OwnershipId", "AccountCategoryId", "CountryId"]
    adapter = site.creatio()
    await adapter.describe("Account", lists, ())
    await site.reset_counts()
    await site.chaos({"kind": "delay", "seconds": 0.4, "method": "GET"})
    begun = time.monotonic()
    await asyncio.gather(*(adapter.describe("Account", lists, lists) for _ in range(5)))
    assert time.monotonic() - begun < 3 * 0.4
    assert (await site.counts())["total"] == len(lists)


async def test_owners_are_contacts_with_e_mails(site: Site) -> None:
    """Creatio.md 9.11: the users that may own a record are known by their contacts; roles and the inactive are left out."""
    users = await site.creatio().users()
    assert users[ADA] == "ada@tandem.example"


async def test_hidden_system_tables_give_no_users(doors: Doors) -> None:
    """A site that closes its user table is no error: owners can't be mapped, everything else goes on."""
    async with doors.creatio(blocked_sets=["SysAdminUnit"]) as site:
        adapter = site.creatio(auth="forms", login_name="integration")
        assert await adapter.users() == {}
        assert (await adapter.write("Account", [create({"Name": "Acme"})]))[0].error is None


async def test_user_tables_closed_with_a_server_error_give_no_users(site: Site) -> None:
    """A site may close its system tables with a 500 in JSON: that is no outage, so it is asked once, and reading and writing go on."""
    await site.chaos({"kind": "status", "status": 500, "path": "SysAdminUnit"})
    adapter = site.creatio(auth="forms", login_name="integration")
    assert await adapter.users() == {}
    await site.reset_counts()
    assert await adapter.users() == {}
    for _ in range(2):
        assert (await adapter.write("Account", [create({"Name": "Acme"})]))[0].error is None
    assert (await site.counts())["by"].get("GET SysAdminUnit") == 1  # who we are, once


@pytest.mark.parametrize("status", [502, 503])
async def test_users_in_an_outage_are_asked_for_again(site: Site, status: int) -> None:
    """An outage is no closed table: it is told, and the users are there when it is over."""
    await site.chaos({"kind": "status", "status": status, "path": "SysAdminUnit"})
    adapter = site.creatio()
    with pytest.raises(Transient):
        await adapter.users()
    await site.chaos()
    assert ADA in await adapter.users()


async def test_who_changed_a_row_is_known_by_login_name(site: Site) -> None:
    """With forms login the integration user's contact is looked up, so that a first read tells its rows from those of people."""
    mine, other = await site.seed([{"Name": "mine", "ModifiedById": INTEGRATION}, {"Name": "other", "ModifiedById": ADA}])
    found = await site.creatio(auth="forms", login_name="integration").read("Account", [mine, other], ["Name"])
    assert {one_id: row.changed_by_us for one_id, row in found.items() if isinstance(row, Row)} == {mine: True, other: False}


async def test_who_changed_a_row_is_learned_from_a_create(site: Site) -> None:
    """With OAuth the first create tells who we are, even when a user saves the row before it is read back."""
    await site.chaos({"kind": "user_edit_in_batch", "entity": "Account", "values": {"Notes": "by a user"}, "position": 1})
    adapter = site.creatio()
    written = (await adapter.write("Account", [create({"Name": "Acme"})]))[0]
    assert written.row is not None
    again = (await adapter.write("Account", [update(written.row, {"Name": "Acme 2"})]))[0]
    assert again.row is not None
    assert again.row.changed_by_us


async def test_budget_of_a_thousand_updates(site: Site) -> None:
    """A thousand updates with their reads before and after are twelve requests (design 10: at most 50)."""
    ids = await site.seed([{"Name": f"n{number}"} for number in range(1000)])
    adapter = site.creatio()
    rows = await adapter.read("Account", ids, ["Name"])
    await site.reset_counts()
    results = await adapter.write("Account", [update(row, {"Name": "x"}) for row in rows.values() if isinstance(row, Row)])
    assert len(results) == 1000
    assert all(result.error is None and result.row is not None and result.row.values == {"Name": "x"} for result in results)
    assert all(result.before is None for result in results)
    assert (await site.counts())["total"] == 12


async def test_a_users_edit_inside_the_batch_is_told(site: Site) -> None:
    """Law 8: a value that moved between the plan's read and the write comes back as `before`; the others have none."""
    ids = await site.seed([{"Name": "a", "Notes": "old"}, {"Name": "b", "Notes": "old"}])
    adapter = site.creatio()
    rows = [await one(adapter, record_id, "Name", "Notes") for record_id in ids]
    await site.edit(ids[1], {"Notes": "by a user"})
    first, second = await adapter.write("Account", [update(row, {"Name": "new"}) for row in rows])
    assert first.before is None
    assert second.before is not None
    assert second.before.values == {"Name": "b", "Notes": "by a user"}
    assert second.row is not None
    assert second.row.values == {"Name": "new", "Notes": "by a user"}


async def test_a_users_edit_after_the_write_is_seen_in_the_closing_read(site: Site) -> None:
    """Law 8: the closing read shows what a user saved right after our write, and that it was not us."""
    (record_id,) = await site.seed([{"Name": "a", "Notes": "old"}])
    adapter = site.creatio(integration_contact_id=INTEGRATION)
    row = await one(adapter, record_id, "Name", "Notes")
    edit = {"kind": "user_edit_in_batch", "entity": "Account", "values": {"Notes": "by a user"}, "position": "after_write"}
    await site.chaos(edit)
    result = (await adapter.write("Account", [update(row, {"Name": "new"})]))[0]
    assert result.row is not None
    assert result.row.values == {"Name": "new", "Notes": "by a user"}
    assert not result.row.changed_by_us


async def test_patch_as_upsert(site: Site) -> None:
    """Creatio.md 9.4: an update of a record that is gone is refused, creates nothing, and the others go on."""
    ids = await site.seed([{"Name": "a"}, {"Name": "b"}])
    adapter = site.creatio()
    rows = [await one(adapter, record_id, "Name") for record_id in ids]
    await site.delete(ids[0])
    gone, kept = await adapter.write("Account", [update(row, {"Name": "new"}) for row in rows])
    assert isinstance(gone.error, Rejected)
    assert gone.error.code == "creatio.not_found"
    assert kept.error is None
    assert await site.row(ids[0]) is None


async def test_deletes_are_confirmed(site: Site) -> None:
    """A delete of a record that is as it was seen answers with no row at all."""
    (record_id,) = await site.seed([{"Name": "a"}])
    adapter = site.creatio()
    row = await one(adapter, record_id, "Name")
    done = (await adapter.write("Account", [Write(WriteKind.DELETE, record_id, {}, row)]))[0]
    assert (done.row, done.before, done.error) == (None, None, None)


async def test_the_same_record_twice_is_written_in_order(site: Site) -> None:
    """Two writes of one record in one call go out one after the other, and each result shows its own state."""
    first = create({"Name": "one"})
    results = await site.creatio().write("Account", [first, Write(WriteKind.UPDATE, first.id, {"Name": "two"})])
    assert [result.row.values["Name"] for result in results if result.row] == ["one", "two"]


async def test_bad_values_stop_only_their_own_record(site: Site) -> None:
    """Law 13: of many creates those that can't be written are named with code and field, the others are written."""
    cases: list[tuple[dict[str, Value], str, str]] = [
        ({"Name": "fine"}, "", ""),
        ({"Code": "no name"}, "creatio.required", "Name"),
        ({"Name": "x" * 251}, "creatio.too_long", "Name"),
        ({"Name": "x", "TypeId": str(uuid.uuid4())}, "creatio.refused", ""),
        ({"Name": "x", "UsrNope": "1"}, "creatio.unknown_column", "UsrNope"),
        ({"Name": "x", "UsrEmployees": 2**31}, "creatio.out_of_range", "UsrEmployees"),
        ({"Name": 12}, "mapping.value_type", "Name"),
        ({"Name": "fine too"}, "", ""),
    ]
    results = await site.creatio().write("Account", [create(values) for values, _, _ in cases])
    got = [(result.error.code, result.error.field) if result.error else ("", "") for result in results]
    assert got == [(code, name) for _, code, name in cases]
    assert all(isinstance(result.error, Rejected) for result in results if result.error)
    assert all("xxx" not in str(result.error) for result in results)


async def test_a_duplicate_id_is_told_with_the_row_that_is_there(site: Site) -> None:
    """Creatio.md 9.4: a create that is repeated meets its own row: an error, and the row for the engine to judge."""
    adapter = site.creatio()
    first = create({"Name": "Acme"})
    await adapter.write("Account", [first])
    again = (await adapter.write("Account", [create({"Name": "Acme again"}, first.id)]))[0]
    assert isinstance(again.error, Rejected)
    assert again.error.code == "creatio.duplicate"
    assert again.row is not None
    assert again.row.values == {"Name": "Acme"}


async def test_a_failed_create_may_have_inserted_the_row(site: Site) -> None:
    """Creatio.md 2.4: an event handler that fails after the insert: error and row are both told, nothing is repeated."""
    await site.chaos({"kind": "insert_then_fail", "path": r"\$batch", "times": 1})
    results = await site.creatio().write("Account", [create({"Name": "one"}), create({"Name": "two"})])
    failed = [result for result in results if result.error is not None]
    assert len(failed) == 1
    assert failed[0].row is not None
    assert (await site.counts())["by"]["POST $batch"] == 1


async def test_server_normalisation_is_read_back(site: Site) -> None:
    """Creatio.md 7: what the server stores differs from what was sent; the result shows what it stored."""
    await site.chaos({"kind": "normalise", "entity": "Account", "column": "Name", "how": "upper"})
    result = (await site.creatio().write("Account", [create({"Name": "acme"})]))[0]
    assert result.error is None
    assert result.row is not None
    assert result.row.values == {"Name": "ACME"}


async def test_times_of_a_create_are_those_that_are_stored(site: Site) -> None:
    """Creatio.md 9.8: the 201 answer shows seven digits; the stamp of the result is equal to that of a later read."""
    adapter = site.creatio()
    written = (await adapter.write("Account", [create({"Name": "Acme"})]))[0]
    assert written.row is not None
    assert (await one(adapter, written.id, "Name")).stamp == written.row.stamp


async def test_a_lost_reply_is_not_repeated(site: Site) -> None:
    """Creatio.md 9.4: the connection breaks after the commit: each record is Transient, and the batch was sent once."""
    await site.chaos({"kind": "drop_after", "path": r"\$batch", "times": 1})
    writes = [create({"Name": f"n{number}"}) for number in range(3)]
    results = await site.creatio().write("Account", writes)
    assert all(isinstance(result.error, Transient) and result.error.code == "creatio.unreachable" for result in results)
    assert [result.error.record_id for result in results if result.error] == [write.id for write in writes]
    assert (await site.counts())["by"]["POST $batch"] == 1
    assert all([await site.row(write.id) for write in writes])


async def test_batches_behind_a_broken_one_are_not_sent(site: Site) -> None:
    """When a batch breaks without a verdict the rest waits for the next attempt, and every record has a result."""
    await site.chaos({"kind": "drop_before", "path": r"\$batch"})
    results = await site.creatio(batch_size=10).write("Account", [create({"Name": f"n{number}"}) for number in range(35)])
    assert len(results) == 35
    assert all(isinstance(result.error, Transient) for result in results)
    assert (await site.counts())["by"].get("POST $batch", 0) <= 1


async def test_a_part_that_fails_leaves_the_others(site: Site) -> None:
    """A part answered with 403 is that record's own refusal; the record beside it is written."""
    writes = [create({"Name": "one"}), create({"Name": "two"})]
    adapter = site.creatio()
    await adapter.describe("Account", ["Name"], ())
    await site.chaos({"kind": "part_status", "status": 403, "index": 0, "times": 1})
    first, second = await adapter.write("Account", writes)
    assert isinstance(first.error, Rejected)
    assert second.error is None


async def test_a_read_is_repeated_after_an_outage(site: Site) -> None:
    """503 and a broken connection on reads are waited out; what lasts is Transient for the caller."""
    ids = await site.seed([{"Name": "a"}])
    adapter = site.creatio()
    await adapter.read("Account", ids, ["Name"])
    await site.chaos({"kind": "status", "status": 503, "body": "html", "times": 1}, {"kind": "drop_before", "times": 1, "after": 1})
    assert set(await adapter.read("Account", ids, ["Name"])) == set(ids)
    await site.chaos({"kind": "status", "status": 503, "body": "html"})
    with pytest.raises(Transient):
        await adapter.read("Account", ids, ["Name"])


async def test_write_never_raises(site: Site) -> None:
    """Whatever befalls a whole request, each record gets a result that says so."""
    adapter = site.creatio()
    await adapter.describe("Account", ["Name"], ())  # so that the trouble meets the batch
    for rule in (
        {"kind": "status", "status": 500, "body": "html"},
        {"kind": "status", "status": 502, "body": "malformed"},
        {"kind": "status", "status": 429, "retry_after": 60},
        {"kind": "status", "status": 403, "body": "json"},
        {"kind": "status", "status": 404, "body": "json"},
    ):
        await site.chaos(rule)
        results = await adapter.write("Account", [create({"Name": "x"}), create({"Name": "y"})])
        assert [isinstance(result.error, TandemError) for result in results] == [True, True]
        assert all(result.error is not None and result.error.code != "creatio.not_found" for result in results), rule
