"""The local host against a real Azurite: each test holds it to one rule of azure.md, section 2."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobClient, BlobLeaseClient

from tests.integration.local_host_process import FUNCTION_KEY, HOST_APP, MASTER_KEY, PROJECT, HostWorld, until


@pytest.fixture
def world(account, tmp_path) -> HostWorld:
    """A work queue and a host id that no other test uses."""
    return HostWorld(account, tmp_path)


def test_a_message_is_run_once_and_deleted(world):
    """A message that succeeds is run once, with id and dequeue count, and is gone afterwards (2.3, 9)."""
    world.send({"name": "one"})
    with world.host():
        until(lambda: world.depth() == 0, "the message is deleted")
        time.sleep(0.5)
    (event,) = world.events("work")

    assert event["order"] == {"name": "one"}
    assert event["count"] == 1
    assert event["id"]
    assert event["invocation"]
    assert event["trace"].startswith("00-")


def test_a_failing_message_runs_max_dequeue_count_times_and_is_then_poison(world):
    """With maxDequeueCount 3 a message runs 3 times, then its body lies in the poison queue under a new count (2.3, 10)."""
    world.send({"name": "bad", "fail": True})
    with world.host():
        until(lambda: bool(world.events("buried")), "the poison function sees the message")
        until(lambda: world.depth() == 0, "the original is deleted")

    assert [event["count"] for event in world.events("work")] == [1, 2, 3]
    assert [(json.loads(event["body"]), event["count"]) for event in world.events("buried")] == [({"name": "bad", "fail": True}, 1)]


def test_the_last_failure_makes_poison_at_once(world):
    """The move comes with the failure itself, not with one more dequeue after the visibility timeout (2.3, 10)."""
    world.settings["AzureFunctionsJobHost__extensions__queues__visibilityTimeout"] = "01:00:00"
    world.settings["AzureFunctionsJobHost__extensions__queues__maxDequeueCount"] = "1"
    world.send({"name": "bad", "fail": True})
    with world.host():
        until(lambda: bool(world.events("buried")), "the poison function sees the message")

    assert len(world.events("work")) == 1


def test_a_failed_message_waits_for_the_visibility_timeout_of_host_json(world):
    """After a failure the message is invisible for visibilityTimeout, here 3 s on a clock that runs twice as fast (2.3, 11)."""
    world.settings["AzureFunctionsJobHost__extensions__queues__visibilityTimeout"] = "00:00:04"
    world.send({"name": "again", "fail": True})
    with world.host(scale=2):
        until(lambda: len(world.events("work")) == 2, "the second run")
    first, second = world.events("work")

    assert 1.9 <= second["at"] - first["at"] <= 4


def test_the_poison_queue_has_no_poison_queue(world):
    """A message that fails in a -poison queue stays there, invisible, instead of moving on or spinning (2.3, poison naming)."""
    world.send({"name": "unburied", "fail": True}, "-poison")
    with world.host():
        until(lambda: bool(world.events("buried")), "the poison function sees the message")
        time.sleep(1.5)

    assert len(world.events("buried")) == 1
    assert world.depth("-poison") == 1
    assert not world.exists("-poison-poison")


def test_a_text_that_is_not_base64_is_poison_at_once(world):
    """A message that can't be decoded goes to the poison queue and the function never sees it (2.3, encoding)."""
    world.send("plain text, no Base64!", raw=True)
    with world.host():
        until(lambda: world.exists("-poison") and world.depth() == 0, "the message is moved")

    assert world.events("work") == []


def test_no_more_run_at_once_than_batch_size_and_threshold(world):
    """With batchSize 4 and newBatchThreshold 2 at most 6 of 14 messages run at the same time, and more than one batch does (2.2)."""
    for index in range(14):
        world.send({"name": str(index), "sleep": 0.3 + 0.15 * (index % 4)})
    with world.host():
        until(lambda: len(world.events("worked")) == 14, "all messages are done")
    steps = [1 if event["event"] == "work" else -1 for event in world.events("work", "worked")]

    assert 4 < max(itertools.accumulate(steps)) <= 6


