"""Prove that the adapter makes none of the mistakes of dataverse.md 13 when it reads, finds and describes."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from urllib.parse import unquote

import httpx
import pytest

from shared.core.errors import Denied, Rejected, TandemError, Transient
from shared.core.records import ColumnType, Row, Stamp, Write, WriteKind
from tests.contract.dataverse_fake import API, ATTRIBUTES, ID1, ID2, ID3, US, Fake, adapter_on, batch_lines, error, multipart, reply, row

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


async def test_reading_rows_gives_normal_values_and_who_changed_them():
    """Lookups by logical name, exact money, UTC times, bare dates, empty text as nothing, and our own changes marked."""
    shown = row(
        ID1,
        by="99999999-0000-4000-8000-000000000000",
        name="",
        revenue=0,
        birthdate="2026-10-02",
        ownerid="ignored",
        lastonholdtime="2026-09-28T22:57:53Z",
        _primarycontactid_value=ID2.upper(),
        creditonhold=False,
        industrycode=None,
    )
    answer = reply({"value": [shown]})
    answer = httpx.Response(200, text=answer.text.replace('"revenue": 0', '"revenue": 12345678901234567.8900'), headers=answer.headers)
    columns = ["name", "revenue", "birthdate", "lastonholdtime", "primarycontactid", "creditonhold", "industrycode"]
    found = await adapter_on(Fake([answer])).read("account", [ID1.upper(), ID2], columns)
    assert set(found) == {ID1}
    assert found[ID1].values == {
        "name": None,
        "revenue": Decimal("12345678901234567.89"),
        "birthdate": date(2026, 10, 2),
        "lastonholdtime": datetime(2026, 9, 28, 22, 57, 53, tzinfo=UTC),
        "primarycontactid": ID2,
        "creditonhold": False,
        "industrycode": None,
    }
    assert not found[ID1].changed_by_us


async def test_reads_are_bulk_queries_of_the_named_columns_only():
    """450 ids take three requests with `In`, each a plain GET below the URL limit with an explicit $select."""
    ids = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(450)]
    fake = Fake(lambda _: reply({"value": []}))
    assert await adapter_on(fake).read("account", ids, ["name"]) == {}
    urls = [unquote(str(request.url)) for request in fake.seen]
    assert len(urls) == 3
    start = f"{API}/accounts?$select=_modifiedby_value,accountid,modifiedon,name&$filter=Microsoft.Dynamics.CRM.In(PropertyName='accountid'"
    assert all(url.startswith(start) for url in urls)
    assert max(len(str(request.url)) for request in fake.seen) < 32_768


async def test_a_query_too_long_for_a_url_travels_in_a_batch():
    """Beyond the URL limit the GET becomes the only part of a batch, which may be repeated since it only reads."""
    ids = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(900)]
    fake = Fake([httpx.Response(502), multipart((200, {"value": [row(ids[5], name="A")]}))])
    found = await adapter_on(fake, read_size=900).read("account", ids, ["name"])
    assert list(found) == [ids[5]]
    assert fake.seen[1].url.path.endswith("/$batch")


async def test_a_link_too_long_for_a_get_travels_in_a_batch_as_it_came():
    """A nextLink that outgrew the limit is absolute and stays so: behind the API's path it would lead nowhere."""
    link = f"{API}/accounts?$skiptoken=" + "x" * 32_500
    first = reply({"value": [row(ID1, name="A")], "@odata.nextLink": link})
    fake = Fake([first, multipart((200, {"value": [row(ID2, name="B")]}))])
    assert list(await adapter_on(fake).read("account", [ID1, ID2], ["name"])) == [ID1, ID2]
    assert f"GET {link} HTTP/1.1" in batch_lines(fake.seen[1])


@pytest.mark.parametrize("spoil", [{"name": 5}, {"modifiedon": None}, {"@odata.etag": None}, {"modifiedon": "gestern"}, "name"])
async def test_a_row_that_cannot_be_understood_is_an_error_of_its_own(spoil):
    """A wrong type, a missing column, time or version fails that id and no other."""
    bad = row(ID1, name="A")
    if isinstance(spoil, dict):
        bad.update(spoil)
    else:
        del bad[spoil]
    found = await adapter_on(Fake([reply({"value": [bad, row(ID2, name="B")]})])).read("account", [ID1, ID2], ["name"])
    assert isinstance(found[ID1], Rejected)
    assert found[ID1].code == "dataverse.bad_row"
    assert found[ID2].values == {"name": "B"}


