"""Law 10: deletes need positive evidence, follow the flow's policy, and are counted before they are sent."""

import pytest

from shared.core.binding import BindingState
from shared.core.errors import Denied, Rejected
from shared.core.records import Column, ColumnType, Side
from shared.core.work import Batch, BatchItem, RunKind
from shared.engine.poll import send_batches
from tests.engine.world import FLOW, World, guid

ACTIVE = {"creatio": "Active", "way": "=", "dynamics": "active", "rule": "boolean"}


@pytest.fixture
def world() -> World:
    """Return a world whose flow deactivates what was deleted on the other side, and that compares Creatio at every poll."""
    return policy_world("deactivate")


def policy_world(policy: str) -> World:
    """Return a world with a policy for deletes."""
    world = World()
    world.creatio.columns["Active"] = Column("Active", ColumnType.BOOLEAN)
    world.dynamics.columns["active"] = Column("active", ColumnType.BOOLEAN)
    world.mapping["on_delete"] = policy
    world.mapping["fields"].append(ACTIVE)
    if policy == "deactivate":
        world.mapping["inactive"] = {"creatio": {"Active": False}, "dynamics": {"active": False}}
    world.compare_seconds = 1
    world.start()
    return world


async def active_pair(world: World, **values) -> tuple[str, str]:
    """Return the ids of a pair that is active on both sides."""
    return await world.pair(Active=True, **values)


async def pairs(world: World, number: int) -> list[tuple[str, str]]:
    """Return so many pairs in step."""
    ids = [guid(5000 + n) for n in range(number)]
    for record_id in ids:
        world.creatio.create_as_user(record_id, Id=record_id, Name=f"N{record_id[:8]}", Active=True)
    await world.cycle(2)
    return [(record_id, world.twin(Side.CREATIO, record_id)) for record_id in ids]


@pytest.mark.parametrize("policy", ["keep", "unlink", "deactivate", "delete"])
async def test_law_10_a_tombstone_does_what_the_policy_says(policy):
    """A record deleted in Dynamics: Creatio's is left, or made inactive, or deleted, and the binding stays as a tombstone."""
    world = policy_world(policy)
    record, twin = await active_pair(world)

    world.dynamics.delete_as_user(twin)
    await world.cycle(3)

    assert (record in world.creatio.records) == (policy != "delete")
    if policy != "delete":
        assert world.creatio.value(record, "Active") == (policy != "deactivate")
    binding = world.binding(Side.CREATIO, record)
    assert binding.state is BindingState.ENDED
    assert binding.gone == ((Side.CREATIO, Side.DYNAMICS) if policy == "delete" else (Side.DYNAMICS,))
    assert twin not in world.dynamics.records
    assert world.ledger.failed == {}
    assert world.ledger.disputed == {}


@pytest.mark.parametrize("policy", ["keep", "unlink"])
async def test_law_10_unlink_empties_the_id_column_of_the_survivor(policy):
    """With `unlink` the surviving Dynamics record does not name a Creatio record any more that is gone; `keep` leaves it as it is."""
    world = policy_world(policy)
    record, twin = await active_pair(world)
    assert world.dynamics.value(twin, "creatioid") == record

    world.creatio.delete_as_user(record)
    await world.cycle(4)

    assert world.dynamics.value(twin, "creatioid") == (None if policy == "unlink" else record)
    assert world.binding(Side.DYNAMICS, twin).state is BindingState.ENDED


async def test_law_10_a_delete_in_creatio_is_carried_over_after_two_complete_reads(world):
    """Creatio tells no deletes: two reads that don't show the record, and its own answer, end it on the other side."""
    record, twin = await active_pair(world)
    world.creatio.delete_as_user(record)

    await world.cycle(1)
    once = world.dynamics.value(twin, "active")
    await world.cycle(2)

    assert (once, world.dynamics.value(twin, "active")) == (True, False)
    assert world.counts().get("deactivated") == 1


async def test_law_10_a_record_that_rights_hide_is_not_deleted(world):
    """A Creatio record that reads do not show, but that exists when asked for by itself, is left alone on both sides."""
    record, twin = await active_pair(world)
    world.creatio.hidden.add(record)

    await world.cycle(5)

    assert world.dynamics.value(twin, "active") is True
    assert world.binding(Side.CREATIO, record).state is BindingState.BOUND
    assert any(name == "records_hidden" for name, _ in world.events)


