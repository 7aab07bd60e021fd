"""The parts shared by all stand-ins: serving, chaos and the control API."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import httpx
import pytest
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sandbox.chaos import Chaos
from sandbox.control import Panel, Refused, Switches, controlled
from sandbox.serve import running


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True)
    size: int = 3


class _Rows:
    """A store in a dict, enough to see what the control API passes on."""

    def __init__(self):
        self.kept = {}

    def seed(self, entity, rows):
        if entity != "Thing":
            raise Refused(f"unknown entity {entity}; allowed Thing", 404)
        self.kept.update({row["id"]: row for row in rows})
        return [row["id"] for row in rows]

    def edit(self, entity, row_id, values, user):
        self.kept[row_id] = {**self.kept[row_id], **values, "by": user}
        return self.kept[row_id]

    def create(self, entity, values, user):
        self.kept[values["id"]] = {**values, "by": user}
        return self.kept[values["id"]]

    def delete(self, entity, row_id, user):
        del self.kept[row_id]

    def rows(self, entity, limit, offset):
        found = [self.kept[key] for key in sorted(self.kept)]
        return found[offset:][:limit], len(found)

    def row(self, entity, row_id):
        return self.kept.get(row_id)


class _Server:
    """A stand-in of two paths that counts what was really done."""

    def __init__(self):
        self.done = 0
        self.expired = 0
        self.panel = Panel("tiny", _Rows(), Switches(_Settings()), Chaos(own_kinds=frozenset({"odd"})))

        async def work(request: Request):
            await request.body()
            self.done += 1
            return PlainTextResponse("done", headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"})

        inner = Starlette(routes=[Route("/work", work, methods=["GET", "POST"]), Route("/token", work)])
        self.app = controlled(
            inner,
            self.panel,
            label=lambda method, path: (f"{method} {path[1:]}", path != "/token"),
            render=lambda status, kind: ("application/json", json.dumps({"error": {"code": str(status)}}).encode()),
            expire=self.expire,
        )

    def expire(self):
        self.expired += 1


@pytest.fixture
def server():
    """Give a tiny server."""
    return _Server()


@pytest.fixture
async def client(server) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the running server."""
    async with running(server.app) as url, httpx.AsyncClient(base_url=url, timeout=10) as client:
        yield client


async def _chaos(client, *rules, seed=0):
    answer = await client.put("/_control/chaos", json={"seed": seed, "rules": list(rules)})
    assert answer.status_code == 200, answer.text


async def test_requests_are_counted_and_control_requests_are_not(client):
    """Counted requests raise the total, tokens show by name only, control requests nowhere."""
    await client.get("/work")
    await client.post("/work", content=b"x")
    await client.get("/token")
    await client.get("/_control/health")
    counts = (await client.get("/_control/requests")).json()
    by = {"GET token": 1, "GET work": 1, "POST work": 1}
    assert counts == {"total": 2, "operations": 2, "writes": 0, "by": by, "most": by}
    await client.post("/_control/requests/reset")
    assert (await client.get("/_control/requests")).json()["total"] == 0


async def test_requests_in_work_at_one_time_are_counted(client):
    """Of three requests that overlap and two that follow, three were in work at one time."""
    await _chaos(client, {"kind": "delay", "seconds": 0.2, "times": 3})
    await asyncio.gather(*(client.get("/work") for _ in range(3)))
    for _ in range(2):
        await client.get("/work")
    assert (await client.get("/_control/requests")).json()["most"] == {"GET work": 3}


async def test_rows_pass_through_the_control_api(client):
    """Seed, edit, create, delete and both reads reach the store, and a refusal arrives as its sentence."""
    assert (await client.get("/_control/health")).json() == {"ok": True, "name": "tiny"}
    rows = [{"id": "b", "n": 1}, {"id": "a", "n": 2}]
    seeded = await client.post("/_control/seed", json={"entity": "Thing", "rows": rows})
    assert seeded.json() == {"ids": ["b", "a"]}
    edit = {"entity": "Thing", "id": "a", "values": {"n": 5}, "user": "ada"}
    assert (await client.post("/_control/edit", json=edit)).json() == {"row": {"id": "a", "n": 5, "by": "ada"}}
    await client.post("/_control/create", json={"entity": "Thing", "values": {"id": "c"}})
    await client.post("/_control/delete", json={"entity": "Thing", "id": "b"})
    page = (await client.get("/_control/rows", params={"entity": "Thing", "limit": 1, "offset": 1})).json()
    assert page == {"rows": [{"id": "c", "by": None}], "total": 2}
    assert (await client.get("/_control/row", params={"entity": "Thing", "id": "b"})).json() == {"row": None}
    refused = await client.post("/_control/seed", json={"entity": "Other", "rows": []})
    assert (refused.status_code, refused.json()) == (404, {"error": "unknown entity Other; allowed Thing"})


