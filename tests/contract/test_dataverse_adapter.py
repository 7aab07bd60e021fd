"""Prove that the Dataverse adapter and the stand-in, each written from the reference alone, understand each other (laws 4 to 11)."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from shared.core.errors import Denied, Rejected, Stale, Transient
from shared.core.records import ColumnType, Row, Write, WriteKind
from tests.contract.dataverse_site import Site, one, pages, site

HOSTILE = "O'Brian & \"Söhne\" <x>/#?%+=;\nline \u202eabc 😀 ') or name ne ('"
CREATE, UPDATE, DELETE = WriteKind.CREATE, WriteKind.UPDATE, WriteKind.DELETE


def new_id() -> str:
    """Return a fresh guid."""
    return str(uuid.uuid4())


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


async def test_a_created_record_comes_back_as_it_was_written(org):
    """Every kind of column makes the way there and back: text, memo, money, choice, flag, number, lookup, owner."""
    adapter = org.dataverse()
    contact = (await org.control.seed("contact", [{"lastname": "Meier"}]))[0]
    owner = next(iter(await adapter.users()))
    values = {
        "name": HOSTILE.replace("\n", " ")[:160],
        "description": HOSTILE,
        "revenue": Decimal("1234567.89"),
        "industrycode": 1,
        "creditonhold": True,
        "numberofemployees": 12,
        "primarycontactid": contact,
        "ownerid": owner,
        "telephone1": None,
    }
    key = new_id()
    result = await one(adapter, CREATE, key, values)
    assert result.error is None
    assert result.row is not None
    assert result.row.values == values
    assert result.row.changed_by_us
    read = await adapter.read("account", [key], list(values))
    assert read == {key: result.row}


async def test_an_update_changes_what_it_names_and_returns_the_new_version(org):
    """The row after an update holds all columns that the plan had seen, with the new etag."""
    adapter, key = org.dataverse(), new_id()
    before = (await one(adapter, CREATE, key, {"name": "A", "telephone1": "1"})).row
    result = await one(adapter, UPDATE, key, {"telephone1": None}, before)
    assert result.error is None
    assert result.row.values == {"telephone1": None, "name": "A"}
    assert result.row.stamp.version != before.stamp.version
    assert (await adapter.read("account", [key], ["name", "telephone1"]))[key] == result.row


async def test_a_stale_version_is_stale_and_the_others_of_the_batch_go_on(org):
    """A user's edit between read and write stops that record only, and stays."""
    adapter, keys = org.dataverse(), [new_id() for _ in range(3)]
    made = await adapter.write("account", [Write(CREATE, key, {"name": "A"}) for key in keys])
    await org.control.edit("account", keys[1], {"name": "user"})
    results = await adapter.write("account", [Write(UPDATE, r.id, {"name": "B"}, r.row) for r in made])
    assert [type(r.error) for r in results] == [type(None), Stale, type(None)]
    assert results[1].error.code == "dataverse.changed_meanwhile"
    read = await adapter.read("account", keys, ["name"])
    assert [read[key].values["name"] for key in keys] == ["B", "user", "B"]
    assert [read[key].changed_by_us for key in keys] == [True, False, True]


async def test_a_deleted_row_is_never_resurrected(org):
    """An update of a row that is gone is `not_found`, with the version seen and without one."""
    adapter, key = org.dataverse(), new_id()
    seen = (await one(adapter, CREATE, key, {"name": "A"})).row
    await org.control.delete("account", key)
    for row in (seen, None):
        result = await one(adapter, UPDATE, key, {"name": "B"}, row)
        assert isinstance(result.error, (Rejected, Stale))
        assert result.error.code in ("dataverse.not_found", "dataverse.changed_meanwhile")
    assert await org.control.row("account", key) is None
    assert (await one(adapter, DELETE, key, {}, seen)).error is None


async def test_deleting_an_edited_row_is_stale(org):
    """A delete carries the version too: an edit in between wins."""
    adapter, key = org.dataverse(), new_id()
    seen = (await one(adapter, CREATE, key, {"name": "A"})).row
    await org.control.edit("account", key, {"name": "B"})
    assert isinstance((await one(adapter, DELETE, key, {}, seen)).error, Stale)
    assert (await one(adapter, DELETE, key, {})).error is None
    assert await adapter.read("account", [key], ["name"]) == {}


