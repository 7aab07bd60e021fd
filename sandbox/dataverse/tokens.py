"""Checks bearer tokens as Entra's stand-in signs them, and finds the application user behind them (dataverse.md 1)."""

import re
import time
from collections.abc import Mapping

from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization
from sandbox.tokens import TokenError, read_token


def _unauthorized(organization: Organization, origin: str, why: str) -> Fault:
    tenant = organization.switches.current.tenant
    challenge = f"Bearer authorization_uri=https://login.microsoftonline.com/{tenant}/oauth2/authorize, resource_id={origin}/"
    return Fault(401, "0x80072560", why, {"WWW-Authenticate": challenge})


def authenticate(organization: Organization, authorization: str | None, origin: str, key: str) -> str:
    """Return the id of the calling user; `origin` is the address the token must be made for.

    Raises 401 for a missing, foreign, expired or revoked token, 403 0x80072560 for an application without user.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _unauthorized(organization, origin, "")
    try:
        audiences = {origin, plain_host(origin)}
        claims = read_token(token.strip(), key, [*audiences, *(f"{one}/" for one in audiences)])
    except TokenError as error:
        raise _unauthorized(organization, origin, str(error)) from error
    if float(claims["iat"]) < organization.valid_tokens_from:
        raise _unauthorized(organization, origin, "The token was revoked.")
    user_id = organization.application_user(str(claims["appid"]))
    if user_id is None:
        raise Fault(403, "0x80072560", "The user is not a member of the organization.")
    return user_id


def plain_host(origin: str) -> str:
    """Return an address without the ``.api.`` that both hosts of an environment differ by (dataverse.md 1)."""
    return re.sub(r"^(https?://[^./]+)\.api\.(crm\d*\.)", r"\1.\2", origin)


def impersonated(organization: Organization, user_id: str, headers: Mapping[str, str]) -> str:
    """Return the user in whose name the caller acts: named by the Entra object id, or by the legacy header (dataverse.md 1)."""
    for header, column in (("callerobjectid", "azureactivedirectoryobjectid"), ("mscrmcallerid", "systemuserid")):
        wanted = headers.get(header)
        if wanted is not None:
            found = organization.database.query(f"SELECT systemuserid FROM systemuser WHERE {column} = ?", [wanted.lower()])
            if not found:
                raise Fault(403, "0x80072560", "The user is not a member of the organization.")
            return str(found[0][0])
    return user_id


def revoke_all(organization: Organization) -> None:
    """Refuse every token that was issued before this moment."""
    organization.valid_tokens_from = time.time()
