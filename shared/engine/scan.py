"""Scan: what is asked of all bindings of a flow together. One ledger request a thousand bindings, so only asked when it matters."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta

from shared.core.binding import BindingState, Bound
from shared.engine.services import Limits, Services

_FEW = 100
_COUNT_LASTS = timedelta(hours=1)


def most_changes(bound: int, limits: Limits) -> int:
    """Return how many records of a side may change in one read before the flow asks (law 12)."""
    return max(_FEW, int(bound * limits.max_change_share))


async def has_bound(services: Services, flow: str) -> bool:
    """Tell whether any record of a flow is bound."""
    async with aclosing(scan(services, flow, page=_FEW)) as bindings:
        async for one in bindings:
            if one.state is BindingState.BOUND:
                return True
    return False


async def scan(services: Services, flow: str, page: int = 1000) -> AsyncGenerator[Bound, None]:
    """Yield all bindings of a flow, whatever their state, so many rows a request."""
    after: str | None = None
    while True:
        met = await services.ledger.scan_bindings(flow, after, page)
        for bound in met.bound:
            yield bound
        if met.following is None:
            return
        after = met.following


async def count_bound(services: Services, flow: str) -> int:
    """Return how many records of a flow are bound."""
    return len([None async for one in scan(services, flow) if one.state is BindingState.BOUND])


class Counted:
    """How many records of flows are bound, as far as a process has counted lately: at least so many."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._known: dict[str, tuple[int, datetime]] = {}

    async def too_few_for(self, flow: str, changes: int) -> int | None:
        """Return how many bound records a flow has when these changes may be a mass change; None when they are none, or nothing is bound.

        It counts no further than it must. What was counted within the hour may only tell that there are enough: they can't have become
        much fewer, for deletes in numbers wait for a person (law 10).
        """
        limits, now = self._services.limits, self._services.clock()
        bound, at = self._known.get(flow, (0, now))
        if changes <= most_changes(bound if now - at < _COUNT_LASTS else 0, limits):
            return None
        bound = 0
        async with aclosing(scan(self._services, flow)) as bindings:
            async for one in bindings:
                bound += one.state is BindingState.BOUND
                if changes <= most_changes(bound, limits):
                    break
        self._known[flow] = (bound, now)
        return bound if bound and changes > most_changes(bound, limits) else None
