"""Creatio.md 9, "What clients get wrong", lines 1 to 7, against the adapter over HTTP; a test carries the number of its line.

Lines 8 to 14 stand in the file beside this one. Not here yet, because nothing writes such objects: header totals sent before lines (10),
and money of orders and invoices (7); they come with sales and service documents. Exact decimals are tested on the money of accounts.
"""

import asyncio
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from shared.core.errors import Denied, Rejected, TandemError, Transient
from shared.core.records import RangeBy, Row, Value, Write, WriteKind
from shared.systems.creatio import Creatio
from tests.contract.creatio_site import Doors, Site, walk
from tests.contract.creatio_stand_in import CUSTOMER, EMPTY

COLUMNS = ("Name", "Code", "TypeId", "UsrEmployees", "UsrCreditLimit", "UsrActive", "UsrLastCampaignOn")
LOGIN = "/ServiceModel/AuthService.svc/Login"
YEAR_ONE = "0001-01-01T00:00:00Z"
NF_AND_NC = pytest.mark.parametrize(("flavour", "prefix"), [("NF", "/0"), ("NC", "")])


def create(values: Mapping[str, Value], record_id: str = "") -> Write:
    """Return a create with a fresh id."""
    return Write(WriteKind.CREATE, record_id or str(uuid.uuid4()), values)


async def one(adapter: Creatio, record_id: str, *columns: str, entity: str = "Account") -> Row:
    """Read a record that must be there."""
    found = (await adapter.read(entity, [record_id], columns or COLUMNS))[record_id]
    assert isinstance(found, Row)
    return found


async def every_verb(site: Site, adapter: Creatio) -> None:
    """Let an adapter do everything that it can do once."""
    ids = await site.seed([{"Name": f"n{n}", "TypeId": CUSTOMER, "Code": str(n)} for n in range(40)])
    await adapter.describe("Account", COLUMNS, ("TypeId",))
    await adapter.users()
    await adapter.exist("Account", ids)
    page = (await walk(adapter))[-1]
    await walk(adapter, page.position)
    async for part in adapter.ranges("Account", RangeBy.MODIFIED, None, None, 15):
        await adapter.read_range("Account", part, COLUMNS, None, 10)
    await adapter.find("Account", [{"TypeId": CUSTOMER, "Code": "7"}, {"Name": "n1"}], COLUMNS)
    row = await one(adapter, ids[0])
    for write in (create({"Name": "x"}), Write(WriteKind.UPDATE, row.id, {"Code": "2"}, row), Write(WriteKind.DELETE, ids[1], {})):
        assert (await adapter.write("Account", [write]))[0].error is None


# --- 1: logging in ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [{"password": "another"}, {"login_refused": "code"}, {"login_refused": "403"}])
async def test_wrong_01_a_login_is_judged_by_its_code(site: Site, refusal: dict[str, str]) -> None:
    """HTTP 200 with Code 1 is a refusal, with 403 too: the flow stops, nothing is read, the reason is told and the password is not."""
    await site.settings(**refusal)
    adapter = site.creatio(auth="forms")
    for ask in (walk(adapter), adapter.read("Account", [str(uuid.uuid4())], ["Name"])):
        with pytest.raises(Denied) as caught:
            await ask
        assert caught.value.code == "creatio.login_failed"
        assert caught.value.said
        assert "integration-password" not in str(caught.value)
    assert site.operations() == []


@NF_AND_NC
async def test_wrong_01_a_login_goes_to_the_root_of_the_site(doors: Doors, flavour: str, prefix: str) -> None:
    """Whatever the prefix of the application is, the login is asked for above it, once."""
    async with doors.creatio(flavour=flavour) as site:
        await walk(site.creatio(auth="forms", app_prefix=prefix))
        assert [request.url.path for request in site.sent if "AuthService" in request.url.path] == [LOGIN]


# --- 2: the end of a session ------------------------------------------------------------------------------------------------


