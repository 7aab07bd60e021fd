"""The Creatio side of the static server: rows rendered once, searches by id, writes by JSON batch or one by one (creatio.md 2.3 to 2.5).

It is quick, not clever: `$select` is not looked at (a row is sent with all columns of the mapping, or with id and time where only these
are asked for), and a search by anything but ids or time finds nothing, as in a target that is empty.
"""

import json
import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

from bench.accounts import creatio_accounts, first_since
from bench.static_wire import Answer, Asked, Counts, collection, page_of
from shared.systems.odata import to_json

ROOT: Final = "/0/odata"
INTEGRATION: Final = "4d21891b-93f2-5608-b104-93714d3be012"
"""Contact of the integration user, under whose name everything is written."""
PAGE: Final = 1_000
"""Rows a page where the client names no size; every client is given the same."""
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BOUND: Final = re.compile(r"(?:ModifiedOn|CreatedOn) (ge|lt) ([0-9T:.\-]+)Z")
_MARKS: Final = ("ModifiedOn", "CreatedOn")
_OPTION: Final = re.compile(r"[?&]?\$(\w+)=([^&]*)")
_CONTEXT: Final = f"http://localhost{ROOT}/$metadata#Account"


class CreatioSide:
    """Accounts of one Creatio site."""

    def __init__(self, counts: Counts, records: int) -> None:
        """Render so many accounts."""
        self._counts = counts
        rows = list(creatio_accounts(records))
        self._rows = [to_json(row).encode() for row in rows]
        self._marks = {f"Id,{one}": [to_json({"Id": row["Id"], one: row[one]}).encode() for row in rows] for one in _MARKS}
        self._by_id: dict[str, bytes] = {row["Id"]: text for row, text in zip(rows, self._rows, strict=True)}

    @property
    def rows(self) -> list[bytes]:
        """Return the rendered accounts."""
        return self._rows

    def answer(self, asked: Asked) -> Answer | None:
        """Answer a request; None for what is not about accounts."""
        below = asked.path.removeprefix(f"{ROOT}/")
        if below == "$batch":
            return self._batch(asked)
        if below.partition("(")[0] != "Account":
            return None
        return self._one(asked.method, below, asked.query, asked.origin, json.loads(asked.body) if asked.body else None)

    def _one(self, method: str, path: str, query: str, origin: str, body: Any) -> Answer:
        if method == "GET" and path == "Account":
            return Answer(body=self._page(dict(_OPTION.findall(unquote(query))), origin))
        if method == "GET":
            row = self._by_id.get(_key(path))
            return Answer(body=row) if row else Answer(404, b'{"error":{"code":"","message":"not found"}}')
        if method == "POST":
            return Answer(201, self._save(body["Id"].lower(), body))
        if method == "PATCH" and _key(path) in self._by_id:
            self._save(_key(path), {**json.loads(self._by_id[_key(path)]), **body})
            return Answer(204)
        return Answer(404, b'{"error":{"code":"","message":"not found"}}')

    def _page(self, options: dict[str, str], origin: str) -> bytes:
        where = options.get("filter", "")
        if "Id eq " in where:
            rows = [self._by_id[one] for one in _ID.findall(where) if one in self._by_id]
            self._counts.read += len(rows)
            return collection(_CONTEXT, rows, count=len(rows))
        bounds = {kind: first_since(text) for kind, text in _BOUND.findall(where)}
        if where and not bounds:
            return collection(_CONTEXT, [], count=0)
        begin, end = min(bounds.get("ge", 0), len(self._rows)), min(bounds.get("lt", len(self._rows)), len(self._rows))
        marks = self._marks.get(options.get("select", ""))
        start = begin + int(options.get("skip") or options.get("skiptoken") or 0)
        rows, following = page_of((marks or self._rows)[:end], start, int(options.get("top") or PAGE))
        self._counts.read += 0 if marks else len(rows)
        if "top" in options:  # the client pages itself
            return collection(_CONTEXT, rows, count=max(end - begin, 0))
        link = None if following is None else f"{origin}{ROOT}/Account?$skiptoken={following}"
        return collection(_CONTEXT, rows, nextLink=link)

    def _save(self, key: str, body: dict[str, Any]) -> bytes:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        row = {**_EMPTY, "CreatedById": INTEGRATION, **body, "Id": key, "ModifiedOn": moment, "ModifiedById": INTEGRATION}
        self._by_id[key] = text = json.dumps(row, ensure_ascii=False).encode()
        self._counts.wrote(key)
        return text

    def _batch(self, asked: Asked) -> Answer:
        answers = []
        for part in json.loads(asked.body)["requests"]:
            path, _, query = part["url"].partition("?")
            answer = self._one(part["method"], path, query, asked.origin, part.get("body"))
            head = f'{{"id":"{part["id"]}","status":{answer.status},"headers":{{"content-type":"application/json"}}'
            answers.append(head.encode() + (b',"body":' + answer.body if answer.body else b"") + b"}")
        return Answer(body=b'{"responses":[' + b",".join(answers) + b"]}")


_EMPTY: Final[dict[str, Any]] = (
    {
        name: False if isinstance(value, bool) else 0 if not isinstance(value, str) else ""
        for name, value in next(creatio_accounts(1)).items()
    }
    | {name: "00000000-0000-0000-0000-000000000000" for name in next(creatio_accounts(1)) if name.endswith("Id")}
    | {
        "UsrLastCampaignOn": "0001-01-01T00:00:00Z",
        "CreatedOn": "2024-01-08T09:00:00Z",
    }
)
"""What the server shows where a new row names nothing (creatio.md 2.2)."""


def _key(path: str) -> str:
    found = _ID.search(path.lower())
    return found.group() if found else ""
