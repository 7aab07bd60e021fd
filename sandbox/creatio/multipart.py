"""Read and write the multipart form of `$batch` (creatio.md 2.5)."""

import email.parser
import email.policy
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage, Message
from http import HTTPStatus
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.creatio.service import Answer


@dataclass(frozen=True)
class MultipartRequest:
    """Carry one HTTP request found in a multipart body; `id` is its Content-ID, or its number when it has none."""

    id: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    group: str | None


def read_multipart(content_type: str, body: bytes) -> list[MultipartRequest]:
    """Return the requests of a batch in order, those of a change set with a common group; ValueError if malformed."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise ValueError(f"got Content-Type '{content_type}', allowed application/json and multipart/mixed;boundary=...")
    found: list[MultipartRequest] = []
    for part in _children(message):
        if part.get_content_maintype() == "multipart":
            group = str(uuid.uuid4())
            found += [_request(inner, len(found) + n, group) for n, inner in enumerate(_children(part), 1)]
        else:
            found.append(_request(part, len(found) + 1, None))
    return found


def _children(message: Message) -> list[Message]:
    payload = message.get_payload()
    if not isinstance(payload, list):
        raise ValueError("a multipart part holds no parts; check its boundary")
    return [part for part in payload if isinstance(part, EmailMessage)]


def _request(part: Message, number: int, group: str | None) -> MultipartRequest:
    payload = part.get_payload(decode=True)
    if part.get_content_type() != "application/http" or not isinstance(payload, bytes):
        raise ValueError(f"part {number} has Content-Type '{part.get_content_type()}', allowed application/http")
    text = payload.lstrip(b"\r\n")
    separator = b"\r\n\r\n" if b"\r\n\r\n" in text else b"\n\n"
    head, _, body = text.partition(separator)
    lines = head.decode("utf-8").splitlines()
    words = lines[0].split() if lines else []
    if len(words) not in {2, 3}:
        raise ValueError(f"part {number} does not begin with a request line")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    identifier = headers.get("content-id") or part.get("Content-ID") or str(number)
    return MultipartRequest(identifier, words[0].upper(), words[1], headers, body.strip(b"\r\n"), group)


def write_multipart(done: "Sequence[tuple[str, str | None, Answer]]") -> tuple[str, bytes]:
    """Return content type and body of a multipart answer: (id, group, answer) in order."""
    boundary = f"batchresponse_{uuid.uuid4()}"
    pieces: list[bytes] = []
    for group, items in groupby(done, key=lambda item: item[1]):
        if group is None:
            pieces += [_part(boundary, None, answer) for _, _, answer in items]
            continue
        inner = f"changesetresponse_{uuid.uuid4()}"
        members = b"".join(_part(inner, identifier, answer) for identifier, _, answer in items)
        head = f"--{boundary}\r\nContent-Type: multipart/mixed; boundary={inner}\r\n\r\n".encode()
        pieces.append(head + members + f"--{inner}--\r\n".encode())
    body = b"".join(pieces) + f"--{boundary}--\r\n".encode()
    return f"multipart/mixed; boundary={boundary}", body


def _part(boundary: str, identifier: str | None, answer: "Answer") -> bytes:
    lines = [f"--{boundary}", "Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if identifier is not None:
        lines.append(f"Content-ID: {identifier}")
    lines += ["", f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    if identifier is not None:
        lines.append(f"Content-ID: {identifier}")
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    body = answer.body.encode() if isinstance(answer.body, str) else answer.body
    return "\r\n".join([*lines, "", ""]).encode() + body + b"\r\n"
