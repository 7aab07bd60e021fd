"""Ranges of a Creatio object and their pages as a state machine, against a model of the server that is edited between any two pages."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.errors import Rejected, Transient
from shared.core.records import KeyRange, RangeBy
from shared.systems.creatio_ranges import Cutter, Place, Walk, cutting_walk, reading_walk
from shared.systems.creatio_wire import Rows

START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
STEP = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)


@dataclass
class Server:
    """Rows by id with their CreatedOn in ticks of 0.1 microseconds; `cap` is the most it shows at once."""

    cap: int
    counts: bool = True
    links: bool = False
    digits: int = 7
    rows: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def get(self, url: str) -> Rows:
        """Answer a page as the query asks for it."""
        self.asked += 1
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        words = query["$filter"].split(" ")
        assert (words[0], words[1], words[3], words[4], words[5]) == ("CreatedOn", "ge", "and", "CreatedOn", "lt")
        assert query["$orderby"] == "CreatedOn,Id"
        first, end = (ticks(datetime.fromisoformat(word)) for word in (words[2], words[6]))
        met = sorted((tick, one) for one, tick in self.rows.items() if first <= tick < end)[int(query.get("$skip", 0)) :]
        page = met[: min(int(query["$top"]), self.cap)]
        link = "more" if self.links and len(page) == self.cap < len(met) else ""
        raw = [{"Id": one, "CreatedOn": shown(tick, self.digits)} for tick, one in page]
        return Rows(raw, len(met) + int(query.get("$skip", 0)) if self.counts else None, link)

    def fill(self, seconds: list[int], odd: int = 0) -> None:
        """Insert a row for each second, numbered from 1; `odd` spreads the last digit of a tick that only seven digits show."""
        for number, second in enumerate(seconds, start=1):
            self.rows[name(number)] = ticks(START + second * SECOND) + (number * odd) % 10


def ticks(moment: datetime) -> int:
    """Return a time in ticks."""
    return (moment - START) // STEP * 10


def shown(tick: int, digits: int) -> str:
    """Return a tick as the wire shows it."""
    text = (START + tick // 10 * STEP).isoformat(timespec="microseconds")[:26]
    return f"{text}{tick % 10}Z" if digits == 7 else f"{text}Z"


def name(number: int) -> str:
    """Return the id of a row; neighbours in number are none in order."""
    return str(uuid.UUID(int=number * 7919 % 10007))


def whole() -> KeyRange:
    """Return a range over three seconds, whose last microsecond holds rows."""
    return KeyRange(RangeBy.CREATED, START, START + 3 * SECOND, 0)


DISTURBANCE = st.one_of(
    st.tuples(st.just("delete"), st.integers(1, 30)),
    st.tuples(st.just("move"), st.integers(1, 30)),
    st.tuples(st.just("insert"), st.integers(0, 4)),
    st.tuples(st.just("nothing"), st.just(0)),
)


def disturb(server: Server, step: tuple[str, int], touched: set[str]) -> None:
    """Carry out what somebody does between two pages; remember which rows it concerned."""
    kind, number = step
    if kind == "insert":
        one = str(uuid.UUID(int=20_000 + len(touched) * 13 % 997))
        server.rows[one] = ticks(START + number * SECOND)
        touched.add(one)
    elif name(number) in server.rows and kind != "nothing":
        touched.add(name(number))
        if kind == "delete":
            del server.rows[name(number)]
        else:
            server.rows[name(number)] = ticks(START + 9 * SECOND)


@settings(max_examples=600, deadline=None)
@given(
    seconds=st.lists(st.integers(0, 3), max_size=30),
    steps=st.lists(DISTURBANCE, max_size=30),
    size=st.integers(1, 12),
    cap=st.integers(2, 15),
    counts=st.booleans(),
    links=st.booleans(),
    odd=st.sampled_from([0, 3]),
    digits=st.sampled_from([6, 7]),
)
def test_no_row_that_stays_is_passed_over(seconds, steps, size, cap, counts, links, odd, digits) -> None:
    """Whatever is deleted, moved or inserted between two pages, each read by another process: every other row of the range is read."""
    server = Server(cap, counts, links, digits)
    server.fill(seconds, odd)
    expected, touched, left = set(server.rows), set[str](), list(steps)
    seen: list[str] = []
    position: str | None = None
    for _ in range(500):
        walk, rows = reading_walk("Account", whole(), position, (), size), None
        while rows is None:
            rows = walk.take(server.get(walk.url))
        assert len(rows) <= size
        seen += [raw["Id"] for _, raw in rows]
        if walk.complete:
            break
        position = walk.place.encode()
        assert len(position) < 600
        disturb(server, left.pop(0) if left else ("nothing", 0), touched)
    else:
        raise AssertionError("the range never ended")
    assert expected - touched <= set(seen)
    if not touched:
        assert len(seen) == len(expected)


@settings(max_examples=300, deadline=None)
@given(
    seconds=st.lists(st.integers(0, 6), max_size=60),
    steps=st.lists(DISTURBANCE, max_size=20),
    size=st.integers(1, 20),
    cap=st.integers(2, 15),
    bounds=st.tuples(st.none() | st.integers(0, 6), st.none() | st.integers(0, 8)),
    odd=st.sampled_from([0, 3]),
)
def test_ranges_hold_every_row_and_leave_no_gap(seconds, steps, size, cap, bounds, odd) -> None:
    """The ranges of a table, cut while it is edited, follow each other without a gap and hold each row of the bounds that stays."""
    since, until = (None if second is None else START + second * SECOND for second in bounds)
    server = Server(cap)
    server.fill(seconds, odd)
    inside = {one for one, tick in server.rows.items() if (not since or tick >= ticks(since)) and (not until or tick < ticks(until))}
    touched, left = set[str](), list(steps)
    ranges = cut(server, since, until, size, between=lambda: disturb(server, left.pop(0) if left else ("nothing", 0), touched))
    for before, after in pairwise(ranges):
        assert after.first == before.last + STEP
        assert before.rows >= size
    for one in inside - touched:
        assert any(ticks(part.first) <= server.rows[one] < ticks(part.last + STEP) for part in ranges)
    if ranges and since:
        assert ranges[0].first == since
    if ranges and until:
        assert ranges[-1].last == until - STEP
    if not touched:
        assert sum(part.rows for part in ranges) == len(inside)
        for place, part in enumerate(ranges):
            assert cut(server, since, until, size, after=part.last) == ranges[place + 1 :]


def cut(server: Server, since: datetime | None, until: datetime | None, size: int, *, after=None, between=lambda: None) -> list[KeyRange]:
    """Cut a table into ranges as the adapter does."""
    walk = cutting_walk("Account", RangeBy.CREATED, since, until, after)
    cutter = Cutter(RangeBy.CREATED, size, None if since is None and after is None else walk.place.time)
    ranges: list[KeyRange] = []
    for _ in range(500):
        if walk.complete:
            break
        for moment, _ in walk.take(server.get(walk.url)) or ():
            if (full := cutter.add(moment)) is not None:
                ranges.append(full)
        between()
    else:
        raise AssertionError("the walk never ended")
    last = cutter.rest(until)
    return ranges if last is None else [*ranges, last]


def test_rows_that_went_away_in_a_crowded_time_are_no_reason_to_begin_it_again() -> None:
    """Of 3,000 rows of one time a third goes away behind the reader, the last row read too: the next page is found, no row comes twice."""
    server = Server(cap=20_000)
    server.fill([0] * 3000)
    order = sorted(server.rows)
    seen: list[str] = []
    position: str | None = None
    for number in range(100):
        walk, rows = reading_walk("Account", whole(), position, (), 100), None
        while rows is None:
            rows = walk.take(server.get(walk.url))
        seen += [raw["Id"] for _, raw in rows]
        if walk.complete:
            break
        position = walk.place.encode()
        if number == 15:
            for one in (*order[200:1200], order[1599]):  # the last one is the row that the next page begins with
                del server.rows[one]
    assert seen == order
    assert server.asked < 50


def test_a_range_is_left_whole_however_many_rows_share_its_time() -> None:
    """700 rows of one instant are one range, longer than asked for; the rows around it are ranges of their own."""
    server = Server(cap=50)
    server.fill([0] * 99 + [1] * 700 + [2] * 150)
    ranges = cut(server, None, None, 100)
    assert [part.rows for part in ranges] == [799, 150]
    assert [(part.first - START, part.last - START) for part in ranges] == [
        (timedelta(), SECOND),
        (SECOND + STEP, 2 * SECOND),
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "7", "null", '{"v":2}', '{"v":1}', '{"v":1,"t":"yesterday","n":1,"ids":""}'),
        '{"v":1,"t":"2026-01-31T10:00:01+00:00","n":1,"ids":"?"}',
        '{"v":1,"t":"2026-01-31T10:00:01+00:00","n":1,"ids":"AAAA"}',
        '{"v":1,"t":"2026-01-31T10:00:01+00:00","n":1,"ids":""}',
        Place(START, 0, (name(1),)).encode(),
        Place(START - STEP, 1, (name(1),)).encode(),
        Place(START + 11 * SECOND, 1, (name(1),)).encode(),
    ],
)
def test_a_position_of_another_range_or_version_is_refused(text: str) -> None:
    """What is no position of this range is told as such and not taken for its beginning."""
    with pytest.raises(Rejected) as caught:
        reading_walk("Account", whole(), text, (), 10)
    assert caught.value.code == "message.future_version"


def test_a_position_survives_its_text() -> None:
    """A place reads back as it was written."""
    place = Place(START + SECOND + STEP, 70_000, tuple(name(number) for number in range(1, 17)))
    assert Place.decode(place.encode(), whole()) == place


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ([(1, 3), (2, 2)], 2),  # out of order
        ([(1, -1)], 1),  # before the range
        ([(1, 4)], 1),  # behind it
        ([], 3),  # counted, not shown
    ],
)
def test_rows_that_were_not_asked_for_are_not_trusted(rows: list[tuple[int, int]], count: int) -> None:
    """A server that ignores filter, order or its own count is refused instead of losing rows."""
    raws = [{"Id": name(number), "CreatedOn": (START + second * SECOND).isoformat()} for number, second in rows]
    with pytest.raises(Transient) as caught:
        reading_walk("Account", whole(), None, (), 10).take(Rows(raws, count))
    assert caught.value.code == "creatio.bad_answer"


def test_a_row_without_an_id_is_no_answer_and_one_without_a_time_stands_where_it_stands() -> None:
    """A row that nobody can name makes the page useless; one whose time can't be read is passed on to be told by its id."""
    with pytest.raises(Transient):
        reading_walk("Account", whole(), None, (), 10).take(Rows([{"CreatedOn": START.isoformat()}], 1))
    walk: Walk = reading_walk("Account", whole(), None, (), 10)
    rows = walk.take(Rows([{"Id": name(1), "CreatedOn": (START + SECOND).isoformat()}, {"Id": name(2), "CreatedOn": 5}], 3))
    assert rows is not None
    assert [moment for moment, _ in rows] == [START + SECOND] * 2
    assert (walk.place.time, walk.place.behind, walk.complete) == (START + SECOND, 2, False)


def test_bounds_that_hold_nothing_ask_nothing() -> None:
    """Where `until` is not behind `since`, or `after` is at its end, no request is made."""
    for since, after in ((START, None), (None, START), (None, START - STEP)):
        assert cutting_walk("Account", RangeBy.CREATED, since, START, after).complete
