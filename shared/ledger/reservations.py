"""Reservations of match keys (law 7): who may create a record with this key. A reservation that ran out still holds until it is retaken.

All lie in one partition, so that the keys of a record are reserved, and given back, in one transaction: all or none.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from shared.core.errors import Stale
from shared.ledger.encoding import decode_time, encode_part, encode_time
from shared.ledger.packing import VERSION, check_version
from shared.ledger.recent import Recent
from shared.ledger.tables import ChangeKind, RowChange, RowConflict, StoredRow, Table

_PARTITION: Final = "hold"
_TRIES: Final = 8


class ReservationRows:
    """Reservation rows; the ETags of those made here are remembered, so that giving back usually needs no read."""

    def __init__(self, table: Table, clock: Callable[[], datetime]) -> None:
        self._table = table
        self._clock = clock
        self._made: Recent[tuple[str, str], str] = Recent()

    async def reserve(self, keys: Sequence[str], holder: str, until: datetime) -> str | None:
        """Reserve keys, all or none; None when all are the holder's, else the holder that is in the way."""
        rows: dict[str, StoredRow] = {}
        for _ in range(_TRIES):
            if await self._try(keys, holder, until, rows):
                return None
            rows = await self._read(keys)
            others = [str(row.properties["holder"]) for row in rows.values() if row.properties["holder"] != holder]
            if others:
                return others[0]
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
        return bool(rows) and await self._try(list(rows), holder, until, rows)

    async def release(self, keys: Sequence[str], holder: str) -> None:
        """Give back those keys that are the holder's."""
        names = sorted(set(keys))
        known = {key: etag for key in names if (etag := self._made.pop((holder, key))) is not None}
        if names and len(known) == len(names) and await self._delete(known):
            return
        for _ in range(_TRIES):
            rows = await self._read(names)
            own = {key: row.etag for key, row in rows.items() if row.properties["holder"] == holder}
            if not own or await self._delete(own):
                return
        raise Stale("ledger.changed_meanwhile", f"reservation: lost the race {_TRIES} times")

    async def _try(self, keys: Sequence[str], holder: str, until: datetime, rows: dict[str, StoredRow]) -> bool:
        """Insert the reservations, or replace those that were read, in one transaction; False when one of them moved."""
        names = sorted(set(keys))
        properties = {VERSION: 1, "holder": holder, "until": encode_time(until)}
        changes = [
            RowChange(ChangeKind.REPLACE, encode_part(key), properties, rows[key].etag)
            if key in rows
            else RowChange(ChangeKind.CREATE, encode_part(key), properties)
            for key in names
        ]
        if not changes:
            return True
        try:
            etags = await self._table.transact(_PARTITION, changes)
        except RowConflict:
            return False
        for key, etag in zip(names, etags, strict=True):
            if etag is not None:
                self._made.put((holder, key), etag)
        return None not in etags

    async def _delete(self, etags: dict[str, str]) -> bool:
        changes = [RowChange(ChangeKind.DELETE, encode_part(key), etag=etag) for key, etag in etags.items()]
        try:
            await self._table.transact(_PARTITION, changes)
        except RowConflict:  # one was renewed or retaken, or the reply to a first try was lost
            return False
        return True

    async def _read(self, keys: Sequence[str]) -> dict[str, StoredRow]:
        names = sorted(set(keys))
        rows = await self._table.get_many(_PARTITION, [encode_part(key) for key in names])
        found = {key: row for key, row in zip(names, rows, strict=True) if row is not None}
        for row in found.values():
            check_version(row.properties, "reservation")
        return found
