"""Labelling: a label for each step of a series or recording."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Kept, Scorer
from sensorium.core.task import Task
from sensorium.heads.label_strips import label_views
from sensorium.metrics.segments import OVERLAPS, count_segments, edit_score, pooled_f1, segments_of
from sensorium.metrics.weighting import mean, ratio
from sensorium.nn.conv import clear
from sensorium.nn.temporal_convolution import DilatedBlock
from sensorium.nn.viterbi import order_and_lengths, transition_scores, viterbi
from sensorium.signal.geometry import inverse, spans

IGNORED = -100


@component
class Labelling(Task[Tensor]):
    """A label for each step of a series or recording: which activity when, who speaks, which phase.

    Reads the feature maps of the input that the labels lie on, and of every other stream along time, which is taken to
    cover the same time; the fused vector scales and shifts them (FiLM), so that words or table cells count too. Dilated
    convolutions look both ways; the answer is the most probable sequence (Viterbi), in which changing the label costs what
    the training rows say. Answers are spans ``[start, end, label]`` in steps of the series or seconds of the recording.

    Output: logits ``[B, T, K]`` by step of the input. Target: class codes ``[B, T]``, -100 where unknown.
    Sources: Lea et al. 2017, https://arxiv.org/abs/1611.05267; FiLM, https://arxiv.org/abs/1709.07871.

    Args:
        hidden: Channels.
        depth: Blocks of dilated convolutions; each doubles how far a step sees.
        dropout: Share of channels dropped in training.
        causal: Whether a step sees only earlier ones, for answers while a recording goes on; the encoder has its own.
        switch: Weight of the transitions between labels in the answer; 0: each step for itself.
    """

    predicts: ClassVar[tuple[str, ...]] = ("labels",)
    headline: ClassVar[str] = "segment_f1_50"
    nothing: ClassVar[str] = "always answering the most frequent label"
    mergeable: ClassVar[bool] = False
    fine: ClassVar[bool] = True
    spans: ClassVar[bool] = True

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 64,
        depth: int = 4,
        dropout: float = 0.1,
        causal: bool = False,
        switch: float = 1.0,
    ) -> None:
        super().__init__(goal, dim)
        (target,) = goal.targets
        if target not in goal.lies_on:
            raise ConfigError(
                "labels lie on a series or recording, and there is none", column=target, fix=f"columns.{target}.on=signal"
            )
        if hidden < 1 or depth < 0 or switch < 0:
            raise ConfigError("labelling: hidden is 1 or more, depth and switch 0 or more")
        self.on = goal.lies_on[target]
        if not isinstance(goal.streams[self.on], Grid):
            raise ConfigError(f"labels lie on a series or recording, and {self.on!r} is none", column=target)
        self.classes, self.switch = goal.modality.classes, switch
        self.background = 0 if getattr(goal.modality, "has_background", False) else None
        self.levels = goal.levels.get(self.on, ())
        if not self.levels:
            raise ConfigError(
                f"task {goal.name!r} reads feature maps of {self.on!r}, and its encoder has none",
                fix=f"model.encoders.{self.on}=tcn",
            )
        self.beside = tuple(
            name
            for name, layout in goal.streams.items()
            if name != self.on and isinstance(layout, Grid) and layout.timed and goal.levels.get(name)
        )
        self.maps = nn.ModuleList(nn.Conv1d(width, hidden, 1) for width in _widths(goal, self.on))
        self.others = nn.ModuleList(nn.Conv1d(_widths(goal, name)[0], hidden, 1) for name in self.beside)
        self.steer = nn.Linear(dim, 2 * hidden)
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)
        self.blocks = nn.ModuleList(DilatedBlock(hidden, hidden, 3, 2**i, causal, dropout) for i in range(depth))
        self.last = nn.Linear(hidden, len(self.classes))
        count = len(self.classes)
        self.shares: Tensor
        self.order: Tensor
        self.lengths: Tensor
        self.register_buffer("shares", torch.full((count,), -math.log(max(count, 1))))
        self.register_buffer("order", torch.zeros(count, count))
        self.register_buffer("lengths", torch.ones(count))

    @property
    def pyramids(self) -> tuple[str, ...]:
        return (self.on, *self.beside)

    def fit(self, targets: Iterable[Field]) -> None:
        """Take the shares of the labels, which follows which and how long each lasts from ``targets``."""
        rows = [row for part in targets for row in stretches(part, self.background)]
        self.shares.copy_(_shares(rows, len(self.classes)))
        order, lengths = order_and_lengths(rows, len(self.classes))
        self.order.copy_(order)
        self.lengths.copy_(lengths)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        part = streams[self.on]
        x: Tensor | None = None
        coarse = 1
        for project, level, map_ in zip(reversed(self.maps), reversed(self.levels), reversed(part.pyramid), strict=True):
            own = project(_flat(map_))
            x = own if x is None else own + _stretched(x, coarse // level.stride[0], own.shape[2])
            coarse = level.stride[0]
        assert x is not None
        real = _real_steps(part, x.shape[2])
        for name, project in zip(self.beside, self.others, strict=True):
            x = x + _at_the_same_time(project, streams[name], real)
        scale, shift = self.steer(fused.pooled)[:, :, None].chunk(2, dim=1)
        x = clear(x * (1 + scale) + shift, real)
        for block in self.blocks:
            x = block(x, real)
        logits: Tensor = self.last(x.transpose(1, 2)) + self.shares
        return logits.repeat_interleave(self.levels[0].stride[0], dim=1)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        codes = target.data.long()
        each = F.cross_entropy(
            _steps(output, codes.shape[1]).transpose(1, 2).float(), codes, ignore_index=IGNORED, reduction="none"
        )
        return each.sum(dim=1) / (codes != IGNORED).sum(dim=1).clamp(min=1)

    def decoded(self, output: Tensor, mask: Tensor, field: Field | None) -> Tensor:
        """Return the most probable sequences ``[B, T]`` of ``output`` at the steps of ``mask`` ``[B, T]``.

        ``field``: the prepared input; its frame says how many steps a second (or a step of the user's series) is.
        """
        logs = _steps(output.detach(), mask.shape[1]).float().log_softmax(dim=2)
        pace = torch.ones(len(logs), 1, device=logs.device)
        if field is not None and field.frame is not None:
            pace = torch.where(field.present[:, None], field.frame[:, 0, :1].abs().to(pace), pace)
        return viterbi(logs, self.switch * transition_scores(self.order, self.lengths * pace), mask)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        field = batch.inputs.get(self.on)
        mask = _mask(field, output)
        codes = self.decoded(output, mask, field)
        chances = _steps(output.detach(), mask.shape[1]).float().softmax(dim=2).gather(2, codes[..., None])[..., 0]
        values = self._spans(codes, mask, field)
        sure = (chances * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return [{"value": value, "confidence": float(one)} for value, one in zip(values, sure, strict=True)]

    def truths(self, batch: Batch) -> list[Any]:
        target = self.target(batch)
        if target is None:
            return [None] * batch.rows
        known = target.data >= 0
        values = self._spans(target.data.masked_fill(~known, -1), known.new_ones(known.shape), batch.inputs.get(self.on))
        return [value if present else None for value, present in zip(values, target.present.tolist(), strict=True)]

    def _spans(self, codes: Tensor, mask: Tensor, field: Field | None) -> list[list[list[Any]]]:
        """Return the spans of each row in the user's units, without the background."""
        lengths = mask.sum(dim=1).tolist()
        back = None if field is None or field.frame is None else inverse(field.frame.float().cpu())
        answers = []
        for i, row in enumerate(codes.tolist()):
            runs = segments_of(row[: lengths[i]], self.background)
            ends = torch.tensor([[run[:2] for run in runs]], dtype=torch.float32).reshape(1, -1, 2)
            if back is not None and field is not None and bool(field.present[i]):
                ends = spans(back[i : i + 1], ends)
            answers.append(
                [
                    [round(max(start, 0.0), 4), round(end, 4), self.classes[run[2]]]
                    for (start, end), run in zip(ends[0].tolist(), runs, strict=True)
                ]
            )
        return answers

    def scorer(self) -> Scorer[Tensor]:
        return LabelScorer(self)

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        """Return the mean probability of the labels answered in ``of``."""
        answered = of.argmax(dim=2, keepdim=True).expand(output.shape[0], -1, -1)
        return _steps(output, of.shape[1]).float().softmax(dim=2).gather(2, answered)[..., 0].mean(dim=1)

    def question(self, of: Tensor) -> list[str]:
        return ["mean probability of the labels"] * of.shape[0]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, LabelScorer) or scorer.rows == 0:
            return []
        kept = scorer.kept
        accuracy = (kept["steps"][:, 0] / kept["steps"][:, 1].clamp(min=1)).double().numpy()
        counts = kept["classes"].sum(dim=0).numpy()
        return label_views(self.classes, counts, kept["codes"], np.asarray(accuracy), self.background is not None)

    def baseline(self, targets: Iterable[Field]) -> list[float]:
        rows = [row for part in targets for row in stretches(part, self.background)]
        logs: list[float] = _shares(rows, len(self.classes)).tolist()
        return logs

    def constant(self, baseline: Sequence[float], rows: int) -> Tensor:
        return torch.tensor(baseline, dtype=torch.float32).expand(rows, 1, -1)


