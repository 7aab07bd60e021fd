"""Where nobody could tell what Creatio does, or sites differ, the stand-in has a switch: here both of its settings (creatio.md 11)."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from sandbox.creatio.app import create_creatio
from tests.contract.creatio_stand_in import CUSTOMER, EMPTY, Tenant, bearer_site

FLAT = f"TypeId eq {CUSTOMER}"


@asynccontextmanager
async def _tenant(**settings) -> AsyncIterator[Tenant]:
    creatio = create_creatio(settings)
    async with await bearer_site(creatio) as http:
        yield Tenant(creatio, http)
    creatio.database.close()


async def test_a_flat_lookup_column_may_be_a_path(tenant):
    """`flat_lookup_filter`: 500 in $filter and $orderby, or the same as `X/Id`."""
    (one, _) = await tenant.seed("Account", {"Name": "A", "TypeId": CUSTOMER}, {"Name": "B"})
    assert (await tenant.refused("Account", **{"$filter": FLAT}))[0] == 500
    assert (await tenant.refused("Account", **{"$orderby": "TypeId"}))[0] == 500
    await tenant.settings(flat_lookup_filter="accept")
    assert [row["Id"] for row in await tenant.rows("Account", FLAT)] == [one]
    assert await tenant.names(f"TypeId eq {EMPTY}") == ["B"]
    assert [row["Name"] for row in await tenant.rows("Account", orderby="TypeId desc")] == ["A", "B"]


@pytest.mark.parametrize("path", ["Type/Id", "Type", "Owner/Account/Id"])
async def test_a_lookup_may_be_compared_with_null(tenant, path):
    """`null_lookup_filter`: by navigation or by its id, null finds the empty ones, or is a 500 of the server."""
    await tenant.seed("Account", {"Name": "A", "TypeId": CUSTOMER}, {"Name": "B"})
    assert (await tenant.names(f"{path} eq null"))[-1] == "B"
    await tenant.settings(null_lookup_filter="error")
    answer = await tenant.http.get("/0/odata/Account", params={"$filter": f"{path} eq null"})
    assert (answer.status_code, "Value cannot be null" in answer.text) == (500, True)
    assert await tenant.names("UsrLastCampaignOn eq null and Code eq null") == ["A", "B"]  # others are compared all the same


async def test_not_and_the_lesser_functions_may_be_missing(tenant):
    """`not_operator` and `more_functions`: understood as OData has them, or refused as syntax that nobody knows."""
    await tenant.seed("Account", {"Name": "Alpha"}, {"Name": "Beta"})
    conditions = ["not contains(Name,'lph')", "tolower(Name) eq 'beta'", "length(Name) eq 4"]
    assert [await tenant.names(condition) for condition in conditions] == [["Beta"]] * 3
    await tenant.settings(not_operator=False, more_functions=False)
    assert [(await tenant.refused("Account", **{"$filter": one}))[0] for one in conditions] == [400] * 3
    assert await tenant.names("contains(Name,'lph') or startswith(Name,'x') or endswith(Name,'y')") == ["Alpha"]


async def test_details_may_be_filtered_by(tenant):
    """`lambda_operators`: `any` and `all` over details are refused, or find the rows whose details fit."""
    both, one, _ = ids = await tenant.seed("Account", {"Name": "A"}, {"Name": "B"}, {"Name": "C"})
    await tenant.seed("AccountAddress", *({"AccountId": a, "Zip": z} for a, z in ((both, "1"), (both, "2"), (one, "1"))))
    details = "AccountAddressCollectionByAccount"
    conditions = {
        f"{details}/any(a:a/Zip eq '2')": ["A"],
        f"{details}/any(a:a/Zip eq '1' and a/Account/Name ne 'A')": ["B"],
        f"{details}/all(a:a/Zip eq '1')": ["B", "C"],
        f"not {details}/any()": ["C"],
        f"{details}/any(a:a/Zip eq '2') or Id eq {ids[2]}": ["A", "C"],
    }
    for condition in conditions:
        assert (await tenant.refused("Account", **{"$filter": condition}))[0] == 400
    await tenant.settings(lambda_operators=True)
    assert {condition: await tenant.names(condition) for condition in conditions} == conditions
    for wrong in (f"{details}/any(a:b/Zip eq '1')", "Nothing/any(a:a/Zip eq '1')", f"{details}/any(a:a/Foo eq '1')"):
        assert (await tenant.refused("Account", **{"$filter": wrong}))[0] == 400


async def test_a_client_may_ask_for_smaller_pages(tenant):
    """`honour_maxpagesize`: the preference is ignored, or cuts the answer, with a link to the rest and a word that it was applied."""
    await tenant.seed("Account", *({"Name": f"A{n}"} for n in range(5)))
    prefer = {"Prefer": "odata.maxpagesize=2"}
    whole = await tenant.http.get("/0/odata/Account", headers=prefer)
    assert (len(whole.json()["value"]), "preference-applied" in whole.headers) == (5, False)
    await tenant.settings(honour_maxpagesize=True)
    url, names = "/0/odata/Account?$orderby=Name", []
    while url:
        page = await tenant.http.get(url, headers=prefer)
        assert page.headers["preference-applied"] == "odata.maxpagesize=2"
        names += [row["Name"] for row in page.json()["value"]]
        url = page.json().get("@odata.nextLink")
    assert names == ["A0", "A1", "A2", "A3", "A4"]


async def test_the_memory_guard_may_end_a_wide_read(tenant):
    """`max_answer_bytes` and `memory_status`: a read of too much text is an error of one of two kinds, a narrower one is answered."""
    await tenant.seed("Account", *({"Name": f"A{n}", "Notes": "n" * 1000} for n in range(10)))
    assert len(await tenant.rows("Account")) == 10
    await tenant.settings(max_answer_bytes=8000)
    assert (await tenant.refused("Account"))[0] == 500
    await tenant.settings(memory_status=503)
    status, message = await tenant.refused("Account", **{"$select": "Id,Notes"})
    assert (status, "MaxMemoryUsageToGetDataViaEntityCollection" in message) == (503, True)
    assert len(await tenant.rows("Account", select="Id,Name")) == 10
    assert len(await tenant.rows("Account", top="3", select="Notes")) == 3


async def test_expansions_go_as_deep_as_the_site_allows(tenant):
    """`max_expansion_depth`: two levels as shipped, or another number."""
    await tenant.seed("Account", {"Name": "A"})
    deep = "CreatedBy($expand=Owner($expand=Account))"
    assert (await tenant.refused("Account", **{"$expand": deep}))[0] == 400
    await tenant.settings(max_expansion_depth=3)
    assert (await tenant.rows("Account", expand=deep))[0]["CreatedBy"]["Owner"] is None
    await tenant.settings(max_expansion_depth=0)
    assert (await tenant.refused("Account", **{"$expand": "CreatedBy"}))[0] == 400


async def test_columns_without_a_right_are_empty_or_refused(tenant):
    """`denied_columns` and `denied_column`: what the user may not read looks empty, or asking for it is refused with `right_status`."""
    (row_id,) = await tenant.seed("Account", {"Name": "A", "Code": "secret", "TypeId": CUSTOMER})
    await tenant.settings(denied_columns={"Account": ["Code", "TypeId"]})
    blank = await tenant.get(f"Account({row_id})")
    assert (blank["Name"], blank["Code"], blank["TypeId"]) == ("A", "", EMPTY)
    for status in (403, 500):
        await tenant.settings(denied_column="refuse", right_status=status)
        refused, message = await tenant.refused("Account", **{"$select": "Id,Code"})
        assert (refused, "sufficient permissions to read the column Code" in message) == (status, True)
    assert (await tenant.rows("Account", select="Name"))[0] == {"Name": "A"}


@pytest.mark.parametrize("status", [403, 500])
async def test_sets_without_a_right_or_a_licence_say_so(tenant, status):
    """`blocked_sets`, `unwritable_sets`, `unlicensed_sets` and `right_status`: 403 or 500, in the words of the reason."""
    (row_id,) = await tenant.seed("Account", {"Name": "A"})
    await tenant.settings(right_status=status, unwritable_sets=["Account"])
    assert await tenant.names("Name ne ''") == ["A"]
    refused = await tenant.http.patch(f"/0/odata/Account({row_id})", json={"Name": "B"})
    assert (refused.status_code, "permissions to change Account" in refused.text) == (status, True)
    await tenant.settings(unwritable_sets=[], blocked_sets=["Account"])
    assert await tenant.refused("Account") == (status, "Current user does not have sufficient permissions to read Account.")
    await tenant.settings(blocked_sets=[], unlicensed_sets=["Account"])
    assert await tenant.refused("Account") == (status, "License for the object Account was not found.")
    await tenant.settings(unlicensed_sets=[])
    assert await tenant.names("Name ne ''") == ["A"]


async def test_a_set_is_away_while_it_is_published(tenant):
    """`unpublished_sets`: no row, no list and no metadata knows the set for a while; the others and the rows are as before."""
    (row_id,) = await tenant.seed("Account", {"Name": "A"})
    await tenant.settings(unpublished_sets=["Account"])
    for path in ("Account", f"Account({row_id})", "Account/$count"):
        answer = await tenant.http.get(f"/0/odata/{path}")
        assert (answer.status_code, "No HTTP resource was found" in answer.json()["Message"]) == (404, True)
    assert 'EntityType Name="Account"' not in (await tenant.http.get("/0/odata/$metadata")).text
    assert "Account" not in [one["name"] for one in (await tenant.get(""))["value"]]
    assert len(await tenant.rows("Contact")) > 0
    await tenant.settings(unpublished_sets=[])
    assert await tenant.names("Name ne ''") == ["A"]
    assert 'EntityType Name="Account"' in (await tenant.http.get("/0/odata/$metadata")).text


async def test_the_detail_of_an_unknown_set_may_be_stripped(tenant):
    """`message_detail`: the 404 names the controller, or says no more than that the address leads nowhere."""
    assert "MessageDetail" in (await tenant.http.get("/0/odata/Nope")).json()
    await tenant.settings(message_detail=False)
    assert list((await tenant.http.get("/0/odata/Nope")).json()) == ["Message"]


@pytest.mark.parametrize(("flavour", "prefix"), [("NF", "/0"), ("NC", "")])
async def test_errors_have_the_shape_of_their_flavour(flavour, prefix):
    """`flavour`: on .NET an OData error has an empty `details` too; code and causes are the same."""
    async with _tenant(flavour=flavour) as tenant:
        for url in ("Account?$filter=Foo eq 1", f"Account({uuid.uuid4()})"):
            error = (await tenant.http.get(f"{prefix}/odata/{url}")).json()["error"]
            assert (error["code"], error.get("details")) == ("", [] if flavour == "NC" else None)
            assert error["innererror"]["message"]


async def test_an_id_that_is_not_there_is_404_or_passes_for_done(tenant):
    """`missing_id`: a PATCH or DELETE of nothing is 404, or 204 with nothing done; no setting makes a PATCH an upsert."""
    url = f"/0/odata/Account({uuid.uuid4()})"
    for status in (404, 204):
        await tenant.settings(missing_id=status)
        assert (await tenant.http.patch(url, json={"Name": "A"})).status_code == status
        assert (await tenant.http.delete(url)).status_code == status
        assert (await tenant.http.get(url)).status_code == 404
    assert await tenant.rows("Account") == []
    (hidden,) = await tenant.seed("Account", {"Name": "Hidden"})
    await tenant.settings(hidden_ids={"Account": [hidden]})
    assert (await tenant.http.delete(f"/0/odata/Account({hidden})")).status_code == 204
    assert await tenant.stored("Account", hidden) is not None


async def test_an_id_that_is_there_is_500_or_409(tenant):
    """`duplicate_status`: the database's words come with one of two statuses."""
    (row_id,) = await tenant.seed("Account", {"Name": "A"})
    for status in (500, 409):
        await tenant.settings(duplicate_status=status)
        answer = await tenant.http.post("/0/odata/Account", json={"Id": row_id, "Name": "B"})
        assert (answer.status_code, "duplicate key" in answer.text) == (status, True)


