"""What nobody could tell of the real Dataverse is a switch of the stand-in: each setting is shown, with the adapter where it feels it."""

import asyncio
from urllib.parse import quote, urlsplit

import httpx
import pytest

from sandbox.dataverse.server import create_app
from sandbox.dataverse.switches import Settings
from shared.core.errors import Denied, Rejected, Stale
from shared.core.records import RangeBy, Write, WriteKind
from shared.systems.dataverse import Dataverse
from shared.systems.dataverse_connection import same_environment
from shared.systems.dataverse_errors import request_error
from shared.systems.web import Web
from tests.contract.dataverse_site import SignedCredential, no_wait, one, pages, site
from tests.contract.dataverse_stand_in import API, KEY, ORIGIN, multipart, opened, part, token
from tests.contract.test_dataverse_stand_in_batch import parts_of

ACCOUNT = "EntityDefinitions(LogicalName='account')"
ALICIA = "alicia.thomber@contoso.example"
MISSING = "00000000-0000-0000-0000-000000000001"
API_HOST = "http://contoso.api.crm4.dynamics.test"
PLAIN_HOST = "http://contoso.crm4.dynamics.test"


@pytest.mark.parametrize("status", [400, 410])
async def test_the_status_of_an_expired_delta_link(status) -> None:
    """`expired_token_status`: the link is refused with either status, and the adapter starts a new chain on both."""
    async with site(expired_token_status=status, change_tracking_expiry_seconds=60) as org:
        adapter = org.dataverse()
        position = (await pages(adapter, ["name"]))[-1].position
        await org.control.skew_clock(3600)
        headers = {"Authorization": f"Bearer {token(org.url)}"}
        async with httpx.AsyncClient(headers=headers) as http:
            answer = await http.get(position)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, "0x80044352")
        with pytest.raises(Stale) as caught:
            await pages(adapter, ["name"], position)
        assert caught.value.code == "dataverse.delta_expired"


@pytest.mark.parametrize(("setting", "tracked"), [("carry", True), ("repeat", False)])
async def test_whether_next_links_of_a_tracked_read_carry_the_tracking(setting, tracked) -> None:
    """`tracked_next_links`: without `Prefer` on every page a chain may end without its delta link; the adapter repeats it."""
    async with opened(tracked_next_links=setting) as org:
        await org.seed(*({"name": f"A{at}"} for at in range(5)))
        body = await org.get("accounts?$select=name", prefer="odata.track-changes,odata.maxpagesize=2")
        while "@odata.nextLink" in body:
            body = await org.get(body["@odata.nextLink"], prefer="odata.maxpagesize=2")
        assert ("@odata.deltaLink" in body) == tracked
    async with site(tracked_next_links=setting) as org:
        await org.control.seed("account", [{"name": f"A{at}"} for at in range(25)])
        found = await pages(org.dataverse(page_size=10), ["name"])
        assert [len(page.changes) for page in found] == [10, 10, 5]
        await org.control.edit("account", found[0].changes[0].id, {"name": "B"})
        assert len((await pages(org.dataverse(), ["name"], found[-1].position))[0].changes) == 1


