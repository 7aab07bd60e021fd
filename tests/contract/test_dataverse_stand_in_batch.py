"""Batches and bulk messages of the Dataverse stand-in (items 13 and 14)."""

import json
import re

import pytest

from tests.contract.dataverse_stand_in import API, ORIGIN, change_set, multipart, opened, part

MISSING = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
async def org():
    """Open an organisation for one test."""
    async with opened() as organization:
        yield organization


def parts_of(answer) -> list[tuple[int, str, dict]]:
    """Return the status, the text and the JSON of each HTTP reply inside, change sets included."""
    assert answer.headers["Content-Type"].startswith("multipart/mixed; boundary=batchresponse_")
    replies = []
    for text in re.split(r"HTTP/1\.1 ", answer.text)[1:]:
        body = text.partition("\r\n\r\n")[2].partition("\r\n--")[0]
        replies.append((int(text[:3]), text, json.loads(body) if body.strip() else {}))
    return replies


async def test_operations_are_answered_in_order(org) -> None:
    """A create and a read come back in order with their own headers; the outer status is 200."""
    body = multipart(
        part("POST", "accounts", '{"name":"A"}', content_id="1"),
        part("GET", "accounts?$select=name"),
        part("GET", f"{API}/WhoAmI", Prefer='odata.include-annotations="*"'),
    )
    answer = await org.batch(body)
    assert answer.status_code == 200
    created, read, who = parts_of(answer)
    assert (created[0], read[0], who[0]) == (204, 200, 200)
    assert f"OData-EntityId: {API}/accounts(" in created[1]
    assert "REQ_ID: " in created[1]
    assert [row["name"] for row in read[2]["value"]] == ["A"]
    assert "Preference-Applied" in who[1]
    assert "Preference-Applied" not in read[1]
    counts = await org.control("requests", method="GET")
    assert (counts["total"], counts["operations"], counts["writes"]) == (1, 4, 1)


async def test_a_failure_stops_the_batch_and_keeps_what_was_done(org) -> None:
    """The outer status is that of the failure, later operations don't run, earlier ones stay."""
    operations = [
        part("POST", "accounts", '{"name":"first"}'),
        part("PATCH", f"accounts({MISSING})", '{"name":"x"}', If_Match="*"),
        part("POST", "accounts", '{"name":"third"}'),
    ]
    answer = await org.batch(multipart(*operations))
    assert answer.status_code == 404
    assert [status for status, _, _ in parts_of(answer)] == [204, 404]
    assert await org.names("name ne null") == ["first"]
    await org.control("settings", {"failed_batch_parts": "failing"})
    assert [status for status, _, _ in parts_of(await org.batch(multipart(*operations)))] == [404]


async def test_continue_on_error(org) -> None:
    """With the preference all operations run, the outer status is 200, each part has its own."""
    body = multipart(
        part("POST", "accounts", '{"name":"first"}'),
        part("PATCH", f"accounts({MISSING})", '{"name":"x"}', If_Match="*"),
        part("POST", "accounts", '{"name":"third"}'),
    )
    answer = await org.batch(body, Prefer="odata.continue-on-error")
    assert answer.status_code == 200
    assert [status for status, _, _ in parts_of(answer)] == [204, 404, 204]
    assert await org.names("name ne null") == ["first", "third"]


async def test_headers_of_the_batch_do_not_reach_its_parts(org) -> None:
    """If-Match and Prefer of the outer request mean nothing inside: the PATCH upserts, the POST has no body."""
    body = multipart(part("PATCH", f"accounts({MISSING})", '{"name":"upserted"}'), part("POST", "accounts", '{"name":"A"}'))
    answer = await org.batch(body, If_Match="*", Prefer="return=representation")
    assert [status for status, _, _ in parts_of(answer)] == [204, 204]
    assert (await org.stored(MISSING))["name"] == "upserted"


