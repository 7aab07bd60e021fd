"""Prove the pure wire pieces: no value changes a request's meaning, numbers stay exact, batches are strict, server texts are masked."""

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.systems import odata
from shared.systems.odata import Part

HOSTILE = "O'Brian & \"Söhne\" <x>/#?%+=;\n\u202eabc 😀 ') or name ne ('"


@pytest.mark.parametrize("name", ["", "1a", "a b", "a'b", "a/b", "a$b", "näme", "a" * 129, "a\n"])
def test_a_name_that_could_change_a_url_is_refused(name):
    """Only letters, digits and underscores can be used as a column or table name."""
    with pytest.raises(ValueError, match="allowed letters"):
        odata.identifier(name)


@given(st.text())
def test_text_literals_hold_any_text_in_safe_ascii(text):
    """A literal decodes to exactly the text, with quotes doubled, and holds no character that ends or splits a query."""
    literal = odata.text_literal(text)
    assert unquote(literal) == "'" + text.replace("'", "''") + "'"
    assert not set(literal[1:-1]) & set("'&#?+/ %\r\n") - {"%"}
    assert literal.isascii()


@given(st.lists(st.text()))
def test_in_lists_hold_any_texts(texts):
    """The list of an `In` function decodes to exactly the texts, apostrophes and quotes included."""
    encoded = odata.in_list(texts)
    assert json.loads(unquote(encoded)) == texts
    assert encoded.isascii()
    assert not set(encoded) & set("'&#?+ ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (date(2026, 1, 31), "2026-01-31"),
        (datetime(2026, 1, 31, 10, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T08:00:00Z"),
        ("3F2504E0-4F89-11D3-9A0C-0305E82C3301", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
        ("a'b", "'a%27%27b'"),
    ],
)
def test_literals_have_the_form_of_their_type(value, expected):
    """Each kind of value becomes the literal that OData wants, times in UTC and numbers without an exponent."""
    assert odata.literal(value) == expected


def test_a_text_that_looks_like_a_guid_stays_text_when_its_column_is_text():
    """A guid typed into a text column is compared as text."""
    assert odata.literal("3f2504e0-4f89-11d3-9a0c-0305e82c3301", as_text=True).startswith("'")


def test_money_is_read_and_written_without_floats():
    """More digits than a float holds survive reading and writing."""
    read = odata.parse_json(b'{"revenue": 12345678901234567.8900, "n": 3}')
    assert read["revenue"] == Decimal("12345678901234567.8900")
    assert odata.to_json({"revenue": read["revenue"], "deep": [Decimal("0.1"), {"a": None}]}) == (
        '{"revenue":12345678901234567.8900,"deep":[0.1,{"a":null}]}'
    )


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()))
def test_written_json_reads_back_the_same(body):
    """Any text, number or truth value in a body arrives as it was."""
    assert odata.parse_json(odata.to_json(body).encode()) == body


@pytest.mark.parametrize("value", [1.5, Decimal("NaN"), Decimal("Infinity"), b"x", object()])
def test_values_that_json_cannot_carry_exactly_are_refused(value):
    """Floats, infinities and unknown things never reach the wire."""
    with pytest.raises(ValueError, match="got"):
        odata.to_json({"a": value})


@pytest.mark.parametrize(
    "content",
    [b"", b"  ", b"<html>secret</html>", b'{"a": "secret', b'{"a": NaN}', b'{"a": 1e999999999}', b"\xff\xfe", b"[" * 100_000, b'{"a":1}x'],
)
def test_what_is_no_json_says_so_without_quoting_it(content):
    """HTML, truncated, nested, non-finite and oversized input is a ValueError that shows nothing of the content."""
    with pytest.raises(ValueError, match=r"^the body") as caught:
        odata.parse_json(content)
    assert "secret" not in str(caught.value)


def test_masked_hides_quoted_literals_and_the_records_own_values():
    """Quoted literals, unclosed ones and the record's values vanish; words around and apostrophes inside words stay."""
    text = "The record doesn't match 'O'Brian Ltd' or \"x y\": ACME corp of Berlin, got 'unclosed Meier"
    said = odata.masked(text, ["Acme Corp", Decimal("12.50"), None, "it"])
    assert said == "The record doesn't match … or …: … of Berlin, got …"


def test_masked_hides_values_in_their_escaped_and_multi_line_forms():
    """A value with a line break or a quote is found in the forms in which a server prints it."""
    said = odata.masked('bad: a\\"b\\nc and first line\r\nsecond', ['a"b\nc', "first line\nsecond"])
    assert said == "bad: … and …"


@pytest.mark.parametrize(
    "written", ["Zoe\u0301 & So\u0308hne", "Zo\u00e9 &amp; S\u00f6hne", "Zo%C3%A9%20%26%20S%C3%B6hne", "ZO\u00c9 & S\u00d6HNE"]
)
def test_masked_hides_values_however_the_server_writes_them(written):
    """A decomposed accent, HTML, a percent-encoded address and capitals are the same value."""
    assert odata.masked(f"value {written} exists", ["Zo\u00e9 & S\u00f6hne"]) == "value \u2026 exists"


