"""The virtual environments of the other tools: one for each under .sandbox, made once, made again when its pins change."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_PEERS: Final = Path(__file__).resolve().parent / "peers"
_SHOWN: Final = 300
_SECONDS: Final = 900


class NotInstallableError(RuntimeError):
    """A tool can't be installed here; the text says why."""


def requirements_of(name: str) -> Path:
    """Return the file that pins a tool."""
    return _PEERS / f"requirements-{name}.txt"


def python_of(name: str) -> Path:
    """Return the Python of a tool's environment, made first where it is missing; raises NotInstallableError."""
    folder = ROOT / ".sandbox" / f"bench-{name}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    stamp = folder / ".tandem-installed"
    wanted = f"{hashlib.sha256(requirements_of(name).read_bytes()).hexdigest()} python {sys.version_info[:3]}"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"Installing {name} for the comparison ...", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements_of(name))]
    _run(install)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def version_of(python: Path, package: str) -> str:
    """Return the version of an installed package."""
    asked = subprocess.run(
        [str(python), "-c", f"from importlib.metadata import version; print(version({package!r}))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return asked.stdout.strip()


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotInstallableError(f"the installation took more than {_SECONDS} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no reason given"]
        raise NotInstallableError(last[0][:_SHOWN])
