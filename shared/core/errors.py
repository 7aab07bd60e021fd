"""The errors of Tandem, grouped by what happens next.

    TandemError                 carries code, system, entity, record, request id, what to do, what the server said
    ├── Transient               tried again later; `retry_after` in seconds when the server named it
    ├── NotReady                waits for another record
    ├── Rejected                data or a business rule: a person must act; `field` when one column is to blame
    ├── Stale                   the record moved since it was read: read again, plan again
    └── Denied                  credentials, rights, admin mode, wrong environment: the flow stops, an alert goes out
    ConfigError                 settings or a mapping file are wrong; outside the tree, so that nothing swallows it

Each code stands once in `CATALOGUE`; `docs/errors.md` is made from it and a test compares.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class CatalogueEntry:
    """One error code as people read it: what it means and what a person should do."""

    title: str
    advice: str


CATALOGUE: dict[str, CatalogueEntry] = {}


def _catalogue(code: str, title: str, advice: str) -> None:
    CATALOGUE[code] = CatalogueEntry(title, advice)


# One line a code, in the order in which a reader meets them. `{system}` codes exist once for each system.
for _system, _name, _address in (("creatio", "Creatio", "CREATIO_BASE_URL"), ("dataverse", "Dynamics 365 (Dataverse)", "DATAVERSE_URL")):
    _catalogue(
        f"{_system}.unreachable",
        f"{_name} could not be reached, or the connection broke.",
        "Nothing to do at first: it is tried again. If it lasts, check the address, the network and the allow-list for the outbound IP.",
    )
    _catalogue(
        f"{_system}.unavailable",
        f"{_name} answered with a server error or a maintenance page.",
        "Nothing to do at first: it is tried again. If it lasts, look at the system's own health page.",
    )
    _catalogue(
        f"{_system}.throttled",
        f"{_name} asked to slow down.",
        "Nothing to do: Tandem waits as long as the system asks. If it happens daily, give bulk work a quieter hour.",
    )
    _catalogue(
        f"{_system}.not_json",
        f"{_name} sent text or HTML, or broken JSON, where JSON was due.",
        "Check that the base URL names the system itself and not a login page, a proxy or another product. It is tried again.",
    )
    _catalogue(
        f"{_system}.moved",
        f"{_name} sent Tandem to another address instead of answering.",
        f"Set {_address} to the address that the system answers at itself (https, final host name), then start the flow again.",
    )
    _catalogue(
        f"{_system}.bad_answer",
        f"{_name} sent JSON without a member that Tandem needs.",
        "Keep the request id and report it: the system may have changed its format. The record is kept as a failure.",
    )
    _catalogue(
        f"{_system}.bad_row",
        f"A row from {_name} lacks a column it must have, or a value has another type than its column.",
        "Compare the named column with the system's metadata; the other records went on.",
    )
    _catalogue(
        f"{_system}.login_failed",
        f"{_name} refused the credentials.",
        "Check user and password, or client id, secret or certificate and their expiry date, then start the flow again.",
    )
    _catalogue(
        f"{_system}.session_expired",
        f"The session or token for {_name} ran out twice in a row.",
        "It is tried again with a new login. If it lasts, check that no other client uses the same user and ends its sessions.",
    )
    _catalogue(
        f"{_system}.denied",
        f"{_name} refused access: a right or a licence is missing, or it is in administration mode.",
        "Give the integration user the right named in the text, or end the administration mode, then start the flow again.",
    )
    _catalogue(
        f"{_system}.not_found",
        f"The record is not in {_name} (any more), or the integration user may not see it.",
        "If it was deleted on purpose, nothing to do. Otherwise check the record rights of the integration user.",
    )
    _catalogue(
        f"{_system}.unknown_entity",
        f"{_name} does not know an object that a mapping names.",
        "Check the name (capital letters count), publish the object, or correct the mapping.",
    )
    _catalogue(
        f"{_system}.unknown_column",
        f"{_name} does not know a column that a mapping names.",
        "Create the column (CONTRIBUTING.md lists the custom ones) or take its row out of the mapping. Once it is there the flow needs an "
        "align run, which carries over what was edited meanwhile.",
    )
    _catalogue(
        f"{_system}.required",
        "A required field is empty.",
        "Fill the field in the source system; the record is then tried again by itself.",
    )
    _catalogue(
        f"{_system}.too_long",
        "A text is longer than its column allows.",
        "Shorten the text, or set the row's `overlong` to `truncate` in the mapping.",
    )
    _catalogue(
        f"{_system}.out_of_range",
        "A number or an option is outside what the column allows.",
        "Correct the value in the source system, or add the option to the value list of the mapping.",
    )
    _catalogue(
        f"{_system}.refused",
        f"{_name} refused the record by one of its own rules.",
        "Read what the server said, correct the record, and it is tried again by itself.",
    )
    _catalogue(
        f"{_system}.duplicate",
        f"{_name} already has a record with this key.",
        "Find the twin, merge or correct one of the two, then reprocess the failure.",
    )
    _catalogue(
        f"{_system}.changed_meanwhile",
        f"The record changed in {_name} while it was being synced.",
        "Nothing to do: it is read and planned again.",
    )
    _catalogue(
        f"{_system}.bad_request",
        f"{_name} did not understand a request.",
        "This is a fault of a mapping or of Tandem: report it with the request id. The record is kept as a failure.",
    )
    _catalogue(
        f"{_system}.unexpected",
        f"{_name} answered in a way that Tandem has no rule for.",
        "Report it with the request id. The record is kept as a failure.",
    )
    _catalogue(
        f"{_system}.other_environment",
        f"The address leads to another {_name} environment than the one that the ledger was filled with.",
        f"Set {_address} back. If the environment was moved and holds the same records, accept it; else use a new LEDGER_PREFIX.",
    )
_catalogue(
    "creatio.password_expired",
    "The password of the Creatio integration user has expired.",
    "Set a new password in Creatio and in the setting CREATIO_PASSWORD, then start the flow again.",
)
_catalogue(
    "dataverse.still_open",
    "A record can't be closed in Dynamics 365, because something that belongs to it is open: child cases, or activities.",
    "Resolve or cancel the child cases (or complete the activities) in Dynamics 365 first, then reprocess the record.",
)
_catalogue(
    "dataverse.tracking_off",
    "Change tracking is off for a table that a flow reads.",
    "Switch change tracking on for the table in Power Apps, then start the flow again.",
)
_catalogue(
    "dataverse.delta_expired",
    "The change-tracking link has expired.",
    "Nothing to do: a new chain is started and all rows are compared once.",
)
_catalogue(
    "dataverse.not_a_member",
    "The app has a token but no application user in this Dataverse environment.",
    "Create the application user for the client id and give it its security role.",
)
_catalogue(
    "document.totals_differ",
    "A document is in step on both sides, but the two sum it up differently.",
    "Compare the two figures: a discount, a tax, a rounding rule or a line without partner parts them. Correct the side that is wrong.",
)
_catalogue(
    "document.foreign_lines",
    "A document in Dynamics has lines that no line in Creatio stands for, so writing to it would double them.",
    "Remove those lines in Dynamics or unbind the document; it is tried again by itself when either side changes.",
)
_catalogue(
    "mapping.value_unknown",
    "A value has no partner in the value list of its mapping row.",
    "Add the pair to the value list, or change the value in the source system.",
)
_catalogue(
    "mapping.value_type",
    "A value does not fit the rule of its mapping row.",
    "Correct the value in the source system, or choose another rule for the row.",
)
_catalogue(
    "mapping.too_long",
    "A text is longer than the target column and the row says `reject`.",
    "Shorten the text, or set the row's `overlong` to `truncate`.",
)
_catalogue(
    "mapping.required",
    "A field that the mapping calls required is empty.",
    "Fill the field in the source system; the record is then tried again by itself.",
)
_catalogue(
    "mapping.not_same",
    "Two Creatio columns that must be equal differ, such as the currencies of a price and of its price list: the value means nothing then.",
    "Make the two named columns equal in Creatio. Where only one behind a lookup was changed, edit the record too or have it reprocessed.",
)
_catalogue(
    "mapping.reference_ended",
    "A record refers to one whose binding has ended.",
    "Point the reference to a living record, or reopen the ended binding.",
)
_catalogue(
    "match.ambiguous",
    "Several records on the other side match, or the one that matches belongs to another record already.",
    "Look at the candidates, merge the doubles or correct a key, then choose `reopen` for the record that is left.",
)
_catalogue(
    "match.merged",
    "A record was merged into another one in Dynamics, and both still stand in Creatio.",
    "Merge the two in Creatio as well (the conflict then closes by itself), or choose `delete` to leave them as they are.",
)
_catalogue(
    "match.waits_too_long",
    "A record has waited for a long time for another one to which it refers.",
    "Look why the record it names is not in step: it may be out of scope, rejected, or in conflict. It is still woken later.",
)
_catalogue(
    "merge.both_changed",
    "A field was changed on both sides, and its row asks a person.",
    "Choose whose value counts, or make both sides equal: the conflict then closes by itself.",
)
_catalogue(
    "merge.fights",
    "A field was written to one record again and again within an hour, and nobody edited it: something changes it back each time.",
    "Find the workflow, plug-in or process that changes the field, then choose whose value counts; or correct the mapping row.",
)
_catalogue(
    "delete.meets_edits",
    "A record was deleted on one side while the other side has edits that were not synced yet.",
    "Decide: `delete` carries the delete over, `reopen` creates the deleted record again from the one with the edits.",
)
_catalogue(
    "delete.reappeared",
    "A record whose binding had ended is there again, as after the restore of a backup.",
    "Decide: `reopen` puts it in step again, `delete` leaves the binding ended and closes the conflict.",
)
_catalogue(
    "delete.held",
    "More records were deleted within a day than Tandem carries over by itself.",
    "Look at the list. If the deletes are meant, approve them; otherwise restore the records and have them reopened.",
)
_catalogue(
    "sync.mass_change",
    "Far more records changed at once than `MAX_CHANGE_SHARE` allows; the flow rests and asks.",
    "If the change is meant, accept it. After the restore of a backup, start a `rebase` run from the side that is right.",
)
_catalogue(
    "match.reserved",
    "Another record with the same key is being created at this moment.",
    "Nothing to do: it is tried again when that one is done.",
)
_catalogue(
    "sync.stale_read",
    "A system answered with an older state of a record than Tandem has seen already.",
    "Nothing to do: it is read again later.",
)
_catalogue(
    "sync.unseen_row",
    "A change was announced but the record could not be read, and nothing says that it was deleted.",
    "Check whether the record was deleted, then the record rights of the integration user; the record is left alone.",
)
_catalogue(
    "sync.internal",
    "Tandem itself failed on this record.",
    "Report it with the code and the run; the record is kept as a failure and the others went on.",
)
_catalogue(
    "message.malformed",
    "A queue message could not be read.",
    "The message is kept as a failure. If its batch is still open it is sent again by itself.",
)
_catalogue(
    "message.future_version",
    "A queue message or a ledger row was written by a newer version of Tandem.",
    "Finish the deployment of the newer version, then reprocess the failure.",
)
_catalogue(
    "message.unknown_batch",
    "A queue message names a batch that is not in the ledger.",
    "Nothing is lost if the flow polls: compare the time with the last purge, then ignore the failure.",
)
_catalogue(
    "message.poisoned",
    "A message failed as often as the host allows.",
    "Read the run's errors, correct the cause, then reprocess the failure.",
)
_catalogue(
    "ledger.unknown_key",
    "The ledger names a fingerprint key that this app does not have.",
    "Set FINGERPRINT_KEYS to hold the key with that id again; the flow stays stopped until then.",
)
_catalogue(
    "ledger.busy",
    "Table or Queue Storage is busy or out of reach.",
    "Nothing to do at first: it is tried again. If it lasts, look at the storage account.",
)
_catalogue(
    "ledger.changed_meanwhile",
    "Another worker saved the same ledger row first.",
    "Nothing to do: the record is read and planned again.",
)


class ConfigError(Exception):
    """Settings or a mapping file are wrong; the text lists every problem at once."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{len(problems)} problem(s) in the configuration:", *(f"- {p}" for p in problems)]))


