"""Access keys: which call may enter which function (azure.md 2.5)."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

FUNCTION_KEY_SETTING = "LOCAL_HOST_FUNCTION_KEY"
MASTER_KEY_SETTING = "LOCAL_HOST_MASTER_KEY"


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """The master key, which opens everything, and the one host key, which opens functions."""

    master: str
    function: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return the keys that settings give, or new random ones."""
        return cls(
            environment.get(MASTER_KEY_SETTING) or secrets.token_urlsafe(24),
            environment.get(FUNCTION_KEY_SETTING) or secrets.token_urlsafe(24),
        )

    def allow(self, auth_level: str, presented: str | None) -> bool:
        """Return whether a presented key opens a function of that level; keys are compared in constant time."""
        if auth_level == "anonymous":
            return True
        given = (presented or "").encode()
        if secrets.compare_digest(given, self.master.encode()):
            return True
        return auth_level == "function" and secrets.compare_digest(given, self.function.encode())
