"""`demo` and `bench`: both speak for themselves, so that nothing is printed before or after them."""

from importlib import import_module


def demo(_arguments: list[str]) -> int:
    """Run the demo; its last line is one JSON object."""
    return int(import_module("sandbox.demo").main() or 0)


def bench(arguments: list[str]) -> int:
    """Measure speed and cost; `arguments` as bench/run.py explains them."""
    return int(import_module("bench.run").main(arguments))
