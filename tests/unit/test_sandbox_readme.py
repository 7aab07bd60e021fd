"""The sandbox's page: what it says a stand-in does is shown by tests that exist, and every switch stands in it."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from sandbox.creatio.settings import CreatioSettings
from sandbox.dataverse.switches import Settings as DataverseSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "sandbox" / "README.md").read_text(encoding="utf-8")
TABLES = ("Creatio", "Dataverse")
COMPLETE = ("Creatio", "Dataverse")
"""Tables whose every row is shown by a test."""
SWITCHES: Mapping[str, type[BaseModel]] = {"Creatio": CreatioSettings, "Dataverse": DataverseSettings}
_NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    section = re.split(r"^#{2,3} ", PAGE.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@cache
def sources(name: str) -> Mapping[str, str]:
    """Return the test functions of a test file with their text, decorators included; none when there is no such file."""
    found: dict[str, str] = {}
    for path in (ROOT / "tests").rglob(name):
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def unknown(cell: str) -> Iterator[str]:
    """Yield what a cell names besides tests that exist."""
    for part in filter(None, (part.strip() for part in cell.split(","))):
        named = _NAMED.fullmatch(part)
        if named is None or named[2] not in sources(named[1]):
            yield part


@pytest.mark.parametrize("system", TABLES)
def test_every_row_names_tests_that_exist(system: str) -> None:
    """What shows a row is a list of tests of this repository; rows are numbered without a gap."""
    table = rows(system)
    assert [row[0] for row in table] == [str(number) for number in range(1, len(table) + 1)]
    assert len(table) >= 20
    assert {row[0]: names for row in table if (names := list(unknown(row[2])))} == {}


@pytest.mark.parametrize("system", COMPLETE)
def test_no_row_is_without_proof(system: str) -> None:
    """Where a stand-in is complete each row names a test."""
    assert [row[0] for row in rows(system) if not row[2]] == []


@pytest.mark.parametrize(("system", "model"), SWITCHES.items())
def test_every_switch_stands_in_the_list_and_is_what_the_code_says(system: str, model: type[BaseModel]) -> None:
    """The list holds exactly the settings there are, in their order, with their defaults and the words of the code."""
    listed = [(row[0].strip("`"), row[1].strip("`"), row[2].replace("\\|", "|")) for row in rows(f"Switches of {system}")]
    fields = model.model_fields.items()
    assert listed == [(name, written(field.get_default(call_default_factory=True)), field.description) for name, field in fields]


def written(default: Any) -> str:
    """Write a default as the page does: a set as its sorted values, a round number without a point."""
    if isinstance(default, frozenset):
        return ", ".join(sorted(default)) or "none"
    return f"{default:g}" if isinstance(default, float) and default.is_integer() and default < 1e6 else str(default)


@pytest.mark.parametrize(("system", "model"), SWITCHES.items())
def test_every_switch_is_shown_in_all_its_settings(system: str, model: type[BaseModel]) -> None:
    """Each is listed with tests that exist and speak of it; of several fixed values each but the default stands in them."""
    for row in rows(f"Switches of {system}"):
        name = row[0].strip("`")
        named = _NAMED.findall(row[3])
        assert named, name
        assert list(unknown(row[3])) == [], name
        text = "\n".join(sources(file)[test] for file, test in named)
        assert name in text, name
        field = model.model_fields[name]
        assert [value for value in others(field.annotation, field.default) if str(value) not in text] == [], name


def others(annotation: Any, default: Any) -> list[Any]:
    """Return the fixed values of a setting besides its default; none when it has no fixed ones."""
    return [value for value in get_args(annotation) if value != default] if get_origin(annotation) is Literal else []


def test_a_test_that_is_not_there_would_be_noticed() -> None:
    """A cell with a misspelt test, a missing file, free words or a promise is refused; existing tests are not."""
    here = "`test_sandbox_readme.py::test_no_row_is_without_proof`"
    assert list(unknown(here)) == []
    for wrong in ("`test_sandbox_readme.py::test_nope`", "`test_nope.py::test_nope`", "some day", "later: documents", here.strip("`")):
        assert list(unknown(f"{here}, {wrong}")) == [wrong]