async def test_a_row_without_an_id_makes_nobody_look_deleted():
    """When a row hides its id, the ids that seem absent are errors: absence is evidence for a delete elsewhere."""
    nameless = row(ID1, name="A")
    del nameless["accountid"]
    found = await adapter_on(Fake([reply({"value": [nameless, row(ID2, name="B")]})])).read("account", [ID1, ID2], ["name"])
    assert isinstance(found[ID1], TandemError)
    assert found[ID2].values == {"name": "B"}


@pytest.mark.parametrize("answer", [reply([]), reply({"value": {}}), reply({"value": ["x"]}), reply({})])
async def test_an_answer_of_another_shape_is_no_empty_answer(answer):
    """A body without a list of rows never reads as "nothing found"."""
    with pytest.raises(Transient) as caught:
        await adapter_on(Fake([answer])).read("account", [ID1], ["name"])
    assert caught.value.code == "dataverse.bad_answer"


@pytest.mark.parametrize("content", ["<html>", "", '{"value": [{"name": "x'])
async def test_parsing_html_as_json(content):
    """HTML, nothing, and half a body under a JSON content type are Transient `not_json`."""
    answer = httpx.Response(200, text=content, headers={"content-type": "application/json"})
    with pytest.raises(Transient) as caught:
        await adapter_on(Fake([answer])).read("account", [ID1], ["name"])
    assert caught.value.code == "dataverse.not_json"


async def test_treating_a_403_in_admin_mode_as_a_data_error():
    """A refused read is Denied: the flow stops, no record is marked."""
    with pytest.raises(Denied):
        await adapter_on(Fake([httpx.Response(403, html="<html>maintenance</html>")])).read("account", [ID1], ["name"])


async def test_a_split_lookup_reads_only_what_leads_to_its_table():
    """`parentcustomerid_account` is filled for an account and empty for a contact; the annotation is asked for."""
    note = "@Microsoft.Dynamics.CRM.lookuplogicalname"
    rows = [
        row(ID1, **{"_parentcustomerid_value": ID3, f"_parentcustomerid_value{note}": "account"}),
        row(ID2, **{"_parentcustomerid_value": ID3, f"_parentcustomerid_value{note}": "contact"}),
    ]
    fake = Fake([reply({"value": rows})])
    found = await adapter_on(fake).read("account", [ID1, ID2], ["parentcustomerid_account"])
    assert [found[key].values["parentcustomerid_account"] for key in (ID1, ID2)] == [ID3, None]
    assert 'odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname"' in fake.seen[0].headers["prefer"]


async def test_one_column_keys_are_found_by_in_and_given_to_their_key():
    """Two keys are one request; case, accents and trailing blanks don't count; each key gets its own rows."""
    rows = [row(ID1, name="ACME "), row(ID2, name="Muller"), row(ID3, name="acme")]
    fake = Fake([reply({"value": rows})])
    found = await adapter_on(fake).find("account", [{"name": "Acme"}, {"name": "Müller"}], ["name"])
    assert [[hit.id for hit in hits] for hits in found] == [[ID1, ID3], [ID2]]
    assert """PropertyName='name',PropertyValues=["Acme","Müller"]""" in unquote(str(fake.seen[0].url))


async def test_hostile_text_cannot_leave_its_literal():
    """The worst name is searched as one value in both forms of a query; with control characters it is never put into an `In` list."""
    printable = "".join(letter for letter in HOSTILE if letter.isprintable())
    fake = Fake([reply({"value": [row(ID1, name=printable)]}), reply({"value": []}), reply({"value": []})])
    adapter = adapter_on(fake)
    found = await adapter.find("account", [{"name": printable}], ["name"])
    assert [hit.id for hit in found[0]] == [ID1]
    raw = fake.seen[0].url.raw_path.decode()
    assert json.loads(unquote(raw.split("PropertyValues=")[1].removesuffix(")"))) == [printable]
    await adapter.find("account", [{"name": HOSTILE}], ["name"])
    await adapter.find("account", [{"name": HOSTILE, "industrycode": 1}], ["name"])
    one, two = (request.url.raw_path.decode().split("$filter=")[1] for request in fake.seen[1:])
    literal = "'" + HOSTILE.replace("'", "''") + "'"
    assert unquote(one) == f"(name eq {literal})"
    assert unquote(two) == f"(name eq {literal} and industrycode eq 1)"
    assert not set(one + two) & set("&#+ ")


