"""The tables of the stand-in in SQLite: one per object, real columns, indexes for change polls, lookups and matching.

Earlier versions of changed rows are kept, so that a read can be answered as of a moment that has passed.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sandbox.creatio.schema import Column, Entity, Schema
from sandbox.creatio.values import Stored

StoredRow: TypeAlias = dict[str, Any]

_SQL_TYPES = {"int": "INTEGER", "bool": "INTEGER", "decimal": "INTEGER", "stream": "BLOB"}
_INDEXED = {"Name", "Code", "UsrEmail", "Email", "Number", "AccountId", "ContactId", "OrderId", "InvoiceId", "ParentId"}
_LATEST = 0.0
_KEPT_SECONDS = 600
_PRUNED_EVERY = 2000
_MOST_DIGITS = 15


class Database:
    """Hold one SQLite connection; every change runs in `transaction`."""

    def __init__(self, path: str, schema: Schema) -> None:
        self.schema = schema
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.create_function("fold", 1, _fold, deterministic=True)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")  # a stand-in's rows are not worth a disk's patience
        self._depth = 0
        self._remembered = 0
        with self.transaction():
            for entity in schema.entities.values():
                self._create_table(entity)
            self._connection.execute(
                'CREATE TABLE IF NOT EXISTS "_history" (entity TEXT, id TEXT, at REAL, row TEXT)',
            )
            self._connection.execute('CREATE INDEX IF NOT EXISTS "_history_at" ON "_history" (entity, at)')
            self._connection.execute('CREATE TABLE IF NOT EXISTS "_numbers" (entity TEXT PRIMARY KEY, last INTEGER)')

    def add_entity(self, entity: Entity) -> None:
        """Create the table of a new object."""
        self._create_table(entity)

    def _create_table(self, entity: Entity) -> None:
        columns = ", ".join(
            f'"{column.name}" {"TEXT PRIMARY KEY NOT NULL" if column.name == "Id" else _SQL_TYPES.get(column.kind, "TEXT")}'
            for column in entity.columns.values()
        )
        self._connection.execute(f'CREATE TABLE IF NOT EXISTS "{entity.name}" ({columns})')
        for index, parts in [*((n, f'"{n}", "Id"') for n in ("CreatedOn", "ModifiedOn")), *((n, f'"{n}"') for n in sorted(_INDEXED))]:
            if index in entity.columns:
                self._connection.execute(
                    f'CREATE INDEX IF NOT EXISTS "{entity.name}_{index}" ON "{entity.name}" ({parts})',
                )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what happens inside, or nothing of it; inner ones are savepoints of the outer one."""
        name = f"level{self._depth}"
        self._connection.execute("BEGIN IMMEDIATE" if self._depth == 0 else f"SAVEPOINT {name}")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            self._connection.execute("ROLLBACK" if self._depth == 0 else f"ROLLBACK TO {name}")
            if self._depth:
                self._connection.execute(f"RELEASE {name}")
            raise
        self._depth -= 1
        self._connection.execute("COMMIT" if self._depth == 0 else f"RELEASE {name}")

    @contextlib.contextmanager
    def as_of(self, entity: str, seconds: float) -> Iterator[None]:
        """Show an object's rows as they were `seconds` ago; 0: before the last write of each row."""
        since = time.time() - seconds if seconds else _LATEST
        choice = "MIN" if seconds else "MAX"
        rows = self._connection.execute(
            f'SELECT id, row, {choice}(rowid) FROM "_history" WHERE entity = ? AND at > ? GROUP BY id',
            (entity, since),
        ).fetchall()
        self._connection.execute("SAVEPOINT as_of")
        try:
            for row_id, text, _ in rows:
                self._connection.execute(f'DELETE FROM "{entity}" WHERE "Id" = ?', (row_id,))
                if text is not None:
                    self._insert(entity, json.loads(text))
            yield
        finally:
            self._connection.execute("ROLLBACK TO as_of")
            self._connection.execute("RELEASE as_of")

    def snapshot(self) -> sqlite3.Connection:
        """Return a copy of everything."""
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.backup(copy)
        return copy

    def restore(self, copy: sqlite3.Connection) -> None:
        """Put a copy in place of everything."""
        copy.backup(self._connection)

    def add_column(self, entity: str, column: Column) -> None:
        """Add a column to the table, which keeps those that the object has lost."""
        if all(row["name"] != column.name for row in self.query(f'PRAGMA table_info("{entity}")')):
            self._connection.execute(f'ALTER TABLE "{entity}" ADD COLUMN "{column.name}" {_SQL_TYPES.get(column.kind, "TEXT")}')

    def empty_column(self, entity: str, column: str) -> None:
        """Empty a column of all rows."""
        self._connection.execute(f'UPDATE "{entity}" SET "{column}" = NULL')

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[StoredRow]:
        """Run a SELECT and return its rows."""
        return [dict(row) for row in self._connection.execute(sql, values)]

    def scalar(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Run a SELECT and return the first value of its first row, None when there is none."""
        row = self._connection.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def get(self, entity: str, row_id: str) -> StoredRow | None:
        """Return one row."""
        rows = self.query(f'SELECT * FROM "{entity}" WHERE "Id" = ?', (row_id,))
        return rows[0] if rows else None

    def exists(self, entity: str, row_id: str) -> bool:
        """Tell whether a row exists."""
        return self.scalar(f'SELECT 1 FROM "{entity}" WHERE "Id" = ?', (row_id,)) is not None

    def named(self, entity: str, name: str) -> str | None:
        """Return the id of the oldest row of a name."""
        found = self.scalar(f'SELECT "Id" FROM "{entity}" WHERE "Name" = ? ORDER BY "CreatedOn", "Id" LIMIT 1', (name,))
        return None if found is None else str(found)

    def next_number(self, entity: str, prefix: str) -> int:
        """Return the number after the highest one that begins with the prefix; a delete doesn't free a number that was given."""
        digits = f'SUBSTR("Number", {len(prefix) + 1})'
        sql = (
            f'SELECT MAX(CAST({digits} AS INTEGER)) FROM "{entity}" WHERE "Number" > ? AND "Number" < ? '
            f"AND {digits} NOT GLOB '*[^0-9]*' AND LENGTH({digits}) <= {_MOST_DIGITS}"
        )
        highest = self.scalar(sql, (prefix, f"{prefix}:")) or 0
        given = self.scalar('SELECT last FROM "_numbers" WHERE entity = ?', (entity,)) or 0
        number = int(max(highest, given)) + 1
        self._connection.execute('INSERT OR REPLACE INTO "_numbers" (entity, last) VALUES (?, ?)', (entity, number))
        return number

    def insert(self, entity: str, row: Mapping[str, Stored]) -> None:
        """Insert a row; sqlite3.IntegrityError when its id is taken."""
        self._insert(entity, row)
        self._remember(entity, str(row["Id"]), None)

    def _insert(self, entity: str, row: Mapping[str, Stored]) -> None:
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        self._connection.execute(f'INSERT INTO "{entity}" ({names}) VALUES ({marks})', list(row.values()))

    def insert_many(self, entity: str, rows: Sequence[Mapping[str, Stored]]) -> None:
        """Insert rows as they stand, without a trace in the history; all have the same columns."""
        if not rows:
            return
        names = list(rows[0])
        columns = ", ".join(f'"{name}"' for name in names)
        marks = ", ".join("?" * len(names))
        self._connection.executemany(
            f'INSERT INTO "{entity}" ({columns}) VALUES ({marks})',
            [[row[name] for name in names] for row in rows],
        )

    def update(self, entity: str, row_id: str, values: Mapping[str, Stored]) -> None:
        """Change columns of a row."""
        if not values:
            return
        self._remember(entity, row_id, self.get(entity, row_id))
        assignments = ", ".join(f'"{name}" = ?' for name in values)
        self._connection.execute(
            f'UPDATE "{entity}" SET {assignments} WHERE "Id" = ?',
            [*values.values(), row_id],
        )

    def delete(self, entity: str, row_id: str) -> None:
        """Delete a row."""
        self._remember(entity, row_id, self.get(entity, row_id))
        self._connection.execute(f'DELETE FROM "{entity}" WHERE "Id" = ?', (row_id,))

    def _remember(self, entity: str, row_id: str, row: StoredRow | None) -> None:
        kept = {k: v for k, v in row.items() if not isinstance(v, bytes)} if row else None
        text = None if kept is None else json.dumps(kept)
        self._connection.execute(
            'INSERT INTO "_history" (entity, id, at, row) VALUES (?, ?, ?, ?)',
            (entity, row_id, time.time(), text),
        )
        self._remembered += 1
        if self._remembered % _PRUNED_EVERY == 0:
            self._connection.execute('DELETE FROM "_history" WHERE at < ?', (time.time() - _KEPT_SECONDS,))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _fold(text: Any) -> Any:
    return text.casefold() if isinstance(text, str) else text
