"""Creates of a bulk run by `CreateMultiple`: one table a call, all rows or none (dataverse.md 6.2).

    the table takes it?       asked once through `sdkmessagefilters`; if not, or if nobody may ask, everything goes by `$batch`
    200                       the rows are read back, for the answer holds ids only
    refused (4xx)             cut in two, down to a size below which `$batch` gives each row its own verdict
    too big (413)             cut in two, and later calls are smaller
    no right (403)            the rest goes by `$batch`, which tells a right that is missing for one row from one for all
    SQL timeout, other 5xx    Transient for all rows of the call, and later calls are smaller: so a row that makes the server fail
                              stands alone in the end, when the plan above asks again
    no answer                 the same: it may have been done, and is never sent again from here (law 6)
    429                       Transient for all rows, and nothing follows

Only creates: bulk messages know no row versions, so updates and deletes keep going by `$batch` with `If-Match` (law 8).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shared.core.errors import Denied, Rejected, TandemError, Transient
from shared.core.records import Row, WriteKind, WriteResult
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_documents import is_born_otherwise
from shared.systems.dataverse_errors import About, part_error
from shared.systems.dataverse_metadata import Metadata
from shared.systems.dataverse_reads import Reads
from shared.systems.dataverse_service import FAILED, Service, bad_answer, for_record, is_throttle, members
from shared.systems.dataverse_writes import WriteRun
from shared.systems.odata import text_literal, to_json
from shared.systems.web import Response

_MESSAGE = "CreateMultiple"
_SMALLEST = 25
"""Rows below which a call of its own does not pay: `$batch` writes and reads them back in one request."""
_MOST_REFUSED = 10
"""Refused calls after which the rest of a chunk goes by `$batch`: it has many bad rows, and cutting on costs more than it spares."""
_SLOWLY = 50
"""By this part of their size calls grow again after each that succeeds."""
_TOO_BIG = 413
_NO_RIGHT = 403
_UNSUPPORTED = frozenset({405, 501})

_Target = tuple[int, Mapping[str, Any]]


class BulkCreates:
    """Sends the creates of bulk runs; `size` is the most rows a call."""

    def __init__(self, service: Service, metadata: Metadata, reads: Reads, *, size: int) -> None:
        self._service = service
        self._metadata = metadata
        self._reads = reads
        self._most = max(size, _SMALLEST)
        self._size = self._most
        self._takes: dict[str, bool] = {}

    async def create(self, run: WriteRun) -> None:
        """Create what can be created in bulk and put the results in place; what has none afterwards goes by `$batch`.

        Raises Denied when nothing at all was done, as `Writes.send` does.
        """
        targets = self._targets(run)
        if len(targets) < _SMALLEST or not await self._is_taken(run.table.definition.name):
            return
        if self._size < _SMALLEST:  # not even the smallest call got through: this time row by row
            self._size = _SMALLEST
            return
        start = 0
        while start < len(targets):
            chunk = targets[start : start + self._size]
            start += len(chunk)
            if not await self._chunk(run, chunk):
                return

    def _targets(self, run: WriteRun) -> list[_Target]:
        """Return the rows that one operation creates. An id that stands twice goes by `$batch`, which keeps the order."""
        times = Counter(write.id for write in run.writes)
        targets: list[_Target] = []
        for place, write in enumerate(run.writes):
            if write.kind is not WriteKind.CREATE or times[write.id] > 1:
                continue
            if is_born_otherwise(write, run.table):
                continue
            try:
                target = wire.create_target(write, run.table, run.targets)
            except TandemError as error:
                run.results[place] = WriteResult(write.id, error=self._metadata.noted(error, run.table.definition.name))
                continue
            if target is not None:
                targets.append((place, target))
        return targets

    async def _is_taken(self, entity: str) -> bool:
        """Tell whether a table takes the message; asked once."""
        if entity not in self._takes:
            try:
                self._takes[entity] = await self._probe(entity)
            except Denied:  # who may not ask (now) can still write row by row
                return False
        return self._takes[entity]

    async def _probe(self, entity: str) -> bool:
        names = f"&@message={text_literal(_MESSAGE)}&@table={text_literal(entity)}"
        where = "sdkmessageid/name eq @message and primaryobjecttypecode eq @table".replace(" ", "%20")
        try:
            body = await self._service.json(f"sdkmessagefilters?$select=sdkmessagefilterid&$filter={where}{names}")
        except Rejected:
            return False
        return bool(members(body, entity))

    async def _chunk(self, run: WriteRun, chunk: Sequence[_Target]) -> bool:
        """Create the rows of a chunk in as few calls as its bad rows allow; tell whether it is worth while to go on with others."""
        open_parts = [chunk]
        refused = 0
        while open_parts:
            part = open_parts.pop()
            if run.stopped is not None:
                run.refuse([place for place, _ in part], run.stopped)
                continue
            if len(part) < _SMALLEST or refused >= _MOST_REFUSED:
                continue
            status = await self._call(run, part)
            if status == _NO_RIGHT or status in _UNSUPPORTED:
                self._takes[run.table.definition.name] = status == _NO_RIGHT
                return False
            if status:
                refused += 1
                middle = (len(part) + 1) // 2
                open_parts += [part[middle:], part[:middle]]
        return True

    async def _call(self, run: WriteRun, part: Sequence[_Target]) -> int:
        """Send one call and put its results in place; return the status of a refusal, which gives none: nothing was done."""
        set_name = run.table.definition.set_name
        places = [place for place, _ in part]
        body = to_json({"Targets": [target for _, target in part]})
        try:
            response = await self._service.post(f"{set_name}/Microsoft.Dynamics.CRM.{_MESSAGE}", body, len(part))
            if response.status < FAILED:
                self._check_ids(run, part, response)
        except TandemError as error:
            if isinstance(error, Denied) and not run.touched:
                raise
            self._give_up(run, places, error)
            return 0
        if response.status < FAILED:
            run.touched = True
            self._size = min(self._most, self._size + 1 + self._size // _SLOWLY)
            await self._read_back(run, places)
            return 0
        refusal = part_error(response.status, response.headers, response.content, About(run.table.definition.name, creates=True))
        if isinstance(refusal, Transient) and response.status not in _UNSUPPORTED:
            self._give_up(run, places, refusal)
            return 0
        if response.status == _TOO_BIG:
            self._shrink(len(places))
        return response.status

    def _give_up(self, run: WriteRun, places: Sequence[int], error: TandemError) -> None:
        """Make an error that of all rows of a call; nobody knows what was done, unless it was a throttle."""
        if not is_throttle(error):
            run.touched = True
            self._shrink(len(places))
        run.refuse(places, self._metadata.noted(error, run.table.definition.name))

    def _shrink(self, rows: int) -> None:
        self._size = min(self._size, rows) // 2

    def _check_ids(self, run: WriteRun, part: Sequence[_Target], response: Response) -> None:
        """Raise Transient `bad_answer` when the server does not name the ids that it was given: it may have made others."""
        entity, key = run.table.definition.name, run.table.definition.id_column
        body = response.json()
        ids = body.get("Ids") if isinstance(body, dict) else None
        if not isinstance(ids, list) or {str(one).lower() for one in ids} != {str(target[key]).lower() for _, target in part}:
            self._takes[entity] = False
            raise bad_answer(entity, "CreateMultiple did not answer with the ids that it was given")

    async def _read_back(self, run: WriteRun, places: Sequence[int]) -> None:
        """Read the new rows, so that each result carries its row as the server now holds it (stamp, normalised values)."""
        entity = run.table.definition.name
        columns = tuple(dict.fromkeys(name for place in places for name in wire.read_columns(run.writes[place], run.table)))
        try:
            found = await self._reads.read(entity, [run.writes[place].id for place in places], columns)
        except TandemError as error:
            if is_throttle(error):
                run.stopped = error
            found = {run.writes[place].id: for_record(error, entity, run.writes[place].id) for place in places}
        for place in places:
            write = run.writes[place]
            row = found.get(write.id)
            if isinstance(row, Row):
                names = wire.read_columns(write, run.table)
                run.results[place] = WriteResult(write.id, row=wire.with_columns(row, names))
            else:  # it is written, but with which values only another read can tell
                said = f"created, and not read back ({row.code})" if row is not None else "created, and not shown"
                run.results[place] = WriteResult(write.id, error=bad_answer(entity, said, write.id))
