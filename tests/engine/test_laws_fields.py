"""Design section 4, laws 1 to 5: what a field is worth. The real engine over fake ports; a test's name says which law would break."""

from dataclasses import replace
from decimal import Decimal

import pytest

from shared.core.records import Side
from tests.engine.world import FLOW, guid


async def test_a_new_record_is_created_once_on_the_other_side_from_either_side(world):
    """A record of either side arrives on the other with its values, its id column, and one binding."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1", Phone="+49 1")
    world.dynamics.create_as_user(guid(2), name="Beta", accountnumber="B1")

    await world.cycle(3)

    twin = world.twin(Side.CREATIO, guid(1))
    assert world.dynamics.value(twin, "name") == "Acme"
    assert world.dynamics.value(twin, "creatioid") == guid(1)
    assert world.creatio.value(world.twin(Side.DYNAMICS, guid(2)), "Name") == "Beta"
    assert (len(world.creatio.records), len(world.dynamics.records)) == (2, 2)
    assert world.counts() == {"created": 2}


async def test_law_1_a_quiet_cycle_writes_nothing_anywhere(world):
    """After everything is in step, a poll makes no write to a system, a queue or the ledger."""
    await world.pair(Code="A1", Phone="1")
    await world.cycle(2)
    before = (world.creatio.writes, world.dynamics.writes, world.ledger.writes)

    await world.cycle(3)

    assert (world.creatio.writes, world.dynamics.writes, world.ledger.writes) == before


async def test_law_1_lossy_fields_do_not_play_ping_pong(world):
    """A name cut on the way to Dynamics never comes back cut, however often the record is edited there."""
    record, twin = await world.pair(Name="A very long name indeed")
    world.dynamics.edit_as_user(twin, telephone1="5")

    await world.cycle(3)

    assert world.dynamics.value(twin, "name") == "A very long"
    assert world.creatio.value(record, "Name") == "A very long name indeed"
    assert world.creatio.value(record, "Phone") == "5"


async def test_law_1_a_new_key_renews_fingerprints_without_a_write(world):
    """After a key rotation unchanged fields are verified with the old key, renewed, and nothing is written."""
    record, twin = await world.pair(Code="A1")
    world.keys = "k2:" + "B" * 43 + "=," + world.keys
    world.start()
    world.creatio.edit_as_user(record, Phone="7")

    await world.cycle(2)

    assert world.dynamics.value(twin, "telephone1") == "7"
    assert {state.key_id for state in world.binding(Side.CREATIO, record).fields.values()} == {"k2"}
    assert world.dynamics.writes == 2


async def test_law_1_an_unknown_key_stops_the_flow(world):
    """A ledger whose key is lost is not written over: the flow stops and says so."""
    record, _ = await world.pair()
    world.keys = "other:" + "C" * 43 + "="
    world.start()
    world.creatio.edit_as_user(record, Phone="7")

    await world.cycle()

    assert not world.ledger.flows[FLOW].started
    assert ("", "ledger.unknown_key") in world.failure_codes()


async def test_law_2_first_bind_fills_empty_fields_and_asks_the_owner_where_both_are_filled(world):
    """Two records that match are bound, not doubled: empty sides are filled, differing values follow the row's owner, `ask` asks."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1", Phone="1", Notes="ours")
    world.dynamics.create_as_user(guid(2), name="ACME Inc", accountnumber="A1", telephone1="2", description="theirs", zip="10")

    await world.cycle(3)

    assert world.twin(Side.CREATIO, guid(1)) == guid(2)
    assert world.dynamics.value(guid(2), "name") == "Acme"
    assert world.creatio.value(guid(1), "Phone") == "2"
    assert world.creatio.value(guid(1), "Zip") == "10"
    assert (world.creatio.value(guid(1), "Notes"), world.dynamics.value(guid(2), "description")) == ("ours", "theirs")
    assert [(c.field, c.reason) for c in world.ledger.disputed.values()] == [("Notes=description", "merge.both_changed")]


