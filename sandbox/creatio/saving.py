"""Save rows through what Creatio calls the entity layer: defaults, checks, stamps, side effects.

Whatever comes in by OData or from a user in the UI is saved here; only the server's own SQL statements pass it by
(they move no ModifiedOn, creatio.md 4).
"""

import re
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from sandbox.chaos import Rule
from sandbox.control import Clock, Switches
from sandbox.creatio.database import Database, StoredRow
from sandbox.creatio.defaults import Defaults
from sandbox.creatio.effects import Effects
from sandbox.creatio.effects_documents import DocumentEffects
from sandbox.creatio.errors import bad_bytes, database_error, not_found
from sandbox.creatio.schema import Column, Entity, Kind, Schema
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import Stored, stamp

_STAMPS = ("CreatedOn", "CreatedById", "ModifiedOn", "ModifiedById")
_REQUIRED: frozenset[Kind] = frozenset({"text", "guid"})
_CASCADES = {
    "AccountAddress",
    "AccountBillingInfo",
    "AccountCommunication",
    "ContactAddress",
    "ContactCommunication",
    "InvoiceProduct",
    "OpportunityProductInterest",
    "OrderProduct",
    "ProductPrice",
}
_UNSTORABLE = re.compile("[\ud800-\udfff]")
_NORMALISERS: Mapping[str, Callable[[str], str]] = {
    "trim": str.strip,
    "collapse": lambda text: re.sub(r"\s+", " ", text).strip(),
    "upper": str.upper,
    "title": str.title,
}


@dataclass(frozen=True)
class Actor:
    """Name who saves: a login and its contact, to which CreatedById and ModifiedById point."""

    name: str
    contact: str


@dataclass(frozen=True)
class Saved:
    """Carry a saved row and its time with seven digits, as the 201 answer shows it (the table keeps six)."""

    row: StoredRow
    shown: str


