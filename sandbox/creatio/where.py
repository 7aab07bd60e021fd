"""Compile a parsed `$filter` and `$orderby` to SQL by Creatio's dialect (creatio.md 2.3).

Guids and times stand bare; a quoted one has the wrong type (400). A lookup's flat column is no column path (500): it is
written `X/Id`. Nulls can't be expressed on the wire, so `0`, `false` and `''` match nulls too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from sandbox.creatio.errors import CreatioError, bad_bytes, bad_query, flat_lookup, no_property
from sandbox.creatio.schema import Column, Entity, Schema
from sandbox.creatio.values import EMPTY_GUID, read_moment, stamp
from sandbox.filters import And, Call, Compare, FilterError, Items, Lambda, Literal, Node, Not, Or, Path, parse

_SIGNS = {"eq": "=", "ne": "<>", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_KIND_NAMES = {
    "eq": "Equal",
    "ne": "NotEqual",
    "gt": "GreaterThan",
    "ge": "GreaterThanOrEqual",
    "lt": "LessThan",
    "le": "LessThanOrEqual",
}
_LITERAL_TYPES = {"guid": "Edm.Guid", "string": "Edm.String", "number": "Edm.Decimal", "date": "Edm.DateTimeOffset"}
_MOST_DIGITS = 18
_SEVENTH_DIGIT = re.compile(r"\.\d{6}(\d)")
_NUMBERS = {"Edm.Int32", "Edm.Decimal"}
_DATE_PARTS = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
_TEXT_FUNCTIONS = {"tolower": "lower", "toupper": "upper", "trim": "trim"}


@dataclass(frozen=True)
class Dialect:
    """Say how the open questions of the filter language are answered."""

    flat_lookup: bool = False
    null_lookup: bool = True
    in_operator: bool = False
    not_operator: bool = True
    lambdas: bool = False
    more_functions: bool = True
    max_nodes: int = 100
    ignore_case: bool = False
    nul: bool = False


@dataclass(frozen=True)
class _Operand:
    """An SQL expression with its EDM type; `empty` is the SQL literal that null is emitted as."""

    sql: str
    edm: str
    values: tuple[Any, ...] = ()
    scale: int = 0
    literal: bool = False
    empty: str | None = None


@dataclass
class Compiler:
    """Compile filters over one object; `table` is its alias, `variable` the name that a lambda gave its rows."""

    schema: Schema
    entity: Entity
    dialect: Dialect = field(default_factory=Dialect)
    table: str = "t"
    variable: str = ""

    def where(self, text: str) -> tuple[str, list[Any]]:
        """Return the SQL condition of a `$filter` and its bound values; CreatioError says what is wrong with it."""
        try:
            node = parse(text)
        except FilterError as error:
            raise bad_query(str(error)) from error
        if _node_count(node) > self.dialect.max_nodes:
            raise bad_query(
                f"The node count limit of '{self.dialect.max_nodes}' has been exceeded. To increase the limit, set the 'MaxNodeCount' "
                "property on EnableQueryAttribute or ODataValidationSettings.",
            )
        condition = self._condition(node)
        return condition.sql, list(condition.values)

    def path(self, parts: tuple[str, ...]) -> str:
        """Return the SQL expression of a property path, for `$orderby`."""
        return self._path(Path(parts, 0)).sql

    def _condition(self, node: Node) -> _Operand:
        match node:
            case And(parts) | Or(parts):
                compiled = [self._condition(part) for part in parts]
                joint = " AND " if isinstance(node, And) else " OR "
                sql = _balanced([part.sql for part in compiled], joint)
                return _Operand(sql, "Edm.Boolean", tuple(v for part in compiled for v in part.values))
            case Not(part):
                if not self.dialect.not_operator:
                    raise bad_query(f"Syntax error at position {node.at}: 'not' is not supported.")
                inner = self._condition(part)
                return _Operand(f"NOT ({inner.sql})", "Edm.Boolean", inner.values)
            case Compare():
                return self._comparison(node)
            case _:
                operand = self._operand(node)
                if operand.edm != "Edm.Boolean":
                    raise bad_query("The $filter expression must evaluate to a single boolean value.")
                return operand

    def _comparison(self, node: Compare) -> _Operand:
        if node.op == "in":
            return self._membership(node)
        left, right = self._operand(node.left), self._operand(node.right)
        if left.edm == "null" or right.edm == "null":
            return self._null_test(node.op, right if left.edm == "null" else left)
        left, right = _promoted(left, right), _promoted(right, left)
        if left.edm != right.edm and not {left.edm, right.edm} <= _NUMBERS:
            raise bad_query(
                "A binary operator with incompatible types was detected. Found operand types "
                f"'{left.edm}' and '{right.edm}' for operator kind '{_KIND_NAMES[node.op]}'.",
            )
        if {left.edm, right.edm} <= _NUMBERS:
            left, right = _scaled(left, right), _scaled(right, left)
        if self.dialect.ignore_case and left.edm == "Edm.String":
            left, right = _folded(left), _folded(right)
        return _compared(node.op, left, right)

    def _null_test(self, operator: str, operand: _Operand) -> _Operand:
        if operator not in {"eq", "ne"}:
            raise bad_query(f"The null value can't be compared by '{operator}'.")
        if operand.edm == "Edm.Guid" and not self.dialect.null_lookup:
            raise CreatioError(500, "An error has occurred.", inner="Value cannot be null. Parameter name: value")
        negated = " NOT" if operator == "ne" else ""
        sql = f"{operand.sql} IS{negated} NULL"
        if operand.edm == "Edm.String":  # a null text and an empty one are the same to the outside
            sql = f"(COALESCE({operand.sql}, '') {'<>' if negated else '='} '')"
        return _Operand(sql, "Edm.Boolean", operand.values)

    def _membership(self, node: Compare) -> _Operand:
        items = getattr(node.right, "items", None)
        if not self.dialect.in_operator or not items:
            raise bad_query(f"Syntax error at position {node.at}: 'in' is not supported.")
        parts = tuple(Compare("eq", node.left, item, node.at) for item in items)
        return self._condition(Or(parts, node.at))

    def _operand(self, node: Node) -> _Operand:
        match node:
            case Path():
                return self._path(node)
            case Literal():
                if not self.dialect.nul and "\x00" in str(node.value):
                    raise bad_bytes()
                return _literal(node)
            case Call():
                return self._call(node)
            case And() | Or() | Not() | Compare():
                return self._condition(node)
            case Lambda() if self.dialect.lambdas:
                return self._lambda(node)
            case _:
                raise bad_query(f"The expression at position {node.at} is not supported.")

    def _lambda(self, node: Lambda) -> _Operand:
        name = node.path.parts[-1]
        if len(node.path.parts) > 1 or name not in self.entity.collections:
            raise no_property(name, self.entity.name)
        child, column = self.entity.collections[name]
        alias = f"l{node.at}"
        inner = replace(self, entity=self.schema.entities[child], table=alias, variable=node.variable)
        body = _Operand("1", "Edm.Boolean") if node.body is None else inner._condition(node.body)  # noqa: SLF001 - another of its kind
        condition, negated = (body.sql, "") if node.kind == "any" else (f"NOT ({body.sql})", "NOT ")
        found = f'SELECT 1 FROM "{child}" {alias} WHERE {alias}."{column}" = {self.table}."Id" AND {condition}'
        return _Operand(f"({negated}EXISTS ({found}))", "Edm.Boolean", body.values)

    def _path(self, node: Path) -> _Operand:
        entity, table, sql = self.entity, self.table, ""
        if self.variable:
            if node.parts[0] != self.variable or len(node.parts) == 1:
                raise no_property(node.parts[0], entity.name)
            node = replace(node, parts=node.parts[1:])
        for depth, part in enumerate(node.parts[:-1]):
            column = entity.navigations.get(part)
            if column is None:
                raise no_property(part, entity.name)
            step = f'{table}."{column.name}"' if not sql else sql.format(column=column.name)
            if node.parts[depth + 1 :] == ("Id",):
                return _Operand(step, "Edm.Guid", empty=f"'{EMPTY_GUID}'")
            if column.target is None:
                raise no_property(node.parts[depth + 1], f"{entity.name}.{part}")
            alias = f"n{depth}"
            sql = f'(SELECT {alias}."{{column}}" FROM "{column.target}" {alias} WHERE {alias}."Id" = {step})'
            entity = self.schema.entities[column.target]
        return self._last(entity, node.parts[-1], sql or f'{table}."{{column}}"')

    def _last(self, entity: Entity, part: str, sql: str) -> _Operand:
        column = entity.columns.get(part)
        if column is None and part in entity.navigations:
            return _Operand(sql.format(column=entity.navigations[part].name), "Edm.Guid", empty=f"'{EMPTY_GUID}'")
        if column is None or column.kind == "stream":
            raise no_property(part, entity.name)
        if column.navigation is not None and not self.dialect.flat_lookup:
            raise flat_lookup(part, entity.name)
        return _column_operand(column, sql.format(column=part))

    def _call(self, node: Call) -> _Operand:
        if not self.dialect.more_functions and node.name not in {"contains", "startswith", "endswith"}:
            raise bad_query(f"An unknown function with name '{node.name}' was found.")
        arguments = [self._operand(argument) for argument in node.arguments]
        kinds = [argument.edm for argument in arguments]
        if node.name in {"contains", "startswith", "endswith"} and kinds == ["Edm.String", "Edm.String"]:
            if self.dialect.ignore_case:
                arguments = [_folded(argument) for argument in arguments]
            return _text_test(node.name, arguments[0], arguments[1])
        if node.name in _TEXT_FUNCTIONS and kinds == ["Edm.String"]:
            inner = arguments[0]
            return _Operand(f"{_TEXT_FUNCTIONS[node.name]}({inner.sql})", "Edm.String", inner.values)
        if node.name == "length" and kinds == ["Edm.String"]:
            return _Operand(f"length(COALESCE({arguments[0].sql}, ''))", "Edm.Int32", arguments[0].values)
        if node.name in _DATE_PARTS and kinds == ["Edm.DateTimeOffset"]:
            sql = f"CAST(strftime('{_DATE_PARTS[node.name]}', {arguments[0].sql}) AS INTEGER)"
            return _Operand(sql, "Edm.Int32", arguments[0].values)
        if node.name in {"contains", "startswith", "endswith", "length", *_TEXT_FUNCTIONS, *_DATE_PARTS}:
            raise bad_query(f"No function signature for the function with name '{node.name}' matches {kinds}.")
        raise bad_query(f"An unknown function with name '{node.name}' was found.")


def _node_count(node: Node) -> int:
    """Count nodes as Microsoft's validator does: operators, functions, values, each step of a path and the row that it starts from."""
    match node:
        case And(parts) | Or(parts):
            count = sum(_node_count(part) for part in parts) + len(parts) - 1
        case Not(part):
            count = 1 + _node_count(part)
        case Compare():
            count = 1 + _node_count(node.left) + _node_count(node.right)
        case Lambda():
            count = 2 + len(node.path.parts) + (0 if node.body is None else _node_count(node.body))
        case Call(arguments=inner) | Items(inner):
            count = 1 + sum(_node_count(one) for one in inner)
        case Path():
            count = 1 + len(node.parts)
        case _:
            count = 1
    return count


