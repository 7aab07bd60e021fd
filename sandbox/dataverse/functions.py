"""The unbound functions and actions a client of accounts meets, and the probe of bulk messages (dataverse.md 1, 3, 6.2)."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.dataverse import faults, values
from sandbox.dataverse.addresses import Segment
from sandbox.dataverse.definitions import Table, fixed_id
from sandbox.dataverse.entity_definitions import publish, reactivate_key
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.jobs import show_job, take_job
from sandbox.dataverse.merging import merge
from sandbox.dataverse.messages import Operation, Reply, json_reply
from sandbox.dataverse.organization import BUSINESS_UNIT_ID, ORGANIZATION_ID, Organization
from sandbox.dataverse.privileges import check_privilege
from sandbox.dataverse.queries import Preferences, read_query
from sandbox.dataverse.reads import Reader
from sandbox.dataverse.writes import Writer


def only(operation: Operation, method: str) -> None:
    """Answer as the platform does to a function called by POST and the like: 404 with an empty code."""
    if operation.method != method:
        uri = f"{operation.root}/{operation.path.lstrip('/')}"
        raise Fault(404, "", f"No HTTP resource was found that matches the request URI '{uri}'.")


def service_document(organization: Organization, operation: Operation) -> Reply:
    """List the entity sets."""
    only(operation, "GET")
    sets = sorted(table.entity_set for table in organization.tables.values())
    value = [{"name": name, "kind": "EntitySet", "url": name} for name in sets]
    return json_reply({"@odata.context": f"{operation.root}/$metadata", "value": value}, operation.preferences())


def _who_am_i(_organization: Organization, operation: Operation, _segment: Segment) -> Reply:
    only(operation, "GET")
    shown = {
        "@odata.context": f"{operation.root}/$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse",
        "BusinessUnitId": BUSINESS_UNIT_ID,
        "UserId": operation.user_id,
        "OrganizationId": ORGANIZATION_ID,
    }
    return json_reply(shown, operation.preferences())


def _total_record_count(organization: Organization, operation: Operation, segment: Segment) -> Reply:
    only(operation, "GET")
    query = read_query(operation.query)
    text = (segment.key or "").partition("=")[2]
    text = query.aliases.get(text, text)
    names = re.findall(r"""['"](\w+)['"]""", text)
    unknown = [name for name in names if name not in organization.tables]
    if unknown or not names:
        raise faults.invalid_argument(f"EntityNames has no table '{(unknown or [text])[0]}'.")
    reader = Reader(organization, operation.root, Preferences())
    counts = [reader.count(organization.tables[name]) for name in names]
    shown = {
        "@odata.context": f"{operation.root}/$metadata#Microsoft.Dynamics.CRM.RetrieveTotalRecordCountResponse",
        "EntityRecordCountCollection": {"Count": len(names), "IsReadOnly": False, "Keys": names, "Values": counts},
    }
    return json_reply(shown, operation.preferences())


def _message_filters(organization: Organization, operation: Operation, _segment: Segment) -> Reply:
    """Tell which tables take CreateMultiple and UpdateMultiple; UpsertMultiple never shows (dataverse.md 6.2)."""
    only(operation, "GET")
    query = read_query(operation.query)
    found = dict(re.findall(r"(sdkmessageid/name|primaryobjecttypecode) eq ('[^']*'|@\w+)", query.get("$filter") or ""))
    message, table = (
        query.aliases.get(found.get(name, ""), found.get(name, "")).strip("'") for name in ("sdkmessageid/name", "primaryobjecttypecode")
    )
    supported = table in organization.switches.current.bulk_tables and message in {"CreateMultiple", "UpdateMultiple"}
    value: list[Mapping[str, Any]] = [{"sdkmessagefilterid": fixed_id(message, table)}] if supported else []
    context = f"{operation.root}/$metadata#sdkmessagefilters(sdkmessagefilterid)"
    return json_reply({"@odata.context": context, "value": value}, operation.preferences())


def _publish(organization: Organization, operation: Operation, _segment: Segment) -> Reply:
    only(operation, "POST")
    publish(organization)
    return Reply(204)


def _reactivate(organization: Organization, operation: Operation, _segment: Segment) -> Reply:
    only(operation, "POST")
    body = json.loads(operation.body or b"{}")
    reactivate_key(organization, str(body.get("EntityLogicalName")), str(body.get("EntityKeyLogicalName")))
    return Reply(204)


def _merge(organization: Organization, operation: Operation, _segment: Segment) -> Reply:
    """Merge one row into another of its table (body and answer: [memory])."""
    only(operation, "POST")
    body = operation.json("Merge")
    target, subordinate = (_row_of(organization, body, name) for name in ("Target", "Subordinate"))
    if target[0] != subordinate[0]:
        raise faults.invalid_argument("Target and Subordinate must be rows of one table.")
    check_privilege(organization, target[0], "Write", operation.user_id)
    content = body.get("UpdateContent") or {}
    merge(Writer(organization, operation.user_id, operation.normalisation), target[0], target[1], subordinate[1], content)
    return Reply(204, writes=2)


def _row_of(organization: Organization, body: Mapping[str, Any], name: str) -> tuple[Table, str]:
    given = body.get(name)
    kind = str(given.get("@odata.type", "")) if isinstance(given, dict) else ""
    table = organization.tables.get(kind.lstrip("#").removeprefix("Microsoft.Dynamics.CRM."))
    row_id = values.guid(given.get(table.primary_id)) if table is not None and isinstance(given, dict) else None
    if table is None or row_id is None:
        raise faults.invalid_argument(f"The parameter '{name}' needs '@odata.type' of a table, and the id of a row.")
    return table, row_id


UNBOUND: Mapping[str, Callable[[Organization, Operation, Segment], Reply]] = {
    "WhoAmI": _who_am_i,
    "BulkDelete": take_job,
    "asyncoperations": show_job,
    "Merge": _merge,
    "RetrieveTotalRecordCount": _total_record_count,
    "sdkmessagefilters": _message_filters,
    "PublishXml": _publish,
    "PublishAllXml": _publish,
    "ReactivateEntityKey": _reactivate,
}
