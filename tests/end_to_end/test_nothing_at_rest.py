"""Nothing that a customer typed stays anywhere: not in tables, queues, blobs, logs, spans or answers of the app (design 7).

Every text column that the mappings name holds a marker, on both sides. The records are synced, edited on both sides, refused, doubled,
waiting, deleted and poisoned, while both systems repeat every value in every error. Then all that the app left behind is searched.
"""

import base64
import json
import logging
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from azure.core.exceptions import ResourceExistsError
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueServiceClient
from opentelemetry import trace

from sandbox.child import ROOT
from sandbox.control_client import Row
from sandbox.processes import Sandbox
from shared.core.mapping import PhoneRow
from shared.core.records import ColumnType, Side
from shared.core.work import FlowSettings, read_message
from shared.engine.desk import open_desk
from tests.end_to_end.accounts import FLOW, NEVER, House, open_house
from tests.end_to_end.gossip import FOREIGN, FORMS, NUMBER, STRAY, WORD, Gossip, Keeping, all_leaks, between, leaks

CONTACTS = "sales.contact"
_OF_THE_SYSTEMS = ("creatio", "dataverse", "entra")
"""How the names of files begin that are the stand-ins' own."""


@dataclass
class Spans:
    """A tracer that keeps what it is told."""

    told: list[str] = field(default_factory=list)

    @contextmanager
    def start_as_current_span(self, name: str, **options: Any) -> Iterator["Spans"]:
        self.told.append(f"{name} {options}")
        yield self

    def __getattr__(self, verb: str) -> Any:
        return lambda *facts, **more: self.told.append(f"{verb} {facts} {more}")


@dataclass
class Scene:
    """The house after everything happened, and what it left behind."""

    house: House
    gossip: dict[str, Gossip]
    keeping: Keeping
    spans: Spans
    answers: list[str]
    logged: list[str]
    marked: dict[tuple[str, Side], set[str]]


class _Kept(logging.Handler):
    """Keeps every log record with all its facts."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.name} {record.getMessage()} {record.__dict__}")


async def text_columns(house: House, flow: str) -> dict[Side, dict[str, tuple[bool, int]]]:
    """Return the text columns that a mapping names, by side: whether it holds a phone number, and how long a text it takes."""
    services = house.observer.app.services
    desk, _ = await open_desk(services, services.mapping(flow), FlowSettings(flow))
    found: dict[Side, dict[str, tuple[bool, int]]] = {side: {} for side in Side}
    for row in desk.rows:
        columns = {side: [desk.context.entities[side].columns[name] for name in row.columns(side)] for side in Side}
        lengths = [column.max_length for side in Side for column in columns[side] if column.max_length]
        for side in Side:
            texts = [column.name for column in columns[side] if column.type is ColumnType.TEXT]
            found[side] |= {name: (isinstance(row, PhoneRow), min([60, *lengths])) for name in texts}
    return found


@dataclass
class Typist:
    """Fills records with marked texts, no two the same."""

    columns: Mapping[str, Mapping[Side, Mapping[str, tuple[bool, int]]]]
    number: int = 0

    def text(self, most: int = 60) -> str:
        """Return a new marked text."""
        self.number += 1
        foreign = f" {FOREIGN}" if most >= 40 else ""
        return f"{WORD}{self.number}{foreign}"[:most]

    def row(self, flow: str, side: Side, **other: Any) -> Row:
        """Return a record of which every mapped text is marked; `other` values win."""
        row: Row = {"UsrActive": True} if side is Side.CREATIO else {}
        for name, (phone, most) in self.columns[flow][side].items():
            text = self.text(most)
            row[name] = f"+49 30 {NUMBER}{self.number}" if phone else text
        row.pop("tandem_creatioid", None)
        return row | other


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Play everything once; the tests look at what is left."""
    logged: list[str] = []
    spans = Spans()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "get_tracer", lambda *_, **__: spans)
        async with _tapped_house(tmp_path_factory.mktemp("rest")) as (house, gossip, keeping):
            played = Scene(house, gossip, keeping, spans, [], logged, {})
            await _play(played)
            yield played


