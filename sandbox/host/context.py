"""What a function gets beside its trigger: the invocation context and the output parameters (azure.md 1.3)."""

import secrets
import threading
from collections.abc import Iterable
from typing import Any, Final

import azure.functions as func

_LOCAL: Final = threading.local()  # as in the worker: functions mark their own threads with the invocation id


class TraceContext(func._abc.TraceContext):  # noqa: SLF001 - the package exports the class nowhere else
    """W3C trace context of one invocation."""

    def __init__(self, trace_parent: str, trace_state: str) -> None:
        self._trace_parent = trace_parent
        self._trace_state = trace_state

    @property
    def trace_parent(self) -> str:
        """The traceparent header."""
        return self._trace_parent

    @property
    def trace_state(self) -> str:
        """The tracestate header."""
        return self._trace_state

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of the trace; the local host has none."""
        return {}


class RetryContext(func._abc.RetryContext):  # noqa: SLF001 - see above
    """Which try of ``@retry`` this is."""

    def __init__(self, retry_count: int, max_retry_count: int) -> None:
        self._retry_count = retry_count
        self._max_retry_count = max_retry_count

    @property
    def retry_count(self) -> int:
        """Retries before this run."""
        return self._retry_count

    @property
    def max_retry_count(self) -> int:
        """Retries that the policy allows, -1 for ever."""
        return self._max_retry_count

    @property
    def exception(self) -> Any:
        """The failure before; the local host does not keep it."""
        return None


class InvocationContext(func.Context):
    """The object that a parameter called ``context`` receives."""

    def __init__(self, invocation_id: str, function_name: str, directory: str, trace: TraceContext, retry: RetryContext) -> None:
        self._invocation_id = invocation_id
        self._function_name = function_name
        self._directory = directory
        self._trace = trace
        self._retry = retry

    @property
    def invocation_id(self) -> str:
        """The id of this invocation, as in the log."""
        return self._invocation_id

    @property
    def thread_local_storage(self) -> Any:
        """Where own threads put ``invocation_id``."""
        return _LOCAL

    @property
    def function_name(self) -> str:
        """The name of the function."""
        return self._function_name

    @property
    def function_directory(self) -> str:
        """The folder of the app."""
        return self._directory

    @property
    def trace_context(self) -> TraceContext:
        """The trace that this invocation belongs to."""
        return self._trace

    @property
    def retry_context(self) -> RetryContext:
        """Which try this is."""
        return self._retry


class OutputParameter(func.Out[Any]):
    """An output parameter: what was set last is sent when the function has succeeded."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        """Keep the value to send."""
        self._value = val

    def get(self) -> Any:
        """Return the value that was set last, or None."""
        return self._value


def new_trace_parent() -> str:
    """Return the ``traceparent`` of a new, sampled trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def queue_items(value: Any) -> list[bytes]:
    """Return the bodies of the messages that an output value stands for.

    Raises:
        TypeError: It is none of text, bytes, QueueMessage, or an iterable of texts and QueueMessages.
    """
    if isinstance(value, str | bytes | func.QueueMessage):
        return [_queue_item(value)]
    if isinstance(value, Iterable):
        items = list(value)
        if all(isinstance(item, str | func.QueueMessage) for item in items):
            return [_queue_item(item) for item in items]
    raise TypeError(
        f"a queue output got {type(value).__name__}; allowed are str, bytes, azure.functions.QueueMessage "
        "and an iterable of str or QueueMessage"
    )


def _queue_item(value: str | bytes | func.QueueMessage) -> bytes:
    if isinstance(value, func.QueueMessage):
        return bytes(value.get_body())
    return value.encode() if isinstance(value, str) else value
