"""Mapping files: one JSON file an object flow, one row a field, a closed list of rules (design 5).

These are the models; `mapping_load` reads files into them and checks them against each other.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from collections.abc import Mapping as MappingOf
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from shared.core.records import Side

RULE_VERSION = 1
"""Raised when a rule starts to make other values; it is part of every row hash (law 1)."""

Columns: TypeAlias = str | tuple[str, ...]
Plain: TypeAlias = bool | int | str


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class OnlyWhile(_Strict):
    """A row's value counts only while a Creatio column holds one of these values or labels."""

    column: str
    any_of: tuple[Plain, ...] = Field(min_length=1)


class _Row(_Strict):
    creatio: Columns | None = Field(
        default=None,
        description="Column of the Creatio object, OData name (`TypeId` for a lookup); read only, behind one lookup: `Product/UnitId`.",
    )
    way: Literal[">", "<", "="] = Field(description="`>` to Dynamics, `<` to Creatio, `=` both ways.")
    dynamics: Columns | None = Field(
        default=None, description="Column of the Dynamics table, logical name; read only, behind one lookup: `parentaccountid/name`."
    )
    required: bool = Field(default=False, description="An empty source is a rejection, never a write.")
    overlong: Literal["reject", "truncate"] = Field(default="reject", description="What to do with a text longer than its column.")
    owner: Literal["creatio", "dynamics", "ask"] | None = Field(
        default=None, description="Who wins when both sides changed; the mapping's owner when absent."
    )
    drift: Literal["restore", "keep"] = Field(
        default="restore", description="One-way rows: put an edit of the receiving side back, or leave it."
    )
    optional: bool = Field(
        default=False,
        description="A column that a live system does not have leaves the row out, and nobody is told: it came with a licence.",
    )
    needs: str | None = Field(default=None, description="A Creatio column; while it is empty the row reads as empty. Only with `>`.")
    unless: str | None = Field(default=None, description="A Creatio column; while it is filled the row reads as empty. Only with `>`.")
    same: tuple[str, str] | None = Field(
        default=None,
        description="Two Creatio columns, or paths, that must be equal: else the row's value means nothing, and a person must act.",
    )
    only_while: OnlyWhile | None = Field(
        default=None, description="A Creatio column and its values; while it holds another one the row reads as empty. Only with `>`."
    )
    instead: str | None = Field(
        default=None,
        description="A Dynamics column that is read in the place of the row's own while it is filled; it is never written. Not with `>`.",
    )
    last: bool = Field(
        default=False,
        description="Not written to Dynamics while a link of the record waits: it closes the record, and no link could follow.",
    )
    note: str = Field(default="", description="Why the row is as it is. Changes nothing.")

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """Return the Creatio columns that decide whether the row's value counts."""
        return tuple(column for column in (self.needs, self.unless, self.only_while.column if self.only_while else None) if column)

    def agrees(self, get: Callable[[str], Any]) -> bool:
        """Tell whether the two columns of `same` are equal in a Creatio record; `get` returns their normal values."""
        return self.same is None or get(self.same[0]) == get(self.same[1])

    def asks_of(self, side: Side) -> tuple[str, ...]:
        """Return the columns of a side that the row reads beside its own."""
        if side is Side.DYNAMICS:
            return (self.instead,) if self.instead else ()
        return (*self.conditions, *(self.same or ()))

    def counts(self, get: Callable[[str], Any]) -> bool:
        """Tell whether the row's value in Creatio counts, by a record's other columns; `get` returns their normal values."""
        fits = self.only_while is None or get(self.only_while.column) in self.only_while.any_of
        return fits and (self.needs is None or get(self.needs) is not None) and (self.unless is None or get(self.unless) is None)

    def columns(self, side: Side) -> tuple[str, ...]:
        """Return the row's columns on one side, in order."""
        return self.columns_by_side[side]

    @cached_property
    def columns_by_side(self) -> dict[Side, tuple[str, ...]]:
        """Return the columns of both sides, worked out once: nothing is asked of a row more often."""
        named = {Side.CREATIO: self.creatio, Side.DYNAMICS: self.dynamics}
        return {side: (columns,) if isinstance(columns, str) else columns or () for side, columns in named.items()}

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
    default: Plain | None = Field(default=None, description="What every value without partner becomes; one-way rows only.")
    empty: Plain | None = Field(default=None, description="What an empty source becomes; one-way rows only.")


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


