"""What an administrator does to a Dataverse environment, and what the adapter makes of it: restores, rights, columns, merges, bad texts."""

import uuid
from collections.abc import AsyncIterator

import pytest

from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.core.records import Row, Write, WriteKind
from tests.contract.dataverse_fake import ID1, Fake, adapter_on, multipart
from tests.contract.dataverse_site import Site, one, pages, site
from tests.contract.dataverse_stand_in import Organization, opened

CREATE, UPDATE, DELETE = WriteKind.CREATE, WriteKind.UPDATE, WriteKind.DELETE
NUL = "a\x00b"


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site(account_contacts="unlink") as made:
        yield made


@pytest.fixture
async def wire() -> AsyncIterator[Organization]:
    """Open a fresh organisation for each test."""
    async with opened() as made:
        yield made


async def test_a_restored_backup_brings_rows_versions_and_deletions_back(org):
    """Law 12: after the restore rows, their versions and the deleted ones are as they were; a delta link from before goes on."""
    adapter = org.dataverse()
    kept, edited, deleted = await org.control.seed("account", [{"name": "a"}, {"name": "b"}, {"name": "c"}])
    before = await adapter.read("account", [kept, edited, deleted], ["name"])
    old = (await pages(adapter, ["name"]))[-1].position
    await org.control.snapshot("monday")
    await org.control.edit("account", edited, {"name": "B"})
    await org.control.delete("account", deleted)
    new = await org.control.create("account", {"name": "n"})
    await org.control.restore("monday")
    assert await adapter.read("account", [kept, edited, deleted, str(new["accountid"])], ["name"]) == before
    assert [page.changes for page in await pages(adapter, ["name"], old)] == [[]]
    await org.control.edit("account", kept, {"name": "k"})
    assert [change.id for page in await pages(adapter, ["name"], old) for change in page.changes] == [kept]


async def test_a_position_from_after_the_backup_is_expired_for_good(org):
    """Law 12: what was told after the backup never was: its delta link stays Stale, also when versions have grown beyond it again."""
    adapter = org.dataverse()
    (key,) = await org.control.seed("account", [{"name": "a"}])
    await org.control.snapshot("monday")
    await org.control.edit("account", key, {"name": "b"})
    position = (await pages(adapter, ["name"]))[-1].position
    await org.control.restore("monday")
    for number in range(5):
        with pytest.raises(Stale) as caught:
            await pages(adapter, ["name"], position)
        assert caught.value.code == "dataverse.delta_expired"
        await org.control.edit("account", key, {"name": f"n{number}"})
    assert [change.id for page in await pages(adapter, ["name"]) for change in page.changes] == [key]


async def test_a_chain_that_began_after_the_backup_does_not_go_on(org):
    """Law 12: a page link of a chain from after the backup is expired like its delta link; one of a chain from before goes on."""
    adapter = org.dataverse(page_size=1)
    keys = await org.control.seed("account", [{"name": "a"}, {"name": "b"}])
    before = await anext(adapter.changes("account", ["name"], None, None))
    await org.control.snapshot("monday")
    await org.control.edit("account", keys[0], {"name": "c"})
    after = await anext(adapter.changes("account", ["name"], None, None))
    assert not before.complete
    assert not after.complete
    await org.control.restore("monday")
    with pytest.raises(Stale):
        await anext(adapter.changes("account", ["name"], after.position, None))
    rest = await pages(adapter, ["name"], before.position)
    assert {change.id for page in (before, *rest) for change in page.changes} == set(keys)


async def test_a_snapshot_works_on_a_file_and_only_under_its_name(tmp_path):
    """A stand-in on a file is restored like one in memory, and an unknown name is refused with the known ones."""
    async with opened(tmp_path / "org.sqlite") as wire:
        key = await wire.create(name="a")
        await wire.control("snapshot", {"name": "one"})
        await wire.edit(key, name="b")
        await wire.control("restore", {"name": "one"})
        assert (await wire.stored(key) or {})["name"] == "a"
        refused = await wire.http.post("http://contoso.test/_control/restore", json={"name": "two"})
        assert (refused.status_code, "one" in refused.text) == (404, True)
    async with opened(tmp_path / "org.sqlite") as again:
        assert (await again.stored(key) or {})["name"] == "a"


