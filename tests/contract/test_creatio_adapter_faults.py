"""The Creatio adapter against answers that no server should give: every one becomes a coded error, and nothing is lost or repeated."""

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.core.errors import Denied, Rejected, TandemError, Transient
from shared.core.records import Row, Stamp, Write, WriteKind
from shared.systems.creatio import Creatio, creatio_error
from shared.systems.web import Response, Web
from tests.contract.creatio_site import ids_of, no_wait, walk

CSDL = b"""<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>
<Schema Namespace="Terrasoft.Configuration.OData" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<EntityType Name="Account"><Key><PropertyRef Name="Id"/></Key>
<Property Name="Id" Type="Edm.Guid" Nullable="false"/><Property Name="Name" Type="Edm.String" Nullable="false"/>
<Property Name="ModifiedOn" Type="Edm.DateTimeOffset"/><Property Name="ModifiedById" Type="Edm.Guid"/>
<Property Name="Employees" Type="Edm.Int32"/>
</EntityType></Schema></edmx:DataServices></edmx:Edmx>"""
ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
WHEN = "2026-01-31T10:00:00.123456Z"
Handler = Callable[[httpx.Request], httpx.Response]


class NoLogin:
    """A login that needs nothing."""

    async def headers(self) -> Mapping[str, str]:
        return {}

    async def renew(self) -> None:
        return None

    def ended(self, response: Response) -> bool:
        return False


def adapter_for(handler: Handler, *, base_url: str = "https://crm.example.com", **options: Any) -> Creatio:
    """Return an adapter whose server is a function; metadata is there."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=CSDL) if request.url.path.endswith("$metadata") else handler(request)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    web = Web("creatio", base_url, client, NoLogin(), error=creatio_error, sleep=no_wait, repeats=0)
    return Creatio(web, **options)


def row(record_id: str = ONE, **members: Any) -> dict[str, Any]:
    """Return a raw row."""
    return {"Id": record_id, "ModifiedOn": WHEN, "ModifiedById": TWO, "Name": "a", "Employees": 1, **members}


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a raw row without one member."""
    return {key: value for key, value in record.items() if key != name}


def batch_of(*bodies: Any) -> Handler:
    """Answer batches with the same 200 bodies."""
    responses = [{"id": str(place), "status": 200, "headers": {}, "body": body} for place, body in enumerate(bodies, start=1)]
    return lambda _: httpx.Response(200, json={"responses": responses})


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (without(row(), "Name"), "Name"),
        (without(row(), "ModifiedOn"), "ModifiedOn"),
        (row(Name=5), "Name"),
        (row(Name={"a": 1}), "Name"),
        (row(Employees="many"), "Employees"),
        (row(Employees=1.5), "Employees"),
        (row(ModifiedOn="yesterday"), "ModifiedOn"),
        (row(ModifiedOn="2026-01-31T10:00:00"), "ModifiedOn"),
    ],
)
async def test_a_row_with_missing_or_wrong_members_stops_only_itself(raw: dict[str, Any], field: str) -> None:
    """Law 13: the row is an error that names the column, the row beside it is read."""
    found = await adapter_for(batch_of({"value": [raw, row(TWO)]})).read("Account", [ONE, TWO], ["Name", "Employees"])
    bad = found[ONE]
    assert isinstance(bad, Rejected)
    assert (bad.code, bad.field, bad.record_id) == ("creatio.bad_row", field, ONE)
    assert isinstance(found[TWO], Row)


BROKEN = {
    "html": b"<html><body>Sign in</body></html>",
    "empty": b"",
    "truncated": b'{"responses":[{"id":"1","status":200,"body":{"value":[{"Id":',
    "nan": b'{"responses":[{"id":"1","status":200,"body":{"value":[{"Id":"x","Employees":NaN}]}}]}',
    "not_utf8": b'{"value":"\xff\xfe"}',
    "list": b"[]",
    "null": b"null",
    "no_responses": b"{}",
    "responses_no_list": b'{"responses":{}}',
    "part_no_object": b'{"responses":[1]}',
    "part_without_status": b'{"responses":[{"id":"1"}]}',
    "part_of_nobody": b'{"responses":[{"id":"77","status":200}]}',
    "part_twice": b'{"responses":[{"id":"1","status":200},{"id":"1","status":204}]}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
async def test_a_body_that_can_not_be_read_is_transient_for_reads_and_writes(content: bytes) -> None:
    """Malformed, truncated or alien bodies, whatever they claim to be: a read raises Transient, a write tells it a record, once."""
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, content=content, headers={"content-type": "application/json"})

    adapter = adapter_for(answer)
    with pytest.raises(Transient) as caught:
        await adapter.read("Account", [ONE], ["Name"])
    assert caught.value.code in ("creatio.not_json", "creatio.bad_answer")
    with pytest.raises(Transient):
        await walk(adapter)
    sent.clear()
    results = await adapter.write("Account", [Write(WriteKind.CREATE, ONE, {"Name": "a"}), Write(WriteKind.CREATE, TWO, {"Name": "b"})])
    assert [result.error.record_id if isinstance(result.error, Transient) else "" for result in results] == [ONE, TWO]
    assert len(sent) == 1


