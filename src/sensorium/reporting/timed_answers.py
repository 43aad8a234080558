"""Answers with what belongs to their rows rather than to the model: the moments that a forecast is for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sensorium.predictor import Prediction


def with_parts(predictions: Iterable[Prediction], key: str, parts: Sequence[Any]) -> Iterator[Prediction]:
    """Yield ``predictions`` with a further ``key`` in every answer: of each row the one of ``parts``."""
    for prediction, part in zip(predictions, parts, strict=True):
        answers = {name: {**answer, key: part} for name, answer in prediction.targets.items()}
        yield replace(prediction, targets=answers)