class LabelScorer(Scorer[Tensor]):
    """Scores of steps and segments; of each row it keeps counts and the sequences of codes.

    Args:
        task: The scored task.
    """

    def __init__(self, task: Labelling) -> None:
        super().__init__()
        self._task = task

    def keep(self, output: Tensor, batch: Batch) -> Kept:
        target = self._task.target(batch)
        classes = len(self._task.classes)
        if target is None:
            return {}
        true = target.data[target.present].long().cpu()
        known = true >= 0
        field = batch.inputs.get(self._task.on)
        mask = _mask(field, output) if field is not None else target.data >= 0
        path = self._task.decoded(output, mask | (target.data >= 0), field)[target.present].cpu()
        codes = [(t[k].tolist(), p[k].tolist()) for t, p, k in zip(true, path, known, strict=True)]
        counts = [count_segments(p.tolist(), t.tolist(), self._task.background) for t, p in zip(true, path, strict=True)]
        right = (path == true) & known
        orders = [
            [[run[2] for run in segments_of(side, self._task.background)] for side in (answered, wanted)]
            for wanted, answered in codes
        ]
        return {
            "segments": torch.stack(counts) if counts else torch.zeros(0, len(OVERLAPS), 3, dtype=torch.long),
            "steps": torch.stack([right.sum(dim=1), known.sum(dim=1)], dim=1),
            "edit": torch.tensor([edit_score(*order) for order in orders], dtype=torch.float64),
            "classes": torch.stack([_by_class(part, classes) for part in _triples(right, path, true, known)]).permute(
                1, 2, 0
            ),
            "codes": codes,
        }

    @property
    def varied(self) -> bool:
        return len({code for true, _ in self.kept.get("codes", []) for code in true}) > 1

    def compute(self, weights: Tensor | None = None, names: Collection[str] | None = None) -> dict[str, Tensor]:
        weights = self.ones() if weights is None else weights
        kept = self.kept
        if self.rows == 0:
            nothing = weights.new_full((weights.shape[0],), torch.nan)
            every = dict.fromkeys(METRICS, nothing)
        else:
            segments = kept["segments"]
            every = {f"segment_f1_{round(100 * o)}": pooled_f1(segments[:, i], weights) for i, o in enumerate(OVERLAPS)}
            right, all_steps = (weights @ kept["steps"].double()).unbind(dim=1)
            every |= {"step_accuracy": ratio(right, all_steps), "edit_score": mean(kept["edit"], weights)}
        return {name: every[name] for name in METRICS if names is None or name in names}


