"""Column options that pretrained and frozen encoders need."""

from __future__ import annotations

from sensorium.core import quoting, registry
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.training.defaults import check_names
from sensorium.training.surgery_scope import frozen_streams


def with_encoder_columns(recipe: Recipe, schema: Schema) -> tuple[Schema, list[str]]:
    """Return ``schema`` with the column options that the pretrained encoders of ``recipe`` need, and notes on the changes.

    Options that the user gave stay.
    """
    specs, notes = schema.specs(), []
    check_names("encoders", recipe.model.encoders, schema.streams)
    for surgery in recipe.model.surgery:
        registry.build("surgery", surgery)  # mistakes are reported before anything is read
        check_names("surgery", dict.fromkeys(registry.resolve("surgery", surgery).get("streams") or (), ""), schema.streams)
    for stream, spec in recipe.model.encoders.items():
        kind, options = registry.split(spec)
        required = registry.find("encoders", kind).required_column(options)
        if not required:
            continue
        column = schema.streams[stream][0]
        column_spec = recipe.columns.get(column.name, {})
        set_by_user = {"kind", "role"} | (set() if isinstance(column_spec, str) else set(column_spec))
        if required.get("kind", column.spec["kind"]) != column.spec["kind"]:
            raise ConfigError(
                f"encoder {kind!r} reads {required['kind']}, but this column is {column.spec['kind']}",
                column=column.name,
                fix=f"{quoting.as_kind(column.name, required['kind'])}, or another checkpoint",
            )
        changed = {name: value for name, value in required.items() if name not in set_by_user}
        specs[column.name] |= changed
        notes.append(f"{stream}: set for its encoder: {', '.join(f'{k} {v}' for k, v in changed.items())}")
    for stream in frozen_streams(recipe.model.surgery, schema.streams):
        column = schema.streams[stream][0]
        column_spec = recipe.columns.get(column.name, {})
        if "augment" in specs[column.name] and (isinstance(column_spec, str) or "augment" not in column_spec):
            specs[column.name]["augment"] = "none"
            notes.append(f"{stream}: its encoder is frozen and runs once a row, so the column is not augmented")
    return (Schema.declare({c.name: specs[c.name] for c in schema.columns.values()}) if notes else schema), notes
