"""Training epochs under Lightning: trainer, processes, checkpoints, and the weights of the best epoch."""

from __future__ import annotations

import logging
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from math import inf, isfinite
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from sensorium.artifact import Artifact
from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.shards.prefetch import PrefetchedBatches
from sensorium.model import Model, network_of
from sensorium.reporting.cell_problems import print_problems
from sensorium.reporting.console import Console, span
from sensorium.training import fsdp
from sensorium.training.callbacks import Checkpoint, KeepBest, Logs, Progress, ReportProgress, TellNotes
from sensorium.training.compilation import compiled_for_training
from sensorium.training.existing_processes import ExistingProcesses
from sensorium.training.lightning_module import Record, TrainingModule
from sensorium.training.process_group import SINGLE_PROCESS, ProcessGroup
from sensorium.training.resume import Resume, run_description
from sensorium.training.shard_source import ShardSource
from sensorium.training.shard_training import shard_identity
from sensorium.training.weight_averaging import Average


def train_epochs(
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
    """Train ``model`` and ``objectives``; return the scores per epoch and the best epoch.

    Args:
        plan: The resolved recipe.
        schema: The fitted columns.
        model: The model; gets the weights of the best epoch.
        objectives: The objectives, likewise.
        rows: Encoded training rows.
        valid: Encoded validation rows.
        out: Folder for logs and checkpoints; None writes nothing.
        resume: Whether to continue from the checkpoint in ``out``.
        console: Where progress is printed.
        processes: The processes that train together.
        stream: Shards that training batches come from, if not from ``rows``.
        last: Whether the last epoch is kept instead of the best.
    """
    spec = plan.training
    count = len(rows) if stream is None else stream.rows
    if processes.several and count < 2 * processes.count:
        raise ConfigError(f"{count} training rows are too few for {processes.count} processes", fix="use one process")
    if processes.several and spec.compile:
        raise ConfigError("training.compile works in one process only", fix="leave it out, or use one process")
    if stream is not None and spec.bucket > 1:
        raise ConfigError("training.bucket needs a table in memory", fix="leave it out, or leave out --stream")
    if spec.strategy == "fsdp" and not processes.several:
        raise ConfigError("training.strategy fsdp needs several processes", fix="training.devices=2 or more, or ddp")
    if spec.strategy == "fsdp" and any(True for task in model.tasks.values() for _ in task.pretrained):
        raise ConfigError(
            "training.strategy fsdp cannot shard a language model whose weights are all trained",
            fix="training.strategy=ddp, or --tuning lora",
        )
    # A sharded model stays sharded: at the end its weights are loaded into the unsharded one.
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
        # Losses of networks trained alternately against each other do not rank epochs.
        better = _latest if last or any(task.plain.turns for task in model.tasks.values()) else _criterion(plan, model)
        return _fit_with_lightning(
            plan, schema, model, objectives, module, out, resume, console, shard_identity(stream), better
        )


@contextmanager
def _stream_batches(
    stream: ShardSource | None, schema: Schema, plan: Recipe, processes: ProcessGroup, console: Console
) -> Iterator[PrefetchedBatches | None]:
    """Return the batches of a stream during training; unusable cells are reported at the end."""
    if stream is None:
        yield None
        return
    flow = stream.flow(schema, plan, processes)
    try:
        yield flow
    finally:
        flow.close()
    print_problems(console, flow.problems)


def _fit_with_lightning(
    plan: Recipe,
    schema: Schema,
    model: Model,
    objectives: list[Any],
    module: TrainingModule,
    out: Path | None,
    resume: bool,
    console: Console,
    source: str,
    better: Callable[[Record], tuple[float, ...]],
) -> tuple[list[Record], int]:
    """Train with Lightning and load the best weights into ``model``; return the scores per epoch and the best epoch.

    ``source`` identifies the shards of a stream.
    """
    spec, processes = plan.training, module.processes
    best = KeepBest(better, spec.patience or 1)
    callbacks: list[pl.Callback] = [
        best,
        *([Average(spec.average)] if spec.average else []),
        ReportProgress(_progress_printer(model, best, console)),
        TellNotes(console.note),
    ]
    start = None
    if out is not None:
        kept = Resume(out, run_description(plan, schema, module.rows, module.valid, processes.count, source))
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
                # Where the last epoch is kept regardless of scores, only that one is validated.
                check_val_every_n_epoch=spec.epochs if better is _latest else 1,
                reload_dataloaders_every_n_epochs=1,
                default_root_dir=str(out) if out is not None else None,
            )
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(f"training.accelerator or training.precision do not fit this machine: {error}") from None
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, ckpt_path=start, weights_only=True if start is not None else None)
        except SystemExit:
            # Lightning turns Ctrl-C into an exit and ignores the next one; restore the handler for the caller.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
    if best.best == (-inf,):
        raise SensoriumError("training diverged: no epoch has a finite loss", fix="lower training.lr")
    load_weights(model, best.weights_under("model"))
    load_weights(nn.ModuleList(objectives), best.weights_under("objectives"))
    model.cpu().eval()
    console.step("training", 1.0, 1.0, f"best in epoch {best.epoch} of {module.history[-1]['epoch']}")
    # A score that is undefined (MASE of series that never change) is left out: JSON has no such number.
    history = [{key: value for key, value in record.items() if math.isfinite(value)} for record in module.history]
    return history, best.epoch


