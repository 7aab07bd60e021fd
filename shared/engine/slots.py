"""Slots: leases of an account's concurrency, so that many instances of the app behave as one client of each system (design 6)."""

from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from shared.core.mapping import Mapping
from shared.core.records import Side
from shared.engine.services import Services

_LEASE = timedelta(minutes=2)
"""A dead worker's slots are free again after so long; a living one renews them."""


class Slots:
    """The slots of one message: `async with` gives them back."""

    def __init__(self, services: Services, mapping: Mapping, holder: str, *, yields: bool = False) -> None:
        """Take the surroundings; a message that `yields` to scheduled ones leaves half of an account's slots to them."""
        self._services = services
        self._systems = sorted({mapping.system(side) for side in Side})
        self._holder, self._yields = holder, yields
        self._renewed: datetime | None = None
        self._stack = AsyncExitStack()

    async def take(self) -> bool:
        """Lease a slot of each account; False when one account has none left."""
        ledger, until = self._services.ledger, self._services.clock() + _LEASE
        for system in self._systems:
            number = self._number(system)
            if number is None:
                continue
            slot = await ledger.take_slot(system, self._holder, number, until)
            if slot is None:
                return False
            self._stack.push_async_callback(ledger.free_slot, system, slot, self._holder)
        self._renewed = self._services.clock()
        return True

    def _number(self, system: str) -> int | None:
        """Return how many of an account's slots this message may choose from; None means no limit."""
        number = (self._services.limits.slots or {}).get(system)
        return max(1, number // 2) if number is not None and self._yields else number

    async def renew(self) -> None:
        """Renew the leases once half of their time is over; one that was lost meanwhile is not taken back: the work is nearly done."""
        now = self._services.clock()
        if self._renewed is None or now - self._renewed < _LEASE / 2:
            return
        self._renewed = now
        for system in self._systems:
            number = self._number(system)
            if number is not None:
                await self._services.ledger.take_slot(system, self._holder, number, now + _LEASE)

    async def __aenter__(self) -> Self:
        """Return the slots, none taken yet."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give back what was taken."""
        await self._stack.aclose()
