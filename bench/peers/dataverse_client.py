"""Microsoft's PowerPlatform-Dataverse-Client: pages of a table in, `create` of lists out.

It can read Dataverse only, so its source is the same accounts as a Dataverse table; and it speaks HTTPS only.
"""

import time
from typing import Any

from azure.core.credentials import AccessToken, TokenCredential
from PowerPlatform.Dataverse.client import DataverseClient

from bench.peers.common_ground import WRITE_SIZE, ground, tell
from bench.peers.mapping import map_account


class Bench(TokenCredential):
    """A token that nobody checks."""

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return it."""
        return AccessToken("bench", int(time.time()) + 3600)


def main() -> None:
    """Copy page by page."""
    here, begun = ground(), time.monotonic()
    with DataverseClient(here.secure_url, Bench()) as client:
        for page in client.records.list_pages("bench_account", page_size=WRITE_SIZE):
            client.records.create("account", [map_account(row, here.tables) for row in page])
    tell(begun)


if __name__ == "__main__":
    main()
