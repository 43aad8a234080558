"""Subsets of streams to evaluate, and the contribution of each stream to a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

Subset = tuple[str, ...]
EXACT = 6  # number of streams up to which all subsets are evaluated: 2⁶ fusions of each batch


def label(subset: Subset) -> str:
    """Return the name of ``subset``: ``image+audio`` for ``("image", "audio")``."""
    return "+".join(subset)


def subsets_of(streams: Sequence[str]) -> list[Subset]:
    """Return the subsets of ``streams`` to evaluate, the full set first: all subsets of up to six streams, else those of
    one stream and those without one stream."""
    names, count = tuple(streams), len(streams)
    sizes = range(count, 0, -1) if count <= EXACT else (count, count - 1, 1)
    return [subset for size in sizes for subset in combinations(names, size)]


def stream_contributions(subset_scores: Mapping[Subset, float], empty_score: float) -> dict[str, float]:
    """Attribute the score of all streams to the streams (Shapley values).

    Contributions sum to the score of all streams minus ``empty_score``. If subsets are missing (above six streams), a
    contribution is the mean of the stream's gain when added first and when added last, which is exact if streams interact
    only in pairs. Source: Shapley, A Value for n-Person Games (1953).

    Args:
        subset_scores: The score with each subset of streams.
        empty_score: The score without any stream.
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
