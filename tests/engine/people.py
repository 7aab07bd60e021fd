"""The users of both systems, and a journal of what each of them did last to each field: no edit may be lost without a reason."""

from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

from shared.core.records import Column, Side, Value
from shared.core.rules import utf16_length
from tests.engine.fakes import FakeSystem, Record
from tests.engine.world import World, guid

ROWS = {
    "Name=name": ("Name", "name"),
    "Zip=zip": ("Zip", "zip"),
    "Phone=telephone1": ("Phone", "telephone1"),
    "Notes=description": ("Notes", "description"),
    "Limit<creditlimit": ("Limit", "creditlimit"),
    "Extra=extra": ("Extra", "extra"),
}
"""The columns of the rows that users edit, Creatio's first, by a name of their own."""


def column_of(row: str, side: Side) -> str:
    """Return the column of a row on a side."""
    return ROWS[row][0 if side is Side.CREATIO else 1]


@dataclass(frozen=True)
class Edit:
    """What a user left in a field, in which window between two rests, and as the how manieth edit of all."""

    value: Value
    window: int
    number: int


@dataclass
class Journal:
    """The last edit of each field by side and record, and since when the field of a pair may go either way."""

    window: int = 0
    number: int = 0
    edits: dict[tuple[Side, str, str], Edit] = field(default_factory=dict)
    open_since: dict[tuple[str, str], int] = field(default_factory=dict)
    """By the ids of a pair: the last window in which all its fields were decided anew, by law 2 or by a person."""
    all_open: int = -1
    """The last window in which that holds for every pair."""
    rebased: bool = False
    """True when one side was named right in this window, whatever users had left on the other."""
    born_by_user: set[str] = field(default_factory=set)
    covered: set[tuple[str, str]] = field(default_factory=set)
    """Edits in Creatio that came between our look and our write of the same field, by record and row (law 8)."""

    def note(self, side: Side, record_id: str, row: str, value: Value) -> None:
        """Keep an edit."""
        self.number += 1
        self.edits[side, record_id, row] = Edit(value, self.window, self.number)

    def close(self) -> None:
        """End a window: the world was at rest. After a rebase nothing that was edited before counts any more in two-way rows."""
        if self.rebased:
            self.edits = {key: edit for key, edit in self.edits.items() if key[2] == "Limit<creditlimit"}
        self.covered.clear()
        self.rebased = False
        self.window += 1

    def allowed(self, pair: tuple[str, str], row: str) -> list[Value] | None:
        """Return the values that a field of a pair may hold once all rests; None when no user ever touched it."""
        found = [edit for side, record in zip(Side, pair, strict=True) if (edit := self.edits.get((side, record, row)))]
        if not found or self.rebased:
            return None
        either = max(self.open_since.get(pair, -1), self.all_open)
        latest = max(max(edit.window, either) for edit in found)
        return [edit.value for edit in found if max(edit.window, either) == latest]


class People:
    """What users do, noted in the journal."""

    def __init__(self, world: World) -> None:
        self.world, self.journal = world, Journal()
        self.number = 0
        self.lags: dict[Side, int] = dict.fromkeys(Side, 0)
        """So many reads of a side still show records as they were before an edit."""
        self.lagged = False
        """True once a replica lagged: then a header and its sums may be older than its lines."""
        self.lost: dict[Side, dict[str, Record]] = {side: {} for side in Side}
        """Deleted records, which somebody may restore."""
        self.removed: dict[Side, dict[str, Column]] = {}
        """Columns that somebody took away from a system."""
        self.late = 0
        """Fields that a late write of ours changed."""
        for system in (world.creatio, world.dynamics):
            system.landed = partial(self._overtaken, system)
        self.reborn = False
        """True once a record came back: a code may then be on two records without anybody having made it twice."""

    def ids(self, side: Side, entity: str | None = None) -> list[str]:
        """Return the records of a side that a user can work on, in a fixed order."""
        system = self.world.system(side)
        return sorted(i for i in system.records if i not in system.merged and system.elsewhere.get(i) == entity)

    def create(self, side: Side, name: str, code: str | None, parent: int | None, zip_code: str | None, entity: str | None = None) -> None:
        """Create a record, possibly below another one."""
        self.number += 1
        record_id, system = guid(9000 + self.number), self.world.system(side)
        parents = self.ids(side)
        above = parents[parent % len(parents)] if parents and parent is not None else None
        if entity is not None:
            system.elsewhere[record_id] = entity
        if side is Side.CREATIO:
            system.create_as_user(record_id, Id=record_id, Name=name, Code=code, Zip=zip_code, ParentId=above, Active=True)
        else:
            system.create_as_user(record_id, name=name, accountnumber=code, zip=zip_code, parentaccountid=above, active=True)
        self.journal.born_by_user.add(record_id)
        self.journal.note(side, record_id, "Name=name", name)
        if zip_code is not None:
            self.journal.note(side, record_id, "Zip=zip", zip_code)

    def edit(self, side: Side, record_id: str, row: str, text: str) -> None:
        """Edit a field of a record."""
        system, column = self.world.system(side), column_of(row, side)
        if column not in system.columns or record_id not in system.records:
            return
        value = _fitting(system, side, column, text)
        self._lag(side, record_id)
        system.edit_as_user(record_id, **{column: value})
        self.journal.note(side, record_id, row, value)

    def link(self, side: Side, record_id: str, above: str | None) -> None:
        """Put a record below another one."""
        self._lag(side, record_id)
        self.world.system(side).edit_as_user(record_id, **{"ParentId" if side is Side.CREATIO else "parentaccountid": above})

    def delete(self, side: Side, record_id: str) -> None:
        """Delete a record."""
        system = self.world.system(side)
        self.lost[side][record_id] = system.records[record_id]
        system.delete_as_user(record_id)

    def restore(self, side: Side, record_id: str) -> None:
        """Bring a deleted record back as it was."""
        self.reborn = True
        record = self.lost[side].pop(record_id)
        if record_id not in self.world.system(side).records:
            self.world.system(side).create_as_user(record_id, **record.values)

    def merge(self, loser: str, winner: str) -> None:
        """Merge one record of Dynamics into another."""
        self.world.dynamics.merge_as_user(loser, winner)

    def _overtaken(self, system: FakeSystem, record_id: str, before: Record) -> None:
        """Note what a write of ours that was done late has covered: in Creatio nothing can keep it from that (law 8)."""
        after = system.records.get(record_id)
        for row in ROWS:
            column = column_of(row, system.side)
            if after is not None and after.values.get(column) != before.values.get(column):
                self.late += 1
                self.journal.note(system.side, record_id, row, after.values.get(column))

    def _lag(self, side: Side, record_id: str) -> None:
        system = self.world.system(side)
        if self.lags[side]:
            system.stale_for.setdefault(record_id, system.records[record_id])

    def reads(self, side: Side) -> None:
        """Count a read of a side; the replica catches up after the last one of its lag."""
        if self.lags[side]:
            self.lags[side] -= 1
            if not self.lags[side]:
                self.world.system(side).stale_for.clear()


def _fitting(system: FakeSystem, side: Side, column: str, text: str) -> Value:
    """Return what a form of the system stores for a text that a user types into a column."""
    value: Value = Decimal(len(text)) if column in ("Limit", "creditlimit") else text
    if column in ("Name", "name"):
        value = text or "unnamed"
    longest = system.columns[column].max_length or 99
    if side is Side.DYNAMICS and isinstance(value, str) and utf16_length(value) > longest:
        value = value[:longest].rstrip()
    if side is Side.CREATIO and value in ("", Decimal(0)):
        value = None
    return value or None
