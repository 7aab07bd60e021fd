"""The $filter parser that both stand-ins share: the tree it makes, and the positions in its errors."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.filters import And, Call, Compare, FilterError, Items, Lambda, Literal, Not, Or, Path, parse


def test_and_binds_tighter_than_or_and_not_tighter_than_both() -> None:
    """``a or b and not c`` groups as the OData grammar says."""
    node = parse("a eq 1 or b eq 2 and not c eq 3")
    assert isinstance(node, Or)
    left, right = node.parts
    assert isinstance(left, Compare)
    assert isinstance(right, And)
    assert isinstance(right.parts[1], Not)


def test_parentheses_override_the_binding() -> None:
    """A parenthesised ``or`` is one part of the ``and`` around it."""
    node = parse("(a eq 1 or b eq 2) and c eq 3")
    assert isinstance(node, And)
    assert isinstance(node.parts[0], Or)


def test_long_chains_stay_flat() -> None:
    """Hundreds of alternatives make one node, so that no compiler runs out of stack."""
    node = parse(" or ".join(f"id eq {number}" for number in range(900)))
    assert isinstance(node, Or)
    assert len(node.parts) == 900


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("4B757FF7-9A2F-4e85-b5c4-8bf6cba8b4b6", "guid", "4b757ff7-9a2f-4e85-b5c4-8bf6cba8b4b6"),
        ("'O''Brian'", "string", "O'Brian"),
        ("''", "string", ""),
        ("-12.50", "number", Decimal("-12.50")),
        ("7L", "number", Decimal(7)),
        ("2026-11-24T05:40:00Z", "datetime", "2026-11-24T05:40:00Z"),
        ("2026-11-24T05:40:00.123+02:00", "datetime", "2026-11-24T05:40:00.123+02:00"),
        ("2026-11-24", "date", "2026-11-24"),
        ("true", "boolean", True),
        ("null", "null", None),
    ],
)
def test_literals_have_their_lexical_kind(text: str, kind: str, value: object) -> None:
    """Each literal is told apart by its spelling alone."""
    node = parse(f"x eq {text}")
    assert isinstance(node, Compare)
    assert isinstance(node.right, Literal)
    assert (node.right.kind, node.right.value) == (kind, value)


def test_a_guid_in_quotes_is_a_string() -> None:
    """Dataverse refuses quoted guids and Creatio differs from it, so the parser keeps the difference."""
    node = parse("x eq '4b757ff7-9a2f-4e85-b5c4-8bf6cba8b4b6'")
    assert isinstance(node, Compare)
    assert isinstance(node.right, Literal)
    assert node.right.kind == "string"


def test_paths_functions_and_lambdas() -> None:
    """Ways through lookups, positional and named arguments, and lambdas each have their node."""
    path = parse("primarycontactid/fullname eq 'A'")
    assert isinstance(path, Compare)
    assert path.left == Path(("primarycontactid", "fullname"), 0)
    call = parse("contains(tolower(name),'x')")
    assert isinstance(call, Call)
    assert isinstance(call.arguments[0], Call)
    named = parse("Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['a',\"O'B\"])")
    assert isinstance(named, Call)
    assert [name for name, _ in named.named] == ["PropertyName", "PropertyValues"]
    values = named.named[1][1]
    assert isinstance(values, Items)
    assert [item.value for item in values.items if isinstance(item, Literal)] == ["a", "O'B"]
    some = parse("Contacts/any(c:c/Name eq 'x')")
    assert isinstance(some, Lambda)
    assert (some.kind, some.variable) == ("any", "c")


def test_in_takes_a_list() -> None:
    """``in`` is part of the grammar; whether a system takes it is the system's business."""
    node = parse("Id in (1,2,3)")
    assert isinstance(node, Compare)
    assert node.op == "in"
    assert isinstance(node.right, Items)
    assert len(node.right.items) == 3


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("name eq", 7),
        ("name eq 'abc", 8),
        ("(a eq 1", 7),
        ("a eq 1 b", 7),
        ("a ~ 1", 2),
        ("a/ eq 1", 6),
        ("f(x", 3),
        ("a eq 1)", 6),
        ("", 0),
    ],
)
def test_errors_name_the_position(text: str, at: int) -> None:
    """A fault is reported where it is, with the whole filter in the text."""
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.at == at
    assert f"position {at} in '{text}'" in str(caught.value)


def test_deep_nesting_is_refused_and_does_not_crash() -> None:
    """A hostile depth of parentheses ends in a `FilterError`, not in a recursion error."""
    with pytest.raises(FilterError, match="nested deeper"):
        parse("(" * 5000 + "a eq 1" + ")" * 5000)


@given(st.text(max_size=60))
def test_any_string_survives_quoting(text: str) -> None:
    """Whatever a text holds, doubling its quotes makes a literal that reads back the same."""
    node = parse("x eq '" + text.replace("'", "''") + "'")
    assert isinstance(node, Compare)
    assert isinstance(node.right, Literal)
    assert node.right.value == text


@given(st.text(alphabet="abx'\"()/,=@ 019-.:[]", max_size=40))
def test_garbage_raises_nothing_but_filter_errors(text: str) -> None:
    """No input makes the parser fail in another way."""
    try:
        parse(text)
    except FilterError as error:
        assert 0 <= error.at <= len(text)  # noqa: PT017 - either outcome is right, but only this error
