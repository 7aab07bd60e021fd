"""What the engine needs of the world: systems, the ledger, the queues and a clock. Adapters fit these; `wiring` joins them."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

from shared.core.binding import Binding, BoundPage, Seen
from shared.core.errors import TandemError
from shared.core.records import ChangePage, Entity, KeyRange, LinesOf, RangeBy, RangePage, Row, Side, Value, Write, WriteResult
from shared.core.work import (
    AccountThrottle,
    Batch,
    Census,
    Conflict,
    DeleteCount,
    Failure,
    FlowSettings,
    HeldDelete,
    Message,
    Pin,
    PollMessage,
    PollState,
    Run,
    Waiting,
    Watermark,
)

Clock: TypeAlias = Callable[[], datetime]
"""Return the present moment as an aware UTC time."""
NewId: TypeAlias = Callable[[], str]
"""Return a fresh unique id, sortable by time of making."""


class System(Protocol):
    """One system, as a handful of verbs. Ids are lower-case guids; values are normal values (core.records)."""

    @property
    def name(self) -> str:
        """Return `creatio`, `dataverse`, ..."""

    @property
    def without_null(self) -> bool:
        """Tell whether the server cannot express null (Creatio)."""

    @property
    def sees_all(self) -> bool:
        """Tell whether the integration user may read every record: only then absence says anything (law 10)."""

    @property
    def tells_deletes(self) -> bool:
        """Tell whether the feed of changes names records that were deleted; without it sides are compared from time to time."""

    async def environment(self) -> str:
        """Return which environment this is, for law 12; asked again from time to time."""

    async def exist(self, entity: str, ids: Collection[str]) -> Mapping[str, bool | None]:
        """Ask for each record by itself: False only where the system says that it does not exist, None where it did not say."""

    async def describe(self, entity: str, columns: Collection[str], options: Collection[str]) -> Entity:
        """Return live metadata of the named columns; `options` names those whose choices (value to label) are needed.

        Raises Denied, Transient, or Rejected `unknown_entity`. Columns that do not exist are listed in `missing`.
        """

    def changes(
        self, entity: str, columns: Collection[str], position: str | None, since: datetime | None, *, lines: LinesOf | None = None
    ) -> AsyncIterator[ChangePage]:
        """Yield pages of what may have changed since `position` (None: everything, or everything since `since`).

        With `lines` a document of which only a line changed is told of as well, without a stamp, where its own time may not move.

        Raises Stale `dataverse.delta_expired` when the position is worth nothing any more.
        """

    def all_lines(self, lines: LinesOf) -> AsyncIterator[Sequence[tuple[str, str]]]:
        """Yield pages of all lines that documents of an entity have: the document's id and the line's, each line once.

        Of one that changes or goes meanwhile it may tell twice, or nothing: whoever asks looks at the document itself.
        """

    def ranges(
        self, entity: str, by: RangeBy, since: datetime | None, until: datetime | None, size: int, after: datetime | None = None
    ) -> AsyncGenerator[KeyRange, None]:
        """Yield key ranges of about `size` rows that together hold every row with since <= time < until; `after` goes on behind a range.

        Only times and ids are read, in the largest pages; no row is in no range, one at the seam of two may be in both.
        """

    async def read_range(self, entity: str, part: KeyRange, columns: Collection[str], position: str | None, size: int) -> RangePage:
        """Read a page of at most `size` rows of a range, in a stable order; `position` is what the page before gave.

        Raises Stale when the position is worth nothing any more: the range is begun anew then.
        """

    async def read(
        self, entity: str, ids: Collection[str], columns: Collection[str], *, lines: LinesOf | None = None
    ) -> Mapping[str, Row | TandemError]:
        """Read records by id, in bulk, with their lines where asked for. An id that the system does not show is absent.

        A row that can't be understood is an error, and so is a document with a line that can't.
        """

    async def find(self, entity: str, keys: Sequence[Mapping[str, Value]], columns: Collection[str]) -> Sequence[Sequence[Row]]:
        """Find records whose columns equal each key, one list a key; the server's notion of equal, at most 50 hits a key."""

    async def write(
        self, entity: str, writes: Sequence[Write], *, bulk: bool = False, lines: LinesOf | None = None
    ) -> Sequence[WriteResult]:
        """Write records, whatever batching it takes; one result for each write, in order. Never raises for a single record.

        `lines` says where the lines of documents stand: each document is written whole or not at all, its state last.

        `bulk` says that the writes belong to a run over very many records: creates may go by the system's bulk messages (design 6).
        """

    async def users(self) -> Mapping[str, str]:
        """Return the users that may own a record: id as an owner column holds it, to e-mail in lower case."""

    async def close(self) -> None:
        """Close connections."""


