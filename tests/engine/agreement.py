"""What must hold once all rests: the sides are equal but for what is listed, nothing is doubled, and no user's edit is lost (law 14)."""

from collections import Counter
from collections.abc import Iterable

from shared.core.binding import Binding, BindingState
from shared.core.records import Side, Value
from tests.engine.people import ROWS, Journal, People, column_of
from tests.engine.world import FLOW, World

CONTACTS = "test.contact"


class Agreement:
    """The looks at a world at rest. Each raises AssertionError with the record and what differs."""

    def __init__(self, world: World, people: People) -> None:
        self.world, self.people, self.journal = world, people, people.journal
        ledger = world.ledger
        self.disputed = {(c.creatio_id, c.dynamics_id, c.field) for c in ledger.disputed.values()}
        self.disputed_whole = {i for c in ledger.disputed.values() if not c.field for i in (c.creatio_id, c.dynamics_id, *c.candidates)}
        self.failed = {(f.record_id, f.field) for f in ledger.failed.values()} - {("", "")}
        self.held = {i for one in ledger.held.values() for i in (one.record_id, one.twin_id)}
        self.waiting = {(row.record_id, row.field) for row in ledger.waiting.values()}

    def check(self) -> None:
        """Look at everything."""
        for binding in self.world.ledger.bound:
            if binding.state is BindingState.BOUND and binding.flow in (FLOW, CONTACTS):
                self._pair(binding)
            assert binding.state is not BindingState.CREATING, f"a create was left open: {binding}"
        self._all_bound()
        self._no_doubles()
        self._nothing_stale_is_listed()

    def _pair(self, binding: Binding) -> None:
        pair = (binding.creatio_id or "", binding.dynamics_id or "")
        gone = [side for side, i in zip(Side, pair, strict=True) if i not in self.world.system(side).records]
        if gone:
            listed = {*self.disputed_whole, *self.held, *(record for record, _ in self.failed)}
            assert set(pair) & listed, f"{pair}: gone on {gone}, and nobody is told"
            return
        if self._is_listed(pair, ""):
            return
        for row in ROWS:
            if column_of(row, Side.CREATIO) in self.world.creatio.columns and not self._is_listed(pair, row):
                self._field(binding.flow, pair, row)
        self._links(binding, pair)
        if binding.flow == FLOW:
            assert self.world.dynamics.value(pair[1], "creatioid") == pair[0], f"{pair}: the id column names another record"

    def _field(self, flow: str, pair: tuple[str, str], row: str) -> None:
        if flow == CONTACTS and row != "Name=name":
            return
        values = [self.world.system(side).records[i].values.get(column_of(row, side)) for side, i in zip(Side, pair, strict=True)]
        if row == "Extra=extra" and not any(field["creatio"] == "Extra" for field in self.world.mapping["fields"]):
            return
        if row == "Limit<creditlimit":
            self._one_way(pair, values)
            return
        left, right = (plain(row, value) for value in values)
        assert left == right, f"{pair}: {row} differs: {values}"
        allowed = self.journal.allowed(pair, row)
        if allowed is None:
            return
        if (pair[0], row) in self.journal.covered:
            allowed = [*allowed, self._last(Side.DYNAMICS, pair, row)]
        assert left in [plain(row, value) for value in allowed], f"{pair}: {row} is {values}, though users left {allowed}"

    def _last(self, side: Side, pair: tuple[str, str], row: str) -> Value:
        edit = self.journal.edits.get((side, pair[list(Side).index(side)], row))
        return edit.value if edit else None

    def _one_way(self, pair: tuple[str, str], values: list[Value]) -> None:
        if values[1] is not None:  # law 2: on the first bind an empty source does not blank a filled receiver
            assert values[0] == values[1], f"{pair}: the limit differs: {values}"
        edit = self.journal.edits.get((Side.DYNAMICS, pair[1], "Limit<creditlimit"))
        assert values[1] == (edit.value if edit else None), f"{pair}: somebody wrote against a row's way: {values}"

    def _links(self, binding: Binding, pair: tuple[str, str]) -> None:
        row = "ParentId=parentaccountid"
        above = self.world.creatio.value(pair[0], "ParentId"), self.world.dynamics.value(pair[1], "parentaccountid")
        if self._is_listed(pair, row) or {(i, row) for i in pair} & self.waiting or above == (None, None):
            return
        twins = [b.dynamics_id for b in self.world.ledger.bound if b.flow == FLOW and b.creatio_id == above[0]]
        assert twins, f"{pair}: one side links to a record that the other does not know: {above}"
        assert self._heir(twins[0]) == self._heir(above[1]), f"{pair}: the links lead to different records: {above}"

    def _heir(self, record_id: str | None) -> str | None:
        """Return the record into which one of Dynamics was merged in the end."""
        for _ in range(9):
            record_id = self.world.dynamics.merged.get(record_id or "", record_id)
        return record_id

    def _is_listed(self, pair: tuple[str, str], row: str) -> bool:
        in_conflict = (*pair, row) in self.disputed or (not row and bool(set(pair) & self.disputed_whole))
        return in_conflict or bool({(i, row) for i in ("", *pair)} & self.failed)

    def _all_bound(self) -> None:
        """Every record has a binding of its own, or is named where a person looks."""
        listed = {*self.disputed_whole, *(i for i, _ in self.failed), *(i for i, _ in self.waiting)}
        for side in Side:
            bound = [b.id_on(side) for b in self.world.ledger.bound if b.id_on(side)]
            assert len(bound) == len(set(bound)), f"{side}: a record is in two bindings"
            known = {b.id_on(side) for b in self.world.ledger.bound if b.state in (BindingState.BOUND, BindingState.ENDED)}
            left_out = set(self.world.system(side).records) - known - listed - set(self.world.system(side).merged)
            assert not left_out, f"never synced: {side} {left_out}"

    def _no_doubles(self) -> None:
        """Tandem makes no second record with a code that it has given one already."""
        if self.people.reborn:
            return
        for side, column in ((Side.CREATIO, "Code"), (Side.DYNAMICS, "accountnumber")):
            system = self.world.system(side)
            made = [i for i in system.records if i not in self.journal.born_by_user]
            codes = Counter((system.elsewhere.get(i), system.value(i, column)) for i in made if system.value(i, column))
            twice = {code: number for code, number in codes.items() if number > 1}
            assert not twice, f"{side}: created twice by code: {twice}"

    def _nothing_stale_is_listed(self) -> None:
        """A conflict about a field is closed when the sides are equal."""
        for conflict in self.world.ledger.disputed.values():
            if conflict.field not in ROWS or conflict.reason != "merge.both_changed":
                continue
            pair = (conflict.creatio_id, conflict.dynamics_id)
            if any(i not in self.world.system(side).records for side, i in zip(Side, pair, strict=True)):
                continue
            values = [
                self.world.system(side).records[i].values.get(column_of(conflict.field, side)) for side, i in zip(Side, pair, strict=True)
            ]
            assert values[0] != values[1], f"{pair}: {conflict.field} is equal, and still a conflict"


