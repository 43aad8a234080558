"""Numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Layout, Row
from sensorium.core.modality import Array, Guess, Modality
from sensorium.core.registry import component
from sensorium.language.numbers import Evidence, NumberFormat, detect_format, is_currency, number_problem, read_number

_QUANTILES = 128
_CLIP = 10.0
_CODE = re.compile("0[0-9]+")
_WHOLE = re.compile("[0-9]+")
_FAR = 20.0
"""A number this many times the width of the central 90 % away from it is reported as an outlier."""
_LOGARITHM_ROWS, _LOGARITHM_GAIN = 30, 0.1
"""A target is learned on a log scale if it has at least this many positive values and the log-normal fit improves the
held-out log-likelihood by this many nats per value; less may be chance."""
_LARGEST = 700.0
"""Largest logarithm to exponentiate: ``exp`` of more overflows float64."""
_TAIL_ROWS, _TAIL_REACH, _TAIL_SHARE = 100, 5.0, 0.01
"""A target with at least this many values has outliers if more than this share (third) lies beyond this many robust
deviations (second). Of normally distributed values, one in two million does."""
_TAIL_KURTOSIS = 10.0
"""A target also has outliers if its excess kurtosis is above this (normal distribution: 0, exponential: 6)."""
_HUGE = 2**53
"""Above this, float64 cannot represent every integer: such numbers are identifiers, not quantities."""


@component
class Number(Modality):
    """A number: an age, a price, a temperature.

    Encoded as ``[1]`` float32, standardised with the mean and deviation of the training cells and clipped to ±10
    deviations, so that a mistyped cell has limited influence. Targets are always standardised and never clipped, so they
    can be decoded. Cells may be numbers or text such as ``1,234.5``, ``12 %``, ``$3``, ``151 cm``, ``(5)`` (which is -5),
    ``1e-3``, and durations (``1:23:45``, ``3h 20m``, ``P1DT2H``, a time of day), converted to seconds. The meaning of
    1,234 and the unit are determined from all training cells; a later cell that does not fit raises ``CellError``.

    Args:
        scale: ``standard`` standardises; ``quantile`` maps ranks to normal scores, for skewed inputs; ``log`` takes the
            logarithm, for positive numbers of several orders of magnitude (prices, incomes, durations). ``auto``: inputs
            ``standard``; a target ``standard`` or ``log``, whichever fits its training values better.
        impute: Value used for missing cells: the ``mean`` or ``median`` of the training cells; with ``none`` the encoder
            is told that the cell is missing. A column of kind ``missing`` beside it marks the imputed cells.
        decimal: Decimal separator in text: ``point`` (1,234.5) or ``comma`` (1.234,5); ``auto``: as the training cells
            show.
        least: The smallest number that is valid; a smaller one raises ``CellError``. None: any is.
    """

    stream = "table"
    task = "regression"
    widget = "number"
    corruptions = ("noise",)

    def __init__(
        self,
        *,
        scale: Literal["auto", "standard", "quantile", "log"] = "auto",
        impute: Literal["none", "mean", "median"] = "none",
        decimal: Literal["auto", "point", "comma"] = "auto",
        least: float | None = None,
    ) -> None:
        super().__init__()
        self.least = least
        self.scale, self.impute, self.decimal = scale, impute, decimal
        self._evidence: Evidence | None = None
        self._outlier_note = self._tails = ""
        self._written: tuple[Any, NumberFormat] = (None, NumberFormat())
        self.fills = impute != "none"

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        if not cells:
            return Guess(0.0, "no cells to look at")
        writing, _ = detect_format(cells)
        read = sum(read_number(cell, writing) is not None for cell in cells)
        share = read / len(cells)
        # 00123 and 02139 are codes: parsed as numbers they would lose their leading zeros.
        texts = [cell.strip() for cell in cells if isinstance(cell, str)]
        padded = sum(_CODE.fullmatch(text) is not None for text in texts)
        wide = {len(text) for text in texts}
        if padded > read / 2 or (padded and len(wide) == 1 and all(map(_WHOLE.fullmatch, texts))):
            return Guess(0.2 * share, f"{padded} of {len(cells)} cells are numbers with leading zeros, as codes have")
        huge = sum(_huge(cell) for cell in cells)
        if huge > read / 2:
            return Guess(0.2 * share, f"{huge} of {len(cells)} cells are whole numbers too large to count anything")
        what = "lengths of time" if writing.spans else "numbers"
        return Guess(0.9 * share**2, f"{read} of {len(cells)} cells are {what}")

    def fit(self, cells: Iterable[Any]) -> None:
        training_cells = list(cells)
        writing, self._evidence = detect_format(training_cells, None if self.decimal == "auto" else self.decimal)
        read = [value for value in (read_number(cell, writing) for cell in training_cells) if value is not None]
        values = np.array(read or [0.0], dtype=np.float64)
        # Computed on values scaled to ±1, so that the squares of 1e300 do not overflow.
        unit = float(np.abs(values).max()) or 1.0
        small = values / unit
        mean = float(small.mean())
        deviation = float(small.std())
        self._outlier_note = _outlier_note(small, unit)
        constant = deviation < 1e-12 * abs(mean) or deviation * unit < 1e-30
        self.state = {
            "mean": mean * unit,
            "deviation": 1.0 if constant else deviation * unit,
            "impute": float(np.median(small)) * unit if self.impute == "median" else mean * unit,
            "writing": writing._asdict(),
        }
        if self.scale == "quantile":
            points, scores = _scores(small)
            self.state |= {"unit": unit, "points": points, "scores": scores}
        if self.scale == "log" and read and values.min() <= 0:
            raise ConfigError(
                f"{int((values <= 0).sum())} of {len(values)} numbers are not above 0 (the least is {values.min():g}): "
                "they have no logarithm",
                fix="scale: standard, or leave those rows out",
            )
        logarithms = np.log(values) if read and values.min() > 0 else np.zeros(1)
        if self.scale == "log" or (self.scale == "auto" and log_gain(small) > _LOGARITHM_GAIN):
            spread = float(logarithms.std())
            self.state["log"] = {"mean": float(logarithms.mean()), "deviation": spread if spread > 1e-9 else 1.0}
        self._tails = _tails(logarithms if self.logarithmic else small)

    @property
    def layout(self) -> Layout:
        return Row((0,))

    @property
    def writing(self) -> NumberFormat:
        """The number format of the training cells; of models saved before it was learned, the default format."""
        stored = self.state.get("writing")
        if self._written[0] is not stored:
            self._written = (stored, NumberFormat(**stored) if stored else NumberFormat())
        return self._written[1]

    @property
    def reading(self) -> str:
        writing, parts = self.writing, []
        shown = self._evidence.points + self._evidence.commas if self._evidence else 0
        if writing.decimal == "comma" or (shown and writing.decimal and writing.grouped):
            parts.append(f"decimal {writing.decimal}s, 1{',' if writing.decimal == 'point' else '.'}234 is 1234")
        if writing.spans:
            parts.append(
                "in seconds; 1:30 is " + ("a minute and a half" if writing.clock == "ms" else "an hour and a half")
            )
        elif writing.unit:
            parts.append(f"in {writing.unit}")
        return "; ".join(parts)

    @property
    def resolved_options(self) -> dict[str, Any]:
        shown = self._evidence is not None and self._evidence.points + self._evidence.commas > 0
        return {"decimal": self.writing.decimal} if self.decimal == "auto" and shown else {}

    @property
    def resolved_target_options(self) -> tuple[dict[str, Any], str]:
        if self.scale != "auto":
            return {}, ""
        if not self.logarithmic:
            return {"scale": "standard"}, ""
        return {"scale": "log"}, "its logarithm is learnt: the values are skewed, and lie more evenly that way (scale: log)"

    @property
    def logarithmic(self) -> bool:
        return "log" in self.state

    @property
    def heavy_tails(self) -> str:
        return self._tails

    @property
    def doubts(self) -> list[str]:
        notes = [self._outlier_note] if self._outlier_note else []
        if self._evidence is None or self.decimal != "auto":
            return notes
        points, commas, either, units, texts = self._evidence
        if points and commas:
            notes.append(
                f"{points} cells have decimal points and {commas} decimal commas; where a cell does not tell, "
                f"{self.writing.decimal}s are taken: say decimal: point or comma"
            )
        elif either == texts > 0 and self.writing.decimal is None and not is_currency(self.writing.unit):
            notes.append(f"1,234 is taken for 1234 in {either} cells: if it is 1.234, say decimal: comma")
        others = [(unit, count) for unit, count in units.items() if unit != self.writing.unit]
        if others and not self.writing.spans:
            rest = ", ".join(f"{count} in {unit!r}" for unit, count in others[:5])
            known = f"in {self.writing.unit!r}" if self.writing.unit else "without a unit"
            notes.append(f"most numbers are {known}, but {rest}: those count as missing; write all in one unit")
        return notes

    def value(self, cell: Any) -> float | None:
        """Parse ``cell`` in the column's number format; None where it is not a number."""
        return read_number(cell, self.writing)

    def encode(self, cell: Any) -> Array:
        return self._encode(self._value(cell))

    def encode_target(self, cell: Any) -> Array:
        value = self._value(cell)
        scaled = self._logarithm(value) if self.logarithmic else self._standard(value)
        with np.errstate(over="ignore"):
            out = np.array([scaled], dtype=np.float32)
        if not np.isfinite(out).all():
            raise CellError(f"{cell!r} is too far from the training values to be a target")
        return out

    def decode(self, value: Array) -> float:
        scale = self.state["log"] if self.logarithmic else self.state
        number = float(np.asarray(value, dtype=np.float64).reshape(-1)[0] * scale["deviation"] + scale["mean"])
        return math.exp(min(max(number, -_LARGEST), _LARGEST)) if self.logarithmic else number

    def blank(self) -> Array:
        # A column without any cell has no positive value to impute.
        return self._encode(float(self.state["impute"]) or (1.0 if self.scale == "log" else 0.0))

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        """Add Gaussian noise with a deviation of ``2 * level`` standard deviations."""
        return np.clip(value + 2 * level * rng.standard_normal(1), -_CLIP, _CLIP).astype(np.float32)

    def _value(self, cell: Any) -> float:
        value = read_number(cell, self.writing)
        if value is None:
            raise CellError(number_problem(cell, self.writing))
        if self.least is not None and value < self.least:
            raise CellError(f"{value:g} is less than {self.least:g}, the smallest number that is valid here")
        return value

    def _standard(self, value: float) -> float:
        # The difference of two huge numbers may overflow; the quotients do not.
        mean, deviation = float(self.state["mean"]), float(self.state["deviation"])
        near = value - mean
        return near / deviation if np.isfinite(near) else value / deviation - mean / deviation

    def _logarithm(self, value: float) -> float:
        if value <= 0:
            raise CellError(f"{value:g} is not above 0, so it has no logarithm, which is learnt here (scale: log)")
        return float((math.log(value) - self.state["log"]["mean"]) / self.state["log"]["deviation"])

    def _encode(self, value: float) -> Array:
        if self.scale == "log":
            return np.array([min(max(self._logarithm(value), -_CLIP), _CLIP)], dtype=np.float32)
        if self.scale == "quantile":
            scaled = float(np.interp(value / self.state["unit"], self.state["points"], self.state["scores"]))
        else:
            scaled = self._standard(value)
        return np.array([min(max(scaled, -_CLIP), _CLIP)], dtype=np.float32)


