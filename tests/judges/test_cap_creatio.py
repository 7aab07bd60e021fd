"""SAP's OData server CAP takes our Creatio adapter's requests: metadata, JSON batches, filters, pages, expansion, errors.

What only Creatio does is not asked for here: its login, its texts for errors, its habit to send no null.
"""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from shared.core.errors import Rejected
from shared.core.records import Change, ColumnType, Row, Value, Write, WriteKind, WriteResult
from shared.systems.creatio import Creatio, creatio_error
from shared.systems.creatio_errors import failed
from shared.systems.creatio_service import Service
from shared.systems.creatio_wire import MOST_PARTS, Part, collection_url, ids_filter
from tests.judges.cap_site import HOSTILE, new_id, open_web

COLUMNS = {
    "Name": ColumnType.TEXT,
    "Notes": ColumnType.TEXT,
    "Code": ColumnType.TEXT,
    "UsrEmployees": ColumnType.INTEGER,
    "UsrAnnualRevenue": ColumnType.DECIMAL,
    "UsrActive": ColumnType.BOOLEAN,
    "UsrLastDay": ColumnType.DATE,
    "UsrLastCampaignOn": ColumnType.DATETIME,
    "TypeId": ColumnType.LOOKUP,
    "Id": ColumnType.ID,
}
MOMENT = datetime(2026, 1, 31, 23, 59, 58, tzinfo=UTC)


@pytest.fixture
async def creatio(cap) -> AsyncIterator[Creatio]:
    """Open our adapter on CAP's service with Creatio's names; pages are smaller than CAP's limit."""
    made = Creatio(open_web("creatio", cap, creatio_error), page_size=15)
    yield made
    await made.close()


@pytest.fixture
async def service(cap) -> AsyncIterator[Service]:
    """Open the layer below the adapter: requests and answers."""
    made = Service(open_web("creatio", cap, creatio_error), "/0")
    yield made
    await made.close()


async def write(creatio: Creatio, *writes: Write, entity: str = "Account") -> list[Row | None]:
    """Write and expect success; return the rows as the closing reads found them."""
    results = await creatio.write(entity, writes)
    assert [result.error for result in results] == [None] * len(writes)
    return [result.row for result in results]


async def create(creatio: Creatio, entity: str = "Account", **values: Value) -> str:
    """Create a record and return its id."""
    record_id = new_id()
    await write(creatio, Write(WriteKind.CREATE, record_id, values), entity=entity)
    return record_id


async def one(creatio: Creatio, write: Write) -> WriteResult:
    """Write one account, whatever comes of it."""
    (result,) = await creatio.write("Account", [write])
    return result


async def test_its_metadata_are_understood(creatio) -> None:
    """Types, lengths, scales and lookups come from CAP's CSDL; a name that isn't there is missing."""
    entity = await creatio.describe("Account", [*COLUMNS, "Nothing"], [])
    assert {name: column.type for name, column in entity.columns.items()} == COLUMNS
    assert entity.missing == ("Nothing",)
    assert (entity.columns["Name"].max_length, entity.columns["Notes"].max_length) == (250, None)
    assert entity.columns["UsrAnnualRevenue"].scale == 2
    assert entity.columns["TypeId"].targets == ("AccountType",)


async def test_values_of_every_type_make_the_round_trip(creatio) -> None:
    """What is written by a JSON batch is what the batch's own closing read, and a later read, bring back."""
    type_id = await create(creatio, "AccountType", Name="Kunde")
    values: dict[str, Value] = {
        "Name": "Über GmbH",
        "Notes": "x" * 20_000,
        "UsrEmployees": -7,
        "UsrAnnualRevenue": Decimal("9999999999999.25"),
        "UsrActive": True,
        "UsrLastDay": date(2026, 1, 31),
        "UsrLastCampaignOn": MOMENT,
        "TypeId": type_id,
    }
    record_id = new_id()
    (row,) = await write(creatio, Write(WriteKind.CREATE, record_id, values))
    assert (row.id, row.values) == (record_id, values)
    read = (await creatio.read("Account", [record_id], list(values)))[record_id]
    assert (read.values, read.stamp) == (values, row.stamp)


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_texts_are_written_and_found(creatio, text) -> None:
    """A text with quotes, percent signs, plus, ampersand, umlauts comes back as it is, and a filter with it finds its record only."""
    code = new_id()[:8]
    wanted = await create(creatio, Name=text, Code=code)
    await create(creatio, Name="another", Code=code)
    hits = await creatio.find("Account", [{"Name": text, "Code": code}], ["Name"])
    assert [[(row.id, row.values["Name"]) for row in rows] for rows in hits] == [[(wanted, text)]]


