"""Apply: write what the plans of bound records ask for, and keep what the systems made of it (laws 4, 8 and 13).

The intent is saved first, by the binding's ETag. Each side is written in bulk, both side by side. What is not known to have been
written stays open in the binding and is settled by the next look at the record.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from shared.core.binding import Binding
from shared.core.document import LINE, lines_of, parted, pruned, with_lines
from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.core.merge import Action
from shared.core.plan import RecordPlan, columns_of, intent, recorded, refused, value_on
from shared.core.records import Row, Side, Value, Write, WriteKind, WriteResult
from shared.core.rules import same
from shared.core.work import Outcome
from shared.engine.jobs import BatchWork, Job, note_of
from shared.engine.open_ends import OpenEnds
from shared.engine.services import Services

_SOON = 5.0


@dataclass
class _Writing:
    """One record being written: its intent as saved, and what each side answered."""

    job: Job
    plan: RecordPlan
    results: dict[Side, WriteResult]


class Apply:
    """The apply step for bound records with a plan."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._open_ends = OpenEnds(services)

    async def run(self, work: BatchWork, jobs: list[Job]) -> None:
        """Write the plans of jobs; each job ends, is put off, or stays open for another look in this attempt."""
        quiet = [job for job in jobs if job.plan and not job.plan.writes]
        writing = [job for job in jobs if job.plan and job.plan.writes]
        await self._keep_quiet(work, quiet)
        now = self._services.clock()
        intents = [intent(job.plan, work.batch.run, now) for job in writing if job.plan]
        ready: list[_Writing] = []
        for job, saved in zip(writing, await self._services.ledger.save_bindings(intents), strict=True):
            if isinstance(saved, Binding) and job.plan:
                ready.append(_Writing(job, replace(job.plan, binding=self._before(job.plan, saved)), {}))
                job.binding = saved
            else:
                self._not_saved(job, saved)
        await self._write_both(work, ready)
        await self._keep(work, ready)

    async def _write_both(self, work: BatchWork, ready: list[_Writing]) -> None:
        """Write both sides, side by side; a side that fails as a whole leaves its error with each record, and the other's results stay."""
        outcomes = await asyncio.gather(*(self._write(work, ready, side) for side in Side), return_exceptions=True)
        for side, outcome in zip(Side, outcomes, strict=True):
            if outcome is None:
                continue
            if not isinstance(outcome, TandemError):
                raise outcome
            for item in ready:
                if item.plan.fields_to(side) and side not in item.results:
                    item.results[side] = WriteResult(item.plan.rows[side].id, error=outcome)

    def _before(self, plan: RecordPlan, saved: Binding) -> Binding:
        """Return the binding as planned, under the ETag of its saved intent: `recorded` starts from what was known before."""
        return replace(plan.binding, etag=saved.etag)

    async def _keep_quiet(self, work: BatchWork, jobs: list[Job]) -> None:
        """Save what changed in bindings that need no write; most need nothing at all."""
        now, saves = self._services.clock(), []
        for job in jobs:
            assert job.plan is not None  # noqa: S101 - the caller chose jobs with a plan
            binding, _ = recorded(job.plan, {}, work.batch.run, now)
            binding = replace(binding, note=note_of(job, work.mapping))
            if job.plan.desk.line_keys:
                binding = pruned(binding, job.plan.rows)
            if binding == job.plan.binding and binding.etag is not None:
                self._end(job, Outcome.UNCHANGED)
            else:
                saves.append((job, binding))
        await self._open_ends.keep(work, [job for job, _ in saves])
        results = await self._services.ledger.save_bindings([binding for _, binding in saves])
        for (job, _), saved in zip(saves, results, strict=True):
            if isinstance(saved, Binding):
                job.binding = saved
                self._end(job, Outcome.UNCHANGED)
            else:
                self._not_saved(job, saved)

    def _not_saved(self, job: Job, error: TandemError | Binding) -> None:
        job.plan = None
        if isinstance(error, Stale):  # someone else was first: look again in this attempt
            if job.binding is None or job.binding.etag is None:
                job.first_outcome, job.newly_bound = None, False
            return
        if isinstance(error, Transient):
            job.put_off(_SOON, error)
        elif isinstance(error, TandemError):
            job.fail(error, Outcome.FAILED)

    async def _write(self, work: BatchWork, ready: list[_Writing], side: Side) -> None:
        wanted = [(writing, writing.plan.fields_to(side)) for writing in ready]
        wanted = [(writing, fields) for writing, fields in wanted if fields]
        if not wanted:
            return
        system, entity = self._services.system(work.mapping, side), work.mapping.entity(side)
        writes = [self._update(w.plan, fields, side) for w, fields in wanted]
        results = await system.write(entity, writes, lines=lines_of(work.mapping, side))
        for (writing, _), result in zip(wanted, results, strict=True):
            row = with_lines(work.mapping, side, result.row) if result.row is not None else None
            writing.results[side] = replace(result, row=row)

    def _update(self, plan: RecordPlan, fields: Mapping[str, Value], side: Side) -> Write:
        header, lines = parted(columns_of(plan.desk.rows, fields, side), plan.desk.mapping.lines)
        seen = plan.rows[side]
        plain = replace(seen, values={name: value for name, value in seen.values.items() if not name.startswith(LINE)})
        return Write(WriteKind.UPDATE, seen.id, header, plain if plan.desk.mapping.lines else seen, lines)

    async def _keep(self, work: BatchWork, ready: list[_Writing]) -> None:
        """Record what was written. A right that is missing stops the flow, but only after the other results were kept."""
        denied = [r.error for w in ready for r in w.results.values() if isinstance(r.error, Denied)]
        bindings = [self._outcome(work, writing) for writing in ready]
        await self._open_ends.keep(work, [writing.job for writing in ready])
        for writing, saved in zip(ready, await self._services.ledger.save_bindings(bindings), strict=True):
            if isinstance(saved, Binding):
                writing.job.binding = saved
            else:
                writing.job.outcome = None
                self._not_saved(writing.job, saved)
        if denied:
            raise denied[0]

    def _outcome(self, work: BatchWork, writing: _Writing) -> Binding:
        """Return the binding to keep, and end the job or leave it open for another look."""
        job, plan = writing.job, writing.plan
        written = {side: result.row for side, result in writing.results.items() if result.error is None and result.row is not None}
        binding, moved = recorded(plan, written, work.batch.run, self._services.clock())
        binding = self._open_fields(job, plan, binding, written)
        covered = self._covered(job, plan, writing.results.get(Side.CREATIO), written)
        if covered:
            binding = self._as_planned(plan, binding, covered)
        unanswered = [result.error for result in writing.results.values() if result.error is not None]
        # A refusal, a missing right or a row that moved before us says surely that nothing was written.
        unanswered = [error for error in unanswered if not isinstance(error, (Rejected, Stale, Denied))]
        binding = self._after_refusals(writing, binding)
        again = bool(covered) or moved or self._tries_again(writing)
        if again or any(result.error is not None and not isinstance(result.error, Rejected) for result in writing.results.values()):
            binding = self._not_seen(plan, binding, written)
        binding = pruned(replace(binding, note=note_of(job, work.mapping)), {**plan.rows, **written})
        if unanswered and not covered:
            self._unanswered(job, unanswered[0])
        elif again:
            job.after = dict(written)
            job.plan = None  # look again: a side moved, or a refused field was taken out
            job.first_outcome = job.first_outcome or self._written_outcome(plan)
        else:
            job.rows.update(written)
            job.remarks.update(plan.remarks if written else {})
            self._end(job, self._written_outcome(plan) if written else Outcome.REJECTED)
        return binding

    def _open_fields(self, job: Job, plan: RecordPlan, binding: Binding, written: Mapping[Side, Row]) -> Binding:
        """Keep the intent of fields whose write was not answered; forget it where the write surely did not happen."""
        assert job.binding is not None  # noqa: S101 - the intent was saved
        fields = dict(binding.fields)
        for side in Side:
            if side not in written:
                fields.update({k: job.binding.fields[k] for k in plan.fields_to(side) if k in job.binding.fields})
        return replace(binding, fields=fields)

    def _not_seen(self, plan: RecordPlan, binding: Binding, written: Mapping[Side, Row]) -> Binding:
        """Keep the stamps of before where nothing was written: what is left to do must not be dropped as an echo (law 5)."""
        stamps = {side: (binding if side in written else plan.binding).stamp_on(side) for side in Side}
        return replace(binding, creatio_stamp=stamps[Side.CREATIO], dynamics_stamp=stamps[Side.DYNAMICS])

    def _as_planned(self, plan: RecordPlan, binding: Binding, keys: Mapping[str, object]) -> Binding:
        """Return a binding whose named fields are as before the plan: their write did not happen, or must be judged again."""
        fields = {key: state for key, state in binding.fields.items() if key not in keys}
        for key in keys:
            # What the plan made of an earlier unanswered write is known by now; only this plan's own write is taken back.
            decision = plan.decisions.get(key)
            state = decision.state if decision and decision.action is Action.WRITE else plan.binding.fields.get(key)
            if state is not None:
                fields[key] = state
        return replace(binding, fields=fields)

    def _still_in_doubt(self, plan: RecordPlan, binding: Binding, side: Side, keys: Collection[str]) -> Binding:
        """Return a binding that keeps the earlier writes which were not answered: the row moved, perhaps by one of them."""
        before = {
            key: state for key in keys if (state := plan.binding.fields.get(key)) and state.sent is not None and state.sent_to is side
        }
        return replace(binding, fields={**binding.fields, **before})

    def _covered(self, job: Job, plan: RecordPlan, result: WriteResult | None, written: Mapping[Side, Row]) -> dict[str, object]:
        """Return the Creatio values that our write covered: the row met just before it was not the one planned from (law 8)."""
        job.overwritten, job.covering = {}, {}
        if result is None or result.before is None or Side.CREATIO not in written:
            return {}
        rows = {row.key: row for row in plan.desk.rows}
        for key, value in plan.fields_to(Side.CREATIO).items():
            met = value_on(rows[key], Side.CREATIO, result.before)
            if not same(rows[key], met, value_on(rows[key], Side.CREATIO, plan.rows[Side.CREATIO])) and not same(rows[key], met, value):
                job.overwritten[key], job.covering[key] = met, value
        return dict(job.overwritten)

    def _after_refusals(self, writing: _Writing, binding: Binding) -> Binding:
        job, plan = writing.job, writing.plan
        for side, result in writing.results.items():
            error = result.error
            if error is None or isinstance(error, Transient):
                continue
            sent = plan.fields_to(side)
            binding = self._as_planned(plan, binding, sent)
            if isinstance(error, Stale):
                binding = self._still_in_doubt(plan, binding, side, sent)
            if isinstance(error, Rejected):
                blamed = self._blamed(plan, side, error, sent)
                opened = {**binding.fields, **{k: job.binding.fields[k] for k in blamed if job.binding and k in job.binding.fields}}
                binding = refused(plan, replace(binding, fields=opened), side, blamed)
                named = self._named(plan, side, error)
                job.errors.update({key if key in named else "": error for key in blamed})
        return binding

    def _blamed(self, plan: RecordPlan, side: Side, error: TandemError, sent: Mapping[str, object]) -> set[str]:
        """Return the fields to blame: the one that the server names, if it is optional; else all that were sent."""
        return self._named(plan, side, error) & set(sent) or set(sent)

    def _named(self, plan: RecordPlan, side: Side, error: TandemError) -> set[str]:
        return {row.key for row in plan.desk.rows if error.field and error.field in row.columns(side) and not row.required}

    def _tries_again(self, writing: _Writing) -> bool:
        """Tell whether another look in this attempt may get further: a row moved, or only some of the fields were refused."""
        for side, result in writing.results.items():
            if isinstance(result.error, Stale):
                return True
            if isinstance(result.error, Rejected):
                sent = writing.plan.fields_to(side)
                if len(self._blamed(writing.plan, side, result.error, sent)) < len(sent):
                    return True
        return False

    def _unanswered(self, job: Job, error: TandemError) -> None:
        seconds = error.retry_after if isinstance(error, Transient) and error.retry_after else _SOON
        job.put_off(seconds, error)

    def _written_outcome(self, plan: RecordPlan) -> Outcome:
        return Outcome.RESTORED if plan.restores else Outcome.UPDATED

    def _end(self, job: Job, outcome: Outcome) -> None:
        """End a job; what is still open outweighs "unchanged"."""
        if outcome is Outcome.UNCHANGED and job.first_outcome is None:
            if job.conflicts:
                outcome = Outcome.CONFLICT
            elif job.errors:
                outcome = Outcome.REJECTED
            elif job.waiting:
                outcome = Outcome.WAITING
            elif job.plan and job.plan.withheld:
                outcome = Outcome.OUT_OF_SCOPE
        job.end(outcome)