async def test_settings_are_validated_as_a_whole(client):
    """A wrong value or an unknown name changes nothing and says what is allowed."""
    assert (await client.put("/_control/settings", json={"size": 9})).json() == {"size": 9}
    unknown = await client.put("/_control/settings", json={"size": 1, "sise": 2})
    assert unknown.status_code == 400
    assert "sise" in unknown.json()["error"]
    assert (await client.put("/_control/settings", json={"size": "many"})).status_code == 400
    assert (await client.get("/_control/settings")).json() == {"size": 9}


async def test_the_clock_of_the_server_shows_in_the_date_header(client):
    """A skew moves the Date header, and there is exactly one."""
    before = await client.get("/work")
    await client.post("/_control/clock", json={"skew_seconds": 3600})
    after = await client.get("/work")
    dates = [parsedate_to_datetime(answer.headers["date"]) for answer in (before, after)]
    assert 3590 < (dates[1] - dates[0]).total_seconds() < 3700
    assert len(after.headers.get_list("date")) == 1


async def test_a_dropped_connection_leaves_no_answer_and_the_work_undone_or_done(client, server):
    """`drop_before` closes the socket with nothing done, `drop_after` with everything done; both then stop at `times`."""
    await _chaos(client, {"kind": "drop_before", "times": 1})
    # With the body unread the system may reset the connection instead of ending it.
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await client.post("/work", content=b"x" * 100_000)
    assert server.done == 0
    await _chaos(client, {"kind": "drop_after", "times": 1})
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await client.post("/work", content=b"x")
    assert server.done == 1
    assert (await client.get("/work")).text == "done"


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("json", "application/json", '{"error": {"code": "503"}}'),
        ("html", "text/html; charset=utf-8", "<h1>503 Service Unavailable</h1>"),
        ("empty", "text/plain", ""),
        ("malformed", "application/json; charset=utf-8", '{"error": {"code": '),
    ],
)
async def test_a_status_rule_answers_in_each_body(client, server, body, kind, text):
    """The status, its body and Retry-After are the rule's, and the work is not done."""
    await _chaos(client, {"kind": "status", "status": 503, "retry_after": 2, "body": body})
    answer = await client.post("/work", content=b"x")
    assert (answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]) == (503, kind, "2")
    assert text in answer.text
    assert server.done == 0
    if body == "malformed":
        with pytest.raises(json.JSONDecodeError):
            answer.json()


async def test_late_work_is_done_before_the_answer_and_delayed_work_after_the_wait(client, server):
    """During a late answer the work is already done, during a delay it is not."""
    for kind, done in (("late", 1), ("delay", 1)):
        await _chaos(client, {"kind": kind, "seconds": 0.25, "times": 1})
        started = time.monotonic()
        task = asyncio.create_task(client.get("/work"))
        await asyncio.sleep(0.12)
        assert server.done == done
        await task
        assert time.monotonic() - started >= 0.25
    assert server.done == 2


async def test_rules_meet_only_their_requests_and_count(client, server):
    """Method, path with query, `after` and `times` select; the counts of seen and fired are shown."""
    rule = {"kind": "status", "status": 429, "method": "POST", "path": r"/work\?x=", "after": 1, "times": 2}
    await _chaos(client, rule, {"kind": "expire", "times": 1})
    assert (await client.get("/work?x=1")).status_code == 200
    assert (await client.post("/work")).status_code == 200
    statuses = [(await client.post("/work?x=1")).status_code for _ in range(5)]
    assert statuses == [200, 429, 429, 200, 200]
    assert server.expired == 1
    shown = (await client.get("/_control/chaos")).json()
    assert shown["rules"][0] == {**rule, "seen": 5, "fired": 2}
    await client.delete("/_control/chaos")
    assert (await client.get("/_control/chaos")).json()["rules"] == []


async def test_a_share_is_repeatable_by_its_seed(client):
    """The same seed gives the same troubles; about the share of them."""
    rounds = []
    for _ in range(2):
        await _chaos(client, {"kind": "status", "status": 500, "share": 0.3}, seed=7)
        rounds.append([(await client.get("/work")).status_code for _ in range(60)])
    assert rounds[0] == rounds[1]
    assert 8 <= rounds[0].count(500) <= 30


async def test_a_rule_that_cannot_be_understood_is_refused(client):
    """An unknown kind names the allowed ones, among them the stand-in's own; a broken regex is refused too."""
    refused = await client.put("/_control/chaos", json={"rules": [{"kind": "boom"}]})
    assert refused.status_code == 400
    assert "odd" in refused.json()["error"]
    assert "drop_after" in refused.json()["error"]
    assert (await client.put("/_control/chaos", json={"rules": [{"kind": "odd", "path": "("}]})).status_code == 400
