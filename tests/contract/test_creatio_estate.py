"""What an administrator does to a Creatio site, and what the adapter makes of it: restores, rights, columns, emptied links, bad texts."""

import uuid
from collections.abc import AsyncIterator

import pytest

from sandbox.control_client import Control
from shared.core.errors import Denied, Rejected, TandemError, Transient
from shared.core.records import Row, Write, WriteKind
from tests.contract.creatio_site import Site, ids_of, walk
from tests.contract.creatio_stand_in import Tenant

NUL = "a\x00b"


@pytest.fixture
async def control(site: Site) -> AsyncIterator[Control]:
    """Give the control API of the test's stand-in."""
    client = Control("creatio", site.url)
    yield client
    await client.close()


async def row_of(site: Site, record_id: str, *columns: str) -> Row:
    """Read one record that must be there."""
    found = (await site.creatio().read("Account", [record_id], columns))[record_id]
    assert isinstance(found, Row)
    return found


async def test_a_restored_backup_brings_rows_back(site: Site, control: Control) -> None:
    """Law 12: after the restore edited, deleted and new records are as they were, down to their times; nothing announces it."""
    adapter = site.creatio(sees_all=True)
    kept, edited, deleted = await site.seed([{"Name": "a"}, {"Name": "b"}, {"Name": "c"}])
    before = await adapter.read("Account", [kept, edited, deleted], ["Name"])
    await control.snapshot("monday")
    await site.edit(edited, {"Name": "B"})
    await site.delete(deleted)
    new = str((await control.create("Account", {"Name": "n"}))["Id"])
    position = (await walk(adapter))[-1].position
    await control.restore("monday")
    assert await adapter.read("Account", [kept, edited, deleted, new], ["Name"]) == before
    assert await adapter.exist("Account", [deleted, new]) == {deleted: True, new: False}
    assert set(ids_of(await walk(adapter, position))) <= {kept, edited, deleted}


async def test_an_unknown_snapshot_is_refused(control: Control) -> None:
    """A restore names the snapshots that there are."""
    await control.snapshot("monday")
    with pytest.raises(Exception, match="monday"):
        await control.restore("tuesday")


@pytest.mark.parametrize("status", [403, 500])
async def test_a_missing_right_to_read_stops_the_flow(site: Site, control: Control, status: int) -> None:
    """Creatio.md 3: without the right to read one object, polls, reads and searches of it are Denied, and nothing of it is gone."""
    adapter = site.creatio()
    (one,) = await site.seed([{"Name": "a"}])
    position = (await walk(adapter))[-1].position
    await site.settings(right_status=status)
    await control.rights("Account", read=False)
    for ask in (
        lambda: walk(adapter, position),
        lambda: adapter.read("Account", [one], ["Name"]),
        lambda: adapter.find("Account", [{"Name": "a"}], ["Name"]),
    ):
        with pytest.raises(Denied) as caught:
            await ask()
        assert caught.value.code == "creatio.denied"
    assert await adapter.exist("Account", [one]) == {one: None}
    assert ids_of(await walk(adapter, entity="Contact")) != []
    await control.rights("Account")
    assert await adapter.exist("Account", [one]) == {one: True}


@pytest.mark.parametrize("status", [403, 500])
async def test_a_missing_right_to_write_refuses_each_record(site: Site, control: Control, status: int) -> None:
    """Creatio.md 3: without the right to write one object, creates, updates and deletes are refused record by record; reading goes on."""
    (one,) = await site.seed([{"Name": "a"}])
    await site.settings(right_status=status)
    await control.rights("Account", write=False)
    seen = await row_of(site, one, "Name")
    writes = [
        Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": "n"}),
        Write(WriteKind.UPDATE, one, {"Name": "b"}, seen),
    ]
    results = await site.creatio().write("Account", writes)
    results = [*results, *await site.creatio().write("Account", [Write(WriteKind.DELETE, one, {}, seen)])]
    assert [error.code for result in results if (error := result.error)] == ["creatio.refused"] * 3
    assert await row_of(site, one, "Name") == seen


async def test_hidden_rows_are_absent_and_said_not_to_exist(site: Site) -> None:
    """Creatio.md 6: a record right hides a row from walks and from single reads alike: only the operator's word tells it from a delete."""
    one, hidden = await site.seed([{"Name": "a"}, {"Name": "b"}])
    await site.settings(hidden_ids={"Account": [hidden]})
    adapter = site.creatio()
    assert ids_of(await walk(adapter)) == [one]
    assert await adapter.exist("Account", [one, hidden]) == {one: True, hidden: False}
    assert not adapter.sees_all


async def test_a_column_that_is_removed_is_missing_and_comes_back_empty(site: Site, control: Control) -> None:
    """Law 13: a removed column is told by describe and refused by name on a write; added again it is known and empty."""
    adapter = site.creatio(csdl_seconds=0)
    (one,) = await site.seed([{"Name": "a", "Code": "1"}])
    await control.remove_column("Account", "Code")
    assert (await adapter.describe("Account", ["Name", "Code"], [])).missing == ("Code",)
    (result,) = await adapter.write("Account", [Write(WriteKind.UPDATE, one, {"Code": "2"})])
    assert isinstance(result.error, Rejected)
    assert (result.error.code, result.error.field) == ("creatio.unknown_column", "Code")
    with pytest.raises(Rejected) as caught:
        await adapter.read("Account", [one], ["Code"])
    assert (caught.value.code, caught.value.field) == ("creatio.unknown_column", "Code")
    await control.add_column("Account", "Code")
    assert (await adapter.read("Account", [one], ["Code"]))[one] == await row_of(site, one, "Code")
    assert (await row_of(site, one, "Code")).values == {"Code": None}


