"""The commands: what they ask of a machine, and how they say what is missing."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.commands import checks, pages, running, setup
from sandbox.commands.catalogue import COMMANDS, entry_point, find, overview
from sandbox.commands.setup import CommandError, SetupError

ROOT = Path(__file__).resolve().parents[2]
needs_unix = pytest.mark.skipif(os.name == "nt", reason="the fake programs are shell scripts")


def fake_program(folder: Path, name: str, says: str, code: int = 0) -> None:
    """Put a program on a PATH that prints one line and ends."""
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n", encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def sandbox(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m sandbox` as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False
    )


def test_help_lists_every_command() -> None:
    """Help, -h and no command at all print the list, without installing anything."""
    for arguments in ((), ("help",), ("--help",)):
        done = sandbox(*arguments)
        assert done.returncode == 0
        assert done.stdout.strip() == overview().strip()
    assert all(f"\n  {command.name} " in overview() for command in COMMANDS)


def test_an_unknown_command_is_refused_with_the_list() -> None:
    """A typing error ends with code 2 and shows what there is."""
    done = sandbox("dmeo")
    assert done.returncode == 2
    assert "There is no command 'dmeo'." in done.stderr
    assert "demo" in done.stderr


def test_every_command_can_be_imported() -> None:
    """No command of the list leads nowhere."""
    assert all(callable(entry_point(command)) for command in COMMANDS if command.entry)
    assert find("test-all") is not None
    assert find("nothing") is None


def test_the_first_steps_run_on_an_old_python() -> None:
    """What runs before the virtual environment exists imports the standard library only, so that an old Python gets a clear answer."""
    listing = "sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    code = f"import sys; import sandbox.__main__; print({listing})"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "['__main__', 'sandbox']"


@needs_unix
def test_a_python_on_the_path_is_found_when_this_one_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest supported Python on the PATH is taken; a shim that does not start is passed over."""
    fake_program(tmp_path, "python3.13", "pyenv: python3.13: command not found", code=127)
    fake_program(tmp_path, "python3.12", "3 12")
    fake_program(tmp_path, "python3.11", "3 11")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert setup._base_python() == str(tmp_path / "python3.12")


def test_no_supported_python_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any supported Python the message names what was found, what is needed and where to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SetupError, match=r"needs Python 3\.11, 3\.12 or 3\.13; this is Python 3\.9"):
        setup._base_python()


def test_a_newer_python_is_taken_when_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python newer than those tested is better than none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 15, 0))
    assert setup._base_python() == sys.executable


@needs_unix
def test_an_old_node_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Node, an old Node and a sufficient Node are told apart."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="no node is on the PATH"):
        setup._checked_node()
    fake_program(tmp_path, "node", "v18.20.1")
    with pytest.raises(SetupError, match=r"Node 20 or newer; got 'v18\.20\.1'"):
        setup._checked_node()
    fake_program(tmp_path, "node", "v20.0.0")
    setup._checked_node()


def test_a_failed_installation_shows_its_last_words(tmp_path: Path) -> None:
    """The message holds the command and the end of its output."""
    with pytest.raises(SetupError, match=r"(?s)Installing failed; .*no such wheel"):
        setup._step("Installing", [sys.executable, "-c", "print('no such wheel'); raise SystemExit(3)"], tmp_path)


def test_an_installation_is_repeated_only_when_its_files_change(tmp_path: Path) -> None:
    """The stamp follows the content of the files, whatever the line ends of a checkout."""
    (tmp_path / "a.txt").write_bytes(b"x==1\n")
    first = setup._hash(tmp_path, ("a.txt",))
    (tmp_path / "a.txt").write_bytes(b"x==1\r\n")
    assert setup._hash(tmp_path, ("a.txt",)) == first
    (tmp_path / "a.txt").write_bytes(b"x==2\n")
    assert setup._hash(tmp_path, ("a.txt",)) != first
    stamp = tmp_path / "stamp"
    assert not setup._fits(stamp, first)
    stamp.write_text(first, encoding="utf-8")
    assert setup._fits(stamp, first)


def test_ports_of_up_come_from_the_environment() -> None:
    """Named ports are used, others are free ones, and what is no port is refused."""
    ports = running._ports({"UP_PORT": "7071", "UP_QUEUE_PORT": "10001"})
    assert (ports.host, ports.queue, ports.creatio) == (7071, 10001, 0)
    for text in ("http", "-1", "65536"):
        with pytest.raises(CommandError, match=f"UP_PORT: got '{text}', allowed a port"):
            running._ports({"UP_PORT": text})


def test_up_takes_settings_from_a_file_and_over_it_from_the_environment(tmp_path: Path) -> None:
    """A local.settings.json can be pointed at; the environment wins; empty values and foreign names count for nothing."""
    file = tmp_path / "local.settings.json"
    values = {
        "DATAVERSE_URL": "https://file",
        "CREATIO_BASE_URL": "https://file",
        "CREATIO_USERNAME": "",
        "CREATIO_APP_PREFIX": "",
        "OTHER": "x",
    }
    file.write_text(json.dumps({"Values": values}), encoding="utf-8")
    given = running._given({"UP_SETTINGS": str(file), "DATAVERSE_URL": "https://shell", "AzureWebJobsStorage__accountName": "acc"})
    assert given == {
        "DATAVERSE_URL": "https://shell",
        "CREATIO_BASE_URL": "https://file",
        "CREATIO_APP_PREFIX": "",
        "AzureWebJobsStorage__accountName": "acc",
    }


@pytest.mark.parametrize("text", ["", "[]", '{"Values": 3}', "{}"])
def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    """A wrong file gives a message with its path, not a traceback."""
    file = tmp_path / "local.settings.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=r"UP_SETTINGS: .*local\.settings\.json can't be read"):
        running._given({"UP_SETTINGS": str(file)})


def test_a_readme_without_its_marks_is_refused() -> None:
    """The settings table is never written to a wrong place."""
    with pytest.raises(ValueError, match="must hold the lines"):
        pages.with_settings_table("# A page\n")


def test_a_failed_check_shows_its_output_and_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for a check that passes, and the reason for one that does not."""
    assert checks._check("Good", ["-c", "print('unseen')"])
    assert not checks._check("Bad", ["-c", "print('the reason'); raise SystemExit(1)"])
    shown = capsys.readouterr().out
    assert "Good ... ok" in shown
    assert "unseen" not in shown
    assert "Bad ... FAILED" in shown
    assert "the reason" in shown