async def test_a_part_that_is_html_or_text_is_that_parts_error() -> None:
    """Creatio.md 9.13: a part's body may be a page; the ids it was about get the error, the others are read."""
    ids = [str(uuid.UUID(int=number)) for number in range(1, 21)]
    page = {"id": "1", "status": 500, "headers": {"content-type": "text/html"}, "body": "<html>oops</html>"}
    good = {"id": "2", "status": 200, "body": {"value": [row(one) for one in ids[15:]]}}
    found = await adapter_for(lambda _: httpx.Response(200, json={"responses": [good, page]})).read("Account", ids, ["Name"])
    assert all(isinstance(found[one], Transient) for one in ids[:15])
    assert all(isinstance(found[one], Row) for one in ids[15:])


async def test_a_read_part_that_is_refused_stops_the_flow() -> None:
    """A 403 for one read of a batch is a right for the object that is missing: it concerns all records, so nothing goes on quietly."""
    part = {"id": "1", "status": 403, "headers": {}, "body": {"error": {"message": "no"}}}
    with pytest.raises(Denied) as caught:
        await adapter_for(lambda _: httpx.Response(200, json={"responses": [part]})).read("Account", [ONE], ["Name"])
    assert caught.value.code == "creatio.denied"


async def test_parts_left_out_were_not_executed() -> None:
    """Creatio.md 2.5: a write that is absent from the answer has not run: Transient, while the answered ones have their results."""
    closing = {"value": [row(ONE, Name="a")]}
    responses = [{"id": "1", "status": 201, "body": row(ONE)}, {"id": "3", "status": 200, "body": closing}]
    adapter = adapter_for(lambda _: httpx.Response(200, json={"responses": responses}))
    first, second = await adapter.write(
        "Account", [Write(WriteKind.CREATE, ONE, {"Name": "a"}), Write(WriteKind.CREATE, TWO, {"Name": "b"})]
    )
    assert first.error is None
    assert isinstance(second.error, Transient)
    assert "not executed" in second.error.said


async def test_a_closing_read_that_fails_is_made_up_for() -> None:
    """Written but not read back in the batch: the record is read once more instead of being written again."""
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        bodies.append(body)
        if len(bodies) == 1:
            parts = [{"id": "1", "status": 201, "body": row(ONE)}, {"id": "2", "status": 503, "body": None}]
            return httpx.Response(200, json={"responses": parts})
        return httpx.Response(200, json={"responses": [{"id": "1", "status": 200, "body": {"value": [row(ONE)]}}]})

    result = (await adapter_for(answer).write("Account", [Write(WriteKind.CREATE, ONE, {"Name": "a"})]))[0]
    assert result.error is None
    assert result.row is not None
    assert [[part["method"] for part in body["requests"]] for body in bodies] == [["POST", "GET"], ["GET"]]


async def test_rows_that_fit_no_key_as_seen_from_here_are_asked_for_singly() -> None:
    """A server that ignores accents finds `Café` for `Cafe`: beside other keys the key is asked again alone, and has its row."""
    sizes: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        parts = json.loads(request.content)["requests"]
        sizes.append(len(parts))
        found = [
            {"value": [row(Name="Café")] if "Cafe" in part["url"] else [], "@odata.count": int("Cafe" in part["url"])} for part in parts
        ]
        return httpx.Response(200, json={"responses": [{"id": str(n), "status": 200, "body": body} for n, body in enumerate(found, 1)]})

    hits = await adapter_for(answer).find("Account", [{"Name": "Cafe"}, {"Name": "other"}], ["Name"])
    assert [[one.id for one in rows] for rows in hits] == [[ONE], []]
    assert sizes == [1, 2]


