"""Start and stop Azurite, the storage emulator that tests, demo and local host run on.

The package comes from ``node_modules`` (``npm ci`` installs the pinned version). Options and limits: azure.md 7.
"""

import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

ACCOUNT_NAME: Final = "devstoreaccount1"
# The well-known key that every Azurite accepts; it opens nothing else (azure.md 7).
ACCOUNT_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_ENTRY_POINT: Final = Path("node_modules", "azurite", "dist", "src", "azurite.js")
_LISTENING: Final = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at http://[^:]+:(\d+)")


class AzuriteError(RuntimeError):
    """Azurite can't be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class AzuritePorts:
    """The three ports of one Azurite; 0 lets the system choose a free one."""

    blob: int = 0
    queue: int = 0
    table: int = 0

    def connection_string(self) -> str:
        """Return the long connection string, the only form that all Python clients understand (azure.md 7)."""
        services = {"Blob": self.blob, "Queue": self.queue, "Table": self.table}
        endpoints = "".join(f"{name}Endpoint=http://127.0.0.1:{port}/{ACCOUNT_NAME};" for name, port in services.items())
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT_NAME};AccountKey={ACCOUNT_KEY};{endpoints}"


@dataclass(frozen=True, slots=True)
class Azurite:
    """One running Azurite."""

    process: subprocess.Popen[str]
    ports: AzuritePorts

    @property
    def connection_string(self) -> str:
        """The connection string of this Azurite."""
        return self.ports.connection_string()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """End the process, by force when it does not end in time; a second call does nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_azurite(
    *,
    directory: Path | None = None,
    ports: AzuritePorts | None = None,
    project: Path | None = None,
    timeout_seconds: float = 60.0,
) -> Azurite:
    """Start Azurite and return when all three services listen.

    With ``directory`` the data lies there and outlives the process; without it everything is in memory.
    ``project`` is the folder that holds ``node_modules``.

    Raises:
        AzuriteError: Node or the package is missing, or the services do not come up.
    """
    # Not the working directory's relation: a second checkout must never run the first one's emulator.
    root = project or Path(__file__).resolve().parent.parent
    process = subprocess.Popen(  # noqa: S603 - the command is built here, no shell
        _command(root, directory, ports or AzuritePorts()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=directory or tempfile.gettempdir(),
        text=True,
        encoding="utf-8",
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )
    try:
        return Azurite(process, _await_ports(process, timeout_seconds))
    except BaseException:
        Azurite(process, AzuritePorts()).stop()
        raise


@contextmanager
def running_azurite(*, directory: Path | None = None, ports: AzuritePorts | None = None, project: Path | None = None) -> Iterator[Azurite]:
    """Run Azurite for the length of a ``with`` block."""
    azurite = start_azurite(directory=directory, ports=ports, project=project)
    try:
        yield azurite
    finally:
        azurite.stop()


def _command(root: Path, directory: Path | None, ports: AzuritePorts) -> list[str]:
    node = shutil.which("node")
    if node is None:
        raise AzuriteError("Azurite needs Node 20 or newer, but no 'node' is on the PATH: install Node and try again.")
    entry_point = root / _ENTRY_POINT
    if not entry_point.is_file():
        raise AzuriteError(f"Azurite is not installed ({entry_point} is missing): run 'npm ci' in {root}.")
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    storage = ["--inMemoryPersistence"] if directory is None else ["--location", str(directory)]
    ports_arguments = ["--blobPort", str(ports.blob), "--queuePort", str(ports.queue), "--tablePort", str(ports.table)]
    # The Python clients speak newer API versions than this Azurite knows (azure.md 7).
    return [node, str(entry_point), *storage, *ports_arguments, "--skipApiVersionCheck", "--disableTelemetry", "--silent"]


def _await_ports(process: subprocess.Popen[str], timeout_seconds: float) -> AzuritePorts:
    """Read the ports that the services report, so that no port is guessed free and then lost to somebody else."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    if process.stdout is None:  # pragma: no cover - it was asked for as a pipe
        raise AzuriteError("Azurite runs without a readable output.")
    threading.Thread(target=_pump, args=(process.stdout, lines), name="azurite-output", daemon=True).start()
    found: dict[str, int] = {}
    seen: list[str] = []
    deadline = time.monotonic() + timeout_seconds
    while len(found) < 3:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AzuriteError(f"Azurite did not listen within {timeout_seconds:g} s; it said: {' '.join(seen)!r}.") from None
        if line is None:
            raise AzuriteError(f"Azurite ended at once with code {process.wait()}; it said: {' '.join(seen)!r}.")
        seen.append(line.strip())
        if match := _LISTENING.search(line):
            found[match[1]] = int(match[2])
    return AzuritePorts(blob=found["Blob"], queue=found["Queue"], table=found["Table"])


def _pump(output: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    """Keep reading, or Azurite would stand still once the pipe is full."""
    try:
        for line in output:
            lines.put(line)
    except ValueError:  # the pipe was closed by stop()
        return
    finally:
        lines.put(None)
