"""Batches and runs. Open batches lie apart from closed ones (`o:`, `z:`), so that looking for work never reads through the past."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.core.errors import Stale
from shared.core.work import Batch, BatchState, Run, RunKind
from shared.ledger.encoding import after_prefix, encode_time, make_key
from shared.ledger.packing import Packer
from shared.ledger.tables import ChangeKind, RowChange, StoredRow, Table, chunk_changes, side_by_side

_OPEN: Final = "o"
_CLOSED: Final = "z"
_LAST_MILLISECOND: Final = 10**15 - 1
_TRIES: Final = 8


class BatchRows:
    """Batch rows, one partition a flow. The `etag` of a Batch begins with the letter of the place where its row lies."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._packer = Packer(Batch)

    async def create(self, batches: Sequence[Batch]) -> None:
        """Insert batch rows, in as few transactions as they fit in; raises Stale when one is there already."""
        for flow in dict.fromkeys(batch.flow for batch in batches):
            changes = [RowChange(ChangeKind.CREATE, _key(batch), self._pack(batch)) for batch in batches if batch.flow == flow]
            for chunk in chunk_changes([(None, [change]) for change in changes]):
                await self._table.transact(_partition(flow), [change for _, [change] in chunk])

    async def get(self, flow: str, batch_id: str) -> Batch | None:
        """Read a batch: one request while it is open."""
        for place in (_OPEN, _CLOSED):
            row = await self._table.get(_partition(flow), make_key(place, batch_id))
            if row is not None:
                return self._unpack(row)
        return None

    async def save(self, batch: Batch) -> Batch:
        """Save a batch by its ETag; closing it moves its row, in one transaction."""
        partition = _partition(batch.flow)
        if batch.etag is None:
            etag = await self._table.create(partition, _key(batch), self._pack(batch))
            return replace(batch, etag=_place(batch) + etag)
        old_place, old_etag = batch.etag[:1], batch.etag[1:]
        if old_place == _place(batch):
            etag = await self._table.replace(partition, _key(batch), self._pack(batch), old_etag)
            return replace(batch, etag=old_place + etag)
        move = [
            RowChange(ChangeKind.CREATE, _key(batch), self._pack(batch)),
            RowChange(ChangeKind.DELETE, make_key(old_place, batch.id), etag=old_etag),
        ]
        moved = (await self._table.transact(partition, move))[0]
        if moved is None:
            raise Stale("ledger.changed_meanwhile", f"batch {batch.id}", entity=batch.flow)
        return replace(batch, etag=_place(batch) + moved)

    async def open(self, flow: str, untouched_since: datetime | None = None) -> list[Batch]:
        """List open and parked batches in the order of their ids; with a moment, those last touched (or made) before it."""
        partition = _partition(flow)
        if untouched_since is None:
            rows = await self._table.query_prefix(partition, f"{_OPEN}:")
        else:
            text = "PartitionKey eq @pk and RowKey ge @low and RowKey lt @high and at lt @at"
            prefix = f"{_OPEN}:"
            bounds = {"pk": partition, "low": prefix, "high": after_prefix(prefix), "at": encode_time(untouched_since)}
            rows = await self._table.query(text, bounds)
        return [self._unpack(row) for row in rows]

    async def of_run(self, flow: str, run: str) -> list[Batch]:
        """List all batches of a run: one request a thousand rows that match; the service looks through the flow's partition."""
        rows = await self._table.query("PartitionKey eq @pk and run eq @run", {"pk": _partition(flow), "run": run})
        return [self._unpack(row) for row in rows]

    async def purge(self, before: datetime) -> int:
        """Remove closed batches of all flows that were last touched before a moment."""
        text = "PartitionKey ge @low and PartitionKey lt @high and RowKey ge @first and RowKey lt @last and at lt @at"
        bounds = {"low": "batch:", "high": "batch;", "first": f"{_CLOSED}:", "last": after_prefix(f"{_CLOSED}:"), "at": encode_time(before)}
        return await delete_rows(self._table, await self._table.query(text, bounds, ["at"]))

    def _pack(self, batch: Batch) -> dict[str, object]:
        return {**self._packer.pack(batch), "at": encode_time(batch.touched or batch.created), "run": batch.run}

    def _unpack(self, row: StoredRow) -> Batch:
        batch = self._packer.unpack(row.properties)
        return replace(batch, items=tuple(batch.items), etag=row.key[:1] + row.etag)


class RunRows:
    """Run rows, one partition a flow, the latest first by key."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._packer = Packer(Run)
        self._hours: dict[str, tuple[Run, str]] = {}

    async def save(self, run: Run) -> None:
        """Insert or replace a run row."""
        await self._table.put(_run_partition(run.flow), _run_key(run), self._packer.pack(run))

    async def fold(self, flow: str, at: datetime) -> None:
        """Count a quiet run in the row of its hour (UTC). The row last written here is remembered: usually one request."""
        hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        empty = Run(id=f"quiet-{hour:%Y%m%d%H}", flow=flow, kind=RunKind.SCHEDULED, started=hour)
        partition, key = _run_partition(flow), _run_key(empty)
        known = self._hours.get(flow)
        for _ in range(_TRIES):
            if known is None or known[0].id != empty.id:
                row = await self._table.get(partition, key)
                known = (self._packer.unpack(row.properties), row.etag) if row else None
            run, etag = known or (empty, None)
            ended = max(at, run.ended) if run.ended else at
            run = replace(run, ended=ended, folded=run.folded + 1)
            try:
                self._hours[flow] = known = (run, await self._table.save(partition, key, self._packer.pack(run), etag))
            except Stale:  # another instance counted first: read its row
                known = None
                continue
            return
        raise Stale("ledger.changed_meanwhile", f"quiet run of {flow}: lost the race {_TRIES} times", entity=flow)

    async def latest(self, flow: str, limit: int) -> list[Run]:
        """List the latest runs, newest first."""
        rows = await self._table.query_prefix(_run_partition(flow), limit=limit)
        return [self._packer.unpack(row.properties) for row in rows]

    async def purge(self, before: datetime) -> int:
        """Remove runs of all flows that started before a moment."""
        text = "PartitionKey ge @low and PartitionKey lt @high and RowKey gt @key"
        rows = await self._table.query(text, {"low": "run:", "high": "run;", "key": after_prefix(_newest_first(before))}, ["v"])
        return await delete_rows(self._table, rows)


async def delete_rows(table: Table, rows: Sequence[StoredRow]) -> int:
    """Remove rows of several partitions; return how many there were."""
    partitions: dict[str, list[str]] = {}
    for row in rows:
        partitions.setdefault(row.partition, []).append(row.key)
    await side_by_side(lambda part: table.delete_many(*part), partitions.items())
    return len(rows)


def _partition(flow: str) -> str:
    return make_key("batch", flow)


def _place(batch: Batch) -> str:
    return _CLOSED if batch.state is BatchState.CLOSED else _OPEN


def _key(batch: Batch) -> str:
    return make_key(_place(batch), batch.id)


def _run_partition(flow: str) -> str:
    return make_key("run", flow)


def _run_key(run: Run) -> str:
    return f"{_newest_first(run.started)}:{make_key(run.id)}"


def _newest_first(moment: datetime) -> str:
    """Write a time so that later ones sort first."""
    milliseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return f"{_LAST_MILLISECOND - milliseconds:015d}"
