"""Prove that logins with the real azure-identity work against Entra's stand-in, and that nothing of its library or secrets gets out."""

import asyncio
import base64
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.identity import CredentialUnavailableError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from sandbox.control_client import Control
from sandbox.dataverse.server import create_app as create_dataverse
from sandbox.entra import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, DEFAULT_TENANT, create_app, make_authority
from sandbox.serve import running
from shared.core.errors import ConfigError, Denied, Transient
from shared.systems.dataverse_connection import connect
from shared.systems.entra import EntraLogin, EntraSettings, make_credential
from shared.systems.web import Response

KEY = "a key for tests"


class Entra:
    """The running stand-in, and logins for it."""

    def __init__(self, url: str, ca_file: Path):
        self.url = url
        self.ca_file = ca_file
        self.control = Control("entra", url, ca_file)
        self.logins: list[EntraLogin] = []

    def login(self, scope="https://org.test/.default", **changes):
        """Make a login with a client secret, or with what `changes` say."""
        known = {"kind": "secret", "tenant_id": DEFAULT_TENANT, "client_id": DEFAULT_CLIENT_ID, "secret": DEFAULT_CLIENT_SECRET}
        settings = EntraSettings(**{**known, "authority": self.url, "ca_file": str(self.ca_file), **changes})
        login = EntraLogin(lambda: make_credential(settings), scope)
        self.logins.append(login)
        return login


@pytest.fixture
async def entra(tmp_path) -> AsyncIterator[Entra]:
    """Run Entra's stand-in over HTTPS with a CA of its own."""
    authority = make_authority(tmp_path)
    async with running(create_app(token_key=KEY), authority.tls) as url:
        made = Entra(url, authority.ca_file)
        yield made
        for login in made.logins:
            await login.close()
        await made.control.close()


def certificate() -> tuple[str, str]:
    """Return a self-signed certificate as PEM, without and with its private key."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tandem")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    public = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return public, private + public


async def test_a_secret_gives_a_token_that_dataverse_takes(entra):
    """The whole way: azure-identity, HTTPS with our CA, the adapter, WhoAmI."""
    async with running(create_dataverse(token_key=KEY)) as url:
        adapter = connect(f"{url}/api/data/v9.2", entra.login(f"{url}/.default"))
        assert (await adapter.identity()).user_id
        await adapter.close()


async def test_a_certificate_gives_a_token(entra):
    """The assertion signed with a registered certificate is accepted, one signed with another is Denied."""
    public, private = certificate()
    await entra.control.switch(certificates=[public])
    assert (await entra.login(kind="certificate", certificate=private).headers())["Authorization"].startswith("Bearer ")
    with pytest.raises(Denied) as caught:
        await entra.login(kind="certificate", certificate=certificate()[1]).headers()
    assert caught.value.code == "dataverse.login_failed"


async def test_a_certificate_comes_as_pem_or_in_base64_with_or_without_a_password(entra):
    """PEM, Base64 of PEM, and Base64 of a PFX with a password all log in; a wrong password is a fault of the settings."""
    public, private = certificate()
    await entra.control.switch(certificates=[public])
    key = serialization.load_pem_private_key(private.encode(), None)
    locked = serialization.BestAvailableEncryption(b"open")
    pfx = pkcs12.serialize_key_and_certificates(b"tandem", key, x509.load_pem_x509_certificate(public.encode()), None, locked)
    packed = base64.b64encode(pfx).decode()
    for given, password in ((private, ""), (base64.b64encode(private.encode()).decode(), ""), (packed, "open")):
        login = entra.login(kind="certificate", certificate=given, certificate_password=password)
        assert (await login.headers())["Authorization"].startswith("Bearer ")
    for password in ("", "wrong"):
        with pytest.raises(ConfigError, match="ENTRA_CERTIFICATE"):
            await entra.login(kind="certificate", certificate=packed, certificate_password=password).headers()


async def test_a_wrong_secret_is_denied_with_its_number_only(entra):
    """The operator sees the AADSTS number; neither the secret nor Entra's text is kept."""
    with pytest.raises(Denied) as caught:
        await entra.login(secret="wrong-secret-4711").headers()
    assert caught.value.code == "dataverse.login_failed"
    assert caught.value.said == "Entra: AADSTS7000215"
    assert "4711" not in str(caught.value)


async def test_entra_in_trouble_is_transient(entra):
    """A server error of Entra is no reason to stop a flow and call a person."""
    await entra.control.chaos({"seed": 1, "rules": [{"kind": "status", "status": 400, "path": "token"}]})
    with pytest.raises(Transient) as caught:
        await entra.login().headers()
    assert caught.value.code == "dataverse.unavailable"


