"""When a flow is due. Times are aware UTC; nothing here looks at a clock."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shared.core.work import Census, FlowSettings, RunKind, SleepWindow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLD_START = timedelta(minutes=1)
"""A process that has not polled yet takes the default timer's last tick as its last poll."""


def is_due(settings: FlowSettings, now: datetime, last: datetime | None) -> bool:
    """Tell whether a beginning of the flow's interval lies between its last poll and now.

    Beginnings are counted from 1970 plus the flow's shift, so dependent flows keep their order (F2) and nothing is written to know it.
    """
    if rests(settings, RunKind.SCHEDULED, now):
        return False
    since = last or now - _COLD_START
    return _slot(settings, now) > _slot(settings, since)


def rests(settings: FlowSettings, kind: RunKind, now: datetime) -> bool:
    """Tell whether the batches of a run wait: of all runs while the flow sleeps, of its own runs also while it is stopped or asks.

    A bulk run waits while the flow asks, too: it would sync the very changes that are in question (law 12).

    What a person asked for now, a replay or a single record, never waits (F8).
    """
    if kind in (RunKind.REPLAY, RunKind.SINGLE):
        return False
    own = kind in (RunKind.SCHEDULED, RunKind.RECONCILE)
    asks = settings.asking is not None and (own or kind is RunKind.BULK)
    return is_asleep(settings.sleep, now) or asks or (own and not settings.started)


def _slot(settings: FlowSettings, moment: datetime) -> int:
    return (moment - _EPOCH - timedelta(milliseconds=settings.shift_ms)) // timedelta(milliseconds=settings.interval_ms)


def is_asleep(windows: tuple[SleepWindow, ...], now: datetime) -> bool:
    """Tell whether a moment lies in a sleep window; a window whose end is before its start crosses midnight (F8)."""
    return any(_contains(window, now) for window in windows)


def _contains(window: SleepWindow, now: datetime) -> bool:
    local = now.astimezone(ZoneInfo(window.zone)).time()
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    if start <= end:
        return start <= local < end
    return local >= start or local < end


_COMPARE_TAKES = timedelta(minutes=30)
"""A compare that was asked for and gave no result by then is asked for again."""
_SECOND_LOOK = timedelta(minutes=5)


def is_compare_due(census: Census, now: datetime, interval: timedelta, tells_deletes: bool) -> bool:
    """Tell whether a side must be compared with the ledger now.

    A side whose feed tells deletes is compared only after its chain had to be started anew. Records that the last complete read did not
    show are looked for once more soon: only two complete reads are evidence (law 10).
    """
    if census.asked is not None and now - census.asked < _COMPARE_TAKES:
        return False
    if census.due:
        return True
    if census.absent:
        return now - census.at >= min(interval, _SECOND_LOOK)
    return not tells_deletes and now - census.at >= interval
