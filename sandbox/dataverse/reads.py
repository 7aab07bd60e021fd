"""Retrieves rows: one by key, pages of many, counts (dataverse.md 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.dataverse import faults
from sandbox.dataverse.conditions import Compiler
from sandbox.dataverse.database import Row, quoted
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.queries import MAX_PAGE, Cookie, Preferences, Query, read_cookie, split_top_level
from sandbox.dataverse.rendering import Renderer, Shape, read_shape
from sandbox.dataverse.values import Stored, stamp

TOTAL = "Microsoft.Dynamics.CRM.totalrecordcount"
TOTAL_EXCEEDED = "Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"


@dataclass(frozen=True)
class Staleness:
    """Reads show the state before a row's last write, if that was at most `seconds` ago (0: however long ago)."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Sort:
    """One term of an ``$orderby``: ``sql`` for ordering, ``name`` of the column it comes from."""

    sql: str
    name: str
    descending: bool = False


@dataclass(frozen=True)
class Reader:
    """Answers reads of one request; ``root`` is the absolute address of the API for links and contexts."""

    organization: Organization
    root: str
    preferences: Preferences
    staleness: Staleness | None = None

    def one(self, table: Table, row_id: str, query: Query) -> tuple[dict[str, Any], Row] | None:
        """Return a row by id as JSON and as stored, None when it is not there (or was not, in a stale read)."""
        shape = read_shape(self.organization, table, query.get("$select"), query.get("$expand"))
        stored = self.organization.database.get(table, row_id)
        seen = self.seen(table, [stored or {table.primary_id: row_id}])
        if not seen or (stored is None and len(seen[0]) == 1):
            return None
        shown = Renderer(self.organization, self.root, self.preferences).row(shape, seen[0])
        label = f"({shape.label})" if shape.label else ""
        context = f"{self.root}/$metadata#{table.entity_set}{label}/$entity"
        return {"@odata.context": context, **shown}, seen[0]

    def seen(self, table: Table, rows: Sequence[Row]) -> list[Row]:
        """Return rows as this read sees them: as they are, or as they were before their last write."""
        if self.staleness is None:
            return list(rows)
        visible = []
        for row in rows:
            written, before = self.organization.database.previous(table, str(row[table.primary_id]))
            if not written or not self._recent(row):
                visible.append(row)
            elif before is not None:
                visible.append(before)
        return visible

    def _recent(self, row: Row) -> bool:
        if self.staleness is None or self.staleness.seconds <= 0:
            return True
        changed = row.get("modifiedon")
        return changed is None or str(changed) >= stamp(self.organization.now() - self.staleness.seconds)

    def page(self, table: Table, query: Query, only: str = "1", only_values: Sequence[Stored] = ()) -> dict[str, Any]:
        """Return one page of a collection with its nextLink (dataverse.md 3); `only` is a condition of the address itself."""
        shape = read_shape(self.organization, table, query.get("$select"), query.get("$expand"))
        compiler = Compiler(self.organization, table, query.aliases)
        where = compiler.compile(query.get("$filter") or "") if query.get("$filter") else "1"
        where, bound = f"({where}) AND {only}", [*compiler.values, *only_values]
        sorts = self._sorts(table, query.get("$orderby"))
        top = self._top(query)
        size = self.preferences.page_size or min(top or MAX_PAGE, MAX_PAGE)
        token = query.get("$skiptoken")
        cookie = read_cookie(token) if token else Cookie(1, tracking=False, state={})
        found = self._fetch(
            table,
            shape,
            where=where,
            bound=bound,
            sorts=sorts,
            last=cookie.state.get("last"),
            limit=size + 1,
        )
        body = self.head(table, shape, "")
        if query.get("$count") == "true":
            body |= self._totals(table, where, bound)
        shown = self.seen(table, found[:size])
        body["value"] = Renderer(self.organization, self.root, self.preferences).rows(shape, shown)
        if len(found) > size and not (top and self.preferences.page_size is None):
            last = [found[size - 1][f"sort{at}"] for at in range(len(sorts))]
            following = Cookie(cookie.page + 1, tracking=False, state={"last": last})
            body["@odata.nextLink"] = self.link(table, query, following.option())
        return body

    def _fetch(
        self,
        table: Table,
        shape: Shape,
        *,
        where: str,
        bound: Sequence[Stored],
        sorts: Sequence[Sort],
        last: Sequence[Stored] | None,
        limit: int,
    ) -> list[Row]:
        after, after_values = _after(sorts, last)
        keys = ", ".join(f"{sort.sql} AS sort{at}" for at, sort in enumerate(sorts))
        order = ", ".join(f"sort{at}{' DESC' if sort.descending else ''}" for at, sort in enumerate(sorts))
        sql = (
            f"SELECT {self.needed(table, shape)}, {keys} FROM {quoted(table.name)} "
            f"WHERE ({where}) AND {after} ORDER BY {order} LIMIT {limit}"
        )
        return [dict(row) for row in self.organization.database.query(sql, [*bound, *after_values])]

    def needed(self, table: Table, shape: Shape) -> str:
        """List the SQL columns a reply is made from (all of them for a stale read)."""
        if self.staleness is not None:
            return "*"
        always = {"versionnumber", "transactioncurrencyid", table.primary_id} & set(table.columns)
        columns = [*shape.columns, *(expand.column for expand in shape.expands)]
        names = {*always, *(name for column in columns for name in column.stored)}
        return ", ".join(map(quoted, sorted(names)))

    def head(self, table: Table, shape: Shape, suffix: str) -> dict[str, Any]:
        """Begin a reply with its context URL."""
        label = f"({shape.label})" if shape.label else ""
        return {"@odata.context": f"{self.root}/$metadata#{table.entity_set}{label}{suffix}"}

    def link(self, table: Table, query: Query, option: str) -> str:
        """Build an absolute link: the options as they came, with another place to continue."""
        kept = query.raw_without("$skiptoken", "$deltatoken")
        return f"{self.root}/{table.entity_set}?{kept}{'&' if kept else ''}{option}"

    def _top(self, query: Query) -> int | None:
        text = query.get("$top")
        if text is None or self.preferences.page_size is not None:
            return None
        if not text.isdigit():
            raise faults.odata(f"Invalid value '{text}' for $top query option found.")
        return int(text)

    def _sorts(self, table: Table, orderby: str | None) -> list[Sort]:
        compiler = Compiler(self.organization, table, {})
        sorts = []
        for term in split_top_level(orderby or ""):
            name, _, direction = term.partition(" ")
            if direction.strip() not in {"", "asc", "desc"}:
                raise faults.odata(f"Syntax error in '$orderby={orderby}'.")
            operand = compiler.operand(name.split("/"))
            sorts.append(Sort(operand.comparable, name, descending=direction.strip() == "desc"))
        primary = f"{quoted(table.name)}.{quoted(table.primary_id)}"
        return [*sorts, Sort(primary, table.primary_id)]

    def _totals(self, table: Table, where: str, bound: Sequence[Stored]) -> dict[str, Any]:
        total = self.count(table, where, bound)
        totals: dict[str, Any] = {"@odata.count": min(total, MAX_PAGE)}
        if self.preferences.annotated(TOTAL):
            totals[f"@{TOTAL}"] = min(total, MAX_PAGE)
        if self.preferences.annotated(TOTAL_EXCEEDED):
            totals[f"@{TOTAL_EXCEEDED}"] = total > MAX_PAGE
        return totals

    def count(self, table: Table, where: str = "1", bound: Sequence[Stored] = ()) -> int:
        """Count rows under a compiled condition."""
        sql = f"SELECT COUNT(*) FROM {quoted(table.name)} WHERE {where}"
        return int(self.organization.database.query(sql, bound)[0][0])

    def filtered_count(self, table: Table, query: Query) -> int:
        """Count for ``/$count``, which stops at 5,000."""
        compiler = Compiler(self.organization, table, query.aliases)
        where = compiler.compile(query.get("$filter") or "") if query.get("$filter") else "1"
        return min(self.count(table, where, compiler.values), MAX_PAGE)


def _after(sorts: Sequence[Sort], last: Sequence[Stored] | None) -> tuple[str, list[Stored]]:
    """Build the condition "behind the last row of the page before", nulls first as the server sorts them."""
    if last is None:
        return "1", []
    branches, bound = [], list[Stored]()
    for at, sort in enumerate(sorts):
        equal = "".join(f"{earlier.sql} IS ? AND " for earlier in sorts[:at])
        value = last[at]
        if sort.descending:
            beyond = "0" if value is None else f"({sort.sql} < ? OR {sort.sql} IS NULL)"
        else:
            beyond = f"{sort.sql} IS NOT NULL" if value is None else f"{sort.sql} > ?"
        branches.append(f"({equal}{beyond})")
        bound += [*last[:at], *([] if value is None else [value])]
    return f"({' OR '.join(branches)})", bound
