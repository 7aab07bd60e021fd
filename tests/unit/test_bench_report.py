"""The benchmark without its clock: what its tables say, how verdicts fall, what its options and its environments do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import budgets, bulk_load, environments, report, run
from bench.competitors import ALL, DLT, PEERS, SERIAL, SERIAL_100, SERIAL_ONE, TANDEM, TANDEM_BARE, TANDEM_BULK, TANDEM_WEIGHED, Competitor
from bench.core_speed import Speed
from bench.environments import ROOT
from bench.profiles import plain
from bench.race import Entry, Lap
from bench.sandbox_cost import Cost
from bench.start_up import Package, StartUp, costliest
from shared.core.records import Side

NO_COST = Cost("", 1_000, 1.0, 1, 1, 0, 0, 1_000, 1_000, 10)
IMPORTS = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |         httpcore._sync
import time:       300 |        400 |       httpcore
import time:       200 |        200 |       json.decoder
import time:       500 |       1100 |     httpx
import time:        50 |         50 |     azure
import time:        70 |         70 |     azure.core.pipeline
import time:       900 |       2120 |   shared.wiring
import time:        10 |         10 |   httpx._late
import time:        80 |         80 |   azure.storage.queue
import time:         5 |       2215 | function_app
"""


def entry(competitor: Competitor, *seconds: float, records: int = 1_000, megabytes: float = 90.0) -> Entry:
    """Return an entry with one run for each of the seconds."""
    laps = tuple(Lap(one, one + 1, one / 2, one / 4, megabytes, 20) for one in seconds)
    problem = "" if laps else "could not be installed: no such version"
    return Entry(competitor, records, laps, problem, "1.2.3" if competitor.package else "")


def test_a_race_shows_median_extremes_and_ratio() -> None:
    """Of three runs the middle one counts; the ratio is to Tandem without ledger; the slowest and fastest stand beside it."""
    table = report.race_table([entry(TANDEM_BARE, 2.0, 2.0, 2.0), entry(DLT, 4.0, 1.0, 0.5)], "Race", "Why.")
    assert table[:4] == ["## Race", "", "Why.", ""]
    cells = [cell.strip() for cell in table[-2].strip("|").split("|")]
    assert cells[:6] == ["dlt 1.2.3", "1,000", "1,000", "250", "2,000", "2.00"]
    assert cells[6:] == ["1.00", "2.00", "0.50", "0.25", "90", "20"]


