"""Looks behind lookups: changes of the rows at the ends of paths, which do not touch the record that reads them.

The feed of a table tells nothing of the tables that its lookups lead to, and those need no change tracking. So once an hour the feed
of a flow with paths also asks each of them what was modified since the last look, and announces the records that refer to such rows.
When that was stands in the position, by the server's own clock (law 11).
"""

import json
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from shared.core.records import Change, ChangePage
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_reads import Reads
from shared.systems.dataverse_tables import Attribute, Behind, Definition, Table
from shared.systems.odata import literal

INTERVAL: Final = timedelta(hours=1)
OVERLAP: Final = timedelta(minutes=5)
"""How far a look goes back behind the last one: a long transaction shows its rows with the time at which it began."""
_IDS_A_QUERY: Final = 200
_ROWS_A_PAGE: Final = 5000


class Looks:
    """The looks behind the lookups of any table."""

    def __init__(self, reads: Reads) -> None:
        """Read by what reads the rows."""
        self._reads = reads

    async def with_looks(
        self, pages: AsyncIterator[ChangePage], table: Table, paths: Sequence[Behind], looked: datetime | None
    ) -> AsyncIterator[ChangePage]:
        """Yield the pages of a feed, the last one with what a look found when one is due; a chain that begins tells of every record."""
        begins = looked is None
        async for page in pages:
            looked = looked or page.server_time
            now, found = page.server_time, page
            if page.complete and not begins and looked is not None and now is not None and now - looked >= INTERVAL:
                told = {change.id for change in page.changes}
                further = [change async for change in self._referring(table, paths, looked - OVERLAP) if change.id not in told]
                found = replace(page, changes=[*page.changes, *further], worth_keeping=True)
                looked = now
            yield replace(found, position=_joined(page.position, looked))

    async def _referring(self, table: Table, paths: Sequence[Behind], since: datetime) -> AsyncIterator[Change]:
        """Yield the records whose paths lead to a row that was modified since; their own stamps say nothing about that."""
        told: set[str] = set()
        for lookup, target in _ends(paths):
            ids = [one async for one in self._modified(target, since)]
            for start in range(0, len(ids), _IDS_A_QUERY):
                url = wire.by_values(table, (), lookup.read_name, ids[start : start + _IDS_A_QUERY])
                async for raw in self._reads.rows(table.definition.name, url, f"odata.maxpagesize={_ROWS_A_PAGE}"):
                    record_id = wire.change_of(raw, table).id
                    if record_id not in told:
                        told.add(record_id)
                        yield Change(record_id, None)

    async def _modified(self, target: Definition, since: datetime) -> AsyncIterator[str]:
        where = f"{wire.MODIFIED_ON}%20ge%20{literal(since.replace(microsecond=0))}"
        url = f"{target.set_name}?$select={target.id_column},{wire.MODIFIED_ON}&$filter={where}"
        async for raw in self._reads.rows(target.name, url, f"odata.maxpagesize={_ROWS_A_PAGE}"):
            yield wire.change_of(raw, Table(target, {})).id


def paths_of(table: Table, names: Iterable[str]) -> list[Behind]:
    """Return how those names are read that are paths."""
    return [behind for name in names if (behind := table.attributes[name].behind) is not None]


def own_columns(table: Table, names: Collection[str]) -> list[str]:
    """Return the columns that a feed can read: a path's lookup in its place, for change tracking knows no `$expand` (dataverse.md 4)."""
    attributes: Mapping[str, Attribute] = table.attributes
    lookups = [behind.lookup.column.name for behind in paths_of(table, names)]
    return list(dict.fromkeys([*(name for name in names if attributes[name].behind is None), *lookups]))


def parted(position: str | None) -> tuple[str | None, datetime | None]:
    """Return the server's link in a position, and when was looked last; a link alone is one of a feed without paths."""
    if position is None or not position.startswith('{"link":'):
        return position, None
    members = json.loads(position)
    return members["link"], datetime.fromisoformat(members["looked"])


def _joined(link: str, looked: datetime | None) -> str:
    return link if looked is None else json.dumps({"link": link, "looked": looked.isoformat()}, separators=(",", ":"))


def _ends(paths: Iterable[Behind]) -> list[tuple[Attribute, Definition]]:
    """Return each lookup and the table behind it once, however many of its columns are read."""
    return list({(path.lookup.read_name, path.target.name): (path.lookup, path.target) for path in paths}.values())
