"""A scorer of generated sentences: it keeps the words of each row, and what metrics need is computed once from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.scorer import Kept, Scorer
from sensorium.language.word_segmentation import words
from sensorium.metrics.bleu import available, bleu, bleu_statistics
from sensorium.metrics.chrf import chrf, chrf_statistics, f_score
from sensorium.metrics.sentences import cider_d, exact_match, rouge_l, token_f1
from sensorium.metrics.vqa import normalised_match, vqa_accuracy
from sensorium.metrics.weighting import mean

METRICS = ("cider", "bleu", "chrf", "rouge_l", "token_f1", "exact_match", "normalised_match", "vqa_accuracy")
"""All metrics; ``bleu`` only where sacrebleu is installed."""


class Speaking(Protocol):
    """A task that generates sentences."""

    def target(self, batch: Batch) -> Field | None:
        """The targets of ``batch``, as ``Task.target``."""

    def truths(self, batch: Batch) -> list[Any]:
        """The references of each row of ``batch``, as ``Task.truths``."""

    def sentences(self, output: Any) -> list[tuple[str, float]]:
        """The sentence and the confidence of each row of ``output``."""


def tokens(sentence: str) -> list[str]:
    """Return the words of ``sentence`` as metrics compare them: lower case, no punctuation; all symbols if there are no
    words."""
    every = words(sentence.lower())
    return [word for word in every if any(c.isalnum() for c in word)] or every


class SentenceScorer(Scorer[Any]):
    """Keeps the generated sentence of each row, its references and its confidence.

    Args:
        task: The scored task.
        metrics: Names of the metrics, the headline first.
    """

    def __init__(self, task: Speaking, metrics: Sequence[str]) -> None:
        super().__init__()
        self._task = task
        self.metrics = tuple(name for name in metrics if name != "bleu" or available())
        self._computed: dict[str, Tensor] = {}
        self._computed_rows = 0

    def keep(self, output: Any, batch: Batch) -> Kept:
        target = self._task.target(batch)
        if target is None or not bool(target.present.any()):
            return {"generated": [], "references": [], "confidence": torch.zeros(0, dtype=torch.float64)}
        present = target.present.tolist()
        rows = [
            (sentence, [truth] if isinstance(truth, str) else list(truth), confidence)
            for (sentence, confidence), truth, known in zip(
                self._task.sentences(output), self._task.truths(batch), present, strict=True
            )
            if known
        ]
        return {
            "generated": [sentence for sentence, _, _ in rows],
            "references": [references for _, references, _ in rows],
            "confidence": torch.tensor([confidence for _, _, confidence in rows], dtype=torch.float64),
        }

    @property
    def generated(self) -> list[str]:
        """The sentence of each row."""
        sentences: list[str] = self.kept.get("generated", [])
        return sentences

    @property
    def references(self) -> list[list[str]]:
        """The references of each row."""
        references: list[list[str]] = self.kept.get("references", [])
        return references

    @property
    def varied(self) -> bool:
        return any(row != self.references[0] for row in self.references)

    def each(self, metric: str) -> Tensor:
        """Return ``metric`` of each row ``[rows]``; of BLEU and chrF the statistics ``[rows, ...]``."""
        if self._computed_rows != self.rows:
            self._computed, self._computed_rows = {}, self.rows
        if metric not in self._computed:
            self._computed[metric] = self._compute(metric)
        return self._computed[metric]

    def of_rows(self, metric: str) -> Tensor:
        """Return the score of each row alone by ``metric`` ``[rows]``, which BLEU has not."""
        return f_score(self.each(metric)) if metric == "chrf" else self.each(metric)

    def _compute(self, metric: str) -> Tensor:
        if metric == "bleu":
            return bleu_statistics(self.generated, self.references)
        if metric == "chrf":
            return chrf_statistics(self.generated, self.references)
        if (short := {"normalised_match": normalised_match, "vqa_accuracy": vqa_accuracy}.get(metric)) is not None:
            pairs = zip(self.generated, self.references, strict=True)
            return torch.tensor([short(text, row) for text, row in pairs], dtype=torch.float64)
        generated, references = list(map(tokens, self.generated)), [list(map(tokens, row)) for row in self.references]
        if metric == "cider":
            return cider_d(generated, references)
        one = {"rouge_l": rouge_l, "token_f1": token_f1, "exact_match": exact_match}[metric]
        return torch.tensor([one(a, b) for a, b in zip(generated, references, strict=True)], dtype=torch.float64)

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        of_all = {"bleu": bleu, "chrf": chrf}
        return {
            name: of_all.get(name, mean)(self.each(name), weights)
            for name in self.metrics
            if names is None or name in names
        }
