"""Evaluation of a model on held-out rows: scores, confidence intervals, stream contributions and findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sensorium.core.answer import Answer, attachments, detached, margin, without_media
from sensorium.core.batch import Batch, moved
from sensorium.core.forward import Forward
from sensorium.core.registry import kind_of
from sensorium.core.task import Task
from sensorium.evaluation.baselines import ComponentAccumulator
from sensorium.evaluation.bootstrap import bounds, resample
from sensorium.evaluation.controls import ControlAccumulator
from sensorium.evaluation.findings import findings, verdict
from sensorium.evaluation.results import Evaluation, TargetScores
from sensorium.evaluation.score_accumulator import ScoreAccumulator, TaskAccumulator
from sensorium.evaluation.stream_subsets import Subset, label, stream_contributions, subsets_of
from sensorium.model import Model

SHOWN = 24
"""Number of highest-loss rows, and of least certain rows, whose predictions keep their images and audio."""


def evaluate(
    model: Model,
    batches: Iterable[Batch | Forward],
    *,
    baselines: Mapping[str, Any] | None = None,
    resamples: int = 300,
    subsets: bool = True,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a model on prepared, unshuffled batches on its device. The model is left unchanged.

    Of the outputs only what the scores need is kept, so memory grows slowly with the number of rows.

    Args:
        model: The model.
        batches: The batches; a ``Forward`` stands for a batch with the outputs of another model with the same tasks, in
            evaluation mode (a fold of cross-validation).
        baselines: By task, the constant prediction learnt from the training targets (``Task.baseline``), scored alongside.
        resamples: Number of bootstrap resamples behind each interval.
        subsets: Whether to score subsets of streams (``subsets_of``) and compute the streams' contributions.
        seed: Seed of the resamples.
    """
    streams = model.streams
    evaluated_subsets = subsets_of(streams) if subsets and len(streams) > 1 else [streams]
    was_training = model.training
    model.eval()
    try:
        gathered = _gathered(model, batches, evaluated_subsets, baselines or {})
        targets = {}
        if gathered.rows:
            with torch.inference_mode():
                targets = {name: _target(name, gathered, streams, resamples, seed) for name in model.tasks}
    finally:
        model.train(was_training)
    return Evaluation(gathered.rows, streams, targets)


@dataclass
class _Gathered:
    """Results accumulated over the batches.

    Args:
        rows: Number of rows.
        tallies: By subset of streams; includes the empty subset if there are several streams.
        known: By task, the scores of the baseline.
        answered: By task, the predictions and truths of each row.
        parts: The scores of the network and the experts by themselves.
        controls: The scores of simple methods, and with the inputs of other rows.
    """

    rows: int
    tallies: dict[Subset, ScoreAccumulator]
    known: dict[str, TaskAccumulator]
    answered: dict[str, _Answered]
    parts: ComponentAccumulator
    controls: ControlAccumulator


def _gathered(
    model: Model, batches: Iterable[Batch | Forward], evaluated_subsets: Sequence[Subset], baselines: Mapping[str, Any]
) -> _Gathered:
    subsets: list[Subset] = [*evaluated_subsets, *([()] if len(evaluated_subsets) > 1 else [])]
    tallies = {subset: ScoreAccumulator(model.tasks, losses=subset == evaluated_subsets[0]) for subset in subsets}
    all_streams = tallies[evaluated_subsets[0]]
    plain = ScoreAccumulator(model.tasks, losses=False)
    known = {name: plain.each[name] for name, baseline in baselines.items() if name in plain.each and baseline is not None}
    parts = ComponentAccumulator(model, alone=len(evaluated_subsets) > 1)
    gathered = _Gathered(0, tallies, known, {name: _Answered() for name in model.tasks}, parts, ControlAccumulator(model))
    with torch.inference_mode():
        for item in batches:
            run = item if isinstance(item, Forward) else Forward(model, item)
            batch = run.batch
            for subset, tally in tallies.items():
                outputs = run.only(*subset).outputs
                tally.update(outputs, batch)
                if tally is all_streams:
                    for name, task in model.tasks.items():
                        answers, truths = task.answers(outputs[name], batch), task.truths(batch)
                        gathered.answered[name].add(answers, truths, tally.each[name].reported_loss)
            parts.update(run, batch)
            gathered.controls.update(run, batch)
            for name, accumulator in known.items():
                constant = moved(accumulator.task.constant(baselines[name], batch.rows), batch.weight.device)
                plain.add(accumulator, constant, batch)
            gathered.rows += batch.rows
    return gathered


