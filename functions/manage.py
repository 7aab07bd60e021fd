"""Manage: what people and monitors ask over HTTP."""

import json
from collections.abc import Awaitable
from datetime import UTC, datetime
from enum import StrEnum

import azure.functions as func

from shared.core.errors import ConfigError, TandemError
from shared.core.records import RangeBy, Side
from shared.core.work import BULK_SIZE, Load, RunKind
from shared.process import get_app

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


@blueprint.route(route="conflicts/decide", methods=["POST"])
async def decide_conflict(req: func.HttpRequest) -> func.HttpResponse:
    """Settle a conflict, `?flow=...&record=...&field=...&choice=...`; without `field` the one of the record as a whole."""
    params = req.params
    decide = (await get_app()).decide
    return await _done(decide.conflict(*(params.get(name, "") for name in ("flow", "record", "field", "choice"))))


@blueprint.route(route="records/reopen", methods=["POST"])
async def reopen_record(req: func.HttpRequest) -> func.HttpResponse:
    """Put a record in step again whose binding has ended, `?flow=...&record=...`."""
    return await _done((await get_app()).decide.reopen(req.params.get("flow", ""), req.params.get("record", "")))


@blueprint.route(route="deletes/approve", methods=["POST"])
async def approve_deletes(req: func.HttpRequest) -> func.HttpResponse:
    """Let held deletes be carried over, `?flow=...`: all of them, or those of `&record=...` (several ids with commas)."""
    named = req.params.get("record")
    return await _done((await get_app()).decide.approve_deletes(req.params.get("flow", ""), named.split(",") if named else None))


@blueprint.route(route="flows/accept", methods=["POST"])
async def accept_changes(req: func.HttpRequest) -> func.HttpResponse:
    """Accept that so many records of a flow changed at once, `?flow=...`."""
    return await _done((await get_app()).decide.accept(req.params.get("flow", "")))


@blueprint.route(route="environments/accept", methods=["POST"])
async def accept_environment(req: func.HttpRequest) -> func.HttpResponse:
    """Accept the environment that a system shows now, `?system=...`, because it was moved on purpose."""
    return await _done((await get_app()).decide.accept_environment(req.params.get("system", "")))


@blueprint.route(route="runs/align", methods=["POST"])
async def align_flow(req: func.HttpRequest) -> func.HttpResponse:
    """Look at every record of a flow under its present mapping, `?flow=...`; with `&dry=true` only count what would be written."""
    walk = (await get_app()).walk.start(req.params.get("flow", ""), RunKind.ALIGN, Side.CREATIO, dry=_is_dry(req))
    return await _done(walk)


@blueprint.route(route="runs/rebase", methods=["POST"])
async def rebase_flow(req: func.HttpRequest) -> func.HttpResponse:
    """Let one side win every record of a flow, `?flow=...&from=creatio`; with `&dry=true` only count what would be written."""
    side = req.params.get("from", "")
    if problems := _not_one_of("from", side, Side):
        return _json({"problems": problems}, 400)
    return await _done((await get_app()).walk.start(req.params.get("flow", ""), RunKind.REBASE, Side(side), dry=_is_dry(req)))


@blueprint.route(route="runs/bulk", methods=["POST"])
async def load_flow(req: func.HttpRequest) -> func.HttpResponse:
    """Bring every record of one side over, `?flow=...&from=creatio`; several flows with commas, one after the other.

    `&by=created|modified&since=...&until=...` narrows it, `&size=...` is the records of a page, `&dry=true` only counts.
    """
    return await _done(_load(req))


@blueprint.route(route="runs/stop", methods=["POST"])
async def stop_run(req: func.HttpRequest) -> func.HttpResponse:
    """End a run over all records before its time, `?flow=...&run=...`; what was synced stays."""
    return await _done((await get_app()).walk.stop(req.params.get("flow", ""), req.params.get("run", "")))


@blueprint.route(route="runs/show", methods=["GET"])
async def show_run(req: func.HttpRequest) -> func.HttpResponse:
    """Show how far a run over all records is and what it did, or would do, `?flow=...&run=...`."""
    return await _done((await get_app()).walk.progress(req.params.get("flow", ""), req.params.get("run", "")), 200)


async def _load(req: func.HttpRequest) -> str:
    flows, side, load = _asked_load(req)
    return await (await get_app()).bulk.start(flows, side, load, dry=_is_dry(req))


def _asked_load(req: func.HttpRequest) -> tuple[list[str], Side, Load]:
    """Read what a bulk run shall cover; raises ConfigError with everything that is wrong."""
    params = req.params
    side, by, size = params.get("from", ""), params.get("by", RangeBy.CREATED.value), params.get("size", str(BULK_SIZE))
    problems = [*_not_one_of("from", side, Side), *_not_one_of("by", by, RangeBy)]
    if not (size.isascii() and size.isdecimal()):
        problems.append(f"size: got {size!r}, allowed a whole number")
    moments = {}
    for name in ("since", "until"):
        try:
            moments[name] = _moment(params.get(name, ""))
        except ValueError:
            problems.append(f"{name}: got {params.get(name)!r}, allowed a time with its zone, as 2026-01-31T00:00:00Z")
    if problems:
        raise ConfigError(problems)
    flows = [flow.strip() for flow in params.get("flow", "").split(",") if flow.strip()]
    return flows, Side(side), Load(RangeBy(by), moments["since"], moments["until"], int(size))


def _not_one_of(name: str, got: str, allowed: type[StrEnum]) -> list[str]:
    """Return what to tell a person whose parameter is none of the allowed ones; nothing when it is one."""
    return [] if got in list(allowed) else [f"{name}: got {got!r}, allowed {', '.join(allowed)}"]


def _moment(text: str) -> datetime | None:
    """Read a time of a query, in which a bare `+` arrives as a blank; raises ValueError without a zone."""
    if not text:
        return None
    moment = datetime.fromisoformat(text.replace(" ", "+"))
    if moment.tzinfo is None:
        raise ValueError
    return moment.astimezone(UTC)


def _is_dry(req: func.HttpRequest) -> bool:
    return str(req.params.get("dry", "")).lower() == "true"


async def _done(call: Awaitable[object], status_code: int = 202) -> func.HttpResponse:
    """Answer with what a call returned; what a person asked for wrongly comes back in words (400), so does what can't be done now (409)."""
    try:
        return _json({"result": await call}, status_code)
    except ConfigError as error:
        return _json({"problems": list(error.problems)}, 400)
    except TandemError as error:
        return _json({"code": error.code, "advice": error.advice}, 409)


def _json(body: object, status_code: int) -> func.HttpResponse:
    return func.HttpResponse(json.dumps(body, ensure_ascii=False), status_code=status_code, mimetype="application/json")
