"""Change tracking of the Dataverse stand-in (item 12)."""

import pytest

from tests.contract.dataverse_stand_in import API, opened

TRACK = "odata.track-changes"


@pytest.fixture
async def org():
    """Open an organisation for one test."""
    async with opened() as organization:
        yield organization


async def read_chain(org, url: str, prefer: str = "") -> tuple[list[dict], str]:
    """Read pages to the end; only the last may carry a delta link."""
    rows = []
    while True:
        body = await org.get(url, prefer=prefer)
        rows += body["value"]
        assert ("@odata.nextLink" in body) != ("@odata.deltaLink" in body)
        if "@odata.deltaLink" in body:
            return rows, body["@odata.deltaLink"]
        url = body["@odata.nextLink"]


async def test_the_first_read_returns_all_rows_and_a_link(org) -> None:
    """A tracked read is echoed, and its link holds version and time behind the options."""
    await org.seed({"name": "A"}, {"name": "B"})
    answer = await org.send("GET", "accounts?$select=name", prefer=TRACK)
    assert answer.headers["Preference-Applied"] == TRACK
    body = answer.json()
    assert sorted(row["name"] for row in body["value"]) == ["A", "B"]
    assert body["@odata.deltaLink"].startswith(f"{API}/accounts?$select=name&$deltatoken=")
    assert "%21" in body["@odata.deltaLink"]


async def test_a_delta_holds_changes_first_and_deletions_last(org) -> None:
    """New and changed rows come by version with the selected columns, then deletions with id and reason; then nothing."""
    first, second, third = await org.seed({"name": "A"}, {"name": "B"}, {"name": "C"})
    _, link = await read_chain(org, "accounts?$select=name", TRACK)
    await org.send("DELETE", f"accounts({first})")
    await org.edit(third, name="C2")
    await org.edit(second, fax="only another column")
    gone = await org.create(name="short life")
    await org.send("DELETE", f"accounts({gone})")
    body = await org.get(link)
    assert body["@odata.context"] == f"{API}/$metadata#accounts(name)/$delta"
    assert [row.get("name") for row in body["value"]] == ["C2", "B", None, None]
    deletion = body["value"][2]
    assert deletion == {"@odata.context": f"{API}/$metadata#accounts/$deletedEntity", "id": first, "reason": "deleted"}
    assert body["value"][3]["id"] == gone
    assert (await read_chain(org, body["@odata.deltaLink"]))[0] == []


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_chains_in_pages_are_complete(org, size) -> None:
    """First reads and deltas of any page size hold each row once; the link comes on the last page only."""
    ids = await org.seed(*({"name": str(number)} for number in range(7)))
    prefer = f"{TRACK},odata.maxpagesize={size}"
    rows, link = await read_chain(org, "accounts?$select=name", prefer)
    assert sorted(row["accountid"] for row in rows) == sorted(ids)
    for row_id in ids[:4]:
        await org.edit(row_id, name="changed")
    for row_id in ids[4:]:
        await org.send("DELETE", f"accounts({row_id})")
    rows, _ = await read_chain(org, link, f"odata.maxpagesize={size}")
    assert [row.get("accountid") for row in rows] == [*ids[:4], None, None, None]
    assert [row["id"] for row in rows[4:]] == ids[4:]


async def test_a_change_between_pages_is_in_the_next_delta(org) -> None:
    """The link stands for the moment of the first page, so nothing that changes meanwhile is lost."""
    await org.seed({"name": "A"}, {"name": "B"}, {"name": "C"})
    body = await org.get("accounts?$select=name", prefer=f"{TRACK},odata.maxpagesize=1")
    read = body["value"][0]["accountid"]
    await org.edit(read, name="changed after it was read")
    _, link = await read_chain(org, body["@odata.nextLink"], "odata.maxpagesize=1")
    assert [row["accountid"] for row in (await read_chain(org, link))[0]] == [read]


async def test_own_writes_come_back(org) -> None:
    """The writes of the integration are in its delta like any others."""
    _, link = await read_chain(org, "accounts", TRACK)
    row_id = await org.create(name="ours")
    rows, _ = await read_chain(org, link)
    user = (await org.get("WhoAmI"))["UserId"]
    assert [(row["accountid"], row["_modifiedby_value"]) for row in rows] == [(row_id, user)]


async def test_a_row_created_again_is_no_deletion(org) -> None:
    """A deleted row that was created again under its id is a change only."""
    (row_id,) = await org.seed({"name": "A"})
    _, link = await read_chain(org, "accounts", TRACK)
    await org.send("DELETE", f"accounts({row_id})")
    await org.create(accountid=row_id, name="again")
    assert [row.get("name") for row in (await read_chain(org, link))[0]] == ["again"]


async def test_expired_and_foreign_tokens(org) -> None:
    """A link past its age is 0x80044352; a malformed or a foreign one is 400 as well."""
    _, link = await read_chain(org, "accounts", TRACK)
    await org.control("clock", {"skew_seconds": 8 * 86_400})
    status, code, message = await org.refused("GET", link)
    assert (status, code) == (400, "0x80044352")
    assert "Please perform a full sync." in message
    for token in ("nonsense", "99999999%2111%2F24%2F2026%2005%3A00%3A00"):
        assert (await org.refused("GET", f"accounts?$deltatoken={token}"))[0] == 400


@pytest.mark.parametrize("option", ["filter=name eq 'x'", "orderby=name", "expand=parentaccountid", "top=1"])
async def test_what_tracking_does_not_take(org, option) -> None:
    """Filter, order, expansion and top are refused together with tracking, in the platform's words."""
    name = option.partition("=")[0]
    status, _, message = await org.refused("GET", f"accounts?${option}", Prefer=TRACK)
    assert status == 400
    assert message == f'The "${name}" query parameter isn\'t supported when Change Tracking is enabled.'


async def test_tables_without_tracking(org) -> None:
    """A table that isn't tracked is refused until its definition is put back with tracking enabled."""
    assert (await org.refused("GET", "systemusers", Prefer=TRACK))[:2] == (400, "0x80072491")
    definition = await org.get("EntityDefinitions(LogicalName='systemuser')")
    answer = await org.send("PUT", "EntityDefinitions(LogicalName='systemuser')", {**definition, "ChangeTrackingEnabled": True})
    assert answer.status_code == 204
    assert len((await read_chain(org, "systemusers", TRACK))[0]) == 5


async def test_the_number_of_changes(org) -> None:
    """``/$count`` with a delta token counts changes and deletions."""
    ids = await org.seed({"name": "A"}, {"name": "B"})
    _, link = await read_chain(org, "accounts", TRACK)
    await org.edit(ids[0], name="A2")
    await org.send("DELETE", f"accounts({ids[1]})")
    token = link.partition("$deltatoken=")[2]
    assert (await org.send("GET", f"accounts/$count?$deltatoken={token}")).text == "2"
