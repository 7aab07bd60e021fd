"""The errors the Web API answers with: HTTP status, hexadecimal code and the real message (dataverse.md 8)."""

from collections.abc import Mapping

_PAYLOAD_HELP = "https://go.microsoft.com/fwlink/?linkid=2195293"


class Fault(Exception):  # noqa: N818 - it is the answer, as the wire calls it
    """An error reply: status, ``code`` as the Web API writes it (hexadecimal text) and the message for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code} {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers: Mapping[str, str] = headers or {}


def payload(entity_set: str, inner: str) -> Fault:
    """Build the 400 0x80048d19 that wraps every fault of a request's body (dataverse.md 5, 8)."""
    return Fault(
        400,
        "0x80048d19",
        f"Error identified in Payload provided by the user for Entity :'{entity_set}', For more information on this "
        f"error please follow this help link {_PAYLOAD_HELP}  ---->  InnerException : {inner}",
    )


def bad_literal(entity_set: str, literal: object, edm_type: str) -> Fault:
    """Build the fault for a JSON value of the wrong type, e.g. a timestamp for Edm.Date (dataverse.md 8)."""
    text = {True: "true", False: "false"}.get(literal, literal) if isinstance(literal, bool) else literal
    inner = f"Cannot convert the literal '{text}' to the expected type '{edm_type}'."
    return payload(entity_set, f"Microsoft.OData.ODataException: {inner}")


def undeclared(entity_set: str, name: str) -> Fault:
    """Build the fault for ``x@odata.bind`` where x is no navigation property (dataverse.md 5)."""
    return payload(
        entity_set,
        f"Microsoft.OData.ODataException: An undeclared property '{name}' which only has property annotations in the "
        "payload but no property value was found in the payload. In OData, only declared navigation properties and "
        "declared named streams can be represented as properties without values.",
    )


def invalid_property(entity_set: str, table: str, name: str) -> Fault:
    """Build the fault for an unknown plain property in a body (dataverse.md 5)."""
    return payload(
        entity_set,
        f"Microsoft.Crm.CrmException: Invalid property '{name}' was found in entity 'Microsoft.Dynamics.CRM.{table}'. "
        "---> Microsoft.OData.ODataException: Does not support untyped value in non-open type.",
    )


def unknown_property(table: str, name: str) -> Fault:
    """Build the fault for an unknown property in a query option (dataverse.md 3)."""
    return Fault(400, "0x0", f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'.")


def unknown_segment(name: str) -> Fault:
    """Build the 404 for a path segment that does not exist; names are case-sensitive (dataverse.md 3)."""
    return Fault(404, "0x8006088a", f"Resource not found for the segment '{name}'.")


def odata(message: str) -> Fault:
    """Build the 400 of the OData layer for query options it can't read."""
    return Fault(400, "0x80060888", message)


def missing_row(table: str, row_id: str) -> Fault:
    """Build the 404 for a row that does not exist (dataverse.md 8)."""
    return Fault(404, "0x80040217", f"{table} With Id = {row_id} Does Not Exist")


def missing_by_key(table: str) -> Fault:
    """Build the 404 for alternate key values that no row has (dataverse.md 8)."""
    return Fault(404, "0x80060891", f"A record with the specified key values does not exist in {table} entity")


def key_not_defined(table: str) -> Fault:
    """Build the fault for an alternate key that is not defined or whose index is not active (dataverse.md 8, 10)."""
    return Fault(400, "0x80060890", f"The specified key attributes are not a defined key for the {table} entity")


def invalid_argument(message: str) -> Fault:
    """Build the general 400 InvalidArgument."""
    return Fault(400, "0x80040203", message)


def no_privilege(verb: str, table: str, schema_name: str, user_id: str) -> Fault:
    """Build the 403 for a privilege that the calling user lacks (dataverse.md 8)."""
    privilege = f"prv{verb}{schema_name}"
    text = f"Principal user (Id={user_id}, type=8) is missing {privilege} privilege on entity '{table}' (LocalizedName='{schema_name}')."
    return Fault(403, "0x80040220", text)


def stale_version() -> Fault:
    """Build the 412 for an ``If-Match`` that names another version (dataverse.md 5)."""
    return Fault(
        412,
        "0x80060882",
        "The version of the existing record doesn't match the RowVersion property provided.",
    )
