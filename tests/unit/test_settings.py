"""Settings: what is read, what is refused, and in which words."""

import base64
from pathlib import Path

import pytest

from shared.core.errors import ConfigError
from shared.ledger.storage import Account, open_storage
from shared.settings import Settings, setting_names

KEY = base64.b64encode(b"k" * 32).decode()
ENOUGH = {
    "CREATIO_BASE_URL": "https://example.creatio.com",
    "CREATIO_CLIENT_ID": "creatio-client",
    "CREATIO_CLIENT_SECRET": "creatio-hush",
    "DATAVERSE_URL": "https://example.crm4.dynamics.com",
    "ENTRA_TENANT_ID": "tenant",
    "ENTRA_CLIENT_ID": "entra-client",
    "ENTRA_CLIENT_SECRET": "entra-hush",
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "FINGERPRINT_KEYS": f"k1:{KEY}",
}


def problems(**changes: str | None) -> tuple[str, ...]:
    """Return what is wrong with a good environment after some changes; None takes a setting away."""
    environ = {name: text for name, text in (ENOUGH | changes).items() if text is not None}
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ(environ)
    return caught.value.problems


def test_defaults_are_those_of_the_documentation() -> None:
    """The smallest environment is enough, and everything else has its documented default."""
    settings = Settings.from_environ(ENOUGH)
    assert settings.creatio_app_prefix == "/0"
    assert settings.creatio_auth == "oauth"
    assert settings.entra_authority == "https://login.microsoftonline.com"
    assert settings.creatio_overlap_seconds == 300
    assert (settings.poll_schedule, settings.watch_schedule) == ("0 * * * * *", "30 */5 * * * *")
    assert (settings.creatio_slots, settings.dataverse_slots, settings.retention_days) == (4, 4, 30)
    assert (settings.poll_slice_seconds, settings.default_interval_ms) == (45, 600_000)
    assert (settings.flows, settings.mappings_dir) == ((), Path("mappings"))


def test_the_default_owner_is_an_email_in_lower_case() -> None:
    """Mail addresses are compared in lower case; what is none is refused by name."""
    assert Settings.from_environ(ENOUGH | {"DEFAULT_OWNER": "Sales@Example.com"}).default_owner == "sales@example.com"
    assert problems(DEFAULT_OWNER="sales") == ("DEFAULT_OWNER: got 'sales', allowed an e-mail address such as sales@example.com",)


def test_empty_text_counts_as_not_set() -> None:
    """A setting left empty in a portal takes its default instead of breaking the app."""
    assert Settings.from_environ(ENOUGH | {"CREATIO_PAGE_SIZE": " ", "CREATIO_AUTH": ""}).creatio_page_size == 500


