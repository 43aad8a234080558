"""Forgetting of a language model: the likelihood of plain texts before and after its training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sensorium.nn.lora import Lora
from sensorium.pretrained.borrowed_language_model import original
from sensorium.pretrained.language_model import LanguageModel
from sensorium.pretrained.speech import Speech


class TextMemory:
    """Compares a trained language model with itself before training.

    Args:
        speech: Scores texts with the trained model.
        updates: Its low-rank updates, which are switched off for the comparison.
        weights: Its weights that were trained in full; if there are any, the original model is read again.
    """

    def __init__(self, speech: Speech, updates: nn.ModuleList, weights: nn.ParameterList) -> None:
        self._speech, self._updates, self._weights = speech, updates, weights
        self._original: LanguageModel | None = None

    def surprise(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the summed negative log-likelihood of each of ``texts`` now and before training, and the number of its
        tokens ``[B]``."""
        after, count = self._speech.surprise(texts)
        if len(self._weights):
            self._original = self._original or original(self._speech.model)
            self._original.network.to(self._weights[0].device)
            before, _ = Speech(self._original, self._speech.rows, self._speech.decoding).surprise(texts)
            return after, before, count
        updates = [update for update in self._updates if isinstance(update, Lora)]
        scales = [update.scale for update in updates]
        try:
            for update in updates:
                update.scale = 0.0
            before, _ = self._speech.surprise(texts)
        finally:
            for update, scale in zip(updates, scales, strict=True):
                update.scale = scale
        return after, before, count
