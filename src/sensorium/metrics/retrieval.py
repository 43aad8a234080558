"""Scores of rankings: the ranks of the items of a gallery that are relevant to a query.

Items of equal similarity have no order: every score is its mean over all orders of such ties. An uninformative ranking
therefore has exactly the score of chance.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

CUTOFFS = (1, 5, 10)
"""The k of recall at k."""
CHUNK = 4_000_000
"""Number of similarities in memory at a time."""


def rank_queries(
    queries: Tensor, gallery: Tensor, same: Tensor, names: Collection[str], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, Tensor]:
    """Rank a gallery for every query by cosine, and score each ranking.

    Args:
        queries: Unit vectors ``[Q, E]``.
        gallery: Unit vectors ``[N, E]``.
        same: Codes of queries, then of gallery items, ``[Q + N]``: an item is a hit for the queries of its own code.
        names: ``recall``: 1 where a hit is among the first k; ``rank``: that of the first hit, from 1; ``precision``: the
            average precision.
        cutoffs: The k of recall.

    Returns:
        ``recall_at_k`` for each k, ``rank`` and ``precision``: one value per query ``[Q]`` float64, NaN for queries
        without a hit in the gallery.
    """
    of_query, of_item = same[: len(queries)], same[len(queries) :]
    step = max(1, CHUNK // max(1, len(gallery)))
    ranks: dict[str, list[Tensor]] = {}
    for start in range(0, len(queries), step):
        cosine = queries[start : start + step] @ gallery.T
        hits = of_query[start : start + step, None] == of_item[None, :]
        for name, values in score_rankings(cosine, hits, names, cutoffs).items():
            ranks.setdefault(name, []).append(values)
    empty = torch.zeros(0, dtype=torch.float64)
    known = score_rankings(torch.zeros(0, 1), torch.zeros(0, 1, dtype=torch.bool), names, cutoffs)
    return {name: torch.cat(ranks.get(name, [empty])) for name in known}


def score_rankings(
    similarity: Tensor, hits: Tensor, names: Collection[str], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, Tensor]:
    """Score the rankings of a gallery by ``similarity`` ``[Q, N]``, of which ``hits`` ``[Q, N]`` are relevant.

    ``names``, ``cutoffs`` and what is returned are as in ``rank_queries``.
    """
    none = ~hits.any(dim=1)
    scores: dict[str, Tensor] = {}
    if "recall" in names or "rank" in names:
        best = similarity.masked_fill(~hits, -torch.inf).amax(dim=1, keepdim=True) if hits.shape[1] else similarity[:, :0]
        above = (similarity > best).sum(dim=1).double()
        tied = similarity == best
        ties, good = tied.sum(dim=1).double(), (tied & hits).sum(dim=1).double()
        if "recall" in names:
            for k in cutoffs:
                scores[f"recall_at_{k}"] = _drawn(ties, good, (k - above).clamp(min=0))
        if "rank" in names:
            scores["rank"] = above + (ties + 1) / (good + 1)
    if "precision" in names:
        scores["precision"] = average_precision(similarity, hits)
    return {name: values.masked_fill(none, torch.nan) for name, values in scores.items()}


def _drawn(ties: Tensor, good: Tensor, drawn: Tensor) -> Tensor:
    """Return the probability that ``drawn`` of ``ties`` items in random order include one of the ``good`` ones."""
    bad = ties - good
    left = bad - drawn
    # The number of ways to draw bad items only, over that of all ways, as logarithms.
    ways = torch.lgamma(bad + 1) - torch.lgamma(left.clamp(min=0) + 1)
    every = torch.lgamma(ties + 1) - torch.lgamma((ties - drawn).clamp(min=0) + 1)
    return torch.where(left < 0, 1.0, 1 - (ways - every).exp()).masked_fill(drawn == 0, 0.0)


def average_precision(similarity: Tensor, hits: Tensor) -> Tensor:
    """Return the average precision of each ranking ``[Q]`` float64: the mean, over hits, of the precision at their ranks.

    Source: McSherry & Najork 2008, Computing information retrieval performance measures efficiently in the presence of
    tied scores, § 2.4, for the mean over all orders of ties.

    Args:
        similarity: ``[Q, N]``; ``hits`` ``[Q, N]`` are relevant.
        hits: Which items are relevant.
    """
    queries, count = similarity.shape
    if count == 0:
        return torch.zeros(queries, dtype=torch.float64)
    value, order = similarity.sort(dim=1, descending=True)
    good = hits.gather(1, order).double()
    rank = torch.arange(1, count + 1, dtype=torch.float64).expand(queries, -1)
    new = torch.ones_like(value, dtype=torch.bool)
    new[:, 1:] = value[:, 1:] != value[:, :-1]
    block = new.cumsum(dim=1) - 1  # which block of ties each rank lies in
    size = torch.zeros_like(rank).scatter_add_(1, block, torch.ones_like(rank)).gather(1, block)
    inside = torch.zeros_like(rank).scatter_add_(1, block, good).gather(1, block)
    first = torch.where(new, rank, 0.0).cummax(dim=1).values
    before = (torch.where(new, good.cumsum(dim=1) - good, 0.0)).cummax(dim=1).values
    # A hit at this rank (inside / size of all orders) finds so many hits up to itself.
    among = before + 1 + (rank - first) * (inside - 1).clamp(min=0) / (size - 1).clamp(min=1)
    total: Tensor = (inside / size * among / rank).sum(dim=1)
    return total / good.sum(dim=1).clamp(min=1)


def chance(same: Tensor, queries: int, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, Tensor]:
    """Return the expected scores of a random ranking, in the form of ``rank_queries``.

    Args:
        same: Codes of the queries, then of the gallery.
        queries: The number of queries.
        cutoffs: The k of recall.
    """
    nothing = torch.zeros(queries, 1), torch.zeros(len(same) - queries, 1)
    return rank_queries(*nothing, same, ("recall", "rank", "precision"), cutoffs)


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Return the median of ``values`` ``[Q]`` in each resample under ``weights`` ``[R, Q]``: ``[R]``, NaN without weight.

    The smallest value that at least half of the weight does not exceed.
    """
    if len(values) == 0:
        return torch.full((len(weights),), torch.nan, dtype=torch.float64)
    value, order = values.double().sort()
    share = weights[:, order].cumsum(dim=1)
    half = share[:, -1:] / 2
    place = (share < half).sum(dim=1).clamp(max=len(value) - 1)
    return torch.where(share[:, -1] > 0, value[place], torch.nan)
