"""The pure rules of the local host: schedules, back-off, names, routes, settings, indexing, retries."""

import asyncio
import itertools
import random
import sys
import threading
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import azure.functions as func
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sandbox.host.backoff import LinearSpeedup, polling_backoff
from sandbox.host.bindings import HttpBinding, HttpOutput, QueueBinding, poison_queue_name
from sandbox.host.clock import HostClock
from sandbox.host.context import queue_items
from sandbox.host.host_config import HostConfig, QueueOptions, parse_timespan, read_host_config
from sandbox.host.indexing import HostedFunction, index_app
from sandbox.host.invocation import Call, Invoker
from sandbox.host.keys import AccessKeys
from sandbox.host.ncrontab import CronSchedule
from sandbox.host.problems import StartupError
from sandbox.host.queue_processor import decode_body, encode_body
from sandbox.host.retry import RetryPolicy
from sandbox.host.routes import compile_route
from sandbox.host.schedule import NEVER, ScheduleStatus, check_past_due, parse_schedule, runs_within_a_minute
from sandbox.host.settings import load_local_settings, resolve_tokens

START = datetime(2026, 11, 24, 5, 40, 30, tzinfo=UTC)  # a Tuesday
SETTINGS = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", "QUEUE": "Work", "SCHEDULE": "0 */5 * * * *"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/15 * * * * *", "2026-11-24T05:40:45"),
        ("0 * * * * *", "2026-11-24T05:41:00"),
        ("*/5 * * * *", "2026-11-24T05:45:00"),
        ("30 40 5 * * *", "2026-11-25T05:40:30"),
        ("0 0 9-17 * * Mon-Fri", "2026-11-24T09:00:00"),
        ("0 0 0 1 Jan,jul *", "2027-01-01T00:00:00"),
        ("0 0 0 13 * Friday", "2027-08-13T00:00:00"),
        ("0 5/20 * * * *", "2026-11-24T05:45:00"),
        ("0 0 0 * * 0", "2026-11-29T00:00:00"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00"),
        ("0 0 0 31 12 *", "2026-12-31T00:00:00"),
    ],
)
def test_ncrontab_examples(expression, expected):
    """Seconds stand first, five fields have none, day and weekday must both match, 0 is Sunday, 5/20 runs to the end."""
    assert CronSchedule.parse(expression).next_after(START).isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "60 * * * * *", "* * 24 * * *", "* * * 0 * *", "* * * * 13 *", "* * * * * 7", "*/0 * * * * *", "5-1 * * * * *",
     "a * * * * *", "1,,2 * * * * *", "* * * L * *", "@daily", "0 0 0 30 2 *", "-1 * * * * *"],
)  # fmt: skip
def test_ncrontab_refuses_what_azure_refuses(expression):
    """Values outside a field, other dialects and days that never come are errors, not guesses."""
    with pytest.raises(ValueError, match=r"allowed|never comes"):
        CronSchedule.parse(expression)


@settings(deadline=None, max_examples=60)
@given(
    seconds=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=3),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - the zone is added
)
def test_ncrontab_finds_the_first_time_of_day(seconds, minutes, hours, moment):
    """The next occurrence is the smallest matching time after the moment, as listing all times of two days shows."""
    fields = [",".join(map(str, values)) for values in (seconds, minutes, hours)]
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    every = [
        midnight + timedelta(days=day, hours=hour, minutes=minute, seconds=second)
        for day, hour, minute, second in itertools.product((0, 1), hours, minutes, seconds)
    ]

    assert CronSchedule.parse(" ".join([*fields, "* * *"])).next_after(moment) == min(time for time in every if time > moment)


@settings(deadline=None, max_examples=60)
@given(
    days=st.sets(st.integers(1, 31), min_size=1, max_size=4),
    months=st.sets(st.integers(1, 12), min_size=1, max_size=3),
    weekdays=st.sets(st.integers(0, 6), min_size=1, max_size=3),
    moment=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - the zone is added
)
def test_ncrontab_finds_the_first_day(days, months, weekdays, moment):
    """The next midnight is the first day that matches day, month and weekday, as going through the days one by one shows."""
    fields = [",".join(map(str, values)) for values in (days, months, weekdays)]
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    limit = day + timedelta(days=12_000)
    while not (day.day in days and day.month in months and day.isoweekday() % 7 in weekdays) and day < limit:
        day += timedelta(days=1)
    assume(day < limit)

    assert CronSchedule.parse(" ".join(["0 0 0", *fields])).next_after(moment) == day


