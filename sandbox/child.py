"""One program of the sandbox as a process of its own: started, watched for its ready line, stopped or killed.

A program prints `<name> ready on <address>` for each address it serves. Its output goes to a log file, so that it
outlives the command that started it and a person can read why it failed.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sandbox.commands.setup import CommandError

ROOT: Final = Path(__file__).resolve().parent.parent
_READY: Final = re.compile(r"^(?P<name>[a-z ]+) ready on (?P<address>\S+)$", re.MULTILINE)
_POLL_SECONDS: Final = 0.02
_GROUP_SECONDS: Final = 1.0
_LOG_LINES: Final = 15


class SandboxError(CommandError):
    """A program of the sandbox did not start or did not answer; the text says which, why, and where its log lies."""


@dataclass(frozen=True)
class Program:
    """What to start: `arguments` follow `python -m`; `addresses` are the names of the ready lines to wait for."""

    name: str
    arguments: tuple[str, ...]
    addresses: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Child:
    """One running program."""

    program: Program
    log: Path
    process: subprocess.Popen[bytes]
    addresses: dict[str, str] = field(default_factory=dict)

    @classmethod
    async def start(cls, program: Program, directory: Path, timeout_seconds: float = 60.0) -> "Child":
        """Start a program and wait for its ready lines; the log is `<directory>/<name>.log`, with earlier runs above.

        Raises:
            SandboxError: it ended or was not ready in time.
        """
        log = directory / f"{program.name}.log"
        with log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - starts in a moment; the command is built here
                [sys.executable, "-m", *program.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**program.environment, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
                **_detached(),
            )
        child = cls(program, log, process)
        try:
            await child._await_ready(begin, timeout_seconds)
        except BaseException:
            await child.stop(grace_seconds=2.0)
            raise
        return child

    @property
    def running(self) -> bool:
        """Tell whether the process lives."""
        return self.process.poll() is None

    async def stop(self, grace_seconds: float = 12.0) -> None:
        """Ask the program to end and wait; after the grace it is killed. A second call does nothing."""
        end_group(self.process.pid, force=False)
        deadline = time.monotonic() + grace_seconds
        while self.running and time.monotonic() < deadline:  # noqa: ASYNC110 - an event can't tell that a process ended
            await asyncio.sleep(_POLL_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """End the program at once, as a crash would, with everything it started."""
        end_group(self.process.pid, force=True)
        await asyncio.to_thread(self.process.wait)
        # What the program had started ends at the same signal, but a moment later; its ports are free only then.
        deadline = time.monotonic() + _GROUP_SECONDS
        while _group_lives(self.process.pid) and time.monotonic() < deadline:  # noqa: ASYNC110 - as above
            await asyncio.sleep(_POLL_SECONDS)

    async def _await_ready(self, begin: int, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            ended = not self.running  # asked before the log is read, so that last words are seen
            text = self._log_text(begin)
            self.addresses = {found["name"]: found["address"] for found in _READY.finditer(text)}
            if all(name in self.addresses for name in self.program.addresses):
                return
            if ended or time.monotonic() > deadline:
                what = f"ended with code {self.process.returncode}" if ended else f"was not ready within {timeout_seconds:g} s"
                last = "\n".join(f"  {line}" for line in text.splitlines()[-_LOG_LINES:])
                raise SandboxError(f"{self.program.name} {what}; its log is {self.log} and ends with\n{last}")
            await asyncio.sleep(_POLL_SECONDS)

    def _log_text(self, begin: int) -> str:
        with self.log.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")


def end_group(pid: int, *, force: bool) -> None:
    """Signal a program and what it started; a program that has ended already is no error."""
    if os.name == "nt":
        taskkill = ["taskkill", "/T", "/F", "/PID", str(pid)]  # Windows has no polite signal for a detached process
        subprocess.run(taskkill, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)  # noqa: S603
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL if force else signal.SIGTERM)


def _group_lives(pid: int) -> bool:
    """Tell whether anything of a program's process group is left (Unix; Windows ends the whole tree at once)."""
    if os.name == "nt":
        return False
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def is_ours(pid: int) -> bool:
    """Tell whether a process id still belongs to a program of a sandbox; ids are used again by the system."""
    listing = ["tasklist", "/FI", f"PID eq {pid}", "/FO", "CSV", "/NH"]
    asked = listing if os.name == "nt" else ["ps", "-o", "args=", "-p", str(pid)]
    shown = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout  # noqa: S603
    return "-m sandbox." in shown or (os.name == "nt" and "python" in shown.lower())


def _detached() -> dict[str, Any]:
    """Return the options that give a child its own process group, so that it lives on after `up` and is signalled as a whole."""
    if os.name == "nt":
        return {"creationflags": 0x00000008 | 0x00000200}  # DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP
    return {"start_new_session": True}
