"""What is left open in a recipe, chosen from the data and written out, with the reason."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sensorium.core import quoting, registry
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.expert import Features
from sensorium.core.goal import TaskSpec, task_spec
from sensorium.core.layout import Grid, Ids, Layout, Row
from sensorium.core.plurals import counted
from sensorium.core.recipe import ModelSpec, Recipe, Size, Spec
from sensorium.core.schema import Schema
from sensorium.training.optimiser import DEFAULT_LR, resolve_rates

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"dim": 32, "depth": 2, "heads": 2, "width": 12},
    "small": {"dim": 64, "depth": 3, "heads": 4, "width": 16},
    "base": {"dim": 128, "depth": 3, "heads": 4, "width": 32},
    "large": {"dim": 256, "depth": 4, "heads": 8, "width": 64},
}
"""What one word sets in every part that has such an option, unless it is given."""

FUSION: Spec = "lowrank"
"""The fusion by default: av_hard 0.894 against 0.862 for gated (one seed), and on none of nine sets told apart from the
best (docs/results.md, "Fusions, compared" and "How the defaults were chosen", where the figures below are too)."""
FEW_FUSION, FEW_FUSION_ROWS = {"kind": "late", "decide": "learned"}, 500
"""The fusion for tables of fewer rows: what streams say together takes more rows to learn than what each says alone.
covid_cxr 0.825 against 0.796 for gated (five folds), mustard 0.708 ± 0.029 against 0.705 ± 0.059; on petfinder, with ten
times the rows, it loses: 0.163 against 0.240."""
WIDE = 128
"""Cells of a row above which they are no longer tokens that all look at each other: that takes time and memory with the
square of the columns (docs/performance.md has what either learns)."""
WIDE_ENCODER: Spec = {"kind": "mlp", "width": 64}
"""What reads such rows. Hidden layers as narrow as the dial would have them lose where many columns say a little each."""
PLAIN: Spec = "concat"
"""What stands in the place of a fusion where there is no network."""
EARLY = "early"
"""The fusion that wants shallow encoders: it is itself the deep model."""


def resolve(
    recipe: Recipe, schema: Schema, rows: int, classes: Mapping[str, Sequence[int]] | None = None
) -> tuple[Recipe, list[str]]:
    """The recipe with nothing left open, for a fitted schema and so many training rows; and what was chosen, in words.

    Args:
        classes: Training rows of each class, by target.
    """
    said: list[str] = []
    size: Size = recipe.model.size
    if size == "auto":
        size = _size(rows)
        said.append(f"model size {size} for {counted(rows, 'row')}")
    preset = SIZES[size]
    dim = recipe.model.dim or preset["dim"]
    _check_names("encoders", recipe.model.encoders, schema.streams)
    _check_names("adapters", recipe.model.adapters, schema.streams)
    encoders: dict[str, Spec] = {}
    told = recipe.model.fusion
    encoder = _shallow_encoder if told is not None and registry.split(told)[0] == EARLY else _encoder
    network = recipe.model.network
    for stream in schema.streams if network else ():
        layout = schema.layout(stream)
        given = recipe.model.encoders.get(stream) or encoder(layout, rows)
        encoders[stream] = _completed("encoders", _sized("encoders", given, preset))
    adapters: dict[str, Spec] = {
        stream: _sized("adapters", recipe.model.adapters.get(stream) or _adapter(encoders[stream]), preset)
        for stream in encoders
    }
    asked = tasks_of(recipe.model, schema)
    mergeable = all(registry.find("tasks", registry.split(task.spec)[0]).mergeable for task in asked)
    fusion = _sized("fusions", (told or _fusion(len(encoders), rows, mergeable)) if network else PLAIN, preset)
    fusion = _completed("fusions", fusion, {s: schema.layout(s) for s in schema.streams})
    tasks: dict[str, Spec] = {}
    for task in asked:
        sized = _sized("tasks", task.spec, preset)
        found = registry.find("tasks", sized["kind"])
        counts = [count for name in task.targets for count in (classes or {}).get(name, ()) if count]
        columns = [schema.columns[name].reader for name in task.targets]
        chosen_for, why = found.suited(registry.split(task.spec)[1], rows, counts, columns)
        sized |= chosen_for
        said += [f"{task.name}: {reason}" for reason in why]
        prompts = {"prompt": list(task.prompts)} if task.prompts else {}
        tasks[task.name] = {**sized, "target": _target_names(task.targets), **prompts}
    surgery: list[Spec] = [registry.resolve("surgery", spec) for spec in recipe.model.surgery]
    experts, features, why = resolve_experts(recipe, schema, rows)
    said += why
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

    training = recipe.training
    processes = training.devices * training.nodes
    batch = training.batch_size or max(1, _batch_size(rows) // processes)
    epochs = training.epochs or _epochs(rows, batch * processes)
    lr = training.lr or DEFAULT_LR[training.optimizer]
    rates, slowed = resolve_rates(training, lr, encoders, fusion, surgery)
    said += slowed
    chosen = {
        **rates,
        "batch_size": batch,
        "epochs": epochs,
        "lr": lr,
        # Steps of a small model are too short to be worth dividing: a second thread costs more than it gives.
        "threads": training.threads
        or (1 if size in ("tiny", "small") else max(1, (os.cpu_count() or 1) // training.devices)),
        "patience": training.patience or _patience(epochs, schema, bool(experts)),
    }
    if training.epochs is None and network:
        said.append(f"at most {epochs} epochs of batches of {batch}, best epoch kept")
    objectives: list[Spec] = [registry.resolve("objectives", spec) for spec in recipe.objectives]
    resolved = recipe.model_copy(
        update={
            "columns": schema.specs(),
            "streams": {},  # written out, column by column
            "model": model,
            "objectives": objectives,
            "training": training.model_copy(update=chosen),
        }
    )
    return resolved, said


def resolve_experts(recipe: Recipe, schema: Schema, rows: int) -> tuple[list[Spec], dict[str, list[Spec]], list[str]]:
    """The experts beside the network, what they read off each stream, and why, in words."""
    model, layouts = recipe.model, {stream: schema.layout(stream) for stream in schema.streams}
    _check_names("features", dict.fromkeys(model.features or {}, ""), schema.streams)
    features: dict[str, list[Spec]] = {}
    for stream, layout in layouts.items():
        given = (model.features or {}).get(stream)
        if given is None:
            readers = ((kind, registry.find("features", kind)) for kind in registry.kinds("features"))
            still = model.network and stream in frozen_streams(model.surgery, layouts, stored=False)
            given = [kind for kind, found in readers if _used_by_default(found, layout, still)]
        if given:
            _refuse_trained_features(recipe, given, stream, layout)
            features[stream] = [registry.resolve("features", spec) for spec in given]
    asked = model.experts
    if asked is None:
        kinds = {kind: registry.find("experts", kind) for kind in registry.kinds("experts")}
        heard = {stream: layouts[stream] for stream in features}
        asked = [kind for kind, expert in kinds.items() if heard and expert.suits(rows, heard)]
        if recipe.training.devices * recipe.training.nodes > 1 or recipe.data.stream:
            asked = []  # the rows are not all at hand
    experts: list[Spec] = [registry.resolve("experts", spec) for spec in asked]
    if not experts:
        return [], {}, []
    named = ", ".join(registry.split(spec)[0] for spec in experts)
    return experts, features, [f"beside the network: {named}" if model.network else f"{named} alone, no network"]


def _used_by_default(found: type[Features], layout: Layout, still: bool) -> bool:
    """Whether features are read off a stream unasked; ``still``: its encoder is frozen."""
    return found.usual if found.reads(layout) else found.encoded and still


def _refuse_trained_features(recipe: Recipe, asked: Sequence[Spec], stream: str, layout: Layout) -> None:
    """Refuse the vectors of an encoder that is trained, or of none."""
    for kind, _ in map(registry.split, asked):
        found = registry.find("features", kind)
        if found.reads(layout) or not found.encoded:
            continue
        if not recipe.model.network:
            raise ConfigError(f"features {kind!r} of {stream!r} are of an encoder, and there is no network")
        if stream not in frozen_streams(recipe.model.surgery, [stream], stored=False):
            raise ConfigError(
                f"features {kind!r} of {stream!r}: its encoder is trained, so that its vectors tell the targets of the "
                "training rows, and experts would believe them",
                fix=f"freeze it (model.surgery: [{{kind: freeze, streams: [{stream}]}}]), or leave them out",
            )


def tasks_of(model: ModelSpec, schema: Schema) -> list[TaskSpec]:
    """The tasks of a recipe in the order of their targets, and for targets that no task names the one usual for such a
    column; then those without a target."""
    told = [task_spec(name, spec) for name, spec in model.tasks.items()]
    known = {column.name for column in schema.targets}
    for task in told:
        for name in task.targets:
            if name not in known:
                raise ConfigError(f"model.tasks: no target named {name!r}{nearest(name, sorted(known))}")
    found: list[TaskSpec] = []
    for column in schema.targets:
        mine = [task for task in told if column.name in task.targets]
        if not mine:
            if column.reader.task is None:
                raise ConfigError("no task is known for such a column", column=column.name, fix="name one: model.tasks")
            mine = [TaskSpec(column.name, {"kind": column.reader.task}, (column.name,), ())]
        found += [task for task in mine if task not in found]
    return found + [task for task in told if not task.targets]


def _target_names(targets: Sequence[str]) -> str | list[str] | None:
    """Target columns as a recipe writes them."""
    return None if not targets else targets[0] if len(targets) == 1 else list(targets)


def with_encoder_columns(recipe: Recipe, schema: Schema) -> tuple[Schema, list[str]]:
    """The columns as pretrained encoders want them, and what was asked, in words. What the user said of a column stays."""
    specs, said = schema.specs(), []
    _check_names("encoders", recipe.model.encoders, schema.streams)
    for surgery in recipe.model.surgery:
        registry.build("surgery", surgery)  # a mistake is told before anything is read
        _check_names(
            "surgery", dict.fromkeys(registry.resolve("surgery", surgery).get("streams") or (), ""), schema.streams
        )
    for stream, given in recipe.model.encoders.items():
        kind, options = registry.split(given)
        wanted = registry.find("encoders", kind).wants(options)
        if not wanted:
            continue
        column = schema.streams[stream][0]
        told = recipe.columns.get(column.name, {})
        settled = {"kind", "role"} | (set() if isinstance(told, str) else set(told))
        if wanted.get("kind", column.spec["kind"]) != column.spec["kind"]:
            raise ConfigError(
                f"encoder {kind!r} reads {wanted['kind']}, and this column is {column.spec['kind']}",
                column=column.name,
                fix=f"{quoting.as_kind(column.name, wanted['kind'])}, or another checkpoint",
            )
        asked = {name: value for name, value in wanted.items() if name not in settled}
        specs[column.name] |= asked
        said.append(f"{stream}: as its encoder wants, {', '.join(f'{k} {v}' for k, v in asked.items())}")
    for stream in frozen_streams(recipe.model.surgery, schema.streams):
        column = schema.streams[stream][0]
        told = recipe.columns.get(column.name, {})
        if "augment" in specs[column.name] and (isinstance(told, str) or "augment" not in told):
            specs[column.name]["augment"] = "none"
            said.append(f"{stream}: its encoder is frozen and runs once a row, so the column is not augmented")
    return (Schema.declare({c.name: specs[c.name] for c in schema.columns.values()}) if said else schema), said


def surgery_for(surgery: Sequence[Spec], streams: Collection[str]) -> list[Spec]:
    """Of the changes to a model those that concern some of its streams."""
    found: list[Spec] = []
    for spec in surgery:
        full = registry.resolve("surgery", spec)
        if full.get("streams") is not None:
            full["streams"] = [stream for stream in full["streams"] if stream in streams]
            if not full["streams"]:
                continue
        found.append(full)
    return found


def frozen_streams(surgery: Sequence[Spec], streams: Iterable[str], *, stored: bool = True) -> list[str]:
    """The streams whose encoders are wholly frozen, and whose outputs are to be stored, if that is asked for."""
    found: dict[str, None] = {}
    for spec in surgery:
        full = registry.resolve("surgery", spec)
        if full["kind"] == "freeze" and (full["store"] or not stored) and full["unfreeze"] == 0:
            found |= dict.fromkeys(streams if full["streams"] is None else full["streams"])
        elif full["kind"] == "lora":
            for stream in list(found) if full["streams"] is None else full["streams"]:
                found.pop(stream, None)
    return [stream for stream in found if stream in set(streams)]


def _size(rows: int) -> Size:
    return "small" if rows < 20_000 else "base"


def _batch_size(rows: int) -> int:
    """Small tables need many steps, large ones steady gradients."""
    return 16 if rows < 300 else 32 if rows < 5_000 else 64 if rows < 50_000 else 128


def _epochs(rows: int, batch: int) -> int:
    """About 2,400 steps for small tables, more with the rows; 4 to 60 passes, up to 150 over a few hundred rows."""
    # Digit pictures, 20 passes and 60 (one seed): convnet 0.978 and 0.982, vit 0.936 and 0.971. The best epoch is kept.
    steps = 2_400 * max(1.0, min(rows, 5_000) / 2_000) * max(1.0, math.sqrt(rows / 5_000))
    most = 150 if rows <= 300 else 60
    return max(4, min(most, round(steps * batch / max(rows, 1))))


def _patience(epochs: int, schema: Schema, experts: bool) -> int:
    """A third of the epochs; 8 to 12 for texts and tables, which are overfitted early, with experts beside the network."""
    early = experts and all(isinstance(schema.layout(stream), Ids | Row) for stream in schema.streams)
    return max(8, min(12, epochs // 6) if early else epochs // 3)


def _encoder(layout: Layout, rows: int) -> Spec:
    if isinstance(layout, Ids):
        if rows >= 20 * layout.vocabulary:
            # Few words, seen often (questions, commands): each is worth reading exactly, and none needs guarding against.
            # easy_vqa stays at 0.86 with what free text has, and reaches 0.987 ± 0.018 with this.
            return {"kind": "bag_of_words", "norm": True, "drop": 0.0, "dropout": 0.0}
        # Word order only pays where there are rows enough to learn it from; below that, bags of word groups win. `tfidf` is
        # as good on free text (clothing, 3 folds of the training rows: AUROC 0.904 against 0.907) and takes longer.
        return "bag_of_words" if rows < 20_000 else "transformer"
    if isinstance(layout, Grid):
        if math.prod(layout.size) == 1:
            return "vector"
        # Digit pictures 0.978 ± 0.001 (vgg 0.978, resnet 0.974, mobilenet 0.966, shufflenet 0.957, vit 0.936), signs 0.949
        # (vgg 0.956, resnet 0.893), log-mel sounds 0.978 (recurrent 0.984 at five times the cost), series 0.992 and 0.971
        # (recurrent 0.975 and 0.982): the best, or near it and the cheapest (docs/results.md, "Encoders, sense by sense").
        return "frames" if len(layout.size) == 3 else "convnet"
    # Attention over cells learns from few rows; a perceptron over all of them at once needs many: macro F1 on petfinder's
    # table 0.24 against 0.16.
    if isinstance(layout, Row) and rows < 20_000:
        return WIDE_ENCODER if _wide(layout) else "cells"
    return layout.encoder


def _wide(layout: Row) -> bool:
    return len(layout.cardinalities) > WIDE


def _shallow_encoder(layout: Layout, rows: int) -> Spec:
    """Tokens before much is made of them: patches, words or cells, and one block of attention among them."""
    for kind, reads in (("patch", Grid), ("transformer", Ids), ("cells", Row)):
        if isinstance(layout, reads) and not (isinstance(layout, Row) and _wide(layout)):
            return {"kind": kind, "depth": 1}
    return _encoder(layout, rows)


def _adapter(encoder: Spec) -> Spec:
    # What tells texts apart is how far they lie along a few directions: made equally long, they tell less and noise more.
    return {"kind": "linear", "norm": False, "dropout": 0.3} if registry.split(encoder)[0] == "tfidf" else "linear"


def _fusion(streams: int, rows: int, mergeable: bool) -> Spec:
    """``mergeable``: whether several answers of every task can be made one, as late fusion does."""
    if streams == 1:
        return "single"
    return FEW_FUSION if rows < FEW_FUSION_ROWS and mergeable else FUSION


def _sized(family: str, spec: Spec, preset: Mapping[str, int]) -> dict[str, Any]:
    return registry.resolve(family, _with_sizes(family, spec, preset))


def _with_sizes(family: str, spec: Spec, preset: Mapping[str, int]) -> dict[str, Any]:
    """The specification with what the model's size says of it, unless it is given; so are the fusions that it holds."""
    kind, given = registry.split(spec)
    known = registry.options(family, kind).model_fields
    sizes = {name: value for name, value in preset.items() if name in known}
    for name in ("fusion", "groups") if family == "fusions" else ():
        if name in known and name in given:
            given[name] = _nested_sizes(given[name], preset)
    return {"kind": kind, **sizes, **given}


def _nested_sizes(part: Any, preset: Mapping[str, int]) -> Any:
    """A fusion within a fusion, or several by name; what is neither is left to be refused."""
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


def _completed(family: str, spec: dict[str, Any], *given: Any) -> dict[str, Any]:
    """With all written out that lies elsewhere."""
    options = {name: value for name, value in spec.items() if name != "kind"}
    return registry.resolve(
        family, {"kind": spec["kind"], **registry.find(family, spec["kind"]).completed(options, *given)}
    )


def _check_names(section: str, given: Mapping[str, Spec], names: Mapping[str, Any]) -> None:
    for name in given:
        if name not in names:
            what = "target" if section == "tasks" else "stream"
            raise ConfigError(f"model.{section}: no {what} named {name!r}{nearest(name, names)}")
