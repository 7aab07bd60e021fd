"""Who may call the Creatio stand-in, by forms and by bearer (checklist items 1 to 5)."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from sandbox.creatio.app import create_creatio
from tests.contract.creatio_stand_in import bearer, bearer_site, identity, site

LOGIN = "/ServiceModel/AuthService.svc/Login"
GOOD = {"UserName": "integration", "UserPassword": "integration-password"}
FORCE = {"ForceUseSession": "true"}


@asynccontextmanager
async def _installation(**settings) -> AsyncIterator[httpx.AsyncClient]:
    creatio = create_creatio(settings)
    async with site(creatio) as http:
        http.creatio = creatio
        yield http
    creatio.database.close()


async def _log_in(http: httpx.AsyncClient) -> dict[str, str]:
    """Log in and return the headers that a call then needs; the client's jar keeps the cookies."""
    answer = await http.post(LOGIN, json=GOOD, headers=FORCE)
    assert answer.json()["Code"] == 0
    return {**FORCE, "BPMCSRF": http.cookies["BPMCSRF"]}


async def test_login_sets_every_cookie_raw():
    """A login answers 200 with Code 0 and sets the old and the new cookies, with the characters that break parsers."""
    async with _installation() as http:
        answer = await http.post(LOGIN, json=GOOD, headers=FORCE)
        assert answer.json() == {
            "Code": 0,
            "Message": "",
            "Exception": None,
            "PasswordChangeUrl": None,
            "RedirectUrl": "/0/Shell",
            "UserType": "General",
        }
        names = [line.partition("=")[0] for line in answer.headers.get_list("set-cookie")]
        expected = ["BPMLOADER", ".ASPXAUTH", "BPMCSRF", "UserName", "UserType", "CsrfToken", "CRT_CSRF"]
        assert names == expected
        assert http.cookies["UserName"].startswith("105|110|116|")
        assert http.cookies["BPMCSRF"].endswith("==")


async def test_bad_credentials_also_answer_200():
    """Only `Code` tells that a login failed; no cookie is set, and a body that is no JSON fails alike."""
    async with _installation() as http:
        for body in (b'{"UserName":"integration","UserPassword":"x"}', b"nonsense"):
            answer = await http.post(LOGIN, content=body)
            assert (answer.status_code, answer.json()["Code"]) == (200, 1)
            assert answer.json()["Exception"]["Message"]
            assert not answer.headers.get_list("set-cookie")


@pytest.mark.parametrize("flavour", ["NF", "NC"])
async def test_login_lives_at_the_site_root_only(flavour):
    """Under /0/ a login is refused with 401 on both flavours."""
    async with _installation(flavour=flavour) as http:
        assert (await http.post(f"/0{LOGIN}", json=GOOD)).status_code == 401


async def test_cookie_calls_need_csrf_and_force_use_session():
    """With all cookies, ForceUseSession and BPMCSRF a call passes; a missing or wrong BPMCSRF is 403."""
    async with _installation() as http:
        headers = await _log_in(http)
        first = await http.get("/0/odata/Account", headers=headers)
        assert first.status_code == 200
        assert "BPMSESSIONID" in http.cookies
        assert (await http.get("/0/odata/Account", headers=FORCE)).status_code == 403
        assert (await http.get("/0/odata/Account", headers={**FORCE, "BPMCSRF": "wrong"})).status_code == 403
        unforced = await http.get("/0/odata/Account", headers={"BPMCSRF": headers["BPMCSRF"]})
        assert unforced.status_code == 302


