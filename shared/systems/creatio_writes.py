"""One `$batch` of writes, as data: which parts go out, and what their answers mean for each record (design law 8).

Creatio has no ETags, so a batch begins and ends with reads of the rows it touches: the first show what was there just before the
write, the last what is there after it (server rules and defaults included, times as stored: the 201 answer shows other digits).
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shared.core.errors import Rejected, TandemError
from shared.core.records import Row, Write, WriteKind, WriteResult
from shared.systems.creatio_csdl import Model
from shared.systems.creatio_errors import SYSTEM, Answer, Asked, about, error_of, failed, not_visible
from shared.systems.creatio_service import not_executed, rows_of
from shared.systems.creatio_values import write_body
from shared.systems.creatio_wire import (
    MOST_IDS,
    UNSTORABLE,
    Part,
    chunks,
    collection_url,
    ids_filter,
    read_id,
    read_row,
    record_url,
    with_lookups,
)

_LENGTH = re.compile(r"character varying\((\d{1,9})\)")
_BAD_BYTES = re.compile(r"invalid byte sequence|\b22021\b")
ALWAYS = ("Id", "ModifiedOn", "ModifiedById")
"""Columns of every read of rows: who, when, by whom."""


def rows_url(entity: str, ids: Sequence[str], columns: Iterable[str]) -> str:
    """Return the URL that reads up to 15 records with the named columns; the count shows when the server kept some back."""
    return collection_url(entity, select=dict.fromkeys((*ALWAYS, *columns)), where=ids_filter(ids), top=max(len(ids), 1), count=True)


def batches(writes: Sequence[Write], size: int) -> list[list[Write]]:
    """Cut writes into batches of at most `size` in their order; a record stands once in a batch, or its read-back would be wrong."""
    cut: list[list[Write]] = []
    ids: set[str] = set()
    for write in writes:
        if not cut or len(cut[-1]) >= size or write.id.lower() in ids:
            cut.append([])
            ids = set()
        cut[-1].append(write)
        ids.add(write.id.lower())
    return cut


@dataclass(frozen=True)
class _Images:
    """What the reads of one end of a batch showed: rows or errors by id; `asked` are the ids whose read was answered at all."""

    rows: Mapping[str, Row | TandemError]
    asked: frozenset[str]


class WriteBatch:
    """Writes that travel together. Use: `parts`, send them, `results` of the answers."""

    def __init__(self, model: Model, writes: Sequence[Write]) -> None:
        self._model = model
        self._refused: dict[str, TandemError] = {}
        self._sent: list[tuple[Write, Part]] = []
        for write in writes:
            try:
                self._sent.append((write, _write_part(model, write)))
            except TandemError as refused:
                self._refused[write.id] = refused
        named = {name for write, _ in self._sent for name in (*write.values, *(write.seen.values if write.seen else ()), *write.told)}
        self.columns = tuple(sorted(name for name in named if name in model.columns))
        self._before = [write.id.lower() for write, _ in self._sent if write.kind is not WriteKind.CREATE]
        self._after = [write.id.lower() for write, _ in self._sent]
        self._writes = writes

    @property
    def parts(self) -> list[Part]:
        """Return the parts: reads, writes, reads; none when every write was refused here."""
        name = self._model.name
        columns = with_lookups(self.columns, self._model)
        before = [Part("GET", rows_url(name, ids, columns)) for ids in chunks(self._before, MOST_IDS)]
        after = [Part("GET", rows_url(name, ids, columns)) for ids in chunks(self._after, MOST_IDS)]
        return [*before, *(part for _, part in self._sent), *after] if self._sent else []

    def failed(self, error: TandemError) -> list[WriteResult]:
        """Return the results when the whole request failed: nobody knows what was done, and nothing is repeated here."""
        return [
            WriteResult(write.id, error=self._refused.get(write.id) or about(error, self._model.name, write.id)) for write in self._writes
        ]

    def unread(self, answers: Sequence[Answer | None]) -> list[str]:
        """Return the ids whose closing read was not answered (well): they must be read once more."""
        asked = self._images(self._after, self._closing(answers), "").asked
        return [one for one in self._after if one not in asked]

    def contact(self, answers: Sequence[Answer | None]) -> Counter[str]:
        """Return who the server says made the changes, with how sure that is: the integration user's own contact.

        The answer to a create names it for certain (CreatedById = current user: creatio.md 4); a closing read could already show
        somebody else, so it counts for little.
        """
        votes: Counter[str] = Counter()
        for (_, part), answer in zip(self._sent, self._written(answers), strict=True):
            body = answer.body if answer is not None and not failed(answer) and part.method == "POST" else None
            if isinstance(body, Mapping) and isinstance(creator := body.get("CreatedById"), str):
                votes[creator.lower()] += 1000
        patched = {
            write.id.lower()
            for (write, part), answer in zip(self._sent, self._written(answers), strict=True)
            if part.method == "PATCH" and answer is not None and not failed(answer)
        }
        for answer in self._closing(answers):
            rows = answer.body.get("value", ()) if answer is not None and isinstance(answer.body, Mapping) else ()
            for raw in rows if isinstance(rows, list) else ():
                if isinstance(raw, Mapping) and read_id(raw) in patched and isinstance(by := raw.get("ModifiedById"), str):
                    votes[by.lower()] += 1
        return votes

    def results(
        self, answers: Sequence[Answer | None], us: str, reread: Mapping[str, Row | TandemError], unread: Collection[str]
    ) -> list[WriteResult]:
        """Return one result a write; `reread` is what a second look found for the `unread` ids."""
        before = self._images(self._before, self._opening(answers), us)
        after = self._images(self._after, self._closing(answers), us)
        written = {write.id: answer for (write, _), answer in zip(self._sent, self._written(answers), strict=True)}
        results = []
        for write in self._writes:
            if write.id in self._refused:
                results.append(WriteResult(write.id, error=self._refused[write.id]))
                continue
            key = write.id.lower()
            state = reread.get(key) if key in unread else after.rows.get(key)
            result = self._result(write, written[write.id], state)
            results.append(replace(result, before=_differing(before.rows.get(key), write.seen)))
        return results

    def _result(self, write: Write, answer: Answer | None, state: Row | TandemError | None) -> WriteResult:
        name = self._model.name
        asked = Asked(name, write.id, writes=True, part=True, values=tuple(write.values.values()))
        row = state if isinstance(state, Row) else None
        if answer is None:
            return WriteResult(write.id, row, error=not_executed(asked))
        if failed(answer):  # a create may have inserted the row all the same: creatio.md 2.4
            error = _with_field(error_of(answer, asked), write, self._model)
            gone = write.kind is WriteKind.DELETE and error.code == "creatio.not_found" and state is None  # done, by whomever
            return WriteResult(write.id, row, error=None if gone else error)
        if isinstance(state, TandemError):
            return WriteResult(write.id, error=about(state, name, write.id))
        if write.kind is WriteKind.DELETE:
            still = Rejected("creatio.refused", "deleted, but still there", system=SYSTEM, entity=name, record_id=write.id)
            return WriteResult(write.id, row, error=None if row is None else still)
        if row is None:
            return WriteResult(write.id, error=not_visible(name, write.id, "written, but not shown afterwards"))
        return WriteResult(write.id, row)

    def _opening(self, answers: Sequence[Answer | None]) -> Sequence[Answer | None]:
        return answers[: len(chunks(self._before, MOST_IDS))]

    def _written(self, answers: Sequence[Answer | None]) -> Sequence[Answer | None]:
        start = len(chunks(self._before, MOST_IDS))
        return answers[start : start + len(self._sent)]

    def _closing(self, answers: Sequence[Answer | None]) -> Sequence[Answer | None]:
        return answers[len(chunks(self._before, MOST_IDS)) + len(self._sent) :]

    def _images(self, ids: Sequence[str], answers: Sequence[Answer | None], us: str) -> _Images:
        rows: dict[str, Row | TandemError] = {}
        asked: set[str] = set()
        for some, answer in zip(chunks(ids, MOST_IDS), answers, strict=True):
            try:
                page = rows_of(answer, Asked(self._model.name, part=True))
            except TandemError:
                continue
            rows |= parsed_rows(page.rows, self.columns, self._model, us)
            asked |= set(rows) if page.cut_short else set(some)
        return _Images(rows, frozenset(asked))


def parsed_rows(raws: Iterable[Mapping[str, object]], columns: Collection[str], model: Model, us: str) -> dict[str, Row | TandemError]:
    """Read rows by id; a row that can't be understood is its error, one without an id can be nobody's and is left out."""
    rows: dict[str, Row | TandemError] = {}
    for raw in raws:
        record_id = read_id(raw)
        if record_id is None:
            continue
        try:
            rows[record_id] = read_row(raw, columns, model, us)
        except TandemError as problem:
            rows[record_id] = problem
    return rows


def _write_part(model: Model, write: Write) -> Part:
    try:
        url = record_url(model.name, write.id)
    except ValueError as problem:
        raise Rejected("creatio.bad_request", str(problem), system=SYSTEM, entity=model.name, record_id=write.id) from None
    if write.kind is WriteKind.DELETE:
        return Part("DELETE", url)
    body = write_body(model.name, write.id, write.values, model)
    if write.kind is WriteKind.CREATE:
        return Part("POST", model.name, {"Id": write.id.lower(), **body})
    return Part("PATCH", url, body)


def _with_field(error: TandemError, write: Write, model: Model) -> TandemError:
    """Name the column that PostgreSQL does not name: the only text of the write that is too long for its type, or that it can't store."""
    if error.field or not isinstance(error, Rejected):
        return error
    texts = {name: value for name, value in write.values.items() if isinstance(value, str)}
    blamed: list[str] = []
    if error.code == "creatio.too_long" and (length := _LENGTH.search(error.said)):
        blamed = [name for name, text in texts.items() if len(text) > int(length[1])]
    elif _BAD_BYTES.search(error.said):
        blamed = [name for name, text in texts.items() if UNSTORABLE.search(text)]
    if len(blamed) != 1:
        return error
    facts = {"system": SYSTEM, "entity": model.name, "record_id": write.id, "request_id": error.request_id, "field": blamed[0]}
    return Rejected(error.code, error.said, **facts)


def _differing(found: Row | TandemError | None, seen: Row | None) -> Row | None:
    """Return what was there before the write when it is not what the plan was made from."""
    if not isinstance(found, Row):
        return None
    same = seen is not None and all(found.values.get(name) == value for name, value in seen.values.items() if name in found.values)
    return None if same else found
