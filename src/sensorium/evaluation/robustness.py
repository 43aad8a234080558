"""What a model bears: its score as each stream is taken from more and more rows, or spoiled more and more."""

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
from sensorium.core.schema import Schema
from sensorium.data.column_storage import Index
from sensorium.data.corrupted_stream import Corrupted, kinds_of
from sensorium.data.encoded_rows import Rows
from sensorium.evaluation.score_accumulator import Tally
from sensorium.model import Model

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The shares of rows a stream is taken from, and the levels of corruption."""
REMOVAL = "removal"
MOST = 1000
"""Rows looked at, at most: every one is spoiled and encoded anew for each step of each curve."""
BATCH = 128
Key = tuple[str, str, float]
"""A stream, how it goes bad, and how far; of the rows as they are ``("", "", 0.0)``."""


class Curve(NamedTuple):
    """The headline metric as one stream goes bad in one way.

    ``area`` is that of the score kept, under the curve: the trapezoid of ``s(x) / s(0)`` over ``x`` from 0 to 1, for a
    metric of which less is better ``s(0) / s(x)``. 1: nothing is lost at any step; NaN where the clean score is no basis.
    """

    stream: str
    how: str
    steps: tuple[float, ...]
    scores: tuple[float, ...]
    area: float


class Reference(NamedTuple):
    """The best of the models that were trained without a stream at all, and what it was trained on."""

    score: float
    name: str


@dataclass
class Robustness:
    """All curves of one target. ``references`` are by the stream that is gone."""

    target: str
    metric: str
    higher_is_better: bool
    rows: int
    curves: list[Curve]
    references: dict[str, Reference] = field(default_factory=dict)

    @property
    def removal_area(self) -> float:
        """The mean area of the removal curves: the robustness of the model in one number."""
        return _mean(curve.area for curve in self.curves if curve.how == REMOVAL)

    @property
    def corruption_area(self) -> float:
        """The mean area of the corruption curves."""
        return _mean(curve.area for curve in self.curves if curve.how != REMOVAL)

    def of(self, stream: str) -> list[Curve]:
        """The curves of a stream, its removal first."""
        return [curve for curve in self.curves if curve.stream == stream]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; None where there is no number."""
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
    """The area under a curve of the score kept (see ``Curve``)."""
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
    """The curves of every target, from encoded rows; the model is in evaluation mode. Changes nothing in it.

    Args:
        metrics: By target, the metric to follow; its headline where none is named.
        corruptions: Whether cells are spoiled too; else streams are only taken away, which encodes every row but once.
        most: Rows, at most: a random part of more.
        seed: Of which rows and of the accidents. A row that loses a stream at one step has lost it at all further ones.
    """
    rng = np.random.default_rng(seed)
    index = np.arange(len(rows), dtype=np.int64)
    if len(rows) > most:
        index = np.sort(rng.permutation(index)[:most])
    turn = {stream: rng.permutation(len(index)) / max(len(index), 1) for stream in model.streams}
    tallies: dict[Key, Tally] = {}
    with torch.inference_mode():
        for start in range(0, len(index), BATCH):
            part = index[start : start + BATCH]
            run = Forward(model, schema.prepare(rows.batch(part).to(_device(model))))
            for key, changed in _changed(model, run, schema, rows, part, start, turn, corruptions, seed):
                tallies.setdefault(key, Tally(model.tasks, losses=False)).update(changed.outputs, run.batch)
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
    """The pass over some rows, whole and then with each stream gone bad in each way."""
    yield ("", "", 0.0), run
    for stream, columns in schema.streams.items():
        order = turn[stream][start : start + len(index)]
        for share in STEPS[1:]:
            keep = torch.from_numpy(order >= share).to(_device(model))
            yield (stream, REMOVAL, share), run.hidden({stream: keep})
        for how in kinds_of(columns) if corruptions else ():
            for level in STEPS[1:]:
                spoiled = Corrupted(rows.inputs[stream], columns, how, level, seed).gather(index)
                ready: Field = spoiled.to(_device(model))
                if columns[0].reader.stream is None:
                    ready = columns[0].reader.prepare(ready)
                yield (stream, how, level), run.changed({stream: model.encode_stream(stream, ready)}, {stream: ready})


def _target(model: Model, name: str, tallies: Mapping[Key, Tally], metric: str | None) -> Robustness:
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


ERRORS = ("loss", "mae", "mse", "rmse", "error", "brier", "pinball", "nll", "wer", "cer")


def more_is_better(headline: str, headline_higher: bool, metric: str) -> bool:
    """Whether more of a metric is better: the task says it of its headline, the name tells it of the others."""
    if metric == headline:
        return headline_higher
    return not any(part in ERRORS for part in metric.split("_"))


def references(document: Mapping[str, Any], target: str, metric: str, streams: Sequence[str]) -> dict[str, Reference]:
    """By stream, the best of the models of a ``compare.json`` that were trained without it.

    Raises:
        ConfigError: where it compares something else.
    """
    if document.get("target") != target or document.get("metric") != metric:
        told = f"{document.get('metric')} of {document.get('target')!r}"
        raise ConfigError(f"the reference compares {told}, not {metric} of {target!r}", fix="compare the same target")
    sign = 1 if document["higher_is_better"] else -1
    found = {}
    for gone in streams:
        rest = set(streams) - {gone}
        fits = [run for run in document["runs"] if run["streams"] and set(run["streams"]) <= rest]
        if fits:
            best = max(fits, key=lambda run: sign * run["mean"])
            found[gone] = Reference(best["mean"], best["name"])
    return found


def _device(model: Model) -> torch.device:
    parameter: Tensor | None = next(iter(model.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _mean(values: Iterator[float]) -> float:
    known = [value for value in values if isfinite(value)]
    return fmean(known) if known else nan


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
