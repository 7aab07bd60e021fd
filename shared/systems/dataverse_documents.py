"""Documents of Dataverse: a header with its lines in one change set, and states that only an action may set (dataverse.md 5, 9).

The order inside a change set is that of the server's rules: header, lines (it computes the totals from them), state last; a document
that is reopened first is written after that. One part that fails takes the whole set back, so there is no half document.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shared.core.errors import TandemError
from shared.core.records import LINE_VERSION, LinesOf, Row, Value, Write, WriteKind
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_identity import Whoami
from shared.systems.dataverse_reads import Reads
from shared.systems.dataverse_resolutions import activity_of
from shared.systems.dataverse_service import for_record
from shared.systems.dataverse_tables import Table
from shared.systems.odata import Part, to_json

_PARENTS_A_QUERY: Final = 100
_LINES_A_PAGE: Final = 5_000
_HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/json", "OData-Version": "4.0"}


@dataclass(frozen=True)
class Closing:
    """An action that closes a document: its name, the member that holds the activity, and the activity's lookup to the document.

    Without an activity it is an action of the row itself, and `body` is what it says beside the status.
    """

    action: str
    activity: str = ""
    lookup: str = ""
    body: Mapping[str, bool] = field(default_factory=dict)


_WIN, _LOSE = (Closing(f"{verb}Opportunity", "OpportunityClose", "opportunityid") for verb in ("Win", "Lose"))
_WIN_QUOTE, _CLOSE_QUOTE = (Closing(f"{verb}Quote", "QuoteClose", "quoteid") for verb in ("Win", "Close"))
_CANCEL, _FULFIL = (Closing(f"{verb}SalesOrder", "OrderClose", "salesorderid") for verb in ("Cancel", "Fulfill"))
_QUOTE, _ACTIVE, _IN_PROGRESS = "quote", 1, 2
"""A quote is closed from its active state only: a draft is activated first (dataverse.md 5)."""
_RESOLVE = Closing("CloseIncident", "IncidentResolution", "incidentid")
_QUALIFY = Closing("QualifyLead", body=dict.fromkeys(("CreateAccount", "CreateContact", "CreateOpportunity"), False))
"""Makes nothing: account, contact and opportunity come by their own flows, and would be there twice."""
_CLOSINGS: Final[Mapping[str, Mapping[int, Closing]]] = {
    "opportunity": {3: _WIN, 4: _LOSE, 5: _LOSE},
    "quote": {4: _WIN_QUOTE, 5: _CLOSE_QUOTE, 6: _CLOSE_QUOTE, 7: _CLOSE_QUOTE},
    "salesorder": {4: _CANCEL, 100001: _FULFIL, 100002: _FULFIL},
    "incident": {5: _RESOLVE, 1000: _RESOLVE},
    "lead": {3: _QUALIFY},
}
"""By table and status reason (dataverse.md 5)."""
_STATES: Final[Mapping[str, Mapping[int, int]]] = {
    "opportunity": {1: 0, 2: 0, 3: 1, 4: 2, 5: 2},
    "quote": {1: 0, 2: 1, 3: 1, 4: 2, 5: 3, 6: 3, 7: 3},
    "salesorder": {1: 0, 2: 0, 3: 1, 4: 2, 100001: 3, 100002: 3, 100003: 4},
    "invoice": {1: 0, 2: 0, 4: 0, 5: 0, 6: 0, 3: 1, 7: 1, 100001: 2, 100002: 2, 100003: 3},
    "incident": {1: 0, 2: 0, 3: 0, 4: 0, 5: 1, 1000: 1, 6: 2, 2000: 2},
    "lead": {1: 0, 2: 0, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2},
}
"""The state of each status reason that a fresh organisation has (dataverse.md 9). Others are set without naming a state."""


def closes(table: Table) -> bool:
    """Tell whether states of a table are set by this module."""
    return table.definition.name in _STATES


def is_closed_by_action(write: Write, table: Table) -> bool:
    """Tell whether a write closes a document by an action."""
    return write.values.get(wire.STATUS) in _CLOSINGS.get(table.definition.name, {})


def is_born_otherwise(write: Write, table: Table) -> bool:
    """Tell whether a new row has a state that only a second operation can give it."""
    states, status = _STATES.get(table.definition.name, {}), write.values.get(wire.STATUS)
    return isinstance(status, int) and states.get(status, 0) != 0


@dataclass(frozen=True)
class LineTable:
    """The table of a document's lines, the lookup to the document, and where the lines' lookups lead."""

    table: Table
    parent: str
    targets: wire.Targets


def document_parts(
    write: Write, table: Table, targets: wire.Targets, path: str, lines: LineTable | None, text: str | None = None
) -> tuple[Part, ...]:
    """Return the operations of one document, in the server's order; raises Rejected as `write_parts` does.

    `text` is what the resolution of a case says.
    """
    status = write.values.get(wire.STATUS) if closes(table) else None
    values = {name: value for name, value in write.values.items() if not (closes(table) and name in (wire.STATE, wire.STATUS))}
    header = list(wire.write_parts(replace(write, values=values), table, targets, path))
    details = list(_line_parts(write, table, path, lines)) if lines is not None else []
    reopens = write.kind is WriteKind.UPDATE and isinstance(status, int) and _STATES.get(table.definition.name, {}).get(status) == 0
    unguarded = reopens or not (header or details)
    state = list(_state_parts(write, table, path, status, begins=unguarded, text=text)) if isinstance(status, int) else []
    return tuple([*state, *_after_state(header), *details] if state and reopens else [*header, *details, *state])


def _after_state(header: Sequence[Part]) -> list[Part]:
    """Return the header's parts for a set that begins with the state: the version that the plan saw is not the row's any more."""
    return [replace(part, headers={**part.headers, "If-Match": "*"}) if "If-Match" in part.headers else part for part in header]


def _state_parts(write: Write, table: Table, path: str, status: int, *, begins: bool, text: str | None) -> Iterator[Part]:
    """Yield what sets a state; where it begins the set it carries the version that the plan saw, else what is before it (law 8)."""
    name = table.definition.name
    state = _STATES[name].get(status)
    if write.kind is WriteKind.CREATE and status == _first_status(name):
        return
    closing = _CLOSINGS.get(name, {}).get(status)
    row = f"{table.definition.set_name}({write.id})"
    match = write.seen.stamp.version if write.seen is not None and begins else "*"
    headers = {**_HEADERS, "If-Match": match or "*"}
    if closing is None:
        body: dict[str, Any] = {wire.STATUS: status} if state is None else {wire.STATE: state, wire.STATUS: status}
        yield Part("PATCH", f"{path}/{row}", headers, to_json(body))
        return
    if not closing.activity:
        yield Part("POST", f"{path}/{row}/Microsoft.Dynamics.CRM.{closing.action}", _HEADERS, to_json({**closing.body, "Status": status}))
        return
    seen = write.seen.values.get(wire.STATUS) if write.seen is not None else None
    if name == _QUOTE and (not isinstance(seen, int) or _STATES[name].get(seen) == 0):
        yield Part("PATCH", f"{path}/{row}", headers, to_json({wire.STATE: _ACTIVE, wire.STATUS: _IN_PROGRESS}))
    said = activity_of(text) if closing is _RESOLVE else {"subject": closing.action}
    activity = {**said, f"{closing.lookup}@odata.bind": f"/{row}"}
    yield Part("POST", f"{path}/{closing.action}", _HEADERS, to_json({closing.activity: activity, "Status": status}))


def _first_status(name: str) -> int:
    """Return the status reason that a new row has by itself: the first of the open state."""
    return next(status for status, state in _STATES[name].items() if state == 0)


def _line_parts(write: Write, table: Table, path: str, lines: LineTable) -> Iterator[Part]:
    """Yield the operations of a document's lines; one of which a create-only column is to change is made anew under its id."""
    there: Mapping[str, Mapping[str, Value]] = write.seen.lines if write.seen is not None else {}
    navigation = lines.table.attributes[lines.parent].navigation_to(table.definition.name)
    for key, values in sorted(write.lines.items()):
        line = f"{path}/{lines.table.definition.set_name}({key})"
        version = str(there.get(key, {}).get(LINE_VERSION) or "*")
        changed = {name: value for name, value in (values or {}).items() if key in there and value != there[key].get(name)}
        fixed = {name for name in changed if not lines.table.attributes[name].column.updatable}
        made_anew = any(changed[name] is not None for name in fixed)
        if values is None or made_anew:
            yield Part("DELETE", line, {"Accept": "application/json", "If-Match": version})
        if values is not None and key in there and not made_anew:
            update = {name: value for name, value in changed.items() if name not in fixed}  # equal ones fire plug-ins (dataverse.md 5)
            if update:
                body = wire.body_of(Write(WriteKind.UPDATE, key, update), lines.table, lines.targets)
                yield Part("PATCH", line, {**_HEADERS, "If-Match": version}, to_json(body))
        elif values is not None:
            filled = {name: value for name, value in values.items() if value is not None}
            body = wire.body_of(Write(WriteKind.CREATE, key, filled), lines.table, lines.targets)
            parent = {f"{navigation}@odata.bind": f"/{table.definition.set_name}({write.id})"}
            body = {lines.table.definition.id_column: key, **parent, **body}
            yield Part("POST", f"{path}/{lines.table.definition.set_name}", _HEADERS, to_json(body))


