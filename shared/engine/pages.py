"""Pages: the records of a batch that names a key range, page by page."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from shared.core.errors import Stale
from shared.core.plan import Desk
from shared.core.records import KeyRange, RangePage, Row
from shared.core.work import BATCH_SIZE, Batch, BatchItem, BatchState
from shared.engine.desk import check_complete, no_column_gone
from shared.engine.jobs import BatchWork, Job
from shared.engine.poll import message_of, queue_of, reopened
from shared.engine.services import Services


class Pages:
    """Reads a page of a range into the work of a batch, and turns it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def open(self, work: BatchWork, desk: Desk) -> BatchWork:
        """Return the work with the records of the page at which its batch stands; a batch that names ids stays as it is.

        Raises Stale when a column is gone that was there when the desk was opened: it is no empty value.
        """
        part = work.batch.part
        if part is None:
            return work
        system, entity, columns = self._services.system(work.mapping, work.side), work.mapping.entity(work.side), desk.columns(work.side)
        with no_column_gone(system, entity):
            page = await self._page(work, part, columns)
        check_complete(system, entity, columns, page.rows.values())
        items = [BatchItem(record_id, row.stamp if isinstance(row, Row) else None) for record_id, row in page.rows.items()]
        return replace(work, jobs={item.id: Job(item) for item in items}, page=page, fetched=dict(page.rows))

    async def _page(self, work: BatchWork, part: KeyRange, columns: Sequence[str]) -> RangePage:
        """Read a page; where its position is worth nothing any more the range begins anew: what was synced is met as an echo."""
        batch, entity = work.batch, work.mapping.entity(work.side)
        system = self._services.system(work.mapping, work.side)
        # Ranges end between two times, so many are a little longer than a page: that is no reason for a second message.
        size = max(batch.size, part.rows if part.rows <= batch.size + batch.size // 2 else 0)
        try:
            return await system.read_range(entity, part, columns, batch.position, size)
        except Stale:
            if batch.position is None:
                raise
            return await system.read_range(entity, part, columns, None, size)

    async def turn(self, batch: Batch, page: RangePage, left: Sequence[BatchItem], delay: float) -> Batch:
        """Send what is left of a page as batches of their own, and the message of the next page; return the row to save.

        Messages go first, as ever: whatever is sent twice after a crash changes nothing (design 7).
        """
        await self._put_aside(batch, left, delay)
        turned = reopened(replace(batch, state=BatchState.OPEN, position=page.following), [], self._services.clock())
        if page.following is None:
            return replace(turned, state=BatchState.CLOSED)
        await self._services.queues.send(queue_of(batch.kind), message_of(turned))
        return turned

    async def _put_aside(self, batch: Batch, left: Sequence[BatchItem], delay: float) -> None:
        """Send the records of a page that need another look as batches that name ids; they belong to the same run."""
        now = self._services.clock()
        for start in range(0, len(left), BATCH_SIZE):
            items = left[start : start + BATCH_SIZE]
            name = f"{batch.id}-{batch.attempt}-{start}"
            blank = replace(batch, attempt=0, counts={}, part=None, position=None, etag=None)
            aside = replace(blank, id=name, left_by=batch.id, items=items, created=now, touched=now)
            with suppress(Stale):  # an attempt that broke off behind this made it
                await self._services.ledger.create_batches([aside])
            await self._services.queues.send(queue_of(batch.kind), message_of(aside), delay)
