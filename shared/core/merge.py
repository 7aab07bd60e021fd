"""The merge of one field: laws 1 to 4 of the design, as a pure decision.

Each side of a field has a *standing* against its base: unchanged, changed, or unknown (no base, or one that can't be verified).
A base that a write left unconfirmed is settled first (`_confirmed`). Then one table decides:

    creatio     dynamics    two-way row                          one-way row
    unchanged   unchanged   nothing                              nothing
    changed     unchanged   write to dynamics                    source changed: write; receiver changed: restore, or keep drift
    unchanged   changed     write to creatio                     (the same)
    changed     changed     equal: settle; else the owner        equal: settle; else the source wins
    unknown     any         equal: settle; one side empty: the   equal: settle; source empty: leave the receiver as it is;
    any         unknown     filled side wins; else the owner     else the source wins

A side that leads, because a person said so or in a `rebase` run, wins every two-way row that is not equal. A field that was written
often without a person's edit is not written again: it is a conflict (law 14).

"Settle" takes the present values as bases; nothing is written. Equal means equal under the mapping in a direction that the row has.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from shared.core.binding import FieldState
from shared.core.mapping import AnyRow
from shared.core.records import SIDES, Side, Value, is_empty
from shared.core.rules import Converted, State, same

MOST_WRITES = 5
_MOST_DOUBTFUL = 3
_WRITES_WITHIN = timedelta(hours=1)
"""A field that was written more often than that to one record, without a person's edit, is fought over (law 14)."""


class Action(StrEnum):
    """What a field's decision asks for. `held`: the target refused this very value before, so it is not sent again (law 13)."""

    NOTHING = "nothing"
    WRITE = "write"
    CONFLICT = "conflict"
    PROBLEM = "problem"
    PENDING = "pending"
    HELD = "held"


class Standing(StrEnum):
    """How a side stands against its base."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    UNKNOWN = "unknown"


class Face(NamedTuple):
    """One side of a field: its value, its fingerprint under the present key and under the state's key, its value in the other's terms."""

    value: Value
    print: str
    stored_print: str
    convert: Callable[[], Converted] | None
    """Gives the value in the other side's terms; None when the row's way does not lead there. Unchanged fields never need it."""
    changed_by_us: bool


class FieldDecision(NamedTuple):
    """What to do with one field. `state` is what the ledger keeps when nothing is written (None: leave it as it is)."""

    row: AnyRow
    action: Action
    state: FieldState | None = None
    to: Side | None = None
    value: Value = None
    restores: bool = False
    counts: bool = False
    """True for a write that no person's edit is behind (law 14)."""
    code: str = ""
    """Why nothing can be written; of a write, a remark on its value."""
    detail: str = ""
    waits_for: tuple[str, Side, str] | None = None


class Question(NamedTuple):
    """One field to decide: the row with its owner, its hash and the present key id, what is known, and both faces."""

    row: AnyRow
    owner: str
    row_hash: str
    key_id: str
    state: FieldState | None
    creatio: Face
    dynamics: Face
    leading: Side | None = None
    """The side whose value counts, by a person's decision or in a `rebase` run."""
    at: datetime | None = None
    """The present moment; without it no writes are counted."""

    def face(self, side: Side) -> Face:
        """Return the face of one side."""
        return self.creatio if side is Side.CREATIO else self.dynamics


def decide(question: Question) -> FieldDecision:
    """Decide what one field of a bound record needs."""
    return _merged(question) if question.leading is None else _led(question, question.leading)


def _merged(question: Question) -> FieldDecision:
    state, override = _confirmed(question)
    standings = [override.get(side) or _standing(question, state, side) for side in SIDES]
    if Standing.UNKNOWN in standings:
        return _without_base(question, state)
    changed = [side for side, standing in zip(SIDES, standings, strict=True) if standing is Standing.CHANGED]
    if not changed:
        if state is not None and state.pending and state.sent_to is not None:
            return _write(question, state, state.sent_to)
        return FieldDecision(question.row, Action.NOTHING, _renewed(question, state))
    if _equal(question):
        return FieldDecision(question.row, Action.NOTHING, settled(question, state))
    if len(changed) == 1:
        return _one_changed(question, state, changed[0])
    return _by_owner(question, state)


def settled(question: Question, state: FieldState | None) -> FieldState:
    """Return the state that takes the present values of both sides as bases."""
    return FieldState(
        row_hash=question.row_hash,
        key_id=question.key_id,
        creatio=question.creatio.print,
        dynamics=question.dynamics.print,
        set_from=state.set_from if state else None,
        set_at=state.set_at if state else None,
        set_by_run=state.set_by_run if state else "",
        writes=state.writes if state else 0,
        writes_since=state.writes_since if state else None,
        earlier=state.earlier if state and state.key_id == question.key_id else (),
    )


