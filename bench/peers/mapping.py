"""The mapping of an account that every other tool of the comparison runs: plain Python, the way its user would write it.

It gives what Tandem gives for the same account; a test compares the two. Standard library only: it runs in each tool's environment.
"""

from collections.abc import Mapping
from typing import Any

Tables = Mapping[str, Mapping[str, Any]]
"""By Creatio column what each of its values is in Dynamics."""

EMPTY_GUID = "00000000-0000-0000-0000-000000000000"
_TEXTS = {
    "Code": "accountnumber",
    "Phone": "telephone1",
    "AdditionalPhone": "telephone2",
    "Fax": "fax",
    "Web": "websiteurl",
    "UsrEmail": "emailaddress1",
    "Zip": "address1_postalcode",
    "Id": "tandem_creatioid",
}
_CHOICES = {
    "CityId": "address1_city",
    "RegionId": "address1_stateorprovince",
    "CountryId": "address1_country",
    "AddressTypeId": "address1_addresstypecode",
    "TypeId": "customertypecode",
    "IndustryId": "industrycode",
    "AccountCategoryId": "accountcategorycode",
    "OwnershipId": "ownershipcode",
}
_NAME_LENGTH, _NOTES_LENGTH = 160, 2000


def map_account(row: Mapping[str, Any], tables: Tables) -> dict[str, Any]:
    """Return the body that creates a Creatio account in Dataverse; what is empty is left out."""
    body: dict[str, Any] = {"name": _cut(row["Name"], _NAME_LENGTH), "description": _cut(row["Notes"], _NOTES_LENGTH)}
    body.update({there: row[here].strip() for here, there in _TEXTS.items()})
    body.update({there: tables[here].get(row[here]) for here, there in _CHOICES.items()})
    parts = [part.strip() for part in row["Address"].split("\n")]
    parts = [part for part in parts if part]
    lines = [*parts[:2], ", ".join(parts[2:])]
    body.update({f"address1_line{number}": line for number, line in enumerate(lines, start=1)})
    body["revenue"] = round(row["UsrAnnualRevenue"], 2) or None
    body["numberofemployees"] = row["UsrEmployees"] or None
    owner = tables["OwnerId"].get(row["OwnerId"])
    body["ownerid@odata.bind"] = f"/systemusers({owner})" if owner else None
    if not row["UsrActive"]:
        body["statecode"] = 1
    return {name: value for name, value in body.items() if value not in (None, "")}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].rstrip()
