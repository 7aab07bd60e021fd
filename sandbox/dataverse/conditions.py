"""Compiles a parsed ``$filter`` to SQL by the rules of Dataverse: case-insensitive texts, wildcards, query functions.

Comparison with null, ``ne`` and wildcards follow dataverse.md 3; ``ne`` holds for empty columns too, as the platform's
own operator does.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

from sandbox import filters
from sandbox.dataverse import faults, values
from sandbox.dataverse.database import fold, quoted
from sandbox.dataverse.definitions import LOOKUPS, TEXTS, Column, Table
from sandbox.dataverse.faults import Fault
from sandbox.dataverse.organization import Organization
from sandbox.dataverse.values import EDM_TYPES, Stored
from sandbox.filters import Alias, And, Call, Compare, Items, Lambda, Literal, Node, Not, Or, Path

_NOT_JSON = "Invalid JSON. A comma character ',' was expected in scope 'Array'. Every two elements in an array must be separated by it."
_FUNCTIONS = "Microsoft.Dynamics.CRM."
_MAX_CONDITIONS = 500
_MAX_VALUES = 2_000
_SQL = {"eq": "=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_FLIPPED = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
_KINDS = {"guid": "Edm.Guid", "string": "Edm.String", "number": "Edm.Decimal", "boolean": "Edm.Boolean"}
_UNITS = {"Minutes": 60, "Hours": 3_600, "Days": 86_400, "Weeks": 604_800, "Months": 2_592_000, "Years": 31_536_000}


@dataclass(frozen=True)
class Operand:
    """A column as SQL; ``column`` tells its type."""

    sql: str
    column: Column

    @property
    def comparable(self) -> str:
        """Return the SQL to compare by: folded texts, decimals as numbers."""
        if self.column.type in TEXTS:
            return f"fold({self.sql})"
        return f"CAST({self.sql} AS REAL)" if self.column.type == "Decimal" else self.sql


def visible_column(organization: Organization, table: Table, name: str) -> Column:
    """Find a column by its property name; a new one is unknown until the data layer sees it (dataverse.md 10)."""
    column = table.by_wire_name.get(name)
    if column is None or organization.now() < organization.visible_at.get((table.name, column.name), 0.0):
        raise faults.unknown_property(table.name, name)
    return column


@dataclass
class Compiler:
    """Compiles the conditions of one query; ``values`` collects what is bound, in order."""

    organization: Organization
    table: Table
    aliases: Mapping[str, str]
    text: str = ""
    values: list[Stored] = field(default_factory=list)
    conditions: int = 0

    def compile(self, text: str) -> str:
        """Compile a decoded ``$filter`` to the SQL of a WHERE clause; raise the fault the server answers with."""
        self.text = text
        try:
            return self._condition(filters.parse(text))
        except filters.FilterError as error:
            raise faults.odata(str(error)) from error

    def _condition(self, node: Node) -> str:
        match node:
            case And(parts=parts):
                return "(" + " AND ".join(map(self._condition, parts)) + ")"
            case Or(parts=parts):
                return "(" + " OR ".join(map(self._condition, parts)) + ")"
            case Not(part=part):
                return f"NOT IFNULL({self._condition(part)}, 0)"
            case Compare():
                return self._compare(node)
            case Call():
                return self._call(node)
            case Path():
                operand = self.operand(node.parts)
                if operand.column.type == "Boolean":
                    return f"{operand.sql} = 1"
            case Lambda():
                raise faults.unknown_property(self.table.name, node.path.parts[0])
            case _:
                pass
        raise faults.odata("The $filter expression must evaluate to a single boolean value.")

    def operand(self, parts: Sequence[str]) -> Operand:
        """Find the column a path leads to, through single-valued navigation properties; raise for unknown names."""
        table, sql = self.table, quoted(self.table.name)
        hops: list[tuple[str, str, str]] = []
        for depth, name in enumerate(parts[:-1]):
            choices = table.by_navigation.get(name, ())
            target = next((t for _, t in choices if t in self.organization.tables), None)
            if target is None:
                raise faults.unknown_property(table.name, name)
            column, table = choices[0][0], self.organization.tables[target]
            hops.append((quoted(target), f"n{depth}", f"{sql}.{quoted(column.name)}"))
            sql = f"n{depth}"
        column = self._column(table, parts[-1])
        sql = f"{sql}.{quoted(column.name)}"
        for source, name, link in reversed(hops):
            primary = quoted(self._named(source).primary_id)
            sql = f"(SELECT {sql} FROM {source} AS {name} WHERE {name}.{primary} = {link})"
        return Operand(sql, column)

    def _named(self, sql_name: str) -> Table:
        return self.organization.tables[sql_name.strip('"')]

    def _column(self, table: Table, name: str) -> Column:
        return visible_column(self.organization, table, name)

    def _count(self, number: int = 1) -> None:
        self.conditions += number
        if self.conditions > _MAX_CONDITIONS:
            raise Fault(400, "0x8004430C", "Number of conditions in query exceeded maximum limit.")

    def _resolve(self, node: Node) -> Node:
        if not isinstance(node, Alias):
            return node
        value = self.aliases.get(node.name)
        if value is None:
            raise faults.odata(f"Parameter alias '{node.name}' has no value in the query.")
        return filters.parse(value)

    def _compare(self, node: Compare) -> str:
        self._count()
        if node.op == "in":
            raise faults.odata(f"Syntax error at position {node.at} in '{self.text}'.")
        operator: str = node.op
        left, right = self._resolve(node.left), self._resolve(node.right)
        if isinstance(left, Literal):
            left, right, operator = right, left, _FLIPPED.get(operator, operator)
        if not isinstance(left, Path):
            raise faults.odata(f"The operands of '{node.op}' at position {node.at} can't be compared.")
        operand = self.operand(left.parts)
        if isinstance(right, Path):
            other = self.operand(right.parts)
            return f"{operand.comparable} {'<>' if operator == 'ne' else _SQL[operator]} {other.comparable}"
        if not isinstance(right, Literal):
            raise faults.odata(f"The operands of '{node.op}' at position {node.at} can't be compared.")
        if right.kind == "null":
            if operator not in {"eq", "ne"}:
                return "0"
            return f"{operand.sql} IS {'NOT ' if operator == 'ne' else ''}NULL"
        self.values.append(self._literal(operand.column, right, node.op))
        if operator == "ne":
            return f"({operand.comparable} <> ? OR {operand.sql} IS NULL)"
        return f"{operand.comparable} {_SQL[operator]} ?"

    def _literal(self, column: Column, literal: Literal, operator: str) -> Stored:
        stored: Stored = None
        text = str(literal.value)
        match EDM_TYPES[column.type], literal.kind:
            case "Edm.String", "string":
                stored = fold(text)
            case "Edm.Guid", "guid":
                stored = text
            case (("Edm.Int32" | "Edm.Int64" | "Edm.Double" | "Edm.Decimal"), "number"):
                number = Decimal(text)
                stored = values.to_money(number) if column.type == "Money" else _plain(number)
            case "Edm.Boolean", "boolean":
                stored = int(bool(literal.value))
            case "Edm.DateTimeOffset", ("datetime" | "date"):
                stored = values.read_time(text if literal.kind == "datetime" else f"{text}T00:00:00Z")
            case "Edm.Date", "date":
                stored = values.read_date(text)
            case _:
                pass
        if stored is None:
            name = {"eq": "Equal", "ne": "NotEqual", "gt": "GreaterThan", "ge": "GreaterThanOrEqual"}.get(operator, operator)
            raise faults.odata(
                "A binary operator with incompatible types was detected. Found operand types "
                f"'{EDM_TYPES[column.type]}' and '{_KINDS.get(literal.kind, 'Edm.' + literal.kind)}' "
                f"for operator kind '{name}'.",
            )
        return stored

    def _call(self, node: Call) -> str:
        if node.name in {"contains", "startswith", "endswith"}:
            return self._like(node)
        if not node.name.startswith(_FUNCTIONS):
            raise faults.odata(f"An unknown function with name '{node.name}' was found.")
        arguments = dict(node.named)
        name_node = self._resolve(arguments["PropertyName"]) if "PropertyName" in arguments else None
        if not isinstance(name_node, Literal) or name_node.kind != "string":
            raise faults.odata(f"The function '{node.name}' needs PropertyName.")
        operand = self._named_operand(str(name_node.value))
        name = node.name.removeprefix(_FUNCTIONS)
        given = self._given(arguments)
        self._count()
        sql = _QUERY_FUNCTIONS.get(name, _unknown)(self, operand, given)
        return sql if sql is not None else self._relative(name, operand, given)

    def _named_operand(self, name: str) -> Operand:
        """Query functions take logical names, so a lookup stands without ``_x_value``."""
        column = self.table.columns.get(name) or self.table.by_wire_name.get(name)
        if column is None:
            raise faults.unknown_property(self.table.name, name)
        return Operand(f"{quoted(self.table.name)}.{quoted(column.name)}", column)

    def _given(self, arguments: Mapping[str, Node]) -> list[str]:
        node = arguments.get("PropertyValues") or arguments.get("PropertyValue")
        if node is None:
            return []
        if isinstance(node, Alias):
            return self._aliased(node)
        items = node.items if isinstance(node, Items) else (node,)
        if len(items) > _MAX_VALUES:
            raise Fault(400, "0x8004430E", "Number of parameters in query exceeded maximum limit.")
        texts = [item for item in items if isinstance(item, Literal) and item.kind != "null"]
        if len(texts) != len(items):
            raise faults.odata("Values of a query function must be literals.")
        if isinstance(node, Items) and any("'" in str(item.value) and self.text[item.at] == "'" for item in texts):
            raise faults.odata(_NOT_JSON)  # lists are read as JSON, where a doubled apostrophe ends the text
        return [str(item.value) for item in texts]

    def _aliased(self, alias: Alias) -> list[str]:
        text = self.aliases.get(alias.name, "")
        if text.startswith("["):
            try:
                return [str(item) for item in json.loads(text.replace("'", '"') if '"' not in text else text)]
            except ValueError as error:
                raise faults.odata(_NOT_JSON) from error
        literal = self._resolve(alias)
        return [str(literal.value)] if isinstance(literal, Literal) else []

    def bind(self, operand: Operand, text: str) -> str:
        """Bind a value given as text to a query function and return its mark."""
        column = operand.column
        stored: Stored
        try:
            if column.type in TEXTS:
                stored = fold(text)
            elif column.type in LOOKUPS or column.type == "Uniqueidentifier":
                stored = values.guid(text.strip("{}"))
            elif column.type in {"DateTime", "DateOnly"}:
                moment = values.read_time(text) or values.read_time(f"{text}T00:00:00Z")
                stored = moment[:10] if moment and column.type == "DateOnly" else moment
            elif column.type == "Boolean":
                stored = {"1": 1, "0": 0, "true": 1, "false": 0}.get(text.lower())
            else:
                stored = values.to_money(Decimal(text)) if column.type == "Money" else _plain(Decimal(text))
        except InvalidOperation:
            stored = None
        if stored is None:
            raise faults.invalid_argument(f"'{text}' is no value of the property '{column.name}'.")
        self.values.append(stored)
        return "?"

    def _like(self, node: Call) -> str:
        self._count()
        arguments = [self._resolve(argument) for argument in node.arguments]
        match arguments:
            case [Path(parts=parts), Literal(kind="string", value=value)]:
                operand = self.operand(parts)
            case _:
                raise faults.odata(f"No function signature for the function with name '{node.name}' matches.")
        if operand.column.type not in TEXTS:
            raise faults.odata(f"No function signature for the function with name '{node.name}' matches.")
        pattern = _glob(str(fold(str(value))))
        before, after = "*" if node.name != "startswith" else "", "*" if node.name != "endswith" else ""
        self.values.append(f"{before}{pattern}{after}")
        return f"fold({operand.sql}) GLOB ?"

    def _relative(self, name: str, operand: Operand, given: Sequence[str]) -> str:
        """Compile LastXDays, NextXHours, OlderThanXDays and their like."""
        for unit, seconds in _UNITS.items():
            for prefix in ("Last", "Next", "OlderThan"):
                if name == f"{prefix}X{unit}" and given and given[0].isdigit():
                    now = datetime.fromtimestamp(self.organization.now(), UTC)
                    distance = timedelta(seconds=seconds * int(given[0]))
                    edge = now + distance if prefix == "Next" else now - distance
                    low, high = sorted((now, edge))
                    if prefix == "OlderThan":
                        self.values.append(values.stamp(edge.timestamp()))
                        return f"{operand.sql} < ?"
                    self.values += [values.stamp(low.timestamp()), values.stamp(high.timestamp())]
                    return f"{operand.sql} BETWEEN ? AND ?"
        raise faults.odata(f"An unknown function with name '{_FUNCTIONS}{name}' was found.")


def _plain(number: Decimal) -> Stored:
    return int(number) if number == number.to_integral_value() else float(number)


def _glob(text: str) -> str:
    """Translate the platform's wildcards ``% _ [] [^]`` to GLOB's; GLOB's own signs stand for themselves."""
    signs = {"*": "[*]", "?": "[?]", "%": "*", "_": "?"}
    pieces, at = [], 0
    while at < len(text):
        closing = text.find("]", at + 2) if text[at] == "[" else -1
        if closing > 0:
            pieces.append(text[at : closing + 1])
            at = closing + 1
        else:
            pieces.append("[[]" if text[at] == "[" else signs.get(text[at], text[at]))
            at += 1
    return "".join(pieces)


