"""What a poll needs to know, in one partition, so that a quiet poll reads it with one query; slot leases.

Flow settings, watermarks, account pauses, pins and censuses.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from shared.core.errors import Stale
from shared.core.work import AccountThrottle, Census, FlowSettings, Pin, PollState, Watermark
from shared.ledger.encoding import decode_time, encode_time, make_key
from shared.ledger.packing import VERSION, Packer, check_version
from shared.ledger.recent import Recent
from shared.ledger.tables import StoredRow, Table

if TYPE_CHECKING:
    from shared.core.records import Side

_POLL: Final = "poll"
_TRIES: Final = 8


class StateRows:
    """What a poll needs to know; `clock` returns the present moment and decides which leases have run out."""

    def __init__(self, table: Table, clock: Callable[[], datetime]) -> None:
        self._table = table
        self._clock = clock
        self._flows = Packer(FlowSettings)
        self._watermarks = Packer(Watermark)
        self._throttles = Packer(AccountThrottle)
        self._pins = Packer(Pin)
        self._censuses = Packer(Census)
        self._leases: Recent[tuple[str, str, str], str] = Recent()

    async def poll_state(self) -> PollState:
        """Read settings, watermarks, pauses, pins and censuses of all flows: one request while they fit on a page of 1,000 rows."""
        flows: dict[str, FlowSettings] = {}
        watermarks: dict[tuple[str, Side], Watermark] = {}
        throttles: dict[str, AccountThrottle] = {}
        pins: dict[str, Pin] = {}
        censuses: dict[tuple[str, Side], Census] = {}
        for row in await self._table.query_prefix(_POLL):
            match row.key.partition(":")[0]:
                case "flow":
                    settings = replace(self._flows.unpack(row.properties), etag=row.etag)
                    flows[settings.flow] = settings
                case "mark":
                    watermark = replace(self._watermarks.unpack(row.properties), etag=row.etag)
                    watermarks[watermark.flow, watermark.side] = watermark
                case "pause":
                    throttle = replace(self._throttles.unpack(row.properties), etag=row.etag)
                    throttles[throttle.system] = throttle
                case "pin":
                    pin = replace(self._pins.unpack(row.properties), etag=row.etag)
                    pins[pin.name] = pin
                case "census":
                    census = replace(self._censuses.unpack(row.properties), etag=row.etag)
                    censuses[census.flow, census.side] = census
                case _:  # a kind of row that a newer version added
                    continue
        return PollState(flows, watermarks, throttles, pins, censuses)

    async def save_flow(self, settings: FlowSettings) -> FlowSettings:
        """Save settings by their ETag."""
        key = make_key("flow", settings.flow)
        return replace(settings, etag=await self._table.save(_POLL, key, self._flows.pack(settings), settings.etag))

    async def save_watermark(self, watermark: Watermark) -> Watermark:
        """Save a watermark by its ETag; positions of several hundred thousand characters fit."""
        key = make_key("mark", watermark.flow, watermark.side)
        return replace(watermark, etag=await self._table.save(_POLL, key, self._watermarks.pack(watermark), watermark.etag))

    async def save_pin(self, pin: Pin) -> Pin:
        """Save a pin by its ETag."""
        return replace(pin, etag=await self._table.save(_POLL, make_key("pin", pin.name), self._pins.pack(pin), pin.etag))

    async def save_census(self, census: Census) -> Census:
        """Save a census by its ETag; it lists at most some hundred ids."""
        key = make_key("census", census.flow, census.side)
        return replace(census, etag=await self._table.save(_POLL, key, self._censuses.pack(census), census.etag))

    async def pause_account(self, throttle: AccountThrottle) -> None:
        """Keep the later one of the stored pause and this one."""
        key = make_key("pause", throttle.system)
        for _ in range(_TRIES):
            row = await self._table.get(_POLL, key)
            stored = self._throttles.unpack(row.properties).pause_until if row else None
            if row and (throttle.pause_until is None or (stored is not None and stored >= throttle.pause_until)):
                return
            try:
                await self._table.save(_POLL, key, self._throttles.pack(throttle), row.etag if row else None)
            except Stale:
                continue
            return
        raise Stale("ledger.changed_meanwhile", f"pause of {throttle.system}: lost the race {_TRIES} times", system=throttle.system)

    async def take_slot(self, system: str, holder: str, slots: int, until: datetime) -> str | None:
        """Lease the first slot that is free, run out, or the holder's own; None when all are taken."""
        partition = make_key("slot", system)
        taken = {row.key: row for row in await self._table.query_prefix(partition)}
        names = [f"{number:03d}" for number in range(slots)]
        names.sort(key=lambda name: name not in taken or taken[name].properties["holder"] != holder)
        for name in names:
            row = taken.get(name)
            if row is not None and not self._is_free(row, holder):
                continue
            lease = {VERSION: 1, "holder": holder, "until": encode_time(until)}
            try:
                etag = await self._table.save(partition, name, lease, row.etag if row else None)
            except Stale:  # somebody else was quicker: try the next one
                continue
            self._leases.put((partition, name, holder), etag)
            return name
        return None

    async def free_slot(self, system: str, slot: str, holder: str) -> None:
        """Give a slot back; one that another holder has taken over stays. Usually no read comes before."""
        partition = make_key("slot", system)
        etag = self._leases.pop((partition, slot, holder))
        if etag is not None:
            with suppress(Stale):  # it ran out and changed hands, or a first reply was lost: read who has it
                await self._table.delete(partition, slot, etag)
                return
        row = await self._table.get(partition, slot)
        if row is None or row.properties["holder"] != holder:
            return
        with suppress(Stale):  # it ran out and changed hands between the two requests
            await self._table.delete(partition, slot, row.etag)

    def _is_free(self, row: StoredRow, holder: str) -> bool:
        check_version(row.properties, "slot")
        return row.properties["holder"] == holder or decode_time(row.properties["until"]) <= self._clock()
