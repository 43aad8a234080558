"""Labels along time: one for each step, or spans."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Layout, Points
from sensorium.core.modality import Array, Guess, Modality, is_blank
from sensorium.core.registry import component
from sensorium.core.scalars import plain
from sensorium.language.category_values import fold_label, label, nearest_label
from sensorium.language.numbers import read_number

if TYPE_CHECKING:
    from sensorium.core.batch import Field

IGNORED = -100
"""Code of a step without a label, which neither loss nor scores count."""
UNLABELLED = -1.0
LONGEST = 1_000_000
"""Most labels of a cell."""
CLASSES = 1000


@component
class Labels(Modality):
    """Labels along a series, a recording or a video's sound: which activity when, who speaks, which phase.

    A cell is a list of spans, ``[[0, 1.5, "walk"], [1.5, 4, "run"]]`` (or objects with ``start``, ``end`` and ``label``),
    in steps of the series or seconds of the recording; or one label for each step, ``["walk", "walk", "run"]`` or ``walk
    walk run``, null (or ``-``) where it is unknown. Steps between spans are background. Encoded as ``[n, 3]`` float32:
    start, end and class of every stretch; prepared as class codes ``[B, T]`` of the steps of the input, -100 if unknown.

    Args:
        step: The length that one label of a list stands for, in steps of the series or seconds of the recording.
        background: The name of what lies between spans; null: the steps between spans are unknown, and do not count.
    """

    checked = True
    ragged = True
    classed = True
    lies_on = ("series", "audio")
    task = "labelling"

    def __init__(self, *, step: float = 1.0, background: str | None = "none") -> None:
        super().__init__()
        if not 0 < step < math.inf:
            raise ConfigError(f"labels: a step of {step} is not above 0")
        self.step, self.background = step, background

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        spans = 0
        for cell in cells:
            try:
                stretches, listed = _parsed(cell)
            except CellError:
                continue
            # A list of triples of numbers is more likely points.
            spans += listed and any(name is not None and read_number(name) is None for _, _, name in stretches)
        if not cells or spans < len(cells):
            return Guess(0.0, f"{spans} of {len(cells)} cells are lists of spans")
        return Guess(0.95, "every cell is a list of spans: start, end and label")

    def fit(self, cells: Iterable[Any]) -> None:
        names: set[str] = set()
        longest, spans = 1, False
        for cell in cells:
            try:
                stretches, listed = _parsed(cell, self.step)
            except CellError:
                continue  # reported by encode
            spans = spans or listed
            names |= {name for _, _, name in stretches if name is not None}
            longest = max(longest, len(stretches))
        background = self.background if spans else None
        rest = sorted(names - {background})
        if len(rest) > CLASSES:
            raise ConfigError(f"labels: there are {len(rest):,} different labels, and at most {CLASSES:,} are learnt")
        self.state = {"values": ([] if background is None else [background]) + rest, "longest": longest}
        self.state["background"] = background is not None

    @property
    def classes(self) -> list[str]:
        """The known labels, in the order of their codes; the background, if any, is the first."""
        return list(self.state["values"])

    @property
    def has_background(self) -> bool:
        """Whether the first class is what lies between spans."""
        return bool(self.state["background"])

    @property
    def layout(self) -> Layout:
        return Points(3, self.state["longest"])

    @property
    def longest(self) -> int:
        return max(int(self.state["longest"]), 1)

    def encode(self, cell: Any) -> Array:
        stretches, _ = _parsed(cell, self.step)
        codes = {name: i for i, name in enumerate(self.state["values"])}
        out = np.empty((len(stretches), 3), np.float32)
        for i, (start, end, name) in enumerate(stretches):
            if name is not None and name not in codes:
                near = nearest_label(name, {fold_label(known): known for known in self.state["values"]})
                raise CellError(
                    f"the label {name!r} is not known from training",
                    fix=f"{near!r}?" if near else "train with rows that have it",
                )
            out[i] = start, end, UNLABELLED if name is None else codes[name]
        return out[: self.longest]

    def decode(self, value: Array) -> list[list[Any]]:
        """Return the spans ``[start, end, label]``; the label is None where it is unknown."""
        names = self.state["values"]
        return [
            [round(float(start), 4), round(float(end), 4), None if code < 0 else names[int(code)]]
            for start, end, code in np.asarray(value, np.float64).tolist()
        ]

    def blank(self) -> Array:
        return np.zeros((0, 3), np.float32)

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return class codes ``[B, T]`` int64 of the steps of the input ``on``, each that of the span over its centre.

        The frame of the input maps spans to its steps, shifts by augmentation included. -100 where a step has no label or
        lies past the end.
        """
        import torch

        from sensorium.signal.geometry import spans

        if on is None or on.data.dim() < 3:
            return field
        rows, steps = on.data.shape[0], on.data.shape[2]
        ends = field.data[..., :2] if on.frame is None else spans(on.frame, field.data[..., :2])
        real = torch.ones(field.data.shape[:2], dtype=torch.bool) if field.mask is None else field.mask
        codes = torch.full((rows, steps), 0 if self.has_background else IGNORED, device=on.data.device)
        centre = torch.arange(steps, device=on.data.device) + 0.5
        for i in range(field.data.shape[1]):  # later spans lie over earlier ones
            over = (centre >= ends[:, i, :1]) & (centre < ends[:, i, 1:]) & real[:, i, None].to(centre.device)
            code = field.data[:, i, 2].long()
            codes = torch.where(over, torch.where(code < 0, IGNORED, code)[:, None], codes)
        inside = on.present[:, None].expand(rows, steps) if on.mask is None else on.mask
        codes = codes.masked_fill(~(inside & field.present[:, None]), IGNORED)
        return replace(field, data=codes, mask=None, frame=on.frame, extent=on.extent)


