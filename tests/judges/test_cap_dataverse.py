"""SAP's OData server CAP takes what we build for Dataverse: multipart batches with change sets, filters, ETags, bindings, errors.

What only Dataverse does is not asked for: functions such as `In`, change tracking, annotations. Three things are bridged here, for
both sides are within the standard, or Dataverse's documented way beside it: CAP reads a boundary without quotes only (RFC 2046 allows
both), answers a batch in JSON when `Accept` says JSON (new in OData 4.01), and wants addresses in a batch relative to its service.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from shared.core.errors import Rejected, Stale, TandemError
from shared.core.records import Column, ColumnType, Row, Value, Write, WriteKind
from shared.systems import dataverse_wire as wire
from shared.systems.dataverse_errors import part_error, request_error
from shared.systems.dataverse_tables import Attribute, Definition, Table
from shared.systems.odata import Part, PartAnswer, batch_body, literal, parse_batch, parse_json
from shared.systems.web import Request, Web
from tests.judges.cap_site import HOSTILE, new_id, open_web

PATH = "/api/data/v9.2"
MOMENT = datetime(2026, 1, 31, 23, 59, 58, tzinfo=UTC)


def attribute(name: str, type_: ColumnType, kind: str, target: str = "") -> tuple[str, Attribute]:
    """Make a column as its metadata would."""
    return name, Attribute(Column(name, type_, targets=(target,) if target else ()), name, kind, {target: name} if target else {})


ACCOUNTS = Table(
    Definition("account", "accounts", "accountid", tracked=True),
    {},
    dict(
        [
            attribute("name", ColumnType.TEXT, "string"),
            attribute("fax", ColumnType.TEXT, "string"),
            attribute("numberofemployees", ColumnType.INTEGER, "integer"),
            attribute("revenue", ColumnType.DECIMAL, "money"),
            attribute("creditonhold", ColumnType.BOOLEAN, "boolean"),
            attribute("industrycode", ColumnType.CHOICE, "picklist"),
            attribute("lastonholdtime", ColumnType.DATETIME, "datetime"),
            attribute("primarycontactid", ColumnType.LOOKUP, "lookup", "contact"),
        ]
    ),
)
CONTACTS = Table(
    Definition("contact", "contacts", "contactid", tracked=True),
    {},
    dict([attribute("lastname", ColumnType.TEXT, "string"), attribute("birthdate", ColumnType.DATE, "datetime")]),
)
TARGETS = wire.Targets({"contact": "contacts"}, {})


class Cap:
    """CAP's service with Dataverse's names."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def batch(self, *groups: Sequence[Part], go_on: bool = True) -> list[list[PartAnswer]]:
        """Send a batch as our adapter does, but for the three bridges."""
        content = re.sub(rb'boundary="([^"]+)"', rb"boundary=\1", batch_body(groups, "batch_tandem"))
        headers = {**wire.HEADERS, "Accept": "multipart/mixed", "Content-Type": "multipart/mixed; boundary=batch_tandem"}
        answer = self._http.post("/$batch", content=content, headers=headers | ({"Prefer": "odata.continue-on-error"} if go_on else {}))
        assert answer.status_code == 200, answer.text
        return parse_batch(answer.content, answer.headers["content-type"])

    def send(self, write: Write, table: Table = ACCOUNTS) -> PartAnswer:
        """Send one write and return its answer."""
        ((answer,),) = self.batch(parts(write, table))
        return answer

    def written(self, write: Write, table: Table = ACCOUNTS) -> Row:
        """Send one write, expect success, and read the row that it brought back."""
        answer = self.send(write, table)
        assert answer.status in (200, 201), answer.content
        return wire.row_of(parse_json(answer.content), table, wire.read_columns(write, table), "")

    def create(self, table: Table = ACCOUNTS, **values: Value) -> str:
        """Create a row and return its id."""
        return self.written(Write(WriteKind.CREATE, new_id(), values), table).id

    def exists(self, *ids: str) -> list[bool]:
        """Ask for each account by itself."""
        return [answer.status == 200 for (answer,) in self.batch(*([wire.exists_part(ACCOUNTS, one, "")] for one in ids))]

    def find(self, *keys: Mapping[str, Value]) -> list[Row]:
        """Find accounts by keys of several columns."""
        names = tuple(keys[0])
        answer = self._http.get("/" + wire.by_keys(ACCOUNTS, names, keys), headers=wire.HEADERS)
        assert answer.status_code == 200, answer.text
        return [wire.row_of(raw, ACCOUNTS, names, "") for raw in parse_json(answer.content)["value"]]


def parts(write: Write, table: Table = ACCOUNTS) -> tuple[Part, ...]:
    """Build the operations of a write."""
    return wire.write_parts(write, table, TARGETS, "")