class Saving:
    """Create, update and delete rows of all objects."""

    def __init__(self, database: Database, switches: Switches[CreatioSettings], clock: Clock) -> None:
        self._database = database
        self._switches = switches
        self._clock = clock
        self._schema: Schema = database.schema
        self._effects = Effects(database, self._stamped_update, self._stamped_insert)
        self._document_effects = DocumentEffects(database, self._stamped_update, switches, clock)
        self._defaults = Defaults(database, switches)

    def create(self, entity: Entity, values: Mapping[str, Stored], actor: Actor, normalise: Rule | None = None) -> Saved:
        """Insert a row with defaults and side effects; CreatioError 500 as the database or the object refuses it."""
        row = self._checked(entity, values, normalise)
        row.setdefault("Id", str(uuid.uuid4()))
        row["Id"] = row["Id"] or str(uuid.uuid4())
        now, shown = self._now()
        for column in entity.stored:
            if row.get(column.name) is None:
                row[column.name] = self._defaults.value(entity, column, actor.contact, now)
        if not self._switches.current.keep_client_stamps or "CreatedOn" not in values:
            row["CreatedOn"] = now
        row.update(self._stamps(values, actor, now))
        row["CreatedById"] = row.get("CreatedById") or actor.contact
        self._require(entity, row, _REQUIRED | {"datetime", "date"})
        self._check_references(entity, values)
        if self._switches.current.side_effects:
            row.update(self._document_effects.worth(entity, row))
        with self._database.transaction():
            try:
                self._database.insert(entity.name, row)
            except sqlite3.IntegrityError:
                name = entity.name
                cause = f'23505: duplicate key value violates unique constraint "PK{name}Id" (Id {row["Id"]!s})'
                error = database_error(cause)
                error.status = self._switches.current.duplicate_status
                raise error from None
            if self._switches.current.side_effects:
                self._effects.after_save(entity, row, set(values), actor, created=True)
                self._document_effects.after_save(entity, row, None, set(values), actor)
        return Saved(self._database.get(entity.name, str(row["Id"])) or row, shown)

    def update(
        self,
        entity: Entity,
        row_id: str,
        values: Mapping[str, Stored],
        actor: Actor,
        normalise: Rule | None = None,
    ) -> StoredRow:
        """Change columns of a row with side effects; CreatioError 404 when it is not there."""
        before = self._database.get(entity.name, row_id)
        if before is None:
            raise not_found()
        given = {name: value for name, value in values.items() if name not in {"Id", *_STAMPS}}
        changes = self._checked(entity, given, normalise)
        self._require(entity, {**before, **changes})
        self._check_references(entity, changes)
        changed = {name for name, value in changes.items() if before[name] != value}
        if changed and self._switches.current.side_effects:
            changes |= self._document_effects.worth(entity, {**before, **changes})
        now, _ = self._now()
        with self._database.transaction():
            if changed or self._switches.current.empty_patch_stamps:
                self._database.update(entity.name, row_id, {**changes, **self._stamps(values, actor, now)})
            after = self._database.get(entity.name, row_id) or before
            if changed and self._switches.current.side_effects:
                self._effects.after_save(entity, after, changed, actor, created=False)
                self._document_effects.after_save(entity, after, before, changed, actor)
        return self._database.get(entity.name, row_id) or after

    def delete(self, entity: Entity, row_id: str, actor: Actor) -> None:
        """Delete a row with its details; CreatioError 404 when missing, 500 when another row refers to it (or its lookup is emptied)."""
        before = self._database.get(entity.name, row_id)
        if before is None:
            raise not_found()
        with self._database.transaction():
            if self._switches.current.side_effects:
                self._document_effects.before_delete(entity, before, actor)
            for child, column in self._schema.referring(entity.name):
                self._release(child, column, entity, row_id)
            self._database.delete(entity.name, row_id)
            if self._switches.current.side_effects:
                self._effects.after_delete(entity, before, actor)
                self._document_effects.after_delete(entity, before, actor)

    def _release(self, child: Entity, column: Column, entity: Entity, row_id: str) -> None:
        empties = self._switches.current.delete_referenced == "empty" and not column.required
        some = "" if empties or child.name in _CASCADES else " LIMIT 2"  # one may be the row itself
        rows = self._database.query(f'SELECT "Id" FROM "{child.name}" WHERE "{column.name}" = ?{some}', (row_id,))
        others = [row["Id"] for row in rows if not (child.name == entity.name and row["Id"] == row_id)]
        if empties and child.name not in _CASCADES:
            for other in others:
                self._database.update(child.name, other, {column.name: None})
        elif others and child.name not in _CASCADES and self._switches.current.foreign_keys:
            name = f"FK{child.name}{column.name}"
            raise database_error(
                f'23503: update or delete on table "{entity.name}" violates foreign key constraint "{name}" on table '
                f'"{child.name}"; key (Id)=({row_id}) is still referenced',
            )
        for other in others if child.name in _CASCADES else ():
            self._database.delete(child.name, other)

    def _now(self) -> tuple[str, str]:
        """Return the server's time as the database keeps it (six digits, or seven) and as a create shows it (seven digits)."""
        moment = self._clock.now()
        tenth = 1 + uuid.uuid4().int % 9
        shown = f"{stamp(moment)[:-2]}{tenth}Z"
        if self._switches.current.stored_digits == 7:
            return shown, shown
        return stamp(moment + timedelta(microseconds=1 if tenth >= 5 else 0)), shown

    def _stamps(self, values: Mapping[str, Stored], actor: Actor, now: str) -> dict[str, Stored]:
        kept = {name: values[name] for name in _STAMPS if values.get(name) is not None} if self._switches.current.keep_client_stamps else {}
        return {"ModifiedOn": now, "ModifiedById": actor.contact, **kept}

    def _checked(self, entity: Entity, values: Mapping[str, Stored], normalise: Rule | None) -> dict[str, Stored]:
        """Return the values as the database takes them: texts normalised, cut or refused by their length."""
        row: dict[str, Stored] = {}
        for name, value in values.items():
            column = entity.columns[name]
            row[name] = value
            if not isinstance(value, str) or column.kind != "text":
                continue
            text = _normalised(entity, name, value, normalise)
            if _UNSTORABLE.search(text) or ("\x00" in text and self._switches.current.nul_in_text == "refuse"):
                raise bad_bytes()
            if column.length is not None and len(text) > column.length:
                if self._switches.current.text_overflow == "error":
                    raise database_error(f"22001: value too long for type character varying({column.length})")
                text = text[: column.length]
            row[name] = text
        return row

    def _require(self, entity: Entity, row: Mapping[str, Stored], kinds: frozenset[Kind] = _REQUIRED) -> None:
        """Refuse an empty column that must be filled; rows that were seeded without a date may be changed without one."""
        for column in entity.columns.values():
            if column.required and row.get(column.name) in {None, ""} and column.kind in kinds:
                raise database_error(f"Column {column.name} is required")

    def _check_references(self, entity: Entity, values: Mapping[str, Stored]) -> None:
        if not self._switches.current.foreign_keys:
            return
        for name, value in values.items():
            target = entity.columns[name].target
            if name in _STAMPS or target is None or value is None or self._database.exists(target, str(value)):
                continue
            constraint = f"FK{entity.name}{name}"
            raise database_error(
                f'23503: insert or update on table "{entity.name}" violates foreign key constraint "{constraint}"; '
                f'key ({name})=({value!s}) is not present in table "{target}"',
            )

    def _stamped_update(self, entity: str, row_id: str, values: Mapping[str, Stored], actor: Actor) -> None:
        """Save a row as a consequence of another one: stamped, without consequences of its own."""
        now, _ = self._now()
        self._database.update(entity, row_id, {**values, "ModifiedOn": now, "ModifiedById": actor.contact})

    def _stamped_insert(self, entity: str, values: Mapping[str, Stored], actor: Actor) -> str:
        now, _ = self._now()
        row_id = str(uuid.uuid4())
        stamps = {"CreatedOn": now, "CreatedById": actor.contact, "ModifiedOn": now, "ModifiedById": actor.contact}
        self._database.insert(entity, {"Id": row_id, **stamps, **values})
        return row_id


def _normalised(entity: Entity, column: str, text: str, rule: Rule | None) -> str:
    if rule is None or rule.options.get("entity", entity.name) != entity.name:
        return text
    if rule.options.get("column", column) != column:
        return text
    return _NORMALISERS[rule.options.get("how", "collapse")](text)
