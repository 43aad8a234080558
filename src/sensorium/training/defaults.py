"""Defaults: settings that a recipe leaves open, chosen from the data and written out with the reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.core import registry
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.expert import Features
from sensorium.core.goal import TaskSpec, task_spec
from sensorium.core.layout import Grid, Ids, Layout, Row
from sensorium.core.plurals import counted
from sensorium.core.recipe import ModelSpec, Recipe, Size, Spec, Training
from sensorium.core.schema import Schema
from sensorium.core.task import Task
from sensorium.training import schedule
from sensorium.training.fine_defaults import fine_encoder, fine_rate, read_finely
from sensorium.training.optimiser import DEFAULT_LR, resolve_rates
from sensorium.training.surgery_scope import frozen_streams
from sensorium.training.target_patterns import expanded

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"dim": 32, "depth": 2, "heads": 2, "width": 12},
    "small": {"dim": 64, "depth": 3, "heads": 4, "width": 16},
    "base": {"dim": 128, "depth": 3, "heads": 4, "width": 32},
    "large": {"dim": 256, "depth": 4, "heads": 8, "width": 64},
}
"""Options that ``model.size`` sets in every component that has them, unless given."""

FUSION: Spec = "lowrank"
"""Default fusion: av_hard 0.894 against 0.862 for gated (one seed), and on none of nine data sets significantly worse than
the best (docs/results.md, "Fusions, compared" and "How the defaults were chosen", also for the figures below).
"""
FEW_FUSION, FEW_FUSION_ROWS = {"kind": "late", "decide": "learned"}, 500
"""Fusion for small tables: interactions between streams take more rows to learn than each stream alone. covid_cxr 0.825
against 0.796 for gated (five folds), mustard 0.708 ± 0.029 against 0.705 ± 0.059; on petfinder, with ten times the
rows, it loses: 0.163 against 0.240.
"""
WIDE = 128
"""Number of columns above which cells are no longer tokens that attend to each other, which takes time and memory quadratic
in the columns (docs/performance.md compares what either learns).
"""
WIDE_ENCODER: Spec = {"kind": "mlp", "width": 64}
"""Encoder of wide rows. Narrower hidden layers lose accuracy where many columns are weakly informative."""
WORD_ORDER_ROWS = 200_000
"""Number of rows from which on words are read in order, by a transformer: with 100,000 it would take hours on two cores."""
PLAIN: Spec = "concat"
"""Fusion of a model without a network, where it has no effect."""
EARLY = "early"
"""The fusion that needs shallow encoders, being the deep part of the model itself."""


def resolve(
    recipe: Recipe, schema: Schema, rows: int, classes: Mapping[str, Sequence[int]] | None = None
) -> tuple[Recipe, list[str]]:
    """Return the recipe with every open setting chosen, and what was chosen, in words.

    Args:
        recipe: The recipe with settings left open.
        schema: The fitted columns.
        rows: Number of training rows.
        classes: Training rows of each class, by target.
    """
    notes: list[str] = []
    size: Size = recipe.model.size
    if size == "auto":
        size = schedule.model_size(rows)
        if recipe.model.network:
            notes.append(f"model size {size} for {counted(rows, 'row')}")
    preset = SIZES[size]
    dim = recipe.model.dim or preset["dim"]
    check_names("encoders", recipe.model.encoders, schema.streams)
    check_names("adapters", recipe.model.adapters, schema.streams)
    encoders: dict[str, Spec] = {}
    fusion_spec = recipe.model.fusion
    encoder = _shallow_encoder if fusion_spec is not None and registry.split(fusion_spec)[0] == EARLY else _encoder
    network = recipe.model.network
    task_specs = tasks_of(recipe.model, schema)
    finely = read_finely(task_specs, schema)
    for stream in schema.streams if network else ():
        layout = schema.layout(stream)
        usual = fine_encoder(layout) if stream in finely else _preferred_encoder(task_specs, schema, layout)
        usual = usual or encoder(layout, rows)
        spec = recipe.model.encoders.get(stream) or usual
        encoders[stream] = _completed("encoders", _sized("encoders", spec, preset))
    adapters: dict[str, Spec] = {
        stream: _sized("adapters", recipe.model.adapters.get(stream) or _adapter(encoders[stream]), preset)
        for stream in encoders
    }
    mergeable = all(registry.find("tasks", registry.split(task.spec)[0]).mergeable for task in task_specs)
    fusion = _sized("fusions", (fusion_spec or _fusion(len(encoders), rows, mergeable)) if network else PLAIN, preset)
    fusion = _completed("fusions", fusion, {s: schema.layout(s) for s in schema.streams})
    tasks, task_notes = _resolved_tasks(task_specs, schema, rows, classes or {}, preset)
    notes += task_notes
    surgery: list[Spec] = [registry.resolve("surgery", spec) for spec in recipe.model.surgery]
    experts, features, why = resolve_experts(recipe, schema, rows)
    notes += why
    model = ModelSpec(
        size=size,
        dim=dim,
        encoders=encoders,
        adapters=adapters,
        fusion=fusion,
        tasks=tasks,
        surgery=surgery,
        network=network,
        networks=recipe.model.networks if network else 1,
        experts=experts,
        features=features,
    )
    training, training_notes = _resolved_training(recipe, model, schema, rows, task_specs)
    notes += training_notes
    objectives = [registry.resolve("objectives", spec) for spec in _objectives(recipe, task_specs, schema)]
    resolved = recipe.model_copy(
        update={
            "columns": schema.specs(),
            "streams": {},  # written out, column by column
            "model": model,
            "objectives": objectives,
            "training": training,
        }
    )
    return resolved, notes


def _resolved_tasks(
    task_specs: Sequence[TaskSpec],
    schema: Schema,
    rows: int,
    classes: Mapping[str, Sequence[int]],
    preset: Mapping[str, int],
) -> tuple[dict[str, Spec], list[str]]:
    """Return the tasks with their options and columns written out, and notes on options chosen from the data."""
    tasks: dict[str, Spec] = {}
    notes: list[str] = []
    for task in task_specs:
        sized = _sized("tasks", task.spec, preset)
        counts = [count for name in task.targets for count in classes.get(name, ()) if count]
        columns = [schema.columns[name].reader for name in task.targets]
        task_class = registry.find("tasks", sized["kind"])
        suited, why = task_class.recommended(registry.split(task.spec)[1], rows, counts, columns)
        sized = _completed("tasks", sized | suited)
        notes += [f"{task.name}: {reason}" for reason in why]
        columns_read = {key: list(names) for key, names in (("prompt", task.prompts), ("given", task.given)) if names}
        tasks[task.name] = {**sized, "target": _target_names(task.targets), **columns_read}
    return tasks, notes


def _resolved_training(
    recipe: Recipe, model: ModelSpec, schema: Schema, rows: int, task_specs: Sequence[TaskSpec]
) -> tuple[Training, list[str]]:
    """Return the section ``training`` for a resolved ``model``, and notes on what was chosen."""
    training = recipe.training
    processes = training.devices * training.nodes
    batch = training.batch_size or max(1, schedule.batch_size(rows) // processes)
    epochs = training.epochs or schedule.epochs(rows, batch * processes)
    lr = training.lr or fine_rate(task_specs, training.optimizer) or DEFAULT_LR[training.optimizer]
    assert model.fusion is not None
    rates, notes = resolve_rates(training, lr, model.encoders, model.fusion, model.surgery, list(model.tasks))
    steps = rows // (batch * processes)
    chosen = {
        **rates,
        "batch_size": batch,
        "epochs": epochs,
        "lr": lr,
        "threads": training.threads or schedule.threads(model.size, training.devices),
        "patience": training.patience or schedule.patience(epochs, schema, bool(model.experts), steps),
    }
    if training.epochs is None and model.network:
        notes.append(f"at most {epochs} epochs of batches of {batch}, best epoch kept")
    return training.model_copy(update=chosen), notes


def _objectives(recipe: Recipe, tasks: Sequence[TaskSpec], schema: Schema) -> list[Spec]:
    """Return the objectives of ``recipe``, or those that its only task asks for where it names none."""
    if "objectives" in recipe.model_fields_set or len(tasks) != 1:
        return recipe.objectives
    kind, options = registry.split(tasks[0].spec)
    layouts = {stream: schema.layout(stream) for stream in schema.streams}
    return list(registry.find("tasks", kind).suggested_objectives(options, layouts))


def resolve_experts(recipe: Recipe, schema: Schema, rows: int) -> tuple[list[Spec], dict[str, list[Spec]], list[str]]:
    """Choose the experts beside the network.

    Args:
        recipe: The recipe with settings left open.
        schema: The fitted columns.
        rows: Number of training rows.

    Returns:
        The experts, the features that they read of each stream, and the reason in words.
    """
    model, layouts = recipe.model, {stream: schema.layout(stream) for stream in schema.streams}
    check_names("features", dict.fromkeys(model.features or {}, ""), schema.streams)
    features: dict[str, list[Spec]] = {}
    for stream, layout in layouts.items():
        specs = (model.features or {}).get(stream)
        if specs is None:
            readers = ((kind, registry.find("features", kind)) for kind in registry.kinds("features"))
            is_frozen = model.network and stream in frozen_streams(model.surgery, layouts, stored=False)
            specs = [kind for kind, reader in readers if _used_by_default(reader, layout, is_frozen)]
        if specs:
            _refuse_trained_features(recipe, specs, stream, layout)
            features[stream] = [registry.resolve("features", spec) for spec in specs]
    expert_specs = model.experts
    if expert_specs is None:
        kinds = {kind: registry.find("experts", kind) for kind in registry.kinds("experts")}
        readable = {stream: layouts[stream] for stream in features}
        expert_specs = [kind for kind, expert in kinds.items() if readable and expert.suits(rows, readable)]
        if recipe.training.devices * recipe.training.nodes > 1 or recipe.data.stream:
            expert_specs = []  # not all rows are available
        kinds_of_tasks = [registry.find("tasks", registry.split(task.spec)[0]) for task in tasks_of(model, schema)]
        if all(kind.response is Task.response for kind in kinds_of_tasks):
            expert_specs = []  # no task asks anything of them
    experts: list[Spec] = [registry.resolve("experts", spec) for spec in expert_specs]
    if not experts:
        return [], {}, []
    named = ", ".join(registry.split(spec)[0] for spec in experts)
    return experts, features, [f"beside the network: {named}" if model.network else f"{named} alone, no network"]


def _used_by_default(reader: type[Features], layout: Layout, is_frozen: bool) -> bool:
    """Whether features are extracted from a stream by default; ``is_frozen``: its encoder is frozen."""
    return reader.used_by_default if reader.reads(layout) else reader.encoded and is_frozen


def _refuse_trained_features(recipe: Recipe, specs: Sequence[Spec], stream: str, layout: Layout) -> None:
    """Refuse encoder vectors as features where the encoder is trained, or where there is none."""
    for kind, _ in map(registry.split, specs):
        reader = registry.find("features", kind)
        if reader.reads(layout) or not reader.encoded:
            continue
        if not recipe.model.network:
            raise ConfigError(f"features {kind!r} of {stream!r} come from an encoder, but the recipe has no network")
        if stream not in frozen_streams(recipe.model.surgery, [stream], stored=False):
            raise ConfigError(
                f"features {kind!r} of {stream!r}: its encoder is trained, so its vectors leak the targets of the "
                "training rows to the experts",
                fix=f"freeze it (model.surgery: [{{kind: freeze, streams: [{stream}]}}]), or leave them out",
            )


def tasks_of(model: ModelSpec, schema: Schema) -> list[TaskSpec]:
    """Return the tasks of ``model`` for the targets of ``schema``, in the order of targets; those without a
    target come last.

    A target that no task names gets the default task of its kind.
    """
    names = [column.name for column in schema.targets]
    specs = [expanded(task_spec(name, spec), names) for name, spec in model.tasks.items()]
    known = {column.name for column in schema.targets}
    for task in specs:
        for name in task.targets:
            if name not in known:
                raise ConfigError(f"model.tasks: no target named {name!r}{nearest(name, sorted(known))}")
    tasks: list[TaskSpec] = []
    for column in schema.targets:
        own = [task for task in specs if column.name in task.targets]
        if not own:
            if column.reader.task is None:
                raise ConfigError(
                    "a column of this kind has no default task", column=column.name, fix="name one: model.tasks"
                )
            own = [TaskSpec(column.name, {"kind": column.reader.task}, (column.name,), ())]
        tasks += [task for task in own if task not in tasks]
    return tasks + [task for task in specs if not task.targets]


def _target_names(targets: Sequence[str]) -> str | list[str] | None:
    """Return target columns as a recipe writes them."""
    return None if not targets else targets[0] if len(targets) == 1 else list(targets)


def _encoder(layout: Layout, rows: int) -> Spec:
    if isinstance(layout, Ids):
        if rows >= 20 * layout.vocabulary:
            # A small, frequent vocabulary (questions, commands) needs no dropout of words: easy_vqa reaches
            # 0.987 ± 0.018, and 0.86 with the settings for free text.
            return {"kind": "bag_of_words", "norm": True, "drop": 0.0, "dropout": 0.0}
        # Word order helps only with enough rows to learn it from; with fewer, bags of n-grams are better. `tfidf` is
        # as good on free text (clothing, 3 folds of the training rows: AUROC 0.904 against 0.907) and slower.
        return "bag_of_words" if rows < WORD_ORDER_ROWS else "transformer"
    if isinstance(layout, Grid):
        if math.prod(layout.size) == 1:
            return "vector"
        # Digit pictures 0.978 ± 0.001 (vgg 0.978, resnet 0.974, mobilenet 0.966, shufflenet 0.957, vit 0.936), signs 0.949
        # (vgg 0.956, resnet 0.893), log-mel sounds 0.978 (recurrent 0.984 at five times the cost), series 0.992 and 0.971
        # (recurrent 0.975 and 0.982): the best, or close to it and the cheapest (docs/results.md).
        return "frames" if len(layout.size) == 3 else "convnet"
    # Attention over cells learns from few rows, a perceptron over all cells needs many: macro F1 on petfinder's table
    # 0.24 against 0.16.
    if isinstance(layout, Row) and rows < 20_000:
        return WIDE_ENCODER if _wide(layout) else "cells"
    return layout.encoder


def _preferred_encoder(task_specs: Sequence[TaskSpec], schema: Schema, layout: Layout) -> Spec | None:
    """Return the encoder that the first task with a wish has for a stream of ``layout``."""
    for task in task_specs:
        readers = [schema.columns[name].reader for name in task.targets]
        preferred: Spec | None = registry.find("tasks", registry.split(task.spec)[0]).encoder(layout, readers)
        if preferred is not None:
            return preferred
    return None


def _wide(layout: Row) -> bool:
    return len(layout.cardinalities) > WIDE


def _shallow_encoder(layout: Layout, rows: int) -> Spec:
    """Return an encoder that yields tokens after one block of attention: of patches, words or cells."""
    for kind, reads in (("patch", Grid), ("transformer", Ids), ("cells", Row)):
        if isinstance(layout, reads) and not (isinstance(layout, Row) and _wide(layout)):
            return {"kind": kind, "depth": 1}
    return _encoder(layout, rows)


def _adapter(encoder: Spec) -> Spec:
    # Texts differ in the length of their vectors along few directions: normalising loses that and amplifies noise.
    return {"kind": "linear", "norm": False, "dropout": 0.3} if registry.split(encoder)[0] == "tfidf" else "linear"


def _fusion(streams: int, rows: int, mergeable: bool) -> Spec:
    """Return the default fusion; ``mergeable``: whether every task can average outputs, as late fusion does."""
    if streams == 1:
        return "single"
    return FEW_FUSION if rows < FEW_FUSION_ROWS and mergeable else FUSION


def _sized(family: str, spec: Spec, preset: Mapping[str, int]) -> dict[str, Any]:
    return registry.resolve(family, _with_sizes(family, spec, preset))


def _with_sizes(family: str, spec: Spec, preset: Mapping[str, int]) -> dict[str, Any]:
    """Return a spec with the sizes of the preset where not given, also in nested fusions."""
    kind, options = registry.split(spec)
    known = registry.options(family, kind).model_fields
    sizes = {name: value for name, value in preset.items() if name in known}
    for name in ("fusion", "groups") if family == "fusions" else ():
        if name in known and name in options:
            options[name] = _nested_sizes(options[name], preset)
    return {"kind": kind, **sizes, **options}


def _nested_sizes(part: Any, preset: Mapping[str, int]) -> Any:
    """Apply sizes to a fusion within a fusion, or to several by name; anything else is left for validation to refuse."""
    if isinstance(part, str) or (isinstance(part, Mapping) and "kind" in part):
        return _with_sizes("fusions", part if isinstance(part, str) else dict(part), preset)
    if isinstance(part, Mapping):
        return {
            name: {**group, "fusion": _nested_sizes(group["fusion"], preset)}
            if isinstance(group, Mapping) and "fusion" in group
            else group
            for name, group in part.items()
        }
    return part


def _completed(family: str, spec: dict[str, Any], *context: Any) -> dict[str, Any]:
    """Return a spec with options from other sources, such as a checkpoint, written out."""
    options = {name: value for name, value in spec.items() if name != "kind"}
    return registry.resolve(
        family, {"kind": spec["kind"], **registry.find(family, spec["kind"]).completed(options, *context)}
    )


def check_names(section: str, specs: Mapping[str, Spec], names: Mapping[str, Any]) -> None:
    """Refuse names in ``specs``, the part ``section`` of the recipe's ``model``, that are not in ``names``.

    Raises:
        ConfigError: A name is unknown.
    """
    for name in specs:
        if name not in names:
            what = "target" if section == "tasks" else "stream"
            raise ConfigError(f"model.{section}: no {what} named {name!r}{nearest(name, names)}")
