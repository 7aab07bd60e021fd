"""The accounts of the benchmark: as full as the mapping allows, each another one, and the tables that map their choices.

The mapping is the product's own `sales.account`, the columns and lookups are those of the stand-ins' metadata.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final

from shared.core.fingerprint import Keyring
from shared.core.mapping import ChoiceRow, ReferenceRow
from shared.core.plan import Desk
from shared.core.records import EMPTY_GUID, Side
from shared.core.rules import State, convert
from shared.systems.odata import time_text
from tests.unit.mapped_world import PARENTS, USERS, flow_context, mappings

FLOW: Final = "sales.account"
CREATIO_ID: Final = "c0000000-0000-4000-8000-000000000001"
KEYS: Final = "bench:" + "A" * 43 + "="
BEGIN: Final = datetime(2024, 1, 8, 9, 0, tzinfo=UTC)
"""When the first account was changed; each next one a second later."""
_NAMES: Final = (
    "Grenzüberschreitende Zusammenarbeit GmbH",
    "Smith & Sons (Holdings) Ltd.",
    "Société Générale d'Électricité",
    "Краснодарский завод",
    "株式会社東京商事",
    'O\'Connell "Quoted" Traders',
)
_UNSET: Final = {
    "ParentId": EMPTY_GUID,
    "UsrCreditLimit": 0,
    "UsrCreditHold": False,
    "UsrLastCampaignOn": "0001-01-01T00:00:00Z",
    "PrimaryContactId": EMPTY_GUID,
}
"""What other records or the other side decide: an account that is new has none of it (creatio.md 2.2)."""


def full_account(desk: Desk) -> dict[str, Any]:
    """Return a full account in Creatio's terms; each choice takes the first value that has a partner."""
    row: dict[str, Any] = {
        "Id": CREATIO_ID,
        "Name": _NAMES[0],
        "Code": "C-100001",
        "Phone": "+49 30 1234567",
        "AdditionalPhone": "+49 30 7654321",
        "Fax": "+49 30 999",
        "Web": "https://www.acme.example/start",
        "UsrEmail": "info@acme.example",
        "Address": "Unter den Linden 7\nc/o Reception",
        "Zip": "10117",
        "Notes": "Minutes of the meeting, item 7: everything was agreed. " * 6,
        "UsrAnnualRevenue": Decimal("1250000.5"),
        "UsrEmployees": 250,
        "UsrActive": True,
        "OwnerId": next(iter(USERS[Side.CREATIO])),
        "PrimaryContactId": PARENTS[Side.CREATIO]["bound"],
        "ParentId": PARENTS[Side.CREATIO]["bound"],
        "UsrCreditLimit": 12_500,
        "UsrCreditHold": True,
        "UsrLastCampaignOn": "2026-03-01T12:30:00Z",
    }
    columns = desk.context.entities[Side.CREATIO].columns
    labels = {str(pair.creatio) for pairs in desk.context.values.values() for pair in pairs}
    for name in desk.mapping.columns(Side.CREATIO):
        if name not in row:
            options = columns[name].options
            row[name] = next((key for key, label in options.items() if label in labels), next(iter(options)))
    return row


@cache
def desk() -> Desk:
    """Return the desk of the flow over the stand-ins' metadata."""
    everything = mappings()
    return Desk(everything, everything.flows[FLOW], flow_context(FLOW), Keyring.parse(KEYS))


def creatio_accounts(count: int, first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield that many new accounts, filled in every column that can be copied; no two are equal. `first` is the number of the first."""
    base, choices = {**full_account(desk()), **_UNSET}, {name: tuple(pairs) for name, pairs in tables().items()}
    for number in range(first, first + count):
        row = {
            **base,
            "Id": account_id(number),
            "Name": f"{_NAMES[number % len(_NAMES)]} {number}",
            "Code": f"C-{100_000 + number}",
            "Phone": f"+49 30 {1_000_000 + number}",
            "Web": f"https://www.company{number}.example/start?ref=100%25#top",
            "UsrEmail": f"info@company{number}.example",
            "Address": f"Unter den Linden {number % 300}\nc/o Reception",
            "Zip": f"{10_000 + number % 80_000}",
            "UsrAnnualRevenue": Decimal(100_000_00 + number).scaleb(-2).normalize(),
            "UsrEmployees": 1 + number % 5_000,
            "CreatedOn": time_text(changed_at(number)),
            "ModifiedOn": time_text(changed_at(number)),
            "ModifiedById": base["OwnerId"],
        }
        row.update({name: keys[number % len(keys)] for name, keys in choices.items()})
        yield row


def account_id(number: int) -> str:
    """Return the Creatio id of an account."""
    return f"c0000000-0000-4000-8000-{number:012x}"


def changed_at(number: int) -> datetime:
    """Return when an account was made, and changed last."""
    return BEGIN + timedelta(seconds=number)


@cache
def tables() -> Mapping[str, Mapping[str, Any]]:
    """Return by Creatio column what each of its values is in Dynamics: choices and owners, made by the product's own rules."""
    found: dict[str, dict[str, Any]] = {}
    for row in desk().rows:
        name = row.columns(Side.CREATIO)[0] if row.columns(Side.CREATIO) else ""
        values: Iterator[str] = iter(())
        if isinstance(row, ChoiceRow):
            values = iter(desk().context.column(Side.CREATIO, name).options)
        elif isinstance(row, ReferenceRow) and row.users:
            values = iter(USERS[Side.CREATIO])
        for value in values:
            converted = convert(row, Side.CREATIO, value, CREATIO_ID, desk().context)
            if converted.state is State.VALUE and converted.value is not None:
                found.setdefault(name, {})[value] = converted.value
    return found


def first_since(text: str) -> int:
    """Return the number of the first account that was changed at that time (UTC) or later."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    number = max((moment - BEGIN) // timedelta(seconds=1), 0)
    return number if changed_at(number) >= moment else number + 1