def test_all_problems_are_reported_together() -> None:
    """One start shows every mistake, so that nobody mends them one restart at a time."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ({"CREATIO_AUTH": "ntlm", "DATAVERSE_URL": "http://example.com", "RETENTION_DAYS": "0"})
    text = str(caught.value)
    for name in (
        "CREATIO_BASE_URL",
        "CREATIO_AUTH",
        "DATAVERSE_URL",
        "RETENTION_DAYS",
        "AzureWebJobsStorage",
        "FINGERPRINT_KEYS",
        "ENTRA_TENANT_ID",
    ):
        assert f"- {name}: " in text, name
    assert text.startswith(f"{len(caught.value.problems)} problem(s)")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("CREATIO_AUTH", "ntlm", "CREATIO_AUTH: got 'ntlm', allowed oauth, forms"),
        ("DATAVERSE_AUTH", "password", "DATAVERSE_AUTH: got 'password', allowed secret, certificate, managed_identity"),
        ("CREATIO_PAGE_SIZE", "many", "CREATIO_PAGE_SIZE: got 'many', allowed a whole number from 1 to 20000"),
        ("CREATIO_PAGE_SIZE", "20001", "CREATIO_PAGE_SIZE: got '20001', allowed a whole number from 1 to 20000"),
        ("DATAVERSE_SLOTS", "53", "DATAVERSE_SLOTS: got '53', allowed a whole number from 1 to 52"),
        ("CREATIO_APP_PREFIX", "/1", "CREATIO_APP_PREFIX: got '/1', allowed /0, /"),
        ("CREATIO_INTEGRATION_CONTACT_ID", "me", "CREATIO_INTEGRATION_CONTACT_ID: got 'me', allowed a GUID"),
        ("CREATIO_BASE_URL", "http://example.creatio.com", "allowed https; http only on loopback"),
        ("CREATIO_BASE_URL", "example.creatio.com", "allowed a web address such as https://"),
        ("CREATIO_BASE_URL", "https://example.creatio.com/0", "without '/0'"),
        ("CREATIO_BASE_URL", "https://example.creatio.com:0", "allowed a web address"),
        ("CREATIO_BASE_URL", "https://[half", "not a web address"),
        ("DATAVERSE_URL", "https://example.crm.dynamics.com/api/data/v9.2", "without '/api/data'"),
        ("DATAVERSE_URL", "https://example.crm.dynamics.com?x=1", "without '?' and '#'"),
        ("DATAVERSE_URL", "https://user:pw@example.crm.dynamics.com", "holds a user name or password"),
        ("ENTRA_AUTHORITY", "http://127.0.0.1:1", "starts with https://"),
        ("ENTRA_CA_FILE", "no/such/file.pem", "not a file that can be read"),
        ("LEDGER_PREFIX", "My-Ledger", "allowed 2 to 20 small letters and digits"),
        ("FLOWS", "accounts", "got 'accounts', allowed flow names such as sales.account"),
        ("POLL_SCHEDULE", "* * * * *", "allowed six fields"),
        ("FINGERPRINT_KEYS", "k1", "entry 1 has another form than id:base64key"),
        ("FINGERPRINT_KEYS", "k1:c2hvcnQ=", "key 'k1' has 5 bytes, allowed 32"),
        ("FINGERPRINT_KEYS", f"k1:{KEY},k1:{KEY}", "k1 stand(s) twice"),
        ("FINGERPRINT_KEYS", f"k1:{KEY},k2:%%%", "not Base64"),
        ("ENTRA_CERTIFICATE", "%%%", "not Base64"),
    ],
)
def test_a_wrong_value_is_answered_with_what_is_allowed(name: str, text: str, words: str) -> None:
    """Each wrong value gives one problem that names the setting and what it may be."""
    found = problems(**{name: text})
    assert len(found) == 1, found
    assert found[0].startswith(f"{name}: ")
    assert words in found[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"CREATIO_CLIENT_SECRET": None}, "CREATIO_CLIENT_SECRET: not set; CREATIO_AUTH is oauth"),
        ({"CREATIO_AUTH": "forms", "CREATIO_USERNAME": "u"}, "CREATIO_PASSWORD: not set; CREATIO_AUTH is forms"),
        ({"ENTRA_CLIENT_SECRET": None}, "ENTRA_CLIENT_SECRET: not set; DATAVERSE_AUTH is secret"),
        ({"DATAVERSE_AUTH": "certificate"}, "ENTRA_CERTIFICATE: not set; DATAVERSE_AUTH is certificate"),
        ({"CREATIO_BASE_URL": "http://127.0.0.1:5000"}, "CREATIO_IDENTITY_URL: not set, and it can't be derived"),
    ],
)
def test_each_way_to_log_in_names_what_it_needs(changes: dict[str, str | None], named: str) -> None:
    """A chosen login without its parts is one problem with the reason, not a crash at the first request."""
    found = problems(**changes)
    assert len(found) == 1, found
    assert found[0].startswith(named)


def test_managed_identity_needs_no_secret() -> None:
    """With a managed identity nothing of Entra has to be set."""
    environ = {name: text for name, text in ENOUGH.items() if not name.startswith("ENTRA_")} | {"DATAVERSE_AUTH": "managed_identity"}
    assert Settings.from_environ(environ).entra_client_id is None


def test_an_unresolved_key_vault_reference_is_a_problem_of_its_own() -> None:
    """A reference that Azure left as text is named as such, and not also as a missing or malformed value."""
    found = problems(
        FINGERPRINT_KEYS="@Microsoft.KeyVault(SecretUri=https://vault/secrets/k)", ENTRA_CLIENT_SECRET="@Microsoft.KeyVault(x)"
    )
    assert len(found) == 2, found
    assert all("Key Vault reference was not resolved" in problem for problem in found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "give a connection string"),
        ({"AzureWebJobsStorage": "x", "AzureWebJobsStorage__accountName": "acc"}, "remove one of the two"),
        ({"AzureWebJobsStorage__queueServiceUri": "https://acc.queue.core.windows.net"}, "AzureWebJobsStorage__tableServiceUri"),
        ({"AzureWebJobsStorage": "x", "LEDGER_STORAGE__clientId": "id"}, "LEDGER_STORAGE: not set"),
        (
            {"AzureWebJobsStorage": "x", "LEDGER_STORAGE__queueServiceUri": "https://acc.queue.core.windows.net"},
            "LEDGER_STORAGE__tableService",
        ),
        (
            {"AzureWebJobsStorage__accountName": "acc", "AzureWebJobsStorage__managedIdentityResourceId": "/subscriptions/x"},
            "__clientId instead",
        ),
        ({"AzureWebJobsStorage": "x", "LEDGER_STORAGE__managedIdentityResourceId": "/subscriptions/x"}, "LEDGER_STORAGE__clientId instead"),
    ],
)
def test_storage_is_named_in_exactly_one_way(given: dict[str, str], words: str) -> None:
    """No storage, half an identity, or two ways at once is refused, because a string would win silently."""
    found = problems(AzureWebJobsStorage=None, **given) if "AzureWebJobsStorage" not in given else problems(**given)
    assert len(found) == 1, found
    assert words in found[0]


def test_storage_by_identity_reaches_the_ledger_under_its_full_names() -> None:
    """The identity form is taken as it stands and handed on by full name."""
    environ = {name: text for name, text in ENOUGH.items() if name != "AzureWebJobsStorage"}
    identity = {"AzureWebJobsStorage__accountName": "acc", "AzureWebJobsStorage__credential": "managedidentity"}
    assert Settings.from_environ(environ | identity).storage_environ() == identity
    assert Settings.from_environ(ENOUGH).storage_environ() == {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}


def test_a_ledger_of_its_own_needs_the_address_of_tables_only() -> None:
    """Queues are those of AzureWebJobsStorage, so the table address alone names the ledger's account, and the app opens it."""
    environ = ENOUGH | {"LEDGER_STORAGE__tableServiceUri": "https://own.table.core.windows.net"}
    settings = Settings.from_environ(environ)
    assert open_storage(settings.storage_environ(), "LEDGER_STORAGE").account == Account("", "https://own.table.core.windows.net")


