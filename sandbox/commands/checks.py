"""`lint`, `test` and `test-all`: one line a check, its output only when it fails; the tests come last and speak for themselves."""

import subprocess
import sys
import time
from typing import Final

_LINT: Final[dict[str, list[str]]] = {
    "Style (ruff check)": ["-m", "ruff", "check", "--quiet", "."],
    "Format (ruff format)": ["-m", "ruff", "format", "--check", "--quiet", "."],
    "Types (mypy)": ["-m", "mypy", "--no-error-summary"],
}
_LONG: Final[dict[str, list[str]]] = {
    "A test for every deliberate fault (tests/mutations.py)": ["-m", "tests.mutations"],
    "20,000 histories of two systems and an app that dies": [
        *("-m", "pytest", "-q", "tests/engine/test_converges.py"),
        *("--hypothesis-profile", "thorough", "--timeout", "3600"),
    ],
}
_SHOWN_LINES: Final = 200


def lint(arguments: list[str]) -> int:
    """Run the checks that need no servers; `arguments` go to `ruff check` in place of the whole repository."""
    checks = dict(_LINT)
    if arguments:
        checks["Style (ruff check)"] = ["-m", "ruff", "check", "--quiet", *arguments]
    passed = [_check(title, command) for title, command in checks.items()]
    passed.append(_check("Imports (import-linter)", _import_linter()))
    return 0 if all(passed) else 1


def test(arguments: list[str]) -> int:
    """Run the checks, then the tests but for the slow ones; `arguments` go to pytest."""
    return _checked_tests(["-m", "not slow", *arguments])


def test_all(arguments: list[str]) -> int:
    """Run the checks, every deliberate fault, 20,000 histories of the state machine, then every test; `arguments` go to pytest."""
    verdicts = [] if arguments else [_check(title, command) for title, command in _LONG.items()]
    return _checked_tests(arguments) or (0 if all(verdicts) else 1)


def _checked_tests(arguments: list[str]) -> int:
    failed = lint([])
    workers = [] if any(argument.startswith("-n") for argument in arguments) else ["-n", "2"]
    command = [sys.executable, "-m", "pytest", *workers, "--dist", "loadfile", *arguments]
    note = " (a check failed, so the command fails even if they pass)" if failed else ""
    print(f"Tests (pytest){note}", flush=True)
    # Nothing is printed after pytest: its last line is the result that people and machines look for.
    return subprocess.call(command) or failed  # noqa: S603 - built here


def _check(title: str, command: list[str]) -> bool:
    print(f"{title} ...", end=" ", flush=True)
    begun = time.monotonic()
    done = subprocess.run(  # noqa: S603 - built here
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{verdict} ({time.monotonic() - begun:.0f} s)", flush=True)
    if done.returncode != 0:
        print("\n".join(done.stdout.splitlines()[-_SHOWN_LINES:]), flush=True)
    return done.returncode == 0


def _import_linter() -> list[str]:
    """Return the command of import-linter, which has no `python -m` of its own."""
    return ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"]