@NF_AND_NC
@pytest.mark.parametrize("face", ["301", "302"])
async def test_wrong_02_no_redirect_is_followed(doors: Doors, flavour: str, prefix: str, face: str) -> None:
    """The way to the login page is not gone: it means a new login, and the data come from the data's address."""
    async with doors.creatio(flavour=flavour, session_answer=face) as site:
        adapter = site.creatio(auth="forms", app_prefix=prefix)
        ids = await site.seed([{"Name": "a"}])
        await adapter.read("Account", ids, ["Name"])
        await site.chaos({"kind": "expire", "times": 1})
        assert set(await adapter.read("Account", ids, ["Name"])) == set(ids)
        assert {request.url.path for request in site.sent if "/Login/" in request.url.path} == set()


@pytest.mark.parametrize("auth", ["oauth", "forms"])
async def test_wrong_02_a_login_page_is_never_taken_for_data(doors: Doors, auth: str) -> None:
    """A site that shows its login page with 200 to everything has no records to tell of: each verb says so by code, none is empty."""
    async with doors.creatio(session_answer="200") as site:
        adapter = site.creatio(auth=auth, csdl_seconds=0)
        ids = await site.seed([{"Name": "a"}])
        await adapter.describe("Account", ["Name"], ())
        await site.chaos({"kind": "expire"})
        for ask in (
            lambda: walk(adapter),
            lambda: adapter.read("Account", ids, ["Name"]),
            lambda: adapter.find("Account", [{"Name": "a"}], ["Name"]),
            lambda: adapter.exist("Account", ids),
            lambda: adapter.describe("Contact", ["Name"], ()),
        ):
            with pytest.raises((Transient, Denied)) as caught:
                await ask()
            assert caught.value.code in ("creatio.session_expired", "creatio.login_failed")
        (result,) = await adapter.write("Account", [create({"Name": "b"})])
        assert result.error is not None


async def test_wrong_02_force_use_session_goes_with_every_call(site: Site) -> None:
    """Each call with cookies says ForceUseSession, whatever verb it belongs to: a stand-in that needs it lets all of them in."""
    await every_verb(site, site.creatio(auth="forms"))
    assert len(site.sent) > 10
    assert {request.headers.get("forceusesession") for request in site.sent} == {"true"}
    assert {request.headers.get("authorization") for request in site.sent} == {None}


@pytest.mark.parametrize("auth", ["oauth", "forms"])
async def test_wrong_02_a_burst_logs_in_again_once(doors: Doors, auth: str) -> None:
    """Thirty calls that meet the end of the session at once, each by another verb, are one new login."""
    async with doors.creatio(session_answer="302") as site:
        adapter = site.creatio(auth=auth)
        ids = await site.seed([{"Name": "a"}])
        await adapter.read("Account", ids, ["Name"])
        before = logins(site)
        await site.chaos({"kind": "expire", "times": 1})
        asks = [ask for _ in range(10) for ask in (adapter.read("Account", ids, ["Name"]), walk(adapter), adapter.exist("Account", ids))]
        await asyncio.gather(*asks)
        assert logins(site) == before + 1


def logins(site: Site) -> int:
    """Return how often adapters logged in or asked for a token."""
    return sum(request.url.path in (LOGIN, "/connect/token") for request in site.sent)


# --- 3: cookies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modern", [True, False])
async def test_wrong_03_every_cookie_comes_back(doors: Doors, modern: bool) -> None:
    """Known or not, at the login or later: each cookie that was set goes back as it stands, `|`, `/`, `.` and `=` included."""
    async with doors.creatio(modern_cookies=modern) as site:
        adapter = site.creatio(auth="forms")
        await walk(adapter)
        await walk(adapter)
        cookies = dict(pair.split("=", 1) for pair in site.sent[-1].headers["cookie"].split("; "))
        newer = {"UserType", "CsrfToken", "CRT_CSRF"} if modern else set()
        assert set(cookies) == {"BPMLOADER", ".ASPXAUTH", "BPMCSRF", "UserName", "BPMSESSIONID"} | newer
        assert cookies["UserName"] == "|".join(str(ord(letter)) for letter in "integration")
        assert re.fullmatch(r"\w+/\w+\.\w+==", cookies["BPMCSRF"])
        assert site.sent[-1].headers["bpmcsrf"] == cookies["BPMCSRF"]
        assert logins(site) == 1


