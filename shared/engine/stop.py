"""Stopping a flow by itself: credentials, rights or the environment are wrong, and going on would only make noise."""

from dataclasses import replace

from shared.core.errors import Stale, TandemError
from shared.core.work import Failure, FlowSettings
from shared.engine.services import Services


async def stop_flow(services: Services, settings: FlowSettings, error: TandemError) -> None:
    """Stop a flow, keep the reason where a person looks for it, and raise an alert event."""
    try:
        await services.ledger.save_flow(replace(settings, started=False, stopped_because=error.code))
    except Stale:
        services.events("flow_stop_lost", flow=settings.flow, code=error.code)
    await services.ledger.save_failures([Failure.of(error, settings.flow, None, services.clock())])
    services.events("flow_stopped", flow=settings.flow, code=error.code, system=error.system, request_id=error.request_id)