KEYS: dict[str, tuple[Value, Value]] = {
    "UsrEmployees": (5, 6),
    "UsrAnnualRevenue": (Decimal("12.50"), Decimal("12.51")),
    "UsrActive": (True, False),
    "UsrLastDay": (date(2026, 2, 28), date(2026, 3, 1)),
    "UsrLastCampaignOn": (MOMENT, MOMENT.replace(second=59)),
    "Notes": ("11111111-2222-3333-4444-555555555555", "11111111-2222-3333-4444-555555555556"),
}


@pytest.mark.parametrize("column", KEYS)
async def test_filters_of_every_type(creatio, column) -> None:
    """Literals of numbers, days, times, yes and no, and of a text that looks like a guid, are understood and find the right record."""
    code = new_id()[:8]
    right, wrong = KEYS[column]
    wanted = await create(creatio, Code=code, **{column: right})
    await create(creatio, Code=code, **{column: wrong})
    ((row,),) = await creatio.find("Account", [{column: right, "Code": code}], [column])
    assert (row.id, row.values[column]) == (wanted, right)


async def test_a_lookup_is_compared_through_its_navigation(creatio) -> None:
    """`Type/Id eq guid` finds the accounts of that type."""
    types = [await create(creatio, "AccountType", Name=name) for name in ("A", "B")]
    accounts = [await create(creatio, Name="A", TypeId=one) for one in types]
    hits = await creatio.find("Account", [{"TypeId": one} for one in types], ["TypeId"])
    assert [[row.id for row in rows] for rows in hits] == [[account] for account in accounts]


async def test_many_keys_share_filters(creatio) -> None:
    """Forty keys, each with hits of its own, go out as or-chains and come back sorted by key."""
    prefix = new_id()[:8]
    codes = [f"{prefix} {number} & O'Brian" for number in range(40)]
    ids = {code: await create(creatio, Code=code) for code in codes[::4]}
    hits = await creatio.find("Account", [{"Code": code} for code in codes], ["Code"])
    assert [[row.id for row in rows] for rows in hits] == [[ids[code]] if code in ids else [] for code in codes]


async def test_reads_by_id(creatio) -> None:
    """Fifty ids are read by or-chains in one batch; ids that nobody has are absent, and each is answered by itself as not there."""
    ids = [new_id() for _ in range(50)]
    await write(creatio, *(Write(WriteKind.CREATE, record_id, {"Name": record_id[:4]}) for record_id in ids[:45]))
    rows = await creatio.read("Account", ids, ["Name"])
    assert {record_id: row.values["Name"] for record_id, row in rows.items()} == {one: one[:4] for one in ids[:45]}
    assert await creatio.exist("Account", ids[44:46]) == {ids[44]: True, ids[45]: False}


async def test_an_update_changes_what_it_names(creatio) -> None:
    """The other columns stay, empty values empty a column, and the opening read shows what was there before."""
    type_id = await create(creatio, "AccountType", Name="Kunde")
    record_id = await create(creatio, Name="A", Code="1", UsrLastDay=date(2026, 1, 31), TypeId=type_id)
    result = await one(creatio, Write(WriteKind.UPDATE, record_id, {"Name": "B", "UsrLastDay": None, "TypeId": None}))
    assert result.error is None
    assert result.before.values == {"Name": "A", "UsrLastDay": date(2026, 1, 31), "TypeId": type_id}
    assert result.row.values == {"Name": "B", "UsrLastDay": None, "TypeId": None}
    read = (await creatio.read("Account", [record_id], ["Code"]))[record_id]
    assert read.values == {"Code": "1"}
    assert read.stamp.time >= result.before.stamp.time


async def test_deletes(creatio) -> None:
    """A record is gone after its delete, and the delete of one that is gone is no error."""
    record_id = await create(creatio, Name="A")
    assert await write(creatio, Write(WriteKind.DELETE, record_id, {})) == [None]
    assert await write(creatio, Write(WriteKind.DELETE, record_id, {})) == [None]
    assert await creatio.read("Account", [record_id], ["Name"]) == {}


async def test_one_bad_record_stops_no_other(creatio) -> None:
    """A double, a text that is too long and a record that is gone are errors of their own; the rest of the batch is done."""
    there, gone, good, long = await create(creatio, Name="A"), new_id(), new_id(), new_id()
    marker = "a secret of a customer " * 20
    results = await creatio.write(
        "Account",
        [
            Write(WriteKind.CREATE, there, {"Name": "double"}),
            Write(WriteKind.UPDATE, gone, {"Name": "B"}),
            Write(WriteKind.CREATE, long, {"Name": marker}),
            Write(WriteKind.CREATE, good, {"Name": "C"}),
        ],
    )
    codes = [result.error.code if result.error else None for result in results]
    assert codes == ["creatio.duplicate", "creatio.not_found", "creatio.bad_request", None]
    assert "secret" not in str(results[2].error)
    rows = await creatio.read("Account", [there, gone, long, good], ["Name"])
    assert {record_id: row.values["Name"] for record_id, row in rows.items()} == {there: "A", good: "C"}


