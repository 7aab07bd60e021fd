"""What says that a Creatio record is gone: environment, single questions, complete walks, deletes (laws 10 to 12; creatio.md 2.4, 6)."""

import uuid
from typing import Any

import httpx
import pytest

from shared.core.errors import Transient
from shared.core.records import Row, Write, WriteKind
from tests.contract.creatio_site import Doors, Site, ids_of
from tests.contract.test_creatio_adapter_faults import ONE, TWO, adapter_for, row

LONG_AGO = "2024-07-05T04:33:37.315174Z"
NOT_FOUND = {"error": {"code": "", "message": "Not Found"}}


def parts(*answers: tuple[int, Any]) -> httpx.Response:
    """Answer a batch: its parts by status and body, in order."""
    responses = [{"id": str(place), "status": status, "headers": {}, "body": body} for place, (status, body) in enumerate(answers, 1)]
    return httpx.Response(200, json={"responses": responses})


async def test_the_environment_is_the_address(site: Site) -> None:
    """Law 12: the same site under another spelling of its address is the same, another path is another site."""
    names = []
    for address in ("https://CRM.example.com/App", "https://crm.example.com/app/", "https://crm.example.com/test"):
        adapter = adapter_for(lambda _: parts(), base_url=address)
        names.append(await adapter.environment())
    assert names == ["site/crm.example.com/app", "site/crm.example.com/app", "site/crm.example.com/test"]
    assert await site.creatio().environment() == "site/" + site.url.removeprefix("http://")


def test_absence_says_nothing_unless_the_operator_says_so(doors: Doors) -> None:
    """Law 10, creatio.md 6: record rights hide rows silently, so seeing all is a promise that somebody must have made."""
    assert not adapter_for(lambda _: parts()).sees_all
    assert adapter_for(lambda _: parts(), sees_all=True).sees_all


async def test_each_id_is_asked_by_itself(site: Site) -> None:
    """Law 10: a live record is there, a deleted one and one that never was are not; 250 ids are three requests."""
    adapter = site.creatio()
    ids = await site.seed([{"Name": f"n{number}"} for number in range(250)])
    await site.delete(ids[7])
    never = str(uuid.uuid4())
    await adapter.exist("Account", [])
    await site.reset_counts()
    answers = await adapter.exist("Account", [*ids, ids[0].upper(), never])
    assert answers == {one: one != ids[7] for one in ids} | {never: False}
    assert (await site.counts())["by"]["POST $batch"] == 3


@pytest.mark.parametrize(
    "answer",
    [(404, "<html>404</html>"), (500, NOT_FOUND), (403, NOT_FOUND), (401, NOT_FOUND), (429, NOT_FOUND), (302, "")],
)
async def test_only_a_plain_not_found_means_that_a_record_does_not_exist(answer: tuple[int, Any]) -> None:
    """Law 10: of two records one is answered otherwise than "not found"; nobody knows about it, and the other's answer stands."""
    adapter = adapter_for(lambda _: parts((200, {"value": []}), answer, (404, NOT_FOUND)))
    assert await adapter.exist("Account", [ONE, TWO]) == {ONE: None, TWO: False}


async def test_an_object_that_is_away_while_somebody_publishes_has_lost_no_record() -> None:
    """Creatio.md 2.1: where the whole object is "not found" none of its records is gone; nor when the proof of it is missing."""
    missing = {"Message": "No HTTP resource was found that matches the request URI 'x'."}
    for proof in ((404, missing), (404, NOT_FOUND), (500, NOT_FOUND)):
        adapter = adapter_for(lambda _, proof=proof: parts(proof, (404, NOT_FOUND)))
        assert await adapter.exist("Account", [ONE]) == {ONE: None}
    unanswered = adapter_for(lambda _: httpx.Response(200, json={"responses": [{"id": "2", "status": 404, "body": NOT_FOUND}]}))
    assert await unanswered.exist("Account", [ONE]) == {ONE: None}


async def test_a_whole_request_that_failed_raises() -> None:
    """Law 10: no answer at all is no answer about any record: it raises, and nothing is believed."""
    with pytest.raises(Transient):
        await adapter_for(lambda _: httpx.Response(503)).exist("Account", [ONE])


async def test_a_complete_walk_is_few_requests_and_misses_no_record_that_stays(site: Site) -> None:
    """Law 10: records are deleted, edited and added between the pages; each that was there all the time is in the union of pages."""
    times = [f"2024-07-05T04:{number // 600:02}:{number // 10 % 60:02}Z" for number in range(12_000)]
    ids = await site.seed([{"Name": "n", "ModifiedOn": time} for time in times])
    gone = {ids[10], ids[5_500], ids[11_000]}
    seen: set[str] = set()
    complete: list[bool] = []
    await site.reset_counts()
    async for page in site.creatio(page_size=20).changes("Account", (), None, None):
        seen |= set(ids_of([page]))
        complete.append(page.complete)
        if len(complete) == 1:
            for one in gone:
                await site.delete(one)
            for one in (ids[3], ids[4_999], ids[9_000]):
                await site.edit(one, {"Name": "edited"})
            await site.seed([{"Name": "new"}])
    assert set(ids) - gone <= seen
    assert complete == [False, False, True]
    assert (await site.counts())["by"]["GET Account"] == 3


