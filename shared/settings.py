"""The settings of the app, read once from the environment and checked all together.

Each field of `Settings` carries the name of its setting as its alias and its meaning as its description; the table in
README.md and local.settings.sample.json are held against them by tests/unit/test_docs.py.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from shared import setting_values as parse
from shared.core.errors import ConfigError
from shared.core.fingerprint import Keyring

STORAGE_SERVICES: Final = {"AzureWebJobsStorage": ("queue", "table"), "LEDGER_STORAGE": ("table",)}
"""Each storage account by the prefix of its settings, with the services that the app uses there."""
STORAGE_PREFIXES: Final = tuple(STORAGE_SERVICES)
IDENTITY_SUFFIXES: Final = ("accountName", "blobServiceUri", "queueServiceUri", "tableServiceUri", "credential", "clientId")
_RESOURCE_ID: Final = "managedIdentityResourceId"
_OWN_PREFIXES: Final = ("CREATIO_", "DATAVERSE_", "ENTRA_")
_KEY_VAULT_REFERENCE: Final = "@Microsoft.KeyVault("

SystemUrl = Annotated[str, BeforeValidator(parse.system_url)]


class Settings(BaseModel):
    """Hold every setting; frozen, secrets typed as secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    creatio_base_url: SystemUrl = Field(alias="CREATIO_BASE_URL", description="Address of the Creatio site, without `/0`.")
    creatio_identity_url: SystemUrl | None = Field(
        default=None,
        alias="CREATIO_IDENTITY_URL",
        description="Address of Creatio's identity service; default: `-is` after the first label of the site's host name.",
    )
    creatio_auth: Literal["oauth", "forms"] = Field(
        default="oauth",
        alias="CREATIO_AUTH",
        description="How to log in to Creatio: `oauth` (client credentials) or `forms` (user and password).",
    )
    creatio_client_id: str | None = Field(
        default=None, alias="CREATIO_CLIENT_ID", description="Client id of the OAuth application; for `oauth`."
    )
    creatio_client_secret: SecretStr | None = Field(
        default=None, alias="CREATIO_CLIENT_SECRET", description="Client secret of the OAuth application; for `oauth`."
    )
    creatio_username: str | None = Field(default=None, alias="CREATIO_USERNAME", description="Name of the integration user; for `forms`.")
    creatio_password: SecretStr | None = Field(
        default=None, alias="CREATIO_PASSWORD", description="Password of the integration user; for `forms`."
    )
    creatio_app_prefix: Annotated[str, BeforeValidator(parse.path_prefix)] = Field(
        default="/0", alias="CREATIO_APP_PREFIX", description="`/0` for Creatio on .NET Framework, `/` for Creatio on .NET (no prefix)."
    )
    creatio_integration_contact_id: str | None = Field(
        default=None,
        alias="CREATIO_INTEGRATION_CONTACT_ID",
        pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        description="Contact id of the integration user; with `oauth` it lets the first run tell its own writes from others.",
    )
    creatio_page_size: int = Field(
        default=500, ge=1, le=20_000, alias="CREATIO_PAGE_SIZE", description="Rows a page when changes are listed."
    )
    creatio_overlap_seconds: int = Field(
        default=300, ge=0, le=86_400, alias="CREATIO_OVERLAP_SECONDS", description="How far each poll looks back behind the last one."
    )
    creatio_sees_all: bool = Field(
        default=False,
        alias="CREATIO_SEES_ALL",
        description="`true` when the integration user may read every record (right to view any data): only then deletes are carried over.",
    )
    creatio_slots: int = Field(
        default=4, ge=1, le=32, alias="CREATIO_SLOTS", description="Batches that may work on Creatio at one time, over all instances."
    )
    dataverse_url: SystemUrl = Field(alias="DATAVERSE_URL", description="Address of the Dataverse environment, without `/api/data`.")
    dataverse_auth: Literal["secret", "certificate", "managed_identity"] = Field(
        default="secret", alias="DATAVERSE_AUTH", description="How to log in to Dataverse: `secret`, `certificate` or `managed_identity`."
    )
    dataverse_slots: int = Field(
        default=4, ge=1, le=52, alias="DATAVERSE_SLOTS", description="Batches that may work on Dataverse at one time, over all instances."
    )
    entra_authority: Annotated[str, BeforeValidator(parse.https_url)] = Field(
        default="https://login.microsoftonline.com",
        alias="ENTRA_AUTHORITY",
        description="Address of Microsoft Entra; another one in national clouds.",
    )
    entra_tenant_id: str | None = Field(default=None, alias="ENTRA_TENANT_ID", description="Tenant id; for `secret` and `certificate`.")
    entra_client_id: str | None = Field(
        default=None,
        alias="ENTRA_CLIENT_ID",
        description="Client id of the app registration; for `managed_identity` that of a user-assigned identity, or empty.",
    )
    entra_client_secret: SecretStr | None = Field(default=None, alias="ENTRA_CLIENT_SECRET", description="Client secret; for `secret`.")
    entra_certificate: Annotated[SecretStr, BeforeValidator(parse.certificate_text)] | None = Field(
        default=None, alias="ENTRA_CERTIFICATE", description="Certificate with private key, PFX or PEM, in Base64; for `certificate`."
    )
    entra_certificate_password: SecretStr | None = Field(
        default=None, alias="ENTRA_CERTIFICATE_PASSWORD", description="Password of the certificate, when it has one."
    )
    entra_ca_file: Annotated[Path, BeforeValidator(parse.existing_file)] | None = Field(
        default=None,
        alias="ENTRA_CA_FILE",
        description="PEM file of the authority that signed ENTRA_AUTHORITY's certificate; only for stand-ins and proxies.",
    )
    storage: SecretStr | None = Field(
        default=None,
        alias="AzureWebJobsStorage",
        description="Connection string of the storage account; for an identity set `AzureWebJobsStorage__accountName` and so on instead.",
    )
    ledger_storage: SecretStr | None = Field(
        default=None,
        alias="LEDGER_STORAGE",
        description="The same for a storage account of its own for the ledger's tables; default: AzureWebJobsStorage.",
    )
    storage_identity: Mapping[str, str] = Field(
        default_factory=dict, description="The `__` settings of both storage accounts, by full name."
    )
    ledger_prefix: Annotated[str, BeforeValidator(parse.ledger_prefix)] = Field(
        default="tandem", alias="LEDGER_PREFIX", description="First part of the names of the ledger's tables."
    )
    fingerprint_keys: Annotated[SecretStr, BeforeValidator(parse.fingerprint_keys)] = Field(
        alias="FINGERPRINT_KEYS",
        description="`id:base64key[,id:base64key]`, newest first; a key is 32 random bytes. Old keys must stay in the list.",
    )
    mappings_dir: Path = Field(default=Path("mappings"), alias="MAPPINGS_DIR", description="Folder of the mapping files.")
    flows: Annotated[tuple[str, ...], BeforeValidator(parse.flow_names)] = Field(
        default=(),
        alias="FLOWS",
        description="Names of the flows that run, with commas; default: all that run `by_default`. Links to others are left out.",
    )
    poll_schedule: Annotated[str, BeforeValidator(parse.schedule)] = Field(
        default="0 * * * * *",
        alias="POLL_SCHEDULE",
        description="When the poll timer looks which flows are due: NCRONTAB, six fields, seconds first.",
    )
    watch_schedule: Annotated[str, BeforeValidator(parse.schedule)] = Field(
        default="30 */5 * * * *", alias="WATCH_SCHEDULE", description="When the watch timer sweeps: NCRONTAB, six fields."
    )
    poll_slice_seconds: int = Field(
        default=45,
        ge=1,
        le=540,
        alias="POLL_SLICE_SECONDS",
        description="How long one poll may work before the rest goes through the queue.",
    )
    default_interval_ms: int = Field(
        default=600_000,
        ge=1_000,
        le=86_400_000,
        alias="DEFAULT_INTERVAL_MS",
        description="Interval of a flow that has none of its own, in milliseconds.",
    )
    compare_interval_ms: int = Field(
        default=21_600_000,
        ge=1_000,
        le=604_800_000,
        alias="COMPARE_INTERVAL_MS",
        description="How often a side that lists no deletes (Creatio) is compared with the ledger, in milliseconds.",
    )
    max_change_share: float = Field(
        default=0.3,
        gt=0,
        le=1,
        alias="MAX_CHANGE_SHARE",
        description="A flow asks before it syncs changes of more than this share of its records at once (and of more than 100).",
    )
    waiting_days: int = Field(
        default=3, ge=1, le=365, alias="WAITING_DAYS", description="How long a record may wait for one that it refers to."
    )
    default_owner: Annotated[str, BeforeValidator(parse.email)] = Field(
        default="",
        alias="DEFAULT_OWNER",
        description="E-mail of the user, known to both systems, who owns what belongs to somebody unknown there; default: nobody.",
    )
    retention_days: int = Field(
        default=30, ge=1, le=3_650, alias="RETENTION_DAYS", description="How long finished runs and batches are kept."
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            ConfigError: every problem of every setting, in one message; never the value of a secret.
        """
        given = {
            name: text
            for name in setting_names()
            if (text := environ.get(name, "").strip()) or (name == "CREATIO_APP_PREFIX" and name in environ)
        }
        unresolved = tuple(name for name, text in given.items() if text.startswith(_KEY_VAULT_REFERENCE))
        problems = [
            f"{name}: the Key Vault reference was not resolved; check that the secret exists and that the app's identity may read it"
            for name in unresolved
        ]
        problems += _misspelt(environ)
        problems += _missing_companions(given)
        problems += _storage_problems(environ)
        values: dict[str, Any] = {name: text for name, text in given.items() if name not in unresolved}
        values["storage_identity"] = dict(_identity_settings(environ))
        settings: Self | None = None
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [
                _sentence(detail) for detail in error.errors() if not (detail["type"] == "missing" and detail["loc"][0] in unresolved)
            ]
        if problems or settings is None:
            raise ConfigError(problems)
        return settings

    @property
    def identity_url(self) -> str:
        """Return the address of Creatio's identity service, by the `-is` rule when no setting names it (creatio.md 1.4)."""
        return self.creatio_identity_url or parse.identity_url_of(self.creatio_base_url)

    @property
    def keyring(self) -> Keyring:
        """Return the fingerprint keys, the first of them as the current one."""
        return Keyring.parse(self.fingerprint_keys.get_secret_value())

    def storage_environ(self) -> dict[str, str]:
        """Return the storage settings by full name, as plain text, for the ledger's clients."""
        texts = {"AzureWebJobsStorage": self.storage, "LEDGER_STORAGE": self.ledger_storage}
        return {name: secret.get_secret_value() for name, secret in texts.items() if secret is not None} | dict(self.storage_identity)


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings, in the order of `Settings`."""
    return tuple(field.alias for field in Settings.model_fields.values() if field.alias is not None)


def _identity_settings(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for prefix in STORAGE_PREFIXES:
        for suffix in IDENTITY_SUFFIXES:
            if text := environ.get(f"{prefix}__{suffix}", "").strip():
                yield f"{prefix}__{suffix}", text


def _misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    """Find names that were surely meant to be one of ours; a setting that is silently ignored costs hours."""
    known = setting_names()
    for name in sorted(environ):
        if name.startswith(_OWN_PREFIXES) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            if near:
                yield f"{name}: there is no such setting; did you mean {near[0]}?"


def _missing_companions(given: Mapping[str, str]) -> Iterator[str]:
    """Name what the chosen ways to log in still need."""
    needs = {
        ("CREATIO_AUTH", "oauth"): ("CREATIO_CLIENT_ID", "CREATIO_CLIENT_SECRET"),
        ("CREATIO_AUTH", "forms"): ("CREATIO_USERNAME", "CREATIO_PASSWORD"),
        ("DATAVERSE_AUTH", "secret"): ("ENTRA_TENANT_ID", "ENTRA_CLIENT_ID", "ENTRA_CLIENT_SECRET"),
        ("DATAVERSE_AUTH", "certificate"): ("ENTRA_TENANT_ID", "ENTRA_CLIENT_ID", "ENTRA_CERTIFICATE"),
    }
    chosen = {"CREATIO_AUTH": given.get("CREATIO_AUTH", "oauth"), "DATAVERSE_AUTH": given.get("DATAVERSE_AUTH", "secret")}
    for (name, way), companions in needs.items():
        if chosen[name] == way:
            yield from (f"{companion}: not set; {name} is {way}, which needs it" for companion in companions if companion not in given)
    if chosen["CREATIO_AUTH"] == "oauth" and "CREATIO_IDENTITY_URL" not in given and (base := given.get("CREATIO_BASE_URL")):
        host = parse.host_without_labels(base)
        if host:
            yield f"CREATIO_IDENTITY_URL: not set, and it can't be derived from the host {host!r}; give the address of the identity service"


def _storage_problems(environ: Mapping[str, str]) -> Iterator[str]:
    """Check that each storage account is named in exactly one way (azure.md 3.1: a plain string would win silently)."""
    identity = dict(_identity_settings(environ))
    for prefix in STORAGE_PREFIXES:
        if environ.get(f"{prefix}__{_RESOURCE_ID}", "").strip():
            yield f"{prefix}__{_RESOURCE_ID}: not read by this app; name the identity by {prefix}__clientId instead"
        plain = bool(environ.get(prefix, "").strip())
        needed = [f"{prefix}__{service}ServiceUri" for service in STORAGE_SERVICES[prefix]]
        named = f"{prefix}__accountName" in identity or set(needed) <= identity.keys()
        partial = any(name.startswith(f"{prefix}__") for name in identity)
        if plain and partial:
            yield f"{prefix}: set as a connection string and as {prefix}__ settings; remove one of the two, or the string would win"
        elif not plain and not named and (partial or prefix == "AzureWebJobsStorage"):
            yield f"{prefix}: not set; give a connection string, or {prefix}__accountName, or {' and '.join(needed)}"


def _sentence(detail: ErrorDetails) -> str:
    """Put one finding of pydantic into the words of this app: the setting, what came, what is allowed."""
    name = str(detail["loc"][0])
    context = detail.get("ctx", {})
    field = next((field for field in Settings.model_fields.values() if field.alias == name), None)
    match detail["type"]:
        case "missing":
            return f"{name}: not set; {field.description if field else ''}"
        case "literal_error":
            return f"{name}: got {detail['input']!r}, allowed {str(context['expected']).replace(chr(39), '').replace(' or ', ', ')}"
        case "int_parsing" | "int_from_float" | "greater_than_equal" | "less_than_equal":
            low, high = (
                next((getattr(item, bound) for item in (field.metadata if field else ()) if hasattr(item, bound)), "")
                for bound in ("ge", "le")
            )
            return f"{name}: got {detail['input']!r}, allowed a whole number from {low} to {high}"
        case "string_pattern_mismatch":
            return f"{name}: got {detail['input']!r}, allowed a GUID such as 76929f8c-7e15-4c64-bdb0-adc62d383727"
        case _:
            return f"{name}: {context.get('error', detail['msg'])!s}"
