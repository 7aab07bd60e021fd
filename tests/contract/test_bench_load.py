"""The static server of the benchmark: every client of the comparison understands it, and it notices what is not as the mapping makes it."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench import tandem_load
from bench.accounts import creatio_accounts, tables
from bench.environments import ROOT
from bench.peers.mapping import map_account
from bench.static_server import Site, listen
from shared.engine.create import target_id
from shared.systems.odata import to_json

RECORDS = 130


@dataclass
class Bench:
    """A static server in this process."""

    url: str
    site: Site
    client: httpx.AsyncClient

    async def counts(self) -> dict[str, Any]:
        """Return what it saw."""
        return (await self.client.get("/_bench/counts")).json()

    async def rows(self, path: str, headers: dict[str, str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Follow the links of a collection; return all rows and the last page."""
        rows, url = [], path
        while url:
            page = (await self.client.get(url, headers=headers)).raise_for_status().json()
            rows += page["value"]
            url = page.get("@odata.nextLink")
        return rows, page


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Serve 130 accounts on the Creatio side."""
    site = Site()
    server, port = await listen(site)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        site.reset("creatio", RECORDS, 0.0)
        yield Bench(url, site, client)
    server.close()


@pytest.mark.parametrize("way", list(tandem_load.WAYS))
async def test_tandem_loads_into_dynamics_what_the_mapping_makes(bench: Bench, way: str) -> None:
    """Each way of loading writes every account once, as the mapping of the other tools does; no row is read for nothing."""
    await tandem_load.run(way, "creatio", bench.url)
    counts = await bench.counts()
    assert (counts["writes"], counts["written"], counts["different"]) == (RECORDS, RECORDS, 0)
    assert counts["read"] == (
        2 * RECORDS if way.startswith("bulk") else RECORDS
    )  # CreateMultiple answers with ids, so the rows are read back


@pytest.mark.parametrize("way", list(tandem_load.WAYS))
async def test_tandem_loads_into_creatio_as_well(bench: Bench, way: str) -> None:
    """The server's Dataverse feed and Creatio batches are understood: each account arrives, under the id that Tandem makes for it."""
    bench.site.reset("dynamics", RECORDS, 0.0)
    await tandem_load.run(way, "dynamics", bench.url)
    counts = await bench.counts()
    assert (counts["written"], counts["writes"]) == (RECORDS, RECORDS if way == "bare" else 2 * RECORDS)  # its new id goes back
    there, _ = await bench.rows("/api/data/v9.2/accounts", {})
    known = ("Name", "Code", "Phone", "Address", "CountryId", "TypeId", "OwnerId", "UsrEmployees", "UsrActive")
    for account, expected in zip(there, creatio_accounts(RECORDS), strict=True):
        made = target_id(tandem_load.FLOW, account["accountid"], 1)
        (row,) = (await bench.client.get(f"/0/odata/Account?$filter=Id%20eq%20{made}")).json()["value"]
        assert {name: row[name] for name in known} == {name: expected[name] for name in known}


@pytest.mark.parametrize("size", ["1", "50"])
async def test_the_serial_client_writes_the_same(bench: Bench, tmp_path: Path, size: str) -> None:
    """One record a request or many: the program that measures the serial client ends with the same accounts, and tells its seconds."""
    (tmp_path / "tables.json").write_text(json.dumps(tables()), encoding="utf-8")
    given = [bench.url, bench.url, str(tmp_path / "tables.json"), str(tmp_path), size]
    command = [sys.executable, "-m", "bench.peers.serial", *given]
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["seconds"] > 0
    counts = await bench.counts()
    assert (counts["written"], counts["different"]) == (RECORDS, 0)
    posts = {name: number for name, number in counts["requests"].items() if name.startswith("POST")}
    assert posts == ({"POST accounts": RECORDS} if size == "1" else {"POST Microsoft.Dynamics.CRM.CreateMultiple": 3})


async def test_a_wrong_account_is_noticed(bench: Bench) -> None:
    """An account with one changed value counts as different, and so does each that is missing."""
    bodies = [map_account(json.loads(to_json(row)), tables()) for row in creatio_accounts(RECORDS)]
    bodies[7]["fax"] = "+49 30 000"
    await bench.client.post("/api/data/v9.2/accounts/Microsoft.Dynamics.CRM.CreateMultiple", json={"Targets": bodies[1:]})
    counts = await bench.counts()
    assert (counts["written"], counts["different"]) == (RECORDS - 1, 2)


@pytest.mark.parametrize("path", ["/0/odata/Account", "/api/data/v9.2/bench_accounts"])
async def test_the_pages_of_the_source_hold_each_account_once(bench: Bench, path: str) -> None:
    """Links lead through all pages of a source, in the shape of either system, and each account is on one of them."""
    bench.site.reset("creatio", 2_500, 0.0)
    rows, last = await bench.rows(path, {"Prefer": "odata.maxpagesize=1000"})
    assert [row["Id"] for row in rows] == [row["Id"] for row in creatio_accounts(2_500)]
    assert len(last["value"]) == 500
    assert (await bench.counts())["read"] == 2_500


async def test_a_tracked_chain_ends_in_a_delta_link(bench: Bench) -> None:
    """The Dynamics side announces each account with a version, then gives a delta link that tells nothing new."""
    bench.site.reset("dynamics", 250, 0.0)
    rows, last = await bench.rows("/api/data/v9.2/accounts", {"Prefer": "odata.track-changes,odata.maxpagesize=100"})
    assert len({row["accountid"] for row in rows}) == 250
    assert all(row["@odata.etag"] for row in rows)
    page = (await bench.client.get(last["@odata.deltaLink"])).json()
    assert (page["value"], page["@odata.deltaLink"]) == ([], last["@odata.deltaLink"])


async def test_every_answer_is_late_when_that_is_wanted(bench: Bench) -> None:
    """Latency is added to each answer, also to requests that travel side by side; without it nothing waits."""
    bench.site.reset("creatio", 1, 0.2)
    begun = time.monotonic()
    await asyncio.gather(*(bench.client.get("/0/odata/Account") for _ in range(5)))
    assert time.monotonic() - begun >= 0.2
