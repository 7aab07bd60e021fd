"""The blob lease by which one of several hosts runs a timer (azure.md 2.4)."""

import logging
from typing import Final

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobLeaseClient, ContainerClient

from sandbox.host.clock import HostClock
from sandbox.host.storage import error_code

_LEASE: Final = 60.0  # seconds
_RENEWAL: Final = _LEASE / 2
_SHORTEST_LEASE: Final = 15  # real seconds; the service takes 15 to 60
_LONGEST_LEASE: Final = 60

_log = logging.getLogger(__name__)


class SingletonLock:
    """One lease on ``locks/<host id>/<function>.Listener``."""

    def __init__(self, container: ContainerClient, host_id: str, function_name: str, clock: HostClock) -> None:
        self._container = container
        self._blob = container.get_blob_client(f"locks/{host_id}/Host.Functions.{function_name}.Listener")
        self._clock = clock
        self._lease: BlobLeaseClient | None = None

    @property
    def renewal_seconds(self) -> float:
        """How long to wait between renewals, on the host's clock."""
        return _RENEWAL

    async def try_acquire(self) -> bool:
        """Take the lease and return True, or return False while another host has it or the storage does not answer."""
        # A lease can't be shorter than 15 real seconds, so with a fast clock a dead holder is noticed later.
        duration = min(_LONGEST_LEASE, max(_SHORTEST_LEASE, self._clock.whole_seconds(_LEASE)))
        try:
            try:
                self._lease = await self._blob.acquire_lease(duration)
            except ResourceNotFoundError:
                await self._create_blob()
                self._lease = await self._blob.acquire_lease(duration)
        except HttpResponseError as error:
            if error_code(error) != "LeaseAlreadyPresent":
                _log.warning("Singleton lock '%s' can't be acquired: %s", self._blob.blob_name, error_code(error) or error.status_code)
            return False
        except AzureError as error:
            _log.warning("Singleton lock '%s' can't be reached: %s", self._blob.blob_name, type(error).__name__)
            return False
        return True

    async def renew(self) -> bool:
        """Renew the lease and return whether this host still has it."""
        if self._lease is None:
            return False
        try:
            await self._lease.renew()
        except HttpResponseError as error:
            _log.warning("Singleton lock '%s' was lost: %s", self._blob.blob_name, error_code(error))
            return False
        except AzureError as error:
            # Unknown, and not known to be lost: the lease may outlive a short outage, and the next renewal will tell.
            _log.warning("Singleton lock '%s' could not be renewed: %s", self._blob.blob_name, type(error).__name__)
        return True

    async def release(self) -> None:
        """Give the lease back, so that another host need not wait for its end."""
        if self._lease is not None:
            try:
                await self._lease.release()
            except AzureError as error:
                _log.debug("Singleton lock '%s' could not be released: %s", self._blob.blob_name, type(error).__name__)
            self._lease = None

    async def _create_blob(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            _log.debug("The container of locks exists already")
        try:
            await self._blob.upload_blob(b"", overwrite=False)
        except ResourceExistsError:
            _log.debug("Singleton lock '%s' exists already", self._blob.blob_name)