class PlainTextRow(_Row):
    """Carry the text of a rich text: its tags and entities are taken away, its blocks become lines."""

    rule: Literal["plain_text"]


class LineRow(_Row):
    """One line of a document as a field of it: made for each line met, never written in a file."""

    rule: Literal["line"] = "line"

    @cached_property
    def key(self) -> str:
        """Return the line's name, the same on both sides."""
        return self.columns(Side.CREATIO)[0]


def rule_of(row: Any) -> str:
    """Return the name of a row's rule; without one it is `copy`."""
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
    | Annotated[PhoneRow, Tag("phone")]
    | Annotated[PlainTextRow, Tag("plain_text")],
    Discriminator(rule_of),
]
RULES = (
    "copy", "choice", "reference", "constant", "source_id", "join", "split_name",
    "date", "datetime", "money", "integer", "boolean", "phone", "plain_text",
)  # fmt: skip


class CreatioEnd(_Strict):
    """The Creatio object of a flow."""

    entity: str = Field(pattern=r"^[A-Za-z_]\w*$")


class DynamicsEnd(_Strict):
    """The Dynamics table of a flow, and the system that holds it."""

    system: Literal["dataverse"]
    entity: str = Field(pattern=r"^[a-z_][a-z0-9_]*$")


class Condition(_Strict):
    """A record takes part in a direction only while a column holds one of these values or labels, or none of those."""

    way: Literal[">", "<"]
    column: str
    any_of: tuple[Plain, ...] = ()
    none_of: tuple[Plain, ...] = ()
    then: Literal["stop", "finish", "go_on"] = Field(
        default="stop",
        description="What becomes of a pair whose record does not meet the condition any more: `stop` writes nothing more, `finish` writes"
        " it once more, when a row of this column has something to write, `go_on` writes on: the condition is for new records only.",
    )


class Inactive(_Strict):
    """The columns and values by which a record is inactive; a side without any keeps its record when the other one is deleted."""

    creatio: dict[str, Plain] = Field(default_factory=dict)
    dynamics: dict[str, Plain] = Field(default_factory=dict)


class LinesEnd(_Strict):
    """The entity of a document's lines on one side, and its lookup to the document."""

    entity: str = Field(pattern=r"^[A-Za-z_]\w*$")
    parent: str = Field(pattern=r"^[A-Za-z_]\w*$")


class Lines(_Strict):
    """The lines of a document. Header and lines are one unit, and lines go from Creatio to Dynamics."""

    creatio: LinesEnd
    dynamics: LinesEnd
    needed: bool = Field(default=False, description="A document without lines is not created; with its first line it is.")
    fields: tuple[Row, ...] = Field(min_length=1)

    def end(self, side: Side) -> LinesEnd:
        """Return the entity of one side."""
        return self.creatio if side is Side.CREATIO else self.dynamics

    def columns(self, side: Side) -> tuple[str, ...]:
        """Return the columns of the lines' rows on one side, each once."""
        return tuple(dict.fromkeys(column for row in self.fields for column in (*row.columns(side), *row.asks_of(side))))

    def option_columns(self, side: Side) -> tuple[str, ...]:
        """Return the columns whose live options a row needs."""
        return tuple(dict.fromkeys(row.columns(side)[0] for row in self.fields if _needs_options(row, side)))


class Percent(_Strict):
    """A percentage that is taken off a total: of its first amount, less one column of all lines."""

    column: str = Field(description="The Creatio column of the document that holds the percentage.")
    without: str = Field(description="A Creatio column of the lines whose sum it is not taken of: the tax.")


class Total(_Strict):
    """An amount that both sides work out by themselves and that must be the same after a write."""

    creatio: tuple[str, ...] = Field(min_length=1, description="Creatio columns that are added up; one with `-` before it is taken off.")
    percent: Percent | None = Field(default=None, description="A percentage on the whole document that is taken off as well.")
    dynamics: str
    tolerance: Decimal = Field(default=Decimal("0.01"), ge=0, description="How far rounding may part them.")
    of_lines: bool = Field(
        default=False, description="Compared only while the document has lines; without any, Creatio's amount is typed in."
    )

    def columns(self, side: Side) -> tuple[str, ...]:
        """Return the columns of a side."""
        if side is Side.DYNAMICS:
            return (self.dynamics,)
        return (*(name.removeprefix("-") for name in self.creatio), *((self.percent.column,) if self.percent else ()))


