"""Fitting of experts beside a trained network, and of their blend weights on rows that no part was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorium.core import registry
from sensorium.core.batch import Batch, Field
from sensorium.core.expert import CHUNK, Observed, Response
from sensorium.core.forward import Forward
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.core.task import Task
from sensorium.data import encoded_rows as encoded
from sensorium.data.loader import Loader
from sensorium.model import Model, experts_of
from sensorium.nn.ensemble import Ensemble, taken
from sensorium.reporting.console import Console
from sensorium.training.blend_weights import blend_shares, sharpening_factor
from sensorium.training.row_buffers import DenseRows, SparseRows
from sensorium.training.thread_limits import threads_for

FOLDS, FOLD_ROWS = 3, 3_000
"""With at most this many training rows, blend weights also use out-of-fold predictions of the experts; with more, the
validation rows suffice.
"""
MINOR = 0.02
"""Blend weights below this are set to zero."""


@dataclass
class ExpertData:
    """Features, targets and weights of encoded rows, as experts learn from them.

    Args:
        features: By stream, a NumPy array ``[rows, features]``, or a SciPy CSR matrix where most are zero.
        compact: By stream, fewer features with most of the information, for trees.
        present: By stream, which rows have it.
        targets: By task, the targets.
        weight: Row weights.
        network: By task and set of streams, the outputs of the network ``[rows, K]``.
    """

    features: dict[str, Any]
    compact: dict[str, NDArray[np.float32]]
    present: dict[str, NDArray[np.bool_]]
    targets: dict[str, Field]
    weight: NDArray[np.float64]
    network: dict[str, dict[tuple[str, ...], Tensor]] = field(default_factory=dict)

    def observed(self, task: str, response: Response) -> Observed:
        """Return the rows with a known target of ``task``, in the form that ``response`` needs."""
        target = self.targets[task]
        known = (target.present.numpy() & (self.weight > 0)).astype(bool)
        truth = target.data.double().numpy()
        weight = self.weight.copy()
        if response.kind in ("classes", "ordered"):
            truth = truth[:, 0].astype(np.int64)
            if response.weights:
                weight = weight * np.array(response.weights)[np.clip(truth, 0, response.size - 1)]
        elif response.kind == "number":
            truth = truth[:, 0]
        return Observed(self.features, self.compact, self.present, truth, weight).take(known)

    def rows_with(self, task: str, streams: Sequence[str]) -> NDArray[np.bool_]:
        """Return which rows have a target of ``task`` and all of ``streams``."""
        known: NDArray[np.bool_] = self.targets[task].present.numpy() & (self.weight > 0)
        for stream in streams:
            known = known & self.present[stream]
        return known


def new_ensemble(plan: Recipe, schema: Schema, model: Model) -> Ensemble | None:
    """Build the unfitted experts of the resolved recipe ``plan`` (columns: ``schema``) beside ``model``; None if it has
    none.
    """
    return experts_of(plan.model, schema, dict(model.tasks.items()), dict(model.encoders.items()))


def fit_experts(
    plan: Recipe, schema: Schema, model: Model, rows: encoded.Rows, valid: encoded.Rows, console: Console
) -> Recipe:
    """Fit the experts of a resolved recipe, learn their blend weights, and put them into the model.

    Args:
        plan: The resolved recipe.
        schema: The fitted columns.
        model: The trained network; gets the experts.
        rows: Encoded training rows, on which experts are fitted.
        valid: Encoded validation rows, on which they are blended with the network.
        console: Where progress is printed.

    Returns:
        The recipe without the experts whose weight is zero.
    """
    ensemble = new_ensemble(plan, schema, model)
    if ensemble is None:
        return plan
    model.eval()
    progress = ExpertProgress(console)
    with threads_for(len(rows)):
        fit_features(ensemble, schema, rows)
        progress.next("reading features")
        training, held_out = collect(ensemble, model, schema, rows), collect(ensemble, model, schema, valid, own=True)
        for name in list(ensemble.experts):
            response = model.tasks[name].plain.response
            assert response is not None
            observed = training.observed(name, response)
            fold, crossed = _folds(observed, plan.seed), dict[str, dict[tuple[str, ...], Tensor]]()
            for kind, expert in ensemble.experts[name].items():
                progress.next(f"fitting {kind}")
                if fold is None:
                    expert.fit(observed, plan.seed)
                else:
                    crossed[kind] = expert.fit_and_cross_predict(observed, fold, plan.seed)
            progress.next("weighing")
            _learn_weights(ensemble, name, model.tasks[name].plain, response, observed, crossed, held_out)
    ensemble, kept = without_unused(ensemble, plan)
    model.experts = ensemble
    progress.done()
    return kept


def refit_experts(plan: Recipe, schema: Schema, model: Model, rows: encoded.Rows, before: Ensemble) -> None:
    """Fit the experts of a model anew on other rows, keeping their chosen settings and blend weights.

    Args:
        plan: The resolved recipe.
        schema: The fitted columns.
        model: The trained network; gets the experts.
        rows: Encoded rows to fit on.
        before: The experts fitted before.
    """
    ensemble = new_ensemble(plan, schema, model)
    assert ensemble is not None
    model.eval()
    with threads_for(len(rows)):
        fit_features(ensemble, schema, rows)
        training = collect(ensemble, model, schema, rows)
        for name in list(ensemble.experts):
            response = model.tasks[name].plain.response
            assert response is not None
            observed = training.observed(name, response)
            for kind, expert in ensemble.experts[name].items():
                expert.like(before.experts[name][kind])
                expert.fit(observed, plan.seed)
            for buffer in ("share", "factor"):
                ensemble.blends[name].keep(buffer, getattr(before.blends[name], buffer))
    model.experts = ensemble


def fit_features(ensemble: Ensemble, schema: Schema, rows: encoded.Rows) -> None:
    """Fit the feature extractors of ``ensemble`` on the training ``rows`` (columns: ``schema``)."""
    for stream, kinds in ensemble.features.items():
        for part in kinds.values():
            part.fit(ensemble.input_of(stream, part, field) for field in _fields(schema, rows, stream))


def _fields(schema: Schema, rows: encoded.Rows, stream: str) -> Iterator[Field]:
    for batch in Loader(rows, CHUNK):
        inputs = schema.prepare(batch).inputs[stream]
        if bool(inputs.present.any()):
            yield taken(inputs, inputs.rows)


@torch.inference_mode()
def collect(ensemble: Ensemble, model: Model, schema: Schema, rows: encoded.Rows, *, own: bool = False) -> ExpertData:
    """Compute features and targets of all rows.

    Args:
        ensemble: The experts, with fitted feature extractors.
        model: The trained network.
        schema: The fitted columns.
        rows: The encoded rows.
        own: Whether to compute the network's outputs for each set of streams as well.
    """
    count = len(rows)
    thin = {stream: SparseRows(count) for stream in ensemble.sparse_streams}
    wide = {stream: DenseRows(count) for stream in ensemble.heard if stream not in thin}
    short = {stream: DenseRows(count) for stream in ensemble.heard}
    present = {stream: DenseRows(count) for stream in model.streams}
    targets = {name: (DenseRows(count), DenseRows(count)) for name in ensemble.experts}
    outputs: dict[str, dict[tuple[str, ...], DenseRows]] = {name: {} for name in ensemble.experts}
    weight = DenseRows(count)
    for stored in Loader(rows, CHUNK):
        batch = schema.prepare(stored)
        read = ensemble.read(batch.inputs, sparse=True)
        for stream in ensemble.heard:
            features = read["features"][stream]
            if stream in thin:
                thin[stream].add(features)
            else:
                wide[stream].add(features.numpy())
            short[stream].add(read["compact"][stream].numpy())
        for stream in model.streams:
            present[stream].add(batch.inputs[stream].present.numpy())
        weight.add(batch.weight.double().numpy())
        for name in ensemble.experts:
            target = model.tasks[name].target(batch)
            assert target is not None
            for kept, values in zip(targets[name], (target.data, target.present), strict=True):
                kept.add(values.numpy())
        if own and model.network:
            _collect_network(model, ensemble, batch, outputs, count)
    return ExpertData(
        {s: thin[s].matrix if s in thin else wide[s].array for s in ensemble.heard},
        {s: part.array for s, part in short.items()},
        {s: part.array for s, part in present.items()},
        {name: Field(*(torch.from_numpy(kept.array) for kept in pair)) for name, pair in targets.items()},
        weight.array,
        {name: {s: torch.from_numpy(part.array) for s, part in sets.items()} for name, sets in outputs.items()},
    )


def _collect_network(
    model: Model, ensemble: Ensemble, batch: Batch, outputs: dict[str, dict[tuple[str, ...], DenseRows]], count: int
) -> None:
    run = Forward(model, batch)
    sets = {streams for name in ensemble.experts for streams in ensemble.blends[name].sets}
    for streams in sets:
        own = run.only(*streams).own
        for name in ensemble.experts:
            outputs[name].setdefault(streams, DenseRows(count)).add(own[name].numpy())


# ── weighing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _learn_weights(
    ensemble: Ensemble,
    name: str,
    task: Task[Any],
    response: Response,
    observed: Observed,
    crossed: Mapping[str, Mapping[tuple[str, ...], Tensor]],
    held_out: ExpertData,
) -> None:
    """Learn the blend weights of each part, for every set of streams.

    Experts are weighed against each other on the validation rows and, where their out-of-fold scores ``crossed`` are known
    (by expert and set of streams), on the training rows ``observed``; the network against all of them on the validation
    rows, the only ones that it was not trained on.
    """
    blend, experts = ensemble.blends[name], dict(ensemble.experts[name].items())
    valid = held_out.observed(name, response)
    covered = np.full(len(observed), bool(crossed))
    share, factor = blend.share.clone(), blend.factor.clone()
    for at, streams in enumerate(blend.sets):
        fresh = rows_with_streams(valid, streams)
        known, rows = valid.take(fresh), covered & rows_with_streams(observed, streams)
        late = {kind: expert.scores_with(known, streams) for kind, expert in experts.items()}
        both = []
        for kind, expert in experts.items():
            available = tuple(stream for stream in expert.streams if stream in streams)
            early = _largest_subset(crossed[kind], available)[torch.from_numpy(rows)] if crossed else late[kind][:0]
            both.append(task.scored(torch.cat([late[kind], early])))
        truth = np.concatenate([known.target, observed.target[rows]])
        weight = np.concatenate([known.weight, observed.weight[rows]])
        among = blend_shares(task, response, both, truth, weight)
        if not ensemble.network:
            share[at], parts, counted = among, both, (truth, weight)
        else:
            mixed = task.merge([task.scored(late[k]) for k in experts], among.expand(len(known), -1).float())
            keep = held_out.targets[name].present.numpy() & (held_out.weight > 0)
            own = held_out.network[name][streams][torch.from_numpy(keep)][torch.from_numpy(fresh)]
            sizes = [1, len(experts)]
            first = blend_shares(task, response, [own, mixed], known.target, known.weight, sizes)
            share[at] = torch.cat([first[:1], first[1] * among])
            parts, counted = [own, *(task.scored(late[k]) for k in experts)], (known.target, known.weight)
        share[at] = without_minor(share[at])
        together = task.merge(parts, share[at].expand(len(counted[1]), -1).float())
        factor[at] = sharpening_factor(task, response, together, *counted)
        if at == 0 and response.kind in ("number", "risk") and len(counted[1]):
            goal = torch.from_numpy(counted[0]).float().reshape(len(counted[1]), -1)
            sure = torch.ones(len(goal), dtype=torch.bool)
            task.correct(together, Field(goal, sure), torch.from_numpy(counted[1]).float())
    blend.keep("share", share)
    blend.keep("factor", factor)


def without_minor(share: Tensor) -> Tensor:
    """Return ``share`` with weights below ``MINOR`` set to zero, renormalised."""
    kept = share.where(share >= MINOR, 0.0)
    return kept / kept.sum()


def rows_with_streams(rows: Observed, streams: Sequence[str]) -> NDArray[np.bool_]:
    """Return which of ``rows`` have all of ``streams``."""
    mask = np.ones(len(rows), dtype=bool)
    for stream in streams:
        mask &= rows.present[stream]
    return mask


def _largest_subset(outputs: Mapping[tuple[str, ...], Tensor], available: tuple[str, ...]) -> Tensor:
    """Return the outputs for the largest set of streams within ``available``."""
    best = max((streams for streams in outputs if set(streams) <= set(available)), key=len)
    return outputs[best]


def _folds(rows: Observed, seed: int) -> NDArray[np.int64] | None:
    """Return the fold of each row; None where experts are not cross-fitted."""
    if not 2 * FOLDS <= len(rows) <= FOLD_ROWS:
        return None
    return (np.random.default_rng(seed).permutation(len(rows)) % FOLDS).astype(np.int64)


def without_unused(ensemble: Ensemble, plan: Recipe) -> tuple[Ensemble, Recipe]:
    """Return ``ensemble`` and ``plan`` without the experts whose weight is zero for every set of streams."""
    counting = {
        part
        for blend in ensemble.blends.values()
        for part, share in zip(blend.parts, blend.share.amax(dim=0).tolist(), strict=True)
        if share > 0
    }
    kinds = {kind for experts in ensemble.experts.values() for kind in experts}
    if kinds <= counting:
        return ensemble, plan
    experts = {
        task: {kind: expert for kind, expert in kinds.items() if kind in counting}
        for task, kinds in ensemble.experts.items()
    }
    features = {s: dict(kinds.items()) for s, kinds in ensemble.features.items()}
    kept = Ensemble(ensemble.streams, features, experts, network=ensemble.network, encoders=ensemble.encoders)
    for task, blend in kept.blends.items():
        before = ensemble.blends[task]
        blend.keep("share", before.share[:, [before.parts.index(part) for part in blend.parts]])
        blend.keep("factor", before.factor)
    specs = [spec for spec in plan.model.experts or [] if registry.split(spec)[0] in counting]
    return kept, plan.model_copy(update={"model": plan.model.model_copy(update={"experts": specs})})


class ExpertProgress:
    """Prints the progress of fitting on the console."""

    def __init__(self, console: Console) -> None:
        self.console, self.at = console, 0

    def next(self, what: str) -> None:
        """Start the next step, named ``what``."""
        self.at += 1
        self.console.step("experts", self.at, self.at + 1, what)

    def done(self) -> None:
        """Finish."""
        self.console.step("experts", 1, 1)
