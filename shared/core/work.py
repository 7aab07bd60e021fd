"""What the ledger keeps beside bindings: flow settings, watermarks, batches, runs, failures, conflicts, waiting records; and the message.

A message is a hint that records may have changed. It names a batch row, an attempt and a `traceparent`, and carries no
business value (design 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.core.errors import TandemError
from shared.core.records import KeyRange, RangeBy, Side, Stamp

MESSAGE_VERSION = 1
LEDGER_VERSION = 1
BATCH_SIZE = 100
"""Most records of one message: what one Creatio $batch and one Dataverse $batch can write (creatio.md 2.5)."""
BULK_SIZE = 500
"""Records of a bulk run's page, unless a person says otherwise."""


class Outcome(StrEnum):
    """What became of one record in one batch."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    BOUND = "bound"
    DELETED = "deleted"
    DEACTIVATED = "deactivated"
    RESTORED = "restored"
    WAITING = "waiting"
    CONFLICT = "conflict"
    OUT_OF_SCOPE = "out_of_scope"
    REJECTED = "rejected"
    FAILED = "failed"


class RunKind(StrEnum):
    """Why a run took place."""

    SCHEDULED = "scheduled"
    SINGLE = "single"
    BULK = "bulk"
    BINDING = "binding"
    REPLAY = "replay"
    ALIGN = "align"
    REBASE = "rebase"
    RECONCILE = "reconcile"


@dataclass(frozen=True)
class SleepWindow:
    """A daily pause, `start` and `end` as `hh:mm:ss` in an IANA time zone; it may cross midnight."""

    start: str
    end: str
    zone: str = "UTC"


@dataclass(frozen=True)
class Asking:
    """Why a flow waits for a person: far more records of a side changed at once than `max_change_share` allows (law 12)."""

    side: Side
    changed: int
    of: int
    """How many records the flow has bound."""
    at: datetime
    earlier: bool = False
    """True when records went back to an earlier state, as after the restore of a backup."""


@dataclass(frozen=True)
class Load:
    """What a bulk run covers: the rows of one side with since <= time < until (None: no end), in pages of `size` rows.

    `then` names the flows that are loaded after this one, in the same way.
    """

    by: RangeBy = RangeBy.CREATED
    since: datetime | None = None
    until: datetime | None = None
    size: int = BULK_SIZE
    then: tuple[str, ...] = ()


@dataclass(frozen=True)
class Walking:
    """A run over all records of a flow that is under way. `walked` is True when all its batches are on the queue."""

    run: str
    kind: RunKind
    side: Side
    dry: bool
    started: datetime
    mapping: str
    """The hash of the mapping that it began with."""
    walked: bool = False
    load: Load | None = None
    """What a bulk run covers; None for a run over all bindings."""


@dataclass(frozen=True)
class FlowSettings:
    """How one flow runs. Times in milliseconds where F2 says so; `etag` None means defaults that were never saved."""

    flow: str
    started: bool = True
    interval_ms: int = 600_000
    shift_ms: int = 0
    query_start: datetime | None = None
    to_dynamics: bool = True
    to_creatio: bool = True
    sleep: tuple[SleepWindow, ...] = ()
    last_poll: datetime | None = None
    stopped_because: str = ""
    asking: Asking | None = None
    """While a flow asks, its polls and batches rest (law 12)."""
    walking: Walking | None = None
    """One run over all records at a time."""
    etag: str | None = None


@dataclass(frozen=True)
class Pin:
    """Something that must not change unnoticed: the environment of a system, or the mapping that a flow's records are aligned with."""

    name: str
    value: str
    at: datetime
    etag: str | None = None


@dataclass(frozen=True)
class Census:
    """The last complete read of one side of a flow: when, and which bound records it did not show (laws 10 and 11).

    `asked` is when the next one was put on the queue; `due` asks for one at once, after a chain of changes had to be started anew.
    """

    flow: str
    side: Side
    at: datetime
    absent: tuple[str, ...] = ()
    asked: datetime | None = None
    due: bool = False
    etag: str | None = None


@dataclass(frozen=True)
class DeleteCount:
    """The deletes of a flow in the last day, counted before they are sent (law 10)."""

    flow: str
    sent: Mapping[str, datetime] = field(default_factory=dict)
    """By `<side of the survivor>:<its id>`."""
    etag: str | None = None


@dataclass(frozen=True)
class HeldDelete:
    """A delete that was not carried over because there were too many in a day: `side` and `record_id` name the record that is gone."""

    flow: str
    side: Side
    record_id: str
    twin_id: str
    at: datetime


@dataclass(frozen=True)
class Watermark:
    """How far one side of a flow was read. `position` belongs to the side's adapter; `columns` is the hash of the columns read."""

    flow: str
    side: Side
    position: str
    columns: str
    complete: bool
    saved_at: datetime
    held: bool = False
    """True while the batches of an unfinished chain are held until its end shows how many records changed (law 12)."""
    etag: str | None = None


@dataclass(frozen=True)
class AccountThrottle:
    """The pause that a system asked of its account; it holds for every instance of the app."""

    system: str
    pause_until: datetime | None = None
    etag: str | None = None


@dataclass(frozen=True)
class PollState:
    """Everything that a quiet cycle needs, from one ledger query: by flow, by (flow, side), by system, by name."""

    flows: Mapping[str, FlowSettings]
    watermarks: Mapping[tuple[str, Side], Watermark]
    throttles: Mapping[str, AccountThrottle]
    pins: Mapping[str, Pin] = field(default_factory=dict)
    censuses: Mapping[tuple[str, Side], Census] = field(default_factory=dict)


