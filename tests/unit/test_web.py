"""Prove the transport: what is repeated, what never is, how everybody pauses, and that only TandemError comes out."""

import asyncio
import random
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from opentelemetry import trace

from shared.core.errors import CATALOGUE, ConfigError, Denied, Rejected, TandemError, Transient
from shared.systems import web as module
from shared.systems.pace import Pace
from shared.systems.web import Request, Response, Web

BASE = "https://org.crm4.dynamics.com/api/data/v9.2"
SECRET = "Geheim-4711"


class FakeTime:
    """A clock that moves only when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self):
        return self.now

    def clock(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        until = self.now + seconds
        for _ in range(10):  # the others run on before time has passed
            await asyncio.sleep(0)
        self.now = max(self.now, until)


class FakeLogin:
    """Tokens numbered by renewal."""

    def __init__(self):
        self.renewals = 0

    async def headers(self):
        return {"Authorization": f"Bearer {SECRET}-{self.renewals}"}

    async def renew(self):
        await asyncio.sleep(0)
        self.renewals += 1

    def ended(self, response):
        html = response.status == 200 and response.headers.get("content-type", "").startswith("text/html")
        return response.status in (401, 302) or html


def refuse(response: Response) -> TandemError:
    """Stand for an adapter's error table."""
    return Rejected(f"dataverse.{'bad_request' if response.status == 400 else 'unexpected'}", system="dataverse")


class Wire:
    """A server as a list of answers (or exceptions), one a request; the last one goes on for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []

    async def __call__(self, request):
        self.seen.append(request)
        await asyncio.sleep(0)  # a network lets other tasks run
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Callable):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def web_on(wire, time=None, **options):
    """Make a Web on a fake wire and a fake clock."""
    time = time or FakeTime()
    client = httpx.AsyncClient(transport=httpx.MockTransport(wire))
    login = options.pop("login", None) or FakeLogin()
    settings = {"error": refuse, "clock": time.clock, "monotonic": time.monotonic, "sleep": time.sleep, "random": lambda: 0.5}
    return Web("dataverse", options.pop("base", BASE), client, login, **{**settings, **options})


OK = httpx.Response(200, json={"value": []})
GET = Request("GET", "accounts?$filter=name%20eq%20'secret'")
POST = Request("POST", "accounts", content=b'{"name":"secret"}')


async def test_a_request_carries_the_present_session_and_its_own_headers():
    """The login's headers and the request's are both on the wire, and relative URLs stand under the base."""
    wire = Wire(OK)
    answer = await web_on(wire).send(Request("GET", "accounts?$select=name", {"Prefer": "x"}))
    assert str(wire.seen[0].url) == f"{BASE}/accounts?$select=name"
    assert wire.seen[0].headers["authorization"] == f"Bearer {SECRET}-0"
    assert wire.seen[0].headers["prefer"] == "x"
    assert answer.json() == {"value": []}


@pytest.mark.parametrize("status", [401, 302])
@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_a_dead_session_is_renewed_and_the_request_repeated_once(status, request_):
    """A refusal that proves that nothing ran leads to one renewal and one repeat, for writes too."""
    wire = Wire(httpx.Response(status), OK)
    login = FakeLogin()
    assert (await web_on(wire, login=login).send(request_)).status == 200
    assert login.renewals == 1
    assert wire.seen[1].headers["authorization"].endswith("-1")


async def test_a_session_that_dies_twice_in_a_row_is_an_error():
    """The request is not repeated for ever."""
    wire = Wire(httpx.Response(401))
    with pytest.raises(Transient) as caught:
        await web_on(wire).send(GET)
    assert caught.value.code == "dataverse.session_expired"
    assert len(wire.seen) == 2


async def test_html_instead_of_data_repeats_reads_but_no_writes():
    """A 200 login page after a POST may hide a write that ran: the session is renewed, the write is not repeated."""
    html = httpx.Response(200, html="<html>Login</html>")
    login, wire = FakeLogin(), Wire(html, OK)
    assert (await web_on(wire, login=login).send(GET)).json() == {"value": []}
    login, wire = FakeLogin(), Wire(html, OK)
    with pytest.raises(Transient) as caught:
        await web_on(wire, login=login).send(POST)
    assert caught.value.code == "dataverse.session_expired"
    assert (len(wire.seen), login.renewals) == (1, 1)


async def test_many_tasks_that_see_the_same_end_renew_once():
    """Fifty parallel requests with one dead session lead to one renewal, not fifty."""
    login = FakeLogin()

    def answer(request):
        return httpx.Response(200 if request.headers["authorization"].endswith("-1") else 401, json={})

    wire = Wire(answer)
    web = web_on(wire, login=login, concurrency=50, most_concurrency=50)
    await asyncio.gather(*(web.send(GET) for _ in range(50)))
    assert login.renewals == 1


_TRANSPORT_FAULTS = [
    httpx.ReadTimeout("x"),
    httpx.WriteTimeout("x"),
    httpx.ReadError("x"),
    httpx.WriteError("x"),
    httpx.RemoteProtocolError("x"),
    httpx.CloseError("x"),
    httpx.DecodingError("x"),
    httpx.TooManyRedirects("x"),
    TimeoutError(),
    OSError("x"),
    httpx.StreamClosed(),
    httpx.NetworkError("x"),
    httpx.TransportError("x"),
    httpx.RequestError("x"),
    httpx.HTTPError("x"),
]


@pytest.mark.parametrize("fault", _TRANSPORT_FAULTS, ids=lambda fault: type(fault).__name__)
async def test_a_write_that_may_have_run_is_never_repeated(fault):
    """After a broken or silent connection a POST is left to the plan; a GET is repeated three times."""
    wire = Wire(fault)
    with pytest.raises(Transient) as caught:
        await web_on(wire).send(POST)
    assert (caught.value.code, len(wire.seen)) == ("dataverse.unreachable", 1)
    wire = Wire(fault, fault, fault, OK)
    assert (await web_on(wire).send(GET)).status == 200
    assert len(wire.seen) == 4


@pytest.mark.parametrize("fault", [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.PoolTimeout("x"), httpx.ProxyError("x")])
async def test_a_write_that_was_never_sent_is_repeated(fault):
    """Without a connection nothing can have run."""
    wire = Wire(fault, OK)
    assert (await web_on(wire).send(POST)).status == 200


def test_the_mapping_of_httpx_exceptions_is_total():
    """Every exception class that httpx has today is either transport trouble, never sendable, or can't come from a response."""
    known = (httpx.HTTPError, httpx.StreamError, *module._NEVER_SENDABLE)
    classes = [c for c in vars(httpx).values() if isinstance(c, type) and issubclass(c, Exception)]
    assert len(classes) > 20
    assert [c for c in classes if not issubclass(c, known)] == []


