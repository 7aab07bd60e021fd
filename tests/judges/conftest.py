"""What the tests with other people's software may ask for."""

from collections.abc import Iterator

import pytest

from tests.judges.cap_server import running_cap
from tests.judges.microsoft_site import Directory, MicrosoftSite, open_directory, open_site


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    """Serve Entra's stand-in for the tests of one file."""
    with open_directory(tmp_path_factory.mktemp("entra")) as opened:
        yield opened


@pytest.fixture
def trusted(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> Directory:
    """Let `requests`, on which Microsoft's client is built, trust the CA, and use no proxy of this machine."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(directory.ca_file))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return directory


@pytest.fixture
def site(trusted: Directory) -> Iterator[MicrosoftSite]:
    """Open Microsoft's client on an organisation of its own."""
    with open_site(trusted) as opened:
        yield opened


@pytest.fixture(scope="session")
def cap() -> Iterator[str]:
    """Run CAP for all tests of this process and give its address; tests share its rows, so each makes its own."""
    with running_cap() as url:
        yield url