async def test_if_match_inside_a_batch(org) -> None:
    """An old ETag fails its own operation with 412; the others go on."""
    row_id, other = await org.create(name="A"), await org.create(name="B")
    old = (await org.get(f"accounts({row_id})"))["@odata.etag"]
    await org.edit(row_id, name="by a user")
    body = multipart(
        part("PATCH", f"accounts({row_id})", '{"name":"ours"}', If_Match=old),
        part("PATCH", f"accounts({other})?$select=name", '{"name":"ours"}', If_Match="*", Prefer="return=representation"),
    )
    first, second = parts_of(await org.batch(body, Prefer="odata.continue-on-error"))
    assert (first[0], first[2]["error"]["code"]) == (412, "0x80060882")
    assert (second[0], second[2]["name"]) == (200, "ours")
    assert (await org.stored(row_id))["name"] == "by a user"


async def test_a_change_set_refers_to_its_own_operations(org) -> None:
    """``$1`` works as the value of a bind and as an address; replies come nested with their Content-ID."""
    body = multipart(
        change_set(
            part("POST", "contacts", '{"lastname":"Person"}', content_id="1"),
            part("POST", "accounts", '{"name":"A","primarycontactid@odata.bind":"$1"}', content_id="2"),
            part("PUT", "$2/fax", '{"value":"123"}', content_id="3"),
        ),
        part("GET", "accounts?$select=name,fax&$expand=primarycontactid($select=fullname)"),
    )
    answer = await org.batch(body)
    assert answer.status_code == 200, answer.text
    replies = parts_of(answer)
    assert [status for status, _, _ in replies] == [204, 204, 204, 200]
    assert re.findall(r"Content-ID: (\d)", answer.text) == ["1", "2", "3"]
    assert "boundary=changesetresponse_" in answer.text
    (row,) = replies[3][2]["value"]
    assert (row["fax"], row["primarycontactid"]["fullname"]) == ("123", "Person")


async def test_a_change_set_is_all_or_nothing(org) -> None:
    """One fault undoes the set, which is answered by one plain part; operations outside stay and go on."""
    body = multipart(
        part("POST", "accounts", '{"name":"outside"}'),
        change_set(
            part("POST", "accounts", '{"name":"inside"}', content_id="1"),
            part("POST", "accounts", '{"industrycode":99}', content_id="2"),
        ),
        part("POST", "accounts", '{"name":"after"}'),
    )
    answer = await org.batch(body, Prefer="odata.continue-on-error")
    assert [status for status, _, _ in parts_of(answer)] == [204, 400, 204]
    assert "changesetresponse" not in answer.text
    assert await org.names("name ne null") == ["after", "outside"]
    assert (await org.control("requests", method="GET"))["writes"] == 2


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ([part("GET", "accounts", content_id="1")], "can't hold GET"),
        ([part("POST", "accounts", "{}")], "needs a Content-ID"),
        (
            [
                part("POST", "accounts", '{"primarycontactid@odata.bind":"$2"}', content_id="1"),
                part("POST", "contacts", "{}", content_id="2"),
            ],
            "Content-ID Reference: '$2' does not exist in the batch context.",
        ),
    ],
)
async def test_what_a_change_set_does_not_take(org, inside, text) -> None:
    """Reads, operations without Content-ID and forward references fail the set."""
    answer = await org.batch(multipart(change_set(*inside)))
    ((status, _, body),) = parts_of(answer)
    assert (answer.status_code, status) == (400, 400)
    assert text in body["error"]["message"]


GOOD = multipart(part("GET", "WhoAmI"))


@pytest.mark.parametrize(
    "spoiled",
    [
        GOOD.replace(b"\r\n", b"\n"),
        GOOD.removesuffix(b"\r\n"),
        GOOD.removesuffix(b"--b--\r\n"),
        GOOD.replace(b"binary\r\n\r\n", b"binary\r\n"),
        GOOD.replace(b"HTTP/1.1\r\n\r\n\r\n", b"HTTP/1.1\r\n"),
        GOOD.replace(b"application/http\r\n", b"application/http\n"),
        b"",
    ],
)
async def test_bodies_that_are_not_strict_multipart(org, spoiled) -> None:
    """LF line ends, a missing last CRLF, boundary or empty line: 400 with one part that says the stream is unreadable."""
    assert (await org.batch(GOOD)).status_code == 200
    answer = await org.batch(spoiled)
    ((status, _, body),) = parts_of(answer)
    assert (answer.status_code, status, body["error"]["code"]) == (400, 400, "0x80048d19")
    assert "Stream was not readable." in body["error"]["message"]


