"""Delete: carry over that a record is gone, by the flow's policy, counted before it is sent (law 10); end the bindings of merged records.

Nothing here runs without positive evidence. Each step may be done twice: the other side is written first, the binding ends last.
"""

from dataclasses import replace

from shared.core.binding import Binding, BindingState
from shared.core.deletes import FEW, admit, consequence, held_lately, keys_of_deletes, most_deletes, recent, unsynced
from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.core.plan import Desk
from shared.core.records import Row, Side, Value, Write, WriteKind, WriteResult
from shared.core.work import HeldDelete, Outcome
from shared.engine.jobs import DELETE, BatchWork, Job
from shared.engine.open_ends import OpenEnds
from shared.engine.scan import count_bound
from shared.engine.services import Services

_SOON = 5.0


class Delete:
    """The delete step: for the jobs whose record is gone, merged, back, or of no interest any more."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._open_ends = OpenEnds(services)

    async def run(self, work: BatchWork, desk: Desk, jobs: list[Job]) -> None:
        """Follow what reading found out; every job that is gone or merged ends here or is put off."""
        await self._in_step_again(work, [job for job in jobs if job.back or job.reopened])
        back = [job for job in jobs if job.back and job.binding]
        if back:
            await self._welcome_back(back)
        ends = [(job, self._ended(work, job)) for job in jobs if job.dismissed and job.binding]
        merged = [job for job in jobs if job.open and job.merged_into]
        for job in merged:
            job.conflicts[""] = ("match.merged", (job.merged_into,))
        gone = [job for job in jobs if job.open and job.gone]
        ends += [(job, self._ended(work, job)) for job in [*merged, *await self._followed(work, desk, gone)]]
        await self._end(work, ends)

    async def _in_step_again(self, work: BatchWork, jobs: list[Job]) -> None:
        """Call off the deletes of records that go on; one that Tandem meant to send counts as a user's if it comes later."""
        ids = [(side, record_id) for job in jobs for side, record_id in zip(Side, job.pair or (), strict=False) if record_id]
        if not ids:
            return
        ledger, mapping = self._services.ledger, work.mapping
        if mapping.on_delete in ("deactivate", "delete"):
            await ledger.clear_held(mapping.flow, ids)
        for side in Side if mapping.on_delete == "delete" else ():
            named = [record_id for at, record_id in ids if at is side]
            await ledger.forget_own_deletes(mapping.system(side), mapping.entity(side), named)

    async def _welcome_back(self, jobs: list[Job]) -> None:
        """Keep that records are there again."""
        for job, saved in zip(jobs, await self._services.ledger.save_bindings([b for job in jobs if (b := job.binding)]), strict=True):
            job.back = False
            if isinstance(saved, Binding):
                job.binding = saved
            else:
                self._not_saved(job, saved)

    async def _followed(self, work: BatchWork, desk: Desk, jobs: list[Job]) -> list[Job]:
        """Do what the policy says on the other side; return the jobs whose binding ends."""
        if not jobs:
            return []
        system, entity = work.mapping.system(work.side), work.mapping.entity(work.side)
        ours = await self._services.ledger.own_deletes(system, entity, [job.id for job in jobs])
        done: list[Job] = []
        counted: list[Job] = []
        writes: list[Job] = []
        for job in jobs:
            twin = job.rows.get(work.side.other)
            if twin is None or twin.merged_into or job.id in ours or job.binding is None or job.binding.state is not BindingState.BOUND:
                done.append(job)  # nothing survives, or the delete was Tandem's own and crosses no further flow
            elif work.mapping.on_delete not in ("deactivate", "delete"):
                writes.append(job)
            elif job.decided == DELETE and job.asked:
                writes.append(job)  # a person knows of the edits
            elif unsynced(desk, job.binding, work.side.other, twin):
                job.conflicts[""] = ("delete.meets_edits", ())
                await self._wait(work, job)
                await self._services.ledger.clear_held(work.mapping.flow, [(work.side, job.id)])  # asked about by itself now
            elif job.decided == DELETE:
                writes.append(job)  # a person said so: neither asked again nor counted
            else:
                counted.append(job)
        writes += await self._admitted(work, counted)
        if work.side.other in desk.closed:
            await self._hold(work, writes)
            return done
        return done + await self._written(work, writes)

    async def _admitted(self, work: BatchWork, jobs: list[Job]) -> list[Job]:
        """Count deletes before they are sent; hold those that are too many, and tell (law 10)."""
        if not jobs:
            return []
        ledger, flow, survivor = self._services.ledger, work.mapping.flow, work.side.other
        keys = keys_of_deletes(survivor, [job.rows[survivor].id for job in jobs])
        count = await ledger.delete_count(flow)
        now = self._services.clock()
        waiting = held_lately(await ledger.held_deletes(flow), now) - set(keys.values())
        few = recent(count, now) + len(waiting) + len(keys) <= FEW
        most = FEW if few else most_deletes(await count_bound(self._services, flow))
        counted, admitted = admit(count, list(keys.values()), now, most - len(waiting))
        if counted != count:
            await ledger.save_delete_count(counted)  # a lost race raises Stale: the batch is tried again
        held = [job for job in jobs if keys[job.rows[survivor].id] not in admitted]
        await self._hold(work, held)
        return [job for job in jobs if keys[job.rows[survivor].id] in admitted]

    async def _hold(self, work: BatchWork, jobs: list[Job]) -> None:
        """Leave deletes to a person, who sees them as one decision; the list is kept before the bindings say that they are on it."""
        if not jobs:
            return
        flow, survivor, now = work.mapping.flow, work.side.other, self._services.clock()
        await self._services.ledger.hold_deletes([HeldDelete(flow, work.side, job.id, job.rows[survivor].id, now) for job in jobs])
        for job in jobs:
            await self._wait(work, job)
        self._services.events("deletes_held", flow=flow, code="delete.held", side=work.side.value, records=float(len(jobs)))

    async def _wait(self, work: BatchWork, job: Job) -> None:
        """Leave the record as it is until a person has decided; the binding keeps that its row is gone."""
        assert job.binding is not None  # noqa: S101 - only bound records get here
        job.end(Outcome.CONFLICT)
        await self._open_ends.keep(work, [job])
        note = "c " if job.conflicts else ""
        saved = (await self._services.ledger.save_bindings([replace(job.binding, gone=(work.side,), note=note)]))[0]
        if isinstance(saved, Binding):
            job.binding = saved
        else:
            job.outcome = None
            self._not_saved(job, saved)

    async def _written(self, work: BatchWork, jobs: list[Job]) -> list[Job]:
        survivor = work.side.other
        writes: list[tuple[Job, Write]] = []
        done = []
        for job in jobs:
            twin = job.rows[survivor]
            columns = consequence(work.mapping, survivor, twin)
            job.deactivated = work.mapping.on_delete == "deactivate"
            if work.mapping.on_delete == "delete":
                writes.append((job, Write(WriteKind.DELETE, twin.id, {}, twin)))
            elif columns:
                writes.append((job, Write(WriteKind.UPDATE, twin.id, columns, twin)))
            else:
                done.append(job)
        if not writes:
            return done
        system, entity = self._services.system(work.mapping, survivor), work.mapping.entity(survivor)
        deleted = [write.id for _, write in writes if write.kind is WriteKind.DELETE]
        if deleted:
            await self._services.ledger.keep_own_deletes(system.name, entity, deleted)
        results = await system.write(entity, [write for _, write in writes])
        return done + [job for (job, write), result in zip(writes, results, strict=True) if self._arrived(work, job, write, result)]

    def _arrived(self, work: BatchWork, job: Job, write: Write, result: WriteResult) -> bool:
        """Tell whether the other record is as the policy wants it; else put the job off, or fail it."""
        error, met = result.error, result.before
        if error is None and (write.kind is WriteKind.DELETE or met is None or _same_but(write, met)):
            return True
        if isinstance(error, Denied):
            raise error
        if error is None or isinstance(error, Stale):
            job.gone = False  # somebody edited it meanwhile: look at the edit first
            job.put_off(_SOON, error or Stale(f"{work.mapping.system(work.side.other)}.changed_meanwhile", record_id=write.id))
        elif isinstance(error, Rejected):
            assert job.binding is not None  # noqa: S101 - only bound records get here
            job.binding = replace(job.binding, gone=(work.side,))  # saved with the note of the failure; not sent again by itself
            job.fail(error, Outcome.REJECTED)
        else:
            job.put_off(_SOON, error)
        return False

    def _ended(self, work: BatchWork, job: Job) -> Binding:
        """Return the tombstone that is left of a binding."""
        assert job.binding is not None  # noqa: S101 - the callers looked
        binding = job.binding
        if job.dismissed:
            return replace(binding, note="", gone=(*binding.gone, work.side) if job.gone else binding.gone)
        gone: tuple[Side, ...] = () if job.merged_into else (work.side,)
        survivor = work.side.other
        if not job.merged_into and (survivor not in job.rows or work.mapping.on_delete == "delete"):
            gone = tuple(side for side in Side if binding.id_on(side))
        return replace(
            binding,
            state=BindingState.ENDED,
            note="c " if job.conflicts else "",
            fields={},
            owner_batch="",
            deadline=None,
            reserved=(),
            gone=gone,
            merged_into=job.merged_into,
            creatio_stamp=None if Side.CREATIO in gone else binding.creatio_stamp,
            dynamics_stamp=None if Side.DYNAMICS in gone else binding.dynamics_stamp,
        )

    async def _end(self, work: BatchWork, ends: list[tuple[Job, Binding]]) -> None:
        """Save the ended bindings; what a person must know of them is kept first."""
        for job, _ in ends:
            if job.open:
                job.end(self._outcome(job))
        await self._open_ends.keep(work, [job for job, _ in ends])
        for (job, _), saved in zip(ends, await self._services.ledger.save_bindings([binding for _, binding in ends]), strict=True):
            if isinstance(saved, Binding):
                job.binding = saved
            else:
                job.outcome = None
                self._not_saved(job, saved)
        over = [binding for job, binding in ends if job.outcome is not None]
        held = [(side, record_id) for binding in over for side in binding.gone if (record_id := binding.id_on(side))]
        if held and work.mapping.on_delete in ("deactivate", "delete"):
            await self._services.ledger.clear_held(work.mapping.flow, held)

    def _outcome(self, job: Job) -> Outcome:
        if job.merged_into:
            return Outcome.OUT_OF_SCOPE
        return Outcome.DEACTIVATED if job.deactivated else Outcome.DELETED

    def _not_saved(self, job: Job, error: TandemError) -> None:
        if isinstance(error, (Stale, Transient)):
            job.put_off(_SOON, error)
        else:
            job.fail(error, Outcome.FAILED)


def _same_but(write: Write, met: Row) -> bool:
    """Tell whether the row met just before a write was the planned one, but for what the write sets (law 8)."""
    seen = write.seen.values if write.seen else {}
    changed: dict[str, Value] = {name: value for name, value in met.values.items() if name in seen and seen[name] != value}
    return not set(changed) - set(write.values)
