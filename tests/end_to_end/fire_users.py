"""People who edit and create accounts and contacts on one side, without rest and by a seed, and keep a journal of it."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from sandbox.control_client import Control
from tests.end_to_end.fire_journal import CREATIO, Column, Edit, before_last_write

USER = {CREATIO: "grace"}
_HOT = 5
"""So many records are edited far more often than others, so that edits of both sides meet in one field."""


@dataclass(frozen=True)
class Kind:
    """An object that users work with: entity, id column and natural key on each side; fields, and what may be written into them."""

    flow: str
    entities: Mapping[str, str]
    ids: Mapping[str, str]
    keys: Mapping[str, str]
    texts: Mapping[Column, Callable[[int], Any]]
    references: Mapping[Column, str]
    flags: Sequence[Column] = ()

    def new(self, side: str, key: str) -> dict[str, Any]:
        """Return the values of a new record with a natural key."""
        if self.flow == "sales.account":
            return (
                {"Name": f"{key} & Söhne", "Code": key, "UsrActive": True}
                if side == CREATIO
                else {"name": f"{key} Ltd", "accountnumber": key}
            )
        if side == CREATIO:
            return {"Name": f"Pat {key}", "Email": f"{key}@fire.example", "UsrActive": True}
        return {"firstname": "Pat", "lastname": key, "emailaddress1": f"{key}@fire.example"}


def _text(start: str, end: str = "") -> Callable[[int], str]:
    return lambda number: f"{start}{number}{end}"


ACCOUNTS = Kind(
    "sales.account",
    {CREATIO: "Account", "dataverse": "account"},
    {CREATIO: "Id", "dataverse": "accountid"},
    {CREATIO: "Code", "dataverse": "accountnumber"},
    {
        Column("Name", "name"): _text("Ωmega 'n' Söhne "),
        Column("Phone", "telephone1"): _text("+49 30 77"),
        Column("Fax", "fax"): _text("+49 30 88"),
        Column("Web", "websiteurl"): _text("https://w", ".example"),
        Column("UsrEmail", "emailaddress1"): _text("m", "@fire.example"),
        Column("Zip", "address1_postalcode"): _text("Z"),
        Column("Notes", "description"): _text("Note <", ">\n& more "),  # the blank at its end falls to a server that trims
        Column("UsrEmployees", "numberofemployees"): lambda number: number,
        Column("UsrCreditLimit", "creditlimit", one_way=True): float,
    },
    {Column("PrimaryContactId", "primarycontactid", lookup=True): "sales.contact"},
)
CONTACTS = Kind(
    "sales.contact",
    {CREATIO: "Contact", "dataverse": "contact"},
    {CREATIO: "Id", "dataverse": "contactid"},
    {CREATIO: "Email", "dataverse": "emailaddress1"},
    {
        Column("JobTitle", "jobtitle"): _text("Head of % "),
        Column("MobilePhone", "mobilephone"): _text("+49 171 99"),
        Column("Zip", "address1_postalcode"): _text("C"),
        Column("Notes", "description"): _text('Likes "quotes" #'),
    },
    {Column("AccountId", "parentcustomerid", lookup=True): "sales.account"},
    (Column("DoNotUseEmail", "donotemail"),),
)
KINDS = (ACCOUNTS, CONTACTS)


@dataclass
class Users:
    """All people of one side."""

    side: str
    control: Control
    dice: random.Random
    numbers: Iterator[int]
    journal: list[Edit]
    created: set[str]
    dataverse_file: Path
    pause_seconds: float = 0.18
    known: dict[str, dict[str, str]] = field(default_factory=dict)
    """The ids of the rows that this side has, by flow and natural key."""

    async def work(self, over: asyncio.Event) -> None:
        """Edit and create until it is over."""
        for turn in count():
            if over.is_set():
                return
            if turn % 8 == 0:
                await self.look_around()
            await self._act()
            await asyncio.sleep(self.dice.uniform(0.2, 1.8) * self.pause_seconds)

    async def look_around(self) -> None:
        """See which records there are by now."""
        for kind in KINDS:
            rows = await self.control.rows(kind.entities[self.side])
            found = {row[kind.keys[self.side]]: row[kind.ids[self.side]] for row in rows}
            self.known[kind.flow] = {key: row_id for key, row_id in found.items() if key in self.created}  # employees stay among themselves

    async def create(self, kind: Kind, key: str, values: Mapping[str, Any] | None = None) -> None:
        """Create a record with some of its fields."""
        given = {**kind.new(self.side, key), **(values or {})}
        row = await self.control.create(kind.entities[self.side], given, USER.get(self.side))
        now, row_id = time.time(), row[kind.ids[self.side]]
        self.created.add(row[kind.keys[self.side]])
        self.known.setdefault(kind.flow, {})[row[kind.keys[self.side]]] = row_id
        for column in (*kind.texts, *kind.references):
            if column.on(self.side) in given:
                value = given[column.on(self.side)]
                self._note(now, kind, row[kind.keys[self.side]], row_id, column, value, None)

    async def _act(self) -> None:
        kind = self.dice.choices(KINDS, (2, 1))[0]
        records = sorted(self.known[kind.flow])
        if self.dice.random() < 0.12 or not records:
            number = next(self.numbers)
            await self.create(kind, f"{kind.flow[6]}{self.side[0]}{number}".lower(), dict(self._some(kind, number)))
            return
        record = self.dice.choice(records[:_HOT] if self.dice.random() < 0.5 else records)
        if kind.flags and self.dice.random() < 0.05:
            flags = {column.on(self.side): self.dice.random() < 0.5 for column in kind.flags}
            await self.control.edit(kind.entities[self.side], self.known[kind.flow][record], flags, USER.get(self.side))
            return
        if self.side == CREATIO and self.dice.random() < 0.06:
            await self._overstep(kind, record)
            return
        await self._edit(kind, record, dict(self._some(kind, next(self.numbers))))

    async def _overstep(self, kind: Kind, record: str) -> None:
        """Write into what Dynamics decides, where Dynamics has decided already: what only Creatio knows is left to it at the first bind."""
        row = await self.control.row(kind.entities[self.side], self.known[kind.flow][record]) or {}
        theirs = {column.creatio: next(self.numbers) for column in kind.texts if column.one_way and row[column.creatio]}
        await self._edit(kind, record, {name: float(number) for name, number in theirs.items()})

    def _some(self, kind: Kind, number: int) -> Iterator[tuple[str, Any]]:
        """Choose one or two fields and what to write into them."""
        for column in self.dice.sample([*kind.texts, *kind.references], self.dice.choice((1, 1, 2))):
            if column.one_way and self.side == CREATIO:
                continue
            if column in kind.texts:
                yield column.on(self.side), kind.texts[column](number)
            elif targets := sorted(self.known.get(kind.references[column], {}).items()):
                yield column.on(self.side), self.dice.choice(targets)[1]

    async def _edit(self, kind: Kind, record: str, values: Mapping[str, Any]) -> None:
        if not values:
            return
        entity, row_id = kind.entities[self.side], self.known[kind.flow][record]
        before: Mapping[str, Any] = await self.control.row(entity, row_id) or {}
        now = time.time()
        await self.control.edit(entity, row_id, values, USER.get(self.side))
        if self.side != CREATIO:
            kept = before_last_write(self.dataverse_file, entity, row_id)
            if any(kept.get(name) != value for name, value in values.items()):  # else Tandem has written again since
                before = kept
        for column in (*kind.texts, *kind.references):
            name = column.on(self.side)
            if name in values:
                self._note(now, kind, record, row_id, column, values[name], before.get(name))

    def _note(self, at: float, kind: Kind, record: str, row_id: str, column: Column, value: Any, saw: Any) -> None:
        self.journal.append(Edit(at, self.side, kind.flow, record, row_id, column, value, saw))