@pytest.mark.parametrize("missing", [".ASPXAUTH", "BPMLOADER", "UserName", "CsrfToken", "CRT_CSRF", "BPMCSRF"])
async def test_every_cookie_must_come_back(missing):
    """A client that drops any one of the cookies has no session."""
    async with _installation() as http:
        headers = await _log_in(http)
        http.cookies.delete(missing)
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("flavour", "prefix", "page"),
    [("NF", "/0", "/Login/NuiLogin.aspx"), ("NC", "", "/Login/Login.html")],
)
async def test_a_dead_session_answers_in_all_its_ways(flavour, prefix, page):
    """401 with ForceUseSession, a redirect to the flavour's page without, the page itself or a redirect when forced."""
    async with _installation(flavour=flavour) as http:
        url = f"{prefix}/odata/Account"
        headers = await _log_in(http)
        assert (await http.get(url, headers=headers)).status_code == 200
        await http.put("/_control/chaos", json={"rules": [{"kind": "expire", "times": 1}]})
        assert (await http.get(url, headers=headers)).status_code == 401
        bounced = await http.get(url)
        assert bounced.status_code == 302
        assert bounced.headers["location"].startswith(f"{page}?ReturnUrl=")
        assert "Object moved" in bounced.text
        shown = await http.get(bounced.headers["location"])
        assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert ("bootstrap.login" in shown.text) == (flavour == "NC")
        service = await http.get(f"{prefix}/ServiceModel/ProcessEngineService.svc/X/Execute", headers=headers)
        assert service.json()["Message"] == "Authentication failed."
        assert service.status_code == 401
        for forced, status in (("302", 302), ("200", 200)):
            await http.put("/_control/settings", json={"session_answer": forced})
            answer = await http.get(url, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")


async def test_sessions_end_by_time_logout_and_second_login():
    """A session slides, ends after its time, at logout, and at another login where only one is allowed."""
    async with _installation() as http:
        headers = await _log_in(http)
        await http.post("/ServiceModel/AuthService.svc/Logout", headers=headers)
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 401
        await http.put("/_control/settings", json={"session_seconds": 0})
        headers = await _log_in(http)
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 401
        await http.put("/_control/settings", json={"session_seconds": 60, "one_session_per_user": True})
        headers, jar = await _log_in(http), dict(http.cookies)
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 200
        await _log_in(http)
        http.cookies.clear()
        old = {**headers, "Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        assert (await http.get("/0/odata/Account", headers=old)).status_code == 401


async def test_an_expired_password_looks_like_a_login_and_bounces_later():
    """The login says Code 0 with a PasswordChangeUrl; the calls after it are sent to the login page."""
    async with _installation(password_expired=True) as http:
        login = await http.post(LOGIN, json=GOOD, headers=FORCE)
        assert login.json()["Code"] == 0
        assert login.json()["PasswordChangeUrl"]
        headers = {**FORCE, "BPMCSRF": http.cookies["BPMCSRF"]}
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 302


async def test_the_csrf_cookie_may_rotate():
    """A new BPMCSRF arrives as a cookie; the one before it is still taken once more, an older one is not."""
    async with _installation(rotate_csrf_every=1) as http:
        headers = await _log_in(http)
        tokens = [headers["BPMCSRF"]]
        for _ in range(3):
            sent = {**FORCE, "BPMCSRF": tokens[-1]}
            assert (await http.get("/0/odata/Account", headers=sent)).status_code == 200
            tokens.append(http.cookies["BPMCSRF"])
        assert len(set(tokens)) == 4
        stale = await http.get("/0/odata/Account", headers={**FORCE, "BPMCSRF": tokens[0]})
        assert stale.status_code == 403


async def test_tokens_come_from_the_identity_service_by_form_only():
    """A good form gets a bearer token; JSON, a wrong secret and another grant are 400 with their codes."""
    form = {"client_id": "tandem-client", "client_secret": "tandem-secret", "grant_type": "client_credentials"}
    async with _installation(token_seconds=77) as http, identity(http.creatio) as tokens:
        good = (await tokens.post("/connect/token", data=form)).json()
        assert (good["expires_in"], good["token_type"]) == (77, "Bearer")
        assert good["access_token"].count(".") == 2
        wrong = await tokens.post("/connect/token", data={**form, "client_secret": "x"})
        assert (wrong.status_code, wrong.json()) == (400, {"error": "invalid_client"})
        grant = await tokens.post("/connect/token", data={**form, "grant_type": "password"})
        assert (grant.status_code, grant.json()) == (400, {"error": "unsupported_grant_type"})
        assert (await tokens.post("/connect/token", json=form)).status_code == 400
        found = (await tokens.get("/.well-known/openid-configuration")).json()
        assert found["token_endpoint"] == "http://creatio-is.test/connect/token"
        at_the_app = await http.post("/connect/token", data=form)
        assert (at_the_app.status_code, at_the_app.headers["content-type"]) == (404, "text/html; charset=utf-8")


async def test_a_bearer_needs_neither_cookies_nor_csrf_and_can_expire():
    """A token opens the door alone; a forged or dropped one is 401, and the next one is good again."""
    async with _installation(bearer_cookies=False) as http:
        headers = {"Authorization": f"Bearer {await bearer(http.creatio)}"}
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 200
        forged = {"Authorization": headers["Authorization"][:-3] + "abc"}
        assert (await http.get("/0/odata/Account", headers=forged)).status_code == 401
        await http.put("/_control/chaos", json={"rules": [{"kind": "expire", "times": 1}]})
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 401
        again = {"Authorization": f"Bearer {await bearer(http.creatio)}"}
        assert (await http.get("/0/odata/Account", headers=again)).status_code == 200


async def test_a_bearer_with_cookies_needs_csrf():
    """A bearer call is given a session cookie; once it comes back, the call needs BPMCSRF, and without it is refused with 403."""
    async with _installation() as http:
        headers = {"Authorization": f"Bearer {await bearer(http.creatio)}"}
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 200
        assert "BPMSESSIONID" in http.cookies
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 403
        assert (await http.get("/0/odata/Account", headers={**headers, "BPMCSRF": "any"})).status_code == 200


async def test_a_chaos_rule_reaches_the_identity_service_only_by_its_path():
    """A rule without a path leaves token requests alone; one with their path meets them; both kinds are counted."""
    async with _installation() as http, identity(http.creatio) as tokens:
        await http.put("/_control/chaos", json={"rules": [{"kind": "status", "status": 503}]})
        assert (await tokens.get("/.well-known/openid-configuration")).status_code == 200
        named = {"kind": "status", "status": 503, "path": "^/connect/token"}
        await http.put("/_control/chaos", json={"rules": [named]})
        assert (await tokens.post("/connect/token", data={})).status_code == 503
        counts = (await http.get("/_control/requests")).json()
        assert counts["total"] == 0
        assert counts["by"] == {"GET .well-known/openid-configuration": 1, "POST connect/token": 1}


async def test_each_flavour_has_its_own_addresses_only():
    """The other flavour's OData root is an HTML 404, and the health check moves with it."""
    for flavour, good, bad in (("NF", "/0", ""), ("NC", "", "/0")):
        async with _installation(flavour=flavour) as http, await bearer_site(http.creatio) as caller:
            assert (await caller.get(f"{good}/odata/")).status_code == 200
            other = await caller.get(f"{bad}/odata/")
            assert (other.status_code, other.headers["content-type"]) == (404, "text/html; charset=utf-8")
            assert (await caller.get(f"{good}/api/HealthCheck/Ping")).status_code == 200


async def test_the_delete_log_configuration_exists_from_8_3_2_on():
    """Before that version the address is unknown; after it the objects are listed, unless the right is missing."""
    url = "/api/v1/entities/eventLogConfigs/IntegrationService"
    async with _installation() as plain, await bearer_site(plain.creatio) as http:
        assert (await http.get(url)).status_code == 404
        await http.put("/_control/settings", json={"version": "8.3.2"})
        assert (await http.get(url)).json() == ["Account", "Contact"]
        await http.put("/_control/settings", json={"can_view_delete_log": False})
        assert (await http.get(url)).status_code == 403


def test_the_command_starts_both_listeners_and_stops_at_sigterm(tmp_path):
    """`python -m sandbox.creatio` prints both ready lines, answers on both ports, keeps its rows and ends cleanly."""
    command = [sys.executable, "-m", "sandbox.creatio", "--database", str(tmp_path / "creatio.db")]
    for expected in (0, 1):
        with subprocess.Popen([*command], stdout=subprocess.PIPE, text=True) as process:
            try:
                lines = [process.stdout.readline().strip() for _ in range(2)]
                url = lines[0].removeprefix("creatio ready on ")
                other = lines[1].removeprefix("creatio identity ready on ")
                assert httpx.get(f"{url}/_control/health").json() == {"ok": True, "name": "creatio"}
                assert httpx.get(f"{other}/.well-known/openid-configuration").status_code == 200
                rows = httpx.get(f"{url}/_control/rows", params={"entity": "Account"}).json()
                assert rows["total"] == expected
                httpx.post(f"{url}/_control/seed", json={"entity": "Account", "rows": [{"Name": "Kept"}]})
            finally:
                process.terminate()
            assert process.wait(10) == 0


def test_the_command_explains_its_settings_and_refuses_unknown_ones():
    """Help lists every setting with its default; a wrong one ends the command with the allowed names."""
    command = [sys.executable, "-m", "sandbox.creatio"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "max_entity_row_count: rows in one answer at most (20000)" in shown
    refused = subprocess.run([*command, "--settings", '{"flavor": "NC"}'], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "unknown settings flavor; allowed batch_atomic" in refused.stderr
