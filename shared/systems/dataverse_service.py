"""Dataverse's Web API as requests and answers: one place that knows headers, long addresses, batches and how whole requests fail."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from shared.core.errors import Denied, Rejected, Stale, TandemError, Transient
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_errors import SYSTEM, request_error
from shared.systems.dataverse_tables import Table
from shared.systems.odata import Part, PartAnswer, batch_body, parse_batch
from shared.systems.web import Request, Response, Web

FAILED = 300
_LONGEST_URL = 32_000  # of 32,768 for a GET; a longer one travels inside a batch (dataverse.md 3)
_REFUSALS = frozenset({400, 403, 404, 405, 409, 412, 413, 500, 501})
"""Statuses of a whole request that the sender of a batch or a bulk message looks at itself."""


class Service:
    """The Web API of one environment."""

    def __init__(self, web: Web, new_boundary: Callable[[], str] = lambda: f"batch_{uuid.uuid4().hex}") -> None:
        self._web = web
        self._new_boundary = new_boundary

    @property
    def path(self) -> str:
        """Return the path of the API, as the parts of a batch need it."""
        return self._web.path

    def pause(self, seconds: float) -> None:
        """Stop all sending for a while: an answer inside a batch asked for it."""
        self._web.pace.pause(seconds)

    async def json(self, url: str, prefer: str = "") -> Any:
        """Read an address and return its JSON body."""
        response = await self.get(url, prefer)
        return response.json()

    async def definitions(self, url: str) -> Any:
        """Read metadata past the server's caches, which lag by half a minute behind a customisation (dataverse.md 2)."""
        response = await self._web.send(Request("GET", url, {**wire.HEADERS, "Consistency": "Strong"}))
        return response.json()

    async def get(self, url: str, prefer: str = "") -> Response:
        """Read an address, or a link of the server as it came; one that is too long for a GET travels in a batch."""
        headers = {**wire.HEADERS, **({"Prefer": prefer} if prefer else {})}
        if len(url) <= _LONGEST_URL:
            return await self._web.send(Request("GET", url, headers))
        part = Part("GET", url if "://" in url else f"{self._web.path}/{url}", headers)
        answers = await self.batch([(part,)], repeatable=True)
        if not answers or not answers[0]:
            raise bad_answer("", "the batch came back without its only part")
        answer = answers[0][0]
        response = Response(SYSTEM, answer.status, httpx.Headers(dict(answer.headers)), answer.content, asked=url)
        if answer.status >= FAILED:
            raise request_error(response)
        return response

    async def post(self, url: str, body: str, operations: int) -> Response:
        """Send a JSON body and return the answer, a refusal too; it is never sent twice once it may have run."""
        headers = {**wire.HEADERS, "Content-Type": "application/json"}
        return await self._web.send(Request("POST", url, headers, body.encode(), operations=operations, expected=_REFUSALS))

    async def batch(self, groups: Sequence[Sequence[Part]], *, repeatable: bool = False) -> list[list[PartAnswer]]:
        """Send operations as one `$batch` with continue-on-error; groups of several are change sets. Missing answers are missing lists."""
        boundary = self._new_boundary()
        headers = {
            **wire.HEADERS,
            "Content-Type": f'multipart/mixed; boundary="{boundary}"',
            "Prefer": "odata.continue-on-error",
        }
        content = batch_body(groups, boundary)
        operations = sum(len(group) for group in groups)
        request = Request("POST", "$batch", headers, content, repeatable, operations, expected=_REFUSALS)
        response = await self._web.send(request)
        try:
            answers = parse_batch(response.content, response.headers.get("content-type", ""))
        except ValueError as problem:
            if response.status >= FAILED:  # refused as a whole, with plain JSON (dataverse.md 6.1)
                raise request_error(response) from None
            said = f"a batch reply: {problem}"
            raise Transient(f"{SYSTEM}.not_json", said, system=SYSTEM, request_id=response.request_id) from None
        if response.status >= FAILED and len(answers) == 1 < len(groups):
            # The batch stopped, and some servers show the failing part only (dataverse.md 14): nobody knows which operation it was.
            raise bad_answer("", "a batch that stopped in spite of continue-on-error, with the answer to one of its operations")
        return answers


def members(body: Any, entity: str) -> list[Mapping[str, Any]]:
    """Return the rows of an answer; raises Transient `bad_answer` for one of another shape."""
    rows = body.get("value") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise bad_answer(entity, "an answer without a list of rows in `value`")
    return rows


def single(body: Any, table: Table) -> Mapping[str, Any]:
    """Return the row that an answer is; raises Transient `bad_answer` for one of another shape."""
    if not isinstance(body, dict):
        raise bad_answer(table.definition.name, "a row that is no object")
    return body


def is_throttle(error: TandemError) -> bool:
    """Tell whether the account has to wait before anything else is sent."""
    return error.code == f"{SYSTEM}.throttled"


def for_record(error: TandemError, entity: str, record_id: str) -> TandemError:
    """Return the error of a whole request as that of one of its records."""
    facts = {"system": SYSTEM, "entity": entity, "record_id": record_id, "request_id": error.request_id, "field": error.field}
    if isinstance(error, Transient):
        return Transient(error.code, error.said, retry_after=error.retry_after, **facts)
    kind = next((group for group in (Denied, Stale, Rejected) if isinstance(error, group)), TandemError)
    return kind(error.code, error.said, **facts)


def bad_answer(entity: str, said: str, record_id: str = "") -> Transient:
    """Return the error for an answer that lacks what Tandem needs."""
    return Transient(f"{SYSTEM}.bad_answer", said, system=SYSTEM, entity=entity, record_id=record_id)
