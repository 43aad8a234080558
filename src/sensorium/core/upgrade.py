"""Conversion of recipes and saved columns of older formats, so that saved models stay readable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from sensorium.core import registry
from sensorium.core.errors import ConfigError

VERSION: Final[Literal[2]] = 2
"""The format of recipes. A recipe that states none is read as the first."""

RENAMED: dict[str, dict[str, str]] = {
    "modalities": {"pos": "part_of_speech"},
    "encoders": {"bag": "bag_of_words", "wordvectors": "word_vectors"},
    "fusions": {"alignment": "cross_attention", "cross": "cross_modal", "impute": "stream_imputation"},
    "objectives": {"impute": "stream_imputation"},
}
"""By family, the kinds of format 1 that have another name since format 2."""


def upgrade(document: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the recipe ``document`` in the current format; a newer format is refused, naming ``source``."""
    version = document.get("version", 1)
    if type(version) is not int or version > VERSION or version < 1:
        raise ConfigError(f"format version {version!r} is not known here", file=source, fix="pip install -U sensorium")
    while version < VERSION:
        document = _STEPS[version](document)
        version += 1
    return {**document, "version": VERSION}


def upgrade_columns(document: Any) -> Any:
    """Return the fitted columns of a saved model (``document``, from ``schema.json``) in the current format."""
    if not isinstance(document, Mapping) or not isinstance(document.get("columns"), list):
        return document
    columns = [
        {**column, "spec": _renamed("modalities", column["spec"])}
        if isinstance(column, Mapping) and isinstance(column.get("spec"), Mapping)
        else column
        for column in document["columns"]
    ]
    return {**document, "columns": columns}


def _renamed(family: str, spec: Any) -> Any:
    """Return a component's specification under its current name; a plug-in of the old name keeps it."""
    if isinstance(spec, str):
        new = RENAMED[family].get(spec)
        return spec if new is None or spec in registry.kinds(family) else new
    if isinstance(spec, Mapping) and isinstance(spec.get("kind"), str):
        return {**spec, "kind": _renamed(family, spec["kind"])}
    return spec


def _fusion(spec: Any) -> Any:
    """Return a fusion under its current name, with the fusions within it."""
    spec = _renamed("fusions", spec)
    if isinstance(spec, Mapping):
        spec = dict(spec)
        if "fusion" in spec:
            spec["fusion"] = _fusion(spec["fusion"])
        if isinstance(spec.get("groups"), Mapping):
            spec["groups"] = {
                name: {**group, "fusion": _fusion(group["fusion"])}
                if isinstance(group, Mapping) and "fusion" in group
                else group
                for name, group in spec["groups"].items()
            }
    return spec


def _rename_kinds(document: dict[str, Any]) -> dict[str, Any]:
    """Format 1 to 2: kinds under the field's standard terms (``RENAMED``)."""
    document = dict(document)
    columns, model, objectives = (document.get(key) for key in ("columns", "model", "objectives"))
    if isinstance(columns, Mapping):
        document["columns"] = {name: _renamed("modalities", spec) for name, spec in columns.items()}
    if isinstance(objectives, list):
        document["objectives"] = [_renamed("objectives", spec) for spec in objectives]
    if isinstance(model, Mapping):
        model = dict(model)
        if isinstance(model.get("encoders"), Mapping):
            model["encoders"] = {name: _renamed("encoders", spec) for name, spec in model["encoders"].items()}
        if "fusion" in model:
            model["fusion"] = _fusion(model["fusion"])
        document["model"] = model
    return document


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _rename_kinds}
"""``_STEPS[n]`` turns a recipe of format n into one of format n + 1."""