async def test_one_record_that_spoils_a_whole_batch_is_found() -> None:
    """A batch refused as a whole with 400 has run nothing: it is halved until the record that spoils it stands alone."""

    def answer(request: httpx.Request) -> httpx.Response:
        parts = json.loads(request.content)["requests"]
        if any(part.get("body", {}).get("Name") == "spoils" for part in parts):
            return httpx.Response(400, json={"error": {"code": "", "message": "no"}})
        ids = [part["body"]["Id"] for part in parts if part["method"] == "POST"]
        answers = [{"id": part["id"], "status": 201, "body": row(part["body"]["Id"])} for part in parts if part["method"] == "POST"]
        closing = {"id": parts[-1]["id"], "status": 200, "body": {"value": [row(one) for one in ids]}}
        return httpx.Response(200, json={"responses": [*answers, closing]})

    writes = [Write(WriteKind.CREATE, str(uuid.UUID(int=n)), {"Name": "spoils" if n == 7 else "fine"}) for n in range(1, 21)]
    results = await adapter_for(answer).write("Account", writes)
    assert [place for place, result in enumerate(results, start=1) if result.error is not None] == [7]
    assert isinstance(results[6].error, Rejected)


async def test_a_batch_keeps_the_rules_of_the_wire() -> None:
    """Creatio.md 2.5: a full batch has at most 100 parts, unique ids, continue-on-error outside, money as digits, reads at both ends."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(500)

    before = Row(ONE, Stamp(datetime(2026, 1, 1, tzinfo=UTC)), {"Name": "a"})
    writes = [Write(WriteKind.UPDATE, str(uuid.UUID(int=n)), {"Name": "b"}, before) for n in range(1, 89)]
    await adapter_for(answer).write("Account", writes)
    (request,) = seen
    parts = json.loads(request.content)["requests"]
    assert request.headers["prefer"] == "continue-on-error"
    assert [part["method"] for part in parts] == ["GET"] * 6 + ["PATCH"] * 88 + ["GET"] * 6
    assert len({part["id"] for part in parts}) == 100
    assert all(len(part["url"]) < 2048 for part in parts)
    assert all(part["headers"]["Content-Type"] == "application/json" for part in parts if part["method"] == "PATCH")


def pages(*bodies: Any, date: str | None = "Sat, 31 Jan 2026 10:05:00 GMT") -> Handler:
    """Answer collection reads one after the other; the last for ever."""
    left = list(bodies)

    def answer(_: httpx.Request) -> httpx.Response:
        body = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(200, json=body, headers={"date": date} if date else {})

    return answer


async def test_a_next_link_that_comes_twice_is_no_endless_loop() -> None:
    """A server that sends the same next link again is given up instead of being followed for ever."""
    link = {"value": [row()], "@odata.nextLink": "https://crm.example.com/0/odata/Account?$skiptoken=1"}
    with pytest.raises(Transient, match="second time"):
        await walk(adapter_for(pages(link)))


async def test_a_next_link_to_another_host_is_not_followed() -> None:
    """Credentials go to the configured origin only."""
    link = {"value": [row()], "@odata.nextLink": "https://evil.example.com/0/odata/Account?$skiptoken=1"}
    with pytest.raises(Denied) as caught:
        await walk(adapter_for(pages(link)))
    assert caught.value.code == "creatio.bad_answer"


async def test_a_server_that_ignores_the_offset_is_no_endless_loop() -> None:
    """The same page again and again, with a count that promises more: each verb gives up by code."""
    body = {"value": [row(TWO)], "@odata.count": 10**9}
    adapter = adapter_for(pages({**body, "responses": [{"id": "1", "status": 200, "body": body}]}))
    for call in (adapter.users, lambda: walk(adapter), lambda: adapter.read("Account", [ONE], ["Name"])):
        with pytest.raises(Transient):
            await call()


async def test_relative_next_links_are_followed_below_the_root() -> None:
    """A link without a host is taken below the service root, with or without the root in it."""
    for link in ("Account?$skiptoken=1", "/0/odata/Account?$skiptoken=1"):
        asked: list[str] = []

        def answer(request: httpx.Request, asked: list[str] = asked, link: str = link) -> httpx.Response:
            asked.append(str(request.url))
            more = {"@odata.nextLink": link} if len(asked) == 1 else {}
            return httpx.Response(200, json={"value": [row(ONE if more else TWO)], "@odata.count": 2, **more})

        assert ids_of(await walk(adapter_for(answer))) == [ONE, TWO]
        assert asked[1] == "https://crm.example.com/0/odata/Account?$skiptoken=1"


async def test_rows_out_of_order_are_not_trusted() -> None:
    """A feed whose rows do not come in the order of time can't be cut by time: refused instead of losing rows."""
    body = {"value": [row(ONE), row(TWO, ModifiedOn="2020-01-01T00:00:00Z")], "@odata.count": 2}
    with pytest.raises(Transient, match="order"):
        await walk(adapter_for(pages(body)))


