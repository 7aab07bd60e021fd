"""What users do to a house, as rules of state machines, and the app's everyday."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.core.binding import BindingState
from shared.core.records import Side
from tests.engine.fakes import Crash
from tests.engine.house import SIDES, House
from tests.engine.people import ROWS, column_of
from tests.engine.world import FLOW

TEXTS = st.sampled_from(["", "a", "b", "c", "Straße", "0", "long text of a name"])
EDITED = st.sampled_from(list(ROWS))
NAMES = st.sampled_from(["one", "two"])
CODES = st.sampled_from([None, "A", "B"])
WHICH = st.integers(0, 7)


class Everyday(House):
    """What happens on any day: users create and edit, the timers fire, and a worker may die."""

    def pick(self, side: Side, which: int, entity: str | None = None) -> str | None:
        """Return a record of a side, if it has any."""
        ids = self.people.ids(side, entity)
        return ids[which % len(ids)] if ids else None

    @rule(side=SIDES, name=NAMES, code=CODES, zip_code=st.sampled_from([None, "a", "c"]), parent=st.none() | WHICH)
    def create(self, side: Side, name: str, code: str | None, zip_code: str | None, parent: int | None) -> None:
        """Let a user create an account, possibly below another one."""
        self.people.create(side, name, code, parent, zip_code)

    @rule(side=SIDES, which=WHICH, row=EDITED, text=TEXTS)
    def edit(self, side: Side, which: int, row: str, text: str) -> None:
        """Let a user edit a field of some account."""
        if (record := self.pick(side, which)) is not None:
            self.people.edit(side, record, row, text)

    @rule(which=WHICH, row=EDITED, text=TEXTS, other=TEXTS)
    def edit_both_sides(self, which: int, row: str, text: str, other: str) -> None:
        """Let users edit the same field of one pair on both sides."""
        pairs = sorted((b.creatio_id, b.dynamics_id) for b in self.world.ledger.bound if b.state is BindingState.BOUND and b.flow == FLOW)
        if pairs:
            creatio_id, dynamics_id = pairs[which % len(pairs)]
            self.people.edit(Side.CREATIO, creatio_id, row, text)
            self.people.edit(Side.DYNAMICS, dynamics_id, row, other)

    @rule()
    def poll(self) -> None:
        """Let the timer fire."""
        self.guarded(self.world.poll())

    @rule()
    def work(self) -> None:
        """Let the queues run empty."""
        self.guarded(self.world.drain())

    @rule()
    def work_together(self) -> None:
        """Let every message that is due have a worker of its own."""
        self.guarded(self.world.deliver_together())

    @rule(times=st.integers(1, 2))
    def cycle(self, times: int) -> None:
        """Let the timer fire and the queues run empty, as on any day."""
        self.guarded(self.world.cycle(times))

    @rule(after=st.integers(1, 25))
    def crash(self, after: int) -> None:
        """Kill the worker at some step of whatever comes next."""
        left = [after]

        def step(name: str) -> None:
            self.step(name)
            left[0] -= 1
            if left[0] == 0:
                raise Crash

        self.world.on_step = step

    @rule(minutes=st.sampled_from([1, 6, 20]))
    def watch(self, minutes: int) -> None:
        """Let time pass and the watch timer fire."""
        self.world.clock.tick(60 * minutes)
        self.guarded(self.world.watcher.run())

    @precondition(lambda self: self.journal.window < 2)
    @rule()
    def rest(self) -> None:
        """Let everything rest and look at it; then it goes on."""
        self.rest_and_look()

    @rule(side=SIDES, row=EDITED, text=TEXTS, late=st.booleans())
    def edit_inside_a_batch(self, side: Side, row: str, text: str, late: bool) -> None:
        """Let a user edit the record just before our write, or between it and the closing read."""
        system = self.world.system(side)

        def once(record_id: str) -> None:
            system.after_plan = system.between = lambda _record_id: None
            if record_id not in system.records or system.elsewhere.get(record_id):
                return
            column = column_of(row, side)
            before = system.records[record_id].values.get(column)
            self.people.edit(side, record_id, row, text)
            after = system.records[record_id].values.get(column)
            if side is Side.CREATIO and not late and after != before:
                self.journal.covered.add((record_id, row))

        if late:
            system.between = once
        else:
            system.after_plan = once


class PeopleAtWork(Everyday):
    """Users who also link, delete, restore, merge and decide."""

    @rule(side=SIDES, name=NAMES, code=CODES, parent=st.none() | WHICH)
    def create_a_contact(self, side: Side, name: str, code: str | None, parent: int | None) -> None:
        """Let a user create a contact of an account, which may be newer than the last poll."""
        self.people.create(side, name, code, parent, None, "Contact" if side is Side.CREATIO else "contact")

    @rule(side=SIDES, which=WHICH, text=TEXTS)
    def rename_a_contact(self, side: Side, which: int, text: str) -> None:
        """Let a user rename a contact."""
        if (record := self.pick(side, which, "Contact" if side is Side.CREATIO else "contact")) is not None:
            self.people.edit(side, record, "Name=name", text)

    @rule(side=SIDES, which=WHICH, above=st.none() | WHICH)
    def link(self, side: Side, which: int, above: int | None) -> None:
        """Let a user put an account below another one."""
        record = self.pick(side, which)
        if record is not None:
            self.people.link(side, record, None if above is None else self.pick(side, above))

    @rule(side=SIDES, which=WHICH)
    def delete(self, side: Side, which: int) -> None:
        """Let a user delete an account."""
        if (record := self.pick(side, which)) is not None:
            self.people.delete(side, record)

    @precondition(lambda self: any(self.people.lost.values()))
    @rule()
    def restore(self) -> None:
        """Let somebody restore the account that was deleted last on a side."""
        side = next(side for side in Side if self.people.lost[side])
        self.people.restore(side, next(reversed(self.people.lost[side])))

    @rule(which=WHICH, other=WHICH)
    def merge(self, which: int, other: int) -> None:
        """Let a user merge two accounts of Dynamics."""
        loser, winner = self.pick(Side.DYNAMICS, which), self.pick(Side.DYNAMICS, other)
        if loser is not None and winner is not None and loser != winner:
            self.people.merge(loser, winner)

    @precondition(lambda self: self.world.ledger.disputed)
    @rule(which=WHICH, choice=st.sampled_from(["creatio", "dynamics", "delete", "reopen"]))
    def decide(self, which: int, choice: str) -> None:
        """Let a person settle a conflict; a choice that makes no sense is refused."""
        conflicts = [self.world.ledger.disputed[key] for key in sorted(self.world.ledger.disputed)]
        conflict = conflicts[which % len(conflicts)]
        record = conflict.creatio_id or conflict.dynamics_id
        self.journal.all_open = self.journal.window
        self.people.reborn = self.people.reborn or choice == "reopen"
        self.guarded(self.world.decide.conflict(conflict.flow, record, conflict.field, choice))

    @precondition(lambda self: self.world.ledger.held)
    @rule()
    def approve_deletes(self) -> None:
        """Let the held deletes be carried over."""
        self.guarded(self.world.decide.approve_deletes(FLOW))
