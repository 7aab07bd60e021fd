"""One organisation: its tables, rows, settings and clock, and the rows every new organisation is born with."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sandbox.control import Clock, Switches
from sandbox.dataverse import faults
from sandbox.dataverse.database import Database, Row
from sandbox.dataverse.definitions import Column, Key, Table, fixed_id, load_tables
from sandbox.dataverse.switches import Settings
from sandbox.dataverse.values import stamp

if TYPE_CHECKING:
    from sandbox.dataverse.jobs import DeleteJob

ORGANIZATION_ID = fixed_id("organization")
BUSINESS_UNIT_ID = fixed_id("businessunit")
UNIT_GROUP_ID = fixed_id("uomschedule", "Default Unit")
UNIT_ID = fixed_id("uom", "Primary Unit")
PRICE_LIST_ID = fixed_id("pricelevel", "Default Price List")
BASE_CURRENCY_ID = fixed_id("transactioncurrency", "USD")
APPLICATION_USER_ID = fixed_id("systemuser", "application")
DEFAULT_CLIENT_ID = "00000000-0000-0000-0000-00000000c11e"

_CURRENCIES = (
    ("USD", "US Dollar", "$", "1.000000000000"),
    ("EUR", "Euro", "€", "0.920000000000"),
    ("GBP", "Pound Sterling", "£", "0.790000000000"),
)
_PEOPLE = (
    ("Alicia", "Thomber", "alicia.thomber@contoso.example"),
    ("Bernd", "Krüger", "bernd.krueger@contoso.example"),
    ("Chiara", "D'Angelo", "chiara.dangelo@contoso.example"),
    ("Daisuke", "Sato", "daisuke.sato@contoso.example"),
)


_INSIGHTS = re.compile("msdyn_(lead|opportunity)?(score|grade)|msdyn_predictivescore|msdyn_opportunitykpi|msdyn_similaropportunities")
"""Columns that come with the insights solutions (dataverse.md 9, leads and opportunities)."""


@dataclass
class Organization:
    """What all operations work on; ``tables`` is replaced entry by entry when columns or keys are added."""

    database: Database
    switches: Switches[Settings]
    clock: Clock
    visible_at: dict[tuple[str, str], float] = field(default_factory=dict)
    valid_tokens_from: float = 0.0
    outdated: dict[str, list[tuple[float, Table, bool]]] = field(default_factory=dict)
    """When each change of a table was, what it was before, and whether it was tracked: caches show that for a while."""
    jobs: dict[str, "DeleteJob"] = field(default_factory=dict)
    """System jobs by id."""
    restores: list[tuple[float, int]] = field(default_factory=list)
    """When a backup was brought back, and the row version that it ends with."""
    _tables: dict[str, Table] = field(default_factory=load_tables)
    _insights: str = "on"

    @property
    def tables(self) -> dict[str, Table]:
        """Return the tables by name, with the columns of the solutions that are installed at the moment."""
        if self._insights != self.switches.current.insights:
            self._insights = self.switches.current.insights
            self._follow_insights()
        return self._tables

    @tables.setter
    def tables(self, tables: dict[str, Table]) -> None:
        self._tables, self._insights = tables, ""

    def _follow_insights(self) -> None:
        """Take the columns of the insights solutions away, or bring them back; the rows keep what stands in them."""
        for name, shipped in load_tables().items():
            coming = {key: column for key, column in shipped.columns.items() if _INSIGHTS.match(key)}
            if not coming:
                continue
            table, wanted = self._tables[name], coming if self._insights == "on" else {}
            others = {key: column for key, column in table.columns.items() if key not in coming}
            self.outdate(table)
            self._tables[name] = replace(table, columns={**others, **wanted})
            for column in wanted.values():
                self.database.add_column(table, column)

    def now(self) -> float:
        """Return the server's time in seconds since the epoch."""
        return self.clock.now().timestamp()

    def stamp(self) -> str:
        """Return the server's time as rows carry it."""
        return stamp(self.now(), fractions=self.switches.current.stored_fractions)

    def redefine(self, table: Table) -> None:
        """Put a table with other custom columns or keys in place of the old one, and keep them with the rows."""
        self.outdate(self.tables[table.name])
        self.tables[table.name] = table
        custom = [asdict(column) for column in table.columns.values() if column.custom]
        definition = json.dumps({"columns": custom, "keys": [asdict(key) for key in table.keys]})
        self.database.query("INSERT OR REPLACE INTO _definition VALUES (?, ?)", [table.name, definition])

    def outdate(self, table: Table) -> None:
        """Remember that a table was so until now."""
        tracked = table.name in self.switches.current.tracked_tables
        self.outdated.setdefault(table.name, []).append((self.now(), table, tracked))

    def shown(self, table: Table, *, fresh: bool) -> tuple[Table, bool]:
        """Return a table, and whether it is tracked, as the metadata cache shows it (dataverse.md 2)."""
        since = self.now() - self.switches.current.metadata_lag_seconds
        changes = () if fresh else self.outdated.get(table.name, ())
        late = ((before, tracked) for changed_at, before, tracked in changes if changed_at > since)
        return next(late, (table, table.name in self.switches.current.tracked_tables))

    def restore_definitions(self) -> None:
        """Take up the custom columns and keys as they were at the end of an earlier run on the same file."""
        for name, text in self.database.query("SELECT entity, definition FROM _definition"):
            kept, table = json.loads(text), self.tables[name]
            shipped = {name: column for name, column in table.columns.items() if not column.custom}
            columns = {raw["name"]: table.columns.get(raw["name"]) or _restored(raw) for raw in kept["columns"]}
            keys = tuple(Key(**{**raw, "columns": tuple(raw["columns"])}) for raw in kept["keys"])
            self.tables[name] = replace(table, columns={**shipped, **columns}, keys=keys)

    def table_of_set(self, entity_set: str) -> Table:
        """Find a table by its case-sensitive entity set name; raise the 404 of an unknown segment."""
        for table in self.tables.values():
            if table.entity_set == entity_set:
                return table
        raise faults.unknown_segment(entity_set)

    def application_user(self, client_id: str) -> str | None:
        """Return the id of the user bound to an Entra application."""
        found = self.database.query("SELECT systemuserid FROM systemuser WHERE applicationid = ?", [client_id.lower()])
        return str(found[0][0]) if found else None

    def person(self, name: str | None) -> str | None:
        """Find a user by id, full name or e-mail address; without a name the first one who is no application."""
        if name is None:
            sql, values = "applicationid IS NULL ORDER BY internalemailaddress LIMIT 1", []
        else:
            sql, values = "? IN (systemuserid, fullname, internalemailaddress)", [name]
        found = self.database.query(f"SELECT systemuserid FROM systemuser WHERE {sql}", values)
        return str(found[0][0]) if found else None

    def currency(self, currency_id: str) -> Row | None:
        """Return a currency row."""
        return self.database.get(self.tables["transactioncurrency"], currency_id)


