"""The model: encoders, adapters, one fusion, tasks. It knows no loss, no trainer and no table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from sensorium.core import quoting, registry
from sensorium.core.batch import Batch, Encoded, Field, Ready, padded_size
from sensorium.core.contracts import Adapter, Encoder, Fusion
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.expert import Expert, Features
from sensorium.core.forward import Forward
from sensorium.core.goal import Goal, TaskSpec, task_spec
from sensorium.core.layout import Grid, Layout
from sensorium.core.module_dict import NamedModules
from sensorium.core.plurals import counted
from sensorium.core.recipe import ModelSpec, Spec
from sensorium.core.schema import Schema
from sensorium.core.task import Task
from sensorium.nn.ensemble import Ensemble
from sensorium.nn.gradient_cache import encode_in_chunks


class Model(nn.Module):
    """Reads prepared batches. Every stream may be missing in every row.

    ``gather``: encode only the rows that have a stream (the default); False encodes absent rows too and blanks the result,
    which compile, export and per-row gradients need. Both give the same numbers in evaluation.
    """

    gather: bool = True
    always: bool = False
    """Pass every encoder even where no row has its stream: sharded weights are gathered by all processes or none."""

    chunk_size: int | None = None
    """Rows that are encoded at a time in training, their activations computed again in the backward pass; None: all."""

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        adapters: Mapping[str, Adapter],
        fusion: Fusion,
        tasks: Mapping[str, Task[Any]],
        experts: Ensemble | None = None,
        others: Sequence[Model] = (),
    ) -> None:
        super().__init__()
        self.encoders: NamedModules[Encoder] = NamedModules(encoders)
        self.adapters: NamedModules[Adapter] = NamedModules(adapters)
        self.fusion = fusion
        self.tasks: NamedModules[Task[Any]] = NamedModules(tasks)
        self.experts = experts
        """What answers beside the network in evaluation, or in its place."""
        self.others: Sequence[Model] = cast("Sequence[Model]", nn.ModuleList(others))
        """Further networks of the same recipe, trained on other folds of the rows, with which this one answers together."""
        self.network = bool(encoders)
        """Whether there is a network; without one every stream is heard by experts alone."""
        self.streams = tuple(encoders) or fusion.streams

    def train(self, mode: bool = True) -> Self:
        """As of any module; but what is frozen stays in evaluation: its dropout off, its statistics still."""
        super().train(mode)
        if mode:
            for module in self.modules():
                parameters = list(module.parameters())
                if parameters and not any(parameter.requires_grad for parameter in parameters):
                    nn.Module.train(module, False)
        return self

    def encode(self, batch: Batch, least: int | None = None) -> dict[str, Encoded]:
        """Every stream of ``batch`` at the model's width, before fusion.

        ``least``: an encoder receives ``padded_size(n, least)`` rows, the n that have its stream and absent ones, unless
        all rows have it; None: only the rows that have it.
        """
        return {s: self.encode_stream(s, batch.inputs[s], least) for s in self.streams}

    def encode_stream(self, stream: str, field: Field, least: int | None = None) -> Encoded:
        """``field`` of ``stream`` at the model's width, with ``least`` as in ``encode``; without a network, only its
        presence."""
        if not self.network:
            nothing = torch.zeros(len(field.present), 1, self.fusion.dim, device=field.present.device)
            return Encoded(nothing, field.present.unsqueeze(1), nothing[:, 0], field.present)
        encoder, adapter = self.encoders[stream], self.adapters[stream]

        def encode(part: Field) -> Encoded:
            return cast(Encoded, adapter(self._encoded(encoder, part, least)))

        size, learning = self.chunk_size, self.training and torch.is_grad_enabled() and not isinstance(field, Ready)
        if size is not None and learning and len(field.present) > size:
            return encode_in_chunks(encode, field, size, nn.ModuleList([encoder, adapter]))
        return encode(field)

    def _encoded(self, encoder: Encoder, field: Field, least: int | None) -> Encoded:
        if isinstance(field, Ready):
            return field.encoded
        rows, present = field.present.shape[0], field.present
        if not self.gather:
            part: Encoded = encoder(field.data, field.mask)
            return part.hide(present)
        index = field.rows
        if index.numel() == rows:
            whole: Encoded = encoder(field.data, field.mask)
            return whole
        if index.numel() == 0 and self.always and rows:
            return _unheard(encoder, field).hide(present)
        if least is not None:
            index = present.logical_not().argsort(stable=True)[: padded_size(index.numel(), least)]
        if index.numel() == 0:
            nothing = torch.zeros(rows, 1, encoder.dim, device=present.device)
            levels = encoder.levels if encoder.gives_pyramid else ()
            maps = [nothing.new_zeros(rows, level.channels, *level.size(field.data.shape[2:])) for level in levels]
            return Encoded(nothing, torch.zeros_like(present)[:, None], nothing[:, 0], present, pyramid=tuple(maps))
        mask = None if field.mask is None else field.mask[index]
        encoded: Encoded = encoder(field.data[index], mask)
        spread: Encoded = encoded.spread(index, rows)
        return spread if least is None else spread.hide(present)

    def answer(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> dict[str, Any]:
        """The output of every task for ``fused``, the ``streams`` and ``prompts``."""
        return {name: task(fused, streams, prompts) for name, task in self.tasks.items()}

    def forward(self, batch: Batch) -> dict[str, Any]:
        return Forward(self, batch).outputs


def network_of(model: Model) -> dict[str, Tensor]:
    """The fitted state of ``model``'s network, without the experts."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("experts.")}


