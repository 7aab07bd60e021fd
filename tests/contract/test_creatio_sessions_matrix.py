"""Every way in which a session or token ends, on both flavours and with both logins, wherever it happens (creatio.md 1.2 to 1.4, 9.2).

What must come of it stands in `ENDINGS`: *renewed* (one new login, nobody notices), *untouched* (no login at all), or the code of the error
that stops the flow. A login page with 200 does not prove that a write has not run, so a write that meets it is not repeated.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from shared.core.errors import Denied, Transient
from shared.core.records import RangeBy, Row, Write, WriteKind, WriteResult
from shared.systems.creatio import Creatio
from tests.contract.creatio_site import Doors, Site, ids_of, walk
from tests.contract.test_creatio_sessions import logins

GOOD = {"UserName": "integration", "UserPassword": "integration-password"}
RENEWED, UNTOUCHED = "renewed", "untouched"


@dataclass(frozen=True)
class Ending:
    """A way in which a session ends: the site's settings, the trouble that ends it, and what must come of it by login."""

    forms: str
    oauth: str
    settings: dict[str, Any] = field(default_factory=dict)
    chaos: str = "expire"
    proves: bool = True
    """Whether the answer proves that a write has not run."""


ENDINGS = {
    "401": Ending(RENEWED, RENEWED, {"session_answer": "401"}),
    "302 to the login page": Ending(RENEWED, RENEWED, {"session_answer": "302"}),
    "301 to the login page": Ending(RENEWED, RENEWED, {"session_answer": "301"}),
    "200 with the login page": Ending(RENEWED, RENEWED, {"session_answer": "200"}, proves=False),
    "401 in the JSON of a service": Ending(RENEWED, RENEWED, {"session_answer": "svc"}),
    "403": Ending(RENEWED, "creatio.denied", {"session_answer": "403"}),
    "403 for BPMCSRF": Ending(RENEWED, "creatio.denied", chaos="csrf"),
    "403 for BPMCSRF with HTML": Ending(RENEWED, "creatio.denied", {"csrf_body": "html"}, chaos="csrf"),
    "password expired": Ending("creatio.password_expired", UNTOUCHED, {"password_expired": True}, chaos=""),
    "another login": Ending(RENEWED, UNTOUCHED, {"one_session_per_user": True}, chaos=""),
}


@dataclass
class Case:
    """One cell of the matrix: a site, an adapter that has worked already, and how its session will end."""

    site: Site
    adapter: Creatio
    ending: Ending
    auth: str
    ids: list[str]

    @property
    def outcome(self) -> str:
        """Return what must come of it."""
        return self.ending.forms if self.auth == "forms" else self.ending.oauth

    @property
    def new_logins(self) -> int:
        """Return how many logins it must cost, however many calls meet it: a refused one counts too."""
        return int(self.outcome in (RENEWED, "creatio.password_expired"))

    async def end(self) -> None:
        """End the session, so that the next request meets it."""
        await self.site.settings(**self.ending.settings)
        if self.ending.chaos:
            await self.site.chaos({"kind": self.ending.chaos, "times": 1, "path": "odata"})
        elif "one_session_per_user" in self.ending.settings:
            login = await self.site.control.post("/ServiceModel/AuthService.svc/Login", json=GOOD)
            assert login.json()["Code"] == 0
            self.site.control.cookies.clear()
            self.others = 1

    others: int = 0
    """Logins of other clients of the user."""

    def end_before(self, number: int, what: str = "$batch") -> None:
        """End the session just before a request of a kind goes out, counted from 1."""
        left = number

        async def before(request: httpx.Request) -> None:
            nonlocal left
            if request.url.path.endswith(what):
                left -= 1
                if left == 0:
                    await self.end()

        self.site.before = before

    async def check_logins(self, before: int) -> None:
        """Check the stand-in's own count of logins."""
        assert await logins(self.site) - before - self.others == self.new_logins


CELLS = pytest.mark.parametrize(
    ("flavour", "auth", "ending"),
    [
        pytest.param(flavour, auth, ending, id=f"{flavour}-{auth}-{name}")
        for name, ending in ENDINGS.items()
        for auth in ("forms", "oauth")
        for flavour in ("NF", "NC")
    ],
)


async def in_cell(doors: Doors, flavour: str, auth: str, ending: Ending, use: Callable[[Case], Awaitable[None]], **options: Any) -> None:
    """Run a scenario in a cell, on a site with 45 accounts, and check what it cost in logins."""
    async with doors.creatio(flavour=flavour) as site:
        adapter = site.creatio(auth=auth, app_prefix="/0" if flavour == "NF" else "", **options)
        ids = await site.seed([{"Name": f"n{n}", "ModifiedOn": f"2026-01-31T10:00:{n:02}Z"} for n in range(45)])
        await adapter.read("Account", ids[:1], ["Name"])
        case = Case(site, adapter, ending, auth, ids)
        before = await logins(site)
        await use(case)
        await case.check_logins(before)


