"""Experts beside several networks of one recipe, blended with them on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.model import Model
from sensorium.nn.ensemble import Ensemble
from sensorium.reporting.console import Console
from sensorium.training.blend_weights import blend_shares, sharpening_factor
from sensorium.training.expert_fitting import (
    ExpertData,
    ExpertProgress,
    collect,
    fit_features,
    new_ensemble,
    rows_with_streams,
    without_minor,
    without_unused,
)
from sensorium.training.thread_limits import threads_for


def cross_fit_experts(
    plan: Recipe,
    schema: Schema,
    networks: Sequence[Model],
    parts: Sequence[tuple[encoded.Rows, encoded.Rows]],
    all_rows: encoded.Rows,
    console: Console,
) -> tuple[list[Ensemble | None], Ensemble | None, Recipe]:
    """Cross-fit experts beside the networks of a fold ensemble.

    Beside each network, experts are fitted on its training rows; blend weights are learnt from the predictions of all of
    them on their held-out rows, each row once. Then experts are fitted on all rows.

    Args:
        plan: The resolved recipe.
        schema: The fitted columns.
        networks: The trained networks.
        parts: By network, its training rows and its held-out rows.
        all_rows: All rows.
        console: Where progress is printed.

    Returns:
        The experts of each fold, those fitted on all rows, and the recipe without experts whose weight is zero.
    """
    ensemble = new_ensemble(plan, schema, networks[0])
    if ensemble is None:
        return [None] * len(networks), None, plan
    progress, folds, held_data = ExpertProgress(console), list[Ensemble](), list[ExpertData]()
    for k, (network, (rest, held)) in enumerate(zip(networks, parts, strict=True)):
        progress.next(f"fold {k + 1} of {len(parts)}")
        fold = new_ensemble(plan, schema, network)
        assert fold is not None
        network.eval()
        _fit_ensemble(fold, network, schema, rest, plan.seed)
        folds.append(fold)
        held_data.append(collect(fold, network, schema, held, own=True))
    progress.next("all rows")
    _fit_ensemble(ensemble, networks[0], schema, all_rows, plan.seed)
    for name, blend in ensemble.blends.items():
        progress.next("weighing")
        share, factor = _learn_weights(name, folds, networks, held_data)
        for target in (blend, *(fold.blends[name] for fold in folds)):
            target.keep("share", share)
            target.keep("factor", factor)
    ensemble, kept = without_unused(ensemble, plan)
    progress.done()
    return [without_unused(fold, plan)[0] for fold in folds], ensemble, kept


def _fit_ensemble(ensemble: Ensemble, model: Model, schema: Schema, rows: encoded.Rows, seed: int) -> None:
    """Fit the features and experts of all tasks."""
    with threads_for(len(rows)):
        fit_features(ensemble, schema, rows)
        training = collect(ensemble, model, schema, rows)
        for name, experts in ensemble.experts.items():
            response = model.tasks[name].plain.response
            assert response is not None
            observed = training.observed(name, response)
            for expert in experts.values():
                expert.fit(observed, seed)


def _learn_weights(
    name: str, folds: Sequence[Ensemble], networks: Sequence[Model], held_data: Sequence[ExpertData]
) -> tuple[Tensor, Tensor]:
    """Learn shares and sharpening factors of one task, by set of streams, from the held-out rows of all folds."""
    task, blend = networks[0].tasks[name].plain, folds[0].blends[name]
    response = task.response
    assert response is not None
    share, factor = blend.share.clone(), blend.factor.clone()
    observed = [held.observed(name, response) for held in held_data]
    for at, streams in enumerate(blend.sets):
        outputs, truth, weight = [], [], []
        for fold, network, held, rows in zip(folds, networks, held_data, observed, strict=True):
            fresh = rows_with_streams(rows, streams)
            known, member_task = rows.take(fresh), network.tasks[name].plain
            own = held.network[name][streams][torch.from_numpy(held.rows_with(name, ()))][torch.from_numpy(fresh)]
            outputs.append(
                [
                    own,
                    *(member_task.scored(expert.scores_with(known, streams)) for expert in fold.experts[name].values()),
                ]
            )
            truth.append(known.target)
            weight.append(known.weight)
        parts = [torch.cat(same) for same in zip(*outputs, strict=True)]
        counted = np.concatenate(truth), np.concatenate(weight)
        share[at] = without_minor(blend_shares(task, response, parts, *counted))
        together = task.merge(parts, share[at].expand(len(counted[1]), -1).float())
        factor[at] = sharpening_factor(task, response, together, *counted)
    return share, factor