async def test_null_empties_or_is_refused(tenant):
    """`null_values`: null for a lookup, a time or a number empties it, or is 400; a text takes null always."""
    row = await tenant.post("Account", {"Name": "A", "TypeId": CUSTOMER, "UsrEmployees": 5, "Code": "1"})
    url = f"/0/odata/Account({row['Id']})"
    await tenant.settings(null_values="refuse")
    for name in ("TypeId", "UsrEmployees", "UsrCreditLimit", "UsrLastCampaignOn", "UsrActive"):
        answer = await tenant.http.patch(url, json={name: None})
        assert (answer.status_code, f"'{name}'" in answer.text) == (400, True)
    await tenant.patch("Account", row["Id"], {"Code": None, "TypeId": EMPTY, "UsrEmployees": 0})
    await tenant.settings(null_values="clear")
    await tenant.patch("Account", row["Id"], {"TypeId": None, "UsrLastCampaignOn": None, "UsrCreditLimit": None})
    stored = await tenant.stored("Account", row["Id"])
    assert (stored["TypeId"], stored["Code"], stored["UsrEmployees"]) == (None, None, 0)


async def test_the_empty_guid_empties_or_breaks_a_foreign_key(tenant):
    """`empty_guids`: written to a lookup it means nothing, or a row that is not there."""
    row = await tenant.post("Account", {"Name": "A", "TypeId": CUSTOMER})
    await tenant.settings(empty_guids="refuse")
    answer = await tenant.http.patch(f"/0/odata/Account({row['Id']})", json={"TypeId": EMPTY})
    assert (answer.status_code, "foreign key" in answer.text) == (500, True)
    await tenant.settings(empty_guids="clear")
    await tenant.patch("Account", row["Id"], {"TypeId": EMPTY})
    assert (await tenant.stored("Account", row["Id"]))["TypeId"] is None


