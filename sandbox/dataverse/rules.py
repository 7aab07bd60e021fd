"""What the platform does to a row before it is saved: states, money, owner, names, stamps (dataverse.md 9)."""

from decimal import ROUND_HALF_EVEN, Decimal

from sandbox.dataverse.database import Row
from sandbox.dataverse.definitions import Table, fixed_id
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import BASE_CURRENCY_ID, BUSINESS_UNIT_ID, Organization
from sandbox.dataverse.values import from_money, to_money


def complete(organization: Organization, table: Table, before: Row | None, changes: Row) -> None:
    """Add to `changes` what follows from them; `before` is the stored row, None on create."""
    if before is None:
        _fill_defaults(table, changes)
    _follow_state(table, before, changes)
    _follow_owner(table, changes)
    _follow_money(organization, table, before, changes)
    _follow_names(table, before, changes)
    if table.name == "account":
        for number in ("1", "2"):
            _compose_address(f"address{number}_", before, changes)


def stamp_row(organization: Organization, table: Table, user_id: str, changes: Row, *, created: bool) -> None:
    """Stamp a change with time and user; ``overriddencreatedon`` becomes the creation date (dataverse.md 5)."""
    now = organization.stamp()
    stamps: Row = {"modifiedon": now, "modifiedby": user_id}
    if created:
        migrated = changes.get("overriddencreatedon")
        stamps |= {"createdon": migrated or now, "createdby": user_id}
        if migrated:
            stamps["overriddencreatedon"] = now
        if "ownerid" in table.columns and changes.get("ownerid") is None:
            changes |= {"ownerid": user_id, "ownerid__type": "systemuser"}
            _follow_owner(table, changes)
    changes.update({name: value for name, value in stamps.items() if name in table.columns})


def _fill_defaults(table: Table, changes: Row) -> None:
    for column in table.columns.values():
        if column.default is not None and column.name not in changes:
            changes[column.name] = column.default
    for number in ("1", "2"):
        if f"address{number}_addressid" in table.columns:
            changes.setdefault(f"address{number}_addressid", fixed_id(str(changes[table.primary_id]), "address", number))


def _follow_state(table: Table, before: Row | None, changes: Row) -> None:
    status_column = table.columns.get("statuscode")
    if status_column is None or not status_column.states:
        return
    if before is not None and not {"statecode", "statuscode"} & set(changes):
        return
    states = status_column.states
    initial = min(table.columns["statecode"].options, default=0)
    state = changes.get("statecode", initial if before is None else before["statecode"])
    status = changes.get("statuscode")
    if status is None:
        unchanged = before is not None and before["statecode"] == state
        status = before["statuscode"] if before and unchanged else min(s for s, owner in states.items() if owner == state)
    if states.get(int(status or 0)) != state:
        label = table.columns["statecode"].options.get(int(state or 0), str(state))
        raise Fault(
            400,
            "0x80048408",
            f"{status} is not a valid status code for state code {table.schema_name}State.{label} on {table.name}.",
        )
    changes |= {"statecode": state, "statuscode": status}


def _follow_owner(table: Table, changes: Row) -> None:
    if "ownerid" not in changes or "owninguser" not in table.columns:
        return
    person = changes.get("ownerid__type", "systemuser") == "systemuser"
    changes["owninguser"] = changes["ownerid"] if person else None
    changes["owningteam"] = None if person else changes["ownerid"]
    changes["owningbusinessunit"] = BUSINESS_UNIT_ID


def _follow_money(organization: Organization, table: Table, before: Row | None, changes: Row) -> None:
    if not table.has_money:
        return
    amounts = [column for column in table.columns.values() if column.type == "Money" and column.base_of is None]
    touched = any(column.name in changes for column in amounts)
    if not touched and "transactioncurrencyid" not in changes:
        return
    merged: Row = {**(before or {}), **changes}
    filled = [column.name for column in amounts if merged.get(column.name) is not None]
    currency_id = merged.get("transactioncurrencyid")
    if currency_id is None and filled:
        if "transactioncurrencyid" in changes and before is not None:
            raise Fault(400, "0x80048CFB", "The currency cannot be null.")
        currency_id = BASE_CURRENCY_ID
    currency = None if currency_id is None else organization.currency(str(currency_id))
    rate = None if currency is None else Decimal(str(currency["exchangerate"]))
    changes |= {"transactioncurrencyid": currency_id, "exchangerate": None if rate is None else f"{rate:.12f}"}
    for column in amounts:
        amount = merged.get(column.name)
        if f"{column.name}_base" in table.columns:
            changes[f"{column.name}_base"] = None if amount is None or rate is None else _in_base(int(amount), rate)


def _in_base(amount: int, rate: Decimal) -> int:
    return to_money((from_money(amount) / rate).quantize(Decimal("0.0001"), ROUND_HALF_EVEN))


def _follow_names(table: Table, before: Row | None, changes: Row) -> None:
    parts = ("firstname", "middlename", "lastname")
    if table.name in {"contact", "systemuser", "lead"} and set(parts) & set(changes):
        merged: Row = {**(before or {}), **changes}
        changes["fullname"] = " ".join(str(merged[part]) for part in parts if merged.get(part)) or None


def _compose_address(prefix: str, before: Row | None, changes: Row) -> None:
    if not any(name.startswith(prefix) for name in changes):
        return
    merged: Row = {**(before or {}), **changes}

    def text(name: str) -> str:
        return str(merged.get(prefix + name) or "")

    region = " ".join(filter(None, (text("stateorprovince"), text("postalcode"))))
    town = ", ".join(filter(None, (text("city"), region)))
    lines = (text("line1"), text("line2"), text("line3"), town, text("country"))
    changes[f"{prefix}composite"] = "\r\n".join(filter(None, lines)) or None
