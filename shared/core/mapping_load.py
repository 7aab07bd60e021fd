"""Reading mapping files: text in, a checked `MappingSet` out; reading the files themselves is the caller's work.

Every problem of every file is reported in one ConfigError, in words an analyst understands: "got X, allowed A, B, C".
"""

import json
import re
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
from shared.core.records import Side, path_of

_PATH = re.compile(r"[A-Za-z_]\w*/[A-Za-z_]\w*")


def load(mappings: MappingOf[str, str], values: MappingOf[str, str], enabled: Sequence[str] | None = ()) -> MappingSet:
    """Read mapping files and value lists (file name to text); raises ConfigError with every problem of all of them.

    `enabled` names the flows that run: all when it is empty, those that run by default when it is None. Rows that refer to a flow that
    does not run are left out, so that objects can go live one after the other; when it is enabled later, the flow's hash changes and an
    `align` run sets the links.
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
    named = tuple(name for name, flow in flows.items() if flow.by_default) if enabled is None else tuple(enabled or flows)
    running = {name: flow for name, flow in flows.items() if name in named}
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
    yield from _strayed_paths(mapping)
    if mapping.lines is not None:
        yield from _lines_problems(mapping, mapping.lines, flows, lists)
    yield from _when_problems(mapping)
    keys = [row.key for row in mapping.fields]
    yield from (f"two rows are the same: {key}" for key in sorted(_doubles(keys)))


def _when_problems(mapping: Mapping) -> Iterable[str]:
    for condition in mapping.when:
        if bool(condition.any_of) == bool(condition.none_of):
            yield f"when: {condition.column}: give either any_of or none_of, with at least one value"
        source = Side.CREATIO if condition.way == ">" else Side.DYNAMICS
        told = {column for row in mapping.fields if row.writes(source.other) for column in row.columns(source)}
        if condition.then == "finish" and condition.column not in told:
            yield f"when: {condition.column}: then: got 'finish', allowed stop, go_on: no row tells the other side of this column"


def _lines_problems(mapping: Mapping, lines: Lines, flows: MappingOf[str, Mapping], lists: ValueLists) -> Iterable[str]:
    """Yield what is wrong with the rows of a document's lines: they go one way, and each has one column a side."""
    if mapping.create not in ("to_dynamics", "none"):
        yield f"lines: got create {mapping.create!r}, allowed to_dynamics, none: lines go from Creatio to Dynamics only"
    for number, row in enumerate(lines.fields, 1):
        place = f"lines: row {number} ({row.key})"
        yield from (f"{place}: {problem}" for problem in _row_problems(row, mapping, flows, lists))
        if row.way != ">":
            yield f"{place}: way: got {row.way!r}, allowed '>'"
        if row.same is not None:
            yield f"{place}: same: allowed in the rows of `fields` only"
        if any(row.is_joined(side) for side in Side) or isinstance(row, (JoinRow, SplitNameRow, SourceIdRow)):
            yield f"{place}: rule {row.rule!r}: got a rule of several columns or ids, allowed rules of one column a side"
    read = lines.columns(Side.CREATIO)
    yield from (
        f"totals: percent: got {total.percent.without!r}, allowed {', '.join(read)}"
        for total in mapping.totals
        if total.percent is not None and total.percent.without not in read
    )
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
    yield from _condition_problems(row)
    if row.drift == "keep" and row.way == "=":
        yield "drift: `keep` is for one-way rows only"
    yield from _path_problems(row)
    yield from _list_problems(row)
    if isinstance(row, ChoiceRow):
        yield from _choice_problems(row, lists)
    if isinstance(row, ReferenceRow):
        yield from _reference_problems(row, mapping, flows)


def _condition_problems(row: AnyRow) -> Iterable[str]:
    if row.conditions and row.way != ">":
        yield f"needs, unless, only_while: got way {row.way!r}, allowed '>': they are conditions on the Creatio record"
    if row.same is not None:
        yield from _same_problems(row, row.same)
    if row.instead and (row.way == ">" or row.is_joined(Side.DYNAMICS)):
        yield "instead: allowed with '=' and '<' and one Dynamics column: it says what is read there"


