"""Tables, columns and alternate keys as metadata: read from ``sandbox/metadata/dataverse.json``, extended at run time."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

_METADATA = Path(__file__).parent.parent / "metadata" / "dataverse.json"
_NAMESPACE = uuid.UUID("6f0a3a0e-0c0d-5b7e-9d53-0d1f5a1e77a1")

LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
TEXTS = frozenset({"String", "Memo"})
MULTI = "MultiSelectPicklist"
CHOICES = frozenset({"Picklist", "State", "Status"})


def fixed_id(*parts: str) -> str:
    """Derive the id of a metadata item or a built-in row, the same in every run."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


@dataclass(frozen=True)
class Column:
    """One column as the platform knows it; a lookup's ``navigation`` maps target table to navigation property."""

    name: str
    schema_name: str
    type: str
    creatable: bool = True
    updatable: bool = True
    required: str = "none"
    max_length: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    precision: int | None = None
    options: Mapping[int, str] = field(default_factory=dict)
    states: Mapping[int, int] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    navigation: Mapping[str, str] = field(default_factory=dict)
    custom: bool = False
    base_of: str | None = None
    default: int | None = None
    format: str | None = None
    """How a time is shown; says nothing about the wire (dataverse.md 9)."""

    @property
    def lookup(self) -> bool:
        """Tell whether the column refers to rows of other tables."""
        return self.type in LOOKUPS

    @property
    def polymorphic(self) -> bool:
        """Tell whether the column can refer to more than one table, so that the target is stored beside it."""
        return len(self.targets) > 1

    @property
    def wire_name(self) -> str:
        """Name the property of the column in JSON: ``_x_value`` for lookups (dataverse.md 3)."""
        return f"_{self.name}_value" if self.lookup else self.name

    @property
    def stored(self) -> tuple[str, ...]:
        """Name the SQL columns that hold it."""
        return (self.name, f"{self.name}__type") if self.polymorphic else (self.name,)

    def reference(self, table: str, row_id: str) -> dict[str, str | int | float | None]:
        """Return what a row stores that refers to a row of a table by this lookup."""
        stored: dict[str, str | int | float | None] = {self.name: row_id}
        return stored | {f"{self.name}__type": table} if self.polymorphic else stored


@dataclass(frozen=True)
class Key:
    """An alternate key; it can be used once its index is ``Active`` (dataverse.md 10)."""

    name: str
    schema_name: str
    columns: tuple[str, ...]
    status: str = "Active"
    active_at: float = 0.0


@dataclass(frozen=True)
class Table:
    """One table: names, columns, alternate keys."""

    name: str
    schema_name: str
    entity_set: str
    primary_id: str
    primary_name: str
    ownership: str
    columns: Mapping[str, Column]
    keys: tuple[Key, ...] = ()

    @cached_property
    def by_wire_name(self) -> Mapping[str, Column]:
        """Map JSON property names to columns."""
        return {column.wire_name: column for column in self.columns.values()}

    @cached_property
    def by_navigation(self) -> Mapping[str, tuple[tuple[Column, str], ...]]:
        """Map navigation property names to the column and the tables behind them (``ownerid`` has two)."""
        found: dict[str, tuple[tuple[Column, str], ...]] = {}
        for column in self.columns.values():
            for target, name in column.navigation.items():
                found[name] = (*found.get(name, ()), (column, target))
        return found

    @property
    def has_money(self) -> bool:
        """Tell whether rows carry money, hence a currency and an exchange rate."""
        currency = self.columns.get("transactioncurrencyid")
        return "exchangerate" in self.columns and currency is not None and currency.lookup

    def with_column(self, column: Column) -> "Table":
        """Return the table with one more column."""
        return replace(self, columns={**self.columns, column.name: column})

    def with_keys(self, keys: tuple[Key, ...]) -> "Table":
        """Return the table with other alternate keys."""
        return replace(self, keys=keys)


