"""What the model is worth with every subset of its streams, and what each stream contributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

Subset = tuple[str, ...]
EXACT = 6  # streams up to which all subsets are answered: 2⁶ fusions a batch


def label(subset: Subset) -> str:
    """``("image", "audio")`` as ``image+audio``."""
    return "+".join(subset)


def subsets_of(streams: Sequence[str]) -> list[Subset]:
    """The subsets to answer, the whole first: all up to six streams, above it each alone and all but each."""
    names, count = tuple(streams), len(streams)
    sizes = range(count, 0, -1) if count <= EXACT else (count, count - 1, 1)
    return [subset for size in sizes for subset in combinations(names, size)]


def shapley(subset_scores: Mapping[Subset, float], empty_score: float) -> dict[str, float]:
    """How much of the whole's score each stream brought: its gain, averaged over all orders in which streams may come.

    The shares sum to the whole's score less ``empty_score``. Where not all subsets are given (above six streams) a share
    is the mean of coming first and coming last, which is the same as long as streams interact in pairs only.

    Source: Shapley, A Value for n-Person Games (1953).
    """
    streams = max(subset_scores, key=len, default=())
    count = len(streams)
    scores = {frozenset(subset): value for subset, value in subset_scores.items()} | {frozenset(): empty_score}
    everyone = frozenset(streams)
    shares = {}
    for stream in streams:
        others = [other for other in streams if other != stream]
        if len(scores) < 2**count:
            first = scores[frozenset([stream])] - empty_score
            last = scores[everyone] - scores[everyone - {stream}]
            shares[stream] = (first + last) / 2
            continue
        shares[stream] = sum(
            factorial(size) * factorial(count - size - 1) / factorial(count) * (scores[before | {stream}] - scores[before])
            for size in range(count)
            for before in map(frozenset, combinations(others, size))
        )
    return shares
