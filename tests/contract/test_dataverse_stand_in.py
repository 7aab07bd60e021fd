"""Single requests to the Dataverse stand-in: who may call, reads of one row, writes and their rules (items 1 to 8, 20)."""

import json
from decimal import Decimal

import pytest

from tests.contract.dataverse_stand_in import API, ORIGIN, opened, token

MISSING = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
async def org():
    """Open an organisation for one test."""
    async with opened() as organization:
        yield organization


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer nonsense",
        f"Bearer {token(audience='http://other.test')}",
        f"Bearer {token(expires_in=-5)}",
        f"Bearer {token(key='another key')}",
    ],
)
async def test_a_bad_token_is_401_with_a_challenge(org, authorization) -> None:
    """No, foreign, expired and forged tokens are refused with the header that names the tenant, without a body."""
    answer = await org.send("GET", "WhoAmI", Authorization=authorization)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=https://login.microsoftonline.com/")
    assert f"resource_id={ORIGIN}/" in answer.headers["WWW-Authenticate"]
    assert answer.content == b""


async def test_an_application_without_user_is_403(org) -> None:
    """A valid token of an application that has no application user is refused with 0x80072560."""
    stranger = f"Bearer {token(client_id=MISSING)}"
    status, code, message = await org.refused("GET", "WhoAmI", Authorization=stranger)
    assert (status, code, message) == (403, "0x80072560", "The user is not a member of the organization.")


async def test_tokens_issued_before_expire_are_refused(org) -> None:
    """The chaos kind ``expire`` revokes what was issued; a new token works."""
    await org.chaos(kind="expire", times=1)
    assert (await org.send("GET", "WhoAmI")).status_code == 401
    assert (await org.send("GET", "WhoAmI", Authorization=f"Bearer {token()}")).status_code == 200


@pytest.mark.parametrize("version", ["v9.0", "v9.1", "v9.2"])
async def test_who_am_i_under_every_version(org, version) -> None:
    """The three API versions answer, and name the integration's user and the organisation."""
    answer = await org.send("GET", f"{ORIGIN}/api/data/{version}/WhoAmI")
    body = answer.json()
    assert body["@odata.context"] == f"{ORIGIN}/api/data/{version}/$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse"
    assert set(body) == {"@odata.context", "BusinessUnitId", "UserId", "OrganizationId"}
    assert (await org.send("GET", f"{ORIGIN}/api/data/v8.2/WhoAmI")).status_code == 404


async def test_every_reply_carries_the_service_headers(org) -> None:
    """Successes and errors carry OData-Version, both request ids, limits, the hint and a date."""
    for path in ("WhoAmI", "accounts(nonsense)"):
        headers = (await org.send("GET", path)).headers
        assert headers["OData-Version"] == "4.0"
        assert headers["x-ms-service-request-id"] == headers["REQ_ID"]
        assert headers["x-ms-dop-hint"] == "4"
        assert "x-ms-ratelimit-burst-remaining-xrm-requests" in headers
        assert headers["Date"].endswith("GMT")


async def test_a_function_called_by_post_is_404_with_an_empty_code(org) -> None:
    """POST WhoAmI is answered as the platform answers it."""
    status, code, message = await org.refused("POST", "WhoAmI", {})
    assert (status, code) == (404, "")
    assert message.startswith("No HTTP resource was found that matches the request URI")


async def test_names_are_case_sensitive(org) -> None:
    """Sets, properties and navigation properties in the wrong case are refused with the real texts."""
    assert await org.refused("GET", "Accounts") == (404, "0x8006088a", "Resource not found for the segment 'Accounts'.")
    text = "Could not find a property named 'Name' on type 'Microsoft.Dynamics.CRM.account'."
    assert await org.refused("GET", "accounts?$select=Name") == (400, "0x0", text)
    status, code, message = await org.refused("POST", "accounts", {"Name": "x"})
    assert (status, code) == (400, "0x80048d19")
    assert "Invalid property 'Name' was found in entity 'Microsoft.Dynamics.CRM.account'" in message


