"""The folder is the registry: ``fusions/gated.py`` is the fusion ``gated``; a plug-in adds names through entry points.

Rule of constructors: *positional parameters are what the data decides; keyword-only parameters are what the user decides.*
The keyword-only half is, with no second class, the validator, the YAML schema, the help text and the saved options.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, wraps
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import annotated_types
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.value_errors import reason

FAMILIES = (
    "modalities",
    "encoders",
    "adapters",
    "fusions",
    "tasks",
    "objectives",
    "surgery",
    "explainers",
    "features",
    "experts",
)
T = TypeVar("T", bound=type)


def component(cls: T) -> T:
    """Marks the one component a module offers, and lets it remember the options it was built with."""
    cls._component = cls.__qualname__  # type: ignore[attr-defined]
    init = cls.__init__  # type: ignore[misc]
    names = [n for n, p in inspect.signature(init).parameters.items() if p.kind is p.KEYWORD_ONLY]
    defaults = {n: inspect.signature(init).parameters[n].default for n in names}

    @wraps(init)
    def remember(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self) is cls:
            object.__setattr__(self, "_chosen", {**defaults, **{k: v for k, v in kwargs.items() if k in defaults}})

    cls.__init__ = remember  # type: ignore[misc]
    return cls


def chosen(part: Any) -> dict[str, Any]:
    """The options with which the component ``part`` was built, defaults included."""
    return dict(part._chosen)


def kind_of(part: Any) -> str:
    """The kind of the component ``part``: the name of its file."""
    return type(part).__module__.rpartition(".")[2]


@cache
def _plugins(family: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"sensorium.{family}")}


@cache
def kinds(family: str) -> tuple[str, ...]:
    """The names in ``family``: its files and the installed plug-ins. Imports none of them."""
    if family not in FAMILIES:
        raise ConfigError(f"no family named {family!r}{nearest(family, FAMILIES)}")
    folder = Path(__file__).parents[1] / family
    own = {m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_")}
    return tuple(sorted(own | set(_plugins(family))))


def _known(family: str, kind: str) -> None:
    if kind not in kinds(family):
        raise ConfigError(f"no {family} named {kind!r}{nearest(kind, kinds(family))}")


@cache
def find(family: str, kind: str) -> type[Any]:
    """The component class ``kind`` of ``family``. Imports its file only."""
    _known(family, kind)
    plugin = _plugins(family).get(kind)
    if plugin is not None:
        loaded: type[Any] = plugin.load()
        return loaded
    module = importlib.import_module(f"sensorium.{family}.{kind}")
    for value in vars(module).values():
        own = isinstance(value, type) and value.__module__ == module.__name__
        if own and value.__dict__.get("_component") == value.__qualname__:
            return value  # type: ignore[no-any-return]
    raise ConfigError(f"{family}/{kind}.py marks no class with @component")


@cache
def options(family: str, kind: str) -> type[BaseModel]:
    """A pydantic model of the keyword-only parameters of ``kind`` in ``family``: its options, their types and defaults."""
    init = find(family, kind).__init__
    hints = get_type_hints(init)
    parameters = inspect.signature(init).parameters.values()
    fields: dict[str, Any] = {
        p.name: (_limited(p.name, hints.get(p.name, Any), p.default), ... if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is p.KEYWORD_ONLY
    }
    model: type[BaseModel] = create_model(kind, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)
    return model


def _limited(name: str, hint: Any, default: Any) -> Any:
    """Return the type of an option with the limits that follow from its default.

    An integer with a default of 1 or more (or None or no default) is a count, width or length, and at least 1. With a
    default of 0 it may be 0 ("none"). A share of dropped features is at least 0 and below 1, a temperature above 0, and
    the probability of the tokens that are drawn (``top_p``) above 0 and at most 1.
    """
    integer = hint is int or (get_origin(hint) in (Union, types.UnionType) and set(get_args(hint)) == {int, type(None)})
    if integer and (default is None or default is inspect.Parameter.empty or default >= 0):
        return Annotated[hint, annotated_types.Ge(0 if default == 0 else 1)]
    if hint is float and name in ("dropout", "drop"):
        return Annotated[hint, annotated_types.Ge(0.0), annotated_types.Lt(1.0)]
    if hint is float and name == "temperature":
        return Annotated[hint, annotated_types.Gt(0.0)]
    if hint is float and name == "top_p":
        return Annotated[hint, annotated_types.Gt(0.0), annotated_types.Le(1.0)]
    return hint


def split(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the kind and the options in ``spec``: ``"gated"`` or ``{"kind": "gated", "temperature": 2}``."""
    if isinstance(spec, str):
        return spec, {}
    options = dict(spec)
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"a component needs a name: {dict(spec)!r}", fix="write name or {kind: name, ...}")
    return kind, options


