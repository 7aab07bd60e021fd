"""A cache of live Dataverse metadata: fetched by need, kept for a while, dropped when the server knows better."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from shared.core.errors import Rejected, TandemError, Transient
from shared.core.records import Column, ColumnType, Entity, path_of
from shared.systems import dataverse_tables as tables
from shared.systems.dataverse_errors import SYSTEM
from shared.systems.dataverse_wire import MERGE_COLUMNS, MODIFIED_BY, MODIFIED_ON

_T = TypeVar("_T")
_NAMES_A_REQUEST = 40
_MISSING_LIFETIME = 300.0
_LIST_LIFETIME = 300.0


class Metadata:
    """Tables by name. `get_json` sends a GET and returns its body."""

    def __init__(self, get_json: Callable[[str], Awaitable[Any]], *, lifetime: float, monotonic: Callable[[], float]) -> None:
        """Keep what is read for `lifetime` seconds."""
        self._get_json = get_json
        self._lifetime = lifetime
        self._monotonic = monotonic
        self._tables: dict[str, tuple[float, tables.Table]] = {}
        self._definitions: dict[str, tuple[float, tables.Definition]] = {}
        self._options: dict[tuple[str, str], tuple[float, Mapping[str, Mapping[str, str]]]] = {}
        self._lists: dict[str, tuple[float, Mapping[str, str]]] = {}
        self._locks: dict[tuple[str, ...], asyncio.Lock] = {}

    def forget(self, entity: str) -> None:
        """Drop what is known about a table, and about those that its paths lead to."""
        _, table = self._tables.pop(entity, (0.0, None))
        for attribute in table.attributes.values() if table else ():
            if attribute.behind is not None:
                self._tables.pop(attribute.behind.target.name, None)
        self._definitions.pop(entity, None)
        for key in [key for key in self._options if key[0] == entity]:
            del self._options[key]

    def noted(self, error: TandemError, entity: str) -> TandemError:
        """Return an error with its entity; what is known about columns is dropped when the server knows better."""
        error.entity = error.entity or entity
        if error.code == f"{SYSTEM}.unknown_column":
            self.forget(entity)
        return error

    async def definition(self, entity: str) -> tables.Definition:
        """Return what a table is called; raises Rejected `unknown_entity`."""
        async with self._once("definition", entity):
            known = self._fresh(self._definitions.get(entity))
            if known is None:
                known = await self._read_definition(entity)
                self._definitions[entity] = (self._monotonic(), known)
            return known

    async def _read_definition(self, entity: str) -> tables.Definition:
        try:
            body = await self._get_json(tables.definition_url(entity))
        except Rejected as error:  # the request names nothing but the table
            raise Rejected(f"{SYSTEM}.unknown_entity", error.said, system=SYSTEM, entity=entity, request_id=error.request_id) from None
        except TandemError as error:
            raise _of_entity(error, entity) from error.__cause__
        except ValueError as problem:  # a name that can't be one
            raise Rejected(f"{SYSTEM}.unknown_entity", str(problem), system=SYSTEM, entity=entity) from None
        return _parsed(tables.read_definition, body, entity)

    async def table(self, entity: str, columns: Collection[str]) -> tables.Table:
        """Return a table that knows the named columns (or knows that it lacks them) and those that every row carries."""
        paths = {name: path for name in columns if (path := path_of(name))}
        table = await self._own(entity, {*(name for name in columns if name not in paths), *(lookup for lookup, _ in paths.values())})
        lacking = table.lacking(paths)
        if not lacking:
            return table
        found = {name: one for name in lacking if (one := await self._behind(table, name, *paths[name])) is not None}
        async with self._once("table", entity):
            read_at, kept = self._tables.get(entity, (self._monotonic(), table))
            table = kept.with_attributes(lacking, found)
            self._tables[entity] = (read_at, table)
        return table

    async def _behind(self, table: tables.Table, path: str, lookup: str, column: str) -> tables.Attribute | None:
        """Return what a path is, None when its lookup, the one table behind it, or its column does not exist."""
        begin = table.attributes.get(lookup)
        if begin is None or begin.column.type is not ColumnType.LOOKUP or len(begin.column.targets) != 1:
            return None
        try:
            target = await self._own(begin.column.targets[0], {column})
        except Rejected:  # the lookup came with a solution, and the table behind it is not there
            return None
        end = target.attributes.get(column)
        return tables.path_attribute(path, begin, target.definition, end) if end and begin.navigation else None

    async def _own(self, entity: str, columns: Collection[str]) -> tables.Table:
        async with self._once("table", entity):
            table = self._fresh(self._tables.get(entity))
            if table is not None and table.absent - {*MERGE_COLUMNS} and self._monotonic() - self._tables[entity][0] > _MISSING_LIFETIME:
                table = None  # somebody may have made the missing column meanwhile
            read_at = self._tables[entity][0] if table is not None else self._monotonic()
            if table is None:
                definition = await self.definition(entity)
                relations = _parsed(tables.read_relations, await self._fetch(tables.relations_url(entity), entity), entity)
                table = tables.Table(definition, relations)
            lacking = table.lacking({*columns, table.definition.id_column, MODIFIED_ON, MODIFIED_BY})
            if lacking:
                table = await self._learn(table, lacking)
            self._tables[entity] = (read_at, table)
            return table

    async def describe(self, entity: str, columns: Collection[str], options: Collection[str]) -> Entity:
        """Return the columns as the core knows them, with the choices of those in `options`."""
        table = await self.table(entity, {*columns, *options})
        chosen = [name for name in options if name in table.attributes]
        found_labels = await asyncio.gather(*(self._labels(entity, table.attributes[name]) for name in chosen))
        labels = dict(zip(chosen, found_labels, strict=True))
        asked = dict.fromkeys([*columns, *options])
        found: dict[str, Column] = {
            name: replace(table.attributes[name].column, options=labels.get(name, {})) for name in asked if name in table.attributes
        }
        return Entity(entity, found, tuple(name for name in asked if name in table.absent))

    async def _learn(self, table: tables.Table, names: Collection[str]) -> tables.Table:
        entity = table.definition.name
        logical = sorted({name for name in map(table.logical, names) if name.isidentifier() and name.isascii()})
        found: dict[str, tables.Attribute] = {}
        for start in range(0, len(logical), _NAMES_A_REQUEST):
            body = await self._fetch(tables.attributes_url(entity, logical[start : start + _NAMES_A_REQUEST]), entity)
            found |= _parsed(lambda raw: tables.read_attributes(raw, table.relations), body, entity)
        return table.with_attributes(names, found)

    async def _labels(self, entity: str, attribute: tables.Attribute) -> Mapping[str, str]:
        if attribute.behind is not None:
            return await self._labels(attribute.behind.target.name, attribute.behind.end)
        if attribute.column.type is ColumnType.LOOKUP:
            return await self._names(attribute)
        if not tables.has_options(attribute):
            return {}
        key = (entity, attribute.kind)
        async with self._once("options", *key):
            by_column = self._fresh(self._options.get(key))
            if by_column is None:
                by_column = _parsed(tables.read_options, await self._fetch(tables.options_url(entity, attribute.kind), entity), entity)
                self._options[key] = (self._monotonic(), by_column)
            return by_column.get(attribute.logical, {})

    async def _names(self, attribute: tables.Attribute) -> Mapping[str, str]:
        """Return id to name of the rows that a lookup of one target may hold; kept for minutes, for people add to lists any day."""
        if len(attribute.column.targets) != 1:
            return {}
        (target,) = attribute.column.targets
        definition = await self.definition(target)
        if not definition.name_column:
            return {}
        async with self._once("names", target):
            kept = self._lists.get(target)
            if kept is None or self._monotonic() - kept[0] >= _LIST_LIFETIME:
                body = await self._fetch(tables.names_url(definition), target)
                kept = (self._monotonic(), _parsed(lambda raw: tables.read_names(raw, definition), body, target))
                self._lists[target] = kept
            return kept[1]

    def _once(self, *asked: str) -> asyncio.Lock:
        """Return the lock under which something is asked, so that batches that start together ask once."""
        return self._locks.setdefault(asked, asyncio.Lock())

    async def _fetch(self, url: str, entity: str) -> Any:
        try:
            return await self._get_json(url)
        except TandemError as error:
            raise _of_entity(error, entity) from error.__cause__

    def _fresh(self, kept: tuple[float, _T] | None) -> _T | None:
        return kept[1] if kept is not None and self._monotonic() - kept[0] < self._lifetime else None


def _of_entity(error: TandemError, entity: str) -> TandemError:
    error.entity = error.entity or entity
    return error


def _parsed(read: Callable[[Any], _T], body: Any, entity: str) -> _T:
    try:
        return read(body)
    except (KeyError, TypeError, AttributeError) as problem:
        said = f"metadata without {problem}" if isinstance(problem, KeyError) else "metadata of another shape"
        raise Transient(f"{SYSTEM}.bad_answer", said, system=SYSTEM, entity=entity) from None