def test_a_long_run_keeps_its_message(world):
    """A run longer than the visibility timeout (2 real seconds at this scale) renews it, runs once and deletes it (2.3, 8)."""
    world.send({"name": "long", "sleep": 3.5})
    with world.host(scale=300):
        until(lambda: len(world.events("worked")) == 1, "the run ends")
        until(lambda: world.depth() == 0, "the message is deleted with the renewed receipt")

    assert len(world.events("work")) == 1


def test_a_message_of_a_killed_host_comes_again(world):
    """After SIGKILL another host gets the message when its visibility timeout ends, with the next dequeue count (2.3, 12)."""
    world.send({"name": "survivor", "sleep": 1})
    with world.host(scale=300) as first:
        until(lambda: bool(world.events("work")), "the first run begins")
        first.kill()
    with world.host(scale=300):
        until(lambda: bool(world.events("worked")), "the second run ends")

    assert [event["count"] for event in world.events("work")] == [1, 2]


def test_sigterm_lets_running_functions_end(world):
    """On SIGTERM the host fetches no more, lets the run end, deletes its message and exits with 0."""
    world.send({"name": "last", "sleep": 1.5})
    with world.host() as host:
        until(lambda: bool(world.events("work")), "the run begins")
        host.process.terminate()
        time.sleep(0.3)
        world.send({"name": "too late"})
        code = host.process.wait(20)

    assert code == 0
    assert [event["order"]["name"] for event in world.events("worked")] == ["last"]
    assert world.depth() == 1


def test_draining_has_an_end(world):
    """A function that does not end in the drain time is given up, and its message is kept for later."""
    world.send({"name": "endless", "sleep": 60})
    with world.host("--drain-seconds", "0.5") as host:
        until(lambda: bool(world.events("work")), "the run begins")
        started = time.monotonic()
        code = host.terminate()

    assert code == 0
    assert time.monotonic() - started < 8
    assert world.depth() == 1


def test_function_timeout_fails_everything_that_runs(world):
    """A function beyond functionTimeout takes the worker with it, and so one that is within its own time (2.1)."""
    world.settings["AzureFunctionsJobHost__functionTimeout"] = "00:00:02"
    world.settings["AzureFunctionsJobHost__extensions__queues__maxDequeueCount"] = "1"
    world.send({"name": "endless", "sleep": 60})
    with world.host() as host:
        until(lambda: bool(world.events("work")), "the run begins")
        time.sleep(0.5)
        started = time.monotonic()
        answer = host.get("/api/slow", params={"seconds": 1.8})
        seconds = time.monotonic() - started
        until(lambda: bool(world.events("buried")), "the message is poison")

    assert answer.status_code == 500
    assert seconds < 1.8
    assert world.events("worked") == []


def test_queue_outputs_are_sent_after_success_only(world):
    """A plain function's output reaches its queue as several messages, and nothing is sent when it fails (1.3)."""
    world.send("fail", "-plain")
    world.send("ping", "-plain")
    with world.host():
        until(lambda: len(world.events("relay")) == 2, "both messages are relayed")
        until(lambda: world.exists("-plain-poison"), "the failing one is poison")

    assert sorted(event["text"] for event in world.events("relay")) == ["PING", "ping"]


def test_an_output_ends_the_wait_of_its_listener(world):
    """A queue output in the same host wakes the listener, although its polling interval is a minute (2.3, 6)."""
    world.settings["AzureFunctionsJobHost__extensions__queues__maxPollingInterval"] = "00:01:00"
    with world.client("-relayed") as relayed:
        relayed.create_queue()
    with world.host() as host:
        time.sleep(4)  # 100, 200, 300, 500, 900, 1700 ms: the next wait is 3 s
        started = time.time()
        answer = host.post("/admin/functions/plain", json={"input": "wake"}, headers={"x-functions-key": MASTER_KEY})
        until(lambda: len(world.events("relay")) == 2, "the output arrives")

    assert answer.status_code == 202
    assert world.events("relay")[0]["at"] - started < 1


