"""Make what the commands need: the virtual environment with the pinned packages, and what comes from npm in node_modules.

Standard library only, see `sandbox/__main__.py`. A stamp beside each installation holds the hash of the files that
describe it, so that a second run starts at once and a changed pin is installed by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 13)
OLDEST_NODE = 20
_REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
_NODE_FILES = ("package.json", "package-lock.json")
_SHOWN_LINES = 25


class CommandError(RuntimeError):
    """A command can't go on; the text says why and what a person should do."""


class SetupError(CommandError):
    """Something must be installed first."""


def prepare(root: Path, *, node: tuple[str, ...]) -> Path:
    """Install what is missing and return the Python of the virtual environment; `node` names the folders with npm packages.

    Raises:
        SetupError: Python or Node is missing or too old, or an installation failed.
    """
    python = _virtual_environment(root)
    for folder in node:
        _node_modules(root / folder)
    return python


def is_running_in(python: Path) -> bool:
    """Tell whether this process already runs on that Python (a path may be a link, so the environments are compared)."""
    return Path(sys.prefix).resolve() == python.parent.parent.resolve()


def run_again(python: Path, arguments: list[str]) -> int:
    """Run the same command on another Python; on Unix it takes this process's place, so that signals reach it."""
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(str(python), [str(python), *arguments])  # noqa: S606 - no shell is wanted
    return subprocess.call([str(python), *arguments])  # noqa: S603 - built here


def _virtual_environment(root: Path) -> Path:
    folder = root / ".venv"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    version = _version_of(str(python)) if python.exists() else None
    if version is None or version < OLDEST_PYTHON:
        base = _base_python()
        _step("Making the virtual environment .venv", [base, "-m", "venv", "--clear", str(folder)], root)
        version = _version_of(str(python))
    stamp = folder / ".tandem-installed"
    wanted = _hash(root, _REQUIREMENTS) + f" python {version}"
    if not _fits(stamp, wanted):
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements-dev.txt"]
        _step("Installing the Python packages", install, root)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def _node_modules(root: Path) -> None:
    stamp = root / "node_modules" / ".tandem-installed"
    wanted = _hash(root, _NODE_FILES)
    if _fits(stamp, wanted):
        _checked_node()
        return
    _checked_node()
    npm = shutil.which("npm")
    if npm is None:
        raise SetupError("npm is not on the PATH, though Node is: install npm (it comes with Node), then run the command again.")
    named = json.loads((root / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    _step(f"Installing {', '.join(named)} (npm)", [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], root)
    stamp.write_text(wanted, encoding="utf-8")


def _base_python() -> str:
    """Find the Python to build on: this one when it is of a supported version, else one on the PATH, else a newer one."""
    here = (sys.version_info[0], sys.version_info[1])
    if OLDEST_PYTHON <= here <= NEWEST_PYTHON:
        return sys.executable
    for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found is not None and _version_of(found) == (3, minor):
            return found
    if here > NEWEST_PYTHON:
        return sys.executable
    raise SetupError(
        f"Tandem needs Python 3.11, 3.12 or 3.13; this is Python {here[0]}.{here[1]} and no other was found on the PATH.\n"
        "Install one from https://www.python.org/downloads/ and run the command again."
    )


def _version_of(python: str) -> tuple[int, int] | None:
    """Ask an interpreter for its version; None when it doesn't start (a shim without a version behind it, a moved folder)."""
    try:
        asked = subprocess.run(  # noqa: S603 - built here
            [python, "-c", "import sys; print(sys.version_info[0], sys.version_info[1])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    major, minor = asked.stdout.decode().split()
    return int(major), int(minor)


def _checked_node() -> None:
    node = shutil.which("node")
    if node is None:
        raise SetupError(
            f"Tandem's storage emulator needs Node {OLDEST_NODE} or newer, and no node is on the PATH.\nInstall it from https://nodejs.org/."
        )
    asked = subprocess.run([node, "--version"], stdout=subprocess.PIPE, check=False)  # noqa: S603 - built here
    text = asked.stdout.decode().strip()
    found = re.match(r"v(\d+)\.", text)
    if found is None or int(found.group(1)) < OLDEST_NODE:
        raise SetupError(f"Tandem's storage emulator needs Node {OLDEST_NODE} or newer; got {text!r} from {node}.")


def _hash(root: Path, names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (root / name).read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _fits(stamp: Path, wanted: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted


def _step(title: str, command: list[str], root: Path) -> None:
    """Run one installation with a progress line; its output is shown only when it fails."""
    print(f"{title} ...", end=" ", flush=True)
    begun = time.monotonic()
    done = subprocess.run(command, cwd=str(root), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # noqa: S603 - built here
    if done.returncode != 0:
        print("failed", flush=True)
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-_SHOWN_LINES:])
        raise SetupError(f"{title} failed; the command was\n  {' '.join(command)}\nand its last words were\n{tail}")
    print(f"{time.monotonic() - begun:.0f} s", flush=True)
