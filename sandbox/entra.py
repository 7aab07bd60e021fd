"""A stand-in of Entra ID's token endpoint for client credentials, over HTTPS with a CA made at start (dataverse.md 1).

Secrets and certificates (client assertions) are accepted; tokens are JWTs signed by a shared key that the stand-ins of
the systems know. Errors have Entra's shape and AADSTS codes. Chaos: the kinds that every stand-in has.
"""

import argparse
import base64
import ssl
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import jwt
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.chaos import Chaos
from sandbox.control import Panel, Refused, Row, Switches, controlled
from sandbox.serve import AsgiApp, TlsFiles, serve_command
from sandbox.tokens import sign_token

DEFAULT_TENANT = "00000000-0000-0000-0000-00000000aaaa"
DEFAULT_CLIENT_ID = "00000000-0000-0000-0000-00000000c11e"
DEFAULT_CLIENT_SECRET = "sandbox-secret"  # noqa: S105 - the secret of a stand-in
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_ASSERTION = 3_600  # azure-identity signs for 30 minutes, so the 10 minutes of the books can't be the rule


class Settings(BaseModel):
    """Whom the stand-in knows and how long its tokens last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = DEFAULT_TENANT
    client_id: str = DEFAULT_CLIENT_ID
    client_secret: str = DEFAULT_CLIENT_SECRET
    certificates: tuple[str, ...] = ()
    """Certificates (PEM) registered for the application; assertions signed by another one are refused."""
    expires_in: int = Field(default=3_599, gt=0)
    """Life of a token in seconds."""
    other_clients: Mapping[str, str] = Field(default_factory=dict)
    """More applications and their secrets, e.g. one that no organisation has a user for."""


class OAuthError(Exception):
    """An error of the token endpoint: HTTP status, OAuth code, AADSTS number and text."""

    def __init__(self, status: int, error: str, number: int, text: str) -> None:
        super().__init__(f"AADSTS{number}: {text}")
        self.status = status
        self.error = error
        self.number = number


def _refuse(number: int, text: str, error: str = "invalid_client", status: int = 401) -> NoReturn:
    raise OAuthError(status, error, number, text)


def _error_body(error: OAuthError) -> dict[str, Any]:
    trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return {
        "error": error.error,
        "error_description": f"{error} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}",
        "error_codes": [error.number],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://login.microsoftonline.com/error?code={error.number}",
    }


@dataclass(frozen=True)
class TokenEndpoint:
    """Issues tokens under the settings in force, signed with `token_key`."""

    switches: Switches[Settings]
    token_key: str

    async def token(self, request: Request) -> Response:
        """Answer a token request (client credentials with a secret or an assertion)."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        try:
            return JSONResponse(self._issue(request, form), headers={"Cache-Control": "no-store, no-cache"})
        except OAuthError as error:
            return JSONResponse(_error_body(error), error.status)

    def _issue(self, request: Request, form: Mapping[str, str]) -> dict[str, Any]:
        settings = self.switches.current
        tenant = request.path_params["tenant"]
        older = not request.url.path.endswith("/v2.0/token")  # the endpoint of version 1 takes a resource (dataverse.md 1)
        if tenant != settings.tenant:
            _refuse(90002, f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.", "invalid_request", 400)
        if form.get("grant_type") != "client_credentials":
            text = f"The app requested an unsupported grant type '{form.get('grant_type', '')}'."
            _refuse(70003, text, "unsupported_grant_type", 400)
        resource = form.get("resource", "") if older else form.get("scope", "").removesuffix("/.default")
        if older and not resource:
            _refuse(900144, "The request body must contain the following parameter: 'resource'.", "invalid_request", 400)
        if not older and not form.get("scope", "").endswith("/.default"):
            text = f"The provided value for scope {form.get('scope', '')} is not valid; it must end in /.default."
            _refuse(1002012, text, "invalid_scope", 400)
        client_id = form.get("client_id", "")
        known = {settings.client_id: settings.client_secret, **settings.other_clients}
        if client_id not in known:
            text = f"Application with identifier '{client_id}' was not found in the directory '{tenant}'."
            _refuse(700016, text, "unauthorized_client", 400)
        if "client_assertion" in form:
            self._check_assertion(form, str(request.url))
        elif "client_secret" not in form:
            text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            _refuse(7000218, text)
        elif form["client_secret"] != known[client_id]:
            text = f"Invalid client secret provided. Ensure the secret being sent is the client secret value of app '{client_id}'."
            _refuse(7000215, text)
        reply = self._signed(tenant, client_id, resource)
        if older:  # version 1 writes numbers as text, and tells the end too [memory]
            life = str(reply["expires_in"])
            reply |= {"expires_in": life, "ext_expires_in": life, "expires_on": str(int(time.time()) + int(life)), "resource": resource}
        return reply

    def _signed(self, tenant: str, client_id: str, resource: str) -> dict[str, Any]:
        now = time.time()
        expires_in = self.switches.current.expires_in
        claims = {
            "aud": resource.rstrip("/"),
            "iss": f"https://sts.windows.net/{tenant}/",
            "iat": now,
            "nbf": int(now),
            "exp": int(now) + expires_in,
            "appid": client_id,
            "tid": tenant,
            "uti": str(uuid.uuid4()),
            "ver": "1.0",
        }
        token = sign_token(claims, self.token_key)
        return {"token_type": "Bearer", "expires_in": expires_in, "ext_expires_in": expires_in, "access_token": token}

    def _check_assertion(self, form: Mapping[str, str], token_url: str) -> None:
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            _refuse(50027, f"'client_assertion_type' must be '{_ASSERTION_TYPE}'.", "invalid_request", 400)
        assertion, client_id = form["client_assertion"], form.get("client_id", "")
        try:
            header = jwt.get_unverified_header(assertion)
            public_key = self._registered(header)
            claims = jwt.decode(
                assertion,
                public_key,
                algorithms=["RS256", "PS256"],
                audience=token_url,
                issuer=client_id,
                options={"require": ["aud", "iss", "sub", "exp", "jti"]},
            )
        except jwt.InvalidSignatureError:
            _refuse(700027, "The certificate used to sign the client assertion is not registered on the application.")
        except jwt.ExpiredSignatureError:
            _refuse(700024, "Client assertion is not within its valid time range.")
        except jwt.PyJWTError as error:
            _refuse(50027, f"JWT token is invalid or malformed: {error}")
        if claims["sub"] != client_id:
            _refuse(700021, "Client assertion application identifier doesn't match 'client_id' parameter.")
        if float(claims["exp"]) - time.time() > _LONGEST_ASSERTION:
            _refuse(700024, "Client assertion is not within its valid time range: it lasts too long.")

    def _registered(self, header: Mapping[str, Any]) -> RSAPublicKey:
        """Find the registered certificate by the thumbprint in the header (``x5t`` or ``x5t#S256``)."""
        given = {str(header.get(name)).rstrip("=") for name in ("x5t", "x5t#S256")}  # some clients pad, some do not
        for text in self.switches.current.certificates:
            certificate = x509.load_pem_x509_certificate(text.encode())
            prints = {_thumbprint(certificate, hashes.SHA1()), _thumbprint(certificate, hashes.SHA256())}  # noqa: S303
            key = certificate.public_key()
            if prints & given and isinstance(key, RSAPublicKey):
                return key
        _refuse(700027, "The certificate used to sign the client assertion is not registered on the application.")

    async def configuration(self, request: Request) -> Response:
        """Answer the OpenID configuration of a tenant."""
        tenant = request.path_params["tenant"]
        root = f"{request.url.scheme}://{request.url.netloc}/{tenant}"
        if tenant != self.switches.current.tenant:
            error = OAuthError(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found.")
            return JSONResponse(_error_body(error), 400)
        return JSONResponse(
            {
                "token_endpoint": f"{root}/oauth2/v2.0/token",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "issuer": f"{root}/v2.0",
                "jwks_uri": f"{root}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "response_types_supported": ["code", "id_token"],
                "scopes_supported": ["openid"],
                "tenant_region_scope": None,
            },
        )

    async def instance(self, request: Request) -> Response:
        """Answer instance discovery: this server is its own and only cloud."""
        host = request.url.netloc
        root = f"{request.url.scheme}://{host}/{self.switches.current.tenant}"
        metadata = [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}]
        return JSONResponse(
            {
                "tenant_discovery_endpoint": f"{root}/v2.0/.well-known/openid-configuration",
                "api-version": request.query_params.get("api-version", "1.1"),
                "metadata": metadata,
            },
        )


def _thumbprint(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> str:
    return base64.urlsafe_b64encode(certificate.fingerprint(algorithm)).decode().rstrip("=")


class _NoRows:
    """The store of a stand-in without rows: its control API has settings, chaos and counts only."""

    def _refuse(self, entity: str, *_given: object) -> NoReturn:
        raise Refused(f"Entra's stand-in has no rows of '{entity}'; use /_control/settings", 404)

    def seed(self, entity: str, rows: Sequence[Row]) -> list[str]:
        self._refuse(entity, rows)

    def edit(self, entity: str, row_id: str, values: Row, user: str | None) -> Row:
        self._refuse(entity, row_id, values, user)

    def create(self, entity: str, values: Row, user: str | None) -> Row:
        self._refuse(entity, values, user)

    def delete(self, entity: str, row_id: str, user: str | None) -> None:
        self._refuse(entity, row_id, user)

    def rows(self, entity: str, limit: int | None, offset: int) -> tuple[list[Row], int]:
        self._refuse(entity, limit, offset)

    def row(self, entity: str, row_id: str) -> Row | None:
        self._refuse(entity, row_id)


def _render(status: int, _kind: str) -> tuple[str, bytes]:
    error = OAuthError(status, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again.")
    return "application/json; charset=utf-8", bytes(JSONResponse(_error_body(error)).body)


def create_app(*, token_key: str, settings: Settings | None = None) -> AsgiApp:
    """Build the stand-in's app; `token_key` signs tokens and is known to the stand-ins that check them."""
    endpoint = TokenEndpoint(Switches(settings or Settings()), token_key)
    app = Starlette(
        routes=[
            Route("/common/discovery/instance", endpoint.instance),
            Route("/{tenant}/oauth2/v2.0/token", endpoint.token, methods=["POST"]),
            Route("/{tenant}/oauth2/token", endpoint.token, methods=["POST"]),
            Route("/{tenant}/v2.0/.well-known/openid-configuration", endpoint.configuration),
        ],
    )
    panel = Panel(name="entra", store=_NoRows(), switches=endpoint.switches, chaos=Chaos())
    return controlled(app, panel, lambda method, path: (f"{method} {path.rpartition('/')[2]}", True), _render, lambda: None)


@dataclass(frozen=True)
class Authority:
    """A certificate authority made for one run: the server's PEM files and the CA file that clients trust."""

    tls: TlsFiles
    ca_file: Path


def make_authority(folder: Path, ca_file: Path | None = None) -> Authority:
    """Make a CA and a certificate for 127.0.0.1 and localhost in `folder`; the CA's PEM goes to `ca_file` too."""
    authority = trustme.CA(organization_name="Tandem sandbox")
    server = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key, trusted = folder / "server.pem", folder / "server.key", ca_file or folder / "ca.pem"
    key.touch(mode=0o600)
    server.private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    authority.cert_pem.write_to_path(trusted)
    ssl.create_default_context(cafile=str(trusted))  # fails here, not at the first client, if the file is no CA
    return Authority(TlsFiles(certificate, key), trusted)


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="sandbox.entra", description="A stand-in of Entra's token endpoint (HTTPS).")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--ca-file", type=Path, help="where to write the CA's certificate, which clients must trust")
    parser.add_argument("--token-key", required=True, help="key to sign tokens with, the same as the systems' stand-ins")
    parser.add_argument("--tenant", default=DEFAULT_TENANT)
    parser.add_argument("--client-id", default=DEFAULT_CLIENT_ID)
    parser.add_argument("--client-secret", default=DEFAULT_CLIENT_SECRET)
    parser.add_argument("--certificate", type=Path, help="certificate (PEM) to register for the application")
    given = parser.parse_args()
    settings = Settings(
        tenant=given.tenant,
        client_id=given.client_id,
        client_secret=given.client_secret,
        certificates=(given.certificate.read_text("utf-8"),) if given.certificate else (),
    )
    with tempfile.TemporaryDirectory(prefix="tandem-entra-") as folder:
        authority = make_authority(Path(folder), given.ca_file)
        print(f"entra trusts {authority.ca_file}", flush=True)
        serve_command("entra", create_app(token_key=given.token_key, settings=settings), given.port, authority.tls)


if __name__ == "__main__":
    main()
