"""Parses the text of an OData ``$filter`` into a small tree that each stand-in compiles by its own rules.

The grammar is the common part of both systems (dataverse.md 3, creatio.md): comparisons, ``and or not``, parentheses,
functions with positional or named arguments, paths through lookups, parameter aliases, lists and lambdas. What a system
refuses although the grammar knows it (``in``, arithmetic, a flat lookup column) is that system's business.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal as OneOf

Kind = OneOf["guid", "string", "number", "datetime", "date", "boolean", "null"]
Operator = OneOf["eq", "ne", "gt", "ge", "lt", "le", "in"]

_OPERATORS: dict[str, Operator] = {"eq": "eq", "ne": "ne", "gt": "gt", "ge": "ge", "lt": "lt", "le": "le", "in": "in"}
_MAX_DEPTH = 100


@dataclass(frozen=True)
class Literal:
    """A value as written: ``value`` is str (guid in lower case), Decimal, bool or None by its lexical ``kind``."""

    kind: Kind
    value: str | Decimal | bool | None
    at: int


@dataclass(frozen=True)
class Path:
    """A property or a way through navigation properties: ``primarycontactid/fullname`` has two parts."""

    parts: tuple[str, ...]
    at: int


@dataclass(frozen=True)
class Alias:
    """A parameter alias: ``@p1`` in the filter, its value elsewhere in the query string."""

    name: str
    at: int


@dataclass(frozen=True)
class Items:
    """A list of values: ``('a','b')`` after ``in``, or ``['a',"b"]`` in a named argument."""

    items: tuple["Node", ...]
    at: int


@dataclass(frozen=True)
class Call:
    """A function call, with positional arguments, or with named ones as Dataverse's query functions have them."""

    name: str
    arguments: tuple["Node", ...]
    named: tuple[tuple[str, "Node"], ...]
    at: int


@dataclass(frozen=True)
class Lambda:
    """``collection/any(o:condition)`` or ``all``; ``body`` is None for a bare ``any()``."""

    path: Path
    kind: OneOf["any", "all"]
    variable: str
    body: "Node | None"
    at: int


@dataclass(frozen=True)
class Compare:
    """Two operands and a comparison operator."""

    op: Operator
    left: "Node"
    right: "Node"
    at: int


@dataclass(frozen=True)
class And:
    """Conditions that all hold, in the order written (a chain is one node, so long chains stay flat)."""

    parts: tuple["Node", ...]
    at: int


@dataclass(frozen=True)
class Or:
    """Conditions of which one holds, in the order written (a chain is one node)."""

    parts: tuple["Node", ...]
    at: int


@dataclass(frozen=True)
class Not:
    """The negation of a condition."""

    part: "Node"
    at: int


Node = Literal | Path | Alias | Items | Call | Lambda | Compare | And | Or | Not


class FilterError(ValueError):
    """A filter that can't be read: ``reason`` for people, ``at`` = position (0-based) in the text."""

    def __init__(self, reason: str, text: str, at: int) -> None:
        super().__init__(f"{reason} at position {at} in '{text}'.")
        self.reason = reason
        self.text = text
        self.at = at


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


_TOKENS = re.compile(
    r"""(?P<space>\s+)
    |(?P<guid>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(?![\w-]))
    |(?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,12})?)?(Z|[+-]\d\d:\d\d)?(?!\w))
    |(?P<date>\d{4}-\d\d-\d\d(?![\w-]))
    |(?P<number>-?\d+(\.\d+)?([eE][+-]?\d+)?[LlMmDdFf]?(?![\w.]))
    |(?P<string>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"\\]|\\.)*")
    |(?P<alias>@[A-Za-z_]\w*)
    |(?P<name>[^\W\d][\w.]*)
    |(?P<sign>[(),/\[\]:=])""",
    re.VERBOSE,
)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            open_string = text[at] in "'\""
            raise FilterError("There is an unterminated string literal" if open_string else "Syntax error", text, at)
        kind = str(match.lastgroup)
        if kind != "space":
            yield _Token(kind, match.group(), at)
        at = match.end()
    yield _Token("end", "", at)


def parse(text: str) -> Node:
    """Parse a decoded ``$filter`` into a tree; raise `FilterError` with the position of the first fault."""
    parser = _Parser(text)
    node = parser.alternatives()
    parser.expect("end", "")
    return node


