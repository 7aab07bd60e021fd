"""How the Creatio stand-in saves (checklist items 8, 9, 13, 16 to 18, 20, 21) and what follows from it."""

import asyncio
import uuid
from datetime import datetime, timedelta

import httpx
import pytest

from sandbox.serve import running
from tests.contract.creatio_stand_in import (
    CUSTOMER,
    EMPTY,
    MAIN_PHONE,
    SUPERVISOR,
    Tenant,
)

FAX = "9a7ab41b-67cc-df11-9b2a-001d60e938c6"
WEB = "6a8ba927-67cc-df11-9b2a-001d60e938c6"


def _at(row, column="ModifiedOn") -> datetime:
    return datetime.fromisoformat(row[column])


async def _contact_of(tenant: Tenant, login: str) -> str:
    return (await tenant.rows("SysAdminUnit", f"Name eq '{login}'"))[0]["ContactId"]


async def test_a_create_answers_the_whole_record(tenant):
    """201 with Location, all columns, defaults, and stamps of seven digits that later reads show with six."""
    answer = await tenant.http.post("/0/odata/Account", json={"Name": "Acme", "TypeId": CUSTOMER})
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"http://creatio.test/0/odata/Account({body['Id']})"
    assert answer.headers["odata-version"] == "4.0"
    integration = await _contact_of(tenant, "integration")
    assert {body[name] for name in ("OwnerId", "CreatedById", "ModifiedById")} == {integration}
    assert (body["UsrActive"], body["Code"], body["TypeId"]) == (True, "", CUSTOMER)
    assert body["CreatedOn"] == body["ModifiedOn"]
    assert len(body["ModifiedOn"].rstrip("Z").partition(".")[2]) == 7
    read = (await tenant.get(f"Account({body['Id']})"))["ModifiedOn"]
    assert len(read.rstrip("Z").partition(".")[2]) <= 6
    assert abs(_at(body) - _at({"ModifiedOn": read})) <= timedelta(microseconds=1)


async def test_a_client_chooses_the_id_once(tenant):
    """A given Id is kept; the same Id again is a 500 with the database's words inside; the empty guid makes a new one."""
    row_id = str(uuid.uuid4())
    assert (await tenant.post("Account", {"Id": row_id.upper(), "Name": "A"}))["Id"] == row_id
    again = await tenant.http.post("/0/odata/Account", json={"Id": row_id, "Name": "B"})
    assert again.status_code == 500
    assert "duplicate key" in again.json()["error"]["innererror"]["internalexception"]["message"]
    assert (await tenant.post("Account", {"Id": EMPTY, "Name": "C"}))["Id"] != EMPTY
    assert await tenant.names("Name ne ''") == ["A", "C"]


async def test_patch_and_delete_answer_without_a_body(tenant):
    """PATCH changes what it names, 204 with OData-Version; DELETE 204 without; a missing row is 404, never an upsert."""
    row = await tenant.post("Account", {"Name": "A", "Code": "1", "TypeId": CUSTOMER})
    stale = {"If-Match": '"another"', "If-None-Match": "*"}
    answer = await tenant.http.patch(f"/0/odata/Account({row['Id']})", json={"Code": "2", "TypeId": None}, headers=stale)
    assert (answer.status_code, "etag" in answer.headers) == (204, False)
    assert (answer.content, answer.headers["odata-version"]) == (b"", "4.0")
    after = await tenant.get(f"Account({row['Id']})")
    assert (after["Name"], after["Code"], after["TypeId"]) == ("A", "2", EMPTY)
    assert _at(after) > _at(after, "CreatedOn")
    deleted = await tenant.http.delete(f"/0/odata/Account({row['Id']})", headers={"If-Match": '"x"'})
    assert (deleted.status_code, deleted.content, "odata-version" in deleted.headers) == (204, b"", False)
    for method in ("PATCH", "DELETE"):
        missing = await tenant.http.request(method, f"/0/odata/Account({row['Id']})", json={"Name": "B"})
        assert missing.status_code == 404
    assert await tenant.names("Name ne ''") == []


