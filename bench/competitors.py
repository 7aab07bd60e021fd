"""Who takes part in the comparison, and what is fair and what is unfair about each."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Competitor:
    """One program: a module with its further arguments, and the environment it runs in ("" for Tandem's own)."""

    name: str
    title: str
    module: str
    arguments: tuple[str, ...] = ()
    environment: str = ""
    package: str = ""
    """The package whose installed version is shown."""
    settings: tuple[tuple[str, str], ...] = ()
    """Environment variables: the documented switches that turn off telemetry."""
    fair: str = ""
    unfair: str = ""
    serial: bool = False
    """One request for each record: left out where that would take minutes."""


TANDEM_BARE: Final = Competitor(
    "tandem-bare",
    "Tandem, without ledger",
    "bench.tandem_load",
    ("bare", "creatio"),
    fair="The product's adapters and core, and nothing kept: what the other tools do. Same server, same accounts, same result, checked.",
    unfair=(
        "Against Tandem: it reads ids first and the rows after them (15 ids a filter, 100 records a batch), writes by `$batch` of 100 with "
        "an answer for each record and each written row sent back, and checks every value against the live metadata. In its favour: "
        "8 batches are under way at the same time; the others go one step after the other."
    ),
)
TANDEM_BULK: Final = Competitor(
    "tandem-bulk",
    "Tandem, bulk load with ledger in memory",
    "bench.tandem_load",
    ("bulk", "creatio"),
    fair="The product's bulk load as an operator starts it, but for the storage: ranges, pages, match before create, CreateMultiple.",
    unfair=(
        "Against Tandem: no other tool here searches for doubles, can be killed at any moment without losing or doubling a record, or "
        "knows afterwards which field changed. In its favour: the ledger costs no request, and it has 8 slots of each account, so that the "
        "half which a bulk run may take is enough for all of its messages; the default is 4."
    ),
)
TANDEM: Final = Competitor(
    "tandem",
    "Tandem, scheduled flow with ledger in memory",
    "bench.tandem_load",
    ("engine", "creatio"),
    fair="What the product does for a new record that a poll finds, but for the storage: the same laws as in bulk, batches of 100.",
    unfair="As the bulk load. No load of many records is meant to go this way; it shows what the bulk load is worth.",
)
TANDEM_WEIGHED: Final = Competitor(
    "tandem-weighed",
    "Tandem, bulk load with ledger elsewhere",
    "bench.tandem_load",
    ("bulk-weighed", "creatio"),
    fair="The bulk load over a ledger that forgets each binding once it is bound: for memory only.",
    unfair="The clients of a real ledger would add some megabytes.",
)
SERIAL: Final = Competitor(
    "serial-1000",
    "serial httpx loop, 1,000 a request",
    "bench.peers.serial",
    ("1000",),
    fair="The least that any Python program can do: `json`, one mapping function, one request after the other.",
    unfair="Against the rest: it has no types, no retries, no state, no schema, no log; a row that is refused ends it.",
)
SERIAL_100: Final = Competitor(
    "serial-100",
    "serial httpx loop, 100 a request",
    "bench.peers.serial",
    ("100",),
    fair="The same loop with the batch that Tandem writes: the serial client that the latency budget is judged by.",
    unfair="As above.",
)
SERIAL_ONE: Final = Competitor(
    "serial-1",
    "serial httpx loop, one record a request",
    "bench.peers.serial",
    ("1",),
    fair="What a first script looks like.",
    unfair="Against it: nobody loads many records that way twice.",
    serial=True,
)
DLT: Final = Competitor(
    "dlt",
    "dlt",
    "bench.peers.dlt_load",
    environment="dlt",
    package="dlt",
    settings=(("RUNTIME__DLTHUB_TELEMETRY", "false"),),
    fair="Its REST source, its custom destination, its defaults; the destination's batch is that of the others (its default is 10).",
    unfair=(
        "Against dlt: it extracts to disk, infers a schema and keeps a load package that can be taken up again. In its favour: "
        "CreateMultiple."
    ),
)
SINGER: Final = Competitor(
    "singer-sdk",
    "singer-sdk",
    "bench.peers.pipe",
    ("bench.peers.singer_tap", "bench.peers.singer_target"),
    environment="singer-sdk",
    package="singer-sdk",
    fair="A tap and a target joined by a pipe, as Singer is used; two processes, so it may use both cores.",
    unfair=(
        "Against singer-sdk: it checks each record against the schema on both sides of the pipe and writes metrics to its log. In its "
        "favour: CreateMultiple, and the time of the slower start of the two processes does not count as work."
    ),
)
AIRBYTE: Final = Competitor(
    "airbyte-cdk",
    "airbyte-cdk",
    "bench.peers.pipe",
    ("bench.peers.airbyte_source", "bench.peers.airbyte_destination"),
    environment="airbyte-cdk",
    package="airbyte-cdk",
    fair="A source and a destination of the CDK joined by a pipe; two processes, so it may use both cores.",
    unfair=(
        "In its favour: the platform that runs connectors in containers, and copies every message between them, is left out; "
        "CreateMultiple. Against it: each record becomes a message of its own, as the protocol asks."
    ),
)
MICROSOFT: Final = Competitor(
    "dataverse-client",
    "PowerPlatform-Dataverse-Client",
    "bench.peers.dataverse_client",
    environment="dataverse-client",
    package="PowerPlatform-Dataverse-Client",
    fair="Microsoft's client as its README shows it: pages of a table in, `create` of lists out, which is CreateMultiple.",
    unfair=(
        "Against it: it accepts HTTPS only, so it alone pays for TLS. In its favour: it can read Dataverse only, so it reads the same "
        "accounts as a Dataverse table; and it is a client, not a sync: no state, no schema, no types."
    ),
)
ALL: Final = (TANDEM_BARE, TANDEM_BULK, TANDEM, SERIAL, SERIAL_100, SERIAL_ONE, DLT, SINGER, AIRBYTE, MICROSOFT)
PEERS: Final = (DLT, SINGER, AIRBYTE, MICROSOFT)
