"""The comparison itself: turns, what counts as a result, and a tool that fails."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import race
from bench.competitors import Competitor
from bench.race import Server, static_server

GOOD = Competitor("good", "good", "bench.peers.serial", ("50",))
POOR = Competitor("poor", "poor", "bench.peers.mapping")
SILENT = Competitor("silent", "silent", "bench.no_such_module")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell what a child process took")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run the static server in its own process, as the comparison does."""
    with static_server() as running:
        yield running


def test_a_tool_that_does_its_work_has_a_figure_for_everything(server: Server) -> None:
    """Seconds of work are less than those of the process, requests are counted, and versions are told of packages only."""
    (entry,) = race.race(server, [GOOD], 120, 2)
    assert (entry.problem, entry.version, len(entry.laps)) == ("", "", 2)
    for lap in entry.laps:
        assert 0 < lap.seconds < lap.process
        assert lap.processor > 0
        assert lap.requests == 1 + 3
        assert 10 < lap.megabytes < 500


def test_a_tool_that_writes_nothing_is_out_with_its_reason(server: Server) -> None:
    """A program that ends well without its work, and one that does not start, have no figures; the others go on."""
    entries = race.race(server, [POOR, SILENT, GOOD], 20, 1)
    assert [len(entry.laps) for entry in entries] == [0, 0, 1]
    assert entries[1].problem.startswith("ended with 1: ")
    assert "no_such_module" in entries[1].problem
    assert entries[0].problem == "told nothing of its work"


def test_a_result_that_is_not_the_mappings_is_refused(server: Server) -> None:
    """A tool that maps by other tables ends well and is found out at the server."""
    kept = server.tables.read_text(encoding="utf-8")
    try:
        server.tables.write_text(kept.replace('"Austria"', '"Australia"'), encoding="utf-8")
        (entry,) = race.race(server, [GOOD], 60, 1)
    finally:
        server.tables.write_text(kept, encoding="utf-8")
    assert entry.laps == ()
    assert entry.problem.startswith("wrote 60 of 60 accounts in 60 writes, ")


def test_a_tool_that_hangs_is_ended_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run has a limit; the process that measures and the one that is measured end together."""
    monkeypatch.setattr(race, "_SECONDS", 1)
    begun = time.monotonic()
    hanging = [sys.executable, str(race._MEASURED), str(tmp_path / "took.json"), sys.executable, "-c", "import time; time.sleep(45)"]
    with pytest.raises(RuntimeError, match="did not end within 1 s"):
        race._run(hanging, dict(os.environ))
    assert time.monotonic() - begun < 40
