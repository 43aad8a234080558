"""Every public definition says what it is, and every public function what its parameters are."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import sensorium

SOURCE = Path(sensorium.__file__).parent
NAMES = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
FROM_OUTSIDE = {"self", "cls"}


def _plain(value: Any) -> Any:
    """The function behind a method, property or decorator; None where it is none of these."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, cached_property):
        value = value.func
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, types.FunctionType) else None


def public(module: types.ModuleType) -> Iterator[tuple[str, Any, Any]]:
    """The public classes, functions and methods that a module defines: the name, the object, and its class."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type):
            yield name, value, None
            for inner, member in vars(value).items():
                if (
                    not inner.startswith("_")
                    and _plain(member) is not None
                    and _plain(member).__module__ == module.__name__
                ):
                    yield f"{name}.{inner}", _plain(member), value
        elif _plain(value) is not None:
            yield name, _plain(value), None


def _inherited(owner: Any, name: str) -> bool:
    """Whether a method is another version of one that a base class documents, which says what its parameters are."""
    return any(inspect.getdoc(vars(base)[name]) for base in owner.__mro__[1:] if name in vars(base))


def _with_help(function: Any) -> set[str]:
    """The parameters of a command of the command line whose annotations have a help text."""
    if not function.__module__.startswith("sensorium.cli."):
        return set()
    hints = get_type_hints(function, include_extras=True)
    return {name for name, hint in hints.items() if any(getattr(part, "help", None) for part in get_args(hint))}


@pytest.mark.parametrize("name", NAMES)
def test_every_public_definition_is_documented(name: str) -> None:
    result = public(importlib.import_module(name))
    silent = [
        label
        for label, value, owner in result
        if not (getattr(value, "__doc__", None) or (owner and _inherited(owner, label.rpartition(".")[2])))
    ]
    assert not silent, f"{name}: no docstring for {', '.join(silent)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described(name: str) -> None:
    """In ``Args``, by name in double backticks, or in the ``help`` of a command-line option; a class in its docstring."""
    lacking = []
    for label, value, owner in public(importlib.import_module(name)):
        if isinstance(value, type) or (owner is not None and _inherited(owner, label.rpartition(".")[2])):
            continue
        text = inspect.getdoc(value) or ""
        with_help = _with_help(value)
        for parameter in inspect.signature(value).parameters:
            predicted = re.search(rf"``[^`]*\b{parameter}\b[^`]*``|^\s*\*{{0,2}}{parameter}:", text, re.MULTILINE)
            described = predicted or parameter in with_help or parameter in FROM_OUTSIDE
            if not described and not parameter.startswith("_"):
                lacking.append(f"{label}({parameter})")
    assert not lacking, f"{name}: not described: {', '.join(lacking)}"