@CELLS
async def test_a_burst_that_meets_the_end_is_one_login(doors: Doors, flavour: str, auth: str, ending: Ending) -> None:
    """Twenty calls of all kinds go out at once: together they log in once, and each has its whole answer or the error of the ending."""

    async def burst(case: Case) -> None:
        adapter, ids = case.adapter, case.ids
        await case.end()
        asks: list[Awaitable[Any]] = []
        for _ in range(5):
            asks += [adapter.read("Account", ids, ["Name"]), walk(adapter), adapter.exist("Account", ids[:5])]
            asks.append(adapter.find("Account", [{"Name": "n1"}], ["Name"]))
        answers = await asyncio.gather(*asks, return_exceptions=True)
        if case.outcome not in (RENEWED, UNTOUCHED):
            refused = [answer for answer in answers if isinstance(answer, BaseException)]
            assert refused
            assert {getattr(answer, "code", answer) for answer in refused} == {case.outcome}
            return
        for read, pages, there, hits in zip(*[iter(answers)] * 4, strict=True):
            assert [len(read), len(ids_of(pages)), list(there.values()), len(hits[0])] == [45, 45, [True] * 5, 1]

    await in_cell(doors, flavour, auth, ending, burst)


@CELLS
async def test_an_end_in_the_middle_of_paging_loses_and_repeats_no_row(doors: Doors, flavour: str, auth: str, ending: Ending) -> None:
    """The session ends between two pages of the feed: the chain goes on where it was; or it stops, and its position is worth keeping."""

    async def page_through(case: Case) -> None:
        announced, position, stopped, before = list[str](), "", "", 0
        try:
            async for page in case.adapter.changes("Account", ("Name",), None, None):
                announced += ids_of([page])
                position = page.position
                if before == 0 and len(announced) > 10:
                    before = len(announced)
                    await case.end()
        except Denied as error:
            stopped = error.code
        if case.outcome not in (RENEWED, UNTOUCHED):
            assert (stopped, announced) == (case.outcome, case.ids[:before])
            await case.site.settings(password_expired=False, session_answer="auto")
            after = case.site.creatio(app_prefix="/0" if flavour == "NF" else "", page_size=10)
            case.others += 1  # the login of this adapter
            announced += ids_of(await walk(after, position))
        assert announced == case.ids

    await in_cell(doors, flavour, auth, ending, page_through, page_size=10)


@CELLS
async def test_an_end_in_the_middle_of_a_read_is_not_noticed_or_is_told(doors: Doors, flavour: str, auth: str, ending: Ending) -> None:
    """A read of three requests meets the end at its second: every record is read, or the whole read raises; no record is absent."""

    async def read(case: Case) -> None:
        case.end_before(2)
        if case.outcome in (RENEWED, UNTOUCHED):
            found = await case.adapter.read("Account", case.ids, ["Name"])
            assert {one: row.values["Name"] for one, row in found.items() if isinstance(row, Row)} == {
                one: f"n{place}" for place, one in enumerate(case.ids)
            }
            return
        with pytest.raises(Denied) as caught:
            await case.adapter.read("Account", case.ids, ["Name"])
        assert caught.value.code == case.outcome

    await in_cell(doors, flavour, auth, ending, read, read_parts=1)


@CELLS
async def test_an_end_in_the_middle_of_a_range_goes_on_at_its_position(doors: Doors, flavour: str, auth: str, ending: Ending) -> None:
    """A range is read while the session ends at its second page: each row is read once, or the error leaves the position as it was."""

    async def read(case: Case) -> None:
        seen, position, more, stopped = list[str](), None, True, ""
        (part,) = [one async for one in case.adapter.ranges("Account", RangeBy.MODIFIED, None, None, 100)]
        case.end_before(2)
        while more and not stopped:
            try:
                page = await case.adapter.read_range("Account", part, ("Name",), position, 20)
            except Denied as error:
                stopped = error.code
            else:
                seen += page.rows
                position, more = page.following, page.following is not None
        whole = case.outcome in (RENEWED, UNTOUCHED)
        assert (stopped, seen) == (("", case.ids) if whole else (case.outcome, case.ids[:20]))

    await in_cell(doors, flavour, auth, ending, read)


