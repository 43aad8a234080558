"""Whether a map can be believed: what its first parts do when they are taken away, and whether it knows the weights."""

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
    """The answer as a row's parts are taken away, and as they are put in, those with the largest values first.

    Args:
        shares: The share of the parts that were taken away, or put in: 0 to 1.
        deletion: The answer after taking them away. The faster it falls, the better the map.
        insertion: The answer with only them. The faster it rises, the better.
    """

    shares: list[float]
    deletion: list[float]
    insertion: list[float]

    @property
    def deletion_area(self) -> float:
        """The mean answer while parts are taken away; less is better."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """The mean answer while parts are put in; more is better."""
        return float(np.trapezoid(self.insertion, self.shares))

    @property
    def gap(self) -> float:
        """Insertion less deletion: one number for both; 0 on average for a map of chance."""
        return self.insertion_area - self.deletion_area


def curves(probe: Probe, values: Tensor, *, steps: int = STEPS) -> Curves:
    """Deletion and insertion of the parts of one row by its map.

    Source: Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421, § 4; in parts of the row rather than single pixels, which
    could be taken away by the dozen without a trace.

    Args:
        values: The map, as an explainer gave it.
        steps: Points of the curves beside their start.
    """
    units = probe.units()
    order = units.gathered(values.to(probe.data.device).double()).argsort(descending=True, stable=True)
    counts = np.unique(np.round(np.linspace(0, units.count, min(steps, max(units.count, 1)) + 1)).astype(int))
    rank = order.argsort()
    first = rank[None] < torch.from_numpy(counts).to(rank.device)[:, None]
    told = probe.kept(units, torch.cat([~first, first])).double().tolist()
    return Curves((counts / max(units.count, 1)).tolist(), told[: len(counts)], told[len(counts) :])


def by_chance(probe: Probe, *, draws: int = 5, steps: int = STEPS, seed: int = 0) -> Curves:
    """The mean curves of maps of chance: what a map must beat. Over several rows, give each a seed of its own."""
    seeds = range(draws * seed, draws * (seed + 1))
    drawn = [curves(probe, Random(seed=one).explain(probe).values, steps=steps) for one in seeds]
    return Curves(
        drawn[0].shares,
        np.mean([one.deletion for one in drawn], axis=0).tolist(),
        np.mean([one.insertion for one in drawn], axis=0).tolist(),
    )


def scrambled(encoder: nn.Module, seed: int = 0) -> nn.Module:
    """A copy of an encoder with the numbers of every weight in another order: it has learnt nothing, and looks the same."""
    other = deepcopy(encoder)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (*other.parameters(), *(b for b in other.buffers() if b.is_floating_point() and b.dim() > 1)):
            order = torch.randperm(weight.numel(), generator=draw).to(weight.device)
            weight.copy_(weight.flatten()[order].reshape(weight.shape))
    return other


def sanity(explainer: Explainer, probes: Sequence[tuple[Probe, Probe]]) -> float:
    """The rank correlation of maps, by their size, with those of the same rows before a scrambled encoder; the mean.

    A map that is much the same when nothing was learnt shows the input, not the model. Source: Adebayo et al. 2018,
    https://arxiv.org/abs/1810.03292, § 3.

    Args:
        probes: Of each row the real one and the one whose encoder is scrambled.
    """
    found = [alike(real, explainer.explain(real).values, explainer.explain(other).values) for real, other in probes]
    known = [one for one in found if not np.isnan(one)]
    return float(np.mean(known)) if known else float("nan")


def alike(probe: Probe, first: Tensor, second: Tensor) -> float:
    """The rank correlation of two maps of a row, part by part, by their size; NaN where one is the same everywhere."""
    units = probe.units()
    return _ranks(*(units.gathered(values.double()).abs() for values in (first, second)))


def _ranks(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation; NaN where all are alike."""
    first, second = _rank(a), _rank(b)
    if len(first) < 2 or bool((first == first[0]).all()) or bool((second == second[0]).all()):
        return float("nan")
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def _rank(values: Tensor) -> Tensor:
    """The place of each value, equal ones sharing the mean of theirs."""
    _, group, count = torch.unique(values, return_inverse=True, return_counts=True)
    place: Tensor = count.cumsum(dim=0).double() - (count.double() - 1) / 2
    return place[group]
