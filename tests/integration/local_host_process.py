"""Start the local host as a process, talk to its queues, and read what its app noted."""

import base64
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient
from azure.storage.queue import QueueClient

PROJECT = Path(__file__).resolve().parents[2]
HOST_APP = PROJECT / "tests" / "functions" / "host_app" / "function_app.py"
MASTER_KEY = "the-master-key"
FUNCTION_KEY = "the-function-key"


@dataclass(frozen=True)
class HostProcess:
    """One host that runs."""

    process: subprocess.Popen[str]
    address: str
    log: Path

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask the host."""
        return httpx.get(self.address + path, timeout=10, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        """Post to the host."""
        return httpx.post(self.address + path, timeout=10, **options)

    def terminate(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.terminate()
        return self.process.wait(20)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.wait(20)


@dataclass
class HostWorld:
    """A storage account, one work queue in it, and the hosts that serve it."""

    connection_string: str
    folder: Path
    queue: str = field(default_factory=lambda: f"work-{uuid.uuid4().hex[:10]}")
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a host in this world."""
        return {
            **os.environ,
            "AzureWebJobsStorage": self.connection_string,
            "AzureFunctionsWebHost__hostId": self.queue,
            "WORK_QUEUE": self.queue,
            "TICK_SCHEDULE": "0 0 0 1 1 *",  # once a year, unless a test says otherwise
            "HOST_APP_JOURNAL": str(self.folder / "journal"),
            "LOCAL_HOST_MASTER_KEY": MASTER_KEY,
            "LOCAL_HOST_FUNCTION_KEY": FUNCTION_KEY,
            **self.settings,
        }

    def client(self, suffix: str = "") -> QueueClient:
        """Return a client of the work queue or of one beside it."""
        return QueueClient.from_connection_string(self.connection_string, self.queue + suffix)

    def send(self, body: object, suffix: str = "", *, raw: bool = False) -> None:
        """Send a message (an object as JSON, a text as it is), in Base64 unless it is to be raw; create the queue."""
        text = body if isinstance(body, str) else json.dumps(body)
        with self.client(suffix) as client:
            if not self.exists(suffix):
                client.create_queue()
            client.send_message(text if raw else base64.b64encode(text.encode()).decode())

    def exists(self, suffix: str = "") -> bool:
        """Return whether the queue exists."""
        with self.client(suffix) as client:
            try:
                client.get_queue_properties()
            except ResourceNotFoundError:
                return False
        return True

    def depth(self, suffix: str = "") -> int:
        """Return the number of messages, invisible ones included."""
        with self.client(suffix) as client:
            return int(client.get_queue_properties().approximate_message_count or 0)

    def hosts_blobs(self) -> ContainerClient:
        """Return the container of leases and timer statuses."""
        return ContainerClient.from_connection_string(self.connection_string, "azure-webjobs-hosts")

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return what the app noted under these names, in order."""
        journal = self.folder / "journal"
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] in names]

    @contextmanager
    def host(self, *arguments: str, scale: float = 1.0) -> Iterator[HostProcess]:
        """Run a host for the length of the block; it is killed at the end if the test has not ended it."""
        log = self.folder / f"host-{uuid.uuid4().hex[:6]}.log"
        command = [sys.executable, "-W", "error", "-m", "sandbox.host", "--app", str(HOST_APP), "--port", "0", "--time-scale", str(scale)]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, *arguments], cwd=PROJECT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=errors
            )
        try:
            yield HostProcess(process, _await_address(process, log), log)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Wait until the condition holds; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def _await_address(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("host ready on "):
            return line.removeprefix("host ready on ").strip()
    raise AssertionError(f"the host ended with {process.wait()}: {log.read_text()}")