async def test_a_missing_read_privilege_stops_the_flow(org):
    """Without the right to read one table, polls, reads and searches of it are Denied, nothing is gone, and other tables go on."""
    adapter = org.dataverse()
    (key,) = await org.control.seed("account", [{"name": "a"}])
    position = (await pages(adapter, ["name"]))[-1].position
    await org.control.rights("account", read=False)
    asks = (
        lambda: pages(adapter, ["name"], position),
        lambda: pages(adapter, ["name"]),
        lambda: adapter.read("account", [key], ["name"]),
        lambda: adapter.find("account", [{"name": "a"}], ["name"]),
    )
    for ask in asks:
        with pytest.raises(Denied) as caught:
            await ask()
        assert caught.value.code == "dataverse.denied"
    assert await adapter.exist("account", [key]) == {key: None}
    assert await adapter.read("contact", [key], ["lastname"]) == {}
    await org.control.rights("account")
    assert (await adapter.exist("account", [key])) == {key: True}


async def test_a_missing_write_privilege_is_denied_not_refused_record_by_record(org):
    """Without the right to write one table nothing of it can be written: Denied, which stops the flow; reading goes on."""
    adapter = org.dataverse()
    (key,) = await org.control.seed("account", [{"name": "a"}])
    await org.control.rights("account", write=False)
    seen = (await adapter.read("account", [key], ["name"]))[key]
    assert isinstance(seen, Row)
    writes = [
        Write(CREATE, str(uuid.uuid4()), {"name": "n"}),
        Write(UPDATE, key, {"name": "b"}, seen),
        Write(DELETE, key, {}, seen),
    ]
    for result in await adapter.write("account", writes):
        assert isinstance(result.error, Denied)
        assert result.error.code == "dataverse.denied"
    assert (await org.control.row("account", key) or {})["name"] == "a"


async def test_a_column_that_is_removed_starts_a_new_chain_without_it(org):
    """Law 11: a delta link that names a removed column is Stale; describe tells that it is missing; added again it is empty and known."""
    adapter = org.dataverse()
    (key,) = await org.control.seed("account", [{"name": "a", "fax": "1"}])
    position = (await pages(adapter, ["name", "fax"]))[-1].position
    await org.control.remove_column("account", "fax")
    with pytest.raises(Stale) as caught:
        await pages(adapter, ["name", "fax"], position)
    assert caught.value.code == "dataverse.delta_expired"
    assert (await adapter.describe("account", ["name", "fax"], [])).missing == ("fax",)
    assert [change.id for page in await pages(adapter, ["name", "fax"]) for change in page.changes] == [key]
    await org.control.add_column("account", "fax")
    fresh = org.dataverse()
    assert (await fresh.describe("account", ["name", "fax"], [])).missing == ()
    assert {key: found.values for key, found in (await fresh.read("account", [key], ["fax"])).items() if isinstance(found, Row)} == {
        key: {"fax": None}
    }


async def test_a_custom_column_is_deleted_through_the_web_api(wire):
    """Dataverse.md 10: DELETE of a custom column takes it away; one of the system, one in a key and one that is not there are refused."""
    definition = {"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": "tandem_Note", "MaxLength": 50}
    attributes = "EntityDefinitions(LogicalName='account')/Attributes"
    assert (await wire.send("POST", attributes, definition)).status_code == 204
    await wire.send("POST", "PublishAllXml", {})
    key = await wire.create(name="a", tandem_note="x")
    assert (await wire.send("DELETE", f"{attributes}(LogicalName='tandem_note')")).status_code == 204
    assert (await wire.refused("GET", f"accounts({key})?$select=tandem_note"))[0] == 400
    assert (await wire.refused("GET", f"{attributes}(LogicalName='tandem_note')"))[0] == 404
    for name, status in (("tandem_note", 404), ("fax", 400), ("tandem_creatioid", 400)):
        assert (await wire.refused("DELETE", f"{attributes}(LogicalName='{name}')"))[0] == status
    assert (await wire.send("POST", attributes, definition)).status_code == 204
    await wire.send("POST", "PublishAllXml", {})
    assert (await wire.get(f"accounts({key})", select="tandem_note"))["tandem_note"] is None