def test_literals_of_an_address_are_what_was_asked_for():
    """Quoted texts, doubled quotes undone, and the members of JSON lists are found in an encoded address."""
    name, members = odata.text_literal("O'Brien & Co"), odata.in_list(['a"b@x', "\u00e9"])
    url = f"accounts?$filter=name%20eq%20{name}%20or%20In(PropertyName='email',PropertyValues={members})"
    assert {"O'Brien & Co", 'a"b@x', "\u00e9"} <= set(odata.literals(url))


def test_masked_is_short():
    """A server's page of text is cut to 300 characters."""
    assert len(odata.masked("word " * 500)) == 300


def test_lf_line_ends_in_batches_never_happen():
    """Every line of a batch, the last boundary's too, ends in CRLF; bare LF makes the server refuse the whole batch."""
    body = odata.batch_body([[Part("GET", "/a")], [Part("POST", "/b", {"X": "1"}, "{}"), Part("PATCH", "/c", {}, "{}")]], "bound")
    assert body.count(b"\n") == body.count(b"\r\n")
    assert body.endswith(b"--bound--\r\n")
    assert b"GET /a HTTP/1.1\r\n\r\n\r\n--bound\r\n" in body


def test_change_set_operations_have_content_ids_unique_in_the_batch():
    """Two change sets in one batch never use the same Content-ID, and each closes its own boundary."""
    group = [Part("POST", "/b", {}, "{}"), Part("PATCH", "/c", {}, "{}")]
    body = odata.batch_body([group, group], "bound").decode()
    ids = [line for line in body.split("\r\n") if line.startswith("Content-ID")]
    assert len(set(ids)) == 4
    assert body.count("--changeset_0_bound--") == body.count("--changeset_1_bound--") == 1
    assert not any(line.startswith("--bound") for line in body.split("--changeset_0_bound")[1].splitlines())


@pytest.mark.parametrize("header", ["a\r\nInjected: 1", "a\nb"])
def test_a_line_break_cannot_smuggle_a_header_into_a_part(header):
    """Header values and URLs of parts are one line."""
    with pytest.raises(ValueError, match="line break"):
        odata.batch_body([[Part("GET", "/a", {"If-Match": header})]], "bound")


_REPLY = "\r\n".join(  # noqa: FLY002 - one line of the wire after another
    [
        "--br", "Content-Type: application/http", "", "HTTP/1.1 204 No Content", "OData-EntityId: x", "", "",
        "--br", "Content-Type: multipart/mixed; boundary=cs_1", "",
        "--cs_1", "Content-Type: application/http", "Content-ID: 1", "", "HTTP/1.1 201 Created", 'ETag: W/"1"', "", '{"a":1}',
        "--cs_1", "Content-Type: application/http", "Content-ID: 2", "", "HTTP/1.1 200 OK", "", '{"b":"--br"}',
        "--cs_1--", "",
        "--br", "Content-Type: application/http", "", "HTTP/1.1 412 Precondition Failed", "", '{"error":{}}',
        "--br--", "",
    ]
)  # fmt: skip


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_batch_replies_are_read_group_by_group(line_end):
    """Single parts, change sets, empty bodies and a failed change set answered by one plain part come out in order."""
    groups = odata.parse_batch(_REPLY.replace("\r\n", line_end).encode(), 'multipart/mixed; boundary="br"')
    assert [[answer.status for answer in group] for group in groups] == [[204], [201, 200], [412]]
    assert groups[0][0].content == b""
    assert groups[1][0].headers["etag"] == 'W/"1"'
    assert json.loads(groups[1][1].content) == {"b": "--br"}


def test_a_reply_that_was_cut_off_gives_the_whole_groups_only():
    """What stands before the last boundary seen counts; the torn rest is not taken for an answer."""
    for cut in range(len(_REPLY)):
        torn = _REPLY[:cut].encode()
        groups = odata.parse_batch(torn, "multipart/mixed; boundary=br")
        assert [[a.status for a in g] for g in groups] == [[204], [201, 200], [412]][: len(groups)]


@pytest.mark.parametrize("kind", ["text/html", "application/json", "", "multipart/mixed", "multipart/form-data; boundary=x"])
def test_a_reply_that_is_no_multipart_text_is_no_batch_reply(kind):
    """A plain JSON or HTML answer to a batch is told apart from its parts."""
    with pytest.raises(ValueError, match="multipart"):
        odata.parse_batch(b"{}", kind)


def test_hostile_text_in_a_filter_decodes_to_itself():
    """The worst text we could think of is one literal, not a new condition."""
    assert unquote(odata.text_literal(HOSTILE)) == "'" + HOSTILE.replace("'", "''") + "'"
