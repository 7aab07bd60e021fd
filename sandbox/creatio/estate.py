"""What an administrator does to the whole installation: backups and their restore, columns, rights of the API user."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox.control import Refused, Switches
from sandbox.creatio.database import Database
from sandbox.creatio.schema import Column, Entity, custom_entity
from sandbox.creatio.settings import CreatioSettings

_OWN = frozenset({"Id", "CreatedOn", "CreatedById", "ModifiedOn", "ModifiedById", "ProcessListeners"})
_NEW_LENGTH = 250


@dataclass
class CreatioEstate:
    """The `sandbox.control_estate.Estate` of this stand-in."""

    database: Database
    switches: Switches[CreatioSettings]
    _kept: dict[str, tuple[sqlite3.Connection, Mapping[str, Entity]]] = field(default_factory=dict)
    _removed: dict[tuple[str, str], tuple[Column, Mapping[str, str]]] = field(default_factory=dict)
    """Columns that were taken away, each with the collections of other objects that it made: their owner by their name."""

    def snapshot(self, name: str) -> None:
        """Keep rows and objects under a name."""
        self._kept[name] = self.database.snapshot(), dict(self.database.schema.entities)

    def restore(self, name: str) -> None:
        """Bring a snapshot back."""
        if name not in self._kept:
            raise Refused(f"no snapshot {name!r}; allowed {', '.join(self._kept) or 'none yet'}", 404)
        copy, entities = self._kept[name]
        self.database.restore(copy)
        self.database.schema.entities.update(entities)

    def set_rights(self, entity: str, *, read: bool, write: bool) -> None:
        """Set which rights on one object the API user has; without the right to read nothing else goes either."""
        name, settings = self._entity(entity).name, self.switches.current
        blocked, unwritable = {*settings.blocked_sets} - {name}, {*settings.unwritable_sets} - {name}
        if not read:
            blocked.add(name)
        if not write:
            unwritable.add(name)
        self.switches.update({"blocked_sets": sorted(blocked), "unwritable_sets": sorted(unwritable)})

    def remove_column(self, entity: str, column: str) -> None:
        """Take a column away with its values, and what it made navigable on other objects."""
        target = self._entity(entity)
        found = target.columns.get(column)
        if found is None or column in _OWN:
            allowed = ", ".join(sorted(set(target.columns) - _OWN))
            raise Refused(f"{entity} can't lose a column {column}; allowed {allowed}")
        pair, entities = (entity, column), self.database.schema.entities
        collections = {name: owner.name for owner in entities.values() for name, made in owner.collections.items() if made == pair}
        for name, owner in collections.items():
            entities[owner] = replace(entities[owner], collections={k: v for k, v in entities[owner].collections.items() if k != name})
        entities[entity] = replace(entities[entity], columns={k: v for k, v in entities[entity].columns.items() if k != column})
        with self.database.transaction():
            self.database.empty_column(entity, column)
        self._removed[pair] = found, collections

    def add_column(self, entity: str, column: str) -> None:
        """Add a column: one that was taken away as it was, else one of text; it is empty."""
        target = self._entity(entity)
        if column in target.columns:
            raise Refused(f"{entity} has the column {column} already")
        added, collections = self._removed.pop((entity, column), (Column(column, "text", length=_NEW_LENGTH), {}))
        with self.database.transaction():
            self.database.add_column(entity, added)
        entities = self.database.schema.entities
        entities[entity] = replace(target, columns={**target.columns, column: added})
        for name, owner in collections.items():
            entities[owner] = replace(entities[owner], collections={**entities[owner].collections, name: (entity, column)})

    def add_entity(self, entity: str, columns: Mapping[str, Mapping[str, Any]]) -> None:
        """Add an object; its lookups lead to objects that are there, which get a collection of its rows."""
        entities = self.database.schema.entities
        if entity in entities or not entity.startswith("Usr"):
            raise Refused(f"got object {entity!r}, allowed a new name that begins with Usr")
        made = custom_entity(entity, columns)
        for column in made.columns.values():
            if column.target is not None:
                self._entity(column.target)
        with self.database.transaction():
            self.database.add_entity(made)
        entities[entity] = made
        for column in made.columns.values():
            if column.target is not None and column.name not in _OWN:
                owner, name = entities[column.target], f"{entity}CollectionBy{column.navigation}"
                entities[column.target] = replace(owner, collections={**owner.collections, name: (entity, column.name)})

    def _entity(self, name: str) -> Entity:
        entity = self.database.schema.entities.get(name)
        if entity is None:
            raise Refused(f"got entity {name!r}, allowed {', '.join(self.database.schema.entities)}", 404)
        return entity