@pytest.mark.parametrize("limit", [65536, 32768])
async def test_the_longest_address_in_a_part_of_a_batch(limit) -> None:
    """`batch_url_limit`: an address just below the limit is taken, one just above is 414."""
    async with opened(batch_url_limit=limit) as org:
        for length, status in ((limit - 200, 200), (limit + 10, 414)):
            start = "accounts?$select=name&$filter="
            many = "%20or%20".join(["name%20eq%20%27" + "x" * 1000 + "%27"] * (length // 1000))[: length - len(start)]
            target = start + many.rpartition("%20or%20")[0] + "&tag="
            target += "x" * (length - len(target))
            assert parts_of(await org.batch(multipart(part("GET", target))))[0][0] == status


@pytest.mark.parametrize("unversioned", [[], ["account"]])
async def test_tables_without_row_versions(unversioned) -> None:
    """`unversioned_tables`: metadata tells it, `If-Match` with a version is 0x8006088D, no read is 304; a bad version is 0x80060883."""
    async with opened(unversioned_tables=unversioned) as org:
        row_id = await org.create(name="A")
        etag = (await org.get(f"accounts({row_id})"))["@odata.etag"]
        shown = await org.get(f"{ACCOUNT}?$select=IsOptimisticConcurrencyEnabled")
        assert shown["IsOptimisticConcurrencyEnabled"] == (not unversioned)
        read = await org.send("GET", f"accounts({row_id})", If_None_Match=etag)
        assert read.status_code == (200 if unversioned else 304)
        written = await org.send("PATCH", f"accounts({row_id})", {"name": "B"}, If_Match=etag)
        assert written.status_code == (400 if unversioned else 204)
        if unversioned:
            assert written.json()["error"]["code"] == "0x8006088D"
            assert (await org.send("PATCH", f"accounts({row_id})", {"name": "B"}, If_Match="*")).status_code == 204
        else:
            assert (await org.refused("PATCH", f"accounts({row_id})", {"name": "B"}, If_Match="nonsense"))[1] == "0x80060883"
    async with site(unversioned_tables=unversioned) as org:
        adapter = org.dataverse()
        made = await one(adapter, WriteKind.CREATE, MISSING, {"name": "A"})
        result = await one(adapter, WriteKind.UPDATE, MISSING, {"name": "B"}, made.row)
        assert isinstance(result.error, Rejected if unversioned else type(None))


async def test_duplicate_rules_are_felt_by_those_who_ask() -> None:
    """`duplicate_rules` with `MSCRM.SuppressDuplicateDetection: false`: 412 0x80040333; without the header, or without a rule, nothing."""
    asking = {"MSCRM.SuppressDuplicateDetection": "false"}
    for rules, status in (({}, 204), ({"account": ["name"]}, 412)):
        async with opened(duplicate_rules=rules) as org:
            await org.create(name="Contoso")
            assert (await org.send("POST", "accounts", {"name": "CONTOSO"}, **asking)).status_code == status
            other = await org.create(name="Contoso")
            answer = await org.send("PATCH", f"accounts({other})", {"fax": "1"}, **asking)
            assert answer.status_code == status
            if status == 412:
                assert answer.json()["error"]["code"] == "0x80040333"
                bulk = {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.account", "name": "contoso"}]}
                refused = await org.refused("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", bulk, **asking)
                assert refused[:2] == (412, "0x80040333")


@pytest.mark.parametrize(("body", "text"), [("empty", ""), ("json", '{"error"')])
async def test_the_body_of_a_401(body, text) -> None:
    """`unauthorized_body`: nothing, or the error as JSON; the challenge stands in the header, and the adapter logs in again on both."""
    async with opened(unauthorized_body=body) as org:
        answer = await org.send("GET", "WhoAmI", Authorization="Bearer x")
        assert (answer.status_code, answer.text[:8]) == (401, text)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    async with site(unauthorized_body=body) as org:
        adapter = org.dataverse()
        await adapter.identity()
        await org.misbehave(kind="expire", times=1)
        assert await adapter.users()
        assert len(org.credential.asked) == 2


@pytest.mark.parametrize(("setting", "code"), [("privilege", "0x80040220"), ("disabled", "0x8004A104"), ("bare", None)])
async def test_what_the_administration_mode_says(setting, code) -> None:
    """`admin_mode_answer`: a 403 with the message, the code of a disabled organisation, or a page; Denied for the adapter each time."""
    async with opened(admin_mode_answer=setting) as org:
        await org.chaos(kind="admin_mode")
        answer = await org.send("GET", "WhoAmI")
        assert answer.status_code == 403
        assert (answer.json()["error"]["code"] if code else answer.text[:6]) == (code or "<html>")
    async with site(admin_mode_answer=setting) as org:
        adapter = org.dataverse()
        await adapter.describe("account", ["name"], [])
        await org.misbehave(kind="admin_mode")
        with pytest.raises(Denied):
            await adapter.read("account", [MISSING], ["name"])
        for bulk in (False, True):
            with pytest.raises(Denied):
                await adapter.write("account", [Write(WriteKind.CREATE, MISSING, {"name": "A"})], bulk=bulk)


@pytest.mark.parametrize(("setting", "host"), [("asked", API_HOST), ("plain", PLAIN_HOST)])
async def test_both_hosts_of_an_environment(setting, host) -> None:
    """`link_host`: `.api.` and plain host serve one API with one token; links lead to either, and the adapter follows both."""
    app = create_app(token_key=KEY, settings=Settings(link_host=setting))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        await http.post(f"{ORIGIN}/_control/seed", json={"entity": "account", "rows": [{"name": f"A{at}"} for at in range(5)]})
        login = {"Authorization": f"Bearer {token(PLAIN_HOST)}", "Prefer": "odata.track-changes,odata.maxpagesize=2"}
        answer = await http.get(f"{API_HOST}/api/data/v9.2/accounts?$select=name", headers=login)
        link = answer.json()["@odata.nextLink"]
        assert urlsplit(link).netloc == urlsplit(host).netloc
        assert (await http.get(link, headers=login)).status_code == 200
        stranger = {"Authorization": f"Bearer {token('http://fabrikam.crm4.dynamics.test')}"}
        assert (await http.get(f"{API_HOST}/api/data/v9.2/WhoAmI", headers=stranger)).status_code == 401
    root = f"{API_HOST.replace('http', 'https')}/api/data/v9.2"
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app))
    checks = {"error": request_error, "allowed": same_environment(root)}
    adapter = Dataverse(Web("dataverse", root, client, _Signed(PLAIN_HOST.replace("http", "https")), sleep=no_wait, **checks), page_size=2)
    found = await pages(adapter, ["name"])
    assert [len(page.changes) for page in found] == [2, 2, 1]
    await adapter.close()


class _Signed:
    """A login with a token for one audience."""

    def __init__(self, audience: str) -> None:
        self.credential = SignedCredential(audience)

    async def headers(self):
        return {"Authorization": f"Bearer {(await self.credential.get_token('')).token}"}

    async def renew(self):
        """Renew nothing."""

    def ended(self, response):
        return response.status == 401


@pytest.mark.parametrize(("lag", "late"), [(0, False), (30, True)])
async def test_the_metadata_cache_lags(lag, late) -> None:
    """`metadata_lag_seconds`: a new column, a key and tracking show late in the definitions, at once with `Consistency: Strong`."""
    async with opened(metadata_lag_seconds=lag, customization_delay_seconds=0, tracked_tables=["contact"]) as org:
        column = {"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": "tandem_Extra", "MaxLength": 10}
        await org.send("POST", f"{ACCOUNT}/Attributes", column)
        await org.send("POST", f"{ACCOUNT}/Keys", {"SchemaName": "tandem_ExtraKey", "KeyAttributes": ["tandem_extra"]})
        whole = await org.get(ACCOUNT)
        await org.send("PUT", ACCOUNT, {**whole, "ChangeTrackingEnabled": True})
        for headers, hidden in (({}, late), ({"Consistency": "Strong"}, False)):
            names = await org.send("GET", f"{ACCOUNT}/Attributes?$select=LogicalName&$filter=LogicalName eq 'tandem_extra'", **headers)
            assert len(names.json()["value"]) == (0 if hidden else 1)
            keys = await org.send("GET", f"{ACCOUNT}/Keys", **headers)
            assert len(keys.json()["value"]) == (1 if hidden else 2)
            table = await org.send("GET", f"{ACCOUNT}?$select=ChangeTrackingEnabled", **headers)
            assert table.json()["ChangeTrackingEnabled"] == (not hidden)
        await org.control("clock", {"skew_seconds": 60})
        assert (await org.get(f"{ACCOUNT}?$select=ChangeTrackingEnabled"))["ChangeTrackingEnabled"] is True


@pytest.mark.parametrize("kept", [False, True])
async def test_fractions_of_seconds_that_are_kept_and_not_shown(kept) -> None:
    """`stored_fractions`: a time reads as whole seconds on both, and is rarely what was kept; key ranges hold every row all the same."""
    async with opened(stored_fractions=kept) as org:
        row_ids = [await org.create(name=f"A{at}") for at in range(20)]
        shown = [(await org.get(f"accounts({row_id})"))["createdon"] for row_id in row_ids]
        assert all(len(time) == len("2026-01-01T00:00:00Z") for time in shown)
        assert await org.names(f"createdon ge {shown[0]}") == sorted(f"A{at}" for at in range(20))
        equal = sum([len(await org.names(f"createdon eq {time}")) for time in sorted(set(shown))])
        assert (equal < 20) if kept else (equal == 20)
    async with site(stored_fractions=kept) as org:
        adapter = org.dataverse()
        writes = [Write(WriteKind.CREATE, f"{at:08}-0000-4000-8000-000000000000", {"name": "A"}) for at in range(1, 301)]
        for start in range(0, 300, 100):
            await adapter.write("account", writes[start : start + 100])
        for by in RangeBy:
            ids: list[str] = []
            async for key_range in adapter.ranges("account", by, None, None, 50):
                ids += (await adapter.read_range("account", key_range, ["name"], None, 1000)).rows
            assert sorted(ids) == [write.id for write in writes]


@pytest.mark.parametrize(("limit", "status"), [(10, 200), (9, 500)])
async def test_the_database_gives_up_on_large_bulk_messages(limit, status) -> None:
    """`bulk_timeout_rows`: beyond it the call is 500 0x80044151 and nothing is done."""
    async with opened(bulk_timeout_rows=limit) as org:
        rows = [{"@odata.type": "Microsoft.Dynamics.CRM.account", "name": f"A{at}"} for at in range(10)]
        answer = await org.send("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": rows})
        assert answer.status_code == status
        if status == 500:
            assert answer.json()["error"]["code"] == "0x80044151"
        assert len(await org.names("name ne null")) == (10 if status == 200 else 0)