async def test_creating_the_same_id_twice_is_a_duplicate(org):
    """A second POST of one id is refused and changes nothing."""
    adapter, key = org.dataverse(), new_id()
    assert (await one(adapter, CREATE, key, {"name": "A"})).error is None
    result = await one(adapter, CREATE, key, {"name": "B"})
    assert isinstance(result.error, Rejected)
    assert result.error.code == "dataverse.duplicate"
    assert (await org.control.row("account", key))["name"] == "A"


async def test_an_inactive_record_can_be_created_in_one_go(org):
    """State and status follow the POST in its change set; both or neither happen."""
    adapter, key, bad = org.dataverse(), new_id(), new_id()
    results = await adapter.write(
        "account",
        [
            Write(CREATE, key, {"name": "A", "statecode": 1, "statuscode": 2}),
            Write(CREATE, bad, {"name": "B", "statecode": 1, "statuscode": 1}),
        ],
    )
    assert results[0].error is None
    assert (results[0].row.values["statecode"], results[0].row.values["statuscode"]) == (1, 2)
    assert isinstance(results[1].error, Rejected)
    assert await org.control.row("account", bad) is None


async def test_refused_values_name_their_field(org):
    """Over-long text, an unknown option and a missing target each fail their own record, with the field and without the value."""
    adapter = org.dataverse()
    wrong = [{"name": "x" * 161}, {"name": "ok", "industrycode": 9999}, {"name": "ok", "primarycontactid": new_id()}, {"name": "fine"}]
    results = await adapter.write("account", [Write(CREATE, new_id(), values) for values in wrong])
    assert [r.error and (r.error.code, r.error.field) for r in results] == [
        ("dataverse.too_long", "name"),
        ("dataverse.out_of_range", "industrycode"),
        ("dataverse.refused", "primarycontactid"),
        None,
    ]
    assert "xxx" not in str(results[0].error)


async def test_a_reply_lost_after_the_commit_is_no_second_write(org):
    """The connection breaks after the work was done: each record is Transient, one write happened, a read finds it."""
    adapter, key = org.dataverse(), new_id()
    await adapter.write("account", [Write(CREATE, new_id(), {"name": "warm"})])
    await org.control.reset_requests()
    await org.misbehave(kind="drop_after", times=1, method="POST", path="batch")
    result = await one(adapter, CREATE, key, {"name": "A"})
    assert isinstance(result.error, Transient)
    assert (result.error.code, result.error.record_id) == ("dataverse.unreachable", key)
    counts = await org.control.requests()
    assert counts["writes"] == 1
    assert (await adapter.read("account", [key], ["name"]))[key].values == {"name": "A"}