async def test_lookups_may_be_bound_by_address(tenant):
    """`odata_bind`: an unknown property, or the lookup set by a relative or whole address of its row."""
    bodies = [{"Name": "A", "Type@odata.bind": f"{start}AccountType({CUSTOMER})"} for start in ("", "/", "http://creatio.test/0/odata/")]
    for body in bodies:
        assert (await tenant.http.post("/0/odata/Account", json=body)).status_code == 400
    await tenant.settings(odata_bind="accept")
    for body in bodies:
        assert (await tenant.post("Account", body))["TypeId"] == CUSTOMER
    for wrong in ({"Type@odata.bind": "AccountType"}, {"Foo@odata.bind": f"AccountType({CUSTOMER})"}, {"Type@odata.bind": "T(x)"}):
        assert (await tenant.http.post("/0/odata/Account", json={"Name": "A", **wrong})).status_code == 400


async def test_children_may_be_created_with_their_parent(tenant):
    """`deep_insert`: children in the body are an unknown property, or rows that belong to the new one; a bad one stops all."""
    details = "AccountAddressCollectionByAccount"
    body = {"Name": "A", details: [{"Zip": "1"}, {"Zip": "2"}]}
    assert (await tenant.http.post("/0/odata/Account", json=body)).status_code == 400
    await tenant.settings(deep_insert="accept")
    row = await tenant.post("Account", body)
    assert [one["Zip"] for one in await tenant.rows("AccountAddress", f"Account/Id eq {row['Id']}", orderby="Zip")] == ["1", "2"]
    for wrong, status in (([{"Foo": 1}], 400), ([{"CityId": str(uuid.uuid4())}], 500)):
        assert (await tenant.http.post("/0/odata/Account", json={"Name": "B", details: wrong})).status_code == status
    assert await tenant.names("Name ne ''") == ["A"]


