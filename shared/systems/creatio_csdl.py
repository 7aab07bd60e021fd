"""Reads Creatio's `$metadata` (CSDL XML, about 1.4 MB on a stock site: creatio.md 2.1) for one object at a time.

The document is the only place that tells a lookup from a plain guid or a text whose name happens to end in `Id`
(`FacebookId` is a text): a lookup `XId` has a navigation property `X` (creatio.md 2.2, 9.11).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from xml.etree import ElementTree as ET

from shared.core.records import Column, ColumnType, path_of

_TYPES: Mapping[str, ColumnType] = {
    "Edm.String": ColumnType.TEXT,
    "Edm.Int16": ColumnType.INTEGER,
    "Edm.Int32": ColumnType.INTEGER,
    "Edm.Int64": ColumnType.INTEGER,
    "Edm.Byte": ColumnType.INTEGER,
    "Edm.Decimal": ColumnType.DECIMAL,
    "Edm.Double": ColumnType.DECIMAL,
    "Edm.Single": ColumnType.DECIMAL,
    "Edm.Boolean": ColumnType.BOOLEAN,
    "Edm.DateTimeOffset": ColumnType.DATETIME,
    "Edm.Date": ColumnType.DATE,
    "Edm.Guid": ColumnType.ID,
}
_SET_BY_SERVER = frozenset({"CreatedOn", "CreatedById", "ModifiedOn", "ModifiedById"})


@dataclass(frozen=True)
class Model:
    """One object as the CSDL shows it: columns by name, and the navigation name of each lookup column (`TypeId` to `Type`).

    A path such as `Product/UnitId` stands among them too where it was asked for; `begins` tells the lookup that it begins at.
    """

    name: str
    columns: Mapping[str, Column]
    navigations: Mapping[str, str]
    begins: Mapping[str, str] = field(default_factory=dict)

    def lookup_of(self, navigation: str) -> Column | None:
        """Return the lookup column behind a navigation, None when there is none."""
        name = next((column for column, named in self.navigations.items() if named == navigation), "")
        return self.columns.get(name)

    def with_path(self, path: str, behind: "Model") -> "Model":
        """Return the object knowing a path too, if both of its ends exist; `behind` is the object that its lookup leads to."""
        navigation, end = path_of(path) or ("", "")
        lookup, column = self.lookup_of(navigation), behind.columns.get(end)
        if lookup is None or column is None:
            return self
        read_only = replace(column, name=path, required=False, creatable=False, updatable=False)
        further = {path: f"{navigation}/{behind.navigations[end]}"} if end in behind.navigations else {}
        columns, navigations = {**self.columns, path: read_only}, {**self.navigations, **further}
        return replace(self, columns=columns, navigations=navigations, begins={**self.begins, path: lookup.name})


def parse_model(csdl: bytes, entity: str) -> Model | None:
    """Return one object of a CSDL document, None when it has no such object; raises ValueError when it is no CSDL.

    Streams and collections have no value in a row and are left out. Text lengths and scales are taken only where they stand.
    """
    if b"<!DOCTYPE" in csdl or b"<!ENTITY" in csdl:
        raise ValueError("the metadata document declares entities, which no Creatio does")
    found: ET.Element | None = None
    root = ""
    try:
        for event, element in ET.iterparse(BytesIO(csdl), events=("start", "end")):  # noqa: S314 - declarations refused above
            root = root or _local(element.tag)
            if event != "end" or _local(element.tag) != "EntityType":
                continue
            if element.get("Name") == entity:
                found = element
            else:
                element.clear()  # a stock site has 1,400 of them
    except (ET.ParseError, UnicodeError, LookupError):
        raise ValueError("the metadata document is no well-formed XML") from None
    if root != "Edmx":
        raise ValueError(f"the metadata document begins with <{root[:40]}>, allowed <edmx:Edmx>")
    return None if found is None else _model(entity, found)


def _model(entity: str, element: ET.Element) -> Model:
    properties = {child.get("Name", ""): child for child in _children(element, "Property")}
    navigations: dict[str, str] = {}
    targets: dict[str, str] = {}
    for child in _children(element, "NavigationProperty"):
        name, kind = child.get("Name", ""), child.get("Type", "")
        constraint = next(_children(child, "ReferentialConstraint"), None)
        column = f"{name}Id" if constraint is None else constraint.get("Property", "")
        if column in properties and not kind.startswith("Collection("):
            navigations[column] = name
            targets[column] = kind.rsplit(".", 1)[-1]
    columns = {}
    for name, child in properties.items():
        column_type = _TYPES.get(child.get("Type", ""))
        if name and column_type is not None:
            columns[name] = _column(name, column_type, child, targets.get(name))
    return Model(entity, columns, navigations)


def _column(name: str, column_type: ColumnType, element: ET.Element, target: str | None) -> Column:
    lookup = target is not None and column_type is ColumnType.ID
    return Column(
        name,
        ColumnType.LOOKUP if lookup else column_type,
        max_length=_number(element.get("MaxLength")) if column_type is ColumnType.TEXT else None,
        scale=_number(element.get("Scale")) if column_type is ColumnType.DECIMAL else None,
        required=element.get("Nullable") == "false" and name != "Id",
        creatable=name not in _SET_BY_SERVER,
        updatable=name not in _SET_BY_SERVER and name != "Id",
        targets=(target,) if target is not None and lookup else (),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None  # "Max" and "Variable" are words


def _children(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (child for child in element if _local(child.tag) == name)


def _local(tag: str) -> str:
    return tag.rsplit("}", 1)[-1]
