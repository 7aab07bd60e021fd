"""What the storage clients may raise, and how the account is found in settings."""

import http.client
import inspect
from types import SimpleNamespace
from typing import Any

import aiohttp
import azure.core.exceptions as azure_errors
import pytest
from azure.data.tables import RequestTooLargeError, TableTransactionError

from shared.core.errors import ConfigError, Stale, TandemError, Transient
from shared.ledger.faults import storage_errors
from shared.ledger.queues import StorageQueues
from shared.ledger.storage import Account, Storage, open_storage
from shared.ledger.store import TableLedger

KINDS = [
    kind
    for _, kind in inspect.getmembers(azure_errors, inspect.isclass)
    if issubclass(kind, azure_errors.AzureError) and not issubclass(kind, azure_errors.ODataV4Error)
] + [TableTransactionError, RequestTooLargeError]
OTHERS = [
    TimeoutError(),
    ConnectionResetError(),
    aiohttp.ClientPayloadError(),
    aiohttp.ServerDisconnectedError(),
    http.client.BadStatusLine("x"),
]


def fault(kind: type[azure_errors.AzureError], status: int | None, code: str = "", headers: dict[str, str] | None = None) -> Exception:
    """Build an error as the client would, with a status, a service code and headers."""
    made = kind.__new__(kind)
    Exception.__init__(made, "text of the server")
    facts: dict[str, Any] = {"message": "text of the server", "status_code": status, "error_code": code}
    facts["response"] = SimpleNamespace(headers=headers or {}) if status else None
    vars(made).update(facts)
    return made


def mapped(error: Exception) -> TandemError:
    """Return what an error becomes on its way out of the ledger."""
    with pytest.raises(TandemError) as caught, storage_errors("save a row"):
        raise error
    return caught.value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("status", [None, 200, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 429, 500, 501, 502, 503, 504])
def test_every_azure_error_is_mapped_by_its_status(kind: type[azure_errors.AzureError], status: int | None) -> None:
    """Whatever class the client raises with whatever status, the engine sees one of its own errors, in the group that tells what to do."""
    if status in (404, 409, 412):
        expected: tuple[type, str] = (Stale, "ledger.changed_meanwhile")
    elif status in (400, 405, 411, 413):
        expected = (TandemError, "sync.internal")
    else:
        expected = (Transient, "ledger.busy")
    found = mapped(fault(kind, status))
    assert (type(found), found.code) == expected


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_errors_of_sockets_and_transport_are_busy(error: Exception) -> None:
    """A broken or slow connection below the client is tried again later."""
    assert isinstance(mapped(error), Transient)


def test_a_table_that_is_being_deleted_is_busy() -> None:
    """409 means a lost race only when it is about a row: a table or queue on its way out passes by itself."""
    assert isinstance(mapped(fault(azure_errors.ResourceExistsError, 409, "TableBeingDeleted")), Transient)
    assert isinstance(mapped(fault(azure_errors.ResourceExistsError, 409, "EntityAlreadyExists")), Stale)


def test_an_error_says_what_happened_and_what_to_do() -> None:
    """A refused identity names the roles to give; retry-after, code and request id are kept for the operator."""
    refused = mapped(fault(azure_errors.ClientAuthenticationError, 403, "AuthorizationPermissionMismatch", {"x-ms-request-id": "r-1"}))
    assert "save a row: 403 AuthorizationPermissionMismatch" in refused.said
    assert "Storage Table Data Contributor" in refused.said
    assert refused.request_id == "r-1"
    busy = mapped(fault(azure_errors.HttpResponseError, 503, "ServerBusy", {"retry-after": "7"}))
    assert isinstance(busy, Transient)
    assert busy.retry_after == 7.0


def test_own_errors_pass_unchanged() -> None:
    """An error of Tandem, and a fault of our own code, is not dressed up as a storage fault."""
    own = Stale("ledger.changed_meanwhile")
    assert mapped(own) is own
    with pytest.raises(ZeroDivisionError), storage_errors("save a row"):
        raise ZeroDivisionError


def test_development_storage_means_the_emulator_for_tables_and_queues() -> None:
    """The short form that the Functions host knows is spelled out, because the queue client does not know it (azure.md 7)."""
    text = open_storage({"AzureWebJobsStorage": "UseDevelopmentStorage=true;"}).account.connection_string
    assert "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1" in text
    assert "QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1" in text


