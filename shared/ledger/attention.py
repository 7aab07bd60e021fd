"""What waits for a person or for another record: failures, conflicts and waiting rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from shared.core.errors import Stale
from shared.core.records import Side
from shared.core.work import Conflict, Failure, Waiting
from shared.ledger.encoding import make_key
from shared.ledger.packing import Packer
from shared.ledger.tables import ChangeKind, RowChange, RowConflict, StoredRow, Table, chunk_changes, side_by_side

_FEW: Final = 3
"""Up to so many records are looked up one by one; beyond, one query over the partition costs less (it is empty most of the time)."""
_TRIES: Final = 8
_NO_SIDE: Final = "-"


class FailureRows:
    """Failures, one partition a flow, one row for each side, record and field."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._packer = Packer(Failure)

    async def save(self, failures: Sequence[Failure]) -> None:
        """Keep failures; a row that is there takes the new facts and counts on."""
        await side_by_side(self._save, failures)

    async def clear(self, flow: str, side: Side | None, fields_by_record: Mapping[str, Collection[str] | None]) -> None:
        """Remove the named fields' failures of records; None removes all of a record's. Without a side: those of the flow itself."""
        partition, where = make_key("fail", flow), side or _NO_SIDE
        wanted = {make_key(where, record): fields for record, fields in fields_by_record.items()}
        rows = await _rows_of(self._table, partition, f"{where}:", list(wanted), ["field"])
        keys = []
        for row in rows:
            record = row.key.rpartition(":")[0]
            fields = wanted.get(record, ())
            if fields is None or row.properties["field"] in fields:
                keys.append(row.key)
        await self._table.delete_many(partition, keys)

    async def all(self, flow: str) -> list[Failure]:
        """List the failures of a flow."""
        return [self._packer.unpack(row.properties) for row in await self._table.query_prefix(make_key("fail", flow))]

    async def _save(self, failure: Failure) -> None:
        partition = make_key("fail", failure.flow)
        key = make_key(failure.side or _NO_SIDE, failure.record_id, failure.field)
        for _ in range(_TRIES):
            row = await self._table.get(partition, key)
            count = self._packer.unpack(row.properties).count if row else 0
            counted = replace(failure, count=count + failure.count)
            properties = {**self._packer.pack(counted), "field": failure.field}
            try:
                await self._table.save(partition, key, properties, row.etag if row else None)
            except Stale:
                continue
            return
        raise Stale("ledger.changed_meanwhile", f"failure: lost the race {_TRIES} times", entity=failure.flow, record_id=failure.record_id)


