"""Lines 8 to 11 of dataverse.md 13, "What clients get wrong": dates, money, states, keys, metadata and slow answers, over HTTP."""

import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from shared.core.errors import Denied, Transient
from shared.core.records import Write, WriteKind
from tests.contract.dataverse_site import Site, everything_read, new_id, one, over_the_wire, pages, sent, site

CREATE, UPDATE = WriteKind.CREATE, WriteKind.UPDATE
ACCOUNT = "EntityDefinitions(LogicalName='account')"


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


# --- 8: dates and money --------------------------------------------------------------------------------------------------------------


async def test_wrong_08_a_date_is_no_timestamp(org):
    """A column of dates gets a bare date, whether the plan holds a date or a time, and gives one back."""
    adapter = org.dataverse()
    moment = datetime(1990, 5, 17, 23, 30, tzinfo=UTC)
    writes = [Write(CREATE, new_id(), {"lastname": "X", "birthdate": value}) for value in (date(1990, 5, 17), moment)]
    results = await adapter.write("contact", writes)
    assert [result.row.values["birthdate"] for result in results] == [date(1990, 5, 17)] * 2
    assert [body["birthdate"] for _, _, body in sent(org)] == ["1990-05-17"] * 2


async def test_wrong_08_the_format_date_only_is_no_date(org):
    """A column shown without time but of behaviour UserLocal travels as a time: midnight UTC, not a bare date."""
    await org.control.switch(customization_delay_seconds=0)
    column = {
        "@odata.type": "Microsoft.Dynamics.CRM.DateTimeAttributeMetadata",
        "SchemaName": "tandem_Renewal",
        "Format": "DateOnly",
        "DateTimeBehavior": {"Value": "UserLocal"},
    }
    assert (await over_the_wire(org, "POST", f"{ACCOUNT}/Attributes", column)).status_code == 204
    adapter = org.dataverse()
    result = await one(adapter, CREATE, new_id(), {"name": "A", "tandem_renewal": date(2026, 10, 2)})
    assert result.row.values["tandem_renewal"] == datetime(2026, 10, 2, tzinfo=UTC)
    assert sent(org)[0][2]["tandem_renewal"] == "2026-10-02T00:00:00Z"