METRICS = ("segment_f1_50", "segment_f1_25", "segment_f1_10", "step_accuracy", "edit_score")


def stretches(targets: Field, background: int | None) -> Iterator[list[tuple[int, float]]]:
    """Yield the labelled stretches of each row that has ``targets``: class and length, with the background between them.

    Args:
        targets: Spans ``[B, n, 3]`` as stored, in the user's units, or class codes ``[B, T]``.
        background: The class of what lies between spans, if there is one.
    """
    data = targets.data.cpu()
    for i in targets.present.nonzero()[:, 0].tolist():
        if not data.is_floating_point():
            yield [(code, float(end - start)) for start, end, code in segments_of(data[i].tolist())]
            continue
        real = slice(None) if targets.mask is None else targets.mask[i].cpu()
        row: list[tuple[int, float]] = []
        last = 0.0
        for start, end, code in data[i][real].tolist():
            if background is not None and start > last:
                row.append((background, start - last))
            if code >= 0:
                row.append((int(code), end - start))
            last = max(last, end)
        yield row


def _shares(rows: Iterable[Sequence[tuple[int, float]]], classes: int) -> Tensor:
    """The logarithm of each class's share of the time ``[K]``; a hundredth of it is dealt out evenly."""
    total = torch.zeros(classes, dtype=torch.float64)
    for row in rows:
        for code, length in row:
            total[code] += length
    share = total / total.sum() if total.sum() > 0 else torch.full_like(total, 1 / max(classes, 1))
    return (0.99 * share + 0.01 / max(classes, 1)).log().float()


