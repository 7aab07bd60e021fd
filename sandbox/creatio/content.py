"""What a fresh stand-in holds: lookup values, currencies and their rates, countries, regions, cities, users and their contacts."""

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.creatio.database import Database
from sandbox.creatio.schema import METADATA, Schema
from sandbox.creatio.values import Stored, take_control

_SYSTEM_CONTACT = "410006e1-ca4e-4502-a9ec-e54d922d2c00"
_SHIPPED = "2021-03-01T08:00:00.0000000Z"
_USER = 4


def made_id(entity: str, name: str) -> str:
    """Return the id of a value that the stand-in brings; the same in every database."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"creatio:{entity}:{name}"))


def fill(database: Database) -> None:
    """Insert what every installation has, unless the database has it already."""
    if database.exists("Contact", _SYSTEM_CONTACT):
        return
    custom: dict[str, Any] = json.loads((METADATA / "creatio_custom.json").read_text("utf-8"))
    content: dict[str, Any] = json.loads((METADATA / "creatio_content.json").read_text("utf-8"))
    with database.transaction():
        for entity, rows in _lookup_values(database.schema, custom["values"], content["rows"]).items():
            database.insert_many(entity, [_row(database, entity, row) for row in rows])
        database.insert_many("CurrencyRate", [_row(database, "CurrencyRate", rate) for rate in _rates(database, content["rates"])])
        for entity, values in _places(custom["places"]):
            if not database.exists(entity, str(values["Id"])):
                database.insert_many(entity, [_row(database, entity, values)])
        for user in custom["users"]:
            contact = user.get("contact") or made_id("Contact", user["name"])
            given, _, family = user["full_name"].partition(" ")
            person = {
                "Id": contact,
                "Name": user["full_name"],
                "GivenName": given if family else None,
                "Surname": family or given,
                "Email": user["email"],
                "TypeId": made_id("ContactType", "Employee"),
            }
            login = {
                "Id": made_id("SysAdminUnit", user["name"]),
                "Name": user["name"],
                "SysAdminUnitTypeValue": _USER,
                "ContactId": contact,
                "Active": 1,
                "ConnectionType": 0,
                "Email": user["email"],
            }
            database.insert_many("Contact", [_row(database, "Contact", person)])
            database.insert_many("SysAdminUnit", [_row(database, "SysAdminUnit", login)])
        role: dict[str, Stored] = {
            "Id": made_id("SysAdminUnit", "All employees"),
            "Name": "All employees",
            "SysAdminUnitTypeValue": 0,
            "Active": 1,
        }
        database.insert_many("SysAdminUnit", [_row(database, "SysAdminUnit", role)])


def _row(database: Database, entity: str, values: Mapping[str, Stored]) -> dict[str, Stored]:
    stamps = {
        "CreatedOn": _SHIPPED,
        "CreatedById": _SYSTEM_CONTACT,
        "ModifiedOn": _SHIPPED,
        "ModifiedById": _SYSTEM_CONTACT,
    }
    given: Mapping[str, Stored] = {**stamps, **values}
    return {column.name: given.get(column.name) for column in database.schema.entities[entity].stored}


def _lookup_values(
    schema: Schema,
    custom: Mapping[str, list[str]],
    facts: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, list[dict[str, Stored]]]:
    """Return the values of each lookup with what is known of them: real ids where they are known, made ones for the rest."""
    found: dict[str, dict[str, str]] = {}
    for entity, values in schema.values.items():
        if entity not in {"Account", "Contact"} and "Name" in schema.entities[entity].columns:
            known = {str(row["Id"]): name for name, row in facts.get(entity, {}).items() if "Id" in row}
            found[entity] = {known.get(row_id, name): row_id for row_id, name in values.items()}
    for entity in [*custom, *facts]:
        ids = found.setdefault(entity, {})
        for name in [*custom.get(entity, ()), *facts.get(entity, ())]:
            ids.setdefault(name, made_id(entity, name))
    return {entity: [_value(schema, entity, name, i, facts) for name, i in ids.items()] for entity, ids in found.items()}


def _value(schema: Schema, entity: str, name: str, row_id: str, facts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Stored]:
    columns, known = schema.entities[entity].columns, facts.get(entity, {}).get(name, {})
    return {**{column: take_control(columns[column], value) for column, value in known.items()}, "Id": row_id, "Name": name}


def _rates(database: Database, rates: list[tuple[str, str, str | None, str]]) -> Iterator[dict[str, Stored]]:
    columns = database.schema.entities["CurrencyRate"].columns
    for currency, start, end, rate in rates:
        row_id = database.scalar('SELECT "Id" FROM "Currency" WHERE "Name" = ?', (currency,))
        given = {"StartDate": f"{start}T00:00:00Z", "EndDate": end and f"{end}T00:00:00Z", "Rate": rate, "CurrencyId": row_id}
        yield {"Id": made_id("CurrencyRate", f"{currency}/{start}"), **{n: take_control(columns[n], v) for n, v in given.items()}}


def _places(places: list[tuple[str, str, str]]) -> Iterator[tuple[str, dict[str, Stored]]]:
    for country, region, city in places:
        country_id = made_id("Country", country)
        region_id = made_id("Region", f"{country}/{region}")
        yield "Country", {"Id": country_id, "Name": country}
        yield "Region", {"Id": region_id, "Name": region, "CountryId": country_id}
        city_id = made_id("City", f"{country}/{region}/{city}")
        yield "City", {"Id": city_id, "Name": city, "CountryId": country_id, "RegionId": region_id}