class BatchState(StrEnum):
    """`parked` batches belong to a flow that is stopped, asleep or paused; `watch` sends them again. `held` ones are planned first."""

    OPEN = "open"
    PARKED = "parked"
    HELD = "held"
    CLOSED = "closed"


@dataclass(frozen=True)
class BatchItem:
    """One record of a batch with the row stamp that the feed showed."""

    id: str
    stamp: Stamp | None = None
    deleted: bool = False
    attempts: int = 0
    """How often this record was put off (stale, throttled, waiting for a twin)."""
    decisions: Mapping[str, str] = field(default_factory=dict)
    """What a person decided: by row key the side whose value counts; under "" what becomes of the record (`delete`, `reopen`)."""


@dataclass(frozen=True)
class Batch:
    """The records of one message, of one side of one flow; `counts` grows by outcome as they are done.

    They are named by their ids, at most 100; or, in a bulk run, by a key range (`part`) of which each message syncs a page of `size` rows
    from `position` on.
    """

    id: str
    flow: str
    side: Side
    run: str
    kind: RunKind
    items: Sequence[BatchItem]
    created: datetime
    attempt: int = 0
    state: BatchState = BatchState.OPEN
    touched: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    dry: bool = False
    """True when nothing is written: `counts` tells what would be."""
    part: KeyRange | None = None
    position: str | None = None
    size: int = BULK_SIZE
    left_by: str = ""
    """The batch whose page left these records over: what it began to create is theirs to settle."""
    etag: str | None = None


@dataclass(frozen=True)
class Run:
    """One execution of a flow. Quiet scheduled runs fold into one row an hour: `folded` counts them."""

    id: str
    flow: str
    kind: RunKind
    started: datetime
    ended: datetime | None = None
    changes: int = 0
    folded: int = 0
    error: str = ""


@dataclass(frozen=True)
class Failure:
    """A record, or one field of it, that needs a person. `side` and `record_id` name the source record."""

    flow: str
    side: Side | None
    record_id: str
    field: str
    code: str
    said: str
    system: str
    entity: str
    request_id: str
    at: datetime
    batch: str = ""
    count: int = 1
    stamp: str = ""
    """The source record's stamp when it failed: it is not tried again before this moves or a person asks."""

    @classmethod
    def of(
        cls,
        error: TandemError,
        flow: str,
        side: Side | None,
        at: datetime,
        *,
        record_id: str = "",
        field: str | None = None,
        batch: str = "",
    ) -> "Failure":
        """Return the failure that an error means for a record of a flow."""
        return cls(
            flow,
            side,
            record_id or error.record_id,
            error.field if field is None else field,
            error.code,
            error.said,
            error.system,
            error.entity,
            error.request_id,
            at,
            batch,
        )


@dataclass(frozen=True)
class Conflict:
    """A decision that needs a person: one field of a bound record, or a record whose match is not clear (`field` empty)."""

    flow: str
    creatio_id: str
    dynamics_id: str
    field: str
    reason: str
    at: datetime
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """A record that waits for the binding of another: (`target_flow`, `target_side`, `target_id`) wakes (`flow`, `side`, `record_id`)."""

    target_flow: str
    target_side: Side
    target_id: str
    flow: str
    side: Side
    record_id: str
    field: str
    since: datetime
    told: bool = False
    """True when a failure says that it waits too long."""


class Task(StrEnum):
    """What a message on `polls` asks for: go on polling, look through held batches, compare a side, walk through all bindings or rows."""

    POLL = "poll"
    GATE = "gate"
    COMPARE = "compare"
    WALK = "walk"
    BULK = "bulk"


class Message(BaseModel):
    """The body of a message on `changes` and `bulk`; unknown members of the same version are ignored, a newer version is refused."""

    model_config = ConfigDict(frozen=True)

    v: int = Field(ge=1)
    flow: str = Field(min_length=1)
    batch: str = Field(min_length=1)
    attempt: int = Field(ge=0)
    traceparent: str = ""


class PollMessage(BaseModel):
    """The body of a message on `polls`: work on one side of a flow that is too long for a timer's slice.

    `position` is the place from which a walk goes on; `kind` and `dry` say what its batches are.
    """

    model_config = ConfigDict(frozen=True)

    v: int = Field(ge=1)
    flow: str = Field(min_length=1)
    side: Side
    run: str = Field(min_length=1)
    task: Task = Task.POLL
    kind: RunKind = RunKind.SCHEDULED
    dry: bool = False
    position: str = ""
    traceparent: str = ""


def read_message(body: bytes) -> Message:
    """Read a queue message; raises TandemError `message.malformed` or `message.future_version`."""
    message = _read(body, Message)
    assert isinstance(message, Message)  # noqa: S101 - narrows the type; _read returns what it was asked for
    return message


def read_poll_message(body: bytes) -> PollMessage:
    """Read a message of the `polls` queue; raises as `read_message` does."""
    message = _read(body, PollMessage)
    assert isinstance(message, PollMessage)  # noqa: S101 - as above
    return message


def _read(body: bytes, model: type[BaseModel]) -> BaseModel:
    try:
        message = model.model_validate_json(body)
    except ValidationError as problem:
        where = ", ".join(".".join(str(part) for part in error["loc"]) or error["type"] for error in problem.errors())
        raise TandemError("message.malformed", f"{len(body)} bytes; not as expected: {where}") from None
    version = getattr(message, "v", 0)
    if version > MESSAGE_VERSION:
        raise TandemError("message.future_version", f"got version {version}, allowed up to {MESSAGE_VERSION}")
    return message