@asynccontextmanager
async def _tapped_house(directory: Path) -> AsyncIterator[tuple[House, dict[str, Gossip], Keeping]]:
    """Run the house with a gossip before each system and a record of all that goes to storage."""
    gossip, keeping = {"creatio": Gossip(), "dataverse": Gossip()}, Keeping()
    mappings = Path(shutil.copytree(ROOT / "mappings", directory / "mappings"))
    file = mappings / f"{FLOW}.json"
    text = file.read_text(encoding="utf-8").replace('"dynamics": "description",', '"dynamics": "description", "owner": "ask",')
    file.write_text(text, encoding="utf-8")
    async with AsyncExitStack() as stack:

        async def tap(sandbox: Sandbox) -> None:
            settings = sandbox.settings
            settings["CREATIO_BASE_URL"] = await between(stack, sandbox.creatio, gossip["creatio"])
            settings["DATAVERSE_URL"] = await between(stack, sandbox.dataverse, gossip["dataverse"])
            storage = sandbox.storage
            for origin in dict.fromkeys(re.findall(r"http://127\.0\.0\.1:\d+", storage)):
                storage = storage.replace(origin, await between(stack, origin, keeping))
            settings["AzureWebJobsStorage"] = storage

        own = {"WATCH_SCHEDULE": "0 */2 * * * *", "COMPARE_INTERVAL_MS": "1000", "MAPPINGS_DIR": str(mappings)}
        async with open_house(directory, poll_schedule=NEVER, time_scale=15, settings=own, before_host=tap) as house:
            yield house, gossip, keeping


async def _play(scene: Scene) -> None:
    house = scene.house
    columns = {flow: await text_columns(house, flow) for flow in (FLOW, CONTACTS)}
    typist = Typist(columns)
    scene.marked = {(flow, side): set(columns[flow][side]) for flow in columns for side in Side}
    pairs = await _good_records(house, typist)
    await _dead_messages(house)
    await _bad_records(house, typist, pairs)
    await _told_of_dead_messages(house)
    await _operator(scene)
    await _within_this_process(scene)
    await _whole_requests(scene, typist)
    scene.answers.append(json.dumps(await house.status(), ensure_ascii=False))


async def _polled(house: House, times: int = 1) -> None:
    for _ in range(times):
        await house.poll()
        await house.calm(45, still=0.6)


async def _good_records(house: House, typist: Typist) -> list[tuple[str, str]]:
    """Let each side bring records of which every text is marked, and return the ids of accounts that both sides have."""
    left, right = house.creatio, house.dynamics
    accounts = [await left.create("Account", typist.row(FLOW, Side.CREATIO), "grace") for _ in range(9)]
    other = await right.create("account", typist.row(FLOW, Side.DYNAMICS))
    await left.create("Contact", typist.row(CONTACTS, Side.CREATIO, AccountId=accounts[0]["Id"]), "grace")
    await right.create("contact", typist.row(CONTACTS, Side.DYNAMICS, parentcustomerid=other["accountid"]))
    await _polled(house, 2)
    found = {row["tandem_creatioid"]: row["accountid"] for row in await right.rows("account")}
    return [(row["Id"], found[row["Id"]]) for row in accounts]


async def _bad_records(house: House, typist: Typist, pairs: list[tuple[str, str]]) -> None:
    """Bring records that can't be synced: too long, unknown, double, refused, claimed by both, waiting, deleted by many."""
    left, right = house.creatio, house.dynamics
    long, locked, asked, edited = pairs[:4]
    await left.edit("Account", long[0], {"Code": typist.text() + "x" * 60, "Web": typist.text() + "y" * 210}, "grace")
    await right.edit("account", long[1], {"address1_city": typist.text(), "name": f"{typist.text()}\0"})
    await left.switch(locked_ids={"Account": [locked[0]]})
    await right.edit("account", locked[1], {"name": typist.text(), "address1_line1": typist.text()})
    await left.edit("Account", asked[0], {"Notes": typist.text()}, "grace")
    await right.edit("account", asked[1], {"description": typist.text()})
    same = {"Name": typist.text(), "Email": typist.text()}
    first, _, last = same["Name"].partition(" ")
    for _ in range(2):
        await right.create(
            "contact", typist.row(CONTACTS, Side.DYNAMICS, firstname=first, middlename=None, lastname=last, emailaddress1=same["Email"])
        )
    await left.create("Contact", typist.row(CONTACTS, Side.CREATIO, **same), "grace")
    code = typist.text(20)
    for _ in range(2):
        await right.create("account", typist.row(FLOW, Side.DYNAMICS, accountnumber=code))
    double = await left.create("Account", typist.row(FLOW, Side.CREATIO, Code=code), "grace")
    await left.create("Contact", typist.row(CONTACTS, Side.CREATIO, AccountId=double["Id"]), "grace")
    taken = await left.create("Account", typist.row(FLOW, Side.CREATIO), "grace")
    await right.create("account", typist.row(FLOW, Side.DYNAMICS, tandem_creatioid=taken["Id"]))
    await _polled(house)
    await left.edit("Account", edited[0], {"Name": typist.text()}, "grace")
    for pair in pairs[3:]:
        await right.delete("account", pair[1])
    await _polled(house, 2)


