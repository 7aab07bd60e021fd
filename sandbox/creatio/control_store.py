"""What the control API does to the rows: seed them as they stand, save as a user in the UI does, read back."""

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sandbox.control import Clock, Refused, Row
from sandbox.creatio.database import Database
from sandbox.creatio.errors import CreatioError
from sandbox.creatio.saving import Actor, Saving
from sandbox.creatio.schema import Entity
from sandbox.creatio.values import Stored, reveal, stamp, take_control

_DEFAULT_USER = "ada"


class ControlStore:
    """Carry out the control API's verbs on the stand-in's tables."""

    def __init__(self, database: Database, saving: Saving, clock: Clock) -> None:
        self._database = database
        self._saving = saving
        self._clock = clock

    def actor(self, user: str | None) -> Actor:
        """Return the user of a login, of a SysAdminUnit id or of a contact id; Refused when there is none."""
        name = user or _DEFAULT_USER
        sql = 'SELECT "Name", "ContactId" FROM "SysAdminUnit" WHERE "Name" = ? OR "Id" = ? OR "ContactId" = ?'
        rows = self._database.query(sql, (name, name, name))
        if not rows or rows[0]["ContactId"] is None:
            logins = self._database.query('SELECT "Name" FROM "SysAdminUnit" WHERE "ContactId" IS NOT NULL')
            raise Refused(f"no user {name!r}; allowed {', '.join(row['Name'] for row in logins)}")
        return Actor(rows[0]["Name"], rows[0]["ContactId"])

    def seed(self, entity: str, rows: Sequence[Row]) -> list[str]:
        """Insert rows as they stand: no side effects, no checks of lookups; stamps default to now and Supervisor."""
        target = self._entity(entity)
        actor, now = self.actor("Supervisor"), stamp(self._clock.now())
        defaults = {c.name: c.default for c in target.stored if isinstance(c.default, bool)}
        whole: list[dict[str, Stored]] = []
        for row in rows:
            given = self._values(target, row)
            filled: dict[str, Stored] = {
                **defaults,
                "CreatedOn": given.get("ModifiedOn") or now,
                "CreatedById": actor.contact,
                "ModifiedOn": given.get("CreatedOn") or now,
                "ModifiedById": actor.contact,
                **given,
            }
            filled["Id"] = filled.get("Id") or str(uuid.uuid4())
            whole.append({column.name: filled.get(column.name) for column in target.stored})
        try:
            with self._database.transaction():
                self._database.insert_many(entity, whole)
        except sqlite3.IntegrityError as error:
            raise Refused(f"the rows of {entity} can't be inserted: {error}; none of them was", 409) from error
        return [str(row["Id"]) for row in whole]

    def edit(self, entity: str, row_id: str, values: Row, user: str | None = None) -> Row:
        """Save changes as a user: with side effects, stamped as another one than the integration."""
        target = self._entity(entity)
        with _refusing():
            row = self._saving.update(target, row_id.lower(), self._values(target, values), self.actor(user))
        return _revealed(target, row)

    def create(self, entity: str, values: Row, user: str | None = None) -> Row:
        """Create a row as a user."""
        target = self._entity(entity)
        with _refusing():
            saved = self._saving.create(target, self._values(target, values), self.actor(user))
        return _revealed(target, saved.row)

    def delete(self, entity: str, row_id: str, user: str | None = None) -> None:
        """Delete a row as a user."""
        with _refusing():
            self._saving.delete(self._entity(entity), row_id.lower(), self.actor(user))

    def rows(self, entity: str, limit: int | None, offset: int) -> tuple[list[Row], int]:
        """Return stored rows by id, and their total."""
        target = self._entity(entity)
        sql = f'SELECT * FROM "{entity}" ORDER BY "Id" LIMIT ? OFFSET ?'
        rows = self._database.query(sql, (-1 if limit is None else limit, offset))
        total = int(self._database.scalar(f'SELECT COUNT(*) FROM "{entity}"'))
        return [_revealed(target, row) for row in rows], total

    def row(self, entity: str, row_id: str) -> Row | None:
        """Return one stored row."""
        target = self._entity(entity)
        row = self._database.get(entity, row_id.lower())
        return None if row is None else _revealed(target, row)

    def _entity(self, name: str) -> Entity:
        entity = self._database.schema.entities.get(name)
        if entity is None:
            raise Refused(f"got entity {name!r}, allowed {', '.join(self._database.schema.entities)}", 404)
        return entity

    def _values(self, entity: Entity, row: Row) -> dict[str, Stored]:
        unknown = sorted(set(row) - {column.name for column in entity.stored})
        if unknown:
            allowed = ", ".join(column.name for column in entity.stored)
            raise Refused(f"{entity.name} has no column {', '.join(unknown)}; allowed {allowed}")
        with _refusing():
            return {name: take_control(entity.columns[name], value) for name, value in row.items()}


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turn the stand-in's own refusals into the control API's."""
    try:
        yield
    except CreatioError as error:
        raise Refused(f"{error.message} {error.inner or ''}".strip(), error.status) from error


def _revealed(entity: Entity, row: Mapping[str, Any]) -> Row:
    return {column.name: reveal(column, row[column.name]) for column in entity.stored}
