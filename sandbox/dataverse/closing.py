"""The actions that close opportunities, quotes, orders and cases, each with its close activity (dataverse.md 5)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sandbox.dataverse import addresses, faults, values
from sandbox.dataverse.database import Row
from sandbox.dataverse.documents import business, fetch, found
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Operation, Reply
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.privileges import check_privilege
from sandbox.dataverse.writes import Writer, writer_for

_DONE: Row = {"statecode": 1, "statuscode": 2}
"""State of a close activity."""


@dataclass(frozen=True)
class Closing:
    """What one action does: the parameter with its activity, the table it closes, from which states to which, and the first status."""

    parameter: str
    table: str
    open_states: frozenset[int]
    state: int
    status: int
    already: str = "0x80040203"
    """Code for a row that is closed already [memory, except of opportunities and cases]."""

    @property
    def activity(self) -> str:
        """Name the table of the close activity."""
        return self.parameter.lower()


CLOSINGS: Mapping[str, Closing] = {
    "WinOpportunity": Closing("OpportunityClose", "opportunity", frozenset({0}), 1, 3, "0x80040515"),
    "LoseOpportunity": Closing("OpportunityClose", "opportunity", frozenset({0}), 2, 4, "0x80040515"),
    "WinQuote": Closing("QuoteClose", "quote", frozenset({1}), 2, 4),
    "CloseQuote": Closing("QuoteClose", "quote", frozenset({1}), 3, 5),
    "CancelSalesOrder": Closing("OrderClose", "salesorder", frozenset({0, 1}), 2, 4),
    "FulfillSalesOrder": Closing("OrderClose", "salesorder", frozenset({0, 1}), 3, 100001),
    "CloseIncident": Closing("IncidentResolution", "incident", frozenset({0}), 1, 5, "0x80044411"),
}


def close(organization: Organization, operation: Operation, name: str) -> Reply:
    """Run one of the closing actions: the activity is kept, and the row goes into its state."""
    closing = CLOSINGS[name]
    body = operation.json(name)
    given = body.get(closing.parameter)
    if not isinstance(given, dict):
        raise faults.payload(name, f"The parameter '{closing.parameter}' of '{name}' must be an activity.")
    table = organization.tables[closing.table]
    check_privilege(organization, table, "Write", operation.user_id)
    row_id = _closed_row(organization, closing, given)
    row = writer_for(organization, operation).existing(table, row_id)
    _check(organization, closing, row)
    status = _status(organization, closing, body.get("Status"))
    writer = replace(writer_for(organization, operation), trusted=True)
    activity = _keep(writer, closing, given, row)
    writer.change(table, row, {"statecode": closing.state, "statuscode": status, **_outcome(organization, closing, row, activity)})
    return Reply(204, writes=2)


def _closed_row(organization: Organization, closing: Closing, given: Mapping[str, Any]) -> str:
    """Read which row is closed: a bind, or the lookup as an object with an id."""
    column = f"{closing.table}id"
    bound = given.get(f"{column}@odata.bind")
    nested = given.get(column)
    if bound is None and isinstance(nested, dict) and (row_id := values.guid(nested.get(column))):
        return row_id
    table = organization.tables[closing.table]
    return addresses.bound_row(organization, closing.activity, column, {table.entity_set: table.name}, bound)[1]


def _check(organization: Organization, closing: Closing, row: Row) -> None:
    if row["statecode"] not in closing.open_states:
        label = organization.tables[closing.table].columns["statecode"].options.get(int(row["statecode"] or 0))
        already = closing.already if row["statecode"] else "0x80040203"
        raise business(already, f"The {closing.table} can't be closed: its state is {label}.")
    if closing.table == "incident" and any(
        child["statecode"] == 0 for child in found(organization, "incident", parentcaseid=row["incidentid"])
    ):
        raise business("0x8004F456", "This case has active child cases. Close them first.")


def _status(organization: Organization, closing: Closing, given: object) -> int:
    """Read the status; -1 is the first of the state (dataverse.md 5)."""
    states = organization.tables[closing.table].columns["statuscode"].states
    if given is None or given == -1:
        return closing.status
    if not isinstance(given, int) or states.get(given) != closing.state:
        raise Fault(400, "0x80048408", f"{given} is not a valid status code for state code {closing.state} on {closing.table}.")
    return given


def _keep(writer: Writer, closing: Closing, given: Mapping[str, Any], row: Row) -> Row:
    """Keep the activity and return it as stored; what the body leaves out comes from the row."""
    organization = writer.organization
    table = organization.tables[closing.activity]
    column = f"{closing.table}id"
    own = {name: value for name, value in given.items() if name.partition("@")[0] != column and not name.startswith("@")}
    activity: Row = writer.read(table, own)
    activity[column] = row[column]
    activity.setdefault("subject", f"Close of {row.get('name') or row.get('title')}")
    activity.setdefault("actualend", organization.stamp())
    if "transactioncurrencyid" in table.columns and row.get("transactioncurrencyid"):
        activity.setdefault("transactioncurrencyid", row["transactioncurrencyid"])
    if closing.activity == "opportunityclose" and activity.get("actualrevenue") is None:
        activity["actualrevenue"] = (row.get("estimatedvalue") or 0) if closing.state == 1 else 0
    for name in ("ordernumber", "quotenumber"):
        if name in table.columns:
            activity.setdefault(name, row.get(name))
    activity_id = writer.insert(table, {**activity, **_DONE})
    return fetch(organization, closing.activity, activity_id) or {}


def _outcome(organization: Organization, closing: Closing, row: Row, activity: Row) -> Row:
    """Return what closing writes to the row besides its state [memory]."""
    day = str(activity.get("actualend") or organization.stamp())
    match closing.table:
        case "opportunity":
            return {"actualvalue": activity.get("actualrevenue"), "actualclosedate": day[:10]}
        case "quote":
            return {"closedon": day[:10]}
        case "salesorder" if closing.state == 3:
            return {"datefulfilled": row.get("datefulfilled") or day}
        case _:
            return {}
