"""What a new process of the app imports before its first invocation, and that all invocations share one app."""

import asyncio
import base64
import subprocess
import sys
from pathlib import Path

import pytest

from shared import process
from shared.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("aiohttp", "azure.core", "azure.data", "azure.identity", "azure.storage", "cryptography", "httpx", "requests", "shared.wiring")
"""Clients of storage, log-in and HTTP, and the file that imports them all."""


def test_indexing_imports_no_client() -> None:
    """The host indexes the functions by importing them; what only an invocation needs is not imported for that."""
    code = "import sys, function_app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    imported = done.stdout.split()
    assert "functions.manage" in imported
    assert [name for name in HEAVY if name in imported] == []


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process one that has had no invocation yet."""
    monkeypatch.setattr(process._Process, "app", None)
    monkeypatch.setattr(process._Process, "lock", None)


async def test_the_first_invocations_share_one_app(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invocations that begin side by side get the same app, built from the environment once."""
    key = base64.b64encode(bytes(32)).decode()
    settings = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "FINGERPRINT_KEYS": f"k1:{key}",
        "CREATIO_BASE_URL": "https://example.creatio.com",
        "CREATIO_AUTH": "forms",
        "CREATIO_USERNAME": "tandem",
        "CREATIO_PASSWORD": "secret",
        "DATAVERSE_URL": "https://example.crm4.dynamics.com",
        "DATAVERSE_AUTH": "managed_identity",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    apps = await asyncio.gather(process.get_app(), process.get_app(), process.get_app())
    await apps[0].close()
    assert {id(app) for app in apps} == {id(apps[0])}


async def test_a_wrong_setting_is_told_at_every_invocation(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose settings are wrong has no app, and each invocation says so."""
    monkeypatch.delenv("CREATIO_BASE_URL", raising=False)
    for _ in range(2):
        with pytest.raises(ConfigError, match="CREATIO_BASE_URL"):
            await process.get_app()