def test_a_time_span_is_a_schedule_too():
    """A schedule may be a time span; anything else is an error that names both forms."""
    assert parse_schedule("00:05:00", "Function 'x'").next_after(START) == START + timedelta(minutes=5)
    with pytest.raises(StartupError, match=r"Function 'x'.*NCRONTAB nor a time span"):
        parse_schedule("soon", "Function 'x'")


@pytest.mark.parametrize(
    ("expression", "often"), [("*/30 * * * * *", True), ("0 * * * * *", False), ("00:00:50", True), ("00:01:00", False)]
)
def test_a_schedule_within_the_minute_has_no_monitor(expression, often):
    """More than one occurrence in the next minute switches the monitor off; one a minute does not."""
    assert runs_within_a_minute(parse_schedule(expression, "x"), START + timedelta(seconds=0.5)) is often


def test_past_due_is_reckoned_from_last_update_before_the_first_run():
    """A status that was stored but never run is past due when its Next has passed, and renewed when the schedule changed."""
    schedule = parse_schedule("0 0 * * * *", "x")
    stored = ScheduleStatus(NEVER, datetime(2026, 11, 24, 4, tzinfo=UTC), datetime(2026, 11, 24, 3, 20, tzinfo=UTC))

    assert check_past_due(schedule, stored, START) == (stored, True)
    assert check_past_due(parse_schedule("0 30 * * * *", "x"), stored, START) == (
        ScheduleStatus(NEVER, datetime(2026, 11, 24, 6, 30, tzinfo=UTC), START), False,
    )  # fmt: skip


def test_polling_backs_off_as_the_azure_host_does():
    """Without jitter the waits are 100, 200, 300, 500, 900 ... ms up to the maximum, and 100 ms again after a message."""
    steady = SimpleNamespace(uniform=lambda low, high: 1.0)
    backoff = polling_backoff(2.0, steady)
    delays = [backoff.next_delay(succeeded=False) for _ in range(8)]

    assert delays == pytest.approx([0.1, 0.2, 0.3, 0.5, 0.9, 1.7, 2.0, 2.0])
    assert [backoff.next_delay(succeeded=True), backoff.next_delay(succeeded=False)] == pytest.approx([0.1, 0.2])


def test_jitter_stays_within_a_fifth():
    """The increment of a wait varies between 0.8 and 1.2 of its value and is not always the same."""
    seen = set()
    for seed in range(50):
        backoff = polling_backoff(60.0, random.Random(seed))
        backoff.next_delay(succeeded=True)
        seen.add(round(backoff.next_delay(succeeded=False), 6))

    assert len(seen) > 10
    assert 0.18 <= min(seen) <= max(seen) <= 0.22


def test_renewals_come_faster_after_failures():
    """A failed renewal halves the distance down to the minimum; a good one restores it."""
    speedup = LinearSpeedup(300, 60)

    assert [speedup.next_delay(succeeded=ok) for ok in (False, False, False, True)] == [150, 75, 60, 300]


def test_the_clock_divides_waits_and_moves_alike_in_all_hosts():
    """At scale 60 a minute takes a second, whole seconds are rounded up but 0 stays, and two clocks show the same time."""
    clock = HostClock(60)
    before = clock.now()

    assert clock.real_seconds(60) == 1
    assert (clock.whole_seconds(600), clock.whole_seconds(1), clock.whole_seconds(0)) == (10, 1, 0)
    assert timedelta() <= HostClock(60).now() - before < timedelta(seconds=30)
    with pytest.raises(ValueError, match=r"0\.01 to 10000"):
        HostClock(0)


@pytest.mark.parametrize(
    ("queue", "poison"),
    [("changes", "changes-poison"), ("changes-poison", None), ("q" * 56, "q" * 56 + "-poison"), ("q" * 57, None)],
)
def test_poison_queue_names(queue, poison):
    """The poison queue is <name>-poison, unless the queue is one itself or the name would exceed 63 characters."""
    assert poison_queue_name(queue) == poison