_COLLECTIONS = {
    ("contact", "parentcustomerid", "account"): "contact_customer_accounts",
    ("contact", "parentcustomerid", "contact"): "contact_customer_contacts",
    ("account", "parentaccountid", "account"): "account_parent_account",
    ("account", "primarycontactid", "contact"): "account_primary_contact",
    ("opportunityproduct", "opportunityid", "opportunity"): "product_opportunities",
    ("quote", "opportunityid", "opportunity"): "opportunity_quotes",
    ("salesorder", "opportunityid", "opportunity"): "opportunity_sales_orders",
    ("invoice", "opportunityid", "opportunity"): "opportunity_invoices",
    ("quotedetail", "quoteid", "quote"): "quote_details",
    ("salesorderdetail", "salesorderid", "salesorder"): "order_details",
    ("invoicedetail", "invoiceid", "invoice"): "invoice_details",
}


def collection_name(table: Table, column: Column, target: str) -> str:
    """Name the navigation property that leads from a row to the rows that refer to it by a lookup."""
    return _COLLECTIONS.get((table.name, column.name, target), f"{target}_{table.name}_{column.name}")


def collections(tables: Mapping[str, Table], table: Table) -> dict[str, tuple[Table, Column]]:
    """Map a table's collection-valued navigation properties to the table and the lookup behind each."""
    return {
        collection_name(other, column, table.name): (other, column)
        for other in tables.values()
        for column in other.columns.values()
        if table.name in column.navigation
    }


def _column(name: str, raw: Mapping[str, Any]) -> Column:
    targets = tuple(raw.get("targets", ()))
    lookup = raw["type"] in LOOKUPS
    navigation = dict(raw.get("navigation", {}))
    if lookup and not navigation:
        navigation = {target: name if len(targets) == 1 else f"{name}_{target}" for target in targets}
    options = {int(value): label for value, label in raw.get("options", {}).items()}
    return Column(
        name=name,
        schema_name=raw.get("schema_name", name),
        type=raw["type"],
        creatable=raw.get("create", False),
        updatable=raw.get("update", False),
        required=raw.get("required", "none"),
        max_length=raw.get("max_length"),
        minimum=raw.get("min"),
        maximum=raw.get("max"),
        precision=raw.get("precision"),
        options=options,
        states={int(value): state for value, state in raw.get("states", {}).items()},
        targets=targets,
        navigation=navigation,
        custom=raw.get("custom", False),
        default=_default(name, raw["type"], options),
    )


def _default(name: str, kind: str, options: Mapping[int, str]) -> int | None:
    """Know what the platform fills in on create: false for two options, "Default Value", the first state."""
    if kind == "Boolean":
        return int(name == "followemail")
    if kind == "Picklist" and (options == {1: "Default Value"} or name == "preferredcontactmethodcode"):
        return 1
    return None


def _base_columns(columns: Mapping[str, Column]) -> Iterator[Column]:
    """Add the read-only amount in the base currency beside each money column (dataverse.md 9)."""
    for column in columns.values():
        if column.type == "Money" and f"{column.name}_base" not in columns:
            name = f"{column.name}_base"
            yield Column(name, f"{column.schema_name}_Base", "Money", creatable=False, updatable=False, precision=4, base_of=column.name)


def _table(name: str, raw: Mapping[str, Any], keys: tuple[Key, ...] = ()) -> Table:
    columns = {column: _column(column, facts) for column, facts in {**raw["columns"], **_missing_system_columns(raw)}.items()}
    columns |= {column.name: column for column in _base_columns(columns)}
    return Table(
        name=name,
        schema_name=name.capitalize(),
        entity_set=raw["entity_set"],
        primary_id=raw["primary_id"],
        primary_name=raw["primary_name"],
        ownership=raw.get("ownership") or "OrganizationOwned",
        columns=columns,
        keys=keys,
    )


