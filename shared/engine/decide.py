"""Decide: what a person decides where Tandem must not: conflicts, held deletes, mass changes, another environment, ended bindings."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from shared.core.binding import Binding, BindingState
from shared.core.errors import ConfigError
from shared.core.records import Side
from shared.core.work import BATCH_SIZE, Batch, BatchItem, Pin, RunKind
from shared.engine.environment import pin_name
from shared.engine.gate import held_batches, release
from shared.engine.jobs import DELETE, REOPEN
from shared.engine.poll import send_batches
from shared.engine.services import Services


class Decide:
    """The decisions of a person. Each is carried out by `sync`, so that it can be repeated and crosses crashes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def conflict(self, flow: str, record_id: str, field: str, choice: str) -> None:
        """Settle a conflict of a record, named by its id on either side.

        `field` names a row: `choice` is the side whose value counts. For the record as a whole (`field` empty): `delete` or `reopen`.
        Raises ConfigError for anything else.
        """
        allowed = [side.value for side in Side] if field else [DELETE, REOPEN]
        if choice not in allowed:
            raise ConfigError([f"choice: got {choice!r}, allowed {', '.join(allowed)}"])
        keys = [row.key for row in self._services.mapping(flow).fields]
        if field and field not in keys:
            raise ConfigError([f"field: got {field!r}, allowed {', '.join(keys)}"])
        binding = await self._binding(flow, record_id)
        side = self._present(binding) if choice != DELETE else self._deleted(binding)
        item = BatchItem(binding.id_on(side) or "", deleted=choice == DELETE, decisions={field: choice})
        await self._send(flow, side, [item])
        self._services.events("conflict_decided", flow=flow, record=record_id, field=field, choice=choice)

    async def reopen(self, flow: str, record_id: str) -> None:
        """Put a record in step again whose binding has ended (law 10)."""
        await self.conflict(flow, record_id, "", REOPEN)

    async def approve_deletes(self, flow: str, records: Collection[str] | None = None) -> int:
        """Let held deletes be carried over, all of them or those of the named records (ids of the deleted ones); return how many."""
        self._services.mapping(flow)
        held = [one for one in await self._services.ledger.held_deletes(flow) if records is None or one.record_id in records]
        for side in Side:
            items = [BatchItem(one.record_id, deleted=True, decisions={"": DELETE}) for one in held if one.side is side]
            await self._send(flow, side, items)
        self._services.events("deletes_approved", flow=flow, records=float(len(held)))
        return len(held)

    async def accept(self, flow: str) -> int:
        """Accept that so many records changed at once: what was held goes on its way; return how many records that are."""
        state = await self._services.ledger.poll_state()
        settings = self._services.settings(flow, state.flows)
        if settings.asking is None:
            raise ConfigError([f"{flow}: this flow asks nothing"])
        held = await held_batches(self._services, flow, settings.asking.side)
        await self._services.ledger.save_flow(replace(settings, asking=None))
        for batch in held:
            await release(self._services, batch, RunKind.REPLAY)
        self._services.events("mass_change_accepted", flow=flow, side=settings.asking.side.value)
        return sum(len(batch.items) for batch in held)

    async def accept_environment(self, system: str) -> str:
        """Pin the environment that a system shows now, because it was moved on purpose; return its name."""
        if system not in self._services.systems:
            raise ConfigError([f"system: got {system!r}, allowed {', '.join(sorted(self._services.systems))}"])
        name = await self._services.systems[system].environment()
        state = await self._services.ledger.poll_state()
        pin = state.pins.get(pin_name(system)) or Pin(pin_name(system), name, self._services.clock())
        await self._services.ledger.save_pin(replace(pin, value=name, at=self._services.clock()))
        self._services.events("environment_accepted", system=system)
        return name

    async def _binding(self, flow: str, record_id: str) -> Binding:
        for side in Side:
            found = (await self._services.ledger.bindings(flow, side, [record_id])).get(record_id)
            if found is not None:
                return found
        raise ConfigError([f"record: got {record_id}, which has no binding in {flow}; allowed the id of a bound or ended record"])

    def _present(self, binding: Binding) -> Side:
        """Return a side on which the record is there, as far as the ledger knows."""
        there = [side for side in Side if binding.id_on(side) and side not in binding.gone]
        return there[0] if there else next(side for side in Side if binding.id_on(side))

    def _deleted(self, binding: Binding) -> Side:
        gone = [side for side in binding.gone if binding.id_on(side)]
        if not gone and binding.state is not BindingState.ENDED:
            raise ConfigError([f"choice: got {DELETE!r}, but no record of this binding is gone"])
        return gone[0] if gone else self._present(binding)

    async def _send(self, flow: str, side: Side, items: Sequence[BatchItem]) -> None:
        now, run = self._services.clock(), self._services.new_id()
        batches = [
            Batch(self._services.new_id(), flow, side, run, RunKind.REPLAY, items[start : start + BATCH_SIZE], now, touched=now)
            for start in range(0, len(items), BATCH_SIZE)
        ]
        await send_batches(self._services, batches)
