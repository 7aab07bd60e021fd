"""The model of scale: nothing lost or done twice, no limit exceeded, never faster than the bottleneck law, the same for the same seed."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.model import SCALE, is_current, model_section, page_of
from bench.model_bound import bound, bounds
from bench.model_clock import Clock, Gate, Process, Rate, Window
from bench.model_run import Result, simulate
from bench.model_terms import CREATIO, DATAVERSE, Assumptions, Kind, Load, sources
from bench.model_work import Request, demand, feed, steps
from shared.core.records import Side, Stamp
from shared.core.work import BATCH_SIZE, Batch, BatchItem, RunKind
from shared.ledger.encoding import entity_bytes
from shared.ledger.packing import Packer

KNOWN = Assumptions()
ONE_WAIT = math.ceil(KNOWN.slot_retry * 1.25) + KNOWN.most_idle_wait + KNOWN.scale_every
"""A batch that meets no free slot comes again so many seconds later; a change for the better may cost one such wait by bad luck."""

loads = st.builds(
    Load,
    st.dictionaries(st.sampled_from(list(Kind)), st.integers(1, 2_500), min_size=1),
    bulk=st.booleans(),
    echoes=st.booleans(),
)
terms = st.builds(
    replace,
    st.just(KNOWN),
    creatio_slots=st.integers(1, 12),
    dataverse_slots=st.integers(1, 12),
    most_instances=st.integers(1, 12),
    accounts=st.integers(1, 2),
    dataverse_servers=st.integers(1, 2),
    dataverse_seconds=st.sampled_from([1_200.0, 60.0, 20.0]),
    dataverse_requests=st.sampled_from([6_000, 40]),
    dataverse_concurrent=st.sampled_from([52, 2]),
    partition_rate=st.sampled_from([2_000.0, 150.0]),
    instance_start=st.sampled_from([0.0, 10.0]),
    load_cpu=st.sampled_from([KNOWN.load_cpu, 0.2]),
    edit_cpu=st.sampled_from([KNOWN.edit_cpu, 0.2]),
    message_fetch=st.integers(1, 8),
    message_threshold=st.integers(0, 4),
)
crashing = st.builds(replace, terms, crash_share=st.sampled_from([0.0, 0.1, 0.6]))
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def most_in_a_window(log: Sequence[tuple[float, float]], length: float) -> tuple[int, float]:
    """Return the most entries, and the largest sum, of any window of a log of (time, amount)."""
    most, largest, first, held = 0, 0.0, 0, 0.0
    for number, (at, amount) in enumerate(log):
        held += amount
        while log[first][0] <= at - length:
            held -= log[first][1]
            first += 1
        most, largest = max(most, number - first + 1), max(largest, held)
    return most, largest


@quick
@given(crashing, loads, st.integers(0, 9))
def test_every_record_is_done_once_or_given_up(known: Assumptions, load: Load, seed: int) -> None:
    """Whatever crashes and waits: what is done and what is given up make the whole, and no batch is done twice."""
    result = simulate(known, load, seed)
    assert sum(result.done.values()) + result.poisoned == load.total
    assert set(result.times_done.values()) <= {1}
    assert all(result.done[kind] <= number for kind, number in load.records.items())
    if not known.crash_share:
        assert result.done == load.records


@quick
@given(crashing, loads, st.integers(0, 9))
def test_no_limit_is_ever_exceeded(known: Assumptions, load: Load, seed: int) -> None:
    """In any five minutes a web server accepts no more than the service protection limits allow; slots and instances hold theirs too."""
    result = simulate(known, load, seed, log=True)
    for window in result.windows:
        number, used = most_in_a_window(window.log or [], known.dataverse_window)
        longest = max((seconds for _, seconds in window.log or []), default=0.0)
        assert number <= known.dataverse_requests
        assert used <= max(known.dataverse_seconds, longest) + 1e-6
        assert window.most_running <= known.dataverse_concurrent
    assert result.peak_batches <= known.most_batches(bulk=load.bulk)
    assert result.peak_instances <= known.most_instances
    assert result.peak_messages <= known.messages_an_instance()


@quick
@given(crashing, loads, st.integers(0, 9))
def test_no_partition_serves_more_than_its_rate(known: Assumptions, load: Load, seed: int) -> None:
    """In no ten seconds does a partition of the ledger serve more entities than it can, but for the one step that ends in them."""
    for rate in simulate(known, load, seed, log=True).partitions.values():
        log = rate.log or []
        step = max((units for _, units in log), default=0.0)
        assert most_in_a_window(log, 10.0)[1] <= 10.0 * known.partition_rate + step + 1e-6


@quick
@given(terms, loads, st.integers(0, 9))
def test_the_simulation_never_beats_the_bottleneck_law(known: Assumptions, load: Load, seed: int) -> None:
    """No simulated load ends before the resource with the most to do could have ended by itself."""
    name, seconds = bound(known, load)
    assert simulate(known, load, seed).seconds >= seconds - 1e-6, name


@pytest.mark.parametrize("kind", list(Kind))
def test_a_batch_that_is_alone_takes_hardly_longer_than_its_bound(kind: Kind) -> None:
    """The bound is no empty promise: one batch takes what it says, and what the poll and a new process ask before."""
    alone = replace(KNOWN, spread=0.0, instance_start=0.0, scale_every=0.1, creatio_slots=1, dataverse_slots=1)
    load = Load({kind: 100}, echoes=False)
    before = (KNOWN.cold_rounds + 3) * KNOWN.creatio_latency
    assert bound(alone, load)[1] <= simulate(alone, load).seconds <= bound(alone, load)[1] + before + 1.0


@quick
@given(terms, loads, st.integers(0, 9))
def test_the_same_seed_gives_the_same_result(known: Assumptions, load: Load, seed: int) -> None:
    """Nothing but the seed decides on chance."""

    def seen() -> tuple[object, ...]:
        result = simulate(known, load, seed)
        return result.seconds, result.requests, result.operations, result.messages, result.futile, result.curve

    assert seen() == seen()


def test_another_seed_gives_another_result() -> None:
    """The seed is used at all."""
    load = Load({Kind.TO_CREATIO: 3_000})
    assert simulate(KNOWN, load, 1).curve != simulate(KNOWN, load, 2).curve


def median(known: Assumptions, load: Load) -> float:
    """Return the median time over some seeds."""
    return sorted(simulate(known, load, seed).seconds for seed in range(5))[2]


@pytest.mark.parametrize("kind", list(Kind))
def test_more_slots_are_never_slower(kind: Kind) -> None:
    """Twice the slots take no longer, but for one wait, and where slots are the bottleneck nearly half the time; so does the bound."""
    load = Load({kind: 6_000}, echoes=False)
    offered = [replace(KNOWN, creatio_slots=number, dataverse_slots=number) for number in (1, 2, 4, 8, 16)]
    took = [median(known, load) for known in offered]
    least = [bound(known, load)[1] for known in offered]
    assert all(more <= less + ONE_WAIT for less, more in itertools.pairwise(took))
    assert least == sorted(least, reverse=True)
    assert took[1] < 0.65 * took[0]


@pytest.mark.parametrize("name", ["creatio_latency", "dataverse_latency", "creatio_save", "dataverse_create", "dataverse_update"])
def test_more_latency_is_never_faster(name: str) -> None:
    """A slower system never makes the whole faster, but for one wait; ten times slower is seen."""
    load = Load({Kind.LOAD: 2_000, Kind.TO_DYNAMICS: 2_000, Kind.TO_CREATIO: 2_000}, echoes=False)
    slowed = [replace(KNOWN, **{name: getattr(KNOWN, name) * times}) for times in (1, 2, 10)]
    took = [median(known, load) for known in slowed]
    assert all(slow >= fast - ONE_WAIT for fast, slow in itertools.pairwise(took))
    assert took[-1] > took[0]


def test_a_throttled_account_is_waited_for() -> None:
    """Where execution time is short the account is throttled, all work ends all the same, and at the pace that the limit allows."""
    load = Load({Kind.LOAD: 5_000}, echoes=False)
    short = replace(KNOWN, dataverse_seconds=60.0, dataverse_slots=8, creatio_slots=8)
    result = simulate(short, load)
    assert result.throttled > 0
    assert result.done[Kind.LOAD] == load.total
    assert result.seconds >= bounds(short, load)["execution time of Dataverse"] > 3 * simulate(KNOWN, load).seconds / 2
    assert simulate(KNOWN, load).throttled == 0


def test_two_app_users_have_twice_the_limits() -> None:
    """Limits count by user: under a short one, two users are faster than one."""
    load = Load({Kind.LOAD: 5_000}, echoes=False)
    short = replace(KNOWN, dataverse_seconds=60.0, dataverse_slots=8, creatio_slots=8)
    assert simulate(replace(short, accounts=2), load).seconds < 0.75 * simulate(short, load).seconds


def test_a_daily_quota_of_creatio_stretches_the_work_over_days() -> None:
    """A site that allows few requests a day goes on the next day."""
    load = Load({Kind.TO_CREATIO: 3_000}, echoes=False)
    few = replace(KNOWN, creatio_daily=60)
    result = simulate(few, load)
    assert result.done[Kind.TO_CREATIO] == load.total
    assert result.seconds > 86_400


def test_a_bulk_run_takes_half_the_slots() -> None:
    """Design 6: what people wait for keeps the other half."""
    load = Load({Kind.TO_DYNAMICS: 4_000}, bulk=True, echoes=False)
    assert simulate(KNOWN, load).peak_batches == KNOWN.dataverse_slots // 2
    assert simulate(KNOWN, replace(load, bulk=False)).peak_batches == KNOWN.dataverse_slots


@pytest.mark.parametrize(("records", "slots", "creatio", "dataverse"), [(500, 1, 16, 29), (500, 4, 16, 29), (2_000, 4, 36, 92)])
def test_requests_follow_from_batch_sizes(records: int, slots: int, creatio: int, dataverse: int) -> None:
    """A first load asks as often as the real app was seen to: bench/model_check.py measures it."""
    known = replace(KNOWN, most_instances=1, creatio_slots=slots, dataverse_slots=slots)
    result = simulate(known, Load({Kind.LOAD: records}, echoes=False))
    assert (result.requests[CREATIO], result.requests[DATAVERSE]) == (creatio, dataverse)


def test_a_page_of_creatio_begins_with_the_last_row_of_the_one_before() -> None:
    """All but the first page bring a record less than they hold, as the real app was seen to read them; Dataverse's bring all."""
    assert feed(CREATIO, 2_000, KNOWN) == [500, 499, 499, 499, 3]
    assert feed(DATAVERSE, 2_001, KNOWN) == [1_000, 1_000, 1]
    known = replace(KNOWN, most_instances=1)
    counts = [simulate(known, Load({Kind.LOAD: number}, echoes=False)).requests[CREATIO] for number in (500, 1_000, 2_000)]
    assert counts == [16, 24, 36]