@pytest.mark.parametrize(
    "fault", [httpx.InvalidURL("x"), httpx.UnsupportedProtocol("x"), httpx.LocalProtocolError("x"), httpx.CookieConflict("x")]
)
async def test_a_request_that_can_never_be_sent_is_not_tried_again(fault):
    """Faults of the request itself are no network trouble."""
    wire = Wire(fault)
    with pytest.raises(Rejected) as caught:
        await web_on(wire).send(GET)
    assert (caught.value.code, len(wire.seen)) == ("dataverse.bad_request", 1)


@pytest.mark.parametrize("status", [408, 502, 503, 504])
async def test_server_trouble_is_waited_out_for_reads_only(status):
    """Reads come through after growing waits; a write gets `unavailable` at once."""
    time, wire = FakeTime(), Wire(httpx.Response(status, html="<html>"), httpx.Response(status), OK)
    assert (await web_on(wire, time).send(GET)).status == 200
    assert time.slept == [0.375, 0.75]
    wire = Wire(httpx.Response(status, html="<html>"))
    with pytest.raises(Transient) as caught:
        await web_on(wire).send(POST)
    assert (caught.value.code, len(wire.seen)) == ("dataverse.unavailable", 1)


async def test_a_marked_request_is_repeated_like_a_read():
    """The caller can vouch for a POST that only reads."""
    wire = Wire(httpx.Response(502), OK)
    assert (await web_on(wire).send(Request("POST", "$batch", repeatable=True))).status == 200


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


