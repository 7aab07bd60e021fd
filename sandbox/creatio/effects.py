"""What the server does by itself when a row is saved or deleted (creatio.md 5.1).

Phones, web and e-mail of an account or contact follow its primary communications and the other way round; the address
block follows the primary address; a contact's full name follows its parts. A consequence is saved and stamped, but has
no consequences of its own; the resets of `Primary` and the blanking of a column are plain SQL and move no ModifiedOn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sandbox.creatio.content import made_id
from sandbox.creatio.database import Database, StoredRow
from sandbox.creatio.schema import Entity
from sandbox.creatio.values import Stored

if TYPE_CHECKING:
    from sandbox.creatio.saving import Actor

_Update: TypeAlias = Callable[[str, str, Mapping[str, Stored], "Actor"], None]
_Insert: TypeAlias = Callable[[str, Mapping[str, Stored], "Actor"], str]

_MAIN_PHONE = "6a3fb10c-67cc-df11-9b2a-001d60e938c6"
_BLOCK = ("AddressTypeId", "Address", "CityId", "RegionId", "Zip", "CountryId", "GPSN", "GPSE")


@dataclass(frozen=True)
class _Master:
    """Join an object to its details: which column shows the primary communication of which type."""

    entity: str
    foreign_key: str
    numbers: Mapping[str, str]

    @property
    def communications(self) -> str:
        return f"{self.entity}Communication"

    @property
    def addresses(self) -> str:
        return f"{self.entity}Address"


_MASTERS = (
    _Master(
        "Account",
        "AccountId",
        {
            "Phone": _MAIN_PHONE,
            "AdditionalPhone": "2b387201-67cc-df11-9b2a-001d60e938c6",
            "Fax": "9a7ab41b-67cc-df11-9b2a-001d60e938c6",
            "Web": "6a8ba927-67cc-df11-9b2a-001d60e938c6",
        },
    ),
    _Master(
        "Contact",
        "ContactId",
        {
            "Phone": _MAIN_PHONE,
            "MobilePhone": "d4a2dc80-30ca-df11-9b2a-001d60e938c6",
            "HomePhone": made_id("CommunicationType", "Home phone"),
            "Skype": made_id("CommunicationType", "Skype"),
            "Email": "ee1c85c3-cfcb-df11-9b2a-001d60e938c6",
        },
    ),
)


class Effects:
    """Carry out the consequences of saves and deletes."""

    def __init__(self, database: Database, update: _Update, insert: _Insert) -> None:
        self._database = database
        self._update = update
        self._insert = insert

    def after_save(self, entity: Entity, row: StoredRow, changed: set[str], actor: "Actor", *, created: bool) -> None:
        """Follow a save; `changed` names the columns that a client set (on create) or that differ (on update)."""
        for master in _MASTERS:
            if entity.name == master.entity:
                self._numbers_to_communications(master, row, changed, actor)
                self._block_to_address(master, row, changed, actor)
            elif entity.name == master.communications:
                self._communication_saved(master, row, changed, actor, created=created)
            elif entity.name == master.addresses and row["Primary"]:
                self._primary_address_saved(master, row, actor)
        if entity.name == "Contact":
            self._full_name(row, changed)

    def after_delete(self, entity: Entity, row: StoredRow, actor: "Actor") -> None:
        """Follow a delete."""
        for master in _MASTERS:
            owner = row.get(master.foreign_key)
            if owner is None or not row.get("Primary"):
                continue
            if entity.name == master.communications:
                for column, kind in master.numbers.items():
                    if kind == row["CommunicationTypeId"]:
                        self._database.update(master.entity, owner, {column: None})
            elif entity.name == master.addresses:
                self._promote_address(master, owner, actor)

    def _numbers_to_communications(self, master: _Master, row: StoredRow, changed: set[str], actor: "Actor") -> None:
        for column in changed & set(master.numbers):
            number, kind = row[column], master.numbers[column]
            primary = self._primary_communication(master, row["Id"], kind)
            if primary is None and number:
                values = {
                    master.foreign_key: row["Id"],
                    "CommunicationTypeId": kind,
                    "Number": number,
                    "SearchNumber": _search_number(number),
                    "Primary": 1,
                }
                self._insert(master.communications, values, actor)
            elif primary is not None and not number:
                self._database.delete(master.communications, primary["Id"])
            elif primary is not None and primary["Number"] != number:
                values = {"Number": number, "SearchNumber": _search_number(number)}
                self._update(master.communications, primary["Id"], values, actor)

    def _block_to_address(self, master: _Master, row: StoredRow, changed: set[str], actor: "Actor") -> None:
        if not changed & set(_BLOCK):
            return
        block = {name: row[name] for name in _BLOCK if name in row}
        detail = self._database.schema.entities[master.addresses].columns
        block = {name: value for name, value in block.items() if name in detail}
        primary = self._primary_address(master, row["Id"])
        if primary is not None:
            if any(primary[name] != value for name, value in block.items()):
                self._update(master.addresses, primary["Id"], block, actor)
        elif any(value not in {None, ""} for value in block.values()):
            self._insert(master.addresses, {master.foreign_key: row["Id"], "Primary": 1, **block}, actor)

    def _communication_saved(
        self,
        master: _Master,
        row: StoredRow,
        changed: set[str],
        actor: "Actor",
        *,
        created: bool,
    ) -> None:
        own: dict[str, Stored] = {"SearchNumber": _search_number(row["Number"])}
        if created:
            own["Primary"] = 1
        self._database.update(master.communications, row["Id"], own)
        owner = row[master.foreign_key]
        if owner is None or not (created or row["Primary"]):
            return
        if created or "Primary" in changed:
            self._clear_siblings(master.communications, master.foreign_key, row, row["CommunicationTypeId"])
        for column, kind in master.numbers.items():
            if kind != row["CommunicationTypeId"]:
                continue
            current = self._database.get(master.entity, owner)
            if current is not None and current[column] != row["Number"]:
                self._update(master.entity, owner, {column: row["Number"]}, actor)

    def _primary_address_saved(self, master: _Master, row: StoredRow, actor: "Actor") -> None:
        owner = row[master.foreign_key]
        if owner is None:
            return
        self._clear_siblings(master.addresses, master.foreign_key, row, None)
        current = self._database.get(master.entity, owner)
        block = {name: row[name] for name in _BLOCK if name in row and current is not None and name in current}
        if current is not None and any(current[name] != value for name, value in block.items()):
            self._update(master.entity, owner, block, actor)

    def _promote_address(self, master: _Master, owner: str, actor: "Actor") -> None:
        rows = self._database.query(
            f'SELECT * FROM "{master.addresses}" WHERE "{master.foreign_key}" = ? ORDER BY "CreatedOn", "Id" LIMIT 1',
            (owner,),
        )
        if rows:
            self._database.update(master.addresses, rows[0]["Id"], {"Primary": 1})
            self._primary_address_saved(master, {**rows[0], "Primary": 1}, actor)

    def _clear_siblings(self, details: str, foreign_key: str, row: StoredRow, kind: str | None) -> None:
        same_kind = "" if kind is None else ' AND "CommunicationTypeId" = ?'
        siblings = self._database.query(
            f'SELECT "Id" FROM "{details}" WHERE "{foreign_key}" = ? AND "Id" <> ? AND "Primary" = 1{same_kind}',
            (row[foreign_key], row["Id"], *([] if kind is None else [kind])),
        )
        for sibling in siblings:
            self._database.update(details, sibling["Id"], {"Primary": 0})

    def _primary_communication(self, master: _Master, owner: str, kind: str) -> StoredRow | None:
        rows = self._database.query(
            f'SELECT * FROM "{master.communications}" WHERE "{master.foreign_key}" = ? AND "CommunicationTypeId" = ? '
            'AND "Primary" = 1 LIMIT 1',
            (owner, kind),
        )
        return rows[0] if rows else None

    def _primary_address(self, master: _Master, owner: str) -> StoredRow | None:
        rows = self._database.query(
            f'SELECT * FROM "{master.addresses}" WHERE "{master.foreign_key}" = ? AND "Primary" = 1 LIMIT 1',
            (owner,),
        )
        return rows[0] if rows else None

    def _full_name(self, row: StoredRow, changed: set[str]) -> None:
        parts = ("GivenName", "MiddleName", "Surname")
        if changed & set(parts):
            name = " ".join(row[part] for part in parts if row[part])
            if name:
                self._database.update("Contact", row["Id"], {"Name": name})
        elif "Name" in changed:
            self._database.update("Contact", row["Id"], split_name(str(row["Name"] or "")))


def split_name(name: str) -> dict[str, Stored]:
    """Return the parts of a contact's full name: the last word is the surname, the first the given name."""
    words = name.split()
    if len(words) < 2:
        return {"GivenName": None, "MiddleName": None, "Surname": name or None}
    return {"GivenName": words[0], "MiddleName": " ".join(words[1:-1]) or None, "Surname": words[-1]}


def _search_number(number: Stored) -> str:
    digits = "".join(char for char in str(number or "") if char.isdigit())
    return digits[::-1][:50]
