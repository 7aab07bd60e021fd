"""Schedules of timers, and the status blob by which a host knows what it missed (azure.md 2.4)."""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Self

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob.aio import BlobClient

from sandbox.host.host_config import parse_timespan
from sandbox.host.ncrontab import CronSchedule
from sandbox.host.problems import StartupError

NEVER: Final = datetime.min.replace(tzinfo=UTC)

_log = logging.getLogger(__name__)


class Schedule(Protocol):
    """When a timer is due."""

    @property
    def expression(self) -> str:
        """The text it was parsed from."""
        ...

    def next_after(self, moment: datetime) -> datetime:
        """Return the first occurrence later than the moment, in UTC."""
        ...


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """A fixed distance between two runs, written as a time span such as ``00:05:00``."""

    expression: str
    interval: timedelta

    def next_after(self, moment: datetime) -> datetime:
        """Return the moment plus the interval."""
        return moment + self.interval


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """What the status blob holds: the last run, the next one, and when that was written."""

    last: datetime
    next: datetime
    last_updated: datetime

    def to_json(self) -> dict[str, str]:
        """Return the object as it is stored and as a timer function sees it."""
        return {
            "Last": self.last.isoformat(),
            "Next": self.next.isoformat(),
            "LastUpdated": self.last_updated.isoformat(),
        }

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse the stored object.

        Raises:
            ValueError: It is not one.
        """
        document = json.loads(text)
        try:
            return cls(*(datetime.fromisoformat(document[name]) for name in ("Last", "Next", "LastUpdated")))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no schedule status: {error!r}") from error


def parse_schedule(expression: str, where: str) -> Schedule:
    """Parse an NCRONTAB expression or a time span; ``where`` says who asks, for the error.

    Raises:
        StartupError: It is neither.
    """
    seconds = parse_timespan(expression)
    if seconds:
        return IntervalSchedule(expression, timedelta(seconds=seconds))
    try:
        return CronSchedule.parse(expression)
    except ValueError as error:
        raise StartupError(f"{where}: the schedule is neither NCRONTAB nor a time span hh:mm:ss: {error}.") from error


def runs_within_a_minute(schedule: Schedule, now: datetime) -> bool:
    """Return whether the schedule is due more than once in the next minute, which switches its monitor off."""
    if isinstance(schedule, IntervalSchedule):
        return schedule.interval < timedelta(minutes=1)
    first = schedule.next_after(now)
    return schedule.next_after(first) < now + timedelta(minutes=1)


def check_past_due(schedule: Schedule, stored: ScheduleStatus | None, now: datetime) -> tuple[ScheduleStatus, bool]:
    """Return the status to go on with, and whether an occurrence was missed while no host ran.

    Without a stored status, or with one of another schedule, nothing counts as missed and the schedule starts now.
    """
    fresh = ScheduleStatus(last=NEVER, next=schedule.next_after(now), last_updated=now)
    if stored is None:
        return fresh, False
    base = stored.last_updated if stored.last == NEVER else stored.last
    if schedule.next_after(base) != stored.next:
        return fresh, False
    return stored, now > stored.next


@dataclass(frozen=True, slots=True)
class ScheduleMonitor:
    """The status blob of one timer."""

    blob: BlobClient

    async def read(self) -> ScheduleStatus | None:
        """Return what is stored, or None when there is nothing or nothing readable."""
        try:
            download = await self.blob.download_blob()
            return ScheduleStatus.from_json(await download.readall())
        except ResourceNotFoundError:
            return None
        except ValueError as error:
            _log.warning("Timer status blob '%s' is not readable and starts anew: %s", self.blob.blob_name, error)
            return None

    async def write(self, status: ScheduleStatus) -> None:
        """Store the status; a failure is logged only, as in Azure."""
        try:
            await self.blob.upload_blob(json.dumps(status.to_json()), overwrite=True)
        except AzureError as error:
            _log.error("Timer status blob '%s' could not be written: %s", self.blob.blob_name, error)