async def test_other_failures_are_judged_by_the_adapters_table_unless_expected():
    """A 400 goes to the error table; a status that the caller expects is handed over."""
    with pytest.raises(Rejected) as caught:
        await web_on(Wire(httpx.Response(400))).send(GET)
    assert caught.value.code == "dataverse.bad_request"
    answer = await web_on(Wire(httpx.Response(400))).send(Request("GET", "x", expected=frozenset({400})))
    assert answer.status == 400


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/x",
        "http://org.crm4.dynamics.com/x",
        "https://org.crm4.dynamics.com:8443/x",
        "https://org.crm4.dynamics.com@evil.example/x",
        "https://u:p@org.crm4.dynamics.com/x",
        "ftp://org.crm4.dynamics.com/",
    ],
)
async def test_a_link_to_another_origin_never_gets_the_token(link):
    """Another host, port or scheme, or a user part, stops the flow before anything is sent."""
    wire = Wire(OK)
    with pytest.raises(Denied) as caught:
        await web_on(wire).send(Request("GET", link))
    assert (caught.value.code, wire.seen) == ("dataverse.bad_answer", [])


async def test_a_relative_url_with_two_slashes_stays_on_the_origin():
    """`//evil.example` is a path here, not a host."""
    wire = Wire(OK)
    await web_on(wire).send(Request("GET", "//evil.example/x"))
    assert wire.seen[0].url.host == "org.crm4.dynamics.com"


async def test_redirects_are_not_followed():
    """A redirect is an answer to judge; its target gets nothing."""
    wire = Wire(httpx.Response(307, headers={"Location": "https://evil.example/"}))
    with pytest.raises(Rejected):
        await web_on(wire).send(POST)
    assert len(wire.seen) == 1


async def test_re_encoding_nextlink_never_happens():
    """A link of the server reaches it byte for byte, double encoding, quotes and lower-case hex included."""
    link = f"{BASE}/accounts?$select=name&$skiptoken=%3Ccookie%20pagingcookie=%22%253ccookie%2520x%253d'1'%2f%22%20/%3E&a=(b)!*"
    wire = Wire(OK)
    await web_on(wire).send(Request("GET", link))
    assert wire.seen[0].url.raw_path.decode() == link.removeprefix("https://org.crm4.dynamics.com")


@pytest.mark.parametrize(
    "base",
    ["http://org.crm4.dynamics.com", "org.crm4", "https://u@host/x", "ftp://x", "https://", "https://h/x?y=1", "http://127.0.0.1.evil/"],
)
def test_a_base_address_must_be_https_except_on_this_machine(base):
    """Credentials never travel in the clear."""
    with pytest.raises(ConfigError, match="address of dataverse"):
        web_on(Wire(OK), base=base)
    web_on(Wire(OK), base="http://127.0.0.1:5000/x")


@pytest.mark.parametrize("content", [b"<html>secret</html>", b"", b'{"a": "secr', b"\xff"])
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_parsing_html_as_json(content, kind):
    """HTML, nothing, or half a body where JSON was due is Transient `not_json`, whatever the content type claims."""
    answer = await web_on(Wire(httpx.Response(200, content=content, headers={"content-type": kind})), login=Never()).send(GET)
    with pytest.raises(Transient) as caught:
        answer.json()
    assert caught.value.code == "dataverse.not_json"
    assert "secret" not in str(caught.value)


class Never(FakeLogin):
    """A login whose session never ends."""

    def ended(self, response):
        return False


async def test_a_server_that_drips_for_ever_is_given_up():
    """The whole answer has a deadline, not only each byte."""

    async def forever(request):
        await asyncio.sleep(60)

    web = Web("dataverse", BASE, httpx.AsyncClient(transport=httpx.MockTransport(forever)), FakeLogin(), error=refuse, answer_within=0.02)
    with pytest.raises(Transient) as caught:
        await web.send(POST)
    assert caught.value.code == "dataverse.unreachable"


async def test_errors_show_neither_bodies_nor_tokens_nor_queries():
    """Whatever goes wrong, the texts of the exception and its causes hold no value."""
    for answer in (httpx.ReadError("x"), httpx.Response(400, text="secret"), httpx.Response(502, text="secret"), httpx.Response(401)):
        with pytest.raises(TandemError) as caught:
            await web_on(Wire(answer)).send(Request("POST", GET.url, content=b"secret"))
        assert "secret" not in str(caught.value)
        assert SECRET not in repr(caught.value) + repr(caught.value.__dict__)


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


def test_every_code_of_the_transport_is_in_the_catalogue_for_each_system():
    """The codes that Web builds from the system's name exist for both systems."""
    names = ("session_expired", "throttled", "unreachable", "unavailable", "bad_request", "bad_answer", "not_json")
    assert [f"{s}.{n}" for s in ("creatio", "dataverse") for n in names if f"{s}.{n}" not in CATALOGUE] == []


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