async def test_law_2_an_empty_source_of_a_one_way_row_does_not_blank_a_filled_receiver(world):
    """On the first bind a credit limit that only Creatio has stays there."""
    world.creatio.create_as_user(guid(1), Id=guid(1), Name="Acme", Code="A1", Limit=Decimal(5))
    world.dynamics.create_as_user(guid(2), name="Acme", accountnumber="A1")

    await world.cycle(3)

    assert world.creatio.value(guid(1), "Limit") == Decimal(5)


async def test_law_3_edits_of_different_fields_on_both_sides_both_survive(world):
    """One poll finds a record changed on both sides in different fields; each edit reaches the other side."""
    record, twin = await world.pair(Code="A1", Phone="1", Zip="1")
    world.creatio.edit_as_user(record, Zip="2")
    world.dynamics.edit_as_user(twin, telephone1="9")

    await world.cycle()

    assert (world.creatio.value(record, "Phone"), world.dynamics.value(twin, "zip")) == ("9", "2")


@pytest.mark.parametrize(("column", "other", "winner"), [("Zip", "zip", "creatio"), ("Phone", "telephone1", "dynamics")])
async def test_law_3_the_owner_decides_when_both_sides_changed_one_field(world, column, other, winner):
    """The same field edited on both sides within one poll ends with the owner's value on both."""
    record, twin = await world.pair(Zip="1", Phone="1")
    world.creatio.edit_as_user(record, **{column: "creatio"})
    world.dynamics.edit_as_user(twin, **{other: "dynamics"})

    await world.cycle(2)

    assert (world.creatio.value(record, column), world.dynamics.value(twin, other)) == (winner, winner)


async def test_law_3_ask_writes_neither_and_closes_itself_when_the_sides_become_equal(world):
    """A conflict leaves both values alone, and goes away when a person makes them equal."""
    record, twin = await world.pair(Notes="a")
    world.creatio.edit_as_user(record, Notes="b")
    world.dynamics.edit_as_user(twin, description="c")
    await world.cycle(2)
    assert (world.creatio.value(record, "Notes"), world.dynamics.value(twin, "description")) == ("b", "c")
    assert len(world.ledger.disputed) == 1

    world.creatio.edit_as_user(record, Notes="c")
    await world.cycle(2)

    assert world.ledger.disputed == {}
    assert world.dynamics.value(twin, "description") == "c"


async def test_law_3_an_edit_on_the_receiving_side_of_a_one_way_row_is_put_back(world):
    """Dynamics decides on credit: what Creatio's user typed is restored, with that outcome."""
    record, twin = await world.pair()
    world.dynamics.edit_as_user(twin, creditlimit=Decimal(100))
    await world.cycle()
    world.creatio.edit_as_user(record, Limit=Decimal(999))

    await world.cycle()

    assert world.creatio.value(record, "Limit") == Decimal(100)
    assert world.counts()["restored"] == 1


async def test_law_3_kept_drift_is_left_alone(world):
    """With `drift: keep` an edit on the receiving side stays, until the source changes."""
    row = next(row for row in world.mapping["fields"] if row["creatio"] == "Limit")
    row["drift"] = "keep"
    world.start()
    record, twin = await world.pair()
    world.dynamics.edit_as_user(twin, creditlimit=Decimal(100))
    await world.cycle()
    world.creatio.edit_as_user(record, Limit=Decimal(999))
    await world.cycle(2)
    assert world.creatio.value(record, "Limit") == Decimal(999)

    world.dynamics.edit_as_user(twin, creditlimit=Decimal(50))
    await world.cycle()

    assert world.creatio.value(record, "Limit") == Decimal(50)


