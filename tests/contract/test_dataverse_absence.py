"""What says that a Dataverse row is gone, merged or another's: environment, single questions, complete walks, merges (laws 10 and 12)."""

import uuid
from collections.abc import AsyncIterator

import pytest

from sandbox.dataverse.organization import ORGANIZATION_ID
from shared.core.errors import Rejected, Transient
from shared.core.records import Row, Write, WriteKind
from tests.contract.dataverse_fake import ATTRIBUTES, ID1, ID2, ID3, US, Fake, adapter_on, attribute, error, multipart, reply, row
from tests.contract.dataverse_site import Site, one, pages, site

CREATE, UPDATE, DELETE = WriteKind.CREATE, WriteKind.UPDATE, WriteKind.DELETE
MISSING = {"error": {"code": "0x80040217", "message": f"account With Id = {ID1} Does Not Exist"}}


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


async def test_the_environment_is_the_organisation(org):
    """Law 12: the pin is the organisation's id, whatever address leads to it."""
    assert await org.dataverse().environment() == f"organization/{ORGANIZATION_ID}"
    assert org.dataverse().sees_all


async def test_an_environment_swapped_behind_its_address_is_noticed_within_ten_minutes():
    """Law 12: WhoAmI is kept for ten minutes at most; then another organisation, and who we are in it, are seen."""
    organisations = [ID1, ID2]
    now = [0.0]
    fake = Fake()

    async def swapped(request):
        if request.url.path.endswith("/WhoAmI"):
            return reply({"UserId": US if organisations == [ID2] else ID3, "OrganizationId": organisations[0], "BusinessUnitId": ID3})
        return await fake(request)

    adapter = adapter_on(swapped, monotonic=lambda: now[0])
    assert await adapter.environment() == f"organization/{ID1}"
    organisations.pop(0)
    now[0] = 599.0
    assert await adapter.environment() == f"organization/{ID1}"
    now[0] = 600.0
    assert await adapter.environment() == f"organization/{ID2}"
    assert (await adapter.identity()).user_id == US


async def test_each_id_is_asked_by_itself(org):
    """Law 10: a live row is there, a deleted one and one that never was are not; 250 ids are three requests."""
    adapter = org.dataverse()
    keys = await org.control.seed("account", [{"name": f"n{n}"} for n in range(250)])
    await org.control.delete("account", keys[7])
    await adapter.exist("account", [])
    await org.control.reset_requests()
    never = str(uuid.uuid4())
    answers = await adapter.exist("account", [*keys, keys[0].upper(), never])
    assert answers == {key: key != keys[7] for key in keys} | {never: False}
    assert (await org.control.requests())["by"]["POST $batch"] == 3


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": {"code": "0x80060888", "message": "Not found"}}),
        (404, {"error": {"code": "0x8006088a", "message": "Resource not found for the segment 'accounts'."}}),
        (404, None),
        (403, {"error": {"code": "0x80040220", "message": "missing prvReadAccount"}}),
        (429, {"error": {"code": "0x80072322", "message": "Number of requests exceeded"}}),
        (500, {"error": {"code": "0x80040217", "message": "does not exist"}}),
    ],
)
async def test_only_the_platforms_own_words_mean_that_a_row_does_not_exist(status, body):
    """Law 10: of two rows one is answered otherwise than "does not exist"; nobody knows about it, and the other's answer stands."""
    adapter = adapter_on(Fake([multipart((status, body), (404, MISSING))]))
    assert await adapter.exist("account", [ID2, ID1]) == {ID2: None, ID1: False}


async def test_a_row_that_was_not_answered_is_not_gone():
    """Law 10: a batch that came back without the last part says nothing about its row."""
    adapter = adapter_on(Fake([multipart((200, row(ID1)))]))
    assert await adapter.exist("account", [ID1, ID2]) == {ID1: True, ID2: None}


async def test_a_whole_request_that_failed_raises():
    """Law 10: no answer at all is no answer about any row: it raises, and nothing is believed."""
    adapter = adapter_on(Fake([error("0x80040216", "An unexpected error occurred.", 500)]))
    with pytest.raises(Transient):
        await adapter.exist("account", [ID1])


async def test_a_complete_walk_misses_no_row_that_stays(org):
    """Law 10: rows are deleted, edited and added between the pages; each row that was there all the time is in the union of pages."""
    keys = sorted(await org.control.seed("account", [{"name": f"n{n}"} for n in range(12_000)]))
    gone = {keys[10], keys[5_000], keys[11_000]}
    edited = [keys[3], keys[4_999], keys[9_000]]
    seen: set[str] = set()
    complete: list[bool] = []
    await org.control.reset_requests()
    async for page in org.dataverse().changes("account", (), None, None):
        seen |= {change.id for change in page.changes if change.stamp is not None and change.stamp.version}
        complete.append(page.complete)
        if len(complete) == 1:
            for key in gone:
                await org.control.delete("account", key)
            for key in edited:
                await org.control.edit("account", key, {"name": "edited"})
            await org.control.create("account", {"name": "new"})
    assert set(keys) - gone <= seen
    assert complete == [False, False, True]
    assert (await org.control.requests())["by"]["GET accounts"] == 3


async def test_a_merged_row_names_its_master(org):
    """Law 10: read, search and write all tell into which row one was merged; a row that was not merged tells nothing."""
    adapter = org.dataverse()
    winner, loser = await org.control.seed("account", [{"name": "A"}, {"name": "B"}])
    await org.control.merge("account", winner, loser)
    read = await adapter.read("account", [winner, loser], ["name"])
    assert {key: found.merged_into for key, found in read.items() if isinstance(found, Row)} == {winner: "", loser: winner}
    ((hit,),) = await adapter.find("account", [{"name": "B"}], ["name"])
    assert (hit.id, hit.merged_into) == (loser, winner)
    written = await one(adapter, UPDATE, loser, {"name": "C"}, hit)
    assert written.row is not None
    assert written.row.merged_into == winner
    assert {change.id for page in await pages(adapter, ["name"]) for change in page.changes} == {winner, loser}


