"""Answer `$batch`, as JSON or multipart (creatio.md 2.5).

The parts run in order; the first failure stops the rest unless the outer request says `Prefer: continue-on-error`.
Parts that did not run are absent from the answer. A group is no transaction unless the setting `batch_atomic` says so.

Chaos inside a batch: `user_edit_in_batch` (`entity`, `values`, optional `id`, `user`; `position` `before_write`
(default), `after_write` or the number of a part) lets another user save between two parts; without `id` it is the row
of the batch's first PATCH on that entity. `part_status` (`status`, `index`) fails one part with nothing done.
`drop_in_batch` (`index`): the connection closes unanswered before that part runs; the parts before it are done.
"""

import contextlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from sandbox.chaos import Rule
from sandbox.control import Counts, Switches
from sandbox.creatio.database import Database
from sandbox.creatio.errors import CreatioError
from sandbox.creatio.multipart import read_multipart, write_multipart
from sandbox.creatio.service import Answer, Call, Service
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import Raw, to_json

UserEdit: TypeAlias = Callable[[str, str, Mapping[str, Any], str | None], Any]


@dataclass(frozen=True)
class Part:
    """Carry one operation of a batch as it was sent; `group` is the client's name of its atomicity group."""

    id: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    group: str | None = None


@dataclass(frozen=True)
class Done:
    """Pair a part with its answer and with the server's name of its group."""

    part: Part
    answer: Answer
    group: str | None


_CONTINUE = re.compile(r"continue-on-error(?!\s*=\s*false)", re.IGNORECASE)


class BatchCut(Exception):  # noqa: N818 - an event, not an error of the stand-in
    """Tell that the connection closes in the middle of a batch."""


class _RolledBack(Exception):  # noqa: N818 - a signal to the transaction around a group
    pass


class Batch:
    """Run the operations of a `$batch` through the service."""

    def __init__(
        self,
        service: Service,
        database: Database,
        switches: Switches[CreatioSettings],
        counts: Counts,
        edit: UserEdit,
    ) -> None:
        self._service = service
        self._database = database
        self._switches = switches
        self._counts = counts
        self._edit = edit

    def answer(self, call: Call) -> Answer:
        """Answer a whole batch."""
        content_type = call.headers.get("content-type", "")
        try:
            is_json = content_type.lower().startswith("application/json")
            parts = _read_json(call.body) if is_json else _from_multipart(content_type, call.body)
            self._check_size(parts)
        except CreatioError as error:
            return self._service.refusal(error)
        done = self._run(call, parts)
        if is_json or "application/json" in call.headers.get("accept", ""):
            return _write_json(done)
        kind, text = write_multipart([(item.part.id, item.group, item.answer) for item in done])
        return Answer(200, {"content-type": kind, "odata-version": "4.0"}, text)

    def _check_size(self, parts: Sequence[Part]) -> None:
        limit = self._switches.current.max_batch_requests
        if len(parts) > limit:
            message = "The current batch message contains too many parts. A maximum number of "
            raise CreatioError(400, f"{message}'{limit}' operations are allowed in a batch message.")

    def _run(self, call: Call, parts: Sequence[Part]) -> list[Done]:
        goes_on = _CONTINUE.search(call.headers.get("prefer", "")) is not None
        names: dict[str, str] = {}
        done: list[Done] = []
        for start, end in _units(parts):
            group = None if parts[start].group is None else names.setdefault(str(parts[start].group), str(uuid.uuid4()))
            unit = self._run_unit(call, parts, start, end, group, goes_on=goes_on)
            done += unit
            if not goes_on and unit[-1].answer.status >= 400:
                break
        return done

    def _run_unit(
        self,
        call: Call,
        parts: Sequence[Part],
        start: int,
        end: int,
        group: str | None,
        *,
        goes_on: bool,
    ) -> list[Done]:
        atomic = group is not None and self._switches.current.batch_atomic
        done: list[Done] = []
        with contextlib.suppress(_RolledBack), self._database.transaction() if atomic else contextlib.nullcontext():
            for index in range(start, end):
                done.append(Done(parts[index], self._run_part(call, parts, index), group))
                if done[-1].answer.status < 400:
                    continue
                if atomic:
                    done = done[-1:]
                    raise _RolledBack
                if not goes_on:
                    break
        return done

    def _run_part(self, call: Call, parts: Sequence[Part], index: int) -> Answer:
        part = parts[index]
        cut = call.troubles.find("drop_in_batch")
        if cut is not None and cut.options.get("index", 0) == index:
            raise BatchCut
        self._counts.part()
        self._let_user_edit(call, parts, index, before=True)
        broken = call.troubles.find("part_status")
        if broken is not None and broken.options.get("index", 0) == index:
            return self._service.refusal(CreatioError(broken.status, f"The part was refused with status {broken.status}."))
        path, query = _relative(part.url, call.root)
        if path.startswith("$batch"):
            return self._service.refusal(CreatioError(400, "A batch can't contain another batch."))
        inner = replace(call, method=part.method, path=path, query=query, headers=part.headers, body=part.body)
        answer = self._service.answer(inner)
        self._let_user_edit(call, parts, index, before=False)
        return answer

    def _let_user_edit(self, call: Call, parts: Sequence[Part], index: int, *, before: bool) -> None:
        rule = call.troubles.find("user_edit_in_batch")
        if rule is None:
            return
        found = _edited_row(rule, parts, call.root)
        if found is None:
            return
        write, row_id = found
        position = rule.options.get("position", "before_write")
        due = {"before_write": (write, True), "after_write": (write, False)}.get(position, (position, True))
        if due == (index, before):
            call.troubles.take("user_edit_in_batch")
            self._edit(rule.options["entity"], row_id, rule.options["values"], rule.options.get("user"))


