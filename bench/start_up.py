"""How long the app takes to be imported, and which packages that time goes to.

Two stages: what the host imports to index the functions, and what the first invocation needs besides.
"""

import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

RUNS: Final = 7
STAGES: Final = {
    "indexing": "import function_app",
    "first invocation": "import function_app, shared.wiring",
}
_SHOWN: Final = 10
_LEAST: Final = 0.5
"""Milliseconds below which a package is not worth a line."""
_ROOT: Final = Path(__file__).resolve().parents[1]
_LINE: Final = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s+)(\S+)")
_OWN: Final = ("function_app", "functions", "shared")


@dataclass(frozen=True)
class Package:
    """One third-party package: milliseconds of its own modules, and with all that it was the first to import."""

    name: str
    own: float
    cumulative: float


@dataclass(frozen=True)
class StartUp:
    """Seconds of every run of a Python that imports the app, and of one that imports nothing; the costliest packages."""

    stage: str
    runs: tuple[float, ...]
    bare: tuple[float, ...]
    modules: int
    packages: tuple[Package, ...]

    @property
    def python(self) -> float:
        """Return the median of what Python's own start takes."""
        return median(self.bare)

    @property
    def seconds(self) -> float:
        """Return the median of what the import alone takes."""
        return median(self.runs) - self.python


def measure(stage: str, runs: int = RUNS) -> StartUp:
    """Import what a stage needs so many times, each in a Python of its own."""
    code = STAGES[stage]
    timed = tuple(_timed(code) for _ in range(runs))
    bare = tuple(_timed("pass") for _ in range(runs))
    told = subprocess.run([sys.executable, "-X", "importtime", "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True)
    lines = _lines(told.stderr)
    return StartUp(stage, timed, bare, len(lines), tuple(one for one in costliest(lines) if one.cumulative >= _LEAST)[:_SHOWN])


def costliest(lines: Sequence[tuple[str, int, int, int]]) -> tuple[Package, ...]:
    """Return third-party packages by what they cost, dearest first; a line is name, own and cumulative microseconds, depth.

    A package costs what its outermost imports took; one that another package imported costs that one as well.
    """
    own: dict[str, int] = defaultdict(int)
    cumulative: dict[str, int] = defaultdict(int)
    for name, alone, _, _ in lines:
        own[_root(name)] += alone
    for place, (name, _, whole, depth) in enumerate(lines):
        parents = _parents(lines[place + 1 :], depth)
        if _root(name) not in {_root(parent) for parent in parents}:
            cumulative[_root(name)] += whole
    named = [Package(name, own[name] / 1000, cumulative[name] / 1000) for name in cumulative if _is_third_party(name)]
    return tuple(sorted(named, key=lambda package: -package.cumulative))


def _lines(text: str) -> list[tuple[str, int, int, int]]:
    found = (_LINE.match(line) for line in text.splitlines())
    return [(one[4], int(one[1]), int(one[2]), len(one[3])) for one in found if one]


def _parents(following: Iterable[tuple[str, int, int, int]], depth: int) -> Iterable[str]:
    """Yield who imported a module, inner to outer: `importtime` prints a module after what it imports, one step to the left."""
    for name, _, _, there in following:
        if there < depth:
            yield name
            depth = there


def _root(name: str) -> str:
    """Return the package; of a namespace that many packages share, two steps."""
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "azure" and rest else first


def _is_third_party(root: str) -> bool:
    first = root.partition(".")[0]
    return first not in sys.stdlib_module_names and first not in _OWN and not first.startswith("_") and root != "azure"


def _timed(code: str) -> float:
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], cwd=_ROOT, check=True, capture_output=True)
    return time.monotonic() - begun
