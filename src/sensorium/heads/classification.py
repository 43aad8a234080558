"""Functions shared by classification tasks: class indices, shares and weights, scorers, predictions, report views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sensorium.core.answer import Answer
from sensorium.core.batch import Field
from sensorium.core.report_views import LIMITS, Curve, Matrix, Sentence, Table, View
from sensorium.core.task import Task
from sensorium.metrics import classification
from sensorium.metrics.class_tables import PerClass, calibration, confusion, per_class
from sensorium.metrics.pair_scorer import PairScorer

FEW = 20
"""Number of scored rows of a class below which its scores are unreliable."""
FEW_ROWS = 1_500
"""Number of rows below which label smoothing is recommended, against overfitting."""
SKEWED = 5.0
"""Ratio of the largest to the smallest class from which rare classes are up-weighted."""
CLASS_WORDS = {"name": "class", "rows": "rows", "precision": "precision", "recall": "recall", "f1": "F1"}
MEASURES = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "log_loss", "calibration_error")


def class_index(target: Field, classes: int) -> Tensor:
    """Return class indices ``[B]`` of ``target``, clamped to ``classes`` since rows without a target may hold any value."""
    return target.data[:, 0].nan_to_num(0.0).long().clamp(0, classes - 1)


def class_shares(targets: Iterable[Field], classes: int) -> Tensor:
    """Return the shares ``[K]`` of the ``classes`` in ``targets``, with add-one smoothing."""
    count = torch.ones(classes, dtype=torch.get_default_dtype())
    for part in targets:
        count += torch.bincount(part.data[part.present][:, 0].long().cpu(), minlength=classes)
    return count / count.sum()


def class_weights(shares: Tensor, balance: float) -> Tensor:
    """Return class weights ``[K]`` with mean 1 over rows: ``shares`` to the power of ``-balance``; uniform at 0."""
    raw = shares.pow(-balance)
    return raw / (raw * shares).sum()


def class_advice(options: Mapping[str, Any], rows: int, counts: Sequence[int]) -> tuple[dict[str, Any], list[str]]:
    """Recommend the options ``smoothing`` and ``balance`` unless set by the user.

    Args:
        options: The options set by the user.
        rows: Number of training rows.
        counts: Number of rows of each class.

    Returns:
        The recommended options, and notes that explain them.
    """
    chosen: dict[str, Any] = {}
    if rows < FEW_ROWS and "smoothing" not in options:
        chosen["smoothing"] = 0.1
    if counts and max(counts) >= SKEWED * min(counts) and "balance" not in options:
        why = f"rare classes get larger weights (largest {max(counts)} rows, smallest {min(counts)})"
        return chosen | {"balance": 0.5}, [why]
    return chosen, []


def class_scorer(task: Task[Any], compare: Callable[[Any, Field], tuple[Tensor, Tensor]]) -> PairScorer:
    """Return a scorer of class probabilities ``[B, K]`` against class indices ``[B]``.

    Args:
        task: The task.
        compare: Maps an output and the target to probabilities and indices.
    """
    return PairScorer(task, compare, {name: getattr(classification, name) for name in MEASURES}, macro_of(task.labels))


def macro_of(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the classification metrics that are averaged over ``classes``."""
    # AUROC of two classes is that of the second; of more it is the one-vs-rest mean.
    return ("precision", "recall", "f1", *(["auroc"] if len(classes) != 2 else []))


def class_answers(
    chances: Tensor, classes: Sequence[str], value: Callable[[int], Any], decided: Tensor | None = None
) -> list[Answer]:
    """Return the predicted class of each row and the probability of every class.

    Args:
        chances: Probabilities ``[B, K]``.
        classes: Names of the classes.
        value: Maps a class index to its value.
        decided: The predicted class indices ``[B]``; None for the most likely.
    """
    chances = chances.cpu()
    best = (chances.argmax(dim=1) if decided is None else decided).tolist()
    return [
        {"value": value(k), "probabilities": dict(zip(classes, row, strict=True))}
        for k, row in zip(best, chances.tolist(), strict=True)
    ]


def chance_of(chances: Tensor, of: Tensor) -> Tensor:
    """Return the probability ``[B]`` in ``chances`` ``[B, K]`` of the most likely class of ``of`` ``[B or 1, K]``."""
    return chances.gather(1, of.argmax(dim=1, keepdim=True).expand(chances.shape[0], 1))[:, 0]


def class_views(scorer: PairScorer, classes: Sequence[str], name: str, decided: Tensor | None = None) -> list[View]:
    """Return the report views of a classification task: confusion matrix, per-class scores, calibration, limitations.

    Args:
        scorer: The scored rows.
        classes: Names of the classes.
        name: The target.
        decided: The predicted class indices ``[rows]``; None for the most likely.
    """
    if scorer.rows == 0:
        return []
    answered = scorer.prediction if decided is None else F.one_hot(decided, len(classes))
    counts = confusion(answered, scorer.truth)
    each = per_class(counts, classes)
    bins = [one._asdict() for one in calibration(scorer.prediction, scorer.truth)]
    note = "Below the dashed line the model is overconfident, above it underconfident. Larger dots represent more rows."
    error = float(scorer.compute(names=["calibration_error"])["calibration_error"][0])
    return [
        Matrix("confusion", "Confusion matrix", labels=list(classes), counts=counts),
        class_table(each),
        Curve(
            "calibration",
            "Calibration",
            f"Calibration: {note[0].lower()}{note[1:]}",
            points=bins,
            x="confidence",
            y="accuracy",
            size="rows",
            ideal="diagonal",
        ),
        *class_limits(each, name),
        *(
            [_limit(f"{name}: confidence deviates from accuracy by {100 * error:.0f} points on average.")]
            if error > 0.1
            else []
        ),
    ]


def class_table(each: Sequence[PerClass]) -> Table:
    """Return a table of precision, recall and F1 by class or label (``each``)."""
    return Table("per_class", "Scores by class", rows=[one._asdict() for one in each], words=CLASS_WORDS)


def class_limits(each: Sequence[PerClass], name: str) -> list[View]:
    """Return the limitations by class: those with few evaluated rows, and the one with the lowest recall.

    Args:
        each: The scores of each class.
        name: The target.
    """
    limits = []
    rare = [one for one in each if one.rows < FEW]
    if rare:
        named = ", ".join(f"{one.name} ({one.rows})" for one in rare[:5])
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        limits.append(_limit(f"{name}: scores are unreliable for classes with fewer than {FEW} rows: {named}{more}."))
    known = [one for one in each if one.rows >= FEW and one.recall == one.recall]
    if len(known) > 1:
        worst = min(known, key=lambda one: one.recall)
        limits.append(
            _limit(f"{name}: recall is lowest for {worst.name}, {100 * worst.recall:.0f} % of {worst.rows} rows.")
        )
    return limits


def _limit(text: str) -> View:
    return Sentence(LIMITS, "", text=text)
