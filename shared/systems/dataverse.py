"""Dynamics 365 on Dataverse, as a `System`: change tracking in, `$batch` with `If-Match` out (dataverse.md).

One writer's mistake this module is built against: a lost reply is never answered by a second write. Each record of a batch gets its
own result; what was not answered is Transient, and the plan above reads again before it acts.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import httpx

from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.core.records import Change, ChangePage, Entity, Row, Value, Write, WriteKind, WriteResult, is_guid
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_errors import DOES_NOT_EXIST, SYSTEM, error_facts, part_error, request_error
from shared.systems.dataverse_identity import Identity, Whoami
from shared.systems.dataverse_metadata import Metadata
from shared.systems.dataverse_tables import Table
from shared.systems.odata import Part, PartAnswer, batch_body, parse_batch
from shared.systems.web import Request, Response, Web

_T = TypeVar("_T")
_LONGEST_URL = 32_000  # of 32,768 for a GET; a longer one travels inside a batch (dataverse.md 3)
_LONGEST_KEYS = 12_000
_USERS_LIFETIME = 300.0
_KEYS_A_QUERY = 50
_HITS_A_KEY = 50
_WALK_ROWS = 5000
"""Rows a page of a complete walk, which are small: no more fit on one (dataverse.md 3)."""
_FAILED = 300
_NOT_FOUND = 404
_BATCH_FAILURES = frozenset({400, 403, 404, 405, 409, 412, 413, 500, 501})


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
        metadata_lifetime: float = 3600.0,
        monotonic: Callable[[], float] = time.monotonic,
        new_boundary: Callable[[], str] = lambda: f"batch_{uuid.uuid4().hex}",
    ) -> None:
        """Take the transport; sizes in rows, ids and operations, the lifetime in seconds."""
        self._web = web
        self._page_size = page_size
        self._read_size = read_size
        self._batch_size = batch_size
        self._new_boundary = new_boundary
        self._metadata = Metadata(self._json, lifetime=metadata_lifetime, monotonic=monotonic)
        self._monotonic = monotonic
        self._whoami = Whoami(self._json, monotonic)
        self._users: tuple[float, Mapping[str, str]] | None = None

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
        table, _ = await self._known(entity, ())
        wanted = list(dict.fromkeys(one.lower() for one in ids if is_guid(one)))
        answers: dict[str, bool | None] = dict.fromkeys(wanted)  # what is not answered stays None
        for start in range(0, len(wanted), self._batch_size):
            some = wanted[start : start + self._batch_size]
            parts = [(wire.exists_part(table, one, self._web.path),) for one in some]
            for one, answered in zip(some, await self._batch(parts, repeatable=True), strict=False):
                answers[one] = _is_there(answered[0]) if answered else None
        return answers

    async def describe(self, entity: str, columns: Collection[str], options: Collection[str]) -> Entity:
        """Return live metadata of the named columns, with choices of those in `options`; names that don't exist stand in `missing`."""
        return await self._metadata.describe(entity, columns, options)

    async def changes(
        self, entity: str, columns: Collection[str], position: str | None, since: datetime | None
    ) -> AsyncIterator[ChangePage]:
        """Yield pages of the change-tracking chain; the position is the server's own link, sent back as it came (dataverse.md 4).

        The server allows no filter here, so `since` drops older rows of a first chain on this side. Rows that can't be understood are
        the page's `problems`. Raises Stale `delta_expired`, Denied `tracking_off`, and Transient `bad_answer` for a link seen twice.
        """
        table, names = await self._known(entity, columns)
        if not table.definition.tracked:
            self._metadata.forget(entity)
            raise Denied(f"{SYSTEM}.tracking_off", system=SYSTEM, entity=entity)
        size = f"odata.maxpagesize={self._page_size if position or names else max(self._page_size, _WALK_ROWS)}"
        prefer = size if position else f"odata.track-changes,{size}"
        url = position or f"{table.definition.set_name}?{wire.select(table, names)}"
        oldest = None if position else since
        seen = {url}
        while True:
            response = await self._feed_page(entity, url, prefer)
            page = _change_page(response, table, oldest)
            yield page
            if page.complete:
                return
            if page.position in seen:
                raise _bad_answer(entity, "the same page link came twice")
            seen.add(page.position)
            url = page.position

    async def read(self, entity: str, ids: Collection[str], columns: Collection[str]) -> Mapping[str, Row | TandemError]:
        """Read rows by id, some hundreds a request; columns that the table lacks are left out, ids that it does not show are absent.

        A row without an id makes errors of the absent ids of its request, since nobody can tell which of them it was.
        """
        us = await self.identity()
        wanted = list(dict.fromkeys(one.lower() for one in ids if is_guid(one)))  # nothing else can be an id of a row
        chunks = [wanted[start : start + self._read_size] for start in range(0, len(wanted), self._read_size)]

        async def ask(table: Table, names: tuple[str, ...]) -> dict[str, Row | TandemError]:
            parts = await asyncio.gather(*(self._read_chunk(table, chunk, names, us.user_id) for chunk in chunks))
            return {key: row for part in parts for key, row in part.items()}

        return await self._with_columns(entity, columns, ask)

    async def find(self, entity: str, keys: Sequence[Mapping[str, Value]], columns: Collection[str]) -> Sequence[Sequence[Row]]:
        """Find rows by key, up to 50 hits a key. The server compares without case, and so does this; the caller decides what is equal.

        A key that names a missing column, or whose value can't be in its column, finds nothing. A hit that can't be read is Transient:
        it must not look like no hit.
        """
        us = await self.identity()
        named = tuple(dict.fromkeys([*columns, *(name for key in keys for name in key)]))

        async def ask(table: Table, names: tuple[str, ...]) -> list[list[Row]]:
            hits: list[list[Row]] = [[] for _ in keys]
            by_columns: dict[tuple[str, ...], list[int]] = {}
            for place, key in enumerate(keys):
                if key and wire.fits(key, table):
                    by_columns.setdefault(tuple(sorted(key)), []).append(place)
            for places in by_columns.values():
                for chunk in _key_chunks(places, keys):
                    await self._find_chunk(table, names, {place: keys[place] for place in chunk}, hits, us.user_id)
            return hits

        return await self._with_columns(entity, named, ask)

    async def write(self, entity: str, writes: Sequence[Write], *, bulk: bool = False) -> Sequence[WriteResult]:  # noqa: ARG002 - not yet
        """Write rows by `$batch` with continue-on-error; one result for each write, in order, with the row as the server now holds it.

        A failure of a whole request becomes the error of each of its records; only when nothing at all was sent does it raise.
        """
        names = {name for write in writes for name in wire.named_columns(write)}
        table, us = await self._metadata.table(entity, {*names, *wire.MERGE_COLUMNS}), await self.identity()
        targets = await self._targets(table, writes)
        results: dict[int, WriteResult] = {}
        asked: list[tuple[int, tuple[Part, ...]]] = []
        for place, write in enumerate(writes):
            try:
                parts = wire.write_parts(write, table, targets, self._web.path)
            except TandemError as error:
                results[place] = WriteResult(write.id, error=self._noted(error, entity))
                continue
            if parts:
                asked.append((place, parts))
            else:
                results[place] = WriteResult(write.id, row=write.seen)
        stopped: TandemError | None = None
        for chunk in _batches(asked, self._batch_size):
            if stopped is None:
                stopped = await self._write_chunk(table, writes, chunk, us.user_id, results)
                if stopped is not None and chunk[0] is asked[0] and isinstance(stopped, Denied):
                    raise stopped
            if stopped is not None:
                for place, _ in chunk:
                    results[place] = WriteResult(writes[place].id, error=_for_record(stopped, entity, writes[place].id))
                stopped = stopped if isinstance(stopped, Denied) or _is_throttle(stopped) else None
        return [results[place] for place in range(len(writes))]

    async def users(self) -> Mapping[str, str]:
        """Return enabled users with an e-mail: id to e-mail in lower case; kept for some minutes, since every batch asks."""
        if self._users is not None and self._monotonic() - self._users[0] < _USERS_LIFETIME:
            return self._users[1]
        url = "systemusers?$select=systemuserid,internalemailaddress&$filter=isdisabled%20eq%20false"
        found: dict[str, str] = {}
        async for raw in self._rows("systemuser", url, f"odata.maxpagesize={self._page_size}"):
            key, address = raw.get("systemuserid"), raw.get("internalemailaddress")
            if isinstance(key, str) and isinstance(address, str) and address.strip():
                found[key.lower()] = address.strip().lower()
        self._users = (self._monotonic(), found)
        return found

    async def close(self) -> None:
        """Close connections."""
        await self._web.close()

    # --- one request --------------------------------------------------------------------------------------------------------

    async def _json(self, url: str, prefer: str = "") -> Any:
        response = await self._get(url, prefer)
        return response.json()

    async def _get(self, url: str, prefer: str = "") -> Response:
        headers = {**wire.HEADERS, **({"Prefer": prefer} if prefer else {})}
        if len(url) <= _LONGEST_URL:
            return await self._web.send(Request("GET", url, headers))
        part = Part("GET", f"{self._web.path}/{url}", headers)
        answers = await self._batch([(part,)], repeatable=True)
        if not answers or not answers[0]:
            raise _bad_answer("", "the batch came back without its only part")
        answer = answers[0][0]
        response = Response(SYSTEM, answer.status, httpx.Headers(dict(answer.headers)), answer.content, asked=url)
        if answer.status >= _FAILED:
            raise request_error(response)
        return response

    async def _batch(self, groups: Sequence[Sequence[Part]], *, repeatable: bool = False) -> list[list[PartAnswer]]:
        boundary = self._new_boundary()
        headers = {
            **wire.HEADERS,
            "Content-Type": f'multipart/mixed; boundary="{boundary}"',
            "Prefer": "odata.continue-on-error",
        }
        content = batch_body(groups, boundary)
        operations = sum(len(group) for group in groups)
        request = Request("POST", "$batch", headers, content, repeatable, operations, expected=_BATCH_FAILURES)
        response = await self._web.send(request)
        try:
            return parse_batch(response.content, response.headers.get("content-type", ""))
        except ValueError as problem:
            if response.status >= _FAILED:  # refused as a whole, with plain JSON (dataverse.md 6.1)
                raise request_error(response) from None
            said = f"a batch reply: {problem}"
            raise Transient(f"{SYSTEM}.not_json", said, system=SYSTEM, request_id=response.request_id) from None

    async def _known(self, entity: str, columns: Collection[str]) -> tuple[Table, tuple[str, ...]]:
        """Return the table and those of the columns that it has; `describe` tells which are missing (law 13)."""
        table = await self._metadata.table(entity, (*columns, *wire.MERGE_COLUMNS))
        return table, tuple(name for name in dict.fromkeys(columns) if name in table.attributes)

    async def _with_columns(self, entity: str, columns: Collection[str], ask: Callable[[Table, tuple[str, ...]], Awaitable[_T]]) -> _T:
        """Ask with the columns that exist; once more with fresh metadata when the server says that one is gone."""
        try:
            return await ask(*await self._known(entity, columns))
        except Rejected as error:
            if error.code != f"{SYSTEM}.unknown_column":
                raise
            return await ask(*await self._known(entity, columns))

    async def _rows(self, entity: str, url: str | None, prefer: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the raw rows of all pages of a query."""
        seen: set[str] = set()
        while url:
            if url in seen:
                raise _bad_answer(entity, "the same page link came twice")
            seen.add(url)
            try:
                body = await self._json(url, prefer)
            except TandemError as error:
                raise self._noted(error, entity) from error.__cause__
            for raw in _members(body, entity):
                yield raw
            url = body.get("@odata.nextLink")

    def _noted(self, error: TandemError, entity: str) -> TandemError:
        """Add the entity; what the metadata said about columns is dropped when the server knows better."""
        error.entity = error.entity or entity
        if error.code == f"{SYSTEM}.unknown_column":
            self._metadata.forget(entity)
        return error

    # --- parts of the verbs -------------------------------------------------------------------------------------------------

    async def _feed_page(self, entity: str, url: str, prefer: str) -> Response:
        try:
            return await self._get(url, prefer)
        except Rejected as error:
            self._noted(error, entity)
            gone = error.code == f"{SYSTEM}.unknown_column"  # the link names the columns of its first request
            if "://" in url and (gone or re.search(r"token|version stamp", error.said, re.IGNORECASE)):
                raise Stale(f"{SYSTEM}.delta_expired", error.said, system=SYSTEM, entity=entity, request_id=error.request_id) from None
            raise
        except TandemError as error:
            raise self._noted(error, entity) from error.__cause__

    async def _read_chunk(self, table: Table, ids: Sequence[str], columns: Collection[str], us: str) -> dict[str, Row | TandemError]:
        found: dict[str, Row | TandemError] = {}
        nameless: TandemError | None = None
        prefer = wire.preferences(table, columns, f"odata.maxpagesize={max(self._page_size, len(ids))}")
        async for raw in self._rows(table.definition.name, wire.by_ids(table, columns, ids), prefer):
            try:
                row = wire.row_of(raw, table, columns, us)
            except TandemError as error:
                if not error.record_id:
                    nameless = error
                    continue
                found[error.record_id] = error
            else:
                found[row.id] = row
        answered = {one: found[one] for one in ids if one in found}
        if nameless is not None:
            answered |= {one: _for_record(nameless, table.definition.name, one) for one in ids if one not in answered}
        return answered

    async def _find_chunk(
        self, table: Table, names: Collection[str], keys: Mapping[int, Mapping[str, Value]], hits: list[list[Row]], us: str
    ) -> None:
        prefer = wire.preferences(table, names, f"odata.maxpagesize={_KEYS_A_QUERY * _HITS_A_KEY}")
        folded = {place: {name: wire.folded(value) for name, value in key.items()} for place, key in keys.items()}
        async for raw in self._rows(table.definition.name, wire.by_keys(table, names, list(keys.values())), prefer):
            try:
                row = wire.row_of(raw, table, names, us)
            except TandemError as error:
                self._metadata.forget(table.definition.name)  # a type may have changed
                raise _bad_answer(table.definition.name, f"a row found is unreadable ({error.field}: {error.said})") from None
            own = {name: wire.folded(row.values[name]) for name in next(iter(keys.values()))}
            matching = [place for place, key in folded.items() if key == own]
            for place in matching or keys:  # equal in a way that only the server's collation knows: let the caller decide
                if len(hits[place]) < _HITS_A_KEY:
                    hits[place].append(row)
            if all(len(hits[place]) >= _HITS_A_KEY for place in keys):
                return

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
                open_ids = sorted(ids - tables.keys())
                chunks = [open_ids[start : start + self._read_size] for start in range(0, len(open_ids), self._read_size)]
                for chunk in chunks:
                    found = await self._read_chunk((await self._known(target, ()))[0], chunk, (), "")
                    tables |= dict.fromkeys(found, target)
            tables |= dict.fromkeys(ids - tables.keys(), possible[-1])
        return wire.Targets({target: definition.set_name for target, definition in definitions.items()}, tables)

    async def _write_chunk(
        self,
        table: Table,
        writes: Sequence[Write],
        chunk: Sequence[tuple[int, tuple[Part, ...]]],
        us: str,
        results: dict[int, WriteResult],
    ) -> TandemError | None:
        """Send one batch and put its results in place; return the error when the request failed as a whole."""
        try:
            answers = await self._batch([parts for _, parts in chunk])
        except TandemError as error:
            return self._noted(error, table.definition.name)
        for index, (place, parts) in enumerate(chunk):
            answered = answers[index] if index < len(answers) else []
            results[place] = result = self._result(writes[place], table, answered, len(parts), us)
            if result.error is not None:
                self._noted(result.error, table.definition.name)
                if isinstance(result.error, Transient) and result.error.retry_after:
                    self._web.pace.pause(result.error.retry_after)
        return None

    def _result(self, write: Write, table: Table, answers: Sequence[PartAnswer], expected: int, us: str) -> WriteResult:
        for answer in answers:
            if answer.status >= _FAILED:
                gone = answer.status == _NOT_FOUND and error_facts(answer.content)[0] == DOES_NOT_EXIST
                if write.kind is WriteKind.DELETE and gone:
                    return WriteResult(write.id)  # done already, by whomever
                about = wire.about(write, table)
                return WriteResult(write.id, error=part_error(answer.status, answer.headers, answer.content, about))
        if len(answers) < expected:
            return WriteResult(write.id, error=_bad_answer(table.definition.name, "the reply has no answer for it", write.id))
        if write.kind is WriteKind.DELETE:
            return WriteResult(write.id)
        last = Response(SYSTEM, answers[-1].status, httpx.Headers(dict(answers[-1].headers)), answers[-1].content)
        try:
            return WriteResult(write.id, row=wire.row_of(_object(last.json(), table), table, wire.read_columns(write, table), us))
        except TandemError as error:  # it is written, but with which values only another read can tell
            said = f"the row came back unreadable ({error.code} {error.field})"
            return WriteResult(write.id, error=_bad_answer(table.definition.name, said, write.id))


def _is_there(answer: PartAnswer) -> bool | None:
    if answer.status < _FAILED:
        return True
    gone = answer.status == _NOT_FOUND and error_facts(answer.content)[0] == DOES_NOT_EXIST
    return False if gone else None


def _change_page(response: Response, table: Table, oldest: datetime | None) -> ChangePage:
    body = response.json()
    changes: list[Change] = []
    problems: list[TandemError] = []
    for raw in _members(body, table.definition.name):
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
        raise _bad_answer(table.definition.name, "a page of changes without nextLink and deltaLink")
    return ChangePage(changes, position, complete=not following, server_time=response.server_time, problems=tuple(problems))


def _members(body: Any, entity: str) -> list[Mapping[str, Any]]:
    rows = body.get("value") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _bad_answer(entity, "an answer without a list of rows in `value`")
    return rows


def _object(body: Any, table: Table) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise _bad_answer(table.definition.name, "a row that is no object")
    return body


def _key_chunks(places: Iterable[int], keys: Sequence[Mapping[str, Value]]) -> list[list[int]]:
    """Split keys so that a query stays short in number and in (percent-encoded) length."""
    chunks: list[list[int]] = []
    length = 0
    for place in places:
        size = sum(3 * len(str(value).encode()) + len(name) + 20 for name, value in keys[place].items())
        if not chunks or len(chunks[-1]) >= _KEYS_A_QUERY or length + size > _LONGEST_KEYS:
            chunks.append([])
            length = 0
        chunks[-1].append(place)
        length += size
    return chunks


def _batches(asked: Sequence[tuple[int, tuple[Part, ...]]], most: int) -> list[list[tuple[int, tuple[Part, ...]]]]:
    """Split the operations into batches; the two of a change set stay together."""
    batches: list[list[tuple[int, tuple[Part, ...]]]] = []
    count = 0
    for item in asked:
        if not batches or count + len(item[1]) > most:
            batches.append([])
            count = 0
        batches[-1].append(item)
        count += len(item[1])
    return batches


def _is_throttle(error: TandemError) -> bool:
    return error.code == f"{SYSTEM}.throttled"


def _for_record(error: TandemError, entity: str, record_id: str) -> TandemError:
    """Return the error of a whole request as that of one of its records."""
    facts = {"system": SYSTEM, "entity": entity, "record_id": record_id, "request_id": error.request_id, "field": error.field}
    if isinstance(error, Transient):
        return Transient(error.code, error.said, retry_after=error.retry_after, **facts)
    kind = next((group for group in (Denied, Stale, Rejected) if isinstance(error, group)), TandemError)
    return kind(error.code, error.said, **facts)


def _bad_answer(entity: str, said: str, record_id: str = "") -> Transient:
    return Transient(f"{SYSTEM}.bad_answer", said, system=SYSTEM, entity=entity, record_id=record_id)
