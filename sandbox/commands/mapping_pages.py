"""The page of each mapping in docs/mappings, and the schema of mapping files: both are made from the mappings and their model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sandbox.child import ROOT
from shared.core.mapping import (
    AnyRow,
    ChoiceRow,
    ConstantRow,
    CreatioEnd,
    DynamicsEnd,
    JoinRow,
    Lines,
    Mapping,
    MappingSet,
    MoneyRow,
    ReferenceRow,
    schema,
)
from shared.core.records import Side, path_of
from shared.wiring import read_mappings

FOLDER: Final = ROOT / "docs" / "mappings"
SCHEMA: Final = ROOT / "mappings" / "mapping.schema.json"
_WAYS: Final = {"=": "↔", ">": "→", "<": "←"}
_CREATE: Final = {
    "both": "created on the other side, whichever side it comes from",
    "to_dynamics": "created in Dynamics when it is new in Creatio",
    "to_creatio": "created in Creatio when it is new in Dynamics",
    "none": "never created; existing ones are matched",
}
_DUPLICATES: Final = {
    "ask": "a person decides",
    "create": "a new record is created all the same",
    "skip": "the record is left out",
}
_DELETES: Final = {
    "keep": "the other one stays as it is",
    "unlink": "the other one stays and no longer names it",
    "deactivate": "the other one is made inactive",
    "delete": "the other one is deleted too",
}
_UNIT: Final = (
    "A document and its lines are one unit: all of it is written, or nothing, and a line that waits or can't be written holds the whole "
    "document."
)
_THEN: Final = {
    "stop": "",
    "finish": " When that changes, a pair is written once more, so that the other side knows; then it is left alone.",
    "go_on": " This is asked of new records only: what has a partner is kept in step, whatever it holds.",
}
_NEEDED: Final = " A document without lines is not created; with its first line it is."
_OWNERS: Final = {"creatio": "Creatio wins", "dynamics": "Dynamics wins", "ask": "a person decides"}


def write_mapping_pages() -> list[Path]:
    """Write the schema and every page again; return the files."""
    mappings = read_mappings(ROOT / "mappings")
    FOLDER.mkdir(parents=True, exist_ok=True)
    SCHEMA.write_text(schema(), encoding="utf-8")
    written = [SCHEMA]
    for flow in mappings.flows:
        page = FOLDER / f"{flow}.md"
        page.write_text(mapping_page(mappings, flow), encoding="utf-8")
        written.append(page)
    return written


def mapping_page(mappings: MappingSet, flow: str) -> str:
    """Return the page of a flow: what happens to its records, a table of its rows, the value lists it uses."""
    mapping = mappings.flows[flow]
    details = _details(mapping, mapping.lines) if mapping.lines else []
    return "\n".join([*_head(mapping), *_table("Fields", mapping.fields), *details, *_lists(mappings, mapping)]) + "\n"


def _head(mapping: Mapping) -> list[str]:
    both = f"{_OWNERS[mapping.owner]}, unless the row says otherwise. Edits of different fields both survive"
    return [
        f"# {mapping.title} (`{mapping.flow}`)",
        "",
        mapping.about,
        "",
        f"This page is written by `make docs` from `mappings/{mapping.flow}.json`.",
        "",
        f"- **Objects:** {_end(mapping.creatio)} and {_end(mapping.dynamics)}.",
        _pairs(mapping),
        f"- **A record without a partner** is {_CREATE[mapping.create]}.",
        f"- **When a record is deleted** on one side, {_DELETES[mapping.on_delete]}; the two are no longer kept in step.",
        *_conditions(mapping),
        f"- **One field edited on both sides** at the same time: {both}.",
        "- **→ and ←** lead one way only: an edit on the receiving side is put back, unless the row says otherwise.",
    ]


def _pairs(mapping: Mapping) -> str:
    """Say how existing records find each other."""
    if not mapping.match:
        return "- **Existing pairs** are not looked for: no column tells two of these records apart."
    keys = ", then ".join(" and ".join(f"`{column}`" for column in key) for key in mapping.match)
    unclear = f"a key with an empty part is skipped. Where that is not clear, {_DUPLICATES[mapping.on_duplicate]}"
    return f"- **Existing pairs** are found by {keys}; {unclear}."


def _details(mapping: Mapping, lines: Lines) -> list[str]:
    """Say what becomes of a document's lines and totals."""
    said = [
        *("", "## Lines", ""),
        f"`{lines.creatio.entity}` in Creatio and `{lines.dynamics.entity}` in Dynamics. {_UNIT}{_NEEDED if lines.needed else ''}",
        *_rows(lines.fields),
    ]
    for total in mapping.totals:
        summed = " ".join(f"less `{one[1:]}`" if one.startswith("-") else f"and `{one}`" for one in total.creatio).removeprefix("and ")
        if total.percent is not None:
            summed += f" less `{total.percent.column}` percent of what is left without the lines' `{total.percent.without}`"
        said += ["", f"After a write {summed} in Creatio and `{total.dynamics}` in Dynamics must be the same, to {total.tolerance}."]
    return said


