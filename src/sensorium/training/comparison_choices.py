"""The ways that a comparison tries: every combination of choices for some parts of one recipe.

A part is the fusion, the encoder of a stream, the augmentation of a column, or the experts beside the network. What is not
asked about stays as the recipe has it, the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, product
from typing import NamedTuple

from sensorium.core import registry
from sensorium.core.errors import ConfigError, SensoriumError, nearest
from sensorium.core.recipe import Recipe, Spec
from sensorium.core.schema import Schema
from sensorium.evaluation.comparison import Way
from sensorium.model import assemble
from sensorium.training.augmentation_strength import strengths
from sensorium.training.comparison_setup import ComparisonSetup
from sensorium.training.defaults import frozen_streams

ALL, NONE = "all", "none"


class Option(NamedTuple):
    """One value of a part of the recipe: what the table calls it, and the setup with it."""

    name: str
    change: Callable[[ComparisonSetup], ComparisonSetup]


@dataclass(frozen=True)
class Factor:
    """A part of the recipe, as a recipe writes it and in words, and the choices for it."""

    part: str
    label: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class ComparisonRequest:
    """What is to be compared, its names checked; which columns and streams there are is not known yet.

    Args:
        fusions: Names, or None where the recipe's own is kept.
        encoders: By stream; None stands for all that can read it and take no checkpoint.
        augment: By column; None stands for all strengths that its kind knows.
        experts: Sets of experts, of which one may be empty.
    """

    fusions: tuple[str, ...] | None
    encoders: Mapping[str, tuple[Spec, ...] | None] = field(default_factory=dict)
    augment: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    experts: tuple[tuple[Spec, ...], ...] = ()

    @classmethod
    def of(
        cls,
        fusions: str | Sequence[str] | None = None,
        encoders: Mapping[str, str | Sequence[Spec]] | None = None,
        augment: Mapping[str, str | Sequence[str]] | None = None,
        experts: str | Sequence[str | Sequence[Spec]] | None = None,
    ) -> ComparisonRequest:
        """From what ``compare`` was given; raises ``ConfigError`` for an unknown name. Nothing asked: all fusions."""
        if fusions is None and not (encoders or augment or experts):
            fusions = ALL
        return cls(
            None if fusions is None else _fusions(fusions),
            {stream: _encoders(stream, given) for stream, given in (encoders or {}).items()},
            {column: _strengths(column, given) for column, given in (augment or {}).items()},
            () if experts is None else _experts(experts),
        )

    def factors(self, schema: Schema, plan: Recipe) -> list[Factor]:
        """The parts to vary, for fitted columns. Raises ``ConfigError`` for what these columns cannot be asked."""
        found = []
        if self.fusions is not None:
            choices = [Option(name, lambda setup, name=name: setup.with_fusion(name)) for name in self.fusions]  # type: ignore[misc]
            found.append(Factor("fusion", "fusion", tuple(choices)))
        if self.encoders and not plan.model.network:
            raise ConfigError(
                "the recipe has no network, so no encoders", fix="model.network=true, or leave out --encoders"
            )
        found += [_encoder_factor(stream, given, schema) for stream, given in self.encoders.items()]
        found += [_augmentation_factor(column, given, schema, plan) for column, given in self.augment.items()]
        if self.experts:
            found.append(_experts_factor(self.experts, schema, plan))
        return found


def buildable(
    setup: ComparisonSetup, factors: Sequence[Factor], leave_out: bool
) -> tuple[dict[Way, ComparisonSetup], dict[str, str]]:
    """The setup of every way that can be built, with its recipe; and why another cannot.

    Beside fusions stand each stream alone and, with ``leave_out``, all streams but each.
    """
    streams = tuple(setup.schema.streams)
    found: dict[Way, ComparisonSetup] = {}
    skipped: dict[str, str] = {}
    for combination in product(*(factor.options for factor in factors)):
        name = " + ".join(choice.name for choice in combination)
        changed = setup
        try:
            for choice in combination:
                changed = choice.change(changed)
            assemble(changed.plan.model, changed.schema)
        except (SensoriumError, ImportError, ValueError, RuntimeError) as error:
            # Too many streams, too large a product, a library that is not there: told in the table.
            skipped[name] = error.problem if isinstance(error, SensoriumError) else str(error)
            continue
        changes = tuple((factor.part, choice.name) for factor, choice in zip(factors, combination, strict=True))
        found[Way(name, registry.split(changed.plan.model.fusion or "")[0], streams, False, changes)] = changed
    if not found:
        raise ConfigError(f"nothing can be built: {'; '.join(f'{n}: {why}' for n, why in skipped.items())}")
    fusions = any(factor.part == "fusion" for factor in factors)
    if len(streams) == 1 or not (fusions or leave_out):
        return found, skipped
    for stream in streams:
        found[Way(f"{stream} alone", "single", (stream,), True)] = setup.with_streams([stream]).with_fusion("single")
    if leave_out and len(streams) > 2:
        usual = registry.split(setup.plan.model.fusion or next(iter(found)).fusion)[0]
        for stream in streams:
            kept = tuple(s for s in streams if s != stream)
            found[Way(f"without {stream}", usual, kept, True)] = setup.with_streams(kept).with_fusion(usual)
    return found, skipped


# ── names, before anything is read ─────────────────────────────────────────────────────────────────────────────────


def _unique(given: str | Sequence[Spec]) -> list[Spec]:
    """``a,b`` or a list, without what is said twice."""
    every: list[Spec] = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    return [spec for i, spec in enumerate(every) if spec not in every[:i]]


def _fusions(given: str | Sequence[str]) -> tuple[str, ...]:
    known = registry.kinds("fusions")
    if given == ALL:
        return known
    return tuple(_check_name("fusion", str(name), known) for name in _unique(given))


def _encoders(stream: str, given: str | Sequence[Spec]) -> tuple[Spec, ...] | None:
    if given == ALL:
        return None
    found = _unique(given)
    if not found:
        raise ConfigError(f"no encoders of {stream!r} are named", fix=f"--encoders {stream}=NAME,NAME, or {stream}=all")
    for spec in found:
        _check_name("encoder", registry.split(spec)[0], registry.kinds("encoders"))
        registry.resolve("encoders", spec)
    return tuple(found)


def _strengths(column: str, given: str | Sequence[str]) -> tuple[str, ...] | None:
    if given == ALL:
        return None
    found = tuple(str(strength) for strength in _unique(given))
    if not found:
        raise ConfigError(f"no augmentations of {column!r} are named", fix=f"--augment {column}=none,light")
    return found


def _experts(given: str | Sequence[str | Sequence[Spec]]) -> tuple[tuple[Spec, ...], ...]:
    """Sets of experts: ``none``, ``linear``, ``linear+forest``, a list; ``all`` are none, each, and all together."""
    known = registry.kinds("experts")
    if given == ALL:
        return tuple(chain([()], combinations(known, 1), [known] if len(known) > 1 else []))
    found: list[tuple[Spec, ...]] = []
    for some in given.split(",") if isinstance(given, str) else given:
        named = [name.strip() for name in some.split("+")] if isinstance(some, str) else list(some)
        chosen: tuple[Spec, ...] = () if named == [NONE] else tuple(named)
        for spec in chosen:
            _check_name("expert", registry.split(spec)[0], (*known, NONE))
            registry.resolve("experts", spec)
        if chosen not in found:
            found.append(chosen)
    return tuple(found)


def _check_name(what: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ConfigError(f"no {what} named {name!r}{nearest(name, known)}")
    return name


# ── parts of the recipe, once columns are known ────────────────────────────────────────────────────────────────────


def _encoder_factor(stream: str, given: Sequence[Spec] | None, schema: Schema) -> Factor:
    if stream not in schema.streams:
        raise ConfigError(f"--encoders: no stream named {stream!r}{nearest(stream, schema.streams)}")
    able = list(_readers(stream, schema))
    for spec in given or ():
        kind, options = registry.split(spec)
        if kind not in able:
            raise ConfigError(f"encoder {kind!r} cannot read the stream {stream!r}", fix=f"these can: {', '.join(able)}")
        _check_column_options(stream, kind, options, schema)

    def choice(spec: Spec) -> Option:
        return Option(f"{stream}: {_label(spec)}", lambda setup: setup.with_encoder(stream, spec))

    # Which checkpoint would be meant by "all" nobody knows: those that take one are named with it.
    plain = [kind for kind in able if "checkpoint" not in registry.options("encoders", kind).model_fields]
    chosen = plain if given is None else given
    return Factor(f"encoders.{stream}", f"encoder of {stream}", tuple(choice(spec) for spec in chosen))


def _readers(stream: str, schema: Schema) -> Iterator[str]:
    """The encoders that can read a stream."""
    layout = schema.layout(stream)
    for kind in registry.kinds("encoders"):
        try:
            found = registry.find("encoders", kind)
        except ImportError:
            continue  # its library is not installed, so it reads nothing here
        if isinstance(layout, found.reads):
            yield kind


def _check_column_options(stream: str, kind: str, options: Mapping[str, object], schema: Schema) -> None:
    """Refuse an encoder that wants its column otherwise than all others read it here."""
    column = schema.streams[stream][0]
    wanted = registry.find("encoders", kind).wants(options)
    other = {name: value for name, value in wanted.items() if column.spec.get(name) != value}
    if other:
        asked = ", ".join(f"{name}: {value}" for name, value in {"kind": column.spec["kind"], **other}.items())
        raise ConfigError(
            f"encoder {kind!r} wants the column otherwise than it is read here, and all ways read the same cells",
            column=column.name,
            fix=f"--as '{column.name}={{{asked}}}'",
        )


def _augmentation_factor(column: str, given: Sequence[str] | None, schema: Schema, plan: Recipe) -> Factor:
    may = {c.name: strengths(c) for c in schema.inputs}
    if column not in may:
        raise ConfigError(f"--augment: no input column named {column!r}{nearest(column, may)}")
    if not may[column]:
        others = ", ".join(name for name, known in may.items() if known) or "none"
        kind = schema.columns[column].spec["kind"]
        raise ConfigError(f"a column of kind {kind} is not augmented", column=column, fix=f"columns that are: {others}")
    if not plan.training.augment:
        raise ConfigError("training.augment is off, so no column is augmented", column=column, fix="training.augment=true")
    if column in frozen_streams(plan.model.surgery, schema.streams):
        raise ConfigError(
            "its encoder is frozen and runs once a row, so the column is not augmented",
            column=column,
            fix="leave it out of --augment, or store: false in the freeze",
        )
    for strength in given or ():
        if strength not in may[column]:
            raise ConfigError(f"no augmentation named {strength!r}{nearest(strength, may[column])}", column=column)

    def choice(strength: str) -> Option:
        return Option(f"{column}: {strength}", lambda setup: setup.with_augmentation(column, strength))

    chosen = may[column] if given is None else given
    return Factor(f"columns.{column}.augment", f"augmentation of {column}", tuple(choice(s) for s in chosen))


def _experts_factor(given: Sequence[Sequence[Spec]], schema: Schema, plan: Recipe) -> Factor:
    layouts = [schema.layout(stream) for stream in schema.streams]
    usual = [found for found in (registry.find("features", kind) for kind in registry.kinds("features")) if found.usual]
    if plan.model.features is None and not any(found.reads(layout) for found in usual for layout in layouts):
        raise ConfigError("experts read none of these streams unasked", fix="name what they read: model.features")

    def choice(experts: Sequence[Spec]) -> Option:
        name = "+".join(_label(spec) for spec in experts) or NONE
        return Option(f"experts: {name}", lambda setup: setup.with_experts(experts))

    return Factor("experts", "experts", tuple(choice(experts) for experts in given))


def _label(spec: Spec) -> str:
    """A specification as a table calls it."""
    kind, options = registry.split(spec)
    return " ".join([kind, *(f"{name}={value}" for name, value in options.items())])