Stretch = tuple[float, float, str | None]


def _parsed(cell: Any, step: float = 1.0) -> tuple[list[Stretch], bool]:
    """Return the labelled stretches of a cell in order, and whether it is a list of spans."""
    cell = plain(cell)
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, str):
        cell = _from_text(cell)
    if not isinstance(cell, (list, tuple)):
        raise CellError(f"a {type(cell).__name__} is no list of labels or spans")
    if not cell:
        return [], True
    if len(cell) > LONGEST:
        raise CellError(f"{len(cell):,} labels are more than {LONGEST:,}")
    if all(isinstance(item, (list, tuple, Mapping)) for item in cell):
        return sorted((_span(item, i) for i, item in enumerate(cell)), key=lambda span: span[:2]), True
    return _runs([_name(item) for item in cell], step), False


def _from_text(text: str) -> Any:
    stripped = text.strip()
    if stripped[:1] == "[":
        try:
            return json.loads(stripped)
        except (ValueError, RecursionError):
            raise CellError(f"{stripped[:60]!r} is no JSON list", fix='[[0, 12, "walk"]] or ["walk", "run"]') from None
    parts = [part for part in re.split(r"[\s,;|]+", stripped) if part]
    if not parts:
        raise CellError("there is no label")
    return [None if part == "-" else part for part in parts]


def _span(item: Any, number: int) -> Stretch:
    if isinstance(item, Mapping):
        parts = [item.get("start"), item.get("end"), item.get("label")]
    else:
        parts = list(item)
    numbers = [float(end) for end in parts[:2] if isinstance(end, (int, float)) and not isinstance(end, bool)]
    if len(parts) != 3 or len(numbers) != 2:
        raise CellError(f"span {number + 1} is {str(item)[:60]}", fix='a span is [start, end, "label"]')
    start, end = numbers
    if not (math.isfinite(start) and math.isfinite(end)) or end <= start:
        raise CellError(f"span {number + 1} ends at {end:g} and starts at {start:g}", fix="the end is after the start")
    return start, end, _name(parts[2])


def _name(item: Any) -> str | None:
    item = plain(item)
    if item is None or (isinstance(item, float) and math.isnan(item)) or (isinstance(item, str) and is_blank(item)):
        return None
    if isinstance(item, (list, tuple, Mapping, bytes)):
        raise CellError(f"{str(item)[:60]} is no label", fix="labels or spans, not both in one cell")
    name = label(item)
    if name is None:
        raise CellError(f"{str(item)[:60]!r} is no label")
    return name


def _runs(names: Sequence[str | None], step: float) -> list[Stretch]:
    """Join equal neighbours."""
    begins = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    return [(begin * step, end * step, names[begin]) for begin, end in zip(begins, [*begins[1:], len(names)], strict=True)]
