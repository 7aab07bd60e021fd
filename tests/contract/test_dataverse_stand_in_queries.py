"""Queries of the Dataverse stand-in: filters, order, pages, counts, expansion, annotations (items 2, 7, 9, 10, 11)."""

from urllib.parse import quote, unquote

import pytest

from tests.contract.dataverse_stand_in import API, opened


@pytest.fixture
async def org():
    """Open an organisation with a handful of accounts."""
    async with opened() as organization:
        (parent,) = await organization.seed({"name": "Über GmbH", "accountnumber": "P1", "numberofemployees": 5, "revenue": 100})
        await organization.seed(
            {"name": "O'Brian & Sons", "parentaccountid": parent, "numberofemployees": 50, "revenue": 200.5, "creditonhold": True},
            {"name": "100% Cotton", "numberofemployees": 500, "industrycode": 6, "modifiedon": "2020-05-05T12:00:00Z"},
            {"name": "[brackets] a_b", "emailaddress1": "X@EXAMPLE.com"},
        )
        yield organization


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("name eq 'ÜBER GMBH'", ["Über GmbH"]),
        ("name eq 'o''brian & sons'", ["O'Brian & Sons"]),
        ("contains(name,'ü')", ["Über GmbH"]),
        ("startswith(name,'o') or endswith(name,'COTTON')", ["100% Cotton", "O'Brian & Sons"]),
        ("contains(name,'1%n')", ["100% Cotton"]),
        ("contains(name,'a_b')", ["[brackets] a_b"]),
        ("contains(name,'[xy]brian') or startswith(name,'[uü]')", ["Über GmbH"]),
        ("emailaddress1 eq 'x@example.COM'", ["[brackets] a_b"]),
        ("numberofemployees gt 5 and numberofemployees le 500", ["100% Cotton", "O'Brian & Sons"]),
        ("numberofemployees eq null", ["[brackets] a_b"]),
        ("numberofemployees ne 5", ["100% Cotton", "O'Brian & Sons", "[brackets] a_b"]),
        ("not (numberofemployees ge 50)", ["[brackets] a_b", "Über GmbH"]),
        ("revenue eq 200.5", ["O'Brian & Sons"]),
        ("creditonhold eq true", ["O'Brian & Sons"]),
        ("industrycode eq 6", ["100% Cotton"]),
        ("modifiedon lt 2021-01-01T00:00:00Z", ["100% Cotton"]),
        ("modifiedon lt 2020-05-05T13:00:00+02:00", []),
        ("parentaccountid/name eq 'über gmbh'", ["O'Brian & Sons"]),
        ("parentaccountid/ownerid/name eq 'x'", None),
        ("owninguser/fullname ne null and accountnumber eq 'p1'", ["Über GmbH"]),
        ("5 lt numberofemployees", ["100% Cotton", "O'Brian & Sons"]),
        ("Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['über gmbh',\"O'Brian & Sons\"])", ["O'Brian & Sons", "Über GmbH"]),
        ("Microsoft.Dynamics.CRM.Between(PropertyName='numberofemployees',PropertyValues=['5','50'])", ["O'Brian & Sons", "Über GmbH"]),
        ("Microsoft.Dynamics.CRM.On(PropertyName='modifiedon',PropertyValue='2020-05-05')", ["100% Cotton"]),
        ("Microsoft.Dynamics.CRM.OlderThanXDays(PropertyName='modifiedon',PropertyValue=30)", ["100% Cotton"]),
        ("Microsoft.Dynamics.CRM.NotIn(PropertyName='numberofemployees',PropertyValues=['5','50'])", ["100% Cotton"]),
    ],
)
async def test_filters_find_what_they_say(org, condition, expected) -> None:
    """Texts compare without case beyond ASCII, wildcards work in the like functions, functions and paths are known."""
    if expected is None:
        assert (await org.refused("GET", f"accounts?$filter={quote(condition)}"))[0] == 400
        return
    assert await org.names(condition) == expected


