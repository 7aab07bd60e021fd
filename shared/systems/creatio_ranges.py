"""How a bulk run goes through a Creatio object: cut into ranges of time, each read page by page. Pure: no I/O.

Both are one walk over rows ordered by (time, Id), and both must miss no row that stays, whatever is edited or deleted meanwhile:

- A page starts at the last time seen (`ge`), never at an offset from the beginning: a row that goes away behind it moves no other.
- Only inside one time, which thousands of rows may share (creatio.md 4), an offset is used. Then a page begins with the last row of
  the one before it. When that row is not there, the page is looked for further back, until it shows a row known to be behind us; in
  the worst case the whole time is read again, and rows come twice.
- Bounds are `ge` and `lt`, one microsecond behind: a server may keep seven digits and show them, or six (creatio.md 9.8).
- `$count` tells that a server cap cut a page short; without it the walk goes on until a page brings nothing new. Next links are not
  followed: they lead by offsets.

A row that gets another time meanwhile (by MODIFIED: any edit) may move to a later range or out of all of them. The scheduled flow
finds it: it is a change like any other. A row without a time is in no range; the scheduled flow names it.
"""

import base64
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from shared.core.errors import Rejected
from shared.core.records import KeyRange, RangeBy, read_time
from shared.systems.creatio_errors import SYSTEM, bad_answer, kept_moving
from shared.systems.creatio_wire import Rows, collection_url, read_id
from shared.systems.odata import literal

RANGE_ROWS: Final = 20_000
"""Rows of a page while ranges are cut: what a server shows at once, as it is shipped (creatio.md 2.3)."""
TIME_COLUMNS: Final[Mapping[RangeBy, str]] = {RangeBy.CREATED: "CreatedOn", RangeBy.MODIFIED: "ModifiedOn"}
_EARLIEST = datetime(1753, 1, 1, tzinfo=UTC)  # what SQL Server can hold; a bound leaves rows without a time out on every database
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_STEP = timedelta(microseconds=1)
_KNOWN = 16
_MOST_TRIES = 60
_ID_BYTES = 16
_VERSION = 1


@dataclass(frozen=True)
class Place:
    """Where a walk goes on: rows of `time` are next, of which `behind` were seen; `known` are the ids of the last of those."""

    time: datetime
    behind: int = 0
    known: tuple[str, ...] = ()

    def encode(self) -> str:
        """Return the compact text that the ledger keeps."""
        packed = b"".join(uuid.UUID(one).bytes for one in self.known)
        members = {"v": _VERSION, "t": self.time.isoformat(), "n": self.behind, "ids": base64.b64encode(packed).decode("ascii")}
        return json.dumps(members, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str, part: KeyRange) -> "Place":
        """Read what `encode` wrote for this range; raises Rejected `message.future_version` for anything else."""
        try:
            members = {_VERSION: dict(json.loads(text))}[json.loads(text)["v"]]
            packed = base64.b64decode(members["ids"], validate=True)
            known = tuple(str(uuid.UUID(bytes=packed[at : at + _ID_BYTES])) for at in range(0, len(packed), _ID_BYTES))
            place = cls(datetime.fromisoformat(members["t"]).astimezone(UTC), int(members["n"]), known)
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            raise _unreadable() from None
        if not (part.first <= place.time <= part.last and known and place.behind > 0):
            raise _unreadable()
        return place


