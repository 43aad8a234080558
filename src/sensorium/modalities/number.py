"""Numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component
from sensorium.language.numeral import read_number

_QUANTILES = 128
_CLIP = 10.0
_CODE = re.compile("0[0-9]+")


@component
class Number(Modality):
    """A number: an age, a price, a temperature.

    Encoded as ``[1]`` float32, standardised with the mean and deviation of the training cells and cut to ±10 deviations,
    so that one mistyped cell cannot drown the others. A target is always standardised and never cut: it can be turned back.
    Cells may be numbers or text such as ``1,234.5``, ``12 %``, ``$3``, ``1e-3``.

    Args:
        scale: ``standard`` keeps distances; ``quantile`` keeps only the order (by normal scores), for skewed columns.
        impute: ``none`` tells the encoder that a cell is missing; else it reads the ``mean`` or the ``median`` of the
            training cells in its place. A column of kind ``missing`` beside it says which cells were filled.
    """

    stream = "table"
    task = "regression"
    widget = "number"
    corruptions = ("noise",)

    def __init__(
        self,
        *,
        scale: Literal["standard", "quantile"] = "standard",
        impute: Literal["none", "mean", "median"] = "none",
    ) -> None:
        super().__init__()
        self.scale, self.impute = scale, impute
        self.fills = impute != "none"

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        if not cells:
            return Guess(0.0, "no cells to look at")
        read = sum(read_number(cell) is not None for cell in cells)
        share = read / len(cells)
        # 00123 and 02139 are codes: read as numbers their zeros would be lost.
        padded = sum(isinstance(cell, str) and _CODE.fullmatch(cell.strip()) is not None for cell in cells)
        if padded > read / 2:
            return Guess(0.2 * share, f"{padded} of {len(cells)} cells are numbers with leading zeros, as codes have")
        return Guess(0.9 * share**2, f"{read} of {len(cells)} cells are numbers")

    def fit(self, cells: Iterable[Any]) -> None:
        read = [value for value in map(read_number, cells) if value is not None]
        values = np.array(read or [0.0], dtype=np.float64)
        # Worked out on values within ±1, so that the squares of 1e300 do not overflow.
        unit = float(np.abs(values).max()) or 1.0
        small = values / unit
        mean = float(small.mean())
        deviation = float(small.std())
        constant = deviation < 1e-12 * abs(mean) or deviation * unit < 1e-30
        self.state = {
            "mean": mean * unit,
            "deviation": 1.0 if constant else deviation * unit,
            "impute": float(np.median(small)) * unit if self.impute == "median" else mean * unit,
        }
        if self.scale == "quantile":
            points, scores = _scores(small)
            self.state |= {"unit": unit, "points": points, "scores": scores}

    @property
    def layout(self) -> Layout:
        return Row((0,))

    def encode(self, cell: Any) -> Array:
        return self._encode(_value(cell))

    def encode_target(self, cell: Any) -> Array:
        scaled = self._standard(_value(cell))
        with np.errstate(over="ignore"):
            out = np.array([scaled], dtype=np.float32)
        if not np.isfinite(out).all():
            raise CellError(f"{cell!r} is too far from the training values to be a target")
        return out

    def decode(self, value: Array) -> float:
        return float(np.asarray(value, dtype=np.float64).reshape(-1)[0] * self.state["deviation"] + self.state["mean"])

    def blank(self) -> Array:
        return self._encode(self.state["impute"])

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """Noise of up to two standard deviations."""
        return np.clip(value + 2 * level * rng.standard_normal(1), -_CLIP, _CLIP).astype(np.float32)

    def _standard(self, value: float) -> float:
        # The difference of two huge numbers may overflow; their quotients do not.
        mean, deviation = float(self.state["mean"]), float(self.state["deviation"])
        near = value - mean
        return near / deviation if np.isfinite(near) else value / deviation - mean / deviation

    def _encode(self, value: float) -> Array:
        if self.scale == "quantile":
            scaled = float(np.interp(value / self.state["unit"], self.state["points"], self.state["scores"]))
        else:
            scaled = self._standard(value)
        return np.array([min(max(scaled, -_CLIP), _CLIP)], dtype=np.float32)


def _value(cell: Any) -> float:
    value = read_number(cell)
    if value is None:
        raise CellError(f"{str(cell)[:60]!r} is not a finite number")
    return value


def _scores(values: Array) -> tuple[list[float], list[float]]:
    """Points of the distribution and the normal score of each; equal points share the mean of their scores."""
    count = min(_QUANTILES, len(values))
    ranks = (np.arange(count) + 0.5) / count
    normal = NormalDist()
    scores = np.array([normal.inv_cdf(float(rank)) for rank in ranks])
    points, where = np.unique(np.quantile(values, ranks, method="hazen"), return_inverse=True)
    return points.tolist(), (np.bincount(where, weights=scores) / np.bincount(where)).tolist()