async def test_a_complete_walk_through_one_time_survives_deletes(site: Site) -> None:
    """Law 10: 11,000 records share one time, and the rows of the pages read are deleted one after another: no other is passed over."""
    ids = sorted(await site.seed([{"Name": "n", "ModifiedOn": LONG_AGO} for _ in range(11_000)]))
    seen: set[str] = set()
    number = 0
    async for page in site.creatio().changes("Account", (), None, None):
        seen |= set(ids_of([page]))
        number += 1
        if number <= 2:
            for one in ids[number * 10 : number * 10 + 3]:
                await site.delete(one)
    assert seen >= set(ids[40:])


@pytest.mark.parametrize("next_link", [False, True])
async def test_a_walk_that_the_server_cuts_short_is_not_complete(doors: Doors, next_link: bool) -> None:
    """Law 10: where the server shows fewer rows a page than were asked for, only the page that reaches its count is the last."""
    async with doors.creatio(max_entity_row_count=37, next_link=next_link) as site:
        ids = await site.seed([{"Name": "x", "ModifiedOn": LONG_AGO} for _ in range(100)])
        pages = [page async for page in site.creatio().changes("Account", (), None, None)]
        assert {change.id for page in pages for change in page.changes} == set(ids)
        assert [page.complete for page in pages] == [False] * (len(pages) - 1) + [True]


async def test_a_count_that_is_never_reached_is_no_complete_walk() -> None:
    """Law 10: a server that counts more rows than it shows is not believed: the walk fails instead of ending."""
    body = {"value": [row()], "@odata.count": 3}
    with pytest.raises(Transient) as caught:
        _ = [page async for page in adapter_for(lambda _: httpx.Response(200, json=body)).changes("Account", (), None, None)]
    assert caught.value.code == "creatio.bad_answer"


async def test_a_delete_tells_what_was_there_and_a_record_that_is_gone_is_done(site: Site) -> None:
    """Law 8: of a record that somebody edited the result shows the state before; deleting what is gone already is written, too."""
    adapter = site.creatio()
    (one,) = await site.seed([{"Name": "a"}])
    seen = (await adapter.read("Account", [one], ["Name"]))[one]
    assert isinstance(seen, Row)
    await site.edit(one, {"Name": "b"})
    (result,) = await adapter.write("Account", [Write(WriteKind.DELETE, one, {}, seen)])
    assert (result.error, result.row) == (None, None)
    assert result.before is not None
    assert result.before.values == {"Name": "b"}
    assert await site.row(one) is None
    (again,) = await adapter.write("Account", [Write(WriteKind.DELETE, one, {}, seen)])
    assert (again.error, again.row, again.before) == (None, None, None)


async def test_a_record_that_others_need_is_not_deleted(site: Site) -> None:
    """Creatio.md 2.4: a refusal by a foreign key is the record's own, with its row as it still is; the record beside it is deleted."""
    adapter = site.creatio()
    needed, free = await site.seed([{"Name": "a"}, {"Name": "b"}])
    await site.seed([{"Name": "c", "AccountId": needed}], "Contact")
    rows = await adapter.read("Account", [needed, free], ["Name"])
    deletes = [Write(WriteKind.DELETE, one, {}, seen) for one in (needed, free) if isinstance(seen := rows[one], Row)]
    refused, done = await adapter.write("Account", deletes)
    assert refused.error is not None
    assert (refused.error.code, refused.error.record_id) == ("creatio.refused", needed)
    assert refused.row == rows[needed]
    assert done.error is None
    assert await site.row(free) is None


async def test_a_delete_that_finds_nothing_is_done_only_when_a_read_says_so() -> None:
    """Creatio.md 2.1: "not found" for the delete and for every read is an object that is away for a moment, not a record that is gone."""
    away = adapter_for(lambda _: parts((404, NOT_FOUND), (404, NOT_FOUND), (404, NOT_FOUND)))
    (result,) = await away.write("Account", [Write(WriteKind.DELETE, ONE, {})])
    assert result.error is not None
    shown = adapter_for(lambda _: parts((200, {"value": []}), (404, NOT_FOUND), (200, {"value": [row()]})))
    (result,) = await shown.write("Account", [Write(WriteKind.DELETE, ONE, {})])
    assert result.error is not None
    gone = adapter_for(lambda _: parts((200, {"value": []}), (404, NOT_FOUND), (200, {"value": []})))
    (result,) = await gone.write("Account", [Write(WriteKind.DELETE, ONE, {})])
    assert result.error is None
