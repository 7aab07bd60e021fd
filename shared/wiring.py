"""The one place that joins ports to adapters. Built once per process, on the first invocation, inside the running loop (`process`)."""

import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from shared.core.errors import ConfigError
from shared.core.mapping import MappingSet
from shared.core.mapping_load import load
from shared.engine.bulk import Bulk
from shared.engine.decide import Decide
from shared.engine.operate import Operate
from shared.engine.poison import Poison
from shared.engine.poll import Poll
from shared.engine.ports import System
from shared.engine.services import Limits, Services
from shared.engine.sync import Sync
from shared.engine.tasks import Tasks
from shared.engine.walk import Walk
from shared.engine.watch import Watch
from shared.ledger.queues import StorageQueues
from shared.ledger.storage import Storage, open_storage
from shared.ledger.store import TableLedger
from shared.settings import Settings
from shared.systems import creatio_connection, dataverse_connection
from shared.systems.entra import EntraLogin, EntraSettings, make_credential
from shared.telemetry import log_event, quiet_libraries


@dataclass(frozen=True)
class App:
    """The use cases, ready to be called by the triggers."""

    settings: Settings
    services: Services
    ledger: TableLedger
    storages: tuple[Storage, ...]
    poll: Poll
    sync: Sync
    watch: Watch
    poison: Poison
    operate: Operate
    decide: Decide
    tasks: Tasks
    walk: Walk
    bulk: Bulk

    async def close(self) -> None:
        """Close every connection."""
        for system in self.services.systems.values():
            await system.close()
        for storage in self.storages:
            await storage.close()


def read_mappings(folder: Path, flows: tuple[str, ...] | None = ()) -> MappingSet:
    """Read the mapping files and value lists of a folder; `flows` narrows them, None to those that run by default. Raises ConfigError."""
    files = {path.name: path for path in sorted(folder.glob("*.json")) if not path.name.endswith((".cases.json", ".schema.json"))}
    if not files:
        raise ConfigError([f"MAPPINGS_DIR: got {folder}, which holds no mapping file, allowed a folder with <flow>.json files"])
    wanted = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    unknown = [flow for flow in flows or () if f"{flow}.json" not in wanted]
    if unknown:
        allowed = ", ".join(name.removesuffix(".json") for name in wanted)
        raise ConfigError([f"FLOWS: got {flow}, allowed {allowed}" for flow in unknown])
    values = {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / "values").glob("*.json"))}
    return load(wanted, values, flows)


def build(settings: Settings) -> App:
    """Join everything; nothing is sent before it is used. Raises ConfigError."""
    quiet_libraries()
    mappings = read_mappings(_root() / settings.mappings_dir, settings.flows or None)
    host, ledger_storage = (open_storage(settings.storage_environ(), prefix) for prefix in ("AzureWebJobsStorage", "LEDGER_STORAGE"))
    ledger = TableLedger(ledger_storage, settings.ledger_prefix)
    limits = Limits(
        poll_slice=timedelta(seconds=settings.poll_slice_seconds),
        default_interval_ms=settings.default_interval_ms,
        slots={"creatio": settings.creatio_slots, "dataverse": settings.dataverse_slots},
        retention=timedelta(days=settings.retention_days),
        compare_interval=timedelta(milliseconds=settings.compare_interval_ms),
        max_change_share=settings.max_change_share,
        waiting_limit=timedelta(days=settings.waiting_days),
        default_owner=settings.default_owner,
    )
    services = Services(
        ledger=ledger,
        queues=StorageQueues(host),
        systems=_systems(settings),
        mappings=mappings,
        keyring=settings.keyring,
        clock=_now,
        new_id=new_id,
        random=random.random,
        events=log_event,
        limits=limits,
    )
    poll = Poll(services)
    return App(
        settings,
        services,
        ledger,
        (host, ledger_storage),
        poll,
        Sync(services),
        Watch(services),
        Poison(services),
        Operate(services),
        Decide(services),
        Tasks(services, poll),
        Walk(services),
        Bulk(services),
    )


def new_id() -> str:
    """Return a fresh id that sorts by the time of its making: milliseconds and 40 random bits, in hex."""
    return f"{int(datetime.now(UTC).timestamp() * 1000):012x}{secrets.token_hex(5)}"


def _now() -> datetime:
    return datetime.now(UTC)


def _root() -> Path:
    return Path(__file__).resolve().parent.parent


def _systems(settings: Settings) -> Mapping[str, System]:
    return {"creatio": _creatio(settings), "dataverse": _dataverse(settings)}


def _creatio(settings: Settings) -> System:
    login: creatio_connection.OAuth | creatio_connection.Forms
    if settings.creatio_auth == "oauth":
        login = creatio_connection.OAuth(settings.identity_url, settings.creatio_client_id or "", _text(settings.creatio_client_secret))
    else:
        login = creatio_connection.Forms(settings.creatio_username or "", _text(settings.creatio_password))
    return creatio_connection.connect(
        settings.creatio_base_url,
        login,
        app_prefix=settings.creatio_app_prefix,
        page_size=settings.creatio_page_size,
        overlap_seconds=settings.creatio_overlap_seconds,
        integration_contact_id=settings.creatio_integration_contact_id or "",
        sees_all=settings.creatio_sees_all,
    )


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _dataverse(settings: Settings) -> System:
    entra = EntraSettings(
        settings.dataverse_auth,
        settings.entra_tenant_id or "",
        settings.entra_client_id or "",
        _text(settings.entra_client_secret),
        _text(settings.entra_certificate),
        settings.entra_authority,
        str(settings.entra_ca_file or ""),
        certificate_password=_text(settings.entra_certificate_password),
    )
    if problems := entra.problems():
        raise ConfigError(problems)
    login = EntraLogin(lambda: make_credential(entra), f"{settings.dataverse_url}/.default")
    return dataverse_connection.connect(f"{settings.dataverse_url}/api/data/v9.2", login)