@pytest.mark.parametrize("delay", [0, 600])
async def test_deletes_in_bulk_are_a_job(delay) -> None:
    """`bulk_delete_delay_seconds`: BulkDelete answers with the id of a job, and the rows go when it is done, with tombstones."""
    async with opened(bulk_delete_delay_seconds=delay) as org:
        ids = await org.seed({"name": "A"}, {"name": "B"}, {"name": "C"})
        link = (await org.get("accounts?$select=name", prefer="odata.track-changes"))["@odata.deltaLink"]
        condition = {"AttributeName": "accountid", "Operator": "In", "Values": [{"Value": key, "Type": "System.Guid"} for key in ids[:2]]}
        query = {"EntityName": "account", "Criteria": {"FilterOperator": "And", "Conditions": [condition]}}
        answer = await org.send("POST", "BulkDelete", {"JobName": "clean up", "QuerySet": [query]})
        assert answer.status_code == 200
        job = await org.get(f"asyncoperations({answer.json()['JobId']})")
        assert (job["statecode"], await org.names("name ne null")) == ((3, ["C"]) if delay == 0 else (0, ["A", "B", "C"]))
        await org.control("clock", {"skew_seconds": delay + 1})
        assert {row["id"] for row in (await org.get(link))["value"]} == set(ids[:2])
        for wrong in ({}, {"EntityName": "nothing"}, {"EntityName": "account", "Criteria": {"Conditions": []}}):
            assert (await org.refused("POST", "BulkDelete", {"JobName": "x", "QuerySet": [wrong]}))[0] == 400
        assert await org.names("name ne null") == ["C"]