async def test_representation_is_returned_only_by_its_switch(tenant):
    """It is not known whether Prefer: return=representation is honoured: off by default."""
    row = await tenant.post("Account", {"Name": "A"})
    url, prefer = f"/0/odata/Account({row['Id']})", {"Prefer": "return=representation"}
    assert (await tenant.http.patch(url, json={"Name": "B"}, headers=prefer)).status_code == 204
    await tenant.settings(patch_returns_representation=True)
    assert (await tenant.http.patch(url, json={"Name": "C"}, headers=prefer)).json()["Name"] == "C"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"Name": "A", "Foo": 1}, 400, "The property 'Foo' does not exist on type"),
        ({"Name": "A", "name": "a"}, 400, "The property 'name' does not exist"),
        ({"Name": "A", "Type@odata.bind": "x"}, 400, "does not exist"),
        ({"Name": "A", "AccountAddressCollectionByAccount": []}, 400, "does not exist"),
        ({"Name": 5}, 400, "expected type 'Edm.String'"),
        ({"Name": "A", "UsrEmployees": "5"}, 400, "expected type 'Edm.Int32'"),
        ({"Name": "A", "UsrEmployees": 2**31}, 400, "expected type 'Edm.Int32'"),
        ({"Name": "A", "UsrActive": 1}, 400, "expected type 'Edm.Boolean'"),
        ({"Name": "A", "TypeId": "customer"}, 400, "expected type 'Edm.Guid'"),
        ({"Name": "A", "UsrLastCampaignOn": "2024-01-01"}, 400, "expected type 'Edm.DateTimeOffset'"),
        ({"Name": "A", "UsrLastCampaignOn": "9999-12-31T23:00:00-05:00"}, 400, "expected type 'Edm.DateTimeOffset'"),
        ({"Name": "A", "UsrCreditLimit": "5.00"}, 400, "IEEE754Compatible"),
        ({"Code": "A"}, 500, "Column Name is required"),
        ({"Name": ""}, 500, "Column Name is required"),
        ({"Name": "A", "TypeId": str(uuid.uuid4())}, 500, "violates foreign key constraint"),
        ({"Name": "A" * 251}, 500, "value too long for type character varying(250)"),
        ({"Name": "nul\0"}, 500, "invalid byte sequence"),
        ({"Name": "A", "UsrCreditLimit": 1e17}, 500, "numeric field overflow"),
        ([], 400, "The body must be a JSON object"),
    ],
)
async def test_a_wrong_body_is_refused(tenant, body, status, text):
    """Types, unknown names, required columns, missing lookup rows and overlong texts: each its status and reason."""
    answer = await tenant.http.post("/0/odata/Account", json=body)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text
    assert await tenant.names("Name ne 'x'") == []


async def test_bodies_must_be_json(tenant):
    """Broken JSON is 400, another media type 415."""
    for kind, status in (("application/json", 400), ("text/plain", 415)):
        answer = await tenant.http.post("/0/odata/Account", content=b"{", headers={"Content-Type": kind})
        assert answer.status_code == status


async def test_ieee754_in_content_type_wants_decimals_as_texts(tenant):
    """With the parameter a decimal must be a string, without it a number; money is rounded to its scale."""
    kind = {"Content-Type": "application/json; charset=utf-8; IEEE754Compatible=true"}
    good = await tenant.http.post("/0/odata/Account", content=b'{"Name":"A","UsrCreditLimit":"1.239"}', headers=kind)
    assert (good.status_code, '"UsrCreditLimit":1.24' in good.text) == (201, True)
    bad = await tenant.http.post("/0/odata/Account", content=b'{"Name":"A","UsrCreditLimit":1.2}', headers=kind)
    assert (bad.status_code, "IEEE754Compatible" in bad.text) == (400, True)