async def test_a_lookup_that_is_removed_takes_its_navigations_along(tenant: Tenant) -> None:
    """Creatio.md 2.1: neither the lookup nor the collection that it made on the other object is in the metadata; both come back with it."""
    collection, column = "ContactCollectionByAccount", '<Property Name="AccountId"'

    async def shown() -> tuple[bool, int]:
        text = (await tenant.http.get("/0/odata/$metadata")).text
        return collection in text, text.count(column)

    before = await shown()
    await tenant.control("columns/remove", {"entity": "Contact", "column": "AccountId"})
    assert await shown() == (False, before[1] - 1)
    await tenant.control("columns/add", {"entity": "Contact", "column": "AccountId"})
    assert await shown() == before
    await tenant.control("columns/add", {"entity": "Contact", "column": "UsrNew"})
    made = await tenant.post("Contact", {"Name": "x", "UsrNew": "y"})
    assert (await tenant.stored("Contact", made["Id"]))["UsrNew"] == "y"


async def test_columns_that_can_not_come_or_go(tenant: Tenant) -> None:
    """The columns that every object has stay, an unknown one is refused, and so is one that is there already."""
    for path, column in (("remove", "Id"), ("remove", "ModifiedOn"), ("remove", "Nothing"), ("add", "Name")):
        answer = await tenant.http.post(f"/_control/columns/{path}", json={"entity": "Account", "column": column})
        assert answer.status_code == 400, column


async def test_a_delete_that_empties_links_moves_no_time(site: Site) -> None:
    """Creatio.md 2.4: where the column is set to be emptied, a delete goes through and the referring record loses its link by SQL."""
    await site.settings(delete_referenced="empty")
    (account,) = await site.seed([{"Name": "a"}])
    (contact,) = await site.seed([{"Name": "c", "AccountId": account}], "Contact")
    before = await site.row(contact, "Contact")
    assert before is not None
    (result,) = await site.creatio().write("Account", [Write(WriteKind.DELETE, account, {}, await row_of(site, account, "Name"))])
    assert result.error is None
    assert await site.row(account) is None
    assert await site.row(contact, "Contact") == before | {"AccountId": None}


async def test_an_answer_that_breaks_off_is_an_answer_that_is_lost(site: Site) -> None:
    """A body shorter than promised: a write is Transient though it was done, a read is asked for once more and answered."""
    adapter = site.creatio()
    (one,) = await site.seed([{"Name": "a"}])
    seen = await row_of(site, one, "Name")
    await adapter.read("Account", [one], ["Name"])
    await site.chaos({"kind": "short_body", "times": 1, "path": "batch"})
    (lost,) = await adapter.write("Account", [Write(WriteKind.UPDATE, one, {"Name": "b"}, seen)])
    assert isinstance(lost.error, Transient)
    await site.chaos({"kind": "short_body", "times": 1, "path": "batch"})
    found = (await adapter.read("Account", [one], ["Name"]))[one]
    assert isinstance(found, Row)
    assert found.values == {"Name": "b"}


@pytest.mark.parametrize("text", [NUL, "half \ud800"])
async def test_a_text_that_postgresql_can_not_hold_fails_its_column(site: Site, text: str) -> None:
    """U+0000 and half a surrogate pair: the record fails naming the column, the record beside it is written, nothing is Transient."""
    writes = [
        Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": "a", "Code": text}),
        Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": "b"}),
    ]
    bad, good = await site.creatio().write("Account", writes)
    assert isinstance(bad.error, Rejected)
    assert (bad.error.code, bad.error.field) == ("creatio.refused", "Code")
    assert good.error is None


async def test_of_two_bad_texts_none_is_blamed_alone(site: Site) -> None:
    """Law 13: with two texts that PostgreSQL can't hold nobody knows which one it means: the whole record fails."""
    (result,) = await site.creatio().write("Account", [Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": NUL, "Code": NUL})])
    assert isinstance(result.error, Rejected)
    assert result.error.field == ""


async def test_sql_server_keeps_nul(site: Site) -> None:
    """[memory] On SQL Server a text with U+0000 is stored and comes back whole."""
    await site.settings(nul_in_text="accept")
    (result,) = await site.creatio().write("Account", [Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": NUL})])
    assert result.row is not None
    assert result.row.values == {"Name": NUL}


@pytest.mark.parametrize("text", [NUL, "half \ud800"])
async def test_a_search_for_such_a_text_is_a_lasting_error_of_its_key(site: Site, text: str) -> None:
    """A key that the database can't be asked for is Rejected, never an outage that is tried again for ever; other keys can be asked."""
    with pytest.raises(TandemError) as caught:
        await site.creatio().find("Account", [{"Name": "a"}, {"Name": text}], ["Name"])
    assert isinstance(caught.value, Rejected)
    assert caught.value.code == "creatio.bad_request"
    assert await site.creatio().find("Account", [{"Name": "a"}], ["Name"]) == [[]]


async def test_postgresql_answers_500_to_a_search_for_nul(tenant: Tenant) -> None:
    """Creatio.md 3: the database refuses the text in a filter as in a row; SQL Server finds nothing."""
    status, message = await tenant.refused("Account", **{"$filter": "Name eq 'a\x00b'"})
    assert (status, message) == (500, "An error has occurred.")
    await tenant.settings(nul_in_text="accept")
    assert await tenant.names("Name eq 'a\x00b'") == []
