"""The lines of Creatio's documents: read by their documents, and followed by a feed of their own.

Many servers change a line without its document, or sum up by SQL, so that the document's own time does not move (creatio.md 5.1).
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from shared.core.errors import TandemError
from shared.core.records import Change, ChangePage, LinesOf, Row, Value
from shared.systems.creatio_csdl import Model
from shared.systems.creatio_errors import Asked, about
from shared.systems.creatio_service import Service, rows_of
from shared.systems.creatio_wire import MOST_IDS, chunks, collection_url, key_filter, read_row, with_lookups
from shared.systems.creatio_writes import ALWAYS

LINES_A_DOCUMENT: Final = 10
"""So many times the page of documents is that of their lines: told in one page, the lines of a document announce it once."""


async def with_lines(
    service: Service, rows: Mapping[str, Row | TandemError], lines: LinesOf, model: Model, us: str, *, page_size: int
) -> Mapping[str, Row | TandemError]:
    """Return rows with their lines, by filters of 15 documents, many filters a request; a line that can't be read is its document's error.

    A filter that brings more lines than a page holds is asked again, page by page.
    """
    found: dict[str, dict[str, Mapping[str, Value]]] = {key: {} for key, row in rows.items() if isinstance(row, Row)}
    errors: dict[str, TandemError] = {}
    async for raw in _all_lines(service, list(found), lines, model, page_size=page_size):
        parent = str(raw.get(lines.parent) or "").lower()
        try:
            row = read_row(raw, lines.columns, model, us)
        except TandemError as error:
            errors[parent] = about(error, model.name, parent)
            continue
        if parent in found:
            found[parent][row.id] = row.values
    return {**{key: replace(row, lines=found[key]) if isinstance(row, Row) else row for key, row in rows.items()}, **errors}


async def _all_lines(
    service: Service, documents: Sequence[str], lines: LinesOf, model: Model, *, page_size: int
) -> AsyncIterator[Mapping[str, Any]]:
    names = dict.fromkeys((*ALWAYS, *with_lookups(lines.columns, model), lines.parent))
    filters = [" or ".join(key_filter({lines.parent: one}, model) for one in some) for some in chunks(documents, MOST_IDS)]
    urls = [collection_url(model.name, select=names, where=where, order="Id", top=page_size, count=True) for where in filters]
    for where, answer in zip(filters, await service.gets(urls, model.name), strict=True):
        page = rows_of(answer, Asked(model.name))
        if page.cut_short or (page.count is None and len(page.rows) >= page_size):
            async for raw in service.all_rows(model.name, names, where=where, page_size=page_size):
                yield raw
            continue
        for raw in page.rows:
            yield raw


async def one_feed(documents: AsyncIterator[ChangePage], lines: AsyncIterator[ChangePage], below: str | None) -> AsyncIterator[ChangePage]:
    """Yield the pages of documents, then those of their lines, as one chain; `below` is the position that the lines began at.

    The last page of documents goes with the first one of lines: it is not the end of the chain, and a quiet poll has one page.
    """
    last: ChangePage | None = None
    async for page in documents:
        if not page.complete:
            yield replace(page, position=_joined(page.position, below))
        last = page
    assert last is not None  # noqa: S101 - a feed has a page at least
    held: tuple[Sequence[Change], Sequence[TandemError]] = (last.changes, last.problems)
    async for page in lines:
        changes, problems = (*held[0], *page.changes), (*held[1], *page.problems)
        yield replace(page, changes=changes, problems=problems, position=_joined(last.position, page.position))
        held = ((), ())


def _joined(own: str, lines: str | None) -> str:
    return json.dumps({"own": own, "lines": lines}, separators=(",", ":"))


def parted(position: str | None) -> tuple[str | None, str | None]:
    """Return the positions of documents and lines in one that `one_feed` gave; one of documents alone stays as it is."""
    if position is None or not position.startswith('{"own":'):
        return position, None
    members = json.loads(position)
    return members["own"], members["lines"]
