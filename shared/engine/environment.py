"""Environment: the systems must be the ones that the ledger was filled with; anything else stops the flow (law 12)."""

from shared.core.errors import Denied, Stale
from shared.core.mapping import Mapping
from shared.core.records import Side
from shared.core.work import Pin, PollState
from shared.engine.services import Services


def pin_name(system: str) -> str:
    """Return the name under which a system's environment is pinned."""
    return f"environment:{system}"


async def check_environments(services: Services, mapping: Mapping, state: PollState) -> None:
    """Compare both systems with their pins, and pin one that was met for the first time.

    Raises:
        Denied: `{system}.other_environment` with both names; the flow stops until a person accepts the new one.
    """
    for side in Side:
        system = services.system(mapping, side)
        met, pin = await system.environment(), state.pins.get(pin_name(system.name))
        if pin is None:
            try:
                await services.ledger.save_pin(Pin(pin_name(system.name), met, services.clock()))
            except Stale:
                continue  # another worker pinned it at this moment; the next batch compares
        elif pin.value != met:
            raise Denied(f"{system.name}.other_environment", f"got {met}, allowed {pin.value}", system=system.name)
