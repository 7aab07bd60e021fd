"""What a create fills in that nobody sent: owner, currency, first states, numbers, and what system settings name (creatio.md 2.4, 5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sandbox.control import Switches
from sandbox.creatio.database import Database
from sandbox.creatio.schema import Column, Entity
from sandbox.creatio.settings import CreatioSettings
from sandbox.creatio.values import Stored

_SETTING: Final = "setting "
_MASKS: Final[Mapping[str, tuple[str, int]]] = {"Order": ("ORD-", 0), "Invoice": ("INV-", 0), "Case": ("SR", 8)}
"""How numbers of an object begin, and how many digits follow at least."""


@dataclass(frozen=True)
class Defaults:
    """Find the value of a column that a create leaves out."""

    database: Database
    switches: Switches[CreatioSettings]

    def value(self, entity: Entity, column: Column, contact: str, now: str) -> Stored:
        """Return the default of a column, None when it has none; `contact` is that of whoever saves."""
        if column.name in {"OwnerId", "CreatedById"}:
            return contact
        if column.name == "CurrencyId":  # a line takes that of its order, a rate belongs to none
            return self._named(column, self._setting("PrimaryCurrency")) if column.required else None
        if (entity.name, column.name) == ("Case", "RegisteredOn"):
            return now if self.switches.current.registered_on == "now" else None
        if isinstance(column.default, bool | int):
            return int(column.default) * int(10**column.scale)
        return self._told(entity, column, str(column.default or ""), now)

    def _told(self, entity: Entity, column: Column, default: str, now: str) -> Stored:
        """Return what the metadata call a default: a time, a number, a setting, a row; else the first state of the object."""
        if default in {"now", "today"}:
            return now if default == "now" else f"{now[:10]}T00:00:00.0000000Z"
        if default in {"auto number", "sequence"}:
            return self._number(entity)
        if default.startswith(_SETTING):
            return self._named(column, self._setting(default.removeprefix(_SETTING)))
        if default:
            return default if column.target and self.database.exists(column.target, default) else None
        return self._named(column, self.switches.current.default_statuses.get(f"{entity.name}.{column.name}"))

    def _setting(self, name: str) -> str | None:
        return self.switches.current.system_settings.get(name)

    def _named(self, column: Column, name: str | None) -> Stored:
        return self.database.named(column.target, name) if name and column.target else None

    def _number(self, entity: Entity) -> str:
        prefix, width = _MASKS.get(entity.name, (f"{entity.name[:3].upper()}-", 0))
        return f"{prefix}{self.database.next_number(entity.name, prefix):0{width}d}"
