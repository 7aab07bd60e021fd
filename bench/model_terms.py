"""What the model of scale takes for given: every number with where it comes from.

A source names a section of the reference pages, the code or file that sets the number, the bench that measured it, or says "assumed".
What is assumed is varied in bench/SCALE.md, so that nobody takes it for known.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from shared.core.work import BATCH_SIZE
from shared.settings import Settings
from shared.systems.creatio import MOST_WRITES, Creatio
from shared.systems.creatio_wire import MOST_IDS
from shared.systems.dataverse import Dataverse

_HOST: Final = json.loads((Path(__file__).resolve().parents[1] / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]
T = TypeVar("T")

CREATIO: Final = "creatio"
DATAVERSE: Final = "dataverse"
SYSTEMS: Final = (CREATIO, DATAVERSE)


class Kind(StrEnum):
    """What a batch of records asks for."""

    LOAD = "load"
    """Records of Creatio that Dynamics does not have yet: looked for, then created."""
    TO_DYNAMICS = "to_dynamics"
    """Bound records that were edited in Creatio."""
    TO_CREATIO = "to_creatio"
    """Bound records that were edited in Dynamics."""

    @property
    def source(self) -> str:
        """Return the system whose feed brings the records."""
        return DATAVERSE if self is Kind.TO_CREATIO else CREATIO

    @property
    def target(self) -> str:
        """Return the system that is written."""
        return CREATIO if self is Kind.TO_CREATIO else DATAVERSE


def _given(value: T, source: str) -> T:
    made: T = field(default=value, metadata={"source": source})
    return made


def _setting(name: str) -> Any:
    return Settings.model_fields[name].default


def _default(system: type, name: str) -> Any:
    return inspect.signature(system).parameters[name].default


@dataclass(frozen=True)
class Assumptions:
    """Times in seconds, sizes in rows, ids or operations."""

    batch_size: int = _given(BATCH_SIZE, "shared/core/work.py")
    message_fetch: int = _given(int(_HOST["batchSize"]), "host.json")
    message_threshold: int = _given(int(_HOST["newBatchThreshold"]), "host.json")
    most_idle_wait: float = _given(float(_HOST["maxPollingInterval"][-2:]), "host.json")
    crash_delay: float = _given(float(_HOST["visibilityTimeout"][-2:]), "host.json")
    most_dequeues: int = _given(int(_HOST["maxDequeueCount"]), "host.json")
    crash_share: float = _given(0.0, "assumed; share of messages whose function ends with an exception")

    most_instances: int = _given(100, "azure.md 4.2: default of maximumInstanceCount")
    instance_start: float = _given(10.0, "assumed; azure.md 4.2 says seconds to two minutes")
    scale_every: float = _given(10.0, "assumed: how often target-based scaling decides; azure.md 2.2 gives its rule only")
    scale_step: int = _given(4, "assumed: instances added by one decision")

    creatio_slots: int = _given(_setting("creatio_slots"), "shared/settings.py")
    dataverse_slots: int = _given(_setting("dataverse_slots"), "shared/settings.py")
    bulk_share: float = _given(0.5, "design.md 6: bulk takes at most half")
    slot_retry: float = _given(5.0, "shared/engine/sync.py: seconds until a message without a slot comes again")
    accounts: int = _given(1, "app users of Dataverse; the app has one")

    dataverse_window: float = _given(300.0, "dataverse.md 7")
    dataverse_requests: int = _given(6_000, "dataverse.md 7; a live log showed 8,000")
    dataverse_seconds: float = _given(1_200.0, "dataverse.md 7")
    dataverse_concurrent: int = _given(52, "dataverse.md 7")
    dataverse_servers: int = _given(1, "dataverse.md 7: limits are per web server; their number is not known, so the least")
    dataverse_at_once: int = _given(4, "dataverse.md 7: sample of x-ms-dop-hint, heeded by shared/systems/pace.py in each process")
    creatio_at_once: int = _given(8, "shared/systems/creatio_connection.py: connections; creatio.md 3 advises 4 to 8")
    creatio_parallel: int = _given(8, "creatio.md 3: few parallel requests; more wait for each other on the server")
    creatio_daily: int = _given(0, "creatio.md 3: Growth 10,000 requests a day and user, Enterprise none; 0 is none")

    creatio_page: int = _given(_setting("creatio_page_size"), "shared/settings.py")
    dataverse_page: int = _given(_default(Dataverse, "page_size"), "shared/systems/dataverse.py")
    creatio_read: int = _given(MOST_IDS * _default(Creatio, "read_parts"), "shared/systems/creatio.py: ids a $batch of reads")
    dataverse_read: int = _given(_default(Dataverse, "read_size"), "shared/systems/dataverse.py")
    creatio_write: int = _given(MOST_WRITES, "shared/systems/creatio.py: records a $batch of writes")
    dataverse_write: int = _given(_default(Dataverse, "batch_size"), "shared/systems/dataverse.py: operations a $batch")
    dataverse_find: int = _given(100, "shared/systems/dataverse_reads.py: keys a query")
    match_keys: int = _given(2, "mappings/sales.account.json")
    late_share: float = _given(0.07, "share of creates that need a second operation (inactive ones): sandbox/seed.py")

    creatio_latency: float = _given(0.15, "assumed: a request that does nothing, way included")
    dataverse_latency: float = _given(0.15, "assumed: a request that does nothing, way included")
    creatio_row: float = _given(0.001, "assumed: reading one row")
    dataverse_row: float = _given(0.001, "assumed: reading one row")
    creatio_save: float = _given(0.1, "assumed: saving one record, event handlers included")
    dataverse_create: float = _given(0.06, "assumed: twice the 30 ms of an update; CreateMultiple's sample is 10 ms (dataverse.md 6.3)")
    dataverse_update: float = _given(0.03, "dataverse.md 6.3: UpdateMultiple's sample, 100 rows in 3 s")
    spread: float = _given(0.2, "assumed: service times differ by up to so much either way, evenly")

    load_cpu: float = _given(0.0125, "bench/model_check.py: processor time a record")
    edit_cpu: float = _given(0.0051, "bench/model_check.py: processor time a record")
    echo_cpu: float = _given(0.0014, "bench/model_check.py: processor time a record")
    attempt_cpu: float = _given(0.01, "assumed: a message that finds no free slot")

    ledger_latency: float = _given(0.005, "assumed: a table request within one region")
    ledger_side_by_side: int = _given(16, "shared/ledger/tables.py")
    partition_rate: float = _given(2_000.0, "azure.md 6.1: entities a second and partition")
    account_rate: float = _given(20_000.0, "azure.md 6.1: transactions a second and account")
    transaction: int = _given(100, "azure.md 6.1")
    state_rows: int = _given(8, "rows of the partition `poll`: settings, watermarks, pins, pauses of one flow")

    batch_row: int = _given(30_500, "tests/unit/test_bench_model.py: bytes of a batch row of a hundred ids, as Table Storage counts them")
    entitlement: int = _given(500_000, "dataverse.md 7: least pool of requests in 24 hours of a Dynamics 365 tenant, not enforced yet")

    poll_interval: float = _given(_setting("default_interval_ms") / 1000, "shared/settings.py")
    function_timeout: float = _given(600.0, "host.json")
    instance_memory: int = _given(2_048, "azure.md 4.2, MB")
    cold_creatio: int = _given(10, "bench/model_check.py: metadata, eight lists and users, once a process")
    cold_rounds: int = _given(4, "bench/model_check.py: metadata, the lists in two rounds, users")
    cold_dataverse: int = _given(4, "bench/model_check.py: two kinds of options, users and their definition, once a process")
    cold_poll: int = _given(4, "bench/model_check.py: three definitions and the feed, beside who we are, at the first poll of a process")

    def slots(self, system: str, *, bulk: bool) -> int:
        """Return how many batches may work on a system at one time."""
        number = self.creatio_slots if system == CREATIO else self.dataverse_slots * self.accounts
        return max(1, int(number * self.bulk_share)) if bulk else number

    def most_batches(self, *, bulk: bool) -> int:
        """Return how many batches work at one time: each holds a slot of both systems."""
        return min(self.slots(system, bulk=bulk) for system in SYSTEMS)

    def messages_an_instance(self) -> int:
        """Return the messages that one instance works on at one time (azure.md 2.2)."""
        return self.message_fetch + self.message_threshold

    def page(self, system: str) -> int:
        """Return the rows of a page of a system's feed."""
        return self.creatio_page if system == CREATIO else self.dataverse_page

    def latency(self, system: str) -> float:
        """Return the time of a request that does nothing."""
        return self.creatio_latency if system == CREATIO else self.dataverse_latency

    def row(self, system: str) -> float:
        """Return the time of reading a row."""
        return self.creatio_row if system == CREATIO else self.dataverse_row

    def write_time(self, kind: Kind) -> float:
        """Return the server's time for writing one record."""
        return {Kind.LOAD: self.dataverse_create, Kind.TO_DYNAMICS: self.dataverse_update, Kind.TO_CREATIO: self.creatio_save}[kind]


def sources() -> Mapping[str, str]:
    """Return where each number comes from."""
    return {one.name: str(one.metadata["source"]) for one in fields(Assumptions)}


@dataclass(frozen=True)
class Load:
    """Work to do: records by kind; all of it is found by the polls of one moment. `bulk`: it is a utility run."""

    records: Mapping[Kind, int]
    bulk: bool = False
    echoes: bool = True
    """Whether the writes come back through the target's feed and are dropped there."""

    @property
    def total(self) -> int:
        """Return the number of records."""
        return sum(self.records.values())