def _balanced(conditions: Sequence[str], joint: str) -> str:
    """Join conditions as a tree with low branches: SQLite takes no expression deeper than 1000."""
    if len(conditions) <= 2:
        return f"({joint.join(conditions)})"
    middle = len(conditions) // 2
    return f"({_balanced(conditions[:middle], joint)}{joint}{_balanced(conditions[middle:], joint)})"


def _column_operand(column: Column, sql: str) -> _Operand:
    empty = {"int": "0", "decimal": "0", "bool": "0", "text": "''"}.get(column.kind)
    if column.navigation is not None:
        empty = f"'{EMPTY_GUID}'"
    return _Operand(sql, column.edm, scale=column.scale, empty=empty)


def _literal(node: Literal) -> _Operand:
    if node.kind == "boolean":
        return _Operand("1" if node.value else "0", "Edm.Boolean", literal=True)
    if node.kind == "null":
        return _Operand("NULL", "null", literal=True)
    if node.kind == "datetime":
        return _moment(str(node.value))
    value = f"{node.value}T00:00:00.0000000Z" if node.kind == "date" else node.value
    return _Operand("?", _LITERAL_TYPES[node.kind], (value,), literal=True)


def _moment(text: str) -> _Operand:
    try:
        moment = read_moment(text)
    except ValueError as error:
        raise bad_query(f"Unrecognized 'Edm.DateTimeOffset' literal '{text}' in a $filter expression.") from error
    # Year 1 is what null is emitted as; as a bound it lies before every stored time.
    seventh = _SEVENTH_DIGIT.search(text)
    bound = "" if moment is None else f"{stamp(moment)[:-2]}{seventh[1] if seventh else '0'}Z"
    return _Operand("?", "Edm.DateTimeOffset", (bound,), literal=True)


