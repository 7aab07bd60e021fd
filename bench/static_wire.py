"""What the two sides of the static server have in common: requests and answers as data, and what is counted."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

JSON: Final = "application/json; charset=utf-8"
_REASONS: Final = {200: "OK", 201: "Created", 204: "No Content", 404: "Not Found", 405: "Method Not Allowed", 411: "Length Required"}


@dataclass(frozen=True)
class Asked:
    """One request, whole or part of a batch: `path` below the host, `query` as it came, header names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    origin: str


@dataclass(frozen=True)
class Answer:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": JSON})

    def head(self) -> str:
        """Return the status line and the headers, each line with its end."""
        first = f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}\r\n"
        return first + "".join(f"{name}: {text}\r\n" for name, text in self.headers.items())


@dataclass
class Counts:
    """What the server saw since the last reset; `written` are the keys of the accounts that are there now."""

    requests: Counter[str] = field(default_factory=Counter)
    read: int = 0
    writes: int = 0
    written: set[str] = field(default_factory=set)

    def note(self, asked: Asked) -> None:
        """Count one HTTP request."""
        self.requests[f"{asked.method} {asked.path.rsplit('/', 1)[-1].partition('(')[0]}"] += 1

    def wrote(self, key: str) -> None:
        """Count one record written; `key` is the Creatio id of the account that it stands for."""
        self.writes += 1
        self.written.add(key)


def page_of(rows: list[bytes], start: int, size: int) -> tuple[list[bytes], int | None]:
    """Return a page of rows and where the next one begins, None after the last."""
    end = start + size
    return rows[start:end], end if end < len(rows) else None


def collection(context: str, rows: list[bytes], **members: str | int | None) -> bytes:
    """Return the JSON of a collection; a member that is None is left out. Texts are plain: links and numbers."""
    parts = [f'"@odata.context":"{context}"'.encode()]
    parts += [f'"@odata.{name}":{shown(member)}'.encode() for name, member in members.items() if member is not None]
    return b"{" + b",".join(parts) + b',"value":[' + b",".join(rows) + b"]}"


def shown(member: str | int) -> str:
    """Return a plain text or number as JSON."""
    return str(member) if isinstance(member, int) else f'"{member}"'