def custom_table(name: str, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a custom table: its own columns, described as in the metadata file, and those that the platform gives every table."""
    raw: dict[str, Any] = json.loads(_METADATA.read_text(encoding="utf-8"))
    given = ("createdon", "createdby", "modifiedon", "modifiedby", "versionnumber", "ownerid", "statecode", "statuscode")
    prefix = name.partition("_")[0]
    own = {column: {"create": True, "update": True, "custom": True, **facts} for column, facts in columns.items()}
    facts = {
        "entity_set": f"{name}s",
        "primary_id": f"{name}id",
        "primary_name": f"{prefix}_name",
        "ownership": "UserOwned",
        "columns": {f"{name}id": _ID, **{column: raw["account"]["columns"][column] for column in given}, **own},
    }
    return _table(name, facts)


_ID: Mapping[str, Any] = {"type": "Uniqueidentifier", "create": True, "required": "system"}
_NAME: Mapping[str, Any] = {"type": "String", "max_length": 160, "create": True, "update": True}
_VERSION: Mapping[str, Any] = {"type": "BigInt"}
_STAMP: Mapping[str, Any] = {"type": "DateTime"}
_USER: Mapping[str, Any] = {"type": "Lookup", "targets": ["systemuser"]}


def _lookup(target: str) -> Mapping[str, Any]:
    return {"type": "Lookup", "targets": [target], "create": True, "update": True}


def _missing_system_columns(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Describe what every table has, though the pages of close activities leave it out (dataverse.md 9)."""
    system = {"versionnumber": _VERSION, "createdon": _STAMP, "modifiedon": _STAMP, "createdby": _USER, "modifiedby": _USER}
    return {name: facts for name, facts in system.items() if name not in raw["columns"]}


def _platform_tables() -> dict[str, Mapping[str, Any]]:
    """Describe the tables that the metadata file leaves out, in its own shape and as far as clients read them."""
    common = {"versionnumber": _VERSION, "createdon": _STAMP, "modifiedon": _STAMP}
    return {
        "organization": {
            "entity_set": "organizations",
            "primary_id": "organizationid",
            "primary_name": "name",
            "columns": {
                "organizationid": _ID,
                "name": _NAME,
                "basecurrencyid": _lookup("transactioncurrency"),
                "expirechangetrackingindays": {"type": "Integer", "create": True, "update": True},
                **common,
            },
        },
        "businessunit": {
            "entity_set": "businessunits",
            "primary_id": "businessunitid",
            "primary_name": "name",
            "columns": {"businessunitid": _ID, "name": _NAME, "parentbusinessunitid": _lookup("businessunit"), **common},
        },
        "team": {
            "entity_set": "teams",
            "primary_id": "teamid",
            "primary_name": "name",
            "columns": {"teamid": _ID, "name": _NAME, "businessunitid": _lookup("businessunit"), **common},
        },
    }


CREATIO_ID: Mapping[str, Any] = {
    "type": "String",
    "schema_name": "tandem_CreatioId",
    "max_length": 36,
    "create": True,
    "update": True,
    "custom": True,
}
INVOICE_DATE: Mapping[str, Any] = {
    "type": "DateOnly",
    "schema_name": "tandem_InvoiceDate",
    "create": True,
    "update": True,
    "custom": True,
}
CREATIO_ID_KEY = Key("tandem_creatioidkey", "tandem_CreatioIdKey", ("tandem_creatioid",))


def load_tables() -> dict[str, Table]:
    """Return every table of the metadata file, the platform's own, and the custom columns and keys."""
    return dict(_shipped_tables())


@cache
def _shipped_tables() -> Mapping[str, Table]:
    raw: dict[str, Any] = json.loads(_METADATA.read_text(encoding="utf-8"))
    for name in ("account", "contact"):
        raw[name]["columns"]["tandem_creatioid"] = CREATIO_ID
    raw["invoice"]["columns"]["tandem_invoicedate"] = INVOICE_DATE
    tables = {name: _table(name, facts) for name, facts in {**raw, **_platform_tables()}.items()}
    for name in ("account", "contact"):
        tables[name] = tables[name].with_keys((CREATIO_ID_KEY,))
    return tables
