"""Definitions of tables, columns and keys in the Dataverse stand-in (item 18)."""

import asyncio

import pytest

from tests.contract.dataverse_stand_in import API, opened

ACCOUNT = "EntityDefinitions(LogicalName='account')"


@pytest.fixture
async def org():
    """Open an organisation for one test."""
    async with opened(customization_delay_seconds=0.1) as organization:
        yield organization


async def test_tables(org) -> None:
    """Tables are read by name, by id and by filter, with the properties a client needs."""
    select = "LogicalName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,ChangeTrackingEnabled,IsOptimisticConcurrencyEnabled"
    shown = await org.get(f"{ACCOUNT}?$select={select}")
    expected = ("account", "accounts", "accountid", "name", True, True)
    assert tuple(shown[name] for name in select.split(",")) == expected
    assert (await org.get(f"EntityDefinitions({shown['MetadataId']})"))["LogicalName"] == "account"
    tracked = await org.get("EntityDefinitions?$select=SchemaName&$filter=ChangeTrackingEnabled eq true")
    assert sorted(row["SchemaName"] for row in tracked["value"]) == [
        "Account",
        "Contact",
        "Incident",
        "Invoice",
        "Lead",
        "Opportunity",
        "Pricelevel",
        "Product",
        "Productpricelevel",
        "Quote",
        "Salesorder",
    ]
    public = await org.get("EntityDefinitions?$select=LogicalName&$filter=IsPrivate eq false and LogicalName eq 'account'")
    assert [row["LogicalName"] for row in public["value"]] == ["account"]
    assert (await org.send("GET", "EntityDefinitions(LogicalName='nothing')")).status_code == 404
    assert (await org.send("GET", f"{ACCOUNT}?$select=Nonsense")).status_code == 400


async def test_columns_and_casts(org) -> None:
    """Lengths need a cast; a column that is not there is 404; the type of each is told."""
    shown = await org.get(f"{ACCOUNT}/Attributes(LogicalName='name')/Microsoft.Dynamics.CRM.StringAttributeMetadata?$select=MaxLength")
    assert shown["MaxLength"] == 160
    assert (await org.send("GET", f"{ACCOUNT}/Attributes?$select=LogicalName,MaxLength")).status_code == 400
    assert (await org.send("GET", f"{ACCOUNT}/Attributes(LogicalName='nothing')?$select=LogicalName")).status_code == 404
    by_name = {row["LogicalName"]: row for row in (await org.get(f"{ACCOUNT}/Attributes"))["value"]}
    assert by_name["revenue"]["@odata.type"] == "#Microsoft.Dynamics.CRM.MoneyAttributeMetadata"
    assert by_name["parentaccountid"]["Targets"] == ["account"]
    assert by_name["statecode"]["IsValidForCreate"] is False
    assert by_name["tandem_creatioid"]["IsCustomAttribute"] is True
    birthdate = await org.get("EntityDefinitions(LogicalName='contact')/Attributes(LogicalName='birthdate')")
    assert birthdate["DateTimeBehavior"] == {"Value": "DateOnly"}


async def test_options_come_in_one_call(org) -> None:
    """A cast with OptionSet shows the options of all choices of a table; a status names its state."""
    path = f"{ACCOUNT}/Attributes/Microsoft.Dynamics.CRM.{{0}}AttributeMetadata?$select=LogicalName&$expand=OptionSet,GlobalOptionSet"
    picklists = (await org.get(path.format("Picklist")))["value"]
    industry = next(row for row in picklists if row["LogicalName"] == "industrycode")
    labels = {item["Value"]: item["Label"]["UserLocalizedLabel"]["Label"] for item in industry["OptionSet"]["Options"]}
    assert (len(labels), labels[33]) == (33, "Wholesale")
    (status,) = (await org.get(path.format("Status")))["value"]
    assert {item["Value"]: item["State"] for item in status["OptionSet"]["Options"]} == {1: 0, 2: 1}
    booleans = (await org.get(path.format("Boolean")))["value"]
    assert all(row["OptionSet"]["TrueOption"]["Value"] == 1 for row in booleans)


