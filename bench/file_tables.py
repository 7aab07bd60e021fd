"""The ledger's tables in a file: what the benchmark uses where the way to a storage account must not count.

Keys, ETags, transactions and filters are those of `shared.ledger.tables`, so that the ledger above is the one that is deployed.
"""

import itertools
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from shared.core.errors import Stale
from shared.ledger.storage import Storage
from shared.ledger.tables import ANY_ETAG, ChangeKind, RowChange, RowConflict, StoredRow, Table, new_token

_TERM: Final = re.compile(r"(\w+) (eq|ge|gt|lt|le) @(\w+)")
_SQL: Final = {"eq": "=", "ge": ">=", "gt": ">", "lt": "<", "le": "<="}
_KEYS: Final = {"PartitionKey": "pk", "RowKey": "rk"}


class FileTables:
    """Several tables in one SQLite file; `open` fits where the ledger opens a table."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._etags = itertools.count(1)

    def open(self, storage: Storage, name: str) -> "FileTable":
        """Return a table, made if it is missing."""
        self._connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{name}" (pk TEXT, rk TEXT, etag TEXT, body TEXT, PRIMARY KEY (pk, rk)) WITHOUT ROWID'
        )
        return FileTable(storage, name, self._connection, self._etags)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class FileTable(Table):
    """One table in the file."""

    def __init__(self, storage: Storage, name: str, connection: sqlite3.Connection, etags: "itertools.count[int]") -> None:
        super().__init__(storage, name)
        self._connection, self._etags = connection, etags

    async def get(self, partition: str, key: str, select: Sequence[str] | None = None) -> StoredRow | None:  # noqa: ARG002 - all are read
        """Read one row by its keys; None when it is not there."""
        self._count(1)
        found = self._connection.execute(f'SELECT etag, body FROM "{self.name}" WHERE pk = ? AND rk = ?', (partition, key)).fetchone()
        return None if found is None else _row(partition, key, *found)

    async def get_many(self, partition: str, keys: Sequence[str], select: Sequence[str] | None = None) -> list[StoredRow | None]:
        """Read rows by their keys, in the order of the keys."""
        return [await self.get(partition, key, select) for key in keys]

    async def query(
        self,
        text: str,
        parameters: Mapping[str, Any],
        select: Sequence[str] | None = None,  # noqa: ARG002 - all are read
        limit: int | None = None,
    ) -> list[StoredRow]:
        """Read the rows that a filter names, in the order of their keys."""
        terms = [_TERM.fullmatch(term) for term in text.split(" and ")]
        if not all(terms):
            raise ValueError(f"got the filter {text!r}, allowed comparisons with @names joined by 'and'")
        columns = [(_KEYS.get(term[1], f"json_extract(body, '$.{term[1]}')"), _SQL[term[2]], parameters[term[3]]) for term in terms if term]
        where = " AND ".join(f"{column} {operator} ?" for column, operator, _ in columns)
        sql = f'SELECT pk, rk, etag, body FROM "{self.name}" WHERE {where} ORDER BY pk, rk LIMIT ?'
        rows = self._connection.execute(sql, [*(value for *_, value in columns), limit or -1]).fetchall()
        self._count(len(rows))
        return [_row(*row) for row in rows]

    async def create(self, partition: str, key: str, properties: Mapping[str, Any]) -> str:
        """Insert a row and return its ETag; raises Stale when there is one already."""
        return await self._one(partition, RowChange(ChangeKind.CREATE, key, properties))

    async def replace(self, partition: str, key: str, properties: Mapping[str, Any], etag: str) -> str:
        """Replace a row that is still as it was read, and return its new ETag; raises Stale when it is not."""
        return await self._one(partition, RowChange(ChangeKind.REPLACE, key, properties, etag))

    async def put(self, partition: str, key: str, properties: Mapping[str, Any]) -> str:
        """Insert or replace a row, whatever is there."""
        return await self._one(partition, RowChange(ChangeKind.PUT, key, properties))

    async def delete(self, partition: str, key: str, etag: str | None = None) -> None:
        """Remove a row if it is there (and, with an ETag, as it was read: else Stale)."""
        there = await self.get(partition, key)
        if there is not None:
            await self.transact(partition, [RowChange(ChangeKind.DELETE, key, etag=etag or ANY_ETAG)])

    async def transact(self, partition: str, changes: Sequence[RowChange], token: str | None = None) -> list[str | None]:
        """Apply changes to one partition, all or none; return their new ETags in order, None for a deleted row. Raises RowConflict."""
        self._count(len(changes))
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            etags = [self._apply(partition, change, token or new_token(), index) for index, change in enumerate(changes)]
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return etags

    async def _one(self, partition: str, change: RowChange) -> str:
        try:
            (etag,) = await self.transact(partition, [change])
        except RowConflict:
            raise Stale("ledger.changed_meanwhile", f"save {self.name} {partition} {change.key}") from None
        return etag or ""

    def _apply(self, partition: str, change: RowChange, token: str, index: int) -> str | None:
        where = f'"{self.name}"', (partition, change.key)
        if change.kind in (ChangeKind.REPLACE, ChangeKind.DELETE):
            found = self._connection.execute(f"SELECT etag FROM {where[0]} WHERE pk = ? AND rk = ?", where[1]).fetchone()
            if found is None or change.etag not in (ANY_ETAG, found[0]):
                raise RowConflict(f"save {self.name} {partition}", index)
        if change.kind is ChangeKind.DELETE:
            self._connection.execute(f"DELETE FROM {where[0]} WHERE pk = ? AND rk = ?", where[1])
            return None
        etag, body = f'W/"{next(self._etags)}"', json.dumps({"w": token, **change.properties})
        verb = "INSERT" if change.kind is ChangeKind.CREATE else "INSERT OR REPLACE"
        try:
            self._connection.execute(f"{verb} INTO {where[0]} VALUES (?, ?, ?, ?)", (*where[1], etag, body))
        except sqlite3.IntegrityError:
            raise RowConflict(f"save {self.name} {partition}", index) from None
        return etag


def _row(partition: str, key: str, etag: str, body: str) -> StoredRow:
    return StoredRow(partition, key, {"PartitionKey": partition, "RowKey": key, **json.loads(body)}, etag)