def test_bodies_are_base64_unless_the_app_says_otherwise():
    """Base64 is decoded strictly but for white space; with messageEncoding none the text is the body."""
    assert decode_body(" eyJh\nIjox fQ==", base64_encoded=True) == b'{"a":1}'
    assert decode_body("grüß", base64_encoded=False) == "grüß".encode()
    assert encode_body(b'{"a":1}', base64_encoded=True) == "eyJhIjoxfQ=="
    for wrong in ("{}", "abc", "grüß"):
        with pytest.raises(ValueError):  # noqa: PT011 - the text is Python's own
            decode_body(wrong, base64_encoded=True)


def test_queue_outputs_take_what_the_package_takes():
    """Text, bytes, messages and lists of them become bodies; anything else is an error that says what is allowed."""
    message = func.QueueMessage(body="m")

    assert [queue_items(value) for value in ("a", b"\xff", message, ["a", message])] == [[b"a"], [b"\xff"], [b"m"], [b"a", b"m"]]
    for wrong in (1, [1], {"a": 1}.items()):
        with pytest.raises(TypeError, match="allowed are str, bytes"):
            queue_items(wrong)


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("api/items/{id:int}", "api/items/7", {"id": "7"}),
        ("api/items/{id:int}", "api/items/seven", None),
        ("api/items/{id?}", "api/items", {}),
        ("api/items/{id?}", "API/Items/a b/", {"id": "a b"}),
        ("api/{*rest}", "api/a/b", {"rest": "a/b"}),
        ("api/{*rest}", "api", {}),
        ("api/{*rest}", "apis", None),
        ("{*rest}", "", {}),
        ("api/a.b", "api/axb", None),
        ("api/{g:guid}", f"api/{uuid.UUID(int=5)}", {"g": str(uuid.UUID(int=5))}),
    ],
)
def test_route_templates(template, path, expected):
    """Parameters, constraints, optional parameters and the rest match as in ASP.NET, letters in either case."""
    assert compile_route("x", template).match(path) == expected


def test_text_beats_constraint_beats_parameter_beats_rest():
    """The rank of templates puts the more exact one first, whatever the order of definition."""
    templates = ["a/{*x}", "a/{x}", "a/b", "a/{x:int}"]

    assert sorted(templates, key=lambda template: compile_route("x", template).rank) == ["a/b", "a/{x:int}", "a/{x}", "a/{*x}"]
    with pytest.raises(StartupError, match="allowed are alpha, bool, guid, int, long"):
        compile_route("x", "a/{x:decimal}")


def test_key_levels():
    """The master key opens everything, the function key functions only, an empty key nothing."""
    keys = AccessKeys("m", "f")

    assert [keys.allow(level, key) for level in ("anonymous", "function", "admin") for key in (None, "", "f", "m")] == [
        True, True, True, True, False, False, True, True, False, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:02", 2),
        ("00:00:00.100", 0.1),
        ("1.02:03:04", 93784),
        ("00:05", 300),
        ("24:00:00", None),
        ("5", None),
        (None, None),
        ("00:60:00", None),
    ],
)
def test_time_spans(text, seconds):
    """Time spans are [d.]hh:mm[:ss[.fff]]; anything else is none."""
    assert parse_timespan(text) == (None if seconds is None else pytest.approx(seconds))


def test_host_json_has_the_defaults_of_azure(tmp_path):
    """An empty host.json means batches of 16, half of it as threshold, a minute, five dequeues, 30 minutes and /api."""
    file = tmp_path / "host.json"
    file.write_text('{"version": "2.0"}', encoding="utf-8")

    assert read_host_config(file, {}) == HostConfig(QueueOptions(16, 8, 60.0, 0.0, 5, base64=True), 1800.0, "api")


