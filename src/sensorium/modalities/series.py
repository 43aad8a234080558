"""Series of readings over time."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid, Layout
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.registry import component
from sensorium.signal.readings import read_series, to_steps
from sensorium.signal.statistics import Moments, thinned

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

_ENDINGS = (".csv", ".tsv", ".npy", ".parquet")
_SAMPLE = 512
_LONGEST = 4096


@component
class Series(Modality):
    """Readings over time, of one channel or several: a sensor, a heartbeat, prices.

    A cell is a file (CSV, TSV, NPY, Parquet), a list or an array ``[T]`` or ``[T, C]``. Encoded as ``[T, C]`` float32, gaps
    filled in on a straight line; prepared as ``[B, C, T]``, standardised by channel, zero where padded, with the mask of
    real steps. Longer series are cut to their beginning; another number of channels than in training raises ``CellError``.

    Args:
        length: The most steps; None: as many as 95 of 100 training series have, at most 4096.
        augment: In training, random noise, scaling and shifts in time; ``strong`` also hides a stretch of time.
    """

    widget = "file:.csv,.tsv,.npy,.parquet"
    media = True
    ragged = True
    corruptions = ("noise", "drift", "dropout")

    def __init__(self, *, length: int | None = None, augment: Literal["none", "light", "strong"] = "light") -> None:
        super().__init__()
        if length is not None and length < 1:
            raise ConfigError(f"series: a length of {length} steps is not 1 or more")
        self.length, self.augment = length, augment

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        found = Counter(what for what in map(_recognised, cells) if what)
        if not found:
            return Guess(0.0, "no cell is a series")
        count = found.total()
        share = count / len(cells)
        if "list" in found:
            lengths = {len(cell) for cell in cells if hasattr(cell, "__len__")}
            # Flat lists of one short length may be vectors just as well.
            sure = 0.8 if len(lengths) > 1 or max(lengths) > 64 else 0.6
            return Guess(sure * share, f"{count} of {len(cells)} cells are lists or arrays of numbers")
        kinds = " or ".join(kind for kind, _ in found.most_common(3))
        verb = "are" if "bytes" in kinds else "end in"
        return Guess(0.95 * share, f"{count} of {len(cells)} cells {verb} {kinds}")

    def fit(self, cells: Iterable[Any]) -> None:
        channels: Counter[int] = Counter()
        lengths: list[int] = []
        cut = self.length or _LONGEST

        def opened() -> Iterable[Array]:
            for cell in cells:
                try:
                    steps = _open(cell, cut)
                except CellError:
                    continue  # encode meets it again and reports it
                channels[steps.shape[1]] += 1
                lengths.append(len(steps))
                yield _single(steps)

        sample = thinned(opened(), _SAMPLE)
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
        return Grid(self.state["channels"], (self.state["length"],))

    def encode(self, cell: Any) -> Array:
        steps = _open(cell, self.state["length"])
        if steps.shape[1] != self.state["channels"]:
            raise CellError(
                f"the series has {steps.shape[1]} channels, in training they had {self.state['channels']}",
                file=cell.name if isinstance(cell, Blob) else None,
                fix="a series is [T, channels]: is it turned, or has a column been added?",
            )
        steps = _single(steps)
        place = np.arange(len(steps))
        for channel in range(steps.shape[1]):
            real = np.isfinite(steps[:, channel])
            if not real.any():
                steps[:, channel] = self.state["mean"][channel]  # zero once standardised
            elif not real.all():
                steps[:, channel] = np.interp(place, place[real], steps[real, channel])
        return steps

    def blank(self) -> Array:
        return np.zeros((0, self.state["channels"]), dtype=np.float32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Steps ``[B, T, C]`` as standardised ``[B, C, T]``; zero where padded or missing."""
        import torch

        from sensorium.signal.augment import hide_stretch, slide, uniform

        mask = field.mask if field.mask is not None else field.present[:, None].expand(field.data.shape[:2])
        mean = torch.tensor(self.state["mean"], device=field.data.device)
        deviation = torch.tensor(self.state["deviation"], device=field.data.device)
        # A hundred deviations are far out already; float32 could overflow in what comes after.
        data = ((field.data - mean) / deviation).clamp(-100, 100)
        if generator is not None and self.augment != "none":
            strong = self.augment == "strong"
            data = slide(data, mask, generator, 0.1 if strong else 0.05)
            by = 0.2 if strong else 0.1
            data = data * uniform((data.shape[0], 1, data.shape[2]), 1 - by, 1 + by, data, generator)
            noise = torch.randn(data.shape, generator=generator, device=generator.device).to(data.device)
            data = data + noise * (0.1 if strong else 0.05)
            if strong:
                data = hide_stretch(data, mask, generator, 0.3)
        return replace(field, data=(data * mask[..., None]).transpose(1, 2).contiguous(), mask=mask)

    def _corrupted(self, value: Array, how: str, level: float, rng: np.random.Generator) -> Array:
        from sensorium.signal.corrupt import drift, gap

        mean, deviation = np.array(self.state["mean"]), np.array(self.state["deviation"])
        if how == "dropout":
            return np.where(gap(len(value), level, rng)[:, None], mean, value).astype(np.float32)
        steps, channels = value.shape
        off = 2 * level * rng.standard_normal(value.shape) if how == "noise" else drift(steps, channels, level, rng)
        spoiled: Array = np.clip(value + deviation * off, -3e38, 3e38).astype(np.float32)
        return spoiled

    @property
    def store_options(self) -> dict[str, Any]:
        return {key: self.state[key] for key in ("channels", "length", "mean")}


def _open(cell: Any, most: int) -> Array:
    """The first steps of a cell, ``[T, C]`` float64, at most ``most`` of them."""
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
    """Steps as float32; what that cannot hold is a gap."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = steps.astype(np.float32)
    single[~np.isfinite(single)] = np.nan
    return single


def _recognised(cell: Any) -> str:
    """What a cell is recognised by as a series: its ending, its kind of bytes, or ``list``."""
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
    try:
        to_steps(data)
    except CellError:
        return ""
    return "list"