class TandemError(Exception):
    """One failed step, with all that an operator needs and no business value."""

    def __init__(
        self,
        code: str,
        said: str = "",
        *,
        system: str = "",
        entity: str = "",
        record_id: str = "",
        request_id: str = "",
        field: str = "",
    ) -> None:
        if code not in CATALOGUE:
            raise ConfigError([f"error code: got {code!r}, allowed {', '.join(sorted(CATALOGUE))}"])
        self.code = code
        self.said = said
        self.system = system
        self.entity = entity
        self.record_id = record_id
        self.request_id = request_id
        self.field = field
        super().__init__(self._sentence())

    @property
    def advice(self) -> str:
        """Say what a person should do."""
        return CATALOGUE[self.code].advice

    def _sentence(self) -> str:
        where = " ".join(part for part in (self.entity, self.record_id, self.field) if part)
        request = f"request {self.request_id}" if self.request_id else ""
        said = f"the server said: {self.said}" if self.said else ""
        details = "; ".join(part for part in (where, request, said) if part)
        return f"{self.code}: {CATALOGUE[self.code].title}" + (f" [{details}]" if details else "")


class Transient(TandemError):  # noqa: N818 - the design names the groups; each is read as "what happens next"
    """Try again later."""

    def __init__(self, code: str, said: str = "", *, retry_after: float | None = None, **facts: str) -> None:
        self.retry_after = retry_after
        super().__init__(code, said, **facts)


class NotReady(TandemError):  # noqa: N818 - as above
    """Wait for another record."""


class Rejected(TandemError):  # noqa: N818 - as above
    """Hold the record until a person or an edit changes it."""


class Stale(TandemError):  # noqa: N818 - as above
    """Read again, plan again."""


class Denied(TandemError):  # noqa: N818 - as above
    """Stop the flow and raise an alert."""