class Walk:
    """Rows of an object from a place on, up to but without `end`, in the order of (time, Id): ask `url`, give the answer to `take`."""

    def __init__(self, entity: str, by: RangeBy, place: Place, end: datetime, *, size: int, select: Iterable[str] = ()) -> None:
        self._entity = entity
        self._column = TIME_COLUMNS[by]
        self._end = end
        self._size = max(size, 1)
        self._select = tuple(dict.fromkeys(("Id", self._column, *select)))
        self._back = self._tries = 0
        self.place = place
        self.complete = place.time >= end

    @property
    def _skip(self) -> int:
        return max(self.place.behind - 1 - self._back, 0)

    @property
    def url(self) -> str:
        """Return the URL of the next page, relative to the service root."""
        return collection_url(
            self._entity,
            select=self._select,
            where=f"{self._column} ge {literal(self.place.time)} and {self._column} lt {literal(self._end)}",
            order=f"{self._column},Id",
            top=self._size + self.place.behind - self._skip,
            skip=self._skip,
            count=True,
        )

    def take(self, page: Rows) -> Sequence[tuple[datetime, Mapping[str, Any]]] | None:
        """Return the rows that are new, each with its time, and go on behind them; None when another page must be asked for first."""
        timed = self._timed(page.rows)
        known = [at for at, (moment, raw) in enumerate(timed) if moment == self.place.time and read_id(raw) in self.place.known]
        if self._skip and not known:
            self._again(self.place, 2 * self._back + 1)
            return None
        begin = known[-1] + 1 if self._skip else 0
        fresh = [at for at in range(begin, len(timed)) if at not in known]
        reached = self._skip + len(timed)
        ended = reached >= page.count if page.count is not None else not fresh and reached <= self.place.behind
        if not fresh and not ended:  # rows that came meanwhile stand before the last one seen, or others went away
            self._again(replace(self.place, behind=reached), 0)
            return None
        taken = fresh[: self._size]
        self.complete = ended and len(taken) == len(fresh)
        if taken:
            self._go_on(timed[: taken[-1] + 1])
        return [timed[at] for at in taken]

    def _again(self, place: Place, back: int) -> None:
        """Look elsewhere for where to go on; raise when that leads nowhere."""
        self._tries += 1
        if (place, back) == (self.place, self._back):
            raise bad_answer("the server counts more rows than it shows", self._entity)
        if self._tries > _MOST_TRIES:
            raise kept_moving(self._entity)
        self.place, self._back = place, back

    def narrow(self) -> bool:
        """Go on with pages of a quarter of the rows; False when a page is one row already."""
        narrower, self._size = self._size, max(self._size // 4, 1)
        return narrower > 1

    def _timed(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[datetime, Mapping[str, Any]]]:
        """Pair each row with its time; one whose time can't be read stands where it stands."""
        timed: list[tuple[datetime, Mapping[str, Any]]] = []
        last = self.place.time
        for raw in rows:
            if read_id(raw) is None:
                raise bad_answer("a row without an id", self._entity)
            try:
                moment = read_time(raw.get(self._column))
            except ValueError:
                moment = last
            if not last <= moment < self._end:
                raise bad_answer(f"the rows are not those, or not in the order of {self._column}, that were asked for", self._entity)
            last = moment
            timed.append((moment, raw))
        return timed

    def _go_on(self, taken: Sequence[tuple[datetime, Mapping[str, Any]]]) -> None:
        last = taken[-1][0]
        ids = [str(read_id(raw)) for moment, raw in taken if moment == last]
        moved = last > self.place.time
        behind = len(ids) if moved else self._skip + len(taken)
        before = () if moved else tuple(one for one in self.place.known if one not in ids)
        self.place = Place(last, behind, (*before, *ids)[-_KNOWN:])
        self._back = self._tries = 0


def cutting_walk(entity: str, by: RangeBy, since: datetime | None, until: datetime | None, after: datetime | None) -> Walk:
    """Return the walk over ids and times of all rows with since <= time < until, behind `after` when given."""
    start = max(since or _EARLIEST, _EARLIEST if after is None else after + _STEP)
    return Walk(entity, by, Place(start), _LATEST if until is None else until, size=RANGE_ROWS)


def reading_walk(entity: str, part: KeyRange, position: str | None, select: Iterable[str], size: int) -> Walk:
    """Return the walk over a range from a position on; raises Rejected `message.future_version` for a position that is none of it."""
    place = Place(part.first) if position is None else Place.decode(position, part)
    return Walk(entity, part.by, place, part.last + _STEP, size=size, select=select)


class Cutter:
    """Cuts rows, given by their times in order, into ranges that leave no gap: where one ends the next begins."""

    def __init__(self, by: RangeBy, size: int, begin: datetime | None) -> None:
        self._by = by
        self._size = max(size, 1)
        self._first = begin
        self._last: datetime | None = None
        self._rows = 0

    def add(self, moment: datetime) -> KeyRange | None:
        """Take the next row; return the range before it when that is full. Rows of one time stay together."""
        cut = None
        if self._last is not None and self._rows >= self._size and moment > self._last:
            cut = self.rest(None)
            self._first, self._rows = self._last + _STEP, 0
        self._first = self._first or moment
        self._last = moment
        self._rows += 1
        return cut

    def rest(self, until: datetime | None) -> KeyRange | None:
        """Return the range that is open, up to `until` when given; None when there was no row."""
        if self._first is None or self._last is None:
            return None
        return KeyRange(self._by, self._first, self._last if until is None else until - _STEP, self._rows)


def _unreadable() -> Rejected:
    return Rejected("message.future_version", "the position in a range of a Creatio object can't be read", system=SYSTEM)