@pytest.mark.parametrize("setting", ["given", "own"])
async def test_the_ids_of_rows_made_in_bulk(setting) -> None:
    """`bulk_ids`: CreateMultiple takes the ids of its targets, or makes its own."""
    async with opened(bulk_ids=setting) as org:
        target = {"@odata.type": "Microsoft.Dynamics.CRM.account", "accountid": MISSING, "name": "A"}
        answer = await org.send("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": [target]})
        assert (answer.json()["Ids"] == [MISSING]) == (setting == "given")


@pytest.mark.parametrize(("setting", "shown"), [("all", [201, 400]), ("failing", [400])])
async def test_what_the_reply_of_a_failed_batch_holds(setting, shown) -> None:
    """`failed_batch_parts`: every operation that ran or the failing one only; the outer status is the failing one's on both."""
    async with opened(failed_batch_parts=setting) as org:
        good = part("POST", "accounts?$select=name", '{"name":"A"}', Prefer="return=representation")
        answer = await org.batch(multipart(good, part("POST", "accounts", '{"wrong":1}')))
        assert answer.status_code == 400
        assert [status for status, _, _ in parts_of(answer)] == shown


@pytest.mark.parametrize(("setting", "status"), [("accept", 204), ("refuse", 400)])
async def test_a_nul_in_a_text(setting, status) -> None:
    """`nul_in_text`: kept as the database keeps it, or refused as the XML in between refuses it."""
    async with opened(nul_in_text=setting) as org:
        assert (await org.send("POST", "accounts", {"name": "a\x00b"})).status_code == status