async def test_aliases(org) -> None:
    """Parameter aliases stand for literals and for lists of query functions."""
    function = "Microsoft.Dynamics.CRM.In(PropertyName=@p1,PropertyValues=@p2)"
    values = quote('["P1","O\'Brian"]')
    answer = await org.get(f"accounts?$filter={function}&@p1='accountnumber'&@p2={values}&$select=name")
    assert [row["name"] for row in answer["value"]] == ["Über GmbH"]
    answer = await org.get("accounts?$filter=accountnumber eq @n&@n='P1'&$select=name")
    assert len(answer["value"]) == 1
    assert (await org.refused("GET", "accounts?$filter=name eq @missing"))[0] == 400


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("$filter=name in ('a','b')", "Syntax error"),
        ("$filter=name eq", "Expression expected at position 7"),
        ("$filter=accountid eq 'x'", "incompatible types was detected. Found operand types 'Edm.Guid' and 'Edm.String'"),
        ("$filter=numberofemployees eq '5'", "incompatible types"),
        ("$filter=Name eq 'x'", "Could not find a property named 'Name'"),
        ("$filter=parentaccountid eq null", "Could not find a property named 'parentaccountid'"),
        ("$filter=tolower(name) eq 'x'", "can't be compared"),
        ("$filter=year(createdon)", "An unknown function with name 'year' was found."),
        ("$filter=Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['O''Brian'])", "Invalid JSON. A comma character"),
        ("$filter=Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=@v)&@v=['O''Brian']", "Invalid JSON. A comma character"),
        ("$filter=name", "single boolean value"),
        ("$select=primarycontactid", "Could not find a property named 'primarycontactid'"),
        ("$orderby=nonsense", "Could not find a property named 'nonsense'"),
        ("$orderby=name up", "Syntax error"),
        ("$skip=5", "Skip Clause is not supported in CRM"),
        ("$search=x", "The query parameter '$search' is not supported."),
        ("$top=x", "Invalid value 'x' for $top"),
        ("$select=name&$select=fax", "specified more than once"),
        ("$expand=nonsense", "Could not find a property named 'nonsense'"),
        ("$expand=parentaccountid($skip=1)", "not supported in $expand"),
    ],
)
async def test_bad_queries_are_400(org, query, text) -> None:
    """What the platform doesn't take is refused with a text that names it."""
    status, _, message = await org.refused("GET", f"accounts?{query}")
    assert status == 400
    assert text in message


async def test_too_many_conditions(org) -> None:
    """More than 500 conditions, and more than 2,000 values of In, have codes of their own; long URLs are 414."""
    condition = " or ".join(["numberofemployees eq 1"] * 501)
    assert (await org.refused("GET", f"accounts?$filter={quote(condition)}"))[1] == "0x8004430C"
    values = ",".join(["'1'"] * 2001)
    many = f"Microsoft.Dynamics.CRM.In(PropertyName='numberofemployees',PropertyValues=[{values}])"
    assert (await org.refused("GET", f"accounts?$filter={many}"))[1] == "0x8004430E"
    assert (await org.send("GET", "accounts?$filter=name eq '" + "x" * 33_000 + "'")).status_code == 414


async def _all(org, first: str, size: int) -> list[str]:
    names, url = [], first
    while url:
        body = await org.get(url, prefer=f"odata.maxpagesize={size}")
        assert len(body["value"]) <= size
        names += [row["name"] for row in body["value"]]
        url = body.get("@odata.nextLink")
    return names


@pytest.mark.parametrize(
    "order", ["", "name", "name desc", "numberofemployees", "numberofemployees desc,name", "parentaccountid/name desc"]
)
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_pages_hold_every_row_once(org, order, size) -> None:
    """Whatever the order (nulls and doubles included), pages of any size add up to the whole, in the same order."""
    path = "accounts?$select=name" + (f"&$orderby={order}" if order else "")
    whole = [row["name"] for row in (await org.get(path))["value"]]
    assert len(whole) == 4
    assert await _all(org, path, size) == whole


async def test_next_links_are_absolute_opaque_and_sent_as_they_are(org) -> None:
    """A link keeps its options, is encoded twice inside, and is refused when a client changes the encoding."""
    body = await org.get("accounts?$select=name&$orderby=name", prefer="odata.maxpagesize=1")
    link = body["@odata.nextLink"]
    assert link.startswith(f"{API}/accounts?$select=name&$orderby=name&$skiptoken=%3Ccookie%20pagenumber=%222%22%20pagingcookie=%22%253C")
    assert "istracking=%22False%22%20/%3E" in link
    head, _, cookie = link.partition("$skiptoken=")
    for spoiled in (quote(unquote(unquote(cookie))), quote(cookie)):
        status, code, message = await org.refused("GET", f"{head}$skiptoken={spoiled}")
        assert (status, code) == (400, "0x80040203")
        assert "Paging Cookie" in message


async def test_top_and_page_size(org) -> None:
    """``$top`` limits without a nextLink; with a page size it is ignored; the size is echoed."""
    body = await org.get("accounts?$top=2")
    assert (len(body["value"]), "@odata.nextLink" in body) == (2, False)
    body = await org.get("accounts?$top=2", prefer="odata.maxpagesize=3")
    assert (len(body["value"]), "@odata.nextLink" in body) == (3, True)
    answer = await org.send("GET", "accounts", prefer="odata.maxpagesize=3")
    assert answer.headers["Preference-Applied"] == "odata.maxpagesize=3"