def intended(question: Question, state: FieldState | None, to: Side, sent: str) -> FieldState:
    """Return the state kept before a write: both bases as they were, and what is sent over what, unconfirmed (law 4).

    With the bases kept, a write that turns out not to have happened is decided again as it was the first time: a reference that had
    waited is `pending` until it is written. All fingerprints of one state are under one key, the stored one while there is a state;
    `sent` must be under it too.
    """
    old = state or FieldState(question.row_hash, question.key_id)
    return old._replace(
        row_hash=question.row_hash,
        sent=sent,
        sent_to=to,
        sent_source=question.face(to.other).stored_print,
        sent_over=question.face(to).stored_print,
        refused=None,
    )


def tally(decision: FieldDecision, state: FieldState | None, at: datetime) -> tuple[int, datetime | None]:
    """Return how often a field was written without a person's edit, this write included, and since when (law 14)."""
    if not decision.counts:
        return 0, None
    before = _recent_writes(state, at)
    return before + 1, (state.writes_since if state and before else at)


def _recent_writes(state: FieldState | None, at: datetime | None) -> int:
    if state is None or state.writes_since is None or at is None or at - state.writes_since >= _WRITES_WITHIN:
        return 0
    return state.writes


def cleared(state: FieldState) -> FieldState:
    """Return the state without its unconfirmed write."""
    return state._replace(sent=None, sent_to=None, sent_source=None, sent_over=None)


def _not_done(state: FieldState) -> FieldState:
    """Return the state of a write that was not found done; it is remembered, for it may be done later all the same."""
    doubtful = state.earlier
    if state.sent_to is not None and state.sent is not None:
        one = (state.sent_to, state.sent, state.sent_source or "")
        doubtful = (*(other for other in doubtful if other != one), one)[-_MOST_DOUBTFUL:]
    return cleared(state)._replace(earlier=doubtful, sent_to=state.sent_to if state.pending else None)


def joined_hash(row_hash: str, since: str) -> str:
    """Return the hash of a row whose column was away until some moment."""
    return f"{row_hash}.{since}" if since else row_hash


def _standing(question: Question, state: FieldState | None, side: Side) -> Standing:
    base = state.base(side) if state else None
    if state is None or base is None:
        return Standing.UNKNOWN
    if question.face(side).stored_print == base:
        return Standing.UNCHANGED
    was_away = state.row_hash.partition(".")[2] != question.row_hash.partition(".")[2]
    # A column that was removed and made again is empty everywhere; nobody emptied it.
    return Standing.UNKNOWN if was_away and is_empty(question.face(side).value) else Standing.CHANGED


def _confirmed(  # noqa: PLR0911 - one line a finding reads best
    question: Question,
) -> tuple[FieldState | None, dict[Side, Standing]]:
    """Settle what an unconfirmed write left open, by what the target holds now (law 4)."""
    state = question.state
    if state is None:
        return None, {}
    if state.sent is None or state.sent_to is None:
        return _done_late(question, state) or (state, {})
    target = question.face(state.sent_to)
    if target.stored_print == state.sent:
        return _with_bases(state, state.sent), {state.sent_to: Standing.UNCHANGED}
    if target.stored_print == state.sent_over:
        return _not_done(state), {}
    if late := _done_late(question, state):
        return late
    if target.changed_by_us:
        return _with_bases(state, target.stored_print), {state.sent_to: Standing.UNCHANGED}
    return _with_bases(state, state.sent), {state.sent_to: Standing.CHANGED}


def _done_late(question: Question, state: FieldState) -> tuple[FieldState, dict[Side, Standing]] | None:
    """Recognise a write of ours that was done long after its turn: neither an edit nor what a server made of a later write."""
    for side, sent, source in state.earlier:
        face = question.face(side)
        if face.stored_print == sent and face.changed_by_us and state.base(side) != sent:
            bases = {side: sent, side.other: source or None}
            found = cleared(state)._replace(creatio=bases[Side.CREATIO], dynamics=bases[Side.DYNAMICS], pending=False)
            return found, {side: Standing.UNCHANGED}
    return None


def _with_bases(state: FieldState, target_base: str) -> FieldState:
    assert state.sent_to is not None  # noqa: S101 - only called for an open write
    bases = {state.sent_to: target_base, state.sent_to.other: state.sent_source}
    # One step for a write that was found done, `cleared` with the new bases: every field of every written record comes by here.
    return FieldState(
        row_hash=state.row_hash,
        key_id=state.key_id,
        creatio=bases[Side.CREATIO],
        dynamics=bases[Side.DYNAMICS],
        set_from=state.set_from,
        set_at=state.set_at,
        set_by_run=state.set_by_run,
        refused=state.refused,
        writes=state.writes,
        writes_since=state.writes_since,
        earlier=state.earlier,
    )


