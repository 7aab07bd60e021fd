"""Prove the transport: which requests are repeated, and which never are."""

import asyncio

import httpx
import pytest

from shared.core.errors import Denied, Rejected, Transient
from shared.systems import web as module
from shared.systems.web import Request
from tests.unit.web_world import BASE, GET, OK, POST, SECRET, FakeLogin, FakeTime, Wire, web_on


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


@pytest.mark.parametrize("answer", [httpx.Response(401), httpx.Response(302)], ids=["401", "302"])
async def test_a_session_that_dies_twice_in_a_row_is_an_error(answer):
    """The request is not repeated for ever."""
    wire = Wire(answer)
    with pytest.raises(Transient) as caught:
        await web_on(wire).send(GET)
    assert caught.value.code == "dataverse.session_expired"
    assert len(wire.seen) == 2


async def test_logins_that_open_no_door_stop_the_flow():
    """Three fresh sessions refused one after the other (wrong tenant, disabled user) are Denied; an answer in between starts anew."""
    no = httpx.Response(401)
    web = web_on(Wire(no, no, no, no, OK, no))
    for _ in range(2):
        with pytest.raises(Transient):
            await web.send(GET)
    assert (await web.send(GET)).status == 200
    for group in (Transient, Transient, Denied):
        with pytest.raises(group) as caught:
            await web.send(GET)
    assert caught.value.code == "dataverse.login_failed"


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


@pytest.mark.parametrize("request_", [GET, POST])
async def test_a_403_of_a_session_that_was_replaced_meanwhile_is_no_verdict_on_the_new_one(request_):
    """A refusal that arrives after the renewal, to a call made before it, is asked again in the new session, and once only."""
    renewed, refusals = asyncio.Event(), []

    class Login(FakeLogin):
        async def renew(self):
            await super().renew()
            renewed.set()

    async def wire(request):
        if not request.headers["authorization"].endswith("-0"):
            return httpx.Response(200, json={})
        if request.url.path.endswith("contacts"):
            return httpx.Response(401, json={})
        await renewed.wait()
        refusals.append(request)
        return httpx.Response(403, json={})

    login = Login()
    web = web_on(wire, login=login)
    late, _ = await asyncio.gather(web.send(request_), web.send(Request("GET", "contacts")))
    assert (late.status, len(refusals), login.renewals) == (200, 1, 1)
    lasting = web_on(Wire(httpx.Response(403, json={})), login=FakeLogin())
    with pytest.raises(Rejected):
        await lasting.send(request_)


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


async def test_other_failures_are_judged_by_the_adapters_table_unless_expected():
    """A 400 goes to the error table; a status that the caller expects is handed over."""
    with pytest.raises(Rejected) as caught:
        await web_on(Wire(httpx.Response(400))).send(GET)
    assert caught.value.code == "dataverse.bad_request"
    answer = await web_on(Wire(httpx.Response(400))).send(Request("GET", "x", expected=frozenset({400})))
    assert answer.status == 400