@pytest.mark.parametrize(("setting", "left"), [("delete", 0), ("unlink", 1)])
async def test_the_contacts_of_an_account_that_is_deleted(setting, left) -> None:
    """`account_contacts`: they go with it, or stay without a company."""
    async with opened(account_contacts=setting) as org:
        account = await org.create(name="A")
        await org.create("contacts", **{"lastname": "M", "parentcustomerid_account@odata.bind": f"/accounts({account})"})
        await org.send("DELETE", f"accounts({account})")
        assert (await org.control("rows?entity=contact", method="GET"))["total"] == left


@pytest.mark.parametrize(("table", "score"), [("lead", "msdyn_leadscore"), ("opportunity", "msdyn_opportunityscore")])
async def test_insights_come_with_a_solution(table, score) -> None:
    """`insights`: without the solutions the columns of the score are neither described nor read; once installed they are, empty."""
    attributes = f"EntityDefinitions(LogicalName='{table}')/Attributes?$filter=LogicalName eq '{score}'"
    path = "leads" if table == "lead" else "opportunities"
    async with opened(insights="off") as org:
        assert (await org.get(attributes))["value"] == []
        assert (await org.refused("GET", f"{path}?$select={score}"))[0] == 400
        [row_id] = await org.seed({"subject": "A"} if table == "lead" else {"name": "A"}, entity=table)
        await org.control("settings", {"insights": "on"})
        assert [found["LogicalName"] for found in (await org.get(attributes))["value"]] == [score]
        await org.edit(row_id, entity=table, **{score: 73})
        assert [row[score] for row in (await org.get(path, select=score))["value"]] == [73]
        await org.control("settings", {"insights": "off"})
        assert score not in (await org.get(f"{path}({row_id})"))
        assert (await org.send("GET", f"{path}?$filter={score} eq 73")).status_code == 400


@pytest.mark.parametrize(("setting", "status"), [("ignore", 204), ("refuse", 400)])
async def test_columns_that_cannot_be_written(setting, status) -> None:
    """`read_only_columns`: left out of the write without a word, or refused."""
    async with opened(read_only_columns=setting) as org:
        assert (await org.send("POST", "accounts", {"name": "A", "modifiedon": "2020-01-01T00:00:00Z"})).status_code == status


async def test_a_row_on_whose_create_a_plug_in_crashes() -> None:
    """`crashing_ids`: 500 0x80040224 for the operation; any other row is created."""
    async with opened(crashing_ids=[MISSING]) as org:
        assert (await org.refused("POST", "accounts", {"accountid": MISSING, "name": "A"}))[:2] == (500, "0x80040224")
        await org.create(name="B")
        assert await org.names("name ne null") == ["B"]