class Mapping(_Strict):
    """One flow: one object in both systems."""

    schema_file: str = Field(default="./mapping.schema.json", alias="$schema")
    flow: str = Field(pattern=r"^[a-z]+\.[a-z_]+$")
    title: str
    about: str
    by_default: bool = Field(
        default=True,
        description="Runs where `FLOWS` names nothing; false for a flow that some would have to switch off, or doubled records.",
    )
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
    lines: Lines | None = Field(default=None, description="The lines of a document, from Creatio to Dynamics.")
    totals: tuple[Total, ...] = Field(default=(), description="Amounts that are compared after a write.")

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
        read = [column for row in self.fields for column in (*row.columns(side), *row.asks_of(side))]
        ways = {Side.CREATIO: ">", Side.DYNAMICS: "<"}
        totals = [column for total in self.totals for column in total.columns(side)]
        return tuple(dict.fromkeys([*read, *(c.column for c in self.when if c.way == ways[side]), *totals]))

    def option_columns(self, side: Side) -> tuple[str, ...]:
        """Return the columns whose live options a choice row or a condition needs."""
        ways = {Side.CREATIO: ">", Side.DYNAMICS: "<"}
        named = [row.columns(side)[0] for row in self.fields if _needs_options(row, side)]
        if side is Side.CREATIO:
            named += [row.only_while.column for row in self.fields if row.only_while is not None]
        return tuple(dict.fromkeys([*named, *(c.column for c in self.when if c.way == ways[side])]))

    def match_rows(self, key: Sequence[str]) -> list["AnyRow"]:
        """Return the rows of a match key."""
        by_column = {row.creatio: row for row in self.fields}
        return [by_column[column] for column in key]


AnyRow: TypeAlias = (
    CopyRow | ChoiceRow | ReferenceRow | ConstantRow | SourceIdRow | JoinRow | SplitNameRow
    | DateRow | DatetimeRow | MoneyRow | IntegerRow | BooleanRow | PhoneRow | PlainTextRow | LineRow
)  # fmt: skip


def _needs_options(row: AnyRow, side: Side) -> bool:
    """Tell whether a row's values are named by live options: those of a list, and a constant for a lookup."""
    return isinstance(row, ChoiceRow) or (isinstance(row, ConstantRow) and bool(row.columns(side)) and isinstance(row.value, str))


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
        body |= row.model_dump(mode="json", include=_LATER_MEMBERS, exclude_none=True)
        if isinstance(row, ChoiceRow):
            body["pairs"] = [[pair.creatio, pair.dynamics] for pair in self.values.get(row.values, ())]
        text = json.dumps([RULE_VERSION, body], sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def line_hash(self, flow: str) -> str:
        """Return the hash of what changes the values of a flow's lines, "" for a flow without any."""
        lines = self.flows[flow].lines
        if lines is None:
            return ""
        text = "\n".join([lines.dynamics.entity, *(f"{row.key} {self.row_hash(row)}" for row in lines.fields)])
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @cached_property
    def row_hashes(self) -> dict[str, dict[str, str]]:
        """Return the row hashes by flow and row key, worked out once: each batch needs those of its flow."""
        return {name: {row.key: self.row_hash(row) for row in flow.fields} for name, flow in self.flows.items()}

    def flow_hash(self, flow: str) -> str:
        """Return the hash of what changes any value of a flow: under another one its records may need alignment (law 2)."""
        rows = sorted(f"{row.key} {row.way} {self.row_hash(row)}" for row in self.flows[flow].fields)
        rows += [self.line_hash(flow)] if self.flows[flow].lines else []
        return hashlib.blake2b("\n".join(rows).encode(), digest_size=6).hexdigest()


_VALUE_MEMBERS = {"creatio", "dynamics", "rule", "values", "flow", "users", "value", "separator", "scale", "overlong"}
_LATER_MEMBERS = {"needs", "unless", "only_while", "instead", "default", "empty", "same"}
"""Members that came later: they stand in a row's hash only where they are given, so that older rows keep theirs."""


def schema() -> str:
    """Return the JSON schema of a mapping file, as `mappings/mapping.schema.json` holds it."""
    return json.dumps(Mapping.model_json_schema(by_alias=True), indent=1, ensure_ascii=False) + "\n"
