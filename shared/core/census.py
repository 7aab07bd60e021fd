"""What a complete read of a side showed, small enough for millions of records: eight bytes an id, eight an id with its stamp.

Two ids that share eight bytes of a digest would hide a delete or a missed change until the next compare: with a million records that
happens once in some thirty million compares, and nothing wrong is written.
"""

import hashlib
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field

from shared.core.records import Stamp


@dataclass
class Digests:
    """A growing set of digests; `close` it before asking."""

    _values: "array[int]" = field(default_factory=lambda: array("Q"))
    _closed: bool = False

    def add(self, text: str) -> None:
        """Add the digest of a text."""
        self._values.append(_digest(text))

    def close(self) -> None:
        """Put the digests in order."""
        self._values = array("Q", sorted(self._values))
        self._closed = True

    def __contains__(self, text: str) -> bool:
        """Tell whether a text was added; meant for closed ones."""
        if not self._closed:
            raise ValueError("close the digests first")
        digest = _digest(text)
        place = bisect_left(self._values, digest)
        return place < len(self._values) and self._values[place] == digest

    def __len__(self) -> int:
        """Return how many were added."""
        return len(self._values)


def sighting(record_id: str, stamp: Stamp | None) -> str:
    """Return what identifies a record in the state in which it was seen: by the time of its last change."""
    return f"{record_id}|{stamp.time.isoformat() if stamp else ''}"


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
