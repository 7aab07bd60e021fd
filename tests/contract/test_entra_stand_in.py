"""Entra's stand-in over HTTPS, by hand and through the real azure-identity (item 1)."""

import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import CertificateCredential, ClientSecretCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from sandbox.entra import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, DEFAULT_TENANT, Settings, create_app, make_authority
from sandbox.serve import serving
from sandbox.tokens import TokenError, read_token

KEY = "a key for tests"
SCOPE = "http://127.0.0.1:5000/.default"


@dataclass(frozen=True)
class Entra:
    """A running server: its address, the CA to trust and a client that trusts it."""

    url: str
    ca_file: Path
    http: httpx.Client

    @property
    def authority(self) -> str:
        return self.url.removeprefix("https://")

    def token(self, tenant: str = DEFAULT_TENANT, **changes: str | None) -> httpx.Response:
        form = {"grant_type": "client_credentials", "client_id": DEFAULT_CLIENT_ID, "client_secret": DEFAULT_CLIENT_SECRET, "scope": SCOPE}
        form = {name: value for name, value in {**form, **changes}.items() if value is not None}
        return self.http.post(f"/{tenant}/oauth2/v2.0/token", data=form)

    def settings(self, **values: object) -> None:
        assert self.http.put("/_control/settings", json=values).status_code == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Entra]:
    """Serve Entra's stand-in for all tests of this file."""
    authority = make_authority(tmp_path_factory.mktemp("entra"))
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    with serving(create_app(token_key=KEY), authority.tls) as url, httpx.Client(base_url=url, verify=context) as http:
        yield Entra(url, authority.ca_file, http)


@pytest.fixture
def entra(server) -> Entra:
    """Give a test the server as it was at its start."""
    server.settings(**Settings().model_dump(mode="json"))
    server.http.delete("/_control/chaos")
    server.http.post("/_control/requests/reset")
    return server


@pytest.fixture(scope="module")
def certificate() -> tuple[bytes, str, rsa.RSAPrivateKey]:
    """Make a self-signed certificate as an administrator does: PEM with key, PEM without, key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tandem")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    public = signed.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private + public, public.decode(), key


def test_a_secret_gets_a_token_for_its_scope(entra) -> None:
    """The reply has the members of Entra's, and the token names audience, application and tenant."""
    body = entra.token().json()
    assert (body["token_type"], body["expires_in"], body["ext_expires_in"]) == ("Bearer", 3599, 3599)
    claims = read_token(body["access_token"], KEY, ["http://127.0.0.1:5000"])
    assert (claims["appid"], claims["tid"]) == (DEFAULT_CLIENT_ID, DEFAULT_TENANT)
    with pytest.raises(TokenError):
        read_token(body["access_token"], "another key", ["http://127.0.0.1:5000"])


def test_the_endpoint_of_version_1_takes_a_resource(entra) -> None:
    """Integrators still use it: `resource` in place of `scope`, numbers as text, the same kind of token."""
    form = {"grant_type": "client_credentials", "client_id": DEFAULT_CLIENT_ID, "client_secret": DEFAULT_CLIENT_SECRET}
    url = f"/{DEFAULT_TENANT}/oauth2/token"
    body = entra.http.post(url, data={**form, "resource": "http://127.0.0.1:5000/"}).json()
    assert (body["expires_in"], body["resource"]) == ("3599", "http://127.0.0.1:5000/")
    assert int(body["expires_on"]) - time.time() > 3500
    assert read_token(body["access_token"], KEY, ["http://127.0.0.1:5000"])["appid"] == DEFAULT_CLIENT_ID
    assert entra.http.post(url, data={**form, "scope": SCOPE}).json()["error_codes"] == [900144]
    assert entra.http.post(url, data={**form, "resource": SCOPE, "client_secret": "wrong"}).json()["error_codes"] == [7000215]


