"""Create: a new record on the other side, with its intent kept first (law 6).

The target's id is made from flow, source id and generation, so doing it again makes the same record, never a second one.
"""

import uuid
from dataclasses import replace
from datetime import datetime
from functools import partial

from shared.core.binding import Binding, BindingState
from shared.core.document import desk_of, lines_of, parted, with_lines
from shared.core.errors import Denied, NotReady, Rejected, Stale, TandemError, Transient
from shared.core.plan import Desk
from shared.core.plan_create import CreatePlan, plan_create
from shared.core.records import Row, Side, Write, WriteKind, WriteResult
from shared.core.work import Outcome, RunKind, Waiting
from shared.engine.jobs import BatchWork, Job
from shared.engine.services import Services

_NAMESPACE = uuid.UUID("7b0c3a52-2f0e-5c43-9d2c-6f1f0a6f5d11")
_SOON = 5.0


def target_id(flow: str, source_id: str, generation: int) -> str:
    """Return the id of the record to create: a uuid5 that any worker arrives at."""
    return str(uuid.uuid5(_NAMESPACE, f"{flow}|{source_id}|{generation}"))


class Create:
    """The create half of the apply step."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def run(self, work: BatchWork, desk: Desk, jobs: list[Job]) -> None:
        """Create records; a job whose record is there afterwards has both rows and a binding to merge, or an end."""
        plans: dict[str, CreatePlan] = {}
        for job in jobs:
            plan = job.guarded(partial(self._plan, work, desk, job))
            if plan is not None:
                plans[job.id] = plan
        ready = await self._intend(work, desk, [job for job in jobs if job.id in plans], plans)
        if not ready:
            return
        target = work.side.other
        system, entity = self._services.system(desk.mapping, target), desk.mapping.entity(target)
        writes = [self._write(desk, self._target(job), plans[job.id], target) for job in ready]
        bulk = work.batch.kind is RunKind.BULK
        results = await system.write(entity, writes, bulk=bulk, lines=lines_of(desk.mapping, target))
        await self._settle(work, desk, list(zip(ready, results, strict=True)), plans)

    def _write(self, desk: Desk, record_id: str, plan: CreatePlan, target: Side) -> Write:
        """Return the create; its result tells every column, for what a server fills by itself is no echo of ours."""
        header, lines = parted(plan.columns, desk.mapping.lines)
        return Write(WriteKind.CREATE, record_id, header, lines=lines, told=tuple(desk.columns(target)))

    def _target(self, job: Job) -> str:
        assert job.binding is not None  # noqa: S101 - the intent was saved
        return (job.binding.dynamics_id if job.binding.creatio_id == job.id else job.binding.creatio_id) or ""

    def _plan(self, work: BatchWork, desk: Desk, job: Job) -> CreatePlan | None:
        generation = job.binding.generation if job.binding else 1
        new_id = target_id(desk.mapping.flow, job.id, generation)
        now = self._services.clock()
        own = desk_of(desk, job.binding, job.rows)
        plan = plan_create(own, work.side, job.rows[work.side], new_id, work.batch.run, now, job.left_out)
        system = desk.mapping.system(work.side)
        for problem in plan.told:
            job.errors[problem.row.key] = Rejected(
                problem.code, problem.detail, system=system, entity=desk.mapping.entity(work.side), record_id=job.id, field=problem.row.key
            )
        if plan.blocked:
            job.end(Outcome.REJECTED)
            return None
        job.remarks = dict(plan.remarks)
        job.waiting.extend(
            Waiting(*wait.waits_for, desk.mapping.flow, work.side, job.id, wait.row.key, now) for wait in plan.waits if wait.waits_for
        )
        if plan.must_wait:
            job.end(Outcome.WAITING)
            return None
        return plan

    async def _intend(self, work: BatchWork, desk: Desk, jobs: list[Job], plans: dict[str, CreatePlan]) -> list[Job]:
        """Save the intents, create-only or by the ETag of what was there; return the jobs whose intent is ours."""
        deadline = self._services.clock() + self._services.limits.create_deadline
        intents = [self._intent(work, desk, job, plans[job.id], deadline) for job in jobs]
        ready = []
        for job, saved in zip(jobs, await self._services.ledger.save_bindings(intents), strict=True):
            if isinstance(saved, Binding):
                job.binding = saved
                ready.append(job)
            elif isinstance(saved, Stale):
                job.waiting.clear()  # another worker was first: look again in this attempt
            elif isinstance(saved, Transient):
                job.put_off(_SOON, saved)
            else:
                job.fail(saved, Outcome.FAILED)
        return ready

    def _intent(self, work: BatchWork, desk: Desk, job: Job, plan: CreatePlan, deadline: datetime) -> Binding:
        old = job.binding or Binding(desk.mapping.flow, BindingState.CREATING, None, None)
        ids = {work.side: job.id, work.side.other: target_id(desk.mapping.flow, job.id, old.generation)}
        creatio_id, dynamics_id = (ids[side] for side in sorted(ids))
        return replace(
            old,
            state=BindingState.CREATING,
            creatio_id=creatio_id,
            dynamics_id=dynamics_id,
            creatio_stamp=None,
            dynamics_stamp=None,
            fields=plan.fields,
            source=work.side,
            owner_batch=work.batch.id,
            deadline=deadline,
            reserved=job.reserved or old.reserved,
        )

    async def _settle(self, work: BatchWork, desk: Desk, results: list[tuple[Job, WriteResult]], plans: dict[str, CreatePlan]) -> None:
        refused: list[tuple[Job, TandemError]] = []
        for job, result in results:
            if result.row is not None:
                # A create that answered with an error may have inserted the row all the same (law 6).
                job.rows[work.side.other] = with_lines(desk.mapping, work.side.other, result.row)
                job.arrived()
            elif isinstance(result.error, Denied):
                raise result.error
            elif isinstance(result.error, Rejected):
                refused.append((job, result.error))
            else:
                job.put_off(_SOON, result.error or NotReady("match.reserved", record_id=job.id))
        if refused:
            await self._refuse(work, desk, refused, plans)

    async def _refuse(self, work: BatchWork, desk: Desk, refused: list[tuple[Job, TandemError]], plans: dict[str, CreatePlan]) -> None:
        """Look once more, then try without the field to blame, or keep the binding as refused."""
        target = work.side.other
        system, entity = self._services.system(desk.mapping, target), desk.mapping.entity(target)
        wanted = [self._target(job) for job, _ in refused]
        there = await system.read(entity, wanted, desk.columns(target), lines=lines_of(desk.mapping, target))
        for job, error in refused:
            found = there.get(self._target(job))
            if isinstance(found, Row):
                job.rows[target] = with_lines(desk.mapping, target, found)
                job.arrived()
                continue
            if found is not None:
                job.put_off(_SOON, found)
                continue
            key = self._optional_row(desk, error.field, work)
            if key is not None and key not in job.left_out and key in plans[job.id].fields:
                job.left_out.add(key)
                job.errors[key] = error  # the round goes on: created again without this field (law 13)
                continue
            job.refused = True
            job.fail(error, Outcome.REJECTED)

    def _optional_row(self, desk: Desk, column: str, work: BatchWork) -> str | None:
        for row in desk.rows:
            if column and column in row.columns(work.side.other) and not row.required:
                return row.key
        return None
