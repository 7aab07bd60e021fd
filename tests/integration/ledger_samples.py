"""Sample bindings and batches, a clock that tests turn, and a way to lose replies of the storage account."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import ServiceResponseError

from shared.core.binding import Binding, BindingState, FieldState
from shared.core.records import Side, Stamp
from shared.core.work import Batch, BatchItem, RunKind
from shared.ledger.storage import Storage

FLOW = "sales.account"
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass
class FakeClock:
    """A clock that stands still until it is turned."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


def binding(creatio_id: str | None, dynamics_id: str | None, **changes: Any) -> Binding:
    """Return a bound binding with 25 fields, other facts as given."""
    facts: dict[str, Any] = {
        "flow": FLOW,
        "state": BindingState.BOUND,
        "creatio_id": creatio_id,
        "dynamics_id": dynamics_id,
        "creatio_stamp": Stamp(NOON, ""),
        "dynamics_stamp": Stamp(NOON + SECOND, 'W/"4711"'),
        "fields": {f"column{number}": field_state(number) for number in range(25)},
    }
    return Binding(**{**facts, **changes})


def field_state(number: int) -> FieldState:
    """Return the state of a synced field."""
    return FieldState("0a1b2c3d", "k1", f"{number:032x}", f"{number:032x}", set_from=Side.CREATIO, set_at=NOON, set_by_run="run-1")


def batch(name: str, **changes: Any) -> Batch:
    """Return an open batch of two records."""
    items = (BatchItem("a", Stamp(NOON, "1")), BatchItem("b", deleted=True, attempts=2))
    facts: dict[str, Any] = {
        "id": name,
        "flow": FLOW,
        "side": Side.CREATIO,
        "run": "run-1",
        "kind": RunKind.SCHEDULED,
        "items": items,
        "created": NOON,
    }
    return Batch(**{**facts, **changes})


@contextmanager
def lost_replies(storage: Storage, method: str, meanwhile: Callable[[], Awaitable[object]] | None = None) -> Iterator[list[str]]:
    """Let the account do its work and lose the reply to the next request of a method; yields the addresses of lost requests.

    `meanwhile` is done by somebody else before the request is sent again.
    """
    transport: Any = storage.tables()._client._client._pipeline._transport
    send = transport.send
    lost: list[str] = []

    async def lossy(request: Any, **options: Any) -> Any:
        reply = await send(request, **options)
        if request.method == method and not lost:
            lost.append(request.url)
            if meanwhile is not None:
                await meanwhile()
            raise ServiceResponseError("the connection broke after the request was sent")
        return reply

    transport.send = lossy
    try:
        yield lost
    finally:
        transport.send = send
