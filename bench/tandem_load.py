"""Tandem's own read-map-write, as one process of the comparison: the real adapters, the real core and, unless bare, the real engine.

    python -m bench.tandem_load WAY SOURCE URL     prints one JSON line

WAY is one of `WAYS`: a new way to load (a bulk run) is one more function there.
"""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.memory import MemoryLedger, MemoryQueues
from bench.static_creatio import INTEGRATION
from shared.core.errors import TandemError
from shared.core.fingerprint import Keyring
from shared.core.plan import Desk
from shared.core.plan_create import plan_create
from shared.core.records import Row, Side, Write, WriteKind
from shared.core.work import BATCH_SIZE, FlowSettings, Message, PollMessage
from shared.core.work import Load as Range
from shared.engine.bulk import Bulk
from shared.engine.create import target_id
from shared.engine.desk import open_desk
from shared.engine.poll import Poll
from shared.engine.ports import System
from shared.engine.services import Limits, Services
from shared.engine.sync import Sync
from shared.engine.tasks import Tasks
from shared.systems import creatio_connection, dataverse_connection
from shared.systems.web import Response
from shared.wiring import read_mappings

FLOW: Final = "sales.account"
ROOT: Final = Path(__file__).resolve().parents[1]
_BARE_AT_ONCE: Final = 8
_SLOTS: Final = 8
"""Twice the default: a bulk run, which takes half, then works on as many messages as the host hands out."""
_BULK_PAGE: Final = 1_000
"""Rows of a page, as for every other tool."""


class BearerLogin:
    """A token that nobody checks."""

    async def headers(self) -> Mapping[str, str]:
        """Return the header."""
        return {"Authorization": "Bearer bench"}

    async def renew(self) -> None:
        """Do nothing."""

    def ended(self, response: Response) -> bool:
        """Tell that it never ends."""
        return response.status < 0


@dataclass(frozen=True)
class Load:
    """One load: the joined app, and the side that has the accounts."""

    services: Services
    queues: MemoryQueues
    source: Side


def open_load(url: str, source: Side, *, forgets: bool = False) -> Load:
    """Join the app as `wiring` does, with ledger and queues in memory."""
    systems = _systems(url)
    slots = dict.fromkeys(systems, _SLOTS)
    queues = MemoryQueues()
    services = Services(
        ledger=MemoryLedger(forgets=forgets),
        queues=queues,
        systems=systems,
        mappings=read_mappings(ROOT / "mappings", (FLOW,)),
        keyring=Keyring.parse("bench:" + "A" * 43 + "="),
        clock=lambda: datetime.now(UTC),
        new_id=_new_id,
        random=lambda: 0.5,
        events=_unheard,
        limits=Limits(slots=slots, default_interval_ms=1_000),
    )
    return Load(services, queues, source)


def _systems(url: str) -> Mapping[str, System]:
    login = creatio_connection.OAuth(url, "bench", "bench")
    return {
        "creatio": creatio_connection.connect(url, login, integration_contact_id=INTEGRATION, sees_all=True),
        "dataverse": dataverse_connection.connect(f"{url}/api/data/v9.2", BearerLogin()),
    }


def _new_id() -> str:
    return f"{time.time_ns():016x}{secrets.token_hex(4)}"


def _unheard(_name: str, /, **_facts: str | float | None) -> None:
    """Take an event and do nothing with it."""


async def bare(load: Load) -> None:
    """Read, map and write new records, and keep nothing: what the other tools do."""
    services, source = load.services, load.source
    mapping = services.mapping(FLOW)
    desk, _ = await open_desk(services, mapping, FlowSettings(FLOW))
    system = services.system(mapping, source)
    found: asyncio.Queue[list[str] | None] = asyncio.Queue(2 * _BARE_AT_ONCE)

    async def find() -> None:
        async for page in system.changes(mapping.entity(source), mapping.columns(source), None, None):
            ids = [change.id for change in page.changes]
            for start in range(0, len(ids), BATCH_SIZE):
                await found.put(ids[start : start + BATCH_SIZE])
        for _ in range(_BARE_AT_ONCE):
            await found.put(None)

    async def carry() -> None:
        while (ids := await found.get()) is not None:
            await _carry(load, desk, ids)

    await asyncio.gather(find(), *(carry() for _ in range(_BARE_AT_ONCE)))


async def _carry(load: Load, desk: Desk, ids: list[str]) -> None:
    """Read, map and write so many records; raise the first error."""
    services, source, mapping = load.services, load.source, desk.mapping
    system, target = services.system(mapping, source), services.system(mapping, source.other)
    rows = await system.read(mapping.entity(source), ids, desk.columns(source))
    now, writes = services.clock(), []
    for row in rows.values():
        if not isinstance(row, Row):
            raise row
        new_id = target_id(FLOW, row.id, 1)
        writes.append(Write(WriteKind.CREATE, new_id, plan_create(desk, source, row, new_id, "bench", now).columns))
    for result in await target.write(mapping.entity(source.other), writes):
        if result.error is not None:
            raise result.error


async def engine(load: Load) -> None:
    """Poll and sync as the host drives them, with intents, bindings and fingerprints: what Tandem does for a new record."""
    poll = Poll(load.services)
    await _hand_out(load, poll, poll.run())


async def bulk(load: Load) -> None:
    """Run the product's bulk load over the side that has the accounts: key ranges, pages, bulk messages, a binding for each record."""
    await _hand_out(load, Poll(load.services), Bulk(load.services).start([FLOW], load.source, Range(size=_BULK_PAGE), dry=False))


async def _hand_out(load: Load, poll: Poll, begin: Coroutine[Any, Any, object]) -> None:
    """Begin, then deliver messages as the host does until none is left; raise the first failure that a record ended in."""
    sync, tasks = Sync(load.services), Tasks(load.services, poll)

    async def deliver(message: Message | PollMessage) -> None:
        await (sync.run(message) if isinstance(message, Message) else tasks.run(message))

    at_once = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]["batchSize"]
    await load.queues.hand_out(deliver, at_once, asyncio.create_task(begin))
    failures = await load.services.ledger.failures(FLOW)
    if failures:
        raise TandemError(failures[0].code, f"{len(failures)} failures")


FORGETS: Final = "bulk-weighed"
"""The bulk load over a ledger that forgets: what the process alone needs when its ledger is elsewhere."""
WAYS: Final[dict[str, Callable[[Load], Awaitable[None]]]] = {"bare": bare, "engine": engine, "bulk": bulk, FORGETS: bulk}


async def run(way: str, source: str, url: str) -> dict[str, Any]:
    """Load everything once; seconds are those of the work, without imports."""
    begun = time.monotonic()
    load = open_load(url, Side(source), forgets=way == FORGETS)
    try:
        await WAYS[way](load)
    finally:
        for system in load.services.systems.values():
            await system.close()
    return {"seconds": time.monotonic() - begun, "delayed": load.queues.delayed}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(*sys.argv[1:4]))))
