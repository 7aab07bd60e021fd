"""Law 14: whatever users, crashes, lost replies and queues do, the sides become equal once they rest, and then nothing is written.

A Hypothesis state machine over the real engine with fake ports. Each rule is something that happens in production.
"""

import asyncio
from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from shared.core.binding import BindingState
from shared.core.records import Side
from shared.core.rules import utf16_length
from tests.engine.fakes import Crash
from tests.engine.world import World, guid

TEXTS = st.sampled_from(["", "a", "b", "c", "Straße", "0", "long text of a name"])
SIDES = st.sampled_from(list(Side))
COLUMNS = st.sampled_from([("Zip", "zip"), ("Phone", "telephone1"), ("Notes", "description"), ("Name", "name"), ("Limit", "creditlimit")])
CODES = st.sampled_from([None, "A", "B"])


class Sync(RuleBasedStateMachine):
    """Two systems, an app that may die at any step, and users who never stop."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.number = 0
        self.edits: dict[tuple[str, str], list[object]] = {}

    def teardown(self) -> None:
        """Let everything rest, then look whether the sides agree."""
        self.world.on_step = lambda _name: None
        for system in (self.world.creatio, self.world.dynamics):
            system.lose_reply = system.lose_request = lambda: False
            system.after_plan = system.between = lambda _record_id: None
        self._run(self.world.cycle(8))
        before = (self.world.creatio.writes, self.world.dynamics.writes)
        self._run(self.world.cycle(2))
        try:
            assert (self.world.creatio.writes, self.world.dynamics.writes) == before, "a quiet cycle wrote"
            self._sides_agree()
            self._no_doubles()
        finally:
            self.loop.close()

    def _run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    @initialize()
    def begin(self) -> None:
        """Start with a record in step."""
        self.create(Side.CREATIO, "first", None)
        self._run(self.world.cycle(2))

    @rule(side=SIDES, name=st.sampled_from(["one", "two"]), code=CODES)
    def create(self, side: Side, name: str, code: str | None) -> None:
        """Let a user create a record."""
        self.number += 1
        record_id = guid(9000 + self.number)
        if side is Side.CREATIO:
            self.world.creatio.create_as_user(record_id, Id=record_id, Name=name, Code=code)
        else:
            self.world.dynamics.create_as_user(record_id, name=name, accountnumber=code)

    @rule(side=SIDES, which=st.integers(0, 7), column=COLUMNS, text=TEXTS)
    def edit(self, side: Side, which: int, column: tuple[str, str], text: str) -> None:
        """Let a user edit a field of some record."""
        self._edit(side, which, column, text)

    def _edit(self, side: Side, which: int, column: tuple[str, str], text: str) -> None:
        system = self.world.system(side)
        ids = sorted(system.records)
        if not ids:
            return
        name = column[0] if side is Side.CREATIO else column[1]
        value = Decimal(len(text)) if name in ("Limit", "creditlimit") else text
        if name in ("Name", "name"):
            value = text or "unnamed"
        if side is Side.DYNAMICS and isinstance(value, str) and utf16_length(value) > (system.columns[name].max_length or 99):
            value = value[: system.columns[name].max_length].rstrip()
        if side is Side.CREATIO and value in ("", Decimal(0)):
            value = None
        system.edit_as_user(ids[which % len(ids)], **{name: value or None})

    @rule()
    def poll(self) -> None:
        """Let the timer fire."""
        self._guarded(self.world.poll())

    @rule()
    def work(self) -> None:
        """Let the queues run empty."""
        self._guarded(self.world.drain())

    def _guarded(self, coroutine) -> None:
        try:
            self._run(coroutine)
        except Crash:
            self.world.clock.tick(600)  # the dead worker's slots run out
            self.world.start()

    @rule(after=st.integers(0, 25))
    def crash(self, after: int) -> None:
        """Kill the worker at some step of whatever comes next."""
        left = [after]

        def step(_name: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Crash

        self.world.on_step = step

    @rule(side=SIDES)
    def lose_a_reply(self, side: Side) -> None:
        """Let the next write of a side be done without its answer."""
        system = self.world.system(side)

        def once() -> bool:
            system.lose_reply = lambda: False
            return True

        system.lose_reply = once

    @rule(side=SIDES)
    def lose_a_request(self, side: Side) -> None:
        """Let the next write of a side fail without being done."""
        system = self.world.system(side)

        def once() -> bool:
            system.lose_request = lambda: False
            return True

        system.lose_request = once

    @rule(side=SIDES, column=COLUMNS, text=TEXTS, late=st.booleans())
    def edit_inside_a_batch(self, side: Side, column: tuple[str, str], text: str, late: bool) -> None:
        """Let a user edit the record just before our write, or between it and the closing read."""
        system = self.world.system(side)

        def once(record_id: str) -> None:
            system.after_plan = system.between = lambda _record_id: None
            if record_id in system.records:
                self._edit(side, sorted(system.records).index(record_id), column, text)

        if late:
            system.between = once
        else:
            system.after_plan = once

    @rule(side=SIDES, on=st.booleans())
    def normalise(self, side: Side, on: bool) -> None:
        """Let a server store texts in its own way from now on."""
        self.world.system(side).normalise = (
            (lambda name, value: value.upper() if name in ("Zip", "zip") and isinstance(value, str) else value)
            if on
            else (lambda _name, value: value)
        )

    @precondition(lambda self: self.world.queues.messages)
    @rule()
    def repeat_a_message(self) -> None:
        """Deliver a message twice."""
        self.world.queues.messages.append(self.world.queues.messages[0])

    @precondition(lambda self: len(self.world.queues.messages) > 1)
    @rule()
    def reorder(self) -> None:
        """Deliver the last message first."""
        self.world.queues.messages = [(self.world.clock(), queue, message) for _, queue, message in reversed(self.world.queues.messages)]

    @rule()
    def rotate_the_key(self) -> None:
        """Put a new fingerprint key in front of the old ones."""
        number = self.world.keys.count(",") + 2
        self.world.keys = f"k{number}:" + chr(65 + number % 26) * 43 + "=," + self.world.keys
        self.world.start()

    def _sides_agree(self) -> None:
        disputed = {(c.creatio_id, c.field) for c in self.world.ledger.disputed.values()}
        for binding in self.world.ledger.bound:
            if binding.state is not BindingState.BOUND:
                continue
            creatio = self.world.creatio.records[binding.creatio_id].values
            dynamics = self.world.dynamics.records[binding.dynamics_id].values
            for left, right in (("Zip", "zip"), ("Phone", "telephone1"), ("Notes", "description"), ("Limit", "creditlimit")):
                if (binding.creatio_id, f"{left}={right}") in disputed:
                    continue
                if right == "creditlimit" and dynamics[right] is None:
                    continue  # law 2: on the first bind an empty source does not blank a filled receiver
                same = _plain(creatio[left]) == _plain(dynamics[right])
                assert same, f"{binding.creatio_id}: {left} {creatio[left]!r} and {right} {dynamics[right]!r} differ"
            assert dynamics["creatioid"] == binding.creatio_id
        assert self.world.failure_codes() == set()

    def _no_doubles(self) -> None:
        """Every record is bound once, or named in a conflict."""
        asked = {i for c in self.world.ledger.disputed.values() for i in (c.creatio_id, c.dynamics_id, *c.candidates)}
        for side in Side:
            bound = [b.id_on(side) for b in self.world.ledger.bound if b.state is BindingState.BOUND]
            assert len(bound) == len(set(bound))
            left_out = set(self.world.system(side).records) - set(bound) - asked
            assert left_out == set(), f"never synced: {side} {left_out}"


def _plain(value: object) -> object:
    """Return a value as a normalising server would store it, so that its spelling does not count."""
    if isinstance(value, str):
        return value.upper()
    return value or None


EXAMPLES = {"faults": 300, "thorough": 20_000}
TestSync = Sync.TestCase
TestSync.settings = settings(
    max_examples=EXAMPLES.get(settings.get_current_profile_name(), 500),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