def _edited_row(rule: Rule, parts: Sequence[Part], root: str) -> tuple[int, str] | None:
    """Return the number of the part before or after which a user edits, and the id of the row he edits."""
    entity, wanted = rule.options["entity"], rule.options.get("id")
    for index, part in enumerate(parts):
        path, _ = _relative(part.url, root)
        name, _, key = path.replace("(", "/").replace(")", "").partition("/")
        if part.method == "PATCH" and name == entity and wanted in {None, key.lower()}:
            return index, key.lower()
    return None if wanted is None else (0, wanted)


def _units(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """Return the bounds of what runs as one: neighbours of one group, or a single part."""
    units: list[tuple[int, int]] = []
    for index, part in enumerate(parts):
        joins = units and part.group is not None and parts[units[-1][0]].group == part.group
        if joins:
            units[-1] = (units[-1][0], index + 1)
        else:
            units.append((index, index + 1))
    return units


def _relative(url: str, root: str) -> tuple[str, str]:
    """Return path and query of a part's address, relative to the service root."""
    parts = urlsplit(url)
    path = parts.path
    root_path = urlsplit(root).path
    if path.startswith(root_path + "/"):
        path = path[len(root_path) :]
    return path.strip("/"), parts.query


def _read_json(body: bytes) -> list[Part]:
    try:
        requests = json.loads(body, parse_float=Decimal)["requests"]
        return [_json_part(raw) for raw in requests]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CreatioError(400, f"The batch can't be read: {type(error).__name__}: {error}") from error


def _json_part(raw: Mapping[str, Any]) -> Part:
    body = raw.get("body")
    return Part(
        str(raw["id"]),
        raw["method"].upper(),
        raw["url"],
        {key.lower(): value for key, value in (raw.get("headers") or {}).items()},
        b"" if body is None else to_json(body).encode("utf-8", "surrogatepass"),  # a column may hold half a pair: its save says no
        raw.get("atomicityGroup"),
    )


def _from_multipart(content_type: str, body: bytes) -> list[Part]:
    try:
        parts = read_multipart(content_type, body)
    except ValueError as error:
        raise CreatioError(400, f"The batch can't be read: {error}") from error
    return [Part(p.id, p.method, p.url, p.headers, p.body, p.group) for p in parts]


def _write_json(done: Sequence[Done]) -> Answer:
    responses = []
    for item in done:
        response: dict[str, Any] = {"id": item.part.id}
        if item.group is not None:
            response["atomicityGroup"] = item.group
        response["status"] = item.answer.status
        response["headers"] = {
            key: "application/json; odata.metadata=minimal" if value.startswith("application/json; odata.m") else value
            for key, value in item.answer.headers.items()
        }
        if item.answer.body and isinstance(item.answer.body, str):
            response["body"] = Raw(item.answer.body) if item.answer.is_json else item.answer.body
        responses.append(response)
    headers = {"content-type": "application/json; odata.metadata=minimal; odata.streaming=true", "odata-version": "4.0"}
    return Answer(200, headers, to_json({"responses": responses}))
