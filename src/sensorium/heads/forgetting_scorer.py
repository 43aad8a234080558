"""A scorer of sentences that also measures forgetting: the perplexity of plain texts before and after training."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.scorer import Kept
from sensorium.heads.sentence_scorer import SentenceScorer, Speaking

AFTER, BEFORE = "text_perplexity", "text_perplexity_before"


class Remembering(Speaking, Protocol):
    """A task whose language model was changed by training."""

    def text_surprise(self, output: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Of the text of each row of ``output``: its summed surprise now, that before training, and its tokens ``[B]``."""


class ForgettingScorer(SentenceScorer):
    """Adds the perplexity of a token of the questions, as plain texts, now and before training.

    Args:
        task: The scored task.
        metrics: Names of the metrics of sentences, the headline first.
    """

    def __init__(self, task: Remembering, metrics: Sequence[str]) -> None:
        super().__init__(task, metrics)
        self._remembering = task

    def keep(self, output: Any, batch: Batch) -> Kept:
        kept = super().keep(output, batch)
        target = self._remembering.target(batch)
        parts = [torch.zeros(0)] * 3
        if target is not None and bool(target.present.any()):
            parts = [part[target.present].double().cpu() for part in self._remembering.text_surprise(output)]
        return {**kept, **dict(zip(("surprise", "surprise_before", "text_tokens"), parts, strict=True))}

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        made = super().compute(weights, names)
        for name, part in ((AFTER, "surprise"), (BEFORE, "surprise_before")):
            if names is None or name in names:
                total = self.kept.get(part, torch.zeros(0)).double()
                count = self.kept.get("text_tokens", torch.zeros(0)).double()
                made[name] = (weights @ total / (weights @ count)).exp()
        return made