class Documents:
    """Reads the lines of documents."""

    def __init__(self, reads: Reads, whoami: Whoami) -> None:
        self._reads = reads
        self._whoami = whoami

    async def with_lines(self, rows: Mapping[str, Row | TandemError], lines: LinesOf) -> dict[str, Row | TandemError]:
        """Return rows with their lines, some dozens of documents a query; a line that can't be read is its document's error."""
        found: dict[str, dict[str, Mapping[str, Value]]] = {key: {} for key, row in rows.items() if isinstance(row, Row)}
        errors: dict[str, TandemError] = {}
        parents = list(found)
        for start in range(0, len(parents), _PARENTS_A_QUERY):
            await self._read(parents[start : start + _PARENTS_A_QUERY], lines, found, errors)
        placed = {key: replace(row, lines=found[key]) if isinstance(row, Row) else row for key, row in rows.items()}
        return {**placed, **errors}

    async def all_lines(self, lines: LinesOf) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Yield all lines there are: the document's id and the line's; a line of no document is left out."""
        table, names = await self._reads.known(lines.entity, (lines.parent,))
        key, parent = table.definition.id_column, table.attributes[lines.parent].read_name
        url = f"{table.definition.set_name}?{wire.select(table, names)}"
        page: list[tuple[str, str]] = []
        async for raw in self._reads.rows(lines.entity, url, wire.preferences(table, names, f"odata.maxpagesize={_LINES_A_PAGE}")):
            line, document = raw.get(key), raw.get(parent)
            if isinstance(line, str) and isinstance(document, str):
                page.append((document.lower(), line.lower()))
            if len(page) >= _LINES_A_PAGE:
                yield page
                page = []
        yield page

    async def _read(
        self,
        parents: Collection[str],
        lines: LinesOf,
        found: dict[str, dict[str, Mapping[str, Value]]],
        errors: dict[str, TandemError],
    ) -> None:
        us = (await self._whoami.identity()).user_id
        table, names = await self._reads.known(lines.entity, (*lines.columns, lines.parent))
        url = wire.by_values(table, names, lines.parent, parents)
        async for raw in self._reads.rows(lines.entity, url, wire.preferences(table, names, "odata.maxpagesize=5000")):
            parent = str(raw.get(table.attributes[lines.parent].read_name) or "").lower()
            try:
                row = wire.row_of(raw, table, names, us)
            except TandemError as error:
                errors[parent] = for_record(error, lines.entity, parent)
                continue
            if parent in found:
                values = {name: value for name, value in row.values.items() if name != lines.parent}
                found[parent][row.id] = {**values, LINE_VERSION: row.stamp.version}
