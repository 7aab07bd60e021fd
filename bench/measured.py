"""Runs one command and writes what it took: `python bench/measured.py RESULT COMMAND ...`. Standard library only.

A process of its own, and a small one: the peak memory that the system reports for a child begins with that of the process that started it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main(result: str, *command: str) -> int:
    """Run it and return its exit code."""
    begun = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    took = {"process": time.monotonic() - begun, "processor": usage.ru_utime + usage.ru_stime, "kilobytes": usage.ru_maxrss}
    Path(result).write_text(json.dumps(took), encoding="utf-8")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