@pytest.mark.parametrize(
    ("tenant", "changes", "status", "error", "number"),
    [
        (DEFAULT_TENANT, {"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        (DEFAULT_TENANT, {"client_secret": None}, 401, "invalid_client", 7000218),
        (DEFAULT_TENANT, {"client_id": "nobody"}, 400, "unauthorized_client", 700016),
        ("other-tenant", {}, 400, "invalid_request", 90002),
        (DEFAULT_TENANT, {"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        (DEFAULT_TENANT, {"scope": "http://127.0.0.1:5000"}, 400, "invalid_scope", 1002012),
        (DEFAULT_TENANT, {"client_assertion": "x", "client_assertion_type": "y"}, 400, "invalid_request", 50027),
    ],
)
def test_bad_requests_have_entras_errors(entra, tenant, changes, status, error, number) -> None:
    """Each fault has its status, OAuth code and AADSTS number, and never a token."""
    answer = entra.token(tenant, **changes)
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert "access_token" not in body


def test_discovery_documents(entra) -> None:
    """Tenant configuration and instance discovery point back to this server; an unknown tenant is 400."""
    shown = entra.http.get(f"/{DEFAULT_TENANT}/v2.0/.well-known/openid-configuration").json()
    assert shown["token_endpoint"] == f"{entra.url}/{DEFAULT_TENANT}/oauth2/v2.0/token"
    assert entra.http.get("/other/v2.0/.well-known/openid-configuration").status_code == 400
    shown = entra.http.get("/common/discovery/instance?api-version=1.1").json()
    assert shown["metadata"][0]["preferred_network"] == entra.authority


def test_only_the_new_ca_is_needed_and_it_is_needed(entra) -> None:
    """A client that doesn't trust the CA file refuses the server: verification is on."""
    with pytest.raises(httpx.ConnectError), httpx.Client(base_url=entra.url) as stranger:
        stranger.get("/_control/health")


def assertion(entra: Entra, key: rsa.RSAPrivateKey, public: str, **changes: object) -> str:
    """Sign a client assertion, spoiled by `changes`."""
    signed = x509.load_pem_x509_certificate(public.encode())
    thumbprint = jwt.utils.base64url_encode(signed.fingerprint(hashes.SHA256())).decode()
    audience = f"{entra.url}/{DEFAULT_TENANT}/oauth2/v2.0/token"
    now = int(time.time())
    claims = {"aud": audience, "iss": DEFAULT_CLIENT_ID, "sub": DEFAULT_CLIENT_ID, "jti": "1", "nbf": now, "exp": now + 600}
    return jwt.encode({**claims, **changes}, key, algorithm="PS256", headers={"x5t#S256": thumbprint})


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({}, None),
        ({"aud": "https://login.microsoftonline.com/x"}, 50027),
        ({"iss": "somebody"}, 50027),
        ({"sub": "somebody"}, 700021),
        ({"exp": 1}, 700024),
        ({"exp": int(time.time()) + 7200}, 700024),
    ],
)
def test_assertions_are_checked(entra, certificate, changes, number) -> None:
    """Audience, issuer, subject and life of an assertion are checked; a good one gets a token."""
    _, public, key = certificate
    entra.settings(certificates=[public])
    signed = assertion(entra, key, public, **changes)
    answer = entra.token(
        client_secret=None,
        client_assertion=signed,
        client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    )
    if number is None:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["error_codes"]) == (401, [number])


def test_a_forged_assertion_is_refused(entra, certificate) -> None:
    """A registered thumbprint with the signature of another key, and an unregistered certificate, get no token."""
    _, public, key = certificate
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    unregistered = entra.token(client_secret=None, client_assertion=assertion(entra, key, public), client_assertion_type=kind)
    assert unregistered.json()["error_codes"] == [700027]
    entra.settings(certificates=[public])
    forged = entra.token(client_secret=None, client_assertion=assertion(entra, other, public), client_assertion_type=kind)
    assert (forged.status_code, forged.json()["error_codes"]) == (401, [700027])


async def test_azure_identity_with_a_secret(entra) -> None:
    """The real ClientSecretCredential gets a token that the systems' stand-ins accept, and fails on a wrong secret."""
    options = {"authority": entra.authority, "disable_instance_discovery": True, "connection_verify": str(entra.ca_file)}
    async with ClientSecretCredential(DEFAULT_TENANT, DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, **options) as credential:
        token = await credential.get_token(SCOPE)
    assert read_token(token.token, KEY, ["http://127.0.0.1:5000"])["appid"] == DEFAULT_CLIENT_ID
    assert 3_500 < token.expires_on - time.time() < 3_700
    async with ClientSecretCredential(DEFAULT_TENANT, DEFAULT_CLIENT_ID, "wrong", **options) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
            await credential.get_token(SCOPE)


async def test_azure_identity_with_a_certificate(entra, certificate) -> None:
    """The real CertificateCredential gets a token once its certificate is registered, and none before."""
    private, public, _ = certificate
    options = {"authority": entra.authority, "disable_instance_discovery": True, "connection_verify": str(entra.ca_file)}
    async with CertificateCredential(DEFAULT_TENANT, DEFAULT_CLIENT_ID, certificate_data=private, **options) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
            await credential.get_token(SCOPE)
    entra.settings(certificates=[public])
    async with CertificateCredential(DEFAULT_TENANT, DEFAULT_CLIENT_ID, certificate_data=private, **options) as credential:
        token = await credential.get_token(SCOPE)
    assert read_token(token.token, KEY, ["http://127.0.0.1:5000"])["tid"] == DEFAULT_TENANT


async def test_short_lived_tokens(entra) -> None:
    """The life of tokens is a setting; counts and chaos work as in every stand-in."""
    entra.settings(expires_in=5)
    assert entra.token().json()["expires_in"] == 5
    entra.http.put("/_control/chaos", json={"rules": [{"kind": "status", "status": 503, "times": 1}]})
    answer = entra.token()
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert entra.token().status_code == 200
    assert entra.http.get("/_control/requests").json()["by"] == {"POST token": 3}


def test_the_command_writes_its_ca_and_takes_a_certificate(tmp_path, certificate) -> None:
    """``python -m sandbox.entra`` writes the CA where it is told, registers a certificate, and says where it is ready."""
    _, public, key = certificate
    ca_file, registered = tmp_path / "ca.pem", tmp_path / "certificate.pem"
    registered.write_text(public, encoding="utf-8")
    command = [sys.executable, "-m", "sandbox.entra", "--token-key", KEY, "--ca-file", str(ca_file), "--certificate", str(registered)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert process.stdout.readline() == f"entra trusts {ca_file}\n"
        ready = process.stdout.readline()
        assert ready.startswith("entra ready on https://127.0.0.1:")
        with httpx.Client(base_url=ready.split()[-1], verify=ssl.create_default_context(cafile=str(ca_file))) as http:
            started = Entra(ready.split()[-1], ca_file, http)
            kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            signed = assertion(started, key, public)
            answer = started.token(client_secret=None, client_assertion=signed, client_assertion_type=kind)
            assert answer.status_code == 200, answer.text
    finally:
        process.terminate()
        process.communicate(timeout=10)