@CELLS
async def test_an_end_in_the_middle_of_writing_writes_each_record_once(doors: Doors, flavour: str, auth: str, ending: Ending) -> None:
    """Of three batches the second meets the end. It is sent again only when it has surely not run; the stand-in counts what was saved."""

    async def write(case: Case) -> None:
        writes = [Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": f"w{n}"}) for n in range(30)]
        started = await logins(case.site)
        case.end_before(2)
        results = await case.adapter.write("Account", writes)
        done = [result for result in results if result.error is None]
        assert all(result.error is None for result in results[:10])
        if case.outcome == UNTOUCHED or (case.outcome == RENEWED and ending.proves):
            assert len(done) == 30
        else:
            assert len(done) == 10
            assert {(type(one.error), one.error.code) for one in results[10:] if one.error} == {told(case)}
        assert (await case.site.counts())["writes"] == len(done)
        if case.outcome == RENEWED and not ending.proves:
            await case.check_logins(started)
            again = await case.adapter.write("Account", [write for write, one in zip(writes, results, strict=True) if one.error])
            assert [one.error for one in again] == [None] * 20
        rows = (await case.site.control.get("/_control/rows", params={"entity": "Account"})).json()["total"]
        assert rows == 45 + (10 if case.outcome not in (RENEWED, UNTOUCHED) else 30)

    await in_cell(doors, flavour, auth, ending, write, batch_size=10)


def told(case: Case) -> tuple[type[Exception], str]:
    """Return what the records say that were not written."""
    return (Transient, "creatio.session_expired") if case.outcome == RENEWED else (Denied, case.outcome)


@pytest.mark.parametrize("auth", ["forms", "oauth"])
@pytest.mark.parametrize("face", ["401", "302", "svc"])
async def test_many_writers_that_meet_the_end_log_in_once_and_write_once(doors: Doors, auth: str, face: str) -> None:
    """Eight batches are on their way when the session ends: one new login, and the stand-in has saved each record once."""
    async with doors.creatio(session_answer=face) as site:
        adapter = site.creatio(auth=auth)
        await adapter.describe("Account", ["Name"], ())
        before = await logins(site)
        await site.chaos({"kind": "expire", "times": 1})
        writes = [[Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": "w"}) for _ in range(5)] for _ in range(8)]
        answers: list[Sequence[WriteResult]] = await asyncio.gather(*(adapter.write("Account", some) for some in writes))
        assert [one.error for some in answers for one in some] == [None] * 40
        assert await logins(site) == before + 1
        assert (await site.counts())["writes"] == 40


async def test_two_clients_of_one_user_live_on_where_only_one_session_is_allowed(doors: Doors) -> None:
    """Each turn costs the other's session and one login; nobody is locked out and no call fails."""
    async with doors.creatio(one_session_per_user=True) as site:
        ids = await site.seed([{"Name": "a"}])
        adapters = [site.creatio(auth="forms") for _ in range(2)]
        for turn in range(1, 6):
            for place, adapter in enumerate(adapters, start=1):
                assert set(await adapter.read("Account", ids, ["Name"])) == set(ids)
                assert await logins(site) == 2 * (turn - 1) + place


async def test_a_password_that_expires_is_asked_for_once(doors: Doors) -> None:
    """Creatio.md 7: it looks like empty data to others; here twenty calls are told, and one login was tried."""
    async with doors.creatio() as site:
        adapter = site.creatio(auth="forms")
        ids = await site.seed([{"Name": "a"}])
        await adapter.read("Account", ids, ["Name"])
        await site.settings(password_expired=True)
        answers = await asyncio.gather(*(adapter.read("Account", ids, ["Name"]) for _ in range(20)), return_exceptions=True)
        assert {getattr(answer, "code", None) for answer in answers} == {"creatio.password_expired"}
        assert await logins(site) == 2


@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("auth", ["forms", "oauth"])
async def test_calls_that_wait_for_each_other_on_the_server_are_all_answered(doors: Doors, auth: str, lock: bool) -> None:
    """Creatio.md 3: where a session serves one call at a time a burst is slower, no more; at most eight are on the way."""
    async with doors.creatio(session_lock=lock, work_seconds=0.01) as site:
        adapter = site.creatio(auth=auth)
        ids = await site.seed([{"Name": f"n{n}"} for n in range(20)])
        found = await asyncio.gather(*(adapter.read("Account", [one], ["Name"]) for one in ids))
        assert [set(one) for one in found] == [{one} for one in ids]
        most = (await site.counts())["most"]
        assert most["POST $batch"] <= 8
        assert await logins(site) == 1


@pytest.mark.parametrize(("auth", "status", "group", "code", "count"), [
    ("forms", 429, Transient, "creatio.throttled", 1),
    ("oauth", 429, Transient, "creatio.throttled", 1),
    ("forms", 403, Denied, "creatio.denied", 2),
    ("oauth", 403, Denied, "creatio.denied", 1),
])  # fmt: skip
async def test_a_plan_that_is_used_up_is_told(doors: Doors, auth: str, status: int, group: type[Exception], code: str, count: int) -> None:
    """Creatio.md 3: the status of a used-up daily quota is not known; with either the flow waits or stops, without a login loop."""
    async with doors.creatio(quota_status=status) as site:
        adapter = site.creatio(auth=auth)
        await walk(adapter)
        await site.settings(daily_calls=1)
        with pytest.raises(group) as caught:
            await walk(adapter)
        assert getattr(caught.value, "code", "") == code
        assert await logins(site) == count


# --- the size of requests and answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flavour", "prefix"), [("NF", "/0"), ("NC", "")])
async def test_what_is_long_travels_inside_a_batch(doors: Doors, flavour: str, prefix: str) -> None:
    """Long texts, many ids and many columns have no room in an address: what stands in one stays short, and all is found."""
    async with doors.creatio(flavour=flavour, max_query_length=300) as site:
        adapter = site.creatio(auth="forms", login_name="integration", app_prefix=prefix)
        text = "n'ß " * 700
        ids = await site.seed([{"Name": f"n{n}", "Notes": text} for n in range(100)])
        columns = [name for name in await site.row(ids[0]) or {} if name != "Id"]
        assert len(await adapter.read("Account", ids, columns)) == 100
        assert len((await adapter.find("Account", [{"Notes": text}], ["Name"]))[0]) == 50
        assert len(await adapter.users()) == 6
        assert len(await adapter.exist("Account", ids)) == 100
        assert len(ids_of(await walk(adapter))) == 100
        inline = [operation for operation in site.operations() if not operation.inside]
        assert max(len(operation.url.partition("?")[2]) for operation in inline) <= 300
        assert max(len(operation.url) for operation in site.operations()) > 2048


@pytest.mark.parametrize("next_link", [False, True])
async def test_every_write_is_read_back_though_the_server_shows_few_rows(doors: Doors, next_link: bool) -> None:
    """With a cap of four rows the closing reads of a batch are cut short: the rest is read once more, and nothing is written twice."""
    async with doors.creatio(max_entity_row_count=4, next_link=next_link) as site:
        adapter = site.creatio()
        writes = [Write(WriteKind.CREATE, str(uuid.uuid4()), {"Name": f"w{n}"}) for n in range(40)]
        results = await adapter.write("Account", writes)
        assert [(one.error, one.row.values["Name"] if one.row else None) for one in results] == [(None, f"w{n}") for n in range(40)]
        assert (await site.counts())["writes"] == 40
        rows = [one.row for one in results if one.row]
        updates = [Write(WriteKind.UPDATE, row.id, {"Code": "2"}, row) for row in rows]
        assert [one.row.values["Code"] if one.row else None for one in await adapter.write("Account", updates)] == ["2"] * 40


# --- a schema that changes while it is cached -----------------------------------------------------------------------------------


async def test_a_column_that_goes_in_the_middle_of_a_run_is_named_and_found_when_it_is_back(site: Site) -> None:
    """Between two pages of a range a column goes: the page says which; a search by it too; when it is back the run goes on there."""
    ids = await site.seed([{"Name": f"n{n}", "Code": str(n), "ModifiedOn": f"2026-01-31T10:00:{n:02}Z"} for n in range(30)])
    adapter = site.creatio()
    (part,) = [one async for one in adapter.ranges("Account", RangeBy.MODIFIED, None, None, 100)]
    first = await adapter.read_range("Account", part, ("Name", "Code"), None, 10)
    await site.administer("columns/remove", entity="Account", column="Code")
    for ask in (
        lambda: adapter.read_range("Account", part, ("Name", "Code"), first.following, 10),
        lambda: adapter.find("Account", [{"Code": "7"}], ["Name"]),
        lambda: adapter.read("Account", ids, ["Code"]),
    ):
        with pytest.raises(Exception, match="unknown_column") as caught:
            await ask()
        assert getattr(caught.value, "field", "") == "Code"
    await site.administer("columns/add", entity="Account", column="Code")
    second = await adapter.read_range("Account", part, ("Name", "Code"), first.following, 10)
    assert [*first.rows, *second.rows] == ids[:20]


async def test_a_lookup_that_becomes_unknown_is_no_longer_asked_for_by_its_navigation(site: Site) -> None:
    """A lookup column is removed and made again as a text: with old metadata in the cache the search follows it all the same."""
    adapter = site.creatio()
    (one,) = await site.seed([{"Name": "a"}])
    await adapter.describe("Account", ["OwnershipId"], ())
    await site.administer("columns/remove", entity="Account", column="OwnershipId")
    with pytest.raises(Exception, match="unknown_column"):
        await adapter.find("Account", [{"OwnershipId": str(uuid.uuid4())}], ["Name"])
    await site.administer("columns/add", entity="Account", column="UsrOwnership")
    await site.edit(one, {"UsrOwnership": "Public"})
    assert [row.id for row in (await adapter.find("Account", [{"UsrOwnership": "Public"}], ["Name"]))[0]] == [one]
