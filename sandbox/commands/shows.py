"""`demo` and `bench`: both speak for themselves, so that nothing is printed before or after them."""

import runpy
from importlib import import_module

from sandbox.child import ROOT, SandboxError


def demo(_arguments: list[str]) -> int:
    """Run the demo; its last line is one JSON object."""
    return int(import_module("sandbox.demo").main() or 0)


def bench(_arguments: list[str]) -> int:
    """Run the benchmark of the core."""
    script = ROOT / "bench" / "core.py"
    if not script.is_file():
        raise SandboxError(f"{script.relative_to(ROOT)} does not exist in this checkout, so there is nothing to measure")
    runpy.run_path(str(script), run_name="__main__")
    return 0
