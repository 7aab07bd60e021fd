"""The change feed of a Creatio object, as a pure state machine: which page to ask for next, and what a page means.

Creatio has no change tracking; all there is are the times of change (creatio.md 4). What makes them safe to follow:

- The watermark is the server's own clock (`Date` header) less an overlap, never a row's time: a row from the future can't push it ahead.
- Rows inside the overlap are known by short hashes of (Id, ModifiedOn), so that a quiet poll is one request and changes nothing.
- Pages are cut by time, not by offset: a page starts at the last time seen (`ge`), for bulk updates give thousands of rows one time.
  Only where one time fills a whole page is an offset used; then each page begins with the last row of the one before it, and when
  that row is not there (rows moved away meanwhile) the time is read again from its first row.
- `$count` tells when a server cap cut a page short; a next link is followed where the server sends one.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.core.errors import Rejected, TandemError
from shared.core.records import EMPTY_GUID, Change, ChangePage, Stamp, is_guid
from shared.systems.creatio_errors import SYSTEM, bad_answer, kept_moving
from shared.systems.creatio_wire import Rows, bad_row, collection_url, read_id, read_stamp, since_filter

MOST_SEEN = 2000
"""Row hashes that a position keeps (21 kB of text); beyond it the oldest rows of the overlap are announced once more."""
_HASH_BYTES = 8
_MOST_RESTARTS = 5
_VERSION = 1
_LONG_AGO, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Position:
    """Where to go on. `start` None: from the first row on; `open`: the chain is unfinished and began at the server time `clock`.

    `skip` and `last`: rows of the time `start` that are behind us, and the id of the last of them.
    """

    start: datetime | None
    seen: frozenset[bytes] = frozenset()
    open: bool = False
    clock: datetime | None = None
    skip: int = 0
    last: str | None = None

    def encode(self) -> str:
        """Return the compact text that the ledger keeps."""
        members = {
            "v": _VERSION,
            "t": _iso(self.start),
            "seen": base64.b64encode(b"".join(sorted(self.seen))).decode("ascii"),
            "open": self.open,
            "clock": _iso(self.clock),
            "skip": self.skip,
            "last": self.last,
        }
        return json.dumps({name: member for name, member in members.items() if member}, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> "Position":
        """Read what `encode` wrote; raises Rejected `message.future_version` for anything else."""
        try:
            members = {_VERSION: dict(json.loads(text))}[json.loads(text)["v"]]
            packed = base64.b64decode(members.get("seen", ""), validate=True)
            seen = frozenset(packed[place : place + _HASH_BYTES] for place in range(0, len(packed), _HASH_BYTES))
            clock, skip = _moment(members.get("clock")), int(members.get("skip", 0))
            return cls(_moment(members.get("t")), seen, bool(members.get("open")), clock, skip, members.get("last"))
        except (ValueError, TypeError, LookupError):
            raise Rejected("message.future_version", "the position of a Creatio feed can't be read", system=SYSTEM) from None


@dataclass
class _Query:
    """The page asked for: rows from `start` on, of which `skip` are behind us; `last` is the row that must come first again."""

    start: datetime | None
    skip: int = 0
    last: str | None = None
    consumed: int = 0
    """Rows that the answers to this query brought, links followed included; `newest` is the last of them."""
    newest: str | None = None

    @property
    def offset(self) -> int:
        return max(self.skip - 1, 0) if self.last is not None else self.skip


class Feed:
    """One walk through the changes of an object: ask `url`, give the answer to `take`, until `complete`."""

    def __init__(
        self, entity: str, position: str | None, since: datetime | None, *, page_size: int, overlap: timedelta, parent: str = ""
    ) -> None:
        """Follow an object; with `parent`, a lookup, each changed row is told as a change of the record that it belongs to."""
        before = Position.decode(position) if position is not None else Position(since)
        self._entity = entity
        self._parent = parent
        self._given = position
        self._resumed = before.open
        self._since = since if position is None else None
        self._page_size = page_size
        self._overlap = overlap
        self._clock = before.clock
        self._query = _Query(before.start, before.skip, before.last)
        self._seen = set(before.seen)
        self._window: dict[bytes, datetime] = {}
        self._at_last: set[bytes] = set()
        self._last: datetime | None = None
        self._fresh = False
        self._restarts = 0
        self._links: set[str] = set()
        self.link = ""
        self.complete = False
        self.lines: list[tuple[str, str]] = []
        """With `parent`: the records that the last page announced, each with the one that it belongs to before it."""

    @property
    def url(self) -> str:
        """Return the URL of the next page, relative to the service root (when there is no `link` to follow)."""
        return collection_url(
            self._entity,
            select=("Id", "ModifiedOn", self._parent) if self._parent else ("Id", "ModifiedOn"),
            where=since_filter(self._query.start),
            order="ModifiedOn,Id",
            top=self._page_size + min(len(self._seen), MOST_SEEN),
            skip=self._query.offset,
            count=True,
        )

    def take(self, page: Rows, server_time: datetime | None) -> ChangePage:
        """Read a page, decide where to go on, and return what it announces."""
        if self._clock is None:
            self._clock = server_time
        changes: list[Change] = []
        problems: list[TandemError] = []
        self.lines = []
        if self._shifted(page):
            self._restart()
        else:
            again = 1 if self._query.last is not None and not self._query.consumed else 0
            self._read(page.rows[again:], changes, problems)
            self._go_on(page)
        self._fresh = self._fresh or bool(changes) or bool(problems)
        return ChangePage(tuple(changes), self._position(), self.complete, server_time, problems=tuple(problems))

    def _shifted(self, page: Rows) -> bool:
        query = self._query
        if query.last is None or query.consumed:
            return False
        if not page.rows or read_id(page.rows[0]) != query.last:
            return True
        return query.start is not None and read_stamp(page.rows[0]) != query.start

    def _restart(self) -> None:
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise kept_moving(self._entity)
        self._query = _Query(self._query.start)
        self.link = ""

    def _read(self, rows: Sequence[Mapping[str, Any]], changes: list[Change], problems: list[TandemError]) -> None:
        for raw in rows:
            record_id, moment = read_id(raw), read_stamp(raw)
            mark = _mark(raw, record_id, moment)
            known = mark in self._seen or mark in self._window or mark in self._at_last
            if moment is None or record_id is None:
                self._window[mark] = _NEVER  # no time says when it leaves the window
                if not known:
                    field = "ModifiedOn" if record_id else "Id"
                    problems.append(bad_row(self._entity, record_id or "", field, "it is absent or no proper value"))
                continue
            self._advance(moment)
            self._at_last.add(mark)
            if moment >= self._floor():
                self._keep(mark, moment)
            if not known and (change := self._change(raw, record_id, moment)):
                changes.append(change)

    def _change(self, raw: Mapping[str, Any], record_id: str, moment: datetime) -> Change | None:
        """Return what a row announces; the time of a line says nothing about its document, and one without document concerns nobody."""
        if not self._parent:
            return Change(record_id, Stamp(moment))
        parent = raw.get(self._parent)
        if not isinstance(parent, str) or not is_guid(parent) or parent == EMPTY_GUID:
            return None
        self.lines.append((parent.lower(), record_id))
        return Change(parent.lower(), None)

    def _keep(self, mark: bytes, moment: datetime) -> None:
        self._window[mark] = moment
        if len(self._window) > 4 * MOST_SEEN:  # memory stays flat however many rows the overlap holds
            newest = _newest(self._window)
            self._window = {mark: self._window[mark] for mark in newest}

    def _advance(self, moment: datetime) -> None:
        if self._last is not None and moment < self._last:
            raise bad_answer("the rows are not in the order of ModifiedOn that was asked for", self._entity)
        if self._last is None or moment > self._last:
            self._last = moment
            self._at_last = set()

    def _go_on(self, page: Rows) -> None:
        query = self._query
        query.consumed += len(page.rows)
        query.newest = read_id(page.rows[-1]) if page.rows else query.newest
        self.link = page.link
        if page.link:
            if page.link in self._links:
                raise bad_answer("a next link came a second time", self._entity)
            self._links.add(page.link)
            return
        # Without a count the end is known only by a page that holds nothing but the row that was asked for again.
        nothing_new = query.consumed <= (1 if query.last is not None else 0)
        if nothing_new if page.count is None else query.offset + query.consumed >= page.count:
            self.complete = True
        elif nothing_new:
            raise bad_answer("the server counts more rows than it shows", self._entity)
        else:
            self._query = self._following()

    def _following(self) -> _Query:
        """Return the query that goes on behind all rows read: by time where it moved, else by offset."""
        query = self._query
        if self._last is not None and (query.start is None or self._last > query.start):
            return _Query(self._last)
        if not query.consumed:
            return query
        return _Query(query.start, query.offset + query.consumed, query.newest)

    def _floor(self) -> datetime:
        """Return where the overlap begins: nothing before it can still appear."""
        anchor = self._clock or self._last or _NEVER
        return anchor - self._overlap

    def _position(self) -> str:
        if not self.complete:
            query = self._following() if self.link else self._query
            marks = {**dict.fromkeys(self._seen, _LONG_AGO), **self._window}
            if not query.skip:  # rows of the last time come once more
                marks |= dict.fromkeys(self._at_last, _NEVER)
            return Position(query.start, _newest(marks), open=True, clock=self._clock, skip=query.skip, last=query.last).encode()
        if self._given is not None and not self._resumed and not self._fresh:
            return self._given
        start = self._floor() if self._clock or self._last else self._query.start
        if self._since is not None and self._clock is not None and start is not None:
            start = max(start, min(self._since, self._clock))
        window = {mark: moment for mark, moment in self._window.items() if start is None or moment >= start}
        return Position(start, _newest(window)).encode()


def _mark(raw: Mapping[str, Any], record_id: str | None, moment: datetime | None) -> bytes:
    text = f"{record_id}|{moment.isoformat()}" if record_id and moment else repr(sorted((k, str(v)) for k, v in raw.items()))
    return hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest()


def _newest(marks: Mapping[bytes, datetime]) -> frozenset[bytes]:
    if len(marks) <= MOST_SEEN:
        return frozenset(marks)
    return frozenset(sorted(marks, key=lambda mark: (marks[mark], mark))[-MOST_SEEN:])


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _moment(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
