"""Prove what leaves and enters through the transport: only to one origin, links unchanged, no value in an error."""

import httpx
import pytest

from shared.core.errors import CATALOGUE, ConfigError, Denied, TandemError, Transient
from shared.systems.web import Request
from tests.unit.web_world import BASE, GET, OK, POST, SECRET, Never, Wire, web_on


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
    """A redirect that leads to no login means a wrong address: the flow stops, the target gets nothing and is named without its query."""
    wire = Wire(httpx.Response(307, headers={"Location": "https://other.example/x?code=secret"}))
    with pytest.raises(Denied) as caught:
        await web_on(wire).send(POST)
    assert len(wire.seen) == 1
    assert (caught.value.code, caught.value.said) == ("dataverse.moved", "status 307 leads to https://other.example")
    for location in ({}, {"Location": "/elsewhere"}):
        with pytest.raises(Denied, match="another path"):
            await web_on(Wire(httpx.Response(308, headers=location))).send(GET)


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


async def test_errors_show_neither_bodies_nor_tokens_nor_queries():
    """Whatever goes wrong, the texts of the exception and its causes hold no value."""
    for answer in (httpx.ReadError("x"), httpx.Response(400, text="secret"), httpx.Response(502, text="secret"), httpx.Response(401)):
        with pytest.raises(TandemError) as caught:
            await web_on(Wire(answer)).send(Request("POST", GET.url, content=b"secret"))
        assert "secret" not in str(caught.value)
        assert SECRET not in repr(caught.value) + repr(caught.value.__dict__)


def test_every_code_of_the_transport_is_in_the_catalogue_for_each_system():
    """The codes that Web builds from the system's name exist for both systems."""
    names = ("session_expired", "login_failed", "moved", "throttled", "unreachable", "unavailable", "bad_request", "bad_answer", "not_json")
    assert [f"{s}.{n}" for s in ("creatio", "dataverse") for n in names if f"{s}.{n}" not in CATALOGUE] == []