async def test_an_object_that_is_not_there(creatio, service) -> None:
    """The metadata don't have it, and a request for it is refused as unknown."""
    with pytest.raises(Rejected) as caught:
        await creatio.read("Nothing", [new_id()], ["Name"])
    assert caught.value.code == "creatio.unknown_entity"
    with pytest.raises(Rejected) as caught:
        await service.rows("Nothing?$top=1", "Nothing")
    assert caught.value.code == "creatio.unknown_entity"


async def walk(creatio: Creatio, position: str | None, since: datetime | None = None) -> tuple[list[Change], list[int], str]:
    """Read a chain of changes to its end: the changes, the size of each page, the position to go on from."""
    changes: list[Change] = []
    sizes: list[int] = []
    last = ""
    async for page in creatio.changes("Contact", ["Name"], position, since):
        changes += page.changes
        sizes.append(len(page.changes))
        last = page.position
    return changes, sizes, last


async def test_the_change_feed(creatio) -> None:
    """Pages cut by time, by count and by CAP's own next links bring each record once; a quiet poll brings none, an edit its record."""
    ids = [new_id() for _ in range(70)]
    await write(creatio, *(Write(WriteKind.CREATE, record_id, {"Name": "A"}) for record_id in ids), entity="Contact")
    changes, sizes, position = await walk(creatio, None)
    assert sorted(change.id for change in changes) == sorted(ids)
    assert len(sizes) >= 4
    changes, _, same = await walk(creatio, position)
    assert (changes, same) == ([], position)
    await write(creatio, Write(WriteKind.UPDATE, ids[3], {"Name": "B"}), entity="Contact")
    changes, _, after = await walk(creatio, position)
    assert [change.id for change in changes] == [ids[3]]
    assert (await walk(creatio, after))[0] == []


async def rows_of(service: Service, ids: list[str], **options: Any) -> list[Any]:
    """Read all of some accounts, page by page."""
    return [row async for row in service.all_rows("Account", ["Id", "Name"], where=ids_filter(ids), **options)]


async def test_skip_top_count_and_next_links(creatio, service) -> None:
    """All rows of a filter come once, in order, where our pages are smaller than the server's and where the server cuts ours."""
    ids = sorted(new_id() for _ in range(45))
    await write(creatio, *(Write(WriteKind.CREATE, record_id, {"Name": "A"}) for record_id in ids))
    for page_size in (7, 500):
        assert [row["Id"] for row in await rows_of(service, ids, page_size=page_size)] == ids


async def test_a_page_and_its_next_link(creatio, service) -> None:
    """`$top` and `$count` are obeyed; a page that the server cuts short has a link, which brings the rows after it."""
    await write(creatio, *(Write(WriteKind.CREATE, new_id(), {"Name": "A"}) for _ in range(45)))
    page, response = await service.rows(collection_url("Account", select=["Id"], order="Id", top=3, count=True), "Account")
    assert (len(page.rows), page.cut_short) == (3, True)
    assert page.count is not None
    assert page.count >= 45
    assert response.server_time is not None
    page, _ = await service.rows(collection_url("Account", select=["Id"], order="Id", top=40), "Account")
    assert (len(page.rows), page.count) == (20, None)
    after, _ = await service.rows(page.link, "Account")
    assert [len(after.rows), after.link] == [20, ""]
    ids = [row["Id"] for row in (*page.rows, *after.rows)]
    assert ids == sorted(set(ids))


async def test_expansion(creatio, service) -> None:
    """A navigation property is expanded with chosen columns, and is null where the lookup is empty."""
    contact_id = await create(creatio, "Contact", Name="Sato", Email="sato@example.com")
    ids = sorted([await create(creatio, Name="A", PrimaryContactId=contact_id), await create(creatio, Name="B")])
    rows = await rows_of(service, ids, expand="PrimaryContact($select=Id,Email)", page_size=10)
    assert {row["Name"]: row["PrimaryContact"] for row in rows} == {"A": {"Id": contact_id, "Email": "sato@example.com"}, "B": None}


async def test_answers_of_a_batch_are_in_the_order_of_its_parts(creatio, service) -> None:
    """A hundred parts, good and bad ones mixed, are answered each by itself."""
    record_id = await create(creatio, Name="A")
    urls = [f"Account({record_id if place % 3 else new_id()})?$select=Id" for place in range(MOST_PARTS)]
    answers = await service.batch([Part("GET", url) for url in urls], "Account")
    assert [failed(answer) for answer in answers] == [place % 3 == 0 for place in range(MOST_PARTS)]
