"""What people do in the demo, and what must come of it: each step edits as a user would and watches the other side."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sandbox.control_client import Row
from sandbox.observe import Observer
from shared.core.records import Side

FLOW: Final = "sales.account"
_LIMIT_SECONDS: Final = 30.0
_CREATIO_USER: Final = "grace"


@dataclass(frozen=True)
class Step:
    """One thing that was shown: what happened, and after how many seconds it had arrived (None: it did not)."""

    what: str
    came_of_it: str
    seconds: float | None


@dataclass(frozen=True)
class Pair:
    """An account in both systems, as it was before anybody edited it."""

    creatio_id: str
    dynamics_id: str
    name: str


class Edits:
    """The steps, in the order of the story."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._creatio, self._dynamics = observer.control("creatio"), observer.control("dataverse")

    def story(self) -> Sequence[tuple[Callable[[Pair], Awaitable[Step]], bool]]:
        """Return the steps; each takes an account of its own that both sides have."""
        steps = (self.edit_in_creatio, self.edit_in_dynamics, self.both_in_different_fields, self.both_in_one_field)
        new = (self.wrong_side, self.new_in_creatio, self.new_in_dynamics, self.new_company_with_its_contact)
        people = (self.new_person_in_dynamics, self.person_on_both_sides, self.deleted_in_dynamics)
        return [(step, True) for step in (*steps, *new, *people)]

    async def pairs(self, number: int) -> list[Pair]:
        """Return accounts that both sides have and that no other account hangs on, always the same ones."""
        rows = sorted(await self._creatio.rows("Account"), key=lambda row: str(row["Id"]))
        employers = {row["AccountId"] for row in await self._creatio.rows("Contact")}
        free = [row for row in rows if row["UsrActive"] and row["ParentId"] is None and row["Code"] and row["Id"] not in employers]
        chosen = free[:number]
        bindings = await self._observer.app.ledger.bindings(FLOW, Side.CREATIO, [row["Id"] for row in chosen])
        return [Pair(row["Id"], bindings[row["Id"]].dynamics_id or "", row["Name"]) for row in chosen if row["Id"] in bindings]

    async def edit_in_creatio(self, pair: Pair) -> Step:
        """Change two fields in Creatio."""
        await self._creatio.edit("Account", pair.creatio_id, {"Phone": "+44 20 7946 0958", "UsrEmployees": 77}, _CREATIO_USER)
        seconds = await self._dynamics_gets(pair, {"telephone1": "+44 20 7946 0958", "numberofemployees": 77})
        return Step(f"Grace changes phone and employees of “{_short(pair.name)}” in Creatio", "Dynamics has both", seconds)

    async def edit_in_dynamics(self, pair: Pair) -> Step:
        """Change a field that both sides may edit, and one that belongs to Dynamics."""
        await self._dynamics.edit("account", pair.dynamics_id, {"websiteurl": "https://new.example", "creditlimit": 12_500.5})
        seconds = await self._creatio_gets(pair, {"Web": "https://new.example", "UsrCreditLimit": 12_500.5})
        return Step(f"Somebody changes website and credit limit of “{_short(pair.name)}” in Dynamics", "Creatio has both", seconds)

    async def both_in_different_fields(self, pair: Pair) -> Step:
        """Edit one account on both sides at once, in different fields."""
        await self._creatio.edit("Account", pair.creatio_id, {"Notes": "Visited on Monday \N{WAVING HAND SIGN}"}, _CREATIO_USER)
        await self._dynamics.edit("account", pair.dynamics_id, {"emailaddress1": "sales@both.example"})
        there = await self._dynamics_gets(pair, {"description": "Visited on Monday \N{WAVING HAND SIGN}"})
        back = await self._creatio_gets(pair, {"UsrEmail": "sales@both.example", "Notes": "Visited on Monday \N{WAVING HAND SIGN}"})
        seconds = None if there is None or back is None else there + back
        return Step(f"“{_short(pair.name)}”: notes in Creatio and e-mail in Dynamics, at the same time", "both survive", seconds)

    async def both_in_one_field(self, pair: Pair) -> Step:
        """Edit the same field on both sides: the mapping's owner wins."""
        await self._dynamics.edit("account", pair.dynamics_id, {"websiteurl": "https://dynamics.example"})
        await self._creatio.edit("Account", pair.creatio_id, {"Web": "https://creatio.example"}, _CREATIO_USER)
        seconds = await self._dynamics_gets(pair, {"websiteurl": "https://creatio.example"})
        return Step(f"“{_short(pair.name)}”: two different websites at the same time", "Creatio owns the field and wins", seconds)

    async def wrong_side(self, pair: Pair) -> Step:
        """Edit a field of Dynamics in Creatio: it is put back."""
        before = await self._row("creatio", "Account", pair.creatio_id)
        await self._creatio.edit("Account", pair.creatio_id, {"UsrCreditLimit": 999_999, "UsrCreditHold": True}, _CREATIO_USER)
        was = {"UsrCreditLimit": before["UsrCreditLimit"] or 0, "UsrCreditHold": bool(before["UsrCreditHold"])}
        seconds = await self._creatio_gets(pair, was)
        return Step(f"Grace raises the credit limit of “{_short(pair.name)}” in Creatio, which only shows it", "put back", seconds)

    async def new_in_creatio(self, _pair: Pair) -> Step:
        """Create an account in Creatio."""
        name = "Καινούργια & Söhne <new> \N{SPARKLES}"
        row = await self._creatio.create("Account", {"Name": name, "Code": "N-1", "Zip": "10115", "UsrActive": True}, _CREATIO_USER)

        async def arrived() -> bool:
            return any(there["tandem_creatioid"] == row["Id"] and there["name"] == name for there in await self._dynamics.rows("account"))

        return Step("A new account in Creatio", "Dynamics has it, with its Creatio id", await self._observer.until(arrived, _LIMIT_SECONDS))

    async def new_in_dynamics(self, _pair: Pair) -> Step:
        """Create an account in Dynamics."""
        values = {"name": "新しい株式会社", "accountnumber": "N-2", "address1_city": "東京", "revenue": 1234.5}
        row = await self._dynamics.create("account", values)

        async def arrived() -> bool:
            there = [account for account in await self._creatio.rows("Account") if account["Code"] == "N-2"]
            here = await self._row("dataverse", "account", row["accountid"])
            return len(there) == 1 and there[0]["UsrAnnualRevenue"] == 1234.5 and here["tandem_creatioid"] == there[0]["Id"]

        seconds = await self._observer.until(arrived, _LIMIT_SECONDS)
        return Step("A new account in Dynamics", "Creatio has it, and its id went back", seconds)

    async def new_company_with_its_contact(self, _pair: Pair) -> Step:
        """Create a contact and its account in Creatio, the contact first, each pointing at the other."""
        person = await self._creatio.create(
            "Contact", {"Name": "Σοφία Ιωάννου", "Email": "sofia@new.example", "UsrActive": True}, _CREATIO_USER
        )
        company = {"Name": "Sofia's & Co.", "Code": "N-3", "Zip": "10431", "UsrActive": True, "PrimaryContactId": person["Id"]}
        account = await self._creatio.create("Account", company, _CREATIO_USER)
        await self._creatio.edit("Contact", person["Id"], {"AccountId": account["Id"]}, _CREATIO_USER)

        async def arrived() -> bool:
            accounts = [row for row in await self._dynamics.rows("account") if row["accountnumber"] == "N-3"]
            people = [row for row in await self._dynamics.rows("contact") if row["emailaddress1"] == "sofia@new.example"]
            if len(accounts) != 1 or len(people) != 1:
                return False
            links = (accounts[0]["primarycontactid"], people[0]["parentcustomerid"])
            return links == (people[0]["contactid"], accounts[0]["accountid"])

        seconds = await self._observer.until(arrived, _LIMIT_SECONDS)
        return Step("A new account with its contact in Creatio, each naming the other", "Dynamics has both, linked both ways", seconds)

    async def new_person_in_dynamics(self, pair: Pair) -> Step:
        """Create a contact in Dynamics at an account that both sides have: Creatio gets it with its account."""
        values = {"firstname": "Zoë", "lastname": "van der Berg", "birthdate": "1968-02-29", "parentcustomerid": pair.dynamics_id}
        await self._dynamics.create("contact", {**values, "emailaddress1": "zoe@new.example"})

        async def arrived() -> bool:
            found = [row for row in await self._creatio.rows("Contact") if row["Email"] == "zoe@new.example"]
            return [(row["Name"], row["AccountId"]) for row in found] == [("Zoë van der Berg", pair.creatio_id)]

        seconds = await self._observer.until(arrived, _LIMIT_SECONDS)
        return Step(f"A new contact at “{_short(pair.name)}” in Dynamics", "Creatio has it, with its account", seconds)

    async def person_on_both_sides(self, pair: Pair) -> Step:
        """Edit one contact on both sides at once: its name in Dynamics, its e-mail opt-out and account in Creatio."""
        what = "That contact marries in Dynamics; in Creatio it moves to another account and wants no e-mail"
        people = [row["Id"] for row in await self._creatio.rows("Contact") if row["Email"] == "zoe@new.example"]
        twins = [row["contactid"] for row in await self._dynamics.rows("contact") if row["emailaddress1"] == "zoe@new.example"]
        if not people or not twins:
            return Step(what, "there is no such pair to edit", None)
        moved = {"DoNotUseEmail": True, "AccountId": pair.creatio_id}
        await self._dynamics.edit("contact", twins[0], {"lastname": "van der Berg-O'Hara"})
        await self._creatio.edit("Contact", people[0], moved, _CREATIO_USER)
        back = await self._gets("creatio", "Contact", people[0], {"Name": "Zoë van der Berg-O'Hara", **moved})
        told = await self._gets("dataverse", "contact", twins[0], {"donotemail": True, "parentcustomerid": pair.dynamics_id})
        seconds = None if told is None or back is None else told + back
        return Step(what, "all three survive", seconds)

    async def deleted_in_dynamics(self, pair: Pair) -> Step:
        """Delete an account in Dynamics: Creatio keeps it, inactive."""
        await self._dynamics.delete("account", pair.dynamics_id)
        seconds = await self._creatio_gets(pair, {"UsrActive": False})
        return Step(
            f"Somebody deletes “{_short(pair.name)}” in Dynamics", "Creatio keeps it, inactive, and it stays deleted there", seconds
        )

    async def _dynamics_gets(self, pair: Pair, values: Row) -> float | None:
        return await self._gets("dataverse", "account", pair.dynamics_id, values)

    async def _creatio_gets(self, pair: Pair, values: Row) -> float | None:
        return await self._gets("creatio", "Account", pair.creatio_id, values)

    async def _gets(self, system: str, entity: str, row_id: str, values: Row) -> float | None:
        async def arrived() -> bool:
            row = await self._row(system, entity, row_id)
            return all(_plain(row[name]) == _plain(value) for name, value in values.items())

        return await self._observer.until(arrived, _LIMIT_SECONDS)

    async def _row(self, system: str, entity: str, row_id: str) -> Row:
        return await self._observer.control(system).row(entity, row_id) or {}


def _plain(value: Any) -> Any:
    """Return a value in which nothing, 0 and no are one: Creatio stores either."""
    return value or None


def _short(name: str) -> str:
    return name if len(name) <= 32 else f"{name[:31]}…"