class ConflictRows:
    """Conflicts, one partition a flow, one row for each pair of ids and field."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._packer = Packer(Conflict)

    async def save(self, conflicts: Sequence[Conflict]) -> None:
        """Keep conflicts; a later one replaces an earlier one of the same record and field."""
        for flow in dict.fromkeys(conflict.flow for conflict in conflicts):
            latest = {make_key(c.creatio_id, c.dynamics_id, c.field): c for c in conflicts if c.flow == flow}
            changes = [RowChange(ChangeKind.PUT, key, self._packer.pack(conflict)) for key, conflict in latest.items()]
            for chunk in chunk_changes([(None, [change]) for change in changes]):
                await self._table.transact(make_key("conf", flow), [change for _, [change] in chunk])

    async def clear(self, flow: str, records: Collection[tuple[str, str, str]]) -> None:
        """Remove conflicts by (creatio id, dynamics id, field)."""
        partition = make_key("conf", flow)
        keys = {make_key(*record) for record in records}
        if len(keys) > _FEW:
            there = await self._table.query_prefix(partition, select=["v"])
            keys &= {row.key for row in there}
        await side_by_side(lambda key: self._table.delete(partition, key), sorted(keys))

    async def all(self, flow: str) -> list[Conflict]:
        """List the conflicts of a flow."""
        return [self._packer.unpack(row.properties) for row in await self._table.query_prefix(make_key("conf", flow))]


class WaitingRows:
    """Waiting rows, one partition for each side of a target flow, so that a new binding finds who waits for it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._packer = Packer(Waiting)

    async def save(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """Insert waiting rows; one that is there stays, with the time since when it waits. Return those that were not there."""
        rows: dict[str, dict[str, Waiting]] = {}
        for item in waiting:
            rows.setdefault(_waiting_partition(item), {}).setdefault(_waiting_key(item), item)
        made: list[Waiting] = []
        for partition, items in rows.items():
            groups = [(item, [RowChange(ChangeKind.CREATE, key, self._packer.pack(item))]) for key, item in items.items()]
            for chunk in chunk_changes(groups):
                made += await self._insert(partition, chunk)
        return made

    async def tell(self, waiting: Sequence[Waiting]) -> None:
        """Mark waiting rows as told; one that is gone stays gone."""
        await side_by_side(self._tell, waiting)

    async def waiting_for(self, target_flow: str, target_side: Side, target_ids: Collection[str]) -> list[Waiting]:
        """List who waits for the named records."""
        partition = make_key("wait", target_flow, target_side)
        wanted = [make_key(record_id) for record_id in target_ids]
        rows = await _rows_of(self._table, partition, "", wanted)
        found = [self._packer.unpack(row.properties) for row in rows]
        return [item for item in found if item.target_id in target_ids]

    async def all(self) -> list[Waiting]:
        """List every waiting row of every flow."""
        rows = await self._table.query("PartitionKey ge @low and PartitionKey lt @high", {"low": "wait:", "high": "wait;"})
        return [self._packer.unpack(row.properties) for row in rows]

    async def clear(self, waiting: Sequence[Waiting]) -> None:
        """Remove waiting rows."""
        partitions: dict[str, list[str]] = {}
        for item in waiting:
            partitions.setdefault(_waiting_partition(item), []).append(_waiting_key(item))
        for partition, keys in partitions.items():
            await self._table.delete_many(partition, list(dict.fromkeys(keys)))

    async def _insert(self, partition: str, rows: Sequence[tuple[Waiting, Sequence[RowChange]]]) -> list[Waiting]:
        """Insert rows together, or each by itself where one is there already; return those that were not."""
        try:
            await self._table.transact(partition, [change for _, [change] in rows])
        except RowConflict:
            made = await side_by_side(lambda row: self._insert_one(partition, row[1][0]), rows)
            return [item for (item, _), new in zip(rows, made, strict=True) if new]
        return [item for item, _ in rows]

    async def _insert_one(self, partition: str, change: RowChange) -> bool:
        try:
            await self._table.create(partition, change.key, change.properties)
        except Stale:  # it waits already
            return False
        return True

    async def _tell(self, item: Waiting) -> None:
        partition, key = _waiting_partition(item), _waiting_key(item)
        row = await self._table.get(partition, key)
        if row is None:
            return
        told = replace(self._packer.unpack(row.properties), told=True)
        try:
            await self._table.replace(partition, key, self._packer.pack(told), row.etag)
        except Stale:  # it was woken meanwhile
            return


async def _rows_of(
    table: Table, partition: str, prefix: str, records: Sequence[str], select: Sequence[str] | None = None
) -> list[StoredRow]:
    """Read the rows whose keys start with one of the (encoded) records: by range for a few, else all under the prefix."""
    if len(records) > _FEW:
        return await table.query_prefix(partition, prefix, select)
    found = await side_by_side(lambda record: table.query_prefix(partition, f"{record}:", select), records)
    return [row for rows in found for row in rows]


def _waiting_partition(item: Waiting) -> str:
    return make_key("wait", item.target_flow, item.target_side)


def _waiting_key(item: Waiting) -> str:
    return make_key(item.target_id, f"{item.flow}/{item.side}", item.record_id, item.field)
