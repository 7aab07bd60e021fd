"""The pure pieces of the Creatio adapter: URLs, filters, CSDL, batches, values, and the table of errors."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import Denied, Rejected, TandemError, Transient
from shared.core.records import Column, ColumnType, Value, normalise, path_of
from shared.systems.creatio_csdl import Model, parse_model
from shared.systems.creatio_errors import Answer, Asked, answer_of, error_of, failed, messages
from shared.systems.creatio_values import denormalise
from shared.systems.creatio_wire import (
    Part,
    build_batch,
    collection_url,
    grouped_filters,
    ids_filter,
    key_filter,
    link_url,
    parse_batch,
    read_row,
    record_url,
    since_filter,
)

GUID = "03A75490-53E6-DF11-971B-001D60E938C6"
CSDL = b"""<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="Terrasoft.Configuration.OData" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<EntityType Name="Account"><Property Name="Id" Type="Edm.Guid" Nullable="false"/></EntityType>
<EntityType Name="Contact">
  <Property Name="Id" Type="Edm.Guid" Nullable="false"/>
  <Property Name="Name" Type="Edm.String" Nullable="false" MaxLength="250"/>
  <Property Name="Notes" Type="Edm.String" MaxLength="Max"/>
  <Property Name="FacebookId" Type="Edm.String"/>
  <Property Name="ProcessId" Type="Edm.Guid"/>
  <Property Name="AccountId" Type="Edm.Guid"/>
  <Property Name="BoundId" Type="Edm.Guid"/>
  <Property Name="Amount" Type="Edm.Decimal" Scale="2"/>
  <Property Name="Age" Type="Edm.Int32"/>
  <Property Name="Confirmed" Type="Edm.Boolean"/>
  <Property Name="BirthDate" Type="Edm.DateTimeOffset"/>
  <Property Name="Day" Type="Edm.Date"/>
  <Property Name="ModifiedOn" Type="Edm.DateTimeOffset"/>
  <Property Name="ContactPhoto" Type="Edm.Stream"/>
  <NavigationProperty Name="Account" Type="Terrasoft.Configuration.OData.Account" Partner="ContactCollectionByAccount"/>
  <NavigationProperty Name="Facebook" Type="Terrasoft.Configuration.OData.Account"/>
  <NavigationProperty Name="Other" Type="Terrasoft.Configuration.OData.Account">
    <ReferentialConstraint Property="BoundId" ReferencedProperty="Id"/></NavigationProperty>
  <NavigationProperty Name="Process" Type="Collection(Terrasoft.Configuration.OData.Account)"/>
