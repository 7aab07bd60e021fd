"""Who may call the Creatio stand-in, by forms and by bearer (checklist items 1 to 5)."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from sandbox.control import Switches
from sandbox.creatio.app import create_creatio
from sandbox.creatio.sessions import Sessions
from sandbox.creatio.settings import CreatioSettings
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


async def test_older_builds_set_fewer_cookies():
    """`modern_cookies` off: no UserType in the answer, no newer cookies, and calls pass with the four that there are."""
    async with _installation(modern_cookies=False) as http:
        answer = await http.post(LOGIN, json=GOOD, headers=FORCE)
        assert "UserType" not in answer.json()
        assert set(http.cookies) == {"BPMLOADER", ".ASPXAUTH", "BPMCSRF", "UserName"}
        lines = {line.partition("=")[0]: line for line in answer.headers.get_list("set-cookie")}
        assert {name for name, line in lines.items() if "HttpOnly" in line} == {"BPMLOADER", ".ASPXAUTH", "UserName"}
        assert ["expires=" in lines[name] for name in ("UserName", ".ASPXAUTH")] == [True, False]
        headers = {**FORCE, "BPMCSRF": http.cookies["BPMCSRF"]}
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 200


@pytest.mark.parametrize(("how", "status", "code"), [("no", 200, 0), ("code", 200, 1), ("403", 403, None)])
async def test_a_login_from_a_wrong_address_is_refused(how, status, code):
    """`login_refused`: where IP rules apply the login says so as for a wrong password, or with 403 and HTML; else it passes."""
    async with _installation(login_refused=how) as http:
        answer = await http.post(LOGIN, json=GOOD, headers=FORCE)
        assert answer.status_code == status
        if code is None:
            assert answer.headers["content-type"].startswith("text/html")
        else:
            assert answer.json()["Code"] == code
        assert bool(answer.headers.get_list("set-cookie")) == (how == "no")


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
        await http.put("/_control/settings", json={"require_force_use_session": False})
        assert (await http.get("/0/odata/Account", headers={"BPMCSRF": headers["BPMCSRF"]})).status_code == 200


async def test_csrf_covers_every_method_and_its_refusal_has_one_of_two_bodies():
    """Reads and writes alike are 403 without the token, nothing is done; `csrf_body` is empty or HTML, with ForceUseSession or not."""
    async with _installation(require_force_use_session=False) as http:
        await _log_in(http)
        for body in ("empty", "html"):
            await http.put("/_control/settings", json={"csrf_body": body})
            for force in (FORCE, {}):
                for method in ("GET", "POST", "PATCH", "DELETE"):
                    answer = await http.request(method, "/0/odata/Account", json={"Name": "A"}, headers=force)
                    assert (answer.status_code, "<html>" in answer.text) == (403, body == "html")
        assert (await http.get("/_control/rows", params={"entity": "Account"})).json()["total"] == 0


async def test_a_newer_token_may_be_demanded_as_a_header():
    """`crt_csrf_header`: the CRT_CSRF cookie is only a cookie, or must come back as a header too; older sessions have none."""
    async with _installation() as http:
        headers = await _log_in(http)
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 200
        await http.put("/_control/settings", json={"crt_csrf_header": True})
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 403
        with_it = {**headers, "CRT_CSRF": http.cookies["CRT_CSRF"]}
        assert (await http.get("/0/odata/Account", headers=with_it)).status_code == 200
        await http.put("/_control/settings", json={"modern_cookies": False})
        http.cookies.clear()
        assert (await http.get("/0/odata/Account", headers=await _log_in(http))).status_code == 200


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
        for forced, status in (("302", 302), ("301", 301), ("200", 200)):
            await http.put("/_control/settings", json={"session_answer": forced})
            for sent in (headers, {}):
                answer = await http.get(url, headers=sent)
                assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
                assert answer.headers.get("location", page).startswith(page)
        for forced, status, text in (("401", 401, ""), ("403", 403, ""), ("svc", 401, "Authentication failed.")):
            await http.put("/_control/settings", json={"session_answer": forced})
            for sent in (headers, {}, {"Authorization": "Bearer dead"}):
                answer = await http.get(url, headers=sent)
                assert (answer.status_code, text in answer.text) == (status, True)


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


async def test_two_logins_of_a_user_stand_side_by_side_unless_the_site_allows_one():
    """`one_session_per_user`: as shipped the first session goes on after a second login; with the feature on it is dead."""
    for single, status in ((False, 200), (True, 401)):
        async with _installation(one_session_per_user=single) as http, site(http.creatio) as other:
            first = await _log_in(http)
            second = await _log_in(other)
            assert (await other.get("/0/odata/Account", headers=second)).status_code == 200
            assert (await http.get("/0/odata/Account", headers=first)).status_code == status


def test_a_session_slides():
    """`session_seconds` counts from the last call: a session that is used lives on, one that idles is dead."""
    now = 1000.0
    sessions = Sessions(Switches(CreatioSettings(session_seconds=60)), monotonic=lambda: now)
    cookies = sessions.log_in("integration").cookies
    for _ in range(3):
        now += 50
        assert sessions.find(cookies) is not None
    now += 61
    assert sessions.find(cookies) is None


@pytest.mark.parametrize("lock", [False, True])
async def test_calls_of_one_session_may_wait_for_each_other(lock):
    """`session_lock` and `work_seconds`: six calls of one session work side by side or one by one; those by token never wait."""
    async with _installation(session_lock=lock, work_seconds=0.05) as http, await bearer_site(http.creatio) as caller:
        headers = await _log_in(http)
        calls = [http.get("/0/odata/Account", headers=headers) for _ in range(6)]
        calls += [caller.get("/0/odata/Account") for _ in range(6)]
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}
        most = (await http.get("/_control/requests")).json()["most"]
        assert (most["calls of a session"] == 1) == lock
        assert most["calls by token"] > 1


@pytest.mark.parametrize("status", [429, 403])
async def test_the_calls_of_a_day_may_be_counted(status):
    """`daily_calls` and `quota_status`: beyond the plan's number calls are refused until the next day of the server; 0 is any number."""
    async with _installation(quota_status=status) as http, await bearer_site(http.creatio) as caller:
        for _ in range(3):
            assert (await caller.get("/0/odata/Account")).status_code == 200
        await http.put("/_control/settings", json={"daily_calls": 4})
        answers = [(await caller.get("/0/odata/Account")).status_code for _ in range(3)]
        assert answers == [200, status, status]
        assert "retry-after" not in (await caller.get("/0/odata/Account")).headers
        await http.post("/_control/clock", json={"skew_seconds": 86_400})
        assert (await caller.get("/0/odata/Account")).status_code == 200


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


