"""Fills both stand-ins with believable accounts and contacts: some in one system only, some in both, most with something awkward.

The same `seed` makes the same accounts. Nothing in it can't be synced: it is hard, but valid.
"""

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sandbox.control_client import Control, Row
from sandbox.seed_contacts import Home, contact_id, creatio_row, differing, dynamics_row, people
from sandbox.seed_words import COUNTRIES, LANGUAGES, NOTES

_NAMESPACE: Final = uuid.UUID("5a5e1f3e-7a6e-5d5c-8b9e-2f6f0a1b7c11")
_START: Final = datetime(2024, 1, 8, 9, 0, tzinfo=UTC)
_SHARES: Final = {"creatio": 0.5, "dynamics": 0.23}
_TYPES: Final = {"Customer": 3, "Partner": 5, "Competitor": 1, "Supplier": 10, "Vendor": 11, "Prospect": 8, "Reseller": 9, "Press": 7}
_INDUSTRIES: Final = {"Accounting": 1, "Consulting": 7, "Financial": 16, "Insurance": 20, "Wholesale": 33, "Transportation": 30}
_CATEGORIES: Final = {"Preferred Customer": 1, "Standard": 2}
_OWNERSHIPS: Final = {"Public": 1, "Private": 2, "Subsidiary": 3, "Other": 4}
_ADDRESS_TYPES: Final = {"Legal": 1, "Shipping": 2, "Business": 3, "Work": 4}
_SALES_PEOPLE: Final = (
    ("Ada", "Lovelace", "ada"),
    ("Grace", "Hopper", "grace"),
    ("Linus", "Pauling", "linus"),
    ("Barbara", "Liskov", "barbara"),
)


@dataclass(frozen=True)
class Place:
    """A city of Creatio's list with its region and country: ids and names."""

    ids: tuple[str, str, str]
    names: tuple[str, str, str]


@dataclass(frozen=True)
class Account:
    """One company, in nobody's terms. Empty texts and None mean that nobody filled it in; `lines` is the address without the place."""

    number: int
    place: Place | None
    name: str
    zip: str = ""
    code: str = ""
    phones: tuple[str, str, str] = ("", "", "")
    web: str = ""
    email: str = ""
    lines: tuple[str, ...] = ()
    address_type: str = ""
    type: str = ""
    industry: str = ""
    category: str = ""
    ownership: str = ""
    owner: str = ""
    parent: int | None = None
    revenue: Decimal | None = None
    employees: int | None = None
    notes: str = ""
    active: bool = True
    credit_limit: Decimal | None = None
    credit_hold: bool = False
    campaign: datetime | None = None


@dataclass
class World:
    """What both stand-ins hold before the accounts come: places, lookup ids by object and name, owners by e-mail."""

    places: list[Place]
    lookups: Mapping[str, Mapping[str, str]]
    owners: Mapping[str, Mapping[str, str]]
    names: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Seeded:
    """How many accounts there are now: in Creatio only, in Dynamics only, in both; and how many people altogether."""

    creatio_only: int
    dynamics_only: int
    both: int
    contacts: int

    @property
    def accounts(self) -> int:
        """Return the number of companies, each counted once."""
        return self.creatio_only + self.dynamics_only + self.both


async def seed(creatio_url: str, dataverse_url: str, *, accounts: int = 520, contacts: int = 300, seed: int = 7) -> Seeded:
    """Fill both stand-ins, found at their addresses, with this many companies and people."""
    creatio, dataverse = Control("creatio", creatio_url), Control("dataverse", dataverse_url)
    try:
        return await _fill(creatio, dataverse, (accounts, contacts), random.Random(seed))  # noqa: S311 - the same data in every run, no secret
    finally:
        await creatio.close()
        await dataverse.close()


