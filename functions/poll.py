"""Poll: the timer that looks which flows are due, and the queue on which longer work over a whole side goes on."""

import azure.functions as func

from shared.core.work import read_poll_message
from shared.process import get_app

blueprint = func.Blueprint()


@blueprint.timer_trigger(arg_name="timer", schedule="%POLL_SCHEDULE%")
async def poll_flows(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding needs its parameter
    """Poll every due flow."""
    await (await get_app()).poll.run()


@blueprint.queue_trigger(arg_name="message", queue_name="polls", connection="AzureWebJobsStorage")
async def poll_on(message: func.QueueMessage) -> None:
    """Go on with what is too long for the timer: a poll, a compare, a look through held batches, a walk through all bindings."""
    await (await get_app()).tasks.run(read_poll_message(message.get_body()))
