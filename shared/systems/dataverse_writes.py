"""Writes by `$batch`: each record gets its own verdict, whatever became of the others (dataverse.md 6.1; design laws 6 and 8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.core.records import LinesOf, Write, WriteKind, WriteResult, is_guid
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_documents import LineTable, closes, document_parts, is_closed_by_action
from shared.systems.dataverse_errors import DOES_NOT_EXIST, SYSTEM, error_facts, part_error
from shared.systems.dataverse_identity import Whoami
from shared.systems.dataverse_metadata import Metadata
from shared.systems.dataverse_reads import Reads
from shared.systems.dataverse_service import FAILED, Service, bad_answer, for_record, is_throttle, single
from shared.systems.dataverse_tables import Table
from shared.systems.odata import Part, PartAnswer
from shared.systems.web import Response

_NOT_FOUND = 404
_OVERTAKEN = (f"{SYSTEM}.duplicate", f"{SYSTEM}.not_found")
_Asked = tuple[int, tuple[Part, ...]]


@dataclass
class WriteRun:
    """One call of `write`: what goes where, and what became of it so far.

    `stopped` is why nothing more may be sent; `touched` says that something was done, or may have been.
    """

    table: Table
    writes: Sequence[Write]
    targets: wire.Targets
    us: str
    lines: LineTable | None = None
    """Where the lines of documents stand."""
    texts: Mapping[int, str] = field(default_factory=dict)
    """By place, what the resolution of a case says."""
    reread: list[int] = field(default_factory=list)
    """Documents that were written: what the server made of them only another read tells."""
    doubtful: list[int] = field(default_factory=list)
    """Documents whose closing was refused: it may have been done already, which only another read tells."""
    results: dict[int, WriteResult] = field(default_factory=dict)
    stopped: TandemError | None = None
    touched: bool = False

    def refuse(self, places: Sequence[int], error: TandemError) -> None:
        """Give the error of a whole request to each of its records; a missing right and a throttle stop what follows."""
        for place in places:
            record_id = self.writes[place].id
            self.results[place] = WriteResult(record_id, error=for_record(error, self.table.definition.name, record_id))
        if isinstance(error, Denied) or is_throttle(error):
            self.stopped = error


class Writes:
    """Sends batches; sizes in operations."""

    def __init__(self, service: Service, metadata: Metadata, whoami: Whoami, reads: Reads, *, batch_size: int) -> None:
        self._service = service
        self._metadata = metadata
        self._whoami = whoami
        self._reads = reads
        self._batch_size = batch_size

    async def begin(
        self, entity: str, writes: Sequence[Write], lines: LinesOf | None = None, texts: Mapping[int, str] | None = None
    ) -> WriteRun:
        """Look up all that the writes need: columns, who we are, and where their lookups and those of their lines lead."""
        names = {name for write in writes for name in wire.named_columns(write)}
        table, us = await self._metadata.table(entity, {*names, *wire.MERGE_COLUMNS}), await self._whoami.identity()
        targets, line_table = await self._targets(table, writes), await self._line_table(writes, lines)
        return WriteRun(table, writes, targets, us.user_id, line_table, texts or {})

    async def _line_table(self, writes: Sequence[Write], lines: LinesOf | None) -> LineTable | None:
        if lines is None:
            return None
        table = await self._metadata.table(lines.entity, (*lines.columns, lines.parent))
        if table.lacking({lines.parent}) or lines.parent in table.absent:
            raise Rejected(f"{SYSTEM}.unknown_column", lines.parent, system=SYSTEM, entity=lines.entity, field=lines.parent)
        known = [Write(WriteKind.UPDATE, key, values) for write in writes for key, values in write.lines.items() if values is not None]
        return LineTable(table, lines.parent, await self._targets(table, known))

    async def send(self, run: WriteRun) -> None:
        """Send what has no result yet, in order. Raises what refused the very first request of the run, when nothing at all was done."""
        asked = self._asked(run)
        for chunk in _batches(asked, self._batch_size):
            places = [place for place, _ in chunk]
            if run.stopped is not None:
                run.refuse(places, run.stopped)
                continue
            error = await self._send_chunk(run, chunk)
            if error is not None:
                if isinstance(error, Denied) and not run.touched:
                    raise error
                run.refuse(places, error)
            run.touched = True

    def _asked(self, run: WriteRun) -> list[_Asked]:
        asked: list[_Asked] = []
        for place, write in enumerate(run.writes):
            if place in run.results:
                continue
            try:
                parts = document_parts(write, run.table, run.targets, self._service.path, run.lines, run.texts.get(place))
            except TandemError as error:
                run.results[place] = WriteResult(write.id, error=self._metadata.noted(error, run.table.definition.name))
                continue
            if parts:
                asked.append((place, parts))
            else:
                run.results[place] = WriteResult(write.id, row=write.seen)
        return asked

    async def _send_chunk(self, run: WriteRun, chunk: Sequence[_Asked]) -> TandemError | None:
        """Send one batch and put its results in place; return the error when the request failed as a whole."""
        entity = run.table.definition.name
        try:
            answers = await self._service.batch([parts for _, parts in chunk])
        except TandemError as error:
            return self._metadata.noted(error, entity)
        for index, (place, parts) in enumerate(chunk):
            answered = answers[index] if index < len(answers) else []
            run.results[place] = result = _result(run, place, answered, len(parts))
            if result.error is not None:
                self._metadata.noted(result.error, entity)
                if isinstance(result.error, Transient) and result.error.retry_after:
                    self._service.pause(result.error.retry_after)
        return None

    async def _targets(self, table: Table, writes: Sequence[Write]) -> wire.Targets:
        """Find the set names of all lookup targets, and for lookups with several tables the one that holds each id."""
        needed: set[str] = set()
        doubtful: dict[tuple[str, ...], set[str]] = {}
        for write in writes:
            for name, value in write.values.items():
                attribute = table.attributes.get(name)
                if attribute is None or not attribute.navigation or not (isinstance(value, str) and is_guid(value)):
                    continue  # nothing to find; what is wrong about it is said for each record
                possible = wire.possible_targets(attribute)
                needed |= set(possible)
                if len(possible) > 1:
                    doubtful.setdefault(possible, set()).add(value)
        definitions = {target: await self._metadata.definition(target) for target in sorted(needed)}
        tables: dict[str, str] = {}
        for possible, ids in doubtful.items():
            for target in possible[:-1]:  # what is in none of the others must be in the last, or the server says so
                found = await self._reads.read(target, sorted(ids - tables.keys()), ())
                tables |= dict.fromkeys(found, target)
            tables |= dict.fromkeys(ids - tables.keys(), possible[-1])
        return wire.Targets({target: definition.set_name for target, definition in definitions.items()}, tables)


def _of_lines(write: Write, error: TandemError) -> TandemError:
    """Return the error of a document: a line that is there already, or gone already, says that another worker was first."""
    said = error.said.lower()
    gone = "does not exist" in said and any(key in said for key in write.lines)
    if write.kind is not WriteKind.UPDATE or not write.lines or not (gone or error.code in _OVERTAKEN):
        return error
    code = f"{SYSTEM}.changed_meanwhile"
    return Stale(code, error.said, system=SYSTEM, entity=error.entity, record_id=write.id, request_id=error.request_id)


def _is_document(run: WriteRun, write: Write) -> bool:
    """Tell whether a write's last answer may not be its row as it is now: lines or a state came with it."""
    states = closes(run.table) and wire.STATUS in write.values
    return write.kind is not WriteKind.DELETE and (states or wire.moves_paths(write) or (run.lines is not None and bool(write.lines)))


