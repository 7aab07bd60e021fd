"""The errors: a catalogue that leaves nobody without advice, and sentences that say what happened to which record (design 8)."""

import re

import pytest

from shared.core.errors import CATALOGUE, ConfigError, Denied, NotReady, Rejected, Stale, TandemError, Transient

FACTS = {"system": "dataverse", "entity": "account", "record_id": "d1-record", "request_id": "q1-request", "field": "creditlimit"}
GROUPS = [Transient, NotReady, Rejected, Stale, Denied]
every_code = pytest.mark.parametrize("code", sorted(CATALOGUE))


@every_code
def test_every_code_has_a_title_and_advice(code) -> None:
    """Each is a full sentence of its own: what it means, and what a person should do."""
    entry = CATALOGUE[code]
    for text in (entry.title, entry.advice):
        assert re.fullmatch(r"[A-Z].{15,}\.", text)
        assert text == text.strip()
        assert "{" not in text
    assert entry.title != entry.advice


@every_code
def test_every_code_is_named_by_its_place_and_what_happened(code) -> None:
    """`system.what_happened` in small letters: fit for a table key, a page anchor and a search."""
    assert re.fullmatch(r"(creatio|dataverse|document|mapping|match|merge|delete|sync|message|ledger)\.[a-z_]+", code)


def test_both_systems_share_their_codes() -> None:
    """What both can do has the same name for both; only what a system alone does has a code of its own."""
    names = {system: {code.split(".")[1] for code in CATALOGUE if code.startswith(f"{system}.")} for system in ("creatio", "dataverse")}
    assert names["creatio"] - names["dataverse"] == {"password_expired"}
    assert names["dataverse"] - names["creatio"] == {"tracking_off", "delta_expired", "not_a_member", "still_open"}


def test_the_texts_of_a_system_name_that_system() -> None:
    """Nobody is sent to the wrong system's settings."""
    for code, entry in CATALOGUE.items():
        text = entry.title + entry.advice
        if code.startswith("creatio."):
            assert "Dynamics" not in text
        if code.startswith("dataverse."):
            assert "Creatio" not in text


@every_code
@pytest.mark.parametrize("group", GROUPS)
def test_a_sentence_tells_what_happened_to_which_record(group, code) -> None:
    """Code, title, entity, record, field, request and what the server said all stand in the text."""
    error = group(code, "no such option", **FACTS)
    text = str(error)
    assert text.startswith(f"{code}: {CATALOGUE[code].title}")
    for part in (FACTS["entity"], FACTS["record_id"], FACTS["field"], f"request {FACTS['request_id']}", "the server said: no such option"):
        assert part in text
    assert error.advice == CATALOGUE[code].advice
    assert {name: getattr(error, name) for name in FACTS} == FACTS


def test_a_sentence_has_no_empty_brackets() -> None:
    """What is not known is left out."""
    assert str(TandemError("ledger.busy")) == f"ledger.busy: {CATALOGUE['ledger.busy'].title}"
    assert str(TandemError("ledger.busy", entity="account")).endswith(" [account]")
    assert str(TandemError("ledger.busy", "slow down")).endswith(" [the server said: slow down]")


@pytest.mark.parametrize("group", [TandemError, *GROUPS])
@pytest.mark.parametrize("code", ["", "dataverse.tooo_long", "DATAVERSE.TOO_LONG", "too_long"])
def test_an_unknown_code_is_a_fault_of_the_code(group, code) -> None:
    """It is told at once, with the codes that exist, and nothing that handles failed records swallows it."""
    with pytest.raises(ConfigError, match=r"allowed creatio\.bad_answer") as caught:
        group(code)
    assert repr(code) in str(caught.value)
    assert not isinstance(caught.value, TandemError)


def test_every_group_is_caught_as_one() -> None:
    """The groups are told apart by what happens next, and all of them are failed steps."""
    assert all(issubclass(group, TandemError) for group in GROUPS)
    assert not any(issubclass(one, other) for one in GROUPS for other in GROUPS if one is not other)
    assert not issubclass(ConfigError, TandemError)


def test_a_wait_is_kept_in_seconds() -> None:
    """A server that names a wait is obeyed; one that does not leaves it open, which is not a wait of none."""
    assert Transient("creatio.throttled", retry_after=7.5, entity="Account").retry_after == 7.5
    assert Transient("creatio.throttled").retry_after is None
    assert Transient("creatio.throttled", retry_after=0.0).retry_after == 0.0


def test_a_config_error_lists_every_problem() -> None:
    """A person corrects a file once, not once a problem."""
    error = ConfigError(["first: got A, allowed B", "second: got C, allowed D"])
    assert error.problems == ("first: got A, allowed B", "second: got C, allowed D")
    assert str(error).splitlines() == ["2 problem(s) in the configuration:", "- first: got A, allowed B", "- second: got C, allowed D"]