async def test_a_merge_is_told_by_the_first_write_and_only_by_both_columns():
    """Law 10: an adapter that has only written tells of a merge too; a master without the mark of a merge is none."""
    merging = [*ATTRIBUTES, attribute("merged", "Boolean"), attribute("masterid", "Lookup", Targets=["account"])]
    shown = {"merged": True, "_masterid_value": ID2.upper()}
    writing = adapter_on(Fake([multipart((200, row(ID1, name="A", **shown)))], attributes=merging))
    assert [found.row.merged_into for found in [await one(writing, UPDATE, ID1, {"name": "A"})] if found.row] == [ID2]
    for some in ({**shown, "merged": False}, {**shown, "_masterid_value": None}):
        reading = adapter_on(Fake([reply({"value": [row(ID1, name="A", **some)]})], attributes=merging))
        found = (await reading.read("account", [ID1], ["name"]))[ID1]
        assert isinstance(found, Row)
        assert found.merged_into == ""


async def test_tables_without_merges_are_read_as_ever():
    """A table that has no such columns is read without them, and its metadata is not asked for again because they are missing."""
    now = [0.0]
    fake = Fake(lambda _: reply({"value": [row(ID1, name="A")]}))
    adapter = adapter_on(fake, monotonic=lambda: now[0])
    await adapter.read("account", [ID1], ["name"])
    asked = len(fake.metadata)
    now[0] = 400.0  # beyond the time after which a missing column is looked for again
    found = (await adapter.read("account", [ID1], ["name"]))[ID1]
    assert isinstance(found, Row)
    assert (found.values, found.merged_into) == ({"name": "A"}, "")
    assert "merged" not in str(fake.seen[-1].url)
    assert len(fake.metadata) == asked


async def test_a_contact_under_a_contact_has_no_account_and_keeps_its_parent(org):
    """Law 9: a lookup that leads to another table reads as empty, and filling it is refused by name; the rest of the record is written."""
    adapter = org.dataverse()
    (account,) = await org.control.seed("account", [{"name": "A"}])
    (boss,) = await org.control.seed("contact", [{"lastname": "Boss"}])
    key = str(uuid.uuid4())
    names = ["lastname", "parentcustomerid_account"]
    created = await adapter.write("contact", [Write(CREATE, key, {"lastname": "X", "parentcustomerid_contact": boss})])
    assert created[0].error is None
    seen = (await adapter.read("contact", [key], names))[key]
    assert isinstance(seen, Row)
    assert (seen.values["parentcustomerid_account"], seen.elsewhere) == (None, {"parentcustomerid_account"})
    refused = (await adapter.write("contact", [Write(UPDATE, key, {"parentcustomerid_account": account}, seen)]))[0]
    assert isinstance(refused.error, Rejected)
    assert (refused.error.code, refused.error.field) == ("dataverse.refused", "parentcustomerid_account")
    written = (await adapter.write("contact", [Write(UPDATE, key, {"lastname": "Y"}, seen)]))[0]
    assert written.error is None
    stored = await org.control.row("contact", key)
    assert stored is not None
    assert (stored["lastname"], stored["parentcustomerid"], stored["parentcustomerid__type"]) == ("Y", boss, "contact")


async def test_a_lookup_that_is_free_again_can_be_filled(org):
    """Law 9: once the other table's link was taken away in Dynamics, the account is written."""
    adapter = org.dataverse()
    (account,) = await org.control.seed("account", [{"name": "A"}])
    (key,) = await org.control.seed("contact", [{"lastname": "X"}])
    seen = (await adapter.read("contact", [key], ["parentcustomerid_account"]))[key]
    assert isinstance(seen, Row)
    assert seen.elsewhere == frozenset()
    written = (await adapter.write("contact", [Write(UPDATE, key, {"parentcustomerid_account": account}, seen)]))[0]
    assert written.row is not None
    assert written.row.values == {"parentcustomerid_account": account}


async def test_deletes_go_by_the_version_that_was_seen(org):
    """Law 8: a delete of a row that somebody edited is Stale and does nothing; of the row as seen it is done; once more it is done too."""
    adapter = org.dataverse()
    (key,) = await org.control.seed("account", [{"name": "A"}])
    seen = (await adapter.read("account", [key], ["name"]))[key]
    assert isinstance(seen, Row)
    await org.control.edit("account", key, {"name": "B"})
    stale = await one(adapter, DELETE, key, {}, seen)
    assert stale.error is not None
    assert stale.error.code == "dataverse.changed_meanwhile"
    fresh = (await adapter.read("account", [key], ["name"]))[key]
    assert isinstance(fresh, Row)
    assert (await one(adapter, DELETE, key, {}, fresh)).error is None
    assert await org.control.row("account", key) is None
    assert (await one(adapter, DELETE, key, {}, fresh)).error is None


@pytest.mark.parametrize("status", [400, 403, 405])
async def test_a_row_that_others_need_is_not_deleted(status):
    """Creatio and Dynamics disagree until a person acts: 0x80040227 is the record's own refusal, whatever status carries it."""
    refusal = {"error": {"code": "0x80040227", "message": "The object cannot be deleted because it is associated with another object."}}
    adapter = adapter_on(Fake([multipart((status, refusal))]))
    result = await one(adapter, DELETE, ID1, {})
    assert isinstance(result.error, Rejected)
    assert (result.error.code, result.error.record_id) == ("dataverse.refused", ID1)
