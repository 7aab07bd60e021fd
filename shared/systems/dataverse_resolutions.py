"""The resolution of a case, which is a row of its own: read as if it were columns of the case (dataverse.md 5, 9).

`resolution_text` and `resolution_date` name no columns of the table `incident`. They come from the latest `incidentresolution` of a case
that is resolved, and are empty for every other case: what was said before a case was reopened says nothing about it now. A date can't be
written, and a text only by the action that closes the case (`dataverse_documents`): without it the text stays where it is.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from shared.core.errors import TandemError
from shared.core.records import Column, ColumnType, Row, Value, Write
from shared.core.rules import utf16_length
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_identity import Whoami
from shared.systems.dataverse_reads import Reads
from shared.systems.dataverse_service import for_record

CASE: Final = "incident"
TEXT: Final = "resolution_text"
DATE: Final = "resolution_date"
COLUMNS: Final[Mapping[str, Column]] = {
    TEXT: Column(TEXT, ColumnType.TEXT, max_length=100_000),
    DATE: Column(DATE, ColumnType.DATETIME, creatable=False, updatable=False),
}
"""No column of a customer can have these names: those have a prefix of at most eight letters."""
UNSAID: Final = "Resolved without a text"
"""The subject of a resolution that says nothing."""
_TABLE: Final = "incidentresolution"
_READ: Final = ("incidentid", "subject", "description", "actualend")
_RESOLVED: Final = 1
_LONGEST_SUBJECT: Final = 200
_CASES_A_QUERY: Final = 100
_CUT: Final = "\N{HORIZONTAL ELLIPSIS}"


def parted(entity: str, names: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Part names into columns that the table may have and those that this module reads for it."""
    own = tuple(name for name in names if entity == CASE and name in COLUMNS)
    return tuple(name for name in names if name not in own), own


def without_own(entity: str, write: Write) -> Write:
    """Return a write as the table itself takes it."""
    if entity != CASE:
        return write
    values, seen = ({name: value for name, value in given.items() if name not in COLUMNS} for given in (write.values, _seen(write)))
    return replace(write, values=values, seen=replace(write.seen, values=seen) if write.seen else None)


def _seen(write: Write) -> Mapping[str, Value]:
    return write.seen.values if write.seen else {}


def kept(entity: str, write: Write, row: Row) -> Row:
    """Return the row after a write that left the state alone: what the plan saw of the resolution still stands."""
    _, own = parted(entity, wire.named_columns(write))
    return replace(row, values={**row.values, **{name: _seen(write).get(name) for name in own}}) if own else row


def activity_of(text: str | None) -> dict[str, str]:
    """Return what the activity that closes a case says: the subject is one line of 200 characters, more goes into the description."""
    if not text:
        return {"subject": UNSAID}
    line = text.partition("\n")[0]
    if line == text and utf16_length(text) <= _LONGEST_SUBJECT:
        return {"subject": text}
    while utf16_length(line) >= _LONGEST_SUBJECT:
        line = line[:-1]
    return {"subject": line.rstrip() + _CUT, "description": text}


def text_of(subject: Value, description: Value) -> str | None:
    """Return the text of a resolution: the subject and, below it, the description, which may begin with the subject."""
    said, more = (part.strip() if isinstance(part, str) else "" for part in (subject, description))
    if said == UNSAID or more.startswith(said.removesuffix(_CUT)):
        said = ""
    return "\n".join(part for part in (said, more) if part) or None


class Resolutions:
    """Reads the resolutions of cases."""

    def __init__(self, reads: Reads, whoami: Whoami) -> None:
        self._reads = reads
        self._whoami = whoami

    async def added(
        self, rows: Mapping[str, Row | TandemError], own: Sequence[str], columns: Collection[str]
    ) -> dict[str, Row | TandemError]:
        """Return cases with columns of this module, and of the others only `columns`; an unreadable resolution is its case's error."""
        cases = [key for key, row in rows.items() if isinstance(row, Row) and row.values.get(wire.STATE) == _RESOLVED]
        latest: dict[str, Row] = {}
        errors: dict[str, TandemError] = {}
        for start in range(0, len(cases), _CASES_A_QUERY):
            await self._read(cases[start : start + _CASES_A_QUERY], latest, errors)
        placed = {key: _placed(row, latest.get(key), own, columns) if isinstance(row, Row) else row for key, row in rows.items()}
        return {**placed, **errors}

    async def _read(self, cases: Collection[str], latest: dict[str, Row], errors: dict[str, TandemError]) -> None:
        us = (await self._whoami.identity()).user_id
        table, names = await self._reads.known(_TABLE, _READ)
        url = wire.by_values(table, names, "incidentid", cases)
        async for raw in self._reads.rows(_TABLE, url, wire.preferences(table, names, "odata.maxpagesize=5000")):
            case = str(raw.get(table.attributes["incidentid"].read_name) or "").lower()
            try:
                row = wire.row_of(raw, table, names, us)
            except TandemError as error:
                errors[case] = for_record(error, _TABLE, case)
                continue
            known = latest.get(case)
            if known is None or _age(row) > _age(known):
                latest[case] = row


def _age(row: Row) -> tuple[str, int]:
    """Return what orders resolutions: their end and, within a second, their versions, which count up."""
    return str(row.values.get("actualend") or ""), int(re.sub(r"\D", "", row.stamp.version) or 0)


def _placed(row: Row, resolution: Row | None, own: Sequence[str], columns: Collection[str]) -> Row:
    said = resolution.values if resolution is not None else {}
    found: dict[str, Value] = {TEXT: text_of(said.get("subject"), said.get("description")), DATE: said.get("actualend")}
    bare = wire.with_columns(row, columns)
    return replace(bare, values={**bare.values, **{name: found[name] for name in own}})
