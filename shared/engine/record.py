"""Record: what a batch leaves behind: failures, conflicts, waiting rows, wake-ups, reservations given back, and the batch row itself.

A retry sends the new message first, then raises the row's attempt; a message with a lower attempt is dropped (design 7).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from shared.core.binding import Binding, BindingState
from shared.core.errors import Stale, TandemError
from shared.core.records import Side
from shared.core.work import (
    MESSAGE_VERSION,
    Batch,
    BatchItem,
    BatchState,
    Message,
    Outcome,
    RunKind,
    Waiting,
)
from shared.engine.jobs import BatchWork, Job, counts_of, note_of, reserved_of, resolved
from shared.engine.open_ends import OpenEnds, pair_of
from shared.engine.pages import Pages
from shared.engine.poll import queue_of, reopened
from shared.engine.services import Services
from shared.engine.stop import pause_account
from shared.engine.wake import fetch, look_up, wake

_MOST_ATTEMPTS = 40
"""A record that was put off so often, for another reason than an outage, needs a person: three hours, by the growing delays."""
_MOST_DELAY = 300.0
_SOON = 5.0
_ASKED_LATELY = timedelta(minutes=1)


class Record:
    """The record step."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._open_ends, self._pages = OpenEnds(services), Pages(services)
        self._asked: dict[tuple[str, Side, str], datetime] = {}
        """When records that others wait for were asked for last."""

    async def finish(self, work: BatchWork) -> None:
        """Keep everything that came out of a batch, then close its row or send what is left of it again."""
        jobs = list(work.jobs.values())
        self._remark(work, jobs)
        for job in jobs:
            if job.later is not None and job.item.attempts >= _MOST_ATTEMPTS and job.reason and not _is_outage(job.reason):
                job.later = None
                job.fail(job.reason, Outcome.FAILED)
        # Clear first: what a person asked to reprocess is cleared as a whole, and what still fails is kept anew.
        if work.batch.kind is RunKind.REPLAY:
            again = {job.id: None for job in jobs if job.outcome is not None and not job.keeps_note}
            await self._services.ledger.clear_failures(work.mapping.flow, work.side, again)
            for job in jobs:
                job.kept.clear()
        await self._open_ends.keep(work, jobs)
        await self._notes(work, jobs)
        await self._mended(work, jobs)
        waiting = [row for job in jobs for row in job.waiting]
        if waiting:  # look once more, so that a binding made in between still wakes the record (law 9)
            found, unmet = await look_up(self._services, waiting)
            await wake(self._services, found, self._follow_up(work))
            await self._fetch(work, [row for row in unmet if row in work.fresh])
        await self._wake(work, [job for job in jobs if job.newly_bound and job.binding])
        await self._release(jobs)
        await self._close(work, jobs)

    def _remark(self, work: BatchWork, jobs: Sequence[Job]) -> None:
        """Tell of each record that was written with a value that stands in for another one."""
        for job in jobs:
            if job.outcome not in (Outcome.CREATED, Outcome.UPDATED, Outcome.RESTORED):
                job.remarks = {}
            for key, code in job.remarks.items():
                self._services.events("stood_in", flow=work.mapping.flow, side=work.side.value, record=job.id, field=key, code=code)

    async def postpone(self, batch: Batch, seconds: float, error: TandemError) -> None:
        """Send a whole batch again later; a throttled account is paused for every instance."""
        await pause_account(self._services, error)
        await self._again(batch, list(batch.items), seconds)
        self._services.events("batch_postponed", flow=batch.flow, batch=batch.id, code=error.code, seconds=seconds)

    async def close_dry(self, work: BatchWork, counts: Mapping[str, int]) -> None:
        """Close the row of a batch that was only counted, or turn its page."""
        batch = replace(work.batch, counts=dict(Counter(work.batch.counts) + Counter(counts)))
        if work.page is not None:
            await self._save(await self._pages.turn(batch, work.page, [], 0))
            return
        await self._save(replace(batch, items=[], state=BatchState.CLOSED, touched=self._services.clock()))

    async def park(self, batch: Batch) -> None:
        """Leave a batch of a flow that is stopped or asleep; `watch` sends it again when the flow runs."""
        await self._save(replace(batch, state=BatchState.PARKED, touched=self._services.clock()))
        self._services.events("batch_parked", flow=batch.flow, batch=batch.id)

    async def _notes(self, work: BatchWork, jobs: Sequence[Job]) -> None:
        """Keep in each binding what is open about its record, so that the failure or conflict is cleared when it is mended.

        A record that can't be created keeps a `refused` binding under its source id alone: it is left alone until it changes.
        """
        ended = (Outcome.REJECTED, Outcome.CONFLICT, Outcome.FAILED)
        open_ends = [job for job in jobs if job.outcome in ended and not job.keeps_note]
        changes = [(job, self._noted(work, job)) for job in open_ends]
        changes = [(job, binding) for job, binding in changes if binding != job.binding]
        results = await self._services.ledger.save_bindings([binding for _, binding in changes])
        overtaken: list[tuple[Job, Stale]] = []
        for (job, _), saved in zip(changes, results, strict=True):
            if isinstance(saved, Binding):
                job.binding = saved
            elif isinstance(saved, Stale):
                overtaken.append((job, saved))
            else:
                self._services.events("note_lost", flow=work.mapping.flow, record=job.id, code=saved.code)
        await self._look_again(work, overtaken)

    async def _look_again(self, work: BatchWork, overtaken: Sequence[tuple[Job, Stale]]) -> None:
        """Put records off whose binding another worker saved first: what was found out about them may not hold any more.

        What was kept of them is cleared with what else is mended, unless the other worker's binding tells the same.
        """
        if not overtaken:
            return
        found = await self._services.ledger.bindings(work.mapping.flow, work.side, [job.id for job, _ in overtaken])
        for job, error in overtaken:
            job.noted, job.binding = note_of(job, work.mapping), found.get(job.id)
            job.outcome = None
            job.put_off(_SOON, error)

    def _noted(self, work: BatchWork, job: Job) -> Binding:
        note, binding = note_of(job, work.mapping), job.binding
        if binding is not None and binding.state is not BindingState.REFUSED and not job.refused:
            return replace(binding, note=note)
        row = job.rows.get(work.side)
        ids = {work.side: job.id, work.side.other: None}
        stamps = {work.side: row.stamp if row and job.outcome is not Outcome.FAILED else None, work.side.other: None}
        return Binding(
            work.mapping.flow,
            BindingState.REFUSED,
            ids[Side.CREATIO],
            ids[Side.DYNAMICS],
            generation=binding.generation if binding else 1,
            creatio_stamp=stamps[Side.CREATIO],
            dynamics_stamp=stamps[Side.DYNAMICS],
            source=work.side,
            note=note,
            etag=binding.etag if binding else None,
        )

    async def _mended(self, work: BatchWork, jobs: Sequence[Job]) -> None:
        """Clear the failures and conflicts that were open before and are not any more.

        A failure stands under the side whose feed brought it; the record's other side may have mended it.
        """
        failures: dict[Side, dict[str, Collection[str] | None]] = {side: {} for side in Side}
        conflicts: list[tuple[str, str, str]] = []
        for job in jobs:
            keys = None if job.newly_bound and not job.errors else resolved(job, "f")
            for side in Side if keys is None or keys else ():
                record_id = job.id if side is work.side else (job.binding.id_on(side) if job.binding else None)
                if record_id:
                    failures[side][record_id] = keys
            pairs = {pair_of(work, job), job.pair or pair_of(work, job)}
            settled = resolved(job, "c") | _decided(job)
            conflicts += [(*pair, key) for pair in pairs for key in settled]
            if "" in settled:
                creatio_id, dynamics_id = pair_of(work, job)  # each may have been asked about by itself before they were bound
                conflicts += [(creatio_id, "", ""), ("", dynamics_id, "")]
        for side, records in failures.items():
            if records:
                await self._services.ledger.clear_failures(work.mapping.flow, side, records)
        if conflicts:
            await self._services.ledger.clear_conflicts(work.mapping.flow, conflicts)

    async def _fetch(self, work: BatchWork, rows: Sequence[Waiting]) -> None:
        """Ask for the records that are waited for, unless this process did so a moment ago: many documents wait for one account."""
        now = self._services.clock()
        self._asked = {target: at for target, at in self._asked.items() if now - at < _ASKED_LATELY}
        wanted = [row for row in rows if _target(row) not in self._asked]
        await fetch(self._services, wanted, self._follow_up(work))
        self._asked |= dict.fromkeys(map(_target, wanted), now)

    def _follow_up(self, work: BatchWork) -> str:
        """Return the run of the records that a batch wakes or asks for.

        They are no part of a run over all bindings: it would wait for them for ever where the flow rests until that run has ended.
        """
        return work.batch.run if work.batch.kind is RunKind.SCHEDULED else self._services.new_id()

    async def _wake(self, work: BatchWork, jobs: Sequence[Job]) -> None:
        """Enqueue the records that wait for one of the records just bound."""
        for side in Side:
            ids = {job.binding.id_on(side) or "" for job in jobs if job.binding}
            if ids:
                rows = await self._services.ledger.waiting_for(work.mapping.flow, side, ids)
                await wake(self._services, rows, self._follow_up(work))

    async def _release(self, jobs: Sequence[Job]) -> None:
        """Give reservations back when their record has its binding, or will not get one; an open create keeps them (law 7)."""
        done = [job for job in jobs if job.reserved and not (job.binding and job.binding.state is BindingState.CREATING)]
        if done:
            await self._services.ledger.release(reserved_of(done))

    async def _close(self, work: BatchWork, jobs: Sequence[Job]) -> None:
        counts = counts_of(jobs, dict(work.batch.counts))
        left = [job for job in jobs if job.outcome is None]
        items = [replace(job.item, attempts=job.item.attempts + 1) for job in left]
        batch = replace(work.batch, counts=counts)
        delay = max((job.later or 0.0 for job in left), default=0.0) * (1 + max((item.attempts for item in items), default=0) / 4)
        if work.page is not None:
            await self._save(await self._pages.turn(batch, work.page, items, delay))
        elif items:
            await self._again(batch, items, delay)
        else:
            await self._save(replace(batch, items=[], state=BatchState.CLOSED, touched=self._services.clock()))
        self._services.events("batch_done", flow=batch.flow, batch=batch.id, side=batch.side.value, left=len(items), **_numbers(counts))

    async def _save(self, batch: Batch) -> None:
        """Save a batch row; when another worker had the same message and was first, its row stands and its message counts."""
        try:
            await self._services.ledger.save_batch(batch)
        except Stale:
            self._services.events("batch_saved_by_another", flow=batch.flow, batch=batch.id)

    async def _again(self, batch: Batch, items: list[BatchItem], seconds: float) -> None:
        delay = min(seconds * (1 + self._services.random() / 4), _MOST_DELAY)
        again = reopened(batch, items, self._services.clock())
        message = Message(v=MESSAGE_VERSION, flow=batch.flow, batch=batch.id, attempt=again.attempt)
        await self._services.queues.send(queue_of(batch.kind), message, delay)
        await self._save(replace(again, state=BatchState.OPEN))


def _decided(job: Job) -> set[str]:
    """Return the keys that a person decided and that are no conflict: a worker may have died before it could say so."""
    done = job.outcome not in (None, Outcome.CONFLICT, Outcome.FAILED, Outcome.REJECTED)
    return set(job.item.decisions) - set(job.conflicts) if done else set()


def _target(row: Waiting) -> tuple[str, Side, str]:
    return row.target_flow, row.target_side, row.target_id


def _is_outage(reason: TandemError) -> bool:
    """Tell whether an error says that a whole system is away: that lasts as long as it lasts, and no record is to blame."""
    return reason.code.endswith((".throttled", ".unreachable", ".session_expired", ".not_json", ".busy"))


def _numbers(counts: dict[str, int]) -> dict[str, float]:
    return {f"count_{name}": float(number) for name, number in counts.items()}
