"""Sync: read both sides of a batch's records fresh, match, merge, plan, apply, record. Running it again changes nothing.

One attempt takes a few looks: a record that moved while it was written is read and planned again at once; what needs more time
(a throttled system, a record that another worker is creating) goes to the batch's next attempt.
"""

from contextlib import suppress
from dataclasses import replace

from shared.core.binding import BindingState
from shared.core.document import TOTALS, desk_of, differences, lines_of, plan_document, referred_by_lines, strangers
from shared.core.errors import Denied, NotReady, Rejected, Stale, TandemError, Transient
from shared.core.merge import Action
from shared.core.plan import Desk, referred, value_on
from shared.core.records import Row, Side, Value
from shared.core.rules import same
from shared.core.schedule import rests
from shared.core.work import Batch, BatchState, Failure, FlowSettings, Message, Outcome, Pin, PollState, Waiting
from shared.engine.apply import Apply
from shared.engine.create import Create
from shared.engine.delete import Delete
from shared.engine.desk import away_pin, open_desk, with_references
from shared.engine.environment import check_environments
from shared.engine.jobs import BatchWork, Job, leading_of
from shared.engine.match import Match
from shared.engine.pages import Pages
from shared.engine.poll import mapping_pin, queue_of
from shared.engine.read import Read
from shared.engine.record import Record
from shared.engine.rehearse import Rehearse
from shared.engine.services import Services
from shared.engine.slots import Slots
from shared.engine.stop import pause_account, stop_flow

_LOOKS = 4
_SOON = 5.0