async def test_empty_values_clear(tenant):
    """null, the empty guid and year 1 all become null; a Date column keeps the day only."""
    values = {"Name": "A", "TypeId": CUSTOMER, "UsrLastCampaignOn": "2024-01-01T10:00:00Z", "Code": "1"}
    row = await tenant.post("Account", values)
    await tenant.patch(
        "Account",
        row["Id"],
        {"TypeId": EMPTY, "UsrLastCampaignOn": "0001-01-01T00:00:00Z", "Code": ""},
    )
    stored = await tenant.stored("Account", row["Id"])
    assert (stored["TypeId"], stored["UsrLastCampaignOn"], stored["Code"]) == (None, None, "")
    person = await tenant.post("Contact", {"Name": "Ada B", "BirthDate": "1990-05-06T17:30:00Z"})
    assert person["BirthDate"] == "1990-05-06T00:00:00Z"


async def test_overlong_texts_are_cut_by_their_switch(tenant):
    """The other half of the open question: the text is cut to its column's length."""
    await tenant.settings(text_overflow="truncate")
    row = await tenant.post("Account", {"Name": "é" * 300, "Notes": "n" * 5000})
    assert (len(row["Name"]), len(row["Notes"])) == (250, 5000)


async def test_stamps_belong_to_the_server(tenant):
    """Client stamps are ignored unless the switch says otherwise; a user's edit bears the user's contact."""
    old = "2020-01-01T00:00:00Z"
    row = await tenant.post("Account", {"Name": "A", "ModifiedOn": old, "CreatedOn": old, "ModifiedById": SUPERVISOR})
    assert (row["ModifiedOn"] > "2024", row["CreatedOn"] > "2024") == (True, True)
    assert row["ModifiedById"] != SUPERVISOR
    await tenant.patch("Account", row["Id"], {"ModifiedOn": old, "CreatedOn": old, "CreatedById": SUPERVISOR})
    after = await tenant.get(f"Account({row['Id']})")
    assert _at(after) >= _at(after, "CreatedOn") > datetime.fromisoformat(old)
    assert after["CreatedById"] == row["CreatedById"]
    edited = await tenant.edit("Account", row["Id"], user="grace", Code="9")
    assert edited["ModifiedById"] == await _contact_of(tenant, "grace")
    assert _at(edited) > _at(row)
    await tenant.settings(keep_client_stamps=True)
    kept = await tenant.post("Account", {"Name": "B", "CreatedOn": old, "ModifiedOn": old})
    assert (kept["CreatedOn"], kept["ModifiedOn"]) == (old, old)


async def test_a_patch_without_change_moves_modified_on_by_its_switch(tenant):
    """It is not known whether saving nothing is saved: both answers can be had."""
    row = await tenant.post("Account", {"Name": "A"})
    first = _at(await tenant.get(f"Account({row['Id']})"))
    await tenant.settings(empty_patch_stamps=False)
    await tenant.patch("Account", row["Id"], {"Name": "A"})
    assert _at(await tenant.get(f"Account({row['Id']})")) == first
    await tenant.settings(empty_patch_stamps=True)
    await tenant.patch("Account", row["Id"], {"Name": "A"})
    assert _at(await tenant.get(f"Account({row['Id']})")) > first


async def test_the_server_clock_stamps(tenant):
    """A skewed server stamps rows and the Date header with its own time."""
    await tenant.control("clock", {"skew_seconds": 86400})
    row = await tenant.post("Account", {"Name": "A"})
    assert datetime.fromisoformat(row["CreatedOn"]) - datetime.now().astimezone() > timedelta(hours=23)


async def test_a_row_without_the_right_to_edit_is_403_in_words(tenant):
    """A locked row can be read, not changed nor deleted; the refusal is an OData error, unlike that of CSRF."""
    (row_id,) = await tenant.seed("Account", {"Name": "Locked"})
    await tenant.settings(locked_ids={"Account": [row_id]})
    for method in ("PATCH", "DELETE"):
        answer = await tenant.http.request(method, f"/0/odata/Account({row_id})", json={"Name": "B"})
        assert answer.status_code == 403
        assert "sufficient permissions" in answer.json()["error"]["message"]
    assert (await tenant.get(f"Account({row_id})"))["Name"] == "Locked"


