"""Report views of forecasts: simple methods, error by step, fans, worst rows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sensorium.core.report_views import Cell, Lines, Table, View
from sensorium.core.scorer import Kept

SIMPLE = ("last value", "seasonal naive", "mean of the past", "linear (ridge)", "analogues in the past")
FANS, WORST = 3, 10


def forecast_views(kept: Kept, names: Sequence[str]) -> list[View]:
    """Return the views of scored rows.

    Args:
        kept: What the scorer kept: ``scores``, ``simple`` ``[n, 5]`` (MASE of the simple methods), ``steps`` and
            ``covered`` ``[n, H]``, and of the first series ``past`` ``[n, L]``, ``fan`` ``[n, 3, H]`` (10 %, median, 90 %)
            and ``future`` ``[n, H]``.
        names: Names of the columns of ``scores``.
    """
    mase = kept["scores"][:, 0]
    rows: list[dict[str, Cell]] = [{"method": "this model", "MASE": _mean(mase)}]
    rows += [{"method": name, "MASE": _mean(kept["simple"][:, i])} for i, name in enumerate(SIMPLE)]
    error, covered = kept["steps"].nanmean(dim=0).tolist(), kept["covered"].nanmean(dim=0).tolist()
    order = mase.nan_to_num(-1.0).argsort(descending=True).tolist()
    worst: list[dict[str, Cell]] = [
        {"row": i + 1, **dict(zip(names, kept["scores"][i].tolist(), strict=True))} for i in order[:WORST]
    ]
    views: list[View] = [
        Table(
            "simple_methods", "Beside simple methods", "Less is better; below 1: better than the naive forecast.", rows=rows
        ),
        Lines(
            "by_step",
            "Error and coverage by step",
            "Scaled absolute error of each step ahead, and the share of truths within the 80 % interval.",
            lines=[("scaled error", _points(error, 1)), ("coverage of the 80 % interval", _points(covered, 1))],
            x="steps ahead",
            y="mean over rows",
        ),
        Table("worst_rows", "Worst rows", "Scored rows in their order, counted from 1.", rows=worst),
    ]
    middle = len(order) // 2
    for i in dict.fromkeys([*order[:1], order[middle], order[-1]][:FANS]):
        past, future, fan = kept["past"][i].tolist(), kept["future"][i].tolist(), kept["fan"][i].tolist()
        lines = [("past", _points(past, 1 - len(past))), ("truth", _points(future, 1))]
        lines += [(name, _points(line, 1)) for name, line in zip(("10 %", "median", "90 %"), fan, strict=True)]
        title = f"Forecast of scored row {i + 1}, first series"
        views.append(Lines(f"fan_{i + 1}", title, "Of the worst, a middling and the best row.", lines, "step", "value"))
    return views


def _points(values: Sequence[float], start: int) -> list[tuple[float, float]]:
    return [(float(start + i), value) for i, value in enumerate(values) if value == value]


def _mean(values: Tensor) -> float:
    return float(values.nanmean())
