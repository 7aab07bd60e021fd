"""One table: point reads, range queries, writes by ETag and transactions, safe against replies that get lost on the way.

A write is sent again when its reply is lost. A create that had been committed then answers 409, an update by ETag 412.
Every row therefore names its writer: a token that is new for each write. After such an answer the row is read back; our own token
in it means that the first try was committed.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar
from uuid import uuid4

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError, ServiceRequestError, ServiceResponseError
from azure.data.tables import TransactionOperation, UpdateMode
from azure.data.tables.aio import TableClient

from shared.core.errors import Stale, TandemError
from shared.ledger.encoding import MAX_TRANSACTION_BYTES, MAX_TRANSACTION_ROWS, after_prefix, check_entity, entity_bytes
from shared.ledger.faults import STORAGE_FAULTS, error_code, storage_errors, to_tandem
from shared.ledger.storage import Storage

ANY_ETAG: Final = "*"
SIDE_BY_SIDE: Final = 16
"""Requests in flight for one call: enough to hide the way to Azure (2,000 entities a second in one partition: azure.md 6.1)."""

_PAUSES: Final = (0.1, 0.5)
"""Seconds before a write without an answer is sent once more."""
_WRITER: Final = "w"
_FAILED_INDEX: Final = re.compile(r"(\d+):")

T = TypeVar("T")
Item = TypeVar("Item")


@dataclass(frozen=True)
class StoredRow:
    """A row as read."""

    partition: str
    key: str
    properties: Mapping[str, Any]
    etag: str


class ChangeKind(StrEnum):
    """What a transaction does to one row."""

    CREATE = "create"
    REPLACE = "replace"
    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True)
class RowChange:
    """One row's part of a transaction; `etag` `*` means any, as long as the row is there."""

    kind: ChangeKind
    key: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    etag: str = ANY_ETAG


class RowConflict(Stale):
    """A transaction failed because of the change at `index` (None: the service did not say which)."""

    def __init__(self, what: str, index: int | None) -> None:
        self.index = index
        super().__init__("ledger.changed_meanwhile", what)