@dataclass
class _Answered:
    """Predictions and truths of each row; images and audio are kept only for rows that a report may show."""

    answers: list[Answer] = field(default_factory=list)
    truths: list[Any] = field(default_factory=list)
    heavy: list[int] = field(default_factory=list)

    def add(self, answers: Sequence[Answer], truths: Sequence[Any], losses: Tensor) -> None:
        """Add predictions and truths; ``losses`` are those of all rows so far, or fewer if the task has none."""
        start = len(self.answers)
        self.answers += answers
        self.truths += truths
        for i in range(start, len(self.answers)):
            if attachments(self.answers[i]) or attachments(self.truths[i]):
                self.answers[i], self.truths[i] = detached(self.answers[i]), detached(self.truths[i])
                self.heavy.append(i)
        if len(self.heavy) > 2 * SHOWN:
            known = losses.nan_to_num(-torch.inf).tolist()
            worst = sorted(self.heavy, key=lambda i: -known[i] if i < len(known) else 0.0)[:SHOWN]
            unsure = sorted(self.heavy, key=lambda i: 1.0 if (m := margin(self.answers[i])) is None else m)[:SHOWN]
            for i in set(self.heavy) - set(worst) - set(unsure):
                self.answers[i], self.truths[i] = without_media(self.answers[i]), without_media(self.truths[i])
            self.heavy = sorted({*worst, *unsure})


def _target(name: str, gathered: _Gathered, all_streams: Subset, resamples: int, seed: int) -> TargetScores:
    accumulator = gathered.tallies[all_streams].each[name]
    task, head = accumulator.task, accumulator.task.headline
    drawn = resample(accumulator.scorer, resamples=resamples, seed=seed)
    losses = (
        accumulator.reported_loss.double().numpy()
        if len(accumulator.reported_loss) == gathered.rows
        else np.full(gathered.rows, np.nan)
    )
    scores = TargetScores(
        name=name,
        kind=kind_of(task.plain),
        headline=head,
        higher_is_better=task.higher_is_better,
        rows=accumulator.rows,
        whole=all_streams,
        metrics=accumulator.scores(),
        intervals={metric: bounds(values) for metric, values in drawn.items()},
        baseline=None,
        losses=losses,
        predictions=gathered.answered[name].answers,
        truths=gathered.answered[name].truths,
        baseline_name=task.baseline_name,
        macro=accumulator.scorer.macro,
    )
    plain = None
    if name in gathered.known:
        scores.baseline = gathered.known[name].scores()
        plain = resample(gathered.known[name].scorer, names=[head], resamples=resamples, seed=seed)[head]
    scores.controls = gathered.controls.of(name, drawn, task.higher_is_better, resamples, seed)
    scores.varied = accumulator.scorer.varied
    scores.verdict = verdict(task.higher_is_better, drawn[head], plain if scores.varied else None)
    draws = _subsets(scores, task, gathered, drawn[head], resamples, seed)
    singles = {s: scores.subsets[s][head] for s in all_streams if s in scores.subsets}
    scores.floor = gathered.parts.floor(name, accumulator.scorer, drawn[head], singles, resamples, seed)
    scores.views = task.views(accumulator.scorer)
    scores.findings = findings(scores, draws)
    return scores


def _subsets(
    scores: TargetScores, task: Task[Any], gathered: _Gathered, headline_draws: Tensor, resamples: int, seed: int
) -> dict[Subset, Tensor]:
    """Score each evaluated subset of streams; return the headline's resamples by subset."""
    draws: dict[Subset, Tensor] = {scores.whole: headline_draws}
    head = task.headline
    for subset, tally in gathered.tallies.items():
        if not subset:
            continue
        accumulator = tally.each[scores.name]
        scores.subsets[label(subset)] = accumulator.scores()
        if subset != scores.whole:
            draws[subset] = resample(accumulator.scorer, names=[head], resamples=resamples, seed=seed)[head]
        scores.subset_intervals[label(subset)] = bounds(draws[subset])
    if () in gathered.tallies:
        # No input: the baseline where it is known, else the model with every stream missing.
        blind = scores.baseline or gathered.tallies[()].each[scores.name].scores()
        sign = 1 if task.higher_is_better else -1
        headline = {subset: sign * scores.subsets[label(subset)][head] for subset in draws}
        scores.shapley = stream_contributions(headline, sign * blind[head])
    return draws
