"""A model held against rows it has not seen: scores, intervals, what each stream is worth, and what that means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sensorium.core.batch import Batch, repeated
from sensorium.core.contracts import Task
from sensorium.core.registry import kind_of
from sensorium.evaluation.findings import Verdict, findings, verdict
from sensorium.evaluation.robustness import Robustness
from sensorium.evaluation.scores import Pair, bounds, measure, pair, resample
from sensorium.evaluation.subsets import Collected, Subset, label, shapley, subset_outputs, subsets_of
from sensorium.evaluation.tables import Bin, PerClass, calibration, confusion, per_class, per_label
from sensorium.model import Model
from sensorium.tasks.classification import Classification
from sensorium.tasks.multilabel import Multilabel
from sensorium.tasks.regression import Regression
from sensorium.tasks.svm import Svm


@dataclass
class TargetScores:
    """One target: how well it is answered.

    Args:
        name: The target's column.
        kind: The task's kind.
        headline: The metric quoted first.
        higher_is_better: Whether more of it is better.
        rows: Rows that have this target.
        whole: All streams, in the model's order.
        metrics: Every metric.
        intervals: Its 95 % bootstrap interval.
        baseline: The same metrics of knowing the training targets alone; None where those were not given.
        verdict: Whether it beats that baseline.
        subsets: Every metric with each subset of streams, by ``image+audio``.
        subset_intervals: The headline's interval with each subset.
        shapley: What each stream brought to the headline, in its own unit; positive is better.
        losses: ``[rows of the table]``, NaN without a target: the hardest rows have the largest.
        predictions: One a row, as the task decodes them.
        truths: The target's value a row; None where missing.
        labels: Class names, where there are classes.
        confusion: Counts, true class by row.
        calibration: Confidence against accuracy.
        per_class: Precision, recall and F1 by class or label.
        numbers: Predicted and true numbers, of a regression.
        findings: What it means, in sentences.
    """

    name: str
    kind: str
    headline: str
    higher_is_better: bool
    rows: int
    whole: Subset
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baseline: dict[str, float] | None
    losses: np.ndarray[Any, Any]
    predictions: list[dict[str, Any]]
    truths: list[Any]
    verdict: Verdict = "unknown"
    subsets: dict[str, dict[str, float]] = field(default_factory=dict)
    subset_intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    shapley: dict[str, float] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    calibration: list[Bin] = field(default_factory=list)
    per_class: list[PerClass] = field(default_factory=list)
    numbers: tuple[list[float], list[float]] | None = None
    findings: list[str] = field(default_factory=list)

    def hardest(self, count: int = 12) -> list[int]:
        """Indices of the rows with the largest losses, the worst first."""
        order = np.argsort(-np.nan_to_num(self.losses, nan=-np.inf), kind="stable")
        return [int(i) for i in order[:count] if np.isfinite(self.losses[i])]

    def least_sure(self, count: int = 6) -> list[int]:
        """Indices of the rows whose answer was closest to another, true or not: the least sure first. None of numbers."""
        margins = [margin(prediction) for prediction in self.predictions]
        order = np.argsort([1.0 if m is None else m for m in margins], kind="stable")
        return [int(i) for i in order[:count] if margins[i] is not None]


def margin(prediction: Mapping[str, Any]) -> float | None:
    """How sure an answer is: the chance of the first class less the second's; of labels, the mean distance from a coin."""
    chances = list(prediction.get("probabilities", {}).values())
    if isinstance(prediction["value"], list):
        return float(np.mean([abs(2 * p - 1) for p in chances])) if chances else None
    if len(chances) < 2:
        return None
    first, second = sorted(chances, reverse=True)[:2]
    return float(first - second)


@dataclass
class Evaluation:
    """All targets of a model on some rows. ``text()`` is for a terminal, ``to_json()`` for programs."""

    rows: int
    streams: tuple[str, ...]
    targets: dict[str, TargetScores]
    robustness: dict[str, Robustness] = field(default_factory=dict)
    """By target, where it was asked for."""

    @property
    def findings(self) -> list[str]:
        """What the scores mean, in sentences."""
        return [sentence for target in self.targets.values() for sentence in target.findings]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; None where a metric says nothing. Subset scores of several targets are named ``target.metric``."""
        several = len(self.targets) > 1
        subsets: dict[str, dict[str, float]] = {}
        for name, target in self.targets.items():
            for subset, metrics in target.subsets.items():
                named = {f"{name}.{metric}" if several else metric: value for metric, value in metrics.items()}
                subsets.setdefault(subset, {}).update(named)
        each = self.targets.items()
        clean: dict[str, Any] = _plain(
            {
                "rows": self.rows,
                "streams": list(self.streams),
                "targets": {name: t.metrics for name, t in each},
                "headline": {name: t.headline for name, t in each},
                "intervals": {name: t.intervals for name, t in each},
                "baseline": {name: t.baseline for name, t in each if t.baseline is not None},
                "subsets": subsets,
                "shapley": {name: t.shapley for name, t in each if t.shapley},
                "findings": self.findings,
                **({"robustness": {name: r.to_json() for name, r in self.robustness.items()}} if self.robustness else {}),
                "per_class": {name: [row._asdict() for row in t.per_class] for name, t in each if t.per_class},
                "confusion": {
                    name: {"labels": t.labels, "counts": t.confusion} for name, t in each if 0 < len(t.confusion) <= 50
                },
                "calibration": {name: [b._asdict() for b in t.calibration] for name, t in each if t.calibration},
            }
        )
        return clean

    def text(self) -> str:
        """A table for a terminal."""
        from sensorium.evaluation.terminal import written

        return written(self)


def _plain(value: Any) -> Any:
    """JSON has no NaN; and six digits are more than any of these numbers can say."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if isfinite(value) else None
    return value


