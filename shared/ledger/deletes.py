"""What the law of deletes remembers: how many were sent in a day, those that wait for a person, and those that Tandem made itself."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from shared.core.errors import Stale
from shared.core.records import Side
from shared.core.work import LEDGER_VERSION, DeleteCount, HeldDelete
from shared.ledger.encoding import encode_part, make_key
from shared.ledger.packing import VERSION, Packer
from shared.ledger.tables import Table, side_by_side


class DeleteRows:
    """One count a flow, one row a held delete, one row a record that Tandem deleted."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._counts = Packer(DeleteCount)
        self._held = Packer(HeldDelete)

    async def count(self, flow: str) -> DeleteCount:
        """Read the count of a flow's deletes; an empty one when there is none."""
        row = await self._table.get("deletes", encode_part(flow))
        return replace(self._counts.unpack(row.properties), etag=row.etag) if row else DeleteCount(flow)

    async def save_count(self, count: DeleteCount) -> DeleteCount:
        """Save a count by its ETag."""
        etag = await self._table.save("deletes", encode_part(count.flow), self._counts.pack(count), count.etag)
        return replace(count, etag=etag)

    async def hold(self, held: Sequence[HeldDelete]) -> None:
        """Keep deletes that wait for a person; one that is there stays."""
        await side_by_side(self._hold, held)

    async def held(self, flow: str) -> list[HeldDelete]:
        """List the deletes of a flow that wait for a person."""
        return [self._held.unpack(row.properties) for row in await self._table.query_prefix(make_key("held", flow))]

    async def clear_held(self, flow: str, records: Collection[tuple[Side, str]]) -> None:
        """Remove held deletes."""
        partition = make_key("held", flow)
        there = {row.key for row in await self._table.query_prefix(partition, select=[VERSION])}
        keys = {make_key(side, record_id) for side, record_id in records} & there
        await self._table.delete_many(partition, sorted(keys))

    async def keep_own(self, system: str, entity: str, ids: Collection[str]) -> None:
        """Remember that Tandem deletes these records itself."""
        partition = make_key("gone", system, entity)
        await side_by_side(lambda one: self._table.put(partition, encode_part(one), {VERSION: LEDGER_VERSION}), ids)

    async def own(self, system: str, entity: str, ids: Collection[str]) -> set[str]:
        """Return those of the ids that Tandem deleted itself."""
        wanted = list(ids)
        rows = await self._table.get_many(make_key("gone", system, entity), [encode_part(one) for one in wanted], [VERSION])
        return {one for one, row in zip(wanted, rows, strict=True) if row is not None}

    async def forget_own(self, system: str, entity: str, ids: Collection[str]) -> None:
        """Forget that Tandem deletes these records; those that are not remembered are passed."""
        there = await self.own(system, entity, ids)
        await self._table.delete_many(make_key("gone", system, entity), [encode_part(one) for one in sorted(there)])

    async def _hold(self, held: HeldDelete) -> None:
        try:
            await self._table.create(make_key("held", held.flow), make_key(held.side, held.record_id), self._held.pack(held))
        except Stale:  # it is held already
            return
