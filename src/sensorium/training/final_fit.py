"""The last fit: on training and validation rows together, once there is nothing left to choose."""

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
from sensorium.training.expert_fitting import refit_experts
from sensorium.training.resume import LAST
from sensorium.training.train import Run, train

if TYPE_CHECKING:
    from sensorium.training.prepare import PreparedRun

SHARE = 0.25
"""How many of the epochs that were best the network is trained on all rows: it starts from what it had learnt then."""
RATE = 0.3
"""The peak of the learning rate in these, as a share of the recipe's."""


def refit_on_all_rows(trained: Trained, ready: PreparedRun, folder: Path | None, resume: bool, console: Console) -> Trained:
    """A trained model fitted once more, on all rows: the network goes on from its best epoch for a quarter as many, experts
    keep their settings and everything the weights that were chosen. Its scores stay those of the model before, on rows it
    had not seen."""
    before = trained.artifact
    plan, schema = before.recipe, before.schema
    if plan.training.refit == "none" or ready.splits.stream is not None or ready.separate_valid:
        return trained
    if plan.model.networks > 1:
        return trained  # together they have learnt from all rows, and so have experts beside them
    network = _network_epochs(plan, trained)
    experts = before.model.experts
    if not network and experts is None:
        return trained
    model, learnt = before.model, before.learnt
    if network:
        console.note(f"  fitted once more on all {len(ready.rows) + len(ready.valid):,} rows, {counted(network, 'epoch')}")
        assert plan.training.lr is not None, "the recipe is resolved"
        shorter = {"epochs": network, "patience": network, "lr": RATE * plan.training.lr}
        again_plan = plan.model_copy(update={"training": plan.training.model_copy(update=shorter)})
        out = None if folder is None else folder / "resume" / LAST
        quiet = Console(quiet=True)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        chosen = Run(before.model, [], before.learnt)
        run = train(again_plan, schema, ready.rows, ready.valid, out, resume, quiet, ready.store, chosen=chosen)
        model, learnt = run.model, run.learnt
    if isinstance(experts, Ensemble):
        refit_experts(plan, schema, model, ready.rows.followed(ready.valid), experts)
    report = before.report | {"refit": {"rows": len(ready.rows) + len(ready.valid), "epochs": network}}
    return Trained(Artifact(plan, schema, model, report, learnt), cache=trained.cache)


def _network_epochs(plan: Recipe, trained: Trained) -> int:
    """For how many epochs the network is trained on all rows; 0: it is kept as it is."""
    training = plan.training
    several = training.devices * training.nodes > 1
    if training.time_limit is not None:
        return 0  # it was spent on choosing; experts take seconds
    if training.refit != "all" or not trained.history or several or any(t.settles for t in trained.model.tasks.values()):
        return 0
    return math.ceil(SHARE * trained.best_epoch)
