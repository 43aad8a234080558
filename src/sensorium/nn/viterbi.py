"""The most probable sequence of classes under a first-order Markov chain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


def viterbi(scores: Tensor, transitions: Tensor, mask: Tensor) -> Tensor:
    """Return the sequence with the largest sum of scores and transitions of each row.

    Source: Viterbi 1967, https://doi.org/10.1109/TIT.1967.1054010.

    Args:
        scores: ``[B, T, K]``, log-probabilities of the classes at each step.
        transitions: ``[K, K]``, or of each row ``[B, K, K]``: what going from one class to the next (last axis) adds.
        mask: ``[B, T]`` bool: which steps are real; the others may lie anywhere, and neither count nor change.

    Returns:
        Class indices ``[B, T]``; at steps that are not real, the class of the last real step before them, or of the first.
    """
    rows, steps, classes = scores.shape
    if steps == 0:
        return scores.new_zeros(rows, 0, dtype=torch.long)
    scores = torch.where(mask[..., None], scores.double(), 0.0)
    transitions = transitions.double()
    stay = torch.arange(classes, device=scores.device).expand(rows, -1)
    best, origins = scores[:, 0], []
    for t in range(1, steps):
        value, origin = (best[:, :, None] + transitions).max(dim=1)
        real = mask[:, t, None]
        best = torch.where(real, value + scores[:, t], best)
        origins.append(torch.where(real, origin, stay))
    path = [best.argmax(dim=1)]
    for origin in reversed(origins):
        path.append(origin.gather(1, path[-1][:, None])[:, 0])
    return torch.stack(path[::-1], dim=1)


def transition_scores(order: Tensor, lengths: Tensor) -> Tensor:
    """Return the log-probabilities ``[..., K, K]`` of the class of the next step (last axis), given that of a step.

    A class lasts for a geometrically distributed number of steps, of the given mean.

    Args:
        order: ``[K, K]``: log-probability of each class to follow a class that ends.
        lengths: ``[..., K]``: mean number of steps of a class.
    """
    leave = 1 / lengths.double().clamp(min=1.0 + 1e-6)
    classes = order.shape[0]
    change = leave.log()[..., None] + order.double()
    stay = torch.eye(classes, dtype=torch.bool, device=order.device)
    return torch.where(stay, (-leave).log1p()[..., None], change)


def order_and_lengths(sequences: Iterable[Sequence[tuple[int, float]]], classes: int) -> tuple[Tensor, Tensor]:
    """Return which class follows which, and how long each lasts, as ``transition_scores`` reads them.

    Half an occurrence is added to each pair of different classes, so that nothing is impossible. A class that never occurs
    lasts as long as the mean of all.

    Args:
        sequences: Of each row, its stretches in order: class and length.
        classes: K.

    Returns:
        Log-probabilities ``[K, K]``, and mean lengths ``[K]`` in the unit of the given ones.
    """
    follow = torch.full((classes, classes), 0.5, dtype=torch.float64).fill_diagonal_(0.0)
    total, count = torch.zeros(classes, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    for stretches in sequences:
        for code, length in stretches:
            total[code] += length
            count[code] += 1
        for (one, _), (other, _) in pairwise(stretches):
            if one != other:
                follow[one, other] += 1
    mean = total.sum() / count.sum().clamp(min=1) if total.sum() > 0 else torch.tensor(1.0, dtype=torch.float64)
    order = (follow / follow.sum(dim=1, keepdim=True).clamp(min=1e-12)).clamp(min=1e-12).log()
    return order.float(), torch.where(count > 0, total / count.clamp(min=1), mean).float()
