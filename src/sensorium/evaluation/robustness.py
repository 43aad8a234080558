"""Robustness: the score as each stream is removed from growing shares of rows, or corrupted at growing levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite, nan
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.errors import ConfigError, nearest
from sensorium.core.forward import Forward
from sensorium.core.layout import Ids
from sensorium.core.schema import Schema
from sensorium.data.column_storage import Index
from sensorium.data.corrupted_stream import Corrupted, supported_corruptions
from sensorium.data.encoded_rows import Rows
from sensorium.evaluation.score_accumulator import ScoreAccumulator
from sensorium.model import Model

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The shares of rows from which a stream is removed, and the levels of corruption."""
REMOVAL = "removal"
MOST = 1000
"""Maximum number of rows: each one is corrupted and encoded again for every step of every corruption curve."""
BATCH = 128
Key = tuple[str, str, float]
"""Stream, kind of degradation and level; ``("", "", 0.0)`` for clean rows."""


class Curve(NamedTuple):
    """A metric under one kind of degradation of one stream.

    Args:
        stream: The degraded stream.
        how: ``removal``, or the kind of corruption.
        steps: Shares of rows, or levels of corruption.
        scores: The metric at each step.
        area: Area under the relative score ``s(x) / s(0)`` over ``x`` from 0 to 1 (``s(0) / s(x)`` if lower is better). 1:
            no loss at any step. NaN if the clean score is not positive.
    """

    stream: str
    how: str
    steps: tuple[float, ...]
    scores: tuple[float, ...]
    area: float


class Reference(NamedTuple):
    """The best model that was trained without a stream: its score and name."""

    score: float
    name: str


