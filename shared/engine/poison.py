"""Poison: whatever could not be worked on becomes failures that a person can look at and reprocess. Never raises (design 1)."""

import hashlib
from dataclasses import replace

from shared.core.errors import TandemError
from shared.core.work import BatchState, Failure, Outcome, PollMessage, read_message, read_poll_message
from shared.engine.services import Services

_NO_FLOW = "tandem"
"""The name under which failures stand that belong to no flow."""


class Poison:
    """The poison step."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def run(self, queue: str, body: bytes) -> None:
        """Keep a dead message: one failure for each record of its batch, or one for the message itself when it can't be read.

        The body of a message that can't be read is not stored, only its length and digest: anything may stand in it.
        """
        try:
            await self._keep(queue, body)
        except Exception as fault:  # noqa: BLE001 - law of this step: a poison message must not poison its own queue
            code = fault.code if isinstance(fault, TandemError) else type(fault).__name__
            self._services.events("poison_lost", queue=queue, digest=_digest(body), code=code)

    async def _keep(self, queue: str, body: bytes) -> None:
        services, now = self._services, self._services.clock()
        services.events("message_poisoned", queue=queue, digest=_digest(body))
        try:
            if queue == "polls":
                await self._keep_poll(read_poll_message(body))
                return
            message = read_message(body)
        except TandemError as error:
            told = TandemError(error.code, f"{error.said}; queue {queue}; digest {_digest(body)}")
            await services.ledger.save_failures([Failure.of(told, _NO_FLOW, None, now, record_id=_digest(body))])
            return
        batch = await services.ledger.get_batch(message.flow, message.batch)
        dead = TandemError("message.poisoned", f"queue {queue}, attempt {message.attempt}")
        if batch is None:
            unknown = TandemError("message.unknown_batch", f"batch {message.batch} of {message.flow}")
            await services.ledger.save_failures([Failure.of(unknown, message.flow, None, now, record_id=message.batch)])
            return
        if batch.state is BatchState.CLOSED or message.attempt < batch.attempt:
            return  # another message did the work
        await services.ledger.save_failures(
            [Failure.of(dead, batch.flow, batch.side, now, record_id=item.id, batch=batch.id) for item in batch.items]
        )
        failed = batch.counts.get(Outcome.FAILED.value, 0) + len(batch.items)
        counts = {**batch.counts, Outcome.FAILED.value: failed}
        await services.ledger.save_batch(replace(batch, state=BatchState.CLOSED, items=[], counts=counts, touched=now))

    async def _keep_poll(self, message: PollMessage) -> None:
        """Tell of a poll that could not go on; the timer takes its chain up again from the saved watermark, so nothing is lost."""
        error = TandemError("message.poisoned", f"queue polls, side {message.side.value}, run {message.run}")
        failure = Failure.of(error, message.flow, message.side, self._services.clock(), record_id=message.run)
        await self._services.ledger.save_failures([failure])


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=8).hexdigest()
