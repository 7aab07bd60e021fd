"""The bulk messages CreateMultiple, UpdateMultiple and UpsertMultiple: all rows or none (dataverse.md 6.2)."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from sandbox.dataverse import addresses, faults, values
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.messages import Operation, Reply, json_reply
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.writes import Writer, writer_for

BULK_MESSAGES = frozenset({"CreateMultiple", "UpdateMultiple", "UpsertMultiple", "DeleteMultiple"})


def run_bulk(organization: Organization, operation: Operation, table: Table, message: str) -> Reply:
    """Run a bulk message inside the operation's transaction, so that any fault undoes every row."""
    if message == "DeleteMultiple":
        raise Fault(501, "0x80040203", "DeleteMultiple has not yet been implemented.")
    if table.name not in organization.switches.current.bulk_tables:
        raise faults.invalid_argument(f"The '{message}' method does not support entities of type '{table.name}'.")
    targets = _targets(operation, table)
    if len(targets) > organization.switches.current.bulk_timeout_rows:
        raise Fault(500, "0x80044151", "SQL timeout expired.")
    writer = writer_for(organization, operation)
    if any(isinstance(value, list) for target in targets for value in target.values()):
        raise faults.payload(table.entity_set, f"Related rows can't be nested in '{message}'.")
    if message == "CreateMultiple":
        own = organization.switches.current.bulk_ids == "own"
        ids = [writer.create(table, _without(target, table.primary_id) if own else target) for target in targets]
        shown = {
            "@odata.context": f"{operation.root}/$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse",
            "Ids": ids,
        }
        reply = json_reply(shown, operation.preferences())
        return Reply(200, reply.headers, reply.body, writes=len(ids))
    if message == "UpdateMultiple":
        return Reply(204, writes=_update(writer, table, targets))
    return Reply(204, writes=_upsert(organization, writer, table, targets))


def _targets(operation: Operation, table: Table) -> Sequence[Mapping[str, Any]]:
    targets = operation.json(table.entity_set).get("Targets")
    if not isinstance(targets, list) or not targets:
        raise faults.payload(table.entity_set, "The parameter 'Targets' must be a collection with at least one row.")
    expected = f"Microsoft.Dynamics.CRM.{table.name}"
    for target in targets:
        given = target.get("@odata.type") if isinstance(target, dict) else None
        if str(given).lstrip("#") != expected:
            inner = (
                "Microsoft.OData.ODataException: A type named "
                f"'{given}' could not be used: every row of 'Targets' needs '@odata.type': '{expected}'."
            )
            raise faults.payload(table.entity_set, inner)
    return targets


def _update(writer: Writer, table: Table, targets: Sequence[Mapping[str, Any]]) -> int:
    """Update each row once: of rows that come twice only the first is applied, silently."""
    done: set[str] = set()
    for target in targets:
        row_id = values.guid(target.get(table.primary_id))
        if row_id is None:
            raise faults.invalid_argument(f"A row of 'Targets' has no '{table.primary_id}'.")
        if row_id not in done:
            writer.update(table, row_id, _without(target, table.primary_id))
            done.add(row_id)
    return len(done)


def _upsert(organization: Organization, writer: Writer, table: Table, targets: Sequence[Mapping[str, Any]]) -> int:
    seen: set[object] = set()
    for target in targets:
        key = _key(organization, table, target)
        identity = key.row_id or tuple(sorted((name, str(value).casefold()) for name, value in key.alternate.items()))
        if identity in seen:
            raise faults.invalid_argument("UpsertMultiple got the same row twice in 'Targets'; send each row once.")
        seen.add(identity)
        row_id = addresses.find(organization, table, key)
        body = _without(target, table.primary_id)
        if row_id is not None:
            writer.update(table, row_id, body, frozenset(key.alternate))
            continue
        doubled = sorted(set(key.alternate) & set(body))
        if doubled:
            raise faults.invalid_argument(f"The key column '{doubled[0]}' is in '@odata.id' and in the row.")
        writer.create(table, body, {table.primary_id: key.row_id} if key.row_id else dict(key.alternate))
    return len(seen)


def _key(organization: Organization, table: Table, target: Mapping[str, Any]) -> addresses.RowKey:
    row_id = values.guid(target.get(table.primary_id))
    if row_id is not None:
        return addresses.RowKey(row_id, {})
    address = addresses.API_ROOT.sub("", str(target.get("@odata.id", ""))).lstrip("/")
    segments = addresses.split_path(unquote(address))
    if len(segments) != 1 or segments[0].name != table.entity_set or segments[0].key is None:
        raise faults.invalid_argument(f"A row of 'Targets' has neither '{table.primary_id}' nor a usable '@odata.id'.")
    return addresses.read_key(organization, table, segments[0].key)


def _without(target: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in target.items() if key != name}
