"""Fingerprints: what a field was, without keeping the value (law 1).

A fingerprint is a keyed blake2b of flow, side, record, column and the type-tagged value. Without the key nobody can test guesses
against the ledger; with the record in it, equal values of two records look different.
"""

import base64
import hashlib
from binascii import b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache

from shared.core.errors import ConfigError, Denied
from shared.core.records import Side, Value

_DIGEST_BYTES = 12
_KEY_BYTES = 32
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True)
class Keyring:
    """The fingerprint keys by id. `current` makes new fingerprints; older ones only verify."""

    keys: Mapping[str, bytes] = field(repr=False)
    current: str

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Read `id:base64key,id:base64key`, newest first; raises ConfigError."""
        keys: dict[str, bytes] = {}
        problems: list[str] = []
        for number, part in enumerate(text.split(","), 1):
            key_id, _, encoded = part.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except ValueError:
                key = b""
            if not key_id or len(key) != _KEY_BYTES:
                problems.append(f"FINGERPRINT_KEYS: entry {number}: got something else, allowed id:key with a key of 32 bytes in base64")
            keys[key_id] = key
        if problems:
            raise ConfigError(problems)
        return cls(keys, next(iter(keys)))

    def key(self, key_id: str) -> bytes:
        """Return the key of an id; raises Denied `ledger.unknown_key`, which stops the flow."""
        try:
            return self.keys[key_id]
        except KeyError:
            raise Denied("ledger.unknown_key", f"key id {key_id}") from None


class RecordPrinter:
    """Makes the fingerprints of one record on one side: the part that all its fields share is hashed once."""

    def __init__(self, key: bytes, flow: str, side: Side, record_id: str) -> None:
        self._start = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES)
        self._start.update(_framed(flow, side.value, record_id))

    def print(self, column: str, value: Value) -> str:
        """Return the fingerprint of one field's value, 16 characters."""
        state = self._start.copy()
        state.update(_framed_name(column) + _framed_value(value))
        return b2a_base64(state.digest(), newline=False).translate(_URL_SAFE).decode()


def key_hash(key: bytes, *parts: str) -> str:
    """Return a keyed hash of texts, for reservations (law 7): no business value rests in a ledger key."""
    return hashlib.blake2b(_framed(*parts), key=key, digest_size=20).hexdigest()


def _framed(*parts: str) -> bytes:
    """Join texts so that no two lists of texts give the same bytes."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(b"%d:%b" % (len(part), part) for part in encoded)


@lru_cache(maxsize=4096)
def _framed_name(column: str) -> bytes:
    """Frame a column's name; an app has a few hundred, and each is printed with every record."""
    return _framed(column)


def _framed_value(value: Value) -> bytes:
    """Frame a tagged value; most fields are empty, a text or a number and take a short way to the same bytes."""
    if value is None:
        return b"1:n"
    if isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
        return b"1:s%d:%b" % (len(encoded), encoded)
    if isinstance(value, int) and not isinstance(value, bool):
        digits = b"%d" % value
        return b"1:i%d:%b" % (len(digits), digits)
    return _framed(*_tagged(value))


def _tagged(value: Value) -> tuple[str, ...]:  # noqa: PLR0911 - one line a type reads best
    match value:
        case None:
            return ("n",)
        case bool():
            return ("b", "1" if value else "0")
        case int():
            return ("i", str(value))
        case str():
            return ("s", value)
        case Decimal():
            return ("m", format(value.normalize() if value else Decimal(0), "f"))
        case datetime():
            return ("t", value.isoformat())
        case date():
            return ("d", value.isoformat())
        case tuple():
            return ("l", str(len(value)), *(text for part in value for text in (str(len(_tagged(part))), *_tagged(part))))
