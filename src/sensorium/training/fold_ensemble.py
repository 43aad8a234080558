"""An ensemble of networks of one recipe, each trained with a different fold of the rows held out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.artifact import Artifact
from sensorium.core.errors import ConfigError
from sensorium.core.forward import Forward
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.files.atomic_write import readable_disk_errors
from sensorium.data.splitting import Index
from sensorium.data.splitting import folds as dealt
from sensorium.data.tables.table import Table
from sensorium.model import Model, assemble
from sensorium.nn.ensemble import Ensemble
from sensorium.reporting.console import Console
from sensorium.trained import Trained
from sensorium.training import resume as resumable
from sensorium.training.fold_experts import cross_fit_experts
from sensorium.training.network_training import Run, train
from sensorium.training.resume import MEMBER, Resume, run_description
from sensorium.training.table_splits import TableSplits

if TYPE_CHECKING:
    from sensorium.training.prepare import PreparedRun


@dataclass
class FoldEnsemble:
    """Several networks as one model, and the model of each fold for scoring on the rows that it was not trained on.

    Args:
        trained: All networks together, with experts fitted on all rows.
        models: By fold, one network with experts fitted on the rows it was trained on.
        held: By fold, the held-out rows.
        rows: The held-out rows of all folds, concatenated; ``table`` has the same rows.
    """

    trained: Trained
    models: list[Model]
    held: list[encoded.Rows]
    rows: encoded.Rows
    table: Table

    def passes(self) -> Iterator[Forward]:
        """Yield forward passes over ``rows``, each row by the model that was not trained on it."""
        device = self.trained.predictor.device
        for model, rows in zip(self.models, self.held, strict=True):
            model.to(device).eval()
            for batch in self.trained.batches(rows):
                yield Forward(model, batch)


def why_unsuitable(plan: Recipe, parts: TableSplits, *, separate_valid: bool) -> str | None:
    """Return why the networks of a resolved recipe cannot be trained on these rows, in words; None if they can.

    Args:
        plan: The resolved recipe.
        parts: The tables of the run.
        separate_valid: Whether the user gave a validation table.
    """
    if parts.stream is not None:
        return "the rows of a stream are not all available"
    if plan.training.devices * plan.training.nodes > 1:
        return "several processes train one network only"
    if plan.data.split.kind == "time" and not separate_valid:
        return "rows are split by time, and a fold would be predicted from later rows"
    for name, task in assemble(plan.model, parts.schema, experts=False).tasks.items():
        if not task.plain.mergeable:
            return f"predictions of {name} cannot be averaged"
        if task.fits_after_training or task.plain.fits_after_training:
            return f"{name} learns from the validation rows after its network is trained"
    try:
        fold_indices(plan, parts, separate_valid=separate_valid)
    except ConfigError as error:
        return error.problem
    return None


def fold_indices(plan: Recipe, parts: TableSplits, *, separate_valid: bool) -> list[tuple[Index, Index]]:
    """Return, for each network, the training and the held-out row numbers.

    Rows are the training and validation rows, concatenated. Groups stay whole, classes are stratified.

    Args:
        plan: The resolved recipe.
        parts: The tables of the run.
        separate_valid: Whether the user gave a validation table, whose rows are then left out.
    """
    table = parts.training if separate_valid else parts.training.concatenated(parts.held_out)
    spec, first = plan.data.split, next((column.source for column in parts.schema.targets), None)
    kind, by = ("group", spec.by) if spec.kind == "group" else ("random", None)
    return dealt(table, plan.model.networks, kind=kind, target=first, by=by, seed=plan.seed)  # type: ignore[arg-type]


def train_folds(
    ready: PreparedRun,
    plan: Recipe,
    folder: Path | None,
    console: Console,
    *,
    resume: bool,
    seconds: float | None,
    searched: bool = False,
) -> FoldEnsemble | None:
    """Train the networks of a resolved recipe and the experts beside them; None if this run has already finished.

    Args:
        ready: The prepared data.
        plan: The resolved recipe.
        folder: The run's folder; None writes nothing.
        console: Where progress is printed.
        resume: Whether to continue an interrupted run.
        seconds: Time limit of each network.
        searched: Whether the recipe was chosen by a search: networks of another recipe in the folder are then replaced.
    """
    schema = ready.schema
    if folder is not None and not searched:
        state = Resume(folder, run_description(plan, schema, ready.rows, ready.valid))
        if resume and state.is_finished():
            return None
        if resume and not state.is_same_run():
            problem = "the networks belong to another run: its recipe or its rows differ"
            raise ConfigError(problem, file=state.run_file, fix=resumable.RESTART)
        if not resume:
            resumable.remove_inner_runs(folder)
        state.begin(resume, Console(quiet=True))
    all_rows = ready.rows if ready.separate_valid else ready.rows.concatenated(ready.valid)
    table = ready.splits.training if ready.separate_valid else ready.splits.training.concatenated(ready.splits.held_out)
    folds = fold_indices(plan, ready.splits, separate_valid=ready.separate_valid)
    parts = [(all_rows.take(rest), all_rows.take(held)) for rest, held in folds]
    order = np.concatenate([held for _, held in folds])
    runs: list[Run] = []
    for k, (rest, held) in enumerate(parts):
        console.step("networks", k, len(parts), f"network {k + 1} of {len(parts)}")
        out = None if folder is None else folder / "resume" / MEMBER.format(k + 1)
        runs.append(_train_member(member_recipe(plan, k, seconds), ready, rest, held, out, resume, searched))
        console.note(f"  network {k + 1} of {len(parts)}: best in epoch {runs[-1].epoch} of {len(runs[-1].history)}")
    console.step("networks", 1, 1)
    if folder is not None:
        _copy_logs(folder, len(parts))
    networks = [run.model for run in runs]
    ensembles, ensemble, plan = cross_fit_experts(plan, schema, networks, parts, all_rows, console)
    model = _model_with(networks[0], ensemble, networks[1:])
    priors = {name: task.baseline(encoded.target_fields(schema, all_rows, task)) for name, task in model.tasks.items()}
    report: dict[str, Any] = {
        "history": runs[0].history,
        "best_epoch": runs[0].epoch,
        "priors": {name: baseline for name, baseline in priors.items() if baseline is not None},
        "rows": len(all_rows),
        "networks": [
            {"rows": len(rest), "best_epoch": run.epoch, "history": run.history}
            for run, (rest, _) in zip(runs, parts, strict=True)
        ],
    }
    trained = Trained(Artifact(plan, schema, model, report, runs[0].learnt), cache=ready.store.folder)
    models = [_model_with(network, experts) for network, experts in zip(networks, ensembles, strict=True)]
    return FoldEnsemble(trained, models, [held for _, held in parts], all_rows.take(order), table.take(order))


def member_recipe(plan: Recipe, number: int, seconds: float | None) -> Recipe:
    """Return the recipe of network ``number`` (from 0) of ``plan``, with its own seed and a time limit of ``seconds``."""
    return plan.model_copy(
        update={
            "seed": (plan.seed + number) % 2**63,
            "model": plan.model.model_copy(update={"networks": 1, "experts": [], "features": {}}),
            "training": plan.training.model_copy(update={"time_limit": None if seconds is None else round(seconds, 3)}),
        }
    )


def _train_member(
    plan: Recipe,
    ready: PreparedRun,
    rows: encoded.Rows,
    valid: encoded.Rows,
    out: Path | None,
    resume: bool,
    searched: bool,
) -> Run:
    """Train one network, or load it if it is already trained. ``out`` keeps it until the whole model is saved."""
    schema: Schema = ready.schema
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        if searched:
            resume = resume and Resume(out, run_description(plan, schema, rows, valid)).is_same_run()
    run = train(plan, schema, rows, valid, out, resume, Console(quiet=True), ready.store)
    if out is not None:
        report = {"history": run.history, "best_epoch": run.epoch}
        Artifact(plan, schema, run.model, report, run.learnt).save(out)
        resumable.mark_finished(out)
    return run


def _copy_logs(folder: Path, count: int) -> None:
    """Copy the logs of all networks into the run's logs."""
    with readable_disk_errors(folder):
        for k in range(count):
            name = MEMBER.format(k + 1)
            if (folder / "resume" / name / "logs").is_dir():
                shutil.copytree(folder / "resume" / name / "logs", folder / "logs" / name, dirs_exist_ok=True)


def _model_with(network: Model, experts: Ensemble | None, others: Sequence[Model] = ()) -> Model:
    """Return a model of a trained network, experts and further networks; parts are not copied."""
    encoders, adapters = dict(network.encoders.items()), dict(network.adapters.items())
    return Model(encoders, adapters, network.fusion, dict(network.tasks.items()), experts, others).eval()