def _promoted(operand: _Operand, other: _Operand) -> _Operand:
    """Take the empty guid for null where it is compared with a lookup."""
    if operand.literal and operand.edm == "Edm.Guid" and operand.values == (EMPTY_GUID,) and other.empty:
        return _Operand(other.empty, "Edm.Guid", literal=True)
    return operand


def _scaled(operand: _Operand, other: _Operand) -> _Operand:
    """Bring a number to the unit in which the other one is stored (decimals are integers of their last digit)."""
    if operand.literal:
        given = Decimal(operand.values[0])
        if given.adjusted() >= _MOST_DIGITS:
            return replace(operand, values=(float(given),))
        number = given.scaleb(other.scale)
        whole = number == number.to_integral_value()
        return replace(operand, values=(int(number) if whole else float(number),))
    return operand


def _folded(operand: _Operand) -> _Operand:
    return _Operand(f"fold({operand.sql})", operand.edm, operand.values, literal=operand.literal, empty=operand.empty)


def _compared(operator: str, left: _Operand, right: _Operand) -> _Operand:
    values = left.values + right.values
    sign = _SIGNS[operator]
    plain = f"{left.sql} {sign} {right.sql}"
    column, literal = (left, right) if right.literal else (right, left)
    if literal.literal and column.empty and not column.literal:
        is_empty = literal.values in {("",), (0,)} or literal.sql in {"0", column.empty}
        if operator == "eq" and is_empty:
            return _Operand(f"({plain} OR {column.sql} IS NULL)", "Edm.Boolean", values)
        if operator == "ne":
            negated = f"({plain} AND {column.sql} IS NOT NULL)" if is_empty else f"({plain} OR {column.sql} IS NULL)"
            return _Operand(negated, "Edm.Boolean", values)
        if operator != "eq" and column.edm in _NUMBERS:
            ordered = f"COALESCE({left.sql}, 0) {sign} COALESCE({right.sql}, 0)"
            return _Operand(ordered, "Edm.Boolean", values)
    return _Operand(f"({plain})", "Edm.Boolean", values)


def _text_test(name: str, text: _Operand, part: _Operand) -> _Operand:
    if name == "contains":
        return _Operand(f"(instr(COALESCE({text.sql}, ''), {part.sql}) > 0)", "Edm.Boolean", text.values + part.values)
    sql = f"COALESCE({text.sql}, '')"
    if name == "startswith":
        test = f"(substr({sql}, 1, length({part.sql})) = {part.sql})"
        return _Operand(test, "Edm.Boolean", text.values + part.values * 2)
    test = f"(length({sql}) >= length({part.sql}) AND substr({sql}, length({sql}) - length({part.sql}) + 1) = {part.sql})"
    values = text.values + part.values + text.values * 2 + part.values * 2
    return _Operand(test, "Edm.Boolean", values)
