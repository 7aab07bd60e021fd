"""Microsoft's Python client of Dataverse on a stand-in of its own, over HTTPS, logged in by Entra's stand-in."""

import gc
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from azure.identity import ClientSecretCredential
from PowerPlatform.Dataverse.client import DataverseClient
from PowerPlatform.Dataverse.core.config import DataverseConfig

from sandbox.dataverse.server import create_app as create_dataverse
from sandbox.dataverse.switches import Settings
from sandbox.entra import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET, DEFAULT_TENANT, make_authority
from sandbox.entra import create_app as create_entra
from sandbox.serve import serving
from tests.contract.creatio_site import Door

KEY = "a key for tests"
MISSING = "00000000-0000-0000-0000-000000000001"


@dataclass(frozen=True)
class Panel:
    """The control API of a running stand-in."""

    http: httpx.Client

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the control API and expect success."""
        answer = self.http.request(method, f"/_control/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def requests(self) -> Mapping[str, int]:
        """Return how often each kind of request was received."""
        return self.ask("GET", "requests")["by"]

    def misbehave(self, **rule: Any) -> None:
        """Put one rule of misbehaviour in force."""
        self.ask("PUT", "chaos", {"rules": [rule]})


@dataclass(frozen=True)
class Directory:
    """Entra's stand-in, the CA that signs for all stand-ins of these tests, and the door to the organisation of the test in hand."""

    url: str
    ca_file: Path
    panel: Panel
    door: Door
    dataverse_url: str

    def credential(self, secret: str = DEFAULT_CLIENT_SECRET) -> ClientSecretCredential:
        """Make Microsoft's credential for a client secret, as an application outside Azure uses it."""
        return ClientSecretCredential(
            DEFAULT_TENANT,
            DEFAULT_CLIENT_ID,
            secret,
            authority=self.url.removeprefix("https://"),
            disable_instance_discovery=True,
            connection_verify=str(self.ca_file),
        )


@dataclass(frozen=True)
class MicrosoftSite:
    """One organisation: Microsoft's client on it, and what the stand-in itself says is stored."""

    client: DataverseClient
    panel: Panel

    def stored(self, entity: str = "account") -> dict[str, dict[str, Any]]:
        """Return the stored rows by id."""
        return {row[f"{entity}id"]: row for row in self.panel.ask("GET", f"rows?entity={entity}")["rows"]}

    def names(self) -> list[str]:
        """Return the names of all stored accounts, sorted."""
        return sorted(row["name"] for row in self.stored().values())

    def names_after_jobs(self, number: int) -> list[str]:
        """Return the same once so many accounts are left, or after five seconds: the job of a bulk delete is done later."""
        deadline = time.monotonic() + 5
        while len(list(self.client.records.list("account"))) != number and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.names()


@contextmanager
def open_directory(folder: Path) -> Iterator[Directory]:
    """Serve Entra's stand-in, and an address for the organisations to come."""
    authority = make_authority(folder)
    trust = ssl.create_default_context(cafile=str(authority.ca_file))
    door = Door()
    with serving(create_entra(token_key=KEY), authority.tls) as url, serving(door, authority.tls) as dataverse_url:
        with httpx.Client(base_url=url, verify=trust, trust_env=False) as http:
            yield Directory(url, authority.ca_file, Panel(http), door, dataverse_url)
        # urllib3 closes connections when their pool is collected, and an error that a test caught keeps the pool in its frames.
        gc.collect()


@contextmanager
def open_site(directory: Directory, secret: str = DEFAULT_CLIENT_SECRET, **settings: Any) -> Iterator[MicrosoftSite]:
    """Put an empty organisation behind the door and open Microsoft's client on it; `requests` must trust the CA already."""
    trust = ssl.create_default_context(cafile=str(directory.ca_file))
    url = directory.dataverse_url
    directory.door.app = create_dataverse(token_key=KEY, settings=Settings(customization_delay_seconds=0, **settings))
    with (
        httpx.Client(base_url=url, verify=trust, trust_env=False) as http,
        directory.credential(secret) as credential,
        DataverseClient(url, credential, DataverseConfig(http_backoff=0.01)) as client,
    ):
        yield MicrosoftSite(client, Panel(http))
