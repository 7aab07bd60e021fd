"""Stopping a flow by itself, or pausing an account: going on would only make noise."""

from dataclasses import replace
from datetime import timedelta

from shared.core.errors import Stale, TandemError, Transient
from shared.core.work import AccountThrottle, Failure, FlowSettings
from shared.engine.services import Services


async def stop_flow(services: Services, settings: FlowSettings, error: TandemError) -> None:
    """Stop a flow, keep the reason where a person looks for it, and raise an alert event."""
    try:
        await services.ledger.save_flow(replace(settings, started=False, stopped_because=error.code))
    except Stale:
        services.events("flow_stop_lost", flow=settings.flow, code=error.code)
    await services.ledger.save_failures([Failure.of(error, settings.flow, None, services.clock())])
    services.events("flow_stopped", flow=settings.flow, code=error.code, system=error.system, request_id=error.request_id)


async def pause_account(services: Services, error: TandemError) -> None:
    """Pause the account that asked for it, for every instance."""
    if isinstance(error, Transient) and error.retry_after and error.system:
        until = services.clock() + timedelta(seconds=error.retry_after)
        await services.ledger.pause_account(AccountThrottle(error.system, until))
