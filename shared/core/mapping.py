"""Mapping files: one JSON file an object flow, one row a field, a closed list of rules (design 5).

Text in, `Mapping` out; reading files is the caller's work. Every problem of every file is reported in one ConfigError, in words an
analyst understands: "got X, allowed A, B, C".
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingOf
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from shared.core.errors import ConfigError
from shared.core.records import Side

RULE_VERSION = 1
"""Raised when a rule starts to make other values; it is part of every row hash (law 1)."""

Columns: TypeAlias = str | tuple[str, ...]
Plain: TypeAlias = bool | int | str


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class _Row(_Strict):
    creatio: Columns | None = Field(default=None, description="Column of the Creatio object, OData name (`TypeId` for a lookup).")
    way: Literal[">", "<", "="] = Field(description="`>` to Dynamics, `<` to Creatio, `=` both ways.")
    dynamics: Columns | None = Field(default=None, description="Column of the Dynamics table, logical name.")
    required: bool = Field(default=False, description="An empty source is a rejection, never a write.")
    overlong: Literal["reject", "truncate"] = Field(default="reject", description="What to do with a text longer than its column.")
    owner: Literal["creatio", "dynamics", "ask"] | None = Field(
        default=None, description="Who wins when both sides changed; the mapping's owner when absent."
    )
    drift: Literal["restore", "keep"] = Field(
        default="restore", description="One-way rows: put an edit of the receiving side back, or leave it."
    )
    note: str = Field(default="", description="Why the row is as it is. Changes nothing.")

    def columns(self, side: Side) -> tuple[str, ...]:
        """Return the row's columns on one side, in order."""
        columns = self.creatio if side is Side.CREATIO else self.dynamics
        if columns is None:
            return ()
        return (columns,) if isinstance(columns, str) else columns

    def is_joined(self, side: Side) -> bool:
        """Tell whether the row's value on a side is a tuple of several columns."""
        return isinstance(self.creatio if side is Side.CREATIO else self.dynamics, tuple)

    @cached_property
    def key(self) -> str:
        """Return the row's name in bindings, failures and pages: its columns."""
        return f"{','.join(self.columns(Side.CREATIO))}={','.join(self.columns(Side.DYNAMICS))}"

    def writes(self, side: Side) -> bool:
        """Tell whether the row's way lets it write this side."""
        return self.way == "=" or (self.way == ">") == (side is Side.DYNAMICS)

    @property
    def source(self) -> Side | None:
        """Return the side that leads in a one-way row, None for a two-way row."""
        return {">": Side.CREATIO, "<": Side.DYNAMICS}.get(self.way)


class CopyRow(_Row):
    """Copy a text as it is."""

    rule: Literal["copy"] = "copy"


class ChoiceRow(_Row):
    """Translate a choice: a Creatio lookup or value and a Dynamics option or text, by a value list or by equal labels."""

    rule: Literal["choice"]
    values: str = Field(description="Name of a file in mappings/values, or `labels`: the same label on both sides.")
    otherwise: Literal["reject", "keep"] = Field(
        default="reject", description="A value without partner: reject the field, or keep what the other side has."
    )


class ReferenceRow(_Row):
    """Refer to a record of a flow, by its binding; or to a user, by e-mail."""

    rule: Literal["reference"]
    flow: str | None = Field(default=None, description="The flow that binds the record referred to.")
    users: Literal["email"] | None = Field(default=None, description="The reference names a user; both sides know the e-mail.")
    if_missing: Literal["wait", "skip"] = Field(
        default="skip", description="The record referred to is not bound yet: wait for it, or write the record without it for now."
    )
    otherwise: Literal["reject", "keep"] = Field(
        default="keep", description="A user without partner: reject the field, or keep what the other side has."
    )


class ConstantRow(_Row):
    """Write a constant to the receiving side."""

    rule: Literal["constant"]
    value: Plain


class SourceIdRow(_Row):
    """Write the id of the source record to a text or id column of the receiving side."""

    rule: Literal["source_id"]


class JoinRow(_Row):
    """Join the columns of one side into one text on the other; reversible when the separator is a line end."""

    rule: Literal["join"]
    separator: str = Field(default="\n", min_length=1)


class SplitNameRow(_Row):
    """Split a full name into first, (middle) and last name, and join it again."""

    rule: Literal["split_name"]