def test_a_returned_value_without_return_binding_fails_the_run(world):
    """A function that returns a value although nothing takes it has failed, as in the worker (1.3)."""
    world.send("hello", "-talkative")
    with world.host():
        until(lambda: world.exists("-talkative-poison"), "the message is poison")

    assert len(world.events("talkative")) == 3


def test_a_missing_queue_is_waited_for(world):
    """The trigger does not create its queue; once the queue exists its messages are run (2.3, 1)."""
    with world.host():
        time.sleep(0.5)
        assert not world.exists()
        world.send({"name": "late"})
        until(lambda: len(world.events("worked")) == 1, "the message is run")


def test_two_hosts_share_the_messages_and_one_runs_the_timer(world):
    """Two hosts run each message once; only the holder of the lease runs the timer, and its successor takes over (2.4)."""
    world.settings["TICK_SCHEDULE"] = "*/10 * * * * *"
    with world.host(scale=20) as first:
        until(lambda: bool(world.events("tick")), "the first host holds the timer")
        with world.host(scale=20) as second:
            for index in range(20):
                world.send({"name": str(index), "sleep": 0.05})
            until(lambda: len(world.events("worked")) == 20, "all messages are done")
            holders = {event["pid"] for event in world.events("tick")}
            names = [event["order"]["name"] for event in world.events("work")]
            assert first.terminate() == 0
            until(lambda: world.events("tick")[-1]["pid"] == second.process.pid, "the second host takes the timer", 8)

    assert holders == {first.process.pid}
    assert sorted(names, key=int) == [str(index) for index in range(20)]
    assert len({event["pid"] for event in world.events("work")}) == 2


def test_a_host_that_loses_its_lease_stops_the_timer(world):
    """When the lease is taken away the next host that asks for it runs the timer, and the old one no longer does (2.4)."""
    world.settings["TICK_SCHEDULE"] = "*/20 * * * * *"
    with world.host(scale=40) as first, world.hosts_blobs() as container:
        until(lambda: bool(world.events("tick")), "the first host holds the timer")
        blob = container.get_blob_client(f"locks/{world.queue}-x40/Host.Functions.tick.Listener")
        with blob, world.host(scale=40) as second:
            lease = _take_away(blob)
            time.sleep(1.5)  # the first host renews every 0.75 s
            seen = len(world.events("tick"))
            time.sleep(1.5)
            assert len(world.events("tick")) == seen
            lease.release()
            until(lambda: len(world.events("tick")) > seen, "one of them takes the timer")

    assert {event["pid"] for event in world.events("tick")} <= {first.process.pid, second.process.pid}


def _take_away(blob: BlobClient) -> BlobLeaseClient:
    """Break the lease of whoever has it and hold it; a host may be faster in between, so try again."""
    lease = BlobLeaseClient(blob)
    while True:
        lease.break_lease(0)
        try:
            lease.acquire(15)
        except ResourceExistsError:
            continue
        return lease


