"""The bindings that the local host knows, parsed from the JSON that a worker would send to the Azure host."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sandbox.host.problems import StartupError
from sandbox.host.schedule import Schedule, parse_schedule
from sandbox.host.settings import resolve_tokens

_QUEUE_NAME: Final = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_AUTH_LEVELS: Final = ("anonymous", "function", "admin")


@dataclass(frozen=True, slots=True)
class QueueBinding:
    """A queue trigger or queue output; ``connection`` names a setting."""

    name: str
    queue: str
    connection: str


@dataclass(frozen=True, slots=True)
class TimerBinding:
    """A timer trigger."""

    name: str
    schedule: Schedule
    run_on_startup: bool
    use_monitor: bool


@dataclass(frozen=True, slots=True)
class HttpBinding:
    """An HTTP trigger; no methods means all."""

    name: str
    route: str
    methods: frozenset[str]
    auth_level: str


@dataclass(frozen=True, slots=True)
class HttpOutput:
    """The HTTP response."""

    name: str


Trigger = QueueBinding | TimerBinding | HttpBinding
Binding = QueueBinding | HttpOutput


def poison_queue_name(queue: str) -> str | None:
    """Return the name of the poison queue, or None where Azure has none (azure.md 2.3)."""
    name = f"{queue}-poison"
    return name if not queue.endswith("-poison") and _QUEUE_NAME.fullmatch(name) else None


def parse_bindings(
    where: str, function: str, raw: Sequence[Mapping[str, Any]], environment: Mapping[str, str]
) -> tuple[Trigger, tuple[Binding, ...]]:
    """Return the trigger and the outputs of one function.

    Raises:
        StartupError: A binding is of a kind that this host does not run, or one of its values is not allowed.
    """
    triggers: list[Trigger] = []
    outputs: list[Binding] = []
    for binding in raw:
        match binding["type"]:
            case "queueTrigger":
                triggers.append(_queue(where, binding, environment))
            case "timerTrigger":
                triggers.append(_timer(where, binding, environment))
            case "httpTrigger":
                triggers.append(_http(where, function, binding))
            case "queue":
                outputs.append(_queue(where, binding, environment))
            case "http":
                outputs.append(HttpOutput(binding["name"]))
            case other:
                allowed = "queueTrigger, timerTrigger, httpTrigger, queue, http"
                raise StartupError(f"{where}: the local host does not run the binding {other!r}; allowed are {allowed}.")
    return triggers[0], tuple(outputs)


def _queue(where: str, binding: Mapping[str, Any], environment: Mapping[str, str]) -> QueueBinding:
    queue = resolve_tokens(binding["queueName"], environment, where).lower()
    if not _QUEUE_NAME.fullmatch(queue):
        raise StartupError(f"{where}: {queue!r} is no queue name; allowed are 3 to 63 of a-z, 0-9 and single hyphens inside.")
    return QueueBinding(binding["name"], queue, resolve_tokens(binding["connection"], environment, where))


def _timer(where: str, binding: Mapping[str, Any], environment: Mapping[str, str]) -> TimerBinding:
    schedule = parse_schedule(resolve_tokens(binding["schedule"], environment, where), where)
    use_monitor = binding.get("useMonitor")
    return TimerBinding(binding["name"], schedule, bool(binding.get("runOnStartup")), use_monitor is not False)


def _http(where: str, function: str, binding: Mapping[str, Any]) -> HttpBinding:
    level = str(binding.get("authLevel") or "function").lower()
    if level not in _AUTH_LEVELS:
        raise StartupError(f"{where}: the auth level is {level!r}; allowed are {', '.join(_AUTH_LEVELS)}.")
    methods = frozenset(str(method).upper() for method in binding.get("methods") or ())
    return HttpBinding(binding["name"], str(binding.get("route") or function).strip("/"), methods, level)
