"""What goes wrong in a house, as rules of a state machine: processes die, servers throttle, refuse, lag, and answer late or never."""

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.core.errors import Rejected, TandemError, Transient
from shared.core.records import Side, Write
from shared.core.work import Message
from tests.engine.fakes import FakeSystem
from tests.engine.house import SIDES
from tests.engine.people import column_of
from tests.engine.rules_of_people import Everyday

VERBS = st.sampled_from(["read", "write", "changes", "find"])


class TroubleAtWork(Everyday):
    """Everything that production has in store."""

    refusing = False

    @rule(side=SIDES, what=st.sampled_from(["lose_reply", "lose_request", "delays"]))
    def break_a_write(self, side: Side, what: str) -> None:
        """Let the next write of a side be done without its answer, not be done, or be done much later."""
        system = self.world.system(side)

        def once() -> bool:
            setattr(system, what, lambda: False)
            self.answers_lost += 1
            return True

        setattr(system, what, once)

    @precondition(lambda self: any(self.world.system(side).under_way for side in Side))
    @rule()
    def land(self) -> None:
        """Let the writes that were answered with an error long ago be done now."""
        for side in Side:
            self.world.system(side).land()

    @rule(side=SIDES, verb=VERBS, seconds=st.sampled_from([None, 30.0, 120.0]))
    def throttle(self, side: Side, verb: str, seconds: float | None) -> None:
        """Let the next request of a kind be answered with an error that passes."""
        system = self.world.system(side)

        def once(asked: str) -> TandemError | None:
            if asked != verb:
                return None
            system.fails = lambda _verb: None
            code = "throttled" if seconds else "unavailable"
            return Transient(f"{system.name}.{code}", system=system.name, retry_after=seconds)

        system.fails = once

    @rule(side=SIDES, passing=st.booleans())
    def spoil_a_row(self, side: Side, passing: bool) -> None:
        """Let the next row that is read be unreadable."""
        system = self.world.system(side)

        def once(record_id: str) -> TandemError:
            system.unreadable = lambda _record_id: None
            code = f"{system.name}.unavailable" if passing else f"{system.name}.bad_row"
            return (Transient if passing else Rejected)(code, system=system.name, record_id=record_id)

        system.unreadable = once

    @rule(side=SIDES, reads=st.integers(1, 4))
    def lag(self, side: Side, reads: int) -> None:
        """Let a replica show records as they were before the edits that come now, for so many reads."""
        self.people.lags[side], self.people.lagged = reads, True

    @rule(side=SIDES, on=st.booleans())
    def normalise(self, side: Side, on: bool) -> None:
        """Let a server store texts in its own way from now on."""
        self.world.system(side).normalise = (
            (lambda name, value: value.upper() if name in ("Zip", "zip") and isinstance(value, str) else value)
            if on
            else (lambda _name, value: value)
        )

    @rule(side=SIDES, named=st.booleans())
    def refuse(self, side: Side, named: bool) -> None:
        """Let a server refuse one value of a column from now on, naming the column or not."""
        self.refusing, system = True, self.world.system(side)
        system.refuse = _refusal(system, column_of("Zip=zip", side), named)

    @precondition(lambda self: self.refusing)
    @rule()
    def mend(self) -> None:
        """Let the servers take every value again."""
        self.refusing = False
        for side in Side:
            self.world.system(side).refuse = lambda _write: None

    @rule(side=SIDES)
    def take_a_column_away(self, side: Side) -> None:
        """Take a column away from a live system, or give it back."""
        system, column = self.world.system(side), column_of("Phone=telephone1", side)
        if side in self.people.removed:
            system.columns |= self.people.removed.pop(side)
        else:
            self.people.removed[side] = {column: system.columns.pop(column)}

    @rule()
    def expire(self) -> None:
        """Let the delta token of Dynamics be worth nothing any more."""
        self.world.dynamics.expired = True

    @precondition(lambda self: self.world.queues.messages)
    @rule(which=st.integers(0, 7))
    def repeat_a_message(self, which: int) -> None:
        """Deliver a message twice."""
        messages = self.world.queues.messages
        messages.append(messages[which % len(messages)])

    @precondition(lambda self: len(self.world.queues.messages) > 1)
    @rule()
    def reorder(self) -> None:
        """Deliver the last message first."""
        self.world.queues.messages = [(self.world.clock(), queue, message) for _, queue, message in reversed(self.world.queues.messages)]

    @precondition(lambda self: self.world.queues.messages)
    @rule(dead=st.booleans())
    def lose_a_message(self, dead: bool) -> None:
        """Let a message get lost, or let the host give up on it."""
        _, queue, message = self.world.queues.messages.pop(0)
        if dead and isinstance(message, Message):
            self.guarded(self.world.poison.run(queue, message.model_dump_json().encode()))


def _refusal(system: FakeSystem, column: str, named: bool) -> Callable[[Write], TandemError | None]:
    def refuse(write: Write) -> TandemError | None:
        if str(write.values.get(column)).lower() != "c":
            return None
        return Rejected(f"{system.name}.refused", system=system.name, record_id=write.id, field=column if named else "")

    return refuse
