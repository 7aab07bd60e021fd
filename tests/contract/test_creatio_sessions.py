"""Creatio sessions and tokens against the stand-in: every face of an expired session, one login for a burst (creatio.md 1, 9.1-9.3)."""

import asyncio

import httpx
import pytest

from shared.core.errors import ConfigError, Denied, TandemError, Transient
from shared.core.records import Write, WriteKind
from shared.systems.creatio import Creatio, creatio_error
from shared.systems.creatio_connection import OAuth, connect
from shared.systems.creatio_login import FormsLogin, OAuthLogin, identity_url_of
from shared.systems.web import Web
from tests.contract.creatio_site import Doors, Site, no_wait, walk

LOGIN = "POST Login"
RECORD = "3f2b4c1e-0000-4000-8000-000000000001"


async def logins(site: Site) -> int:
    """Return how many logins and token requests were made."""
    by = (await site.counts())["by"]
    return sum(number for label, number in by.items() if label == LOGIN or "connect" in label or "token" in label)


@pytest.mark.parametrize("auth", ["oauth", "forms"])
async def test_no_single_flight_re_login(site: Site, auth: str) -> None:
    """Creatio.md 9.2: twenty tasks at the start are one login; twenty tasks that meet the end of the session are one more."""
    adapter = site.creatio(auth=auth)
    ids = await site.seed([{"Name": "a"}])
    await adapter.describe("Account", ["Name"], ())
    assert await logins(site) == 1
    for round_number in (2, 3):
        await site.chaos({"kind": "expire", "times": 1})
        found = await asyncio.gather(*(adapter.read("Account", ids, ["Name"]) for _ in range(20)))
        assert all(set(one) == set(ids) for one in found)
        assert await logins(site) == round_number


async def test_a_burst_at_the_start_is_one_login(site: Site) -> None:
    """Many tasks that begin without a session wait for one login."""
    for auth, expected in (("oauth", 1), ("forms", 2)):
        adapter = site.creatio(auth=auth)
        await asyncio.gather(*(walk(adapter) for _ in range(10)))
        assert await logins(site) == expected


@pytest.mark.parametrize("flavour", ["NF", "NC"])
@pytest.mark.parametrize("face", ["401", "302", "200", "auto"])
async def test_following_redirects_and_parsing_the_login_page(doors: Doors, flavour: str, face: str) -> None:
    """Creatio.md 9.2: 401, the way to the login page and the login page itself all mean: log in again, then go on."""
    async with doors.creatio(flavour=flavour, session_answer=face) as site:
        adapter = site.creatio(auth="forms", app_prefix="/0" if flavour == "NF" else "")
        ids = await site.seed([{"Name": "a"}])
        await adapter.describe("Account", ["Name"], ())
        await site.chaos({"kind": "expire", "times": 1})
        assert set(await adapter.read("Account", ids, ["Name"])) == set(ids)
        assert await logins(site) == 2


@pytest.mark.parametrize(("face", "written"), [("401", True), ("302", True), ("200", False)])
async def test_a_write_is_repeated_only_when_it_has_surely_not_run(doors: Doors, face: str, written: bool) -> None:
    """Creatio.md 1.3: 401 and 302 prove that the write did not run; a login page with 200 does not, so the plan decides."""
    async with doors.creatio(session_answer=face) as site:
        adapter = site.creatio(auth="forms")
        await adapter.describe("Account", ["Name"], ())
        await site.chaos({"kind": "expire", "times": 1})
        result = (await adapter.write("Account", [Write(WriteKind.CREATE, RECORD, {"Name": "a"})]))[0]
        if written:
            assert result.error is None
        else:
            assert isinstance(result.error, Transient)
            assert result.error.code == "creatio.session_expired"


async def test_a_session_that_dies_again_and_again_is_given_up(site: Site) -> None:
    """A session that ends at once is renewed once a request, not for ever: a login that opens no door stops the flow."""
    adapter = site.creatio(auth="forms")
    await adapter.describe("Account", ["Name"], ())
    await site.chaos({"kind": "expire"})
    for group, code in ((Transient, "session_expired"), (Transient, "session_expired"), (Denied, "login_failed")):
        with pytest.raises(group) as caught:
            await walk(adapter)
        assert caught.value.code == f"creatio.{code}"
    assert await logins(site) <= 7


@pytest.mark.parametrize("modern", [True, False])
async def test_dropping_unknown_cookies_or_a_stale_csrf_token(doors: Doors, modern: bool) -> None:
    """Creatio.md 9.3: all cookies go back, and BPMCSRF is that of the jar at each request although the server changes it."""
    async with doors.creatio(modern_cookies=modern, rotate_csrf_every=2) as site:
        adapter = site.creatio(auth="forms")
        for _ in range(8):
            await walk(adapter)
        assert await logins(site) == 1


async def test_forgetting_bpmcsrf_after_re_login(site: Site) -> None:
    """Creatio.md 9.3: a 403 for the CSRF token is answered with one new login; the write goes out again and runs once."""
    adapter = site.creatio(auth="forms")
    await adapter.describe("Account", ["Name"], ())
    await site.chaos({"kind": "csrf", "times": 1})
    assert (await adapter.write("Account", [Write(WriteKind.CREATE, RECORD, {"Name": "a"})]))[0].error is None
    assert await logins(site) == 2


