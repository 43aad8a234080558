"""The final fit: training continues on training and validation rows together, once nothing is left to choose."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from sensorium.artifact import Artifact
from sensorium.core.plurals import counted
from sensorium.core.recipe import Recipe
from sensorium.nn.ensemble import Ensemble
from sensorium.reporting.console import Console
from sensorium.trained import Trained
from sensorium.training.component_fitting import fit_simple_methods
from sensorium.training.expert_fitting import refit_experts
from sensorium.training.network_training import Run, train
from sensorium.training.resume import LAST

if TYPE_CHECKING:
    from sensorium.training.prepare import PreparedRun

SHARE = 0.25
"""Epochs of the final fit, as a share of the best epoch: it starts from the best epoch's weights."""
RATE = 0.3
"""Peak learning rate of the final fit, as a share of the recipe's."""


def refit_on_all_rows(trained: Trained, ready: PreparedRun, folder: Path | None, resume: bool, console: Console) -> Trained:
    """Return the model after a final fit on training and validation rows.

    The network continues from its best epoch for a quarter as many epochs; experts are refitted with the chosen settings
    and blend weights. The reported scores stay those from before, on rows that the model had not seen.

    Args:
        trained: The trained and scored model.
        ready: The prepared data.
        folder: The run's folder; None writes nothing.
        resume: Whether to continue from the checkpoint of an interrupted final fit.
        console: Where notes are printed.
    """
    before = trained.artifact
    plan, schema = before.recipe, before.schema
    if plan.training.refit == "none" or ready.splits.stream is not None or ready.separate_valid:
        return trained
    if plan.model.networks > 1:
        return trained  # together, networks and experts were already fitted on all rows
    epochs = _network_epochs(plan, trained)
    experts = before.model.experts
    if not epochs and experts is None:
        return trained
    model, learnt = before.model, before.learnt
    if epochs:
        console.note(f"  final fit on all {len(ready.rows) + len(ready.valid):,} rows, {counted(epochs, 'epoch')}")
        assert plan.training.lr is not None, "the recipe is resolved"
        shorter = {"epochs": epochs, "patience": epochs, "lr": RATE * plan.training.lr}
        again_plan = plan.model_copy(update={"training": plan.training.model_copy(update=shorter)})
        out = None if folder is None else folder / "resume" / LAST
        quiet = Console(quiet=True)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        chosen = Run(before.model, [], before.learnt)
        run = train(again_plan, schema, ready.rows, ready.valid, out, resume, quiet, ready.store, chosen=chosen)
        model, learnt = run.model, run.learnt
    all_rows = ready.rows.concatenated(ready.valid)
    if not epochs:
        console.note(f"  final fit of the experts on all {len(all_rows):,} rows")
    if isinstance(experts, Ensemble):
        refit_experts(plan, schema, model, all_rows, experts)
    fit_simple_methods(model, schema, all_rows, Console(quiet=True))
    report = before.report | {"refit": {"rows": len(all_rows), "epochs": epochs}}
    return Trained(Artifact(plan, schema, model, report, learnt), cache=trained.cache)


def _network_epochs(plan: Recipe, trained: Trained) -> int:
    """Return the number of epochs for the network; 0 leaves it as it is."""
    training = plan.training
    several = training.devices * training.nodes > 1
    if training.time_limit is not None:
        return 0  # the time was spent on choosing the epoch; refitting experts takes seconds
    if (
        training.refit != "all"
        or not trained.history
        or several
        or any(t.fits_after_training for t in trained.model.tasks.values())
    ):
        return 0
    return math.ceil(SHARE * trained.best_epoch)
