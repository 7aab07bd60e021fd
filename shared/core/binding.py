"""The binding: the two ids of one record, and for each field what it was when last synced (law 1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from shared.core.records import Side, Stamp


class BindingState(StrEnum):
    """`creating`: an intent is open. `refused`: the target said no. `bound`: in step. `ended`: a tombstone that blocks creation."""

    CREATING = "creating"
    REFUSED = "refused"
    BOUND = "bound"
    ENDED = "ended"


class FieldState(NamedTuple):
    """What is known of one mapped field of one record; fingerprints only, never values. A tuple, as each record comes with dozens.

    `creatio` and `dynamics` are the bases, each over its own side's value. `sent` is the fingerprint of a value sent to `sent_to`
    whose arrival is not confirmed yet, `sent_source` that of the source value it was made from, `sent_over` that of the target's
    value it was to replace (law 4). `refused` is the fingerprint of a source value that the target refused (law 13).
    """

    row_hash: str
    key_id: str
    creatio: str | None = None
    dynamics: str | None = None
    sent: str | None = None
    sent_to: Side | None = None
    sent_source: str | None = None
    sent_over: str | None = None
    refused: str | None = None
    set_from: Side | None = None
    set_at: datetime | None = None
    set_by_run: str = ""
    pending: bool = False
    """True while a reference waits for the binding of the record it names, to be written to `sent_to` (law 9)."""
    writes: int = 0
    """How often the field was written since `writes_since` without an edit of a person (law 14)."""
    writes_since: datetime | None = None
    earlier: tuple[tuple[Side, str, str], ...] = ()
    """Values sent by writes that were not answered and not found done: side, fingerprint, that of the source. They may be done yet."""

    def base(self, side: Side) -> str | None:
        """Return the base of one side."""
        return self.creatio if side is Side.CREATIO else self.dynamics


@dataclass(frozen=True)
class Binding:
    """One record of a flow on both sides. `etag` None means not in the ledger yet."""

    flow: str
    state: BindingState
    creatio_id: str | None
    dynamics_id: str | None
    generation: int = 1
    creatio_stamp: Stamp | None = None
    dynamics_stamp: Stamp | None = None
    fields: Mapping[str, FieldState] = field(default_factory=dict)
    source: Side | None = None
    """For `creating` and `refused`: the side whose record is being created on the other."""
    owner_batch: str = ""
    deadline: datetime | None = None
    reserved: tuple[str, ...] = ()
    """Reservations held while `creating` (law 7)."""
    note: str = ""
    gone: tuple[Side, ...] = ()
    """For `ended`: the sides whose record is gone."""
    merged_into: str = ""
    """For `ended`: the Dynamics id of the record into which this one was merged there."""
    etag: str | None = None

    def id_on(self, side: Side) -> str | None:
        """Return the record's id on one side."""
        return self.creatio_id if side is Side.CREATIO else self.dynamics_id

    def stamp_on(self, side: Side) -> Stamp | None:
        """Return the stamp last seen on one side."""
        return self.creatio_stamp if side is Side.CREATIO else self.dynamics_stamp


class Seen(NamedTuple):
    """What tells an echo (law 5): the stamp last seen on a side, and the state. The binding comes along where it was read anyway."""

    stamp: Stamp | None
    state: BindingState
    binding: Binding | None = None

    def is_echo(self, stamp: Stamp | None) -> bool:
        """Tell whether a row with this stamp is as the binding has seen it: nothing happened since."""
        return self.state is BindingState.BOUND and self.stamp == stamp


@dataclass(frozen=True)
class Bound:
    """What a scan over all bindings of a flow reads of each: ids, state, stamps, the sides whose record is gone, the mark of its lines."""

    creatio_id: str | None
    dynamics_id: str | None
    state: BindingState
    creatio_stamp: Stamp | None = None
    dynamics_stamp: Stamp | None = None
    gone: tuple[Side, ...] = ()
    lines: int = 0
    """The mark (core.census) of the lines that the binding knows."""

    def id_on(self, side: Side) -> str | None:
        """Return the record's id on one side."""
        return self.creatio_id if side is Side.CREATIO else self.dynamics_id

    def stamp_on(self, side: Side) -> Stamp | None:
        """Return the stamp last seen on one side."""
        return self.creatio_stamp if side is Side.CREATIO else self.dynamics_stamp


@dataclass(frozen=True)
class BoundPage:
    """A page of a scan over bindings; `following` is where to go on from, None after the last page."""

    bound: Sequence[Bound]
    following: str | None
