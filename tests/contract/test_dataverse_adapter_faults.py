"""Prove that tokens which expire in the middle and texts which make addresses long cost the adapter nothing but requests."""

from collections.abc import AsyncIterator

import pytest

from shared.core.records import Write, WriteKind
from tests.contract.dataverse_site import Site, new_id, pages, site

CREATE = WriteKind.CREATE


@pytest.fixture
async def org() -> AsyncIterator[Site]:
    """Run a fresh stand-in for each test."""
    async with site() as made:
        yield made


@pytest.mark.parametrize("times", [1, 3])
async def test_a_token_that_expires_between_the_pages_of_a_chain(org, times):
    """The first chain and its delta go on with a new token, however often it expires; every row and every change is told."""
    ids = await org.control.seed("account", [{"name": f"A{at}"} for at in range(60)])
    adapter = org.dataverse(page_size=10)
    await adapter.describe("account", ["name"], [])
    rules = [{"kind": "expire", "path": "skiptoken", "after": 2 * at, "times": 1} for at in range(times)]  # the repeat counts too
    await org.control.chaos({"seed": 1, "rules": rules})
    first = await pages(adapter, ["name"])
    assert [change.id for page in first for change in page.changes] == sorted(ids)
    for key in ids[:25]:
        await org.control.edit("account", key, {"name": "B"})
    await org.control.chaos({"seed": 1, "rules": rules})
    changed = await pages(adapter, ["name"], first[-1].position)
    assert [change.id for page in changed for change in page.changes] == ids[:25]
    assert len(org.credential.asked) == 1 + times + min(times, 2)


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_token_that_expires_before_a_batch(org, bulk):
    """A batch and a bulk call that are refused with 401 have not run: they are sent again once with a new token, and written once."""
    adapter = org.dataverse()
    await adapter.write("account", [Write(CREATE, new_id(), {"name": "warm"}) for _ in range(30)], bulk=bulk)
    await org.control.reset_requests()
    await org.control.chaos({"seed": 1, "rules": [{"kind": "expire", "method": "POST", "after": 1, "times": 1}]})
    for number in (30, 120):
        results = await adapter.write("account", [Write(CREATE, new_id(), {"name": "A"}) for _ in range(number)], bulk=bulk)
        assert [result.error for result in results] == [None] * number
    assert (await org.control.requests())["writes"] == 150
    assert len(org.credential.asked) == 2


async def test_no_address_is_longer_than_the_oldest_limit_allows():
    """Hundreds of ids, long hostile keys in one column and in several: no request and no part of a batch passes 32,768 characters."""
    async with site(batch_url_limit=32_768) as org:
        adapter = org.dataverse()
        texts = [f"{at:03d}" + "ü%&+/ '\"" * 19 for at in range(120)]
        await org.control.seed("account", [{"name": text[:150], "description": text} for text in texts])
        columns = [f"address{number}_{part}" for number in (1, 2) for part in ("line1", "line2", "city", "country", "postalcode", "county")]
        one_column = await adapter.find("account", [{"name": text[:150]} for text in texts], columns)
        several = await adapter.find("account", [{"name": text[:150], "description": text} for text in texts], columns)
        assert [len(hits) for hits in (*one_column, *several)] == [1] * 240
        ids = [row["accountid"] for row in await org.control.rows("account")]
        assert len(await adapter.read("account", [*ids, *(new_id() for _ in range(900))], columns)) == 120
        targets = [asked.target for asked in org.watch.seen if asked.method == "GET"]
        assert 8_000 < max(map(len, targets)) < 32_768
        assert not org.watch.of("POST", "$batch")