def _unheard(encoder: Encoder, field: Field) -> Encoded:
    """What an encoder says of rows without the stream, which no statistics are taken of."""
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    try:
        part: Encoded = encoder(field.data, field.mask)
        return part
    finally:
        for module in training:
            module.training = True


def assemble(spec: ModelSpec, schema: Schema, *, experts: bool = True) -> Model:
    """The model of a resolved ``spec`` for ``schema``. A component that cannot read its input is named in the error.

    ``experts``: include experts and further networks; left out while one network is trained.
    """
    if spec.dim is None or spec.fusion is None:
        raise ConfigError("the model is not resolved", fix="fit resolves it; a saved recipe is resolved")
    encoders: dict[str, Encoder] = {}
    adapters: dict[str, Adapter] = {}
    for stream in schema.streams if spec.network else ():
        layout, part = schema.layout(stream), spec.encoders[stream]
        kind, _ = registry.split(part)
        reads = registry.find("encoders", kind).reads
        if not isinstance(layout, reads):
            fits = [k for k in registry.kinds("encoders") if isinstance(layout, registry.find("encoders", k).reads)]
            raise ConfigError(
                f"encoder {kind!r} cannot read stream {stream!r}, which is {layout}", fix=f"one of: {', '.join(fits)}"
            )
        try:
            encoders[stream] = registry.build("encoders", part, layout)
        except ConfigError as error:
            raise ConfigError(f"stream {stream!r}: {error.problem}", fix=error.fix) from None
        adapters[stream] = registry.build("adapters", spec.adapters[stream], encoders[stream].dim, spec.dim)
    fusion: Fusion = registry.build("fusions", spec.fusion, list(schema.streams), spec.dim)
    layouts = {stream: schema.layout(stream) for stream in schema.streams}
    tasks: dict[str, Task[Any]] = {}
    for name, task_options in spec.tasks.items():
        task = task_spec(name, task_options)
        goal = replace(goal_of(task, schema, layouts), levels={s: e.levels for s, e in encoders.items()})
        tasks[name] = fusion.answering(partial(registry.build, "tasks", task.spec, goal, spec.dim))
        for stream in tasks[name].pyramids:
            if not encoders[stream].levels:
                kind, _ = registry.split(spec.encoders[stream])
                raise ConfigError(
                    f"task {name!r} reads feature maps of {stream!r}, and its encoder {kind!r} has none",
                    fix=f"model.encoders.{stream}=convnet",
                )
            encoders[stream].gives_pyramid = True
    if not experts:
        return Model(encoders, adapters, fusion, tasks)
    others = [assemble(spec, schema, experts=False) for _ in range(1, spec.networks if spec.network else 1)]
    return Model(encoders, adapters, fusion, tasks, experts_of(spec, schema, tasks, encoders), others)