def _tails(values: Array) -> str:
    """Describe why values count as having outliers; empty if they have none."""
    if len(values) < _TAIL_ROWS:
        return ""
    away = np.abs(values - np.median(values))
    # Median absolute deviation, scaled to match a normal deviation; 0 where half of all values are equal.
    robust = 1.4826 * float(np.median(away))
    far = int((away > _TAIL_REACH * robust).sum()) if robust > 1e-12 * float(np.abs(values).max()) else 0
    if far > _TAIL_SHARE * len(values):
        return f"{far} of {len(values)} values lie beyond {_TAIL_REACH:g} robust deviations"
    deviation = float(values.std())
    kurtosis = float((((values - values.mean()) / deviation) ** 4).mean()) - 3 if deviation > 1e-12 else 0.0
    return f"the values have heavy tails (excess kurtosis {kurtosis:.0f})" if kurtosis > _TAIL_KURTOSIS else ""


def log_gain(values: Array, folds: int = 5) -> float:
    """Return the gain in held-out log-likelihood of a log-normal over a normal fit to ``values``, in nats per value.

    Cross-validated over ``folds`` folds; 0 if some values are not positive or there are too few.
    """
    if len(values) < _LOGARITHM_ROWS or not (values > 0).all() or np.ptp(values) < 1e-9 * values.max():
        return 0.0
    # Scaled by the largest value, so that no square overflows; both densities change by the same factor.
    values = values / values.max()
    # A quotient that underflows to 0 is replaced by the smallest normal number.
    logs = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    # A fixed random assignment: the rows may be sorted.
    fold = np.random.default_rng(0).permutation(len(values)) % folds
    total = 0.0
    for k in range(folds):
        held = fold == k
        # The log-normal density of a value is the normal density of its logarithm, divided by the value.
        total += float((_density(logs, held) - logs[held]).sum() - _density(values, held).sum())
    return total / len(values) if math.isfinite(total) else 0.0