async def test_navigation_names_come_from_relationships(org) -> None:
    """Every lookup tells its navigation property for each table it can refer to."""
    select = "ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"
    shown = (await org.get(f"EntityDefinitions(LogicalName='contact')/ManyToOneRelationships?$select={select}"))["value"]
    company = {
        row["ReferencedEntity"]: row["ReferencingEntityNavigationPropertyName"]
        for row in shown
        if row["ReferencingAttribute"] == "parentcustomerid"
    }
    assert company == {"account": "parentcustomerid_account", "contact": "parentcustomerid_contact"}


async def test_metadata_in_one_read(org) -> None:
    """A table can be read with its columns, keys and relationships."""
    expand = "Attributes($select=LogicalName),Keys($select=KeyAttributes),ManyToOneRelationships($select=ReferencedEntity)"
    shown = await org.get(f"{ACCOUNT}?$select=LogicalName&$expand={expand}")
    assert shown["Keys"][0]["KeyAttributes"] == ["tandem_creatioid"]
    assert {"LogicalName": "name"}.items() <= next(row for row in shown["Attributes"] if row["LogicalName"] == "name").items()
    assert shown["ManyToOneRelationships"]


def text_column(schema_name: str) -> dict:
    """Write the definition of a text column."""
    return {"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": schema_name, "MaxLength": 10}


async def test_a_new_column_is_usable_after_a_while(org) -> None:
    """A column is created under its prefix, unknown to the data API at first, usable after the delay or on publishing."""
    answer = await org.send("POST", f"{ACCOUNT}/Attributes", text_column("tandem_Extra"))
    assert answer.status_code == 204
    assert answer.headers["OData-EntityId"].startswith(f"{API}/{ACCOUNT}/Attributes(")
    assert (await org.get(f"{ACCOUNT}/Attributes(LogicalName='tandem_extra')"))["SchemaName"] == "tandem_Extra"
    assert (await org.send("GET", "accounts?$select=tandem_extra&$top=1")).status_code == 400
    assert (await org.send("POST", "accounts", {"tandem_extra": "x"})).status_code == 400
    await asyncio.sleep(0.15)
    row_id = await org.create(tandem_extra="x")
    assert (await org.get(f"accounts({row_id})", select="tandem_extra"))["tandem_extra"] == "x"
    assert (await org.refused("POST", "accounts", {"tandem_extra": "x" * 11}))[1] == "0x80044331"
    await org.send("POST", f"{ACCOUNT}/Attributes", text_column("tandem_Second"))
    assert (await org.send("POST", "PublishAllXml")).status_code == 204
    assert (await org.send("GET", "accounts?$select=tandem_second&$top=1")).status_code == 200


async def test_a_column_with_bounds_that_have_a_point(org) -> None:
    """Bounds as JSON numbers with a point are kept and hold, and the table takes further columns."""
    body = {**text_column("tandem_Share"), "@odata.type": "Microsoft.Dynamics.CRM.DecimalAttributeMetadata", "Precision": 1}
    assert (await org.send("POST", f"{ACCOUNT}/Attributes", {**body, "MinValue": -1.5, "MaxValue": 1.5})).status_code == 204
    assert (await org.send("POST", f"{ACCOUNT}/Attributes", text_column("tandem_Other"))).status_code == 204
    await org.send("POST", "PublishAllXml")
    row_id = await org.create(tandem_share=-1.5)
    assert (await org.get(f"accounts({row_id})", select="tandem_share"))["tandem_share"] == -1.5
    assert (await org.refused("POST", "accounts", {"tandem_share": -1.6}))[:2] == (400, "0x80044330")


async def test_a_column_is_put_whole(org) -> None:
    """A column's length is changed by putting back its whole definition; a part of it, and another type, are refused."""
    await org.send("POST", f"{ACCOUNT}/Attributes", text_column("tandem_Extra"))
    await org.send("POST", "PublishAllXml")
    path = f"{ACCOUNT}/Attributes(LogicalName='tandem_extra')"
    whole = await org.get(path)
    assert (await org.refused("PUT", path, {"MaxLength": 20}))[:2] == (400, "0x80040203")
    assert (await org.refused("PUT", path, {**whole, "AttributeType": "Integer"}))[:2] == (400, "0x80040203")
    assert (await org.refused("POST", "accounts", {"tandem_extra": "x" * 11}))[1] == "0x80044331"
    assert (await org.send("PUT", path, {**whole, "MaxLength": 20})).status_code == 204
    await org.create(tandem_extra="x" * 20)
    assert (await org.get(path))["MaxLength"] == 20