def _restored(raw: Mapping[str, Any]) -> Column:
    options = {int(value): label for value, label in raw["options"].items()}
    return Column(**{**raw, "options": options, "targets": tuple(raw["targets"])})


def open_organization(path: str, settings: Settings, client_id: str, clock: Clock) -> Organization:
    """Open or create an organisation in a SQLite file (``:memory:`` for none); `client_id` is its application user's."""
    organization = Organization(Database(path), Switches(settings), clock)
    database = organization.database
    with database.transaction():
        organization.restore_definitions()
        for table in organization.tables.values():
            database.define(table)
        if not database.query("SELECT 1 FROM organization"):
            for name, rows in _built_in(organization, client_id).items():
                database.insert_many(organization.tables[name], rows)
    return organization


def _built_in(organization: Organization, client_id: str) -> dict[str, Sequence[Row]]:
    now = organization.stamp()
    dates: Row = {"createdon": now, "modifiedon": now}
    state: Row = {"statecode": 0, "statuscode": 1}
    application: dict[str, Any] = {
        "systemuserid": APPLICATION_USER_ID,
        "applicationid": client_id.lower(),
        "fullname": "# Tandem Integration",
        "lastname": "Integration",
        "firstname": "# Tandem",
        "accessmode": 4,
    }
    people: list[dict[str, Any]] = [
        {
            "systemuserid": fixed_id("systemuser", email),
            "firstname": first,
            "lastname": last,
            "fullname": f"{first} {last}",
            "internalemailaddress": email,
            "domainname": email,
            "accessmode": 0,
        }
        for first, last, email in _PEOPLE
    ]
    unit: Row = {"businessunitid": BUSINESS_UNIT_ID}
    users = [{**user, **unit, "isdisabled": 0, "organizationid": ORGANIZATION_ID, **dates} for user in (application, *people)]
    return {
        "organization": [
            {
                "organizationid": ORGANIZATION_ID,
                "name": "contoso",
                "basecurrencyid": BASE_CURRENCY_ID,
                "expirechangetrackingindays": 7,
                **dates,
            },
        ],
        "businessunit": [{**unit, "name": "contoso", **dates}],
        "team": [{"teamid": fixed_id("team", "contoso"), "name": "contoso", **unit, **dates}],
        "systemuser": users,
        **_catalog(dates),
        "transactioncurrency": [
            {
                "transactioncurrencyid": fixed_id("transactioncurrency", code),
                "isocurrencycode": code,
                "currencyname": name,
                "currencysymbol": symbol,
                "currencyprecision": 2,
                "exchangerate": rate,
                "organizationid": ORGANIZATION_ID,
                **state,
                **dates,
            }
            for code, name, symbol, rate in _CURRENCIES
        ],
    }


def _catalog(dates: Row) -> dict[str, Sequence[Row]]:
    """Build what a new organisation has to sell with: a unit group with its base unit, and a price list in the base currency."""
    owned: Row = {"organizationid": ORGANIZATION_ID, **dates}
    group: Row = {"uomscheduleid": UNIT_GROUP_ID, "name": "Default Unit", "baseuomname": "Primary Unit", "statecode": 0, "statuscode": 1}
    unit: Row = {"uomid": UNIT_ID, "name": "Primary Unit", "uomscheduleid": UNIT_GROUP_ID, "quantity": "1.00000", "isschedulebaseuom": 1}
    prices: Row = {"pricelevelid": PRICE_LIST_ID, "name": "Default Price List", "statecode": 0, "statuscode": 100001}
    money: Row = {"transactioncurrencyid": BASE_CURRENCY_ID, "exchangerate": "1.000000000000"}
    return {"uomschedule": [{**group, **owned}], "uom": [{**unit, **owned}], "pricelevel": [{**prices, **money, **owned}]}