async def test_batches_that_start_together_ask_once_for_what_they_share(org):
    """The first batches of a new process wait for one another's question instead of asking it again."""
    adapter = org.dataverse()
    options = ("customertypecode", "industrycode", "statecode")

    async def begin():
        await asyncio.gather(adapter.describe("account", ("name", "ownerid", *options), options), adapter.users(), adapter.identity())
        return await one(adapter, CREATE, new_id(), {"name": "A", "ownerid": None})

    assert all(result.error is None for result in await asyncio.gather(*(begin() for _ in range(6))))
    asked = {name: number for name, number in (await org.control.requests())["by"].items() if name.startswith("GET")}
    kinds = ("PicklistAttributeMetadata", "StateAttributeMetadata")
    often = {name: number for name, number in asked.items() if number > 1 and "EntityDefinitions" not in name}
    assert not often, often
    assert sum(number for name, number in asked.items() if "EntityDefinitions" in name) <= 3 + len(kinds) + 1


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"kind": "status", "status": 502, "body": "html"}, "dataverse.unavailable"),
        ({"kind": "status", "status": 429, "retry_after": 60}, "dataverse.throttled"),
        ({"kind": "drop_before"}, "dataverse.unreachable"),
        ({"kind": "status", "status": 200, "body": "html"}, "dataverse.not_json"),
        ({"kind": "status", "status": 200, "body": "malformed"}, "dataverse.not_json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_trouble_with_a_whole_batch_is_transient_for_each_record(org, rule, code):
    """Whatever the front door answers, no record is written, failed or lost: all are tried again later."""
    adapter = org.dataverse()
    await adapter.read("account", [new_id()], ["name"])
    await org.misbehave(times=1, method="POST", path="batch", **rule)
    results = await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"}) for _ in range(3)])
    assert {(type(r.error), r.error.code) for r in results} == {(Transient, code)}
    assert (await org.control.rows("account")) == []


async def test_reads_come_through_trouble_that_passes(org):
    """502, a broken connection and a short 429 cost repeats, not rows."""
    adapter = org.dataverse()
    (key,) = await org.control.seed("account", [{"name": "A"}])
    await adapter.read("account", [key], ["name"])
    for rule in ({"kind": "status", "status": 502, "body": "html"}, {"kind": "drop_before"}, {"kind": "drop_after"}):
        await org.misbehave(times=2, method="GET", **rule)
        assert (await adapter.read("account", [key], ["name"]))[key].values == {"name": "A"}


async def test_admin_mode_is_denied(org):
    """A closed environment stops the flow, for reads and for writes."""
    adapter = org.dataverse()
    await adapter.read("account", [new_id()], ["name"])
    await org.misbehave(kind="admin_mode")
    with pytest.raises(Denied):
        await adapter.read("account", [new_id()], ["name"])
    with pytest.raises(Denied):
        await one(adapter, CREATE, new_id(), {"name": "A"})


async def test_an_app_without_application_user_is_told_so(org):
    """A good token of a stranger is Denied `not_a_member`."""
    org.credential.client_id = new_id()
    with pytest.raises(Denied) as caught:
        await org.dataverse().identity()
    assert caught.value.code == "dataverse.not_a_member"


async def test_a_revoked_token_is_renewed_once_in_the_middle_of_work(org):
    """Reads and writes go on after a token was revoked, with one new token for all of them."""
    adapter = org.dataverse(page_size=2)
    keys = await org.control.seed("account", [{"name": f"N{n}"} for n in range(5)])
    first = await pages(adapter, ["name"])
    asked = len(org.credential.asked)
    await org.misbehave(kind="expire", times=1, method="GET", after=1)
    again = await pages(adapter, ["name"])
    assert {c.id for p in again for c in p.changes} == {c.id for p in first for c in p.changes} == set(keys)
    assert len(org.credential.asked) == asked + 1
    await org.misbehave(kind="expire", times=1)
    assert (await one(adapter, CREATE, new_id(), {"name": "A"})).error is None


async def test_read_is_bulk_and_absent_means_absent(org):
    """450 rows come in three requests; ids that don't exist are not there."""
    adapter = org.dataverse()
    keys = await org.control.seed("account", [{"name": f"N{n}"} for n in range(450)])
    await adapter.read("account", keys[:1], ["name"])
    await org.control.reset_requests()
    found = await adapter.read("account", [*keys, new_id()], ["name"])
    assert {key: row.values["name"] for key, row in found.items()} == {key: f"N{n}" for n, key in enumerate(keys)}
    assert (await org.control.requests())["total"] == 3


async def test_a_query_beyond_the_url_limit_still_works(org):
    """900 ids in one query travel inside a batch."""
    adapter = org.dataverse()
    adapter._reads._read_size = 900
    keys = await org.control.seed("account", [{"name": f"N{n}"} for n in range(900)])
    assert set(await adapter.read("account", keys, ["name"])) == set(keys)
    assert len(org.watch.of("POST", "$batch")) == 1


async def test_find_by_one_column_by_several_and_by_hostile_text(org):
    """Each key gets its own rows, without regard to case; quotes, percent signs and line ends are only text."""
    adapter = org.dataverse()
    a, b, c = await org.control.seed(
        "account",
        [
            {"name": "Müller", "address1_postalcode": "10115", "description": "x"},
            {"name": "MÜLLER", "address1_postalcode": "20095"},
            {"name": HOSTILE, "address1_postalcode": "x%"},
        ],
    )
    found = await adapter.find(
        "account", [{"name": "müller"}, {"name": HOSTILE}, {"name": "nobody"}, {"name": "M%"}], ["address1_postalcode"]
    )
    assert [sorted(hit.id for hit in hits) for hits in found] == [sorted([a, b]), [c], [], []]
    keys = [
        {"name": "Müller", "address1_postalcode": "20095"},
        {"name": HOSTILE, "address1_postalcode": "x%"},
        {"name": "Müller", "address1_postalcode": None},
    ]
    found = await adapter.find("account", keys, ["name"])
    assert [[hit.id for hit in hits] for hits in found] == [[b], [c], []]


async def test_the_change_feed_tells_everything_once_and_then_only_changes(org):
    """A first chain in pages, then creations, edits and deletions since, our own writes included, then nothing."""
    adapter = org.dataverse(page_size=2)
    keys = await org.control.seed("account", [{"name": f"N{n}"} for n in range(5)])
    first = await pages(adapter, ["name"])
    assert [change.id for page in first for change in page.changes if not change.deleted].sort() == keys.sort()
    assert [page.complete for page in first] == [False] * (len(first) - 1) + [True]
    position = first[-1].position
    await org.control.edit("account", keys[0], {"name": "edited"})
    await org.control.delete("account", keys[1])
    ours = new_id()
    written = await one(adapter, CREATE, ours, {"name": "ours"})
    later = await pages(adapter, ["name"], position)
    changes = {change.id: change for page in later for change in page.changes}
    assert {key: change.deleted for key, change in changes.items()} == {keys[0]: False, keys[1]: True, ours: False}
    assert changes[ours].stamp == written.row.stamp
    assert changes[keys[1]].stamp is None
    position = later[-1].position
    await org.control.reset_requests()
    (quiet,) = await pages(adapter, ["name"], position)
    assert (list(quiet.changes), quiet.complete) == ([], True)
    assert (await org.control.requests())["total"] == 1


async def test_a_first_chain_can_be_bounded_in_time(org):
    """`since` leaves older rows out although the server can't filter here."""
    old = datetime.now(UTC) - timedelta(days=30)
    await org.control.seed("account", [{"name": "old", "modifiedon": old.isoformat()}])
    (recent,) = await org.control.seed("account", [{"name": "new"}])
    found = await pages(org.dataverse(), ["name"], since=datetime.now(UTC) - timedelta(days=1))
    assert [change.id for page in found for change in page.changes] == [recent]


async def test_an_expired_delta_link_is_stale():
    """After the organisation's limit the link is worth nothing, and says so."""
    async with site(change_tracking_expiry_seconds=0.01) as org:
        adapter = org.dataverse()
        position = (await pages(adapter, ["name"]))[-1].position
        await org.control.skew_clock(60)
        with pytest.raises(Stale) as caught:
            await pages(adapter, ["name"], position)
        assert caught.value.code == "dataverse.delta_expired"


async def test_a_spoilt_delta_link_is_stale_and_a_table_without_tracking_denied(org):
    """A token that the server can't read means a new chain; a table without tracking stops its flow."""
    adapter = org.dataverse()
    position = (await pages(adapter, ["name"]))[-1].position
    with pytest.raises(Stale):
        await pages(adapter, ["name"], position.partition("deltatoken=")[0] + "deltatoken=rubbish")
    await org.control.switch(tracked_tables=["contact"])
    with pytest.raises(Denied) as caught:
        await pages(org.dataverse(), ["name"])
    assert caught.value.code == "dataverse.tracking_off"


async def test_describe_fits_what_the_server_enforces(org):
    """Types, lengths, choices and rights of columns; names that don't exist are listed."""
    adapter = org.dataverse()
    names = [
        "name",
        "description",
        "revenue",
        "industrycode",
        "statecode",
        "statuscode",
        "primarycontactid",
        "ownerid",
        "createdon",
        "nope",
    ]
    entity = await adapter.describe("account", names, ["industrycode", "statecode", "statuscode"])
    assert {name: column.type for name, column in entity.columns.items()} == {
        "name": ColumnType.TEXT,
        "description": ColumnType.TEXT,
        "revenue": ColumnType.DECIMAL,
        "industrycode": ColumnType.CHOICE,
        "statecode": ColumnType.CHOICE,
        "statuscode": ColumnType.CHOICE,
        "primarycontactid": ColumnType.LOOKUP,
        "ownerid": ColumnType.LOOKUP,
        "createdon": ColumnType.DATETIME,
    }
    assert entity.missing == ("nope",)
    assert entity.columns["name"].max_length == 160
    assert entity.columns["industrycode"].options["1"] == "Accounting"
    assert entity.columns["statecode"].options == {"0": "Active", "1": "Inactive"}
    assert set(entity.columns["statuscode"].options) == {"1", "2"}
    assert entity.columns["primarycontactid"].targets == ("contact",)
    assert (entity.columns["statecode"].creatable, entity.columns["createdon"].updatable) == (False, False)
    with pytest.raises(Rejected) as caught:
        await adapter.describe("nothing", ["name"], [])
    assert caught.value.code == "dataverse.unknown_entity"


async def test_contacts_with_dates_and_a_company_of_either_kind(org):
    """DateOnly both ways; `parentcustomerid` finds the kind of its target itself, its two split names read as one or the other."""
    adapter = org.dataverse()
    (account,) = await org.control.seed("account", [{"name": "A"}])
    (boss,) = await org.control.seed("contact", [{"lastname": "Boss"}])
    keys = [new_id() for _ in range(3)]
    results = await adapter.write(
        "contact",
        [
            Write(CREATE, keys[0], {"lastname": "X", "birthdate": date(1980, 2, 29), "parentcustomerid": account}),
            Write(CREATE, keys[1], {"lastname": "Y", "parentcustomerid": boss}),
            Write(CREATE, keys[2], {"lastname": "Z", "parentcustomerid_contact": boss, "parentcustomerid_account": None}),
        ],
    )
    assert [r.error for r in results] == [None] * 3
    split = ["birthdate", "parentcustomerid", "parentcustomerid_account", "parentcustomerid_contact"]
    found = await adapter.read("contact", keys, split)
    assert [tuple(found[key].values.values()) for key in keys] == [
        (date(1980, 2, 29), account, account, None),
        (None, boss, None, boss),
        (None, boss, None, boss),
    ]
    result = (await adapter.write("contact", [Write(UPDATE, keys[0], {"parentcustomerid": None}, found[keys[0]])]))[0]
    assert result.row.values["parentcustomerid"] is None


async def test_a_thousand_updates_stay_within_the_request_budget(org):
    """1,000 changed records: read, write and re-read of the feed in at most 40 requests (design.md 10)."""
    adapter = org.dataverse()
    keys = await org.control.seed("account", [{"name": f"N{n}"} for n in range(1000)])
    position = (await pages(adapter, ["name"]))[-1].position
    rows = await adapter.read("account", keys, ["name"])
    await org.control.reset_requests()
    for start in range(0, 1000, 100):
        chunk = keys[start : start + 100]
        rows = await adapter.read("account", chunk, ["name"])
        results = await adapter.write("account", [Write(UPDATE, key, {"name": f"M{key[:8]}"}, rows[key]) for key in chunk])
        assert all(isinstance(r.row, Row) and r.error is None for r in results)
    await pages(adapter, ["name"], position)
    assert (await org.control.requests())["total"] <= 40


async def test_keeping_the_affinity_cookie():
    """The server pins clients by a cookie; this client sends none back, so that its requests spread over the web servers."""
    async with site(web_servers=3) as org:
        adapter = org.dataverse()
        await adapter.identity()
        token = (await org.credential.get_token("x")).token
        async with httpx.AsyncClient(trust_env=False) as other:
            await other.get(f"{org.url}/api/data/v9.2/WhoAmI", headers={"Authorization": f"Bearer {token}"})
            assert len(other.cookies.jar) > 0
        assert len(adapter._web._client.cookies.jar) == 0


async def test_users_are_those_with_an_address(org):
    """Enabled users by e-mail, ids as owner columns hold them."""
    users = await org.dataverse().users()
    assert users
    assert all("@" in address and address == address.lower() for address in users.values())


async def test_a_deadlock_in_one_part_is_transient_and_the_others_go_on(org):
    """SQL error 1205 on one record is tried again later; its neighbours are written."""
    adapter, keys = org.dataverse(), [new_id() for _ in range(3)]
    await adapter.read("account", keys, ["name"])
    await org.misbehave(kind="part_status", method="POST", path="batch", status=500, body="deadlock", position=1)
    results = await adapter.write("account", [Write(CREATE, key, {"name": "A"}) for key in keys])
    assert [r.error and (type(r.error), r.error.code) for r in results] == [None, (Transient, "dataverse.unavailable"), None]


async def test_throttling_of_one_part_is_transient_and_pauses_the_account(org):
    """A 429 inside the batch names its wait, for the record and for the whole account."""
    adapter, keys = org.dataverse(), [new_id() for _ in range(2)]
    await adapter.read("account", keys, ["name"])
    await org.misbehave(kind="part_status", method="POST", path="batch", status=429, body="time", retry_after=30, position=0)
    results = await adapter.write("account", [Write(CREATE, key, {"name": "A"}) for key in keys])
    assert (results[0].error.code, results[0].error.retry_after) == ("dataverse.throttled", 30.0)
    assert results[1].error is None
    with pytest.raises(Transient) as caught:
        await adapter.read("account", keys, ["name"])
    assert 25 < caught.value.retry_after <= 30


async def test_a_users_edit_in_the_middle_of_our_batch_survives(org):
    """A row edited between two operations of one batch is Stale; the edit stays."""
    adapter, keys = org.dataverse(), [new_id() for _ in range(3)]
    made = await adapter.write("account", [Write(CREATE, key, {"name": "A"}) for key in keys])
    edit = {"entity": "account", "id": keys[2], "values": {"name": "user"}}
    await org.misbehave(kind="user_edit_in_batch", method="POST", path="batch", position=1, **edit)
    results = await adapter.write("account", [Write(UPDATE, r.id, {"name": "B"}, r.row) for r in made])
    assert [r.error and r.error.code for r in results] == [None, None, "dataverse.changed_meanwhile"]
    assert (await org.control.row("account", keys[2]))["name"] == "user"


async def test_an_error_after_the_work_was_done_is_transient_and_the_record_is_found(org):
    """A batch that answers 500 may have run: nothing is called failed or written, and the next read tells."""
    adapter, key = org.dataverse(), new_id()
    await adapter.read("account", [key], ["name"])
    await org.misbehave(kind="insert_then_fail", times=1, method="POST", path="batch")
    result = await one(adapter, CREATE, key, {"name": "A"})
    assert (type(result.error), result.error.code) == (Transient, "dataverse.unavailable")
    assert set(await adapter.read("account", [key], ["name"])) == {key}


async def test_a_hundred_records_of_random_text_survive_batch_read_and_search(org):
    """Any characters that a customer may type come back as typed, and each record is found by its text."""
    dice = random.Random(7)
    letters = "aB'\"\\<>&%#/+?;:=,()[]{}$@!*|~^`_-. äßñ漢字😀\u202e\u00a0\t\n\r-"
    texts = [f"{n}:" + "".join(dice.choice(letters) for _ in range(40)) + "." for n in range(100)]
    adapter, keys = org.dataverse(), [new_id() for _ in texts]
    pairs = list(zip(keys, texts, strict=True))
    results = await adapter.write("account", [Write(CREATE, key, {"name": text, "description": text * 3}) for key, text in pairs])
    assert [r.error for r in results] == [None] * 100
    read = await adapter.read("account", keys, ["name", "description"])
    as_read = {key: text.replace("\r\n", "\n").replace("\r", "\n") for key, text in pairs}
    assert {key: row.values["name"] for key, row in read.items()} == as_read
    found = await adapter.find("account", [{"name": text} for text in texts], [])
    assert [[hit.id for hit in hits] for hits in found] == [[key] for key in keys]
