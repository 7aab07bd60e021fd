"""What the tests of the rules share: contexts of a column a side, rows between them, and conversions."""

import pytest

from shared.core.records import Column, ColumnType, Entity, Side
from shared.core.rules import Context, Converted, State, convert

CREATIO, DYNAMICS = Side.CREATIO, Side.DYNAMICS
RECORD = "c0000000-0000-4000-8000-000000000001"
HERE = {"Ada": "c1", "Grace": "c2", "Linus": "c3"}
ROCKET = "\N{ROCKET}"
C, D = "Here", "there"


def column(name, kind, **facts):
    """Return a column by its kind's name."""
    return Column(name, ColumnType(kind), **facts)


def world(here, there, **more) -> Context:
    """Return a context whose Creatio has one column `Here` and whose Dynamics has `there` (or several, by name)."""
    theirs = there if isinstance(there, list) else [there]
    entities = {
        CREATIO: Entity("Object", {here.name: here}),
        DYNAMICS: Entity("table", {each.name: each for each in theirs}),
    }
    return Context(entities, **more)


def texts(length=None) -> Context:
    """Return a context of two text columns, the Dynamics one with a length."""
    return world(column(C, "text"), column(D, "text", max_length=length))


def plain(kind_here, kind_there, **facts) -> Context:
    """Return a context of two columns of these kinds."""
    return world(column(C, kind_here), column(D, kind_there, **facts))


def value(given) -> Converted:
    """Return the conversion that gives a value."""
    return Converted(State.VALUE, given)


def row(kind, **more):
    """Return a two-way row between `Here` and `there`, unless said otherwise."""
    return kind.model_validate({"rule": kind.model_fields["rule"].annotation.__args__[0], "creatio": C, "way": "=", "dynamics": D, **more})


def goes(given, context, rule, source=CREATIO) -> Converted:
    """Convert a value from one side to the other."""
    return convert(rule, source, given, RECORD, context)


def problem_of(converted) -> str:
    """Return the code of a problem."""
    assert converted.state is State.PROBLEM
    assert converted.detail
    return converted.code


both_sides = pytest.mark.parametrize("source", list(Side))
