"""Labelling: a label for each step of a series or recording."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.answer import Answer
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid, Ids
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.label_scorer import LabelScorer, input_mask
from sensorium.heads.label_strips import label_strips, label_table
from sensorium.heads.marked_words import marked_views
from sensorium.metrics.segments import segments_of
from sensorium.nn.conv import clear
from sensorium.nn.linear_chain import LinearChain
from sensorium.nn.temporal_convolution import DilatedBlock
from sensorium.nn.time_maps import TimeMaps, at_same_time
from sensorium.nn.viterbi import order_and_lengths, transition_scores, viterbi
from sensorium.signal.label_places import time_frame, to_units

IGNORED = -100


@component
class Labelling(Task[Tensor]):
    """A label for each step of a series, recording or video, or each word of a text: an activity, a speaker, a name.

    Reads the feature maps of the input that the labels lie on (of texts and videos its tokens), and of every other stream
    along time, which is taken to cover the same time; the fused vector scales and shifts them (FiLM), so that words or
    table cells count too. Dilated convolutions look both ways; the answer is the most probable sequence (Viterbi), in which
    changing the label costs what the training rows say. Labels of words are a conditional random field: a word begins a
    span, continues one or lies outside, and the cost of each change is learnt with the network. Answers are spans
    ``[start, end, label]`` in steps of the series, seconds of the recording, characters of the text.

    Output: logits ``[B, T, K]`` by step of the input, of words ``[B, N, 2 K]`` by token. Target: class codes ``[B, T]``,
    -100 where unknown.
    Sources: Lea et al. 2017, https://arxiv.org/abs/1611.05267; FiLM, https://arxiv.org/abs/1709.07871; Lample et al. 2016,
    https://arxiv.org/abs/1603.01360.

    Args:
        hidden: Channels.
        depth: Blocks of dilated convolutions; each doubles how far a step sees.
        dropout: Share of channels dropped in training.
        causal: Whether a step sees only earlier ones, for answers while a recording goes on; the encoder has its own.
        switch: Weight of the transitions between labels in the answer; 0: each step for itself.
    """

    predicts: ClassVar[tuple[str, ...]] = ("labels",)
    base_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"text": {"lowercase": False}, "video": {"frames": 32}}
    headline: str = "segment_f1_50"  # type: ignore[misc]  # of words: span_f1
    baseline_name: ClassVar[str] = "always answering the most frequent label"
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
        if hidden < 1 or depth < 0 or switch < 0:
            raise ConfigError("labelling: hidden is 1 or more, depth and switch 0 or more")
        self.on, layout = _labelled_input(goal)
        self.words = isinstance(layout, Ids)
        self.headline = "span_f1" if self.words else "segment_f1_50"
        self.classes, self.switch = goal.modality.classes, switch
        self.background = 0 if getattr(goal.modality, "has_background", False) else None
        levels = goal.levels.get(self.on, ())
        self.maps = TimeMaps(layout, levels, dim, hidden, step=1)
        timed = {name: part for name, part in goal.streams.items() if isinstance(part, Grid) and part.timed}
        self.beside = () if self.words else tuple(name for name in timed if name != self.on)
        self.others = nn.ModuleList(
            TimeMaps(timed[name], goal.levels.get(name, ()), dim, hidden, step=1) for name in self.beside
        )
        self.steer = nn.Linear(dim, 2 * hidden)
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)
        self.blocks = nn.ModuleList(DilatedBlock(hidden, hidden, 3, 2**i, causal, dropout) for i in range(depth))
        count = len(self.classes)
        self.last = nn.Linear(hidden, 2 * count if self.words else count)
        self.chain = LinearChain(count, self.background) if self.words else None
        self.shares: Tensor
        self.order: Tensor
        self.lengths: Tensor
        self.register_buffer("shares", torch.full((count,), -math.log(max(count, 1))))
        self.register_buffer("order", torch.zeros(count, count))
        self.register_buffer("lengths", torch.ones(count))

    @property
    def pyramids(self) -> tuple[str, ...]:
        parts = zip((self.on, *self.beside), (self.maps, *self.others), strict=True)
        return tuple(name for name, maps in parts if cast(TimeMaps, maps).reads_maps)

    @property
    def prepared_streams(self) -> tuple[str, ...]:
        """The input whose tokens are labelled: its target lies on the places of these, which are not cached."""
        return () if self.maps.reads_maps else (self.on,)

    def fit(self, targets: Iterable[Field]) -> None:
        """Take the shares of the labels, which follows which and how long each lasts from ``targets``."""
        rows = [row for part in targets for row in stretches(part, self.background)]
        self.shares.copy_(_shares(rows, len(self.classes)))
        order, lengths = order_and_lengths(rows, len(self.classes))
        self.order.copy_(order)
        self.lengths.copy_(lengths)

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Tensor:
        x, real = self.maps(streams[self.on])
        for name, maps in zip(self.beside, self.others, strict=True):
            steps, valid = maps(streams[name])
            x = x + at_same_time(steps, valid, real)
        scale, shift = self.steer(fused.pooled)[:, None].chunk(2, dim=2)
        x = clear((x * (1 + scale) + shift).transpose(1, 2), real)
        for block in self.blocks:
            x = block(x, real)
        logits: Tensor = self.last(x.transpose(1, 2))
        if self.chain is not None:
            return self.chain.hidden(logits + self.shares.repeat(2), real)
        return (logits + self.shares).repeat_interleave(self.maps.stride, dim=1)

    def _chances(self, output: Tensor) -> Tensor:
        """The probability of each code at each step of ``output``."""
        return output.float().softmax(dim=2) if self.chain is None else self.chain.chances(output)

    def loss(self, output: Tensor, target: Field) -> Tensor:
        codes = target.data.long()
        if not self.maps.reads_maps and output.shape[1] not in (1, codes.shape[1]):
            raise ConfigError(
                f"task {self.goal.name!r}: the encoder of {self.on!r} gives {output.shape[1]} tokens, and {codes.shape[1]} "
                "words or frames have labels",
                fix=f"model.encoders.{self.on}={'transformer' if self.words else 'frames'}",
            )
        scores = _steps(output, codes.shape[1])
        if self.chain is not None:
            return self.chain.loss(scores, codes)
        losses = F.cross_entropy(scores.transpose(1, 2).float(), codes, ignore_index=IGNORED, reduction="none")
        return losses.sum(dim=1) / (codes != IGNORED).sum(dim=1).clamp(min=1)

    def decoded(self, output: Tensor, mask: Tensor, field: Field | None) -> Tensor:
        """Return the most probable sequences ``[B, T]`` of ``output`` at the steps of ``mask`` ``[B, T]``.

        ``field``: the prepared input; its frame says how many steps a second (or a step of the user's series) is.
        """
        scores = _steps(output.detach(), mask.shape[1]).float()
        if self.chain is not None:
            return self.chain.best(scores, self.switch, mask)
        pace = torch.ones(len(scores), 1, device=scores.device)
        frame = None if field is None else time_frame(field)
        if field is not None and frame is not None:
            pace = torch.where(field.present[:, None], frame[:, 0, :1].abs().to(pace), pace)
        return viterbi(scores.log_softmax(dim=2), self.switch * transition_scores(self.order, self.lengths * pace), mask)

    def answers(self, output: Tensor, batch: Batch) -> list[Answer]:
        field = batch.inputs.get(self.on)
        mask = input_mask(field, output)
        codes = self.decoded(output, mask, field)
        chances = _steps(self._chances(output.detach()), mask.shape[1]).gather(2, codes[..., None])[..., 0]
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
        place = None if field is None else field.map(lambda t: t.cpu())
        answers = []
        for i, row in enumerate(codes.tolist()):
            runs = segments_of(row[: lengths[i]], self.background, len(self.classes) if self.words else None)
            ends = torch.tensor([[run[:2] for run in runs]], dtype=torch.float32).reshape(1, -1, 2)
            ends = ends if place is None else to_units(place, i, ends)
            answers.append(
                [
                    [_rounded(max(start, 0.0), self.words), _rounded(end, self.words), self.classes[run[2]]]
                    for (start, end), run in zip(ends[0].tolist(), runs, strict=True)
                ]
            )
        return answers

    def scorer(self) -> Scorer[Tensor]:
        return LabelScorer(self)

    def explained(self, output: Tensor, of: Tensor) -> Tensor:
        """Return the mean probability of the labels answered in ``of``."""
        answered = of.argmax(dim=2, keepdim=True).expand(output.shape[0], -1, -1)
        return _steps(self._chances(output), of.shape[1]).gather(2, answered)[..., 0].mean(dim=1)

    def question(self, of: Tensor) -> list[str]:
        return ["mean probability of the labels"] * of.shape[0]

    def views(self, scorer: Scorer[Tensor]) -> list[View]:
        if not isinstance(scorer, LabelScorer) or scorer.rows == 0:
            return []
        kept = scorer.kept
        accuracy = np.asarray((kept["steps"][:, 0] / kept["steps"][:, 1].clamp(min=1)).double())
        counts = kept["classes"].sum(dim=0).numpy()
        table = label_table(self.classes, counts, "words" if self.words else "steps")
        if not self.words:
            return [table, label_strips(self.classes, kept["codes"], accuracy, self.background is not None)]
        (base,) = self.goal.bases.values()
        pieces = getattr(base, "pieces", None)
        return [table, *marked_views(self.classes, kept["codes"], kept["ids"], pieces, self.background, accuracy)]

    def baseline(self, targets: Iterable[Field]) -> list[float]:
        rows = [row for part in targets for row in stretches(part, self.background)]
        logs: list[float] = _shares(rows, len(self.classes)).tolist()
        if self.words and self.background is not None:
            logs[self.background] = max(0.0, *logs)  # words of no span, which most are, are not among the stretches
        return logs

    def constant(self, baseline: Sequence[float], rows: int) -> Tensor:
        logs = torch.tensor(baseline, dtype=torch.float32)
        return (logs.repeat(2) if self.words else logs).expand(rows, 1, -1)


def _labelled_input(goal: Goal) -> tuple[str, Grid | Ids]:
    """The input that the labels of ``goal`` lie on, with its layout; refused where they cannot."""
    (target,) = goal.targets
    if target not in goal.lies_on:
        raise ConfigError(
            "labels lie on a series, recording, video or text, and there is none",
            column=target,
            fix=f"columns.{target}.on=signal",
        )
    on = goal.lies_on[target]
    layout = goal.streams[on]
    if not isinstance(layout, (Grid, Ids)):
        raise ConfigError(f"labels lie on a series, recording, video or text, and {on!r} is none", column=target)
    if isinstance(layout, Ids) and bool(getattr(goal.bases.get(target), "stop", None)):
        raise ConfigError(
            "labels lie on all words of a text, and its stop words are removed",
            column=on,
            fix="leave out its options stop and leave_out",
        )
    if isinstance(layout, Grid) and len(layout.size) < 3 and not goal.levels.get(on):
        raise ConfigError(
            f"task {goal.name!r} reads feature maps of {on!r}, and its encoder has none", fix=f"model.encoders.{on}=tcn"
        )
    return on, layout


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


def _steps(output: Tensor, steps: int) -> Tensor:
    """``output`` ``[B, T, K]`` at the first ``steps``; the last step stands for those beyond."""
    if output.shape[1] >= steps:
        return output[:, :steps]
    return torch.cat([output, output[:, -1:].expand(-1, steps - output.shape[1], -1)], dim=1)


def _rounded(place: float, words: bool) -> float:
    return int(place) if words else round(place, 4)
