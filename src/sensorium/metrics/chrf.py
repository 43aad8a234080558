"""Corpus chrF, F-scores of character n-grams, from statistics of each row, so that resamples need no new counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

ORDERS = 6
BETA = 2.0
"""Weight of recall."""


def chrf_statistics(generated: Sequence[str], references: Sequence[Sequence[str]]) -> Tensor:
    """Return what chrF needs of each row ``[rows, ORDERS, 3]``: character n-grams generated, of the reference, and common.

    Blanks do not count. Of several references the one with the highest score of its own is taken, as sacrebleu does.

    Args:
        generated: The sentence of each row.
        references: One or more reference sentences of each row.
    """
    rows = []
    for sentence, row in zip(generated, references, strict=True):
        own = _grams(sentence)
        every = torch.tensor([_counts(own, _grams(reference)) for reference in row], dtype=torch.float64)
        rows.append(every[int(f_score(every).argmax())])
    return torch.stack(rows) if rows else torch.zeros(0, ORDERS, 3, dtype=torch.float64)


def chrf(statistics: Tensor, weights: Tensor) -> Tensor:
    """Return corpus chrF, from 0 to 1, in each resample ``[R]``; NaN without rows.

    Source: Popović 2015, https://aclanthology.org/W15-3049, with n up to 6 and β = 2: means over n of precision and recall,
    and their F-score.

    Args:
        statistics: ``chrf_statistics`` ``[rows, ORDERS, 3]``.
        weights: How often each row counts in each resample ``[R, rows]``.
    """
    if not len(statistics):
        return weights.new_full((weights.shape[0],), torch.nan)
    return f_score((weights @ statistics.flatten(1)).reshape(-1, ORDERS, 3))


def f_score(statistics: Tensor) -> Tensor:
    """Return chrF, from 0 to 1, of ``statistics`` ``[..., ORDERS, 3]``, over the orders that both sides have."""
    generated, true, common = statistics.unbind(dim=-1)
    both = (generated > 0) & (true > 0)
    orders = both.sum(dim=-1).clamp(min=1)
    precision = (common / generated.clamp(min=1) * both).sum(dim=-1) / orders
    recall = (common / true.clamp(min=1) * both).sum(dim=-1) / orders
    below = BETA**2 * precision + recall
    return torch.where(below > 0, (1 + BETA**2) * precision * recall / below.clamp(min=1e-300), 0.0)


def _grams(sentence: str) -> list[Counter[str]]:
    text = "".join(sentence.split())
    return [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in range(1, ORDERS + 1)]


def _counts(own: list[Counter[str]], other: list[Counter[str]]) -> list[list[int]]:
    return [[a.total() if b else 0, b.total(), (a & b).total()] for a, b in zip(own, other, strict=True)]
