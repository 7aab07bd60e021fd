"""The journal of what users did under fire, and the verdict on each of their edits: kept, lawfully outvoted, or lost.

In a two-way row that Creatio owns the end is foreseeable: Dynamics' last value stands when a user of Dynamics had Creatio's last value
before his eyes when he edited; otherwise the two edits met, and Creatio's stands. An edit in Dynamics that met a write of ours whose
answer was lost stands too, as Creatio had not changed since (law 4): those are counted as `doubtful`. What differs from that is lost,
unless our own write overran a user's edit in Creatio within the documented window: Creatio can't refuse a write to a row that somebody
has just saved.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CREATIO, DYNAMICS = "creatio", "dataverse"
WINDOW_SECONDS = 5.0
"""How long after a user's save our write may overrun it: planned from a read before it, sent after it, its answer lost in a crash."""


@dataclass(frozen=True)
class Column:
    """A mapped field that users edit: its column on each side; `one_way` when only Dynamics decides; `lookup` when its values recur."""

    creatio: str
    dynamics: str
    one_way: bool = False
    lookup: bool = False

    def on(self, side: str) -> str:
        return self.creatio if side == CREATIO else self.dynamics


@dataclass(frozen=True)
class Edit:
    """One field that a user saved. `record` is the natural key, `saw` what stood there before."""

    at: float
    side: str
    flow: str
    record: str
    row_id: str
    column: Column
    value: Any
    saw: Any

    def __str__(self) -> str:
        where = f"{self.side} {self.flow} {self.record} ({self.row_id}) {self.column.on(self.side)}"
        return f"{self.at:.2f} {where}: {self.saw!r} -> {self.value!r}"


@dataclass(frozen=True)
class Step:
    """One change of a Creatio row, as its server kept it."""

    at: float
    entity: str
    row_id: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass
class CreatioPast:
    """What the Creatio stand-in remembers of its rows; it forgets after ten minutes, so it is asked more than once."""

    file: Path
    kept: dict[int, tuple[str, str, float, Any]] = field(default_factory=dict)

    def remember(self) -> None:
        """Take over what there is now."""
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as database:
            for number, entity, row_id, at, row in database.execute('SELECT rowid, entity, id, at, row FROM "_history"'):
                self.kept[number] = (entity, row_id, at, json.loads(row) if row else {})

    def steps(self, now: Mapping[str, Mapping[str, Any]]) -> list[Step]:
        """Return every change in order; `now` has the rows as they are, by id."""
        following: dict[str, Mapping[str, Any]] = dict(now)
        found = []
        for _, (entity, row_id, at, before) in sorted(self.kept.items(), reverse=True):
            found.append(Step(at, entity, row_id, before, following.get(row_id, {})))
            following[row_id] = before
        return found[::-1]


