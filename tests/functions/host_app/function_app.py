"""A small app for the tests of the local host: each function appends what it saw to the file ``HOST_APP_JOURNAL``."""

import asyncio
import json
import os
import time
import typing

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
CONNECTION = "AzureWebJobsStorage"


def note(event: str, **facts: object) -> None:
    """Append one line to the journal."""
    line = json.dumps({"event": event, "pid": os.getpid(), "at": time.time(), **facts}) + "\n"
    with open(os.environ["HOST_APP_JOURNAL"], "a", encoding="utf-8") as journal:  # noqa: PTH123 - one atomic append
        journal.write(line)


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%", connection=CONNECTION)
async def work(message: func.QueueMessage, context: func.Context) -> None:
    """Do what the order says: sleep, fail or end well."""
    order = message.get_json()
    note(
        "work",
        order=order,
        count=message.dequeue_count,
        id=message.id,
        invocation=context.invocation_id,
        trace=context.trace_context.trace_parent,
    )
    await asyncio.sleep(order.get("sleep", 0))
    if order.get("fail"):
        raise ValueError(f"order {order['name']} is to fail")
    note("worked", order=order)


@app.queue_trigger(arg_name="message", queue_name="%WORK_QUEUE%-poison", connection=CONNECTION)
async def buried(message: func.QueueMessage) -> None:
    """Note what arrives in the poison queue; fail for one body."""
    note("buried", body=message.get_body().decode(), count=message.dequeue_count)
    if b"unburied" in message.get_body():
        raise ValueError("even the poison handler fails")


@app.queue_trigger(arg_name="text", queue_name="%WORK_QUEUE%-plain", connection=CONNECTION)
@app.queue_output(arg_name="relayed", queue_name="%WORK_QUEUE%-relayed", connection=CONNECTION)
def plain(text: str, relayed: func.Out[typing.List[str]]) -> None:  # noqa: UP006 - the worker does not take list[str] here
    """Relay a text twice, from a thread."""
    note("plain", text=text)
    relayed.set([text, text.upper()])
    time.sleep(0.05)
    if text == "fail":
        raise ValueError("nothing may be relayed")


@app.queue_trigger(arg_name="text", queue_name="%WORK_QUEUE%-relayed", connection=CONNECTION)
async def relay(text: str) -> None:
    """Note what was relayed."""
    note("relay", text=text)


@app.queue_trigger(arg_name="text", queue_name="%WORK_QUEUE%-talkative", connection=CONNECTION)
async def talkative(text: str) -> str:
    """Return a value that no binding takes."""
    note("talkative", text=text)
    return text


@app.timer_trigger(arg_name="timer", schedule="%TICK_SCHEDULE%")
async def tick(timer: func.TimerRequest) -> None:
    """Note each run and how it was due."""
    note("tick", past_due=timer.past_due, status=timer.schedule_status)
    await asyncio.sleep(float(os.environ.get("TICK_SLEEP", "0")))
    note("ticked")


@app.route("hello/{name?}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def hello(req: func.HttpRequest) -> func.HttpResponse:
    """Answer with what the request held."""
    facts = {"name": req.route_params.get("name"), "params": dict(req.params), "url": req.url}
    return func.HttpResponse(json.dumps(facts), mimetype="application/json", headers={"X-Seen": req.headers.get("X-Sent", "")})


@app.route("orders/{number:int}", methods=["POST"])
def order(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Answer from a thread with number, body and trace."""
    return func.HttpResponse(
        json.dumps({"number": req.route_params["number"], "body": req.get_json(), "trace": context.trace_context.trace_parent})
    )


@app.route("orders/{*rest}", auth_level=func.AuthLevel.ANONYMOUS)
def rest(req: func.HttpRequest) -> str:
    """Answer what no better route took."""
    return "rest:" + req.route_params.get("rest", "")


@app.route("owner", auth_level=func.AuthLevel.ADMIN)
def owner(req: func.HttpRequest) -> str:
    """Answer holders of the master key."""
    return "owner"


@app.route("boom", auth_level=func.AuthLevel.ANONYMOUS)
async def boom(req: func.HttpRequest) -> str:
    """Fail."""
    raise RuntimeError("boom")


@app.route("slow", auth_level=func.AuthLevel.ANONYMOUS)
async def slow(req: func.HttpRequest) -> str:
    """Answer late."""
    await asyncio.sleep(float(req.params["seconds"]))
    return "slept"
