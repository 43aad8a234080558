"""Strengths of augmentation of a column, and fitted columns with another strength."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import get_args

from sensorium.core import registry
from sensorium.core.schema import Column, Schema


def strengths(column: Column) -> tuple[str, ...]:
    """Return the values that the option ``augment`` of ``column`` can take, weakest first; empty if its kind has none."""
    field = registry.options("modalities", column.spec["kind"]).model_fields.get("augment")
    return () if field is None else tuple(str(value) for value in get_args(field.annotation))


def augmented(schema: Schema, strength: Mapping[str, str]) -> Schema:
    """Return the fitted columns of ``schema`` with other augmentations, ``strength`` by column; encoded cells stay
    valid.
    """
    document = deepcopy(schema.to_json())
    for column in document["columns"]:
        if column["name"] in strength:
            column["spec"]["augment"] = strength[column["name"]]
    return Schema.from_json(document)