async def test_a_server_without_counts_loses_no_row() -> None:
    """Where `$count` is not answered the walk goes on until a page brings nothing but the row it began with."""
    stored = [row(str(uuid.UUID(int=n)), ModifiedOn=f"2026-01-31T10:00:{n // 4:02}Z") for n in range(1, 41)]

    def answer(request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        start = query.get("$filter", "").removeprefix("ModifiedOn ge ")
        met = [one for one in stored if one["ModifiedOn"] >= start][int(query.get("$skip", 0)) :][:5]
        return httpx.Response(200, json={"value": met}, headers={"date": "Sat, 31 Jan 2026 10:05:00 GMT"})

    announced = ids_of(await walk(adapter_for(answer)))
    assert announced == [one["Id"] for one in stored]


async def test_a_server_without_a_clock_still_moves_on() -> None:
    """Without a `Date` header the newest row's time, less the overlap, is the watermark."""
    adapter = adapter_for(pages({"value": [row()], "@odata.count": 1}, date=None))
    first = await walk(adapter)
    assert ids_of(first) == [ONE]
    assert json.loads(first[-1].position)["t"] == "2026-01-31T09:55:00.123456+00:00"
    assert ids_of(await walk(adapter, first[-1].position)) == []


async def test_a_new_column_is_found_after_the_old_metadata_failed() -> None:
    """Creatio.md 9.14: cached metadata is dropped when a column is unknown, so that a published one is found at the next try."""
    published = False

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("$metadata"):
            extra = b'<Property Name="UsrNew" Type="Edm.String"/></EntityType>' if published else b"</EntityType>"
            return httpx.Response(200, content=CSDL.replace(b"</EntityType>", extra))
        return batch_of({"value": [row(UsrNew="x")]})(request)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    adapter = Creatio(Web("creatio", "https://crm.example.com", client, NoLogin(), error=creatio_error, sleep=no_wait))
    with pytest.raises(Rejected) as caught:
        await adapter.read("Account", [ONE], ["UsrNew"])
    assert caught.value.code == "creatio.unknown_column"
    published = True
    found = (await adapter.read("Account", [ONE], ["UsrNew"]))[ONE]
    assert isinstance(found, Row)
    assert found.values == {"UsrNew": "x"}


async def test_a_column_that_is_away_for_a_moment_is_asked_for_again() -> None:
    """While somebody publishes, a column of the metadata may be unknown: asked once more it is there, and a lasting loss is told."""
    part = {"id": "1", "status": 400, "body": {"error": {"message": "Could not find a property named 'Name' on type 'T'."}}}
    good = {"id": "1", "status": 200, "body": {"value": [row()]}}
    answers = [part, good, part, part]

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"responses": [answers.pop(0)]})

    adapter = adapter_for(answer)
    assert isinstance((await adapter.read("Account", [ONE], ["Name"]))[ONE], Row)
    with pytest.raises(Rejected) as caught:
        await adapter.find("Account", [{"Name": "a"}], ["Name"])
    assert (caught.value.code, caught.value.field) == ("creatio.unknown_column", "Name")
    assert not answers


async def test_an_object_that_is_away_while_somebody_publishes_is_waited_for() -> None:
    """Creatio.md 2.1: an object that answered less than five minutes ago is Transient when it is unknown; after that it is Rejected."""
    now = 1000.0
    gone = False
    body = {"Message": "No HTTP resource was found that matches the request URI 'x'."}

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("$batch"):
            return httpx.Response(404, json=body) if gone else httpx.Response(200, json={"value": []})
        return httpx.Response(200, json={"responses": [{"id": "1", "status": 404, "body": body}]})

    def asks(adapter: Creatio) -> list[Any]:
        return [walk(adapter), adapter.read("Account", [ONE], ["Name"]), adapter.find("Account", [{"Name": "a"}], ["Name"])]

    adapter = adapter_for(answer, monotonic=lambda: now)
    await walk(adapter)
    gone = True
    for later, group in ((1299.0, Transient), (1300.0, Rejected)):
        now = later
        for ask in asks(adapter):
            with pytest.raises(group) as caught:
                await ask
            assert caught.value.code == ("creatio.unavailable" if group is Transient else "creatio.unknown_entity")
    for ask in asks(adapter_for(answer)):  # never seen: a wrong name in a mapping
        with pytest.raises(Rejected):
            await ask


