"""Read OData query options, also those nested inside `$expand`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from sandbox.creatio.errors import bad_query, flat_lookup, no_property
from sandbox.creatio.schema import Entity, Schema

_INT32 = 2**31 - 1
_OPTIONS = {"$select", "$filter", "$orderby", "$top", "$skip", "$count", "$expand", "$skiptoken", "$format"}


@dataclass(frozen=True)
class Expand:
    """One navigation to follow, with the options for its rows."""

    navigation: str
    query: "Query"


@dataclass(frozen=True)
class Query:
    """The options of one collection; `select` None means all columns, `top` None no limit."""

    select: tuple[str, ...] | None = None
    filter: str | None = None
    order: tuple[tuple[tuple[str, ...], bool], ...] = ()
    top: int | None = None
    skip: int = 0
    count: bool = False
    expand: tuple[Expand, ...] = ()
    others: tuple[tuple[str, str], ...] = field(default=())


def parse_query(text: str) -> Query:
    """Read a URL's query string; CreatioError 400 names an option that is unknown or has a wrong value."""
    pairs = parse_qsl(text, keep_blank_values=True)
    seen = [key for key, _ in pairs if key.startswith("$")]
    if len(seen) != len(set(seen)):
        raise bad_query("Query option is specified more than once.")
    return _query([pair for pair in pairs if pair[0].startswith("$")], tuple(pairs))


def _query(pairs: Iterable[tuple[str, str]], others: tuple[tuple[str, str], ...] = ()) -> Query:
    options = dict(pairs)
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise bad_query(f"The query parameter '{unknown[0]}' is not supported.")
    skip = _number("$skip", options.get("$skip")) or 0
    token = _number("$skiptoken", options.get("$skiptoken")) or 0
    count = options.get("$count", "false")
    if count not in {"true", "false"}:
        raise bad_query(f"Invalid value '{count}' for $count query option found. Valid values are 'true' and 'false'.")
    select = options.get("$select")
    return Query(
        select=None if select in {None, "", "*"} else tuple(name.strip() for name in str(select).split(",")),
        filter=options.get("$filter"),
        order=tuple(_order(part) for part in _split(options.get("$orderby", ""), ",")),
        top=_number("$top", options.get("$top")),
        skip=skip + token,
        count=count == "true",
        expand=tuple(_expand(part) for part in _split(options.get("$expand", ""), ",")),
        others=others,
    )


def check_query(query: Query, entity: Entity, schema: Schema, depth: int, deepest: int | None = None) -> None:
    """Refuse unknown names in $select and $expand, and expansions deeper than allowed (400)."""
    limit = depth if deepest is None else deepest
    for name in query.select or ():
        if name not in entity.columns:
            raise no_property(name, entity.name)
    for expand in query.expand:
        if depth == 0:
            raise bad_query(
                "The request includes a $expand path which is too deep. The maximum depth allowed is "
                f"{limit}. To increase the limit, set the 'MaxExpansionDepth' property.",
            )
        check_query(expand.query, target_of(expand.navigation, entity, schema)[0], schema, depth - 1, limit)


def target_of(navigation: str, entity: Entity, schema: Schema) -> tuple[Entity, str, bool]:
    """Return where a navigation leads: the object, the column that joins, and whether many rows lie there."""
    if navigation in entity.collections:
        child, column = entity.collections[navigation]
        return schema.entities[child], column, True
    lookup = entity.navigations.get(navigation)
    if lookup is None or lookup.target is None:
        raise no_property(navigation, entity.name)
    return schema.entities[lookup.target], lookup.name, False


def check_order(entity: Entity, parts: tuple[str, ...]) -> None:
    """Refuse to sort by a lookup's flat column, as a filter does."""
    column = entity.columns.get(parts[0])
    if len(parts) == 1 and column is not None and column.navigation is not None:
        raise flat_lookup(parts[0], entity.name)


def _order(part: str) -> tuple[tuple[str, ...], bool]:
    words = part.split()
    if len(words) not in {1, 2} or (len(words) == 2 and words[1] not in {"asc", "desc"}):
        raise bad_query(f"Syntax error in $orderby: '{part}'.")
    return tuple(words[0].split("/")), len(words) == 2 and words[1] == "desc"


def _expand(part: str) -> Expand:
    name, opened, rest = part.partition("(")
    if not opened:
        first, slash, deeper = part.strip().partition("/")
        return Expand(first, Query(expand=(_expand(deeper),)) if slash else Query())
    if not rest.endswith(")"):
        raise bad_query(f"Found an unbalanced bracket expression in $expand: '{part}'.")
    pairs = []
    for option in _split(rest[:-1], ";"):
        key, equals, value = option.partition("=")
        if not equals:
            raise bad_query(f"Syntax error in $expand: '{option}'.")
        pairs.append((key.strip(), value))
    return Expand(name.strip(), _query(pairs))


def _split(text: str, sign: str) -> Iterator[str]:
    """Split at a sign outside of brackets and quoted texts."""
    depth, quoted, start = 0, False, 0
    for at, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif char in "()":
            depth += 1 if char == "(" else -1
        elif char == sign and depth == 0:
            yield text[start:at].strip()
            start = at + 1
    if text[start:].strip():
        yield text[start:].strip()


def _number(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text[:20]) > _INT32:
        raise bad_query(f"Invalid value '{text}' for {option} query option found. It must be a non-negative integer.")
    return int(text)