async def test_streams_are_put_read_and_cleared(tenant):
    """A stream is written raw and read back; while empty it is 204; the row's ModifiedOn moves."""
    row = await tenant.post("Account", {"Name": "A"})
    url = f"/0/odata/Account({row['Id']})/Logo"
    assert (await tenant.http.get(url)).status_code == 204
    assert (await tenant.http.put(url, content=b"\x89PNG")).status_code == 204
    assert (await tenant.http.get(url)).content == b"\x89PNG"
    assert _at(await tenant.get(f"Account({row['Id']})")) > _at(row)
    assert (await tenant.http.delete(url)).status_code == 204
    assert (await tenant.http.get(url)).status_code == 204


async def test_a_row_that_others_refer_to_is_not_deleted(tenant):
    """An account with a contact stays (500); its details go with it once the contact is gone."""
    account = await tenant.post("Account", {"Name": "A", "Phone": "1", "Zip": "2"})
    person = await tenant.post("Contact", {"Name": "P", "AccountId": account["Id"]})
    refused = await tenant.http.delete(f"/0/odata/Account({account['Id']})")
    assert (refused.status_code, "violates foreign key constraint" in refused.text) == (500, True)
    await tenant.delete("Contact", person["Id"])
    await tenant.delete("Account", account["Id"])
    assert await tenant.rows("AccountCommunication") == []
    assert await tenant.rows("AccountAddress") == []


async def test_account_numbers_become_communications_and_follow_changes(tenant):
    """Phone, fax and web each have one primary communication that changes and goes with the column; nothing doubles."""
    account = await tenant.post("Account", {"Name": "A", "Phone": "+1 22", "Web": "a.example"})
    rows = await tenant.rows("AccountCommunication", f"Account/Id eq {account['Id']}", orderby="Number")
    assert [(r["Number"], r["CommunicationTypeId"], r["Primary"]) for r in rows] == [
        ("+1 22", MAIN_PHONE, True),
        ("a.example", WEB, True),
    ]
    assert rows[0]["SearchNumber"] == "221"
    await tenant.patch("Account", account["Id"], {"Phone": "+1 33", "Web": "", "Fax": "44"})
    rows = await tenant.rows("AccountCommunication", orderby="Number")
    assert [(r["Number"], r["CommunicationTypeId"]) for r in rows] == [("+1 33", MAIN_PHONE), ("44", FAX)]


async def test_a_new_communication_becomes_primary_and_shows_on_the_account(tenant):
    """Its sibling loses the flag by SQL (its ModifiedOn stays); the account's column and ModifiedOn move."""
    account = await tenant.post("Account", {"Name": "A", "Phone": "1"})
    (first,) = await tenant.rows("AccountCommunication")
    values = {"AccountId": account["Id"], "CommunicationTypeId": MAIN_PHONE, "Number": "2"}
    second = await tenant.post("AccountCommunication", values)
    assert second["Primary"] is True
    sibling = await tenant.get(f"AccountCommunication({first['Id']})")
    assert (sibling["Primary"], sibling["ModifiedOn"]) == (False, first["ModifiedOn"])
    moved = await tenant.get(f"Account({account['Id']})")
    assert moved["Phone"] == "2"
    assert _at(moved) > _at(account)
    await tenant.delete("AccountCommunication", second["Id"])
    blank = await tenant.get(f"Account({account['Id']})")
    assert (blank["Phone"], blank["ModifiedOn"]) == ("", moved["ModifiedOn"])


async def test_the_address_block_and_the_primary_address_are_one(tenant):
    """The block makes and changes the primary address; another primary one takes over; the oldest is promoted."""
    account = await tenant.post("Account", {"Name": "A", "Zip": "1", "Address": "Main St"})
    (first,) = await tenant.rows("AccountAddress")
    assert (first["Zip"], first["Address"], first["Primary"]) == ("1", "Main St", True)
    await tenant.patch("Account", account["Id"], {"Zip": "2"})
    assert (await tenant.get(f"AccountAddress({first['Id']})"))["Zip"] == "2"
    await tenant.patch("AccountAddress", first["Id"], {"Zip": "3"})
    assert (await tenant.get(f"Account({account['Id']})"))["Zip"] == "3"
    second = await tenant.post("AccountAddress", {"AccountId": account["Id"], "Zip": "9", "Primary": True})
    assert (await tenant.get(f"AccountAddress({first['Id']})"))["Primary"] is False
    shown = await tenant.get(f"Account({account['Id']})")
    assert (shown["Zip"], shown["Address"]) == ("9", "")
    await tenant.delete("AccountAddress", second["Id"])
    assert (await tenant.get(f"AccountAddress({first['Id']})"))["Primary"] is True
    assert (await tenant.get(f"Account({account['Id']})"))["Zip"] == "3"


