"""Matching a record without a binding against the other side (law 7).

Keys in order; a key with an empty part is skipped; parts are equal when their `match_text` is. The engine reserves every key first,
then looks, then asks `judge` what to do with what it found.
"""

from collections.abc import Collection, Sequence
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from enum import StrEnum

from shared.core.binding import Binding, BindingState
from shared.core.mapping import Mapping
from shared.core.plan import value_on
from shared.core.records import Row, Side, Value
from shared.core.rules import Context, State, convert, match_text


@dataclass(frozen=True)
class MatchKey:
    """One key of one record: what to look for on the other side, and the normal text that equal keys share, a part a row."""

    number: int
    columns: MappingOf[str, Value]
    text: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...] = ()
    """The columns of the other side that make each part of the text: several where a row joins them, as the parts of a name."""

    whole: tuple[tuple[tuple[str, ...], str], ...] = ()
    """What a row joins: the columns of the other side, and the words that stand in them one after the other."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return all columns of the key, also those that are compared only after the search."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part)) or tuple(self.columns)

    @property
    def is_loose(self) -> bool:
        """Tell whether the search asks for less than the key says: nobody knows where the other side parts a joined name."""
        return set(self.names) != set(self.columns)


MOST_HITS = 50
"""Rows that a system shows at most for one key (port `System.find`)."""


class Verdict(StrEnum):
    """What matching found out."""

    BIND = "bind"
    CREATE = "create"
    WAIT = "wait"
    ASK = "ask"
    SKIP = "skip"


@dataclass(frozen=True)
class Judgement:
    """A verdict with the row to bind to, or the ids that a person must look at."""

    verdict: Verdict
    row: Row | None = None
    candidates: tuple[str, ...] = ()


def keys_of(mapping: Mapping, source: Side, row: Row, context: Context) -> list[MatchKey]:
    """Return the record's keys in the other side's terms; a key with an empty or unconvertible part is left out."""
    keys = []
    for number, names in enumerate(mapping.match):
        columns: dict[str, Value] = {}
        joined: dict[str, Value] = {}
        text: list[str] = []
        whole: list[tuple[tuple[str, ...], str]] = []
        rules = mapping.match_rows(names)
        if any(
            column in context.entities[side].missing for rule in rules for side in (source, source.other) for column in rule.columns(side)
        ):
            continue
        for rule in rules:
            converted = convert(rule, source, value_on(rule, source, row), row.id, context)
            if converted.state is not State.VALUE:
                break
            parts = converted.value if isinstance(converted.value, tuple) else (converted.value,)
            filled = {name: part for name, part in zip(rule.columns(source.other), parts, strict=True) if part is not None}
            (joined if rule.is_joined(source.other) else columns).update(filled)
            if rule.is_joined(source.other):
                whole.append((rule.columns(source.other), " ".join(str(part) for part in filled.values())))
            text.append(_joined_text(tuple(filled.values())))
        if len(text) == len(names) and all(text):
            parts_of = tuple(rule.columns(source.other) for rule in rules)
            keys.append(MatchKey(number, columns or joined, tuple(text), parts_of, tuple(whole)))
    return keys


def partings(key: MatchKey) -> list[dict[str, Value]]:
    """Return a loose key as exact ones: every way to share the words of a joined name out over its columns, in their order."""
    found: list[dict[str, Value]] = [dict(key.columns)]
    for columns, text in key.whole:
        found = [{**before, **parting} for before in found for parting in _shared_out(columns, text.split())]
    return found


def _shared_out(columns: Sequence[str], words: Sequence[str]) -> list[dict[str, Value]]:
    if len(columns) == 1:
        return [{columns[0]: " ".join(words)} if words else {}]
    ways: list[dict[str, Value]] = []
    for cut in range(len(words) + 1):
        first: dict[str, Value] = {columns[0]: " ".join(words[:cut])} if cut else {}
        ways += [{**first, **rest} for rest in _shared_out(columns[1:], words[cut:])]
    return ways


def _joined_text(values: Sequence[Value]) -> str:
    """Return the normal text of the columns that make one part of a key."""
    return match_text(" ".join(match_text(value) for value in values if value is not None))


def hits(key: MatchKey, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that equal a key after normalisation; a server's own notion of equal may be wider."""
    parts = key.parts or tuple((column,) for column in key.columns)
    return [row for row in rows if tuple(_joined_text([row.values.get(column) for column in part]) for part in parts) == key.text]


def judge(
    mapping: Mapping,
    source: Side,
    found: Sequence[Sequence[Row]],
    bound: MappingOf[str, Binding],
    own_id: str,
    left_out: Collection[str] = (),
    *,
    decided: bool = False,
) -> Judgement:
    """Judge the hits of a record's keys, in key order; `bound` holds the bindings of the hits by their id.

    `left_out` names hits that do not take part in the flow: nothing is bound to them without a person.
    `decided`: a person has settled who it is, so the only hit may be one that a person was asked about as well.
    """
    for rows in found:
        if not rows:
            continue
        free = [row for row in rows if row.id not in left_out and _is_free(bound.get(row.id), source, own_id, decided=decided)]
        if len(rows) == 1 and free:
            return Judgement(Verdict.BIND, free[0])
        if any(_is_creating(bound.get(row.id)) for row in rows):
            return Judgement(Verdict.WAIT, candidates=tuple(row.id for row in rows))
        return _duplicate(mapping, source, tuple(row.id for row in rows))
    return Judgement(Verdict.CREATE if mapping.creates(source.other) else Verdict.SKIP)


def _duplicate(mapping: Mapping, source: Side, candidates: tuple[str, ...]) -> Judgement:
    if mapping.on_duplicate == "create" and mapping.creates(source.other):
        return Judgement(Verdict.CREATE, candidates=candidates)
    return Judgement(Verdict.SKIP if mapping.on_duplicate == "skip" else Verdict.ASK, candidates=candidates)


def _is_free(binding: Binding | None, source: Side, own_id: str, *, decided: bool) -> bool:
    if binding is None or binding.id_on(source) == own_id:
        return True
    # A record that a person was asked about is not decided over that person's head.
    asked = any(line.startswith("c ") for line in binding.note.splitlines())
    return binding.state is BindingState.REFUSED and (decided or not asked)


def _is_creating(binding: Binding | None) -> bool:
    return binding is not None and binding.state is BindingState.CREATING
