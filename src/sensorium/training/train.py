"""The training itself: a model of a resolved recipe, under Lightning, from encoded rows to the best epoch's weights."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from math import inf, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from sensorium.artifact import Artifact
from sensorium.core import registry
from sensorium.core.batch import Encoded, Field, joined
from sensorium.core.contracts import Encoder, Seen
from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.core.forward import Forward
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.loader import Loader
from sensorium.data.shards.prefetch import Flow
from sensorium.data.store.store import Store
from sensorium.model import Model, assemble, network_of, operate
from sensorium.reporting.cell_problems import say_problems
from sensorium.reporting.console import Console, span
from sensorium.training import fsdp
from sensorium.training.callbacks import Checkpoint, KeepBest, Logs, Progress, ReportProgress
from sensorium.training.compilation import compiled_for_training
from sensorium.training.feature_cache import with_stored_outputs
from sensorium.training.lightning_module import Record, TrainingModule
from sensorium.training.process_group import SINGLE_PROCESS, ExistingProcesses, ProcessGroup
from sensorium.training.resume import Resume, run_description
from sensorium.training.shard_source import ShardSource
from sensorium.training.shard_training import shard_identity
from sensorium.training.weight_averaging import Average


class Run(NamedTuple):
    """A training that came to its end: the model with its best epoch's weights, the scores by epoch, and what the
    objectives learnt until then."""

    model: Model
    history: list[Record]
    learnt: dict[str, Tensor]
    epoch: int = 0
    """The best one, counted from 1; 0 where no network was trained."""


def train(
    plan: Recipe,
    schema: Schema,
    rows: encoded.Rows,
    valid: encoded.Rows,
    out: Path | None,
    resume: bool,
    console: Console,
    store: Store | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
    stream: ShardSource | None = None,
    chosen: Run | None = None,
) -> Run:
    """The training of a resolved recipe.

    Args:
        stream: Where training batches come from, if not from ``rows``, which then are some of them.
        chosen: A run of the same recipe and rows. Training goes on from its weights, on the validation rows too, and keeps
            the last epoch's: there is nothing left to choose by.
    """
    last = chosen is not None
    if plan.training.devices * plan.training.nodes != processes.count:
        raise ConfigError("only fit trains in several processes", fix="leave out training.devices and training.nodes")
    before = torch.get_num_threads()
    if plan.training.threads is not None:
        torch.set_num_threads(plan.training.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            model, objectives = build(plan, schema, rows, console)
            if not model.network:
                if out is not None and processes.first:
                    kept = Resume(out, run_description(plan, schema, rows, valid, processes.count, shard_identity(stream)))
                    if not (resume and kept.is_finished()):
                        kept.begin(resume, console)
                return Run(model.eval(), [], {})
            if chosen is not None:
                _load_weights(model, network_of(chosen.model))
                _load_weights(nn.ModuleList(objectives), chosen.learnt)
            if store is not None and stream is None:
                rows, valid = with_stored_outputs(model, schema, plan, (rows, valid), store, objectives, console)
            learnt_from = rows.followed(valid) if last else rows
            history, epoch = _run(
                plan, schema, model, objectives, learnt_from, valid, out, resume, console, processes, stream, last=last
            )
            if not last:
                settle_tasks(model, schema, rows, valid)
            return Run(model, history, nn.ModuleList(objectives).state_dict(), epoch)
    finally:
        torch.set_num_threads(before)


def build(plan: Recipe, schema: Schema, rows: encoded.Rows, console: Console) -> tuple[Model, list[Any]]:
    """The model as training finds it, what is learnt before training in it, and what training minimises."""
    model = assemble(plan.model, schema, experts=False)
    for encoder in model.encoders.values():
        encoder.adopt()
    model.fusion.adopt()
    for task in model.tasks.values():
        task.fit(encoded.fields(schema, rows, task))
    for line in fit_encoders(model, schema, rows):
        console.note(f"  {line}")
    operate(model, plan.model.surgery)
    return model, [registry.build("objectives", spec, model) for spec in plan.objectives]


def _run(
    plan: Recipe,
    schema: Schema,
    model: Model,
    objectives: list[Any],
    rows: encoded.Rows,
    valid: encoded.Rows,
    out: Path | None,
    resume: bool,
    console: Console,
    processes: ProcessGroup = SINGLE_PROCESS,
    stream: ShardSource | None = None,
    *,
    last: bool = False,
) -> tuple[list[Record], int]:
    spec = plan.training
    count = len(rows) if stream is None else stream.rows
    if processes.several and count < 2 * processes.count:
        raise ConfigError(f"{count} training rows are too few for {processes.count} processes", fix="train in one")
    if processes.several and spec.compile:
        raise ConfigError("training.compile trains in one process", fix="leave it out, or train in one")
    if stream is not None and spec.bucket > 1:
        raise ConfigError("training.bucket puts rows of a table together", fix="leave it out, or --stream")
    if spec.strategy == "fsdp" and not processes.several:
        raise ConfigError("training.strategy fsdp parts a model over processes", fix="training.devices=2 or more, or ddp")
    # A parted model stays parted: its weights are put into the whole one in the end.
    parts = (model, objectives)
    trained, trained_objectives = deepcopy(parts) if spec.strategy == "fsdp" else parts
    with _stream_batches(stream, schema, plan, processes, console) as flow:
        steps = 0 if stream is None else stream.steps(plan, processes)
        module = TrainingModule(
            trained,
            trained_objectives,
            schema,
            spec,
            rows=rows,
            valid=valid,
            seed=plan.seed,
            processes=processes,
            flow=flow,
            steps=steps,
        )
        better = _latest if last else _criterion(plan, model)
        return _fit_with_lightning(
            plan, schema, model, objectives, module, out, resume, console, shard_identity(stream), better
        )


@contextmanager
def _stream_batches(
    stream: ShardSource | None, schema: Schema, plan: Recipe, processes: ProcessGroup, console: Console
) -> Iterator[Flow | None]:
    """The batches of a stream, while training lasts; in the end what could not be used of it is said."""
    if stream is None:
        yield None
        return
    flow = stream.flow(schema, plan, processes)
    try:
        yield flow
    finally:
        flow.close()
    say_problems(console, flow.problems)


def _fit_with_lightning(
    plan: Recipe,
    schema: Schema,
    model: Model,
    objectives: list[Any],
    module: TrainingModule,
    out: Path | None,
    resume: bool,
    console: Console,
    of: str,
    better: Callable[[Record], tuple[float, ...]],
) -> tuple[list[Record], int]:
    """Trained under Lightning, the best weights in ``model``: the scores by epoch, and which was best. ``of`` is what else
    makes it this very run."""
    spec, processes = plan.training, module.processes
    best = KeepBest(better, spec.patience or 1)
    callbacks: list[pl.Callback] = [
        best,
        *([Average(spec.average)] if spec.average else []),
        ReportProgress(_progress_printer(model, best, console)),
    ]
    start = None
    if out is not None:
        kept = Resume(out, run_description(plan, schema, module.rows, module.valid, processes.count, of))
        _check_same_run(kept.run, processes)
        if processes.broadcast(resume and kept.is_finished()):
            return _load_finished(out, model, objectives, console)
        start = kept.checkpoint if processes.broadcast(processes.first and kept.begin(resume, console)) else None
        if processes.first:
            callbacks.append(Logs(out / "logs", tensorboard=find_spec("tensorboard") is not None))
        callbacks.append(Checkpoint(kept.checkpoint, spec.checkpoint_every, processes=processes))
    with _quiet_lightning(), compiled_for_training(model, spec):
        try:
            trainer = pl.Trainer(
                max_epochs=spec.epochs,
                accelerator=spec.accelerator,
                devices=processes.count // processes.machines,
                num_nodes=processes.machines,
                strategy=_strategy(processes, spec.strategy),
                precision=spec.precision,
                gradient_clip_val=spec.clip,
                callbacks=callbacks,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                # Where the last epoch is kept whatever its scores, none but it is scored.
                check_val_every_n_epoch=spec.epochs if better is _latest else 1,
                reload_dataloaders_every_n_epochs=1,
                default_root_dir=str(out) if out is not None else None,
            )
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(f"training.accelerator or training.precision do not fit this machine: {error}") from None
        heeded = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, ckpt_path=start, weights_only=True if start is not None else None)
        except SystemExit:
            # Lightning turns Ctrl-C into an exit, and is deaf to the next; the caller decides what an interrupt means.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, heeded)
            raise KeyboardInterrupt from None
    if best.best == (-inf,):
        raise SensoriumError("the training diverged: no epoch has a finite loss", fix="lower training.lr")
    _load_weights(model, best.weights_under("model"))
    _load_weights(nn.ModuleList(objectives), best.weights_under("objectives"))
    model.cpu().eval()
    console.step("training", 1.0, 1.0, f"best in epoch {best.epoch} of {module.history[-1]['epoch']}")
    return module.history, best.epoch


def _strategy(processes: ProcessGroup, kind: str) -> Any:
    """How Lightning lets processes train together."""
    if not processes.several:
        return "auto"
    if kind == "fsdp":
        return fsdp.strategy(processes)
    from lightning.pytorch.strategies import DDPStrategy

    # A stream that no row of a process has is not encoded there, an objective may say nothing there: what one process did
    # not use is counted as zero, and what none used is left alone, as in one process. Buffers are kept by ``Lit``.
    return DDPStrategy(
        cluster_environment=ExistingProcesses(processes), find_unused_parameters=True, broadcast_buffers=False
    )


def _check_same_run(run: str, processes: ProcessGroup) -> str:
    """The run's name, which must be the same for all processes."""
    if len(set(processes.gather(run))) > 1:
        raise SensoriumError(
            "the processes do not train the same run: their tables, recipes or versions differ",
            fix="give all of them the same command and the same files",
        )
    return run


