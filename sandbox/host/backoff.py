"""The two waiting strategies of the Azure host (azure.md 2.3, steps 5 and 8). All times in seconds."""

import random
from typing import Final

_POLLING_FLOOR: Final = 0.1


class RandomizedExponentialBackoff:
    """The distance between two attempts: doubling, with jitter, up to a maximum."""

    def __init__(self, minimum: float, maximum: float, delta: float, jitter: random.Random) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._delta = delta
        self._jitter = jitter
        self._interval = minimum
        self._exponent = 0

    def next_delay(self, *, succeeded: bool) -> float:
        """Return how long to wait now; ``succeeded`` starts again from the minimum."""
        if succeeded:
            self._interval, self._exponent = self._minimum, 1
        elif self._interval != self._maximum:
            increment = self._jitter.uniform(0.8, 1.2) * 2 ** (self._exponent - 1) * self._delta if self._exponent else 0.0
            if self._minimum + increment < self._maximum:
                self._interval = self._minimum + increment
                self._exponent += 1
            else:
                self._interval = self._maximum
        return self._interval


def polling_backoff(maximum: float, jitter: random.Random) -> RandomizedExponentialBackoff:
    """Return the strategy of a queue listener: from 100 ms in steps of 100 ms to ``maxPollingInterval``."""
    return RandomizedExponentialBackoff(_POLLING_FLOOR, maximum, _POLLING_FLOOR, jitter)


class LinearSpeedup:
    """The distance between two renewals: halved after each failure, down to a minimum."""

    def __init__(self, normal: float, minimum: float) -> None:
        self._normal = normal
        self._minimum = minimum
        self._interval = normal

    def next_delay(self, *, succeeded: bool) -> float:
        """Return how long to wait for the next renewal."""
        self._interval = self._normal if succeeded else max(self._interval / 2, self._minimum)
        return self._interval
