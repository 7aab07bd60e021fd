"""Connections: from the name of a setting to clients of the storage services (azure.md 3.1, 7)."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient, ContainerClient
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from sandbox.azurite import AzuritePorts
from sandbox.host.problems import StartupError

_HOSTS_CONTAINER: Final = "azure-webjobs-hosts"
_DEVELOPMENT: Final = "UseDevelopmentStorage=true"
_STANDARD_PORTS: Final = AzuritePorts(blob=10000, queue=10001, table=10002)


class Connections:
    """The clients of one host, one for each connection name; closed together at the end."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._queues: dict[str, QueueServiceClient] = {}
        self._blobs: BlobServiceClient | None = None

    def queue(self, connection: str, name: str) -> QueueClient:
        """Return a client that sends and receives the message text as it is.

        Raises:
            StartupError: The connection has no setting.
        """
        service = self._queues.get(connection)
        if service is None:
            service = QueueServiceClient.from_connection_string(self._connection_string(connection))
            self._queues[connection] = service
        return service.get_queue_client(name)

    def hosts_container(self) -> ContainerClient:
        """Return the container of leases and timer statuses, in the account of ``AzureWebJobsStorage``."""
        if self._blobs is None:
            self._blobs = BlobServiceClient.from_connection_string(self._connection_string("AzureWebJobsStorage"))
        return self._blobs.get_container_client(_HOSTS_CONTAINER)

    async def close(self) -> None:
        """Close all clients."""
        for service in self._queues.values():
            await service.close()
        if self._blobs is not None:
            await self._blobs.close()

    def _connection_string(self, connection: str) -> str:
        value = self._environment.get(f"AzureWebJobs{connection}") or self._environment.get(connection)
        if not value:
            raise StartupError(
                f"The connection {connection!r} has no connection string; add the setting {connection} "
                f"(for example {_DEVELOPMENT!r} for Azurite on its standard ports). "
                "Identity-based connections work in Azure only."
            )
        return _STANDARD_PORTS.connection_string() if value.rstrip(";") == _DEVELOPMENT else value


def error_code(error: HttpResponseError) -> str:
    """Return the code of the storage service, such as ``PopReceiptMismatch``, or an empty text."""
    return str(getattr(error, "error_code", None) or "")


async def send_creating_queue(queue: QueueClient, text: str) -> None:
    """Send a message, and create the queue when there is none."""
    try:
        await queue.send_message(text)
    except ResourceNotFoundError:
        with suppress(ResourceExistsError):  # another host was faster
            await queue.create_queue()
        await queue.send_message(text)