def _load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a module what it had learnt; what was frozen it has kept."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected, f"weights of no module: {unexpected[:3]}"
    assert set(missing) <= frozen, f"learnt weights were not kept: {sorted(set(missing) - frozen)[:3]}"


def _load_finished(out: Path, model: Model, objectives: list[Any], console: Console) -> tuple[list[Record], int]:
    """The run came to its end before: its weights, its course and its best epoch, from its folder."""
    console.note("this run is finished: its model is read, not trained again")
    saved = Artifact.load(out)
    model.load_state_dict(network_of(saved.model))
    nn.ModuleList(objectives).load_state_dict(saved.learnt)
    model.eval()
    return [dict(record) for record in saved.report["history"]], int(saved.report.get("best_epoch", 0))


def fit_encoders(model: Model, schema: Schema, rows: encoded.Rows) -> list[str]:
    """Let every encoder that wants to learn from the training rows before training starts; what they say of it."""
    said = []
    for stream, encoder in model.encoders.items():
        if type(encoder).fit is not Encoder.fit:
            encoder.fit(_fields(schema, rows, stream))
            if told := encoder.told():
                said.append(f"{stream}: {told}")
    return said


def _fields(schema: Schema, rows: encoded.Rows, stream: str) -> Iterator[Field]:
    for batch in Loader(rows, 256):
        field = schema.prepare(batch).inputs[stream]
        if bool(field.present.any()):
            yield field.map(partial(_select, keep=field.present))


