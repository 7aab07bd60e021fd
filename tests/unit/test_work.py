"""Queue messages: read strictly, forgiving towards members that a later build adds, and never with a value in an error."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import Rejected, TandemError
from shared.core.records import Side
from shared.core.work import MESSAGE_VERSION, Failure, Message, PollMessage, read_message, read_poll_message

CHANGE = {"v": 1, "flow": "sales.account", "batch": "b1", "attempt": 0, "traceparent": "00-aa-bb-01"}
POLL = {"v": 1, "flow": "sales.account", "side": "creatio", "run": "r1", "traceparent": ""}
BOTH = [(read_message, CHANGE), (read_poll_message, POLL)]
both = pytest.mark.parametrize(("read", "good"), BOTH, ids=["changes", "polls"])


def body(members, **more) -> bytes:
    """Return a message body."""
    return json.dumps({**members, **more}).encode()


def refusal(read, content) -> TandemError:
    """Return the error with which a body is refused."""
    with pytest.raises(TandemError) as caught:
        read(content)
    return caught.value


def test_messages_are_read_as_they_are_written() -> None:
    """What one worker sends is what the next one reads."""
    change = Message(v=1, flow="sales.account", batch="b1", attempt=3, traceparent="00-aa-bb-01")
    poll = PollMessage(v=1, flow="sales.account", side=Side.DYNAMICS, run="r1")
    assert read_message(change.model_dump_json().encode()) == change
    assert read_poll_message(poll.model_dump_json().encode()) == poll


@both
def test_a_message_without_a_trace_is_fine(read, good) -> None:
    """Tracing is a help, not a condition."""
    assert read(body({name: value for name, value in good.items() if name != "traceparent"})).traceparent == ""


@both
def test_unknown_members_are_ignored(read, good) -> None:
    """A newer build of the same message version may add members; this build goes on, also in the middle of a deployment."""
    assert read(body(good, later={"added": [1]})) == read(body(good))


@both
def test_every_truncated_message_is_malformed(read, good) -> None:
    """Wherever a body was cut off, it is refused as malformed; the error names its length and none of its text."""
    whole = body(good)
    for length in range(len(whole)):
        error = refusal(read, whole[:length])
        assert error.code == "message.malformed"
        assert f"{length} bytes" in str(error)
        assert "sales.account" not in str(error)


@both
@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'"text"', b"5", b"\xff\xfe", b"<xml/>", b"{}", b"[{}]"])
def test_what_is_no_message_is_malformed(read, good, content) -> None:
    """Text, lists and other JSON are no messages."""
    assert refusal(read, content).code == "message.malformed"
    assert good


@both
@given(content=st.binary(max_size=60))
def test_no_body_whatever_raises_anything_else(read, good, content) -> None:
    """Any bytes end in a TandemError that a worker knows how to file."""
    assert refusal(read, content).code == "message.malformed"
    assert good


WRONG = [
    (read_message, CHANGE, "v", ["one", None, 0, -1, 1.5, [1]]),
    (read_message, CHANGE, "flow", ["", None, 5, ["sales.account"]]),
    (read_message, CHANGE, "batch", ["", None, 5, {}]),
    (read_message, CHANGE, "attempt", ["many", None, -1, 1.5]),
    (read_poll_message, POLL, "side", ["", None, "Creatio", "both", 1]),
    (read_poll_message, POLL, "run", ["", None, 5]),
]


@pytest.mark.parametrize(
    ("read", "good", "member", "wrong"),
    [pytest.param(read, good, member, wrong, id=f"{member}-{wrong!r}") for read, good, member, values in WRONG for wrong in values],
)
def test_a_member_of_another_type_is_named(read, good, member, wrong) -> None:
    """The error says which member is wrong, and not what it held."""
    error = refusal(read, body(good, **{member: wrong}))
    assert error.code == "message.malformed"
    assert error.said.endswith(f"not as expected: {member}")


@both
@pytest.mark.parametrize("member", ["v", "flow"])
def test_a_missing_member_is_named(read, good, member) -> None:
    """No member but the trace has a default."""
    error = refusal(read, body({name: value for name, value in good.items() if name != member}))
    assert error.said.endswith(f"not as expected: {member}")


def test_all_wrong_members_are_named_at_once() -> None:
    """A person sees the whole damage."""
    assert refusal(read_message, body(CHANGE, v=0, batch="")).said.endswith("not as expected: v, batch")


@both
@pytest.mark.parametrize("version", [MESSAGE_VERSION + 1, 99])
def test_a_message_of_a_later_version_is_left_alone(read, good, version) -> None:
    """A newer worker wrote it: it is told apart from damage, so that it can be worked off after the deployment."""
    error = refusal(read, body(good, v=version))
    assert error.code == "message.future_version"
    assert f"got version {version}, allowed up to {MESSAGE_VERSION}" in str(error)


AT = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_failure_holds_what_its_error_knows() -> None:
    """Code, system, record, field and request of an error are kept with the failure; what the caller knows better wins."""
    error = Rejected(
        "dataverse.too_long", "said", system="dataverse", entity="account", record_id="d1", request_id="q1", field="accountnumber"
    )
    kept = Failure.of(error, "sales.account", Side.CREATIO, AT, record_id="c1", batch="b1")
    assert (kept.code, kept.said, kept.system, kept.entity, kept.request_id) == ("dataverse.too_long", "said", "dataverse", "account", "q1")
    assert (kept.record_id, kept.field, kept.batch, kept.at, kept.count) == ("c1", "accountnumber", "b1", AT, 1)
    plain = Failure.of(error, "sales.account", None, AT, field="")
    assert (plain.record_id, plain.field) == ("d1", "")
