"""Open ends: failures, conflicts and waiting rows of a batch's records.

They are kept before the binding of their record is saved. A binding that has seen a record's stamp lets the next look pass the record
by as an echo, so whatever a person or a wake-up needs must be in the ledger already.
"""

from collections.abc import Iterable

from shared.core.records import Side
from shared.core.work import Conflict, Failure, Waiting
from shared.engine.jobs import BatchWork, Job
from shared.engine.services import Services


class OpenEnds:
    """Keeps what is left open, each thing once an attempt."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def keep(self, work: BatchWork, jobs: Iterable[Job]) -> None:
        """Save the failures, conflicts and waiting rows of jobs that were not saved in this attempt yet."""
        failures: list[Failure] = []
        conflicts: list[Conflict] = []
        waiting: list[Waiting] = []
        for job in jobs:
            failures += self._failures(work, job)
            conflicts += self._conflicts(work, job)
            fresh = [row for row in job.waiting if (row.target_flow, row.target_id, row.field) not in job.kept]
            job.kept.update((row.target_flow, row.target_id, row.field) for row in fresh)
            waiting += fresh
        if failures:
            await self._services.ledger.save_failures(failures)
        if conflicts:
            await self._services.ledger.save_conflicts(conflicts)
        if waiting:
            work.fresh.extend(await self._services.ledger.save_waiting(waiting))
        for failure in failures:
            side = work.side.value
            self._services.events("record_failed", flow=failure.flow, side=side, record=failure.record_id, code=failure.code)

    def _failures(self, work: BatchWork, job: Job) -> list[Failure]:
        fresh = {key: error for key, error in job.errors.items() if (key, error.code) not in job.kept}
        job.kept.update((key, error.code) for key, error in fresh.items())
        now, flow = self._services.clock(), work.mapping.flow
        return [Failure.of(error, flow, work.side, now, record_id=job.id, field=key, batch=work.batch.id) for key, error in fresh.items()]

    def _conflicts(self, work: BatchWork, job: Job) -> list[Conflict]:
        fresh = {key: found for key, found in job.conflicts.items() if (key, found[0]) not in job.kept}
        job.kept.update((key, reason) for key, (reason, _) in fresh.items())
        creatio_id, dynamics_id = pair_of(work, job)
        now, flow = self._services.clock(), work.mapping.flow
        return [Conflict(flow, creatio_id, dynamics_id, key, reason, now, ids) for key, (reason, ids) in fresh.items()]


def pair_of(work: BatchWork, job: Job) -> tuple[str, str]:
    """Return the ids under which a record's conflicts stand, Creatio's first; "" where it has no twin."""
    twin = (job.binding.id_on(work.side.other) if job.binding else None) or ""
    return (job.id, twin) if work.side is Side.CREATIO else (twin, job.id)
