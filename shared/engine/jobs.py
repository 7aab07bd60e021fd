"""The records of one batch on their way: what was read, what was decided, what became of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from shared.core.binding import Binding, BindingState
from shared.core.document import LINE, TOTALS
from shared.core.errors import TandemError
from shared.core.mapping import Mapping
from shared.core.merge import Action
from shared.core.plan import RecordPlan
from shared.core.records import RangePage, Row, Side, Value
from shared.core.work import Batch, BatchItem, Outcome, RunKind, Waiting

T = TypeVar("T")

DELETE: Final = "delete"
REOPEN: Final = "reopen"
"""What a person may decide about a record as a whole."""


@dataclass
class Job:
    """One record of a batch. `outcome` ends it; `later` (seconds) puts it off to the batch's next attempt."""

    item: BatchItem
    binding: Binding | None = None
    rows: dict[Side, Row] = field(default_factory=dict)
    plan: RecordPlan | None = None
    outcome: Outcome | None = None
    later: float | None = None
    reason: TandemError | None = None
    """Why it was put off."""
    first_outcome: Outcome | None = None
    """What its first write was: a create followed by writes to the source still counts as created."""
    left_out: set[str] = field(default_factory=set)
    """Rows whose field the target refused while the record was created (law 13)."""
    overwritten: dict[str, Value] = field(default_factory=dict)
    """Creatio values that our own write covered (law 8)."""
    covering: dict[str, Value] = field(default_factory=dict)
    """What we wrote over them."""
    after: dict[Side, Row] = field(default_factory=dict)
    """The rows as our last writes left them: a read that is older is not believed."""
    errors: dict[str, TandemError] = field(default_factory=dict)
    """Failures of this attempt by row key; the empty key is the record as a whole."""
    conflicts: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """Conflicts of this attempt by row key: the reason and the ids of candidates."""
    waiting: list[Waiting] = field(default_factory=list)
    remarks: dict[str, str] = field(default_factory=dict)
    """What is to be said of values that were written, by row key."""
    reserved: tuple[str, ...] = ()
    """Reservations held until the record has its binding (law 7)."""
    reserved_by: str = ""
    """Under which name they are held."""
    newly_bound: bool = False
    refused: bool = False
    """The target refused to create the record: its binding goes from `creating` to `refused` (law 6)."""
    kept: set[tuple[str, ...]] = field(default_factory=set)
    """Failures, conflicts and waiting rows that are in the ledger already."""
    keeps_note: bool = False
    """Nothing was looked at again: what the binding's note says is still open."""
    gone: bool = False
    """Its row is gone for sure; the delete step says what follows."""
    deactivated: bool = False
    """What is left on the other side was made inactive."""
    back: bool = False
    """Its row was gone and is there again, before anything followed."""
    merged_into: str = ""
    """The Dynamics id of the record into which it was merged."""
    dismissed: bool = False
    """What a person was asked about its ended binding is of no interest any more."""
    pair: tuple[str, str] | None = None
    """The ids of its binding when it was read first, Creatio's first: under them its conflicts stand."""
    noted: str = ""
    """The binding's note when it was read: what was open before this attempt."""

    @property
    def id(self) -> str:
        """Return the record's id on the batch's side."""
        return self.item.id

    @property
    def decided(self) -> str:
        """Return what a person decided about the record as a whole, "" for nothing."""
        return self.item.decisions.get("", "")

    @property
    def concerns_delete(self) -> bool:
        """Tell whether the delete step has something to do for it."""
        return self.gone or self.back or self.dismissed or bool(self.merged_into) or self.reopened

    @property
    def asked(self) -> bool:
        """Tell whether a conflict about the record as a whole was open before this attempt."""
        return "c " in self.noted.splitlines()

    @property
    def reopened(self) -> bool:
        """Tell whether a person, or a rebase, lets a record of which the other side has none any more be created again."""
        there = self.binding is not None and self.binding.state is BindingState.REFUSED
        return self.open and there and self.pair is not None and all(self.pair)

    @property
    def has_open_ends(self) -> bool:
        """Tell whether some of the record's fields are not in step, whatever became of the others."""
        held = self.plan is not None and bool(self.plan.of(Action.HELD))
        return held or bool(self.errors or self.conflicts or self.waiting)

    @property
    def open(self) -> bool:
        """Tell whether the record still needs work in this attempt."""
        return self.outcome is None and self.later is None

    def end(self, outcome: Outcome) -> None:
        """Finish with an outcome; what the first write was outlasts what came after it."""
        self.outcome = self.first_outcome or outcome

    def fail(self, error: TandemError, outcome: Outcome) -> None:
        """Finish with a failure of the whole record."""
        self.errors[""] = error
        self.end(outcome)

    def guarded(self, step: Callable[[], T]) -> T | None:
        """Take a pure step for this record; a fault of our own on it must not stop the others (law 13).

        The record ends as a failure then, and only the exception's type is told of it: its text may hold a value.
        """
        try:
            return step()
        except TandemError:
            raise
        except Exception as fault:  # noqa: BLE001 - whatever a pure step can raise
            self.fail(TandemError("sync.internal", type(fault).__name__, record_id=self.id), Outcome.FAILED)
            return None

    def arrived(self) -> None:
        """Take the record that was being created as there: it is merged like any bound one, its sent values unconfirmed."""
        self.first_outcome, self.newly_bound = Outcome.CREATED, True

    def put_off(self, seconds: float, reason: TandemError) -> None:
        """Leave the record to the batch's next attempt."""
        self.later, self.reason = seconds, reason


