"""The table of the merge, cell by cell, and what holds for every cell of it (laws 1 to 4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.binding import FieldState
from shared.core.mapping import CopyRow
from shared.core.merge import Action, Face, FieldDecision, Question, decide, intended
from shared.core.records import Side
from shared.core.rules import Converted, State

CREATIO, DYNAMICS = Side.CREATIO, Side.DYNAMICS
HASH, KEY = "hash", "key"
NOBASE = object()
MIRRORED = {"=": "=", ">": "<", "<": ">", "creatio": "dynamics", "dynamics": "creatio", "ask": "ask"}


def printed(side, value) -> str:
    """Return the fingerprint of a value, readable."""
    return f"{side.value}:{value}"


def copied(way="=", **more) -> CopyRow:
    """Return a row that copies a text."""
    return CopyRow(creatio="Here", way=way, dynamics="there", **more)


def known(creatio=NOBASE, dynamics=NOBASE, **more) -> FieldState:
    """Return a state whose bases are these values."""
    bases = {side: None if base is NOBASE else printed(side, base) for side, base in ((CREATIO, creatio), (DYNAMICS, dynamics))}
    return FieldState(HASH, KEY, bases[CREATIO], bases[DYNAMICS], **more)


def asked(row, state, creatio, dynamics, owner="creatio", *, convert=None, ours=()) -> Question:
    """Return the question of a field whose values are these; `ours` names the sides that we changed last."""

    def face(side, value) -> Face:
        there = convert or (lambda: Converted(State.VALUE, value))
        mark = printed(side, value)
        return Face(value, mark, mark, there if row.writes(side.other) else None, side in ours)

    return Question(row, owner, HASH, KEY, state, face(CREATIO, creatio), face(DYNAMICS, dynamics))


def wrote(to, value, *, restores=False):
    """Return what a cell says that writes."""
    return Action.WRITE, to, value, restores


NOTHING = (Action.NOTHING, None, None, False)
CONFLICT = (Action.CONFLICT, None, None, False)


def said(decision):
    """Return what a cell of the table says: action, target, value, whether it puts something back."""
    return decision.action, decision.to, decision.value, decision.restores


TABLE = [
    # way, owner, base here, base there, value here, value there, what comes of it
    ("=", "creatio", "a", "a", "a", "a", NOTHING),
    ("=", "creatio", "a", "cut", "a", "cut", NOTHING),
    ("=", "dynamics", "a", "a", "b", "a", wrote(DYNAMICS, "b")),
    ("=", "creatio", "a", "a", "a", "b", wrote(CREATIO, "b")),
    ("=", "dynamics", "a", "a", None, "a", wrote(DYNAMICS, None)),
    ("=", "creatio", "a", "a", "b", "b", NOTHING),
    ("=", "creatio", "a", "a", "b", "c", wrote(DYNAMICS, "b")),
    ("=", "dynamics", "a", "a", "b", "c", wrote(CREATIO, "c")),
    ("=", "ask", "a", "a", "b", "c", CONFLICT),
    ("=", "ask", "a", "a", "b", "a", wrote(DYNAMICS, "b")),
    (">", "creatio", "a", "a", "b", "a", wrote(DYNAMICS, "b")),
    (">", "creatio", "a", "a", "a", "b", wrote(DYNAMICS, "a", restores=True)),
    (">", "dynamics", "a", "a", "b", "c", wrote(DYNAMICS, "b", restores=True)),
    (">", "ask", "a", "a", "b", "c", wrote(DYNAMICS, "b", restores=True)),
    (">", "creatio", "a", "a", None, "a", wrote(DYNAMICS, None)),
    ("<", "creatio", "a", "a", "a", "b", wrote(CREATIO, "b")),
    ("<", "creatio", "a", "a", "b", "a", wrote(CREATIO, "a", restores=True)),
    ("<", "creatio", "a", "a", "b", "b", NOTHING),
    ("=", "creatio", NOBASE, NOBASE, "a", "a", NOTHING),
    ("=", "creatio", NOBASE, NOBASE, None, None, NOTHING),
    ("=", "dynamics", NOBASE, NOBASE, "a", None, wrote(DYNAMICS, "a")),
    ("=", "creatio", NOBASE, NOBASE, None, "b", wrote(CREATIO, "b")),
    ("=", "creatio", NOBASE, NOBASE, False, None, wrote(DYNAMICS, False)),  # noqa: FBT003 - a value
    ("=", "creatio", NOBASE, NOBASE, "a", "b", wrote(DYNAMICS, "a")),
    ("=", "dynamics", NOBASE, NOBASE, "a", "b", wrote(CREATIO, "b")),
    ("=", "ask", NOBASE, NOBASE, "a", "b", CONFLICT),
    ("=", "ask", NOBASE, NOBASE, "a", None, wrote(DYNAMICS, "a")),
    ("=", "dynamics", "a", NOBASE, "a", "b", wrote(CREATIO, "b")),
    ("=", "creatio", NOBASE, "b", "a", "b", wrote(DYNAMICS, "a")),
    (">", "creatio", NOBASE, NOBASE, "a", "b", wrote(DYNAMICS, "a")),
    (">", "dynamics", NOBASE, NOBASE, "a", None, wrote(DYNAMICS, "a")),
    (">", "creatio", NOBASE, NOBASE, None, "b", NOTHING),
    ("<", "creatio", NOBASE, NOBASE, "a", None, NOTHING),
    ("<", "creatio", NOBASE, NOBASE, "a", "b", wrote(CREATIO, "b")),
]


@pytest.mark.parametrize(("way", "owner", "base_here", "base_there", "here", "there", "wanted"), TABLE)
def test_each_cell_of_the_table(way, owner, base_here, base_there, here, there, wanted) -> None:
    """Way, owner, bases and values decide: the table of core/merge.py with an example for each cell."""
    state = None if base_here is NOBASE and base_there is NOBASE else known(base_here, base_there)
    assert said(decide(asked(copied(way), state, here, there, owner))) == wanted


@pytest.mark.parametrize(("way", "here", "there"), [(">", "a", "b"), ("<", "b", "a")])
def test_kept_drift_is_neither_written_nor_forgotten(way, here, there) -> None:
    """Where the row keeps drift the receiver's edit stays, its base too, so that a later edit of the source is still seen."""
    row = copied(way, drift="keep")
    drifted = asked(row, known("a", "a"), here, there)
    assert decide(drifted) == FieldDecision(row, Action.NOTHING)
    to = row.source.other
    later = asked(row, known("a", "a"), *(("z", there) if way == ">" else (here, "z")))
    assert said(decide(later)) == wrote(to, "z", restores=True)