class Table:
    """One table of the ledger, made when a write finds it missing; a read of a missing table finds nothing."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self.name = name

    async def get(self, partition: str, key: str, select: Sequence[str] | None = None) -> StoredRow | None:
        """Read one row by its keys; None when it is not there."""
        self._count(1)
        with storage_errors(f"read {self._where(partition, key)}"):
            try:
                entity = await self._client().get_entity(partition, key, select=_with_keys(select))
            except ResourceNotFoundError:
                return None
            return _row(entity)

    async def get_many(self, partition: str, keys: Sequence[str], select: Sequence[str] | None = None) -> list[StoredRow | None]:
        """Read rows by their keys, side by side, in the order of the keys.

        One request a row on purpose: a filter that joins row keys with `or` makes Azure scan the whole partition.
        """
        return await side_by_side(lambda key: self.get(partition, key, select), keys)

    async def query(
        self, text: str, parameters: Mapping[str, Any], select: Sequence[str] | None = None, limit: int | None = None
    ) -> list[StoredRow]:
        """Read the rows that a filter names, through all pages, at most `limit`."""
        rows: list[StoredRow] = []
        with storage_errors(f"query {self.name}"):
            try:
                pages = self._client().query_entities(
                    text,
                    parameters=dict(parameters),
                    select=_with_keys(select),
                    results_per_page=min(limit, 1000) if limit else None,
                )
                async for entity in pages:
                    self._count(1)
                    rows.append(_row(entity))
                    if limit and len(rows) >= limit:
                        break
            except ResourceNotFoundError:
                return []
        return rows

    async def query_prefix(
        self, partition: str, prefix: str = "", select: Sequence[str] | None = None, limit: int | None = None
    ) -> list[StoredRow]:
        """Read the rows of a partition whose keys start with a prefix, in the order of the keys."""
        if not prefix:
            return await self.query("PartitionKey eq @pk", {"pk": partition}, select, limit)
        text = "PartitionKey eq @pk and RowKey ge @low and RowKey lt @high"
        return await self.query(text, {"pk": partition, "low": prefix, "high": after_prefix(prefix)}, select, limit)

    async def create(self, partition: str, key: str, properties: Mapping[str, Any]) -> str:
        """Insert a row and return its ETag; raises Stale when there is one already that another writer made."""
        entity = _entity(partition, key, properties, new_token())
        return await self._write(entity, lambda: self._client().create_entity(entity), makes_row=True)

    async def replace(self, partition: str, key: str, properties: Mapping[str, Any], etag: str) -> str:
        """Replace a row that is still as it was read, and return its new ETag; raises Stale when it is not."""
        entity = _entity(partition, key, properties, new_token())
        condition: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        return await self._write(entity, lambda: self._client().update_entity(entity, UpdateMode.REPLACE, **condition), makes_row=False)

    async def save(self, partition: str, key: str, properties: Mapping[str, Any], etag: str | None) -> str:
        """Replace by ETag, or create where there is none."""
        if etag is None:
            return await self.create(partition, key, properties)
        return await self.replace(partition, key, properties, etag)

    async def put(self, partition: str, key: str, properties: Mapping[str, Any]) -> str:
        """Insert or replace a row, whatever is there."""
        entity = _entity(partition, key, properties, new_token())
        return await self._write(entity, lambda: self._client().upsert_entity(entity, UpdateMode.REPLACE), makes_row=True)

    async def delete(self, partition: str, key: str, etag: str | None = None) -> None:
        """Remove a row if it is there (and, with an ETag, as it was read: else Stale)."""
        self._count(1)
        condition: dict[str, Any] = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
        with storage_errors(f"delete {self._where(partition, key)}"):
            await self._client().delete_entity(partition, key, **condition)

    async def delete_many(self, partition: str, keys: Sequence[str]) -> None:
        """Remove rows, those that are there, a hundred at a time."""
        for start in range(0, len(keys), MAX_TRANSACTION_ROWS):
            part = keys[start : start + MAX_TRANSACTION_ROWS]
            try:
                await self.transact(partition, [RowChange(ChangeKind.DELETE, key) for key in part])
            except RowConflict:  # somebody else removed one of them
                await side_by_side(lambda key: self.delete(partition, key), part)

    async def transact(self, partition: str, changes: Sequence[RowChange], token: str | None = None) -> list[str | None]:
        """Apply changes to one partition, all or none, at most 100 rows; return their new ETags in order.

        None stands for a deleted row, and for a row that another writer has changed since. Raises RowConflict.
        """
        if len(changes) > MAX_TRANSACTION_ROWS:  # Azurite answers such a batch with something unreadable (azure.md 7)
            raise TandemError("sync.internal", f"transaction of {len(changes)} rows, allowed {MAX_TRANSACTION_ROWS}")
        token = token or new_token()
        entities = [_entity(partition, change.key, change.properties, token) for change in changes]
        operations = [_operation(change, entity) for change, entity in zip(changes, entities, strict=True)]
        what = f"save {len(changes)} row(s) of {self.name}, {partition}"
        self._count(len(changes))
        try:
            replies = await self._make_table_if_missing(lambda: self._client().submit_transaction(operations), makes_row=True)
        except STORAGE_FAULTS as fault:
            problem = to_tandem(fault, what)
            if not isinstance(problem, Stale):
                raise problem from fault
            index = _failed_index(fault, len(changes))
            etags = await self._committed_before(partition, changes, token, index)
            if etags is None:
                raise RowConflict(what, index) from fault
            return etags
        return [str(reply["etag"]) if "etag" in reply else None for reply in replies]

    async def _committed_before(
        self, partition: str, changes: Sequence[RowChange], token: str, index: int | None
    ) -> list[str | None] | None:
        """Tell whether a first try of this transaction was committed: then return the ETags as they are now."""
        written = [number for number, change in enumerate(changes) if change.kind is not ChangeKind.DELETE]
        witnesses = [number for number in written if index is None or number <= index] or written
        if not witnesses:
            return None
        witness = await self.get(partition, changes[witnesses[-1]].key)
        if witness is None or witness.properties.get(_WRITER) != token:
            return None
        rows = await self.get_many(partition, [changes[number].key for number in written])
        etags: list[str | None] = [None] * len(changes)
        for number, row in zip(written, rows, strict=True):
            if row is not None and row.properties.get(_WRITER) == token:
                etags[number] = row.etag
        return etags

    async def _write(self, entity: dict[str, Any], send: Callable[[], Awaitable[Mapping[str, Any]]], *, makes_row: bool) -> str:
        self._count(1)
        what = f"save {self._where(entity['PartitionKey'], entity['RowKey'])}"
        try:
            reply = await self._make_table_if_missing(send, makes_row=makes_row)
        except STORAGE_FAULTS as fault:
            problem = to_tandem(fault, what)
            if not isinstance(problem, Stale):
                raise problem from fault
            row = await self.get(entity["PartitionKey"], entity["RowKey"])
            if row is None or row.properties.get(_WRITER) != entity[_WRITER]:
                raise problem from fault
            return row.etag
        return str(reply["etag"])

    async def _make_table_if_missing(self, send: Callable[[], Awaitable[T]], *, makes_row: bool) -> T:
        """Send; when the table turns out to be missing, make it and send again: no request is spent on looking for it each time."""
        try:
            return await _send_until_answered(send)
        except HttpResponseError as fault:
            # A create that meets no table has lost the service's code on its way through the client.
            missing = fault.status_code == 404 and (error_code(fault) == "TableNotFound" or not error_code(fault))  # noqa: PLR2004 - HTTP
            if not (makes_row and missing):
                raise
        await self._storage.tables().create_table_if_not_exists(self.name)
        return await _send_until_answered(send)

    def _client(self) -> TableClient:
        return self._storage.tables().get_table_client(self.name)

    def _count(self, rows: int) -> None:
        self._storage.meter.operations += rows

    def _where(self, partition: str, key: str) -> str:
        return f"{self.name} {partition} {key}"


async def side_by_side(job: Callable[[Item], Awaitable[T]], items: Iterable[Item], limit: int = SIDE_BY_SIDE) -> list[T]:
    """Do a job for each item, at most `limit` at a time; return the results in order. The first error cancels the rest and is raised."""
    gate = asyncio.Semaphore(limit)

    async def do(item: Item) -> T:
        async with gate:
            return await job(item)

    tasks = [asyncio.ensure_future(do(item)) for item in items]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _send_until_answered(send: Callable[[], Awaitable[T]]) -> T:
    """Send a write again when its connection broke or its reply is lost.

    The client itself does so for PUT and DELETE, but not for POST (inserts, transactions).

    It is safe here because a row names its writer: the second try tells whether the first one was committed.
    """
    for pause in _PAUSES:
        try:
            return await send()
        except (ServiceRequestError, ServiceResponseError):
            await asyncio.sleep(pause)
    return await send()


def chunk_changes(groups: Sequence[tuple[T, Sequence[RowChange]]]) -> list[list[tuple[T, Sequence[RowChange]]]]:
    """Share out groups of changes over transactions: a group stays together, at most 100 rows and 3 MiB each."""
    chunks: list[list[tuple[T, Sequence[RowChange]]]] = []
    rows = size = 0
    for owner, changes in groups:
        weight = sum(entity_bytes(change.properties) + 1024 for change in changes)
        if not chunks or rows + len(changes) > MAX_TRANSACTION_ROWS or size + weight > MAX_TRANSACTION_BYTES:
            chunks.append([])
            rows = size = 0
        chunks[-1].append((owner, changes))
        rows += len(changes)
        size += weight
    return chunks


def new_token() -> str:
    """Return a name for one write."""
    return uuid4().hex


def _entity(partition: str, key: str, properties: Mapping[str, Any], token: str) -> dict[str, Any]:
    entity = {"PartitionKey": partition, "RowKey": key, _WRITER: token, **properties}
    check_entity(entity)
    return entity


def _operation(change: RowChange, entity: dict[str, Any]) -> tuple[TransactionOperation, dict[str, Any], dict[str, Any]]:
    condition: dict[str, Any] = {}
    if change.etag != ANY_ETAG:
        condition = {"etag": change.etag, "match_condition": MatchConditions.IfNotModified}
    match change.kind:
        case ChangeKind.CREATE:
            return (TransactionOperation.CREATE, entity, {})
        case ChangeKind.REPLACE:
            return (TransactionOperation.UPDATE, entity, {"mode": UpdateMode.REPLACE, **condition})
        case ChangeKind.PUT:
            return (TransactionOperation.UPSERT, entity, {"mode": UpdateMode.REPLACE})
        case ChangeKind.DELETE:
            return (TransactionOperation.DELETE, entity, condition)


def _with_keys(select: Sequence[str] | None) -> list[str] | None:
    return ["PartitionKey", "RowKey", *select] if select else None


def _row(entity: Any) -> StoredRow:
    return StoredRow(str(entity["PartitionKey"]), str(entity["RowKey"]), dict(entity), str(entity.metadata["etag"]))


def _failed_index(fault: BaseException, changes: int) -> int | None:
    match = _FAILED_INDEX.match(str(getattr(fault, "message", "")))
    index = int(match[1]) if match else None
    return index if index is not None and index < changes else None
