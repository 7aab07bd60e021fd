"""Compare: one complete read of a side against the ledger (law 11).

It finds what the feed of changes can't tell or has missed: rows whose stamp is not the one seen last (long transactions, rows that went
back to an earlier state), rows without a binding, documents whose lines are not those that their binding knows, and bound records that
are not shown any more. Only records that two complete reads in a row did not show, with the right to see all, and of which the system
says one by one that they do not exist, are deleted (law 10).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from shared.core.binding import BindingState
from shared.core.census import Digests, LineMarks, sighting
from shared.core.document import line_name, lines_of
from shared.core.errors import Denied, Stale, TandemError
from shared.core.mapping import Mapping
from shared.core.records import Change, Side
from shared.core.schedule import rests
from shared.core.work import MESSAGE_VERSION, Batch, BatchState, Census, PollMessage, RunKind, Task
from shared.engine.environment import check_environments
from shared.engine.poll import chunks_of, send_batches
from shared.engine.scan import scan
from shared.engine.services import Services
from shared.engine.stop import pause_account, stop_flow

_TRIES = 4
_MOST_ABSENT = 500
"""So many absent records are kept for the next compare to confirm; the others have their turn later."""


@dataclass
class _Known:
    """What the ledger knows of one side before it is read."""

    ids: Digests = field(default_factory=Digests)
    """Every record that has a binding, in whatever state."""
    as_seen: Digests = field(default_factory=Digests)
    """The same with the stamp that was seen last; a record that is gone has none."""


class Compare:
    """The compare step."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def run(self, message: PollMessage) -> None:
        """Compare one side of a flow with the ledger; what it finds goes through the gate to `sync`."""
        services = self._services
        state = await services.ledger.poll_state()
        settings = services.settings(message.flow, state.flows)
        if rests(settings, RunKind.RECONCILE, services.clock()):
            return  # asked for again when the flow runs
        mapping, side = services.mapping(message.flow), message.side
        try:
            await check_environments(services, mapping, state)
            known = await self._known(mapping, side)
            shown, found = await self._walk(mapping, side, message.run, known)
            marks = await self._marks(mapping, side)
            absent, torn = await self._apart(mapping, side, known, shown, marks)
            before = state.censuses.get((mapping.flow, side))
            gone = await self._confirmed(mapping, side, absent, before)
            left = self._to_look_for(absent, gone, before)
        except Denied as error:
            await stop_flow(services, settings, error)
            return
        except TandemError as error:  # it is asked for again with the next poll, and starts from the beginning
            services.events("compare_failed", flow=mapping.flow, side=side.value, code=error.code, request_id=error.request_id)
            await pause_account(services, error)
            await self._keep(mapping, side, None)
            return
        await send_batches(services, self._batches(mapping, side, message.run, [Change(i, None, deleted=True) for i in gone], held=False))
        await send_batches(services, self._batches(mapping, side, message.run, [Change(i, None) for i in torn], held=True))
        if found or torn:
            gate = PollMessage(v=MESSAGE_VERSION, flow=mapping.flow, side=side, run=message.run, task=Task.GATE)
            await services.queues.send("polls", gate)
        await self._keep(mapping, side, left)
        facts = {"shown": len(shown), "found": found, "absent": len(absent), "deleted": len(gone), "lines_apart": len(torn)}
        services.events("side_compared", flow=mapping.flow, side=side.value, **{name: float(number) for name, number in facts.items()})

    async def _known(self, mapping: Mapping, side: Side) -> _Known:
        known = _Known()
        async for one in scan(self._services, mapping.flow):
            record_id = one.id_on(side)
            if record_id is None:
                continue
            known.ids.add(record_id)
            known.as_seen.add(sighting(record_id, one.stamp_on(side)))
        known.ids.close()
        known.as_seen.close()
        return known

    async def _walk(self, mapping: Mapping, side: Side, run: str, known: _Known) -> tuple[Digests, int]:
        """Read the whole side, page by page; enqueue, held, what is not as the ledger knows it. Return what was shown, and how many."""
        system, shown, found = self._services.system(mapping, side), Digests(), 0
        complete = False
        async for page in system.changes(mapping.entity(side), (), None, None):
            complete = page.complete
            live = [change for change in page.changes if not change.deleted]
            for change in live:
                shown.add(change.id)
            odd = [change for change in live if sighting(change.id, change.stamp) not in known.as_seen]
            # Without its stamp a record is looked at whatever its age; one that is only older is told from a stale read by `read`.
            await send_batches(self._services, self._batches(mapping, side, run, [replace(c, stamp=None) for c in odd], held=True))
            found += len(odd)
        if not complete:
            raise Stale("sync.stale_read", "the read ended before its last page", entity=mapping.entity(side))
        shown.close()
        return shown, found

    async def _marks(self, mapping: Mapping, side: Side) -> LineMarks | None:
        """Read which lines the documents of a side have; None for a flow without lines.

        Of a line that was deleted no feed tells where its document stays as it is, as an invoice of Creatio does.
        """
        lines = lines_of(mapping, side)
        if lines is None:
            return None
        marks = LineMarks()
        async for page in self._services.system(mapping, side).all_lines(lines):
            for document, line in page:
                marks.add(document, line_name(mapping, side, line))
        return marks

    async def _apart(
        self, mapping: Mapping, side: Side, known: _Known, shown: Digests, marks: LineMarks | None
    ) -> tuple[list[str], list[str]]:
        """Return records with a binding that the read did not show, and documents that have other lines than their binding knows.

        Those bound only since the read began are not among the first; one that was synced meanwhile may be among the others, and is
        found unchanged.
        """
        absent: list[str] = []
        torn: list[str] = []
        async for one in scan(self._services, mapping.flow):
            record_id = one.id_on(side)
            looked_for = one.state in (BindingState.BOUND, BindingState.ENDED) and side not in one.gone
            if not record_id or not looked_for or record_id not in known.ids:
                continue
            if record_id not in shown:
                absent.append(record_id)
            elif marks is not None and one.state is BindingState.BOUND and marks.of(record_id) != one.lines:
                torn.append(record_id)
        return absent, torn

    def _to_look_for(self, absent: Sequence[str], gone: Sequence[str], before: Census | None) -> list[str]:
        """Return the absent records that the next compare looks for: first those not looked for yet, so that none is left out for ever."""
        looked_for, done = set(before.absent if before else ()), set(gone)
        left = [record_id for record_id in absent if record_id not in done]
        left.sort(key=lambda record_id: record_id in looked_for)
        return left[:_MOST_ABSENT]

    async def _confirmed(self, mapping: Mapping, side: Side, absent: Sequence[str], before: Census | None) -> list[str]:
        """Return the absent records that are deleted for sure (law 10)."""
        system = self._services.system(mapping, side)
        twice = set(absent) & set(before.absent if before else ())
        if not twice or not system.sees_all:
            return []
        answers = await system.exist(mapping.entity(side), twice)
        hidden = [record_id for record_id, there in answers.items() if there]
        if hidden:
            self._services.events("records_hidden", flow=mapping.flow, side=side.value, records=float(len(hidden)))
        return sorted(record_id for record_id in twice if answers.get(record_id) is False)

    def _batches(self, mapping: Mapping, side: Side, run: str, changes: Sequence[Change], *, held: bool) -> list[Batch]:
        now, state = self._services.clock(), BatchState.HELD if held else BatchState.OPEN
        return [
            Batch(self._services.new_id(), mapping.flow, side, run, RunKind.RECONCILE, items, now, state=state, touched=now)
            for items in chunks_of(changes)
        ]

    async def _keep(self, mapping: Mapping, side: Side, absent: Sequence[str] | None) -> None:
        """Keep what this read did not show, for the next one to confirm; None: nothing was found out, and the next poll asks again."""
        ledger, now = self._services.ledger, self._services.clock()
        for _ in range(_TRIES):
            census = (await ledger.poll_state()).censuses.get((mapping.flow, side)) or Census(mapping.flow, side, now)
            fresh = replace(census, asked=None) if absent is None else Census(mapping.flow, side, now, tuple(absent), etag=census.etag)
            try:
                await ledger.save_census(fresh)
            except Stale:
                continue
            return
        self._services.events("census_lost", flow=mapping.flow, side=side.value)
