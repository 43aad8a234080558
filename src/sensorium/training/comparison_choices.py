"""The variants of a comparison: every combination of options for some parts of one recipe.

A part is the fusion, the encoder of a stream, the augmentation of a column, or the experts beside the network. Parts that
are not compared stay as in the recipe, the same for all variants.
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
from sensorium.evaluation.comparison import Variant
from sensorium.model import assemble
from sensorium.training.augmentation_strength import strengths
from sensorium.training.comparison_setup import ComparisonSetup
from sensorium.training.surgery_scope import frozen_streams

ALL, NONE = "all", "none"


class Option(NamedTuple):
    """One value of a part of the recipe: its name in the table, and the change of the setup that applies it."""

    name: str
    change: Callable[[ComparisonSetup], ComparisonSetup]


@dataclass(frozen=True)
class Factor:
    """A compared part of the recipe: its path in the recipe, its label, and its options."""

    part: str
    label: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class ComparisonRequest:
    """What is to be compared. Names of components are checked; columns and streams are not known yet.

    Args:
        fusions: Names, or None to keep the recipe's fusion.
        encoders: By stream; None stands for all that can read it and need no checkpoint.
        augment: By column; None stands for all strengths of its kind.
        experts: Sets of experts; the empty set is allowed.
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
        """Parse the arguments ``fusions``, ``encoders``, ``augment`` and ``experts`` of ``compare``; by default all
           fusions.

        Raises:
            ConfigError: A name is unknown.
        """
        if fusions is None and not (encoders or augment or experts):
            fusions = ALL
        return cls(
            None if fusions is None else _fusions(fusions),
            {stream: _encoders(stream, names) for stream, names in (encoders or {}).items()},
            {column: _strengths(column, names) for column, names in (augment or {}).items()},
            () if experts is None else _experts(experts),
        )

    def factors(self, schema: Schema, plan: Recipe) -> list[Factor]:
        """Return the compared parts, for the fitted columns of ``schema`` and the recipe ``plan``.

        Raises:
            ConfigError: The columns or the recipe do not allow a part to vary.
        """
        factors = []
        if self.fusions is not None:
            options = [Option(name, lambda setup, name=name: setup.with_fusion(name)) for name in self.fusions]  # type: ignore[misc]
            factors.append(Factor("fusion", "fusion", tuple(options)))
        if self.encoders and not plan.model.network:
            raise ConfigError(
                "the recipe has no network, and therefore no encoders", fix="model.network=true, or leave out --encoders"
            )
        factors += [_encoder_factor(stream, specs, schema) for stream, specs in self.encoders.items()]
        factors += [_augmentation_factor(column, names, schema, plan) for column, names in self.augment.items()]
        if self.experts:
            factors.append(_experts_factor(self.experts, schema, plan))
        return factors


def buildable(
    setup: ComparisonSetup, factors: Sequence[Factor], leave_out: bool
) -> tuple[dict[Variant, ComparisonSetup], dict[str, str]]:
    """Return the setup of every variant that can be built, and why the others cannot.

    Args:
        setup: What all runs share.
        factors: The compared parts. A comparison of fusions adds each stream alone.
        leave_out: Whether to add, for each stream, all streams but that one; with three streams or more.
    """
    streams = tuple(setup.schema.streams)
    variants: dict[Variant, ComparisonSetup] = {}
    skipped: dict[str, str] = {}
    for combination in product(*(factor.options for factor in factors)):
        name = " + ".join(option.name for option in combination)
        changed = setup
        try:
            for option in combination:
                changed = option.change(changed)
            assemble(changed.plan.model, changed.schema)
        except (SensoriumError, ImportError, ValueError, RuntimeError) as error:
            # Too many streams, too large a product, a missing library: listed as skipped.
            skipped[name] = error.problem if isinstance(error, SensoriumError) else str(error)
            continue
        changes = tuple((factor.part, option.name) for factor, option in zip(factors, combination, strict=True))
        variants[Variant(name, registry.split(changed.plan.model.fusion or "")[0], streams, False, changes)] = changed
    if not variants:
        raise ConfigError(f"no variant can be built: {'; '.join(f'{n}: {why}' for n, why in skipped.items())}")
    fusions = any(factor.part == "fusion" for factor in factors)
    if len(streams) == 1 or not (fusions or leave_out):
        return variants, skipped
    for stream in streams:
        variants[Variant(f"{stream} alone", "single", (stream,), True)] = setup.with_streams([stream]).with_fusion("single")
    if leave_out and len(streams) > 2:
        usual = registry.split(setup.plan.model.fusion or next(iter(variants)).fusion)[0]
        for stream in streams:
            kept = tuple(s for s in streams if s != stream)
            variants[Variant(f"without {stream}", usual, kept, True)] = setup.with_streams(kept).with_fusion(usual)
    return variants, skipped


