"""Manage: what people and monitors ask over HTTP."""

import json

import azure.functions as func

from shared.core.errors import ConfigError
from shared.wiring import get_app

blueprint = func.Blueprint()


@blueprint.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the binding needs its parameter
    """Answer 200 when the configuration is sound, else 500 with the number of problems; details are in the log only."""
    try:
        app = await get_app()
    except ConfigError as error:
        return _json({"ok": False, "problems": len(error.problems)}, 500)
    return _json({"ok": True, "flows": sorted(app.services.mappings.flows)}, 200)


@blueprint.route(route="status", methods=["GET"])
async def status(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - as above
    """Show flows, watermarks, open batches, failures and conflicts, in numbers; needs the function key."""
    return _json(await (await get_app()).operate.status(), 200)


@blueprint.route(route="failures/reprocess", methods=["POST"])
async def reprocess_failures(req: func.HttpRequest) -> func.HttpResponse:
    """Sync the failed records of a flow again: all of them, or those named as `?flow=...&record=...`; needs the function key."""
    number = await (await get_app()).operate.reprocess(req.params.get("flow", ""), req.params.get("record"))
    return _json({"records": number}, 202)


@blueprint.route(route="flows/start", methods=["POST"])
async def start_flow(req: func.HttpRequest) -> func.HttpResponse:
    """Start a flow that stopped by itself, `?flow=...`; needs the function key."""
    await (await get_app()).operate.start(req.params.get("flow", ""))
    return _json({"started": True}, 202)


def _json(body: object, status_code: int) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(body, ensure_ascii=False), status_code=status_code, mimetype="application/json")