async def _dead_messages(house: House) -> None:
    """Put messages into the queues that can't be read, with a text in them."""
    queues = house.observer.app.storages[0].queues()
    for name in ("changes", "polls", "bulk"):
        queue = queues.get_queue_client(name, message_encode_policy=TextBase64EncodePolicy())
        with suppress(ResourceExistsError):  # the app makes a queue when it first needs it
            await queue.create_queue()
        for text in (f'{{"v": 1, "flow": ["{STRAY}"]}}', STRAY, f'{{"v": "{STRAY}"}}'):
            await queue.send_message(text)


async def _told_of_dead_messages(house: House) -> None:
    async def told() -> bool:
        failures = await house.observer.app.ledger.failures("tandem")
        return sum(failure.count for failure in failures if failure.code == "message.malformed") >= 9

    await house.until(told, "nine unreadable messages are failures", 60)


async def _operator(scene: Scene) -> None:
    """Ask all that an operator can ask, and keep the answers."""
    house = scene.house
    for flow in (FLOW, CONTACTS):
        run = await house.ask("POST", "runs/align", flow=flow, dry="true")
        await house.calm(45, still=0.6)
        scene.answers.append(json.dumps([run, await house.ask("GET", "runs/show", flow=flow, run=str(run["result"]))]))
        scene.answers.append(json.dumps(await house.ask("POST", "failures/reprocess", flow=flow)))
    await house.calm(45, still=0.6)
    scene.answers.append(json.dumps(await house.status(), ensure_ascii=False))


async def _within_this_process(scene: Scene) -> None:
    """Let the app work in the test's own process, where its spans and the facts of its log records can be seen."""
    house = scene.house
    await house.sandbox.stop("host")
    app, root, handler = house.observer.app, logging.getLogger(), _Kept(scene.logged)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        for flow in (FLOW, CONTACTS):
            await app.operate.reprocess(flow)
        for name in ("changes", "bulk"):
            queue = app.storages[0].queues().get_queue_client(name)
            async for message in queue.receive_messages(visibility_timeout=300):
                await app.sync.run(read_message(base64.b64decode(message.content)))
                await queue.delete_message(message)
        await app.watch.run()
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    await house.sandbox.restart("host")


async def _whole_requests(scene: Scene, typist: Typist) -> None:
    """Let whole requests be refused, searches for a marked text among them, until the flow of contacts stops."""
    house = scene.house
    before = {name: len(gossip.told) for name, gossip in scene.gossip.items()}
    for gossip in scene.gossip.values():
        gossip.refuses_searches = True
    await house.creatio.create("Contact", typist.row(CONTACTS, Side.CREATIO), "grace")
    await house.dynamics.create("contact", typist.row(CONTACTS, Side.DYNAMICS))
    await house.poll()
    await house.calm(45, still=0.6)
    assert all(len(scene.gossip[name].told) > number for name, number in before.items()), "both systems refused a search"
    scene.answers.append(json.dumps(await house.status(), ensure_ascii=False))
    await house.dynamics.rights("contact", read=False, write=False)
    await house.creatio.create("Contact", typist.row(CONTACTS, Side.CREATIO), "grace")
    await house.poll()

    async def stopped() -> bool:
        return not (await house.flow(CONTACTS))["started"]

    await house.until(stopped, "the flow of contacts stopped", 60)


def _codes(scene: Scene) -> set[str]:
    """Return the codes of everything that was refused, doubled, held or unclear, as the app's answers show them."""
    flows = json.loads(scene.answers[-1])["flows"].values()
    codes = {failure["code"] for flow in flows for failure in flow["failures"]} | {flow["stopped_because"] for flow in flows}
    return codes | {conflict[3] for flow in flows for conflict in flow["conflicts"]}


