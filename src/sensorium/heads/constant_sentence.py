"""The best constant sentence: what always saying the same one is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from sensorium.heads.sentence_scorer import tokens
from sensorium.metrics.sentences import central, cider_d, exact_match

ROWS = 400
"""Number of training rows on which candidates are compared, evenly spaced."""
CANDIDATES = 24

Ids = list[int]


def best_constant(rows: Sequence[Sequence[Ids]], decode: Callable[[Ids], list[str]], metric: str) -> Ids | None:
    """Return the token ids of the sentence that scores best as the answer to every row; None without rows.

    Candidates are the most frequent sentences and those that share most n-grams with all others. They are compared by
    exact match if that is the ``metric``, otherwise by CIDEr-D.

    Args:
        rows: The sentences of each row as token ids.
        decode: Maps token ids to sentences.
        metric: The headline metric.
    """
    some = [row for row in rows[:: max(1, len(rows) // ROWS)] if row]
    if not some:
        return None
    count = Counter(tuple(sentence) for row in some for sentence in row)
    texts = {ids: tokens(decode(list(ids))[0]) for ids in count}
    references = [[texts[tuple(sentence)] for sentence in row] for row in some]
    candidates = [ids for ids, _ in count.most_common(CANDIDATES)]
    every = list(texts)
    candidates += [every[i] for i in central(list(texts.values()), CANDIDATES)]

    def score(ids: Iterable[int]) -> float:
        generated = texts[tuple(ids)]
        if metric == "exact_match":
            return sum(exact_match(generated, row) for row in references)
        return float(cider_d([generated] * len(references), references).sum())

    return list(max(dict.fromkeys(candidates), key=score))
