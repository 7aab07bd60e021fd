"""Shows tables, columns, keys and relationships as the metadata types of the Web API (dataverse.md 10)."""

from collections.abc import Mapping
from typing import Any

from sandbox.dataverse.definitions import MULTI, Column, Key, Table, collection_name, fixed_id

Shape = dict[str, Any]

_CLASSES: Mapping[str, tuple[str, str]] = {
    "String": ("String", "StringType"),
    "Memo": ("Memo", "MemoType"),
    "Integer": ("Integer", "IntegerType"),
    "BigInt": ("BigInt", "BigIntType"),
    "Picklist": ("Picklist", "PicklistType"),
    "State": ("State", "StateType"),
    "Status": ("Status", "StatusType"),
    "Boolean": ("Boolean", "BooleanType"),
    MULTI: ("MultiSelectPicklist", "MultiSelectPicklistType"),
    "Money": ("Money", "MoneyType"),
    "Decimal": ("Decimal", "DecimalType"),
    "Double": ("Double", "DoubleType"),
    "DateTime": ("DateTime", "DateTimeType"),
    "DateOnly": ("DateTime", "DateTimeType"),
    "Uniqueidentifier": ("UniqueIdentifier", "UniqueidentifierType"),
    "Lookup": ("Lookup", "LookupType"),
    "Customer": ("Lookup", "CustomerType"),
    "Owner": ("Lookup", "OwnerType"),
}
_LEVELS = {"none": "None", "recommended": "Recommended", "application": "ApplicationRequired", "system": "SystemRequired"}
BASE_PROPERTIES = frozenset(
    {
        "MetadataId",
        "LogicalName",
        "SchemaName",
        "EntityLogicalName",
        "AttributeType",
        "AttributeTypeName",
        "IsValidForCreate",
        "IsValidForUpdate",
        "IsValidForRead",
        "IsCustomAttribute",
        "IsPrimaryId",
        "IsPrimaryName",
        "RequiredLevel",
        "DisplayName",
        "AttributeOf",
    },
)


def class_name(column: Column) -> str:
    """Name the metadata type of a column, e.g. ``StringAttributeMetadata``."""
    return f"{_CLASSES[column.type][0]}AttributeMetadata"


def _label(text: str) -> Shape:
    label = {"Label": text, "LanguageCode": 1033}
    return {"LocalizedLabels": [label], "UserLocalizedLabel": label}


def table_shape(table: Table, *, tracked: bool, versioned: bool = True) -> Shape:
    """Show a table as EntityMetadata."""
    managed = {"Value": True, "CanBeChanged": not tracked, "ManagedPropertyLogicalName": "canchangetrackingbeenabled"}
    return {
        "MetadataId": fixed_id("table", table.name),
        "LogicalName": table.name,
        "SchemaName": table.schema_name,
        "EntitySetName": table.entity_set,
        "LogicalCollectionName": table.entity_set,
        "PrimaryIdAttribute": table.primary_id,
        "PrimaryNameAttribute": table.primary_name,
        "OwnershipType": table.ownership,
        "ObjectTypeCode": {"account": 1, "contact": 2, "opportunity": 3, "lead": 4, "systemuser": 8}.get(table.name, 0),
        "IsCustomEntity": False,
        "IsPrivate": False,
        "IsOptimisticConcurrencyEnabled": versioned,
        "ChangeTrackingEnabled": tracked,
        "CanChangeTrackingBeEnabled": managed,
        "DisplayName": _label(table.schema_name),
    }


