"""Read: bindings and the records of both sides, fresh and in bulk, and which records can be worked on at all."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from shared.core.binding import Binding, BindingState, Seen
from shared.core.deletes import reopened
from shared.core.document import lines_of, with_lines
from shared.core.errors import Denied, NotReady, Rejected, Stale, TandemError, Transient
from shared.core.plan import Desk
from shared.core.records import Row, Side
from shared.core.work import Outcome, RunKind
from shared.engine.desk import check_complete, no_column_gone
from shared.engine.jobs import DELETE, REOPEN, BatchWork, Job, holder
from shared.engine.services import Services

_SOON = 5.0
_LOOKS_AGAIN = 2
_LIVE = (BindingState.BOUND, BindingState.CREATING)


class Read:
    """The read step. It writes nothing: what the absence of a row asks for is left to the delete step."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def load(self, work: BatchWork, desk: Desk, jobs: list[Job], *, any_age: bool = False) -> None:
        """Read bindings and the records of both sides, in bulk; end the records that can't be worked on.

        With `any_age` a row older than the one seen last counts as well: a person said so, or it is only counted.
        """
        side, other = work.side, work.side.other
        ids = [job.id for job in jobs]
        bindings, own = await asyncio.gather(self._bindings(work, jobs), self._own(work, desk, ids))
        for job in jobs:
            if job.open and work.page is not None and _is_echo(bindings.get(job.id), own.get(job.id), side):
                job.keeps_note = True
                job.end(Outcome.UNCHANGED)
        jobs = [job for job in jobs if job.open]
        reopening = {job.id for job in jobs if job.decided == REOPEN}
        wanted_by = {job.id for job in jobs}
        live = {record_id: binding for record_id, binding in bindings.items() if record_id in wanted_by}
        twins = [binding.id_on(other) for record_id, binding in live.items() if binding.state in _LIVE or record_id in reopening]
        wanted = [twin for twin in twins if twin]
        far = await self._rows(work, desk, other, wanted) if wanted else {}
        any_age = any_age or work.batch.kind in (RunKind.REPLAY, RunKind.REBASE)
        for job in jobs:
            job.binding, job.rows, job.plan = bindings.get(job.id), {}, None
            note = job.binding.note if job.binding else ""
            if job.binding is not None and job.pair is None:
                job.pair = (job.binding.creatio_id or "", job.binding.dynamics_id or "")
            job.noted = "\n".join(dict.fromkeys([*job.noted.splitlines(), *note.splitlines()]))
            if job.binding and work.batch.kind is RunKind.REPLAY:
                fields = {k: s if k in job.errors or s.refused is None else s._replace(refused=None) for k, s in job.binding.fields.items()}
                job.binding = replace(job.binding, fields=fields)
            twin = far.get((job.binding.id_on(other) if job.binding else None) or "")
            self._place(work, job, _newer(own.get(job.id), job.after.get(side)), _newer(twin, job.after.get(other)), any_age=any_age)

    async def found(self, work: BatchWork, desk: Desk, jobs: list[Job]) -> None:
        """Read documents again that a search found: it shows headers only, and lines that stand there already must not be doubled."""
        if work.mapping.lines is None or not jobs:
            return
        other = work.side.other
        rows = await self._rows(work, desk, other, [job.rows[other].id for job in jobs])
        for job in jobs:
            row = rows.get(job.rows[other].id)
            if isinstance(row, Row):
                job.rows[other] = row
            else:
                job.put_off(_SOON, row or Stale("sync.stale_read", record_id=job.id))

    async def _bindings(self, work: BatchWork, jobs: list[Job]) -> Mapping[str, Binding]:
        """Read the bindings of jobs that are not known yet; one that can't be read, broken or too new, fails its own record only (law 13).

        What is known may be outdated: then saving the binding by its ETag fails, and the next look reads it.
        """
        ledger, flow = self._services.ledger, work.mapping.flow
        known = {job.id: work.known.pop(job.id) for job in jobs if job.id in work.known}
        found = {record_id: binding for record_id, binding in known.items() if binding is not None}
        jobs = [job for job in jobs if job.id not in known]
        try:
            return found | dict(await ledger.bindings(flow, work.side, [job.id for job in jobs]) if jobs else {})
        except TandemError as error:
            if type(error) is not TandemError:  # the store is busy: that concerns all
                raise
        for job in jobs:
            try:
                found |= await ledger.bindings(flow, work.side, [job.id])
            except TandemError as error:
                if type(error) is not TandemError:
                    raise
                job.keeps_note = True  # nothing may be written over what can't be read
                job.fail(error, Outcome.FAILED)
        return found

    async def _own(self, work: BatchWork, desk: Desk, ids: Sequence[str]) -> Mapping[str, Row | TandemError]:
        """Return records of the batch's side: those of its page that nobody has looked at as they were read there, the others fresh."""
        if work.mapping.lines is not None:
            work.fetched.clear()  # a page of a range holds headers only
        own = {record_id: work.fetched.pop(record_id) for record_id in ids if record_id in work.fetched}
        rest = [record_id for record_id in ids if record_id not in own]
        return {**own, **(await self._rows(work, desk, work.side, rest) if rest else {})}

    async def _rows(self, work: BatchWork, desk: Desk, side: Side, ids: Sequence[str]) -> Mapping[str, Row | TandemError]:
        """Read records of a side; raises Stale when a column is gone that was there when the desk was opened: it is no empty value."""
        system, entity, columns = self._services.system(work.mapping, side), work.mapping.entity(side), desk.columns(side)
        with no_column_gone(system, entity):
            rows = await system.read(entity, ids, columns, lines=lines_of(work.mapping, side))
        check_complete(system, entity, columns, rows.values())
        return {key: with_lines(work.mapping, side, row) if isinstance(row, Row) else row for key, row in rows.items()}

    def _place(self, work: BatchWork, job: Job, own: Row | TandemError | None, twin: Row | TandemError | None, *, any_age: bool) -> None:
        """Give a record its rows, or end it: its row is gone, unreadable, older than what was seen, or someone else's work."""
        if isinstance(own, TandemError):
            self._unreadable(job, own)
            return
        if own is None:
            self._gone(work, job, twin)
            return
        if not self._goes_on(work, job, twin):
            return
        binding = job.binding
        announced = job.item.stamp.time if job.item.stamp else None
        if not any_age and self._is_stale(own, announced, binding, work.side):
            job.put_off(_SOON, Stale("sync.stale_read", record_id=job.id))
            return
        job.rows[work.side] = own
        if binding is None or binding.state is BindingState.REFUSED:
            if own.merged_into:
                job.end(Outcome.OUT_OF_SCOPE)
            return
        if binding.state is BindingState.CREATING:
            if self._someone_creates(work, binding):
                job.put_off(_SOON, NotReady("match.reserved", record_id=job.id))
                return
            self._take_over_reservations(work, job, binding)
        self._place_twin(work, job, binding, twin, any_age=any_age)
        merged = [row.merged_into for row in job.rows.values() if row.merged_into]
        if merged and job.open and binding.state is BindingState.BOUND:
            job.merged_into = merged[0]

    def _goes_on(self, work: BatchWork, job: Job, twin: Row | TandemError | None) -> bool:
        """Tell whether a record that is there may be worked on: its binding has not ended, or a person reopens it."""
        binding = job.binding
        if binding is not None and binding.state is BindingState.ENDED:
            if job.decided != REOPEN:
                self._ended(work, job, binding)
                return False
            job.binding = reopened(binding, work.side, both=isinstance(twin, Row))
            job.newly_bound = job.binding.state is BindingState.BOUND
        elif binding is not None and work.side in binding.gone:
            job.binding = replace(binding, gone=())
            job.back = True
        return True

    def _unreadable(self, job: Job, error: TandemError) -> None:
        """Put a record off whose part of a read had a passing fault; a missing right stops the flow; anything else is a failure."""
        if isinstance(error, Denied):
            raise error
        if isinstance(error, Transient):
            job.put_off(error.retry_after or _SOON, error)
        else:
            job.fail(error, Outcome.FAILED)

    def _ended(self, work: BatchWork, job: Job, binding: Binding) -> None:
        """Leave a record alone whose binding has ended; one that was gone and is there again needs a person (law 10)."""
        if work.side not in binding.gone or job.decided == DELETE:
            job.dismissed = job.decided == DELETE
            job.keeps_note = True
            job.end(Outcome.OUT_OF_SCOPE)
        elif binding.note:
            job.keeps_note = True
            job.end(Outcome.CONFLICT)
        elif job.item.attempts < _LOOKS_AGAIN:  # a replica that lags may show what was deleted a moment ago
            job.put_off(_SOON, Stale("sync.stale_read", record_id=job.id))
        else:
            job.conflicts[""] = ("delete.reappeared", ())
            job.end(Outcome.CONFLICT)

    def _take_over_reservations(self, work: BatchWork, job: Job, binding: Binding) -> None:
        """Let the job give back what the open create reserved, under the name of its source record."""
        source = binding.source or work.side
        job.reserved, job.reserved_by = binding.reserved, holder(work.mapping.flow, source, binding.id_on(source) or "")

    def _place_twin(self, work: BatchWork, job: Job, binding: Binding, twin: Row | TandemError | None, *, any_age: bool) -> None:
        if isinstance(twin, TandemError):
            self._unreadable(job, twin)
        elif twin is not None and not any_age and self._is_stale(twin, None, binding, work.side.other):
            job.put_off(_SOON, Stale("sync.stale_read", record_id=twin.id))
        elif twin is not None:
            job.rows[work.side.other] = twin
            if binding.state is BindingState.CREATING:
                job.arrived()
        elif binding.state is BindingState.BOUND and (job.decided == REOPEN or work.batch.kind is RunKind.REBASE):
            job.binding = reopened(binding, work.side, both=False)
        elif work.side.other in binding.gone:
            job.keeps_note = True  # the delete of its twin waits for a person
            job.end(Outcome.CONFLICT)
        elif binding.state is BindingState.BOUND or binding.source is not work.side:
            self._twin_not_shown(work, job, binding)

    def _twin_not_shown(self, work: BatchWork, job: Job, binding: Binding) -> None:
        """Look again for a record that should be there, as a replica may lag; then a person looks."""
        if job.item.attempts < _LOOKS_AGAIN:
            job.put_off(_SOON, Stale("sync.stale_read", record_id=job.id))
            return
        other = work.side.other
        system, entity = work.mapping.system(other), work.mapping.entity(other)
        job.fail(Rejected("sync.unseen_row", system=system, entity=entity, record_id=binding.id_on(other) or ""), Outcome.FAILED)

    def _is_stale(self, row: Row, announced: datetime | None, binding: Binding | None, side: Side) -> bool:
        """Tell whether a row is older than what the feed announced or the binding has seen (law 5)."""
        seen = binding.stamp_on(side) if binding else None
        return (announced is not None and row.stamp.time < announced) or (seen is not None and row.stamp.time < seen.time)

    def _someone_creates(self, work: BatchWork, binding: Binding) -> bool:
        own = binding.owner_batch in (work.batch.id, work.batch.left_by)
        return not own and binding.deadline is not None and binding.deadline > self._services.clock()

    def _may_be_stale(self, work: BatchWork, job: Job) -> bool:
        """Tell whether a record that was announced and is not shown must be looked for again: a lagging replica lacks what is new."""
        ended = job.binding is not None and job.binding.state is BindingState.ENDED
        known = ended or (job.binding is not None and work.side in job.binding.gone)
        return not job.item.deleted and not known and job.item.attempts < _LOOKS_AGAIN

    def _gone(self, work: BatchWork, job: Job, twin: Row | TandemError | None) -> None:
        """Tell what the absence of a row means.

        With positive evidence the delete step follows (law 10); a create that never happened and has no source any more ends too
        (law 6); else a person looks.
        """
        binding = job.binding
        if self._may_be_stale(work, job):
            job.put_off(_SOON, Stale("sync.stale_read", record_id=job.id))
            return
        if binding is None or binding.state is BindingState.ENDED:
            job.gone = job.dismissed = binding is not None and job.item.deleted and work.side not in binding.gone
            if binding is not None and job.item.deleted and (binding.note or job.decided == DELETE):
                job.dismissed = True
            job.end(Outcome.UNCHANGED)  # created and deleted between two polls, or known to be gone
            return
        creating = binding.state is BindingState.CREATING and binding.source is work.side
        if creating and self._someone_creates(work, binding):
            job.put_off(_SOON, NotReady("match.reserved", record_id=job.id))
            return
        if creating:
            self._take_over_reservations(work, job, binding)
        if work.side in binding.gone and not job.decided and work.batch.kind is not RunKind.REPLAY:
            job.keeps_note = True  # it waits for a person already
            job.end(Outcome.CONFLICT)
            return
        evidence = job.item.deleted or work.side in binding.gone
        if not evidence and not (creating and twin is None):
            system, entity = work.mapping.system(work.side), work.mapping.entity(work.side)
            job.fail(Rejected("sync.unseen_row", system=system, entity=entity, record_id=job.id), Outcome.FAILED)
            return
        if isinstance(twin, TandemError):
            self._unreadable(job, twin)
            return
        if twin is not None:
            job.rows[work.side.other] = twin
        job.gone = True


def _is_echo(binding: Binding | None, row: Row | TandemError | None, side: Side) -> bool:
    """Tell whether a row of a page is as the binding has seen it: nothing happened since (law 5)."""
    return binding is not None and isinstance(row, Row) and Seen(binding.stamp_on(side), binding.state).is_echo(row.stamp)


def _newer(read: Row | TandemError | None, written: Row | None) -> Row | TandemError | None:
    """Return a row as read, or as our own write of this attempt left it where the read shows an older state (laws 5 and 8)."""
    return written if isinstance(read, Row) and written is not None and read.stamp.time < written.stamp.time else read
