"""The settings of the stand-in, all of which can be changed while it runs (``PUT /_control/settings``)."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

BULK_TABLES = frozenset({"account", "contact", "opportunity", "opportunityproduct", "salesorderdetail", "incident"})


class Settings(BaseModel):
    """How strict, how limited and how slow the server is. Limits are per user and web server (dataverse.md 7)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    tracked_tables: frozenset[str] = frozenset(
        {"account", "contact", "product", "pricelevel", "productpricelevel", "lead", "opportunity"}
        | {"quote", "salesorder", "invoice", "incident"}
    )
    """Tables with change tracking enabled; others answer 0x80072491."""
    change_tracking_expiry_seconds: float = Field(default=7 * 86_400, gt=0)
    """Age after which a delta link answers 0x80044352 (a real organisation counts in days)."""
    expired_token_status: Literal[400, 410] = 400
    """HTTP status of an expired delta link: no source tells it (dataverse.md 14)."""
    tracked_next_links: Literal["carry", "repeat"] = "carry"
    """Whether the nextLinks of a first tracked read carry the tracking themselves, or want `Prefer` again (dataverse.md 14)."""
    read_only_columns: Literal["ignore", "refuse"] = "ignore"
    """What happens to columns in a body that can't be written: the real server ignores most of them."""
    failed_batch_parts: Literal["all", "failing"] = "all"
    """What a failed batch's reply holds: every operation that ran, or the failing one only (both were reported)."""
    batch_url_limit: Literal[65_536, 32_768] = 65_536
    """Longest address in a part of a batch: the documentation of 2023 says 64 KB, that of 2021 half of it (dataverse.md 3)."""
    unversioned_tables: frozenset[str] = frozenset()
    """Tables without IsOptimisticConcurrencyEnabled: `If-Match` with a version is 0x8006088D there, and nothing is ever 304."""
    insights: Literal["on", "off"] = "on"
    """Whether the columns are there that come with the insights solutions: scores, grades and reasons of leads and opportunities."""
    duplicate_rules: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Table to the columns whose equality its published duplicate rule calls a duplicate; felt only by those who ask for it."""
    unauthorized_body: Literal["empty", "json"] = "empty"
    """Body of a 401 [memory: it may be empty]."""
    admin_mode_answer: Literal["privilege", "disabled", "bare"] = "privilege"
    """What the 403 of the administration mode says: a message, 0x8004A104, or nothing that is JSON (dataverse.md 8, 14)."""
    link_host: Literal["asked", "plain"] = "asked"
    """Host of next and delta links: the one that was asked, or the one without `.api.` whichever was asked (dataverse.md 1)."""
    unreadable_tables: frozenset[str] = frozenset()
    """Tables on which the application user lacks the read privilege: 403 0x80040220."""
    unwritable_tables: frozenset[str] = frozenset()
    """Tables on which it lacks the privileges to create, change and delete."""
    account_contacts: Literal["delete", "unlink"] = "delete"
    """What becomes of the contacts of an account that is deleted: the shipped relationship deletes them [memory], a changed one unlinks."""
    create_only_columns: Literal["refuse", "ignore"] = "refuse"
    """What a change of a column that is valid on create only does to rows of sales and service: 400 or nothing [memory for both]."""
    products_created: Literal["draft", "active"] = "draft"
    """State of a new product: an organisation's setting "create products in active state" [memory: the default]."""
    quantity_decimals: Literal["accept", "refuse"] = "accept"
    """A line's quantity with more decimals than its product allows: kept, or refused with 0x80043B07 [memory for both]."""
    pricing_errors: Literal["save", "refuse"] = "save"
    """A client's line with a pricing error: saved with its code [memory], or refused with 400 0x80040203."""
    closing_by_update: Literal["refuse", "accept"] = "refuse"
    """Whether PATCH closes quotes, orders and cases, or 0x80100005 names the action [memory; seen for opportunities only]."""
    quotes_reopened: Literal["refuse", "accept"] = "refuse"
    """Whether PATCH makes a draft of a won or closed quote, or ReviseQuote only makes a new one of it [memory for both]."""
    nul_in_text: Literal["refuse", "accept"] = "accept"
    """U+0000 in a text: kept as SQL Server keeps it, or refused by the XML in between [memory for both]."""
    bulk_tables: frozenset[str] = BULK_TABLES
    """Tables that take CreateMultiple, UpdateMultiple and UpsertMultiple."""
    bulk_ids: Literal["given", "own"] = "given"
    """Ids of rows made by CreateMultiple: those in the targets, or the server's own whatever is asked for [memory: given]."""
    crashing_ids: frozenset[str] = frozenset()
    """Rows on whose create a plug-in crashes: 500 0x80040224 for the whole operation."""
    bulk_timeout_rows: int = Field(default=1_000_000, ge=1)
    """Rows of a bulk message beyond which the database gives up: 500 0x80044151, nothing done."""
    bulk_delete_delay_seconds: float = Field(default=0.2, ge=0)
    """Time until the job of a BulkDelete is done."""
    request_limit: int = Field(default=1_000_000, ge=1)
    """Requests in 300 s before 429 0x80072322 (a real server: 6,000 or more)."""
    time_limit_seconds: float = Field(default=1_000_000, gt=0)
    """Execution seconds in 300 s before 429 0x80072321 (a real server: 1,200)."""
    concurrency_limit: int = Field(default=1_000, ge=1)
    """Requests at the same time before 429 0x80072326 (a real server: 52)."""
    limit_window_seconds: float = Field(default=300, gt=0)
    """Length of the sliding window of the first two limits."""
    stored_fractions: bool = False
    """Whether rows keep milliseconds of their times, which the wire doesn't show: conditions are compared with what is kept."""
    latency_seconds: float = Field(default=0, ge=0)
    """Time that every request takes before its work is done; it counts as running meanwhile."""
    web_servers: int = Field(default=1, ge=1)
    """Virtual web servers, each with limits of its own, chosen by the affinity cookie or in turn."""
    largest_body: int = Field(default=16 * 1024 * 1024, ge=1)
    """Bytes of a request body before 413."""
    dop_hint: int = Field(default=4, ge=1)
    """Value of the header ``x-ms-dop-hint``."""
    execution_seconds: float = Field(default=0.005, ge=0)
    """Execution time that one operation is charged with."""
    metadata_lag_seconds: float = Field(default=0, ge=0)
    """How long `EntityDefinitions` shows a table as it was before a change, except with `Consistency: Strong` (a real server: 30 s)."""
    customization_delay_seconds: float = Field(default=0.2, ge=0)
    """Time until a new column can be used and a new key's index is Active."""
    tenant: str = "00000000-0000-0000-0000-00000000aaaa"
    """Tenant named in WWW-Authenticate."""
