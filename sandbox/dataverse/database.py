"""The rows in SQLite: a real table for each table, a global row version, tombstones and each row's previous state."""

import json
import sqlite3
import unicodedata
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sandbox.dataverse.definitions import Column, Table
from sandbox.dataverse.values import Stored

Row = dict[str, Stored]

_SQL_TYPES = {"Money": "INTEGER", "Integer": "INTEGER", "BigInt": "INTEGER", "Boolean": "INTEGER", "Double": "REAL"}
_INDEXED_TEXT = frozenset({"name", "accountnumber", "emailaddress1", "fullname", "internalemailaddress"})
_INDEXED_TARGETS = frozenset({"account", "contact"})
_FIRST_VERSION = 1_000_000


def fold(text: Stored) -> Stored:
    """Fold case as comparisons of the server do, beyond ASCII too (dataverse.md 3)."""
    return unicodedata.normalize("NFC", text).casefold() if isinstance(text, str) else text


def quoted(name: str) -> str:
    """Quote an SQL identifier that comes from metadata."""
    return f'"{name}"'


class Database:
    """One organisation's rows; every method works inside the transaction that `transaction` opened."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
        self._connection.row_factory = sqlite3.Row
        self._connection.create_function("fold", 1, fold, deterministic=True)
        weakref.finalize(self, self._connection.close)  # nobody else knows when the last user of a stand-in is gone
        self._depth = 0
        self.query("PRAGMA journal_mode=WAL")
        self.query("PRAGMA synchronous=OFF")
        for statement in (
            "CREATE TABLE IF NOT EXISTS _counter (version INTEGER NOT NULL)",
            "CREATE TABLE IF NOT EXISTS _deletion (entity TEXT, id TEXT, version INTEGER, PRIMARY KEY (entity, id))",
            "CREATE INDEX IF NOT EXISTS _deletion_version ON _deletion (entity, version)",
            "CREATE TABLE IF NOT EXISTS _definition (entity TEXT PRIMARY KEY, definition TEXT)",
            "CREATE TABLE IF NOT EXISTS _previous (entity TEXT, id TEXT, row TEXT, PRIMARY KEY (entity, id))",
        ):
            self.query(statement)
        if not self.query("SELECT 1 FROM _counter"):
            self.query("INSERT INTO _counter VALUES (?)", [_FIRST_VERSION])

    def query(self, sql: str, values: Sequence[Stored] = ()) -> list[sqlite3.Row]:
        """Run one statement and return its rows."""
        return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do the body wholly or not at all; an inner transaction is a savepoint of the outer one."""
        level = self._depth
        self._depth += 1
        self.query(f"SAVEPOINT level{level}" if level else "BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if level:
                self.query(f"ROLLBACK TO level{level}")
                self.query(f"RELEASE level{level}")
            else:
                self.query("ROLLBACK")
            raise
        else:
            self.query(f"RELEASE level{level}" if level else "COMMIT")
        finally:
            self._depth -= 1

    def define(self, table: Table) -> None:
        """Create the SQL table and its indexes unless they exist."""
        others = [column for column in table.columns.values() if column.name != table.primary_id]
        columns = ", ".join(text for column in others for _, text in _declarations(column))
        name = quoted(table.name)
        self.query(f"CREATE TABLE IF NOT EXISTS {name} ({quoted(table.primary_id)} TEXT PRIMARY KEY, {columns})")
        for column in table.columns.values():
            self._index(table, column)
        for key in table.keys:
            self.index_key(table, key.name, key.columns)

    def _index(self, table: Table, column: Column) -> None:
        name, target = quoted(f"{table.name}.{column.name}"), quoted(table.name)
        if column.name in {"versionnumber", "createdon", "modifiedon"} or (column.lookup and _INDEXED_TARGETS & {*column.targets}):
            self.query(f"CREATE INDEX IF NOT EXISTS {name} ON {target} ({quoted(column.name)})")
        elif column.name in _INDEXED_TEXT:
            self.query(f"CREATE INDEX IF NOT EXISTS {name} ON {target} (fold({quoted(column.name)}))")

    def index_key(self, table: Table, key: str, columns: Sequence[str]) -> None:
        """Index the columns of an alternate key (uniqueness is checked on writing, nulls are not held unique)."""
        parts = ", ".join(f"fold({quoted(column)})" for column in columns)
        self.query(f"CREATE INDEX IF NOT EXISTS {quoted(f'{table.name}.{key}')} ON {quoted(table.name)} ({parts})")

    def add_column(self, table: Table, column: Column) -> None:
        """Add the SQL columns of a new column; the table keeps those of columns that were removed."""
        present = {row["name"] for row in self.query(f"PRAGMA table_info({quoted(table.name)})")}
        for name, declaration in _declarations(column):
            if name not in present:
                self.query(f"ALTER TABLE {quoted(table.name)} ADD COLUMN {declaration}")

    def empty_column(self, table: Table, column: Column) -> None:
        """Empty a column of all rows; no version moves."""
        assignments = ", ".join(f"{quoted(name)} = NULL" for name in column.stored)
        self.query(f"UPDATE {quoted(table.name)} SET {assignments}")

    def snapshot(self) -> sqlite3.Connection:
        """Return a copy of everything."""
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.backup(copy)
        return copy

    def restore(self, copy: sqlite3.Connection) -> None:
        """Put a copy in place of everything, the version counter and the deletions with it."""
        copy.backup(self._connection)

    def version(self) -> int:
        """Return the highest row version given out so far."""
        return int(self.query("SELECT version FROM _counter")[0][0])

    def next_version(self) -> int:
        """Give out a row version, higher than any other of the organisation."""
        self.query("UPDATE _counter SET version = version + 1")
        return self.version()

    def get(self, table: Table, row_id: str) -> Row | None:
        """Return a whole row in stored form."""
        found = self.query(f"SELECT * FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?", [row_id])
        return dict(found[0]) if found else None

    def previous(self, table: Table, row_id: str) -> tuple[bool, Row | None]:
        """Return whether a row was ever written, and what it was before its last write (None: it was not there)."""
        found = self.query("SELECT row FROM _previous WHERE entity = ? AND id = ?", [table.name, row_id])
        return (True, json.loads(found[0][0])) if found else (False, None)

    def insert(self, table: Table, row: Row) -> None:
        """Insert a row under a new version; it is no longer among the deleted ones."""
        self.insert_many(table, [row])
        row_id = row[table.primary_id]
        self._remember(table, str(row_id), None)
        self.query("DELETE FROM _deletion WHERE entity = ? AND id = ?", [table.name, row_id])

    def insert_many(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows as they stand but for their versions, in one go (for seeding)."""
        if not rows:
            return
        names = [*dict.fromkeys(name for row in rows for name in row if name != "versionnumber"), "versionnumber"]
        marks = ", ".join("?" * len(names))
        first = self.version()
        self.query("UPDATE _counter SET version = version + ?", [len(rows)])
        self._connection.executemany(
            f"INSERT INTO {quoted(table.name)} ({', '.join(map(quoted, names))}) VALUES ({marks})",
            ([*map(row.get, names[:-1]), first + at] for at, row in enumerate(rows, 1)),
        )

    def update(self, table: Table, before: Row, changes: Mapping[str, Stored]) -> None:
        """Change columns of a row, which gets a new version."""
        row_id = str(before[table.primary_id])
        values = {**changes, "versionnumber": self.next_version()}
        self._remember(table, row_id, before)
        assignments = ", ".join(f"{quoted(name)} = ?" for name in values)
        self.query(
            f"UPDATE {quoted(table.name)} SET {assignments} WHERE {quoted(table.primary_id)} = ?",
            [*values.values(), row_id],
        )

    def delete(self, table: Table, before: Row) -> None:
        """Delete a row and remember the deletion for change tracking."""
        row_id = str(before[table.primary_id])
        self._remember(table, row_id, before)
        self.query(f"DELETE FROM {quoted(table.name)} WHERE {quoted(table.primary_id)} = ?", [row_id])
        self.query("INSERT OR REPLACE INTO _deletion VALUES (?, ?, ?)", [table.name, row_id, self.next_version()])

    def _remember(self, table: Table, row_id: str, before: Row | None) -> None:
        self.query("INSERT OR REPLACE INTO _previous VALUES (?, ?, ?)", [table.name, row_id, json.dumps(before)])

    def find_by_values(self, table: Table, values: Mapping[str, Any], limit: int = 2) -> list[Row]:
        """Return rows whose columns equal values without regard to case, as alternate keys compare."""
        tests = " AND ".join(f"fold({quoted(name)}) = ?" for name in values)
        found = self.query(
            f"SELECT * FROM {quoted(table.name)} WHERE {tests} LIMIT {limit}",
            [fold(value) for value in values.values()],
        )
        return [dict(row) for row in found]


def _declarations(column: Column) -> list[tuple[str, str]]:
    """Return the SQL columns of a column, each with its declaration."""
    kind = _SQL_TYPES.get(column.type, "INTEGER" if column.options else "TEXT")
    return [(name, f"{quoted(name)} {kind if name == column.name else 'TEXT'}") for name in column.stored]
