"""Runs two programs joined by a pipe, as Singer and Airbyte run a source and a destination, and tells what both took.

Call: python -m bench.peers.pipe URL HTTPS TABLES FOLDER SOURCE DESTINATION; the last two are modules.
"""

import os
import subprocess
import sys

from bench.peers.common_ground import ground, marked, tell


def main(source: str, destination: str) -> int:
    """Join the two; the work begins when both have done their imports, and ends with the last write."""
    here, given = ground(), sys.argv[1:5]
    first = subprocess.Popen([sys.executable, "-m", source, *given], stdout=subprocess.PIPE)
    second = subprocess.Popen([sys.executable, "-m", destination, *given], stdin=first.stdout, stdout=subprocess.DEVNULL)
    if first.stdout is not None:
        first.stdout.close()  # the destination alone reads it, so the source learns when that one is gone
    codes, memory = [], 0
    for process in (second, first):
        _, status, usage = os.wait4(process.pid, 0)
        codes.append(os.waitstatus_to_exitcode(status))
        memory += usage.ru_maxrss
    if any(codes):
        return 1
    begun = max(marked(here.folder, "source"), marked(here.folder, "destination"))
    tell(begun, marked(here.folder, "ended"), memory_kilobytes=memory)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[5:7]))
