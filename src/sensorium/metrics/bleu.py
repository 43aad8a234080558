"""Corpus BLEU by sacrebleu, from statistics of each row, so that resamples of the rows need no new counting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

ORDERS = 4
_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")


def available() -> bool:
    """Whether sacrebleu is installed (``sensorium[words]``)."""
    return find_spec("sacrebleu") is not None


def bleu_statistics(generated: Sequence[str], references: Sequence[Sequence[str]]) -> Tensor:
    """Return what BLEU needs of each row ``[rows, 2 + 2 * ORDERS]``: both lengths, then matches and totals by n.

    Words are split as sacrebleu splits them: ``zh`` if more than half of the references are Chinese, otherwise ``13a``.

    Args:
        generated: The sentence of each row.
        references: One or more reference sentences of each row.
    """
    from sacrebleu.metrics import BLEU

    every = [sentence for row in references for sentence in row]
    chinese = sum(bool(_CHINESE.search(sentence)) for sentence in every) > len(every) / 2
    # An effective order only changes the sentence's own score, which is not used.
    scorer = BLEU(tokenize="zh" if chinese else "13a", effective_order=True)
    rows = []
    for sentence, row in zip(generated, references, strict=True):
        score = scorer.sentence_score(sentence, list(row))
        rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 2 + 2 * ORDERS)


def bleu(statistics: Tensor, weights: Tensor) -> Tensor:
    """Return corpus BLEU, from 0 to 1, in each resample ``[R]``; NaN without rows.

    Args:
        statistics: ``bleu_statistics`` ``[rows, 2 + 2 * ORDERS]``.
        weights: How often each row counts in each resample ``[R, rows]``.
    """
    from sacrebleu.metrics import BLEU

    values = []
    for length, true, *counts in (weights @ statistics).round().long().tolist() if len(statistics) else []:
        score = BLEU.compute_bleu(
            correct=counts[:ORDERS], total=counts[ORDERS:], sys_len=length, ref_len=true, smooth_method="exp"
        )
        values.append(score.score / 100)
    return torch.tensor(values, dtype=torch.float64) if values else weights.new_full((weights.shape[0],), torch.nan)
