"""How the Creatio stand-in answers `$batch` (checklist items 14 and 16)."""

import uuid

import httpx
import pytest

from sandbox.serve import running
from tests.contract.creatio_stand_in import CUSTOMER, Tenant, part


async def _two_accounts(tenant: Tenant) -> list[str]:
    return await tenant.seed("Account", {"Name": "A"}, {"Name": "B"})


async def test_parts_answer_by_id_with_lower_case_headers(tenant):
    """A create, a change, a read and a delete each have their status, headers and body; all are counted."""
    one, two = await _two_accounts(tenant)
    await tenant.control("requests/reset", {})
    responses = await tenant.batch(
        part(1, "POST", "Account", {"Name": "C", "UsrCreditLimit": 12.34}),
        part(2, "PATCH", f"Account({one})", {"Name": "A2"}),
        part(3, "GET", f"Account?$filter=Id eq {one}&$select=Name"),
        part(4, "DELETE", f"Account/{two}"),
        part(5, "GET", f"http://creatio.test/0/odata/Account({one})/Name"),
    )
    assert [(r["id"], r["status"]) for r in responses] == [("1", 201), ("2", 204), ("3", 200), ("4", 204), ("5", 200)]
    created = responses[0]
    assert created["headers"]["location"].endswith(f"/Account({created['body']['Id']})")
    assert created["headers"]["content-type"] == "application/json; odata.metadata=minimal"
    assert created["body"]["UsrCreditLimit"] == 12.34
    assert responses[1] == {"id": "2", "status": 204, "headers": {"odata-version": "4.0"}}
    assert responses[2]["body"]["value"] == [{"Name": "A2"}]
    counts = (await tenant.http.get("/_control/requests")).json()
    assert (counts["total"], counts["operations"], counts["writes"]) == (1, 6, 3)
    assert counts["by"] == {"POST $batch": 1}


async def test_groups_get_new_names(tenant):
    """Members of a group share a guid of the server's, another one than the client's name; others have none."""
    responses = await tenant.batch(
        part(1, "POST", "Account", {"Name": "A"}, "g1"),
        part(2, "POST", "Account", {"Name": "B"}, "g1"),
        part(3, "POST", "Account", {"Name": "C"}, "g2"),
        part(4, "POST", "Account", {"Name": "D"}),
    )
    groups = [response.get("atomicityGroup") for response in responses]
    assert groups[0] == groups[1] != groups[2]
    assert groups[3] is None
    assert all(uuid.UUID(group) for group in groups[:3])


async def test_the_first_error_stops_the_rest(tenant):
    """Parts after a failure are absent and undone; what came before stays, in the same group too."""
    responses = await tenant.batch(
        part(1, "POST", "Account", {"Name": "A"}, "g"),
        part(2, "POST", "Account", {"Name": "B", "Foo": 1}, "g"),
        part(3, "POST", "Account", {"Name": "C"}, "g"),
        part(4, "POST", "Account", {"Name": "D"}),
    )
    assert [(r["id"], r["status"]) for r in responses] == [("1", 201), ("2", 400)]
    assert "Foo" in responses[1]["body"]["error"]["message"]
    assert await tenant.names("Name ne ''") == ["A"]


async def test_continue_on_error_goes_on_only_by_the_outer_header(tenant):
    """The outer Prefer runs every part; the same header inside a part, or with `=false`, means nothing."""
    requests = [part(1, "POST", "Account", {}), part(2, "POST", "Account", {"Name": "B"})]
    inner = [{**request, "headers": {**request["headers"], "Prefer": "continue-on-error"}} for request in requests]
    assert len(await tenant.batch(*inner)) == 1
    assert len(await tenant.batch(*requests, Prefer="continue-on-error=false")) == 1
    assert [r["status"] for r in await tenant.batch(*requests, Prefer="continue-on-error")] == [500, 201]


async def test_a_group_is_a_transaction_only_by_its_switch(tenant):
    """With `batch_atomic` a failed group leaves nothing behind and answers its failure alone."""
    await tenant.settings(batch_atomic=True)
    responses = await tenant.batch(
        part(1, "POST", "Account", {"Name": "A", "Phone": "1"}, "g"),
        part(2, "POST", "Account", {"Foo": 1}, "g"),
    )
    assert [(r["id"], r["status"]) for r in responses] == [("2", 400)]
    assert await tenant.names("Name ne ''") == []
    assert await tenant.rows("AccountCommunication") == []


async def test_a_hundred_parts_are_the_limit(tenant):
    """100 parts run, 101 are refused as a whole."""
    requests = [part(n, "GET", "Account?$top=1") for n in range(101)]
    assert len(await tenant.batch(*requests[:100])) == 100
    refused = await tenant.http.post("/0/odata/$batch", json={"requests": requests})
    assert (refused.status_code, "'100' operations" in refused.text) == (400, True)


async def test_reads_inside_a_batch_may_be_long(tenant):
    """A part's address has no length limit: two thousand ids in one filter are read once the limit of nodes is out of the way."""
    await tenant.settings(max_node_count=20_000)
    one, two = await _two_accounts(tenant)
    condition = " or ".join(f"Id eq {row_id}" for row_id in (one, *(uuid.uuid4() for _ in range(2000)), two))
    (response,) = await tenant.batch(part(1, "GET", f"Account?$select=Name&$orderby=Name&$filter={condition}"))
    assert response["body"]["value"] == [{"Name": "A"}, {"Name": "B"}]


