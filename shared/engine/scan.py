"""Scan: what is asked of all bindings of a flow together. One ledger request a thousand bindings, so only asked when it matters."""

from collections.abc import AsyncIterator

from shared.core.binding import BindingState, Bound
from shared.engine.services import Limits, Services

_FEW = 100


def most_changes(bound: int, limits: Limits) -> int:
    """Return how many records of a side may change in one read before the flow asks (law 12)."""
    return max(_FEW, int(bound * limits.max_change_share))


async def scan(services: Services, flow: str) -> AsyncIterator[Bound]:
    """Yield all bindings of a flow, whatever their state."""
    after: str | None = None
    while True:
        page = await services.ledger.scan_bindings(flow, after)
        for bound in page.bound:
            yield bound
        if page.following is None:
            return
        after = page.following


async def count_bound(services: Services, flow: str) -> int:
    """Return how many records of a flow are bound."""
    return len([None async for one in scan(services, flow) if one.state is BindingState.BOUND])
