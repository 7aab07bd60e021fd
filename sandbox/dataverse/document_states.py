"""In which states documents, cases and leads can be edited, and which changes of state need an action (dataverse.md 5, 9)."""

from collections.abc import Mapping

from sandbox.dataverse.database import Row
from sandbox.dataverse.documents import BY_LINES, DOCUMENTS, business, fetch
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization

_STATE = frozenset({"statecode", "statuscode"})
_EDITABLE: Mapping[str, frozenset[int]] = {
    **{name: document.editable for name, document in DOCUMENTS.items()},
    "incident": frozenset({0}),
    "lead": frozenset({0}),
}
_BY_ACTION: Mapping[tuple[str, int], str] = {
    ("quote", 2): "WinQuote",
    ("quote", 3): "CloseQuote",
    ("salesorder", 2): "CancelSalesOrder",
    ("salesorder", 3): "FulfillSalesOrder",
    ("salesorder", 4): "ConvertSalesOrderToInvoice",
    ("incident", 1): "CloseIncident",
}
_PAID, _CANCELED = 2, 3
_ACTIVE_QUOTE = 1


def check_change(organization: Organization, table: str, before: Row, changes: Row) -> None:
    """Raise where a change by a client touches a closed row, or sets a state that only an action sets."""
    if table in BY_LINES:
        check_lines(organization, table, before)
        return
    if table not in _EDITABLE:
        return
    old, new = int(before["statecode"] or 0), int(changes.get("statecode", before["statecode"]) or 0)
    if old != new:
        _check_transition(organization, table, old, new)
    edited = {name for name, value in changes.items() if value != before.get(name)} - _STATE
    if edited and not {old, new} & _EDITABLE[table]:
        raise closed(table, str(before[f"{table}id"]))


def check_lines(organization: Organization, table: str, line: Row) -> None:
    """Raise where a line is to be added to, changed in or taken from a header that can't be edited."""
    document = BY_LINES[table]
    header = fetch(organization, document.name, line.get(document.parent))
    if header is not None and header["statecode"] not in document.editable:
        raise closed(document.name, str(header[document.parent]))


def closed(table: str, row_id: str) -> Fault:
    """Build the fault for an edit of a closed row [memory: its code]."""
    return business("0x80040203", f"The {table} {row_id} can't be edited, nor its lines, because of its state. Reopen it first.")


def _check_transition(organization: Organization, table: str, old: int, new: int) -> None:
    states = organization.tables[table].columns["statecode"].options
    label = states.get(new, str(new))
    if table == "opportunity" and new != 0:
        raise by_message(table, label, "WinOpportunity" if new == 1 else "LoseOpportunity")
    action = _BY_ACTION.get((table, new))
    if action is not None and organization.switches.current.closing_by_update == "refuse":
        raise by_message(table, label, action)
    if table == "quote" and old > _ACTIVE_QUOTE > new and organization.switches.current.quotes_reopened == "refuse":
        raise business("0x80048408", f"A quote can't go back to {label} from its state. Revise it.")
    if table == "invoice" and new == _PAID and old != 0:
        raise business("0x80100000", "The invoice can be paid only when it is active.")
    if table == "invoice" and new == _CANCELED and old not in {0, _PAID}:
        raise business("0x80100001", "The invoice can be canceled only when it is active or paid.")


def by_message(table: str, label: str, message: str) -> Fault:
    """Build the fault of a state that is set by a message of its own (dataverse.md 5)."""
    return business(
        "0x80100005",
        f"This message can not be used to set the state of {table} to {label}. "
        f"In order to set state of {table} to {label}, use the {message} message instead.",
    )