@pytest.mark.asyncio(loop_scope="module")
async def test_every_text_was_typed_and_every_refusal_happened(scene: Scene) -> None:
    """The search means something: each mapped text column held a marker on its side, and each kind of trouble was met and repeated it."""
    house, empty = scene.house, set()
    for (flow, side), columns in scene.marked.items():
        control = house.creatio if side is Side.CREATIO else house.dynamics
        entity = {FLOW: "account", CONTACTS: "contact"}[flow]
        rows = await control.rows(entity.title() if side is Side.CREATIO else entity)
        empty |= {(flow, column) for column in columns if not all_leaks((column, str(row[column])) for row in rows)}
    assert empty == {(flow, "tandem_creatioid") for flow in (FLOW, CONTACTS)}, "the id column alone holds nothing that people type"
    met = _codes(scene)
    assert met >= {"mapping.too_long", "mapping.value_unknown", "creatio.refused", "match.ambiguous", "merge.both_changed"}, met
    assert met >= {"delete.meets_edits", "dataverse.denied"}, met
    told = {name: " ".join(gossip.told) for name, gossip in scene.gossip.items()}
    assert all(WORD in text and FOREIGN in text for text in told.values()), "each system repeated texts in its errors"
    assert any("x@" in text or NUMBER in text for text in told.values())


@pytest.mark.asyncio(loop_scope="module")
async def test_tables_queues_and_blobs_hold_nothing_that_was_typed(scene: Scene) -> None:
    """No request to storage ever carried a marker, and no row or message that is left holds one; unreadable messages are gone."""
    written = scene.keeping.written
    assert any("Work" in request for request, _ in written)
    assert any("/changes/messages" in request for request, _ in written)
    assert all_leaks(((request, request.encode() + b" " + sent) for request, sent in written), (WORD, NUMBER, FOREIGN)) == []
    assert all_leaks(row for row in written if "messages" not in row[0]) == []
    left = await _left_in_storage(scene.house)
    assert any("sales.contact" in text for _, text in left)
    assert all_leaks(left) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_logs_and_spans_show_nothing_that_was_typed(scene: Scene) -> None:
    """Neither the host's log, nor any other file that the app leaves, nor a log record's facts, nor a span shows a marker."""
    files = [path for path in scene.house.sandbox.directory.rglob("*") if path.is_file() and not path.name.startswith(_OF_THE_SYSTEMS)]
    assert "event=record_failed" in scene.house.sandbox.children["host"].log.read_text(encoding="utf-8")
    assert any("record_failed" in line for line in scene.logged)
    assert any("http.response.status_code" in line for line in scene.spans.told)
    assert all_leaks((path.name, path.read_bytes()) for path in files) == []
    assert all_leaks([("a log record", "\n".join(scene.logged)), ("a span", "\n".join(scene.spans.told))]) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_the_app_answers_nothing_that_was_typed(scene: Scene) -> None:
    """What an operator is answered names records, columns and codes, and shows server texts with the typed parts masked."""
    assert "\u2026" in scene.answers[-1], "a server's text is shown, masked"
    assert all_leaks(("an answer", answer) for answer in scene.answers) == []


@pytest.mark.parametrize("form", FORMS)
def test_the_search_finds_a_marker_in_every_form(form: str) -> None:
    """A marker is found in whatever form it is written, also in Base64 from any place on."""
    for root in (WORD, NUMBER, FOREIGN, STRAY):
        for before in range(3):
            hidden = b"." * before + FORMS[form](root) + b"!"
            assert leaks("here", b"x " + hidden)
            assert leaks("here", b"x " + base64.b64encode(hidden + b"\xff?\xfe" * 4)), (form, root, before)
            assert leaks("here", b'{"t":"' + base64.urlsafe_b64encode(hidden) + b'"}')
        assert not leaks("here", FORMS[form](root[:4]) + b" and so on")


async def _left_in_storage(house: House) -> list[tuple[str, str]]:
    """Return every row of every table and every message of every queue, seen without being taken."""
    found: list[tuple[str, str]] = []
    storage = house.sandbox.storage
    async with TableServiceClient.from_connection_string(storage) as tables:
        names = [table.name async for table in tables.list_tables()]
        for name in names:
            async with tables.get_table_client(name) as table:
                found += [(name, str(dict(row))) async for row in table.list_entities()]
    async with QueueServiceClient.from_connection_string(storage) as queues:
        queue_names = [queue.name async for queue in queues.list_queues()]
        for name in queue_names:
            found += [(name, message.content) for message in await queues.get_queue_client(name).peek_messages(max_messages=32)]
    return found
