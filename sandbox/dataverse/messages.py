"""Operations and replies: one HTTP request, or one part of a batch, and what the server says to it."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sandbox.dataverse import faults
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.queries import Preferences, read_preferences
from sandbox.dataverse.reads import Staleness
from sandbox.dataverse.values import to_json
from sandbox.dataverse.writes import Normalisation

JSON_TYPE = "application/json; odata.metadata=minimal"
_HELP = "http://go.microsoft.com/fwlink/?LinkID=398563&error=Microsoft.Crm.CrmException%3a"


@dataclass(frozen=True)
class Operation:
    """One operation: `path` is percent-encoded and below the API root, `query` is raw, header names are lower case.

    `root` is the absolute API address of the caller's view, `user_id` the calling user.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    root: str
    user_id: str
    staleness: Staleness | None = None
    normalisation: Normalisation | None = None
    repeated_delta: bool = False

    def header(self, name: str) -> str | None:
        """Return a header's (first) value, None when absent."""
        return next(iter(self.headers.get(name, ())), None)

    def preferences(self) -> Preferences:
        """Read the ``Prefer`` headers."""
        return read_preferences(self.headers.get("prefer", ()))

    def json(self, entity_set: str) -> dict[str, Any]:
        """Parse the body as a JSON object, numbers with a point as Decimal; raise the payload fault otherwise."""
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Fault(415, "0x0", f"The content type '{kind}' is not supported; send application/json.")
        try:
            parsed = json.loads(self.body, parse_float=Decimal)
        except ValueError as error:
            raise faults.payload(entity_set, f"Microsoft.OData.ODataException: Invalid JSON. {error}") from error
        if not isinstance(parsed, dict):
            raise faults.payload(entity_set, "Microsoft.OData.ODataException: A JSON object was expected.")
        return parsed


@dataclass(frozen=True)
class Reply:
    """What is answered; `writes` counts the rows created, updated or deleted by it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    writes: int = 0


def json_reply(body: Any, preferences: Preferences, *, status: int = 200, reading: bool = True) -> Reply:
    """Build a JSON reply, with the preferences that were applied."""
    headers = {"Content-Type": JSON_TYPE} | _applied(preferences, reading=reading)
    return Reply(status, headers, to_json(body).encode())


def _applied(preferences: Preferences, *, reading: bool) -> dict[str, str]:
    applied = preferences.applied(reading=reading)
    return {"Preference-Applied": ",".join(applied)} if applied else {}


def error_body(fault: Fault, preferences: Preferences | None = None) -> bytes:
    """Write an error in the platform's shape, with details when all annotations were asked for (dataverse.md 8)."""
    error = {"code": fault.code, "message": fault.message}
    if preferences is not None and "*" in preferences.annotations:
        code = fault.code.removeprefix("0x")
        error |= {
            "@Microsoft.PowerApps.CDS.ErrorDetails.HttpStatusCode": str(fault.status),
            "@Microsoft.PowerApps.CDS.HelpLink": f"{_HELP}{code}&client=platform",
            "@Microsoft.PowerApps.CDS.TraceText": "",
            "@Microsoft.PowerApps.CDS.InnerError.Message": fault.message,
        }
    return to_json({"error": error}).encode()


def error_reply(fault: Fault, operation: Operation | None = None) -> Reply:
    """Build the reply of a fault."""
    try:
        preferences = operation.preferences() if operation else None
    except Fault:
        preferences = None
    return Reply(fault.status, {"Content-Type": JSON_TYPE, **fault.headers}, error_body(fault, preferences))


def service_headers() -> dict[str, str]:
    """Make the headers that every reply, and every part of a batch, carries (dataverse.md 2)."""
    request_id = str(uuid.uuid4())
    return {"OData-Version": "4.0", "x-ms-service-request-id": request_id, "REQ_ID": request_id}