async def test_law_10_a_row_that_a_read_does_not_show_is_no_delete(world):
    """A batch names a record that the read does not show, and no feed said that it was deleted: a failure, and nothing is carried over."""
    record, twin = await active_pair(world)
    world.creatio.hidden.add(record)

    await send_batches(world.services, [Batch("one", FLOW, Side.CREATIO, "run", RunKind.SCHEDULED, [BatchItem(record)], world.clock())])
    await world.drain()

    assert world.failure_codes() == {("", "sync.unseen_row")}
    assert world.dynamics.value(twin, "active") is True
    assert world.binding(Side.CREATIO, record).state is BindingState.BOUND


async def test_law_10_absence_proves_nothing_without_the_right_to_see_all(world):
    """As long as nobody confirmed that the Creatio user sees every record, nothing is deleted for its absence."""
    _, twin = await active_pair(world)
    world.creatio.sees_all = False
    world.creatio.delete_as_user(world.twin(Side.DYNAMICS, twin))

    await world.cycle(5)

    assert world.dynamics.value(twin, "active") is True


async def test_law_10_a_delete_that_meets_unsynced_edits_is_a_conflict(world):
    """The account is deleted in Creatio while somebody works on it in Dynamics: nothing is destroyed, a person is asked."""
    record, twin = await active_pair(world)
    world.creatio.delete_as_user(record)
    world.dynamics.edit_as_user(twin, zip="77")

    await world.cycle(5)

    assert world.dynamics.value(twin, "active") is True
    assert [c.reason for c in world.ledger.disputed.values()] == ["delete.meets_edits"]
    assert world.failure_codes() == set()
    quiet = world.ledger.writes
    await world.cycle(1)
    assert world.dynamics.value(twin, "zip") == "77"
    assert world.ledger.writes - quiet <= 4, "a conflict that waits is not written again and again"


@pytest.mark.parametrize("choice", ["delete", "reopen"])
async def test_law_10_a_person_decides_a_delete_that_met_edits(world, choice):
    """`delete` carries the delete over, `reopen` creates the deleted record again with the edit; the conflict is closed."""
    record, twin = await active_pair(world)
    world.creatio.delete_as_user(record)
    world.dynamics.edit_as_user(twin, zip="77")
    await world.cycle(4)

    await world.decide.conflict(FLOW, twin, "", choice)
    await world.drain()
    await world.cycle(3)

    assert world.ledger.disputed == {}
    if choice == "delete":
        assert world.dynamics.value(twin, "active") is False
        assert world.binding(Side.DYNAMICS, twin).state is BindingState.ENDED
    else:
        again = world.twin(Side.DYNAMICS, twin)
        assert again != record
        assert world.creatio.value(again, "Zip") == "77"
        assert world.binding(Side.DYNAMICS, twin).generation == 2


async def test_law_10_too_many_deletes_are_held_and_shown_and_go_on_when_approved(world):
    """Of twenty records deleted at once none is carried over until a person approves; then those that were named are."""
    made = await pairs(world, 20)
    for _, twin in made:
        world.dynamics.delete_as_user(twin)
    await world.cycle(3)

    assert all(world.creatio.value(record, "Active") for record, _ in made)
    assert len(world.ledger.held) == 20
    assert (await world.operate.status())["flows"][FLOW]["started"]

    assert await world.decide.approve_deletes(FLOW, [made[0][1], made[1][1]]) == 2
    await world.drain()
    assert [world.creatio.value(record, "Active") for record, _ in made] == [False, False, *[True] * 18]
    assert await world.decide.approve_deletes(FLOW) == 18
    await world.drain()
    assert not any(world.creatio.value(record, "Active") for record, _ in made)
    assert world.ledger.held == {}