@pytest.mark.parametrize("kind", list(Kind))
def test_the_simulation_asks_for_what_the_batches_need(kind: Kind) -> None:
    """Without throttling, what a simulation asks of a system is the demand on paper and what new processes ask first."""
    load = Load({kind: 1_234}, echoes=False)
    result = simulate(replace(KNOWN, most_instances=1), load)
    asked = demand(load, KNOWN)
    first = {CREATIO: KNOWN.cold_creatio, DATAVERSE: KNOWN.cold_poll + 1 + KNOWN.cold_dataverse}
    assert {name: result.requests[name] - asked.requests[name] for name in first} == first
    assert result.operations["bindings"] == asked.operations["bindings"]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_batch_writes_every_record_of_it(kind: Kind) -> None:
    """The server's time for writing adds up to that of all its records, however they are cut into requests."""
    still = replace(KNOWN, creatio_row=0.0, dataverse_row=0.0)
    asked = [step for step in steps(kind, 97, still) if isinstance(step, Request)]
    assert sum(step.seconds for step in asked if step.system == kind.target) == pytest.approx(97 * still.write_time(kind))


def test_every_number_says_where_it_comes_from() -> None:
    """A number without a source is a guess that nobody can see."""
    assert sources()
    assert all(len(text) > 5 for text in sources().values())


