"""What goes over the wire to Creatio and what comes back, as data: URLs, filters, JSON batches, rows. Nothing here does I/O.

Facts: reference page creatio.md; 2.2 types, 2.3 reads, 2.4 writes, 2.5 batches.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, TypeVar

from shared.core.errors import Rejected
from shared.core.records import EMPTY_GUID, ColumnType, Row, Stamp, Value, is_guid, normalise, path_of, read_time
from shared.systems.creatio_csdl import Model
from shared.systems.creatio_errors import SYSTEM, Answer
from shared.systems.creatio_values import denormalise
from shared.systems.odata import identifier, literal, to_json

MOST_PARTS = 100
"""Parts that a batch may have (creatio.md 2.5)."""
MOST_IDS = 15
"""Ids, or comparisons of any kind, that one filter may have: Microsoft's OData library refuses filters of more than 100 nodes, and a
comparison is 5 of them, 6 through a lookup, with the `or` before it. IIS cuts queries at 2,048 characters too (creatio.md 2.3)."""
MOST_FILTER = 1800
"""Characters that one filter may have, for the same reason."""
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What PostgreSQL holds in no text, and no URL can name: U+0000, and half a surrogate pair."""
_T = TypeVar("_T")


# --- URLs and filters -------------------------------------------------------------------------------------------------------


def collection_url(
    entity: str,
    *,
    select: Iterable[str] = (),
    where: str = "",
    order: str = "",
    expand: str = "",
    top: int | None = None,
    skip: int = 0,
    count: bool = False,
) -> str:
    """Return the URL of rows, relative to the service root; `where` is a filter that is encoded already. Paths are expanded."""
    options, wanted = [], list(select)
    expand = ",".join([*([expand] if expand else []), *_expansions(filter(path_of, wanted))])
    if names := ",".join(identifier(name) for name in wanted if path_of(name) is None):
        options.append(f"$select={names}")
    if where:
        options.append(f"$filter={where.replace(' ', '%20')}")
    if expand:
        options.append(f"$expand={expand}")
    if order:
        options.append(f"$orderby={order}")
    if top is not None:
        options.append(f"$top={top}")
    if skip:
        options.append(f"$skip={skip}")
    if count:
        options.append("$count=true")
    return identifier(entity) + ("?" + "&".join(options) if options else "")


def _expansions(paths: Iterable[str]) -> list[str]:
    """Return the expansions that bring the columns of paths, one for each navigation (creatio.md 2.3)."""
    behind: dict[str, list[str]] = {}
    for navigation, column in filter(None, map(path_of, paths)):
        behind.setdefault(identifier(navigation), []).append(identifier(column))
    return [f"{navigation}($select={','.join(columns)})" for navigation, columns in behind.items()]


def with_lookups(columns: Iterable[str], model: Model) -> list[str]:
    """Return the columns with the lookups that their paths begin at: only an empty lookup makes a path empty."""
    return list(dict.fromkeys(one for name in columns for one in (name, *filter(None, [model.begins.get(name)]))))


def record_url(entity: str, record_id: str) -> str:
    """Return the URL of one record; the key is a bare guid (creatio.md 2.3)."""
    if not is_guid(record_id):
        raise ValueError("got an id that is no guid, allowed a guid")
    return f"{identifier(entity)}({record_id.lower()})"


def ids_filter(ids: Iterable[str]) -> str:
    """Return `Id eq a or Id eq b`: Creatio is not known to understand `in` (creatio.md 2.3)."""
    checked = list(ids)
    if not checked or not all(is_guid(one) for one in checked):
        raise ValueError("got an id that is no guid, allowed guids")
    return " or ".join(f"Id eq {one.lower()}" for one in checked)


def key_filter(key: Mapping[str, Value], model: Model) -> str:
    """Return the filter of one key; a lookup is compared as `X/Id`, for its flat column answers 500 (creatio.md 2.3).

    Raises Rejected `unknown_column`, Rejected `bad_request` for a text that the database can't hold, or ValueError for a value that
    no filter can name.
    """
    terms = []
    for name, value in key.items():
        column = model.columns.get(name)
        if column is None:
            raise unknown_column(model.name, name)
        if isinstance(value, tuple) or value is None:
            raise ValueError(f"column {name}: got an empty or joined value, allowed one value")
        if isinstance(value, str) and UNSTORABLE.search(value):  # PostgreSQL answers 500, which would be asked again for ever
            said = "a text with U+0000 or half a surrogate pair can't be looked for"
            raise Rejected("creatio.bad_request", said, system=SYSTEM, entity=model.name, field=name)
        denormalise(value, column)  # refuses what does not fit: a quoted guid or date would be answered with 400
        path = f"{_names(model.navigations[name])}/Id" if name in model.navigations else _names(name)
        moment = datetime.combine(value, time(), UTC) if column.type is ColumnType.DATETIME and type(value) is date else value
        terms.append(f"{path} eq {literal(moment, as_text=column.type is ColumnType.TEXT)}")
    return " and ".join(terms)


