"""People for the seed: contacts of the seeded accounts, some known in one system only, some in both, with names from everywhere."""

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from sandbox.control_client import Row

_NAMESPACE: Final = uuid.UUID("c0117ac7-7a6e-5d5c-8b9e-2f6f0a1b7c12")
_NAMES: Final = (
    ("Siobhán", "", "O'Neill"),
    ("Jean-Luc", "", "d'Alembert"),
    ("María", "Fernanda", "Ibáñez"),
    ("Jürgen", "", "Größmann"),
    ("Анна", "Сергеевна", "Иванова"),
    ("Γιώργος", "", "Παπαδόπουλος"),
    ("محمد", "علي", "الحسن"),
    ("שרה", "", "לוי"),
    ("美咲", "", "髙橋"),
    ("", "", "山田太郎"),
    ("Zoe\N{COMBINING ACUTE ACCENT}", "", "Le\N{COMBINING GRAVE ACCENT}vre"),
    ("Ann-Kathrin", "Luise", "Weißhaupt"),
    ("Bob", "", "Smith & Wesson"),
    ("Noël", "", "Garçon"),
    ("Łukasz", "", "Żółć"),
    ("Nguyễn", "Thị", "Hương"),
    ("Grace", "M.", "Fairbanks"),
    ("", "", "Cher"),
    ("\N{ROCKET}", "", "Emoji"),
    ("Ole", "", "Ødegård"),
)
_JOBS: Final = ("Buyer", "Head of Purchasing", "CFO", "Geschäftsführerin", "Directeur commercial", "購買部長", "R&D <Lead> 100%")
_SALUTATIONS: Final = ("Dr.", "Mr.", "Mrs.", "Ms.", "Prof.")
_GENDERS: Final = {"Male": 1, "Female": 2}
_ADDRESS_TYPES: Final = {"Legal": 1, "Shipping": 2, "Business": 3, "Work": 4}
_BIRTHDAYS: Final = (date(1931, 12, 31), date(1952, 2, 29), date(1969, 7, 20), date(2000, 2, 29), date(1984, 3, 25))
_FLAGS: Final = {"DoNotUseEmail": "donotemail", "DoNotUseCall": "donotphone", "DoNotUseFax": "donotfax", "DoNotUseMail": "donotpostalmail"}


@dataclass(frozen=True)
class Home:
    """An account as a contact's home: its number, on which sides it is, its place in both systems' terms, its postal code."""

    number: int
    in_creatio: bool
    in_dynamics: bool
    place_ids: tuple[str, str, str] | None
    place_names: tuple[str, str, str] | None
    zip: str


@dataclass(frozen=True)
class Contact:
    """One person, in nobody's terms; empty texts and None mean that nobody filled it in."""

    number: int
    home: Home | None
    name: tuple[str, str, str]
    in_creatio: bool = True
    in_dynamics: bool = True
    email: str = ""
    phone: str = ""
    mobile: str = ""
    home_phone: str = ""
    job: str = ""
    salutation: str = ""
    gender: str = ""
    birthday: date | None = None
    address: str = ""
    address_type: str = ""
    flags: tuple[bool, ...] = (False,) * 4
    owner: str = ""
    notes: str = ""
    active: bool = True

    @property
    def full_name(self) -> str:
        """Return the name as Creatio writes it."""
        return " ".join(part for part in self.name if part)


def people(rng: random.Random, homes: Sequence[Home], owners: Sequence[str], number: int) -> list[Contact]:
    """Make so many people; each works for an account that is on the sides on which the person is, or for none."""
    return [_person(rng, rng.choice(homes) if rng.random() < 0.9 else None, owners, one) for one in range(number)]


def _person(rng: random.Random, home: Home | None, owners: Sequence[str], number: int) -> Contact:
    first, middle, last = rng.choice(_NAMES)
    in_creatio, in_dynamics = (home.in_creatio, home.in_dynamics) if home else (number % 2 == 0, number % 2 == 1)
    if in_creatio and in_dynamics and number % 3:
        in_creatio, in_dynamics = number % 3 == 1, number % 3 == 2

    def maybe(share: float, make: Callable[[], Any], otherwise: Any) -> Any:
        return make() if rng.random() < share else otherwise

    return Contact(
        number,
        home,
        (first, middle, f"{last} {number}"),  # a number keeps namesakes apart, so that every pair is found for sure
        in_creatio,
        in_dynamics,
        email=_email(rng, number, always=in_creatio and in_dynamics),
        phone=maybe(0.7, lambda: f"+49 30 {rng.randint(100000, 999999)}", ""),
        mobile=maybe(0.5, lambda: f"0049 (170) {rng.randint(1000000, 9999999)}", ""),
        home_phone=maybe(0.2, lambda: f"{rng.randint(20, 99)}.{rng.randint(1000, 9999)}.{rng.randint(10, 99)} (evenings)", ""),
        job=maybe(0.7, lambda: rng.choice(_JOBS), ""),
        salutation=maybe(0.5, lambda: rng.choice(_SALUTATIONS), ""),
        gender=maybe(0.5, lambda: rng.choice(list(_GENDERS)), ""),
        birthday=maybe(0.5, lambda: rng.choice(_BIRTHDAYS), None),
        address=maybe(0.4, lambda: f"Floor {rng.randint(1, 30)}\nDoor {number}", ""),
        address_type=maybe(0.3, lambda: rng.choice(list(_ADDRESS_TYPES)), ""),
        flags=tuple(rng.random() < 0.15 for _ in _FLAGS),
        owner=maybe(0.7, lambda: rng.choice(list(owners)), ""),
        notes=maybe(0.3, lambda: f"Met at the fair.\nLikes 'quotes' & \"more\" #{number}", ""),
        active=rng.random() < 0.95,
    )


