"""What a report draws of predicted risks: how groups of like risk fare, how many are still watched, and calibration."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.core.views import LIMITS, Cell, Curve, Lines, Sentence, Table, View
from sensorium.metrics.survival import alive_at, kaplan_meier

GROUPS = ("low", "middling", "high")
"""Risk groups: a third of the held-out rows each."""
AT_RISK = 6
TENTHS = 10
FEW = 30


def survival_views(prediction: Tensor, truth: Tensor, times: Tensor, unit: str) -> list[View]:
    """Curves of the risk groups, the numbers at risk, calibration at the middle time, and what was scored on few events.

    Args:
        prediction: ``[B, 1 + G]`` and
        truth: ``[B, 2]``, as ``metrics/survival.py`` takes them.
        times: ``[G]`` of the curves, in the unit of the truths.
        unit: The name of the time column.
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
    found: list[View] = [
        Lines(
            "survival",
            "How groups of like risk fare",
            "The share in which the event has not happened yet (Kaplan-Meier), of a third of these rows each, by predicted "
            "risk. The further apart the lines, the more the risk says.",
            lines=lines,
            x=unit,
            y="share without event",
        ),
        Table(
            "at_risk",
            "Still watched",
            f"How many rows of each group are still watched at some times ({unit}): a line of few says little.",
            rows=rows,
        ),
        Curve(
            "calibration",
            "Can its curves be believed?",
            f"Tenths of like prediction: the chance of no event by {unit} {float(times[middle]):.4g}, and the share "
            "without one (Kaplan-Meier). Below the dashed line it promises too much.",
            points=_tenths(prediction[:, 1 + middle], truth, times[middle]),
            x="predicted",
            y="observed",
            size="rows",
            ideal="diagonal",
        ),
    ]
    if (count := int(event.sum())) < FEW:
        found.append(Sentence(LIMITS, "", text=f"It was tested on {count} events only: its scores may be off by much."))
    return found


def _steps(time: Tensor, event: Tensor) -> list[tuple[float, float]]:
    """The curve of Kaplan and Meier as corners of a staircase from time 0."""
    at, share = kaplan_meier(time, event, torch.ones(1, len(time), dtype=torch.float64))
    corners, level = [(0.0, 1.0)], 1.0
    for moment, value in zip(at.tolist(), share[0].tolist(), strict=True):
        if value < level:
            corners += [(moment, level), (moment, value)]
            level = value
    return [*corners, (float(at[-1]), level)]


def _tenths(said: Tensor, truth: Tensor, at: Tensor) -> list[dict[str, float]]:
    found = []
    for index in said.argsort().chunk(min(TENTHS, len(said))):
        seen = alive_at(truth[index], torch.ones(1, len(index), dtype=torch.float64), at)
        found.append({"predicted": float(said[index].mean()), "observed": float(seen[0]), "rows": float(len(index))})
    return found