@pytest.mark.parametrize("body", [b"{", b"{}", b'{"requests":[{"id":"1"}]}', b'{"requests":[5]}'])
async def test_a_batch_that_cannot_be_read_is_refused(tenant, body):
    """Broken JSON and requests without their members are 400."""
    headers = {"Content-Type": "application/json"}
    assert (await tenant.http.post("/0/odata/$batch", content=body, headers=headers)).status_code == 400


def _multipart(*parts: str) -> bytes:
    return ("".join(f"--b\r\n{part}\r\n" for part in parts) + "--b--\r\n").encode()


def _http(request: str, body: str = "", content_id: str = "") -> str:
    identifier = f"Content-ID: {content_id}\r\n" if content_id else ""
    head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    return f"{head}{request} HTTP/1.1\r\n{identifier}Content-Type: application/json\r\n\r\n{body}"


async def test_multipart_batches_answer_in_kind_or_as_json(tenant):
    """A change set and a read: multipart with batchresponse and changesetresponse boundaries, or JSON on request."""
    inner = "".join(
        f"--c\r\n{_http('POST Account', body, number)}\r\n" for number, body in (("1", '{"Name":"Ä"}'), ("2", '{"Name":"東京"}'))
    )
    change_set = f"Content-Type: multipart/mixed; boundary=c\r\n\r\n{inner}--c--\r\n"
    body = _multipart(change_set, _http("GET Account?$select=Name&$orderby=Name"))
    headers = {"Content-Type": "multipart/mixed;boundary=b"}
    answer = await tenant.http.post("/0/odata/$batch", content=body, headers=headers)
    assert answer.headers["content-type"].startswith("multipart/mixed; boundary=batchresponse_")
    assert answer.text.count("HTTP/1.1 201 Created") == 2
    assert "boundary=changesetresponse_" in answer.text
    assert "Content-ID: 2" in answer.text
    assert '"value":[{"Name":"Ä"},{"Name":"東京"}]' in answer.text
    as_json = await tenant.http.post(
        "/0/odata/$batch",
        content=body,
        headers={**headers, "Accept": "application/json"},
    )
    responses = as_json.json()["responses"]
    assert [(r["id"], r["status"]) for r in responses] == [("1", 201), ("2", 201), ("3", 200)]
    assert responses[0]["atomicityGroup"] == responses[1]["atomicityGroup"]
    wrong = await tenant.http.post("/0/odata/$batch", content=b"x", headers={"Content-Type": "text/plain"})
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    ("position", "pre_image", "final"),
    [("before_write", "A", "ours"), ("after_write", "A", "theirs"), (0, "theirs", "ours")],
)
async def test_a_user_saves_in_the_middle_of_a_batch(tenant, position, pre_image, final):
    """Between the pre-image and our write the edit is lost, after our write it wins, before the batch it is seen."""
    (one, _) = await _two_accounts(tenant)
    rule = {"kind": "user_edit_in_batch", "entity": "Account", "values": {"Name": "theirs", "Code": "7"}, "times": 1}
    await tenant.chaos({**rule, "position": position, "path": r"/\$batch$"})
    read = f"Account?$select=Name,Code,ModifiedById&$filter=Id eq {one}"
    responses = await tenant.batch(
        part(1, "GET", read),
        part(2, "PATCH", f"Account({one})", {"Name": "ours"}),
        part(3, "GET", read),
    )
    before, after = (responses[index]["body"]["value"][0] for index in (0, 2))
    assert before["Name"] == pre_image
    assert (after["Name"], after["Code"]) == (final, "7")
    assert (after["ModifiedById"] != before["ModifiedById"]) or position == 0
    assert (await tenant.http.get("/_control/requests")).json()["writes"] == 1


async def test_troubles_inside_a_batch_meet_one_part(tenant):
    """`insert_then_fail` fails the first create only, `part_status` the part it names with nothing done."""
    await tenant.chaos({"kind": "insert_then_fail"}, {"kind": "part_status", "status": 503, "index": 2})
    requests = [part(n, "POST", "Account", {"Name": f"A{n}", "TypeId": CUSTOMER}) for n in range(4)]
    responses = await tenant.batch(*requests, Prefer="continue-on-error")
    assert [response["status"] for response in responses] == [500, 201, 503, 201]
    assert await tenant.names("Name ne ''") == ["A0", "A1", "A3"]


async def test_a_connection_may_close_in_the_middle_of_a_batch(tenant):
    """`drop_in_batch` on a real socket: the parts before the cut are done, the rest is not, and no answer comes."""
    await tenant.chaos({"kind": "drop_in_batch", "index": 2, "times": 1})
    headers = {"Authorization": tenant.http.headers["Authorization"]}
    requests = [part(n, "POST", "Account", {"Name": f"A{n}"}) for n in range(4)]
    async with running(tenant.creatio.app) as url, httpx.AsyncClient(base_url=url, headers=headers) as http:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await http.post("/0/odata/$batch", json={"requests": requests})
    assert await tenant.names("Name ne ''") == ["A0", "A1"]