async def test_law_10_a_few_deletes_a_day_are_carried_over_and_no_more(world):
    """Five deletes pass; the sixth within the day waits, and does so still when its message comes again."""
    made = await pairs(world, 6)
    for _, twin in made[:5]:
        world.dynamics.delete_as_user(twin)
        await world.cycle(1)
    world.dynamics.delete_as_user(made[5][1])
    await world.cycle(2)

    assert [world.creatio.value(record, "Active") for record, _ in made] == [False] * 5 + [True]
    world.clock.tick(25 * 3600)
    await world.decide.approve_deletes(FLOW)
    await world.drain()
    assert world.creatio.value(made[5][0], "Active") is False


async def test_law_10_a_delete_is_counted_before_it_is_sent(world):
    """When counting fails nothing was sent; when sending crashes the count stands and the delete is sent again, counted once."""
    record, twin = await active_pair(world)
    order: list[str] = []
    world.on_step = lambda name: order.append(name) if name in ("ledger.save_delete_count", "creatio.write_one") else None
    world.dynamics.delete_as_user(twin)
    await world.cycle(1)

    assert order[:2] == ["ledger.save_delete_count", "creatio.write_one"]
    assert list(world.ledger.delete_counts[FLOW].sent) == [f"creatio:{record}"]


async def test_law_10_an_ended_binding_blocks_creation_either_way(world):
    """The survivor's edits are out of scope, and nothing brings the deleted record back."""
    record, twin = await active_pair(world)
    world.dynamics.delete_as_user(twin)
    await world.cycle(2)

    world.creatio.edit_as_user(record, Zip="1", Active=True)
    await world.cycle(2)

    assert twin not in world.dynamics.records
    assert len(world.dynamics.records) == 0
    assert world.counts()["out_of_scope"] >= 1


async def test_law_10_an_id_that_reappears_is_a_conflict_until_a_person_reopens_it(world):
    """A Dynamics record restored after its delete was carried over is not merged by itself; `reopen` puts both in step again."""
    record, twin = await active_pair(world, Zip="old")
    world.dynamics.delete_as_user(twin)
    await world.cycle(2)
    world.dynamics.create_as_user(twin, name="Acme", zip="restored", active=True)
    await world.cycle(2)

    assert [c.reason for c in world.ledger.disputed.values()] == ["delete.reappeared"]
    assert world.creatio.value(record, "Active") is False

    await world.decide.reopen(FLOW, twin)
    await world.drain()
    await world.cycle(2)
    assert world.ledger.disputed == {}
    assert world.binding(Side.CREATIO, record).state is BindingState.BOUND
    assert world.creatio.value(record, "Zip") == world.dynamics.value(twin, "zip")


async def test_law_10_a_reappeared_record_can_be_left_ended(world):
    """`delete` closes the conflict about a record that is there again, and leaves both records as they are."""
    record, twin = await active_pair(world)
    world.dynamics.delete_as_user(twin)
    await world.cycle(2)
    world.dynamics.create_as_user(twin, name="Acme", active=True)
    await world.cycle(2)

    await world.decide.conflict(FLOW, record, "", "delete")
    await world.drain()

    assert world.ledger.disputed == {}
    assert world.binding(Side.CREATIO, record).state is BindingState.ENDED
    assert twin in world.dynamics.records


async def test_law_10_a_record_that_stays_unclear_does_not_keep_others_from_being_looked_for(world, monkeypatch):
    """With room for one absent record at a time, a hidden one takes turns with a deleted one, whose delete is carried over."""
    monkeypatch.setattr("shared.engine.compare._MOST_ABSENT", 1)
    (hidden, _), (deleted, twin) = await pairs(world, 2)
    world.creatio.hidden.add(hidden)
    world.creatio.delete_as_user(deleted)

    await world.cycle(6)

    assert world.dynamics.value(twin, "active") is False


async def test_law_10_a_delete_by_tandem_crosses_no_further_flow():
    """A record that Tandem deleted itself, in whatever flow, comes back as a tombstone and is carried no further."""
    world = policy_world("delete")
    record, twin = await active_pair(world)
    world.ledger.own.add(("dataverse", "account", twin))
    world.dynamics.delete_as_user(twin)

    await world.cycle(2)

    assert record in world.creatio.records
    assert world.binding(Side.CREATIO, record).state is BindingState.ENDED


