"""A scorer of labels along an input: it keeps counts of steps and segments, and the sequences of codes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor

from sensorium.core.batch import Batch, Field
from sensorium.core.scorer import Kept, Scorer
from sensorium.metrics.segments import OVERLAPS, count_segments, edit_score, pooled_f1, segments_of
from sensorium.metrics.weighting import mean, ratio

METRICS = ("segment_f1_50", "segment_f1_25", "segment_f1_10", "span_f1", "step_accuracy", "edit_score")


class Labels(Protocol):
    """A task that labels the steps of an input."""

    headline: str
    on: str
    classes: list[str]
    background: int | None
    words: bool

    def target(self, batch: Batch) -> Field | None:
        """The targets of ``batch``, as ``Task.target``."""

    def decoded(self, output: Tensor, mask: Tensor, field: Field | None) -> Tensor:
        """The code of each step ``[B, T]`` of ``output`` at the steps of ``mask``; ``field`` is the prepared input."""


class LabelScorer(Scorer[Tensor]):
    """Scores of steps and segments; of each row it keeps counts and the sequences of codes.

    Args:
        task: The scored task.
    """

    def __init__(self, task: Labels) -> None:
        super().__init__()
        self._task = task

    def keep(self, output: Tensor, batch: Batch) -> Kept:
        task, target = self._task, self._task.target(batch)
        if target is None:
            return {}
        labels = len(task.classes) if task.words else None
        true = target.data[target.present].long().cpu()
        known = true >= 0
        field = batch.inputs.get(task.on)
        mask = input_mask(field, output) if field is not None else target.data >= 0
        path = task.decoded(output, mask | (target.data >= 0), field)[target.present].cpu()
        counts = [count_segments(p.tolist(), t.tolist(), task.background, labels) for t, p in zip(true, path, strict=True)]
        codes = [(t[k].tolist(), p[k].tolist()) for t, p, k in zip(true, path, known, strict=True)]
        orders = [
            [[run[2] for run in segments_of(side, task.background, labels)] for side in (answered, wanted)]
            for wanted, answered in codes
        ]
        by_label = [torch.where(part < 0, part, part % len(task.classes)) for part in (true, path)]
        right = (by_label[0] == by_label[1]) & known
        classes = [_by_class(part, len(task.classes)) for part in _triples(right, by_label[1], by_label[0], known)]
        return {
            "segments": torch.stack(counts) if counts else torch.zeros(0, len(OVERLAPS) + 1, 3, dtype=torch.long),
            "steps": torch.stack([right.sum(dim=1), known.sum(dim=1)], dim=1),
            "edit": torch.tensor([edit_score(*order) for order in orders], dtype=torch.float64),
            "classes": torch.stack(classes).permute(1, 2, 0),
            "codes": codes,
            "ids": _ids(field, target, known) if task.words else [[] for _ in codes],
        }

    @property
    def varied(self) -> bool:
        return len({code for true, _ in self.kept.get("codes", []) for code in true}) > 1

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        kept, head = self.kept, self._task.headline
        if self.rows == 0:
            nothing = weights.new_full((weights.shape[0],), torch.nan)
            scores = dict.fromkeys(METRICS, nothing)
        else:
            segments = kept["segments"]
            scores = {f"segment_f1_{round(100 * o)}": pooled_f1(segments[:, i], weights) for i, o in enumerate(OVERLAPS)}
            scores["span_f1"] = pooled_f1(segments[:, len(OVERLAPS)], weights)
            right, all_steps = (weights @ kept["steps"].double()).unbind(dim=1)
            scores |= {"step_accuracy": ratio(right, all_steps), "edit_score": mean(kept["edit"], weights)}
        order = (head, *(name for name in METRICS if name != head))
        return {name: scores[name] for name in order if names is None or name in names}


def input_mask(field: Field | None, output: Tensor) -> Tensor:
    """Return which steps of the input ``field`` are real ``[B, T]``; where it is missing, those of the ``output``
    ``[B, T, K]``."""
    if field is None or field.data.dim() < 2:
        return output.new_ones(output.shape[:2], dtype=torch.bool)
    axis = 1 if field.data.dim() == 2 else 2
    full = field.present[:, None].expand(-1, field.data.shape[axis]) if field.mask is None else field.mask
    return full & field.present[:, None]


def _ids(field: Field | None, target: Field, known: Tensor) -> list[list[int]]:
    """The ids of the known tokens of each row with a target."""
    if field is None:
        return [[] for _ in known]
    return [row[k].tolist() for row, k in zip(field.data[target.present].cpu(), known, strict=True)]


def _triples(right: Tensor, path: Tensor, true: Tensor, known: Tensor) -> list[Tensor]:
    """The class of each step that was answered rightly, that was answered, and that is true; -1 elsewhere."""
    return [torch.where(right, true, -1), torch.where(known, path, -1), torch.where(known, true, -1)]


def _by_class(codes: Tensor, classes: int) -> Tensor:
    """Counts ``[B, K]`` of the codes ``[B, T]`` that are not negative."""
    return (codes[..., None] == torch.arange(classes)).sum(dim=1)
