"""Deletes in bulk as a system job: asked for by ``BulkDelete``, done later (dataverse.md 6.2; the query's shape as clients send it)."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.dataverse import faults, values
from sandbox.dataverse.addresses import Segment
from sandbox.dataverse.database import fold, quoted
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Operation, Reply, json_reply
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.privileges import check_privilege
from sandbox.dataverse.writes import Writer

_READY, _COMPLETED = (0, 0), (3, 30)
"""State and status of a job [memory]."""


@dataclass
class DeleteJob:
    """One job: which rows it deletes, in whose name, and when."""

    user_id: str
    due: float
    table: Table
    where: str
    bound: Sequence[values.Stored]
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    done: bool = False


def run_due(organization: Organization) -> None:
    """Do the jobs that are due: every row that fits now is deleted by itself, as the platform does it."""
    for job in organization.jobs.values():
        if not job.done and organization.now() >= job.due:
            job.done = True
            writer = Writer(organization, job.user_id)
            sql = f"SELECT {quoted(job.table.primary_id)} FROM {quoted(job.table.name)} WHERE {job.where}"
            for (row_id,) in organization.database.query(sql, job.bound):
                writer.delete(job.table, str(row_id))


def show_job(organization: Organization, operation: Operation, segment: Segment) -> Reply:
    """Tell how a job is getting on."""
    job = organization.jobs.get(str(values.guid(segment.key)))
    if operation.method != "GET" or job is None:
        raise faults.missing_row("asyncoperation", str(segment.key))
    state, status = _COMPLETED if job.done else _READY
    shown = {"asyncoperationid": job.job_id, "statecode": state, "statuscode": status}
    return json_reply({"@odata.context": f"{operation.root}/$metadata#asyncoperations/$entity", **shown}, operation.preferences())


def take_job(organization: Organization, operation: Operation, _segment: Segment) -> Reply:
    """Take a job that deletes what a query finds, and answer with its id."""
    body = operation.json("BulkDelete")
    queries = body.get("QuerySet")
    if operation.method != "POST" or not isinstance(queries, list) or len(queries) != 1 or not body.get("JobName"):
        raise faults.invalid_argument("BulkDelete needs a JobName and a QuerySet with one QueryExpression.")
    table = organization.tables.get(str(queries[0].get("EntityName")))
    if table is None:
        raise faults.invalid_argument("The QueryExpression names no table in EntityName.")
    check_privilege(organization, table, "Delete", operation.user_id)
    where, bound = _condition(table, queries[0].get("Criteria") or {})
    due = organization.now() + organization.switches.current.bulk_delete_delay_seconds
    job = DeleteJob(operation.user_id, due, table, where, bound)
    organization.jobs[job.job_id] = job
    shown = {"@odata.context": f"{operation.root}/$metadata#Microsoft.Dynamics.CRM.BulkDeleteResponse", "JobId": job.job_id}
    return json_reply(shown, operation.preferences())


def _condition(table: Table, criteria: Mapping[str, Any]) -> tuple[str, list[values.Stored]]:
    """Compile a FilterExpression of Equal and In; without a condition it would delete the whole table, which is refused."""
    operator = {"And": " AND ", "Or": " OR "}.get(str(criteria.get("FilterOperator", "And")))
    conditions = criteria.get("Conditions") or []
    if operator is None or not conditions:
        raise faults.invalid_argument("The FilterExpression needs a FilterOperator And or Or, and Conditions.")
    tests: list[str] = []
    bound: list[values.Stored] = []
    for condition in conditions:
        column = table.columns.get(str(condition.get("AttributeName")))
        given = [value.get("Value") for value in condition.get("Values") or []]
        if column is None or condition.get("Operator") not in {"Equal", "In"} or not given:
            raise Fault(400, "0x80040203", f"The condition on '{condition.get('AttributeName')}' can't be used.")
        tests.append(f"fold({quoted(column.name)}) IN ({', '.join('?' * len(given))})")
        bound += [fold(re.sub(r"[{}]", "", str(value))) for value in given]
    return operator.join(tests), bound