async def _fill(creatio: Control, dataverse: Control, numbers: tuple[int, int], rng: random.Random) -> Seeded:
    accounts, contacts = numbers
    world = await _world(creatio, dataverse)
    only = {side: round(accounts * share) for side, share in _SHARES.items()}
    in_creatio = [_company(world, rng, number) for number in range(only["creatio"])]
    in_creatio = [*_hard_names(in_creatio), *in_creatio[len(_HARD_NAMES) :]]
    in_dynamics = [_for_dynamics(world, rng, _company(world, rng, 10_000 + number)) for number in range(only["dynamics"])]
    pairs = [_pair(world, rng, 20_000 + number) for number in range(accounts - sum(only.values()))]
    left, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    in_creatio, left = _with_parents(rng, in_creatio, left)
    in_dynamics, right = _with_parents(rng, in_dynamics, right)
    homes = [*_homes(in_creatio, {"creatio"}), *_homes(in_dynamics, {"dynamics"}), *_homes(right, {"creatio", "dynamics"})]
    everyone = people(rng, homes, sorted(world.owners["creatio"]), contacts)
    known = dict(zip(("creatio", "dynamics"), differing(everyone), strict=True))
    primary = {side: {one.home.number: one.number for one in known[side] if one.home and one.number % 4 == 0} for side in known}
    await creatio.seed("Account", [_creatio_row(world, account, primary["creatio"]) for account in (*left, *in_creatio)])
    await dataverse.seed("account", [_dynamics_row(world, account, primary["dynamics"]) for account in (*right, *in_dynamics)])
    await creatio.seed("Contact", [creatio_row(one, _id, world.lookups, world.owners["creatio"]) for one in known["creatio"]])
    await dataverse.seed("contact", [dynamics_row(one, _id, world.owners["dynamics"]) for one in known["dynamics"]])
    return Seeded(len(in_creatio), len(in_dynamics), len(pairs), len(everyone))


def _homes(accounts: list[Account], sides: set[str]) -> list[Home]:
    return [
        Home(
            one.number,
            in_creatio="creatio" in sides,
            in_dynamics="dynamics" in sides,
            place_ids=one.place.ids if one.place else None,
            place_names=one.place.names if one.place else None,
            zip=one.zip,
        )
        for one in accounts
    ]


async def _world(creatio: Control, dataverse: Control) -> World:
    """Read the places, lookups and users that are there, and give the sales people a user in Dynamics too."""
    countries = {row["Id"]: row["Name"] for row in await creatio.rows("Country")}
    regions = {row["Id"]: row["Name"] for row in await creatio.rows("Region")}
    places = [
        Place((city["Id"], city["RegionId"], city["CountryId"]), (city["Name"], regions[city["RegionId"]], countries[city["CountryId"]]))
        for city in await creatio.rows("City")
        if city["RegionId"] in regions and countries.get(city["CountryId"]) in COUNTRIES
    ]
    accounts = ("AccountType", "AccountIndustry", "AccountCategory", "AccountOwnership", "AddressType")
    objects = (*accounts, "ContactType", "ContactSalutationType", "Gender")
    lookups = {name: {row["Name"]: row["Id"] for row in await creatio.rows(name)} for name in objects}
    await dataverse.seed("systemuser", [_system_user(*person) for person in _SALES_PEOPLE])
    for user in await creatio.rows("Contact"):  # Creatio's own users are employees, and stay there
        await creatio.edit("Contact", user["Id"], {"TypeId": lookups["ContactType"]["Employee"]})
    contacts = {row["Email"]: row["Id"] for row in await creatio.rows("Contact") if row["Email"]}
    users = {row["internalemailaddress"]: row["systemuserid"] for row in await dataverse.rows("systemuser") if row["internalemailaddress"]}
    return World(places, lookups, {"creatio": contacts, "dynamics": users})


def _system_user(first: str, last: str, login: str) -> Row:
    email = f"{login}@tandem.example"
    user_id = str(uuid.uuid5(_NAMESPACE, email))
    names = {"firstname": first, "lastname": last, "fullname": f"{first} {last}"}
    return {"systemuserid": user_id, **names, "internalemailaddress": email, "domainname": email, "accessmode": 0, "isdisabled": False}


def _digits(rng: random.Random, pattern: str) -> str:
    return "".join(str(rng.randint(1, 9)) if char == "#" else char for char in pattern)


def _company(world: World, rng: random.Random, number: int) -> Account:
    """Make a company; each of its fields is sometimes empty, as in life."""
    place = rng.choice(world.places)
    country = COUNTRIES[place.names[2]]
    language = LANGUAGES[country.language]
    domain = f"company{number}.{country.domain}.example"

    def maybe(share: float, make: Callable[[], Any], otherwise: Any) -> Any:
        return make() if rng.random() < share else otherwise

    return Account(
        number,
        maybe(0.93, lambda: place, None),
        _fresh_name(world, rng, country.language),
        zip=_digits(rng, country.zip),
        code=maybe(0.7, lambda: f"C-{100_000 + number}", ""),
        phones=_phones(rng, country.dial),
        web=maybe(0.6, lambda: f"https://www.{domain}/start?lang={country.domain}&ref=100%25#top", ""),
        email=maybe(0.7, lambda: f"info@{domain}" if rng.random() < 0.9 else "office@shared.example", ""),
        lines=tuple(_digits(rng, line) for line in rng.sample(language.streets, rng.randint(1, 2))),
        address_type=maybe(0.5, lambda: rng.choice(list(_ADDRESS_TYPES)), ""),
        type=maybe(0.85, lambda: rng.choice(list(_TYPES)), ""),
        industry=maybe(0.7, lambda: rng.choice(list(_INDUSTRIES)), ""),
        category=maybe(0.5, lambda: rng.choice(list(_CATEGORIES)), ""),
        ownership=maybe(0.5, lambda: rng.choice(list(_OWNERSHIPS)), ""),
        owner=maybe(0.8, lambda: f"{rng.choice(_SALES_PEOPLE)[2]}@tandem.example", ""),
        revenue=maybe(0.6, lambda: Decimal(rng.randint(1_000_00, 90_000_000_00)).scaleb(-2), None),
        employees=maybe(0.6, lambda: rng.randint(1, 5_000), None),
        notes=maybe(0.4, lambda: rng.choice(NOTES), ""),
        active=rng.random() < 0.93,
    )


