"""`up` and `down`, as a person uses them."""

import json
from pathlib import Path

import httpx
import pytest

from sandbox.child import SandboxError
from sandbox.commands import running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let `up` work in a folder of this test, so that one that runs in this checkout is left alone."""
    monkeypatch.setattr(running, "FOLDER", tmp_path / "up")
    monkeypatch.setattr(running, "_STATE", tmp_path / "up" / "up.json")
    monkeypatch.setattr(running, "ROOT", tmp_path)
    for name in (*running._PORT_SETTINGS, "UP_SETTINGS", *running.app_setting_names()):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "up"


def test_up_leaves_it_running_and_down_stops_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After `up` the app runs at the printed address; a second `up` is refused; after `down` nothing answers."""
    try:
        assert running.up([]) == 0
        shown = capsys.readouterr().out
        address = json.loads((folder / "local.settings.json").read_text(encoding="utf-8"))["Values"]["CREATIO_BASE_URL"]
        assert address in shown
        host = next(line.split()[-1] for line in shown.splitlines() if "local host" in line)
        assert httpx.get(f"{host}/admin/host/ping", trust_env=False).status_code == 200
        with pytest.raises(SandboxError, match="running already .*make down"):
            running.up([])
    finally:
        assert running.down([]) == 0
    assert "Stopped host." in capsys.readouterr().out
    for gone in (host, address):
        with pytest.raises(httpx.ConnectError):
            httpx.get(gone, trust_env=False)
    assert running.down([]) == 0
    assert "Nothing is running." in capsys.readouterr().out