async def test_rights_on_tables() -> None:
    """`unreadable_tables` and `unwritable_tables`: 403 0x80040220 naming the privilege, for the application user only."""
    async with opened(unreadable_tables=["contact"], unwritable_tables=["account"]) as org:
        status, code, message = await org.refused("GET", "contacts")
        assert (status, code) == (403, "0x80040220")
        assert "prvReadContact" in message
        assert "prvCreateAccount" in (await org.refused("POST", "accounts", {"name": "A"}))[2]
        assert (await org.send("GET", "accounts")).status_code == 200


async def test_acting_in_the_name_of_another_user() -> None:
    """The legacy header names a user by id, the other one by Entra's object id; rows are stamped with that user, strangers are 403."""
    async with opened() as org:
        user = (await org.get("systemusers?$select=systemuserid", filter=f"internalemailaddress eq '{ALICIA}'"))["value"][0]["systemuserid"]
        await org.edit(user, entity="systemuser", azureactivedirectoryobjectid=MISSING)
        for header, value in (("MSCRMCallerID", user), ("CallerObjectId", MISSING)):
            made = await org.send("POST", "accounts", {"name": "A"}, **{header: value})
            row_id = made.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")
            assert (await org.stored(row_id))["createdby"] == user
            answer = await org.send("GET", "WhoAmI", **{header: value})
            assert answer.json()["UserId"] == user
        assert (await org.refused("GET", "WhoAmI", MSCRMCallerID=API_HOST))[:2] == (403, "0x80072560")


@pytest.mark.parametrize(
    ("kind", "code"),
    [("workers", "0x80072324"), ("too_many", "0x8005F103"), ("customization", "0x80071154"), ("crash", "0x80040224")],
)
async def test_more_troubles_of_the_platform(kind, code) -> None:
    """Rules answer with the codes of the error list; which status carries them is the rule's choice, since nobody could tell."""
    async with opened() as org:
        for status in (429, 503, 500):
            await org.chaos(kind="status", status=status, body=kind, times=1)
            assert (await org.refused("GET", "WhoAmI"))[:2] == (status, code)


async def test_references_are_added_and_taken_away() -> None:
    """A collection takes references by POST, lists its rows, and gives them back by key or by `$id`; one that is not in it is 404."""
    async with opened() as org:
        account, other = await org.create(name="A"), await org.create(name="B")
        ids = [await org.create("contacts", lastname=name) for name in "KLM"]
        collection = f"accounts({account})/contact_customer_accounts"
        for row_id in ids:
            answer = await org.send("POST", f"{collection}/$ref", {"@odata.id": f"{API}/contacts({row_id})"})
            assert answer.status_code == 204
        shown = await org.get(f"{collection}?$select=lastname&$filter=lastname ne 'L'")
        assert [row["lastname"] for row in sorted(shown["value"], key=lambda row: row["lastname"])] == ["K", "M"]
        assert (await org.send("DELETE", f"{collection}({ids[0]})/$ref")).status_code == 204
        assert (await org.send("DELETE", f"{collection}/$ref?$id={quote(f'{API}/contacts({ids[1]})')}")).status_code == 204
        assert [row["contactid"] for row in (await org.get(collection))["value"]] == [ids[2]]
        assert (await org.refused("DELETE", f"accounts({other})/contact_customer_accounts({ids[2]})/$ref"))[0] == 404
        assert (await org.refused("POST", f"{collection}/$ref", {"@odata.id": f"accounts({other})"}))[0] == 400
        assert (await org.send("PATCH", collection, {})).status_code == 405


