"""Merges one row into another (dataverse.md 9: `merged`, `masterid`; the rest [memory])."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.dataverse import faults
from sandbox.dataverse.database import Row, quoted
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.writes import Writer

_MERGED_STATES: Mapping[str, tuple[int, int]] = {"incident": (2, 2000), "lead": (2, 7)}
"""State and status of a merged row where it is not simply inactive; of leads from memory."""
_OF_THE_MERGE = frozenset({"masterid", "ownerid", "owninguser", "createdby", "modifiedby"})


def merge(writer: Writer, table: Table, master_id: str, subordinate_id: str, content: Mapping[str, Any]) -> None:
    """Merge a row into another of its table: it is deactivated and names its master, and what referred to it refers to the master.

    `content` is what the master takes over. All rows touched get a new version and the merging user's stamp.
    """
    if not {"merged", "masterid"} <= set(table.columns) or master_id == subordinate_id:
        raise faults.invalid_argument(f"A row of '{table.name}' can't be merged into this one.")
    with writer.organization.database.transaction():
        writer.existing(table, master_id)
        if writer.existing(table, subordinate_id).get("merged"):
            raise faults.invalid_argument(f"The row {subordinate_id} was merged before.")
        _adopt(writer, table, master_id, subordinate_id)
        writer.update(table, master_id, {name: value for name, value in content.items() if not name.startswith("@")} if content else {})
        subordinate = writer.existing(table, subordinate_id)
        state, status = _MERGED_STATES.get(table.name, (1, 2))
        merged: Row = {"masterid": master_id, "merged": 1, "statecode": state, "statuscode": status}
        replace(writer, trusted=True).change(table, subordinate, merged)


def _adopt(writer: Writer, table: Table, master_id: str, subordinate_id: str) -> None:
    """Let every row that refers to the one refer to the other; a master never becomes its own parent."""
    database, adopting = writer.organization.database, replace(writer, trusted=True)  # closed documents change their customer too
    for other in writer.organization.tables.values():
        for column in other.columns.values():
            if table.name not in column.targets or not column.updatable or column.name in _OF_THE_MERGE:
                continue
            found = database.query(f"SELECT * FROM {quoted(other.name)} WHERE {quoted(column.name)} = ?", [subordinate_id])
            for child in map(dict, found):
                own = other is table and child[table.primary_id] == master_id
                adopting.change(other, child, dict.fromkeys(column.stored) if own else {column.name: master_id})