def before_last_write(file: Path, entity: str, row_id: str) -> Mapping[str, Any]:
    """Return what a Dataverse row was before its last write, as its server kept it."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT row FROM _previous WHERE entity = ? AND id = ?", (entity, row_id)).fetchone()
    return (json.loads(found[0]) if found else None) or {}


@dataclass(frozen=True)
class Verdict:
    """What the edits of all users came to. `overrun` are those lost in the window, `lost` those lost outside of it."""

    kept: int
    outvoted: int
    put_back: int
    doubtful: int
    overrun: Sequence[str]
    lost: Sequence[str]

    def __str__(self) -> str:
        counts = (
            f"{self.kept} fields as the last user left them, {self.outvoted} outvoted, {self.put_back} put back, {self.doubtful} doubtful"
        )
        return f"{counts}, {len(self.overrun)} overrun within the window, {len(self.lost)} lost"


@dataclass(frozen=True)
class Court:
    """Judges the journal by the rows in the end, Creatio's past, and who Tandem is there.

    `rows` are by side and id, `keys` the natural keys by id; `listed` are records and fields that the app lists as conflicts.
    """

    rows: Mapping[str, Mapping[str, Mapping[str, Any]]]
    keys: Mapping[str, str]
    steps: Sequence[Step]
    tandem: str
    listed: frozenset[tuple[str, str]]

    def judge(self, journal: Iterable[Edit]) -> Verdict:
        """Return the verdict on all edits."""
        fields: defaultdict[tuple[str, str, Column], list[Edit]] = defaultdict(list)
        for edit in journal:
            fields[edit.flow, edit.record, edit.column].append(edit)
        found: defaultdict[str, list[str]] = defaultdict(list)
        for edits in fields.values():
            ordered = sorted(edits, key=lambda edit: edit.at)
            found[self._one(ordered)].append("\n  ".join(map(str, [*ordered, *self._seen(ordered)])))
        kept, outvoted, put_back, doubtful = (len(found[name]) for name in ("kept", "outvoted", "put back", "doubtful"))
        return Verdict(kept, outvoted, put_back, doubtful, found["overrun"], found["lost"])

    def _one(self, edits: Sequence[Edit]) -> str:
        """Judge the edits of one field."""
        last = {edit.side: edit for edit in edits}
        ours, theirs = last.get(CREATIO), last.get(DYNAMICS)
        if edits[0].column.one_way:
            kept = theirs is None or self._stands(theirs)
            return ("kept" if ours is None else "put back") if kept else "lost"
        their_eyes = {self.plain(edit.saw) for edit in edits if edit.side == DYNAMICS}
        winner = theirs if theirs is not None and (ours is None or self.plain(ours.value) in their_eyes) else ours
        assert winner is not None
        if self._stands(winner):
            return "kept" if winner is edits[-1] else "outvoted"
        if winner.column.lookup and any(edit is not None and self._stands(edit) for edit in (ours, theirs)):
            return "outvoted"  # the same record chosen twice: nobody can tell which of the two choices a user had before his eyes
        if (winner.record, f"{winner.column.creatio}={winner.column.dynamics}") in self.listed:
            return "outvoted"
        if winner is ours and self._overrun(ours):
            return "overrun"
        met_in_doubt = winner is ours and theirs is not None and theirs.at > ours.at and self._stands(theirs)
        return "doubtful" if met_in_doubt or (winner is theirs and self._came_back_trimmed(edits)) else "lost"

    def plain(self, value: Any) -> Any:
        """Return a value in a form that is the same on both sides: a lookup by its natural key, text without blanks around it."""
        if isinstance(value, str):
            return self.keys.get(value.lower(), value.strip())
        return value

    def _stands(self, edit: Edit) -> bool:
        row = self.rows[edit.side][edit.row_id]
        return bool(self.plain(row[edit.column.on(edit.side)]) == self.plain(edit.value))

    def _came_back_trimmed(self, edits: Sequence[Edit]) -> bool:
        """Tell whether Dynamics has an earlier text of its own as Creatio trimmed it.

        When the answer to our write is lost and a user of Creatio saves another field next, the trimmed text passes for that user's edit:
        a server's normalisation is told from an edit by who saved the row last (law 4).
        """
        stored = next(self.rows[edit.side][edit.row_id][edit.column.dynamics] for edit in edits if edit.side == DYNAMICS)
        texts = [edit.value for edit in edits if edit.side == DYNAMICS]
        return any(isinstance(text, str) and text != stored and text.strip() == stored for text in texts)

    def _overrun(self, edit: Edit) -> bool:
        """Tell whether Tandem wrote over a user's edit in Creatio so soon that it can't have known of it."""
        for step in self.steps:
            if step.row_id == edit.row_id and step.at >= edit.at and self._holds(step.before, edit) and not self._holds(step.after, edit):
                return step.after.get("ModifiedById") == self.tandem and step.at - edit.at <= WINDOW_SECONDS
        return False

    def _holds(self, row: Mapping[str, Any], edit: Edit) -> bool:
        return bool(self.plain(row.get(edit.column.creatio)) == self.plain(edit.value))

    def _seen(self, edits: Sequence[Edit]) -> list[str]:
        """Return what became of the field in Creatio, step by step, for people."""
        ids = {edit.row_id for edit in edits if edit.side == CREATIO} or {self._partner(edits[0])}
        name = edits[0].column.creatio
        return [
            f"{step.at:.2f} Creatio's row: {step.before.get(name)!r} -> {step.after.get(name)!r} by {self._who(step)}"
            for step in self.steps
            if step.row_id in ids and step.before.get(name) != step.after.get(name)
        ]

    def _partner(self, edit: Edit) -> str:
        return next((row_id for row_id in self.rows[CREATIO] if self.keys.get(row_id) == edit.record), "")

    def _who(self, step: Step) -> str:
        return "Tandem" if step.after.get("ModifiedById") == self.tandem else "a user"
