"""Prove that the Dataverse adapter closes leads and cases by their actions, once, and reads what closed a case (dataverse.md 5; law 6)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from shared.core.errors import Rejected, Stale, Transient
from shared.core.records import KeyRange, RangeBy, Row, Value, Write, WriteKind, WriteResult
from shared.systems.dataverse import Dataverse
from shared.systems.dataverse_resolutions import UNSAID, activity_of, text_of
from tests.contract.dataverse_site import Site, new_id, sent, site

LEAD = ("subject", "statuscode", "statecode", "parentaccountid", "qualifyingopportunityid")
CASE = ("title", "statuscode", "resolution_text", "resolution_date")


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


async def seen(adapter: Dataverse, entity: str, key: str) -> Row:
    """Read a record as a plan does."""
    (row,) = (await adapter.read(entity, [key], LEAD if entity == "lead" else CASE)).values()
    assert isinstance(row, Row)
    return row


async def change(adapter: Dataverse, entity: str, row: Row, **values: Value) -> WriteResult:
    """Write to a record."""
    (result,) = await adapter.write(entity, [Write(WriteKind.UPDATE, row.id, values, row)])
    return result


async def changed(adapter: Dataverse, entity: str, key: str, **values: Value) -> Row:
    """Write to a record as it is now, and return what came back."""
    result = await change(adapter, entity, await seen(adapter, entity, key), **values)
    assert result.error is None, result.error
    assert result.row is not None
    return result.row


async def new_lead(org: Site) -> str:
    """Let a user create a lead."""
    return str((await org.control.create("lead", {"subject": "Roof", "lastname": "Lovelace"}))["leadid"])


async def new_case(org: Site, **values: object) -> str:
    """Let a user create a case."""
    account = (await org.control.seed("account", [{"name": "Acme"}]))[0]
    return str((await org.control.create("incident", {"title": "Smoke", "customerid": account, **values}))["incidentid"])


# --- leads ------------------------------------------------------------------------------------------------------------------


async def test_a_lead_is_qualified_by_its_action_and_nothing_is_doubled(org):
    """What else is written goes first, the action last of all; it makes no account, contact or opportunity."""
    adapter, key = org.dataverse(), await new_lead(org)
    account = (await org.control.seed("account", [{"name": "Acme"}]))[0]
    row = await changed(adapter, "lead", key, subject="New roof", parentaccountid=account, statuscode=3)
    assert (row.values["statecode"], row.values["statuscode"]) == (1, 3)
    assert (row.values["subject"], row.values["parentaccountid"]) == ("New roof", account)
    assert [len(await org.control.rows(name)) for name in ("account", "contact", "opportunity")] == [1, 0, 0]
    line, _, body = sent(org)[-1]
    assert line.startswith(f"POST /api/data/v9.2/leads({key})/Microsoft.Dynamics.CRM.QualifyLead ")
    assert body == {"CreateAccount": False, "CreateContact": False, "CreateOpportunity": False, "Status": 3}


async def test_a_new_lead_can_be_qualified_already(org):
    """Created and qualified in one change set; in a bulk run too, where CreateMultiple could only make an open one."""
    adapter = org.dataverse()
    await org.control.switch(bulk_tables=["lead"])
    writes = [Write(WriteKind.CREATE, new_id(), {"subject": f"Roof {n}", "lastname": "L", "statuscode": 3 - n % 2}) for n in range(60)]
    results = await adapter.write("lead", writes, bulk=True)
    assert [one.error for one in results] == [None] * 60
    rows = await org.control.rows("lead")
    assert sorted((row["subject"], row["statecode"]) for row in rows) == sorted((f"Roof {n}", 1 - n % 2) for n in range(60))
    assert len(org.watch.of("POST", "CreateMultiple")) == 1


@pytest.mark.parametrize("status", [4, 5, 6, 7])
async def test_a_lead_is_disqualified_and_reopened_by_its_state(org, status):
    """Disqualifying and reopening are changes of the state; an open one is written after it is reopened."""
    adapter, key = org.dataverse(), await new_lead(org)
    row = await changed(adapter, "lead", key, subject="Lost roof", statuscode=status)
    assert (row.values["statecode"], row.values["statuscode"], row.values["subject"]) == (2, status, "Lost roof")
    row = await changed(adapter, "lead", key, subject="Back", statuscode=1)
    assert (row.values["statecode"], row.values["subject"]) == (0, "Back")


async def test_a_qualified_lead_is_reopened_too(org):
    """A lead that was qualified by mistake goes back, and can be qualified again."""
    adapter, key = org.dataverse(), await new_lead(org)
    for status, state in ((3, 1), (2, 0), (3, 1)):
        assert (await changed(adapter, "lead", key, statuscode=status)).values["statecode"] == state


@pytest.mark.parametrize("status", [3, 7])
async def test_a_closed_lead_is_not_rewritten(org, status):
    """A write to a closed lead is refused and says so: nothing reopens it silently."""
    adapter, key = org.dataverse(), await new_lead(org)
    await changed(adapter, "lead", key, statuscode=status)
    result = await change(adapter, "lead", await seen(adapter, "lead", key), subject="Too late")
    assert isinstance(result.error, Rejected)
    assert (await seen(adapter, "lead", key)).values["subject"] == "Roof"


@pytest.mark.parametrize("entity", ["lead", "incident"])
async def test_a_lost_reply_after_a_closing_is_found_done(org, entity):
    """The record is Transient; the state read again says that it is done, and the plan made before it does it no second time."""
    adapter = org.dataverse()
    key, status = (await new_lead(org), 3) if entity == "lead" else (await new_case(org), 5)
    before = await seen(adapter, entity, key)
    await org.misbehave(kind="drop_after", method="POST", path="batch", times=1)
    assert isinstance((await change(adapter, entity, before, statuscode=status)).error, Transient)
    assert (await seen(adapter, entity, key)).values["statuscode"] == status
    result = await change(adapter, entity, before, statuscode=status)
    assert result.error is None
    assert result.row is not None
    assert result.row.values["statuscode"] == status
    assert len(await org.control.rows("incidentresolution")) == (entity == "incident")


@pytest.mark.parametrize("entity", ["lead", "incident"])
async def test_two_workers_close_a_record_once(org, entity):
    """Who comes second finds it done; with anything else to write it plans again."""
    adapter = org.dataverse()
    key, status, name = (await new_lead(org), 3, "subject") if entity == "lead" else (await new_case(org), 5, "title")
    before = await seen(adapter, entity, key)
    assert (await change(adapter, entity, before, statuscode=status)).error is None
    assert (await change(adapter, entity, before, statuscode=status)).error is None
    more: dict[str, Value] = {name: "Ours", "statuscode": status}
    assert isinstance((await change(adapter, entity, before, **more)).error, Stale)


async def test_a_refused_closing_that_was_not_done_stays_refused(org):
    """The state read again is another one: the refusal stands."""
    adapter, key = org.dataverse(), await new_lead(org)
    await changed(adapter, "lead", key, statuscode=7)
    result = await change(adapter, "lead", await seen(adapter, "lead", key), statuscode=3)
    assert isinstance(result.error, Rejected)


# --- the resolution of a case -----------------------------------------------------------------------------------------------


LONG = "First line of what was done, and it goes on: " + "x" * 300


@pytest.mark.parametrize("text", ["Toner replaced.", "Toner replaced.\nFuser cleaned.", LONG, "Done.\n\n" + LONG, "\N{ROCKET}" * 150])
async def test_what_resolves_a_case_is_said_and_read_back(org, text):
    """The whole text comes back; its beginning is the subject, which Dynamics shows, and never too long."""
    adapter, key = org.dataverse(), await new_case(org)
    row = await changed(adapter, "incident", key, resolution_text=text, statuscode=5)
    assert row.values["resolution_text"] == text
    assert isinstance(row.values["resolution_date"], datetime)
    (said,) = await org.control.rows("incidentresolution")
    assert said["subject"][:5] == text[:5]
    assert (await seen(adapter, "incident", key)).values == row.values


async def test_a_case_resolved_without_a_text_says_so(org):
    """Dynamics wants a subject, and what is read back is nothing."""
    adapter, key = org.dataverse(), await new_case(org)
    assert (await changed(adapter, "incident", key, resolution_text=None, statuscode=1000)).values["resolution_text"] is None
    assert [row["subject"] for row in await org.control.rows("incidentresolution")] == [UNSAID]


async def test_a_text_is_not_sent_without_the_action(org):
    """An open case and one that is closed already take no text: nothing is asked for, and the row is as it was."""
    adapter, key = org.dataverse(), await new_case(org)
    assert (await changed(adapter, "incident", key, resolution_text="Too early")).values["resolution_text"] is None
    row = await changed(adapter, "incident", key, resolution_text="Too early", title="Smoke!")
    assert (row.values["title"], row.values["resolution_text"]) == ("Smoke!", None)
    await changed(adapter, "incident", key, resolution_text="In time", statuscode=5)
    await org.control.reset_requests()
    before = await seen(adapter, "incident", key)
    reads = (await org.control.requests())["total"]
    assert (await change(adapter, "incident", before, resolution_text="Too late")).row == before
    assert (await org.control.requests())["total"] == reads


async def test_only_the_latest_resolution_of_a_resolved_case_counts(org):
    """A reopened case has none, and after another close only the new one is read."""
    adapter, key = org.dataverse(), await new_case(org)
    await changed(adapter, "incident", key, resolution_text="First", statuscode=5)
    assert (await changed(adapter, "incident", key, statuscode=1)).values["resolution_text"] is None
    row = await changed(adapter, "incident", key, resolution_text="Second", statuscode=5)
    assert row.values["resolution_text"] == "Second"
    assert len(await org.control.rows("incidentresolution")) == 2
    assert (await changed(adapter, "incident", key, statuscode=1)).values["resolution_date"] is None
    assert (await changed(adapter, "incident", key, statuscode=6)).values["resolution_text"] is None


async def test_resolutions_are_read_wherever_cases_are(org):
    """By id, by key and in a range the same; for many cases it is one more request, and for open ones none."""
    adapter = org.dataverse()
    keys = [await new_case(org) for _ in range(3)]
    await changed(adapter, "incident", keys[0], resolution_text="Done", statuscode=5)
    expected = {keys[0]: "Done", keys[1]: None, keys[2]: None}

    def texts(rows: dict[str, object]) -> dict[str, Value]:
        return {key: row.values["resolution_text"] for key, row in rows.items() if isinstance(row, Row)}

    assert texts(dict(await adapter.read("incident", keys, CASE))) == expected
    (hits,) = await adapter.find("incident", [{"title": "Smoke"}], CASE)
    assert texts({row.id: row for row in hits}) == expected
    part = KeyRange(RangeBy.CREATED, datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC), 3)
    page = await adapter.read_range("incident", part, CASE, None, 100)
    assert texts(dict(page.rows)) == expected
    assert all(set(row.values) == set(CASE) for row in page.rows.values() if isinstance(row, Row))
    for wanted, requests in ((keys, 2), (keys[1:], 1)):
        await org.control.reset_requests()
        await adapter.read("incident", wanted, CASE)
        assert (await org.control.requests())["total"] == requests


async def test_the_columns_of_the_resolution_are_described_and_followed(org):
    """They are known to the core and to no metadata: nothing is asked about them, and a change feed goes without."""
    adapter = org.dataverse()
    described = await adapter.describe("incident", CASE, ())
    assert (described.missing, described.columns["resolution_text"].max_length) == ((), 100_000)
    assert not described.columns["resolution_date"].updatable
    assert (await adapter.describe("lead", ("subject", "resolution_text"), ())).missing == ("resolution_text",)
    assert [page.complete async for page in adapter.changes("incident", CASE, None, None)] == [True]
    assert not [asked for asked in org.watch.of("GET", "incident") if "resolution_text" in asked.target]


async def test_a_case_with_open_child_cases_says_what_to_do(org):
    """The refusal has a code of its own, whose advice names the child cases; the case stays open."""
    adapter, key = org.dataverse(), await new_case(org)
    await new_case(org, parentcaseid=key)
    result = await change(adapter, "incident", await seen(adapter, "incident", key), statuscode=5)
    assert isinstance(result.error, Rejected)
    assert result.error.code == "dataverse.still_open"
    assert "child cases" in result.error.advice
    assert (await seen(adapter, "incident", key)).values["statuscode"] == 1


@pytest.mark.parametrize(
    ("subject", "description", "text"),
    [
        ("Toner replaced", None, "Toner replaced"),
        ("Toner replaced", "Ask for the old one.", "Toner replaced\nAsk for the old one."),
        (UNSAID, None, None),
        (UNSAID, "By the way.", "By the way."),
        (None, None, None),
        (None, "Only this", "Only this"),
    ],
)
def test_what_a_user_of_dynamics_says_is_read_whole(subject, description, text):
    """Subject and remarks of the dialog are one text, the subject first."""
    assert text_of(subject, description) == text


@pytest.mark.parametrize("text", ["a", "a\nb", "x" * 200, "x" * 201, "x" * 300 + "\ny", "\N{ROCKET}" * 100, "\N{ROCKET}" * 101])
def test_an_activity_is_read_as_it_was_written(text):
    """Whatever the length, the text that is read is the one that was written, and the subject fits."""
    activity = activity_of(text)
    assert text_of(activity["subject"], activity.get("description")) == text
    assert len(activity["subject"].encode("utf-16-le")) // 2 <= 200
