"""Entra credentials for Dataverse: a client secret, a certificate, or the managed identity of the app (dataverse.md 1).

Tokens are renewed five minutes before they end, by one task for all. After a 401 a new credential object is made, because the old one
keeps its own copy of the token that the server has just refused.
"""

import asyncio
import base64
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from shared.core.errors import ConfigError, Denied, TandemError, Transient
from shared.systems.web import Response

_SKEW = 300.0
_UNAUTHORISED = 401
_PASSING = frozenset({408, 429})
_SERVER_ERROR = 500
_KINDS = ("secret", "certificate", "managed_identity")
_PUBLIC_AUTHORITY = "https://login.microsoftonline.com"


class Token(Protocol):
    """An access token as azure-identity hands it out."""

    @property
    def token(self) -> str:
        """Return the bearer token."""

    @property
    def expires_on(self) -> int:
        """Return its end in seconds since 1970."""


class Credential(Protocol):
    """The part of azure-identity's async credentials that is used here."""

    async def get_token(self, *scopes: str) -> Token:
        """Return a token for a scope."""

    async def close(self) -> None:
        """Close the connection to the authority."""


@dataclass(frozen=True)
class EntraSettings:
    """What `DATAVERSE_AUTH` and its companions say. `kind` is `secret`, `certificate` or `managed_identity`.

    `authority` (`ENTRA_AUTHORITY`) is https; `ca_file` (`ENTRA_CA_FILE`) is a PEM file that is trusted in its place. A certificate
    comes with its private key, as PEM text or as the Base64 of PEM or PFX. `client_id` may be "" for the system-assigned identity.
    """

    kind: str
    tenant_id: str = ""
    client_id: str = ""
    secret: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    authority: str = _PUBLIC_AUTHORITY
    ca_file: str = ""
    certificate_password: str = field(default="", repr=False)

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, all at once."""
        found = []
        if self.kind not in _KINDS:
            found.append(f"DATAVERSE_AUTH: got {self.kind!r}, allowed {', '.join(_KINDS)}")
        if self.kind in ("secret", "certificate"):
            needed = {"ENTRA_TENANT_ID": self.tenant_id, "ENTRA_CLIENT_ID": self.client_id}
            needed |= {"ENTRA_CLIENT_SECRET": self.secret} if self.kind == "secret" else {"ENTRA_CERTIFICATE": self.certificate}
            found += [f"{name}: got nothing, needed for DATAVERSE_AUTH={self.kind}" for name, value in needed.items() if not value]
        if urlsplit(self.authority).scheme != "https":
            found.append(f"ENTRA_AUTHORITY: got {self.authority[:80]!r}, allowed an https:// address")
        return found


def make_credential(settings: EntraSettings) -> Credential:
    """Make the azure-identity credential that the settings ask for; raises ConfigError with every problem.

    An authority of the customer's own is not looked up at Microsoft (instance discovery), which would refuse it.
    """
    if problems := settings.problems():
        raise ConfigError(problems)
    from azure.identity import aio  # noqa: PLC0415 - half a second of start-up time that many invocations never need

    options: dict[str, Any] = {"connection_verify": settings.ca_file} if settings.ca_file else {}
    if settings.kind == "managed_identity":
        return aio.ManagedIdentityCredential(client_id=settings.client_id or None, **options)
    options |= {"authority": settings.authority, "disable_instance_discovery": not _is_public(settings.authority)}
    if settings.kind == "secret":
        return aio.ClientSecretCredential(settings.tenant_id, settings.client_id, settings.secret, **options)
    if settings.certificate_password:
        options["password"] = settings.certificate_password
    try:
        content = _certificate_bytes(settings.certificate)
        return aio.CertificateCredential(settings.tenant_id, settings.client_id, certificate_data=content, **options)
    except (ValueError, TypeError):  # TypeError: a password is missing, or given for a key that has none
        allowed = "a certificate with its private key, PEM or PFX, in Base64, with the password in ENTRA_CERTIFICATE_PASSWORD if it has one"
        raise ConfigError([f"ENTRA_CERTIFICATE: got something that can't be read, allowed {allowed}"]) from None


def _certificate_bytes(text: str) -> bytes:
    return text.encode() if text.lstrip().startswith("-----BEGIN") else base64.b64decode(text, validate=True)


def _is_public(authority: str) -> bool:
    host = urlsplit(authority).hostname or ""
    return host.startswith("login.") and host.endswith((".com", ".us", ".cn")) and not _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class EntraLogin:
    """A `Login` for `Web`: the bearer token of one scope."""

    def __init__(
        self,
        make: Callable[[], Credential],
        scope: str,
        *,
        system: str = "dataverse",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take a maker of credentials and a scope such as `https://<env>.crmN.dynamics.com/.default`; `clock` in seconds since 1970."""
        self._make = make
        self._scope = scope
        self._system = system
        self._clock = clock
        self._credential: Credential | None = None
        self._token: Token | None = None
        self._asking = asyncio.Lock()

    async def headers(self) -> Mapping[str, str]:
        """Return the `Authorization` header; raises Denied when Entra refuses, Transient when it can't be reached."""
        token = self._token
        if not self._lasts(token):
            async with self._asking:
                token = self._token
                if not self._lasts(token):
                    token = self._token = await self._ask()
        assert token is not None  # noqa: S101 - the two lines above
        return {"Authorization": f"Bearer {token.token}"}

    async def renew(self) -> None:
        """Give token and credential up and get a new token."""
        async with self._asking:
            self._token = None
            await self._drop()
            self._token = await self._ask()

    def ended(self, response: Response) -> bool:
        """Tell whether the server refused the token."""
        return response.status == _UNAUTHORISED

    async def close(self) -> None:
        """Close the connection to Entra."""
        await self._drop()

    def _lasts(self, token: Token | None) -> bool:
        return token is not None and token.expires_on - self._clock() > _SKEW

    async def _drop(self) -> None:
        if self._credential is not None:
            await self._credential.close()
            self._credential = None

    async def _ask(self) -> Token:
        if self._credential is None:
            self._credential = self._make()
        return await _translated(self._credential.get_token(self._scope), self._system)


async def _translated(asking: Awaitable[Token], system: str) -> Token:
    """Wait for a token; no exception of the library gets out, and of its texts only the error number (`AADSTS7000222`)."""
    from azure import identity  # noqa: PLC0415 - as above
    from azure.core import exceptions as azure  # noqa: PLC0415

    try:
        return await asking
    except (azure.ServiceRequestError, azure.ServiceResponseError, TimeoutError, OSError) as problem:
        raise Transient(f"{system}.unreachable", f"Entra: {type(problem).__name__}", system=system) from problem
    except identity.CredentialUnavailableError as problem:  # the machine's identity endpoint hiccups while an app starts
        raise Transient(f"{system}.unavailable", f"Entra: {type(problem).__name__}", system=system) from problem
    except azure.ClientAuthenticationError as problem:
        raise _refusal(problem, system) from problem
    except azure.AzureError as problem:
        raise Transient(f"{system}.unavailable", f"Entra: {type(problem).__name__}", system=system) from problem


def _refusal(problem: Any, system: str) -> TandemError:
    status = getattr(problem.response, "status_code", 0) or 0
    numbers = ", ".join(dict.fromkeys(re.findall(r"AADSTS\d+", str(problem.message)))) or type(problem).__name__
    if status >= _SERVER_ERROR or status in _PASSING or "temporarily_unavailable" in str(problem.message):
        return Transient(f"{system}.unavailable", f"Entra: {numbers}", system=system)
    return Denied(f"{system}.login_failed", f"Entra: {numbers}", system=system)