def _select(tensor: Tensor, keep: Tensor) -> Tensor:
    return tensor[keep]


def settle_tasks(model: Model, schema: Schema, rows: encoded.Rows, valid: encoded.Rows) -> None:
    """Let every task that wants to learn from what the trained network says of the training and the held-out rows."""
    eager = {name: task for name, task in model.tasks.items() if task.settles}
    if not eager:
        return
    seen = [_network_outputs(model, schema, part) for part in (rows, valid)]
    for name, task in eager.items():
        task.settle(*(part[name] for part in seen))


@torch.no_grad()
def _network_outputs(model: Model, schema: Schema, rows: encoded.Rows) -> dict[str, Seen]:
    """What the network makes of every row, by target; vectors only, since tokens of all rows would not fit memory."""

    def vectors(part: Encoded) -> Encoded:
        return Encoded(part.pooled.unsqueeze(1), part.present.unsqueeze(1), part.pooled, part.present)

    found = []
    for batch in Loader(rows, 256):
        run = Forward(model, schema.prepare(batch))
        streams = {name: vectors(part) for name, part in run.streams.items()}
        targets = {name: run.target(name) for name, task in model.tasks.items() if task.settles}
        found.append((vectors(run.fused), streams, targets, run.batch.weight, run.batch.prompts))
    fused, streams, known, weight, prompts = joined(found)
    return {name: Seen(fused, streams, target, weight, prompts) for name, target in known.items()}


def _criterion(plan: Recipe, model: Model) -> Callable[[Record], tuple[float, ...]]:
    """What the best epoch is best in: larger is better."""
    first, task = next(iter(model.tasks.items()))

    def better(record: Record) -> tuple[float, ...]:
        loss = -record["valid_loss"] if isfinite(record["valid_loss"]) else -inf
        if plan.training.select == "loss" or len(model.tasks) > 1 or loss == -inf:
            return (loss,)
        # Small validation parts give the same score again and again: the loss tells such epochs apart.
        score = record.get(f"valid_{task.headline}_{first}", -inf)
        return (score if task.higher_is_better else -score, loss)

    return better


def _latest(record: Record) -> tuple[float, ...]:
    """The last epoch is the best where nothing is left to choose by."""
    return (record["epoch"],)


def _progress_printer(model: Model, best: KeepBest, console: Console) -> Callable[[Progress], None]:
    """Puts the course of training on the console."""
    first, task = next(iter(model.tasks.items()))
    headline = task.headline
    last = ""

    def say(progress: Progress) -> None:
        nonlocal last
        if progress.record is not None:
            score = progress.record.get(f"valid_{headline}_{first}", float("nan"))
            last = f"epoch {progress.epoch}: {headline} {score:.3f}, best in epoch {best.epoch}"
        console.step("training", progress.done, 1.0, f"{span(progress.left)} left  {last}")

    return say


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's greetings and advice are for its own users; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