async def test_removed_custom_columns_stay_removed_on_a_file(tmp_path):
    """What was customised holds over a restart on the same file: a new column is there, a removed one is not shipped again."""
    definition = {"@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata", "SchemaName": "tandem_Note", "MaxLength": 50}
    attributes = "EntityDefinitions(LogicalName='account')/Attributes"
    async with opened(tmp_path / "org.sqlite") as wire:
        await wire.send("POST", attributes, definition)
        keys = (await wire.get("EntityDefinitions(LogicalName='account')/Keys"))["value"]
        assert (await wire.send("DELETE", f"EntityDefinitions(LogicalName='account')/Keys({keys[0]['MetadataId']})")).status_code == 204
        assert (await wire.send("DELETE", f"{attributes}(LogicalName='tandem_creatioid')")).status_code == 204
    async with opened(tmp_path / "org.sqlite") as again:
        assert (await again.refused("GET", f"{attributes}(LogicalName='tandem_creatioid')"))[0] == 404
        assert (await again.get(f"{attributes}(LogicalName='tandem_note')", select="LogicalName"))["LogicalName"] == "tandem_note"


def merge_body(master: str, subordinate: str, **content: object) -> dict[str, object]:
    """Return the body of the Merge action for accounts."""
    kind = {"@odata.type": "Microsoft.Dynamics.CRM.account"}
    update = {"UpdateContent": {**kind, **content}} if content else {}
    rows = {"Target": {**kind, "accountid": master}, "Subordinate": {**kind, "accountid": subordinate}}
    return {**rows, **update, "PerformParentingChecks": False}


async def test_the_merge_action_moves_children_and_shows_in_the_delta(wire):
    """[memory] Merge: the loser is inactive and names its master, children move and are stamped, all of it is in the delta."""
    master, loser = await wire.seed({"name": "A"}, {"name": "B"})
    (daughter,) = await wire.seed({"name": "D", "parentaccountid": loser})
    (contact,) = await wire.seed({"lastname": "C", "parentcustomerid": loser, "modifiedon": "2020-01-01T00:00:00Z"}, entity="contact")
    first = await wire.get("accounts?$select=name", prefer="odata.track-changes")
    answer = await wire.send("POST", "Merge", merge_body(master, loser, telephone1="1"))
    assert answer.status_code == 204
    stored = await wire.stored(loser) or {}
    assert (stored["merged"], stored["masterid"], stored["statecode"], stored["statuscode"]) == (True, master, 1, 2)
    assert (await wire.stored(master) or {})["telephone1"] == "1"
    assert (await wire.stored(daughter) or {})["parentaccountid"] == master
    moved = await wire.stored(contact, "contact") or {}
    assert (moved["parentcustomerid"], moved["parentcustomerid__type"]) == (master, "account")
    assert moved["modifiedon"] > "2020-01-02"
    delta = await wire.get(first["@odata.deltaLink"])
    assert {row["accountid"] for row in delta["value"]} == {master, loser, daughter}


async def test_what_can_not_be_merged(wire):
    """[memory] Merge: a row with itself, one that was merged, one that is not there and one of another table are refused."""
    master, loser, other = await wire.seed({"name": "A"}, {"name": "B"}, {"name": "C"})
    await wire.send("POST", "Merge", merge_body(master, loser))
    assert (await wire.refused("POST", "Merge", merge_body(master, master)))[0] == 400
    assert (await wire.refused("POST", "Merge", merge_body(other, loser)))[0] == 400
    assert (await wire.refused("POST", "Merge", merge_body(other, str(uuid.uuid4()))))[:2] == (404, "0x80040217")
    mixed = merge_body(master, other) | {"Subordinate": {"@odata.type": "Microsoft.Dynamics.CRM.contact", "contactid": other}}
    assert (await wire.refused("POST", "Merge", mixed))[0] == 400
    assert (await wire.refused("POST", "Merge", {"Target": {"@odata.type": "x"}}))[0] == 400
    assert (await wire.refused("GET", "Merge"))[0] == 404


