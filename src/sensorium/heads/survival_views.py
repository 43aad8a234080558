"""Report views of survival tasks: Kaplan-Meier curves of risk groups, numbers at risk, and calibration."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.core.report_views import LIMITS, Cell, Curve, Lines, Sentence, Table, View
from sensorium.metrics.survival import alive_at, kaplan_meier

GROUPS = ("low", "middling", "high")
"""Risk groups: terciles of the held-out rows."""
AT_RISK = 6
TENTHS = 10
FEW = 30


def survival_views(prediction: Tensor, truth: Tensor, times: Tensor, unit: str) -> list[View]:
    """Return survival curves of the risk groups, numbers at risk, calibration at the middle time, and limitations.

    Args:
        prediction: Risk and survival curve ``[B, 1 + G]``, as in ``metrics/survival.py``.
        truth: Time and event ``[B, 2]``.
        times: Times of the curves ``[G]``, in the unit of the truths.
        unit: Name of the time column.
    """
    risk, time, event = prediction[:, 0], truth[:, 0], truth[:, 1] > 0.5
    thirds = risk.double().quantile(torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))
    member = torch.bucketize(risk.contiguous(), thirds.to(risk))
    ends = torch.linspace(0, float(time.max()), AT_RISK).tolist()
    lines: list[tuple[str, list[tuple[float, float]]]] = []
    rows: list[dict[str, Cell]] = []
    for i, name in enumerate(GROUPS):
        own = member == i
        if not bool(own.any()):
            continue
        lines.append((name, _steps(time[own], event[own])))
        counts: dict[str, Cell] = {f"{end:.4g}": int((time[own] >= end).sum()) for end in ends}
        rows.append({"group": name, "rows": int(own.sum()), "events": int(event[own].sum()), **counts})
    middle = len(times) // 2
    views: list[View] = [
        Lines(
            "survival",
            "Survival by risk group",
            "Kaplan-Meier curves of the terciles of predicted risk. The further apart the lines, the better the "
            "discrimination.",
            lines=lines,
            x=unit,
            y="share without event",
        ),
        Table(
            "at_risk",
            "Numbers at risk",
            f"Number of rows of each group still at risk over time ({unit}); curves of few rows are unreliable.",
            rows=rows,
        ),
        Curve(
            "calibration",
            "Calibration of the survival curves",
            f"Deciles of prediction: predicted probability of no event by {unit} {float(times[middle]):.4g} against the "
            "observed share (Kaplan-Meier). Below the dashed line, survival is overestimated.",
            points=_tenths(prediction[:, 1 + middle], truth, times[middle]),
            x="predicted",
            y="observed",
            size="rows",
            ideal="diagonal",
        ),
    ]
    if (count := int(event.sum())) < FEW:
        views.append(Sentence(LIMITS, "", text=f"It was evaluated on {count} events only, so its scores are uncertain."))
    return views


def _steps(time: Tensor, event: Tensor) -> list[tuple[float, float]]:
    """The Kaplan-Meier curve as the corners of a step function from time 0."""
    at, share = kaplan_meier(time, event, torch.ones(1, len(time), dtype=torch.float64))
    corners, level = [(0.0, 1.0)], 1.0
    for moment, value in zip(at.tolist(), share[0].tolist(), strict=True):
        if value < level:
            corners += [(moment, level), (moment, value)]
            level = value
    return [*corners, (float(at[-1]), level)]


def _tenths(predicted: Tensor, truth: Tensor, at: Tensor) -> list[dict[str, float]]:
    tenths = []
    for index in predicted.argsort().chunk(min(TENTHS, len(predicted))):
        seen = alive_at(truth[index], torch.ones(1, len(index), dtype=torch.float64), at)
        tenths.append({"predicted": float(predicted[index].mean()), "observed": float(seen[0]), "rows": float(len(index))})
    return tenths