# ── names, before anything is read ─────────────────────────────────────────────────────────────────────────────────


def _unique(names: str | Sequence[Spec]) -> list[Spec]:
    """Parse ``a,b`` or a list, without repetitions."""
    specs: list[Spec] = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    return [spec for i, spec in enumerate(specs) if spec not in specs[:i]]


def _fusions(names: str | Sequence[str]) -> tuple[str, ...]:
    known = registry.kinds("fusions")
    if names == ALL:
        return known
    return tuple(_check_name("fusion", str(name), known) for name in _unique(names))


def _encoders(stream: str, names: str | Sequence[Spec]) -> tuple[Spec, ...] | None:
    if names == ALL:
        return None
    specs = _unique(names)
    if not specs:
        raise ConfigError(f"no encoders of {stream!r} are named", fix=f"--encoders {stream}=NAME,NAME, or {stream}=all")
    for spec in specs:
        _check_name("encoder", registry.split(spec)[0], registry.kinds("encoders"))
        registry.resolve("encoders", spec)
    return tuple(specs)


def _strengths(column: str, names: str | Sequence[str]) -> tuple[str, ...] | None:
    if names == ALL:
        return None
    values = tuple(str(strength) for strength in _unique(names))
    if not values:
        raise ConfigError(f"no augmentations of {column!r} are named", fix=f"--augment {column}=none,light")
    return values


def _experts(names: str | Sequence[str | Sequence[Spec]]) -> tuple[tuple[Spec, ...], ...]:
    """Parse sets of experts: ``none``, ``linear``, ``linear+forest``, a list; ``all``: none, each alone, all together."""
    known = registry.kinds("experts")
    if names == ALL:
        return tuple(chain([()], combinations(known, 1), [known] if len(known) > 1 else []))
    groups: list[tuple[Spec, ...]] = []
    for group in names.split(",") if isinstance(names, str) else names:
        specs = [name.strip() for name in group.split("+")] if isinstance(group, str) else list(group)
        chosen: tuple[Spec, ...] = () if specs == [NONE] else tuple(specs)
        for spec in chosen:
            _check_name("expert", registry.split(spec)[0], (*known, NONE))
            registry.resolve("experts", spec)
        if chosen not in groups:
            groups.append(chosen)
    return tuple(groups)


