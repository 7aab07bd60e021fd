"""Reservations of match keys (law 7): who may create a record with this key. A reservation that ran out still holds until it is retaken."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from shared.core.errors import Stale
from shared.ledger.encoding import decode_time, encode_part, encode_time, make_key
from shared.ledger.packing import VERSION, check_version
from shared.ledger.tables import StoredRow, Table, side_by_side

_TRIES: Final = 8
_PARTITION_CHARS: Final = 2


class ReservationRows:
    """Reservation rows, spread over partitions by the first characters of the hashed key."""

    def __init__(self, table: Table, clock: Callable[[], datetime]) -> None:
        self._table = table
        self._clock = clock

    async def reserve(self, keys: Sequence[str], holder: str, until: datetime) -> str | None:
        """Reserve keys in sorted order, all or none; None when all are the holder's, else the holder that is in the way.

        Two that want the same keys meet at the first one, so that one of them always gets through.
        """
        taken: list[str] = []
        for key in sorted(set(keys)):
            other, fresh = await self._take(key, holder, until)
            if other is not None:
                await self.release(taken, holder)
                return other
            if fresh:
                taken.append(key)
        return None

    async def retake(self, keys: Sequence[str], holder: str, from_holder: str, until: datetime) -> bool:
        """Take over those keys that `from_holder` reserved and that ran out; True when one of them changed hands.

        The caller has made sure that `from_holder` has no binding (law 7); a lost race counts as not taken.
        """
        retaken = False
        for key in sorted(set(keys)):
            row = await self._get(key)
            if row is None or row.properties["holder"] != from_holder or decode_time(row.properties["until"]) > self._clock():
                continue
            try:
                await self._table.replace(_partition(key), encode_part(key), _properties(holder, until), row.etag)
            except Stale:
                continue
            retaken = True
        return retaken

    async def release(self, keys: Sequence[str], holder: str) -> None:
        """Give back those keys that are the holder's."""
        await side_by_side(lambda key: self._release(key, holder), sorted(set(keys)))

    async def _take(self, key: str, holder: str, until: datetime) -> tuple[str | None, bool]:
        """Reserve one key: return who is in the way, and whether the reservation is a new one."""
        partition, row_key = _partition(key), encode_part(key)
        for _ in range(_TRIES):
            try:
                await self._table.create(partition, row_key, _properties(holder, until))
            except Stale:
                row = await self._get(key)
            else:
                return None, True
            if row is None:  # given back between the two requests
                continue
            if row.properties["holder"] != holder:
                return str(row.properties["holder"]), False
            try:
                await self._table.replace(partition, row_key, _properties(holder, until), row.etag)
            except Stale:
                continue
            return None, False
        raise Stale("ledger.changed_meanwhile", f"reservation: lost the race {_TRIES} times")

    async def _release(self, key: str, holder: str) -> None:
        row = await self._get(key)
        if row is None or row.properties["holder"] != holder:
            return
        try:
            await self._table.delete(_partition(key), encode_part(key), row.etag)
        except Stale:  # it was retaken or renewed between the two requests
            return

    async def _get(self, key: str) -> StoredRow | None:
        row = await self._table.get(_partition(key), encode_part(key))
        if row is not None:
            check_version(row.properties, "reservation")
        return row


def _partition(key: str) -> str:
    return make_key("hold", key[:_PARTITION_CHARS])


def _properties(holder: str, until: datetime) -> dict[str, object]:
    return {VERSION: 1, "holder": holder, "until": encode_time(until)}
