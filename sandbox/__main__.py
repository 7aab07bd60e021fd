"""The commands of this repository: `python -m sandbox help` lists them; the Makefile calls the same ones.

Only the standard library is imported here, and nothing that an old Python can't read: this file runs before the virtual
environment exists and has to say clearly what is missing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sandbox.commands import catalogue, setup


def main(arguments: list[str]) -> int:
    """Run one command inside the virtual environment, made first where it is missing; return the exit code."""
    name = arguments[0] if arguments else "help"
    command = catalogue.find(name)
    if command is None:
        print(f"There is no command {name!r}.\n", file=sys.stderr)
        print(catalogue.overview(), file=sys.stderr)
        return 2
    if command.entry == "":
        print(catalogue.overview())
        return 0
    root = Path(__file__).resolve().parent.parent
    os.chdir(str(root))
    try:
        python = setup.prepare(root, node=command.node)
        if not setup.is_running_in(python):
            return setup.run_again(python, ["-m", "sandbox", *arguments])
        return catalogue.entry_point(command)(arguments[1:])
    except setup.CommandError as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
