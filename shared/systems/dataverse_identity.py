"""Who Tandem is in which Dataverse environment (WhoAmI: dataverse.md 1)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from shared.core.errors import Transient
from shared.systems.dataverse_errors import SYSTEM

_LIFETIME = 600.0
"""Seconds: behind one address an environment can be replaced by another one (law 12)."""


@dataclass(frozen=True)
class Identity:
    """Who Tandem is in which organisation (law 12 pins it)."""

    user_id: str
    organization_id: str


class Whoami:
    """Asks the environment who we are, and asks again from time to time."""

    def __init__(self, get_json: Callable[[str], Awaitable[Any]], monotonic: Callable[[], float]) -> None:
        self._get_json = get_json
        self._monotonic = monotonic
        self._known: tuple[float, Identity] | None = None
        self._asking = asyncio.Lock()

    async def identity(self) -> Identity:
        """Return who we are; raises Denied when the app is no member or the environment is closed."""
        async with self._asking:  # batches that start together ask once
            if self._known is None or self._monotonic() - self._known[0] >= _LIFETIME:
                self._known = (self._monotonic(), await self._ask())
            return self._known[1]

    async def _ask(self) -> Identity:
        body = await self._get_json("WhoAmI")
        try:
            return Identity(str(body["UserId"]).lower(), str(body["OrganizationId"]).lower())
        except (KeyError, TypeError):
            raise Transient(f"{SYSTEM}.bad_answer", "WhoAmI without UserId and OrganizationId", system=SYSTEM) from None
