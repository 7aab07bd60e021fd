"""The queues between the steps, on Queue Storage (azure.md 6.2): Base64 bodies, no expiry, made on first use."""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import TextBase64DecodePolicy, TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from shared.core.errors import ConfigError
from shared.core.work import Message, PollMessage
from shared.ledger.faults import STORAGE_FAULTS, to_tandem
from shared.ledger.storage import Storage
from shared.ledger.tables import side_by_side

QUEUE_NAMES: Final = ("polls", "changes", "bulk")
POISON: Final = "-poison"
LONGEST_DELAY_SECONDS: Final = 7 * 24 * 3600
_PREFIX: Final = re.compile(r"(?=.{0,40}\Z)([a-z0-9]+(-[a-z0-9]+)*-?)?")
_NEVER_EXPIRES: Final = -1

T = TypeVar("T")


class StorageQueues:
    """Implements the engine's port `Queues`. `prefix` comes before each name, so that several apps can share an account."""

    def __init__(self, storage: Storage, prefix: str = "") -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ConfigError([f"queue prefix: got {prefix!r}, allowed up to 40 small letters, digits and single hyphens, no hyphen first"])
        self._storage = storage
        self._prefix = prefix

    async def send(self, queue: str, message: Message | PollMessage, delay_seconds: float = 0) -> None:
        """Put a message on a queue, visible after a delay; a delay beyond the seven days of Azure is cut.

        A reply that gets lost makes the client send again: the message is then there twice, which is harmless.
        """
        if queue not in QUEUE_NAMES:
            raise ConfigError([f"queue: got {queue!r}, allowed {', '.join(QUEUE_NAMES)}"])
        client = self._client(queue)
        delay = min(max(0, math.ceil(delay_seconds)), LONGEST_DELAY_SECONDS)
        body = message.model_dump_json()

        async def put() -> None:
            await client.send_message(body, visibility_timeout=delay, time_to_live=_NEVER_EXPIRES)

        async def make_and_put() -> None:
            try:
                await put()
            except ResourceNotFoundError:
                await _make(client)
                await put()

        await _mapped(make_and_put, f"send to {client.queue_name}")

    async def depths(self) -> Mapping[str, int]:
        """Return the approximate number of messages by queue, invisible ones included, poison queues too; no queue means 0."""
        names = [name + ending for ending in ("", POISON) for name in QUEUE_NAMES]
        depths = await side_by_side(self._depth, names)
        return dict(zip(names, depths, strict=True))

    async def _depth(self, name: str) -> int:
        client = self._client(name)

        async def count() -> int:
            try:
                return int((await client.get_queue_properties()).approximate_message_count or 0)
            except ResourceNotFoundError:
                return 0

        return await _mapped(count, f"depth of {client.queue_name}")

    def _client(self, name: str) -> QueueClient:
        # The Functions host expects Base64; the policies belong to the client that sends (azure.md 6.2).
        return self._storage.queues().get_queue_client(
            self._prefix + name,
            message_encode_policy=TextBase64EncodePolicy(),
            message_decode_policy=TextBase64DecodePolicy(),
        )


async def _make(client: QueueClient) -> None:
    try:
        await client.create_queue()
    except ResourceExistsError:  # another instance was quicker
        return


async def _mapped(step: Callable[[], Awaitable[T]], what: str) -> T:
    try:
        return await step()
    except STORAGE_FAULTS as fault:
        raise to_tandem(fault, what) from fault
