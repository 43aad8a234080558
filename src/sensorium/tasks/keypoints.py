"""Key points: named places on an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from sensorium.codecs.keypoints import usual_shapes
from sensorium.core.answer import Answer, Attachment
from sensorium.core.batch import Batch, Encoded, Field
from sensorium.core.errors import ConfigError, listed, nearest
from sensorium.core.goal import Goal
from sensorium.core.layout import Grid
from sensorium.core.places import Place, Point
from sensorium.core.registry import component
from sensorium.core.report_views import View
from sensorium.core.scorer import Scorer
from sensorium.core.task import Task
from sensorium.heads.keypoint_views import PointScorer, point_views, with_points
from sensorium.heads.keypoints import (
    PointReader,
    Poses,
    on_image,
    paired_columns,
    paired_shapes,
    swapped,
    to_shares,
    turn_spread,
)
from sensorium.heads.place_maps import place_maps
from sensorium.heads.segmentation_views import in_grey
from sensorium.nn.dense_decoder import DenseDecoder
from sensorium.nn.soft_argmax import axis_loss, bell, cell_centres, near, place_loss, soft_argmax
from sensorium.signal.geometry import inside, inverse, points

BINS = 64
"""Bins of x and of y for rows without an image."""
BLUR = 2.0
"""Standard deviation in bins of the wanted probabilities around a coordinate."""
MARGIN = 0.1
"""How far the bins reach beyond the training points, as a share of their range."""
REACH = 2
"""Cells around the most probable one of which an answer is the mean."""
TURNED = 60.0
"""Circular deviation of the training shapes in degrees from which images are turned all the way in training."""
LARGEST = 160
"""Longest side of images, where the user says none: places need more pixels than classes do."""


@component
class Keypoints(Task[Poses]):
    """Named places on an image: joints of a body, landmarks of a face, parts of an animal.

    Heat maps are decoded from the feature maps of the image's encoder, from coarse to fine, steered by the fused vector of
    the row; a place is the mean of the most probable cells. Rows without an image are answered from the other streams: the
    fused vector gives probabilities of x and of y. The target is one column of points, or columns of coordinates such as
    ``nose_x, nose_y, tail_x, tail_y`` (``--target "nose_*,tail_*"``), perhaps with ``nose_visible``.
    Sources: integral regression, https://arxiv.org/abs/1711.08229; U-Net, https://arxiv.org/abs/1505.04597; FiLM,
    https://arxiv.org/abs/1709.07871; coordinates as classes, https://arxiv.org/abs/2107.03332.

    Args:
        hidden: Channels of the decoder at the finest scale; coarser scales have twice as many, if their map does.
        spread: Standard deviation of the wanted heat around a point, in cells of the finest map.
        pull: Weight of the distance of the mean of the heat from the point, in cells, relative to the cross-entropy over
            cells.
        dropout: Share of feature maps dropped at the coarsest scale in training, and of features of rows without an image.
        flip_pairs: By point, the one it becomes in a mirror image, as in ``{left_ear: right_ear}``; None: those whose
            names differ only in left and right.
        within: Distance in pixels up to which a point counts as found (PCK); None: a 64th of the image's longer side.
        focus: The point that an explanation is about; None: all.
        overlay: Whether an answer also has the image with the points drawn on it, at the size at which it was read.
    """

    predicts: ClassVar[tuple[str, ...]] = ("keypoints", "number")
    reads_as: ClassVar[str | None] = "keypoints"
    gathers: ClassVar[str | None] = "number"
    lies_on: ClassVar[tuple[str, ...]] = ("image",)
    target_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"number": {"scale": "standard"}}
    base_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"image": {"limit": LARGEST}}
    headline: ClassVar[str] = "mean_error"
    higher_is_better: ClassVar[bool] = False
    baseline_name: ClassVar[str] = "always answering the mean shape of the training rows"
    mergeable: ClassVar[bool] = False
    fine: ClassVar[bool] = True

    def __init__(
        self,
        goal: Goal,
        dim: int,
        *,
        hidden: int = 32,
        spread: float = 1.0,
        pull: float = 1.0,
        dropout: float = 0.1,
        flip_pairs: dict[str, str] | None = None,
        within: float | None = None,
        focus: str | None = None,
        overlay: bool = False,
    ) -> None:
        super().__init__(goal, dim)
        if hidden < 1 or spread <= 0 or pull < 0 or (within is not None and within <= 0):
            raise ConfigError("keypoints: hidden is at least 1, spread and within are above 0, and pull is not below 0")
        self.spread, self.pull, self.within, self.overlay = spread, pull, within, overlay
        first = next(iter(goal.targets))
        self.paired = [] if hasattr(goal.targets[first], "names") else paired_columns(list(goal.targets))
        self.names = [p.name for p in self.paired] if self.paired else cast(PointReader, goal.modality).names
        self.order = swapped(self.names, flip_pairs)
        if focus is not None and focus not in self.names:
            known = f"{nearest(focus, self.names)}; there are: {listed(self.names)}"
            raise ConfigError(f"keypoints: no point named {focus!r}{known}", column=first)
        self.focus = None if focus is None else self.names.index(focus)
        bases = set(goal.lies_on.values())
        if len(bases) > 1:
            raise ConfigError(f"the points of one target lie on one image, not on {listed(sorted(bases))}", column=first)
        self.on = next(iter(bases), None)
        self.size: tuple[int, int] | None = None
        count = len(self.names)
        self.has_levels = False
        if self.on is not None:
            grid = goal.streams[self.on]
            if not isinstance(grid, Grid) or len(grid.size) != 2:
                raise ConfigError(f"key points lie on an image, and {self.on!r} is {grid}", column=first)
            self.size = (grid.size[0], grid.size[1])
            levels = goal.levels.get(self.on, ())
            self.has_levels = bool(levels)
            self.decoder = DenseDecoder([level.channels for level in levels] or [dim], dim, hidden, dropout)
            self.last = nn.Conv2d(self.decoder.widths[0], count, 1)
            nn.init.normal_(self.last.weight, std=0.01)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.blind = nn.Sequential(nn.Linear(dim, 4 * hidden), nn.GELU(), nn.Dropout(dropout))
        self.axes = nn.Linear(4 * hidden, count * 2 * BINS)
        nn.init.normal_(self.axes.weight, std=0.01)
        nn.init.zeros_(self.axes.bias)
        self.low: Tensor
        self.high: Tensor
        self.shares: Tensor
        self.register_buffer("low", torch.zeros(2))
        self.register_buffer("high", torch.ones(2))
        self.register_buffer("shares", torch.tensor(False))

    @classmethod
    def base_options(cls, base: str, cells: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], str]:
        if base != "image":
            return {}, ""
        shapes = usual_shapes(next(iter(cells.values()))) if len(cells) == 1 else paired_shapes(cells)
        spread = turn_spread(shapes)
        if spread is None or spread < TURNED:
            return {}, ""
        return {
            "rotate": 180.0
        }, f"turned all the way in training: the direction of the points varies by {spread:.0f} degrees"

    @property
    def pyramids(self) -> tuple[str, ...]:
        return (self.on,) if self.on is not None and self.has_levels else ()

    @property
    def prepared_streams(self) -> tuple[str, ...]:
        return () if self.on is None else (self.on,)

    @property
    def relative(self) -> bool:
        """Whether coordinates are shares of the width and the height of the image."""
        return bool(self.shares) if self.paired else cast(PointReader, self.goal.modality).relative

    @property
    def answer_columns(self) -> Mapping[str, tuple[str, ...]]:
        return {f"{name}_{what}": ("value", name, what) for name in self.names for what in ("x", "y", "confidence")}

    # ── targets ────────────────────────────────────────────────────────────────────────────────────────────────────

    def target(self, batch: Batch) -> Field | None:
        """Return the points ``[B, K, 6]``: x, y and visibility on the prepared image, in shares of its sides, and in the
        user's units. A row without a labelled point has no target."""
        if any(name not in batch.targets for name in self.goal.targets):
            return None
        own = self._stored(batch)
        field = batch.inputs.get(self.on or "")
        frames = to_shares(field, self.size, own, relative=self.relative)
        placed = on_image(own, frames, self.order)
        visible = inside(placed[..., :2], placed.new_ones(2)) & (placed[..., 2] > 0)
        if field is None or field.frame is None:
            visible = torch.zeros_like(visible)
        placed = torch.cat([placed[..., :2], (placed[..., 2] * visible)[..., None]], dim=2)
        labelled = (own[..., 2] > 0).any(dim=1)
        return Field(torch.cat([placed, own], dim=2), labelled)

    def _stored(self, batch: Batch) -> Tensor:
        """The points in the user's units ``[B, K, 3]``; zero where a row has none."""
        if not self.paired:
            field = batch.targets[next(iter(self.goal.targets))]
            return field.data.float().nan_to_num(0.0) * field.present[:, None, None]
        read = {name: self._number(name, batch.targets[name]) for name in self.goal.targets}
        stacked = []
        for point in self.paired:
            (x, has_x), (y, has_y) = read[point.x], read[point.y]
            known = has_x & has_y
            if point.visible is None:
                seen = 2.0 * known.float()
            else:
                number, has = read[point.visible]
                seen = number * (known & has)
            stacked.append(torch.stack([x, y, seen], dim=1) * (seen > 0)[:, None])
        return torch.stack(stacked, dim=1)

    def _number(self, name: str, field: Field) -> tuple[Tensor, Tensor]:
        """The numbers of a column as the user wrote them ``[B]``, and where there are any."""
        decode = self.goal.targets[name].decode
        stored = field.data[:, 0].detach().float().nan_to_num(0.0).cpu().numpy()
        values = [float(decode(np.array([value]))) for value in stored]
        return torch.tensor(values, device=field.data.device), field.present

    def fit(self, targets: Iterable[Field]) -> None:
        """Take the range of the training points and how often each lies where in it, for rows without an image."""
        parts = [part.data[part.present] for part in targets]
        known = torch.cat(parts).float().cpu() if parts else torch.zeros(0, len(self.names), 6)
        places = known[..., 3:5][known[..., 5] > 0]
        if not len(places):
            return
        low, high = places.amin(dim=0), places.amax(dim=0)
        if self.paired and float(low.min()) >= 0 and float(high.max()) <= 1:
            self.shares.fill_(True)
        room = MARGIN * (high - low).clamp(min=1e-3)
        self.low.copy_(low - room)
        self.high.copy_(high + room)
        with torch.no_grad():
            self.axes.bias.copy_(self._usual(known).flatten())

    def _usual(self, known: Tensor) -> Tensor:
        """Log-probabilities of the bins of each point over all rows ``[K, 2, BINS]``."""
        low, high = self.low.cpu(), self.high.cpu()
        heat = bell((known[..., 3:5] - low) / (high - low), BINS, BLUR) * (known[..., 5] > 0)[..., None, None]
        whole = heat.sum(dim=0) + 1 / BINS
        return (whole / whole.sum(dim=2, keepdim=True)).log()

    # ── model ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, fused: Encoded, streams: Mapping[str, Encoded], prompts: Mapping[str, Field]) -> Poses:
        rows = len(fused.pooled)
        axes = self.axes(self.blind(fused.pooled)).reshape(rows, len(self.names), 2, BINS)
        if self.on is None:
            maps, seen = axes.new_zeros(rows, len(self.names), 1, 1), axes.new_zeros(rows, dtype=torch.bool)
            return Poses(maps, axes, seen, to_shares(None, None, axes, relative=False))
        part, field = streams[self.on], prompts.get(self.on)
        maps = self.last(self.decoder(place_maps(part, self.has_levels, self.goal.name, self.on), fused.pooled))
        frame = to_shares(field, self.size, axes, relative=self.relative)
        return Poses(maps, axes, part.present, frame)

    def loss(self, output: Poses, target: Field) -> Tensor:
        data = torch.where(target.present[:, None, None], target.data.float().nan_to_num(0.0), 0.0)
        placed, own = data[..., :3], data[..., 3:]
        mean, _ = soft_argmax(output.maps)
        cells = mean.new_tensor([output.maps.shape[3], output.maps.shape[2]])
        apart = ((mean - placed[..., :2]) * cells).abs().sum(dim=2)
        on = place_loss(output.maps, placed[..., :2].clamp(0, 1), self.spread) + self.pull * apart
        off = axis_loss(output.axes, self._binned(own[..., :2]), BLUR)
        return torch.where(output.seen, _labelled_mean(on, placed[..., 2]), _labelled_mean(off, own[..., 2]))

    def _binned(self, places: Tensor) -> Tensor:
        """Places of the user as shares of the range of the training points."""
        return ((places - self.low) / (self.high - self.low)).clamp(0, 1)

    # ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, output: Poses) -> tuple[Tensor, Tensor]:
        """Return the places in the user's units ``[B, K, 2]`` that ``output`` gives, and the probability that they rest on
        ``[B, K]``."""
        shares, sure = soft_argmax(output.maps.detach(), REACH)
        on = points(inverse(output.frame.float()), shares)
        # Without an image places are uncertain, and the mean is nearer to them on average than the most probable bin.
        chances = output.axes.detach().float().softmax(dim=3)
        off = (chances * cell_centres(BINS, 1.0, chances)).sum(dim=3) * (self.high - self.low) + self.low
        seen = output.seen[:, None]
        return torch.where(seen[..., None], on, off), torch.where(seen, sure, self._around(output.axes.detach(), off))

    def _around(self, axes: Tensor, places: Tensor) -> Tensor:
        """The probability ``[B, K]`` that ``axes`` gives the bins around places in the user's units ``[B, K, 2]``."""
        bins = (self._binned(places) * BINS).long().clamp(max=BINS - 1)
        close = (torch.arange(BINS, device=bins.device) - bins[..., None]).abs() <= REACH
        return (axes.float().softmax(dim=3) * close).sum(dim=3).prod(dim=2)

    def scorer(self) -> Scorer[Poses]:
        return PointScorer(self, self.answered, self.in_pixels, self.names, self.within, self.on)

    def in_pixels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the pixels per unit of the user along x and y ``[B, 2]`` in ``batch``, and the longer sides of its images
        ``[B]``.

        Without any image a unit counts as a pixel, and the range of the training points as the image.
        """
        field = batch.inputs.get(self.on or "")
        if field is None or field.extent is None:
            longer = (self.high - self.low).max().expand(batch.rows)
            return longer.new_ones(batch.rows, 2), longer
        extent = field.extent.float()
        return extent if self.relative else torch.ones_like(extent), extent.amax(dim=1)

    def answers(self, output: Poses, batch: Batch) -> list[Answer]:
        places, sure = (part.cpu() for part in self.answered(output))
        field = batch.inputs.get(self.on or "")
        answers: list[Answer] = []
        for i in range(len(places)):
            value = {
                name: {"x": float(f"{x:.6g}"), "y": float(f"{y:.6g}"), "confidence": chance}
                for name, (x, y), chance in zip(self.names, places[i].tolist(), sure[i].tolist(), strict=True)
            }
            answer: Answer = {"value": value, "confidence": float(sure[i].mean())}
            if self.overlay and field is not None and self.size is not None and bool(output.seen[i]):
                on = points(output.frame[i : i + 1].float().cpu(), places[i : i + 1])[0]
                drawn = with_points(in_grey(field.data[i]), on.numpy() * np.array(self.size[::-1]))
                answer["overlay"] = Attachment(drawn, "image", note="overlay")
            answers.append(answer)
        return answers

    @property
    def drawn_on(self) -> str | None:
        return self.on

    @property
    def place_names(self) -> Mapping[str, tuple[str, ...]]:
        return {self.goal.name: tuple(self.names)}

    def places(self, answer: Answer, size: tuple[int, int]) -> list[Place]:
        wide, high = size if self.relative else (1, 1)
        named = [Point(name, at["x"] * wide, at["y"] * high, at["confidence"]) for name, at in answer["value"].items()]
        return [Place(self.goal.name, answer["confidence"], points=named)]

    def truths(self, batch: Batch) -> list[Any]:
        field = self.target(batch)
        if field is None:
            return [None] * batch.rows
        return [
            {
                name: {"x": x, "y": y, "visible": seen} if seen > 0 else None
                for name, (x, y, seen) in zip(self.names, own, strict=True)
            }
            if present
            else None
            for own, present in zip(field.data[..., 3:].tolist(), field.present.tolist(), strict=True)
        ]

    # ── explanation and reporting ──────────────────────────────────────────────────────────────────────────────────────

    def explained(self, output: Poses, of: Poses) -> Tensor:
        """Return the probability that ``output`` gives the places answered in ``of``, the mean over the points in focus."""
        of, rows = self._focused(of), len(output.axes)
        places = self.answered(of)[0].expand(rows, -1, -1)
        high, wide = output.maps.shape[2:]
        chosen = (~of.axes.isnan().flatten(2).any(dim=2)).expand(rows, -1)  # [B, K]
        best = of.maps.nan_to_num(0.0).flatten(2).argmax(dim=2).expand(rows, -1)
        heat = output.maps.float().flatten(2).softmax(dim=2).reshape(output.maps.shape)
        on = (heat * near(best, (high, wide), REACH)).sum(dim=(2, 3))
        chances = torch.where(output.seen[:, None], on, self._around(output.axes, places))
        return torch.where(chosen, chances, 0.0).sum(dim=1) / chosen.sum(dim=1)

    def _focused(self, of: Poses) -> Poses:
        return of if self.focus is None or bool(of.axes.isnan().any()) else self.about(of, self.focus + 1)

    def subjects(self, of: Poses) -> list[str]:
        (sure,) = self.answered(of)[1][:1].tolist()
        return [f"{name}, confidence {chance:.2f}" for name, chance in zip(self.names, sure, strict=True)]

    def about(self, of: Poses, number: int) -> Poses:
        others = torch.arange(len(self.names), device=of.axes.device)[None, :, None, None] != number - 1
        return replace(of, maps=of.maps.masked_fill(others, torch.nan), axes=of.axes.masked_fill(others, torch.nan))

    def question(self, of: Poses) -> list[str]:
        known = (~self._focused(of).axes[0].isnan().flatten(1).any(dim=1)).nonzero()[:, 0].tolist()
        what = f"the place of {self.names[known[0]]}" if len(known) == 1 else "the places of the points"
        return [f"probability of {what}"] * len(of.axes)

    def views(self, scorer: Scorer[Poses]) -> list[View]:
        return point_views(scorer) if isinstance(scorer, PointScorer) and scorer.rows else []

    def baseline(self, targets: Iterable[Field]) -> list[list[float]]:
        """Return the mean place of each point over ``targets``, in the user's units."""
        parts = [part.data[part.present] for part in targets]
        known = torch.cat(parts).double().cpu() if parts else torch.zeros(0, len(self.names), 6, dtype=torch.float64)
        seen, middle = (known[..., 5:] > 0).double(), (self.low + self.high).double().cpu() / 2
        total = seen.sum(dim=0)
        mean = torch.where(total > 0, (known[..., 3:5] * seen).sum(dim=0) / total.clamp(min=1), middle)
        rounded: list[list[float]] = mean.float().double().tolist()
        return rounded

    def constant(self, baseline: list[list[float]], rows: int) -> Poses:
        places = self._binned(torch.tensor(baseline, device=self.low.device).float())
        axes = bell(places, BINS, 1.0).clamp_min(1e-30).log().expand(rows, -1, -1, -1)
        nothing, maps = axes.new_zeros(rows, dtype=torch.bool), axes.new_zeros(rows, len(self.names), 1, 1)
        return Poses(maps, axes, nothing, to_shares(None, None, axes, relative=False))


def _labelled_mean(each: Tensor, visible: Tensor) -> Tensor:
    """The mean ``[B]`` of ``each`` ``[B, K]`` over the labelled points; 0 where there is none."""
    known = visible > 0
    return (each * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
