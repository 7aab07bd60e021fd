"""dlt: its REST source in, a custom destination out, everything else as it comes.

Only the batch of the destination is set, to that of the other tools; its default of 10 would make a request for each ten records.
"""

import time
from typing import Any

import dlt
from dlt.sources.helpers import requests
from dlt.sources.rest_api import rest_api_source

from bench.peers.common_ground import WRITE_SIZE, Ground, ground, targets, tell
from bench.peers.mapping import map_account


def source(here: Ground) -> Any:
    """Return the accounts as a resource: all pages, each row mapped."""
    accounts = {
        "name": "account",
        "columns": {"revenue": {"data_type": "double"}},  # else the first whole amount would make a second column for the others
        "endpoint": {"path": "Account", "data_selector": "value", "paginator": {"type": "json_link", "next_url_path": "'@odata.nextLink'"}},
    }
    made = rest_api_source({"client": {"base_url": here.source.removesuffix("Account")}, "resources": [accounts]})
    made.resources["account"].add_map(lambda row: map_account(row, here.tables))
    return made


def main() -> None:
    """Run one pipeline."""
    here, begun = ground(), time.monotonic()

    @dlt.destination(batch_size=WRITE_SIZE, name="dataverse", naming_convention="direct")
    def dataverse(items: list[dict[str, Any]], _table: Any) -> None:
        requests.post(here.create_multiple, json=targets(items)).raise_for_status()

    pipeline = dlt.pipeline("accounts", destination=dataverse, pipelines_dir=str(here.folder))
    pipeline.run(source(here)).raise_on_failed_jobs()
    tell(begun)


if __name__ == "__main__":
    main()
