"""A clock for simulations, and what work queues up at. A process is a generator that yields the seconds it waits, or a Gate it waits at."""

import heapq
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeAlias, Union

Process: TypeAlias = Generator[Union[float, "Gate"], None, None]


class Clock:
    """Runs processes in the order of time; equal times in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, action))

    def start(self, process: Process) -> None:
        """Let a process run from now on."""
        self.after(0.0, lambda: self._go_on(process))

    def run(self, until: Callable[[], bool]) -> None:
        """Run until a condition holds or nothing is left to happen."""
        while self._events and not until():
            self.now, _, action = heapq.heappop(self._events)
            action()

    def _go_on(self, process: Process) -> None:
        for wish in process:
            if isinstance(wish, Gate):
                wish.waiting.append(process)
            else:
                self.after(wish, lambda: self._go_on(process))
            return


@dataclass
class Gate:
    """Lets in as many as `most` at a time; the others wait in their order. `enter` returns False when the caller must yield the gate."""

    clock: Clock
    most: int
    inside: int = 0
    waiting: deque[Process] = field(default_factory=deque)

    def enter(self) -> bool:
        """Go in if there is room; else yield the gate and be inside afterwards."""
        if self.inside < self.most:
            self.inside += 1
            return True
        return False

    def leave(self) -> None:
        """Give the place to the next who waits."""
        if self.waiting:
            self.clock.start(self.waiting.popleft())
        else:
            self.inside -= 1


@dataclass
class Signal(Gate):
    """Wakes everybody who waits."""

    most: int = 0

    def wake(self) -> None:
        """Let all who wait go on."""
        while self.waiting:
            self.clock.start(self.waiting.popleft())


@dataclass
class Rate:
    """Serves so many units a second, one after the other. `work` is what it was given so far."""

    clock: Clock
    rate: float
    free: float = 0.0
    work: float = 0.0
    log: list[tuple[float, float]] | None = None

    def take(self, units: float) -> float:
        """Queue up with so many units; return the seconds until they are served."""
        begins = max(self.clock.now, self.free)
        self.free = begins + units / self.rate
        self.work += units
        if self.log is not None:
            self.log.append((self.free, units))
        return self.free - self.clock.now


@dataclass
class Window:
    """The service protection limits of one user on one web server (dataverse.md 7)."""

    clock: Clock
    length: float
    requests: int
    seconds: float
    concurrent: int
    running: int = 0
    most_running: int = 0
    refused: int = 0
    _used: deque[tuple[float, float]] = field(default_factory=deque)
    _sum: float = 0.0
    log: list[tuple[float, float]] | None = None

    def enter(self, seconds: float) -> float:
        """Let a request in and charge it, or return the seconds of Retry-After; 0 means that it is in."""
        now = self.clock.now
        while self._used and self._used[0][0] <= now - self.length:
            self._sum -= self._used.popleft()[1]
        if self.running >= self.concurrent:
            self.refused += 1
            return 1.0
        if len(self._used) >= self.requests or (self._used and self._sum + seconds > self.seconds):
            self.refused += 1
            return max(1.0, self._room(seconds) - now)
        self._used.append((now, seconds))
        self._sum += seconds
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        if self.log is not None:
            self.log.append((now, seconds))
        return 0.0

    def leave(self) -> None:
        """End a request."""
        self.running -= 1

    def _room(self, seconds: float) -> float:
        """Return when enough of what was used has left the window."""
        left, number = self._sum, len(self._used)
        for at, used in self._used:
            left, number = left - used, number - 1
            if number < self.requests and left + seconds <= self.seconds:
                return at + self.length
        return self._used[-1][0] + self.length
