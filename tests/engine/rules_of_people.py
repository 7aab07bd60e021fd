"""What users and operators do to a house, as rules of a state machine."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.core.records import Side
from shared.core.work import RunKind
from tests.engine.agreement import CONTACTS
from tests.engine.house import SIDES, House
from tests.engine.people import ROWS, column_of
from tests.engine.world import FLOW

TEXTS = st.sampled_from(["", "a", "b", "c", "Straße", "0", "long text of a name"])
EDITED = st.sampled_from(list(ROWS))
NAMES = st.sampled_from(["one", "two"])
CODES = st.sampled_from([None, "A", "B"])
WHICH = st.integers(0, 7)


class PeopleAtWork(House):
    """Users of both systems."""

    def pick(self, side: Side, which: int, entity: str | None = None) -> str | None:
        """Return a record of a side, if it has any."""
        ids = self.people.ids(side, entity)
        return ids[which % len(ids)] if ids else None

    @rule(side=SIDES, name=NAMES, code=CODES, parent=st.none() | WHICH)
    def create(self, side: Side, name: str, code: str | None, parent: int | None) -> None:
        """Let a user create an account, possibly below another one."""
        self.people.create(side, name, code, None, parent)

    @rule(side=SIDES, name=NAMES, code=CODES, parent=st.none() | WHICH)
    def create_a_contact(self, side: Side, name: str, code: str | None, parent: int | None) -> None:
        """Let a user create a contact of an account, which may be newer than the last poll."""
        self.people.create(side, name, code, "Contact" if side is Side.CREATIO else "contact", parent)

    @rule(side=SIDES, which=WHICH, row=EDITED, text=TEXTS)
    def edit(self, side: Side, which: int, row: str, text: str) -> None:
        """Let a user edit a field of some account."""
        if (record := self.pick(side, which)) is not None:
            self.people.edit(side, record, row, text)

    @rule(side=SIDES, row=EDITED, text=TEXTS)
    def edit_everything(self, side: Side, row: str, text: str) -> None:
        """Let somebody import one value into every account: a mass change."""
        for record in self.people.ids(side):
            self.people.edit(side, record, row, text)

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
    @rule(side=SIDES)
    def restore(self, side: Side) -> None:
        """Let somebody restore the account that was deleted last."""
        if self.people.lost[side]:
            self.people.restore(side, next(reversed(self.people.lost[side])))

    @rule(which=WHICH, other=WHICH)
    def merge(self, which: int, other: int) -> None:
        """Let a user merge two accounts of Dynamics."""
        loser, winner = self.pick(Side.DYNAMICS, which), self.pick(Side.DYNAMICS, other)
        if loser is not None and winner is not None and loser != winner:
            self.people.merge(loser, winner)

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
                self.journal.covered[record_id, row] = after

        if late:
            system.between = once
        else:
            system.after_plan = once


class OperatorsAtWork(House):
    """Those who keep the app running, and its timers."""

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

    @rule()
    def stop_or_start(self) -> None:
        """Stop the flow, or start it."""
        flows = self.world.ledger.flows
        if FLOW in flows and not flows[FLOW].started:
            self.guarded(self.world.operate.start(FLOW))
        else:
            self.guarded(self.stop())

    @rule(flow=st.sampled_from([FLOW, CONTACTS]))
    def reprocess(self, flow: str) -> None:
        """Enqueue the failed records again."""
        self.guarded(self.world.operate.reprocess(flow))

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

    @rule()
    def reply_to_the_flow(self) -> None:
        """Answer a flow that asks."""
        flow = self.world.ledger.flows.get(FLOW)
        if flow is not None and flow.asking is not None and flow.walking is None:
            self.guarded(self.reply(FLOW))

    @rule(kind=st.sampled_from([RunKind.ALIGN, RunKind.REBASE]), side=SIDES, dry=st.booleans())
    def walk(self, kind: RunKind, side: Side, dry: bool) -> None:
        """Start a run over all bindings."""
        if kind is RunKind.REBASE and not dry:
            self.journal.rebased = self.people.reborn = True
        self.guarded(self.world.walk.start(FLOW, kind, side, dry=dry))

    @rule()
    def rotate_the_key(self) -> None:
        """Put a new fingerprint key in front of the old ones."""
        number = int(self.world.keys.split(":")[0][1:]) + 1
        self.world.keys = f"k{number}:" + chr(65 + number % 26) * 43 + "=," + self.world.keys
        self.world.start()

    @rule()
    def drop_old_keys(self) -> None:
        """Take old keys away once nothing in the ledger is under them any more, as after an align run."""
        current = self.world.keys.split(",")[0]
        under = {state.key_id for binding in self.world.ledger.bound for state in binding.fields.values()}
        if under <= {current.split(":")[0]}:
            self.world.keys = current
            self.world.start()

    @rule()
    def add_a_row(self) -> None:
        """Deploy a mapping with one more row."""
        if not any(row["creatio"] == "Extra" for row in self.world.mapping["fields"]):
            self.world.mapping["fields"].append({"creatio": "Extra", "way": "=", "dynamics": "extra"})
            self.world.start()

    @rule(overlong=st.sampled_from(["truncate", "reject"]))
    def change_a_row(self, overlong: str) -> None:
        """Deploy a mapping with another choice for texts that are too long."""
        self.world.mapping["fields"][0]["overlong"] = overlong
        self.world.start()
