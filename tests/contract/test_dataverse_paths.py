"""Paths of one lookup on Dataverse: read by `$expand` of the navigation property, with an hourly look behind it (dataverse.md 3, 4, 5)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest

from shared.core.errors import Rejected
from shared.core.records import ChangePage, ColumnType, KeyRange, RangeBy, Row, Write, WriteKind
from shared.systems.dataverse import Dataverse
from tests.contract.dataverse_site import Site, site

KPI = "msdyn_opportunitykpiitem"
HEALTH = "msdyn_opportunitykpiid/msdyn_health"
STATE = "msdyn_opportunitykpiid/msdyn_state"
LONG_AGO = "2026-01-01T00:00:00Z"
COLUMNS = ("name", "msdyn_opportunitykpiid", HEALTH, STATE)
ALL = KeyRange(RangeBy.CREATED, datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC), 10)
INSIGHTS = {
    "msdyn_name": {"type": "String", "max_length": 100},
    "msdyn_health": {"type": "Integer"},
    "msdyn_state": {"type": "Picklist", "options": {"1": "Good", "2": "Poor"}},
}


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a stand-in with the table that comes with the insights licence."""
    async with site() as made:
        await made.control.add_entity(KPI, INSIGHTS)
        yield made


async def seeded(org: Site, **values: object) -> tuple[str, str]:
    """Insert an opportunity with its health; return both ids."""
    (item,) = await org.control.seed(KPI, [{"msdyn_name": "Roof", "msdyn_health": 71, "msdyn_state": 2, "modifiedon": LONG_AGO}])
    (deal,) = await org.control.seed("opportunity", [{"name": "Roof", "msdyn_opportunitykpiid": item, **values}])
    return deal, item


async def read(adapter: Dataverse, deal: str, columns: tuple[str, ...] = COLUMNS) -> Row:
    """Read one opportunity that must be readable."""
    found = (await adapter.read("opportunity", [deal], columns))[deal]
    assert isinstance(found, Row), found
    return found


async def chain(adapter: Dataverse, position: str | None = None, columns: tuple[str, ...] = COLUMNS) -> list[ChangePage]:
    """Return all pages of the opportunities' feed."""
    return [page async for page in adapter.changes("opportunity", columns, position, None)]


def told(pages: list[ChangePage]) -> list[str]:
    """Return the records that pages announce."""
    return [change.id for page in pages for change in page.changes]


async def test_a_path_is_read_with_its_record(org: Site) -> None:
    """The navigation property has the letters that live metadata gives it; values are normal values of the table behind it."""
    deal, item = await seeded(org)
    row = await read(org.dataverse(), deal)
    assert row.values == {"name": "Roof", "msdyn_opportunitykpiid": item, HEALTH: 71, STATE: 2}
    (asked,) = [one for one in org.watch.of("GET", "/opportunities") if "$filter" in one.target]
    assert "$expand=msdyn_OpportunityKPIId($select=msdyn_health,msdyn_state)" in unquote(asked.target)


async def test_ranges_and_searches_read_paths_as_well(org: Site) -> None:
    """A path is never empty because of the way in which a row was read, on no page of a range."""
    deals = {(await seeded(org))[0] for _ in range(3)}
    adapter = org.dataverse()
    seen: dict[str, object] = {}
    position: str | None = None
    while True:
        page = await adapter.read_range("opportunity", ALL, COLUMNS, position, 2)
        seen |= {key: row.values[HEALTH] for key, row in page.rows.items() if isinstance(row, Row)}
        position = page.following
        if position is None:
            break
    assert seen == dict.fromkeys(deals, 71)
    (hits,) = await adapter.find("opportunity", [{"name": "Roof"}], COLUMNS)
    assert [hit.values[HEALTH] for hit in hits] == [71, 71, 71]


async def test_an_empty_lookup_makes_its_paths_empty(org: Site) -> None:
    """There is nothing behind an empty lookup."""
    (deal,) = await org.control.seed("opportunity", [{"name": "Bare"}])
    assert (await read(org.dataverse(), deal)).values == {"name": "Bare", "msdyn_opportunitykpiid": None, HEALTH: None, STATE: None}


async def test_a_row_that_is_not_shown_does_not_look_empty(org: Site) -> None:
    """A lookup that leads to a row which the server does not show says nothing about that row's columns."""
    (deal,) = await org.control.seed("opportunity", [{"name": "Lost", "msdyn_opportunitykpiid": "d0000000-0000-4000-8000-000000000001"}])
    found = (await org.dataverse().read("opportunity", [deal], COLUMNS))[deal]
    assert isinstance(found, Rejected)
    assert (found.code, found.field) == ("dataverse.bad_row", HEALTH)


