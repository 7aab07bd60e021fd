"""How texts, times and keys are written into Table Storage rows, and the limits that Azure sets but Azurite does not (azure.md 6.1, 7)."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from shared.core.errors import TandemError

MAX_KEY_CHARS: Final = 1024
MAX_PROPERTIES: Final = 252
MAX_ENTITY_BYTES: Final = 1024 * 1024
MAX_TRANSACTION_ROWS: Final = 100
MAX_TRANSACTION_BYTES: Final = 3 * 1024 * 1024
"""Azure allows 4 MiB of payload; the rest is left for the multipart frame and for JSON escapes."""

_SYSTEM_PROPERTIES: Final = frozenset({"PartitionKey", "RowKey"})
_MAX_PROPERTY_UNITS: Final = 32_768
_MAX_PART_CHARS: Final = 240
_CHUNK_UNITS: Final = 30_000
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_ILLEGAL: Final = re.compile(r"[/\\#?%+\x00-\x1f\x7f-\x9f]")


def encode_part(text: str) -> str:
    """Write one part of a key so that different texts give different keys and every character is legal.

    Letters, digits, `.`, `_` and `-` stay; each byte of the rest becomes `=` and two hex digits; a part that would be longer than
    240 characters becomes `~` and its hash. `:` never appears, so that parts can be joined with it.
    """
    encoded = _UNSAFE.sub(lambda match: "".join(f"={byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass")), text)
    if len(encoded) <= _MAX_PART_CHARS:
        return encoded
    return "~" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def make_key(*parts: str) -> str:
    """Join encoded parts to a key; at most four parts, which fit into the 1,024 characters of Azure whatever they hold."""
    return ":".join(encode_part(part) for part in parts)


def after_prefix(prefix: str) -> str:
    """Return the smallest key that is greater than every key with this prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def encode_time(moment: datetime) -> str:
    """Write an aware time as text of one width, so that texts compare as times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def decode_time(text: str) -> datetime:
    """Read what `encode_time` wrote."""
    return datetime.fromisoformat(text)


def split_text(name: str, text: str) -> dict[str, str]:
    """Cut a text into properties `name0`, `name1` ... of at most 30,000 UTF-16 units each (Azure allows 32,768 a property)."""
    step = _CHUNK_UNITS if text.isascii() else _CHUNK_UNITS // 2
    return {f"{name}{number}": text[start : start + step] for number, start in enumerate(range(0, len(text), step))}


def join_text(properties: Mapping[str, Any], name: str) -> str:
    """Put together what `split_text` cut."""
    pieces: list[str] = []
    while (piece := properties.get(f"{name}{len(pieces)}")) is not None:
        pieces.append(str(piece))
    return "".join(pieces)


def entity_bytes(entity: Mapping[str, Any]) -> int:
    """Estimate an entity's size as Azure counts it: names and texts in UTF-16, 8 bytes a property, 4 for the entity and each text."""
    size = 4
    for name, value in entity.items():
        text = value if isinstance(value, str) else str(value)
        size += 12 + 2 * len(name) + 2 * _utf16_units(text)
    return size


def check_entity(entity: Mapping[str, Any]) -> None:
    """Raise TandemError when Azure would refuse the entity; Azurite accepts some of these (azure.md 7)."""
    problem = _problem(entity)
    if problem:
        raise TandemError("sync.internal", f"ledger row can't be stored: {problem}", record_id=str(entity.get("RowKey", ""))[:80])


def _problem(entity: Mapping[str, Any]) -> str:
    for name in ("PartitionKey", "RowKey"):
        key = entity[name]
        if len(key) > MAX_KEY_CHARS:
            return f"{name} has {len(key)} characters, allowed {MAX_KEY_CHARS}"
        if _ILLEGAL.search(key):
            return f"{name} has a character that Azure refuses, allowed all but / \\ # ? % + and control characters"
    own = [name for name in entity if name not in _SYSTEM_PROPERTIES]
    if len(own) > MAX_PROPERTIES:
        return f"{len(own)} properties, allowed {MAX_PROPERTIES}"
    for name in own:
        value = entity[name]
        if isinstance(value, str) and _utf16_units(value) > _MAX_PROPERTY_UNITS:
            return f"property {name} has {_utf16_units(value)} UTF-16 units, allowed {_MAX_PROPERTY_UNITS}"
    size = entity_bytes(entity)
    return f"{size} bytes, allowed {MAX_ENTITY_BYTES}" if size >= MAX_ENTITY_BYTES else ""


def _utf16_units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
