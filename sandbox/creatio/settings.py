"""The switches of the Creatio stand-in; each can be changed at run time by `PUT /_control/settings`."""

import argparse
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sandbox.control import Refused, Switches


class CreatioSettings(BaseModel):
    """Say how this Creatio is set up, and how it behaves where the real one's behaviour differs or is not known."""

    model_config = ConfigDict(frozen=True)

    flavour: Literal["NF", "NC"] = Field(default="NF", description=".NET Framework (paths under /0/) or .NET (none)")
    version: str = Field(default="8.1.0", description="from 8.3.2 on the delete-event log endpoint exists")

    username: str = Field(default="integration", description="login of the API user; its contact is ModifiedById of API writes")
    password: str = Field(default="integration-password", description="password of the API user")
    client_id: str = Field(default="tandem-client", description="OAuth client bound to the API user")
    client_secret: str = Field(default="tandem-secret", description="secret of the OAuth client")
    token_seconds: int = Field(default=3600, description="life of a bearer token; expires_in of its answer", ge=1)
    bearer_cookies: bool = Field(
        default=True,
        description="a bearer call without cookies is given BPMSESSIONID; one that carries cookies needs BPMCSRF (403)",
    )

    session_seconds: float = Field(default=3600, description="sliding life of a cookie session (UserSessionTimeout)", ge=0)
    session_answer: Literal["auto", "401", "301", "302", "403", "200", "svc"] = Field(
        default="auto",
        description="answer to a dead session: by ForceUseSession (auto), or always this; 200 is the login page, svc a 401 in JSON",
    )
    require_force_use_session: bool = Field(default=True, description="without the header cookies are not taken for a session")
    one_session_per_user: bool = Field(default=False, description="a second login ends the first session")
    password_expired: bool = Field(default=False, description="login succeeds with PasswordChangeUrl, later calls bounce")
    modern_cookies: bool = Field(default=True, description="also set UserType, CsrfToken and CRT_CSRF")
    csrf_body: Literal["empty", "html"] = Field(default="empty", description="body of the 403 to a missing or wrong BPMCSRF")
    crt_csrf_header: bool = Field(default=False, description="whether the CRT_CSRF cookie must come back as a header too (403)")
    login_refused: Literal["no", "code", "403"] = Field(default="no", description="a login that IP rules refuse: Code 1, or 403")
    session_lock: bool = Field(default=False, description="whether calls of one session wait for each other; calls by token never do")
    work_seconds: float = Field(default=0, description="time that each call takes behind the gate", ge=0)
    daily_calls: int = Field(default=0, description="calls of one user in a day before they are refused; 0 any number", ge=0)
    quota_status: Literal[403, 429] = Field(default=429, description="status of a call beyond daily_calls")
    rotate_csrf_every: int = Field(default=0, description="set a new BPMCSRF cookie after so many requests; 0 never", ge=0)

    max_entity_row_count: int = Field(default=20_000, description="rows in one answer at most", ge=1)
    next_link: bool = Field(default=False, description="whether a capped answer carries @odata.nextLink")
    honour_maxpagesize: bool = Field(default=False, description="whether `Prefer: odata.maxpagesize` cuts pages, with a nextLink")
    max_answer_bytes: int = Field(default=0, description="size of rows at which the memory guard ends a read; 0 never", ge=0)
    memory_status: Literal[500, 503] = Field(default=500, description="status of a read that the memory guard ends")
    max_expansion_depth: int = Field(default=2, description="ODataMaxExpansionDepth", ge=0)
    max_batch_requests: int = Field(default=100, description="operations in one $batch", ge=1)
    max_query_length: int = Field(default=2048, description="characters of a query string before IIS answers 404", ge=1)
    batch_atomic: bool = Field(default=False, description="whether a failed atomicity group is rolled back")

    text_overflow: Literal["error", "truncate"] = Field(default="error", description="text longer than its column: 500 or cut")
    csdl_max_length: bool = Field(default=False, description="whether $metadata shows MaxLength")
    flat_lookup_filter: Literal["error", "accept"] = Field(default="error", description="`XId eq` in $filter: 500, or as `X/Id eq`")
    null_lookup_filter: Literal["accept", "error"] = Field(default="accept", description="`X/Id eq null` in $filter")
    max_node_count: int = Field(default=100, description="nodes of one $filter before it is refused (MaxNodeCount)", ge=1)
    in_operator: bool = Field(default=False, description="whether `in (...)` is understood in $filter")
    not_operator: bool = Field(default=True, description="whether `not` is understood in $filter")
    lambda_operators: bool = Field(default=False, description="whether `any` and `all` are understood in $filter")
    more_functions: bool = Field(default=True, description="whether $filter has more functions than contains, startswith, endswith")
    ignore_case: bool = Field(default=False, description="whether texts compare without regard to case, as on SQL Server")
    keep_client_stamps: bool = Field(default=False, description="whether CreatedOn/ModifiedOn/...ById of a client are kept")
    empty_patch_stamps: bool = Field(
        default=True, description="whether a save that changes nothing moves ModifiedOn: a PATCH, an order's by its line"
    )
    stored_digits: Literal[6, 7] = Field(default=6, description="digits of a second that the database keeps and reads show")
    missing_id: Literal[404, 204] = Field(default=404, description="answer to a PATCH or DELETE of an id that is not there")
    duplicate_status: Literal[500, 409] = Field(default=500, description="status of a POST with an id that is there")
    null_values: Literal["clear", "refuse"] = Field(
        default="clear", description="null for another column than a text, in a body: empties, or 400"
    )
    empty_guids: Literal["clear", "refuse"] = Field(default="clear", description="the empty guid for a lookup in a body: empties, or 500")
    odata_bind: Literal["refuse", "accept"] = Field(default="refuse", description="`X@odata.bind` in a body: 400, or sets the lookup")
    deep_insert: Literal["refuse", "accept"] = Field(default="refuse", description="children inside a POST: 400, or created with it")
    lenient_decimals: bool = Field(default=False, description="whether decimals come as number or string, whatever IEEE754Compatible says")
    date_offset_hours: float = Field(default=0, description="time zone of the API user, in which a Date column takes the day of a time")
    patch_returns_representation: bool = Field(default=False, description="whether Prefer: return=representation is honoured")
    foreign_keys: bool = Field(default=True, description="whether a lookup to a missing row is refused")
    delete_referenced: Literal["refuse", "empty"] = Field(
        default="refuse",
        description="a delete of a row that others refer to: 500, or their lookups are emptied by SQL (their ModifiedOn stays)",
    )
    nul_in_text: Literal["refuse", "accept"] = Field(
        default="refuse",
        description="U+0000 in a text: 500 as PostgreSQL says it, or kept as SQL Server keeps it",
    )
    side_effects: bool = Field(default=True, description="whether communications, addresses, names, documents follow each other")
    system_settings: dict[str, str] = Field(
        default_factory=lambda: {
            "PrimaryCurrency": "USD",
            "DefaultUnit": "Piece",
            "DefaultTax": "No tax",
            "BasePriceList": "Base price list",
        },
        description="names of the rows that a create fills in for currency, unit, tax and price list",
    )
    default_statuses: dict[str, str] = Field(
        default_factory=lambda: {
            "Case.StatusId": "New",
            "Invoice.PaymentStatusId": "Not invoiced",
            "Order.StatusId": "Draft",
            "Order.PaymentStatusId": "Planned",
            "SupplyPaymentElement.StateId": "Not finished",
        },
        description="first states that a create fills in; a required one that isn't named is 500 without it",
    )
    registered_on: Literal["now", "refuse"] = Field(
        default="now", description="a case without RegisteredOn: the time of its create, or 500"
    )
    line_amounts: Literal["client", "primary", "server"] = Field(
        default="client",
        description="amounts of a line: as sent, Primary* worked out by the rate of its document, or all worked out by the server",
    )
    rate_change: Literal["primary", "amounts"] = Field(
        default="primary",
        description="which amounts of the lines a changed currency or rate rewrites: Primary* from the others, or the others from them",
    )
    order_payments: Literal["installments", "invoices"] = Field(
        default="installments", description="whose payments an order's PaymentAmount is the sum of"
    )

    culture: str = Field(default="en-US", description="culture of the API user: language of lookup names")
    hidden_ids: dict[str, list[str]] = Field(
        default_factory=dict,
        description="rows by entity that the API user has no right to see",
    )
    locked_ids: dict[str, list[str]] = Field(
        default_factory=dict,
        description="rows by entity that the API user may read but not change or delete (403)",
    )
    denied_columns: dict[str, list[str]] = Field(
        default_factory=dict,
        description="columns by entity that the API user has no right to read",
    )
    denied_column: Literal["blank", "refuse"] = Field(default="blank", description="a column without the right: empty, or right_status")
    unlicensed_sets: list[str] = Field(default_factory=list, description="entity sets that the API user has no licence for (right_status)")
    unpublished_sets: list[str] = Field(default_factory=list, description="entity sets that OData does not know, as while one is published")
    message_detail: bool = Field(default=True, description="whether the 404 of an unknown set carries MessageDetail")
    blocked_sets: list[str] = Field(default_factory=list, description="entity sets that the API user has no right to read")
    unwritable_sets: list[str] = Field(default_factory=list, description="entity sets that the API user may read but not change")
    right_status: Literal[403, 500] = Field(default=403, description="status of an answer that says that a right is missing")
    delete_log: list[str] = Field(
        default_factory=lambda: ["Account", "Contact"],
        description="objects whose deletes are logged (8.3.2+)",
    )
    can_view_delete_log: bool = Field(default=True, description="whether the API user has CanViewEntityDeleteLog")


def command_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that both commands have; its help lists every setting."""
    lines = [f"  {name}: {field.description} ({field.get_default(call_default_factory=True)!r})" for name, field in _FIELDS]
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="settings (default):\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--settings", type=read_settings, default={}, help="settings as a JSON object")
    return parser


def read_settings(text: str) -> dict[str, object]:
    """Read the settings of a command line; argparse shows what is wrong with them."""
    try:
        values = json.loads(text)
        Switches(CreatioSettings()).update(values)
    except (ValueError, TypeError, Refused) as error:
        raise argparse.ArgumentTypeError(f"{text!r} can't be used: {error}") from error
    return dict(values)


_FIELDS = tuple(CreatioSettings.model_fields.items())
