"""Turn every failure of the storage clients into an error of Tandem; nothing of azure leaves this package."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from azure.core.exceptions import AzureError, HttpResponseError

from shared.core.errors import Stale, TandemError, Transient

STORAGE_FAULTS = (AzureError, aiohttp.ClientError, OSError, http.client.HTTPException)
"""What the clients raise: errors of their own, of their transport, of sockets and timeouts (an OSError), and of the multipart reader."""

_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_REFUSED = frozenset({401, 403})


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Raise TandemError in place of a storage fault; `what` names the step and the row for people."""
    try:
        yield
    except STORAGE_FAULTS as fault:
        raise to_tandem(fault, what) from fault


def to_tandem(fault: Exception, what: str) -> TandemError:
    """Map a fault: 404, 409 and 412 mean the row moved, a refused request means a fault of ours, all else passes by itself."""
    status = getattr(fault, "status_code", None)
    code = error_code(fault)
    request_id = _header(fault, "x-ms-request-id")
    if status in (404, 409, 412) and not code.endswith(("BeingDeleted", "BeingCreated", "BeingDisabled")):
        return Stale("ledger.changed_meanwhile", what, request_id=request_id)
    if status in _REFUSED:
        advice = "give the app's identity the roles Storage Table Data Contributor and Storage Queue Data Contributor"
        return Transient("ledger.busy", f"{what}: {status} {code}; {advice}", request_id=request_id)
    if isinstance(status, int) and 400 <= status < 500 and status not in _BUSY and status != 409:  # noqa: PLR2004 - HTTP
        return TandemError("sync.internal", f"{what}: storage refused the request with {status} {code}", request_id=request_id)
    kind = f"{status} {code}".strip() if status else type(fault).__name__
    return Transient("ledger.busy", f"{what}: {kind}", retry_after=_seconds(_header(fault, "retry-after")), request_id=request_id)


def error_code(fault: Exception) -> str:
    """Return the service's error code, "" when it named none."""
    code = getattr(fault, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _header(fault: Exception, name: str) -> str:
    response = fault.response if isinstance(fault, HttpResponseError) else None
    headers = getattr(response, "headers", None)
    return str(headers.get(name) or "") if headers is not None else ""


def _seconds(text: str) -> float | None:
    return float(text) if text.isdecimal() else None
