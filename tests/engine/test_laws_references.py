"""Law 9 between two flows: a record that must wait for another is not created before it."""

from tests.engine.agreement import CONTACTS
from tests.engine.house import contacts
from tests.engine.world import World, guid


async def test_law_9_a_record_that_must_wait_is_created_with_its_link_or_not_at_all():
    """A contact's account can't be created yet: there is no contact on the other side; when the account goes through, both are there."""
    world = World(further=[contacts()])
    world.creatio.further, world.dynamics.further = {"Contact"}, {"contact"}
    world.creatio.elsewhere[guid(2)] = "Contact"
    world.creatio.create_as_user(guid(1), Id=guid(1))  # without its name, which is required
    world.creatio.create_as_user(guid(2), Id=guid(2), Name="Ann", ParentId=guid(1))

    await world.cycle(3)

    assert world.dynamics.records == {}
    assert [(row.flow, row.record_id) for row in world.ledger.waiting.values()] == [(CONTACTS, guid(2))]

    world.creatio.edit_as_user(guid(1), Name="Acme")
    await world.cycle(2)

    twins = {b.creatio_id: b.dynamics_id for b in world.ledger.bound}
    assert world.dynamics.value(twins[guid(2)], "parentaccountid") == twins[guid(1)]
    assert world.ledger.waiting == {}