class Failing:
    """A credential that raises."""

    def __init__(self, problem):
        self._problem = problem

    async def get_token(self, *scopes):
        raise self._problem

    async def close(self):
        pass


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_entra_that_asks_to_wait_is_transient(status):
    """Too many requests and a time-out at Entra pass by themselves, like its server errors: nobody has to be called."""

    class Refusal:
        status_code, reason, headers = status, "", {}

        def text(self, encoding=None):
            return ""

    problem = ClientAuthenticationError("Authentication failed", response=Refusal())
    with pytest.raises(Transient) as caught:
        await EntraLogin(lambda: Failing(problem), "scope").headers()
    assert caught.value.code == "dataverse.unavailable"


async def test_a_managed_identity_that_hiccups_is_transient():
    """The identity endpoint of the machine is not always there when an app starts: it is asked again, the flow goes on."""
    with pytest.raises(Transient) as caught:
        await EntraLogin(lambda: Failing(CredentialUnavailableError("IMDS did not answer")), "scope").headers()
    assert (caught.value.code, caught.value.said) == ("dataverse.unavailable", "Entra: CredentialUnavailableError")


async def test_an_authority_that_is_not_there_is_transient():
    """No connection to Entra is `unreachable`."""
    with pytest.raises(Transient) as caught:
        await EntraLogin(lambda: Failing(ServiceRequestError("no route")), "scope").headers()
    assert caught.value.code == "dataverse.unreachable"


async def test_one_token_serves_all_tasks_until_five_minutes_before_its_end():
    """Fifty tasks ask once; a token that ends within five minutes is not used any more."""
    now = [1_000_000.0]
    asked: list[float] = []

    class Token:
        def __init__(self):
            self.token, self.expires_on = f"t{len(asked)}", int(now[0]) + 3600

    class Counting:
        async def get_token(self, *scopes):
            asked.append(now[0])
            await asyncio.sleep(0)
            return Token()

        async def close(self):
            pass

    login = EntraLogin(Counting, "scope", clock=lambda: now[0])
    headers = await asyncio.gather(*(login.headers() for _ in range(50)))
    assert {h["Authorization"] for h in headers} == {"Bearer t1"}
    now[0] += 3600 - 301
    assert (await login.headers())["Authorization"] == "Bearer t1"
    now[0] += 2
    assert (await login.headers())["Authorization"] == "Bearer t2"
    assert len(asked) == 2


async def test_a_renewal_gets_a_new_token_and_not_the_library_s_own_copy(entra):
    """After a 401 the next token is another one, although the old one would have lasted."""
    login = entra.login()
    before = await login.headers()
    assert await login.headers() == before
    await login.renew()
    assert await login.headers() != before


def test_only_a_401_ends_a_session():
    """403 is a matter of rights, not of the token."""
    login = EntraLogin(lambda: pytest.fail("no credential is needed"), "scope")
    assert [s for s in (200, 302, 401, 403, 500) if login.ended(Response("dataverse", s, httpx.Headers(), b""))] == [401]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (EntraSettings("password"), ["DATAVERSE_AUTH"]),
        (EntraSettings("secret"), ["ENTRA_TENANT_ID", "ENTRA_CLIENT_ID", "ENTRA_CLIENT_SECRET"]),
        (EntraSettings("certificate", "t", "c"), ["ENTRA_CERTIFICATE"]),
        (EntraSettings("certificate", "t", "c", certificate="no pem"), ["ENTRA_CERTIFICATE"]),
        (EntraSettings("secret", "t", "c", "s", authority="http://127.0.0.1:1"), ["ENTRA_AUTHORITY"]),
    ],
)
def test_wrong_settings_are_named_all_at_once(settings, names):
    """Each missing or impossible setting stands in one message."""
    with pytest.raises(ConfigError) as caught:
        make_credential(settings)
    assert [problem.split(":")[0] for problem in caught.value.problems] == names


async def test_the_managed_identity_needs_no_setting_but_its_kind():
    """A system-assigned identity and a user-assigned one can be made without tenant and secret."""
    for client_id in ("", DEFAULT_CLIENT_ID):
        await make_credential(EntraSettings("managed_identity", client_id=client_id)).close()


def test_secrets_do_not_show_when_settings_are_printed():
    """`repr` of the settings holds neither secret nor certificate."""
    shown = repr(EntraSettings("secret", "t", "c", secret="hush-1", certificate="hush-2"))
    assert "hush" not in shown


def test_importing_the_login_does_not_load_azure_identity():
    """Start-up stays fast for invocations that never ask for a token."""
    code = "import sys, shared.systems.entra, shared.systems.dataverse_connection; print('azure.identity' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
