"""Two servers for the test that nothing is kept: one repeats customers' texts in every error, one keeps all that goes to storage."""

import base64
import json
import re
import ssl
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Final, TypeAlias
from urllib.parse import quote, unquote_plus

import httpx

from sandbox.serve import AsgiApp, Receive, Scope, Send, running

WORD, NUMBER, FOREIGN = "Vjuzkqvmarke", "73019462", "Жучкаё"
"""What stands in every text that a customer typed: a word, digits (for phone numbers), and letters that no ASCII text holds."""
STRAY = "Hbwyzxstray"
"""What stands in messages that nobody can read."""
_ROOTS = (WORD, NUMBER, FOREIGN)
_MESSAGE = re.compile(rb'"(message|Message|ExceptionMessage)":\s*"(?:[^"\\]|\\.)*"')
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{11,}={0,2}")
_REFUSAL = b'{"error": {"code": "", "message": "no"}}'
Look: TypeAlias = Callable[[str, bytes, int, bytes], tuple[int, bytes]]
"""Gets method and address, the body sent, status and body of the answer; returns status and body to answer with."""
_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive"}


FORMS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "plain": str.encode,
    "decomposed": lambda text: unicodedata.normalize("NFD", text).encode(),
    "in capitals": lambda text: text.upper().encode(),
    "UTF-16": lambda text: text.encode("utf-16-le"),
    "percent-encoded": lambda text: quote(text).encode(),
    "percent-encoded twice": lambda text: quote(quote(text)).encode(),
    "JSON": lambda text: json.dumps(text)[1:-1].encode(),
    "JSON within JSON": lambda text: json.dumps(json.dumps(text)).encode()[3:-3],
    "XML": lambda text: text.encode("ascii", "xmlcharrefreplace"),
    "hexadecimal": lambda text: text.encode().hex().encode(),
    "as Python shows bytes": lambda text: repr(text.encode())[2:-1].encode(),
}
"""How a text may be written."""


def leaks(place: str, content: bytes, roots: Sequence[str] = (*_ROOTS, STRAY)) -> list[str]:
    """Return each marker that stands in a text in whatever form, also within Base64, with its surroundings."""
    found = []
    decoded = [_decoded(match[0]) for match in _BASE64.finditer(content)]
    for where, text in ((place, content), (f"{place}, in Base64", b"\n".join(decoded))):
        lowered, raw = text.decode("utf-8", "replace").lower().encode(), text.lower()
        for root in roots:
            for form, kind in _looked_for(root).items():
                hay = raw if kind == "UTF-16" else lowered
                if (at := hay.find(form)) >= 0:
                    found.append(f"{root} ({kind}) in {where}: {hay[max(0, at - 200) : at + 80]!r}")
                    break
    return found


@cache
def _looked_for(root: str) -> Mapping[bytes, str]:
    return {write(text).lower(): kind for kind, write in reversed(FORMS.items()) for text in (root, root.lower(), root.upper())}


def _decoded(token: bytes) -> bytes:
    """Decode what looks like Base64 at each of the four places where it may begin within a longer run of letters."""
    pieces = []
    for start in range(4):
        piece = token[start:].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        piece = piece[: len(piece) - (len(piece) % 4 == 1)]
        pieces.append(base64.b64decode(piece + b"=" * (-len(piece) % 4)))
    return b"\n".join(pieces)