@pytest.mark.parametrize(
    ("base", "identity"),
    [
        ("https://123-crm.creatio.com", "https://123-crm-is.creatio.com"),
        ("https://crm.example.org:8443/app", "https://crm-is.example.org:8443"),
    ],
)
def test_the_identity_address_follows_the_is_rule(base: str, identity: str) -> None:
    """Without a setting the identity service is the first host label plus -is (creatio.md 1.4)."""
    assert Settings.from_environ(ENOUGH | {"CREATIO_BASE_URL": base + "/"}).identity_url == identity
    assert Settings.from_environ(ENOUGH | {"CREATIO_IDENTITY_URL": "http://127.0.0.1:9/"}).identity_url == "http://127.0.0.1:9"


@pytest.mark.parametrize("text", ["", "/"])
def test_no_prefix_can_be_said_in_two_ways(text: str) -> None:
    """Windows can't hold an empty variable, so a slash means no prefix as well."""
    assert Settings.from_environ(ENOUGH | {"CREATIO_APP_PREFIX": text}).creatio_app_prefix == ""


def test_fingerprint_keys_keep_their_order_and_their_bytes() -> None:
    """The newest key comes first, decoded."""
    other = base64.b64encode(b"o" * 32).decode()
    keyring = Settings.from_environ(ENOUGH | {"FINGERPRINT_KEYS": f"k2:{KEY}, k1:{other}"}).keyring
    assert keyring.current == "k2"
    assert keyring.keys == {"k2": b"k" * 32, "k1": b"o" * 32}


def test_a_pem_certificate_is_taken_as_it_stands() -> None:
    """PEM text pasted into the setting and Base64 of it mean the same."""
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    wanted = base64.b64encode(pem.encode()).decode()
    for text in (pem, wanted):
        certificate = Settings.from_environ(ENOUGH | {"ENTRA_CERTIFICATE": text}).entra_certificate
        assert certificate is not None
        assert certificate.get_secret_value() == wanted


def test_a_certificate_may_be_wrapped_in_lines() -> None:
    """Base64 as tools print it, in lines of 76 or with Windows line ends, is the same certificate."""
    raw = bytes(range(256))
    for text in (base64.encodebytes(raw).decode(), base64.encodebytes(raw).decode().replace("\n", "\r\n ")):
        certificate = Settings.from_environ(ENOUGH | {"ENTRA_CERTIFICATE": text}).entra_certificate
        assert certificate is not None
        assert certificate.get_secret_value() == base64.b64encode(raw).decode()


def test_secrets_never_show() -> None:
    """Neither the settings' own text nor a report of problems holds a secret."""
    environ = ENOUGH | {"AzureWebJobsStorage": "AccountKey=hush-storage", "ENTRA_CERTIFICATE_PASSWORD": "hush-password"}
    shown = repr(Settings.from_environ(environ)) + Settings.from_environ(environ).model_dump_json()
    report = "\n".join(problems(FINGERPRINT_KEYS=f"k1:{KEY},k1:{KEY}", ENTRA_CERTIFICATE="hush%", CREATIO_AUTH="x"))
    for secret in ("hush", KEY, "k" * 32):
        assert secret not in shown
        assert secret not in report


def test_a_misspelt_setting_is_named() -> None:
    """A name that is nearly one of ours is reported, because an ignored setting costs hours."""
    assert problems(CREATIO_BASEURL="https://x.creatio.com") == (
        "CREATIO_BASEURL: there is no such setting; did you mean CREATIO_BASE_URL?",
    )
    Settings.from_environ(ENOUGH | {"CREATIO_SANDBOX_ONLY": "1", "PATH": "/bin"})


def test_settings_are_frozen_and_known_by_name() -> None:
    """Nothing can change a setting after the start, and every field but the storage map has a name of its own."""
    settings = Settings.from_environ(ENOUGH)
    with pytest.raises(ValueError, match="frozen"):
        settings.retention_days = 1  # type: ignore[misc]
    assert len(set(setting_names())) == len(Settings.model_fields) - 1
