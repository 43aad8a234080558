"""What every task that decides between classes shares: indices, shares, scores, answers, views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sensorium.core.answer import Answer
from sensorium.core.batch import Field
from sensorium.core.contracts import Task
from sensorium.core.views import LIMITS, Curve, Matrix, Sentence, Table, View
from sensorium.metrics import weighted
from sensorium.metrics.confusion import PerClass, calibration, confusion, per_class
from sensorium.metrics.pair_scorer import Pairs

FEW = 20
"""Scored rows of a class below which its scores say little."""
FEW_ROWS = 1_500
"""Below this, targets are softened: the network would soon be sure of every row it has seen."""
SKEWED = 5.0
"""From this ratio of the commonest class to the rarest on, rare classes weigh more than their number."""
CLASS_WORDS = {"name": "class", "rows": "rows", "precision": "precision", "recall": "recall", "f1": "F1"}
MEASURES = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "log_loss", "calibration_error")


def class_index(target: Field, classes: int) -> Tensor:
    """Class indices ``[B]`` of ``target``, clamped to ``classes``, since rows without a target may hold any value."""
    return target.data[:, 0].nan_to_num(0.0).long().clamp(0, classes - 1)


def class_shares(targets: Iterable[Field], classes: int) -> Tensor:
    """Frequencies of ``classes`` ``[K]`` in ``targets``, with one pseudo-row for each class, so that none is zero."""
    count = torch.ones(classes, dtype=torch.get_default_dtype())
    for part in targets:
        count += torch.bincount(part.data[part.present][:, 0].long().cpu(), minlength=classes)
    return count / count.sum()


def class_weights(shares: Tensor, balance: float) -> Tensor:
    """The weight of each class ``[K]``, 1 on average over rows, from the class frequencies ``shares``: equal at
    ``balance`` 0, inversely proportional to frequency at 1."""
    raw = shares.pow(-balance)
    return raw / (raw * shares).sum()


def class_advice(given: Mapping[str, Any], rows: int, counts: Sequence[int]) -> tuple[dict[str, Any], list[str]]:
    """Suggested values of the options ``smoothing`` and ``balance`` for ``rows`` rows with ``counts`` of each class,
    unless ``given``; and the reasons."""
    chosen: dict[str, Any] = {}
    if rows < FEW_ROWS and "smoothing" not in given:
        chosen["smoothing"] = 0.1
    if counts and max(counts) >= SKEWED * min(counts) and "balance" not in given:
        why = f"rare classes weigh more (largest {max(counts)} rows, smallest {min(counts)})"
        return chosen | {"balance": 0.5}, [why]
    return chosen, []


def class_scorer(task: Task[Any], compare: Callable[[Any, Field], tuple[Tensor, Tensor]]) -> Pairs:
    """The scorer of ``task``: probabilities ``[B, K]`` against class indices ``[B]``; ``compare``: the metrics of a
    comparison only."""
    return Pairs(task, compare, {name: getattr(weighted, name) for name in MEASURES}, macro_of(task.labels))


def macro_of(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of the metrics that are macro averages over ``classes``."""
    # The area of two classes is that of the second; of more it is the mean of each against the rest.
    return ("precision", "recall", "f1", *(["auroc"] if len(classes) != 2 else []))


def class_answers(
    chances: Tensor, classes: Sequence[str], value: Callable[[int], Any], decided: Tensor | None = None
) -> list[Answer]:
    """One answer for each row of probabilities ``chances`` ``[B, K]``: the most likely of ``classes`` (or ``decided``
    ``[B]``), written by ``value``, and the probability of every class."""
    chances = chances.cpu()
    best = (chances.argmax(dim=1) if decided is None else decided).tolist()
    return [
        {"value": value(k), "probabilities": dict(zip(classes, row, strict=True))}
        for k, row in zip(best, chances.tolist(), strict=True)
    ]


def chance_of(chances: Tensor, of: Tensor) -> Tensor:
    """The chance ``[B]`` in ``chances`` ``[B, K]`` of the class that is likeliest in ``of`` ``[B or 1, K]``."""
    return chances.gather(1, of.argmax(dim=1, keepdim=True).expand(chances.shape[0], 1))[:, 0]


def class_views(scorer: Pairs, classes: Sequence[str], name: str, decided: Tensor | None = None) -> list[View]:
    """Confusion matrix, table by class and calibration curve of the rows in ``scorer``; ``name`` is the target's,
    ``decided`` the predicted classes ``[rows]`` if not the most likely."""
    if scorer.rows == 0:
        return []
    answered = scorer.prediction if decided is None else F.one_hot(decided, len(classes))
    counts = confusion(answered, scorer.truth)
    each = per_class(counts, classes)
    bins = [one._asdict() for one in calibration(scorer.prediction, scorer.truth)]
    note = "Below the dashed line the model is surer than it should be, above it less sure. Larger dots are more rows."
    error = float(scorer.compute(names=["calibration_error"])["calibration_error"][0])
    return [
        Matrix("confusion", "What is taken for what", labels=list(classes), counts=counts),
        class_table(each),
        Curve(
            "calibration",
            "Can its confidence be believed?",
            f"Calibration: {note[0].lower()}{note[1:]}",
            points=bins,
            x="confidence",
            y="accuracy",
            size="rows",
            ideal="diagonal",
        ),
        *class_limits(each, name),
        *([_limit(f"{name}: its confidence is off by {100 * error:.0f} points on average.")] if error > 0.1 else []),
    ]


def class_table(each: Sequence[PerClass]) -> Table:
    """Precision, recall and F1 of ``each`` class or label, the most frequent first."""
    return Table("per_class", "Each class", rows=[one._asdict() for one in each], words=CLASS_WORDS)


def class_limits(each: Sequence[PerClass], name: str) -> list[View]:
    """Sentences on which classes (``each``) of the target ``name`` were tested on few rows, and which has the lowest
    recall."""
    found = []
    rare = [one for one in each if one.rows < FEW]
    if rare:
        named = ", ".join(f"{one.name} ({one.rows})" for one in rare[:5])
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        found.append(_limit(f"{name}: fewer than {FEW} rows were tested of {named}{more}: scores of these say little."))
    known = [one for one in each if one.rows >= FEW and one.recall == one.recall]
    if len(known) > 1:
        worst = min(known, key=lambda one: one.recall)
        found.append(_limit(f"{name}: of {worst.name} it finds least, {100 * worst.recall:.0f} % of {worst.rows} rows."))
    return found


def _limit(text: str) -> View:
    return Sentence(LIMITS, "", text=text)
