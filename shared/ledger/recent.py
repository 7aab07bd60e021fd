"""What a process remembers to save requests; forgetting is always safe."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A dictionary that keeps the entries put in last and drops the oldest beyond its size, so that memory stays flat."""

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._entries: dict[K, V] = {}

    def put(self, key: K, value: V) -> None:
        """Remember an entry as the latest one."""
        self._entries.pop(key, None)
        self._entries[key] = value
        if len(self._entries) > self._size:
            del self._entries[next(iter(self._entries))]

    def get(self, key: K) -> V | None:
        """Return what is remembered, None when it was dropped or never known."""
        return self._entries.get(key)

    def pop(self, key: K) -> V | None:
        """Forget an entry and return it."""
        return self._entries.pop(key, None)