async def test_wrong_03_the_token_is_that_of_the_present_session(site: Site) -> None:
    """After a new login the header holds the new token, and no cookie of the old session goes along."""
    adapter = site.creatio(auth="forms")
    await walk(adapter)
    old = site.sent[-1].headers
    await site.chaos({"kind": "expire", "times": 1})
    assert (await adapter.write("Account", [create({"Name": "a"})]))[0].error is None
    new = site.sent[-1].headers
    assert new["bpmcsrf"] != old["bpmcsrf"]
    assert new["bpmcsrf"] in new["cookie"]
    assert old["bpmcsrf"] not in new["cookie"]


async def test_wrong_03_a_token_that_changes_is_followed(doors: Doors) -> None:
    """A server that sets another BPMCSRF with each answer is given the last one each time: one login for many calls."""
    async with doors.creatio(rotate_csrf_every=1) as site:
        await every_verb(site, site.creatio(auth="forms"))
        assert logins(site) == 1
        tokens = [request.headers["bpmcsrf"] for request in site.sent if "bpmcsrf" in request.headers]
        assert len(set(tokens)) == len(tokens)


async def test_wrong_03_a_site_that_wants_a_newer_token_stops_the_flow(doors: Doors) -> None:
    """It is not known whether a header for CRT_CSRF will ever be demanded: such a site is Denied, with no login loop."""
    async with doors.creatio(crt_csrf_header=True) as site:
        with pytest.raises(Denied) as caught:
            await walk(site.creatio(auth="forms"))
        assert caught.value.code == "creatio.denied"
        assert logins(site) == 1


# --- 4: repeating writes ----------------------------------------------------------------------------------------------------

AMBIGUOUS: Mapping[str, tuple[dict[str, Any], bool]] = {
    "answer lost": ({"kind": "drop_after"}, True),
    "answer broken off": ({"kind": "short_body"}, True),
    "too slow": ({"kind": "late", "seconds": 1.5}, True),
    "connection lost": ({"kind": "drop_before"}, False),
    "bad gateway": ({"kind": "status", "status": 502, "body": "html"}, False),
    "unavailable": ({"kind": "status", "status": 503, "body": "html"}, False),
    "gateway timeout": ({"kind": "status", "status": 504, "body": "html"}, False),
    "crash": ({"kind": "status", "status": 500, "body": "webapi"}, False),
    "no JSON": ({"kind": "status", "status": 200, "body": "malformed"}, False),
    "handler fails": ({"kind": "insert_then_fail"}, True),
}