def _renewed(question: Question, state: FieldState | None) -> FieldState | None:
    """Return the state under the present row hash and key; None when it is up to date already."""
    if (
        state == question.state
        and state is not None
        and state.refused is None
        and (state.row_hash, state.key_id) == (question.row_hash, question.key_id)
    ):
        return None
    return settled(question, state)


def _equal(question: Question) -> bool:
    row, creatio, dynamics = question.row, question.creatio, question.dynamics
    return _is_there(row, creatio, dynamics) or _is_there(row, dynamics, creatio)


def _is_there(row: AnyRow, source: Face, target: Face) -> bool:
    """Tell whether what a side's value is in the other one's terms is there already."""
    if source.convert is None:
        return False
    converted = source.convert()
    return converted.state is State.VALUE and same(row, converted.value, target.value)


def _led(question: Question, leading: Side) -> FieldDecision:
    """Let a side win. What an earlier write left open is of no interest any more; a one-way row keeps its way.

    What was emptied at the source of a one-way row, or deleted there, goes over: its base tells that it was filled.
    """
    state = cleared(question.state) if question.state else None
    source = question.row.source
    if source is not None:
        emptied = is_empty(question.face(source).value) and _standing(question, state, source) is Standing.CHANGED
        return _write(question, state, source.other) if emptied and not _equal(question) else _without_base(question, state)
    if _equal(question):
        return FieldDecision(question.row, Action.NOTHING, settled(question, state))
    return _write(question, state, leading.other)


def _without_base(question: Question, state: FieldState | None) -> FieldDecision:
    row = question.row
    if _equal(question):
        return FieldDecision(row, Action.NOTHING, settled(question, state))
    if row.source is not None:
        carries = not row.columns(row.source) or not is_empty(question.face(row.source).value)
        if not carries and not is_empty(question.face(row.source.other).value):
            return FieldDecision(row, Action.NOTHING, settled(question, state))
        return _write(question, state, row.source.other)
    empty = [side for side in SIDES if is_empty(question.face(side).value)]
    if len(empty) == 1:
        return _write(question, state, empty[0])
    return _by_owner(question, state)


def _one_changed(question: Question, state: FieldState | None, side: Side) -> FieldDecision:
    row = question.row
    if row.writes(side.other):
        return _write(question, state, side.other)
    if row.drift == "keep":
        return FieldDecision(row, Action.NOTHING, None if state is question.state else state)
    return _write(question, state, side, restores=True)


def _by_owner(question: Question, state: FieldState | None) -> FieldDecision:
    row = question.row
    if row.source is not None:
        return _write(question, state, row.source.other, restores=True)
    if question.owner == "ask":
        return FieldDecision(row, Action.CONFLICT, None if state is question.state else state, code="merge.both_changed")
    return _write(question, state, Side(question.owner).other)


def _write(  # noqa: PLR0911 - reasons not to write read best one by one
    question: Question, state: FieldState | None, to: Side, *, restores: bool = False
) -> FieldDecision:
    row, source = question.row, question.face(to.other)
    assert source.convert is not None  # noqa: S101 - a write follows the row's way
    converted = source.convert()
    confirmed = None if state is question.state else state
    if converted.state is State.PROBLEM:
        return FieldDecision(row, Action.PROBLEM, confirmed, to, code=converted.code, detail=converted.detail)
    if converted.state is State.PENDING:
        waiting = _pending(question, state, to)
        return FieldDecision(row, Action.PENDING, None if waiting == question.state else waiting, to, waits_for=converted.waits_for)
    stands_in = converted.code and (state is None or state.base(to) is None) and not is_empty(question.face(to).value)
    if converted.state is State.KEPT or stands_in:  # who stands in for somebody unknown takes nothing from an owner nobody has compared yet
        return FieldDecision(row, Action.NOTHING, confirmed, to)
    if row.required and is_empty(converted.value):
        return FieldDecision(row, Action.PROBLEM, confirmed, to, code="mapping.required", detail=row.key)
    if state and state.refused is not None and state.refused == source.stored_print:
        return FieldDecision(row, Action.HELD, confirmed, to)
    counts = restores or source.changed_by_us
    if counts and question.leading is None and _recent_writes(state, question.at) >= MOST_WRITES:
        return FieldDecision(row, Action.CONFLICT, confirmed, code="merge.fights")
    return FieldDecision(row, Action.WRITE, state, to, converted.value, restores, counts, converted.code)


def _pending(question: Question, state: FieldState | None, to: Side) -> FieldState:
    """Return the state of a reference that waits: without bases the present values are, so that only a later edit is a change (law 9)."""
    old = state or FieldState(question.row_hash, question.key_id)
    if old.creatio is None or old.dynamics is None:
        old = old._replace(creatio=question.creatio.stored_print, dynamics=question.dynamics.stored_print)
    return old._replace(pending=True, sent_to=to)
