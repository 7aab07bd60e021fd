"""The comparison: every competitor in turn against one static server, each run a process of its own, its result checked at the server.

Runs of the competitors take turns, so that what else the machine does falls on all of them.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import environments
from bench.accounts import tables
from bench.competitors import Competitor

_MEASURED: Final = Path(__file__).resolve().parent / "measured.py"
_SECONDS: Final = 900
_SHOWN: Final = 300
_KILOBYTES: Final = 1024


@dataclass(frozen=True)
class Lap:
    """One run: seconds of the work and of the whole process, processor time of client and server, megabytes at the peak, requests."""

    seconds: float
    process: float
    processor: float
    server: float
    megabytes: float
    requests: int


@dataclass(frozen=True)
class Entry:
    """One competitor's runs over so many records, or why there are none."""

    competitor: Competitor
    records: int
    laps: tuple[Lap, ...] = ()
    problem: str = ""
    version: str = ""

    @property
    def rates(self) -> list[float]:
        """Return the records a second of every run."""
        return [self.records / lap.seconds for lap in self.laps]

    @property
    def rate(self) -> float:
        """Return the median of the records a second."""
        return median(self.rates)

    def middle(self, name: str) -> float:
        """Return the median of one figure of the runs."""
        return float(median(getattr(lap, name) for lap in self.laps))


@dataclass
class Server:
    """The static server, its process and what every competitor is told."""

    process: subprocess.Popen[bytes]
    http: str
    https: str
    folder: Path
    pythons: dict[str, Path] = field(default_factory=dict)

    @property
    def certificate(self) -> Path:
        """Return the file with the authority that signed the server's certificate."""
        return self.folder / "authority.pem"

    @property
    def tables(self) -> Path:
        """Return the file with the tables of the mapping."""
        return self.folder / "tables.json"

    def reset(self, source: str, records: int, latency: float) -> None:
        """Fill one side with so many accounts and empty the other."""
        self._ask("/_bench/reset", {"source": source, "records": records, "latency": latency})

    def counts(self) -> dict[str, Any]:
        """Return what the server saw."""
        return dict(json.loads(self._ask("/_bench/counts")))

    def _ask(self, path: str, body: Any = None) -> bytes:
        content = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy can't reach this machine
        with opener.open(urllib.request.Request(self.http + path, content), timeout=_SECONDS) as answer:  # noqa: S310 - our own server
            return bytes(answer.read())


@contextmanager
def static_server() -> Iterator[Server]:
    """Run the static server in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "bench.static_server", str(Path(folder) / "authority.pem")]
        process = subprocess.Popen(command, cwd=environments.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            addresses = json.loads(process.stdout.readline())
            server = Server(process, addresses["http"], addresses["https"], Path(folder))
            server.tables.write_text(json.dumps(tables()), encoding="utf-8")
            yield server
        finally:
            process.communicate()


def race(server: Server, competitors: Sequence[Competitor], records: int, runs: int, latency: float = 0.0) -> list[Entry]:
    """Let every competitor run so many times, in turns; one that fails once is out, with its reason."""
    laps: dict[str, list[Lap]] = {one.name: [] for one in competitors}
    problems: dict[str, str] = {}
    for number in range(runs):
        for one in competitors:
            if one.name in problems:
                continue
            say(f"  {one.title}, {records:,} records" + (f", {latency * 1000:.0f} ms a request" if latency else "") + f", run {number + 1}")
            try:
                laps[one.name].append(lap(server, one, records, latency))
            except (RuntimeError, ValueError) as problem:
                problems[one.name] = str(problem)
                laps[one.name].clear()  # fewer runs than the others' make no median
    return [Entry(one, records, tuple(laps[one.name]), problems.get(one.name, ""), _version(server, one)) for one in competitors]


def lap(server: Server, competitor: Competitor, records: int, latency: float) -> Lap:
    """Run one competitor once; raises RuntimeError when it fails or the target does not hold what the mapping makes."""
    python = _python(server, competitor)
    server.reset("creatio", records, latency)
    with tempfile.TemporaryDirectory(dir=server.folder, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        measured = [sys.executable, str(_MEASURED), str(folder / "took.json")]
        given = [str(python), "-m", competitor.module, *_arguments(server, competitor, folder)]
        said, log, code = _run([*measured, *given], _environment(server, competitor))
        if code:
            last = log.strip().splitlines()[-1:] or ["no reason given"]
            raise RuntimeError(f"ended with {code}: {last[0][:_SHOWN]}")
        if not said.strip():
            raise RuntimeError("told nothing of its work")
        took = json.loads((folder / "took.json").read_text(encoding="utf-8"))
    told, counts = json.loads(said.splitlines()[-1]), server.counts()
    if (counts["written"], counts["writes"], counts["different"]) != (records, records, 0):
        said = f"{counts['written']:,} of {records:,} accounts in {counts['writes']:,} writes, {counts['different']:,} are wrong"
        raise RuntimeError(f"wrote {said}")
    kilobytes = max(took["kilobytes"], told.get("memory_kilobytes", 0))
    requests = sum(counts["requests"].values())
    return Lap(told["seconds"], took["process"], took["processor"], counts["processor"], kilobytes / _KILOBYTES, requests)


def _run(command: list[str], environment: dict[str, str]) -> tuple[str, str, int]:
    """Run a command; return what it printed, its log and its exit code. What it started ends with it when it takes too long."""
    process = subprocess.Popen(
        command, cwd=environments.ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, log = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise RuntimeError(f"did not end within {_SECONDS} s") from None
    return said, log, process.returncode


def prepare(server: Server, competitors: Iterable[Competitor]) -> dict[str, str]:
    """Make every environment that is missing; return by competitor why one can't be had."""
    problems = {}
    for one in competitors:
        try:
            _python(server, one)
        except environments.NotInstallableError as problem:
            problems[one.name] = f"could not be installed: {problem}"
    return problems


def say(text: str) -> None:
    """Tell a person who waits what goes on."""
    print(text, file=sys.stderr, flush=True)


def _python(server: Server, competitor: Competitor) -> Path:
    if not competitor.environment:
        return Path(sys.executable)
    if competitor.environment not in server.pythons:
        server.pythons[competitor.environment] = environments.python_of(competitor.environment)
    return server.pythons[competitor.environment]


def _version(server: Server, competitor: Competitor) -> str:
    known = competitor.package and competitor.environment in server.pythons
    return environments.version_of(server.pythons[competitor.environment], competitor.package) if known else ""


def _arguments(server: Server, competitor: Competitor, folder: Path) -> list[str]:
    if competitor.module == "bench.tandem_load":
        return [*competitor.arguments, server.http]
    return [server.http, server.https, str(server.tables), str(folder), *competitor.arguments]


def _environment(server: Server, competitor: Competitor) -> dict[str, str]:
    """Return the environment of a run: no proxy, the server's authority, telemetry off."""
    kept = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "REQUESTS_CA_BUNDLE": str(server.certificate), "NO_PROXY": "*", **dict(competitor.settings)}