async def test_law_4_a_lost_reply_is_neither_written_twice_nor_taken_for_a_users_edit(world):
    """The write arrived, its answer did not: the next look confirms it and writes nothing."""
    record, twin = await world.pair(Zip="1")
    lost = iter([True])
    world.dynamics.lose_reply = lambda: next(lost, False)
    writes = world.dynamics.writes
    world.creatio.edit_as_user(record, Zip="2")

    await world.cycle(2)

    assert world.dynamics.value(twin, "zip") == "2"
    assert world.dynamics.writes == writes + 1
    assert world.creatio.value(record, "Zip") == "2"


async def test_law_4_a_write_that_never_arrived_is_written_by_the_next_attempt(world):
    """The request was lost before the server: the record is not dropped as an echo but written when the batch comes back."""
    record, twin = await world.pair(Zip="1")
    lost = iter([True])
    world.dynamics.lose_request = lambda: next(lost, False)
    world.creatio.edit_as_user(record, Zip="2")

    await world.cycle()

    assert world.dynamics.value(twin, "zip") == "2"


async def test_law_4_a_users_edit_after_a_write_with_a_lost_reply_wins_over_the_unchanged_source(world):
    """While the reply is missing a user edits the field again: that edit goes to the source, not the owner's older value."""
    record, twin = await world.pair(Zip="1")

    def lose_and_edit() -> bool:
        world.dynamics.lose_reply = lambda: False
        world.dynamics.edit_as_user(twin, zip="3")
        return True

    world.dynamics.lose_reply = lose_and_edit
    world.creatio.edit_as_user(record, Zip="2")

    await world.cycle(2)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("3", "3")


@pytest.mark.parametrize("answered", [True, False])
async def test_law_4_a_normalisation_by_the_server_is_not_written_back(world, answered):
    """A server that stores another spelling than was sent does not change the source, with or without a reply."""
    world.dynamics.normalise = lambda column, value: value.strip().upper() if column == "zip" and isinstance(value, str) else value
    record, twin = await world.pair(Zip="ab")
    lost = iter([not answered])
    world.dynamics.lose_reply = lambda: next(lost, False)
    world.creatio.edit_as_user(record, Zip="cd")

    await world.cycle(3)

    assert (world.creatio.value(record, "Zip"), world.dynamics.value(twin, "zip")) == ("cd", "CD")

    world.dynamics.edit_as_user(twin, telephone1="9")
    await world.cycle(2)
    assert (world.creatio.value(record, "Zip"), world.creatio.value(record, "Phone")) == ("cd", "9")


async def test_law_5_an_edit_between_our_write_and_the_next_poll_survives(world):
    """The row was last written by us and then by a user before anyone polled: the user's value travels."""
    record, twin = await world.pair(Zip="1", Phone="1")
    world.creatio.edit_as_user(record, Zip="2")
    await world.cycle()
    world.dynamics.edit_as_user(twin, telephone1="7", zip="8")

    await world.cycle()

    assert (world.creatio.value(record, "Phone"), world.creatio.value(record, "Zip")) == ("7", "8")


async def test_law_5_an_echo_costs_one_ledger_read_and_no_request(world):
    """Our own write comes back in the feed and is dropped by its stamp, before either system is read."""
    record, _ = await world.pair(Zip="1")
    world.creatio.edit_as_user(record, Zip="2")
    await world.poll()
    await world.drain()
    reads = []
    world.on_step = lambda name: reads.append(name) if name.endswith((".read", ".write")) else None

    await world.cycle()

    assert reads == []


async def test_law_5_a_stale_read_is_never_merged(world):
    """A replica answers with an older row than the feed announced: the record is read again later, and nothing is undone."""
    record, twin = await world.pair(Zip="1")
    old = replace(world.creatio.records[record])
    world.creatio.edit_as_user(record, Zip="2")
    fresh = world.creatio.records[record]
    looks = iter([old])
    original = world.creatio.row

    def replica(record_id: str):
        world.creatio.records[record_id] = next(looks, fresh)
        return original(record_id)

    world.creatio.row = replica
    await world.poll()
    await world.drain()

    assert world.dynamics.value(twin, "zip") == "2"
    assert world.counts().get("updated") == 1