def test_settings_override_host_json(tmp_path):
    """AzureFunctionsJobHost__ settings replace values of host.json, as numbers and as texts."""
    file = tmp_path / "host.json"
    file.write_text('{"version": "2.0", "functionTimeout": "-1", "extensions": {"queues": {"batchSize": 2}}}', encoding="utf-8")
    environment = {"AzureFunctionsJobHost__extensions__queues__batchSize": "9", "AzureFunctionsJobHost__extensions__http__routePrefix": ""}
    config = read_host_config(file, environment)

    assert (config.queues.batch_size, config.queues.new_batch_threshold, config.route_prefix, config.function_timeout) == (9, 4, "", None)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", "allowed is a JSON object"),
        ("{}", "version is None; allowed is '2.0'"),
        ('{"version": "2.0", "functionTimeout": "00:00:00"}', "functionTimeout"),
        ('{"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}', "batchSize is 33; allowed is a whole number from 1 to 32"),
        ('{"version": "2.0", "extensions": {"queues": {"maxPollingInterval": "00:00:00.05"}}}', "maxPollingInterval"),
        ('{"version": "2.0", "extensions": {"queues": {"maxDequeueCount": 0}}}', "maxDequeueCount"),
        ('{"version": "2.0", "extensions": {"queues": {"messageEncoding": "utf8"}}}', "messageEncoding"),
        ('{"version": "2.0", "extensions": []}', "'extensions' in host.json is list"),
    ],
)
def test_a_wrong_host_json_is_an_error(tmp_path, document, complaint):
    """A value outside its limits stops the start and is named with what is allowed."""
    file = tmp_path / "host.json"
    file.write_text(document, encoding="utf-8")
    with pytest.raises(StartupError, match=complaint.replace("[", r"\[")):
        read_host_config(file, {})


def test_tokens_and_settings(tmp_path):
    """Tokens are replaced, a missing one is named; settings files fill gaps only and hold texts only."""
    environment = {"A": "1"}
    file = tmp_path / "local.settings.json"
    file.write_text('{"Values": {"A": "2", "B": "3"}}', encoding="utf-8")

    assert load_local_settings(file, environment) == ("B",)
    assert resolve_tokens("x-%A%-%B%", environment, "f") == "x-1-3"
    with pytest.raises(StartupError, match="f: '%C%' names the setting C"):
        resolve_tokens("%C%", environment, "f")
    file.write_text('{"Values": {"A": 2}}', encoding="utf-8")
    with pytest.raises(StartupError, match="the values of A are not texts"):
        load_local_settings(file, environment)


