"""The sandbox as a group of processes: what starts is ready, what fails says why, nothing stays behind."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from sandbox.child import Child, Program, SandboxError, is_ours
from sandbox.processes import Sandbox, child_environment
from shared.core.errors import ConfigError
from shared.settings import Settings

OTHERS = {
    "AzureWebJobsStorage": "UseDevelopmentStorage=true",
    "DATAVERSE_URL": "https://example.crm.dynamics.com",
    "DATAVERSE_AUTH": "managed_identity",
}


def program(name: str, *arguments: str, addresses: tuple[str, ...]) -> Program:
    """Describe a program that runs with this machine's environment."""
    return Program(name, arguments, addresses, child_environment())


@pytest.mark.parametrize("end", [Child.stop, Child.kill])
async def test_a_program_is_ready_when_it_is_started_and_gone_when_it_ends(tmp_path: Path, end: Callable[[Child], Awaitable[None]]) -> None:
    """The emulator answers at the address of its ready line; stopping or killing it ends the process that it started, too."""
    child = await Child.start(program("azurite", "sandbox.emulator", addresses=("azurite",)), tmp_path)
    try:
        blob = child.addresses["azurite"].partition("BlobEndpoint=")[2].partition(";")[0]
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{blob}?comp=list")).status_code == 403
            assert is_ours(child.process.pid)
            await end(child)
            assert not child.running
            assert not is_ours(child.process.pid)
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(blob)
    finally:
        await child.kill()


async def test_a_program_that_fails_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """The error names the program and its log, and quotes what it said, so that nobody has to search."""
    broken = program("host", "sandbox.host", "--app", str(tmp_path / "missing.py"), addresses=("host",))
    with pytest.raises(SandboxError, match=r"host ended with code [1-9]") as caught:
        await Child.start(broken, tmp_path)
    assert "host.json does not exist" in str(caught.value)
    assert str(tmp_path / "host.log") in str(caught.value)


async def test_a_program_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    """Waiting has an end, and nothing is left running after it."""
    with pytest.raises(SandboxError, match=r"was not ready within 0\.5 s"):
        await Child.start(program("azurite", "sandbox.emulator", addresses=("something else",)), tmp_path, timeout_seconds=0.5)


async def test_the_settings_point_at_what_was_started(tmp_path: Path) -> None:
    """The stand-ins answer where the app's settings say they are, chaos is in force, and the settings are valid as a whole."""
    sandbox = Sandbox(tmp_path)
    try:
        await sandbox._start_servers()
        settings = Settings.from_environ(sandbox.settings)
        assert (settings.creatio_base_url, settings.dataverse_url, settings.entra_authority) == (
            sandbox.creatio,
            sandbox.dataverse,
            sandbox.entra,
        )
        await sandbox.control("creatio").chaos({"seed": 1, "rules": [{"kind": "status", "status": 503}]})
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{sandbox.creatio}/0/odata/Account")).status_code == 503
        for name in ("creatio", "dataverse"):
            assert await sandbox.control(name).health()
    finally:
        await sandbox.close()
    assert not any(child.running for child in sandbox.children.values())


async def test_a_killed_stand_in_comes_back_at_its_address_with_its_rows(tmp_path: Path) -> None:
    """After a crash and a restart the address is the same and what was stored is still there."""
    sandbox = Sandbox(tmp_path, given=OTHERS)
    try:
        await sandbox._start_servers()
        assert sandbox.children.keys() == {"creatio"}
        (row_id,) = await sandbox.control("creatio").seed("Account", [{"Name": "Ödland & Söhne"}])
        address = sandbox.creatio
        await sandbox.kill("creatio")
        assert not await sandbox.control("creatio").health()
        await sandbox.restart("creatio")
        assert sandbox.children["creatio"].addresses["creatio"] == address
        row = await sandbox.control("creatio").row("Account", row_id)
        assert row is not None
        assert row["Name"] == "Ödland & Söhne"
    finally:
        await sandbox.close()


async def test_wrong_settings_stop_everything_again(tmp_path: Path) -> None:
    """A sandbox that can't be completed is not filled and leaves no process behind."""
    opened: list[Sandbox] = []

    class Watched(Sandbox):
        def _server_programs(self) -> list[Program]:
            opened.append(self)
            return super()._server_programs()

    async def fill(_sandbox: Sandbox) -> None:
        raise AssertionError("it was filled")

    with pytest.raises(ConfigError, match="CREATIO_AUTH: got 'ntlm'"):
        async with Watched.start(tmp_path, settings={"CREATIO_AUTH": "ntlm"}, before_host=fill):
            pass
    assert opened[0].children.keys() == {"azurite", "creatio", "dataverse", "entra"}
    assert not any(child.running for child in opened[0].children.values())


async def test_a_failure_before_the_host_stops_everything_again(tmp_path: Path) -> None:
    """When filling fails, its error comes through and the servers are stopped."""
    opened: list[Sandbox] = []

    async def fill(sandbox: Sandbox) -> None:
        opened.append(sandbox)
        assert all(child.running for child in sandbox.children.values())
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        await Sandbox.open(tmp_path, before_host=fill)
    assert not any(child.running for child in opened[0].children.values())


def test_the_app_gets_its_settings_from_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of this machine's environment never reaches a program by accident, other variables do."""
    monkeypatch.setenv("CREATIO_BASE_URL", "https://real.creatio.com")
    monkeypatch.setenv("AzureWebJobsStorage__accountName", "real")
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    environment = child_environment()
    assert "CREATIO_BASE_URL" not in environment
    assert "AzureWebJobsStorage__accountName" not in environment
    assert environment["SOMETHING_ELSE"] == "1"
