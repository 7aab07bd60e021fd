"""The simplest client: a loop over httpx that sends one request after the other.

Call: python -m bench.peers.serial URL HTTPS TABLES FOLDER SIZE; SIZE records a CreateMultiple, with 1 a POST for each record.
"""

import sys
import time

import httpx

from bench.peers.common_ground import ground, pieces, targets, tell
from bench.peers.mapping import map_account


def main(size: int) -> None:
    """Read a page, map it, write it, until there is none left."""
    here, begun = ground(), time.monotonic()
    with httpx.Client(timeout=120, trust_env=False) as client:
        link = here.source
        while link:
            page = client.get(link).raise_for_status().json()
            bodies = [map_account(row, here.tables) for row in page["value"]]
            if size == 1:
                for body in bodies:
                    client.post(here.target, json=body).raise_for_status()
            else:
                for some in pieces(bodies, size):
                    client.post(here.create_multiple, json=targets(some)).raise_for_status()
            link = page.get("@odata.nextLink")
    tell(begun)


if __name__ == "__main__":
    main(int(sys.argv[5]))
