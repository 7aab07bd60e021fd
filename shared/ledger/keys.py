"""The wrapped data key that fingerprints are made with (design 7): inserted create-only, so that all instances agree on one."""

from typing import Final

from shared.core.errors import Stale
from shared.ledger.encoding import encode_part
from shared.ledger.packing import VERSION, check_version
from shared.ledger.tables import Table

_PARTITION: Final = "key"


class KeyRows:
    """Rows of wrapped keys by key id; what is stored is useless without the key that wrapped it."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def keep(self, key_id: str, wrapped: str) -> str:
        """Insert a wrapped key unless there is one with this id; return the one that is there now."""
        try:
            await self._table.create(_PARTITION, encode_part(key_id), {VERSION: 1, "id": key_id, "wrapped": wrapped})
        except Stale:
            return (await self.all())[key_id]
        return wrapped

    async def all(self) -> dict[str, str]:
        """Read all wrapped keys by key id."""
        rows = await self._table.query_prefix(_PARTITION)
        for row in rows:
            check_version(row.properties, "key")
        return {row.properties["id"]: row.properties["wrapped"] for row in rows}