def _fresh_name(world: World, rng: random.Random, language_name: str) -> str:
    language = LANGUAGES[language_name]
    name = " ".join((rng.choice(language.stems), rng.choice(language.trades), rng.choice(language.forms)))
    serial = 2
    unique = name
    while unique.casefold() in world.names:
        unique, serial = f"{name} {serial}", serial + 1
    world.names.add(unique.casefold())
    return unique


def _phones(rng: random.Random, dial: str) -> tuple[str, str, str]:
    spellings = (f"+{dial} ## ### ####", f"+{dial}-##-#######", f"+{dial} (##) ### ## ##", f"00{dial}/## #######", "")
    main, second, fax = (_digits(rng, rng.choice(spellings)) for _ in range(3))
    return main, second if rng.random() < 0.4 else "", fax if rng.random() < 0.3 else ""


def _spelt_otherwise(phone: str) -> str:
    """Write the same number in another way."""
    return phone.replace(" ", "-") if " " in phone else phone.replace("-", " ")


_HARD_NAMES: Final = (
    "Ampersand & Sons <import/export> 100% #1 \"Quoted\" 'single' \\back\\slash",
    "O'Neill's; DROP TABLE Account; -- Ltd",
    "Emoji \N{ROCKET} Rockets \N{FAMILY}\N{FLAG IN HOLE} GmbH",
    "Ends at the cut " + "x" * 143 + "\N{ROCKET}" + "y" * 40,
    "Gesellschaft zur Förderung der grenzüberschreitenden Zusammenarbeit mittelständischer Unternehmen " + "ä" * 152,
    "e\N{COMBINING ACUTE ACCENT}crit en deux signes SARL",
    "مؤسسة Mixed עברית Directions 株式会社",
)


def _hard_names(companies: list[Account]) -> list[Account]:
    """Give the first companies awkward names, and the notes that go past what Dynamics can hold."""
    hard = [replace(company, name=name) for company, name in zip(companies, _HARD_NAMES, strict=False)]
    long_notes = "Minutes of the meeting, item 7: everything was agreed.\n" * 100
    hard[0] = replace(hard[0], notes=long_notes[:4_999] + "!")
    hard[1] = replace(hard[1], notes="n" * 1_999 + "\N{ROCKET}" + "after the cut" * 10)
    hard[2] = replace(hard[2], lines=("c/o Reception", "Building 7, 3rd floor", "Industrial Estate North", "Gate B"))
    return hard


def _for_dynamics(world: World, rng: random.Random, account: Account) -> Account:
    """Add what only Dynamics decides; some accounts belong to somebody who does not work in Creatio."""
    # Of two cities with one name Creatio's list can't tell which is meant, so that only Creatio's own accounts lie there.
    while account.place is not None and account.place.names[0] == "Portland":
        account = replace(account, place=rng.choice(world.places))
    stranger = rng.choice([email for email in world.owners["dynamics"] if not email.endswith("@tandem.example")])
    return replace(
        account,
        owner=account.owner if rng.random() < 0.8 else stranger,
        credit_limit=Decimal(rng.randint(1, 400) * 250) if rng.random() < 0.5 else None,
        credit_hold=rng.random() < 0.1,
        campaign=_START + timedelta(days=rng.randint(1, 500), seconds=rng.randint(0, 80_000)) if rng.random() < 0.3 else None,
    )


def _pair(world: World, rng: random.Random, number: int) -> tuple[Account, Account]:
    """Make one company as both systems know it: found by its number, or by name and postal code."""
    company = _for_dynamics(world, rng, _company(world, rng, number))
    left = replace(company, credit_limit=None, credit_hold=False, campaign=None)
    right = replace(company, phones=(_spelt_otherwise(company.phones[0]), *company.phones[1:]))
    if number % 2:
        left = replace(left, code=f"C-{100_000 + number}")
        right = replace(right, code=left.code, name=company.name if rng.random() < 0.7 else f"{company.name} (old name)")
    else:
        left, right = replace(left, code=company.code), replace(right, code="")
    kind = number % 5
    if kind == 1:
        right = replace(right, notes="Known for years.", employees=(company.employees or 10) + 5)
    elif kind == 2:
        right = replace(right, web="", email="", industry="", revenue=None, notes="")
    elif kind == 3:
        left = replace(left, phones=("", "", ""), type="", ownership="", employees=None, owner="")
    elif kind == 4:
        right = replace(right, email=company.email.upper(), lines=(*company.lines[:1], "2nd floor"))
    return left, right