def test_a_tool_that_could_not_be_installed_is_named_with_its_reason() -> None:
    """The table has a line for every tool, with as many cells, also for one without a single run."""
    table = report.race_table([entry(TANDEM_BARE, 2.0), entry(DLT)], "Race", "Why.")
    rows = [line for line in table if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert "could not be installed: no such version" in rows[-1]
    own = [entry(TANDEM_BARE, 2.0), entry(TANDEM_BULK, 2.0)]
    verdicts = [budget for budget in budgets.of_race([*own, *(entry(peer) for peer in PEERS)]) if "dlt" in budget.what]
    assert [verdict.kept for verdict in verdicts] == [None, None]
    assert all(verdict.line().endswith("| not measured |") for verdict in verdicts)


def test_being_ahead_of_a_tool_is_kept_and_being_behind_is_missed_with_its_reason() -> None:
    """Twice as fast is 2, and kept; half as fast is missed, and the line says why."""
    own = [entry(TANDEM_BARE, 2.0), entry(TANDEM_BULK, 8.0)]
    lines = budgets.of_race([*own, *(entry(peer, 4.0) for peer in PEERS)])
    assert [(line.measured, line.kept) for line in lines] == [("0.50", False)] * len(PEERS) + [("2.00", True)] * len(PEERS)
    assert "MISSED: it looks for doubles" in lines[0].line()
    assert lines[-1].line().endswith("| kept |")


def test_the_latency_budget_names_each_serial_client() -> None:
    """Each way of Tandem is held against each serial client; only four times as fast is kept."""
    own = [entry(TANDEM_BARE, 1.0), entry(TANDEM_BULK, 2.0), entry(TANDEM, 3.0)]
    entries = [*own, entry(SERIAL_ONE, 40.0), entry(SERIAL_100, 4.0), entry(SERIAL, 2.0)]
    found = {budget.what: (budget.measured, budget.kept) for budget in budgets.of_latency(entries)}
    bare = [figures for what, figures in found.items() if "without ledger" in what]
    assert bare == [("40.00", True), ("4.00", True), ("2.00", False)]
    assert len(found) == 9


@pytest.mark.parametrize(("after", "kept"), [(98.0, True), (120.0, False), (301.0, False)])
def test_memory_must_stay_flat_and_below_its_bound(after: float, kept: bool) -> None:
    """A tenth more for five times the records is flat; more is not, whatever the sum."""
    before = min(after, 90.0) if after < 300 else 300.0
    (budget,) = budgets.of_memory([entry(TANDEM_WEIGHED, 1.0, megabytes=before)], [entry(TANDEM_WEIGHED, 5.0, megabytes=after)])
    assert budget.kept is kept


def test_costs_are_held_against_the_designs_numbers() -> None:
    """Forty-one requests for 1,000 updates are one too many; a ledger of one request a record is within every budget."""
    dear = Cost("", 1_000, 1.0, 20, 19, 0, 0, 1_000, 5_100, 10)
    quiet = Cost("", 0, 1.0, 1, 1, 0, 0, 1, 2, 0)
    costs = [NO_COST, dear, NO_COST, NO_COST, NO_COST, quiet, NO_COST, NO_COST, NO_COST, NO_COST]
    missed = {budget.what for budget in budgets.of_costs(costs) if not budget.kept}
    assert missed == {
        "updates to Dynamics: requests to both systems, echoes included",
        "updates to Dynamics: ledger operations for each record",
    }


def test_the_core_is_judged_by_the_record_that_changed() -> None:
    """Decode, merge, plan and encode is the second line that the core's measurement gives."""
    speeds = [Speed("unchanged", 9_000, (9_000,)), Speed("changed", 7_999, (7_999,)), Speed("bindings", 1, (1,))]
    (budget,) = budgets.of_core(speeds)
    assert (budget.measured, budget.kept) == ("7,999", False)


def test_costly_imports_count_for_the_package_and_for_who_needs_it() -> None:
    """A package costs all that its outermost imports took; namespaces are told apart, own modules and the standard library left out."""
    lines = [line for line in run.start_up._lines(IMPORTS) if line[0] != "imported"]
    assert costliest(lines) == (
        Package("httpx", 0.51, 1.11),
        Package("httpcore", 0.4, 0.4),
        Package("azure.storage", 0.08, 0.08),
        Package("azure.core", 0.07, 0.07),
    )
    section = report.start_up_section([StartUp("indexing", (1.2, 1.0, 1.1), (0.1, 0.1, 0.1), 10, costliest(lines))])
    assert "| indexing | 1,000 | 900 | 1,100 | 10 |" in section
    assert "| httpx | 1 | 1 |" in section


def test_a_profile_tells_no_place_of_this_machine() -> None:
    """What is written into the repository names modules, not the folders in which this checkout and this Python lie."""
    lines = [
        f"   10    0.1    0.0 {ROOT}/shared/core/plan.py:41(plan_create)",
        "",
        "   10    0.1    0.0 /opt/python/lib/python3.11/json/decoder.py:343(raw_decode)",
        "   10    0.1    0.0 /opt/here/.venv/lib/python3.12/site-packages/httpx/_models.py:9(__init__)",
        "   10    0.1    0.0 {built-in method builtins.isinstance}",
    ]
    assert [line.split(maxsplit=3)[3] for line in plain("\n".join(lines)).splitlines()] == [
        "shared/core/plan.py:41(plan_create)",
        "json/decoder.py:343(raw_decode)",
        "httpx/_models.py:9(__init__)",
        "{built-in method builtins.isinstance}",
    ]


def test_flags_win_over_settings_and_runs_are_never_fewer_than_three() -> None:
    """A quick run asks for little; a median of fewer than three runs is none."""
    assert run.options([], {}).records == 10_000
    usual = run.options([], {}).loads
    assert "5000:azurite:creatio" in usual
    assert run.options([], {"BENCH_LOADS": "7:file:dynamics"}).loads == ("7:file:dynamics",)
    assert run.options(["--large"], {}).loads == ("200000:azurite:creatio", "1000000:file:creatio")
    assert run.options([], {"BENCH_RECORDS": "2000", "BENCH_RUNS": "5"}) == run.Options(2_000, 2_000, 10_000, 5, usual)
    assert run.options(["--records", "500", "--runs", "1"], {"BENCH_RECORDS": "2000"}) == run.Options(500, 500, 2_500, 3, usual)
    assert run.options(["--quick", "--only", "race"], {}) == run.Options(
        1_000, 500, 5_000, 3, ("500:file:creatio",), quick=True, only="race"
    )


@pytest.mark.parametrize("arguments", [["--quick"], ["--only", "core"], []])
def test_only_a_whole_run_is_written_down(arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A quick run and a single part are shown and leave RESULTS.md as it is."""
    monkeypatch.setattr(run, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(run, "PARTS", {"core": lambda _wanted: run.Part([budgets.Budget("a", "1", "2", kept=True)], ["## The core alone"])})
    assert run.main(arguments) == 0
    assert (tmp_path / "RESULTS.md").exists() is (arguments == [])
    if not arguments:
        assert "| a | 1 | 2 | kept |\n\n## The core alone\n" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")


def test_large_loads_are_written_one_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was measured stays when the next load, which takes most of an hour, fails."""
    monkeypatch.setattr(run, "LOADS", tmp_path / "LOADS.md")

    def measured(records: str, ledger: str, side: str) -> bulk_load.Loaded:
        if ledger == "file":
            raise OSError("no room left")
        memory, requests = (1.0, 2.0, 3.0), {"creatio": 1, "dataverse": 2}
        return bulk_load.Loaded(int(records), ledger, Side(side), 10.0, {}, requests, 4, 5, memory, 6.0)

    monkeypatch.setattr(bulk_load, "in_own_process", measured)
    with pytest.raises(OSError, match="no room"):
        run.main(["--large"])
    assert "| 200,000 | creatio | azurite | 10 | 20,000 |" in (tmp_path / "LOADS.md").read_text(encoding="utf-8")


def test_every_tool_says_what_is_fair_and_what_is_not() -> None:
    """No tool is shown without both sides; every other tool is pinned exactly."""
    assert all(one.fair and one.unfair for one in ALL)
    assert len({one.name for one in ALL}) == len(ALL)
    for peer in PEERS:
        pins = [line for line in environments.requirements_of(peer.environment).read_text().splitlines() if not line.startswith("#")]
        assert [line.partition("==")[0] for line in pins] == [peer.package]
        assert all(part.isdecimal() for part in pins[0].partition("==")[2].split("."))


def test_a_tool_that_can_not_be_installed_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last words of the installer are the reason, and nothing is stamped as installed."""
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "_PEERS", tmp_path)
    (tmp_path / "requirements-broken.txt").write_text(f"{tmp_path / 'nothing-here'}\n", encoding="utf-8")
    with pytest.raises(environments.NotInstallableError, match="nothing-here"):
        environments.python_of("broken")
    assert not (tmp_path / ".sandbox" / "bench-broken" / ".tandem-installed").exists()


def test_an_environment_is_made_once_and_again_when_its_pins_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stamp saves the second installation; another version makes it void."""
    commands: list[str] = []
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "_PEERS", tmp_path)

    def pretend(command: list[str]) -> None:
        commands.append(command[2])
        (tmp_path / ".sandbox" / "bench-tool").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environments, "_run", pretend)
    for pin in ("tool==1.0", "tool==1.0", "tool==1.1"):
        (tmp_path / "requirements-tool.txt").write_text(pin, encoding="utf-8")
        environments.python_of("tool")
    assert commands == ["venv", "pip", "venv", "pip"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports no peak memory of a child")
def test_a_measured_command_tells_its_memory_and_keeps_its_exit_code(tmp_path: Path) -> None:
    """Sixty megabytes taken by the command are in its peak, which does not begin with that of who measures."""
    measured = [sys.executable, str(Path(report.__file__).parent / "measured.py"), str(tmp_path / "took.json")]
    taking = [sys.executable, "-c", "import sys; taken = b'x' * 60_000_000; sys.exit(3)"]
    assert subprocess.run([*measured, *taking], check=False).returncode == 3
    took = json.loads((tmp_path / "took.json").read_text(encoding="utf-8"))
    assert 60_000 < took["kilobytes"] < 110_000
    assert took["process"] > 0
