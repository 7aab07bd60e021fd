"""Reading mapping files: text in, a checked `MappingSet` out; reading the files themselves is the caller's work.

Every problem of every file is reported in one ConfigError, in words an analyst understands: "got X, allowed A, B, C".
"""

import json
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingOf
from typing import Any

from pydantic import ValidationError

from shared.core.errors import ConfigError
from shared.core.mapping import (
    RULES,
    AnyRow,
    ChoiceRow,
    ConstantRow,
    JoinRow,
    Lines,
    Mapping,
    MappingSet,
    Pair,
    PlainTextRow,
    ReferenceRow,
    SourceIdRow,
    SplitNameRow,
    ValueLists,
    rule_of,
)
from shared.core.records import Side


def load(mappings: MappingOf[str, str], values: MappingOf[str, str], enabled: Sequence[str] = ()) -> MappingSet:
    """Read mapping files and value lists (file name to text); raises ConfigError with every problem of all of them.

    `enabled` names the flows that run, all when it is empty. Rows that refer to a flow that does not run are left out, so that objects
    can go live one after the other; when it is enabled later, the flow's hash changes and an `align` run sets the links.
    """
    problems: list[str] = []
    lists = {name: _value_list(name, text, problems) for name, text in values.items()}
    flows: dict[str, Mapping] = {}
    for name, text in mappings.items():
        mapping = _parse(name, text, problems)
        if mapping is None:
            continue
        if mapping.flow in flows:
            problems.append(f"{name}: the flow {mapping.flow} stands in another file too")
        flows[mapping.flow] = mapping
    for mapping in flows.values():
        problems.extend(f"{mapping.flow}: {problem}" for problem in _problems(mapping, flows, lists))
    problems.extend(_shared_columns(flows.values()))
    problems.extend(_wait_cycles(flows))
    running = {name: flow for name, flow in flows.items() if not enabled or name in enabled}
    problems.extend(_waits_for_nobody(running))
    if problems:
        raise ConfigError(problems)
    return MappingSet(flows={name: _without_strangers(flow, running) for name, flow in running.items()}, values=lists)


def _waits_for_nobody(running: MappingOf[str, Mapping]) -> Iterable[str]:
    for name, mapping in running.items():
        yield from (
            f"{name}: {row.key} waits for records of {row.flow}, which is not enabled: enable it too, or let the row `skip`"
            for row in (*mapping.fields, *(mapping.lines.fields if mapping.lines else ()))
            if isinstance(row, ReferenceRow) and row.flow is not None and row.flow not in running and row.if_missing == "wait"
        )


def _without_strangers(mapping: Mapping, running: MappingOf[str, Mapping]) -> Mapping:
    """Return a mapping without the rows that refer to flows which do not run."""
    rows = tuple(row for row in mapping.fields if not (isinstance(row, ReferenceRow) and row.flow and row.flow not in running))
    return mapping if rows == mapping.fields else mapping.model_copy(update={"fields": rows})


def _parse(name: str, text: str, problems: list[str]) -> Mapping | None:
    try:
        return Mapping.model_validate_json(text)
    except ValidationError as error:
        problems.extend(f"{name}: {_sentence(problem, text)}" for problem in error.errors())
        return None


def _value_list(name: str, text: str, problems: list[str]) -> tuple[Pair, ...]:
    try:
        body = json.loads(text)
        pairs = tuple(Pair.model_validate(pair) for pair in body["values"])
    except ValidationError as error:
        problems.extend(f"values/{name}: {_sentence(problem, text)}" for problem in error.errors())
        return ()
    except (ValueError, KeyError, TypeError):
        problems.append(f'values/{name}: got something else, allowed {{"values": [{{"creatio": ..., "dynamics": ...}}, ...]}}')
        return ()
    for side in ("creatio", "dynamics"):
        seen = [str(getattr(pair, side)) for pair in pairs]
        problems.extend(
            f"values/{name}: {value!r} stands twice on the {side} side; a two-way list needs each value once"
            for value in sorted({v for v in seen if seen.count(v) > 1})
        )
    return pairs


