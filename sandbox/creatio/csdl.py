"""Write the service document and the CSDL of `$metadata` (creatio.md 2.1)."""

import functools
import operator
from collections.abc import Collection
from typing import Any
from xml.sax.saxutils import quoteattr

from sandbox.creatio.schema import NAMESPACE, Column, Entity, Schema

_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>'
)
_EDM = "http://docs.oasis-open.org/odata/ns/edm"


def service_document(schema: Schema, root: str, unpublished: Collection[str] = ()) -> dict[str, Any]:
    """Return the service document: every entity set that is published."""
    sets = [{"name": name, "kind": "EntitySet", "url": name} for name in schema.entities if name not in unpublished]
    return {"@odata.context": f"{root}/$metadata", "value": sets}


def csdl(schema: Schema, *, max_length: bool, unpublished: Collection[str] = ()) -> str:
    """Return the CSDL XML; `max_length` adds a facet of which it is not known whether Creatio shows it."""
    return _csdl(_Hashable(schema), max_length, frozenset(unpublished))


class _Hashable:
    """Let a schema be a cache key by the identity of its objects: they are replaced when a column comes or goes."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._entities = tuple(schema.entities.values())

    def __hash__(self) -> int:
        return hash(tuple(map(id, self._entities)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and all(map(operator.is_, self._entities, other._entities))


@functools.lru_cache(maxsize=4)
def _csdl(key: _Hashable, max_length: bool, unpublished: frozenset[str]) -> str:
    schema = key.schema
    published = {name: entity for name, entity in schema.entities.items() if name not in unpublished}
    types = "".join(_entity_type(entity, schema, max_length=max_length) for entity in published.values())
    sets = "".join(f'<EntitySet Name="{name}" EntityType="{NAMESPACE}.{name}"/>' for name in published)
    container = f'<EntityContainer Name="Container">{sets}</EntityContainer>'
    return (
        f'{_HEAD}<Schema Namespace="{NAMESPACE}" xmlns="{_EDM}">{types}</Schema>'
        f'<Schema Namespace="Default" xmlns="{_EDM}">{container}</Schema>'
        "</edmx:DataServices></edmx:Edmx>"
    )


def _entity_type(entity: Entity, schema: Schema, *, max_length: bool) -> str:
    properties = "".join(_property(column, max_length=max_length) for column in (*entity.stored, *entity.streams))
    lookups = "".join(
        _navigation(name, f"{NAMESPACE}.{column.target}", _partner(entity, column, schema))
        for name, column in entity.navigations.items()
        if column.target is not None
    )
    collections = "".join(
        _navigation(name, f"Collection({NAMESPACE}.{child})", column.removesuffix("Id"))
        for name, (child, column) in entity.collections.items()
    )
    key = '<Key><PropertyRef Name="Id"/></Key>'
    return f'<EntityType Name="{entity.name}">{key}{properties}{lookups}{collections}</EntityType>'


def _property(column: Column, *, max_length: bool) -> str:
    nullable = ' Nullable="false"' if column.required or column.name == "Id" else ""
    length = f' MaxLength="{column.length}"' if max_length and column.length is not None else ""
    return f'<Property Name="{column.name}" Type="{column.edm}"{nullable}{length}/>'


def _navigation(name: str, kind: str, partner: str | None) -> str:
    shown = "" if partner is None else f" Partner={quoteattr(partner)}"
    return f'<NavigationProperty Name="{name}" Type="{kind}"{shown}/>'


def _partner(entity: Entity, column: Column, schema: Schema) -> str | None:
    collections = schema.entities[str(column.target)].collections
    return next((name for name, pair in collections.items() if pair == (entity.name, column.name)), None)