def column_shape(table: Table, column: Column) -> Shape:
    """Show a column as the metadata type of its kind, without its option set."""
    kind, type_name = _CLASSES[column.type]
    attribute_type = {"UniqueIdentifier": "Uniqueidentifier", MULTI: "Virtual"}.get(kind, kind)
    shape: Shape = {
        "@odata.type": f"#Microsoft.Dynamics.CRM.{class_name(column)}",
        "MetadataId": fixed_id("column", table.name, column.name),
        "LogicalName": column.name,
        "SchemaName": column.schema_name,
        "EntityLogicalName": table.name,
        "AttributeType": column.type if column.type in {"Customer", "Owner"} else attribute_type,
        "AttributeTypeName": {"Value": type_name},
        "AttributeOf": None,
        "IsValidForCreate": column.creatable,
        "IsValidForUpdate": column.updatable,
        "IsValidForRead": True,
        "IsCustomAttribute": column.custom,
        "IsPrimaryId": column.name == table.primary_id,
        "IsPrimaryName": column.name == table.primary_name,
        "RequiredLevel": {"Value": _LEVELS[column.required], "CanBeChanged": column.required != "system"},
        "DisplayName": _label(column.schema_name),
    }
    return shape | _own_properties(column)


def _own_properties(column: Column) -> Shape:
    if column.lookup:
        return {"Targets": list(column.targets)}
    limits: Shape = {"MinValue": column.minimum, "MaxValue": column.maximum}
    precise: Shape = {**limits, "Precision": column.precision}
    own: Mapping[str, Shape] = {
        "String": {"MaxLength": column.max_length, "Format": "Text"},
        "Memo": {"MaxLength": column.max_length, "Format": "TextArea"},
        "Integer": limits,
        "BigInt": limits,
        "Money": {**precise, "PrecisionSource": 2, "CalculationOf": column.base_of},
        "Decimal": precise,
        "Double": precise,
        "DateTime": {"Format": column.format or "DateAndTime", "DateTimeBehavior": {"Value": "UserLocal"}},
        "DateOnly": {"Format": "DateOnly", "DateTimeBehavior": {"Value": "DateOnly"}},
        "Boolean": {"DefaultValue": bool(column.default)},
        "Uniqueidentifier": {},
    }
    return own.get(column.type, {"DefaultFormValue": column.default})


def option_set(table: Table, column: Column) -> Shape:
    """Show the options of a choice, with the state each status belongs to; true and false for two options."""
    shape: Shape = {
        "MetadataId": fixed_id("options", table.name, column.name),
        "Name": f"{table.name}_{column.name}",
        "IsGlobal": False,
        "OptionSetType": column.type,
    }
    if column.type == "Boolean":
        return shape | {
            "TrueOption": {"Value": 1, "Label": _label("Yes")},
            "FalseOption": {"Value": 0, "Label": _label("No")},
        }
    options = []
    for value, text in sorted(column.options.items()):
        option: Shape = {"Value": value, "Label": _label(text)}
        if value in column.states:
            option["State"] = column.states[value]
        options.append(option)
    return shape | {"Options": options}


def key_shape(table: Table, key: Key, now: float) -> Shape:
    """Show an alternate key with the state of its index."""
    status = "InProgress" if key.status == "Active" and now < key.active_at else key.status
    return {
        "MetadataId": fixed_id("key", table.name, key.name),
        "LogicalName": key.name,
        "SchemaName": key.schema_name,
        "EntityLogicalName": table.name,
        "KeyAttributes": list(key.columns),
        "EntityKeyIndexStatus": status,
        "DisplayName": _label(key.schema_name),
    }


def relationship_shapes(table: Table, primary_ids: Mapping[str, str]) -> list[Shape]:
    """Show every lookup of a table as the many-to-one relationships behind it, with their navigation names."""
    shapes = []
    for column in table.columns.values():
        for target, navigation in column.navigation.items():
            schema_name = f"{target}_{table.name}_{column.name}"
            shapes.append(
                {
                    "MetadataId": fixed_id("relationship", schema_name),
                    "SchemaName": schema_name,
                    "RelationshipType": "OneToManyRelationship",
                    "ReferencingAttribute": column.name,
                    "ReferencingEntity": table.name,
                    "ReferencedEntity": target,
                    "ReferencedAttribute": primary_ids.get(target, f"{target}id"),
                    "ReferencingEntityNavigationPropertyName": navigation,
                    "ReferencedEntityNavigationPropertyName": collection_name(table, column, target),
                },
            )
    return shapes
