"""Parsers of single settings: text in, checked value out, ValueError with "got X, allowed ..." (secrets are never quoted)."""

import base64
import binascii
import ipaddress
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,16}")
_LEDGER_PREFIX: Final = re.compile(r"[a-z][a-z0-9]{1,19}")
_FLOW: Final = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_SCHEDULE_FIELD: Final = re.compile(r"[0-9A-Za-z*,/-]+")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_KEY_BYTES: Final = 32
_SCHEDULE_FIELDS: Final = 6
_PEM_START: Final = "-----BEGIN"


def system_url(text: Any) -> str:
    """Check the address of a system: https, or http on loopback; no query, no credentials. The trailing slash goes."""
    parts = _parts(text)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(f"got {text!r}, allowed https; http only on loopback (localhost, 127.0.0.1)")
    for ending in ("/api/data", "/odata", "/0"):
        if parts.path.rstrip("/").endswith(ending) or f"{ending}/" in parts.path:
            raise ValueError(f"got {text!r}, allowed the address of the system itself, without {ending!r}")
    return str(text).rstrip("/")


def https_url(text: Any) -> str:
    """Check an address that takes nothing but https (azure-identity refuses http even on loopback)."""
    if _parts(text).scheme != "https":
        raise ValueError(f"got {text!r}, allowed an address that starts with https://")
    return str(text).rstrip("/")


def email(text: Any) -> str:
    """Check an e-mail address; it is compared in lower case."""
    if not _EMAIL.fullmatch(str(text)):
        raise ValueError(f"got {text!r}, allowed an e-mail address such as sales@example.com")
    return str(text).lower()


def is_loopback(host: str) -> bool:
    """Tell whether a host name is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def identity_url_of(base_url: str) -> str:
    """Derive the address of Creatio's identity service: `-is` after the first host label (creatio.md 1.4)."""
    parts = urlsplit(base_url)
    first, dot, rest = (parts.hostname or "").partition(".")
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{first}-is{dot}{rest}{port}"


def host_without_labels(text: str) -> str:
    """Return the host of an address when the `-is` rule can't work on it (localhost, an IP address), else an empty text."""
    try:
        host = urlsplit(text).hostname or ""
    except ValueError:  # reported where the address itself is checked
        return ""
    return host if host == "localhost" or re.fullmatch(r"[\d.]+|.*:.*", host) else ""


def path_prefix(text: Any) -> str:
    """Read the path prefix of Creatio's services; an empty text and `/` both mean none."""
    prefix = str(text).strip().rstrip("/")
    if prefix not in {"", "/0"}:
        raise ValueError(f"got {text!r}, allowed /0, /")
    return prefix


def existing_file(text: Any) -> Path:
    """Check that a file exists."""
    path = Path(str(text))
    if not path.is_file():
        raise ValueError(f"got {text!r}, which is not a file that can be read here")
    return path


def certificate_text(text: Any) -> SecretStr:
    """Check that a certificate is Base64, in one line or in many as tools wrap it, or PEM as it stands; returned as Base64 in one line."""
    raw = str(text)
    if raw.startswith(_PEM_START):
        return SecretStr(base64.b64encode(raw.encode()).decode())
    encoded = "".join(raw.split())
    _decoded(encoded)
    return SecretStr(encoded)


def fingerprint_keys(text: Any) -> SecretStr:
    """Check `id:base64key[,id:base64key]`, newest first."""
    parts = _listed(text)
    ids = [_fingerprint_key_id(number, part) for number, part in enumerate(parts, start=1)]
    if doubles := sorted({key_id for key_id in ids if ids.count(key_id) > 1}):
        raise ValueError(f"the key id(s) {', '.join(doubles)} stand(s) twice; each id names one key")
    return SecretStr(",".join(parts))


def ledger_prefix(text: Any) -> str:
    """Check the prefix of table names (azure.md 6.1: letters and digits, a letter first)."""
    if not _LEDGER_PREFIX.fullmatch(str(text)):
        raise ValueError(f"got {text!r}, allowed 2 to 20 small letters and digits, a letter first")
    return str(text)


def flow_names(text: Any) -> tuple[str, ...]:
    """Read a list of flow names; whether each exists is checked against the mappings when they are loaded."""
    names = tuple(_listed(text))
    if wrong := [name for name in names if not _FLOW.fullmatch(name)]:
        raise ValueError(f"got {', '.join(map(repr, wrong))}, allowed flow names such as sales.account, with commas between them")
    return names


def schedule(text: Any) -> str:
    """Check the shape of an NCRONTAB expression; the host checks its meaning (azure.md 2.4)."""
    fields = str(text).split()
    if len(fields) != _SCHEDULE_FIELDS or not all(_SCHEDULE_FIELD.fullmatch(part) for part in fields):
        raise ValueError(f"got {text!r}, allowed six fields (second minute hour day month weekday), such as '0 */5 * * * *'")
    return " ".join(fields)


def _parts(text: Any) -> SplitResult:
    try:
        parts = urlsplit(str(text))
        legal = parts.port != 0
    except ValueError:
        raise ValueError(f"got {text!r}, which is not a web address") from None
    if parts.username or parts.password:
        raise ValueError("the address holds a user name or password; use the settings for credentials instead")
    if not legal or parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", str(text)):
        raise ValueError(f"got {text!r}, allowed a web address such as https://example.creatio.com")
    if parts.query or parts.fragment:
        raise ValueError(f"got {text!r}, allowed an address without '?' and '#'")
    return parts


def _listed(text: Any) -> list[str]:
    return [part.strip() for part in str(text).split(",") if part.strip()]


def _fingerprint_key_id(number: int, text: str) -> str:
    key_id, colon, encoded = text.partition(":")
    if not colon or not _KEY_ID.fullmatch(key_id):
        raise ValueError(f"entry {number} has another form than id:base64key (id: 1 to 16 letters, digits, '-' and '_')")
    if (length := len(_decoded(encoded))) != _KEY_BYTES:
        raise ValueError(f"key {key_id!r} has {length} bytes, allowed {_KEY_BYTES}")
    return key_id


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the value is not Base64") from None