def test_a_batch_row_is_as_large_as_the_model_says() -> None:
    """The memory that open batches take rests on the size of a real row."""
    now = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
    items = [BatchItem(f"c0000000-0000-4000-8000-{number:012}", Stamp(now)) for number in range(BATCH_SIZE)]
    batch = Batch("0" * 22, "sales.account", Side.CREATIO, "0" * 22, RunKind.SCHEDULED, items, now, touched=now)
    assert entity_bytes(Packer(Batch).pack(batch)) == pytest.approx(KNOWN.batch_row, rel=0.05)


def test_the_page_is_that_of_the_model() -> None:
    """bench/SCALE.md was made from the model, its numbers and the settings as they are now; `python -m bench.model` writes it."""
    assert is_current(SCALE.read_text(encoding="utf-8")), "run: python -m bench.model"


def test_the_page_names_every_number_as_it_is() -> None:
    """The table of what is taken for given holds each value; a page made under other numbers shows."""
    page = SCALE.read_text(encoding="utf-8")
    for name, source in sources().items():
        assert f"| {name.replace('_', ' ')} | {getattr(KNOWN, name):g} | {source} |" in page


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_page_can_be_made_again() -> None:
    """The same model makes the same page, word for word."""
    assert "\n".join(page_of(KNOWN)) + "\n" == SCALE.read_text(encoding="utf-8")


