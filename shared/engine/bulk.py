"""Bulk: a run over all rows of one side, as after a first installation or an outage (F8): create, bind or update whatever differs.

Its messages name key ranges instead of ids, so that a worker reads whole pages. The run goes on from the last range or page after any
stop: what was synced already is met again as an echo and costs one ledger read a record.
"""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from shared.core.errors import ConfigError, Denied, Rejected, Stale, Transient
from shared.core.mapping import Mapping
from shared.core.records import KeyRange, Side
from shared.core.schedule import rests
from shared.core.work import Batch, Load, PollMessage, RunKind
from shared.engine.environment import check_environments
from shared.engine.poll import send_batches
from shared.engine.services import Services
from shared.engine.stop import pause_account, stop_flow
from shared.engine.walk import Walk

LARGEST_PAGE = 2000
"""More rows in one message would outlast its lease on the queue when each of them has to be created."""
_SOON = 30.0


class Bulk:
    """The bulk step: it cuts a side into key ranges; the sync step does the rest."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._walk = Walk(services)

    async def start(self, flows: Sequence[str], side: Side, load: Load, *, dry: bool) -> str:
        """Start a bulk run from a side over the first flow, and let the others follow it; return the first run's id.

        Raises ConfigError for a flow that there is not, an impossible range or page size, a flow that asks, or while another run is on.
        """
        problems = [] if flows else [f"flow: got none, allowed one or several of {', '.join(sorted(self._services.mappings.flows))}"]
        if not 1 <= load.size <= LARGEST_PAGE:
            problems.append(f"size: got {load.size}, allowed 1 to {LARGEST_PAGE}")
        if load.since is not None and load.until is not None and load.since >= load.until:
            problems.append(f"until: got {load.until.isoformat()}, allowed a moment after since, {load.since.isoformat()}")
        if problems:
            raise ConfigError(problems)
        for flow in flows:
            self._services.mapping(flow)
        first, *others = flows
        return await self._walk.start(first, RunKind.BULK, side, dry=dry, load=replace(load, then=tuple(others)))

    async def run(self, message: PollMessage) -> None:
        """Put the ranges of a bulk run on the queue, for a slice; then go on through the queue, or mark the run as walked."""
        services = self._services
        state = await services.ledger.poll_state()
        settings = services.settings(message.flow, state.flows)
        walking = settings.walking
        if walking is None or walking.run != message.run or walking.load is None or rests(settings, RunKind.BULK, services.clock()):
            return  # the run has ended, or the flow sleeps: `watch` asks again when it runs
        mapping = services.mapping(message.flow)
        at = datetime.fromisoformat(message.position) if message.position else None
        try:
            await check_environments(services, mapping, state)
            at, done = await self._cut(message, mapping, walking.load, at)
        except (Denied, Rejected) as error:
            await stop_flow(services, settings, error)
            return
        except (Transient, Stale) as error:  # a passing fault: once more from where this slice began
            await pause_account(services, error)
            await services.queues.send("polls", message, getattr(error, "retry_after", None) or _SOON)
            return
        if done:
            await self._walk.walked(message)
        else:
            await services.queues.send("polls", message.model_copy(update={"position": at.isoformat() if at else ""}))

    async def _cut(self, message: PollMessage, mapping: Mapping, load: Load, at: datetime | None) -> tuple[datetime | None, bool]:
        """Send ranges from a moment on until the slice or the side ends; return how far it came, and whether that is the end.

        Where an earlier delivery of the message cut a range otherwise, this one goes on behind what is there, so that no row is left out.
        """
        deadline = self._services.clock() + self._services.limits.poll_slice
        system, entity = self._services.system(mapping, message.side), mapping.entity(message.side)
        while True:
            async with aclosing(system.ranges(entity, load.by, load.since, load.until, load.size, at)) as parts:
                async for part in parts:
                    there = await self._send(message, part, load.size)
                    at = there.last
                    if self._services.clock() >= deadline:
                        return at, False
                    if there != part:
                        break
                else:
                    return at, True

    async def _send(self, message: PollMessage, part: KeyRange, size: int) -> KeyRange:
        """Send a range; return the one that stands in the ledger under its name, which an earlier delivery may have made."""
        services, now = self._services, self._services.clock()
        name = f"{message.run}-{part.first.isoformat()}"
        kind, side = message.kind, message.side
        batch = Batch(name, message.flow, side, message.run, kind, [], now, touched=now, dry=message.dry, part=part, size=size)
        try:
            await send_batches(services, [batch])
        except Stale:
            there = await services.ledger.get_batch(message.flow, name)
            return there.part if there is not None and there.part is not None else part
        return part