async def test_side_effects_can_be_switched_off(tenant):
    """Without them an account's phone makes no communication."""
    await tenant.settings(side_effects=False)
    await tenant.post("Account", {"Name": "A", "Phone": "1"})
    assert await tenant.rows("AccountCommunication") == []


async def test_a_contacts_name_and_its_parts_stay_in_step(tenant):
    """A name is split on create, the parts make the name on change; e-mail and phone have communications."""
    person = await tenant.post("Contact", {"Name": "API van Test", "Email": "test@gmail", "MobilePhone": "1"})
    assert (person["GivenName"], person["MiddleName"], person["Surname"]) == ("API", "van", "Test")
    await tenant.patch("Contact", person["Id"], {"Surname": "Best"})
    assert (await tenant.get(f"Contact({person['Id']})"))["Name"] == "API van Best"
    await tenant.patch("Contact", person["Id"], {"Name": "Madonna"})
    after = await tenant.get(f"Contact({person['Id']})")
    assert (after["GivenName"], after["Surname"]) == ("", "Madonna")
    numbers = await tenant.rows("ContactCommunication", orderby="Number")
    assert [row["Number"] for row in numbers] == ["1", "test@gmail"]


async def test_an_insert_may_fail_after_it_was_done(tenant):
    """`insert_then_fail` answers 500 with the row present; a repeat with the same Id then meets it."""
    await tenant.chaos({"kind": "insert_then_fail", "times": 1})
    row_id = str(uuid.uuid4())
    failed = await tenant.http.post("/0/odata/Account", json={"Id": row_id, "Name": "A"})
    assert failed.status_code == 500
    assert "event handler" in failed.json()["error"]["innererror"]["internalexception"]["message"]
    assert (await tenant.get(f"Account({row_id})"))["Name"] == "A"
    assert (await tenant.http.post("/0/odata/Account", json={"Id": row_id, "Name": "A"})).status_code == 500


async def test_a_server_may_store_another_text(tenant):
    """`normalise` changes texts of the column it names only, on create and on change."""
    await tenant.chaos({"kind": "normalise", "entity": "Account", "column": "Name", "how": "collapse"})
    row = await tenant.post("Account", {"Name": " two  words ", "Code": " x  y "})
    assert (row["Name"], row["Code"]) == ("two words", " x  y ")
    await tenant.patch("Account", row["Id"], {"Name": "a   b"})
    assert (await tenant.get(f"Account({row['Id']})"))["Name"] == "a b"


async def test_stale_reads_show_the_past_and_then_nothing_has_happened(tenant):
    """Before the last write of each row, or as of some seconds ago; filters and counts see the past as well."""
    row = await tenant.post("Account", {"Name": "One"})
    await tenant.patch("Account", row["Id"], {"Name": "Two"})
    await tenant.patch("Account", row["Id"], {"Name": "Three"})
    await tenant.chaos({"kind": "stale_read", "times": 2})
    assert await tenant.names("Name ne ''") == ["Two"]
    assert await tenant.names("Name eq 'Three'") == []
    await tenant.chaos({"kind": "stale_read", "seconds": 60, "times": 1})
    assert await tenant.names("Name ne ''") == []
    assert await tenant.names("Name ne ''") == ["Three"]


