"""Answer OData reads: collections, single rows, counts, properties, streams, expansions (creatio.md 2.3)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sandbox.control import Switches
from sandbox.creatio.database import Database, StoredRow
from sandbox.creatio.errors import CreatioError, no_right, not_found
from sandbox.creatio.query import Expand, Query, check_order, check_query, target_of
from sandbox.creatio.schema import Column, Entity, Schema
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import Raw, fragment, to_json
from sandbox.creatio.where import Compiler, Dialect

_CHUNK = 500


@dataclass(frozen=True)
class View:
    """Say how rows are shown: the service root of links, and whether decimals are JSON strings."""

    root: str
    text_decimals: bool = False


class Reads:
    """Read rows as the API user sees them."""

    def __init__(self, database: Database, switches: Switches[CreatioSettings]) -> None:
        self._database = database
        self._schema: Schema = database.schema
        self._switches = switches

    def collection(self, entity: Entity, query: Query, view: View, page: int | None = None) -> dict[str, Any]:
        """Return the answer of a collection read, capped at the row limit, or at `page` rows with a link to the next."""
        settings = self._switches.current
        check_query(query, entity, self._schema, settings.max_expansion_depth)
        cap = min(settings.max_entity_row_count, page or settings.max_entity_row_count)
        linked = settings.next_link or page is not None
        limit = cap if query.top is None else min(query.top, cap)
        rows = self._rows(entity, query, limit)
        answer: dict[str, Any] = {"@odata.context": f"{view.root}/$metadata#{entity.name}{_selection(query)}"}
        total = self.count(entity, query) if query.count or linked else 0
        if query.count:
            answer["@odata.count"] = total
        answer["value"] = [_object(members) for members in self._shown(entity, rows, query, view)]
        wanted = total - query.skip if query.top is None else min(query.top, total - query.skip)
        if linked and wanted > cap:
            answer["@odata.nextLink"] = _next_link(entity, query, view, query.skip + cap, cap)
        return answer

    def single(self, entity: Entity, row_id: str, query: Query, view: View) -> Raw:
        """Return the answer of a read by key; CreatioError 404 when the row is not there or not to be seen."""
        check_query(query, entity, self._schema, self._switches.current.max_expansion_depth)
        row = self.visible(entity, row_id)
        context = f"{view.root}/$metadata#{entity.name}{_selection(query)}/$entity"
        return self.shown(entity, row, query, view, context)

    def shown(self, entity: Entity, row: StoredRow, query: Query, view: View, context: str) -> Raw:
        """Return one row as a JSON object of its own, with its context."""
        members = self._shown(entity, [row], query, view)[0]
        return _object([f'"@odata.context":{to_json(context)}', *members])

    def visible(self, entity: Entity, row_id: str) -> StoredRow:
        """Return a row that the API user has a right to see, else CreatioError 404."""
        row = None if row_id in self._hidden(entity) else self._database.get(entity.name, row_id)
        if row is None:
            raise not_found()
        return row

    def shows(self, entity: Entity, row_id: str) -> bool:
        """Tell whether the API user sees a row of this id."""
        return row_id not in self._hidden(entity) and self._database.exists(entity.name, row_id)

    def count(self, entity: Entity, query: Query) -> int:
        """Return how many rows the filter matches, whatever top and skip."""
        condition, values = self._condition(entity, query)
        return int(self._database.scalar(f'SELECT COUNT(*) FROM "{entity.name}" t{condition}', values))

    def _hidden(self, entity: Entity) -> Sequence[str]:
        return self._switches.current.hidden_ids.get(entity.name, ())

    def _compiler(self, entity: Entity) -> Compiler:
        settings = self._switches.current
        dialect = Dialect(
            flat_lookup=settings.flat_lookup_filter == "accept",
            null_lookup=settings.null_lookup_filter == "accept",
            in_operator=settings.in_operator,
            not_operator=settings.not_operator,
            lambdas=settings.lambda_operators,
            more_functions=settings.more_functions,
            max_nodes=settings.max_node_count,
            ignore_case=settings.ignore_case,
            nul=settings.nul_in_text == "accept",
        )
        return Compiler(self._schema, entity, dialect)

    def _condition(self, entity: Entity, query: Query, more: str = "", bound: Sequence[Any] = ()) -> tuple[str, list[Any]]:
        conditions, values = ([more] if more else []), list(bound)
        if query.filter:
            sql, filter_values = self._compiler(entity).where(query.filter)
            conditions.append(sql)
            values += filter_values
        hidden = self._hidden(entity)
        if hidden:
            conditions.append(f't."Id" NOT IN ({", ".join("?" * len(hidden))})')
            values += hidden
        return (" WHERE " + " AND ".join(conditions) if conditions else ""), values

    def _rows(self, entity: Entity, query: Query, limit: int, more: str = "", bound: Sequence[Any] = ()) -> list[StoredRow]:
        condition, values = self._condition(entity, query, more, bound)
        sql = f'SELECT {self._columns(entity, query)} FROM "{entity.name}" t{condition} ORDER BY {self._order(entity, query)}'
        return self._database.query(f"{sql} LIMIT ? OFFSET ?", [*values, limit, query.skip])

    def _columns(self, entity: Entity, query: Query) -> str:
        if query.select is None:
            names = [column.name for column in entity.stored]
        else:
            joins = [column for e in query.expand for _, column, many in [self._target(entity, e)] if not many]
            chosen = {"Id", *query.select, *joins}
            names = [column.name for column in entity.stored if column.name in chosen]
        return ", ".join(f't."{name}"' for name in names)

    def _order(self, entity: Entity, query: Query) -> str:
        compiler = self._compiler(entity)
        terms = []
        for parts, descending in query.order:
            if self._switches.current.flat_lookup_filter == "error":
                check_order(entity, parts)
            terms.append(f"{compiler.path(parts)}{' DESC' if descending else ''}")
        return ", ".join([*terms, 't."Id"'])

    def _target(self, entity: Entity, expand: Expand) -> tuple[Entity, str, bool]:
        return target_of(expand.navigation, entity, self._schema)

    def _shown(self, entity: Entity, rows: Sequence[StoredRow], query: Query, view: View) -> list[list[str]]:
        """Return for each row the members of its JSON object, as text."""
        translate = self._translations(entity)
        denied = self._denied(entity, query)
        writers = []
        for column in entity.stored:
            if query.select is None or column.name in query.select:
                write = fragment(column, text_decimals=view.text_decimals)
                if translate and column.name == "Name":
                    write = _translated(write, translate)
                writers.append((column.name, f'"{column.name}":', _blanked(write) if column.name in denied else write))
        streams = [c for c in entity.streams if query.select is None or c.name in query.select]
        shown = [[label + write(row[name]) for name, label, write in writers] for row in rows]
        self._guard_memory(shown)
        for column in streams:
            for row, members in zip(rows, shown, strict=True):
                members.extend(_media_links(entity, column, row["Id"]))
        for expand in query.expand:
            self._expand(entity, rows, shown, expand, view)
        return shown

    def _denied(self, entity: Entity, query: Query) -> Collection[str]:
        """Return the columns that are to be shown empty; CreatioError when asking for them is refused."""
        settings = self._switches.current
        denied = settings.denied_columns.get(entity.name, ())
        asked = [name for name in denied if query.select is not None and name in query.select]
        if asked and settings.denied_column == "refuse":
            raise no_right(settings.right_status, f"read the column {asked[0]} of", entity.name)
        return denied

    def _guard_memory(self, shown: Sequence[list[str]]) -> None:
        settings = self._switches.current
        if settings.max_answer_bytes and sum(len(member) for members in shown for member in members) > settings.max_answer_bytes:
            message = "The memory limit for getting data has been exceeded (MaxMemoryUsageToGetDataViaEntityCollection)."
            raise CreatioError(settings.memory_status, message, kind="Terrasoft.Common.MemoryLimitExceededException")

    def _translations(self, entity: Entity) -> Mapping[str, str]:
        return self._schema.translations.get(self._switches.current.culture, {}).get(entity.name, {})

    def _expand(
        self,
        entity: Entity,
        rows: Sequence[StoredRow],
        shown: Sequence[list[str]],
        expand: Expand,
        view: View,
    ) -> None:
        """Add the rows behind a navigation to the rows shown, with one query for each 500 of them."""
        target, column, many = self._target(entity, expand)
        own, other = ("Id", column) if many else (column, "Id")
        keys = sorted({row[own] for row in rows if row[own] is not None})
        query = expand.query
        inner = Query(
            select=None if query.select is None else (*query.select, other),
            filter=query.filter,
            order=query.order,
            expand=query.expand,
        )
        found: dict[str, list[Raw]] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            more = f't."{other}" IN ({", ".join("?" * len(chunk))})'
            related = self._rows(target, inner, -1, more, chunk)
            for row, members in zip(related, self._shown(target, related, query, view), strict=True):
                found.setdefault(row[other], []).append(_object(members))
        for row, members in zip(rows, shown, strict=True):
            matches = found.get(row[own], [])
            if many:
                end = None if query.top is None else query.skip + query.top
                value = to_json(matches[query.skip : end])
            else:
                value = matches[0] if matches else "null"
            members.append(f'"{expand.navigation}":{value}')


def _object(members: Sequence[str]) -> Raw:
    return Raw("{" + ",".join(members) + "}")


def _blanked(write: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda _: write(None)


def _translated(write: Callable[[Any], str], names: Mapping[str, str]) -> Callable[[Any], str]:
    return lambda stored: write(names.get(stored, stored))


def _selection(query: Query) -> str:
    """Return the part of a context address that names the columns selected and the navigations expanded."""
    names = list(query.select or ())
    names += [f"{e.navigation}{_selection(e.query) or '()'}" for e in query.expand]
    return f"({','.join(names)})" if names else ""


def _media_links(entity: Entity, column: Column, row_id: str) -> list[str]:
    address = f"{entity.name}({row_id})/{column.name}"
    return [
        f'"{column.name}@odata.mediaEditLink":"{address}"',
        f'"{column.name}@odata.mediaReadLink":"{address}"',
        f'"{column.name}@odata.mediaContentType":"application/octet-stream"',
    ]


def _next_link(entity: Entity, query: Query, view: View, position: int, cap: int) -> str:
    kept = [(key, value) for key, value in query.others if key not in {"$skip", "$skiptoken", "$top"}]
    if query.top is not None:
        kept.append(("$top", str(query.top - cap)))
    options = urlencode([*kept, ("$skiptoken", str(position))], quote_via=quote, safe="$,()'/:")
    return f"{view.root}/{entity.name}?{options}"