class DateRow(_Row):
    """Carry a calendar date."""

    rule: Literal["date"]


class DatetimeRow(_Row):
    """Carry a moment, in UTC, to the second."""

    rule: Literal["datetime"]


class MoneyRow(_Row):
    """Carry an amount as an exact decimal."""

    rule: Literal["money"]
    scale: int = Field(default=2, ge=0, le=10, description="Decimal places, when the target's metadata does not say.")


class IntegerRow(_Row):
    """Carry a whole number."""

    rule: Literal["integer"]


class BooleanRow(_Row):
    """Carry yes or no."""

    rule: Literal["boolean"]


class PhoneRow(_Row):
    """Carry a phone number; two spellings of the same digits are equal."""

    rule: Literal["phone"]


def _rule_of(row: Any) -> str:
    return str(row.get("rule", "copy") if isinstance(row, dict) else getattr(row, "rule", "copy"))


Row: TypeAlias = Annotated[
    Annotated[CopyRow, Tag("copy")]
    | Annotated[ChoiceRow, Tag("choice")]
    | Annotated[ReferenceRow, Tag("reference")]
    | Annotated[ConstantRow, Tag("constant")]
    | Annotated[SourceIdRow, Tag("source_id")]
    | Annotated[JoinRow, Tag("join")]
    | Annotated[SplitNameRow, Tag("split_name")]
    | Annotated[DateRow, Tag("date")]
    | Annotated[DatetimeRow, Tag("datetime")]
    | Annotated[MoneyRow, Tag("money")]
    | Annotated[IntegerRow, Tag("integer")]
    | Annotated[BooleanRow, Tag("boolean")]
    | Annotated[PhoneRow, Tag("phone")],
    Discriminator(_rule_of),
]
RULES = (
    "copy", "choice", "reference", "constant", "source_id", "join", "split_name",
    "date", "datetime", "money", "integer", "boolean", "phone",
)  # fmt: skip


class CreatioEnd(_Strict):
    """The Creatio object of a flow."""

    entity: str = Field(pattern=r"^[A-Za-z_]\w*$")


class DynamicsEnd(_Strict):
    """The Dynamics table of a flow, and the system that holds it."""

    system: Literal["dataverse"]
    entity: str = Field(pattern=r"^[a-z_][a-z0-9_]*$")


class Condition(_Strict):
    """A record takes part in a direction only while this column holds one of these values or labels."""

    way: Literal[">", "<"]
    column: str
    any_of: tuple[Plain, ...] = Field(min_length=1)


class Inactive(_Strict):
    """The columns and values by which a record is inactive; a side without any keeps its record when the other one is deleted."""

    creatio: dict[str, Plain] = Field(default_factory=dict)
    dynamics: dict[str, Plain] = Field(default_factory=dict)