@pytest.mark.parametrize("header", ["application/json", "application/json; IEEE754Compatible=true"])
async def test_decimals_may_come_in_either_form(tenant, header):
    """`lenient_decimals`: the form that IEEE754Compatible says and no other, or number and string alike."""
    fits, other = (b'"1.5"', b"1.5") if "IEEE" in header else (b"1.5", b'"1.5"')

    async def status(value: bytes) -> int:
        body = b'{"Name":"A","UsrCreditLimit":%s}' % value
        return (await tenant.http.post("/0/odata/Account", content=body, headers={"Content-Type": header})).status_code

    assert [await status(fits), await status(other)] == [201, 400]
    await tenant.settings(lenient_decimals=True)
    assert [await status(fits), await status(other)] == [201, 201]


@pytest.mark.parametrize(("hours", "day"), [(0, "2026-01-31"), (-5, "2026-01-30"), (3, "2026-01-31")])
async def test_a_day_is_that_of_the_users_time_zone(tenant, hours, day):
    """`date_offset_hours`: midnight in UTC is the day before for a user west of it; a time of day is moved, not cut, in a DateTime."""
    await tenant.settings(date_offset_hours=hours)
    person = await tenant.post("Contact", {"Name": "Ada B", "BirthDate": "2026-01-31T00:00:00Z"})
    assert person["BirthDate"] == f"{day}T00:00:00Z"
    account = await tenant.post("Account", {"Name": "A", "UsrLastCampaignOn": "2026-01-31T00:00:00Z"})
    assert account["UsrLastCampaignOn"] == "2026-01-31T00:00:00Z"


