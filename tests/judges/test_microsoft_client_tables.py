"""Microsoft's client of Dataverse reads and changes the definitions of our stand-in: tables, columns, keys."""

import pytest
from PowerPlatform.Dataverse.core.errors import HttpError, MetadataError
from PowerPlatform.Dataverse.models.filters import col
from PowerPlatform.Dataverse.models.upsert import UpsertItem


def test_tables(site) -> None:
    """A table is found by its name in any case, all of them are listed, with a filter and chosen properties too."""
    account = site.client.tables.get("Account")
    assert (account.logical_name, account.entity_set_name, account.primary_id_attribute) == ("account", "accounts", "accountid")
    assert site.client.tables.get("nothing") is None
    assert {"account", "contact", "systemuser"} <= {table["LogicalName"] for table in site.client.tables.list()}
    (contact,) = site.client.tables.list(filter="SchemaName eq 'Contact'", select=["LogicalName", "MetadataId"])
    assert contact["LogicalName"] == "contact"
    with pytest.raises(MetadataError):
        site.client.records.create("accounts", {"name": "the set's name in place of the table's"})


def test_columns(site) -> None:
    """Columns are listed, filtered and read one by one; one that is not there is None."""
    money = site.client.tables.list_columns("account", select=["LogicalName", "AttributeType"], filter="AttributeType eq 'Money'")
    assert {"revenue", "revenue_base"} <= {column["LogicalName"] for column in money}
    assert {column["AttributeType"] for column in money} == {"Money"}
    name = site.client.tables.get_column("account", "Name")
    assert (name["AttributeType"], name["MaxLength"], name["IsPrimaryName"]) == ("String", 160, True)
    assert site.client.tables.get_column("account", "nothing") is None
    names = {column["name"] for column in site.client.query.sql_columns("account")}
    assert {"name", "accountid", "tandem_creatioid"} <= names


COLUMNS = {
    "new_Text": "string",
    "new_Short": {"type": "string", "max_length": 5},
    "new_Long": "memo",
    "new_Number": "int",
    "new_Stars": {"type": "int", "min_value": 1, "max_value": 5},
    "new_Share": "decimal",
    "new_Amount": "money",
    "new_Flag": "bool",
    "new_Moment": "datetime",
}
VALUES = {
    "new_text": "ü",
    "new_short": "12345",
    "new_long": "line\nline",
    "new_number": -7,
    "new_stars": 5,
    "new_share": 1.25,
    "new_amount": 99.5,
    "new_flag": True,
}


def test_columns_are_added_used_and_removed(site) -> None:
    """Columns of every type the stand-in makes hold their values and their bounds, and go again."""
    assert site.client.tables.add_columns("account", COLUMNS) == list(COLUMNS)
    row_id = site.client.records.create("account", {"name": "A", **VALUES})
    row = site.client.records.retrieve("account", row_id, select=list(VALUES))
    assert {name: row[name] for name in VALUES} == VALUES
    for name, value in (("new_short", "123456"), ("new_stars", 6)):
        with pytest.raises(HttpError) as caught:
            site.client.records.update("account", row_id, {name: value})
        assert caught.value.status_code == 400
    assert site.client.tables.remove_columns("account", ["new_Text", "new_Flag"]) == ["new_Text", "new_Flag"]
    assert site.client.tables.get_column("account", "new_text") is None
    assert len(site.client.records.list("account", filter=col("new_share") == 1.25)) == 1


def test_a_column_is_changed(site) -> None:
    """The client reads the whole definition, puts it back with another length, and longer texts fit."""
    site.client.tables.add_columns("account", {"new_Short": {"type": "string", "max_length": 5}})
    site.client.tables.update_column("account", "new_Short", {"max_length": 10})
    assert site.client.tables.get_column("account", "new_short")["MaxLength"] == 10
    row_id = site.client.records.create("account", {"new_short": "1234567890"})
    assert site.stored()[row_id]["new_short"] == "1234567890"


@pytest.mark.parametrize(("columns", "status"), [({"Text": "string"}, 400), ({"tandem_CreatioId": "string"}, 400)])
def test_columns_that_are_refused(site, columns, status) -> None:
    """A name without a publisher's prefix and a name that is taken are errors of the server."""
    with pytest.raises(HttpError) as caught:
        site.client.tables.add_columns("account", columns)
    assert caught.value.status_code == status


def test_alternate_keys(site) -> None:
    """A key is made, becomes active, serves an upsert, and is gone after its deletion; a second one of its name is refused."""
    site.client.tables.add_columns("account", {"new_Code": "string"})
    made = site.client.tables.create_alternate_key("account", "new_CodeKey", ["new_code"])
    keys = {key.schema_name: key for key in site.client.tables.get_alternate_keys("account")}
    assert (keys["new_CodeKey"].metadata_id, keys["new_CodeKey"].key_attributes) == (made.metadata_id, ["new_code"])
    assert keys["new_CodeKey"].status == "Active"
    for name in ("A", "B"):
        site.client.records.upsert("account", [UpsertItem({"new_code": "O'Brian 1"}, {"name": name})])
    assert site.names() == ["B"]
    with pytest.raises(HttpError) as caught:
        site.client.tables.create_alternate_key("account", "new_CodeKey", ["new_code"])
    assert caught.value.details["service_error_code"] == "0x80060893"
    site.client.tables.delete_alternate_key("account", made.metadata_id)
    assert [key.schema_name for key in site.client.tables.get_alternate_keys("account")] == ["tandem_CreatioIdKey"]
    with pytest.raises(HttpError) as caught:
        site.client.records.upsert("account", [UpsertItem({"new_code": "O'Brian 1"}, {"name": "C"})])
    assert caught.value.details["service_error_code"] == "0x80060890"