def error_of(write: Write, answer: PartAnswer) -> TandemError:
    """Judge a failed answer as our adapter does."""
    return part_error(answer.status, answer.headers, answer.content, wire.about(write, ACCOUNTS))


@pytest.fixture
def server(cap) -> Iterator[Cap]:
    """Open CAP's service with Dataverse's names."""
    with httpx.Client(base_url=cap + PATH, trust_env=False) as http:
        yield Cap(http)


@pytest.fixture
async def web(cap) -> AsyncIterator[Web]:
    """Open our transport on it."""
    made = open_web("dataverse", cap + PATH, request_error)
    yield made
    await made.close()


def test_values_of_every_type_make_the_round_trip(server) -> None:
    """What a POST with its representation brings back is what was sent, a lookup bound by address included."""
    contact_id = server.create(CONTACTS, lastname="Krüger", birthdate=date(1970, 2, 1))
    values: dict[str, Value] = {
        "name": "Über GmbH",
        "numberofemployees": -7,
        "revenue": Decimal("99999999999.1234"),
        "creditonhold": False,
        "industrycode": 3,
        "lastonholdtime": MOMENT,
        "primarycontactid": contact_id,
    }
    row = server.written(Write(WriteKind.CREATE, new_id(), values))
    assert row.values == values
    assert row.stamp.version.startswith('W/"')


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_written_and_found(server, text) -> None:
    """A text with quotes, percent signs, plus, ampersand, umlauts comes back as it is, and a filter with it finds its row only."""
    fax = new_id()[:8]
    wanted = server.create(name=text, fax=fax)
    server.create(name="another", fax=fax)
    assert [(row.id, row.values["name"]) for row in server.find({"name": text, "fax": fax})] == [(wanted, text)]


KEYS: dict[str, tuple[Value, Value]] = {
    "numberofemployees": (5, 6),
    "revenue": (Decimal("12.50"), Decimal("12.51")),
    "creditonhold": (True, False),
    "industrycode": (3, 4),
    "lastonholdtime": (MOMENT, MOMENT.replace(second=59)),
    "name": ("11111111-2222-3333-4444-555555555555", None),
}


@pytest.mark.parametrize("column", KEYS)
def test_filters_of_every_type(server, column) -> None:
    """Literals of numbers, times, yes and no, null, and of a text that looks like a guid, are understood and find the right row."""
    fax = new_id()[:8]
    right, wrong = KEYS[column]
    wanted = server.create(fax=fax, **{column: right})
    other = server.create(fax=fax, **({column: wrong} if wrong is not None else {}))
    assert [row.id for row in server.find({column: right, "fax": fax})] == [wanted]
    assert [row.id for row in server.find({column: wrong, "fax": fax})] == [other]


def test_many_keys_are_one_query(server) -> None:
    """Twenty pairs of values are an or-chain of ands, and only rows that fit a pair come."""
    fax = new_id()[:8]
    ids = [server.create(name=f"{number} & O'Brian", fax=fax, numberofemployees=number) for number in range(15)]
    keys = [{"name": f"{number} & O'Brian", "numberofemployees": number, "fax": fax} for number in range(5, 25)]
    assert sorted(row.id for row in server.find(*keys)) == sorted(ids[5:])


def test_a_lookup_is_bound_and_emptied(server) -> None:
    """A lookup is set by the address of its target, found by its id, and emptied by null."""
    contact_id, fax = server.create(CONTACTS, lastname="Sato"), new_id()[:8]
    account_id = server.create(name="A", fax=fax)
    row = server.written(Write(WriteKind.UPDATE, account_id, {"primarycontactid": contact_id}))
    assert row.values == {"primarycontactid": contact_id}
    assert [found.id for found in server.find({"primarycontactid": contact_id, "fax": fax})] == [account_id]
    row = server.written(Write(WriteKind.UPDATE, account_id, {"primarycontactid": None}))
    assert row.values == {"primarycontactid": None}


def test_an_update_carries_the_version_it_was_planned_on(server) -> None:
    """The right version is taken and a new one comes back; an old one is 412, which means to plan again, and changes nothing."""
    seen = server.written(Write(WriteKind.CREATE, new_id(), {"name": "A", "fax": "1"}))
    row = server.written(Write(WriteKind.UPDATE, seen.id, {"name": "B"}, seen))
    assert row.values == {"name": "B", "fax": "1"}
    assert row.stamp.version != seen.stamp.version
    for late in (Write(WriteKind.UPDATE, seen.id, {"name": "C"}, seen), Write(WriteKind.DELETE, seen.id, {}, seen)):
        answer = server.send(late)
        assert answer.status == 412
        assert isinstance(error_of(late, answer), Stale)
    assert server.written(Write(WriteKind.UPDATE, seen.id, {"fax": "2"}, row)).values == {"name": "B", "fax": "2"}