async def test_what_microsofts_library_reads_in_a_part(org) -> None:
    """An address may hold blanks, and the empty line after a head without body may share its line end with the boundary."""
    await org.create(name="A B")
    address = b"/api/data/v9.2/accounts?$select=name&$filter=name eq 'A B'"
    body = multipart(part("GET", "accounts")).replace(b"/api/data/v9.2/accounts", address)
    short = body.replace(b"HTTP/1.1\r\n\r\n\r\n", b"HTTP/1.1\r\n\r\n")
    assert len(short) == len(body) - 2
    for given in (body, short):
        ((status, _, answer),) = parts_of(await org.batch(given))
        assert (status, [row["name"] for row in answer["value"]]) == (200, ["A B"])


async def test_batches_refused_as_a_whole(org) -> None:
    """No boundary, no token, too many operations: plain JSON or nothing, never multipart; a nested batch fails its part."""
    answer = await org.http.post(f"{API}/$batch", content=GOOD, headers={"Content-Type": "multipart/mixed"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "0x80048d19")
    answer = await org.batch(GOOD, Authorization="Bearer x")
    assert (answer.status_code, answer.content) == (401, b"")
    answer = await org.batch(multipart(*[part("GET", "WhoAmI")] * 1_001))
    assert "maximum is 1000" in answer.json()["error"]["message"]
    assert (await org.batch(multipart(*[part("GET", "WhoAmI")] * 1_000))).status_code == 200
    assert parts_of(await org.batch(multipart(part("POST", "$batch", "{}"))))[0][0] == 400
    assert parts_of(await org.batch(multipart(part("GET", "http://other.test/api/data/v9.2/WhoAmI"))))[0][0] == 400


async def test_long_urls_fit_into_a_part(org) -> None:
    """A filter too long for a GET is taken inside a batch, up to 64 KB."""
    values = ",".join(f"'{number:036}'" for number in range(1_000))
    target = f"accounts?$filter=Microsoft.Dynamics.CRM.In(PropertyName='tandem_creatioid',PropertyValues=[{values}])"
    assert (await org.send("GET", target)).status_code == 414
    assert parts_of(await org.batch(multipart(part("GET", target.replace(" ", "%20")))))[0][0] == 200


async def test_trouble_inside_a_batch(org) -> None:
    """A user's edit between two operations is seen by the second one; one part can be throttled by itself."""
    row_id = await org.create(name="A")
    etag = (await org.get(f"accounts({row_id})"))["@odata.etag"]
    body = multipart(part("GET", f"accounts({row_id})"), part("PATCH", f"accounts({row_id})", '{"fax":"1"}', If_Match=etag))
    await org.chaos(kind="user_edit_in_batch", entity="account", id=row_id, values={"name": "by a user"})
    assert [status for status, _, _ in parts_of(await org.batch(body, Prefer="odata.continue-on-error"))] == [200, 412]
    await org.chaos(kind="part_status", status=429, retry_after=3, position=0)
    first, second = parts_of(await org.batch(body, Prefer="odata.continue-on-error"))
    assert (first[0], first[2]["error"]["code"]) == (429, "0x80072322")
    assert "Retry-After: 3" in first[1]
    assert second[0] == 412


def targets(*rows: dict, table: str = "account") -> dict:
    """Write the body of a bulk message."""
    return {"Targets": [{"@odata.type": f"Microsoft.Dynamics.CRM.{table}", **row} for row in rows]}


def bulk(message: str) -> str:
    """Name the address of a bulk message on accounts."""
    return f"accounts/Microsoft.Dynamics.CRM.{message}"


async def test_create_multiple_is_all_or_nothing(org) -> None:
    """Ids come in order; one bad row leaves no row, and the error does not say which."""
    answer = await org.send("POST", bulk("CreateMultiple"), targets({"name": "A"}, {"name": "B"}))
    assert answer.status_code == 200
    assert [(await org.stored(row_id))["name"] for row_id in answer.json()["Ids"]] == ["A", "B"]
    assert (await org.refused("POST", bulk("CreateMultiple"), targets({"name": "C"}, {"industrycode": 99})))[1] == "0x8004431A"
    assert await org.names("name ne null") == ["A", "B"]
    counts = await org.control("requests", method="GET")
    assert (counts["writes"], counts["by"]["POST accounts/CreateMultiple"]) == (2, 2)


async def test_every_target_needs_its_type(org) -> None:
    """A row without @odata.type, or of another table, refuses the call."""
    assert (await org.refused("POST", bulk("CreateMultiple"), {"Targets": [{"name": "A"}]}))[:2] == (400, "0x80048d19")
    assert (await org.refused("POST", bulk("CreateMultiple"), targets({"lastname": "A"}, table="contact")))[0] == 400
    assert (await org.refused("POST", bulk("CreateMultiple"), {"Targets": []}))[0] == 400


async def test_update_multiple_applies_only_the_first_of_doubles(org) -> None:
    """Rows are addressed by key column; of a row that comes twice the second is ignored; a missing row undoes all."""
    first, second = await org.create(name="A"), await org.create(name="B")
    body = targets({"accountid": first, "name": "A1"}, {"accountid": first, "name": "A2"}, {"accountid": second, "name": "B1"})
    assert (await org.send("POST", bulk("UpdateMultiple"), body)).status_code == 204
    assert await org.names("name ne null") == ["A1", "B1"]
    body = targets({"accountid": first, "name": "A3"}, {"accountid": MISSING, "name": "x"})
    assert (await org.refused("POST", bulk("UpdateMultiple"), body))[:2] == (404, "0x80040217")
    assert await org.names("name ne null") == ["A1", "B1"]


async def test_upsert_multiple(org) -> None:
    """Rows are found by id or by key address and made otherwise; doubles, and keys given twice, are refused."""
    row_id = await org.create(name="A")
    key = {"@odata.id": "accounts(tandem_creatioid='7')"}
    body = targets({"accountid": row_id, "name": "A1"}, {**key, "name": "new"})
    answer = await org.send("POST", bulk("UpsertMultiple"), body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await org.get("accounts(tandem_creatioid='7')"))["name"] == "new"
    assert (await org.refused("POST", bulk("UpsertMultiple"), targets({**key, "name": "x"}, {**key, "name": "y"})))[0] == 400
    doubled = targets({"@odata.id": "accounts(tandem_creatioid='8')", "tandem_creatioid": "8"})
    assert (await org.refused("POST", bulk("UpsertMultiple"), doubled))[0] == 400


async def test_which_tables_take_bulk_messages(org) -> None:
    """The probe and the calls agree, UpsertMultiple never shows, DeleteMultiple is not there."""
    probe = (
        f"{ORIGIN}/api/data/v9.2/sdkmessagefilters?$select=sdkmessagefilterid"
        "&$filter=sdkmessageid/name eq @message and primaryobjecttypecode eq @table&@message='{0}'&@table='{1}'"
    )
    assert (await org.get(probe.format("CreateMultiple", "account")))["value"]
    assert not (await org.get(probe.format("UpsertMultiple", "account")))["value"]
    assert not (await org.get(probe.format("CreateMultiple", "systemuser")))["value"]
    body = targets({"lastname": "x"}, table="systemuser")
    assert (await org.refused("POST", "systemusers/Microsoft.Dynamics.CRM.CreateMultiple", body))[0] == 400
    text = "DeleteMultiple has not yet been implemented."
    assert (await org.refused("POST", bulk("DeleteMultiple"), targets({})))[2] == text