class Ledger(Protocol):
    """What Tandem remembers. A lost race raises Stale `ledger.changed_meanwhile`; a busy store raises Transient `ledger.busy`."""

    async def poll_state(self) -> PollState:
        """Read settings, watermarks and throttles of all flows in one query."""

    async def save_flow(self, settings: FlowSettings) -> FlowSettings:
        """Save settings by their ETag (create-only when they have none)."""

    async def save_watermark(self, watermark: Watermark) -> Watermark:
        """Advance a watermark by its ETag (create-only when it has none)."""

    async def save_pin(self, pin: Pin) -> Pin:
        """Save a pin by its ETag (create-only when it has none)."""

    async def save_census(self, census: Census) -> Census:
        """Save a census by its ETag (create-only when it has none)."""

    async def pause_account(self, throttle: AccountThrottle) -> None:
        """Keep the later one of the stored pause and this one."""

    async def take_slot(self, system: str, holder: str, slots: int, until: datetime) -> str | None:
        """Lease one of the account's slots until a moment; None when all are taken."""

    async def free_slot(self, system: str, slot: str, holder: str) -> None:
        """Give a slot back; harmless when it was lost."""

    async def create_batches(self, batches: Sequence[Batch]) -> None:
        """Insert batch rows."""

    async def get_batch(self, flow: str, batch_id: str) -> Batch | None:
        """Read one batch row."""

    async def save_batch(self, batch: Batch) -> Batch:
        """Save a batch row by its ETag."""

    async def open_batches(self, flow: str, untouched_since: datetime | None = None) -> Sequence[Batch]:
        """List open, parked and held batch rows of a flow, those not touched since a moment when given."""

    async def run_batches(self, flow: str, run: str) -> Sequence[Batch]:
        """List all batch rows of a run, closed ones too."""

    async def bindings(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Binding]:
        """Read bindings by the ids of one side, in bulk; absent ids are absent."""

    async def stamps(self, flow: str, side: Side, ids: Collection[str]) -> Mapping[str, Seen]:
        """Read the stamp last seen on a side and the state of bindings (the echo check), the least that tells it; absent ids are absent."""

    async def scan_bindings(self, flow: str, after: str | None = None, limit: int = 1000) -> BoundPage:
        """Read a page of all bindings of a flow, each once, in the order of their keys; `after` is what the page before gave."""

    async def save_bindings(self, bindings: Sequence[Binding]) -> Sequence[Binding | TandemError]:
        """Save bindings, each by its own ETag (create-only when it has none), both rows of one binding in one transaction.

        One result for each, in order: the saved binding with its new ETag, Stale `ledger.changed_meanwhile` when another writer was first
        or one of the ids is in another binding, Transient `ledger.busy`, or another TandemError when the binding can't be stored.
        """

    async def forget_binding(self, binding: Binding) -> None:
        """Remove a refused binding by its ETag, so that its record can be bound by another's; raises Stale when it moved."""

    async def reserve(self, wanted: Mapping[str, Sequence[str]], until: datetime) -> Mapping[str, str | None]:
        """Reserve match keys (already hashed) for records, by holder, all or none for each; of two that want one key the first gets it.

        Return by holder None when the keys are its own, else the holder that is in the way.
        """

    async def retake(self, keys: Sequence[str], holder: str, from_holder: str, until: datetime) -> bool:
        """Take over those keys that `from_holder` reserved and that ran out; tell whether any changed hands.

        Only for a caller that has made sure that `from_holder` has no binding: `reserve` alone never frees a key (law 7).
        """

    async def release(self, held: Mapping[str, Collection[str]]) -> None:
        """Give reservations back, the keys by holder; those of others stay."""

    async def save_failures(self, failures: Sequence[Failure]) -> None:
        """Keep failures, one row for each flow, side, record and field; an older row's count goes up."""

    async def clear_failures(self, flow: str, side: Side | None, fields_by_record: Mapping[str, Collection[str] | None]) -> None:
        """Remove the named fields' failures of records (None: all of the record's)."""

    async def failures(self, flow: str) -> Sequence[Failure]:
        """List the failures of a flow."""

    async def save_conflicts(self, conflicts: Sequence[Conflict]) -> None:
        """Keep conflicts, one row for each record and field."""

    async def clear_conflicts(self, flow: str, records: Collection[tuple[str, str, str]]) -> None:
        """Remove conflicts by (creatio id, dynamics id, field)."""

    async def conflicts(self, flow: str) -> Sequence[Conflict]:
        """List the conflicts of a flow."""

    async def save_waiting(self, waiting: Sequence[Waiting]) -> Sequence[Waiting]:
        """Insert waiting rows; one that is there stays. Return those that were not there before."""

    async def tell_waiting(self, waiting: Sequence[Waiting]) -> None:
        """Mark waiting rows as told: a failure says that they wait too long. One that is gone stays gone."""

    async def waiting_for(self, target_flow: str, target_side: Side, target_ids: Collection[str]) -> Sequence[Waiting]:
        """List who waits for the named records."""

    async def all_waiting(self) -> Sequence[Waiting]:
        """List every waiting row (for the sweep)."""

    async def clear_waiting(self, waiting: Sequence[Waiting]) -> None:
        """Remove waiting rows."""

    async def delete_count(self, flow: str) -> DeleteCount:
        """Read the count of a flow's deletes; an empty one without ETag when there is none."""

    async def save_delete_count(self, count: DeleteCount) -> DeleteCount:
        """Save a count of deletes by its ETag (create-only when it has none)."""

    async def hold_deletes(self, held: Sequence[HeldDelete]) -> None:
        """Keep deletes that wait for a person; one that is there stays."""

    async def held_deletes(self, flow: str) -> Sequence[HeldDelete]:
        """List the deletes of a flow that wait for a person."""

    async def clear_held(self, flow: str, records: Collection[tuple[Side, str]]) -> None:
        """Remove held deletes by (side, record id)."""

    async def keep_own_deletes(self, system: str, entity: str, ids: Collection[str]) -> None:
        """Remember that Tandem itself deletes these records, before it does (law 10)."""

    async def own_deletes(self, system: str, entity: str, ids: Collection[str]) -> Collection[str]:
        """Return those of the ids that Tandem itself deleted."""

    async def forget_own_deletes(self, system: str, entity: str, ids: Collection[str]) -> None:
        """Forget that Tandem meant to delete these records: they go on."""

    async def save_run(self, run: Run) -> None:
        """Keep a run row (replace)."""

    async def fold_quiet_run(self, flow: str, at: datetime) -> None:
        """Count a run without changes in the hour's one row."""

    async def runs(self, flow: str, limit: int = 100) -> Sequence[Run]:
        """List the latest runs of a flow, newest first."""

    async def purge(self, before: datetime) -> int:
        """Remove closed batches and runs older than a moment; return how many. Bindings and tombstones stay."""


class Queues(Protocol):
    """The queues between the steps."""

    async def send(self, queue: str, message: Message | PollMessage, delay_seconds: float = 0) -> None:
        """Put a message on a queue, visible after a delay."""

    async def depths(self) -> Mapping[str, int]:
        """Return the approximate number of messages of each queue, poison queues included."""