@pytest.mark.parametrize("digits", [6, 7])
async def test_times_are_kept_with_six_digits_or_seven(tenant, digits):
    """`stored_digits`: a later read shows fewer digits than the answer to the create did, or the same; filters know them exactly."""
    await tenant.settings(stored_digits=digits)
    rows = [await tenant.post("Account", {"Name": f"A{n}"}) for n in range(3)]
    for row in rows:
        read = await tenant.get(f"Account({row['Id']})")
        assert (read["ModifiedOn"] == row["ModifiedOn"]) == (digits == 7)
        assert len(read["ModifiedOn"].rstrip("Z").partition(".")[2]) <= digits
        assert await tenant.names(f"ModifiedOn eq {read['ModifiedOn']}") == [row["Name"]]
        assert await tenant.names(f"ModifiedOn gt {read['ModifiedOn']} and Name eq '{row['Name']}'") == []
        cut = datetime.fromisoformat(read["ModifiedOn"]).isoformat(timespec="microseconds")[:26]
        assert (await tenant.names(f"ModifiedOn le {cut}Z and Name eq '{row['Name']}'") == []) == (digits == 7)


async def test_other_limits_are_numbers_of_the_site(tenant):
    """`max_batch_requests` and `max_query_length`: as shipped, or what the administrator set."""
    await tenant.settings(max_batch_requests=2, max_query_length=60)
    parts = [{"id": str(n), "method": "GET", "url": "Account?$top=1"} for n in range(3)]
    assert len(await tenant.batch(*parts[:2])) == 2
    assert (await tenant.http.post("/0/odata/$batch", json={"requests": parts})).status_code == 400
    assert (await tenant.http.get("/0/odata/Account?$select=Name")).status_code == 200
    assert (await tenant.http.get(f"/0/odata/Account?$select={','.join(['Name'] * 20)}")).status_code == 404


async def test_lookups_to_missing_rows_are_refused_or_kept(tenant):
    """`foreign_keys`: a lookup to nothing is a 500 of the database, or stored as it came; so is a delete of a row that is needed."""
    body = {"Name": "A", "TypeId": str(uuid.uuid4())}
    assert (await tenant.http.post("/0/odata/Account", json=body)).status_code == 500
    await tenant.settings(foreign_keys=False)
    row = await tenant.post("Account", body)
    assert row["TypeId"] == body["TypeId"]
    await tenant.post("Contact", {"Name": "P", "AccountId": row["Id"]})
    await tenant.delete("Account", row["Id"])


async def test_a_row_that_is_needed_stays_or_leaves_empty_lookups(tenant):
    """`delete_referenced`: the delete is refused, or the lookups of the others are emptied."""
    account = await tenant.post("Account", {"Name": "A"})
    person = await tenant.post("Contact", {"Name": "P", "AccountId": account["Id"]})
    assert (await tenant.http.delete(f"/0/odata/Account({account['Id']})")).status_code == 500
    await tenant.settings(delete_referenced="empty")
    await tenant.delete("Account", account["Id"])
    assert (await tenant.get(f"Contact({person['Id']})"))["AccountId"] == EMPTY


async def test_nul_in_a_text_is_refused_or_kept(tenant):
    """`nul_in_text`: PostgreSQL stores no U+0000, SQL Server does."""
    body = {"Name": "a\0b"}
    assert (await tenant.http.post("/0/odata/Account", json=body)).status_code == 500
    await tenant.settings(nul_in_text="accept")
    assert (await tenant.post("Account", body))["Name"] == "a\0b"
