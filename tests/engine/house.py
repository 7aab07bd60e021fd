"""A house of two systems, an app that may die at any step, and users who never stop: what every state machine of the engine stands on."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from shared.core import deletes
from shared.core.binding import BindingState
from shared.core.errors import ConfigError, Stale
from shared.core.records import Column, ColumnType, Side
from shared.core.work import RunKind
from shared.engine import delete, scan
from tests.engine.agreement import CONTACTS, Agreement, lost_in_the_window
from tests.engine.fakes import Crash
from tests.engine.paperwork import Paperwork
from tests.engine.people import People
from tests.engine.world import FLOW, World

SIDES = st.sampled_from(list(Side))
ACTIVE = {"creatio": "Active", "way": "=", "dynamics": "active", "rule": "boolean"}


def contacts() -> dict[str, object]:
    """Return the mapping of a second flow, whose records wait for the accounts that they belong to."""
    return {
        "flow": CONTACTS,
        "title": "Contacts",
        "about": "A flow whose records refer to those of the first.",
        "creatio": {"entity": "Contact"},
        "dynamics": {"system": "dataverse", "entity": "contact"},
        "create": "both",
        "owner": "dynamics",
        "on_delete": "keep",
        "on_duplicate": "ask",
        "match": [["Code"]],
        "fields": [
            {"creatio": "Name", "way": "=", "dynamics": "name", "required": True, "overlong": "truncate"},
            {"creatio": "Code", "way": "=", "dynamics": "accountnumber"},
            {"creatio": "ParentId", "way": "=", "dynamics": "parentaccountid", "rule": "reference", "flow": FLOW, "if_missing": "wait"},
        ],
    }


class House(RuleBasedStateMachine):
    """The world of one history, and the ways to let it rest and look at it."""

    papers = False
    """True where there are documents with lines as well."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.people = People(self.world)
        self.journal = self.people.journal
        self.patches = ExitStack()
        self.answer = "accept"
        self.answers_lost = 0
        self.paired: set[tuple[str, str]] = set()
        self.reset_step()

    @initialize(
        policy=st.sampled_from(["keep", "unlink", "deactivate", "delete"]),
        few=st.sampled_from([(2, 1), (100, 5)]),
        pages=st.sampled_from([1, 3, 1000]),
        skew=st.sampled_from([0, 400, -400]),
        compare=st.sampled_from([60, 600]),
        answer=st.sampled_from(["accept", "creatio", "dynamics"]),
    )
    def begin(self, policy: str, few: tuple[int, int], pages: int, skew: int, compare: int, answer: str) -> None:
        """Start with a record in step, under a policy for deletes and limits of every size."""
        world = self.world
        self.answer = answer
        self.patches.enter_context(patch.object(scan, "_FEW", few[0]))
        self.patches.enter_context(patch.object(deletes, "FEW", few[1]))
        self.patches.enter_context(patch.object(delete, "FEW", few[1]))
        for system, names in ((world.creatio, ("Active", "Extra", "Contact")), (world.dynamics, ("active", "extra", "contact"))):
            system.columns[names[0]] = Column(names[0], ColumnType.BOOLEAN)
            system.columns[names[1]] = Column(names[1], ColumnType.TEXT)
            system.further, system.page_size = {names[2]}, pages
        world.creatio.offset, world.poll_slice = timedelta(seconds=skew), timedelta(seconds=0 if pages == 1 else 45)
        world.mapping["on_delete"], world.compare_seconds = policy, compare
        world.mapping["fields"].append(ACTIVE)
        if policy == "deactivate":
            world.mapping["inactive"] = {"creatio": {"Active": False}, "dynamics": {"active": False}}
        world.further.append(contacts())
        if self.papers:
            self.paperwork = Paperwork(world, self.people)
        world.start()
        for name in ("first", "second", "third"):
            self.people.create(Side.CREATIO, name, None, None, None)
        if self.papers:
            self.paperwork.create("first", None, None, [1, 2], None)
        self.run_loop(world.cycle(2))

    def run_loop(self, coroutine):
        """Run a step of the app."""
        return self.loop.run_until_complete(coroutine)

    def guarded(self, coroutine) -> None:
        """Run a step of the app that may die, or lose a race."""
        try:
            self.run_loop(self.world.as_worker(coroutine))
        except Crash:
            self.answers_lost += 1
            self.world.clock.tick(600)  # the dead worker's slots run out
            self.world.start()
        except (ConfigError, Stale):
            return  # told to the person who asked

    def reset_step(self) -> None:
        """Let steps pass; only the reads are counted, for replicas that lag."""

        def step(name: str) -> None:
            if name.endswith(".read"):
                self.people.reads(Side.CREATIO if name.startswith("creatio") else Side.DYNAMICS)

        self.step, self.world.on_step = step, step

    def teardown(self) -> None:
        """Let everything rest, then look whether the sides agree."""
        try:
            self.rest_and_look()
        finally:
            self.patches.close()
            self.loop.run_until_complete(self._end_what_is_under_way())
            self.loop.close()

    async def _end_what_is_under_way(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def rest_and_look(self) -> None:
        """Let everything rest within a bounded number of cycles; nothing is written then, and nothing is lost or doubled."""
        self.calm()
        for _ in range(4):
            self.run_loop(self.world.cycle(2))
            self.run_loop(self.operate())
        self.run_loop(self.world.cycle(2))
        before = (self.world.creatio.writes, self.world.dynamics.writes)
        self.run_loop(self.world.cycle(2))
        assert (self.world.creatio.writes, self.world.dynamics.writes) == before, "a quiet cycle wrote"
        self._open_new_pairs()
        Agreement(self.world, self.people).check()
        if self.papers:
            self.paperwork.check()
        lost = list(lost_in_the_window(self.world, self.journal))
        event(f"edits lost in Creatio's window: {len(lost)}")
        event(f"fields that a late write of ours changed: {self.people.late}")
        assert len(lost) <= self.answers_lost, f"edits were lost though every answer arrived: {lost}"
        self.answers_lost = 0
        self.journal.close()

    def calm(self) -> None:
        """End every trouble: from now on the systems answer, and no process dies."""
        self.reset_step()
        for side in Side:
            system = self.world.system(side)
            system.lose_reply = system.lose_request = system.delays = lambda: False
            system.after_plan = system.between = lambda _record_id: None
            system.refuse = lambda _write: None
            system.fails = system.unreadable = lambda _name: None
            system.denied = False
            system.columns |= self.people.removed.pop(side, {})
            system.stale_for.clear()
            self.people.lags[side] = 0
            system.land()

    async def operate(self) -> None:
        """Do what an operator does in the morning: start, answer, align, reprocess; and let the watch timer fire."""
        world = self.world
        self.world.clock.tick(1200)
        for flow in world.services.mappings.flows:
            state = await world.ledger.poll_state()
            settings = world.services.settings(flow, state.flows)
            if not settings.started:
                await world.operate.start(flow)
            if settings.asking is not None and settings.walking is not None and settings.walking.load is not None:
                await world.walk.stop(flow, settings.walking.run)  # a bulk run rests while its flow asks
                settings = replace(settings, walking=None)
            if settings.asking is not None and settings.walking is None:
                await self.reply(flow)
            await world.operate.reprocess(flow)
        status = (await world.operate.status())["flows"]
        for flow in world.services.mappings.flows:
            if status[flow]["needs_alignment"] and not status[flow]["walking"]:
                await world.walk.start(flow, RunKind.ALIGN, Side.CREATIO, dry=False)
        await world.drain()
        await world.watcher.run()
        await world.drain()

    async def stop(self) -> None:
        """Stop the flow, as its operator does."""
        state = await self.world.ledger.poll_state()
        settings = self.world.services.settings(FLOW, state.flows)
        await self.world.ledger.save_flow(replace(settings, started=False))

    async def reply(self, flow: str) -> None:
        """Answer a flow that asks: accept what changed, or name the side that is right."""
        if self.answer == "accept":
            await self.world.decide.accept(flow)
            return
        self.journal.rebased = self.people.reborn = True
        await self.world.walk.start(flow, RunKind.REBASE, Side(self.answer), dry=False)

    def _open_new_pairs(self) -> None:
        """Keep which pairs were bound since the last rest: their first merge had no base to go by (law 2)."""
        pairs = {(b.creatio_id or "", b.dynamics_id or "") for b in self.world.ledger.bound if b.state is BindingState.BOUND}
        self.journal.open_since |= dict.fromkeys(pairs - self.paired, self.journal.window)
        self.paired = pairs
