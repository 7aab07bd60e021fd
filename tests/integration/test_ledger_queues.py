"""The queues on a real Azurite: what the Functions host will find in them."""

import base64
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from shared.core.errors import ConfigError, Transient
from shared.core.records import Side
from shared.core.work import Message, PollMessage, read_message, read_poll_message
from shared.ledger.queues import StorageQueues
from shared.ledger.storage import Account, Storage

MESSAGE = Message(v=1, flow="sales.account", batch="b1", attempt=2, traceparent="00-1-2-01")


@pytest.fixture
def queue_prefix() -> str:
    """Return a queue prefix that no other test uses."""
    return f"q{uuid4().hex[:12]}-"


@pytest.fixture
def queues(storage: Storage, queue_prefix: str) -> StorageQueues:
    """Return queues that do not exist yet."""
    return StorageQueues(storage, queue_prefix)


def raw(storage: Storage, name: str) -> QueueClient:
    """Return a client that sees message texts as they are stored."""
    return storage.queues().get_queue_client(name)


async def receive(client: QueueClient) -> list[QueueMessage]:
    """Return the visible messages as stored."""
    return [message async for message in client.receive_messages()]


async def test_messages_arrive_as_the_host_expects_them(storage: Storage, queues: StorageQueues, queue_prefix: str) -> None:
    """Bodies are Base64 of JSON that the product reads back, in queues made by the first send, and never expire."""
    await queues.send("changes", MESSAGE)
    poll = PollMessage(v=1, flow="sales.account", side=Side.CREATIO, run="r1")
    await queues.send("polls", poll)
    [stored] = await receive(raw(storage, f"{queue_prefix}changes"))
    body = base64.b64decode(stored.content, validate=True)
    assert json.loads(body)["batch"] == "b1"
    assert read_message(body) == MESSAGE
    assert stored.expires_on > datetime.now(UTC) + timedelta(days=3650)
    [stored] = await receive(raw(storage, f"{queue_prefix}polls"))
    assert read_poll_message(base64.b64decode(stored.content)) == poll


async def test_a_delayed_message_waits(storage: Storage, queues: StorageQueues, queue_prefix: str) -> None:
    """A message with a delay can't be received before it; a delay beyond Azure's seven days is cut, a negative one means none."""
    await queues.send("changes", MESSAGE, delay_seconds=600.5)
    await queues.send("changes", MESSAGE, delay_seconds=10**9)
    assert await receive(raw(storage, f"{queue_prefix}changes")) == []
    assert (await queues.depths())["changes"] == 2
    await queues.send("changes", MESSAGE, delay_seconds=-5)
    assert len(await receive(raw(storage, f"{queue_prefix}changes"))) == 1


async def test_depths_name_every_queue(storage: Storage, queues: StorageQueues, queue_prefix: str) -> None:
    """Each queue and its poison queue is counted, one that does not exist yet as empty."""
    names = ["polls", "changes", "bulk", "polls-poison", "changes-poison", "bulk-poison"]
    assert await queues.depths() == dict.fromkeys(names, 0)
    await queues.send("bulk", MESSAGE)
    await queues.send("bulk", MESSAGE)
    poison = raw(storage, f"{queue_prefix}bulk-poison")
    await poison.create_queue()
    await poison.send_message("x")
    assert await queues.depths() == {**dict.fromkeys(names, 0), "bulk": 2, "bulk-poison": 1}


async def test_requests_to_queues_are_counted(storage: Storage, queues: StorageQueues) -> None:
    """The cost meter sees each request: the first send meets no queue, makes it and sends again, the next one is a single request."""
    await queues.send("changes", MESSAGE)
    assert storage.meter.requests == 3
    await queues.send("changes", MESSAGE)
    assert storage.meter.requests == 4


async def test_an_unknown_queue_is_refused(queues: StorageQueues) -> None:
    """A name that no trigger listens to is refused in words, instead of a queue that nobody reads."""
    with pytest.raises(ConfigError, match="got 'chnages', allowed polls, changes, bulk"):
        await queues.send("chnages", MESSAGE)


async def test_queues_out_of_reach_are_busy() -> None:
    """With nobody listening a send raises Transient; no error of azure comes through."""
    nowhere = "http://127.0.0.1:9/devstoreaccount1"
    storage = Storage(Account(f"AccountName=a;AccountKey=a2V5;QueueEndpoint={nowhere};TableEndpoint={nowhere}"))
    storage.queues()._config.retry_policy.total_retries = 0
    try:
        with pytest.raises(Transient, match=r"ledger\.busy"):
            await StorageQueues(storage).send("changes", MESSAGE)
    finally:
        await storage.close()