async def test_a_hit_that_can_not_be_read_is_told_with_its_id_for_one_key() -> None:
    """One odd row spoils only its own key: asked for many keys no record is named, asked for that key the row is, others are found."""
    odd = row(TWO, Name="b", ModifiedOn="0001-01-01T00:00:00Z")

    def answer(request: httpx.Request) -> httpx.Response:
        responses = []
        for part in json.loads(request.content)["requests"]:
            rows = [one for one in (row(), odd) if f"Name%20eq%20'{one['Name']}'" in part["url"]]
            responses.append({"id": part["id"], "status": 200, "body": {"value": rows}})
        return httpx.Response(200, json={"responses": responses})

    adapter = adapter_for(answer)
    for keys, named in (([{"Name": "a"}, {"Name": "b"}], ""), ([{"Name": "b"}], TWO)):
        with pytest.raises(Rejected) as caught:
            await adapter.find("Account", keys, ["Name"])
        assert (caught.value.code, caught.value.record_id) == ("creatio.bad_row", named)
    assert [one.id for one in (await adapter.find("Account", [{"Name": "a"}], ["Name"]))[0]] == [ONE]


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"<a", b"{}", b'<!DOCTYPE x [<!ENTITY a "b">]><x/>', b"\xff\xfe"])
async def test_metadata_that_is_none_is_transient(content: bytes) -> None:
    """A metadata document that is no CSDL is an error by code, and is asked for again at the next try."""
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=content)))
    adapter = Creatio(Web("creatio", "https://crm.example.com", client, NoLogin(), error=creatio_error, sleep=no_wait))
    with pytest.raises(Transient) as caught:
        await adapter.describe("Account", ["Name"], ())
    assert caught.value.code == "creatio.not_json"


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
NAMES = ("responses", "id", "status", "body", "value", "Id", "ModifiedOn", "Name", "error", "message", "innererror")
FLAT = LEAVES | st.sampled_from([ONE, WHEN, "1", "2", "3"])
INNER = FLAT | st.lists(FLAT, max_size=3) | st.dictionaries(st.sampled_from(NAMES), FLAT, max_size=4)
DEEPER = FLAT | st.lists(INNER, max_size=3) | st.dictionaries(st.sampled_from(NAMES), INNER, max_size=4)
JSON = FLAT | st.lists(DEEPER, max_size=3) | st.dictionaries(st.sampled_from(NAMES), DEEPER, max_size=4)


def replaced(node: Any, way: list[int], by: Any) -> Any:
    """Return a JSON value with one member on a way of choices replaced."""
    if not way or not isinstance(node, dict | list) or not node:
        return by
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = keys[way[0] % len(keys)]
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[key] = replaced(node[key], way[1:], by)
    return copy


def good_body() -> dict[str, Any]:
    """Return a body that answers a batch of reads as well as a read of rows."""
    rows = {"value": [row(), row(TWO)], "@odata.count": 2}
    error = {"error": {"message": "a", "innererror": {"message": "b", "internalexception": {"message": "c"}}}}
    parts = [
        {"id": "1", "status": 200, "headers": {}, "body": rows},
        {"id": "2", "status": 500, "headers": {"retry-after": "1"}, "body": error},
        {"id": "3", "status": 201, "headers": {}, "body": row(TWO, CreatedById=ONE)},
        {"id": "4", "status": 200, "headers": {}, "body": rows},
    ]
    return {"responses": parts, **rows, "@odata.nextLink": ""}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    way=st.lists(st.integers(0, 7), max_size=6),
    by=JSON,
    status=st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 409, 429, 500, 503]),
)
async def test_no_answer_whatever_makes_anything_but_a_coded_error(way: list[int], by: Any, status: int) -> None:
    """A good answer with any member replaced by anything: reads give rows or TandemErrors, writes a result a record, nothing else."""
    body = replaced(good_body(), way, by)
    adapter = adapter_for(lambda _: httpx.Response(status, json=body))
    for call in (
        lambda: adapter.read("Account", [ONE], ["Name", "Employees"]),
        lambda: adapter.find("Account", [{"Name": "a"}, {"Employees": 1}], ["Name"]),
        adapter.users,
        lambda: anext(adapter.changes("Account", (), None, None)),
    ):
        try:
            await call()
        except TandemError as error:
            assert error.code.startswith("creatio.")  # noqa: PT017 - both outcomes are fine, no third one is
    results = await adapter.write("Account", [Write(WriteKind.UPDATE, ONE, {"Name": "a"}), Write(WriteKind.CREATE, TWO, {"Name": "b"})])
    assert [result.id for result in results] == [ONE, TWO]
