"""`docs`: the pages and tables that are made from the code, so that they can't go stale (tests/unit/test_docs.py compares)."""

from typing import Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sandbox.child import ROOT
from sandbox.commands.mapping_pages import write_mapping_pages
from shared.core.errors import CATALOGUE
from shared.settings import Settings

ERRORS_PAGE: Final = ROOT / "docs" / "errors.md"
README: Final = ROOT / "README.md"
TABLE_BEGIN: Final = "<!-- The table is written by `make docs` from shared/settings.py. -->\n"
TABLE_END: Final = "<!-- End of the table. -->\n"
_GROUPS: Final = {
    "creatio": "Creatio",
    "dataverse": "Dynamics 365 (Dataverse)",
    "mapping": "Mapping",
    "match": "Matching",
    "sync": "Syncing",
    "message": "Queue messages",
    "ledger": "Ledger",
}


def docs(_arguments: list[str]) -> int:
    """Write docs/errors.md, docs/mappings, the mapping schema and the settings table of README.md again."""
    ERRORS_PAGE.parent.mkdir(exist_ok=True)
    ERRORS_PAGE.write_text(errors_page(), encoding="utf-8")
    README.write_text(with_settings_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    made = [ERRORS_PAGE, *write_mapping_pages()]
    print(f"Wrote {', '.join(str(path.relative_to(ROOT)) for path in made)} and the settings table of {README.relative_to(ROOT)}.")
    return 0


def errors_page() -> str:
    """Return docs/errors.md: a section for each code of the catalogue, grouped by where it comes from."""
    lines = [
        "# Errors",
        "",
        "Each error of Tandem has a code. It stands in the log, in the run and in the failure of a record. This page is written by",
        "`make docs` from `shared/core/errors.py`; what happens by itself after an error is drawn there.",
    ]
    groups = list(dict.fromkeys(code.partition(".")[0] for code in CATALOGUE))
    for group in groups:
        lines += ["", f"## {_GROUPS.get(group, group.capitalize())}"]
        for code, entry in CATALOGUE.items():
            if code.partition(".")[0] == group:
                lines += ["", f"### {code}", "", entry.title, "", f"**What to do:** {entry.advice}"]
    return "\n".join(lines) + "\n"


def settings_table() -> str:
    """Return the table of settings: name, default, meaning, in the order of `Settings`."""
    rows = [_row(field) for field in Settings.model_fields.values() if field.alias is not None]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows]) + "\n"


def with_settings_table(page: str) -> str:
    """Return a page with the table between its two marks replaced.

    Raises:
        ValueError: the page lacks a mark.
    """
    before, begin, rest = page.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not begin or not end:
        raise ValueError(f"README.md must hold the lines {TABLE_BEGIN.strip()!r} and {TABLE_END.strip()!r}, in this order")
    return before + begin + settings_table() + end + after


def _row(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        default = "**required**"
    elif field.default in (None, ()):
        default = ""
    else:
        default = f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
    return f"| `{field.alias}` | {default} | {field.description} |"
