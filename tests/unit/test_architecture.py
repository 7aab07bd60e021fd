"""The law of imports: it holds here, and the contracts notice when it is broken."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
SKELETON = (
    "functions/poll.py",
    "sandbox/creatio/app.py",
    "sandbox/dataverse/app.py",
    "sandbox/entra.py",
    "sandbox/host/indexing.py",
    "shared/core/merge.py",
    "shared/engine/poll.py",
    "shared/ledger/store.py",
    "shared/process.py",
    "shared/setting_values.py",
    "shared/settings.py",
    "shared/systems/creatio.py",
    "shared/telemetry.py",
    "shared/wiring.py",
)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the pyproject.toml of a folder."""
    return subprocess.run([sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """Make a house with the same rooms and the same contracts, empty but for one module a room."""
    for name in SKELETON:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    return tmp_path


def test_imports_go_downwards_only() -> None:
    """This checkout keeps every contract of pyproject.toml."""
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_empty_house_keeps_the_contracts(skeleton: Path) -> None:
    """The skeleton of the next test is sound, so that what breaks there is the import that was put in."""
    done = lint(skeleton)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("shared/core/merge.py", "shared.engine.poll"),
        ("shared/core/merge.py", "shared.settings"),
        ("shared/core/merge.py", "httpx"),
        ("shared/engine/poll.py", "azure.functions"),
        ("shared/engine/poll.py", "shared.systems.creatio"),
        ("shared/systems/creatio.py", "shared.engine.poll"),
        ("shared/systems/creatio.py", "shared.ledger.store"),
        ("shared/ledger/store.py", "shared.systems.creatio"),
        ("shared/engine/poll.py", "shared.wiring"),
        ("shared/wiring.py", "shared.process"),
        ("shared/wiring.py", "functions.poll"),
        ("shared/wiring.py", "sandbox.creatio.app"),
        ("functions/poll.py", "sandbox.creatio.app"),
        ("sandbox/creatio/app.py", "shared.systems.creatio"),
        ("sandbox/dataverse/app.py", "shared.core.merge"),
        ("sandbox/entra.py", "shared.settings"),
        ("sandbox/host/indexing.py", "functions.poll"),
    ],
)
def test_a_forbidden_import_is_noticed(skeleton: Path, module: str, imported: str) -> None:
    """Each import against the law makes the check fail and is named in its report."""
    (skeleton / module).write_text(f"import {imported}\n", encoding="utf-8")
    done = lint(skeleton)
    assert done.returncode == 1, done.stdout + done.stderr
    assert module.removesuffix(".py").replace("/", ".") in done.stdout