def _choice_problems(row: ChoiceRow, lists: ValueLists) -> Iterable[str]:
    if row.default is not None and row.way == "=":
        yield "default: for one-way rows only: nobody could tell which value it came from"
    if row.empty is not None and row.way == "=":
        yield "empty: for one-way rows only: nobody could tell whether the source is empty"
    if row.values != "labels" and row.values not in lists:
        yield f"values: got {row.values!r}, allowed labels, {', '.join(sorted(lists)) or 'a file in mappings/values'}"
    yield from _double_values(row, lists)


def _path_problems(row: AnyRow) -> Iterable[str]:
    for side in Side:
        for column in filter(path_of, row.columns(side)):
            if _PATH.fullmatch(column) is None:
                yield f"{side.value}: got the path {column!r}, allowed one lookup and one column behind it, as `Product/UnitId`"
            elif row.source is not side:
                yield f"{side.value}: got the path {column!r}, allowed a column of the record itself: only one-way rows begin with a path"


def _same_problems(row: AnyRow, same: tuple[str, str]) -> Iterable[str]:
    if row.way == "<":
        yield "same: got way '<', allowed '>' or '=': it is about the Creatio record that a value comes from"
    if same[0] == same[1]:
        yield f"same: got {same[0]!r} twice, allowed two columns"
    for column in filter(path_of, same):
        if _PATH.fullmatch(column) is None:
            yield f"same: got the path {column!r}, allowed one lookup and one column behind it, as `PriceList/UsrCurrencyId`"


def _strayed_paths(mapping: Mapping) -> Iterable[str]:
    """Yield paths where only columns of the record itself can stand."""
    conditions = [column for row in (*mapping.fields, *(mapping.lines.fields if mapping.lines else ())) for column in row.conditions]
    named = {
        "needs, unless": conditions,
        "when": [condition.column for condition in mapping.when],
        "totals": [column for total in mapping.totals for side in Side for column in total.columns(side)],
        "inactive": [column for side in Side for column in mapping.inactive_on(side)],
    }
    for place, columns in named.items():
        yield from (f"{place}: got the path {column!r}, allowed a column of the record itself" for column in columns if path_of(column))
    matched = [row for row in mapping.fields if any(row.creatio in key for key in mapping.match)]
    for row in matched:
        yield from (
            f"match: {row.creatio}: got the path {column!r}, allowed a column of the Dynamics table itself"
            for column in row.columns(Side.DYNAMICS)
            if path_of(column)
        )


def _double_values(row: ChoiceRow, lists: ValueLists) -> Iterable[str]:
    """Yield the values of a list that could become one thing or another on the side that the row writes."""
    needs = "a two-way list needs each value once" if row.way == "=" else "a value becomes one thing"
    for side in Side:
        named = [str(pair.creatio if side is Side.CREATIO else pair.dynamics) for pair in lists.get(row.values, ())]
        for value in sorted(_doubles(named)) if row.writes(side.other) else ():
            yield f"values/{row.values}: {value!r} stands twice on the {side.value} side; {needs}"


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
    writers: dict[tuple[str, str, str], list[Mapping]] = {}
    for mapping in flows:
        for side in Side:
            for column in {c for row in mapping.fields if row.writes(side) for c in row.columns(side)}:
                writers.setdefault((mapping.system(side), mapping.entity(side), column), []).append(mapping)
    for (system, entity, column), found in sorted(writers.items(), key=lambda one: one[0]):
        if not _apart(found):
            names = ", ".join(sorted(mapping.flow for mapping in found))
            yield f"{names} write the same column {system} {entity}.{column}; one column, one flow"


def _apart(flows: Sequence[Mapping]) -> bool:
    """Tell whether flows never write the same record: from objects of their own, to Dynamics only, where each record has one flow."""
    sources = [mapping.creatio.entity for mapping in flows]
    return len(flows) == 1 or (not _doubles(sources) and all(mapping.create == "to_dynamics" for mapping in flows))


def _doubles(names: Sequence[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}
