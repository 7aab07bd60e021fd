"""Limits, faults and the command of the Dataverse stand-in (items 15 and 19)."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from sandbox.control import Clock
from sandbox.dataverse.desk import Desk
from sandbox.dataverse.messages import Operation
from sandbox.dataverse.operations import perform
from sandbox.dataverse.organization import DEFAULT_CLIENT_ID, open_organization
from sandbox.dataverse.queries import Cookie
from sandbox.dataverse.server import create_app
from sandbox.dataverse.switches import Settings
from sandbox.serve import running
from tests.contract.dataverse_stand_in import KEY, multipart, opened, part, token


async def test_too_many_requests() -> None:
    """Past the limit comes 429 0x80072322 with Retry-After, which grows while a client pushes on."""
    async with opened(request_limit=2, limit_window_seconds=60) as org:
        for left in ("2", "1"):
            answer = await org.send("GET", "WhoAmI")
            assert (answer.status_code, int(answer.headers["x-ms-ratelimit-burst-remaining-xrm-requests"])) == (200, int(left) - 1)
        first = await org.send("GET", "WhoAmI")
        assert (first.status_code, first.json()["error"]["code"]) == (429, "0x80072322")
        assert first.json()["error"]["message"].startswith("Number of requests exceeded the limit of 2 over time window")
        await org.send("GET", "WhoAmI")
        third = await org.send("GET", "WhoAmI")
        assert int(third.headers["Retry-After"]) > int(first.headers["Retry-After"]) >= 59


async def test_the_window_slides() -> None:
    """When the window has passed, requests are taken again."""
    async with opened(request_limit=1, limit_window_seconds=0.2) as org:
        await org.send("GET", "WhoAmI")
        assert (await org.send("GET", "WhoAmI")).status_code == 429
        await asyncio.sleep(0.25)
        assert (await org.send("GET", "WhoAmI")).status_code == 200


async def test_execution_time_counts_each_operation_of_a_batch() -> None:
    """A batch is one request, but its operations are charged one by one: 0x80072321."""
    async with opened(time_limit_seconds=5, execution_seconds=1) as org:
        assert (await org.batch(multipart(*[part("GET", "WhoAmI")] * 5))).status_code == 200
        assert (await org.refused("GET", "WhoAmI"))[:2] == (429, "0x80072321")


async def test_too_many_at_a_time() -> None:
    """More requests at the same time than allowed are refused at once: 0x80072326; the others are answered."""
    async with opened(concurrency_limit=2, latency_seconds=0.2) as org:
        answers = await asyncio.gather(*(org.send("GET", "WhoAmI") for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["code"] == "0x80072326"
        assert refused.headers["Retry-After"] == "1"


async def test_limits_hold_for_each_web_server() -> None:
    """Who keeps the affinity cookie uses the allowance of one server, who drops it that of all."""
    async with opened(request_limit=1, web_servers=3) as org:
        statuses = []
        for _ in range(4):
            org.http.cookies.clear()
            statuses.append((await org.send("GET", "WhoAmI")).status_code)
        assert statuses == [200, 200, 200, 429]
    async with opened(request_limit=1, web_servers=3) as org:
        assert [(await org.send("GET", "WhoAmI")).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [
        ({"status": 429, "retry_after": 7}, 429, "0x80072322"),
        ({"status": 429, "body": "concurrency"}, 429, "0x80072326"),
        ({"status": 500}, 500, "0x80040216"),
        ({"status": 500, "body": "deadlock"}, 500, "0x80044150"),
        ({"status": 500, "body": "sql_timeout"}, 500, "0x80044151"),
        ({"status": 503}, 503, "0x8004A104"),
    ],
)
async def test_faults_have_the_platforms_shape(rule, status, code) -> None:
    """Status rules answer with the code of the real error, and do nothing."""
    async with opened() as org:
        await org.chaos(kind="status", times=1, method="POST", **rule)
        answer = await org.send("POST", "accounts", {"name": "A"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers.get("Retry-After") == (str(rule["retry_after"]) if "retry_after" in rule else None)
        assert await org.names("name ne null") == []


async def test_the_front_door_answers_html() -> None:
    """A 502 of the front door is a page, not JSON."""
    async with opened() as org:
        await org.chaos(kind="status", status=502, body="html", times=1)
        answer = await org.send("GET", "accounts")
        assert (answer.status_code, answer.text.startswith("<html>")) == (502, True)


async def test_administration_mode() -> None:
    """In admin mode everybody else gets 403, WhoAmI included."""
    async with opened() as org:
        await org.chaos(kind="admin_mode")
        assert (await org.send("GET", "WhoAmI")).status_code == 403


async def test_committed_but_answered_with_an_error() -> None:
    """``insert_then_fail`` does the work and answers 500, as a crash after the commit would."""
    async with opened() as org:
        await org.chaos(kind="insert_then_fail", method="POST", times=1)
        assert (await org.refused("POST", "accounts", {"name": "A"}))[:2] == (500, "0x80040216")
        assert await org.names("name ne null") == ["A"]


@pytest.mark.parametrize(("how", "kept"), [("trim", "a  b"), ("collapse", "a b"), ("upper", " A  B ")])
async def test_the_server_changes_a_text(how, kept) -> None:
    """``normalise`` stores another text than was sent, in single requests and in bulk."""
    async with opened() as org:
        await org.chaos(kind="normalise", column="name", how=how)
        assert (await org.stored(await org.create(name=" a  b ")))["name"] == kept
        body = {"Targets": [{"@odata.type": "Microsoft.Dynamics.CRM.account", "name": " a  b "}]}
        answer = await org.send("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", body)
        assert (await org.stored(answer.json()["Ids"][0]))["name"] == kept


async def test_changes_delivered_twice() -> None:
    """``repeat_delta`` repeats the changes of a delta link; the next link is as good as ever."""
    async with opened() as org:
        link = (await org.get("accounts?$select=name", prefer="odata.track-changes"))["@odata.deltaLink"]
        row_id = await org.create(name="A")
        await org.chaos(kind="repeat_delta", path="deltatoken", times=1)
        body = await org.get(link)
        assert [row["accountid"] for row in body["value"]] == [row_id, row_id]
        assert (await org.get(body["@odata.deltaLink"]))["value"] == []


async def test_bodies_beyond_the_limit() -> None:
    """A request larger than the server takes is 413, in JSON, and nothing is done."""
    async with opened(largest_body=100) as org:
        assert (await org.refused("POST", "accounts", {"description": "x" * 200}))[0] == 413
        assert await org.names("accountid ne null") == []


async def test_a_lost_reply_after_the_commit() -> None:
    """Over a socket: the connection closes without an answer, and the row is there."""
    async with running(create_app(token_key=KEY)) as url, httpx.AsyncClient(base_url=url) as http:
        headers = {"Authorization": f"Bearer {token(url)}"}
        await http.put("/_control/chaos", json={"rules": [{"kind": "drop_after", "method": "POST", "times": 1}]})
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post("/api/data/v9.2/accounts", json={"name": "A"}, headers=headers)
        answer = await http.get("/api/data/v9.2/accounts?$select=name", headers=headers)
        assert [row["name"] for row in answer.json()["value"]] == ["A"]


def _started(database: Path) -> tuple[subprocess.Popen, str]:
    """Start the command and read its ready line."""
    command = [sys.executable, "-m", "sandbox.dataverse", "--port", "0", "--database", str(database), "--token-key", KEY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    line = process.stdout.readline()
    assert line.startswith("dataverse ready on http://127.0.0.1:")
    return process, line.split()[-1]


def test_the_command_keeps_rows_in_its_file(tmp_path) -> None:
    """``python -m sandbox.dataverse`` says where it is ready, and finds its rows again after a restart."""
    for expected in ([], ["A"]):
        process, url = _started(tmp_path / "rows.db")
        try:
            headers = {"Authorization": f"Bearer {token(url)}"}
            answer = httpx.get(f"{url}/api/data/v9.2/accounts?$select=name", headers=headers)
            assert [row["name"] for row in answer.json()["value"]] == expected
            httpx.post(f"{url}/api/data/v9.2/accounts", json={"name": "A"}, headers=headers)
        finally:
            process.terminate()
            process.communicate(timeout=10)


def test_small_reads_of_a_large_table_stay_small() -> None:
    """A page, a delta and a look-up take as many steps in SQLite with 6,000 rows as with 200: indexes are used."""
    ids = [f"{number:08}-0000-0000-0000-000000000000" for number in range(6_000)]
    middle = json.dumps({"last": [ids[100]]})
    organization = open_organization(":memory:", Settings(), DEFAULT_CLIENT_ID, Clock())
    paths = (
        ("accounts", "$select=name&$filter=name eq 'ACCOUNT 50'"),
        ("accounts(tandem_creatioid='50')", "$select=name"),
        ("accounts", "$select=name&" + Cookie(2, tracking=False, state=json.loads(middle)).option()),
        ("accounts", "$select=name&$deltatoken={token}"),
    )
    steps: list[list[int]] = []
    for begin, end in ((0, 200), (200, 6_000)):
        rows = [{"accountid": ids[at], "name": f"Account {at}", "tandem_creatioid": str(at)} for at in range(begin, end)]
        Desk(organization).seed("account", rows)
        moment = datetime.now(UTC).strftime("%m/%d/%Y %H:%M:%S")
        token = quote(f"{organization.database.version()}!{moment}", safe="")
        steps.append([_steps(organization, path, query.format(token=token)) for path, query in paths])
    small, large = steps
    assert [few * 2 + 200 > many for few, many in zip(small, large, strict=True)] == [True] * len(paths), steps


def _steps(organization, path: str, query: str) -> int:
    """Count SQLite's steps for one read, in tens."""
    counted = []
    connection = organization.database._connection
    connection.set_progress_handler(lambda: counted.append(1), 10)
    headers = {"prefer": ("odata.maxpagesize=20",)}
    user = organization.application_user(DEFAULT_CLIENT_ID)
    reply = perform(organization, Operation("GET", path, query, headers, b"", "http://contoso.test/api/data/v9.2", user))
    connection.set_progress_handler(None, 0)
    assert reply.status == 200, reply.body
    return len(counted)
