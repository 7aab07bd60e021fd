"""Where the time of a load goes, as cProfile sees it: the same program as in the comparison, in this process."""

import asyncio
import cProfile
import pstats
import re
from io import StringIO
from typing import Final

from bench import tandem_load
from bench.race import static_server

_LINES: Final = 25
_PLACE: Final = re.compile(r"(?<= )\S*/(?:site-packages|lib/python3\.\d+)/")


def load_profile(way: str, records: int) -> str:
    """Return the functions that took most of a load of so many records, by their own time."""
    with static_server() as server:
        for number in (100, records):  # the first time metadata is asked of the stand-ins
            server.reset("creatio", number, 0.0)
            profiler = cProfile.Profile()
            profiler.enable()
            asyncio.run(tandem_load.run(way, "creatio", server.http))
            profiler.disable()
    text = StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(_LINES)
    return plain(text.getvalue())


def plain(profile: str) -> str:
    """Return a profile without empty lines and without where this machine keeps the checkout and Python."""
    below = profile.replace(f"{tandem_load.ROOT}/", "")
    return "\n".join(_PLACE.sub("", line) for line in below.splitlines() if line.strip())