async def test_keys_of_several_columns_are_ors_of_ands_by_type():
    """Lookups by their wire name and bare guid, dates bare, numbers exact, nothing as null."""
    fake = Fake([reply({"value": []})])
    key = {"primarycontactid": ID2, "birthdate": date(2026, 1, 31), "revenue": Decimal("1.50"), "description": None}
    assert await adapter_on(fake).find("account", [key], ["name"]) == [[]]
    wanted = f"(_primarycontactid_value eq {ID2} and birthdate eq 2026-01-31 and revenue eq 1.50 and description eq null)"
    assert unquote(str(fake.seen[0].url)).endswith("$filter=" + wanted)


async def test_many_keys_are_many_short_queries_and_hits_are_bounded():
    """220 keys are three queries; a key that everything matches gets fifty rows and no endless paging."""
    fake = Fake(lambda _: reply({"value": []}))
    await adapter_on(fake).find("account", [{"name": f"N{n}"} for n in range(220)], ["name"])
    assert len(fake.seen) == 3
    rows = [row(f"{n:08d}-0000-4000-8000-000000000000", name="A") for n in range(60)]
    many = {"value": rows, "@odata.nextLink": f"{API}/accounts?x=1"}
    fake = Fake([reply(many)])
    found = await adapter_on(fake).find("account", [{"name": "a"}], ["name"])
    assert len(found[0]) == 50


async def test_describe_tells_types_lengths_choices_and_what_is_missing():
    """Live metadata in the core's terms; DateOnly by behaviour; names that don't exist, in their exact case, are `missing`."""
    fake = Fake([])
    names = [
        "name",
        "revenue",
        "birthdate",
        "lastonholdtime",
        "industrycode",
        "statecode",
        "parentcustomerid",
        "parentcustomerid_account",
        "tags",
        "entityimage",
        "Name",
        "nope",
        "bad name'",
    ]
    entity = await adapter_on(fake).describe("account", names, ["industrycode"])
    kinds = {name: column.type for name, column in entity.columns.items()}
    assert kinds == {
        "name": ColumnType.TEXT,
        "revenue": ColumnType.DECIMAL,
        "birthdate": ColumnType.DATE,
        "lastonholdtime": ColumnType.DATETIME,
        "industrycode": ColumnType.CHOICE,
        "statecode": ColumnType.CHOICE,
        "parentcustomerid": ColumnType.LOOKUP,
        "parentcustomerid_account": ColumnType.LOOKUP,
        "tags": ColumnType.TEXT,
    }
    assert entity.columns["name"].max_length == 160
    assert entity.columns["revenue"].scale == 2
    assert entity.columns["industrycode"].options == {"1": "Accounting", "2": "Agriculture"}
    assert entity.columns["parentcustomerid"].targets == ("account", "contact")
    assert entity.columns["parentcustomerid_account"].targets == ("account",)
    assert not entity.columns["statecode"].creatable
    assert entity.missing == ("entityimage", "Name", "nope", "bad name'")


async def test_metadata_is_kept_and_asked_again_when_the_server_knows_better():
    """A second read asks no metadata; a column that has gone is noticed, asked for afresh, and left out."""
    unknown = error("0x0", "Could not find a property named 'description' on type 'Microsoft.Dynamics.CRM.account'.")
    fake = Fake([reply({"value": []}), reply({"value": []}), unknown, reply({"value": [row(ID1, name="A")]})])
    adapter = adapter_on(fake)
    await adapter.read("account", [ID1], ["name", "description"])
    asked = len(fake.metadata)
    await adapter.read("account", [ID1], ["name", "description"])
    assert len(fake.metadata) == asked
    fake.attributes = [a for a in ATTRIBUTES if a["LogicalName"] != "description"]
    found = await adapter.read("account", [ID1], ["name", "description"])
    assert found[ID1].values == {"name": "A"}
    assert len(fake.metadata) > asked
    assert (await adapter.describe("account", ["name", "description"], [])).missing == ("description",)


async def test_a_column_that_stays_unknown_is_an_error_and_no_endless_loop():
    """When the metadata still shows what the server refuses, the error names column and table."""
    unknown = error("0x0", "Could not find a property named 'name' on type 'Microsoft.Dynamics.CRM.account'.")
    with pytest.raises(Rejected) as caught:
        await adapter_on(Fake([unknown, unknown])).read("account", [ID1], ["name"])
    assert (caught.value.code, caught.value.field, caught.value.entity) == ("dataverse.unknown_column", "name", "account")