async def test_other_troubles_have_their_shapes(tenant):
    """A Web API crash, maintenance, a CSRF refusal and a 429 look like the real ones."""
    await tenant.chaos({"kind": "status", "status": 500, "body": "webapi", "times": 1})
    crash = await tenant.http.get("/0/odata/Account")
    assert crash.json()["ExceptionType"] == "System.NullReferenceException"
    await tenant.chaos({"kind": "admin_mode", "times": 1})
    closed = await tenant.http.get("/0/odata/Account")
    assert (closed.status_code, closed.headers["content-type"]) == (503, "text/html; charset=utf-8")
    await tenant.chaos({"kind": "csrf", "times": 1})
    assert (await tenant.http.get("/0/odata/Account")).status_code == 403
    await tenant.chaos({"kind": "status", "status": 429, "times": 1})
    throttled = await tenant.http.get("/0/odata/Account")
    assert (throttled.status_code, throttled.json()["error"]["code"]) == (429, "")
    assert "retry-after" not in throttled.headers
    await tenant.chaos({"kind": "status", "status": 429, "retry_after": 7, "times": 1})
    assert (await tenant.http.get("/0/odata/Account")).headers["retry-after"] == "7"
    for status in (500, 502, 503):
        await tenant.chaos({"kind": "status", "status": status, "body": "html", "times": 1})
        page = await tenant.http.post("/0/odata/Account", json={"Name": "A"})
        assert (page.status_code, page.headers["content-type"], page.text[:6]) == (status, "text/html; charset=utf-8", "<html>")
    assert await tenant.rows("Account") == []


async def test_a_slow_answer_is_slow_before_the_work_or_after_it(tenant):
    """`delay` waits before anything is done, `late` when all is done: a client that gives up leaves nothing, or the row."""
    for kind, expected in (("delay", 0), ("late", 1)):
        await tenant.chaos({"kind": kind, "seconds": 0.5, "method": "POST", "times": 1})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await tenant.http.post("/0/odata/Account", json={"Name": "A"})
        assert len(await tenant.rows("Account")) == expected


async def test_a_lost_answer_leaves_the_row(tenant):
    """`drop_after` on a real socket: the client sees a broken connection, the row is there."""
    await tenant.chaos({"kind": "drop_after", "method": "POST", "path": "/Account$", "times": 1})
    headers = {"Authorization": tenant.http.headers["Authorization"]}
    async with running(tenant.creatio.app) as url, httpx.AsyncClient(base_url=url, headers=headers) as http:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await http.post("/0/odata/Account", json={"Name": "Lost"})
        rows = (await http.get("/0/odata/Account")).json()["value"]
    assert [row["Name"] for row in rows] == ["Lost"]


async def test_the_control_api_seeds_as_it_stands_and_acts_as_users(tenant):
    """Seeds keep stamps and have no side effects and no counts; users' acts have side effects; errors are sentences."""
    old = "2020-05-06T07:08:09.000001Z"
    ids = await tenant.seed("Account", {"Name": "Old", "Phone": "1", "ModifiedOn": old})
    assert (await tenant.stored("Account", ids[0]))["ModifiedOn"] == old
    assert await tenant.rows("AccountCommunication") == []
    made = await tenant.control("create", {"entity": "Account", "values": {"Name": "New", "Phone": "2"}})
    assert len(await tenant.rows("AccountCommunication")) == 1
    await tenant.control("delete", {"entity": "Account", "id": made["row"]["Id"]})
    assert await tenant.names("Name ne ''") == ["Old"]
    assert (await tenant.http.get("/_control/requests")).json()["writes"] == 0
    for path, body, text in (
        ("seed", {"entity": "Acount", "rows": []}, "got entity 'Acount', allowed Account,"),
        ("seed", {"entity": "Account", "rows": [{"Nam": "x"}]}, "has no column Nam; allowed"),
        ("seed", {"entity": "Account", "rows": [{"Id": ids[0], "Name": "x"}]}, "can't be inserted"),
        ("edit", {"entity": "Account", "id": ids[0], "values": {}, "user": "bob"}, "no user 'bob'; allowed"),
        ("edit", {"entity": "Account", "id": EMPTY, "values": {}}, "Not Found"),
    ):
        refused = await tenant.http.post(f"/_control/{path}", json=body)
        assert refused.status_code >= 400
        assert text in refused.json()["error"]