def evaluate(
    model: Model,
    batches: Iterable[Batch],
    *,
    baselines: Mapping[str, Any] | None = None,
    resamples: int = 300,
    subsets: bool = True,
    seed: int = 0,
) -> Evaluation:
    """The evaluation of a model on prepared, unshuffled batches on its device. Changes nothing in the model.

    Args:
        baselines: By target, what its task answers for one row from the training targets alone (``Task.baseline``): scored
            too, beside everything else.
        resamples: Bootstrap resamples behind each interval.
        subsets: Whether to score every subset of streams, and so what each stream is worth.
        seed: Of the resamples.
    """
    streams = model.streams
    wanted = subsets_of(streams) if subsets and len(streams) > 1 else [streams]
    was_training = model.training
    model.eval()
    try:
        nothing: list[Subset] = [()] if len(wanted) > 1 else []
        found = subset_outputs(model, batches, [*wanted, *nothing])
        targets = {}
        if found.rows:
            for name, task in model.tasks.items():
                known = (baselines or {}).get(name)
                with torch.inference_mode():
                    targets[name] = _target(name, task, found, streams, known, resamples, seed)
    finally:
        model.train(was_training)
    return Evaluation(found.rows, streams, targets)


def _target(
    name: str, task: Task[Any], found: Collected, whole: Subset, plain_output: Any, resamples: int, seed: int
) -> TargetScores:
    target, output = found.targets[name], found.outputs[whole][name]
    rows = pair(task, output, target)
    drawn = resample(task, rows, resamples=resamples, seed=seed)
    losses = torch.where(target.present, task.loss(output, target), torch.nan).double().cpu().numpy()
    cells = target.data.detach().cpu().numpy()
    scores = TargetScores(
        name=name,
        kind=kind_of(task.plain),
        headline=task.headline,
        higher_is_better=task.higher_is_better,
        rows=int(target.present.sum()),
        whole=whole,
        metrics=measure(task, rows),
        intervals={metric: bounds(values) for metric, values in drawn.items()},
        baseline=None,
        losses=losses,
        predictions=task.decode(output),
        truths=[task.modality.decode(c) if p else None for c, p in zip(cells, target.present.tolist(), strict=True)],
    )
    plain = None
    if plain_output is not None:
        known = pair(task, repeated(plain_output, found.rows), target)
        scores.baseline = measure(task, known)
        plain = resample(task, known, names=[task.headline], resamples=resamples, seed=seed)[task.headline]
    scores.verdict = verdict(task.higher_is_better, drawn[task.headline], plain)
    draws = _subsets(scores, task, found, drawn[task.headline], resamples, seed)
    _describe(scores, task, rows)
    scores.findings = findings(scores, draws)
    return scores


def _subsets(
    scores: TargetScores, task: Task[Any], found: Collected, whole: Tensor, resamples: int, seed: int
) -> dict[Subset, Tensor]:
    """Scores every subset of streams; gives the headline's resamples by subset."""
    draws: dict[Subset, Tensor] = {scores.whole: whole}
    target, head = found.targets[scores.name], task.headline
    for subset, outputs in found.outputs.items():
        if not subset:
            continue
        rows = pair(task, outputs[scores.name], target)
        scores.subsets[label(subset)] = measure(task, rows)
        if subset != scores.whole:
            draws[subset] = resample(task, rows, names=[head], resamples=resamples, seed=seed)[head]
        scores.subset_intervals[label(subset)] = bounds(draws[subset])
    if () in found.outputs:
        # Knowing nothing: the training targets alone where they are known, else the model with every stream missing.
        blind = scores.baseline or measure(task, pair(task, found.outputs[()][scores.name], target))
        sign = 1 if task.higher_is_better else -1
        headline = {subset: sign * scores.subsets[label(subset)][head] for subset in draws}
        scores.shapley = shapley(headline, sign * blind[head])
    return draws


def _describe(scores: TargetScores, task: Task[Any], rows: Pair) -> None:
    """Adds the tables that the kind of task has."""
    prediction, truth = rows
    task = task.plain
    if isinstance(task, (Classification, Svm)):
        scores.labels = list(task.classes)
        scores.confusion = confusion(prediction, truth)
        scores.calibration = calibration(prediction, truth)
        scores.per_class = per_class(scores.confusion, scores.labels)
    elif isinstance(task, Multilabel):
        scores.labels = list(task.classes)
        scores.per_class = per_label(prediction, truth, scores.labels, task.threshold)
    elif isinstance(task, Regression):
        scores.numbers = (prediction.tolist(), truth.tolist())
