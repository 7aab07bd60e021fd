"""Sync: one message is one batch of records; `bulk` carries utility runs and yields to `changes`."""

import azure.functions as func

from shared.core.work import read_message
from shared.process import get_app

blueprint = func.Blueprint()


@blueprint.queue_trigger(arg_name="message", queue_name="changes", connection="AzureWebJobsStorage")
async def sync_changes(message: func.QueueMessage) -> None:
    """Sync a batch of scheduled changes."""
    await (await get_app()).sync.run(read_message(message.get_body()))


@blueprint.queue_trigger(arg_name="message", queue_name="bulk", connection="AzureWebJobsStorage")
async def sync_bulk(message: func.QueueMessage) -> None:
    """Sync a batch of a utility run."""
    await (await get_app()).sync.run(read_message(message.get_body()))