def _density(values: Array, held: NDArray[np.bool_]) -> Array:
    """Log density of held-out values under a normal fit to the others, up to a constant."""
    mean, deviation = values[~held].mean(), values[~held].std()
    floor = 1e-6 * max(abs(float(mean)), 1e-300)
    deviation = max(float(deviation), floor)
    density: Array = -0.5 * ((values[held] - mean) / deviation) ** 2 - math.log(deviation)
    return density


def _huge(cell: Any) -> bool:
    if isinstance(cell, str):
        return len(cell) > 15 and _WHOLE.fullmatch(cell.strip()) is not None and int(cell.strip()[:4000]) > _HUGE
    return isinstance(cell, (int, np.integer)) and abs(int(cell)) > _HUGE


def _outlier_note(values: Array, unit: float) -> str:
    """Return a note on extreme values that dominate the mean; empty where there are none.

    ``values``: within ±1, times ``unit``.
    """
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    reach = _FAR * (high - low)
    far = values[(values > high + reach) | (values < low - reach)]
    if far.size == 0 or reach == 0.0:
        return ""
    most = sorted(set(far.tolist()), key=lambda value: -abs(value - middle))[:3]
    shown = ", ".join(f"{value * unit:g}" for value in most)
    return (
        f"{far.size} of {values.size} numbers lie far from all others ({shown}): "
        f"the mean is {values.mean() * unit:g}, the median {middle * unit:g}; leave out those that are mistakes; "
        f"otherwise an input bears them with scale: quantile, a target with the task's loss: mae"
    )


def _scores(values: Array) -> tuple[list[float], list[float]]:
    """Points of the distribution and the normal score of each; equal points share the mean of their scores."""
    count = min(_QUANTILES, len(values))
    ranks = (np.arange(count) + 0.5) / count
    normal = NormalDist()
    scores = np.array([normal.inv_cdf(float(rank)) for rank in ranks])
    points, where = np.unique(np.quantile(values, ranks, method="hazen"), return_inverse=True)
    return points.tolist(), (np.bincount(where, weights=scores) / np.bincount(where)).tolist()
