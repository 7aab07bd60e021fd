"""The quick ledger of the benchmark keeps the promises of the tests' ledger, which the laws are tried on."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from bench.memory import MemoryLedger, MemoryQueues
from shared.core.binding import Binding, BindingState
from shared.core.errors import Stale, TandemError
from shared.core.records import Side, Stamp
from shared.core.work import MESSAGE_VERSION, Message, PollMessage
from tests.engine.fake_ledger import FakeLedger

FLOW = "test.account"
IDS = st.sampled_from(["a", "b", "c", None])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("new"), IDS, IDS),
        st.tuples(st.just("save"), st.integers(0, 9), IDS),
        st.tuples(st.just("again"), st.integers(0, 9), st.none()),
        st.tuples(st.just("forget"), st.integers(0, 9), st.none()),
    ),
    max_size=14,
)


async def told(ledger: FakeLedger, steps: list[tuple[str, object, object]]) -> list[object]:
    """Take steps on a ledger and return everything that it answered, without the ETags, which are its own."""
    saved: list[Binding] = []
    answers: list[object] = []
    for step, first, second in steps:
        if step == "new":
            binding = Binding(FLOW, BindingState.CREATING, first, second)  # type: ignore[arg-type]
        elif not saved:
            continue
        else:
            binding = saved[int(first) % len(saved)]  # type: ignore[call-overload]
        if step == "forget":
            answers.append(await forgotten(ledger, binding))
            continue
        if step == "save":
            stamp = Stamp(datetime(2026, 1, 1, tzinfo=UTC), str(len(answers)))
            binding = replace(binding, state=BindingState.BOUND, dynamics_id=second, dynamics_stamp=stamp)  # type: ignore[arg-type]
        (result,) = await ledger.save_bindings([binding])
        if isinstance(result, Binding):
            saved.append(result)
        answers.append(bare(result))
    for side in Side:
        found = await ledger.bindings(FLOW, side, ["a", "b", "c", "d"])
        answers.append(sorted((one, repr(bare(binding))) for one, binding in found.items()))
        answers.append(sorted((await ledger.stamps(FLOW, side, ["a", "b", "c"])).items()))
    return [*answers, *await walked(ledger)]


async def forgotten(ledger: FakeLedger, binding: Binding) -> str:
    """Forget a binding, or tell that it moved."""
    try:
        await ledger.forget_binding(binding)
    except Stale as error:
        return error.code
    return "forgotten"


async def walked(ledger: FakeLedger) -> list[object]:
    """Return all bindings by pages of two, in their order."""
    rows: list[object] = []
    after = None
    while True:
        page = await ledger.scan_bindings(FLOW, after, 2)
        rows += page.bound
        after = page.following
        if after is None:
            return rows


def bare(result: Binding | TandemError) -> object:
    """Return an answer without its ETag."""
    return replace(result, etag=None) if isinstance(result, Binding) else (type(result), result.code)


@given(STEPS)
def test_it_answers_as_the_tests_ledger_does(steps: list[tuple[str, object, object]]) -> None:
    """Whatever is saved, saved late or forgotten, both ledgers answer the same and show the same."""
    quick, plain = MemoryLedger(), FakeLedger(lambda _step: None, lambda: datetime.now(UTC))
    assert asyncio.run(told(quick, steps)) == asyncio.run(told(plain, steps))


async def test_messages_are_handed_out_some_at_a_time_and_late_ones_late() -> None:
    """No more than two are at work together, a delayed one comes last, and one that a delivery sends is delivered too."""
    queues, working, most, order = MemoryQueues(), 0, 0, []

    async def deliver(message: Message | PollMessage) -> None:
        nonlocal working, most
        assert isinstance(message, Message)
        working, most = working + 1, max(most, working + 1)
        await asyncio.sleep(0.001)
        order.append(message.batch)
        if message.batch == "b1":
            await queues.send("changes", message_of("sent later"))
        working -= 1

    async def poll() -> None:
        await queues.send("changes", message_of("delayed"), 0.2)
        for number in range(5):
            await queues.send("changes", message_of(f"b{number}"))

    begun = asyncio.get_running_loop().time()
    await queues.hand_out(deliver, 2, asyncio.ensure_future(poll()))
    assert asyncio.get_running_loop().time() - begun >= 0.2
    assert (most, order[-1], len(order), queues.delayed) == (2, "delayed", 7, 1)


def message_of(batch: str) -> Message:
    """Return a message that names a batch."""
    return Message(v=MESSAGE_VERSION, flow=FLOW, batch=batch, attempt=0)
