"""Experts fitted beside a trained network, and how much each counts, learnt on rows that it has not seen."""

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
from sensorium.core.contracts import Task
from sensorium.core.expert import CHUNK, Expert, Observed, Response
from sensorium.core.forward import Forward
from sensorium.core.recipe import Recipe
from sensorium.core.schema import Schema
from sensorium.data import encoded_rows as encoded
from sensorium.data.loader import Loader
from sensorium.model import Model, experts_of
from sensorium.nn.ensemble import Ensemble, taken
from sensorium.reporting.console import Console
from sensorium.training.blend_weights import blend_shares, sharpening_factor

FOLDS, FOLD_ROWS = 3, 3_000
"""Up to so many training rows experts are weighed by what they say of folds that they were not fitted on, beside the
validation rows; with more rows these suffice."""
MINOR = 0.02
"""A part that counts less in a blend is left out of it."""


@dataclass
class ExpertData:
    """What is read off some rows, by stream, and their targets, by task.

    Args:
        features: A NumPy array, or a SciPy CSR matrix where most are zero.
    """

    features: dict[str, Any]
    compact: dict[str, NDArray[np.float32]]
    present: dict[str, NDArray[np.bool_]]
    targets: dict[str, Field]
    weight: NDArray[np.float64]
    network: dict[str, dict[tuple[str, ...], Tensor]] = field(default_factory=dict)
    """By task and set of streams, what the network says ``[rows, K]``."""

    def observed(self, task: str, response: Response) -> Observed:
        """The rows that can be learnt from for one task."""
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

    def rows_with(self, task: str, some: Sequence[str]) -> NDArray[np.bool_]:
        """Which rows have a target and all streams of a set."""
        known: NDArray[np.bool_] = self.targets[task].present.numpy() & (self.weight > 0)
        for stream in some:
            known = known & self.present[stream]
        return known


def new_ensemble(plan: Recipe, schema: Schema, model: Model) -> Ensemble | None:
    """The experts of a resolved recipe beside a trained network; None where it has none."""
    return experts_of(plan.model, schema, dict(model.tasks.items()), dict(model.encoders.items()))


def fit_experts(
    plan: Recipe, schema: Schema, model: Model, rows: encoded.Rows, valid: encoded.Rows, console: Console
) -> Recipe:
    """Fit the experts of a resolved recipe on the training rows, weigh them with the network on rows that no part has
    seen, and put them into the model. Gives the recipe without the experts that count nothing."""
    ensemble = new_ensemble(plan, schema, model)
    if ensemble is None:
        return plan
    model.eval()
    told = ExpertProgress(console)
    fit_features(ensemble, schema, rows)
    told.next("reading features")
    training, held_out = collect(ensemble, model, schema, rows), collect(ensemble, model, schema, valid, own=True)
    for name in list(ensemble.experts):
        response = model.tasks[name].plain.response
        assert response is not None
        observed = training.observed(name, response)
        for kind, expert in ensemble.experts[name].items():
            told.next(f"fitting {kind}")
            expert.fit(observed, plan.seed)
        told.next("weighing")
        _learn_weights(ensemble, name, model.tasks[name].plain, response, observed, training, held_out, plan.seed)
    ensemble, kept = without_unused(ensemble, plan)
    model.experts = ensemble
    told.done()
    return kept


def refit_experts(plan: Recipe, schema: Schema, model: Model, rows: encoded.Rows, before: Ensemble) -> None:
    """The experts of a model fitted anew on other rows, with the settings and the weights that were chosen before."""
    ensemble = new_ensemble(plan, schema, model)
    assert ensemble is not None
    model.eval()
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
    """Let features learn from the training rows."""
    for stream, kinds in ensemble.features.items():
        for part in kinds.values():
            part.fit(ensemble.given(stream, part, field) for field in _fields(schema, rows, stream))


def _fields(schema: Schema, rows: encoded.Rows, stream: str) -> Iterator[Field]:
    for batch in Loader(rows, CHUNK):
        found = schema.prepare(batch).inputs[stream]
        if bool(found.present.any()):
            yield taken(found, found.rows)


@torch.inference_mode()
def collect(ensemble: Ensemble, model: Model, schema: Schema, rows: encoded.Rows, *, own: bool = False) -> ExpertData:
    """What is read off all rows; ``own``: and what the network says of each set of streams."""
    sparse = {s: any(part.sparse for part in kinds.values()) for s, kinds in ensemble.features.items()}
    wide: dict[str, list[Any]] = {stream: [] for stream in ensemble.heard}
    short: dict[str, list[Any]] = {stream: [] for stream in ensemble.heard}
    present: dict[str, list[Any]] = {stream: [] for stream in model.streams}
    targets: dict[str, list[Field]] = {name: [] for name in ensemble.experts}
    said: dict[str, dict[tuple[str, ...], list[Tensor]]] = {name: {} for name in ensemble.experts}
    weight: list[Any] = []
    for stored in Loader(rows, CHUNK):
        batch = schema.prepare(stored)
        read = ensemble.read(batch.inputs)
        for stream in ensemble.heard:
            dense = read["features"][stream].numpy()
            wide[stream].append(_csr(dense) if sparse[stream] else dense)
            short[stream].append(read["compact"][stream].numpy())
        for stream in model.streams:
            present[stream].append(batch.inputs[stream].present.numpy())
        weight.append(batch.weight.double().numpy())
        for name in ensemble.experts:
            target = model.tasks[name].target(batch)
            assert target is not None
            targets[name].append(Field(target.data, target.present))
        if own and model.network:
            _collect_network(model, ensemble, batch, said)
    return ExpertData(
        {s: _concatenated(parts) for s, parts in wide.items()},
        {s: np.concatenate(parts) for s, parts in short.items()},
        {s: np.concatenate(parts) for s, parts in present.items()},
        {name: Field(torch.cat([p.data for p in f]), torch.cat([p.present for p in f])) for name, f in targets.items()},
        np.concatenate(weight),
        {name: {some: torch.cat(parts) for some, parts in sets.items()} for name, sets in said.items()},
    )


