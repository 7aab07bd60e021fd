"""The benchmark's tables in a file keep the promises that the emulator's tables keep: the same script gives the same story on both."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from bench.file_tables import FileTables
from shared.core.errors import Stale
from shared.ledger.storage import Storage
from shared.ledger.tables import ChangeKind, RowChange, Table

CREATE, REPLACE, PUT, DELETE = (ChangeKind.CREATE, ChangeKind.REPLACE, ChangeKind.PUT, ChangeKind.DELETE)


@pytest.fixture(params=["azurite", "file"])
async def table(request: pytest.FixtureRequest, storage: Storage, prefix: str, tmp_path: Path) -> AsyncIterator[Table]:
    """Return an empty table of either kind."""
    if request.param == "azurite":
        yield Table(storage, prefix)
        return
    files = FileTables(tmp_path / "tables.sqlite")
    yield files.open(storage, prefix)
    files.close()


async def refused(call: Callable[[], Awaitable[object]]) -> bool:
    """Tell whether a call lost a race."""
    try:
        await call()
    except Stale:
        return True
    return False


async def test_a_row_is_made_once_and_replaced_by_its_etag_only(table: Table) -> None:
    """A second create and a replace under an old ETag lose; what is read is what was written last."""
    first = await table.create("p", "k", {"v": 1, "text": "one"})
    assert await refused(lambda: table.create("p", "k", {"v": 1}))
    second = await table.replace("p", "k", {"v": 1, "text": "two"}, first)
    assert await refused(lambda: table.replace("p", "k", {"v": 1}, first))
    row = await table.get("p", "k")
    assert row is not None
    assert (row.properties["text"], row.etag) == ("two", second)
    assert await table.get("p", "other") is None
    await table.put("p", "k", {"v": 1, "text": "three"})
    assert await refused(lambda: table.delete("p", "k", second))
    await table.delete("p", "k")
    await table.delete("p", "k")
    assert await table.get("p", "k") is None


async def test_a_transaction_is_all_or_nothing(table: Table) -> None:
    """One row in the way and no row of the transaction is there; the fault names the row."""
    etag = await table.create("p", "b", {"v": 1})
    with pytest.raises(Stale) as caught:
        await table.transact("p", [RowChange(CREATE, "a", {"v": 1}), RowChange(CREATE, "b", {"v": 1})])
    assert getattr(caught.value, "index", None) == 1
    assert await table.get("p", "a") is None
    changes = [RowChange(CREATE, "a", {"v": 1}), RowChange(REPLACE, "b", {"v": 1, "text": "x"}, etag), RowChange(PUT, "c", {"v": 1})]
    etags = await table.transact("p", changes)
    assert len(etags) == 3
    assert all(etags)
    assert (await table.transact("p", [RowChange(DELETE, "a"), RowChange(DELETE, "c")])) == [None, None]
    assert [row.key for row in await table.query_prefix("p")] == ["b"]
    assert await refused(lambda: table.transact("p", [RowChange(DELETE, "a")]))


async def test_rows_are_found_by_prefix_range_and_property_in_the_order_of_their_keys(table: Table) -> None:
    """The filters that the ledger uses find the same rows, in the same order."""
    for key, run in [("o:3", "r1"), ("o:1", "r2"), ("z:1", "r1"), ("o:2", "r1")]:
        await table.create("p", key, {"v": 1, "run": run, "at": key})
    await table.create("q", "o:1", {"v": 1, "run": "r1", "at": "x"})
    assert [row.key for row in await table.query_prefix("p", "o:")] == ["o:1", "o:2", "o:3"]
    assert [row.key for row in await table.query_prefix("p", "o:", limit=2)] == ["o:1", "o:2"]
    found = await table.query("PartitionKey eq @pk and run eq @run", {"pk": "p", "run": "r1"})
    assert [row.key for row in found] == ["o:2", "o:3", "z:1"]
    found = await table.query("PartitionKey ge @low and PartitionKey lt @high and at lt @at", {"low": "p", "high": "q", "at": "o:3"})
    assert [row.key for row in found] == ["o:1", "o:2"]
    assert [row and row.key for row in await table.get_many("p", ["z:1", "none", "o:1"])] == ["z:1", None, "o:1"]
