"""How strongly a column is augmented in training: what it may be, and the same fitted columns with it changed."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import get_args

from sensorium.core import registry
from sensorium.core.schema import Column, Schema


def strengths(column: Column) -> tuple[str, ...]:
    """What the option ``augment`` of a column may be, from weak to strong; empty where its kind has none."""
    field = registry.options("modalities", column.spec["kind"]).model_fields.get("augment")
    return () if field is None else tuple(str(value) for value in get_args(field.annotation))


def augmented(schema: Schema, strength: Mapping[str, str]) -> Schema:
    """The same fitted columns, some augmented otherwise. What is stored of their cells stays as it is."""
    document = deepcopy(schema.to_json())
    for column in document["columns"]:
        if column["name"] in strength:
            column["spec"]["augment"] = strength[column["name"]]
    return Schema.from_json(document)