async def test_a_path_through_one_of_several_tables(org: Site) -> None:
    """`customerid_account/accountnumber` is empty where the customer is a person, and known where it is a company."""
    (account,) = await org.control.seed("account", [{"name": "Buyer", "accountnumber": "B-1"}])
    (contact,) = await org.control.seed("contact", [{"lastname": "Lee"}])
    rows = [{"name": "A", "customerid": account, "customerid__type": "account"}]
    rows += [{"name": "B", "customerid": contact, "customerid__type": "contact"}]
    deals = await org.control.seed("opportunity", rows)
    path = "customerid_account/accountnumber"
    adapter = org.dataverse()
    assert [(await read(adapter, deal, (path,))).values for deal in deals] == [{path: "B-1"}, {path: None}]


async def test_a_write_keeps_what_the_plan_saw_behind_lookups(org: Site) -> None:
    """The answer to a PATCH shows the row's own columns; the path is what was read, unless the write itself moves the lookup."""
    deal, _ = await seeded(org)
    adapter = org.dataverse()
    row = await read(adapter, deal)
    (result,) = await adapter.write("opportunity", [Write(WriteKind.UPDATE, deal, {"name": "Roof 2"}, row)])
    assert result.row is not None
    assert result.row.values == {**row.values, "name": "Roof 2"}
    (refused,) = await adapter.write("opportunity", [Write(WriteKind.UPDATE, deal, {HEALTH: 5}, result.row)])
    assert isinstance(refused.error, Rejected)


async def test_a_write_that_moves_the_lookup_reads_the_path_again(org: Site) -> None:
    """Nobody takes the old owner's name for the new one's."""
    path = "primarycontactid/lastname"
    old, new = await org.control.seed("contact", [{"lastname": "Old"}, {"lastname": "New"}])
    (account,) = await org.control.seed("account", [{"name": "Buyer", "primarycontactid": old}])
    adapter = org.dataverse()
    row = (await adapter.read("account", [account], ("primarycontactid", path)))[account]
    assert isinstance(row, Row)
    assert row.values[path] == "Old"
    (result,) = await adapter.write("account", [Write(WriteKind.UPDATE, account, {"primarycontactid": new}, row)])
    assert result.row is not None
    assert result.row.values == {"primarycontactid": new, path: "New"}


async def test_metadata_of_a_path_is_that_of_its_end(org: Site) -> None:
    """Type and options are those of the table behind the lookup; what is missing on either end is missing."""
    missing = (
        "msdyn_opportunitykpiid/msdyn_nothing",
        "nothing/name",
        "name/name",
        "customerid/name",
        "msdyn_predictivescoreid/msdyn_score",
    )
    entity = await org.dataverse().describe("opportunity", (*COLUMNS, *missing), (STATE,))
    assert entity.missing == missing
    state = entity.columns[STATE]
    assert (state.type, dict(state.options)) == (ColumnType.CHOICE, {"1": "Good", "2": "Poor"})
    assert (state.creatable, state.updatable) == (False, False)
    assert entity.columns[HEALTH].type is ColumnType.INTEGER


async def test_without_the_licence_the_path_is_missing() -> None:
    """The lookup is there, the table behind it is not: reads leave the path out, as they do with a column that is away."""
    async with site() as bare:
        (deal,) = await bare.control.seed("opportunity", [{"name": "Roof"}])
        adapter = bare.dataverse()
        assert (await adapter.describe("opportunity", COLUMNS, ())).missing == (HEALTH, STATE)
        assert set((await read(adapter, deal)).values) == {"name", "msdyn_opportunitykpiid"}
        assert told(await chain(adapter)) == [deal]


async def test_a_path_to_the_tables_own_kind(org: Site) -> None:
    """A lookup may lead to the same table, whose metadata is being read just then."""
    (parent,) = await org.control.seed("account", [{"name": "Group", "accountnumber": "G-1"}])
    (child,) = await org.control.seed("account", [{"name": "Branch", "parentaccountid": parent}])
    found = (await org.dataverse().read("account", [child], ("parentaccountid/accountnumber",)))[child]
    assert isinstance(found, Row)
    assert found.values == {"parentaccountid/accountnumber": "G-1"}


async def test_a_column_that_goes_away_at_the_end_of_a_path_is_noticed(org: Site) -> None:
    """The kept metadata of both tables is dropped when the server knows better, and the path is left out like any missing column."""
    deal, _ = await seeded(org)
    adapter = org.dataverse()
    await read(adapter, deal)
    await org.control.remove_column(KPI, "msdyn_health")
    assert HEALTH not in (await read(adapter, deal)).values
    assert (await adapter.describe("opportunity", COLUMNS, ())).missing == (HEALTH,)


