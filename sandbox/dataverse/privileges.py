"""What the application user may do with a table (dataverse.md 8)."""

from sandbox.dataverse import faults
from sandbox.dataverse.definitions import Table
from sandbox.dataverse.organization import APPLICATION_USER_ID, Organization


def check_privilege(organization: Organization, table: Table, verb: str, user_id: str) -> None:
    """Raise the 403 of a missing privilege; `verb` is Read, Create, Write or Delete. Only the application user can lack one."""
    settings = organization.switches.current
    lacking = settings.unreadable_tables if verb == "Read" else settings.unwritable_tables
    if user_id == APPLICATION_USER_ID and table.name in lacking:
        raise faults.no_privilege(verb, table.name, table.schema_name, user_id)