@pytest.mark.parametrize("schema_name", ["Extra", "", "tandem_CreatioId"])
async def test_columns_that_are_refused(org, schema_name) -> None:
    """A name without a publisher's prefix and a name that is taken are refused."""
    assert (await org.refused("POST", f"{ACCOUNT}/Attributes", text_column(schema_name)))[0] == 400


async def test_a_new_key_is_usable_once_its_index_is_active(org) -> None:
    """A key is InProgress, then Active and addressable; doubles make it fail until they are gone and it is reactivated."""
    await org.seed({"accountnumber": "A1", "fax": "1"}, {"accountnumber": "A2", "fax": "1"})
    body = {"SchemaName": "tandem_NumberKey", "KeyAttributes": ["accountnumber"]}
    assert (await org.send("POST", f"{ACCOUNT}/Keys", body)).status_code == 204
    states = {row["LogicalName"]: row["EntityKeyIndexStatus"] for row in (await org.get(f"{ACCOUNT}/Keys"))["value"]}
    assert states == {"tandem_creatioidkey": "Active", "tandem_numberkey": "InProgress"}
    assert (await org.refused("GET", "accounts(accountnumber='A1')"))[:2] == (400, "0x80060890")
    await asyncio.sleep(0.15)
    assert (await org.get("accounts(accountnumber='a1')"))["accountnumber"] == "A1"
    assert (await org.refused("POST", f"{ACCOUNT}/Keys", body))[:2] == (400, "0x80060893")
    assert (await org.refused("POST", f"{ACCOUNT}/Keys", {**body, "SchemaName": "tandem_Other"}))[1] == "0x80060894"


async def test_a_key_over_doubles_fails_until_reactivated(org) -> None:
    """The index over rows with equal values fails; after the data is mended ReactivateEntityKey builds it."""
    first, _ = await org.seed({"fax": "1"}, {"fax": "1"})
    await org.send("POST", f"{ACCOUNT}/Keys", {"SchemaName": "tandem_FaxKey", "KeyAttributes": ["fax"]})
    assert (await org.get(f"{ACCOUNT}/Keys"))["value"][1]["EntityKeyIndexStatus"] == "Failed"
    again = {"EntityLogicalName": "account", "EntityKeyLogicalName": "tandem_faxkey"}
    await org.edit(first, fax="2")
    await asyncio.sleep(0.15)
    assert (await org.send("POST", "ReactivateEntityKey", again)).status_code == 204
    assert (await org.get("accounts(fax='2')"))["accountid"] == first
    assert (await org.refused("POST", "ReactivateEntityKey", again))[:2] == (400, "0x80060897")


async def test_customizations_stay_with_the_rows(tmp_path) -> None:
    """Columns and keys made in one run are there, with their values, when the same file is opened again."""
    for run in (1, 2):
        async with opened(tmp_path / "rows.db", customization_delay_seconds=0) as org:
            if run == 1:
                await org.send("POST", f"{ACCOUNT}/Attributes", text_column("tandem_Extra"))
                await org.send("POST", f"{ACCOUNT}/Keys", {"SchemaName": "tandem_ExtraKey", "KeyAttributes": ["tandem_extra"]})
                await org.create(tandem_extra="x")
            assert (await org.get("accounts(tandem_extra='x')"))["tandem_extra"] == "x"


async def test_definitions_are_put_whole(org) -> None:
    """PATCH of a definition is 405, tracking can't be switched off again."""
    assert (await org.send("PATCH", ACCOUNT, {"ChangeTrackingEnabled": True})).status_code == 405
    whole = await org.get(ACCOUNT)
    assert (await org.send("PUT", ACCOUNT, {**whole, "ChangeTrackingEnabled": False})).status_code == 400
