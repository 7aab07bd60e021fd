"""The storage account: clients for tables and queues, by connection string or by identity (azure.md 3.1), and what they cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueServiceClient

from shared.core.errors import ConfigError

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

HOST_STORAGE: Final = "AzureWebJobsStorage"
_DEVELOPMENT: Final = "usedevelopmentstorage=true"
# The account that every storage emulator has; its key is public and opens nothing else (azure.md 7).
_DEVELOPMENT_ACCOUNT: Final = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;"
    "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"
)
# Short and few: a message is delivered again anyway, and a function that waits for minutes costs more than one that fails.
_TABLE_RETRIES: Final = {"retry_total": 4, "retry_backoff_factor": 0.4, "retry_backoff_max": 5}
_QUEUE_RETRIES: Final = {"retry_total": 4, "initial_backoff": 1, "increment_base": 2, "random_jitter_range": 1}
_TIMEOUTS: Final = {"connection_timeout": 5, "read_timeout": 30}


@dataclass
class Meter:
    """What the account was asked for: HTTP requests as sent, retries included, and entities read or written."""

    requests: int = 0
    operations: int = 0

    def count_request(self, _request: object) -> None:
        """Count one HTTP request as it goes out."""
        self.requests += 1


@dataclass(frozen=True)
class Account:
    """Where the account is: a connection string, or service addresses with the identity to use there; empty: not used."""

    connection_string: str = ""
    table_uri: str = ""
    queue_uri: str = ""
    client_id: str = ""
    managed_identity: bool = False


class Storage:
    """Both services of one account. Clients are made on first use, inside the running loop, and live as long as this does."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.meter = Meter()
        self._tables: TableServiceClient | None = None
        self._queues: QueueServiceClient | None = None
        self._credential: AsyncTokenCredential | None = None

    def tables(self) -> TableServiceClient:
        """Return the table service."""
        if self._tables is None:
            options: dict[str, Any] = {**_TABLE_RETRIES, **_TIMEOUTS, "raw_request_hook": self.meter.count_request}
            if self.account.connection_string:
                self._tables = TableServiceClient.from_connection_string(self.account.connection_string, **options)
            else:
                self._tables = TableServiceClient(self.account.table_uri, credential=self._identity(), **options)
        return self._tables

    def queues(self) -> QueueServiceClient:
        """Return the queue service."""
        if self._queues is None:
            options: dict[str, Any] = {**_QUEUE_RETRIES, **_TIMEOUTS, "raw_request_hook": self.meter.count_request}
            if not (self.account.connection_string or self.account.queue_uri):
                raise ConfigError(["this storage account is set for tables only; queues are those of AzureWebJobsStorage"])
            if self.account.connection_string:
                self._queues = QueueServiceClient.from_connection_string(self.account.connection_string, **options)
            else:
                self._queues = QueueServiceClient(self.account.queue_uri, credential=self._identity(), **options)
        return self._queues

    async def close(self) -> None:
        """Close connections; the next use opens new ones."""
        parts = (self._tables, self._queues, self._credential)
        self._tables, self._queues, self._credential = None, None, None
        for part in parts:
            if part is not None:
                await part.close()

    def _identity(self) -> "AsyncTokenCredential":
        if self._credential is None:
            # Imported here: it is slow to import and not needed with a connection string.
            from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential  # noqa: PLC0415

            client_id = self.account.client_id or None
            if self.account.managed_identity:
                self._credential = ManagedIdentityCredential(client_id=client_id)
            else:
                self._credential = DefaultAzureCredential(managed_identity_client_id=client_id)
        return self._credential


def open_storage(settings: Mapping[str, str], prefix: str = HOST_STORAGE) -> Storage:
    """Read where the account is from settings; nothing is opened before it is used.

    `prefix` itself is a connection string and wins; else `prefix__tableServiceUri` and `prefix__queueServiceUri`, or
    `prefix__accountName`, with `prefix__clientId` and `prefix__credential` (azure.md 3.1). Queues are only those of
    AzureWebJobsStorage, so another prefix needs no address for them. A prefix without any setting falls back to
    AzureWebJobsStorage. Raises ConfigError that lists every problem.
    """
    if prefix != HOST_STORAGE and not any(name == prefix or name.startswith(f"{prefix}__") for name, value in settings.items() if value):
        return open_storage(settings)

    def read(name: str) -> str:
        return settings.get(f"{prefix}__{name}", "").strip()

    text = settings.get(prefix, "").strip()
    account = _by_connection_string(text, prefix) if text else _by_identity(read, prefix)
    return Storage(account)


def _services(prefix: str) -> tuple[str, ...]:
    return ("table", "queue") if prefix == HOST_STORAGE else ("table",)


def _by_connection_string(text: str, prefix: str) -> Account:
    if text.rstrip(";").lower() == _DEVELOPMENT:
        return Account(connection_string=_DEVELOPMENT_ACCOUNT)
    names = {part.partition("=")[0].lower() for part in text.split(";")}
    endpoints = [f"{service.capitalize()}Endpoint" for service in _services(prefix)]
    if "accountname" not in names and not {endpoint.lower() for endpoint in endpoints} <= names:
        allowed = f"UseDevelopmentStorage=true, or a connection string with AccountName (or {' and '.join(endpoints)})"
        raise ConfigError([f"{prefix}: got a text without an account, allowed {allowed}"])
    return Account(connection_string=text)


def _by_identity(read: Callable[[str], str], prefix: str) -> Account:
    problems = []
    uris = []
    name = read("accountName")
    for service in ("table", "queue"):
        uri = read(f"{service}ServiceUri") or (f"https://{name}.{service}.core.windows.net" if name else "")
        if not uri and service in _services(prefix):
            problems.append(f"{prefix}: set {prefix}, or {prefix}__{service}ServiceUri, or {prefix}__accountName")
        elif uri and not uri.startswith("https://"):
            problems.append(f"{prefix}__{service}ServiceUri: got an address that is not https, allowed https://<account>.{service}.core...")
        uris.append(uri.rstrip("/"))
    credential = read("credential").lower()
    if credential not in ("", "managedidentity"):
        problems.append(f"{prefix}__credential: got {credential!r}, allowed 'managedidentity' or nothing")
    if problems:
        raise ConfigError(problems)
    return Account(table_uri=uris[0], queue_uri=uris[1], client_id=read("clientId"), managed_identity=credential != "")