async def test_a_403_with_json_after_an_idle_time(site: Site) -> None:
    """Creatio.md 1.3: a session that idled out may answer 403 with JSON: one new login and the work goes on; a second 403 is Denied."""
    adapter = site.creatio(auth="forms")
    await walk(adapter)
    refusal = {"kind": "status", "status": 403, "path": "Account"}
    await site.chaos({**refusal, "times": 1})
    await walk(adapter)
    assert await logins(site) == 2
    await site.chaos(refusal)
    with pytest.raises(Denied) as caught:
        await walk(adapter)
    assert caught.value.code == "creatio.denied"
    assert await logins(site) == 3


async def test_a_403_right_after_the_login_stops_the_flow(site: Site) -> None:
    """A CSRF refusal that a fresh login does not cure is a lack of rights or a wrong set-up: Denied, and no login loop."""
    await site.chaos({"kind": "csrf"})
    with pytest.raises(Denied) as caught:
        await walk(site.creatio(auth="forms"))
    assert caught.value.code == "creatio.denied"
    assert await logins(site) == 1


async def test_checking_http_200_instead_of_code(site: Site) -> None:
    """Creatio.md 9.1: wrong passwords come with HTTP 200; the flow is stopped, and the user is not locked by asking again."""
    await site.settings(password="another")
    adapter = site.creatio(auth="forms")
    results = await asyncio.gather(*(walk(adapter) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(result, Denied) and result.code == "creatio.login_failed" for result in results)
    with pytest.raises(Denied):
        await walk(adapter)
    assert await logins(site) == 1
    assert "integration-password" not in str(results)


async def test_a_wrong_client_secret_stops_the_flow(site: Site) -> None:
    """The identity service answers 400 invalid_client: Denied with that word, without the secret."""
    await site.settings(client_secret="another")
    with pytest.raises(Denied, match="invalid_client") as caught:
        await walk(site.creatio())
    assert caught.value.code == "creatio.login_failed"
    assert "tandem-secret" not in str(caught.value)


async def test_an_expired_password_is_named(doors: Doors) -> None:
    """Creatio.md 1.1: an expired password logs in and then reads nothing; it is told by PasswordChangeUrl."""
    async with doors.creatio(password_expired=True) as site:
        with pytest.raises(Denied) as caught:
            await walk(site.creatio(auth="forms"))
        assert caught.value.code == "creatio.password_expired"


async def test_with_a_token_no_cookie_is_kept_or_sent(site: Site) -> None:
    """Creatio.md 1.4: a token travels without cookies; a site that sets a session cookie on each answer would refuse the next call."""
    adapter = connect(site.url, OAuth(site.identity, "tandem-client", "tandem-secret"))
    try:
        for _ in range(3):
            await walk(adapter)
    finally:
        await adapter.close()


async def test_a_token_is_renewed_before_it_ends(doors: Doors) -> None:
    """A token is asked for anew when its end is near, without a request being refused first."""
    async with doors.creatio(token_seconds=120) as site:
        now = 0.0
        client = httpx.AsyncClient(timeout=30)
        login = OAuthLogin(client, site.identity, "tandem-client", "tandem-secret", monotonic=lambda: now)
        first = await login.headers()
        now = 50
        assert await login.headers() == first
        now = 70
        await login.headers()
        assert await logins(site) == 2
        await client.aclose()


async def test_a_token_that_ends_between_two_pages(site: Site) -> None:
    """A token that dies in the middle of a chain is replaced, and the chain goes on where it was."""
    ids = await site.seed([{"Name": "x"} for _ in range(50)])
    announced: list[str] = []
    async for page in site.creatio(page_size=20).changes("Account", ("Name",), None, None):
        announced += [change.id for change in page.changes]
        await site.chaos({"kind": "expire", "times": 1})
    assert sorted(announced) == sorted(ids)


async def test_the_site_instead_of_its_identity_service(site: Site) -> None:
    """Creatio.md 7: the token endpoint asked of the site itself answers HTML: the text names the setting to check."""
    client = httpx.AsyncClient(timeout=30)
    login = OAuthLogin(client, site.url, "tandem-client", "tandem-secret")
    adapter = Creatio(Web("creatio", site.url, client, login, error=creatio_error, sleep=no_wait))
    with pytest.raises(TandemError) as caught:
        await walk(adapter)
    assert isinstance(caught.value, Denied)
    assert caught.value.code == "creatio.login_failed"
    await adapter.close()


async def test_a_login_that_can_not_be_reached_is_tried_again(site: Site) -> None:
    """A login that meets a dead port or a server error is no refusal: Transient."""
    async with httpx.AsyncClient(timeout=5) as client:
        with pytest.raises(Transient) as caught:
            await FormsLogin(client, "http://127.0.0.1:9", "u", "p").headers()
        assert caught.value.code == "creatio.unreachable"
        await site.chaos({"kind": "status", "status": 503, "body": "html"})
        with pytest.raises(Transient) as caught:
            await FormsLogin(client, site.url, "integration", "integration-password").headers()
        assert caught.value.code == "creatio.unavailable"


def test_credentials_travel_encrypted_only() -> None:
    """A login over plain http to another machine is refused before anything is sent."""
    with pytest.raises(ConfigError, match="https"):
        FormsLogin(httpx.AsyncClient(), "http://crm.example.com", "u", "p")


def test_the_identity_address_of_a_cloud_site() -> None:
    """Creatio.md 1.4: `-is` goes behind the first label of the host, whatever path the site has."""
    assert identity_url_of("https://123-crm.creatio.com/") == "https://123-crm-is.creatio.com"
    assert identity_url_of("https://crm.example.org/app") == "https://crm-is.example.org"