def checked_filter(key: Mapping[str, Value], model: Model) -> str:
    """Return the filter of one key; a value that no filter can name is Rejected `bad_request`."""
    try:
        return key_filter(key, model)
    except (ValueError, OverflowError) as problem:
        raise Rejected("creatio.bad_request", str(problem), system=SYSTEM, entity=model.name) from None


def _names(path: str) -> str:
    return "/".join(identifier(name) for name in path.split("/"))


def since_filter(start: datetime | None) -> str:
    """Return the filter of a change feed: `ge`, never `gt`, for many rows share one time (creatio.md 4)."""
    return "" if start is None else f"ModifiedOn ge {literal(start)}"


def grouped_filters(filters: Sequence[str], comparisons: Sequence[int]) -> list[list[int]]:
    """Return which filters go into one request joined by `or`: as many as fit, by their places.

    `comparisons` says how many comparisons each filter has: together at most 15, in at most 1,800 characters.
    """
    groups: list[list[int]] = []
    length = compared = 0
    for place, (one, number) in enumerate(zip(filters, comparisons, strict=True)):
        size = len(one.replace(" ", "%20")) + len("()%20or%20")
        if not groups or compared + number > MOST_IDS or length + size > MOST_FILTER:
            groups.append([])
            length = compared = 0
        groups[-1].append(place)
        length += size
        compared += number
    return groups


def unknown_column(entity: str, name: str) -> Rejected:
    """Return the error for a column that the object does not have."""
    return Rejected("creatio.unknown_column", "", system=SYSTEM, entity=entity, field=name)


# --- batches ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One request of a JSON batch; `url` is relative to the service root."""

    method: str
    url: str
    body: Mapping[str, Any] | None = None


def build_batch(parts: Sequence[Part]) -> bytes:
    """Return the body of a JSON batch; ids are the places from 1, unique (creatio.md 2.5)."""
    if not 0 < len(parts) <= MOST_PARTS:
        raise ValueError(f"got {len(parts)} parts, allowed 1 to {MOST_PARTS}")
    requests = []
    for place, part in enumerate(parts, start=1):
        headers = {"Accept": "application/json"} if part.body is None else {"Content-Type": "application/json"}
        request: dict[str, Any] = {"id": str(place), "method": part.method, "url": part.url, "headers": headers}
        if part.body is not None:
            request["body"] = part.body
        requests.append(request)
    return to_json({"requests": requests}).encode()


def parse_batch(body: Any, parts: int, request_id: str = "") -> list[Answer | None]:
    """Return the answers of a batch in the order of its parts; None for a part that is not answered: it was not executed.

    Raises ValueError when the body is no batch answer. Answers are found by id: their order and group names are the server's.
    """
    responses = body.get("responses") if isinstance(body, Mapping) else None
    if not isinstance(responses, list):
        raise ValueError("the answer to a batch has no list `responses`")
    answers: list[Answer | None] = [None] * parts
    for response in responses:
        place, status = (response.get("id"), response.get("status")) if isinstance(response, Mapping) else (None, None)
        index = int(place) - 1 if isinstance(place, (str, int)) and str(place).isdecimal() else -1
        if not 0 <= index < parts or not isinstance(status, int) or isinstance(status, bool) or answers[index] is not None:
            raise ValueError("the answer to a batch has a part without a proper id or status")
        answers[index] = _part_answer(response, status, request_id)
    return answers


def _part_answer(response: Mapping[str, Any], status: int, request_id: str) -> Answer:
    body = response.get("body")
    headers = response.get("headers")
    named = {str(name).lower(): str(value) for name, value in headers.items()} if isinstance(headers, Mapping) else {}
    wait = named.get("retry-after", "")
    retry_after = float(wait) if wait.isascii() and wait.isdigit() else None
    if isinstance(body, str):
        return Answer(status, None, body, body.lstrip()[:1] == "<", request_id, retry_after)
    return Answer(status, body, "", html=False, request_id=request_id, retry_after=retry_after)