async def test_rows_nested_in_collections() -> None:
    """An account is created with its contacts in one operation, or not at all; bulk messages take nothing nested."""
    async with opened() as org:
        body = {"name": "A", "contact_customer_accounts": [{"lastname": "K"}, {"lastname": "L"}]}
        account = await org.create(**body)
        shown = await org.get("contacts?$select=_parentcustomerid_value")
        assert [row["_parentcustomerid_value"] for row in shown["value"]] == [account] * 2
        assert (await org.send("POST", "accounts", {**body, "contact_customer_accounts": [{"wrong": 1}]})).status_code == 400
        assert len(await org.names("name ne null")) == 1
        bulk = {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.account", **body}]}
        assert (await org.refused("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", bulk))[0] == 400


async def test_several_choices_are_one_text() -> None:
    """A custom multi-select column takes "1,9" with blanks, shows it as text with its labels, and is found by ContainValues."""
    options = [
        {"Value": value, "Label": {"LocalizedLabels": [{"Label": name, "LanguageCode": 1033}]}} for value, name in ((1, "Red"), (9, "Blue"))
    ]
    async with opened(customization_delay_seconds=0) as org:
        column = {"@odata.type": "Microsoft.Dynamics.CRM.MultiSelectPicklistAttributeMetadata", "SchemaName": "tandem_Colours"}
        assert (await org.send("POST", f"{ACCOUNT}/Attributes", column)).status_code == 400
        assert (await org.send("POST", f"{ACCOUNT}/Attributes", {**column, "OptionSet": {"Options": options}})).status_code == 204
        row_id = await org.create(name="A", tandem_colours="9, 1")
        await org.create(name="B", tandem_colours="1")
        shown = await org.get(f"accounts({row_id})?$select=tandem_colours", prefer='odata.include-annotations="*"')
        assert shown["tandem_colours"] == "9,1"
        assert shown["tandem_colours@OData.Community.Display.V1.FormattedValue"] == "Blue; Red"
        function = "Microsoft.Dynamics.CRM.ContainValues(PropertyName='tandem_colours',PropertyValues=['9'])"
        assert await org.names(function) == ["A"]
        assert (await org.refused("POST", "accounts", {"tandem_colours": "1,5"}))[1] == "0x8004431A"
        assert (await org.send("POST", "accounts", {"tandem_colours": 1})).status_code == 400


@pytest.mark.parametrize(
    ("function", "days"),
    [("On", [2]), ("NotOn", [1, 3]), ("OnOrAfter", [2, 3]), ("OnOrBefore", [1, 2])],
)
async def test_functions_of_days(function, days) -> None:
    """The On functions compare days, whatever the time of day."""
    async with opened() as org:
        await org.seed(*({"name": str(day), "createdon": f"2026-03-0{day}T17:00:00Z"} for day in (1, 2, 3)))
        condition = f"Microsoft.Dynamics.CRM.{function}(PropertyName='createdon',PropertyValue='2026-03-02')"
        assert await org.names(condition) == [str(day) for day in days]


async def test_a_row_made_and_deleted_between_two_reads_is_a_deletion() -> None:
    """The delta names an id that the client never saw."""
    async with opened() as org:
        link = (await org.get("accounts?$select=name", prefer="odata.track-changes"))["@odata.deltaLink"]
        row_id = await org.create(name="A")
        await org.send("DELETE", f"accounts({row_id})")
        assert [(row["id"], row["reason"]) for row in (await org.get(link))["value"]] == [(row_id, "deleted")]


async def test_a_key_is_unique_among_filled_values_only() -> None:
    """Rows with an empty key column are not held unique."""
    async with opened() as org:
        for _ in range(2):
            await org.create(name="A")
        await org.create(name="B", tandem_creatioid="1")
        assert (await org.refused("POST", "accounts", {"tandem_creatioid": "1"}))[:2] == (412, "0x80060892")


async def test_the_tenant_stands_in_the_challenge() -> None:
    """`tenant`: a client that has no token learns from the 401 where to get one."""
    async with opened(tenant=MISSING) as org:
        answer = await org.send("GET", "WhoAmI", Authorization="")
        assert f"authorization_uri=https://login.microsoftonline.com/{MISSING}/oauth2/authorize" in answer.headers["WWW-Authenticate"]


async def test_slow_replies() -> None:
    """`latency_seconds` and the kind `late`: the work is done, the answer takes its time."""
    async with opened(latency_seconds=0.1) as org:
        began = asyncio.get_running_loop().time()
        await org.create(name="A")
        assert asyncio.get_running_loop().time() - began >= 0.1
