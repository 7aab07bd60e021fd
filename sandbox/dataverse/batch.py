"""Runs a ``$batch``: operations in order, change sets atomically, stop on the first failure unless told to go on.

The outer status is the failing operation's status, with the parts that ran (dataverse.md 6.1).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from sandbox.dataverse import multipart
from sandbox.dataverse.addresses import API_ROOT
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Operation, Reply, error_reply
from sandbox.dataverse.multipart import InnerRequest, Part
from sandbox.dataverse.operations import perform
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.values import to_json

MAX_OPERATIONS = 1_000
_REFERENCE = re.compile(r"^/?\$(?P<id>\w+)(?P<rest>.*)$")


class _FailedError(Exception):
    """Carries the reply of an operation that fails its change set."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass
class Batch:
    """One batch request being run; `before_each` is called with the number of operations done so far."""

    organization: Organization
    outer: Operation
    before_each: Callable[[int], Reply | None] = lambda _done: None
    operations: int = 0
    writes: int = 0
    _parts: list[bytes] = field(default_factory=list)

    def run(self) -> Reply:
        """Run the batch and return the multipart reply; raise the fault of a batch that is refused as a whole."""
        boundary = multipart.boundary_of(self.outer.header("content-type") or "")
        try:
            parts = multipart.split(self.outer.body, boundary)
            sets = [self._set(part) for part in parts]
        except Fault as fault:
            return self._reply(400, [multipart.reply_part(error_reply(fault), None)])
        number = sum(len(requests) if isinstance(requests, list) else 1 for requests in sets)
        if number > MAX_OPERATIONS:
            raise Fault(400, "0x80040203", f"The batch holds {number} operations; the maximum is {MAX_OPERATIONS}.")
        go_on = self.outer.preferences().continue_on_error
        for part, requests in zip(parts, sets, strict=True):
            failure = self._run_set(requests) if isinstance(requests, list) else self._run_single(part, requests)
            if failure is not None and not go_on:
                only = self.organization.switches.current.failed_batch_parts == "failing"
                return self._reply(failure.status, self._parts[-1:] if only else self._parts)
        return self._reply(200, self._parts)

    def _reply(self, status: int, parts: list[bytes]) -> Reply:
        kind, body = multipart.join(parts, "batchresponse")
        return Reply(status, {"Content-Type": kind}, body, writes=self.writes)

    def _set(self, part: Part) -> list[tuple[Part, InnerRequest]] | InnerRequest:
        if part.kind != "multipart/mixed":
            return multipart.read_request(part)
        inner = multipart.split(part.content, multipart.boundary_of(part.headers["content-type"]), nested=True)
        return [(item, multipart.read_request(item)) for item in inner]

    def _run_single(self, part: Part, request: InnerRequest) -> Reply | None:
        reply = self._perform(request, {})
        self.writes += reply.writes
        self._parts.append(multipart.reply_part(reply, part.headers.get("content-id")))
        return reply if reply.status >= 400 else None

    def _run_set(self, requests: list[tuple[Part, InnerRequest]]) -> Reply | None:
        """Run a change set; a failed one is answered by one plain part and leaves nothing behind."""
        try:
            with self.organization.database.transaction():
                replies = self._in_order(requests)
        except _FailedError as failed:
            self._parts.append(multipart.reply_part(failed.reply, None))
            return failed.reply
        self.writes += sum(reply.writes for reply, _ in replies)
        self._parts.append(multipart.nested_part([multipart.reply_part(*answered) for answered in replies]))
        return None

    def _in_order(self, requests: list[tuple[Part, InnerRequest]]) -> list[tuple[Reply, str]]:
        references: dict[str, str] = {}
        replies: list[tuple[Reply, str]] = []
        for part, request in requests:
            content_id = part.headers.get("content-id")
            if request.method == "GET" or content_id is None:
                raise _FailedError(error_reply(_misplaced(request, content_id)))
            reply = self._perform(request, references)
            if reply.status >= 400:
                raise _FailedError(reply)
            replies.append((reply, content_id))
            references[content_id] = reply.headers.get("OData-EntityId", "")
        return replies

    def _perform(self, request: InnerRequest, references: dict[str, str]) -> Reply:
        injected = self.before_each(self.operations)
        self.operations += 1
        if injected is not None:
            return injected
        try:
            operation = self._operation(request, references)
        except Fault as fault:
            return error_reply(fault)
        return perform(self.organization, operation, self.organization.switches.current.batch_url_limit)

    def _operation(self, request: InnerRequest, references: dict[str, str]) -> Operation:
        target = _dereferenced(request.target, references)
        if target.startswith("http") and not target.startswith(self.outer.root.partition("/api/")[0]):
            raise Fault(400, "0x80060888", f"The address '{target}' is not one of this organization.")
        path, _, query = API_ROOT.sub("", target).partition("?")
        if path.strip("/") == "$batch":
            raise Fault(400, "0x80060888", "A batch can't hold another batch.")
        body = request.body
        if references or b'"$' in body:
            body = _with_references(body, references)
        return replace(self.outer, method=request.method, path=path, query=query, headers=request.headers, body=body)


def _misplaced(request: InnerRequest, content_id: str | None) -> Fault:
    if request.method == "GET":
        return Fault(400, "0x80060888", "A change set can't hold GET requests.")
    return Fault(400, "0x80060888", f"An operation of a change set needs a Content-ID, got {content_id!r}.")


def _dereferenced(text: str, references: dict[str, str]) -> str:
    match = _REFERENCE.match(text)
    if match is None or text.strip("/").startswith("$batch"):
        return text
    if not references.get(match["id"]):
        raise Fault(400, "0x80060888", f"Content-ID Reference: '${match['id']}' does not exist in the batch context.")
    return references[match["id"]] + match["rest"]


def _with_references(body: bytes, references: dict[str, str]) -> bytes:
    """Put addresses in place of ``$n`` where a body refers to another operation of its change set."""
    try:
        parsed: Any = json.loads(body, parse_float=Decimal)
    except ValueError:
        return body  # the operation itself answers with the fault of its JSON
    if not isinstance(parsed, dict):
        return body
    changed = {
        name: _dereferenced(value, references)
        if isinstance(value, str) and (name.endswith("@odata.bind") or name == "@odata.id")
        else value
        for name, value in parsed.items()
    }
    return to_json(changed).encode()
