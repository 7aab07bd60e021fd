"""Dynamics 365 on Dataverse, as a `System`: change tracking in, `$batch` with `If-Match` out (dataverse.md).

One writer's mistake this module is built against: a lost reply is never answered by a second write. Each record of a batch gets its
own result; what was not answered is Transient, and the plan above reads again before it acts.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from shared.core.errors import Denied, Rejected, Stale, TandemError
from shared.core.records import Change, ChangePage, Entity, KeyRange, LinesOf, RangeBy, RangePage, Row, Value, Write, WriteResult, is_guid
from shared.systems import dataverse_looks as looks
from shared.systems import dataverse_ranges as key_ranges
from shared.systems import dataverse_resolutions as resolutions
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_bulk import BulkCreates
from shared.systems.dataverse_documents import Documents
from shared.systems.dataverse_errors import SYSTEM
from shared.systems.dataverse_identity import Identity, Whoami
from shared.systems.dataverse_metadata import Metadata
from shared.systems.dataverse_reads import Reads
from shared.systems.dataverse_service import FAILED, Service, bad_answer, members
from shared.systems.dataverse_tables import Table
from shared.systems.dataverse_writes import WriteRun, Writes, is_gone
from shared.systems.odata import PartAnswer
from shared.systems.web import Response, Web

_USERS_LIFETIME = 300.0
_WALK_ROWS = 5000
"""Rows a page of a complete walk, which are small: no more fit on one (dataverse.md 3)."""


class Dataverse:
    """The verbs of one environment. Ids are lower-case guids; a lookup is named by its logical name (see dataverse_tables)."""

    name = SYSTEM
    without_null = False

    def __init__(
        self,
        web: Web,
        *,
        page_size: int = 1000,
        read_size: int = 200,
        batch_size: int = 100,
        bulk_size: int = 500,
        metadata_lifetime: float = 3600.0,
        monotonic: Callable[[], float] = time.monotonic,
        new_boundary: Callable[[], str] = lambda: f"batch_{uuid.uuid4().hex}",
    ) -> None:
        """Take the transport; sizes in rows, ids, operations and rows of a bulk message, the lifetime in seconds."""
        self._web = web
        self._page_size = page_size
        self._batch_size = batch_size
        self._monotonic = monotonic
        self._service = Service(web, new_boundary)
        self._metadata = Metadata(self._service.definitions, lifetime=metadata_lifetime, monotonic=monotonic)
        self._whoami = Whoami(self._service.json, monotonic)
        self._reads = Reads(self._service, self._metadata, self._whoami, page_size=page_size, read_size=read_size)
        self._looks = looks.Looks(self._reads)
        self._writes = Writes(self._service, self._metadata, self._whoami, self._reads, batch_size=batch_size)
        self._documents = Documents(self._reads, self._whoami)
        self._resolutions = resolutions.Resolutions(self._reads, self._whoami)
        self._bulk = BulkCreates(self._service, self._metadata, self._reads, size=bulk_size)
        self._users: tuple[float, Mapping[str, str]] | None = None
        self._listing_users = asyncio.Lock()

    @property
    def sees_all(self) -> bool:
        """Return True: change tracking is refused without organisation-level read (dataverse.md 4)."""
        return True

    @property
    def tells_deletes(self) -> bool:
        """Return True: the delta feed names deleted rows."""
        return True

    async def identity(self) -> Identity:
        """Return who we are; raises Denied when the app is no member or the environment is closed."""
        return await self._whoami.identity()

    async def environment(self) -> str:
        """Return the organisation's id (law 12): it stays when the environment gets another address, and is another in a copy."""
        return f"organization/{(await self.identity()).organization_id}"

    async def exist(self, entity: str, ids: Collection[str]) -> Mapping[str, bool | None]:
        """Ask for each row by itself; False only where the server says that it does not exist (404 with the platform's code for it)."""
        table, _ = await self._reads.known(entity, ())
        wanted = list(dict.fromkeys(one.lower() for one in ids if is_guid(one)))
        answers: dict[str, bool | None] = dict.fromkeys(wanted)  # what is not answered stays None
        for start in range(0, len(wanted), self._batch_size):
            some = wanted[start : start + self._batch_size]
            parts = [(wire.exists_part(table, one, self._service.path),) for one in some]
            for one, answered in zip(some, await self._service.batch(parts, repeatable=True), strict=False):
                answers[one] = _is_there(answered[0]) if answered else None
        return answers

    async def describe(self, entity: str, columns: Collection[str], options: Collection[str]) -> Entity:
        """Return live metadata of the named columns, with choices of those in `options`; names that don't exist stand in `missing`."""
        names, own = resolutions.parted(entity, columns)
        described = await self._metadata.describe(entity, names, options)
        return replace(described, columns={**described.columns, **{name: resolutions.COLUMNS[name] for name in own}}) if own else described

    async def changes(
        self,
        entity: str,
        columns: Collection[str],
        position: str | None,
        since: datetime | None,
        *,
        lines: LinesOf | None = None,  # noqa: ARG002 - a line's change moves its document's totals and version
    ) -> AsyncIterator[ChangePage]:
        """Yield pages of the change-tracking chain; the position is the server's own link, sent back as it came (dataverse.md 4).

        The server allows no filter here, so `since` drops older rows of a first chain on this side. Rows that can't be understood are
        the page's `problems`. With paths among the columns it tells of the records behind whose lookups something changed, once an hour
        (see dataverse_looks). Raises Stale `delta_expired`, Denied `tracking_off`, and Transient `bad_answer` for a link seen twice.
        """
        table, names = await self._reads.known(entity, resolutions.parted(entity, columns)[0])
        if not table.definition.tracked:
            self._metadata.forget(entity)
            raise Denied(f"{SYSTEM}.tracking_off", system=SYSTEM, entity=entity)
        link, looked = looks.parted(position)
        size = f"odata.maxpagesize={self._page_size if link or names else max(self._page_size, _WALK_ROWS)}"
        prefer = size if link else f"odata.track-changes,{size}"
        url = link or f"{table.definition.set_name}?{wire.select(table, looks.own_columns(table, names))}"
        pages = self._chain(table, url, prefer, None if link else since)
        paths = looks.paths_of(table, names)
        async for page in self._looks.with_looks(pages, table, paths, looked) if paths else pages:
            yield page

    async def _chain(self, table: Table, url: str, prefer: str, oldest: datetime | None) -> AsyncIterator[ChangePage]:
        entity, seen = table.definition.name, {url}
        while True:
            response = await self._feed_page(entity, url, prefer)
            page = _change_page(response, table, oldest)
            yield page
            if page.complete:
                return
            if page.position in seen:
                raise bad_answer(entity, "the same page link came twice")
            seen.add(page.position)
            url = page.position

    async def ranges(
        self, entity: str, by: RangeBy, since: datetime | None, until: datetime | None, size: int, after: datetime | None = None
    ) -> AsyncGenerator[KeyRange, None]:
        """Yield key ranges of about `size` rows that together hold every row with since <= time < until.

        `after` goes on behind the `last` of a range. Only times and ids are read, in the largest pages; no row is in no range, one at the
        seam of two may be in both. The wire tells whole seconds (dataverse.md 9), so a range holds whole seconds: rows of one second are
        never parted, however many they are. A row that changes meanwhile gets a later time: it is in a later range, or in the change feed.
        """
        table, _ = await self._reads.known(entity, ())
        cutter = key_ranges.Cutter(table, by, size)
        url = key_ranges.times_url(table, by, since, until, after)
        async for raw in self._reads.rows(entity, url, f"odata.maxpagesize={_WALK_ROWS}"):
            if (full := cutter.add(raw)) is not None:
                yield full
        if (rest := cutter.rest()) is not None:
            yield rest

    async def read_range(self, entity: str, part: KeyRange, columns: Collection[str], position: str | None, size: int) -> RangePage:
        """Read a page of at most `size` rows of a range with the named columns, in a stable order; `position` is what the page before gave.

        The position is the server's own link, sent back as it came; it names the columns of the first page. Raises Rejected `bad_request`
        for a position that no page of this table gave.
        """
        us = await self._whoami.identity()
        bare, own = resolutions.parted(entity, columns)

        async def ask(table: Table, names: tuple[str, ...]) -> RangePage:
            url = key_ranges.checked_position(position, self._web.leads_here, self._service.path, table)
            prefer = wire.preferences(table, names, f"odata.maxpagesize={max(1, min(size, _WALK_ROWS))}")
            try:
                body = await self._service.json(url or key_ranges.range_url(table, names, part), prefer)
            except TandemError as error:
                raise self._metadata.noted(error, entity) from error.__cause__
            return key_ranges.range_page(body, table, names, us.user_id)

        page = await self._reads.with_columns(entity, (*bare, wire.STATE) if own else bare, ask)
        return replace(page, rows=await self._resolutions.added(page.rows, own, bare)) if own else page

    async def read(
        self, entity: str, ids: Collection[str], columns: Collection[str], *, lines: LinesOf | None = None
    ) -> Mapping[str, Row | TandemError]:
        """Read rows by id, some hundreds a request; columns that the table lacks are left out, ids that it does not show are absent.

        Lines come by queries of their own, after their documents: a line that is younger than its header is met again with it.
        """
        bare, own = resolutions.parted(entity, columns)
        rows = await self._reads.read(entity, ids, (*bare, wire.STATE) if own else bare)
        if own:
            rows = await self._resolutions.added(rows, own, bare)
        return rows if lines is None else await self._documents.with_lines(rows, lines)

    async def all_lines(self, lines: LinesOf) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Yield all lines, page by page; only ids are read."""
        async for page in self._documents.all_lines(lines):
            yield page

    async def find(self, entity: str, keys: Sequence[Mapping[str, Value]], columns: Collection[str]) -> Sequence[Sequence[Row]]:
        """Find rows by key, up to 50 hits a key. The server compares without case, and so does this; the caller decides what is equal.

        A key that names a missing column, or whose value can't be in its column, finds nothing. A hit that can't be read is Transient:
        it must not look like no hit.
        """
        bare, own = resolutions.parted(entity, columns)
        found = await self._reads.find(entity, keys, (*bare, wire.STATE) if own else bare)
        if not own:
            return found
        added = await self._resolutions.added({row.id: row for hits in found for row in hits}, own, bare)
        if (bad := next((row for row in added.values() if not isinstance(row, Row)), None)) is not None:
            raise bad_answer(entity, f"the resolution of a case can't be read ({bad.code})")
        return [[row for hit in hits if isinstance(row := added[hit.id], Row)] for hits in found]

    async def write(
        self, entity: str, writes: Sequence[Write], *, bulk: bool = False, lines: LinesOf | None = None
    ) -> Sequence[WriteResult]:
        """Write rows by `$batch` with continue-on-error; one result for each write, in order, with the row as the server now holds it.

        In a bulk run creates go by `CreateMultiple` where the table takes it (see dataverse_bulk). Updates and deletes never do: bulk
        messages know no row versions (dataverse.md 6.2), and law 8 wants `If-Match` on each.
        A failure of a whole request becomes the error of each of its records; only when nothing at all was sent does it raise.
        """
        texts = {place: text for place, write in enumerate(writes) if isinstance(text := write.values.get(resolutions.TEXT), str)}
        run = await self._writes.begin(entity, [resolutions.without_own(entity, write) for write in writes], lines, texts)
        if bulk and lines is None:
            await self._bulk.create(run)
        await self._writes.send(run)
        for place, result in run.results.items():
            if result.row is not None:
                run.results[place] = replace(result, row=resolutions.kept(entity, writes[place], result.row))
        await self._read_again(run, writes, lines)
        return [run.results[place] for place in range(len(writes))]

    async def _read_again(self, run: WriteRun, writes: Sequence[Write], lines: LinesOf | None) -> None:
        """Read documents that were just written, or closed by somebody before us; one that can't be read is Transient.

        A closing that was refused because it is done already has succeeded; with anything else beside it, it is planned again.
        """
        places = [*run.reread, *run.doubtful]
        if not places:
            return
        entity = run.table.definition.name
        columns = dict.fromkeys(name for place in places for name in wire.named_columns(writes[place]))
        try:
            rows = await self.read(entity, [writes[place].id for place in places], list(columns), lines=lines)
        except TandemError as error:
            rows = dict.fromkeys((writes[place].id for place in places), error)
        for place in places:
            write = writes[place]
            row = rows.get(write.id)
            if place in run.doubtful and not (isinstance(row, Row) and row.values.get(wire.STATUS) == write.values[wire.STATUS]):
                continue
            if place in run.doubtful and (write.lines or write.values.keys() - {wire.STATUS}):
                run.results[place] = WriteResult(write.id, error=Stale(f"{SYSTEM}.changed_meanwhile", system=SYSTEM, entity=entity))
            elif isinstance(row, Row):
                run.results[place] = WriteResult(write.id, row=wire.with_columns(row, wire.named_columns(write)))
            else:
                said = f"the row was not readable after the write ({row.code if row else 'absent'})"
                run.results[place] = WriteResult(write.id, error=bad_answer(entity, said, write.id))

    async def users(self) -> Mapping[str, str]:
        """Return enabled users with an e-mail: id to e-mail in lower case; kept for some minutes, since every batch asks."""
        async with self._listing_users:  # batches that start together ask once
            if self._users is None or self._monotonic() - self._users[0] >= _USERS_LIFETIME:
                self._users = (self._monotonic(), await self._list_users())
            return self._users[1]

    async def _list_users(self) -> Mapping[str, str]:
        url = "systemusers?$select=systemuserid,internalemailaddress&$filter=isdisabled%20eq%20false"
        found: dict[str, str] = {}
        async for raw in self._reads.rows("systemuser", url, f"odata.maxpagesize={self._page_size}"):
            key, address = raw.get("systemuserid"), raw.get("internalemailaddress")
            if isinstance(key, str) and isinstance(address, str) and address.strip():
                found[key.lower()] = address.strip().lower()
        return found

    async def close(self) -> None:
        """Close connections."""
        await self._web.close()

    async def _feed_page(self, entity: str, url: str, prefer: str) -> Response:
        try:
            return await self._service.get(url, prefer)
        except Rejected as error:
            self._metadata.noted(error, entity)
            gone = error.code == f"{SYSTEM}.unknown_column"  # the link names the columns of its first request
            if "://" in url and (gone or re.search(r"token|version stamp", error.said, re.IGNORECASE)):
                raise Stale(f"{SYSTEM}.delta_expired", error.said, system=SYSTEM, entity=entity, request_id=error.request_id) from None
            raise
        except TandemError as error:
            raise self._metadata.noted(error, entity) from error.__cause__


def _is_there(answer: PartAnswer) -> bool | None:
    if answer.status < FAILED:
        return True
    return False if is_gone(answer) else None


def _change_page(response: Response, table: Table, oldest: datetime | None) -> ChangePage:
    body = response.json()
    changes: list[Change] = []
    problems: list[TandemError] = []
    for raw in members(body, table.definition.name):
        try:
            change = wire.change_of(raw, table)
        except TandemError as error:
            problems.append(error)
            continue
        if oldest is None or change.stamp is None or change.stamp.time >= oldest:
            changes.append(change)
    following, delta = body.get("@odata.nextLink"), body.get("@odata.deltaLink")
    position = following or delta
    if not isinstance(position, str):
        raise bad_answer(table.definition.name, "a page of changes without nextLink and deltaLink")
    return ChangePage(changes, position, complete=not following, server_time=response.server_time, problems=tuple(problems))
