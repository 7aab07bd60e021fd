"""Watch: the timer that keeps the house in order."""

import azure.functions as func

from shared.process import get_app

blueprint = func.Blueprint()


@blueprint.timer_trigger(arg_name="timer", schedule="%WATCH_SCHEDULE%")
async def watch_house(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the binding needs its parameter
    """Send lost messages again, sweep waiting records, purge, report depths and lag."""
    await (await get_app()).watch.run()
