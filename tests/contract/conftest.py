"""What each contract test of Creatio may ask for: a stand-in served over HTTP with the adapter, or one called in-process."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.contract.creatio_site import Doors, Site, open_doors
from tests.contract.creatio_stand_in import Tenant, open_tenant


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    """Serve the addresses of the stand-ins to come."""
    with open_doors() as opened:
        yield opened


@pytest.fixture
async def site(doors: Doors) -> AsyncIterator[Site]:
    """Run a stand-in of its own for the test."""
    async with doors.creatio() as made:
        yield made


@pytest.fixture
async def tenant() -> AsyncIterator[Tenant]:
    """Open an empty installation."""
    async for made in open_tenant():
        yield made
