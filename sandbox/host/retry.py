"""``@retry``: run a failed invocation again inside the same slot (azure.md 1.2, 2.4)."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sandbox.host.backoff import RandomizedExponentialBackoff
from sandbox.host.host_config import parse_timespan
from sandbox.host.problems import StartupError

_FOREVER: Final = -1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after how many seconds a failed invocation is run again; a count of -1 means for ever."""

    maximum_count: int
    minimum: float
    maximum: float

    def allows(self, retries_done: int) -> bool:
        """Return whether one more retry is due."""
        return self.maximum_count == _FOREVER or retries_done < self.maximum_count

    def delays(self, jitter: random.Random) -> RandomizedExponentialBackoff:
        """Return the waits of one invocation; with a fixed delay all are the same."""
        return RandomizedExponentialBackoff(self.minimum, self.maximum, self.minimum, jitter)


def parse_retry_policy(where: str, setting: Mapping[str, Any]) -> RetryPolicy:
    """Parse the setting that the decorator leaves; all of its values are texts.

    Raises:
        StartupError: An unknown strategy, a count that is no number, an interval that is not hh:mm:ss.
    """
    strategy = setting.get("strategy")
    count = str(setting.get("max_retry_count"))
    if not count.removeprefix("-").isdecimal():
        raise StartupError(f"{where}: max_retry_count is {count!r}; allowed is a whole number, -1 for ever.")
    if strategy == "fixed_delay":
        delay = _interval(where, setting, "delay_interval")
        return RetryPolicy(int(count), delay, delay)
    if strategy == "exponential_backoff":
        return RetryPolicy(int(count), _interval(where, setting, "minimum_interval"), _interval(where, setting, "maximum_interval"))
    raise StartupError(f"{where}: the retry strategy is {strategy!r}; allowed are fixed_delay and exponential_backoff.")


def _interval(where: str, setting: Mapping[str, Any], name: str) -> float:
    seconds = parse_timespan(setting.get(name))
    if seconds is None:
        raise StartupError(f"{where}: {name} is {setting.get(name)!r}; allowed is hh:mm:ss.")
    return seconds
