"""Reservations of match keys (law 7): who may create a record with this key. A reservation that ran out still holds until it is retaken.

All lie in one partition, so that the keys of a record are reserved in one transaction, all or none, and those of many records together.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from shared.core.errors import Stale
from shared.ledger.encoding import MAX_TRANSACTION_ROWS, decode_time, encode_part, encode_time
from shared.ledger.packing import VERSION, check_version
from shared.ledger.recent import Recent
from shared.ledger.tables import ChangeKind, RowChange, RowConflict, StoredRow, Table, side_by_side

_PARTITION: Final = "hold"
_TRIES: Final = 8


class ReservationRows:
    """Reservation rows; the ETags of those made here are remembered, so that giving back usually needs no read."""

    def __init__(self, table: Table, clock: Callable[[], datetime]) -> None:
        self._table = table
        self._clock = clock
        self._made: Recent[tuple[str, str], str] = Recent()

    async def reserve(self, wanted: Mapping[str, Sequence[str]], until: datetime) -> dict[str, str | None]:
        """Reserve keys for holders, all or none for each; return by holder None when all are its own, else the holder in the way.

        A transaction takes as many holders as fit. Of two that want the same key the first one named gets it.
        """
        answers: dict[str, str | None] = {holder: None for holder, keys in wanted.items() if not keys}
        left = {holder: frozenset(keys) for holder, keys in wanted.items() if keys}
        while left:
            wave = _disjoint(left)
            for found in await side_by_side(lambda chunk: self._reserve_chunk(chunk, until), _chunks(wave)):
                answers.update(found)
            left = {holder: keys for holder, keys in left.items() if holder not in wave}
        return answers

    async def _reserve_chunk(self, wanted: Mapping[str, Collection[str]], until: datetime) -> dict[str, str | None]:
        """Reserve what can be reserved of one transaction: those whose keys are held by others are left out."""
        answers: dict[str, str | None] = {}
        left = dict(wanted)
        rows: dict[str, StoredRow] = {}
        for _ in range(_TRIES):
            if await self._try(left, until, rows):
                return answers | dict.fromkeys(left)
            rows = await self._read([key for keys in left.values() for key in keys])
            others = {holder: _other(rows, keys, holder) for holder, keys in left.items()}
            answers.update({holder: other for holder, other in others.items() if other is not None})
            left = {holder: keys for holder, keys in left.items() if holder not in answers}
        if len(left) > 1:  # a race for one of the keys holds up all
            found = [await self._reserve_chunk({holder: keys}, until) for holder, keys in left.items()]
            return answers | {holder: other for each in found for holder, other in each.items()}
        raise Stale("ledger.changed_meanwhile", f"reservation: lost the race {_TRIES} times")

    async def retake(self, keys: Sequence[str], holder: str, from_holder: str, until: datetime) -> bool:
        """Take over those keys that `from_holder` reserved and that ran out; True when they changed hands.

        The caller has made sure that `from_holder` has no binding (law 7); a lost race counts as not taken.
        """
        now = self._clock()
        rows = {
            key: row
            for key, row in (await self._read(keys)).items()
            if row.properties["holder"] == from_holder and decode_time(row.properties["until"]) <= now
        }
        return bool(rows) and await self._try({holder: list(rows)}, until, rows)

    async def release(self, held: Mapping[str, Collection[str]]) -> None:
        """Give back those of the keys that are their holder's, a hundred a transaction; usually no read comes before it."""
        left = {(holder, key) for holder, keys in held.items() for key in keys}
        etags = {key: etag for holder, key in sorted(left) if (etag := self._made.pop((holder, key))) is not None}
        for _ in range(_TRIES):
            gone = await self._delete(etags)
            left = {(holder, key) for holder, key in left if key not in gone}
            rows = await self._read([key for _, key in left])
            left = {(holder, key) for holder, key in left if key in rows and rows[key].properties["holder"] == holder}
            if not left:
                return
            etags = {key: rows[key].etag for _, key in left}
        raise Stale("ledger.changed_meanwhile", f"reservation: lost the race {_TRIES} times")

    async def _try(self, wanted: Mapping[str, Collection[str]], until: datetime, rows: Mapping[str, StoredRow]) -> bool:
        """Insert the reservations, or replace those that were read, in one transaction; False when one of them moved."""
        holders = {key: holder for holder, keys in wanted.items() for key in keys}
        names = sorted(holders)
        if not names:
            return True
        changes = []
        for key in names:
            properties = {VERSION: 1, "holder": holders[key], "until": encode_time(until)}
            if key in rows:
                changes.append(RowChange(ChangeKind.REPLACE, encode_part(key), properties, rows[key].etag))
            else:
                changes.append(RowChange(ChangeKind.CREATE, encode_part(key), properties))
        try:
            etags = await self._table.transact(_PARTITION, changes)
        except RowConflict:
            return False
        for key, etag in zip(names, etags, strict=True):
            if etag is not None:
                self._made.put((holders[key], key), etag)
        return None not in etags

    async def _delete(self, etags: Mapping[str, str]) -> set[str]:
        """Remove rows by their ETags; return the keys of the transactions that went through."""
        names = sorted(etags)
        parts = [names[start : start + MAX_TRANSACTION_ROWS] for start in range(0, len(names), MAX_TRANSACTION_ROWS)]

        async def delete(part: Sequence[str]) -> bool:
            try:
                await self._table.transact(_PARTITION, [RowChange(ChangeKind.DELETE, encode_part(key), etag=etags[key]) for key in part])
            except RowConflict:  # one was renewed or retaken, or the reply to a first try was lost
                return False
            return True

        gone = await side_by_side(delete, parts)
        return {key for part, done in zip(parts, gone, strict=True) if done for key in part}

    async def _read(self, keys: Sequence[str]) -> dict[str, StoredRow]:
        names = sorted(set(keys))
        rows = await self._table.get_many(_PARTITION, [encode_part(key) for key in names])
        found = {key: row for key, row in zip(names, rows, strict=True) if row is not None}
        for row in found.values():
            check_version(row.properties, "reservation")
        return found


def _disjoint(wanted: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the holders, in their order, none of which wants a key that an earlier one wants: a transaction meets each row once."""
    taken: set[str] = set()
    chosen: dict[str, frozenset[str]] = {}
    for holder, keys in wanted.items():
        if not keys & taken:
            chosen[holder] = keys
        taken |= keys
    return chosen


def _chunks(wanted: Mapping[str, Collection[str]]) -> list[dict[str, Collection[str]]]:
    """Share holders out over transactions: the keys of each stay together."""
    chunks: list[dict[str, Collection[str]]] = []
    rows = 0
    for holder, keys in wanted.items():
        if not chunks or rows + len(keys) > MAX_TRANSACTION_ROWS:
            chunks.append({})
            rows = 0
        chunks[-1][holder] = keys
        rows += len(keys)
    return chunks


def _other(rows: Mapping[str, StoredRow], keys: Collection[str], holder: str) -> str | None:
    """Return who holds one of a holder's keys in its place."""
    found = (str(rows[key].properties["holder"]) for key in sorted(keys) if key in rows)
    return next((one for one in found if one != holder), None)