</EntityType></Schema></edmx:DataServices></edmx:Edmx>"""


@pytest.fixture
def model() -> Model:
    """Return the object `Contact` of the sample."""
    parsed = parse_model(CSDL, "Contact")
    assert parsed is not None
    return parsed


def test_lookups_are_those_with_a_navigation(model: Model) -> None:
    """A guid column with a navigation property is a lookup to its type; texts and plain guids ending in Id are not."""
    kinds = {name: column.type for name, column in model.columns.items()}
    assert kinds["AccountId"] is kinds["BoundId"] is ColumnType.LOOKUP
    assert model.columns["AccountId"].targets == ("Account",)
    assert (kinds["FacebookId"], kinds["ProcessId"], kinds["Id"]) == (ColumnType.TEXT, ColumnType.ID, ColumnType.ID)
    assert model.navigations["BoundId"] == "Other"


def test_facets_count_only_where_they_stand(model: Model) -> None:
    """Lengths and scales are taken from the document and never guessed; streams have no value and are left out."""
    columns = model.columns
    assert (columns["Name"].max_length, columns["Notes"].max_length, columns["FacebookId"].max_length) == (250, None, None)
    assert (columns["Amount"].scale, columns["Age"].type, columns["Day"].type) == (2, ColumnType.INTEGER, ColumnType.DATE)
    assert columns["Name"].required
    assert not columns["Notes"].required
    assert "ContactPhoto" not in columns
    assert not columns["ModifiedOn"].updatable


def test_an_object_that_is_not_there_is_none() -> None:
    """An unknown object is no error of the document; a document that is no CSDL is one."""
    assert parse_model(CSDL, "contact") is None
    for text in (b"", b"<html></html>", b"{}", CSDL[:500], b"<!DOCTYPE a><edmx/>"):
        with pytest.raises(ValueError, match="metadata document"):
            parse_model(text, "Contact")


def test_urls_name_only_identifiers() -> None:
    """A name that could change a URL is refused; options stand in a fixed order."""
    url = collection_url("Contact", select=("Id", "Name"), where="Id eq 1", order="Id", top=5, skip=2, count=True)
    assert url == "Contact?$select=Id,Name&$filter=Id%20eq%201&$orderby=Id&$top=5&$skip=2&$count=true"
    for name in ("Contact?x", "Contact/Name", "a b", "", "Näme", "1a"):
        with pytest.raises(ValueError, match="allowed"):
            collection_url(name)
        with pytest.raises(ValueError, match="allowed"):
            collection_url("Contact", select=(name if path_of(name) is None else f"{name}/Id",))


def test_guids_stand_bare() -> None:
    """Creatio.md 9.5: keys and id filters are bare lower-case guids; anything else is refused before it is sent."""
    assert record_url("Contact", GUID) == f"Contact({GUID.lower()})"
    assert ids_filter([GUID, GUID]) == f"Id eq {GUID.lower()} or Id eq {GUID.lower()}"
    for bad in ("x", "", f"'{GUID}'", f"{GUID})"):
        with pytest.raises(ValueError, match="guid"):
            record_url("Contact", bad)
        with pytest.raises(ValueError, match="guid"):
            ids_filter([bad])


def test_dates_are_never_quoted() -> None:
    """Creatio.md 9.5: a quoted date is a text to the server; microseconds stay."""
    moment = datetime(2024, 7, 5, 6, 33, 37, 315174, timezone(timedelta(hours=2)))
    assert since_filter(moment) == "ModifiedOn ge 2024-07-05T04:33:37.315174Z"
    assert since_filter(None) == ""


def test_keys_become_typed_filters(model: Model) -> None:
    """Each type has its literal; lookups go through their navigation; a text that looks like a guid stays a text."""
    assert key_filter({"AccountId": GUID}, model) == f"Account/Id eq {GUID.lower()}"
    assert key_filter({"BoundId": GUID, "Age": 3}, model) == f"Other/Id eq {GUID.lower()} and Age eq 3"
    assert unquote(key_filter({"Name": GUID}, model)) == f"Name eq '{GUID}'"
    assert key_filter({"Amount": Decimal("1E+2"), "Confirmed": False}, model) == "Amount eq 100 and Confirmed eq false"
    assert key_filter({"BirthDate": date(2000, 2, 29)}, model) == "BirthDate eq 2000-02-29T00:00:00Z"
    for name, value in (("AccountId", "x"), ("Age", "3"), ("Name", 3), ("Name", None), ("Confirmed", 1), ("Age", (1, 2))):
        with pytest.raises(ValueError, match="allowed"):
            key_filter({name: value}, model)
    with pytest.raises(Rejected, match="unknown_column"):
        key_filter({"Nope": "x"}, model)


@pytest.mark.parametrize("text", ["a\x00b", "half \ud800", "\udfff"])
def test_a_text_that_the_database_can_not_hold_is_refused_by_its_column(text: str) -> None:
    """U+0000 and half a surrogate pair are never asked for: the error lasts, and names the column of the key."""
    model = Model("Contact", {"Name": Column("Name", ColumnType.TEXT)}, {})
    with pytest.raises(Rejected) as caught:
        key_filter({"Name": text}, model)
    assert (caught.value.code, caught.value.field) == ("creatio.bad_request", "Name")


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=60))
def test_no_text_leaves_its_literal(text: str) -> None:
    """Whatever a text holds, its filter is one literal: quotes doubled, nothing that ends the query or the URL."""
    model = Model("Contact", {"Name": Column("Name", ColumnType.TEXT)}, {})
    made = key_filter({"Name": text}, model)
    encoded = made.removeprefix("Name eq '").removesuffix("'")
    assert not set(encoded) & set(" &#?'\"+/\n")
    assert unquote(encoded).replace("''", "'") == text


def test_filters_are_grouped_by_number_and_length() -> None:
    """Creatio.md 9.12: a shared filter has at most 15 comparisons and fits a URL; a giant one stands alone; none is lost."""
    assert grouped_filters([], []) == []
    assert [len(group) for group in grouped_filters(["a eq 1"] * 40, [1] * 40)] == [15, 15, 10]
    assert [len(group) for group in grouped_filters(["a eq 1 and b eq 2"] * 10, [2] * 10)] == [7, 3]
    assert grouped_filters(["long", "longer"], [16, 20]) == [[0], [1]]
    groups = grouped_filters(["x" * 900, "y" * 900, "z" * 5000, "w"], [1] * 4)
    assert groups == [[0], [1], [2], [3]]


def test_batches_are_exact_json() -> None:
    """Creatio.md 9.7: money is written as its digits, never through a float; ids are unique; more than 100 parts are refused."""
    body = build_batch([Part("GET", "A"), Part("PATCH", "A(1)", {"Amount": Decimal("12345678901234567.10"), "Name": 'a"b\n'})])
    assert b'"Amount":12345678901234567.10' in body
    requests = json.loads(body)["requests"]
    assert [request["id"] for request in requests] == ["1", "2"]
    assert "body" not in requests[0]
    for parts in ([], [Part("GET", "A")] * 101):
        with pytest.raises(ValueError, match="1 to 100"):
            build_batch(parts)


def test_batch_answers_are_found_by_id() -> None:
    """Answers come in any order with any group names; a part that is absent is None, a number is as good as a text."""
    responses = [{"id": 3, "status": 204}, {"id": "1", "status": 201, "atomicityGroup": "new", "body": {"a": 1}}]
    answers = parse_batch({"responses": responses}, 3)
    assert [answer.status if answer else None for answer in answers] == [201, None, 204]
    assert answers[0] is not None
    assert answers[0].body == {"a": 1}


def test_next_links_keep_their_form() -> None:
    """An absolute link is sent as it stands, a relative one below the root."""
    assert link_url("https://h/0/odata/A?x=%27", "0/odata") == "https://h/0/odata/A?x=%27"
    assert link_url("A?$skip=1", "odata") == "odata/A?$skip=1"
    assert link_url("/0/odata/A?$skip=1", "0/odata") == "0/odata/A?$skip=1"


def test_seven_digits_are_cut_to_six(model: Model) -> None:
    """Creatio.md 9.8: times with seven digits compare equal to what is stored with six."""
    seven = read_row({"Id": GUID, "ModifiedOn": "2022-04-07T09:37:58.5679414Z"}, (), model, "")
    six = read_row({"Id": GUID.lower(), "ModifiedOn": "2022-04-07T09:37:58.567941Z"}, (), model, "")
    assert seven == six
    assert seven.id == GUID.lower()


TYPES: list[tuple[ColumnType, Value, Any]] = [
    (ColumnType.TEXT, None, ""),
    (ColumnType.TEXT, "0", "0"),
    (ColumnType.INTEGER, None, 0),
    (ColumnType.INTEGER, -5, -5),
    (ColumnType.DECIMAL, None, 0),
    (ColumnType.DECIMAL, Decimal("0.10"), Decimal("0.10")),
    (ColumnType.BOOLEAN, None, False),
    (ColumnType.BOOLEAN, True, True),
    (ColumnType.LOOKUP, None, None),
    (ColumnType.LOOKUP, GUID, GUID.lower()),
    (ColumnType.DATETIME, None, None),
    (ColumnType.DATETIME, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
    (ColumnType.DATETIME, date(2026, 1, 2), "2026-01-02T00:00:00Z"),
    (ColumnType.DATE, date(2026, 1, 2), "2026-01-02"),
]


@pytest.mark.parametrize(("kind", "value", "wire"), TYPES)
def test_values_go_out_and_come_back(kind: ColumnType, value: Value, wire: Any) -> None:
    """Creatio.md 9.6: each empty value has the wire form that reads back as empty, each filled one its own."""
    column = Column("X", kind)
    sent = denormalise(value, column)
    assert sent == wire
    assert type(sent) is type(wire)
    if not (kind is ColumnType.BOOLEAN and value is None) and not (kind is ColumnType.DATETIME and type(value) is date):
        back = normalise(sent, column, side_without_null=True)
        assert back == (value.lower() if isinstance(value, str) else value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ColumnType.TEXT, 1),
        (ColumnType.INTEGER, True),
        (ColumnType.INTEGER, Decimal(1)),
        (ColumnType.INTEGER, "1"),
        (ColumnType.DECIMAL, True),
        (ColumnType.DECIMAL, "1"),
        (ColumnType.DECIMAL, Decimal("NaN")),
        (ColumnType.BOOLEAN, 1),
        (ColumnType.LOOKUP, "Customer"),
        (ColumnType.DATETIME, "2026-01-01"),
        (ColumnType.DATETIME, datetime(2026, 1, 1)),  # noqa: DTZ001 - a time without zone is the case
        (ColumnType.TEXT, ("a", "b")),
    ],
)
def test_values_that_do_not_fit_are_refused(kind: ColumnType, value: Value) -> None:
    """A value of another type is refused here instead of being sent as something else."""
    with pytest.raises(ValueError, match="allowed"):
        denormalise(value, Column("X", kind))


def odata(message: str, inner: str = "", innermost: str = "") -> dict[str, Any]:
    """Return an error body as OData has it."""
    nested: dict[str, Any] = {"message": inner, "type": "T", "stacktrace": "secret stack"}
    if innermost:
        nested["internalexception"] = {"message": innermost}
    return {"error": {"code": "", "message": message, **({"innererror": nested} if inner or innermost else {})}}


WRITE = Asked("Account", "id", writes=True, part=True)
READ = Asked("Account", part=True)
WHOLE = Asked("Account")
TABLE: list[tuple[int, Any, Asked, type[TandemError], str, str]] = [
    (400, odata("Could not find a property named 'Foo' on type 'T'."), READ, Rejected, "unknown_column", "Foo"),
    (400, odata("x", "The property 'Foo' does not exist on type 'T'."), WRITE, Rejected, "unknown_column", "Foo"),
    (500, odata("x", "x", "Column by path AccountId not found in schema Contact"), READ, Rejected, "unknown_column", "AccountId"),
    (500, odata("Column by path AccountId not found in schema Contact"), WHOLE, Rejected, "unknown_column", "AccountId"),
    (500, odata("Column Name is required"), WRITE, Rejected, "required", "Name"),
    (500, odata("x", "x", '23502: null value in column "Name" violates not-null constraint'), WRITE, Rejected, "required", "Name"),
    (500, odata("x", '23505: duplicate key value violates unique constraint "PK"'), WRITE, Rejected, "duplicate", ""),
    (500, odata("x", "Violation of PRIMARY KEY constraint 'PK'. Cannot insert duplicate key"), WRITE, Rejected, "duplicate", ""),
    (500, odata("x", "22001: value too long for type character varying(250)"), WRITE, Rejected, "too_long", ""),
    (500, odata("x", "data would be truncated in table 'a.dbo.Account', column 'Name'."), WRITE, Rejected, "too_long", "Name"),
    (500, odata("x", "22003: numeric field overflow"), WRITE, Rejected, "out_of_range", ""),
    (500, odata("x", "violates foreign key constraint"), WRITE, Rejected, "refused", ""),
    (500, odata("Current user does not have sufficient permissions to do it"), WRITE, Rejected, "refused", ""),
    (500, odata("Current user does not have sufficient permissions to do it"), WHOLE, Denied, "denied", ""),
    (500, odata("Transaction was deadlocked on lock resources"), WRITE, Transient, "unavailable", ""),
    (500, odata("something else"), WRITE, Rejected, "refused", ""),
    (500, odata("something else"), READ, Transient, "unavailable", ""),
    (400, odata("The query specified in the URI is not valid."), READ, Rejected, "bad_request", ""),
    (401, {"Message": "Authentication failed."}, WHOLE, Transient, "session_expired", ""),
    (200, {"Message": "Authentication failed.", "ExceptionType": "S"}, WHOLE, Transient, "session_expired", ""),
    (200, {"error": {"message": "late failure"}}, WRITE, Rejected, "refused", ""),
    (403, None, WHOLE, Denied, "denied", ""),
    (403, odata("no"), WRITE, Rejected, "refused", ""),
    (403, odata("no"), READ, Denied, "denied", ""),
    (403, None, READ, Denied, "denied", ""),
    (404, odata("not there"), WRITE, Rejected, "not_found", ""),
    (404, odata("not there"), WHOLE, Rejected, "unknown_entity", ""),
    (404, {"Message": "No HTTP resource was found that matches the request URI 'x'."}, READ, Rejected, "unknown_entity", ""),
    (429, None, WHOLE, Transient, "throttled", ""),
    (502, None, WHOLE, Transient, "unavailable", ""),
    (302, None, WHOLE, Transient, "session_expired", ""),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "asked", "group", "code", "field"), TABLE)
def test_the_table_of_errors(status: int, body: Any, asked: Asked, group: type[TandemError], code: str, field: str) -> None:
    """Creatio.md 3: each known failure has its group, its code, and the column where the server names one."""
    answer = Answer(status, body)
    assert failed(answer)
    error = error_of(answer, asked)
    assert (type(error), error.code, error.field, error.entity) == (group, f"creatio.{code}", field, "Account")


def test_reading_error_message_only() -> None:
    """Creatio.md 9.13: the innermost exception is the cause that people are shown, and stack traces never are."""
    body = odata("An error has occurred.", "wrapper", "the real cause")
    assert messages(body)[0] == "the real cause"
    error = error_of(Answer(500, body), WRITE)
    assert error.said == "the real cause"
    assert "secret stack" not in str(error)
    assert messages({"Message": "m", "ExceptionMessage": "e"}) == ("e", "m")


def test_assuming_every_error_body_is_json() -> None:
    """Creatio.md 9.13: HTML, nothing and alien JSON are errors by status, without their text."""
    for content in (b"<html><body>secret page</body></html>", b"", b"[1]", b'"x"', b"\xff"):
        error = error_of(answer_of(500, "text/html", content), WHOLE)
        assert error.code == "creatio.unavailable"
        assert "secret" not in str(error)


def test_what_a_customer_typed_is_masked() -> None:
    """Law 13 and design 7: the record's own values and quoted literals never stand in an error."""
    asked = Asked("Account", "id", writes=True, part=True, values=("Geheim GmbH", Decimal("4711.50"), None))
    error = error_of(Answer(500, odata("Rule failed for Geheim GmbH with 4711.50 and 'Quoted Ltd'")), asked)
    assert not any(text in str(error) for text in ("Geheim", "4711", "Quoted"))