def _result(run: WriteRun, place: int, answers: Sequence[PartAnswer], expected: int) -> WriteResult:  # noqa: PLR0911 - one line a finding reads best
    table, write = run.table, run.writes[place]
    for answer in answers:
        if answer.status >= FAILED:
            if write.kind is WriteKind.DELETE and is_gone(answer):
                return WriteResult(write.id)  # done already, by whomever
            error = _of_lines(write, part_error(answer.status, answer.headers, answer.content, wire.about(write, table)))
            if isinstance(error, Rejected) and write.kind is WriteKind.UPDATE and is_closed_by_action(write, table):
                run.doubtful.append(place)
            return WriteResult(write.id, error=error)
    if len(answers) < expected:
        return WriteResult(write.id, error=bad_answer(table.definition.name, "the reply has no answer for it", write.id))
    if write.kind is WriteKind.DELETE:
        return WriteResult(write.id)
    if _is_document(run, write):
        run.reread.append(place)
        return WriteResult(write.id)
    last = Response(SYSTEM, answers[-1].status, httpx.Headers(dict(answers[-1].headers)), answers[-1].content)
    try:
        row = wire.row_of(single(last.json(), table), table, wire.read_columns(write, table), run.us)
    except TandemError as error:  # it is written, but with which values only another read can tell
        said = f"the row came back unreadable ({error.code} {error.field})"
        return WriteResult(write.id, error=bad_answer(table.definition.name, said, write.id))
    return WriteResult(write.id, row=wire.with_paths(row, write))


def is_gone(answer: PartAnswer) -> bool:
    """Tell whether the server says that the row does not exist: 404 with the platform's code for it."""
    return answer.status == _NOT_FOUND and error_facts(answer.content)[0] == DOES_NOT_EXIST


def _batches(asked: Sequence[_Asked], most: int) -> list[list[_Asked]]:
    """Split the operations into batches; the two of a change set stay together."""
    batches: list[list[_Asked]] = []
    count = 0
    for item in asked:
        if not batches or count + len(item[1]) > most:
            batches.append([])
            count = 0
        batches[-1].append(item)
        count += len(item[1])
    return batches