async def test_counts_stop_at_5000() -> None:
    """``@odata.count`` and ``/$count`` are capped, annotations tell more, pages default to 5,000 rows."""
    async with opened() as org:
        await org.seed(*({"name": f"Account {number:05}"} for number in range(5_003)))
        body = await org.get("accounts?$select=name&$count=true", prefer='odata.include-annotations="Microsoft.Dynamics.CRM.*"')
        assert (len(body["value"]), body["@odata.count"]) == (5_000, 5_000)
        assert body["@Microsoft.Dynamics.CRM.totalrecordcount"] == 5_000
        assert body["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] is True
        assert len((await org.get(body["@odata.nextLink"]))["value"]) == 3
        answer = await org.send("GET", "accounts/$count")
        assert (answer.text, answer.headers["Content-Type"].partition(";")[0]) == ("5000", "text/plain")
        total = await org.get("RetrieveTotalRecordCount(EntityNames=['account'])")
        assert total["EntityRecordCountCollection"]["Values"] == [5_003]


async def test_select_shows_key_etag_nulls_and_the_currency_of_money(org) -> None:
    """Only what was selected is shown, with key and ETag always, and the currency where money was selected."""
    (row,) = (await org.get("accounts?$select=revenue,fax&$filter=accountnumber eq 'P1'"))["value"]
    assert set(row) == {"@odata.etag", "revenue", "fax", "_transactioncurrencyid_value", "accountid"}
    assert row["fax"] is None
    (row,) = (await org.get("accounts?$select=name&$filter=accountnumber eq 'P1'"))["value"]
    assert set(row) == {"@odata.etag", "name", "accountid"}


async def test_annotations_come_only_when_asked_for_and_by_pattern(org) -> None:
    """Formatted values, target tables and navigation names follow the patterns of the preference."""
    condition = "accounts?$filter=industrycode eq 6 or parentaccountid/name eq 'über gmbh'&$select=industrycode,_parentaccountid_value"
    plain = await org.get(condition)
    assert not [name for row in plain["value"] for name in row if "@" in name.removeprefix("@")]
    rows = (await org.get(condition, prefer='odata.include-annotations="*"'))["value"]
    child = next(row for row in rows if row["_parentaccountid_value"])
    assert child["_parentaccountid_value@OData.Community.Display.V1.FormattedValue"] == "Über GmbH"
    assert child["_parentaccountid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "account"
    assert child["_parentaccountid_value@Microsoft.Dynamics.CRM.associatednavigationproperty"] == "parentaccountid"
    other = next(row for row in rows if row["industrycode"])
    assert other["industrycode@OData.Community.Display.V1.FormattedValue"] == "Business Services"
    only = (await org.get(condition, prefer='odata.include-annotations="OData.Community.*"'))["value"]
    assert not [name for row in only for name in row if "Microsoft" in name]
    assert [name for row in only for name in row if "OData.Community" in name]


async def test_expanded_lookups(org) -> None:
    """Lookups are expanded with a selection, as references, nested, and as null where they are empty."""
    body = await org.get("accounts?$select=name&$expand=parentaccountid($select=name;$expand=owninguser($select=fullname))")
    by_name = {row["name"]: row for row in body["value"]}
    parent = by_name["O'Brian & Sons"]["parentaccountid"]
    assert parent["name"] == "Über GmbH"
    assert parent["owninguser"]["fullname"]
    assert by_name["100% Cotton"]["parentaccountid"] is None
    body = await org.get("accounts?$expand=parentaccountid/$ref&$filter=_parentaccountid_value ne null")
    assert body["value"][0]["parentaccountid"] == {"@odata.id": f"{API}/accounts({parent['accountid']})"}
    row_id = by_name["O'Brian & Sons"]["accountid"]
    assert (await org.get(f"accounts({row_id})/parentaccountid?$select=name"))["name"] == "Über GmbH"


async def test_stale_reads_show_the_row_before_its_last_write(org) -> None:
    """The chaos kind ``stale_read`` shows old values and hides rows just made, by id and in collections."""
    row_id = await org.create(name="Old")
    await org.chaos(kind="stale_read", method="GET")
    assert (await org.send("GET", f"accounts({row_id})")).status_code == 404
    await org.send("PATCH", f"accounts({row_id})", {"name": "New"})
    assert (await org.get(f"accounts({row_id})"))["name"] == "Old"
    assert "New" not in await org.names("name ne null")
    await org.control("chaos", method="DELETE")
    assert (await org.get(f"accounts({row_id})"))["name"] == "New"


@pytest.mark.parametrize("name", ["sql", "fetchXml"])
async def test_other_ways_to_ask_are_not_left_out_silently(org, name) -> None:
    """A query in SQL or FetchXML, which the organisation does not serve, is 501 and not a list of every row."""
    assert (await org.refused("GET", f"accounts?{name}=x"))[0] == 501