def test_settling_takes_both_present_values_as_bases() -> None:
    """Equal edits on both sides become the new bases under the present row hash and key; who set the field stays known."""
    old = known("a", "a")._replace(row_hash="older", set_from=CREATIO, set_by_run="run7")
    decision = decide(asked(copied(), old, "b", "b"))
    assert decision.state == known("b", "b")._replace(set_from=CREATIO, set_by_run="run7")


def test_an_unchanged_field_under_an_older_row_hash_is_renewed_without_a_write() -> None:
    """A changed mapping alone writes nothing: what the stored bases verify is kept under the new hash (law 1)."""
    decision = decide(asked(copied(), known("a", "b")._replace(row_hash="older"), "a", "b"))
    assert (decision.action, decision.state) == (Action.NOTHING, known("a", "b"))


OUTCOMES = [
    (Converted(State.PROBLEM, code="mapping.too_long", detail="why"), Action.PROBLEM),
    (Converted(State.PENDING, waits_for=("flow", CREATIO, "id")), Action.PENDING),
    (Converted(State.KEPT), Action.NOTHING),
]


@pytest.mark.parametrize(("converted", "action"), OUTCOMES)
def test_a_value_that_can_not_cross_is_not_written(converted, action) -> None:
    """A problem, a missing partner and a reference that waits write nothing, and say which."""
    decision = decide(asked(copied(), known("a", "a"), "b", "a", convert=lambda: converted))
    assert decision.action is action
    assert (decision.code, decision.detail, decision.waits_for) == (converted.code, converted.detail, converted.waits_for)
    assert (decision.state is not None and decision.state.pending) == (action is Action.PENDING)


def test_a_required_field_is_never_emptied() -> None:
    """An empty source of a required row is a problem for a person."""
    decision = decide(asked(copied(required=True), known("a", "a"), None, "a"))
    assert (decision.action, decision.code) == (Action.PROBLEM, "mapping.required")


def test_a_refused_value_is_held_until_its_source_changes() -> None:
    """The same source value is not sent again, another one is (law 13)."""
    state = known("a", "a")._replace(refused=printed(CREATIO, "b"))
    assert decide(asked(copied(), state, "b", "a")).action is Action.HELD
    assert said(decide(asked(copied(), state, "c", "a"))) == wrote(DYNAMICS, "c")


SENT = known("a", "a", sent=printed(DYNAMICS, "b"), sent_to=DYNAMICS, sent_source=printed(CREATIO, "b"), sent_over=printed(DYNAMICS, "a"))


