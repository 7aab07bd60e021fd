"""Documents with lines in the world of a state machine: what clerks do to them, and what must hold of them at every step and at rest."""

from decimal import Decimal

from shared.core.binding import Binding, BindingState
from shared.core.document import line_id
from shared.core.errors import Rejected, TandemError
from shared.core.records import Column, ColumnType, Side, Value, Write
from tests.engine.agreement import CONTACTS
from tests.engine.people import People
from tests.engine.world import FLOW, World, guid

ORDERS = "test.order"
CLOSED, OPEN = "closed", "open"
TOO_MANY, NAMELESS = 4, 5
"""A number that the server of Dynamics takes in no line, and that of a line without the text that it needs."""
_Lines = frozenset[tuple[str, Value, Value]]


def orders() -> dict[str, object]:
    """Return the mapping of documents that wait for their account, and their lines for the contacts that they name."""
    return {
        "flow": ORDERS,
        "title": "Orders",
        "about": "Documents whose header and lines refer to the records of other flows.",
        "creatio": {"entity": "Order"},
        "dynamics": {"system": "dataverse", "entity": "salesorder"},
        "create": "to_dynamics",
        "owner": "creatio",
        "on_delete": "keep",
        "on_duplicate": "ask",
        "match": [["Code"]],
        "fields": [
            {"creatio": "Name", "way": ">", "dynamics": "name", "required": True},
            {"creatio": "Code", "way": ">", "dynamics": "accountnumber"},
            {"creatio": "State", "way": ">", "dynamics": "state"},
            {"creatio": "ParentId", "way": ">", "dynamics": "parentaccountid", "rule": "reference", "flow": FLOW, "if_missing": "wait"},
        ],
        "lines": {
            "creatio": {"entity": "OrderProduct", "parent": "OrderId"},
            "dynamics": {"entity": "salesorderdetail", "parent": "salesorderid"},
            "fields": [
                {"creatio": "Text", "way": ">", "dynamics": "text", "required": True, "overlong": "truncate"},
                {"creatio": "Number", "way": ">", "dynamics": "number", "rule": "money"},
                {"creatio": "PersonId", "way": ">", "dynamics": "personid", "rule": "reference", "flow": CONTACTS, "if_missing": "wait"},
            ],
        },
        "totals": [{"creatio": ["Sum"], "dynamics": "sum", "tolerance": "0.01"}],
    }


