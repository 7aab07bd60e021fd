"""Fingerprints: what a field was, without keeping the value (law 1).

A fingerprint is a keyed blake2b of flow, side, record, column and the type-tagged value. Without the key nobody can test guesses
against the ledger; with the record in it, equal values of two records look different.
"""

import base64
import hashlib
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any

from shared.core.errors import ConfigError, Denied
from shared.core.records import Scalar, Side, Value

_DIGEST_BYTES = 12
_PRINT_CHARS = 16
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
        self._start = _started(key, flow, side).copy()
        self._start.update(_framed(record_id))

    def print(self, column: str, value: Value) -> str:
        """Return the fingerprint of one field's value, 16 characters."""
        return self.print_all((framed_name(column),), (value,))[0]

    def print_all(self, names: Iterable[bytes], values: Iterable[Value]) -> list[str]:
        """Return the fingerprints of a record's fields in one go, by their framed names: nearly all that a sync decides rests on these."""
        copy, digests = self._start.copy, []
        for name, value in zip(names, values, strict=True):
            state = copy()
            state.update(name + _FRAMES.get(type(value), _frame_any)(value))
            digests.append(state.digest())
        # A digest is four times three bytes, so each is sixteen characters of Base64, also when they are written one after the other.
        text = b2a_base64(b"".join(digests), newline=False).translate(_URL_SAFE).decode()
        return [text[at : at + _PRINT_CHARS] for at in range(0, len(text), _PRINT_CHARS)]


def key_hash(key: bytes, *parts: str) -> str:
    """Return a keyed hash of texts, for reservations (law 7): no business value rests in a ledger key."""
    return hashlib.blake2b(_framed(*parts), key=key, digest_size=20).hexdigest()


def _framed(*parts: str) -> bytes:
    """Join texts so that no two lists of texts give the same bytes."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(b"%d:%b" % (len(part), part) for part in encoded)


@lru_cache(maxsize=256)
def _started(key: bytes, flow: str, side: Side) -> "hashlib.blake2b":
    """Hash what all records of a flow share on a side; to be copied, never updated."""
    state = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES)
    state.update(_framed(flow, side.value))
    return state


@lru_cache(maxsize=4096)
def framed_name(column: str) -> bytes:
    """Frame a column's name; an app has a few hundred, and each is printed with every record."""
    return _framed(column)


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


def _frame_any(value: Value) -> bytes:
    return _framed(*_tagged(value))


def _frame_text(text: str) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: so rare that not every text is asked to let it pass
        encoded = text.encode("utf-8", "surrogatepass")
    return b"1:s%d:%b" % (len(encoded), encoded)


def _frame_number(number: int) -> bytes:
    digits = b"%d" % number
    return b"1:i%d:%b" % (len(digits), digits)


def _frame_decimal(number: Decimal) -> bytes:
    digits = format(number.normalize() if number else Decimal(0), "f").encode()
    return b"1:m%d:%b" % (len(digits), digits)


def _frame_moment(moment: datetime) -> bytes:
    text = moment.isoformat().encode()
    return b"1:t%d:%b" % (len(text), text)


def _frame_parts(parts: tuple[Scalar, ...]) -> bytes:
    """Frame a joined value: its tag, the number of parts, and before each part how many tags it has."""
    framed = [(b"1:1" if part is None else b"1:2") + _FRAMES.get(type(part), _frame_any)(part) for part in parts]
    return _framed("l", str(len(parts))) + b"".join(framed)


_FRAMES: dict[type[Any], Callable[[Any], bytes]] = {
    NoneType: lambda _: b"1:n",
    str: _frame_text,
    int: _frame_number,
    bool: lambda truth: b"1:b1:1" if truth else b"1:b1:0",
    Decimal: _frame_decimal,
    datetime: _frame_moment,
    tuple: _frame_parts,
}
"""Short ways to the bytes of `_frame_any`, by type: a record has dozens of values."""
