"""The pages: what they name exists, and what exists is named."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from sandbox.commands.catalogue import COMMANDS
from sandbox.commands.pages import ERRORS_PAGE, errors_page, with_settings_table
from sandbox.commands.running import _PORT_SETTINGS
from shared.core.errors import CATALOGUE, ConfigError
from shared.settings import Settings, setting_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "infra/README.md", "docs/errors.md"]
SAMPLE: dict[str, str] = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]


def page(name: str) -> str:
    """Return the text of a page."""
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_settings_table_is_that_of_the_code() -> None:
    """README lists exactly the settings there are, with their defaults; `make docs` writes it."""
    assert with_settings_table(page("README.md")) == page("README.md"), "run: make docs"


def test_the_sample_holds_exactly_the_settings_there_are() -> None:
    """Every setting can be found in the sample, nothing in it is unknown, and the host's own setting is there."""
    assert set(SAMPLE) - {"FUNCTIONS_WORKER_RUNTIME"} == set(setting_names())
    assert SAMPLE["FUNCTIONS_WORKER_RUNTIME"] == "python"


def test_the_sample_is_valid_but_for_the_key_that_everybody_must_make() -> None:
    """A copy of the sample is refused for the fingerprint key only, so that nobody runs on a key from a page."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ(SAMPLE)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["FINGERPRINT_KEYS"]


def test_the_sample_shows_the_defaults() -> None:
    """Where the sample gives a value of a setting that has a default, it is that default."""
    for field in Settings.model_fields.values():
        if field.alias is None or field.is_required() or field.default in (None, ()):
            continue
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert SAMPLE[field.alias] == default, field.alias


def test_every_command_has_its_make_target_and_the_other_way_round() -> None:
    """Make and `python -m sandbox` offer the same commands; each target is one documented line that calls the command."""
    rules = re.findall(r"^([a-z-]+): ## (.+)\n\t@\$\(PYTHON\) -m sandbox ([a-z-]+)$", page("Makefile"), re.MULTILINE)
    assert [target for target, _, _ in rules] == [command.name for command in COMMANDS]
    assert all(target == called for target, _, called in rules)
    assert re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE) == [command.name for command in COMMANDS]
    phony = re.search(r"^\.PHONY: (.+)$", page("Makefile"), re.MULTILINE)
    assert phony is not None
    assert phony[1].split() == [command.name for command in COMMANDS]


def test_readme_documents_every_command_in_both_forms() -> None:
    """A newcomer finds each command with make and without."""
    for command in COMMANDS:
        assert f"| `make {command.name}` | `python -m sandbox {command.name}` |" in page("README.md"), command.name


@pytest.mark.parametrize("name", PAGES)
def test_every_command_that_a_page_names_exists(name: str) -> None:
    """No page tells people to run what isn't there."""
    fenced = re.findall(r"^```\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)
    code = "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", page(name))])
    named = re.findall(r"(?:^|\s|/)(?:make|python -m sandbox) ([a-z][a-z-]*)", code)
    assert set(named) <= {command.name for command in COMMANDS}


def test_the_settings_of_up_are_documented() -> None:
    """README names every setting of `up`, and no other."""
    used = set(_PORT_SETTINGS) | set(re.findall(r'environ\.get\("(UP_\w+)"', page("sandbox/commands/running.py")))
    assert set(re.findall(r"\bUP_\w+", page("README.md"))) == used
    assert used > set(_PORT_SETTINGS)


def test_readme_documents_every_request_to_the_app() -> None:
    """README lists the HTTP routes of the triggers with their methods, and no other."""
    functions = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "functions").glob("*.py")))
    routes = re.findall(r'route\(route="([\w/{}:*]+)", methods=\["([A-Z]+)"\]', functions)
    assert routes
    assert functions.count(".route(") == len(routes)
    assert set(re.findall(r"`([A-Z]+) /api/([\w/]+)", page("README.md"))) == {(method, route) for route, method in routes}


def test_every_error_code_has_its_section() -> None:
    """docs/errors.md is what the catalogue says, a section for each code; `make docs` writes it."""
    assert ERRORS_PAGE.read_text(encoding="utf-8") == errors_page(), "run: make docs"
    assert sorted(re.findall(r"^### (.+)$", errors_page(), re.MULTILINE)) == sorted(CATALOGUE)


def test_every_flow_is_named_in_readme() -> None:
    """README says what is synced: each mapping file's flow by name, and at least one."""
    flows = [json.loads(path.read_text(encoding="utf-8"))["flow"] for path in flow_files()]
    assert flows
    for flow in flows:
        assert f"`{flow}`" in page("README.md"), flow


def flow_files() -> list[Path]:
    """Return the mapping files, without cases and schema."""
    return [path for path in sorted((ROOT / "mappings").glob("*.json")) if not path.name.endswith((".cases.json", ".schema.json"))]


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_a_page_names_exists(name: str) -> None:
    """Paths in backticks lead somewhere; names with a gap (<...>), patterns and what only exists after set-up are left out."""
    made_later = (".venv", "local.settings.json", "node_modules", ".sandbox", "/")
    named = re.findall(r"`([\w.-]+(?:/[\w.-]*)+|[\w.-]+\.(?:md|json|toml|py|txt))`", page(name))
    missing = [path for path in named if not path.startswith(made_later) and not (ROOT / path).exists()]
    missing += [link for link in re.findall(r"\]\(([\w./-]+)\)", page(name)) if not (ROOT / name).parent.joinpath(link).exists()]
    assert missing == []


def test_every_package_has_its_reason() -> None:
    """CONTRIBUTING says of each pinned package why it is there."""
    lines = (page("requirements.txt") + page("requirements-dev.txt")).splitlines()
    packages = {line.partition("==")[0] for line in lines if "==" in line} | set(json.loads(page("package.json"))["devDependencies"])
    reasons = page("CONTRIBUTING.md").partition("## Packages")[2].partition("\n## ")[0]
    missing = sorted(package for package in packages if not re.search(rf"(?<![\w-]){re.escape(package)}(?![\w-])", reasons))
    assert missing == []


def test_every_folder_of_tests_is_explained() -> None:
    """CONTRIBUTING says of each folder of tests what it proves."""
    folders = {path.parent.relative_to(ROOT).parts[1] for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"^\| `tests/(\w+)/` \|", page("CONTRIBUTING.md"), re.MULTILINE)) == folders


def test_every_custom_column_of_the_stand_in_is_listed() -> None:
    """Who sets up a real Creatio finds in CONTRIBUTING each custom column that a mapping uses."""
    text = page("CONTRIBUTING.md")
    used = {column for path in flow_files() for column in re.findall(r'"((?:Usr|tandem_)\w+)"', path.read_text(encoding="utf-8"))}
    assert used
    assert sorted(column for column in used if f"`{column}`" not in text) == []


def test_the_layers_of_contributing_are_those_that_are_checked() -> None:
    """The import rule in the page names the layers of the contract, in its order."""
    contracts = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = ["functions", "wiring", "engine", "core"]
    order = [next(index for index, layer in enumerate(layers) if name in layer) for name in named]
    assert order == sorted(order)
    assert " → ".join(named) in page("CONTRIBUTING.md")