def _email(rng: random.Random, number: int, *, always: bool) -> str:
    """Make an address; some people share a mailbox, and only their names tell them apart; some have none, unless it is needed."""
    if not always and rng.random() < 0.3:
        return ""
    return "team@shared.example" if rng.random() < 0.1 else f"person{number}@example.com"


def differing(contacts: Sequence[Contact]) -> tuple[list[Contact], list[Contact]]:
    """Return what each side knows: of people on both sides, one side lacks some facts, never two different ones."""
    left, right = [], []
    for contact in contacts:
        both = contact.in_creatio and contact.in_dynamics
        if contact.in_creatio:
            left.append(replace(contact, phone="", job="") if both and contact.number % 2 else contact)
        if contact.in_dynamics:
            respelt = replace(contact, phone=contact.phone.replace(" ", "-"), birthday=None, notes="")
            right.append(respelt if both and not contact.number % 2 else contact)
    return left, right


def contact_id(side: str, number: int) -> str:
    """Return the id of a seeded person on a side."""
    return str(uuid.uuid5(_NAMESPACE, f"{side}/{number}"))


def creatio_row(
    contact: Contact, account_id: Callable[[str, int], str], lookups: Mapping[str, Mapping[str, str]], owners: Mapping[str, str]
) -> Row:
    """Return a person as Creatio stores one."""
    home = contact.home
    city, region, country = home.place_ids if home and home.place_ids else (None, None, None)
    return {
        "Id": contact_id("creatio", contact.number),
        "Name": contact.full_name,
        "TypeId": lookups["ContactType"]["Contact person"],
        "AccountId": account_id("creatio", home.number) if home else None,
        "Email": contact.email,
        "Phone": contact.phone,
        "MobilePhone": contact.mobile,
        "HomePhone": contact.home_phone,
        "JobTitle": contact.job,
        "SalutationTypeId": lookups["ContactSalutationType"].get(contact.salutation),
        "GenderId": lookups["Gender"].get(contact.gender),
        "BirthDate": f"{contact.birthday.isoformat()}T00:00:00Z" if contact.birthday else None,
        "Address": contact.address,
        "Zip": home.zip if home else "",
        "CityId": city,
        "RegionId": region,
        "CountryId": country,
        "AddressTypeId": lookups["AddressType"].get(contact.address_type),
        **dict(zip(_FLAGS, contact.flags, strict=True)),
        "OwnerId": owners.get(contact.owner),
        "Notes": contact.notes,
        "UsrActive": contact.active,
    }


def dynamics_row(contact: Contact, account_id: Callable[[str, int], str], owners: Mapping[str, str]) -> Row:
    """Return a person as Dataverse stores one."""
    home = contact.home
    city, region, country = home.place_names if home and home.place_names else (None, None, None)
    lines = [*contact.address.split("\n"), "", ""] if contact.address else ["", "", ""]
    return {
        "contactid": contact_id("dynamics", contact.number),
        **{name: part or None for name, part in zip(("firstname", "middlename", "lastname"), contact.name, strict=True)},
        **({"parentcustomerid": account_id("dynamics", home.number)} if home else {}),
        "emailaddress1": contact.email or None,
        "telephone1": contact.phone or None,
        "mobilephone": contact.mobile or None,
        "telephone2": contact.home_phone or None,
        "jobtitle": contact.job or None,
        "salutation": contact.salutation or None,
        "gendercode": _GENDERS.get(contact.gender),
        "birthdate": contact.birthday.isoformat() if contact.birthday else None,
        **{f"address1_line{place}": line or None for place, line in enumerate(lines[:3], 1)},
        "address1_postalcode": (home.zip if home else "") or None,
        "address1_city": city,
        "address1_stateorprovince": region,
        "address1_country": country,
        "address1_addresstypecode": _ADDRESS_TYPES.get(contact.address_type),
        **dict(zip(_FLAGS.values(), contact.flags, strict=True)),
        **({"ownerid": owner} if (owner := owners.get(contact.owner)) else {}),
        "description": contact.notes or None,
        "statecode": 0 if contact.active else 1,
    }
