"""Rehearse: plan the records of a batch as `sync` would, and write nothing, neither to the systems nor to the ledger."""

from collections import Counter
from functools import partial

from shared.core.document import desk_of, plan_document, referred_by_lines
from shared.core.merge import Action
from shared.core.plan import Desk, RecordPlan, referred
from shared.core.records import Side
from shared.core.work import Outcome
from shared.engine.desk import with_references
from shared.engine.jobs import BatchWork, Job, leading_of
from shared.engine.read import Read
from shared.engine.services import Services


class Rehearse:
    """Plans without consequences."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._read = Read(services)

    async def plan(self, work: BatchWork, desk: Desk) -> list[Job]:
        """Read the bound records of a batch, whatever their age, and plan them; return all its jobs."""
        jobs = work.active()
        await self._read.load(work, desk, jobs, any_age=True)
        links = [job.guarded(partial(_referred, desk, job)) for job in jobs]
        desk = await with_references(self._services, desk, [found for found in links if found])
        for job in jobs:
            if job.open and not job.gone and not job.merged_into and len(job.rows) == len(Side):
                self._plan(work, desk, job)
        return jobs

    def _plan(self, work: BatchWork, desk: Desk, job: Job) -> None:
        binding = job.binding
        assert binding is not None  # noqa: S101 - both rows are there, so there is a binding
        own = desk_of(desk, binding, job.rows)
        job.plan = job.guarded(lambda: plan_document(own, binding, job.rows, leading=leading_of(work, job)))

    async def count(self, work: BatchWork, desk: Desk) -> dict[str, int]:
        """Return what a run over the batch would do, in numbers by what it is, those of fields by side."""
        counts: Counter[str] = Counter()
        for job in await self.plan(work, desk):
            counts.update(_would(job))
        return dict(counts)


def _referred(desk: Desk, job: Job) -> list[tuple[str, Side, str]]:
    return [*referred(desk, job.binding, job.rows, {}), *referred_by_lines(desk.mapping, job.rows)]


def has_changed(job: Job) -> bool:
    """Tell whether a rehearsed record differs from what was synced last: by a field's fingerprint, or because it is gone."""
    if job.gone or job.merged_into:
        return True
    plan = job.plan
    return plan is not None and any(
        d.action not in (Action.NOTHING, Action.PENDING) or _settles(plan, key) for key, d in plan.decisions.items()
    )


def _settles(plan: RecordPlan, key: str) -> bool:
    """Tell whether both sides moved to equal values: changed, though nothing is to be written."""
    state, before = plan.decisions[key].state, plan.binding.fields.get(key)
    if state is None or before is None or state.key_id != before.key_id:
        return False
    return (state.creatio, state.dynamics) != (before.creatio, before.dynamics)


def _would(job: Job) -> list[str]:
    if job.gone or job.merged_into:
        return ["would_end"]
    if job.open and job.binding is None:
        return ["would_bind_or_create"]
    if job.plan is None:
        return ["would_fail" if job.errors else (job.outcome or Outcome.OUT_OF_SCOPE).value]
    found = [f"would_write_{side.value}" for side in Side if job.plan.fields_to(side)]
    found += [f"would_write_{side.value}_fields" for side in Side for _ in job.plan.fields_to(side)]
    if job.plan.of(Action.CONFLICT):
        found.append("would_conflict")
    if job.plan.of(Action.PROBLEM):
        found.append("would_reject")
    return found or [Outcome.UNCHANGED.value]
