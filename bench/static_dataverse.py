"""The Dataverse side of the static server: rows rendered once, a change feed, searches by id, single, batched and bulk writes.

Facts: dataverse.md 3 to 6. It is quick, not clever: `$select` is not looked at (a row is sent with all columns of the mapping), and a
search by anything but ids finds nothing, as in a target that is empty.
"""

import json
import re
import uuid
from typing import Any, Final
from urllib.parse import unquote

from bench.accounts import changed_at, creatio_accounts, desk, first_since, tables
from bench.peers.mapping import map_account
from bench.static_wire import Answer, Asked, Counts, collection, page_of
from shared.core.records import ColumnType, Side
from shared.systems.odata import time_text, to_json

ROOT: Final = "/api/data/v9.2"
US: Final = "b0000000-0000-4000-8000-00000000000b"
ORGANISATION: Final = "a0000000-0000-4000-8000-00000000000a"
SOURCE_SET: Final = "bench_accounts"
"""The accounts of the Creatio side as a table of Dataverse, for a client that can read nothing else."""
PAGE: Final = 1_000
_NEW_IDS: Final = uuid.UUID("5b1c7d0e-7a3f-5b0c-9d57-0c5a3f1e2d4b")
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SIZE: Final = re.compile(r"odata\.maxpagesize=(\d+)")
_BOUND: Final = re.compile(r"createdon (ge|lt) ([0-9T:.\-]+)Z")
_TOKEN: Final = re.compile(r"\$skiptoken=(\d+)_(\d+)")
_MARKS: Final = "$select=accountid,createdon&"
_BOUNDARY: Final = re.compile(r'boundary="?([^";,\s]+)"?')
_NOT_FOUND: Final = b'{"error":{"code":"0x80040217","message":"The record does not exist"}}'


def _empty() -> dict[str, Any]:
    """Return the columns of an account that names nothing, under the names by which they are read."""
    columns = desk().context.entities[Side.DYNAMICS].columns
    names = desk().columns(Side.DYNAMICS)
    read = [f"_{name}_value" if columns[name].type is ColumnType.LOOKUP else name for name in names]
    return {**dict.fromkeys(read), "statecode": 0, "merged": False, "_masterid_value": None, "_modifiedby_value": US}


_EMPTY: Final = _empty()


