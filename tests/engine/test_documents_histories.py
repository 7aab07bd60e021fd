"""Random histories of documents (law 14): users, crashes, lost replies and requests; in the end both sides hold the same lines."""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.document import line_id
from shared.core.records import Side
from tests.engine.fakes import Crash
from tests.engine.test_documents import ORDER, ORDERS, make_line, make_shop
from tests.engine.world import World, guid

LINES = [guid(number) for number in range(910, 914)]
SAVES = st.tuples(st.just("save"), st.sampled_from(LINES), st.integers(1, 5))
REMOVES = st.tuples(st.just("remove"), st.sampled_from(LINES), st.just(0))
STRANGE = st.tuples(st.sampled_from(["edit there", "remove there"]), st.sampled_from(LINES), st.integers(6, 9))
HEADERS = st.tuples(st.just("rename"), st.just(""), st.integers(1, 9))
TROUBLES = st.tuples(st.sampled_from(["crash", "lose reply", "lose request"]), st.just(""), st.integers(1, 40))
CYCLES = st.tuples(st.just("cycle"), st.just(""), st.just(0))
HISTORIES = st.lists(SAVES | SAVES | REMOVES | STRANGE | HEADERS | TROUBLES | CYCLES | CYCLES, max_size=16)


@dataclass
class _History:
    """A shop on its way through a history."""

    world: World = field(default_factory=make_shop)
    left: int = 0

    def __post_init__(self) -> None:
        self.world.on_step = self._step
        self.world.creatio.create_as_user(ORDER, Id=ORDER, Name="Order", Code="O-1")
        self.world.creatio.lines[ORDER] = {}

    def _step(self, _name: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash

    async def act(self, verb: str, key: str, number: int) -> None:
        """Do one thing of a history."""
        creatio, dynamics = self.world.creatio, self.world.dynamics
        if verb == "save":
            creatio.edit_lines_as_user(ORDER, {key: make_line(f"Line {key[:8]}", number, "2.50")})
        elif verb == "remove" and key in creatio.lines[ORDER]:
            creatio.edit_lines_as_user(ORDER, {key: None})
        elif verb == "rename":
            creatio.edit_as_user(ORDER, Name=f"Order {number}")
        elif verb in ("edit there", "remove there"):
            self._meddle(verb, line_id(ORDERS, key), number)
        elif verb == "crash":
            self.left = number
        elif verb == "lose reply":
            dynamics.lose_reply = self._once()
        elif verb == "lose request":
            dynamics.lose_request = self._once()
        elif verb == "cycle":
            await self.cycle()

    def _meddle(self, verb: str, key: str, number: int) -> None:
        dynamics = self.world.dynamics
        for order, lines in dynamics.lines.items():
            if key in lines:
                dynamics.edit_lines_as_user(order, {key: {"quantity": Decimal(number)} if verb == "edit there" else None})

    def _once(self):
        left = [True]

        def lose() -> bool:
            return left.pop() if left else False

        return lose

    async def cycle(self) -> None:
        """Poll and work off; a worker that dies leaves its message to another one."""
        try:
            await self.world.cycle()
        except Crash:
            self.world.start()

    async def rest(self) -> None:
        """Let everybody stop, and all that is under way come to its end."""
        self.left = 0
        self.world.dynamics.lose_reply = self.world.dynamics.lose_request = lambda: False
        for _ in range(4):
            await self.cycle()
            self.world.clock.tick(3600)
        await self.world.watcher.run()
        for _ in range(3):
            await self.cycle()


@settings(max_examples=150, deadline=None)
@given(HISTORIES)
def test_documents_converge(history: list[tuple[str, str, int]]) -> None:
    """After any history there is one document on the other side, with exactly Creatio's lines, and a quiet cycle writes nothing."""
    asyncio.run(_lived(history))


async def _lived(history: list[tuple[str, str, int]]) -> None:
    story = _History()
    for verb, key, number in history:
        await story.act(verb, key, number)
    await story.rest()
    world = story.world
    (order,) = world.dynamics.records
    assert world.twin(Side.CREATIO, ORDER) == order
    assert world.dynamics.value(order, "name") == world.creatio.value(ORDER, "Name")
    wanted = {line_id(ORDERS, key): (line["Name"], line["Quantity"], line["Price"]) for key, line in world.creatio.lines[ORDER].items()}
    found = world.dynamics.lines.get(order, {})
    assert {key: (one["productdescription"], one["quantity"], one["priceperunit"]) for key, one in found.items()} == wanted
    assert world.failure_codes() == set()
    written = world.dynamics.writes
    await story.cycle()
    assert (world.dynamics.writes, world.creatio.writes) == (written, 0)