async def test_create_answers_204_with_both_addresses(org) -> None:
    """A POST has no body, and names the row in OData-EntityId and Location."""
    answer = await org.send("POST", "accounts", {"name": "Contoso"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["OData-EntityId"] == answer.headers["Location"]
    assert answer.headers["OData-EntityId"].startswith(f"{API}/accounts(")


async def test_create_with_representation_honours_select(org) -> None:
    """Prefer: return=representation gives 201, the chosen columns, the key, the ETag and the echo."""
    answer = await org.send("POST", "accounts?$select=name", {"name": "Contoso", "fax": "1"}, prefer="return=representation")
    assert answer.status_code == 201
    assert set(answer.json()) == {"@odata.context", "@odata.etag", "name", "accountid"}
    assert answer.headers["Preference-Applied"] == "return=representation"
    assert "OData-EntityId" not in answer.headers


async def test_client_chosen_keys(org) -> None:
    """A key in the body is taken; the same key again is 412 0x80040237."""
    row_id = "11111111-2222-3333-4444-555555555555"
    assert await org.create(accountid=row_id, name="A") == row_id
    assert (await org.refused("POST", "accounts", {"accountid": row_id}))[:2] == (412, "0x80040237")


async def test_patch_upserts_unless_if_match_says_otherwise(org) -> None:
    """PATCH of a missing row creates it; with If-Match: * it is 404 and nothing is created."""
    assert (await org.refused("PATCH", f"accounts({MISSING})", {"name": "A"}, If_Match="*"))[:2] == (404, "0x80040217")
    assert await org.stored(MISSING) is None
    answer = await org.send("PATCH", f"accounts({MISSING})", {"name": "A"})
    assert (answer.status_code, answer.headers["OData-EntityId"]) == (204, f"{API}/accounts({MISSING})")
    assert (await org.stored(MISSING))["name"] == "A"


async def test_if_none_match(org) -> None:
    """``*`` makes PATCH create-only, the literal word null means nothing, an ETag makes a GET conditional."""
    row_id = await org.create(name="A")
    assert (await org.refused("PATCH", f"accounts({row_id})", {"name": "B"}, If_None_Match="*"))[0] == 412
    assert (await org.send("PATCH", f"accounts({row_id})", {"name": "B"}, If_None_Match="null")).status_code == 204
    etag = (await org.get(f"accounts({row_id})"))["@odata.etag"]
    assert (await org.send("GET", f"accounts({row_id})", If_None_Match=etag)).status_code == 304
    annotated = 'odata.include-annotations="*"'
    assert (await org.send("GET", f"accounts({row_id})", prefer=annotated, If_None_Match=etag)).status_code == 200


async def test_an_old_etag_is_412_and_changes_nothing(org) -> None:
    """If-Match with a version that has moved is refused for PATCH and DELETE; the current one is taken."""
    row_id = await org.create(name="A")
    old = (await org.get(f"accounts({row_id})"))["@odata.etag"]
    await org.edit(row_id, name="by a user")
    assert (await org.refused("PATCH", f"accounts({row_id})", {"name": "C"}, If_Match=old))[:2] == (412, "0x80060882")
    assert (await org.refused("DELETE", f"accounts({row_id})", If_Match=old))[:2] == (412, "0x80060882")
    assert (await org.stored(row_id))["name"] == "by a user"
    current = (await org.get(f"accounts({row_id})"))["@odata.etag"]
    assert (await org.send("PATCH", f"accounts({row_id})", {"name": "C"}, If_Match=current)).status_code == 204


async def test_upsert_by_alternate_key(org) -> None:
    """An upsert by key answers 204 both ways and echoes the key; with a representation 201 and 200 tell them apart."""
    url = "accounts(tandem_creatioid='42')"
    first = await org.send("PATCH", url, {"name": "A"})
    assert (first.status_code, first.headers["OData-EntityId"]) == (204, f"{API}/{url}")
    again = await org.send("PATCH", f"{url}?$select=accountid", {"name": "B"}, prefer="return=representation")
    assert again.status_code == 200
    new = await org.send("PATCH", "accounts(tandem_creatioid='43')?$select=accountid", {}, prefer="return=representation")
    assert new.status_code == 201
    assert (await org.get(url))["accountid"] == again.json()["accountid"]


async def test_alternate_key_faults(org) -> None:
    """A key that no row has is 404, an undefined key 400, a doubled value 412; characters that break URLs are refused."""
    await org.create(tandem_creatioid="42")
    assert (await org.refused("GET", "accounts(tandem_creatioid='x')"))[:2] == (404, "0x80060891")
    assert (await org.refused("GET", "accounts(name='x')"))[:2] == (400, "0x80060890")
    assert (await org.refused("POST", "accounts", {"tandem_creatioid": "42"}))[:2] == (412, "0x80060892")
    assert (await org.refused("GET", "accounts(tandem_creatioid='a%2Fb')"))[0] == 400
    other = await org.create(name="B")
    assert (await org.refused("PATCH", f"accounts({other})", {"tandem_creatioid": "42"}))[:2] == (412, "0x80060892")


@pytest.mark.parametrize("form", ["/accounts({id})", "accounts({id})", API + "/accounts({id})", "/accounts(tandem_creatioid='p')"])
async def test_binds_take_every_form_of_address(org, form) -> None:
    """A lookup is bound by a relative, a slashed, an absolute address or one with an alternate key."""
    parent = await org.create(name="Parent", tandem_creatioid="p")
    child = await org.create(**{"name": "Child", "parentaccountid@odata.bind": form.format(id=parent)})
    assert (await org.get(f"accounts({child})", select="_parentaccountid_value"))["_parentaccountid_value"] == parent


@pytest.mark.parametrize("clearing", [{"parentaccountid@odata.bind": None}, {"parentaccountid": None}])
async def test_a_null_clears_a_lookup(org, clearing) -> None:
    """A lookup is emptied by a null bind, by a null navigation property and by deleting its reference."""
    parent = await org.create(name="Parent")
    child = await org.create(**{"parentaccountid@odata.bind": f"/accounts({parent})"})
    assert (await org.send("PATCH", f"accounts({child})", clearing)).status_code == 204
    assert (await org.stored(child))["parentaccountid"] is None
    put = await org.send("PUT", f"accounts({child})/parentaccountid/$ref", {"@odata.id": f"accounts({parent})"})
    assert (put.status_code, (await org.stored(child))["parentaccountid"]) == (204, parent)
    assert (await org.send("DELETE", f"accounts({child})/parentaccountid/$ref")).status_code == 204
    assert (await org.stored(child))["parentaccountid"] is None


async def test_polymorphic_lookups_share_one_value(org) -> None:
    """A contact's company is bound through one of two names; setting one replaces the other."""
    account, person = await org.create(name="A"), await org.create("contacts", lastname="Boss")
    contact = await org.create("contacts", **{"lastname": "X", "parentcustomerid_account@odata.bind": f"/accounts({account})"})
    wanted = 'odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname"'
    name = "_parentcustomerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"
    shown = await org.get(f"contacts({contact})", prefer=wanted)
    assert (shown["_parentcustomerid_value"], shown[name]) == (account, "account")
    await org.send("PATCH", f"contacts({contact})", {"parentcustomerid_contact@odata.bind": f"/contacts({person})"})
    shown = await org.get(f"contacts({contact})", prefer=wanted)
    assert (shown["_parentcustomerid_value"], shown[name]) == (person, "contact")


@pytest.mark.parametrize(
    ("body", "status", "code", "text"),
    [
        ({"_parentaccountid_value": MISSING}, 400, "0x80060888", "do not support direct update of Entity Reference"),
        ({"parentaccountid": MISSING}, 400, "0x80060888", "do not support direct update of Entity Reference"),
        ({"parentaccount@odata.bind": "/accounts(1)"}, 400, "0x80048d19", "An undeclared property 'parentaccount'"),
        ({"ParentAccountId@odata.bind": "/accounts(1)"}, 400, "0x80048d19", "An undeclared property 'ParentAccountId'"),
        ({"parentaccountid@odata.bind": f"/accounts({MISSING})"}, 404, "0x80040217", f"account With Id = {MISSING} Does Not Exist"),
        ({"parentaccountid@odata.bind": "/accounts(tandem_creatioid='x')"}, 404, "0x80060891", "does not exist in account entity"),
        ({"parentaccountid@odata.bind": f"/contacts({MISSING})"}, 400, "0x80048d19", "takes rows of accounts"),
        ({"name": "x" * 161}, 400, "0x80044331", "'name' attribute of the 'account' entity exceeded the maximum allowed length of '160'"),
        ({"name": "😀" * 81}, 400, "0x80044331", "maximum allowed length of '160'"),
        ({"name": 5}, 400, "0x80048d19", "Cannot convert the literal '5' to the expected type 'Edm.String'."),
        ({"industrycode": 99}, 400, "0x8004431A", "The value 99 of 'industrycode'"),
        ({"industrycode": "1"}, 400, "0x80048d19", "'Edm.Int32'"),
        ({"numberofemployees": -1}, 400, "0x8004432F", "outside the valid range"),
        ({"revenue": -1}, 400, "0x80044330", "outside the valid range"),
        ({"revenue": "12.5"}, 400, "0x80048d19", "'Edm.Decimal'"),
        ({"creditonhold": 1}, 400, "0x80048d19", "'Edm.Boolean'"),
        ({"lastusedincampaign": 1}, None, "", ""),
        ({"lastonholdtime": "yesterday"}, 400, "0x80048d19", "'Edm.DateTimeOffset'"),
        ({"statecode": 1}, 400, "0x80048408", "can't be set on create"),
        ({"statuscode": 2}, 400, "0x80048408", "2 is not a valid status code for state code AccountState.Active"),
        ({"transactioncurrencyid@odata.bind": None, "wrong": 1}, 400, "0x80048d19", "Invalid property 'wrong'"),
    ],
)
async def test_bad_bodies_are_refused_with_the_real_code(org, body, status, code, text) -> None:
    """Each fault of a body has its status, code and text, and leaves no row behind (read-only columns are ignored)."""
    answer = await org.send("POST", "accounts", body)
    if status is None:
        assert answer.status_code == 204
        return
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert text in error["message"]
    assert (await org.control("rows?entity=account", method="GET"))["total"] == 0


async def test_bodies_that_are_no_json_objects(org) -> None:
    """Broken JSON and other content types are refused, not crashed on."""
    headers = {"Content-Type": "application/json"}
    for text in ("{", "[]", '"x"'):
        answer = await org.http.post(f"{API}/accounts", content=text, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80048d19")
    assert (await org.http.post(f"{API}/accounts", content="{}", headers={"Content-Type": "text/plain"})).status_code == 415


async def test_dates_without_time_refuse_timestamps(org) -> None:
    """A DateOnly column takes YYYY-MM-DD only and reads back the same."""
    status, code, message = await org.refused("POST", "contacts", {"birthdate": "1980-06-30T00:00:00Z"})
    assert (status, code) == (400, "0x80048d19")
    assert "Cannot convert the literal '1980-06-30T00:00:00Z' to the expected type 'Edm.Date'." in message
    contact = await org.create("contacts", birthdate="1980-06-30")
    assert (await org.get(f"contacts({contact})", select="birthdate"))["birthdate"] == "1980-06-30"


async def test_times_are_utc_seconds(org) -> None:
    """Offsets are turned into UTC, fractions are cut, a value without offset is taken as UTC."""
    for given, kept in (
        ("2026-01-31T23:30:00-02:00", "2026-02-01T01:30:00Z"),
        ("2026-01-31T10:00:00.987Z", "2026-01-31T10:00:00Z"),
        ("2026-01-31T10:00:00", "2026-01-31T10:00:00Z"),
    ):
        row_id = await org.create(lastonholdtime=given)
        assert (await org.get(f"accounts({row_id})"))["lastonholdtime"] == kept
    assert (await org.refused("POST", "accounts", {"lastonholdtime": "1752-12-31T00:00:00Z"}))[0] == 400


async def test_money_has_a_base_amount_and_a_currency(org) -> None:
    """Money is rounded to the precision, takes the base currency by default, and its base amount is amount / rate."""
    row_id = await org.create(revenue=1234.567)
    answer = await org.send("GET", f"accounts({row_id})?$select=revenue,revenue_base,exchangerate")
    shown = json.loads(answer.text, parse_float=Decimal)
    assert '"revenue":1234.5700' in answer.text
    assert (shown["revenue"], shown["revenue_base"], shown["exchangerate"]) == (Decimal("1234.57"), Decimal("1234.57"), 1)
    euro = (await org.get("transactioncurrencies", filter="isocurrencycode eq 'EUR'"))["value"][0]["transactioncurrencyid"]
    await org.send("PATCH", f"accounts({row_id})", {"transactioncurrencyid@odata.bind": f"/transactioncurrencies({euro})"})
    shown = await org.get(f"accounts({row_id})", select="revenue_base")
    assert shown["_transactioncurrencyid_value"] == euro
    assert shown["revenue_base"] == pytest.approx(1234.57 / 0.92, abs=0.0001)
    status, code, _ = await org.refused("PATCH", f"accounts({row_id})", {"transactioncurrencyid@odata.bind": None})
    assert (status, code) == (400, "0x80048CFB")
    assert (await org.stored(await org.create(name="no money")))["transactioncurrencyid"] is None


async def test_status_follows_state(org) -> None:
    """Deactivating sets the state's own status; a status of the other state alone is refused."""
    row_id = await org.create(name="A")
    assert (await org.send("PATCH", f"accounts({row_id})", {"statecode": 1})).status_code == 204
    row = await org.stored(row_id)
    assert (row["statecode"], row["statuscode"]) == (1, 2)
    assert (await org.refused("PATCH", f"accounts({row_id})", {"statuscode": 1}))[:2] == (400, "0x80048408")
    assert (await org.send("PATCH", f"accounts({row_id})", {"statecode": 0, "statuscode": 1})).status_code == 204


async def test_create_fills_defaults(org) -> None:
    """A new row has its two-option and "Default Value" columns filled, its owner, state and stamps set."""
    user = (await org.get("WhoAmI"))["UserId"]
    row = await org.stored(await org.create(name="A", address1_line1="Street 1", address1_city="Town"))
    assert (row["creditonhold"], row["followemail"], row["businesstypecode"], row["statecode"], row["statuscode"]) == (False, True, 1, 0, 1)
    assert (row["ownerid"], row["createdby"], row["modifiedby"]) == (user, user, user)
    assert row["createdon"] == row["modifiedon"]
    assert row["address1_composite"] == "Street 1\r\nTown"


async def test_read_only_columns_are_ignored_or_refused(org) -> None:
    """Columns that can't be written are ignored as the platform does, or refused when the switch says so."""
    row_id = await org.create(name="A")
    assert (await org.send("PATCH", f"accounts({row_id})", {"createdon": "2001-01-01T00:00:00Z"})).status_code == 204
    assert not (await org.stored(row_id))["createdon"].startswith("2001")
    await org.control("settings", {"read_only_columns": "refuse"})
    assert (await org.refused("PATCH", f"accounts({row_id})", {"merged": True}))[0] == 400


async def test_empty_text_is_null(org) -> None:
    """An empty text is stored as null, and nulls are explicit in replies."""
    row_id = await org.create(name="A", fax="")
    assert (await org.get(f"accounts({row_id})", select="fax"))["fax"] is None


async def test_every_write_moves_the_version_even_without_change(org) -> None:
    """The same values again give a new ETag, as plug-ins and audit would see another update."""
    row_id = await org.create(name="A")
    first = (await org.get(f"accounts({row_id})"))["@odata.etag"]
    await org.send("PATCH", f"accounts({row_id})", {"name": "A"})
    second = (await org.get(f"accounts({row_id})"))["@odata.etag"]
    assert int(second[3:-1]) > int(first[3:-1])


async def test_delete(org) -> None:
    """A deleted row is gone, deleting again is 404, lookups to it are emptied and its contacts go with it."""
    parent = await org.create(name="Parent")
    child = await org.create(**{"parentaccountid@odata.bind": f"/accounts({parent})"})
    contact = await org.create("contacts", **{"parentcustomerid_account@odata.bind": f"/accounts({parent})"})
    assert (await org.send("DELETE", f"accounts({parent})")).status_code == 204
    assert (await org.refused("DELETE", f"accounts({parent})"))[:2] == (404, "0x80040217")
    assert (await org.stored(child))["parentaccountid"] is None
    assert await org.stored(contact, "contact") is None


async def test_single_properties(org) -> None:
    """One property is read, put and deleted by its own address; empty ones answer 204."""
    row_id = await org.create(name="A")
    assert (await org.send("PUT", f"accounts({row_id})/fax", {"value": "123"})).status_code == 204
    assert (await org.get(f"accounts({row_id})/fax"))["value"] == "123"
    assert (await org.send("DELETE", f"accounts({row_id})/fax")).status_code == 204
    assert (await org.send("GET", f"accounts({row_id})/fax")).status_code == 204


async def test_wrong_verbs_are_405(org) -> None:
    """PATCH and DELETE on a collection, and PUT on a row, are not allowed."""
    row_id = await org.create(name="A")
    for method, path in (("PATCH", "accounts"), ("DELETE", "accounts"), ("PUT", f"accounts({row_id})")):
        assert (await org.send(method, path, {})).status_code == 405


async def test_nested_rows_are_created_together_or_not_at_all(org) -> None:
    """A deep insert makes the contact and the account; a fault in the contact leaves neither."""
    row_id = await org.create(name="A", primarycontactid={"lastname": "Nested"})
    contact = (await org.stored(row_id))["primarycontactid"]
    assert (await org.stored(contact, "contact"))["fullname"] == "Nested"
    before = (await org.control("rows?entity=contact", method="GET"))["total"]
    body = {"name": "x" * 161, "primarycontactid": {"lastname": "Orphan"}}
    assert (await org.send("POST", "accounts", body)).status_code == 400
    assert (await org.control("rows?entity=contact", method="GET"))["total"] == before


async def test_error_details_come_on_request(org) -> None:
    """With all annotations an error holds the details of the platform; without, code and message only."""
    plain = (await org.send("GET", f"accounts({MISSING})")).json()["error"]
    assert set(plain) == {"code", "message"}
    rich = (await org.send("GET", f"accounts({MISSING})", prefer='odata.include-annotations="*"')).json()["error"]
    assert "@Microsoft.PowerApps.CDS.HelpLink" in rich


async def test_users_and_the_control_desk(org) -> None:
    """A user's edit is stamped with that user, moves the version and is no request; merging points to the winner."""
    row_id, other = await org.create(name="A"), await org.create(name="B")
    integration = (await org.get("WhoAmI"))["UserId"]
    row = await org.edit(row_id, name="By hand")
    assert row["modifiedby"] != integration
    found = await org.get("systemusers", filter=f"systemuserid eq {row['modifiedby']}", select="internalemailaddress")
    assert found["value"][0]["internalemailaddress"].endswith("@contoso.example")
    await org.control("merge", {"entity": "account", "winner": row_id, "loser": other})
    loser = await org.stored(other)
    assert (loser["merged"], loser["masterid"], loser["statecode"], loser["statuscode"]) == (True, row_id, 1, 2)
    counts = await org.control("requests", method="GET")
    assert (counts["writes"], counts["by"]["POST accounts"]) == (2, 2)


async def test_seeding_keeps_what_is_given(org) -> None:
    """Seeded rows keep their stamps and ids, get defaults for the rest, and are not counted."""
    stamp = "2020-02-03T04:05:06Z"
    (row_id,) = await org.seed({"name": "Old", "createdon": stamp, "modifiedon": stamp, "revenue": 10.5, "creditonhold": True})
    row = await org.stored(row_id)
    assert (row["createdon"], row["modifiedon"], row["creditonhold"], row["followemail"]) == (stamp, stamp, True, True)
    assert (await org.get(f"accounts({row_id})", select="revenue"))["revenue"] == 10.5
    assert (await org.control("requests", method="GET"))["total"] == 1
