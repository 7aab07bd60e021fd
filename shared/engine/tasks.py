"""Tasks: what the messages of the queue `polls` ask for, each done by the step that knows how."""

from shared.core.work import PollMessage, Task
from shared.engine.bulk import Bulk
from shared.engine.compare import Compare
from shared.engine.gate import Gate
from shared.engine.poll import Poll
from shared.engine.services import Services
from shared.engine.walk import Walk


class Tasks:
    """The steps behind the queue `polls`."""

    def __init__(self, services: Services, poll: Poll) -> None:
        self._poll = poll
        self._gate, self._compare = Gate(services, poll.counted), Compare(services)
        self._walk, self._bulk = Walk(services), Bulk(services)

    async def run(self, message: PollMessage) -> None:
        """Do what a message asks for."""
        match message.task:
            case Task.POLL:
                await self._poll.run_message(message)
            case Task.GATE:
                await self._gate.run(message)
            case Task.COMPARE:
                await self._compare.run(message)
            case Task.WALK:
                await self._walk.run(message)
            case Task.BULK:
                await self._bulk.run(message)