@pytest.mark.parametrize(
    ("hours_ago", "schedule", "runs"),
    [
        pytest.param(None, "0 0 0 1 1 *", [], id="first start"),
        pytest.param(49, "0 0 0 * * *", [True], id="missed twice"),
        pytest.param(0, "0 0 0 1 1 *", [], id="nothing missed"),
        pytest.param(49, "0 30 0 1 1 *", [], id="another schedule"),
    ],
)
def test_a_missed_run_is_made_up_for_once(world, hours_ago, schedule, runs):
    """At start a missed occurrence is run once with past_due; none is missed at first start or under a new schedule (2.4)."""
    world.settings["TICK_SCHEDULE"] = schedule
    name = f"timers/{world.queue}/Host.Functions.tick/status"
    with world.hosts_blobs() as container:
        if hours_ago is not None:
            last = datetime.now(UTC) - timedelta(hours=hours_ago)
            midnight = (last + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            new_year = datetime(last.year + 1, 1, 1, tzinfo=UTC)
            stored = {"Last": last.isoformat(), "Next": (midnight if hours_ago else new_year).isoformat(), "LastUpdated": last.isoformat()}
            if not container.exists():
                container.create_container()
            container.upload_blob(name, json.dumps(stored))
        before = datetime.now(UTC)
        with world.host():
            until(lambda: len(world.events("ticked")) >= len(runs) and container.get_blob_client(name).exists(), "the start")
            time.sleep(0.7)
        status = json.loads(container.download_blob(name).readall())

    assert [event["past_due"] for event in world.events("tick")] == runs
    assert datetime.fromisoformat(status["Next"]) > before


def test_an_overrunning_timer_never_overlaps_itself(world):
    """A timer due each second whose run takes 1.5 s runs again at once, one run after the other (2.4)."""
    world.settings |= {"TICK_SCHEDULE": "* * * * * *", "TICK_SLEEP": "1.5"}
    with world.host():
        until(lambda: len(world.events("ticked")) >= 3, "three runs")
    events = world.events("tick", "ticked")
    pairs = list(itertools.pairwise(events))

    assert all(one["event"] != other["event"] for one, other in pairs)
    assert all(other["at"] - one["at"] < 0.5 for one, other in pairs if one["event"] == "ticked")


def test_keys_open_what_they_should(world):
    """Function level takes the function key and the master key, in header or query; admin level only the master key (2.5)."""
    with world.host() as host:
        codes = {
            "none": host.post("/api/orders/7", json={}).status_code,
            "wrong": host.post("/api/orders/7", json={}, headers={"x-functions-key": "wrong"}).status_code,
            "header": host.post("/api/orders/7", json={}, headers={"x-functions-key": FUNCTION_KEY}).status_code,
            "query": host.post("/api/orders/7", json={}, params={"code": FUNCTION_KEY}).status_code,
            "master": host.post("/api/orders/7", json={}, headers={"x-functions-key": MASTER_KEY}).status_code,
            "admin with function key": host.get("/api/owner", headers={"x-functions-key": FUNCTION_KEY}).status_code,
            "admin with master key": host.get("/api/owner", headers={"x-functions-key": MASTER_KEY}).status_code,
            "anonymous": host.get("/api/hello").status_code,
        }

    assert codes == {
        "none": 401, "wrong": 401, "header": 200, "query": 200, "master": 200,
        "admin with function key": 401, "admin with master key": 200, "anonymous": 200,
    }  # fmt: skip


def test_requests_reach_the_right_function_with_all_they_hold(world):
    """Parameters, query, headers, body and trace arrive; the best route wins, in either case; others answer 404 (2.5)."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    key = {"x-functions-key": FUNCTION_KEY}
    with world.host() as host:
        hello = host.get("/API/Hello/Ada%20L", params={"q": "1"}, headers={"X-Sent": "yes"})
        order = host.post("/api/orders/7", json={"n": 1}, headers={"traceparent": trace, **key})
        rest = [host.get(path).text for path in ("/api/orders/7", "/api/orders/seven/lines", "/api/orders")]
        missing = [host.get("/api/nothing").status_code, host.get("/hello").status_code, host.post("/api/hello").status_code]
        boom = host.get("/api/boom")

    assert hello.json() == {"name": "Ada L", "params": {"q": "1"}, "url": f"{host.address}/API/Hello/Ada%20L?q=1"}
    assert (hello.headers["content-type"], hello.headers["x-seen"]) == ("application/json", "yes")
    assert order.json() == {"number": "7", "body": {"n": 1}, "trace": trace}
    assert rest == ["rest:7", "rest:seven/lines", "rest:"]
    assert missing == [404, 404, 404]
    assert (boom.status_code, boom.text) == (500, "")


def test_the_admin_interface_runs_a_timer_by_hand(world):
    """With the master key a timer is run at once; without it, or for other names, the host refuses (2.5)."""
    master = {"x-functions-key": MASTER_KEY}
    with world.host() as host:
        refused = [
            host.post("/admin/functions/tick", json={}).status_code,
            host.post("/admin/functions/nobody", json={}, headers=master).status_code,
            host.post("/admin/functions/hello", json={}, headers=master).status_code,
            host.get("/admin/host/status", headers={"x-functions-key": FUNCTION_KEY}).status_code,
        ]
        started = host.post("/admin/functions/tick", json={"input": ""}, headers=master).status_code
        until(lambda: len(world.events("ticked")) == 1, "the timer runs")
        status = host.get("/admin/host/status", headers=master).json()
        ping = host.get("/admin/host/ping", headers=master).status_code

    assert refused == [401, 404, 400, 401]
    assert (started, ping, status["state"], status["id"]) == (202, 200, "Running", world.queue)


def test_a_refused_storage_key_stops_the_host(world):
    """A storage that refuses the host is an error of the host, not something to wait for (2.3, 4)."""
    world.connection_string = world.connection_string.replace("AccountKey=Eby8", "AccountKey=AAAA")
    with world.host() as host:
        code = host.process.wait(15)
        log = host.log.read_text()

    assert code == 1
    assert "AuthorizationFailure" in log or "AuthenticationFailed" in log


def test_a_disabled_function_is_not_run(world):
    """AzureWebJobs.<name>.Disabled=true leaves the messages of that function alone (1.5)."""
    world.settings["AzureWebJobs.work.Disabled"] = "true"
    world.send({"name": "resting"})
    world.send("fail", "-poison")
    with world.host():
        until(lambda: bool(world.events("buried")), "another function runs")
        time.sleep(0.3)

    assert world.events("work") == []
    assert world.depth() == 1


def test_a_missing_setting_is_named_before_anything_runs(world):
    """An unresolved %NAME% ends the start with code 2 and names setting and function (2.4)."""
    environment = {name: value for name, value in world.environment.items() if name != "TICK_SCHEDULE"}
    ended = subprocess.run(
        [sys.executable, "-m", "sandbox.host", "--app", str(HOST_APP), "--port", "0"],
        cwd=PROJECT, env=environment, text=True, capture_output=True, timeout=30, check=False,
    )  # fmt: skip

    assert ended.returncode == 2
    assert "Function 'tick': '%TICK_SCHEDULE%' names the setting TICK_SCHEDULE, which does not exist" in ended.stderr
    assert "ready" not in ended.stdout


def test_a_taken_port_is_named(world):
    """A second host on the same port ends with code 2 and says which option to use."""
    with world.host() as host:
        port = host.address.rpartition(":")[2]
        ended = subprocess.run(
            [sys.executable, "-m", "sandbox.host", "--app", str(HOST_APP), "--port", port],
            cwd=PROJECT, env=world.environment, text=True, capture_output=True, timeout=30, check=False,
        )  # fmt: skip

    assert ended.returncode == 2
    assert f"The port {port} on 127.0.0.1 can't be used" in ended.stderr


def test_settings_of_the_file_are_used_and_the_environment_wins(world, tmp_path):
    """The values of local.settings.json fill the environment, and what the environment has already stays."""
    journal = tmp_path / "other-journal"
    file = tmp_path / "local.settings.json"
    values = {"HOST_APP_JOURNAL": str(journal), "TICK_SCHEDULE": "no schedule"}
    file.write_text(json.dumps({"IsEncrypted": False, "Values": values}), encoding="utf-8")
    environment = {name: value for name, value in world.environment.items() if name != "HOST_APP_JOURNAL"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox.host", "--app", str(HOST_APP), "--port", "0", "--settings", str(file)],
        cwd=PROJECT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        world.send({"name": "one"})
        until(journal.exists, "the app writes where the file says")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()

    assert Path(journal).read_text(encoding="utf-8").startswith('{"event": "work"')
