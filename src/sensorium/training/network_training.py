"""From a resolved recipe and encoded rows to the best epoch's weights.

Only epochs need Lightning, which takes seconds to import; experts alone do without (``training/lightning_training.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from sensorium.core import registry
from sensorium.core.errors import ConfigError
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.store.store import Store
from sensorium.model import Model, assemble, network_of, operate
from sensorium.reporting.console import Console
from sensorium.training.base_model import adopt_base
from sensorium.training.component_fitting import fit_encoders, fit_tasks, settle_tasks
from sensorium.training.feature_cache import with_stored_outputs
from sensorium.training.process_group import SINGLE_PROCESS, ProcessGroup
from sensorium.training.resume import Resume, run_description
from sensorium.training.shard_source import ShardSource
from sensorium.training.shard_training import shard_identity

if TYPE_CHECKING:
    from sensorium.training.lightning_module import Record


class Run(NamedTuple):
    """The result of a training: the model with its best weights, the scores per epoch, and the state of the objectives."""

    model: Model
    history: list[Record]
    learnt: dict[str, Tensor]
    epoch: int = 0
    """The best epoch, counted from 1; 0 where no network was trained."""


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
    """Train the model of a resolved recipe.

    Args:
        plan: The resolved recipe.
        schema: The fitted columns.
        rows: Encoded training rows; with a ``stream``, a sample of them.
        valid: Encoded validation rows.
        out: Folder for logs and checkpoints; None writes nothing.
        resume: Whether to continue from the checkpoint in ``out``.
        console: Where progress is printed.
        store: The cache, for the outputs of frozen encoders; None runs those encoders in every epoch.
        processes: The processes that train together.
        stream: Shards that training batches come from, if not from ``rows``.
        chosen: A run of the same recipe and rows, for the final fit: training continues from its weights, on the validation
            rows too, and keeps the last epoch, since no rows are left to choose by.

    Raises:
        ConfigError: The recipe's number of processes is not that of ``processes``.
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
            from sensorium.training.lightning_training import load_weights, train_epochs

            if chosen is not None:
                load_weights(model, network_of(chosen.model))
                load_weights(nn.ModuleList(objectives), chosen.learnt)
            if store is not None and stream is None:
                rows, valid = with_stored_outputs(model, schema, plan, (rows, valid), store, objectives, console)
            training_rows = rows.concatenated(valid) if last else rows
            history, epoch = train_epochs(
                plan, schema, model, objectives, training_rows, valid, out, resume, console, processes, stream, last=last
            )
            if not last:
                settle_tasks(model, schema, rows, valid)
            return Run(model, history, nn.ModuleList(objectives).state_dict(), epoch)
    finally:
        torch.set_num_threads(before)


def build(plan: Recipe, schema: Schema, rows: encoded.Rows, console: Console) -> tuple[Model, list[Any]]:
    """Build the untrained model of ``plan`` and its objectives.

    Loads pretrained weights, fits tasks and data-dependent encoders on ``rows`` (columns: ``schema``; notes on
    ``console``), takes over the weights of a base, then applies model surgery.
    """
    model = assemble(plan.model, schema, experts=False)
    for encoder in model.encoders.values():
        encoder.adopt()
    model.fusion.adopt()
    for line in [*fit_tasks(model, schema, rows), *fit_encoders(model, schema, rows)]:
        console.note(f"  {line}")
    adopt_base(model, plan)
    operate(model, plan.model.surgery)
    if plan.training.checkpointing:
        able = [encoder.recompute() for encoder in model.encoders.values()]
        able += [task.recompute() for task in model.tasks.values()]
        if not any(able):
            raise ConfigError("training.checkpointing: no part of the model can recompute activations", fix="leave it out")
    return model, [registry.build("objectives", spec, model) for spec in plan.objectives]
