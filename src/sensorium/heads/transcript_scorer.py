"""A scorer of transcripts: it keeps texts, and errors and lengths of each row."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.scorer import Kept, Scorer
from sensorium.metrics.transcripts import character_errors, error_rate, word_errors
from sensorium.metrics.weighting import mean

METRICS = ("wer", "cer", "exact_match")
"""Word and character error rates, and the share of transcripts without an error."""


class Transcribing(Protocol):
    """A task that transcribes."""

    def target(self, batch: Batch) -> Field | None:
        """The targets of ``batch``, as ``Task.target``."""

    def truths(self, batch: Batch) -> list[Any]:
        """The true transcripts of ``batch``, as ``Task.truths``."""

    def texts(self, output: Any) -> list[tuple[str, float]]:
        """The transcript and the confidence of each row of ``output``."""


class TranscriptScorer(Scorer[Any]):
    """Word and character error rates over all rows together.

    Args:
        task: The scored task.
    """

    def __init__(self, task: Transcribing) -> None:
        super().__init__()
        self._task = task

    def keep(self, output: Any, batch: Batch) -> Kept:
        target = self._task.target(batch)
        known = [] if target is None else target.present.tolist()
        rows = (
            [
                (text, truth, confidence)
                for (text, confidence), truth, present in zip(
                    self._task.texts(output), self._task.truths(batch), known, strict=True
                )
                if present
            ]
            if any(known)
            else []
        )
        answers, truths = [row[0] for row in rows], [row[1] for row in rows]
        words, differing = word_errors(truths, answers)
        return {
            "answer": answers,
            "truth": truths,
            "words": words,
            "characters": character_errors(truths, answers),
            "differing": differing,
            "confidence": torch.tensor([row[2] for row in rows], dtype=torch.float64),
        }

    @property
    def varied(self) -> bool:
        return len(set(self.kept.get("truth", []))) > 1

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        kept = self.kept
        if self.rows == 0:
            nothing = weights.new_full((weights.shape[0],), torch.nan)
            every = dict.fromkeys(METRICS, nothing)
        else:
            every = {
                "wer": error_rate(kept["words"], weights),
                "cer": error_rate(kept["characters"], weights),
                "exact_match": mean((kept["characters"][:, 0] == 0).double(), weights),
            }
        return {name: every[name] for name in METRICS if names is None or name in names}