def experts_of(
    spec: ModelSpec, schema: Schema, tasks: Mapping[str, Task[Any]], encoders: Mapping[str, Encoder]
) -> Ensemble | None:
    """The experts of a resolved ``spec`` for ``schema`` and ``tasks``, not fitted yet; None if there are none.

    ``encoders``: the network's, by stream; empty without a network. Features may read the vectors of frozen ones.
    """
    if not spec.experts:
        if not spec.network:
            raise ConfigError("a model without a network needs experts", fix="model.experts=[linear]")
        return None
    features: dict[str, dict[str, Features]] = {}
    needed: dict[str, Encoder] = {}
    for stream, parts in (spec.features or {}).items():
        layout = schema.layout(stream)
        for part in parts:
            kind, _ = registry.split(part)
            feature_class = registry.find("features", kind)
            if not feature_class.reads(layout) and feature_class.encoded and stream in encoders:
                needed[stream] = encoders[stream]
                vector = Grid(encoders[stream].dim, (1,))
                features.setdefault(stream, {})[kind] = registry.build("features", part, vector)
                continue
            if not feature_class.reads(layout):
                fits = [k for k in registry.kinds("features") if registry.find("features", k).reads(layout)]
                raise ConfigError(
                    f"features {kind!r} cannot read stream {stream!r}, which is {layout}",
                    fix=f"one of: {', '.join(fits)}" if fits else f"model.features.{stream}=[]",
                )
            features.setdefault(stream, {})[kind] = registry.build("features", part, layout)
    heard = [stream for stream in schema.streams if stream in features]
    experts: dict[str, dict[str, Expert]] = {}
    for name, task in tasks.items():
        response = task.plain.response
        for part in spec.experts if heard else ():
            kind, _ = registry.split(part)
            if response is not None and response.kind in registry.find("experts", kind).answers:
                experts.setdefault(name, {})[kind] = registry.build("experts", part, response, heard)
    if not spec.network and set(experts) != set(tasks):
        silent = ", ".join(name for name in tasks if name not in experts)
        raise ConfigError(f"no expert answers {silent}, and there is no network", fix="model.network=true")
    if not experts:
        return None
    return Ensemble(tuple(schema.streams), features, experts, network=spec.network, encoders=needed)


def goal_of(task: TaskSpec, schema: Schema, layouts: Mapping[str, Layout]) -> Goal:
    """The goal of ``task`` in a recipe, for ``schema`` and the ``layouts`` of its streams. Raises ``ConfigError`` for
    columns that are absent or unsuitable."""
    kind, _ = registry.split(task.spec)
    task_class = registry.find("tasks", kind)
    targets = {column.name: column for column in schema.targets}
    prompts = {column.name: column for column in schema.prompts}
    for names, known, role in ((task.targets, targets, "target"), (task.prompts, prompts, "prompt")):
        for name in names:
            if name not in known:
                problem = f"task {task.name!r}: no {role} column named {name!r}{nearest(name, list(known))}"
                raise ConfigError(problem, fix=f"columns: {{{name}: {{role: {role}}}}}")
    if bool(task.targets) != bool(task_class.predicts):
        if task.targets:
            raise ConfigError(f"task {task.name!r}: {kind} answers no column", fix="target: null")
        raise ConfigError(
            f"task {task.name!r}: {kind} needs a target", fix=f"a column of {' or '.join(task_class.predicts)}"
        )
    wanted = len(task_class.parts) or 1
    if task.targets and len(task.targets) != wanted and task_class.gathers is None:
        parts = task_class.parts
        named = " ".join(f"--{part} COLUMN" for part in parts)
        raise ConfigError(
            f"task {task.name!r}: {kind} answers {', '.join(parts) or 'one column'}, "
            f"but the target names {counted(len(task.targets), 'column')}",
            fix=f"{named}, or target: [{', '.join(parts)}] with your columns" if parts else "one task a column",
        )
    for name in task.targets:
        column = targets[name]
        if column.spec["kind"] not in task_class.predicts:
            raise ConfigError(
                f"task {kind!r} predicts {' or '.join(task_class.predicts)}, and this column is {column.spec['kind']}",
                column=column.name,
                fix=f"{quoting.as_kind(column.name, task_class.predicts[0])}, or another task{_or_windows(task_class)}",
            )
    return Goal(
        task.name,
        {name: targets[name].reader for name in task.targets},
        {name: prompts[name].reader for name in task.prompts},
        layouts,
        {},
        {name: str(targets[name].on) for name in task.targets if targets[name].on is not None},
        {name: schema.columns[str(on)].reader for name in task.targets if (on := targets[name].on) is not None},
        {stream: {column.name: column.reader for column in columns} for stream, columns in schema.streams.items()},
    )


def _or_windows(task_class: type[Task[Any]]) -> str:
    """The alternative reading of a table: windows of a long table."""
    return "" if task_class.on_windows(1, ()) is None else "; of a long table, a row for each moment: --horizon STEPS"


def operate(model: Model, surgery: Sequence[Spec]) -> Model:
    """``model`` after every ``surgery`` of a recipe, applied to each of its networks; in place."""
    for network in (model, *model.others):
        for spec in surgery:
            registry.build("surgery", spec).apply(network)
    return model.train(model.training)  # what is frozen by now goes over to evaluation