async def test_wrong_08_times_carry_their_zone(org):
    """A time of another zone is sent in UTC with Z, never as a local time that the server would take for UTC."""
    adapter = org.dataverse()
    moment = datetime(2026, 7, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    result = await one(adapter, CREATE, new_id(), {"name": "A", "lastonholdtime": moment})
    assert result.row.values["lastonholdtime"] == moment
    assert sent(org)[0][2]["lastonholdtime"] == "2026-06-30T23:30:00Z"


async def test_wrong_08_money_never_passes_through_a_float(org):
    """Fourteen digits and two places survive the way there and back, in single writes and in bulk."""
    adapter = org.dataverse()
    amount = Decimal("99999999999999.57")
    assert Decimal(float(amount)).quantize(Decimal("0.0001")) != amount
    result = await one(adapter, CREATE, new_id(), {"name": "A", "revenue": amount})
    assert result.row.values["revenue"] == amount
    writes = [Write(CREATE, new_id(), {"name": "B", "revenue": amount}) for _ in range(30)]
    assert {result.row.values["revenue"] for result in await adapter.write("account", writes, bulk=True)} == {amount}
    assert b"99999999999999.57" in org.watch.of("POST", "$batch")[0].body


async def test_wrong_08_a_row_keeps_the_currency_of_its_money(org):
    """The currency is a lookup like any other: written with the amount, read with it, and the base amount follows on the server."""
    euro = next(row["transactioncurrencyid"] for row in await org.control.rows("transactioncurrency") if row["isocurrencycode"] == "EUR")
    adapter, key = org.dataverse(), new_id()
    values = {"name": "A", "revenue": Decimal(92), "transactioncurrencyid": euro}
    result = await one(adapter, CREATE, key, values)
    assert result.row.values == values
    changed = await one(adapter, UPDATE, key, {"revenue": Decimal(46)}, result.row)
    assert changed.row.values["transactioncurrencyid"] == euro
    assert (await adapter.read("account", [key], ["revenue_base"]))[key].values == {"revenue_base": Decimal(50)}


# --- 9: states -------------------------------------------------------------------------------------------------------------------------


async def test_wrong_09_a_state_is_not_set_on_create(org):
    """The POST never names the state; an inactive row is made active and patched in the same change set."""
    adapter = org.dataverse()
    values = [{"name": "A", "statecode": 0, "statuscode": 1}, {"name": "B", "statecode": 1, "statuscode": 2}]
    results = await adapter.write("account", [Write(CREATE, new_id(), value) for value in values])
    assert [result.row.values["statecode"] for result in results] == [0, 1]
    assert [(line.split(" ")[0], "statecode" in body) for line, _, body in sent(org)] == [
        ("POST", False),
        ("POST", False),
        ("PATCH", True),
    ]


# --- 10: keys and metadata --------------------------------------------------------------------------------------------------------------


async def test_wrong_10_no_key_has_to_be_active(org):
    """While a key's index is being built, and after it failed, rows are found by their columns all the same."""
    await org.control.seed("account", [{"name": "A", "fax": "1"}, {"name": "B", "fax": "1"}, {"name": "C", "fax": "2"}])
    await org.control.switch(customization_delay_seconds=600)
    for columns in (["fax"], ["name"]):
        body = {"SchemaName": f"tandem_{columns[0]}key", "KeyAttributes": columns}
        assert (await over_the_wire(org, "POST", f"{ACCOUNT}/Keys", body)).status_code == 204
    adapter = org.dataverse()
    hits = await adapter.find("account", [{"fax": "1"}, {"fax": "2"}, {"name": "C"}], ["name"])
    assert [len(found) for found in hits] == [2, 1, 1]


@pytest.mark.parametrize("value", ["a/b", "a&b", "a+b", "100%", "a<b>", "a:b?c", "a\\b*", "O'Neill #1"])
async def test_wrong_10_values_that_break_addresses_are_found(org, value):
    """A value stands in a filter, percent-encoded, and never between the parentheses of an address."""
    await org.control.seed("account", [{"name": value, "accountnumber": value[:20]}, {"name": "other"}])
    adapter = org.dataverse()
    by_one, by_two = [{"name": value}], [{"name": value, "accountnumber": value[:20]}]
    for keys in (by_one, by_two):
        (found,) = await adapter.find("account", keys, ["name"])
        assert [row.values["name"] for row in found] == [value]
    assert not [asked.target for asked in org.watch.seen if re.search(r"accounts\([^)]*'", asked.target)]


async def test_wrong_10_the_metadata_cache_does_not_hide_a_new_column(org):
    """Definitions are read past the cache: a column made a moment ago can be described and written at once."""
    await org.control.switch(metadata_lag_seconds=30, customization_delay_seconds=0)
    column = {"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": "tandem_Extra", "MaxLength": 10}
    await over_the_wire(org, "POST", f"{ACCOUNT}/Attributes", column)
    adapter = org.dataverse()
    assert (await adapter.describe("account", ["tandem_extra"], [])).missing == ()
    assert (await one(adapter, CREATE, new_id(), {"name": "A", "tandem_extra": "x"})).row.values["tandem_extra"] == "x"
    assert {asked.headers.get("consistency") for asked in org.watch.of("GET", "EntityDefinitions")} == {"Strong"}


async def test_wrong_10_a_column_that_the_data_layer_does_not_see_yet(org):
    """The definitions know a new column before the data does: until then it is `unknown_column`, and right after that it works."""
    await org.control.switch(customization_delay_seconds=600)
    column = {"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": "tandem_Extra", "MaxLength": 10}
    await over_the_wire(org, "POST", f"{ACCOUNT}/Attributes", column)
    adapter = org.dataverse()
    result = await one(adapter, CREATE, new_id(), {"name": "A", "tandem_extra": "x"})
    assert (result.error.code, result.error.field) == ("dataverse.unknown_column", "tandem_extra")
    assert (await over_the_wire(org, "POST", "PublishAllXml", {})).status_code == 204
    assert (await one(adapter, CREATE, new_id(), {"name": "A", "tandem_extra": "x"})).error is None


async def test_wrong_10_metadata_is_never_patched(org):
    """The adapter only reads definitions; nothing below EntityDefinitions is written."""
    await everything_read(org)
    adapter = org.dataverse()
    await adapter.describe("account", ["name", "industrycode"], ["industrycode"])
    await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"}) for _ in range(30)], bulk=True)
    assert {asked.method for asked in org.watch.seen if "EntityDefinitions" in asked.target} == {"GET"}


# --- 11: slow answers, pages, administration mode --------------------------------------------------------------------------------------


async def test_wrong_11_a_heavy_query_has_as_much_time_as_a_write(org):
    """Reads wait two minutes, not ten seconds; one that takes its time is waited for and asked once."""
    adapter = org.dataverse()
    assert adapter._web._client.timeout.read == 120
    (row_id,) = await org.control.seed("account", [{"name": "A"}])
    await adapter.read("account", [row_id], ["name"])
    await org.control.reset_requests()
    await org.misbehave(kind="delay", seconds=1.0, path="accounts")
    began = time.monotonic()
    assert len(await adapter.read("account", [row_id], ["name"])) == 1
    assert time.monotonic() - began >= 1.0
    assert (await org.control.requests())["by"]["GET accounts"] == 1


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"status": 200, "body": "html"}, "dataverse.not_json"),
        ({"status": 200, "body": "malformed"}, "dataverse.not_json"),
        ({"status": 502, "body": "html"}, "dataverse.unavailable"),
        ({"status": 503, "body": "html"}, "dataverse.unavailable"),
        ({"status": 504, "body": "empty"}, "dataverse.unavailable"),
    ],
)
async def test_wrong_11_a_page_is_not_read_as_json(org, rule, code):
    """Whatever the front door sends instead of the system, reads and writes are Transient and nothing of the page is quoted."""
    adapter = org.dataverse()
    await one(adapter, CREATE, new_id(), {"name": "warm"})
    await org.misbehave(kind="status", **rule)
    with pytest.raises(Transient) as caught:
        await adapter.read("account", [new_id()], ["name"])
    (result,) = await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"})])
    assert {caught.value.code, result.error.code} == {code}
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("answer", ["privilege", "disabled", "bare"])
async def test_wrong_11_administration_mode_is_no_fault_of_a_record(org, answer):
    """A closed environment is Denied, by reads, writes and bulk writes: the flow stops, and no record is marked as refused."""
    await org.control.switch(admin_mode_answer=answer)
    adapter = org.dataverse()
    await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"}) for _ in range(30)], bulk=True)
    await org.misbehave(kind="admin_mode")
    with pytest.raises(Denied):
        await adapter.read("account", [new_id()], ["name"])
    for bulk in (False, True):
        with pytest.raises(Denied):
            await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"}) for _ in range(30)], bulk=bulk)
    with pytest.raises(Denied):
        await pages(adapter, ["name"])