class Sync:
    """The sync step, one message at a time."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._read, self._match, self._create = Read(services), Match(services), Create(services)
        self._apply, self._record, self._delete = Apply(services), Record(services), Delete(services)
        self._rehearse, self._pages = Rehearse(services), Pages(services)
        self._told: dict[str, set[str]] = {}

    async def run(self, message: Message) -> None:
        """Work on the batch that a message names; raises TandemError `message.unknown_batch` when there is none."""
        services = self._services
        batch = await services.ledger.get_batch(message.flow, message.batch)
        if batch is None:
            raise TandemError("message.unknown_batch", f"batch {message.batch} of {message.flow}")
        if batch.state in (BatchState.CLOSED, BatchState.HELD) or message.attempt < batch.attempt:
            services.events("message_dropped", flow=batch.flow, batch=batch.id, attempt=float(message.attempt))
            return
        state = await services.ledger.poll_state()
        settings = services.settings(batch.flow, state.flows)
        if rests(settings, batch.kind, services.clock()):
            await self._record.park(batch)
            return
        pause = self._pause(batch, state)
        if pause is not None:
            await self._record.postpone(batch, pause, Transient(f"{self._system(batch)}.throttled"))
            return
        holder = f"{batch.id}.{batch.attempt}.{services.new_id()}"
        async with Slots(services, services.mapping(batch.flow), holder, yields=queue_of(batch.kind) == "bulk") as slots:
            if await slots.take():
                await self._work(batch, settings, state, slots)
            else:
                await self._record.postpone(batch, _SOON, Transient(f"{self._system(batch)}.throttled"))

    def _system(self, batch: Batch) -> str:
        return self._services.mapping(batch.flow).system(batch.side)

    def _pause(self, batch: Batch, state: PollState) -> float | None:
        """Return the seconds that an account of this flow must still pause, None when none must."""
        mapping, now = self._services.mapping(batch.flow), self._services.clock()
        throttles = [state.throttles.get(mapping.system(side)) for side in Side]
        left = [(throttle.pause_until - now).total_seconds() for throttle in throttles if throttle and throttle.pause_until]
        return max((seconds for seconds in left if seconds > 0), default=None)

    async def _work(self, batch: Batch, settings: FlowSettings, state: PollState, slots: Slots) -> None:
        services, mapping = self._services, self._services.mapping(batch.flow)
        work = BatchWork.start(batch, mapping)
        try:
            await check_environments(services, mapping, state)
            desk, unknown = await open_desk(services, mapping, settings, state.pins)
            work = await self._pages.open(work, desk)
            if batch.dry:
                await self._record.close_dry(work, await self._rehearse.count(work, desk))
                return
            await self._tell_unknown(work, unknown, state)
            if batch.part is None:  # the rows of a page are at hand: their bindings are read at once
                await self._drop_echoes(work)
            for _ in range(_LOOKS):
                if not work.active():
                    break
                await slots.renew()
                await self._look(work, desk)
        except (Transient, Stale, NotReady) as error:
            seconds = error.retry_after if isinstance(error, Transient) and error.retry_after else _SOON * (1 + batch.attempt)
            if not any(job.outcome for job in work.jobs.values()):
                await self._record.postpone(batch, seconds, error)
                return
            await pause_account(services, error)
            for job in work.active():
                job.put_off(seconds, error)
        except (Denied, Rejected) as error:  # a whole request was refused: the flow can't go on for any record
            await stop_flow(services, settings, error)
            await self._record.park(batch)
            return
        for job in work.active():
            job.put_off(_SOON, Stale("ledger.changed_meanwhile", record_id=job.id))
        await self._record.finish(work)

    async def _tell_unknown(self, work: BatchWork, unknown: dict[str, TandemError], state: PollState) -> None:
        """Keep a failure for each row that names an unknown column, once in a process, and clear those of columns that are there now."""
        flow, now = work.mapping.flow, self._services.clock()
        told = self._told.get(flow)
        if told is None:
            there = await self._services.ledger.failures(flow)
            told = {failure.field for failure in there if failure.side is None and failure.code.endswith(".unknown_column")}
        mended, walks = told - set(unknown), self._services.settings(flow, state.flows).walking is not None
        if mended and not walks:  # a walk that began without these columns would say in the end that all is aligned
            await self._mended(flow, mended, state)
        fresh = [Failure.of(error, flow, None, now, record_id="") for key, error in unknown.items() if key not in told]
        if fresh:
            await self._keep_away(flow, fresh, state)
            await self._services.ledger.save_failures(fresh)
        self._told[flow] = set(unknown) | mended if walks else set(unknown)

    async def _keep_away(self, flow: str, missing: list[Failure], state: PollState) -> None:
        """Keep since when columns are away: when they come back empty, that is no edit."""
        for failure in missing:
            name, now = away_pin(flow, failure.field), self._services.clock()
            pin = state.pins.get(name) or Pin(name, "", now)
            with suppress(Stale):  # another worker noticed it too
                await self._services.ledger.save_pin(replace(pin, value=now.isoformat(timespec="seconds"), at=now))

    async def _mended(self, flow: str, rows: set[str], state: PollState) -> None:
        """Clear the failures of rows whose columns are there again, and have the flow aligned: nobody looked at those fields meanwhile."""
        ledger = self._services.ledger
        told = {failure.field for failure in await ledger.failures(flow) if failure.side is None}
        pin = state.pins.get(mapping_pin(flow))
        if told & rows and pin is not None:
            await ledger.save_pin(replace(pin, value="", at=self._services.clock()))
        await ledger.clear_failures(flow, None, {"": rows})

    async def _drop_echoes(self, work: BatchWork) -> None:
        """End records whose stamp is the one that the binding keeps: nothing happened since we saw or wrote them (law 5)."""
        stamped = [job for job in work.active() if job.item.stamp is not None and not job.item.deleted]
        try:
            known = await self._services.ledger.stamps(work.mapping.flow, work.side, [job.id for job in stamped])
        except TandemError as error:
            if type(error) is not TandemError:
                raise
            return  # a row can't be read: the read step finds out whose it is
        for job in stamped:
            seen = known.get(job.id)
            if seen is not None and seen.is_echo(job.item.stamp):
                job.keeps_note = True
                job.end(Outcome.UNCHANGED)
            elif seen is None or seen.binding is not None:
                work.known[job.id] = seen.binding if seen else None

    async def _look(self, work: BatchWork, desk: Desk) -> None:
        """Take one look at every record that still needs work."""
        jobs = work.active()
        await self._read.load(work, desk, jobs)
        await self._delete.run(work, desk, [job for job in jobs if job.concerns_delete])
        jobs = [job for job in jobs if job.open]
        desk = await with_references(
            self._services, desk, [[*self._referred(desk, job), *referred_by_lines(desk.mapping, job.rows)] for job in jobs]
        )
        unbound = [job for job in jobs if job.binding is None or job.binding.state is BindingState.REFUSED]
        to_create = [job for job in jobs if job.binding and job.binding.state is BindingState.CREATING and work.side.other not in job.rows]
        if unbound:
            to_create += await self._match.run(work, desk, unbound)
            await self._read.found(work, desk, [job for job in unbound if job.open and len(job.rows) == len(Side)])
        if to_create:
            await self._create.run(work, desk, to_create)
        for job in jobs:
            if job.open and job.binding is not None and len(job.rows) == len(Side):
                self._plan(work, desk, job)
        await self._apply.run(work, [job for job in jobs if job.open and job.plan is not None])
        if desk.mapping.totals:
            await self._compare_totals(desk, jobs)

    async def _compare_totals(self, desk: Desk, jobs: list[Job]) -> None:
        """Reject documents that both sides have in step and sum up differently: the figures are told, and a person looks.

        Where a field or line is refused, waits or is asked about, that is what there is to mend.

        Lines are read after their header: where either has changed since, somebody is at work, and the feed brings the document again.
        """
        done = (Outcome.CREATED, Outcome.UPDATED, Outcome.RESTORED, Outcome.UNCHANGED)
        whole = [job for job in jobs if job.outcome in done and len(job.rows) == len(Side) and not job.has_open_ends]
        settled = [(job, {**job.rows, **job.after}) for job in whole]
        apart = [(job, rows, found) for job, rows in settled if (found := differences(desk.mapping, rows))]
        if not apart:
            return
        creatio = self._services.system(desk.mapping, Side.CREATIO)
        ids = [rows[Side.CREATIO].id for _, rows, _ in apart]
        entity, columns = desk.mapping.entity(Side.CREATIO), desk.columns(Side.CREATIO)
        fresh = await creatio.read(entity, ids, columns, lines=lines_of(desk.mapping, Side.CREATIO))
        system, table = desk.mapping.system(Side.DYNAMICS), desk.mapping.entity(Side.DYNAMICS)
        for job, rows, found in apart:
            now = fresh.get(rows[Side.CREATIO].id)
            if not isinstance(now, Row) or not self._rests(desk, now, rows[Side.CREATIO]):
                continue
            record_id = rows[Side.DYNAMICS].id
            said = "; ".join(map(str, found))
            job.errors[TOTALS] = Rejected("document.totals_differ", said, system=system, entity=table, record_id=record_id, field=TOTALS)
            job.outcome = Outcome.REJECTED

    def _rests(self, desk: Desk, now: Row, read: Row) -> bool:
        """Tell whether a document in Creatio is as it was read, lines and amounts included: some servers sum up without a new stamp."""
        amounts = [column for total in desk.mapping.totals for column in total.columns(Side.CREATIO)]
        same_amounts = all(now.values.get(column) == read.values.get(column) for column in amounts)
        return now.stamp == read.stamp and same_amounts and now.lines == read.lines

    def _plan(self, work: BatchWork, desk: Desk, job: Job) -> None:
        """Plan one record; a fault of our own on one record must not stop the others (law 13)."""
        binding = job.binding
        assert binding is not None  # noqa: S101 - the caller looked
        own = desk_of(desk, binding, job.rows)
        if number := strangers(desk.mapping, binding, job.rows):
            job.fail(self._strangers(desk, job, number), Outcome.REJECTED)
            return
        covered, leading = self._covered(desk, job), leading_of(work, job)
        job.plan = job.guarded(lambda: plan_document(own, binding, job.rows, covered, leading, job.errors.keys()))
        if job.plan is not None:
            self._note_decisions(work, desk, job)

    def _strangers(self, desk: Desk, job: Job, number: int) -> TandemError:
        """Return the error for a document that has lines in Dynamics which nobody in Creatio knows: written to, it would have both."""
        system, entity = desk.mapping.system(Side.DYNAMICS), desk.mapping.entity(Side.DYNAMICS)
        return Rejected("document.foreign_lines", f"{number} lines", system=system, entity=entity, record_id=job.rows[Side.DYNAMICS].id)

    def _referred(self, desk: Desk, job: Job) -> list[tuple[str, Side, str]]:
        return list(referred(desk, job.binding, job.rows, self._covered(desk, job)))

    def _covered(self, desk: Desk, job: Job) -> dict[str, Value]:
        """Return the Creatio values that our last write covered, as long as nobody changed them since (law 8)."""
        if not job.overwritten or Side.CREATIO not in job.rows:
            return {}
        rows = {row.key: row for row in desk.rows}
        creatio = job.rows[Side.CREATIO]
        return {
            key: value
            for key, value in job.overwritten.items()
            if same(rows[key], value_on(rows[key], Side.CREATIO, creatio), job.covering[key])
        }

    def _note_decisions(self, work: BatchWork, desk: Desk, job: Job) -> None:
        plan = job.plan
        assert plan is not None  # noqa: S101 - just made
        held = {decision.row.key for decision in plan.of(Action.HELD)} | job.left_out
        job.errors = {key: error for key, error in job.errors.items() if key in held}
        job.conflicts, job.waiting, now = {}, [], self._services.clock()
        for problem in plan.of(Action.PROBLEM):
            source = problem.to.other if problem.to else work.side
            system, entity = desk.mapping.system(source), desk.mapping.entity(source)
            record_id = plan.rows[source].id
            job.errors[problem.row.key] = Rejected(
                problem.code, problem.detail, system=system, entity=entity, record_id=record_id, field=problem.row.key
            )
        for conflict in plan.of(Action.CONFLICT):
            job.conflicts[conflict.row.key] = (conflict.code, ())
        for pending in plan.of(Action.PENDING):
            if pending.waits_for:
                source = pending.to.other if pending.to else work.side
                job.waiting.append(Waiting(*pending.waits_for, desk.mapping.flow, source, plan.rows[source].id, pending.row.key, now))