@dataclass
class Robustness:
    """The robustness curves of one target; ``references`` are by removed stream."""

    target: str
    metric: str
    higher_is_better: bool
    rows: int
    curves: list[Curve]
    references: dict[str, Reference] = field(default_factory=dict)

    @property
    def removal_area(self) -> float:
        """The mean area of the removal curves."""
        return _mean(curve.area for curve in self.curves if curve.how == REMOVAL)

    @property
    def corruption_area(self) -> float:
        """The mean area of the corruption curves."""
        return _mean(curve.area for curve in self.curves if curve.how != REMOVAL)

    def of(self, stream: str) -> list[Curve]:
        """Return the curves of ``stream``, its removal first."""
        return [curve for curve in self.curves if curve.stream == stream]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; None for undefined numbers."""
        return {
            "metric": self.metric,
            "rows": self.rows,
            "curves": [
                {**curve._asdict(), "scores": [_plain(s) for s in curve.scores], "area": _plain(curve.area)}
                for curve in self.curves
            ],
            "removal_area": _plain(self.removal_area),
            "corruption_area": _plain(self.corruption_area),
            "references": {stream: reference._asdict() for stream, reference in self.references.items()},
        }


def area(steps: Sequence[float], scores: Sequence[float], higher_is_better: bool) -> float:
    """Return the area under the relative score (see ``Curve``) for ``scores`` at ``steps``.

    Args:
        steps: Shares of rows, or levels, from 0.
        scores: The metric at each step.
        higher_is_better: Whether larger values are better.
    """
    clean = scores[0]
    if not clean > 0 or not all(map(isfinite, scores)) or (not higher_is_better and min(scores) <= 0):
        return nan
    kept = [s / clean if higher_is_better else clean / s for s in scores]
    pieces = ((x2 - x1) * (y1 + y2) / 2 for (x1, x2), (y1, y2) in zip(pairwise(steps), pairwise(kept), strict=True))
    return sum(pieces) / (steps[-1] - steps[0])


def robustness(
    model: Model,
    schema: Schema,
    rows: Rows,
    *,
    metrics: Mapping[str, str] | None = None,
    corruptions: bool = True,
    most: int = MOST,
    seed: int = 0,
) -> dict[str, Robustness]:
    """Compute the robustness curves of every target. The model is left unchanged.

    Args:
        model: The model, in evaluation mode.
        schema: Its schema.
        rows: The encoded rows.
        metrics: By target, the metric to follow; by default its headline.
        corruptions: Whether to corrupt cells too; otherwise streams are only removed, which encodes each row once.
        most: Maximum number of rows; a random sample is taken of more.
        seed: Seed of the sample and the corruptions. A stream removed from a row at one step stays removed at later steps.

    Raises:
        ConfigError: A target has no metric of the requested name.
    """
    rng = np.random.default_rng(seed)
    index = np.arange(len(rows), dtype=np.int64)
    if len(rows) > most:
        index = np.sort(rng.permutation(index)[:most])
    turn = {stream: rng.permutation(len(index)) / max(len(index), 1) for stream in model.streams}
    tallies: dict[Key, ScoreAccumulator] = {}
    with torch.inference_mode():
        for start in range(0, len(index), BATCH):
            part = index[start : start + BATCH]
            run = Forward(model, schema.prepare(rows.batch(part).to(_device(model))))
            for key, changed in _changed(model, run, schema, rows, part, start, turn, corruptions, seed):
                tallies.setdefault(key, ScoreAccumulator(model.tasks, losses=False)).update(changed.outputs, run.batch)
    if not tallies:
        return {}
    return {name: _target(model, name, tallies, (metrics or {}).get(name)) for name in model.tasks}


def _changed(
    model: Model,
    run: Forward,
    schema: Schema,
    rows: Rows,
    index: Index,
    start: int,
    turn: Mapping[str, Any],
    corruptions: bool,
    seed: int,
) -> Iterator[tuple[Key, Forward]]:
    """Yield the forward pass over clean rows, then over rows with each stream degraded in each way."""
    yield ("", "", 0.0), run
    for stream, columns in schema.streams.items():
        order = turn[stream][start : start + len(index)]
        for share in STEPS[1:]:
            keep = torch.from_numpy(order >= share).to(_device(model))
            yield (stream, REMOVAL, share), run.hidden({stream: keep})
        # A text without some of its tokens has its words in other places than their labels.
        moved = columns[0].name in schema.bearing and isinstance(schema.layout(stream), Ids)
        for how in supported_corruptions(columns) if corruptions and not moved else ():
            for level in STEPS[1:]:
                corrupted = Corrupted(rows.inputs[stream], columns, how, level, seed).gather(index)
                ready: Field = corrupted.to(_device(model))
                if columns[0].reader.stream is None:
                    ready = columns[0].reader.prepare(ready)
                yield (stream, how, level), run.changed({stream: model.encode_stream(stream, ready)}, {stream: ready})


def _target(model: Model, name: str, tallies: Mapping[Key, ScoreAccumulator], metric: str | None) -> Robustness:
    task = model.tasks[name]
    metric = metric or task.headline
    scores = {key: tally.each[name].scores() for key, tally in tallies.items()}
    clean = scores["", "", 0.0]
    if metric not in clean:
        raise ConfigError(f"{name}: no metric named {metric!r}{nearest(metric, clean)}")
    higher = more_is_better(task.headline, task.higher_is_better, metric)
    curves = []
    for stream, how in dict.fromkeys((stream, how) for stream, how, _ in tallies if how):
        values = (clean[metric], *(scores[stream, how, step][metric] for step in STEPS[1:]))
        curves.append(Curve(stream, how, STEPS, values, area(STEPS, values, higher)))
    return Robustness(name, metric, higher, tallies["", "", 0.0].each[name].rows, curves)


ERRORS = ("loss", "mae", "mse", "rmse", "error", "brier", "pinball", "nll", "wer", "cer", "mase", "width")


def more_is_better(headline: str, headline_higher: bool, metric: str) -> bool:
    """Return whether larger values of a metric are better.

    Args:
        headline: The task's headline metric.
        headline_higher: Whether larger values of the headline are better.
        metric: The metric; if it is not the headline, its name decides.
    """
    if metric == headline:
        return headline_higher
    return not any(part in ERRORS for part in metric.split("_"))


def references(document: Mapping[str, Any], target: str, metric: str, streams: Sequence[str]) -> dict[str, Reference]:
    """Return, by stream, the best model of a comparison that was trained without it.

    Args:
        document: The content of ``compare.json``.
        target: The scored target.
        metric: The metric.
        streams: The model's streams.

    Raises:
        ConfigError: The comparison is of another target or metric.
    """
    if document.get("target") != target or document.get("metric") != metric:
        compared = f"{document.get('metric')} of {document.get('target')!r}"
        raise ConfigError(f"the reference compares {compared}, not {metric} of {target!r}", fix="compare the same target")
    sign = 1 if document["higher_is_better"] else -1
    references_by_stream = {}
    for gone in streams:
        rest = set(streams) - {gone}
        fits = [run for run in document["runs"] if run["streams"] and set(run["streams"]) <= rest]
        if fits:
            best = max(fits, key=lambda run: sign * run["mean"])
            references_by_stream[gone] = Reference(best["mean"], best["name"])
    return references_by_stream


def _device(model: Model) -> torch.device:
    parameter: Tensor | None = next(iter(model.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _mean(values: Iterator[float]) -> float:
    known = [value for value in values if isfinite(value)]
    return fmean(known) if known else nan


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
