"""The action BulkDelete: a system job that deletes the rows its queries find (dataverse.md 6.2).

The job is done before its id is answered; a real one runs when the server has time for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.dataverse import faults, values
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.messages import Operation, Reply, json_reply
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.privileges import check_privilege
from sandbox.dataverse.writes import Writer

_PARAMETERS = ("JobName", "SendEmailNotification", "ToRecipients", "CCRecipients", "RecurrencePattern", "StartDateTime")


def bulk_delete(organization: Organization, operation: Operation) -> Reply:
    """Delete what the queries of ``QuerySet`` find and answer the id of the job; ids that no row has are no error."""
    body = operation.json("BulkDelete")
    for name in _PARAMETERS:
        if name not in body:
            raise faults.invalid_argument(f"BulkDelete needs the parameter '{name}'.")
    queries = body.get("QuerySet")
    if not isinstance(queries, list) or not queries:
        raise faults.invalid_argument("BulkDelete needs at least one query in 'QuerySet'.")
    writer = Writer(organization, operation.user_id, operation.normalisation)
    deleted = 0
    for query in queries:
        table, ids = _wanted(organization, query)
        check_privilege(organization, table, "Delete", operation.user_id)
        for row_id in ids:
            if organization.database.get(table, row_id) is not None:
                writer.delete(table, row_id)
                deleted += 1
    shown = {"@odata.context": f"{operation.root}/$metadata#Microsoft.Dynamics.CRM.BulkDeleteResponse", "JobId": values.new_id()}
    reply = json_reply(shown, operation.preferences())
    return Reply(200, reply.headers, reply.body, writes=deleted)


def _wanted(organization: Organization, query: Mapping[str, Any]) -> tuple[Table, Sequence[str]]:
    """Read a query for rows by their ids; this organisation's jobs take no other condition."""
    table = organization.tables.get(str(query.get("EntityName")))
    if table is None:
        raise faults.invalid_argument(f"The entity with a name = '{query.get('EntityName')}' was not found.")
    conditions = (query.get("Criteria") or {}).get("Conditions") or []
    condition = conditions[0] if len(conditions) == 1 else {}
    if (condition.get("AttributeName"), condition.get("Operator")) != (table.primary_id, "In"):
        raise faults.invalid_argument(f"A bulk delete job of this organisation takes one condition: In on '{table.primary_id}'.")
    ids = [values.guid(given.get("Value")) for given in condition.get("Values", [])]
    if not ids or None in ids:
        raise faults.invalid_argument(f"The condition on '{table.primary_id}' needs guids as values.")
    return table, [row_id for row_id in dict.fromkeys(ids) if row_id is not None]
