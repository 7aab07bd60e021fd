"""SAP's OData server CAP on a free port, with the model of `cap/`: started as a process of its own, stopped with its tests."""

import os
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

FOLDER = Path(__file__).resolve().parent / "cap"
_READY = re.compile(r"judge ready on (http://127\.0\.0\.1:\d+)")
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


@contextmanager
def running_cap() -> Iterator[str]:
    """Run the server for the length of a `with` block and yield its address; its packages come with `npm ci` in `cap/`.

    Its input is a pipe that nobody writes to: it ends with this process, whatever becomes of it, and then the server ends too.
    """
    node = shutil.which("node")
    assert node is not None, "Node is not on the PATH"
    process = subprocess.Popen(
        [node, "server.js"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=FOLDER,
        text=True,
        encoding="utf-8",
        env={**os.environ, "NODE_ENV": "development", "NODE_NO_WARNINGS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield _address(process.stdout)
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _address(output: IO[str]) -> str:
    """Wait for the ready line; a thread goes on reading, or the server would stand still once the pipe is full."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_pump, args=(output, lines), name="cap-output", daemon=True).start()
    seen: list[str] = []
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"CAP was not ready within {_START_SECONDS:g} s; it said: {''.join(seen)}") from None
        if line is None:
            raise AssertionError(f"CAP ended at once (its packages come with `npm ci` in `cap/`); it said: {''.join(seen)}")
        seen.append(line)
        if match := _READY.search(line):
            return match[1]


def _pump(output: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    with suppress(ValueError):  # the pipe was closed
        for line in output:
            lines.put(line)
    lines.put(None)
