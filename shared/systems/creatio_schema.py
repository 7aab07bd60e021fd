"""What Creatio's metadata says, kept for a while: the CSDL is 1.4 MB, and it changes only when somebody publishes."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from shared.core.errors import TandemError, Transient
from shared.core.records import ColumnType, Entity, path_of
from shared.systems.creatio_csdl import Model, parse_model
from shared.systems.creatio_errors import SYSTEM, changed_schema, unknown_entity
from shared.systems.creatio_service import Service
from shared.systems.creatio_wire import read_id

_LIST_SECONDS = 300.0
"""Lookup values are kept for a shorter time than the CSDL: people add a city or a type any day."""
_DISPLAY_NAMES = ("Name", "Title")  # Opportunity shows its Title (creatio.md 5)


class Schema:
    """Objects and lookup values by name; asked once, kept `seconds`, dropped when a request shows that they are out of date."""

    def __init__(self, service: Service, *, seconds: float, page_size: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._seconds = seconds
        self._page_size = page_size
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._csdl: bytes | None = None
        self._until = 0.0
        self._models: dict[str, Model] = {}
        self._with_paths: dict[tuple[str, frozenset[str]], Model] = {}
        self._options: dict[str, tuple[float, Mapping[str, str]]] = {}
        self._listing: dict[str, asyncio.Lock] = {}

    async def model(self, entity: str, columns: Collection[str] = ()) -> Model:
        """Return one object with those paths among the columns that exist; raises Rejected `unknown_entity` when the site has none."""
        model, paths = await self._own(entity), frozenset(filter(path_of, columns))
        if not paths:
            return model
        if (entity, paths) not in self._with_paths:
            for path in sorted(paths):
                model = await self._with_path(model, path)
            self._with_paths[entity, paths] = model
        return self._with_paths[entity, paths]

    async def _with_path(self, model: Model, path: str) -> Model:
        lookup = model.lookup_of(path.partition("/")[0])
        return model.with_path(path, await self._own(lookup.targets[0])) if lookup is not None else model

    async def _own(self, entity: str) -> Model:
        async with self._lock:
            if self._monotonic() >= self._until:
                self.drop()
            if entity not in self._models:
                self._models[entity] = await self._read(entity)
            return self._models[entity]

    async def describe(self, entity: str, columns: Collection[str], options: Collection[str]) -> Entity:
        """Return the named columns, with the lookup values of those in `options`."""
        model = await self.model(entity, columns)
        described = {name: model.columns[name] for name in columns if name in model.columns}
        listed = [column for name, column in described.items() if name in options and column.type is ColumnType.LOOKUP]
        lists = await asyncio.gather(*(self._options_of(column.targets[0]) for column in listed))
        described |= {column.name: replace(column, options=found) for column, found in zip(listed, lists, strict=True)}
        return Entity(entity, described, tuple(name for name in columns if name not in described))

    def drop(self) -> None:
        """Forget everything: the next question asks the site."""
        self._csdl = None
        self._models = {}
        self._with_paths = {}
        self._options = {}

    def heed(self, error: TandemError) -> None:
        """Forget everything when an error says that the site does not look as it did."""
        if changed_schema(error):
            self.drop()

    async def _read(self, entity: str) -> Model:
        if self._csdl is None:
            self._csdl = await self._service.metadata()
            self._until = self._monotonic() + self._seconds
        try:
            model = await asyncio.to_thread(parse_model, self._csdl, entity)
        except ValueError as problem:
            self.drop()
            raise Transient("creatio.not_json", str(problem), system=SYSTEM) from None
        if model is None:
            self.drop()  # it may be published in a minute
            raise self._service.patient(unknown_entity(entity))
        return model

    async def _options_of(self, lookup: str) -> Mapping[str, str]:
        """Return id to label of a lookup's rows; labels come in the integration user's language (creatio.md 5)."""
        async with self._listing.setdefault(lookup, asyncio.Lock()):  # batches that start together ask once
            kept = self._options.get(lookup)
            if kept is None or self._monotonic() >= kept[0]:
                kept = (self._monotonic() + _LIST_SECONDS, await self._list(lookup))
                self._options[lookup] = kept
            return kept[1]

    async def _list(self, lookup: str) -> Mapping[str, str]:
        model = await self.model(lookup)
        label = next((name for name in _DISPLAY_NAMES if name in model.columns), "Id")
        found: dict[str, str] = {}
        async for row in self._service.all_rows(lookup, dict.fromkeys(("Id", label)), page_size=self._page_size):
            record_id = read_id(row)
            if record_id is not None:
                found[record_id] = str(row.get(label) or "")
        return found
