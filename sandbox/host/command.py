"""The command ``python -m sandbox.host``: options, log, signals."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sandbox.host.clock import HostClock
from sandbox.host.host_config import read_host_config
from sandbox.host.indexing import index_app
from sandbox.host.keys import AccessKeys
from sandbox.host.local_host import HostOptions, LocalHost
from sandbox.host.problems import StartupError
from sandbox.host.settings import load_local_settings

_EXIT_FAILED = 1
_EXIT_MISCONFIGURED = 2

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the host until SIGTERM or SIGINT and return the exit code: 0, 1 for a failure, 2 for a wrong configuration."""
    parsed = _parser().parse_args(arguments)
    _configure_log(parsed.instance, verbose=parsed.verbose)
    try:
        options = _options(parsed)
        host = LocalHost(options, index_app(options.script, options.environment))
        asyncio.run(_run(host, options))
    except StartupError as error:
        _log.error("The host can't start. %s", error)
        return _EXIT_MISCONFIGURED
    except Exception as error:  # noqa: BLE001 - whatever stopped the host is reported as its last line
        _log.error("The host stopped: %s: %s", type(error).__name__, error, exc_info=parsed.verbose)
        return _EXIT_FAILED
    if host.threads_abandoned:
        # The interpreter would wait for these threads for ever.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.host", description="Run a Python Azure Functions app on this machine.")
    parser.add_argument("--app", type=Path, default=Path("function_app.py"), help="the script with the function app")
    parser.add_argument("--settings", type=Path, help="local.settings.json (default: the one beside the app, when there is one)")
    parser.add_argument("--host-json", type=Path, help="host.json (default: the one beside the app)")
    parser.add_argument("--port", type=int, default=7071, help="port on 127.0.0.1; 0 chooses a free one (default: 7071)")
    parser.add_argument("--time-scale", type=float, default=1.0, help="divide every wait of the host by this factor")
    parser.add_argument("--instance", default=f"host-{os.getpid()}", help="name of this host in log and status")
    parser.add_argument("--drain-seconds", type=float, default=10.0, help="how long running functions may go on after SIGTERM")
    parser.add_argument("--verbose", action="store_true", help="log tracebacks and details")
    return parser


def _options(parsed: argparse.Namespace) -> HostOptions:
    script: Path = parsed.app
    settings = parsed.settings or script.parent / "local.settings.json"
    if parsed.settings or settings.is_file():
        load_local_settings(settings, os.environ)
    os.environ.setdefault("FUNCTIONS_WORKER_RUNTIME", "python")
    os.environ.setdefault("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    try:
        clock = HostClock(parsed.time_scale)
    except ValueError as error:
        raise StartupError(str(error)) from error
    threads = os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
    return HostOptions(
        script=script,
        environment=os.environ,
        config=read_host_config(parsed.host_json or script.parent / "host.json", os.environ),
        clock=clock,
        keys=AccessKeys.from_environment(os.environ),
        instance=parsed.instance,
        port=parsed.port,
        drain_seconds=parsed.drain_seconds,
        # Values outside the range fall back to Python's own choice, as in the worker (azure.md 1.4).
        thread_count=int(threads) if threads.isdecimal() and int(threads) >= 1 else None,
    )


async def _run(host: LocalHost, options: HostOptions) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))

    def announce(address: str) -> None:
        print(f"function key: {options.keys.function}", flush=True)
        print(f"master key: {options.keys.master}", flush=True)
        print(f"host ready on {address}", flush=True)

    await host.run(stop, announce)


class _OneLineFormatter(logging.Formatter):
    """UTC time, instance, level, logger, message; a traceback is joined into the same line."""

    def __init__(self, instance: str) -> None:
        super().__init__(f"%(asctime)s {instance} %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the library's name
        del datefmt
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        return " | ".join(line.rstrip() for line in super().format(record).splitlines() if line.strip())


def _configure_log(instance: str, *, verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLineFormatter(instance))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("sandbox.host").setLevel(logging.DEBUG if verbose else logging.INFO)
    # Each request of a storage client would be a line.
    logging.getLogger("azure").setLevel(logging.WARNING)
