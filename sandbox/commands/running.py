"""`up` and `down`: a sandbox that stays, for a person to look at.

Their settings: UP_PORT, UP_CREATIO_PORT, UP_IDENTITY_PORT, UP_DATAVERSE_PORT, UP_ENTRA_PORT, UP_BLOB_PORT, UP_QUEUE_PORT,
UP_TABLE_PORT (free ports by default), UP_FOLDER (for data, logs and state; .sandbox/up by default; emptied by `up`) and UP_SETTINGS
(a local.settings.json whose values are used as if they stood in the environment). Every setting of the app that is set wins over
the sandbox's own, and a system that is named that way is neither started nor filled.
"""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from sandbox.child import ROOT, SandboxError, end_group, is_ours
from sandbox.processes import Ports, Sandbox, app_setting_names
from shared.core.errors import ConfigError

FOLDER: Final = Path(os.environ.get("UP_FOLDER") or ROOT / ".sandbox" / "up").resolve()
_STATE: Final = FOLDER / "up.json"
_PORT_SETTINGS: Final = {
    "UP_PORT": "host",
    "UP_CREATIO_PORT": "creatio",
    "UP_IDENTITY_PORT": "identity",
    "UP_DATAVERSE_PORT": "dataverse",
    "UP_ENTRA_PORT": "entra",
    "UP_BLOB_PORT": "blob",
    "UP_QUEUE_PORT": "queue",
    "UP_TABLE_PORT": "table",
}
_CALM: Final = {"POLL_SCHEDULE": "*/5 * * * * *", "DEFAULT_INTERVAL_MS": "5000"}
_GRACE_SECONDS: Final = 12.0


def up(_arguments: list[str]) -> int:
    """Start the sandbox afresh, fill both sides, print the addresses and leave it running."""
    if living := _living():
        raise SandboxError(f"it is running already ({', '.join(living)}); stop it with: make down (python -m sandbox down)")
    begun = time.monotonic()
    print("Starting the sandbox ...", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        sandbox = asyncio.run(_open())
    except ConfigError as problem:
        raise SandboxError(str(problem)) from problem
    _STATE.write_text(json.dumps({name: child.process.pid for name, child in sandbox.children.items()}), encoding="utf-8")
    print(f"Running after {time.monotonic() - begun:.0f} s. Both systems poll every few seconds.\n")
    for title, address in _addresses(sandbox).items():
        print(f"  {title:<24} {address}")
    print(f"\nLogs and settings lie in {FOLDER}. Stop it with: make down (python -m sandbox down)")
    return 0


def down(_arguments: list[str]) -> int:
    """Stop what `up` started in this checkout."""
    living = _living()
    if not living:
        print("Nothing is running.")
        return 0
    # The host first, so that it doesn't complain about the others.
    for name in sorted(living, key=lambda name: name != "host"):
        end_group(living[name], force=False)
        deadline = time.monotonic() + _GRACE_SECONDS
        while is_ours(living[name]) and time.monotonic() < deadline:
            time.sleep(0.1)
        if is_ours(living[name]):
            end_group(living[name], force=True)
        print(f"Stopped {name}.", flush=True)
    _STATE.unlink(missing_ok=True)
    return 0


async def _open() -> Sandbox:
    given = _given(os.environ)
    sandbox = await Sandbox.open(FOLDER, ports=_ports(os.environ), settings=_CALM | given, before_host=_fill)
    for name in ("creatio", "dataverse"):
        if name in sandbox.children:
            await sandbox.control(name).close()
    return sandbox


async def _fill(sandbox: Sandbox) -> None:
    """Put the demonstration data into both stand-ins; servers of somebody else are never written to."""
    if {"creatio", "dataverse"} <= sandbox.children.keys():
        print("Filling both sides ...", flush=True)
        filled = import_module("sandbox.seed").seed(sandbox.creatio, sandbox.dataverse)
        if asyncio.iscoroutine(filled):
            await filled


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the app's settings that are set from outside: by UP_SETTINGS, and over it by the environment."""
    names = app_setting_names()
    values: dict[str, str] = {}
    if file := environ.get("UP_SETTINGS"):
        try:
            values = {str(name): str(text) for name, text in json.loads(Path(file).read_text(encoding="utf-8"))["Values"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise SandboxError(f"UP_SETTINGS: {file} can't be read as a local.settings.json ({problem!r})") from problem
    return {name: text for name, text in {**values, **environ}.items() if name in names and (text or name == "CREATIO_APP_PREFIX")}


def _ports(environ: Mapping[str, str]) -> Ports:
    chosen: dict[str, int] = {}
    for setting, name in _PORT_SETTINGS.items():
        text = environ.get(setting, "0")
        if not text.isdecimal() or int(text) > 65_535:
            raise SandboxError(f"{setting}: got {text!r}, allowed a port from 1 to 65535, or 0 for any that is free")
        chosen[name] = int(text)
    return Ports(**chosen)


def _addresses(sandbox: Sandbox) -> dict[str, str]:
    return {
        "local host (the app)": sandbox.host,
        "Creatio": sandbox.creatio,
        "Creatio's identity": sandbox.settings.get("CREATIO_IDENTITY_URL", "(by the -is rule)"),
        "Dataverse": sandbox.dataverse,
        "Entra": sandbox.settings.get("ENTRA_AUTHORITY", "(Microsoft's)"),
        "master key of the host": sandbox.master_key,
    }


def _living() -> dict[str, int]:
    """Return the programs of the last `up` that still run, by name."""
    try:
        state = json.loads(_STATE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: pid for name, pid in state.items() if is_ours(pid)}
