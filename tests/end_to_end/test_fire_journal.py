"""The verdict of the fire tests on users' edits: it tells a lost edit from one that was lawfully outvoted."""

import pytest

from tests.end_to_end.fire_journal import CREATIO, DYNAMICS, Column, Court, Edit, Step, Verdict

ZIP = Column("Zip", "zip")
LIMIT = Column("Limit", "limit", one_way=True)
TANDEM, GRACE = "tandem", "grace"


def _edit(at, side, value, saw=None, column=ZIP):
    return Edit(at, side, "sales.account", "A-1", "c" if side == CREATIO else "d", column, value, saw)


def _verdict(ends, *edits, steps=(), listed=()):
    """Judge edits of one field that ended on both sides with one value."""
    rows = {CREATIO: {"c": {"Zip": ends, "Limit": ends}}, DYNAMICS: {"d": {"zip": ends, "limit": ends}}}
    return Court(rows, {"c": "A-1", "d": "A-1"}, steps, TANDEM, frozenset(listed)).judge(edits)


def _name(verdict: Verdict) -> str:
    numbers = {"kept": verdict.kept, "outvoted": verdict.outvoted, "put back": verdict.put_back, "doubtful": verdict.doubtful}
    numbers |= {"overrun": len(verdict.overrun), "lost": len(verdict.lost)}
    assert sum(numbers.values()) == 1
    return next(name for name, number in numbers.items() if number)


def _overwritten(at, by):
    return Step(at, "Account", "c", {"Zip": "1"}, {"Zip": "2", "ModifiedById": by})


@pytest.mark.parametrize(
    ("ends", "edits", "expected"),
    [
        ("1", [_edit(1, CREATIO, "1")], "kept"),
        ("0", [_edit(1, CREATIO, "1")], "lost"),
        ("0", [_edit(1, DYNAMICS, "1")], "lost"),
        ("2", [_edit(1, CREATIO, "1"), _edit(2, DYNAMICS, "2", saw="1")], "kept"),
        ("1", [_edit(1, CREATIO, "1"), _edit(2, DYNAMICS, "2", saw="1")], "lost"),
        ("1", [_edit(1, CREATIO, "1"), _edit(2, DYNAMICS, "2", saw="0")], "outvoted"),
        ("2", [_edit(1, CREATIO, "1"), _edit(2, DYNAMICS, "2", saw="0")], "doubtful"),
        ("2", [_edit(1, DYNAMICS, "2"), _edit(2, CREATIO, "1", saw="0")], "lost"),
        ("3", [_edit(1, CREATIO, "1"), _edit(2, DYNAMICS, "2", saw="1"), _edit(3, DYNAMICS, "3", saw="2")], "kept"),
        ("0", [_edit(1, CREATIO, "1", column=LIMIT)], "put back"),
        ("2", [_edit(1, DYNAMICS, "2", column=LIMIT), _edit(2, CREATIO, "1", column=LIMIT)], "put back"),
        ("1", [_edit(1, DYNAMICS, "2", column=LIMIT), _edit(2, CREATIO, "1", column=LIMIT)], "lost"),
    ],
)
def test_the_verdict_on_the_edits_of_a_field(ends, edits, expected):
    """What stands in the end, and what each user had before his eyes, decide whether an edit was kept, outvoted or lost."""
    assert _name(_verdict(ends, *edits)) == expected


@pytest.mark.parametrize(
    ("at", "by", "expected"), [(2.0, TANDEM, "overrun"), (60.0, TANDEM, "lost"), (2.0, GRACE, "lost")], ids=["window", "late", "user"]
)
def test_only_our_own_write_within_the_window_excuses_a_lost_edit(at, by, expected):
    """An edit in Creatio that our write overran a second later is counted apart; a late one, or another user's, excuses nothing."""
    assert _name(_verdict("2", _edit(1, CREATIO, "1"), steps=[_overwritten(at, by)])) == expected


def test_what_the_app_lists_for_a_person_is_not_lost():
    """A field whose conflict is listed may hold either value until somebody decides."""
    assert _name(_verdict("0", _edit(1, CREATIO, "1"), listed=[("A-1", "Zip=zip")])) == "outvoted"