def _collect_network(
    model: Model, ensemble: Ensemble, batch: Batch, said: dict[str, dict[tuple[str, ...], list[Tensor]]]
) -> None:
    run = Forward(model, batch)
    sets = {some for name in ensemble.experts for some in ensemble.blends[name].sets}
    for some in sets:
        own = run.only(*some).own
        for name in ensemble.experts:
            said[name].setdefault(some, []).append(own[name])


def _csr(dense: NDArray[np.float32]) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix(dense)


def _concatenated(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    from scipy.sparse import vstack

    return vstack(parts, format="csr")


# ── weighing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _learn_weights(
    ensemble: Ensemble,
    name: str,
    task: Task[Any],
    response: Response,
    observed: Observed,
    training: ExpertData,
    held_out: ExpertData,
    seed: int,
) -> None:
    """Learn how much each part counts, for every set of streams.

    Experts among themselves by folds of the training rows and the validation rows; the network against all of them by the
    validation rows, the only ones that it has not seen.
    """
    blend, experts = ensemble.blends[name], dict(ensemble.experts[name].items())
    valid = held_out.observed(name, response)
    folds, seen = _out_of_fold(experts, observed, seed)
    share, factor = blend.share.clone(), blend.factor.clone()
    for at, some in enumerate(blend.sets):
        fresh = rows_with_streams(valid, some)
        known, rows = valid.take(fresh), seen & rows_with_streams(observed, some)
        late = {kind: expert.said(known, some) for kind, expert in experts.items()}
        both = []
        for kind, expert in experts.items():
            heard = tuple(stream for stream in expert.streams if stream in some)
            early = _largest_subset(folds[kind], heard)[torch.from_numpy(rows)] if kind in folds else late[kind][:0]
            both.append(task.scored(torch.cat([late[kind], early])))
        truth = np.concatenate([known.target, observed.target[rows]])
        weight = np.concatenate([known.weight, observed.weight[rows]])
        among = blend_shares(task, response, both, truth, weight)
        if not ensemble.network:
            share[at], parts, counted = among, both, (truth, weight)
        else:
            mixed = task.merge([task.scored(late[k]) for k in experts], among.expand(len(known), -1).float())
            keep = held_out.targets[name].present.numpy() & (held_out.weight > 0)
            own = held_out.network[name][some][torch.from_numpy(keep)][torch.from_numpy(fresh)]
            first = blend_shares(task, response, [own, mixed], known.target, known.weight)
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
    """Shares without those of parts that would count less than ``MINOR``."""
    kept = share.where(share >= MINOR, 0.0)
    return kept / kept.sum()


def rows_with_streams(rows: Observed, some: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows have all streams of a set."""
    found = np.ones(len(rows), dtype=bool)
    for stream in some:
        found &= rows.present[stream]
    return found


def _largest_subset(said: Mapping[tuple[str, ...], Tensor], heard: tuple[str, ...]) -> Tensor:
    """What is said by the largest set within ``heard`` that says anything."""
    best = max((some for some in said if set(some) <= set(heard)), key=len)
    return said[best]


def _out_of_fold(
    experts: Mapping[str, Expert], rows: Observed, seed: int
) -> tuple[dict[str, dict[tuple[str, ...], Tensor]], NDArray[np.bool_]]:
    """By expert and set of streams, what it says of rows that it was not fitted on; and which rows those are."""
    if not 2 * FOLDS <= len(rows) <= FOLD_ROWS:
        return {}, np.zeros(len(rows), dtype=bool)
    fold = (np.random.default_rng(seed).permutation(len(rows)) % FOLDS).astype(np.int64)
    return {kind: expert.crossed(rows, fold, seed) for kind, expert in experts.items()}, np.ones(len(rows), dtype=bool)


def without_unused(ensemble: Ensemble, plan: Recipe) -> tuple[Ensemble, Recipe]:
    """Leave out the experts that count nothing, whatever streams a row has."""
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
        task: {kind: expert for kind, expert in some.items() if kind in counting} for task, some in ensemble.experts.items()
    }
    features = {s: dict(kinds.items()) for s, kinds in ensemble.features.items()}
    kept = Ensemble(ensemble.streams, features, experts, network=ensemble.network, encoders=ensemble.encoders)
    for task, blend in kept.blends.items():
        before = ensemble.blends[task]
        blend.keep("share", before.share[:, [before.parts.index(part) for part in blend.parts]])
        blend.keep("factor", before.factor)
    told = [spec for spec in plan.model.experts or [] if registry.split(spec)[0] in counting]
    return kept, plan.model_copy(update={"model": plan.model.model_copy(update={"experts": told})})


class ExpertProgress:
    """What is being done, on the console."""

    def __init__(self, console: Console) -> None:
        self.console, self.at = console, 0

    def next(self, what: str) -> None:
        """This begins."""
        self.at += 1
        self.console.step("experts", self.at, self.at + 1, what)

    def done(self) -> None:
        """All is done."""
        self.console.step("experts", 1, 1)