def test_an_update_never_makes_a_row(server) -> None:
    """`If-Match: *` on a row that is gone is an error of that row, though a PATCH alone would make it anew."""
    write = Write(WriteKind.UPDATE, new_id(), {"name": "A"})
    answer = server.send(write)
    assert (answer.status, error_of(write, answer).code) == (404, "dataverse.not_found")
    assert server.exists(write.id) == [False]


def test_deletes(server) -> None:
    """A row is gone after its delete; a second one is told that it is not there."""
    row_id = server.create(name="A")
    write = Write(WriteKind.DELETE, row_id, {})
    assert server.send(write).status == 204
    assert server.exists(row_id) == [False]
    answer = server.send(write)
    assert (answer.status, error_of(write, answer).code) == (404, "dataverse.not_found")


def creates(*names: str) -> tuple[list[str], list[Part]]:
    """Build creates, one for each name; return the ids and the operations."""
    ids = [new_id() for _ in names]
    return ids, [part for row_id, name in zip(ids, names, strict=True) for part in parts(Write(WriteKind.CREATE, row_id, {"name": name}))]


def test_a_change_set_is_all_or_nothing(server) -> None:
    """Of a change set with a bad operation nothing stays, its answer is one, and the groups around it keep their places."""
    (before,), first = creates("before")
    inside, spoiled = creates("inside", "x" * 161)
    (after,), last = creates("after")
    whole, good = creates("one", "two")
    answers = server.batch(first, spoiled, last, good)
    assert [[answer.status for answer in group] for group in answers] == [[201], [400], [201], [201, 201]]
    assert server.exists(before, *inside, after, *whole) == [True, False, False, True, True, True]


def test_without_continue_on_error_a_batch_stops(server) -> None:
    """Groups behind a failure are neither done nor answered."""
    (before,), first = creates("before")
    _, spoiled = creates("x" * 161)
    (after,), last = creates("after")
    answers = server.batch(first, spoiled, last, go_on=False)
    assert [[answer.status for answer in group] for group in answers] == [[201], [400]]
    assert server.exists(before, after) == [True, False]


def test_a_refusal_quotes_no_value(server) -> None:
    """CAP's error text repeats the value that was too long; ours must not."""
    write = Write(WriteKind.CREATE, new_id(), {"name": "a secret of a customer " * 10})
    answer = server.send(write)
    assert b"secret" in answer.content
    error = error_of(write, answer)
    assert isinstance(error, Rejected)
    assert "secret" not in str(error)


def test_a_create_never_overwrites(server) -> None:
    """The same id a second time is an error of that record, and the row stays as it was."""
    row = server.written(Write(WriteKind.CREATE, new_id(), {"name": "A"}))
    write = Write(WriteKind.CREATE, row.id, {"name": "B"})
    error = error_of(write, server.send(write))
    assert error.record_id == row.id
    assert server.written(Write(WriteKind.UPDATE, row.id, {"fax": "1"}, row)).values == {"fax": "1", "name": "A"}


async def test_pages_are_followed(server, web) -> None:
    """Rows of a filter come once, in order, over the server's own next links, with their number."""
    fax = new_id()[:8]
    _, operations = creates(*(f"{number:02}" for number in range(45)))
    server.batch(*([part] for part in operations))
    server.batch(*(parts(Write(WriteKind.UPDATE, re.search(r'"accountid":"([^"]+)"', part.body)[1], {"fax": fax})) for part in operations))
    where = f"$filter=fax%20eq%20{literal(fax, as_text=True)}"
    url: Any = f"accounts?{wire.select(ACCOUNTS, ('name',))}&{where}&$orderby=name%20desc,accountid&$count=true"
    names, pages, counts = [], 0, set()
    while url:
        body = (await web.send(Request("GET", url, wire.HEADERS))).json()
        names += [wire.row_of(raw, ACCOUNTS, ("name",), "").values["name"] for raw in body["value"]]
        counts.add(body.get("@odata.count", 45))
        url, pages = body.get("@odata.nextLink"), pages + 1
    assert names == [f"{number:02}" for number in reversed(range(45))]
    assert (pages, counts) == (3, {45})


async def test_what_a_whole_request_is_refused_for(web) -> None:
    """A column and a set that don't exist are refusals that last, not outages."""
    for url in ("accounts?$select=nothing", "nothings?$top=1", "accounts?$filter=name%20eq", f"accounts({new_id()})"):
        with pytest.raises(Rejected):
            await web.send(Request("GET", url, wire.HEADERS))