def resolve(family: str, spec: str | Mapping[str, Any]) -> dict[str, Any]:
    """``spec`` of a component in ``family`` with every default written out. A typo or wrong type is an error that names
    the choices.

    A component that holds others in its options (``compose``) resolves theirs in a class method ``complete``.
    """
    kind, values = split(spec)
    model = options(family, kind)
    try:
        full = model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = nearest(where, model.model_fields) if first["type"] == "extra_forbidden" else ""
        what = "no such option" if first["type"] == "extra_forbidden" else reason(first)
        raise ConfigError(f"{family}/{kind}: {where}: {what}{hint}") from None
    complete = getattr(find(family, kind), "complete", dict)
    return {"kind": kind, **complete(full.model_dump())}


def build(family: str, spec: str | Mapping[str, Any], *arguments: Any) -> Any:
    """The component of ``family`` that ``spec`` describes; ``arguments`` are the positional parameters, which the data
    determines."""
    full = resolve(family, spec)
    kind = full.pop("kind")
    try:
        return find(family, kind)(*arguments, **full)
    except (ValueError, ArithmeticError, RuntimeError) as error:
        # What a component does not check itself, torch refuses: a dropout of 2, a negative width.
        set_options = {name: value for name, value in split(spec)[1].items() if value is not None}
        raise ConfigError(f"{family}/{kind} cannot be built with {set_options}: {error}") from error


@dataclass(frozen=True)
class Option:
    """One option of a component, as read from its source."""

    name: str
    type: str
    default: str
    text: str


@dataclass(frozen=True)
class Description:
    """The description of a component, as read from its source."""

    family: str
    kind: str
    summary: str
    text: str
    options: tuple[Option, ...]


def describe(family: str, kind: str) -> Description:
    """The documentation and options of ``kind`` in ``family``, read from its source without importing it."""
    _known(family, kind)
    plugin = _plugins(family).get(kind)
    name = plugin.module if plugin is not None else f"sensorium.{family}.{kind}"
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigError(f"the source of {family}/{kind} cannot be found")
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef) or (plugin is not None and node.name != plugin.attr):
            continue
        if any(ast.unparse(mark).endswith("component") for mark in node.decorator_list):
            return _described(family, kind, node)
    raise ConfigError(f"{family}/{kind} marks no class with @component")


def _described(family: str, kind: str, node: ast.ClassDef) -> Description:
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    texts = arguments(text)
    described = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            for arg, default in zip(item.args.kwonlyargs, item.args.kw_defaults, strict=True):
                kind_text = ast.unparse(arg.annotation) if arg.annotation else ""
                default_text = ast.unparse(default) if default is not None else "required"
                described.append(Option(arg.arg, kind_text, default_text, texts.get(arg.arg, "")))
    body = text.split("\n\nArgs:")[0].split("\nArgs:")[0]
    return Description(family, kind, text.split("\n")[0], body, tuple(described))


def arguments(docstring: str) -> dict[str, str]:
    """The texts under ``Args:`` in ``docstring``, by parameter."""
    _, _, block = docstring.partition("Args:\n")
    texts: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        start = re.match(r"^ {4}(\w+): (.*)$", line)
        if start:
            name = start[1]
            texts[name] = start[2].strip()
        elif line.startswith("     ") and name:
            texts[name] += " " + line.strip()
        elif line.strip():
            break
    return texts
