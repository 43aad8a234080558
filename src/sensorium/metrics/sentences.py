"""Scores of a generated sentence against its references, all of words: CIDEr-D, ROUGE-L, token F1, exact match."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

Words = Sequence[str]
ORDERS = 4
"""Longest n-gram of CIDEr-D, in words."""
SIGMA = 6.0
"""Width of the penalty of CIDEr-D on differing lengths."""
BETA = 1.2
"""Weight of recall in ROUGE-L, as evaluations on COCO captions have it."""

Grams = list[Counter[tuple[str, ...]]]


def grams(words: Words) -> Grams:
    """Return how often each n-gram occurs in ``words``, for each n from 1 to ``ORDERS``."""
    return [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for n in range(1, ORDERS + 1)]


def cider_d(generated: Sequence[Words], references: Sequence[Sequence[Words]]) -> Tensor:
    """Return the CIDEr-D of each sentence ``[rows]``, from 0 to 10: n-grams in common, rare ones counting more.

    The frequencies of n-grams are those in the references of these rows. A single row scores 0: nothing is rare in it.
    Source: Vedantam et al. 2015, https://arxiv.org/abs/1411.5726, § 4, with the length penalty and clipping of the COCO
    evaluation.

    Args:
        generated: The sentence of each row.
        references: One or more reference sentences of each row.
    """
    known = [[grams(sentence) for sentence in row] for row in references]
    frequency: Counter[tuple[str, ...]] = Counter()
    for row in known:
        frequency.update({gram for sentence in row for order in sentence for gram in order})
    rarest = math.log(max(len(known), 1))

    def weighted(sentence: Grams) -> list[dict[tuple[str, ...], float]]:
        return [{g: count * (rarest - math.log(max(1, frequency[g]))) for g, count in n.items()} for n in sentence]

    scores = []
    for words, row in zip(generated, known, strict=True):
        own = grams(words)
        mine, length = weighted(own), own[1].total()
        total = 0.0
        for sentence in row:
            close = math.exp(-((length - sentence[1].total()) ** 2) / (2 * SIGMA**2))
            total += close * sum(_clipped_cosine(a, b) for a, b in zip(mine, weighted(sentence), strict=True)) / ORDERS
        scores.append(10 * total / max(len(row), 1))
    return torch.tensor(scores, dtype=torch.float64)


def _clipped_cosine(generated: dict[tuple[str, ...], float], reference: dict[tuple[str, ...], float]) -> float:
    """Return the cosine of two weighted counts, with the generated counts clipped to those of the reference."""
    size = math.sqrt(sum(v * v for v in generated.values())) * math.sqrt(sum(v * v for v in reference.values()))
    common = sum(min(value, reference[gram]) * reference[gram] for gram, value in generated.items() if gram in reference)
    return common / size if size else 0.0


def central(sentences: Sequence[Words], most: int) -> list[int]:
    """Return the indices of the ``most`` sentences that are most similar to all ``sentences``, by cosines of weighted
    n-grams."""
    counts = [grams(sentence) for sentence in sentences]
    frequency = Counter(gram for sentence in counts for order in sentence for gram in order)
    rarest = math.log(max(len(counts), 1))
    vectors = []
    for sentence in counts:
        weights = [{g: count * (rarest - math.log(frequency[g])) for g, count in order.items()} for order in sentence]
        sizes = [math.sqrt(sum(v * v for v in order.values())) for order in weights]
        vectors.append({g: v / size for order, size in zip(weights, sizes, strict=True) if size for g, v in order.items()})
    total: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for vector in vectors:
        for gram, value in vector.items():
            total[gram] += value
    closeness = [sum(value * total[gram] for gram, value in vector.items()) for vector in vectors]
    return sorted(range(len(vectors)), key=lambda i: -closeness[i])[:most]


def rouge_l(generated: Words, references: Sequence[Words]) -> float:
    """Return ROUGE-L: the F-measure of the longest common subsequence, of the best precision and recall of any reference.

    Source: Lin 2004, https://aclanthology.org/W04-1013, § 3.

    Args:
        generated: The words of the sentence.
        references: The words of each reference.
    """
    if not generated or not any(references):
        return float(not generated and not all(references))
    common = [(common_subsequence(generated, reference), len(reference)) for reference in references]
    precision = max(count for count, _ in common) / len(generated)
    recall = max(count / length for count, length in common if length)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision else 0.0


def common_subsequence(one: Words, other: Words) -> int:
    """Return the length of the longest common subsequence of ``one`` and ``other``."""
    row = [0] * (len(other) + 1)
    for word in one:
        corner = 0
        for j, second in enumerate(other, start=1):
            corner, row[j] = row[j], corner + 1 if word == second else max(row[j], row[j - 1])
    return row[-1]


def token_f1(generated: Words, references: Sequence[Words]) -> float:
    """Return the harmonic mean of precision and recall of words, of the best reference.

    Source: Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250, § 6.1.

    Args:
        generated: The words of the sentence.
        references: The words of each reference.
    """

    def one(reference: Words) -> float:
        if not generated and not reference:
            return 1.0
        return 2 * (Counter(generated) & Counter(reference)).total() / (len(generated) + len(reference))

    return max(map(one, references), default=0.0)


def exact_match(generated: Words, references: Sequence[Words]) -> float:
    """Return 1 if the words ``generated`` are those of one of the ``references``, otherwise 0."""
    return float(any(list(generated) == list(reference) for reference in references))
