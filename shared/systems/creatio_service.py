"""Creatio's OData service as requests and answers: one place that knows the root, the headers and how whole requests fail."""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from shared.core.errors import TandemError, Transient
from shared.systems.creatio_errors import Answer, Asked, about, answer_of, bad_answer, error_of, failed
from shared.systems.creatio_wire import MOST_PARTS, Part, Rows, build_batch, chunks, collection_url, link_url, parse_batch, read_rows
from shared.systems.web import Request, Response, Web

_SERVER_ERROR = 500
_PUBLISH_SECONDS = 300.0
# No IEEE754Compatible on either side: decimals go and come as plain JSON numbers (creatio.md 2.2).
_READ = {"Accept": "application/json"}
_BATCH = {"Accept": "application/json", "Content-Type": "application/json", "Prefer": "continue-on-error"}


def creatio_error(response: Response) -> TandemError:
    """Turn the failed answer to a whole request into an error: the `error` of the `Web` that Creatio is given."""
    return error_of(_answer(response), Asked())


class Service:
    """The OData service below one site; `app_prefix` is `/0` on .NET Framework and empty on .NET (creatio.md 2.1)."""

    def __init__(self, web: Web, app_prefix: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._web = web
        self._monotonic = monotonic
        self._seen: dict[str, float] = {}
        self._root = f"{app_prefix.strip('/')}/odata".lstrip("/")

    async def metadata(self) -> bytes:
        """Return the CSDL document."""
        response = await self._web.send(Request("GET", f"{self._root}/$metadata", {"Accept": "application/xml"}))
        return response.content

    async def rows(self, url: str, entity: str, *, optional: bool = False) -> tuple[Rows, Response]:
        """Return one page of rows by its URL relative to the root, or by a server's link; `optional` as in `Asked`."""
        target = link_url(url, self._root)
        expected = frozenset({_SERVER_ERROR}) if optional else frozenset[int]()
        response = await self._send(Request("GET", target, _READ, expected=expected), entity)
        body = _body(response, Asked(entity, optional=optional))
        try:
            rows = read_rows(body)
        except ValueError as problem:
            raise bad_answer(str(problem), entity, request_id=response.request_id) from None
        self._seen[entity] = self._monotonic()
        return rows, response

    def patient(self, error: TandemError) -> TandemError:
        """Return an error as it stands, except for an object that answered less than five minutes ago: it is Transient.

        While somebody publishes, OData forgets objects for a minute or two (creatio.md 2.1).
        """
        seen = self._seen.get(error.entity)
        if error.code != "creatio.unknown_entity" or seen is None or self._monotonic() - seen >= _PUBLISH_SECONDS:
            return error
        said = "an object that answered a few minutes ago is not known: somebody may be publishing"
        return Transient(
            "creatio.unavailable", said, system="creatio", entity=error.entity, record_id=error.record_id, request_id=error.request_id
        )

    async def all_rows(
        self, entity: str, select: Iterable[str], *, where: str = "", expand: str = "", page_size: int, optional: bool = False
    ) -> AsyncIterator[Any]:
        """Yield all rows of a set in the order of Id, page by page, also where the server cuts pages shorter than asked."""
        names, skip, links, begins = tuple(select), 0, set[str](), set[str]()
        while True:
            url = collection_url(entity, select=names, where=where, expand=expand, order="Id", top=page_size, skip=skip, count=True)
            page, _ = await self.rows(url, entity, optional=optional)
            begin = str(page.rows[0].get("Id")) if page.rows else ""
            if begin in begins:
                raise bad_answer("a page came a second time", entity)
            begins.add(begin)
            while True:
                for row in page.rows:
                    yield row
                skip += len(page.rows)
                if not page.link:
                    break
                if page.link in links:
                    raise bad_answer("a next link came a second time", entity)
                links.add(page.link)
                page, _ = await self.rows(page.link, entity, optional=optional)
            short = len(page.rows) < page_size if page.count is None else skip >= page.count
            if not page.rows or short:
                return

    async def batch(self, parts: Sequence[Part], entity: str, *, repeatable: bool = False) -> list[Answer | None]:
        """Send at most 100 requests as one and return their answers in order; None marks a part that was not executed."""
        request = Request("POST", f"{self._root}/$batch", _BATCH, build_batch(parts), repeatable=repeatable, operations=len(parts))
        response = await self._send(request, entity)
        body = _body(response, Asked(entity))
        try:
            answers = parse_batch(body, len(parts), response.request_id)
        except ValueError as problem:
            raise bad_answer(str(problem), entity, request_id=response.request_id) from None
        if any(answer is not None and not failed(answer) for answer in answers):
            self._seen[entity] = self._monotonic()
        return answers

    async def gets(self, urls: Sequence[str], entity: str) -> list[Answer | None]:
        """Read many URLs, up to 100 in a request."""
        answers: list[Answer | None] = []
        for some in chunks(urls, MOST_PARTS):
            answers += await self.batch([Part("GET", url) for url in some], entity, repeatable=True)
        return answers

    async def _send(self, request: Request, entity: str) -> Response:
        try:
            return await self._web.send(request)
        except TandemError as error:
            raise self.patient(about(error, entity, "")) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._web.close()


def rows_of(answer: Answer | None, asked: Asked) -> Rows:
    """Read the rows that one part of a batch brought; raises the part's error."""
    if answer is None:
        raise not_executed(asked)
    if failed(answer):
        raise error_of(answer, asked)
    try:
        return read_rows(answer.body)
    except ValueError as problem:
        raise bad_answer(str(problem), asked.entity, asked.record_id, answer.request_id) from None


def is_there(answer: Answer | None, entity: str, record_id: str) -> bool | None:
    """Tell whether the answer to a read of one record shows it; False only where it says "not found", None where it says neither."""
    if answer is None or answer.html:
        return None
    if not failed(answer):
        return True
    return False if error_of(answer, Asked(entity, record_id, part=True)).code == "creatio.not_found" else None


def not_executed(asked: Asked) -> Transient:
    """Return the error for a part that the server left out of its answer (creatio.md 2.5)."""
    said = "the server left this part of a batch unanswered: it was not executed"
    return Transient("creatio.unavailable", said, system="creatio", entity=asked.entity, record_id=asked.record_id)


def _answer(response: Response) -> Answer:
    kind = response.headers.get("content-type", "")
    return answer_of(response.status, kind, response.content, response.request_id)


def _body(response: Response, asked: Asked) -> Any:
    body = response.json()
    answer = Answer(response.status, body, request_id=response.request_id)
    if failed(answer):
        raise error_of(answer, asked)
    return body
