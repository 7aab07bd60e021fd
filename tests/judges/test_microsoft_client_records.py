"""Microsoft's client of Dataverse takes our stand-in for the real thing: log-in, rows, queries, errors."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from azure.core.exceptions import ClientAuthenticationError
from PowerPlatform.Dataverse.core.errors import HttpError
from PowerPlatform.Dataverse.models.filters import FilterExpression, col, raw
from PowerPlatform.Dataverse.models.query_builder import ExpandOption
from PowerPlatform.Dataverse.models.upsert import UpsertItem

from tests.judges.microsoft_site import MISSING, open_site

HOSTILE = "Müller & Söhne + 100 % O'Brian #1/2? =;"
FORMATTED = "OData.Community.Display.V1.FormattedValue"


def test_it_logs_in_at_entra_once(directory, site) -> None:
    """The token comes from the Entra stand-in by client credentials, and is kept for the calls after the first one."""
    before = sum(number for label, number in directory.panel.requests().items() if "token" in label)
    for name in ("A", "B"):
        site.client.records.create("account", {"name": name})
    after = sum(number for label, number in directory.panel.requests().items() if "token" in label)
    assert (after - before, site.names()) == (1, ["A", "B"])


def test_a_wrong_secret_gets_no_further_than_entra(trusted) -> None:
    """Entra's refusal reaches the caller as azure-identity's own error, and Dataverse is never asked."""
    with open_site(trusted, secret="wrong") as site:
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
            site.client.records.create("account", {"name": "A"})
        assert site.panel.requests() == {}


def test_create_one(site) -> None:
    """A row is stored as given: texts, numbers, a choice by its label, a lookup by its address; the id comes from the header."""
    contact_id = site.client.records.create("contact", {"lastname": "Krüger"})
    bound = {"primarycontactid@odata.bind": f"/contacts({contact_id})"}
    row_id = site.client.records.create("account", {"Name": HOSTILE, "revenue": 12.5, "industrycode": "Accounting", **bound})
    row = site.client.records.retrieve("account", row_id, select=["name", "revenue", "industrycode", "_primarycontactid_value"])
    found = row["name"], row["revenue"], row["industrycode"], row["_primarycontactid_value"]
    assert found == (HOSTILE, 12.5, 1, contact_id)
    assert site.stored()[row_id]["name"] == HOSTILE


def test_create_many_is_one_request_and_keeps_the_order(site) -> None:
    """A list becomes CreateMultiple, and the ids stand in the order of the rows."""
    ids = site.client.records.create("account", [{"name": f"A{number}"} for number in range(20)])
    stored = site.stored()
    assert [stored[row_id]["name"] for row_id in ids] == [f"A{number}" for number in range(20)]
    assert site.panel.requests()["POST accounts/CreateMultiple"] == 1
    assert "POST accounts" not in site.panel.requests()


def test_create_many_is_all_or_nothing(site) -> None:
    """One row with a text that is too long leaves none."""
    with pytest.raises(HttpError) as caught:
        site.client.records.create("account", [{"name": "A"}, {"name": "x" * 161}])
    assert (caught.value.status_code, caught.value.details["service_error_code"]) == (400, "0x80044331")
    assert site.names() == []


def test_retrieve(site) -> None:
    """One row with its version, formatted values and an expanded lookup; a row that is not there is None."""
    contact_id = site.client.records.create("contact", {"lastname": "Sato"})
    bound = {"primarycontactid@odata.bind": f"/contacts({contact_id})"}
    row_id = site.client.records.create("account", {"name": "A", "industrycode": 1, **bound})
    row = site.client.records.retrieve(
        "account", row_id, select=["name", "industrycode"], expand=["primarycontactid($select=lastname)"], include_annotations=FORMATTED
    )
    assert row.etag.startswith('W/"')
    assert (row["name"], row[f"industrycode@{FORMATTED}"]) == ("A", "Accounting")
    assert row["primarycontactid"]["lastname"] == "Sato"
    assert site.client.records.retrieve("account", MISSING) is None


def test_pages(site) -> None:
    """Following the next links brings every row once, in order, in pages of the size asked for."""
    site.client.records.create("account", [{"name": f"A{number:02}", "fax": "same"} for number in range(25)])
    pages = list(site.client.records.list_pages("account", select=["name"], orderby=["fax", "name desc"], page_size=10))
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [row["name"] for page in pages for row in page] == [f"A{number:02}" for number in reversed(range(25))]
    assert len(site.client.records.list("account", select=["name"], page_size=7)) == 25


ROWS = [
    {"name": HOSTILE, "numberofemployees": 5, "creditonhold": True, "fax": "1"},
    {"name": "Über GmbH", "numberofemployees": 50, "industrycode": 1},
    {"name": "Contoso", "numberofemployees": 500, "industrycode": 6, "tandem_creatioid": MISSING},
]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (col("name") == HOSTILE, [HOSTILE]),
        (col("name") != HOSTILE, ["Contoso", "Über GmbH"]),
        (col("name").startswith("über"), ["Über GmbH"]),
        (col("name").contains("& Söhne + 100 %"), [HOSTILE]),
        (col("name").endswith("gmbh"), ["Über GmbH"]),
        (col("name").in_(["Über GmbH", "Contoso"]), ["Contoso", "Über GmbH"]),
        (col("numberofemployees").in_([5, 500]), ["Contoso", HOSTILE]),
        (col("numberofemployees").not_in([5, 500]), ["Über GmbH"]),
        (col("numberofemployees").between(50, 500), ["Contoso", "Über GmbH"]),
        ((col("numberofemployees") > 5) & ~(col("industrycode") == 6), ["Über GmbH"]),
        ((col("numberofemployees") <= 5) | (col("industrycode") == 6), ["Contoso", HOSTILE]),
        (col("creditonhold") == True, [HOSTILE]),  # noqa: E712 - the operator builds a filter
        (col("industrycode").is_null(), [HOSTILE]),
        (col("fax").is_not_null(), [HOSTILE]),
        (col("accountid") == UUID(MISSING), []),
        (col("tandem_creatioid") == MISSING, ["Contoso"]),
        (col("createdon") > datetime(2000, 1, 1, tzinfo=UTC), ["Contoso", HOSTILE, "Über GmbH"]),
        (col("createdon") < datetime(2000, 1, 1, 1, 2, 3, 4, tzinfo=UTC), []),
        (raw("Microsoft.Dynamics.CRM.LastXDays(PropertyName='createdon',PropertyValue=1) and statecode eq 0"), None),
    ],
    ids=str,
)
def test_filters(site, condition: FilterExpression, expected: list[str] | None) -> None:
    """Each condition that its filter objects can say finds the rows it means."""
    site.client.records.create("account", ROWS)
    found = site.client.records.list("account", select=["name"], filter=condition)
    assert sorted(row["name"] for row in found) == (expected if expected is not None else sorted(row["name"] for row in ROWS))


def test_order_and_top(site) -> None:
    """Sorting by two columns and cutting off after the first rows."""
    site.client.records.create(
        "account", [{"name": name, "numberofemployees": number} for name, number in zip("abcd", [1, 2, 2, 3], strict=True)]
    )
    found = site.client.records.list("account", select=["name"], orderby=["numberofemployees desc", "name desc"], top=3)
    assert [row["name"] for row in found] == ["d", "c", "b"]


def test_the_query_builder(site) -> None:
    """Its query objects are understood: expansion with chosen columns, formatted values, count, pages."""
    contact_id = site.client.records.create("contact", {"lastname": "Amsel"})
    bound = {"primarycontactid@odata.bind": f"/contacts({contact_id})"}
    site.client.records.create("account", [{"name": name, "industrycode": 1, **bound} for name in "ABC"])
    contact = ExpandOption("primarycontactid").select("lastname", "fullname")
    query = site.client.query.builder("account").select("name", "industrycode").where(col("name") != "B").order_by("name", descending=True)
    rows = query.expand(contact).include_formatted_values().count().page_size(1).execute()
    assert [(row["name"], row[f"industrycode@{FORMATTED}"]) for row in rows] == [("C", "Accounting"), ("A", "Accounting")]
    assert {row["primarycontactid"]["lastname"] for row in rows} == {"Amsel"}


def test_update_one(site) -> None:
    """Only what was sent changes; a row that is not there is 404 and is not made anew."""
    row_id = site.client.records.create("account", {"name": "A", "fax": "1"})
    site.client.records.update("account", row_id, {"Fax": "2"})
    assert (site.stored()[row_id]["name"], site.stored()[row_id]["fax"]) == ("A", "2")
    with pytest.raises(HttpError) as caught:
        site.client.records.update("account", MISSING, {"fax": "2"})
    assert (caught.value.status_code, caught.value.details["service_error_code"]) == (404, "0x80040217")
    assert len(site.stored()) == 1


def test_update_many(site) -> None:
    """One change for all rows and one for each row are UpdateMultiple; a row that is not there undoes the whole call."""
    ids = site.client.records.create("account", [{"name": "A"}, {"name": "B"}])
    site.client.records.update("account", ids, {"fax": "1"})
    site.client.records.update("account", ids, [{"name": "A1"}, {"name": "B1"}])
    assert [(site.stored()[row_id]["name"], site.stored()[row_id]["fax"]) for row_id in ids] == [("A1", "1"), ("B1", "1")]
    with pytest.raises(HttpError) as caught:
        site.client.records.update("account", [*ids, MISSING], {"fax": "2"})
    assert caught.value.status_code == 404
    assert {row["fax"] for row in site.stored().values()} == {"1"}
    assert site.panel.requests()["POST accounts/UpdateMultiple"] == 3


def test_upsert_by_alternate_key(site) -> None:
    """The first call makes the row, the second one changes it; several rows go as UpsertMultiple."""
    key = {"tandem_creatioid": "42"}
    site.client.records.upsert("account", [UpsertItem(key, {"name": "A"})])
    (row_id,) = site.stored()
    site.client.records.upsert("account", [UpsertItem(key, {"name": "B"})])
    assert {found: row["name"] for found, row in site.stored().items()} == {row_id: "B"}
    items = [UpsertItem(key, {"name": "C"}), UpsertItem({"tandem_creatioid": "43"}, {"name": "D"})]
    site.client.records.upsert("account", items)
    assert {row["tandem_creatioid"]: row["name"] for row in site.stored().values()} == {"42": "C", "43": "D"}
    assert site.stored()[row_id]["name"] == "C"


def test_delete(site) -> None:
    """One row; many as a BulkDelete job, with its id; many one by one; a row that is not there is 404."""
    ids = site.client.records.create("account", [{"name": name} for name in "ABCDEF"])
    site.client.records.delete("account", ids[0])
    assert UUID(site.client.records.delete("account", ids[1:3]))
    assert site.names_after_jobs(3) == ["D", "E", "F"]
    assert site.client.records.delete("account", ids[3:5], use_bulk_delete=False) is None
    assert site.names() == ["F"]
    with pytest.raises(HttpError) as caught:
        site.client.records.delete("account", ids[0])
    assert (caught.value.status_code, caught.value.subcode) == (404, "http_404")


def test_a_key_that_is_taken_is_412(site) -> None:
    """The alternate key holds rows unique, and the error says so by status and code."""
    site.client.records.create("account", {"tandem_creatioid": "42"})
    with pytest.raises(HttpError, match="already exists") as caught:
        site.client.records.create("account", {"tandem_creatioid": "42"})
    error = caught.value
    assert (error.status_code, error.subcode, error.details["service_error_code"]) == (412, "http_412", "0x80060892")
    assert (error.is_transient, error.source) == (False, "server")
    assert UUID(error.details["service_request_id"])


@pytest.mark.parametrize(
    ("rule", "status", "code", "transient", "retry_after"),
    [
        ({"kind": "status", "status": 429, "retry_after": 7}, 429, "0x80072322", True, 7),
        ({"kind": "status", "status": 429}, 429, "0x80072322", True, None),
        ({"kind": "status", "status": 503, "body": "html"}, 503, None, True, None),
        ({"kind": "status", "status": 500, "body": "deadlock"}, 500, "0x80044150", False, None),
        ({"kind": "admin_mode"}, 403, "0x80040220", False, None),
        ({"kind": "expire"}, 401, None, False, None),
    ],
)
def test_trouble_is_told_apart(site, rule, status, code, transient, retry_after) -> None:
    """Throttling with its wait, outages in HTML, SQL trouble, admin mode and a revoked token reach the caller as what they are."""
    site.client.records.list("account", top=1)
    site.panel.misbehave(**rule, times=1)
    with pytest.raises(HttpError) as caught:
        site.client.records.list("account", top=1)
    error = caught.value
    assert (error.status_code, error.details.get("service_error_code"), error.is_transient) == (status, code, transient)
    assert error.details.get("retry_after") == retry_after


def test_limits_are_those_of_the_service(trusted) -> None:
    """The request beyond the limit of the window is 429 with a wait, as the service protection answers it."""
    with open_site(trusted, request_limit=3) as site:
        site.client.records.list("account", top=1)  # two requests: the first asks what the table's set is called
        site.client.records.list("account", top=1)
        with pytest.raises(HttpError) as caught:
            site.client.records.list("account", top=1)
        assert (caught.value.status_code, caught.value.details["service_error_code"]) == (429, "0x80072322")
        assert caught.value.details["retry_after"] > 0


def test_a_lost_reply_doubles_a_row(site) -> None:
    """The client sends a POST again whose reply was lost, so that the row is there twice: the trap our adapter must not fall into."""
    site.client.records.list("account", top=1)
    site.panel.misbehave(kind="drop_after", method="POST", times=1)
    site.client.records.create("account", {"name": "A"})
    assert site.names() == ["A", "A"]