@dataclass
class Tap:
    """Stands before a server, passes everything on, and lets `look` see or change each exchange."""

    target: str
    look: Look
    trust: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as the server behind does."""
        if scope["type"] != "http":
            raise RuntimeError(f"got {scope['type']}, allowed http")
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["raw_path"].decode() + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        kept = [(name, value) for name, value in scope["headers"] if name.decode().lower() not in _HOP | {"accept-encoding"}]
        headers = [*kept, (b"accept-encoding", b"identity"), *([(b"content-length", str(len(body)).encode())] if body else [])]
        async with httpx.AsyncClient(verify=self.trust, trust_env=False, timeout=60.0) as client:
            answer = await client.request(scope["method"], self.target + path, headers=headers, content=body)
        status, content = self.look(f"{scope['method']} {path}", body, answer.status_code, answer.content)
        passed = [(name, value) for name, value in answer.headers.raw if name.decode().lower() not in _HOP]
        length = [] if status in (204, 304) else [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": [*passed, *length]})
        await send({"type": "http.response.body", "body": content})


@dataclass
class Gossip:
    """Puts every text of a request into the error texts of its answer, as servers do: in brackets, in quotes, or just so."""

    told: list[str] = field(default_factory=list)
    """The error texts that were told, each with markers in it."""
    refuses_searches: bool = False
    """Whether a search for a marked text is answered with an error."""

    def __call__(self, request: str, sent: bytes, status: int, answered: bytes) -> tuple[int, bytes]:
        """Return the answer with longer errors."""
        if self._refuses(request):
            return 400, self._tell(_REFUSAL, sent, request)
        return status, self._longer(request, sent, answered)

    def _refuses(self, address: str) -> bool:
        return self.refuses_searches and any(root in unquote_plus(address) for root in _ROOTS)

    def _longer(self, request: str, sent: bytes, answered: bytes) -> bytes:
        if b'"responses"' in answered:
            return self._json_batch(sent, answered)
        asked = re.split(rb"\r\n(?=(?:GET|POST|PATCH|DELETE) \S+ HTTP/1\.1\r\n)", sent)[1:]
        answers = re.split(rb"\r\n(?=HTTP/1\.1 \d+)", answered)
        if not asked or len(answers) != len(asked) + 1:
            return self._tell(answered, sent, request)
        parts = [self._tell(part, ask, ask.split(b"\r\n")[0].decode()) for ask, part in zip(asked, answers[1:], strict=True)]
        return b"\r\n".join([answers[0], *parts])

    def _json_batch(self, sent: bytes, answered: bytes) -> bytes:
        asked = {part["id"]: part for part in json.loads(sent)["requests"]}
        whole = json.loads(answered)
        for part in whole["responses"]:
            if self._refuses(asked.get(part["id"], {}).get("url", "")):
                part |= {"status": 400, "body": json.loads(_REFUSAL)}
            if part["status"] >= 400 and part["id"] in asked:
                ask = asked[part["id"]]
                text = self._tell(json.dumps(part.get("body")).encode(), json.dumps(ask.get("body")).encode(), ask["url"])
                part["body"] = json.loads(text)
        return json.dumps(whole).encode()

    def _tell(self, answered: bytes, sent: bytes, address: str) -> bytes:
        values = [json.loads(f'"{text}"') for text in _TEXT.findall(sent.decode("utf-8", "replace"))]
        values += _LITERAL.findall(unquote_plus(address)) + _TEXT.findall(unquote_plus(address))
        marked = list(dict.fromkeys(value for value in values if any(root.lower() in value.lower() for root in _ROOTS)))
        if not marked or not _MESSAGE.search(answered):
            return answered
        ways = ("key (x)=({}) exists", "value {} is bad", "'{}'?", '"{}"!', "{},")
        first = len(self.told) % len(marked)  # a text is cut, so each value has its turn to stand in front
        text = "; ".join(way.format(value) for value in marked[first:] + marked[:first] for way in ways)
        self.told.append(text)
        return _MESSAGE.sub(lambda found: b'"' + found[1] + b'": ' + json.dumps(text).encode(), answered)


@dataclass
class Keeping:
    """Keeps what goes to storage, whether it stays there or not."""

    written: list[tuple[str, bytes]] = field(default_factory=list)

    def __call__(self, request: str, sent: bytes, status: int, answered: bytes) -> tuple[int, bytes]:
        """Keep a request with its body; the answer stays as it is."""
        self.written.append((request, sent))
        return status, answered


async def between(stack: AsyncExitStack, target: str, look: Look) -> str:
    """Serve a tap before a server for the length of the stack and return its address."""
    app: AsgiApp = Tap(target.rstrip("/"), look)
    return await stack.enter_async_context(running(app))


def all_leaks(places: Iterable[tuple[str, bytes | str]], roots: Sequence[str] = (*_ROOTS, STRAY)) -> list[str]:
    """Return the leaks of many texts."""
    return [leak for place, text in places for leak in leaks(place, text.encode() if isinstance(text, str) else text, roots)]
