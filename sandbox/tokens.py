"""Access tokens of the sandbox: Entra's stand-in signs them, the stand-ins of the systems check them by a shared key."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

_ALGORITHM = "HS256"

TokenError = jwt.PyJWTError
"""Raised by `read_token`; its text says what is wrong with the token."""


def _key(shared: str) -> bytes:
    """Make a key of the right length for the algorithm from a key of any length."""
    return hashlib.sha256(shared.encode()).digest()


def sign_token(claims: Mapping[str, Any], shared_key: str) -> str:
    """Sign claims as an access token."""
    return jwt.encode(dict(claims), _key(shared_key), algorithm=_ALGORITHM)


def read_token(token: str, shared_key: str, audiences: Sequence[str]) -> dict[str, Any]:
    """Return a token's claims; raise `TokenError` when it is foreign, expired or made for another audience."""
    claims: dict[str, Any] = jwt.decode(
        token,
        _key(shared_key),
        algorithms=[_ALGORITHM],
        audience=list(audiences),
        options={"require": ["exp", "iat", "aud", "appid"]},
    )
    return claims