def plain(row: str, value: Value) -> Value:
    """Return a value as a normalising server, or a shorter column, would store it, so that its spelling does not count."""
    if isinstance(value, str):
        return value.upper()[:12].rstrip() if row == "Name=name" else value.upper()
    return value or None


CREATIO_OWNS = ("Name=name", "Zip=zip", "Extra=extra")


def lost_in_the_window(world: World, journal: Journal) -> Iterable[tuple[str, str]]:
    """Yield the edits in Creatio, by record and row, that our own write covered and that nobody sees any more (law 8).

    Only rows that Creatio owns: there the edit has to win, unless somebody edited the field in Dynamics after it.
    """
    twins = {b.creatio_id: b.dynamics_id for b in world.ledger.bound if b.state is BindingState.BOUND}
    for record, row in sorted(journal.covered):
        there, edit = world.creatio.records.get(record), journal.edits.get((Side.CREATIO, record, row))
        if there is None or edit is None or row not in CREATIO_OWNS or record not in twins or journal.rebased:
            continue
        later = journal.edits.get((Side.DYNAMICS, twins[record] or "", row))
        overtaken = later is not None and later.number > edit.number
        if not overtaken and plain(row, there.values.get(column_of(row, Side.CREATIO))) != plain(row, edit.value):
            yield record, row