@pytest.mark.parametrize(
    ("there", "ours", "wanted"),
    [
        ("b", True, NOTHING),
        ("a", False, wrote(DYNAMICS, "b")),
        ("B", True, NOTHING),
        ("edited", False, wrote(CREATIO, "edited")),
    ],
)
def test_an_unconfirmed_write_is_judged_by_what_the_target_holds(there, ours, wanted) -> None:
    """Sent: done. Old: not written. Another by us: a normalisation. Another by a user: an edit, which wins over any owner (law 4)."""
    question = asked(copied(), SENT, "b", there, "creatio", ours=(DYNAMICS,) if ours else ())
    assert said(decide(question)) == wanted


# --- what holds for every cell ----------------------------------------------------------------------------------------------

VALUES = st.sampled_from([None, "a", "b", "c", False])
BASES = st.sampled_from([NOBASE, None, "a", "b", "c"])


@st.composite
def questions(draw) -> Question:
    """Make a question with any row, owner, bases, values, and perhaps an open write."""
    row = copied(draw(st.sampled_from("=><")), drift="restore")
    if row.way != "=" and draw(st.booleans()):
        row = copied(row.way, drift="keep")
    state = draw(st.none() | st.builds(known, BASES, BASES))
    if state is not None and draw(st.booleans()):
        to = draw(st.sampled_from([side for side in Side if row.writes(side)]))
        state = state._replace(sent=printed(to, draw(VALUES)), sent_to=to, sent_source=printed(to.other, draw(VALUES)))
        state = state._replace(sent_over=printed(to, draw(VALUES)))
    owner, ours = draw(st.sampled_from(["creatio", "dynamics", "ask"])), draw(st.sets(st.sampled_from(list(Side))))
    return asked(row, state, draw(VALUES), draw(VALUES), owner, ours=ours)


def turned(text):
    """Return a fingerprint of the other side."""
    return None if text is None else printed(Side(text.split(":", 1)[0]).other, text.split(":", 1)[1])


def turned_state(state):
    """Return a state with its sides swapped."""
    if state is None:
        return None
    return state._replace(
        creatio=turned(state.dynamics),
        dynamics=turned(state.creatio),
        sent=turned(state.sent),
        sent_source=turned(state.sent_source),
        sent_over=turned(state.sent_over),
        sent_to=state.sent_to.other if state.sent_to else None,
        earlier=tuple((side.other, turned(sent), turned(source) or "") for side, sent, source in state.earlier),
    )


def mirror(question) -> Question:
    """Return the question as it stands in a mirror: sides, way and owner swapped."""
    row = copied(MIRRORED[question.row.way], drift=question.row.drift)
    ours = {side.other for side in Side if question.face(side).changed_by_us}
    state = turned_state(question.state)
    return asked(row, state, question.dynamics.value, question.creatio.value, MIRRORED[question.owner], ours=ours)


@given(question=questions())
def test_neither_side_is_special(question) -> None:
    """The mirrored question has the mirrored answer: nothing in the merge knows which system is which."""
    answer, mirrored = decide(question), decide(mirror(question))
    assert mirrored.action is answer.action
    assert mirrored.to is (answer.to.other if answer.to else None)
    assert (mirrored.value, mirrored.restores) == (answer.value, answer.restores)
    assert mirrored.state == turned_state(answer.state)


@given(question=questions())
def test_nothing_is_written_against_the_way_or_when_equal(question) -> None:
    """A write goes only where the row's way leads, carries the other side's value, and never the value that is there already."""
    decision = decide(question)
    if question.creatio.value == question.dynamics.value:
        assert decision.action is Action.NOTHING
    if decision.action is Action.WRITE:
        assert question.row.writes(decision.to)
        assert decision.value == question.face(decision.to.other).value
        assert decision.value != question.face(decision.to).value


def carried_out(question, decision) -> Question:
    """Return the question that the field raises after its decision was carried out and recorded."""
    values = {side: question.face(side).value for side in Side}
    state = question.state if decision.state is None else decision.state
    if decision.action is Action.WRITE:
        sent = intended(question, decision.state, decision.to, printed(decision.to, decision.value))
        assert sent.sent_to is decision.to
        values[decision.to] = decision.value
        state = sent
    return asked(question.row, state, values[CREATIO], values[DYNAMICS], question.owner)


@given(question=questions())
def test_a_decision_that_was_carried_out_is_not_made_again(question) -> None:
    """After a write whose result was lost, or a settlement, the field asks at most to be settled, and after that for nothing."""
    decision = decide(question)
    after = carried_out(question, decision)
    again = decide(after)
    if decision.action is Action.CONFLICT:
        assert again.action is Action.CONFLICT
        return
    assert again.action is Action.NOTHING
    assert decide(carried_out(after, again)) == FieldDecision(question.row, Action.NOTHING)
