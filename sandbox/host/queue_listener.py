"""The loop that fetches messages for one queue trigger (azure.md 2.3, steps 1 to 6)."""

import asyncio
import logging
import random
from typing import Final

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from sandbox.host.backoff import polling_backoff
from sandbox.host.clock import HostClock
from sandbox.host.host_config import QueueOptions
from sandbox.host.queue_processor import VISIBILITY, QueueProcessor
from sandbox.host.storage import error_code

_SERVER_ERROR: Final = 500
_QUEUE_GONE: Final = frozenset({"QueueNotFound", "QueueBeingDeleted", "QueueDisabled"})

_log = logging.getLogger(__name__)


class QueueListener:
    """Fetches batches of one queue and starts each message at once, as long as not too many are running."""

    def __init__(
        self, *, queue: QueueClient, processor: QueueProcessor, options: QueueOptions, clock: HostClock, jitter: random.Random
    ) -> None:
        self._queue = queue
        self._processor = processor
        self._options = options
        self._clock = clock
        self._backoff = polling_backoff(options.max_polling_interval, jitter)
        self._found_since_last_delay = False
        self._wake = asyncio.Event()
        self._stopping = False
        self._running: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    @property
    def queue_name(self) -> str:
        """The queue that is listened to."""
        return self._queue.queue_name

    def notify(self) -> None:
        """End the wait: this host has put a message into the queue."""
        self._wake.set()

    def stop(self) -> None:
        """Fetch no more; what runs goes on."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Listen until ``stop``, then wait for the messages that are running.

        Raises:
            AzureError: The storage refuses the host, for example for a wrong key.
        """
        try:
            while not self._stopping:
                if self._failure is not None:
                    raise self._failure
                if await self._fetch():
                    self._found_since_last_delay = True
                    await self._wait_for_threshold()
                else:
                    delay = self._backoff.next_delay(succeeded=self._found_since_last_delay)
                    self._found_since_last_delay = False
                    await self._clock.wait(self._wake, delay)
                    if not self._stopping:
                        self._wake.clear()
            if self._running:
                await asyncio.wait(self._running)
        finally:
            for task in self._running:
                task.cancel()

    async def _fetch(self) -> bool:
        """Receive one batch, start its messages, and return whether there were any."""
        try:
            messages = await self._receive()
        except ResourceNotFoundError:
            return False  # the trigger does not create its queue
        except HttpResponseError as error:
            if error_code(error) in _QUEUE_GONE or (error.status_code or 0) >= _SERVER_ERROR:
                _log.warning("Queue '%s' could not be read: %s", self.queue_name, error_code(error) or error.status_code)
                return False
            raise
        except AzureError as error:
            # No answer at all. In Azure the host is started again; the result is the same: another try later.
            _log.warning("Queue '%s' could not be reached: %s", self.queue_name, type(error).__name__)
            return False
        for message in messages:
            task = asyncio.create_task(self._processor.process(message), name=f"message {message.id}")
            self._running.add(task)
            task.add_done_callback(self._ended)
        return bool(messages)

    async def _receive(self) -> list[QueueMessage]:
        size = self._options.batch_size
        pages = self._queue.receive_messages(
            messages_per_page=size, max_messages=size, visibility_timeout=self._clock.whole_seconds(VISIBILITY)
        ).by_page()
        # One page is one request; the iterator over messages would ask again to fill up the number.
        async for page in pages:
            return [message async for message in page]
        return []

    async def _wait_for_threshold(self) -> None:
        while len(self._running) > self._options.new_batch_threshold and not self._stopping:
            stopped = asyncio.create_task(self._wait_for_stop())
            await asyncio.wait({*self._running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()

    async def _wait_for_stop(self) -> None:
        while not self._stopping:
            await self._wake.wait()
            if not self._stopping:
                self._wake.clear()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, AzureError):
            _log.error("A message of '%s' could not be settled, it will come again: %s", self.queue_name, " ".join(str(error).split()))
        elif error is not None:
            self._failure = error
            self._wake.set()
