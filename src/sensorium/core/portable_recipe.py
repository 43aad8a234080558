"""Removal of machine-specific paths from recipes, so that a saved model names no folder of the training machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sensorium.core.recipe import Recipe

PATHS = frozenset({"train", "valid", "media", "checkpoint", "vectors", "load", "base", "lm"})
"""The keys of recipes and options that may name a file or a folder."""


def portable(recipe: Recipe) -> Recipe:
    """Return ``recipe`` with paths outside the working folder reduced to the last part: ``/home/ann/train.csv`` becomes
    ``train.csv``. Relative paths within it and names on a hub are kept."""
    reduced: Recipe = type(recipe).model_validate(portable_document(recipe.model_dump()))
    return reduced


def portable_document(document: Any, key: str = "") -> Any:
    """The same for the plain data ``document``, a part of a recipe or schema; ``key`` is its key."""
    if isinstance(document, Mapping):
        return {name: portable_document(value, str(name)) for name, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [portable_document(value, key) for value in document]
    if isinstance(document, str) and _leads_out(document, key):
        return last_part(document)
    return document


def last_part(path: str) -> str:
    """The last component of ``path``."""
    return PureWindowsPath(path).name or PurePosixPath(path).name or "data"


def _leads_out(text: str, key: str) -> bool:
    parts = PurePosixPath(text).parts
    absolute = PurePosixPath(text).is_absolute() or bool(PureWindowsPath(text).drive)
    if key in PATHS:
        return absolute or ".." in parts or text.startswith("~")
    # An option of a plug-in: only an existing file counts as a path, since other text may begin with a slash too.
    if not absolute or len(text) > 4096 or len(parts) < 3:
        return False
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
