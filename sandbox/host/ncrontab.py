"""NCRONTAB: ``{second} {minute} {hour} {day} {month} {weekday}`` (azure.md 2.4).

Unlike Unix cron the seconds stand first, weekdays are 0 (Sunday) to 6, and day of month and weekday must both match.
General cron libraries also read ``L``, ``#``, ``?``, ``7`` and ``@daily``, which Azure refuses.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_MONTHS: Final = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
                  "november", "december")  # fmt: skip
_WEEKDAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_PART: Final = re.compile(r"(?:(?P<all>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?")
# Weekdays of one date repeat after 28 years, after 40 when a century without a leap day lies between.
_HORIZON: Final = timedelta(days=41 * 366)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def parse(self, text: str) -> frozenset[int]:
        return frozenset(value for part in text.split(",") for value in self._range(part))

    def _range(self, part: str) -> range:
        match = _PART.fullmatch(part)
        if match is None:
            raise self._error(part)
        step = int(match["step"] or 1)
        low = self.low if match["all"] else self._value(match["low"], part)
        open_ended = match["all"] or match["step"]  # "5/15" runs on to the end of the field, "5" does not
        high = self._value(match["high"] or str(self.high if open_ended else low), part)
        if low > high or step < 1:
            raise self._error(part)
        return range(low, high + 1, step)

    def _value(self, text: str, part: str) -> int:
        if text.isdecimal() and self.low <= int(text) <= self.high:
            return int(text)
        named = [index for index, name in enumerate(self.names) if text.lower() in {name, name[:3]}]
        if not named:
            raise self._error(part)
        return self.low + named[0]

    def _error(self, part: str) -> ValueError:
        names = f" or {self.names[0][:3]} to {self.names[-1][:3]}" if self.names else ""
        return ValueError(
            f"the field {self.name} has {part!r}; allowed are *, {self.low} to {self.high}{names}, "
            "ranges a-b, lists a,b and steps */n, a-b/n"
        )


_FIELDS: Final = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 6, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """One parsed expression; all times are UTC."""

    expression: str
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    @classmethod
    def parse(cls, expression: str) -> "CronSchedule":
        """Parse five fields (no seconds) or six.

        Raises:
            ValueError: Another number of fields, a field that is not understood, or a day that never comes.
        """
        parts = expression.split()
        if len(parts) == 5:
            parts = ["0", *parts]
        if len(parts) != 6:
            raise ValueError(f"{expression!r} has {len(parts)} fields; allowed are 6 (second first) and 5")
        sets = [field.parse(part) for field, part in zip(_FIELDS, parts, strict=True)]
        seconds, minutes, hours = (tuple(sorted(values)) for values in sets[:3])
        schedule = cls(expression, seconds, minutes, hours, *sets[3:])
        schedule.next_after(datetime(2000, 1, 1, tzinfo=UTC))
        return schedule

    def next_after(self, moment: datetime) -> datetime:
        """Return the first occurrence later than the moment, in UTC.

        Raises:
            ValueError: There is none, as for 30 February.
        """
        start = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        day = start.date()
        earliest = start.time()
        while day - start.date() < _HORIZON:
            if day.month not in self.months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
                earliest = time()
                continue
            found = self._first_time(earliest) if self._matches(day) else None
            if found is not None:
                return datetime.combine(day, found, UTC)
            day += timedelta(days=1)
            earliest = time()
        raise ValueError(f"{self.expression!r} never comes: no such day exists")

    def _matches(self, day: date) -> bool:
        return day.day in self.days and day.isoweekday() % 7 in self.weekdays

    def _first_time(self, earliest: time) -> time | None:
        """Return the first time of day that matches and is not before ``earliest``."""
        for hour in self.hours:
            if hour < earliest.hour:
                continue
            for minute in self.minutes:
                if (hour, minute) < (earliest.hour, earliest.minute):
                    continue
                for second in self.seconds:
                    if (hour, minute, second) >= (earliest.hour, earliest.minute, earliest.second):
                        return time(hour, minute, second)
        return None
