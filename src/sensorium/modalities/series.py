"""Time series."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.image_arrays import looks_like_image
from sensorium.codecs.series import read_series, to_steps
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.gap_filling import fill
from sensorium.signal.running_moments import Moments, subsampled
from sensorium.signal.time_alignment import on_grid

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensorium.core.batch import Field

_ENDINGS = (".csv", ".tsv", ".npy", ".parquet")
_SAMPLE = 512
_LONGEST = 4096
_READINGS = 2**20  # largest number of rows that are resampled to a grid
_IN_WINDOW = 7  # statistics of a channel per window


@component
class Series(Modality):
    """A time series of one or several channels: a sensor, a heartbeat, prices.

    A cell is a file (CSV, TSV, NPY, Parquet), a list or an array ``[T]``, ``[T, C]`` or ``[T, J, 3]`` (moving joints: 3 J
    channels). Encoded as ``[T, C]`` float32 with gaps filled; prepared as ``[B, C, T]``, standardised by channel, zero
    where padded, with the mask of real steps. Longer series are cut (``keep``); a number of channels other than in training
    raises ``CellError``. As a target it is the future of another series, with its gaps.

    Args:
        length: Maximum number of steps; None: the 95th percentile of the training series, at most 4096.
        augment: In training, random noise, scaling and shifts in time; ``strong`` also masks a stretch of time.
        rate: Steps per second of a regular grid. The first column is then the time in seconds, and each other column is
            resampled to the grid from its own readings: for sensors with irregular or different rates. None: all columns
            are readings, one per step.
        fill: How gaps are filled: linear interpolation (``line``), the last reading (``hold``), or the ``nearest``.
        gap: Longest gap to fill, in steps; longer ones get the training mean. None: any.
        indicator: Whether each channel gets a second one that is 1 where a reading was missing.
        standardise: Mean and deviation of each channel: those of ``training``, those of each ``recording`` itself (removes
            level and amplitude), or ``none``.
        window: Length of a sliding window in steps. Each window becomes one step of summary statistics by channel: mean,
            deviation, extremes, crossings, change and autocorrelation. Shortens long recordings. None: no windows.
        step: Steps from one window to the next; None: half a window.
        keep: Which part of a longer series is kept: its ``start``, or its ``end``, from which a forecast goes on.
    """

    task = "forecasting"
    lies_on = ("series",)
    widget = "file:.csv,.tsv,.npy,.parquet"
    media = True
    ragged = True
    corruptions = ("noise", "drift", "dropout")

    def __init__(
        self,
        *,
        length: int | None = None,
        # OSULeaf 0.810 without, 0.660 with light; of seven sets it helped on one (docs/results.md, "Augmentation").
        augment: Literal["none", "light", "strong"] = "none",
        rate: float | None = None,
        fill: Literal["line", "hold", "nearest"] = "line",
        gap: int | None = None,
        indicator: bool = False,
        standardise: Literal["training", "recording", "none"] = "training",
        window: int | None = None,
        step: int | None = None,
        keep: Literal["start", "end"] = "start",
    ) -> None:
        super().__init__()
        if length is not None and length < 1:
            raise ConfigError(f"series: a length of {length} steps is not 1 or more")
        if rate is not None and not 0 < rate <= 1e6:
            raise ConfigError(f"series: a rate of {rate} steps a second is not above 0 and up to a million")
        if gap is not None and gap < 0:
            raise ConfigError(f"series: a gap of {gap} steps is not 0 or more")
        if (window is not None and window < 2) or (step is not None and (step < 1 or window is None)):
            raise ConfigError("series: a window is 2 steps or more, and step, 1 or more, goes with a window")
        self.length, self.augment = length, augment
        self.rate, self.fill, self.gap, self.indicator = rate, fill, gap, indicator
        self.standardise, self.window, self.step, self.keep = standardise, window, step, keep

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        formats = Counter(what for what in map(_recognised, cells) if what)
        if not formats:
            return Guess(0.0, "no cell is a series")
        count = formats.total()
        share = count / len(cells)
        if "rows" in formats:
            return Guess(0.88 * share, f"{count} of {len(cells)} cells are lists of rows of numbers")
        if "list" in formats:
            lengths = {len(cell) for cell in cells if hasattr(cell, "__len__")}
            # Flat lists of one short length may also be vectors.
            sure = 0.8 if len(lengths) > 1 or max(lengths) > 64 else 0.6
            return Guess(sure * share, f"{count} of {len(cells)} cells are lists or arrays of numbers")
        kinds = " or ".join(kind for kind, _ in formats.most_common(3))
        verb = "are" if "bytes" in kinds else "end in"
        return Guess(0.95 * share, f"{count} of {len(cells)} cells {verb} {kinds}")

    def fit(self, cells: Iterable[Any]) -> None:
        channels: Counter[int] = Counter()
        lengths: list[int] = []
        cut = self.length or _LONGEST

        def opened() -> Iterable[Array]:
            for cell in cells:
                try:
                    steps = self._read(cell, cut)
                except CellError:
                    continue  # reported by encode
                channels[steps.shape[1]] += 1
                lengths.append(len(steps))
                yield _single(steps)

        sample = subsampled(opened(), _SAMPLE)
        usual = max(channels, key=lambda count: (channels[count], -count)) if channels else 1
        longest = int(np.ceil(np.percentile(lengths, 95))) if lengths else 1
        means, spread = [], []
        for channel in range(usual):
            moments = Moments(1)
            for steps in sample:
                if steps.shape[1] == usual:
                    values = steps[:, channel]
                    moments.add(values[np.isfinite(values)][:, None])
            means += moments.mean
            spread += moments.deviation(1e-9 * max(1.0, abs(moments.mean[0])))
        length = self.length or min(longest, _LONGEST)
        self.state = {"channels": usual, "length": length, "mean": means, "deviation": spread}

    @property
    def layout(self) -> Layout:
        channels, length = self.state["channels"] * (1 + self.indicator), self.state["length"]
        if self.window is None:
            return Grid(channels, (length,), timed=True)
        from sensorium.signal.stft import frames

        return Grid(channels * _IN_WINDOW, (frames(length, *self._windows),), timed=True)

    @property
    def longest(self) -> int:
        return int(self.state["length"])

    def encode(self, cell: Any) -> Array:
        filled, missing = fill(_single(self._steps(cell)), self.fill, self.gap)
        # Gaps that remain get the mean: zero once standardised.
        out = np.where(np.isnan(filled), np.asarray(self.state["mean"], dtype=np.float32), filled).astype(np.float32)
        return np.concatenate([out, missing.astype(np.float32)], axis=1) if self.indicator else out

    def encode_target(self, cell: Any) -> Array:
        """Return the readings ``[T, C]`` in their own units, NaN where there is a gap."""
        return _single(self._steps(cell))

    def decode(self, value: Array) -> Any:
        """Return the readings as lists ``[T]`` or ``[T][C]``, None where there is a gap."""
        steps = [[float(number) if np.isfinite(number) else None for number in step] for step in np.asarray(value)]
        return [step[0] for step in steps] if self.state["channels"] == 1 else steps

    def _steps(self, cell: Any) -> Array:
        """Return the part of a cell that is kept, ``[T, C]``."""
        steps = self._read(cell, self.state["length"])
        if steps.shape[1] != self.state["channels"]:
            raise CellError(
                f"the series has {steps.shape[1]} channels, in training they had {self.state['channels']}",
                file=cell.name if isinstance(cell, Blob) else None,
                fix="a series is [T, channels]: is it turned, or has a column been added?",
            )
        return steps

    def extent(self, cell: Any) -> Array | None:
        """Return the number of steps; with ``rate``, the duration in seconds and the start time from the first column."""
        try:
            steps = _open(cell, _READINGS)
        except CellError:  # reported by encode
            return None
        if self.rate is None:
            return np.array([len(steps)], dtype=np.float32)
        times = steps[:, 0][np.isfinite(steps[:, 0])]
        return np.array([np.ptp(times), times.min()], dtype=np.float32) if len(times) else None

    def framing(self, extent: Array) -> Array:
        """Map steps to themselves; with ``rate``, the first column's time to steps of the grid.

        Times are float32: a clock that counts seconds from 1970 is off by up to a minute. Count from the start instead.
        """
        mapping = np.zeros((len(extent), 1, 2), np.float32)
        mapping[:, 0, 0] = 1.0 if self.rate is None else self.rate
        if self.rate is not None:
            mapping[:, 0, 1] = 0.5 - extent[:, 1] * self.rate  # a reading at the time of a step is at its centre
        return mapping

    def blank(self) -> Array:
        return np.zeros((0, self.state["channels"] * (1 + self.indicator)), dtype=np.float32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Standardise steps ``[B, T, C]`` to ``[B, C, T]``, or summarise them by window; zero where padded or missing.

        A field's frame then maps to steps, or to windows, each at the centre of its steps.
        """
        import torch

        from sensorium.signal.augmentation import hide_stretch, slide, uniform
        from sensorium.signal.geometry import apply_moves, frame_of_shift

        moves: list[Tensor] | None = None if field.frame is None else []
        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape[:2])
        channels = self.state["channels"]
        data, flags = field.data[..., :channels], field.data[..., channels:]
        data = self._standard(data, mask)
        if generator is not None and self.augment != "none":
            strong = self.augment == "strong"
            moved = torch.cat([data, flags], dim=2) if self.indicator else data
            moved = slide(moved, mask, generator, 0.1 if strong else 0.05, moves)
            data, flags = moved[..., :channels], moved[..., channels:]
            by = 0.2 if strong else 0.1
            data = data * uniform((data.shape[0], 1, data.shape[2]), 1 - by, 1 + by, data, generator)
            noise = torch.randn(data.shape, generator=generator, device=generator.device).to(data.device)
            data = data + noise * (0.1 if strong else 0.05)
            if strong:
                data = hide_stretch(data, mask, generator, 0.3)
        if self.indicator:
            data = torch.cat([data, flags], dim=2)
        data = (data * mask[..., None]).transpose(1, 2)
        if self.window is not None:
            data, mask = self._windowed(data, mask)
            if moves is not None:
                length, step = self._windows
                moves.append(frame_of_shift(data.new_full((len(data),), 0.5 - length / (2 * step)), 1 / step))
        return replace(field, data=data.contiguous(), mask=mask, frame=apply_moves(field.frame, moves))

    def _standard(self, data: Tensor, mask: Tensor) -> Tensor:
        """Standardise readings ``[B, T, C]``."""
        import torch

        if self.standardise == "none":
            return data.clamp(-1e6, 1e6)
        if self.standardise == "training":
            mean, deviation = (torch.tensor(self.state[key], device=data.device) for key in ("mean", "deviation"))
        else:
            from sensorium.signal.series_statistics import moments

            own = moments(data.transpose(1, 2), mask[:, None])[:, None]  # [B, 1, C, 4]
            mean, deviation = own[..., 0], own[..., 1].masked_fill(own[..., 1] == 0, 1.0)
        # Clipped, so that later float32 computations cannot overflow.
        return ((data - mean) / deviation).clamp(-100, 100)

    def _windowed(self, data: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Summarise steps ``[B, C, T]`` by window: ``[B, C * 7, n]`` and the mask of real windows."""
        import torch

        from sensorium.signal.series_statistics import autocorrelations, crossings, moments, quantiles
        from sensorium.signal.stft import frames

        length, step = self._windows
        count = max(frames(mask.shape[1], length, step), 1)
        more = (0, (count - 1) * step + length - mask.shape[1])
        cut = torch.nn.functional.pad(data, more).unfold(2, length, step)[:, :, :count]  # [B, C, n, length]
        real = torch.nn.functional.pad(mask, more).unfold(1, length, step)[:, None, :count]
        parts = [
            moments(cut, real)[..., :2],
            quantiles(cut, real, (0.0, 1.0)),
            crossings(cut, real),
            autocorrelations(cut, real, (1,)),
        ]
        present = torch.arange(count, device=mask.device) < frames(mask.sum(dim=1), length, step)[:, None]
        features = torch.cat(parts, dim=-1).transpose(2, 3).flatten(1, 2)
        return features * present[:, None], present

    @property
    def _windows(self) -> tuple[int, int]:
        length = self.window or 1
        return length, self.step or max(1, length // 2)

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        from sensorium.signal.corruption import drift, gap

        mean, deviation = np.array(self.state["mean"]), np.array(self.state["deviation"])
        # Missing-value flags are not corrupted.
        readings, flags = value[:, : len(mean)], value[:, len(mean) :]
        if how == "dropout":
            corrupted = np.where(gap(len(value), level, rng)[:, None], mean, readings)
        else:
            steps, channels = readings.shape
            off = 2 * level * rng.standard_normal(readings.shape) if how == "noise" else drift(steps, channels, level, rng)
            corrupted = np.clip(readings + deviation * off, -3e38, 3e38)
        return np.concatenate([corrupted.astype(np.float32), flags], axis=1)

    @property
    def store_options(self) -> dict[str, Any]:
        own = {"rate": self.rate, "fill": self.fill, "gap": self.gap, "indicator": self.indicator, "keep": self.keep}
        usual = {"rate": None, "fill": "line", "gap": None, "indicator": False, "keep": "start"}
        changed = {key: value for key, value in own.items() if value != usual[key]}
        return {key: self.state[key] for key in ("channels", "length", "mean")} | changed

    def _read(self, cell: Any, most: int) -> Array:
        """Return the first ``most`` steps of a cell, ``[T, C]`` float64, on the regular grid if there is a ``rate``."""
        if self.rate is None:
            return _open(cell, most) if self.keep == "start" else _open(cell, _READINGS)[-most:]
        name = cell.name if isinstance(cell, Blob) else None
        steps = _open(cell, _READINGS)
        if steps.shape[1] < 2:
            raise CellError("there is only one column, the time, and no readings", file=name, fix="leave rate out")
        times = steps[:, 0]
        if not np.isfinite(times).any():
            raise CellError("the first column holds no time", file=name, fix="seconds first, readings after")
        start, end = np.nanmin(times[np.isfinite(times)]), np.nanmax(times[np.isfinite(times)])
        count = int(min((end - start) * self.rate + 1e-6, most - 1)) + 1
        if self.keep == "end":
            start = end - (count - 1) / self.rate
        values, known = on_grid(times, steps[:, 1:], start + np.arange(count) / self.rate, self.fill, reach=self._reach)
        return np.where(known, values, np.nan)

    @property
    def _reach(self) -> float | None:
        """Largest distance in seconds from a grid step to a reading that may fill it."""
        return None if self.gap is None or self.rate is None else max(self.gap, 1) / self.rate


def _open(cell: Any, most: int) -> Array:
    """Return the first steps of a cell, ``[T, C]`` float64, at most ``most``."""
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return read_series(cell, most)[:most]
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise CellError(f"{cell[:60]!r} is not a list of numbers") from None
    return to_steps(cell)[:most]


def _single(steps: Array) -> Array:
    """Convert steps to float32; values that overflow become gaps."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = steps.astype(np.float32)
    single[~np.isfinite(single)] = np.nan
    return single


def _recognised(cell: Any) -> str:
    """Return how a cell is recognised as a series: by its extension, its magic bytes, or as a list, of
    ``rows`` if each step has several readings; empty if it is not."""
    if isinstance(cell, os.PathLike):
        cell = os.fspath(cell)
    if isinstance(cell, str):
        if cell.lstrip()[:1] == "[":
            try:
                cell = json.loads(cell)
            except (ValueError, RecursionError):
                return ""
        else:
            ending = os.path.splitext(cell[-300:].strip().lower())[1]
            return ending if ending in _ENDINGS else ""
    data = cell.data if isinstance(cell, Blob) else cell
    if isinstance(data, bytes):
        return "the bytes of arrays or Parquet" if data.startswith((b"\x93NUMPY", b"PAR1")) else ""
    if not isinstance(data, (list, tuple, np.ndarray)) or len(data) < 2:
        return ""
    if isinstance(data, np.ndarray) and data.ndim == 3 and (data.shape[-1] > 4 or looks_like_image(data)):
        return ""  # a volume, a video or a picture
    try:
        to_steps(data)
    except CellError:
        return ""
    return "rows" if np.ndim(data[0]) else "list"