class Mapping(_Strict):
    """One flow: one object in both systems."""

    schema_file: str = Field(default="./mapping.schema.json", alias="$schema")
    flow: str = Field(pattern=r"^[a-z]+\.[a-z_]+$")
    title: str
    about: str
    creatio: CreatioEnd
    dynamics: DynamicsEnd
    create: Literal["both", "to_dynamics", "to_creatio", "none"]
    owner: Literal["creatio", "dynamics", "ask"]
    on_delete: Literal["keep", "unlink", "deactivate", "delete"] = Field(
        description="What a delete on one side does to the other record: `keep` leaves it as it is, `unlink` empties its source_id columns,"
        " `deactivate` writes what `inactive` says, `delete` deletes it. In each case the binding ends."
    )
    inactive: Inactive | None = Field(default=None, description="What makes a record inactive; for `on_delete: deactivate`.")
    on_duplicate: Literal["ask", "create", "skip"]
    match: tuple[tuple[str, ...], ...] = Field(description="Keys in order, as Creatio columns; a key with an empty part is skipped.")
    when: tuple[Condition, ...] = ()
    fields: tuple[Row, ...] = Field(min_length=1)

    def entity(self, side: Side) -> str:
        """Return the entity of one side."""
        return self.creatio.entity if side is Side.CREATIO else self.dynamics.entity

    def system(self, side: Side) -> str:
        """Return the system of one side."""
        return "creatio" if side is Side.CREATIO else self.dynamics.system

    def creates(self, side: Side) -> bool:
        """Tell whether the flow may create records on a side."""
        return self.create in ("both", "to_creatio" if side is Side.CREATIO else "to_dynamics")

    def inactive_on(self, side: Side) -> MappingOf[str, Plain]:
        """Return the columns and values by which a record of a side is inactive."""
        if self.inactive is None:
            return {}
        return self.inactive.creatio if side is Side.CREATIO else self.inactive.dynamics

    def owner_of(self, row: _Row) -> str:
        """Return who wins a row when both sides changed."""
        return row.owner or self.owner

    def columns(self, side: Side) -> tuple[str, ...]:
        """Return every column the flow reads or writes on a side, each once."""
        read = [column for row in self.fields for column in row.columns(side)]
        ways = {Side.CREATIO: ">", Side.DYNAMICS: "<"}
        return tuple(dict.fromkeys([*read, *(c.column for c in self.when if c.way == ways[side])]))

    def option_columns(self, side: Side) -> tuple[str, ...]:
        """Return the columns whose live options a choice row or a condition needs."""
        ways = {Side.CREATIO: ">", Side.DYNAMICS: "<"}
        named = [row.columns(side)[0] for row in self.fields if isinstance(row, ChoiceRow)]
        return tuple(dict.fromkeys([*named, *(c.column for c in self.when if c.way == ways[side])]))

    def match_rows(self, key: Sequence[str]) -> list["AnyRow"]:
        """Return the rows of a match key."""
        by_column = {row.creatio: row for row in self.fields}
        return [by_column[column] for column in key]


AnyRow: TypeAlias = (
    CopyRow | ChoiceRow | ReferenceRow | ConstantRow | SourceIdRow | JoinRow | SplitNameRow
    | DateRow | DatetimeRow | MoneyRow | IntegerRow | BooleanRow | PhoneRow
)  # fmt: skip


class Pair(_Strict):
    """Two values that mean the same: a Creatio label, id, number or yes/no, and a Dynamics label or option number."""

    creatio: Plain
    dynamics: Plain
    note: str = ""


ValueLists: TypeAlias = MappingOf[str, tuple[Pair, ...]]


class MappingSet(BaseModel):
    """All mappings and value lists of an app, checked against each other."""

    model_config = ConfigDict(frozen=True)

    flows: dict[str, Mapping]
    values: dict[str, tuple[Pair, ...]]

    def row_hash(self, row: AnyRow) -> str:
        """Return the hash of what changes a row's values: columns, rule with its version and settings, value list (law 1)."""
        body = row.model_dump(mode="json", include=_VALUE_MEMBERS)
        if isinstance(row, ChoiceRow):
            body["pairs"] = [[pair.creatio, pair.dynamics] for pair in self.values.get(row.values, ())]
        text = json.dumps([RULE_VERSION, body], sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def flow_hash(self, flow: str) -> str:
        """Return the hash of what changes any value of a flow: under another one its records may need alignment (law 2)."""
        rows = sorted(f"{row.key} {row.way} {self.row_hash(row)}" for row in self.flows[flow].fields)
        return hashlib.blake2b("\n".join(rows).encode(), digest_size=6).hexdigest()


_VALUE_MEMBERS = {"creatio", "dynamics", "rule", "values", "flow", "users", "value", "separator", "scale", "overlong"}


def load(mappings: MappingOf[str, str], values: MappingOf[str, str]) -> MappingSet:
    """Read mapping files and value lists (file name to text); raises ConfigError with every problem of all of them."""
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
    if problems:
        raise ConfigError(problems)
    return MappingSet(flows=flows, values=lists)


def schema() -> str:
    """Return the JSON schema of a mapping file, as `mappings/mapping.schema.json` holds it."""
    return json.dumps(Mapping.model_json_schema(by_alias=True), indent=1, ensure_ascii=False) + "\n"


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
        return f"{place}: rule: got {_rule_of(got)!r}, allowed {', '.join(RULES)}"
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
    keys = [row.key for row in mapping.fields]
    yield from (f"two rows are the same: {key}" for key in sorted(_doubles(keys)))


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
        name: {row.flow for row in mapping.fields if isinstance(row, ReferenceRow) and row.if_missing == "wait" and row.flow in flows}
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
    if isinstance(row, (ConstantRow, SourceIdRow)):
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
