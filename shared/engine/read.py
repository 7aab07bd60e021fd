"""Read: bindings and the records of both sides, fresh and in bulk, and which records can be worked on at all."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from shared.core.binding import Binding, BindingState
from shared.core.errors import Denied, NotReady, Rejected, Stale, TandemError, Transient
from shared.core.plan import Desk
from shared.core.records import Row, Side
from shared.core.work import Outcome, RunKind
from shared.engine.jobs import BatchWork, Job, holder
from shared.engine.services import Services

_SOON = 5.0


class Read:
    """The read step."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def load(self, work: BatchWork, desk: Desk, jobs: list[Job]) -> None:
        """Read bindings and the records of both sides, in bulk; end the records that can't be worked on."""
        services, side, other = self._services, work.side, work.side.other
        ids = [job.id for job in jobs]
        own_system, mapping = services.system(work.mapping, side), work.mapping
        bindings, own = await asyncio.gather(
            services.ledger.bindings(mapping.flow, side, ids), own_system.read(mapping.entity(side), ids, desk.columns(side))
        )
        live = (BindingState.BOUND, BindingState.CREATING)
        twins = [binding.id_on(other) for binding in bindings.values() if binding.state in live]
        wanted = [twin for twin in twins if twin]
        far = await services.system(mapping, other).read(mapping.entity(other), wanted, desk.columns(other)) if wanted else {}
        for job in jobs:
            job.binding, job.rows, job.plan = bindings.get(job.id), {}, None
            note = job.binding.note if job.binding else ""
            job.noted = "\n".join(dict.fromkeys([*job.noted.splitlines(), *note.splitlines()]))
            if job.binding and work.batch.kind is RunKind.REPLAY:
                fields = {k: s if k in job.errors or s.refused is None else replace(s, refused=None) for k, s in job.binding.fields.items()}
                job.binding = replace(job.binding, fields=fields)
            await self._place(work, job, own.get(job.id), far)

    async def _place(self, work: BatchWork, job: Job, own: Row | TandemError | None, far: Mapping[str, Row | TandemError]) -> None:
        """Give a record its rows, or end it: its row is gone, unreadable, older than what was seen, or someone else's work."""
        binding = job.binding
        if isinstance(own, TandemError):
            self._unreadable(job, own)
            return
        if own is None:
            await self._gone(work, job, far.get((binding.id_on(work.side.other) if binding else None) or ""))
            return
        if binding is not None and binding.state is BindingState.ENDED:
            job.end(Outcome.OUT_OF_SCOPE)
            return
        if self._is_stale(own, job.item.stamp.time if job.item.stamp else None, binding, work.side):
            job.put_off(_SOON, Stale("sync.stale_read", record_id=job.id))
            return
        job.rows[work.side] = own
        if binding is None or binding.state is BindingState.REFUSED:
            return
        if binding.state is BindingState.CREATING:
            if self._someone_creates(work, binding):
                job.put_off(_SOON, NotReady("match.reserved", record_id=job.id))
                return
            self._take_over_reservations(work, job, binding)
        self._place_twin(work, job, binding, far.get(binding.id_on(work.side.other) or ""))

    def _unreadable(self, job: Job, error: TandemError) -> None:
        """Put a record off whose part of a read had a passing fault; a missing right stops the flow; anything else is a failure."""
        if isinstance(error, Denied):
            raise error
        if isinstance(error, Transient):
            job.put_off(error.retry_after or _SOON, error)
        else:
            job.fail(error, Outcome.FAILED)

    def _take_over_reservations(self, work: BatchWork, job: Job, binding: Binding) -> None:
        """Let the job give back what the open create reserved, under the name of its source record."""
        source = binding.source or work.side
        job.reserved, job.reserved_by = binding.reserved, holder(work.mapping.flow, source, binding.id_on(source) or "")

    def _place_twin(self, work: BatchWork, job: Job, binding: Binding, twin: Row | TandemError | None) -> None:
        if isinstance(twin, TandemError):
            self._unreadable(job, twin)
        elif twin is not None and self._is_stale(twin, None, binding, work.side.other):
            job.put_off(_SOON, Stale("sync.stale_read", record_id=twin.id))
        elif twin is not None:
            job.rows[work.side.other] = twin
            if binding.state is BindingState.CREATING:
                job.arrived()
        elif binding.state is BindingState.BOUND or binding.source is not work.side:
            other = work.side.other
            job.fail(
                Rejected(
                    "sync.unseen_row",
                    system=work.mapping.system(other),
                    entity=work.mapping.entity(other),
                    record_id=binding.id_on(other) or "",
                ),
                Outcome.FAILED,
            )

    def _is_stale(self, row: Row, announced: datetime | None, binding: Binding | None, side: Side) -> bool:
        """Tell whether a row is older than what the feed announced or the binding has seen (law 5)."""
        seen = binding.stamp_on(side) if binding else None
        return (announced is not None and row.stamp.time < announced) or (seen is not None and row.stamp.time < seen.time)

    def _someone_creates(self, work: BatchWork, binding: Binding) -> bool:
        own = binding.owner_batch == work.batch.id
        return not own and binding.deadline is not None and binding.deadline > self._services.clock()

    async def _gone(self, work: BatchWork, job: Job, twin: Row | TandemError | None) -> None:
        """End a record whose row is not there.

        With a tombstone its binding ends (law 10); a create that never happened and has no source any more ends too (law 6); else a
        person looks.
        """
        binding = job.binding
        if binding is None or binding.state is BindingState.ENDED:
            job.end(Outcome.UNCHANGED)  # created and deleted between two polls, or known to be gone
            return
        creating = binding.state is BindingState.CREATING and binding.source is work.side
        if creating and self._someone_creates(work, binding):
            job.put_off(_SOON, NotReady("match.reserved", record_id=job.id))
            return
        if creating:
            self._take_over_reservations(work, job, binding)
        if not job.item.deleted and not (creating and twin is None):
            system, entity = work.mapping.system(work.side), work.mapping.entity(work.side)
            job.fail(Rejected("sync.unseen_row", system=system, entity=entity, record_id=job.id), Outcome.FAILED)
            return
        ended = replace(binding, state=BindingState.ENDED, note=f"deleted in {work.side.value}", fields={}, owner_batch="", deadline=None)
        saved = (await self._services.ledger.save_bindings([ended]))[0]
        if isinstance(saved, Binding):
            job.binding = saved
            job.end(Outcome.DELETED)
        elif isinstance(saved, Transient):
            job.put_off(_SOON, saved)
