"""Service protection limits: requests and execution time in a window, requests at a time (dataverse.md 7)."""

import itertools
import math
import time
from collections import deque
from dataclasses import dataclass, field

from sandbox.dataverse.faults import Fault
from sandbox.dataverse.switches import Settings


@dataclass
class _Usage:
    """What one user did on one web server lately."""

    requests: deque[tuple[float, float]] = field(default_factory=deque)
    running: int = 0
    pushes: int = 0

    def forget(self, before: float) -> None:
        while self.requests and self.requests[0][0] < before:
            self.requests.popleft()

    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.requests)


@dataclass
class Limits:
    """Counts by user and virtual web server; a refused request makes the next wait longer."""

    _usage: dict[tuple[str, int], _Usage] = field(default_factory=dict)
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)

    def server(self, cookie: str | None, settings: Settings) -> int:
        """Choose the web server: the one of the affinity cookie, else the next in turn."""
        if cookie is not None and cookie.isdigit():
            return int(cookie) % settings.web_servers
        return next(self._turn) % settings.web_servers

    def enter(self, user_id: str, server: int, settings: Settings) -> None:
        """Let a request in, or raise the 429 of the limit it hits, with ``Retry-After`` in whole seconds."""
        usage = self._usage.setdefault((user_id, server), _Usage())
        now = time.monotonic()
        window = settings.limit_window_seconds
        usage.forget(now - window)
        if usage.running >= settings.concurrency_limit:
            raise self._refusal(
                "0x80072326",
                f"Number of concurrent requests exceeded the limit of {settings.concurrency_limit}.",
                1,
            )
        fault: tuple[str, str] | None = None
        if len(usage.requests) >= settings.request_limit:
            text = f"Number of requests exceeded the limit of {settings.request_limit} over time window of {window:g} seconds."
            fault = ("0x80072322", text)
        elif usage.seconds() >= settings.time_limit_seconds:
            text = (
                "Combined execution time of incoming requests exceeded limit of "
                f"{settings.time_limit_seconds * 1000:,.0f} milliseconds over time window of {window:g} seconds. "
                "Decrease number of concurrent requests or reduce the duration of requests and try again later."
            )
            fault = ("0x80072321", text)
        if fault is not None:
            usage.pushes += 1
            raise self._refusal(*fault, usage.requests[0][0] + window - now + usage.pushes - 1)
        usage.pushes = 0
        usage.running += 1

    @staticmethod
    def _refusal(code: str, message: str, seconds: float) -> Fault:
        return Fault(429, code, message, {"Retry-After": str(max(1, math.ceil(seconds)))})

    def leave(self, user_id: str, server: int, seconds: float) -> None:
        """Charge a request that is done with its execution time."""
        usage = self._usage[user_id, server]
        usage.running -= 1
        usage.requests.append((time.monotonic(), seconds))

    def headers(self, user_id: str, server: int, settings: Settings) -> dict[str, str]:
        """Tell what is left; for debugging only, as the platform says."""
        usage = self._usage.get((user_id, server), _Usage())
        seconds = max(0.0, settings.time_limit_seconds - usage.seconds())
        return {
            "x-ms-ratelimit-burst-remaining-xrm-requests": str(max(0, settings.request_limit - len(usage.requests))),
            "x-ms-ratelimit-time-remaining-xrm-requests": f"{seconds:,.2f}",
            "x-ms-dop-hint": str(settings.dop_hint),
        }
