"""Creatio as a system that can be polled, read, searched and written (OData 4: reference page creatio.md)."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from shared.core.errors import Denied, Rejected, TandemError, Transient
from shared.core.records import (
    ChangePage,
    Entity,
    KeyRange,
    LinesOf,
    RangeBy,
    RangePage,
    Row,
    Value,
    Write,
    WriteResult,
    is_empty,
    is_guid,
)
from shared.systems.creatio_csdl import Model
from shared.systems.creatio_errors import Asked, about, bad_answer, failed
from shared.systems.creatio_feed import Feed
from shared.systems.creatio_lines import LINES_A_DOCUMENT, one_feed, parted, with_lines
from shared.systems.creatio_ranges import Cutter, cutting_walk, reading_walk
from shared.systems.creatio_schema import Schema
from shared.systems.creatio_service import Service, creatio_error, is_there, rows_of
from shared.systems.creatio_wire import (
    MOST_IDS,
    MOST_PARTS,
    Rows,
    checked_filter,
    chunks,
    collection_url,
    folded,
    grouped_filters,
    read_id,
    read_row,
    record_url,
    text_filter,
    unknown_column,
    users_expand,
    with_lookups,
)
from shared.systems.creatio_writes import ALWAYS, WriteBatch, batches, parsed_rows, rows_url
from shared.systems.web import Response, Web

__all__ = ["Creatio", "creatio_error"]

MOST_WRITES: Final = 88
"""Records that one batch writes at most: with 6 reads before and 6 after, of 15 records each, they are its 100 parts."""
_MOST_HITS = 50
_WALK_ROWS = 5000
_USERS = "SysAdminUnit"
_USERS_SECONDS = 300.0
_USER_FILTER = "SysAdminUnitTypeValue eq 4 and Active eq true"
_T = TypeVar("_T")
_log = logging.getLogger("tandem.creatio")


class Creatio:
    """One Creatio site, seen by its integration user.

    `integration_contact_id` is that user's contact: Creatio names contacts, not users, as who changed a row (creatio.md 4). Without
    it the contact is looked up by `login_name` (forms login), or learned from the first rows that Tandem wrote itself.
    """

    def __init__(
        self,
        web: Web,
        *,
        app_prefix: str = "/0",
        page_size: int = 500,
        overlap_seconds: float = 300,
        batch_size: int = MOST_WRITES,
        read_parts: int = 70,
        csdl_seconds: float = 3600,
        integration_contact_id: str = "",
        login_name: str = "",
        sees_all: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = Service(web, app_prefix, monotonic)
        self._schema = Schema(self._service, seconds=csdl_seconds, page_size=page_size, monotonic=monotonic)
        self._page_size = page_size
        self._overlap = timedelta(seconds=overlap_seconds)
        self._batch_size = max(1, min(batch_size, MOST_WRITES))
        self._read_parts = max(1, min(read_parts, 100))
        self._contact = integration_contact_id.lower()
        self._login_name = login_name
        self._sees_all = sees_all
        self._site = web.site
        self._votes: Counter[str] = Counter()
        self._asking = asyncio.Lock()
        self._monotonic = monotonic
        self._listing_users = asyncio.Lock()
        self._users: tuple[float, Mapping[str, str]] | None = None

    @property
    def name(self) -> str:
        """Return `creatio`."""
        return "creatio"

    @property
    def without_null(self) -> bool:
        """Return True: the server sends the empty guid, year 1, "" and 0 for null (creatio.md 2.2)."""
        return True

    @property
    def sees_all(self) -> bool:
        """Return what the operator says: record rights hide rows silently, and nothing on the wire tells (creatio.md 6)."""
        return self._sees_all

    @property
    def tells_deletes(self) -> bool:
        """Return False: OData has no tombstones (creatio.md 4)."""
        return False

    async def environment(self) -> str:
        """Return the site's address: Creatio is not known to tell an id of the instance itself (law 12)."""
        return f"site/{self._site}"

    async def exist(self, entity: str, ids: Collection[str]) -> Mapping[str, bool | None]:
        """Ask for each record by itself; False only where the server answers that one request with "not found" (creatio.md 2.3).

        Each batch also asks for any one row: while somebody publishes, the whole object is "not found" for a minute (creatio.md 2.1).
        """
        wanted = list(dict.fromkeys(one.lower() for one in ids if is_guid(one)))
        there: dict[str, bool | None] = {}
        for some in chunks(wanted, MOST_PARTS - 1):
            urls = [collection_url(entity, select=("Id",), top=1), *(f"{record_url(entity, one)}?$select=Id" for one in some)]
            served, *answers = await self._service.gets(urls, entity)
            sound = served is not None and not failed(served)
            there |= {one: is_there(answer, entity, one) if sound else None for one, answer in zip(some, answers, strict=True)}
        return there

    async def describe(self, entity: str, columns: Collection[str], options: Collection[str]) -> Entity:
        """Return live metadata of the named columns, with the rows of the lookups named in `options` as value to label.

        A day without time can't be told from a time: both are Edm.DateTimeOffset, so both are DATETIME here (creatio.md 2.2).
        """
        return await self._schema.describe(entity, columns, options)

    async def changes(
        self, entity: str, columns: Collection[str], position: str | None, since: datetime | None, *, lines: LinesOf | None = None
    ) -> AsyncIterator[ChangePage]:
        """Yield pages of what may have changed since `position`; a quiet poll is one request and gives the same position back.

        With `lines` it is two: many servers change a line without its document (creatio.md 5.1). Only `all_lines` tells of deleted ones.

        The feed is about whole records (creatio.md 4), so `columns` says only this: without any, and without a position, everything is
        read to be compared, in large pages.
        """
        complete_walk = position is None and not columns
        size = max(self._page_size, _WALK_ROWS) if complete_walk else self._page_size
        own, below = parted(position)
        feed = Feed(entity, own, since, page_size=size, overlap=self._overlap)
        pages = self._followed(feed, entity)
        if lines is not None:
            size = self._page_size * LINES_A_DOCUMENT
            detail = Feed(lines.entity, below, since, page_size=size, overlap=self._overlap, parent=lines.parent)
            pages = one_feed(pages, self._followed(detail, lines.entity), below)
        async for page in pages:
            yield page

    async def all_lines(self, lines: LinesOf) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Yield all lines in the order of their times, in large pages; only ids are read."""
        feed = Feed(lines.entity, None, None, page_size=_WALK_ROWS, overlap=self._overlap, parent=lines.parent)
        async for _ in self._followed(feed, lines.entity):
            yield feed.lines

    async def _followed(self, feed: Feed, entity: str) -> AsyncIterator[ChangePage]:
        while not feed.complete:
            rows, response = await self._listed(feed.link or feed.url, entity)
            yield feed.take(rows, response.server_time)

    async def ranges(
        self, entity: str, by: RangeBy, since: datetime | None, until: datetime | None, size: int, after: datetime | None = None
    ) -> AsyncGenerator[KeyRange, None]:
        """Yield key ranges of about `size` rows that together hold every row with since <= time < until; `after` goes on behind a `last`.

        Only times and ids are read, 20,000 a page. The ranges leave no gap between them, and none ends between two rows of one time.
        """
        walk = cutting_walk(entity, by, since, until, after)
        cutter = Cutter(by, size, None if since is None and after is None else walk.place.time)
        while not walk.complete:
            page, _ = await self._listed(walk.url, entity)
            for moment, _ in walk.take(page) or ():
                if (full := cutter.add(moment)) is not None:
                    yield full
        if (last := cutter.rest(until)) is not None:
            yield last

    async def _listed(self, url: str, entity: str) -> tuple[Rows, Response]:
        try:
            return await self._service.rows(url, entity)
        except TandemError as error:
            self._schema.heed(error)
            raise

    async def read_range(self, entity: str, part: KeyRange, columns: Collection[str], position: str | None, size: int) -> RangePage:
        """Read a page of at most `size` rows of a range with the named columns, in the order of time and Id.

        `position` is what the page before gave. Rows may come twice where others of the same time went away meanwhile.
        """
        return await self._with_model(entity, columns, partial(self._read_page, part, columns, position, size))

    async def _read_page(self, part: KeyRange, columns: Collection[str], position: str | None, size: int, model: Model) -> RangePage:
        us = await self._whoami()
        walk = reading_walk(model.name, part, position, with_lookups((*ALWAYS, *columns), model), size)
        fresh = None
        while fresh is None and not walk.complete:
            (answer,) = await self._service.gets([walk.url], model.name)
            try:
                fresh = walk.take(rows_of(answer, Asked(model.name)))
            except TandemError as error:
                self._schema.heed(error)
                if error.code == "creatio.unavailable" and walk.narrow():  # the server's memory may not bear so many wide rows
                    continue
                raise self._service.patient(error) from None
        rows = parsed_rows((raw for _, raw in fresh or ()), columns, model, us)
        return RangePage(rows, None if walk.complete else walk.place.encode())

    async def read(
        self, entity: str, ids: Collection[str], columns: Collection[str], *, lines: LinesOf | None = None
    ) -> Mapping[str, Row | TandemError]:
        """Read records by id, 15 a filter, many filters a request. An id that is not shown is absent, a bad row is its error.

        Raises what concerns all records (Denied, unknown column or object); a filter that fails otherwise is its records' error.
        Lines come after their documents, by filters of 15 documents; a line that can't be read is its document's error.
        """
        rows = await self._with_model(entity, columns, partial(self._read_all, ids, columns))
        if lines is None:
            return rows
        return await self._with_model(lines.entity, (*lines.columns, lines.parent), partial(self._with_lines, rows, lines))

    async def _with_lines(self, rows: Mapping[str, Row | TandemError], lines: LinesOf, model: Model) -> Mapping[str, Row | TandemError]:
        try:
            return await with_lines(self._service, rows, lines, model, await self._whoami(), page_size=self._page_size)
        except TandemError as error:
            self._schema.heed(error)
            raise self._service.patient(error) from None

    async def _read_all(self, ids: Collection[str], columns: Collection[str], model: Model) -> Mapping[str, Row | TandemError]:
        us = await self._whoami()
        wanted = sorted({one.lower() for one in ids if is_guid(one)})
        found: dict[str, Row | TandemError] = {}
        for some in chunks(wanted, MOST_IDS * self._read_parts):
            found |= await self._read_some(model, some, columns, us)
        return found

    async def find(self, entity: str, keys: Sequence[Mapping[str, Value]], columns: Collection[str]) -> Sequence[Sequence[Row]]:
        """Find records whose columns equal each key, one list a key, at most 50 hits; a key with an empty part finds nothing.

        Many keys share a filter. Where it is not clear which key a row belongs to, or a page is full, those keys are asked singly.
        A hit that can't be read must not look like no hit: Rejected `bad_row`, with the hit's id when only one key was asked for.
        """
        named = {*columns, *(name for key in keys for name in key)}
        try:
            return await self._with_model(entity, named, partial(self._find_all, keys, columns))
        except Rejected as error:
            if error.code == "creatio.bad_row" and len(keys) > 1:
                error.record_id = ""  # it concerns one key of many: ask them one by one to learn which
            raise

    async def _find_all(self, keys: Sequence[Mapping[str, Value]], columns: Collection[str], model: Model) -> Sequence[Sequence[Row]]:
        us = await self._whoami()
        places = [place for place, key in enumerate(keys) if key and not any(is_empty(value) for value in key.values())]
        filters = {place: checked_filter(keys[place], model) for place in places}
        hits: list[list[Row]] = [[] for _ in keys]
        groups = [
            [places[index] for index in group]
            for group in grouped_filters([filters[place] for place in places], [len(keys[place]) for place in places])
        ]
        unsure = [group[0] for group in groups if len(group) == 1]
        shared = [group for group in groups if len(group) > 1]
        for group, rows in zip(shared, await self._find_rows(model, shared, filters, keys, columns), strict=True):
            sorted_out = None if rows.cut_short else self._sorted_out(rows, group, keys, model, columns, us)
            if sorted_out is None:
                unsure += group
            else:
                for place, row in sorted_out:
                    hits[place].append(row)
        singles = [[place] for place in unsure]
        for (place,), rows in zip(singles, await self._find_rows(model, singles, filters, keys, columns), strict=True):
            hits[place] = [_only(read_row(raw, columns, model, us), columns) for raw in rows.rows[:_MOST_HITS]]
        return hits

    async def write(
        self,
        entity: str,
        writes: Sequence[Write],
        *,
        bulk: bool = False,  # noqa: ARG002 - no bulk messages here
        lines: LinesOf | None = None,  # noqa: ARG002 - lines go to Dynamics only
    ) -> Sequence[WriteResult]:
        """Write records in batches that begin and end with reads of them; one result for each write, in order.

        When a whole request fails without a verdict the batches behind it are not sent: their results say the same.
        """
        results: list[WriteResult] = []
        try:
            seen = {name for write in writes if write.seen for name in write.seen.values}
            model = await self._schema.model(entity, seen)
            if not {name for write in writes for name in write.values} <= set(model.columns):
                self._schema.drop()  # somebody may have published the column a minute ago
                model = await self._schema.model(entity, seen)
            await self._whoami()
        except TandemError as error:
            return [WriteResult(write.id, error=about(error, entity, write.id)) for write in writes]
        broken: TandemError | None = None
        for some in batches(writes, self._batch_size):
            if broken is None:
                done, broken = await self._write_some(model, some)
                results += done
            else:
                results += WriteBatch(model, some).failed(broken)
        return results

    async def users(self) -> Mapping[str, str]:
        """Return active users as owner columns hold them: contact id to e-mail in lower case; kept for some minutes.

        Empty when the site hides its users: system tables are closed on many sites (creatio.md 2.3).
        """
        async with self._listing_users:
            if self._users is None or self._monotonic() - self._users[0] >= _USERS_SECONDS:
                self._users = (self._monotonic(), await self._list_users())
            return self._users[1]

    async def _list_users(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        try:
            columns, expand = ("Id", "ContactId"), users_expand()
            asked = self._service.all_rows(_USERS, columns, where=_USER_FILTER, expand=expand, page_size=self._page_size, optional=True)
            async for row in asked:
                contact = row.get("Contact")
                contact_id = read_id(contact) if isinstance(contact, Mapping) else None
                email = contact.get("Email") if isinstance(contact, Mapping) else None
                if contact_id is not None and isinstance(email, str) and email.strip():
                    found[contact_id] = email.strip().lower()
        except (Denied, Rejected) as error:
            _log.warning("users_not_readable", extra={"system": self.name, "code": error.code, "entity": _USERS})
            return {}
        return found

    async def close(self) -> None:
        """Close connections."""
        await self._service.close()

    async def _model(self, entity: str, columns: Collection[str]) -> Model:
        model = await self._schema.model(entity, columns)
        for name in columns:
            if name not in model.columns:
                self._schema.drop()  # somebody may have published it a minute ago
                raise unknown_column(entity, name)
        return model

    async def _with_model(self, entity: str, columns: Collection[str], ask: Callable[[Model], Awaitable[_T]]) -> _T:
        """Ask with cached metadata; once more with fresh metadata when a column is told to be unknown (creatio.md 9.14)."""
        try:
            return await ask(await self._model(entity, columns))
        except Rejected as error:
            if error.code != "creatio.unknown_column":
                raise
        return await ask(await self._model(entity, columns))

    async def _whoami(self) -> str:
        """Return the integration user's contact id, "" while it is not known."""
        if not self._contact and self._login_name:
            async with self._asking:
                await self._look_up_contact()
        return self._contact or next((contact for contact, _ in self._votes.most_common(1)), "")

    async def _look_up_contact(self) -> None:
        if self._contact or not self._login_name:
            return
        url = collection_url(_USERS, select=("Id", "ContactId"), where=text_filter("Name", self._login_name), top=1)
        try:
            rows, _ = await self._service.rows(url, _USERS, optional=True)
        except Transient:
            return  # asked again with the next read
        except TandemError as error:
            _log.warning("users_not_readable", extra={"system": self.name, "code": error.code, "entity": _USERS})
        else:
            contact = rows.rows[0].get("ContactId") if rows.rows else None
            self._contact = contact.lower() if isinstance(contact, str) and is_guid(contact) else ""
        self._login_name = ""

    async def _read_some(self, model: Model, ids: Sequence[str], columns: Collection[str], us: str) -> dict[str, Row | TandemError]:
        groups = chunks(ids, MOST_IDS)
        answers = await self._service.gets([rows_url(model.name, group, with_lookups(columns, model)) for group in groups], model.name)
        found: dict[str, Row | TandemError] = {}
        for group, answer in zip(groups, answers, strict=True):
            try:
                page = rows_of(answer, Asked(model.name, part=True))
            except (Transient, Rejected) as error:
                self._schema.heed(error)
                if error.field or error.code == "creatio.unknown_entity":
                    raise self._service.patient(error) from None  # a column or the object itself: it concerns all records
                found |= dict.fromkeys(group, error)
                continue
            rows = parsed_rows(page.rows, columns, model, us)
            found |= rows
            if page.cut_short:
                rest = [one for one in group if one not in rows]
                if len(rest) == len(group):
                    raise bad_answer("the server says that it has rows but shows none that was asked for", model.name)
                found |= await self._read_some(model, rest, columns, us)
        return found

    async def _find_rows(
        self,
        model: Model,
        groups: Sequence[Sequence[int]],
        filters: Mapping[int, str],
        keys: Sequence[Mapping[str, Value]],
        columns: Collection[str],
    ) -> list[Rows]:
        urls = []
        for group in groups:
            where = " or ".join(f"({filters[place]})" for place in group) if len(group) > 1 else filters[group[0]]
            names = with_lookups((*ALWAYS, *columns, *(name for place in group for name in keys[place])), model)
            urls.append(collection_url(model.name, select=names, where=where, order="Id", top=_MOST_HITS * len(group), count=True))
        try:
            answers = await self._service.gets(urls, model.name)
            values = tuple(value for key in keys for value in key.values())
            return [rows_of(answer, Asked(model.name, values=values)) for answer in answers]
        except TandemError as error:
            self._schema.heed(error)
            raise self._service.patient(error) from None

    def _sorted_out(
        self,
        rows: Rows,
        group: Sequence[int],
        keys: Sequence[Mapping[str, Value]],
        model: Model,
        columns: Collection[str],
        us: str,
    ) -> list[tuple[int, Row]] | None:
        """Return each row with the key it answers; None when one fits no key as far as can be told from here."""
        sorted_out = []
        named = {*columns, *(name for place in group for name in keys[place])}
        for raw in rows.rows:
            row = read_row(raw, named, model, us)
            fitting = [place for place in group if all(folded(row.values[name]) == folded(value) for name, value in keys[place].items())]
            if not fitting:
                return None
            sorted_out += [(place, _only(row, columns)) for place in fitting]
        return sorted_out

    async def _write_some(self, model: Model, writes: Sequence[Write]) -> tuple[list[WriteResult], TandemError | None]:
        batch = WriteBatch(model, writes)
        parts = batch.parts
        if not parts:
            return batch.results([], "", {}, ()), None
        try:
            answers = await self._service.batch(parts, model.name)
        except TandemError as error:
            if error.code == "creatio.bad_request" and len(writes) > 1:  # nothing was run: find the one that spoils it
                middle = len(writes) // 2
                first, broken = await self._write_some(model, writes[:middle])
                second, also = await self._write_some(model, writes[middle:])
                return first + second, broken or also
            self._schema.heed(error)
            stops = isinstance(error, (Transient, Denied))
            return batch.failed(error), error if stops else None
        self._votes.update(batch.contact(answers))
        us = await self._whoami()
        unread = batch.unread(answers)
        reread = await self._second_look(model, unread, batch.columns, us)
        results = batch.results(answers, us, reread, unread)
        for result in results:
            if result.error is not None:
                self._schema.heed(result.error)
        return [replace(one, error=self._service.patient(one.error)) if one.error else one for one in results], None

    async def _second_look(self, model: Model, ids: Sequence[str], columns: Collection[str], us: str) -> Mapping[str, Row | TandemError]:
        if not ids:
            return {}
        try:
            return await self._read_some(model, ids, columns, us)
        except TandemError as error:
            return dict.fromkeys(ids, error)


def _only(row: Row, columns: Collection[str]) -> Row:
    return Row(row.id, row.stamp, {name: row.values[name] for name in columns}, row.changed_by_us)
