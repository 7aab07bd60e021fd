"""One queue message: decode it, run the function, keep it invisible meanwhile, and settle it (azure.md 2.3, 7 to 12)."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from azure.core.exceptions import AzureError, HttpResponseError
from azure.functions.queue import QueueMessage as FunctionMessage
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from sandbox.host.backoff import LinearSpeedup
from sandbox.host.clock import HostClock
from sandbox.host.host_config import QueueOptions
from sandbox.host.indexing import HostedFunction
from sandbox.host.invocation import Call, Invoker
from sandbox.host.storage import error_code, send_creating_queue

VISIBILITY: Final = 600.0  # seconds; fixed in the Azure host, not the visibilityTimeout of host.json
_RENEWAL: Final = VISIBILITY / 2
_FASTEST_RENEWAL: Final = 60.0
# Somebody else has the message now, or it or its queue is gone.
_LOST: Final = frozenset({"PopReceiptMismatch", "MessageNotFound", "QueueNotFound", "QueueBeingDeleted", "QueueDisabled"})

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """A message that this host received; each renewal replaces the receipt."""

    message: QueueMessage
    receipt: str


@dataclass(frozen=True, slots=True)
class QueueProcessor:
    """The rules for the messages of one queue trigger; ``poison`` is None where Azure has no poison queue."""

    function: HostedFunction
    queue: QueueClient
    poison: QueueClient | None
    options: QueueOptions
    clock: HostClock
    invoker: Invoker
    notify: Callable[[str], None]

    async def process(self, message: QueueMessage) -> None:
        """Take a received message to its end. A crash before that leaves it to its visibility timeout."""
        held = _Held(message, str(message.pop_receipt))
        if int(message.dequeue_count or 0) > self.options.max_dequeue_count:
            await self._move_to_poison(held, f"Message has reached MaxDequeueCount of {self.options.max_dequeue_count}")
            return
        try:
            body = decode_body(str(message.content), base64_encoded=self.options.base64)
        except ValueError:
            await self._move_to_poison(held, f"Message {message.id} is not valid Base64")
            return
        succeeded = await self._execute(held, body)
        await self._settle(held, succeeded=succeeded)

    async def _execute(self, held: _Held, body: bytes) -> bool:
        done = asyncio.Event()
        renewal = asyncio.create_task(self._renew(held, done), name=f"renew {held.message.id}")
        try:
            reason = f"New queue message detected on '{self.queue.queue_name}'."
            value = trigger_value(self.function.trigger_type, held.message, body)
            outcome = await self.invoker.invoke(Call(self.function, value, reason))
            # Told, not cancelled: a renewal cut off between request and reply would leave a stale receipt behind.
            done.set()
            await renewal
        finally:
            renewal.cancel()
        return outcome.succeeded

    async def _settle(self, held: _Held, *, succeeded: bool) -> None:
        if succeeded:
            await self._delete(held)
        elif self.poison is None:
            # Azure leaves it invisible for the rest of its ten minutes, so that it does not spin.
            _log.warning("Message %s failed and '%s' has no poison queue: it stays invisible", held.message.id, self.queue.queue_name)
        elif int(held.message.dequeue_count or 0) >= self.options.max_dequeue_count:
            await self._move_to_poison(held, f"Message has reached MaxDequeueCount of {self.options.max_dequeue_count}")
        else:
            await self._release(held)

    async def _renew(self, held: _Held, done: asyncio.Event) -> None:
        speedup = LinearSpeedup(_RENEWAL, _FASTEST_RENEWAL)
        delay = _RENEWAL
        while not await self.clock.wait(done, delay):
            try:
                seconds = self.clock.whole_seconds(VISIBILITY)
                updated = await self.queue.update_message(str(held.message.id), held.receipt, visibility_timeout=seconds)
                held.receipt = str(updated.pop_receipt)
            except HttpResponseError as error:
                if error_code(error) in _LOST:
                    _log.debug("Message %s is no longer held: %s", held.message.id, error_code(error))
                    return
                delay = speedup.next_delay(succeeded=False)
            except AzureError:
                delay = speedup.next_delay(succeeded=False)
            else:
                delay = speedup.next_delay(succeeded=True)

    async def _release(self, held: _Held) -> None:
        seconds = self.clock.whole_seconds(self.options.visibility_timeout)
        try:
            await self.queue.update_message(str(held.message.id), held.receipt, visibility_timeout=seconds)
        except HttpResponseError as error:
            self._forgive(error, "release", held)

    async def _delete(self, held: _Held) -> None:
        try:
            await self.queue.delete_message(str(held.message.id), held.receipt)
        except HttpResponseError as error:
            self._forgive(error, "delete", held)

    async def _move_to_poison(self, held: _Held, why: str) -> None:
        """Copy the body to the poison queue, then delete the message; a crash between the two leaves both."""
        if self.poison is None:
            _log.warning("%s, but '%s' has no poison queue: it stays invisible", why, self.queue.queue_name)
            return
        _log.warning("%s. Moving message to queue '%s'.", why, self.poison.queue_name)
        await send_creating_queue(self.poison, str(held.message.content))
        self.notify(self.poison.queue_name)
        await self._delete(held)

    def _forgive(self, error: HttpResponseError, verb: str, held: _Held) -> None:
        if error_code(error) not in _LOST:
            raise error
        _log.debug("Unable to %s message %s: %s", verb, held.message.id, error_code(error))


def decode_body(text: str, *, base64_encoded: bool) -> bytes:
    """Return the body of a message text.

    Raises:
        ValueError: It should be Base64 and is not.
    """
    if not base64_encoded:
        return text.encode()
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error


def encode_body(body: bytes, *, base64_encoded: bool) -> str:
    """Return the message text of a body."""
    return base64.b64encode(body).decode() if base64_encoded else body.decode()


def trigger_value(trigger_type: object, message: QueueMessage, body: bytes) -> Any:
    """Return what the function's parameter asks for by its annotation: text, bytes or (without one) a QueueMessage."""
    if trigger_type is str:
        return body.decode(errors="replace")
    if trigger_type is bytes:
        return body
    return FunctionMessage(
        id=message.id,
        body=body,
        dequeue_count=message.dequeue_count,
        expiration_time=message.expires_on,
        insertion_time=message.inserted_on,
        time_next_visible=message.next_visible_on,
        pop_receipt=message.pop_receipt,
    )