def _with_parents(rng: random.Random, alone: list[Account], paired: list[Account]) -> tuple[list[Account], list[Account]]:
    """Put a fifth of the accounts under one that comes before it, so that trees grow and no circle closes."""
    everyone = [*paired, *alone]
    placed = [
        replace(account, parent=rng.choice(everyone[:index]).number) if index and account.number % 5 == 0 else account
        for index, account in enumerate(everyone)
    ]
    return placed[len(paired) :], placed[: len(paired)]


def _id(side: str, number: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{side}/{number}"))


def _moment(account: Account) -> datetime:
    return _START + timedelta(minutes=account.number % 9_973)


def _creatio_row(world: World, account: Account, primary: Mapping[int, int]) -> Row:
    city, region, country = account.place.ids if account.place else (None, None, None)
    stamp = _moment(account).isoformat().replace("+00:00", "Z")
    chosen = {
        "TypeId": ("AccountType", account.type),
        "IndustryId": ("AccountIndustry", account.industry),
        "AccountCategoryId": ("AccountCategory", account.category),
        "OwnershipId": ("AccountOwnership", account.ownership),
        "AddressTypeId": ("AddressType", account.address_type),
    }
    return {
        "Id": _id("creatio", account.number),
        "Name": account.name,
        "Code": account.code,
        "Zip": account.zip,
        "Address": "\n".join(account.lines),
        **dict(zip(("Phone", "AdditionalPhone", "Fax"), account.phones, strict=True)),
        "Web": account.web,
        "UsrEmail": account.email,
        "Notes": account.notes,
        "CityId": city,
        "RegionId": region,
        "CountryId": country,
        **{column: world.lookups[lookup].get(name) for column, (lookup, name) in chosen.items()},
        "OwnerId": world.owners["creatio"].get(account.owner),
        "ParentId": None if account.parent is None else _id("creatio", account.parent),
        "PrimaryContactId": contact_id("creatio", primary[account.number]) if account.number in primary else None,
        "UsrAnnualRevenue": None if account.revenue is None else str(account.revenue),
        "UsrEmployees": account.employees,
        "UsrActive": account.active,
        "CreatedOn": stamp,
        "ModifiedOn": stamp,
    }


def _dynamics_row(world: World, account: Account, primary: Mapping[int, int]) -> Row:
    city, region, country = account.place.names if account.place else (None, None, None)
    stamp = _moment(account).isoformat().replace("+00:00", "Z")
    lines = [line or None for line in (*account.lines, "", "")][:3]
    return {
        "accountid": _id("dynamics", account.number),
        "name": account.name,
        "accountnumber": account.code or None,
        "address1_postalcode": account.zip,
        **{name: phone or None for name, phone in zip(("telephone1", "telephone2", "fax"), account.phones, strict=True)},
        "websiteurl": account.web or None,
        "emailaddress1": account.email or None,
        "description": account.notes or None,
        **{f"address1_line{number}": line for number, line in enumerate(lines, 1)},
        "address1_city": city,
        "address1_stateorprovince": region,
        "address1_country": country,
        "address1_addresstypecode": _ADDRESS_TYPES.get(account.address_type),
        "customertypecode": _TYPES.get(account.type),
        "industrycode": _INDUSTRIES.get(account.industry),
        "accountcategorycode": _CATEGORIES.get(account.category),
        "ownershipcode": _OWNERSHIPS.get(account.ownership),
        **({"ownerid": owner} if (owner := world.owners["dynamics"].get(account.owner)) else {}),
        "parentaccountid": None if account.parent is None else _id("dynamics", account.parent),
        "primarycontactid": contact_id("dynamics", primary[account.number]) if account.number in primary else None,
        "revenue": None if account.revenue is None else float(account.revenue),
        "numberofemployees": account.employees,
        "statecode": 0 if account.active else 1,
        "creditlimit": None if account.credit_limit is None else float(account.credit_limit),
        "creditonhold": account.credit_hold,
        "lastusedincampaign": account.campaign.isoformat().replace("+00:00", "Z") if account.campaign else None,
        "createdon": stamp,
        "modifiedon": stamp,
    }
