"""What 1,000 changed records cost: requests at both stand-ins, requests and entity operations at the ledger, messages.

The app runs in this process and is driven as the host drives it, so that its own meters can be read and nothing else is counted.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from bench.accounts import creatio_accounts, tables
from bench.peers.mapping import map_account
from sandbox.processes import Sandbox
from sandbox.seed import seed
from shared.core.work import read_message, read_poll_message
from shared.ledger.queues import QUEUE_NAMES
from shared.ledger.storage import Storage, open_storage
from shared.settings import Settings
from shared.systems.odata import to_json
from shared.wiring import App, build

RECORDS: Final = 1_000
FLOW: Final = "sales.account"
_NEW_IN_CREATIO, _NEW_IN_DYNAMICS = 50_000, 60_000
"""Numbers of accounts that no other phase has."""
_BY_SERVER: Final = ("Id", "CreatedOn", "ModifiedOn", "ModifiedById")
_BY_TANDEM: Final = ("tandem_creatioid", "ownerid@odata.bind")
NEVER: Final = "0 0 0 29 2 *"
_MOST_ROUNDS: Final = 60
_AT_ONCE: Final = 4
"""Messages worked on at a time, as `batchSize` in host.json says."""


@dataclass(frozen=True)
class Cost:
    """What one phase took; `records` were changed by people in it. Times include the stand-ins, which share this machine."""

    what: str
    records: int
    seconds: float
    creatio: int
    dataverse: int
    creatio_writes: int
    dataverse_writes: int
    ledger_requests: int
    ledger_operations: int
    queue_requests: int


@dataclass
class Driver:
    """Does what the host does: fires the timer, hands out messages, takes a message away when its function ended well."""

    sandbox: Sandbox
    app: App
    queues: Mapping[str, QueueClient]
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def cycle(self) -> None:
        """Poll every flow and work off what comes of it."""
        await asyncio.sleep(1.1)  # the flows' interval is a second
        await self.app.poll.run()
        for _ in range(_MOST_ROUNDS):
            handed = [await self._hand_out(name) for name in QUEUE_NAMES]
            if not any(handed) and not await self._waiting():
                return
        raise TimeoutError(f"the queues did not run empty in {_MOST_ROUNDS} rounds")

    async def meters(self) -> dict[str, int]:
        """Return every count, all growing."""
        counts = {name: await self.sandbox.control(name).requests() for name in ("creatio", "dataverse")}
        host, ledger = self.app.storages
        return {
            "creatio": int(counts["creatio"]["total"]),
            "dataverse": int(counts["dataverse"]["total"]),
            "creatio_writes": int(counts["creatio"]["writes"]),
            "dataverse_writes": int(counts["dataverse"]["writes"]),
            "ledger_requests": ledger.meter.requests,
            "ledger_operations": ledger.meter.operations,
            "queue_requests": host.meter.requests,
        }

    async def phase(self, what: str, records: int, cycles: int = 1) -> Cost:
        """Measure so many cycles."""
        before, begun = await self.meters(), time.monotonic()
        for _ in range(cycles):
            await self.cycle()
        seconds = time.monotonic() - begun - 1.1 * cycles
        after = await self.meters()
        return Cost(what, records, seconds, **{name: after[name] - before[name] for name in before})

    async def _hand_out(self, name: str) -> int:
        try:
            messages = [message async for message in self.queues[name].receive_messages(max_messages=32, visibility_timeout=300)]
        except ResourceNotFoundError:
            return 0
        await asyncio.gather(*(self._run(name, message) for message in messages))
        return len(messages)

    async def _run(self, name: str, message: Any) -> None:
        body = str(message.content).encode()
        async with self.at_once:
            if name == "polls":
                await self.app.tasks.run(read_poll_message(body))
            else:
                await self.app.sync.run(read_message(body))
        await self.queues[name].delete_message(message)

    async def _waiting(self) -> bool:
        """Tell whether messages are put off to a later time; give them that time."""
        depths = [await _depth(client) for client in self.queues.values()]
        if any(depths):
            await asyncio.sleep(1.0)
        return any(depths)


async def _depth(client: QueueClient) -> int:
    try:
        return int((await client.get_queue_properties()).approximate_message_count or 0)
    except ResourceNotFoundError:
        return 0


async def measure(records: int = RECORDS) -> list[Cost]:
    """Measure a first sync, edits on either side with their echoes, and quiet cycles, on a sandbox of its own."""

    async def fill(sandbox: Sandbox) -> None:
        await seed(sandbox.creatio, sandbox.dataverse, accounts=seeded(records), contacts=0)

    async with driven(fill) as driver:
        return await _phases(driver, records)


@asynccontextmanager
async def driven(fill: Callable[[Sandbox], Awaitable[None]], flows: str = FLOW) -> AsyncIterator[Driver]:
    """Run a sandbox, filled at its start, and the app with these flows in this process in its host's place."""
    # Nearly every account is edited at once, which the flow would else ask a person about (law 12).
    schedules = {"WATCH_SCHEDULE": NEVER, "DEFAULT_INTERVAL_MS": "1000", "FLOWS": flows, "MAX_CHANGE_SHARE": "1"}
    with tempfile.TemporaryDirectory(prefix="tandem-bench-", ignore_cleanup_errors=True) as folder:
        async with Sandbox.start(Path(folder), poll_schedule=NEVER, settings=schedules, before_host=fill) as sandbox:
            await sandbox.stop("host")
            app, storage = build(Settings.from_environ(sandbox.settings)), open_storage(sandbox.settings)
            try:
                yield Driver(sandbox, app, {name: _queue(storage, name) for name in QUEUE_NAMES})
            finally:
                await app.close()
                await storage.close()


