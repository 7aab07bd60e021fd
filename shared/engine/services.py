"""What every use case of the engine works with: the ports, joined by `wiring`, and a few numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from shared.core.errors import ConfigError
from shared.core.fingerprint import Keyring
from shared.core.mapping import Mapping as FlowMapping
from shared.core.mapping import MappingSet
from shared.core.records import Side
from shared.core.work import FlowSettings
from shared.engine.ports import Clock, Ledger, NewId, Queues, System


class Events(Protocol):
    """Where structured events go: a name and facts, never a business value."""

    def __call__(self, name: str, /, **facts: str | float | None) -> None:
        """Record one event."""


@dataclass(frozen=True)
class Limits:
    """The numbers, and the one name, that an operator may set."""

    poll_slice: timedelta = timedelta(seconds=45)
    default_interval_ms: int = 600_000
    create_deadline: timedelta = timedelta(minutes=10)
    """How long a worker may take for a create before another one takes it over (law 6)."""
    slots: Mapping[str, int] | None = None
    """Most messages that work on one system's account at the same time, over all instances; no entry means no limit."""
    retention: timedelta = timedelta(days=30)
    max_change_share: float = 0.3
    """A side of which more bound records change in one read asks before any of them is synced; never below 100 records (law 12)."""
    compare_interval: timedelta = timedelta(hours=6)
    """How often a side whose feed shows no deletes is compared with the ledger (law 11)."""
    waiting_limit: timedelta = timedelta(days=3)
    """A record that waits longer for another one needs a person (law 9)."""
    resend_after: timedelta = timedelta(minutes=15)
    """An open batch without progress for so long is sent again: longer than a message can be invisible (azure.md 2.3)."""
    default_owner: str = ""
    """E-mail of the user who owns what belongs to somebody unknown on the other side; "" for nobody."""


@dataclass(frozen=True)
class Services:
    """The engine's surroundings. `random` returns a number from 0 to 1 and spreads retries."""

    ledger: Ledger
    queues: Queues
    systems: Mapping[str, System]
    mappings: MappingSet
    keyring: Keyring
    clock: Clock
    new_id: NewId
    random: Callable[[], float]
    events: Events
    limits: Limits = Limits()

    def mapping(self, flow: str) -> FlowMapping:
        """Return a flow's mapping; raises ConfigError for a flow that no file describes."""
        try:
            return self.mappings.flows[flow]
        except KeyError:
            raise ConfigError([f"flow: got {flow!r}, allowed {', '.join(sorted(self.mappings.flows))}"]) from None

    def system(self, mapping: FlowMapping, side: Side) -> System:
        """Return the system of one side of a flow."""
        return self.systems[mapping.system(side)]

    def settings(self, flow: str, saved: Mapping[str, FlowSettings]) -> FlowSettings:
        """Return a flow's settings: the saved ones, or defaults."""
        return saved.get(flow) or FlowSettings(flow, interval_ms=self.limits.default_interval_ms)
