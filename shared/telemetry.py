"""Structured events: a name and a fixed set of facts, one line each, never a business value (design 7)."""

import logging

_LOGGER = logging.getLogger("tandem")
_WARN = frozenset(
    {"flow_stopped", "flow_stop_lost", "message_poisoned", "poison_lost", "poll_failed", "record_failed", "note_lost", "batch_postponed"}
)


def log_event(name: str, /, **facts: str | float | None) -> None:
    """Log one event as `event=name key=value ...`, with the same facts as fields of the log record (`extra`)."""
    shown = {key: value for key, value in facts.items() if value not in (None, "")}
    text = " ".join([f"event={name}", *(f"{key}={_short(value)}" for key, value in shown.items())])
    level = logging.WARNING if name in _WARN else logging.INFO
    _LOGGER.log(level, text, extra={"event": name, **{f"fact_{key}": value for key, value in shown.items()}})


def _short(value: str | float | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def quiet_libraries() -> None:
    """Keep the HTTP libraries from logging whole URLs, which may hold ids and search values."""
    for name in ("httpx", "httpcore", "azure"):
        logging.getLogger(name).setLevel(logging.WARNING)
