"""Reads and writes ``multipart/mixed`` as strictly as the platform: every line ends in CRLF (dataverse.md 6.1)."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from sandbox.dataverse import faults
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Reply, service_headers

_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^;\s]+))', re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"(GET|POST|PATCH|PUT|DELETE) (\S|\S[^\r\n]*\S) HTTP/1\.1")
"""The address is what stands between the first blank and the last one: the OData library bears blanks in it."""


@dataclass(frozen=True)
class Part:
    """One part: its own headers (lower case names) and what it carries."""

    headers: Mapping[str, str]
    content: bytes

    @property
    def kind(self) -> str:
        """Return the media type without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class InnerRequest:
    """The HTTP request inside a part."""

    method: str
    target: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes


def unreadable() -> Fault:
    """Build the fault of a body whose lines do not all end in CRLF, or that ends too early."""
    return faults.payload("", "System.ArgumentException: Stream was not readable.")


def boundary_of(content_type: str) -> str:
    """Return the boundary of a multipart content type; raise when there is none."""
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/mixed") or found is None:
        raise Fault(
            400,
            "0x80048d19",
            f"Invalid 'Content-Type' header value '{content_type}': a batch must be multipart/mixed with a boundary.",
        )
    return found[1] or found[2]


def split(data: bytes, boundary: str, *, nested: bool = False) -> list[Part]:
    """Split a body into its parts; a nested one may end without the last CRLF, which belongs to the outer boundary."""
    pieces = (b"\r\n" + data).split(b"\r\n--" + boundary.encode())
    endings = {b"--\r\n", b"--"} if nested else {b"--\r\n"}
    if len(pieces) < 3 or pieces[0].strip(b"\r\n") or pieces[-1] not in endings:
        raise unreadable()
    return [_part(piece) for piece in pieces[1:-1]]


def _part(piece: bytes) -> Part:
    if not piece.startswith(b"\r\n"):
        raise unreadable()
    head, separator, content = piece[2:].partition(b"\r\n\r\n")
    if not separator:
        raise unreadable()
    return Part({name: values[0] for name, values in _headers(head).items()}, content)


def _headers(head: bytes) -> dict[str, tuple[str, ...]]:
    headers: dict[str, tuple[str, ...]] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if not colon or "\n" in line.decode("utf-8", "replace"):
            raise unreadable()
        key = name.strip().lower()
        headers[key] = (*headers.get(key, ()), value.strip())
    return headers


def read_request(part: Part) -> InnerRequest:
    """Read the HTTP request of a part; its head ends in an empty line, which without a body the boundary's own line end may close."""
    if part.kind != "application/http" or part.headers.get("content-transfer-encoding", "").lower() != "binary":
        raise faults.payload("", "Each operation needs 'Content-Type: application/http' and 'Content-Transfer-Encoding: binary'.")
    content = part.content if b"\r\n\r\n" in part.content else part.content + b"\r\n"
    head, separator, body = content.partition(b"\r\n\r\n")
    line, _, rest = head.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or not separator:
        raise unreadable()
    return InnerRequest(match[1].decode(), match[2].decode(), _headers(rest) if rest else {}, body)


def reply_part(reply: Reply, content_id: str | None) -> bytes:
    """Write one reply as a part (without boundary)."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in {**reply.headers, **service_headers()}.items()]
    return "\r\n".join([*lines, "", ""]).encode() + reply.body


def join(parts: Sequence[bytes], prefix: str) -> tuple[str, bytes]:
    """Write parts as one multipart body; returns its content type and the body."""
    boundary = f"{prefix}_{uuid.uuid4()}"
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return f"multipart/mixed; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


def nested_part(parts: Sequence[bytes]) -> bytes:
    """Write the replies of a change set as one nested part."""
    kind, body = join(parts, "changesetresponse")
    return f"Content-Type: {kind}\r\n\r\n".encode() + body
