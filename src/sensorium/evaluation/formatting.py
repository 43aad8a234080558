"""Formatting of scores and metric names for reports."""

from __future__ import annotations

from collections.abc import Collection
from math import isnan

ACRONYMS = {"auroc": "AUROC", "f1": "F1", "mae": "MAE", "mase": "MASE", "rmse": "RMSE", "r2": "R²", "pearson": "Pearson"}
ACRONYMS |= {"cider": "CIDEr-D", "bleu": "BLEU", "rouge": "ROUGE", "l": "L"}


def number(value: float | None) -> str:
    """Format the score ``value`` with about three significant digits; ``–`` for None and NaN."""
    if value is None or isnan(value):
        return "–"
    size = abs(value)
    if size >= 1000 or (size and size < 0.0005):
        return f"{value:,.0f}" if 1000 <= size < 1e7 else f"{value:.2e}"
    return f"{value:.3f}" if size < 10 else f"{value:.1f}"


def words(metric: str, macro: Collection[str] = ()) -> str:
    """Return the display name of ``metric``: ``AUROC``, ``calibration error``; those in ``macro`` get that prefix."""
    parts = metric.split("_")
    if metric in macro:
        parts = ["macro", *(part for part in parts if part != "macro")]
    return " ".join(ACRONYMS.get(part, part) for part in parts)
