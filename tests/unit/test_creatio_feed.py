"""The change feed of Creatio as a state machine, against a model of the server that is edited between any two pages (design law 11)."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.systems.creatio_feed import MOST_SEEN, Feed, Position
from shared.systems.creatio_wire import Rows

START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
OVERLAP = timedelta(seconds=300)


@dataclass
class Server:
    """Rows by id with their ModifiedOn; `cap` is the most it shows at once, `counts` whether it answers `$count`."""

    cap: int
    counts: bool
    now: datetime = START
    rows: dict[str, datetime] = field(default_factory=dict)

    def get(self, url: str) -> Rows:
        """Answer a page as the query asks for it."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        start = datetime.fromisoformat(query["$filter"].rsplit(" ", 1)[1]) if "$filter" in query else datetime.min.replace(tzinfo=UTC)
        met = sorted((moment, one) for one, moment in self.rows.items() if moment >= start)
        page = met[int(query.get("$skip", 0)) :][: min(int(query["$top"]), self.cap)]
        raw = [{"Id": one, "ModifiedOn": moment.isoformat()} for moment, one in page]
        return Rows(raw, len(met) if self.counts else None)

    def save(self, number: int) -> None:
        """Insert or change a row now."""
        self.rows[str(uuid.UUID(int=number))] = self.now


def feed(position: str | None, page_size: int) -> Feed:
    """Begin or go on with a walk."""
    return Feed("Account", position, None, page_size=page_size, overlap=OVERLAP)


STEP = st.one_of(
    st.tuples(st.just("save"), st.integers(1, 30)),
    st.tuples(st.just("tick"), st.integers(1, 200)),
    st.tuples(st.just("late"), st.integers(1, 250)),
    st.tuples(st.just("delete"), st.integers(1, 30)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("nothing"), st.just(0)),
)


def do(server: Server, step: tuple[str, int], made: list[int]) -> None:
    """Carry out one step of the world beside the feed."""
    kind, number = step
    if kind == "save":
        server.save(number)
    elif kind == "tick":
        server.now += timedelta(seconds=number)
    elif kind == "late":  # a long transaction shows its row only now
        made.append(1000 + len(made))
        server.rows[str(uuid.UUID(int=made[-1]))] = server.now - timedelta(seconds=number)
    elif kind == "delete":
        server.rows.pop(str(uuid.UUID(int=number)), None)


@settings(max_examples=300, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 3), max_size=40),
    steps=st.lists(STEP, max_size=40),
    page_size=st.integers(2, 12),
    cap=st.integers(2, 15),
    counts=st.booleans(),
)
def test_every_last_state_is_announced(seeds: list[int], steps: list[tuple[str, int]], page_size: int, cap: int, counts: bool) -> None:
    """Whatever is saved, committed late or deleted between two pages, and wherever the walk is taken over: no last state is missed."""
    server = Server(cap, counts)
    for number, second in enumerate(seeds, start=1):
        server.rows[str(uuid.UUID(int=number))] = START - timedelta(hours=1) + timedelta(seconds=second)
    announced: set[tuple[str, datetime]] = set()
    position: str | None = None
    walk, made, left = feed(None, page_size), list[int](), list(steps)
    finished, undisturbed = "", False
    for _ in range(1000):
        page = walk.take(server.get(walk.url), server.now)
        announced |= {(change.id, change.stamp.time) for change in page.changes if change.stamp}
        position = page.position
        if page.complete:
            if position == finished and undisturbed:
                break
            finished = position
            undisturbed = not left  # the next walk is the first that nothing happens beside
        step = left.pop(0) if left else ("nothing", 0)
        do(server, step, made)
        if page.complete or step[0] == "restart":
            walk = feed(position, page_size)
    else:
        raise AssertionError("the feed never became quiet")
    assert {(one, moment) for one, moment in server.rows.items()} <= announced


def test_a_position_stays_small_however_many_rows_share_a_time() -> None:
    """In the middle of 10,000 rows of one time a position holds one page of them at most."""
    server = Server(cap=20_000, counts=True)
    server.rows = {str(uuid.UUID(int=number)): START - timedelta(days=1) for number in range(10_000)}
    position: str | None = None
    announced: list[str] = []
    for _ in range(100):
        walk = feed(position, 500)
        page = walk.take(server.get(walk.url), server.now)
        announced += [change.id for change in page.changes]
        position = page.position
        assert len(position) < 6000
        if page.complete:
            break
    assert len(announced) == len(set(announced)) == 10_000


def test_positions_survive_their_text() -> None:
    """A position reads back as it was written, and holds at most as many hashes as a ledger row bears."""
    marks = frozenset(number.to_bytes(8, "big") for number in range(MOST_SEEN))
    for position in (
        Position(None),
        Position(START, marks),
        Position(START, frozenset({b"12345678"}), open=True, clock=START + OVERLAP, skip=7, last=str(uuid.UUID(int=1))),
    ):
        assert Position.decode(position.encode()) == position
    assert len(Position(START, marks).encode()) < 32_000
