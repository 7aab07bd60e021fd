"""Prove the transport's pace: how everybody pauses and waits, what is counted, and what a span says."""

import asyncio
import random
from contextlib import contextmanager

import httpx
import pytest
from opentelemetry import trace

from shared.core.errors import TandemError, Transient
from shared.systems.pace import Pace
from shared.systems.web import Request, Web
from tests.unit.web_world import BASE, GET, OK, POST, FakeLogin, FakeTime, Wire, refuse, web_on


async def test_the_number_of_repeats_and_the_total_wait_are_bounded():
    """Three repeats, and never more than the total wait."""
    wire = Wire(httpx.Response(502))
    with pytest.raises(Transient):
        await web_on(wire).send(GET)
    assert len(wire.seen) == 4
    time, wire = FakeTime(), Wire(httpx.Response(502))
    with pytest.raises(Transient):
        await web_on(wire, time, repeats=50, most_wait=10).send(GET)
    assert sum(time.slept) <= 10


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_a_short_retry_after_is_waited_out_even_for_writes(request_):
    """A 429 was refused at the door, so a write may be sent again after the wait."""
    time, wire = FakeTime(), Wire(httpx.Response(429, headers={"Retry-After": "3"}), OK)
    assert (await web_on(wire, time).send(request_)).status == 200
    assert 3 <= sum(time.slept) < 4


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("60", 60), ("Thu, 01 Jan 2026 00:01:40 GMT", 100), ("7.5", 7.5)],
)
async def test_a_long_retry_after_is_given_to_the_queue(header, seconds):
    """Beyond the ceiling the wait is reported, in seconds, whether it came as a number or as a date by the server's own clock."""
    answer = httpx.Response(429, headers={"Retry-After": header, "Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    with pytest.raises(Transient) as caught:
        await web_on(Wire(answer)).send(GET)
    assert caught.value.code == "dataverse.throttled"
    assert caught.value.retry_after == pytest.approx(seconds)


async def test_a_write_answered_by_503_is_not_repeated_though_it_names_a_wait():
    """A 503 may come from behind the door."""
    wire = Wire(httpx.Response(503, headers={"Retry-After": "1"}), OK)
    with pytest.raises(Transient) as caught:
        await web_on(wire).send(POST)
    assert (caught.value.code, caught.value.retry_after, len(wire.seen)) == ("dataverse.throttled", 1.0, 1)


@pytest.mark.parametrize("header", ["soon", "-5", "nan", "99999999999", ""])
async def test_a_senseless_retry_after_becomes_a_backoff(header):
    """What can't be read is no reason to hang or to fail."""
    time, wire = FakeTime(), Wire(httpx.Response(429, headers={"Retry-After": header}), OK)
    assert (await web_on(wire, time).send(GET)).status == 200
    assert 0 < sum(time.slept) < 1


async def test_one_task_sleeping_on_429_while_others_keep_pushing():
    """A throttle stops the sending of all tasks: no request leaves before the pause is over."""
    time = FakeTime()
    sent: list[float] = []

    def answer(request):
        sent.append(time.now)
        return httpx.Response(429, headers={"Retry-After": "4"}) if len(sent) == 1 else httpx.Response(200, json={})

    web = web_on(Wire(answer), time, concurrency=1)
    await asyncio.gather(*(web.send(GET) for _ in range(5)))
    assert len(sent) == 6
    assert all(moment >= sent[0] + 4 for moment in sent[1:])


async def test_a_long_pause_fails_the_others_at_once_without_a_request():
    """While the account is paused for long, nobody sends and everybody learns how long."""
    wire = Wire(OK)
    web = web_on(wire)
    web.pace.pause(120)
    with pytest.raises(Transient) as caught:
        await web.send(GET)
    assert (caught.value.code, caught.value.retry_after, wire.seen) == ("dataverse.throttled", 120, [])


async def test_a_server_that_drips_for_ever_is_given_up():
    """The whole answer has a deadline, not only each byte."""

    async def forever(request):
        await asyncio.sleep(60)

    web = Web("dataverse", BASE, httpx.AsyncClient(transport=httpx.MockTransport(forever)), FakeLogin(), error=refuse, answer_within=0.02)
    with pytest.raises(Transient) as caught:
        await web.send(POST)
    assert caught.value.code == "dataverse.unreachable"


async def test_requests_and_operations_are_counted():
    """The cost meter sees each request sent, repeats included, with the operations inside."""
    costs: list[tuple[str, int]] = []
    wire = Wire(httpx.Response(429), OK)
    web = web_on(wire, on_request=lambda system, operations: costs.append((system, operations)))
    await web.send(Request("POST", "$batch", operations=7))
    assert costs == [("dataverse", 7)] * 2
    assert (web.requests, web.operations) == (2, 14)


async def test_parallel_requests_never_exceed_the_servers_hint():
    """`hint` bounds the number of requests in the air."""
    running = most = 0

    async def slow(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return httpx.Response(200, json={})

    web = web_on(slow, concurrency=16, hint=lambda _: 3)
    await web.send(GET)
    await asyncio.gather(*(web.send(GET) for _ in range(40)))
    assert most == 3


async def test_the_pace_halves_on_complaint_and_climbs_slowly():
    """Multiplicative decrease, additive increase: after a complaint it takes rounds, not one answer, to come back."""
    pace = Pace(start=8, most=8, monotonic=lambda: 0.0)
    pace.slower()
    assert pace.limit == 4
    pace.faster()
    assert pace.limit == 4
    for _ in range(40):
        pace.faster()
    assert pace.limit == 8
    for _ in range(20):
        pace.slower()
    assert pace.limit == 1


async def test_cancelled_waiters_lose_no_place():
    """Tasks cancelled at random while waiting or working leave the gate as wide as it was."""
    pace = Pace(start=3, most=3, monotonic=lambda: 0.0)
    dice = random.Random(5)

    async def work():
        async with pace.turn():
            await asyncio.sleep(0)

    for _ in range(200):
        tasks = [asyncio.create_task(work()) for _ in range(12)]
        for _ in range(dice.randrange(6)):
            await asyncio.sleep(0)
        for task in dice.sample(tasks, 6):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert pace._busy == 0
    await asyncio.wait_for(asyncio.gather(*(work() for _ in range(20))), 1)


async def test_spans_name_the_request_without_values(monkeypatch):
    """A span says system, method and resource, status and cost; no query, id or body is in its name or attributes."""
    spans = []

    class Span(trace.NonRecordingSpan):
        def __init__(self, name):
            super().__init__(trace.INVALID_SPAN_CONTEXT)
            self.facts = {"name": name}
            spans.append(self.facts)

        def set_attribute(self, key, value):
            self.facts[key] = value

    class Tracer(trace.NoOpTracer):
        @contextmanager
        def start_as_current_span(self, name, **options):
            assert options == {"record_exception": False, "set_status_on_exception": False}
            yield Span(name)

    monkeypatch.setattr(trace, "get_tracer", lambda _: Tracer())
    await web_on(Wire(OK)).send(Request("GET", "accounts(11111111-1111-4111-8111-111111111111)?$filter=name eq 'secret'"))
    with pytest.raises(TandemError):
        await web_on(Wire(httpx.Response(400, text="secret"))).send(Request("POST", "$batch", content=b"secret", operations=3))
    assert [span["name"] for span in spans] == ["dataverse GET accounts", "dataverse POST $batch"]
    assert spans[1]["error.type"] == "dataverse.bad_request"
    assert (spans[1]["http.response.status_code"], spans[1]["tandem.operations"]) == (400, 3)
    assert "secret" not in str(spans)
    assert "1111" not in str(spans)


async def test_closing_closes_the_logins_connections_too():
    """A login with connections of its own is closed with the transport."""
    closed = []

    class Closing(FakeLogin):
        async def close(self):
            closed.append(True)

    await web_on(Wire(OK), login=Closing()).close()
    await web_on(Wire(OK)).close()
    assert closed == [True]
