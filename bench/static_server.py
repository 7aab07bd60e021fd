"""A quick server for the comparison: the same rows, pages and answers for every client, counted, and late when that is wanted.

It runs in a process of its own: `python -m bench.static_server` prints one JSON line with its two addresses and ends when its standard
input does. The accounts of one side are there from the beginning (`source`), the other side is empty and takes what is written.

    POST /_bench/reset   {"source": "creatio" or "dynamics", "records": 1000, "latency": 0.2}
    GET  /_bench/counts  its own seconds of processor time, requests by name, rows read and written, accounts that are there now, and how
                         many of them are wrong
"""

import asyncio
import json
import ssl
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import trustme

from bench.static_creatio import CreatioSide
from bench.static_dataverse import DataverseSide
from bench.static_metadata import StandInMetadata
from bench.static_wire import Answer, Asked, Counts


class Site:
    """What is behind the addresses, from one reset to the next."""

    def __init__(self) -> None:
        """Begin without accounts."""
        self._metadata = StandInMetadata()
        self.reset("creatio", 0, 0.0)

    def reset(self, source: str, records: int, latency: float) -> None:
        """Begin anew: so many accounts on one side, none on the other; `latency` in seconds for each answer."""
        self.counts, self.latency = Counts(), latency
        self._creatio = CreatioSide(self.counts, records if source == "creatio" else 0)
        self._dataverse = DataverseSide(self.counts, records if source == "dynamics" else 0, self._creatio.rows)
        self._begun = time.process_time()

    def quick(self, asked: Asked) -> Answer | None:
        """Answer at once; None for what the stand-ins must be asked for."""
        if asked.path.startswith("/_bench/"):
            return self._control(asked)
        self.counts.note(asked)
        return self._creatio.answer(asked) or self._dataverse.answer(asked)

    async def slow(self, asked: Asked) -> Answer:
        """Answer from what the stand-ins say."""
        return await self._metadata.answer(asked)

    def _control(self, asked: Asked) -> Answer:
        if asked.path == "/_bench/reset":
            wanted = json.loads(asked.body)
            self.reset(wanted["source"], wanted["records"], wanted["latency"])
            return Answer(204)
        counts = self.counts
        shown: dict[str, Any] = {
            "processor": time.process_time() - self._begun,
            "requests": dict(counts.requests),
            "read": counts.read,
            "writes": counts.writes,
            "written": len(counts.written),
            "different": self._dataverse.different(),
        }
        return Answer(body=json.dumps(shown).encode())


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, as every client here sends them."""

    def __init__(self, site: Site, scheme: str) -> None:
        """Answer from a site."""
        self._site, self._scheme = site, scheme
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._head: tuple[Asked, int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport if isinstance(transport, asyncio.Transport) else None

    def data_received(self, data: bytes) -> None:
        """Take bytes, and answer each request that is complete."""
        self._buffer += data
        while (asked := self._next()) is not None:
            answer = self._site.quick(asked)
            if answer is not None:
                self._send(answer)
            else:
                task = asyncio.ensure_future(self._answer_slowly(asked))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _next(self) -> Asked | None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._head = self._read_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        asked, length = self._head
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        return Asked(asked.method, asked.path, asked.query, asked.headers, body, asked.origin)

    def _read_head(self, head: bytes) -> tuple[Asked, int]:
        line, *rest = head.decode("latin-1").split("\r\n")
        method, url, _ = line.split(" ")
        headers = {name.lower(): text.strip() for name, _, text in (one.partition(":") for one in rest)}
        if "transfer-encoding" in headers:
            raise ValueError("got a chunked body, allowed one with its length")
        path, _, query = url.partition("?")
        origin = f"{self._scheme}://{headers.get('host', '')}"
        return Asked(method, path, query, headers, b"", origin), int(headers.get("content-length", 0))

    async def _answer_slowly(self, asked: Asked) -> None:
        self._send(await self._site.slow(asked))

    def _send(self, answer: Answer) -> None:
        length = f"Date: {formatdate(time.time(), usegmt=True)}\r\nContent-Length: {len(answer.body)}\r\nOData-Version: 4.0\r\n\r\n"
        text = (answer.head() + length).encode() + answer.body
        if self._site.latency:
            asyncio.get_running_loop().call_later(self._site.latency, self._write, text)
        else:
            self._write(text)

    def _write(self, text: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(text)


async def listen(site: Site, secure: ssl.SSLContext | None = None) -> tuple[asyncio.Server, int]:
    """Serve a site on a free port of this machine, which is returned too."""
    scheme = "http" if secure is None else "https"
    server = await asyncio.get_running_loop().create_server(lambda: Connection(site, scheme), "127.0.0.1", 0, ssl=secure)
    return server, int(server.sockets[0].getsockname()[1])


async def serve(certificate: Path) -> None:
    """Serve over HTTP and HTTPS until the standard input ends; the authority that HTTPS needs is written to `certificate`."""
    authority, site = trustme.CA(), Site()
    authority.cert_pem.write_to_path(str(certificate))
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(secure)
    (plain, port), (sealed, sealed_port) = await listen(site), await listen(site, secure)
    print(json.dumps({"http": f"http://127.0.0.1:{port}", "https": f"https://localhost:{sealed_port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    plain.close()
    sealed.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
