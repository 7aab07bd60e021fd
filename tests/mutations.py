"""Break each law on purpose, one fault at a time, and expect the tests of the engine to turn red.

    python -m tests.mutations            all faults
    python -m tests.mutations 7          only law 7

Each fault replaces one piece of text in a copy of the code; a piece that is not found exactly once is an error of this list.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

LAWS = (
    *("laws_fields", "laws_records", "laws_references", "laws_deletes", "laws_whole", "laws_people"),
    *("troubles", "open_ends", "put_off", "overtaken", "late_writes", "histories", "bulk", "documents", "documents_endings"),
    *("default_owner", "looks"),
)
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Fault:
    """A deliberate breach of a law: `old` becomes `new` in `file`."""

    law: int
    what: str
    file: str
    old: str
    new: str


FAULTS = (
    Fault(1, "a change on the Dynamics side is not looked for", "core/plan.py",
          "            and state.dynamics == dynamics_print\n", ""),
    Fault(1, "an older key is not used to verify", "core/plan.py", "if state is not None and state.key_id != key_id:", "if False:"),
    Fault(1, "an unknown key is taken for the current one", "core/fingerprint.py",
          'raise Denied("ledger.unknown_key", f"key id {key_id}") from None', "return self.keys[self.current]"),
    Fault(1, "a value is compared with the other side's base", "core/merge.py",
          "    if question.face(side).stored_print == base:\n", "    if question.face(side.other).stored_print == base:\n"),
    Fault(2, "a column that was removed and made again empties the other side", "core/merge.py",
          "Standing.UNKNOWN if was_away and", "Standing.UNKNOWN if False and"),
    Fault(2, "an empty side wins over a filled one", "core/merge.py",
          "return _write(question, state, empty[0])", "return _write(question, state, empty[0].other)"),
    Fault(2, "an empty source blanks a filled receiver", "core/merge.py",
          "if not carries and not is_empty(question.face(row.source.other).value):", "if False:"),
    Fault(2, "who stands in for somebody unknown takes a record from its owner", "core/merge.py",
          "if converted.state is State.KEPT or stands_in:", "if converted.state is State.KEPT:"),
    Fault(3, "the owner loses", "core/merge.py", "Side(question.owner).other)", "Side(question.owner))"),
    Fault(3, "`ask` does not ask", "core/merge.py", 'if question.owner == "ask":', "if False:"),
    Fault(3, "a one-way row is not put back", "core/merge.py",
          "return _write(question, state, side, restores=True)\n\n\ndef _by_owner",
          "return FieldDecision(row, Action.NOTHING, settled(question, state))\n\n\ndef _by_owner"),
    Fault(3, "kept drift is put back", "core/merge.py", 'if row.drift == "keep":', "if False:"),
    Fault(4, "a normalisation is taken for an edit", "core/merge.py", "if target.changed_by_us:", "if False:"),
    Fault(4, "a user's edit after an unanswered write goes to the owner", "core/merge.py",
          "return _with_bases(state, state.sent), {state.sent_to: Standing.CHANGED}",
          "return state._replace(sent=None, sent_to=None, sent_source=None), {}"),
    Fault(4, "no intent is kept before a write", "engine/apply.py",
          "intents = [intent(job.plan, work.batch.run, now) for job in writing if job.plan]",
          "intents = [job.plan.binding for job in writing if job.plan]"),
    Fault(4, "the base is the value sent, not the value found", "core/plan.py",
          "decision.value if edited else found)", "decision.value)"),
    Fault(5, "every record of a bound pair is an echo", "core/binding.py",
          "BindingState.BOUND and self.stamp == stamp", "BindingState.BOUND"),
    Fault(5, "no echo is dropped by its stamp", "engine/sync.py", "seen.is_echo(job.item.stamp):", "False:"),
    Fault(5, "a stale row is merged", "engine/read.py", "return (announced is not None", "return False and (announced is not None"),
    Fault(6, "each attempt makes another id", "engine/create.py",
          'return str(uuid.uuid5(_NAMESPACE, f"{flow}|{source_id}|{generation}"))', "return str(uuid.uuid4())"),
    Fault(6, "a refused create is not looked for", "engine/create.py",
          "there = await system.read(entity, wanted, desk.columns(target), lines=lines_of(desk.mapping, target))",
          "there: dict[str, Row] = {}"),
    Fault(6, "an open create of another worker is not respected", "engine/read.py",
          "return not own and binding.deadline is not None and binding.deadline > self._services.clock()", "return False"),
    Fault(6, "a refused record is tried again as it is", "engine/match.py",
          "if job.binding is not None and _is_as_refused(work, job, row)", "if False"),
    Fault(7, "nothing is looked for before a create", "core/match.py",
          "for rows in found:\n        if not rows:", "for rows in found:\n        if True:"),
    Fault(7, "keys are not reserved", "engine/match.py",
          "for name, other in (await ledger.reserve(names, until)).items() if other is not None}", "for name, other in ()}"),
    Fault(7, "the first of several hits is bound", "core/match.py", "if len(rows) == 1 and free:", "if free:"),
    Fault(7, "reservations are kept for ever", "engine/record.py",
          "done = [job for job in jobs if job.reserved and", "done = [job for job in jobs if False and"),
    Fault(8, "a write does not carry the row it was planned from", "engine/apply.py",
          "header, plain if plan.desk.mapping.lines else seen, lines)", "header, None, lines)"),
    Fault(8, "an edit that our write covered is forgotten", "engine/apply.py",
          "if result is None or result.before is None or Side.CREATIO not in written:", "if True:"),
    Fault(8, "an edit beside our write is taken as seen", "core/plan.py",
          "moved[side] = True\n        if decision is None:", "pass\n        if decision is None:"),
    Fault(8, "a mismatch counts as written", "engine/apply.py",
          "if isinstance(result.error, Stale):\n                return True", "if False:\n                return True"),
    Fault(8, "what the echo check met counts in later looks too", "engine/read.py", "work.known.pop(job.id)", "work.known[job.id]"),
    Fault(9, "nobody is woken", "engine/record.py",
          "await wake(self._services, rows, self._follow_up(work))", "pass"),
    Fault(9, "the record that is waited for is not asked for", "engine/record.py",
          "await self._fetch(work, [row for row in unmet if row in work.fresh])", "pass"),
    Fault(9, "a reference that can't be followed yet is written as empty", "core/merge.py",
          "    if converted.state is State.PENDING:", "    if False:"),
    Fault(9, "the twin of a link that moved is not looked up", "core/plan.py",
          "            yield rule.flow, side, value", "            yield from ()"),
    Fault(9, "a record that must wait is created all the same", "engine/create.py", "if plan.must_wait:", "if False:"),
    Fault(10, "a tombstone is forgotten", "engine/delete.py",
          "            state=BindingState.ENDED,\n            note=", "            state=BindingState.REFUSED,\n            note="),
    Fault(10, "`keep` deletes", "core/deletes.py", 'if mapping.on_delete == "unlink":', 'if mapping.on_delete in ("unlink", "keep"):'),
    Fault(10, "`deactivate` changes nothing", "core/deletes.py",
          "columns = dict(mapping.inactive_on(survivor))", "columns = {}"),
    Fault(10, "`delete` leaves the survivor", "engine/delete.py",
          "writes.append((job, Write(WriteKind.DELETE, twin.id, {}, twin)))", "done.append(job)"),
    Fault(10, "any number of deletes a day is carried over", "core/deletes.py",
          "if fresh and len(sent) + len(fresh) <= most:", "if fresh:"),
    Fault(10, "deletes are not counted before they are sent", "engine/delete.py", "if counted != count:", "if False:"),
    Fault(10, "absence from one read is a delete", "engine/compare.py",
          "twice = set(absent) & set(before.absent if before else ())", "twice = set(absent)"),
    Fault(10, "absence counts without the right to see all", "engine/compare.py",
          "if not twice or not system.sees_all:", "if not twice:"),
    Fault(10, "an absent record is not asked for by itself", "engine/compare.py",
          "if answers.get(record_id) is False)", "if record_id in answers)"),
    Fault(10, "a row that is not shown is deleted without evidence", "engine/read.py",
          "evidence = job.item.deleted or work.side in binding.gone", "evidence = True"),
    Fault(10, "a delete that meets edits is carried over", "engine/delete.py",
          "elif unsynced(desk, job.binding, work.side.other, twin):", "elif False:"),
    Fault(10, "a delete by Tandem crosses a further flow", "engine/delete.py", "or job.id in ours or", "or"),
    Fault(10, "what Tandem deletes is not kept before", "engine/delete.py",
          "await self._services.ledger.keep_own_deletes(system.name, entity, deleted)", "pass"),
    Fault(10, "a record that reappears is merged", "engine/read.py",
          'job.conflicts[""] = ("delete.reappeared", ())\n            job.end(Outcome.CONFLICT)',
          "job.end(Outcome.OUT_OF_SCOPE)"),
    Fault(10, "a merged record stays bound", "engine/read.py",
          "if merged and job.open and binding.state is BindingState.BOUND:", "if False:"),
    Fault(10, "what is created again may be taken for the record that is gone", "core/deletes.py",
          "generation=binding.generation + 1,", "generation=binding.generation,"),
    Fault(11, "the watermark overtakes the queue", "engine/poll.py",
          "            await self._enqueue(mapping, side, run, page, held=held)\n            if page.complete and held:",
          "            if page.complete and held:"),
    Fault(11, "an expired token starts no compare", "engine/poll.py",
          "            await self._restart(mapping, state, side, expired.code)\n", ""),
    Fault(11, "other columns go on with the old chain", "engine/poll.py",
          "position = mark.position if mark and mark.columns == read else None", "position = mark.position if mark else None"),
    Fault(11, "other columns start no compare", "engine/poll.py",
          'await self._restart(mapping, state, side, "columns")', "pass"),
    Fault(11, "a compare does not look at stamps", "engine/compare.py",
          "odd = [change for change in live if sighting(change.id, change.stamp) not in known.as_seen]",
          "odd = [change for change in live if change.id not in known.ids]"),
    Fault(11, "a side without deletes in its feed is never compared", "core/schedule.py",
          "return not tells_deletes and now - census.at >= interval", "return False"),
    Fault(12, "another environment is taken", "engine/environment.py", "elif pin.value != met:", "elif False:"),
    Fault(12, "a batch does not look at the environment", "engine/sync.py",
          "            await check_environments(services, mapping, state)\n", ""),
    Fault(12, "a mass change is not held", "engine/poll.py",
          "held = await self._must_hold(mapping, page) if held is None else held", "held = False"),
    Fault(12, "a count of long ago tells that there are enough bindings", "engine/scan.py",
          "bound if now - at < _COUNT_LASTS else 0", "bound"),
    Fault(12, "the gate lets everything through", "engine/gate.py",
          "earlier=earlier) if changed > most else None", "earlier=earlier) if False else None"),
    Fault(12, "touched records count as changed", "engine/gate.py",
          "jobs = [job for job in await self._rehearse.plan(work, desk) if has_changed(job)]",
          "jobs = list(await self._rehearse.plan(work, desk))"),
    Fault(12, "a flow that asks goes on", "core/schedule.py",
          "asks = settings.asking is not None and (own or", "asks = False and (own or"),
    Fault(12, "a rebase merges", "engine/jobs.py", 'return {"": work.side, **decided} if work.batch.kind is RunKind.REBASE else decided',
          "return decided"),
    Fault(12, "new records are dropped with what a rebase makes needless", "engine/walk.py",
          "await release(self._services, batch, batch.kind)",
          "await self._services.ledger.save_batch(replace(batch, items=[], state=BatchState.CLOSED))"),
    Fault(12, "a dry run writes", "engine/sync.py", "            if batch.dry:", "            if False:"),
    Fault(12, "a walk whose message got lost is never ended", "engine/watch.py", 'if not depths.get("polls"):', "if False:"),
    Fault(12, "a rebase waits for what it woke", "engine/record.py",
          "if work.batch.kind is RunKind.SCHEDULED else self._services.new_id()", "if True else self._services.new_id()"),
    Fault(13, "a failure is forgotten with an echo", "engine/sync.py", "                job.keeps_note = True\n", ""),
    Fault(13, "one refused field takes its record along", "engine/apply.py",
          "return self._named(plan, side, error) & set(sent) or set(sent)", "return set(sent)"),
    Fault(13, "a refused value is sent again", "core/merge.py", "if state and state.refused is not None and", "if state and False and"),
    Fault(13, "a missing required field is written as empty", "core/plan_create.py",
          "if converted.state is State.VALUE and rule.required and is_empty(converted.value):", "if False:"),
    Fault(13, "a waiting link that is refused is forgotten", "core/plan.py", "sent_to=waits_on)", "pending=False)"),
    Fault(9, "a waiting link whose write got lost is forgotten", "core/merge.py",
          "earlier=doubtful, sent_to=state.sent_to if state.pending else None)", "earlier=doubtful, pending=False)"),
    Fault(13, "edits made while a column was missing are forgotten", "engine/sync.py", "if told & rows and pin is not None:", "if False:"),
    Fault(11, "a second cut of a bulk run skips what fell between the ranges", "engine/bulk.py",
          "return there.part if there is not None and there.part is not None else part", "return part"),
    Fault(11, "a bulk run's slice begins anew instead of behind its last range", "engine/bulk.py",
          '{"position": at.isoformat() if at else ""}', '{"position": ""}'),
    Fault(11, "a page is turned before what is left of it was put aside", "engine/pages.py",
          "        await self._put_aside(batch, left, delay)\n", ""),
    Fault(11, "a range ends with its first page", "engine/pages.py", "if page.following is None:", "if True:"),
    Fault(12, "a bulk run goes on while its flow asks", "core/schedule.py",
          "asks = settings.asking is not None and (own or kind is RunKind.BULK)", "asks = settings.asking is not None and own"),
    Fault(5, "a row of a page that was seen is merged again", "engine/read.py",
          "Seen(binding.stamp_on(side), binding.state).is_echo(row.stamp)", "False"),
    Fault(5, "every row of a page that is bound is an echo", "engine/read.py",
          "Seen(binding.stamp_on(side), binding.state).is_echo(row.stamp)", "binding.state is BindingState.BOUND"),
    Fault(13, "half a document is written while a line can't be", "core/document.py", "    if not stuck:\n", "    if True:\n"),
    Fault(7, "a document gets our lines beside those that stand there", "core/document.py",
          "    return sum(1 for name in dynamics.values if", "    return sum(0 for name in dynamics.values if"),
    Fault(6, "a line gets another id each time it is written", "core/document.py",
          'return str(uuid.uuid5(_NAMESPACE, f"{flow}|{creatio_line}"))', "return str(uuid.uuid4())"),
    Fault(9, "a document is created without the line that waits", "core/plan_create.py",
          "isinstance(row, LineRow) or (isinstance(row, ReferenceRow)", "(isinstance(row, ReferenceRow)"),
    Fault(14, "different totals are no failure", "core/document.py",
          "        if abs(creatio - dynamics) > total.tolerance:\n", "        if False:\n"),
    Fault(13, "a new document is created without its bad line", "core/plan_create.py",
          "problem.row.required or isinstance(problem.row, LineRow)", "problem.row.required"),
    Fault(13, "a document that is mended in a line alone stays refused", "engine/match.py",
          " or (work.mapping.lines is not None and job.item.stamp is None)", ""),
    Fault(13, "totals are told as different while somebody adds a line", "engine/sync.py",
          "return now.stamp == read.stamp and same_amounts and now.lines == read.lines", "return now.stamp == read.stamp"),
    Fault(14, "a fight goes on for ever", "core/merge.py",
          "if counts and question.leading is None and _recent_writes(state, question.at) >= MOST_WRITES:", "if False:"),
    Fault(14, "a person's edits count as a fight", "core/merge.py",
          "counts = restores or source.changed_by_us", "counts = True"),
    Fault(14, "a person can't end a fight", "core/merge.py",
          "if counts and question.leading is None and", "if counts and"),
    Fault(14, "a message raises its attempt before it is sent", "engine/record.py",
          "await self._services.queues.send(queue_of(batch.kind), message, delay)\n"
          "        await self._save(replace(again, state=BatchState.OPEN))",
          "await self._save(replace(again, state=BatchState.OPEN))\n"
          "        await self._services.queues.send(queue_of(batch.kind), message, delay)"),
    Fault(14, "a poll without changes saves its position", "engine/poll.py", "return page.position != mark.position and", "return True or"),
)  # fmt: skip


def main(argv: list[str]) -> int:
    """Apply the faults one by one; return 0 when every one of them is caught."""
    chosen = [fault for fault in FAULTS if not argv or str(fault.law) in argv]
    survivors = 0
    for number, fault in enumerate(chosen, 1):
        caught = _is_caught(fault)
        survivors += not caught
        verdict = "caught  " if caught else "SURVIVED"
        print(f"{number:3} of {len(chosen)}  law {fault.law:2}  {verdict}  {fault.what}", flush=True)  # noqa: T201 - a command
    print(f"{len(chosen) - survivors} passed, {survivors} failed")  # noqa: T201 - as above
    return 1 if survivors else 0


def _is_caught(fault: Fault) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "shared", copy / "shared")
        shutil.copytree(ROOT / "tests" / "engine", copy / "tests" / "engine")
        shutil.copy(ROOT / "pyproject.toml", copy)
        file = copy / "shared" / fault.file
        text = file.read_text(encoding="utf-8")
        if text.count(fault.old) != 1:
            raise SystemExit(f"law {fault.law}, {fault.what}: the text to break stands {text.count(fault.old)} times in {fault.file}")
        file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", "200"]
        command += ["--hypothesis-profile", "faults", *(f"tests/engine/test_{name}.py" for name in (*LAWS, "converges"))]
        return subprocess.run(command, cwd=copy, capture_output=True, check=False, timeout=600).returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
