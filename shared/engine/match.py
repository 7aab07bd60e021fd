"""Match: find out whether a record without a binding has its twin on the other side already (law 7).

Reserve every key, then look, then decide. The reservation keeps two workers from creating the same record twice.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from shared.core.binding import Binding, BindingState
from shared.core.document import lacks_lines
from shared.core.errors import NotReady, Rejected
from shared.core.fingerprint import key_hash
from shared.core.match import MOST_HITS, Judgement, MatchKey, Verdict, hits, judge, keys_of, partings
from shared.core.plan import Desk
from shared.core.records import Row, Side
from shared.core.scope import in_scope
from shared.core.work import Outcome, RunKind
from shared.engine.jobs import REOPEN, BatchWork, Job, holder, reserved_of
from shared.engine.ports import System
from shared.engine.services import Services

_RESERVED_WAIT = 3.0
"""Seconds until a record is tried again whose key another one is being created under."""


class Match:
    """The match step for the unbound records of a batch."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def run(self, work: BatchWork, desk: Desk, jobs: list[Job]) -> list[Job]:
        """Judge unbound records: a twin sets binding and rows; return the jobs whose record is to be created."""
        wanted = [job for job in await self._leave_others(work, jobs) if self._takes_part(work, desk, job)]
        keys = {job.id: job.guarded(partial(keys_of, desk.mapping, work.side, job.rows[work.side], desk.context)) for job in wanted}
        wanted = [job for job in wanted if job.open]
        ours = await self._reserve(work, desk, wanted, keys)
        found = await self._find(work, desk, [(job, key) for job in ours for key in keys[job.id] or []])
        bound = await self._bindings_of_hits(work, found)
        left_out = self._left_out(work, desk, found)
        creates: list[Job] = []
        taken: set[str] = set()
        for job in (job for job in ours if job.open):
            judgement = judge(desk.mapping, work.side, found.get(job.id, []), bound, job.id, left_out, decided=job.decided == REOPEN)
            if judgement.row is not None and judgement.row.id in taken:
                judgement = Judgement(Verdict.WAIT)  # its twin of this batch binds first and is seen on the next look
            if judgement.row is not None:
                taken.add(judgement.row.id)
            await self._follow(work, job, judgement, bound, creates)
        await self._give_back([job for job in ours if job.reserved and not job.open])
        return creates

    async def _leave_others(self, work: BatchWork, jobs: list[Job]) -> list[Job]:
        """Return the jobs whose record belongs to no other flow with the same table."""
        taken = await self._taken(work, work.side, [job.id for job in jobs])
        for job in jobs:
            if job.id in taken:
                job.end(Outcome.OUT_OF_SCOPE)
        return [job for job in jobs if job.open]

    async def _taken(self, work: BatchWork, side: Side, ids: Collection[str]) -> dict[str, Binding]:
        """Return the bindings that other flows with the same table of Dynamics have of records: one record, one flow."""
        flows = self._services.mappings.flows.values()
        here = (work.mapping.system(side), work.mapping.entity(side))
        others = [one.flow for one in flows if one.flow != work.mapping.flow and (one.system(side), one.entity(side)) == here]
        taken: dict[str, Binding] = {}
        for flow in others if side is Side.DYNAMICS and ids else ():
            found = await self._services.ledger.bindings(flow, side, ids)
            taken |= {key: binding for key, binding in found.items() if binding.state is not BindingState.REFUSED}
        return taken

    def _takes_part(self, work: BatchWork, desk: Desk, job: Job) -> bool:
        row = job.rows[work.side]
        scope = in_scope(desk.mapping, work.side, row, desk.context) and not lacks_lines(desk.mapping, work.side, row)
        if work.side.other in desk.closed or not scope:
            job.end(Outcome.OUT_OF_SCOPE)
            return False
        if job.binding is not None and _is_as_refused(work, job, row):
            # Refused, or a conflict, as it is: an edit or a person brings it back (law 13). What is open stays noted.
            job.keeps_note = True
            job.end(Outcome.CONFLICT if "c " in job.binding.note else Outcome.REJECTED)
            return False
        return True

    async def _reserve(self, work: BatchWork, desk: Desk, jobs: list[Job], keys: Mapping[str, list[MatchKey] | None]) -> list[Job]:
        """Reserve the keys of jobs, all or none of each; return those that have theirs. The others wait for the holder in the way."""
        ledger, until = self._services.ledger, self._services.clock() + self._services.limits.create_deadline
        own = {job.id: holder(desk.mapping.flow, work.side, job.id) for job in jobs}
        names = {own[job.id]: sorted({self._reservation(work, desk, key) for key in keys[job.id] or []}) for job in jobs}
        others = {name: other for name, other in (await ledger.reserve(names, until)).items() if other is not None}
        freed = {name: names[name] for name, other in others.items() if await self._freed(names[name], name, other, until)}
        again = await ledger.reserve(freed, until) if freed else {}
        for job in jobs:
            name = own[job.id]
            other = again.get(name, others.get(name))
            if other is None:
                job.reserved, job.reserved_by = tuple(names[name]), name
            else:
                job.put_off(_RESERVED_WAIT, NotReady("match.reserved", f"held for {other}", record_id=job.id))
        return [job for job in jobs if job.open]

    async def _give_back(self, jobs: list[Job]) -> None:
        """Give back what is reserved for records that are neither bound nor created now."""
        if jobs:
            await self._services.ledger.release(reserved_of(jobs))
        for job in jobs:
            job.reserved = ()

    async def _freed(self, names: list[str], own: str, other: str, until: datetime) -> bool:
        """Free keys that their holder does not need any more (law 7).

        A holder that is bound, or ended, left them behind when its worker died; one without a binding loses them when they run out.
        """
        flow, side, record_id = other.split("|")
        binding = (await self._services.ledger.bindings(flow, Side(side), [record_id])).get(record_id)
        if binding is not None and binding.state in (BindingState.BOUND, BindingState.ENDED):
            await self._services.ledger.release({other: names})
            return True
        if binding is not None and binding.state is BindingState.CREATING:
            return False
        return await self._services.ledger.retake(names, own, other, until)

    def _reservation(self, work: BatchWork, desk: Desk, key: MatchKey) -> str:
        """Return a reservation's name: flows with the same target share it; it does not show the key's value."""
        system, entity = desk.mapping.system(work.side.other), desk.mapping.entity(work.side.other)
        secret = desk.keyring.key(desk.keyring.current)
        return key_hash(secret, "match", system, entity, *sorted(key.names), "=", *key.text)

    async def _find(self, work: BatchWork, desk: Desk, asked: list[tuple[Job, MatchKey]]) -> dict[str, list[list[Row]]]:
        if not asked:
            return {}
        side = work.side.other
        system = self._services.system(desk.mapping, side)
        entity, columns = desk.mapping.entity(side), desk.columns(side)
        found: dict[str, list[list[Row]]] = {}
        try:
            answers = await system.find(entity, [key.columns for _, key in asked], columns)
        except Rejected:  # one hit that can't be read spoils the search of all: ask key by key (law 13)
            answers = [await self._find_one(system, entity, job, key, columns) for job, key in asked]
        for (job, key), rows in zip(asked, answers, strict=True):
            lists = found.setdefault(job.id, [])
            equal = hits(key, rows)
            if key.is_loose and not equal and len(rows) >= MOST_HITS and not any(lists) and job.open:
                equal = await self._find_exactly(system, entity, job, key, columns)
            lists.append(equal)
        return found

    async def _find_exactly(self, system: System, entity: str, job: Job, key: MatchKey, columns: list[str]) -> list[Row]:
        """Ask again where a loose key had more hits than are shown: with every way in which the name may be parted."""
        answers = await system.find(entity, partings(key), columns)
        equal = {row.id: row for rows in answers for row in hits(key, rows)}
        if not equal and any(len(rows) >= MOST_HITS for rows in answers):
            job.conflicts[""] = ("match.ambiguous", ())  # its twin may be among those that were not shown
            job.end(Outcome.CONFLICT)
        return list(equal.values())

    async def _find_one(self, system: System, entity: str, job: Job, key: MatchKey, columns: list[str]) -> Sequence[Row]:
        try:
            return (await system.find(entity, [key.columns], columns))[0]
        except Rejected as error:
            if error.code.endswith(".unknown_entity"):  # no key can ever be asked: the flow stops
                raise
            job.fail(error, Outcome.FAILED)
            return []

    def _left_out(self, work: BatchWork, desk: Desk, found: dict[str, list[list[Row]]]) -> set[str]:
        """Return the hits that the flow's own conditions keep out, as employees among the contacts."""
        side = work.side.other
        return {row.id for lists in found.values() for rows in lists for row in rows if not in_scope(desk.mapping, side, row, desk.context)}

    async def _bindings_of_hits(self, work: BatchWork, found: dict[str, list[list[Row]]]) -> dict[str, Binding]:
        ids = {row.id for lists in found.values() for rows in lists for row in rows}
        if not ids:
            return {}
        own = await self._services.ledger.bindings(work.mapping.flow, work.side.other, ids)
        return {**await self._taken(work, work.side.other, ids), **own}

    async def _follow(self, work: BatchWork, job: Job, judgement: Judgement, bound: dict[str, Binding], creates: list[Job]) -> None:
        if judgement.verdict is Verdict.CREATE:
            creates.append(job)
            return
        match judgement.verdict:
            case Verdict.BIND:
                assert judgement.row is not None  # noqa: S101 - a twin comes with its row
                await self._bind(work, job, judgement.row, bound.get(judgement.row.id))
            case Verdict.WAIT:
                job.put_off(_RESERVED_WAIT, NotReady("match.reserved", record_id=job.id))
            case Verdict.ASK:
                job.conflicts[""] = ("match.ambiguous", judgement.candidates)
                job.end(Outcome.CONFLICT)
            case Verdict.SKIP:
                job.end(Outcome.OUT_OF_SCOPE)

    async def _bind(self, work: BatchWork, job: Job, twin: Row, refused: Binding | None) -> None:
        """Prepare the binding of a record and its twin. It is saved, create-only, before anything is written.

        When each has a refused binding of its own, the twin's is removed first; a crash in between only leaves it unbound.
        """
        if job.binding is not None and refused is not None:
            await self._services.ledger.forget_binding(refused)
        ids = {work.side: job.id, work.side.other: twin.id}
        old = job.binding or refused
        if refused is not None:
            job.noted = "\n".join(dict.fromkeys([*job.noted.splitlines(), *refused.note.splitlines()]))
        fresh = Binding(work.mapping.flow, BindingState.BOUND, None, None)
        creatio_id, dynamics_id = ids[Side.CREATIO], ids[Side.DYNAMICS]
        job.binding = replace(
            old or fresh, state=BindingState.BOUND, creatio_id=creatio_id, dynamics_id=dynamics_id, fields={}, source=None
        )
        job.rows[work.side.other] = twin
        job.first_outcome = Outcome.BOUND
        job.newly_bound = True


def _is_as_refused(work: BatchWork, job: Job, row: Row) -> bool:
    """Tell whether a record that could not be created is as it was then.

    A line may change without its document: the feed of lines names documents without a stamp.
    """
    if work.batch.kind is RunKind.REPLAY or (work.mapping.lines is not None and job.item.stamp is None):
        return False
    return job.binding is not None and job.binding.stamp_on(work.side) == row.stamp
