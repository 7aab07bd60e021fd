"""The repository: exact pins, no traces of one machine, sizes, and what is deployed."""

import ast
import fnmatch
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = {"function_app.py", "functions", "host.json", "mappings", "requirements.txt", "shared"}
MOST_LINES = 500
MOST_FUNCTION_LINES = 60
# Put together from pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile("|".join(("/" + "work/", "/" + "root/", "/" + "home/[a-z]", "/" + "Users/[A-Za-z]", "[A-Z]:" + r"\\Users")))
REGISTRIES = re.compile(
    "|".join(("py" + r"pi\.org", "pythonhosted" + r"\.org", "npm" + r"js\.org", "--(?:extra-)?" + "index-url", "npm" + "mirror"))
)


def tracked() -> list[Path]:
    """Return the files of the repository; outside git (a downloaded archive) every file but the ignored folders."""
    asked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    if asked.returncode == 0:
        return [ROOT / name for name in asked.stdout.split("\0") if name and (ROOT / name).is_file()]
    ignored = {"node_modules", "__pycache__", ".sandbox", ".git"}
    return [
        path for path in ROOT.rglob("*") if path.is_file() and not any(part in ignored or part.startswith(".venv") for part in path.parts)
    ]


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def text_of(path: Path) -> str:
    """Return a file as text."""
    return path.read_text(encoding="utf-8")


def findings(pattern: re.Pattern[str]) -> list[str]:
    """Return file and line of each hit."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in FILES
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_path_of_one_machine() -> None:
    """The repository works anywhere: no file names a folder of the machine it was written on."""
    assert findings(MACHINE_PATHS) == []


def test_no_address_of_a_package_registry() -> None:
    """Where packages come from is each machine's own setting, so no file names a registry."""
    assert findings(REGISTRIES) == []


def test_the_lock_file_holds_hashes_but_no_addresses() -> None:
    """Npm checks every package by hash and takes it from wherever this machine is told to."""
    packages = json.loads(text_of(ROOT / "package-lock.json"))["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if name and "integrity" not in package and not package.get("link")] == []
    assert "omit-lockfile-registry-resolved=true" in text_of(ROOT / ".npmrc")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_python_package_is_pinned_exactly(name: str) -> None:
    """Two installations of one commit are the same."""
    lines = [line for line in text_of(ROOT / name).splitlines() if line and not line.startswith(("#", "-r "))]
    assert lines
    assert [line for line in lines if not re.fullmatch(r'[A-Za-z0-9-]+==\d+(\.\d+)+(; python_version (<|>=) "3\.\d+")?', line)] == []


CAP = {"@cap-js/sqlite": "2.4.2", "@sap/cds": "9.9.3", "sql.js": "1.16.0"}


@pytest.mark.parametrize(("folder", "named"), [(".", {"azurite": "3.35.0"}), ("tests/judges/cap", CAP)])
def test_every_node_package_is_pinned_exactly(folder: str, named: dict[str, str]) -> None:
    """Azurite and the OData server are those that were tested: exact versions that run on Node 20, and that build nothing."""
    package = json.loads(text_of(ROOT / folder / "package.json"))
    assert package["devDependencies"] == named
    assert package.get("overrides", {}) == ({"better-sqlite3": "npm:sql.js@1.16.0"} if "sql.js" in named else {})
    assert "dependencies" not in package
    packages = json.loads(text_of(ROOT / folder / "package-lock.json"))["packages"]
    assert [name for name, facts in packages.items() if facts.get("hasInstallScript")] == []
    assert "omit-lockfile-registry-resolved=true" in text_of(ROOT / folder / ".npmrc")


def test_the_licence_is_mit() -> None:
    """The licence file holds the whole MIT text, and package.json says the same."""
    assert text_of(ROOT / "LICENSE").startswith("MIT License\n")
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in text_of(ROOT / "LICENSE")
    assert json.loads(text_of(ROOT / "package.json"))["license"] == "MIT"


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no executable bit")
def test_continuous_integration_runs_what_people_run() -> None:
    """.ci/run can be executed and ends in `make test`, so that its last line is pytest's."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert text_of(script).startswith("#!/usr/bin/env bash\n")
    assert text_of(script).rstrip().endswith("exec make test")


def test_only_the_app_is_deployed() -> None:
    """.funcignore leaves out every top-level name that the app does not need, and keeps all that it does."""
    patterns = [line.rstrip("/") for line in text_of(ROOT / ".funcignore").splitlines() if line and not line.startswith("#")]
    top = {path.relative_to(ROOT).parts[0] for path in FILES}
    kept = {name for name in top if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}
    assert kept == DEPLOYED


def test_no_file_is_too_long_to_read() -> None:
    """A Python file past 500 lines is a design question."""
    lengths = {str(path.relative_to(ROOT)): len(text_of(path).splitlines()) for path in PYTHON}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_no_function_is_too_long_to_read() -> None:
    """A function fits on a screen: 60 lines at most, docstring included."""
    assert [line for path in PYTHON for line in long_functions(path)] == []


def long_functions(path: Path) -> Iterator[str]:
    """Yield the functions of a file that are too long."""
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_FUNCTION_LINES:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {lines} lines"


def test_no_name_that_says_nothing() -> None:
    """No module or folder is called utils, helpers, common, base or manager."""
    empty = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
    assert [
        str(path.relative_to(ROOT)) for path in PYTHON if empty & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    ] == []


def test_every_test_runs() -> None:
    """No test is skipped for later or expected to fail; what depends on the platform says so in skipif with a reason."""
    allowed = {"tests/functions/test_python_313.py"}  # says plainly when no Python 3.13 is on the machine
    marks = re.compile(r"pytest\.skip\(|mark\.skip\b|mark\.xfail|pytest\.xfail\(")
    tests = [path for path in PYTHON if path.relative_to(ROOT).parts[0] == "tests" and path != Path(__file__).resolve()]
    assert [name for path in tests if marks.search(text_of(path)) and (name := path.relative_to(ROOT).as_posix()) not in allowed] == []
