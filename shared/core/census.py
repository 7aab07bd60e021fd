"""What a complete read of a side showed, small enough for millions of records: eight bytes an id, eight an id with its stamp.

Of documents also which lines they have: a line may come or go while its document stays as it is.

Two ids that share eight bytes of a digest would hide a delete or a missed change until the next compare: with a million records that
happens once in some thirty million compares, and nothing wrong is written.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable
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


@dataclass
class LineMarks:
    """Which lines documents have: one mark of eight bytes a document, whatever the order in which its lines come."""

    _marks: dict[int, int] = field(default_factory=dict)

    def add(self, document: str, name: str) -> None:
        """Add a line of a document, each once."""
        key = _digest(document)
        self._marks[key] = self._marks.get(key, 0) ^ _digest(name)

    def of(self, document: str) -> int:
        """Return the mark of a document, 0 for one without lines."""
        return self._marks.get(_digest(document), 0)


def mark_of(names: Iterable[str]) -> int:
    """Return the mark of a document that has the named lines."""
    mark = 0
    for name in names:
        mark ^= _digest(name)
    return mark


def sighting(record_id: str, stamp: Stamp | None) -> str:
    """Return what identifies a record in the state in which it was seen: by the time of its last change."""
    return f"{record_id}|{stamp.time.isoformat() if stamp else ''}"


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
