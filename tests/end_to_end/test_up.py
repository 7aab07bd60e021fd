"""`up` and `down`, as a person uses them."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from sandbox.processes import child_environment

ROOT = Path(__file__).resolve().parents[2]


def run(command: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `up` or `down` as a process of its own, in a folder of this test, so that one of this checkout is left alone."""
    environment = {name: text for name, text in child_environment().items() if not name.startswith("UP_")}
    code = f"from sandbox.__main__ import main; raise SystemExit(main(['{command}']))"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"UP_FOLDER": str(folder), "PYTHONUTF8": "1"} | settings,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_up_leaves_it_running_and_down_stops_it(tmp_path: Path) -> None:
    """After `up` the app runs at the printed address; a second `up` is refused; after `down` nothing answers."""
    folder = tmp_path / "up"
    try:
        started = run("up", folder)
        assert started.returncode == 0, started.stdout + started.stderr
        shown = {line[:26].strip(): line[26:].strip() for line in started.stdout.splitlines() if line.startswith("  ")}
        values = json.loads((folder / "local.settings.json").read_text(encoding="utf-8"))["Values"]
        assert (shown["Creatio"], shown["Dataverse"]) == (values["CREATIO_BASE_URL"], values["DATAVERSE_URL"])
        host = shown["local host (the app)"]
        key = {"x-functions-key": shown["master key of the host"]}
        assert httpx.get(f"{host}/admin/host/ping", headers=key, trust_env=False).status_code == 200
        again = run("up", folder)
        assert again.returncode == 1
        assert "running already" in again.stderr
    finally:
        stopped = run("down", folder)
    assert stopped.returncode == 0
    assert "Stopped host." in stopped.stdout
    for gone in (host, shown["Creatio"]):
        with pytest.raises(httpx.ConnectError):
            httpx.get(gone, trust_env=False)
    assert "Nothing is running." in run("down", folder).stdout


def test_wrong_settings_are_said_without_a_traceback(tmp_path: Path) -> None:
    """With settings that do not make a whole, `up` names the problems and leaves nothing running."""
    done = run("up", tmp_path / "up", CREATIO_AUTH="ntlm")
    assert done.returncode == 1
    assert "CREATIO_AUTH: got 'ntlm', allowed oauth, forms" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "up" / "up.json").exists()