# --- rows -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """One page of rows: raw objects, the total that the filter meets (when asked and told), the link to the next page."""

    rows: Sequence[Mapping[str, Any]]
    count: int | None = None
    link: str = ""

    @property
    def cut_short(self) -> bool:
        """Tell whether the server kept rows back (its row cap: creatio.md 2.3)."""
        return bool(self.link) or (self.count is not None and self.count > len(self.rows))


def read_rows(body: Any) -> Rows:
    """Read a collection; raises ValueError when it is none."""
    rows = body.get("value") if isinstance(body, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("the answer has no list `value` of rows")
    count, link = body.get("@odata.count"), body.get("@odata.nextLink")
    known = isinstance(count, int) and not isinstance(count, bool)
    return Rows(rows, count if known else None, link if isinstance(link, str) else "")


def read_id(raw: Mapping[str, Any]) -> str | None:
    """Return a row's id in lower case, None when it has none."""
    value = raw.get("Id")
    return value.lower() if isinstance(value, str) and is_guid(value) else None


def read_stamp(raw: Mapping[str, Any]) -> datetime | None:
    """Return a row's ModifiedOn cut to microseconds, None when it is absent, empty (year 1) or unreadable."""
    try:
        moment = read_time(raw.get("ModifiedOn"))
    except ValueError:
        return None
    return moment if moment.year > 1 else None


def read_row(raw: Mapping[str, Any], columns: Collection[str], model: Model, us: str) -> Row:
    """Read one row into normal values; raises Rejected `bad_row` naming the column that is absent or of a wrong type."""
    record_id, stamp = read_id(raw), read_stamp(raw)
    if record_id is None or stamp is None:
        raise bad_row(model.name, record_id or "", "ModifiedOn" if record_id else "Id", "it is absent or no proper value")
    values: dict[str, Value] = {}
    for name in columns:
        column = model.columns.get(name)
        if column is None:
            raise unknown_column(model.name, name)
        try:
            values[name] = normalise(raw[name] if name in raw else _behind(raw, name, model), column, side_without_null=True)
        except LookupError as problem:
            raise bad_row(model.name, record_id, name, str(problem.args[0])) from None
        except (ValueError, OverflowError) as problem:
            raise bad_row(model.name, record_id, name, str(problem)) from None
    changed_by = raw.get("ModifiedById")
    return Row(record_id, Stamp(stamp), values, changed_by_us=bool(us) and isinstance(changed_by, str) and changed_by.lower() == us)


def _behind(raw: Mapping[str, Any], name: str, model: Model) -> Any:
    """Return what a row shows at the end of a path; raises LookupError where it shows nothing, or for a column that is absent."""
    navigation, column = path_of(name) or ("", "")
    lookup = raw.get(model.begins.get(name, ""))
    if navigation not in raw or lookup is None:
        raise LookupError("it is absent")
    there = raw[navigation]
    if there is None and lookup == EMPTY_GUID:
        return None
    if not isinstance(there, Mapping) or column not in there:  # record rights hide rows silently (creatio.md 6)
        raise LookupError("the record that it stands in is not shown")
    return there[column]


def bad_row(entity: str, record_id: str, field: str, said: str) -> Rejected:
    """Return the error for a row that can't be understood."""
    return Rejected("creatio.bad_row", said, system=SYSTEM, entity=entity, record_id=record_id, field=field)


def chunks(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    """Cut a sequence into pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def folded(value: Value) -> Value:
    """Return a value as a database may compare it: texts without case, trailing blanks and Unicode forms kept apart by none."""
    if not isinstance(value, str):
        return value
    return " ".join(value.casefold().split())


def users_expand() -> str:
    """Return the expansion that brings a user's contact with its e-mail (creatio.md 2.3, 5)."""
    return "Contact($select=Id,Email)"


def text_filter(column: str, text: str) -> str:
    """Return `column eq 'text'` for a text column."""
    return f"{identifier(column)} eq {literal(text, as_text=True)}"


def link_url(link: str, root: str) -> str:
    """Return a next link as the transport takes it: absolute as it stands, else below the service root."""
    if "://" in link:
        return link
    below = link.lstrip("/")
    return below[below.index(root) :] if link.startswith("/") and f"{root}/" in below else f"{root}/{below}"
