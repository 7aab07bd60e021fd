"""Key ranges of a table as requests and answers; no I/O (dataverse.md 3 and 9).

The wire tells whole seconds, whatever the server stores, so every bound is a whole second and a range holds its seconds whole:
`ge first` and `lt last + 1 s`.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx

from shared.core.errors import Rejected, TandemError
from shared.core.records import KeyRange, RangeBy, RangePage, Row, read_time
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_errors import SYSTEM
from shared.systems.dataverse_service import bad_answer, members
from shared.systems.dataverse_tables import Table
from shared.systems.odata import literal

_COLUMNS = {RangeBy.CREATED: "createdon", RangeBy.MODIFIED: wire.MODIFIED_ON}
_SECOND = timedelta(seconds=1)


def times_url(table: Table, by: RangeBy, since: datetime | None, until: datetime | None, after: datetime | None) -> str:
    """Return the query of ids and times in the order of time; bounds are widened to whole seconds, so that no row falls out."""
    column, key = _COLUMNS[by], table.definition.id_column
    begins = [_whole(since)] if since else []
    begins += [_whole(after) + _SECOND] if after else []
    where = [f"{column} ge {literal(max(begins))}"] if begins else []
    where += [f"{column} lt {literal(_whole(until - timedelta(microseconds=1)) + _SECOND)}"] if until else []
    return f"{table.definition.set_name}?$select={key},{column}{_filter(where)}&$orderby={column},{key}"


def range_url(table: Table, names: Collection[str], part: KeyRange) -> str:
    """Return the query of a range's rows in the order of time and id."""
    column = _COLUMNS[part.by]
    where = [f"{column} ge {literal(_whole(part.first))}", f"{column} lt {literal(_whole(part.last) + _SECOND)}"]
    return f"{table.definition.set_name}?{wire.select(table, names)}{_filter(where)}&$orderby={column},{table.definition.id_column}"


def checked_position(position: str | None, leads_here: Callable[[str], bool], path: str, table: Table) -> str | None:
    """Return a position as it came; raises Rejected `bad_request` for one that is no link to a further page of this table."""
    if position is None:
        return None
    try:
        link = httpx.URL(position)
        sound = link.is_absolute_url and leads_here(position)
    except (httpx.InvalidURL, TandemError):
        sound = False
    if not sound or link.path.lower() != f"{path}/{table.definition.set_name}".lower() or "$skiptoken=" not in unquote(str(link)):
        said = "the position of a range is no link to a further page of this table"
        raise Rejected(f"{SYSTEM}.bad_request", said, system=SYSTEM, entity=table.definition.name)
    return position


def range_page(body: Any, table: Table, names: Collection[str], us: str) -> RangePage:
    """Read a page of a range. Raises Transient `bad_answer` for a row that hides its id: nobody could say which one is missing."""
    rows: dict[str, Row | TandemError] = {}
    for raw in members(body, table.definition.name):
        try:
            row = wire.row_of(raw, table, names, us)
        except TandemError as error:
            if not error.record_id:
                raise bad_answer(table.definition.name, "a row of a range has no id") from None
            rows[error.record_id] = error
        else:
            rows[row.id] = row
    following = body.get("@odata.nextLink")
    if following is not None and not isinstance(following, str):
        raise bad_answer(table.definition.name, "a nextLink that is no text")
    return RangePage(rows, following)


class Cutter:
    """Cuts rows that come in the order of their time into ranges; a range ends only where the next row has another time."""

    def __init__(self, table: Table, by: RangeBy, size: int) -> None:
        """Cut at about `size` rows."""
        self._table = table
        self._by = by
        self._size = max(1, size)
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._rows = 0

    def add(self, raw: Mapping[str, Any]) -> KeyRange | None:
        """Take the next row; return the range that is full before it, if one is. Raises Transient `bad_answer` for a row without time."""
        try:
            moment = read_time(raw.get(_COLUMNS[self._by]))
        except ValueError as problem:
            raise bad_answer(self._table.definition.name, f"a row without {_COLUMNS[self._by]}: {problem}") from None
        full = self.rest() if self._rows >= self._size and moment != self._last else None
        self._first = moment if self._first is None else min(self._first, moment)
        self._last = moment if self._last is None else max(self._last, moment)
        self._rows += 1
        return full

    def rest(self) -> KeyRange | None:
        """Return the range of the rows taken since the last one, None when there are none."""
        if self._first is None or self._last is None:
            return None
        found = KeyRange(self._by, self._first, self._last, self._rows)
        self._first, self._last, self._rows = None, None, 0
        return found


def _whole(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _filter(conditions: list[str]) -> str:
    return "&$filter=" + " and ".join(conditions).replace(" ", "%20") if conditions else ""