async def test_a_missing_column_is_looked_for_again_after_some_minutes():
    """Absence is remembered for five minutes, not for the whole life of the metadata."""
    now = [0.0]
    fake = Fake([], attributes=[a for a in ATTRIBUTES if a["LogicalName"] != "name"])
    adapter = adapter_on(fake, monotonic=lambda: now[0])
    assert (await adapter.describe("account", ["name"], [])).missing == ("name",)
    fake.attributes = ATTRIBUTES
    assert (await adapter.describe("account", ["name"], [])).missing == ("name",)
    now[0] = 301
    assert (await adapter.describe("account", ["name"], [])).missing == ()


@pytest.mark.parametrize("entity", ["nothing", "bad/name", "Account"])
async def test_an_unknown_table_is_named(entity):
    """A table that does not exist, or can't, is Rejected `unknown_entity`."""
    with pytest.raises(Rejected) as caught:
        await adapter_on(Fake([])).describe(entity, ["name"], [])
    assert (caught.value.code, caught.value.entity) == ("dataverse.unknown_entity", entity)


async def test_columns_that_do_not_exist_are_left_out_of_reads_and_searches():
    """One unknown column never stops the others (law 13); a key that names one finds nothing."""
    fake = Fake([reply({"value": [row(ID1, name="A")]}), reply({"value": [row(ID1, name="A")]})])
    adapter = adapter_on(fake)
    assert (await adapter.read("account", [ID1], ["name", "gone"]))[ID1].values == {"name": "A"}
    found = await adapter.find("account", [{"gone": "x"}, {"name": "a"}], ["name", "gone"])
    assert [[hit.id for hit in hits] for hits in found] == [[], [ID1]]
    assert "gone" not in "".join(str(request.url) for request in fake.seen)


async def test_a_candidate_that_cannot_be_read_does_not_look_like_none():
    """A hit with a value of another type makes the search Transient, so that no double is created."""
    with pytest.raises(Transient):
        await adapter_on(Fake([reply({"value": [row(ID1, name=5)]})])).find("account", [{"name": "A"}], ["name"])


async def test_users_are_all_pages_with_an_address_in_lower_case():
    """Users without e-mail are left out, pages are followed, and the answer is kept for five minutes."""

    def user(key, address):
        return {"@odata.etag": 'W/"1"', "systemuserid": key, "internalemailaddress": address}

    link = f"{API}/systemusers?$skiptoken=2"
    first = {"value": [user(ID1.upper(), "Ann@X.example "), user(ID2, None)], "@odata.nextLink": link}
    fake = Fake([reply(first), reply({"value": [user(ID3, "b@x")]})])
    now = [0.0]
    adapter = adapter_on(fake, monotonic=lambda: now[0])
    assert await adapter.users() == {ID1: "ann@x.example", ID3: "b@x"}
    now[0] = 299
    assert await adapter.users() == {ID1: "ann@x.example", ID3: "b@x"}
    assert len(fake.seen) == 2
    fake.script = [reply({"value": []})]
    now[0] = 301
    assert await adapter.users() == {}
    assert "isdisabled%20eq%20false" in str(fake.seen[0].url)


async def test_who_we_are_is_asked_once():
    """The identity pins organisation and user; it costs one request a process."""
    fake = Fake([])
    adapter = adapter_on(fake)
    first, second = await adapter.identity(), await adapter.identity()
    assert (first.user_id, first.organization_id, first) == (US, ID1, second)
    assert fake.metadata == ["WhoAmI"]


async def test_a_key_whose_value_cannot_be_in_its_column_finds_nothing():
    """Text for a number, or a word for an id, equals nothing there; the other key is found."""
    fake = Fake([reply({"value": [row(ID1, numberofemployees=7, _primarycontactid_value=None)]})])
    keys = [{"numberofemployees": "seven"}, {"numberofemployees": 7}, {"primarycontactid": "nobody"}, {}]
    found = await adapter_on(fake).find("account", keys, [])
    assert [[hit.id for hit in hits] for hits in found] == [[], [ID1], [], []]


async def test_what_is_no_guid_is_no_id():
    """Reading by something that can't be an id asks nothing and finds nothing."""
    fake = Fake([])
    assert await adapter_on(fake).read("account", ["x'),PropertyValues=", ""], ["name"]) == {}
    assert fake.seen == []