@pytest.mark.parametrize(("fault", "there"), AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_wrong_04_a_post_is_not_sent_again_after_an_ambiguous_failure(site: Site, fault: dict[str, Any], there: bool) -> None:
    """Whatever leaves it open whether a create has run: it was sent once, the record says so, and there is no second row."""
    adapter = site.creatio(timeout=1)
    await adapter.describe("Account", ["Name"], ())
    await site.chaos({**fault, "path": r"\$batch", "times": 1})
    write = create({"Name": "once"})
    (result,) = await adapter.write("Account", [write])
    assert isinstance(result.error, TandemError)
    assert result.error.record_id == write.id
    assert [operation.method for operation in site.operations() if operation.method == "POST"] == ["POST"]
    rows = (await site.control.get("/_control/rows", params={"entity": "Account"})).json()["rows"]
    assert [row["Id"] for row in rows] == ([write.id] if there else [])


async def test_wrong_04_an_id_of_our_own_makes_a_repeat_harmless(site: Site) -> None:
    """The create that was lost is sent once more by the engine, with the same id: it meets its own row, which comes with the refusal."""
    adapter = site.creatio()
    await adapter.describe("Account", ["Name"], ())
    await site.chaos({"kind": "drop_after", "path": r"\$batch", "times": 1})
    write = create({"Name": "once"})
    await adapter.write("Account", [write])
    for status in (500, 409):
        await site.settings(duplicate_status=status)
        (again,) = await adapter.write("Account", [write])
        assert isinstance(again.error, Rejected)
        assert (again.error.code, again.row.id if again.row else "") == ("creatio.duplicate", write.id)
    posts = [operation for operation in site.operations() if operation.method == "POST"]
    assert [post.body["Id"] for post in posts] == [write.id] * 3


@pytest.mark.parametrize("missing", [404, 204])
async def test_wrong_04_an_update_is_no_upsert(doors: Doors, missing: int) -> None:
    """An update of what is not there makes nothing, and is no success, even where the server says 204 to it."""
    async with doors.creatio(missing_id=missing) as site:
        adapter, record_id = site.creatio(), str(uuid.uuid4())
        (result,) = await adapter.write("Account", [Write(WriteKind.UPDATE, record_id, {"Name": "a"})])
        assert isinstance(result.error, Rejected)
        assert (result.error.code, result.row) == ("creatio.not_found", None)
        assert await site.row(record_id) is None
        (gone,) = await adapter.write("Account", [Write(WriteKind.DELETE, record_id, {})])
        assert (gone.error, gone.row) == (None, None)


# --- 5: filters -------------------------------------------------------------------------------------------------------------


async def test_wrong_05_filters_are_written_as_creatio_reads_them(site: Site) -> None:
    """A strict server finds a record by each type of column; no filter has a flat lookup, a quoted guid or date, an old literal or `in`."""
    moment = datetime(2026, 3, 29, 1, 30, 0, 250000, UTC)
    values: dict[str, Value] = {
        "Code": "O'Hara",
        "TypeId": CUSTOMER,
        "UsrEmployees": 7,
        "UsrCreditLimit": Decimal("10.50"),
        "UsrActive": False,
        "UsrLastCampaignOn": moment,
    }
    adapter = site.creatio()
    write = create({"Name": "a", **values})
    assert (await adapter.write("Account", [write, create({"Name": "decoy"})]))[0].error is None
    keys: list[dict[str, Value]] = [{name: value} for name, value in values.items()] + [{"Id": write.id, "Name": "a"}]
    for asked in (keys, *([key] for key in keys)):
        assert [[row.id for row in rows] for rows in await adapter.find("Account", asked, ["Name"])] == [[write.id]] * len(asked)
    (day,) = await site.seed([{"Name": "day", "UsrLastCampaignOn": "2026-01-31T00:00:00Z"}])
    assert [row.id for row in (await adapter.find("Account", [{"UsrLastCampaignOn": date(2026, 1, 31)}], ["Name"]))[0]] == [day]
    await every_verb(site, adapter)
    filters = [found[1] for operation in site.operations() if (found := re.search(r"\$filter=([^&]*)", operation.text))]
    assert len(filters) > 20
    quoted_guid, quoted_date = r"'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'", r"'\d{4}-\d\d-\d\d"
    for wrong in (r"\w+Id (eq|ne)", quoted_guid, quoted_date, r"\b(guid|datetime|datetimeoffset)'", r" in \("):
        assert [one for one in filters if re.search(wrong, one)] == [], wrong


# --- 6: nothing, as Creatio says it -----------------------------------------------------------------------------------------


async def test_wrong_06_what_stands_for_nothing_is_no_data(site: Site) -> None:
    """The empty guid, year 1, 0 and "" read as nothing; what was empty and is empty is no change that somebody else made."""
    (record_id,) = await site.seed([{"Name": "a"}])
    adapter = site.creatio()
    row = await one(adapter, record_id, "Code", "TypeId", "UsrEmployees", "UsrCreditLimit", "UsrLastCampaignOn")
    assert set(row.values.values()) == {None}
    (result,) = await adapter.write("Account", [Write(WriteKind.UPDATE, record_id, {"Name": "b"}, row)])
    assert (result.error, result.before) == (None, None)
    await site.edit(record_id, {"Code": "", "UsrEmployees": 0, "TypeId": None})
    assert (await one(adapter, record_id, *row.values)).values == row.values


async def test_wrong_06_nothing_is_written_as_nothing(site: Site) -> None:
    """What the server sends for nothing never goes out as a value: null empties lookups and times; the row is empty afterwards."""
    adapter = site.creatio()
    values: dict[str, Value] = {"TypeId": CUSTOMER, "UsrEmployees": 5, "UsrLastCampaignOn": datetime(2026, 1, 1, tzinfo=UTC), "Code": "1"}
    (made,) = await adapter.write("Account", [create({"Name": "a", **values})])
    assert made.row is not None
    (emptied,) = await adapter.write("Account", [Write(WriteKind.UPDATE, made.id, dict.fromkeys(values), made.row)])
    assert emptied.error is None
    assert emptied.row is not None
    assert {name: emptied.row.values[name] for name in values} == dict.fromkeys(values)
    stored = await site.row(made.id)
    assert stored is not None
    assert (stored["TypeId"], stored["UsrLastCampaignOn"]) == (None, None)
    bodies = [operation.body for operation in site.operations() if operation.body]
    assert not any(value in (EMPTY, YEAR_ONE) for body in bodies for value in body.values())


async def test_wrong_06_a_site_that_takes_no_null_refuses_the_record_by_column(doors: Doors) -> None:
    """It is not known whether every site takes null: one that does not is told as this record's refusal, and the others go on."""
    async with doors.creatio(null_values="refuse") as site:
        adapter = site.creatio()
        refused, done = await adapter.write("Account", [create({"Name": "a", "TypeId": None}), create({"Name": "b"})])
        assert isinstance(refused.error, Rejected)
        assert refused.error.code == "creatio.bad_request"
        assert done.error is None


# --- 7: money ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0.1", "0.07", "1234567890123.45", "-99999999.99", "0.01", "100", "33.33"])
async def test_wrong_07_money_is_no_float(site: Site, text: str) -> None:
    """Each digit arrives and comes back: what goes out are plain digits, what is read is a Decimal."""
    adapter = site.creatio()
    (made,) = await adapter.write("Account", [create({"Name": "a", "UsrCreditLimit": Decimal(text)})])
    assert made.row is not None
    value = made.row.values["UsrCreditLimit"]
    assert (type(value), value) == (Decimal, Decimal(text))
    sent = next(operation.body["UsrCreditLimit"] for operation in site.operations() if operation.method == "POST")
    assert str(sent) == text
    assert [row.id for row in (await adapter.find("Account", [{"UsrCreditLimit": Decimal(text)}], ["Name"]))[0]] == [made.id]


@pytest.mark.parametrize("lenient", [False, True])
async def test_wrong_07_numbers_and_ieee754_are_not_mixed(doors: Doors, lenient: bool) -> None:
    """No request speaks of IEEE754Compatible, so that decimals are numbers both ways, on a strict server and on a lenient one."""
    async with doors.creatio(lenient_decimals=lenient) as site:
        await every_verb(site, site.creatio())
        named = [value for request in site.sent for value in request.headers.values()]
        named += [value for operation in site.operations() for value in operation.headers.values()]
        assert not any("ieee754" in value.lower() for value in named)
        (made,) = await site.creatio().write("Account", [create({"Name": "a", "UsrCreditLimit": Decimal("1.5")})])
        assert made.error is None


async def test_wrong_07_a_number_beyond_its_column_is_the_records_own(site: Site) -> None:
    """Money that the database can't hold is refused with a code; it is neither cut nor rounded to something else."""
    adapter = site.creatio()
    huge, fine = await adapter.write("Account", [create({"Name": "a", "UsrCreditLimit": Decimal(10) ** 20}), create({"Name": "b"})])
    assert isinstance(huge.error, Rejected)
    assert huge.error.code == "creatio.out_of_range"
    assert fine.error is None