def _sentence(problem: Any, text: str) -> str:
    """Turn one of pydantic's problems into "got X, allowed A, B, C" with the row's number."""
    place, got = _place(problem["loc"]), problem.get("input")
    if problem["type"] == "union_tag_invalid":
        return f"{place}: rule: got {rule_of(got)!r}, allowed {', '.join(RULES)}"
    if problem["type"] == "extra_forbidden":
        return f"{place}: got an unknown key; look for a typing mistake (allowed keys are in mapping.schema.json)"
    if problem["type"] == "literal_error":
        return f"{place}: got {got!r}, allowed {problem['ctx']['expected']}"
    if problem["type"] == "json_invalid":
        return f"this is no JSON: {problem['ctx']['error']} ({len(text)} characters)"
    if problem["type"] == "missing":
        return f"{place}: this key is missing"
    return f"{place}: {problem['msg']}"


def _place(location: Iterable[Any]) -> str:
    parts = [part for part in location if part not in RULES]
    if len(parts) > 1 and parts[0] == "fields":
        return " ".join(["fields: row", str(int(parts[1]) + 1), *(str(part) for part in parts[2:])])
    return ".".join(str(part) for part in parts) or "the file"


def _problems(mapping: Mapping, flows: MappingOf[str, Mapping], lists: ValueLists) -> Iterable[str]:
    for number, row in enumerate(mapping.fields, 1):
        for problem in _row_problems(row, mapping, flows, lists):
            yield f"row {number} ({row.key}): {problem}"
    single = [row.creatio for row in mapping.fields if isinstance(row.creatio, str)]
    for key in mapping.match:
        yield from (f"match: got {column!r}, allowed the single Creatio columns of the rows" for column in key if column not in single)
        if not key:
            yield "match: a key needs at least one column"
    for side in Side:
        written = [column for row in mapping.fields if row.writes(side) for column in row.columns(side)]
        yield from (f"two rows write {side.value} {column!r}; one column, one row" for column in sorted(_doubles(written)))
    yield from _inactive_problems(mapping)
    if mapping.lines is not None:
        yield from _lines_problems(mapping, mapping.lines, flows, lists)
    yield from (
        f"when: {condition.column}: give either any_of or none_of, with at least one value"
        for condition in mapping.when
        if bool(condition.any_of) == bool(condition.none_of)
    )
    keys = [row.key for row in mapping.fields]
    yield from (f"two rows are the same: {key}" for key in sorted(_doubles(keys)))


def _lines_problems(mapping: Mapping, lines: Lines, flows: MappingOf[str, Mapping], lists: ValueLists) -> Iterable[str]:
    """Yield what is wrong with the rows of a document's lines: they go one way, and each has one column a side."""
    if mapping.create not in ("to_dynamics", "none"):
        yield f"lines: got create {mapping.create!r}, allowed to_dynamics, none: lines go from Creatio to Dynamics only"
    for number, row in enumerate(lines.fields, 1):
        place = f"lines: row {number} ({row.key})"
        yield from (f"{place}: {problem}" for problem in _row_problems(row, mapping, flows, lists))
        if row.way != ">":
            yield f"{place}: way: got {row.way!r}, allowed '>'"
        if any(row.is_joined(side) for side in Side) or isinstance(row, (JoinRow, SplitNameRow, SourceIdRow)):
            yield f"{place}: rule {row.rule!r}: got a rule of several columns or ids, allowed rules of one column a side"
    written = [column for row in lines.fields for column in row.columns(Side.DYNAMICS)]
    yield from (f"lines: two rows write dynamics {column!r}; one column, one row" for column in sorted(_doubles(written)))


def _inactive_problems(mapping: Mapping) -> Iterable[str]:
    given = {side: mapping.inactive_on(side) for side in Side}
    if (mapping.on_delete == "deactivate") != any(given.values()):
        yield "inactive: name a column and its value on at least one side for `on_delete: deactivate`, and nothing for another policy"
    for side, columns in given.items():
        allowed = [column for row in mapping.fields for column in row.columns(side)]
        yield from (
            f"inactive: {side.value}: got {column!r}, allowed a column of the rows, so that it is read"
            for column in columns
            if column not in allowed
        )


