"""A real storage emulator for the tests of this folder, one for each test process, and a ledger of its own for each test."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from sandbox.azurite import running_azurite
from shared.ledger.storage import Storage, open_storage
from shared.ledger.store import TableLedger
from tests.integration.ledger_samples import FakeClock


@pytest.fixture(scope="session")
def account() -> Iterator[str]:
    """Yield the connection string of a running emulator."""
    with running_azurite() as azurite:
        yield azurite.connection_string


@pytest.fixture
async def storage(account: str) -> AsyncIterator[Storage]:
    """Yield the emulator's account as the app opens it."""
    opened = open_storage({"AzureWebJobsStorage": account})
    yield opened
    await opened.close()


@pytest.fixture
def prefix() -> str:
    """Return a table prefix that no other test uses."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that a test can turn."""
    return FakeClock(datetime(2026, 11, 24, 12, 0, tzinfo=UTC))


@pytest.fixture
def ledger(storage: Storage, prefix: str, clock: FakeClock) -> TableLedger:
    """Return an empty ledger."""
    return TableLedger(storage, prefix, clock)
