"""How good outputs are, and how sure that is: metrics of a task and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.contracts import Task
from sensorium.nn.measures import Measure
from sensorium.nn.tracked import Tracked

Pair = tuple[Tensor, Tensor]
CHUNK = 4_000_000  # weights held at a time: 32 MB


def pair(task: Task[Any], output: Any, target: Field) -> Pair:
    """Predictions and truths, as the task's metrics take them, of the rows that have a target."""
    prediction, truth = task.compare(output, target)
    return prediction[target.present].detach().cpu(), truth[target.present].detach().cpu()


def score(task: Task[Any], output: Any, target: Field) -> dict[str, float]:
    """Every metric of the task over the rows that have a target; NaN where they say nothing."""
    return measure(task, pair(task, output, target))


def measure(task: Task[Any], rows: Pair) -> dict[str, float]:
    """Every metric of the task over these predictions and truths."""
    metrics = task.metrics()
    # torchmetrics sorts by name; the one quoted first stands first.
    order = sorted((str(name) for name in metrics), key=lambda name: name != task.headline)
    if rows[1].shape[0] == 0:
        return dict.fromkeys(order, float("nan"))
    metrics.update(*rows)
    values = metrics.compute()
    return {name: float(values[name]) for name in order}


def interval(
    task: Task[Any], output: Any, target: Field, *, resamples: int = 300, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of every metric: what other rows of the same kind would have given.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        resamples: How often the rows are drawn anew, with replacement.
        level: How much of the resampled scores the interval holds.
        seed: Of the draws: the same seed gives the same rows.
    """
    drawn = resample(task, pair(task, output, target), resamples=resamples, seed=seed)
    return {name: bounds(values, level) for name, values in drawn.items()}


def resample(
    task: Task[Any], rows: Pair, *, names: Iterable[str] | None = None, resamples: int = 300, seed: int = 0
) -> dict[str, Tensor]:
    """Every metric (or those named) of each resample ``[R]``. As many rows and the same seed draw alike: scores pair up."""
    count = rows[1].shape[0]
    chosen = None if names is None else set(names)
    metrics = {str(name): metric for name, metric in task.metrics().items() if chosen is None or name in chosen}
    if count == 0 or resamples < 1:
        return {name: torch.full((max(0, resamples),), torch.nan, dtype=torch.float64) for name in metrics}
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {name: [] for name in metrics}
    step = max(1, CHUNK // count)
    for start in range(0, resamples, step):
        index = torch.randint(count, (min(step, resamples - start), count), generator=generator)
        ones = torch.ones(1, dtype=torch.float64).expand(index.shape)
        weight = torch.zeros(index.shape, dtype=torch.float64).scatter_add_(1, index, ones)
        for name, metric in metrics.items():
            if isinstance(metric, Tracked):
                found[name].append(_at_once(metric.measure, rows, weight))
            else:
                found[name].append(_one_by_one(metric, rows, index))
    return {name: torch.cat(values) for name, values in found.items()}


def _at_once(measure: Measure, rows: Pair, weight: Tensor) -> Tensor:
    return measure(rows[0], rows[1], weight)


def _one_by_one(metric: Callable[[Tensor, Tensor], Tensor], rows: Pair, index: Tensor) -> Tensor:
    """For metrics of plug-ins, which know no weights."""
    return torch.tensor([float(metric(rows[0][draw], rows[1][draw])) for draw in index], dtype=torch.float64)


def bounds(values: Tensor, level: float = 0.95) -> tuple[float, float]:
    """The interval that holds the middle ``level`` of these values; NaN where there are none."""
    values = values[values.isfinite()]
    if values.numel() == 0:
        return float("nan"), float("nan")
    low, high = values.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype)).tolist()
    return low, high
