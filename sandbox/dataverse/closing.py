"""The actions that close documents and cases; each leaves an activity that tells of it (dataverse.md 5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.dataverse import faults
from sandbox.dataverse.addresses import Segment
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Operation, Reply
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.writes import writer_for


@dataclass(frozen=True)
class Closing:
    """What an action closes: the table, the activity with its member in the body, the states it sets, and what says that it came late."""

    table: str
    activity: str
    member: str
    lookup: str
    states: frozenset[int]
    late: str = "0x80040203"


_OPPORTUNITY, _QUOTE = ("opportunity", "opportunityclose", "OpportunityClose"), ("quote", "quoteclose", "QuoteClose")
_CLOSINGS: Final[Mapping[str, Closing]] = {
    "WinOpportunity": Closing(*_OPPORTUNITY, "opportunityid", frozenset({1}), "0x80040515"),
    "LoseOpportunity": Closing(*_OPPORTUNITY, "opportunityid", frozenset({2}), "0x80040515"),
    "WinQuote": Closing(*_QUOTE, "quoteid", frozenset({2})),
    "CloseQuote": Closing(*_QUOTE, "quoteid", frozenset({3})),
    "CancelSalesOrder": Closing("salesorder", "orderclose", "OrderClose", "salesorderid", frozenset({2})),
    "FulfillSalesOrder": Closing("salesorder", "orderclose", "OrderClose", "salesorderid", frozenset({3})),
    "CloseIncident": Closing("incident", "incidentresolution", "IncidentResolution", "incidentid", frozenset({1}), "0x80044411"),
}
_DEFAULT: Final = (-1, None)


def _close(organization: Organization, operation: Operation, segment: Segment) -> Reply:
    if operation.method != "POST":
        raise Fault(404, "", f"No HTTP resource was found that matches the request URI '{operation.root}/{segment.name}'.")
    closing, body = _CLOSINGS[segment.name], operation.json(segment.name)
    given = body.get(closing.member)
    if not isinstance(given, dict):
        raise faults.invalid_argument(f"The parameter '{closing.member}' is missing.")
    table, activities = organization.tables[closing.table], organization.tables[closing.activity]
    writer = writer_for(organization, operation)
    activity = {name: value for name, value in given.items() if name != "@odata.type"}
    with organization.database.transaction():
        made = organization.database.get(activities, writer.create(activities, activity))
        target = made.get(closing.lookup) if made else None
        if target is None:
            raise faults.invalid_argument(f"The activity names no {closing.table}.")
        before = writer.existing(table, str(target))
        if before["statecode"] not in (0, 1) or (before["statecode"] == 1 and closing.table not in ("quote", "salesorder")):
            raise Fault(400, closing.late, f"The {closing.table} is already closed.")
        status = body.get("Status")
        states = table.columns["statuscode"].states
        if status in _DEFAULT:
            status = min(one for one, state in states.items() if state in closing.states)
        if states.get(status) not in closing.states:
            raise Fault(400, "0x80048408", f"{status} is not a valid status code for {segment.name} on {closing.table}.")
        writer.change(table, before, {"statecode": states[status], "statuscode": status}, closing=True)
    return Reply(204, writes=2)


ACTIONS: Final[Mapping[str, Callable[[Organization, Operation, Segment], Reply]]] = dict.fromkeys(_CLOSINGS, _close)
