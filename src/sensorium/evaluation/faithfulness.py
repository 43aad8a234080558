"""Faithfulness of attribution maps: deletion and insertion curves, and the weight randomisation test."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sensorium.core.explainer import Explainer, Probe
from sensorium.explainers.random import Random

STEPS = 10


@dataclass(frozen=True)
class Curves:
    """Deletion and insertion curves: the output as parts are removed or inserted, largest attribution first.

    Args:
        shares: The share of parts removed or inserted, 0 to 1.
        deletion: The output after removing them; the faster it falls, the better the map.
        insertion: The output with only them; the faster it rises, the better the map.
    """

    shares: list[float]
    deletion: list[float]
    insertion: list[float]

    @property
    def deletion_area(self) -> float:
        """The area under the deletion curve; lower is better."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """The area under the insertion curve; higher is better."""
        return float(np.trapezoid(self.insertion, self.shares))

    @property
    def gap(self) -> float:
        """Insertion area minus deletion area; 0 on average for a random map."""
        return self.insertion_area - self.deletion_area


def curves(probe: Probe, values: Tensor, *, steps: int = STEPS) -> Curves:
    """Compute the deletion and insertion curves of one row.

    Parts are regions rather than single pixels, whose removal hardly changes an output.
    Source: Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421, § 4.

    Args:
        probe: The row and stream, as a function.
        values: The attribution map, as an explainer returned it.
        steps: Number of points of the curves, without the first.
    """
    units = probe.units()
    order = units.gathered(values.to(probe.data.device).double()).argsort(descending=True, stable=True)
    counts = np.unique(np.round(np.linspace(0, units.count, min(steps, max(units.count, 1)) + 1)).astype(int))
    rank = order.argsort()
    first = rank[None] < torch.from_numpy(counts).to(rank.device)[:, None]
    outputs = probe.kept(units, torch.cat([~first, first])).double().tolist()
    return Curves((counts / max(units.count, 1)).tolist(), outputs[: len(counts)], outputs[len(counts) :])


def by_chance(probe: Probe, *, draws: int = 5, steps: int = STEPS, seed: int = 0) -> Curves:
    """Compute the mean curves of ``draws`` random maps of ``probe``: the baseline that a map must beat.

    Args:
        probe: The row and stream, as a function.
        draws: Number of random maps.
        steps: Number of points of the curves, without the first.
        seed: Seed of the maps; use a different one for each row.
    """
    seeds = range(draws * seed, draws * (seed + 1))
    random_curves = [curves(probe, Random(seed=number).explain(probe).values, steps=steps) for number in seeds]
    return Curves(
        random_curves[0].shares,
        np.mean([curve.deletion for curve in random_curves], axis=0).tolist(),
        np.mean([curve.insertion for curve in random_curves], axis=0).tolist(),
    )


def scrambled(encoder: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of ``encoder`` with the entries of every weight randomly permuted (``seed``)."""
    other = deepcopy(encoder)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (*other.parameters(), *(b for b in other.buffers() if b.is_floating_point() and b.dim() > 1)):
            order = torch.randperm(weight.numel(), generator=draw).to(weight.device)
            weight.copy_(weight.flatten()[order].reshape(weight.shape))
    return other


def sanity(explainer: Explainer, probes: Sequence[tuple[Probe, Probe]]) -> float:
    """Weight randomisation test: mean rank correlation of absolute maps with those of a scrambled encoder.

    A map that hardly changes when the weights are scrambled reflects the input, not the model.
    Source: Adebayo et al. 2018, https://arxiv.org/abs/1810.03292, § 3.

    Args:
        explainer: The attribution method.
        probes: For each row, the probe of the model and that of the model with a scrambled encoder.
    """
    similarities = [alike(real, explainer.explain(real).values, explainer.explain(other).values) for real, other in probes]
    known = [value for value in similarities if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def alike(probe: Probe, first: Tensor, second: Tensor) -> float:
    """Return the rank correlation of the absolute maps ``first`` and ``second`` of ``probe``; NaN if one is constant."""
    units = probe.units()
    return _ranks(*(units.gathered(values.double()).abs() for values in (first, second)))


def _ranks(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation; NaN if either is constant."""
    first, second = _rank(a), _rank(b)
    if len(first) < 2 or bool((first == first[0]).all()) or bool((second == second[0]).all()):
        return float("nan")
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def _rank(values: Tensor) -> Tensor:
    """The rank of each value; ties share their mean rank."""
    _, group, count = torch.unique(values, return_inverse=True, return_counts=True)
    place: Tensor = count.cumsum(dim=0).double() - (count.double() - 1) / 2
    return place[group]