def test_results_take_over_what_is_predicted() -> None:
    """The section for RESULTS.md holds the table of the page, and says so when the page is older than the model."""
    lines = model_section()
    assert lines[0] == "## Scale, on paper"
    assert any(line.startswith("| first load of 1,000,000 records |") for line in lines)
    assert not any("older than the model" in line for line in lines)


def test_a_window_refuses_what_would_exceed_it_and_says_when_there_is_room() -> None:
    """Requests and seconds of the last five minutes count; Retry-After is when the oldest have left."""
    clock = Clock()
    window = Window(clock, 300.0, 3, 100.0, 2)
    assert window.enter(60.0) == 0.0
    assert window.enter(60.0) == pytest.approx(300.0)
    assert window.enter(30.0) == 0.0
    assert window.enter(1.0) == 1.0  # two at a time
    window.leave()
    clock.now = 100.0
    assert window.enter(5.0) == 0.0
    window.leave()
    assert window.enter(1.0) == pytest.approx(200.0)  # three in the window
    clock.now = 300.0
    assert window.enter(1.0) == 0.0
    assert (window.refused, window.most_running) == (3, 2)


def test_a_gate_lets_in_as_many_as_it_holds_in_their_order() -> None:
    """Who waits goes in when another leaves; who comes later waits too, for the place was handed on."""
    clock, seen = Clock(), list[tuple[str, float]]()
    gate = Gate(clock, 2)

    def visitor(name: str, comes: float, stays: float) -> Process:
        yield comes
        if not gate.enter():
            yield gate
        seen.append((name, clock.now))
        yield stays
        gate.leave()

    for name, comes, stays in (("a", 0.0, 5.0), ("b", 0.0, 9.0), ("c", 1.0, 5.0), ("d", 6.0, 1.0)):
        clock.start(visitor(name, comes, stays))
    clock.run(lambda: False)
    assert seen == [("a", 0.0), ("b", 0.0), ("c", 5.0), ("d", 9.0)]


def test_a_rate_serves_one_after_the_other() -> None:
    """The second waits for the first; after a pause nothing is left of it."""
    clock = Clock()
    rate = Rate(clock, 10.0)
    assert (rate.take(20), rate.take(10)) == (2.0, 3.0)
    clock.now = 100.0
    assert rate.take(5) == pytest.approx(0.5)


def test_the_steady_rate_leaves_out_start_and_end() -> None:
    """A slow start and a slow last record do not count."""
    curve = [(100.0 + number, number) for number in range(1, 100)]
    assert Result(seconds=5_000.0, curve=[*curve, (5_000.0, 100)]).rate() == pytest.approx(1.0)