@dataclass(frozen=True)
class BatchWork:
    """One batch being worked on."""

    batch: Batch
    mapping: Mapping
    jobs: dict[str, Job]
    fresh: list[Waiting] = field(default_factory=list)
    """Waiting rows that were not there before: the records they wait for are asked for, once."""
    known: dict[str, Binding | None] = field(default_factory=dict)
    """Bindings (None: there is none) as the echo check met them; the first look takes them, a later one reads anew."""
    page: RangePage | None = None
    """The page of a key range that the records come from."""
    fetched: dict[str, Row | TandemError] = field(default_factory=dict)
    """Rows of the page that nobody has looked at yet; a later look reads its records anew."""

    @classmethod
    def start(cls, batch: Batch, mapping: Mapping) -> "BatchWork":
        """Take the records of a batch, each once."""
        return cls(batch, mapping, {item.id: Job(item) for item in batch.items})

    @property
    def side(self) -> Side:
        """Return the side whose feed named the records."""
        return self.batch.side

    def active(self) -> list[Job]:
        """Return the records that still need work."""
        return [job for job in self.jobs.values() if job.open]


def leading_of(work: BatchWork, job: Job) -> dict[str, Side]:
    """Return by row key (under "" for all) the side whose value counts, by a person's decision or because the run says so."""
    decided = {key: Side(choice) for key, choice in job.item.decisions.items() if key}
    return {"": work.side, **decided} if work.batch.kind is RunKind.REBASE else decided


def holder(flow: str, side: Side, record_id: str) -> str:
    """Return the name under which a source record reserves its keys (law 7)."""
    return f"{flow}|{side.value}|{record_id}"


def reserved_of(jobs: Iterable[Job]) -> dict[str, list[str]]:
    """Return what jobs have reserved, the keys by the name under which they are held."""
    held: dict[str, list[str]] = {}
    for job in jobs:
        held.setdefault(job.reserved_by, []).extend(job.reserved)
    return held


def counts_of(jobs: Iterable[Job], before: dict[str, int]) -> dict[str, int]:
    """Add jobs to a batch's counts by outcome."""
    counts = dict(before)
    for job in jobs:
        if job.outcome is not None:
            counts[job.outcome.value] = counts.get(job.outcome.value, 0) + 1
            if job.remarks:
                counts[BY_DEFAULT_OWNER] = counts.get(BY_DEFAULT_OWNER, 0) + 1
    return counts


BY_DEFAULT_OWNER: Final = "by_default_owner"
"""Counts, beside the outcomes, the records that were given the default owner."""


def note_of(job: Job, mapping: Mapping) -> str:
    """Return the note that a binding keeps of what is open: one line a failure (`f`) or conflict (`c`), with its row key.

    Fields that the target refused before (`held`) keep their line: their failure row is still there.
    """
    keys = {row.key for row in mapping.fields}
    held = {decision.row.key for decision in job.plan.of(Action.HELD)} if job.plan else set()
    whole = {""} if held and "f " in job.noted.splitlines() else set()
    told = {key for key in {*job.errors, *held, *whole} if key in keys or not key or key == TOTALS or key.startswith(LINE)}
    lines = [f"f {key}" for key in sorted(told)]
    return "\n".join(lines + [f"c {key}" for key in sorted(job.conflicts)])


def resolved(job: Job, mark: str) -> set[str]:
    """Return the row keys that were open before (`mark` f or c) and are not any more."""
    note = job.binding.note if job.binding else ""
    before, now = ({line[2:] for line in text.splitlines() if line.startswith(f"{mark} ")} for text in (job.noted, note))
    return before - now