def test_an_identity_is_read_from_either_form() -> None:
    """Service addresses, or an account name that they derive from; a connection string beside them wins (azure.md 3.1)."""
    by_name = open_storage({"S__accountName": "acct", "S__credential": "managedidentity", "S__clientId": "id"}, "S").account
    assert by_name == Account("", "https://acct.table.core.windows.net", "https://acct.queue.core.windows.net", "id", managed_identity=True)
    by_uri = open_storage({"S__tableServiceUri": "https://t/", "S__queueServiceUri": "https://q", "S__accountName": "x"}, "S").account
    assert by_uri == Account("", "https://t", "https://q")
    both = open_storage({"S": "AccountName=a;AccountKey=k", "S__accountName": "acct"}, "S").account
    assert both == Account("AccountName=a;AccountKey=k")


def test_a_ledger_without_an_account_of_its_own_uses_the_hosts() -> None:
    """The prefix of the ledger falls back to AzureWebJobsStorage as a whole, and never mixes the two."""
    host = {"AzureWebJobsStorage": "AccountName=host;AccountKey=k"}
    assert open_storage(host, "LEDGER_STORAGE").account.connection_string == "AccountName=host;AccountKey=k"
    own = {**host, "LEDGER_STORAGE__accountName": "own"}
    assert open_storage(own, "LEDGER_STORAGE").account == Account(
        "", "https://own.table.core.windows.net", "https://own.queue.core.windows.net"
    )


async def test_a_ledger_needs_tables_only() -> None:
    """Its table address, or a connection string with a table endpoint, is enough; its queues, which nobody uses, are refused in words."""
    by_uri = open_storage({"LEDGER_STORAGE__tableServiceUri": "https://t"}, "LEDGER_STORAGE")
    assert by_uri.account == Account("", "https://t")
    with pytest.raises(ConfigError, match="queues are those of AzureWebJobsStorage"):
        by_uri.queues()
    text = "TableEndpoint=https://own.table.core.windows.net;SharedAccessSignature=sv=1&sig=x"
    by_text = open_storage({"LEDGER_STORAGE": text}, "LEDGER_STORAGE")
    assert by_text.tables().url.startswith("https://own.table.core.windows.net")
    await by_text.close()
    with pytest.raises(ConfigError, match="TableEndpoint and QueueEndpoint"):
        open_storage({"AzureWebJobsStorage": text})


async def test_identities_are_used_over_https_for_both_services() -> None:
    """A managed identity, or what the developer is logged in with, opens both clients; nothing is sent before it is used."""
    for settings, kind in (
        ({"S__credential": "managedidentity", "S__clientId": "id"}, "ManagedIdentityCredential"),
        ({}, "DefaultAzureCredential"),
    ):
        storage = open_storage({"S__accountName": "acct", **settings}, "S")
        tables, queues = storage.tables(), storage.queues()
        assert (tables.url, queues.url) == ("https://acct.table.core.windows.net", "https://acct.queue.core.windows.net/")
        assert type(tables.credential).__name__ == type(queues.credential).__name__ == kind
        assert storage.tables() is tables
        await storage.close()
        assert storage.tables() is not tables
        await storage.close()
        assert storage.meter.requests == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ["AzureWebJobsStorage__tableServiceUri", "AzureWebJobsStorage__queueServiceUri"]),
        ({"AzureWebJobsStorage": "nonsense"}, ["allowed UseDevelopmentStorage=true"]),
        (
            {"AzureWebJobsStorage__tableServiceUri": "http://t", "AzureWebJobsStorage__credential": "secret"},
            ["not https", "queueService", "'secret'"],
        ),
    ],
)
def test_wrong_settings_are_reported_together(settings: dict[str, str], words: list[str]) -> None:
    """Every problem with the account is named in one error, without the value of a secret setting."""
    with pytest.raises(ConfigError) as caught:
        open_storage(settings)
    assert all(word in str(caught.value) for word in words)
    assert "nonsense" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "1a", "a-b", "ä", "a" * 41, "a/b"])
def test_a_table_prefix_that_azure_refuses_is_refused_at_start(prefix: str) -> None:
    """A prefix that makes no table name is a problem of configuration, in words, before anything is sent."""
    with pytest.raises(ConfigError, match="table prefix: got"):
        TableLedger(Storage(Account("AccountName=a;AccountKey=a2V5")), prefix)


@pytest.mark.parametrize(
    ("prefix", "fits"), [("", True), ("t1-", True), ("a-b", True), ("-a", False), ("a--b", False), ("A", False), ("a" * 41, False)]
)
def test_a_queue_prefix_that_azure_refuses_is_refused_at_start(prefix: str, *, fits: bool) -> None:
    """The same for queue names: small letters, digits, single hyphens."""
    storage = Storage(Account("AccountName=a;AccountKey=a2V5"))
    if fits:
        StorageQueues(storage, prefix)
    else:
        with pytest.raises(ConfigError, match="queue prefix: got"):
            StorageQueues(storage, prefix)
