"""What is overtaken while a worker looks at it, a binding by another worker or a column by an administrator, is looked at again."""

from collections.abc import Callable

import pytest

from shared.core.binding import Binding, BindingState
from shared.core.records import Side
from tests.engine.world import FLOW, World, guid


@pytest.fixture
def world() -> World:
    """Return a world with one record in Creatio and two in Dynamics that all have the same number."""
    world = World()
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="C")
    for number in (11, 12):
        world.dynamics.create_as_user(guid(number), name="Acme", accountnumber="C")
    return world


async def test_law_8_a_question_is_taken_back_when_its_record_was_bound_meanwhile(world):
    """Another worker binds the record while this one asks which of two it is: the question goes, the record stays bound and flows."""
    other = Binding(FLOW, BindingState.BOUND, guid(1), guid(11))

    def bind_first(step: str) -> None:
        if step == "ledger.save_conflicts" and not world.ledger.bound:
            world.on_step = lambda _name: None
            assert isinstance(world.ledger._save(other), Binding)

    world.on_step = bind_first
    await world.poll()
    await world.drain()

    assert world.binding(Side.CREATIO, guid(1)).dynamics_id == guid(11)
    assert [one.reason for one in world.ledger.disputed.values() if one.creatio_id == guid(1)] == []
    world.creatio.edit_as_user(guid(1), Notes="mine")
    await world.cycle()
    assert world.dynamics.value(guid(11), "description") == "mine"


async def test_law_8_a_question_that_the_other_worker_has_too_stays(world):
    """Two workers ask the same about one record: whoever saves the binding last leaves the other's question where it is."""
    other = Binding(FLOW, BindingState.REFUSED, guid(1), None, source=Side.CREATIO, note="c ")

    def ask_first(step: str) -> None:
        if step == "ledger.save_conflicts" and not world.ledger.bound:
            world.on_step = lambda _name: None
            assert isinstance(world.ledger._save(other), Binding)

    world.on_step = ask_first
    await world.poll()
    await world.drain()

    assert [(one.creatio_id, one.reason) for one in world.ledger.disputed.values() if one.creatio_id] == [(guid(1), "match.ambiguous")]


@pytest.mark.parametrize("side", list(Side))
async def test_law_13_a_column_that_goes_after_it_was_described_is_no_empty_value(side):
    """A column is removed between describing a side and reading it: its field fails, the other side keeps its value, the rest flows."""
    world = World()
    record, twin = await world.pair(Phone="+1")
    system, other = world.system(side), world.system(side.other)
    column = {Side.CREATIO: "Phone", Side.DYNAMICS: "telephone1"}[side]
    kept = {Side.CREATIO: (twin, "telephone1"), Side.DYNAMICS: (record, "Phone")}[side]

    def remove(step: str) -> None:
        if step == f"{system.name}.read":
            system.columns.pop(column, None)
            for row in system.records.values():
                row.values.pop(column, None)

    world.on_step = remove
    world.creatio.edit_as_user(record, Zip="1")
    await world.cycle(2)

    assert other.value(*kept) == "+1"
    assert world.dynamics.value(twin, "zip") == "1"
    assert world.failure_codes() == {("Phone=telephone1", f"{system.name}.unknown_column")}


async def test_law_7_a_person_ends_a_question_that_both_sides_ask(world):
    """Of two doubles one was deleted: record and double wait for a person each, who names the record, and nothing is left open."""
    await world.cycle()
    assert {one.reason for one in world.ledger.disputed.values()} == {"match.ambiguous"}
    world.dynamics.delete_as_user(guid(12))
    world.creatio.edit_as_user(guid(1), Notes="mine")
    await world.cycle(2)
    assert world.binding(Side.CREATIO, guid(1)).dynamics_id is None

    await world.decide.conflict(FLOW, guid(1), "", "reopen")
    await world.drain()

    assert world.binding(Side.CREATIO, guid(1)).dynamics_id == guid(11)
    assert world.dynamics.value(guid(11), "description") == "mine"
    assert world.ledger.disputed == {}


def meanwhile(world: World, step: str, act: Callable[[], object]) -> list[str]:
    """Let somebody act at the first such step; return the steps of the world as they come."""
    steps: list[str] = []

    def note(name: str) -> None:
        if name == step and step not in steps:
            act()
        steps.append(name)

    world.on_step = note
    return steps


async def test_a_changed_record_of_creatio_costs_one_read_of_its_binding(world):
    """The echo check brings the binding along: the first look does not ask for it again, nor for one that there is not (design 10)."""
    record, _ = await world.pair(Name="Bound")
    steps = meanwhile(world, "never", lambda: None)
    world.creatio.edit_as_user(record, Notes="mine")
    world.creatio.create_as_user(guid(9), Id=guid(9), Name="New")

    await world.poll()
    await world.drain()

    assert (steps.count("ledger.stamps"), steps.count("ledger.bindings")) == (1, 0)
    assert world.dynamics.value(world.twin(Side.CREATIO, guid(9)), "name") == "New"


async def test_law_8_a_binding_that_moves_after_the_echo_check_is_read_again(world):
    """Another worker saves the binding after this one's echo check: the save by ETag tells, and the edit arrives once."""
    record, twin = await world.pair(Name="Bound")
    writes = world.dynamics.writes
    moved = meanwhile(world, "creatio.read", lambda: world.ledger._save(world.binding(Side.CREATIO, record)))
    world.creatio.edit_as_user(record, Notes="mine")

    await world.poll()
    await world.drain()

    assert (moved.count("ledger.stamps"), moved.count("ledger.bindings")) == (1, 1)
    assert (world.dynamics.value(twin, "description"), world.dynamics.writes) == ("mine", writes + 1)


async def test_law_6_a_record_that_is_created_after_the_echo_check_is_not_created_twice(world):
    """The echo check saw no binding; another worker then creates the record: this one finds that out and merges."""

    def create() -> None:
        world.dynamics.create_as_user(guid(30), name="New")
        world.ledger._save(Binding(FLOW, BindingState.BOUND, guid(9), guid(30)))

    world.creatio.create_as_user(guid(9), Id=guid(9), Name="New", Notes="mine")
    meanwhile(world, "creatio.read", create)

    await world.poll()
    await world.drain()

    assert world.twin(Side.CREATIO, guid(9)) == guid(30)
    assert [record.values["name"] for record in world.dynamics.records.values()].count("New") == 1
    assert world.dynamics.value(guid(30), "description") == "mine"
