"""The scope of a flow: which records its conditions (`when`) let take part, a direction each."""

from shared.core.mapping import Condition, Mapping
from shared.core.records import Row, Side
from shared.core.rules import Context


def in_scope(mapping: Mapping, source: Side, row: Row, context: Context) -> bool:
    """Tell whether a record without a twin takes part in the direction that leads away from `source`."""
    return not unmet(mapping, source, row, context)


def unmet(mapping: Mapping, source: Side, row: Row, context: Context) -> list[Condition]:
    """Return the conditions of a direction that a record does not meet."""
    way = ">" if source is Side.CREATIO else "<"
    left = []
    for condition in mapping.when:
        if condition.way != way:
            continue
        value = row.values.get(condition.column)
        label = context.column(source, condition.column).options.get(str(value))
        named = any(one in (value, label) for one in condition.any_of or condition.none_of)
        if named != bool(condition.any_of):
            left.append(condition)
    return left