class Paperwork:
    """The documents of a world. `versions` holds, by Creatio document, every set of lines that it ever had between two saves."""

    def __init__(self, world: World, people: People) -> None:
        self.world, self.people, self.number = world, people, 0
        self.versions: dict[str, set[_Lines]] = {}
        self.meddled: set[str] = set()
        """Documents in Dynamics of which somebody has changed a line since our last write."""
        creatio, dynamics = world.creatio, world.dynamics
        for system, state, total, document in ((creatio, "State", "Sum", "Order"), (dynamics, "state", "sum", "salesorder")):
            system.columns |= {state: Column(state, ColumnType.TEXT), total: Column(total, ColumnType.DECIMAL, scale=2)}
            system.further.add(document)
        creatio.line_entity, dynamics.line_entity = "OrderProduct", "salesorderdetail"
        creatio.line_columns, dynamics.line_columns = (_columns(*names) for names in _LINE_COLUMNS.values())
        creatio.totals, dynamics.totals = _summed("Number", "Sum"), _summed("number", "sum")
        dynamics.forbid, dynamics.wrote = self._forbid, self._look
        world.further.append(orders())

    def orders(self) -> list[str]:
        """Return the documents of Creatio, in a fixed order."""
        return sorted(i for i in self.world.creatio.records if self.world.creatio.elsewhere.get(i) == "Order")

    def create(self, name: str, code: str | None, account: str | None, numbers: list[int], person: str | None) -> None:
        """Create a document with its lines, as one save."""
        self.number += 1
        order, creatio = guid(7000 + self.number), self.world.creatio
        self.people.journal.born_by_user.add(order)
        creatio.elsewhere[order], creatio.lines[order] = "Order", {}
        creatio.create_as_user(order, Id=order, Name=name, Code=code, ParentId=account, State=OPEN)
        self.save(order, dict(enumerate(numbers)), person)

    def save(self, order: str, numbers: dict[int, int | None], person: str | None = None) -> None:
        """Save some lines of a document together; None removes one."""
        creatio = self.world.creatio
        there = creatio.lines[order]
        lines: dict[str, dict[str, Value] | None] = {}
        for place, number in numbers.items():
            key = _line(order, place)
            if number is not None:
                named = {"PersonId": person} if person or key not in there else {}
                text = None if number == NAMELESS else f"line {place}"
                lines[key] = {"Text": text, "Number": Decimal(number), **named}
            elif key in there:
                lines[key] = None
        creatio.edit_lines_as_user(order, lines)
        self.versions.setdefault(order, set()).add(self._in_creatio(order))

    def edit(self, order: str, **values: Value) -> None:
        """Edit the header of a document."""
        self.world.creatio.edit_as_user(order, **values)

    def meddle(self, order: str, place: int, number: int | None) -> None:
        """Change or remove one of our lines in Dynamics, as far as it is there."""
        dynamics, twin, key = self.world.dynamics, self._twin(order), line_id(ORDERS, _line(order, place))
        if twin and key in dynamics.lines.get(twin, {}):
            dynamics.edit_lines_as_user(twin, {key: None if number is None else {"number": Decimal(number)}})
            self.meddled.add(twin)

    def _twin(self, order: str) -> str | None:
        found = [b.dynamics_id for b in self.world.ledger.bound if b.flow == ORDERS and b.creatio_id == order]
        return found[0] if found and found[0] in self.world.dynamics.records else None

    def _in_creatio(self, order: str) -> _Lines:
        lines = self.world.creatio.lines[order]
        return frozenset((line_id(ORDERS, key), line["Text"], line["Number"]) for key, line in lines.items())

    def _in_dynamics(self, twin: str) -> _Lines:
        return frozenset((key, line["text"], line["number"]) for key, line in self.world.dynamics.lines.get(twin, {}).items())

    def _forbid(self, write: Write) -> TandemError | None:
        """Refuse a line of too many, and whatever would change a closed document but its opening."""
        dynamics = self.world.dynamics
        if dynamics.elsewhere.get(write.id, "salesorder") != "salesorder":
            return None
        record = dynamics.records.get(write.id)
        shut = record is not None and record.values.get("state") == CLOSED and write.values.get("state") != OPEN
        too_many = any(line is not None and line["number"] == TOO_MANY for line in write.lines.values())
        return Rejected("dataverse.refused", system="dataverse", record_id=write.id) if shut or too_many else None

    def _look(self, twin: str) -> None:
        """Hold what we just wrote against what Creatio ever had: all lines of one version, never a part of one."""
        source = [b.creatio_id for b in self.world.ledger.bound if b.flow == ORDERS and b.dynamics_id == twin]
        if not source:
            return
        self.meddled.discard(twin)
        found = self._in_dynamics(twin)
        assert found in self.versions[str(source[0])], f"{source[0]}: half a document: {sorted(found)}"

    def check(self) -> None:
        """Look at every document at rest: the same on both sides, unless it is listed; half of one never."""
        self._listed()
        for binding in self.world.ledger.bound:
            if binding.flow == ORDERS and binding.state is BindingState.BOUND and binding.creatio_id not in self.listed:
                self._pair(binding)
        bound = [b.dynamics_id for b in self.world.ledger.bound if b.flow == ORDERS]
        there = [i for i, entity in self.world.dynamics.elsewhere.items() if entity == "salesorder" and i in self.world.dynamics.records]
        assert sorted(map(str, there)) == sorted(i for i in map(str, bound) if i in there), "a document stands there that nobody knows"
        told = [facts for name, facts in self.world.events if name == "record_failed" and facts["code"] == "document.totals_differ"]
        assert not told or self.people.lagged, f"both servers sum up alike, and yet their sums were told to differ: {told[:2]}"

    def _listed(self) -> None:
        ledger = self.world.ledger
        self.listed = {failure.record_id for failure in ledger.failed.values()} | {row.record_id for row in ledger.waiting.values()}
        self.listed |= {i for one in ledger.disputed.values() for i in (one.creatio_id, one.dynamics_id, *one.candidates)}

    def _pair(self, binding: Binding) -> None:
        order, twin = str(binding.creatio_id), str(binding.dynamics_id)
        if twin in self.listed:
            return
        creatio, dynamics = self.world.creatio, self.world.dynamics
        assert self._in_dynamics(twin) == self._in_creatio(order), f"{order}: the lines differ: {self._in_dynamics(twin)}"
        for here, there in (("Name", "name"), ("Code", "accountnumber"), ("State", "state"), ("Sum", "sum")):
            values = creatio.value(order, here) or None, dynamics.value(twin, there) or None
            assert values[0] == values[1], f"{order}: {here} differs: {values}"
        people = {b.creatio_id: b.dynamics_id for b in self.world.ledger.bound if b.flow == CONTACTS}
        for key, line in creatio.lines[order].items():
            person = dynamics.lines[twin][line_id(ORDERS, key)]["personid"]
            assert people.get(line["PersonId"]) == person, f"{order}: a line names somebody else: {person}"


_LINE_COLUMNS = {Side.CREATIO: ("Text", "Number", "PersonId"), Side.DYNAMICS: ("text", "number", "personid")}


def _columns(text: str, number: str, person: str) -> dict[str, Column]:
    kinds = ((text, ColumnType.TEXT), (number, ColumnType.DECIMAL), (person, ColumnType.LOOKUP))
    return {name: Column(name, kind, scale=2) for name, kind in kinds}


def _line(order: str, place: int) -> str:
    return f"{order[:8]}-0000-4000-8000-{place:012d}"


def _summed(column: str, total: str):
    def totals(lines: dict[str, dict[str, Value]]) -> dict[str, Value]:
        return {total: sum((Decimal(str(line[column] or 0)) for line in lines.values()), Decimal(0)) or None}

    return totals