# --- looks behind lookups -----------------------------------------------------------------------------------------------------


async def test_a_quiet_poll_is_one_request_and_once_an_hour_a_look(org: Site) -> None:
    """The position carries when was looked last; the look asks the other table, by the server's clock, and is worth keeping."""
    await seeded(org)
    adapter = org.dataverse()
    position = (await chain(adapter))[-1].position
    for minutes in (1, 30, 59):
        await org.control.skew_clock(60 * minutes)
        org.watch.seen.clear()
        (page,) = await chain(adapter, position)
        assert (page.changes, page.worth_keeping, len(org.watch.seen)) == ([], False, 1)
    await org.control.skew_clock(3660)
    org.watch.seen.clear()
    (page,) = await chain(adapter, position)
    assert (list(page.changes), page.worth_keeping) == ([], True)
    assert [asked.target.partition("?")[0].rpartition("/")[2] for asked in org.watch.seen] == ["opportunities", f"{KPI}s"]
    assert "modifiedon ge " in unquote(org.watch.seen[1].target)
    org.watch.seen.clear()
    (page,) = await chain(adapter, page.position)
    assert (page.worth_keeping, len(org.watch.seen)) == (False, 1)


async def test_what_changes_behind_a_lookup_brings_its_records(org: Site) -> None:
    """Without a stamp, for their own did not move: whoever reads them must not take them for echoes. Others stay quiet."""
    deal, item = await seeded(org)
    twin, _ = await seeded(org)
    await org.control.edit("opportunity", twin, {"msdyn_opportunitykpiid": item})
    other, _ = await seeded(org)
    adapter = org.dataverse()
    position = (await chain(adapter))[-1].position
    await org.control.skew_clock(4000)
    await org.control.edit(KPI, item, {"msdyn_health": 12})
    (page,) = await chain(adapter, position)
    assert {(change.id, change.stamp, change.deleted) for change in page.changes} == {(deal, None, False), (twin, None, False)}
    assert other not in told([page])
    assert (await read(adapter, deal)).values[HEALTH] == 12


async def test_no_change_falls_between_two_looks(org: Site) -> None:
    """What happened while nobody looked, however long, is found; a look overlaps the one before it."""
    deal, item = await seeded(org)
    adapter = org.dataverse()
    position = (await chain(adapter))[-1].position
    await org.control.skew_clock(50 * 60)
    await org.control.edit(KPI, item, {"msdyn_health": 12})
    assert told(await chain(adapter, position)) == []
    await org.control.skew_clock(48 * 3600)
    (page,) = await chain(adapter, position)
    assert told([page]) == [deal]
    await org.control.skew_clock(49 * 3600 + 60)
    (page,) = await chain(adapter, page.position)
    assert told([page]) == []


async def test_the_feed_itself_goes_on_beside_the_looks(org: Site) -> None:
    """Edits of the records, new ones and deletes come as ever, also with the page of a look."""
    deal, _ = await seeded(org)
    gone, _ = await seeded(org)
    adapter = org.dataverse()
    position = (await chain(adapter))[-1].position
    await org.control.edit("opportunity", deal, {"name": "Roof 2"})
    await org.control.delete("opportunity", gone)
    await org.control.skew_clock(4000)
    pages = await chain(adapter, position)
    assert [(change.id, change.deleted) for page in pages for change in page.changes] == [(deal, False), (gone, True)]


async def test_a_feed_without_paths_keeps_the_servers_link(org: Site) -> None:
    """Nothing is added to a position that needs nothing, and one that a feed without paths gave is followed."""
    deal, _ = await seeded(org)
    adapter = org.dataverse()
    (page,) = await chain(adapter, None, ("name",))
    assert page.position.startswith("http")
    await org.control.edit("opportunity", deal, {"stepname": "Proposal"})
    assert told(await chain(adapter, page.position)) == [deal]


async def test_many_records_behind_one_change_come_in_few_requests(org: Site) -> None:
    """Five hundred changed rows behind lookups are asked for by some hundreds a request."""
    items = await org.control.seed(KPI, [{"msdyn_name": f"K{n}", "msdyn_health": n} for n in range(500)])
    deals = await org.control.seed("opportunity", [{"name": f"D{n}", "msdyn_opportunitykpiid": item} for n, item in enumerate(items)])
    adapter = org.dataverse()
    position = (await chain(adapter))[-1].position
    org.watch.seen.clear()
    await org.control.skew_clock(timedelta(hours=1, seconds=5).total_seconds())
    pages = await chain(adapter, position)  # all of them were made within the overlap
    assert sorted(told(pages)) == sorted(deals)
    assert len(org.watch.seen) == 1 + 1 + 3
