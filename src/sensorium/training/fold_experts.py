"""Experts beside several networks of one recipe, weighed with them by what all say of folds that they have not seen."""

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


def cross_fit_experts(
    plan: Recipe,
    schema: Schema,
    networks: Sequence[Model],
    parts: Sequence[tuple[encoded.Rows, encoded.Rows]],
    every: encoded.Rows,
    console: Console,
) -> tuple[list[Ensemble | None], Ensemble | None, Recipe]:
    """Experts beside several networks, of which each did not learn from one fold of the rows.

    Beside each network experts are fitted on the rows that it learnt from; what all of these say of the rows that they have
    not seen, every row once, tells how much each part counts. Then experts are fitted on all rows.

    Args:
        parts: By network, the rows it learnt from and those it has not seen.
        every: All rows.

    Returns:
        The experts of each fold, those of all rows, and the recipe without those that count nothing.
    """
    whole = new_ensemble(plan, schema, networks[0])
    if whole is None:
        return [None] * len(networks), None, plan
    told, folds, said = ExpertProgress(console), list[Ensemble](), list[ExpertData]()
    for k, (network, (rest, held)) in enumerate(zip(networks, parts, strict=True)):
        told.next(f"fold {k + 1} of {len(parts)}")
        fold = new_ensemble(plan, schema, network)
        assert fold is not None
        network.eval()
        _fit_ensemble(fold, network, schema, rest, plan.seed)
        folds.append(fold)
        said.append(collect(fold, network, schema, held, own=True))
    told.next("all rows")
    _fit_ensemble(whole, networks[0], schema, every, plan.seed)
    for name, blend in whole.blends.items():
        told.next("weighing")
        share, factor = _learn_weights(name, folds, networks, said)
        for one in (blend, *(fold.blends[name] for fold in folds)):
            one.keep("share", share)
            one.keep("factor", factor)
    whole, kept = without_unused(whole, plan)
    told.done()
    return [without_unused(fold, plan)[0] for fold in folds], whole, kept


def _fit_ensemble(ensemble: Ensemble, model: Model, schema: Schema, rows: encoded.Rows, seed: int) -> None:
    """Features and experts of all tasks, fitted on some rows."""
    fit_features(ensemble, schema, rows)
    training = collect(ensemble, model, schema, rows)
    for name, experts in ensemble.experts.items():
        response = model.tasks[name].plain.response
        assert response is not None
        observed = training.observed(name, response)
        for expert in experts.values():
            expert.fit(observed, seed)


def _learn_weights(
    name: str, folds: Sequence[Ensemble], networks: Sequence[Model], said: Sequence[ExpertData]
) -> tuple[Tensor, Tensor]:
    """How much each part counts for one task, and how sure the mean may be, by set of streams: learnt on the rows of every
    fold, which no part that answers them has seen."""
    task, blend = networks[0].tasks[name].plain, folds[0].blends[name]
    response = task.response
    assert response is not None
    share, factor = blend.share.clone(), blend.factor.clone()
    observed = [held.observed(name, response) for held in said]
    for at, some in enumerate(blend.sets):
        each, truth, weight = [], [], []
        for fold, network, held, rows in zip(folds, networks, said, observed, strict=True):
            fresh = rows_with_streams(rows, some)
            known, mine = rows.take(fresh), network.tasks[name].plain
            own = held.network[name][some][torch.from_numpy(held.rows_with(name, ()))][torch.from_numpy(fresh)]
            each.append([own, *(mine.scored(expert.said(known, some)) for expert in fold.experts[name].values())])
            truth.append(known.target)
            weight.append(known.weight)
        parts = [torch.cat(same) for same in zip(*each, strict=True)]
        counted = np.concatenate(truth), np.concatenate(weight)
        share[at] = without_minor(blend_shares(task, response, parts, *counted))
        together = task.merge(parts, share[at].expand(len(counted[1]), -1).float())
        factor[at] = sharpening_factor(task, response, together, *counted)
    return share, factor
