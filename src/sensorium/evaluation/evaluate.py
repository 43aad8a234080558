"""A model held against rows it has not seen: scores, intervals, what each stream is worth, and what that means."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sensorium.core.answer import Answer, attachments, light, margin, own
from sensorium.core.batch import Batch, moved
from sensorium.core.contracts import Task
from sensorium.core.forward import Forward
from sensorium.core.registry import kind_of
from sensorium.core.views import Gallery, Matrix, Scatter, Sentence, View
from sensorium.evaluation.baselines import Floor, Parts
from sensorium.evaluation.bootstrap import bounds, resample
from sensorium.evaluation.findings import Verdict, findings, verdict, words
from sensorium.evaluation.robustness import Robustness
from sensorium.evaluation.score_accumulator import Tally, TaskTally
from sensorium.evaluation.stream_subsets import Subset, label, shapley, subsets_of
from sensorium.model import Model

SHOWN = 24
"""Rows whose answers keep their pictures and sounds: the worst, and as many of the least sure."""


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
        losses: ``[rows of the table]``, NaN without a target: the hardest rows have the largest. Each row counts alike,
            whatever weight its class has in training.
        predictions: One a row, as the task decodes them.
        truths: The target's value a row; None where missing.
        views: What else a report draws of it, as the task says: tables, curves, sentences.
        nothing: What the baseline does, in words.
        varied: Whether the scored rows differ in their targets: else no score tells rows apart.
        macro: The metrics that are means over classes.
        floor: What the network and each expert reach by themselves, where experts answer beside it.
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
    views: list[View] = field(default_factory=list)
    nothing: str = "knowing the training targets alone"
    varied: bool = True
    macro: Collection[str] = ()
    floor: Floor | None = None
    findings: list[str] = field(default_factory=list)

    def named(self, metric: str | None = None) -> str:
        """A metric as a report writes it, the headline unless another is given: ``macro F1``."""
        return words(metric or self.headline, self.macro)

    def view(self, name: str) -> View | None:
        """The view of this name, if the task gives one."""
        return next((view for view in self.views if view.name == name), None)

    def hardest(self, count: int = 12) -> list[int]:
        """Indices of the rows with the largest losses, the worst first."""
        order = np.argsort(-np.nan_to_num(self.losses, nan=-np.inf), kind="stable")
        return [int(i) for i in order[:count] if np.isfinite(self.losses[i])]

    def least_sure(self, count: int = 6) -> list[int]:
        """Indices of the rows whose answer was closest to another, true or not: the least sure first. None of numbers."""
        margins = [margin(prediction) for prediction in self.predictions]
        order = np.argsort([1.0 if m is None else m for m in margins], kind="stable")
        return [int(i) for i in order[:count] if margins[i] is not None]


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

    def floor(self) -> dict[str, Any]:
        """By target, what each part of the model reached, as plain JSON; targets without experts are left out."""
        plain: dict[str, Any] = _plain({n: t.floor.to_json() for n, t in self.targets.items() if t.floor is not None})
        return plain

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
                **({"floor": floors} if (floors := self.floor()) else {}),
                **({"robustness": {name: r.to_json() for name, r in self.robustness.items()}} if self.robustness else {}),
                **_views(self.targets),
            }
        )
        return clean

    def text(self) -> str:
        """A table for a terminal."""
        from sensorium.reporting.terminal import written

        return written(self)


def _views(targets: Mapping[str, TargetScores]) -> dict[str, dict[str, Any]]:
    """What each target's views hold, by the view's name and then by target; what only people read is left out."""
    found: dict[str, dict[str, Any]] = {}
    for name, target in targets.items():
        for view in target.views:
            large = isinstance(view, Matrix) and len(view.labels) > view.most
            if large or isinstance(view, (Sentence, Gallery, Scatter)):
                continue
            found.setdefault(view.name, {})[name] = view.to_json()
    return found


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
    batches: Iterable[Batch | Forward],
    *,
    baselines: Mapping[str, Any] | None = None,
    resamples: int = 300,
    subsets: bool = True,
    seed: int = 0,
) -> Evaluation:
    """The evaluation of a model on prepared, unshuffled batches on its device. Changes nothing in the model.

    Of outputs only what scores need is kept, so memory grows by little with the rows, however large an answer is.

    Args:
        batches: A pass stands for a batch that another model with the same tasks answers (of folds), in evaluation.
        baselines: By task, what is known of the training targets alone (``Task.baseline``): what it answers is scored too,
            beside everything else.
        resamples: Bootstrap resamples behind each interval.
        subsets: Whether to score every subset of streams, and so what each stream is worth.
        seed: Of the resamples.
    """
    streams = model.streams
    wanted = subsets_of(streams) if subsets and len(streams) > 1 else [streams]
    was_training = model.training
    model.eval()
    try:
        found = _gathered(model, batches, wanted, baselines or {})
        targets = {}
        if found.rows:
            with torch.inference_mode():
                targets = {name: _target(name, found, streams, resamples, seed) for name in model.tasks}
    finally:
        model.train(was_training)
    return Evaluation(found.rows, streams, targets)


@dataclass
class _Gathered:
    """What was kept while a model answered.

    Args:
        rows: How many.
        tallies: By subset of streams; the empty one where there are several.
        known: By task, what knowing the training targets alone scores.
        answered: By task, what was answered to each row.
        parts: What the network and the experts beside it say by themselves.
    """

    rows: int
    tallies: dict[Subset, Tally]
    known: dict[str, TaskTally]
    answered: dict[str, _Answered]
    parts: Parts


def _gathered(
    model: Model, batches: Iterable[Batch | Forward], wanted: Sequence[Subset], baselines: Mapping[str, Any]
) -> _Gathered:
    subsets: list[Subset] = [*wanted, *([()] if len(wanted) > 1 else [])]
    tallies = {subset: Tally(model.tasks, losses=subset == wanted[0]) for subset in subsets}
    whole = tallies[wanted[0]]
    plain = Tally(model.tasks, losses=False)
    known = {name: plain.each[name] for name, baseline in baselines.items() if name in plain.each and baseline is not None}
    parts = Parts(model, alone=len(wanted) > 1)
    found = _Gathered(0, tallies, known, {name: _Answered() for name in model.tasks}, parts)
    with torch.inference_mode():
        for each in batches:
            run = each if isinstance(each, Forward) else Forward(model, each)
            batch = run.batch
            for subset, tally in tallies.items():
                outputs = run.only(*subset).outputs
                tally.update(outputs, batch)
                if tally is whole:
                    for name, task in model.tasks.items():
                        answers, truths = task.answers(outputs[name], batch), task.truths(batch)
                        found.answered[name].add(answers, truths, tally.each[name].told)
            parts.update(run, batch)
            for name, one in known.items():
                constant = moved(one.task.constant(baselines[name], batch.rows), batch.weight.device)
                plain.add(one, constant, batch)
            found.rows += batch.rows
    return found


@dataclass
class _Answered:
    """What was answered to each row, and what would have been right; media are kept of the rows a report may show."""

    answers: list[Answer] = field(default_factory=list)
    truths: list[Any] = field(default_factory=list)
    heavy: list[int] = field(default_factory=list)

    def add(self, answers: Sequence[Answer], truths: Sequence[Any], losses: Tensor) -> None:
        """``losses`` are those of all rows so far, these included; fewer where the task has none."""
        start = len(self.answers)
        self.answers += answers
        self.truths += truths
        for i in range(start, len(self.answers)):
            if attachments(self.answers[i]) or attachments(self.truths[i]):
                self.answers[i], self.truths[i] = own(self.answers[i]), own(self.truths[i])
                self.heavy.append(i)
        if len(self.heavy) > 2 * SHOWN:
            known = losses.nan_to_num(-torch.inf).tolist()
            worst = sorted(self.heavy, key=lambda i: -known[i] if i < len(known) else 0.0)[:SHOWN]
            unsure = sorted(self.heavy, key=lambda i: 1.0 if (m := margin(self.answers[i])) is None else m)[:SHOWN]
            for i in set(self.heavy) - set(worst) - set(unsure):
                self.answers[i], self.truths[i] = light(self.answers[i]), light(self.truths[i])
            self.heavy = sorted({*worst, *unsure})


def _target(name: str, found: _Gathered, whole: Subset, resamples: int, seed: int) -> TargetScores:
    one = found.tallies[whole].each[name]
    task, head = one.task, one.task.headline
    drawn = resample(one.scorer, resamples=resamples, seed=seed)
    losses = one.told.double().numpy() if len(one.told) == found.rows else np.full(found.rows, np.nan)
    scores = TargetScores(
        name=name,
        kind=kind_of(task.plain),
        headline=head,
        higher_is_better=task.higher_is_better,
        rows=one.rows,
        whole=whole,
        metrics=one.scores(),
        intervals={metric: bounds(values) for metric, values in drawn.items()},
        baseline=None,
        losses=losses,
        predictions=found.answered[name].answers,
        truths=found.answered[name].truths,
        nothing=task.nothing,
        macro=one.scorer.macro,
    )
    plain = None
    if name in found.known:
        scores.baseline = found.known[name].scores()
        plain = resample(found.known[name].scorer, names=[head], resamples=resamples, seed=seed)[head]
    scores.varied = one.scorer.varied
    scores.verdict = verdict(task.higher_is_better, drawn[head], plain if scores.varied else None)
    draws = _subsets(scores, task, found, drawn[head], resamples, seed)
    singles = {s: scores.subsets[s][head] for s in whole if s in scores.subsets}
    scores.floor = found.parts.floor(name, one.scorer, drawn[head], singles, resamples, seed)
    scores.views = task.views(one.scorer)
    scores.findings = findings(scores, draws)
    return scores


def _subsets(
    scores: TargetScores, task: Task[Any], found: _Gathered, whole: Tensor, resamples: int, seed: int
) -> dict[Subset, Tensor]:
    """Scores every subset of streams; gives the headline's resamples by subset."""
    draws: dict[Subset, Tensor] = {scores.whole: whole}
    head = task.headline
    for subset, tally in found.tallies.items():
        if not subset:
            continue
        one = tally.each[scores.name]
        scores.subsets[label(subset)] = one.scores()
        if subset != scores.whole:
            draws[subset] = resample(one.scorer, names=[head], resamples=resamples, seed=seed)[head]
        scores.subset_intervals[label(subset)] = bounds(draws[subset])
    if () in found.tallies:
        # Knowing nothing: the training targets alone where they are known, else the model with every stream missing.
        blind = scores.baseline or found.tallies[()].each[scores.name].scores()
        sign = 1 if task.higher_is_better else -1
        headline = {subset: sign * scores.subsets[label(subset)][head] for subset in draws}
        scores.shapley = shapley(headline, sign * blind[head])
    return draws