QueryFunction = Callable[[Compiler, Operand, Sequence[str]], str | None]


def _unknown(_compiler: Compiler, _operand: Operand, _given: Sequence[str]) -> None:
    return None


def _in(compiler: Compiler, operand: Operand, given: Sequence[str]) -> str:
    return f"{operand.comparable} IN ({', '.join(compiler.bind(operand, text) for text in given)})"


def _not_in(compiler: Compiler, operand: Operand, given: Sequence[str]) -> str:
    return f"({operand.comparable} NOT IN ({', '.join(compiler.bind(operand, text) for text in given)}))"


def _between(compiler: Compiler, operand: Operand, given: Sequence[str]) -> str:
    if len(given) != 2:
        raise faults.odata("Between needs two values.")
    return f"{operand.comparable} BETWEEN {compiler.bind(operand, given[0])} AND {compiler.bind(operand, given[1])}"


def _contain_values(compiler: Compiler, operand: Operand, given: Sequence[str]) -> str:
    compiler.values.extend(f"%,{text.strip()},%" for text in given)
    tests = " OR ".join(f"',' || REPLACE({operand.sql}, ' ', '') || ',' LIKE ?" for _ in given)
    return f"({tests})"


def _on(sign: str) -> QueryFunction:
    def compiled(compiler: Compiler, operand: Operand, given: Sequence[str]) -> str:
        compiler.values.append(values.read_date(given[0][:10]) if given else None)
        return f"SUBSTR({operand.sql}, 1, 10) {sign} ?"

    return compiled


def _empty(word: str) -> QueryFunction:
    return lambda _compiler, operand, _given: f"{operand.sql} IS {word}"


_QUERY_FUNCTIONS: Mapping[str, QueryFunction] = {
    "In": _in,
    "NotIn": _not_in,
    "Between": _between,
    "NotBetween": lambda compiler, operand, given: f"NOT ({_between(compiler, operand, given)})",
    "ContainValues": _contain_values,
    "On": _on("="),
    "NotOn": _on("<>"),
    "OnOrAfter": _on(">="),
    "OnOrBefore": _on("<="),
    "Null": _empty("NULL"),
    "NotNull": _empty("NOT NULL"),
}