def _wait_cycles(flows: MappingOf[str, Mapping]) -> Iterable[str]:
    """Yield the circles of flows whose records wait for each other: none of them would ever begin (law 9)."""
    waits = {
        name: {
            row.flow
            for row in (*mapping.fields, *(mapping.lines.fields if mapping.lines else ()))
            if isinstance(row, ReferenceRow) and row.if_missing == "wait" and row.flow in flows
        }
        for name, mapping in flows.items()
    }
    told: set[frozenset[str]] = set()
    for start in sorted(flows):
        paths = [[start]]
        while paths:
            path = paths.pop()
            for following in sorted(str(flow) for flow in waits[path[-1]]):
                if following == start and len(path) > 1 and frozenset(path) not in told:
                    told.add(frozenset(path))
                    yield f"{' waits for '.join([*path, start])}: nothing would ever begin; let one of these rows `skip`"
                elif following not in path:
                    paths.append([*path, following])


def _row_problems(row: AnyRow, mapping: Mapping, flows: MappingOf[str, Mapping], lists: ValueLists) -> Iterable[str]:
    one_sided = isinstance(row, ConstantRow)
    for side in Side:
        if not row.columns(side) and not (one_sided and side is row.source):
            yield f"{side.value}: this column is missing"
    if row.way == "=" and (reason := _irreversible(row)):
        yield f"way: got '=', allowed '>' or '<': {reason}"
    if row.conditions and row.way != ">":
        yield f"needs, unless, only_while: got way {row.way!r}, allowed '>': they are conditions on the Creatio record"
    if row.instead and (row.way == ">" or row.is_joined(Side.DYNAMICS)):
        yield "instead: allowed with '=' and '<' and one Dynamics column: it says what is read there"
    if isinstance(row, ChoiceRow) and row.default is not None and row.way == "=":
        yield "default: for one-way rows only: nobody could tell which value it came from"
    if row.drift == "keep" and row.way == "=":
        yield "drift: `keep` is for one-way rows only"
    yield from _list_problems(row)
    if isinstance(row, ChoiceRow) and row.values != "labels" and row.values not in lists:
        yield f"values: got {row.values!r}, allowed labels, {', '.join(sorted(lists)) or 'a file in mappings/values'}"
    if isinstance(row, ReferenceRow):
        yield from _reference_problems(row, mapping, flows)


def _list_problems(row: AnyRow) -> Iterable[str]:
    joined = [side for side in Side if row.is_joined(side)]
    if isinstance(row, (JoinRow, SplitNameRow)) != (len(joined) == 1):
        yield f"rule {row.rule!r}: got {len(joined)} sides with a list of columns, allowed one, and only with join and split_name"
    if isinstance(row, SplitNameRow) and joined and len(row.columns(joined[0])) not in (2, 3):
        yield "split_name: got another number of columns, allowed [first, last] or [first, middle, last]"


def _reference_problems(row: ReferenceRow, mapping: Mapping, flows: MappingOf[str, Mapping]) -> Iterable[str]:
    if (row.flow is None) == (row.users is None):
        yield 'reference: give either "flow" or "users"'
    if row.flow is not None and row.flow not in flows:
        yield f"flow: got {row.flow!r}, allowed {', '.join(sorted(flows))}"
    if row.flow == mapping.flow and row.if_missing == "wait":
        yield "if_missing: a reference of a flow to itself is always 'skip'"


def _irreversible(row: AnyRow) -> str:
    if isinstance(row, (ConstantRow, SourceIdRow, PlainTextRow)):
        return f"the rule {row.rule!r} can't be reversed"
    if isinstance(row, JoinRow) and row.separator != "\n":
        return f"a join with the separator {row.separator!r} can't be taken apart again"
    return ""


def _shared_columns(flows: Iterable[Mapping]) -> Iterable[str]:
    writers: dict[tuple[str, str, str], list[str]] = {}
    for mapping in flows:
        for side in Side:
            for column in {c for row in mapping.fields if row.writes(side) for c in row.columns(side)}:
                writers.setdefault((mapping.system(side), mapping.entity(side), column), []).append(mapping.flow)
    for (system, entity, column), names in sorted(writers.items()):
        if len(names) > 1:
            yield f"{', '.join(sorted(names))} write the same column {system} {entity}.{column}; one column, one flow"


def _doubles(names: Sequence[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}
