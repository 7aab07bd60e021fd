"""The table of commands: what each is for and where it lives. Standard library only, see `sandbox/__main__.py`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable


class Command(NamedTuple):
    """One command; `entry` is `module:function`, imported only when the command runs, `node` the folders whose npm packages it needs."""

    name: str
    summary: str
    entry: str
    node: tuple[str, ...]


RUN = (".",)
TESTED = (".", "tests/judges/cap")
"""The OData server of the tests has a licence of its own, so only who runs the tests installs it."""

COMMANDS = (
    Command(
        "demo",
        "Show accounts going both ways between two stand-ins; ends in OK or in what differs.",
        "sandbox.commands.shows:demo",
        node=RUN,
    ),
    Command(
        "test",
        "Check style, types, imports and docs, then run the tests (12 minutes at most).",
        "sandbox.commands.checks:test",
        node=TESTED,
    ),
    Command("test-all", "The same with the slow tests, without a time limit.", "sandbox.commands.checks:test_all", node=TESTED),
    Command("up", "Start everything, fill both sides, print the addresses and leave it running.", "sandbox.commands.running:up", node=RUN),
    Command("down", "Stop what `up` started.", "sandbox.commands.running:down", node=()),
    Command("bench", "Measure speed; prints a table.", "sandbox.commands.shows:bench", node=RUN),
    Command("lint", "Check style, types and imports only.", "sandbox.commands.checks:lint", node=()),
    Command(
        "docs",
        "Write the generated pages again: docs/errors.md and the settings table of README.md.",
        "sandbox.commands.pages:docs",
        node=(),
    ),
    Command("help", "Show this list.", "", node=()),
)


def find(name: str) -> Command | None:
    """Return the command of that name; `-h` and `--help` mean `help`."""
    wanted = "help" if name in {"-h", "--help"} else name
    return next((command for command in COMMANDS if command.name == wanted), None)


def overview() -> str:
    """Return the list that `help` prints."""
    lines = ["Usage: make <command>, or without make: python -m sandbox <command>", ""]
    lines += [f"  {command.name:<9} {command.summary}" for command in COMMANDS]
    lines += [
        "",
        "Every command sets up what it needs first: .venv, the pinned Python packages and, where used, those from npm (Node 20 or newer).",
    ]
    return "\n".join(lines)


def entry_point(command: Command) -> Callable[[list[str]], int]:
    """Import the function that runs a command; it takes the arguments after the command's name and returns the exit code."""
    module, _, function = command.entry.partition(":")
    return cast("Callable[[list[str]], int]", getattr(import_module(module), function))