def _conditions(mapping: Mapping) -> list[str]:
    """Say which records do not take part in a direction."""
    said = []
    for condition in mapping.when:
        values = ", ".join(f"“{value}”" for value in condition.any_of or condition.none_of)
        which = "only records that have" if condition.any_of else "all records but those that have"
        target = "Dynamics" if condition.way == ">" else "Creatio"
        said.append(f"- **To {target}** go {which} {values} in `{condition.column}`.{_THEN[condition.then]}")
    return said


def _end(end: CreatioEnd | DynamicsEnd) -> str:
    return f"`{end.entity}` in {'Creatio' if isinstance(end, CreatioEnd) else 'Dynamics'}"


def _table(title: str, rows: Sequence[AnyRow]) -> list[str]:
    return ["", f"## {title}", *_rows(rows)]


def _rows(rows: Sequence[AnyRow]) -> list[str]:
    lines = ["", "| Creatio | | Dynamics | How | Why |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (_columns(row, Side.CREATIO), _WAYS[row.way], _columns(row, Side.DYNAMICS), _how(row), row.note)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def _columns(row: AnyRow, side: Side) -> str:
    return ", ".join(f"`{column}`" for column in row.columns(side))


def _how(row: AnyRow) -> str:
    """Say in words what a row does, beyond copying."""
    said = [_rule(row)]
    if row.required:
        said.append("must not be empty")
    if row.overlong == "truncate":
        said.append("cut where it is too long")
    if row.owner is not None:
        said.append(f"both edited: {_OWNERS[row.owner]}")
    if row.drift == "keep":
        said.append("an edit of the receiving side stays")
    said += _depends(row)
    if row.optional:
        said.append("left out where a column is missing")
    return "; ".join(part for part in said if part)


def _depends(row: AnyRow) -> list[str]:
    """Say what else decides whether a row is read or written."""
    said = []
    if row.needs:
        said.append(f"only where `{row.needs}` is filled")
    if row.unless:
        said.append(f"only where `{row.unless}` is empty")
    said += _from_elsewhere(row)
    if row.only_while:
        values = ", ".join(f"“{value}”" for value in row.only_while.any_of)
        said.append(f"only while `{row.only_while.column}` is {values}")
    if row.instead:
        said.append(f"read from `{row.instead}` where that is filled")
    if row.last:
        said.append("not while a link waits")
    return said


def _from_elsewhere(row: AnyRow) -> list[str]:
    """Say what else a row reads beside its columns, and how late it is."""
    said: list[str] = []
    if row.same:
        said.append(f"a person must act where `{row.same[0]}` and `{row.same[1]}` differ")
    if any(map(path_of, row.columns(Side.CREATIO))):
        said.append("read behind a lookup: a change there comes with the next edit of the record itself")
    if any(map(path_of, row.columns(Side.DYNAMICS))):
        said.append("read behind a lookup: a change there comes within the hour")
    return said


def _rule(row: AnyRow) -> str:  # noqa: PLR0911 - one line a rule reads best
    match row:
        case ChoiceRow(values="labels"):
            return f"choice by equal labels, {_otherwise(row)}"
        case ChoiceRow():
            return f"choice by the list [{row.values}](#{row.values.replace('_', '-')}), {_otherwise(row)}"
        case ReferenceRow(users="email"):
            return f"user with the same e-mail, {_otherwise(row)}"
        case ReferenceRow():
            later = "the record waits for it" if row.if_missing == "wait" else "the link follows when it is there"
            return f"record of `{row.flow}`, {later}"
        case ConstantRow():
            return f"always {row.value!r}"
        case JoinRow():
            return "columns joined by line ends" if row.separator == "\n" else f"columns joined by {row.separator!r}"
        case MoneyRow():
            return "amount, exact"
        case _:
            return {"copy": "", "source_id": "id of the source record"}.get(row.rule, row.rule.replace("_", " "))


def _otherwise(row: ChoiceRow | ReferenceRow) -> str:
    empty = f"{row.empty!r} where it is empty, " if isinstance(row, ChoiceRow) and row.empty is not None else ""
    if isinstance(row, ChoiceRow) and row.default is not None:
        return f"{empty}else {row.default!r}"
    return empty + ("else a person must act" if row.otherwise == "reject" else "else left as it is")


def _lists(mappings: MappingSet, mapping: Mapping) -> list[str]:
    rows = (*mapping.fields, *(mapping.lines.fields if mapping.lines else ()))
    used = sorted({row.values for row in rows if isinstance(row, ChoiceRow)} - {"labels"})
    lines = ["", "## Value lists"] if used else []
    for name in used:
        lines += ["", f"### {name.replace('_', '-')}", "", "| Creatio | Dynamics |", "|---|---|"]
        for pair in mappings.values[name]:
            shown = f"{pair.dynamics} ({pair.note})" if pair.note else str(pair.dynamics)
            lines.append(f"| {_plain(pair.creatio)} | {shown} |")
    return lines


def _plain(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
