"""Poison: messages that failed as often as the host allows become failures that a person can reprocess."""

import azure.functions as func

from shared.process import get_app

blueprint = func.Blueprint()


@blueprint.queue_trigger(arg_name="message", queue_name="polls-poison", connection="AzureWebJobsStorage")
async def keep_dead_polls(message: func.QueueMessage) -> None:
    """Keep a dead poll message."""
    await (await get_app()).poison.run("polls", message.get_body())


@blueprint.queue_trigger(arg_name="message", queue_name="changes-poison", connection="AzureWebJobsStorage")
async def keep_dead_changes(message: func.QueueMessage) -> None:
    """Keep a dead message of scheduled changes."""
    await (await get_app()).poison.run("changes", message.get_body())


@blueprint.queue_trigger(arg_name="message", queue_name="bulk-poison", connection="AzureWebJobsStorage")
async def keep_dead_bulk(message: func.QueueMessage) -> None:
    """Keep a dead message of a utility run."""
    await (await get_app()).poison.run("bulk", message.get_body())