def seeded(records: int) -> int:
    """Return how many accounts there are: some that nobody edits, so that the edits of the others are no mass change."""
    return records + records // 50


def _queue(storage: Storage, name: str) -> QueueClient:
    return storage.queues().get_queue_client(name, message_decode_policy=TextBase64DecodePolicy())


async def _phases(driver: Driver, records: int) -> list[Cost]:
    total = seeded(records)
    only = round(total * 0.5) + round(total * 0.23)
    costs = [await driver.phase(f"first sync: {only} creates, {total - only} pairs found", total)]
    await driver.phase("its echoes and late references", 0, 3)
    await _edit_creatio(driver.sandbox, records)
    costs.append(_complete(await driver.phase("edits of 3 fields in Creatio", records)))
    costs.append(await driver.phase("their echoes from Dynamics", records))
    await driver.phase("settling", 0)
    await _edit_dynamics(driver.sandbox, records)
    costs.append(_complete(await driver.phase("edits of 3 fields in Dynamics", records)))
    costs.append(await driver.phase("their echoes from Creatio", records))
    await driver.phase("settling", 0)
    costs.append(await driver.phase("a quiet cycle", 0))
    await _create_in_creatio(driver.sandbox, records)
    costs.append(_complete(await driver.phase("new accounts in Creatio", records)))
    costs.append(await driver.phase("their echoes from Dynamics", records))
    await driver.phase("settling", 0, 2)
    await _create_in_dynamics(driver.sandbox, records)
    costs.append(_complete(await driver.phase("new accounts in Dynamics", records)))
    costs.append(await driver.phase("their echoes from Creatio", records))
    return costs


def _complete(cost: Cost) -> Cost:
    """Refuse figures of a cycle that did not carry every edit over: the next one's would then count for something else."""
    written = cost.creatio_writes + cost.dataverse_writes
    if written < cost.records:
        raise RuntimeError(f"{cost.what}: got {written:,} records written in one cycle, allowed all {cost.records:,}; measure again")
    return cost


async def _edit_creatio(sandbox: Sandbox, records: int) -> None:
    control = sandbox.control("creatio")
    for number, row in enumerate((await control.rows("Account"))[:records]):
        values = {"Phone": f"+44 20 7946 {number:04}", "UsrEmployees": 10_000 + number, "Web": f"https://www.a{number}.example/"}
        await control.edit("Account", str(row["Id"]), values, "grace")


async def _edit_dynamics(sandbox: Sandbox, records: int) -> None:
    control = sandbox.control("dataverse")
    for number, row in enumerate((await control.rows("account"))[:records]):
        values = {
            "telephone1": f"+49 30 55 {number:04}",
            "numberofemployees": 20_000 + number,
            "websiteurl": f"https://www.b{number}.example/",
        }
        await control.edit("account", str(row["accountid"]), values)


async def _create_in_creatio(sandbox: Sandbox, records: int) -> None:
    control = sandbox.control("creatio")
    for row in creatio_accounts(records, _NEW_IN_CREATIO):
        await control.create(
            "Account", json.loads(to_json({name: value for name, value in row.items() if name not in _BY_SERVER})), "grace"
        )


async def _create_in_dynamics(sandbox: Sandbox, records: int) -> None:
    control = sandbox.control("dataverse")
    for row in creatio_accounts(records, _NEW_IN_DYNAMICS):
        body = map_account(json.loads(to_json(row)), tables())
        await control.create("account", {name: value for name, value in body.items() if name not in _BY_TANDEM})
