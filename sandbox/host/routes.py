"""Route templates as ASP.NET reads them, which is what the Azure host routes by (azure.md 2.5)."""

import re
from dataclasses import dataclass
from typing import Final

from sandbox.host.problems import StartupError

_PARAMETER: Final = re.compile(r"\{(?P<star>\*{0,2})(?P<name>\w+)(?::(?P<constraint>\w+))?(?P<optional>\?)?\}")
_CONSTRAINTS: Final = {
    None: r"[^/]+",
    "int": r"-?\d+",
    "long": r"-?\d+",
    "alpha": r"[A-Za-z]+",
    "guid": r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}",
    "bool": r"true|false",
}
# What beats what in the same place of a path: text, constrained parameter, parameter, rest.
_TEXT, _CONSTRAINED, _FREE, _REST = range(4)


@dataclass(frozen=True, slots=True)
class RouteTemplate:
    """A compiled template; ``rank`` orders templates, the lowest that matches wins."""

    template: str
    pattern: re.Pattern[str]
    rank: tuple[int, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters of a decoded path without its leading slash, or None; letters match in both cases."""
        match = self.pattern.fullmatch(path.rstrip("/"))
        return None if match is None else {name: value for name, value in match.groupdict().items() if value}


def compile_route(where: str, template: str) -> RouteTemplate:
    """Compile a template such as ``items/{id:int?}`` or ``files/{*rest}``.

    Raises:
        StartupError: It uses something that this host does not know.
    """
    pattern = ""
    rank: list[int] = []
    for index, segment in enumerate(template.split("/") if template else []):
        slash = "/" if index else ""
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is None:
            if "{" in segment or "}" in segment:
                raise StartupError(
                    f"{where}: the route part {segment!r} is not understood; allowed are text, {{x}}, {{x:int}}, {{x?}}, {{*x}}."
                )
            pattern += slash + re.escape(segment)
            rank.append(_TEXT)
            continue
        pattern += _parameter(where, segment, slash, parameter)
        rank.append(_REST if parameter["star"] else _CONSTRAINED if parameter["constraint"] else _FREE)
    return RouteTemplate(template, re.compile(pattern, re.IGNORECASE), tuple(rank))


def _parameter(where: str, segment: str, slash: str, parameter: "re.Match[str]") -> str:
    if parameter["constraint"] not in _CONSTRAINTS:
        allowed = ", ".join(sorted(name for name in _CONSTRAINTS if name))
        raise StartupError(f"{where}: the route part {segment!r} has an unknown constraint; allowed are {allowed}.")
    name = parameter["name"]
    if parameter["star"]:
        return rf"(?:{slash}(?P<{name}>.*))?"
    value = rf"{slash}(?P<{name}>{_CONSTRAINTS[parameter['constraint']]})"
    return f"(?:{value})?" if parameter["optional"] else value