class _Parser:
    """Reads tokens by recursive descent: or, and, not, comparison, operand."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _is(self, kind: str, text: str, ahead: int = 0) -> bool:
        position = min(self._next + ahead, len(self._tokens) - 1)
        return self._tokens[position].kind == kind and self._tokens[position].text == text

    def _skip(self, kind: str, text: str) -> bool:
        if self._is(kind, text):
            self._next += 1
            return True
        return False

    def expect(self, kind: str, text: str) -> None:
        """Take the token that must stand here, or raise."""
        if not self._skip(kind, text):
            wanted = f"'{text}' expected" if text else "Syntax error"
            raise FilterError(wanted, self._text, self._peek().at)

    def alternatives(self) -> Node:
        """Read conditions joined by ``or``."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FilterError(f"The filter is nested deeper than {_MAX_DEPTH} levels", self._text, self._peek().at)
        at = self._peek().at
        parts = [self._conjunction()]
        while self._skip("name", "or"):
            parts.append(self._conjunction())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Or(tuple(parts), at)

    def _conjunction(self) -> Node:
        at = self._peek().at
        parts = [self._negation()]
        while self._skip("name", "and"):
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts), at)

    def _negation(self) -> Node:
        at = self._peek().at
        negations = 0
        while self._skip("name", "not"):
            negations += 1
        node = self._comparison()
        for _ in range(negations):
            node = Not(node, at)
        return node

    def _comparison(self) -> Node:
        left = self._operand()
        token = self._peek()
        if token.kind != "name" or token.text not in _OPERATORS:
            return left
        self._take()
        operator = _OPERATORS[token.text]
        right = self._items("(", ")") if operator == "in" and self._is("sign", "(") else self._operand()
        return Compare(operator, left, right, token.at)

    def _operand(self) -> Node:
        token = self._peek()
        if self._skip("sign", "("):
            node = self.alternatives()
            self.expect("sign", ")")
            return node
        if self._is("sign", "["):
            return self._items("[", "]")
        if token.kind == "alias":
            self._take()
            return Alias(token.text, token.at)
        if token.kind == "name" and token.text not in {"null", "true", "false"}:
            return self._named()
        return self._literal()

    def _items(self, opening: str, closing: str) -> Items:
        at = self._peek().at
        self.expect("sign", opening)
        items: list[Node] = []
        while not self._skip("sign", closing):
            if items:
                self.expect("sign", ",")
            items.append(self._operand())
        return Items(tuple(items), at)

    def _named(self) -> Node:
        first = self._take()
        if self._is("sign", "("):
            return self._call(first)
        parts = [first.text]
        while self._skip("sign", "/"):
            part = self._take()
            if part.kind != "name":
                raise FilterError("A property name was expected", self._text, part.at)
            if part.text in {"any", "all"} and self._is("sign", "("):
                return self._lambda(Path(tuple(parts), first.at), "any" if part.text == "any" else "all", part.at)
            parts.append(part.text)
        return Path(tuple(parts), first.at)

    def _call(self, name: _Token) -> Call:
        self.expect("sign", "(")
        arguments: list[Node] = []
        named: list[tuple[str, Node]] = []
        while not self._skip("sign", ")"):
            if arguments or named:
                self.expect("sign", ",")
            if self._peek().kind == "name" and self._is("sign", "=", ahead=1):
                key = self._take().text
                self._take()
                named.append((key, self._operand()))
            else:
                arguments.append(self.alternatives())
        return Call(name.text, tuple(arguments), tuple(named), name.at)

    def _lambda(self, path: Path, kind: OneOf["any", "all"], at: int) -> Lambda:
        self.expect("sign", "(")
        if self._skip("sign", ")"):
            return Lambda(path, kind, "", None, at)
        variable = self._take()
        if variable.kind != "name":
            raise FilterError("A range variable was expected", self._text, variable.at)
        self.expect("sign", ":")
        body = self.alternatives()
        self.expect("sign", ")")
        return Lambda(path, kind, variable.text, body, at)

    def _literal(self) -> Literal:
        token = self._take()
        kind: Kind
        value: str | Decimal | bool | None = token.text
        match token.kind:
            case "guid":
                kind, value = "guid", token.text.lower()
            case "string":
                kind, value = "string", token.text[1:-1].replace("''", "'")
            case "quoted":
                kind, value = "string", re.sub(r"\\(.)", r"\1", token.text[1:-1])
            case "number":
                kind, value = "number", Decimal(token.text.rstrip("LlMmDdFf"))
            case "datetime":
                kind = "datetime"
            case "date":
                kind = "date"
            case "name":
                kind, value = ("null", None) if token.text == "null" else ("boolean", token.text == "true")
            case _:
                raise FilterError("Expression expected", self._text, token.at)
        return Literal(kind, value, token.at)