async def test_law_10_what_tandem_deletes_is_known_before_it_is_sent():
    """The ledger names the record as deleted by Tandem before the system gets the delete."""
    world = policy_world("delete")
    record, twin = await active_pair(world)
    known = []
    world.on_step = lambda name: known.append(("creatio", "Account", record) in world.ledger.own) if name == "creatio.write_one" else None
    world.dynamics.delete_as_user(twin)

    await world.cycle(2)

    assert known == [True]
    assert record not in world.creatio.records


async def test_law_10_a_refused_delete_is_a_failure_that_is_not_sent_again(world):
    """The surviving side refuses: one failure, sent once more only when a person asks; the survivor's edits cause no other failure."""
    record, twin = await active_pair(world)
    world.dynamics.delete_as_user(twin)
    attempts = []
    world.creatio.refuse = lambda write: attempts.append(write.id) or Rejected("creatio.refused")
    await world.cycle(2)
    world.creatio.edit_as_user(record, Zip="1")
    await world.cycle(3)

    assert attempts == [record]
    assert world.failure_codes() == {("", "creatio.refused")}
    world.creatio.refuse = lambda _write: None
    await world.operate.reprocess(FLOW)
    await world.drain()
    assert [c.reason for c in world.ledger.disputed.values()] == ["delete.meets_edits"]
    assert world.failure_codes() == set()


async def test_law_10_a_record_that_comes_back_before_anything_followed_goes_on(world):
    """A delete was held; the record is restored on its side: the binding goes on as if nothing had happened."""
    made = await pairs(world, 8)
    kept = {twin: dict(world.dynamics.records[twin].values) for _, twin in made}
    for _, twin in made:
        world.dynamics.delete_as_user(twin)
    await world.cycle(2)
    assert len(world.ledger.held) == 8

    for twin, values in kept.items():
        world.dynamics.create_as_user(twin, **{**values, "zip": "9"})
    await world.cycle(2)

    assert world.ledger.held == {}
    assert [world.creatio.value(record, "Zip") for record, _ in made] == ["9"] * 8


async def test_law_10_merged_records_end_their_binding_as_merged(world):
    """The loser of a merge in Dynamics is not synced any more, its Creatio record stays, and a person hears of it."""
    record, twin = await active_pair(world)
    winner, winner_twin = await active_pair(world, Name="Winner")
    world.dynamics.merged[twin] = winner_twin
    world.dynamics.edit_as_user(twin, active=False)
    await world.cycle(2)

    binding = world.binding(Side.CREATIO, record)
    assert (binding.state, binding.merged_into, binding.gone) == (BindingState.ENDED, winner_twin, ())
    assert world.creatio.value(record, "Active") is True
    assert [(c.reason, c.candidates) for c in world.ledger.disputed.values()] == [("match.merged", (winner_twin,))]

    world.creatio.create_as_user(guid(77), Id=guid(77), Name="Child", Active=True, ParentId=record)
    await world.cycle(2)
    assert world.dynamics.value(world.twin(Side.CREATIO, guid(77)), "parentaccountid") == winner_twin
    world.creatio.delete_as_user(record)
    await world.cycle(4)
    assert world.ledger.disputed == {}, "the loser is gone in Creatio too"
    assert world.creatio.value(winner, "Name") == "Winner"


async def test_law_10_a_merged_record_that_was_never_bound_is_left_alone(world):
    """A record that is the loser of a merge already is not created in Creatio."""
    world.dynamics.create_as_user(guid(8), name="Loser", active=False)
    world.dynamics.merged[guid(8)] = guid(9)

    await world.cycle(2)

    assert world.creatio.records == {}


async def test_law_10_a_missing_right_to_write_stops_the_flow_and_loses_no_delete(world):
    """Denied while a delete is carried over: the flow stops; started again, the delete arrives."""
    record, twin = await active_pair(world)
    world.dynamics.delete_as_user(twin)
    world.creatio.refuse = lambda _write: Denied("creatio.denied", system="creatio")
    await world.cycle(1)
    assert not world.ledger.flows[FLOW].started
    world.creatio.refuse = lambda _write: None
    await world.operate.start(FLOW)
    await world.watcher.run()
    await world.drain()

    assert world.creatio.value(record, "Active") is False