def _triples(right: Tensor, path: Tensor, true: Tensor, known: Tensor) -> list[Tensor]:
    """The class of each step that was answered rightly, that was answered, and that is true; -1 elsewhere."""
    return [torch.where(right, true, -1), torch.where(known, path, -1), torch.where(known, true, -1)]


def _by_class(codes: Tensor, classes: int) -> Tensor:
    """Counts ``[B, K]`` of the codes ``[B, T]`` that are not negative."""
    return (codes[..., None] == torch.arange(classes)).sum(dim=1)


def _widths(goal: Goal, stream: str) -> list[int]:
    """Channels of each feature map with its axes beside time laid into them."""
    grid = cast(Grid, goal.streams[stream])
    return [level.channels * math.prod(level.size(grid.size)[1:]) for level in goal.levels[stream]]


def _flat(level: Tensor) -> Tensor:
    """A map ``[B, C, T, ...]`` as ``[B, channels, T]``."""
    return level.movedim(2, -1).flatten(1, -2)


def _stretched(x: Tensor, factor: int, steps: int) -> Tensor:
    """``x`` ``[B, C, t]`` repeated ``factor`` times along time, cut to ``steps``."""
    return x.repeat_interleave(factor, dim=2)[:, :, :steps]


def _real_steps(part: Encoded, steps: int) -> Tensor:
    """Which of the ``steps`` of the finest map are real ``[B, steps]``, by the tokens of the stream."""
    rows = part.mask.shape[0]
    if part.grid and math.prod(part.grid) == part.mask.shape[1]:
        tokens = part.mask.reshape(rows, part.grid[0], -1).any(dim=2)
    else:
        tokens = part.mask
    place = torch.arange(steps, device=tokens.device) * tokens.shape[1] // max(steps, 1)
    return tokens[:, place] if tokens.shape[1] else tokens.new_zeros(rows, steps)


def _at_the_same_time(project: nn.Module, part: Encoded, real: Tensor) -> Tensor:
    """The projected map of another stream, read at the times of the steps ``real`` ``[B, T]`` of this one.

    Both are taken to begin and to end together.
    """
    own: Tensor = project(_flat(part.pyramid[0]))
    valid = _real_steps(part, own.shape[2])
    length, steps = valid.sum(dim=1, keepdim=True), real.sum(dim=1, keepdim=True).clamp(min=1)
    place = ((torch.arange(real.shape[1], device=real.device) + 0.5) * length / steps).long()
    place = place.minimum((length - 1).clamp(min=0)).clamp(min=0)
    moved = own.gather(2, place[:, None].expand(-1, own.shape[1], -1))
    return moved * part.present[:, None, None]


def _steps(output: Tensor, steps: int) -> Tensor:
    """``output`` ``[B, T, K]`` at the first ``steps``; the last step stands for those beyond."""
    if output.shape[1] >= steps:
        return output[:, :steps]
    return torch.cat([output, output[:, -1:].expand(-1, steps - output.shape[1], -1)], dim=1)


def _mask(field: Field | None, output: Tensor) -> Tensor:
    """Which steps of the input are real ``[B, T]``; where it is missing, those of the output."""
    if field is None or field.data.dim() < 3:
        return output.new_ones(output.shape[:2], dtype=torch.bool)
    whole = field.present[:, None].expand(-1, field.data.shape[2]) if field.mask is None else field.mask
    return whole & field.present[:, None]