async def test_a_bearer_ends_with_its_time():
    """`token_seconds`: a token is good until it is that old, then it is 401 with the reason in a header."""
    async with _installation(token_seconds=1) as http:
        headers = {"Authorization": f"Bearer {await bearer(http.creatio)}"}
        assert (await http.get("/0/odata/Account", headers=headers)).status_code == 200
        await asyncio.sleep(1.1)
        late = await http.get("/0/odata/Account", headers=headers)
        assert (late.status_code, late.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


async def test_names_and_secrets_are_the_sites():
    """`username`, `password`, `client_id` and `client_secret`: what they say opens the door, what they said before does not."""
    mine = {"username": "grace", "password": "p|w=/", "client_id": "c", "client_secret": "s"}
    async with _installation(**mine) as http, identity(http.creatio) as tokens:
        assert (await http.post(LOGIN, json=GOOD)).json()["Code"] == 1
        answer = await http.post(LOGIN, json={"UserName": "grace", "UserPassword": "p|w=/"}, headers=FORCE)
        assert answer.json()["Code"] == 0
        made = await http.post("/0/odata/Account", json={"Name": "A"}, headers={**FORCE, "BPMCSRF": http.cookies["BPMCSRF"]})
        people = (await http.get("/_control/rows", params={"entity": "SysAdminUnit"})).json()["rows"]
        assert made.json()["CreatedById"] == next(one["ContactId"] for one in people if one["Name"] == "grace")
        form = {"client_id": "c", "client_secret": "s", "grant_type": "client_credentials"}
        assert (await tokens.post("/connect/token", data=form)).status_code == 200
        assert (await tokens.post("/connect/token", data={**form, "client_id": "tandem-client"})).status_code == 400


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
            assert (await caller.get(f"{bad}/api/HealthCheck/Ping")).status_code == 404


@pytest.mark.parametrize(("flavour", "prefix"), [("NF", "/0"), ("NC", "")])
async def test_health_can_be_asked_with_and_without_a_session(flavour, prefix):
    """The newer check is open to all; `ping` and the OAuth check are for those who may enter, and a ping keeps the session alive."""
    async with _installation(flavour=flavour) as http:
        assert (await http.get(f"{prefix}/api/HealthCheck/Ping")).text == "Healthy"
        assert (await http.post(f"{prefix}/ping", headers=FORCE)).status_code == 401
        assert (await http.get(f"{prefix}/api/OAuthHealthCheck", headers=FORCE)).status_code == 401
        headers = await _log_in(http)
        assert (await http.post(f"{prefix}/ping", headers=headers)).json() is True
        assert (await http.get(f"{prefix}/ping", headers=headers)).status_code == 404
        assert (await http.get(f"{prefix}/api/OAuthHealthCheck", headers=headers)).text == "Healthy"


async def test_the_delete_log_configuration_exists_from_8_3_2_on():
    """Before that version the address is unknown; after it the objects are listed, unless the right is missing."""
    url = "/api/v1/entities/eventLogConfigs/IntegrationService"
    async with _installation() as plain, await bearer_site(plain.creatio) as http:
        assert (await http.get(url)).status_code == 404
        await http.put("/_control/settings", json={"version": "8.3.2"})
        assert (await http.get(url)).json() == ["Account", "Contact"]
        await http.put("/_control/settings", json={"delete_log": []})
        assert (await http.get(url)).json() == []
        assert (await plain.get(url, headers=FORCE)).status_code == 401
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
