"""When a flow is due: interval and shift, sleep across midnight and across the change of clocks (F2, F8)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.schedule import is_asleep, is_due
from shared.core.work import FlowSettings, SleepWindow

NIGHT = SleepWindow("22:00:00", "06:00:00")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def flow(minutes=10, shift_seconds=0, **more) -> FlowSettings:
    """Return a flow that runs every so many minutes."""
    return FlowSettings("sales.account", interval_ms=minutes * 60_000, shift_ms=shift_seconds * 1000, **more)


def at(text) -> datetime:
    """Return a moment of the first of March, or of the day named, in UTC."""
    return datetime.fromisoformat(f"{text if 'T' in text else '2026-03-01T' + text}+00:00")


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        ("11:55", "11:59:59.999999", False),
        ("11:59:59.999999", "12:00", True),
        ("12:00", "12:00", False),
        ("12:00", "12:09:59", False),
        ("12:00", "12:10", True),
        ("12:00:30", "12:10", True),
        ("12:09:59", "12:10:01", True),
        ("10:00", "12:05", True),
        ("12:05", "11:00", False),
    ],
)
def test_a_flow_is_due_when_a_beginning_lies_between(last, now, due) -> None:
    """A late poll does not move the beginnings, a long pause makes one poll due, and a clock set back makes none."""
    assert is_due(flow(), at(now), at(last)) is due


@pytest.mark.parametrize(("now", "due"), [("12:00:30", False), ("12:01:59", False), ("12:02", True), ("12:03", True)])
def test_a_shift_moves_every_beginning(now, due) -> None:
    """A flow that depends on another one runs two minutes after it, in every interval."""
    assert is_due(flow(shift_seconds=120), at(now), at("11:58")) is due


@pytest.mark.parametrize(("now", "due"), [("12:00", True), ("12:00:59", True), ("12:01", False), ("12:05", False), ("12:10:30", True)])
def test_a_fresh_process_takes_the_last_tick_as_its_last_poll(now, due) -> None:
    """Without a last poll only a beginning within the last minute counts, so that restarts do not poll everything at once."""
    assert is_due(flow(), at(now), None) is due


def test_a_stopped_or_sleeping_flow_is_never_due() -> None:
    """Neither `stopped` nor a sleep window lets a poll through."""
    assert is_due(flow(), NOON, NOON - 60 * MINUTE)
    assert not is_due(flow(started=False), NOON, NOON - 60 * MINUTE)
    assert not is_due(flow(sleep=(SleepWindow("11:00:00", "13:00:00"),)), NOON, NOON - 60 * MINUTE)
    assert is_due(flow(sleep=(SleepWindow("13:00:00", "14:00:00"),)), NOON, NOON - 60 * MINUTE)


@given(minutes=st.integers(1, 90), shift=st.integers(-3600, 3600), start=st.integers(0, 10_000), ticks=st.integers(1, 300))
def test_ticks_of_any_length_poll_once_an_interval(minutes, shift, start, ticks) -> None:
    """A timer that ticks each minute polls a flow exactly as often as beginnings passed, however interval and shift are chosen."""
    settings, last, polls = flow(minutes, shift), NOON + start * MINUTE, 0
    first = last
    for number in range(1, ticks + 1):
        now = first + number * MINUTE
        if is_due(settings, now, last):
            polls, last = polls + 1, now
    passed = timedelta(minutes=ticks)
    assert passed // timedelta(minutes=minutes) <= polls <= passed // timedelta(minutes=minutes) + 1


@pytest.mark.parametrize(
    ("now", "asleep"),
    [("21:59:59", False), ("22:00", True), ("23:59:59.9", True), ("00:00", True), ("05:59:59", True), ("06:00", False), ("12:00", False)],
)
def test_a_window_may_cross_midnight(now, asleep) -> None:
    """From ten at night to six in the morning: the start belongs to it, the end does not."""
    assert is_asleep((NIGHT,), at(now)) is asleep


@pytest.mark.parametrize(("now", "asleep"), [("11:59:59", False), ("12:00", True), ("12:59:59", True), ("13:00", False), ("00:00", False)])
def test_a_window_within_one_day(now, asleep) -> None:
    """An hour at noon is an hour at noon."""
    assert is_asleep((SleepWindow("12:00:00", "13:00:00"),), at(now)) is asleep


def test_a_window_that_ends_as_it_starts_is_none() -> None:
    """A window of no length lets nobody sleep, rather than everybody for ever."""
    window = SleepWindow("12:00:00", "12:00:00")
    assert not any(is_asleep((window,), at(f"{hour:02}:00")) for hour in range(24))


def test_one_of_several_windows_is_enough() -> None:
    """A flow sleeps when any of its windows says so, and not at all without one."""
    windows = (SleepWindow("01:00:00", "02:00:00"), SleepWindow("12:00:00", "13:00:00"))
    assert [hour for hour in range(24) if is_asleep(windows, at(f"{hour:02}:30"))] == [1, 12]
    assert not is_asleep((), NOON)


@pytest.mark.parametrize(
    ("now", "asleep"),
    [
        ("2026-01-15T20:59:59", False),
        ("2026-01-15T21:00:00", True),
        ("2026-07-15T19:59:59", False),
        ("2026-07-15T20:00:00", True),
        ("2026-07-16T03:59:59", True),
        ("2026-07-16T04:00:00", False),
    ],
)
def test_a_window_keeps_to_the_clock_on_the_wall(now, asleep) -> None:
    """Ten at night in Berlin is 21:00 UTC in winter and 20:00 UTC in summer."""
    assert is_asleep((SleepWindow("22:00:00", "06:00:00", "Europe/Berlin"),), at(now)) is asleep


def slept(window, first, hours=48) -> int:
    """Return how many minutes a window holds within so many hours."""
    return sum(is_asleep((window,), first + number * MINUTE) for number in range(hours * 60))


def test_the_night_is_an_hour_shorter_in_spring_and_longer_in_autumn() -> None:
    """When clocks change, a window from ten to six is seven or nine hours long, and never twice or not at all."""
    night = SleepWindow("22:00:00", "06:00:00", "Europe/Berlin")
    assert slept(night, at("2026-03-28T12:00"), 24) == 7 * 60
    assert slept(night, at("2026-10-24T12:00"), 24) == 9 * 60
    assert slept(night, at("2026-06-01T12:00"), 24) == 8 * 60


def test_an_hour_that_the_clock_skips_or_repeats() -> None:
    """From two to three there is no sleep on the day that has no such hour, and two hours on the day that has it twice."""
    hour = SleepWindow("02:00:00", "03:00:00", "Europe/Berlin")
    assert slept(hour, at("2026-03-28T22:00"), 24) == 0
    assert slept(hour, at("2026-10-24T22:00"), 24) == 120