class DataverseSide:
    """Accounts of one environment."""

    def __init__(self, counts: Counts, records: int, source: list[bytes]) -> None:
        """Render so many accounts; `source` are the rows of the Creatio side."""
        self._counts = counts
        self._source = source
        self._bodies: dict[str, dict[str, Any]] = {}
        self._versions = 0
        self._rows = [self._rendered(number, row) for number, row in enumerate(creatio_accounts(records))]
        self._marks = [self._mark(number, row) for number, row in enumerate(creatio_accounts(records))]
        self._by_id = dict(zip((_new_id(row["Id"]) for row in creatio_accounts(records)), self._rows, strict=True))

    def _rendered(self, number: int, row: dict[str, Any]) -> bytes:
        body = map_account(json.loads(to_json(row)), tables())
        del body["tandem_creatioid"]  # Creatio does not know it yet
        return self._row(_new_id(row["Id"]), body, time_text(changed_at(number)))

    def _mark(self, number: int, row: dict[str, Any]) -> bytes:
        moment = time_text(changed_at(number))
        return json.dumps({"@odata.etag": f'W/"{number}"', "accountid": _new_id(row["Id"]), "createdon": moment}).encode()

    def answer(self, asked: Asked) -> Answer | None:
        """Answer a request; None for what is not about accounts."""
        below = asked.path.removeprefix(ROOT).lstrip("/")
        if below == "$batch":
            return self._batch(asked)
        if below == "WhoAmI":
            return Answer(body=json.dumps({"UserId": US, "BusinessUnitId": US, "OrganizationId": ORGANISATION}).encode())
        if below == SOURCE_SET:
            return self._listed(asked, self._source, SOURCE_SET)
        if below.partition("(")[0].partition("/")[0] != "accounts":
            return None
        if asked.method == "GET":
            return self._read(asked, below)
        return self._written(asked, below)

    def different(self) -> int:
        """Return how many accounts of the source are not here, or not as the mapping makes them."""
        here = {str(body.get("tandem_creatioid")): body for body in self._bodies.values()}
        wrong = 0
        for text in self._source:
            row = json.loads(text)
            body = {name: value for name, value in here.get(row["Id"], {}).items() if name not in ("@odata.type", "accountid")}
            wrong += body != map_account(row, tables())
        return wrong

    def _read(self, asked: Asked, below: str) -> Answer:
        query = unquote(asked.query)
        if below != "accounts":
            row = self._found(_key(below))
            return Answer(body=row) if row else Answer(404, _NOT_FOUND)
        if "PropertyName='accountid'" in query:
            rows = [row for one in _ID.findall(query) if (row := self._found(one))]
            self._counts.read += len(rows)
            return Answer(body=collection(f"{asked.origin}{ROOT}/$metadata#accounts", rows))
        if "$filter=" in query and "createdon " not in query:
            return Answer(body=collection(f"{asked.origin}{ROOT}/$metadata#accounts", []))
        return self._listed(asked, self._rows, "accounts")

    def _listed(self, asked: Asked, rows: list[bytes], name: str) -> Answer:
        """Return a page; a chain with change tracking ends in a delta link, which has nothing to tell."""
        query, prefer = unquote(asked.query), asked.headers.get("prefer", "")
        url, context = f"{asked.origin}{ROOT}/{name}", f"{asked.origin}{ROOT}/$metadata#{name}"
        if "$deltatoken=" in query:
            return Answer(body=collection(context, [], deltaLink=f"{url}?$deltatoken=1"))
        tracked = "odata.track-changes" in prefer or "track=1" in query
        bounds = {kind: first_since(text) for kind, text in _BOUND.findall(query)}
        token, size = _TOKEN.search(query), _SIZE.search(prefer)
        start, end = (int(token.group(1)), int(token.group(2))) if token else (bounds.get("ge", 0), bounds.get("lt", len(rows)))
        marks = _MARKS in f"{query}&"
        page, following = page_of((self._marks if marks else rows)[:end], start, int(size.group(1)) if size else PAGE)
        self._counts.read += 0 if marks else len(page)
        if following is not None:
            more = f"{'&track=1' if tracked else ''}{'&' + _MARKS if marks else ''}"
            return Answer(body=collection(context, page, nextLink=f"{url}?$skiptoken={following}_{end}{more}"))
        return Answer(body=collection(context, page, deltaLink=f"{url}?$deltatoken=1" if tracked else None))

    def _written(self, asked: Asked, below: str) -> Answer:
        if asked.method == "DELETE":
            return Answer(405, b"{}")
        body = json.loads(asked.body)
        if below.endswith("Multiple"):
            ids = [self._save(None, target) for target in body["Targets"]]
            if below.endswith("CreateMultiple"):
                context = f"{asked.origin}{ROOT}/$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse"
                return Answer(body=json.dumps({"@odata.context": context, "Ids": ids}).encode())
            return Answer(204)
        key = _key(below) if asked.method == "PATCH" else None
        if key is not None and self._found(key) is None:
            return Answer(404, _NOT_FOUND)
        one = self._save(key, body)
        if "return=representation" in asked.headers.get("prefer", ""):
            return Answer(201 if key is None else 200, self._found(one) or b"")
        return Answer(204, headers={"OData-EntityId": f"{asked.origin}{ROOT}/accounts({one})"})

    def _save(self, key: str | None, body: dict[str, Any]) -> str:
        """Keep a row, which is rendered when it is read; return its id."""
        source = str(body.get("tandem_creatioid") or "")
        one = key or str(body.get("accountid") or _new_id(source)).lower()
        before = self._bodies.get(one) or json.loads(self._by_id.get(one, b"{}"))
        self._bodies[one] = {**before, **body}
        self._counts.wrote(source or str(before.get("tandem_creatioid") or one))
        return one

    def _found(self, key: str) -> bytes | None:
        if key in self._bodies:
            return self._row(key, self._bodies[key], "2024-06-01T12:00:00Z")
        return self._by_id.get(key)

    def _row(self, key: str, body: dict[str, Any], moment: str) -> bytes:
        self._versions += 1
        row = {"@odata.etag": f'W/"{self._versions}"', **_EMPTY, "accountid": key, "createdon": moment, "modifiedon": moment}
        for name, value in body.items():
            if name.endswith("@odata.bind"):
                row[f"_{name.removesuffix('@odata.bind')}_value"] = _key(value) if value else None
            elif not name.startswith("@") and name not in ("createdon", "modifiedon"):
                row[name] = value
        return json.dumps(row, ensure_ascii=False).encode()

    def _batch(self, asked: Asked) -> Answer:
        boundary = _BOUNDARY.search(asked.headers["content-type"])
        parts = self._parts(asked, boundary.group(1) if boundary else "", asked.body)
        return Answer(body=_joined(parts, "batchresponse_1"), headers={"Content-Type": "multipart/mixed; boundary=batchresponse_1"})

    def _parts(self, asked: Asked, boundary: str, body: bytes) -> list[bytes]:
        answers = []
        for number, piece in enumerate(body.split(b"--" + boundary.encode())[1:-1]):
            head, _, rest = piece.lstrip(b"\r\n").partition(b"\r\n\r\n")
            inner = _BOUNDARY.search(head.decode())
            if inner:
                name = f"changesetresponse_{number}"
                whole = _joined(self._parts(asked, inner.group(1), rest), name)
                answers.append(f"Content-Type: multipart/mixed; boundary={name}\r\n\r\n".encode() + whole)
                continue
            answer = self.answer(_request(asked.origin, rest)) or Answer(404, _NOT_FOUND)
            message = answer.head().encode() + b"\r\n" + answer.body
            answers.append(b"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" + message)
        return answers


def _request(origin: str, message: bytes) -> Asked:
    """Read one operation of a batch."""
    head, _, body = message.partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    method, url, _ = line.split(" ")
    path, _, query = url.partition("?")
    headers = {name.lower(): text.strip() for name, _, text in (one.partition(":") for one in rest)}
    return Asked(method, path, query, headers, body.rstrip(b"\r\n"), origin)


def _joined(parts: list[bytes], boundary: str) -> bytes:
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


def _new_id(source: str) -> str:
    return str(uuid.uuid5(_NEW_IDS, source))


def _key(text: str) -> str:
    found = _ID.search(text.lower())
    return found.group() if found else ""