def _strategy(processes: ProcessGroup, kind: str) -> Any:
    """Return the Lightning strategy for these processes."""
    if not processes.several:
        return "auto"
    if kind == "fsdp":
        return fsdp.strategy(processes)
    from lightning.pytorch.strategies import DDPStrategy

    # A process may have no row with some stream, or no term of some objective: unused parameters get zero gradients there.
    # Parameters unused by all are left alone, as in one process. ``TrainingModule`` synchronises the buffers.
    return DDPStrategy(
        cluster_environment=ExistingProcesses(processes), find_unused_parameters=True, broadcast_buffers=False
    )


def _check_same_run(run: str, processes: ProcessGroup) -> str:
    """Return the run's name; refuse processes that disagree on it."""
    if len(set(processes.gather(run))) > 1:
        raise SensoriumError(
            "the processes do not train the same run: their tables, recipes or versions differ",
            fix="give all of them the same command and the same files",
        )
    return run


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the trained ``weights`` of ``module``; frozen weights are not among them and keep their values."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    missing, unexpected = module.load_state_dict(weights, strict=False)
    assert not unexpected, f"unexpected weights: {unexpected[:3]}"
    assert set(missing) <= frozen, f"trained weights are missing: {sorted(set(missing) - frozen)[:3]}"


def _load_finished(out: Path, model: Model, objectives: list[Any], console: Console) -> tuple[list[Record], int]:
    """Load the weights, scores per epoch and best epoch of a run that has already finished."""
    console.note("this run is finished: its model is loaded, not trained again")
    saved = Artifact.load(out)
    model.load_state_dict(network_of(saved.model))
    nn.ModuleList(objectives).load_state_dict(saved.learnt)
    model.eval()
    return [dict(record) for record in saved.report["history"]], int(saved.report.get("best_epoch", 0))


def _criterion(plan: Recipe, model: Model) -> Callable[[Record], tuple[float, ...]]:
    """Return the key that ranks epochs: larger is better."""
    first, task = next(iter(model.tasks.items()))

    def better(record: Record) -> tuple[float, ...]:
        loss = -record["valid_loss"] if isfinite(record["valid_loss"]) else -inf
        if plan.training.select == "loss" or len(model.tasks) > 1 or loss == -inf:
            return (loss,)
        # On few validation rows, epochs often tie in the score: the loss breaks the tie.
        score = record.get(f"valid_{task.headline}_{first}", -inf)
        return (score if task.higher_is_better else -score, loss)

    return better


def _latest(record: Record) -> tuple[float, ...]:
    """Rank epochs by number, so that the last is kept."""
    return (record["epoch"],)


def _progress_printer(model: Model, best: KeepBest, console: Console) -> Callable[[Progress], None]:
    """Return a callback that prints training progress on the console."""
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
    """Silence Lightning's banners and advice; errors still come through."""
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
