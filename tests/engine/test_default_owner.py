"""The default owner: who owns what belongs to somebody whom the other side does not know, and how it is told (D2)."""

import json

import pytest

from shared.core.records import Side
from tests.engine.world import MAPPING, World, guid

ADA, UNKNOWN, SALES = guid(901), guid(902), guid(903)
ADA_THERE, SALES_THERE, EVE_THERE = guid(911), guid(913), guid(914)


def _world(default_owner: str = "sales@x.example") -> World:
    """Return a world whose phone column holds the owner; Ada and Sales work on both sides, one in Creatio only, Eve in Dynamics only."""
    mapping = json.loads(json.dumps(MAPPING))
    mapping["fields"] = [row for row in mapping["fields"] if row.get("creatio") != "Phone"]
    mapping["fields"].append({"creatio": "Phone", "way": "=", "dynamics": "telephone1", "rule": "reference", "users": "email"})
    world = World(mapping=mapping, default_owner=default_owner)
    world.creatio.mail = {ADA: "ada@x.example", UNKNOWN: "only@here.example", SALES: "sales@x.example"}
    world.dynamics.mail = {ADA_THERE: "ada@x.example", SALES_THERE: "sales@x.example", EVE_THERE: "eve@there.example"}
    return world


def _owner_there(world: World, number: int) -> object:
    return world.dynamics.value(world.twin(Side.CREATIO, guid(number)), "telephone1")


def _told(world: World) -> list[tuple[object, object]]:
    return [(facts["record"], facts["code"]) for name, facts in world.events if name == "stood_in"]


def _counted(world: World) -> float:
    return sum(float(facts.get("count_by_default_owner", 0)) for name, facts in world.events if name == "batch_done")  # type: ignore[arg-type] # an event's facts are objects here


async def test_an_unknown_owner_falls_to_the_default_one_and_it_is_told() -> None:
    """Created with the default owner, said by an event and counted beside the outcomes; a known owner is nothing to speak of."""
    world = _world()
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Phone=UNKNOWN)
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Bolt", Phone=ADA)
    await world.cycle(2)
    assert (_owner_there(world, 1), _owner_there(world, 2)) == (SALES_THERE, ADA_THERE)
    assert _told(world) == [(guid(1), "owner.default")]
    assert _counted(world) == 1
    assert world.creatio.value(guid(1), "Phone") == UNKNOWN, "who stands in is not written back"
    writes = world.dynamics.writes
    await world.cycle(2)
    assert world.dynamics.writes == writes


async def test_a_change_to_an_unknown_owner_falls_to_the_default_one() -> None:
    """Of a bound record the change is told as well; a later change to a known owner arrives as usual."""
    world = _world()
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Phone=ADA)
    await world.cycle(2)
    world.creatio.edit_as_user(guid(1), Phone=UNKNOWN)
    await world.cycle()
    assert _owner_there(world, 1) == SALES_THERE
    assert _told(world) == [(guid(1), "owner.default")]
    world.creatio.edit_as_user(guid(1), Phone=ADA)
    await world.cycle()
    assert _owner_there(world, 1) == ADA_THERE


async def test_records_that_are_bound_anew_keep_the_owner_they_have() -> None:
    """Two records that find each other were never compared: who stands in for somebody unknown takes nothing from a real owner."""
    world = _world()
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1", Phone=UNKNOWN)
    world.dynamics.create_as_user(guid(501), name="Acme", accountnumber="A1", telephone1=EVE_THERE)
    await world.cycle(2)
    assert world.dynamics.value(guid(501), "telephone1") == EVE_THERE
    assert world.creatio.value(guid(1), "Phone") == UNKNOWN
    assert _told(world) == []


@pytest.mark.parametrize("default_owner", ["", "nobody@x.example"])
async def test_without_a_default_owner_the_other_side_keeps_its_own(default_owner: str) -> None:
    """Nobody is named, or somebody whom the other side does not know either: the owner is left alone, as the row says."""
    world = _world(default_owner)
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Phone=UNKNOWN)
    await world.cycle(2)
    assert _owner_there(world, 1) is None
    assert _told(world) == []
