"""Rows of one environment in bulk: by id, by key, page by page (dataverse.md 3)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from shared.core.errors import Rejected, TandemError
from shared.core.records import Row, Value, is_guid
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_errors import SYSTEM
from shared.systems.dataverse_identity import Whoami
from shared.systems.dataverse_metadata import Metadata
from shared.systems.dataverse_service import Service, bad_answer, for_record, members
from shared.systems.dataverse_tables import Table

_T = TypeVar("_T")
_LONGEST_KEYS = 24_000
_KEYS_A_QUERY = 100
_HITS_A_KEY = 50


class Reads:
    """Reads rows; sizes in rows a page and ids a request."""

    def __init__(self, service: Service, metadata: Metadata, whoami: Whoami, *, page_size: int, read_size: int) -> None:
        self._service = service
        self._metadata = metadata
        self._whoami = whoami
        self._page_size = page_size
        self._read_size = read_size

    async def known(self, entity: str, columns: Collection[str]) -> tuple[Table, tuple[str, ...]]:
        """Return the table and those of the columns that it has; `describe` tells which are missing (law 13)."""
        table = await self._metadata.table(entity, (*columns, *wire.MERGE_COLUMNS))
        return table, tuple(name for name in dict.fromkeys(columns) if name in table.attributes)

    async def with_columns(self, entity: str, columns: Collection[str], ask: Callable[[Table, tuple[str, ...]], Awaitable[_T]]) -> _T:
        """Ask with the columns that exist; once more with fresh metadata when the server says that one is gone."""
        try:
            return await ask(*await self.known(entity, columns))
        except Rejected as error:
            if error.code != f"{SYSTEM}.unknown_column":
                raise
            return await ask(*await self.known(entity, columns))

    async def rows(self, entity: str, url: str | None, prefer: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the raw rows of all pages of a query."""
        seen: set[str] = set()
        while url:
            if url in seen:
                raise bad_answer(entity, "the same page link came twice")
            seen.add(url)
            try:
                body = await self._service.json(url, prefer)
            except TandemError as error:
                raise self._metadata.noted(error, entity) from error.__cause__
            for raw in members(body, entity):
                yield raw
            url = body.get("@odata.nextLink")

    async def read(self, entity: str, ids: Collection[str], columns: Collection[str]) -> Mapping[str, Row | TandemError]:
        """Read rows by id, some hundreds a request; columns that the table lacks are left out, ids that it does not show are absent.

        A row without an id makes errors of the absent ids of its request, since nobody can tell which of them it was.
        """
        us = await self._whoami.identity()
        wanted = list(dict.fromkeys(one.lower() for one in ids if is_guid(one)))  # nothing else can be an id of a row
        chunks = [wanted[start : start + self._read_size] for start in range(0, len(wanted), self._read_size)]

        async def ask(table: Table, names: tuple[str, ...]) -> dict[str, Row | TandemError]:
            parts = await asyncio.gather(*(self._chunk(table, chunk, names, us.user_id) for chunk in chunks))
            return {key: row for part in parts for key, row in part.items()}

        return await self.with_columns(entity, columns, ask)

    async def find(self, entity: str, keys: Sequence[Mapping[str, Value]], columns: Collection[str]) -> Sequence[Sequence[Row]]:
        """Find rows by key, up to 50 hits a key. The server compares without case, and so does this; the caller decides what is equal.

        A key that names a missing column, or whose value can't be in its column, finds nothing. A hit that can't be read is Transient:
        it must not look like no hit.
        """
        us = await self._whoami.identity()
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

        return await self.with_columns(entity, named, ask)

    async def _chunk(self, table: Table, ids: Sequence[str], columns: Collection[str], us: str) -> dict[str, Row | TandemError]:
        found: dict[str, Row | TandemError] = {}
        nameless: TandemError | None = None
        prefer = wire.preferences(table, columns, f"odata.maxpagesize={max(self._page_size, len(ids))}")
        async for raw in self.rows(table.definition.name, wire.by_ids(table, columns, ids), prefer):
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
            answered |= {one: for_record(nameless, table.definition.name, one) for one in ids if one not in answered}
        return answered

    async def _find_chunk(
        self, table: Table, names: Collection[str], keys: Mapping[int, Mapping[str, Value]], hits: list[list[Row]], us: str
    ) -> None:
        prefer = wire.preferences(table, names, f"odata.maxpagesize={_KEYS_A_QUERY * _HITS_A_KEY}")
        folded = {place: {name: wire.folded(value) for name, value in key.items()} for place, key in keys.items()}
        async for raw in self.rows(table.definition.name, wire.by_keys(table, names, list(keys.values())), prefer):
            try:
                row = wire.row_of(raw, table, names, us)
            except TandemError as error:
                self._metadata.forget(table.definition.name)  # a type may have changed
                raise bad_answer(table.definition.name, f"a row found is unreadable ({error.field}: {error.said})") from None
            own = {name: wire.folded(row.values[name]) for name in next(iter(keys.values()))}
            matching = [place for place, key in folded.items() if key == own]
            for place in matching or keys:  # equal in a way that only the server's collation knows: let the caller decide
                if len(hits[place]) < _HITS_A_KEY:
                    hits[place].append(row)
            if all(len(hits[place]) >= _HITS_A_KEY for place in keys):
                return


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