async def test_a_master_does_not_become_its_own_parent(wire):
    """[memory] Merge: a master that was a daughter of the loser has no parent afterwards."""
    (loser,) = await wire.seed({"name": "B"})
    (master,) = await wire.seed({"name": "A", "parentaccountid": loser})
    await wire.control("merge", {"entity": "account", "winner": master, "loser": loser})
    assert (await wire.stored(master) or {})["parentaccountid"] is None


@pytest.mark.parametrize("policy", ["unlink", "delete"])
async def test_contacts_of_a_deleted_account(policy):
    """[memory] A delete of an account unlinks its contacts or takes them along, as its relationship says; either way the delta tells."""
    async with opened(account_contacts=policy) as wire:
        (account,) = await wire.seed({"name": "A"})
        (contact,) = await wire.seed({"lastname": "C", "parentcustomerid": account}, entity="contact")
        first = await wire.get("contacts?$select=_parentcustomerid_value", prefer="odata.track-changes")
        assert (await wire.send("DELETE", f"accounts({account})")).status_code == 204
        (change,) = (await wire.get(first["@odata.deltaLink"]))["value"]
        if policy == "unlink":
            assert (change["contactid"], change["_parentcustomerid_value"]) == (contact, None)
        else:
            assert (change["id"], change["reason"]) == (contact, "deleted")


async def test_an_answer_that_breaks_off_is_an_answer_that_is_lost(org):
    """A body shorter than promised: a write is Transient though it was done, a read is asked for once more and answered."""
    adapter = org.dataverse()
    (key,) = await org.control.seed("account", [{"name": "a"}])
    seen = (await adapter.read("account", [key], ["name"]))[key]
    assert isinstance(seen, Row)
    await org.misbehave(kind="short_body", times=1)
    lost = await one(adapter, UPDATE, key, {"name": "b"}, seen)
    assert isinstance(lost.error, Transient)
    assert (await org.control.row("account", key) or {})["name"] == "b"
    await org.misbehave(kind="short_body", times=1)
    found = (await adapter.read("account", [key], ["name"]))[key]
    assert isinstance(found, Row)
    assert found.values == {"name": "b"}


async def test_a_text_with_nul_makes_its_way_or_fails_by_name():
    """U+0000: where the server keeps it the text comes back whole; where it refuses it the record fails naming the column, others go on."""
    async with site() as kept:
        result = await one(kept.dataverse(), CREATE, str(uuid.uuid4()), {"name": NUL})
        assert result.row is not None
        assert result.row.values == {"name": NUL}
        assert [[hit.id for hit in hits] for hits in await kept.dataverse().find("account", [{"name": NUL}], ["name"])] == [[result.id]]
    async with site(nul_in_text="refuse") as refusing:
        writes = [Write(CREATE, str(uuid.uuid4()), {"name": "a", "fax": NUL}), Write(CREATE, str(uuid.uuid4()), {"name": "b"})]
        bad, good = await refusing.dataverse().write("account", writes)
        assert isinstance(bad.error, Rejected)
        assert bad.error.field == "fax"
        assert good.error is None


async def test_of_two_bad_texts_none_is_blamed_alone():
    """Law 13: with two texts that XML can't hold nobody knows which one the server means: the whole record fails."""
    refusal = {"error": {"code": "0x80040203", "message": "'\x01', hexadecimal value 0x01, is an invalid character. Line 1, position 2."}}
    adapter = adapter_on(Fake([multipart((400, refusal), (400, refusal))]))
    two = await adapter.write("account", [Write(UPDATE, ID1, {"name": NUL, "description": "\x01"}), Write(UPDATE, ID1, {"name": "\x01"})])
    assert [(error.code, error.field) for result in two if (error := result.error)] == [
        ("dataverse.refused", ""),
        ("dataverse.refused", "name"),
    ]


@pytest.mark.parametrize("text", [NUL, "half \ud800", "\udfff", "\x01"])
async def test_a_search_for_an_odd_text_ends(org, text):
    """A key that no text can equal is no hit or a coded error that lasts, never a crash and never something to try again for ever."""
    try:
        hits = await org.dataverse().find("account", [{"name": text}], ["name"])
    except TandemError as error:
        assert isinstance(error, Rejected)  # noqa: PT017 - both outcomes are fine, no third one is
    else:
        assert hits == [[]]