def _check_name(what: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ConfigError(f"no {what} named {name!r}{nearest(name, known)}")
    return name


# ── parts of the recipe, once columns are known ────────────────────────────────────────────────────────────────────


def _encoder_factor(stream: str, specs: Sequence[Spec] | None, schema: Schema) -> Factor:
    if stream not in schema.streams:
        raise ConfigError(f"--encoders: no stream named {stream!r}{nearest(stream, schema.streams)}")
    able = list(_readers(stream, schema))
    for spec in specs or ():
        kind, options = registry.split(spec)
        if kind not in able:
            raise ConfigError(f"encoder {kind!r} cannot read the stream {stream!r}", fix=f"these can: {', '.join(able)}")
        _check_column_options(stream, kind, options, schema)

    def option(spec: Spec) -> Option:
        return Option(f"{stream}: {_label(spec)}", lambda setup: setup.with_encoder(stream, spec))

    # "all" leaves out encoders that need a checkpoint, which must be named with it.
    plain = [kind for kind in able if "checkpoint" not in registry.options("encoders", kind).model_fields]
    chosen = plain if specs is None else specs
    return Factor(f"encoders.{stream}", f"encoder of {stream}", tuple(option(spec) for spec in chosen))


def _readers(stream: str, schema: Schema) -> Iterator[str]:
    """Yield the encoders that can read a stream."""
    layout = schema.layout(stream)
    for kind in registry.kinds("encoders"):
        try:
            encoder = registry.find("encoders", kind)
        except ImportError:
            continue  # its library is not installed
        if isinstance(layout, encoder.reads):
            yield kind


def _check_column_options(stream: str, kind: str, options: Mapping[str, object], schema: Schema) -> None:
    """Refuse an encoder that needs other column options than the encoded rows have."""
    column = schema.streams[stream][0]
    required = registry.find("encoders", kind).required_column(options)
    other = {name: value for name, value in required.items() if column.spec.get(name) != value}
    if other:
        needed = ", ".join(f"{name}: {value}" for name, value in {"kind": column.spec["kind"], **other}.items())
        raise ConfigError(
            f"encoder {kind!r} needs other options of the column than it is read with, and all runs read the same cells",
            column=column.name,
            fix=f"--as '{column.name}={{{needed}}}'",
        )


def _augmentation_factor(column: str, names: Sequence[str] | None, schema: Schema, plan: Recipe) -> Factor:
    allowed = {c.name: strengths(c) for c in schema.inputs}
    if column not in allowed:
        raise ConfigError(f"--augment: no input column named {column!r}{nearest(column, allowed)}")
    if not allowed[column]:
        others = ", ".join(name for name, known in allowed.items() if known) or "none"
        kind = schema.columns[column].spec["kind"]
        raise ConfigError(
            f"a column of kind {kind} has no augmentation", column=column, fix=f"columns that have one: {others}"
        )
    if not plan.training.augment:
        raise ConfigError("training.augment is off, so no column is augmented", column=column, fix="training.augment=true")
    if column in frozen_streams(plan.model.surgery, schema.streams):
        raise ConfigError(
            "its encoder is frozen and runs once a row, so the column is not augmented",
            column=column,
            fix="leave it out of --augment, or store: false in the freeze",
        )
    for strength in names or ():
        if strength not in allowed[column]:
            raise ConfigError(f"no augmentation named {strength!r}{nearest(strength, allowed[column])}", column=column)

    def option(strength: str) -> Option:
        return Option(f"{column}: {strength}", lambda setup: setup.with_augmentation(column, strength))

    chosen = allowed[column] if names is None else names
    return Factor(f"columns.{column}.augment", f"augmentation of {column}", tuple(option(s) for s in chosen))


def _experts_factor(groups: Sequence[Sequence[Spec]], schema: Schema, plan: Recipe) -> Factor:
    layouts = [schema.layout(stream) for stream in schema.streams]
    readers = [registry.find("features", kind) for kind in registry.kinds("features")]
    usual = [reader for reader in readers if reader.used_by_default]
    if plan.model.features is None and not any(reader.reads(layout) for reader in usual for layout in layouts):
        raise ConfigError("experts read none of these streams by default", fix="name what they read: model.features")

    def option(experts: Sequence[Spec]) -> Option:
        name = "+".join(_label(spec) for spec in experts) or NONE
        return Option(f"experts: {name}", lambda setup: setup.with_experts(experts))

    return Factor("experts", "experts", tuple(option(experts) for experts in groups))


def _label(spec: Spec) -> str:
    """Return a spec as the table shows it."""
    kind, options = registry.split(spec)
    return " ".join([kind, *(f"{name}={value}" for name, value in options.items())])
