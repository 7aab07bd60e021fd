"""``host.json`` as the host reads it: defaults, limits and overrides of azure.md 2.1 and 2.2."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandbox.host.problems import StartupError
from sandbox.host.settings import read_json_object

_TIMESPAN: Final = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d{1,7})?)?")
_OVERRIDE_PREFIX: Final = "AzureFunctionsJobHost__"
_DEFAULT_FUNCTION_TIMEOUT: Final = 30 * 60.0  # seconds; Flex Consumption, Premium and Dedicated


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """``extensions.queues``: one set for all queue triggers of the app. Times in seconds."""

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_polling_interval: float = 60.0
    visibility_timeout: float = 0.0
    max_dequeue_count: int = 5
    base64: bool = True


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What the host takes from ``host.json``; ``function_timeout`` in seconds, None for unbounded."""

    queues: QueueOptions = QueueOptions()
    function_timeout: float | None = _DEFAULT_FUNCTION_TIMEOUT
    route_prefix: str = "api"


def read_host_config(path: Path, environment: Mapping[str, str]) -> HostConfig:
    """Read ``host.json`` with the overrides ``AzureFunctionsJobHost__<path>`` of the environment.

    Raises:
        StartupError: The version is not 2.0, or a value is outside its limits.
    """
    document = read_json_object(path)
    for name, value in environment.items():
        if name.startswith(_OVERRIDE_PREFIX):
            _override(document, name.removeprefix(_OVERRIDE_PREFIX).split("__"), value)
    if document.get("version") != "2.0":
        raise StartupError(f"{path.name}: version is {document.get('version')!r}; allowed is '2.0'.")
    extensions = _section(document, "extensions", path.name)
    http = _section(extensions, "http", "extensions")
    return HostConfig(
        queues=_queue_options(_section(extensions, "queues", "extensions")),
        function_timeout=_function_timeout(document.get("functionTimeout")),
        route_prefix=str(http.get("routePrefix", "api")).strip("/"),
    )


def parse_timespan(text: object) -> float | None:
    """Return the seconds of ``[d.]hh:mm[:ss[.fffffff]]``, or None when the text is something else."""
    match = _TIMESPAN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:4])
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + float(match[5] or 0)


def _override(document: dict[str, Any], path: list[str], value: str) -> None:
    for part in path[:-1]:
        child = document.setdefault(part, {})
        if not isinstance(child, dict):
            raise StartupError(f"The setting {_OVERRIDE_PREFIX}{'__'.join(path)} goes through {part!r}, which is no object.")
        document = child
    try:
        document[path[-1]] = json.loads(value)
    except ValueError:
        document[path[-1]] = value  # a text such as 00:00:02


def _section(document: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    section = document.get(name, {})
    if not isinstance(section, dict):
        raise StartupError(f"host.json: {name!r} in {where} is {type(section).__name__}; allowed is an object.")
    return section


def _queue_options(section: Mapping[str, Any]) -> QueueOptions:
    batch_size = _integer(section, "batchSize", 16, 1, 32)
    encoding = str(section.get("messageEncoding", "base64")).lower()
    if encoding not in {"base64", "none"}:
        raise StartupError(f"host.json: messageEncoding is {encoding!r}; allowed are 'base64' and 'none'.")
    return QueueOptions(
        batch_size=batch_size,
        # Half a batch for each core; the host counts one core outside the dynamic plans.
        new_batch_threshold=_integer(section, "newBatchThreshold", batch_size // 2, 0, 1_000),
        max_polling_interval=_seconds(section, "maxPollingInterval", "00:01:00", 0.1, 3_600),
        visibility_timeout=_seconds(section, "visibilityTimeout", "00:00:00", 0, 7 * 86_400),
        max_dequeue_count=_integer(section, "maxDequeueCount", 5, 1, 10_000),
        base64=encoding == "base64",
    )


def _integer(section: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = section.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise StartupError(f"host.json: {name} is {value!r}; allowed is a whole number from {low} to {high}.")
    return value


def _seconds(section: Mapping[str, Any], name: str, default: str, low: float, high: float) -> float:
    value = parse_timespan(section.get(name, default))
    if value is None or not low <= value <= high:
        raise StartupError(f"host.json: {name} is {section.get(name)!r}; allowed is hh:mm:ss[.fff] of {low:g} to {high:g} seconds.")
    return value


def _function_timeout(value: object) -> float | None:
    if value is None:
        return _DEFAULT_FUNCTION_TIMEOUT
    if value == "-1":
        return None
    seconds = parse_timespan(value)
    if seconds is None or seconds < 1:
        raise StartupError(f"host.json: functionTimeout is {value!r}; allowed are hh:mm:ss of at least 1 second, and '-1'.")
    return seconds