@pytest.fixture
def write_app(tmp_path, monkeypatch):
    """Write an app under a module name of its own; its folder leaves sys.path again."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(body):
        script = tmp_path / f"app_{uuid.uuid4().hex}.py"
        script.write_text(f"import azure.functions as func\napp = func.FunctionApp()\n{body}", encoding="utf-8")
        return script

    return write


def test_functions_are_indexed_with_their_bindings(write_app):
    """Triggers, outputs, tokens, levels and types come out of the public interface; queue names are lower-cased."""
    script = write_app(
        "@app.function_name('Sync')\n"
        "@app.queue_trigger(arg_name='m', queue_name='%QUEUE%', connection='AzureWebJobsStorage')\n"
        "async def sync(m: func.QueueMessage, context: func.Context) -> None: ...\n"
        "@app.timer_trigger(arg_name='t', schedule='%SCHEDULE%', use_monitor=False)\n"
        "@app.retry(strategy='fixed_delay', max_retry_count='2', delay_interval='00:00:03')\n"
        "def poll(t: func.TimerRequest) -> None: ...\n"
        "@app.route(methods=['GET'])\n"
        "def page(req: func.HttpRequest) -> str: return ''\n"
    )
    sync, poll, page = index_app(script, {**SETTINGS, "AzureWebJobs.poll.Disabled": "1"})

    assert (sync.name, sync.trigger, sync.takes_context) == ("Sync", QueueBinding("m", "work", "AzureWebJobsStorage"), True)
    assert sync.trigger_type is func.QueueMessage
    assert (poll.trigger.schedule.expression, poll.trigger.use_monitor, poll.disabled) == ("0 */5 * * * *", False, True)
    assert poll.retry == RetryPolicy(2, 3, 3)
    assert page.trigger == HttpBinding("req", "page", frozenset({"GET"}), "function")
    assert page.has_return


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("raise OSError('no disk')", "can't be imported: OSError: no disk"),
        ("app2 = app", "app, app2 as function app at module level; allowed is exactly one"),
        ("del app", "has none as function app"),
        ("@app.route()\ndef f(req, other): ...", "the parameters other belong to no binding"),
        ("@app.route()\ndef f(request): ...", "the parameters request belong to no binding"),
        ("@app.route()\ndef f(req, context: str): ...", "must be of type azure.functions.Context"),
        ("@app.timer_trigger(arg_name='t', schedule='%NOPE%')\ndef f(t): ...", "names the setting NOPE"),
        ("@app.timer_trigger(arg_name='t', schedule='0 0 0 0 0 0')\ndef f(t): ...", "the field day has '0'"),
        ("@app.queue_trigger(arg_name='q', queue_name='no_queue', connection='C')\ndef f(q): ...", "'no_queue' is no queue name"),
        ("@app.blob_trigger(arg_name='b', path='p', connection='C')\ndef f(b): ...", "does not run the binding 'blobTrigger'"),
        (
            "@app.route()\n@app.queue_output(arg_name='o', queue_name='abc', connection='C')\ndef f(req, o: str): ...",
            "must be annotated as azure.functions.Out",
        ),
        (
            "@app.route()\n@app.queue_output(arg_name='o', queue_name='abc', connection='C')\ndef f(req, o: func.Out[list[str]]): ...",
            "write typing.List",
        ),
        ("@app.route()\ndef f(req: func.TimerRequest): ...", "allowed are HttpRequest"),
        ("@app.route()\ndef f(req: 'func.HttpRequest | None'): ...", "allowed are HttpRequest"),
        ("@app.route()\ndef f(req: 'Elsewhere'): ...", "can't be resolved at run time"),
        ("@app.route()\ndef f(req): ...\n@app.route()\ndef f(req): ...", "f"),
    ],
)
def test_an_app_that_azure_would_refuse_is_refused(write_app, body, complaint):
    """Mistakes that hide all functions in Azure stop the local host too, with the function and the reason."""
    with pytest.raises(StartupError, match=complaint):
        index_app(write_app(body), SETTINGS)


def hosted(handler, *, retry=None):
    """Return a function with a queue trigger around a handler."""
    trigger = QueueBinding("value", "abc", "C")
    return HostedFunction("f", handler, trigger, (HttpOutput("$return"),), retry, None, takes_context=False, disabled=False)


@pytest.fixture
def invoker(tmp_path):
    """Return an invoker that sends nothing; its waits pass a thousand times faster."""
    made = Invoker(app_root=tmp_path, timeout=5, thread_count=2, send=lambda *_: None, clock=HostClock(1000), jitter=random.Random(1))
    yield made
    made.close()


async def test_a_retry_policy_runs_the_function_again(invoker):
    """With two retries a function that always fails runs three times; one that then succeeds ends the retries."""
    runs = []

    async def flaky(value):
        runs.append(value)
        if len(runs) < value:
            raise ValueError("not yet")

    policy = RetryPolicy(2, 1, 1)
    bad = await invoker.invoke(Call(hosted(flaky, retry=policy), 9, "test"))
    failed, runs[:] = len(runs), []
    good = await invoker.invoke(Call(hosted(flaky, retry=policy), 2, "test"))

    assert (failed, bad.succeeded, len(runs), good.succeeded) == (3, False, 2, True)


async def test_plain_functions_run_in_threads_and_async_ones_on_the_loop(invoker):
    """Two plain functions that wait for each other both end, which needs two threads, while the loop stays free."""
    barrier = threading.Barrier(2, timeout=3)
    loop_thread = threading.get_ident()

    def plain(value):
        barrier.wait()
        return threading.get_ident() == loop_thread

    async def on_loop(value):
        return threading.get_ident() == loop_thread

    outcomes = await asyncio.gather(*(invoker.invoke(Call(hosted(handler), 0, "test")) for handler in (plain, plain, on_loop)))

    assert [outcome.value for outcome in outcomes] == [False, False, True]


async def test_errors_are_logged_in_one_line_with_their_place(invoker, caplog):
    """A failed run is one line with function, error and message, even for a message of several lines."""

    async def bad(value):
        raise ValueError("first\nsecond")

    outcome = await invoker.invoke(Call(hosted(bad), 0, "test"))
    (line,) = [record.message for record in caplog.records if record.levelname == "ERROR"]

    assert not outcome.succeeded
    assert "'Functions.f' (Failed" in line
    assert line.endswith("ValueError: first second")
